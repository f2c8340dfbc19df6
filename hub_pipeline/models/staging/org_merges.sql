/*---
description: >
  Organisations that were merged into another one.
  Recorded_at is the input's; where that is empty it is merged_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [loser_org_id, recorded_at]
columns:
  loser_org_id: {type: VARCHAR, meaning: "id that is gone", not_null: true}
  winner_org_id: {type: VARCHAR, meaning: "id that stays", not_null: true}
  merged_at: {type: TIMESTAMP, meaning: "instant of the merge"}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        loser_org_id,
        winner_org_id,
        merged_at,
        coalesce(recorded_at, merged_at, TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.org_merges
)
SELECT
    loser_org_id,
    winner_org_id,
    merged_at,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY loser_org_id, recorded_at
        ORDER BY
            winner_org_id DESC,
            merged_at DESC
    ) = 1
