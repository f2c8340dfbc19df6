"""Progress while a run works: bars on a terminal, plain lines anywhere else (a log, a pipe, CI)."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from hub_pipeline.sources.progress import Progress as ProgressProtocol

#: Steps whose progress counts records; the others count tables.
SOURCES = ("hubspot", "intercom", "billing", "stripe")


class BarProgress:
    """One line of `rich` progress for each object; safe to call from any thread."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._lock = threading.Lock()

    def start(self, source: str, object_name: str, total: int | None = None) -> None:
        with self._lock:
            self._tasks[source, object_name] = self._progress.add_task(f"{source} {object_name}", total=total)

    def advance(self, source: str, object_name: str, records: int) -> None:
        self._progress.advance(self._tasks[source, object_name], records)

    def finish(self, source: str, object_name: str) -> None:
        task = self._tasks[source, object_name]
        done = next(t.completed for t in self._progress.tasks if t.id == task)
        self._progress.update(task, total=done, completed=done)


class LineProgress:
    """One plain line when an object is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started: dict[tuple[str, str], float] = {}
        self._records: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def start(self, source: str, object_name: str, total: int | None = None) -> None:
        with self._lock:
            self._started[source, object_name] = time.monotonic()
            self._records[source, object_name] = 0

    def advance(self, source: str, object_name: str, records: int) -> None:
        with self._lock:
            self._records[source, object_name] += records

    def finish(self, source: str, object_name: str) -> None:
        with self._lock:
            seconds = time.monotonic() - self._started[source, object_name]
            records = self._records[source, object_name]
            unit = "records" if source in SOURCES else "tables"
            self._console.print(
                f"{source} {object_name}: {records:,} {unit} in {seconds:.1f} s", highlight=False
            )


@contextmanager
def show_progress() -> Iterator[ProgressProtocol]:
    """Progress on standard error, in the form that fits it."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield LineProgress(console)
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        yield BarProgress(progress)
