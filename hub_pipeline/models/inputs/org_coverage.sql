/*---
description: >
  Joint plans: the organisation's record says who pays for it, since when and for how many seats. Explicit only; nothing
  is inferred (settled, where the canonical tables come from). A joint plan ends when the record no longer names the
  payer; a start that was corrected never was.
  An association with another organisation under one of hubspot.payer_labels says the same, without a start of its own:
  what the first sweep of such associations found is valid since ever, what a later one found from that day.
  A line of the identity file (relation covered_by) says it by hand.
grain: [child_org_id, payer_org_id, valid_from, recorded_at]
---*/
WITH known AS (
    SELECT
        o.id AS child_org_id,
        o.covered_by_org_id AS payer_org_id,
        o.covered_from AS valid_from,
        o.covered_seats AS seats,
        o._changed_at AS changed_at,
        o._recorded_at AS recorded_at,
        lag(o.covered_by_org_id) OVER history AS payer_before,
        lag(o.covered_from) OVER history AS from_before,
        lag(o.covered_seats) OVER history AS seats_before
    FROM raw_hubspot.organisations_mapped AS o
    WINDOW history AS (PARTITION BY o.id ORDER BY o._recorded_at)
), first_sweep AS (
    SELECT min(_changed_at) AS at
    FROM raw_hubspot.associations
    WHERE from_object = 'organisations' AND to_object = 'organisations'
), links AS (
    SELECT
        a.from_id AS child_org_id,
        a.to_id AS payer_org_id,
        a._changed_at AS changed_at,
        a._deleted_at AS deleted_at,
        a._recorded_at AS recorded_at,
        lag(a._changed_at) OVER (PARTITION BY a.from_id, a.to_id, a.type_id ORDER BY a._recorded_at) AS linked_at
    FROM raw_hubspot.associations AS a
    WHERE
        a.from_object = 'organisations'
        AND a.to_object = 'organisations'
        AND list_contains(CAST($hubspot_payer_labels AS VARCHAR[]), lower(a.label))
), by_hand AS (
    SELECT
        key AS child_org_id,
        org_id AS payer_org_id,
        CAST(valid_from AS TIMESTAMP) AS valid_from,
        CAST(valid_to AS TIMESTAMP) AS valid_to,
        seats,
        _changed_at AS changed_at,
        _deleted_at AS deleted_at,
        _recorded_at AS recorded_at,
        lag(org_id) OVER history AS payer_before,
        lag(CAST(valid_from AS TIMESTAMP)) OVER history AS from_before,
        lag(seats) OVER history AS seats_before
    FROM raw_billing.identities_versions
    WHERE relation = 'covered_by'
    WINDOW history AS (PARTITION BY source, of_source, key ORDER BY _recorded_at, _changed_at)
)
SELECT child_org_id, payer_org_id, valid_from, CAST(NULL AS TIMESTAMP) AS valid_to, seats, recorded_at
FROM known
WHERE
    payer_org_id IS NOT NULL
    AND (
        payer_org_id IS DISTINCT FROM payer_before
        OR valid_from IS DISTINCT FROM from_before
        OR seats IS DISTINCT FROM seats_before
    )
UNION ALL
SELECT
    child_org_id,
    payer_before AS payer_org_id,
    from_before AS valid_from,
    CASE
        WHEN payer_org_id IS DISTINCT FROM payer_before THEN changed_at
        ELSE coalesce(from_before, TIMESTAMP '1970-01-01')
    END AS valid_to,
    seats_before AS seats,
    recorded_at
FROM known
WHERE
    payer_before IS NOT NULL
    AND (payer_org_id IS DISTINCT FROM payer_before OR valid_from IS DISTINCT FROM from_before)
UNION ALL
SELECT
    l.child_org_id,
    l.payer_org_id,
    NULLIF(CASE WHEN l.deleted_at IS NULL THEN l.changed_at ELSE l.linked_at END, f.at) AS valid_from,
    l.deleted_at AS valid_to,
    CAST(NULL AS BIGINT) AS seats,
    l.recorded_at
FROM links AS l
CROSS JOIN first_sweep AS f
UNION ALL
SELECT
    child_org_id,
    payer_org_id,
    valid_from,
    CASE WHEN deleted_at IS NULL THEN valid_to ELSE least(valid_to, deleted_at) END AS valid_to,
    seats,
    recorded_at
FROM by_hand
UNION ALL
SELECT child_org_id, payer_before, from_before, changed_at, seats_before, recorded_at
FROM by_hand
WHERE payer_before <> payer_org_id
