/*---
description: >
  Subscriptions as billing tells them, one row for each instant at which a subscription or one of its items changed, and
  one more for each later correction of such an instant. A row joins the version of the subscription and of each of its
  items that were in force at effective_at as known at recorded_at. The first version is dated by started_at. Within a
  version, what carries a later time of its own is not yet true: the end holds from ended_at on, a trial until
  trial_end_at, a cancellation from cancel_requested_at on, a term from its start on. Seats are the quantities of live
  items whose role is one of billing.seat_roles; without any item ever told they are unknown (NULL), with only items of
  other roles they are 0. The amount is recurring_minor, else unit price times quantity for per-unit prices, less the
  discount, without metered items; one live item without a price makes it unknown. Items that agree on an interval the
  models know keep it; others are converted to a year (52 weeks, 365 days). A cancellation at the end of the period
  ends with the item whose period ends first. Test data (livemode false) is left out.
  An organisation without a subscription in billing has hubspot:<id>, made of the properties of its HubSpot record that
  the settings map, with their history. Where billing covers an organisation, billing wins.
grain: [subscription_id, effective_at, recorded_at]
checks:
  - name: billing_interval_known
    description: Items are converted to an interval the models know, or there is none.
    sql: >
      SELECT subscription_id, effective_at, recorded_at, billing_interval
      FROM inputs.subscription_versions
      WHERE billing_interval NOT IN ('month', 'quarter', 'year', 'two_years', 'week')
  - name: told_by_billing
    description: Currency, source and the instant at which a row became known are always told.
    sql: >
      SELECT subscription_id, effective_at, recorded_at
      FROM inputs.subscription_versions
      WHERE currency IS NULL OR source IS NULL OR recorded_at IS NULL
  - name: hubspot_agrees_with_billing
    severity: warn
    description: >
      Where billing covers an organisation, the seats and the MRR that its HubSpot record shows at the close of the day
      are those of billing (MRR within a cent for each subscription, where all are in one currency). Billing is believed.
    sql: >
      WITH known AS (
        SELECT subscription_id, org_id, seats, amount, billing_interval, currency, status, cancel_at, ended_at,
          effective_at, recorded_at, true AS is_hubspot
        FROM raw_hubspot.organisations_timeline
        UNION ALL
        SELECT subscription_id, org_id, seats, amount, billing_interval, currency, status, cancel_at, ended_at,
          effective_at, recorded_at, false
        FROM inputs.subscription_versions WHERE source <> 'hubspot'
      ),
      in_force AS (
        SELECT *
        FROM known
        WHERE effective_at < CAST($close_as_of AS TIMESTAMP) AND recorded_at < CAST($close_as_of AS TIMESTAMP)
        QUALIFY row_number() OVER (
          PARTITION BY is_hubspot, subscription_id ORDER BY effective_at DESC, recorded_at DESC
        ) = 1
      ),
      running AS (
        SELECT *,
          CAST(amount * CASE billing_interval WHEN 'month' THEN 12 WHEN 'quarter' THEN 4 WHEN 'year' THEN 1
            WHEN 'week' THEN 52 WHEN 'two_years' THEN 0.5 END / 12 AS DECIMAL(18,2)) AS mrr
        FROM in_force
        WHERE status IN ('active', 'past_due')
          AND coalesce(least(cancel_at, ended_at) > CAST($close_as_of AS TIMESTAMP), true)
      ),
      sums AS (
        SELECT org_id, is_hubspot, count(*) AS subscriptions, sum(mrr) AS mrr, min(currency) AS currency,
          min(currency) = max(currency) AS is_one_currency, bool_or(mrr IS NULL) AS is_mrr_unknown,
          CASE WHEN bool_and(seats IS NOT NULL) THEN sum(seats) END AS seats
        FROM running GROUP BY org_id, is_hubspot
      ),
      organisations AS (
        SELECT org_id FROM in_force WHERE is_hubspot
        INTERSECT SELECT org_id FROM in_force WHERE NOT is_hubspot
      )
      SELECT o.org_id, h.seats AS hubspot_seats, b.seats AS billing_seats, h.mrr AS hubspot_mrr, b.mrr AS billing_mrr
      FROM organisations AS o
      LEFT JOIN sums AS h ON h.org_id = o.org_id AND h.is_hubspot
      LEFT JOIN sums AS b ON b.org_id = o.org_id AND NOT b.is_hubspot
      WHERE (h.org_id IS NULL) <> (b.org_id IS NULL)
        OR h.seats <> b.seats
        OR (h.is_one_currency AND b.is_one_currency AND h.currency = b.currency AND NOT h.is_mrr_unknown
          AND NOT b.is_mrr_unknown AND abs(h.mrr - b.mrr) > 0.01 * b.subscriptions)
---*/
WITH subscriptions AS (
  SELECT
    *,
    coalesce(
      ended_at,
      _deleted_at,
      CASE
        WHEN status = 'canceled' AND cancel_at <= _told_at THEN cancel_at
        WHEN status = 'canceled' THEN _told_at
      END
    ) AS end_at
  FROM raw_billing.subscriptions_versions
  WHERE livemode
),

-- An end told after it happened holds from the end on, so that version is also one of that earlier instant.
subscription_facts AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY source, subscription_id
      ORDER BY effective_at, recorded_at, _told_at, _precedence, _line
    ) AS ordinal
  FROM (
    SELECT *, _changed_at AS effective_at, _recorded_at AS recorded_at FROM subscriptions
    UNION ALL
    SELECT *, end_at, greatest(end_at, _recorded_at) FROM subscriptions WHERE end_at < _changed_at
  ) AS told_and_ended
),

item_facts AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY source, subscription_item_id
      ORDER BY effective_at, recorded_at, _told_at, _precedence, _line
    ) AS ordinal
  FROM (
    SELECT *, _changed_at AS effective_at, _recorded_at AS recorded_at
    FROM raw_billing.subscription_items_versions
    WHERE livemode
    UNION ALL
    SELECT *, _deleted_at, greatest(_deleted_at, _recorded_at)
    FROM raw_billing.subscription_items_versions
    WHERE livemode AND _deleted_at < _changed_at
  ) AS told_and_removed
),

-- An item may move from one subscription to another: both look at all its versions.
subscription_item_pairs AS (
  SELECT DISTINCT source, subscription_id, subscription_item_id FROM item_facts
),

told AS (
  SELECT source, subscription_id, effective_at, recorded_at FROM subscription_facts
  UNION
  SELECT p.source, p.subscription_id, f.effective_at, f.recorded_at
  FROM subscription_item_pairs AS p
  JOIN item_facts AS f ON f.source = p.source AND f.subscription_item_id = p.subscription_item_id
),

later_instants AS (
  SELECT source, subscription_id, effective_at, recorded_at, end_at AS instant FROM subscription_facts
  UNION ALL
  SELECT source, subscription_id, effective_at, recorded_at, cancel_requested_at FROM subscription_facts
  UNION ALL
  SELECT source, subscription_id, effective_at, recorded_at, current_period_start_at FROM subscription_facts
  UNION ALL
  SELECT source, subscription_id, effective_at, recorded_at, trial_end_at FROM subscription_facts WHERE status <> 'trialing'
  UNION ALL
  SELECT p.source, p.subscription_id, f.effective_at, f.recorded_at, f._deleted_at
  FROM subscription_item_pairs AS p
  JOIN item_facts AS f ON f.source = p.source AND f.subscription_item_id = p.subscription_item_id
),

-- Every instant at which something changed, when the first word of it was known, and when the last word of what had
-- changed by then was.
instants AS (
  SELECT
    source, subscription_id, effective_at, recorded_at,
    max(told_at) OVER (PARTITION BY source, subscription_id ORDER BY effective_at) AS last_told_at
  FROM (
    SELECT source, subscription_id, effective_at, min(recorded_at) AS recorded_at, max(told_at) AS told_at
    FROM (
      SELECT source, subscription_id, effective_at, recorded_at, recorded_at AS told_at FROM told
      UNION ALL
      SELECT source, subscription_id, instant, greatest(instant, recorded_at), CAST(NULL AS TIMESTAMP)
      FROM later_instants
      WHERE instant > effective_at
    ) AS every
    GROUP BY source, subscription_id, effective_at
  ) AS one_each
),

-- What becomes known later about an earlier instant rewrites every instant from there on. Where nothing was, the
-- versions in force are found by one pass over the instants; the others are compared with all that was told.
points AS (
  SELECT source, subscription_id, effective_at, recorded_at, last_told_at <= recorded_at AS is_last_word FROM instants
  UNION
  SELECT i.source, i.subscription_id, i.effective_at, t.recorded_at, t.recorded_at = i.last_told_at
  FROM instants AS i
  JOIN told AS t
    ON t.source = i.source AND t.subscription_id = i.subscription_id
    AND t.effective_at <= i.effective_at AND t.recorded_at > i.recorded_at
  WHERE i.last_told_at > i.recorded_at
),

subscription_ordinals AS (
  SELECT source, subscription_id, effective_at, recorded_at, ordinal
  FROM (
    SELECT
      source, subscription_id, effective_at, recorded_at, is_point,
      max(ordinal) OVER (PARTITION BY source, subscription_id ORDER BY effective_at) AS ordinal
    FROM (
      SELECT source, subscription_id, effective_at, recorded_at, ordinal, false AS is_point FROM subscription_facts
      UNION ALL
      SELECT source, subscription_id, effective_at, recorded_at, 0, true FROM points WHERE is_last_word
    ) AS facts_and_points
  ) AS walked
  WHERE is_point
  UNION ALL
  SELECT p.source, p.subscription_id, p.effective_at, p.recorded_at, max(f.ordinal)
  FROM points AS p
  JOIN subscription_facts AS f
    ON f.source = p.source AND f.subscription_id = p.subscription_id
    AND f.effective_at <= p.effective_at AND f.recorded_at <= p.recorded_at
  WHERE NOT p.is_last_word
  GROUP BY p.source, p.subscription_id, p.effective_at, p.recorded_at
),

subscription_in_force AS (
  SELECT
    o.effective_at AS in_force_at, o.recorded_at AS known, f.source, f.subscription_id, f.customer_id, f.status, f.currency, f.plan,
    f.started_at, f.trial_start_at, f.trial_end_at, f.current_period_start_at, f.current_period_end_at,
    f.earliest_period_end_at, f.cancel_at, f.cancel_requested_at, f.cancel_at_period_end, f.cancel_reason,
    f.cancel_comment, f.pause_kind, f.end_at, f._told_at
  FROM subscription_ordinals AS o
  JOIN subscription_facts AS f
    ON f.source = o.source AND f.subscription_id = o.subscription_id AND f.ordinal = o.ordinal
),

item_ordinals AS (
  SELECT source, subscription_id, subscription_item_id, effective_at, recorded_at, ordinal
  FROM (
    SELECT
      source, subscription_id, subscription_item_id, effective_at, recorded_at,
      max(ordinal) OVER (PARTITION BY source, subscription_item_id ORDER BY effective_at) AS ordinal
    FROM (
      SELECT
        source, CAST(NULL AS VARCHAR) AS subscription_id, subscription_item_id, effective_at, recorded_at, ordinal
      FROM item_facts
      UNION ALL
      SELECT p.source, p.subscription_id, s.subscription_item_id, p.effective_at, p.recorded_at, 0
      FROM points AS p
      JOIN subscription_item_pairs AS s ON s.source = p.source AND s.subscription_id = p.subscription_id
      WHERE p.is_last_word
    ) AS facts_and_points
  ) AS walked
  WHERE subscription_id IS NOT NULL AND ordinal > 0
  UNION ALL
  SELECT p.source, p.subscription_id, s.subscription_item_id, p.effective_at, p.recorded_at, max(f.ordinal)
  FROM points AS p
  JOIN subscription_item_pairs AS s ON s.source = p.source AND s.subscription_id = p.subscription_id
  JOIN item_facts AS f
    ON f.source = s.source AND f.subscription_item_id = s.subscription_item_id
    AND f.effective_at <= p.effective_at AND f.recorded_at <= p.recorded_at
  WHERE NOT p.is_last_word
  GROUP BY p.source, p.subscription_id, s.subscription_item_id, p.effective_at, p.recorded_at
),

item_in_force AS (
  SELECT
    o.source, o.subscription_id, o.effective_at AS in_force_at, o.recorded_at AS known, f.subscription_id AS item_of,
    f.product_name, f.seat_role, f.quantity, f.unit_amount_minor, f.recurring_minor, f.discount_minor,
    f.billing_scheme, f.usage_type, f."interval", f.interval_count, f.current_period_end_at,
    f._deleted_at IS NULL OR f._deleted_at > o.effective_at AS is_live
  FROM item_ordinals AS o
  JOIN item_facts AS f
    ON f.source = o.source AND f.subscription_item_id = o.subscription_item_id AND f.ordinal = o.ordinal
),

item_amounts AS (
  SELECT
    *,
    is_live AND item_of = subscription_id AS counts,
    usage_type = 'metered' OR seat_role = 'metered' AS is_metered,
    CASE
      WHEN "interval" = 'month' AND interval_count = 1 THEN 'month'
      WHEN "interval" = 'month' AND interval_count = 3 THEN 'quarter'
      WHEN "interval" = 'month' AND interval_count = 12 OR "interval" = 'year' AND interval_count = 1 THEN 'year'
      WHEN "interval" = 'month' AND interval_count = 24 OR "interval" = 'year' AND interval_count = 2 THEN 'two_years'
      WHEN "interval" = 'week' AND interval_count = 1 OR "interval" = 'day' AND interval_count = 7 THEN 'week'
      ELSE 'other'
    END AS known_interval,
    CASE "interval" WHEN 'month' THEN 12 WHEN 'year' THEN 1 WHEN 'week' THEN 52 ELSE 365 END AS intervals_in_a_year,
    CAST(
      CASE
        WHEN recurring_minor IS NOT NULL THEN CAST(recurring_minor AS DECIMAL(28,4))
        WHEN billing_scheme = 'per_unit'
          THEN CAST(CAST(unit_amount_minor AS DECIMAL(20,8)) * CAST(quantity AS DECIMAL(15,6)) AS DECIMAL(28,4))
      END - coalesce(CAST(discount_minor AS DECIMAL(28,4)), 0)
      AS DECIMAL(28,4)
    ) AS net_minor
  FROM item_in_force
),

items AS (
  SELECT
    source, subscription_id, in_force_at, known,
    CAST(coalesce(sum(quantity) FILTER (WHERE counts AND list_contains($billing_seat_roles, seat_role)), 0) AS BIGINT) AS seats,
    min(product_name) FILTER (WHERE counts AND list_contains($billing_seat_roles, seat_role)) AS seat_product,
    min(product_name) FILTER (WHERE counts) AS any_product,
    min(current_period_end_at) FILTER (WHERE counts) AS first_period_end_at,
    CASE
      WHEN min(known_interval) FILTER (WHERE counts) = max(known_interval) FILTER (WHERE counts)
        AND min(known_interval) FILTER (WHERE counts) <> 'other' THEN min(known_interval) FILTER (WHERE counts)
      WHEN count(*) FILTER (WHERE counts) > 0 THEN 'year'
    END AS billing_interval,
    count(*) FILTER (WHERE counts AND NOT is_metered AND net_minor IS NULL) > 0 AS is_amount_unknown,
    coalesce(sum(net_minor) FILTER (WHERE counts AND NOT is_metered), 0) AS own_minor,
    coalesce(
      sum(
        CAST(CAST(net_minor * 10000 AS HUGEINT) * intervals_in_a_year // interval_count AS DECIMAL(38,0))
      ) FILTER (WHERE counts AND NOT is_metered),
      0
    ) AS year_minor_10000,
    coalesce(
      min(known_interval) FILTER (WHERE counts) = max(known_interval) FILTER (WHERE counts)
      AND min(known_interval) FILTER (WHERE counts) <> 'other',
      true
    ) AS is_one_interval
  FROM item_amounts
  GROUP BY source, subscription_id, in_force_at, known
),

states AS (
  SELECT
    s.subscription_id,
    coalesce(o.org_id, s.customer_id) AS org_id,
    coalesce(s.plan, i.seat_product, i.any_product) AS plan,
    i.billing_interval,
    i.seats,
    CASE
      WHEN i.is_amount_unknown THEN NULL
      WHEN i.is_one_interval THEN CAST(CAST(i.own_minor AS DECIMAL(28,4)) * m.unit AS DECIMAL(18,4))
      ELSE CAST(CAST(CAST(i.year_minor_10000 AS DECIMAL(33,0)) * CAST(0.0001 AS DECIMAL(5,4)) AS DECIMAL(28,4)) * m.unit AS DECIMAL(18,4))
    END AS amount,
    s.currency,
    CASE
      WHEN s.status IN ('incomplete', 'incomplete_expired', 'future') THEN 'incomplete'
      WHEN s.end_at <= s.in_force_at THEN 'canceled'
      WHEN s.trial_end_at > s.in_force_at AND coalesce(s.trial_start_at, s.started_at) <= s.in_force_at THEN 'trialing'
      WHEN s.pause_kind = 'full' THEN 'paused'
      WHEN s.status IN ('canceled', 'non_renewing') THEN 'active'
      ELSE s.status
    END AS status,
    s.in_force_at AS effective_at,
    s.known AS recorded_at,
    CASE
      WHEN coalesce(s.cancel_requested_at, s._told_at) > s.in_force_at THEN NULL
      WHEN s.cancel_at IS NOT NULL THEN s.cancel_at
      WHEN s.cancel_at_period_end OR s.status = 'non_renewing'
        THEN coalesce(s.earliest_period_end_at, least(i.first_period_end_at, s.current_period_end_at))
    END AS cancel_at,
    CASE WHEN s.cancel_requested_at <= s.in_force_at THEN s.cancel_requested_at END AS cancel_requested_at,
    CASE WHEN coalesce(s.cancel_requested_at, s._told_at) <= s.in_force_at OR s.end_at <= s.in_force_at THEN s.cancel_reason END AS cancel_reason,
    CASE WHEN coalesce(s.cancel_requested_at, s._told_at) <= s.in_force_at OR s.end_at <= s.in_force_at THEN s.cancel_comment END AS cancel_comment,
    CASE WHEN s.current_period_start_at <= s.in_force_at THEN s.current_period_start_at END AS term_start,
    CASE
      WHEN s.current_period_start_at > s.in_force_at THEN NULL
      ELSE coalesce(s.current_period_end_at, i.first_period_end_at)
    END AS term_end,
    CASE WHEN s.end_at <= s.in_force_at THEN s.end_at END AS ended_at,
    s.source
  FROM subscription_in_force AS s
  LEFT JOIN items AS i
    ON i.source = s.source AND i.subscription_id = s.subscription_id AND i.in_force_at = s.in_force_at AND i.known = s.known
  LEFT JOIN raw_billing.customer_organisations AS o ON o.source = s.source AND o.customer_id = s.customer_id
  LEFT JOIN (
    SELECT
      currency,
      CAST(CASE exponent WHEN 0 THEN 1 WHEN 2 THEN 0.01 WHEN 3 THEN 0.001 ELSE 0.0001 END AS DECIMAL(5,4)) AS unit
    FROM raw_billing.currencies
  ) AS m ON m.currency = s.currency
),

described AS (
  SELECT
    *,
    concat_ws(
      '|',
      coalesce(CAST(org_id AS VARCHAR), '~'),
      coalesce(CAST(plan AS VARCHAR), '~'),
      coalesce(CAST(billing_interval AS VARCHAR), '~'),
      coalesce(CAST(seats AS VARCHAR), '~'),
      coalesce(CAST(amount AS VARCHAR), '~'),
      coalesce(CAST(currency AS VARCHAR), '~'),
      coalesce(CAST(status AS VARCHAR), '~'),
      coalesce(CAST(cancel_at AS VARCHAR), '~'),
      coalesce(CAST(cancel_requested_at AS VARCHAR), '~'),
      coalesce(CAST(cancel_reason AS VARCHAR), '~'),
      coalesce(CAST(cancel_comment AS VARCHAR), '~'),
      coalesce(CAST(term_start AS VARCHAR), '~'),
      coalesce(CAST(term_end AS VARCHAR), '~'),
      coalesce(CAST(ended_at AS VARCHAR), '~')
    ) AS content,
    count(*) OVER (PARTITION BY source, subscription_id, effective_at) AS versions_of_the_instant
  FROM states
),

compared AS (
  SELECT
    *,
    lag(content) OVER (PARTITION BY source, subscription_id ORDER BY effective_at, recorded_at) AS content_before,
    lag(effective_at) OVER (PARTITION BY source, subscription_id ORDER BY effective_at, recorded_at) AS instant_before
  FROM described
)

-- A row that says what already held is left out; not where an instant was corrected, because there the first row
-- must stand between the earlier instants' corrections and its own.
SELECT
  subscription_id,
  org_id,
  plan,
  billing_interval,
  seats,
  amount,
  currency,
  status,
  effective_at,
  cancel_at,
  cancel_requested_at,
  cancel_reason,
  cancel_comment,
  term_start,
  term_end,
  ended_at,
  source,
  recorded_at
FROM compared
WHERE content_before IS NULL
  OR content <> content_before
  OR (versions_of_the_instant > 1 AND instant_before < effective_at)
UNION ALL
SELECT
  h.subscription_id,
  h.org_id,
  h.plan,
  h.billing_interval,
  h.seats,
  h.amount,
  h.currency,
  h.status,
  h.effective_at,
  h.cancel_at,
  h.cancel_requested_at,
  h.cancel_reason,
  h.cancel_comment,
  h.term_start,
  h.term_end,
  h.ended_at,
  h.source,
  h.recorded_at
FROM raw_hubspot.organisations_subscriptions AS h
