/*---
description: >
  Hierarchy of organisations over time.
  Recorded_at is the input's; where that is empty it is valid_from, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [org_id, valid_from, recorded_at]
columns:
  org_id: {type: VARCHAR, meaning: "child", not_null: true}
  parent_org_id: {type: VARCHAR, meaning: "parent; empty = no parent from valid_from on"}
  valid_from: {type: TIMESTAMP, meaning: "inclusive start; 1970-01-01 = always", not_null: true}
  valid_to: {type: TIMESTAMP, meaning: "exclusive end; empty = open"}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        org_id,
        parent_org_id,
        coalesce(valid_from, TIMESTAMP '1970-01-01') AS valid_from,
        valid_to,
        coalesce(recorded_at, valid_from, TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.org_parents
)
SELECT
    org_id,
    parent_org_id,
    valid_from,
    valid_to,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY org_id, valid_from, recorded_at
        ORDER BY
            parent_org_id DESC,
            valid_to DESC
    ) = 1
