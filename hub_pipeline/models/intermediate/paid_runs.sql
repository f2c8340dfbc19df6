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
        lag(s.valid_to) OVER (PARTITION BY s.subscription_id ORDER BY s.valid_from) AS previous_end,
        lag(s.org_id) OVER (PARTITION BY s.subscription_id ORDER BY s.valid_from) AS previous_org_id
    FROM intermediate.subscription_intervals AS s
    WHERE s.is_paid
),
numbered AS (
    SELECT
        p.*,
        sum(CASE WHEN p.org_id = p.previous_org_id AND p.valid_from <= p.previous_end THEN 0 ELSE 1 END)
            OVER (PARTITION BY p.subscription_id ORDER BY p.valid_from ROWS UNBOUNDED PRECEDING) AS run_number
    FROM paid AS p
)
SELECT
    n.subscription_id,
    n.org_id,
    min(n.valid_from) AS run_start,
    CASE WHEN bool_or(n.valid_to IS NULL) THEN NULL ELSE max(n.valid_to) END AS run_end,
    min(n.from_on) AS start_on
FROM numbered AS n
GROUP BY n.subscription_id, n.org_id, n.run_number
