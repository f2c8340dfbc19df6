/*---
description: >
  The contact records of the day: of each contact the version recorded last before the close of known_at.
  A contact that is deleted in that version, or was created at or after the close of as_of, is left out.
  left_at is not yet true, and empty, when it is not before the close of as_of.
grain: [contact_id]
columns:
  contact_id: {type: VARCHAR, meaning: "id of the contact", not_null: true}
  email: {type: VARCHAR, meaning: "e-mail address, trimmed, lower case"}
  email_domain: {type: VARCHAR, meaning: "part of the address after the @"}
  name: {type: VARCHAR, meaning: "full name"}
  lifecycle_stage: {type: VARCHAR, meaning: "lifecycle stage"}
  lead_status: {type: VARCHAR, meaning: "lead status"}
  source: {type: VARCHAR, meaning: "how the record came to be"}
  owner_id: {type: VARCHAR, meaning: "user who owns the contact"}
  is_champion: {type: BOOLEAN, meaning: "speaks for us inside the organisation", not_null: true}
  left_at: {type: TIMESTAMP, meaning: "instant the person left the organisation"}
  created_at: {type: TIMESTAMP, meaning: "instant the record was created"}
  recorded_at: {type: TIMESTAMP, meaning: "instant this version was recorded", not_null: true}
---*/
WITH latest AS (
    SELECT
        contact_id,
        email,
        email_domain,
        name,
        lifecycle_stage,
        lead_status,
        source,
        owner_id,
        is_champion,
        left_at,
        created_at,
        is_deleted,
        recorded_at
    FROM staging.contacts
    WHERE recorded_at < $close_known_at
    QUALIFY
        row_number() OVER (PARTITION BY contact_id ORDER BY recorded_at DESC) = 1
)
SELECT
    contact_id,
    email,
    email_domain,
    name,
    lifecycle_stage,
    lead_status,
    source,
    owner_id,
    is_champion,
    CASE
        WHEN left_at < $close_as_of THEN left_at
    END AS left_at,
    created_at,
    recorded_at
FROM latest
WHERE NOT is_deleted AND (created_at IS NULL OR created_at < $close_as_of)
