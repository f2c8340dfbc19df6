/*---
description: >
  Who owned a contact since when, from the history of HubSpot's owner property.
grain: [contact_id, valid_from]
---*/
SELECT
    h.id AS contact_id,
    NULLIF(max(h.value), '') AS owner_id,
    h.changed_at AS valid_from,
    min(h._recorded_at) AS recorded_at
FROM raw_hubspot.property_history AS h
WHERE h.object = 'contacts' AND h.property = 'hubspot_owner_id'
GROUP BY h.id, h.changed_at
