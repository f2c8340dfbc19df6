/*---
description: >
  What each subscription did to MRR: over the whole metrics period, and on each day of it on which it changed or its
  exchange rate did. Values hold at the close of before_on and of after_on. Each is converted for itself and rounded to
  cents. An exchange rate changes what the opening MRR is worth (fx); everything else counts at the closing rate.
  Paused is the opening MRR of a subscription that is paused at the close of after_on, resumed the closing MRR of one
  that was paused at the close of before_on. A subscription that moves to another organisation leaves one and joins
  the other. Unknown amounts count as 0 (marts.organisation_daily warns of them).
grain: [span, after_on, subscription_id, org_id, currency]
columns:
  span: {type: VARCHAR, meaning: "period, or one day of it", not_null: true, accepted: [period, day]}
  before_on: {type: DATE, meaning: "day whose close it opens with", not_null: true}
  after_on: {type: DATE, meaning: "day whose close it ends with", not_null: true}
  subscription_id: {type: VARCHAR, meaning: "subscription or contract", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  account_id: {type: VARCHAR, meaning: "its root at the close of as_of", not_null: true}
  currency: {type: VARCHAR, meaning: "native currency", not_null: true}
  opening: {type: "DECIMAL(18,2)", meaning: "MRR before, at the rate of before_on; empty = no rate"}
  reopened: {type: "DECIMAL(18,2)", meaning: "the same MRR at the rate of after_on; empty = no rate"}
  closing: {type: "DECIMAL(18,2)", meaning: "MRR after, at the rate of after_on; empty = no rate"}
  was_paused: {type: BOOLEAN, meaning: "paused at the close of before_on", not_null: true}
  is_paused: {type: BOOLEAN, meaning: "paused at the close of after_on", not_null: true}
---*/
WITH intervals AS (
    SELECT
        i.subscription_id,
        i.org_id,
        h.root_org_id AS account_id,
        i.currency,
        i.from_on,
        i.to_on,
        CASE WHEN i.is_running THEN coalesce(i.mrr_native, 0) ELSE 0 END AS mrr,
        i.status = 'paused' AS is_paused
    FROM intermediate.subscription_intervals AS i
    INNER JOIN intermediate.hierarchy AS h ON i.org_id = h.org_id
    CROSS JOIN intermediate.metrics_period AS p
    WHERE
        i.status IN ('active', 'past_due', 'paused')
        AND i.from_on <= p.closing_on
        AND (i.to_on IS NULL OR (i.to_on > i.from_on AND i.to_on > p.opening_on))
),
changed AS (
    SELECT i.subscription_id, i.from_on AS day
    FROM intervals AS i
    CROSS JOIN intermediate.metrics_period AS p
    WHERE i.from_on > p.opening_on
    UNION
    SELECT i.subscription_id, i.to_on AS day
    FROM intervals AS i
    CROSS JOIN intermediate.metrics_period AS p
    WHERE i.to_on <= p.closing_on
    UNION
    SELECT i.subscription_id, f.from_on AS day
    FROM intervals AS i
    INNER JOIN intermediate.fx_intervals AS f ON i.currency = f.currency
    CROSS JOIN intermediate.metrics_period AS p
    WHERE
        f.from_on > p.opening_on
        AND f.from_on <= p.closing_on
        AND i.from_on < f.from_on
        AND (i.to_on IS NULL OR i.to_on >= f.from_on)
),
spans AS (
    SELECT 'period' AS span, p.opening_on AS before_on, p.closing_on AS after_on, i.*
    FROM intervals AS i
    CROSS JOIN intermediate.metrics_period AS p
    WHERE p.closing_on > p.opening_on
    UNION ALL
    SELECT 'day' AS span, c.day - 1 AS before_on, c.day AS after_on, i.*
    FROM changed AS c
    INNER JOIN intervals AS i ON c.subscription_id = i.subscription_id
),
states AS (
    SELECT
        *,
        from_on <= before_on AND (to_on IS NULL OR to_on > before_on) AS holds_before,
        from_on <= after_on AND (to_on IS NULL OR to_on > after_on) AS holds_after
    FROM spans
),
native AS (
    SELECT
        span,
        before_on,
        after_on,
        subscription_id,
        org_id,
        account_id,
        currency,
        coalesce(sum(mrr) FILTER (WHERE holds_before), 0) AS mrr_before,
        coalesce(sum(mrr) FILTER (WHERE holds_after), 0) AS mrr_after,
        bool_or(holds_before AND is_paused) AS was_paused,
        bool_or(holds_after AND is_paused) AS is_paused
    FROM states
    WHERE holds_before OR holds_after
    GROUP BY span, before_on, after_on, subscription_id, org_id, account_id, currency
),
rated AS (
    SELECT
        n.*,
        CASE WHEN n.currency = $reporting_currency THEN CAST(1 AS DECIMAL(30, 18)) ELSE b.rate END AS rate_before,
        CASE WHEN n.currency = $reporting_currency THEN CAST(1 AS DECIMAL(30, 18)) ELSE a.rate END AS rate_after
    FROM native AS n
    LEFT JOIN intermediate.fx_intervals AS b
        ON n.currency = b.currency AND b.from_on <= n.before_on AND (b.to_on IS NULL OR b.to_on > n.before_on)
    LEFT JOIN intermediate.fx_intervals AS a
        ON n.currency = a.currency AND a.from_on <= n.after_on AND (a.to_on IS NULL OR a.to_on > n.after_on)
)
SELECT
    span,
    CAST(before_on AS DATE) AS before_on,
    CAST(after_on AS DATE) AS after_on,
    subscription_id,
    org_id,
    account_id,
    currency,
    CASE WHEN mrr_before = 0 THEN 0 ELSE converted(mrr_before, rate_before) END AS opening,
    CASE WHEN mrr_before = 0 THEN 0 ELSE converted(mrr_before, rate_after) END AS reopened,
    CASE WHEN mrr_after = 0 THEN 0 ELSE converted(mrr_after, rate_after) END AS closing,
    was_paused,
    is_paused
FROM rated
WHERE mrr_before <> 0 OR mrr_after <> 0 OR was_paused OR is_paused
