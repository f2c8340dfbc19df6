/*---
description: >
  Subscriptions and CRM contracts that run as a paid plan at the close of as_of: what can be renewed. In scope:
  (enterprise plan and MRR > renewal.enterprise_mrr_over) or (term of at least one year and MRR > renewal.mrr_over);
  exactly at the threshold is out. The term is term_end - term_start, else the billing interval.
grain: [subscription_id]
columns:
  subscription_id: {type: VARCHAR, meaning: "subscription or contract", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  plan: {type: VARCHAR, meaning: "plan"}
  billing_interval: {type: VARCHAR, meaning: "billing interval"}
  currency: {type: VARCHAR, meaning: "native currency"}
  mrr_native: {type: "DECIMAL(18,2)", meaning: "MRR, native currency"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR, reporting currency"}
  term_end_on: {type: DATE, meaning: "local day of the exclusive end of the term"}
  previous_term_end_on: {type: DATE, meaning: "end of the term before: the last earlier term end of its versions, else the start of the term when it was paid for before"}
  scheduled_end_on: {type: DATE, meaning: "known end by cancellation, after as_of"}
  is_enterprise: {type: BOOLEAN, meaning: "plan is one of renewal.enterprise_plans", not_null: true}
  is_annual: {type: BOOLEAN, meaning: "term of at least one year", not_null: true}
  in_scope: {type: BOOLEAN, meaning: "belongs on the renewal pipeline", not_null: true}
---*/
WITH running AS (
    SELECT
        s.subscription_id,
        s.org_id,
        s.plan,
        s.billing_interval,
        s.currency,
        s.mrr_native,
        s.mrr,
        local_date(s.term_start, $reporting_tz) AS term_start_on,
        s.term_end_on,
        coalesce(list_contains(CAST($renewal_enterprise_plans AS VARCHAR[]), lower(s.plan)), false) AS is_enterprise,
        coalesce(
            s.term_end_on >= CAST(local_date(s.term_start, $reporting_tz) + INTERVAL '1' YEAR AS DATE),
            s.billing_interval IN ('year', 'two_years'),
            false
        ) AS is_annual
    FROM intermediate.subscription_intervals AS s
    WHERE
        s.is_paid
        AND s.from_on <= CAST($as_of AS DATE)
        AND (s.to_on IS NULL OR s.to_on > CAST($as_of AS DATE))
),
history AS (
    SELECT
        r.subscription_id,
        min(s.from_on) FILTER (WHERE s.is_paid) AS first_paid_on,
        max(s.term_end_on) FILTER (WHERE s.term_end_on < r.term_end_on) AS previous_term_end_on
    FROM running AS r
    INNER JOIN intermediate.subscription_intervals AS s
        ON s.subscription_id = r.subscription_id AND s.from_on <= CAST($as_of AS DATE)
    GROUP BY r.subscription_id
)
SELECT
    r.subscription_id,
    r.org_id,
    r.plan,
    r.billing_interval,
    r.currency,
    r.mrr_native,
    r.mrr,
    r.term_end_on,
    coalesce(
        h.previous_term_end_on,
        CASE WHEN r.term_start_on > h.first_paid_on THEN r.term_start_on END
    ) AS previous_term_end_on,
    CASE WHEN NOT e.is_withdrawn AND e.end_on > CAST($as_of AS DATE) THEN e.end_on END AS scheduled_end_on,
    r.is_enterprise,
    r.is_annual,
    coalesce(
        (r.is_enterprise AND r.mrr > CAST($renewal_enterprise_mrr_over AS DECIMAL(18, 2)))
        OR (r.is_annual AND r.mrr > CAST($renewal_mrr_over AS DECIMAL(18, 2))),
        false
    ) AS in_scope
FROM running AS r
INNER JOIN history AS h ON h.subscription_id = r.subscription_id
LEFT JOIN intermediate.subscription_ends AS e ON e.subscription_id = r.subscription_id
