"""Requests to Stripe: paths, answers and the transport behind them.

Raw JSON over urllib3: Stripe's own client builds an object for each record and is 25 times slower
(intercom_billing.md 4.2, measured). Only lists and single objects are read; nothing is ever written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.settings import Environment, Stripe
from hub_pipeline.sources.transport import (
    BoundedPool,
    Budget,
    Pacer,
    Reply,
    SourceClient,
    Tally,
    Transport,
    checked_address,
)

TOKEN_VARIABLE = "STRIPE_API_KEY"  # noqa: S105  the name of the variable
ADDRESS_VARIABLE = "STRIPE_BASE_URL"
#: Stripe allows 100 reads a second in live mode and 25 in test mode.
READS_PER_SECOND = 100
TEST_READS_PER_SECOND = 25
WORKERS = 6
PAGE = 100

#: From this version on terms are told by the items, and discounts are ids that can be expanded.
ITEM_TERMS = "2025-03-31"
#: From this version on a discount names its coupon under ``source``.
DISCOUNT_SOURCES = "2025-09-30"

#: What an event must be about to be kept; Stripe takes at most twenty names.
EVENT_TYPES = (
    "customer.deleted",
    "customer.discount.created",
    "customer.discount.deleted",
    "customer.discount.updated",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
    "customer.subscription.resumed",
    "customer.subscription.updated",
    "subscription_schedule.aborted",
    "subscription_schedule.canceled",
    "subscription_schedule.completed",
    "subscription_schedule.created",
    "subscription_schedule.released",
    "subscription_schedule.updated",
)


class Page(msgspec.Struct):
    """One page of a list, newest first; each record as it was sent."""

    data: list[msgspec.Raw]
    has_more: bool


class Named(msgspec.Struct):
    """What every record has."""

    id: str
    created: int | None = None


class ItemList(msgspec.Struct):
    """The items inside a subscription: ten at most."""

    data: list[msgspec.Raw] = msgspec.field(default_factory=list)
    has_more: bool = False


class Subscription(msgspec.Struct):
    """The part of a subscription that says whether its items are all there."""

    id: str
    created: int | None = None
    items: ItemList = msgspec.field(default_factory=ItemList)


class Address(msgspec.Struct):
    """The part of an address that is kept."""

    country: str | None = None


class Customer(msgspec.Struct):
    """What is kept of a customer; anything else Stripe knows about a person is not landed."""

    id: str
    created: int | None = None
    name: str | None = None
    email: str | None = None
    currency: str | None = None
    address: Address | None = None
    discount: msgspec.Raw = msgspec.Raw(b"null")
    metadata: msgspec.Raw = msgspec.Raw(b"null")
    livemode: bool | None = None
    deleted: bool = False


class EventData(msgspec.Struct):
    """What an event is about: the record after the change, and what was different before."""

    object: msgspec.Raw
    previous_attributes: msgspec.Raw = msgspec.Raw(b"null")


class Event(msgspec.Struct):
    """One event."""

    id: str
    type: str
    created: int
    data: EventData
    api_version: str | None = None
    livemode: bool | None = None


class EventPage(msgspec.Struct):
    """One page of events, newest first."""

    data: list[Event]
    has_more: bool


_PAGE = msgspec.json.Decoder(Page)
_EVENTS = msgspec.json.Decoder(EventPage)
_ONE = msgspec.json.Decoder(msgspec.Raw)


def observe_limits(pacer: Pacer, headers: Mapping[str, str]) -> None:
    """Stripe's answers say nothing about what is left of the limit."""


class StripeClient(SourceClient):
    """Everything that is asked of one account with one key.

    Args:
        settings: API version.
        environment: address and key.
        budget: default: the time budget of the settings.

    Raises:
        ConfigurationError: there is no key, or the address is not usable.
    """

    def __init__(self, settings: Stripe, environment: Environment, budget: Budget | None = None) -> None:
        if environment.stripe_api_key is None:
            raise ConfigurationError(f"Stripe is not configured: set {TOKEN_VARIABLE} to a restricted key.")
        token = environment.stripe_api_key.get_secret_value()
        self._version = settings.api_version
        self._address = checked_address(environment.stripe_base_url, ADDRESS_VARIABLE)
        self.budget = budget or Budget("Stripe", settings.time_budget_seconds, "stripe.time_budget_seconds")
        self._pool = BoundedPool(self.budget, workers=WORKERS)
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Stripe-Version": settings.api_version,
            "User-Agent": f"hub-pipeline/{metadata.version('hub-pipeline')}",
        }
        test_mode = token.startswith(("sk_test_", "rk_test_"))
        self.transport = Transport(
            "Stripe",
            send=self._send,
            # Both limits are for a second and for everybody who uses the account.
            pacer=Pacer(
                TEST_READS_PER_SECOND if test_mode else READS_PER_SECOND, 1.0, float(settings.reserve)
            ),
            budget=self.budget,
            observe=observe_limits,
            token=token,
            token_variable=TOKEN_VARIABLE,
            address_variable=ADDRESS_VARIABLE,
        )

    def _send(self, method: str, path: str, body: Any) -> Reply:
        return self._pool.request(method, self._address + path, headers=self._headers)

    def page(
        self, path: str, after: str | None, query: Sequence[tuple[str, str]] = (), tally: Tally | None = None
    ) -> Page:
        """A page of up to a hundred records of a list, those after a record id."""
        return self.transport.ask("GET", self._list(path, after, query), _PAGE, tally=tally)

    def events(self, since: int, after: str | None, tally: Tally | None = None) -> EventPage:
        """A page of the events that happened at or after a moment (seconds since 1970)."""
        query = [("created[gte]", str(since)), *(("types[]", name) for name in EVENT_TYPES)]
        return self.transport.ask("GET", self._list("/v1/events", after, query), _EVENTS, tally=tally)

    def items(self, subscription_id: str, after: str | None, tally: Tally | None = None) -> Page:
        """A page of the items of one subscription."""
        query = [("subscription", subscription_id)]
        if self._version >= ITEM_TERMS:
            query.append(("expand[]", "data.discounts"))
        return self.page("/v1/subscription_items", after, query, tally)

    def one(
        self, path: str, record_id: str, query: Sequence[tuple[str, str]] = (), tally: Tally | None = None
    ) -> msgspec.Raw:
        """One record."""
        target = f"{path}/{quote(record_id, safe='')}" + (f"?{urlencode(query)}" if query else "")
        return self.transport.ask("GET", target, _ONE, tally=tally)

    def expansions(self, kind: str) -> list[tuple[str, str]]:
        """What must be asked for to come inside the records of a list; at most four levels deep."""
        if kind == "prices":
            return [("expand[]", "data.tiers")]
        if self._version < ITEM_TERMS:
            return []  # discounts come whole
        coupon = ".source.coupon" if self._version >= DISCOUNT_SOURCES else ""
        if kind == "subscriptions":
            return [("expand[]", f"data.discounts{coupon}"), ("expand[]", "data.items.data.discounts")]
        if kind == "customers" and coupon:
            return [("expand[]", f"data.discount{coupon}")]
        return []

    def _list(self, path: str, after: str | None, query: Sequence[tuple[str, str]]) -> str:
        parameters = [("limit", str(PAGE)), *query]
        if after is not None:
            parameters.append(("starting_after", after))
        return f"{path}?{urlencode(parameters)}"
