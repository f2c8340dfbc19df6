/*---
description: >
  Seats and MRR that moved with the start of a joint plan from the covered organisation to its payer.
  One row for each coverage whose first local day is in (as_of - greatest(growth.days, contraction.days), as_of], or in
  the metrics period up to as_of, and that was known before the close of known_at; rows with the same child, payer and valid_from are one fact, the one
  recorded last holds; a coverage that ends no later than it starts never was, and so is one between organisations
  that were merged into one.
  Seats are the coverage's own, else the child's at the close of the day before; MRR is always the child's of that
  day, at the exchange rate of as_of.
grain: [child_org_id, payer_org_id, starts_at, original_child_org_id, original_payer_org_id]
columns:
  child_org_id: {type: VARCHAR, meaning: "covered organisation after merges", not_null: true}
  payer_org_id: {type: VARCHAR, meaning: "paying organisation after merges", not_null: true}
  starts_at: {type: TIMESTAMP, meaning: "instant the coverage starts", not_null: true}
  original_child_org_id: {type: VARCHAR, meaning: "covered organisation as it stands in the input", not_null: true}
  original_payer_org_id: {type: VARCHAR, meaning: "paying organisation as it stands in the input", not_null: true}
  starts_on: {type: DATE, meaning: "local day the coverage starts", not_null: true}
  seats: {type: BIGINT, meaning: "seats moved", not_null: true}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR moved", not_null: true}
---*/
WITH coverage AS (
    SELECT child_org_id, payer_org_id, valid_from, valid_from_on, valid_to, seats
    FROM staging.org_coverage
    WHERE recorded_at < $close_known_at
    QUALIFY
        row_number() OVER (PARTITION BY child_org_id, payer_org_id, valid_from ORDER BY recorded_at DESC) = 1
)
SELECT
    child.canonical_org_id AS child_org_id,
    payer.canonical_org_id AS payer_org_id,
    c.valid_from AS starts_at,
    c.child_org_id AS original_child_org_id,
    c.payer_org_id AS original_payer_org_id,
    c.valid_from_on AS starts_on,
    coalesce(c.seats, before.seats, 0) AS seats,
    coalesce(before.mrr, CAST(0 AS DECIMAL(18, 2))) AS mrr
FROM coverage AS c
CROSS JOIN intermediate.metrics_period AS p
INNER JOIN intermediate.organisation_identity AS child ON c.child_org_id = child.org_id
INNER JOIN intermediate.organisation_identity AS payer ON c.payer_org_id = payer.org_id
LEFT JOIN intermediate.organisation_segments AS before
    ON
        child.canonical_org_id = before.org_id
        AND before.from_on <= c.valid_from_on - 1
        AND (before.to_on IS NULL OR before.to_on > c.valid_from_on - 1)
WHERE
    c.valid_from_on <= $as_of
    AND c.valid_from_on > least(
        CAST($as_of AS DATE) - greatest(CAST($growth_days AS INTEGER), CAST($contraction_days AS INTEGER)),
        p.opening_on
    )
    AND (c.valid_to IS NULL OR c.valid_to > c.valid_from)
    AND child.canonical_org_id <> payer.canonical_org_id
