/*---
description: >
  Lifecycle stage and lead status of a contact, one row for each change of either, from HubSpot's property history.
  The property that did not change carries its value forward.
grain: [contact_id, set_at]
---*/
WITH changes AS (
    SELECT
        h.id AS contact_id,
        h.changed_at AS set_at,
        max(h.value) FILTER (WHERE h.property = 'lifecyclestage') AS lifecycle_stage,
        max(h.value) FILTER (WHERE h.property = 'hs_lead_status') AS lead_status,
        min(h._recorded_at) AS recorded_at
    FROM raw_hubspot.property_history AS h
    WHERE h.object = 'contacts' AND h.property IN ('lifecyclestage', 'hs_lead_status')
    GROUP BY h.id, h.changed_at
)
SELECT
    contact_id,
    NULLIF(last_value(lifecycle_stage IGNORE NULLS) OVER history, '') AS lifecycle_stage,
    NULLIF(last_value(lead_status IGNORE NULLS) OVER history, '') AS lead_status,
    set_at,
    recorded_at
FROM changes
WINDOW history AS (PARTITION BY contact_id ORDER BY set_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
