"""SQL from Stripe's JSON to rows of the billing contract, as text: what Stripe's fields mean.

Every relation here has the text columns of its contract table (those that Stripe fills), ``record`` (the id of the
Stripe record that told it), ``true_at`` (since when it is true; NULL for a list) and ``origin``: ``before`` and ``event``
come from an event, ``list`` from a nightly list. Works on both API shapes: terms on the items (2025-03-31 and
later) or on the subscription, prices or plans, discounts whole or by id.
"""

from __future__ import annotations

from hub_pipeline.warehouse.sql import literal

#: Of these currencies Stripe counts another minor unit than ISO 4217 does: what its amounts are multiplied with.
MINOR_UNITS = {"isk": "0.01", "ugx": "0.01", "mga": "100"}

_ROLES = "('seat', 'addon', 'flat', 'metered')"

#: Events that were not turned into rows before, in the order in which they happened.
NEW_EVENTS = """
CREATE OR REPLACE TEMP TABLE stripe_events AS
SELECT
    id, type, created_at, object_id, CAST(object AS JSON) AS object,
    CASE WHEN json_type(CAST(previous AS JSON)) = 'OBJECT' THEN CAST(previous AS JSON) END AS previous,
    is_fresh AND _run_id = $run_id AS is_fresh,
    row_number() OVER (
        ORDER BY created_at,
            CASE WHEN ends_with(type, '.created') THEN 0 WHEN ends_with(type, '.deleted') THEN 2 ELSE 1 END,
            _run_id, position DESC, id
    ) AS number
FROM raw_stripe.events
WHERE _run_id > $converted
"""

#: Subscriptions as they were before and after each event, and as they are listed. Of one second the last state
#: counts. A subscription that something happened to while the lists were read is left to its events.
SUBSCRIPTION_STATES = """
CREATE OR REPLACE TEMP TABLE stripe_states AS
WITH told AS (SELECT * FROM stripe_events WHERE starts_with(type, 'customer.subscription.')),
states AS (
    (SELECT object_id AS record, created_at AS true_at, 'event' AS origin, object AS p, previous AS before
    FROM told QUALIFY row_number() OVER (PARTITION BY object_id, created_at ORDER BY number DESC) = 1)
    UNION ALL
    (SELECT object_id, created_at - INTERVAL 1 MICROSECOND, 'before', json_merge_patch(object, previous), NULL
    FROM told QUALIFY row_number() OVER (PARTITION BY object_id, created_at ORDER BY number) = 1 AND previous IS NOT NULL)
    UNION ALL
    SELECT id, NULL, 'list', CAST(payload AS JSON), NULL FROM raw_stripe.subscriptions_current
    WHERE _deleted_at IS NULL AND id NOT IN (SELECT object_id FROM told WHERE is_fresh)
)
SELECT row_number() OVER () AS state, * FROM states
"""

_LIST = "CREATE OR REPLACE TEMP TABLE {name} AS "

SUBSCRIPTIONS = (
    _LIST.format(name="stripe_rows_subscriptions")
    + """
WITH periods AS (
    SELECT *,
        list_transform(json_extract_string(p, '$.items.data[*].current_period_start'), lambda x: TRY_CAST(x AS BIGINT)) AS starts,
        list_transform(json_extract_string(p, '$.items.data[*].current_period_end'), lambda x: TRY_CAST(x AS BIGINT)) AS ends
    FROM stripe_states
)
SELECT
    record, true_at, origin,
    record AS subscription_id,
    coalesce(p->>'$.customer.id', p->>'$.customer') AS customer_id,
    p->>'$.status' AS status,
    p->>'$.status' AS status_raw,
    coalesce(p->>'$.currency', p->>'$.items.data[0].price.currency', p->>'$.items.data[0].plan.currency') AS currency,
    coalesce(p->>'$.start_date', p->>'$.created') AS started_at,
    p->>'$.trial_start' AS trial_start_at,
    p->>'$.trial_end' AS trial_end_at,
    coalesce(CAST(list_max(starts) AS VARCHAR), p->>'$.current_period_start') AS current_period_start_at,
    coalesce(CAST(list_max(ends) AS VARCHAR), p->>'$.current_period_end') AS current_period_end_at,
    coalesce(CAST(list_min(ends) AS VARCHAR), p->>'$.current_period_end') AS earliest_period_end_at,
    p->>'$.cancel_at' AS cancel_at,
    p->>'$.canceled_at' AS cancel_requested_at,
    p->>'$.cancel_at_period_end' AS cancel_at_period_end,
    p->>'$.ended_at' AS ended_at,
    coalesce(p->>'$.cancellation_details.feedback', p->>'$.cancellation_details.reason') AS cancel_reason,
    p->>'$.cancellation_details.comment' AS cancel_comment,
    CASE
        WHEN p->>'$.cancellation_details.reason' IN ('payment_failed', 'payment_disputed') THEN 'involuntary'
        WHEN p->>'$.cancellation_details.reason' IS NOT NULL THEN 'voluntary'
        WHEN p->>'$.canceled_at' IS NOT NULL THEN 'unknown'
    END AS cancel_kind,
    CASE
        WHEN p->>'$.status' = 'paused' THEN 'full'
        WHEN p->>'$.pause_collection.behavior' IS NOT NULL THEN 'collection'
        ELSE 'none'
    END AS pause_kind,
    p->>'$.pause_collection.resumes_at' AS pause_resumes_at,
    coalesce(p->>'$.schedule.id', p->>'$.schedule') AS schedule_id,
    p->>'$.collection_method' AS collection_method,
    coalesce(p->>'$.livemode', 'true') AS livemode,
    'false' AS is_deleted
FROM periods
"""
)

_TIERS = """
CREATE OR REPLACE TEMP TABLE stripe_tiers AS
WITH tiers AS (
    SELECT x.id AS price_id, t.n, TRY_CAST(t.tier->>'$.up_to' AS DECIMAL(18,6)) AS up_to,
        TRY_CAST(coalesce(t.tier->>'$.unit_amount_decimal', t.tier->>'$.unit_amount', '0') AS DECIMAL(26,12)) AS unit,
        TRY_CAST(coalesce(t.tier->>'$.flat_amount_decimal', t.tier->>'$.flat_amount', '0') AS DECIMAL(26,12)) AS flat
    FROM raw_stripe.prices_current AS x,
        unnest(CAST(CAST(x.payload AS JSON)->'$.tiers' AS JSON[])) WITH ORDINALITY AS t(tier, n)
)
SELECT *, coalesce(lag(up_to) OVER (PARTITION BY price_id ORDER BY n), 0) AS above FROM tiers
"""

#: Every discount that was ever seen whole, with what its coupon takes off. A one-off coupon is no recurring discount.
_DISCOUNTS = """
CREATE OR REPLACE TEMP TABLE stripe_discounts AS
WITH seen AS (
    SELECT unnest(p->'$.discounts[*]') AS d FROM stripe_states
    UNION ALL SELECT unnest(p->'$.items.data[*].discounts[*]') FROM stripe_states
    UNION ALL SELECT p->'$.discount' FROM stripe_states
    UNION ALL SELECT CAST(payload AS JSON)->'$.discount' FROM raw_stripe.customers_current
    UNION ALL SELECT CAST(object AS JSON) FROM raw_stripe.events WHERE starts_with(type, 'customer.discount.')
),
whole AS (
    SELECT
        d->>'$.id' AS id, TRY_CAST(d->>'$.start' AS BIGINT) AS start_at, TRY_CAST(d->>'$.end' AS BIGINT) AS end_at,
        coalesce(d->'$.source.coupon', d->'$.coupon') AS coupon
    FROM seen WHERE json_type(d) = 'OBJECT' AND d->>'$.id' IS NOT NULL
),
named AS (
    SELECT w.id, w.start_at, w.end_at,
        CASE WHEN json_type(w.coupon) = 'OBJECT' THEN w.coupon ELSE CAST(c.payload AS JSON) END AS coupon
    FROM whole AS w LEFT JOIN raw_stripe.coupons_current AS c ON c.id = w.coupon->>'$'
)
SELECT
    id, min(start_at) AS start_at, max(end_at) AS end_at,
    max(TRY_CAST(coupon->>'$.percent_off' AS DECIMAL(9,6))) AS percent_off,
    max(TRY_CAST(coupon->>'$.amount_off' AS DECIMAL(18,0))) AS amount_off,
    max(coupon->>'$.currency') AS currency
FROM named WHERE coupon->>'$.duration' IN ('forever', 'repeating') GROUP BY id
"""


def _ids(path: str) -> str:
    """SQL of the ids in a JSON list of ids or of whole records."""
    return (
        f"list_transform(CAST({path} AS JSON[]), "
        "lambda d: CASE WHEN json_type(d) = 'OBJECT' THEN d->>'$.id' ELSE d->>'$' END)"
    )


_ITEMS = f"""
CREATE OR REPLACE TEMP TABLE stripe_items AS
WITH every AS (
    SELECT state, record, true_at, origin, p, unnest(CAST(p->'$.items.data' AS JSON[])) AS item, false AS is_gone FROM stripe_states
    UNION ALL
    -- The items that a change took away are only in what was different before it.
    SELECT state, record, true_at, origin, p, unnest(CAST(before->'$.items.data' AS JSON[])), true FROM stripe_states
    WHERE origin = 'event' AND coalesce(p->>'$.items.has_more', 'false') = 'false'
),
kept AS (
    SELECT * FROM every AS e WHERE NOT is_gone OR NOT list_contains(
        coalesce(e.p->>'$.items.data[*].id', CAST([] AS VARCHAR[])), e.item->>'$.id'
    )
),
priced AS (
    SELECT
        k.*,
        k.item->>'$.id' AS item_id,
        coalesce(k.item->>'$.price.id', k.item->>'$.plan.id') AS price_id,
        coalesce(k.item->>'$.price.product.id', k.item->>'$.price.product', k.item->>'$.plan.product') AS product_id,
        TRY_CAST(k.item->>'$.quantity' AS DECIMAL(18,6)) AS quantity,
        CAST(
            TRY_CAST(
                coalesce(
                    k.item->>'$.price.unit_amount_decimal', k.item->>'$.price.unit_amount',
                    k.item->>'$.plan.amount_decimal', k.item->>'$.plan.amount'
                ) AS DECIMAL(26,12)
            ) * m.factor AS DECIMAL(26,12)
        ) AS unit,
        m.factor,
        coalesce(k.item->>'$.price.billing_scheme', k.item->>'$.plan.billing_scheme', 'per_unit') AS scheme,
        coalesce(k.item->>'$.price.tiers_mode', k.item->>'$.plan.tiers_mode') AS tiers_mode,
        coalesce(k.item->'$.price.transform_quantity', k.item->'$.plan.transform_usage') AS packages,
        coalesce(k.item->>'$.price.recurring.usage_type', k.item->>'$.plan.usage_type', 'licensed') AS usage_type,
        coalesce(k.item->>'$.price.recurring.interval', k.item->>'$.plan.interval') AS "interval",
        coalesce(k.item->>'$.price.recurring.interval_count', k.item->>'$.plan.interval_count') AS interval_count,
        coalesce(epoch(k.true_at), $read_at) AS moment
    FROM kept AS k
    JOIN (SELECT state, CASE lower(coalesce(p->>'$.currency', p->>'$.items.data[0].price.currency', ''))
        {" ".join(f"WHEN {literal(c)} THEN CAST({f} AS DECIMAL(5,2))" for c, f in MINOR_UNITS.items())}
        ELSE CAST(1 AS DECIMAL(5,2)) END AS factor FROM stripe_states) AS m USING (state)
),
tiered AS (
    SELECT
        x.state, x.item_id, x.is_gone,
        CAST(round(x.factor * coalesce(
            CASE WHEN x.tiers_mode = 'volume'
                THEN arg_min(t.flat + t.unit * x.quantity, t.n) FILTER (t.up_to IS NULL OR t.up_to >= x.quantity)
                ELSE sum(CASE WHEN x.quantity > t.above
                    THEN t.flat + t.unit * (least(x.quantity, coalesce(t.up_to, x.quantity)) - t.above) END)
            END, 0)) AS BIGINT) AS recurring
    FROM priced AS x JOIN stripe_tiers AS t USING (price_id)
    WHERE x.scheme = 'tiered' AND x.quantity IS NOT NULL
    GROUP BY x.state, x.item_id, x.is_gone, x.tiers_mode, x.quantity, x.factor
),
costed AS (
    SELECT
        x.*,
        CASE
            WHEN x.usage_type = 'metered' THEN NULL
            WHEN x.scheme = 'tiered' THEN t.recurring
            WHEN TRY_CAST(x.packages->>'$.divide_by' AS INTEGER) > 0 THEN CAST(round(x.unit * CASE
                WHEN x.packages->>'$.round' = 'down' THEN floor(x.quantity / CAST(x.packages->>'$.divide_by' AS INTEGER))
                ELSE ceil(x.quantity / CAST(x.packages->>'$.divide_by' AS INTEGER)) END) AS BIGINT)
        END AS recurring
    FROM priced AS x LEFT JOIN tiered AS t USING (state, item_id, is_gone)
)
SELECT *,
    CASE WHEN usage_type = 'metered' THEN NULL
        ELSE coalesce(CAST(recurring AS DECIMAL(28,6)), CAST(unit * quantity AS DECIMAL(28,6))) END AS gross
FROM costed
"""

#: Discounts of an item, then of its subscription, else of its customer; each takes its share of what is left. An
#: amount off a whole subscription is spread over its items by their amounts, to the last minor unit.
_DISCOUNTED = f"""
CREATE OR REPLACE TEMP TABLE stripe_reductions AS
WITH customer_discounts AS (
    SELECT id AS customer_id, CAST(payload AS JSON)->>'$.discount.id' AS discount_id FROM raw_stripe.customers_current
),
own AS (
    SELECT i.state, i.item_id, unnest({_ids("i.item->'$.discounts'")}) AS discount_id, 1 AS level
    FROM stripe_items AS i WHERE json_type(i.item->'$.discounts') = 'ARRAY' AND NOT i.is_gone
),
whole AS (
    SELECT s.state, unnest({_ids("s.p->'$.discounts'")}) AS discount_id
    FROM stripe_states AS s WHERE json_type(s.p->'$.discounts') = 'ARRAY'
    UNION
    SELECT s.state, s.p->>'$.discount.id' FROM stripe_states AS s WHERE s.p->>'$.discount.id' IS NOT NULL
),
inherited AS (
    SELECT state, discount_id FROM whole
    UNION ALL
    SELECT s.state, c.discount_id
    FROM stripe_states AS s JOIN customer_discounts AS c ON c.customer_id = s.p->>'$.customer'
    WHERE c.discount_id IS NOT NULL AND s.state NOT IN (SELECT state FROM whole)
),
applied AS (
    SELECT state, item_id, discount_id, level FROM own
    UNION ALL
    SELECT i.state, i.item_id, h.discount_id, 2 FROM stripe_items AS i JOIN inherited AS h USING (state) WHERE NOT i.is_gone
),
totals AS (
    SELECT *, sum(gross) OVER (PARTITION BY state) AS total,
        sum(gross) OVER (PARTITION BY state ORDER BY item_id ROWS UNBOUNDED PRECEDING) AS through
    FROM stripe_items WHERE NOT is_gone AND gross IS NOT NULL
)
SELECT
    t.state, t.item_id,
    -- Rounded back to a decimal: 90 % of 1005 are 904.5, which binary fractions miss.
    CAST(round(product(1 - coalesce(d.percent_off, 0) / 100), 9) AS DECIMAL(10,9)) AS left_over,
    coalesce(sum(CASE
        WHEN d.amount_off IS NULL THEN 0
        WHEN a.level = 1 THEN d.amount_off * t.factor
        WHEN t.total > 0 THEN round(d.amount_off * t.factor * t.through / t.total)
            - round(d.amount_off * t.factor * (t.through - t.gross) / t.total)
        ELSE 0 END), 0) AS amount_off,
    min(d.end_at) AS end_at,
    any_value(t.gross) AS gross
FROM totals AS t
JOIN applied AS a USING (state, item_id)
JOIN stripe_discounts AS d ON d.id = a.discount_id
WHERE coalesce(d.start_at, 0) <= t.moment AND coalesce(d.end_at > t.moment, true)
GROUP BY t.state, t.item_id
"""

ITEMS = (
    _LIST.format(name="stripe_rows_subscription_items")
    + f"""
SELECT
    i.record, i.true_at, i.origin,
    i.item_id AS subscription_item_id,
    i.record AS subscription_id,
    i.product_id,
    CAST(d.payload AS JSON)->>'$.name' AS product_name,
    i.price_id,
    CASE
        WHEN i.usage_type = 'metered' THEN 'metered'
        WHEN i.item->>'$.price.metadata.seat_role' IN {_ROLES} THEN i.item->>'$.price.metadata.seat_role'
        WHEN CAST(d.payload AS JSON)->>'$.metadata.seat_role' IN {_ROLES} THEN CAST(d.payload AS JSON)->>'$.metadata.seat_role'
    END AS seat_role,
    CASE WHEN i.usage_type <> 'metered' THEN i.item->>'$.quantity' END AS quantity,
    CASE WHEN i.scheme = 'per_unit' THEN regexp_replace(CAST(i.unit AS VARCHAR), '\\.?0+$', '') END AS unit_amount_minor,
    CAST(i.recurring AS VARCHAR) AS recurring_minor,
    CAST(CAST(least(round(r.gross), round(r.gross * (1 - r.left_over)) + r.amount_off) AS BIGINT) AS VARCHAR) AS discount_minor,
    CAST(r.end_at AS VARCHAR) AS discount_end_at,
    CASE
        WHEN i.scheme = 'tiered' AND i.tiers_mode = 'volume' THEN 'volume'
        WHEN i.scheme = 'tiered' THEN 'tiered'
        WHEN TRY_CAST(i.packages->>'$.divide_by' AS INTEGER) > 0 THEN 'package'
        ELSE 'per_unit'
    END AS billing_scheme,
    i.usage_type,
    i."interval",
    i.interval_count,
    coalesce(i.item->>'$.current_period_start', i.p->>'$.current_period_start') AS current_period_start_at,
    coalesce(i.item->>'$.current_period_end', i.p->>'$.current_period_end') AS current_period_end_at,
    i.item->>'$.created' AS created_at,
    CASE WHEN i.is_gone THEN CAST(CAST(epoch(i.true_at) AS BIGINT) AS VARCHAR) END AS deleted_at,
    coalesce(i.p->>'$.livemode', 'true') AS livemode,
    CAST(i.is_gone AS VARCHAR) AS is_deleted
FROM stripe_items AS i
LEFT JOIN raw_stripe.products_current AS d ON d.id = i.product_id
LEFT JOIN stripe_reductions AS r ON r.state = i.state AND r.item_id = i.item_id AND NOT i.is_gone
"""
)

CUSTOMERS = (
    _LIST.format(name="stripe_rows_customers")
    + """
WITH states AS (
    SELECT id AS record, CAST(NULL AS TIMESTAMP) AS true_at, 'list' AS origin, CAST(payload AS JSON) AS p
    FROM raw_stripe.customers_current WHERE _deleted_at IS NULL
    UNION ALL
    (SELECT object_id, created_at, 'event', object FROM stripe_events WHERE type = 'customer.deleted'
    QUALIFY row_number() OVER (PARTITION BY object_id, created_at ORDER BY number DESC) = 1)
)
SELECT
    record, true_at, origin,
    record AS customer_id,
    p->>'$.name' AS name,
    p->>'$.email' AS email,
    json_extract_string(p, '$.metadata."' || $organisation_key || '"') AS organisation_ref,
    json_extract_string(p, '$.metadata."' || $parent_key || '"') AS parent_customer_ref,
    p->>'$.currency' AS currency,
    p->>'$.address.country' AS country,
    CASE WHEN json_type(p->'$.metadata') = 'OBJECT' AND p->>'$.metadata' <> '{}' THEN p->>'$.metadata' END AS metadata,
    p->>'$.created' AS created_at,
    CASE WHEN origin = 'event' THEN CAST(CAST(epoch(true_at) AS BIGINT) AS VARCHAR) END AS deleted_at,
    coalesce(p->>'$.livemode', 'true') AS livemode,
    CAST(origin = 'event' AS VARCHAR) AS is_deleted
FROM states
"""
)

#: One row for each price of each phase; a schedule that is not yet bound to a subscription changes none.
SCHEDULES = (
    _LIST.format(name="stripe_rows_subscription_schedules")
    + """
WITH told AS (SELECT * FROM stripe_events WHERE starts_with(type, 'subscription_schedule.')),
states AS (
    (SELECT object_id AS record, created_at AS true_at, 'event' AS origin, object AS p FROM told
    QUALIFY row_number() OVER (PARTITION BY object_id, created_at ORDER BY number DESC) = 1)
    UNION ALL
    SELECT id, NULL, 'list', CAST(payload AS JSON) FROM raw_stripe.subscription_schedules_current
    WHERE _deleted_at IS NULL AND id NOT IN (SELECT object_id FROM told WHERE is_fresh)
),
phases AS (
    SELECT s.*, t.phase, t.n FROM states AS s,
        unnest(CAST(s.p->'$.phases' AS JSON[])) WITH ORDINALITY AS t(phase, n)
),
items AS (
    SELECT *, unnest(CAST(phase->'$.items' AS JSON[])) AS item FROM phases
)
SELECT
    record, true_at, origin,
    record AS schedule_id,
    CAST(n AS VARCHAR) AS phase_no,
    coalesce(item->>'$.price.id', item->>'$.price', item->>'$.plan') AS price_id,
    any_value(coalesce(p->>'$.subscription.id', p->>'$.subscription', p->>'$.released_subscription')) AS subscription_id,
    any_value(p->>'$.status') AS status,
    any_value(phase->>'$.start_date') AS phase_start_at,
    any_value(phase->>'$.end_date') AS phase_end_at,
    any_value(CASE p->>'$.end_behavior' WHEN 'cancel' THEN 'cancel' WHEN 'renew' THEN 'renew' ELSE 'release' END) AS end_behavior,
    any_value(CAST(c.payload AS JSON)->>'$.product') AS product_id,
    CAST(sum(TRY_CAST(item->>'$.quantity' AS DECIMAL(18,6))) AS VARCHAR) AS quantity,
    any_value(coalesce(CAST(c.payload AS JSON)->>'$.unit_amount_decimal', CAST(c.payload AS JSON)->>'$.unit_amount')) AS unit_amount_minor,
    any_value(CAST(c.payload AS JSON)->>'$.recurring.interval') AS "interval",
    any_value(CAST(c.payload AS JSON)->>'$.recurring.interval_count') AS interval_count,
    any_value(p->>'$.created') AS created_at,
    coalesce(any_value(p->>'$.livemode'), 'true') AS livemode,
    'false' AS is_deleted
FROM items LEFT JOIN raw_stripe.prices_current AS c ON c.id = coalesce(item->>'$.price.id', item->>'$.price', item->>'$.plan')
WHERE coalesce(p->>'$.subscription.id', p->>'$.subscription', p->>'$.released_subscription') IS NOT NULL
GROUP BY ALL
"""
)

#: Everything in the order in which it must be made.
STATEMENTS = (
    NEW_EVENTS,
    SUBSCRIPTION_STATES,
    _TIERS,
    _DISCOUNTS,
    _ITEMS,
    _DISCOUNTED,
    CUSTOMERS,
    SUBSCRIPTIONS,
    ITEMS,
    SCHEDULES,
)

SCRATCH = (
    "stripe_events", "stripe_states", "stripe_tiers", "stripe_discounts", "stripe_items", "stripe_reductions",
)  # fmt: skip
