/*---
description: >
  Messages of Intercom conversations, the opener included, without their text. part_number is Intercom's own part id (0
  for the opener).
grain: [conversation_id, part_number]
---*/
SELECT
    p.conversation_id,
    CAST(p.part_id AS BIGINT) AS part_number,
    p.author_type,
    coalesce(p.is_synthetic, false) AS is_synthetic,
    p.created_at,
    p._recorded_at AS recorded_at
FROM raw_intercom.conversation_parts AS p
