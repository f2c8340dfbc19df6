"""What changed in an object since a moment: the place where another way to learn of changes would plug in.

A `ChangeSource` names the records to read, in pages that say which ids they cover; `hub_pipeline.sources.hubspot
.records` reads and lands them and knows nothing about how they were found. Search is the one that exists. HubSpot's
webhooks journal would be another: its entries name records with what happened to them (docs/hubspot.md, Change
feed).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import msgspec

from hub_pipeline.sources.hubspot.client import SEARCH_PAGE, HubSpotClient, ids_of
from hub_pipeline.sources.hubspot.covers import Cover
from hub_pipeline.sources.hubspot.pages import endless
from hub_pipeline.sources.transport import ForbiddenError, RejectedError, Tally


@dataclass(frozen=True)
class ChangePage:
    """Some records that changed.

    Attributes:
        ids: of the records.
        records: the records themselves, if they came along complete; None: they are to be read by id.
        cover: all changed records with ids in this range are in this page.
        total: how many records changed, with those of the pages to come.
    """

    ids: list[str]
    records: Sequence[msgspec.Raw] | None
    cover: Cover
    total: int


class ChangeSource(Protocol):
    """A way to learn which records changed."""

    def pages(self, behind: int) -> Iterator[ChangePage]:
        """The changed records with ids above `behind`, ascending.

        Raises:
            NotSearchableError: changes cannot be learned this way; everything must be read.
        """


class NotSearchableError(Exception):
    """Changes of this object cannot be learned; the text says why."""


class SearchChanges:
    """Changed records by HubSpot's search: one window of time, walked through by id.

    The filter on time stays the same for the whole walk and the id alone moves on, so every request is a first page:
    the cap of 10,000 results is never met, and any number of records may share one millisecond. The window has no
    end: a record that changes again during the walk must not leave it.

    Args:
        client: asks the portal.
        name: of the object, for messages.
        object_type: in the API.
        cursor: the last-modified property.
        since: start of the window.
        properties: to be sent with the records; None: ids are enough.
        live: live records in the warehouse, to tell an empty answer from a wrong property.
        tally: counts the requests.
    """

    def __init__(
        self,
        client: HubSpotClient,
        name: str,
        object_type: str,
        *,
        cursor: str,
        since: datetime,
        properties: Sequence[str] | None,
        live: int,
        tally: Tally,
    ) -> None:
        self._client = client
        self._name = name
        self._type = object_type
        self._cursor = cursor
        self._since = int(since.timestamp() * 1000)
        self._properties = properties
        self._live = live
        self._tally = tally

    def pages(self, behind: int) -> Iterator[ChangePage]:
        """See `ChangeSource`."""
        position = behind
        while True:
            try:
                reply = self._client.search(self._type, self._body(self._since, position), self._tally)
            except (ForbiddenError, RejectedError) as error:
                raise NotSearchableError(f"it cannot be searched ({error})") from error
            if reply.total == 0 and position == 0 and self._live:
                self._assert_cursor()
            ids = ids_of(reply.results)
            last = max(map(int, ids), default=position)
            if ids and last <= position:
                raise endless(f"changed {self._name}")
            ended = not ids or reply.total <= len(ids)
            records = None if self._properties is None else reply.results
            yield ChangePage(ids, records, (position, None if ended else last), reply.total)
            if ended:
                return
            position = last

    def _assert_cursor(self) -> None:
        """A search by a property that the index does not know finds nothing and says nothing."""
        if self._client.search(self._type, {**self._body(0, 0), "limit": 1}, self._tally).total == 0:
            raise NotSearchableError(
                f"a search by {self._cursor} finds none of its {self._live:,} records, whenever they changed"
            )

    def _body(self, since: int, behind: int) -> dict[str, Any]:
        filters = [
            {"propertyName": self._cursor, "operator": "GTE", "value": str(since)},
            {"propertyName": "hs_object_id", "operator": "GT", "value": str(behind)},
        ]
        return {
            "filterGroups": [{"filters": filters}],
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            "properties": ["hs_object_id"] if self._properties is None else list(self._properties),
            "limit": SEARCH_PAGE,
        }
