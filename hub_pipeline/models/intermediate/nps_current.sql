/*---
description: >
  The NPS answer that counts on the day: of each contact the latest valid answer with a local day in
  (as_of - nps.days, as_of], known before the close of known_at; of answers at the same instant the lower score.
  Of versions of one answer the one recorded last holds. Valid is a whole number from 0 to 10.
  An answer without a contact counts by itself: its row has no contact_id.
  Attributed to the organisation on the record, else by intermediate.contact_attribution at the moment of the answer;
  one row for each organisation, org_id empty when there is none.
  Detractor: score <= nps.detractor_max. Promoter: score >= nps.promoter_min.
grain: [response_id, org_id]
columns:
  response_id: {type: VARCHAR, meaning: "id of the answer", not_null: true}
  contact_id: {type: VARCHAR, meaning: "who answered; empty = anonymous"}
  org_id: {type: VARCHAR, meaning: "organisation after merges; empty = unattributed"}
  score: {type: INTEGER, meaning: "0 to 10", not_null: true}
  comment: {type: VARCHAR, meaning: "reason in the contact's words"}
  responded_at: {type: TIMESTAMP, meaning: "instant of the answer", not_null: true}
  responded_on: {type: DATE, meaning: "local day of the answer", not_null: true}
  attribution_ambiguous: {type: BOOLEAN, meaning: "one of several organisations of the contact", not_null: true}
  is_detractor: {type: BOOLEAN, meaning: "score is a detractor's", not_null: true}
  is_promoter: {type: BOOLEAN, meaning: "score is a promoter's", not_null: true}
---*/
WITH answers AS (
    SELECT response_id, contact_id, org_id, score, comment, responded_at, responded_on
    FROM staging.nps_responses
    WHERE recorded_at < $close_known_at
    QUALIFY
        row_number() OVER (PARTITION BY response_id ORDER BY recorded_at DESC) = 1
),
counting AS (
    SELECT response_id, contact_id, org_id, score, comment, responded_at, responded_on
    FROM answers
    WHERE
        score IS NOT NULL
        AND responded_at < $close_as_of
        AND responded_on > CAST($as_of AS DATE) - CAST($nps_days AS INTEGER)
    QUALIFY
        contact_id IS NULL
        OR row_number() OVER (PARTITION BY contact_id ORDER BY responded_at DESC, score, response_id) = 1
)
SELECT
    c.response_id,
    c.contact_id,
    coalesce(i.canonical_org_id, a.org_id) AS org_id,
    c.score,
    c.comment,
    c.responded_at,
    c.responded_on,
    coalesce(i.canonical_org_id IS NULL AND a.attribution_ambiguous, false) AS attribution_ambiguous,
    c.score <= $nps_detractor_max AS is_detractor,
    c.score >= $nps_promoter_min AS is_promoter
FROM counting AS c
LEFT JOIN intermediate.organisation_identity AS i ON c.org_id = i.org_id
LEFT JOIN intermediate.contact_attribution AS a
    ON
        c.org_id IS NULL
        AND c.contact_id = a.contact_id
        AND a.valid_from <= c.responded_at
        AND (a.valid_to IS NULL OR a.valid_to > c.responded_at)
