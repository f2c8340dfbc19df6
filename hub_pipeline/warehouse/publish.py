"""From the build file to the one file analysts open: written whole, verified, swapped in (settled rule 21).

A reader that has the old file open keeps it, consistent, until it closes; whoever opens the path gets the old file
or the new one, never half of either. The new file is in the storage format of DuckDB 1.2.0, so that older clients
read it too.
"""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import perf_counter

import duckdb

from hub_pipeline import __version__
from hub_pipeline.errors import ConfigurationError, WarehouseError
from hub_pipeline.settings import MODELS_VERSION, Settings
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.crashpoints import crash_point
from hub_pipeline.warehouse.database import Warehouse, open_published
from hub_pipeline.warehouse.landing import LoadContext, fsync_folder
from hub_pipeline.warehouse.lock import Fence
from hub_pipeline.warehouse.sql import ident, literal, qualified

#: What analysts get; raw stays in the build file.
SCHEMAS = ("staging", "marts", "hub", "_published")
#: Every client from this version on opens the published file.
STORAGE_VERSION = "v1.2.0"
_ATTACHED = "publishing"

_RUN_TABLE = """
CREATE TABLE _published.run (
    run_id VARCHAR, as_of DATE, known_at DATE, close TIMESTAMP, started_at TIMESTAMP, settings_hash VARCHAR,
    models_version INTEGER, program_version VARCHAR)
"""
_RUN = {
    "": "The run that wrote this file; one row",
    "run_id": "id of the run, as in the logs and the folders of the landing files",
    "as_of": "the latest day of this file",
    "known_at": "only what was recorded before the close of this day counts; as_of unless the day was restated",
    "close": "instant (UTC) at which as_of ended in the reporting time zone",
    "started_at": "instant (UTC) the run began",
    "settings_hash": "hash of the settings used; the settings themselves are in _published.settings_versions",
    "models_version": "version of the definitions behind the tables; it rises when a number may change its meaning",
    "program_version": "version of hub_pipeline",
}
_SETTINGS_VERSIONS = {
    "": "Each version of the settings that a published day was built with, without secrets, paths and periods",
    "hash": "hash that the rows of schema marts carry as settings_hash",
    "json": "the settings as JSON",
    "first_as_of": "first day that was published with them",
    "models_version": "version of the definitions at that time",
}
_DEFINITIONS_VIEW = """
CREATE VIEW hub.definitions AS
SELECT "object", "column", "type", meaning FROM _published.definitions ORDER BY "object", "position"
"""
_DEFINITIONS = {
    "": "Each table and view of this file and each of their columns, with its meaning",
    "object": "schema and name of the table or view",
    "column": "name of the column; NULL in the row of the table or view itself",
    "type": "TABLE or VIEW, or the type of the column",
    "meaning": "what it says, as its contract has it",
}


@dataclass(frozen=True)
class PublishResult:
    """What was published.

    Attributes:
        path: the published file.
        bytes: its size.
        tables: rows of each table, by ``schema.table``.
        views: ``schema.view``, in the order in which they were made.
        seconds: how long it took.
    """

    path: Path
    bytes: int
    tables: dict[str, int]
    views: tuple[str, ...]
    seconds: float


def publish(
    warehouse: Warehouse,
    connection: duckdb.DuckDBPyConnection,
    fence: Fence,
    load: LoadContext,
    settings: Settings,
    known_at: date | None = None,
    *,
    used: Mapping[str, tuple[str, date]] | None = None,
    comments: Mapping[str, Mapping[str, str]] | None = None,
) -> PublishResult:
    """Publish what the build file holds for a day, after its blocking checks have passed.

    Order of the durable steps: the settings version, the new file written and verified beside the old
    one, the intent in the ledger (from here on nothing can be recorded before the day's close), the swap, the
    record of the publish. Comments of tables, views and columns are those of the build file.

    Args:
        warehouse: where the files are.
        connection: the build file, open for writing, outside a transaction.
        fence: the run's right to commit.
        load: the run; its as_of is the day that is published.
        settings: for the version kept, and mode and group of the file.
        known_at: the day of knowledge; as_of by default.
        used: hash -> JSON of the settings that days were built with, and the first of these days; by default the
            settings, for the day that is published.
        comments: ``schema.table`` -> column -> meaning ("" is the table or view itself), for those that are there,
            beside the comments of the build file.

    Raises:
        ConfigurationError: the group of the setting does not exist or may not be given.
        WarehouseError: the new file could not be written or does not hold what the build file holds; the one
            published before is untouched.
        LockHeldError: a later run has taken over; the one published before is untouched.
    """
    started = perf_counter()
    group = _group_id(settings.publish.group)
    known = known_at or load.as_of
    remove_leftovers(warehouse)
    used = used or {settings.settings_hash(): (settings.hashed_json(), load.as_of)}
    for settings_hash, (text, first_as_of) in used.items():
        ledger.record_settings(connection, fence, settings_hash, text, first_as_of, MODELS_VERSION)
    temporary = warehouse.published_path.with_name(f".warehouse-{load.run_id}.tmp")
    try:
        tables, views = _write(connection, temporary, load, known, settings, comments or {})
        _verify(temporary, tables, views)
        _set_access(temporary, settings, group)
        _fsync(temporary)
        size = temporary.stat().st_size
        crash_point("publish.intent")
        ledger.record_intent(connection, fence, load.as_of, known, load.close)
        crash_point("publish.intent.after")
        _open_folder(warehouse, group)
        # A log left by someone who wrote into the old file would be replayed into the new one.
        _log_of(warehouse.published_path).unlink(missing_ok=True)
        crash_point("publish.replace")
        os.replace(temporary, warehouse.published_path)
        fsync_folder(warehouse.published_path.parent)
        crash_point("publish.replace.after")
    except OSError as error:
        raise WarehouseError(
            f"The published warehouse {warehouse.published_path} could not be replaced: {error.strerror}. "
            "The one published before is untouched; run again when there is room and the right to write."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
        _log_of(temporary).unlink(missing_ok=True)
    ledger.record_published(connection, fence, load.as_of, known)
    return PublishResult(warehouse.published_path, size, tables, views, perf_counter() - started)


def publish_copy(
    warehouse: Warehouse, connection: duckdb.DuckDBPyConnection, attached: str, selects: Mapping[str, str]
) -> None:
    """Put in the place of the published file a new one with the same tables, views and comments and other rows.

    Args:
        warehouse: where the files are.
        connection: a connection to which the published file is attached, outside a transaction.
        attached: its name there.
        selects: quoted name of a table, with ``attached`` -> what its rows shall be.

    Raises:
        WarehouseError: the new file cannot be written; the old one is untouched.
    """
    remove_leftovers(warehouse)
    published = warehouse.published_path
    temporary = published.with_name(".warehouse-copy.tmp")
    before = published.stat()
    try:
        with _new_file(connection, temporary) as (cursor, build):
            tables = _copy_tables(cursor, attached, selects)
            cursor.execute("COMMIT")
            views = _copy_views(cursor, attached)
            cursor.execute("BEGIN")
            _copy_comments(cursor, attached)
            cursor.execute("COMMIT")
            _end_file(cursor, build)
        _verify(temporary, tables, views)
        os.chown(temporary, -1, before.st_gid)
        os.chmod(temporary, stat.S_IMODE(before.st_mode))
        _fsync(temporary)
        _log_of(published).unlink(missing_ok=True)
        os.replace(temporary, published)
        fsync_folder(published.parent)
    except OSError as error:
        raise WarehouseError(
            f"The published warehouse {published} could not be replaced: {error.strerror}. The one published before "
            "is untouched; repeat when there is room and the right to write."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
        _log_of(temporary).unlink(missing_ok=True)


@contextmanager
def _new_file(
    connection: duckdb.DuckDBPyConnection, path: Path
) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """A cursor in a new file with the published schemas, in a transaction, and the name of the build database."""
    build = connection.execute("SELECT current_database()").fetchall()[0][0]
    # A cursor of its own, because USE must not change the database the run works in.
    cursor = connection.cursor()
    cursor.execute(
        f"ATTACH {literal(str(path))} AS {ident(_ATTACHED)} (STORAGE_VERSION {literal(STORAGE_VERSION)})"
    )
    try:
        cursor.execute("SET TimeZone = 'UTC'")
        cursor.execute(f"USE {ident(_ATTACHED)}")
        cursor.execute("BEGIN")
        for schema in SCHEMAS:
            cursor.execute(f"CREATE SCHEMA {ident(schema)}")
        yield cursor, build
    except BaseException:
        _abandon(cursor, build)
        raise
    finally:
        cursor.close()


def _end_file(cursor: duckdb.DuckDBPyConnection, build: str) -> None:
    cursor.execute(f"USE {ident(build)}")
    cursor.execute(f"CHECKPOINT {ident(_ATTACHED)}")
    cursor.execute(f"DETACH {ident(_ATTACHED)}")


def remove_leftovers(warehouse: Warehouse) -> list[Path]:
    """Remove the unfinished files of runs that died while publishing; only under the run lock.

    Returns:
        What was removed.
    """
    leftovers = sorted(warehouse.published_path.parent.glob(".warehouse-*.tmp*"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def _write(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    load: LoadContext,
    known_at: date,
    settings: Settings,
    comments: Mapping[str, Mapping[str, str]],
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Write the file; returns the rows of each table and the views."""
    with _new_file(connection, path) as (cursor, build):
        tables = _copy_tables(cursor, build, {})
        cursor.execute("COMMIT")
        # Each view in a transaction of its own: one that comes too early aborts its transaction.
        views = _copy_views(cursor, build)
        cursor.execute("BEGIN")
        _copy_comments(cursor, build)
        for name, meanings in comments.items():
            schema, table = name.split(".", 1)
            if name in views:
                ledger.write_comments(cursor, "VIEW", schema, table, meanings)
            elif name in tables:
                ledger.write_comments(cursor, "TABLE", schema, table, meanings)
        cursor.execute(_RUN_TABLE)
        cursor.execute(
            "INSERT INTO _published.run VALUES ($run_id, $as_of, $known_at, $close, $started, $hash, $models, $program)",
            {
                "run_id": load.run_id,
                "as_of": load.as_of,
                "known_at": known_at,
                "close": load.close,
                "started": load.started_at,
                "hash": settings.settings_hash(),
                "models": MODELS_VERSION,
                "program": __version__,
            },
        )
        cursor.execute(
            f"CREATE TABLE _published.settings_versions AS FROM {qualified('_ledger', 'settings_versions', build)}"
        )
        ledger.write_comments(cursor, "TABLE", "_published", "run", _RUN)
        ledger.write_comments(cursor, "TABLE", "_published", "settings_versions", _SETTINGS_VERSIONS)
        if "hub.definitions" not in views:
            cursor.execute(_DEFINITIONS_VIEW)
            ledger.write_comments(cursor, "VIEW", "hub", "definitions", _DEFINITIONS)
            views = (*views, "hub.definitions")
        tables["_published.definitions"] = _fill_definitions(cursor)
        cursor.execute("COMMIT")
        _end_file(cursor, build)
    return tables, views


def _copy_tables(cursor: duckdb.DuckDBPyConnection, build: str, selects: Mapping[str, str]) -> dict[str, int]:
    tables: dict[str, int] = {}
    for schema, table in cursor.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() "
        "WHERE database_name = $build AND list_contains($schemas, schema_name) ORDER BY ALL",
        {"build": build, "schemas": list(SCHEMAS)},
    ).fetchall():
        source = qualified(schema, table, build)
        rows = selects.get(source, f"FROM {source}")
        row = cursor.execute(f"CREATE TABLE {qualified(schema, table)} AS {rows}").fetchone()
        tables[f"{schema}.{table}"] = int(row[0]) if row else 0
    return tables


def _copy_views(cursor: duckdb.DuckDBPyConnection, build: str) -> tuple[str, ...]:
    """Create the views in an order in which each finds what it reads."""
    waiting = cursor.execute(
        "SELECT schema_name || '.' || view_name, sql FROM duckdb_views() "
        "WHERE database_name = $build AND list_contains($schemas, schema_name) ORDER BY ALL",
        {"build": build, "schemas": list(SCHEMAS)},
    ).fetchall()
    done: list[str] = []
    while waiting:
        later: list[tuple[str, str]] = []
        for name, sql in waiting:
            try:
                cursor.execute(sql)
                done.append(name)
            except (duckdb.CatalogException, duckdb.BinderException) as error:
                later.append((name, sql))
                reason = str(error).splitlines()[0]
        if len(later) == len(waiting):
            raise WarehouseError(
                f"The view {later[0][0]} cannot be made in the published file: {reason} "
                "The warehouse published before is untouched."
            )
        waiting = later
    return tuple(done)


def _copy_comments(cursor: duckdb.DuckDBPyConnection, build: str) -> None:
    scope = {"build": build, "schemas": list(SCHEMAS)}
    where = "database_name = $build AND list_contains($schemas, schema_name) AND comment IS NOT NULL"
    statements = [
        f"COMMENT ON {kind} {qualified(schema, name)} IS {literal(comment)}"
        for kind, schema, name, comment in cursor.execute(
            f"SELECT 'TABLE', schema_name, table_name, comment FROM duckdb_tables() WHERE {where} "
            f"UNION ALL SELECT 'VIEW', schema_name, view_name, comment FROM duckdb_views() WHERE {where}",
            scope,
        ).fetchall()
    ]
    statements += [
        f"COMMENT ON COLUMN {qualified(schema, table)}.{ident(column)} IS {literal(comment)}"
        for schema, table, column, comment in cursor.execute(
            f"SELECT schema_name, table_name, column_name, comment FROM duckdb_columns() WHERE {where}", scope
        ).fetchall()
    ]
    for statement in statements:
        cursor.execute(statement)


def _fill_definitions(cursor: duckdb.DuckDBPyConnection) -> int:
    row = cursor.execute(
        """
        INSERT INTO _published.definitions
        WITH objects AS (
            SELECT schema_name, table_name AS name, 'TABLE' AS kind, comment FROM duckdb_tables()
            WHERE database_name = $this AND list_contains($shown, schema_name)
            UNION ALL
            SELECT schema_name, view_name, 'VIEW', comment FROM duckdb_views()
            WHERE database_name = $this AND list_contains($shown, schema_name))
        SELECT schema_name || '.' || name, NULL, 0, kind, comment FROM objects
        UNION ALL
        SELECT o.schema_name || '.' || o.name, c.column_name, c.column_index, c.data_type, c.comment
        FROM objects AS o
        JOIN duckdb_columns() AS c
            ON c.database_name = $this AND c.schema_name = o.schema_name AND c.table_name = o.name
        """,
        {"this": _ATTACHED, "shown": [schema for schema in SCHEMAS if not schema.startswith("_")]},
    ).fetchone()
    return int(row[0]) if row else 0


def _abandon(cursor: duckdb.DuckDBPyConnection, build: str) -> None:
    for statement in ("ROLLBACK", f"USE {ident(build)}", f"DETACH {ident(_ATTACHED)}"):
        try:
            cursor.execute(statement)
        except duckdb.Error:
            # After a full disk nothing works any more; the first error is on its way to the caller.
            continue


def _verify(path: Path, tables: dict[str, int], views: Sequence[str]) -> None:
    """Open the new file as an analyst would and hold it against what was to be written.

    Raises:
        WarehouseError: a count differs, a view cannot be read, or a log lies beside the file.
    """
    if _log_of(path).exists():
        raise WarehouseError(
            "The new published file was not written whole. The one published before is untouched; run again."
        )
    with open_published(path) as connection:
        for name, rows in tables.items():
            schema, _, table = name.partition(".")
            found = connection.execute(f"SELECT count(*) FROM {qualified(schema, table)}").fetchall()[0][0]
            if found != rows:
                raise WarehouseError(
                    f"The new published file holds {found} rows of {name} where the build file has {rows}. "
                    "The one published before is untouched; run again."
                )
        for name in views:
            schema, _, view = name.partition(".")
            try:
                connection.execute(f"SELECT bit_xor(hash(v)) FROM {qualified(schema, view)} AS v").fetchall()
            except duckdb.Error as error:
                raise WarehouseError(
                    f"The view {name} cannot be read in the new published file: {str(error).splitlines()[0]} "
                    "The one published before is untouched."
                ) from error


def _group_id(group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise ConfigurationError(
            f"The setting publish.group names {group!r}, a group this machine does not have. Nothing was published."
        ) from error


def _set_access(path: Path, settings: Settings, group: int | None) -> None:
    if group is not None:
        try:
            os.chown(path, -1, group)
        except PermissionError as error:
            raise ConfigurationError(
                f"The setting publish.group names {settings.publish.group!r}, a group the user of this run is not "
                "in. Nothing was published."
            ) from error
    os.chmod(path, int(settings.publish.mode, 8))


def _open_folder(warehouse: Warehouse, group: int | None) -> None:
    """Let the group reach the file by its name; the folder's listing and every other file stay private."""
    if group is None:
        return
    folder = warehouse.published_path.parent
    os.chown(folder, -1, group)
    os.chmod(folder, folder.stat().st_mode | stat.S_IXGRP)  # noqa: S103 - search by name only, not listing


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")
