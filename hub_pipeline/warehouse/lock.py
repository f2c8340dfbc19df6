"""One run at a time: an operating-system lock for living processes, a fencing token for dead ones.

The lock (settled rule 18) is ``flock`` on ``<data_dir>/run.lock``: the kernel lets go of it when its process dies,
however it dies, so a stale lock cannot exist. The token is for a process that was declared dead and is not: each
run raises it in the ledger, and every commit proves that it still holds the highest (`Fence.check`).
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import duckdb

from hub_pipeline.errors import LockHeldError, WarehouseError
from hub_pipeline.warehouse.landing import make_private_folder


@dataclass(frozen=True)
class Fence:
    """The right of one run to commit.

    Attributes:
        token: number of the run; the ledger holds the highest one given out.
        run_id: the run it was given to.
        state_path: file beside the build file that mirrors the count of commits (`hub_pipeline.warehouse.ledger`).
    """

    token: int
    run_id: str
    state_path: Path

    def check(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Prove, inside the open transaction, that no later run has begun, and count the commit.

        The row is updated, not read: a run that begins while this transaction is open changes the same row, so
        one of the two fails instead of both succeeding.

        Raises:
            LockHeldError: a later run has taken over; the transaction must be rolled back.
        """
        try:
            row = connection.execute(
                "UPDATE _ledger.lock SET commits = commits + 1 WHERE token = $token RETURNING commits",
                {"token": self.token},
            ).fetchone()
        except duckdb.TransactionException as error:
            raise self._overtaken() from error
        if row is None:
            raise self._overtaken()

    def _overtaken(self) -> LockHeldError:
        return LockHeldError(
            f"Run {self.run_id} was declared dead and a later run has taken over, so it may not write any more; "
            "what it committed before is kept."
        )


class RunLock:
    """The lock of a data folder, as a context manager; not re-entrant.

    Raises:
        LockHeldError: another living process holds it; the message names its PID, run and start.
        WarehouseError: the lock file cannot be written.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "run.lock"
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock or say who holds it; never waits."""
        if self._descriptor is not None:
            raise LockHeldError(f"This process already holds the run lock {self.path}.")
        try:
            make_private_folder(self.path.parent)
            # O_CLOEXEC (the default): a child process must not keep the lock of a parent that was killed.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise WarehouseError(
                f"The run lock {self.path} cannot be opened: {error.strerror}. Nothing was read or changed; "
                "give the user who runs hub-pipeline the right to write there."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = self._read_holder(descriptor)
            os.close(descriptor)
            raise LockHeldError(
                f"Another run is at work here: {holder}. Nothing was changed; wait until it has ended, or stop it."
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise WarehouseError(
                f"The run lock {self.path} cannot be taken: {error.strerror}. "
                "The data folder must be on a file system with locks."
            ) from error
        self._descriptor = descriptor
        self.describe(None)

    def describe(self, run_id: str | None) -> None:
        """Write who holds the lock, for whoever finds it held.

        Raises:
            WarehouseError: the lock is not held, or the file cannot be written.
        """
        if self._descriptor is None:
            raise WarehouseError("The run lock is not held, so nobody can be named in it.")
        holder = {
            "pid": os.getpid(),
            "run_id": run_id,
            "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        }
        text = json.dumps(holder).encode() + b"\n"
        try:
            os.pwrite(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))
        except OSError as error:
            raise WarehouseError(
                f"The run lock {self.path} cannot be written: {error.strerror}. Nothing was changed."
            ) from error

    def release(self) -> None:
        """Let go; does nothing if the lock is not held. The file stays: removing it would race with a new holder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def _read_holder(descriptor: int) -> str:
        try:
            holder = json.loads(os.pread(descriptor, 4096, 0))
            run = f" (run {holder['run_id']})" if holder["run_id"] else ""
            return f"process {int(holder['pid'])}{run}, since {holder['since']}"
        except (ValueError, KeyError, TypeError):
            # The holder has taken the lock and not yet written its name.
            return "a process that has just started"
