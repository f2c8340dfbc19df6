/*---
description: >
  NPS answers that count on the day and belong to no organisation: they are part of the score of the whole company and
  of none. An anonymous answer names nobody; an unknown respondent is no contact of which any version is known;
  a contact without organisation was a member of none when it answered.
grain: [as_of, known_at, response_id]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "day whose close ends what may be known", not_null: true}
  response_id: {type: VARCHAR, meaning: "id of the answer", not_null: true}
  contact_id: {type: VARCHAR, meaning: "who answered; empty = anonymous"}
  reason: {type: VARCHAR, meaning: "why it belongs to none", not_null: true, accepted: [anonymous, respondent_unknown, contact_without_organisation]}
  score: {type: INTEGER, meaning: "0 to 10", not_null: true}
  responded_on: {type: DATE, meaning: "local day of the answer", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was made with", not_null: true}
checks:
  - name: every_answer_has_an_organisation
    severity: warn
    description: Answers that belong to no organisation; they count in the score of the whole company only.
    sql: >
      SELECT response_id, reason FROM marts.unmatched_nps WHERE as_of = CAST($as_of AS DATE) AND known_at = CAST($known_at AS DATE)
---*/
WITH contacts AS (
    SELECT DISTINCT contact_id
    FROM staging.contacts
    WHERE recorded_at < $close_known_at
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    n.response_id,
    n.contact_id,
    CASE
        WHEN n.contact_id IS NULL THEN 'anonymous'
        WHEN c.contact_id IS NULL THEN 'respondent_unknown'
        ELSE 'contact_without_organisation'
    END AS reason,
    n.score,
    n.responded_on,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM intermediate.nps_current AS n
LEFT JOIN contacts AS c ON n.contact_id = c.contact_id
WHERE n.org_id IS NULL
