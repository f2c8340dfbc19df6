/*---
description: >
  Answers to NPS surveys.
  Recorded_at is the input's; where that is empty it is responded_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [response_id, recorded_at]
columns:
  response_id: {type: VARCHAR, meaning: "id of the answer", not_null: true}
  contact_id: {type: VARCHAR, meaning: "who answered; empty = anonymous"}
  org_id: {type: VARCHAR, meaning: "organisation on the record"}
  score: {type: INTEGER, meaning: "answer, whole number from 0 to 10; any other value is not an answer: empty"}
  comment: {type: VARCHAR, meaning: "reason in the contact's words"}
  source: {type: VARCHAR, meaning: "survey tool"}
  responded_at: {type: TIMESTAMP, meaning: "instant of the answer", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
  responded_on: {type: DATE, meaning: "local day of the answer", not_null: true}
---*/
WITH completed AS (
    SELECT
        response_id,
        contact_id,
        org_id,
        CAST(CASE WHEN score BETWEEN 0 AND 10 AND score = floor(score) THEN score END AS INTEGER) AS score,
        comment,
        source,
        responded_at,
        coalesce(recorded_at, responded_at, TIMESTAMP '1970-01-01') AS recorded_at,
        local_date(responded_at, $reporting_tz) AS responded_on
    FROM inputs.nps_responses
)
SELECT
    response_id,
    contact_id,
    org_id,
    score,
    comment,
    source,
    responded_at,
    recorded_at,
    responded_on
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY response_id, recorded_at
        ORDER BY
            contact_id DESC,
            org_id DESC,
            score DESC,
            comment DESC,
            source DESC,
            responded_at DESC
    ) = 1
