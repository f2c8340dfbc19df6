"""Every table of the contract says the same in whatever order, and however often, its files arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from itertools import islice, permutations

import pytest

from hub_pipeline.sources.billing.contract import Column, Table, contract
from hub_pipeline_tests.sources.billing_folder import BillingFolder

DAYS = (date(2026, 10, 29), date(2026, 10, 30), date(2026, 10, 31))
VALUES = {
    "text": "t", "timestamp": "2026-01-02T03:04:05Z", "date": "2026-10-29", "boolean": "false", "integer": "1",
    "decimal": "1", "minor": "100", "unit_minor": "1.5", "rate": "1.1", "currency": "USD",
}  # fmt: skip

#: Day of the file, kind, and record -> (content, updated_at) that it lists. Each record has a time always or never.
FILES: tuple[tuple[date, str, dict[str, tuple[str, str]]], ...] = (
    (
        DAYS[0],
        "full",
        {"a": ("one", "2026-10-28T09:00:00Z"), "b": ("one", "2026-10-28T10:00:00Z"), "c": ("one", "")},
    ),
    (DAYS[1], "delta", {"a": ("two", "2026-10-30T08:00:00Z"), "d": ("one", "")}),
    (
        DAYS[1],
        "full",
        {"a": ("two", "2026-10-30T08:00:00Z"), "b": ("one", "2026-10-28T10:00:00Z"), "d": ("two", "")},
    ),
    (DAYS[2], "full", {"b": ("two", "2026-10-31T09:00:00Z"), "c": ("one", ""), "d": ("two", "")}),
)


@pytest.mark.slow
def test_every_table_is_the_same_in_whatever_order_its_files_arrive(
    folder: Callable[..., BillingFolder],
) -> None:
    require_one_history(folder, contract().values(), islice(permutations(FILES), 0, None, 5))


def require_one_history(
    folder: Callable[..., BillingFolder],
    tables: Iterable[Table],
    orders: Iterable[Iterable[tuple[object, ...]]],
) -> None:
    tables, told = list(tables), []
    for order in orders:
        billing = folder(guards={"max_shrink": "1"})
        for day, kind, records in order:
            for table in tables:
                billing.put(f"{table.name}__{day}__{kind}.csv", lines(table, records))  # type: ignore[arg-type]
            billing.run()
        versions = count_versions(billing, tables)
        billing.run()
        assert count_versions(billing, tables) == versions, "a run without news adds nothing"
        told.append({table.name: [in_force(billing, table, day) for day in DAYS] for table in tables})
        billing.close()
    assert len(told) > 1
    for one in told[1:]:
        assert one == told[0]
    assert all(len({tuple(state) for state in states}) == 3 for states in told[0].values())


def count_versions(billing: BillingFolder, tables: Iterable[Table]) -> list[list[tuple[int]]]:
    """Versions of each table."""
    return [billing.rows(f"SELECT count(*) FROM raw_billing.{table.name}") for table in tables]


def lines(table: Table, records: dict[str, tuple[str, str]]) -> list[str]:
    """A file of the contract: the first written part of the key tells records apart, a spare column holds the content."""
    named = next(name for name in table.key if table.columns[name].required)
    spare = next(c for c in table.columns.values() if is_spare(table, c))
    # An item that is not metered needs a quantity, too.
    columns = [c for c in table.columns.values() if c.required or c.name in (spare.name, "quantity")]
    written = [",".join([*(c.file_name for c in columns), "updated_at"])]
    for record, (content, updated_at) in records.items():
        cells = [cell(c, record if c.name == named else content if c is spare else "") for c in columns]
        written.append(",".join([*cells, updated_at]))
    return written


def is_spare(table: Table, column: Column) -> bool:
    return column.name not in table.key and column.type in ("text", "integer", "minor", "rate", "enum")


def cell(column: Column, wanted: str) -> str:
    numbers = {"one": "1", "two": "2"}
    if column.type == "currency" and wanted:
        return {"a": "EUR", "b": "GBP", "c": "JPY", "d": "CHF"}[wanted]
    if column.type == "enum":
        return column.values[int(numbers.get(wanted, "1")) - 1]
    if column.type == "text" and wanted:
        return wanted
    return numbers.get(wanted) or VALUES[column.type]


def in_force(billing: BillingFolder, table: Table, day: date) -> list[tuple[object, ...]]:
    """What holds at the close of a day, with everything known now."""
    rows = billing.rows(
        f"SELECT {', '.join(table.key)}, _hash, _deleted_at IS NULL FROM raw_billing.{table.name}_versions "
        f"WHERE _changed_at < $close QUALIFY row_number() OVER (PARTITION BY {', '.join(table.key)} ORDER BY "
        "_changed_at DESC, _recorded_at DESC, _told_at, (_deleted_at IS NOT NULL AND NOT _absent) DESC, "
        "_precedence DESC, _line DESC) = 1 ORDER BY ALL",
        close=datetime.combine(day, datetime.min.time()) + timedelta(days=1),
    )
    return [row[:-1] for row in rows if row[-1]]
