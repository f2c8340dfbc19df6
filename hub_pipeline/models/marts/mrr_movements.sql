/*---
description: >
  Why the MRR of each account changed over the metrics period (metrics.period_start to period_end, else the calendar
  month of as_of up to as_of), net: an account that came and went within it has no row. An account is a root
  organisation with everything below it at the close of as_of. Kinds as in intermediate.mrr_classified: new (never had
  MRR before), reactivation, expansion, contraction, churn (nothing left), paused, resumed, transfer_in and
  transfer_out (a joint plan whose payer belongs to another account), fx (the exchange rate alone).
grain: [as_of, known_at, account_id, movement]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  account_id: {type: VARCHAR, meaning: "root organisation", not_null: true}
  name: {type: VARCHAR, meaning: "name of the root organisation"}
  movement: {type: VARCHAR, meaning: "kind of movement", not_null: true, accepted: [new, reactivation, expansion, contraction, churn, paused, resumed, transfer_in, transfer_out, fx]}
  amount: {type: "DECIMAL(18,2)", meaning: "change of MRR, reporting currency; negative when it was lost", not_null: true}
  opening: {type: "DECIMAL(18,2)", meaning: "MRR of the account at the close of the day before the period", not_null: true}
  closing: {type: "DECIMAL(18,2)", meaning: "MRR of the account at the close of the period, or of as_of", not_null: true}
  period_start: {type: DATE, meaning: "first day of the period", not_null: true}
  period_end: {type: DATE, meaning: "last day of the period, inclusive", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    m.entity_id AS account_id,
    o.name,
    m.movement,
    m.amount,
    m.opening,
    m.closing,
    p.starts_on AS period_start,
    p.ends_on AS period_end,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM intermediate.mrr_classified AS m
CROSS JOIN intermediate.metrics_period AS p
LEFT JOIN intermediate.current_organisations AS o ON m.entity_id = o.org_id
WHERE m.grain = 'account'
