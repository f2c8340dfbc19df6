/*---
description: >
  Everything about one organisation in one row, on the latest day: state, next renewal, flags, NPS, conversations,
  touches, tasks, success plan and health with what lowers it. Ordered by MRR, largest first.
grain: [org_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  name: {type: VARCHAR, meaning: "display name"}
  root_org_id: {type: VARCHAR, meaning: "account it belongs to", not_null: true}
  state: {type: VARCHAR, meaning: "commercial state", not_null: true}
  is_customer: {type: BOOLEAN, meaning: "paying, covered or custom_off_billing", not_null: true}
  tier: {type: VARCHAR, meaning: "tier of its account", not_null: true}
  plan: {type: VARCHAR, meaning: "plan of its largest paid subscription"}
  seats: {type: BIGINT, meaning: "seats of running subscriptions; empty = unknown"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR, reporting currency; empty = unknown"}
  members_active: {type: BIGINT, meaning: "members who used the product lately"}
  seat_utilisation: {type: "DECIMAL(18,4)", meaning: "members_active / seats"}
  owner_id: {type: VARCHAR, meaning: "user who owns the relationship"}
  owner_name: {type: VARCHAR, meaning: "name of the owner"}
  next_renewal_on: {type: DATE, meaning: "renew_by of the next renewal"}
  next_renewal_status: {type: VARCHAR, meaning: "status of that renewal", accepted: [renewed, open, lost, missing, no_deal]}
  next_renewal_mrr: {type: "DECIMAL(18,2)", meaning: "MRR of that contract"}
  next_renewal_deal_id: {type: VARCHAR, meaning: "its deal"}
  is_fast_growing: {type: BOOLEAN, meaning: "marts.seat_growth says so", not_null: true}
  risk_reasons: {type: "VARCHAR[]", meaning: "why it is at risk, from marts.at_risk; none when it is not", not_null: true}
  seat_drop: {type: BIGINT, meaning: "organic seats lost within contraction.days; negative when it grew; empty = unknown"}
  seats_baseline: {type: BIGINT, meaning: "seats at the start of that window", not_null: true}
  mrr_drop: {type: "DECIMAL(18,2)", meaning: "organic MRR lost within contraction.days; negative when it grew; empty = unknown"}
  mrr_baseline: {type: "DECIMAL(18,2)", meaning: "MRR at the start of that window, exchange rate of as_of", not_null: true}
  churn_state: {type: VARCHAR, meaning: "of its subscriptions in marts.churn_flags the first of scheduled, churned, reactivated, false_alarm", accepted: [scheduled, churned, reactivated, false_alarm]}
  churn_on: {type: DATE, meaning: "earliest churn date of that state"}
  nps_answers: {type: BIGINT, meaning: "contacts with a current answer", not_null: true}
  nps_mean: {type: "DECIMAL(4,1)", meaning: "mean of their scores"}
  nps_detractors: {type: BIGINT, meaning: "detractors among them", not_null: true}
  last_conversation_on: {type: DATE, meaning: "local day of the last message of a contact in Intercom"}
  conversations_in_window: {type: BIGINT, meaning: "conversations with a message of a contact within interactions.days", not_null: true}
  dissatisfied_conversations: {type: BIGINT, meaning: "conversations rated low within interactions.days", not_null: true}
  last_touch_on: {type: DATE, meaning: "local day of the last e-mail, call or meeting that was not automated"}
  last_note_on: {type: DATE, meaning: "local day of the last note"}
  open_tasks: {type: BIGINT, meaning: "open tasks", not_null: true}
  overdue_tasks: {type: BIGINT, meaning: "open tasks that were due", not_null: true}
  success_plan_status: {type: VARCHAR, meaning: "status of its success plan"}
  success_plan_updated_on: {type: DATE, meaning: "local day of the plan's last update"}
  success_plan_objectives: {type: VARCHAR, meaning: "objectives of the plan"}
  health_commercial: {type: "DECIMAL(5,1)", meaning: "0 to 100; empty = not a customer"}
  health_seats: {type: "DECIMAL(5,1)", meaning: "0 to 100; empty = seats or members unknown"}
  health_sentiment: {type: "DECIMAL(5,1)", meaning: "0 to 100; empty = no current answer"}
  health_engagement: {type: "DECIMAL(5,1)", meaning: "0 to 100; empty = no engagements known at all"}
  health_support: {type: "DECIMAL(5,1)", meaning: "0 to 100; empty = no conversations"}
  health: {type: "DECIMAL(5,1)", meaning: "weighted mean of the known components"}
  health_coverage: {type: "DECIMAL(5,4)", meaning: "share of the weights that is known"}
  health_override: {type: VARCHAR, meaning: "health set by hand in HubSpot"}
  why: {type: "VARCHAR[]", meaning: "what lowers its health, in this order", not_null: true, accepted: [scheduled_end, high_contraction, contraction, low_utilisation, detractor, low_nps, no_touch_90d, dissatisfied_conversations]}
  hubspot_url: {type: VARCHAR, meaning: "address of the record"}
order_by: [mrr DESC NULLS LAST, org_id]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    m.as_of,
    m.org_id,
    m.name,
    m.root_org_id,
    m.state,
    m.is_customer,
    m.tier,
    m.plan,
    m.seats,
    m.mrr,
    m.members_active,
    m.seat_utilisation,
    m.owner_id,
    m.owner_name,
    m.next_renewal_on,
    m.next_renewal_status,
    m.next_renewal_mrr,
    m.next_renewal_deal_id,
    m.is_fast_growing,
    m.risk_reasons,
    m.seat_drop,
    m.seats_baseline,
    m.mrr_drop,
    m.mrr_baseline,
    m.churn_state,
    m.churn_on,
    m.nps_answers,
    m.nps_mean,
    m.nps_detractors,
    m.last_conversation_on,
    m.conversations_in_window,
    m.dissatisfied_conversations,
    m.last_touch_on,
    m.last_note_on,
    m.open_tasks,
    m.overdue_tasks,
    m.success_plan_status,
    m.success_plan_updated_on,
    m.success_plan_objectives,
    m.health_commercial,
    m.health_seats,
    m.health_sentiment,
    m.health_engagement,
    m.health_support,
    m.health,
    m.health_coverage,
    m.health_override,
    m.why,
    m.hubspot_url
FROM marts.customer_360 AS m
INNER JOIN latest AS l ON l.as_of = m.as_of AND l.as_of = m.known_at
