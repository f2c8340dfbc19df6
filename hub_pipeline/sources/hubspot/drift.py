"""What changed in a portal's properties, and which values do not fit the type their property declares.

Nothing here changes data: a new property is a new column, a property that is gone keeps its column, and a value that
does not fit stays the text HubSpot sent. This module only says so, from the versions of ``raw_hubspot.properties``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import duckdb

from hub_pipeline.settings import HubSpotObject, Settings
from hub_pipeline.sources.hubspot.streams import SOURCE, properties_to_read, property_columns
from hub_pipeline.warehouse.sql import ident, literal

DRIFT_VIEW = f"raw_{SOURCE}.property_drift"
DEFINITIONS = f"raw_{SOURCE}.properties"

#: Canonical columns without which a list gets shorter, or a flag is gone, and nothing else would show it. A mapped
#: property of one of these that disappears from the portal stops the publication (reliability 54).
NEEDED: dict[str, frozenset[str]] = {
    "organisations": frozenset(
        {
            "parent_org_id",
            "covered_by_org_id",
            "covered_from",
            "contract_kind",
            "contract_from",
            "contract_to",
            "contract_amount",
            "contract_seats",
            "seats",
            "mrr",
            "recurring_amount",
            "plan",
            "billing_interval",
            "subscription_status",
            "cancel_at",
            "term_end",
            "nps_score",
        }
    ),
    "contacts": frozenset({"email", "lifecycle_stage"}),
    "deals": frozenset(
        {"pipeline", "stage", "deal_type", "amount", "close_date", "is_closed", "is_won", "subscription_id"}
    ),
    "feedback_submissions": frozenset({"survey_type", "score", "responded_at"}),
    **{name: frozenset({"occurred_at"}) for name in ("notes", "tasks", "emails", "calls", "meetings")},
}

_OPTION_VALUES = (
    'list_sort(list_distinct(from_json({0}, \'[{{"value":"VARCHAR"}}]\').list_transform(lambda o: o.value)))'
)


def create_drift_view(connection: duckdb.DuckDBPyConnection) -> None:
    """(Re)create ``raw_hubspot.property_drift``: one row for each change of a property since an object was first read.

    Kinds: ``added``, ``removed``, ``restored``, ``renamed`` (one property went and another with its label and type
    came in the same run), ``relabelled``, ``retyped``, ``options_changed`` (``before`` holds the values that are
    gone, ``after`` the new ones) and ``differs_only_in_case`` (``before`` is the older property, which keeps the
    column). ``seen_at`` is the close of the day of the run that saw it.
    """
    now, then = _OPTION_VALUES.format("v.options"), _OPTION_VALUES.format("v.options_before")
    connection.execute(
        f"""
        CREATE OR REPLACE VIEW {DRIFT_VIEW} AS
        WITH first_read AS (SELECT object, min(_run_id) AS run_id FROM {DEFINITIONS} GROUP BY object),
        versions AS (
            SELECT p.object, p.name, p.label, p.type, p.options, p.created_at, p._run_id, p._changed_at,
                p._deleted_at IS NOT NULL AS is_gone,
                p._run_id > f.run_id AND row_number() OVER w = 1 AS is_new,
                row_number() OVER w = 1 AS is_first,
                lag(p._deleted_at IS NOT NULL) OVER w AS was_gone,
                lag(p.label) OVER w AS label_before, lag(p.type) OVER w AS type_before,
                lag(p.options) OVER w AS options_before
            FROM {DEFINITIONS} AS p JOIN first_read AS f ON f.object = p.object
            WINDOW w AS (PARTITION BY p.object, p.name ORDER BY p._run_id, p._deleted_at IS NOT NULL)),
        gone AS (SELECT * FROM versions WHERE is_gone AND NOT was_gone),
        came AS (
            SELECT v.*, min(g.name) AS renamed_from
            FROM versions AS v
            LEFT JOIN gone AS g
                ON g.object = v.object AND g._run_id = v._run_id AND g.label = v.label AND g.type = v.type
            WHERE v.is_new AND NOT v.is_gone
            GROUP BY ALL),
        kept AS (SELECT * FROM versions WHERE NOT is_first AND NOT is_gone AND NOT was_gone),
        options AS (SELECT v.*, {then} AS values_before, {now} AS values_now FROM kept AS v),
        events AS (
            SELECT object, name, CASE WHEN renamed_from IS NULL THEN 'added' ELSE 'renamed' END AS kind,
                renamed_from AS before, coalesce(if(renamed_from IS NULL, type, name), '') AS after,
                _changed_at, _run_id
            FROM came
            UNION ALL
            SELECT object, name, 'removed', type, NULL, _changed_at, _run_id FROM gone
            UNION ALL
            SELECT object, name, 'restored', NULL, type, _changed_at, _run_id
            FROM versions WHERE was_gone AND NOT is_gone
            UNION ALL
            SELECT object, name, 'retyped', type_before, type, _changed_at, _run_id
            FROM kept WHERE type IS DISTINCT FROM type_before
            UNION ALL
            SELECT object, name, 'relabelled', label_before, label, _changed_at, _run_id
            FROM kept WHERE label IS DISTINCT FROM label_before
            UNION ALL
            SELECT object, name, 'options_changed',
                array_to_string(list_filter(values_before, lambda o: NOT list_contains(values_now, o)), ', '),
                array_to_string(list_filter(values_now, lambda o: NOT list_contains(values_before, o)), ', '),
                _changed_at, _run_id
            FROM options WHERE values_before IS DISTINCT FROM values_now
            UNION ALL
            SELECT b.object, b.name, 'differs_only_in_case', a.name, b.name,
                greatest(a._changed_at, b._changed_at), greatest(a._run_id, b._run_id)
            FROM versions AS b
            JOIN versions AS a ON a.object = b.object AND lower(a.name) = lower(b.name) AND a.is_first
                AND (coalesce(a.created_at, '0001-01-01'), a.name) < (coalesce(b.created_at, '0001-01-01'), b.name)
            WHERE b.is_first)
        SELECT object, name, kind, before, after, _changed_at AS seen_at, _run_id AS run_id FROM events
        """
    )
    connection.execute(
        f"COMMENT ON VIEW {DRIFT_VIEW} IS 'Changes of HubSpot properties, as the runs saw them; docs/hubspot_objects.md'"
    )


def lost_properties_sql(settings: Settings) -> str:
    """SQL: mapped properties of `NEEDED` columns that the portal had and has no more, with what to do."""
    rows = [
        f"({literal(name)}, {literal(column)}, {literal(source)})"
        for name, config in settings.hubspot.objects.items()
        for column, source in config.properties.items()
        if source and column in NEEDED.get(name, ())
    ]
    mapped = ", ".join(rows) or "(NULL, NULL, NULL)"
    return (
        "SELECT m.object, m.property, m.needed_for, "
        "'map another property in hubspot.objects.' || m.object || '.properties.' || m.needed_for || "
        "', or set it to \"\" to do without' AS what_to_do "
        f"FROM (VALUES {mapped}) AS m(object, needed_for, property) "
        f"JOIN {DEFINITIONS}_current AS p ON p.object = m.object AND p.name = m.property "
        "WHERE p._deleted_at IS NOT NULL"
    )


def misfits_sql(connection: duckdb.DuckDBPyConnection, settings: Settings, run_id: str) -> str:
    """SQL: properties with values that do not fit, among what one run appended.

    Columns: object, property, type, misfits (how many), example_id (a record that has one). Only what is new is
    looked at, so the cost follows the change; of a property that the run found retyped all versions are looked at.
    """
    tables = connection.execute(
        "SELECT table_name, list(column_name) FROM duckdb_columns() WHERE schema_name = $schema GROUP BY ALL",
        {"schema": f"raw_{SOURCE}"},
    ).fetchall()
    definitions = connection.execute(
        f"SELECT object, map_from_entries(list((name, type) ORDER BY created_at NULLS FIRST, name)) "
        f"FROM {DEFINITIONS}_current WHERE _deleted_at IS NULL GROUP BY object"
    ).fetchall()
    retyped = connection.execute(
        f"SELECT object, name FROM {DRIFT_VIEW} WHERE kind = 'retyped' AND run_id = $run_id",
        {"run_id": run_id},
    ).fetchall()
    columns, types = dict(tables), dict(definitions)
    queries = [
        _misfits_of(name, config, columns[name], types[name], set(retyped), f"_run_id = {literal(run_id)}")
        for name, config in settings.hubspot.objects.items()
        if name in columns and name in types
    ]
    return " UNION ALL ".join(filter(None, queries)) or _NO_MISFITS


_NO_MISFITS = (
    "SELECT NULL::VARCHAR AS object, NULL::VARCHAR AS property, NULL::VARCHAR AS type, 0::BIGINT AS misfits, "
    "NULL::VARCHAR AS example_id WHERE false"
)


def _misfits_of(
    name: str,
    config: HubSpotObject,
    columns: Collection[str],
    types: Mapping[str, str],
    retyped: Collection[tuple[str, str]],
    new: str,
) -> str:
    structs = []
    whole = False
    for prop, column in property_columns(properties_to_read(config, types)).items():
        test = _misfit(ident(column), types[prop])
        if test is None or column not in columns:
            continue
        again = (name, prop) in retyped
        whole = whole or again
        where = test if again else f"{new} AND {test}"
        structs.append(
            f"{{'property': {literal(prop)}, 'type': {literal(types[prop])}, "
            f"'misfits': count(*) FILTER ({where}), 'example_id': min(id) FILTER ({where})}}"
        )
    if not structs:
        return ""
    return (
        f"SELECT {literal(name)} AS object, c.counted.property, c.counted.type, c.counted.misfits, "
        f"c.counted.example_id FROM (SELECT unnest([{', '.join(structs)}]) AS counted "
        f"FROM raw_{SOURCE}.{ident(name)} WHERE {'true' if whole else new}) AS c WHERE c.counted.misfits > 0"
    )


def _misfit(column: str, kind: str) -> str | None:
    """Condition under which a text is no value of a HubSpot type; None for types that any text fits."""
    if kind == "number":
        fits = f"COALESCE(isfinite(TRY_CAST({column} AS DOUBLE)), false)"
    elif kind in ("date", "datetime"):
        fits = f"(TRY_CAST({column} AS TIMESTAMPTZ) IS NOT NULL OR regexp_full_match({column}, '-?\\d{{11,14}}'))"
    elif kind == "bool":
        fits = f"lower({column}) IN ('true', 'false')"
    else:
        return None
    return f"COALESCE({column}, '') <> '' AND NOT {fits}"
