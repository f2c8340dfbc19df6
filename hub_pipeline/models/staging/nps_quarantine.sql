/*---
description: >
  What came through a door of NPS answers and is none, with the reason. As it is now: not a history.
  Recorded_at is the input's; where that is empty it is 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [source, record_id]
columns:
  source: {type: VARCHAR, meaning: "door: hubspot_feedback, hubspot_contact, hubspot_organisation, intercom, or csv and the folder", not_null: true}
  record_id: {type: VARCHAR, meaning: "id of the survey answer, contact or organisation; name of the file and line", not_null: true}
  score: {type: VARCHAR, meaning: "what stands there; of a file the line as it was written"}
  reason: {type: VARCHAR, meaning: "why it is no answer", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
SELECT
    source,
    record_id,
    score,
    reason,
    coalesce(recorded_at, TIMESTAMP '1970-01-01') AS recorded_at
FROM inputs.nps_quarantine
QUALIFY row_number() OVER (PARTITION BY source, record_id ORDER BY score DESC, reason DESC) = 1
