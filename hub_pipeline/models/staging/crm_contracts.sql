/*---
description: >
  Custom plans invoiced outside the billing system, known from the CRM.
  Recorded_at is the input's; where that is empty it is valid_from, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
  A won deal whose type is one of hubspot.contract_deal_types is a contract too, from the instant it was won on and
  without an end: its plan, else its type, is the kind, its amount the MRR (a twelfth of it when
  renewal.deal_amount_basis is arr). A deal that is no longer won or was deleted never was one.
  A billing interval outside the list is kept with a warning: the MRR of the contract is then unknown, never wrong.
grain: [org_id, valid_from, recorded_at]
severity: {accepted_values: warn}
columns:
  org_id: {type: VARCHAR, meaning: "organisation", not_null: true}
  kind: {type: VARCHAR, meaning: "kind of contract, such as custom or enterprise"}
  valid_from: {type: TIMESTAMP, meaning: "inclusive start; 1970-01-01 = always", not_null: true}
  valid_to: {type: TIMESTAMP, meaning: "exclusive end; empty = open"}
  seats: {type: BIGINT, meaning: "seats of the contract"}
  amount: {type: "DECIMAL(18,4)", meaning: "amount for one interval; empty = not known, the contract then counts in no MRR"}
  billing_interval: {type: VARCHAR, meaning: "month, quarter, year, two_years or week; month when the input has none", not_null: true, accepted: [month, quarter, year, two_years, week]}
  currency: {type: VARCHAR, meaning: "ISO 4217, upper case; reporting currency when the input has none", not_null: true}
  term_end: {type: TIMESTAMP, meaning: "exclusive end of the current term"}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
  term_end_on: {type: DATE, meaning: "local day of the end of the term"}
---*/
WITH deals AS (
    SELECT
        org_id,
        coalesce(nullif(trim(plan), ''), deal_type) AS kind,
        closed_at,
        amount / CASE WHEN $renewal_deal_amount_basis = 'arr' THEN 12 ELSE 1 END AS amount,
        currency,
        lower(status) = 'won' AND NOT coalesce(is_deleted, false) AND closed_at IS NOT NULL AS is_contract,
        recorded_at,
        lag(org_id) OVER versions AS org_before,
        lag(closed_at) OVER versions AS closed_before,
        coalesce(
            lag(lower(status) = 'won' AND NOT coalesce(is_deleted, false) AND closed_at IS NOT NULL) OVER versions, false
        ) AS was_contract
    FROM inputs.deals
    WHERE list_contains(CAST($hubspot_contract_deal_types AS VARCHAR[]), lower(deal_type)) AND org_id IS NOT NULL
    WINDOW versions AS (PARTITION BY deal_id ORDER BY recorded_at)
),
stated AS (
    SELECT org_id, kind, valid_from, valid_to, seats, amount, billing_interval, currency, term_end, recorded_at
    FROM inputs.crm_contracts
    UNION ALL
    SELECT
        org_id,
        kind,
        closed_at AS valid_from,
        CAST(NULL AS TIMESTAMP) AS valid_to,
        CAST(NULL AS BIGINT) AS seats,
        CAST(amount AS DECIMAL(18, 4)) AS amount,
        'month' AS billing_interval,
        currency,
        CAST(NULL AS TIMESTAMP) AS term_end,
        coalesce(recorded_at, closed_at) AS recorded_at
    FROM deals
    WHERE is_contract
    UNION ALL
    SELECT
        org_before AS org_id,
        kind,
        closed_before AS valid_from,
        closed_before AS valid_to,
        CAST(NULL AS BIGINT) AS seats,
        CAST(amount AS DECIMAL(18, 4)) AS amount,
        'month' AS billing_interval,
        currency,
        CAST(NULL AS TIMESTAMP) AS term_end,
        recorded_at
    FROM deals
    WHERE
        was_contract
        AND (NOT is_contract OR closed_at IS DISTINCT FROM closed_before OR org_id IS DISTINCT FROM org_before)
),
completed AS (
    SELECT
        org_id,
        kind,
        coalesce(valid_from, TIMESTAMP '1970-01-01') AS valid_from,
        valid_to,
        seats,
        amount,
        coalesce(lower(billing_interval), 'month') AS billing_interval,
        coalesce(upper(nullif(trim(currency), '')), $reporting_currency) AS currency,
        term_end,
        coalesce(recorded_at, valid_from, TIMESTAMP '1970-01-01') AS recorded_at,
        local_date(term_end, $reporting_tz) AS term_end_on
    FROM stated
)
SELECT
    org_id,
    kind,
    valid_from,
    valid_to,
    seats,
    amount,
    billing_interval,
    currency,
    term_end,
    recorded_at,
    term_end_on
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY org_id, valid_from, recorded_at
        ORDER BY
            kind DESC,
            valid_to DESC,
            seats DESC,
            amount DESC,
            billing_interval DESC,
            currency DESC,
            term_end DESC
    ) = 1
