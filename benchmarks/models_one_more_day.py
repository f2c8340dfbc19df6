"""One more day on top of 364 stored ones, held against building it and those 364 from nothing.

The stored days were built from what was recorded before the last of them closed. Then everything else arrives, rows
that take effect in the year before included. Both ways must end with the same rows of every mart on every day, or the
benchmark ends with an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING

from benchmarks.harness import Job

if TYPE_CHECKING:
    import duckdb

TITLE = "one more day"
REFERENCE = "that day and the days before it from nothing: staging, then each day"
ROUNDS = 1
LIMITS = {"CPU of the work": 0.1}

ORGANISATIONS = 300
DAYS = 365
#: With --quick.
FEW_DAYS = 30


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Build all days but the last one from what was known by then, and let the rest of the rows arrive."""
    from benchmarks import world
    from hub_pipeline.models import build, catalog
    from hub_pipeline.models.engine import day_close
    from hub_pipeline.settings import Settings
    from hub_pipeline.warehouse.database import Warehouse

    settings = Settings()
    count = FEW_DAYS if quick else DAYS
    days = [world.DAY - timedelta(days=before) for before in reversed(range(count))]
    (folder / "days.json").write_text(json.dumps([str(day) for day in days]))
    files = folder / "inputs"
    files.mkdir()
    world.write(files, ORGANISATIONS)
    with Warehouse.in_folder(folder / "stored").connect() as connection:
        known = str(day_close(days[-2], settings.zone))
        before = world.load(connection, files, settings, known)
        for day in days[:-1]:
            build(connection, day)
        world.fill(connection, files, catalog())
    with Warehouse.in_folder(folder / "nothing").connect() as connection:
        world.fill(connection, files, catalog())
        rows = _count(connection)
    yield (
        f"{ORGANISATIONS:,} organisations, {count} days, {rows:,} rows, "
        f"{rows - before:,} of them recorded after the {count - 1} stored days"
    )


def _count(connection: duckdb.DuckDBPyConnection) -> int:
    from hub_pipeline.models import catalog
    from hub_pipeline.models.engine import count_rows

    return sum(count_rows(connection, f"inputs.{table}") for table in catalog().inputs)


def ours(folder: Path, work: Path) -> Job:
    """Stage what there is now and build the last day."""
    return lambda: _build(folder, "stored", _days(folder)[-1:])


def reference(folder: Path, work: Path) -> Job:
    """Stage the same and build every day."""
    return lambda: _build(folder, "nothing", _days(folder))


def _days(folder: Path) -> list[date]:
    return [date.fromisoformat(day) for day in json.loads((folder / "days.json").read_text())]


def _build(folder: Path, name: str, days: list[date]) -> dict[str, float]:
    from hub_pipeline.models import build, stage
    from hub_pipeline.settings import Settings
    from hub_pipeline.warehouse.database import Warehouse

    with Warehouse.in_folder(folder / name).connect() as connection:
        started = process_time()
        stage(connection, Settings())
        for day in days:
            build(connection, day)
        seconds = process_time() - started
        hashes = _hashes(connection)
    (folder / f"{name}.json").write_text(json.dumps(hashes))
    _compare(folder)
    return {"CPU of the work": seconds}


def _hashes(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Mart and day -> its number of rows and the sum of their hashes."""
    from hub_pipeline.models import catalog
    from hub_pipeline.warehouse.sql import qualified

    found: dict[str, str] = {}
    for model in catalog().layer("marts"):
        table = qualified(model.schema, model.table)
        rows = connection.execute(
            f"SELECT as_of, count(*), sum(CAST(hash(t) AS HUGEINT)) FROM {table} AS t GROUP BY as_of"
        ).fetchall()
        found |= {f"{model.name} of {day}": f"{count} rows, {total}" for day, count, total in rows}
    return found


def _compare(folder: Path) -> None:
    """Raise when both ways are through and differ."""
    both = [folder / "stored.json", folder / "nothing.json"]
    if all(path.exists() for path in both):
        stored, nothing = (json.loads(path.read_text()) for path in both)
        different = sorted(name for name in stored | nothing if stored.get(name) != nothing.get(name))
        if different or not stored:
            raise AssertionError(f"{len(different)} differ, the first is {different[:1]}")
