/*---
description: >
  Every organisation id that was known at the close of known_at, with the id it goes by after merges.
  A merge follows knowledge alone: known by known_at, it holds for all of history (cases G08b, G08c).
  Merges are followed to the last survivor. A loser merged twice follows the merge recorded last.
  Ids merged in a circle all go by the smallest id of the circle.
grain: [org_id]
columns:
  org_id: {type: VARCHAR, meaning: "id as it stands in the inputs", not_null: true}
  canonical_org_id: {type: VARCHAR, meaning: "id of the survivor; the id itself when it was never merged away", not_null: true}
---*/
WITH RECURSIVE merges AS (
    SELECT loser_org_id, winner_org_id
    FROM staging.org_merges
    WHERE recorded_at < $close_known_at AND loser_org_id <> winner_org_id
    QUALIFY
        row_number() OVER (PARTITION BY loser_org_id ORDER BY recorded_at DESC, winner_org_id) = 1
),
reached AS (
    SELECT loser_org_id AS org_id, winner_org_id AS reached_org_id
    FROM merges
    UNION
    SELECT r.org_id, m.winner_org_id AS reached_org_id
    FROM reached AS r
    INNER JOIN merges AS m ON r.reached_org_id = m.loser_org_id
),
circular AS (
    SELECT org_id
    FROM reached
    WHERE org_id = reached_org_id
),
survivors AS (
    SELECT
        r.org_id,
        coalesce(
            min(r.reached_org_id) FILTER (WHERE m.loser_org_id IS NULL),
            min(r.reached_org_id) FILTER (WHERE c.org_id IS NOT NULL)
        ) AS canonical_org_id
    FROM reached AS r
    LEFT JOIN merges AS m ON r.reached_org_id = m.loser_org_id
    LEFT JOIN circular AS c ON r.reached_org_id = c.org_id
    GROUP BY r.org_id
),
known AS (
    SELECT org_id FROM staging.organisations WHERE recorded_at < $close_known_at
    UNION
    SELECT org_id FROM staging.subscription_versions WHERE recorded_at < $close_known_at
    UNION
    SELECT org_id FROM staging.crm_contracts WHERE recorded_at < $close_known_at
    UNION
    SELECT org_id FROM staging.org_parents WHERE recorded_at < $close_known_at
    UNION
    SELECT parent_org_id FROM staging.org_parents WHERE recorded_at < $close_known_at AND parent_org_id IS NOT NULL
    UNION
    SELECT child_org_id FROM staging.org_coverage WHERE recorded_at < $close_known_at
    UNION
    SELECT payer_org_id FROM staging.org_coverage WHERE recorded_at < $close_known_at
    UNION
    SELECT org_id FROM staging.contact_orgs WHERE recorded_at < $close_known_at
    UNION
    SELECT org_id FROM staging.nps_responses WHERE recorded_at < $close_known_at AND org_id IS NOT NULL
    UNION
    SELECT org_id FROM staging.conversations WHERE recorded_at < $close_known_at AND org_id IS NOT NULL
    UNION
    SELECT org_id FROM staging.engagements WHERE recorded_at < $close_known_at AND org_id IS NOT NULL
    UNION
    SELECT org_id FROM staging.deals WHERE recorded_at < $close_known_at AND org_id IS NOT NULL
    UNION
    SELECT org_id FROM staging.success_plans WHERE recorded_at < $close_known_at
    UNION
    SELECT loser_org_id FROM merges
    UNION
    SELECT winner_org_id FROM merges
)
SELECT
    k.org_id,
    coalesce(s.canonical_org_id, k.org_id) AS canonical_org_id
FROM known AS k
LEFT JOIN survivors AS s ON k.org_id = s.org_id
