/*---
description: >
  Stages of the deal pipelines.
  Recorded_at is the input's; where that is empty the row was always known (1970-01-01).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [pipeline, stage, recorded_at]
columns:
  pipeline: {type: VARCHAR, meaning: "pipeline", not_null: true}
  stage: {type: VARCHAR, meaning: "stage id", not_null: true}
  label: {type: VARCHAR, meaning: "name people see"}
  probability: {type: "DECIMAL(5,4)", meaning: "probability of winning in the pipeline's own settings"}
  status: {type: VARCHAR, meaning: "open, won or lost", accepted: [open, won, lost]}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        pipeline,
        stage,
        label,
        probability,
        lower(nullif(trim(status), '')) AS status,
        coalesce(recorded_at, TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.stages
)
SELECT
    pipeline,
    stage,
    label,
    probability,
    status,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY pipeline, stage, recorded_at
        ORDER BY
            label DESC,
            probability DESC,
            status DESC
    ) = 1
