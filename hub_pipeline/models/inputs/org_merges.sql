/*---
description: >
  Organisations that were merged in HubSpot, or that the identity file calls one: the loser's id is an older id of the
  winner.
grain: [loser_org_id, winner_org_id]
---*/
WITH merges AS (
    SELECT loser_id, winner_id, _recorded_at AS recorded_at
    FROM raw_hubspot.merges
    WHERE object = 'organisations'
    UNION ALL
    SELECT key, org_id, _recorded_at
    FROM raw_billing.identities_versions
    WHERE relation = 'merged_into' AND _deleted_at IS NULL
)
SELECT
    m.loser_id AS loser_org_id,
    m.winner_id AS winner_org_id,
    min(m.recorded_at) AS merged_at,
    min(m.recorded_at) AS recorded_at
FROM merges AS m
WHERE m.loser_id <> m.winner_id
GROUP BY m.loser_id, m.winner_id
