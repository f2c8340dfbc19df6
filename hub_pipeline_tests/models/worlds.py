"""A small world as canonical rows: written to files, loaded and built through the entry points that users call."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from hub_pipeline.models import CheckResult, build, catalog, load_inputs, run_checks
from hub_pipeline.models.engine import model_parameters
from hub_pipeline.settings import Settings

Row = dict[str, Any]
World = Mapping[str, Sequence[Mapping[str, Any]]]


def load(connection: duckdb.DuckDBPyConnection, world: World, settings: Settings | None = None) -> None:
    """Write each table as NDJSON into a folder and load the folder; a row that is not accepted is an error."""
    with tempfile.TemporaryDirectory() as folder:
        for table, rows in world.items():
            lines = "".join(json.dumps(row, default=str) + "\n" for row in rows)
            Path(folder, f"{table}.ndjson").write_text(lines, encoding="utf-8")
        counts = load_inputs(connection, Path(folder), settings or Settings())
    assert sum(count.quarantined for count in counts) == 0


def build_world(
    world: World, as_of: str, known_at: str | None = None, settings: Settings | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection in memory that holds the world and its marts of one day."""
    connection = duckdb.connect()
    load(connection, world, settings)
    build(
        connection,
        date.fromisoformat(as_of),
        date.fromisoformat(known_at) if known_at else None,
        settings,
    )
    return connection


def rows(connection: duckdb.DuckDBPyConnection, mart: str) -> list[Row]:
    """All rows of a mart as dicts, ordered by all columns."""
    cursor = connection.execute(f"SELECT * FROM marts.{mart} ORDER BY ALL")
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def one(connection: duckdb.DuckDBPyConnection, mart: str, **key: Any) -> Row:
    """The only row of a mart with these values."""
    found = [row for row in rows(connection, mart) if all(row[name] == value for name, value in key.items())]
    assert len(found) == 1, f"{len(found)} rows of {mart} have {key}"
    return found[0]


def checked(
    connection: duckdb.DuckDBPyConnection, mart: str, day: date, settings: Settings | None = None
) -> list[CheckResult]:
    """What all checks of a mart say of a day, as known at its close."""
    parameters = model_parameters(day, day, settings or Settings())
    return run_checks(connection, catalog()[f"marts.{mart}"], day, day, parameters)


def organisations(*ids: str) -> list[Row]:
    """Organisation records that were always known."""
    return [{"org_id": org_id} for org_id in ids]


def subscription(
    subscription_id: str, org_id: str, changes: Iterable[tuple[str, int | None, float | str]], **columns: Any
) -> list[Row]:
    """Versions of a monthly subscription, one for each (effective_at, seats, amount)."""
    base = {"plan": "team", "billing_interval": "month", "currency": "USD", "status": "active"} | columns
    return [
        {
            "subscription_id": subscription_id,
            "org_id": org_id,
            "seats": seats,
            "amount": str(amount),
            "effective_at": effective_at,
        }
        | base
        for effective_at, seats, amount in changes
    ]
