"""Faults of a remote system, switched on one by one: what breaks, for which requests, and how often.

A plan is deterministic: the same rules, seed and order of requests give the same faults. The servers of the demo
company ask the plan once for every request, before anything else is looked at.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class FaultKind(StrEnum):
    """What goes wrong with one request."""

    BAD_GATEWAY = "bad_gateway"
    """502 with the HTML page of an edge proxy."""
    UNAVAILABLE = "unavailable"
    """503 with the HTML page of an edge proxy."""
    RATE_LIMITED = "rate_limited"
    """429 in the service's own shape; `Fault.retry_after` is sent as Retry-After when it is not None."""
    TRUNCATED = "truncated"
    """Content-Length of the whole body, half of the body, then the connection closes."""
    SLOW = "slow"
    """`Fault.seconds` of silence, then the right answer."""
    HANG = "hang"
    """The headers of the right answer, then `Fault.seconds` of silence, then the connection closes."""
    DRIP = "drip"
    """The right answer, one byte every `Fault.seconds`."""
    CANNED = "canned"
    """`Fault.status`, `Fault.body` and `Fault.headers` in place of the right answer."""
    OVERLAP_PAGE = "overlap_page"
    """A list page (HubSpot objects, Intercom searches) that starts with the last records of the page before it."""
    CURSOR_LOOP = "cursor_loop"
    """A list page (HubSpot objects, Intercom searches) whose next cursor is the cursor it was asked with."""
    CURSOR_BACK = "cursor_back"
    """A list page (HubSpot objects, Intercom searches) whose next cursor leads back to the page before it: A, B, A."""
    PARTIAL = "partial"
    """A batch read (HubSpot objects and associations): 207, every third record is an error of the server's."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule.

    The requests whose method and path contain `path` (such as ``"POST /crm/objects"``; empty = every request) are
    counted from 1. The rule hits request `first` and every `every`-th after it, at most `times` times (None =
    for ever; `every` 0 = only `first`).
    """

    kind: FaultKind
    path: str = ""
    first: int = 1
    every: int = 1
    times: int | None = None
    seconds: float = 0.0
    retry_after: str | None = None
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def hits(self, number: int) -> bool:
        """Whether the `number`-th matching request is due, leaving `times` aside."""
        if number < self.first:
            return False
        return (number - self.first) % self.every == 0 if self.every else number == self.first


@dataclass(slots=True)
class _Rule:
    fault: Fault
    seen: int = 0
    done: int = 0


@dataclass(slots=True)
class Faults:
    """A plan of faults; the first rule that is due decides. Safe to change while a server runs."""

    rules: Sequence[Fault] = ()
    _state: list[_Rule] = field(init=False, default_factory=list)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._state = [_Rule(rule) for rule in self.rules]

    def add(self, *faults: Fault) -> None:
        """Add rules; each counts requests from now on."""
        with self._lock:
            self._state.extend(_Rule(fault) for fault in faults)

    def clear(self) -> None:
        """Drop every rule: the service is healthy again."""
        with self._lock:
            self._state.clear()

    def next(self, method: str, path: str) -> Fault | None:
        """The fault of this request, or None. Every matching rule counts the request, one may answer it."""
        request = f"{method} {path}"
        chosen: Fault | None = None
        with self._lock:
            for rule in self._state:
                if rule.fault.path not in request:
                    continue
                rule.seen += 1
                spent = rule.fault.times is not None and rule.done >= rule.fault.times
                if chosen is None and not spent and rule.fault.hits(rule.seen):
                    rule.done += 1
                    chosen = rule.fault
        return chosen


def every_nth(n: int, seed: int, kinds: Iterable[FaultKind]) -> Faults:
    """Every `n`-th request fails in one of `kinds`, dealt out by `seed`; delays stay at or below a second."""
    draw = random.Random(seed)
    deck = list(kinds)
    draw.shuffle(deck)
    rules = [
        Fault(
            kind,
            first=n * (position + 1),
            every=n * len(deck),
            seconds=0.2 if kind in (FaultKind.SLOW, FaultKind.HANG) else 0.0,
            retry_after=draw.choice(("1", None)) if kind is FaultKind.RATE_LIMITED else None,
        )
        for position, kind in enumerate(deck)
    ]
    return Faults(rules)


def mild(seed: int) -> Faults:
    """A bad day that costs a patient client less than two seconds: one 502, one cut-off body, one 429, one slow page.

    Their places lie within the first 60 requests, so that a small account meets them all.
    """
    draw = random.Random(seed)
    bad_gateway, truncated, limited, slow = draw.sample(range(5, 60), 4)
    return Faults(
        [
            Fault(FaultKind.BAD_GATEWAY, first=bad_gateway, every=0),
            Fault(FaultKind.TRUNCATED, first=truncated, every=0),
            Fault(FaultKind.RATE_LIMITED, first=limited, every=0, retry_after="1"),
            Fault(FaultKind.SLOW, first=slow, every=0, seconds=0.3),
        ]
    )


def mild_intercom(seed: int) -> Faults:
    """The same kind of day at a second service: one 503 and one slow answer, both to searches.

    The scroll over the companies is spared, because a broken one blocks the next for a minute.
    """
    draw = random.Random(seed)
    unavailable, slow = draw.sample(range(1, 4), 2)
    return Faults(
        [
            Fault(FaultKind.UNAVAILABLE, path="POST /", first=unavailable, every=0),
            Fault(FaultKind.SLOW, path="POST /", first=slow, every=0, seconds=0.2),
        ]
    )
