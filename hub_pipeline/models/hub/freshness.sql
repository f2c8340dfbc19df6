/*---
description: >
  What each source delivered for each day: objects that were complete, forbidden, failed, not configured or not read.
grain: [source, object, as_of]
columns:
  source: {type: VARCHAR, meaning: "hubspot, intercom or billing"}
  object: {type: VARCHAR, meaning: "object of the source, as its raw table is named: contacts, deals, conversations, subscriptions ..."}
  as_of: {type: DATE, meaning: "day whose run read it"}
  status: {type: VARCHAR, meaning: "complete: everything the source has was read. forbidden: the token may not read it; the lists do without it. failed: a file was refused and waits to be corrected; what was loaded before still counts. not_configured: the settings name no such source or object, or it delivered nothing yet. not_read: the run was told to read another source only; what was read before still counts", accepted: [complete, forbidden, failed, not_configured, not_read]}
  records: {type: BIGINT, meaning: "records the source gave, unchanged ones too; of several runs of one day the most"}
  message: {type: VARCHAR, meaning: "why it is not complete or what was left out, and what to do; empty when there is nothing to say"}
  data_through: {type: TIMESTAMP, meaning: "latest change among all of its records known by that run (UTC); empty when they carry no times"}
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
