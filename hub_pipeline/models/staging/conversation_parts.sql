/*---
description: >
  Messages of conversations, without their text.
  Recorded_at is the input's; where that is empty it is created_at, else 1970-01-01 (always known).
  A part never changes: of rows with the same key the one recorded first is kept, so that a later one cannot displace
  what was known; then the greatest by its other columns in their order.
  An author type outside the list is kept with a warning: support systems add kinds of their own, and only what a
  contact wrote counts.
grain: [conversation_id, part_number]
severity: {accepted_values: warn}
columns:
  conversation_id: {type: VARCHAR, meaning: "conversation", not_null: true}
  part_number: {type: BIGINT, meaning: "number of the part; the opener is part of the list", not_null: true}
  author_type: {type: VARCHAR, meaning: "contact, admin or bot", not_null: true, accepted: [contact, admin, bot]}
  is_synthetic: {type: BOOLEAN, meaning: "derived from the last reply's time, not read as a part", not_null: true}
  created_at: {type: TIMESTAMP, meaning: "instant it was written", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
  created_on: {type: DATE, meaning: "local day it was written", not_null: true}
---*/
WITH completed AS (
    SELECT
        conversation_id,
        part_number,
        lower(author_type) AS author_type,
        coalesce(is_synthetic, false) AS is_synthetic,
        created_at,
        coalesce(recorded_at, created_at, TIMESTAMP '1970-01-01') AS recorded_at,
        local_date(created_at, $reporting_tz) AS created_on
    FROM inputs.conversation_parts
)
SELECT
    conversation_id,
    part_number,
    author_type,
    is_synthetic,
    created_at,
    recorded_at,
    created_on
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY conversation_id, part_number
        ORDER BY
            recorded_at ASC,
            author_type DESC,
            is_synthetic DESC,
            created_at DESC
    ) = 1
