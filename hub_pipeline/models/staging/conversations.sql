/*---
description: >
  Support conversations, one row for each version.
  Recorded_at is the input's; where that is empty it is created_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [conversation_id, recorded_at]
columns:
  conversation_id: {type: VARCHAR, meaning: "id of the conversation", not_null: true}
  contact_id: {type: VARCHAR, meaning: "contact who takes part"}
  org_id: {type: VARCHAR, meaning: "organisation on the record"}
  rating: {type: BIGINT, meaning: "rating by the contact, 1 to 5"}
  rated_at: {type: TIMESTAMP, meaning: "instant of the rating"}
  remark: {type: VARCHAR, meaning: "remark given with the rating"}
  state: {type: VARCHAR, meaning: "open, closed or snoozed"}
  title: {type: VARCHAR, meaning: "title"}
  url: {type: VARCHAR, meaning: "address of the conversation"}
  created_at: {type: TIMESTAMP, meaning: "instant it was opened"}
  is_deleted: {type: BOOLEAN, meaning: "the record is gone from its source from this version on", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
  rated_on: {type: DATE, meaning: "local day of the rating"}
---*/
WITH completed AS (
    SELECT
        conversation_id,
        contact_id,
        org_id,
        rating,
        rated_at,
        remark,
        state,
        title,
        url,
        created_at,
        coalesce(is_deleted, false) AS is_deleted,
        coalesce(recorded_at, created_at, TIMESTAMP '1970-01-01') AS recorded_at,
        local_date(rated_at, $reporting_tz) AS rated_on
    FROM inputs.conversations
)
SELECT
    conversation_id,
    contact_id,
    org_id,
    rating,
    rated_at,
    remark,
    state,
    title,
    url,
    created_at,
    is_deleted,
    recorded_at,
    rated_on
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY conversation_id, recorded_at
        ORDER BY
            contact_id DESC,
            org_id DESC,
            rating DESC,
            rated_at DESC,
            remark DESC,
            state DESC,
            title DESC,
            url DESC,
            created_at DESC,
            is_deleted DESC
    ) = 1
