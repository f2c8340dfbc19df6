"""Of canonical rows with the same key staging keeps one, the greatest by its other columns; each key keeps its row."""

from __future__ import annotations

from functools import cache
from typing import Any

import duckdb
import pytest

from hub_pipeline.models import catalog
from hub_pipeline.models.graph import InputColumn
from hub_pipeline_tests.models.worlds import Row, load

INPUTS = catalog().inputs
LOW_AND_HIGH: dict[str, tuple[Any, Any]] = {
    "VARCHAR": ("x", "y"),  # beyond what stands in for an empty currency or interval
    "BIGINT": (1, 2),
    "DOUBLE": (1.5, 2.5),
    "BOOLEAN": (False, True),
    "DATE": ("2026-01-01", "2026-01-02"),
    "TIMESTAMP": ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"),
}
RECORDED = "2026-03-01T00:00:00Z"
OTHERS = [
    (table, column)
    for table, definition in INPUTS.items()
    for column in definition.columns
    if column not in (*definition.key, "recorded_at")
]
KEYS = [(table, column) for table, definition in INPUTS.items() for column in definition.key[1:]]


def _low_and_high(column: InputColumn) -> tuple[Any, Any]:
    if column.accepted:
        return tuple(sorted(column.accepted))[:2]  # type: ignore[return-value]
    return LOW_AND_HIGH.get(column.type, (1, 2))


def _row(table: str, name: str, /, **values: Any) -> Row:
    """A row that is full of low values."""
    definition = INPUTS[table]
    low = {column: _low_and_high(kind)[0] for column, kind in definition.columns.items()}
    return low | {"recorded_at": RECORDED, definition.key[0]: name} | values


def _cases(table: str) -> list[Row]:
    definition, found = INPUTS[table], []
    for column, kind in definition.columns.items():
        low, high = _low_and_high(kind)
        if column in definition.key[1:]:
            found += [_row(table, f"key-{column}", **{column: value}) for value in (low, high)]
        elif column not in (definition.key[0], "recorded_at"):
            unknown = [] if kind.required else [None]
            for order in ((low, high, *unknown), (high, *unknown, low), (*unknown, low, high)):
                name = f"{column}-{order.index(high)}"
                found += [_row(table, name, **{column: value}) for value in order]
            found.append(_row(table, f"alone-{column}", **{column: high}))
    return found


@cache
def _staged(table: str) -> dict[str, list[Row]]:
    """First column of the key, in lower case -> staged rows without it."""
    with duckdb.connect() as connection:
        load(connection, {table: _cases(table)})
        cursor = connection.execute(f"SELECT * FROM staging.{table} ORDER BY ALL")
        names = [column[0] for column in cursor.description or []]
        found: dict[str, list[Row]] = {}
        for values in cursor.fetchall():
            row = dict(zip(names, values, strict=True))
            found.setdefault(str(row.pop(INPUTS[table].key[0])).lower(), []).append(row)
        return found


@pytest.mark.parametrize(("table", "column"), OTHERS)
def test_of_rows_with_the_same_key_the_greatest_is_kept_in_whatever_order_they_come(
    table: str, column: str
) -> None:
    staged = _staged(table)
    (alone,) = staged[f"alone-{column}"]
    assert [staged[name] for name in sorted(staged) if name in {f"{column}-{n}" for n in range(3)}] == [
        [alone]
    ] * (2 if INPUTS[table].columns[column].required else 3)


@pytest.mark.parametrize(("table", "column"), KEYS)
def test_rows_that_differ_in_their_key_are_all_kept(table: str, column: str) -> None:
    assert len(_staged(table)[f"key-{column}"]) == 2


def test_of_a_part_that_two_readings_bring_the_one_known_first_is_kept() -> None:
    low, high = LOW_AND_HIGH["TIMESTAMP"]
    parts = [
        _row("conversation_parts", "k", recorded_at=low, author_type="contact"),
        _row("conversation_parts", "k", recorded_at=high, author_type="user"),
    ]
    with duckdb.connect() as connection:
        load(connection, {"conversation_parts": parts[::-1]})
        assert connection.execute("SELECT author_type FROM staging.conversation_parts").fetchall() == [
            ("contact",)
        ]
