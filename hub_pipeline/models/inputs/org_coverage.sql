/*---
description: >
  Joint plans: the organisation's record says who pays for it, since when and for how many seats. Explicit only; nothing
  is inferred (settled, where the canonical tables come from).
grain: [child_org_id, payer_org_id, valid_from, recorded_at]
---*/
WITH versions AS (
    SELECT
        o.id AS child_org_id,
        o.covered_by_org_id AS payer_org_id,
        o.covered_from AS valid_from,
        o.covered_seats AS seats,
        o._changed_at AS changed_at,
        o._recorded_at AS recorded_at,
        lead(o.covered_by_org_id) OVER history AS next_payer,
        lead(o.covered_from) OVER history AS next_from,
        lead(o._changed_at) OVER history AS next_change,
        lead(o._recorded_at) OVER history AS next_recorded
    FROM raw_hubspot.organisations_mapped AS o
    WINDOW history AS (PARTITION BY o.id ORDER BY o._recorded_at)
), stated AS (
    SELECT child_org_id, payer_org_id, valid_from, CAST(NULL AS TIMESTAMP) AS valid_to, seats, recorded_at
    FROM versions
    WHERE payer_org_id IS NOT NULL
    UNION ALL
    SELECT child_org_id, payer_org_id, valid_from, next_change AS valid_to, seats, next_recorded AS recorded_at
    FROM versions
    WHERE payer_org_id IS NOT NULL AND next_recorded IS NOT NULL AND next_payer IS DISTINCT FROM payer_org_id
    UNION ALL
    -- A start that was corrected never was: the row with the old start ends where it began.
    SELECT child_org_id, payer_org_id, valid_from, valid_from AS valid_to, seats, next_recorded AS recorded_at
    FROM versions
    WHERE payer_org_id = next_payer AND next_from IS DISTINCT FROM valid_from AND valid_from IS NOT NULL
)
SELECT child_org_id, payer_org_id, valid_from, valid_to, seats, min(recorded_at) AS recorded_at
FROM stated
GROUP BY child_org_id, payer_org_id, valid_from, valid_to, seats
