/*---
description: >
  Lifecycle stage and lead status of a contact, one row for each change of either, from HubSpot's property history.
  The property that did not change carries its value forward. A change that became known after a later one tells what
  came after it again.
grain: [contact_id, set_at, recorded_at]
---*/
SELECT
    t.id AS contact_id,
    NULLIF(t.lifecycle_stage, '') AS lifecycle_stage,
    NULLIF(t.lead_status, '') AS lead_status,
    t.effective_at AS set_at,
    t.recorded_at
FROM raw_hubspot.contacts_timeline AS t
