/*---
description: >
  Custom plans that are invoiced outside the billing system and known only from the HubSpot organisation. With an amount
  (monthly recurring, reporting currency) the contract is a running paid plan; without one it only says that there is a
  contract (settled 16).
grain: [org_id, kind, valid_from, recorded_at]
---*/
SELECT
    o.id AS org_id,
    o.contract_kind AS kind,
    o.contract_from AS valid_from,
    o.contract_to AS valid_to,
    o.contract_seats AS seats,
    CAST(o.contract_amount AS DECIMAL(18,4)) AS amount,
    'month' AS billing_interval,
    CAST($reporting_currency AS VARCHAR) AS currency,
    o.contract_to AS term_end,
    min(o._recorded_at) AS recorded_at
FROM raw_hubspot.organisations_mapped AS o
WHERE o.contract_kind IS NOT NULL
GROUP BY o.id, o.contract_kind, o.contract_from, o.contract_to, o.contract_seats, o.contract_amount
