"""Checks every record of a file against the contract: ``temp.billing_lines`` becomes ``temp.billing_checked``.

``billing_checked`` has one row a record: ``line_no``, the typed columns of the table, ``extra``, ``reasons`` (NULL = a
good row), ``is_duplicate`` (the same row stands on an earlier line) and ``_hash`` of the content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from hub_pipeline.sources.billing.contract import ROW_RULES, Table
from hub_pipeline.sources.billing.mapping import FileMapping, TableMapping, extra_expression, text_expressions
from hub_pipeline.warehouse.sql import ident, idents, literal


@dataclass(frozen=True)
class Counts:
    """rows = accepted + exact_duplicates + quarantined, always."""

    rows: int
    accepted: int
    exact_duplicates: int
    quarantined: int


def check(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    mapping: TableMapping,
    file: FileMapping | None,
    header: Sequence[str],
    zone: str,
    latest: datetime,
) -> Counts:
    """Fill ``temp.billing_checked``.

    Args:
        table: what the rows become.
        mapping: which field is which column.
        file: how the file writes numbers, None for one that follows the contract.
        header: names of the fields of billing_lines.
        zone: reporting time zone; a day without a time is its local 00:00.
        latest: no time of the file may lie after it.

    Raises:
        ValueError: the file lacks a column that the mapping names.
    """
    texts = text_expressions(mapping, file, header)
    extra = extra_expression(file.table if file else [mapping], header)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE billing_checked AS {_typed(table, texts, extra)}",
        _used(f"{_typed(table, texts, extra)}", {"zone": zone, "latest": latest}),
    )
    _mark_repeated(connection, table)
    row = connection.execute(
        "SELECT count(*), count(*) FILTER (reasons IS NULL AND NOT is_duplicate), count(*) FILTER (is_duplicate), "
        "count(*) FILTER (reasons IS NOT NULL) FROM billing_checked"
    ).fetchone()
    assert row is not None, "an aggregate without GROUP BY has one row"
    return Counts(*row)


def _typed(table: Table, texts: dict[str, str], extra: str) -> str:
    """SELECT that types every column and says what is wrong with a row."""
    text = ", ".join(f"{expression} AS {ident('text_' + name)}" for name, expression in texts.items())
    typed, wrong = [], [("broken IS NOT NULL", "broken")]
    for column in table.columns.values():
        default = literal(column.default) if column.default is not None else "NULL::VARCHAR"
        if column.name not in texts:
            typed.append(f"CAST({default} AS {column.sql_type}) AS {ident(column.name)}")
            continue
        value = ident("text_" + column.name)
        filled = value if column.default is None else f"coalesce({value}, {default})"
        typed.append(f"{column.cast(filled)} AS {ident(column.name)}")
        wrong.append((f"{ident(column.name)} IS NULL AND {value} IS NOT NULL", literal(column.complaint)))
        if column.required:
            wrong.append((f"{value} IS NULL AND broken IS NULL", literal(f"{column.name}: empty")))
    for reason, condition in ROW_RULES[table.name]:
        if "text_quantity" not in condition or "quantity" in texts:
            wrong.append((f"broken IS NULL AND ({condition})", literal(reason)))
    bad = " OR ".join(f"coalesce({condition}, false)" for condition, _ in wrong)
    reasons = ", ".join(f"CASE WHEN {condition} THEN {reason} END" for condition, reason in wrong)
    content = ", ".join(f"{literal(name + '=')} || CAST({ident(name)} AS VARCHAR)" for name in table.columns)
    kept_texts = idents("text_" + name for name in texts)
    return (
        f"WITH texts AS (SELECT line_no, broken, {text}, CASE WHEN broken IS NULL THEN {extra} END AS extra "
        "FROM (SELECT line_no, broken, CASE WHEN broken IS NULL THEN f END AS f FROM billing_lines)), "
        f"typed AS (SELECT line_no, broken, extra, {kept_texts}, {', '.join(typed)} FROM texts) "
        f"SELECT line_no, {idents(table.columns)}, extra, "
        f"CASE WHEN {bad} THEN list_filter([{reasons}], lambda r: r IS NOT NULL) END AS reasons, "
        f"false AS is_duplicate, md5(concat_ws(chr(31), {content}, extra)) AS _hash FROM typed"
    )


def _used(sql: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if f"${name}" in sql}


def _mark_repeated(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """The same row twice counts once; two different rows for one moment of one record are both refused."""
    key = idents((*table.key, "updated_at"))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE billing_repeated AS SELECT {key}, min(line_no) AS first_line, "
        f"min(_hash) <> max(_hash) AS is_conflict FROM billing_checked WHERE reasons IS NULL "
        f"GROUP BY {key} HAVING count(*) > 1"
    )
    same = " AND ".join(f"c.{ident(k)} = r.{ident(k)}" for k in table.key)
    connection.execute(
        "UPDATE billing_checked AS c SET "
        f"reasons = CASE WHEN r.is_conflict THEN ['two different rows for one {'/'.join(table.key)} and updated_at'] END, "
        "is_duplicate = NOT r.is_conflict AND c.line_no > r.first_line "
        f"FROM billing_repeated AS r WHERE c.reasons IS NULL AND {same} "
        "AND c.updated_at IS NOT DISTINCT FROM r.updated_at"
    )
