/*---
description: >
  Every value that the close date of a deal ever had, from HubSpot's property history.
grain: [deal_id, set_at]
---*/
SELECT
    h.id AS deal_id,
    CAST(local_date(TRY_CAST(NULLIF(max(h.value), '') AS TIMESTAMPTZ) AT TIME ZONE 'UTC', $reporting_tz) AS DATE) AS close_date,
    h.changed_at AS set_at,
    min(h._recorded_at) AS recorded_at
FROM raw_hubspot.property_history AS h
WHERE h.object = 'deals' AND h.property = 'closedate'
GROUP BY h.id, h.changed_at
