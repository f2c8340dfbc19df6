/*---
description: >
  Conversations with a message of the contact in the window (D-28, D] that belong to no organisation: none stands on
  the record and the contact was a member of none when it last wrote.
grain: [as_of, known_at, conversation_id]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "day whose close ends what may be known", not_null: true}
  conversation_id: {type: VARCHAR, meaning: "conversation", not_null: true}
  contact_id: {type: VARCHAR, meaning: "contact who takes part; empty = unknown"}
  last_contact_on: {type: DATE, meaning: "local day of the contact's last message", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was made with", not_null: true}
checks:
  - name: every_conversation_has_an_organisation
    severity: warn
    description: Every conversation of the window belongs to an organisation; these are on no list.
    sql: SELECT as_of, known_at, conversation_id FROM marts.unattributed_interactions
---*/
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    c.conversation_id,
    c.contact_id,
    local_date(c.last_contact_at, $reporting_tz) AS last_contact_on,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM intermediate.conversation_organisations AS c
WHERE c.org_id IS NULL AND c.contact_messages > 0
