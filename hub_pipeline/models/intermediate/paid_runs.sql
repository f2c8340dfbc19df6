/*---
description: >
  Unbroken stretches in which a subscription was a running paid plan, future changes known by known_at included. A
  stretch goes on while the next paid interval starts no later than the last one ended, and ends where the subscription
  moves to another organisation.
grain: [subscription_id, run_start]
columns:
  subscription_id: {type: VARCHAR, meaning: "subscription", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  run_start: {type: TIMESTAMP, meaning: "inclusive start", not_null: true}
  run_end: {type: TIMESTAMP, meaning: "exclusive end; empty = open"}
  start_on: {type: DATE, meaning: "local day of the start", not_null: true}
---*/
WITH paid AS (
    SELECT
        s.subscription_id,
        s.org_id,
        s.valid_from,
        s.valid_to,
        s.from_on,
        lag(s.valid_to) OVER of_subscription AS previous_end,
        lag(s.org_id) OVER of_subscription AS previous_org_id,
        lead(s.valid_from) OVER of_subscription AS next_from
    FROM intermediate.subscription_intervals AS s
    WHERE s.is_paid
    WINDOW of_subscription AS (PARTITION BY s.subscription_id ORDER BY s.valid_from)
),
marked AS (
    SELECT
        *,
        coalesce(org_id <> previous_org_id OR valid_from > previous_end, true) AS is_start
    FROM paid
),
-- a run ends where the version before the next start ended, the last run with the last version
edges AS (
    SELECT
        subscription_id,
        org_id,
        valid_from,
        valid_to,
        from_on,
        next_from,
        is_start,
        lead(is_start) OVER of_subscription AS is_followed_by_start,
        lead(previous_end) OVER of_subscription AS end_before_next,
        lead(valid_to) OVER of_subscription AS next_end
    FROM marked
    WHERE is_start OR next_from IS NULL
    WINDOW of_subscription AS (PARTITION BY subscription_id ORDER BY valid_from)
)
SELECT
    subscription_id,
    org_id,
    valid_from AS run_start,
    CASE
        WHEN next_from IS NULL THEN valid_to
        WHEN is_followed_by_start THEN end_before_next
        ELSE next_end
    END AS run_end,
    from_on AS start_on
FROM edges
WHERE is_start
