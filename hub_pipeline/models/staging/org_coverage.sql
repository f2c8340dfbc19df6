/*---
description: >
  Joint plans: the child's seats are paid for by another organisation.
  Recorded_at is the input's; where that is empty it is valid_from, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [child_org_id, payer_org_id, valid_from, recorded_at]
columns:
  child_org_id: {type: VARCHAR, meaning: "covered organisation", not_null: true}
  payer_org_id: {type: VARCHAR, meaning: "organisation that pays", not_null: true}
  valid_from: {type: TIMESTAMP, meaning: "inclusive start; 1970-01-01 = always", not_null: true}
  valid_to: {type: TIMESTAMP, meaning: "exclusive end; empty = open"}
  seats: {type: BIGINT, meaning: "seats moved; empty = the child's seats of the day before"}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
  valid_from_on: {type: DATE, meaning: "local day the coverage starts; 1970-01-01 = always", not_null: true}
---*/
WITH completed AS (
    SELECT
        child_org_id,
        payer_org_id,
        coalesce(valid_from, TIMESTAMP '1970-01-01') AS valid_from,
        valid_to,
        seats,
        coalesce(recorded_at, valid_from, TIMESTAMP '1970-01-01') AS recorded_at,
        local_date(coalesce(valid_from, TIMESTAMP '1970-01-01'), $reporting_tz) AS valid_from_on
    FROM inputs.org_coverage
)
SELECT
    child_org_id,
    payer_org_id,
    valid_from,
    valid_to,
    seats,
    recorded_at,
    valid_from_on
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY child_org_id, payer_org_id, valid_from, recorded_at
        ORDER BY
            valid_to DESC,
            seats DESC
    ) = 1
