/*---
description: >
  The MRR of all accounts from the opening to the closing of the metrics period: opening + movements = closing, to the
  cent. One row. Movements are the sums of marts.mrr_movements; opening and closing are added up from the subscriptions.
grain: [as_of, known_at]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  period_start: {type: DATE, meaning: "first day of the period", not_null: true}
  period_end: {type: DATE, meaning: "last day of the period, inclusive", not_null: true}
  closing_on: {type: DATE, meaning: "day whose close it ends with: the last day, or as_of if that is earlier", not_null: true}
  opening: {type: "DECIMAL(18,2)", meaning: "MRR at the close of the day before the period, at the rates of that day", not_null: true}
  new: {type: "DECIMAL(18,2)", meaning: "of accounts that never had MRR before", not_null: true}
  reactivation: {type: "DECIMAL(18,2)", meaning: "of accounts that came back", not_null: true}
  expansion: {type: "DECIMAL(18,2)", meaning: "of accounts that grew", not_null: true}
  contraction: {type: "DECIMAL(18,2)", meaning: "of accounts that shrank and stayed; not above 0", not_null: true}
  churn: {type: "DECIMAL(18,2)", meaning: "of accounts that have nothing left; not above 0", not_null: true}
  paused: {type: "DECIMAL(18,2)", meaning: "of subscriptions that were paused; not above 0", not_null: true}
  resumed: {type: "DECIMAL(18,2)", meaning: "of subscriptions that came out of a pause", not_null: true}
  transfers: {type: "DECIMAL(18,2)", meaning: "of joint plans between accounts, in and out together: 0", not_null: true}
  fx: {type: "DECIMAL(18,2)", meaning: "effect of exchange rates on the opening MRR", not_null: true}
  closing: {type: "DECIMAL(18,2)", meaning: "MRR at closing_on, at the rates of that day", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
checks:
  - name: fx_rate_present
    description: Every foreign MRR of the metrics period has an exchange rate on the days it is counted.
    sql: >
      SELECT span, after_on, subscription_id, org_id, currency
      FROM intermediate.mrr_steps
      WHERE opening IS NULL OR reopened IS NULL OR closing IS NULL
  - name: adds_up
    description: Opening and movements give the closing, to the cent.
    sql: >
      SELECT as_of, known_at, opening, closing
      FROM marts.mrr_waterfall
      WHERE opening + new + reactivation + expansion + contraction + churn + paused + resumed + transfers + fx <> closing
  - name: closes_with_the_organisations
    description: At as_of the waterfall closes with the MRR of all organisations, whose MRR is known.
    sql: >
      SELECT w.as_of, w.known_at, w.closing, o.mrr
      FROM marts.mrr_waterfall AS w
      INNER JOIN (
          SELECT as_of, known_at, sum(mrr) AS mrr, sum(mrr_unknown) AS unknown
          FROM marts.organisation_daily
          GROUP BY as_of, known_at
      ) AS o ON w.as_of = o.as_of AND w.known_at = o.known_at
      WHERE w.closing_on = w.as_of AND o.unknown = 0 AND w.closing <> o.mrr
---*/
WITH ends AS (
    SELECT
        coalesce(sum(opening), 0) AS opening,
        coalesce(sum(closing), 0) AS closing
    FROM intermediate.mrr_steps
    WHERE span = 'period'
),
movements AS (
    SELECT
        coalesce(sum(amount) FILTER (WHERE movement = 'new'), 0) AS new,
        coalesce(sum(amount) FILTER (WHERE movement = 'reactivation'), 0) AS reactivation,
        coalesce(sum(amount) FILTER (WHERE movement = 'expansion'), 0) AS expansion,
        coalesce(sum(amount) FILTER (WHERE movement = 'contraction'), 0) AS contraction,
        coalesce(sum(amount) FILTER (WHERE movement = 'churn'), 0) AS churn,
        coalesce(sum(amount) FILTER (WHERE movement = 'paused'), 0) AS paused,
        coalesce(sum(amount) FILTER (WHERE movement = 'resumed'), 0) AS resumed,
        coalesce(sum(amount) FILTER (WHERE movement IN ('transfer_in', 'transfer_out')), 0) AS transfers,
        coalesce(sum(amount) FILTER (WHERE movement = 'fx'), 0) AS fx
    FROM intermediate.mrr_classified
    WHERE grain = 'account'
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    p.starts_on AS period_start,
    p.ends_on AS period_end,
    p.closing_on,
    CAST(e.opening AS DECIMAL(18, 2)) AS opening,
    CAST(m.new AS DECIMAL(18, 2)) AS new,
    CAST(m.reactivation AS DECIMAL(18, 2)) AS reactivation,
    CAST(m.expansion AS DECIMAL(18, 2)) AS expansion,
    CAST(m.contraction AS DECIMAL(18, 2)) AS contraction,
    CAST(m.churn AS DECIMAL(18, 2)) AS churn,
    CAST(m.paused AS DECIMAL(18, 2)) AS paused,
    CAST(m.resumed AS DECIMAL(18, 2)) AS resumed,
    CAST(m.transfers AS DECIMAL(18, 2)) AS transfers,
    CAST(m.fx AS DECIMAL(18, 2)) AS fx,
    CAST(e.closing AS DECIMAL(18, 2)) AS closing,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM ends AS e
CROSS JOIN movements AS m
CROSS JOIN intermediate.metrics_period AS p
