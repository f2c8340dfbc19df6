/*---
description: >
  Custom plans invoiced outside the billing system, known from the CRM.
  Recorded_at is the input's; where that is empty it is valid_from, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
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
WITH completed AS (
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
    FROM inputs.crm_contracts
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
