/*---
description: >
  Conversations as they stood at the close of as_of: the latest version known by known_at, not deleted, opened before
  that close. A rating given at or after the close of as_of is unknown; one without a time counts.
grain: [conversation_id]
columns:
  conversation_id: {type: VARCHAR, meaning: "id of the conversation", not_null: true}
  contact_id: {type: VARCHAR, meaning: "contact who takes part"}
  org_id: {type: VARCHAR, meaning: "organisation on the record, after merges"}
  rating: {type: BIGINT, meaning: "rating by the contact, 1 to 5"}
  rated_at: {type: TIMESTAMP, meaning: "instant of the rating"}
  remark: {type: VARCHAR, meaning: "remark given with the rating"}
  state: {type: VARCHAR, meaning: "open, closed or snoozed"}
  title: {type: VARCHAR, meaning: "title"}
  url: {type: VARCHAR, meaning: "address of the conversation"}
  started_at: {type: TIMESTAMP, meaning: "instant it was opened, else of its first known message; empty = neither is known"}
---*/
WITH messages AS (
    SELECT conversation_id, min(created_at) AS first_message_at
    FROM staging.conversation_parts
    WHERE recorded_at < CAST($close_known_at AS TIMESTAMP) AND created_at < CAST($close_as_of AS TIMESTAMP)
    GROUP BY conversation_id
),
latest AS (
    SELECT
        c.*,
        c.rated_at IS NULL OR c.rated_at < CAST($close_as_of AS TIMESTAMP) AS is_rated
    FROM staging.conversations AS c
    WHERE c.recorded_at < CAST($close_known_at AS TIMESTAMP)
    QUALIFY c.recorded_at = max(c.recorded_at) OVER (PARTITION BY c.conversation_id)
)
SELECT
    l.conversation_id,
    l.contact_id,
    coalesce(i.canonical_org_id, l.org_id) AS org_id,
    CASE WHEN l.is_rated THEN l.rating END AS rating,
    CASE WHEN l.is_rated THEN l.rated_at END AS rated_at,
    CASE WHEN l.is_rated THEN l.remark END AS remark,
    l.state,
    l.title,
    l.url,
    coalesce(l.created_at, m.first_message_at) AS started_at
FROM latest AS l
LEFT JOIN messages AS m ON m.conversation_id = l.conversation_id
LEFT JOIN intermediate.organisation_identity AS i ON i.org_id = l.org_id
WHERE NOT l.is_deleted AND (l.created_at IS NULL OR l.created_at < CAST($close_as_of AS TIMESTAMP))
