/*---
description: >
  Running contracts in scope (enterprise or annual, above the MRR threshold) on the latest day, with the renewal deal of
  each. Ordered by renew-by date.
grain: [subscription_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges"}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_name: {type: VARCHAR, meaning: "who owns the relationship"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR of the organisation, reporting currency; empty = unknown"}
  subscription_id: {type: VARCHAR, meaning: "subscription, or contract:<org_id>:<day> of a CRM contract"}
  deal_id: {type: VARCHAR, meaning: "renewal deal; empty = none"}
  plan: {type: VARCHAR, meaning: "plan of the contract"}
  billing_interval: {type: VARCHAR, meaning: "billing interval of the contract"}
  status: {type: VARCHAR, meaning: "renewed: its renewal deal is won; open and lost: the state of that deal; missing: there is none although the term ends soon or has ended and no cancellation is known; no_deal: there is none and none is due yet", accepted: [renewed, open, lost, missing, no_deal]}
  timing: {type: VARCHAR, meaning: "upcoming: more than the lead days (90) to renew_by; in_window: 0 to 90 days; overdue: past; empty without renew_by", accepted: [upcoming, in_window, overdue]}
  renew_by: {type: DATE, meaning: "day by which to renew: the deal's, else the end of the term"}
  days_to_renew_by: {type: BIGINT, meaning: "days left; negative when past"}
  target_renew_by: {type: DATE, meaning: "best practice: the lead days ahead of renew_by"}
  renewed_days_ahead: {type: BIGINT, meaning: "of a won deal: days ahead of renew_by"}
  missed_lead_target: {type: BOOLEAN, meaning: "renewed, or still open, later than the target"}
  mrr_at_stake: {type: "DECIMAL(18,2)", meaning: "MRR of the contract, from billing"}
  scheduled_cancel: {type: BOOLEAN, meaning: "its end by cancellation is known"}
  stage: {type: VARCHAR, meaning: "stage of the deal"}
  days_in_stage: {type: BIGINT, meaning: "days in that stage"}
  deal_owner_name: {type: VARCHAR, meaning: "owner of the deal"}
  deal_amount: {type: "DECIMAL(18,2)", meaning: "amount of the deal as typed"}
  hygiene: {type: "VARCHAR[]", meaning: "what to correct in the deal"}
  risk_reasons: {type: "VARCHAR[]", meaning: "why the organisation is at risk"}
  deal_url: {type: VARCHAR, meaning: "address of the deal"}
  hubspot_url: {type: VARCHAR, meaning: "address of the HubSpot record"}
  why: {type: VARCHAR, meaning: "the row in one sentence with its numbers"}
order_by: [renew_by NULLS LAST, subscription_id]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    r.as_of,
    r.org_id,
    o.name,
    o.owner_name,
    o.tier,
    o.mrr,
    r.subscription_id,
    r.deal_id,
    r.plan,
    r.billing_interval,
    r.status,
    r.timing,
    r.renew_by,
    r.days_to_renew_by,
    r.target_renew_by,
    r.renewed_days_ahead,
    r.missed_lead_target,
    r.mrr_at_stake,
    r.scheduled_cancel,
    r.stage,
    r.days_in_stage,
    r.deal_owner_name,
    r.deal_amount,
    r.hygiene,
    r.risk_reasons,
    r.deal_url,
    o.hubspot_url,
    r.why
FROM marts.renewal_pipeline AS r
INNER JOIN latest AS l ON l.as_of = r.as_of AND l.as_of = r.known_at
LEFT JOIN marts.organisation_daily AS o
    ON o.org_id = r.org_id AND o.as_of = r.as_of AND o.known_at = r.known_at
WHERE r.in_scope
