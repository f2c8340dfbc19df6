/*---
description: >
  Exchange rates to the reporting currency.
  Recorded_at is the input's; where that is empty it is local 00:00 of valid_from, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [currency, valid_from, recorded_at]
columns:
  currency: {type: VARCHAR, meaning: "ISO 4217, upper case", not_null: true}
  rate: {type: "DECIMAL(30,18)", meaning: "one unit of currency in the reporting currency", not_null: true}
  valid_from: {type: DATE, meaning: "first day of the rate", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        upper(trim(currency)) AS currency,
        rate,
        valid_from,
        coalesce(recorded_at, start_of(valid_from, $reporting_tz), TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.fx_rates
)
SELECT
    currency,
    rate,
    valid_from,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY currency, valid_from, recorded_at
        ORDER BY
            rate DESC
    ) = 1
