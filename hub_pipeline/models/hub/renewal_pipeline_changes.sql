/*---
description: >
  How the renewal pipeline moved from each stored day to the next: one row for each contract or orphan deal and fact
  that changed. added and removed: it came or went; otherwise the fact by name with its value before and after. Filter by
  as_of for one day, or by a range of as_of for all steps between two days.
grain: [as_of, renewal_id, change]
columns:
  as_of: {type: DATE, meaning: "day the change shows on", not_null: true}
  previous_as_of: {type: DATE, meaning: "the stored day before", not_null: true}
  renewal_id: {type: VARCHAR, meaning: "the subscription, or deal:<id> of an orphan deal", not_null: true}
  change: {type: VARCHAR, meaning: "what changed", not_null: true, accepted: [added, removed, status, scope, stage, renew_by, deal, deal_amount, mrr_at_stake, scheduled_cancel, hygiene]}
  org_id: {type: VARCHAR, meaning: "organisation after merges"}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_name: {type: VARCHAR, meaning: "owner of the deal"}
  before: {type: VARCHAR, meaning: "value on previous_as_of; empty = none"}
  after: {type: VARCHAR, meaning: "value on as_of; empty = none"}
order_by: [as_of DESC, renewal_id, change]
---*/
WITH days AS (
    SELECT d.as_of, lag(d.as_of) OVER (ORDER BY d.as_of) AS previous_as_of
    FROM (SELECT DISTINCT o.as_of FROM marts.organisation_daily AS o WHERE o.known_at = o.as_of) AS d
),
pipeline AS (
    SELECT r.*
    FROM marts.renewal_pipeline AS r
    WHERE r.known_at = r.as_of
),
pairs AS (
    SELECT
        d.as_of,
        d.previous_as_of,
        n.renewal_id,
        n.org_id,
        n.deal_owner_name,
        b.renewal_id IS NOT NULL AS was_there,
        true AS is_there,
        b.status AS status_before, n.status AS status_now,
        CASE WHEN b.in_scope THEN 'in scope' ELSE b.out_of_scope_reason END AS scope_before,
        CASE WHEN n.in_scope THEN 'in scope' ELSE n.out_of_scope_reason END AS scope_now,
        b.stage AS stage_before, n.stage AS stage_now,
        CAST(b.renew_by AS VARCHAR) AS renew_by_before, CAST(n.renew_by AS VARCHAR) AS renew_by_now,
        b.deal_id AS deal_before, n.deal_id AS deal_now,
        CAST(b.deal_amount AS VARCHAR) AS deal_amount_before, CAST(n.deal_amount AS VARCHAR) AS deal_amount_now,
        CAST(b.mrr_at_stake AS VARCHAR) AS mrr_before, CAST(n.mrr_at_stake AS VARCHAR) AS mrr_now,
        CAST(b.scheduled_end_on AS VARCHAR) AS cancel_before, CAST(n.scheduled_end_on AS VARCHAR) AS cancel_now,
        array_to_string(b.hygiene, ', ') AS hygiene_before, array_to_string(n.hygiene, ', ') AS hygiene_now
    FROM days AS d
    INNER JOIN pipeline AS n ON n.as_of = d.as_of
    LEFT JOIN pipeline AS b ON b.as_of = d.previous_as_of AND b.renewal_id = n.renewal_id
    WHERE d.previous_as_of IS NOT NULL
    UNION ALL
    SELECT
        d.as_of,
        d.previous_as_of,
        b.renewal_id,
        b.org_id,
        b.deal_owner_name,
        true AS was_there,
        false AS is_there,
        b.status, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM days AS d
    INNER JOIN pipeline AS b ON b.as_of = d.previous_as_of
    LEFT JOIN pipeline AS n ON n.as_of = d.as_of AND n.renewal_id = b.renewal_id
    WHERE n.renewal_id IS NULL
),
facts AS (
    SELECT p.as_of, p.previous_as_of, p.renewal_id, p.org_id, p.deal_owner_name, 'added' AS change, CAST(NULL AS VARCHAR) AS before, p.status_now AS after
    FROM pairs AS p WHERE NOT p.was_there
    UNION ALL
    SELECT p.as_of, p.previous_as_of, p.renewal_id, p.org_id, p.deal_owner_name, 'removed' AS change, p.status_before AS before, CAST(NULL AS VARCHAR) AS after
    FROM pairs AS p WHERE NOT p.is_there
    UNION ALL
    SELECT
        p.as_of,
        p.previous_as_of,
        p.renewal_id,
        p.org_id,
        p.deal_owner_name,
        unnest([
            'status',
            'scope',
            'stage',
            'renew_by',
            'deal',
            'deal_amount',
            'mrr_at_stake',
            'scheduled_cancel',
            'hygiene'
        ]) AS change,
        unnest([
            p.status_before,
            p.scope_before,
            p.stage_before,
            p.renew_by_before,
            p.deal_before,
            p.deal_amount_before,
            p.mrr_before,
            p.cancel_before,
            p.hygiene_before
        ]) AS before,
        unnest([
            p.status_now,
            p.scope_now,
            p.stage_now,
            p.renew_by_now,
            p.deal_now,
            p.deal_amount_now,
            p.mrr_now,
            p.cancel_now,
            p.hygiene_now
        ]) AS after
    FROM pairs AS p
    WHERE p.was_there AND p.is_there
)
SELECT
    f.as_of,
    f.previous_as_of,
    f.renewal_id,
    f.change,
    f.org_id,
    o.name,
    f.deal_owner_name AS owner_name,
    f.before,
    f.after
FROM facts AS f
LEFT JOIN marts.organisation_daily AS o ON o.org_id = f.org_id AND o.as_of = f.as_of AND o.known_at = f.as_of
WHERE f.before IS DISTINCT FROM f.after
