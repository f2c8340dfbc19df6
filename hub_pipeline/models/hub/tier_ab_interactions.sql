/*---
description: >
  Conversations of large clients (tiers A and B unless the settings say otherwise) in which the contact wrote within the
  last 28 days, on the latest day; one row for each organisation the conversation counts for. Ordered by those that need
  escalation, then by the last message of the contact, newest first.
grain: [conversation_id, org_id]
columns:
  as_of: {type: DATE, meaning: "latest day", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges"}
  name: {type: VARCHAR, meaning: "name of the organisation"}
  owner_name: {type: VARCHAR, meaning: "who owns the relationship"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  mrr: {type: "DECIMAL(18,2)", meaning: "MRR of the organisation, reporting currency; empty = unknown"}
  conversation_id: {type: VARCHAR, meaning: "Intercom's id of the conversation"}
  contact_id: {type: VARCHAR, meaning: "contact who takes part"}
  contact_name: {type: VARCHAR, meaning: "name of the contact"}
  title: {type: VARCHAR, meaning: "title of the conversation"}
  conversation_state: {type: VARCHAR, meaning: "open, closed or snoozed"}
  last_contact_on: {type: DATE, meaning: "day of the contact's last message"}
  contact_messages: {type: BIGINT, meaning: "messages of the contact in the window"}
  rating: {type: BIGINT, meaning: "rating, 1 to 5"}
  nps_score: {type: INTEGER, meaning: "current NPS answer of the contact"}
  is_unmet_contact: {type: BOOLEAN, meaning: "nobody in a client-facing role has met the contact yet"}
  is_first_conversation: {type: BOOLEAN, meaning: "the contact's first conversation"}
  approach_candidate: {type: BOOLEAN, meaning: "unmet, in an organisation where hardly anybody is met"}
  is_dissatisfied: {type: BOOLEAN, meaning: "low rating or current NPS detractor"}
  needs_escalation: {type: BOOLEAN, meaning: "dissatisfied, and no csm has been in touch since"}
  last_csm_touch_at: {type: TIMESTAMP, meaning: "last engagement or task of a csm (UTC)"}
  attribution_ambiguous: {type: BOOLEAN, meaning: "the contact belongs to several organisations"}
  conversation_url: {type: VARCHAR, meaning: "address of the conversation in Intercom's inbox"}
  hubspot_url: {type: VARCHAR, meaning: "address of the HubSpot record"}
  why: {type: VARCHAR, meaning: "the row in one sentence with its numbers"}
order_by: [needs_escalation DESC, last_contact_on DESC, conversation_id, org_id]
---*/
WITH latest AS (
    SELECT max(o.as_of) AS as_of
    FROM marts.organisation_daily AS o
    WHERE o.known_at = o.as_of
)
SELECT
    i.as_of,
    i.org_id,
    o.name,
    o.owner_name,
    i.tier,
    o.mrr,
    i.conversation_id,
    i.contact_id,
    i.contact_name,
    i.title,
    i.conversation_state,
    i.last_contact_on,
    i.contact_messages,
    i.rating,
    i.nps_score,
    i.is_unmet_contact,
    i.is_first_conversation,
    i.approach_candidate,
    i.is_dissatisfied,
    i.needs_escalation,
    i.last_csm_touch_at,
    i.attribution_ambiguous,
    i.conversation_url,
    o.hubspot_url,
    i.why
FROM marts.interactions AS i
INNER JOIN latest AS l ON l.as_of = i.as_of AND l.as_of = i.known_at
LEFT JOIN marts.organisation_daily AS o
    ON o.org_id = i.org_id AND o.as_of = i.as_of AND o.known_at = i.known_at
