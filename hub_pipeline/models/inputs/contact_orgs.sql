/*---
description: >
  Which contact belongs to which organisation, from HubSpot's associations. HubSpot does not say since when: what the
  first sweep found is taken as valid since ever (valid_from NULL); what a later sweep found is valid from that day. A
  membership that a later sweep did not find ends there.
grain: [contact_id, org_id, recorded_at]
---*/
WITH first_sweep AS (
    SELECT min(_changed_at) AS at FROM raw_hubspot.associations
), versions AS (
    SELECT
        a.from_id AS contact_id,
        a.to_id AS org_id,
        bool_or(coalesce(lower(a.label) = 'primary', false)) AS is_primary,
        min(a._changed_at) AS changed_at,
        max(a._deleted_at) AS deleted_at,
        bool_and(a._deleted_at IS NOT NULL) AS is_gone,
        a._recorded_at AS recorded_at
    FROM raw_hubspot.associations AS a
    WHERE a.from_object = 'contacts' AND a.to_object = 'organisations'
    GROUP BY a.from_id, a.to_id, a._recorded_at
)
SELECT
    v.contact_id,
    v.org_id,
    v.is_primary,
    NULLIF(min(v.changed_at) OVER (PARTITION BY v.contact_id, v.org_id), f.at) AS valid_from,
    CASE WHEN v.is_gone THEN v.deleted_at END AS valid_to,
    v.recorded_at
FROM versions AS v
CROSS JOIN first_sweep AS f
