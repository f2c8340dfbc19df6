"""Reads a HubSpot portal in full: each configured object, then what refers to them.

Objects are read at the same time, each by one chain of pages, all through one pacer. An object is yielded when all
of it has landed, so loading overlaps fetching. What is asked for one object: its property definitions, its live
records, its archived records; associations follow as soon as the ids of their records are known.

How completeness is known: a page without ``results`` is an error and never an empty page; a cursor that comes
again is an error and never an end; a list that ended is compared with the previous run's by the shrink guard.
Live records are read before archived ones: a record archived in between is in the second list.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.settings import Environment, HubSpotObject, Settings
from hub_pipeline.sources.hubspot import streams as tables
from hub_pipeline.sources.hubspot.client import (
    ASSOCIATION_BATCH,
    HISTORY_PAGE,
    MAX_ADDRESS,
    PAGE,
    AssociationFrom,
    HubSpotClient,
    PartialError,
    PropertyDefinition,
    ids_of,
)
from hub_pipeline.sources.hubspot.pages import Cursors, endless, lines_of, wrapped
from hub_pipeline.sources.hubspot.reference import Reference, Yielded
from hub_pipeline.sources.jobs import Jobs
from hub_pipeline.sources.progress import Progress
from hub_pipeline.sources.transport import ForbiddenError, RejectedError, Tally
from hub_pipeline.warehouse.landing import LandedFile, LandingWriter, LoadContext
from hub_pipeline.warehouse.raw import Known, NothingKnown, RawStream, StreamResult

_DEFINITIONS = msgspec.json.Decoder(PropertyDefinition)
_FROM = msgspec.json.Decoder(AssociationFrom)


def extract(
    settings: Settings,
    environment: Environment,
    landing_root: Path,
    load: LoadContext,
    progress: Progress,
    known: Known = NothingKnown(),  # noqa: B008 - it has no state
) -> Iterator[Yielded]:
    """Read everything the settings name, yielding each object when it is complete.

    Closing the iterator early cancels what is still being read.

    Yields:
        The stream (how its lines become rows), its landing files of this run, and what happened. An optional
        object that the token may not read, or that the portal does not have, comes without files and with the
        status ``forbidden`` or ``not_configured``.

    Raises:
        ConfigurationError: no or a wrong token, a required object that may not be read, a wrong name in settings.
        SourceUnavailableError: HubSpot is down, limits us for longer than we wait, or the time budget is used up.
    """
    for name in settings.hubspot.objects:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ConfigurationError(
                f"The object name {name!r} in the settings must be lower-case letters, digits and underscores: "
                "it becomes the name of a table and of a folder."
            )
    with HubSpotClient(settings.hubspot, environment) as client:
        yield from _Extraction(client, settings, landing_root, load, progress).run()


@dataclass
class _Records:
    """One object that was read, or the reason why not."""

    name: str
    stream: RawStream
    files: list[LandedFile]
    result: StreamResult
    definitions: list[msgspec.Raw] | None = None  # None: not read
    ids: list[str] = field(default_factory=list)  # live ones, if associations start from this object


@dataclass
class _Pair:
    """Associations of one pair of objects."""

    source: str
    target: str
    files: list[LandedFile]
    records: int
    complete: bool
    message: str = ""


class _Extraction:
    def __init__(
        self,
        client: HubSpotClient,
        settings: Settings,
        landing_root: Path,
        load: LoadContext,
        progress: Progress,
    ) -> None:
        self._client = client
        self._objects = settings.hubspot.objects
        self._workers = settings.hubspot.workers
        self._pairs = [
            (source, target)
            for source, target in dict.fromkeys(settings.hubspot.associations)
            if source in self._objects and target in self._objects
        ]
        self._root = landing_root
        self._load = load
        self._progress = progress
        self._association_tally = Tally()
        self._reference = Reference(client, settings, landing_root, load, progress)

    def run(self) -> Iterator[Yielded]:
        started = time.monotonic()
        done: dict[str, _Records] = {}
        pairs: list[_Pair] = []
        # The first answer tells whether address and token are right, before many requests ask the same.
        yield self._reference.account()
        with Jobs("hubspot", self._workers, self._client.budget) as jobs:
            self._progress.start(tables.SOURCE, "associations", None)
            for name, config in self._objects.items():
                jobs.submit(self._read_object, name, config)
            for job in self._reference.jobs():
                jobs.submit(job)
            for outcome in jobs.outcomes():
                if isinstance(outcome, _Records):
                    done[outcome.name] = outcome
                    for source, target in self._pairs:
                        if source == outcome.name:
                            jobs.submit(self._associations, outcome, target)
                    yield outcome.stream, outcome.files, outcome.result
                elif isinstance(outcome, _Pair):
                    pairs.append(outcome)
                else:
                    yield outcome
            yield self._reference.properties(
                {
                    name: done[name].definitions or []
                    for name in self._objects
                    if done[name].definitions is not None
                }
            )
            yield self._associations_stream(pairs, done, time.monotonic() - started)

    # Objects

    def _read_object(self, name: str, config: HubSpotObject) -> _Records:
        started = time.monotonic()
        tally = Tally()
        self._progress.start(tables.SOURCE, name, None)
        try:
            definitions = self._client.properties(config.object_type, tally)
        except (ForbiddenError, RejectedError) as error:
            return self._unreadable(name, config, error, tally, started)
        known = tables.properties_to_read(config, tables.oldest_first(map(_DEFINITIONS.decode, definitions)))
        history = [p for p in config.history if p in known]
        reader = _Reader(self, name, config, known, history, tally)
        try:
            reader.read_live()
            notes = [reader.read_archived()]
        except ForbiddenError as error:
            return self._unreadable(name, config, error, tally, started)
        absent = sorted({p for p in (*config.properties.values(), *config.history) if p and p not in known})
        if absent:
            notes.append(f"properties the portal does not have: {', '.join(absent)}")
        if reader.gone:
            notes.append(f"{reader.gone} records were deleted while they were read")
        self._progress.finish(tables.SOURCE, name)
        return _Records(
            name,
            tables.object_stream(name, known, history),
            reader.files,
            StreamResult(
                tables.SOURCE,
                name,
                "complete",
                records=reader.records,
                requests=tally.requests,
                seconds=time.monotonic() - started,
                message="; ".join(note for note in notes if note),
            ),
            definitions,
            reader.ids,
        )

    def _unreadable(
        self,
        name: str,
        config: HubSpotObject,
        error: ForbiddenError | RejectedError,
        tally: Tally,
        started: float,
    ) -> _Records:
        missing = False
        if isinstance(error, RejectedError):
            if error.status not in (400, 404):
                raise error
            missing = True
        if not config.optional:
            advice = (
                f"set hubspot.objects.{name}.object_type to its type id"
                if missing
                else "give the token that scope"
            )
            raise ConfigurationError(
                f"{error} The object {name} is needed, so nothing was published; {advice} and run again."
            )
        self._progress.finish(tables.SOURCE, name)
        return _Records(
            name,
            tables.object_stream(name, [], []),
            [],
            StreamResult(
                tables.SOURCE,
                name,
                "not_configured" if missing else "forbidden",
                requests=tally.requests,
                seconds=time.monotonic() - started,
                message=f"The portal has no object {config.object_type}." if missing else str(error),
            ),
        )

    # Associations

    def _associations(self, records: _Records, target: str) -> _Pair:
        source_type = self._objects[records.name].object_type
        target_type = self._objects[target].object_type
        tally = self._association_tally
        part = f"{records.name}-{target}"
        files: list[LandedFile] = []
        try:
            with LandingWriter(self._root, tables.SOURCE, "associations", self._load, part) as writer:
                unread: list[str] = []
                for start in range(0, len(records.ids), ASSOCIATION_BATCH):
                    inputs = [{"id": i} for i in records.ids[start : start + ASSOCIATION_BATCH]]
                    unread += self._association_batch(writer, records.name, target, inputs, tally)
                again: list[str] = []
                for start in range(0, len(unread), ASSOCIATION_BATCH):
                    inputs = [{"id": i} for i in unread[start : start + ASSOCIATION_BATCH]]
                    again += self._association_batch(writer, records.name, target, inputs, tally)
            files = writer.files
        except (ForbiddenError, RejectedError) as error:
            optional = self._objects[records.name].optional or self._objects[target].optional
            if not optional:
                raise
            return _Pair(records.name, target, [], 0, False, str(error))
        message = ""
        if again:
            shown = ", ".join(again[:5]) + (" and more" if len(again) > 5 else "")
            message = f"{source_type} to {target_type}: {len(again)} records could not be read ({shown})"
        return _Pair(records.name, target, files, sum(f.records for f in files), not again, message)

    def _association_batch(
        self, writer: LandingWriter, source: str, target: str, inputs: list[dict[str, str]], tally: Tally
    ) -> list[str]:
        """Land the associations of some records, page after page; returns the ids that failed."""
        source_type, target_type = self._objects[source].object_type, self._objects[target].object_type
        failed: list[str] = []
        asked: set[tuple[str, str]] = set()
        while inputs:
            reply = self._client.associations(source_type, target_type, inputs, tally)
            lines = wrapped(reply.results, from_object=source, to_object=target)
            self._write(writer, "associations", lines, len(reply.results))
            failed += _failed_ids(reply.errors)
            inputs = []
            for row in map(_FROM.decode, reply.results):
                after = row.paging.next.after if row.paging and row.paging.next else None
                if after is not None:
                    if (row.source.id, after) in asked:
                        raise endless(f"associations of {source} and {target}")
                    asked.add((row.source.id, after))
                    inputs.append({"id": row.source.id, "after": after})
        return failed

    def _associations_stream(
        self, pairs: Sequence[_Pair], done: dict[str, _Records], seconds: float
    ) -> Yielded:
        order = {pair: number for number, pair in enumerate(self._pairs)}
        ordered = sorted(pairs, key=lambda p: order[p.source, p.target])
        # Records that could not be read say nothing about their associations.
        complete = [
            (p.source, p.target) for p in ordered if p.complete and done[p.source].result.status == "complete"
        ]
        forbidden = [p for p in ordered if not p.complete and done[p.source].result.status == "complete"]
        self._progress.finish(tables.SOURCE, "associations")
        return (
            tables.associations_stream(complete),
            [file for pair in ordered for file in pair.files],
            StreamResult(
                tables.SOURCE,
                "associations",
                "complete",
                records=sum(pair.records for pair in ordered),
                requests=self._association_tally.requests,
                seconds=seconds,
                message="; ".join(pair.message for pair in forbidden if pair.message),
            ),
        )

    def _write(self, writer: LandingWriter, name: str, lines: bytes, records: int) -> None:
        writer.write(lines, records)
        self._progress.advance(tables.SOURCE, name, records)


class _Reader:
    """Reads and lands the records of one object."""

    def __init__(
        self,
        extraction: _Extraction,
        name: str,
        config: HubSpotObject,
        properties: Sequence[str],
        history: Sequence[str],
        tally: Tally,
    ) -> None:
        self._extraction = extraction
        self._client = extraction._client
        self._name = name
        self._type = config.object_type
        self._properties = properties
        self._history = history
        self._tally = tally
        self._keeps_ids = any(source == name for source, _ in extraction._pairs)
        self.files: list[LandedFile] = []
        self.records = 0
        self.ids: list[str] = []
        self.gone = 0

    def read_live(self) -> None:
        """Land all live records, with the history of the chosen properties."""
        self._read("live", archived=False, history=self._history)

    def read_archived(self) -> str:
        """Land all records in the recycle bin; returns a note if the object has none."""
        try:
            self._read("archived", archived=True, history=())
        except RejectedError as error:
            if error.status not in (400, 404, 405):
                raise
            return "HubSpot lists no archived records of it"
        return ""

    def _read(self, part: str, *, archived: bool, history: Sequence[str]) -> None:
        try:
            self._chain(part, archived=archived, history=history)
        except _ExpiredCursorError:
            # The list starts again; what has landed twice is one version all the same.
            self._chain(f"{part}-again", archived=archived, history=history)

    def _chain(self, part: str, *, archived: bool, history: Sequence[str]) -> None:
        limit = HISTORY_PAGE if history else PAGE
        path = self._client.list_path(
            self._type, self._properties, history, archived=archived, after="9" * 20, limit=limit
        )
        by_body = len(path) > MAX_ADDRESS
        cursors = Cursors(self._name)
        after: str | None = None
        ids: list[str] = []
        extraction = self._extraction
        with LandingWriter(extraction._root, tables.SOURCE, self._name, extraction._load, part) as writer:
            while True:
                path = self._client.list_path(
                    self._type,
                    ["hs_object_id"] if by_body else self._properties,
                    () if by_body else history,
                    archived=archived,
                    after=after,
                    limit=PAGE if by_body else limit,
                )
                try:
                    page = self._client.page(path, self._tally)
                except RejectedError as error:
                    if error.status == 400 and after is not None and not part.endswith("-again"):
                        raise _ExpiredCursorError from None
                    raise
                if by_body or (self._keeps_ids and not archived):
                    page_ids = ids_of(page.results)
                    ids += page_ids
                    if by_body:
                        self._read_by_body(writer, page_ids, archived=archived, history=history)
                if not by_body:
                    extraction._write(writer, self._name, lines_of(page.results), len(page.results))
                if (after := page.after) is None:
                    break
                cursors.check(after, page.results)
        self.files += writer.files
        self.records += sum(file.records for file in writer.files)
        if not archived:
            self.ids = list(dict.fromkeys(ids)) if self._keeps_ids else []

    def _read_by_body(
        self, writer: LandingWriter, ids: Sequence[str], *, archived: bool, history: Sequence[str]
    ) -> None:
        """Land records by id, because their properties do not fit into an address."""
        size = HISTORY_PAGE if history else PAGE
        for start in range(0, len(ids), size):
            missing = list(ids[start : start + size])
            for _ in range(2):  # what is missing is asked for once more; then it is gone
                if not missing:
                    break
                reply = self._client.batch_read(
                    self._type, missing, self._properties, history, archived=archived, tally=self._tally
                )
                self._extraction._write(writer, self._name, lines_of(reply.results), len(reply.results))
                found = set(ids_of(reply.results))
                missing = [i for i in missing if i not in found]
            self.gone += len(missing)


class _ExpiredCursorError(Exception):
    """A cursor that was given out is no longer accepted."""


def _failed_ids(errors: Sequence[PartialError]) -> list[str]:
    """Ids of a 207 answer that could not be read. Having no associations is not a failure."""
    return [
        record_id
        for error in errors
        if "NO_ASSOCIATIONS_FOUND" not in (error.subCategory or "") and error.category != "OBJECT_NOT_FOUND"
        for record_id in (error.context.fromObjectId or error.context.ids)
    ]
