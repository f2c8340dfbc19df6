/*---
description: >
  What the steps of MRR mean, at three grains: account over the metrics period, account on a day of it, organisation
  over the period. Amounts are signed. fx: the opening MRR at the closing rate less the same at the opening rate.
  paused, resumed: subscriptions that went into or came out of a pause. transfer_in, transfer_out: MRR that moved with
  the start of a joint plan (the child's of the day before, at the closing rate), between organisations, and between accounts when child and
  payer have different roots. What remains is one movement: below 0 churn when nothing is left (no MRR, nothing paused,
  nothing handed over to a joint plan), else contraction; above 0 new when it opened with nothing and never had MRR at
  an earlier close, reactivation when it opened with nothing and had, else expansion. Movements of 0 have no row.
grain: [grain, entity_id, day, movement]
columns:
  grain: {type: VARCHAR, meaning: "account, account_day or organisation", not_null: true, accepted: [account, account_day, organisation]}
  entity_id: {type: VARCHAR, meaning: "root organisation, or organisation", not_null: true}
  day: {type: DATE, meaning: "day whose close it ends with", not_null: true}
  movement: {type: VARCHAR, meaning: "kind of movement", not_null: true, accepted: [new, reactivation, expansion, contraction, churn, paused, resumed, transfer_in, transfer_out, fx]}
  amount: {type: "DECIMAL(18,2)", meaning: "change of MRR, reporting currency", not_null: true}
  opening: {type: "DECIMAL(18,2)", meaning: "MRR of the whole entity before", not_null: true}
  closing: {type: "DECIMAL(18,2)", meaning: "MRR of the whole entity after", not_null: true}
---*/
WITH moved AS (
    SELECT
        t.child_org_id,
        t.payer_org_id,
        t.starts_on,
        p.closing_on,
        i.currency,
        i.mrr_native
    FROM intermediate.seat_transfers AS t
    CROSS JOIN intermediate.metrics_period AS p
    INNER JOIN intermediate.subscription_intervals AS i
        ON
            t.child_org_id = i.org_id
            AND i.from_on < t.starts_on
            AND (i.to_on IS NULL OR i.to_on >= t.starts_on)
    WHERE t.starts_on > p.opening_on AND t.starts_on <= p.closing_on AND i.is_running AND i.mrr_native <> 0
),
rated AS (
    SELECT
        m.*,
        CASE WHEN m.currency = $reporting_currency THEN CAST(1 AS DECIMAL(30, 18)) ELSE d.rate END AS rate_of_day,
        CASE WHEN m.currency = $reporting_currency THEN CAST(1 AS DECIMAL(30, 18)) ELSE c.rate END AS rate_of_closing
    FROM moved AS m
    LEFT JOIN intermediate.fx_intervals AS d
        ON m.currency = d.currency AND d.from_on <= m.starts_on AND (d.to_on IS NULL OR d.to_on > m.starts_on)
    LEFT JOIN intermediate.fx_intervals AS c
        ON m.currency = c.currency AND c.from_on <= m.closing_on AND (c.to_on IS NULL OR c.to_on > m.closing_on)
),
crossing AS (
    SELECT
        child.root_org_id AS child_account_id,
        payer.root_org_id AS payer_account_id,
        r.child_org_id,
        r.payer_org_id,
        r.starts_on,
        converted(r.mrr_native, r.rate_of_day) AS mrr_of_day,
        converted(r.mrr_native, r.rate_of_closing) AS mrr
    FROM rated AS r
    INNER JOIN intermediate.hierarchy AS child ON r.child_org_id = child.org_id
    INNER JOIN intermediate.hierarchy AS payer ON r.payer_org_id = payer.org_id
),
transfers AS (
    SELECT 'organisation' AS grain, c.payer_org_id AS entity_id, p.closing_on AS day, c.mrr AS amount
    FROM crossing AS c
    CROSS JOIN intermediate.metrics_period AS p
    UNION ALL
    SELECT 'organisation' AS grain, c.child_org_id AS entity_id, p.closing_on AS day, -c.mrr AS amount
    FROM crossing AS c
    CROSS JOIN intermediate.metrics_period AS p
    UNION ALL
    SELECT 'account' AS grain, c.payer_account_id AS entity_id, p.closing_on AS day, c.mrr AS amount
    FROM crossing AS c
    CROSS JOIN intermediate.metrics_period AS p
    WHERE c.payer_account_id <> c.child_account_id
    UNION ALL
    SELECT 'account' AS grain, c.child_account_id AS entity_id, p.closing_on AS day, -c.mrr AS amount
    FROM crossing AS c
    CROSS JOIN intermediate.metrics_period AS p
    WHERE c.payer_account_id <> c.child_account_id
    UNION ALL
    SELECT 'account_day' AS grain, payer_account_id AS entity_id, starts_on AS day, mrr_of_day AS amount
    FROM crossing
    WHERE payer_account_id <> child_account_id
    UNION ALL
    SELECT 'account_day' AS grain, child_account_id AS entity_id, starts_on AS day, -mrr_of_day AS amount
    FROM crossing
    WHERE payer_account_id <> child_account_id
),
grained AS (
    SELECT 'account' AS grain, account_id AS entity_id, after_on AS day, opening, reopened, closing, was_paused, is_paused
    FROM intermediate.mrr_steps
    WHERE span = 'period'
    UNION ALL
    SELECT 'organisation' AS grain, org_id AS entity_id, after_on AS day, opening, reopened, closing, was_paused, is_paused
    FROM intermediate.mrr_steps
    WHERE span = 'period'
    UNION ALL
    SELECT 'account_day' AS grain, account_id AS entity_id, after_on AS day, opening, reopened, closing, was_paused, is_paused
    FROM intermediate.mrr_steps
    WHERE span = 'day'
),
parts AS (
    SELECT
        grain,
        entity_id,
        day,
        opening,
        closing,
        reopened - opening AS fx,
        CASE WHEN is_paused AND NOT was_paused THEN -reopened ELSE 0 END AS paused,
        CASE WHEN was_paused AND NOT is_paused THEN closing ELSE 0 END AS resumed,
        CASE WHEN was_paused THEN 1 ELSE 0 END AS paused_before,
        CASE WHEN is_paused THEN 1 ELSE 0 END AS paused_after,
        CAST(0 AS DECIMAL(18, 2)) AS transfer_in,
        CAST(0 AS DECIMAL(18, 2)) AS transfer_out
    FROM grained
    UNION ALL
    SELECT
        grain,
        entity_id,
        day,
        0 AS opening,
        0 AS closing,
        0 AS fx,
        0 AS paused,
        0 AS resumed,
        0 AS paused_before,
        0 AS paused_after,
        greatest(amount, 0) AS transfer_in,
        least(amount, 0) AS transfer_out
    FROM transfers
),
summed AS (
    SELECT
        grain,
        entity_id,
        day,
        sum(opening) AS step_opening,
        sum(closing) AS step_closing,
        sum(fx) AS fx,
        sum(paused) AS paused,
        sum(resumed) AS resumed,
        sum(paused_before) AS paused_before,
        sum(paused_after) AS paused_after,
        sum(transfer_in) AS transfer_in,
        sum(transfer_out) AS transfer_out
    FROM parts
    GROUP BY grain, entity_id, day
),
-- On a single day only what changed has a step; what the account opened the period with tells the rest.
opened AS (
    SELECT entity_id, step_opening AS opening, paused_before
    FROM summed
    WHERE grain = 'account'
),
totals AS (
    SELECT
        s.*,
        CASE
            WHEN s.grain <> 'account_day' THEN s.step_opening
            ELSE coalesce(o.opening, 0) + coalesce(sum(s.step_closing - s.step_opening) OVER earlier, 0)
        END AS opening,
        CASE
            WHEN s.grain <> 'account_day' THEN s.paused_after
            ELSE coalesce(o.paused_before, 0) + coalesce(sum(s.paused_after - s.paused_before) OVER earlier, 0)
                + s.paused_after - s.paused_before
        END AS left_paused
    FROM summed AS s
    LEFT JOIN opened AS o ON s.grain = 'account_day' AND s.entity_id = o.entity_id
    WINDOW earlier AS (
        PARTITION BY s.grain, s.entity_id ORDER BY s.day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
paying AS (
    SELECT i.org_id, h.root_org_id AS account_id, i.from_on
    FROM intermediate.subscription_intervals AS i
    INNER JOIN intermediate.hierarchy AS h ON i.org_id = h.org_id
    WHERE i.is_running AND i.mrr_native > 0 AND (i.to_on IS NULL OR i.to_on > i.from_on)
),
first_paid AS (
    SELECT 'organisation' AS kind, org_id AS entity_id, min(from_on) AS first_paid_on
    FROM paying
    GROUP BY org_id
    UNION ALL
    SELECT 'account' AS kind, account_id AS entity_id, min(from_on) AS first_paid_on
    FROM paying
    GROUP BY account_id
),
remainders AS (
    SELECT
        t.*,
        t.opening + t.step_closing - t.step_opening AS closing,
        t.step_closing - t.step_opening - t.fx - t.paused - t.resumed - t.transfer_in - t.transfer_out AS remainder,
        coalesce(
            f.first_paid_on < CASE WHEN t.grain = 'account_day' THEN t.day ELSE p.starts_on END,
            false
        ) AS paid_before
    FROM totals AS t
    CROSS JOIN intermediate.metrics_period AS p
    LEFT JOIN first_paid AS f
        ON t.entity_id = f.entity_id AND f.kind = CASE WHEN t.grain = 'organisation' THEN 'organisation' ELSE 'account' END
),
movements AS (
    SELECT
        grain,
        entity_id,
        day,
        opening,
        closing,
        unnest([
            CASE
                WHEN remainder < 0 AND closing = 0 AND left_paused = 0 AND transfer_out = 0 THEN 'churn'
                WHEN remainder < 0 THEN 'contraction'
                WHEN opening <> 0 THEN 'expansion'
                WHEN paid_before THEN 'reactivation'
                ELSE 'new'
            END,
            'paused',
            'resumed',
            'transfer_in',
            'transfer_out',
            'fx'
        ]) AS movement,
        unnest([remainder, paused, resumed, transfer_in, transfer_out, fx]) AS amount
    FROM remainders
)
SELECT
    grain,
    entity_id,
    CAST(day AS DATE) AS day,
    movement,
    CAST(amount AS DECIMAL(18, 2)) AS amount,
    CAST(opening AS DECIMAL(18, 2)) AS opening,
    CAST(closing AS DECIMAL(18, 2)) AS closing
FROM movements
WHERE amount <> 0
