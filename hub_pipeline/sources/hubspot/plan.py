"""What a run reads of one object: all of it, or only what changed since the last run, and why.

The watermark is HubSpot's own time at the start of a run, less the time its search index may need to learn of a
change (settled 22). No record's date ever moves it, so one dated 2099 hides nothing, and a clock of ours that jumps
opens no gap.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, Literal

from hub_pipeline.settings import HubSpot
from hub_pipeline.sources.hubspot.client import HISTORY_PAGE, PAGE, SEARCH_PAGE

#: Contacts carry their last-modified date under another name than every other object.
_MODIFIED = "hs_lastmodifieddate"
_CONTACTS_MODIFIED = "lastmodifieddate"
_CONTACTS = ("contacts", "contact", "0-1")


@dataclass(frozen=True)
class State:
    """What the last complete reading of an object left behind (`StreamResult.state`).

    Attributes:
        object_type: the type that was read under this name.
        reads: digest of the properties and histories that were read.
        watermark: every change before it has been read; None: unknown.
        full_at: when the object was last read in full.
        because: why it was read in full, the last time it was.
    """

    object_type: str = ""
    reads: str = ""
    watermark: datetime | None = None
    full_at: datetime | None = None
    because: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> State:
        """From `Known.state`; an empty mapping is the state before the first run."""
        return cls(
            object_type=values.get("object_type", ""),
            reads=values.get("reads", ""),
            watermark=instant(values.get("watermark")),
            full_at=instant(values.get("full_at")),
            because=values.get("because", ""),
        )

    def to_json(self) -> dict[str, str | None]:
        """For `StreamResult.state`."""
        return {
            "object_type": self.object_type,
            "reads": self.reads,
            "watermark": text(self.watermark),
            "full_at": text(self.full_at),
            "because": self.because,
        }


@dataclass(frozen=True)
class Plan:
    """How one object is read.

    Attributes:
        mode: ``full`` list, or ``changes`` since the last run.
        because: why it is a full list; empty for changes.
        wanting: whether that reason is something people should look at.
        cursor: the last-modified property that is searched by, for changes.
        since: start of the window that is searched, for changes.
        key: digest of everything that decides what is read; files of a killed run fit only the same key.
    """

    mode: Literal["full", "changes"]
    because: str = ""
    wanting: bool = False
    cursor: str = ""
    since: datetime | None = None
    key: str = ""

    def full(self, because: str, *, wanting: bool = False) -> Plan:
        """The same object read in full after all."""
        return replace(
            self, mode="full", because=because, wanting=wanting, since=None, key=_digest([self.key, "full"])
        )


def digest_of_reads(properties: Sequence[str], history: Sequence[str]) -> str:
    """Digest of the properties and histories that a run reads: when it changes, all records are read again."""
    return _digest([sorted(properties), sorted(history)])


def cursor_property(object_type: str, properties: Collection[str]) -> str | None:
    """The property that carries the last-modified date of this type, None if its definitions lack it.

    A search by the other name finds nothing and says nothing, so the name is taken from the definitions.
    """
    names = (_CONTACTS_MODIFIED, _MODIFIED) if object_type in _CONTACTS else (_MODIFIED, _CONTACTS_MODIFIED)
    return next((name for name in names if name in properties), None)


def make_plan(
    object_type: str,
    properties: Collection[str],
    reads: str,
    state: State,
    now: datetime | None,
    live: int,
    settings: HubSpot,
) -> Plan:
    """Decide before the first request for records.

    Args:
        object_type: as configured.
        properties: names of all properties that are read.
        reads: `digest_of_reads`.
        state: of the last complete run.
        now: HubSpot's time; None if it does not tell, then there is no watermark to go by.
        live: live records in the warehouse.
        settings: periods and overlap.
    """
    cursor = cursor_property(object_type, properties)
    key = _digest([object_type, reads, state.to_json()])
    plan = Plan("full", cursor=cursor or "", key=key)
    if state.watermark is None or state.full_at is None:
        return plan.full("it has not been read before")
    if live == 0:
        return plan.full("the warehouse holds none of it")
    if state.object_type != object_type:
        return plan.full("its object type is another one")
    if state.reads != reads:
        return plan.full("its properties are others")
    if cursor is None:
        return plan.full("it has no last-modified property to search by", wanting=True)
    if now is None:
        return plan.full("HubSpot does not tell its time", wanting=True)
    if now - state.full_at >= timedelta(days=settings.full_list_days):
        return plan.full("it is time for a full list")
    since = state.watermark - timedelta(minutes=settings.overlap_minutes)
    return replace(plan, mode="changes", since=since, key=_digest([key, "changes"]))


def is_full_cheaper(changed: int, live: int, history: bool, settings: HubSpot) -> bool:
    """Whether listing all `live` records takes less time at the account's limits than reading the `changed` ones.

    Their number is known from the first page of the search, so that page costs nothing any more.
    """
    lists = settings.requests_per_10_seconds / 10
    page = HISTORY_PAGE if history else PAGE
    searched = max(0, ceil(changed / SEARCH_PAGE) - 1) / settings.searches_per_second
    read_again = ceil(changed / page) / lists if history else 0.0
    return searched + read_again > ceil(live / page) / lists


def next_state(
    plan: Plan,
    state: State,
    object_type: str,
    reads: str,
    started: datetime | None,
    settings: HubSpot,
) -> State:
    """What a reading that began at `started` (HubSpot's time) leaves for the next."""
    full = plan.mode == "full"
    return State(
        object_type=object_type,
        reads=reads,
        watermark=None if started is None else started - timedelta(minutes=settings.horizon_minutes),
        full_at=started if full else state.full_at,
        because=plan.because if full else state.because,
    )


def instant(value: str | None) -> datetime | None:
    """An instant of a state."""
    return None if value is None else datetime.fromisoformat(value).astimezone(UTC)


def text(value: datetime | None) -> str | None:
    """An instant for a state."""
    return None if value is None else value.astimezone(UTC).isoformat()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
