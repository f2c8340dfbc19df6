"""Requests to HubSpot: paths, page forms and the transport behind them.

hubspot-api-client carries the requests (authorisation, address, user agent) through one `ApiClient` that is held
for the whole run; its models, retries and per-attribute clients are not used (design: hubspot.md 3, measured).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib import metadata
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from hubspot.crm.objects.api_client import ApiClient
from hubspot.crm.objects.configuration import Configuration

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.settings import Environment, HubSpot
from hub_pipeline.sources.transport import (
    BoundedPool,
    Budget,
    NoAnswerError,
    Pacer,
    Reply,
    SourceClient,
    Tally,
    Transport,
    checked_address,
)

TOKEN_VARIABLE = "HUBSPOT_ACCESS_TOKEN"  # noqa: S105  the name of the variable
ADDRESS_VARIABLE = "HUBSPOT_BASE_URL"
#: HubSpot answers 414 at about 16,200 characters; a longer property list goes into the body of a batch read.
MAX_ADDRESS = 15_000
PAGE = 100
#: HubSpot refuses larger pages when property history is asked for.
HISTORY_PAGE = 50
#: Since February 2025 associations are read for so many records in one request.
ASSOCIATION_BATCH = 1_000
SEARCH_PAGE = 200
OWNERS_PAGE = 500
USERS_PAGE = 100
MEMBERS_PAGE = 250
#: Object types with pipelines, by both of their names.
WITH_PIPELINES = ("deals", "tickets", "0-3", "0-5")
#: Object type ids of standard objects, by the names they also have in paths.
TYPE_IDS = {
    "contacts": "0-1",
    "companies": "0-2",
    "deals": "0-3",
    "tickets": "0-5",
    "products": "0-7",
    "line_items": "0-8",
    "communications": "0-18",
    "feedback_submissions": "0-19",
    "tasks": "0-27",
    "notes": "0-46",
    "meetings": "0-47",
    "calls": "0-48",
    "emails": "0-49",
    "users": "0-115",
}


class Next(msgspec.Struct):
    """Where the next page starts."""

    after: str


class Paging(msgspec.Struct):
    """Present on every page but the last."""

    next: Next | None = None


class Page(msgspec.Struct):
    """A page of records, each left as the bytes that came in."""

    results: list[msgspec.Raw]
    paging: Paging | None = None

    @property
    def after(self) -> str | None:
        """Cursor of the next page, None on the last."""
        return self.paging.next.after if self.paging and self.paging.next else None


class WithId(msgspec.Struct):
    """The part of a record that tells which it is."""

    id: str


class ErrorContext(msgspec.Struct):
    """Which records a partial error is about."""

    ids: list[str] = msgspec.field(default_factory=list)
    fromObjectId: list[str] = msgspec.field(default_factory=list)


class PartialError(msgspec.Struct):
    """One error inside a 207 answer."""

    category: str = ""
    subCategory: str | None = None
    message: str = ""
    context: ErrorContext = msgspec.field(default_factory=ErrorContext)


class BatchReply(msgspec.Struct):
    """Answer of a batch read (200 or 207)."""

    results: list[msgspec.Raw]
    errors: list[PartialError] = msgspec.field(default_factory=list)


class AssociationFrom(msgspec.Struct, rename={"source": "from"}):
    """The parts of an association row that steer reading: whose it is, and whether it goes on."""

    source: WithId
    paging: Paging | None = None


class PropertyDefinition(msgspec.Struct):
    """The parts of a property definition that decide how it is read."""

    name: str
    type: str = ""
    archived: bool = False
    createdAt: str | None = None


class ListReply(msgspec.Struct):
    """Answer to the question for one list."""

    list: msgspec.Raw


class Account(msgspec.Struct):
    """The parts of the account details that are used for messages."""

    portalId: int
    timeZone: str = ""


class RecordUsage(msgspec.Struct):
    """How many live records of one type there are."""

    objectTypeId: str = ""
    usage: int = 0


class CustomUsage(msgspec.Struct):
    """The same for custom objects."""

    byObjectType: list[RecordUsage] = msgspec.field(default_factory=list)


class RecordLimits(msgspec.Struct):
    """Numbers of records against the limits of the account."""

    hubspotDefinedObjectTypes: list[RecordUsage] = msgspec.field(default_factory=list)
    customObjectTypes: CustomUsage = msgspec.field(default_factory=CustomUsage)


class SearchReply(msgspec.Struct):
    """Answer of a search: a page, and how many records match altogether."""

    results: list[msgspec.Raw]
    total: int


PAGES = msgspec.json.Decoder(Page)
SEARCHES = msgspec.json.Decoder(SearchReply)
BATCHES = msgspec.json.Decoder(BatchReply)
RAW = msgspec.json.Decoder(msgspec.Raw)
ACCOUNTS = msgspec.json.Decoder(Account)
_ID = msgspec.json.Decoder(WithId)
_LIST = msgspec.json.Decoder(ListReply)
_LIMITS = msgspec.json.Decoder(RecordLimits)


def ids_of(records: Iterable[msgspec.Raw]) -> list[str]:
    """The id of each record; the rest of it is skipped, not built."""
    return [_ID.decode(record).id for record in records]


def _failed(asked: Sequence[str], reply: BatchReply) -> list[str]:
    """Ids of a batch that are neither in the answer nor said not to exist."""
    if all(error.category == "OBJECT_NOT_FOUND" for error in reply.errors):
        return []
    told = {i for error in reply.errors if error.category == "OBJECT_NOT_FOUND" for i in error.context.ids}
    told.update(ids_of(reply.results))
    return [i for i in asked if i not in told]


def observe_limits(pacer: Pacer, headers: Mapping[str, str]) -> None:
    """Read HubSpot's rate headers into the pacer; search answers have none."""

    def number(name: str) -> int | None:
        text = headers.get(f"X-HubSpot-RateLimit-{name}", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

    interval = number("Interval-Milliseconds")
    pacer.observe(number("Max"), interval / 1000 if interval else None, number("Remaining"))


class HubSpotClient(SourceClient):
    """Everything that is asked of one portal with one token, through one pacer and one time budget.

    Args:
        settings: limits and workers.
        environment: address, token and API version.
        budget: default: the time budget of the settings.

    Raises:
        ConfigurationError: there is no token, or the address is not usable.
    """

    def __init__(self, settings: HubSpot, environment: Environment, budget: Budget | None = None) -> None:
        if environment.hubspot_access_token is None:
            raise ConfigurationError(
                f"HubSpot is not configured: set {TOKEN_VARIABLE} to the token of a service key or private app."
            )
        token = environment.hubspot_access_token.get_secret_value()
        address = checked_address(environment.hubspot_base_url, ADDRESS_VARIABLE)
        self._version = environment.hubspot_api_version
        self.budget = budget or Budget("HubSpot", settings.time_budget_seconds, "hubspot.time_budget_seconds")
        self._pool = BoundedPool(self.budget, workers=settings.workers)
        # More threads than workers may have something to ask.
        self._in_flight = threading.BoundedSemaphore(settings.workers)
        # Searches are counted by themselves, by the second.
        self._search_pacer = Pacer(settings.searches_per_second, 1.0)
        configuration = Configuration(host=address)
        configuration.access_token = token
        self._api = ApiClient(configuration)
        self._api.rest_client.pool_manager = self._pool
        self._api.user_agent = f"hub-pipeline/{metadata.version('hub-pipeline')} hubspot-api-client-python"
        self._api.set_default_header("Accept-Encoding", "gzip")
        self._api.set_default_header("Accept", "application/json")
        self.transport = Transport(
            "HubSpot",
            send=self._send,
            pacer=Pacer(settings.requests_per_10_seconds, 10.0, float(settings.reserve)),
            budget=self.budget,
            observe=observe_limits,
            token=token,
            token_variable=TOKEN_VARIABLE,
            address_variable=ADDRESS_VARIABLE,
            daily_reset="after midnight in the time zone of the HubSpot account",
        )

    def _send(self, method: str, path: str, body: Any) -> Reply:
        with self._in_flight:
            reply: Reply = self._api.call_api(
                path, method, body=body, header_params={}, auth_settings=["oauth2"], _preload_content=False
            )
        return reply

    def server_time(self) -> datetime | None:
        """HubSpot's own time at its latest answer (UTC), None if it never told."""
        return self.transport.server_time()

    def account(self, tally: Tally | None = None) -> msgspec.Raw:
        """Details of the portal: id, time zone, currency."""
        return self.transport.ask("GET", f"/account-info/{self._version}/details", RAW, tally=tally)

    def record_usage(self) -> dict[str, int]:
        """Number of live records for each object type id, in one request."""
        limits = self.transport.ask("GET", f"/crm/limits/{self._version}/records", _LIMITS)
        items = [*limits.hubspotDefinedObjectTypes, *limits.customObjectTypes.byObjectType]
        return {item.objectTypeId: item.usage for item in items}

    def schemas(self) -> list[msgspec.Raw]:
        """Definitions of the portal's custom objects."""
        return self.transport.ask("GET", f"/crm/schemas/{self._version}", PAGES).results

    def properties(self, object_type: str, tally: Tally | None = None) -> list[msgspec.Raw]:
        """Definitions of all properties of an object type."""
        path = f"/crm/properties/{self._version}/{quote(object_type, safe='')}"
        return self.transport.ask("GET", path, PAGES, tally=tally).results

    def pipelines(self, object_type: str, tally: Tally | None = None) -> list[msgspec.Raw]:
        """Pipelines with their stages."""
        path = f"/crm/pipelines/{self._version}/{quote(object_type, safe='')}"
        return self.transport.ask("GET", path, PAGES, tally=tally).results

    def owners_page(self, after: str | None, archived: bool, tally: Tally | None = None) -> Page:
        """A page of owners; deactivated ones are archived."""
        query = _query(limit=OWNERS_PAGE, after=after, archived=archived)
        return self.transport.ask("GET", f"/crm/owners/{self._version}?{query}", PAGES, tally=tally)

    def users_page(self, after: str | None, tally: Tally | None = None) -> Page:
        """A page of the portal's users."""
        query = _query(limit=USERS_PAGE, after=after)
        return self.transport.ask("GET", f"/settings/users/{self._version}?{query}", PAGES, tally=tally)

    def list_definition(self, list_id: str, tally: Tally | None = None) -> msgspec.Raw:
        """One list (segment): name, object type, kind."""
        path = f"/crm/lists/{self._version}/{quote(list_id, safe='')}"
        return self.transport.ask("GET", path, _LIST, tally=tally).list

    def members_page(self, list_id: str, after: str | None, tally: Tally | None = None) -> Page:
        """A page of the members of a list, in the order of their record ids."""
        query = _query(limit=MEMBERS_PAGE, after=after)
        path = f"/crm/lists/{self._version}/{quote(list_id, safe='')}/memberships?{query}"
        return self.transport.ask("GET", path, PAGES, tally=tally)

    def list_path(
        self,
        object_type: str,
        properties: Sequence[str],
        history: Sequence[str] = (),
        *,
        archived: bool = False,
        after: str | None = None,
        limit: int = PAGE,
    ) -> str:
        """Address of a page of records; may be too long to be asked (`MAX_ADDRESS`)."""
        query = _query(
            limit=limit,
            after=after,
            properties=",".join(properties) or None,
            propertiesWithHistory=",".join(history) or None,
            archived=archived,
        )
        return f"/crm/objects/{self._version}/{quote(object_type, safe='')}?{query}"

    def page(self, path: str, tally: Tally | None = None) -> Page:
        """One page of records."""
        return self.transport.ask("GET", path, PAGES, tally=tally)

    def batch_read(
        self,
        object_type: str,
        ids: Sequence[str],
        properties: Sequence[str],
        history: Sequence[str] = (),
        *,
        archived: bool = False,
        tally: Tally | None = None,
    ) -> BatchReply:
        """Records by id, at most `PAGE` of them (`HISTORY_PAGE` with history); those that do not exist are absent.

        Records that failed for another reason are asked for once more.

        Raises:
            NoAnswerError: some failed again, which says nothing about whether they exist.
        """
        path = f"/crm/objects/{self._version}/{quote(object_type, safe='')}/batch/read?{_query(archived=archived)}"
        body: dict[str, Any] = {"properties": list(properties)}
        if history:
            body["propertiesWithHistory"] = list(history)
        results: list[msgspec.Raw] = []
        wanted = list(ids)
        for _ in range(2):
            body["inputs"] = [{"id": i} for i in wanted]
            reply = self.transport.ask("POST", path, BATCHES, body=body, tally=tally)
            results += reply.results
            wanted = _failed(wanted, reply)
            if not wanted:
                return BatchReply(results)
        shown = ", ".join(wanted[:5]) + (" and more" if len(wanted) > 5 else "")
        raise NoAnswerError(
            f"HubSpot could not read {len(wanted)} records of {object_type} ({shown}). {self.budget.kept}; "
            "run again later."
        )

    def search(self, object_type: str, body: Mapping[str, Any], tally: Tally | None = None) -> SearchReply:
        """Live records that match, at most `SEARCH_PAGE` of them, as the search index has them."""
        path = f"/crm/objects/{self._version}/{quote(object_type, safe='')}/search"
        return self.transport.ask("POST", path, SEARCHES, body=body, tally=tally, pacer=self._search_pacer)

    def associations(
        self, from_type: str, to_type: str, inputs: Sequence[Mapping[str, str]], tally: Tally | None = None
    ) -> BatchReply:
        """Associations of at most `ASSOCIATION_BATCH` records; an input may carry the ``after`` it goes on at."""
        path = f"/crm/associations/{self._version}/{quote(from_type, safe='')}/{quote(to_type, safe='')}/batch/read"
        return self.transport.ask("POST", path, BATCHES, body={"inputs": list(inputs)}, tally=tally)


def _query(**parameters: object) -> str:
    """A query string: None is left out, booleans as HubSpot writes them, commas as they are (they count)."""
    given = {
        key: str(value).lower() if isinstance(value, bool) else value
        for key, value in parameters.items()
        if value is not None and value is not False
    }
    return urlencode(given, safe=",")
