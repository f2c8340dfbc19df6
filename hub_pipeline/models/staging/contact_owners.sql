/*---
description: >
  Owner history of contacts.
  Recorded_at is the input's; where that is empty it is valid_from, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [contact_id, valid_from, recorded_at]
columns:
  contact_id: {type: VARCHAR, meaning: "contact", not_null: true}
  owner_id: {type: VARCHAR, meaning: "owner; empty = nobody from valid_from on"}
  valid_from: {type: TIMESTAMP, meaning: "inclusive start; 1970-01-01 = always", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        contact_id,
        owner_id,
        coalesce(valid_from, TIMESTAMP '1970-01-01') AS valid_from,
        coalesce(recorded_at, valid_from, TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.contact_owners
)
SELECT
    contact_id,
    owner_id,
    valid_from,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY contact_id, valid_from, recorded_at
        ORDER BY
            owner_id DESC
    ) = 1
