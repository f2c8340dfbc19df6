/*---
description: >
  Exchange rates from the fx_rates files of the billing folder, one row for each version of a rate. A rate is dated by
  the start of its first day, so a file with old rates makes them known for the old days; a corrected rate is known
  from its correction on. Where two billing systems give the same rate at the same instant the lower one is taken. A
  rate that a later file marks as deleted stays.
grain: [currency, valid_from, recorded_at]
checks:
  - name: told_by_billing
    description: The instant at which a rate became known is always told.
    sql: SELECT currency, valid_from, recorded_at FROM inputs.fx_rates WHERE recorded_at IS NULL
---*/
SELECT
  currency,
  CAST(min(rate) AS DECIMAL(30,18)) AS rate,
  valid_from,
  _recorded_at AS recorded_at
FROM raw_billing.fx_rates_versions
WHERE _deleted_at IS NULL
GROUP BY currency, valid_from, _recorded_at
