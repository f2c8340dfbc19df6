/*---
description: >
  Colleagues, one row for each version.
  Recorded_at is the input's; where that is empty the row was always known (1970-01-01).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [user_id, recorded_at]
columns:
  user_id: {type: VARCHAR, meaning: "id of the user", not_null: true}
  name: {type: VARCHAR, meaning: "full name"}
  email: {type: VARCHAR, meaning: "e-mail address"}
  role: {type: VARCHAR, meaning: "sales, csm, support or another"}
  is_active: {type: BOOLEAN, meaning: "can still own records", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        user_id,
        name,
        email,
        lower(role) AS role,
        coalesce(is_active, false) AS is_active,
        coalesce(recorded_at, TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.users
)
SELECT
    user_id,
    name,
    email,
    role,
    is_active,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY user_id, recorded_at
        ORDER BY
            name DESC,
            email DESC,
            role DESC,
            is_active DESC
    ) = 1
