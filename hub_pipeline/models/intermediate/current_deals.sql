/*---
description: >
  Deals as they stood at the close of as_of: the latest version known by known_at, not deleted, created before that
  close. Its status is the record's, else what the pipeline says of its stage, else open; a deal whose closed_at is at
  or after the close of as_of is open. The stage of a won or lost deal is the record's; that of an open one the last one
  set before that close, else the record's, unless the deal was closed later: then it is unknown. A deal entered its
  stage with the first of the unbroken run of entries that set it; a won or lost one without such an entry when it was
  closed. renew_by is the date by which the contract is to be renewed: for an open deal the last close date set before
  that close (none when it was cleared), else the record's; for a won or lost deal the last close date set before the
  local day of closing, else the last one that the closing itself did not set (set before closed_at, or another date than
  the day of closing), else the record's unless that is the day of closing. A deal without closed_at has the record's.
grain: [deal_id]
columns:
  deal_id: {type: VARCHAR, meaning: "id of the deal", not_null: true}
  name: {type: VARCHAR, meaning: "name of the deal"}
  org_id: {type: VARCHAR, meaning: "organisation after merges"}
  subscription_id: {type: VARCHAR, meaning: "subscription it renews, when the deal says so"}
  pipeline: {type: VARCHAR, meaning: "post_sales, sales or another id"}
  deal_type: {type: VARCHAR, meaning: "renewal, upsell or new_business"}
  plan: {type: VARCHAR, meaning: "plan it sells"}
  stage: {type: VARCHAR, meaning: "stage at the close of as_of; empty = unknown"}
  stage_since: {type: TIMESTAMP, meaning: "instant it entered that stage; empty = unknown"}
  status: {type: VARCHAR, meaning: "open, won or lost at the close of as_of", not_null: true, accepted: [open, won, lost]}
  amount: {type: "DECIMAL(18,2)", meaning: "amount as typed, currency of the deal"}
  currency: {type: VARCHAR, meaning: "ISO 4217"}
  owner_id: {type: VARCHAR, meaning: "owner of the deal"}
  has_next_activity: {type: BOOLEAN, meaning: "a next activity is planned; empty = unknown"}
  hubspot_url: {type: VARCHAR, meaning: "address of the record"}
  created_on: {type: DATE, meaning: "local day of creation"}
  closed_at: {type: TIMESTAMP, meaning: "instant it was won or lost, before the close of as_of"}
  closed_on: {type: DATE, meaning: "local day of closed_at"}
  renew_by: {type: DATE, meaning: "date by which to renew; empty = the deal does not say"}
---*/
WITH latest AS (
    SELECT d.*
    FROM staging.deals AS d
    WHERE d.recorded_at < CAST($close_known_at AS TIMESTAMP)
    QUALIFY d.recorded_at = max(d.recorded_at) OVER (PARTITION BY d.deal_id)
),
stages AS (
    SELECT s.pipeline, s.stage, arg_max(s.status, s.recorded_at) AS status
    FROM staging.stages AS s
    WHERE s.recorded_at < CAST($close_known_at AS TIMESTAMP)
    GROUP BY s.pipeline, s.stage
),
live AS (
    SELECT
        l.*,
        coalesce(i.canonical_org_id, l.org_id) AS canonical_org_id,
        coalesce(l.status, s.status, 'open') AS known_status,
        coalesce(l.status, s.status, 'open') IN ('won', 'lost')
        AND (l.closed_at IS NULL OR l.closed_at < CAST($close_as_of AS TIMESTAMP)) AS is_closed,
        coalesce(l.closed_at >= CAST($close_as_of AS TIMESTAMP), false) AS closes_later
    FROM latest AS l
    LEFT JOIN intermediate.organisation_identity AS i ON i.org_id = l.org_id
    LEFT JOIN stages AS s ON s.pipeline = l.pipeline AND s.stage = l.stage
    WHERE NOT l.is_deleted AND (l.created_at IS NULL OR l.created_at < CAST($close_as_of AS TIMESTAMP))
),
close_date_versions AS (
    SELECT h.deal_id, h.close_date, h.set_at, h.set_on
    FROM staging.deal_close_dates AS h
    WHERE h.recorded_at < CAST($close_known_at AS TIMESTAMP) AND h.set_at < CAST($close_as_of AS TIMESTAMP)
    QUALIFY h.recorded_at = max(h.recorded_at) OVER (PARTITION BY h.deal_id, h.set_at)
),
close_dates AS (
    SELECT
        l.deal_id,
        arg_max(h.close_date, h.set_at) AS last_set,
        -- arg_max passes over empty dates: an open deal whose date was cleared has none, whatever it had before
        arg_max(h.close_date IS NULL, h.set_at) AS is_cleared,
        arg_max(h.close_date, h.set_at) FILTER (WHERE h.set_on < l.closed_on) AS set_before_closing_day,
        arg_max(h.close_date, h.set_at)
            FILTER (WHERE h.set_at < l.closed_at OR h.close_date <> l.closed_on) AS not_set_by_closing
    FROM live AS l
    INNER JOIN close_date_versions AS h ON h.deal_id = l.deal_id
    GROUP BY l.deal_id
),
stage_versions AS (
    SELECT h.deal_id, h.stage, h.set_at
    FROM staging.deal_stages AS h
    WHERE h.recorded_at < CAST($close_known_at AS TIMESTAMP) AND h.set_at < CAST($close_as_of AS TIMESTAMP)
    QUALIFY h.recorded_at = max(h.recorded_at) OVER (PARTITION BY h.deal_id, h.set_at)
),
stage_changes AS (
    SELECT h.deal_id, h.stage, h.set_at
    FROM stage_versions AS h
    WHERE h.stage IS NOT NULL
    QUALIFY h.stage IS DISTINCT FROM lag(h.stage) OVER (PARTITION BY h.deal_id ORDER BY h.set_at)
),
stage_history AS (
    SELECT h.deal_id, arg_max(h.stage, h.set_at) AS stage, max(h.set_at) AS set_at
    FROM stage_changes AS h
    GROUP BY h.deal_id
),
joined AS (
    SELECT
        l.*,
        c.last_set,
        coalesce(c.is_cleared, false) AS is_cleared,
        c.set_before_closing_day,
        c.not_set_by_closing,
        h.stage AS history_stage,
        h.set_at AS history_set_at,
        CASE
            WHEN l.is_closed THEN l.stage
            WHEN l.closes_later THEN h.stage
            ELSE coalesce(h.stage, l.stage)
        END AS stage_now,
        -- what the closing wrote over the close date is no renew-by date
        CASE
            WHEN l.closed_on IS NULL OR l.close_date <> l.closed_on OR NOT (l.is_closed OR l.closes_later)
                THEN l.close_date
        END AS close_date_not_closing
    FROM live AS l
    LEFT JOIN close_dates AS c ON c.deal_id = l.deal_id
    LEFT JOIN stage_history AS h ON h.deal_id = l.deal_id
)
SELECT
    deal_id,
    name,
    canonical_org_id AS org_id,
    subscription_id,
    pipeline,
    deal_type,
    plan,
    stage_now AS stage,
    CASE WHEN stage_now = history_stage THEN history_set_at WHEN is_closed THEN closed_at END AS stage_since,
    CASE WHEN is_closed THEN known_status ELSE 'open' END AS status,
    amount,
    currency,
    owner_id,
    has_next_activity,
    hubspot_url,
    created_on,
    CASE WHEN is_closed THEN closed_at END AS closed_at,
    CASE WHEN is_closed THEN closed_on END AS closed_on,
    CASE
        WHEN is_closed THEN coalesce(set_before_closing_day, not_set_by_closing, close_date_not_closing)
        WHEN NOT is_cleared THEN coalesce(last_set, close_date_not_closing)
    END AS renew_by
FROM joined
