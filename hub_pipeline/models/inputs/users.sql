/*---
description: >
  People of our own side: HubSpot owners, deactivated ones included, with the role that their main team has in the
  settings. An owner without a team, or with a team that no setting names, has role NULL and is not client-facing.
grain: [user_id, recorded_at]
---*/
SELECT
    o.id AS user_id,
    NULLIF(trim(concat_ws(' ', o.first_name, o.last_name)), '') AS name,
    o.email,
    CAST($hubspot_roles_values[list_position($hubspot_roles_keys, o.teams)] AS VARCHAR) AS role,
    NOT coalesce(o.archived, false) AND o._deleted_at IS NULL AS is_active,
    o._recorded_at AS recorded_at
FROM raw_hubspot.owners AS o
QUALIFY row_number() OVER (PARTITION BY o.id, o._recorded_at ORDER BY o._changed_at DESC, o._run_id DESC) = 1
