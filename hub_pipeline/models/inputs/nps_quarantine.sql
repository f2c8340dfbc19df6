/*---
description: >
  What came through a door of NPS answers and is none: the score is empty, no number, not whole or not from 0 to 10, or
  nothing says when it was given. One row for each record as it is today (a survey answer, a HubSpot property, an
  Intercom attribute) and each open line of a file; kept, counted, and gone from here once it is corrected. Every answer
  of a door either stands here or is told to inputs.nps_responses.
grain: [source, record_id]
checks:
  - name: nps_scores_are_valid
    severity: warn
    description: Answers whose score is not a whole number from 0 to 10, or without a time; they count nowhere.
    sql: SELECT source, record_id, score, reason FROM inputs.nps_quarantine
  - name: nps_answers_add_up
    description: >
      Answers of HubSpot's surveys are as many as those with a score that counts and those quarantined; an answer that
      also came through another door is one that counts.
    sql: >
      WITH newest AS (
        SELECT id, score, responded_at, _deleted_at, _archived_at
        FROM raw_hubspot.feedback_submissions_mapped WHERE survey_type = 'NPS'
        QUALIFY row_number() OVER (PARTITION BY id ORDER BY _recorded_at DESC) = 1
      ), counts AS (
        SELECT
          (SELECT count(*) FROM newest WHERE _deleted_at IS NULL AND _archived_at IS NULL) AS answers,
          (SELECT count(*) FROM newest WHERE _deleted_at IS NULL AND _archived_at IS NULL
            AND score IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) AND responded_at IS NOT NULL) AS counted,
          (SELECT count(*) FROM inputs.nps_quarantine WHERE source = 'hubspot_feedback') AS quarantined
      )
      SELECT answers, counted, quarantined FROM counts WHERE answers <> counted + quarantined
---*/
WITH told AS (
    SELECT
        'hubspot_feedback' AS source,
        f.id AS record_id,
        CAST(f.score AS VARCHAR) AS score,
        CAST(f.score AS DECIMAL(9,4)) AS number,
        f.responded_at IS NULL AS is_undated,
        f._recorded_at AS recorded_at
    FROM (
        SELECT id, score, responded_at, _deleted_at, _archived_at, _recorded_at
        FROM raw_hubspot.feedback_submissions_mapped
        WHERE survey_type = 'NPS'
        QUALIFY row_number() OVER (PARTITION BY id ORDER BY _recorded_at DESC) = 1
    ) AS f
    WHERE f._deleted_at IS NULL AND f._archived_at IS NULL
    UNION ALL
    SELECT 'hubspot_organisation', id, value, TRY_CAST(value AS DECIMAL(9,4)), false, NULL
    FROM raw_hubspot.organisations_unread
    WHERE column_name = 'nps_score'
    UNION ALL
    SELECT 'hubspot_contact', id, value, TRY_CAST(value AS DECIMAL(9,4)), false, NULL
    FROM raw_hubspot.contacts_unread
    WHERE column_name = 'nps_score'
    UNION ALL
    SELECT 'intercom', a.id, a.score, TRY_CAST(a.score AS DECIMAL(9,4)), false, a._recorded_at
    FROM (
        SELECT
            id,
            _recorded_at,
            json_extract_string(custom_attributes, '$."' || coalesce(nullif($intercom_nps_attribute, ''), ' ') || '"') AS score
        FROM raw_intercom.contacts_current
        WHERE _deleted_at IS NULL
    ) AS a
    WHERE a.score <> ''
), judged AS (
    SELECT
        source,
        record_id,
        score,
        CASE
            WHEN score IS NULL THEN 'empty'
            WHEN number IS NULL THEN 'not a number'
            WHEN number <> floor(number) THEN 'not a whole number'
            WHEN number < 0 OR number > 10 THEN 'not from 0 to 10'
            WHEN is_undated THEN 'no time of the answer'
        END AS reason,
        recorded_at
    FROM told
)
SELECT source, record_id, score, reason, recorded_at
FROM judged
WHERE reason IS NOT NULL
UNION ALL
SELECT
    'csv ' || source AS source,
    original_name || ' line ' || line_no AS record_id,
    raw_line AS score,
    array_to_string(reasons, '; ') AS reason,
    first_seen_at AS recorded_at
FROM raw_billing.quarantine
WHERE table_name = 'nps_responses' AND resolved_at IS NULL
QUALIFY row_number() OVER (PARTITION BY source, original_name, line_no ORDER BY last_seen_at DESC, file_sha256) = 1
