"""Reads an Intercom workspace: people, companies, conversations with their parts, tickets, teammates, teams, tags.

The first run lists everything. Later runs search for what changed since the run before, by Intercom's own clock, with
an overlap; list what was deleted; and compare Intercom's count of an object with what the warehouse then holds. If
they differ, something went without leaving a trace, and everything is listed once more, so that what is gone is
noticed on the same day. Every ``intercom.full_list_days`` everything is listed again in any case.

Companies come from the one scroll a workspace allows, which counts only if it ended normally; parts of conversations
one conversation at a time (see `hub_pipeline.sources.intercom.parts`).

Privacy: what is landed is an allow-list of fields. The text of messages stays with Intercom; only lengths are kept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Generic

import msgspec

from hub_pipeline.errors import SourceUnavailableError
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.intercom import streams as tables
from hub_pipeline.sources.intercom.client import (
    CONTACTS,
    CONVERSATIONS,
    TICKETS,
    Contact,
    Conversation,
    DeletedConversation,
    IntercomClient,
    Ref,
    S,
    ScrollPage,
    Searched,
    Ticket,
)
from hub_pipeline.sources.intercom.parts import PartLine, PartNotes, PartPlan, part_lines
from hub_pipeline.sources.intercom.searches import Reader
from hub_pipeline.sources.jobs import Jobs
from hub_pipeline.sources.progress import Progress
from hub_pipeline.sources.transport import ForbiddenError, NoAnswerError, RejectedError, Tally
from hub_pipeline.warehouse.landing import LandedFile, LandingWriter, LoadContext
from hub_pipeline.warehouse.raw import Known, NothingKnown, RawStream, StreamResult

Yielded = tuple[RawStream, list[LandedFile], StreamResult]

_ENCODER = msgspec.json.Encoder()
_DAY = 86_400
#: A scroll that another client left open expires after a minute without use; together these outlast it.
SCROLL_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 20.0, 20.0)
#: How often the scroll over the companies is begun before Intercom counts as down.
SCROLL_STARTS = 4
#: Jobs that read at the same time: one for each object, and one for parts.
_READERS = 12


@dataclass(frozen=True)
class _Landed:
    """What one job landed."""

    files: list[LandedFile]
    message: str = ""
    state: Mapping[str, Any] | None = None


@dataclass
class _Count(Generic[S]):
    """What tells whether an incremental read has left something out: see `_Extraction._check`."""

    searched: Searched[S]
    counted: int
    asked_at: int
    later: set[str] = field(default_factory=set)

    def note(self, records: Sequence[S]) -> None:
        """Remember what was created only after Intercom had counted."""
        self.later.update(str(r.id) for r in records if (r.created_at or 0) > self.asked_at)


def extract(
    settings: Settings,
    environment: Environment,
    landing_root: Path,
    load: LoadContext,
    progress: Progress,
    known: Known = NothingKnown(),  # noqa: B008 - it has no state
) -> Iterator[Yielded]:
    """Read the workspace, yielding each object when it is complete; closing the iterator early cancels the rest.

    What is yielded must be loaded before the next item is asked for: then `known` tells what the warehouse holds.

    Yields:
        The stream (how its lines become rows), its landing files of this run, and what happened. An object that
        the token may not read comes without files and with the status ``forbidden``; one that the settings leave
        out with ``not_configured``. A second, full list of an object that was read incrementally is called
        ``<object>_census``.

    Raises:
        ConfigurationError: no or a wrong token, or an unknown API version.
        SourceUnavailableError: Intercom is down, limits us for longer than we wait, or the time budget is used up.
    """
    with IntercomClient(settings.intercom, environment) as client:
        yield from _Extraction(client, settings, landing_root, load, progress, known).run()


class _Extraction:
    def __init__(
        self,
        client: IntercomClient,
        settings: Settings,
        landing_root: Path,
        load: LoadContext,
        progress: Progress,
        known: Known,
    ) -> None:
        self._client = client
        self._settings = settings
        self._root = landing_root
        self._load = load
        self._progress = progress
        self._known = known
        self._counts: dict[str, _Count[Any]] = {}

    def run(self) -> Iterator[Yielded]:
        # The first answer tells whether address and token are right, and what time it is there.
        yield self._read(tables.workspace_stream(), self._workspace)
        self._started = self._client.server_time
        self._plan = self._part_plan()
        workers = self._settings.intercom.workers
        budget = self._client.budget
        with (
            Jobs("intercom-pages", workers, budget) as self._pages,
            Jobs("intercom", _READERS, budget) as jobs,
        ):
            jobs.submit(self._search, tables.conversations_stream(), CONVERSATIONS, self._conversations)
            jobs.submit(self._search, tables.contacts_stream(), CONTACTS, self._contacts)
            jobs.submit(self._read, tables.companies_stream(), self._companies)
            jobs.submit(self._read, tables.admins_stream(), self._admins)
            jobs.submit(self._read, tables.deleted_conversations_stream(), self._deleted_conversations)
            left_out = []
            for stream, job, *more in (
                (tables.teams_stream(), self._read, self._teams),
                (tables.tags_stream(), self._read, self._tags),
                (tables.tickets_stream(), self._search, TICKETS, self._tickets),
            ):
                if stream.object in self._settings.intercom.leave_out:
                    left_out.append(stream)
                else:
                    jobs.submit(job, stream, *more)
            for stream in left_out:
                message = "left out by intercom.leave_out"
                yield (
                    stream,
                    [],
                    StreamResult(tables.SOURCE, stream.object, "not_configured", message=message),
                )
            yield from self._outcomes(jobs)

    def _outcomes(self, jobs: Jobs) -> Iterator[Yielded]:
        """Outcomes as they come; what follows from one starts as soon as that one has been loaded."""
        complete: dict[str, bool] = {}
        checks: dict[str, tuple[RawStream, Searched[Any], Callable[..., Any], set[str]]] = {
            "contacts": (tables.contacts_stream(), CONTACTS, self._contacts, {"contacts"}),
            "tickets": (tables.tickets_stream(), TICKETS, self._tickets, {"tickets"}),
            "conversations": (
                tables.conversations_stream(),
                CONVERSATIONS,
                self._conversations,
                {"conversations", "deleted_conversations"},
            ),
        }
        for outcome in jobs.outcomes():
            if outcome is None:  # a check that found nothing missing
                continue
            yield outcome
            name = outcome[0].object
            complete[name] = outcome[2].status == "complete"
            for checked, (stream, searched, job, after) in list(checks.items()):
                if name in after and after <= complete.keys():
                    del checks[checked]
                    if complete[checked] and checked in self._counts:
                        jobs.submit(self._check, stream, searched, job)
        stream = tables.conversation_parts_stream()
        if complete.get("conversations"):
            yield self._read(stream, self._all_parts)
        else:
            message = "The conversations could not be read."
            yield stream, [], StreamResult(tables.SOURCE, stream.object, "forbidden", message=message)

    # One object

    def _read(self, stream: RawStream, job: Callable[[Tally], _Landed]) -> Yielded:
        """Run the job that lands one object."""
        started = time.monotonic()
        tally = Tally()
        name = stream.object
        self._progress.start(tables.SOURCE, name, None)
        result = StreamResult(tables.SOURCE, name, "complete")
        landed = _Landed([])
        try:
            landed = job(tally)
            records = sum(file.records for file in landed.files)
            result = replace(result, records=records, message=landed.message, state=landed.state)
        except ForbiddenError as error:
            result = replace(result, status="forbidden", message=str(error))
        self._progress.finish(tables.SOURCE, name)
        result = replace(result, requests=tally.requests, seconds=time.monotonic() - started)
        return stream, landed.files, result

    def _land(self, name: str, pages: Iterable[Sequence[Any]], part: str = "0") -> list[LandedFile]:
        """Land pages of records; if a page does not come, what was begun is dropped."""
        with LandingWriter(self._root, tables.SOURCE, name, self._load, part) as writer:
            for records in pages:
                writer.write(_ENCODER.encode_lines(records), len(records))
                self._progress.advance(tables.SOURCE, name, len(records))
        return writer.files

    def _workspace(self, tally: Tally) -> _Landed:
        return _Landed(self._land("workspace", [[self._client.me(tally)]]))

    def _admins(self, tally: Tally) -> _Landed:
        return _Landed(self._land("admins", [self._client.admins(tally)]))

    def _teams(self, tally: Tally) -> _Landed:
        return _Landed(self._land("teams", [self._client.teams(tally)]))

    def _tags(self, tally: Tally) -> _Landed:
        return _Landed(self._land("tags", [self._client.tags(tally)]))

    # Contacts, conversations, tickets

    def _search(
        self,
        stream: RawStream,
        searched: Searched[S],
        prepare: Callable[[Sequence[S], Tally], Sequence[S]],
    ) -> Yielded:
        """Read what changed since the last run, or everything if that is due.

        Args:
            stream: the object.
            searched: how it is searched.
            prepare: completes the records of a page.
        """
        since = self._since(stream)
        if since is None:
            return self._full(stream, searched, prepare)
        incremental = replace(stream, snapshot=False)
        return self._read(
            incremental, lambda tally: self._changed(incremental, searched, prepare, since, tally)
        )

    def _since(self, stream: RawStream) -> int | None:
        """From when on changes are to be read; None = everything is."""
        state = self._known.state(tables.SOURCE, stream.object)
        if state.get("shape") != self._shape(stream):
            return None
        census = self._known.state(tables.SOURCE, f"{stream.object}_census")
        last_full = max(int(state["full_at"]), int(census.get("full_at", 0)))
        # A run starts a little earlier or later than a day after the one before.
        if self._started - last_full >= self._settings.intercom.full_list_days * _DAY - _DAY // 2:
            return None
        since = int(state["read_to"]) - self._settings.intercom.overlap_minutes * 60
        if stream.object == "conversations":
            # Their parts may have been read less far than the conversations themselves.
            since = min(since, self._plan.since)
        return since if since > 0 else None

    def _shape(self, stream: RawStream) -> str:
        """Changes whenever records read before would look different if they were read today."""
        said = [stream.columns, stream.select, self._settings.intercom.api_version]
        return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:16]

    def _full(
        self,
        stream: RawStream,
        searched: Searched[S],
        prepare: Callable[[Sequence[S], Tally], Sequence[S]],
    ) -> Yielded:
        def job(tally: Tally) -> _Landed:
            files: dict[str, list[LandedFile]] = {}

            def land(part: str, pages: Iterable[Sequence[S]]) -> int:
                prepared = (prepare(page, tally) for page in pages)
                files[part] = self._land(stream.object, prepared, part)
                return sum(file.records for file in files[part])

            reader = Reader(self._client, searched, tally, self._pages)
            reader.full(land)
            state = {"read_to": self._started, "full_at": self._started, "shape": self._shape(stream)}
            return _Landed([file for part in sorted(files) for file in files[part]], reader.note, state)

        return self._read(stream, job)

    def _changed(
        self,
        stream: RawStream,
        searched: Searched[S],
        prepare: Callable[[Sequence[S], Tally], Sequence[S]],
        since: int,
        tally: Tally,
    ) -> _Landed:
        count = _Count(searched, self._client.count(searched, tally=tally), self._client.server_time)
        reader = Reader(self._client, searched, tally, self._pages)
        note = ""

        def pages() -> Iterator[Sequence[S]]:
            nonlocal note
            for page in reader.changed_since(since):
                count.note(page)
                yield prepare(page, tally)
            if searched.name == "conversations":
                # It is not documented that a rating changes updated_at.
                replied = {"field": "conversation_rating.replied_at", "operator": ">", "value": since - 1}
                try:
                    for page in reader.found(replied):
                        yield prepare(page, tally)
                except RejectedError as error:
                    note = (
                        f"late ratings were not searched for ({error.reason}); those that leave updated_at as it "
                        "was are found by the next full list"
                    )

        files = self._land(stream.object, pages())
        self._counts[stream.object] = count
        state = dict(self._known.state(tables.SOURCE, stream.object)) | {"read_to": self._started}
        return _Landed(files, note, state)

    def _check(
        self,
        stream: RawStream,
        searched: Searched[S],
        prepare: Callable[[Sequence[S], Tally], Sequence[S]],
    ) -> Yielded | None:
        """List everything once more if the warehouse does not hold what Intercom has counted.

        The warehouse then holds what it held before and all that changed; Intercom counted before the changes were
        read. What was created in between is in the warehouse alone and is left aside. A difference that remains
        is a record that vanished without a trace, or one that the search did not show yet.
        """
        count = self._counts[stream.object]
        held = self._known.live_count(tables.SOURCE, stream.table) - len(count.later)
        if held == count.counted:
            return None
        census = replace(stream, object=f"{stream.object}_census")
        census, files, result = self._full(census, searched, prepare)
        reason = f"Intercom counted {count.counted} and {held} were known, so all were listed"
        return census, files, replace(result, message="; ".join(filter(None, (reason, result.message))))

    def _contacts(self, page: Sequence[Contact], tally: Tally) -> Sequence[Contact]:
        for contact in page:
            if contact.companies is not None and contact.companies.has_more:
                contact.companies.data = self._companies_of(str(contact.id), tally)
        return page

    def _companies_of(self, contact_id: str, tally: Tally) -> list[Ref]:
        """All companies of a contact that has more than the ten that come with it."""
        found: list[Ref] = []
        number = 1
        while True:
            try:
                page = self._client.companies_of(contact_id, number, tally)
            except RejectedError as error:
                if error.status not in (404, 410):
                    raise
                return found  # deleted or merged since it was listed: the next list says so
            found += page.data
            if not page.data or page.pages is None or number >= page.pages.total_pages:
                return found
            number += 1

    def _conversations(self, page: Sequence[Conversation], tally: Tally) -> Sequence[Conversation]:
        for conversation in page:
            self._plan.note(conversation)
        return page

    def _tickets(self, page: Sequence[Ticket], tally: Tally) -> Sequence[Ticket]:
        return page

    def _deleted_conversations(self, tally: Tally) -> _Landed:
        """Conversations deleted since the last run, the latest first until one is old enough to be known."""
        state = self._known.state(tables.SOURCE, "deleted_conversations")
        overlap = self._settings.intercom.overlap_minutes * 60
        since = int(state.get("read_to", self._started)) - overlap

        def pages() -> Iterator[list[DeletedConversation]]:
            number = 1
            while True:
                page = self._client.deleted_conversations(number, tally)
                known = [one for one in page.data if one.deleted_at is not None and one.deleted_at < since]
                yield [
                    DeletedConversation(one.id, one.deleted_at or self._started)
                    for one in page.data
                    if one.deleted_at is None or one.deleted_at >= since
                ]
                if not page.data or known or page.pages is None or number >= page.pages.total_pages:
                    return
                number += 1

        try:
            files = self._land("deleted_conversations", pages())
        except RejectedError as error:
            if error.status not in (400, 404):
                raise
            version = self._settings.intercom.api_version
            return _Landed(
                [],
                f"API version {version} has no list of deleted conversations ({error.reason}); deletions are "
                "noticed by counting",
            )
        return _Landed(files, state={"read_to": self._started})

    # Companies

    def _companies(self, tally: Tally) -> _Landed:
        """The scroll over all companies, begun again from the start whenever it breaks off."""

        def pages() -> Iterator[Sequence[Any]]:
            parameter: str | None = None
            while True:
                page = self._client.scroll(parameter, tally) if parameter else self._open_scroll(tally)
                if not page.data:
                    return
                yield page.data
                if page.scroll_param is None:
                    raise RejectedError("Intercom's scroll names no next page.", 404, "no scroll_param")
                parameter = page.scroll_param

        for start in range(SCROLL_STARTS):
            try:
                files = self._land("companies", pages(), str(start))
                return _Landed(files, f"begun {start + 1} times" if start else "")
            except NoAnswerError as error:
                trouble = str(error)
            except RejectedError as error:
                if error.status != 404:  # 404: the scroll has expired
                    raise
                trouble = error.reason
            if start + 1 < SCROLL_STARTS:
                self._client.budget.sleep(SCROLL_WAITS[0], trouble)
        raise SourceUnavailableError(
            f"Intercom broke off its scroll over the companies {SCROLL_STARTS} times ({trouble}). Objects that were "
            "complete are kept and nothing was published; run again later."
        )

    def _open_scroll(self, tally: Tally) -> ScrollPage:
        for pause in (*SCROLL_WAITS, None):
            try:
                return self._client.scroll(None, tally)
            except RejectedError as error:
                if "scroll_exists" not in error.reason:
                    raise
                if pause is not None:
                    self._client.budget.sleep(pause, "another scroll over the companies is open")
        raise SourceUnavailableError(
            "Another program keeps a scroll over Intercom's companies open, and a workspace allows only one. "
            "Objects that were complete are kept and nothing was published; run again when it has finished."
        )

    # Parts

    def _part_plan(self) -> PartPlan:
        settings = self._settings
        window = self._load.close - timedelta(days=settings.interactions.days)
        tiers = settings.intercom.parts_tiers
        return PartPlan(
            settings,
            int(window.replace(tzinfo=UTC).timestamp()),
            self._known.state(tables.SOURCE, "conversation_parts"),
            self._known.companies_in_tiers(tiers) if tiers else None,
        )

    def _all_parts(self, tally: Tally) -> _Landed:
        notes = PartNotes()

        def read(conversation_id: str) -> list[PartLine]:
            try:
                return part_lines(self._client.conversation(conversation_id, tally), notes)
            except RejectedError as error:
                if error.status != 404:
                    raise
                notes.deleted += 1  # since the search
                return []

        synthetic = self._plan.synthetic
        pages = chain([synthetic] if synthetic else [], self._pages.map(read, self._plan.ids))
        files = self._land("conversation_parts", pages)
        return _Landed(files, notes.text(), self._plan.state(self._started))
