/*---
description: >
  Success plans have no standard place in HubSpot, so no source fills this table yet; a team brings it as a canonical
  file.
grain: [org_id, updated_at, recorded_at]
---*/
SELECT
    CAST(NULL AS VARCHAR) AS org_id,
    CAST(NULL AS VARCHAR) AS status,
    CAST(NULL AS VARCHAR) AS objectives,
    CAST(NULL AS TIMESTAMP) AS updated_at,
    CAST(NULL AS TIMESTAMP) AS recorded_at
WHERE false
