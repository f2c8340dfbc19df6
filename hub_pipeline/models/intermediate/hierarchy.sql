/*---
description: >
  The account each organisation belongs to at the close of as_of: parents are followed to the top.
  A parent holds when valid_from is before the close of as_of and valid_to is empty or not before it.
  Of several parents valid at once the latest valid_from wins, then the one recorded last, then the smallest id.
  Rows with the same organisation and valid_from are one fact: the one recorded last holds.
  An organisation whose parents never come to an end (a cycle above it) is its own root, with has_cycle.
  Parent and child that were merged into one organisation are no longer parent and child.
grain: [org_id]
columns:
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  root_org_id: {type: VARCHAR, meaning: "top of its account; itself when it has no parent", not_null: true}
  parent_org_id: {type: VARCHAR, meaning: "direct parent at the close of as_of; empty = none"}
  has_cycle: {type: BOOLEAN, meaning: "following its parents never ends", not_null: true}
---*/
WITH RECURSIVE known_parents AS (
    SELECT org_id, parent_org_id, valid_from, valid_to, recorded_at
    FROM staging.org_parents
    WHERE recorded_at < $close_known_at
    QUALIFY
        row_number() OVER (PARTITION BY org_id, valid_from ORDER BY recorded_at DESC) = 1
),
edges AS (
    SELECT
        child.canonical_org_id AS org_id,
        parent.canonical_org_id AS parent_org_id
    FROM known_parents AS p
    INNER JOIN intermediate.organisation_identity AS child ON p.org_id = child.org_id
    LEFT JOIN intermediate.organisation_identity AS parent ON p.parent_org_id = parent.org_id
    WHERE
        p.valid_from < $close_as_of
        AND (p.valid_to IS NULL OR p.valid_to >= $close_as_of)
        AND (p.org_id = p.parent_org_id OR child.canonical_org_id IS DISTINCT FROM parent.canonical_org_id)
    QUALIFY
        row_number() OVER (
            PARTITION BY child.canonical_org_id
            ORDER BY p.valid_from DESC, p.recorded_at DESC, parent.canonical_org_id, p.org_id
        ) = 1
),
ancestors AS (
    SELECT org_id, parent_org_id AS ancestor_org_id
    FROM edges
    WHERE parent_org_id IS NOT NULL
    UNION
    SELECT a.org_id, e.parent_org_id AS ancestor_org_id
    FROM ancestors AS a
    INNER JOIN edges AS e ON a.ancestor_org_id = e.org_id
    WHERE e.parent_org_id IS NOT NULL
),
tops AS (
    SELECT
        a.org_id,
        min(a.ancestor_org_id) FILTER (WHERE e.parent_org_id IS NULL) AS root_org_id
    FROM ancestors AS a
    LEFT JOIN edges AS e ON a.ancestor_org_id = e.org_id
    GROUP BY a.org_id
)
SELECT
    o.org_id,
    coalesce(t.root_org_id, o.org_id) AS root_org_id,
    e.parent_org_id,
    t.org_id IS NOT NULL AND t.root_org_id IS NULL AS has_cycle
FROM (SELECT DISTINCT canonical_org_id AS org_id FROM intermediate.organisation_identity) AS o
LEFT JOIN edges AS e ON o.org_id = e.org_id
LEFT JOIN tops AS t ON o.org_id = t.org_id
