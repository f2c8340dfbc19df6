/*---
description: >
  What each organisation lost between the close of as_of - contraction.days and the close of as_of, without what moved
  with joint plans: handed over within the window is added back, taken over is taken off. At one exchange rate, that of
  as_of. A drop is empty when any seats (or MRR) at either end are unknown. High: the drop reaches contraction.seats_pct
  of the baseline and contraction.seats_min, MRR likewise, all inclusive; with a baseline of 0 it never is.
  Organisations without a step or a transfer in the window have no row.
grain: [org_id]
columns:
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  seats_baseline: {type: BIGINT, meaning: "seats at the start of the window", not_null: true}
  mrr_baseline: {type: "DECIMAL(18,2)", meaning: "MRR at the start of the window", not_null: true}
  seats_in: {type: BIGINT, meaning: "seats taken over with joint plans", not_null: true}
  seats_out: {type: BIGINT, meaning: "seats handed over to the payer of a joint plan", not_null: true}
  mrr_in: {type: "DECIMAL(18,2)", meaning: "MRR taken over with joint plans", not_null: true}
  mrr_out: {type: "DECIMAL(18,2)", meaning: "MRR handed over to the payer of a joint plan", not_null: true}
  seats_peak: {type: BIGINT, meaning: "most seats at any close of the window", not_null: true}
  mrr_peak: {type: "DECIMAL(18,2)", meaning: "highest MRR at any close of the window", not_null: true}
  seat_drop: {type: BIGINT, meaning: "organic seats lost; negative when it grew; empty = unknown"}
  mrr_drop: {type: "DECIMAL(18,2)", meaning: "organic MRR lost; negative when it grew; empty = unknown"}
  is_seat_contraction: {type: BOOLEAN, meaning: "high contraction of seats", not_null: true}
  is_mrr_contraction: {type: BOOLEAN, meaning: "high contraction of MRR", not_null: true}
---*/
WITH period AS (
    SELECT CAST($as_of AS DATE) - CAST($contraction_days AS INTEGER) AS baseline_on
),
steps AS (
    SELECT
        s.org_id,
        s.seats,
        s.mrr,
        s.seats_unknown,
        s.mrr_unknown,
        s.from_on <= p.baseline_on AS holds_before,
        s.to_on IS NULL AS holds_now
    FROM intermediate.organisation_segments AS s
    CROSS JOIN period AS p
    WHERE s.to_on IS NULL OR s.to_on > p.baseline_on
),
parts AS (
    SELECT
        org_id,
        CASE WHEN holds_before THEN seats ELSE 0 END AS seats_before,
        CASE WHEN holds_before THEN mrr ELSE 0 END AS mrr_before,
        CASE WHEN holds_now THEN seats ELSE 0 END AS seats_now,
        CASE WHEN holds_now THEN mrr ELSE 0 END AS mrr_now,
        CASE WHEN holds_before OR holds_now THEN seats_unknown ELSE 0 END AS seats_unknown,
        CASE WHEN holds_before OR holds_now THEN mrr_unknown ELSE 0 END AS mrr_unknown,
        seats,
        mrr,
        0 AS seats_in,
        0 AS mrr_in,
        0 AS seats_out,
        0 AS mrr_out
    FROM steps
    UNION ALL
    SELECT
        t.payer_org_id AS org_id,
        0 AS seats_before, 0 AS mrr_before, 0 AS seats_now, 0 AS mrr_now, 0 AS seats_unknown, 0 AS mrr_unknown,
        0 AS seats, 0 AS mrr,
        t.seats AS seats_in, t.mrr AS mrr_in, 0 AS seats_out, 0 AS mrr_out
    FROM intermediate.seat_transfers AS t
    CROSS JOIN period AS p
    WHERE t.starts_on > p.baseline_on
    UNION ALL
    SELECT
        t.child_org_id AS org_id,
        0 AS seats_before, 0 AS mrr_before, 0 AS seats_now, 0 AS mrr_now, 0 AS seats_unknown, 0 AS mrr_unknown,
        0 AS seats, 0 AS mrr,
        0 AS seats_in, 0 AS mrr_in, t.seats AS seats_out, t.mrr AS mrr_out
    FROM intermediate.seat_transfers AS t
    CROSS JOIN period AS p
    WHERE t.starts_on > p.baseline_on
),
sums AS (
    SELECT
        org_id,
        sum(seats_before) AS seats_before,
        sum(mrr_before) AS mrr_before,
        sum(seats_now) AS seats_now,
        sum(mrr_now) AS mrr_now,
        sum(seats_unknown) AS seats_unknown,
        sum(mrr_unknown) AS mrr_unknown,
        max(seats) AS seats_peak,
        max(mrr) AS mrr_peak,
        sum(seats_in) AS seats_in,
        sum(mrr_in) AS mrr_in,
        sum(seats_out) AS seats_out,
        sum(mrr_out) AS mrr_out
    FROM parts
    GROUP BY org_id
),
drops AS (
    SELECT
        *,
        CASE WHEN seats_unknown = 0 THEN seats_before - seats_now + seats_in - seats_out END AS seat_drop,
        CASE WHEN mrr_unknown = 0 THEN mrr_before - mrr_now + mrr_in - mrr_out END AS mrr_drop
    FROM sums
)
SELECT
    org_id,
    CAST(seats_before AS BIGINT) AS seats_baseline,
    CAST(mrr_before AS DECIMAL(18, 2)) AS mrr_baseline,
    CAST(seats_in AS BIGINT) AS seats_in,
    CAST(seats_out AS BIGINT) AS seats_out,
    CAST(mrr_in AS DECIMAL(18, 2)) AS mrr_in,
    CAST(mrr_out AS DECIMAL(18, 2)) AS mrr_out,
    CAST(seats_peak AS BIGINT) AS seats_peak,
    CAST(mrr_peak AS DECIMAL(18, 2)) AS mrr_peak,
    CAST(seat_drop AS BIGINT) AS seat_drop,
    CAST(mrr_drop AS DECIMAL(18, 2)) AS mrr_drop,
    coalesce(
        seats_before > 0
        AND seat_drop > 0
        AND seat_drop >= seats_before * CAST($contraction_seats_pct AS DECIMAL(9, 6))
        AND seat_drop >= $contraction_seats_min,
        false
    ) AS is_seat_contraction,
    coalesce(
        mrr_before > 0
        AND mrr_drop > 0
        AND mrr_drop >= mrr_before * CAST($contraction_mrr_pct AS DECIMAL(9, 6))
        AND mrr_drop >= $contraction_mrr_min,
        false
    ) AS is_mrr_contraction
FROM drops
