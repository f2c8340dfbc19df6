"""Requests to Intercom: paths, answers and the transport behind them.

Raw JSON over urllib3: Intercom's own client is generated from an older API version, decodes 25 times slower, and
its search pager repeats the first page for ever (intercom_billing.md 3, measured).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import metadata
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.settings import Environment, Intercom
from hub_pipeline.sources.transport import (
    BoundedPool,
    Budget,
    Pacer,
    Reply,
    SourceClient,
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
#: A workspace counts in windows of ten seconds.
WINDOW_SECONDS = 10.0
PAGE = 150
#: Pages of the list of deleted conversations hold at most so many.
DELETED_PAGE = 60

Text = str | int | float | None
"""Intercom sends numbers where it documents texts and the other way round."""


class Ref(msgspec.Struct):
    """Names another record."""

    id: str | int


class CompanyRefs(msgspec.Struct):
    """The companies inside a contact: ten at most."""

    data: list[Ref] = msgspec.field(default_factory=list)
    has_more: bool = False


class Merge(msgspec.Struct):
    """A contact that was merged into the one whose history this is."""

    source_contact_id: str | int
    merged_at: int | None = None


class Contact(msgspec.Struct):
    """What is kept of a contact; anything else Intercom knows about a person is not landed."""

    id: str | int
    external_id: Text = None
    email: Text = None
    name: Text = None
    role: Text = None
    owner_id: Text = None
    created_at: int | None = None
    updated_at: int | None = None
    custom_attributes: msgspec.Raw = msgspec.Raw(b"null")
    companies: CompanyRefs | None = None
    merge_history: list[Merge] | None = None


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
    updated_at: int | None = None
    replied_at: int | None = None


class Statistics(msgspec.Struct):
    """Derived times and counts."""

    last_contact_reply_at: int | None = None
    count_conversation_parts: int | None = None


class TagRefs(msgspec.Struct):
    """The tags of a conversation."""

    tags: list[Ref] = msgspec.field(default_factory=list)


class Conversation(msgspec.Struct):
    """What is kept of a conversation: never the text of a message."""

    id: str | int
    title: str | None = None
    state: str | None = None
    created_at: int | None = None
    updated_at: int | None = None
    contacts: ContactRefs | None = None
    company: Ref | None = None
    admin_assignee_id: Text = None
    team_assignee_id: Text = None
    tags: TagRefs | None = None
    conversation_rating: Rating | None = None
    statistics: Statistics | None = None


class TicketType(msgspec.Struct):
    """What kind of request a ticket is."""

    id: Text = None
    name: Text = None


class TicketState(msgspec.Struct):
    """Where a ticket stands; older versions of the API send the category alone, as a text."""

    category: str | None = None


class TicketAttributes(msgspec.Struct):
    """Of what was filled in only the title; the description is a message."""

    title: Text = msgspec.field(name="_default_title_", default=None)


class Ticket(msgspec.Struct):
    """What is kept of a ticket: never its description or its parts."""

    id: str | int
    ticket_id: Text = None
    category: Text = None
    ticket_type: TicketType | None = None
    ticket_state: TicketState | str | None = None
    ticket_attributes: TicketAttributes | None = None
    contacts: ContactRefs | None = None
    company_id: Text = None
    admin_assignee_id: Text = None
    team_assignee_id: Text = None
    open: bool | None = None
    created_at: int | None = None
    updated_at: int | None = None


class DeletedConversation(msgspec.Struct):
    """A conversation that is gone, and when it went."""

    id: str | int
    deleted_at: int | None = None


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

    data: list[Conversation] = msgspec.field(name="conversations")
    total_count: int = 0
    pages: SearchPages | None = None


class TicketPage(msgspec.Struct):
    """A page of tickets."""

    data: list[Ticket] = msgspec.field(name="tickets")
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


class DeletedPage(msgspec.Struct):
    """A page of the conversations that were deleted."""

    data: list[DeletedConversation] = msgspec.field(name="conversations")
    pages: NumberedPages | None = None


class AdminList(msgspec.Struct):
    """All teammates."""

    admins: list[Admin]


class Team(msgspec.Struct):
    """A team and the ids of its members."""

    id: str | int
    name: Text = None
    admin_ids: list[str | int] = msgspec.field(default_factory=list)


class TeamList(msgspec.Struct):
    """All teams."""

    teams: list[Team]


class Tag(msgspec.Struct):
    """A tag."""

    id: str | int
    name: Text = None


class TagList(msgspec.Struct):
    """All tags."""

    data: list[Tag]


class App(msgspec.Struct):
    """The workspace."""

    id_code: str
    name: str | None = None
    timezone: str | None = None
    region: str | None = None


class Me(msgspec.Struct):
    """Whose token it is."""

    app: App


class Searchable(Protocol):
    """What every record of a search has."""

    id: str | int
    created_at: int | None
    updated_at: int | None


S = TypeVar("S", bound=Searchable)
S_co = TypeVar("S_co", bound=Searchable, covariant=True)


class SearchPage(Protocol[S_co]):
    """A page of a search."""

    @property
    def data(self) -> Sequence[S_co]:
        """The records."""

    @property
    def total_count(self) -> int:
        """How many records the search found."""

    @property
    def pages(self) -> SearchPages | None:
        """Where it goes on."""


@dataclass(frozen=True)
class Searched(Generic[S]):
    """An object that is read by searching.

    Attributes:
        name: its raw table and landing folder.
        path: of the search.
        decoder: of its pages.
        by_day: dates are compared by whole days, of UTC or of the workspace's time zone: Intercom has documented
            both, so nothing here may depend on which.
    """

    name: str
    path: str
    decoder: msgspec.json.Decoder[SearchPage[S]]
    by_day: bool


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


#: With the history of merges a contact says which other contacts have become this one (API version 2.16).
CONTACTS: Searched[Contact] = Searched(
    "contacts", "/contacts/search?include_merge_history=true", _decoder(ContactPage), by_day=True
)
CONVERSATIONS: Searched[Conversation] = Searched(
    "conversations", "/conversations/search", _decoder(ConversationPage), by_day=False
)
TICKETS: Searched[Ticket] = Searched("tickets", "/tickets/search", _decoder(TicketPage), by_day=False)

_SCROLL: msgspec.json.Decoder[ScrollPage] = _decoder(ScrollPage)
_COMPANIES: msgspec.json.Decoder[CompanyPage] = _decoder(CompanyPage)
_DELETED: msgspec.json.Decoder[DeletedPage] = _decoder(DeletedPage)
_ADMINS: msgspec.json.Decoder[AdminList] = _decoder(AdminList)
_TEAMS: msgspec.json.Decoder[TeamList] = _decoder(TeamList)
_TAGS: msgspec.json.Decoder[TagList] = _decoder(TagList)
_DETAIL: msgspec.json.Decoder[Detail] = _decoder(Detail)
_ME: msgspec.json.Decoder[Me] = _decoder(Me)

Query = Mapping[str, Any]
#: Every record there is.
EVERYTHING: Query = {"field": "updated_at", "operator": ">", "value": 0}


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


class IntercomClient(SourceClient):
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
        self._pool = BoundedPool(self.budget, workers=settings.workers)
        self._limit = settings.requests_per_10_seconds
        self._lock = threading.Lock()
        self._server_time = 0
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
            pacer=Pacer(self._limit, WINDOW_SECONDS, float(settings.reserve)),
            budget=self.budget,
            observe=self._observe,
            token=token,
            token_variable=TOKEN_VARIABLE,
            address_variable=ADDRESS_VARIABLE,
        )

    def _send(self, method: str, path: str, body: Any) -> Reply:
        content = None if body is None else msgspec.json.encode(body)
        return self._pool.request(method, self._address + path, headers=self._headers, body=content)

    def _observe(self, pacer: Pacer, headers: Mapping[str, str]) -> None:
        """Take in Intercom's own count of the window, and wait for the next one as soon as this one is used up."""
        limit, remaining = (_whole(headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining"))
        # A larger limit than ours says nothing about what others use: it may be counted over another time.
        if limit is not None and limit <= self._limit:
            pacer.observe(limit, WINDOW_SECONDS, remaining)
        if remaining == 0 and (wait := asked_wait(headers)) is not None:
            pacer.pause(min(wait, WINDOW_SECONDS))
        try:
            seconds = int(parsedate_to_datetime(headers.get("Date", "")).timestamp())
        except ValueError:  # a proxy that sends no date; the answers before it had one
            return
        with self._lock:
            self._server_time = max(self._server_time, seconds)

    @property
    def server_time(self) -> int:
        """The latest time Intercom itself has told, in seconds since 1970; 0 before the first answer."""
        with self._lock:
            return self._server_time

    def me(self, tally: Tally | None = None) -> App:
        """The workspace the token belongs to."""
        return self.transport.ask("GET", "/me", _ME, tally=tally).app

    def admins(self, tally: Tally | None = None) -> list[Admin]:
        """All teammates."""
        return self.transport.ask("GET", "/admins", _ADMINS, tally=tally).admins

    def teams(self, tally: Tally | None = None) -> list[Team]:
        """All teams."""
        return self.transport.ask("GET", "/teams", _TEAMS, tally=tally).teams

    def tags(self, tally: Tally | None = None) -> list[Tag]:
        """All tags."""
        return self.transport.ask("GET", "/tags", _TAGS, tally=tally).data

    def search(
        self,
        searched: Searched[S],
        query: Query,
        after: str | None,
        tally: Tally | None = None,
        per_page: int | None = None,
        sort: str = "updated_at",
    ) -> SearchPage[S]:
        """A page of a search, what is oldest by ``sort`` first."""
        pagination: dict[str, Any] = {"per_page": per_page or PAGE}
        if after is not None:
            pagination["starting_after"] = after
        body = {
            "query": query,
            "pagination": pagination,
            "sort": {"field": sort, "order": "ascending"},
        }
        return self.transport.ask("POST", searched.path, searched.decoder, body=body, tally=tally)

    def count(self, searched: Searched[S], query: Query = EVERYTHING, tally: Tally | None = None) -> int:
        """How many records a search finds."""
        return self.search(searched, query, None, tally, per_page=1).total_count

    def deleted_conversations(self, page: int, tally: Tally | None = None) -> DeletedPage:
        """A page of the deleted conversations, the latest first (API version 2.16)."""
        path = f"/conversations/deleted?page={page}&per_page={DELETED_PAGE}&order=desc"
        return self.transport.ask("GET", path, _DELETED, tally=tally)

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
