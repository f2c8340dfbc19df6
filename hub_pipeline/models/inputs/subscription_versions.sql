/*---
description: >
  Subscriptions as billing tells them, one row for each instant at which a subscription, one of its items or its plan
  for the future changes, and one more for each later correction of such an instant (docs/billing_ledger.md). A row joins
  the version of the subscription and of each of its items that were in force at effective_at as known at recorded_at;
  of two versions of one instant the one told later holds, then a deletion, then that of the later extract. The first
  version is dated by started_at. Within a version, what carries a later time of its own is not yet true: the end holds
  from ended_at on, a trial until trial_end_at, a cancellation from cancel_requested_at on, a term from its start on, a
  discount until discount_end_at. What was agreed beforehand (a phase of a schedule, the end of a discount) has its row
  from when it was told. A phase holds from its start until an item of the subscription is told anew; a schedule that
  cancels ends the subscription with its last phase. A subscription of a deleted customer has ended with it. Seats are
  the seats, else the quantities, of live items whose role is one of billing.seat_roles; an item without a role has that
  of its price or product in seat_products; without any item ever told seats are unknown (NULL), with only items of other
  roles they are 0. The amount is recurring_minor, else unit price times quantity for per-unit prices, less the discount,
  without metered items; one live item without a price makes it unknown. Items that agree on an interval the models know
  keep it; others are converted to a year (52 weeks, 365 days). A cancellation at the end of the period ends with the item
  whose period ends first. An organisation of daily_seats has one subscription seats:<its id>, true at the end of each
  counted day; a full file of that day that leaves it out says 0. Of several counts of a day the one told last by its own
  time holds, whatever the order in which files came; one that is withdrawn says what the count before it says. An involuntary end has the reason payment_failed. Test data
  (livemode false) is left out. Of two billing systems with one subscription id the later one has <source>:<id>.
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
-- The counts of a team that only counts: one subscription and one item for each organisation, true at the end of a day.
WITH counts AS (
  SELECT
    source, organisation_ref, snapshot_date, seats, status, plan, currency, mrr_minor, renewal_date, cancel_at,
    close_of(snapshot_date, $reporting_tz) - INTERVAL 1 MICROSECOND AS counted_at,
    greatest(close_of(snapshot_date, $reporting_tz) - INTERVAL 1 MICROSECOND, updated_at, _floor) AS recorded_at,
    _deleted_at IS NOT NULL AS is_withdrawn, _changed_at, _recorded_at, _precedence, _line
  FROM raw_billing.daily_seats
),

counted AS (
  SELECT
    source, organisation_ref, snapshot_date, min(recorded_at) AS recorded_at, bool_or(is_withdrawn) AS is_ever_withdrawn
  FROM counts
  GROUP BY source, organisation_ref, snapshot_date
),

days AS (
  SELECT source, snapshot_date, min(counted_at) AS counted_at, min(recorded_at) AS recorded_at
  FROM counts
  GROUP BY source, snapshot_date
),

-- A full file lists all organisations of a day: one that it leaves out has no seats from then on.
full_days AS (
  SELECT d.source, d.snapshot_date, d.counted_at, greatest(d.recorded_at, f.known_from) AS recorded_at
  FROM days AS d
  JOIN raw_billing.daily_seats_listed AS f ON f.source = d.source AND f.snapshot_date = d.snapshot_date
),

-- Each full day with the last one before it that was known no later.
full_spans AS (
  SELECT d.source, d.snapshot_date, d.counted_at, d.recorded_at, max(e.snapshot_date) AS previous_date
  FROM full_days AS d
  LEFT JOIN full_days AS e
    ON e.source = d.source AND e.snapshot_date < d.snapshot_date AND e.recorded_at <= d.recorded_at
  GROUP BY d.source, d.snapshot_date, d.counted_at, d.recorded_at
),

left_out AS (
  SELECT l.source, l.organisation_ref, l.snapshot_date, l.counted_at, l.recorded_at
  FROM (
    SELECT
      c.source, c.organisation_ref, f.snapshot_date, f.counted_at, min(greatest(f.recorded_at, c.recorded_at)) AS recorded_at
    FROM counted AS c
    JOIN (
      SELECT n.source, n.snapshot_date AS after_date, s.snapshot_date, s.counted_at, s.recorded_at
      FROM days AS n
      JOIN full_spans AS s
        ON s.source = n.source AND s.snapshot_date > n.snapshot_date
        AND (s.previous_date IS NULL OR s.previous_date <= n.snapshot_date)
    ) AS f ON f.source = c.source AND f.after_date = c.snapshot_date
    GROUP BY c.source, c.organisation_ref, f.snapshot_date, f.counted_at
  ) AS l
  LEFT JOIN counted AS c
    ON c.source = l.source AND c.organisation_ref = l.organisation_ref AND c.snapshot_date = l.snapshot_date
  WHERE c.recorded_at IS NULL OR c.recorded_at > l.recorded_at OR c.is_ever_withdrawn
),

seat_words AS (
  SELECT
    source, organisation_ref, snapshot_date, seats, status, plan, currency, mrr_minor, renewal_date, cancel_at, counted_at,
    recorded_at, is_withdrawn, _changed_at, _recorded_at, _precedence, _line, false AS is_left_out
  FROM counts
  UNION ALL
  SELECT
    source, organisation_ref, snapshot_date, 0, 'active', NULL, NULL, 0, NULL, NULL, counted_at,
    recorded_at, false, NULL, NULL, '', 0, true
  FROM left_out
),

-- What was known of a day at each instant at which something new was known of it: the newest count, whatever the order
-- in which the files came.
seat_states AS (
  SELECT
    source, organisation_ref, snapshot_date, counted_at, known_at AS recorded_at,
    lead(known_at) OVER (PARTITION BY source, organisation_ref, snapshot_date ORDER BY known_at) AS known_to,
    is_withdrawn AND NOT is_zero AS is_withdrawn,
    CASE WHEN is_zero THEN 0 ELSE seats END AS seats,
    CASE WHEN is_zero THEN 'active' ELSE status END AS status,
    CASE WHEN NOT is_zero THEN plan END AS plan,
    CASE WHEN NOT is_zero THEN currency END AS currency,
    CASE WHEN is_zero THEN 0 ELSE mrr_minor END AS mrr_minor,
    CASE WHEN NOT is_zero THEN renewal_date END AS renewal_date,
    CASE WHEN NOT is_zero THEN cancel_at END AS cancel_at
  FROM (
    SELECT
      i.recorded_at AS known_at, w.*,
      w.is_withdrawn AND bool_or(w.is_left_out) OVER (
        PARTITION BY w.source, w.organisation_ref, w.snapshot_date, i.recorded_at
      ) AS is_zero
    FROM (SELECT DISTINCT source, organisation_ref, snapshot_date, recorded_at FROM seat_words) AS i
    JOIN seat_words AS w
      ON w.source = i.source AND w.organisation_ref = i.organisation_ref AND w.snapshot_date = i.snapshot_date
      AND w.recorded_at <= i.recorded_at
    QUALIFY row_number() OVER (
      PARTITION BY w.source, w.organisation_ref, w.snapshot_date, i.recorded_at
      ORDER BY
        w.is_left_out, w._changed_at DESC, w._recorded_at DESC,
        (w.is_withdrawn AND NOT w._precedence LIKE '%+') DESC, w._precedence DESC, w._line DESC
    ) = 1
  ) AS newest
),

-- A count that was withdrawn says what the count before it says, and again when something new is known of that.
withdrawn AS (
  SELECT source, organisation_ref, snapshot_date, counted_at, recorded_at
  FROM seat_states
  WHERE is_withdrawn
  UNION
  SELECT w.source, w.organisation_ref, w.snapshot_date, w.counted_at, s.recorded_at
  FROM seat_states AS w
  JOIN seat_states AS s
    ON s.source = w.source AND s.organisation_ref = w.organisation_ref AND s.snapshot_date < w.snapshot_date
    AND s.recorded_at > w.recorded_at AND (w.known_to IS NULL OR s.recorded_at < w.known_to)
  WHERE w.is_withdrawn
),

all_counts AS (
  SELECT source, organisation_ref, counted_at, recorded_at, seats, status, plan, currency, mrr_minor, renewal_date, cancel_at
  FROM seat_states
  WHERE NOT is_withdrawn
  UNION ALL
  SELECT
    w.source, w.organisation_ref, w.counted_at, w.recorded_at, coalesce(s.seats, 0), coalesce(s.status, 'active'), s.plan,
    s.currency, CASE WHEN s.source IS NULL THEN 0 ELSE s.mrr_minor END, s.renewal_date, s.cancel_at
  FROM withdrawn AS w
  LEFT JOIN seat_states AS s
    ON s.source = w.source AND s.organisation_ref = w.organisation_ref AND s.snapshot_date < w.snapshot_date
    AND s.recorded_at <= w.recorded_at AND (s.known_to IS NULL OR s.known_to > w.recorded_at) AND NOT s.is_withdrawn
  QUALIFY row_number() OVER (
    PARTITION BY w.source, w.organisation_ref, w.snapshot_date, w.recorded_at ORDER BY s.snapshot_date DESC NULLS LAST
  ) = 1
),

subscriptions AS (
  SELECT
    source, subscription_id, customer_id, status, currency, plan, started_at, trial_start_at, trial_end_at,
    current_period_start_at, current_period_end_at, earliest_period_end_at, cancel_at, cancel_requested_at,
    cancel_at_period_end, cancel_reason, cancel_comment, cancel_kind, pause_kind,
    coalesce(
      ended_at,
      _deleted_at,
      CASE
        WHEN status = 'canceled' AND cancel_at <= _told_at THEN cancel_at
        WHEN status = 'canceled' THEN _told_at
      END
    ) AS end_at,
    _told_at, _changed_at, _recorded_at, _deleted_at IS NOT NULL AND NOT _absent AND NOT _precedence LIKE '%+' AS is_removed, _precedence, _line
  FROM raw_billing.subscriptions_versions
  WHERE livemode
  UNION ALL
  SELECT
    source, 'seats:' || organisation_ref, organisation_ref, status, currency, plan, NULL, NULL, NULL,
    NULL, start_of(renewal_date, $reporting_tz), NULL, cancel_at, NULL,
    false, NULL, NULL, NULL, 'none',
    CASE WHEN status = 'canceled' THEN counted_at END,
    counted_at, counted_at, recorded_at, false, '', 0
  FROM all_counts
),

items_told AS (
  SELECT
    source, subscription_item_id, subscription_id, product_id, product_name, price_id, seat_role,
    coalesce(CAST(seats AS DECIMAL(18,6)), quantity) AS seats,
    quantity, unit_amount_minor, recurring_minor, discount_minor, discount_end_at, billing_scheme, usage_type,
    "interval", interval_count, current_period_end_at, _deleted_at, _told_at, _changed_at, _recorded_at,
    _deleted_at IS NOT NULL AND NOT _absent AND NOT _precedence LIKE '%+' AS is_removed, _precedence, _line
  FROM raw_billing.subscription_items_versions
  WHERE livemode
  UNION ALL
  SELECT
    source, 'seats:' || organisation_ref, 'seats:' || organisation_ref, NULL, NULL, NULL, 'seat',
    CAST(seats AS DECIMAL(18,6)),
    seats, NULL, mrr_minor, NULL, NULL, 'per_unit', 'licensed',
    'month', 1, NULL, NULL, counted_at, counted_at, recorded_at, false, '', 0
  FROM all_counts
),

-- An end told after it happened holds from the end on, so that version is also one of that earlier instant.
subscription_facts AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY source, subscription_id ORDER BY effective_at, recorded_at, _told_at, is_removed, _precedence, _line
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
      PARTITION BY source, subscription_item_id ORDER BY effective_at, recorded_at, _told_at, is_removed, _precedence, _line
    ) AS ordinal
  FROM (
    SELECT *, _changed_at AS effective_at, _recorded_at AS recorded_at FROM items_told
    UNION ALL
    SELECT *, _deleted_at, greatest(_deleted_at, _recorded_at) FROM items_told WHERE _deleted_at < _changed_at
  ) AS told_and_removed
),

-- A plan for the future: known from when it was told, true from its start. A phase that had begun when it was told of
-- says nothing that the items do not say.
phase_facts AS (
  SELECT *, _changed_at AS effective_at, _recorded_at AS recorded_at FROM raw_billing.subscription_schedules_versions WHERE livemode
  UNION ALL
  SELECT *, _deleted_at, greatest(_deleted_at, _recorded_at)
  FROM raw_billing.subscription_schedules_versions
  WHERE livemode AND _deleted_at < _changed_at
),

-- An item may move from one subscription to another: both look at all its versions.
subscription_item_pairs AS (
  SELECT DISTINCT source, subscription_id, subscription_item_id FROM item_facts
),

customers_of AS (
  SELECT DISTINCT source, subscription_id, customer_id FROM subscriptions
),

-- Which organisation a customer is, what role a product has and whether a customer still exists is knowledge: it
-- applies to all instants, from when it was known.
organisations AS (
  SELECT
    source, customer_id, org_id,
    CASE WHEN row_number() OVER of_customer > 1 THEN recorded_at END AS known_from,
    lead(recorded_at) OVER of_customer AS known_to
  FROM raw_billing.customer_matches
  WINDOW of_customer AS (PARTITION BY source, customer_id ORDER BY recorded_at)
),

roles AS (
  SELECT
    source, product, CASE WHEN _deleted_at IS NULL THEN seat_role END AS seat_role, _floor AS known_from,
    lead(_floor) OVER (PARTITION BY source, product ORDER BY _floor NULLS FIRST) AS known_to
  FROM (
    SELECT *
    FROM raw_billing.seat_products
    QUALIFY row_number() OVER (
      PARTITION BY source, product, _floor ORDER BY _changed_at DESC, _recorded_at DESC, _precedence DESC, _line DESC
    ) = 1
  ) AS newest_of_each_load
),

customer_ends AS (
  SELECT
    source, customer_id, _recorded_at AS known_from, CASE WHEN NOT _absent THEN _deleted_at END AS deleted_at,
    lead(_recorded_at) OVER (PARTITION BY source, customer_id ORDER BY _recorded_at) AS known_to,
    min(CASE WHEN NOT _absent THEN _deleted_at END) OVER (PARTITION BY source, customer_id) AS first_deleted_at
  FROM raw_billing.customers
  QUALIFY row_number() OVER (PARTITION BY source, customer_id, _recorded_at ORDER BY _changed_at DESC, _precedence DESC) = 1
    AND first_deleted_at IS NOT NULL
),

knowledge AS (
  SELECT c.source, c.subscription_id, TIMESTAMP '1900-01-01' AS effective_at, o.known_from AS recorded_at
  FROM organisations AS o
  JOIN customers_of AS c ON c.source = o.source AND c.customer_id = o.customer_id
  WHERE o.known_from IS NOT NULL
  UNION ALL
  SELECT f.source, f.subscription_id, TIMESTAMP '1900-01-01', r.known_from
  FROM roles AS r
  JOIN item_facts AS f
    ON f.source = r.source AND f.seat_role = 'unknown' AND r.product IN (f.price_id, f.product_id, f.product_name)
  WHERE r.known_from IS NOT NULL
  UNION ALL
  SELECT c.source, c.subscription_id, e.first_deleted_at, greatest(e.known_from, e.first_deleted_at)
  FROM customer_ends AS e
  JOIN customers_of AS c ON c.source = e.source AND c.customer_id = e.customer_id
),

told AS (
  SELECT source, subscription_id, effective_at, recorded_at FROM subscription_facts
  UNION
  SELECT p.source, p.subscription_id, f.effective_at, f.recorded_at
  FROM subscription_item_pairs AS p
  JOIN item_facts AS f ON f.source = p.source AND f.subscription_item_id = p.subscription_item_id
  UNION
  SELECT source, subscription_id, effective_at, recorded_at FROM phase_facts
  UNION
  SELECT source, subscription_id, effective_at, recorded_at FROM knowledge
),

-- Instants that a version names itself. What was agreed beforehand is known beforehand; the rest is known when it comes.
later_instants AS (
  SELECT source, subscription_id, effective_at, end_at AS instant, greatest(end_at, recorded_at) AS recorded_at FROM subscription_facts
  UNION ALL
  SELECT source, subscription_id, effective_at, cancel_requested_at, greatest(cancel_requested_at, recorded_at) FROM subscription_facts
  UNION ALL
  SELECT source, subscription_id, effective_at, current_period_start_at, greatest(current_period_start_at, recorded_at) FROM subscription_facts
  UNION ALL
  SELECT source, subscription_id, effective_at, trial_end_at, greatest(trial_end_at, recorded_at)
  FROM subscription_facts
  WHERE status <> 'trialing'
  UNION ALL
  SELECT p.source, p.subscription_id, f.effective_at, f._deleted_at, greatest(f._deleted_at, f.recorded_at)
  FROM subscription_item_pairs AS p
  JOIN item_facts AS f ON f.source = p.source AND f.subscription_item_id = p.subscription_item_id
  UNION ALL
  SELECT p.source, p.subscription_id, f.effective_at, f.discount_end_at, f.recorded_at
  FROM subscription_item_pairs AS p
  JOIN item_facts AS f ON f.source = p.source AND f.subscription_item_id = p.subscription_item_id
  WHERE f.discount_minor > 0
  UNION ALL
  SELECT source, subscription_id, effective_at, phase_start_at, recorded_at FROM phase_facts
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
      SELECT source, subscription_id, instant, recorded_at, CAST(NULL AS TIMESTAMP)
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
    f.cancel_comment, f.cancel_kind, f.pause_kind, least(f.end_at, e.deleted_at) AS end_at, f._told_at
  FROM subscription_ordinals AS o
  JOIN subscription_facts AS f
    ON f.source = o.source AND f.subscription_id = o.subscription_id AND f.ordinal = o.ordinal
  LEFT JOIN customer_ends AS e
    ON e.source = f.source AND e.customer_id = f.customer_id
    AND e.known_from <= o.recorded_at AND (e.known_to IS NULL OR e.known_to > o.recorded_at)
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

items_in_force AS (
  SELECT
    o.source, o.subscription_id, o.effective_at AS in_force_at, o.recorded_at AS known, f.subscription_item_id,
    f.effective_at AS told_from, f.product_id, f.product_name, f.price_id, f.seat_role, f.seats, f.quantity,
    f.unit_amount_minor, f.recurring_minor, f.discount_minor, f.discount_end_at, f.billing_scheme, f.usage_type,
    f."interval", f.interval_count, f.current_period_end_at,
    (f._deleted_at IS NULL OR f._deleted_at > o.effective_at) AND f.subscription_id = o.subscription_id AS is_live
  FROM item_ordinals AS o
  JOIN item_facts AS f
    ON f.source = o.source AND f.subscription_item_id = o.subscription_item_id AND f.ordinal = o.ordinal
),

phases_in_force AS (
  SELECT
    p.source, p.subscription_id, p.effective_at AS in_force_at, p.recorded_at AS known, f.schedule_id, f.phase_no,
    f.price_id, f.status, f.phase_start_at, f.phase_end_at, f.end_behavior, f.product_id, f.product_name, f.seat_role,
    f.quantity, f.unit_amount_minor, f.recurring_minor, f."interval", f.interval_count, f._told_at,
    f._deleted_at IS NULL OR f._deleted_at > p.effective_at AS is_live
  FROM points AS p
  JOIN phase_facts AS f
    ON f.source = p.source AND f.subscription_id = p.subscription_id
    AND f.effective_at <= p.effective_at AND f.recorded_at <= p.recorded_at
  QUALIFY row_number() OVER (
    PARTITION BY p.source, p.subscription_id, p.effective_at, p.recorded_at, f.schedule_id, f.phase_no, f.price_id
    ORDER BY f.effective_at DESC, f.recorded_at DESC, f._told_at DESC, f._precedence DESC, f._line DESC
  ) = 1
),

live_phases AS (
  SELECT * FROM phases_in_force WHERE is_live AND status IN ('not_started', 'active')
),

-- Where a schedule ends the subscription: at the end of its last phase.
planned_ends AS (
  SELECT source, subscription_id, in_force_at, known, max(phase_end_at) AS planned_end_at
  FROM live_phases
  WHERE end_behavior = 'cancel'
  GROUP BY source, subscription_id, in_force_at, known
),

-- The phase that has begun, unless an item was told anew since: then the items say what came of it.
begun_phases AS (
  SELECT b.source, b.subscription_id, b.in_force_at, b.known, b.phase_start_at
  FROM (
    SELECT source, subscription_id, in_force_at, known, max(phase_start_at) AS phase_start_at
    FROM live_phases
    WHERE phase_start_at <= in_force_at AND phase_start_at > _told_at
    GROUP BY source, subscription_id, in_force_at, known
  ) AS b
  LEFT JOIN (
    SELECT source, subscription_id, in_force_at, known, max(told_from) AS told_from
    FROM items_in_force
    GROUP BY source, subscription_id, in_force_at, known
  ) AS t USING (source, subscription_id, in_force_at, known)
  WHERE t.told_from IS NULL OR t.told_from < b.phase_start_at
),

lines AS (
  SELECT
    i.source, i.subscription_id, i.in_force_at, i.known, i.product_id, i.product_name, i.price_id, i.seat_role, i.seats,
    i.quantity, i.unit_amount_minor, i.recurring_minor,
    CASE WHEN i.discount_end_at IS NULL OR i.discount_end_at > i.in_force_at THEN i.discount_minor END AS discount_minor,
    i.billing_scheme, i.usage_type, i."interval", i.interval_count, i.current_period_end_at, i.is_live
  FROM items_in_force AS i
  LEFT JOIN begun_phases AS b USING (source, subscription_id, in_force_at, known)
  WHERE b.phase_start_at IS NULL
  UNION ALL
  SELECT
    p.source, p.subscription_id, p.in_force_at, p.known,
    coalesce(p.product_id, i.product_id), coalesce(p.product_name, i.product_name), p.price_id,
    CASE WHEN p.seat_role = 'unknown' THEN coalesce(i.seat_role, 'unknown') ELSE p.seat_role END,
    coalesce(p.quantity, i.seats), coalesce(p.quantity, i.quantity),
    coalesce(p.unit_amount_minor, i.unit_amount_minor), p.recurring_minor,
    NULL, coalesce(i.billing_scheme, 'per_unit'), coalesce(i.usage_type, 'licensed'),
    coalesce(p."interval", i."interval"), CASE WHEN p."interval" IS NULL THEN i.interval_count ELSE p.interval_count END,
    p.phase_end_at, true
  FROM live_phases AS p
  JOIN begun_phases AS b USING (source, subscription_id, in_force_at, known, phase_start_at)
  LEFT JOIN (
    SELECT *
    FROM items_in_force
    WHERE price_id IS NOT NULL
    QUALIFY row_number() OVER (
      PARTITION BY source, subscription_id, in_force_at, known, price_id ORDER BY is_live DESC, subscription_item_id
    ) = 1
  ) AS i USING (source, subscription_id, in_force_at, known, price_id)
),

line_amounts AS (
  SELECT
    l.source, l.subscription_id, l.in_force_at, l.known, l.product_name, l.seats, l.is_live, l.current_period_end_at,
    l.interval_count,
    coalesce(nullif(l.seat_role, 'unknown'), r1.seat_role, r2.seat_role, r3.seat_role, 'unknown') AS seat_role,
    l.usage_type = 'metered' OR l.seat_role = 'metered' OR coalesce(r1.seat_role, r2.seat_role, r3.seat_role, '') = 'metered' AS is_metered,
    CASE
      WHEN l."interval" = 'month' AND l.interval_count = 1 THEN 'month'
      WHEN l."interval" = 'month' AND l.interval_count = 3 THEN 'quarter'
      WHEN l."interval" = 'month' AND l.interval_count = 12 OR l."interval" = 'year' AND l.interval_count = 1 THEN 'year'
      WHEN l."interval" = 'month' AND l.interval_count = 24 OR l."interval" = 'year' AND l.interval_count = 2 THEN 'two_years'
      WHEN l."interval" = 'week' AND l.interval_count = 1 OR l."interval" = 'day' AND l.interval_count = 7 THEN 'week'
      ELSE 'other'
    END AS known_interval,
    CASE l."interval" WHEN 'month' THEN 12 WHEN 'year' THEN 1 WHEN 'week' THEN 52 WHEN 'day' THEN 365 END AS intervals_in_a_year,
    CAST(
      CASE
        WHEN l."interval" IS NULL THEN NULL
        WHEN l.recurring_minor IS NOT NULL THEN CAST(l.recurring_minor AS DECIMAL(28,4))
        WHEN l.billing_scheme = 'per_unit'
          THEN CAST(CAST(l.unit_amount_minor AS DECIMAL(20,8)) * CAST(l.quantity AS DECIMAL(15,6)) AS DECIMAL(28,4))
      END - coalesce(CAST(l.discount_minor AS DECIMAL(28,4)), 0)
      AS DECIMAL(28,4)
    ) AS net_minor
  FROM lines AS l
  LEFT JOIN roles AS r1
    ON l.seat_role = 'unknown' AND r1.source = l.source AND r1.product = l.price_id
    AND (r1.known_from IS NULL OR r1.known_from <= l.known) AND (r1.known_to IS NULL OR r1.known_to > l.known)
  LEFT JOIN roles AS r2
    ON l.seat_role = 'unknown' AND r2.source = l.source AND r2.product = l.product_id
    AND (r2.known_from IS NULL OR r2.known_from <= l.known) AND (r2.known_to IS NULL OR r2.known_to > l.known)
  LEFT JOIN roles AS r3
    ON l.seat_role = 'unknown' AND r3.source = l.source AND r3.product = l.product_name
    AND (r3.known_from IS NULL OR r3.known_from <= l.known) AND (r3.known_to IS NULL OR r3.known_to > l.known)
),

items AS (
  SELECT
    source, subscription_id, in_force_at, known,
    CAST(coalesce(sum(seats) FILTER (WHERE is_live AND list_contains($billing_seat_roles, seat_role)), 0) AS BIGINT) AS seats,
    min(product_name) FILTER (WHERE is_live AND list_contains($billing_seat_roles, seat_role)) AS seat_product,
    min(product_name) FILTER (WHERE is_live) AS any_product,
    min(current_period_end_at) FILTER (WHERE is_live) AS first_period_end_at,
    CASE
      WHEN min(known_interval) FILTER (WHERE is_live) = max(known_interval) FILTER (WHERE is_live)
        AND min(known_interval) FILTER (WHERE is_live) <> 'other' THEN min(known_interval) FILTER (WHERE is_live)
      WHEN count(*) FILTER (WHERE is_live) > 0 THEN 'year'
    END AS billing_interval,
    count(*) FILTER (WHERE is_live AND NOT is_metered AND net_minor IS NULL) > 0 AS is_amount_unknown,
    coalesce(sum(net_minor) FILTER (WHERE is_live AND NOT is_metered), 0) AS own_minor,
    coalesce(
      sum(
        CAST(CAST(net_minor * 10000 AS HUGEINT) * intervals_in_a_year // interval_count AS DECIMAL(38,0))
      ) FILTER (WHERE is_live AND NOT is_metered),
      0
    ) AS year_minor_10000,
    coalesce(
      min(known_interval) FILTER (WHERE is_live) = max(known_interval) FILTER (WHERE is_live)
      AND min(known_interval) FILTER (WHERE is_live) <> 'other',
      true
    ) AS is_one_interval
  FROM line_amounts
  GROUP BY source, subscription_id, in_force_at, known
),

states AS (
  SELECT
    coalesce(n.name, s.subscription_id) AS subscription_id,
    coalesce(o.org_id, s.customer_id) AS org_id,
    coalesce(s.plan, i.seat_product, i.any_product) AS plan,
    i.billing_interval,
    i.seats,
    CASE
      WHEN i.is_amount_unknown THEN NULL
      WHEN i.is_one_interval THEN CAST(CAST(i.own_minor AS DECIMAL(28,4)) * m.unit AS DECIMAL(18,4))
      ELSE CAST(CAST(CAST(i.year_minor_10000 AS DECIMAL(33,0)) * CAST(0.0001 AS DECIMAL(5,4)) AS DECIMAL(28,4)) * m.unit AS DECIMAL(18,4))
    END AS amount,
    coalesce(s.currency, $reporting_currency) AS currency,
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
      WHEN coalesce(s.cancel_requested_at, s._told_at) > s.in_force_at THEN e.planned_end_at
      WHEN s.cancel_at IS NOT NULL THEN s.cancel_at
      WHEN s.cancel_at_period_end OR s.status = 'non_renewing'
        THEN coalesce(s.earliest_period_end_at, least(i.first_period_end_at, s.current_period_end_at))
      ELSE e.planned_end_at
    END AS cancel_at,
    CASE WHEN s.cancel_requested_at <= s.in_force_at THEN s.cancel_requested_at END AS cancel_requested_at,
    CASE
      WHEN coalesce(s.cancel_requested_at, s._told_at) > s.in_force_at AND (s.end_at IS NULL OR s.end_at > s.in_force_at) THEN NULL
      WHEN s.cancel_kind = 'involuntary' THEN 'payment_failed'
      ELSE s.cancel_reason
    END AS cancel_reason,
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
  LEFT JOIN planned_ends AS e
    ON e.source = s.source AND e.subscription_id = s.subscription_id AND e.in_force_at = s.in_force_at AND e.known = s.known
  LEFT JOIN organisations AS o
    ON o.source = s.source AND o.customer_id = s.customer_id
    AND (o.known_from IS NULL OR o.known_from <= s.known) AND (o.known_to IS NULL OR o.known_to > s.known)
  LEFT JOIN raw_billing.subscription_names AS n ON n.source = s.source AND n.subscription_id = s.subscription_id
  LEFT JOIN (
    SELECT
      currency,
      CAST(CASE exponent WHEN 0 THEN 1 WHEN 2 THEN 0.01 WHEN 3 THEN 0.001 ELSE 0.0001 END AS DECIMAL(5,4)) AS unit
    FROM raw_billing.currencies
  ) AS m ON m.currency = coalesce(s.currency, $reporting_currency)
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
    ) AS content
  FROM states
),

compared AS (
  SELECT
    *,
    lag(content) OVER (PARTITION BY source, subscription_id ORDER BY effective_at, recorded_at) AS content_before,
    lag(effective_at) OVER (PARTITION BY source, subscription_id ORDER BY effective_at, recorded_at) AS instant_before,
    lead(effective_at) OVER (PARTITION BY source, subscription_id ORDER BY effective_at, recorded_at) AS instant_after
  FROM described
),

-- Since when an organisation is known to be covered by billing: by itself, or by one it was merged with.
billed AS (
  SELECT org_id, min(recorded_at) AS known_at FROM compared GROUP BY org_id
),

covered AS (
  SELECT org_id, min(known_at) AS known_at
  FROM (
    SELECT org_id, known_at FROM billed
    UNION ALL
    SELECT m.id, greatest(b.known_at, m.known_at)
    FROM raw_hubspot.merges_mapped AS o
    JOIN billed AS b ON b.org_id = o.id
    JOIN raw_hubspot.merges_mapped AS m ON m.same_as = o.same_as
  ) AS either
  GROUP BY org_id
),

-- What the properties say holds until billing is known to cover the organisation; from then on it never was.
hubspot AS (
  SELECT
    t.subscription_id, t.org_id, t.plan, t.billing_interval, t.seats, t.amount, t.currency, t.status, t.effective_at,
    t.cancel_at, t.cancel_requested_at, t.cancel_reason, t.cancel_comment, t.term_start, t.term_end, t.ended_at,
    t.source, t.recorded_at, c.known_at AS known_to
  FROM raw_hubspot.organisations_timeline AS t
  LEFT JOIN covered AS c ON c.org_id = t.org_id
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
  OR (instant_before < effective_at AND instant_after = effective_at)
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
FROM hubspot AS h
WHERE h.known_to IS NULL OR h.recorded_at < h.known_to
UNION ALL
SELECT
  h.subscription_id,
  h.org_id,
  CAST(NULL AS VARCHAR) AS plan,
  CAST(NULL AS VARCHAR) AS billing_interval,
  CAST(NULL AS BIGINT) AS seats,
  CAST(NULL AS DECIMAL(18,4)) AS amount,
  h.currency,
  'incomplete' AS status,
  h.effective_at,
  CAST(NULL AS TIMESTAMP) AS cancel_at,
  CAST(NULL AS TIMESTAMP) AS cancel_requested_at,
  CAST(NULL AS VARCHAR) AS cancel_reason,
  CAST(NULL AS VARCHAR) AS cancel_comment,
  CAST(NULL AS TIMESTAMP) AS term_start,
  CAST(NULL AS TIMESTAMP) AS term_end,
  CAST(NULL AS TIMESTAMP) AS ended_at,
  h.source,
  h.known_to AS recorded_at
FROM hubspot AS h
WHERE h.recorded_at < h.known_to
QUALIFY row_number() OVER (PARTITION BY h.subscription_id, h.effective_at ORDER BY h.recorded_at) = 1
