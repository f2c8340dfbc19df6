/*---
description: >
  Every value that the close date of a deal ever had, from HubSpot's property history. Without history only the changes
  that were seen from one reading to the next are known.
grain: [deal_id, set_at, recorded_at]
---*/
SELECT
    h.id AS deal_id,
    CAST(local_date(max(h.instant), $reporting_tz) AS DATE) AS close_date,
    h.effective_at AS set_at,
    h.recorded_at
FROM raw_hubspot.deals_changes AS h
WHERE h.column_name = 'close_date' AND NOT h.is_since_creation
GROUP BY h.id, h.effective_at, h.recorded_at
