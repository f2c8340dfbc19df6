/*---
description: >
  Which organisations a contact stands for at a moment t: the rows with valid_from <= t and (valid_to empty or
  t < valid_to). One rule for NPS answers and conversations without an organisation of their own.
  One membership (after merges): that organisation, whatever is_primary says. Several with exactly one primary: the
  primary one. Otherwise all of them, each with attribution_ambiguous.
  A moment at which the contact has no membership has no row.
  Memberships with the same contact, organisation and valid_from are one fact: the one recorded last before the close
  of known_at holds.
grain: [contact_id, valid_from, org_id]
columns:
  contact_id: {type: VARCHAR, meaning: "id of the contact", not_null: true}
  valid_from: {type: TIMESTAMP, meaning: "inclusive start", not_null: true}
  valid_to: {type: TIMESTAMP, meaning: "exclusive end; empty = open"}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  attribution_ambiguous: {type: BOOLEAN, meaning: "one of several organisations", not_null: true}
---*/
WITH memberships AS (
    SELECT
        m.contact_id,
        i.canonical_org_id AS org_id,
        m.is_primary,
        m.valid_from,
        m.valid_to
    FROM (
        SELECT contact_id, org_id, is_primary, valid_from, valid_to
        FROM staging.contact_orgs
        WHERE recorded_at < $close_known_at
        QUALIFY
            row_number() OVER (PARTITION BY contact_id, org_id, valid_from ORDER BY recorded_at DESC) = 1
    ) AS m
    INNER JOIN intermediate.organisation_identity AS i ON m.org_id = i.org_id
    WHERE m.valid_to IS NULL OR m.valid_to > m.valid_from
),
moments AS (
    SELECT contact_id, valid_from AS changes_at FROM memberships
    UNION
    SELECT contact_id, valid_to AS changes_at FROM memberships WHERE valid_to IS NOT NULL
),
spans AS (
    SELECT
        contact_id,
        changes_at AS valid_from,
        lead(changes_at) OVER (PARTITION BY contact_id ORDER BY changes_at) AS valid_to
    FROM moments
),
members AS (
    SELECT
        s.contact_id,
        s.valid_from,
        s.valid_to,
        m.org_id,
        max(CASE WHEN m.is_primary THEN 1 ELSE 0 END) AS is_primary
    FROM spans AS s
    INNER JOIN memberships AS m
        ON
            s.contact_id = m.contact_id
            AND m.valid_from <= s.valid_from
            AND (m.valid_to IS NULL OR m.valid_to > s.valid_from)
    GROUP BY s.contact_id, s.valid_from, s.valid_to, m.org_id
),
counted AS (
    SELECT
        contact_id,
        valid_from,
        valid_to,
        org_id,
        is_primary,
        count(*) OVER (PARTITION BY contact_id, valid_from) AS organisations,
        sum(is_primary) OVER (PARTITION BY contact_id, valid_from) AS primaries
    FROM members
)
SELECT
    contact_id,
    valid_from,
    valid_to,
    org_id,
    organisations > 1 AND primaries <> 1 AS attribution_ambiguous
FROM counted
WHERE organisations = 1 OR primaries <> 1 OR is_primary = 1
