/*---
description: >
  Hierarchy from the parent property of the HubSpot organisation: each value it was set to, with its own time; no value
  means no parent from then on. Without history the parent that the first version shows is taken as valid since ever
  (valid_from NULL), and a later change starts when HubSpot's record was changed.
  An association with another organisation under one of hubspot.parent_labels says the same. HubSpot does not say since
  when: what the first sweep of such associations found is valid since ever, what a later one found from that day; one
  that a sweep no longer found ends there. Of two parents found at once the lowest id is taken.
  An organisation of which HubSpot never named a parent has the one that its billing customer names: the organisation
  of the customer parent_customer_ref, from when the customer says so, as both were matched by what was known; a parent
  that is the organisation itself is none. Of several customers of one organisation the latest word holds. Once HubSpot
  names a parent, billing's counts no more.
grain: [org_id, valid_from, recorded_at]
checks:
  - name: parent_customers_are_known
    severity: warn
    description: Billing customers whose parent is a customer that billing never listed; they have no parent.
    sql: >
      SELECT c.source, c.customer_id, c.parent_customer_ref
      FROM raw_billing.customers_current AS c
      LEFT JOIN raw_billing.customer_organisations AS p ON p.source = c.source AND p.customer_id = c.parent_customer_ref
      WHERE c.parent_customer_ref <> '' AND c._deleted_at IS NULL AND p.customer_id IS NULL
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
), hubspot AS (
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
), hubspot_leads AS (
    SELECT org_id, min(recorded_at) AS since
    FROM hubspot
    WHERE parent_org_id IS NOT NULL
    GROUP BY org_id
), moves AS (
    SELECT source, customer_id, org_id, recorded_at
    FROM raw_billing.customer_matches
    QUALIFY org_id IS DISTINCT FROM lag(org_id) OVER (PARTITION BY source, customer_id ORDER BY recorded_at)
), matches AS (
    SELECT
        source,
        customer_id,
        org_id,
        recorded_at AS known_from,
        lead(recorded_at) OVER (PARTITION BY source, customer_id ORDER BY recorded_at) AS known_to
    FROM moves
), told AS (
    SELECT
        source,
        customer_id,
        NULLIF(parent_customer_ref, '') AS parent_customer_ref,
        _changed_at,
        _recorded_at,
        lead(_recorded_at) OVER (PARTITION BY source, customer_id, _changed_at ORDER BY _recorded_at) AS retold_at
    FROM (
        SELECT *
        FROM raw_billing.customers_versions
        WHERE _deleted_at IS NULL
        QUALIFY row_number() OVER (PARTITION BY source, customer_id, _changed_at, _recorded_at ORDER BY _precedence DESC, _line DESC) = 1
    ) AS versions
    -- A customer that never had a parent says nothing, also of the organisation's other customers.
    QUALIFY _changed_at >= min(CASE WHEN parent_customer_ref <> '' THEN _changed_at END) OVER (PARTITION BY source, customer_id)
), statements AS (
    SELECT
        m.org_id,
        p.org_id AS parent_org_id,
        t._changed_at AS valid_from,
        greatest(t._recorded_at, m.known_from, coalesce(p.known_from, t._recorded_at)) AS known_from,
        least(t.retold_at, m.known_to, p.known_to, h.since) AS known_to
    FROM told AS t
    INNER JOIN matches AS m ON t.source = m.source AND t.customer_id = m.customer_id
    LEFT JOIN matches AS p ON t.source = p.source AND t.parent_customer_ref = p.customer_id
    LEFT JOIN hubspot_leads AS h ON m.org_id = h.org_id
    WHERE t.parent_customer_ref IS NULL OR p.org_id <> m.org_id
), holding AS (
    SELECT * FROM statements WHERE known_to IS NULL OR known_from < known_to
), instants AS (
    SELECT org_id, valid_from, known_from AS recorded_at FROM holding
    UNION
    SELECT org_id, valid_from, known_to FROM holding WHERE known_to IS NOT NULL
)
SELECT org_id, parent_org_id, valid_from, valid_to, recorded_at FROM hubspot
UNION ALL
SELECT
    i.org_id,
    s.parent_org_id,
    i.valid_from,
    -- What is no longer said never held: an interval without an instant.
    CASE WHEN s.org_id IS NULL THEN i.valid_from END AS valid_to,
    i.recorded_at
FROM instants AS i
LEFT JOIN holding AS s
    ON
        i.org_id = s.org_id
        AND i.valid_from = s.valid_from
        AND i.recorded_at >= s.known_from
        AND (s.known_to IS NULL OR i.recorded_at < s.known_to)
QUALIFY
    row_number() OVER (
        PARTITION BY i.org_id, i.valid_from, i.recorded_at ORDER BY s.known_from DESC NULLS LAST, s.parent_org_id NULLS LAST
    ) = 1
