/*---
description: >
  Open upsell deals of the post-sales pipeline, and organisations that look ready for more. Kinds of candidates:
  fast_growing: marts.seat_growth says so and it has no open upsell deal, in whatever pipeline. utilisation: paying, and
  active members are at least upsell.utilisation (90 %) of its seats, which are above 0. true_up: pending_true_up_mrr is
  above 0. annual: paying month by month with an MRR above renewal.mrr_over; its largest paid plan by MRR (of equals the
  lowest id) is then billed by the month and has no term of a year. joint_plan_parent: two or more paying organisations
  have the same parent. joint_plan_domain: two or more paying organisations of different accounts have records with the
  same domain, a leading www. aside, that is not a free-mail one. Paying means a paid plan runs at the close of as_of. A
  joint plan has one row for all its organisations, with what is known of their seats and MRR together; org_id is the
  parent, or the largest of them by MRR, of equals the lowest id.
grain: [as_of, known_at, upsell_id]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  upsell_id: {type: VARCHAR, meaning: "deal:<id>, else <kind>:<organisation, parent or domain>", not_null: true}
  kind: {type: VARCHAR, meaning: "open deal, or why it is a candidate", not_null: true, accepted: [open_deal, fast_growing, utilisation, true_up, annual, joint_plan_parent, joint_plan_domain]}
  org_id: {type: VARCHAR, meaning: "organisation; empty = the deal has none"}
  org_ids: {type: "VARCHAR[]", meaning: "all organisations concerned, sorted", not_null: true}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_id: {type: VARCHAR, meaning: "owner of the deal, or of the organisation"}
  owner_name: {type: VARCHAR, meaning: "name of that owner"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  seats: {type: BIGINT, meaning: "seats now"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR now, reporting currency"}
  organic_seat_delta: {type: BIGINT, meaning: "of marts.seat_growth"}
  seat_utilisation: {type: "DECIMAL(18,4)", meaning: "active members / seats"}
  pending_true_up_mrr: {type: "DECIMAL(18,2)", meaning: "MRR a pending true-up would add"}
  has_open_upsell_deal: {type: BOOLEAN, meaning: "one of its organisations has an open upsell deal, in whatever pipeline", not_null: true}
  deal_id: {type: VARCHAR, meaning: "deal"}
  deal_name: {type: VARCHAR, meaning: "name of the deal"}
  deal_amount: {type: "DECIMAL(18,2)", meaning: "amount as typed, currency of the deal"}
  deal_currency: {type: VARCHAR, meaning: "currency of the deal"}
  stage: {type: VARCHAR, meaning: "stage of the deal"}
  close_date: {type: DATE, meaning: "close date of the deal"}
  hubspot_url: {type: VARCHAR, meaning: "address of the deal, or of the organisation"}
  why: {type: VARCHAR, meaning: "the row with its numbers, one sentence", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
---*/
WITH upsell_deals AS (
    SELECT *
    FROM intermediate.current_deals
    WHERE deal_type = 'upsell' AND status = 'open'
),
with_deal AS (
    SELECT DISTINCT org_id
    FROM upsell_deals
    WHERE org_id IS NOT NULL
),
largest_plans AS (
    SELECT org_id, billing_interval = 'month' AND NOT is_annual AS is_month_by_month
    FROM intermediate.renewal_contracts
    QUALIFY
        row_number() OVER (PARTITION BY org_id ORDER BY coalesce(mrr, 0) DESC, subscription_id) = 1
),
organisations AS (
    SELECT
        o.org_id,
        o.name,
        regexp_replace(o.domain, '^www\.', '') AS domain,
        o.root_org_id,
        o.parent_org_id,
        o.state,
        o.tier,
        o.seats,
        o.mrr,
        coalesce(l.is_month_by_month, false) AS is_month_by_month,
        o.owner_id,
        o.owner_name,
        o.members_active,
        o.seat_utilisation,
        o.pending_true_up_mrr,
        o.hubspot_url,
        g.organic_seat_delta,
        coalesce(g.is_fast_growing, false) AS is_fast_growing,
        w.org_id IS NOT NULL AS has_open_upsell_deal
    FROM marts.organisation_daily AS o
    LEFT JOIN marts.seat_growth AS g ON o.org_id = g.org_id AND g.as_of = $as_of AND g.known_at = $known_at
    LEFT JOIN with_deal AS w ON o.org_id = w.org_id
    LEFT JOIN largest_plans AS l ON o.org_id = l.org_id
    WHERE o.as_of = $as_of AND o.known_at = $known_at
),
single AS (
    SELECT
        o.*,
        unnest(codes([
            CASE WHEN o.is_fast_growing AND NOT o.has_open_upsell_deal THEN 'fast_growing' END,
            CASE
                WHEN
                    o.state = 'paying'
                    AND o.seats > 0
                    AND o.members_active >= o.seats * CAST($upsell_utilisation AS DECIMAL(9, 6))
                    THEN 'utilisation'
            END,
            CASE WHEN o.pending_true_up_mrr > 0 THEN 'true_up' END,
            CASE
                WHEN o.is_month_by_month AND o.mrr > CAST($renewal_mrr_over AS DECIMAL(18, 2))
                    THEN 'annual'
            END
        ])) AS kind
    FROM organisations AS o
),
by_parent AS (
    SELECT
        o.parent_org_id AS shared,
        list_sort(array_agg(o.org_id)) AS org_ids,
        count(*) AS members,
        sum(o.seats) AS seats,
        sum(o.mrr) AS mrr,
        bool_or(o.has_open_upsell_deal) AS has_open_upsell_deal
    FROM organisations AS o
    WHERE o.state = 'paying' AND o.parent_org_id IS NOT NULL
    GROUP BY o.parent_org_id
    HAVING count(*) > 1
),
by_domain AS (
    SELECT
        o.domain AS shared,
        list_sort(array_agg(o.org_id)) AS org_ids,
        count(*) AS members,
        sum(o.seats) AS seats,
        sum(o.mrr) AS mrr,
        bool_or(o.has_open_upsell_deal) AS has_open_upsell_deal
    FROM organisations AS o
    WHERE
        o.state = 'paying'
        AND o.domain IS NOT NULL
        AND o.domain <> ''
        AND NOT list_contains(CAST($matching_free_mail_domains AS VARCHAR[]), o.domain)
    GROUP BY o.domain
    HAVING count(DISTINCT o.root_org_id) > 1
),
largest AS (
    SELECT domain, org_id, name, owner_id, owner_name, tier, hubspot_url
    FROM organisations
    WHERE state = 'paying'
    QUALIFY
        row_number() OVER (PARTITION BY domain ORDER BY coalesce(mrr, 0) DESC, org_id) = 1
),
rows_of_all AS (
    SELECT
        'deal:' || d.deal_id AS upsell_id,
        'open_deal' AS kind,
        d.org_id,
        CASE WHEN d.org_id IS NULL THEN CAST([] AS VARCHAR[]) ELSE [d.org_id] END AS org_ids,
        o.name,
        d.owner_id,
        u.name AS owner_name,
        o.tier,
        o.seats,
        o.mrr,
        o.organic_seat_delta,
        o.seat_utilisation,
        o.pending_true_up_mrr,
        true AS has_open_upsell_deal,
        d.deal_id,
        d.name AS deal_name,
        d.amount AS deal_amount,
        d.currency AS deal_currency,
        d.stage,
        d.renew_by AS close_date,
        d.hubspot_url,
        'Open upsell deal ' || d.deal_id || coalesce(' of ' || CAST(d.amount AS VARCHAR) || coalesce(' ' || d.currency, ''), '')
        || coalesce(' in stage ' || d.stage, '') || coalesce(', to close by ' || CAST(d.renew_by AS VARCHAR), '') || '.' AS why
    FROM upsell_deals AS d
    LEFT JOIN organisations AS o ON d.org_id = o.org_id
    LEFT JOIN intermediate.current_users AS u ON d.owner_id = u.user_id
    WHERE d.pipeline = 'post_sales'
    UNION ALL
    SELECT
        s.kind || ':' || s.org_id AS upsell_id,
        s.kind,
        s.org_id,
        [s.org_id] AS org_ids,
        s.name,
        s.owner_id,
        s.owner_name,
        s.tier,
        s.seats,
        s.mrr,
        s.organic_seat_delta,
        s.seat_utilisation,
        s.pending_true_up_mrr,
        s.has_open_upsell_deal,
        CAST(NULL AS VARCHAR) AS deal_id,
        CAST(NULL AS VARCHAR) AS deal_name,
        CAST(NULL AS DECIMAL(18, 2)) AS deal_amount,
        CAST(NULL AS VARCHAR) AS deal_currency,
        CAST(NULL AS VARCHAR) AS stage,
        CAST(NULL AS DATE) AS close_date,
        s.hubspot_url,
        CASE s.kind
            WHEN 'fast_growing' THEN 'Grew by ' || counted(s.organic_seat_delta, 'seat') || ' and has no open upsell deal.'
            WHEN 'utilisation' THEN counted(s.members_active, 'active member') || ' on ' || counted(s.seats, 'seat') || '.'
            WHEN 'true_up' THEN 'A true-up of ' || CAST(s.pending_true_up_mrr AS VARCHAR) || ' MRR is pending.'
            ELSE 'Pays ' || CAST(s.mrr AS VARCHAR) || ' MRR, its largest plan month by month.'
        END AS why
    FROM single AS s
    UNION ALL
    SELECT
        'joint_plan_parent:' || p.shared AS upsell_id,
        'joint_plan_parent' AS kind,
        p.shared AS org_id,
        p.org_ids,
        o.name,
        o.owner_id,
        o.owner_name,
        o.tier,
        CAST(p.seats AS BIGINT) AS seats,
        CAST(p.mrr AS DECIMAL(18, 2)) AS mrr,
        CAST(NULL AS BIGINT) AS organic_seat_delta,
        CAST(NULL AS DECIMAL(18, 4)) AS seat_utilisation,
        CAST(NULL AS DECIMAL(18, 2)) AS pending_true_up_mrr,
        p.has_open_upsell_deal,
        CAST(NULL AS VARCHAR) AS deal_id,
        CAST(NULL AS VARCHAR) AS deal_name,
        CAST(NULL AS DECIMAL(18, 2)) AS deal_amount,
        CAST(NULL AS VARCHAR) AS deal_currency,
        CAST(NULL AS VARCHAR) AS stage,
        CAST(NULL AS DATE) AS close_date,
        o.hubspot_url,
        counted(p.members, 'paying organisation') || ' below one parent, '
        || coalesce(CAST(p.mrr AS VARCHAR), 'unknown') || ' MRR together: ' || array_to_string(p.org_ids, ', ') || '.' AS why
    FROM by_parent AS p
    LEFT JOIN organisations AS o ON p.shared = o.org_id
    UNION ALL
    SELECT
        'joint_plan_domain:' || d.shared AS upsell_id,
        'joint_plan_domain' AS kind,
        o.org_id,
        d.org_ids,
        o.name,
        o.owner_id,
        o.owner_name,
        o.tier,
        CAST(d.seats AS BIGINT) AS seats,
        CAST(d.mrr AS DECIMAL(18, 2)) AS mrr,
        CAST(NULL AS BIGINT) AS organic_seat_delta,
        CAST(NULL AS DECIMAL(18, 4)) AS seat_utilisation,
        CAST(NULL AS DECIMAL(18, 2)) AS pending_true_up_mrr,
        d.has_open_upsell_deal,
        CAST(NULL AS VARCHAR) AS deal_id,
        CAST(NULL AS VARCHAR) AS deal_name,
        CAST(NULL AS DECIMAL(18, 2)) AS deal_amount,
        CAST(NULL AS VARCHAR) AS deal_currency,
        CAST(NULL AS VARCHAR) AS stage,
        CAST(NULL AS DATE) AS close_date,
        o.hubspot_url,
        counted(d.members, 'paying organisation') || ' with the e-mail domain ' || d.shared || ', '
        || coalesce(CAST(d.mrr AS VARCHAR), 'unknown') || ' MRR together: ' || array_to_string(d.org_ids, ', ') || '.' AS why
    FROM by_domain AS d
    INNER JOIN largest AS o ON d.shared = o.domain
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    upsell_id,
    kind,
    org_id,
    org_ids,
    name,
    owner_id,
    owner_name,
    tier,
    seats,
    mrr,
    organic_seat_delta,
    seat_utilisation,
    pending_true_up_mrr,
    has_open_upsell_deal,
    deal_id,
    deal_name,
    deal_amount,
    deal_currency,
    stage,
    close_date,
    hubspot_url,
    why,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM rows_of_all
