/*---
description: >
  Deals, one row for each version.
  Recorded_at is the input's; where that is empty it is created_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [deal_id, recorded_at]
columns:
  deal_id: {type: VARCHAR, meaning: "id of the deal", not_null: true}
  name: {type: VARCHAR, meaning: "name"}
  org_id: {type: VARCHAR, meaning: "organisation"}
  subscription_id: {type: VARCHAR, meaning: "subscription it renews, when stated"}
  pipeline: {type: VARCHAR, meaning: "post_sales, sales or another id"}
  deal_type: {type: VARCHAR, meaning: "renewal, upsell or new_business"}
  plan: {type: VARCHAR, meaning: "plan it sells"}
  stage: {type: VARCHAR, meaning: "stage id"}
  status: {type: VARCHAR, meaning: "open, won or lost; empty = the meaning of the stage", accepted: [open, won, lost]}
  amount: {type: "DECIMAL(18,2)", meaning: "amount, in the meaning of renewal.deal_amount_basis"}
  currency: {type: VARCHAR, meaning: "ISO 4217, upper case; reporting currency when the input has none", not_null: true}
  owner_id: {type: VARCHAR, meaning: "owner"}
  has_next_activity: {type: BOOLEAN, meaning: "a next activity is planned; empty = unknown"}
  hubspot_url: {type: VARCHAR, meaning: "address of the record"}
  created_at: {type: TIMESTAMP, meaning: "instant it was created"}
  closed_at: {type: TIMESTAMP, meaning: "instant it was won or lost"}
  close_date: {type: DATE, meaning: "date by which to renew"}
  is_deleted: {type: BOOLEAN, meaning: "the record is gone from its source from this version on", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
  created_on: {type: DATE, meaning: "local day it was created"}
  closed_on: {type: DATE, meaning: "local day it was won or lost"}
---*/
WITH completed AS (
    SELECT
        deal_id,
        name,
        org_id,
        subscription_id,
        pipeline,
        deal_type,
        plan,
        stage,
        lower(nullif(trim(status), '')) AS status,
        amount,
        coalesce(upper(nullif(trim(currency), '')), $reporting_currency) AS currency,
        owner_id,
        has_next_activity,
        hubspot_url,
        created_at,
        closed_at,
        close_date,
        coalesce(is_deleted, false) AS is_deleted,
        coalesce(recorded_at, created_at, TIMESTAMP '1970-01-01') AS recorded_at,
        local_date(created_at, $reporting_tz) AS created_on,
        local_date(closed_at, $reporting_tz) AS closed_on
    FROM inputs.deals
)
SELECT
    deal_id,
    name,
    org_id,
    subscription_id,
    pipeline,
    deal_type,
    plan,
    stage,
    status,
    amount,
    currency,
    owner_id,
    has_next_activity,
    hubspot_url,
    created_at,
    closed_at,
    close_date,
    is_deleted,
    recorded_at,
    created_on,
    closed_on
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY deal_id, recorded_at
        ORDER BY
            name DESC,
            org_id DESC,
            subscription_id DESC,
            pipeline DESC,
            deal_type DESC,
            plan DESC,
            stage DESC,
            status DESC,
            amount DESC,
            currency DESC,
            owner_id DESC,
            has_next_activity DESC,
            hubspot_url DESC,
            created_at DESC,
            closed_at DESC,
            close_date DESC,
            is_deleted DESC
    ) = 1
