/*---
description: >
  Hierarchy from the parent property of the HubSpot organisation: each value it was set to, with its own time; no value
  means no parent from then on. Without history the parent that the first version shows is taken as valid since ever
  (valid_from NULL), and a later change starts when HubSpot's record was changed.
grain: [org_id, valid_from, recorded_at]
---*/
SELECT
    h.id AS org_id,
    NULLIF(max(h.value), '') AS parent_org_id,
    CASE WHEN NOT h.is_since_creation THEN h.effective_at END AS valid_from,
    CAST(NULL AS TIMESTAMP) AS valid_to,
    h.recorded_at
FROM raw_hubspot.organisations_changes AS h
WHERE h.column_name = 'parent_org_id'
GROUP BY h.id, h.effective_at, h.is_since_creation, h.recorded_at
