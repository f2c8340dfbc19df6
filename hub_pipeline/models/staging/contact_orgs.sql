/*---
description: >
  Memberships of contacts in organisations.
  Recorded_at is the input's; where that is empty it is valid_from, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [contact_id, org_id, valid_from, recorded_at]
columns:
  contact_id: {type: VARCHAR, meaning: "contact", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation", not_null: true}
  is_primary: {type: BOOLEAN, meaning: "primary membership of the contact", not_null: true}
  valid_from: {type: TIMESTAMP, meaning: "inclusive start; 1970-01-01 = always", not_null: true}
  valid_to: {type: TIMESTAMP, meaning: "exclusive end; empty = open"}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        contact_id,
        org_id,
        coalesce(is_primary, false) AS is_primary,
        coalesce(valid_from, TIMESTAMP '1970-01-01') AS valid_from,
        valid_to,
        coalesce(recorded_at, valid_from, TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.contact_orgs
)
SELECT
    contact_id,
    org_id,
    is_primary,
    valid_from,
    valid_to,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY contact_id, org_id, valid_from, recorded_at
        ORDER BY
            is_primary DESC,
            valid_to DESC
    ) = 1
