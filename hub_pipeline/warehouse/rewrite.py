"""A build file written anew: what was deleted from a DuckDB file stays in its free blocks until then."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import duckdb

from hub_pipeline.errors import WarehouseError
from hub_pipeline.warehouse.crashpoints import crash_point
from hub_pipeline.warehouse.database import Warehouse, storage_error
from hub_pipeline.warehouse.landing import fsync_folder
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline.warehouse.sql import ident, literal

_OLD, _NEW = "before", "after"


def rewrite_is_due(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether something was erased from this build file that its free blocks may still hold."""
    row = connection.execute("SELECT count(*) FROM _ledger.erasures WHERE rewritten_at IS NULL").fetchone()
    return row is not None and row[0] > 0


def rewrite_build_file(warehouse: Warehouse, lock: RunLock) -> None:
    """Copy what the build file says into a new file and put that in its place; nobody may have it open.

    A process that dies in between leaves the old file in place, and the next run writes it anew.

    Raises:
        WarehouseError: the lock is not held, or the copy cannot be written; the old file is untouched.
    """
    if not lock.is_held:
        raise WarehouseError("A build file can only be written anew while the run lock is held.")
    build = warehouse.build_path
    temporary = build.with_name(f".{build.name}.new")
    logs = [path.with_name(path.name + ".wal") for path in (build, temporary)]
    for path in (temporary, logs[1]):
        path.unlink(missing_ok=True)
    mask = os.umask(0o077)
    try:
        with duckdb.connect() as connection:
            connection.execute(f"SET memory_limit = {literal(warehouse.memory)}")
            connection.execute(f"SET temp_directory = {literal(str(build.with_name(build.name + '.tmp')))}")
            connection.execute(f"ATTACH {literal(str(build))} AS {ident(_OLD)}")
            connection.execute(f"ATTACH {literal(str(temporary))} AS {ident(_NEW)}")
            connection.execute(f"COPY FROM DATABASE {ident(_OLD)} TO {ident(_NEW)}")
            connection.execute(
                f"UPDATE {ident(_NEW)}._ledger.erasures SET rewritten_at = $now WHERE rewritten_at IS NULL",
                {"now": datetime.now(UTC).replace(tzinfo=None)},
            )
            connection.execute(f"DETACH {ident(_NEW)}")
            connection.execute(f"DETACH {ident(_OLD)}")
        if logs[1].exists():
            raise WarehouseError(
                f"The new {build.name} was not written whole. The old one is untouched; run again."
            )
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        crash_point("rewrite.replace")
        logs[0].unlink(missing_ok=True)
        os.replace(temporary, build)
        fsync_folder(build.parent)
    except duckdb.Error as error:
        raise storage_error(temporary, error) or error from error
    except OSError as error:
        raise WarehouseError(
            f"{build} could not be written anew: {error.strerror}. What was erased is gone from every table, but its "
            "bytes may still be in the file; make room and run again."
        ) from error
    finally:
        os.umask(mask)
        for path in (temporary, logs[1]):
            path.unlink(missing_ok=True)
