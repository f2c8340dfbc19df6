/*---
description: >
  Where lifecycle stage and lead status of contacts contradict what is known, on the latest day.
grain: [check, subject_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  check: {type: VARCHAR, meaning: "rule that is broken", not_null: true, accepted: [lifecycle_missing, unknown_value, customer_not_paying, paying_org_without_customer_contact, opportunity_without_open_deal, sql_without_lead_status, other_but_commercial, subscriber_with_trial, open_deal_status_without_deal, unqualified_with_open_deal, attempted_but_replied, connected_without_two_way, stage_skipped, stage_moved_back, unresponsive_14d, autocreated_incomplete, duplicate_contact_email, internal_or_vendor_domain]}
  subject_id: {type: VARCHAR, meaning: "the contact, or the organisation", not_null: true}
  contact_id: {type: VARCHAR, meaning: "contact; of duplicates the first by id; empty for an organisation"}
  contact_ids: {type: "VARCHAR[]", meaning: "all contacts concerned, sorted", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation of the finding; of a contact its first by id; empty = it has none"}
  owner_id: {type: VARCHAR, meaning: "owner of the contact, or of the organisation"}
  lifecycle_stage: {type: VARCHAR, meaning: "stage as it is written"}
  lead_status: {type: VARCHAR, meaning: "status as it is written"}
order_by: [owner_id NULLS LAST, subject_id]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    m.as_of,
    m."check",
    m.subject_id,
    m.contact_id,
    m.contact_ids,
    m.org_id,
    m.owner_id,
    m.lifecycle_stage,
    m.lead_status
FROM marts.lifecycle_checks AS m
INNER JOIN latest AS l ON l.as_of = m.as_of AND l.as_of = m.known_at
