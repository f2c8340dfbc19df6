/*---
description: >
  marts.interactions rolled up to organisations: how many conversations and contacts in the window, whom to approach
  and where to escalate.
grain: [as_of, known_at, org_id]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "day whose close ends what may be known", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  tier: {type: VARCHAR, meaning: "tier of its account", not_null: true}
  conversations: {type: BIGINT, meaning: "conversations in the window", not_null: true}
  contacts: {type: BIGINT, meaning: "contacts who wrote", not_null: true}
  last_contact_on: {type: DATE, meaning: "last day on which a contact wrote", not_null: true}
  unmet_contacts: {type: "VARCHAR[]", meaning: "contacts nobody has met, sorted", not_null: true}
  approach_candidates: {type: "VARCHAR[]", meaning: "contacts to approach, sorted", not_null: true}
  dissatisfied_conversations: {type: BIGINT, meaning: "conversations of dissatisfied contacts", not_null: true}
  needs_escalation: {type: BOOLEAN, meaning: "at least one conversation needs escalation", not_null: true}
  attribution_ambiguous: {type: BOOLEAN, meaning: "at least one conversation belongs to several organisations", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was made with", not_null: true}
---*/
SELECT
    i.as_of,
    i.known_at,
    i.org_id,
    min(i.tier) AS tier,
    count(*) AS conversations,
    count(DISTINCT i.contact_id) AS contacts,
    max(i.last_contact_on) AS last_contact_on,
    coalesce(
        list_sort(list_distinct(array_agg(i.contact_id) FILTER (WHERE i.is_unmet_contact))), CAST([] AS VARCHAR[])
    ) AS unmet_contacts,
    coalesce(
        list_sort(list_distinct(array_agg(i.contact_id) FILTER (WHERE i.approach_candidate))), CAST([] AS VARCHAR[])
    ) AS approach_candidates,
    count(*) FILTER (WHERE i.is_dissatisfied) AS dissatisfied_conversations,
    bool_or(i.needs_escalation) AS needs_escalation,
    bool_or(i.attribution_ambiguous) AS attribution_ambiguous,
    min(i.settings_hash) AS settings_hash
FROM marts.interactions AS i
WHERE i.as_of = CAST($as_of AS DATE) AND i.known_at = CAST($known_at AS DATE)
GROUP BY i.as_of, i.known_at, i.org_id
