"""Which ids of a list have been read, and landing files that say so."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hub_pipeline.errors import WarehouseError
from hub_pipeline.sources.hubspot import streams as tables
from hub_pipeline.warehouse.landing import LandedFile, LandingWriter, LoadContext

Cover = tuple[int, int | None]
"""All ids above the first number, up to and with the second; None: to the end of the list."""


class Covers:
    """A set of ids in the form of ranges; everything up to `top` when it is None is the whole list."""

    def __init__(self, ranges: Iterable[Cover] = ()) -> None:
        self.ranges: list[Cover] = []
        for low, high in ranges:
            self.add(low, high)

    def add(self, low: int, high: int | None) -> None:
        """Take in a range, joining those that touch."""
        joined: list[Cover] = []
        for start, end in sorted([*self.ranges, (low, high)], key=lambda r: r[0]):
            if joined and (joined[-1][1] is None or start <= joined[-1][1]):
                before = joined[-1][1]
                joined[-1] = (joined[-1][0], None if before is None or end is None else max(before, end))
            else:
                joined.append((start, end))
        self.ranges = joined

    def gaps(self) -> list[Cover]:
        """What is missing of the whole list."""
        missing: list[Cover] = []
        position: int | None = 0
        for low, high in self.ranges:
            if position is not None and low > position:
                missing.append((position, low))
            position = high
            if high is None:
                return missing
        return [*missing, (0 if position is None else position, None)]

    def holds(self, number: int) -> bool:
        """Whether an id has been read."""
        return any(low < number and (high is None or number <= high) for low, high in self.ranges)


class PageWriter:
    """Lands pages of one list from several threads; each file tells what it covers.

    Left with an exception it keeps what was read, because each page is whole in itself; only when the disk is the
    trouble, or with `discard`, the open file is thrown away.

    Args:
        root: folder of the landing files.
        name: object whose folder the files go to.
        load: the run.
        part: start of the file names.
        position: what stands in each record file beside ``covers``; None: files without a position.
    """

    def __init__(
        self, root: Path, name: str, load: LoadContext, part: str, position: Mapping[str, Any] | None
    ) -> None:
        self._writer = LandingWriter(root, tables.SOURCE, name, load, part)
        self._position = position
        self._covers = Covers()
        self._lock = threading.Lock()

    @property
    def files(self) -> list[LandedFile]:
        """The completed files."""
        return self._writer.files

    def write(self, lines: bytes, records: int, cover: Cover | None = None) -> None:
        """Append the lines of a page and note what it covers; safe from any thread."""
        with self._lock:
            if cover is not None:
                self._covers.add(*cover)
            if self._position is not None:
                self._writer.position = {**self._position, "covers": self._covers.ranges}
            before = len(self._writer.files)
            self._writer.write(lines, records)
            if len(self._writer.files) > before:
                self._covers = Covers()

    def follow(self, after: str | None) -> None:
        """Note the cursor at which the list goes on behind the next page that is written, None at its end.

        For lists that are read by one thread, whose cursors say nothing about ids.
        """
        with self._lock:
            if self._position is not None:
                self._position = {**self._position, "after": after}
                self._writer.position = {**self._position, "covers": []}

    def __enter__(self) -> PageWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if isinstance(error, WarehouseError):
                self._writer.discard()
            else:
                self._writer.close()


def covered(files: Sequence[LandedFile]) -> Covers:
    """What files with positions cover together."""
    found = Covers()
    for file in files:
        for low, high in (file.position or {}).get("covers", ()):
            found.add(low, high)
    return found
