/*---
description: >
  Exchange rates to the reporting currency as intervals of days: a rate holds from valid_from on until the next one of
  its currency. Of several for one day the one recorded last before the close of known_at holds.
grain: [currency, from_on]
columns:
  currency: {type: VARCHAR, meaning: "native currency", not_null: true}
  from_on: {type: DATE, meaning: "first day of the rate", not_null: true}
  to_on: {type: DATE, meaning: "first day of the next rate; empty = the last one known"}
  rate: {type: "DECIMAL(30,18)", meaning: "units of the reporting currency for one unit", not_null: true}
---*/
WITH known AS (
    SELECT currency, valid_from, CAST(rate AS DECIMAL(30, 18)) AS rate
    FROM staging.fx_rates
    WHERE recorded_at < $close_known_at AND currency <> $reporting_currency
    QUALIFY
        row_number() OVER (PARTITION BY currency, valid_from ORDER BY recorded_at DESC) = 1
)
SELECT
    currency,
    valid_from AS from_on,
    lead(valid_from) OVER (PARTITION BY currency ORDER BY valid_from) AS to_on,
    rate
FROM known
