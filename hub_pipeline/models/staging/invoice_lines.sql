/*---
description: >
  Lines of invoices, one row for each version; the latest version known wins.
  Recorded_at is the input's; where that is empty it is created_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [invoice_id, line_id, source, recorded_at]
columns:
  invoice_id: {type: VARCHAR, meaning: "the invoice", not_null: true}
  line_id: {type: VARCHAR, meaning: "id or number of the line", not_null: true}
  source: {type: VARCHAR, meaning: "billing system; billing where none is told", not_null: true}
  subscription_id: {type: VARCHAR, meaning: "subscription it bills; empty = it is no recurring line"}
  quantity: {type: "DECIMAL(18,6)", meaning: "how many"}
  amount: {type: "DECIMAL(18,4)", meaning: "amount before tax in the currency of the invoice; negative = a credit", not_null: true}
  is_proration: {type: BOOLEAN, meaning: "part of a period, after a change in its middle", not_null: true}
  period_start: {type: TIMESTAMP, meaning: "start of the period it covers"}
  period_end: {type: TIMESTAMP, meaning: "exclusive end of the period it covers"}
  created_at: {type: TIMESTAMP, meaning: "instant it was made; empty = with its invoice"}
  is_deleted: {type: BOOLEAN, meaning: "gone from its source from this version on", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
---*/
WITH completed AS (
    SELECT
        invoice_id,
        line_id,
        coalesce(nullif(trim(source), ''), 'billing') AS source,
        subscription_id,
        quantity,
        amount,
        coalesce(is_proration, false) AS is_proration,
        period_start,
        period_end,
        created_at,
        coalesce(is_deleted, false) AS is_deleted,
        coalesce(recorded_at, created_at, TIMESTAMP '1970-01-01') AS recorded_at
    FROM inputs.invoice_lines
)
SELECT
    invoice_id,
    line_id,
    source,
    subscription_id,
    quantity,
    amount,
    is_proration,
    period_start,
    period_end,
    created_at,
    is_deleted,
    recorded_at
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY invoice_id, line_id, source, recorded_at
        ORDER BY
            subscription_id DESC,
            quantity DESC,
            amount DESC,
            is_proration DESC,
            period_start DESC,
            period_end DESC,
            created_at DESC,
            is_deleted DESC
    ) = 1
