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
