"""The two DuckDB files of a data folder: the build file, which only a run opens, and the published one.

Every connection is closed in ``finally``; every way a file can be unusable ends in one plain sentence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from hub_pipeline.errors import WarehouseError
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.landing import make_private_folder
from hub_pipeline.warehouse.sql import literal

#: No more than this is used unless told otherwise, so that a run fits beside other programs.
MEMORY_CEILING_BYTES = 3 * 1024**3
MEMORY_SHARE = 0.6

#: The log may grow this far before it is worked into the file. DuckDB's own 16 MB ends each landing file with a
#: checkpoint, which compresses the same unfinished row group again and again.
CHECKPOINT_THRESHOLD = "256MB"

#: What the last checkpoint may use; with more, DuckDB reads back at once what it had moved to disk.
CLOSING_MEMORY = "160MB"

#: How many merges of neighbouring row groups a checkpoint may do for a table. DuckDB's own 100 wrote nearly all of a
#: first list a second time while closing, at twice the CPU and file size; with none, a row group would be left by
#: every small append. One each time is enough for those (measured: the same groups after 60 appends).
MERGES_IN_A_CHECKPOINT = 1

#: For how many rows an ASOF join may compare each with each. DuckDB's own 64 goes by an estimate, which for tables made in
#: steps is far too low: to settle 60,000 changed billing rows took 13 seconds instead of less than one.
ASOF_LOOP_ROWS = 0

_HELD_BY = re.compile(r"Conflicting lock is held in (.*?) \(PID (\d+)\)")
_NOT_A_DATABASE = re.compile(
    r"not a valid DuckDB database|Could not read enough bytes|[Cc]orrupt|checksum|"
    r"[Ss]erialization [Ee]rror|Failed to deserialize|different endianness"
)
_DISK_FULL = re.compile(
    r"No space left on device|File too large|out of disk space|[Cc]ould not write|[Qq]uota", re.I
)


@dataclass(frozen=True)
class Warehouse:
    """Where the warehouse of a data folder is and how it is opened.

    Attributes:
        build_path: the file a run works in; private.
        published_path: the file analysts open; replaced whole, never written in place.
        memory_limit: DuckDB's own notation such as ``2GB``; by default 60 % of the machine's memory, at most 3 GB.
    """

    build_path: Path
    published_path: Path
    memory_limit: str | None = None

    @classmethod
    def in_folder(cls, data_dir: Path, memory_limit: str | None = None) -> Warehouse:
        """The warehouse of a data folder: ``build.duckdb`` and ``warehouse.duckdb``."""
        return cls(data_dir / "build.duckdb", data_dir / "warehouse.duckdb", memory_limit)

    @property
    def data_dir(self) -> Path:
        """The folder of the build file."""
        return self.build_path.parent

    @property
    def state_path(self) -> Path:
        """The durable mirror of the commit count; see `hub_pipeline.warehouse.ledger`."""
        return self.build_path.with_name(self.build_path.name + ".state")

    @property
    def landing_root(self) -> Path:
        """Where sources land their files."""
        return self.data_dir / "landing"

    @property
    def stripe_root(self) -> Path:
        """Where the rows are kept that were made of what Stripe said, a file for each run and table.

        Kept for ever: raw_billing can be filled from it anew.
        """
        return self.data_dir / "stripe"

    @property
    def memory(self) -> str:
        """The memory limit in force."""
        return self.memory_limit or default_memory_limit()

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the build file for writing, creating it with its ledger when there is none.

        Raises:
            WarehouseError: another process has it open (named by PID), it is damaged or not a database, commits
                are missing from it, a newer program wrote it, the disk is full, or memory does not suffice.
        """
        with _plain_errors(self.build_path), _private_files():
            self._prepare_folder()
            connection = self._open(read_only=False)
            try:
                ledger.verify(connection, self.state_path)
                ledger.create(connection)
                ledger.mirror(connection, self.state_path)
                yield connection
            finally:
                if self.memory_limit is None:
                    # Closing works the log into the file. A connection that a full disk made invalid only closes.
                    with suppress(duckdb.Error):
                        connection.execute(f"SET memory_limit = {literal(CLOSING_MEMORY)}")
                _close(connection)

    @contextmanager
    def connect_read_only(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the build file for reading only.

        Raises:
            WarehouseError: as for `connect`, or there is no build file yet.
        """
        if not self.build_path.exists():
            raise WarehouseError(
                f"There is no warehouse at {self.build_path} yet; `hub-pipeline run` makes one."
            )
        with _plain_errors(self.build_path):
            connection = self._open(read_only=True)
            try:
                ledger.verify(connection, self.state_path)
                if ledger.is_present(connection):
                    ledger.check_version(connection)
                yield connection
            finally:
                _close(connection)

    @contextmanager
    def connect_published(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the published file as an analyst would: read-only, and without reach to other files.

        Raises:
            WarehouseError: nothing has been published yet, or the file is damaged.
        """
        with open_published(self.published_path) as connection:
            yield connection

    def _prepare_folder(self) -> None:
        try:
            make_private_folder(self._temporary)
        except OSError as error:
            raise WarehouseError(
                f"The data folder {self.data_dir} cannot be used: {error.strerror}. Nothing was read or changed; "
                "give the user who runs hub-pipeline the right to write there, or set HUB_DATA_DIR."
            ) from error
        if not self.build_path.exists() and ledger.State.read(self.state_path) is not None:
            raise WarehouseError(
                f"The build file {self.build_path} is missing, though {self.state_path.name} tells of it. "
                f"Put it back. {ledger.REBUILD}"
            )

    @property
    def _temporary(self) -> Path:
        return self.build_path.with_name(self.build_path.name + ".tmp")

    def _open(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(
            str(self.build_path),
            read_only=read_only,
            config={
                "memory_limit": self.memory,
                "threads": os.cpu_count() or 1,
                "checkpoint_threshold": CHECKPOINT_THRESHOLD,
                "max_vacuum_tasks": MERGES_IN_A_CHECKPOINT,
                "asof_loop_join_threshold": ASOF_LOOP_ROWS,
                "temp_directory": str(self._temporary),
            },
        )
        connection.execute("SET TimeZone = 'UTC'")
        return connection


@contextmanager
def open_published(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a published file as an analyst would: read-only, locked down, UTC.

    Raises:
        WarehouseError: it is missing or damaged.
    """
    if not path.exists():
        raise WarehouseError(f"Nothing has been published at {path} yet; `hub-pipeline run` makes it.")
    with _plain_errors(path):
        connection = duckdb.connect(str(path), read_only=True)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            # read_only still allows COPY TO and read_text on any path.
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection
        finally:
            _close(connection)


def default_memory_limit() -> str:
    """60 % of the machine's memory, at most 3 GB, in DuckDB's notation."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{min(int(total * MEMORY_SHARE), MEMORY_CEILING_BYTES)}B"


@contextmanager
def _private_files() -> Iterator[None]:
    """DuckDB creates its file, log and spill files with the process's umask; all three hold personal data."""
    mask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(mask)


#: Kinds of error that are about the file and the disk, whatever their text.
_OF_THE_FILE = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.SerializationException,
)


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        storage = storage_error(path, error)
        if storage is None:
            raise
        raise storage from error


def storage_error(path: Path | str, error: duckdb.Error) -> WarehouseError | None:
    """The plain sentence for an error of the file, the disk or the memory; None for any other error.

    Args:
        path: the file, or words for it where its path is not known.
        error: as DuckDB raised it.
    """
    if isinstance(error, duckdb.OutOfMemoryException):
        return WarehouseError(
            f"The work on {path} needs more memory than is allowed. What was committed is kept; "
            "give the machine more memory or fewer other programs, and run again."
        )
    # A bad checksum and a failed commit on a full disk arrive as other kinds, known only by their text.
    text = str(error)
    if isinstance(error, _OF_THE_FILE) or _DISK_FULL.search(text) or _NOT_A_DATABASE.search(text):
        return _plain(path, error)
    return None


def _plain(path: Path | str, error: duckdb.Error) -> WarehouseError:
    text = str(error)
    held = _HELD_BY.search(text)
    if held:
        return WarehouseError(
            f"{path} is open in process {held[2]} ({held[1]}). Nothing was changed; close it there and run again. "
            "Analysts should open the published file, which never blocks a run."
        )
    if _DISK_FULL.search(text):
        return WarehouseError(
            f"The disk of {path} is full. What was committed before is kept and the published warehouse is "
            "untouched; make room and run again."
        )
    if _NOT_A_DATABASE.search(text) or isinstance(
        error, duckdb.SerializationException | duckdb.InternalException
    ):
        return WarehouseError(
            f"{path} is damaged or not a DuckDB file ({_first_line(text)}). {ledger.REBUILD}"
        )
    if "Permission denied" in text or "Read-only file system" in text:
        return WarehouseError(
            f"{path} cannot be opened: permission denied. Nothing was changed; "
            "give the user who runs hub-pipeline the right to read and write it."
        )
    return WarehouseError(f"{path} cannot be used: {_first_line(text)} What was committed before is kept.")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]


def _close(connection: duckdb.DuckDBPyConnection) -> None:
    """Close, which also writes the write-ahead log into the file."""
    connection.close()
