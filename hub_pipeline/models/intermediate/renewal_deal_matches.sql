/*---
description: >
  Which renewal deal of the post-sales pipeline belongs to which running contract. A deal that names a known
  subscription can only belong to that one, whatever the dates, except that a closed deal nearer to the end of the
  term before (by its renew-by date, else the day it was closed) is the renewal of that term. Any other deal can belong to a contract of its organisation whose term ends
  at most renewal.match_days (45) days from its renew-by date. Where there is no date to compare (an open deal without
  a close date, or an open deal that fits no term and a contract without one), the organisation decides. Of all
  possible pairs of an organisation the best is taken first: won before open before lost, a named subscription before
  a date before neither, nearest, lowest deal_id, lowest subscription_id; each contract gets one deal and each deal one
  contract. A deal left over belongs to the contract of its best pair without being chosen.
grain: [deal_id]
columns:
  deal_id: {type: VARCHAR, meaning: "renewal deal", not_null: true}
  subscription_id: {type: VARCHAR, meaning: "contract it belongs to", not_null: true}
  is_chosen: {type: BOOLEAN, meaning: "it is the deal of that contract; else another deal is", not_null: true}
  is_open: {type: BOOLEAN, meaning: "the deal is open at the close of as_of", not_null: true}
---*/
WITH RECURSIVE deals AS (
    SELECT
        d.deal_id,
        d.org_id,
        d.status,
        d.renew_by,
        d.closed_on,
        CASE d.status WHEN 'won' THEN 1 WHEN 'open' THEN 2 ELSE 3 END AS status_rank,
        k.subscription_id AS named_subscription_id
    FROM intermediate.current_deals AS d
    LEFT JOIN (SELECT DISTINCT s.subscription_id FROM intermediate.subscription_intervals AS s) AS k
        ON k.subscription_id = d.subscription_id
    WHERE d.pipeline = 'post_sales' AND d.deal_type = 'renewal'
),
dated_pairs AS (
    SELECT
        c.org_id,
        c.subscription_id,
        d.deal_id,
        d.status,
        d.status_rank,
        0 AS kind_rank,
        abs(d.renew_by - c.term_end_on) AS distance
    FROM intermediate.renewal_contracts AS c
    INNER JOIN deals AS d ON d.named_subscription_id = c.subscription_id
    WHERE
        d.status = 'open'
        OR coalesce(
            abs(coalesce(d.renew_by, d.closed_on) - c.term_end_on)
            <= abs(coalesce(d.renew_by, d.closed_on) - c.previous_term_end_on),
            true
        )
    UNION ALL
    SELECT
        c.org_id,
        c.subscription_id,
        d.deal_id,
        d.status,
        d.status_rank,
        1 AS kind_rank,
        abs(d.renew_by - c.term_end_on) AS distance
    FROM intermediate.renewal_contracts AS c
    INNER JOIN deals AS d
        ON d.named_subscription_id IS NULL
        AND d.org_id = c.org_id
        AND abs(d.renew_by - c.term_end_on) <= CAST($renewal_match_days AS INTEGER)
),
pairs AS (
    SELECT p.* FROM dated_pairs AS p
    UNION ALL
    SELECT
        c.org_id,
        c.subscription_id,
        d.deal_id,
        d.status,
        d.status_rank,
        2 AS kind_rank,
        CAST(NULL AS BIGINT) AS distance
    FROM intermediate.renewal_contracts AS c
    INNER JOIN deals AS d
        ON d.named_subscription_id IS NULL
        AND d.status = 'open'
        AND d.org_id = c.org_id
        AND (d.renew_by IS NULL OR c.term_end_on IS NULL)
    LEFT JOIN (SELECT DISTINCT p.deal_id FROM dated_pairs AS p) AS x ON x.deal_id = d.deal_id
    WHERE x.deal_id IS NULL
),
ranked AS (
    SELECT
        p.*,
        row_number() OVER (
            PARTITION BY p.org_id
            ORDER BY p.status_rank, p.kind_rank, p.distance NULLS LAST, p.deal_id, p.subscription_id
        ) AS turn
    FROM pairs AS p
),
picks AS (
    SELECT DISTINCT
        r.org_id,
        CAST(0 AS BIGINT) AS turn,
        false AS is_chosen,
        CAST([] AS VARCHAR[]) AS used_deals,
        CAST([] AS VARCHAR[]) AS used_subscriptions
    FROM ranked AS r
    UNION ALL
    SELECT
        r.org_id,
        r.turn,
        NOT (list_contains(p.used_deals, r.deal_id) OR list_contains(p.used_subscriptions, r.subscription_id)),
        CASE
            WHEN list_contains(p.used_deals, r.deal_id) OR list_contains(p.used_subscriptions, r.subscription_id)
                THEN p.used_deals
            ELSE list_concat(p.used_deals, [r.deal_id])
        END,
        CASE
            WHEN list_contains(p.used_deals, r.deal_id) OR list_contains(p.used_subscriptions, r.subscription_id)
                THEN p.used_subscriptions
            ELSE list_concat(p.used_subscriptions, [r.subscription_id])
        END
    FROM picks AS p
    INNER JOIN ranked AS r ON r.org_id = p.org_id AND r.turn = p.turn + 1
)
SELECT
    r.deal_id,
    r.subscription_id,
    p.is_chosen,
    r.status = 'open' AS is_open
FROM ranked AS r
INNER JOIN picks AS p ON p.org_id = r.org_id AND p.turn = r.turn
QUALIFY row_number() OVER (PARTITION BY r.deal_id ORDER BY p.is_chosen DESC, r.turn ASC) = 1
