/*---
description: >
  Stage history of deals.
  Recorded_at is the input's; where that is empty it is set_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [deal_id, set_at, recorded_at]
columns:
  deal_id: {type: VARCHAR, meaning: "deal", not_null: true}
  stage: {type: VARCHAR, meaning: "stage set"}
  set_at: {type: TIMESTAMP, meaning: "instant it was set", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
  set_on: {type: DATE, meaning: "local day it was set", not_null: true}
---*/
WITH completed AS (
    SELECT
        deal_id,
        stage,
        set_at,
        coalesce(recorded_at, set_at, TIMESTAMP '1970-01-01') AS recorded_at,
        local_date(set_at, $reporting_tz) AS set_on
    FROM inputs.deal_stages
)
SELECT
    deal_id,
    stage,
    set_at,
    recorded_at,
    set_on
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY deal_id, set_at, recorded_at
        ORDER BY
            stage DESC
    ) = 1
