"""From a portal's own property names to the names the models know.

A HubSpot property is whatever a team called it, so the mapping is a setting and the view that applies it is made
here, outside the portable SQL: ``raw_hubspot.<object>_mapped`` has one row for each version of a record, the
canonical columns of the mapping with their types, the record's address and the bookkeeping columns. A property
that the portal does not have is a NULL column and is reported, because a risk model that needs it must not answer
"none at risk" (reliability 54).
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from hub_pipeline.settings import HubSpotObject, Settings
from hub_pipeline.warehouse.sql import ident, literal

#: Type of each canonical column that is not text.
TYPES: dict[str, str] = {
    "members_active": "BIGINT",
    "pending_true_up_mrr": "DECIMAL(18,2)",
    "covered_from": "TIMESTAMP",
    "covered_seats": "BIGINT",
    "contract_from": "TIMESTAMP",
    "contract_to": "TIMESTAMP",
    "contract_amount": "DECIMAL(18,2)",
    "contract_seats": "BIGINT",
    "is_champion": "BOOLEAN",
    "left_at": "TIMESTAMP",
    "amount": "DECIMAL(18,2)",
    "created_at": "TIMESTAMP",
    "close_date": "TIMESTAMP",
    "is_closed": "BOOLEAN",
    "is_won": "BOOLEAN",
    "next_activity_at": "TIMESTAMP",
    "score": "DECIMAL(9,3)",
    "responded_at": "TIMESTAMP",
    "occurred_at": "TIMESTAMP",
}

#: What the address of a record calls standard objects.
TYPE_IDS = {"contacts": "0-1", "companies": "0-2", "deals": "0-3", "tickets": "0-5"}

_STATE = ("_changed_at", "_recorded_at", "_archived_at", "_deleted_at", "_merged_into")


@dataclass(frozen=True)
class MissingProperty:
    """A mapped property that the portal does not have."""

    object: str
    column: str
    property: str


def create_mapped_views(connection: duckdb.DuckDBPyConnection, settings: Settings) -> list[MissingProperty]:
    """(Re)create ``raw_hubspot.<object>_mapped`` for every object the models read.

    An object that is not configured, or was never read, gives an empty view, so that the models need no cases.

    Returns:
        Mapped properties that the portal's table does not have.
    """
    connection.execute("CREATE SCHEMA IF NOT EXISTS raw_hubspot")
    defaults = Settings().hubspot.objects
    portal = _portal_id(connection, settings)
    missing: list[MissingProperty] = []
    for name in defaults.keys() | settings.hubspot.objects.keys():
        mapping = settings.hubspot.objects.get(name) or HubSpotObject(object_type=name)
        canonical = (
            defaults[name].properties.keys() | mapping.properties.keys()
            if name in defaults
            else (mapping.properties.keys())
        )
        existing = _columns(connection, name)
        address = f"{settings.hubspot.app_address}/contacts/{portal}/record/" if portal else None
        columns = ["id"]
        if address is None:
            columns.append("CAST(NULL AS VARCHAR) AS record_url")
        else:
            type_id = TYPE_IDS.get(mapping.object_type, mapping.object_type)
            columns.append(f"{literal(f'{address}{type_id}/')} || id AS record_url")
        for column in sorted(canonical):
            source = mapping.properties.get(column) or None
            if source is not None and existing and source not in existing:
                missing.append(MissingProperty(name, column, source))
            value = ident(source) if source is not None and source in existing else "CAST(NULL AS VARCHAR)"
            columns.append(f"{_cast(value, TYPES.get(column, 'VARCHAR'))} AS {ident(column)}")
        if "created_at" not in canonical:
            columns.append("created_at")
        if existing:
            columns.append(", ".join(_STATE))
            # Versions that became known at the same instant are one state: the last change, and of two with the same
            # change time (a calculated property does not bump it) the one that was read last.
            source_table = (
                f"raw_hubspot.{ident(name)} QUALIFY row_number() OVER "
                "(PARTITION BY id, _recorded_at ORDER BY _changed_at DESC, _run_id DESC) = 1"
            )
        else:
            columns.append(
                ", ".join(
                    f"CAST(NULL AS {'VARCHAR' if c == '_merged_into' else 'TIMESTAMP'}) AS {c}"
                    for c in _STATE
                )
            )
            source_table = (
                "(SELECT CAST(NULL AS VARCHAR) AS id, CAST(NULL AS TIMESTAMP) AS created_at WHERE false)"
            )
        connection.execute(
            f"CREATE OR REPLACE VIEW raw_hubspot.{ident(name + '_mapped')} AS "
            f"SELECT {', '.join(columns)} FROM {source_table}"
        )
    return sorted(missing, key=lambda m: (m.object, m.column))


def _cast(value: str, kind: str) -> str:
    """SQL that reads HubSpot's text as a type; what does not fit is NULL (the text stays in the raw table).

    HubSpot sends instants as ISO 8601 with Z and, in some properties, as milliseconds since 1970.
    """
    if kind == "VARCHAR":
        return f"NULLIF(trim({value}), '')"
    if kind == "TIMESTAMP":
        milliseconds = (
            f"CASE WHEN regexp_full_match({value}, '\\d{{11,14}}') THEN CAST({value} AS BIGINT) END"
        )
        # By way of TIMESTAMPTZ: a direct cast drops an offset other than Z.
        iso = f"TRY_CAST({value} AS TIMESTAMPTZ) AT TIME ZONE 'UTC'"
        return f"COALESCE({iso}, make_timestamp(1000 * {milliseconds}))"
    if kind == "BOOLEAN":
        return f"lower({value}) = 'true'"
    number = f"CASE WHEN regexp_full_match(trim({value}), '-?\\d{{1,15}}(\\.\\d+)?') THEN trim({value}) END"
    if kind == "BIGINT":
        whole = f"CASE WHEN regexp_full_match(trim({value}), '-?\\d{{1,15}}(\\.0+)?') THEN trim({value}) END"
        return f"CAST(CAST({whole} AS DECIMAL(24,6)) AS BIGINT)"
    return f"CAST({number} AS {kind})"


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    rows = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE schema_name = 'raw_hubspot' AND table_name = ?",
        [table],
    ).fetchall()
    return {name for (name,) in rows}


def _portal_id(connection: duckdb.DuckDBPyConnection, settings: Settings) -> str | None:
    if settings.hubspot.portal_id is not None:
        return settings.hubspot.portal_id
    if "portal_id" not in _columns(connection, "account"):
        return None
    row = connection.execute("SELECT max(portal_id) FROM raw_hubspot.account").fetchone()
    return None if row is None else row[0]
