/*---
description: >
  Versions of HubSpot contacts. A contact that was archived, deleted or merged away is deleted from that version on.
grain: [contact_id, recorded_at]
checks:
  - name: values_readable
    severity: warn
    description: >
      Every value of a mapped property of a contact that is still there fits its column: a number, a date, a word the settings
      know. One row for each column with values that do not; they are empty for the models and stay as text in raw.
    sql: >
      SELECT column_name, property, count(*) AS records, min(value) AS example, min(id) AS example_id
      FROM raw_hubspot.contacts_unread GROUP BY column_name, property ORDER BY records DESC, column_name
---*/
SELECT
    c.id AS contact_id,
    lower(c.email) AS email,
    NULLIF(trim(concat_ws(' ', c.first_name, c.last_name)), '') AS name,
    c.lifecycle_stage,
    c.lead_status,
    c.source,
    c.owner_id,
    coalesce(c.is_champion, false) AS is_champion,
    c.left_at,
    c.created_at,
    c._archived_at IS NOT NULL OR c._deleted_at IS NOT NULL OR c._merged_into IS NOT NULL AS is_deleted,
    c._recorded_at AS recorded_at
FROM raw_hubspot.contacts_mapped AS c
