"""Reads a HubSpot portal: each configured object, in full or what changed, then what refers to them.

Objects are read at the same time, all through one pacer. An object is yielded when all of it has landed, so loading
overlaps fetching. What is asked for one object: its property definitions, its records (`records`), and the recycle
bin. Associations follow as soon as the object is loaded, and when all objects are, HubSpot's own count of records
decides whose ids must be compared (`census`).

How completeness is known: a page without ``results`` is an error and never an empty page; a cursor that comes again
is an error and never an end; a list is held against the count of the search index; what the warehouse holds in the
end is held against HubSpot's own count; and the shrink guard looks at what would be deleted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.settings import Environment, HubSpotObject, Settings
from hub_pipeline.sources.hubspot import streams as tables
from hub_pipeline.sources.hubspot.associations import NAME as ASSOCIATIONS
from hub_pipeline.sources.hubspot.associations import AssociationSweep, Pair
from hub_pipeline.sources.hubspot.census import take_census, why_census
from hub_pipeline.sources.hubspot.client import TYPE_IDS, HubSpotClient, PropertyDefinition
from hub_pipeline.sources.hubspot.plan import State, digest_of_reads, make_plan
from hub_pipeline.sources.hubspot.records import ObjectReader, Run
from hub_pipeline.sources.hubspot.reference import Reference, Yielded
from hub_pipeline.sources.jobs import Jobs
from hub_pipeline.sources.progress import Progress
from hub_pipeline.sources.transport import ForbiddenError, RejectedError, Tally
from hub_pipeline.warehouse.landing import LandedFile, LoadContext
from hub_pipeline.warehouse.raw import Known, NothingKnown, RawStream, StreamResult

_DEFINITIONS = msgspec.json.Decoder(PropertyDefinition)


def extract(
    settings: Settings,
    environment: Environment,
    landing_root: Path,
    load: LoadContext,
    progress: Progress,
    known: Known = NothingKnown(),  # noqa: B008 - it has no state
) -> Iterator[Yielded]:
    """Read everything the settings name, yielding each object when it is complete.

    Whoever takes an object must have loaded it when asking for the next: `known` is asked again then. Closing the
    iterator early cancels what is still being read. What an earlier run for the same day landed of a list that it
    did not bring to its end is not read again: its files are yielded with those of this run.

    Args:
        settings: what is read, and how.
        environment: address, token and API version.
        landing_root: folder of the landing files.
        load: the run they belong to.
        progress: told of every page.
        known: the warehouse; without one everything is read in full.

    Yields:
        The stream (how its lines become rows), its landing files, and what happened. An optional object that the
        token may not read, or that the portal does not have, comes without files and with the status ``forbidden``
        or ``not_configured``.

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
        reference = Reference(client, settings, landing_root, load, progress)
        # The first answer tells whether address and token are right, before many requests ask the same.
        yield reference.account()
        run = Run(client, settings.hubspot, landing_root, load, progress, known, client.server_time())
        yield from _Extraction(run, settings, reference).read()


@dataclass
class _Object:
    """One object that was read, or the reason why not."""

    name: str
    stream: RawStream
    files: list[LandedFile]
    result: StreamResult
    definitions: list[msgspec.Raw] | None = None  # None: not read
    properties: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    state: State = field(default_factory=State)
    ids: list[str] | None = None  # live ones; None: the warehouse knows them


class _Extraction:
    def __init__(self, run: Run, settings: Settings, reference: Reference) -> None:
        self._run = run
        self._objects = settings.hubspot.objects
        self._reference = reference
        self._pairs = [
            (source, target)
            for source, target in dict.fromkeys(settings.hubspot.associations)
            if source in self._objects and target in self._objects
        ]

    def read(self) -> Iterator[Yielded]:
        started = time.monotonic()
        run = self._run
        done: dict[str, _Object] = {}
        pairs: list[Pair] = []
        sweep = AssociationSweep(run, self._objects, self._pairs)
        with Jobs("hubspot", run.settings.workers, run.client.budget) as jobs:
            run.progress.start(tables.SOURCE, ASSOCIATIONS, None)
            for name, config in self._objects.items():
                jobs.submit(self._read_object, name, config)
            for job in self._reference.jobs():
                jobs.submit(job)
            for outcome in jobs.outcomes():
                if isinstance(outcome, _Object):
                    yield outcome.stream, outcome.files, outcome.result
                    done[outcome.name] = outcome
                    if outcome.result.status == "complete":
                        jobs.submit(sweep.from_object, outcome.name, outcome.ids)
                    if len(done) == len(self._objects) and run.remembers:
                        jobs.submit(self._censuses, done)
                elif isinstance(outcome, _Censuses):
                    for census in outcome.jobs:
                        jobs.submit(census)
                elif isinstance(outcome, list):
                    pairs += outcome
                else:
                    yield outcome
            yield self._reference.properties(
                {
                    name: done[name].definitions or []
                    for name in self._objects
                    if done[name].definitions is not None
                }
            )
            run.progress.finish(tables.SOURCE, ASSOCIATIONS)
            read = [name for name, one in done.items() if one.result.status == "complete"]
            yield sweep.result(pairs, read, time.monotonic() - started)

    def _censuses(self, done: dict[str, _Object]) -> _Censuses:
        """For which objects the ids must be compared, by HubSpot's own count of records."""
        run = self._run
        try:
            usage = run.client.record_usage()
        except (ForbiddenError, RejectedError):  # then the days alone decide
            usage = {}
        found = _Censuses([])
        for name, one in done.items():
            config = self._objects[name]
            if one.result.status != "complete":
                continue
            why = why_census(run, name, config, one.state, usage)
            if why is not None:
                counted = usage.get(TYPE_IDS.get(config.object_type, config.object_type))
                job = partial(take_census, run, name, config, one.properties, one.history, why, counted)
                found.jobs.append(job)
        return found

    def _read_object(self, name: str, config: HubSpotObject) -> _Object:
        started = time.monotonic()
        run, tally = self._run, Tally()
        run.progress.start(tables.SOURCE, name, None)
        try:
            definitions = run.client.properties(config.object_type, tally)
        except (ForbiddenError, RejectedError) as error:
            return self._unreadable(name, config, error, tally, started)
        existing = tables.oldest_first(map(_DEFINITIONS.decode, definitions))
        properties = tables.properties_to_read(config, existing)
        history = [p for p in config.history if p in properties]
        state = State.of(run.known.state(tables.SOURCE, name))
        reads = digest_of_reads(properties, history)
        live = run.known.live_count(tables.SOURCE, name)
        plan = make_plan(config.object_type, existing, reads, state, run.started, live, run.settings)
        wanted = any(source == name for source, _ in self._pairs)
        reader = ObjectReader(
            run, name, config, properties, history, tally, keep_ids=wanted and not run.remembers
        )
        try:
            reader.read(plan, live)
        except ForbiddenError as error:
            return self._unreadable(name, config, error, tally, started)
        notes = reader.notes
        absent = sorted(
            {p for p in (*config.properties.values(), *config.history) if p and p not in properties}
        )
        if absent:
            notes.append(f"properties the portal does not have: {', '.join(absent)}")
        if reader.gone:
            notes.append(f"{reader.gone} records were deleted while they were read")
        run.progress.finish(tables.SOURCE, name)
        after = reader.next_state(state, reads)
        stream = tables.object_stream(name, properties, history)
        if reader.plan.mode == "changes":
            stream = replace(stream, snapshot=False)
        return _Object(
            name,
            stream,
            reader.files,
            StreamResult(
                tables.SOURCE,
                name,
                "complete",
                records=reader.records,
                requests=tally.requests,
                seconds=time.monotonic() - started,
                message="; ".join(notes),
                state=after.to_json(),
            ),
            definitions,
            properties,
            history,
            after,
            None if run.remembers else reader.ids,
        )

    def _unreadable(
        self,
        name: str,
        config: HubSpotObject,
        error: ForbiddenError | RejectedError,
        tally: Tally,
        started: float,
    ) -> _Object:
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
        self._run.progress.finish(tables.SOURCE, name)
        return _Object(
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


@dataclass
class _Censuses:
    """The censuses that have to be taken."""

    jobs: list[partial[Yielded]]
