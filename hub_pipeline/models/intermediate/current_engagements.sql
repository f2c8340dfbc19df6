/*---
description: >
  Notes, tasks, e-mails, calls and meetings known by known_at, one row for each engagement, contact and organisation:
  the latest version, not deleted. What takes place at or after the close of as_of has not happened yet and is left
  out, except a task of which any version was recorded before that close: its time is when it is due, and that it
  exists is a fact. A task completed at or after that close is not yet completed: its completed_at and status are empty.
grain: [engagement_id, contact_id, org_id]
columns:
  engagement_id: {type: VARCHAR, meaning: "id of the engagement", not_null: true}
  type: {type: VARCHAR, meaning: "note, task, email, call or meeting", not_null: true}
  direction: {type: VARCHAR, meaning: "inbound or outbound"}
  contact_id: {type: VARCHAR, meaning: "contact it is logged against"}
  org_id: {type: VARCHAR, meaning: "organisation it is logged against, after merges"}
  user_id: {type: VARCHAR, meaning: "colleague who did it"}
  role: {type: VARCHAR, meaning: "role of that colleague"}
  is_automated: {type: BOOLEAN, meaning: "sent by a sequence or a campaign", not_null: true}
  occurred_at: {type: TIMESTAMP, meaning: "instant it took place; of a task: is due", not_null: true}
  status: {type: VARCHAR, meaning: "status in its source; empty = unknown at the close of as_of"}
  due_at: {type: TIMESTAMP, meaning: "instant a task is due"}
  completed_at: {type: TIMESTAMP, meaning: "instant a task was completed, before the close of as_of"}
  subject: {type: VARCHAR, meaning: "subject line"}
---*/
WITH latest AS (
    SELECT
        e.*,
        min(e.recorded_at) OVER (PARTITION BY e.engagement_id, e.contact_id, e.org_id) AS first_recorded_at,
        coalesce(e.completed_at >= CAST($close_as_of AS TIMESTAMP), false) AS is_completed_later
    FROM staging.engagements AS e
    WHERE e.recorded_at < CAST($close_known_at AS TIMESTAMP)
    QUALIFY e.recorded_at = max(e.recorded_at) OVER (PARTITION BY e.engagement_id, e.contact_id, e.org_id)
),
-- links to two organisations that were merged fall together
merged AS (
    SELECT
        l.*,
        coalesce(i.canonical_org_id, l.org_id) AS canonical_org_id
    FROM latest AS l
    LEFT JOIN intermediate.organisation_identity AS i ON i.org_id = l.org_id
    WHERE
        NOT l.is_deleted
        AND (
            l.occurred_at < CAST($close_as_of AS TIMESTAMP)
            OR (l.type = 'task' AND l.first_recorded_at < CAST($close_as_of AS TIMESTAMP))
        )
    QUALIFY row_number() OVER (
        PARTITION BY l.engagement_id, l.contact_id, coalesce(i.canonical_org_id, l.org_id)
        ORDER BY l.recorded_at DESC, l.org_id ASC
    ) = 1
)
SELECT
    m.engagement_id,
    m.type,
    m.direction,
    m.contact_id,
    m.canonical_org_id AS org_id,
    m.user_id,
    u.role,
    m.is_automated,
    m.occurred_at,
    CASE WHEN NOT m.is_completed_later THEN m.status END AS status,
    m.due_at,
    CASE WHEN NOT m.is_completed_later THEN m.completed_at END AS completed_at,
    m.subject
FROM merged AS m
LEFT JOIN intermediate.current_users AS u ON u.user_id = m.user_id
