/*---
description: >
  Contacts with whom a colleague in a client-facing role (ownership.client_facing_roles: sales, csm) had an e-mail,
  call or meeting before the close of as_of. What was automated, what support did, notes and tasks do not count.
grain: [contact_id]
columns:
  contact_id: {type: VARCHAR, meaning: "contact", not_null: true}
  last_met_at: {type: TIMESTAMP, meaning: "the last such engagement", not_null: true}
---*/
SELECT
    e.contact_id,
    max(e.occurred_at) AS last_met_at
FROM intermediate.current_engagements AS e
INNER JOIN intermediate.current_users AS u ON u.user_id = e.user_id AND u.is_client_facing
WHERE
    e.contact_id IS NOT NULL
    AND e.type IN ('email', 'call', 'meeting')
    AND NOT e.is_automated
    AND e.occurred_at < CAST($close_as_of AS TIMESTAMP)
GROUP BY e.contact_id
