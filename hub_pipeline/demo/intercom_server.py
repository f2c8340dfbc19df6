"""An Intercom workspace over HTTP, as strict as the real one: searches, scroll, parts, versions, limits.

Shapes and rules follow API version 2.16: contact searches compare dates by whole days, a conversation shows at most
its 500 latest parts, a contact at most ten of its companies, only one scroll over the companies may be open, a search
shows what changed only after a while, and whoever was merged, archived or deleted is in no list.

The workspace may be changed while the server runs: `IntercomSimulator.life` has its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.routing import Route

from hub_pipeline.demo.account import IntercomWorkspace
from hub_pipeline.demo.faults import Faults
from hub_pipeline.demo.intercom_life import IntercomLife
from hub_pipeline.demo.intercom_search import Page, Record, Rules, SearchError, field_of, search
from hub_pipeline.demo.wire import FAULT, Refusal, Reply, Simulator, SimulatorClock

DEMO_TOKEN = "demo-intercom-token"  # noqa: S105  the made-up company's token, not a secret

SCROLL_PAGE = 100
MAX_DELETED_PAGE = 60
MAX_PARTS = 500
INLINE_COMPANIES = 10
SCROLL_IDLE_SECONDS = 60.0
WINDOW_SECONDS = 10
#: Requests of all apps of a workspace together: 25,000 a minute.
WORKSPACE_PER_10_SECONDS = 4_166

_CONTACT_DATES = frozenset(
    {
        "created_at",
        "updated_at",
        "signed_up_at",
        "last_seen_at",
        "last_contacted_at",
        "last_replied_at",
        "last_email_opened_at",
        "last_email_clicked_at",
    }
)
_CONTACTS = Rules(
    fields=_CONTACT_DATES
    | {
        "id",
        "role",
        "name",
        "email",
        "email_domain",
        "phone",
        "external_id",
        "owner_id",
        "segment_id",
        "tag_id",
    }
    | {
        "unsubscribed_from_emails",
        "marked_email_as_spam",
        "has_hard_bounced",
        "location.",
        "custom_attributes.",
    },
    default_page=50,
    days=_CONTACT_DATES,
)


def _replied_at(conversation: Record) -> Any:
    rating = conversation.get("conversation_rating") or {}
    if rating.get("rating") is None:
        return None
    return rating.get("replied_at") or rating.get("updated_at")


_CONVERSATIONS = Rules(
    fields=frozenset(
        {"id", "created_at", "updated_at", "state", "open", "read", "priority", "title", "waiting_since"}
        | {"admin_assignee_id", "team_assignee_id", "contact_ids", "tag_ids", "company.id", "snoozed_until"}
        | {f"conversation_rating.{name}" for name in ("score", "remark", "replied_at", "requested_at")}
        | {"source.", "statistics."}
    ),
    default_page=20,
    inclusive=True,
    computed={
        "conversation_rating.replied_at": _replied_at,
        "conversation_rating.score": lambda record: field_of(record, "conversation_rating.rating"),
        "conversation_rating.requested_at": lambda record: field_of(record, "conversation_rating.created_at"),
    },
)
_TICKETS = Rules(
    fields=frozenset(
        {"id", "created_at", "updated_at", "open", "state", "category", "ticket_type_id", "contact_ids"}
        | {"admin_assignee_id", "team_assignee_id", "title", "description", "snoozed_until"}
    ),
    default_page=20,
    inclusive=True,
)
_HIDDEN_IN_SEARCH = {"conversation_parts", "ticket_parts"}


class IntercomSimulator(Simulator):
    """One workspace.

    Args:
        workspace: the data served; it may be changed while the server runs.
        token: the bearer token that is accepted.
        versions: values of the Intercom-Version header that exist. Before 2.15 conversations name no company,
            before 2.16 deleted conversations and merges are not told.
        time_zone: of the workspace.
        days_of_utc: whether dates of contact searches are days of UTC, as documented since August 2026, or of the
            workspace's time zone, as documented before.
        per_10_seconds: requests allowed in each window of ten seconds of the clock.
        scroll_idle_seconds: an open scroll that is not used for longer expires.
        index_lag: how long after a change (updated_at) a search shows it.
        max_parts: latest parts that a conversation shows.
        searches_sorted: whether searches of conversations and tickets heed the sort, which is documented for
            contacts alone; if not, what changed last comes first.

    Attributes:
        life: the events of the workspace.
        scroll_breaks: how many scrolls still end with HTTP 500 at their second page and must be begun again.
        used_by_others: requests that other apps make in each window; all apps share the workspace's limit.
    """

    def __init__(
        self,
        workspace: IntercomWorkspace,
        *,
        token: str = DEMO_TOKEN,
        clock: SimulatorClock | None = None,
        latency_ms: float = 0.0,
        faults: Faults | None = None,
        versions: tuple[str, ...] = ("2.14", "2.15", "2.16"),
        time_zone: str = "UTC",
        days_of_utc: bool = False,
        per_10_seconds: int = 1_666,
        scroll_idle_seconds: float = SCROLL_IDLE_SECONDS,
        index_lag: timedelta = timedelta(0),
        max_parts: int = MAX_PARTS,
        searches_sorted: bool = True,
    ) -> None:
        super().__init__(token=token, clock=clock, latency_ms=latency_ms, faults=faults)
        self.workspace = workspace
        self.life = IntercomLife(workspace, self.clock)
        self.life.lag_seconds = index_lag.total_seconds()
        self.versions = versions
        self.time_zone = time_zone
        self.per_10_seconds = per_10_seconds
        self.scroll_idle_seconds = scroll_idle_seconds
        self.max_parts = max_parts
        self.searches_sorted = searches_sorted
        self.scroll_breaks = 0
        self.used_by_others = 0
        self._days = ZoneInfo("UTC" if days_of_utc else time_zone)
        self._window = 0
        self._used = 0
        self._scroll: _Scroll | None = None

    def routes(self) -> Iterable[Route]:
        """All paths of the workspace that are simulated; anything else is 404."""
        return [
            self.route("/me", "GET", self._me),
            self.route("/admins", "GET", self._admins),
            self.route("/teams", "GET", self._teams),
            self.route("/tags", "GET", self._tags),
            self.route("/contacts/search", "POST", self._search_contacts),
            self.route("/contacts/{id}", "GET", self._contact),
            self.route("/contacts/{id}/companies", "GET", self._companies_of_contact),
            self.route("/companies/scroll", "GET", self._scroll_companies),
            self.route("/conversations/search", "POST", self._search_conversations),
            self.route("/conversations/deleted", "GET", self._deleted_conversations),
            self.route("/conversations/{id}", "GET", self._conversation),
            self.route("/tickets/search", "POST", self._search_tickets),
        ]

    # ---- errors, token, limits ----------------------------------------------------------------------------------

    def error(self, status: int, message: str, code: str | None = None) -> Reply:
        """An error list of Intercom; the code follows from the status when it is not given."""
        codes = {400: "parameter_invalid", 401: "unauthorized", 404: "not_found", 405: "method_not_allowed"}
        entry = {"code": code or codes.get(status, "server_error"), "message": message}
        return Reply(
            {"type": "error.list", "request_id": self.identifier(), "errors": [entry]}, status=status
        )

    def rate_limited(self, retry_after: str | None) -> Reply:
        """A 429; Intercom tells when to come back in X-RateLimit-Reset."""
        reply = self.error(429, "Exceeded rate limit", "rate_limit_exceeded")
        reply.headers = self._limit_headers(0)
        if retry_after is not None:
            reply.headers["Retry-After"] = retry_after
        return reply

    def _limit_headers(self, remaining: int) -> dict[str, str]:
        reset = (int(self.clock.now().timestamp()) // WINDOW_SECONDS + 1) * WINDOW_SECONDS
        return {
            "X-RateLimit-Limit": str(self.per_10_seconds),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": str(reset),
        }

    def admit(self, request: Request) -> dict[str, str]:
        """Token, then the version header, then the window of ten seconds."""
        if request.headers.get("authorization") != f"Bearer {self.token}":
            raise Refusal(self.error(401, "Access Token Invalid"))
        version = request.headers.get("intercom-version")
        if version is None:
            raise Refusal(
                self.error(400, "The Intercom-Version header is missing", "intercom_version_invalid")
            )
        if version not in self.versions:
            raise Refusal(
                self.error(400, "The requested version could not be found", "intercom_version_invalid")
            )
        window = int(self.clock.now().timestamp()) // WINDOW_SECONDS
        if window != self._window:
            self._window, self._used = window, 0
        left = min(
            self.per_10_seconds - self._used, WORKSPACE_PER_10_SECONDS - self.used_by_others - self._used
        )
        if left <= 0:
            raise Refusal(self.rate_limited(None))
        self._used += 1
        return self._limit_headers(left - 1)

    def _since(self, request: Request, version: str) -> bool:
        """Whether the request's version is this one or a later one."""
        asked = request.headers["intercom-version"]
        return [int(part) for part in asked.split(".")] >= [int(part) for part in version.split(".")]

    def _invalid(self, message: str) -> Refusal:
        return Refusal(self.error(400, message))

    def _whole(self, request: Request, name: str, default: int, high: int) -> int:
        text = request.query_params.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= high:
            raise self._invalid(f"{name} must be a whole number between 1 and {high}")
        return int(text)

    # ---- reference data -----------------------------------------------------------------------------------------

    def _me(self, request: Request, _: Any) -> Reply:
        admin = next(iter(self.workspace.admins.values()), {"type": "admin", "id": "1", "name": "Owner"})
        app = {
            "type": "app",
            "id_code": "demo",
            "name": "Demo company",
            "created_at": 1_672_531_200,
            "secure": False,
            "identity_verification": False,
            "timezone": self.time_zone,
            "region": "US",
        }
        return Reply({**admin, "email_verified": True, "app": app})

    def _admins(self, request: Request, _: Any) -> Reply:
        return Reply({"type": "admin.list", "admins": list(self.workspace.admins.values())})

    def _teams(self, request: Request, _: Any) -> Reply:
        return Reply({"type": "team.list", "teams": list(self.workspace.teams.values())})

    def _tags(self, request: Request, _: Any) -> Reply:
        return Reply({"type": "list", "data": list(self.workspace.tags.values())})

    # ---- contacts and companies ---------------------------------------------------------------------------------

    def _attached(self, contact: Mapping[str, Any]) -> list[dict[str, Any]]:
        companies = contact.get("companies") or {}
        return list(companies.get("data") or [])

    def _shown_contact(self, contact: Mapping[str, Any], with_merges: bool = False) -> dict[str, Any]:
        """A contact with at most ten companies inside, and with its merges if it is asked for them."""
        attached = self._attached(contact)
        companies = {
            "type": "list",
            "data": attached[:INLINE_COMPANIES],
            "url": f"/contacts/{contact['id']}/companies",
            "total_count": len(attached),
            "has_more": len(attached) > INLINE_COMPANIES,
        }
        shown = {key: value for key, value in contact.items() if key != "merge_history"}
        if with_merges and contact.get("role") == "user":
            shown["merge_history"] = contact.get("merge_history", [])
        return {**shown, "companies": companies}

    def _with_merges(self, request: Request) -> bool:
        return request.query_params.get("include_merge_history") == "true" and self._since(request, "2.16")

    def _existing_contact(self, request: Request) -> dict[str, Any]:
        contact_id = request.path_params["id"]
        contact = self.workspace.contacts.get(contact_id) or self.life.archived.get(contact_id)
        if contact is not None:
            return contact
        if contact_id not in self.life.merged:
            raise Refusal(self.error(404, "User Not Found"))
        while contact_id in self.life.merged:
            contact_id = self.life.merged[contact_id]
        gone = self.error(410, "This contact has been merged", "contact_merged")
        gone.headers = {"Link": f'</contacts/{contact_id}>; rel="canonical"'}
        raise Refusal(gone)

    def _contact(self, request: Request, _: Any) -> Reply:
        return Reply(self._shown_contact(self._existing_contact(request), self._with_merges(request)))

    def _companies_of_contact(self, request: Request, _: Any) -> Reply:
        attached = self._attached(self._existing_contact(request))
        page = self._whole(request, "page", 1, 10**6)
        per_page = self._whole(request, "per_page", 50, 60)
        companies = [self.workspace.companies.get(item["id"], item) for item in attached]
        return Reply({"type": "list", "data": companies[(page - 1) * per_page : page * per_page]}
                     | self._numbered_pages(len(companies), page, per_page, request.url.path))  # fmt: skip

    def _numbered_pages(self, total: int, page: int, per_page: int, path: str) -> dict[str, Any]:
        last = max(1, -(-total // per_page))
        following = f"{path}?page={page + 1}&per_page={per_page}" if page < last else None
        pages = {"type": "pages", "page": page, "per_page": per_page, "total_pages": last, "next": following}
        return {"pages": pages, "total_count": total}

    def _search_contacts(self, request: Request, body: Any) -> Reply:
        page = self._found(request, "contacts", body, _CONTACTS)
        merges = self._with_merges(request)
        data = [self._shown_contact(contact, merges) for contact in page.records]
        return Reply({"type": "list", "data": data, "total_count": page.total, "pages": page.pages})

    def _found(self, request: Request, name: str, body: Mapping[str, Any], rules: Rules) -> Page:
        keep_order = self.searches_sorted or name == "contacts"
        fault = request.scope.get(FAULT)
        kind = None if fault is None else fault.kind
        try:
            return search(
                self.life.searched(name), body, rules, self._days, keep_order=keep_order, fault=kind
            )
        except SearchError as error:
            raise Refusal(self.error(400, str(error), error.code)) from error

    def _scroll_companies(self, request: Request, _: Any) -> Reply:
        now = self.clock.monotonic()
        scroll = self._scroll
        if scroll is not None and now - scroll.used_at > self.scroll_idle_seconds:
            scroll = self._scroll = None
        parameter = request.query_params.get("scroll_param")
        if parameter is None:
            if scroll is not None:
                raise Refusal(self.error(400, "scroll already exists for this workspace", "scroll_exists"))
            # The set is fixed when the scroll opens, as the real one's is.
            companies = [self.workspace.companies[key] for key in sorted(self.workspace.companies)]
            scroll = self._scroll = _Scroll(self.identifier(), companies, now)
        elif scroll is None or scroll.parameter != parameter:
            raise Refusal(self.error(404, "scroll parameter not found"))
        elif self.scroll_breaks:
            self.scroll_breaks, self._scroll = self.scroll_breaks - 1, None
            raise Refusal(self.error(500, "The scroll timed out"))
        page = scroll.companies[scroll.position : scroll.position + SCROLL_PAGE]
        scroll.position += len(page)
        scroll.used_at = now
        if not page:
            self._scroll = None
        return Reply(
            {
                "type": "list",
                "data": page,
                "pages": None,
                "total_count": None,
                "scroll_param": scroll.parameter,
            }
        )

    # ---- conversations ------------------------------------------------------------------------------------------

    def _search_conversations(self, request: Request, body: Any) -> Reply:
        page = self._found(request, "conversations", body, _CONVERSATIONS)
        hidden = _HIDDEN_IN_SEARCH if self._since(request, "2.15") else _HIDDEN_IN_SEARCH | {"company"}
        found = [{k: v for k, v in record.items() if k not in hidden} for record in page.records]
        return Reply(
            {
                "type": "conversation.list",
                "conversations": found,
                "total_count": page.total,
                "pages": page.pages,
            }
        )

    def _search_tickets(self, request: Request, body: Any) -> Reply:
        page = self._found(request, "tickets", body, _TICKETS)
        found = [{k: v for k, v in r.items() if k not in _HIDDEN_IN_SEARCH} for r in page.records]
        return Reply(
            {"type": "ticket.list", "tickets": found, "total_count": page.total, "pages": page.pages}
        )

    def _conversation(self, request: Request, _: Any) -> Reply:
        conversation = self.workspace.conversations.get(request.path_params["id"])
        if conversation is None:
            raise Refusal(self.error(404, "Resource Not Found"))
        parts = conversation.get("conversation_parts") or {}
        latest = list(parts.get("conversation_parts") or [])[-self.max_parts :]
        shown = {"type": "conversation_part.list", **parts, "conversation_parts": latest}
        return Reply({**conversation, "conversation_parts": shown})

    def _deleted_conversations(self, request: Request, _: Any) -> Reply:
        if not self._since(request, "2.16"):
            raise Refusal(self.error(404, "Resource Not Found"))
        page = self._whole(request, "page", 1, 10**6)
        per_page = self._whole(request, "per_page", 20, MAX_DELETED_PAGE)
        order = request.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise self._invalid("order must be asc or desc")
        rows = sorted(self.life.deleted, key=lambda row: row["deleted_at"], reverse=order == "desc")
        return Reply(
            {
                "type": "conversations.list",
                "conversations": rows[(page - 1) * per_page : page * per_page],
                **self._numbered_pages(len(rows), page, per_page, request.url.path),
            }
        )


class _Scroll:
    """The one open scroll over the companies."""

    def __init__(self, parameter: str, companies: list[dict[str, Any]], now: float) -> None:
        self.parameter = parameter
        self.companies = companies
        self.position = 0
        self.used_at = now
