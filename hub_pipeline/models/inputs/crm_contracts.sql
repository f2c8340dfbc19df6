/*---
description: >
  Custom plans that are invoiced outside the billing system and known only from the HubSpot organisation. With an amount
  (monthly recurring, reporting currency) the contract is a running paid plan; without one it only says that there is a
  contract (settled 16). What the record says holds for the whole contract, so a new amount or number of seats corrects
  it from its start. A contract that the record no longer names ended when it was taken out, or at its own end if that
  was earlier; a start that was corrected never was.
grain: [org_id, valid_from, recorded_at]
---*/
WITH known AS (
    SELECT
        o.id AS org_id,
        o.contract_kind AS kind,
        o.contract_from AS valid_from,
        o.contract_to AS valid_to,
        o.contract_seats AS seats,
        CAST(o.contract_amount AS DECIMAL(18,4)) AS amount,
        o._changed_at AS changed_at,
        o._recorded_at AS recorded_at,
        lag(o.contract_kind) OVER history AS kind_before,
        lag(o.contract_from) OVER history AS from_before,
        lag(o.contract_to) OVER history AS to_before,
        lag(o.contract_seats) OVER history AS seats_before,
        lag(CAST(o.contract_amount AS DECIMAL(18,4))) OVER history AS amount_before
    FROM raw_hubspot.organisations_mapped AS o
    WINDOW history AS (PARTITION BY o.id ORDER BY o._recorded_at)
), stated AS (
    SELECT org_id, kind, valid_from, valid_to, seats, amount, valid_to AS term_end, recorded_at
    FROM known
    WHERE
        kind IS NOT NULL
        AND (
            kind IS DISTINCT FROM kind_before
            OR valid_from IS DISTINCT FROM from_before
            OR valid_to IS DISTINCT FROM to_before
            OR seats IS DISTINCT FROM seats_before
            OR amount IS DISTINCT FROM amount_before
        )
    UNION ALL
    SELECT
        org_id,
        kind_before AS kind,
        from_before AS valid_from,
        CASE
            WHEN kind IS NULL THEN least(to_before, changed_at)
            ELSE coalesce(from_before, TIMESTAMP '1970-01-01')
        END AS valid_to,
        seats_before AS seats,
        amount_before AS amount,
        to_before AS term_end,
        recorded_at
    FROM known
    WHERE kind_before IS NOT NULL AND (kind IS NULL OR valid_from IS DISTINCT FROM from_before)
)
SELECT
    org_id,
    kind,
    valid_from,
    valid_to,
    seats,
    amount,
    'month' AS billing_interval,
    CAST($reporting_currency AS VARCHAR) AS currency,
    term_end,
    recorded_at
FROM stated
