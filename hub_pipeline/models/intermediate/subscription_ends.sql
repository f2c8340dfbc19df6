/*---
description: >
  The end of each subscription that was paid for by the close of as_of: the last one that has happened or is known, or
  one that was withdrawn, within (D-churn.history_days, ...). An end is the exclusive instant at which a paid (or, after
  paid, paused, trialing or incomplete) subscription is canceled, becomes unpaid, becomes free, or reaches its
  cancel_at. Pausing is no end. Of the subscription's own changes those count that took effect before the close of
  as_of and those that were planned (recorded) by then. A withdrawn end is a cancel_at that the next version, in effect
  no later than that end and still paid, no longer has; it is the subscription's row only while no newer end is known.
  The end of a CRM contract counts once it has passed: before, it is the end of a term and no cancellation.
grain: [subscription_id]
columns:
  subscription_id: {type: VARCHAR, meaning: "subscription", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  original_org_id: {type: VARCHAR, meaning: "organisation as it stands in the input", not_null: true}
  plan: {type: VARCHAR, meaning: "plan that ended"}
  source_kind: {type: VARCHAR, meaning: "billing, crm_property or crm_contract", not_null: true}
  end_at: {type: TIMESTAMP, meaning: "exclusive end, or the withdrawn one", not_null: true}
  end_on: {type: DATE, meaning: "local day of end_at", not_null: true}
  is_withdrawn: {type: BOOLEAN, meaning: "the end was withdrawn", not_null: true}
  withdrawn_on: {type: DATE, meaning: "local day it was withdrawn"}
  churn_type: {type: VARCHAR, meaning: "voluntary, involuntary or to_free", not_null: true, accepted: [voluntary, involuntary, to_free]}
  cancel_reason: {type: VARCHAR, meaning: "reason code"}
  cancel_comment: {type: VARCHAR, meaning: "reason in the customer's words"}
  recorded_on: {type: DATE, meaning: "local day on which the end became known", not_null: true}
  mrr_at_risk: {type: "DECIMAL(18,2)", meaning: "MRR at the close of as_of, or of the day before the end if that is earlier; where it was not paid for then (paused, or begun and ended in one day) and the end has passed, of its last paid version; 0 where the end is still to come"}
---*/
-- Without one of these a subscription runs on from version to version and nothing ends it; an end is never later than
-- the last of their times. Two days more than the history asks for, whatever the time zone.
WITH endable AS (
    SELECT subscription_id
    FROM intermediate.subscription_intervals
    GROUP BY subscription_id
    HAVING
        bool_or(is_paid)
        AND max(greatest(valid_from, valid_to, cancel_at, ended_at)) FILTER (
            WHERE
            cancel_at IS NOT NULL
            OR ended_at IS NOT NULL
            OR status IN ('canceled', 'unpaid')
            OR (is_running AND NOT is_paid)
            OR source_kind <> 'billing'
        ) > CAST($close_as_of AS TIMESTAMP) - to_days(CAST($churn_history_days + 2 AS INTEGER))
),
numbered AS (
    SELECT
        s.subscription_id,
        s.org_id,
        s.original_org_id,
        s.valid_from,
        s.valid_to,
        s.from_on,
        s.to_on,
        s.plan,
        s.status,
        s.mrr,
        s.is_running,
        s.is_paid,
        s.cancel_at,
        s.ended_at,
        s.cancel_reason,
        s.cancel_comment,
        s.recorded_at,
        s.source_kind,
        lead(s.valid_from) OVER of_subscription AS next_known_from,
        lag(s.valid_to) OVER of_subscription AS previous_to
    FROM intermediate.subscription_intervals AS s
    INNER JOIN endable AS e ON s.subscription_id = e.subscription_id
    WINDOW of_subscription AS (PARTITION BY s.subscription_id ORDER BY s.valid_from)
),
followed AS (
    SELECT
        n.*,
        lead(n.valid_from) OVER of_subscription AS next_from,
        lead(n.status) OVER of_subscription AS next_status,
        lead(n.is_paid) OVER of_subscription AS next_is_paid,
        lead(n.is_running) OVER of_subscription AS next_is_running,
        lead(n.cancel_at) OVER of_subscription AS next_cancel_at,
        lead(n.cancel_reason) OVER of_subscription AS next_cancel_reason,
        lead(n.cancel_comment) OVER of_subscription AS next_cancel_comment,
        -- paused, trialing and incomplete go on with whatever was before, unless that had come to its end
        last_value(
            CASE
                WHEN n.is_paid OR n.is_running OR n.status IN ('canceled', 'unpaid') THEN n.is_paid
                WHEN n.previous_to < n.valid_from THEN false
            END IGNORE NULLS
        ) OVER (
            PARTITION BY n.subscription_id ORDER BY n.valid_from ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS goes_on_paid
    FROM numbered AS n
    WHERE n.valid_from < CAST($close_as_of AS TIMESTAMP) OR n.recorded_at < CAST($close_as_of AS TIMESTAMP)
    WINDOW of_subscription AS (PARTITION BY n.subscription_id ORDER BY n.valid_from)
),
changes AS (
    SELECT
        f.*,
        -- an end that only a change left out above put there is no end at the close of as_of
        CASE
            WHEN f.valid_to = f.next_known_from AND f.next_from IS DISTINCT FROM f.next_known_from
                THEN least(f.next_from, f.cancel_at, f.ended_at)
            ELSE f.valid_to
        END AS held_to,
        coalesce(f.goes_on_paid, false) AS is_live
    FROM followed AS f
),
ends AS (
    SELECT
        c.*,
        c.held_to AS end_at,
        CASE WHEN c.next_from = c.held_to OR c.next_status = 'canceled' THEN coalesce(c.next_cancel_reason, c.cancel_reason) ELSE c.cancel_reason END AS end_reason,
        CASE WHEN c.next_from = c.held_to OR c.next_status = 'canceled' THEN coalesce(c.next_cancel_comment, c.cancel_comment) ELSE c.cancel_comment END AS end_comment
    FROM changes AS c
    WHERE
        c.is_live
        AND c.held_to IS NOT NULL
        AND (
            c.next_from IS NULL
            OR c.next_from > c.held_to
            OR c.next_status IN ('canceled', 'unpaid')
            OR (c.next_is_running AND NOT c.next_is_paid)
        )
        AND (c.source_kind <> 'crm_contract' OR c.held_to < CAST($close_as_of AS TIMESTAMP))
    QUALIFY row_number() OVER (PARTITION BY c.subscription_id ORDER BY c.valid_from DESC) = 1
),
withdrawals AS (
    SELECT
        c.*,
        c.next_from AS withdrawn_at
    FROM changes AS c
    WHERE
        c.is_live
        AND c.next_is_paid
        AND c.next_from <= c.cancel_at
        AND c.next_cancel_at IS NULL
    QUALIFY row_number() OVER (PARTITION BY c.subscription_id ORDER BY c.valid_from DESC) = 1
),
resumed AS (
    SELECT e.subscription_id, min(c.valid_from) AS resumed_at
    FROM ends AS e
    INNER JOIN changes AS c
        ON c.subscription_id = e.subscription_id AND c.is_paid AND c.valid_from >= e.end_at
    GROUP BY e.subscription_id
),
candidates AS (
    SELECT
        e.subscription_id,
        e.org_id,
        e.original_org_id,
        e.plan,
        e.source_kind,
        e.end_at,
        false AS is_withdrawn,
        CAST(NULL AS TIMESTAMP) AS withdrawn_at,
        CASE
            WHEN e.next_from = e.held_to AND e.next_status = 'unpaid' THEN 'involuntary'
            WHEN e.next_from = e.held_to AND e.next_is_running AND NOT e.next_is_paid THEN 'to_free'
            WHEN e.end_reason = 'payment_failed' THEN 'involuntary'
            ELSE 'voluntary'
        END AS churn_type,
        e.end_reason AS cancel_reason,
        e.end_comment AS cancel_comment,
        e.recorded_at
    FROM ends AS e
    LEFT JOIN resumed AS r ON r.subscription_id = e.subscription_id
    LEFT JOIN withdrawals AS w ON w.subscription_id = e.subscription_id
    WHERE r.resumed_at IS NULL OR w.withdrawn_at IS NULL OR w.withdrawn_at < e.end_at
    UNION ALL
    SELECT
        w.subscription_id,
        w.org_id,
        w.original_org_id,
        w.plan,
        w.source_kind,
        w.cancel_at AS end_at,
        true AS is_withdrawn,
        w.withdrawn_at,
        CASE WHEN w.cancel_reason = 'payment_failed' THEN 'involuntary' ELSE 'voluntary' END AS churn_type,
        w.cancel_reason,
        w.cancel_comment,
        w.recorded_at
    FROM withdrawals AS w
    LEFT JOIN ends AS e ON e.subscription_id = w.subscription_id
    LEFT JOIN resumed AS r ON r.subscription_id = w.subscription_id
    WHERE e.subscription_id IS NULL OR (r.resumed_at IS NOT NULL AND w.withdrawn_at >= e.end_at)
),
dated AS (
    SELECT
        c.*,
        local_date(c.end_at, $reporting_tz) AS end_on,
        local_date(c.withdrawn_at, $reporting_tz) AS withdrawn_on,
        least(CAST($as_of AS DATE), local_date(c.end_at, $reporting_tz) - 1) AS measured_on
    FROM candidates AS c
    WHERE
        local_date(coalesce(c.withdrawn_at, c.end_at), $reporting_tz)
        > CAST($as_of AS DATE) - CAST($churn_history_days AS INTEGER)
),
measured AS (
    SELECT
        c.subscription_id,
        min(c.valid_from) FILTER (WHERE c.is_paid) AS first_paid_at,
        min(c.recorded_at)
            FILTER (WHERE c.cancel_at = d.end_at OR c.ended_at = d.end_at OR c.valid_from = d.end_at) AS end_recorded_at,
        coalesce(
            bool_or(c.is_paid AND c.from_on <= d.measured_on AND (c.to_on IS NULL OR c.to_on > d.measured_on)), false
        ) AS is_paid_then,
        max(c.mrr) FILTER (
            WHERE c.is_paid AND c.from_on <= d.measured_on AND (c.to_on IS NULL OR c.to_on > d.measured_on)
        ) AS mrr_then,
        -- in a struct, because the last one counts even when it is unknown
        arg_max(struct_pack(mrr := c.mrr), c.valid_from) FILTER (WHERE c.is_paid AND c.valid_from < d.end_at) AS last_paid
    FROM dated AS d
    INNER JOIN changes AS c ON c.subscription_id = d.subscription_id
    GROUP BY c.subscription_id
)
SELECT
    d.subscription_id,
    d.org_id,
    d.original_org_id,
    d.plan,
    d.source_kind,
    d.end_at,
    d.end_on,
    d.is_withdrawn,
    d.withdrawn_on,
    d.churn_type,
    d.cancel_reason,
    d.cancel_comment,
    local_date(coalesce(m.end_recorded_at, d.recorded_at), $reporting_tz) AS recorded_on,
    CAST(
        CASE
            WHEN m.is_paid_then THEN m.mrr_then
            WHEN d.end_at >= CAST($close_as_of AS TIMESTAMP) THEN 0
            ELSE m.last_paid.mrr
        END AS DECIMAL(18, 2)
    ) AS mrr_at_risk
FROM dated AS d
INNER JOIN measured AS m ON m.subscription_id = d.subscription_id
WHERE m.first_paid_at < CAST($close_as_of AS TIMESTAMP)
