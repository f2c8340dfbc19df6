/*---
description: >
  The movements of marts.mrr_movements on each single day of the metrics period up to as_of: an account that came and
  went within the period has both days here. Only days on which something changed have rows. Converted at the rates of
  the day and of the day before.
grain: [as_of, known_at, account_id, day, movement]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  account_id: {type: VARCHAR, meaning: "root organisation", not_null: true}
  name: {type: VARCHAR, meaning: "name of the root organisation"}
  day: {type: DATE, meaning: "local day of the change", not_null: true}
  movement: {type: VARCHAR, meaning: "kind of movement", not_null: true, accepted: [new, reactivation, expansion, contraction, churn, paused, resumed, transfer_in, transfer_out, fx]}
  amount: {type: "DECIMAL(18,2)", meaning: "change of MRR, reporting currency; negative when it was lost", not_null: true}
  opening: {type: "DECIMAL(18,2)", meaning: "MRR of the account at the close of the day before", not_null: true}
  closing: {type: "DECIMAL(18,2)", meaning: "MRR of the account at the close of the day", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    m.entity_id AS account_id,
    o.name,
    m.day,
    m.movement,
    m.amount,
    m.opening,
    m.closing,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM intermediate.mrr_classified AS m
LEFT JOIN intermediate.current_organisations AS o ON m.entity_id = o.org_id
WHERE m.grain = 'account_day'
