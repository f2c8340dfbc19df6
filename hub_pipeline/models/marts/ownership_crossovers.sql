/*---
description: >
  Where colleagues get in each other's way. contact: in the last ownership.days (28) local days, (D-28, D], somebody in
  a client-facing role (ownership.client_facing_roles; support is exempt) wrote to, called or met the contact without
  being its owner at that moment, and at least two such people did so in that time. What was automated or came from
  the contact does not count; a call or meeting without a direction does. The owner of a moment comes from the owner
  history; before its first entry nobody owned the contact; without any history the owner of today did. A handover is
  no crossover. duplicate_person: contacts with the same e-mail address have different owners at the close of as_of.
  account_deals: open deals of one account, whatever their pipeline, have different owners. Nobody is no other owner. Crossing users are those who were not the owner; of the last two kinds
  all owners.
grain: [as_of, known_at, kind, subject_id]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  kind: {type: VARCHAR, meaning: "contact, duplicate_person or account_deals", not_null: true, accepted: [contact, duplicate_person, account_deals]}
  subject_id: {type: VARCHAR, meaning: "the contact, the first of the contacts by id, or the account", not_null: true}
  contact_id: {type: VARCHAR, meaning: "contact; empty for account_deals"}
  contact_ids: {type: "VARCHAR[]", meaning: "all contacts concerned, sorted", not_null: true}
  account_id: {type: VARCHAR, meaning: "account of the deals; empty for contacts"}
  deal_ids: {type: "VARCHAR[]", meaning: "open deals of the account, sorted", not_null: true}
  owner_id: {type: VARCHAR, meaning: "owner of the contact at the close of as_of"}
  crossing_users: {type: "VARCHAR[]", meaning: "users who got in the way, sorted", not_null: true}
  people: {type: "VARCHAR[]", meaning: "all users involved, sorted", not_null: true}
  last_on: {type: DATE, meaning: "local day of the last engagement of a crossing user; empty for owners alone"}
  why: {type: VARCHAR, meaning: "the row in one sentence", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH touches AS (
    SELECT
        e.engagement_id,
        e.contact_id,
        e.user_id,
        e.occurred_at,
        local_date(e.occurred_at, $reporting_tz) AS occurred_on
    FROM intermediate.current_engagements AS e
    INNER JOIN intermediate.current_users AS u ON e.user_id = u.user_id AND u.is_client_facing
    WHERE
        e.contact_id IS NOT NULL
        AND NOT e.is_automated
        AND (e.direction = 'outbound' OR (e.direction IS NULL AND e.type IN ('call', 'meeting')))
        AND e.type IN ('email', 'call', 'meeting')
        AND e.occurred_at < $close_as_of
        AND e.occurred_at >= start_of(CAST($as_of AS DATE) - CAST($ownership_days AS INTEGER) + 1, $reporting_tz)
),
distinct_touches AS (
    SELECT DISTINCT engagement_id, contact_id, user_id, occurred_at, occurred_on
    FROM touches
),
known_owners AS (
    SELECT contact_id, owner_id, valid_from
    FROM staging.contact_owners
    WHERE recorded_at < $close_known_at
    QUALIFY
        row_number() OVER (PARTITION BY contact_id, valid_from ORDER BY recorded_at DESC) = 1
),
owners AS (
    SELECT
        contact_id,
        owner_id,
        valid_from,
        lead(valid_from) OVER (PARTITION BY contact_id ORDER BY valid_from) AS valid_to
    FROM known_owners
),
with_history AS (
    SELECT DISTINCT contact_id
    FROM known_owners
),
owned_now AS (
    SELECT
        c.contact_id,
        c.email,
        c.name,
        CASE WHEN h.contact_id IS NULL THEN c.owner_id ELSE o.owner_id END AS owner_id
    FROM intermediate.current_contacts AS c
    LEFT JOIN with_history AS h ON c.contact_id = h.contact_id
    LEFT JOIN owners AS o
        ON
            c.contact_id = o.contact_id
            AND o.valid_from < $close_as_of
            AND (o.valid_to IS NULL OR o.valid_to >= $close_as_of)
),
owned AS (
    SELECT
        t.engagement_id,
        t.contact_id,
        t.user_id,
        t.occurred_on,
        CASE WHEN h.contact_id IS NULL THEN c.owner_id ELSE o.owner_id END AS owner_id
    FROM distinct_touches AS t
    INNER JOIN intermediate.current_contacts AS c ON t.contact_id = c.contact_id
    LEFT JOIN with_history AS h ON t.contact_id = h.contact_id
    LEFT JOIN owners AS o
        ON
            t.contact_id = o.contact_id
            AND o.valid_from <= t.occurred_at
            AND (o.valid_to IS NULL OR o.valid_to > t.occurred_at)
),
contact_rows AS (
    SELECT
        contact_id,
        count(DISTINCT user_id) AS people_count,
        list_sort(list_distinct(array_agg(user_id))) AS people,
        list_sort(list_distinct(array_agg(user_id) FILTER (WHERE user_id IS DISTINCT FROM owner_id))) AS crossing_users,
        max(occurred_on) FILTER (WHERE user_id IS DISTINCT FROM owner_id) AS last_on
    FROM owned
    GROUP BY contact_id
),
duplicate_rows AS (
    SELECT
        min(contact_id) AS contact_id,
        list_sort(array_agg(contact_id)) AS contact_ids,
        list_sort(list_distinct(array_agg(owner_id) FILTER (WHERE owner_id IS NOT NULL))) AS people
    FROM owned_now
    WHERE email <> ''
    GROUP BY email
    HAVING count(DISTINCT owner_id) > 1
),
deal_rows AS (
    SELECT
        h.root_org_id AS account_id,
        list_sort(array_agg(d.deal_id)) AS deal_ids,
        list_sort(list_distinct(array_agg(d.owner_id) FILTER (WHERE d.owner_id IS NOT NULL))) AS people
    FROM intermediate.current_deals AS d
    INNER JOIN intermediate.hierarchy AS h ON d.org_id = h.org_id
    WHERE d.status = 'open'
    GROUP BY h.root_org_id
    HAVING count(DISTINCT d.owner_id) > 1
),
crossovers AS (
    SELECT
        'contact' AS kind,
        r.contact_id AS subject_id,
        r.contact_id,
        [r.contact_id] AS contact_ids,
        CAST(NULL AS VARCHAR) AS account_id,
        CAST([] AS VARCHAR[]) AS deal_ids,
        c.owner_id,
        r.crossing_users,
        r.people,
        r.last_on,
        array_to_string(r.crossing_users, ', ') || ' wrote to, called or met contact ' || coalesce(c.name, r.contact_id)
        || ', last on ' || CAST(r.last_on AS VARCHAR) || ', without being its owner; '
        || array_to_string(r.people, ', ') || ' did within ' || counted(CAST($ownership_days AS INTEGER), 'day') || '.' AS why
    FROM contact_rows AS r
    INNER JOIN owned_now AS c ON r.contact_id = c.contact_id
    WHERE r.people_count > 1 AND len(r.crossing_users) > 0
    UNION ALL
    SELECT
        'duplicate_person' AS kind,
        r.contact_id AS subject_id,
        r.contact_id,
        r.contact_ids,
        CAST(NULL AS VARCHAR) AS account_id,
        CAST([] AS VARCHAR[]) AS deal_ids,
        c.owner_id,
        r.people AS crossing_users,
        r.people,
        CAST(NULL AS DATE) AS last_on,
        'Contacts ' || array_to_string(r.contact_ids, ', ') || ' have one e-mail address and different owners: '
        || array_to_string(r.people, ', ') || '.' AS why
    FROM duplicate_rows AS r
    INNER JOIN owned_now AS c ON r.contact_id = c.contact_id
    UNION ALL
    SELECT
        'account_deals' AS kind,
        r.account_id AS subject_id,
        CAST(NULL AS VARCHAR) AS contact_id,
        CAST([] AS VARCHAR[]) AS contact_ids,
        r.account_id,
        r.deal_ids,
        CAST(NULL AS VARCHAR) AS owner_id,
        r.people AS crossing_users,
        r.people,
        CAST(NULL AS DATE) AS last_on,
        'Open deals ' || array_to_string(r.deal_ids, ', ') || ' of account ' || coalesce(o.name, r.account_id)
        || ' have different owners: ' || array_to_string(r.people, ', ') || '.' AS why
    FROM deal_rows AS r
    LEFT JOIN intermediate.current_organisations AS o ON r.account_id = o.org_id
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    kind,
    subject_id,
    contact_id,
    contact_ids,
    account_id,
    deal_ids,
    owner_id,
    crossing_users,
    people,
    last_on,
    why,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM crossovers
