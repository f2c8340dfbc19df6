/*---
description: >
  The same question as marts.seat_growth for whole accounts: all organisations that share a root at the close of
  as_of, whose seats are added up at both ends. A joint plan within the account moves nothing; only transfers between
  different accounts count. Baseline, window and threshold are those of marts.seat_growth, applied to the sums.
  Accounts with seats at the close of as_of.
grain: [as_of, known_at, account_id]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  account_id: {type: VARCHAR, meaning: "root organisation", not_null: true}
  name: {type: VARCHAR, meaning: "name of the root organisation"}
  organisations: {type: BIGINT, meaning: "organisations with a step of seats within the window", not_null: true}
  seats_now: {type: BIGINT, meaning: "seats at the close of as_of", not_null: true}
  seats_baseline: {type: BIGINT, meaning: "seats at the close of baseline_on; 0 for zero", not_null: true}
  baseline_kind: {type: VARCHAR, meaning: "window, first_day or zero", not_null: true, accepted: [window, first_day, zero]}
  baseline_on: {type: DATE, meaning: "day whose close is the baseline", not_null: true}
  seat_delta: {type: BIGINT, meaning: "seats_now - seats_baseline", not_null: true}
  seats_transferred_in: {type: BIGINT, meaning: "seats of organisations of other accounts whose joint plan it began to pay", not_null: true}
  seats_transferred_out: {type: BIGINT, meaning: "seats that moved to a payer in another account", not_null: true}
  organic_seat_delta: {type: BIGINT, meaning: "seat_delta without transfers", not_null: true}
  organic_growth_pct: {type: "DECIMAL(18,4)", meaning: "organic_seat_delta / seats_baseline; empty when the baseline is 0"}
  is_fast_growing: {type: BOOLEAN, meaning: "organic_seat_delta reaches growth.min_seats", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH changes AS (
    SELECT
        h.root_org_id AS account_id,
        s.org_id,
        s.from_on AS day,
        s.seats - lag(s.seats, 1, 0) OVER (PARTITION BY s.org_id ORDER BY s.from_on) AS seats
    FROM intermediate.organisation_segments AS s
    INNER JOIN intermediate.hierarchy AS h ON s.org_id = h.org_id
),
organisations AS (
    SELECT account_id, count(DISTINCT org_id) AS organisations
    FROM changes
    GROUP BY account_id
),
days AS (
    SELECT account_id, day, sum(seats) AS seats
    FROM changes
    GROUP BY account_id, day
),
sums AS (
    SELECT
        account_id,
        day AS from_on,
        lead(day) OVER by_day AS to_on,
        sum(seats) OVER by_day AS seats
    FROM days
    WINDOW by_day AS (PARTITION BY account_id ORDER BY day)
),
steps AS (
    SELECT
        account_id,
        from_on,
        to_on,
        seats,
        lag(seats, 1, 0) OVER (PARTITION BY account_id ORDER BY from_on) AS seats_before
    FROM sums
),
levels AS (
    SELECT
        account_id,
        max(seats) FILTER (WHERE to_on IS NULL) AS seats_now,
        max(seats) FILTER (
            WHERE from_on <= CAST($as_of AS DATE) - CAST($growth_days AS INTEGER)
            AND (to_on IS NULL OR to_on > CAST($as_of AS DATE) - CAST($growth_days AS INTEGER))
        ) AS seats_at_start,
        max(from_on) FILTER (
            WHERE seats > 0 AND seats_before = 0 AND from_on > CAST($as_of AS DATE) - CAST($growth_days AS INTEGER)
        ) AS first_day
    FROM steps
    GROUP BY account_id
),
first_days AS (
    SELECT l.account_id, s.seats
    FROM levels AS l
    INNER JOIN steps AS s ON l.account_id = s.account_id AND l.first_day = s.from_on
),
crossing AS (
    SELECT child.root_org_id AS from_account_id, payer.root_org_id AS to_account_id, t.seats
    FROM intermediate.seat_transfers AS t
    INNER JOIN intermediate.hierarchy AS child ON t.child_org_id = child.org_id
    INNER JOIN intermediate.hierarchy AS payer ON t.payer_org_id = payer.org_id
    WHERE
        child.root_org_id <> payer.root_org_id
        AND t.starts_on > CAST($as_of AS DATE) - CAST($growth_days AS INTEGER)
),
transfers AS (
    SELECT to_account_id AS account_id, seats AS seats_in, 0 AS seats_out
    FROM crossing
    UNION ALL
    SELECT from_account_id AS account_id, 0 AS seats_in, seats AS seats_out
    FROM crossing
),
transferred AS (
    SELECT account_id, sum(seats_in) AS seats_in, sum(seats_out) AS seats_out
    FROM transfers
    GROUP BY account_id
),
baselines AS (
    SELECT
        l.account_id,
        l.seats_now,
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
    LEFT JOIN first_days AS f ON l.account_id = f.account_id
    LEFT JOIN transferred AS t ON l.account_id = t.account_id
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
    g.account_id,
    o.name,
    CAST(n.organisations AS BIGINT) AS organisations,
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
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM growth AS g
INNER JOIN organisations AS n ON g.account_id = n.account_id
LEFT JOIN intermediate.current_organisations AS o ON g.account_id = o.org_id
