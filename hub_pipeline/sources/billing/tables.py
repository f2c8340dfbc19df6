"""The tables of schema raw_billing: append-only versions, the manifest of files, the quarantine, and views on them.

Besides the contract's columns a row of ``raw_billing.<table>`` has ``source`` (the folder), ``extra`` (JSON of the
columns the contract does not know), ``_changed_at`` (since when it is true), ``_recorded_at`` (when it became known,
settled rule 2), ``_deleted_at``, ``_absent`` (deleted because a full file left it out), ``_floor`` (of its load),
``_hash`` of the content, ``_precedence`` (which of two statements on one instant holds: versions.precedence; with a ``+``
it corrects what another version of that instant said),
``_file_no`` and ``_line`` (where it stands: raw_billing.files) and ``_run_id``.
"""

from __future__ import annotations

import duckdb

from hub_pipeline.errors import WarehouseError
from hub_pipeline.sources.billing.contract import Table, contract, currencies
from hub_pipeline.sources.billing.identity import ensure_identity
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.sql import ident, idents, literal

#: Columns of every table behind those of the contract.
BOOKKEEPING = {
    "_changed_at": "TIMESTAMP",
    "_recorded_at": "TIMESTAMP",
    "_deleted_at": "TIMESTAMP",
    "_absent": "BOOLEAN",
    "_floor": "TIMESTAMP",
    "_hash": "UBIGINT",
    "_precedence": "VARCHAR",
    "_file_no": "BIGINT",
    "_line": "BIGINT",
    "_run_id": "VARCHAR",
}

#: Whether a version is nobody's word: it corrects another one of the same instant after a late file.
CORRECTION = "_precedence LIKE '%+'"

#: Which version holds where several are true from one instant on. A deletion comes after a change of the same instant.
NEWEST_FIRST = (
    "_changed_at DESC, _recorded_at DESC, "
    f"(_deleted_at IS NOT NULL AND NOT _absent AND NOT {CORRECTION}) DESC, _precedence DESC, _line DESC"
)

_FILES = """
CREATE TABLE IF NOT EXISTS raw_billing.files (
    file_no BIGINT, sha256 VARCHAR, table_name VARCHAR, source VARCHAR, original_name VARCHAR, size BIGINT,
    kind VARCHAR, extract_date DATE, extract_close TIMESTAMP, sequence BIGINT, rows_total BIGINT, accepted BIGINT,
    exact_duplicates BIGINT, quarantined BIGINT, test_data BIGINT, inserted BIGINT, deleted BIGINT, status VARCHAR,
    message VARCHAR, is_mapped BOOLEAN, header VARCHAR[], rules VARCHAR, first_seen_at TIMESTAMP, run_id VARCHAR,
    PRIMARY KEY (sha256, source, table_name, extract_date, kind),
    CHECK (rows_total = accepted + exact_duplicates + quarantined));
COMMENT ON TABLE raw_billing.files IS
'Manifest of billing files, one row for each content, source, date, kind and table it fills; status loaded, rejected or
held. Always rows_total = accepted + exact_duplicates + quarantined; test_data = accepted rows with livemode false.';
CREATE TABLE IF NOT EXISTS raw_billing.quarantine (
    file_sha256 VARCHAR, original_name VARCHAR, source VARCHAR, table_name VARCHAR, extract_close TIMESTAMP,
    line_no BIGINT, raw_line VARCHAR, is_base64 BOOLEAN, reasons VARCHAR[], record VARCHAR, parent VARCHAR,
    first_seen_at TIMESTAMP, last_seen_at TIMESTAMP, resolved_at TIMESTAMP, resolved_by VARCHAR);
COMMENT ON TABLE raw_billing.quarantine IS
'Rows of billing files that were not believed: where they stand, what was written, every reason; resolved_by later_file
or rule_change once that is settled. parent: the row was accepted, but what it belongs to never came.';
CREATE TABLE IF NOT EXISTS raw_billing.lists (
    table_name VARCHAR, source VARCHAR, extract_close TIMESTAMP, _precedence VARCHAR, _floor TIMESTAMP);
COMMENT ON TABLE raw_billing.lists IS
'Full files that were loaded, by the precedence with which they are believed; _floor of the load.';
CREATE TABLE IF NOT EXISTS raw_billing.listed (
    table_name VARCHAR, source VARCHAR, record UBIGINT, _precedence VARCHAR, word UBIGINT, said VARCHAR);
COMMENT ON TABLE raw_billing.listed IS
'What each full file said of each record (hash of its key), where that differs from the full file before: word = hash of
the row; said seen (a row without a time), timed, absent, or silent (unreadable).';
CREATE TABLE IF NOT EXISTS raw_billing.retold (
    table_name VARCHAR, source VARCHAR, record UBIGINT, _precedence VARCHAR, word UBIGINT);
COMMENT ON TABLE raw_billing.retold IS 'Rows of deltas that an earlier loaded file had told already.';
CREATE TABLE IF NOT EXISTS raw_billing.contested (
    table_name VARCHAR, source VARCHAR, record UBIGINT, changed_at TIMESTAMP);
COMMENT ON TABLE raw_billing.contested IS 'Times of which files tell different rows of one record.';
CREATE TABLE IF NOT EXISTS raw_billing.record_keys (table_name VARCHAR PRIMARY KEY, key VARCHAR[]);
COMMENT ON TABLE raw_billing.record_keys IS
'Columns whose hash is the record in raw_billing.listed, retold and contested, so that an erasure finds it.';
CREATE TABLE IF NOT EXISTS raw_billing.currencies (currency VARCHAR PRIMARY KEY, exponent INTEGER);
COMMENT ON TABLE raw_billing.currencies IS 'ISO 4217: decimals of each currency.';
"""


def columns(table: Table) -> list[str]:
    """Names of a table's columns before the bookkeeping ones."""
    return ["source", *table.columns, "extra"]


def ensure(connection: duckdb.DuckDBPyConnection) -> None:
    """Create what is missing, so that models can read empty tables where billing is not configured.

    Raises:
        WarehouseError: full files were loaded by a version that did not keep what they said (raw_billing.listed).
    """
    connection.execute("CREATE SCHEMA IF NOT EXISTS raw_billing")
    _refuse_older(connection)
    connection.execute(_FILES)
    codes = ", ".join(f"({literal(c)}, {e})" for e, group in currencies().items() for c in group)
    connection.execute(f"INSERT OR IGNORE INTO raw_billing.currencies VALUES {codes}")
    for table in contract().values():
        _ensure_table(connection, table)
        connection.execute(
            "INSERT OR REPLACE INTO raw_billing.record_keys VALUES ($table, $key)",
            {"table": table.name, "key": list(table.key)},
        )
        if table.counted_by:
            _ensure_listed(connection, table, table.counted_by)
    ensure_identity(connection)


def _refuse_older(connection: duckdb.DuckDBPyConnection) -> None:
    """Without the words of the full files loaded before, a late file would take every record for deleted."""
    found = connection.execute(
        "SELECT bool_or(table_name = 'lists'), bool_or(table_name = 'listed'), bool_or(column_name = '_floor') "
        "FROM duckdb_columns() WHERE schema_name = 'raw_billing' AND table_name IN ('lists', 'listed')"
    ).fetchone()
    if found is None or not found[0] or all(found):
        return
    if connection.execute("SELECT 1 FROM raw_billing.lists LIMIT 1").fetchone() is not None:
        raise WarehouseError(
            "The build file holds billing extracts that an earlier version loaded without keeping what each full file "
            f"said. Nothing was changed. {ledger.REBUILD}"
        )


def _ensure_listed(connection: duckdb.DuckDBPyConnection, table: Table, counted_by: str) -> None:
    """A view of the days that full files list, whether or not what they say of a record is news."""
    view = f"raw_billing.{ident(table.name + '_listed')}"
    connection.execute(
        f"CREATE OR REPLACE VIEW {view} AS SELECT r.source, r.{ident(counted_by)}, "
        "min(coalesce(f._floor, TIMESTAMP '0001-01-01')) AS known_from "
        f"FROM (SELECT DISTINCT source, {ident(counted_by)}, hash({idents(table.key)}) AS record "
        f"FROM raw_billing.{ident(table.name)}) AS r JOIN raw_billing.listed AS l ON l.source = r.source "
        f"AND l.record = r.record AND l.table_name = {literal(table.name)} AND l.said IN ('seen', 'timed') "
        "JOIN raw_billing.lists AS f ON f.table_name = l.table_name AND f.source = l.source "
        "AND f._precedence = l._precedence GROUP BY ALL"
    )
    connection.execute(
        f"COMMENT ON VIEW {view} IS 'Days of {table.name} that a full file lists, and since when that is known.'"
    )


def _ensure_table(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    name = f"raw_billing.{ident(table.name)}"
    typed = ", ".join(f"{ident(c.name)} {c.sql_type}" for c in table.columns.values())
    bookkeeping = ", ".join(f"{ident(column)} {kind}" for column, kind in BOOKKEEPING.items())
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {name} (source VARCHAR, {typed}, extra VARCHAR, {bookkeeping})"
    )
    connection.execute(
        f"COMMENT ON TABLE {name} IS {literal(f'Billing: {table.meaning}; append-only versions.')}"
    )
    for column in table.columns.values():
        connection.execute(f"COMMENT ON COLUMN {name}.{ident(column.name)} IS {literal(column.meaning)}")
    key = idents(("source", *table.key))
    connection.execute(
        f"CREATE OR REPLACE VIEW raw_billing.{ident(table.name + '_current')} AS SELECT * FROM {name} "
        f"QUALIFY row_number() OVER (PARTITION BY {key} "
        f"ORDER BY {NEWEST_FIRST}) = 1"
    )
    # Settled rule 1: the first version of a record is dated by its creation. Which version is the first depends on
    # what was known, so the table keeps the change as it was told and this view adds the row dated by creation
    # (_told_at keeps the change time).
    created = f"CAST({ident(table.created)} AS TIMESTAMP)"
    told = "greatest(entered_at, _floor)" if "entered_at" in table.columns else "_floor"
    connection.execute(
        f"CREATE OR REPLACE VIEW raw_billing.{ident(table.name + '_versions')} AS "
        f"SELECT *, _changed_at AS _told_at FROM {name} UNION ALL "
        f"SELECT * REPLACE ({created} AS _changed_at, greatest({created}, {told}) AS _recorded_at), _changed_at FROM "
        f"(SELECT * FROM {name} QUALIFY _changed_at = min(_changed_at) OVER (PARTITION BY {key} "
        f"ORDER BY coalesce({told}, TIMESTAMP '1900-01-01'))) WHERE {created} < _changed_at AND NOT _absent"
    )
