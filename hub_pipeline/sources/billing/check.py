"""Checks every record of a file against the contract: ``temp.billing_lines`` becomes ``temp.billing_checked``.

``billing_checked`` has one row a record: ``line_no``, the typed columns of the table, ``extra``, ``reasons`` (NULL = a
good row), ``is_duplicate`` (the same row stands on an earlier line) and ``_hash`` of the content. ``billing_unread``
holds the keys of records that stand in the file on lines that are not good, so that nobody takes them for deleted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from hub_pipeline.errors import WarehouseError
from hub_pipeline.settings import Settings
from hub_pipeline.sources.billing.contract import ROW_RULES, Table
from hub_pipeline.sources.billing.mapping import FileMapping, TableMapping, extra_expression, text_expressions
from hub_pipeline.warehouse.sql import ident, idents, literal

#: Raised when this module or the reading of lines judges rows in another way than before: what lies in the quarantine
#: is then judged again.
RULES_VERSION = 1


@dataclass(frozen=True)
class Counts:
    """rows = accepted + exact_duplicates + quarantined, always."""

    rows: int
    accepted: int
    exact_duplicates: int
    quarantined: int


@dataclass(frozen=True)
class Terms:
    """What rows are judged by beside the contract and the mapping.

    Attributes:
        zone: reporting time zone; a day without a time is its local 00:00.
        latest: no time of the file may lie after it.
        max_seats: more seats on one line are not believed.
        hashed: ``table.column`` of texts that are kept only as a hash.
    """

    zone: str
    latest: datetime
    max_seats: int
    hashed: frozenset[str]


def terms(settings: Settings, latest: datetime) -> Terms:
    """The terms that the settings say."""
    return Terms(
        settings.zone.key, latest, settings.billing.max_seats, frozenset(settings.billing.hashed_columns)
    )


def rules(table: Table, file: FileMapping | None, settings: Settings) -> str:
    """Hash of everything that decides whether a row is good, beside the row and its date."""
    judged_by = {
        "version": RULES_VERSION,
        "columns": [[c.name, c.type, c.required, c.default, c.values] for c in table.columns.values()],
        "rows": ROW_RULES[table.name],
        "mapping": file.model_dump(mode="json") if file else None,
        "max_seats": settings.billing.max_seats,
        "zone": settings.zone.key,
    }
    return hashlib.sha256(json.dumps(judged_by, sort_keys=True).encode()).hexdigest()[:16]


def check(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    mapping: TableMapping,
    file: FileMapping | None,
    header: Sequence[str],
    judged_by: Terms,
) -> Counts:
    """Fill ``temp.billing_checked`` and ``temp.billing_unread``.

    Args:
        table: what the rows become.
        mapping: which field is which column.
        file: how the file writes numbers, None for one that follows the contract.
        header: names of the fields of billing_lines.

    Raises:
        ValueError: the file lacks a column that the mapping names.
        WarehouseError: the counts do not add up (never, unless this module is wrong).
    """
    texts = text_expressions(mapping, file, header)
    for name in texts:
        if f"{table.name}.{name}" in judged_by.hashed:
            if table.columns[name].type != "text" or name in table.key:
                raise ValueError(f"{table.name}.{name} cannot be kept as a hash: it is a key, or no text")
            texts[name] = f"sha256({texts[name]})"
    extra = extra_expression(file.table if file else [mapping], header)
    statements = _statements(table, texts, extra, file)
    values = {"zone": judged_by.zone, "latest": judged_by.latest, "max_seats": judged_by.max_seats}
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE billing_checked AS {statements.typed}", _used(statements.typed, values)
    )
    bad = connection.execute("SELECT count(*) FROM billing_checked WHERE reasons IS NOT NULL").fetchone()
    if bad is not None and bad[0]:
        connection.execute(
            f"UPDATE billing_checked AS c SET reasons = w.reasons FROM ({statements.reasons}) AS w "
            "WHERE w.line_no = c.line_no",
            _used(statements.reasons, values),
        )
    _mark_repeated(connection, table)
    row = connection.execute(
        "SELECT count(*), count(*) FILTER (reasons IS NULL AND NOT is_duplicate), count(*) FILTER (is_duplicate), "
        "count(*) FILTER (reasons IS NOT NULL), (SELECT count(*) FROM billing_lines) FROM billing_checked"
    ).fetchone()
    assert row is not None, "an aggregate without GROUP BY has one row"
    counts = Counts(*row[:4])
    if not counts.rows == counts.accepted + counts.exact_duplicates + counts.quarantined == row[4]:
        raise WarehouseError(
            f"The rows of a file of {table.name} do not add up: {row[4]} read, {counts}. Nothing of it was kept; "
            "this is a mistake in hub-pipeline, please report it."
        )
    _list_unread(connection, table, counts)
    return counts


@dataclass(frozen=True)
class _Statements:
    """SQL of one table and kind of file: the typed rows, and the reasons against the bad ones.

    Reasons are asked for only where there are bad rows: most files have none, and planning them takes long.
    """

    typed: str
    reasons: str


def _statements(table: Table, texts: dict[str, str], extra: str, file: FileMapping | None) -> _Statements:
    local = literal(file.timezone) if file and file.timezone else "'UTC'"
    text = ", ".join(f"{expression} AS {ident('text_' + name)}" for name, expression in texts.items())
    parsed, typed, wrong = [], [], [("broken IS NOT NULL", "broken")]
    for column in table.columns.values():
        name = ident(column.name)
        default = literal(column.default) if column.default is not None else "NULL::VARCHAR"
        if column.name not in texts:
            typed.append(f"CAST({default} AS {column.sql_type}) AS {name}")
            continue
        value = ident("text_" + column.name)
        filled = value if column.default is None else f"coalesce({value}, {default})"
        parsed.append(f"{column.cast(filled, local)} AS {name}")
        typed.append(f"{column.plausible(name)} AS {name}")
        wrong.append((f"{name} IS NULL AND {value} IS NOT NULL", literal(column.complaint)))
        if column.required:
            wrong.append((f"{value} IS NULL AND broken IS NULL", literal(f"{column.file_name}: empty")))
    for reason, condition in ROW_RULES[table.name]:
        if "text_quantity" not in condition or "quantity" in texts:
            wrong.append((f"broken IS NULL AND ({condition})", literal(reason)))
    bad = " OR ".join(f"coalesce({condition}, false)" for condition, _ in wrong)
    reasons = ", ".join(f"CASE WHEN {condition} THEN {reason} END" for condition, reason in wrong)
    kept_texts = idents("text_" + name for name in texts)

    def rows(where: str) -> str:
        return (
            f"WITH texts AS (SELECT line_no, broken, {text}, CASE WHEN broken IS NULL THEN {extra} END AS extra FROM "
            f"(SELECT line_no, broken, CASE WHEN broken IS NULL THEN f END AS f FROM billing_lines WHERE {where})), "
            f"parsed AS (SELECT line_no, broken, extra, {kept_texts}, {', '.join(parsed)} FROM texts), "
            f"typed AS (SELECT line_no, broken, extra, {kept_texts}, {', '.join(typed)} FROM parsed) "
        )

    return _Statements(
        f"{rows('true')} SELECT line_no, {idents(table.columns)}, extra, "
        f"CASE WHEN {bad} THEN ['unread'] END AS reasons, false AS is_duplicate, "
        f"hash({idents(table.columns)}, extra) AS _hash FROM typed",
        f"{rows('line_no IN (SELECT line_no FROM billing_checked WHERE reasons IS NOT NULL)')} "
        f"SELECT line_no, list_filter([{reasons}], lambda r: r IS NOT NULL) AS reasons FROM typed",
    )


def _used(sql: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if f"${name}" in sql}


def _mark_repeated(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """The same row twice counts once; two different rows for one moment of one record are both refused."""
    key = idents((*table.key, "updated_at"))
    found = connection.execute(
        f"CREATE OR REPLACE TEMP TABLE billing_repeated AS SELECT {key}, min(line_no) AS first_line, "
        f"min(_hash) <> max(_hash) AS is_conflict FROM billing_checked WHERE reasons IS NULL "
        f"GROUP BY {key} HAVING count(*) > 1"
    ).fetchone()
    if found is not None and found[0] == 0:
        return
    same = " AND ".join(f"c.{ident(k)} = r.{ident(k)}" for k in table.key)
    connection.execute(
        "UPDATE billing_checked AS c SET "
        f"reasons = CASE WHEN r.is_conflict THEN ['two different rows for one {'/'.join(table.key)} and updated_at'] END, "
        "is_duplicate = NOT r.is_conflict AND c.line_no > r.first_line "
        f"FROM billing_repeated AS r WHERE c.reasons IS NULL AND {same} "
        "AND c.updated_at IS NOT DISTINCT FROM r.updated_at"
    )


def _list_unread(connection: duckdb.DuckDBPyConnection, table: Table, counts: Counts) -> None:
    key = idents(table.key)
    readable = " AND ".join(f"{ident(name)} IS NOT NULL" for name in table.key)
    unread = [f"SELECT {key} FROM billing_checked WHERE reasons IS NOT NULL AND {readable}"]
    if counts.quarantined and table.absence_is_deletion:
        # A line that cannot be split into fields still names its record; which field that is cannot be known.
        written = "CASE WHEN starts_with(raw, chr(0)) THEN CAST(from_base64(split_part(raw, chr(0), 3)) AS VARCHAR) ELSE raw END"
        unread.append(
            f"SELECT DISTINCT {key} FROM raw_billing.{ident(table.name)} "
            f"WHERE CAST({ident(table.key[0])} AS VARCHAR) IN (SELECT unnest(regexp_split_to_array({written}, "
            f"'[\",;|:{{}}\\t\\n]+')) FROM billing_lines WHERE broken IS NOT NULL)"
        )
    connection.execute(f"CREATE OR REPLACE TEMP TABLE billing_unread AS {' UNION ALL '.join(unread)}")
