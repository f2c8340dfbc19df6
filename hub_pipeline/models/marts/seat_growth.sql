/*---
description: >
  How the seats of every organisation that has seats at the close of as_of have changed within growth.days (90).
  The window is the local days (as_of - growth.days, as_of]; a change on the day as_of - growth.days is the baseline's.
  When the organisation had no seats at any close from as_of - growth.days to as_of, its baseline is what it had at the
  close of the day after the last such close (first_day): what was bought on day one is new business, not growth.
  With growth.baseline = zero the baseline is then 0 (zero). Otherwise it is the seats at the close of
  as_of - growth.days (window).
  Seats that moved with a joint plan starting within the window are transfers: in for the payer, out for the covered
  organisation; the coverage's own seats, else the covered organisation's of the day before.
  organic_seat_delta = seat_delta - seats_transferred_in + seats_transferred_out.
  is_fast_growing when organic_seat_delta >= growth.min_seats (inclusive).
  Subscriptions whose seats are unknown add none. Percentages are empty when the baseline is 0.
grain: [as_of, known_at, org_id]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  name: {type: VARCHAR, meaning: "display name"}
  root_org_id: {type: VARCHAR, meaning: "account it belongs to", not_null: true}
  state: {type: VARCHAR, meaning: "commercial state", not_null: true}
  tier: {type: VARCHAR, meaning: "tier of the account", not_null: true}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR at the close of as_of"}
  plan: {type: VARCHAR, meaning: "plan of its largest paid subscription"}
  billing_interval: {type: VARCHAR, meaning: "interval of its largest paid subscription"}
  owner_id: {type: VARCHAR, meaning: "user who owns the relationship"}
  owner_name: {type: VARCHAR, meaning: "name of the owner"}
  seats_now: {type: BIGINT, meaning: "seats at the close of as_of", not_null: true}
  seats_baseline: {type: BIGINT, meaning: "seats at the close of baseline_on; 0 for zero", not_null: true}
  baseline_kind: {type: VARCHAR, meaning: "window, first_day or zero", not_null: true, accepted: [window, first_day, zero]}
  baseline_on: {type: DATE, meaning: "day whose close is the baseline; for zero the last one without seats", not_null: true}
  seat_delta: {type: BIGINT, meaning: "seats_now - seats_baseline", not_null: true}
  seats_transferred_in: {type: BIGINT, meaning: "seats of organisations whose joint plan it began to pay within the window", not_null: true}
  seats_transferred_out: {type: BIGINT, meaning: "its own seats that moved to a payer within the window", not_null: true}
  organic_seat_delta: {type: BIGINT, meaning: "seat_delta without transfers", not_null: true}
  organic_growth_pct: {type: "DECIMAL(18,4)", meaning: "organic_seat_delta / seats_baseline; empty when the baseline is 0"}
  is_fast_growing: {type: BOOLEAN, meaning: "organic_seat_delta reaches growth.min_seats", not_null: true}
  seats_peak: {type: BIGINT, meaning: "most seats at any close within the window", not_null: true}
  members_active: {type: BIGINT, meaning: "members who used the product lately"}
  seat_utilisation: {type: "DECIMAL(18,4)", meaning: "members_active / seats_now"}
  has_open_upsell_deal: {type: BOOLEAN, meaning: "an open deal of type upsell exists for it", not_null: true}
  growth_days: {type: INTEGER, meaning: "length of the window in days", not_null: true}
  min_seats: {type: BIGINT, meaning: "organic growth from which it is fast growing", not_null: true}
  hubspot_url: {type: VARCHAR, meaning: "address of the record"}
  why: {type: VARCHAR, meaning: "the change in one sentence with its numbers", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH steps AS (
    SELECT
        org_id,
        from_on,
        to_on,
        seats,
        lag(seats, 1, 0) OVER (PARTITION BY org_id ORDER BY from_on) AS seats_before
    FROM intermediate.organisation_segments
),
levels AS (
    SELECT
        org_id,
        max(seats) FILTER (WHERE to_on IS NULL) AS seats_now,
        max(seats) FILTER (
            WHERE from_on <= CAST($as_of AS DATE) - CAST($growth_days AS INTEGER)
            AND (to_on IS NULL OR to_on > CAST($as_of AS DATE) - CAST($growth_days AS INTEGER))
        ) AS seats_at_start,
        max(seats) FILTER (WHERE to_on IS NULL OR to_on > CAST($as_of AS DATE) - CAST($growth_days AS INTEGER)) AS seats_peak,
        max(from_on) FILTER (
            WHERE seats > 0 AND seats_before = 0 AND from_on > CAST($as_of AS DATE) - CAST($growth_days AS INTEGER)
        ) AS first_day
    FROM steps
    GROUP BY org_id
),
first_days AS (
    SELECT l.org_id, s.seats
    FROM levels AS l
    INNER JOIN steps AS s ON l.org_id = s.org_id AND l.first_day = s.from_on
),
transfers AS (
    SELECT payer_org_id AS org_id, seats AS seats_in, 0 AS seats_out
    FROM intermediate.seat_transfers
    WHERE starts_on > CAST($as_of AS DATE) - CAST($growth_days AS INTEGER)
    UNION ALL
    SELECT child_org_id AS org_id, 0 AS seats_in, seats AS seats_out
    FROM intermediate.seat_transfers
    WHERE starts_on > CAST($as_of AS DATE) - CAST($growth_days AS INTEGER)
),
transferred AS (
    SELECT org_id, sum(seats_in) AS seats_in, sum(seats_out) AS seats_out
    FROM transfers
    GROUP BY org_id
),
upsells AS (
    SELECT DISTINCT org_id
    FROM intermediate.current_deals
    WHERE deal_type = 'upsell' AND status = 'open' AND org_id IS NOT NULL
),
baselines AS (
    SELECT
        l.org_id,
        l.seats_now,
        l.seats_peak,
        CASE
            WHEN l.first_day IS NULL THEN l.seats_at_start
            WHEN $growth_baseline = 'zero' THEN 0
            ELSE f.seats
        END AS seats_baseline,
        CASE
            WHEN l.first_day IS NULL THEN 'window'
            ELSE CAST($growth_baseline AS VARCHAR)
        END AS baseline_kind,
        CASE
            WHEN l.first_day IS NULL THEN CAST($as_of AS DATE) - CAST($growth_days AS INTEGER)
            WHEN $growth_baseline = 'zero' THEN l.first_day - 1
            ELSE l.first_day
        END AS baseline_on,
        coalesce(t.seats_in, 0) AS seats_in,
        coalesce(t.seats_out, 0) AS seats_out
    FROM levels AS l
    LEFT JOIN first_days AS f ON l.org_id = f.org_id
    LEFT JOIN transferred AS t ON l.org_id = t.org_id
    WHERE l.seats_now > 0
),
growth AS (
    SELECT
        *,
        seats_now - seats_baseline AS seat_delta,
        seats_now - seats_baseline - seats_in + seats_out AS organic_seat_delta
    FROM baselines
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    g.org_id,
    o.name,
    o.root_org_id,
    o.state,
    o.tier,
    o.mrr,
    o.plan,
    o.billing_interval,
    o.owner_id,
    o.owner_name,
    CAST(g.seats_now AS BIGINT) AS seats_now,
    CAST(g.seats_baseline AS BIGINT) AS seats_baseline,
    g.baseline_kind,
    CAST(g.baseline_on AS DATE) AS baseline_on,
    CAST(g.seat_delta AS BIGINT) AS seat_delta,
    CAST(g.seats_in AS BIGINT) AS seats_transferred_in,
    CAST(g.seats_out AS BIGINT) AS seats_transferred_out,
    CAST(g.organic_seat_delta AS BIGINT) AS organic_seat_delta,
    CASE
        WHEN g.seats_baseline > 0 THEN share_of(g.organic_seat_delta, g.seats_baseline)
    END AS organic_growth_pct,
    g.organic_seat_delta >= $growth_min_seats AS is_fast_growing,
    CAST(g.seats_peak AS BIGINT) AS seats_peak,
    o.members_active,
    o.seat_utilisation,
    u.org_id IS NOT NULL AS has_open_upsell_deal,
    CAST($growth_days AS INTEGER) AS growth_days,
    CAST($growth_min_seats AS BIGINT) AS min_seats,
    o.hubspot_url,
    counted(g.seats_baseline, 'seat') || ' on ' || CAST(CAST(g.baseline_on AS DATE) AS VARCHAR)
    || CASE g.baseline_kind
        WHEN 'first_day' THEN ' (its first day)'
        WHEN 'zero' THEN ' (before it had any)'
        ELSE ''
    END
    || ', ' || CAST(g.seats_now AS VARCHAR) || ' now: '
    || CASE WHEN g.organic_seat_delta >= 0 THEN '+' ELSE '' END || CAST(g.organic_seat_delta AS VARCHAR)
    || ' organic in ' || counted(CAST($growth_days AS INTEGER), 'day')
    || CASE
        WHEN g.seats_in > 0
            THEN ', ' || CAST(g.seats_in AS VARCHAR) || ' moved in from organisations on its joint plan'
        ELSE ''
    END
    || CASE
        WHEN g.seats_out > 0 THEN ', ' || CAST(g.seats_out AS VARCHAR) || ' moved out to the payer of a joint plan'
        ELSE ''
    END
    || '.' AS why,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM growth AS g
INNER JOIN marts.organisation_daily AS o
    ON g.org_id = o.org_id AND o.as_of = $as_of AND o.known_at = $known_at
LEFT JOIN upsells AS u ON g.org_id = u.org_id
