/*---
description: >
  Conversations in which a contact wrote something before the close of as_of, and the organisations they count for.
  The organisation on the record; else the contact's single membership at the moment of the contact's last message;
  else the one membership marked primary; else all memberships, flagged ambiguous. A conversation whose contact was a
  member of nothing at that moment has one row without an organisation.
grain: [conversation_id, org_id]
columns:
  conversation_id: {type: VARCHAR, meaning: "id of the conversation", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges; empty = cannot be attributed"}
  attribution: {type: VARCHAR, meaning: "what decided", not_null: true, accepted: [record, membership, all_memberships, none]}
  contact_id: {type: VARCHAR, meaning: "contact who takes part"}
  started_at: {type: TIMESTAMP, meaning: "instant it was opened, else of its first known message", not_null: true}
  last_contact_at: {type: TIMESTAMP, meaning: "last message of the contact before the close of as_of", not_null: true}
  contact_messages: {type: BIGINT, meaning: "messages of the contact in (D-days, D]", not_null: true}
---*/
WITH messages AS (
    SELECT
        p.conversation_id,
        min(p.created_at) AS first_message_at,
        max(p.created_at) FILTER (WHERE p.author_type = 'contact') AS last_contact_at,
        count(*) FILTER (
            WHERE p.author_type = 'contact'
            AND p.created_at >= close_of(CAST($as_of AS DATE) - CAST($interactions_days AS INTEGER), $reporting_tz)
        ) AS contact_messages
    FROM staging.conversation_parts AS p
    WHERE
        p.recorded_at < CAST($close_known_at AS TIMESTAMP)
        AND p.created_at < CAST($close_as_of AS TIMESTAMP)
    GROUP BY p.conversation_id
),
talks AS (
    SELECT
        c.conversation_id,
        c.contact_id,
        c.org_id,
        coalesce(c.created_at, m.first_message_at) AS started_at,
        m.last_contact_at,
        m.contact_messages
    FROM intermediate.current_conversations AS c
    INNER JOIN messages AS m ON m.conversation_id = c.conversation_id
    WHERE m.last_contact_at IS NOT NULL
),
membership_versions AS (
    SELECT m.*
    FROM staging.contact_orgs AS m
    WHERE m.recorded_at < CAST($close_known_at AS TIMESTAMP)
    QUALIFY m.recorded_at = max(m.recorded_at) OVER (PARTITION BY m.contact_id, m.org_id, m.valid_from)
),
members AS (
    SELECT
        t.conversation_id,
        coalesce(i.canonical_org_id, m.org_id) AS org_id,
        bool_or(m.is_primary) AS is_primary
    FROM talks AS t
    INNER JOIN membership_versions AS m
        ON m.contact_id = t.contact_id
        AND (m.valid_from IS NULL OR m.valid_from <= t.last_contact_at)
        AND (m.valid_to IS NULL OR m.valid_to > t.last_contact_at)
    LEFT JOIN intermediate.organisation_identity AS i ON i.org_id = m.org_id
    WHERE t.org_id IS NULL
    GROUP BY t.conversation_id, coalesce(i.canonical_org_id, m.org_id)
),
counted AS (
    SELECT
        m.*,
        count(*) OVER (PARTITION BY m.conversation_id) AS memberships,
        count(*) FILTER (WHERE m.is_primary) OVER (PARTITION BY m.conversation_id) AS primaries
    FROM members AS m
),
attributed AS (
    SELECT
        c.conversation_id,
        c.org_id,
        CASE WHEN c.memberships = 1 OR c.primaries = 1 THEN 'membership' ELSE 'all_memberships' END AS attribution
    FROM counted AS c
    WHERE c.is_primary OR c.memberships = 1 OR c.primaries <> 1
)
SELECT
    t.conversation_id,
    coalesce(t.org_id, a.org_id) AS org_id,
    CASE WHEN t.org_id IS NOT NULL THEN 'record' ELSE coalesce(a.attribution, 'none') END AS attribution,
    t.contact_id,
    t.started_at,
    t.last_contact_at,
    t.contact_messages
FROM talks AS t
LEFT JOIN attributed AS a ON a.conversation_id = t.conversation_id
