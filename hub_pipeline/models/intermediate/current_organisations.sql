/*---
description: >
  The organisation records of the day: of each organisation the version recorded last before the close of known_at.
  Of merged organisations the survivor's record holds, also when it is deleted; where the survivor has none, the one of
  a loser recorded last, then the first by id. An organisation whose record that holds is deleted is left out.
  created_at is the earliest of all records merged into it, or unknown.
grain: [org_id]
columns:
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  name: {type: VARCHAR, meaning: "display name"}
  domain: {type: VARCHAR, meaning: "e-mail or web domain, lower case"}
  external_id: {type: VARCHAR, meaning: "id in the product or in billing"}
  tier_override: {type: VARCHAR, meaning: "tier set by hand"}
  owner_id: {type: VARCHAR, meaning: "user who owns the relationship"}
  health_override: {type: VARCHAR, meaning: "health set by hand"}
  members_active: {type: BIGINT, meaning: "members who used the product lately"}
  pending_true_up_mrr: {type: "DECIMAL(18,2)", meaning: "MRR a pending true-up would add"}
  hubspot_url: {type: VARCHAR, meaning: "address of the record"}
  created_at: {type: TIMESTAMP, meaning: "instant the first of its records was created"}
  first_recorded_at: {type: TIMESTAMP, meaning: "instant the first version of any of its records was recorded", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant this version was recorded", not_null: true}
---*/
WITH latest AS (
    SELECT
        i.canonical_org_id,
        o.org_id,
        o.name,
        o.domain,
        o.external_id,
        o.tier_override,
        o.owner_id,
        o.health_override,
        o.members_active,
        o.pending_true_up_mrr,
        o.hubspot_url,
        o.is_deleted,
        o.recorded_at
    FROM staging.organisations AS o
    INNER JOIN intermediate.organisation_identity AS i ON o.org_id = i.org_id
    WHERE o.recorded_at < $close_known_at
    QUALIFY
        row_number() OVER (
            PARTITION BY i.canonical_org_id
            ORDER BY CASE WHEN o.org_id = i.canonical_org_id THEN 0 ELSE 1 END, o.recorded_at DESC, o.org_id
        ) = 1
),
first_seen AS (
    SELECT
        i.canonical_org_id,
        min(o.created_at) AS created_at,
        min(o.recorded_at) AS first_recorded_at
    FROM staging.organisations AS o
    INNER JOIN intermediate.organisation_identity AS i ON o.org_id = i.org_id
    WHERE o.recorded_at < $close_known_at
    GROUP BY i.canonical_org_id
)
SELECT
    l.canonical_org_id AS org_id,
    l.name,
    l.domain,
    l.external_id,
    l.tier_override,
    l.owner_id,
    l.health_override,
    l.members_active,
    l.pending_true_up_mrr,
    l.hubspot_url,
    f.created_at,
    f.first_recorded_at,
    l.recorded_at
FROM latest AS l
INNER JOIN first_seen AS f ON l.canonical_org_id = f.canonical_org_id
WHERE NOT l.is_deleted
