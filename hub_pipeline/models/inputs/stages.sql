/*---
description: >
  Stages of the deal pipelines as the portal defines them. pipeline is post_sales or sales for the two pipelines that the
  settings name, else the portal's own id. A closed stage with probability 1 is won, any other closed stage is lost.
grain: [pipeline, stage, recorded_at]
---*/
SELECT
    CASE p.pipeline_id
        WHEN $hubspot_post_sales_pipeline THEN 'post_sales'
        WHEN $hubspot_sales_pipeline THEN 'sales'
        ELSE p.pipeline_id
    END AS pipeline,
    p.stage_id AS stage,
    p.stage_label AS label,
    TRY_CAST(p.probability AS DECIMAL(5,4)) AS probability,
    CASE
        WHEN lower(p.is_closed) = 'true' AND TRY_CAST(p.probability AS DECIMAL(5,4)) = 1 THEN 'won'
        WHEN lower(p.is_closed) = 'true' THEN 'lost'
        ELSE 'open'
    END AS status,
    p._recorded_at AS recorded_at
FROM raw_hubspot.pipelines AS p
WHERE p.object = 'deals' AND p._deleted_at IS NULL
QUALIFY row_number() OVER (
    PARTITION BY p.pipeline_id, p.stage_id, p._recorded_at ORDER BY p._changed_at DESC, p._run_id DESC
) = 1
