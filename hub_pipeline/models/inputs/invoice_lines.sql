/*---
description: >
  Lines of invoices as billing tells them, one row for each instant at which something new was known of a line; it
  holds the newest version known by then; one that says what already held is left out. A line without a time of its own was made with its invoice. A line that names
  only an item bills the subscription of that item, from when the item is known. Lines of an invoice that billing never
  told are left out, and so is test data (livemode false).
grain: [invoice_id, line_id, source, recorded_at]
---*/
WITH invoices AS (
    SELECT source, invoice_id, min(created_at) AS created_at, max_by(currency, (_changed_at, _recorded_at)) AS currency
    FROM raw_billing.invoices_versions
    WHERE livemode
    GROUP BY source, invoice_id
), items AS (
    SELECT source, subscription_item_id, subscription_id, _recorded_at AS recorded_at
    FROM raw_billing.subscription_items_versions
    QUALIFY row_number() OVER (
        PARTITION BY source, subscription_item_id ORDER BY _recorded_at, _changed_at, _precedence, _line
    ) = 1
), versions AS (
    SELECT
        l.*,
        i.currency,
        _deleted_at IS NOT NULL AND NOT _absent AS is_removed,
        row_number() OVER (
            PARTITION BY l.source, l.invoice_id, l.invoice_line_id ORDER BY l._changed_at, l._recorded_at, l._line
        ) AS ordinal,
        i.created_at AS invoiced_at
    FROM raw_billing.invoice_lines_versions AS l
    INNER JOIN invoices AS i ON i.source = l.source AND i.invoice_id = l.invoice_id
    WHERE l.livemode
), told AS (
    SELECT
        v.* EXCLUDE (_recorded_at),
        CASE
            WHEN v.created_at IS NULL AND v.ordinal = 1
                THEN least(v._recorded_at, greatest(v.invoiced_at, coalesce(v._floor, v.invoiced_at)))
            ELSE v._recorded_at
        END AS known_at
    FROM versions AS v
), instants AS (
    SELECT source, invoice_id, invoice_line_id, known_at AS recorded_at
    FROM told
    UNION
    SELECT t.source, t.invoice_id, t.invoice_line_id, i.recorded_at
    FROM told AS t
    INNER JOIN items AS i ON i.source = t.source AND i.subscription_item_id = t.subscription_item_id
    WHERE t.subscription_id IS NULL AND i.recorded_at > t.known_at
), newest AS (
    SELECT i.recorded_at, t.*
    FROM instants AS i
    INNER JOIN told AS t
        ON t.source = i.source
        AND t.invoice_id = i.invoice_id
        AND t.invoice_line_id = i.invoice_line_id
        AND t.known_at <= i.recorded_at
    QUALIFY row_number() OVER (
        PARTITION BY i.source, i.invoice_id, i.invoice_line_id, i.recorded_at
        ORDER BY t._changed_at DESC, t.known_at DESC, t.is_removed DESC, t._precedence DESC, t._line DESC
    ) = 1
), billed AS (
    SELECT n.*, coalesce(n.subscription_id, i.subscription_id) AS own_subscription_id
    FROM newest AS n
    LEFT JOIN items AS i
        ON i.source = n.source AND i.subscription_item_id = n.subscription_item_id AND i.recorded_at <= n.recorded_at
), changed AS (
    SELECT *, _deleted_at IS NOT NULL AS is_deleted
    FROM billed
    QUALIFY
        (_hash, _deleted_at IS NOT NULL, own_subscription_id)
        IS DISTINCT FROM lag((_hash, _deleted_at IS NOT NULL, own_subscription_id))
            OVER (PARTITION BY source, invoice_id, invoice_line_id ORDER BY recorded_at)
), units AS (
    SELECT
        currency,
        CAST(CASE exponent WHEN 0 THEN 1 WHEN 2 THEN 0.01 WHEN 3 THEN 0.001 ELSE 0.0001 END AS DECIMAL(5,4)) AS unit
    FROM raw_billing.currencies
)
SELECT
    b.invoice_id,
    b.invoice_line_id AS line_id,
    b.source,
    coalesce(s.name, b.own_subscription_id) AS subscription_id,
    b.quantity,
    CAST(b.amount_minor * u.unit AS DECIMAL(18,4)) AS amount,
    b.proration AS is_proration,
    b.period_start_at AS period_start,
    b.period_end_at AS period_end,
    b.created_at,
    b.is_deleted,
    b.recorded_at
FROM changed AS b
INNER JOIN units AS u ON u.currency = b.currency
LEFT JOIN raw_billing.subscription_names AS s ON s.source = b.source AND s.subscription_id = b.own_subscription_id
