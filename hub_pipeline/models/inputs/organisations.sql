/*---
description: >
  Versions of organisations: the HubSpot organisation object, and beside it every billing customer that no HubSpot
  organisation answers to, so that nobody who pays is dropped. Such a customer is billing:<customer id>, or its plain
  id where HubSpot has no organisations at all (settled, where the canonical tables come from).
grain: [org_id, recorded_at]
---*/
WITH customers AS (
    SELECT
        o.org_id,
        c.name,
        c.created_at,
        coalesce(c._deleted_at IS NOT NULL, false) AS is_deleted,
        c._recorded_at AS recorded_at
    FROM raw_billing.customer_organisations AS o
    LEFT JOIN raw_billing.customers_versions AS c ON c.source = o.source AND c.customer_id = o.customer_id
    WHERE o.matched_by = 'none'
    QUALIFY row_number() OVER (PARTITION BY o.org_id, c._recorded_at ORDER BY c._changed_at DESC, o.source) = 1
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
    created_at,
    is_deleted,
    recorded_at
FROM customers
