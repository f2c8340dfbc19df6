/*---
description: >
  Notes, tasks, e-mails, calls and meetings that HubSpot holds, one row for each contact and each organisation they are
  logged against (one row without either where there is none). HubSpot's ids are unique within a type, so the type is
  part of the id. What an automation, a workflow, a sequence or a marketing e-mail did is automated. A task's time is
  its due date; it is completed when its status says so. The body of notes is not carried: the subject of a note is NULL.
grain: [engagement_id, contact_id, org_id, recorded_at]
---*/
WITH engagements AS (
    SELECT 'notes' AS object, 'note' AS type, CAST(NULL AS VARCHAR) AS direction, e.id, e.owner_id, e.occurred_at, e.subject,
        e.status, e.source, e._archived_at, e._deleted_at, e._merged_into, e._changed_at, e._recorded_at
    FROM raw_hubspot.notes_mapped AS e
    UNION ALL
    SELECT 'tasks' AS object, 'task' AS type, CAST(NULL AS VARCHAR) AS direction, e.id, e.owner_id, e.occurred_at, e.subject,
        e.status, e.source, e._archived_at, e._deleted_at, e._merged_into, e._changed_at, e._recorded_at
    FROM raw_hubspot.tasks_mapped AS e
    UNION ALL
    SELECT 'emails' AS object, 'email' AS type, CASE upper(e.direction) WHEN 'INCOMING_EMAIL' THEN 'inbound' WHEN 'EMAIL' THEN 'outbound' WHEN 'FORWARDED_EMAIL' THEN 'outbound' END AS direction, e.id, e.owner_id, e.occurred_at, e.subject,
        e.status, e.source, e._archived_at, e._deleted_at, e._merged_into, e._changed_at, e._recorded_at
    FROM raw_hubspot.emails_mapped AS e
    UNION ALL
    SELECT 'calls' AS object, 'call' AS type, lower(e.direction) AS direction, e.id, e.owner_id, e.occurred_at, e.subject,
        e.status, e.source, e._archived_at, e._deleted_at, e._merged_into, e._changed_at, e._recorded_at
    FROM raw_hubspot.calls_mapped AS e
    UNION ALL
    SELECT 'meetings' AS object, 'meeting' AS type, CAST(NULL AS VARCHAR) AS direction, e.id, e.owner_id, e.occurred_at, e.subject,
        e.status, e.source, e._archived_at, e._deleted_at, e._merged_into, e._changed_at, e._recorded_at
    FROM raw_hubspot.meetings_mapped AS e
), links AS (
    SELECT
        a.from_object AS object,
        a.from_id AS id,
        CASE a.to_object WHEN 'contacts' THEN a.to_id END AS contact_id,
        CASE a.to_object WHEN 'organisations' THEN a.to_id END AS org_id,
        a._deleted_at IS NOT NULL AS is_unlinked,
        a._recorded_at AS recorded_at
    FROM raw_hubspot.associations AS a
    WHERE a.to_object IN ('contacts', 'organisations')
), rows AS (
    SELECT
        e.*,
        l.contact_id,
        l.org_id,
        coalesce(l.is_unlinked, false) AS is_unlinked,
        greatest(e._recorded_at, l.recorded_at) AS recorded_at,
        l.recorded_at AS linked_at
    FROM engagements AS e
    LEFT JOIN links AS l ON l.object = e.object AND l.id = e.id
)
SELECT
    type || ':' || id AS engagement_id,
    type,
    direction,
    contact_id,
    org_id,
    owner_id AS user_id,
    coalesce(
        upper(source) IN ('AUTOMATION', 'AUTOMATION_PLATFORM', 'WORKFLOWS', 'WORKFLOW', 'SEQUENCES', 'SEQUENCE', 'MARKETING_EMAIL', 'BOT'),
        false
    ) AS is_automated,
    occurred_at,
    status,
    CASE WHEN type = 'task' THEN occurred_at END AS due_at,
    CASE WHEN type = 'task' AND upper(status) = 'COMPLETED' THEN _changed_at END AS completed_at,
    CASE WHEN type <> 'note' THEN subject END AS subject,
    is_unlinked OR _archived_at IS NOT NULL OR _deleted_at IS NOT NULL OR _merged_into IS NOT NULL AS is_deleted,
    recorded_at
FROM rows
WHERE occurred_at IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY type, id, contact_id, org_id, recorded_at ORDER BY _recorded_at DESC, linked_at DESC
) = 1
