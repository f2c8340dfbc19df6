"""The records of one object: full list or changes, the recycle bin, and restored records.

Order matters. Live records are read before archived ones: a record archived in between is in the second list. What
was archived before and is in no list of archived records any more is asked for by id: it is live again, or gone.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path

import msgspec

from hub_pipeline.settings import HubSpot, HubSpotObject
from hub_pipeline.sources.hubspot import streams as tables
from hub_pipeline.sources.hubspot.changes import ChangePage, ChangeSource, NotSearchableError, SearchChanges
from hub_pipeline.sources.hubspot.client import HISTORY_PAGE, PAGE, HubSpotClient, ids_of
from hub_pipeline.sources.hubspot.covers import Cover, PageWriter, covered
from hub_pipeline.sources.hubspot.listing import BrokenListError, Land, Listing
from hub_pipeline.sources.hubspot.pages import lines_of
from hub_pipeline.sources.hubspot.plan import Plan, State, instant, is_full_cheaper, next_state, text
from hub_pipeline.sources.hubspot.spread import Shared, spread
from hub_pipeline.sources.progress import Progress
from hub_pipeline.sources.transport import ForbiddenError, RejectedError, Tally
from hub_pipeline.warehouse.landing import LandedFile, LoadContext, line_chunks, unfinished
from hub_pipeline.warehouse.raw import Known, NothingKnown

#: HubSpot empties its recycle bin after 90 days; what was archived longer ago cannot have been restored.
BIN_DAYS = 100
#: A list that is shorter than the count of the search index by more than this share is read again.
SHORT = 0.01
#: ... but a few records may always have come or gone meanwhile.
FEW = 10


@dataclass(frozen=True)
class Run:
    """What everything that reads one portal in one run shares.

    Attributes:
        client: asks the portal.
        settings: of HubSpot.
        root: folder of the landing files.
        load: the run.
        progress: told of every page.
        known: the warehouse.
        started: HubSpot's time at its first answer; None if it does not tell.
    """

    client: HubSpotClient
    settings: HubSpot
    root: Path
    load: LoadContext
    progress: Progress
    known: Known
    started: datetime | None

    @property
    def remembers(self) -> bool:
        """Whether there is a warehouse; without one everything is read, and nothing of an earlier run is used."""
        return not isinstance(self.known, NothingKnown)


def in_parts(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def compare_ids(listed: Sequence[int], known: Iterable[list[str]]) -> tuple[list[str], list[str]]:
    """(listed and not known, known and not listed); both ascend as numbers."""
    lacking: list[str] = []
    absent: list[str] = []
    ids: Iterator[int] = iter(listed)
    current = next(ids, None)
    for text_id in (i for batch in known for i in batch):
        number = int(text_id)
        while current is not None and current < number:
            lacking.append(str(current))
            current = next(ids, None)
        if current == number:
            current = next(ids, None)
        else:
            absent.append(text_id)
    while current is not None:
        lacking.append(str(current))
        current = next(ids, None)
    return lacking, absent


class ObjectReader:
    """Reads and lands the records of one object.

    Attributes:
        plan: what was done in the end; search may have led to a full list after all.
        files: all landing files, those of a killed run that this one goes on from included.
        records: records read, without what was read again because a list broke off.
        gone: records that were deleted while they were read.
        notes: what people should know.
        ids: live ids of a full list, if `keep_ids`.
    """

    def __init__(
        self,
        run: Run,
        name: str,
        config: HubSpotObject,
        properties: Sequence[str],
        history: Sequence[str],
        tally: Tally,
        *,
        keep_ids: bool = False,
        folder: str | None = None,
    ) -> None:
        self._run = run
        self._name = name
        self._folder = folder or name
        self._type = config.object_type
        self._properties = properties
        self._history = history
        self._tally = tally
        self._keep_ids = keep_ids
        self._started = run.started
        self.plan = Plan("full")
        self.files: list[LandedFile] = []
        self.records = 0
        self.gone = 0
        self.notes: list[str] = []
        self.ids: list[str] = []
        self._listed: array[int] | None = None

    def read(self, plan: Plan, live: int) -> None:
        """Land what the plan says, then the recycle bin, then what was restored.

        Args:
            plan: what is to be read.
            live: live records in the warehouse.
        """
        self.plan = plan
        if plan.mode == "changes":
            try:
                self._read_changes(live)
            except NotSearchableError as error:
                self.plan = plan.full(str(error), wanting=True)
            except _FullIsCheaperError as error:
                self.plan = plan.full(str(error))
        if self.plan.mode == "full":
            self._listed = array("q") if live else None
            self._read_list("live", archived=False)
        if self.plan.wanting:
            self.notes.append(f"read in full, because {self.plan.because}")
        binned = self._read_archived()
        if self._listed is not None:
            self._ask_for_unlisted(self._listed, binned)

    def next_state(self, state: State, reads: str) -> State:
        """What this reading leaves for the next; it began when the first run did that it goes on from."""
        return next_state(self.plan, state, self._type, reads, self._started, self._run.settings)

    def read_names(self, names: Callable[[Sequence[msgspec.Raw]], bytes]) -> None:
        """Land the lines that `names` makes of the ids of all live records."""
        listing = Listing(
            self._run.client,
            self._name,
            self._type,
            ["hs_object_id"],
            (),
            archived=False,
            tally=self._tally,
        )
        with self._writer("names") as writer:

            def land(records: Sequence[msgspec.Raw], cover: Cover | None, after: str | None) -> None:
                lines = names(records)
                writer.write(lines, lines.count(b"\n"))

            try:
                listing.read(land, [(0, None)], lambda: self._size(False, False)[:2])
            except BrokenListError:
                listing.read_by_one(land, None)
        self._landed(writer)

    def read_missing(self, lacking: Sequence[str], absent: Sequence[str]) -> int:
        """Land the records that the warehouse lacks, and of those that no list has, the ones that exist all the same.

        A list that left one out, or a record restored while it was read, must not look like a deletion for privacy:
        that erases for good. So each is asked for by id, live and in the recycle bin.

        Returns:
            How many there were.
        """
        before = self.records
        with self._writer("missing") as writer:
            for _ in self._by_id(writer, lacking, archived=False, history=self._history):
                pass
            for missing in self._by_id(writer, absent, archived=False, history=self._history):
                for _ in self._by_id(writer, missing, archived=True, history=()):
                    pass
        self._landed(writer)
        return self.records - before

    def _ask_for_unlisted(self, listed: array[int], binned: set[str]) -> None:
        """A full list says by its silence what is deleted, so what it leaves out is asked for first."""
        _, absent = compare_ids(
            sorted(set(listed)), self._run.known.live_ids(tables.SOURCE, self._name, 10_000)
        )
        found = self.read_missing([], [one for one in absent if one not in binned])
        if found:
            self.notes.append(f"{found:,} records were read by id that HubSpot's list had left out")

    # Changes

    def _read_changes(self, live: int) -> None:
        plan, run = self.plan, self._run
        assert plan.since is not None
        source: ChangeSource = SearchChanges(
            run.client,
            self._name,
            self._type,
            cursor=plan.cursor,
            since=plan.since,
            # History comes only with records that are read by id.
            properties=None if self._history else self._properties,
            live=live,
            tally=self._tally,
        )
        adopted = self._adopt("changes")
        writer = self._writer("changes")
        gaps = covered(adopted).gaps()
        if gaps:
            pages = Shared(self._worth_it(source.pages(gaps[0][0]), live))

            def work() -> None:
                for page in pages:
                    self._land_changes(writer, page)

            try:
                with writer:
                    spread(run.settings.workers if self._history else 1, work, pages.stop)
            except (NotSearchableError, _FullIsCheaperError):
                self.files += writer.files
                raise
        self._landed(writer)
        self._use(adopted)

    def _worth_it(self, pages: Iterator[ChangePage], live: int) -> Iterator[ChangePage]:
        """The pages, unless there are so many that the full list takes less time."""
        for page in pages:
            if page.cover[0] == 0 and is_full_cheaper(
                page.total, live, bool(self._history), self._run.settings
            ):
                raise _FullIsCheaperError(
                    f"{page.total:,} of {live:,} records changed, so a full list is quicker"
                )
            yield page

    def _land_changes(self, writer: PageWriter, page: ChangePage) -> None:
        if page.records is not None:
            self._write(writer, page.records, page.cover)
            return
        # What is missing here was archived or deleted since it was found; the bin or the count of ids tells which.
        for _ in self._by_id(writer, page.ids, archived=False, history=self._history):
            pass
        writer.write(b"", 0, page.cover)

    # Lists

    def _read_archived(self) -> set[str]:
        """Land the recycle bin and what was restored from it; returns the ids in it, where they are needed."""
        run, since = self._run, _long_ago(self._started)
        earlier = set(run.known.archived_ids(tables.SOURCE, self._name, since))
        binned: set[str] = set()
        try:
            # Ids of adopted files would be missing here, and the bin is small.
            wanted = bool(earlier) or self._listed is not None
            self._read_list("archived", archived=True, seen=binned if wanted else None)
        except RejectedError as error:
            if error.status not in (400, 404, 405):
                raise
            self.notes.append("HubSpot lists no archived records of it")
            return binned
        if self.plan.mode == "full":  # the list of live records has them
            return binned
        absent = sorted(earlier - binned)
        if absent:
            with self._writer("restored") as writer:
                for _ in self._by_id(writer, absent, archived=False, history=self._history):
                    pass
            self._landed(writer)
        return binned

    def _read_list(self, part: str, *, archived: bool, seen: set[str] | None = None) -> None:
        history = () if archived else self._history
        listing = Listing(
            self._run.client,
            self._name,
            self._type,
            self._properties,
            history,
            archived=archived,
            tally=self._tally,
        )
        adopted = [] if seen is not None else self._adopt(part)
        by_one = [file for file in adopted if "after" in (file.position or {})]
        before = self.records
        total: list[int] = []

        def size() -> tuple[int, int]:
            threads, top, found = self._size(archived, bool(history))
            total.append(found)
            return threads, top

        try:
            if by_one:
                raise BrokenListError
            with self._writer(part) as writer:
                gaps = covered(adopted).gaps()
                listing.read(self._land(listing, writer, archived, history, seen), gaps, size)
        except BrokenListError:
            if not by_one:
                self.files += writer.files
            self._read_by_one(listing, part, archived, history, by_one, seen)
            return
        self._landed(writer)
        self._use(adopted)
        counted = total[0] if total else 0
        if _is_short(self.records - before, counted):
            first, self.records = self.records, before
            self._read_by_one(listing, part, archived, history, [], seen)
            self.records = max(first, self.records)
            if _is_short(self.records - before, counted):
                self.notes.append(
                    f"HubSpot lists {self.records - before:,} records, though its search counts {counted:,}"
                )

    def _read_by_one(
        self,
        listing: Listing,
        part: str,
        archived: bool,
        history: Sequence[str],
        adopted: list[LandedFile],
        seen: set[str] | None,
    ) -> None:
        """Read a list whose cursors are no ids, from where a killed run left it, or else from its beginning."""
        after = adopted[-1].position["after"] if adopted and adopted[-1].position else None
        if adopted and after is None:
            self._use(adopted)
            return
        for attempt in ("-chain", "-again"):
            try:
                with self._writer(f"{part}{attempt}", part=part) as writer:
                    listing.read_by_one(self._land(listing, writer, archived, history, seen), after)
            except BrokenListError as error:
                # The list starts again; what has landed twice is one version all the same.
                self.files += [*adopted, *writer.files]
                adopted, after = [], None
                if attempt == "-again":
                    raise error.__cause__ or error from None
                continue
            self._landed(writer)
            self._use(adopted)
            return

    def _land(
        self,
        listing: Listing,
        writer: PageWriter,
        archived: bool,
        history: Sequence[str],
        seen: set[str] | None,
    ) -> Land:
        def land(records: Sequence[msgspec.Raw], cover: Cover | None, after: str | None) -> None:
            listed = None if archived else self._listed
            wanted = (
                listing.ids_only
                or seen is not None
                or listed is not None
                or (self._keep_ids and not archived)
            )
            ids = ids_of(records) if wanted else []
            if listed is not None:
                listed.extend(array("q", map(int, ids)))  # whole pages, because several threads do this
            if seen is not None:
                seen.update(ids)
            if self._keep_ids and not archived:
                self.ids += ids
            if not listing.ids_only:
                if cover is None:
                    writer.follow(after)
                self._write(writer, records, cover)
                return
            for missing in self._by_id(writer, ids, archived=archived, history=history, twice=True):
                self.gone += len(missing)
            if cover is None:
                writer.follow(after)
            else:
                writer.write(b"", 0, cover)

        return land

    def _size(self, archived: bool, history: bool) -> tuple[int, int, int]:
        """(chains, highest id, records) of the list of live records, by one search; one chain if it cannot be told."""
        settings = self._run.settings
        if archived:  # search never gives archived records
            return 1, 0, 0
        body = {
            "sorts": [{"propertyName": "hs_object_id", "direction": "DESCENDING"}],
            "properties": ["hs_object_id"],
            "limit": 1,
        }
        try:
            reply = self._run.client.search(self._type, body, self._tally)
        except (ForbiddenError, RejectedError):
            return 1, 0, 0
        ids = ids_of(reply.results)
        if reply.total <= settings.parallel_from_records or not ids or not ids[0].isdigit():
            return 1, 0, reply.total
        pages = ceil(reply.total / (HISTORY_PAGE if history else PAGE))
        return min(settings.workers, pages), int(ids[0]), reply.total

    # Records by id

    def _by_id(
        self,
        writer: PageWriter,
        ids: Sequence[str],
        *,
        archived: bool,
        history: Sequence[str],
        twice: bool = False,
    ) -> Iterator[list[str]]:
        """Land records by id; yields those of each batch that do not exist, asked for once more with `twice`."""
        for batch in in_parts(ids, HISTORY_PAGE if history else PAGE):
            missing = list(batch)
            for _ in range(1 + twice):
                if not missing:
                    break
                reply = self._run.client.batch_read(
                    self._type, missing, self._properties, history, archived=archived, tally=self._tally
                )
                self._write(writer, reply.results)
                found = set(ids_of(reply.results))
                missing = [i for i in missing if i not in found]
            yield missing

    # Landing

    def _write(
        self,
        writer: PageWriter,
        records: Sequence[msgspec.Raw],
        cover: Cover | None = None,
    ) -> None:
        writer.write(lines_of(records), len(records), cover)
        self._run.progress.advance(tables.SOURCE, self._name, len(records))

    def _writer(self, name: str, part: str | None = None) -> PageWriter:
        position = {"plan": self.plan.key, "part": part or name, "started": text(self._started)}
        return PageWriter(self._run.root, self._folder, self._run.load, name, position)

    def _adopt(self, part: str) -> list[LandedFile]:
        """What a killed run landed of this part under the same plan; the watermark is then that run's."""
        if not self._run.remembers:
            return []
        files = unfinished(self._run.root, tables.SOURCE, self._folder, self._run.load)
        wanted = {"plan": self.plan.key, "part": part}
        return [file for file in files if wanted.items() <= (file.position or {}).items()]

    def _use(self, adopted: Sequence[LandedFile]) -> None:
        self.files += adopted
        self.records += sum(file.records for file in adopted)
        for file in adopted:
            if self._listed is not None and (file.position or {}).get("part") == "live":
                for chunk in line_chunks(file.path):
                    self._listed.extend(array("q", map(int, ids_of(map(msgspec.Raw, chunk.splitlines())))))
            begun = instant((file.position or {}).get("started"))
            self._started = None if begun is None or self._started is None else min(begun, self._started)

    def _landed(self, writer: PageWriter) -> None:
        self.files += writer.files
        self.records += sum(file.records for file in writer.files)


def _is_short(listed: int, counted: int) -> bool:
    return counted - listed > max(FEW, counted * SHORT)


class _FullIsCheaperError(Exception):
    """So much has changed that a full list takes less time; the text says how much."""


def _long_ago(started: datetime | None) -> datetime:
    """The archiving dates from which on a record may still be restored; UTC without offset."""
    now = (started or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None)
    return now - timedelta(days=BIN_DAYS)
