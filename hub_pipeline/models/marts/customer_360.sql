/*---
description: >
  Everything a customer-success manager asks first about one organisation: its commercial state, next renewal, flags,
  NPS, conversations, touches, tasks, success plan and health. Next renewal: the contract of marts.renewal_pipeline that
  is not renewed yet with the earliest renew_by, else the renewed one. Health, of customers only, has five components
  from 0 to 100, each empty when nothing is known: commercial (weight 30) 100, 50 with any contraction, 0 with a high one
  or a known end; seats (25) 100 x least(1, active members / seats); sentiment (20) 10 x the mean of the latest NPS
  scores of its contacts, at most 30 with a current detractor; engagement (15) 100, 60, 20, 0 for a last human touch
  within 30, 90, 180 days or longer ago or never, empty when no engagement at all is known; support (10) 100 less 25 for
  each conversation rated at most interactions.dissatisfied_max within interactions.days, not below 0, empty without a
  conversation in that time. Health is their weighted mean over what is known, with the share of the weights that is
  known. health_override is what HubSpot says: beside it, never instead.
grain: [as_of, known_at, org_id]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  name: {type: VARCHAR, meaning: "display name"}
  root_org_id: {type: VARCHAR, meaning: "account it belongs to", not_null: true}
  state: {type: VARCHAR, meaning: "commercial state", not_null: true}
  is_customer: {type: BOOLEAN, meaning: "paying, covered or custom_off_billing", not_null: true}
  tier: {type: VARCHAR, meaning: "tier of its account", not_null: true}
  plan: {type: VARCHAR, meaning: "plan of its largest paid subscription"}
  seats: {type: BIGINT, meaning: "seats of running subscriptions; empty = unknown"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR, reporting currency; empty = unknown"}
  members_active: {type: BIGINT, meaning: "members who used the product lately"}
  seat_utilisation: {type: "DECIMAL(18,4)", meaning: "members_active / seats"}
  owner_id: {type: VARCHAR, meaning: "user who owns the relationship"}
  owner_name: {type: VARCHAR, meaning: "name of the owner"}
  next_renewal_on: {type: DATE, meaning: "renew_by of the next renewal"}
  next_renewal_status: {type: VARCHAR, meaning: "status of that renewal", accepted: [renewed, open, lost, missing, no_deal]}
  next_renewal_mrr: {type: "DECIMAL(18,2)", meaning: "MRR of that contract"}
  next_renewal_deal_id: {type: VARCHAR, meaning: "its deal"}
  is_fast_growing: {type: BOOLEAN, meaning: "marts.seat_growth says so", not_null: true}
  risk_reasons: {type: "VARCHAR[]", meaning: "why it is at risk, from marts.at_risk; none when it is not", not_null: true}
  seat_drop: {type: BIGINT, meaning: "organic seats lost within contraction.days; negative when it grew; empty = unknown"}
  seats_baseline: {type: BIGINT, meaning: "seats at the start of that window", not_null: true}
  mrr_drop: {type: "DECIMAL(18,2)", meaning: "organic MRR lost within contraction.days; negative when it grew; empty = unknown"}
  mrr_baseline: {type: "DECIMAL(18,2)", meaning: "MRR at the start of that window, exchange rate of as_of", not_null: true}
  churn_state: {type: VARCHAR, meaning: "of its subscriptions in marts.churn_flags the first of scheduled, churned, reactivated, false_alarm", accepted: [scheduled, churned, reactivated, false_alarm]}
  churn_on: {type: DATE, meaning: "earliest churn date of that state"}
  nps_answers: {type: BIGINT, meaning: "contacts with a current answer", not_null: true}
  nps_mean: {type: "DECIMAL(4,1)", meaning: "mean of their scores"}
  nps_detractors: {type: BIGINT, meaning: "detractors among them", not_null: true}
  last_conversation_on: {type: DATE, meaning: "local day of the last message of a contact in Intercom"}
  conversations_in_window: {type: BIGINT, meaning: "conversations with a message of a contact within interactions.days", not_null: true}
  dissatisfied_conversations: {type: BIGINT, meaning: "conversations rated low within interactions.days", not_null: true}
  last_touch_on: {type: DATE, meaning: "local day of the last e-mail, call or meeting that was not automated"}
  last_note_on: {type: DATE, meaning: "local day of the last note"}
  open_tasks: {type: BIGINT, meaning: "open tasks", not_null: true}
  overdue_tasks: {type: BIGINT, meaning: "open tasks that were due", not_null: true}
  success_plan_status: {type: VARCHAR, meaning: "status of its success plan"}
  success_plan_updated_on: {type: DATE, meaning: "local day of the plan's last update"}
  success_plan_objectives: {type: VARCHAR, meaning: "objectives of the plan"}
  health_commercial: {type: "DECIMAL(5,1)", meaning: "0 to 100; empty = not a customer"}
  health_seats: {type: "DECIMAL(5,1)", meaning: "0 to 100; empty = seats or members unknown"}
  health_sentiment: {type: "DECIMAL(5,1)", meaning: "0 to 100; empty = no current answer"}
  health_engagement: {type: "DECIMAL(5,1)", meaning: "0 to 100; empty = no engagements known at all"}
  health_support: {type: "DECIMAL(5,1)", meaning: "0 to 100; empty = no conversations"}
  health: {type: "DECIMAL(5,1)", meaning: "weighted mean of the known components"}
  health_coverage: {type: "DECIMAL(5,4)", meaning: "share of the weights that is known"}
  health_override: {type: VARCHAR, meaning: "health set by hand in HubSpot"}
  why: {type: "VARCHAR[]", meaning: "what lowers its health, in this order", not_null: true, accepted: [scheduled_end, high_contraction, contraction, low_utilisation, detractor, low_nps, no_touch_90d, dissatisfied_conversations]}
  hubspot_url: {type: VARCHAR, meaning: "address of the record"}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH renewals AS (
    SELECT org_id, renew_by, status, mrr_at_stake, deal_id
    FROM marts.renewal_pipeline
    WHERE as_of = $as_of AND known_at = $known_at AND subscription_id IS NOT NULL AND renew_by IS NOT NULL
    QUALIFY
        row_number() OVER (
            PARTITION BY org_id ORDER BY CASE WHEN status = 'renewed' THEN 1 ELSE 0 END, renew_by, renewal_id
        ) = 1
),
churn_ranks AS (
    SELECT
        org_id,
        state,
        churn_date,
        CASE state WHEN 'scheduled' THEN 1 WHEN 'churned' THEN 2 WHEN 'reactivated' THEN 3 ELSE 4 END AS rank
    FROM marts.churn_flags
    WHERE as_of = $as_of AND known_at = $known_at
),
churn AS (
    SELECT org_id, state, churn_date
    FROM churn_ranks
    QUALIFY
        row_number() OVER (PARTITION BY org_id ORDER BY rank, churn_date, state) = 1
),
answers AS (
    SELECT
        org_id,
        count(DISTINCT contact_id) AS contacts,
        avg(CAST(score AS DOUBLE)) AS mean_score,
        count(DISTINCT contact_id) FILTER (WHERE is_detractor) AS detractors
    FROM intermediate.nps_current
    WHERE contact_id IS NOT NULL AND org_id IS NOT NULL
    GROUP BY org_id
),
conversations AS (
    SELECT
        t.org_id,
        max(t.last_contact_at) AS last_contact_at,
        count(DISTINCT t.conversation_id) FILTER (WHERE t.contact_messages > 0) AS in_window,
        count(DISTINCT t.conversation_id) FILTER (
            WHERE
            c.rating <= $interactions_dissatisfied_max
            AND local_date(c.rated_at, $reporting_tz) > CAST($as_of AS DATE) - CAST($interactions_days AS INTEGER)
        ) AS dissatisfied
    FROM intermediate.conversation_organisations AS t
    INNER JOIN intermediate.current_conversations AS c ON t.conversation_id = c.conversation_id
    WHERE t.org_id IS NOT NULL
    GROUP BY t.org_id
),
plans AS (
    SELECT i.canonical_org_id AS org_id, s.status, s.objectives, s.updated_at
    FROM staging.success_plans AS s
    INNER JOIN intermediate.organisation_identity AS i ON s.org_id = i.org_id
    WHERE s.recorded_at < $close_known_at AND (s.updated_at IS NULL OR s.updated_at < $close_as_of)
    QUALIFY
        row_number() OVER (
            PARTITION BY i.canonical_org_id ORDER BY s.updated_at DESC NULLS LAST, s.recorded_at DESC, s.org_id
        ) = 1
),
engagements_known AS (
    SELECT count(*) AS engagements
    FROM intermediate.current_engagements
),
joined AS (
    SELECT
        o.*,
        r.renew_by,
        r.status AS renewal_status,
        r.mrr_at_stake,
        r.deal_id,
        coalesce(g.is_fast_growing, false) AS is_fast_growing,
        coalesce(k.reasons, CAST([] AS VARCHAR[])) AS risk_reasons,
        CASE WHEN o.state <> 'custom_off_billing' THEN CASE WHEN d.org_id IS NULL THEN 0 ELSE d.seat_drop END END AS seat_drop,
        CASE WHEN o.state <> 'custom_off_billing' THEN CASE WHEN d.org_id IS NULL THEN 0 ELSE d.mrr_drop END END AS mrr_drop,
        coalesce(d.seats_baseline, 0) AS seats_baseline,
        coalesce(d.mrr_baseline, 0) AS mrr_baseline,
        c.state AS churn_state,
        c.churn_date,
        coalesce(n.contacts, 0) AS nps_answers,
        n.mean_score,
        coalesce(n.detractors, 0) AS detractors,
        local_date(v.last_contact_at, $reporting_tz) AS last_conversation_on,
        coalesce(v.in_window, 0) AS in_window,
        coalesce(v.dissatisfied, 0) AS dissatisfied,
        local_date(e.last_touch_at, $reporting_tz) AS last_touch_on,
        local_date(e.last_note_at, $reporting_tz) AS last_note_on,
        coalesce(e.open_tasks, 0) AS open_tasks,
        coalesce(e.overdue_tasks, 0) AS overdue_tasks,
        p.status AS plan_status,
        p.objectives,
        local_date(p.updated_at, $reporting_tz) AS plan_updated_on,
        o.state <> 'custom_off_billing' AND coalesce(d.is_seat_contraction OR d.is_mrr_contraction, false) AS is_high_contraction,
        o.state <> 'custom_off_billing' AND (coalesce(d.seat_drop > 0, false) OR coalesce(d.mrr_drop > 0, false)) AS is_contraction,
        ek.engagements
    FROM marts.organisation_daily AS o
    CROSS JOIN engagements_known AS ek
    LEFT JOIN renewals AS r ON o.org_id = r.org_id
    LEFT JOIN marts.seat_growth AS g ON o.org_id = g.org_id AND g.as_of = $as_of AND g.known_at = $known_at
    LEFT JOIN marts.at_risk AS k ON o.org_id = k.org_id AND k.as_of = $as_of AND k.known_at = $known_at
    LEFT JOIN churn AS c ON o.org_id = c.org_id
    LEFT JOIN answers AS n ON o.org_id = n.org_id
    LEFT JOIN conversations AS v ON o.org_id = v.org_id
    LEFT JOIN intermediate.organisation_engagements AS e ON o.org_id = e.org_id
    LEFT JOIN plans AS p ON o.org_id = p.org_id
    LEFT JOIN intermediate.contraction AS d ON o.org_id = d.org_id
    WHERE o.as_of = $as_of AND o.known_at = $known_at
),
components AS (
    SELECT
        *,
        CASE
            WHEN NOT is_customer THEN NULL
            WHEN is_high_contraction OR scheduled_end_on IS NOT NULL THEN 0
            WHEN is_contraction THEN 50
            ELSE 100
        END AS commercial,
        CASE WHEN is_customer AND seats > 0 AND members_active IS NOT NULL THEN least(100.0, 100 * CAST(members_active AS DOUBLE) / seats) END AS seats_used,
        CASE
            WHEN NOT is_customer THEN NULL
            WHEN detractors > 0 THEN least(10.0 * mean_score, 30.0)
            ELSE 10.0 * mean_score
        END AS sentiment,
        CASE
            WHEN NOT is_customer OR engagements = 0 THEN NULL
            WHEN last_touch_on > CAST($as_of AS DATE) - 30 THEN 100
            WHEN last_touch_on > CAST($as_of AS DATE) - 90 THEN 60
            WHEN last_touch_on > CAST($as_of AS DATE) - 180 THEN 20
            ELSE 0
        END AS engagement,
        CASE
            WHEN is_customer AND (in_window > 0 OR dissatisfied > 0) THEN greatest(0, 100 - 25 * dissatisfied)
        END AS support
    FROM joined
),
weighted AS (
    SELECT
        *,
        CASE WHEN commercial IS NULL THEN 0 ELSE 30 END
        + CASE WHEN seats_used IS NULL THEN 0 ELSE 25 END
        + CASE WHEN sentiment IS NULL THEN 0 ELSE 20 END
        + CASE WHEN engagement IS NULL THEN 0 ELSE 15 END
        + CASE WHEN support IS NULL THEN 0 ELSE 10 END AS known_weight,
        30 * coalesce(commercial, 0) + 25 * coalesce(seats_used, 0) + 20 * coalesce(sentiment, 0)
        + 15 * coalesce(engagement, 0) + 10 * coalesce(support, 0) AS weighted_sum
    FROM components
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    org_id,
    name,
    root_org_id,
    state,
    is_customer,
    tier,
    plan,
    seats,
    mrr,
    members_active,
    seat_utilisation,
    owner_id,
    owner_name,
    renew_by AS next_renewal_on,
    renewal_status AS next_renewal_status,
    mrr_at_stake AS next_renewal_mrr,
    deal_id AS next_renewal_deal_id,
    is_fast_growing,
    risk_reasons,
    CAST(seat_drop AS BIGINT) AS seat_drop,
    CAST(seats_baseline AS BIGINT) AS seats_baseline,
    CAST(mrr_drop AS DECIMAL(18, 2)) AS mrr_drop,
    CAST(mrr_baseline AS DECIMAL(18, 2)) AS mrr_baseline,
    churn_state,
    churn_date AS churn_on,
    nps_answers,
    CAST(round(mean_score, 1) AS DECIMAL(4, 1)) AS nps_mean,
    detractors AS nps_detractors,
    last_conversation_on,
    in_window AS conversations_in_window,
    dissatisfied AS dissatisfied_conversations,
    last_touch_on,
    last_note_on,
    open_tasks,
    overdue_tasks,
    plan_status AS success_plan_status,
    plan_updated_on AS success_plan_updated_on,
    objectives AS success_plan_objectives,
    CAST(commercial AS DECIMAL(5, 1)) AS health_commercial,
    CAST(round(seats_used, 1) AS DECIMAL(5, 1)) AS health_seats,
    CAST(round(sentiment, 1) AS DECIMAL(5, 1)) AS health_sentiment,
    CAST(engagement AS DECIMAL(5, 1)) AS health_engagement,
    CAST(support AS DECIMAL(5, 1)) AS health_support,
    CASE WHEN known_weight > 0 THEN CAST(round(weighted_sum / known_weight, 1) AS DECIMAL(5, 1)) END AS health,
    CASE WHEN is_customer THEN CAST(known_weight / 100.0 AS DECIMAL(5, 4)) END AS health_coverage,
    health_override,
    CASE
        WHEN is_customer THEN codes([
            CASE WHEN scheduled_end_on IS NOT NULL THEN 'scheduled_end' END,
            CASE WHEN is_high_contraction THEN 'high_contraction' END,
            CASE WHEN is_contraction AND NOT is_high_contraction THEN 'contraction' END,
            CASE WHEN seats_used < 50 THEN 'low_utilisation' END,
            CASE WHEN detractors > 0 THEN 'detractor' END,
            CASE WHEN sentiment < 70 AND detractors = 0 THEN 'low_nps' END,
            CASE WHEN engagement <= 20 THEN 'no_touch_90d' END,
            CASE WHEN dissatisfied > 0 THEN 'dissatisfied_conversations' END
        ])
        ELSE CAST([] AS VARCHAR[])
    END AS why,
    hubspot_url,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM weighted
