/*---
description: >
  The movements of marts.mrr_movements for single organisations. transfer_out: MRR an organisation handed over to the
  payer of its joint plan, the organisation's own of the day before it started; transfer_in: the same with the payer.
  So an organisation that is covered has not churned or contracted, and its payer has not expanded.
grain: [as_of, known_at, org_id, movement]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  name: {type: VARCHAR, meaning: "display name"}
  account_id: {type: VARCHAR, meaning: "its root at the close of as_of", not_null: true}
  movement: {type: VARCHAR, meaning: "kind of movement", not_null: true, accepted: [new, reactivation, expansion, contraction, churn, paused, resumed, transfer_in, transfer_out, fx]}
  amount: {type: "DECIMAL(18,2)", meaning: "change of MRR, reporting currency; negative when it was lost", not_null: true}
  opening: {type: "DECIMAL(18,2)", meaning: "MRR of the organisation at the close of the day before the period", not_null: true}
  closing: {type: "DECIMAL(18,2)", meaning: "MRR of the organisation at the close of the period, or of as_of", not_null: true}
  period_start: {type: DATE, meaning: "first day of the period", not_null: true}
  period_end: {type: DATE, meaning: "last day of the period, inclusive", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    m.entity_id AS org_id,
    o.name,
    h.root_org_id AS account_id,
    m.movement,
    m.amount,
    m.opening,
    m.closing,
    p.starts_on AS period_start,
    p.ends_on AS period_end,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM intermediate.mrr_classified AS m
CROSS JOIN intermediate.metrics_period AS p
INNER JOIN intermediate.hierarchy AS h ON m.entity_id = h.org_id
LEFT JOIN intermediate.current_organisations AS o ON m.entity_id = o.org_id
WHERE m.grain = 'organisation'
