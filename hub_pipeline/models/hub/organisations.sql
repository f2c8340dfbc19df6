/*---
description: >
  All organisations known on the latest day, churned and never paying ones too, with their state.
  Ordered by MRR, largest first.
grain: [org_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges"}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_name: {type: VARCHAR, meaning: "who owns the relationship"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR of the organisation, reporting currency; empty = unknown"}
  domain: {type: VARCHAR, meaning: "e-mail or web domain"}
  state: {type: VARCHAR, meaning: "first that holds. paying: a paid plan runs; covered: by the joint plan of a paying organisation; custom_off_billing: a CRM contract without an amount; paused; trial; churned: paid before, nothing runs now; never_paid", accepted: [paying, covered, custom_off_billing, paused, trial, churned, never_paid]}
  is_customer: {type: BOOLEAN, meaning: "paying, covered or custom_off_billing"}
  root_org_id: {type: VARCHAR, meaning: "top of its account; itself without a parent"}
  plan: {type: VARCHAR, meaning: "plan of its largest paid subscription"}
  billing_interval: {type: VARCHAR, meaning: "billing interval of that plan"}
  seats: {type: BIGINT, meaning: "seats of running subscriptions; empty = unknown"}
  account_mrr: {type: "DECIMAL(18,2)", meaning: "known MRR of the whole account"}
  account_seats: {type: BIGINT, meaning: "known seats of the whole account"}
  members_active: {type: BIGINT, meaning: "members who used the product lately"}
  next_term_end_on: {type: DATE, meaning: "earliest end of a paid term"}
  scheduled_end_on: {type: DATE, meaning: "earliest known end by cancellation"}
  first_seen_on: {type: DATE, meaning: "first sighting; empty = before records begin"}
  hubspot_url: {type: VARCHAR, meaning: "address of the HubSpot record"}
  why: {type: VARCHAR, meaning: "the row in one sentence with its numbers"}
order_by: [mrr DESC NULLS LAST, org_id]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    o.as_of,
    o.org_id,
    o.name,
    o.owner_name,
    o.tier,
    o.mrr,
    o.domain,
    o.state,
    o.is_customer,
    o.root_org_id,
    o.plan,
    o.billing_interval,
    o.seats,
    o.account_mrr,
    o.account_seats,
    o.members_active,
    o.next_term_end_on,
    o.scheduled_end_on,
    o.first_seen_on,
    o.hubspot_url,
    o.why
FROM marts.organisation_daily AS o
INNER JOIN latest AS l ON l.as_of = o.as_of AND l.as_of = o.known_at
