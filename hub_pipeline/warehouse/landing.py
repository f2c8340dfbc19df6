"""Landing files: what a source sent, complete and checked, before anything is made of it.

``<root>/<source>/<object>/<run_id>/<part>-<seq>.ndjson.zst`` holds one record a line. A file is written under a
temporary name, fsynced and renamed; then its record file ``<part>-<seq>.json`` is written the same way. A data file
without a record file does not exist: it is the rest of a write that was cut off.

The record file keeps the ``as_of`` and ``floor`` of its load, so that raw rebuilt from landing gets the same
``recorded_at`` as the first time. It may also keep a ``position``: what of its source the file covers, in words that
only the source understands, so that a run that was cut off is not begun anew (`unfinished`).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import zstandard

from hub_pipeline.errors import WarehouseError
from hub_pipeline.warehouse.crashpoints import crash_point

#: A file is closed at about this many bytes of NDJSON: some 200,000 records, because DuckDB writes groups of 122,880
#: rows straight into its file, and what is less first into its log. It reads 32 MiB at a time; a few lines more than
#: eight times that would be a row group of their own, and make the last checkpoint rewrite their neighbours.
ROLL_BYTES = 248 * 1024 * 1024
#: ... or when it has been open for so long, so that a killed run repeats little: at HubSpot's limit 60 MiB or so.
ROLL_SECONDS = 30.0
#: Written beside the files of a run when the list they are of was complete.
COMPLETE_NAME = "stream.complete"
_CHUNK = 1 << 22


@dataclass(frozen=True)
class LoadContext:
    """What every record loaded by one run shares.

    Attributes:
        run_id: the run that loads; also the folder its landing files are in.
        as_of: the day the run is for.
        close: the instant that day ends (local 00:00 of the next day), UTC without offset.
        floor: nothing may be recorded before it: the close of the greatest as_of whose publish intent was
            committed before this load, or None before the first (settled rule 2). UTC without offset.
        started_at: when the run started, UTC without offset. Never part of a mart.
    """

    run_id: str
    as_of: date
    close: datetime
    floor: datetime | None
    started_at: datetime


@dataclass(frozen=True)
class LandedFile:
    """One complete landing file, as its record file describes it."""

    path: Path
    source: str
    object: str
    run_id: str
    records: int
    sha256: str
    as_of: date
    close: datetime
    floor: datetime | None
    written_at: datetime
    position: Mapping[str, Any] | None = None

    def to_json(self) -> bytes:
        values = asdict(self)
        values["path"] = self.path.name
        return json.dumps(values, default=lambda v: v.isoformat(), indent=1, sort_keys=True).encode()

    @classmethod
    def read(cls, record: Path) -> LandedFile:
        """Read a record file.

        Raises:
            WarehouseError: it cannot be read or is not a record file.
        """
        try:
            values = json.loads(record.read_bytes())
            return cls(
                path=record.parent / values["path"],
                source=values["source"],
                object=values["object"],
                run_id=values["run_id"],
                records=values["records"],
                sha256=values["sha256"],
                as_of=date.fromisoformat(values["as_of"]),
                close=datetime.fromisoformat(values["close"]),
                floor=None if values["floor"] is None else datetime.fromisoformat(values["floor"]),
                written_at=datetime.fromisoformat(values["written_at"]),
                position=values.get("position"),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WarehouseError(f"The landing record {record} cannot be read: {error}.") from error


class LandingWriter:
    """Writes the records of one part of one object (one chain of pages); not shared between threads.

    Use as a context manager: leaving it normally completes the open file, leaving it with an exception discards
    the open file and keeps the completed ones.

    Attributes:
        files: the completed ones.
        position: what the open file covers, as it will stand in its record file; set before each `write`.
    """

    def __init__(
        self,
        root: Path,
        source: str,
        object_name: str,
        load: LoadContext,
        part: str = "0",
        roll_bytes: int | None = None,
        roll_seconds: float | None = None,
    ) -> None:
        self._folder = root / source / object_name / load.run_id
        self._source = source
        self._object = object_name
        self._load = load
        self._part = part
        self._roll_bytes = ROLL_BYTES if roll_bytes is None else roll_bytes
        self._roll_seconds = ROLL_SECONDS if roll_seconds is None else roll_seconds
        # Level 3 takes twice the CPU for the same size (measured on CRM records).
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._sequence = 0
        self._stream: zstandard.ZstdCompressionWriter | None = None
        self.files: list[LandedFile] = []
        self.position: Mapping[str, Any] | None = None

    def __enter__(self) -> LandingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()

    def write(self, lines: bytes, records: int) -> None:
        """Append complete NDJSON lines (each ending in a newline) that hold ``records`` records."""
        if records == 0:
            return
        try:
            if self._stream is None:
                self._open()
            assert self._stream is not None
            self._stream.write(lines)
        except OSError as error:
            raise _disk_error(self._folder, error) from error
        self._hash.update(lines)
        self._records += records
        self._bytes += len(lines)
        if self._bytes >= self._roll_bytes or time.monotonic() - self._opened >= self._roll_seconds:
            self.close()

    def close(self) -> None:
        """Complete the open file, if any: flush, fsync, rename, record file."""
        if self._stream is None:
            return
        try:
            self._stream.flush(zstandard.FLUSH_FRAME)
            self._raw.flush()
            os.fsync(self._raw.fileno())
            self._stream.close()  # type: ignore[no-untyped-call]
            self._raw.close()
            crash_point("landing.rename")
            os.replace(self._temporary, self._final)
            fsync_folder(self._folder)
            crash_point("landing.rename.after")
            landed = LandedFile(
                path=self._final,
                source=self._source,
                object=self._object,
                run_id=self._load.run_id,
                records=self._records,
                sha256=self._hash.hexdigest(),
                as_of=self._load.as_of,
                close=self._load.close,
                floor=self._load.floor,
                written_at=datetime.now(UTC).replace(tzinfo=None),
                position=self.position,
            )
            write_durably(self._final.with_name(self._stem + ".json"), landed.to_json())
        except OSError as error:
            raise _disk_error(self._folder, error) from error
        self._stream = None
        self.files.append(landed)
        crash_point("landing.file.after")

    def _open(self) -> None:
        make_private_folder(self._folder)
        self._stem = f"{self._part}-{self._sequence:05d}"
        self._sequence += 1
        self._final = self._folder / f"{self._stem}.ndjson.zst"
        self._temporary = self._folder / f".{self._stem}.tmp"
        self._raw = open(os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")  # noqa: SIM115 - closed by close() or discard()
        self._stream = self._compressor.stream_writer(self._raw, closefd=False)
        self._hash = hashlib.sha256()
        self._records = 0
        self._bytes = 0
        self._opened = time.monotonic()

    def discard(self) -> None:
        """Throw the open file away, if any."""
        if self._stream is not None:
            self._raw.close()
            self._temporary.unlink(missing_ok=True)
            self._stream = None


def landed_files(
    root: Path, source: str, object_name: str, run_id: str | None = None
) -> Iterator[LandedFile]:
    """Complete files of an object, oldest run first; of one run if given."""
    pattern = f"{source}/{object_name}/{run_id or '*'}/*.json"
    for record in sorted(root.glob(pattern)):
        yield LandedFile.read(record)


def unfinished(root: Path, source: str, object_name: str, load: LoadContext) -> list[LandedFile]:
    """Files with a position that earlier runs for the same day landed of a list they did not bring to its end.

    Only runs with the same floor count: then a record gets the same ``recorded_at`` whichever run landed it.
    """
    folder = root / source / object_name
    if not folder.is_dir():
        return []
    runs = sorted(p for p in folder.iterdir() if p.is_dir() and p.name < load.run_id)
    files = [
        LandedFile.read(record)
        for run in runs
        if not (run / COMPLETE_NAME).exists()
        for record in sorted(run.glob("*.json"))
    ]
    return [
        file
        for file in files
        if file.position is not None and (file.as_of, file.floor) == (load.as_of, load.floor)
    ]


def line_chunks(path: Path) -> Iterator[bytes]:
    """A landing file's lines, decompressed, in pieces that end at line ends."""
    rest = b""
    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as reader:
        while chunk := reader.read(_CHUNK):
            text = rest + chunk
            end = text.rfind(b"\n") + 1
            if end:
                yield text[:end]
            rest = text[end:]
    if rest:
        yield rest


def write_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a small file so that it is there whole or not at all, even after a power cut."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)


def make_private_folder(folder: Path) -> None:
    """Create a folder and its missing parents for this user alone; the ones that exist are left as they are."""
    for part in (*reversed(folder.parents), folder):
        # Path.mkdir(parents=True) gives its mode to the last folder only.
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)


def fsync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk_error(folder: Path, error: OSError) -> WarehouseError:
    return WarehouseError(
        f"A landing file in {folder} could not be written: {error.strerror}. "
        "What was already landed is kept; make room and run again."
    )
