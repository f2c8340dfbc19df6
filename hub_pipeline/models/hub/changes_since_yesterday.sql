/*---
description: >
  What is different from the stored day before the latest one: what is new on a list, no longer on it (cleared), or on
  it with other facts (changed). Lists: fast_growing, at_risk (reasons), churn (state and date, false alarms left out),
  renewal_pipeline (in scope: status, stage, renew-by date), tier_ab_interactions (needs_escalation). Empty when only one
  day is stored. previous_as_of is yesterday unless a day was missed. Ordered by owner.
grain: [list, item_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  previous_as_of: {type: DATE, meaning: "the stored day before", not_null: true}
  list: {type: VARCHAR, meaning: "list that changed", not_null: true, accepted: [fast_growing, at_risk, churn, renewal_pipeline, tier_ab_interactions]}
  item_id: {type: VARCHAR, meaning: "organisation, subscription or conversation:organisation", not_null: true}
  change: {type: VARCHAR, meaning: "new, cleared or changed", not_null: true, accepted: [new, cleared, changed]}
  org_id: {type: VARCHAR, meaning: "organisation after merges"}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_name: {type: VARCHAR, meaning: "who owns the relationship"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR of the organisation on the latest day"}
  before: {type: VARCHAR, meaning: "what was said the day before; empty for new"}
  after: {type: VARCHAR, meaning: "what is said now; empty for cleared"}
  hubspot_url: {type: VARCHAR, meaning: "address of the HubSpot record"}
  why: {type: VARCHAR, meaning: "the list's own sentence: of the latest day, else of the day before"}
order_by: [owner_name NULLS LAST, list, change, item_id]
---*/
WITH days AS (
    SELECT d.as_of, lag(d.as_of) OVER (ORDER BY d.as_of) AS previous_as_of
    FROM (SELECT DISTINCT o.as_of FROM marts.organisation_daily AS o WHERE o.known_at = o.as_of) AS d
),
latest AS (
    SELECT d.as_of, d.previous_as_of
    FROM days AS d
    WHERE d.as_of = (SELECT max(x.as_of) FROM days AS x) AND d.previous_as_of IS NOT NULL
),
entries AS (
    SELECT g.as_of, 'fast_growing' AS list, g.org_id AS item_id, g.org_id, 'fast growing' AS said, g.why
    FROM marts.seat_growth AS g
    WHERE g.known_at = g.as_of AND g.is_fast_growing
    UNION ALL
    SELECT r.as_of, 'at_risk' AS list, r.org_id AS item_id, r.org_id, array_to_string(r.reasons, ', ') AS said, r.why
    FROM marts.at_risk AS r
    WHERE r.known_at = r.as_of
    UNION ALL
    SELECT
        c.as_of,
        'churn' AS list,
        c.subscription_id AS item_id,
        c.org_id,
        c.state || ', ' || CAST(c.churn_date AS VARCHAR) AS said,
        c.why
    FROM marts.churn_flags AS c
    WHERE c.known_at = c.as_of AND c.state <> 'false_alarm'
    UNION ALL
    SELECT
        p.as_of,
        'renewal_pipeline' AS list,
        p.renewal_id AS item_id,
        p.org_id,
        p.status || coalesce(', stage ' || p.stage, '') || coalesce(', renew by ' || CAST(p.renew_by AS VARCHAR), '') AS said,
        p.why
    FROM marts.renewal_pipeline AS p
    WHERE p.known_at = p.as_of AND p.in_scope
    UNION ALL
    SELECT
        i.as_of,
        'tier_ab_interactions' AS list,
        i.conversation_id || ':' || i.org_id AS item_id,
        i.org_id,
        CASE WHEN i.needs_escalation THEN 'needs escalation' ELSE 'conversation' END AS said,
        i.why
    FROM marts.interactions AS i
    WHERE i.known_at = i.as_of
),
compared AS (
    SELECT
        l.as_of,
        l.previous_as_of,
        e.list,
        e.item_id,
        max(e.org_id) FILTER (WHERE e.as_of = l.as_of) AS org_now,
        max(e.org_id) FILTER (WHERE e.as_of = l.previous_as_of) AS org_before,
        max(e.said) FILTER (WHERE e.as_of = l.previous_as_of) AS said_before,
        max(e.said) FILTER (WHERE e.as_of = l.as_of) AS said_now,
        max(e.why) FILTER (WHERE e.as_of = l.previous_as_of) AS why_before,
        max(e.why) FILTER (WHERE e.as_of = l.as_of) AS why_now
    FROM entries AS e
    INNER JOIN latest AS l ON e.as_of = l.as_of OR e.as_of = l.previous_as_of
    GROUP BY l.as_of, l.previous_as_of, e.list, e.item_id
)
SELECT
    c.as_of,
    c.previous_as_of,
    c.list,
    c.item_id,
    CASE WHEN c.said_before IS NULL THEN 'new' WHEN c.said_now IS NULL THEN 'cleared' ELSE 'changed' END AS change,
    coalesce(c.org_now, c.org_before) AS org_id,
    o.name,
    o.owner_name,
    o.tier,
    o.mrr,
    c.said_before AS before,
    c.said_now AS after,
    o.hubspot_url,
    coalesce(c.why_now, c.why_before) AS why
FROM compared AS c
LEFT JOIN marts.organisation_daily AS o
    ON o.org_id = coalesce(c.org_now, c.org_before) AND o.as_of = c.as_of AND o.known_at = c.as_of
WHERE c.said_before IS DISTINCT FROM c.said_now
