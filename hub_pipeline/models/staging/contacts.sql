/*---
description: >
  People, one row for each version.
  Recorded_at is the input's; where that is empty it is created_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [contact_id, recorded_at]
columns:
  contact_id: {type: VARCHAR, meaning: "id of the contact", not_null: true}
  email: {type: VARCHAR, meaning: "e-mail address, trimmed, lower case"}
  name: {type: VARCHAR, meaning: "full name"}
  lifecycle_stage: {type: VARCHAR, meaning: "lifecycle stage"}
  lead_status: {type: VARCHAR, meaning: "lead status"}
  source: {type: VARCHAR, meaning: "how the record came to be"}
  owner_id: {type: VARCHAR, meaning: "user who owns the contact"}
  is_champion: {type: BOOLEAN, meaning: "speaks for us inside the organisation", not_null: true}
  left_at: {type: TIMESTAMP, meaning: "instant the person left the organisation"}
  created_at: {type: TIMESTAMP, meaning: "instant the record was created"}
  is_deleted: {type: BOOLEAN, meaning: "the record is gone from its source from this version on", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
  email_domain: {type: VARCHAR, meaning: "part of the address after the @"}
---*/
WITH completed AS (
    SELECT
        contact_id,
        lower(nullif(trim(email), '')) AS email,
        name,
        lifecycle_stage,
        lead_status,
        source,
        owner_id,
        coalesce(is_champion, false) AS is_champion,
        left_at,
        created_at,
        coalesce(is_deleted, false) AS is_deleted,
        coalesce(recorded_at, created_at, TIMESTAMP '1970-01-01') AS recorded_at,
        nullif(split_part(lower(trim(email)), '@', 2), '') AS email_domain
    FROM inputs.contacts
)
SELECT
    contact_id,
    email,
    name,
    lifecycle_stage,
    lead_status,
    source,
    owner_id,
    is_champion,
    left_at,
    created_at,
    is_deleted,
    recorded_at,
    email_domain
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY contact_id, recorded_at
        ORDER BY
            email DESC,
            name DESC,
            lifecycle_stage DESC,
            lead_status DESC,
            source DESC,
            owner_id DESC,
            is_champion DESC,
            left_at DESC,
            created_at DESC,
            is_deleted DESC
    ) = 1
