/*---
description: >
  The colleagues of the day: of each user the version recorded last before the close of known_at.
  A user who can no longer own records stays, with is_active false.
grain: [user_id]
columns:
  user_id: {type: VARCHAR, meaning: "id of the user", not_null: true}
  name: {type: VARCHAR, meaning: "full name"}
  email: {type: VARCHAR, meaning: "e-mail address"}
  role: {type: VARCHAR, meaning: "sales, csm, support or another"}
  is_active: {type: BOOLEAN, meaning: "can still own records", not_null: true}
  is_client_facing: {type: BOOLEAN, meaning: "role is one of ownership.client_facing_roles", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant this version was recorded", not_null: true}
---*/
SELECT
    user_id,
    name,
    email,
    role,
    is_active,
    coalesce(list_contains($ownership_client_facing_roles, role), false) AS is_client_facing,
    recorded_at
FROM staging.users
WHERE recorded_at < $close_known_at
QUALIFY
    row_number() OVER (PARTITION BY user_id ORDER BY recorded_at DESC) = 1
