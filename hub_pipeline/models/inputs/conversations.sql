/*---
description: >
  Versions of Intercom conversations. The contact is the HubSpot contact with the same e-mail address (the one known
  first, if several), else the Intercom contact itself as intercom:<id>; a contact that was merged into another one is
  that one as soon as the merge is known, over up to three merges. The organisation is the one whose HubSpot id or
  mapped external id is the company's company_id in Intercom; none = NULL, and the contact decides. A match that becomes
  known later gives a new version, it never changes an old one. A rating counts from rated_at on.
  The address is that of Intercom's inbox in the workspace that was read first, on the host of its region (US, EU or
  AU); an address is no fact of a day, so it is the same in all versions. Without a workspace it is empty.
grain: [conversation_id, recorded_at]
---*/
WITH versions AS (
    SELECT c.*
    FROM raw_intercom.conversations AS c
    QUALIFY row_number() OVER (PARTITION BY c.id, c._recorded_at ORDER BY c._changed_at DESC, c._run_id DESC) = 1
), hubspot_contacts AS (
    SELECT lower(email) AS email, arg_min(id, (first_known, id)) AS contact_id, min(first_known) AS known_at
    FROM (
        SELECT email, id, min(_recorded_at) AS first_known
        FROM raw_hubspot.contacts_mapped
        WHERE email IS NOT NULL
        GROUP BY email, id
    )
    GROUP BY lower(email)
), intercom_contacts AS (
    SELECT id, lower(trim(arg_max(email, _recorded_at))) AS email
    FROM raw_intercom.contacts
    GROUP BY id
), contact_matches AS (
    SELECT i.id AS intercom_id, h.contact_id, h.known_at
    FROM intercom_contacts AS i
    JOIN hubspot_contacts AS h ON h.email = i.email
), merges AS (
    SELECT loser_id, winner_id, min(_recorded_at) AS known_at
    FROM raw_intercom.contact_merges
    GROUP BY loser_id, winner_id
), identities AS (
    SELECT loser_id AS intercom_id, winner_id, known_at, 1 AS depth FROM merges
    UNION ALL
    SELECT a.loser_id, b.winner_id, greatest(a.known_at, b.known_at), 2 AS depth
    FROM merges AS a
    JOIN merges AS b ON b.loser_id = a.winner_id
    UNION ALL
    SELECT a.loser_id, c.winner_id, greatest(a.known_at, b.known_at, c.known_at), 3 AS depth
    FROM merges AS a
    JOIN merges AS b ON b.loser_id = a.winner_id
    JOIN merges AS c ON c.loser_id = b.winner_id
), moments AS (
    SELECT intercom_id, known_at FROM contact_matches
    UNION
    SELECT intercom_id, known_at FROM identities
    UNION
    SELECT i.intercom_id, m.known_at FROM identities AS i JOIN contact_matches AS m ON m.intercom_id = i.winner_id
), persons AS (
    SELECT
        m.intercom_id,
        m.known_at,
        coalesce(arg_max(i.winner_id, (i.depth, i.known_at, i.winner_id)), m.intercom_id) AS person_id
    FROM moments AS m
    LEFT JOIN identities AS i ON i.intercom_id = m.intercom_id AND i.known_at <= m.known_at
    GROUP BY m.intercom_id, m.known_at
), people AS (
    SELECT
        p.intercom_id,
        p.known_at,
        coalesce(w.contact_id, o.contact_id, 'intercom:' || p.person_id) AS contact_id
    FROM persons AS p
    LEFT JOIN contact_matches AS w ON w.intercom_id = p.person_id AND w.known_at <= p.known_at
    LEFT JOIN contact_matches AS o ON o.intercom_id = p.intercom_id AND o.known_at <= p.known_at
), references_known AS (
    SELECT id AS reference, id AS org_id, min(_recorded_at) AS known_at
    FROM raw_hubspot.organisations_mapped
    GROUP BY id
    UNION ALL
    SELECT external_id, id, min(_recorded_at)
    FROM raw_hubspot.organisations_mapped
    WHERE external_id IS NOT NULL
    GROUP BY external_id, id
), organisations AS (
    SELECT reference, arg_min(org_id, (known_at, org_id)) AS org_id, min(known_at) AS known_at
    FROM references_known
    GROUP BY reference
), company_matches AS (
    SELECT c.id AS intercom_id, arg_min(o.org_id, (o.known_at, o.org_id)) AS org_id, min(o.known_at) AS known_at
    FROM raw_intercom.companies AS c
    JOIN organisations AS o ON o.reference = c.company_id
    GROUP BY c.id
), workspaces AS (
    SELECT
        CASE upper(arg_min(coalesce(region, 'US'), (_recorded_at, id)))
            WHEN 'EU' THEN 'https://app.eu.intercom.com/a/inbox/'
            WHEN 'AU' THEN 'https://app.au.intercom.com/a/inbox/'
            ELSE 'https://app.intercom.com/a/inbox/'
        END || arg_min(id, (_recorded_at, id)) || '/inbox/conversation/' AS address
    FROM raw_intercom.workspace
    WHERE id IS NOT NULL
), events AS (
    SELECT id, _recorded_at AS recorded_at FROM versions
    UNION
    SELECT v.id, m.known_at FROM versions AS v JOIN moments AS m ON m.intercom_id = v.contact_id
    WHERE m.known_at > v._recorded_at
    UNION
    SELECT v.id, m.known_at FROM versions AS v JOIN company_matches AS m ON m.intercom_id = v.company_id
    WHERE m.known_at > v._recorded_at
)
SELECT
    v.id AS conversation_id,
    coalesce(p.contact_id, 'intercom:' || v.contact_id) AS contact_id,
    CASE WHEN o.known_at <= e.recorded_at THEN o.org_id END AS org_id,
    CAST(v.rating AS BIGINT) AS rating,
    v.rated_at,
    v.remark,
    v.state,
    v.title,
    w.address || v.id AS url,
    v.created_at,
    v._deleted_at IS NOT NULL AS is_deleted,
    e.recorded_at
FROM events AS e
JOIN versions AS v ON v.id = e.id AND v._recorded_at <= e.recorded_at
CROSS JOIN workspaces AS w
LEFT JOIN people AS p ON p.intercom_id = v.contact_id AND p.known_at <= e.recorded_at
LEFT JOIN company_matches AS o ON o.intercom_id = v.company_id
QUALIFY
    v._recorded_at = max(v._recorded_at) OVER (PARTITION BY e.id, e.recorded_at)
    AND (p.known_at IS NULL OR p.known_at = max(p.known_at) OVER (PARTITION BY e.id, e.recorded_at, v._recorded_at))
