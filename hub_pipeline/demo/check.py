"""Compare the published answers with the demo company's known truth, row by row and both ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import duckdb
from rich.console import Console
from rich.table import Table

from hub_pipeline.demo.account import Company
from hub_pipeline.demo.truth import TruthList, comparable
from hub_pipeline.errors import WarehouseError
from hub_pipeline.warehouse.sql import ident


@dataclass(frozen=True, slots=True)
class Difference:
    """One disagreement: a row that is missing or unexpected, or a column of a row with another value."""

    list_name: str
    kind: Literal["missing", "unexpected", "wrong"]
    key: tuple[Any, ...]
    column: str = ""
    expected: Any = None
    found: Any = None


@dataclass(slots=True)
class CheckReport:
    """What was compared: list -> (rows expected, rows published), and every difference."""

    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every list says exactly what it should."""
        return not self.differences


def print_report(report: CheckReport, console: Console, limit: int = 40) -> None:
    """Print one line for each list, then the first `limit` differences."""
    summary = Table(title="Lists against the truth of the demo company")
    for heading in ("list", "expected", "published", "differences"):
        summary.add_column(heading, justify="left" if heading == "list" else "right")
    for name, (expected, published) in report.rows.items():
        count = sum(difference.list_name == name for difference in report.differences)
        summary.add_row(name, str(expected), str(published), str(count))
    console.print(summary)
    if report.passed:
        return
    table = Table(title="Differences")
    for heading in ("list", "what", "key", "column", "expected", "published"):
        table.add_column(heading, overflow="fold")
    for difference in report.differences[:limit]:
        is_value = difference.kind == "wrong"
        table.add_row(
            difference.list_name,
            difference.kind,
            " / ".join(_shown(part) for part in difference.key),
            difference.column,
            _shown(difference.expected) if is_value else "",
            _shown(difference.found) if is_value else "",
        )
    console.print(table)
    if len(report.differences) > limit:
        console.print(f"... and {len(report.differences) - limit} more differences.")


def check(published_file: Path, company: Company) -> CheckReport:
    """Compare every list of the company's truth with the published warehouse, opened read-only.

    Rows are matched by the key of the list. Values are equal when they agree to four decimals, dates and texts
    exactly, arrays in order. Columns that the truth does not state are not compared.

    Raises:
        WarehouseError: the file cannot be opened, or a list or one of its columns is not in it.
    """
    try:
        connection = duckdb.connect(str(published_file), read_only=True)
    except duckdb.Error as error:
        raise WarehouseError(
            f"The published warehouse {published_file} cannot be opened, so nothing was compared: {error}"
        ) from error
    report = CheckReport()
    with connection:
        for name, truth in company.truth.lists.items():
            _compare(report, name, truth, _published(connection, name, truth))
    return report


def _published(connection: duckdb.DuckDBPyConnection, name: str, truth: TruthList) -> list[dict[str, Any]]:
    columns = list(dict.fromkeys([*truth.key, *(column for row in truth.rows for column in row)]))
    schema, view = name.split(".")
    selected = ", ".join(ident(column) for column in columns)
    try:
        rows = connection.execute(f"SELECT {selected} FROM {ident(schema)}.{ident(view)}").fetchall()
    except duckdb.Error as error:
        raise WarehouseError(
            f"The list {name} cannot be read from the published warehouse: {error}"
        ) from error
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _compare(report: CheckReport, name: str, truth: TruthList, rows: list[dict[str, Any]]) -> None:
    report.rows[name] = (len(truth.rows), len(rows))
    unmatched: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        unmatched.setdefault(tuple(row[column] for column in truth.key), []).append(row)
    for expected in truth.rows:
        key = tuple(expected[column] for column in truth.key)
        candidates = unmatched.get(key)
        if not candidates:
            report.differences.append(Difference(name, "missing", key))
            continue
        found = candidates.pop(0)
        report.differences.extend(
            Difference(name, "wrong", key, column, value, found[column])
            for column, value in expected.items()
            if comparable(value) != comparable(found[column])
        )
    report.differences.extend(
        Difference(name, "unexpected", key) for key, left in unmatched.items() for _ in left
    )


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
