/*---
description: >
  Answers to NPS surveys from four doors: HubSpot's feedback submissions, an NPS property of HubSpot contacts or
  organisations with its history, an NPS attribute of Intercom contacts, and CSV files. Only surveys of type NPS count:
  HubSpot calls CSAT and CES answers detractors too. The score is a whole number from 0 to 10, what is not is no answer
  and stands in inputs.nps_quarantine; the group follows from the score alone. The respondent is the HubSpot contact (of a survey
  answer the one it was linked with first, whatever became of the link), found by the
  exact e-mail address where the door does not name it (the contact known first); else the respondent of the door,
  intercom:<id> or respondent:<hash of the address>; an answer without any is anonymous, and an organisation's property
  has one respondent, organisation:<id>. A match that becomes known later gives a new version. One answer that came
  through two doors is one: of answers of different doors with one respondent (or an organisation's property and a
  member of that organisation), one score and at most 24 hours apart the one known first is kept, of those the one
  whose door stands first in the order above.
grain: [response_id, recorded_at]
checks:
  - name: nps_groups_agree_with_scores
    severity: warn
    description: Answers whose group, as the survey tool calls it, is not that of their score; the score decides.
    sql: >
      SELECT source, id, score, source_group FROM (
        SELECT 'hubspot_feedback' AS source, id, score, upper(source_group) AS source_group
        FROM raw_hubspot.feedback_submissions_mapped WHERE survey_type = 'NPS'
        UNION ALL
        SELECT 'csv ' || source, response_id, score, upper(source_group) FROM raw_billing.nps_responses_current
        WHERE upper(survey_type) = 'NPS'
      ) WHERE source_group IN ('DETRACTOR', 'PASSIVE', 'PROMOTER')
        AND source_group <> CASE WHEN score <= 6 THEN 'DETRACTOR' WHEN score <= 8 THEN 'PASSIVE' ELSE 'PROMOTER' END
---*/
WITH contact_of AS (
    -- Who answered was settled when the answer was given: the contact it was linked with first, also when the link or the
    -- contact went later.
    SELECT 'hubspot:' || from_id AS response_id, arg_min(to_id, (first_known, to_id)) AS contact_id, min(first_known) AS known_at
    FROM (
        SELECT from_id, to_id, min(_recorded_at) AS first_known
        FROM raw_hubspot.associations
        WHERE from_object = 'feedback_submissions' AND to_object = 'contacts'
        GROUP BY from_id, to_id
    )
    GROUP BY from_id
), attributes AS (
    SELECT
        id,
        lower(trim(email)) AS email,
        json_extract_string(custom_attributes, '$."' || coalesce(nullif($intercom_nps_attribute, ''), ' ') || '"') AS score,
        json_extract_string(custom_attributes, '$."' || coalesce(nullif($intercom_nps_responded_attribute, ''), ' ') || '"') AS responded,
        json_extract_string(custom_attributes, '$."' || coalesce(nullif($intercom_nps_comment_attribute, ''), ' ') || '"') AS comment,
        _changed_at,
        _recorded_at
    FROM raw_intercom.contacts
    WHERE _deleted_at IS NULL AND $intercom_nps_attribute <> ''
), attribute_changes AS (
    -- The attribute holds the latest answer: each new value, or new moment, is another one.
    SELECT
        *,
        concat_ws('|', score, coalesce(responded, '')) AS answer,
        lag(concat_ws('|', score, coalesce(responded, ''))) OVER (PARTITION BY id ORDER BY _changed_at, _recorded_at) AS answer_before
    FROM attributes
), attribute_answers AS (
    SELECT
        id,
        email,
        TRY_CAST(score AS DECIMAL(9,4)) AS score,
        comment,
        coalesce(
            CASE
                WHEN regexp_full_match(responded, '[0-9]{9,11}') THEN make_timestamp(CAST(responded AS BIGINT) * 1000000)
                ELSE TRY_CAST(responded AS TIMESTAMP)
            END,
            _changed_at
        ) AS responded_at,
        _recorded_at
    FROM attribute_changes
    WHERE score <> '' AND answer IS DISTINCT FROM answer_before
), told AS (
    SELECT
        1 AS door,
        'hubspot_feedback' AS source,
        'hubspot:' || f.id AS response_id,
        CAST(NULL AS VARCHAR) AS contact_id,
        CAST(NULL AS VARCHAR) AS email,
        CAST(NULL AS VARCHAR) AS respondent,
        CAST(NULL AS VARCHAR) AS org_id,
        CAST(NULL AS VARCHAR) AS organisation_ref,
        CASE WHEN f._deleted_at IS NULL AND f._archived_at IS NULL THEN CAST(f.score AS DECIMAL(9,4)) END AS score,
        f.comment,
        f.responded_at,
        f._recorded_at AS recorded_at,
        f._deleted_at IS NOT NULL OR f._archived_at IS NOT NULL AS is_withdrawn
    FROM raw_hubspot.feedback_submissions_mapped AS f
    WHERE f.survey_type = 'NPS'
    UNION ALL
    SELECT 2, source, response_id, contact_id, NULL, NULL, NULL, NULL, score, comment, responded_at, recorded_at, false
    FROM raw_hubspot.contacts_nps
    UNION ALL
    SELECT 2, source, response_id, contact_id, NULL, NULL, org_id, NULL, score, comment, responded_at, recorded_at, false
    FROM raw_hubspot.organisations_nps
    UNION ALL
    SELECT
        3,
        'intercom',
        'intercom:' || id || ':' || strftime(responded_at, '%Y-%m-%dT%H:%M:%S'),
        NULL,
        email,
        'intercom:' || id,
        NULL,
        NULL,
        score,
        comment,
        responded_at,
        _recorded_at,
        false
    FROM attribute_answers
    UNION ALL
    SELECT
        4,
        'csv ' || source,
        'csv:' || source || ':' || response_id,
        contact_id,
        lower(trim(respondent_email)),
        'respondent:' || left(md5(lower(trim(respondent_email))), 16),
        NULL,
        organisation_ref,
        CASE WHEN _deleted_at IS NULL THEN CAST(score AS DECIMAL(9,4)) END,
        comment,
        responded_at,
        _recorded_at,
        _deleted_at IS NOT NULL
    FROM raw_billing.nps_responses_versions
    WHERE upper(survey_type) = 'NPS'
), answers AS (
    SELECT *
    FROM told
    -- A withdrawn answer is a version without a score: it counts nowhere from then on.
    WHERE responded_at IS NOT NULL AND (is_withdrawn OR score IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
    QUALIFY row_number() OVER (PARTITION BY response_id, recorded_at ORDER BY score, comment, contact_id) = 1
), hubspot_contacts AS (
    SELECT lower(email) AS email, arg_min(id, (first_known, id)) AS contact_id, min(first_known) AS known_at
    FROM (
        SELECT email, id, min(_recorded_at) AS first_known
        FROM raw_hubspot.contacts_mapped
        WHERE email IS NOT NULL
        GROUP BY email, id
    )
    GROUP BY lower(email)
), organisations AS (
    SELECT reference, arg_min(org_id, (known_at, org_id)) AS org_id, min(known_at) AS known_at
    FROM (
        SELECT id AS reference, id AS org_id, min(_recorded_at) AS known_at
        FROM raw_hubspot.organisations_mapped
        GROUP BY id
        UNION ALL
        SELECT external_id, id, min(_recorded_at)
        FROM raw_hubspot.organisations_mapped
        WHERE external_id IS NOT NULL
        GROUP BY external_id, id
    )
    GROUP BY reference
), events AS (
    SELECT response_id, recorded_at FROM answers
    UNION
    SELECT a.response_id, l.known_at
    FROM answers AS a
    JOIN contact_of AS l ON l.response_id = a.response_id
    WHERE l.known_at > a.recorded_at
    UNION
    SELECT a.response_id, h.known_at
    FROM answers AS a
    JOIN hubspot_contacts AS h ON h.email = a.email
    WHERE a.contact_id IS NULL AND h.known_at > a.recorded_at
    UNION
    SELECT a.response_id, o.known_at
    FROM answers AS a
    JOIN organisations AS o ON o.reference = a.organisation_ref
    WHERE o.known_at > a.recorded_at
), versions AS (
    SELECT
        a.door,
        a.source,
        a.response_id,
        coalesce(
            a.contact_id,
            CASE WHEN l.known_at <= e.recorded_at THEN l.contact_id END,
            CASE WHEN h.known_at <= e.recorded_at THEN h.contact_id END,
            a.respondent
        ) AS contact_id,
        coalesce(a.org_id, CASE WHEN o.known_at <= e.recorded_at THEN o.org_id END) AS org_id,
        a.score,
        a.comment,
        a.responded_at,
        e.recorded_at
    FROM events AS e
    JOIN answers AS a ON a.response_id = e.response_id AND a.recorded_at <= e.recorded_at
    LEFT JOIN contact_of AS l ON l.response_id = a.response_id
    LEFT JOIN hubspot_contacts AS h ON h.email = a.email
    LEFT JOIN organisations AS o ON o.reference = a.organisation_ref
    QUALIFY a.recorded_at = max(a.recorded_at) OVER (PARTITION BY e.response_id, e.recorded_at)
), first_known AS (
    SELECT *, min(recorded_at) OVER (PARTITION BY response_id) AS known_at
    FROM versions
    WHERE score IS NOT NULL
), members AS (
    SELECT from_id AS contact_id, to_id AS org_id, min(_recorded_at) AS known_at
    FROM raw_hubspot.associations
    WHERE from_object = 'contacts' AND to_object = 'organisations'
    GROUP BY from_id, to_id
), repeated AS (
    -- Since when it is known that an answer repeats one that was known before: what was counted stays counted till then.
    SELECT
        b.response_id,
        min(
            CASE
                WHEN m.known_at IS NULL THEN greatest(a.recorded_at, b.recorded_at)
                ELSE greatest(a.recorded_at, b.recorded_at, m.known_at)
            END
        ) AS repeated_at
    FROM first_known AS a
    JOIN first_known AS b
        ON
            b.door <> a.door
            AND b.score = a.score
            AND b.responded_at BETWEEN a.responded_at - INTERVAL 24 HOURS AND a.responded_at + INTERVAL 24 HOURS
            AND (a.known_at < b.known_at OR (a.known_at = b.known_at AND a.door < b.door))
    LEFT JOIN members AS m
        ON
            (m.contact_id = a.contact_id AND b.contact_id = 'organisation:' || m.org_id)
            OR (m.contact_id = b.contact_id AND a.contact_id = 'organisation:' || m.org_id)
    WHERE a.contact_id = b.contact_id OR m.org_id IS NOT NULL
    GROUP BY b.response_id
), kept AS (
    SELECT v.*
    FROM versions AS v
    LEFT JOIN repeated AS r ON r.response_id = v.response_id
    WHERE r.repeated_at IS NULL OR v.recorded_at < r.repeated_at
), counted AS (
    SELECT response_id, contact_id, org_id, score, comment, source, responded_at, recorded_at
    FROM kept
    UNION ALL
    -- From then on it has no score, and counts nowhere.
    SELECT k.response_id, k.contact_id, k.org_id, NULL, k.comment, k.source, k.responded_at, r.repeated_at
    FROM kept AS k
    JOIN repeated AS r ON r.response_id = k.response_id
    QUALIFY row_number() OVER (PARTITION BY k.response_id ORDER BY k.recorded_at DESC) = 1
)
SELECT
    c.response_id,
    c.contact_id,
    c.org_id,
    c.score,
    c.comment,
    c.source,
    c.responded_at,
    c.recorded_at
FROM counted AS c
-- A version that says what already held is left out.
QUALIFY
    row_number() OVER (PARTITION BY c.response_id ORDER BY c.recorded_at) = 1
    OR (c.contact_id, c.org_id, c.score, c.comment, c.responded_at) IS DISTINCT FROM lag(
        (c.contact_id, c.org_id, c.score, c.comment, c.responded_at)
    ) OVER (PARTITION BY c.response_id ORDER BY c.recorded_at)
