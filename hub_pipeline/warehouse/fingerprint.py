"""One hash for each table, to show that two warehouses say the same.

Left out is what rightly differs between two runs that did the same work: run ids, and when something was loaded.
The order of rows does not matter; the number of equal rows does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb

from hub_pipeline.errors import WarehouseError
from hub_pipeline.warehouse.sql import ident, qualified

#: Bookkeeping of runs, never of content.
EXCLUDED_SCHEMAS = ("_ledger",)
#: Columns that name the run or its hour.
EXCLUDED_COLUMNS = (
    "_run_id",
    "run_id",
    "_loaded_at",
    "_first_seen_at",
    "_last_seen_at",
    "first_seen_at",
    "last_seen_at",
    "resolved_at",
)
#: How much a run read to learn what is known: a run after a kill reads less and knows the same.
EXCLUDED_TABLE_COLUMNS = {"_published.freshness": ("records",)}
#: The table of the published file that describes the run it came from.
EXCLUDED_TABLES = ("_published.run",)


def fingerprint(path: Path) -> dict[str, str]:
    """Hash of the content of each table (not view) of a DuckDB file, by ``schema.table``.

    Raises:
        WarehouseError: the file is missing or cannot be read.
    """
    if not path.exists():
        raise WarehouseError(f"There is no DuckDB file at {path}.")
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            return fingerprint_of(connection)
    except duckdb.Error as error:
        raise WarehouseError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def fingerprint_of(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """As `fingerprint`, of the current database of an open connection."""
    columns: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for schema, table, column, kind in connection.execute(
        "SELECT c.schema_name, c.table_name, c.column_name, c.data_type FROM duckdb_columns() AS c "
        "JOIN duckdb_tables() AS t USING (database_name, schema_name, table_name) "
        "WHERE c.database_name = current_database() AND NOT t.temporary ORDER BY c.column_name"
    ).fetchall():
        if schema in EXCLUDED_SCHEMAS or f"{schema}.{table}" in EXCLUDED_TABLES:
            continue
        excluded = (*EXCLUDED_COLUMNS, *EXCLUDED_TABLE_COLUMNS.get(f"{schema}.{table}", ()))
        if column not in excluded:
            columns.setdefault((schema, table), []).append((column, kind))
    return {f"{s}.{t}": _hash(connection, s, t, present) for (s, t), present in sorted(columns.items())}


def _hash(
    connection: duckdb.DuckDBPyConnection, schema: str, table: str, columns: list[tuple[str, str]]
) -> str:
    row = ", ".join(f"{ident(name)} := {ident(name)}" for name, _ in columns)
    answer = connection.execute(
        f"SELECT count(*), sum(md5_number_lower(to_json(struct_pack({row}))::VARCHAR)::HUGEINT), "
        f"sum(md5_number_upper(to_json(struct_pack({row}))::VARCHAR)::HUGEINT) FROM {qualified(schema, table)}"
    ).fetchone()
    return hashlib.sha256(repr((columns, answer)).encode()).hexdigest()[:32]
