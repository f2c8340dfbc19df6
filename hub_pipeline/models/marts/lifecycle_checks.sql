/*---
description: >
  Where lifecycle stage and lead status of contacts contradict what is known. Values are compared without case, blanks,
  hyphens and underscores. A contact's organisations are those of intermediate.contact_attribution at the close of as_of
  that have a row in marts.organisation_daily; commercial means that one of them is a customer. A negotiation is an open
  deal of one of them. Written to means an outbound, answered an inbound e-mail or call; a meeting is both; what was
  automated is neither. Rules: lifecycle_missing: none, lifecycle.complete_after_days after its creation (unknown
  creation: long ago). unknown_value: a stage or status outside the vocabulary. customer_not_paying: stage customer, has
  organisations, none a customer. paying_org_without_customer_contact: a paying organisation none of whose contacts is
  customer or evangelist. opportunity_without_open_deal: stage opportunity, no negotiation. sql_without_lead_status:
  stage salesqualifiedlead, status missing or none. other_but_commercial: stage other, but commercial or a negotiation.
  subscriber_with_trial: stage subscriber, but commercial or an organisation on trial. open_deal_status_without_deal:
  status open_deal, no negotiation. unqualified_with_open_deal: status unqualified, a negotiation.
  attempted_but_replied: status attempted_to_contact, has answered. connected_without_two_way: status connected, not
  both written to and answered. stage_skipped, stage_moved_back: a change of stage on a local day in (D -
  lifecycle.days, D] passed over a stage, or went to an earlier one, in the order of lifecycle.stages; it is compared
  with the last stage of that order before it, whatever was set between the two, and of changes set at one instant the
  one recorded last holds. unresponsive_14d: status attempted_to_contact, last written to on or before D -
  lifecycle.unresponsive_days, no answer since. autocreated_incomplete: made by a mail extension
  (lifecycle.autocreated_sources), without stage or owner. duplicate_contact_email: contacts with one address; the row's
  stage, status and owner are those of the first by id, its organisation the first of any of them.
  internal_or_vendor_domain: the address belongs to lifecycle.internal_domains or to the domain of a HubSpot user that
  is not a free-mail domain.
grain: [as_of, known_at, check, subject_id]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  check: {type: VARCHAR, meaning: "rule that is broken", not_null: true, accepted: [lifecycle_missing, unknown_value, customer_not_paying, paying_org_without_customer_contact, opportunity_without_open_deal, sql_without_lead_status, other_but_commercial, subscriber_with_trial, open_deal_status_without_deal, unqualified_with_open_deal, attempted_but_replied, connected_without_two_way, stage_skipped, stage_moved_back, unresponsive_14d, autocreated_incomplete, duplicate_contact_email, internal_or_vendor_domain]}
  subject_id: {type: VARCHAR, meaning: "the contact, or the organisation", not_null: true}
  contact_id: {type: VARCHAR, meaning: "contact; of duplicates the first by id; empty for an organisation"}
  contact_ids: {type: "VARCHAR[]", meaning: "all contacts concerned, sorted", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation of the finding; of a contact its first by id; empty = it has none"}
  owner_id: {type: VARCHAR, meaning: "owner of the contact, or of the organisation"}
  lifecycle_stage: {type: VARCHAR, meaning: "stage as it is written"}
  lead_status: {type: VARCHAR, meaning: "status as it is written"}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH stage_list AS (
    SELECT unnest(CAST($lifecycle_stages AS VARCHAR[])) AS stage
),
stages AS (
    SELECT
        replace(replace(replace(lower(stage), '_', ''), ' ', ''), '-', '') AS code,
        list_position(CAST($lifecycle_stages AS VARCHAR[]), stage) AS position
    FROM stage_list
),
known_values AS (
    SELECT 'stage' AS kind, code
    FROM stages
    UNION ALL
    SELECT 'stage' AS kind, replace(replace(replace(lower(v.value), '_', ''), ' ', ''), '-', '') AS code
    FROM (SELECT unnest(CAST($lifecycle_other_stages AS VARCHAR[])) AS value) AS v
    UNION ALL
    SELECT 'source' AS kind, replace(replace(replace(lower(v.value), '_', ''), ' ', ''), '-', '') AS code
    FROM (SELECT unnest(CAST($lifecycle_autocreated_sources AS VARCHAR[])) AS value) AS v
    UNION ALL
    SELECT 'status' AS kind, replace(replace(replace(lower(v.value), '_', ''), ' ', ''), '-', '') AS code
    FROM (SELECT unnest(CAST($lifecycle_lead_statuses AS VARCHAR[])) AS value) AS v
),
contacts AS (
    SELECT
        contact_id,
        email,
        email_domain,
        lifecycle_stage,
        lead_status,
        owner_id,
        replace(replace(replace(lower(nullif(trim(lifecycle_stage), '')), '_', ''), ' ', ''), '-', '') AS stage,
        replace(replace(replace(lower(nullif(trim(lead_status), '')), '_', ''), ' ', ''), '-', '') AS status,
        replace(replace(replace(lower(source), '_', ''), ' ', ''), '-', '') AS source,
        local_date(created_at, $reporting_tz) AS created_on
    FROM intermediate.current_contacts
),
memberships AS (
    SELECT a.contact_id, a.org_id, o.state, o.is_customer
    FROM intermediate.contact_attribution AS a
    INNER JOIN marts.organisation_daily AS o
        ON a.org_id = o.org_id AND o.as_of = $as_of AND o.known_at = $known_at
    WHERE a.valid_from < $close_as_of AND (a.valid_to IS NULL OR a.valid_to >= $close_as_of)
),
negotiating AS (
    SELECT DISTINCT org_id
    FROM intermediate.current_deals
    WHERE status = 'open' AND org_id IS NOT NULL
),
commerce AS (
    SELECT
        m.contact_id,
        min(m.org_id) AS org_id,
        bool_or(m.is_customer) AS is_commercial,
        bool_or(m.state = 'trial') AS has_trial,
        bool_or(n.org_id IS NOT NULL) AS has_open_deal
    FROM memberships AS m
    LEFT JOIN negotiating AS n ON m.org_id = n.org_id
    GROUP BY m.contact_id
),
talks AS (
    SELECT
        contact_id,
        max(occurred_at) FILTER (WHERE type = 'meeting' OR (type IN ('email', 'call') AND direction = 'outbound')) AS last_written_at,
        max(occurred_at) FILTER (WHERE type = 'meeting' OR (type IN ('email', 'call') AND direction = 'inbound')) AS last_answered_at
    FROM intermediate.current_engagements
    WHERE contact_id IS NOT NULL AND NOT is_automated AND occurred_at < $close_as_of
    GROUP BY contact_id
),
known_stages AS (
    SELECT contact_id, lifecycle_stage, set_at
    FROM staging.contact_stages
    WHERE recorded_at < $close_known_at AND set_at < $close_as_of
    QUALIFY
        row_number() OVER (PARTITION BY contact_id, set_at ORDER BY recorded_at DESC) = 1
),
stage_changes AS (
    SELECT
        k.contact_id,
        k.set_at,
        s.position,
        lag(s.position) OVER (PARTITION BY k.contact_id ORDER BY k.set_at) AS position_before
    FROM known_stages AS k
    INNER JOIN stages AS s ON replace(replace(replace(lower(trim(k.lifecycle_stage)), '_', ''), ' ', ''), '-', '') = s.code
),
odd_changes AS (
    SELECT
        contact_id,
        bool_or(position > position_before + 1) AS has_skipped,
        bool_or(position < position_before) AS has_moved_back
    FROM stage_changes
    WHERE
        local_date(set_at, $reporting_tz) > CAST($as_of AS DATE) - CAST($lifecycle_days AS INTEGER)
    GROUP BY contact_id
),
internal_domains AS (
    SELECT lower(v.value) AS domain
    FROM (SELECT unnest(CAST($lifecycle_internal_domains AS VARCHAR[])) AS value) AS v
    UNION
    SELECT lower(split_part(email, '@', 2)) AS domain
    FROM intermediate.current_users
    WHERE email LIKE '%@%' AND NOT list_contains(CAST($matching_free_mail_domains AS VARCHAR[]), lower(split_part(email, '@', 2)))
),
judged AS (
    SELECT
        c.contact_id,
        c.email,
        c.lifecycle_stage,
        c.lead_status,
        c.owner_id,
        m.org_id,
        codes([
            CASE
                WHEN
                    c.stage IS NULL
                    AND coalesce(CAST($as_of AS DATE) - c.created_on >= CAST($lifecycle_complete_after_days AS INTEGER), true)
                    THEN 'lifecycle_missing'
            END,
            CASE
                WHEN
                    (c.stage IS NOT NULL AND ks.code IS NULL)
                    OR (c.status IS NOT NULL AND kl.code IS NULL)
                    THEN 'unknown_value'
            END,
            CASE WHEN c.stage = 'customer' AND NOT m.is_commercial THEN 'customer_not_paying' END,
            CASE
                WHEN c.stage = 'opportunity' AND NOT coalesce(m.has_open_deal, false) THEN 'opportunity_without_open_deal'
            END,
            CASE
                WHEN c.stage = 'salesqualifiedlead' AND coalesce(c.status, 'none') = 'none' THEN 'sql_without_lead_status'
            END,
            CASE WHEN c.stage = 'other' AND (m.is_commercial OR m.has_open_deal) THEN 'other_but_commercial' END,
            CASE WHEN c.stage = 'subscriber' AND (m.is_commercial OR m.has_trial) THEN 'subscriber_with_trial' END,
            CASE
                WHEN c.status = 'opendeal' AND NOT coalesce(m.has_open_deal, false) THEN 'open_deal_status_without_deal'
            END,
            CASE WHEN c.status = 'unqualified' AND m.has_open_deal THEN 'unqualified_with_open_deal' END,
            CASE
                WHEN c.status = 'attemptedtocontact' AND t.last_answered_at IS NOT NULL THEN 'attempted_but_replied'
            END,
            CASE
                WHEN
                    c.status = 'connected' AND (t.last_written_at IS NULL OR t.last_answered_at IS NULL)
                    THEN 'connected_without_two_way'
            END,
            CASE WHEN x.has_skipped THEN 'stage_skipped' END,
            CASE WHEN x.has_moved_back THEN 'stage_moved_back' END,
            CASE
                WHEN
                    c.status = 'attemptedtocontact'
                    AND local_date(t.last_written_at, $reporting_tz) <= CAST($as_of AS DATE) - CAST($lifecycle_unresponsive_days AS INTEGER)
                    AND (t.last_answered_at IS NULL OR t.last_answered_at < t.last_written_at)
                    THEN 'unresponsive_14d'
            END,
            CASE
                WHEN
                    e.code IS NOT NULL
                    AND (c.stage IS NULL OR c.owner_id IS NULL)
                    THEN 'autocreated_incomplete'
            END,
            CASE WHEN d.domain IS NOT NULL THEN 'internal_or_vendor_domain' END
        ]) AS checks
    FROM contacts AS c
    LEFT JOIN commerce AS m ON c.contact_id = m.contact_id
    LEFT JOIN talks AS t ON c.contact_id = t.contact_id
    LEFT JOIN odd_changes AS x ON c.contact_id = x.contact_id
    LEFT JOIN (SELECT DISTINCT code FROM known_values WHERE kind = 'stage') AS ks ON c.stage = ks.code
    LEFT JOIN (SELECT DISTINCT code FROM known_values WHERE kind = 'status') AS kl ON c.status = kl.code
    LEFT JOIN (SELECT DISTINCT code FROM known_values WHERE kind = 'source') AS e ON c.source = e.code
    LEFT JOIN internal_domains AS d ON c.email_domain = d.domain
),
shared_addresses AS (
    SELECT
        min(contact_id) AS contact_id,
        list_sort(array_agg(contact_id)) AS contact_ids,
        min(org_id) AS org_id
    FROM judged
    WHERE email <> ''
    GROUP BY email
    HAVING count(*) > 1
),
findings AS (
    SELECT
        unnest(checks) AS "check",
        contact_id AS subject_id,
        contact_id,
        [contact_id] AS contact_ids,
        org_id,
        owner_id,
        lifecycle_stage,
        lead_status
    FROM judged
    UNION ALL
    SELECT
        'duplicate_contact_email' AS "check",
        j.contact_id AS subject_id,
        j.contact_id,
        s.contact_ids,
        s.org_id,
        j.owner_id,
        j.lifecycle_stage,
        j.lead_status
    FROM shared_addresses AS s
    INNER JOIN judged AS j ON s.contact_id = j.contact_id
    UNION ALL
    SELECT
        'paying_org_without_customer_contact' AS "check",
        o.org_id AS subject_id,
        CAST(NULL AS VARCHAR) AS contact_id,
        CAST([] AS VARCHAR[]) AS contact_ids,
        o.org_id,
        o.owner_id,
        CAST(NULL AS VARCHAR) AS lifecycle_stage,
        CAST(NULL AS VARCHAR) AS lead_status
    FROM marts.organisation_daily AS o
    LEFT JOIN (
        SELECT DISTINCT m.org_id
        FROM memberships AS m
        INNER JOIN contacts AS c ON m.contact_id = c.contact_id AND c.stage IN ('customer', 'evangelist')
    ) AS k ON o.org_id = k.org_id
    WHERE o.as_of = $as_of AND o.known_at = $known_at AND o.state = 'paying' AND k.org_id IS NULL
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    "check",
    subject_id,
    contact_id,
    contact_ids,
    org_id,
    owner_id,
    lifecycle_stage,
    lead_status,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM findings
