/*---
description: >
  Organisations (customers and prospects), one row for each version; the latest version known wins.
  Recorded_at is the input's; where that is empty it is created_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [org_id, recorded_at]
columns:
  org_id: {type: VARCHAR, meaning: "id of the organisation in the leading source", not_null: true}
  name: {type: VARCHAR, meaning: "display name"}
  domain: {type: VARCHAR, meaning: "domain, lower case"}
  external_id: {type: VARCHAR, meaning: "id of the organisation in the product or in billing"}
  tier_override: {type: VARCHAR, meaning: "tier set by hand, upper case; wins over the computed tier"}
  owner_id: {type: VARCHAR, meaning: "user who owns the relationship"}
  health_override: {type: VARCHAR, meaning: "health set by hand, shown beside the computed one"}
  members_active: {type: BIGINT, meaning: "members who used the product lately; compared with seats"}
  pending_true_up_mrr: {type: "DECIMAL(18,2)", meaning: "MRR that a pending true-up would add, reporting currency"}
  hubspot_url: {type: VARCHAR, meaning: "address of the record"}
  unmatched_reason: {type: VARCHAR, meaning: "why no organisation of the CRM answers to this billing customer; empty = it is none", accepted: [ambiguous, reference_unknown, no_reference]}
  created_at: {type: TIMESTAMP, meaning: "instant the record was created in its source"}
  is_deleted: {type: BOOLEAN, meaning: "the record is gone from its source from this version on", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        org_id,
        name,
        lower(nullif(trim(domain), '')) AS domain,
        external_id,
        upper(nullif(trim(tier_override), '')) AS tier_override,
        owner_id,
        health_override,
        members_active,
        pending_true_up_mrr,
        hubspot_url,
        lower(nullif(trim(unmatched_reason), '')) AS unmatched_reason,
        created_at,
        coalesce(is_deleted, false) AS is_deleted,
        coalesce(recorded_at, created_at, TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.organisations
)
SELECT
    org_id,
    name,
    domain,
    external_id,
    tier_override,
    owner_id,
    health_override,
    members_active,
    pending_true_up_mrr,
    hubspot_url,
    unmatched_reason,
    created_at,
    is_deleted,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY org_id, recorded_at
        ORDER BY
            name DESC,
            domain DESC,
            external_id DESC,
            tier_override DESC,
            owner_id DESC,
            health_override DESC,
            members_active DESC,
            pending_true_up_mrr DESC,
            hubspot_url DESC,
            unmatched_reason DESC,
            created_at DESC,
            is_deleted DESC
    ) = 1
