/*---
description: >
  What later knowledge changes about a stored day: entries of a list that a restated build of the day (known_at after
  as_of) has and the day as it was published has not (new), the other way round (cleared), or that say something else
  (changed). Lists and what is compared are those of hub.changes_since_yesterday. Empty until a day is restated
  (hub-pipeline backfill --known-at).
grain: [as_of, known_at, list, item_id]
columns:
  as_of: {type: DATE, meaning: "the day", not_null: true}
  known_at: {type: DATE, meaning: "day whose close ends what the restated build knew", not_null: true}
  list: {type: VARCHAR, meaning: "list that differs", not_null: true, accepted: [organisations, fast_growing, at_risk, churn, renewal_pipeline, tier_ab_interactions]}
  item_id: {type: VARCHAR, meaning: "organisation, subscription or conversation:organisation", not_null: true}
  change: {type: VARCHAR, meaning: "new, cleared or changed by later knowledge", not_null: true, accepted: [new, cleared, changed]}
  org_id: {type: VARCHAR, meaning: "organisation after merges"}
  published: {type: VARCHAR, meaning: "what the day says as published; empty for new"}
  restated: {type: VARCHAR, meaning: "what it says with later knowledge; empty for cleared"}
order_by: [as_of DESC, known_at, list, item_id]
---*/
WITH entries AS (
    SELECT
        o.as_of,
        o.known_at,
        'organisations' AS list,
        o.org_id AS item_id,
        o.org_id,
        o.state || ', ' || coalesce(CAST(o.seats AS VARCHAR), 'unknown') || ' seats, '
        || coalesce(CAST(o.mrr AS VARCHAR), 'unknown') || ' MRR' AS said
    FROM marts.organisation_daily AS o
    UNION ALL
    SELECT g.as_of, g.known_at, 'fast_growing' AS list, g.org_id AS item_id, g.org_id, 'organic growth ' || CAST(g.organic_seat_delta AS VARCHAR) AS said
    FROM marts.seat_growth AS g
    WHERE g.is_fast_growing
    UNION ALL
    SELECT r.as_of, r.known_at, 'at_risk' AS list, r.org_id AS item_id, r.org_id, array_to_string(r.reasons, ', ') AS said
    FROM marts.at_risk AS r
    UNION ALL
    SELECT
        c.as_of,
        c.known_at,
        'churn' AS list,
        c.subscription_id AS item_id,
        c.org_id,
        c.state || coalesce(' ' || c.false_alarm_reason, '') || ', ' || CAST(c.churn_date AS VARCHAR) AS said
    FROM marts.churn_flags AS c
    UNION ALL
    SELECT
        p.as_of,
        p.known_at,
        'renewal_pipeline' AS list,
        p.renewal_id AS item_id,
        p.org_id,
        p.status || coalesce(', stage ' || p.stage, '') || coalesce(', renew by ' || CAST(p.renew_by AS VARCHAR), '') AS said
    FROM marts.renewal_pipeline AS p
    WHERE p.in_scope
    UNION ALL
    SELECT
        i.as_of,
        i.known_at,
        'tier_ab_interactions' AS list,
        i.conversation_id || ':' || i.org_id AS item_id,
        i.org_id,
        CASE WHEN i.needs_escalation THEN 'needs escalation' ELSE 'conversation' END AS said
    FROM marts.interactions AS i
),
builds AS (
    SELECT DISTINCT o.as_of, o.known_at
    FROM marts.organisation_daily AS o
    WHERE o.known_at > o.as_of
),
compared AS (
    SELECT
        b.as_of,
        b.known_at,
        e.list,
        e.item_id,
        max(e.org_id) AS org_id,
        max(e.said) FILTER (WHERE e.known_at = b.as_of) AS published,
        max(e.said) FILTER (WHERE e.known_at = b.known_at) AS restated
    FROM builds AS b
    INNER JOIN entries AS e ON e.as_of = b.as_of AND (e.known_at = b.as_of OR e.known_at = b.known_at)
    GROUP BY b.as_of, b.known_at, e.list, e.item_id
)
SELECT
    c.as_of,
    c.known_at,
    c.list,
    c.item_id,
    CASE WHEN c.published IS NULL THEN 'new' WHEN c.restated IS NULL THEN 'cleared' ELSE 'changed' END AS change,
    c.org_id,
    c.published,
    c.restated
FROM compared AS c
WHERE c.published IS DISTINCT FROM c.restated
