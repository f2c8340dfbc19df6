/*---
description: >
  What the CRM's own record of an organisation says it pays, one row for each change; values hold until the next one.
  Recorded_at is the input's; where that is empty it is effective_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [org_id, effective_at, recorded_at]
columns:
  org_id: {type: VARCHAR, meaning: "organisation", not_null: true}
  seats: {type: BIGINT, meaning: "seats it says; empty = it says none"}
  amount: {type: "DECIMAL(18,4)", meaning: "recurring amount it says for one interval, its own currency; empty = it says none"}
  billing_interval: {type: VARCHAR, meaning: "month, quarter, year, two_years or week; month where none is told", not_null: true}
  currency: {type: VARCHAR, meaning: "ISO 4217, upper case; reporting currency when the input has none", not_null: true}
  status: {type: VARCHAR, meaning: "as in staging.subscription_versions; only active and past_due say that it pays", not_null: true, accepted: [trialing, active, past_due, unpaid, paused, incomplete, canceled]}
  effective_at: {type: TIMESTAMP, meaning: "instant from which it says so", not_null: true}
  cancel_at: {type: TIMESTAMP, meaning: "exclusive end it names"}
  ended_at: {type: TIMESTAMP, meaning: "exclusive end that has happened"}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        org_id,
        seats,
        amount,
        coalesce(lower(nullif(trim(billing_interval), '')), 'month') AS billing_interval,
        coalesce(upper(nullif(trim(currency), '')), $reporting_currency) AS currency,
        lower(trim(status)) AS status,
        effective_at,
        cancel_at,
        ended_at,
        coalesce(recorded_at, effective_at, TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.crm_subscriptions
)
SELECT
    org_id,
    seats,
    amount,
    billing_interval,
    currency,
    status,
    effective_at,
    cancel_at,
    ended_at,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY org_id, effective_at, recorded_at
        ORDER BY
            seats DESC,
            amount DESC,
            billing_interval DESC,
            currency DESC,
            status DESC,
            cancel_at DESC,
            ended_at DESC
    ) = 1
