"""From landing files to append-only versions in ``raw_<source>``; knows streams, not sources.

What ends up in a raw table is a function of what earlier runs left there and of the set of files of this run, never
of the order of these files. The rules:

* A record's change time is its own (``_changed_at``, or a later time at which it was archived or deleted). Without
  one, or with one more than a day after the file was written (a clock gone wrong must not outrank every later
  version), it is close(as_of) - 1 microsecond (settled rule 1).
* A version is appended if it is newer than the latest version that earlier runs left for its key, or of the same
  time with another payload or state; of records without a change time of their own, only if payload or state
  differ. An older one is a stale copy of what is already known and is dropped, unless its state (archived, deleted,
  merged) differs: then the run has observed the change and dates it.
* ``_recorded_at`` is greatest(change time, floor); for the run that first sees a key, greatest(creation, floor).
* The latest version of a key is the one with the greatest ``_changed_at``, then ``_recorded_at``, then
  ``_run_id``; of two that a source sends with one change time in one run, the live one, then the greater hash.

Beside its files a run keeps ``stream.definition`` (how they are read) and ``stream.complete`` (that the list was
complete, written before the tombstones commit): landing alone is enough to make raw again (`reload_from_landing`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import zstandard

from hub_pipeline.errors import DataRefusedError, WarehouseError
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.crashpoints import crash_point
from hub_pipeline.warehouse.landing import (
    COMPLETE_NAME,
    LandedFile,
    LoadContext,
    landed_files,
    make_private_folder,
    write_durably,
)
from hub_pipeline.warehouse.lock import Fence
from hub_pipeline.warehouse.raw import RawStream, StreamResult
from hub_pipeline.warehouse.sql import glob_escape, ident, idents, literal, qualified, struct_literal

#: Columns of every raw table behind the payload.
BOOKKEEPING: dict[str, str] = {
    "_changed_at": "TIMESTAMP",
    "_recorded_at": "TIMESTAMP",
    "_archived_at": "TIMESTAMP",
    "_deleted_at": "TIMESTAMP",
    "_merged_into": "VARCHAR",
    "_hash": "VARCHAR",
    "_run_id": "VARCHAR",
}
#: What a stream's SELECT may yield beside its columns, with the value it has otherwise.
_OPTIONAL: dict[str, str] = {
    "_changed_at": "TIMESTAMP",
    "_created_at": "TIMESTAMP",
    "_archived_at": "TIMESTAMP",
    "_deleted_at": "TIMESTAMP",
    "_merged_into": "VARCHAR",
}
LATEST_FIRST = (
    "_changed_at DESC, _recorded_at DESC, _run_id DESC, "
    "(_deleted_at IS NULL AND _archived_at IS NULL AND _merged_into IS NULL) DESC, _hash DESC"
)
LIVE = "(_deleted_at IS NULL AND _archived_at IS NULL AND _merged_into IS NULL)"
_SCALARS = ("VARCHAR", "BIGINT", "INTEGER", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP", "DECIMAL", "JSON")

#: What loading may use: for the records of one landing file, and for each thread that reads JSON (twice 16 MB, the
#: longest line).
MEMORY_BASE, MEMORY_FOR_THREAD = 128 * 1024**2, 48 * 1024**2

#: ASCII's record and unit separators.
_RECORD, _UNIT = "\x1e", "\x1f"

#: When a version that is the first of its key was recorded (settled rule 2).
_FIRST_RECORDED = "greatest(least(_created_at, _changed_at), $floor) AS _recorded_at"
#: A file is appended without a comparison if the table holds at most so many times its records: the check afterwards
#: looks at all keys.
_FIRST_TIMES = 32

DEFINITION_NAME = "stream.definition"


def raw_schema(source: str) -> str:
    """Schema of a source's raw tables."""
    return f"raw_{source}"


class RawLoader:
    """Loads the landing files of one run; used from one thread.

    Args:
        connection: the build file, open for writing.
        fence: the run's right to commit.
        load: the run.
        landing_root: `Warehouse.landing_root`.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, fence: Fence, load: LoadContext, landing_root: Path
    ) -> None:
        self._connection = connection
        self._fence = fence
        self._load = load
        self._landing_root = landing_root
        self._ensured: set[RawStreamKey] = set()
        self._seen: dict[str, set[Path]] = {}
        self._caught_up: set[Path] = set()
        self._memory: tuple[int, int] | None = None
        self._yields: dict[str, frozenset[str]] = {}
        self._first: dict[str, str] = {}  # table of seen keys -> run whose keys are yet to be noted there

    def ensure_tables(self, stream: RawStream) -> None:
        """Create the stream's tables and ``_current`` views, or add the columns that are new.

        A column whose declared type has changed becomes VARCHAR, so that old and new values both survive.

        Raises:
            DataRefusedError: two columns differ only in case, which a database cannot tell apart.
        """
        for one in (stream, *stream.also):
            key = (one.source, one.table, tuple(one.columns.items()), one.comment)
            if key not in self._ensured:
                self._ensure_table(one)
                self._ensured.add(key)

    def load_file(self, stream: RawStream, file: LandedFile) -> int:
        """Append what is new in a landing file, with its manifest row, in one transaction.

        A file that is already in the manifest is left alone, so loading twice changes nothing.

        Returns:
            The number of versions (or events) appended, those of ``also`` included.

        Raises:
            DataRefusedError: a line is not JSON (named with its number), a record has no key, or the file does
                not hold the records it was written with. Nothing of the file is kept.
            LockHeldError: a later run has taken over; nothing of the file is kept.
        """
        with self._bounded():
            return self._load_file(stream, file)

    def _load_file(self, stream: RawStream, file: LandedFile) -> int:
        self.ensure_tables(stream)
        if file.run_id == self._load.run_id:
            self.load_missing(stream)
        loaded = self._connection.execute(
            "SELECT sha256 FROM _ledger.files "
            "WHERE source = $source AND object = $object AND run_id = $run_id AND file = $file",
            _file_key(file),
        ).fetchone()
        if loaded is not None:
            if loaded[0] != file.sha256:
                raise WarehouseError(
                    f"The landing file {file.path} is not the one that was loaded under its name. "
                    "Nothing was changed; put the original back."
                )
            return 0
        if file.run_id != self._load.run_id:
            _verify_content(file)
        self._write_definition(stream, file)
        try:
            inserted = self._commit_file(stream, file, first=True)
        except _KnownKeysError:
            inserted = self._commit_file(stream, file, first=False)
        crash_point("raw.commit.after")
        self._seen.setdefault(stream.object, set()).add(file.path)
        return inserted

    def _commit_file(self, stream: RawStream, file: LandedFile, *, first: bool) -> int:
        """The transaction of `load_file`.

        Args:
            stream: the stream.
            file: the file.
            first: append first versions without a copy and a comparison, where the table allows it.

        Raises:
            _KnownKeysError: it did not; nothing was kept.
        """
        inserted = 0
        with ledger.transaction(self._connection, self._fence):
            if not _is_line_by_line(stream):
                self._count_lines(stream, file)
            for one in (stream, *stream.also):
                inserted += self._append(one, _lines_of(stream, one, file), file, first=first)
            self._connection.execute(
                "INSERT INTO _ledger.files VALUES ($source, $object, $run_id, $file, $sha256, $records, $inserted, "
                "$as_of, $close, $floor, $loaded_by, $now)",
                {
                    **_file_key(file),
                    "sha256": file.sha256,
                    "records": file.records,
                    "inserted": inserted,
                    "as_of": file.as_of,
                    "close": file.close,
                    "floor": file.floor,
                    "loaded_by": self._load.run_id,
                    "now": _now(),
                },
            )
            crash_point("raw.commit")
        return inserted

    def load_missing(self, stream: RawStream) -> int:
        """Load what earlier runs landed for this object and did not commit, in the order of the runs.

        Happens by itself before the first file of the run: a file that is complete in landing is always loaded
        before the next publish, so raw rebuilt from landing is the same raw.

        Returns:
            The number of versions appended.
        """
        folder = self._landing_root / stream.source / stream.object
        if folder in self._caught_up:
            return 0
        self._caught_up.add(folder)
        ended = {
            row[0]
            for row in self._connection.execute(
                "SELECT run_id FROM _ledger.streams "
                "WHERE source = $source AND object = $object AND status = 'complete'",
                {"source": stream.source, "object": stream.object},
            ).fetchall()
        }
        runs = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
        return sum(
            self._replay(stream, run_id) for run_id in sorted(runs - ended) if run_id < self._load.run_id
        )

    def finish_stream(
        self,
        stream: RawStream,
        files: Sequence[LandedFile],
        result: StreamResult,
        max_shrink: Decimal | float,
        accept_shrink: bool = False,
    ) -> StreamResult:
        """End a stream: shrink guard, tombstones for records that are gone, and the stream's row with its state, in
        one transaction.

        Only a ``complete`` result of a snapshot or census makes tombstones; losers of merges get theirs first, so
        that they are not taken for deleted. A list is refused when it holds fewer live records than
        (1 - max_shrink) of those that were live before this run; exactly that share passes.

        Args:
            stream: the stream; ``also`` streams are ended with it.
            files: all its files: of this run, and those of an earlier, killed one that this run went on from.
            result: what the source says about the stream.
            max_shrink: share of the live records that may be gone, 0 to 1.
            accept_shrink: believe the list however short it is.

        Returns:
            The result with versions appended and deleted filled in.

        Raises:
            DataRefusedError: the list has shrunk too much; nothing was marked as deleted.
        """
        with self._bounded():
            return self._finish_stream(stream, files, result, max_shrink, accept_shrink)

    def _finish_stream(
        self,
        stream: RawStream,
        files: Sequence[LandedFile],
        result: StreamResult,
        max_shrink: Decimal | float,
        accept_shrink: bool,
    ) -> StreamResult:
        self.ensure_tables(stream)
        self.load_missing(stream)
        for one in (stream, *stream.also):
            if result.status == "complete" and _names_all(one):
                self._complete_seen(stream, files)
                if one.guarded and not accept_shrink:
                    self._guard(one, Decimal(str(max_shrink)))
        if result.status == "complete":
            self._write_complete(stream, files, result)
        return self._finish(stream, self._load, files, result)

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Memory that does not grow with the number of records: DuckDB keeps what it has read up to its limit."""
        if self._memory is None:
            self._memory = self._memory_limits()
        before, bound = self._memory
        if bound >= before:
            yield
            return
        self._connection.execute(f"SET memory_limit = '{bound}B'")
        try:
            yield
        finally:
            with suppress(
                duckdb.FatalException
            ):  # a connection that a full disk made invalid has no limit any more
                self._connection.execute(f"SET memory_limit = '{before}B'")

    def _memory_limits(self) -> tuple[int, int]:
        """The limit in force and the one for loading, in bytes."""
        row = self._connection.execute(
            "SELECT current_setting('threads'), current_setting('memory_limit')"
        ).fetchone()
        assert row is not None, "a SELECT without FROM has its one row"
        return _bytes_of(str(row[1])), MEMORY_BASE + int(row[0]) * MEMORY_FOR_THREAD

    # Tables

    def _ensure_table(self, stream: RawStream) -> None:
        folded: dict[str, str] = {}
        for column in (*stream.columns, *BOOKKEEPING):
            other = folded.setdefault(column.lower(), column)
            if other is not column:
                raise DataRefusedError(
                    f"{stream.source} {stream.object} has two columns that differ only in case, {other!r} and "
                    f"{column!r}. Nothing of it was loaded; leave one out in the settings."
                )
        schema, name = raw_schema(stream.source), qualified(raw_schema(stream.source), stream.table)
        try:
            existing = {column.lower(): kind for column, kind in self._columns_of(name).items()}
        except duckdb.CatalogException:  # there is no such table
            existing = {}
        statements: list[str] = []
        if existing and stream.kind == "census":
            return
        if not existing:
            columns = ", ".join(f"{ident(c)} {t}" for c, t in {**stream.columns, **BOOKKEEPING}.items())
            statements += [f"CREATE SCHEMA IF NOT EXISTS {ident(schema)}", f"CREATE TABLE {name} ({columns})"]
        else:
            types = self._canonical_types(stream.columns)
            for column, declared in types.items():
                current = existing.get(column.lower())
                if current is None:
                    statements.append(f"ALTER TABLE {name} ADD COLUMN {ident(column)} {declared}")
                elif current not in (declared, "VARCHAR"):
                    statements.append(f"ALTER TABLE {name} ALTER COLUMN {ident(column)} TYPE VARCHAR")
        if not statements:
            return
        if stream.kind != "events":
            statements.append(
                f"CREATE OR REPLACE VIEW {qualified(schema, stream.table + '_current')} AS SELECT * FROM {name} "
                f"QUALIFY row_number() OVER (PARTITION BY {idents(stream.key)} ORDER BY {LATEST_FIRST}) = 1"
            )
        statements.append(f"COMMENT ON TABLE {name} IS {literal(stream.comment)}")
        view = qualified(schema, stream.table + "_current")
        if stream.kind != "events" and existing:
            statements.insert(0, f"DROP VIEW IF EXISTS {view}")
        with ledger.transaction(self._connection, self._fence):
            for statement in statements:
                self._connection.execute(statement)

    def _canonical_types(self, columns: dict[str, str]) -> dict[str, str]:
        """The types as DuckDB spells them (``INT`` is ``INTEGER``)."""
        if not columns:
            return {}
        declared = sorted(set(columns.values()))
        select = ", ".join(f"NULL::{one}" for one in declared)
        rows = self._connection.execute(f"DESCRIBE SELECT {select}").fetchall()
        spelled = dict(zip(declared, (row[1] for row in rows), strict=True))
        return {name: spelled[one] for name, one in columns.items()}

    # One file

    def _count_lines(self, stream: RawStream, file: LandedFile) -> None:
        try:
            row = self._connection.execute(
                f"SELECT count(*) FROM ({_lines_of(stream, stream, file)})"
            ).fetchone()
        except duckdb.InvalidInputException as error:
            raise _bad_line(file, error) from error
        _check_count(file, int(row[0]) if row else 0)

    def _dated(self, stream: RawStream, lines: str, file: LandedFile) -> tuple[str, dict[str, Any]]:
        """A SELECT of the lines with change time and hash, and its parameters.

        Columns: those of the stream, `_OPTIONAL`, ``_own`` (the change time that the record itself has) and ``_hash``.
        """
        inner = f"WITH landed AS NOT MATERIALIZED ({lines}) SELECT {stream.select} FROM {stream.from_clause}"
        kind = f"{stream.object} {stream.select} {stream.from_clause}"
        if kind not in self._yields:
            described = self._connection.execute(f"DESCRIBE {inner}").fetchall()
            self._yields[kind] = frozenset(row[0].lower() for row in described)
        optional = ", ".join(
            f"{ident(name)}::{declared} AS {ident(name)}"
            if name in self._yields[kind]
            else f"NULL::{declared} AS {ident(name)}"
            for name, declared in _OPTIONAL.items()
        )
        payload = ", ".join(f"{ident(c)}::{t} AS {ident(c)}" for c, t in stream.columns.items())
        sql = f"""
            WITH selected AS ({inner}),
            typed AS (SELECT {payload}, {optional} FROM selected),
            dated AS (
                SELECT *,
                    greatest(
                        CASE WHEN _changed_at <= $horizon THEN _changed_at END,
                        CASE WHEN _archived_at <= $horizon THEN _archived_at END,
                        CASE WHEN _deleted_at <= $horizon THEN _deleted_at END) AS _own,
                    {_hash_of(stream.columns)} AS _hash
                FROM typed)
            SELECT * REPLACE (coalesce(_own, $observed) AS _changed_at) FROM dated
        """
        horizon = max(file.written_at, file.close) + timedelta(days=1)
        return sql, {"horizon": horizon, "observed": _observed(file.close)}

    def _incoming(self, stream: RawStream, lines: str, file: LandedFile) -> str:
        """Make ``temp.main.incoming``: one row for each key and change time of the file; returns its columns."""
        dated, parameters = self._dated(stream, lines, file)
        keys = idents(stream.key)
        try:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE incoming AS {dated}", parameters)
        except duckdb.InvalidInputException as error:
            raise _bad_line(file, error) from error
        missing = " OR ".join(f"{ident(k)} IS NULL" for k in stream.key)
        row = self._connection.execute(
            f"SELECT count(*), count(*) FILTER (WHERE {missing}) FROM temp.main.incoming"
        ).fetchone()
        assert row is not None, "an aggregate always has its one row"
        if _is_line_by_line(stream):
            _check_count(file, int(row[0]))
        if row[1]:
            raise DataRefusedError(
                f"{row[1]} record(s) of {stream.source} {stream.table} in {file.path} have no "
                f"{' and '.join(stream.key)}. Nothing of the file was loaded; see what the source sends there."
            )
        # Copies within a file are rare, and looking for them is much cheaper than a window over every column.
        copies = self._connection.execute(
            f"SELECT 1 FROM temp.main.incoming GROUP BY {keys}, _changed_at HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        if copies is not None:
            self._connection.execute(
                "CREATE OR REPLACE TEMP TABLE incoming AS SELECT * FROM temp.main.incoming QUALIFY row_number() OVER "
                f"(PARTITION BY {keys}, _changed_at ORDER BY {LIVE} DESC, _hash DESC) = 1"
            )
        return idents(stream.columns)

    def _append(self, stream: RawStream, lines: str, file: LandedFile, *, first: bool) -> int:
        name = qualified(raw_schema(stream.source), stream.table)
        if first and self._may_be_first(stream, file, name):
            return self._append_first(stream, lines, file, name)
        columns = self._incoming(stream, lines, file)
        if _names_all(stream):
            self._note_seen(stream, "temp.main.incoming")
        if stream.kind == "events":
            inserted = self._append_events(stream, file, columns, name)
        elif stream.kind == "versions":
            inserted = self._append_versions(stream, file, columns, name)
        else:
            inserted = 0
        self._connection.execute("DROP TABLE temp.main.incoming")
        return inserted

    def _may_be_first(self, stream: RawStream, file: LandedFile, name: str) -> bool:
        """Whether all that a table holds may be other records of the list that this file is of."""
        if stream.kind != "versions" or not _is_line_by_line(stream):
            return False
        other = self._connection.execute(
            f"SELECT 1 FROM {name} WHERE _run_id <> $run_id LIMIT 1", {"run_id": file.run_id}
        ).fetchone()
        row = self._connection.execute(f"SELECT count(*) FROM {name}").fetchone()
        return other is None and row is not None and row[0] <= _FIRST_TIMES * file.records

    def _append_first(self, stream: RawStream, lines: str, file: LandedFile, name: str) -> int:
        """Append a file whose records the warehouse does not know, straight from its lines.

        Nearly every file of a first full list is one. Whether it was is seen afterwards, by the keys alone.

        Raises:
            _KnownKeysError: a record is there already, is in the file twice, or cannot be used.
        """
        dated, parameters = self._dated(stream, lines, file)
        try:
            row = self._connection.execute(
                f"INSERT INTO {name} BY NAME SELECT {idents(stream.columns)}, _changed_at, {_FIRST_RECORDED}, "
                f"_archived_at, _deleted_at, _merged_into, _hash, $run_id AS _run_id FROM ({dated})",
                {**parameters, "floor": file.floor, "run_id": file.run_id},
            ).fetchone()
        except duckdb.InvalidInputException as error:
            raise _bad_line(file, error) from error
        missing = " OR ".join(f"{ident(k)} IS NULL" for k in stream.key)
        unfit = self._connection.execute(
            f"SELECT 1 FROM {name} GROUP BY {idents(stream.key)} HAVING count(*) > 1 OR {missing} LIMIT 1"
        ).fetchone()
        if row != (file.records,) or unfit is not None:
            raise _KnownKeysError
        if _names_all(stream):
            self._first[self._seen_table(stream)] = file.run_id
        return file.records

    def _append_events(self, stream: RawStream, file: LandedFile, columns: str, name: str) -> int:
        keys = idents(stream.key)
        row = self._connection.execute(
            f"""
            INSERT INTO {name} BY NAME
            SELECT {columns}, _changed_at, greatest(_changed_at, $floor) AS _recorded_at,
                _archived_at, _deleted_at, _merged_into, _hash, $run_id AS _run_id
            FROM temp.main.incoming AS i
            WHERE NOT EXISTS (SELECT 1 FROM {name} AS t WHERE {_same("t", "i", stream.key)})
            QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {LIVE} DESC, _changed_at DESC, _hash DESC) = 1
            """,
            {"floor": file.floor, "run_id": file.run_id},
        ).fetchone()
        return int(row[0]) if row else 0

    def _append_versions(self, stream: RawStream, file: LandedFile, columns: str, name: str) -> int:
        live = "(i._deleted_at IS NULL AND i._archived_at IS NULL AND i._merged_into IS NULL)"
        known = self._connection.execute(
            f"SELECT 1 FROM {name} AS t WHERE EXISTS "
            f"(SELECT 1 FROM temp.main.incoming AS i WHERE {_same('t', 'i', stream.key)}) LIMIT 1"
        ).fetchone()
        if known is None:
            # Nothing to compare with: the first versions of all, without carrying every column through joins.
            row = self._connection.execute(
                f"INSERT INTO {name} BY NAME SELECT {columns}, _changed_at, {_FIRST_RECORDED}, "
                "_archived_at, _deleted_at, _merged_into, _hash, $run_id AS _run_id FROM temp.main.incoming",
                {"floor": file.floor, "run_id": file.run_id},
            ).fetchone()
            return int(row[0]) if row else 0
        keys = idents(stream.key)
        row = self._connection.execute(
            f"""
            INSERT INTO {name} BY NAME
            WITH earlier AS (
                SELECT {keys}, _changed_at, _hash, {LIVE} AS _live
                FROM {name} AS t
                WHERE _run_id <> $run_id
                    AND EXISTS (SELECT 1 FROM temp.main.incoming AS i WHERE {_same("t", "i", stream.key)})
                QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {LATEST_FIRST}) = 1),
            compared AS (
                SELECT i.*, e._changed_at AS _before,
                    e._changed_at IS NULL AS _is_first,
                    e._live IS DISTINCT FROM {live} AND i._changed_at <= e._changed_at AS _observed_only
                FROM temp.main.incoming AS i LEFT JOIN earlier AS e ON {_same("e", "i", stream.key)}
                WHERE e._changed_at IS NULL
                    OR (i._own IS NOT NULL AND i._changed_at > e._changed_at)
                    OR (i._changed_at >= e._changed_at AND i._hash <> e._hash)
                    OR (i._hash <> e._hash AND e._live IS DISTINCT FROM {live})),
            dated AS (
                SELECT * REPLACE (
                    CASE WHEN _observed_only THEN greatest($observed, _before) ELSE _changed_at END AS _changed_at)
                FROM compared)
            SELECT {columns}, _changed_at,
                greatest(
                    CASE WHEN _is_first THEN least(_created_at, _changed_at) ELSE _changed_at END, $floor
                ) AS _recorded_at,
                _archived_at, _deleted_at, _merged_into, _hash, $run_id AS _run_id
            FROM dated AS d
            WHERE NOT EXISTS (
                SELECT 1 FROM {name} AS t
                WHERE {_same("t", "d", stream.key)} AND t._run_id = $run_id
                    AND t._changed_at = d._changed_at AND t._hash = d._hash)
            """,
            {"floor": file.floor, "run_id": file.run_id, "observed": _observed(file.close)},
        ).fetchone()
        return int(row[0]) if row else 0

    # The end of a stream

    def _seen_table(self, stream: RawStream) -> str:
        """Keys that this run's list named; named after the run, because a connection may see several."""
        return f"seen_{stream.source}_{stream.object}_{stream.table}_{self._load.run_id}"

    def _note_seen(self, stream: RawStream, rows: str) -> None:
        table, keys = self._seen_table(stream), idents(stream.key)
        # Never as an empty SELECT: DuckDB 2.0.0 hides what the same transaction then inserts into such a table, once it
        # is more than a row group; so it does after an INSERT of no rows.
        columns = ", ".join(f"{ident(key)} {stream.columns[key]}" for key in stream.key)
        self._connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {ident(table)} ({columns}, live BOOLEAN)")
        self._connection.execute(f"INSERT INTO temp.main.{ident(table)} SELECT {keys}, {LIVE} FROM {rows}")

    def _complete_seen(self, stream: RawStream, files: Iterable[LandedFile]) -> None:
        """Note the keys of files that were loaded before this loader existed, and make the tables for no file."""
        noted = self._seen.setdefault(stream.object, set())
        for file in files:
            if file.path in noted:
                continue
            for one in (stream, *stream.also):
                if _names_all(one):
                    self._incoming(one, _lines_of(stream, one, file), file)
                    self._note_seen(one, "temp.main.incoming")
                    self._connection.execute("DROP TABLE temp.main.incoming")
            noted.add(file.path)
        for one in (stream, *stream.also):
            if _names_all(one):
                run_id = self._first.pop(self._seen_table(one), None)
                which = "false" if run_id is None else f"_run_id = {literal(run_id)}"
                self._note_seen(one, f"{qualified(raw_schema(one.source), one.table)} WHERE {which}")

    def _guard(self, stream: RawStream, max_shrink: Decimal) -> None:
        name = qualified(raw_schema(stream.source), stream.table)
        keys, seen = idents(stream.key), f"temp.main.{ident(self._seen_table(stream))}"
        unnamed = self._connection.execute(
            f"SELECT 1 FROM {name} AS t WHERE _run_id <> $run_id "
            f"AND NOT EXISTS (SELECT 1 FROM {seen} AS s WHERE {_same('s', 't', stream.key)}) LIMIT 1",
            {"run_id": self._load.run_id},
        ).fetchone()
        if unnamed is None:  # a list that names all that was known has not shrunk
            return
        # An archived record that was live before is named, not missing; one archived long ago fills no gap.
        row = self._connection.execute(
            f"""
            WITH latest AS (
                SELECT {keys}, {LIVE} AS live FROM {name}
                WHERE _run_id <> $run_id AND ({stream.snapshot_where or "true"})
                QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {LATEST_FIRST}) = 1),
            before AS (SELECT {keys} FROM latest WHERE live),
            seen AS (
                SELECT {keys}, bool_or(live) AS live FROM {seen} GROUP BY ALL)
            SELECT
                (SELECT count(*) FROM before),
                (SELECT count(*) FROM seen AS s
                 WHERE s.live OR EXISTS (SELECT 1 FROM before AS b WHERE {_same("b", "s", stream.key)}))
            """,
            {"run_id": self._load.run_id},
        ).fetchone()
        assert row is not None, "an aggregate always has its one row"
        before, now = int(row[0]), int(row[1])
        if now < (1 - max_shrink) * before:
            raise DataRefusedError(
                f"{stream.source} listed {now} {stream.table} where {before} were live before, which is more than "
                f"{max_shrink:.0%} fewer. None was marked as deleted and nothing is published; if the list is right, "
                "run again with --accept-shrink."
            )

    def _finish(
        self, stream: RawStream, load: LoadContext, files: Sequence[LandedFile], result: StreamResult
    ) -> StreamResult:
        deleted = 0
        with ledger.transaction(self._connection, self._fence):
            for one in (stream, *stream.also):
                if one.merges:
                    self._mark_losers(one, load)
            for one in (stream, *stream.also):
                if result.status == "complete" and _names_all(one):
                    deleted += self._tombstone(one, load, files)
            row = self._connection.execute(
                "SELECT coalesce(sum(inserted), 0) FROM _ledger.files "
                "WHERE source = $source AND object = $object AND run_id = $run_id",
                {"source": stream.source, "object": stream.object, "run_id": load.run_id},
            ).fetchone()
            assert row is not None, "an aggregate always has its one row"
            done = replace(result, inserted=int(row[0]), deleted=result.deleted + deleted)
            ledger.record_stream(self._connection, load.run_id, load.as_of, done, self._data_through(stream))
            crash_point("stream.commit")
        crash_point("stream.commit.after")
        for one in (stream, *stream.also):
            self._connection.execute(f"DROP TABLE IF EXISTS temp.main.{ident(self._seen_table(one))}")
        self._seen.pop(stream.object, None)
        return done

    def _columns_of(self, name: str) -> dict[str, str]:
        """Columns of a table with their types, in order (duckdb_columns() goes through the whole catalog)."""
        return dict(
            self._connection.execute(
                "SELECT name, type FROM pragma_table_info($name) ORDER BY cid", {"name": name}
            ).fetchall()
        )

    def _payload(self, name: str) -> dict[str, str]:
        """The same without the bookkeeping."""
        return {column: kind for column, kind in self._columns_of(name).items() if column not in BOOKKEEPING}

    def _mark_losers(self, stream: RawStream, load: LoadContext) -> None:
        """A version with ``_merged_into`` for each record that a merge names as its loser and that has none yet."""
        schema = raw_schema(stream.source)
        name, merges = qualified(schema, stream.merges), qualified(schema, stream.table)
        columns = self._payload(name)
        payload = idents(columns)
        scope = f"WHERE object = {literal(stream.merges)}" if "object" in stream.columns else ""
        # Nothing is inserted where there is none: DuckDB 2.0.0 hides what the same transaction inserts into a table after
        # no rows, once it is more than a row group, and the deletions of a census follow.
        unmarked = self._connection.execute(
            f"SELECT 1 FROM (SELECT _merged_into FROM {name} WHERE id IN (SELECT loser_id FROM {merges} {scope}) "
            f"QUALIFY row_number() OVER (PARTITION BY id ORDER BY {LATEST_FIRST}) = 1) "
            "WHERE _merged_into IS NULL LIMIT 1"
        ).fetchone()
        if unmarked is None:
            return
        self._connection.execute(
            f"""
            INSERT INTO {name} BY NAME
            WITH merged AS (
                SELECT loser_id, first(winner_id ORDER BY _changed_at, winner_id) AS winner_id
                FROM {merges} {scope} GROUP BY loser_id),
            latest AS (
                SELECT {payload}, _changed_at, _merged_into FROM {name}
                WHERE id IN (SELECT loser_id FROM merged)
                QUALIFY row_number() OVER (PARTITION BY id ORDER BY {LATEST_FIRST}) = 1),
            lost AS (
                SELECT {idents(columns, "l.")}, greatest(l._changed_at, $observed) AS _changed_at,
                    NULL::TIMESTAMP AS _archived_at, NULL::TIMESTAMP AS _deleted_at, m.winner_id AS _merged_into
                FROM latest AS l JOIN merged AS m ON m.loser_id = l.id
                WHERE l._merged_into IS NULL)
            SELECT {payload}, _changed_at, greatest(_changed_at, $floor) AS _recorded_at,
                _archived_at, _deleted_at, _merged_into, {_hash_of(columns)} AS _hash, $run_id AS _run_id
            FROM lost
            """,
            {"observed": _observed(load.close), "floor": load.floor, "run_id": load.run_id},
        )

    def _tombstone(self, stream: RawStream, load: LoadContext, files: Sequence[LandedFile]) -> int:
        name = qualified(raw_schema(stream.source), stream.table)
        keys = idents(stream.key)
        # What came in while the census was taken may have been made after its place in the list had gone by.
        before = min([load.run_id, *(file.run_id for file in files)])
        known = f"_run_id < {literal(before)}" if stream.kind == "census" else "true"
        # Keys first, and of them those that the list did not name: a window over every column and every record costs
        # as much as loading them did.
        row = self._connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE gone AS
            WITH latest AS (
                SELECT {keys}, {LIVE} AND {known} AND ({stream.snapshot_where or "true"}) AS _live FROM {name} AS t
                WHERE NOT EXISTS (
                    SELECT 1 FROM temp.main.{ident(self._seen_table(stream))} AS s
                    WHERE {_same("s", "t", stream.key)})
                QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {LATEST_FIRST}) = 1)
            SELECT {keys} FROM latest WHERE _live
            """
        ).fetchone()
        if row is not None and row[0]:
            columns = self._payload(name)
            payload = idents(columns)
            self._connection.execute(
                f"""
                INSERT INTO {name} BY NAME
                WITH gone AS (
                    SELECT {payload}, greatest(_changed_at, $observed) AS _changed_at,
                        greatest(_changed_at, $observed) AS _deleted_at,
                        NULL::TIMESTAMP AS _archived_at, NULL::VARCHAR AS _merged_into
                    FROM {name} AS t
                    WHERE EXISTS (SELECT 1 FROM temp.main.gone AS g WHERE {_same("g", "t", stream.key)})
                    QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {LATEST_FIRST}) = 1)
                SELECT {payload}, _changed_at, greatest(_changed_at, $floor) AS _recorded_at,
                    _archived_at, _deleted_at, _merged_into, {_hash_of(columns)} AS _hash, $run_id AS _run_id
                FROM gone
                """,
                {"observed": _observed(load.close), "floor": load.floor, "run_id": load.run_id},
            )
        self._connection.execute("DROP TABLE temp.main.gone")
        return int(row[0]) if row else 0

    def _data_through(self, stream: RawStream) -> datetime | None:
        """The newest change that the source itself told; its ``also`` tables may be shared with other objects."""
        if stream.object != stream.table:
            return None  # It only names records (a census, a list of deletions) that another stream tells of.
        name = qualified(raw_schema(stream.source), stream.table)
        row = self._connection.execute(
            f"SELECT max(_changed_at) FROM {name} WHERE _deleted_at IS NULL"
        ).fetchone()
        return row[0] if row else None

    # What landing keeps beside the files

    def _run_folder(self, stream: RawStream, run_id: str) -> Path:
        return self._landing_root / stream.source / stream.object / run_id

    def _write_definition(self, stream: RawStream, file: LandedFile) -> None:
        path = file.path.parent / DEFINITION_NAME
        content = json.dumps(asdict(stream), indent=1).encode()
        if not path.exists() or path.read_bytes() != content:
            write_durably(path, content)

    def _write_complete(self, stream: RawStream, files: Sequence[LandedFile], result: StreamResult) -> None:
        folder = self._run_folder(stream, self._load.run_id)
        make_private_folder(folder)
        definition = folder / DEFINITION_NAME
        if not definition.exists():
            write_durably(definition, json.dumps(asdict(stream), indent=1).encode())
        content = {
            "as_of": self._load.as_of.isoformat(),
            "close": self._load.close.isoformat(),
            "floor": self._load.floor.isoformat() if self._load.floor else None,
            "started_at": self._load.started_at.isoformat(),
            "files": [f"{file.run_id}/{file.path.name}" for file in files],
            "result": asdict(result),
        }
        write_durably(folder / COMPLETE_NAME, json.dumps(content, indent=1).encode())

    def _replay(self, stream: RawStream, run_id: str) -> int:
        """Load what an earlier run landed and did not commit, and end its stream if it had decided to."""
        inserted = 0
        files = list(landed_files(self._landing_root, stream.source, stream.object, run_id))
        for file in files:
            inserted += self.load_file(stream, file)
        complete = self._run_folder(stream, run_id) / COMPLETE_NAME
        ended = self._connection.execute(
            "SELECT 1 FROM _ledger.streams WHERE source = $source AND object = $object AND run_id = $run_id",
            {"source": stream.source, "object": stream.object, "run_id": run_id},
        ).fetchone()
        if complete.exists() and ended is None:
            load, paths, result = _read_complete(complete, run_id)
            listed = [LandedFile.read(record_of(path)) for path in paths]
            self.ensure_tables(stream)  # a list may be complete without a record, and so without a file
            self._complete_seen(stream, listed)
            self._finish(stream, load, listed, result)
        else:
            # Keys of an earlier run must not count as seen by this one.
            for one in (stream, *stream.also):
                self._connection.execute(f"DROP TABLE IF EXISTS temp.main.{ident(self._seen_table(one))}")
                self._first.pop(self._seen_table(one), None)
            self._seen.pop(stream.object, None)
        return inserted


RawStreamKey = tuple[str, str, tuple[tuple[str, str], ...], str]


def reload_from_landing(
    connection: duckdb.DuckDBPyConnection, fence: Fence, load: LoadContext, landing_root: Path
) -> int:
    """Make raw again from the landing files alone, in the order of the runs; gives the same raw as the first time.

    Files and streams that the ledger already knows are left alone, so this also heals a build file that has lost
    its newest commits.

    Args:
        connection: the build file, open for writing.
        fence: the right to commit of the run that rebuilds.
        load: that run; its own as_of and floor are not used for the records, which keep those of their load.
        landing_root: `Warehouse.landing_root`.

    Returns:
        The number of versions and events appended.

    Raises:
        DataRefusedError: a landing file does not hold what it was written with.
        WarehouseError: a record file or definition is missing or cannot be read.
    """
    loader = RawLoader(connection, fence, load, landing_root)
    runs = sorted(
        (path.name, path.parent.parent.name, path.parent.name)
        for path in landing_root.glob("*/*/*")
        if path.is_dir() and path.name < load.run_id
    )
    inserted = 0
    for run_id, source, object_name in runs:
        folder = landing_root / source / object_name
        if not any((folder / run_id).glob("*.json")) and not (folder / run_id / COMPLETE_NAME).exists():
            continue
        inserted += loader._replay(_definition_for(folder, run_id), run_id)
    return inserted


def _definition_for(folder: Path, run_id: str) -> RawStream:
    """How the files of a run are read: its own definition, or the next later one if it was cut off before it."""
    for candidate in sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name >= run_id):
        path = folder / candidate / DEFINITION_NAME
        if path.exists():
            try:
                return _stream_from(json.loads(path.read_bytes()))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise WarehouseError(f"The stream definition {path} cannot be read: {error}.") from error
    raise WarehouseError(
        f"The files in {folder / run_id} have no {DEFINITION_NAME}, so it is not known how to read them. "
        "Nothing of them was loaded; move the folder away if they are not needed."
    )


def _stream_from(values: dict[str, Any]) -> RawStream:
    also = tuple(_stream_from(one) for one in values["also"])
    return RawStream(**{**values, "key": tuple(values["key"]), "also": also})


def record_of(path: Path) -> Path:
    """The record file of a landing file."""
    return path.with_name(path.name.removesuffix(".ndjson.zst") + ".json")


class _KnownKeysError(Exception):
    """A file that was taken for a first one holds keys that are known, or twice; it must be compared."""


def _lines_of(stream: RawStream, one: RawStream, file: LandedFile) -> str:
    """SELECT of the lines of a file for one of the streams that are read from it.

    What a stream says itself about a top-level key comes before what the others say. DuckDB leaves out keys that are
    not asked for; reading the text once for each stream is cheaper than a copy of it (measured).
    """
    columns = {
        key: declared for each in (stream, *stream.also, one) for key, declared in each.json_columns.items()
    }
    return (
        f"SELECT * FROM read_json({literal(glob_escape(str(file.path)))}, columns = {struct_literal(columns)}, "
        "format = 'newline_delimited', compression = 'zstd')"
    )


def _is_line_by_line(stream: RawStream) -> bool:
    """Whether each line is one record of the stream."""
    return stream.from_clause == RawStream.from_clause


def _names_all(stream: RawStream) -> bool:
    """Whether a complete list of this stream names every live record."""
    return stream.kind == "census" or (stream.kind == "versions" and stream.snapshot)


def _read_complete(path: Path, run_id: str) -> tuple[LoadContext, list[Path], StreamResult]:
    try:
        values = json.loads(path.read_bytes())
        load = LoadContext(
            run_id=run_id,
            as_of=date.fromisoformat(values["as_of"]),
            close=datetime.fromisoformat(values["close"]),
            floor=datetime.fromisoformat(values["floor"]) if values["floor"] else None,
            started_at=datetime.fromisoformat(values["started_at"]),
        )
        # Before runs could go on from earlier ones the name alone was kept.
        names = [name if "/" in name else f"{run_id}/{name}" for name in values["files"]]
        return load, [path.parent.parent / name for name in names], StreamResult(**values["result"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WarehouseError(f"The landing record {path} cannot be read: {error}.") from error


def _hash_of(columns: dict[str, str]) -> str:
    """SQL for the hash of payload and state.

    A column that is NULL leaves no trace and the order of columns does not matter, so that a table that gains or
    loses an empty column does not get a new version of every record. Names and values are set apart by the control
    characters that ASCII has for it, which is several times cheaper than lengths.
    """
    state = {name: BOOKKEEPING[name] for name in ("_archived_at", "_deleted_at", "_merged_into")}
    parts = []
    for name, declared in sorted({**columns, **state}.items()):
        column = ident(name)
        scalar = declared.upper().startswith(_SCALARS) and not declared.endswith("]")
        # concat() takes NULL for nothing, so the name must go by itself; joining it to each value costs twice as much.
        parts.append(f"CASE WHEN {column} IS NOT NULL THEN {literal(f'{_RECORD}{name}{_UNIT}')} END")
        parts.append(f"{column}::VARCHAR" if scalar else f"to_json({column})::VARCHAR")
    return f"md5(ltrim(concat({', '.join(parts)}), {literal(_RECORD)}))"


def _bytes_of(size: str) -> int:
    """``1.5 GiB``, as DuckDB shows a size, in bytes."""
    number, unit = size.split()
    powers = {"bytes": 0, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4}
    return int(float(number) * 1024 ** powers[unit])


def _check_count(file: LandedFile, found: int) -> None:
    if found != file.records:
        raise DataRefusedError(
            f"The landing file {file.path} was written with {file.records} records and now holds {found}. "
            "Nothing of it was loaded; remove it and run again."
        )


def _same(left: str, right: str, key: Sequence[str]) -> str:
    return " AND ".join(f"{left}.{ident(k)} = {right}.{ident(k)}" for k in key)


def _observed(close: datetime) -> datetime:
    """The change time of a fact that has none of its own (settled rule 1)."""
    return close - timedelta(microseconds=1)


def _file_key(file: LandedFile) -> dict[str, str]:
    return {"source": file.source, "object": file.object, "run_id": file.run_id, "file": file.path.name}


def _verify_content(file: LandedFile) -> None:
    digest = hashlib.sha256()
    try:
        with file.path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as reader:
            while chunk := reader.read(1 << 20):
                digest.update(chunk)
    except (OSError, zstandard.ZstdError) as error:
        raise DataRefusedError(
            f"The landing file {file.path} cannot be read: {error}. Nothing of it was loaded."
        ) from error
    if digest.hexdigest() != file.sha256:
        raise DataRefusedError(
            f"The landing file {file.path} has been changed since it was written. Nothing of it was loaded; "
            "put the original back, or remove it with its record file."
        )


def _bad_line(file: LandedFile, error: duckdb.Error) -> DataRefusedError:
    """Name the line: DuckDB counts from the end of the one before when a line breaks off."""
    reason = str(error).strip().splitlines()[0]
    with file.path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as reader:
        rest, number = b"", 0
        while chunk := reader.read(1 << 20):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                number += 1
                if not _is_object(line):
                    return _refused_line(file, number, reason)
        if rest and not _is_object(rest):
            return _refused_line(file, number + 1, reason)
    return DataRefusedError(
        f"The landing file {file.path} cannot be read: {reason} Nothing of it was loaded."
    )


def _refused_line(file: LandedFile, number: int, reason: str) -> DataRefusedError:
    return DataRefusedError(
        f"Line {number} of the landing file {file.path} is not a JSON record ({reason}). "
        "Nothing of the file was loaded; what was loaded before is kept."
    )


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
