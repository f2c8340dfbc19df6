/*---
description: >
  Seats of accounts by the month of their first paid seat, month by month, as of the latest day.
grain: [cohort, month_number]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  cohort: {type: DATE, meaning: "first day of the month of the first paid seat", not_null: true}
  month_number: {type: INTEGER, meaning: "months since; 0 = the month itself", not_null: true}
  month_end: {type: DATE, meaning: "last day of that month", not_null: true}
  accounts: {type: BIGINT, meaning: "accounts of the cohort", not_null: true}
  seats: {type: BIGINT, meaning: "their seats at the close of month_end", not_null: true}
  retention: {type: "DECIMAL(18,4)", meaning: "seats / seats of month 0; empty when those are 0"}
order_by: [cohort, month_number]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    m.as_of,
    m.cohort,
    m.month_number,
    m.month_end,
    m.accounts,
    m.seats,
    m.retention
FROM marts.seat_cohorts AS m
INNER JOIN latest AS l ON l.as_of = m.as_of AND l.as_of = m.known_at
