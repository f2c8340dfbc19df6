/*---
description: >
  Open upsell deals and organisations that look ready for more, on the latest day. Ordered by MRR, largest first.
grain: [upsell_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  upsell_id: {type: VARCHAR, meaning: "deal:<id>, else <kind>:<organisation, parent or domain>", not_null: true}
  kind: {type: VARCHAR, meaning: "open deal, or why it is a candidate", not_null: true, accepted: [open_deal, fast_growing, utilisation, true_up, annual, joint_plan_parent, joint_plan_domain]}
  org_id: {type: VARCHAR, meaning: "organisation; empty = the deal has none"}
  org_ids: {type: "VARCHAR[]", meaning: "all organisations concerned, sorted", not_null: true}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_id: {type: VARCHAR, meaning: "owner of the deal, or of the organisation"}
  owner_name: {type: VARCHAR, meaning: "name of that owner"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  seats: {type: BIGINT, meaning: "seats now"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR now, reporting currency"}
  organic_seat_delta: {type: BIGINT, meaning: "of marts.seat_growth"}
  seat_utilisation: {type: "DECIMAL(18,4)", meaning: "active members / seats"}
  pending_true_up_mrr: {type: "DECIMAL(18,2)", meaning: "MRR a pending true-up would add"}
  has_open_upsell_deal: {type: BOOLEAN, meaning: "one of its organisations has an open upsell deal", not_null: true}
  deal_id: {type: VARCHAR, meaning: "deal"}
  deal_name: {type: VARCHAR, meaning: "name of the deal"}
  deal_amount: {type: "DECIMAL(18,2)", meaning: "amount as typed, currency of the deal"}
  deal_currency: {type: VARCHAR, meaning: "currency of the deal"}
  stage: {type: VARCHAR, meaning: "stage of the deal"}
  close_date: {type: DATE, meaning: "close date of the deal"}
  hubspot_url: {type: VARCHAR, meaning: "address of the deal, or of the organisation"}
  why: {type: VARCHAR, meaning: "the row with its numbers, one sentence", not_null: true}
order_by: [mrr DESC NULLS LAST, upsell_id]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    m.as_of,
    m.upsell_id,
    m.kind,
    m.org_id,
    m.org_ids,
    m.name,
    m.owner_id,
    m.owner_name,
    m.tier,
    m.seats,
    m.mrr,
    m.organic_seat_delta,
    m.seat_utilisation,
    m.pending_true_up_mrr,
    m.has_open_upsell_deal,
    m.deal_id,
    m.deal_name,
    m.deal_amount,
    m.deal_currency,
    m.stage,
    m.close_date,
    m.hubspot_url,
    m.why
FROM marts.upsell_pipeline AS m
INNER JOIN latest AS l ON l.as_of = m.as_of AND l.as_of = m.known_at
