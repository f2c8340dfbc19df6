/*---
description: >
  Contacts with whom a colleague in a client-facing role (ownership.client_facing_roles: sales, csm) had an e-mail,
  call or meeting before the close of as_of. What was automated, what support did, notes and tasks do not count.
grain: [contact_id]
columns:
  contact_id: {type: VARCHAR, meaning: "contact", not_null: true}
---*/
-- current_engagements holds none but tasks that were not over by the close of as_of.
SELECT DISTINCT e.contact_id
FROM intermediate.current_engagements AS e
INNER JOIN intermediate.current_users AS u ON u.user_id = e.user_id AND u.is_client_facing
WHERE
    e.contact_id IS NOT NULL
    AND e.type IN ('email', 'call', 'meeting')
    AND NOT e.is_automated
