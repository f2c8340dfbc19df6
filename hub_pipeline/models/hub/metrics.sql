/*---
description: >
  The company's figures on each stored day: the waterfall of the month so far, retention over a year, NPS, and the
  renewal rate of the month. Ordered by day, latest first.
grain: [as_of]
columns:
  as_of: {type: DATE, meaning: "day", not_null: true}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR at the close of the day, reporting currency"}
  period_start: {type: DATE, meaning: "first day of the month (or of the metrics period)"}
  opening: {type: "DECIMAL(18,2)", meaning: "MRR at the close of the day before the period"}
  new: {type: "DECIMAL(18,2)", meaning: "MRR of accounts that never had any before"}
  reactivation: {type: "DECIMAL(18,2)", meaning: "of accounts that came back"}
  expansion: {type: "DECIMAL(18,2)", meaning: "of accounts that grew"}
  contraction: {type: "DECIMAL(18,2)", meaning: "of accounts that shrank"}
  churn: {type: "DECIMAL(18,2)", meaning: "of accounts that have nothing left"}
  paused: {type: "DECIMAL(18,2)", meaning: "of subscriptions that were paused"}
  resumed: {type: "DECIMAL(18,2)", meaning: "of subscriptions that came out of a pause"}
  fx: {type: "DECIMAL(18,2)", meaning: "effect of exchange rates"}
  nrr: {type: "DECIMAL(18,4)", meaning: "net revenue retention over a year"}
  grr: {type: "DECIMAL(18,4)", meaning: "gross revenue retention over a year"}
  logo_retention: {type: "DECIMAL(18,4)", meaning: "accounts of a year ago that still pay"}
  nps: {type: "DECIMAL(5,1)", meaning: "net promoter score"}
  nps_responses: {type: BIGINT, meaning: "answers it rests on"}
  gross_renewal_rate: {type: "DECIMAL(18,4)", meaning: "of the terms that ended in the period by the day"}
  net_renewal_rate: {type: "DECIMAL(18,4)", meaning: "the same with what was added at renewal"}
  renewed_in_lead_time: {type: "DECIMAL(18,4)", meaning: "share of the renewals won that were won renewal.lead_days or more ahead; empty = none was won"}
  crm_difference_pct: {type: "DECIMAL(18,4)", meaning: "MRR by the CRM less MRR by billing / the latter, over the organisations in scope that both know; marts.tie_out"}
  deal_difference_pct: {type: "DECIMAL(18,4)", meaning: "amounts of renewal deals in scope less the MRR of their contracts / the latter"}
  invoice_difference_pct: {type: "DECIMAL(18,4)", meaning: "a month of what was invoiced less MRR by billing / the latter, over the organisations that have both"}
order_by: [as_of DESC]
---*/
WITH wins AS (
    SELECT
        p.as_of,
        count(*) AS won,
        count(*) FILTER (WHERE NOT p.missed_lead_target) AS in_time
    FROM marts.renewal_pipeline AS p
    WHERE p.known_at = p.as_of AND p.status = 'renewed' AND p.in_scope
    GROUP BY p.as_of
),
ties AS (
    SELECT
        t.as_of,
        sum(t.crm_difference) FILTER (WHERE t.in_scope) AS crm_difference,
        sum(t.billing_mrr) FILTER (WHERE t.in_scope AND t.crm_mrr IS NOT NULL) AS crm_base,
        sum(t.deal_difference) AS deal_difference,
        sum(t.deal_contracts_mrr) AS deal_base,
        sum(t.invoice_difference) AS invoice_difference,
        sum(t.billing_mrr) FILTER (WHERE t.invoiced_mrr IS NOT NULL) AS invoice_base
    FROM marts.tie_out AS t
    WHERE t.known_at = t.as_of
    GROUP BY t.as_of
)
SELECT
    w.as_of,
    w.closing AS mrr,
    w.period_start,
    w.opening,
    w.new,
    w.reactivation,
    w.expansion,
    w.contraction,
    w.churn,
    w.paused,
    w.resumed,
    w.fx,
    r.nrr,
    r.grr,
    r.logo_retention,
    n.nps,
    n.responses AS nps_responses,
    q.gross_renewal_rate,
    q.net_renewal_rate,
    CASE WHEN x.won > 0 THEN CAST(round(CAST(x.in_time AS DOUBLE) / x.won, 4) AS DECIMAL(18, 4)) END AS renewed_in_lead_time,
    CASE WHEN t.crm_base > 0 THEN CAST(round(CAST(t.crm_difference AS DOUBLE) / CAST(t.crm_base AS DOUBLE), 4) AS DECIMAL(18, 4)) END AS crm_difference_pct,
    CASE WHEN t.deal_base > 0 THEN CAST(round(CAST(t.deal_difference AS DOUBLE) / CAST(t.deal_base AS DOUBLE), 4) AS DECIMAL(18, 4)) END AS deal_difference_pct,
    CASE WHEN t.invoice_base > 0 THEN CAST(round(CAST(t.invoice_difference AS DOUBLE) / CAST(t.invoice_base AS DOUBLE), 4) AS DECIMAL(18, 4)) END AS invoice_difference_pct
FROM marts.mrr_waterfall AS w
LEFT JOIN marts.retention AS r ON r.as_of = w.as_of AND r.known_at = w.known_at
LEFT JOIN marts.nps AS n ON n.as_of = w.as_of AND n.known_at = w.known_at
LEFT JOIN marts.renewal_rate AS q ON q.as_of = w.as_of AND q.known_at = w.known_at
LEFT JOIN wins AS x ON x.as_of = w.as_of
LEFT JOIN ties AS t ON t.as_of = w.as_of
WHERE w.known_at = w.as_of
