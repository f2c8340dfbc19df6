/*---
description: >
  Versions of HubSpot contacts. A contact that was archived, deleted or merged away is deleted from that version on.
grain: [contact_id, recorded_at]
---*/
SELECT
    c.id AS contact_id,
    lower(c.email) AS email,
    NULLIF(trim(concat_ws(' ', c.first_name, c.last_name)), '') AS name,
    c.lifecycle_stage,
    c.lead_status,
    c.source,
    c.owner_id,
    coalesce(c.is_champion, false) AS is_champion,
    c.left_at,
    c.created_at,
    c._archived_at IS NOT NULL OR c._deleted_at IS NOT NULL OR c._merged_into IS NOT NULL AS is_deleted,
    c._recorded_at AS recorded_at
FROM raw_hubspot.contacts_mapped AS c
