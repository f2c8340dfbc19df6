/*---
description: >
  Answers to NPS surveys from HubSpot's feedback submissions. Only hs_survey_type NPS counts: HubSpot calls CSAT and CES
  answers detractors too. The score is a whole number from 0 to 10; what is not stays in raw and is counted by the
  check. An answer without a contact is anonymous and kept. Where the organisation's record holds a score (settings map
  nps_score), each value it was set to is an answer of one respondent, organisation:<id>.
grain: [response_id, recorded_at]
checks:
  - name: nps_scores_are_valid
    severity: warn
    description: Answers whose score is not a whole number from 0 to 10; they are kept in raw and count nowhere.
    sql: >
      SELECT id, score FROM raw_hubspot.feedback_submissions_mapped
      WHERE survey_type = 'NPS' AND (score IS NULL OR score < 0 OR score > 10 OR score <> floor(score))
---*/
WITH contact_of AS (
    SELECT a.from_id AS submission_id, min(a.to_id) AS contact_id
    FROM raw_hubspot.associations AS a
    WHERE a.from_object = 'feedback_submissions' AND a.to_object = 'contacts' AND a._deleted_at IS NULL
    GROUP BY a.from_id
)
SELECT
    'hubspot:' || f.id AS response_id,
    c.contact_id,
    CAST(NULL AS VARCHAR) AS org_id,
    CAST(f.score AS DECIMAL(9,4)) AS score,
    f.comment,
    'hubspot_feedback' AS source,
    f.responded_at,
    f._recorded_at AS recorded_at
FROM raw_hubspot.feedback_submissions_mapped AS f
LEFT JOIN contact_of AS c ON c.submission_id = f.id
WHERE
    f.survey_type = 'NPS'
    AND f.score BETWEEN 0 AND 10
    AND f.score = floor(f.score)
    AND f.responded_at IS NOT NULL
    AND f._deleted_at IS NULL
    AND f._archived_at IS NULL
UNION ALL
SELECT
    o.response_id,
    o.contact_id,
    o.org_id,
    o.score,
    o.comment,
    o.source,
    o.responded_at,
    o.recorded_at
FROM raw_hubspot.organisations_nps AS o
