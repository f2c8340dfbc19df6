/*---
description: >
  What people did with each organisation before the close of as_of: engagements logged against it, else against a
  contact attributed to it at that moment; a task due later counts for whom the contact stands for at the close of
  as_of. A touch is an e-mail, call or meeting that was not automated. A task is open
  until it is completed; it is overdue when it was due before the close of as_of.
grain: [org_id]
columns:
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  last_touch_at: {type: TIMESTAMP, meaning: "last touch; empty = none"}
  last_note_at: {type: TIMESTAMP, meaning: "last note; empty = none"}
  open_tasks: {type: BIGINT, meaning: "tasks that are not completed", not_null: true}
  overdue_tasks: {type: BIGINT, meaning: "of these, due before the close of as_of", not_null: true}
---*/
WITH attributed AS (
    SELECT DISTINCT
        e.engagement_id,
        coalesce(e.org_id, a.org_id) AS org_id,
        e.type,
        e.is_automated,
        e.occurred_at,
        e.due_at,
        e.completed_at,
        lower(e.status) AS status
    FROM intermediate.current_engagements AS e
    LEFT JOIN intermediate.contact_attribution AS a
        ON
            e.org_id IS NULL
            AND e.contact_id = a.contact_id
            AND a.valid_from <= e.occurred_at
            AND a.valid_from < $close_as_of
            AND (a.valid_to IS NULL OR a.valid_to > e.occurred_at OR a.valid_to >= $close_as_of)
),
judged AS (
    SELECT
        *,
        type = 'task'
        AND coalesce(status <> 'completed', true)
        AND completed_at IS NULL AS is_open_task
    FROM attributed
    WHERE org_id IS NOT NULL
)
SELECT
    org_id,
    max(occurred_at) FILTER (
        WHERE type IN ('email', 'call', 'meeting') AND NOT is_automated AND occurred_at < $close_as_of
    ) AS last_touch_at,
    max(occurred_at) FILTER (WHERE type = 'note' AND occurred_at < $close_as_of) AS last_note_at,
    count(DISTINCT engagement_id) FILTER (WHERE is_open_task) AS open_tasks,
    count(DISTINCT engagement_id) FILTER (WHERE is_open_task AND coalesce(due_at, occurred_at) < $close_as_of) AS overdue_tasks
FROM judged
GROUP BY org_id
