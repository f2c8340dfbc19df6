"""The drop folder: which files are there, what their names say, and a private copy of each in one known form.

A file is never read where it lies. It is copied under a name made of its hash, so that a name with glob characters
cannot make DuckDB read another file, and rewritten on the way into UTF-8 lines that end in a line feed. Lines that
cannot be written so are replaced by a marker line with their bytes, so that line numbers stay true.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import json
import os
import re
import stat
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import BinaryIO, Literal

import zstandard

from hub_pipeline.errors import ConfigurationError, WarehouseError
from hub_pipeline.sources.billing.contract import contract
from hub_pipeline.sources.billing.mapping import FileMapping

Kind = Literal["full", "delta"]
Format = Literal["csv", "jsonl", "parquet"]

#: A line of the copy that starts so holds the bytes of an unreadable line; no readable line can.
UNREADABLE = "\0"

#: A compressed file that grows beyond this is a bomb or a mistake.
MAX_BYTES = 16 * 1024**3

#: Longer lines are a mistake in the extract (a quote or a line end lost).
MAX_LINE = 16_000_000

#: Name of the file beside an extract that says what it holds.
MANIFEST = ".manifest.json"

_CHUNK = 8 * 1024 * 1024
#: So little compressed input at a time that what comes out stays small even in a bomb.
_COMPRESSED_CHUNK = 16 * 1024
_NAME = re.compile(
    r"(?P<table>[a-z_]+)__(?P<date>\d{4}-\d{2}-\d{2})(?:__(?P<kind>full|delta))?(?:__(?P<seq>\d{1,9}))?"
    r"\.(?P<format>csv|jsonl|parquet)(?:\.(?:gz|zst))?"
)


@dataclass(frozen=True)
class Extract:
    """One file of the folder that will be read.

    Attributes:
        source: folder it lies in = the billing system it comes from.
        as_of: the extract's own date.
        mapping: how it is read, or None for a file that follows the contract.
        table: the table it fills, or None when the mapping says.
        sequence: order among files of one day.
        manifest: file beside it that says what it holds, or None.
    """

    path: Path
    source: str
    as_of: date
    kind: Kind
    format: Format
    mapping: FileMapping | None
    table: str | None
    sequence: int
    manifest: Path | None = None

    @property
    def tables(self) -> list[str]:
        """Contract tables that it fills."""
        return [m.table for m in self.mapping.table] if self.mapping else [str(self.table)]

    @property
    def name(self) -> str:
        """Source and file name, as people find it."""
        return f"{self.source}/{self.path.name}"

    @property
    def order(self) -> tuple[date, bool, int, str, str]:
        """Files are loaded by date, full ones before deltas, then by their own number."""
        return self.as_of, self.kind == "delta", self.sequence, self.source, self.path.name


@dataclass(frozen=True)
class Survey:
    """What the folder holds: extracts in the order of loading, and why each other file is not read."""

    extracts: list[Extract]
    waiting: list[str]
    not_mapped: list[str]
    refused: list[str]


class RejectedFileError(Exception):
    """The file as a whole cannot be used; the message says why."""


@dataclass(frozen=True)
class Copy:
    """The private copy of a file: decompressed; text is UTF-8 with line feeds, without a byte order mark."""

    path: Path
    has_quotes: bool


def survey(folder: Path, mappings: Sequence[FileMapping], settle_seconds: int) -> Survey:
    """Look through ``<folder>/<source>/``.

    Raises:
        ConfigurationError: the folder cannot be read.
    """
    found = Survey([], [], [], [])
    now = time.time()
    try:
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                found.refused.append(f"{entry.name}: a symbolic link")
            elif entry.is_dir():
                _survey_source(Path(entry.path), mappings, now - settle_seconds, found)
            else:
                found.not_mapped.append(
                    f"{entry.name} (move it into a folder named after the billing system)"
                )
    except OSError as error:
        raise ConfigurationError(
            f"The billing folder {error.filename or folder} cannot be read: {error.strerror}. Nothing was changed; "
            "correct the setting billing.folder or the rights of the folder."
        ) from error
    found.extracts.sort(key=lambda extract: extract.order)
    return found


def _survey_source(
    folder: Path, mappings: Sequence[FileMapping], settled_before: float, found: Survey
) -> None:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        name = f"{folder.name}/{entry.name}"
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            found.refused.append(f"{name}: a symbolic link")
            continue
        if not entry.is_file():
            found.refused.append(f"{name}: not a file")
            continue
        if entry.name.endswith((".part", ".tmp")) or entry.stat().st_mtime > settled_before:
            found.waiting.append(name)
            continue
        if entry.name.endswith(MANIFEST):
            continue
        extract = recognise(Path(entry.path), folder.name, mappings)
        if extract is None:
            found.not_mapped.append(name)
            continue
        manifest = folder / (entry.name + MANIFEST)
        found.extracts.append(replace(extract, manifest=manifest if manifest.exists() else None))


def recognise(path: Path, source: str, mappings: Sequence[FileMapping]) -> Extract | None:
    """What the name of a file says; None when it is of no known kind. The first mapping that fits is used."""
    for mapping in mappings:
        as_of = mapping.matches(source, path.name)
        if as_of is not None:
            return Extract(path, source, as_of, mapping.kind, format_of(path), mapping, None, 0)
    named = _NAME.fullmatch(path.name)
    if named is None or named["table"] not in contract():
        return None
    try:
        as_of = date.fromisoformat(named["date"])
    except ValueError:
        return None
    kind: Kind = "delta" if named["kind"] == "delta" else "full"
    return Extract(path, source, as_of, kind, format_of(path), None, named["table"], int(named["seq"] or 0))


def format_of(path: Path) -> Format:
    """Format by the end of the name; what is not known is CSV."""
    suffixes = path.name.removesuffix(".gz").removesuffix(".zst").rsplit(".", 1)
    return (
        "jsonl" if suffixes[-1] in ("jsonl", "ndjson") else "parquet" if suffixes[-1] == "parquet" else "csv"
    )


def sha256(path: Path) -> tuple[str, int]:
    """Hash and size of the file's bytes, without following a link.

    Raises:
        RejectedFileError: it is not a regular file any more, or cannot be read.
    """
    digest = hashlib.sha256()
    size = 0
    with _open(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def check_manifest(extract: Extract, sha: str, rows: int) -> None:
    """Compare a file with the manifest beside it; keys that the manifest leaves out are not compared.

    Raises:
        RejectedFileError: the manifest cannot be read, or the file is not what it says.
    """
    if extract.manifest is None:
        return
    try:
        with _open(extract.manifest) as file:
            said = json.loads(file.read(_CHUNK))
    except ValueError as error:
        raise RejectedFileError(f"its manifest {extract.manifest.name} is not JSON") from error
    found = {
        "table": extract.table,
        "kind": extract.kind,
        "as_of": extract.as_of.isoformat(),
        "rows": rows,
        "sha256": sha,
    }
    if not isinstance(said, dict):
        raise RejectedFileError(f"its manifest {extract.manifest.name} is not a JSON object")
    for key, value in found.items():
        if key in said and said[key] != value:
            raise RejectedFileError(f"its manifest says {key} {said[key]!r}, and it is {value!r}")


def copy(extract: Extract, sha: str, folder: Path) -> Copy:
    """Write the private copy ``<folder>/<sha>.<format>``.

    Raises:
        RejectedFileError: the file changed meanwhile, is cut off or is not what its name says.
        WarehouseError: the copy cannot be written.
    """
    target = folder / f"{sha}.{extract.format}"
    digest = hashlib.sha256()
    try:
        with (
            _open(extract.path) as file,
            open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out,
        ):
            content = _decompressed(_hashed(file, digest), extract.path.name)
            has_quotes = False
            if extract.format == "parquet":
                for chunk in content:
                    out.write(chunk)
            else:
                encoding = extract.mapping.encoding if extract.mapping else None
                for lines in _lines(content, encoding):
                    has_quotes = has_quotes or b'"' in lines
                    out.write(lines)
    except OSError as error:
        raise WarehouseError(
            f"The working copy {target} could not be written: {error.strerror}. What was loaded before is kept; "
            "make room and run again."
        ) from error
    if digest.hexdigest() != sha:
        raise RejectedFileError("it changed while it was being read")
    return Copy(target, has_quotes)


def _open(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise RejectedFileError(f"it cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RejectedFileError("it is not a regular file")
    return open(descriptor, "rb")


def _hashed(file: BinaryIO, digest: hashlib._Hash) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        yield chunk


def _decompressed(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    if not name.endswith((".gz", ".zst")):
        yield from chunks
        return
    is_gzip = name.endswith(".gz")
    damaged = RejectedFileError(f"it is cut off, or not a {'gzip' if is_gzip else 'zstd'} file")
    total = 0
    decoder = _decoder(is_gzip)
    started = finished = False
    try:
        for chunk in _sliced(chunks):
            while chunk:
                if finished:
                    decoder, finished = _decoder(is_gzip), False
                plain = decoder.decompress(chunk)
                started = True
                finished = decoder.eof
                total += len(plain)
                if total > MAX_BYTES:
                    raise RejectedFileError(
                        f"it holds more than {MAX_BYTES // 1024**3} GiB when decompressed"
                    )
                yield plain
                chunk = decoder.unused_data if finished else b""
    except (zlib.error, zstandard.ZstdError) as error:
        raise damaged from error
    if not started or not finished:
        raise damaged


def _sliced(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _COMPRESSED_CHUNK):
            yield chunk[start : start + _COMPRESSED_CHUNK]


def _decoder(is_gzip: bool) -> zlib._Decompress | zstandard.ZstdDecompressionObj:
    return zlib.decompressobj(wbits=31) if is_gzip else zstandard.ZstdDecompressor().decompressobj()


def _lines(chunks: Iterator[bytes], encoding: str | None) -> Iterator[bytes]:
    """Whole UTF-8 lines ending in a line feed; `encoding` is that of lines that are not UTF-8."""
    rest = b""
    first = True
    decoder: codecs.IncrementalDecoder | None = None
    for chunk in chunks:
        if first:
            if chunk[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                decoder = codecs.getincrementaldecoder("utf-16")()
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
            first = not chunk
        if decoder is not None:
            try:
                chunk = decoder.decode(chunk).encode()
            except UnicodeError as error:
                raise RejectedFileError("it begins as UTF-16 and is not") from error
        rest += chunk
        if len(rest) > MAX_LINE + _CHUNK:
            raise RejectedFileError(f"it has a line of more than {MAX_LINE:,} bytes")
        end = rest.rfind(b"\n") + 1
        if end:
            yield _readable(rest[:end], encoding)
            rest = rest[end:]
    if decoder is not None and decoder.getstate()[0]:
        raise RejectedFileError("it begins as UTF-16 and ends in the middle of a character")
    if rest:
        yield _readable(rest + b"\n", encoding)


def _readable(lines: bytes, encoding: str | None) -> bytes:
    lines = lines.replace(b"\r\n", b"\n")
    if b"\r" not in lines:
        try:
            lines.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return lines
    return _by_line(lines, encoding)


def _by_line(lines: bytes, encoding: str | None) -> bytes:
    readable = []
    for line in lines.split(b"\n")[:-1]:
        if b"\r" in line:
            readable.append(_marker("carriage return inside the line", line))
            continue
        try:
            line.decode("utf-8")
            readable.append(line)
        except UnicodeDecodeError:
            readable.append(decoded(line, encoding) or _marker("not UTF-8", line))
    return b"\n".join(readable) + b"\n"


def decoded(line: bytes, encoding: str | None) -> bytes | None:
    """The line as UTF-8; None when no encoding is known, or the line is not written in it."""
    if encoding is None:
        return None
    try:
        return line.decode(encoding).encode()
    except UnicodeDecodeError:
        return None


def _marker(reason: str, line: bytes) -> bytes:
    return f"{UNREADABLE}{reason}{UNREADABLE}".encode() + base64.b64encode(line)
