"""What a HubSpot portal says about itself: account, owners, users, pipelines, chosen lists, property definitions.

Small lists, read in full by every run, each landed as one stream. One that the token may not read is left out with
the status ``forbidden``, one that this portal does not have with ``not_configured``; the rest is read all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from hub_pipeline.settings import Settings
from hub_pipeline.sources.hubspot import streams as tables
from hub_pipeline.sources.hubspot.client import WITH_PIPELINES, HubSpotClient, Page
from hub_pipeline.sources.hubspot.pages import Cursors, lines_of, wrapped
from hub_pipeline.sources.progress import Progress
from hub_pipeline.sources.transport import ForbiddenError, RejectedError, Tally
from hub_pipeline.warehouse.landing import LandedFile, LandingWriter, LoadContext
from hub_pipeline.warehouse.raw import RawStream, StreamResult

Yielded = tuple[RawStream, list[LandedFile], StreamResult]
"""What `extract` yields for one stream: how its lines become rows, its files, what happened."""

Write = Callable[[bytes, int], None]
"""Takes NDJSON lines and the number of records in them."""


class Reference:
    """Reads the reference data of one portal.

    Args:
        client: asks the portal.
        settings: which objects there are.
        landing_root: folder of the landing files.
        load: the run they belong to.
        progress: told of every list.
    """

    def __init__(
        self,
        client: HubSpotClient,
        settings: Settings,
        landing_root: Path,
        load: LoadContext,
        progress: Progress,
    ) -> None:
        self._client = client
        self._settings = settings.hubspot
        self._objects = settings.hubspot.objects
        self._root = landing_root
        self._load = load
        self._progress = progress

    def account(self) -> Yielded:
        """The portal itself: the first thing to ask, because it tells whether address and token are right."""

        def read(write: Write, tally: Tally) -> None:
            write(lines_of([self._client.account(tally)]), 1)

        return self._landed(tables.account_stream(), read)

    def jobs(self) -> list[Callable[[], Yielded]]:
        """The lists that depend on nothing else, to be read while the objects are."""
        jobs = [self._owners, self._pipelines]
        if self._settings.users:
            jobs.append(self._users)
        if self._settings.lists:
            jobs += [self._lists, self._list_memberships]
        return jobs

    def properties(self, definitions: Mapping[str, Sequence[msgspec.Raw]]) -> Yielded:
        """Land property definitions that were read with the objects (object name -> its definitions)."""

        def read(write: Write, tally: Tally) -> None:
            for name, rows in definitions.items():
                write(wrapped(rows, object=name), len(rows))

        return self._landed(tables.properties_stream(list(definitions)), read)

    def _owners(self) -> Yielded:
        def read(write: Write, tally: Tally) -> None:
            for archived in (False, True):

                def ask(after: str | None, archived: bool = archived) -> Page:
                    return self._client.owners_page(after, archived, tally)

                for page in _pages("owners", ask):
                    write(lines_of(page.results), len(page.results))

        return self._landed(tables.owners_stream(), read)

    def _users(self) -> Yielded:
        def read(write: Write, tally: Tally) -> None:
            for page in _pages("users", lambda after: self._client.users_page(after, tally)):
                write(lines_of(page.results), len(page.results))

        advice = "Give it that scope, or set hubspot.users to false."
        return self._landed(tables.users_stream(), read, advice)

    def _pipelines(self) -> Yielded:
        asked = [n for n, config in self._objects.items() if config.object_type in WITH_PIPELINES]
        unread: list[str] = []

        def read(write: Write, tally: Tally) -> str:
            for name in asked:
                try:
                    records = self._client.pipelines(self._objects[name].object_type, tally)
                except (ForbiddenError, RejectedError) as error:
                    if not self._objects[name].optional or getattr(error, "status", 404) not in (400, 404):
                        raise
                    unread.append(name)
                    continue
                write(wrapped(records, object=name), len(records))
            return f"pipelines of {', '.join(unread)} could not be read" if unread else ""

        stream, files, result = self._landed(tables.pipelines_stream(asked), read)
        if unread:  # nothing is said about the stages of what could not be read
            stream = tables.pipelines_stream([name for name in asked if name not in unread])
        return stream, files, result

    def _lists(self) -> Yielded:
        def read(write: Write, tally: Tally) -> str:
            def one(list_id: str) -> None:
                write(lines_of([self._client.list_definition(list_id, tally)]), 1)

            return self._each_list(one)

        return self._landed(tables.lists_stream(self._settings.lists), read)

    def _list_memberships(self) -> Yielded:
        def read(write: Write, tally: Tally) -> str:
            def one(list_id: str) -> None:
                def ask(after: str | None) -> Page:
                    return self._client.members_page(list_id, after, tally)

                for page in _pages(f"members of list {list_id}", ask):
                    write(wrapped(page.results, list_id=list_id), len(page.results))

            return self._each_list(one)

        return self._landed(tables.list_memberships_stream(self._settings.lists), read)

    def _each_list(self, read: Callable[[str], None]) -> str:
        """Read each chosen list; a list that HubSpot does not have has no members and is named."""
        absent = []
        for list_id in dict.fromkeys(self._settings.lists):
            try:
                read(list_id)
            except RejectedError as error:
                if error.status != 404:
                    raise
                absent.append(list_id)
        return f"the portal does not have the list {', '.join(absent)}" if absent else ""

    def _landed(
        self, stream: RawStream, read: Callable[[Write, Tally], str | None], advice: str = ""
    ) -> Yielded:
        """Land one stream; ``read`` writes it and may give a message.

        Without the scope for it, it comes without files and is not complete. Where there is ``advice``, a portal may
        also be without it.
        """
        started = time.monotonic()
        tally = Tally()
        name = stream.object
        self._progress.start(tables.SOURCE, name, None)
        writer = LandingWriter(self._root, tables.SOURCE, name, self._load)

        def write(lines: bytes, records: int) -> None:
            writer.write(lines, records)
            self._progress.advance(tables.SOURCE, name, records)

        status: Literal["complete", "forbidden", "not_configured"] = "complete"
        message = ""
        try:
            with writer:
                message = read(write, tally) or ""
        except ForbiddenError as error:
            status, message = "forbidden", f"{error} {advice}".strip()
        except RejectedError as error:
            if not advice or error.status != 404:
                raise
            status, message = "not_configured", f"This portal does not have it: {error}"
        self._progress.finish(tables.SOURCE, name)
        files = writer.files if status == "complete" else []
        return (
            stream,
            files,
            StreamResult(
                tables.SOURCE,
                name,
                status,
                records=sum(file.records for file in files),
                requests=tally.requests,
                seconds=time.monotonic() - started,
                message=message,
            ),
        )


def _pages(name: str, ask: Callable[[str | None], Page]) -> Iterator[Page]:
    """Every page of a list.

    Raises:
        SourceUnavailableError: the list has no end.
    """
    cursors = Cursors(name)
    after: str | None = None
    while True:
        page = ask(after)
        yield page
        if (after := page.after) is None:
            return
        cursors.check(after, page.results)
