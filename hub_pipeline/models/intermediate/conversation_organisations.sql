/*---
description: >
  Conversations in which a contact wrote something before the close of as_of, and the organisations they count for.
  The organisation on the record; else intermediate.contact_attribution at the moment of the contact's last message:
  the single or the one primary membership, else all memberships, flagged ambiguous. A conversation whose contact was
  a member of nothing at that moment has one row without an organisation.
grain: [conversation_id, org_id]
columns:
  conversation_id: {type: VARCHAR, meaning: "id of the conversation", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges; empty = cannot be attributed"}
  attribution: {type: VARCHAR, meaning: "what decided. record: the organisation on the conversation; membership: the contact's single or primary one; all_memberships: the contact has several and none is primary; none: it has none", not_null: true, accepted: [record, membership, all_memberships, none]}
  contact_id: {type: VARCHAR, meaning: "contact who takes part"}
  started_at: {type: TIMESTAMP, meaning: "instant it was opened, else of its first known message", not_null: true}
  last_contact_at: {type: TIMESTAMP, meaning: "last message of the contact before the close of as_of", not_null: true}
  contact_messages: {type: BIGINT, meaning: "messages of the contact in (D-days, D]", not_null: true}
---*/
WITH messages AS (
    SELECT
        p.conversation_id,
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
        c.started_at,
        m.last_contact_at,
        m.contact_messages
    FROM intermediate.current_conversations AS c
    INNER JOIN messages AS m ON m.conversation_id = c.conversation_id
    WHERE m.last_contact_at IS NOT NULL
)
SELECT
    t.conversation_id,
    coalesce(t.org_id, a.org_id) AS org_id,
    CASE
        WHEN t.org_id IS NOT NULL THEN 'record'
        WHEN a.org_id IS NULL THEN 'none'
        WHEN a.attribution_ambiguous THEN 'all_memberships'
        ELSE 'membership'
    END AS attribution,
    t.contact_id,
    t.started_at,
    t.last_contact_at,
    t.contact_messages
FROM talks AS t
LEFT JOIN intermediate.contact_attribution AS a
    ON t.org_id IS NULL
    AND a.contact_id = t.contact_id
    AND a.valid_from <= t.last_contact_at
    AND (a.valid_to IS NULL OR a.valid_to > t.last_contact_at)
