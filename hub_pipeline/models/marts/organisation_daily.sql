/*---
description: >
  One row for each organisation and day, from the first day it was sighted on, also after it has churned.
  Sighted: the earliest of the creation of its record (when unknown, the day its record became known), its first
  subscription version and its first CRM contract that held for some time lies before the close of as_of.
  An organisation that was merged away has no row; its survivor carries its subscriptions. A deleted record without
  any subscription or contract has no row.
  Seats and MRR are sums over the subscriptions running at the close of as_of (active or past_due), CRM contracts with
  an amount included; MRR is rounded per subscription and then added up.
  Seats are NULL when subscriptions run and none of them knows its seats, 0 when none runs.
  MRR is NULL when the MRR of any running subscription is unknown, 0 when none runs.
  State is the first that holds: paying (a running paid plan, even at net 0 after discounts); covered (a joint plan
  valid at the close of as_of whose payer is paying); custom_off_billing (a CRM contract without an amount valid at the
  close of as_of); paused (a paused subscription); trial (a trialing subscription); churned (a paid plan ran or a CRM
  contract held before); never_paid.
  is_customer is true for the first three.
  Tier belongs to the whole account, the sum over all organisations with the same root: A when its MRR >= tiers.a_mrr
  or its seats >= tiers.a_seats, B when MRR >= tiers.b_mrr or seats >= tiers.b_seats, else C (both inclusive).
  In percentile mode the accounts with MRR above 0 are ranked by MRR, equal MRR sharing the better rank: A when fewer
  than tiers.a_share of them rank better, B when fewer than tiers.a_share + tiers.b_share do, else C.
  A tier set by hand wins: the organisation's own, else the one of its root.
  Plan, billing interval and currency are those of the largest paid subscription: the highest MRR, then the most seats,
  unknown ones last, then the first by id.
  A scheduled end is the end that marts.churn_flags and marts.renewal_pipeline know of a subscription paid at the close
  of as_of: a cancellation, also one planned as a later version, or a planned change to unpaid or free.
grain: [as_of, known_at, org_id]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  name: {type: VARCHAR, meaning: "display name"}
  domain: {type: VARCHAR, meaning: "e-mail or web domain"}
  external_id: {type: VARCHAR, meaning: "id in the product or in billing"}
  root_org_id: {type: VARCHAR, meaning: "account: top of the hierarchy at the close of as_of", not_null: true}
  parent_org_id: {type: VARCHAR, meaning: "direct parent at the close of as_of"}
  has_cycle: {type: BOOLEAN, meaning: "following its parents never ends; it is then its own root", not_null: true}
  state: {type: VARCHAR, meaning: "commercial state", not_null: true, accepted: [paying, covered, custom_off_billing, paused, trial, churned, never_paid]}
  is_customer: {type: BOOLEAN, meaning: "paying, covered or custom_off_billing", not_null: true}
  seats: {type: BIGINT, meaning: "seats of running subscriptions; empty = unknown"}
  mrr: {type: "DECIMAL(18,2)", meaning: "monthly recurring revenue, reporting currency; empty = unknown"}
  tier: {type: VARCHAR, meaning: "A, B or C, or what was set by hand", not_null: true}
  tier_source: {type: VARCHAR, meaning: "override: set by hand; size: by MRR and seats; percentile: by rank of MRR", not_null: true, accepted: [override, size, percentile]}
  account_seats: {type: BIGINT, meaning: "known seats of the whole account", not_null: true}
  account_mrr: {type: "DECIMAL(18,2)", meaning: "known MRR of the whole account", not_null: true}
  account_organisations: {type: BIGINT, meaning: "organisations of the account", not_null: true}
  plan: {type: VARCHAR, meaning: "plan of its largest paid subscription"}
  billing_interval: {type: VARCHAR, meaning: "interval of its largest paid subscription"}
  currency: {type: VARCHAR, meaning: "currency of its largest paid subscription"}
  paid_subscriptions: {type: BIGINT, meaning: "running paid subscriptions", not_null: true}
  next_term_end_on: {type: DATE, meaning: "earliest local day on which the term of a paid subscription ends, not before as_of"}
  scheduled_end_on: {type: DATE, meaning: "earliest known local day after as_of on which a paid subscription ends"}
  covered_by_org_id: {type: VARCHAR, meaning: "payer of the joint plan that covers it, paying or not: of several a paying one, then the one whose plan started last, then the first by id"}
  first_paid_on: {type: DATE, meaning: "first local day with a paid plan or CRM contract"}
  owner_id: {type: VARCHAR, meaning: "user who owns the relationship"}
  owner_name: {type: VARCHAR, meaning: "name of the owner"}
  owner_is_active: {type: BOOLEAN, meaning: "the owner can still own records; false without a known owner", not_null: true}
  members_active: {type: BIGINT, meaning: "members who used the product lately"}
  seat_utilisation: {type: "DECIMAL(18,4)", meaning: "members_active / seats; empty when either is unknown or seats are 0"}
  pending_true_up_mrr: {type: "DECIMAL(18,2)", meaning: "MRR a pending true-up would add"}
  health_override: {type: VARCHAR, meaning: "health set by hand"}
  seats_unknown: {type: BIGINT, meaning: "running subscriptions with unknown seats", not_null: true}
  mrr_unknown: {type: BIGINT, meaning: "running subscriptions with unknown MRR", not_null: true}
  currencies_without_rate: {type: "VARCHAR[]", meaning: "currencies of running subscriptions without an exchange rate on as_of, sorted", not_null: true}
  first_seen_on: {type: DATE, meaning: "local day of the first sighting; empty = before records begin"}
  source_max_recorded_at: {type: TIMESTAMP, meaning: "latest recorded_at among its record and the subscription versions that have begun: how fresh the row can be; empty = all of it was always known"}
  hubspot_url: {type: VARCHAR, meaning: "address of the record"}
  why: {type: VARCHAR, meaning: "the state in one sentence with its numbers", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
checks:
  - name: fx_rate_present
    description: A running subscription in a foreign currency has a rate on as_of; without one its MRR is unknown.
    sql: >
      SELECT as_of, known_at, org_id, currencies_without_rate
      FROM marts.organisation_daily
      WHERE len(currencies_without_rate) > 0
  - name: nothing_known_later
    description: No row rests on what was recorded at or after the close of known_at.
    sql: >
      SELECT as_of, known_at, org_id, source_max_recorded_at
      FROM marts.organisation_daily
      WHERE source_max_recorded_at >= $close_known_at
  - name: hierarchy_acyclic
    description: Following parents must end; until it does these organisations count as accounts of their own.
    sql: SELECT as_of, known_at, org_id, parent_org_id FROM marts.organisation_daily WHERE has_cycle
  - name: mrr_known
    severity: warn
    description: The MRR of an organisation is known; an amount, an interval or an exchange rate is missing.
    sql: SELECT as_of, known_at, org_id, mrr_unknown FROM marts.organisation_daily WHERE mrr_unknown > 0
  - name: seats_known
    severity: warn
    description: The seats of running subscriptions are known.
    sql: SELECT as_of, known_at, org_id, seats_unknown FROM marts.organisation_daily WHERE seats_unknown > 0
  - name: mrr_adds_up
    description: The MRR of all organisations is the MRR of all running subscriptions, to the cent.
    sql: >
      SELECT o.mrr AS organisations_mrr, s.mrr AS subscriptions_mrr
      FROM (
          SELECT coalesce(sum(mrr), 0) AS mrr
          FROM marts.organisation_daily
          WHERE as_of = $as_of AND known_at = $known_at
      ) AS o
      CROSS JOIN (
          SELECT coalesce(sum(i.mrr), 0) AS mrr
          FROM intermediate.subscription_intervals AS i
          WHERE
              i.is_running AND i.from_on <= $as_of AND (i.to_on IS NULL OR i.to_on > $as_of)
              AND i.org_id NOT IN (
                  SELECT org_id
                  FROM marts.organisation_daily
                  WHERE as_of = $as_of AND known_at = $known_at AND mrr IS NULL
              )
      ) AS s
      WHERE o.mrr <> s.mrr
---*/
WITH today AS (
    SELECT
        s.org_id,
        s.subscription_id,
        s.plan,
        s.billing_interval,
        s.currency,
        s.seats,
        s.mrr,
        s.status,
        s.is_running,
        s.is_paid,
        s.is_running AND s.mrr_native IS NOT NULL AND s.mrr IS NULL AS lacks_rate,
        s.term_end_on,
        CASE WHEN NOT e.is_withdrawn AND e.end_on > $as_of THEN e.end_on END AS end_on
    FROM intermediate.subscription_intervals AS s
    LEFT JOIN intermediate.subscription_ends AS e ON s.subscription_id = e.subscription_id
    WHERE s.from_on <= $as_of AND (s.to_on IS NULL OR s.to_on > $as_of)
),
levels AS (
    SELECT
        org_id,
        CASE
            WHEN count(*) FILTER (WHERE is_running) = 0 THEN 0
            ELSE sum(seats) FILTER (WHERE is_running)
        END AS seats,
        CASE
            WHEN count(*) FILTER (WHERE is_running) = 0 THEN 0
            WHEN count(*) FILTER (WHERE is_running AND mrr IS NULL) = 0 THEN sum(mrr) FILTER (WHERE is_running)
        END AS mrr,
        sum(mrr) FILTER (WHERE is_running) AS known_mrr,
        count(*) FILTER (WHERE is_running AND seats IS NULL) AS seats_unknown,
        count(*) FILTER (WHERE is_running AND mrr IS NULL) AS mrr_unknown,
        list_sort(list_distinct(array_agg(currency) FILTER (WHERE lacks_rate))) AS currencies_without_rate,
        count(*) FILTER (WHERE is_paid) AS paid_subscriptions,
        count(*) FILTER (WHERE status = 'paused') AS paused,
        count(*) FILTER (WHERE status = 'trialing') AS trialing,
        min(term_end_on) FILTER (WHERE is_paid AND term_end_on >= $as_of) AS next_term_end_on,
        min(end_on) FILTER (WHERE is_paid) AS scheduled_end_on
    FROM today
    GROUP BY org_id
),
largest AS (
    SELECT org_id, plan, billing_interval, currency
    FROM today
    WHERE is_paid
    QUALIFY
        row_number() OVER (
            PARTITION BY org_id ORDER BY mrr DESC NULLS LAST, seats DESC NULLS LAST, subscription_id
        ) = 1
),
subscribed AS (
    SELECT
        org_id,
        min(valid_from) AS first_version_at,
        min(from_on) FILTER (WHERE is_paid) AS first_paid_on,
        max(to_on) FILTER (WHERE is_paid AND to_on <= $as_of) AS paid_until,
        max(recorded_at) AS recorded_at
    FROM intermediate.subscription_intervals
    WHERE valid_from < $close_as_of
    GROUP BY org_id
),
contract_versions AS (
    SELECT org_id, valid_from, valid_to, amount
    FROM staging.crm_contracts
    WHERE recorded_at < $close_known_at AND valid_from < $close_as_of
    QUALIFY
        row_number() OVER (PARTITION BY org_id, valid_from ORDER BY recorded_at DESC) = 1
),
contracts AS (
    SELECT
        i.canonical_org_id AS org_id,
        min(c.valid_from) AS first_contract_at,
        local_date(max(c.valid_to) FILTER (WHERE c.valid_to < $close_as_of), $reporting_tz) AS contract_until,
        count(*) FILTER (WHERE c.amount IS NULL AND (c.valid_to IS NULL OR c.valid_to >= $close_as_of)) AS off_billing
    FROM contract_versions AS c
    INNER JOIN intermediate.organisation_identity AS i ON c.org_id = i.org_id
    WHERE c.valid_to IS NULL OR c.valid_to > c.valid_from
    GROUP BY i.canonical_org_id
),
coverage_versions AS (
    SELECT child_org_id, payer_org_id, valid_from, valid_to
    FROM staging.org_coverage
    WHERE recorded_at < $close_known_at AND valid_from < $close_as_of
    QUALIFY
        row_number() OVER (PARTITION BY child_org_id, payer_org_id, valid_from ORDER BY recorded_at DESC) = 1
),
coverage AS (
    SELECT
        child.canonical_org_id AS org_id,
        payer.canonical_org_id AS payer_org_id,
        coalesce(l.paid_subscriptions, 0) > 0 AS payer_is_paying
    FROM coverage_versions AS c
    INNER JOIN intermediate.organisation_identity AS child ON c.child_org_id = child.org_id
    INNER JOIN intermediate.organisation_identity AS payer ON c.payer_org_id = payer.org_id
    LEFT JOIN levels AS l ON payer.canonical_org_id = l.org_id
    WHERE
        (c.valid_to IS NULL OR c.valid_to >= $close_as_of)
        AND child.canonical_org_id <> payer.canonical_org_id
    QUALIFY
        row_number() OVER (
            PARTITION BY child.canonical_org_id
            ORDER BY
                CASE WHEN coalesce(l.paid_subscriptions, 0) > 0 THEN 0 ELSE 1 END,
                c.valid_from DESC,
                payer.canonical_org_id
        ) = 1
),
sighted AS (
    SELECT
        h.org_id,
        h.root_org_id,
        h.parent_org_id,
        h.has_cycle,
        CAST(least(coalesce(o.created_at, o.first_recorded_at), s.first_version_at, c.first_contract_at) AS TIMESTAMP)
            AS first_seen_at
    FROM intermediate.hierarchy AS h
    LEFT JOIN intermediate.current_organisations AS o ON h.org_id = o.org_id
    LEFT JOIN subscribed AS s ON h.org_id = s.org_id
    LEFT JOIN contracts AS c ON h.org_id = c.org_id
),
facts AS (
    SELECT
        g.org_id,
        g.root_org_id,
        g.parent_org_id,
        g.has_cycle,
        g.first_seen_at,
        CASE
            WHEN l.paid_subscriptions > 0 THEN 'paying'
            WHEN v.payer_is_paying THEN 'covered'
            WHEN c.off_billing > 0 THEN 'custom_off_billing'
            WHEN l.paused > 0 THEN 'paused'
            WHEN l.trialing > 0 THEN 'trial'
            WHEN s.first_paid_on IS NOT NULL OR c.first_contract_at IS NOT NULL THEN 'churned'
            ELSE 'never_paid'
        END AS state,
        CASE
            WHEN l.org_id IS NULL THEN 0
            ELSE l.seats
        END AS seats,
        CASE
            WHEN l.org_id IS NULL THEN 0
            ELSE l.mrr
        END AS mrr,
        coalesce(l.seats, 0) AS known_seats,
        coalesce(l.known_mrr, 0) AS known_mrr,
        coalesce(l.paid_subscriptions, 0) AS paid_subscriptions,
        coalesce(l.seats_unknown, 0) AS seats_unknown,
        coalesce(l.mrr_unknown, 0) AS mrr_unknown,
        coalesce(l.currencies_without_rate, CAST([] AS VARCHAR[])) AS currencies_without_rate,
        l.next_term_end_on,
        l.scheduled_end_on,
        v.payer_org_id,
        least(s.first_paid_on, local_date(c.first_contract_at, $reporting_tz)) AS first_paid_on,
        greatest(s.paid_until, c.contract_until) AS paid_until,
        s.recorded_at
    FROM sighted AS g
    LEFT JOIN levels AS l ON g.org_id = l.org_id
    LEFT JOIN coverage AS v ON g.org_id = v.org_id
    LEFT JOIN contracts AS c ON g.org_id = c.org_id
    LEFT JOIN subscribed AS s ON g.org_id = s.org_id
    WHERE g.first_seen_at < $close_as_of
),
accounts AS (
    SELECT
        root_org_id,
        sum(known_seats) AS seats,
        sum(known_mrr) AS mrr,
        count(*) AS organisations
    FROM facts
    GROUP BY root_org_id
),
ranked AS (
    SELECT
        root_org_id,
        rank() OVER (ORDER BY mrr DESC) - 1 AS better,
        count(*) OVER () AS paying_accounts
    FROM accounts
    WHERE mrr > 0
),
tiers AS (
    SELECT
        a.root_org_id,
        a.seats,
        a.mrr,
        a.organisations,
        CASE
            WHEN $tiers_mode = 'percentile' THEN CASE
                WHEN r.better < r.paying_accounts * CAST($tiers_a_share AS DECIMAL(9, 6)) THEN 'A'
                WHEN
                    r.better
                    < r.paying_accounts * (CAST($tiers_a_share AS DECIMAL(9, 6)) + CAST($tiers_b_share AS DECIMAL(9, 6)))
                    THEN 'B'
                ELSE 'C'
            END
            WHEN a.mrr >= $tiers_a_mrr OR a.seats >= $tiers_a_seats THEN 'A'
            WHEN a.mrr >= $tiers_b_mrr OR a.seats >= $tiers_b_seats THEN 'B'
            ELSE 'C'
        END AS tier
    FROM accounts AS a
    LEFT JOIN ranked AS r ON a.root_org_id = r.root_org_id
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    f.org_id,
    o.name,
    o.domain,
    o.external_id,
    f.root_org_id,
    f.parent_org_id,
    f.has_cycle,
    f.state,
    f.state IN ('paying', 'covered', 'custom_off_billing') AS is_customer,
    CAST(f.seats AS BIGINT) AS seats,
    CAST(f.mrr AS DECIMAL(18, 2)) AS mrr,
    coalesce(o.tier_override, root.tier_override, t.tier) AS tier,
    CASE
        WHEN coalesce(o.tier_override, root.tier_override) IS NULL THEN CAST($tiers_mode AS VARCHAR)
        ELSE 'override'
    END AS tier_source,
    CAST(t.seats AS BIGINT) AS account_seats,
    CAST(t.mrr AS DECIMAL(18, 2)) AS account_mrr,
    CAST(t.organisations AS BIGINT) AS account_organisations,
    p.plan,
    p.billing_interval,
    p.currency,
    CAST(f.paid_subscriptions AS BIGINT) AS paid_subscriptions,
    f.next_term_end_on,
    f.scheduled_end_on,
    f.payer_org_id AS covered_by_org_id,
    f.first_paid_on,
    o.owner_id,
    u.name AS owner_name,
    coalesce(u.is_active, false) AS owner_is_active,
    o.members_active,
    CASE
        WHEN f.seats > 0 THEN share_of(o.members_active, f.seats)
    END AS seat_utilisation,
    o.pending_true_up_mrr,
    o.health_override,
    CAST(f.seats_unknown AS BIGINT) AS seats_unknown,
    CAST(f.mrr_unknown AS BIGINT) AS mrr_unknown,
    f.currencies_without_rate,
    CASE
        WHEN f.first_seen_at > TIMESTAMP '1970-01-01' THEN local_date(f.first_seen_at, $reporting_tz)
    END AS first_seen_on,
    CASE
        WHEN greatest(o.recorded_at, f.recorded_at) > TIMESTAMP '1970-01-01' THEN greatest(o.recorded_at, f.recorded_at)
    END AS source_max_recorded_at,
    o.hubspot_url,
    CASE f.state
        WHEN 'paying' THEN
            'Paying: ' || coalesce(counted(f.seats, 'seat'), 'unknown seats') || ', '
            || coalesce(CAST(CAST(f.mrr AS DECIMAL(18, 2)) AS VARCHAR), 'unknown') || ' MRR'
            || coalesce(' on ' || p.plan, '') || coalesce(', a subscription ends on ' || CAST(f.scheduled_end_on AS VARCHAR), '')
        WHEN 'covered' THEN 'Covered by the joint plan of ' || coalesce(payer.name, f.payer_org_id)
        WHEN 'custom_off_billing' THEN 'On a custom contract outside billing, known from the CRM'
        WHEN 'paused' THEN 'Its subscription is paused'
        WHEN 'trial' THEN 'In a trial'
        WHEN 'churned' THEN
            CASE
                WHEN f.first_paid_on > DATE '1970-01-01' THEN 'Paid since ' || CAST(f.first_paid_on AS VARCHAR)
                ELSE 'Paid before'
            END
            || coalesce(', ended on ' || CAST(f.paid_until AS VARCHAR), '') || ', nothing runs now'
        ELSE 'Has never paid'
    END
    || '.' AS why,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM facts AS f
INNER JOIN tiers AS t ON f.root_org_id = t.root_org_id
LEFT JOIN intermediate.current_organisations AS o ON f.org_id = o.org_id
LEFT JOIN intermediate.current_organisations AS root ON f.root_org_id = root.org_id
LEFT JOIN intermediate.current_organisations AS payer ON f.payer_org_id = payer.org_id
LEFT JOIN intermediate.current_users AS u ON o.owner_id = u.user_id
LEFT JOIN largest AS p ON f.org_id = p.org_id
