/*---
description: >
  Success plans of organisations.
  Recorded_at is the input's; where that is empty it is updated_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [org_id, updated_at, recorded_at]
columns:
  org_id: {type: VARCHAR, meaning: "organisation", not_null: true}
  status: {type: VARCHAR, meaning: "status of the plan"}
  objectives: {type: VARCHAR, meaning: "what the customer wants to reach"}
  updated_at: {type: TIMESTAMP, meaning: "instant of the last update"}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        org_id,
        status,
        objectives,
        updated_at,
        coalesce(recorded_at, updated_at, TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.success_plans
)
SELECT
    org_id,
    status,
    objectives,
    updated_at,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY org_id, updated_at, recorded_at
        ORDER BY
            status DESC,
            objectives DESC
    ) = 1
