/*---
description: >
  What the HubSpot record of each organisation says it pays, made of the properties that the settings map, with their
  history; also where billing covers the organisation and is believed instead.
grain: [org_id, effective_at, recorded_at]
---*/
SELECT
    t.org_id,
    t.seats,
    t.amount,
    t.billing_interval,
    t.currency,
    t.status,
    t.effective_at,
    t.cancel_at,
    t.ended_at,
    t.recorded_at
FROM raw_hubspot.organisations_timeline AS t
