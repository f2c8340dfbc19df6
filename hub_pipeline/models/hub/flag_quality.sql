/*---
description: >
  How well marts.at_risk foretold losses: for each stored day, as it was published (known_at = as_of), the customers on
  the list against those lost in the 180 days after it, (as_of, as_of + 180]. A customer was lost by churn when
  marts.churn_flags of evaluated_on, the first stored day not before as_of + 180, has a churned or reactivated
  subscription of it with churn_date in these days; false alarms are none. It was lost by contraction when
  marts.at_risk of one of the stored days in them lists it for seat_contraction or mrr_contraction and the window of
  that row begins on as_of or later, so a drop that had already put it on the list does not count again. Churn goes
  before contraction. One row for the whole list (reason any) and one for each reason; a reason's false negatives are
  all losses that it did not flag. Precision is the share of the flagged that were lost, recall the share of the lost
  that were flagged, base_rate the share of all customers that were lost: what flagging at random would reach. Lead
  time is the days from as_of to the loss: the churn date, else the first stored day with fewer seats than on as_of or
  an MRR below nine tenths of it. Customers without a row on evaluated_on (merged or deleted since) have no outcome and
  are counted apart. A day whose 180 days are not over, or have no stored day after them yet, is pending.
grain: [as_of, reason]
columns:
  as_of: {type: DATE, meaning: "stored day whose list is judged", not_null: true}
  reason: {type: VARCHAR, meaning: "any: the whole list; else the entries with this reason", not_null: true, accepted: [any, seat_contraction, mrr_contraction, nps_detractor]}
  status: {type: VARCHAR, meaning: "complete, or pending: the outcome is not known yet", not_null: true, accepted: [complete, pending]}
  window_end: {type: DATE, meaning: "as_of + 180, inclusive", not_null: true}
  evaluated_on: {type: DATE, meaning: "stored day that tells of churn; empty = pending"}
  stored_days: {type: BIGINT, meaning: "stored days in the window so far: contraction shows only on these", not_null: true}
  customers: {type: BIGINT, meaning: "customers on as_of, of a complete day those with an outcome", not_null: true}
  without_outcome: {type: BIGINT, meaning: "customers on as_of that have no row on evaluated_on"}
  flagged: {type: BIGINT, meaning: "of customers, those on the list", not_null: true}
  lost: {type: BIGINT, meaning: "of customers, those lost in the window: lost_by_churn + lost_by_contraction"}
  lost_by_churn: {type: BIGINT, meaning: "lost by churn"}
  lost_by_contraction: {type: BIGINT, meaning: "lost by contraction alone"}
  true_positives: {type: BIGINT, meaning: "flagged and lost"}
  false_positives: {type: BIGINT, meaning: "flagged and not lost"}
  false_negatives: {type: BIGINT, meaning: "lost and not flagged"}
  precision: {type: "DECIMAL(18,4)", meaning: "true_positives / flagged; empty when none was flagged"}
  recall: {type: "DECIMAL(18,4)", meaning: "true_positives / lost; empty when none was lost"}
  base_rate: {type: "DECIMAL(18,4)", meaning: "lost / customers"}
  median_lead_days: {type: "DECIMAL(9,1)", meaning: "median of the days from as_of to the loss, of the true positives"}
order_by: [as_of DESC, reason]
---*/
WITH days AS (
    SELECT DISTINCT o.as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
),
flag_days AS (
    SELECT
        d.as_of,
        min(e.as_of) FILTER (WHERE e.as_of >= d.as_of + 180) AS evaluated_on,
        count(*) FILTER (WHERE e.as_of > d.as_of AND e.as_of <= d.as_of + 180) AS stored_days
    FROM days AS d
    CROSS JOIN days AS e
    GROUP BY d.as_of
),
organisations AS (
    SELECT o.as_of, o.org_id, o.is_customer, o.seats, o.mrr
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
),
risks AS (
    SELECT
        r.as_of,
        r.org_id,
        r.reasons,
        r.baseline_on,
        list_contains(r.reasons, 'seat_contraction') OR list_contains(r.reasons, 'mrr_contraction') AS has_contracted
    FROM marts.at_risk AS r
    WHERE r.known_at = r.as_of
),
customers AS (
    SELECT
        o.as_of,
        f.evaluated_on,
        o.org_id,
        o.seats,
        o.mrr,
        f.evaluated_on IS NOT NULL AND e.org_id IS NULL AS lacks_outcome,
        r.org_id IS NOT NULL AS is_flagged,
        r.reasons
    FROM organisations AS o
    INNER JOIN flag_days AS f ON f.as_of = o.as_of
    LEFT JOIN organisations AS e ON e.as_of = f.evaluated_on AND e.org_id = o.org_id
    LEFT JOIN risks AS r ON r.as_of = o.as_of AND r.org_id = o.org_id
    WHERE o.is_customer
),
judged AS (
    SELECT c.as_of, c.evaluated_on, c.org_id, c.seats, c.mrr
    FROM customers AS c
    WHERE c.evaluated_on IS NOT NULL AND NOT c.lacks_outcome
),
churned AS (
    SELECT j.as_of, j.org_id, min(c.churn_date) AS lost_on
    FROM judged AS j
    INNER JOIN marts.churn_flags AS c
        ON c.as_of = j.evaluated_on AND c.known_at = j.evaluated_on AND c.org_id = j.org_id
    WHERE c.state IN ('churned', 'reactivated') AND c.churn_date > j.as_of AND c.churn_date <= j.as_of + 180
    GROUP BY j.as_of, j.org_id
),
contracted AS (
    SELECT DISTINCT j.as_of, j.org_id, j.seats, j.mrr
    FROM judged AS j
    INNER JOIN risks AS r
        ON r.org_id = j.org_id AND r.has_contracted AND r.baseline_on >= j.as_of AND r.as_of <= j.as_of + 180
),
shrunk AS (
    SELECT c.as_of, c.org_id, min(o.as_of) AS lost_on
    FROM contracted AS c
    LEFT JOIN organisations AS o
        ON o.org_id = c.org_id
        AND o.as_of > c.as_of
        AND o.as_of <= c.as_of + 180
        AND (o.seats < c.seats OR o.mrr < 0.9 * c.mrr)
    GROUP BY c.as_of, c.org_id
),
verdicts AS (
    SELECT
        c.as_of,
        c.lacks_outcome,
        c.is_flagged,
        c.reasons,
        h.org_id IS NOT NULL AS has_churned,
        h.org_id IS NULL AND s.org_id IS NOT NULL AS has_contracted,
        h.org_id IS NOT NULL OR s.org_id IS NOT NULL AS is_lost,
        CASE WHEN h.org_id IS NOT NULL THEN h.lost_on ELSE s.lost_on END - c.as_of AS lead_days
    FROM customers AS c
    LEFT JOIN churned AS h ON h.as_of = c.as_of AND h.org_id = c.org_id
    LEFT JOIN shrunk AS s ON s.as_of = c.as_of AND s.org_id = c.org_id
),
reasons AS (
    SELECT unnest(['any', 'seat_contraction', 'mrr_contraction', 'nps_detractor']) AS reason
),
totals AS (
    SELECT
        v.as_of,
        count(*) FILTER (WHERE NOT v.lacks_outcome) AS customers,
        count(*) FILTER (WHERE v.lacks_outcome) AS without_outcome,
        count(*) FILTER (WHERE v.has_churned) AS lost_by_churn,
        count(*) FILTER (WHERE v.has_contracted) AS lost_by_contraction,
        count(*) FILTER (WHERE v.is_lost) AS lost
    FROM verdicts AS v
    GROUP BY v.as_of
),
flags AS (
    SELECT
        v.as_of,
        r.reason,
        count(*) AS flagged,
        count(*) FILTER (WHERE v.is_lost) AS hits,
        median(v.lead_days) FILTER (WHERE v.is_lost) AS lead_days
    FROM verdicts AS v
    CROSS JOIN reasons AS r
    WHERE v.is_flagged AND NOT v.lacks_outcome AND (r.reason = 'any' OR list_contains(v.reasons, r.reason))
    GROUP BY v.as_of, r.reason
),
counts AS (
    SELECT
        t.as_of,
        r.reason,
        t.customers,
        t.without_outcome,
        t.lost_by_churn,
        t.lost_by_contraction,
        t.lost,
        coalesce(f.flagged, 0) AS flagged,
        coalesce(f.hits, 0) AS hits,
        f.lead_days
    FROM totals AS t
    CROSS JOIN reasons AS r
    LEFT JOIN flags AS f ON f.as_of = t.as_of AND f.reason = r.reason
)
SELECT
    f.as_of,
    r.reason,
    CASE WHEN f.evaluated_on IS NULL THEN 'pending' ELSE 'complete' END AS status,
    f.as_of + 180 AS window_end,
    f.evaluated_on,
    f.stored_days,
    coalesce(c.customers, 0) AS customers,
    CASE WHEN f.evaluated_on IS NOT NULL THEN coalesce(c.without_outcome, 0) END AS without_outcome,
    coalesce(c.flagged, 0) AS flagged,
    CASE WHEN f.evaluated_on IS NOT NULL THEN coalesce(c.lost, 0) END AS lost,
    CASE WHEN f.evaluated_on IS NOT NULL THEN coalesce(c.lost_by_churn, 0) END AS lost_by_churn,
    CASE WHEN f.evaluated_on IS NOT NULL THEN coalesce(c.lost_by_contraction, 0) END AS lost_by_contraction,
    CASE WHEN f.evaluated_on IS NOT NULL THEN coalesce(c.hits, 0) END AS true_positives,
    CASE WHEN f.evaluated_on IS NOT NULL THEN coalesce(c.flagged - c.hits, 0) END AS false_positives,
    CASE WHEN f.evaluated_on IS NOT NULL THEN coalesce(c.lost - c.hits, 0) END AS false_negatives,
    CASE
        WHEN f.evaluated_on IS NOT NULL AND c.flagged > 0
            THEN CAST(round(CAST(c.hits AS DOUBLE) / c.flagged, 4) AS DECIMAL(18, 4))
    END AS precision,
    CASE
        WHEN f.evaluated_on IS NOT NULL AND c.lost > 0
            THEN CAST(round(CAST(c.hits AS DOUBLE) / c.lost, 4) AS DECIMAL(18, 4))
    END AS recall,
    CASE
        WHEN f.evaluated_on IS NOT NULL AND c.customers > 0
            THEN CAST(round(CAST(c.lost AS DOUBLE) / c.customers, 4) AS DECIMAL(18, 4))
    END AS base_rate,
    CAST(c.lead_days AS DECIMAL(9, 1)) AS median_lead_days
FROM flag_days AS f
CROSS JOIN reasons AS r
LEFT JOIN counts AS c ON c.as_of = f.as_of AND c.reason = r.reason
