"""Requests to Intercom: paths, answers and the transport behind them.

Raw JSON over urllib3: Intercom's own client is generated from an older API version, decodes 25 times slower, and
its search pager repeats the first page for ever (intercom_billing.md 3, measured).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any
from urllib.parse import quote

import msgspec

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.settings import Environment, Intercom
from hub_pipeline.sources.transport import (
    BoundedPool,
    Budget,
    Pacer,
    Reply,
    T,
    Tally,
    Transport,
    asked_wait,
    checked_address,
)

TOKEN_VARIABLE = "INTERCOM_ACCESS_TOKEN"  # noqa: S105  the name of the variable
ADDRESS_VARIABLE = "INTERCOM_BASE_URL"
ADDRESSES = {
    "us": "https://api.intercom.io",
    "eu": "https://api.eu.intercom.io",
    "au": "https://api.au.intercom.io",
}
#: 10,000 a minute for each app, enforced in windows of ten seconds.
REQUESTS_PER_10_SECONDS = 1_666
RESERVE = 0.05
WORKERS = 8
PAGE = 150

Text = str | int | float | None
"""Intercom sends numbers where it documents texts and the other way round."""


class Ref(msgspec.Struct):
    """Names another record."""

    id: str | int


class CompanyRefs(msgspec.Struct):
    """The companies inside a contact: ten at most."""

    data: list[Ref] = msgspec.field(default_factory=list)
    has_more: bool = False


class Contact(msgspec.Struct):
    """What is kept of a contact; anything else Intercom knows about a person is not landed."""

    id: str | int
    external_id: Text = None
    email: Text = None
    name: Text = None
    role: Text = None
    created_at: Text = None
    updated_at: Text = None
    custom_attributes: msgspec.Raw = msgspec.Raw(b"null")
    companies: CompanyRefs | None = None


class Company(msgspec.Struct):
    """What is kept of a company."""

    id: str | int
    company_id: Text = None
    name: Text = None
    created_at: Text = None
    updated_at: Text = None
    custom_attributes: msgspec.Raw = msgspec.Raw(b"null")


class ContactRefs(msgspec.Struct):
    """The contacts of a conversation, the one who opened it first."""

    contacts: list[Ref] = msgspec.field(default_factory=list)


class Rating(msgspec.Struct):
    """The rating of a conversation; without ``rating`` it was asked for and not given."""

    rating: int | None = None
    remark: str | None = None
    created_at: int | None = None
    replied_at: int | None = None


class Statistics(msgspec.Struct):
    """Derived times and counts."""

    last_contact_reply_at: int | None = None
    count_conversation_parts: int | None = None


class Conversation(msgspec.Struct):
    """What is kept of a conversation: never the text of a message."""

    id: str | int
    title: str | None = None
    state: str | None = None
    created_at: int | None = None
    updated_at: int | None = None
    contacts: ContactRefs | None = None
    company: Ref | None = None
    conversation_rating: Rating | None = None
    statistics: Statistics | None = None


class Author(msgspec.Struct):
    """Who wrote a part."""

    type: str = ""
    id: Text = None


class Source(msgspec.Struct):
    """The message that opened a conversation."""

    author: Author = msgspec.field(default_factory=Author)
    body: str | None = None


class Part(msgspec.Struct):
    """A later part of a conversation."""

    id: str | int
    part_type: str | None = None
    body: str | None = None
    created_at: int | None = None
    author: Author = msgspec.field(default_factory=Author)


class PartList(msgspec.Struct):
    """The 500 latest parts, and how many there are."""

    conversation_parts: list[Part] = msgspec.field(default_factory=list)
    total_count: int = 0


class Detail(msgspec.Struct):
    """A conversation with its parts."""

    id: str | int
    created_at: int | None = None
    source: Source | None = None
    conversation_parts: PartList | None = None


class Admin(msgspec.Struct):
    """A teammate."""

    id: str | int
    name: Text = None
    email: Text = None
    job_title: Text = None


class NextPage(msgspec.Struct):
    """Where a search goes on."""

    starting_after: str | None = None


class SearchPages(msgspec.Struct):
    """Paging of a search."""

    next: NextPage | None = None


class ContactPage(msgspec.Struct):
    """A page of contacts."""

    data: list[Contact]
    total_count: int = 0
    pages: SearchPages | None = None


class ConversationPage(msgspec.Struct):
    """A page of conversations."""

    conversations: list[Conversation]
    total_count: int = 0
    pages: SearchPages | None = None


class ScrollPage(msgspec.Struct):
    """A page of the scroll over all companies; an empty one is the end."""

    data: list[Company]
    scroll_param: str | None = None


class NumberedPages(msgspec.Struct):
    """Paging by number."""

    total_pages: int = 1


class CompanyPage(msgspec.Struct):
    """A page of the companies of one contact."""

    data: list[Ref]
    pages: NumberedPages | None = None


class AdminList(msgspec.Struct):
    """All teammates."""

    admins: list[Admin]


class App(msgspec.Struct):
    """The workspace."""

    id_code: str
    name: str | None = None
    timezone: str | None = None
    region: str | None = None


class Me(msgspec.Struct):
    """Whose token it is."""

    app: App


def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


_CONTACTS = _decoder(ContactPage)
_CONVERSATIONS = _decoder(ConversationPage)
_SCROLL = _decoder(ScrollPage)
_COMPANIES = _decoder(CompanyPage)
_ADMINS = _decoder(AdminList)
_DETAIL = _decoder(Detail)
_ME = _decoder(Me)


def observe_limits(pacer: Pacer, headers: Mapping[str, str]) -> None:
    """Wait for the next window as soon as Intercom says that this one is used up."""
    if headers.get("X-RateLimit-Remaining") == "0" and (wait := asked_wait(headers)) is not None:
        pacer.pause(min(wait, 10.0))


class IntercomClient:
    """Everything that is asked of one workspace with one token.

    Args:
        settings: region and API version.
        environment: address and token.
        budget: default: the time budget of the settings.

    Raises:
        ConfigurationError: there is no token, or the address is not usable.
    """

    def __init__(self, settings: Intercom, environment: Environment, budget: Budget | None = None) -> None:
        if environment.intercom_access_token is None:
            raise ConfigurationError(f"Intercom is not configured: set {TOKEN_VARIABLE} to an access token.")
        token = environment.intercom_access_token.get_secret_value()
        address = environment.intercom_base_url or ADDRESSES[settings.region]
        self._address = checked_address(address, ADDRESS_VARIABLE)
        self.budget = budget or Budget(
            "Intercom", settings.time_budget_seconds, "intercom.time_budget_seconds"
        )
        self._pool = BoundedPool(self.budget, workers=WORKERS)
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Content-Type": "application/json",
            "Intercom-Version": settings.api_version,
            "User-Agent": f"hub-pipeline/{metadata.version('hub-pipeline')}",
        }
        self.transport = Transport(
            "Intercom",
            send=self._send,
            pacer=Pacer(REQUESTS_PER_10_SECONDS, 10.0, RESERVE),
            budget=self.budget,
            observe=observe_limits,
            token=token,
            token_variable=TOKEN_VARIABLE,
            address_variable=ADDRESS_VARIABLE,
        )

    def __enter__(self) -> IntercomClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.budget.cancel()
        self._pool.cut()
        self._pool.close()

    def _send(self, method: str, path: str, body: Any) -> Reply:
        content = None if body is None else msgspec.json.encode(body)
        return self._pool.request(method, self._address + path, headers=self._headers, body=content)

    def me(self, tally: Tally | None = None) -> App:
        """The workspace the token belongs to."""
        return self.transport.ask("GET", "/me", _ME, tally=tally).app

    def admins(self, tally: Tally | None = None) -> list[Admin]:
        """All teammates."""
        return self.transport.ask("GET", "/admins", _ADMINS, tally=tally).admins

    def contacts(self, after: str | None, tally: Tally | None = None, per_page: int = PAGE) -> ContactPage:
        """A page of all contacts, the one changed last at the end."""
        body = _search(after, per_page)
        return self.transport.ask("POST", "/contacts/search", _CONTACTS, body=body, tally=tally)

    def conversations(
        self, after: str | None, tally: Tally | None = None, per_page: int = PAGE
    ) -> ConversationPage:
        """A page of all conversations, the one changed last at the end."""
        body = _search(after, per_page)
        return self.transport.ask("POST", "/conversations/search", _CONVERSATIONS, body=body, tally=tally)

    def scroll(self, parameter: str | None, tally: Tally | None = None) -> ScrollPage:
        """The next page of the scroll over all companies.

        Asked only once: the server moves on with each answer, so asking again after a lost one would skip a page.
        """
        query = f"?scroll_param={quote(parameter, safe='')}" if parameter else ""
        return self.transport.ask("GET", f"/companies/scroll{query}", _SCROLL, tally=tally, attempts=1)

    def companies_of(self, contact_id: str, page: int, tally: Tally | None = None) -> CompanyPage:
        """A page of the companies of one contact."""
        path = f"/contacts/{quote(contact_id, safe='')}/companies?page={page}&per_page=60"
        return self.transport.ask("GET", path, _COMPANIES, tally=tally)

    def conversation(self, conversation_id: str, tally: Tally | None = None) -> Detail:
        """A conversation with its 500 latest parts."""
        path = f"/conversations/{quote(conversation_id, safe='')}?display_as=plaintext"
        return self.transport.ask("GET", path, _DETAIL, tally=tally)


def _search(after: str | None, per_page: int) -> dict[str, Any]:
    """Everything, oldest change first: what changes while it is read moves to the end and is read there."""
    pagination: dict[str, Any] = {"per_page": per_page}
    if after is not None:
        pagination["starting_after"] = after
    return {
        "query": {"field": "updated_at", "operator": ">", "value": 0},
        "pagination": pagination,
        "sort": {"field": "updated_at", "order": "ascending"},
    }
