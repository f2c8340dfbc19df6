/*---
description: >
  Seat retention by cohort: accounts by the month of their first paid seat (the first close with a running paid plan
  and seats above 0), their seats at the end of each later month up to as_of, against those at the end of month 0.
  Only months that have ended by the close of as_of. An account is a root organisation at the close of as_of. Seats are
  those of running subscriptions; unknown seats count as 0.
grain: [as_of, known_at, cohort, month_number]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  cohort: {type: DATE, meaning: "first day of the month of the first paid seat", not_null: true}
  month_number: {type: INTEGER, meaning: "months since; 0 = the month itself", not_null: true}
  month_end: {type: DATE, meaning: "last day of that month", not_null: true}
  accounts: {type: BIGINT, meaning: "accounts of the cohort", not_null: true}
  seats: {type: BIGINT, meaning: "their seats at the close of month_end", not_null: true}
  retention: {type: "DECIMAL(18,4)", meaning: "seats / seats of month 0; empty when those are 0"}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH RECURSIVE intervals AS (
    SELECT h.root_org_id AS account_id, i.from_on, i.to_on, coalesce(i.seats, 0) AS seats, i.is_paid
    FROM intermediate.subscription_intervals AS i
    INNER JOIN intermediate.hierarchy AS h ON i.org_id = h.org_id
    WHERE i.is_running AND i.from_on <= $as_of AND (i.to_on IS NULL OR i.to_on > i.from_on)
),
cohorts AS (
    SELECT account_id, CAST(date_trunc('month', min(from_on)) AS DATE) AS cohort
    FROM intervals
    WHERE is_paid AND seats > 0
    GROUP BY account_id
),
sizes AS (
    SELECT cohort, count(*) AS accounts
    FROM cohorts
    GROUP BY cohort
),
-- An interval counts at the end of every month from the one it starts in to the one before it ends in.
changes AS (
    SELECT account_id, CAST(date_trunc('month', from_on) AS DATE) AS month, seats
    FROM intervals
    UNION ALL
    SELECT account_id, CAST(date_trunc('month', to_on) AS DATE) AS month, -seats AS seats
    FROM intervals
    WHERE to_on <= $as_of
),
monthly AS (
    SELECT c.cohort, greatest(x.month, c.cohort) AS month, sum(x.seats) AS seats
    FROM changes AS x
    INNER JOIN cohorts AS c ON x.account_id = c.account_id
    GROUP BY c.cohort, greatest(x.month, c.cohort)
),
spine AS (
    SELECT cohort, accounts, cohort AS month, 0 AS month_number
    FROM sizes
    WHERE last_day(cohort) <= $as_of
    UNION ALL
    SELECT
        cohort,
        accounts,
        CAST(month + INTERVAL '1' MONTH AS DATE) AS month,
        month_number + 1 AS month_number
    FROM spine
    WHERE last_day(CAST(month + INTERVAL '1' MONTH AS DATE)) <= $as_of
),
levels AS (
    SELECT
        s.cohort,
        s.month,
        s.month_number,
        s.accounts,
        sum(coalesce(m.seats, 0)) OVER (PARTITION BY s.cohort ORDER BY s.month_number) AS seats
    FROM spine AS s
    LEFT JOIN monthly AS m ON s.cohort = m.cohort AND s.month = m.month
),
based AS (
    SELECT *, max(seats) FILTER (WHERE month_number = 0) OVER (PARTITION BY cohort) AS first_seats
    FROM levels
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    cohort,
    CAST(month_number AS INTEGER) AS month_number,
    last_day(month) AS month_end,
    accounts,
    CAST(seats AS BIGINT) AS seats,
    CASE WHEN first_seats > 0 THEN share_of(seats, first_seats) END AS retention,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM based
