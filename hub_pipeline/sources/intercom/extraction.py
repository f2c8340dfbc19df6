"""Reads an Intercom workspace in full: contacts, companies, conversations, teammates, and parts of conversations.

Contacts and conversations come from searches over everything; companies from the one scroll a workspace allows,
which counts only if it ended normally; parts of conversations one conversation at a time, for those changed within
the interaction window (settings.intercom.parts).

Privacy: what is landed is an allow-list of fields. The text of messages stays with Intercom; only lengths are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hub_pipeline.errors import SourceUnavailableError
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.intercom import streams as tables
from hub_pipeline.sources.intercom.client import (
    WORKERS,
    Author,
    Contact,
    ContactPage,
    Conversation,
    ConversationPage,
    Detail,
    IntercomClient,
    Ref,
    ScrollPage,
)
from hub_pipeline.sources.jobs import Jobs
from hub_pipeline.sources.progress import Progress
from hub_pipeline.sources.transport import ForbiddenError, NoAnswerError, RejectedError, Tally
from hub_pipeline.warehouse.landing import LandedFile, LandingWriter, LoadContext
from hub_pipeline.warehouse.raw import Known, NothingKnown, RawStream, StreamResult

Yielded = tuple[RawStream, list[LandedFile], StreamResult]

_ENCODER = msgspec.json.Encoder()
#: A scroll that another client left open expires after a minute without use; together these outlast it.
SCROLL_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 20.0, 20.0)
#: How often the scroll over the companies is begun before Intercom counts as down.
SCROLL_STARTS = 4

_CONTACT_AUTHORS = {"contact", "user", "lead"}
_ADMIN_AUTHORS = {"admin", "team"}


class PartLine(msgspec.Struct):
    """One landed part of a conversation."""

    conversation_id: str
    part_id: str
    author_type: str
    author_id: str | None
    part_type: str
    body_length: int | None
    is_synthetic: bool
    created_at: int | None


def extract(
    settings: Settings,
    environment: Environment,
    landing_root: Path,
    load: LoadContext,
    progress: Progress,
    known: Known = NothingKnown(),  # noqa: B008 - it has no state
) -> Iterator[Yielded]:
    """Read the workspace, yielding each object when it is complete; closing the iterator early cancels the rest.

    Yields:
        The stream (how its lines become rows), its landing files of this run, and what happened. An object that
        the token may not read comes without files and with the status ``forbidden``.

    Raises:
        ConfigurationError: no or a wrong token, or an unknown API version.
        SourceUnavailableError: Intercom is down, limits us for longer than we wait, or the time budget is used up.
    """
    with IntercomClient(settings.intercom, environment) as client:
        yield from _Extraction(client, settings, landing_root, load, progress).run()


class _Extraction:
    def __init__(
        self,
        client: IntercomClient,
        settings: Settings,
        landing_root: Path,
        load: LoadContext,
        progress: Progress,
    ) -> None:
        self._client = client
        self._parts = settings.intercom.parts
        window = load.close - timedelta(days=settings.interactions.days)
        self._window_start = int(window.replace(tzinfo=UTC).timestamp())
        self._root = landing_root
        self._load = load
        self._progress = progress
        self._part_ids: list[str] = []
        self._synthetic: list[PartLine] = []

    def run(self) -> Iterator[Yielded]:
        # The first answer tells whether address and token are right.
        yield self._read(tables.workspace_stream(), self._workspace)
        read_conversations = False
        with Jobs("intercom", WORKERS, self._client.budget) as jobs:
            jobs.submit(self._read, tables.conversations_stream(), self._conversations)
            jobs.submit(self._read, tables.contacts_stream(), self._contacts)
            jobs.submit(self._read, tables.companies_stream(), self._companies)
            jobs.submit(self._read, tables.admins_stream(), self._admins)
            for outcome in jobs.outcomes():
                if outcome[0].object == "conversations":
                    read_conversations = outcome[2].status == "complete"
                yield outcome
            stream = tables.conversation_parts_stream()
            if read_conversations:
                yield self._read(stream, lambda tally: self._all_parts(jobs, tally))
            else:
                result = StreamResult(
                    tables.SOURCE, stream.object, "forbidden", message="The conversations could not be read."
                )
                yield stream, [], result

    def _read(self, stream: RawStream, job: Callable[[Tally], tuple[list[LandedFile], str]]) -> Yielded:
        """Run the job that lands one object; it gives the files and a note for people."""
        started = time.monotonic()
        tally = Tally()
        name = stream.object
        self._progress.start(tables.SOURCE, name, None)
        result = StreamResult(tables.SOURCE, name, "complete")
        files: list[LandedFile] = []
        try:
            files, message = job(tally)
            result = replace(result, records=sum(file.records for file in files), message=message)
        except ForbiddenError as error:
            result = replace(result, status="forbidden", message=str(error))
        self._progress.finish(tables.SOURCE, name)
        return stream, files, replace(result, requests=tally.requests, seconds=time.monotonic() - started)

    def _land(self, name: str, pages: Iterable[Sequence[Any]], part: str = "0") -> list[LandedFile]:
        """Land pages of records; if a page does not come, what was begun is dropped."""
        with LandingWriter(self._root, tables.SOURCE, name, self._load, part) as writer:
            for records in pages:
                writer.write(_ENCODER.encode_lines(records), len(records))
                self._progress.advance(tables.SOURCE, name, len(records))
        return writer.files

    def _workspace(self, tally: Tally) -> tuple[list[LandedFile], str]:
        return self._land("workspace", [[self._client.me(tally)]]), ""

    def _admins(self, tally: Tally) -> tuple[list[LandedFile], str]:
        return self._land("admins", [self._client.admins(tally)]), ""

    def _contacts(self, tally: Tally) -> tuple[list[LandedFile], str]:
        count = _Count("contacts")

        def pages() -> Iterator[list[Contact]]:
            for page in count.pages(lambda after: self._client.contacts(after, tally)):
                for contact in page.data:
                    if contact.companies is not None and contact.companies.has_more:
                        contact.companies.data = self._companies_of(str(contact.id), tally)
                yield page.data

        return self._land("contacts", pages()), count.note

    def _companies_of(self, contact_id: str, tally: Tally) -> list[Ref]:
        """All companies of a contact that has more than the ten that come with it."""
        found: list[Ref] = []
        number = 1
        while True:
            page = self._client.companies_of(contact_id, number, tally)
            found += page.data
            if not page.data or page.pages is None or number >= page.pages.total_pages:
                return found
            number += 1

    def _companies(self, tally: Tally) -> tuple[list[LandedFile], str]:
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
                return self._land(
                    "companies", pages(), str(start)
                ), f"begun {start + 1} times" if start else ""
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

    def _conversations(self, tally: Tally) -> tuple[list[LandedFile], str]:
        count = _Count("conversations")

        def pages() -> Iterator[list[Conversation]]:
            for page in count.pages(lambda after: self._client.conversations(after, tally)):
                for conversation in page.conversations:
                    self._note_parts(conversation)
                yield page.conversations

        return self._land("conversations", pages()), count.note

    # Parts

    def _note_parts(self, conversation: Conversation) -> None:
        """Remember what is to be known of a conversation's parts."""
        changed = conversation.updated_at or 0
        if self._parts == "all" or (self._parts == "window" and changed >= self._window_start):
            self._part_ids.append(str(conversation.id))
        elif self._parts == "none" and conversation.statistics is not None:
            replied = conversation.statistics.last_contact_reply_at
            if replied:
                contacts = conversation.contacts.contacts if conversation.contacts else []
                self._synthetic.append(
                    PartLine(
                        conversation_id=str(conversation.id),
                        part_id=f"last_contact_reply:{replied}",
                        author_type="contact",
                        author_id=str(contacts[0].id) if contacts else None,
                        part_type="synthetic",
                        body_length=None,
                        is_synthetic=True,
                        created_at=replied,
                    )
                )

    def _all_parts(self, jobs: Jobs, tally: Tally) -> tuple[list[LandedFile], str]:
        # A conversation that moved to the end of the search while it was read has come twice.
        ids = list(dict.fromkeys(self._part_ids))
        notes = _PartNotes()

        def read(conversation_id: str) -> list[PartLine]:
            try:
                return part_lines(self._client.conversation(conversation_id, tally), notes)
            except RejectedError as error:
                if error.status != 404:
                    raise
                notes.deleted += 1  # since the search
                return []

        pages = chain([self._synthetic] if self._synthetic else [], jobs.map(read, ids))
        return self._land("conversation_parts", pages), notes.text()


class _PartNotes:
    """What is worth telling about the parts that were read."""

    def __init__(self) -> None:
        self.deleted = 0
        self.cut_off = 0

    def text(self) -> str:
        """The note, empty if there is nothing to tell."""
        notes = []
        if self.deleted:
            notes.append(f"{self.deleted} conversations were deleted while they were read")
        if self.cut_off:
            notes.append(f"of {self.cut_off} conversations Intercom gives only the 500 latest parts")
        return "; ".join(notes)


def part_lines(detail: Detail, notes: _PartNotes) -> list[PartLine]:
    """The message that opened a conversation and its later parts, without their text."""
    conversation_id = str(detail.id)
    lines: list[PartLine] = []
    if detail.source is not None:
        lines.append(
            _line(conversation_id, "0", detail.source.author, "source", detail.source.body, detail.created_at)
        )
    parts = detail.conversation_parts
    if parts is not None:
        lines += [
            _line(conversation_id, str(p.id), p.author, p.part_type or "", p.body, p.created_at)
            for p in parts.conversation_parts
        ]
        notes.cut_off += parts.total_count > len(parts.conversation_parts)
    return lines


def _line(
    conversation_id: str,
    part_id: str,
    author: Author,
    part_type: str,
    body: str | None,
    created_at: int | None,
) -> PartLine:
    if author.type in _CONTACT_AUTHORS:
        author_type = "contact"
    elif author.type in _ADMIN_AUTHORS:
        author_type = "admin"
    else:
        author_type = "bot"
    return PartLine(
        conversation_id=conversation_id,
        part_id=part_id,
        author_type=author_type,
        author_id=None if author.id is None else str(author.id),
        part_type=part_type,
        body_length=None if body is None else len(body),
        is_synthetic=False,
        created_at=created_at,
    )


Page = TypeVar("Page", ContactPage, ConversationPage)


class _Count:
    """Walks the pages of a search and compares what came with what Intercom counted."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._listed = 0
        self._counted = 0

    def pages(self, ask: Callable[[str | None], Page]) -> Iterator[Page]:
        """Every page.

        Raises:
            SourceUnavailableError: the search goes round in circles, or gives nothing of what it counts.
        """
        seen: set[str] = set()
        after: str | None = None
        while True:
            page = ask(after)
            self._listed += len(page.data if isinstance(page, ContactPage) else page.conversations)
            self._counted = page.total_count
            yield page
            following = page.pages.next if page.pages else None
            after = following.starting_after if following else None
            if after is None:
                break
            if after in seen:
                raise SourceUnavailableError(
                    f"Intercom's search of {self._name} goes round in circles: the same page comes again and again. "
                    "Objects that were complete are kept and nothing was published; run again later."
                )
            seen.add(after)
        if self._counted and not self._listed:
            raise SourceUnavailableError(
                f"Intercom counts {self._counted} {self._name} and lists none. Objects that were complete are kept "
                "and nothing was published; run again later."
            )

    @property
    def note(self) -> str:
        """A difference worth telling, else empty. Listed twice while it changed is no difference."""
        if self._listed < self._counted:
            return f"Intercom counted {self._counted} {self._name} and listed {self._listed}"
        return ""
