/*---
description: >
  Organisations that were merged in HubSpot: the loser's id is an older id of the winner.
grain: [loser_org_id, winner_org_id]
---*/
SELECT
    m.loser_id AS loser_org_id,
    m.winner_id AS winner_org_id,
    min(m._recorded_at) AS merged_at,
    min(m._recorded_at) AS recorded_at
FROM raw_hubspot.merges AS m
WHERE m.object = 'organisations' AND m.loser_id <> m.winner_id
GROUP BY m.loser_id, m.winner_id
