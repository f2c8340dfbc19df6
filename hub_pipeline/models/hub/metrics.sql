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
    CASE WHEN x.won > 0 THEN CAST(round(CAST(x.in_time AS DOUBLE) / x.won, 4) AS DECIMAL(18, 4)) END AS renewed_in_lead_time
FROM marts.mrr_waterfall AS w
LEFT JOIN marts.retention AS r ON r.as_of = w.as_of AND r.known_at = w.known_at
LEFT JOIN marts.nps AS n ON n.as_of = w.as_of AND n.known_at = w.known_at
LEFT JOIN marts.renewal_rate AS q ON q.as_of = w.as_of AND q.known_at = w.known_at
LEFT JOIN wins AS x ON x.as_of = w.as_of
WHERE w.known_at = w.as_of
