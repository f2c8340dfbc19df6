/*---
description: >
  Lines of invoices whose period covers the close of as_of, as an amount a month. An invoice counts from its creation
  on while it is open, paid or uncollectible and not deleted, as known at the close of known_at; a line likewise. A line is recurring when it bills
  a subscription and is no proration. An invoice without any line counts as one line of its own subscription, period and
  total before tax.
  Discounts: what the lines of an invoice add up to above its total before tax was taken off the invoice as a whole and is
  taken off each line in proportion; a total above them is not spread.
  A month of it: the amount divided by the months of a period of whole months (in the reporting time zone or in UTC), x
  52/12 for each week of a period of whole weeks, else x 365/12 for each day; half-up to cents. At the exchange rate of as_of.
  The organisation is that of the subscription at the close of as_of, where it has ended the last one it had; else the
  one that is billed.
grain: [source, invoice_id, line_id]
columns:
  source: {type: VARCHAR, meaning: "billing system", not_null: true}
  invoice_id: {type: VARCHAR, meaning: "the invoice", not_null: true}
  line_id: {type: VARCHAR, meaning: "the line; empty text = the invoice has no lines", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  subscription_id: {type: VARCHAR, meaning: "subscription it bills"}
  is_recurring: {type: BOOLEAN, meaning: "it bills a subscription and is no proration", not_null: true}
  is_proration: {type: BOOLEAN, meaning: "part of a period, after a change in its middle", not_null: true}
  from_on: {type: DATE, meaning: "first local day at whose close the period counts", not_null: true}
  to_on: {type: DATE, meaning: "first local day at whose close it no longer counts", not_null: true}
  currency: {type: VARCHAR, meaning: "currency of the invoice", not_null: true}
  amount: {type: "DECIMAL(18,4)", meaning: "amount of the line before tax", not_null: true}
  mrr_native: {type: "DECIMAL(18,2)", meaning: "a month of it, net of discounts, its own currency", not_null: true}
  mrr: {type: "DECIMAL(18,2)", meaning: "the same in the reporting currency; empty = there is no rate"}
---*/
WITH invoices AS (
    SELECT source, invoice_id, org_id, subscription_id, status, currency, total, tax, created_at, period_start, period_end, is_deleted
    FROM staging.invoices
    WHERE recorded_at < $close_known_at
    QUALIFY
        row_number() OVER (PARTITION BY source, invoice_id ORDER BY recorded_at DESC) = 1
),
billed AS (
    SELECT
        source,
        invoice_id,
        org_id,
        subscription_id,
        currency,
        CAST(total - coalesce(tax, 0) AS DECIMAL(18, 4)) AS net,
        period_start,
        period_end
    FROM invoices
    WHERE NOT is_deleted AND status IN ('open', 'paid', 'uncollectible') AND created_at < $close_as_of
),
line_versions AS (
    SELECT source, invoice_id, line_id, subscription_id, amount, is_proration, period_start, period_end, created_at, is_deleted
    FROM staging.invoice_lines
    WHERE recorded_at < $close_known_at
    QUALIFY
        row_number() OVER (PARTITION BY source, invoice_id, line_id ORDER BY recorded_at DESC) = 1
),
lines AS (
    SELECT source, invoice_id, line_id, subscription_id, amount, is_proration, period_start, period_end
    FROM line_versions
    WHERE NOT is_deleted AND (created_at IS NULL OR created_at < $close_as_of)
),
sums AS (
    SELECT source, invoice_id, sum(amount) AS amount
    FROM lines
    GROUP BY source, invoice_id
),
all_lines AS (
    SELECT
        b.source,
        b.invoice_id,
        l.line_id,
        b.org_id,
        l.subscription_id,
        l.is_proration,
        l.period_start,
        l.period_end,
        b.currency,
        l.amount,
        b.net,
        s.amount AS gross
    FROM billed AS b
    INNER JOIN lines AS l ON l.source = b.source AND l.invoice_id = b.invoice_id
    INNER JOIN sums AS s ON s.source = b.source AND s.invoice_id = b.invoice_id
    UNION ALL
    SELECT
        b.source,
        b.invoice_id,
        '' AS line_id,
        b.org_id,
        b.subscription_id,
        false AS is_proration,
        b.period_start,
        b.period_end,
        b.currency,
        b.net AS amount,
        b.net,
        b.net AS gross
    FROM billed AS b
    LEFT JOIN sums AS s ON s.source = b.source AND s.invoice_id = b.invoice_id
    WHERE s.invoice_id IS NULL
),
dated AS (
    SELECT
        a.*,
        local_date(a.period_start, $reporting_tz) AS from_on,
        local_date(a.period_end, $reporting_tz) AS to_on
    FROM all_lines AS a
),
measured AS (
    SELECT
        d.*,
        coalesce(
            whole_months(d.from_on, d.to_on),
            whole_months(CAST(d.period_start AS DATE), CAST(d.period_end AS DATE))
        ) AS months,
        d.to_on - d.from_on AS days,
        -- what is left of each line after the discounts on the whole invoice, as a fraction of whole numbers
        CASE WHEN d.gross > 0 AND d.net BETWEEN 0 AND d.gross THEN CAST(d.net * 10000 AS HUGEINT) ELSE 1 END AS kept,
        CASE WHEN d.gross > 0 AND d.net BETWEEN 0 AND d.gross THEN CAST(d.gross * 10000 AS HUGEINT) ELSE 1 END AS of_all
    FROM dated AS d
    WHERE d.from_on <= $as_of AND d.to_on > $as_of
),
monthly AS (
    SELECT
        m.*,
        CASE
            WHEN m.months IS NOT NULL THEN part_in_cents(m.amount, m.kept, m.of_all * m.months)
            WHEN m.days % 7 = 0 THEN part_in_cents(m.amount, m.kept * 52, m.of_all * 12 * (m.days // 7))
            ELSE part_in_cents(m.amount, m.kept * 365, m.of_all * 12 * m.days)
        END AS mrr_native
    FROM measured AS m
),
named AS (
    SELECT DISTINCT subscription_id
    FROM measured
    WHERE subscription_id IS NOT NULL
),
subscriptions AS (
    SELECT i.subscription_id, arg_max(i.org_id, i.valid_from) AS org_id
    FROM intermediate.subscription_intervals AS i
    INNER JOIN named AS n ON n.subscription_id = i.subscription_id
    WHERE i.valid_from < $close_as_of
    GROUP BY i.subscription_id
)
SELECT
    m.source,
    m.invoice_id,
    m.line_id,
    coalesce(s.org_id, i.canonical_org_id, m.org_id) AS org_id,
    m.subscription_id,
    m.subscription_id IS NOT NULL AND NOT m.is_proration AS is_recurring,
    m.is_proration,
    m.from_on,
    m.to_on,
    m.currency,
    m.amount,
    m.mrr_native,
    CASE WHEN m.currency = $reporting_currency THEN m.mrr_native ELSE converted(m.mrr_native, f.rate) END AS mrr
FROM monthly AS m
LEFT JOIN subscriptions AS s ON s.subscription_id = m.subscription_id
LEFT JOIN intermediate.organisation_identity AS i ON i.org_id = m.org_id
LEFT JOIN intermediate.fx_intervals AS f
    ON f.currency = m.currency AND f.from_on <= $as_of AND (f.to_on IS NULL OR f.to_on > $as_of)
