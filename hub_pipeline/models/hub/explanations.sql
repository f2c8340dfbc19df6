/*---
description: >
  Why an organisation is, or is not, on each list, on every stored day: one row for each day, organisation and list,
  with the sentences of the rows behind it, or what is missing. `hub-pipeline explain` prints the same with the rows.
grain: [as_of, org_id, list]
columns:
  as_of: {type: DATE, meaning: "day", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  list: {type: VARCHAR, meaning: "list in question", not_null: true, accepted: [fast_growing, at_risk, churn, renewal_pipeline, upsell_pipeline, tier_ab_interactions]}
  is_on_list: {type: BOOLEAN, meaning: "it is on the list", not_null: true}
  why: {type: "VARCHAR[]", meaning: "sentences with the numbers, sorted", not_null: true}
order_by: [as_of DESC, org_id, list]
---*/
WITH organisations AS (
    SELECT c.*
    FROM marts.customer_360 AS c
    WHERE c.known_at = c.as_of
),
churn AS (
    SELECT
        f.as_of,
        f.org_id,
        bool_or(f.state = 'scheduled' OR f.is_recent OR f.verification = 'needs_review') AS is_on_list,
        list_sort(array_agg(f.why)) AS why
    FROM marts.churn_flags AS f
    WHERE f.known_at = f.as_of
    GROUP BY f.as_of, f.org_id
),
renewals AS (
    SELECT
        r.as_of,
        r.org_id,
        bool_or(r.in_scope) AS is_on_list,
        list_sort(array_agg(
            CASE WHEN r.in_scope THEN '' ELSE 'Out of scope (' || r.out_of_scope_reason || '): ' END || r.why
        )) AS why
    FROM marts.renewal_pipeline AS r
    WHERE r.known_at = r.as_of AND r.org_id IS NOT NULL
    GROUP BY r.as_of, r.org_id
),
upsells AS (
    SELECT u.as_of, u.org_id, list_sort(array_agg(u.why)) AS why
    FROM marts.upsell_pipeline AS u
    WHERE u.known_at = u.as_of AND u.org_id IS NOT NULL
    GROUP BY u.as_of, u.org_id
),
conversations AS (
    SELECT i.as_of, i.org_id, list_sort(array_agg(i.why)) AS why
    FROM marts.interactions AS i
    WHERE i.known_at = i.as_of
    GROUP BY i.as_of, i.org_id
)
SELECT
    o.as_of,
    o.org_id,
    o.name,
    'fast_growing' AS list,
    coalesce(g.is_fast_growing, false) AS is_on_list,
    CASE
        WHEN g.org_id IS NULL THEN ['It has no seats at the close of the day.']
        WHEN g.is_fast_growing THEN [g.why]
        ELSE [g.why || ' Organic growth of ' || g.organic_seat_delta || ' is below ' || g.min_seats || '.']
    END AS why
FROM organisations AS o
LEFT JOIN marts.seat_growth AS g ON g.org_id = o.org_id AND g.as_of = o.as_of AND g.known_at = o.as_of
UNION ALL
SELECT
    o.as_of,
    o.org_id,
    o.name,
    'at_risk' AS list,
    r.org_id IS NOT NULL AS is_on_list,
    CASE
        WHEN r.org_id IS NOT NULL THEN [r.why]
        WHEN NOT o.is_customer THEN ['It is no customer: ' || o.state || '.']
        ELSE [
            'No high contraction: '
            || CASE
                WHEN o.seat_drop IS NULL OR o.seats_baseline IS NULL THEN 'seats unknown'
                WHEN o.seat_drop > 0 THEN 'seat drop ' || o.seat_drop || ' of ' || o.seats_baseline
                ELSE 'no drop of its ' || o.seats_baseline || ' seats'
            END
            || ', '
            || CASE
                WHEN o.mrr_drop IS NULL OR o.mrr_baseline IS NULL THEN 'MRR unknown'
                WHEN o.mrr_drop > 0 THEN 'MRR drop ' || o.mrr_drop || ' of ' || o.mrr_baseline
                ELSE 'no drop of its ' || o.mrr_baseline || ' MRR'
            END
            || '; no current NPS detractor among ' || o.nps_answers || ' answers.'
        ]
    END AS why
FROM organisations AS o
LEFT JOIN marts.at_risk AS r ON r.org_id = o.org_id AND r.as_of = o.as_of AND r.known_at = o.as_of
UNION ALL
SELECT
    o.as_of,
    o.org_id,
    o.name,
    'churn' AS list,
    coalesce(c.is_on_list, false) AS is_on_list,
    coalesce(c.why, ['No paid subscription of it has ended or has a known end.']) AS why
FROM organisations AS o
LEFT JOIN churn AS c ON c.org_id = o.org_id AND c.as_of = o.as_of
UNION ALL
SELECT
    o.as_of,
    o.org_id,
    o.name,
    'renewal_pipeline' AS list,
    coalesce(r.is_on_list, false) AS is_on_list,
    coalesce(r.why, ['No contract of it runs, and no open renewal deal belongs to it.']) AS why
FROM organisations AS o
LEFT JOIN renewals AS r ON r.org_id = o.org_id AND r.as_of = o.as_of
UNION ALL
SELECT
    o.as_of,
    o.org_id,
    o.name,
    'upsell_pipeline' AS list,
    u.org_id IS NOT NULL AS is_on_list,
    coalesce(u.why, ['No open upsell deal, and nothing that makes it a candidate.']) AS why
FROM organisations AS o
LEFT JOIN upsells AS u ON u.org_id = o.org_id AND u.as_of = o.as_of
UNION ALL
SELECT
    o.as_of,
    o.org_id,
    o.name,
    'tier_ab_interactions' AS list,
    i.org_id IS NOT NULL AS is_on_list,
    coalesce(
        i.why,
        ['Tier ' || o.tier || '; ' || CASE
            WHEN o.conversations_in_window > 0 THEN 'its conversations count only for the tiers of the settings.'
            ELSE 'no message of a contact within the window'
                || coalesce(', the last one on ' || CAST(o.last_conversation_on AS VARCHAR), '') || '.'
        END]
    ) AS why
FROM organisations AS o
LEFT JOIN conversations AS i ON i.org_id = o.org_id AND i.as_of = o.as_of
