"""A new build file from what is never overwritten: landing files for raw, the published file for the days published.

A published day never changes, so its marts are taken over as they are; everything else is computed again from raw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

import duckdb

from hub_pipeline.errors import WarehouseError
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.landing import LandedFile
from hub_pipeline.warehouse.loader import reload_from_landing
from hub_pipeline.warehouse.lock import Fence, RunLock
from hub_pipeline.warehouse.sql import ident, literal, qualified

_ATTACHED = "published"


@dataclass(frozen=True)
class RebuildResult:
    """What a rebuild did.

    Attributes:
        run_id: the run that rebuilt.
        versions: versions and events appended to raw.
        days: days whose marts were taken over from the published file.
        set_aside: where the old build file is now; None if there was none.
    """

    run_id: str
    versions: int
    days: int
    set_aside: Path | None


def rebuild(warehouse: Warehouse, lock: RunLock) -> RebuildResult:
    """Set the build file aside and make a new one from landing and the published file.

    Raw gets the same rows, with the same ``recorded_at``, as the first time; the floor of later runs is kept.
    ``staging`` and the newest day follow with the next run. May be repeated if it is cut off.

    Args:
        warehouse: where the files are; the build file may be missing or damaged.
        lock: the run lock, held.

    Raises:
        WarehouseError: the lock is not held, there is nothing to rebuild from, or the published file cannot be read.
        DataRefusedError: a landing file does not hold what it was written with.
    """
    if not lock.is_held:
        raise WarehouseError("A rebuild can only begin while it holds the run lock.")
    newest = _newest_file(warehouse.landing_root)
    before = _last_state(warehouse)
    # A team with billing only has no landing files; its extracts are read again by the next run.
    if newest is not None:
        day, close = newest.as_of, newest.close
    elif before is not None and before.published_through is not None and before.published_close is not None:
        day, close = before.published_through, before.published_close
    else:
        raise WarehouseError(
            f"There are no landing files in {warehouse.landing_root} and no published day to rebuild from. Nothing was changed; "
            "put back a copy of the build file, or start with an empty data folder."
        )
    set_aside = _set_aside(warehouse)
    with warehouse.connect() as connection:
        days = 0
        connection.execute(
            "UPDATE _ledger.lock SET token = $token",
            {"token": max([before.token if before else 0, *_landed_tokens(warehouse.landing_root)])},
        )
        # Tables of the published file first: they hold the floor, without which no run may begin.
        if warehouse.published_path.exists():
            days = _take_over_published(connection, warehouse.published_path)
        if before is not None and before.published_through is not None and before.published_close is not None:
            _book_publish(connection, "before-rebuild", before.published_through, before.published_close)
        load, fence = ledger.begin_run(connection, lock, warehouse.state_path, day, close)
        versions = reload_from_landing(connection, fence, load, warehouse.landing_root)
        _finish(connection, fence, versions, days)
    return RebuildResult(load.run_id, versions, days, set_aside)


def _finish(connection: duckdb.DuckDBPyConnection, fence: Fence, versions: int, days: int) -> None:
    ledger.finish_run(
        connection, fence, "complete", f"rebuilt: {versions} versions from landing, {days} published days"
    )


def _newest_file(landing_root: Path) -> LandedFile | None:
    newest = max(landing_root.glob("*/*/*/*.json"), key=lambda path: path.parent.name, default=None)
    return None if newest is None else LandedFile.read(newest)


def _landed_tokens(landing_root: Path) -> list[int]:
    names = {path.name.partition("-")[0] for path in landing_root.glob("*/*/*") if path.is_dir()}
    return [int(name) for name in names if name.isdigit()]


def _damaged(path: Path) -> Path:
    return path.with_name(path.name.replace("build.duckdb", "build.duckdb.damaged", 1))


def _last_state(warehouse: Warehouse) -> ledger.State | None:
    """The newest state there is: a rebuild that was cut off has set the old one aside."""
    states = []
    for path in (warehouse.state_path, _damaged(warehouse.state_path)):
        try:
            state = ledger.State.read(path)
        except WarehouseError:
            # An unreadable state is one of the reasons to rebuild; the published file tells the same.
            continue
        if state is not None:
            states.append(state)
    if not states:
        return None
    published = max(states, key=lambda state: (state.published_close is not None, state.published_close))
    return replace(published, token=max(state.token for state in states))


def _set_aside(warehouse: Warehouse) -> Path | None:
    moved: Path | None = None
    build = warehouse.build_path
    for path in (build, build.with_name(build.name + ".wal"), warehouse.state_path):
        if path.exists():
            path.replace(_damaged(path))
            moved = moved or _damaged(path)
        elif path != warehouse.state_path:
            # A log kept from an earlier rebuild must not be read into another file.
            _damaged(path).unlink(missing_ok=True)
    return moved


def _take_over_published(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Copy marts, freshness and settings versions; book the publish. Returns the number of days."""
    try:
        connection.execute(f"ATTACH {literal(str(path))} AS {ident(_ATTACHED)} (READ_ONLY)")
    except duckdb.Error as error:
        raise WarehouseError(
            f"The published warehouse {path} cannot be read ({str(error).splitlines()[0]}), and with it the days "
            "published so far. Put back a copy, or move it away to go on without them, and rebuild again."
        ) from error
    try:
        connection.execute("BEGIN")
        connection.execute("CREATE SCHEMA IF NOT EXISTS marts")
        days = 0
        for (table,) in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = $name AND schema_name = 'marts'",
            {"name": _ATTACHED},
        ).fetchall():
            target, source = qualified("marts", table), qualified("marts", table, _ATTACHED)
            connection.execute(f"CREATE OR REPLACE TABLE {target} AS FROM {source}")
            row = connection.execute(f"SELECT count(DISTINCT as_of) FROM {target}").fetchone()
            days = max(days, int(row[0]) if row else 0)
        connection.execute(
            f"INSERT OR REPLACE INTO _published.freshness BY NAME FROM {qualified('_published', 'freshness', _ATTACHED)}"
        )
        connection.execute(
            "INSERT OR REPLACE INTO _ledger.settings_versions BY NAME "
            f"FROM {qualified('_published', 'settings_versions', _ATTACHED)}"
        )
        published: list[tuple[str, date, datetime]] = connection.execute(
            f"SELECT run_id, as_of, close FROM {qualified('_published', 'run', _ATTACHED)}"
        ).fetchall()
        connection.execute("COMMIT")
        for run_id, as_of, close in published:
            _book_publish(connection, run_id, as_of, close)
    finally:
        connection.execute(f"DETACH {ident(_ATTACHED)}")
    return days


def _book_publish(connection: duckdb.DuckDBPyConnection, run_id: str, as_of: date, close: datetime) -> None:
    connection.execute(
        "INSERT INTO _ledger.publishes VALUES ($run_id, $as_of, $as_of, $close, now()::TIMESTAMP, now()::TIMESTAMP) "
        "ON CONFLICT DO NOTHING",
        {"run_id": run_id, "as_of": as_of, "close": close},
    )
