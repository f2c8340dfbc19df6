/*---
description: >
  Customers (paying, covered or custom_off_billing at the close of as_of) with high contraction or an NPS detractor;
  exactly these reasons decide who is on the list. Fully churned and fully paused organisations are not customers.
  Contraction compares the close of as_of - contraction.days (90) with the close of as_of, at one exchange rate (that
  of as_of) and without transfers: what an organisation handed over with the start of a joint plan in
  (as_of - contraction.days, as_of] is added back, what a payer took over is taken off. Seats are the coverage's own,
  else the covered organisation's of the day before; MRR is always the covered organisation's of the day before.
  contraction_pct = organic drop / baseline; negative when it grew; empty when the baseline is 0.
  Seat contraction is high when the drop is >= contraction.seats_pct of the baseline and >= contraction.seats_min, MRR
  contraction when it is >= contraction.mrr_pct and >= contraction.mrr_min (all inclusive).
  On a custom contract outside billing the seats and MRR of today are unknown, so its contraction is empty, never high;
  so is the MRR contraction when any MRR at either end is unknown, and the seat contraction likewise.
  A detractor is a contact whose latest valid answer in (as_of - nps.days, as_of] is <= nps.detractor_max, attributed
  to the organisation; anonymous answers never flag. A contact attributed to several organisations flags each, with
  nps_attribution_ambiguous.
  watch_reasons never set the flag. scheduled_downgrade: a known later version of a subscription running at the close
  of as_of has fewer seats or a lower MRR and still runs. payment_overdue>30d: a subscription has been past_due, as this
  organisation's and without a break (a version that ended before the next one began is one), for more than 30 local
  days. low_rating: a conversation attributed to it was rated
  <= interactions.dissatisfied_max on a local day in (as_of - interactions.days, as_of]; a rating without a time was
  given with the contact's last message. champion_left: a contact marked
  as champion left on a local day in (as_of - contraction.days, as_of] and was attributed to it at the moment before
  leaving. paused: one of its subscriptions is paused. no_touch_90d: no e-mail, call or meeting that was not automated
  with it or with a contact attributed to it at that moment on a local day in (as_of - 90, as_of]; never given when no
  engagement at all is known.
grain: [as_of, known_at, org_id]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  name: {type: VARCHAR, meaning: "display name"}
  root_org_id: {type: VARCHAR, meaning: "account it belongs to", not_null: true}
  state: {type: VARCHAR, meaning: "commercial state", not_null: true, accepted: [paying, covered, custom_off_billing]}
  tier: {type: VARCHAR, meaning: "tier of the account", not_null: true}
  plan: {type: VARCHAR, meaning: "plan of its largest paid subscription"}
  billing_interval: {type: VARCHAR, meaning: "interval of its largest paid subscription"}
  owner_id: {type: VARCHAR, meaning: "user who owns the relationship"}
  owner_name: {type: VARCHAR, meaning: "name of the owner"}
  reasons: {type: "VARCHAR[]", meaning: "why it is on the list, in this order", not_null: true, accepted: [seat_contraction, mrr_contraction, nps_detractor]}
  watch_reasons: {type: "VARCHAR[]", meaning: "further signals, in this order", not_null: true, accepted: [scheduled_downgrade, payment_overdue>30d, low_rating, champion_left, paused, no_touch_90d]}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR at the close of as_of"}
  seats_now: {type: BIGINT, meaning: "seats at the close of as_of; empty = unknown"}
  seats_baseline: {type: BIGINT, meaning: "seats at the close of baseline_on", not_null: true}
  mrr_baseline: {type: "DECIMAL(18,2)", meaning: "MRR at the close of baseline_on, exchange rate of as_of", not_null: true}
  baseline_on: {type: DATE, meaning: "as_of - contraction.days", not_null: true}
  seats_transferred_in: {type: BIGINT, meaning: "seats taken over with joint plans", not_null: true}
  seats_transferred_out: {type: BIGINT, meaning: "seats handed over to the payer of a joint plan", not_null: true}
  mrr_transferred_in: {type: "DECIMAL(18,2)", meaning: "MRR taken over with joint plans", not_null: true}
  mrr_transferred_out: {type: "DECIMAL(18,2)", meaning: "MRR handed over to the payer of a joint plan", not_null: true}
  seat_drop: {type: BIGINT, meaning: "organic seats lost; negative when it grew; empty = unknown"}
  seat_contraction_pct: {type: "DECIMAL(18,4)", meaning: "seat_drop / seats_baseline"}
  mrr_drop: {type: "DECIMAL(18,2)", meaning: "organic MRR lost; negative when it grew; empty = unknown"}
  mrr_contraction_pct: {type: "DECIMAL(18,4)", meaning: "mrr_drop / mrr_baseline"}
  seats_peak: {type: BIGINT, meaning: "most seats at any close from baseline_on to as_of", not_null: true}
  seats_drawdown: {type: BIGINT, meaning: "seats_peak - seats_now; empty = unknown"}
  mrr_peak: {type: "DECIMAL(18,2)", meaning: "highest MRR at any close from baseline_on to as_of, exchange rate of as_of", not_null: true}
  mrr_drawdown: {type: "DECIMAL(18,2)", meaning: "mrr_peak - mrr; empty = unknown"}
  detractor_contacts: {type: "VARCHAR[]", meaning: "ids of detractors, sorted", not_null: true}
  detractor_answers: {type: "VARCHAR[]", meaning: "name of the contact (its id where the name is unknown): score on day, comment; one for each detractor, sorted", not_null: true}
  lowest_score: {type: INTEGER, meaning: "lowest score of its detractors"}
  last_detractor_on: {type: DATE, meaning: "local day of the latest detractor's answer"}
  nps_attribution_ambiguous: {type: BOOLEAN, meaning: "one of its detractors may belong to another organisation", not_null: true}
  last_touch_on: {type: DATE, meaning: "local day of the last e-mail, call or meeting that was not automated"}
  last_touch_at: {type: TIMESTAMP, meaning: "instant of it (UTC)"}
  listed_at: {type: TIMESTAMP, meaning: "instant (UTC) at which as_of ended: nobody could know the row before"}
  contraction_days: {type: INTEGER, meaning: "length of the window of contraction in days", not_null: true}
  hubspot_url: {type: VARCHAR, meaning: "address of the record"}
  why: {type: VARCHAR, meaning: "the reasons in one sentence with their numbers", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH period AS (
    SELECT CAST($as_of AS DATE) - CAST($contraction_days AS INTEGER) AS baseline_on
),
detractors AS (
    SELECT
        n.org_id,
        list_sort(list_distinct(array_agg(n.contact_id))) AS contacts,
        list_sort(array_agg(
            coalesce(nullif(trim(c.name), ''), n.contact_id) || ': ' || CAST(n.score AS VARCHAR) || ' on ' || CAST(n.responded_on AS VARCHAR)
            || coalesce(', ' || nullif(trim(n.comment), ''), '')
        )) AS answers,
        count(DISTINCT n.contact_id) AS people,
        min(n.score) AS lowest_score,
        max(n.responded_on) AS last_on,
        max(CASE WHEN n.attribution_ambiguous THEN 1 ELSE 0 END) AS ambiguous
    FROM intermediate.nps_current AS n
    LEFT JOIN intermediate.current_contacts AS c ON n.contact_id = c.contact_id
    WHERE n.is_detractor AND n.contact_id IS NOT NULL AND n.org_id IS NOT NULL
    GROUP BY n.org_id
),
drops AS (
    SELECT
        o.org_id,
        o.name,
        o.root_org_id,
        o.state,
        o.tier,
        o.plan,
        o.billing_interval,
        o.owner_id,
        o.owner_name,
        o.mrr,
        o.seats AS seats_now,
        o.hubspot_url,
        coalesce(l.seats_baseline, 0) AS seats_baseline,
        coalesce(l.mrr_baseline, 0) AS mrr_baseline,
        coalesce(l.seats_in, 0) AS seats_in,
        coalesce(l.seats_out, 0) AS seats_out,
        coalesce(l.mrr_in, 0) AS mrr_in,
        coalesce(l.mrr_out, 0) AS mrr_out,
        coalesce(l.seats_peak, 0) AS seats_peak,
        coalesce(l.mrr_peak, 0) AS mrr_peak,
        CASE WHEN o.state <> 'custom_off_billing' THEN CASE WHEN l.org_id IS NULL THEN 0 ELSE l.seat_drop END END AS seat_drop,
        CASE WHEN o.state <> 'custom_off_billing' THEN CASE WHEN l.org_id IS NULL THEN 0 ELSE l.mrr_drop END END AS mrr_drop,
        o.state <> 'custom_off_billing' AND coalesce(l.is_seat_contraction, false) AS is_seat_contraction,
        o.state <> 'custom_off_billing' AND coalesce(l.is_mrr_contraction, false) AS is_mrr_contraction,
        d.contacts,
        d.answers,
        coalesce(d.people, 0) AS people,
        d.lowest_score,
        d.last_on,
        coalesce(d.ambiguous, 0) AS ambiguous
    FROM marts.organisation_daily AS o
    LEFT JOIN intermediate.contraction AS l ON o.org_id = l.org_id
    LEFT JOIN detractors AS d ON o.org_id = d.org_id
    WHERE o.as_of = $as_of AND o.known_at = $known_at AND o.is_customer
),
flagged AS (
    SELECT *
    FROM drops
    WHERE is_seat_contraction OR is_mrr_contraction OR people > 0
),
running AS (
    SELECT subscription_id, org_id, seats, mrr
    FROM intermediate.subscription_intervals
    WHERE is_running AND from_on <= $as_of AND (to_on IS NULL OR to_on > $as_of)
),
downgrades AS (
    SELECT DISTINCT r.org_id
    FROM running AS r
    INNER JOIN intermediate.subscription_intervals AS f ON r.subscription_id = f.subscription_id
    WHERE f.is_running AND f.from_on > $as_of AND (f.seats < r.seats OR f.mrr < r.mrr)
),
past_due AS (
    SELECT
        subscription_id,
        org_id,
        valid_from,
        from_on,
        to_on,
        coalesce(org_id <> lag(org_id) OVER of_subscription OR valid_from > lag(valid_to) OVER of_subscription, true)
            AS is_start
    FROM intermediate.subscription_intervals
    WHERE status = 'past_due'
    WINDOW of_subscription AS (PARTITION BY subscription_id ORDER BY valid_from)
),
past_due_since AS (
    SELECT
        org_id,
        from_on,
        to_on,
        max(CASE WHEN is_start THEN from_on END) OVER (PARTITION BY subscription_id ORDER BY valid_from) AS since
    FROM past_due
),
overdue AS (
    SELECT DISTINCT org_id
    FROM past_due_since
    WHERE from_on <= $as_of AND (to_on IS NULL OR to_on > $as_of) AND CAST($as_of AS DATE) - since > 30
),
paused AS (
    SELECT DISTINCT org_id
    FROM intermediate.subscription_intervals
    WHERE status = 'paused' AND from_on <= $as_of AND (to_on IS NULL OR to_on > $as_of)
),
low_ratings AS (
    SELECT DISTINCT t.org_id
    FROM intermediate.current_conversations AS c
    INNER JOIN intermediate.conversation_organisations AS t ON c.conversation_id = t.conversation_id
    WHERE
        t.org_id IS NOT NULL
        AND c.rating <= $interactions_dissatisfied_max
        AND local_date(coalesce(c.rated_at, t.last_contact_at), $reporting_tz) > CAST($as_of AS DATE) - CAST($interactions_days AS INTEGER)
),
champions AS (
    SELECT DISTINCT a.org_id
    FROM intermediate.current_contacts AS c
    CROSS JOIN period AS p
    INNER JOIN intermediate.contact_attribution AS a
        ON
            c.contact_id = a.contact_id
            AND a.valid_from < c.left_at
            AND (a.valid_to IS NULL OR a.valid_to >= c.left_at)
    WHERE c.is_champion AND local_date(c.left_at, $reporting_tz) > p.baseline_on
),
engagements_known AS (
    SELECT count(*) AS engagements
    FROM intermediate.current_engagements
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    f.org_id,
    f.name,
    f.root_org_id,
    f.state,
    f.tier,
    f.plan,
    f.billing_interval,
    f.owner_id,
    f.owner_name,
    codes([
        CASE WHEN f.is_seat_contraction THEN 'seat_contraction' END,
        CASE WHEN f.is_mrr_contraction THEN 'mrr_contraction' END,
        CASE WHEN f.people > 0 THEN 'nps_detractor' END
    ]) AS reasons,
    codes([
        CASE WHEN w.org_id IS NOT NULL THEN 'scheduled_downgrade' END,
        CASE WHEN v.org_id IS NOT NULL THEN 'payment_overdue>30d' END,
        CASE WHEN r.org_id IS NOT NULL THEN 'low_rating' END,
        CASE WHEN c.org_id IS NOT NULL THEN 'champion_left' END,
        CASE WHEN s.org_id IS NOT NULL THEN 'paused' END,
        CASE
            WHEN
                k.engagements > 0
                AND coalesce(local_date(t.last_touch_at, $reporting_tz) <= CAST($as_of AS DATE) - 90, true)
                THEN 'no_touch_90d'
        END
    ]) AS watch_reasons,
    f.mrr,
    f.seats_now,
    CAST(f.seats_baseline AS BIGINT) AS seats_baseline,
    CAST(f.mrr_baseline AS DECIMAL(18, 2)) AS mrr_baseline,
    p.baseline_on,
    CAST(f.seats_in AS BIGINT) AS seats_transferred_in,
    CAST(f.seats_out AS BIGINT) AS seats_transferred_out,
    CAST(f.mrr_in AS DECIMAL(18, 2)) AS mrr_transferred_in,
    CAST(f.mrr_out AS DECIMAL(18, 2)) AS mrr_transferred_out,
    CAST(f.seat_drop AS BIGINT) AS seat_drop,
    CASE
        WHEN f.seats_baseline > 0 THEN share_of(f.seat_drop, f.seats_baseline)
    END AS seat_contraction_pct,
    CAST(f.mrr_drop AS DECIMAL(18, 2)) AS mrr_drop,
    CASE
        WHEN f.mrr_baseline > 0 THEN share_of(f.mrr_drop, f.mrr_baseline)
    END AS mrr_contraction_pct,
    CAST(f.seats_peak AS BIGINT) AS seats_peak,
    CAST(f.seats_peak - f.seats_now AS BIGINT) AS seats_drawdown,
    CAST(f.mrr_peak AS DECIMAL(18, 2)) AS mrr_peak,
    CAST(f.mrr_peak - f.mrr AS DECIMAL(18, 2)) AS mrr_drawdown,
    coalesce(f.contacts, CAST([] AS VARCHAR[])) AS detractor_contacts,
    coalesce(f.answers, CAST([] AS VARCHAR[])) AS detractor_answers,
    f.lowest_score,
    f.last_on AS last_detractor_on,
    f.ambiguous = 1 AS nps_attribution_ambiguous,
    local_date(t.last_touch_at, $reporting_tz) AS last_touch_on,
    t.last_touch_at,
    CAST($close_as_of AS TIMESTAMP) AS listed_at,
    CAST($contraction_days AS INTEGER) AS contraction_days,
    f.hubspot_url,
    concat_ws(
        '; ',
        CASE
            WHEN f.is_seat_contraction
                THEN
                    counted(f.seats_baseline, 'seat') || ' on ' || CAST(p.baseline_on AS VARCHAR) || ', '
                    || coalesce(CAST(f.seats_now AS VARCHAR), 'unknown') || ' now: -' || CAST(f.seat_drop AS VARCHAR)
                    || ' ('
                    || CAST(CAST(100.0 * CAST(f.seat_drop AS DOUBLE) / f.seats_baseline AS DECIMAL(18, 1)) AS VARCHAR)
                    || ' %)'
                    || CASE
                        WHEN f.seats_in <> 0 OR f.seats_out <> 0
                            THEN
                                ', without joint plans (' || CAST(f.seats_in AS VARCHAR) || ' in, '
                                || CAST(f.seats_out AS VARCHAR) || ' out)'
                        ELSE ''
                    END
        END,
        CASE
            WHEN f.is_mrr_contraction
                THEN
                    CAST(CAST(f.mrr_baseline AS DECIMAL(18, 2)) AS VARCHAR) || ' MRR on '
                    || CAST(p.baseline_on AS VARCHAR) || ', '
                    || coalesce(CAST(CAST(f.mrr AS DECIMAL(18, 2)) AS VARCHAR), 'unknown') || ' now: -'
                    || CAST(CAST(f.mrr_drop AS DECIMAL(18, 2)) AS VARCHAR) || ' ('
                    || CAST(CAST(100.0 * CAST(f.mrr_drop AS DOUBLE) / f.mrr_baseline AS DECIMAL(18, 1)) AS VARCHAR)
                    || ' %)'
                    || CASE
                        WHEN f.mrr_in <> 0 OR f.mrr_out <> 0
                            THEN
                                ', without joint plans ('
                                || CAST(CAST(f.mrr_in AS DECIMAL(18, 2)) AS VARCHAR) || ' in, '
                                || CAST(CAST(f.mrr_out AS DECIMAL(18, 2)) AS VARCHAR) || ' out)'
                        ELSE ''
                    END
        END,
        CASE
            WHEN f.people > 0
                THEN
                    counted(f.people, 'detractor')
                    || ', lowest score ' || CAST(f.lowest_score AS VARCHAR)
                    || ', last answer on ' || CAST(f.last_on AS VARCHAR)
        END
    ) || '.' AS why,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM flagged AS f
CROSS JOIN period AS p
CROSS JOIN engagements_known AS k
LEFT JOIN downgrades AS w ON f.org_id = w.org_id
LEFT JOIN overdue AS v ON f.org_id = v.org_id
LEFT JOIN low_ratings AS r ON f.org_id = r.org_id
LEFT JOIN champions AS c ON f.org_id = c.org_id
LEFT JOIN paused AS s ON f.org_id = s.org_id
LEFT JOIN intermediate.organisation_engagements AS t ON f.org_id = t.org_id
