/*---
description: >
  What the renewals of the coming twelve months are expected to bring, as of the latest day.
grain: [period_start]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  period_start: {type: DATE, meaning: "first day", not_null: true}
  period_end: {type: DATE, meaning: "last day, inclusive", not_null: true}
  contracts: {type: BIGINT, meaning: "contracts in scope to be renewed in the period", not_null: true}
  without_probability: {type: BIGINT, meaning: "of these, contracts whose probability is not known", not_null: true}
  renewals_due_mrr: {type: "DECIMAL(18,2)", meaning: "their MRR", not_null: true}
  renewed_mrr: {type: "DECIMAL(18,2)", meaning: "MRR of those that are already renewed", not_null: true}
  renewal_forecast_mrr: {type: "DECIMAL(18,2)", meaning: "expected MRR", not_null: true}
  upsell_forecast_mrr: {type: "DECIMAL(18,2)", meaning: "expected MRR above today's", not_null: true}
order_by: [period_start]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    m.as_of,
    m.period_start,
    m.period_end,
    m.contracts,
    m.without_probability,
    m.renewals_due_mrr,
    m.renewed_mrr,
    m.renewal_forecast_mrr,
    m.upsell_forecast_mrr
FROM marts.renewal_forecast AS m
INNER JOIN latest AS l ON l.as_of = m.as_of AND l.as_of = m.known_at
