"""Reads a Stripe account: every list in full, and the events since the last complete run.

The lists are the truth of the moment, the events say when it became so. What happens while the lists are read is
told apart by order, not by clocks: an event that is newer than the newest one of before is marked ``is_fresh``, and
the lists are not believed about what it names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from hub_pipeline.errors import ConfigurationError, SourceUnavailableError
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.jobs import Jobs
from hub_pipeline.sources.progress import Progress
from hub_pipeline.sources.stripe.client import (
    WORKERS,
    Customer,
    Event,
    ItemList,
    Named,
    Page,
    StripeClient,
    Subscription,
)
from hub_pipeline.sources.stripe.streams import EVENTS, KINDS, SOURCE, events_stream, list_stream
from hub_pipeline.sources.transport import ForbiddenError, RejectedError, Tally
from hub_pipeline.warehouse.landing import LandedFile, LandingWriter, LoadContext
from hub_pipeline.warehouse.raw import Known, NothingKnown, RawStream, StreamResult

Yielded = tuple[RawStream, list[LandedFile], StreamResult]
Job = Callable[[Tally], tuple[list[LandedFile], str, dict[str, Any] | None]]

#: Stripe keeps events for so long.
EVENT_DAYS = 30
#: Events of so many days are read again, in case one was listed late.
OVERLAP_DAYS = 2
#: How often a list is begun when the record it had come to is deleted meanwhile.
LIST_STARTS = 4

_ENCODER = msgspec.json.Encoder()
_NAMED = msgspec.json.Decoder(Named)
_SUBSCRIPTION = msgspec.json.Decoder(Subscription)
_CUSTOMER = msgspec.json.Decoder(Customer)


class _Price(msgspec.Struct):
    id: str
    billing_scheme: str | None = None


class _Item(msgspec.Struct):
    price: _Price | None = None


_ITEM = msgspec.json.Decoder(_Item)


class Line(msgspec.Struct):
    """One landed record of a list."""

    id: str
    created: int | None
    payload: msgspec.Raw


class EventLine(msgspec.Struct):
    """One landed event; `position` counts from the newest of its run."""

    id: str
    type: str
    created: int
    api_version: str | None
    livemode: bool | None
    position: int
    is_fresh: bool
    object: msgspec.Raw
    previous: msgspec.Raw


def extract(
    settings: Settings,
    environment: Environment,
    landing_root: Path,
    load: LoadContext,
    progress: Progress,
    known: Known | None = None,
) -> Iterator[Yielded]:
    """Read the account, yielding each object when it is complete; closing the iterator early cancels the rest.

    Yields:
        The stream (how its lines become rows), its landing files of this run, and what happened. What the key may
        not read comes without files and with the status ``forbidden``.

    Raises:
        ConfigurationError: no or a wrong key, an unknown API version, or a key that may not read subscriptions.
        SourceUnavailableError: Stripe is down, limits us for longer than we wait, or the time budget is used up.
    """
    with StripeClient(settings.stripe, environment) as client:
        yield from _Extraction(client, landing_root, load, progress, known or NothingKnown()).run()


class _Extraction:
    def __init__(
        self, client: StripeClient, landing_root: Path, load: LoadContext, progress: Progress, known: Known
    ) -> None:
        self._client = client
        self._root = landing_root
        self._load = load
        self._progress = progress
        self._known = known
        self._tiered: set[str] = set()

    def run(self) -> Iterator[Yielded]:
        started = int(self._load.started_at.replace(tzinfo=UTC).timestamp())
        state = self._known.state(SOURCE, EVENTS)
        oldest = started - EVENT_DAYS * 86_400
        through = int(state["through"]) if "through" in state else None
        since = oldest if through is None else max(oldest, through - OVERLAP_DAYS * 86_400)
        lost = ""
        if through is not None and through < oldest:
            lost = (
                f"events between {_day(through)} and {_day(oldest)} are no longer kept by Stripe; what changed then "
                "is taken from the lists, see raw_stripe.uncertain_changes"
            )
        # The first answer tells whether address and key are right, and where the lists begin among the events.
        newest, refused = self._newest_event(since)
        with Jobs("stripe", WORKERS, self._client.budget) as jobs:
            for name in KINDS:
                if name != "prices":
                    jobs.submit(self._read, list_stream(name), self._listing(name))
            yield from jobs.outcomes()
            # Prices made for one subscription are in no list, so they are asked for by the id that it names.
            yield self._read(list_stream("prices"), self._prices)
            # Last, so that whatever the lists may have missed is told.
            if refused is not None:
                yield events_stream(), [], StreamResult(SOURCE, EVENTS, "forbidden", message=str(refused))
            else:
                job = partial(self._events, since, newest, through, lost)
                yield self._read(events_stream(), job)

    def _newest_event(self, since: int) -> tuple[str | None, ForbiddenError | None]:
        try:
            page = self._client.events(since, None)
        except ForbiddenError as error:
            return None, error
        return (page.data[0].id if page.data else None), None

    def _read(self, stream: RawStream, job: Job) -> Yielded:
        """Run the job that lands one object; it gives the files, a note for people and the state to keep."""
        began = time.monotonic()
        tally = Tally()
        name = stream.object
        self._progress.start(SOURCE, name, None)
        result = StreamResult(SOURCE, name, "complete")
        files: list[LandedFile] = []
        try:
            files, message, state = job(tally)
            result = replace(
                result, records=sum(file.records for file in files), message=message, state=state
            )
        except ForbiddenError as error:
            if name in KINDS and KINDS[name].required:
                raise ConfigurationError(
                    f"{error} Without the {name} Stripe is of no use. Objects that were complete are kept and "
                    "nothing was published; give the key the permission to read them, or remove it."
                ) from error
            result = replace(result, status="forbidden", message=str(error))
        self._progress.finish(SOURCE, name)
        return stream, files, replace(result, requests=tally.requests, seconds=time.monotonic() - began)

    def _land(self, name: str, pages: Iterable[Sequence[Any]], part: str) -> list[LandedFile]:
        """Land pages of records; if a page does not come, what was begun is dropped."""
        with LandingWriter(self._root, SOURCE, name, self._load, part) as writer:
            for records in pages:
                writer.write(_ENCODER.encode_lines(records), len(records))
                self._progress.advance(SOURCE, name, len(records))
        return writer.files

    def _restarted(
        self, name: str, pages: Callable[[], Iterator[Sequence[Any]]]
    ) -> tuple[list[LandedFile], str]:
        """Land a list, begun again when the record it had come to is gone."""
        trouble = ""
        for start in range(LIST_STARTS):
            try:
                return self._land(name, pages(), str(start)), f"begun {start + 1} times" if start else ""
            except RejectedError as error:
                if error.status not in (400, 404) or "No such" not in error.reason:
                    raise
                trouble = error.reason
        raise SourceUnavailableError(
            f"Stripe's list of {name} broke off {LIST_STARTS} times ({trouble}). Objects that were complete are kept "
            "and nothing was published; run again later."
        )

    def _listing(self, name: str) -> Job:
        line = {"subscriptions": self._subscription, "customers": self._customer}.get(name, self._line)
        query = [*self._client.expansions(name)]
        if name == "subscriptions":
            query.append(("status", "all"))

        def job(tally: Tally) -> tuple[list[LandedFile], str, dict[str, Any] | None]:
            def pages() -> Iterator[list[Line]]:
                for page in self._pages(name, query, tally):
                    yield [line(record, tally) for record in page.data]

            files, message = self._restarted(name, pages)
            return files, message, None

        return job

    def _pages(self, name: str, query: Sequence[tuple[str, str]], tally: Tally) -> Iterator[Page]:
        return _walk(name, lambda after: self._client.page(KINDS[name].path, after, query, tally))

    def _line(self, record: msgspec.Raw, tally: Tally) -> Line:
        named = _NAMED.decode(record)
        return Line(named.id, named.created, _compact(record))

    def _customer(self, record: msgspec.Raw, tally: Tally) -> Line:
        customer = _CUSTOMER.decode(record)
        return Line(customer.id, customer.created, _compact(_ENCODER.encode(customer)))

    def _subscription(self, record: msgspec.Raw, tally: Tally) -> Line:
        """A subscription with all its items, also those beyond the ten that come with it."""
        found = _SUBSCRIPTION.decode(record)
        if found.items.has_more:
            pages = _walk("items", lambda after: self._client.items(found.id, after, tally))
            found.items = ItemList([item for page in pages for item in page.data])
            values = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
            values["items"] = msgspec.Raw(_ENCODER.encode(found.items))
            record = msgspec.Raw(_ENCODER.encode(values))
        for item in found.items.data:
            price = _ITEM.decode(item).price
            if price is not None and price.billing_scheme == "tiered":
                self._tiered.add(price.id)
        return Line(found.id, found.created, _compact(record))

    def _prices(self, tally: Tally) -> tuple[list[LandedFile], str, dict[str, Any] | None]:
        tiers = self._client.expansions("prices")

        def pages() -> Iterator[list[Line]]:
            listed: set[str] = set()
            for active in ("true", "false"):
                for page in self._pages("prices", [*tiers, ("active", active)], tally):
                    lines = [self._line(record, tally) for record in page.data]
                    listed.update(line.id for line in lines)
                    yield lines
            query = [(key, value.removeprefix("data.")) for key, value in tiers]
            for price_id in sorted(self._tiered - listed):
                yield [self._line(self._client.one("/v1/prices", price_id, query, tally), tally)]

        files, message = self._restarted("prices", pages)
        return files, message, None

    def _events(
        self, since: int, newest: str | None, through: int | None, lost: str, tally: Tally
    ) -> tuple[list[LandedFile], str, dict[str, Any] | None]:
        latest = through or 0

        def pages() -> Iterator[list[EventLine]]:
            nonlocal latest
            position, fresh = 0, True
            for page in _walk(EVENTS, lambda after: self._client.events(since, after, tally)):
                lines = []
                for event in page.data:
                    fresh = fresh and event.id != newest
                    lines.append(_event_line(event, position, fresh))
                    position += 1
                    latest = max(latest, event.created)
                yield lines

        files, message = self._restarted(EVENTS, pages)
        notes = "; ".join(note for note in (lost, message) if note)
        # Where nothing ever happened the next run begins where this one did.
        return files, notes, {"through": latest or since}


def _event_line(event: Event, position: int, fresh: bool) -> EventLine:
    record = event.data.object
    if event.type == "customer.deleted":
        record = msgspec.Raw(_ENCODER.encode(_CUSTOMER.decode(record)))
    return EventLine(
        event.id,
        event.type,
        event.created,
        event.api_version,
        event.livemode,
        position,
        fresh,
        _compact(record),
        _compact(event.data.previous_attributes),
    )


def _walk(name: str, ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """Every page of a list.

    Raises:
        SourceUnavailableError: the list goes round in circles.
    """
    seen: set[str] = set()
    after: str | None = None
    while True:
        page = ask(after)
        yield page
        if not page.has_more:
            return
        last = page.data[-1] if page.data else None
        after = last.id if isinstance(last, Event) else _NAMED.decode(last).id if last is not None else None
        if after is None or after in seen:
            raise SourceUnavailableError(
                f"Stripe's list of {name} goes round in circles: it says that there is more and sends nothing new. "
                "Objects that were complete are kept and nothing was published; run again later."
            )
        seen.add(after)


def _compact(record: msgspec.Raw | bytes) -> msgspec.Raw:
    """One line: Stripe sends its JSON over many."""
    return msgspec.Raw(msgspec.json.format(bytes(record), indent=-1))


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
