/*---
description: >
  Who owned a contact since when, from the history of HubSpot's owner property. Without that history the owner that the
  first version of the record shows is taken as the owner since the record was created.
grain: [contact_id, valid_from, recorded_at]
---*/
SELECT
    h.id AS contact_id,
    NULLIF(max(h.value), '') AS owner_id,
    h.effective_at AS valid_from,
    h.recorded_at
FROM raw_hubspot.contacts_changes AS h
WHERE h.column_name = 'owner_id'
GROUP BY h.id, h.effective_at, h.recorded_at
