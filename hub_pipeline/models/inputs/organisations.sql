/*---
description: >
  Versions of organisations: the HubSpot organisation object, and beside it every billing customer that no HubSpot
  organisation answers to, so that nobody who pays is dropped. Such a customer is billing:<customer id>, or its plain
  id where HubSpot has no organisations at all (settled, where the canonical tables come from). Once an organisation
  answers to it, the customer's own is gone.
grain: [org_id, recorded_at]
checks:
  - name: values_readable
    severity: warn
    description: >
      Every value of a mapped property of an organisation that is still there fits its column: a number, a date, a word the settings
      know. One row for each column with values that do not; they are empty for the models and stay as text in raw.
    sql: >
      SELECT column_name, property, count(*) AS records, min(value) AS example, min(id) AS example_id
      FROM raw_hubspot.organisations_unread GROUP BY column_name, property ORDER BY records DESC, column_name
---*/
WITH matches AS (
    SELECT
        *,
        lead(org_id) OVER (PARTITION BY source, customer_id ORDER BY recorded_at) AS next_org_id,
        lead(recorded_at) OVER (PARTITION BY source, customer_id ORDER BY recorded_at) AS next_recorded_at
    FROM raw_billing.customer_matches
), instants AS (
    SELECT source, customer_id, org_id, reason, recorded_at, false AS is_over
    FROM matches
    WHERE matched_by = 'none'
    UNION
    SELECT m.source, m.customer_id, m.org_id, m.reason, c._recorded_at, false
    FROM matches AS m
    INNER JOIN raw_billing.customers_versions AS c ON c.source = m.source AND c.customer_id = m.customer_id
    WHERE m.matched_by = 'none' AND c._recorded_at > m.recorded_at
        AND (m.next_recorded_at IS NULL OR c._recorded_at < m.next_recorded_at)
    UNION
    SELECT source, customer_id, org_id, CAST(NULL AS VARCHAR), next_recorded_at, true
    FROM matches
    WHERE matched_by = 'none' AND next_org_id <> org_id
), customers AS (
    SELECT
        i.org_id,
        c.name,
        i.reason AS unmatched_reason,
        c.created_at,
        i.is_over OR coalesce(c._deleted_at IS NOT NULL, false) AS is_deleted,
        i.recorded_at
    FROM instants AS i
    LEFT JOIN raw_billing.customers_versions AS c
        ON c.source = i.source AND c.customer_id = i.customer_id AND c._recorded_at <= i.recorded_at
    QUALIFY row_number() OVER (PARTITION BY i.org_id, i.recorded_at ORDER BY c._changed_at DESC, c._recorded_at DESC, i.source) = 1
)
SELECT
    h.id AS org_id,
    h.name,
    lower(h.domain) AS domain,
    h.external_id,
    h.tier_override,
    h.owner_id,
    h.health_override,
    h.members_active,
    h.pending_true_up_mrr,
    h.record_url AS hubspot_url,
    CAST(NULL AS VARCHAR) AS unmatched_reason,
    h.created_at,
    h._archived_at IS NOT NULL OR h._deleted_at IS NOT NULL OR h._merged_into IS NOT NULL AS is_deleted,
    h._recorded_at AS recorded_at
FROM raw_hubspot.organisations_mapped AS h
UNION ALL
SELECT
    org_id,
    name,
    CAST(NULL AS VARCHAR) AS domain,
    CAST(NULL AS VARCHAR) AS external_id,
    CAST(NULL AS VARCHAR) AS tier_override,
    CAST(NULL AS VARCHAR) AS owner_id,
    CAST(NULL AS VARCHAR) AS health_override,
    CAST(NULL AS BIGINT) AS members_active,
    CAST(NULL AS DECIMAL(18,2)) AS pending_true_up_mrr,
    CAST(NULL AS VARCHAR) AS hubspot_url,
    unmatched_reason,
    created_at,
    is_deleted,
    recorded_at
FROM customers
