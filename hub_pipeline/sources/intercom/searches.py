"""How an object is read by searching: all of it in parallel, or only what changed.

A full list is cut by creation time, which never changes, into chains of pages that are read at the same time, the
oldest record first: no record can move from one page to another while it is read. What changed meanwhile is searched
for once more at the end, so a search that ignored the order asked for would lose nothing either.

An incremental read asks for what changed since an instant. Contacts are compared by whole days, of UTC or of the
workspace's time zone, so it asks from two days earlier on and looks at the full time of each answer itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic

from hub_pipeline.errors import SourceUnavailableError
from hub_pipeline.sources.intercom.client import EVERYTHING, IntercomClient, Query, S, Searched
from hub_pipeline.sources.jobs import Jobs
from hub_pipeline.sources.transport import RejectedError, Tally

_DAY = 86_400
#: A chain holds about so many records, and a list is cut into about so many chains at most.
CHAIN_RECORDS = 7_500
MAX_CHAINS = 64
#: Where halving the time begins; what is older, such as imported records, is in the first chain.
_FIRST_DAY = 15_000 * _DAY  # 2011, when Intercom was founded
#: How often a chain begins anew because its cursor has expired.
RESTARTS = 3
#: So many pages in a row that begin as earlier ones did are a circle; one is a record that changed and has moved.
SAME_PAGES = 2

Window = tuple[int | None, int | None]
"""From this instant on, and before that one; None = without a bound."""


class Reader(Generic[S]):
    """Reads one searched object.

    Args:
        client: of the workspace.
        searched: what to read.
        tally: counts the requests.
        chains: threads for the chains of a full list.
    """

    def __init__(self, client: IntercomClient, searched: Searched[S], tally: Tally, chains: Jobs) -> None:
        self._client = client
        self._searched = searched
        self._tally = tally
        self._chains = chains
        self.note = ""

    def full(self, land: Callable[[str, Iterable[Sequence[S]]], int]) -> None:
        """Read every record.

        Args:
            land: takes the name of a chain and its pages, from one thread for each chain, and gives the number
                of records.

        Raises:
            SourceUnavailableError: Intercom counts records and lists none, or a search goes round in circles.
        """
        started = self._client.server_time
        counted = self._client.count(self._searched, EVERYTHING, self._tally)
        windows = list(self._windows(counted))

        def read(number: str) -> int:
            query = self._query(windows[int(number)])
            return land(number, self._pages(query, "created_at"))

        if len(windows) == 1:
            listed = read("0")
        else:
            listed = sum(self._chains.map(read, map(str, range(len(windows)))))
        if counted and not listed:
            raise SourceUnavailableError(
                f"Intercom counts {counted} {self._searched.name} and lists none. Objects that were complete are "
                "kept and nothing was published; run again later."
            )
        if listed < counted:
            self.note = f"Intercom counted {counted} {self._searched.name} and listed {listed}"
        land("meanwhile", self.changed_since(started - 1))

    def changed_since(self, since: int) -> Iterator[Sequence[S]]:
        """Pages of what changed at or after an instant (seconds since 1970), the latest change at the end."""
        margin = 2 * _DAY if self._searched.by_day else 1
        query = {"field": "updated_at", "operator": ">", "value": max(0, since - margin)}
        return self.found(query, lambda record: record.updated_at is None or record.updated_at >= since)

    def found(self, query: Query, wanted: Callable[[S], bool] | None = None) -> Iterator[Sequence[S]]:
        """Pages of what a search finds, of each page what is wanted."""
        for page in self._pages(query, "updated_at"):
            yield page if wanted is None else [record for record in page if wanted(record)]

    def _windows(self, counted: int) -> Iterator[Window]:
        """Cut all time into windows that hold few enough records; they come in no particular order."""
        enough = max(CHAIN_RECORDS, counted // (MAX_CHAINS // 2))
        whole: Window = (None, None)
        open_windows = [(whole, counted)]
        while open_windows:
            (low, high), size = open_windows.pop()
            middle = self._middle(low, high)
            if size <= enough or middle is None:
                yield low, high
                continue
            left = self._client.count(self._searched, self._query((low, middle)), self._tally)
            open_windows += [((low, middle), left), ((middle, high), size - left)]

    def _middle(self, low: int | None, high: int | None) -> int | None:
        """The noon (UTC) in the middle; None if there is none in between.

        At noon UTC it is the same day everywhere but in the far east, where it is early on the next, so a bound
        means the same day in both of Intercom's readings of a date.
        """
        after = _FIRST_DAY if low is None else low
        before = self._client.server_time + _DAY if high is None else high
        middle = (after + before) // 2 // _DAY * _DAY + _DAY // 2
        return middle if after < middle < before else None

    def _query(self, window: Window) -> Query:
        low, high = window
        bounds = []
        # A record on the bound may come twice; it must not be missing.
        if low is not None:
            margin = _DAY if self._searched.by_day else 1
            bounds.append({"field": "created_at", "operator": ">", "value": low - margin})
        if high is not None:
            bounds.append({"field": "created_at", "operator": "<", "value": high})
        return {"operator": "AND", "value": bounds} if bounds else EVERYTHING

    def _pages(self, query: Query, sort: str) -> Iterator[Sequence[S]]:
        """Every page of one search, from the beginning again when its cursor has expired.

        Raises:
            SourceUnavailableError: the search goes round in circles.
        """
        for start in range(RESTARTS + 1):
            after: str | None = None
            seen: set[str] = set()
            firsts: set[str | int] = set()
            again = 0
            try:
                while True:
                    page = self._client.search(self._searched, query, after, self._tally, sort=sort)
                    yield page.data
                    following = page.pages.next if page.pages else None
                    after = following.starting_after if following else None
                    if after is None:
                        return
                    if page.data:
                        again = again + 1 if page.data[0].id in firsts else 0
                        firsts.add(page.data[0].id)
                    if after in seen or again == SAME_PAGES:
                        raise SourceUnavailableError(
                            f"Intercom's search of {self._searched.name} goes round in circles: the same page comes "
                            "again and again. Objects that were complete are kept and nothing was published; run "
                            "again later."
                        )
                    seen.add(after)
            except RejectedError as error:
                # Only a cursor can turn bad on the way; anything else was refused with the first page.
                if after is None or error.status not in (400, 404) or start == RESTARTS:
                    raise
