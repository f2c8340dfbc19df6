/*---
description: >
  Renewal forecasts of earlier days against what became of the renewals: one row for each period of
  marts.renewal_forecast that is over by the latest day, and each number of whole months ahead at which it was forecast.
  lead_months 0 is the forecast of the last stored day before the month of the period, 1 that of the last stored day of
  the month before, and so on, as it was published (known_at = as_of). Compared are exactly the contracts that it
  counted: in scope, MRR known, renew_by in the period. The outcome is that of the first stored day not before the end
  of the period. A contract that runs on then has renewed its MRR of that day, at most the MRR that was due (what is
  above it is upsell); but none of it where its deal is lost or its end is known while the term that was up still
  lasts. Where that term still lasts otherwise and no deal is won, its MRR counts as renewed and is told in undecided_mrr; so
  is the MRR that was due of a contract that runs on with an unknown MRR. A contract that no longer runs has renewed nothing, except what contracts of its organisation that did not run on the
  day of the forecast brought instead, for all of the organisation at most what it lost. All at the exchange rates of
  the day of the forecast, where the currency is the same on both days. Error is forecast less outcome: above 0 the
  forecast promised too much. Empty where there was nothing to be renewed; a share is empty when nothing was renewed.
grain: [period_start, period_end, lead_months]
columns:
  period_start: {type: DATE, meaning: "first day of the period that was forecast", not_null: true}
  period_end: {type: DATE, meaning: "last day, inclusive", not_null: true}
  lead_months: {type: BIGINT, meaning: "whole months between the day of the forecast and the period", not_null: true}
  forecast_as_of: {type: DATE, meaning: "stored day whose forecast it is", not_null: true}
  outcome_as_of: {type: DATE, meaning: "stored day whose state is the outcome", not_null: true}
  contracts: {type: BIGINT, meaning: "contracts that were to be renewed", not_null: true}
  renewed_contracts: {type: BIGINT, meaning: "of these, with renewed MRR of their own, a successor's aside", not_null: true}
  renewals_due_mrr: {type: "DECIMAL(18,2)", meaning: "their MRR on the day of the forecast", not_null: true}
  renewal_forecast_mrr: {type: "DECIMAL(18,2)", meaning: "MRR that was expected to be renewed", not_null: true}
  actual_renewed_mrr: {type: "DECIMAL(18,2)", meaning: "MRR that was renewed; empty without a contract"}
  undecided_mrr: {type: "DECIMAL(18,2)", meaning: "part of it that may yet change: the term still lasted on outcome_as_of without a won deal, or the MRR was unknown then; empty without a contract"}
  error_mrr: {type: "DECIMAL(18,2)", meaning: "renewal_forecast_mrr - actual_renewed_mrr; above 0 = promised too much"}
  absolute_error_pct: {type: "DECIMAL(18,4)", meaning: "error_mrr without its sign / actual_renewed_mrr"}
  upsell_forecast_mrr: {type: "DECIMAL(18,2)", meaning: "MRR that was expected above the MRR due", not_null: true}
  actual_upsell_mrr: {type: "DECIMAL(18,2)", meaning: "MRR of contracts that run on, above what was due; empty without a contract"}
  mean_absolute_error_pct: {type: "DECIMAL(18,4)", meaning: "mean of absolute_error_pct over this and the earlier periods with the same lead_months"}
  bias_pct: {type: "DECIMAL(18,4)", meaning: "sum of error_mrr / sum of actual_renewed_mrr over the same periods: above 0 = forecasts of this lead promise too much"}
order_by: [period_start DESC, lead_months]
---*/
WITH days AS (
    SELECT DISTINCT o.as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
),
forecasts AS (
    SELECT
        f.as_of AS forecast_as_of,
        f.period_start,
        f.period_end,
        f.renewals_due_mrr,
        f.renewal_forecast_mrr,
        f.upsell_forecast_mrr,
        12 * (year(f.period_start) - year(f.as_of)) + month(f.period_start) - month(f.as_of) - 1 AS lead_months
    FROM marts.renewal_forecast AS f
    WHERE f.known_at = f.as_of
    QUALIFY
        row_number() OVER (
            PARTITION BY
                f.period_start,
                f.period_end,
                12 * (year(f.period_start) - year(f.as_of)) + month(f.period_start) - month(f.as_of) - 1
            ORDER BY f.as_of DESC
        ) = 1
),
snapshots AS (
    SELECT
        f.forecast_as_of,
        f.period_start,
        f.period_end,
        f.renewals_due_mrr,
        f.renewal_forecast_mrr,
        f.upsell_forecast_mrr,
        f.lead_months,
        min(d.as_of) AS outcome_as_of
    FROM forecasts AS f
    INNER JOIN days AS d ON d.as_of >= f.period_end
    WHERE f.lead_months >= 0
    GROUP BY ALL
),
outcomes AS (
    SELECT
        s.period_start,
        s.period_end,
        s.lead_months,
        s.forecast_as_of,
        s.outcome_as_of,
        r.renewal_id,
        r.org_id,
        r.mrr_at_stake AS due_mrr,
        CASE
            WHEN n.renewal_id IS NULL THEN 0
            WHEN r.term_end > s.outcome_as_of AND (n.status = 'lost' OR n.scheduled_cancel) THEN 0
            WHEN n.currency = r.currency AND r.mrr_native > 0
                THEN round(r.mrr_at_stake * CAST(n.mrr_native AS DOUBLE) / CAST(r.mrr_native AS DOUBLE), 2)
            ELSE n.mrr_at_stake
        END AS known_mrr_then,
        n.renewal_id IS NULL AS has_ended,
        coalesce(r.term_end > s.outcome_as_of AND n.status <> 'renewed', false) AS is_early
    FROM snapshots AS s
    INNER JOIN marts.renewal_pipeline AS r
        ON r.as_of = s.forecast_as_of
        AND r.known_at = s.forecast_as_of
        AND r.in_scope
        AND r.mrr_at_stake IS NOT NULL
        AND r.renew_by BETWEEN s.period_start AND s.period_end
    LEFT JOIN marts.renewal_pipeline AS n
        ON n.as_of = s.outcome_as_of AND n.known_at = s.outcome_as_of AND n.renewal_id = r.renewal_id
),
due AS (
    SELECT
        o.period_start,
        o.period_end,
        o.lead_months,
        o.forecast_as_of,
        o.outcome_as_of,
        o.org_id,
        o.due_mrr,
        o.has_ended,
        coalesce(o.known_mrr_then, o.due_mrr) AS mrr_then,
        o.is_early OR o.known_mrr_then IS NULL AS is_undecided
    FROM outcomes AS o
),
ended AS (
    SELECT d.period_start, d.period_end, d.lead_months, d.forecast_as_of, d.outcome_as_of, d.org_id, sum(d.due_mrr) AS lost_mrr
    FROM due AS d
    WHERE d.has_ended
    GROUP BY d.period_start, d.period_end, d.lead_months, d.forecast_as_of, d.outcome_as_of, d.org_id
),
followed AS (
    SELECT e.period_start, e.period_end, e.lead_months, least(e.lost_mrr, sum(n.mrr_at_stake)) AS mrr
    FROM ended AS e
    INNER JOIN marts.renewal_pipeline AS n
        ON n.as_of = e.outcome_as_of AND n.known_at = e.outcome_as_of AND n.org_id = e.org_id
    LEFT JOIN marts.renewal_pipeline AS b
        ON b.as_of = e.forecast_as_of AND b.known_at = e.forecast_as_of AND b.renewal_id = n.renewal_id
    WHERE b.renewal_id IS NULL AND n.mrr_at_stake > 0
    GROUP BY e.period_start, e.period_end, e.lead_months, e.org_id, e.lost_mrr
),
successors AS (
    SELECT f.period_start, f.period_end, f.lead_months, sum(f.mrr) AS mrr
    FROM followed AS f
    GROUP BY f.period_start, f.period_end, f.lead_months
),
sums AS (
    SELECT
        d.period_start,
        d.period_end,
        d.lead_months,
        count(*) AS contracts,
        count(*) FILTER (WHERE d.mrr_then > 0) AS renewed_contracts,
        coalesce(sum(least(d.mrr_then, d.due_mrr)), 0) AS kept_mrr,
        coalesce(sum(greatest(d.mrr_then - d.due_mrr, 0)), 0) AS upsell_mrr,
        coalesce(sum(least(d.mrr_then, d.due_mrr)) FILTER (WHERE d.is_undecided), 0) AS undecided_mrr
    FROM due AS d
    GROUP BY d.period_start, d.period_end, d.lead_months
),
compared AS (
    SELECT
        s.period_start,
        s.period_end,
        s.lead_months,
        s.forecast_as_of,
        s.outcome_as_of,
        coalesce(t.contracts, 0) AS contracts,
        coalesce(t.renewed_contracts, 0) AS renewed_contracts,
        s.renewals_due_mrr,
        s.renewal_forecast_mrr,
        s.upsell_forecast_mrr,
        CASE WHEN t.contracts > 0 THEN CAST(t.kept_mrr + coalesce(f.mrr, 0) AS DECIMAL(18, 2)) END AS actual,
        CAST(t.upsell_mrr AS DECIMAL(18, 2)) AS actual_upsell_mrr,
        CAST(t.undecided_mrr AS DECIMAL(18, 2)) AS undecided_mrr
    FROM snapshots AS s
    LEFT JOIN sums AS t
        ON t.period_start = s.period_start AND t.period_end = s.period_end AND t.lead_months = s.lead_months
    LEFT JOIN successors AS f
        ON f.period_start = s.period_start AND f.period_end = s.period_end AND f.lead_months = s.lead_months
),
errors AS (
    SELECT
        c.*,
        CAST(c.renewal_forecast_mrr - c.actual AS DECIMAL(18, 2)) AS error_mrr,
        CASE
            WHEN c.actual > 0
                THEN CAST(abs(c.renewal_forecast_mrr - c.actual) AS DOUBLE) / CAST(c.actual AS DOUBLE)
        END AS share
    FROM compared AS c
)
SELECT
    e.period_start,
    e.period_end,
    e.lead_months,
    e.forecast_as_of,
    e.outcome_as_of,
    e.contracts,
    e.renewed_contracts,
    e.renewals_due_mrr,
    e.renewal_forecast_mrr,
    e.actual AS actual_renewed_mrr,
    e.undecided_mrr,
    e.error_mrr,
    CAST(round(e.share, 4) AS DECIMAL(18, 4)) AS absolute_error_pct,
    e.upsell_forecast_mrr,
    e.actual_upsell_mrr,
    CAST(round(avg(e.share) OVER so_far, 4) AS DECIMAL(18, 4)) AS mean_absolute_error_pct,
    CASE
        WHEN sum(e.actual) OVER so_far > 0
            THEN CAST(
                round(CAST(sum(e.error_mrr) OVER so_far AS DOUBLE) / CAST(sum(e.actual) OVER so_far AS DOUBLE), 4)
                AS DECIMAL(18, 4)
            )
    END AS bias_pct
FROM errors AS e
WINDOW so_far AS (
    PARTITION BY e.lead_months ORDER BY e.period_start, e.period_end ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
)
