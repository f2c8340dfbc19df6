/*---
description: >
  One row for each paid subscription that has ended, has a known end, or had one withdrawn within the last
  churn.history_days days. The end is exclusive: a subscription that ends at 00:00 of X has churn_date X and still
  counts on X-1. Before anybody calls the customer the end is double-checked; the first reason that holds makes it a
  false_alarm: cancellation_reverted for a withdrawn end (churn_date is the withdrawn date); duplicate_org: the
  organisation was merged away and the survivor has another running paid subscription at the close of as_of;
  moved_to_parent: a joint plan covers it at some instant from the end to churn.gap_days (31) days after, inclusive;
  moved_to_custom: a CRM contract or a subscription on an enterprise plan runs in that stretch; resubscribed: a paid
  subscription started within 31 days before or after the end and runs in that stretch; other_subscription_active:
  another paid subscription runs at the end. Otherwise scheduled (churn_date after as_of), reactivated (the
  organisation pays again at the close of as_of) or churned. Evidence is whatever was known by known_at, so a churn
  during the gap stays a churn in that day's partition. Hints never dismiss: they ask a human to look.
grain: [as_of, known_at, subscription_id]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "day whose close ends what may be known", not_null: true}
  subscription_id: {type: VARCHAR, meaning: "subscription that ends", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  plan: {type: VARCHAR, meaning: "plan that ends"}
  state: {type: VARCHAR, meaning: "false_alarm, scheduled, reactivated or churned", not_null: true, accepted: [false_alarm, scheduled, reactivated, churned]}
  false_alarm_reason: {type: VARCHAR, meaning: "first reason that holds", accepted: [duplicate_org, moved_to_parent, moved_to_custom, resubscribed, other_subscription_active, cancellation_reverted]}
  churn_date: {type: DATE, meaning: "local day of the exclusive end: the first day without it", not_null: true}
  days_until_churn: {type: BIGINT, meaning: "churn_date - as_of; negative when past", not_null: true}
  is_recent: {type: BOOLEAN, meaning: "churned within the last churn.recent_days days, (D-90, D]", not_null: true}
  churn_type: {type: VARCHAR, meaning: "voluntary; involuntary: it became unpaid or the reason is payment_failed; to_free: it runs on at no price", not_null: true, accepted: [voluntary, involuntary, to_free]}
  cancel_reason: {type: VARCHAR, meaning: "reason code of the cancellation, as billing or HubSpot gives it"}
  cancel_comment: {type: VARCHAR, meaning: "reason in the customer's words"}
  recorded_on: {type: DATE, meaning: "local day on which the end became known", not_null: true}
  mrr_at_risk: {type: "DECIMAL(18,2)", meaning: "MRR of the subscription at the close of as_of, or of the day before the end if that is earlier; where it was not paid for then (paused, or begun and ended in one day) and the end has passed, of its last paid version; reporting currency"}
  verification: {type: VARCHAR, meaning: "needs_review when scheduled or churned and there is a hint, else confirmed", not_null: true, accepted: [confirmed, needs_review]}
  review_hints: {type: "VARCHAR[]", meaning: "of scheduled and churned rows, in this order. parent_is_paying: its parent or the top of its account pays at the close of as_of. enterprise_deal_in_crm: it has a deal for an enterprise plan that is open, or won within churn.history_days. same_domain_as_paying_org: its domain, or that of a contact's e-mail, is one of another paying organisation, free mail aside. contacts_still_active: a contact wrote in Intercom at or after the end", not_null: true, accepted: [parent_is_paying, enterprise_deal_in_crm, same_domain_as_paying_org, contacts_still_active]}
  evidence_subscription_id: {type: VARCHAR, meaning: "subscription or contract that proves the false alarm"}
  evidence_org_id: {type: VARCHAR, meaning: "payer of the joint plan, or survivor of the merge"}
  evidence_from: {type: DATE, meaning: "day on which the proof starts to hold"}
  hint_parent_org_id: {type: VARCHAR, meaning: "parent or top of the account that pays"}
  hint_deal_id: {type: VARCHAR, meaning: "enterprise deal"}
  hint_domain: {type: VARCHAR, meaning: "domain shared with another paying organisation"}
  hint_domain_org_id: {type: VARCHAR, meaning: "that organisation"}
  hint_last_contact_on: {type: DATE, meaning: "last day on which a contact wrote, at or after the end"}
  why: {type: VARCHAR, meaning: "the state with its numbers, one sentence", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was made with", not_null: true}
---*/
WITH ends AS (
    SELECT
        e.*,
        e.end_on + CAST($churn_gap_days AS INTEGER) AS gap_ends_on,
        e.end_on - CAST($churn_gap_days AS INTEGER) AS gap_starts_on
    FROM intermediate.subscription_ends AS e
),
-- other paid subscriptions of the organisation; of its own those that start after the end
others AS (
    SELECT
        e.subscription_id,
        min(r.subscription_id) FILTER (
            WHERE r.subscription_id <> e.subscription_id
            AND r.run_start < CAST($close_as_of AS TIMESTAMP)
            AND (r.run_end IS NULL OR r.run_end >= CAST($close_as_of AS TIMESTAMP))
        ) AS running_id,
        min(struct_pack(start_on := r.start_on, subscription_id := r.subscription_id)) FILTER (
            WHERE r.start_on BETWEEN e.gap_starts_on AND e.gap_ends_on
            AND (r.run_end IS NULL OR r.run_end > e.end_at)
        ) AS resubscribed,
        min(struct_pack(start_on := r.start_on, subscription_id := r.subscription_id)) FILTER (
            WHERE r.subscription_id <> e.subscription_id
            AND r.run_start <= e.end_at
            AND (r.run_end IS NULL OR r.run_end > e.end_at)
        ) AS still_active
    FROM ends AS e
    INNER JOIN intermediate.paid_runs AS r
        ON r.org_id = e.org_id AND (r.subscription_id <> e.subscription_id OR r.run_start >= e.end_at)
    GROUP BY e.subscription_id
),
contracts AS (
    SELECT
        coalesce(i.canonical_org_id, c.org_id) AS org_id,
        'contract:' || c.org_id || ':' || CAST(local_date(c.valid_from, $reporting_tz) AS VARCHAR) AS custom_id,
        local_date(c.valid_from, $reporting_tz) AS start_on,
        c.valid_from,
        c.valid_to
    FROM staging.crm_contracts AS c
    LEFT JOIN intermediate.organisation_identity AS i ON i.org_id = c.org_id
    WHERE c.recorded_at < CAST($close_known_at AS TIMESTAMP)
    QUALIFY c.recorded_at = max(c.recorded_at) OVER (PARTITION BY c.org_id, c.valid_from)
),
custom_plans AS (
    SELECT c.org_id, c.custom_id, c.start_on, c.valid_from, c.valid_to
    FROM contracts AS c
    WHERE c.valid_from IS NULL OR c.valid_to IS NULL OR c.valid_to > c.valid_from
    UNION ALL
    SELECT s.org_id, s.subscription_id AS custom_id, s.from_on AS start_on, s.valid_from, s.valid_to
    FROM intermediate.subscription_intervals AS s
    WHERE
        s.is_running
        AND s.source_kind <> 'crm_contract'
        AND list_contains(CAST($renewal_enterprise_plans AS VARCHAR[]), lower(s.plan))
),
custom AS (
    SELECT
        e.subscription_id,
        min(struct_pack(start_on := c.start_on, subscription_id := c.custom_id)) AS custom
    FROM ends AS e
    INNER JOIN custom_plans AS c
        ON c.org_id = e.org_id
        AND (c.custom_id <> e.subscription_id OR c.valid_from >= e.end_at)
        AND c.start_on <= e.gap_ends_on
        AND (c.valid_to IS NULL OR c.valid_to > e.end_at)
    GROUP BY e.subscription_id
),
coverage AS (
    SELECT
        coalesce(child.canonical_org_id, c.child_org_id) AS org_id,
        coalesce(payer.canonical_org_id, c.payer_org_id) AS payer_org_id,
        c.valid_from_on,
        c.valid_to
    FROM staging.org_coverage AS c
    LEFT JOIN intermediate.organisation_identity AS child ON child.org_id = c.child_org_id
    LEFT JOIN intermediate.organisation_identity AS payer ON payer.org_id = c.payer_org_id
    WHERE c.recorded_at < CAST($close_known_at AS TIMESTAMP)
    QUALIFY c.recorded_at = max(c.recorded_at) OVER (PARTITION BY c.child_org_id, c.payer_org_id, c.valid_from)
),
covered AS (
    SELECT
        e.subscription_id,
        min(struct_pack(start_on := c.valid_from_on, payer_org_id := c.payer_org_id)) AS coverage
    FROM ends AS e
    INNER JOIN coverage AS c
        ON c.org_id = e.org_id
        AND c.payer_org_id <> e.org_id
        AND c.valid_from_on <= e.gap_ends_on
        AND (c.valid_to IS NULL OR c.valid_to > e.end_at)
    GROUP BY e.subscription_id
),
paying AS (
    SELECT DISTINCT s.org_id
    FROM intermediate.subscription_intervals AS s
    WHERE
        s.is_paid
        AND s.from_on <= CAST($as_of AS DATE)
        AND (s.to_on IS NULL OR s.to_on > CAST($as_of AS DATE))
),
reasons AS (
    SELECT
        e.*,
        o.running_id,
        o.resubscribed,
        o.still_active,
        c.custom,
        v.coverage,
        p.org_id IS NOT NULL AS pays_now,
        CASE
            WHEN e.is_withdrawn THEN 'cancellation_reverted'
            WHEN e.original_org_id <> e.org_id AND o.running_id IS NOT NULL THEN 'duplicate_org'
            WHEN v.coverage IS NOT NULL THEN 'moved_to_parent'
            WHEN c.custom IS NOT NULL THEN 'moved_to_custom'
            WHEN o.resubscribed IS NOT NULL THEN 'resubscribed'
            WHEN o.still_active IS NOT NULL THEN 'other_subscription_active'
        END AS reason
    FROM ends AS e
    LEFT JOIN others AS o ON o.subscription_id = e.subscription_id
    LEFT JOIN custom AS c ON c.subscription_id = e.subscription_id
    LEFT JOIN covered AS v ON v.subscription_id = e.subscription_id
    LEFT JOIN paying AS p ON p.org_id = e.org_id
),
states AS (
    SELECT
        r.*,
        CASE
            WHEN r.reason IS NOT NULL THEN 'false_alarm'
            WHEN r.end_on > CAST($as_of AS DATE) THEN 'scheduled'
            WHEN r.pays_now THEN 'reactivated'
            ELSE 'churned'
        END AS state
    FROM reasons AS r
),
doubtful AS (
    SELECT s.subscription_id, s.org_id, s.end_at
    FROM states AS s
    WHERE s.state IN ('scheduled', 'churned')
),
parents AS (
    SELECT
        d.subscription_id,
        CASE WHEN p.org_id IS NOT NULL THEN h.parent_org_id ELSE t.org_id END AS paying_parent_id
    FROM doubtful AS d
    INNER JOIN intermediate.hierarchy AS h ON h.org_id = d.org_id
    LEFT JOIN paying AS p ON p.org_id = h.parent_org_id AND h.parent_org_id <> d.org_id
    LEFT JOIN paying AS t ON t.org_id = h.root_org_id AND h.root_org_id <> d.org_id
),
deals AS (
    SELECT d.org_id, min(d.deal_id) AS deal_id
    FROM intermediate.current_deals AS d
    WHERE
        list_contains(CAST($renewal_enterprise_plans AS VARCHAR[]), lower(d.plan))
        AND (
            d.status = 'open'
            OR (
                d.status = 'won'
                AND coalesce(d.closed_on > CAST($as_of AS DATE) - CAST($churn_history_days AS INTEGER), true)
            )
        )
    GROUP BY d.org_id
),
all_domains AS (
    SELECT o.org_id, regexp_replace(lower(o.domain), '^www\.', '') AS domain
    FROM intermediate.current_organisations AS o
    WHERE o.domain IS NOT NULL
    UNION
    SELECT a.org_id, c.email_domain AS domain
    FROM intermediate.contact_attribution AS a
    INNER JOIN intermediate.current_contacts AS c ON c.contact_id = a.contact_id
    WHERE
        c.email_domain IS NOT NULL
        AND a.valid_from < CAST($close_as_of AS TIMESTAMP)
        AND (a.valid_to IS NULL OR a.valid_to >= CAST($close_as_of AS TIMESTAMP))
),
domains AS (
    SELECT d.org_id, d.domain
    FROM all_domains AS d
    WHERE d.domain <> '' AND NOT list_contains(CAST($matching_free_mail_domains AS VARCHAR[]), d.domain)
),
-- the first and the last owner of a domain are enough to find one that is not the organisation itself
paying_domains AS (
    SELECT d.domain, min(d.org_id) AS first_org_id, max(d.org_id) AS last_org_id
    FROM domains AS d
    INNER JOIN paying AS p ON p.org_id = d.org_id
    GROUP BY d.domain
),
shared_domains AS (
    SELECT
        x.subscription_id,
        min(
            struct_pack(
                domain := d.domain,
                org_id := CASE WHEN p.first_org_id <> x.org_id THEN p.first_org_id ELSE p.last_org_id END
            )
        ) AS shared
    FROM doubtful AS x
    INNER JOIN domains AS d ON d.org_id = x.org_id
    INNER JOIN paying_domains AS p
        ON p.domain = d.domain AND (p.first_org_id <> x.org_id OR p.last_org_id <> x.org_id)
    GROUP BY x.subscription_id
),
last_contacts AS (
    SELECT d.subscription_id, max(c.last_contact_at) AS last_contact_at
    FROM doubtful AS d
    INNER JOIN intermediate.conversation_organisations AS c
        ON c.org_id = d.org_id AND c.last_contact_at >= d.end_at
    GROUP BY d.subscription_id
),
hinted AS (
    SELECT
        s.*,
        p.paying_parent_id,
        CASE WHEN s.state IN ('scheduled', 'churned') THEN d.deal_id END AS enterprise_deal_id,
        h.shared,
        l.last_contact_at,
        codes([
            CASE WHEN p.paying_parent_id IS NOT NULL THEN 'parent_is_paying' END,
            CASE WHEN s.state IN ('scheduled', 'churned') AND d.deal_id IS NOT NULL THEN 'enterprise_deal_in_crm' END,
            CASE WHEN h.shared IS NOT NULL THEN 'same_domain_as_paying_org' END,
            CASE WHEN l.last_contact_at IS NOT NULL THEN 'contacts_still_active' END
        ]) AS hints
    FROM states AS s
    LEFT JOIN parents AS p ON p.subscription_id = s.subscription_id
    LEFT JOIN deals AS d ON d.org_id = s.org_id
    LEFT JOIN shared_domains AS h ON h.subscription_id = s.subscription_id
    LEFT JOIN last_contacts AS l ON l.subscription_id = s.subscription_id
),
described AS (
    SELECT
        h.*,
        coalesce(h.plan || ' plan ' || h.subscription_id, h.subscription_id)
        || CASE
            WHEN h.mrr_at_risk IS NULL AND h.cancel_reason IS NULL THEN ''
            ELSE ' (' || coalesce(h.mrr_at_risk || ' MRR', 'unknown MRR')
                || coalesce(', reason ' || h.cancel_reason, '') || ')'
        END AS subject,
        CASE WHEN h.end_on > CAST($as_of AS DATE) THEN ' ends on ' ELSE ' ended on ' END || h.end_on AS ending,
        CASE
            WHEN h.reason = 'duplicate_org' THEN h.running_id
            WHEN h.reason = 'moved_to_custom' THEN h.custom.subscription_id
            WHEN h.reason = 'resubscribed' THEN h.resubscribed.subscription_id
            WHEN h.reason = 'other_subscription_active' THEN h.still_active.subscription_id
        END AS proof_id,
        CASE
            WHEN h.reason = 'moved_to_parent' THEN h.coverage.payer_org_id
            WHEN h.reason = 'duplicate_org' THEN h.org_id
        END AS proof_org_id,
        CASE
            WHEN h.reason = 'cancellation_reverted' THEN h.withdrawn_on
            WHEN h.reason = 'moved_to_parent' THEN h.coverage.start_on
            WHEN h.reason = 'moved_to_custom' THEN h.custom.start_on
            WHEN h.reason = 'resubscribed' THEN h.resubscribed.start_on
            WHEN h.reason = 'other_subscription_active' THEN h.still_active.start_on
        END AS proof_from
    FROM hinted AS h
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    d.subscription_id,
    d.org_id,
    d.plan,
    d.state,
    d.reason AS false_alarm_reason,
    d.end_on AS churn_date,
    d.end_on - CAST($as_of AS DATE) AS days_until_churn,
    d.state = 'churned'
    AND d.end_on > CAST($as_of AS DATE) - CAST($churn_recent_days AS INTEGER) AS is_recent,
    d.churn_type,
    d.cancel_reason,
    d.cancel_comment,
    d.recorded_on,
    d.mrr_at_risk,
    CASE WHEN len(d.hints) > 0 THEN 'needs_review' ELSE 'confirmed' END AS verification,
    d.hints AS review_hints,
    d.proof_id AS evidence_subscription_id,
    d.proof_org_id AS evidence_org_id,
    d.proof_from AS evidence_from,
    d.paying_parent_id AS hint_parent_org_id,
    d.enterprise_deal_id AS hint_deal_id,
    d.shared.domain AS hint_domain,
    d.shared.org_id AS hint_domain_org_id,
    local_date(d.last_contact_at, $reporting_tz) AS hint_last_contact_on,
    d.subject
    || CASE
        WHEN d.reason = 'cancellation_reverted'
            THEN ' was to end on ' || d.end_on || ', which was withdrawn on ' || d.proof_from
        WHEN d.reason = 'duplicate_org'
            THEN d.ending || ' on a duplicate record; the surviving one has ' || d.proof_id
        WHEN d.reason = 'moved_to_parent'
            THEN d.ending || '; the joint plan of ' || coalesce(payer.name, d.proof_org_id) || ' covers it from '
                || d.proof_from
        WHEN d.reason = 'moved_to_custom'
            THEN d.ending || '; the custom plan ' || d.proof_id || ' runs from ' || d.proof_from
        WHEN d.reason = 'resubscribed' THEN d.ending || '; ' || d.proof_id || ' started on ' || d.proof_from
        WHEN d.reason = 'other_subscription_active' THEN d.ending || '; ' || d.proof_id || ' goes on'
        WHEN d.state = 'scheduled' THEN d.ending || ', in ' || counted(d.end_on - CAST($as_of AS DATE), 'day')
        WHEN d.state = 'reactivated'
            THEN
                d.ending || '; after a gap of more than ' || counted(CAST($churn_gap_days AS INTEGER), 'day')
                || ' the organisation pays again'
        ELSE d.ending
    END
    || coalesce('; the parent ' || coalesce(parent.name, d.paying_parent_id) || ' pays', '')
    || coalesce('; enterprise deal ' || d.enterprise_deal_id || ' is in the CRM', '')
    || coalesce('; ' || coalesce(twin.name, d.shared.org_id) || ' pays and shares the domain ' || d.shared.domain, '')
    || coalesce('; a contact wrote on ' || local_date(d.last_contact_at, $reporting_tz), '')
    || '.' AS why,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM described AS d
LEFT JOIN intermediate.current_organisations AS payer ON payer.org_id = d.proof_org_id
LEFT JOIN intermediate.current_organisations AS parent ON parent.org_id = d.paying_parent_id
LEFT JOIN intermediate.current_organisations AS twin ON twin.org_id = d.shared.org_id
