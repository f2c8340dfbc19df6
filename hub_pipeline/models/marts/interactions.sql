/*---
description: >
  Intercom conversations of large clients: at least one message written by the contact (opener or reply) in the last
  interactions.days (28) local days, (D-28, D], and the account's tier at as_of is one of interactions.tiers. What
  only colleagues or bots wrote does not count. One row for each organisation the conversation counts for:
  the one on the record, else the contact's single or one primary membership at the moment of its last message, else
  all memberships, flagged attribution_ambiguous. A contact is unmet when no colleague in a client-facing role ever
  had an e-mail, call or meeting with it that was not automated. It is dissatisfied when the conversation's rating
  known at as_of is at most interactions.dissatisfied_max (2), or its current NPS answer is a detractor's.
grain: [as_of, known_at, conversation_id, org_id]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "day whose close ends what may be known", not_null: true}
  conversation_id: {type: VARCHAR, meaning: "conversation", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  tier: {type: VARCHAR, meaning: "tier of its account", not_null: true}
  contact_id: {type: VARCHAR, meaning: "contact who takes part; empty = unknown"}
  contact_name: {type: VARCHAR, meaning: "name of the contact"}
  title: {type: VARCHAR, meaning: "title of the conversation"}
  conversation_state: {type: VARCHAR, meaning: "open, closed or snoozed"}
  conversation_url: {type: VARCHAR, meaning: "address of the conversation"}
  started_at: {type: TIMESTAMP, meaning: "instant it was opened, else of its first known message", not_null: true}
  last_contact_at: {type: TIMESTAMP, meaning: "last message of the contact before the close of as_of", not_null: true}
  last_contact_on: {type: DATE, meaning: "local day of that message", not_null: true}
  contact_messages: {type: BIGINT, meaning: "messages of the contact in the window", not_null: true}
  rating: {type: BIGINT, meaning: "rating known at as_of, 1 to 5"}
  rated_at: {type: TIMESTAMP, meaning: "instant of the rating"}
  nps_score: {type: INTEGER, meaning: "current NPS answer of the contact"}
  is_unmet_contact: {type: BOOLEAN, meaning: "nobody in a client-facing role has met the contact yet; false when the contact is unknown", not_null: true}
  is_first_conversation: {type: BOOLEAN, meaning: "the contact has no conversation that began earlier", not_null: true}
  met_contacts: {type: BIGINT, meaning: "contacts of the organisation at the close of as_of who have been met", not_null: true}
  approach_candidate: {type: BOOLEAN, meaning: "unmet, and fewer than interactions.unmet_org_max_met (2) contacts of the organisation are met", not_null: true}
  is_dissatisfied: {type: BOOLEAN, meaning: "low rating or current detractor", not_null: true}
  dissatisfied_at: {type: TIMESTAMP, meaning: "the later of the low rating (its last message when the rating has no time) and the detractor's answer"}
  last_csm_touch_at: {type: TIMESTAMP, meaning: "last engagement or task of a csm, not automated, with the contact or logged against the organisation"}
  needs_escalation: {type: BOOLEAN, meaning: "dissatisfied, and no csm engagement or task at or after dissatisfied_at", not_null: true}
  attribution_ambiguous: {type: BOOLEAN, meaning: "one of several organisations of the contact", not_null: true}
  why: {type: VARCHAR, meaning: "the row with its numbers, one sentence", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was made with", not_null: true}
checks:
  - name: attribution_is_clear
    severity: warn
    description: >
      At most 5 % of the conversations on the list are counted with several organisations, because their contact has
      several and none is primary.
    sql: >
      SELECT as_of, known_at, conversation_id, org_id
      FROM marts.interactions
      WHERE attribution_ambiguous AND (
        SELECT 20 * count(DISTINCT conversation_id) FILTER (WHERE attribution_ambiguous) > count(DISTINCT conversation_id)
        FROM marts.interactions
        WHERE as_of = $as_of AND known_at = $known_at
      )
---*/
WITH recent AS (
    SELECT
        c.*,
        o.tier
    FROM intermediate.conversation_organisations AS c
    INNER JOIN marts.organisation_daily AS o
        ON o.org_id = c.org_id AND o.as_of = CAST($as_of AS DATE) AND o.known_at = CAST($known_at AS DATE)
    WHERE c.contact_messages > 0 AND list_contains(CAST($interactions_tiers AS VARCHAR[]), o.tier)
),
first_starts AS (
    SELECT c.contact_id, min(coalesce(c.created_at, o.started_at)) AS started_at
    FROM intermediate.current_conversations AS c
    LEFT JOIN intermediate.conversation_organisations AS o ON o.conversation_id = c.conversation_id
    WHERE c.contact_id IS NOT NULL
    GROUP BY c.contact_id
),
answers AS (
    SELECT
        n.contact_id,
        min(n.score) AS score,
        bool_or(n.is_detractor) AS is_detractor,
        max(n.responded_at) AS responded_at
    FROM intermediate.nps_current AS n
    WHERE n.contact_id IS NOT NULL
    GROUP BY n.contact_id
),
met_by_organisation AS (
    SELECT a.org_id, count(DISTINCT a.contact_id) AS met_contacts
    FROM intermediate.contact_attribution AS a
    INNER JOIN intermediate.met_contacts AS m ON m.contact_id = a.contact_id
    WHERE
        a.valid_from < CAST($close_as_of AS TIMESTAMP)
        AND (a.valid_to IS NULL OR a.valid_to >= CAST($close_as_of AS TIMESTAMP))
    GROUP BY a.org_id
),
csm_work AS (
    SELECT e.contact_id, e.org_id, e.occurred_at
    FROM intermediate.current_engagements AS e
    WHERE e.role = 'csm' AND NOT e.is_automated
),
csm_by_contact AS (
    SELECT e.contact_id, max(e.occurred_at) AS touched_at
    FROM csm_work AS e
    WHERE e.contact_id IS NOT NULL
    GROUP BY e.contact_id
),
csm_by_organisation AS (
    SELECT e.org_id, max(e.occurred_at) AS touched_at
    FROM csm_work AS e
    WHERE e.org_id IS NOT NULL
    GROUP BY e.org_id
),
joined AS (
    SELECT
        r.*,
        c.rating,
        c.rated_at,
        c.title,
        c.state AS conversation_state,
        c.url AS conversation_url,
        p.name AS contact_name,
        n.score AS nps_score,
        coalesce(n.is_detractor, false) AS is_detractor,
        n.responded_at,
        coalesce(c.rating <= CAST($interactions_dissatisfied_max AS INTEGER), false) AS is_rated_low,
        r.contact_id IS NOT NULL AND m.contact_id IS NULL AS is_unmet,
        coalesce(f.started_at >= r.started_at, false) AS is_first,
        coalesce(b.met_contacts, 0) AS met_contacts,
        greatest(t.touched_at, g.touched_at) AS last_csm_touch_at
    FROM recent AS r
    INNER JOIN intermediate.current_conversations AS c ON c.conversation_id = r.conversation_id
    LEFT JOIN intermediate.current_contacts AS p ON p.contact_id = r.contact_id
    LEFT JOIN answers AS n ON n.contact_id = r.contact_id
    LEFT JOIN intermediate.met_contacts AS m ON m.contact_id = r.contact_id
    LEFT JOIN first_starts AS f ON f.contact_id = r.contact_id
    LEFT JOIN met_by_organisation AS b ON b.org_id = r.org_id
    LEFT JOIN csm_by_contact AS t ON t.contact_id = r.contact_id
    LEFT JOIN csm_by_organisation AS g ON g.org_id = r.org_id
),
judged AS (
    SELECT
        j.*,
        j.is_rated_low OR j.is_detractor AS is_dissatisfied,
        greatest(
            CASE WHEN j.is_rated_low THEN coalesce(j.rated_at, j.last_contact_at) END,
            CASE WHEN j.is_detractor THEN j.responded_at END
        ) AS dissatisfied_at,
        j.is_unmet AND j.met_contacts < CAST($interactions_unmet_org_max_met AS INTEGER) AS is_candidate
    FROM joined AS j
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    j.conversation_id,
    j.org_id,
    j.tier,
    j.contact_id,
    j.contact_name,
    j.title,
    j.conversation_state,
    j.conversation_url,
    j.started_at,
    j.last_contact_at,
    local_date(j.last_contact_at, $reporting_tz) AS last_contact_on,
    j.contact_messages,
    j.rating,
    j.rated_at,
    j.nps_score,
    j.is_unmet AS is_unmet_contact,
    j.is_first AS is_first_conversation,
    j.met_contacts,
    j.is_candidate AS approach_candidate,
    j.is_dissatisfied,
    j.dissatisfied_at,
    j.last_csm_touch_at,
    j.is_dissatisfied
    AND (j.last_csm_touch_at IS NULL OR j.last_csm_touch_at < j.dissatisfied_at) AS needs_escalation,
    j.attribution = 'all_memberships' AS attribution_ambiguous,
    'Tier ' || j.tier || ' client: '
    || coalesce(nullif(trim(j.contact_name), ''), 'contact ' || j.contact_id, 'an unknown contact') || ' wrote '
    || CASE WHEN j.contact_messages = 1 THEN 'once' ELSE j.contact_messages || ' times' END
    || ' in ' || counted(CAST($interactions_days AS INTEGER), 'day')
    || CASE WHEN j.contact_messages = 1 THEN ', on ' ELSE ', last on ' END
    || local_date(j.last_contact_at, $reporting_tz)
    || CASE
        WHEN j.is_candidate AND j.met_contacts = 0
            THEN '; nobody has met this contact or anybody else of the organisation'
        WHEN j.is_candidate
            THEN '; nobody has met this contact, and only ' || counted(j.met_contacts, 'contact') || ' of the organisation '
                || CASE WHEN j.met_contacts = 1 THEN 'has' ELSE 'have' END || ' been met'
        WHEN j.is_unmet THEN '; nobody has met this contact'
        ELSE ''
    END
    || CASE WHEN j.is_rated_low THEN '; rated ' || j.rating || ' of 5' ELSE '' END
    || CASE WHEN j.is_detractor THEN '; NPS answer ' || j.nps_score ELSE '' END
    || CASE
        WHEN NOT j.is_dissatisfied THEN ''
        WHEN j.last_csm_touch_at IS NULL THEN '; no csm has been in touch'
        WHEN j.last_csm_touch_at < j.dissatisfied_at
            THEN '; the last csm touch was on ' || local_date(j.last_csm_touch_at, $reporting_tz) || ', before that'
        ELSE '; a csm was in touch on ' || local_date(j.last_csm_touch_at, $reporting_tz)
    END
    || CASE WHEN j.attribution = 'all_memberships' THEN '; the contact belongs to several organisations' ELSE '' END
    || '.' AS why,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM judged AS j
