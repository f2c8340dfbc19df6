/*---
description: >
  Invoices as billing tells them: one row for each instant at which something new was known of an invoice or of whose
  customer it is. A row holds the newest version known by then; a late word about an earlier time does not undo it, and a row that says what already held is left out. Test
  data (livemode false) is left out. An invoice that names a subscription which another billing system had before names
  it <source>:<id>, as inputs.subscription_versions does.
grain: [invoice_id, source, recorded_at]
---*/
WITH told AS (
    SELECT *, _deleted_at IS NOT NULL AND NOT _absent AS is_removed
    FROM raw_billing.invoices_versions
    WHERE livemode
), matches AS (
    SELECT
        source,
        customer_id,
        org_id,
        recorded_at,
        CASE WHEN row_number() OVER of_customer > 1 THEN recorded_at END AS known_from,
        lead(recorded_at) OVER of_customer AS known_to
    FROM raw_billing.customer_matches
    WINDOW of_customer AS (PARTITION BY source, customer_id ORDER BY recorded_at)
), instants AS (
    SELECT source, invoice_id, _recorded_at AS recorded_at
    FROM told
    UNION
    SELECT t.source, t.invoice_id, m.known_from
    FROM told AS t
    INNER JOIN matches AS m ON m.source = t.source AND m.customer_id = t.customer_id
    WHERE m.known_from > t._recorded_at
), newest AS (
    SELECT i.recorded_at, t.* EXCLUDE (_recorded_at)
    FROM instants AS i
    INNER JOIN told AS t
        ON t.source = i.source AND t.invoice_id = i.invoice_id AND t._recorded_at <= i.recorded_at
    QUALIFY row_number() OVER (
        PARTITION BY i.source, i.invoice_id, i.recorded_at
        ORDER BY t._changed_at DESC, t._recorded_at DESC, t.is_removed DESC, t._precedence DESC, t._line DESC
    ) = 1
), owned AS (
    SELECT
        n.*,
        n._deleted_at IS NOT NULL AS is_deleted,
        coalesce(m.org_id, n.customer_id) AS org_id
    FROM newest AS n
    LEFT JOIN matches AS m
        ON m.source = n.source AND m.customer_id = n.customer_id
        AND (m.known_from IS NULL OR m.known_from <= n.recorded_at)
        AND (m.known_to IS NULL OR m.known_to > n.recorded_at)
), changed AS (
    SELECT *
    FROM owned
    QUALIFY
        (_hash, is_deleted, org_id)
        IS DISTINCT FROM lag((_hash, is_deleted, org_id)) OVER (PARTITION BY source, invoice_id ORDER BY recorded_at)
), units AS (
    SELECT
        currency,
        CAST(CASE exponent WHEN 0 THEN 1 WHEN 2 THEN 0.01 WHEN 3 THEN 0.001 ELSE 0.0001 END AS DECIMAL(5,4)) AS unit
    FROM raw_billing.currencies
)
SELECT
    n.invoice_id,
    n.source,
    n."number",
    n.org_id,
    coalesce(s.name, n.subscription_id) AS subscription_id,
    n.status,
    n.currency,
    CAST(n.total_minor * u.unit AS DECIMAL(18,4)) AS total,
    CAST(n.tax_minor * u.unit AS DECIMAL(18,4)) AS tax,
    CAST(n.discount_minor * u.unit AS DECIMAL(18,4)) AS discount,
    CAST(n.amount_remaining_minor * u.unit AS DECIMAL(18,4)) AS amount_remaining,
    n.created_at,
    n.due_at,
    n.paid_at,
    n.period_start_at AS period_start,
    n.period_end_at AS period_end,
    n.is_deleted,
    n.recorded_at
FROM changed AS n
INNER JOIN units AS u ON u.currency = n.currency
LEFT JOIN raw_billing.subscription_names AS s ON s.source = n.source AND s.subscription_id = n.subscription_id
