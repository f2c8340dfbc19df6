"""One list of records read to its end, by one chain of pages or by several at a time.

HubSpot's list cursors are documented as opaque and are in fact record ids: a list can be entered at any id. Each
chain proves that on its first page; where it does not hold, the list is read by one chain that believes nothing
about cursors. Chains need no plan of where records are: a thread that has nothing to do takes half of what the
busiest chain has left, so clusters and gaps among the ids even out by themselves.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec

from hub_pipeline.sources.hubspot.client import (
    HISTORY_PAGE,
    MAX_ADDRESS,
    PAGE,
    HubSpotClient,
    Page,
    ids_of,
)
from hub_pipeline.sources.hubspot.covers import Cover
from hub_pipeline.sources.hubspot.pages import Cursors
from hub_pipeline.sources.hubspot.spread import spread
from hub_pipeline.sources.transport import RejectedError, Tally

Land = Callable[[Sequence[msgspec.Raw], Cover | None, str | None], None]
"""(records of a page, ids it covers or None, cursor of the next page or None) -> landed."""

#: Less than so many pages are not worth a chain of their own.
_WORTH_PAGES = 6


class BrokenListError(Exception):
    """The list cannot be read this way: a cursor is no id, was not honoured, or is not accepted any more."""


@dataclass
class _Range:
    """Ids above `position`, up to and with `high`, that one chain is reading."""

    position: int
    high: int | None
    span: int = 0  # ids its latest page went over; 0 before the first

    def pages_left(self, top: int) -> float:
        end = top if self.high is None else self.high
        return (end - self.position) / self.span if self.span else 0.0


class _Ranges:
    """Hands out what is left of a list; see the module's first lines."""

    def __init__(self, gaps: Iterable[Cover], top: int) -> None:
        self._waiting = deque(gaps)
        self._busy: list[_Range] = []
        self._top = top
        self._stopped = False
        self._changed = threading.Condition()

    def take(self) -> _Range | None:
        """The next range to read; None when nothing is left."""
        with self._changed:
            while not self._stopped:
                if self._waiting:
                    return self._begin(*self._waiting.popleft())
                if not self._busy:
                    return None
                busiest = max(self._busy, key=lambda one: one.pages_left(self._top))
                if busiest.pages_left(self._top) >= _WORTH_PAGES:
                    end = self._top if busiest.high is None else busiest.high
                    middle = (busiest.position + end) // 2
                    high, busiest.high = busiest.high, middle
                    return self._begin(middle, high)
                self._changed.wait()
            return None

    def _begin(self, low: int, high: int | None) -> _Range:
        taken = _Range(low, high)
        self._busy.append(taken)
        return taken

    def advance(self, one: _Range, last: int) -> int | None:
        """Note how far a chain has come; returns where it ends by now."""
        with self._changed:
            one.span = max(1, last - one.position)
            one.position = last if one.high is None else min(last, one.high)
            self._changed.notify_all()
            return one.high

    def end(self, one: _Range) -> None:
        """A chain has read all of its range."""
        with self._changed:
            self._busy.remove(one)
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out nothing any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether another chain has failed."""
        return self._stopped


class Listing:
    """The live or archived records of one object type.

    Args:
        client: asks the portal.
        name: of the object, for messages.
        object_type: in the API.
        properties: names to read.
        history: properties whose versions are read as well.
        archived: read the recycle bin instead of the live records.
        tally: counts the requests.
    """

    def __init__(
        self,
        client: HubSpotClient,
        name: str,
        object_type: str,
        properties: Sequence[str],
        history: Sequence[str],
        *,
        archived: bool,
        tally: Tally,
    ) -> None:
        self._client = client
        self._name = name
        self._tally = tally
        limit = HISTORY_PAGE if history else PAGE
        whole = client.list_path(
            object_type, properties, history, archived=archived, after="9" * 20, limit=limit
        )
        #: The properties do not fit into an address: the list gives ids, and the records are read by them.
        self.ids_only = len(whole) > MAX_ADDRESS
        self._address = client.list_path(
            object_type,
            ["hs_object_id"] if self.ids_only else properties,
            () if self.ids_only else history,
            archived=archived,
            limit=PAGE if self.ids_only else limit,
        )

    def read(self, land: Land, gaps: Sequence[Cover], size: Callable[[], tuple[int, int]]) -> None:
        """Read what is missing of the list, by ids as cursors.

        Args:
            land: takes each page, from any of the threads.
            gaps: the ids to be read.
            size: tells how many chains are worth it and the highest id; asked only when there is a second page.

        Raises:
            BrokenListError: before anything wrong was landed; `read_by_one` is the other way.
        """
        if not gaps:
            return
        low, _ = gaps[0]
        page = self._page(self._after(low))
        threads, top = size() if page.after is not None else (1, 0)
        ranges = _Ranges(gaps, top)
        prefetched = [page]

        def work() -> None:
            while (one := ranges.take()) is not None:
                # The very first range that is handed out is the one whose page is there already.
                self._chain(
                    one, ranges, land, prefetched.pop() if one.position == low and prefetched else None
                )
                ranges.end(one)

        spread(threads, work, ranges.stop)

    def _chain(self, one: _Range, ranges: _Ranges, land: Land, page: Page | None) -> None:
        position = low = one.position
        after = self._after(low)
        cursors = Cursors(self._name)
        while not ranges.stopped:
            page = page or self._page(after)
            records, after = page.results, page.after
            if after is not None:
                cursors.check(after, records)
            if records:
                last = _number(records[-1])
                if position == low:
                    records = self._checked(records, low, last, after)
            else:
                last = position
            high = ranges.advance(one, last)
            if high is not None and last > high:
                records = [record for record in records if _number(record) <= high]
            if after is None or (high is not None and last >= high):
                land(records, (position, high), None)
                return
            if not after.isdigit():
                raise BrokenListError
            land(records, (position, last), None)
            position, page = max(position, last), None

    def _checked(
        self, records: list[msgspec.Raw], low: int, last: int, after: str | None
    ) -> list[msgspec.Raw]:
        """The first page of a chain, if ids are cursors: it starts behind `low`, and the next one behind its end."""
        begin = _number(records[0])
        if begin < low or (after is not None and not (after.isdigit() and last <= int(after) <= last + 1)):
            raise BrokenListError
        # A cursor may include the record it names.
        return records[1:] if low and begin == low else records

    def read_by_one(self, land: Land, after: str | None) -> None:
        """Read the list page by page from a cursor (None: its beginning), whatever cursors may be.

        Raises:
            BrokenListError: a cursor that was given out is not accepted.
        """
        cursors = Cursors(self._name)
        while True:
            page = self._page(after)
            land(page.results, None, page.after)
            if (after := page.after) is None:
                return
            cursors.check(after, page.results)

    def _after(self, low: int) -> str | None:
        return str(low) if low else None

    def _page(self, after: str | None) -> Page:
        path = self._address if after is None else f"{self._address}&{urlencode({'after': after})}"
        try:
            return self._client.page(path, self._tally)
        except RejectedError as error:
            if error.status == 400 and after is not None:
                raise BrokenListError from error
            raise


def _number(record: msgspec.Raw) -> int:
    text = ids_of([record])[0]
    if not text.isdigit():
        raise BrokenListError
    return int(text)
