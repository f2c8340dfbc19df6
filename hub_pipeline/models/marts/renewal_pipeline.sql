/*---
description: >
  Every contract that runs as a paid plan at the close of as_of with its renewal deal, and every open renewal deal of
  the post-sales pipeline that belongs to none of them (orphan_deal). One row for each contract, so MRR is never
  counted twice; mrr_at_stake comes from billing, never from the deal. renew_by is the deal's renew-by date, else the
  end of the term; without either it is empty, as for plans that renew themselves every month. Status: renewed (won
  deal), open, lost, missing (in scope, no deal, the term ends within renewal.missing_days (180) days or has ended, no
  cancellation known), no_deal, orphan_deal. Timing: upcoming (more than renewal.lead_days (90) days to renew_by),
  in_window (0 to 90), overdue (past). The target is to renew lead_days ahead: it is missed by an open deal with fewer
  days left, and by a deal won fewer days ahead; exactly 90 is in time.
grain: [as_of, known_at, renewal_id]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "day whose close ends what may be known", not_null: true}
  renewal_id: {type: VARCHAR, meaning: "the subscription, or deal:<id> of an orphan deal", not_null: true}
  subscription_id: {type: VARCHAR, meaning: "contract; empty for an orphan deal"}
  deal_id: {type: VARCHAR, meaning: "renewal deal; empty = none"}
  org_id: {type: VARCHAR, meaning: "organisation after merges; empty = the orphan deal has none"}
  plan: {type: VARCHAR, meaning: "plan of the contract"}
  billing_interval: {type: VARCHAR, meaning: "billing interval of the contract"}
  in_scope: {type: BOOLEAN, meaning: "enterprise or annual, above the MRR threshold", not_null: true}
  out_of_scope_reason: {type: VARCHAR, meaning: "no_subscription: orphan deal; self_serve_monthly: neither enterprise nor a term of a year; mrr_unknown: no exchange rate; mrr_not_over_threshold: at or below it", accepted: [no_subscription, self_serve_monthly, mrr_unknown, mrr_not_over_threshold]}
  status: {type: VARCHAR, meaning: "renewed, open, lost, missing, no_deal or orphan_deal", not_null: true, accepted: [renewed, open, lost, missing, no_deal, orphan_deal]}
  timing: {type: VARCHAR, meaning: "upcoming, in_window or overdue; empty without renew_by", accepted: [upcoming, in_window, overdue]}
  renew_by: {type: DATE, meaning: "day by which to renew: the deal's, else the end of the term"}
  term_end: {type: DATE, meaning: "local day of the exclusive end of the term"}
  days_to_renew_by: {type: BIGINT, meaning: "renew_by - as_of; negative when past"}
  target_renew_by: {type: DATE, meaning: "renew_by - renewal.lead_days"}
  closed_on: {type: DATE, meaning: "local day the deal was won or lost"}
  renewed_days_ahead: {type: BIGINT, meaning: "of a won deal: renew_by - closed_on"}
  missed_lead_target: {type: BOOLEAN, meaning: "open with fewer than lead_days left, or won fewer than lead_days ahead", not_null: true}
  mrr_at_stake: {type: "DECIMAL(18,2)", meaning: "MRR of the contract at the close of as_of, reporting currency; empty for an orphan deal"}
  mrr_native: {type: "DECIMAL(18,2)", meaning: "the same in the contract's own currency"}
  currency: {type: VARCHAR, meaning: "currency of the contract; empty for an orphan deal"}
  scheduled_cancel: {type: BOOLEAN, meaning: "its end by cancellation is known", not_null: true}
  scheduled_end_on: {type: DATE, meaning: "local day of that end"}
  deal_name: {type: VARCHAR, meaning: "name of the deal"}
  deal_amount: {type: "DECIMAL(18,2)", meaning: "amount of the deal as typed, its own currency"}
  deal_currency: {type: VARCHAR, meaning: "currency of the deal"}
  deal_url: {type: VARCHAR, meaning: "address of the deal"}
  stage: {type: VARCHAR, meaning: "stage of the deal"}
  days_in_stage: {type: BIGINT, meaning: "as_of - day it entered the stage; empty = unknown"}
  deal_owner_id: {type: VARCHAR, meaning: "owner of the deal"}
  deal_owner_name: {type: VARCHAR, meaning: "name of that owner"}
  hygiene: {type: "VARCHAR[]", meaning: "findings about the deal, in this order. amount_missing; amount_not_positive; amount_looks_annual: 10.8 to 13.2 times the MRR (amount_looks_monthly: MRR times 12 is 10.8 to 13.2 times the amount, when amounts are meant to be annual); amount_looks_multi_year: 24 or 36 times, 10 % either way; amount_mismatch: outside 0.5 to 2 times and none of the former (amounts are compared only in the contract's currency, all bounds inclusive); close_date_missing: open, without one; close_date_mismatch: renew-by more than 7 days from the end of the term; close_date_past_open: open, before as_of; close_date_is_default: open, last day of the month of creation; owner_missing and owner_inactive: of an open deal; duplicate_open_renewal_deal: another open deal belongs to the contract; out_of_scope_in_pipeline: the contract is out of scope; no_active_subscription: an orphan deal; currency_mismatch; stage_unknown: not one of renewal.stages, if any are set; won_but_not_billed: won, but the term has ended and billing shows no new one; billed_but_deal_open: open, and the term it is about was already followed by another; lost_but_still_billed: lost, the term has ended, and billing goes on; churned_with_open_deal: an orphan deal of an organisation whose paid subscriptions have all ended; no_next_activity: open, known to have none planned", not_null: true, accepted: [amount_missing, amount_not_positive, amount_looks_annual, amount_looks_monthly, amount_looks_multi_year, amount_mismatch, close_date_missing, close_date_mismatch, close_date_past_open, close_date_is_default, owner_missing, owner_inactive, duplicate_open_renewal_deal, out_of_scope_in_pipeline, no_active_subscription, currency_mismatch, stage_unknown, won_but_not_billed, billed_but_deal_open, lost_but_still_billed, churned_with_open_deal, no_next_activity]}
  risk_reasons: {type: "VARCHAR[]", meaning: "why the organisation is at risk, from marts.at_risk", not_null: true}
  why: {type: VARCHAR, meaning: "the row with its numbers, one sentence", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was made with", not_null: true}
checks:
  - name: deals_are_clean
    severity: warn
    description: No renewal deal has a finding; one row for each kind of finding with the number of deals and one of them.
    sql: >
      SELECT finding, count(*) AS deals, min(deal_id) AS example_deal_id
      FROM (
        SELECT deal_id, unnest(hygiene) AS finding
        FROM marts.renewal_pipeline
        WHERE as_of = $as_of AND known_at = $known_at
      ) AS findings
      GROUP BY finding
---*/
WITH duplicates AS (
    SELECT DISTINCT m.subscription_id
    FROM intermediate.renewal_deal_matches AS m
    WHERE m.is_open AND NOT m.is_chosen
),
renewal_deals AS (
    SELECT d.*
    FROM intermediate.current_deals AS d
    WHERE d.pipeline = 'post_sales' AND d.deal_type = 'renewal'
),
-- how the term before ended, by its own deals
previous_deals AS (
    SELECT c.subscription_id, d.status, d.renew_by, c.previous_term_end_on
    FROM intermediate.renewal_contracts AS c
    INNER JOIN renewal_deals AS d ON d.subscription_id = c.subscription_id
    UNION ALL
    SELECT c.subscription_id, d.status, d.renew_by, c.previous_term_end_on
    FROM intermediate.renewal_contracts AS c
    INNER JOIN renewal_deals AS d ON d.subscription_id IS NULL AND d.org_id = c.org_id
),
previous_terms AS (
    SELECT
        p.subscription_id,
        bool_or(p.status = 'won') AS was_won,
        bool_or(p.status = 'lost') AS was_lost
    FROM previous_deals AS p
    WHERE abs(p.renew_by - p.previous_term_end_on) <= CAST($renewal_match_days AS INTEGER)
    GROUP BY p.subscription_id
),
contract_rows AS (
    SELECT
        c.subscription_id AS renewal_id,
        c.subscription_id,
        d.deal_id,
        c.org_id,
        c.plan,
        c.billing_interval,
        c.in_scope,
        CASE
            WHEN c.in_scope THEN NULL
            WHEN NOT c.is_enterprise AND NOT c.is_annual THEN 'self_serve_monthly'
            WHEN c.mrr IS NULL THEN 'mrr_unknown'
            ELSE 'mrr_not_over_threshold'
        END AS out_of_scope_reason,
        CASE
            WHEN d.status = 'won' THEN 'renewed'
            WHEN d.deal_id IS NOT NULL THEN d.status
            WHEN
                c.in_scope
                AND c.scheduled_end_on IS NULL
                AND c.term_end_on - CAST($as_of AS DATE) <= CAST($renewal_missing_days AS INTEGER)
                THEN 'missing'
            ELSE 'no_deal'
        END AS status,
        c.term_end_on,
        c.previous_term_end_on,
        c.mrr AS mrr_at_stake,
        c.mrr_native,
        c.currency,
        c.scheduled_end_on,
        u.subscription_id IS NOT NULL AS has_duplicate,
        coalesce(p.was_lost AND NOT p.was_won AND d.deal_id IS NULL, false) AS lost_before,
        false AS billed_before,
        false AS has_churned,
        d.status AS deal_status,
        d.name AS deal_name,
        d.amount AS deal_amount,
        d.currency AS deal_currency,
        d.hubspot_url AS deal_url,
        d.stage,
        d.stage_since,
        d.owner_id AS deal_owner_id,
        d.has_next_activity,
        d.created_on,
        d.closed_on,
        d.renew_by AS deal_renew_by
    FROM intermediate.renewal_contracts AS c
    LEFT JOIN intermediate.renewal_deal_matches AS m ON m.subscription_id = c.subscription_id AND m.is_chosen
    LEFT JOIN renewal_deals AS d ON d.deal_id = m.deal_id
    LEFT JOIN duplicates AS u ON u.subscription_id = c.subscription_id
    LEFT JOIN previous_terms AS p ON p.subscription_id = c.subscription_id
),
paid_before AS (
    SELECT DISTINCT r.org_id
    FROM intermediate.paid_runs AS r
    WHERE r.run_start < CAST($close_as_of AS TIMESTAMP)
),
pays_now AS (
    SELECT DISTINCT c.org_id
    FROM intermediate.renewal_contracts AS c
),
-- open deals about a term that billing has already followed by another
billed_deals AS (
    SELECT DISTINCT d.deal_id
    FROM renewal_deals AS d
    INNER JOIN intermediate.renewal_contracts AS c
        ON c.org_id = d.org_id
        AND abs(d.renew_by - c.previous_term_end_on) <= CAST($renewal_match_days AS INTEGER)
    WHERE d.status = 'open'
),
orphan_rows AS (
    SELECT
        'deal:' || d.deal_id AS renewal_id,
        CAST(NULL AS VARCHAR) AS subscription_id,
        d.deal_id,
        d.org_id,
        CAST(NULL AS VARCHAR) AS plan,
        CAST(NULL AS VARCHAR) AS billing_interval,
        false AS in_scope,
        'no_subscription' AS out_of_scope_reason,
        'orphan_deal' AS status,
        CAST(NULL AS DATE) AS term_end_on,
        CAST(NULL AS DATE) AS previous_term_end_on,
        CAST(NULL AS DECIMAL(18, 2)) AS mrr_at_stake,
        CAST(NULL AS DECIMAL(18, 2)) AS mrr_native,
        CAST(NULL AS VARCHAR) AS currency,
        CAST(NULL AS DATE) AS scheduled_end_on,
        false AS has_duplicate,
        false AS lost_before,
        b.deal_id IS NOT NULL AS billed_before,
        p.org_id IS NOT NULL AND n.org_id IS NULL AS has_churned,
        d.status AS deal_status,
        d.name AS deal_name,
        d.amount AS deal_amount,
        d.currency AS deal_currency,
        d.hubspot_url AS deal_url,
        d.stage,
        d.stage_since,
        d.owner_id AS deal_owner_id,
        d.has_next_activity,
        d.created_on,
        d.closed_on,
        d.renew_by AS deal_renew_by
    FROM renewal_deals AS d
    LEFT JOIN intermediate.renewal_deal_matches AS m ON m.deal_id = d.deal_id
    LEFT JOIN billed_deals AS b ON b.deal_id = d.deal_id
    LEFT JOIN paid_before AS p ON p.org_id = d.org_id
    LEFT JOIN pays_now AS n ON n.org_id = d.org_id
    WHERE d.status = 'open' AND m.deal_id IS NULL
),
all_rows AS (
    SELECT c.* FROM contract_rows AS c
    UNION ALL
    SELECT o.* FROM orphan_rows AS o
),
compared AS (
    SELECT
        r.*,
        coalesce(r.deal_renew_by, r.term_end_on) AS renew_by,
        r.deal_status = 'open' AS is_open,
        CASE WHEN r.deal_currency = r.currency AND r.mrr_native > 0 AND r.deal_amount > 0 THEN r.deal_amount END
            AS amount,
        -- what the amount of a deal should be: MRR, or twelve times that
        CASE WHEN $renewal_deal_amount_basis = 'arr' THEN 12 ELSE 1 END AS months,
        u.is_active AS owner_is_active,
        u.name AS deal_owner_name
    FROM all_rows AS r
    LEFT JOIN intermediate.current_users AS u ON u.user_id = r.deal_owner_id
),
amounts AS (
    SELECT
        c.*,
        c.months = 1 AND c.amount BETWEEN 10.8 * c.mrr_native AND 13.2 * c.mrr_native AS looks_annual,
        c.months = 12 AND 12 * c.mrr_native BETWEEN 10.8 * c.amount AND 13.2 * c.amount AS looks_monthly,
        c.amount BETWEEN 21.6 * c.months * c.mrr_native AND 26.4 * c.months * c.mrr_native
        OR c.amount BETWEEN 32.4 * c.months * c.mrr_native AND 39.6 * c.months * c.mrr_native AS looks_multi_year,
        c.amount < 0.5 * c.months * c.mrr_native OR c.amount > 2 * c.months * c.mrr_native AS differs
    FROM compared AS c
),
findings AS (
    SELECT
        a.*,
        codes([
            CASE WHEN a.deal_id IS NOT NULL AND a.deal_amount IS NULL THEN 'amount_missing' END,
            CASE WHEN a.deal_amount <= 0 THEN 'amount_not_positive' END,
            CASE WHEN a.looks_annual THEN 'amount_looks_annual' END,
            CASE WHEN a.looks_monthly THEN 'amount_looks_monthly' END,
            CASE WHEN a.looks_multi_year THEN 'amount_looks_multi_year' END,
            CASE
                WHEN a.differs AND NOT a.looks_annual AND NOT a.looks_monthly AND NOT a.looks_multi_year
                    THEN 'amount_mismatch'
            END,
            CASE WHEN a.is_open AND a.deal_renew_by IS NULL THEN 'close_date_missing' END,
            CASE
                WHEN abs(a.deal_renew_by - a.term_end_on) > CAST($renewal_close_date_mismatch_days AS INTEGER)
                    THEN 'close_date_mismatch'
            END,
            CASE WHEN a.is_open AND a.deal_renew_by < CAST($as_of AS DATE) THEN 'close_date_past_open' END,
            CASE WHEN a.is_open AND a.deal_renew_by = last_day(a.created_on) THEN 'close_date_is_default' END,
            CASE WHEN a.is_open AND a.deal_owner_id IS NULL THEN 'owner_missing' END,
            CASE WHEN a.is_open AND NOT a.owner_is_active THEN 'owner_inactive' END,
            CASE WHEN a.has_duplicate THEN 'duplicate_open_renewal_deal' END,
            CASE
                WHEN a.deal_id IS NOT NULL AND a.subscription_id IS NOT NULL AND NOT a.in_scope
                    THEN 'out_of_scope_in_pipeline'
            END,
            CASE WHEN a.status = 'orphan_deal' AND NOT a.billed_before THEN 'no_active_subscription' END,
            CASE WHEN a.deal_currency <> a.currency THEN 'currency_mismatch' END,
            CASE
                WHEN
                    a.deal_id IS NOT NULL
                    AND len(CAST($renewal_stages AS VARCHAR[])) > 0
                    AND NOT coalesce(list_contains(CAST($renewal_stages AS VARCHAR[]), a.stage), false)
                    THEN 'stage_unknown'
            END,
            CASE
                WHEN a.deal_status = 'won' AND a.term_end_on <= CAST($as_of AS DATE) THEN 'won_but_not_billed'
            END,
            CASE
                WHEN
                    a.billed_before
                    OR (
                        a.is_open
                        AND abs(a.deal_renew_by - a.previous_term_end_on) <= CAST($renewal_match_days AS INTEGER)
                        AND abs(a.deal_renew_by - a.term_end_on) > CAST($renewal_match_days AS INTEGER)
                    )
                    THEN 'billed_but_deal_open'
            END,
            CASE
                WHEN
                    a.lost_before OR (a.deal_status = 'lost' AND a.term_end_on <= CAST($as_of AS DATE))
                    THEN 'lost_but_still_billed'
            END,
            CASE WHEN a.has_churned THEN 'churned_with_open_deal' END,
            CASE WHEN a.is_open AND NOT a.has_next_activity THEN 'no_next_activity' END
        ]) AS hygiene,
        a.renew_by - CAST($as_of AS DATE) AS days_to_renew_by,
        CASE WHEN a.deal_status = 'won' THEN a.renew_by - a.closed_on END AS renewed_days_ahead
    FROM amounts AS a
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    f.renewal_id,
    f.subscription_id,
    f.deal_id,
    f.org_id,
    f.plan,
    f.billing_interval,
    f.in_scope,
    f.out_of_scope_reason,
    f.status,
    CASE
        WHEN f.days_to_renew_by > CAST($renewal_lead_days AS INTEGER) THEN 'upcoming'
        WHEN f.days_to_renew_by >= 0 THEN 'in_window'
        WHEN f.days_to_renew_by < 0 THEN 'overdue'
    END AS timing,
    f.renew_by,
    f.term_end_on AS term_end,
    f.days_to_renew_by,
    f.renew_by - CAST($renewal_lead_days AS INTEGER) AS target_renew_by,
    f.closed_on,
    f.renewed_days_ahead,
    coalesce(
        CASE f.status
            WHEN 'open' THEN f.days_to_renew_by < CAST($renewal_lead_days AS INTEGER)
            WHEN 'renewed' THEN f.renewed_days_ahead < CAST($renewal_lead_days AS INTEGER)
        END,
        false
    ) AS missed_lead_target,
    f.mrr_at_stake,
    f.mrr_native,
    f.currency,
    f.scheduled_end_on IS NOT NULL AS scheduled_cancel,
    f.scheduled_end_on,
    f.deal_name,
    f.deal_amount,
    CASE WHEN f.deal_id IS NOT NULL THEN f.deal_currency END AS deal_currency,
    f.deal_url,
    f.stage,
    CAST($as_of AS DATE) - local_date(f.stage_since, $reporting_tz) AS days_in_stage,
    f.deal_owner_id,
    f.deal_owner_name,
    f.hygiene,
    coalesce(r.reasons, CAST([] AS VARCHAR[])) AS risk_reasons,
    CASE
        WHEN f.status = 'orphan_deal' THEN 'Open renewal deal ' || f.deal_id || ' belongs to no running contract'
        ELSE coalesce(f.plan || ' ', '') || 'contract ' || f.subscription_id || ' ('
            || coalesce('billed each ' || replace(f.billing_interval, '_', ' ') || ', ', '')
            || coalesce(CAST(f.mrr_at_stake AS VARCHAR), 'unknown') || ' MRR) '
            || CASE f.status
                WHEN 'renewed' THEN 'was renewed' || coalesce(' on ' || f.closed_on, '') || ' by deal ' || f.deal_id
                WHEN 'open' THEN 'has the open renewal deal ' || f.deal_id || coalesce(' in stage ' || f.stage, '')
                WHEN 'lost' THEN 'has the lost renewal deal ' || f.deal_id
                WHEN 'missing' THEN 'should have a renewal deal by now and has none'
                ELSE 'has no renewal deal'
            END
    END
    || coalesce(
        '; renew by ' || f.renew_by
        || CASE
            WHEN f.days_to_renew_by > 0 THEN ', in ' || counted(f.days_to_renew_by, 'day')
            WHEN f.days_to_renew_by = 0 THEN ', today'
            ELSE ', ' || counted(-f.days_to_renew_by, 'day') || ' ago'
        END,
        ''
    )
    || coalesce('; cancelled for ' || f.scheduled_end_on, '')
    || CASE WHEN len(f.hygiene) > 0 THEN '; check ' || array_to_string(f.hygiene, ', ') ELSE '' END
    || '.' AS why,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM findings AS f
LEFT JOIN marts.at_risk AS r
    ON r.org_id = f.org_id AND r.as_of = CAST($as_of AS DATE) AND r.known_at = CAST($known_at AS DATE)
