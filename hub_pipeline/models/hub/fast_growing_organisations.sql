/*---
description: >
  Organisations that gained many seats of their own within the growth window (20 seats within 90 days unless the
  settings say otherwise) on the latest day. Ordered by organic growth, largest first.
grain: [org_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges"}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_name: {type: VARCHAR, meaning: "who owns the relationship"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR of the organisation, reporting currency; empty = unknown"}
  plan: {type: VARCHAR, meaning: "plan of its largest paid subscription"}
  seats_now: {type: BIGINT, meaning: "seats at the close of the day"}
  seats_baseline: {type: BIGINT, meaning: "seats it is compared with"}
  baseline_kind: {type: VARCHAR, meaning: "window: the seats at the start of the window; first_day: it had none then, so those of its first day with seats; zero: it had none then and the settings count from 0", accepted: [window, first_day, zero]}
  baseline_on: {type: DATE, meaning: "day whose close is the baseline"}
  seat_delta: {type: BIGINT, meaning: "seats_now - seats_baseline"}
  seats_transferred_in: {type: BIGINT, meaning: "seats taken over with joint plans"}
  seats_transferred_out: {type: BIGINT, meaning: "seats handed over to the payer of a joint plan"}
  organic_seat_delta: {type: BIGINT, meaning: "seat_delta without transfers"}
  organic_growth_pct: {type: "DECIMAL(18,4)", meaning: "organic_seat_delta / seats_baseline; empty when the baseline is 0"}
  has_open_upsell_deal: {type: BOOLEAN, meaning: "an open upsell deal exists"}
  hubspot_url: {type: VARCHAR, meaning: "address of the HubSpot record"}
  why: {type: VARCHAR, meaning: "the row in one sentence with its numbers"}
order_by: [organic_seat_delta DESC, org_id]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    g.as_of,
    g.org_id,
    g.name,
    g.owner_name,
    g.tier,
    g.mrr,
    g.plan,
    g.seats_now,
    g.seats_baseline,
    g.baseline_kind,
    g.baseline_on,
    g.seat_delta,
    g.seats_transferred_in,
    g.seats_transferred_out,
    g.organic_seat_delta,
    g.organic_growth_pct,
    g.has_open_upsell_deal,
    g.hubspot_url,
    g.why
FROM marts.seat_growth AS g
INNER JOIN latest AS l ON l.as_of = g.as_of AND l.as_of = g.known_at
WHERE g.is_fast_growing
