/*---
description: >
  Lifecycle history of contacts.
  Recorded_at is the input's; where that is empty it is set_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [contact_id, set_at, recorded_at]
columns:
  contact_id: {type: VARCHAR, meaning: "contact", not_null: true}
  lifecycle_stage: {type: VARCHAR, meaning: "stage set"}
  lead_status: {type: VARCHAR, meaning: "status set"}
  set_at: {type: TIMESTAMP, meaning: "instant it was set", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        contact_id,
        lifecycle_stage,
        lead_status,
        set_at,
        coalesce(recorded_at, set_at, TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.contact_stages
)
SELECT
    contact_id,
    lifecycle_stage,
    lead_status,
    set_at,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY contact_id, set_at, recorded_at
        ORDER BY
            lifecycle_stage DESC,
            lead_status DESC
    ) = 1
