/*---
description: >
  Seats and MRR of each organisation as steps, from the start of the longest window to as_of: the values hold at the
  close of every day X with from_on <= X and (to_on empty or X < to_on). Before its first row an organisation has 0.
  Sums over its running subscriptions; a subscription whose seats are unknown adds none and is counted in
  seats_unknown; one whose MRR is unknown likewise in mrr_unknown. MRR is at the exchange rate of as_of on all days.
  Everything before as_of - greatest(growth.days, contraction.days), or before the day before the metrics period if that
  is earlier, is folded into that day.
grain: [org_id, from_on]
columns:
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  from_on: {type: DATE, meaning: "first day of the step", not_null: true}
  to_on: {type: DATE, meaning: "first day after the step; empty = holds at as_of"}
  seats: {type: BIGINT, meaning: "seats of running subscriptions", not_null: true}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR of running subscriptions whose MRR is known", not_null: true}
  seats_unknown: {type: BIGINT, meaning: "running subscriptions with unknown seats", not_null: true}
  mrr_unknown: {type: BIGINT, meaning: "running subscriptions with unknown MRR", not_null: true}
---*/
WITH window_start AS (
    SELECT
        least(
            CAST($as_of AS DATE) - greatest(CAST($growth_days AS INTEGER), CAST($contraction_days AS INTEGER)),
            p.opening_on
        ) AS day
    FROM intermediate.metrics_period AS p
),
running AS (
    SELECT
        i.org_id,
        greatest(i.from_on, w.day) AS from_on,
        i.to_on,
        coalesce(i.seats, 0) AS seats,
        coalesce(i.mrr, 0) AS mrr,
        CASE WHEN i.seats IS NULL THEN 1 ELSE 0 END AS seats_unknown,
        CASE WHEN i.mrr IS NULL THEN 1 ELSE 0 END AS mrr_unknown
    FROM intermediate.subscription_intervals AS i
    CROSS JOIN window_start AS w
    WHERE
        i.is_running
        AND i.from_on <= $as_of
        AND (i.to_on IS NULL OR (i.to_on > i.from_on AND i.to_on > w.day))
),
changes AS (
    SELECT org_id, from_on AS day, seats, mrr, seats_unknown, mrr_unknown
    FROM running
    UNION ALL
    SELECT org_id, to_on AS day, -seats AS seats, -mrr AS mrr, -seats_unknown AS seats_unknown, -mrr_unknown AS mrr_unknown
    FROM running
    WHERE to_on <= $as_of
),
days AS (
    SELECT
        org_id,
        day,
        sum(seats) AS seats,
        sum(mrr) AS mrr,
        sum(seats_unknown) AS seats_unknown,
        sum(mrr_unknown) AS mrr_unknown
    FROM changes
    GROUP BY org_id, day
)
SELECT
    org_id,
    day AS from_on,
    lead(day) OVER by_day AS to_on,
    CAST(sum(seats) OVER by_day AS BIGINT) AS seats,
    CAST(sum(mrr) OVER by_day AS DECIMAL(18, 2)) AS mrr,
    CAST(sum(seats_unknown) OVER by_day AS BIGINT) AS seats_unknown,
    CAST(sum(mrr_unknown) OVER by_day AS BIGINT) AS mrr_unknown
FROM days
WINDOW by_day AS (PARTITION BY org_id ORDER BY day)
