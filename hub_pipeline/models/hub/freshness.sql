/*---
description: >
  What each source delivered for each day: objects that were complete, forbidden, failed or not configured.
grain: [source, object, as_of]
columns:
  source: {type: VARCHAR, meaning: "hubspot, intercom or billing"}
  object: {type: VARCHAR, meaning: "what was read"}
  as_of: {type: DATE, meaning: "day it was read for"}
  status: {type: VARCHAR, meaning: "how it went"}
  records: {type: BIGINT, meaning: "records that came in"}
  message: {type: VARCHAR, meaning: "what happened, if anything"}
  data_through: {type: TIMESTAMP, meaning: "latest change seen in the data (UTC)"}
checks:
  - name: sources_are_fresh
    severity: warn
    description: >
      Sources whose newest data is more than 36 hours older than the end of the latest day (12 hours before its first
      minute, UTC), judged by the data's own times, whenever it was read.
    sql: >
      SELECT f.source, f.as_of, max(f.data_through) AS data_through
      FROM hub.freshness AS f
      WHERE f.status = 'complete' AND f.as_of = (SELECT max(l.as_of) FROM hub.freshness AS l)
      GROUP BY f.source, f.as_of
      HAVING max(f.data_through) < CAST(f.as_of AS TIMESTAMP) - INTERVAL 12 HOUR
order_by: [as_of DESC, source, object]
---*/
SELECT
    f.source,
    f.object,
    f.as_of,
    f.status,
    f.records,
    f.message,
    f.data_through
FROM _published.freshness AS f
