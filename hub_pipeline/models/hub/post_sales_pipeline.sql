/*---
description: >
  The post-sales board of the latest day: renewals in scope and open upsell deals together, by the date they are due.
grain: [item_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  item_id: {type: VARCHAR, meaning: "subscription of a renewal, deal:<id> of an upsell", not_null: true}
  kind: {type: VARCHAR, meaning: "renewal or upsell", accepted: [renewal, upsell]}
  org_id: {type: VARCHAR, meaning: "organisation after merges"}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_name: {type: VARCHAR, meaning: "owner of the deal, else who owns the relationship"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR of the organisation, reporting currency; empty = unknown"}
  due_on: {type: DATE, meaning: "renew_by of a renewal, close date of an upsell"}
  status: {type: VARCHAR, meaning: "of a renewal renewed, open, lost, missing or no_deal; of an upsell open", accepted: [renewed, open, lost, missing, no_deal]}
  stage: {type: VARCHAR, meaning: "stage of the deal"}
  mrr_at_stake: {type: "DECIMAL(18,2)", meaning: "MRR of the contract to renew; empty for an upsell"}
  deal_id: {type: VARCHAR, meaning: "deal; empty = none"}
  deal_amount: {type: "DECIMAL(18,2)", meaning: "amount of the deal as typed"}
  hygiene: {type: "VARCHAR[]", meaning: "what to correct in a renewal's deal"}
  risk_reasons: {type: "VARCHAR[]", meaning: "why the organisation is at risk"}
  hubspot_url: {type: VARCHAR, meaning: "address of the deal, else of the organisation"}
  why: {type: VARCHAR, meaning: "the row in one sentence with its numbers"}
order_by: [due_on NULLS LAST, item_id]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    r.as_of,
    r.renewal_id AS item_id,
    'renewal' AS kind,
    r.org_id,
    o.name,
    coalesce(r.deal_owner_name, o.owner_name) AS owner_name,
    o.tier,
    o.mrr,
    r.renew_by AS due_on,
    r.status,
    r.stage,
    r.mrr_at_stake,
    r.deal_id,
    r.deal_amount,
    r.hygiene,
    r.risk_reasons,
    coalesce(r.deal_url, o.hubspot_url) AS hubspot_url,
    r.why
FROM marts.renewal_pipeline AS r
INNER JOIN latest AS l ON l.as_of = r.as_of AND l.as_of = r.known_at
LEFT JOIN marts.organisation_daily AS o
    ON o.org_id = r.org_id AND o.as_of = r.as_of AND o.known_at = r.known_at
WHERE r.in_scope
UNION ALL
SELECT
    u.as_of,
    u.upsell_id AS item_id,
    'upsell' AS kind,
    u.org_id,
    u.name,
    u.owner_name,
    u.tier,
    u.mrr,
    u.close_date AS due_on,
    'open' AS status,
    u.stage,
    CAST(NULL AS DECIMAL(18, 2)) AS mrr_at_stake,
    u.deal_id,
    u.deal_amount,
    CAST([] AS VARCHAR[]) AS hygiene,
    coalesce(k.reasons, CAST([] AS VARCHAR[])) AS risk_reasons,
    u.hubspot_url,
    u.why
FROM marts.upsell_pipeline AS u
INNER JOIN latest AS l ON l.as_of = u.as_of AND l.as_of = u.known_at
LEFT JOIN marts.at_risk AS k ON k.org_id = u.org_id AND k.as_of = u.as_of AND k.known_at = u.known_at
WHERE u.kind = 'open_deal'
