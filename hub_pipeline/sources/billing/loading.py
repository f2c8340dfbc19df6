"""Loads the billing folder: each file is checked, split into good and quarantined rows, and committed whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path

import duckdb

from hub_pipeline.errors import ConfigurationError, DataRefusedError, WarehouseError
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.billing import tables
from hub_pipeline.sources.billing.check import Counts, check, rules, terms
from hub_pipeline.sources.billing.contract import Table, contract
from hub_pipeline.sources.billing.folder import (
    Extract,
    Kind,
    RejectedFileError,
    Survey,
    check_manifest,
    copy,
    format_of,
    sha256,
    survey,
)
from hub_pipeline.sources.billing.identity import resolve_customers
from hub_pipeline.sources.billing.mapping import read_mappings
from hub_pipeline.sources.billing.quarantine import (
    FUTURE,
    close_settled,
    has_open_rows,
    keep,
    redrive,
    settle_parents,
    table_mapping,
)
from hub_pipeline.sources.billing.text import read
from hub_pipeline.sources.billing.versions import Appended, append, precedence
from hub_pipeline.sources.progress import NullProgress, Progress
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.crashpoints import crash_point
from hub_pipeline.warehouse.landing import LoadContext, write_durably
from hub_pipeline.warehouse.lock import Fence
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline.warehouse.sql import ident

SOURCE = "billing"

#: The folder itself as an object beside the tables: what was waiting, refused or not mapped.
FILES = "files"

#: A rejected file is not loaded and stays where it is, so a sample of its bad rows is enough.
REJECTED_SAMPLE = 1000

NO_ROWS = Counts(0, 0, 0, 0)

_SCRATCH = ("billing_text", "billing_lines", "billing_checked", "billing_repeated", "billing_accepted",
            "billing_before", "billing_seen", "billing_told", "billing_words", "billing_heard", "billing_touched",
            "billing_history", "billing_times", "billing_anchors", "billing_due", "billing_unread")  # fmt: skip


@dataclass
class _Tally:
    """What the files of one run did to one table."""

    records: int = 0
    inserted: int = 0
    deleted: int = 0
    quarantined: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    counted: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def object_names() -> tuple[str, ...]:
    """Names of the billing objects, fixed by the contract."""
    return (*contract(), FILES)


def has_extracts(settings: Settings, data_dir: Path) -> bool:
    """Whether a billing system's folder holds anything; reads no file."""
    folder = data_dir / settings.billing.folder
    return folder.is_dir() and any(system.is_dir() and any(system.iterdir()) for system in folder.iterdir())


def load(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    environment: Environment,
    load: LoadContext,
    fence: Fence,
    progress: Progress | None = None,
    accept_shrink: bool = False,
) -> list[StreamResult]:
    """Load what is new in the billing folder into raw_billing, each file in one transaction with its manifest row.

    A file whose bytes were loaded before is passed over; one that is rejected or held is tried again by every run,
    until it is corrected or taken away, and is named in the message of its object, whose status is then ``failed``.

    Args:
        connection: the build file.
        accept_shrink: believe a full file that lists far fewer records than the one before.

    Returns:
        One result for each of `object_names`, in that order.

    Raises:
        ConfigurationError: the folder is set, or was there before, and is missing; or a mapping file is wrong.
        DataRefusedError: a file of subscriptions was rejected and no subscription was ever loaded.
        LockHeldError: a later run has taken over.
        WarehouseError: the disk is full or the database fails; committed files stay.
    """
    progress = progress or NullProgress()
    with ledger.transaction(connection, fence):
        tables.ensure(connection)
    folder = environment.data_dir / settings.billing.folder
    if not folder.is_dir():
        _require_unconfigured(connection, settings, folder)
        message = f"not configured: there is no folder {settings.billing.folder} in the data folder"
        return [StreamResult(SOURCE, name, "not_configured", message=message) for name in object_names()]
    beside = environment.settings_file.absolute().parent if environment.settings_file else Path.cwd()
    mappings = read_mappings(settings.billing.mappings, beside)
    found = survey(folder, mappings, settings.billing.settle_seconds)
    again = redrive(connection, settings, mappings, load, fence)
    tallies = _load_extracts(
        connection, settings, environment, load, fence, progress, accept_shrink, found.extracts, SOURCE
    )
    for one in again:
        tallies[one.table].inserted += one.inserted
        if one.accepted:
            tallies[one.table].notes.append(
                f"{one.accepted:,} quarantined rows are good by the rules of today"
            )
    _refuse_if_empty(connection, tallies)
    with ledger.transaction(connection, fence):
        for name, note in settle_parents(connection, settings, load).items():
            tallies[name].notes.append(note)
        resolve_customers(connection, settings)
        results = _results(connection, found, tallies)
        for result in results:
            ledger.record_stream(
                connection, load.run_id, load.as_of, result, _data_through(connection, result.object)
            )
    return results


@dataclass(frozen=True)
class IncomingFile:
    """A file in the form of the contract that a program wrote, not somebody's export.

    Attributes:
        path: where it lies; the name ends as its format does (``.csv``, ``.jsonl``, ``.parquet``, also ``.gz`` or
            ``.zst``) and means nothing else.
        source: name of the billing system.
        table: table of the contract that it fills.
        as_of: the last day that it describes.
        kind: ``full`` = lists everything alive; ``delta`` = lists what changed.
        sequence: order among files of one day.
    """

    path: Path
    source: str
    table: str
    as_of: date
    kind: Kind = "delta"
    sequence: int = 0

    @property
    def extract(self) -> Extract:
        """The same as the folder would say it."""
        return Extract(
            self.path,
            self.source,
            self.as_of,
            self.kind,
            format_of(self.path),
            None,
            self.table,
            self.sequence,
        )


def load_files(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    environment: Environment,
    load: LoadContext,
    fence: Fence,
    files: Sequence[IncomingFile],
    progress: Progress | None = None,
    accept_shrink: bool = False,
) -> list[StreamResult]:
    """Load files of the contract that a program wrote, exactly as `load` does those of the folder.

    A file is known by its bytes: the same bytes of the same source are not loaded twice, whatever they are called,
    so a caller may write and hand over the same file as often as it likes. To fill raw_billing anew with the same
    times the caller hands over the same bytes again.

    Args:
        files: of one source, in any order.

    Returns:
        One result for each table that `files` fill, under that source and the object ``contract_<table>``, in the
        order of the contract.

    Raises:
        LockHeldError: a later run has taken over.
        WarehouseError: the disk is full or the database fails; committed files stay.
        ValueError: the files are of several sources.
    """
    if not files:
        return []
    sources = {file.source for file in files}
    if len(sources) > 1:
        raise ValueError(f"Files of one source at a time, not of {', '.join(sorted(sources))}.")
    source = sources.pop()
    with ledger.transaction(connection, fence):
        tables.ensure(connection)
    extracts = sorted((file.extract for file in files), key=lambda extract: extract.order)
    tallies = _load_extracts(
        connection,
        settings,
        environment,
        load,
        fence,
        progress or NullProgress(),
        accept_shrink,
        extracts,
        source,
    )
    filled = {name for extract in extracts for name in extract.tables}
    results = [
        StreamResult(
            source,
            f"contract_{name}",
            "failed" if tallies[name].problems else "complete",
            records=tallies[name].records,
            inserted=tallies[name].inserted,
            deleted=tallies[name].deleted,
            quarantined=tallies[name].quarantined,
            seconds=tallies[name].seconds,
            message="; ".join(tallies[name].problems.values()),
        )
        for name in contract()
        if name in filled
    ]
    with ledger.transaction(connection, fence):
        settle_parents(connection, settings, load)
        resolve_customers(connection, settings)
        for result in results:
            through = _data_through(connection, result.object.removeprefix("contract_"), source)
            ledger.record_stream(connection, load.run_id, load.as_of, result, through)
    return results


def _load_extracts(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    environment: Environment,
    load: LoadContext,
    fence: Fence,
    progress: Progress,
    accept_shrink: bool,
    extracts: Sequence[Extract],
    told_as: str,
) -> dict[str, _Tally]:
    """Load the files in the order given; what they did to each table. `told_as` is the source that progress names."""
    tallies = {name: _Tally() for name in object_names()}
    workplace = environment.data_dir / "billing_work"
    _make_empty(workplace)
    records = environment.data_dir / "landing" / "billing"
    files = _Files(
        connection, settings, load, fence, progress, workplace, records, accept_shrink, tallies, told_as
    )
    watched = sorted({name for extract in extracts for name in extract.tables})
    for name in watched:
        progress.start(told_as, name, None)
    try:
        waiting = files.in_order(extracts)
        while waiting:
            # A file that was held is plausible once one that lies between it and its neighbour has been loaded.
            held = [extract for extract in waiting if files.load(extract) == "held"]
            waiting = held if len(held) < len(waiting) else []
    finally:
        for name in watched:
            progress.finish(told_as, name)
        shutil.rmtree(workplace, ignore_errors=True)
        for name in _SCRATCH:
            connection.execute(f"DROP TABLE IF EXISTS temp.{name}")
    return tallies


class _RefusedError(Exception):
    """A file that is not believed: ``rejected`` or ``held``, and why."""

    def __init__(self, status: str, message: str, counts: Counts) -> None:
        super().__init__(message)
        self.status = status
        self.counts = counts


class _Files:
    """The loading of files in one run; holds what every step needs."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        settings: Settings,
        load: LoadContext,
        fence: Fence,
        progress: Progress,
        workplace: Path,
        records: Path,
        accept_shrink: bool,
        tallies: dict[str, _Tally],
        told_as: str,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._load = load
        self._fence = fence
        self._progress = progress
        self._workplace = workplace
        self._records = records
        self._accept_shrink = accept_shrink
        self._tallies = tallies
        self._told_as = told_as

    def in_order(self, extracts: Sequence[Extract]) -> list[Extract]:
        """Extracts as they are given; where raw is filled anew, what was known earlier comes first.

        So what a late file corrected is known again from when it came, and no sooner.
        """
        row = self._connection.execute("SELECT 1 FROM raw_billing.files LIMIT 1").fetchone()
        if row is not None or not self._records.is_dir():
            return list(extracts)

        def first_known(extract: Extract) -> tuple[bool, str]:
            """New files after all others; a file without a floor was there before the first day was published."""
            try:
                floors = self._recorded_floors(extract, sha256(extract.path)[0])
            except RejectedFileError:
                floors = {}
            return not floors, max((floor or "" for floor in floors.values()), default="")

        return sorted(extracts, key=first_known)

    def load(self, extract: Extract) -> str:
        """Load one file, or say why not; its status (``loaded``, ``rejected``, ``held``)."""
        targets = extract.tables
        started = time.monotonic()
        for name in targets:
            self._tallies[name].problems.pop(extract.name, None)
        try:
            sha, size = sha256(extract.path)
        except RejectedFileError as error:
            for name in targets:
                self._tallies[name].problems[extract.name] = f"{extract.name}: {error}"
            return "rejected"
        loaded = self._loaded_tables(sha, extract)
        if loaded and not self._record_path(extract, sha).exists():  # killed between commit and record
            self._record(extract, sha, {name: self._told_floor(name, no) for name, no in loaded.items()})
        targets = [name for name in targets if name not in loaded]
        if not targets:
            return "loaded"
        try:
            return self._load_new(extract, targets, sha, size)
        finally:
            for name in targets:
                self._tallies[name].seconds += (time.monotonic() - started) / len(targets)

    def _loaded_tables(self, sha: str, extract: Extract) -> dict[str, int]:
        """Tables that the file has filled -> its number in the manifest."""
        # The date is part of what a file says: the same bytes on another day say that things are as they were.
        rows = self._connection.execute(
            "SELECT table_name, file_no FROM raw_billing.files WHERE sha256 = $sha AND source = $source AND status = 'loaded' "
            "AND extract_date = $date AND kind = $kind",
            {"sha": sha, "source": extract.source, "date": extract.as_of, "kind": extract.kind},
        ).fetchall()
        return dict(rows)

    def _told_floor(self, table_name: str, file_no: int) -> datetime | None:
        """Floor of the rows that a file has left; None also where it left none."""
        row = self._connection.execute(
            f"SELECT max(_floor) FROM raw_billing.{ident(table_name)} WHERE _file_no = $no", {"no": file_no}
        ).fetchone()
        return None if row is None else row[0]

    def _load_new(self, extract: Extract, targets: Sequence[str], sha: str, size: int) -> str:
        try:
            working = copy(extract, sha, self._workplace)
            delimiter = extract.mapping.delimiter if extract.mapping else ","
            header = read(self._connection, working, extract.format, delimiter)
            if extract.manifest is not None:
                rows = self._connection.execute("SELECT count(*) FROM billing_lines").fetchone()
                check_manifest(extract, sha, 0 if rows is None else rows[0])
        except RejectedFileError as error:
            with ledger.transaction(self._connection, self._fence):
                for name in targets:
                    self._reject(extract, contract()[name], sha, size, NO_ROWS, "rejected", str(error))
            return "rejected"
        finally:
            (self._workplace / f"{sha}.{extract.format}").unlink(missing_ok=True)
        tables_of_file = [contract()[name] for name in targets]
        try:
            return self._load_or_refuse(extract, tables_of_file, header, sha, size)
        except duckdb.Error as error:
            first = str(error).strip().splitlines()[0]
            raise WarehouseError(
                f"The billing file {extract.name} could not be loaded: {first} Nothing of it was kept; files loaded "
                "before are. Make room or give more memory, and run again."
            ) from error

    def _load_or_refuse(
        self, extract: Extract, targets: Sequence[Table], header: Sequence[str], sha: str, size: int
    ) -> str:
        """All tables that the file fills, or none of them."""
        for table in targets:
            try:
                counts = self._check(extract, table, header, sha)
            except _RefusedError as refused:
                with ledger.transaction(self._connection, self._fence):
                    for other in targets:
                        if other is table:
                            self._reject(
                                extract, other, sha, size, refused.counts, refused.status, str(refused)
                            )
                        else:
                            message = f"its {table.name} were {refused.status}"
                            self._reject(extract, other, sha, size, NO_ROWS, refused.status, message)
                return refused.status
        floors = {table.name: self._floor(extract, sha, table.name) for table in targets}
        with ledger.transaction(self._connection, self._fence):
            for table in targets:
                if len(targets) > 1:
                    counts = self._check(extract, table, header, sha)
                self._append(extract, table, header, sha, size, counts, floors[table.name])
            crash_point("billing.commit")
        crash_point("billing.commit.after")
        self._record(extract, sha, floors)
        return "loaded"

    def _check(self, extract: Extract, table: Table, header: Sequence[str], sha: str) -> Counts:
        """Fill ``temp.billing_checked`` with the rows of one table.

        Raises:
            _RefusedError: the file is not believed.
        """
        close = _close(extract, self._settings)
        try:
            mapping = table_mapping(extract.mapping, table, header)
            judged_by = terms(self._settings, close + FUTURE)
            counts = check(self._connection, table, mapping, extract.mapping, header, judged_by)
        except ValueError as error:
            raise _RefusedError("rejected", str(error), NO_ROWS) from error
        if counts.quarantined > counts.rows * self._settings.billing.max_quarantined:
            raise _RefusedError(
                "rejected",
                f"{counts.quarantined:,} of {counts.rows:,} rows are unusable, first {self._first_reason()}",
                counts,
            )
        self._refuse_shrunk(extract, table, sha, close, counts)
        return counts

    def _refuse_shrunk(
        self, extract: Extract, table: Table, sha: str, close: datetime, counts: Counts
    ) -> None:
        """Hold a full file that would delete much, or by which the full file behind it would; whichever came first."""
        if extract.kind != "full" or not table.shrink_is_guarded or self._accept_shrink:
            return
        if table.counted_by is None:
            listed = counts.accepted
            before, after = self._neighbours(extract, table, sha, close)
        else:
            listed, before, after = self._counted(extract, table)
        kept = 1 - self._settings.guards.max_shrink
        if before is not None and listed < kept * before:
            other = f"the full file before listed {before:,}"
        elif after is not None and after < kept * listed:
            other = f"the full file behind it, loaded before, lists {after:,}"
        else:
            return
        raise _RefusedError(
            "held",
            f"lists {listed:,} records where {other}; nothing was "
            "deleted, run with --accept-shrink if that is right",
            counts,
        )

    def _append(
        self,
        extract: Extract,
        table: Table,
        header: Sequence[str],
        sha: str,
        size: int,
        counts: Counts,
        floor: datetime | None,
    ) -> None:
        file_no = self._manifest(extract, table, sha, size, counts, "loaded", "", header)
        close = _close(extract, self._settings)
        if counts.quarantined:
            keep(self._connection, table, extract, sha, close, self._load.started_at, limit=None)
        if has_open_rows(self._connection, table.name, extract.source):
            close_settled(self._connection, table, extract, sha, close, self._load.started_at)
        load = replace(self._load, floor=floor)
        rank = precedence(close, extract.kind, extract.sequence, sha)
        appended = append(self._connection, table, extract.source, extract.kind, close, file_no, load, rank)
        self._count_appended(file_no, appended)
        self._count(extract, table.name, counts)
        self._tallies[table.name].inserted += appended.inserted
        self._tallies[table.name].deleted += appended.deleted

    def _count(self, extract: Extract, table_name: str, counts: Counts) -> None:
        if extract.name in self._tallies[table_name].counted:
            return
        self._tallies[table_name].counted.add(extract.name)
        self._tallies[table_name].records += counts.rows
        self._tallies[table_name].quarantined += counts.quarantined
        self._progress.advance(self._told_as, table_name, counts.rows)

    def _record_path(self, extract: Extract, sha: str) -> Path:
        said = f"{extract.source}/{extract.as_of}/{extract.kind}/{sha}"
        name = hashlib.sha256(said.encode()).hexdigest()
        return self._records / f"{name}.json"

    def _record(self, extract: Extract, sha: str, floors: dict[str, datetime | None]) -> None:
        """Keep the floor of each loaded table beside the landing files, for a build file made anew."""
        kept = {name: None if floor is None else floor.isoformat() for name, floor in floors.items()}
        kept = {**self._recorded_floors(extract, sha), **kept}
        path = self._record_path(extract, sha)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(path, json.dumps({"file": extract.name, "floors": kept}, indent=1).encode() + b"\n")
        except OSError as error:
            raise WarehouseError(
                f"The record {path} could not be written: {error.strerror}. What was loaded is kept; make room and "
                "run again."
            ) from error

    def _floor(self, extract: Extract, sha: str, table_name: str) -> datetime | None:
        """Floor of the first load of this file, also when raw is filled anew (settled rule 2)."""
        recorded = self._recorded_floors(extract, sha)
        if table_name not in recorded:
            return self._load.floor
        floor = recorded[table_name]
        return None if floor is None else datetime.fromisoformat(floor)

    def _recorded_floors(self, extract: Extract, sha: str) -> dict[str, str | None]:
        path = self._record_path(extract, sha)
        try:
            return dict(json.loads(path.read_bytes())["floors"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WarehouseError(
                f"The record {path} of billing file {extract.name} cannot be read: {error}. Nothing of the file was "
                "kept; restore the record, or remove it to load the file as if it came today."
            ) from error

    def _first_reason(self) -> str:
        row = self._connection.execute(
            "SELECT reasons[1], line_no FROM billing_checked WHERE reasons IS NOT NULL ORDER BY line_no LIMIT 1"
        ).fetchone()
        assert row is not None, "asked only when rows are quarantined"
        return f"line {row[1]}: {row[0]}"

    def _counted(self, extract: Extract, table: Table) -> tuple[int, int | None, int | None]:
        """Records of the last day that the file counts, and of the known days before and behind it."""
        day = ident(str(table.counted_by))
        row = self._connection.execute(
            f"WITH new AS (SELECT {day} FROM billing_checked WHERE reasons IS NULL AND NOT is_duplicate), "
            f"last AS (SELECT max({day}) AS last_day FROM new), "
            f"known AS (SELECT {day} AS known_day, count(*) AS records FROM raw_billing.{ident(table.name + '_current')} "
            "WHERE source = $source AND _deleted_at IS NULL GROUP BY 1) "
            f"SELECT (SELECT count(*) FROM new JOIN last ON {day} = last_day), "
            "(SELECT arg_max(records, known_day) FROM known JOIN last ON known_day < last_day), "
            "(SELECT arg_min(records, known_day) FROM known JOIN last ON known_day > last_day)",
            {"source": extract.source},
        ).fetchone()
        assert row is not None, "a SELECT without FROM has one row"
        return row

    def _neighbours(
        self, extract: Extract, table: Table, sha: str, close: datetime
    ) -> tuple[int | None, int | None]:
        """Records of the loaded full files before and behind this one, in the order in which files are believed."""
        row = self._connection.execute(
            "WITH lists AS (SELECT accepted, (extract_close, sequence, sha256) AS place FROM raw_billing.files "
            "WHERE table_name = $table AND source = $source AND kind = 'full' AND status = 'loaded') "
            "SELECT arg_max(accepted, place) FILTER (place < row($close::TIMESTAMP, $sequence::BIGINT, $sha::VARCHAR)), "
            "arg_min(accepted, place) FILTER (place > row($close::TIMESTAMP, $sequence::BIGINT, $sha::VARCHAR)) FROM lists",
            {
                "table": table.name,
                "source": extract.source,
                "close": close,
                "sequence": extract.sequence,
                "sha": sha,
            },
        ).fetchone()
        assert row is not None, "an aggregate without GROUP BY has one row"
        return row

    def _reject(
        self,
        extract: Extract,
        table: Table,
        sha: str,
        size: int,
        counts: Counts,
        status: str,
        message: str,
    ) -> None:
        self._manifest(extract, table, sha, size, counts, status, message, ())
        self._count(extract, table.name, counts)
        if counts.quarantined:
            close = _close(extract, self._settings)
            keep(self._connection, table, extract, sha, close, self._load.started_at, REJECTED_SAMPLE)
        self._tallies[table.name].problems[extract.name] = f"{extract.name} was {status}: {message}"

    def _manifest(
        self,
        extract: Extract,
        table: Table,
        sha: str,
        size: int,
        counts: Counts,
        status: str,
        message: str,
        header: Sequence[str],
    ) -> int:
        """Write the manifest row; a file tried before keeps the moment it was first seen."""
        earlier = self._connection.execute(
            "DELETE FROM raw_billing.files WHERE sha256 = $sha AND source = $source AND table_name = $table "
            "AND extract_date = $date AND kind = $kind RETURNING first_seen_at",
            {
                "sha": sha,
                "source": extract.source,
                "table": table.name,
                "date": extract.as_of,
                "kind": extract.kind,
            },
        ).fetchone()
        test_data = "0"
        if "livemode" in table.columns and counts.accepted:
            test_data = "(SELECT count(*) FROM billing_checked WHERE reasons IS NULL AND NOT is_duplicate AND NOT livemode)"
        row = self._connection.execute(
            "INSERT INTO raw_billing.files SELECT (SELECT coalesce(max(file_no), 0) + 1 FROM raw_billing.files), "
            "$sha, $table, $source, $name, $size, $kind, $as_of, $close, $sequence, $rows, $accepted, $duplicates, "
            f"$quarantined, {test_data}, 0, 0, $status, $message, $is_mapped, $header, $rules, $seen, $run_id "
            "RETURNING file_no",
            {
                "sha": sha,
                "table": table.name,
                "source": extract.source,
                "name": extract.path.name,
                "size": size,
                "kind": extract.kind,
                "as_of": extract.as_of,
                "close": _close(extract, self._settings),
                "sequence": extract.sequence,
                "rows": counts.rows,
                "accepted": counts.accepted,
                "duplicates": counts.exact_duplicates,
                "quarantined": counts.quarantined,
                "status": status,
                "message": message or None,
                "is_mapped": extract.mapping is not None,
                "header": list(header),
                "rules": rules(table, extract.mapping, self._settings),
                "seen": earlier[0] if earlier else self._load.started_at,
                "run_id": self._load.run_id,
            },
        ).fetchone()
        assert row is not None, "RETURNING gives the row that was inserted"
        return int(row[0])

    def _count_appended(self, file_no: int, appended: Appended) -> None:
        self._connection.execute(
            "UPDATE raw_billing.files SET inserted = $inserted, deleted = $deleted WHERE file_no = $no",
            {"inserted": appended.inserted, "deleted": appended.deleted, "no": file_no},
        )


def _close(extract: Extract, settings: Settings) -> datetime:
    """The instant the extract's date ends, UTC without offset."""
    midnight = datetime.combine(extract.as_of + timedelta(days=1), clock(), tzinfo=settings.zone)
    return midnight.astimezone(UTC).replace(tzinfo=None)


def _require_unconfigured(connection: duckdb.DuckDBPyConnection, settings: Settings, folder: Path) -> None:
    row = connection.execute("SELECT count(*) FROM raw_billing.files").fetchone()
    was_there = row is not None and row[0] > 0
    if was_there or "folder" in settings.billing.model_fields_set or settings.billing.mappings:
        raise ConfigurationError(
            f"The billing folder {folder} is missing. Nothing was changed; put it back or correct the setting "
            "billing.folder."
        )


def _make_empty(workplace: Path) -> None:
    try:
        if workplace.exists():
            shutil.rmtree(workplace)
        os.makedirs(workplace, mode=0o700)
    except OSError as error:
        raise WarehouseError(
            f"The working folder {workplace} cannot be made: {error.strerror}. Nothing was changed; make room or "
            "correct its rights, and run again."
        ) from error


def _refuse_if_empty(connection: duckdb.DuckDBPyConnection, tallies: dict[str, _Tally]) -> None:
    problems = list(tallies["subscriptions"].problems.values())
    if not problems:
        return
    row = connection.execute("SELECT count(*) FROM raw_billing.subscriptions").fetchone()
    if row is not None and row[0] == 0:
        raise DataRefusedError(
            f"No subscription could be loaded: {problems[0]}. Nothing was published; the rows are in "
            "raw_billing.quarantine. Correct the file and run again."
        )


def _results(
    connection: duckdb.DuckDBPyConnection, found: Survey, tallies: dict[str, _Tally]
) -> list[StreamResult]:
    results = []
    for name in contract():
        tally = tallies[name]
        row = connection.execute(
            "SELECT count(*) FROM raw_billing.files WHERE table_name = $name AND status = 'loaded'",
            {"name": name},
        ).fetchone()
        delivered = row is not None and row[0] > 0
        message = "; ".join([*tally.problems.values(), *tally.notes])
        if not delivered and not message:
            message = f"no file of {name} was ever delivered"
        results.append(
            StreamResult(
                SOURCE,
                name,
                "failed" if tally.problems else "complete" if delivered else "not_configured",
                records=tally.records,
                inserted=tally.inserted,
                deleted=tally.deleted,
                quarantined=tally.quarantined,
                seconds=tally.seconds,
                message=message,
            )
        )
    notes = [
        f"{label}: {', '.join(names)}"
        for label, names in (
            ("refused", found.refused),
            ("not mapped", found.not_mapped),
            ("waiting", found.waiting),
        )
        if names
    ]
    results.append(
        StreamResult(
            SOURCE,
            FILES,
            "failed" if found.refused else "complete",
            message="; ".join(notes),
        )
    )
    return results


def _data_through(
    connection: duckdb.DuckDBPyConnection, name: str, source: str | None = None
) -> datetime | None:
    row = connection.execute(
        "SELECT max(extract_close) FROM raw_billing.files WHERE status = 'loaded' AND ($name = $files OR table_name = $name) "
        "AND ($source IS NULL OR source = $source)",
        {"name": name, "files": FILES, "source": source},
    ).fetchone()
    return None if row is None else row[0]
