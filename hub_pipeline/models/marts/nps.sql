/*---
description: >
  Net promoter score over the latest valid answer of each contact in (as_of - nps.days, as_of]; of answers at one
  instant the lower score. An anonymous answer counts once for itself. nps = 100 x (promoters - detractors) /
  responses, one decimal; empty without an answer. A contact of several organisations counts once. One row.
grain: [as_of, known_at]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  responses: {type: BIGINT, meaning: "answers that count", not_null: true}
  promoters: {type: BIGINT, meaning: "scores from nps.promoter_min", not_null: true}
  passives: {type: BIGINT, meaning: "scores between", not_null: true}
  detractors: {type: BIGINT, meaning: "scores up to nps.detractor_max", not_null: true}
  anonymous: {type: BIGINT, meaning: "answers without a contact among them", not_null: true}
  unattributed: {type: BIGINT, meaning: "answers that belong to no organisation among them", not_null: true}
  nps: {type: "DECIMAL(5,1)", meaning: "from -100 to 100; empty without answers"}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH answers AS (
    SELECT
        response_id,
        bool_or(is_promoter) AS is_promoter,
        bool_or(is_detractor) AS is_detractor,
        bool_or(contact_id IS NULL) AS is_anonymous,
        bool_and(org_id IS NULL) AS is_unattributed
    FROM intermediate.nps_current
    GROUP BY response_id
),
counts AS (
    SELECT
        count(*) AS responses,
        count(*) FILTER (WHERE is_promoter) AS promoters,
        count(*) FILTER (WHERE is_detractor) AS detractors,
        count(*) FILTER (WHERE is_anonymous) AS anonymous,
        count(*) FILTER (WHERE is_unattributed) AS unattributed
    FROM answers
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    responses,
    promoters,
    responses - promoters - detractors AS passives,
    detractors,
    anonymous,
    unattributed,
    CASE WHEN responses > 0 THEN CAST(round(CAST(100 * (promoters - detractors) AS DECIMAL(18, 4)) / responses, 1) AS DECIMAL(5, 1)) END AS nps,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM counts
