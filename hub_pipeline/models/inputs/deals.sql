/*---
description: >
  Versions of HubSpot deals with the organisation they are associated with. pipeline is post_sales or sales for the two
  pipelines that the settings name, else the portal's own id. Closed deals were closed when they entered their present
  stage; where HubSpot keeps no stage history, at their close date. A deal with two organisations is given the one with the lowest id.
  A version is emitted whenever the deal or its association changed. Amount and owner are those of the version's time.
grain: [deal_id, recorded_at]
checks:
  - name: values_readable
    severity: warn
    description: >
      Every value of a mapped property of a deal that is still there fits its column: a number, a date, a word the settings
      know. One row for each column with values that do not; they are empty for the models and stay as text in raw.
    sql: >
      SELECT column_name, property, count(*) AS records, min(value) AS example, min(id) AS example_id
      FROM raw_hubspot.deals_unread GROUP BY column_name, property ORDER BY records DESC, column_name
---*/
WITH links AS (
    SELECT a.from_id AS deal_id, a.to_id AS org_id, a._recorded_at AS recorded_at, a._deleted_at IS NULL AS is_live
    FROM raw_hubspot.associations AS a
    WHERE a.from_object = 'deals' AND a.to_object = 'organisations'
), events AS (
    SELECT id AS deal_id, _recorded_at AS recorded_at FROM raw_hubspot.deals_mapped
    UNION
    SELECT deal_id, recorded_at FROM links
), link_states AS (
    SELECT e.deal_id, e.recorded_at, l.org_id, arg_max(l.is_live, l.recorded_at) AS is_live
    FROM events AS e
    JOIN links AS l ON l.deal_id = e.deal_id AND l.recorded_at <= e.recorded_at
    GROUP BY e.deal_id, e.recorded_at, l.org_id
), organisations AS (
    SELECT deal_id, recorded_at, min(org_id) FILTER (WHERE is_live) AS org_id
    FROM link_states
    GROUP BY deal_id, recorded_at
), entered AS (
    SELECT h.id AS deal_id, h.value AS stage, max(h.effective_at) AS entered_at
    FROM raw_hubspot.deals_changes AS h
    WHERE h.column_name = 'stage' AND NOT h.is_since_creation
    GROUP BY h.id, h.value
)
SELECT
    d.id AS deal_id,
    d.name,
    o.org_id,
    d.subscription_id,
    CASE d.pipeline
        WHEN $hubspot_post_sales_pipeline THEN 'post_sales'
        WHEN $hubspot_sales_pipeline THEN 'sales'
        ELSE d.pipeline
    END AS pipeline,
    coalesce(
        CAST($hubspot_deal_types_values[list_position($hubspot_deal_types_keys, d.deal_type)] AS VARCHAR),
        -- A type that a setting names as that of custom contracts keeps its name.
        CASE WHEN list_contains(CAST($hubspot_contract_deal_types AS VARCHAR[]), lower(d.deal_type)) THEN lower(d.deal_type) END
    ) AS deal_type,
    d.plan,
    d.stage,
    CASE WHEN d.is_won THEN 'won' WHEN d.is_closed THEN 'lost' WHEN NOT d.is_closed THEN 'open' END AS status,
    d.amount,
    upper(d.currency) AS currency,
    d.owner_id,
    d.next_activity_at IS NOT NULL AS has_next_activity,
    d.record_url AS hubspot_url,
    d.created_at,
    CASE WHEN d.is_closed THEN coalesce(t.entered_at, d.close_date) END AS closed_at,
    CAST(local_date(d.close_date, $reporting_tz) AS DATE) AS close_date,
    d._archived_at IS NOT NULL OR d._deleted_at IS NOT NULL OR d._merged_into IS NOT NULL AS is_deleted,
    e.recorded_at
FROM events AS e
JOIN raw_hubspot.deals_mapped AS d ON d.id = e.deal_id AND d._recorded_at <= e.recorded_at
LEFT JOIN organisations AS o ON o.deal_id = e.deal_id AND o.recorded_at = e.recorded_at
LEFT JOIN entered AS t ON t.deal_id = d.id AND t.stage = d.stage
QUALIFY d._recorded_at = max(d._recorded_at) OVER (PARTITION BY e.deal_id, e.recorded_at)
