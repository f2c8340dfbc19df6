/*---
description: >
  Hierarchy from the parent property of the HubSpot organisation. The parent of the first version is taken as valid since
  ever (valid_from NULL); a later change of parent ends the old one and starts the new one when HubSpot was changed.
grain: [org_id, parent_org_id, valid_from, recorded_at]
---*/
WITH versions AS (
    SELECT
        o.id AS org_id,
        o.parent_org_id,
        o._changed_at AS changed_at,
        o._recorded_at AS recorded_at,
        lag(o.id) OVER history IS NULL AS is_first,
        lag(o.parent_org_id) OVER history IS NOT DISTINCT FROM o.parent_org_id AS is_unchanged
    FROM raw_hubspot.organisations_mapped AS o
    WINDOW history AS (PARTITION BY o.id ORDER BY o._recorded_at)
), runs AS (
    SELECT
        org_id,
        parent_org_id,
        CASE WHEN NOT is_first THEN changed_at END AS valid_from,
        recorded_at,
        lead(changed_at) OVER history AS next_change,
        lead(recorded_at) OVER history AS next_recorded
    FROM versions
    WHERE is_first OR NOT is_unchanged
    WINDOW history AS (PARTITION BY org_id ORDER BY recorded_at)
)
SELECT org_id, parent_org_id, valid_from, CAST(NULL AS TIMESTAMP) AS valid_to, recorded_at
FROM runs
WHERE parent_org_id IS NOT NULL
UNION ALL
SELECT org_id, parent_org_id, valid_from, next_change AS valid_to, next_recorded AS recorded_at
FROM runs
WHERE parent_org_id IS NOT NULL AND next_recorded IS NOT NULL
