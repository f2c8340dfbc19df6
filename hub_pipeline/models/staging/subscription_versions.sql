/*---
description: >
  Billing subscriptions, one row for each change; values hold until the next change of the same subscription.
  Recorded_at is the input's; where that is empty it is effective_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [subscription_id, effective_at, recorded_at]
columns:
  subscription_id: {type: VARCHAR, meaning: "id of the subscription", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation that pays", not_null: true}
  plan: {type: VARCHAR, meaning: "name of the plan"}
  billing_interval: {type: VARCHAR, meaning: "month, quarter, year, two_years or week; any other value gives an unknown MRR"}
  seats: {type: BIGINT, meaning: "paid seats; empty = unknown"}
  amount: {type: "DECIMAL(18,4)", meaning: "recurring amount for one interval, native currency, net of recurring discounts"}
  currency: {type: VARCHAR, meaning: "ISO 4217, upper case; reporting currency when the input has none", not_null: true}
  status: {type: VARCHAR, meaning: "trialing; active; past_due: runs with an overdue payment; unpaid: given up after failed payments; paused; incomplete: never paid for; canceled: has ended. Only active and past_due count in MRR and seats, so any other value stops the publication", not_null: true, accepted: [trialing, active, past_due, unpaid, paused, incomplete, canceled]}
  effective_at: {type: TIMESTAMP, meaning: "instant from which the change holds", not_null: true}
  cancel_at: {type: TIMESTAMP, meaning: "exclusive end that is known; active while t < cancel_at"}
  cancel_requested_at: {type: TIMESTAMP, meaning: "instant the cancellation was asked for"}
  cancel_reason: {type: VARCHAR, meaning: "reason code of the cancellation"}
  cancel_comment: {type: VARCHAR, meaning: "reason in the customer's words"}
  term_start: {type: TIMESTAMP, meaning: "start of the current term"}
  term_end: {type: TIMESTAMP, meaning: "exclusive end of the current term"}
  ended_at: {type: TIMESTAMP, meaning: "exclusive end that has happened"}
  source: {type: VARCHAR, meaning: "where the row comes from"}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
  effective_on: {type: DATE, meaning: "local day of effective_at", not_null: true}
  cancel_on: {type: DATE, meaning: "local day of the exclusive end: the churn date"}
  term_end_on: {type: DATE, meaning: "local day of the end of the term"}
  next_effective_at: {type: TIMESTAMP, meaning: "effective_at of the version after it, by effective_at and then recorded_at; empty = it is the last"}
  next_recorded_at: {type: TIMESTAMP, meaning: "instant the version after it became known"}
checks:
  - name: billing_interval_known
    severity: warn
    description: >
      The interval is month, quarter, year, two_years or week. Another one does not stop the publication, because the
      MRR of the subscription is then unknown, never a wrong number.
    sql: >
      SELECT subscription_id, effective_at, recorded_at, billing_interval
      FROM staging.subscription_versions
      WHERE billing_interval NOT IN ('month', 'quarter', 'year', 'two_years', 'week')
  - name: seats_are_plausible
    severity: warn
    description: >
      No version has 100 times the seats of the one before it, or more. It counts as it stands; whoever knows better
      corrects it where it comes from.
    sql: >
      SELECT subscription_id, effective_at, recorded_at, seats_before, seats
      FROM (
        SELECT *, lag(seats) OVER (PARTITION BY subscription_id ORDER BY effective_at, recorded_at) AS seats_before
        FROM staging.subscription_versions
      ) AS steps
      WHERE seats_before > 0 AND seats >= 100 * seats_before
---*/
WITH completed AS (
    SELECT
        subscription_id,
        org_id,
        plan,
        lower(billing_interval) AS billing_interval,
        seats,
        amount,
        coalesce(upper(nullif(trim(currency), '')), $reporting_currency) AS currency,
        lower(trim(status)) AS status,
        effective_at,
        cancel_at,
        cancel_requested_at,
        cancel_reason,
        cancel_comment,
        term_start,
        term_end,
        ended_at,
        source,
        coalesce(recorded_at, effective_at, TIMESTAMP '1970-01-01') AS recorded_at,
        local_date(effective_at, $reporting_tz) AS effective_on,
        local_date(cancel_at, $reporting_tz) AS cancel_on,
        local_date(term_end, $reporting_tz) AS term_end_on
    FROM inputs.subscription_versions
),
-- Rows of one key are neighbours, the greatest last; each row that is kept is followed by another key.
ordered AS (
    SELECT
        *,
        lead(effective_at) OVER of_subscription AS next_effective_at,
        lead(recorded_at) OVER of_subscription AS next_recorded_at
    FROM completed
    WINDOW of_subscription AS (
        PARTITION BY subscription_id
        ORDER BY
            effective_at,
            recorded_at,
            org_id NULLS FIRST,
            plan NULLS FIRST,
            billing_interval NULLS FIRST,
            seats NULLS FIRST,
            amount NULLS FIRST,
            currency NULLS FIRST,
            status NULLS FIRST,
            cancel_at NULLS FIRST,
            cancel_requested_at NULLS FIRST,
            cancel_reason NULLS FIRST,
            cancel_comment NULLS FIRST,
            term_start NULLS FIRST,
            term_end NULLS FIRST,
            ended_at NULLS FIRST,
            source NULLS FIRST
    )
)
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
    recorded_at,
    effective_on,
    cancel_on,
    term_end_on,
    next_effective_at,
    next_recorded_at
FROM ordered
WHERE next_effective_at IS DISTINCT FROM effective_at OR next_recorded_at IS DISTINCT FROM recorded_at
