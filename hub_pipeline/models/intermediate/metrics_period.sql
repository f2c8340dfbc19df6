/*---
description: >
  The period of the waterfall and the rates: metrics.period_start to metrics.period_end, both inclusive, else the
  calendar month of as_of. What it opens with holds at the close of the day before; it closes at the end of its last
  day, or at the close of as_of while it is still running.
grain: [starts_on]
columns:
  starts_on: {type: DATE, meaning: "first day", not_null: true}
  ends_on: {type: DATE, meaning: "last day, inclusive", not_null: true}
  opening_on: {type: DATE, meaning: "day whose close it opens with", not_null: true}
  closing_on: {type: DATE, meaning: "day whose close it ends with: its last day, or as_of if that is earlier", not_null: true}
---*/
WITH period AS (
    SELECT
        coalesce(CAST($metrics_period_start AS DATE), CAST(date_trunc('month', CAST($as_of AS DATE)) AS DATE)) AS starts_on,
        coalesce(CAST($metrics_period_end AS DATE), last_day(CAST($as_of AS DATE))) AS ends_on
)
SELECT
    starts_on,
    ends_on,
    starts_on - 1 AS opening_on,
    least(ends_on, CAST($as_of AS DATE)) AS closing_on
FROM period
