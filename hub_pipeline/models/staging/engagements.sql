/*---
description: >
  Notes, tasks, e-mails, calls and meetings; one row for each engagement, contact and organisation.
  Recorded_at is the input's; where that is empty it is occurred_at, else 1970-01-01 (always known).
  Of rows with the same key one is kept: the greatest by its other columns in their order.
grain: [engagement_id, contact_id, org_id, recorded_at]
columns:
  engagement_id: {type: VARCHAR, meaning: "id of the engagement", not_null: true}
  type: {type: VARCHAR, meaning: "note, task, email, call or meeting", not_null: true, accepted: [note, task, email, call, meeting]}
  direction: {type: VARCHAR, meaning: "inbound or outbound"}
  contact_id: {type: VARCHAR, meaning: "contact it is logged against"}
  org_id: {type: VARCHAR, meaning: "organisation it is logged against"}
  user_id: {type: VARCHAR, meaning: "colleague who did it"}
  is_automated: {type: BOOLEAN, meaning: "sent by a sequence or a campaign", not_null: true}
  occurred_at: {type: TIMESTAMP, meaning: "instant it took place", not_null: true}
  status: {type: VARCHAR, meaning: "status in its source"}
  due_at: {type: TIMESTAMP, meaning: "instant a task is due"}
  completed_at: {type: TIMESTAMP, meaning: "instant a task was completed"}
  subject: {type: VARCHAR, meaning: "subject line"}
  is_deleted: {type: BOOLEAN, meaning: "the record is gone from its source from this version on", not_null: true}
  recorded_at: {type: TIMESTAMP, meaning: "instant the row became known", not_null: true}
  occurred_on: {type: DATE, meaning: "local day it took place", not_null: true}
---*/
WITH completed AS (
    SELECT
        engagement_id,
        lower(trim(type)) AS type,
        lower(direction) AS direction,
        contact_id,
        org_id,
        user_id,
        coalesce(is_automated, false) AS is_automated,
        occurred_at,
        status,
        due_at,
        completed_at,
        subject,
        coalesce(is_deleted, false) AS is_deleted,
        coalesce(recorded_at, occurred_at, TIMESTAMP '1970-01-01') AS recorded_at,
        local_date(occurred_at, $reporting_tz) AS occurred_on
    FROM inputs.engagements
)
SELECT
    engagement_id,
    type,
    direction,
    contact_id,
    org_id,
    user_id,
    is_automated,
    occurred_at,
    status,
    due_at,
    completed_at,
    subject,
    is_deleted,
    recorded_at,
    occurred_on
FROM completed
QUALIFY
    row_number() OVER (
        PARTITION BY engagement_id, contact_id, org_id, recorded_at
        ORDER BY
            type DESC,
            direction DESC,
            user_id DESC,
            is_automated DESC,
            occurred_at DESC,
            status DESC,
            due_at DESC,
            completed_at DESC,
            subject DESC,
            is_deleted DESC
    ) = 1
