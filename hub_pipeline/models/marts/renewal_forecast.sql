/*---
description: >
  What the contracts in scope that are to be renewed in a month will bring, a row for the calendar month of the day
  after as_of and each of the eleven after it; with metrics.period_start and period_end one row for that period.
  Contracts are those of marts.renewal_pipeline with renew_by in the period. Due: their MRR. Forecast: the lower of MRR
  and the deal's amount, times the probability: 0 lost or with a known end, even if renewed; 1 renewed; renewal.stage_probability of the
  stage of an open deal, else the stage's own in HubSpot; without a deal the probability _missing of the settings. An
  amount with a finding (annual, mismatch, other currency, ...) is ignored. Upsell is what an open or won deal's amount
  is above the MRR, times the same probability, and stands apart. Contracts without any probability (an
  open deal whose stage has none, no deal while the settings have no _missing) add nothing and are counted. Amounts in
  the reporting currency at the rates of as_of, each rounded to cents; sums of expected amounts are rounded once.
grain: [as_of, known_at, period_start]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  period_start: {type: DATE, meaning: "first day", not_null: true}
  period_end: {type: DATE, meaning: "last day, inclusive", not_null: true}
  contracts: {type: BIGINT, meaning: "contracts in scope to be renewed in the period", not_null: true}
  without_probability: {type: BIGINT, meaning: "of these, contracts whose probability is not known", not_null: true}
  renewals_due_mrr: {type: "DECIMAL(18,2)", meaning: "their MRR", not_null: true}
  renewed_mrr: {type: "DECIMAL(18,2)", meaning: "MRR of those that are already renewed", not_null: true}
  renewal_forecast_mrr: {type: "DECIMAL(18,2)", meaning: "expected MRR", not_null: true}
  upsell_forecast_mrr: {type: "DECIMAL(18,2)", meaning: "expected MRR above today's", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH RECURSIVE months AS (
    SELECT
        coalesce(
            CAST($metrics_period_start AS DATE),
            CAST(date_trunc('month', CAST($as_of AS DATE) + 1) AS DATE)
        ) AS starts_on,
        1 AS number
    UNION ALL
    SELECT CAST(starts_on + INTERVAL '1' MONTH AS DATE) AS starts_on, number + 1 AS number
    FROM months
    WHERE number < 12 AND CAST($metrics_period_start AS DATE) IS NULL
),
periods AS (
    SELECT starts_on, coalesce(CAST($metrics_period_end AS DATE), last_day(starts_on)) AS ends_on
    FROM months
),
settings_probabilities AS (
    SELECT
        unnest(CAST($renewal_stage_probability_keys AS VARCHAR[])) AS stage,
        unnest(CAST($renewal_stage_probability_values AS DECIMAL(18, 4)[])) AS probability
),
stage_probabilities AS (
    SELECT stage, probability
    FROM staging.stages
    WHERE recorded_at < $close_known_at AND pipeline = 'post_sales'
    QUALIFY
        row_number() OVER (PARTITION BY stage ORDER BY recorded_at DESC) = 1
),
contracts AS (
    SELECT
        r.renew_by,
        r.mrr_at_stake AS mrr,
        r.status,
        CASE
            WHEN r.scheduled_cancel OR r.status = 'lost' THEN 0
            WHEN r.status = 'renewed' THEN 1
            WHEN r.status = 'open' THEN coalesce(s.probability, h.probability)
            ELSE m.probability
        END AS probability,
        CASE
            WHEN
                r.deal_amount > 0
                AND NOT list_contains(r.hygiene, 'amount_looks_annual')
                AND NOT list_contains(r.hygiene, 'amount_looks_monthly')
                AND NOT list_contains(r.hygiene, 'amount_looks_multi_year')
                AND NOT list_contains(r.hygiene, 'amount_mismatch')
                AND NOT list_contains(r.hygiene, 'currency_mismatch')
                -- a division would make a binary fraction of it: only annual amounts need one
                THEN CAST(
                    CASE
                        WHEN $renewal_deal_amount_basis = 'arr'
                            THEN round(r.deal_amount * CASE WHEN r.deal_currency = $reporting_currency THEN 1 ELSE f.rate END / 12, 2)
                        ELSE round(r.deal_amount * CASE WHEN r.deal_currency = $reporting_currency THEN 1 ELSE f.rate END, 2)
                    END AS DECIMAL(18, 2)
                )
        END AS amount
    FROM marts.renewal_pipeline AS r
    LEFT JOIN settings_probabilities AS s ON r.stage = s.stage
    LEFT JOIN stage_probabilities AS h ON r.stage = h.stage
    LEFT JOIN settings_probabilities AS m ON m.stage = '_missing'
    LEFT JOIN intermediate.fx_intervals AS f
        ON r.deal_currency = f.currency AND f.from_on <= $as_of AND (f.to_on IS NULL OR f.to_on > $as_of)
    WHERE r.as_of = $as_of AND r.known_at = $known_at AND r.in_scope
),
expected AS (
    SELECT
        renew_by,
        mrr,
        status,
        probability IS NULL AS lacks_probability,
        least(mrr, coalesce(amount, mrr)) * coalesce(probability, 0) AS forecast,
        greatest(coalesce(amount, mrr) - mrr, 0) * coalesce(probability, 0) AS upsell
    FROM contracts
    WHERE mrr IS NOT NULL
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    p.starts_on AS period_start,
    p.ends_on AS period_end,
    count(e.mrr) AS contracts,
    count(*) FILTER (WHERE e.lacks_probability) AS without_probability,
    CAST(coalesce(sum(e.mrr), 0) AS DECIMAL(18, 2)) AS renewals_due_mrr,
    CAST(coalesce(sum(e.mrr) FILTER (WHERE e.status = 'renewed'), 0) AS DECIMAL(18, 2)) AS renewed_mrr,
    CAST(round(coalesce(sum(e.forecast), 0), 2) AS DECIMAL(18, 2)) AS renewal_forecast_mrr,
    CAST(round(coalesce(sum(e.upsell), 0), 2) AS DECIMAL(18, 2)) AS upsell_forecast_mrr,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM periods AS p
LEFT JOIN expected AS e ON e.renew_by BETWEEN p.starts_on AND p.ends_on
GROUP BY p.starts_on, p.ends_on
