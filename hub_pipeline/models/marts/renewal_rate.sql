/*---
description: >
  How much of what was up for renewal in the metrics period was renewed. Up for renewal (available to renew, ATR) are
  the paid subscriptions and contracts running at the close of the day before the period whose term then ended within
  it; their MRR of that day is frozen. What became of each is its MRR at the close of the local day its term ended;
  where the subscription itself no longer runs as a paid plan by then, that of the organisation's paid subscriptions that
  were not yet running as such at the freeze (a renewal under a new id). Each of these counts once, on the first of those
  days on which it runs; contracts that ended on one day share it in the order of their ids, each up to its frozen MRR,
  the last one all that is left. Unknown MRR counts as 0. Gross counts no more than the frozen MRR of each contract, net
  everything; logo counts accounts that renewed anything. Terms that end after as_of are pending and left out. At the
  exchange rates of as_of. Four decimals; empty when nothing was due. One row.
grain: [as_of, known_at]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  period_start: {type: DATE, meaning: "first day of the period", not_null: true}
  period_end: {type: DATE, meaning: "last day of the period, inclusive", not_null: true}
  contracts: {type: BIGINT, meaning: "contracts whose term ended by as_of", not_null: true}
  renewed_contracts: {type: BIGINT, meaning: "of these, with MRR at the close of the day the term ended", not_null: true}
  atr_mrr: {type: "DECIMAL(18,2)", meaning: "frozen MRR of these contracts", not_null: true}
  renewed_mrr: {type: "DECIMAL(18,2)", meaning: "their MRR at the close of the day the term ended", not_null: true}
  pending_contracts: {type: BIGINT, meaning: "contracts of the period whose term ends after as_of", not_null: true}
  pending_mrr: {type: "DECIMAL(18,2)", meaning: "frozen MRR of the pending ones", not_null: true}
  gross_renewal_rate: {type: "DECIMAL(18,4)", meaning: "renewed MRR, at most the frozen one of each contract / atr_mrr"}
  net_renewal_rate: {type: "DECIMAL(18,4)", meaning: "renewed_mrr / atr_mrr"}
  logo_renewal_rate: {type: "DECIMAL(18,4)", meaning: "accounts that renewed / accounts due"}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH terms AS (
    SELECT
        i.subscription_id,
        i.org_id,
        h.root_org_id AS account_id,
        i.term_end_on,
        coalesce(i.mrr, 0) AS atr,
        i.term_end_on <= $as_of AS is_due
    FROM intermediate.subscription_intervals AS i
    INNER JOIN intermediate.hierarchy AS h ON i.org_id = h.org_id
    CROSS JOIN intermediate.metrics_period AS p
    WHERE
        i.is_paid
        AND i.from_on <= p.opening_on
        AND (i.to_on IS NULL OR i.to_on > p.opening_on)
        AND i.term_end_on BETWEEN p.starts_on AND p.ends_on
),
own AS (
    SELECT t.subscription_id, sum(i.mrr) AS mrr
    FROM terms AS t
    INNER JOIN intermediate.subscription_intervals AS i
        ON t.subscription_id = i.subscription_id
        AND i.is_paid
        AND i.from_on <= t.term_end_on
        AND (i.to_on IS NULL OR i.to_on > t.term_end_on)
    WHERE t.is_due
    GROUP BY t.subscription_id
),
at_freeze AS (
    SELECT i.subscription_id
    FROM intermediate.subscription_intervals AS i
    CROSS JOIN intermediate.metrics_period AS p
    WHERE i.is_paid AND i.from_on <= p.opening_on AND (i.to_on IS NULL OR i.to_on > p.opening_on)
),
ended AS (
    SELECT
        t.subscription_id,
        t.org_id,
        t.term_end_on,
        t.atr,
        coalesce(sum(t.atr) OVER (of_day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS atr_before,
        lead(t.subscription_id) OVER of_day IS NULL AS is_last
    FROM terms AS t
    LEFT JOIN own AS o ON t.subscription_id = o.subscription_id
    WHERE t.is_due AND o.subscription_id IS NULL
    WINDOW of_day AS (PARTITION BY t.org_id, t.term_end_on ORDER BY t.subscription_id)
),
-- A renewal under a new id answers for the contracts of one day only, so that its MRR is never counted twice.
followers AS (
    SELECT e.org_id, e.term_end_on, i.mrr
    FROM (SELECT DISTINCT org_id, term_end_on FROM ended) AS e
    INNER JOIN intermediate.subscription_intervals AS i
        ON e.org_id = i.org_id
        AND i.is_paid
        AND i.from_on <= e.term_end_on
        AND (i.to_on IS NULL OR i.to_on > e.term_end_on)
    LEFT JOIN at_freeze AS f ON i.subscription_id = f.subscription_id
    WHERE f.subscription_id IS NULL
    QUALIFY row_number() OVER (PARTITION BY e.org_id, i.subscription_id ORDER BY e.term_end_on) = 1
),
shared AS (
    SELECT org_id, term_end_on, sum(mrr) AS mrr
    FROM followers
    GROUP BY org_id, term_end_on
),
followed AS (
    SELECT
        e.subscription_id,
        least(greatest(s.mrr - e.atr_before, 0), CASE WHEN NOT e.is_last THEN e.atr END) AS mrr
    FROM ended AS e
    INNER JOIN shared AS s ON e.org_id = s.org_id AND e.term_end_on = s.term_end_on
),
outcomes AS (
    SELECT
        t.account_id,
        t.is_due,
        t.atr,
        CASE WHEN t.is_due THEN coalesce(o.mrr, f.mrr, 0) ELSE 0 END AS renewed
    FROM terms AS t
    LEFT JOIN own AS o ON t.subscription_id = o.subscription_id
    LEFT JOIN followed AS f ON t.subscription_id = f.subscription_id
),
sums AS (
    SELECT
        count(*) FILTER (WHERE is_due) AS contracts,
        count(*) FILTER (WHERE is_due AND renewed > 0) AS renewed_contracts,
        coalesce(sum(atr) FILTER (WHERE is_due), 0) AS atr_mrr,
        coalesce(sum(renewed), 0) AS renewed_mrr,
        coalesce(sum(least(renewed, atr)), 0) AS kept_mrr,
        count(*) FILTER (WHERE NOT is_due) AS pending_contracts,
        coalesce(sum(atr) FILTER (WHERE NOT is_due), 0) AS pending_mrr,
        count(DISTINCT account_id) FILTER (WHERE is_due) AS accounts,
        count(DISTINCT account_id) FILTER (WHERE is_due AND renewed > 0) AS renewed_accounts
    FROM outcomes
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    p.starts_on AS period_start,
    p.ends_on AS period_end,
    s.contracts,
    s.renewed_contracts,
    CAST(s.atr_mrr AS DECIMAL(18, 2)) AS atr_mrr,
    CAST(s.renewed_mrr AS DECIMAL(18, 2)) AS renewed_mrr,
    s.pending_contracts,
    CAST(s.pending_mrr AS DECIMAL(18, 2)) AS pending_mrr,
    CASE WHEN s.atr_mrr > 0 THEN share_of(s.kept_mrr, s.atr_mrr) END AS gross_renewal_rate,
    CASE WHEN s.atr_mrr > 0 THEN share_of(s.renewed_mrr, s.atr_mrr) END AS net_renewal_rate,
    CASE WHEN s.accounts > 0 THEN share_of(s.renewed_accounts, s.accounts) END AS logo_renewal_rate,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM sums AS s
CROSS JOIN intermediate.metrics_period AS p
