"""The warehouse's own books: runs, loaded files, finished streams, publishes, and the count of commits.

Everything here is in schema ``_ledger`` of the build file and commits in the same transaction as the rows it is
about, so rows, cursor and ledger can never disagree. One number is kept outside as well: each commit is counted
in the build file and mirrored in a small durable file beside it (``build.duckdb.state``). DuckDB opens a database
whose write-ahead log was cut or deleted without an error and with the newest rows missing; the mirror is how that
is noticed (`verify`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

import duckdb

from hub_pipeline.errors import WarehouseError
from hub_pipeline.warehouse.landing import LoadContext, write_durably
from hub_pipeline.warehouse.lock import Fence, RunLock
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline.warehouse.sql import ident, literal, qualified

#: Version of the tables below. A build file with a higher one was written by a newer program and is refused.
SCHEMA_VERSION = 2

_TABLES = """
CREATE SCHEMA IF NOT EXISTS _ledger;
CREATE TABLE _ledger.schema_version (version INTEGER NOT NULL);
CREATE TABLE _ledger.lock (
    token BIGINT NOT NULL, run_id VARCHAR, commits BIGINT NOT NULL, database_id VARCHAR NOT NULL);
CREATE TABLE _ledger.runs (
    run_id VARCHAR PRIMARY KEY, token BIGINT NOT NULL, as_of DATE NOT NULL, close TIMESTAMP NOT NULL,
    floor TIMESTAMP, started_at TIMESTAMP NOT NULL, finished_at TIMESTAMP, status VARCHAR NOT NULL, message VARCHAR);
CREATE TABLE _ledger.files (
    source VARCHAR NOT NULL, object VARCHAR NOT NULL, run_id VARCHAR NOT NULL, file VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL, records BIGINT NOT NULL, inserted BIGINT NOT NULL, as_of DATE NOT NULL,
    close TIMESTAMP NOT NULL, floor TIMESTAMP, loaded_by VARCHAR NOT NULL, loaded_at TIMESTAMP NOT NULL,
    PRIMARY KEY (source, object, run_id, file));
CREATE TABLE _ledger.streams (
    source VARCHAR NOT NULL, object VARCHAR NOT NULL, run_id VARCHAR NOT NULL, as_of DATE NOT NULL,
    status VARCHAR NOT NULL, records BIGINT NOT NULL, inserted BIGINT NOT NULL, deleted BIGINT NOT NULL,
    quarantined BIGINT NOT NULL, requests BIGINT NOT NULL, seconds DOUBLE NOT NULL, message VARCHAR NOT NULL,
    data_through TIMESTAMP, finished_at TIMESTAMP NOT NULL, state VARCHAR,
    PRIMARY KEY (source, object, run_id));
CREATE TABLE _ledger.publishes (
    run_id VARCHAR NOT NULL, as_of DATE NOT NULL, known_at DATE NOT NULL, close TIMESTAMP NOT NULL,
    intent_at TIMESTAMP NOT NULL, published_at TIMESTAMP, PRIMARY KEY (run_id, as_of, known_at));
CREATE TABLE _ledger.settings_versions (
    hash VARCHAR PRIMARY KEY, json VARCHAR NOT NULL, first_as_of DATE NOT NULL, models_version INTEGER NOT NULL);
"""

_ERASURES = """
CREATE TABLE _ledger.erasures (
    erased_at TIMESTAMP NOT NULL, run_id VARCHAR NOT NULL, reason VARCHAR NOT NULL, persons BIGINT NOT NULL,
    removed_rows BIGINT NOT NULL, changed_values BIGINT NOT NULL, landing_files BIGINT NOT NULL,
    rewritten_at TIMESTAMP);
"""
_TABLES += _ERASURES

#: What brings the tables of an older program up to the version it stands under.
_UPGRADES: dict[int, str] = {2: "ALTER TABLE _ledger.streams ADD COLUMN state VARCHAR;" + _ERASURES}

_PUBLISHED_TABLES = """
CREATE SCHEMA IF NOT EXISTS _published;
CREATE TABLE IF NOT EXISTS _published.freshness (
    source VARCHAR NOT NULL, object VARCHAR NOT NULL, as_of DATE NOT NULL, status VARCHAR NOT NULL,
    records BIGINT NOT NULL, message VARCHAR NOT NULL, data_through TIMESTAMP,
    PRIMARY KEY (source, object, as_of));
CREATE TABLE IF NOT EXISTS _published.definitions (
    "object" VARCHAR NOT NULL, "column" VARCHAR, "position" INTEGER NOT NULL, "type" VARCHAR NOT NULL,
    meaning VARCHAR);
"""

_FRESHNESS = {
    "": "What each source delivered for each day; hub.freshness shows it",
    "source": "hubspot, intercom or billing",
    "object": "object of the source, as its raw table is named",
    "as_of": "day whose run read it",
    "status": "complete, forbidden, failed, not_configured or not_read; hub.freshness says what each means",
    "records": "records the source gave, unchanged ones too; of several runs of one day the most",
    "message": "why it is not complete or what was left out; empty when there is nothing to say",
    "data_through": "latest change among all of its records known by that run (UTC); NULL when they carry no times",
}
_DEFINITIONS = {
    "": "Each table, view and column with its meaning, filled in the published file; hub.definitions shows it",
    "object": "schema and name of the table or view",
    "column": "name of the column; NULL in the row of the table or view itself",
    "position": "place of the column in its table, from 1; 0 in the row of the table or view itself",
    "type": "TABLE or VIEW, or the type of the column",
    "meaning": "what it says, as its contract has it",
}


@dataclass(frozen=True)
class State:
    """What the durable file beside the build file holds."""

    database_id: str
    commits: int
    token: int
    published_through: date | None
    published_close: datetime | None

    def write(self, path: Path) -> None:
        """Replace the state file durably.

        Raises:
            WarehouseError: it cannot be written; the commit it describes is kept.
        """
        values = {
            "database_id": self.database_id,
            "commits": self.commits,
            "token": self.token,
            "published_through": self.published_through.isoformat() if self.published_through else None,
            "published_close": self.published_close.isoformat() if self.published_close else None,
        }
        try:
            write_durably(path, json.dumps(values, indent=1).encode() + b"\n")
        except OSError as error:
            raise WarehouseError(
                f"The state file {path} could not be written: {error.strerror}. What was committed is kept; "
                "make room and run again."
            ) from error

    @classmethod
    def read(cls, path: Path) -> State | None:
        """The state file's content, or None if there is none yet.

        Raises:
            WarehouseError: it is there and cannot be understood.
        """
        try:
            values = json.loads(path.read_bytes())
            through, close = values["published_through"], values["published_close"]
            return cls(
                database_id=values["database_id"],
                commits=int(values["commits"]),
                token=int(values["token"]),
                published_through=date.fromisoformat(through) if through else None,
                published_close=datetime.fromisoformat(close) if close else None,
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WarehouseError(
                f"The state file {path} cannot be read ({error}), so it cannot be proved that the warehouse is whole. "
                + REBUILD
            ) from error


REBUILD = (
    "The published warehouse and the landing files are untouched; "
    "rebuild the build file from them with `hub-pipeline rebuild`."
)


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the ledger in a new build file; bring one of an older program up to this one's version.

    Raises:
        WarehouseError: the file was written by a newer version of the program.
    """
    if is_present(connection):
        _upgrade(connection, check_version(connection))
        return
    connection.execute("BEGIN")
    try:
        connection.execute(_TABLES)
        connection.execute("INSERT INTO _ledger.schema_version VALUES ($v)", {"v": SCHEMA_VERSION})
        connection.execute("INSERT INTO _ledger.lock VALUES (0, NULL, 0, $id)", {"id": uuid.uuid4().hex})
        ensure_published_schema(connection)
        connection.execute("COMMIT")
    except BaseException:
        _rollback(connection)
        raise


def _upgrade(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    if version == SCHEMA_VERSION:
        return
    connection.execute("BEGIN")
    try:
        for number in range(version + 1, SCHEMA_VERSION + 1):
            connection.execute(_UPGRADES[number])
        connection.execute("UPDATE _ledger.schema_version SET version = $v", {"v": SCHEMA_VERSION})
        connection.execute("COMMIT")
    except BaseException:
        _rollback(connection)
        raise


def ensure_published_schema(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the bookkeeping tables that views of schema ``hub`` read, so that the views can be made anywhere."""
    connection.execute(_PUBLISHED_TABLES)
    write_comments(connection, "TABLE", "_published", "freshness", _FRESHNESS)
    write_comments(connection, "TABLE", "_published", "definitions", _DEFINITIONS)


def write_comments(
    connection: duckdb.DuckDBPyConnection,
    kind: Literal["TABLE", "VIEW"],
    schema: str,
    name: str,
    meanings: Mapping[str, str],
) -> None:
    """Comment a table or view, whose meaning stands under the empty name, and the columns that are named."""
    whole = qualified(schema, name)
    for column, meaning in meanings.items():
        target = f"COLUMN {whole}.{ident(column)}" if column else f"{kind} {whole}"
        connection.execute(f"COMMENT ON {target} IS {literal(meaning)}")


def is_present(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether this database has a ledger."""
    row = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name = '_ledger' AND table_name = 'lock'"
    ).fetchone()
    return row is not None and row[0] == 1


def check_version(connection: duckdb.DuckDBPyConnection) -> int:
    """Refuse a build file of a newer program.

    Returns:
        The version of its tables, at most `SCHEMA_VERSION`.

    Raises:
        WarehouseError: its schema version is higher than `SCHEMA_VERSION`.
    """
    row = connection.execute("SELECT max(version) FROM _ledger.schema_version").fetchone()
    version = row[0] if row else None
    if version is None or version > SCHEMA_VERSION:
        raise WarehouseError(
            f"The build file was written by a newer hub-pipeline (schema version {version}, this program knows "
            f"{SCHEMA_VERSION}). Nothing was changed; install that version or a later one."
        )
    return int(version)


def verify(connection: duckdb.DuckDBPyConnection, state_path: Path) -> None:
    """Check that no committed transaction has gone missing since the last time.

    The count of commits in the database may be ahead of the mirror (the process died between the two), never
    behind it.

    Raises:
        WarehouseError: commits are missing (a write-ahead log was deleted, cut or damaged, or an old copy was put
            in place), the ledger is missing, or it belongs to another database.
    """
    state = State.read(state_path)
    if state is None:
        return
    if not is_present(connection):
        raise WarehouseError(f"The build file beside {state_path.name} has lost its ledger. {REBUILD}")
    current = current_state(connection)
    if current.database_id != state.database_id:
        raise WarehouseError(
            f"The build file is not the one that {state_path.name} was written for. Put the right one back. {REBUILD}"
        )
    if current.commits < state.commits:
        raise WarehouseError(
            f"The build file has lost {state.commits - current.commits} of {state.commits} committed transactions: "
            f"its write-ahead log was deleted or damaged, or an older copy was put in its place. {REBUILD}"
        )


def current_state(connection: duckdb.DuckDBPyConnection) -> State:
    """The state as the build file itself has it."""
    lock = connection.execute("SELECT database_id, commits, token FROM _ledger.lock").fetchone()
    published = connection.execute("SELECT max(as_of), max(close) FROM _ledger.publishes").fetchone()
    assert lock is not None, "the ledger always has its one lock row"
    assert published is not None, "an aggregate always has its one row"
    return State(*lock, *published)


def mirror(connection: duckdb.DuckDBPyConnection, state_path: Path) -> None:
    """Bring the state file up to the database, if it is behind.

    Raises:
        WarehouseError: it cannot be written; what was committed is kept.
    """
    current = current_state(connection)
    if State.read(state_path) != current:
        current.write(state_path)


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection, fence: Fence) -> Iterator[None]:
    """One fenced, counted transaction: what is done inside commits whole, or not at all.

    Raises:
        LockHeldError: a later run has taken over; nothing of this transaction is kept.
        WarehouseError: the mirror of the commit count could not be written; the transaction is kept.
    """
    connection.execute("BEGIN")
    try:
        yield
        fence.check(connection)
        connection.execute("COMMIT")
    except BaseException:
        _rollback(connection)
        raise
    current_state(connection).write(fence.state_path)


def begin_run(
    connection: duckdb.DuckDBPyConnection,
    lock: RunLock,
    state_path: Path,
    as_of: date,
    close: datetime,
    started_at: datetime | None = None,
) -> tuple[LoadContext, Fence]:
    """Start a run under the lock: raise the fencing token, compute the floor (settled rule 2), write the run's row.

    Args:
        connection: the build file, open for writing.
        lock: the run lock, held.
        state_path: `Warehouse.state_path`.
        as_of: the day the run is for.
        close: the instant that day ends, UTC without offset.
        started_at: UTC without offset; now by default.

    Returns:
        What every record of the run shares, and the run's right to commit. Run ids sort in the order of runs,
        whatever the clock says.

    Raises:
        WarehouseError: the lock is not held.
    """
    if not lock.is_held:
        raise WarehouseError("A run can only begin while it holds the run lock.")
    started = started_at or datetime.now(UTC).replace(tzinfo=None)
    row = connection.execute("SELECT token + 1 FROM _ledger.lock").fetchone()
    assert row is not None, "the ledger always has its one lock row"
    token = int(row[0])
    run_id = f"{token:08d}-{started:%Y%m%dT%H%M%SZ}"
    floor = publish_floor(connection)
    fence = Fence(token=token, run_id=run_id, state_path=state_path)
    connection.execute("BEGIN")
    try:
        connection.execute(
            "UPDATE _ledger.lock SET token = $token, run_id = $run_id", {"token": token, "run_id": run_id}
        )
        connection.execute(
            "UPDATE _ledger.runs SET status = 'died', message = 'the process ended without finishing' "
            "WHERE status = 'running'"
        )
        connection.execute(
            "INSERT INTO _ledger.runs VALUES ($run_id, $token, $as_of, $close, $floor, $started, NULL, 'running', NULL)",
            {
                "run_id": run_id,
                "token": token,
                "as_of": as_of,
                "close": close,
                "floor": floor,
                "started": started,
            },
        )
        fence.check(connection)
        connection.execute("COMMIT")
    except BaseException:
        _rollback(connection)
        raise
    current_state(connection).write(state_path)
    lock.describe(run_id)
    return LoadContext(run_id=run_id, as_of=as_of, close=close, floor=floor, started_at=started), fence


def finish_run(
    connection: duckdb.DuckDBPyConnection, fence: Fence, status: str = "complete", message: str | None = None
) -> None:
    """Write how the run ended (``complete`` | ``failed`` | ``refused`` | ``interrupted``, with a sentence)."""
    with transaction(connection, fence):
        connection.execute(
            "UPDATE _ledger.runs SET finished_at = $now, status = $status, message = $message WHERE run_id = $run_id",
            {"now": _now(), "status": status, "message": message, "run_id": fence.run_id},
        )


def publish_floor(connection: duckdb.DuckDBPyConnection) -> datetime | None:
    """The close of the greatest as_of whose publish intent was committed; None before the first."""
    row = connection.execute("SELECT max(close) FROM _ledger.publishes").fetchone()
    return row[0] if row else None


def record_intent(
    connection: duckdb.DuckDBPyConnection, fence: Fence, as_of: date, known_at: date, close: datetime
) -> None:
    """Commit that this day is about to be published: from now on nothing can be recorded before its close.

    Call it inside or outside of nothing: it is a transaction of its own, and must be committed before the
    published file is replaced (settled rule 2).
    """
    with transaction(connection, fence):
        connection.execute(
            "INSERT INTO _ledger.publishes VALUES ($run_id, $as_of, $known_at, $close, $now, NULL) "
            "ON CONFLICT DO NOTHING",
            {"run_id": fence.run_id, "as_of": as_of, "known_at": known_at, "close": close, "now": _now()},
        )


def record_published(
    connection: duckdb.DuckDBPyConnection, fence: Fence, as_of: date, known_at: date
) -> None:
    """Commit that the published file now holds this day."""
    with transaction(connection, fence):
        connection.execute(
            "UPDATE _ledger.publishes SET published_at = $now "
            "WHERE run_id = $run_id AND as_of = $as_of AND known_at = $known_at",
            {"run_id": fence.run_id, "as_of": as_of, "known_at": known_at, "now": _now()},
        )


def record_settings(
    connection: duckdb.DuckDBPyConnection,
    fence: Fence,
    settings_hash: str,
    settings_json: str,
    as_of: date,
    models_version: int,
) -> None:
    """Keep a version of the settings with the first day it was used for (settled rule 7)."""
    with transaction(connection, fence):
        connection.execute(
            "INSERT INTO _ledger.settings_versions VALUES ($hash, $json, $as_of, $models) "
            "ON CONFLICT (hash) DO UPDATE SET first_as_of = least(first_as_of, excluded.first_as_of)",
            {"hash": settings_hash, "json": settings_json, "as_of": as_of, "models": models_version},
        )


def record_freshness(
    connection: duckdb.DuckDBPyConnection, fence: Fence, as_of: date, results: Sequence[StreamResult]
) -> None:
    """Write what each stream delivered for a day, where ``hub.freshness`` shows it; a later run of the day replaces.

    ``records`` is the most that a run of the day has read, one that died included: a second run that finds nothing new
    does not unsay what the first one delivered. ``data_through`` is the newest change time that raw holds of the stream, as its run saw it.
    """
    with transaction(connection, fence):
        for result in results:
            row = connection.execute(
                "SELECT max(data_through) FILTER (WHERE run_id = $run_id), max(records) FROM _ledger.streams "
                "WHERE as_of = $as_of AND source = $source AND object = $object",
                {"run_id": fence.run_id, "as_of": as_of, "source": result.source, "object": result.object},
            ).fetchone()
            connection.execute(
                "INSERT INTO _published.freshness "
                "VALUES ($source, $object, $as_of, $status, $records, $message, $through) "
                "ON CONFLICT DO UPDATE SET status = excluded.status, message = excluded.message, "
                "data_through = excluded.data_through, records = greatest(records, excluded.records)",
                {
                    "source": result.source,
                    "object": result.object,
                    "as_of": as_of,
                    "status": result.status,
                    "records": max(result.records, (row[1] or 0) if row else 0),
                    "message": result.message,
                    "through": row[0] if row else None,
                },
            )


def record_not_read(
    connection: duckdb.DuckDBPyConnection, fence: Fence, as_of: date, source: str, objects: Sequence[str]
) -> None:
    """Name the objects of a source that a run was told to leave out, where ``hub.freshness`` shows it.

    What an earlier run of the same day delivered stays true: its status is kept and the message says which run.
    """
    with transaction(connection, fence):
        for name in objects:
            connection.execute(
                "INSERT INTO _published.freshness "
                "SELECT $source, $object, $as_of, 'not_read', 0, $message, max(data_through) FROM _ledger.streams "
                "WHERE source = $source AND object = $object AND status = 'complete' "
                "ON CONFLICT DO UPDATE SET message = CASE WHEN status = 'not_read' THEN excluded.message "
                "ELSE 'not read in the last run of the day; what an earlier one delivered counts' END",
                {
                    "source": source,
                    "object": name,
                    "as_of": as_of,
                    "message": "not read in this run; what earlier runs delivered counts",
                },
            )


def record_stream(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    as_of: date,
    result: StreamResult,
    data_through: datetime | None,
) -> None:
    """Write how a stream of a run ended; part of the caller's transaction. The last word of a run replaces."""
    key = {"source": result.source, "object": result.object, "run_id": run_id}
    before = connection.execute(
        "SELECT 1 FROM _ledger.streams WHERE source = $source AND object = $object AND run_id = $run_id", key
    ).fetchone()
    connection.execute(
        # To replace takes several times the planning of an INSERT, and is rarely needed.
        f"INSERT {'' if before is None else 'OR REPLACE'} INTO _ledger.streams BY NAME "
        "SELECT $source AS source, $object AS object, "
        "$run_id AS run_id, $as_of AS as_of, $status AS status, $records AS records, $inserted AS inserted, "
        "$deleted AS deleted, $quarantined AS quarantined, $requests AS requests, $seconds AS seconds, "
        "$message AS message, $data_through AS data_through, $now AS finished_at, $state AS state",
        {
            **key,
            "as_of": as_of,
            "status": result.status,
            "records": result.records,
            "inserted": result.inserted,
            "deleted": result.deleted,
            "quarantined": result.quarantined,
            "requests": result.requests,
            "seconds": result.seconds,
            "message": result.message,
            "data_through": data_through,
            "now": _now(),
            "state": None if result.state is None else json.dumps(result.state, sort_keys=True),
        },
    )


def _rollback(connection: duckdb.DuckDBPyConnection) -> None:
    """Undo the open transaction; an invalidated connection (full disk) has nothing left to undo."""
    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        # The first error is on its way to the caller and says more than this one.
        return


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
