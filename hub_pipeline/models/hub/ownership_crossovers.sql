/*---
description: >
  Where colleagues get in each other's way, on the latest day.
grain: [kind, subject_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  kind: {type: VARCHAR, meaning: "contact, duplicate_person or account_deals", not_null: true, accepted: [contact, duplicate_person, account_deals]}
  subject_id: {type: VARCHAR, meaning: "the contact, the first of the contacts by id, or the account", not_null: true}
  contact_id: {type: VARCHAR, meaning: "contact; empty for account_deals"}
  contact_ids: {type: "VARCHAR[]", meaning: "all contacts concerned, sorted", not_null: true}
  account_id: {type: VARCHAR, meaning: "account of the deals; empty for contacts"}
  deal_ids: {type: "VARCHAR[]", meaning: "open deals of the account, sorted", not_null: true}
  owner_id: {type: VARCHAR, meaning: "owner of the contact at the close of as_of"}
  crossing_users: {type: "VARCHAR[]", meaning: "users who got in the way, sorted", not_null: true}
  people: {type: "VARCHAR[]", meaning: "all users involved, sorted", not_null: true}
  last_on: {type: DATE, meaning: "local day of the last engagement of a crossing user; empty for owners alone"}
  why: {type: VARCHAR, meaning: "the row in one sentence", not_null: true}
order_by: [kind, subject_id]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    m.as_of,
    m.kind,
    m.subject_id,
    m.contact_id,
    m.contact_ids,
    m.account_id,
    m.deal_ids,
    m.owner_id,
    m.crossing_users,
    m.people,
    m.last_on,
    m.why
FROM marts.ownership_crossovers AS m
INNER JOIN latest AS l ON l.as_of = m.as_of AND l.as_of = m.known_at
