"""Which organisation each customer of a billing system is, and by which id a subscription goes.

Explicit references come first, then the rules of `RULES`, in that order; the first one that names exactly one
organisation wins. Each is read with both clocks: a match holds from the instant at which both sides were known, so a
reference that changes later leaves what was known before as it was. A customer that nothing matches is an organisation
of its own and stands in ``raw_billing.unmatched_customers``.
"""

from __future__ import annotations

import duckdb

from hub_pipeline.settings import Settings
from hub_pipeline.warehouse.sql import ident, literal

#: What may match a customer, in the order in which it is believed: name -> what it means.
RULES: dict[str, str] = {
    "identity_file": "a line of the identities file with relation customer names the organisation",
    "organisation_id": "organisation_ref is the id of a HubSpot organisation, also of one that was merged away",
    "external_id": "organisation_ref is the mapped external_id of exactly one organisation",
    "metadata": "a key of metadata named in billing.metadata_keys holds such an id or external id",
    "customer_property": "the mapped billing_customer_id of exactly one organisation is the customer's id",
    "email_domain": "only with billing.match_email_domain: the domain of its e-mail address is that of exactly one "
    "organisation and of no other customer, and no free-mail domain",
    "none": "nothing matches",
}

#: Why nothing matches, where HubSpot has organisations: name -> what it means.
UNMATCHED: dict[str, str] = {
    "ambiguous": "a rule names several organisations",
    "reference_unknown": "it has a reference, and no organisation answers to it",
    "no_reference": "it has none",
}

_RANK = {name: rank for rank, name in enumerate(RULES)}

_NEVER = "TIMESTAMP '9999-12-31'"
_EVER = "TIMESTAMP '1900-01-01'"

_NAMES = """
CREATE OR REPLACE VIEW raw_billing.subscription_names AS
SELECT source, subscription_id,
    CASE WHEN row_number() OVER (PARTITION BY subscription_id ORDER BY known_from, source) = 1
        THEN subscription_id ELSE source || ':' || subscription_id END AS name
FROM (
    SELECT source, subscription_id, min(_recorded_at) AS known_from FROM raw_billing.subscriptions_versions
    GROUP BY source, subscription_id
    UNION ALL
    SELECT source, 'seats:' || organisation_ref, min(_recorded_at) FROM raw_billing.daily_seats_versions
    GROUP BY source, organisation_ref
) AS known;
COMMENT ON VIEW raw_billing.subscription_names IS
'Id of each subscription beyond its billing system: its own, or <source>:<id> where another system had that id before.';
CREATE OR REPLACE VIEW raw_billing.customer_organisations AS
SELECT source, customer_id, org_id, matched_by, reason, hint_org_id, hint FROM raw_billing.customer_matches
QUALIFY row_number() OVER (PARTITION BY source, customer_id ORDER BY recorded_at DESC) = 1;
COMMENT ON VIEW raw_billing.customer_organisations IS
'Organisation of each customer that billing names, as known now; matched_by is a rule of docs/billing.md, or none.';
CREATE OR REPLACE VIEW raw_billing.unmatched_customers AS
SELECT o.source, o.customer_id, o.org_id, c.name, c.email, c.organisation_ref, o.reason, o.hint_org_id, o.hint
FROM raw_billing.customer_organisations AS o
LEFT JOIN raw_billing.customers_current AS c ON c.source = o.source AND c.customer_id = o.customer_id
WHERE o.matched_by = 'none';
COMMENT ON VIEW raw_billing.unmatched_customers IS
'Customers that no organisation answers to, with what might help a person; a hint never matches.';
"""

_VERSIONS = """
CREATE TABLE IF NOT EXISTS raw_billing.customer_matches (
    source VARCHAR, customer_id VARCHAR, org_id VARCHAR, matched_by VARCHAR, reason VARCHAR, hint_org_id VARCHAR, hint VARCHAR,
    recorded_at TIMESTAMP);
COMMENT ON TABLE raw_billing.customer_matches IS
'Organisation of each customer as known from recorded_at on; made from raw by every run.';
"""


def ensure_identity(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the table of matches and the views on it; the tables of the contract must be there."""
    connection.execute(_VERSIONS)
    connection.execute(_NAMES)


def resolve_customers(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Fill raw_billing.customer_matches anew, a pure function of what was recorded.

    A customer without a match is ``billing:<customer_id>`` from the first HubSpot organisation on, before (and where
    HubSpot has none) the customer id itself. Of two billing systems with the same customer id the one known later says
    ``<source>:<customer_id>`` instead. To be called inside a transaction, after HubSpot and billing were loaded and
    before the inputs are filled.
    """
    connection.execute("DELETE FROM raw_billing.customer_matches")
    connection.execute(
        f"INSERT INTO raw_billing.customer_matches {_matches(connection, settings)}",
        {"free_mail": list(settings.matching.free_mail_domains)},
    )


def _matches(connection: duckdb.DuckDBPyConnection, settings: Settings) -> str:
    return f"""
WITH organisations AS ({_organisations(connection, settings)}),
hubspot AS (SELECT min(known_from) AS known_from FROM organisations),
claims AS (
    SELECT 'organisation_id' AS kind, org_id AS value, org_id, min(known_from) AS known_from, {_NEVER} AS known_to
    FROM organisations GROUP BY org_id
    UNION ALL SELECT 'organisation_id', loser_id, loser_id, {_EVER}, {_NEVER} FROM ({_merges(connection)}) AS merged
    UNION ALL SELECT 'external_id', external_id, org_id, known_from, known_to FROM organisations
        WHERE external_id IS NOT NULL
    UNION ALL SELECT 'customer_property', customer_id, org_id, known_from, known_to FROM organisations
        WHERE customer_id IS NOT NULL
    UNION ALL SELECT 'email_domain', domain, org_id, known_from, known_to FROM organisations
        WHERE domain IS NOT NULL AND NOT list_contains($free_mail, domain)
),
told AS (
    SELECT source, customer_id, organisation_ref, metadata, email, parent_customer_ref, _changed_at, _recorded_at
    FROM raw_billing.customers_versions
    WHERE NOT _absent
    -- A late word about an earlier time does not undo what is known of a later one.
    QUALIFY _changed_at >= max(_changed_at) OVER (
        PARTITION BY source, customer_id ORDER BY _recorded_at, _changed_at ROWS UNBOUNDED PRECEDING)
    AND row_number() OVER (PARTITION BY source, customer_id, _recorded_at ORDER BY _changed_at DESC, _precedence DESC) = 1
),
references_ AS (
    SELECT *, _recorded_at AS known_from,
        coalesce(lead(_recorded_at) OVER (PARTITION BY source, customer_id ORDER BY _recorded_at), {_NEVER}) AS known_to,
        lower(split_part(email, '@', 2)) AS domain
    FROM told
),
sightings AS (
    SELECT source, customer_id, min(known_from) AS known_from FROM (
        SELECT source, customer_id, known_from FROM references_
        UNION ALL SELECT source, customer_id, _recorded_at FROM raw_billing.subscriptions_versions
        UNION ALL SELECT source, organisation_ref, _recorded_at FROM raw_billing.daily_seats_versions
    ) AS everything GROUP BY source, customer_id
),
wanted AS (
    {_wanted(settings)}
),
named AS (
    SELECT w.source, w.customer_id, w.rank, c.org_id, greatest(w.known_from, c.known_from) AS known_from,
        least(w.known_to, c.known_to) AS known_to
    FROM wanted AS w JOIN claims AS c ON c.kind = w.kind AND c.value = w.value
    WHERE greatest(w.known_from, c.known_from) < least(w.known_to, c.known_to)
    UNION ALL
    SELECT of_source, key, {_RANK["identity_file"]}, org_id, _recorded_at,
        coalesce(lead(_recorded_at) OVER (PARTITION BY of_source, key ORDER BY _recorded_at), {_NEVER})
    FROM (SELECT of_source, key, CASE WHEN _deleted_at IS NULL THEN org_id END AS org_id, _recorded_at
        FROM raw_billing.identities_versions WHERE relation = 'customer'
        QUALIFY row_number() OVER (
            PARTITION BY of_source, key, _recorded_at ORDER BY _changed_at DESC, _precedence DESC, source) = 1) AS by_hand
),
instants AS (
    SELECT source, customer_id, known_from AS since FROM sightings
    UNION SELECT n.source, n.customer_id, n.known_from FROM named AS n
    UNION SELECT n.source, n.customer_id, n.known_to FROM named AS n WHERE n.known_to < {_NEVER}
    UNION SELECT s.source, s.customer_id, h.known_from FROM sightings AS s CROSS JOIN hubspot AS h
        WHERE h.known_from > s.known_from
),
ranked AS (
    SELECT i.source, i.customer_id, i.since, n.rank, min(n.org_id) AS org_id
    FROM instants AS i
    JOIN sightings AS s ON s.source = i.source AND s.customer_id = i.customer_id AND i.since >= s.known_from
    LEFT JOIN named AS n ON n.source = i.source AND n.customer_id = i.customer_id
        AND n.known_from <= i.since AND n.known_to > i.since AND n.org_id IS NOT NULL
    GROUP BY i.source, i.customer_id, i.since, n.rank
    HAVING count(DISTINCT n.org_id) <= 1 OR n.rank IS NULL
    UNION ALL
    SELECT i.source, i.customer_id, i.since, NULL, NULL FROM instants AS i
    JOIN sightings AS s ON s.source = i.source AND s.customer_id = i.customer_id AND i.since >= s.known_from
),
matched AS (
    SELECT source, customer_id, since, rank, org_id FROM ranked
    QUALIFY row_number() OVER (PARTITION BY source, customer_id, since ORDER BY rank NULLS LAST) = 1
),
unmatched AS (
    SELECT * FROM matched WHERE rank IS NULL
),
ambiguous AS (
    SELECT DISTINCT u.source, u.customer_id, u.since
    FROM unmatched AS u JOIN named AS n ON n.source = u.source AND n.customer_id = u.customer_id
        AND n.known_from <= u.since AND n.known_to > u.since
    GROUP BY u.source, u.customer_id, u.since, n.rank HAVING count(DISTINCT n.org_id) > 1
),
referring AS (
    SELECT DISTINCT u.source, u.customer_id, u.since
    FROM unmatched AS u JOIN wanted AS w ON w.source = u.source AND w.customer_id = u.customer_id
        AND w.known_from <= u.since AND w.known_to > u.since
    WHERE w.kind IN ('organisation_id', 'external_id')
),
names AS (
    SELECT source, customer_id,
        row_number() OVER (PARTITION BY customer_id ORDER BY known_from, source) = 1 AS is_first FROM sightings
),
hints AS (
    SELECT r.source, r.customer_id, min(c.org_id) AS org_id, 'the same e-mail domain' AS hint
    FROM references_ AS r JOIN claims AS c ON c.kind = 'email_domain' AND c.value = r.domain
    WHERE r.known_to = {_NEVER} AND c.known_to = {_NEVER}
    GROUP BY r.source, r.customer_id HAVING count(DISTINCT c.org_id) = 1
    UNION ALL
    SELECT r.source, r.customer_id, p.org_id, 'the organisation of its parent customer'
    FROM references_ AS r
    JOIN matched AS p ON p.source = r.source AND p.customer_id = r.parent_customer_ref AND p.org_id IS NOT NULL
    WHERE r.known_to = {_NEVER}
    QUALIFY row_number() OVER (PARTITION BY r.source, r.customer_id ORDER BY p.since DESC) = 1
),
labelled AS (
    SELECT m.source, m.customer_id, m.since,
        coalesce(m.org_id, CASE
            WHEN h.known_from <= m.since AND n.is_first THEN 'billing:' || m.customer_id
            WHEN h.known_from <= m.since THEN 'billing:' || m.source || ':' || m.customer_id
            WHEN n.is_first THEN m.customer_id
            ELSE m.source || ':' || m.customer_id END) AS org_id,
        CASE m.rank {" ".join(f"WHEN {rank} THEN {literal(name)}" for name, rank in _RANK.items())} ELSE 'none' END
            AS matched_by,
        CASE WHEN m.rank IS NOT NULL OR h.known_from IS NULL OR h.known_from > m.since THEN NULL
            WHEN a.since IS NOT NULL THEN 'ambiguous'
            WHEN r.since IS NOT NULL THEN 'reference_unknown'
            ELSE 'no_reference' END AS reason
    FROM matched AS m
    LEFT JOIN ambiguous AS a ON a.source = m.source AND a.customer_id = m.customer_id AND a.since = m.since
    LEFT JOIN referring AS r ON r.source = m.source AND r.customer_id = m.customer_id AND r.since = m.since
    JOIN names AS n ON n.source = m.source AND n.customer_id = m.customer_id
    CROSS JOIN hubspot AS h
)
SELECT l.source, l.customer_id, l.org_id, l.matched_by, l.reason, i.org_id, i.hint, l.since
FROM (
    SELECT * FROM labelled
    QUALIFY lag(concat_ws('|', org_id, matched_by, reason)) OVER (PARTITION BY source, customer_id ORDER BY since)
        IS DISTINCT FROM concat_ws('|', org_id, matched_by, reason)
) AS l
LEFT JOIN (
    SELECT * FROM hints QUALIFY row_number() OVER (PARTITION BY source, customer_id ORDER BY hint DESC) = 1
) AS i ON i.source = l.source AND i.customer_id = l.customer_id AND l.matched_by = 'none'
"""


def _wanted(settings: Settings) -> str:
    """SELECT of what each customer says about itself: rank, kind of claim and value."""

    def one(rule: str, kind: str, value: str, where: str = "true") -> str:
        return (
            f"SELECT source, customer_id, {_RANK[rule]} AS rank, {literal(kind)} AS kind, {value} AS value, "
            f"known_from, known_to FROM references_ WHERE {value} IS NOT NULL AND {where}"
        )

    parts = [
        one("organisation_id", "organisation_id", "organisation_ref"),
        one("external_id", "external_id", "organisation_ref"),
        # What a daily count calls the organisation is its reference.
        *(
            f"SELECT source, customer_id, {_RANK[rule]}, {literal(rule)}, customer_id, known_from, {_NEVER} "
            "FROM sightings WHERE (source, customer_id) IN "
            "(SELECT (source, organisation_ref) FROM raw_billing.daily_seats)"
            for rule in ("organisation_id", "external_id")
        ),
        f"SELECT source, customer_id, {_RANK['customer_property']}, 'customer_property', customer_id, known_from, {_NEVER} "
        "FROM sightings",
    ]
    for key in settings.billing.metadata_keys:
        value = f"json_extract_string(metadata, {literal(_json_path(key))})"
        parts += [one("metadata", kind, value) for kind in ("organisation_id", "external_id")]
    if settings.billing.match_email_domain:
        alone = (
            "domain <> '' AND (source, domain) IN (SELECT (source, domain) FROM references_ "
            "GROUP BY source, domain HAVING count(DISTINCT customer_id) = 1)"
        )
        parts.append(one("email_domain", "email_domain", "domain", alone))
    return " UNION ALL ".join(parts)


def _json_path(key: str) -> str:
    return '$."' + key.replace('"', '\\"') + '"'


def _organisations(connection: duckdb.DuckDBPyConnection, settings: Settings) -> str:
    """SELECT of the HubSpot organisations' versions: what they are known by, and from when to when."""
    existing = _columns(connection, "organisations")
    if not existing:
        return (
            "SELECT NULL::VARCHAR AS org_id, NULL::VARCHAR AS external_id, NULL::VARCHAR AS domain, "
            "NULL::VARCHAR AS customer_id, NULL::TIMESTAMP AS known_from, NULL::TIMESTAMP AS known_to WHERE false"
        )
    mapped = settings.hubspot.objects["organisations"].properties

    def value(name: str) -> str:
        column = mapped.get(name) or ""
        return f"nullif(trim({ident(column)}), '')" if column in existing else "NULL::VARCHAR"

    return (
        f"SELECT id AS org_id, {value('external_id')} AS external_id, lower({value('domain')}) AS domain, "
        f"{value('billing_customer_id')} AS customer_id, _recorded_at AS known_from, "
        f"coalesce(lead(_recorded_at) OVER (PARTITION BY id ORDER BY _recorded_at), {_NEVER}) AS known_to FROM ("
        "SELECT * FROM raw_hubspot.organisations QUALIFY row_number() OVER "
        "(PARTITION BY id, _recorded_at ORDER BY _changed_at DESC, _run_id DESC) = 1) AS versions"
    )


def _merges(connection: duckdb.DuckDBPyConnection) -> str:
    """SELECT of organisations merged away: no longer listed, but billing may name them; the models follow the merge."""
    if not _columns(connection, "merges"):
        return "SELECT NULL::VARCHAR AS loser_id WHERE false"
    return "SELECT DISTINCT loser_id FROM raw_hubspot.merges WHERE object = 'organisations'"


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    rows = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE schema_name = 'raw_hubspot' AND table_name = $table",
        {"table": table},
    ).fetchall()
    return {name for (name,) in rows}
