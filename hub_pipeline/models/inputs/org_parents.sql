/*---
description: >
  Hierarchy from the parent property of the HubSpot organisation: each value it was set to, with its own time; no value
  means no parent from then on. Without history the parent that the first version shows is taken as valid since ever
  (valid_from NULL), and a later change starts when HubSpot's record was changed.
  An association with another organisation under one of hubspot.parent_labels says the same. HubSpot does not say since
  when: what the first sweep of such associations found is valid since ever, what a later one found from that day; one
  that a sweep no longer found ends there. Of two parents found at once the lowest id is taken.
grain: [org_id, valid_from, recorded_at]
---*/
WITH first_sweep AS (
    SELECT min(_changed_at) AS at
    FROM raw_hubspot.associations
    WHERE from_object = 'organisations' AND to_object = 'organisations'
), links AS (
    SELECT
        a.from_id AS org_id,
        a.to_id AS parent_org_id,
        a._changed_at AS changed_at,
        a._deleted_at AS deleted_at,
        a._recorded_at AS recorded_at,
        lag(a._changed_at) OVER (PARTITION BY a.from_id, a.to_id, a.type_id ORDER BY a._recorded_at) AS linked_at
    FROM raw_hubspot.associations AS a
    WHERE
        a.from_object = 'organisations'
        AND a.to_object = 'organisations'
        AND list_contains(CAST($hubspot_parent_labels AS VARCHAR[]), lower(a.label))
)
SELECT
    h.id AS org_id,
    NULLIF(max(h.value), '') AS parent_org_id,
    CASE WHEN NOT h.is_since_creation THEN h.effective_at END AS valid_from,
    CAST(NULL AS TIMESTAMP) AS valid_to,
    h.recorded_at
FROM raw_hubspot.organisations_changes AS h
WHERE h.column_name = 'parent_org_id'
GROUP BY h.id, h.effective_at, h.is_since_creation, h.recorded_at
UNION ALL
SELECT
    l.org_id,
    min(l.parent_org_id) AS parent_org_id,
    NULLIF(CASE WHEN l.deleted_at IS NULL THEN l.changed_at ELSE l.linked_at END, f.at) AS valid_from,
    l.deleted_at AS valid_to,
    l.recorded_at
FROM links AS l
CROSS JOIN first_sweep AS f
GROUP BY l.org_id, l.deleted_at, l.changed_at, l.linked_at, f.at, l.recorded_at
