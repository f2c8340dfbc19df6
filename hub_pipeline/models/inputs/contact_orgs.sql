/*---
description: >
  Which contact belongs to which organisation, from HubSpot's associations. HubSpot does not say since when: what the
  first sweep found is taken as valid since ever (valid_from NULL); what a later sweep found is valid from that day. A
  membership that a later sweep did not find ends there.
grain: [contact_id, org_id, recorded_at]
---*/
WITH first_sweep AS (
    SELECT min(_changed_at) AS at FROM raw_hubspot.associations
), links AS (
    SELECT
        a.from_id AS contact_id,
        a.to_id AS org_id,
        a.type_id,
        coalesce(lower(a.label) = 'primary', false) AS is_primary,
        a._changed_at AS changed_at,
        a._deleted_at AS deleted_at,
        a._recorded_at AS recorded_at
    FROM raw_hubspot.associations AS a
    WHERE a.from_object = 'contacts' AND a.to_object = 'organisations'
    QUALIFY row_number() OVER (
        PARTITION BY a.from_id, a.to_id, a.type_id, a._recorded_at ORDER BY a._changed_at DESC, a._run_id DESC
    ) = 1
), events AS (
    SELECT contact_id, org_id, recorded_at, min(min(changed_at)) OVER (PARTITION BY contact_id, org_id) AS member_since
    FROM links
    GROUP BY contact_id, org_id, recorded_at
), states AS (
    -- One membership may carry several association types; it lasts while any of them does.
    SELECT e.contact_id, e.org_id, e.recorded_at, e.member_since, l.is_primary, l.deleted_at
    FROM events AS e
    JOIN links AS l ON l.contact_id = e.contact_id AND l.org_id = e.org_id AND l.recorded_at <= e.recorded_at
    QUALIFY l.recorded_at = max(l.recorded_at) OVER (PARTITION BY e.contact_id, e.org_id, e.recorded_at, l.type_id)
)
SELECT
    s.contact_id,
    s.org_id,
    bool_or(s.is_primary AND s.deleted_at IS NULL) AS is_primary,
    NULLIF(s.member_since, f.at) AS valid_from,
    CASE WHEN bool_and(s.deleted_at IS NOT NULL) THEN max(s.deleted_at) END AS valid_to,
    s.recorded_at
FROM states AS s
CROSS JOIN first_sweep AS f
GROUP BY s.contact_id, s.org_id, s.recorded_at, s.member_since, f.at
