/*---
description: >
  What was billed, one row for each version of an invoice; the latest version known wins. Compared with MRR, never a
  source of it.
  Recorded_at is the input's; where that is empty it is created_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [invoice_id, source, recorded_at]
columns:
  invoice_id: {type: VARCHAR, meaning: "id of the invoice in its billing system", not_null: true}
  source: {type: VARCHAR, meaning: "billing system; billing where none is told", not_null: true}
  number: {type: VARCHAR, meaning: "number that the customer sees"}
  org_id: {type: VARCHAR, meaning: "organisation that is billed", not_null: true}
  subscription_id: {type: VARCHAR, meaning: "subscription it is for; empty = none, or several"}
  status: {type: VARCHAR, meaning: "draft and void: not billed; open, paid, uncollectible: billed", not_null: true, accepted: [draft, open, paid, void, uncollectible]}
  currency: {type: VARCHAR, meaning: "ISO 4217, upper case; reporting currency when the input has none", not_null: true}
  total: {type: "DECIMAL(18,4)", meaning: "amount to be paid, tax included and discounts taken off; negative = a credit note", not_null: true}
  tax: {type: "DECIMAL(18,4)", meaning: "tax in the total; empty = none is known"}
  discount: {type: "DECIMAL(18,4)", meaning: "discount that was taken off, positive"}
  amount_remaining: {type: "DECIMAL(18,4)", meaning: "still to be paid; empty = unknown"}
  created_at: {type: TIMESTAMP, meaning: "instant it was made; it is not there before", not_null: true}
  due_at: {type: TIMESTAMP, meaning: "instant it is to be paid"}
  paid_at: {type: TIMESTAMP, meaning: "instant it was paid in full"}
  period_start: {type: TIMESTAMP, meaning: "start of the period it covers"}
  period_end: {type: TIMESTAMP, meaning: "exclusive end of the period it covers"}
  is_deleted: {type: BOOLEAN, meaning: "gone from its source from this version on", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
  created_on: {type: DATE, meaning: "local day of created_at", not_null: true}
---*/
WITH completed AS (
    SELECT
        invoice_id,
        coalesce(nullif(trim(source), ''), 'billing') AS source,
        "number",
        org_id,
        subscription_id,
        lower(trim(status)) AS status,
        coalesce(upper(nullif(trim(currency), '')), $reporting_currency) AS currency,
        total,
        tax,
        discount,
        amount_remaining,
        created_at,
        due_at,
        paid_at,
        period_start,
        period_end,
        coalesce(is_deleted, false) AS is_deleted,
        coalesce(recorded_at, created_at, TIMESTAMP '1970-01-01') AS recorded_at,
        local_date(created_at, $reporting_tz) AS created_on
    FROM inputs.invoices
)
SELECT
    invoice_id,
    source,
    number,
    org_id,
    subscription_id,
    status,
    currency,
    total,
    tax,
    discount,
    amount_remaining,
    created_at,
    due_at,
    paid_at,
    period_start,
    period_end,
    is_deleted,
    recorded_at,
    created_on
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY invoice_id, source, recorded_at
        ORDER BY
            "number" DESC,
            org_id DESC,
            subscription_id DESC,
            status DESC,
            currency DESC,
            total DESC,
            tax DESC,
            discount DESC,
            amount_remaining DESC,
            created_at DESC,
            due_at DESC,
            paid_at DESC,
            period_start DESC,
            period_end DESC,
            is_deleted DESC
    ) = 1
