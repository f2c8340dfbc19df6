/*---
description: >
  Customers with high contraction or an NPS detractor on the latest day, untouched ones first, then by MRR.
  first_flagged_on is the first of the stored days, without a gap up to the latest, on which the organisation was on the
  list; a day that was never built interrupts nothing. Untouched: no e-mail, call or meeting that was not automated on
  or after that day. The first touch is read off the last touch of each stored day on the list, so of two touches between
  two stored days it is the later one.
grain: [org_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges"}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_name: {type: VARCHAR, meaning: "who owns the relationship"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR of the organisation, reporting currency; empty = unknown"}
  reasons: {type: "VARCHAR[]", meaning: "why it is on the list, in this order. seat_contraction: lost many seats within the window; mrr_contraction: lost much MRR; nps_detractor: a contact gave a low NPS score", accepted: [seat_contraction, mrr_contraction, nps_detractor]}
  watch_reasons: {type: "VARCHAR[]", meaning: "further signals; they never put an organisation on the list"}
  seats_now: {type: BIGINT, meaning: "seats at the close of the day; empty = unknown"}
  seats_baseline: {type: BIGINT, meaning: "seats at the start of the window"}
  seat_contraction_pct: {type: "DECIMAL(18,4)", meaning: "share of seats lost, transfers aside"}
  mrr_baseline: {type: "DECIMAL(18,2)", meaning: "MRR at the start of the window, today's exchange rate"}
  mrr_contraction_pct: {type: "DECIMAL(18,4)", meaning: "share of MRR lost, transfers aside"}
  detractor_contacts: {type: "VARCHAR[]", meaning: "contact ids of the detractors, sorted"}
  detractor_answers: {type: "VARCHAR[]", meaning: "name of the contact: score on day, comment; one for each detractor, sorted"}
  lowest_score: {type: INTEGER, meaning: "lowest NPS score among them"}
  first_flagged_on: {type: DATE, meaning: "first day of the unbroken run of days on the list"}
  days_flagged: {type: BIGINT, meaning: "days from first_flagged_on to the latest day"}
  last_touch_on: {type: DATE, meaning: "last e-mail, call or meeting"}
  first_human_touch_after_flag: {type: TIMESTAMP, meaning: "instant (UTC) of the first e-mail, call or meeting on or after first_flagged_on; empty = none yet, or the days were stored before touches carried their time"}
  hours_to_touch: {type: "DECIMAL(18,1)", meaning: "hours from the end of first_flagged_on, when the list could first be read, to that touch; 0 when it came on that very day"}
  is_untouched: {type: BOOLEAN, meaning: "nobody was in touch on or after first_flagged_on"}
  hubspot_url: {type: VARCHAR, meaning: "address of the HubSpot record"}
  why: {type: VARCHAR, meaning: "the row in one sentence with its numbers"}
order_by: [is_untouched DESC, mrr DESC NULLS LAST, org_id]
---*/
WITH days AS (
    SELECT o.as_of, row_number() OVER (ORDER BY o.as_of) AS day_number
    FROM (SELECT DISTINCT d.as_of FROM marts.organisation_daily AS d WHERE d.known_at = d.as_of) AS o
),
latest AS (
    SELECT max(d.as_of) AS as_of
    FROM days AS d
),
-- day number minus running number is constant within an unbroken run
flagged AS (
    SELECT
        r.org_id,
        r.as_of,
        r.last_touch_on,
        r.last_touch_at,
        r.listed_at,
        d.day_number - row_number() OVER (PARTITION BY r.org_id ORDER BY r.as_of) AS run_number
    FROM marts.at_risk AS r
    INNER JOIN days AS d ON d.as_of = r.as_of
    WHERE r.known_at = r.as_of
),
runs AS (
    SELECT
        f.org_id,
        f.run_number,
        min(f.as_of) AS first_flagged_on,
        max(f.as_of) AS last_flagged_on,
        min(f.listed_at) AS listed_at
    FROM flagged AS f
    GROUP BY f.org_id, f.run_number
),
touches AS (
    SELECT f.org_id, f.run_number, min(f.last_touch_at) AS touched_at
    FROM flagged AS f
    INNER JOIN runs AS r ON r.org_id = f.org_id AND r.run_number = f.run_number
    WHERE f.last_touch_on >= r.first_flagged_on
    GROUP BY f.org_id, f.run_number
)
SELECT
    r.as_of,
    r.org_id,
    r.name,
    r.owner_name,
    r.tier,
    r.mrr,
    r.reasons,
    r.watch_reasons,
    r.seats_now,
    r.seats_baseline,
    r.seat_contraction_pct,
    r.mrr_baseline,
    r.mrr_contraction_pct,
    r.detractor_contacts,
    r.detractor_answers,
    r.lowest_score,
    f.first_flagged_on,
    r.as_of - f.first_flagged_on AS days_flagged,
    r.last_touch_on,
    t.touched_at AS first_human_touch_after_flag,
    CASE
        WHEN t.touched_at IS NOT NULL
            THEN CAST(greatest(date_diff('minute', f.listed_at, t.touched_at), 0) / 60.0 AS DECIMAL(18, 1))
    END AS hours_to_touch,
    coalesce(r.last_touch_on < f.first_flagged_on, true) AS is_untouched,
    r.hubspot_url,
    r.why
FROM marts.at_risk AS r
INNER JOIN latest AS l ON l.as_of = r.as_of AND l.as_of = r.known_at
INNER JOIN runs AS f ON f.org_id = r.org_id AND f.last_flagged_on = r.as_of
LEFT JOIN touches AS t ON t.org_id = f.org_id AND t.run_number = f.run_number
