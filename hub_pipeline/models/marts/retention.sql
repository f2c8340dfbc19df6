/*---
description: >
  Net, gross and logo retention over a year: the accounts with MRR above 0 at the close of the same day a year ago (29
  February: the 28th). Both ends use the hierarchy and the exchange rates of as_of, so neither a moved parent nor a
  rate is a change. nrr = their MRR now / then; grr = the lower of both for each account / then; logo_retention =
  accounts that still have MRR / accounts. Four decimals; empty without a cohort. One row.
grain: [as_of, known_at]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  cohort_start: {type: DATE, meaning: "the day a year ago", not_null: true}
  accounts: {type: BIGINT, meaning: "accounts with MRR then", not_null: true}
  retained: {type: BIGINT, meaning: "of these, with MRR now", not_null: true}
  start_mrr: {type: "DECIMAL(18,2)", meaning: "their MRR then", not_null: true}
  end_mrr: {type: "DECIMAL(18,2)", meaning: "their MRR now", not_null: true}
  kept_mrr: {type: "DECIMAL(18,2)", meaning: "the lower of both, account by account", not_null: true}
  nrr: {type: "DECIMAL(18,4)", meaning: "end_mrr / start_mrr"}
  grr: {type: "DECIMAL(18,4)", meaning: "kept_mrr / start_mrr"}
  logo_retention: {type: "DECIMAL(18,4)", meaning: "retained / accounts"}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH days AS (
    SELECT CAST(CAST($as_of AS DATE) - INTERVAL '1' YEAR AS DATE) AS cohort_start
),
accounts AS (
    SELECT
        h.root_org_id AS account_id,
        coalesce(sum(i.mrr) FILTER (
            WHERE i.from_on <= d.cohort_start AND (i.to_on IS NULL OR i.to_on > d.cohort_start)
        ), 0) AS start_mrr,
        coalesce(sum(i.mrr) FILTER (
            WHERE i.from_on <= $as_of AND (i.to_on IS NULL OR i.to_on > $as_of)
        ), 0) AS end_mrr
    FROM intermediate.subscription_intervals AS i
    INNER JOIN intermediate.hierarchy AS h ON i.org_id = h.org_id
    CROSS JOIN days AS d
    WHERE i.is_running AND (i.to_on IS NULL OR i.to_on > d.cohort_start)
    GROUP BY h.root_org_id
),
sums AS (
    SELECT
        count(*) AS accounts,
        count(*) FILTER (WHERE end_mrr > 0) AS retained,
        coalesce(sum(start_mrr), 0) AS start_mrr,
        coalesce(sum(end_mrr), 0) AS end_mrr,
        coalesce(sum(least(start_mrr, end_mrr)), 0) AS kept_mrr
    FROM accounts
    WHERE start_mrr > 0
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    d.cohort_start,
    s.accounts,
    s.retained,
    CAST(s.start_mrr AS DECIMAL(18, 2)) AS start_mrr,
    CAST(s.end_mrr AS DECIMAL(18, 2)) AS end_mrr,
    CAST(s.kept_mrr AS DECIMAL(18, 2)) AS kept_mrr,
    CASE WHEN s.start_mrr > 0 THEN share_of(s.end_mrr, s.start_mrr) END AS nrr,
    CASE WHEN s.start_mrr > 0 THEN share_of(s.kept_mrr, s.start_mrr) END AS grr,
    CASE WHEN s.accounts > 0 THEN share_of(s.retained, s.accounts) END AS logo_retention,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM sums AS s
CROSS JOIN days AS d
