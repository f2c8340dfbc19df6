/*---
description: >
  Ends of paid subscriptions that look like churn and are none, on the latest day, with the reason and the proof.
  Ordered by date.
grain: [subscription_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges"}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_name: {type: VARCHAR, meaning: "who owns the relationship"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR of the organisation, reporting currency; empty = unknown"}
  subscription_id: {type: VARCHAR, meaning: "subscription that ends"}
  state: {type: VARCHAR, meaning: "always false_alarm", accepted: [false_alarm]}
  churn_date: {type: DATE, meaning: "first day without the subscription"}
  days_until_churn: {type: BIGINT, meaning: "days from the latest day to churn_date; negative when past"}
  churn_type: {type: VARCHAR, meaning: "voluntary: the customer cancelled; involuntary: it became unpaid or the reason is payment_failed; to_free: it runs on at no price", accepted: [voluntary, involuntary, to_free]}
  cancel_reason: {type: VARCHAR, meaning: "reason code of the cancellation, as billing or HubSpot gives it"}
  cancel_comment: {type: VARCHAR, meaning: "reason in the customer's words"}
  recorded_on: {type: DATE, meaning: "day on which the end became known"}
  mrr_at_risk: {type: "DECIMAL(18,2)", meaning: "MRR of the subscription, on its last day if it has ended"}
  verification: {type: VARCHAR, meaning: "needs_review when a hint says it may be no churn, else confirmed", accepted: [confirmed, needs_review]}
  review_hints: {type: "VARCHAR[]", meaning: "what to look at before contacting the customer"}
  false_alarm_reason: {type: VARCHAR, meaning: "first that holds. cancellation_reverted: the end was withdrawn; duplicate_org: merged away, the survivor pays; moved_to_parent: a joint plan covers it; moved_to_custom: a CRM contract or enterprise plan runs instead; resubscribed: a new subscription started within the gap allowed; other_subscription_active: another one goes on", accepted: [cancellation_reverted, duplicate_org, moved_to_parent, moved_to_custom, resubscribed, other_subscription_active]}
  evidence_subscription_id: {type: VARCHAR, meaning: "subscription or contract that proves it"}
  evidence_org_id: {type: VARCHAR, meaning: "payer of the joint plan, or survivor of the merge"}
  evidence_from: {type: DATE, meaning: "day on which the proof starts to hold"}
  hubspot_url: {type: VARCHAR, meaning: "address of the HubSpot record"}
  why: {type: VARCHAR, meaning: "the row in one sentence with its numbers"}
order_by: [churn_date, subscription_id]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    c.as_of,
    c.org_id,
    o.name,
    o.owner_name,
    o.tier,
    o.mrr,
    c.subscription_id,
    c.state,
    c.churn_date,
    c.days_until_churn,
    c.churn_type,
    c.cancel_reason,
    c.cancel_comment,
    c.recorded_on,
    c.mrr_at_risk,
    c.verification,
    c.review_hints,
    c.false_alarm_reason,
    c.evidence_subscription_id,
    c.evidence_org_id,
    c.evidence_from,
    o.hubspot_url,
    c.why
FROM marts.churn_flags AS c
INNER JOIN latest AS l ON l.as_of = c.as_of AND l.as_of = c.known_at
LEFT JOIN marts.organisation_daily AS o
    ON o.org_id = c.org_id AND o.as_of = c.as_of AND o.known_at = c.known_at
WHERE c.state = 'false_alarm'
