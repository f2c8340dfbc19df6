/*---
description: >
  Every subscription as intervals of constant values, as known at the close of known_at, future changes included.
  Of versions of one subscription with the same effective_at the one recorded last holds.
  A version holds from effective_at (inclusive) to the next version of its subscription (exclusive); its cancel_at or
  ended_at ends it earlier (exclusive). A version whose end is not after its start has ended: its status is canceled.
  When the next version is canceled and carries an ended_at between the two, the earlier version ends there.
  The interval counts at the close of day X when from_on <= X and (to_on is empty or X < to_on).
  Running means active or past_due. Paid means running and an amount above 0, or an amount of 0 or unknown on a named
  plan that is not one of the settings' plans.free: a plan discounted to nothing is still paid for.
  MRR = amount x 1 (month), 1/3 (quarter), 1/12 (year), 1/24 (two_years), 52/12 (week), rounded half-up to cents for
  each subscription; 0 when not running; unknown when the amount or the interval is unknown.
  Mrr is converted at the rate of as_of (the last rate with valid_from <= as_of) and rounded to cents; one rate serves
  all days, so that a change over time is never a change of the exchange rate. Without a rate it is NULL.
  A CRM contract with an amount is a running subscription named contract:<org_id>:<day of valid_from>, its plan is the
  contract's kind, its term starts with it and ends at term_end, else at valid_to. Its valid_to is the end of a term
  and not a cancellation: cancel_at stays empty. A contract whose end is not after its start never held and has no
  row.
grain: [subscription_id, valid_from]
columns:
  subscription_id: {type: VARCHAR, meaning: "subscription, or contract:<org_id>:<day>", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  original_org_id: {type: VARCHAR, meaning: "organisation as it stands in the input", not_null: true}
  valid_from: {type: TIMESTAMP, meaning: "inclusive start", not_null: true}
  valid_to: {type: TIMESTAMP, meaning: "exclusive end; empty = open"}
  from_on: {type: DATE, meaning: "first local day at whose close the interval counts", not_null: true}
  to_on: {type: DATE, meaning: "first local day at whose close it no longer counts; empty = open"}
  plan: {type: VARCHAR, meaning: "name of the plan, or kind of the contract"}
  billing_interval: {type: VARCHAR, meaning: "month, quarter, year, two_years or week"}
  seats: {type: BIGINT, meaning: "seats; empty = unknown"}
  status: {type: VARCHAR, meaning: "status of the version; canceled when its end is not after its start", not_null: true, accepted: [trialing, active, past_due, unpaid, paused, incomplete, canceled]}
  amount: {type: "DECIMAL(18,4)", meaning: "recurring amount for one interval, native currency"}
  currency: {type: VARCHAR, meaning: "native currency", not_null: true}
  mrr_native: {type: "DECIMAL(18,2)", meaning: "monthly recurring revenue, native currency"}
  mrr: {type: "DECIMAL(18,2)", meaning: "the same in the reporting currency at the rate of as_of"}
  is_running: {type: BOOLEAN, meaning: "active or past_due", not_null: true}
  is_paid: {type: BOOLEAN, meaning: "a running paid plan", not_null: true}
  term_start: {type: TIMESTAMP, meaning: "start of the term"}
  term_end: {type: TIMESTAMP, meaning: "exclusive end of the term"}
  term_end_on: {type: DATE, meaning: "local day of the end of the term"}
  cancel_at: {type: TIMESTAMP, meaning: "known exclusive end by cancellation"}
  ended_at: {type: TIMESTAMP, meaning: "exclusive end that has happened"}
  cancel_requested_at: {type: TIMESTAMP, meaning: "instant the cancellation was asked for"}
  cancel_reason: {type: VARCHAR, meaning: "reason code of the cancellation"}
  cancel_comment: {type: VARCHAR, meaning: "reason in the customer's words"}
  recorded_at: {type: TIMESTAMP, meaning: "instant the version became known", not_null: true}
  source_kind: {type: VARCHAR, meaning: "billing; crm_property: made of the properties of a CRM record that billing does not cover; crm_contract", not_null: true, accepted: [billing, crm_property, crm_contract]}
---*/
WITH latest_contracts AS (
    SELECT org_id, kind, valid_from, valid_to, seats, amount, billing_interval, currency, term_end, recorded_at
    FROM staging.crm_contracts
    WHERE recorded_at < $close_known_at
    QUALIFY
        row_number() OVER (PARTITION BY org_id, valid_from ORDER BY recorded_at DESC) = 1
),
contracts AS (
    SELECT
        *,
        'contract:' || org_id || ':' || CAST(local_date(valid_from, $reporting_tz) AS VARCHAR) AS subscription_id
    FROM latest_contracts
    WHERE amount IS NOT NULL AND (valid_to IS NULL OR valid_to > valid_from)
),
-- The version after one may not be known yet: the first after it that is.
overtaken AS (
    SELECT subscription_id, effective_at, recorded_at
    FROM staging.subscription_versions
    WHERE recorded_at < $close_known_at AND next_recorded_at >= $close_known_at
),
resolved AS (
    SELECT o.subscription_id, o.effective_at, o.recorded_at, min(v.effective_at) AS next_effective_at
    FROM overtaken AS o
    INNER JOIN staging.subscription_versions AS v
        ON
            o.subscription_id = v.subscription_id
            AND (v.effective_at > o.effective_at OR (v.effective_at = o.effective_at AND v.recorded_at > o.recorded_at))
    WHERE v.recorded_at < $close_known_at
    GROUP BY o.subscription_id, o.effective_at, o.recorded_at
),
cancellations AS (
    SELECT v.subscription_id, v.effective_at, v.ended_at
    FROM staging.subscription_versions AS v
    LEFT JOIN resolved AS r
        ON v.subscription_id = r.subscription_id AND v.effective_at = r.effective_at AND v.recorded_at = r.recorded_at
    WHERE
        v.recorded_at < $close_known_at
        AND v.status = 'canceled'
        AND v.ended_at IS NOT NULL
        AND CASE WHEN v.next_recorded_at < $close_known_at THEN v.next_effective_at ELSE r.next_effective_at END
        IS DISTINCT FROM v.effective_at
),
all_versions AS (
    SELECT
        v.subscription_id,
        v.org_id,
        v.plan,
        v.billing_interval,
        v.seats,
        v.amount,
        v.currency,
        v.status,
        v.effective_at,
        least(v.cancel_at, v.ended_at) AS own_end,
        CASE WHEN v.next_recorded_at < $close_known_at THEN v.next_effective_at ELSE r.next_effective_at END
            AS next_effective_at,
        v.cancel_at,
        v.ended_at,
        v.cancel_requested_at,
        v.cancel_reason,
        v.cancel_comment,
        v.term_start,
        v.term_end,
        v.recorded_at,
        CASE WHEN v.source = 'hubspot' THEN 'crm_property' ELSE 'billing' END AS source_kind
    FROM staging.subscription_versions AS v
    LEFT JOIN resolved AS r
        ON v.subscription_id = r.subscription_id AND v.effective_at = r.effective_at AND v.recorded_at = r.recorded_at
    WHERE v.recorded_at < $close_known_at
    UNION ALL
    SELECT
        subscription_id,
        org_id,
        coalesce(kind, 'custom') AS plan,
        billing_interval,
        seats,
        amount,
        currency,
        'active' AS status,
        valid_from AS effective_at,
        valid_to AS own_end,
        lead(valid_from) OVER (PARTITION BY subscription_id ORDER BY valid_from) AS next_effective_at,
        CAST(NULL AS TIMESTAMP) AS cancel_at,
        CAST(NULL AS TIMESTAMP) AS ended_at,
        CAST(NULL AS TIMESTAMP) AS cancel_requested_at,
        CAST(NULL AS VARCHAR) AS cancel_reason,
        CAST(NULL AS VARCHAR) AS cancel_comment,
        valid_from AS term_start,
        coalesce(term_end, valid_to) AS term_end,
        recorded_at,
        'crm_contract' AS source_kind
    FROM contracts
),
-- A version with the same effective_at as the next one was replaced by it.
ended AS (
    SELECT
        v.*,
        CASE
            WHEN v.own_end <= v.effective_at THEN 'canceled'
            ELSE v.status
        END AS status_held,
        CASE
            WHEN v.status = 'canceled' OR v.own_end <= v.effective_at THEN v.next_effective_at
            WHEN c.ended_at > v.effective_at THEN least(v.next_effective_at, c.ended_at, v.own_end)
            ELSE least(v.next_effective_at, v.own_end)
        END AS valid_to
    FROM all_versions AS v
    LEFT JOIN cancellations AS c ON v.subscription_id = c.subscription_id AND v.next_effective_at = c.effective_at
    WHERE v.next_effective_at IS DISTINCT FROM v.effective_at
),
rates AS (
    SELECT currency, rate
    FROM staging.fx_rates
    WHERE recorded_at < $close_known_at AND valid_from <= $as_of AND currency <> $reporting_currency
    QUALIFY
        row_number() OVER (PARTITION BY currency ORDER BY valid_from DESC, recorded_at DESC) = 1
    UNION ALL
    SELECT $reporting_currency AS currency, CAST(1 AS DECIMAL(30, 18)) AS rate
),
factors AS (
    SELECT 'month' AS billing_interval, 1 AS numerator, 1 AS denominator
    UNION ALL
    SELECT 'quarter' AS billing_interval, 1 AS numerator, 3 AS denominator
    UNION ALL
    SELECT 'year' AS billing_interval, 1 AS numerator, 12 AS denominator
    UNION ALL
    SELECT 'two_years' AS billing_interval, 1 AS numerator, 24 AS denominator
    UNION ALL
    SELECT 'week' AS billing_interval, 52 AS numerator, 12 AS denominator
),
monthly AS (
    SELECT
        e.*,
        e.status_held IN ('active', 'past_due') AS is_running,
        CASE
            WHEN e.status_held NOT IN ('active', 'past_due') THEN CAST(0 AS DECIMAL(18, 2))
            ELSE part_in_cents(e.amount, f.numerator, f.denominator)
        END AS mrr_native
    FROM ended AS e
    LEFT JOIN factors AS f ON e.billing_interval = f.billing_interval
)
SELECT
    m.subscription_id,
    coalesce(i.canonical_org_id, m.org_id) AS org_id,
    m.org_id AS original_org_id,
    m.effective_at AS valid_from,
    m.valid_to,
    local_date(m.effective_at, $reporting_tz) AS from_on,
    local_date(m.valid_to, $reporting_tz) AS to_on,
    m.plan,
    m.billing_interval,
    m.seats,
    m.status_held AS status,
    m.amount,
    m.currency,
    m.mrr_native,
    CASE
        WHEN m.mrr_native = 0 THEN CAST(0 AS DECIMAL(18, 2))
        ELSE converted(m.mrr_native, r.rate)
    END AS mrr,
    m.is_running,
    coalesce(
        m.is_running
        AND (
            m.amount > 0
            OR (coalesce(m.amount, 0) = 0 AND m.plan IS NOT NULL AND NOT list_contains($plans_free, lower(m.plan)))
        ),
        false
    ) AS is_paid,
    m.term_start,
    m.term_end,
    local_date(m.term_end, $reporting_tz) AS term_end_on,
    m.cancel_at,
    m.ended_at,
    m.cancel_requested_at,
    m.cancel_reason,
    m.cancel_comment,
    m.recorded_at,
    m.source_kind
FROM monthly AS m
LEFT JOIN intermediate.organisation_identity AS i ON m.org_id = i.org_id
LEFT JOIN rates AS r ON m.currency = r.currency
