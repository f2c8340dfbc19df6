/*---
description: >
  Every stage a deal was ever in, from HubSpot's property history.
grain: [deal_id, set_at]
---*/
SELECT
    h.id AS deal_id,
    NULLIF(max(h.value), '') AS stage,
    h.changed_at AS set_at,
    min(h._recorded_at) AS recorded_at
FROM raw_hubspot.property_history AS h
WHERE h.object = 'deals' AND h.property = 'dealstage'
GROUP BY h.id, h.changed_at
