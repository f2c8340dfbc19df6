"""An Intercom workspace over HTTP, as strict as the real one: searches, scroll, parts, versions, limits.

Shapes and rules follow API version 2.16: contact searches compare dates by the
day of the workspace's time zone, a conversation shows at most its 500 latest parts, a contact at most ten of its
companies, and only one scroll over the companies may be open.

The workspace may be changed while the server runs.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from operator import ge, gt, le, lt
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from hub_pipeline.demo.account import IntercomWorkspace
from hub_pipeline.demo.faults import Faults
from hub_pipeline.demo.wire import Refusal, Reply, Simulator, SimulatorClock

DEMO_TOKEN = "demo-intercom-token"  # noqa: S105  the made-up company's token, not a secret

MAX_PAGE = 150
CONTACTS_PAGE = 50
CONVERSATIONS_PAGE = 20
SCROLL_PAGE = 100
MAX_DELETED_PAGE = 60
MAX_PARTS = 500
INLINE_COMPANIES = 10
SCROLL_IDLE_SECONDS = 60.0
WINDOW_SECONDS = 10

_CONTACT_DATES = {
    "created_at",
    "updated_at",
    "signed_up_at",
    "last_seen_at",
    "last_contacted_at",
    "last_replied_at",
    "last_email_opened_at",
    "last_email_clicked_at",
    "unsubscribed_from_emails_at",
}
_DATE_OPERATORS = {"=", ">", "<"}
_OPERATORS = {"=", "!=", "IN", "NIN", ">", "<", ">=", "<=", "~", "!~", "^", "$"}
_UNSEARCHABLE = "conversation_parts"


class IntercomSimulator(Simulator):
    """One workspace.

    Args:
        workspace: the data served; it may be changed while the server runs.
        token: the bearer token that is accepted.
        versions: values of the Intercom-Version header that exist.
        time_zone: of the workspace; days of contact searches are its days.
        per_10_seconds: requests allowed in each window of ten seconds of the clock.
        scroll_idle_seconds: an open scroll that is not used for longer expires.
        index_lag: how long after a change (updated_at) a contact cannot be found by a search.

    Attributes:
        scroll_breaks: how many scrolls still end with HTTP 500 at their second page and must be begun again.
        deleted: rows of the list of deleted conversations, oldest first.
    """

    def __init__(
        self,
        workspace: IntercomWorkspace,
        *,
        token: str = DEMO_TOKEN,
        clock: SimulatorClock | None = None,
        latency_ms: float = 0.0,
        faults: Faults | None = None,
        versions: tuple[str, ...] = ("2.15", "2.16"),
        time_zone: str = "UTC",
        per_10_seconds: int = 1_666,
        scroll_idle_seconds: float = SCROLL_IDLE_SECONDS,
        index_lag: timedelta = timedelta(0),
    ) -> None:
        super().__init__(token=token, clock=clock, latency_ms=latency_ms, faults=faults)
        self.workspace = workspace
        self.versions = versions
        self.time_zone = time_zone
        self.per_10_seconds = per_10_seconds
        self.scroll_idle_seconds = scroll_idle_seconds
        self.index_lag = index_lag
        self.scroll_breaks = 0
        self.deleted: list[dict[str, Any]] = []
        self._window = 0
        self._used = 0
        self._scroll: _Scroll | None = None

    def routes(self) -> Iterable[Route]:
        """All paths of the workspace that are simulated; anything else is 404."""
        return [
            self.route("/me", "GET", self._me),
            self.route("/admins", "GET", self._admins),
            self.route("/contacts/search", "POST", self._search_contacts),
            self.route("/contacts/{id}", "GET", self._contact),
            self.route("/contacts/{id}/companies", "GET", self._companies_of_contact),
            self.route("/companies/scroll", "GET", self._scroll_companies),
            self.route("/conversations/search", "POST", self._search_conversations),
            self.route("/conversations/deleted", "GET", self._deleted_conversations),
            self.route("/conversations/{id}", "GET", self._conversation),
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
        if self._used >= self.per_10_seconds:
            raise Refusal(self.rate_limited(None))
        self._used += 1
        return self._limit_headers(self.per_10_seconds - self._used)

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

    # ---- contacts and companies ---------------------------------------------------------------------------------

    def _attached(self, contact: Mapping[str, Any]) -> list[dict[str, Any]]:
        companies = contact.get("companies") or {}
        return list(companies.get("data") or [])

    def _shown_contact(self, contact: Mapping[str, Any]) -> dict[str, Any]:
        """A contact with at most ten companies inside."""
        attached = self._attached(contact)
        companies = {
            "type": "list",
            "data": attached[:INLINE_COMPANIES],
            "url": f"/contacts/{contact['id']}/companies",
            "total_count": len(attached),
            "has_more": len(attached) > INLINE_COMPANIES,
        }
        return {**contact, "companies": companies}

    def _existing_contact(self, request: Request) -> dict[str, Any]:
        contact = self.workspace.contacts.get(request.path_params["id"])
        if contact is None:
            raise Refusal(self.error(404, "User Not Found"))
        return contact

    def _contact(self, request: Request, _: Any) -> Reply:
        return Reply(self._shown_contact(self._existing_contact(request)))

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
        hidden_from = (self.clock.now() - self.index_lag).timestamp() if self.index_lag else None
        found = [
            contact
            for contact in self.workspace.contacts.values()
            if hidden_from is None or contact.get("updated_at", 0) <= hidden_from
        ]
        matches = self._matching(found, body, dates=_CONTACT_DATES)
        return self._page(body, matches, CONTACTS_PAGE, "list", "data", self._shown_contact)

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
        matches = self._matching(list(self.workspace.conversations.values()), body, dates=frozenset())

        def shown(conversation: Mapping[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in conversation.items() if key != _UNSEARCHABLE}

        return self._page(body, matches, CONVERSATIONS_PAGE, "conversation.list", "conversations", shown)

    def _conversation(self, request: Request, _: Any) -> Reply:
        conversation = self.workspace.conversations.get(request.path_params["id"])
        if conversation is None:
            raise Refusal(self.error(404, "Resource Not Found"))
        parts = conversation.get(_UNSEARCHABLE) or {}
        latest = list(parts.get(_UNSEARCHABLE) or [])[-MAX_PARTS:]
        shown = {"type": "conversation_part.list", **parts, _UNSEARCHABLE: latest}
        return Reply({**conversation, _UNSEARCHABLE: shown})

    def _deleted_conversations(self, request: Request, _: Any) -> Reply:
        page = self._whole(request, "page", 1, 10**6)
        per_page = self._whole(request, "per_page", 20, MAX_DELETED_PAGE)
        order = request.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise self._invalid("order must be asc or desc")
        rows = sorted(self.deleted, key=lambda row: row["deleted_at"], reverse=order == "desc")
        return Reply(
            {
                "type": "conversations.list",
                "conversations": rows[(page - 1) * per_page : page * per_page],
                **self._numbered_pages(len(rows), page, per_page, request.url.path),
            }
        )

    def delete_conversation(self, conversation_id: str, *, metrics_retained: bool = True) -> None:
        """Delete a conversation now: only the list of deleted ones still names it. KeyError if there is none."""
        with self.lock:
            del self.workspace.conversations[conversation_id]
            self.deleted.append(
                {
                    "id": conversation_id,
                    "type": "conversation",
                    "deleted_at": int(self.clock.now().timestamp()),
                    "metrics_retained": metrics_retained,
                }
            )

    # ---- searching ----------------------------------------------------------------------------------------------

    def _matching(
        self, records: list[dict[str, Any]], body: Mapping[str, Any], *, dates: Iterable[str]
    ) -> list[dict[str, Any]]:
        query = body.get("query")
        if not isinstance(query, dict):
            raise Refusal(self.error(400, "query is a required parameter", "parameter_not_found"))
        test = self._condition(query, frozenset(dates), depth=0)
        return [record for record in records if test(record)]

    def _condition(
        self, query: Mapping[str, Any], dates: frozenset[str], depth: int
    ) -> Callable[[Mapping[str, Any]], bool]:
        operator, value = query.get("operator"), query.get("value")
        if operator in ("AND", "OR"):
            if depth >= 2:
                raise self._invalid("A search takes at most 2 nested levels")
            if not isinstance(value, list) or not 1 <= len(value) <= 15:
                raise self._invalid("A group takes 1 to 15 filters")
            tests = [self._condition(item, dates, depth + 1) for item in value]
            if operator == "AND":
                return lambda record: all(test(record) for test in tests)
            return lambda record: any(test(record) for test in tests)
        name = query.get("field")
        if not isinstance(name, str) or operator not in _OPERATORS or "value" not in query:
            raise self._invalid("A filter needs field, operator and value")
        if name in dates:
            return self._day_condition(name, str(operator), value)
        # Documented for conversations, which have no day-granular dates: > and < take the given second in.
        return self._value_condition(name, str(operator), value, inclusive=not dates)

    def _day_condition(self, name: str, operator: str, value: Any) -> Callable[[Mapping[str, Any]], bool]:
        """Dates of contacts: = is the whole day, > starts with the next day, < ends before the day."""
        if operator not in _DATE_OPERATORS:
            raise self._invalid(f"The operator {operator} is not supported for the date field {name}")
        try:
            moment = datetime.fromtimestamp(int(value), ZoneInfo(self.time_zone))
        except (TypeError, ValueError, OverflowError) as error:
            raise self._invalid(f"{name} must be a UNIX timestamp") from error
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        start, end = day.timestamp(), (day + timedelta(days=1)).timestamp()

        def test(record: Mapping[str, Any]) -> bool:
            at = record.get(name)
            if at is None:
                return False
            if operator == "=":
                return bool(start <= at < end)
            return bool(at >= end) if operator == ">" else bool(at < start)

        return test

    def _value_condition(
        self, name: str, operator: str, value: Any, *, inclusive: bool
    ) -> Callable[[Mapping[str, Any]], bool]:
        if operator in ("IN", "NIN"):
            if not isinstance(value, list):
                raise self._invalid(f"The operator {operator} needs a list")
            return lambda record: (_at(record, name) in value) is (operator == "IN")
        if operator in (">", "<", ">=", "<="):
            try:
                number = float(value)
            except (TypeError, ValueError) as error:
                raise self._invalid(f"{value} is not a number of field {name}") from error
            compare = {">": gt, "<": lt, ">=": ge, "<=": le}[
                operator + "=" * (inclusive and len(operator) == 1)
            ]

            def within(record: Mapping[str, Any]) -> bool:
                at = _at(record, name)
                return at is not None and bool(compare(at, number))

            return within
        text = str(value).lower()
        tests: dict[str, Callable[[Any], bool]] = {
            "=": lambda found: found == value or str(found).lower() == text,
            "!=": lambda found: found != value and str(found).lower() != text,
            "~": lambda found: text in str(found).lower(),
            "!~": lambda found: text not in str(found).lower(),
            "^": lambda found: str(found).lower().startswith(text),
            "$": lambda found: str(found).lower().endswith(text),
        }
        return lambda record: tests[operator](_at(record, name))

    def _page(
        self,
        body: Mapping[str, Any],
        matches: list[dict[str, Any]],
        default: int,
        kind: str,
        key: str,
        shown: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> Reply:
        pagination = body.get("pagination") or {}
        per_page = pagination.get("per_page", default)
        if not isinstance(per_page, int) or not 1 <= per_page <= MAX_PAGE:
            raise self._invalid(f"per_page must be a whole number between 1 and {MAX_PAGE}")
        sort = body.get("sort") or {}
        name, order = sort.get("field", "updated_at"), sort.get("order", "descending")
        if order not in ("ascending", "descending"):
            raise self._invalid("The order of a sort must be ascending or descending")
        down = order == "descending"

        def rank(record: Mapping[str, Any]) -> tuple[float, str]:
            return float(_at(record, name) or 0), str(record["id"])

        ordered = sorted(matches, key=rank, reverse=down)
        number = 1
        after = pagination.get("starting_after")
        rest = ordered
        if after is not None:
            value, last, number = self._cursor(after)
            rest = [r for r in ordered if (rank(r) < (value, last) if down else rank(r) > (value, last))]
        page = rest[:per_page]
        pages: dict[str, Any] = {
            "type": "pages",
            "page": number,
            "per_page": per_page,
            "total_pages": max(1, -(-len(matches) // per_page)),
        }
        if len(rest) > per_page:
            token = msgspec.json.encode([*rank(page[-1]), number + 1])
            pages["next"] = {"page": number + 1, "starting_after": base64.b64encode(token).decode()}
        return Reply(
            {"type": kind, key: [shown(r) for r in page], "total_count": len(matches), "pages": pages}
        )

    def _cursor(self, after: Any) -> tuple[float, str, int]:
        try:
            return msgspec.json.decode(
                base64.b64decode(str(after), validate=True), type=tuple[float, str, int]
            )
        except (binascii.Error, msgspec.MsgspecError) as error:
            raise self._invalid("starting_after is not valid") from error


class _Scroll:
    """The one open scroll over the companies."""

    def __init__(self, parameter: str, companies: list[dict[str, Any]], now: float) -> None:
        self.parameter = parameter
        self.companies = companies
        self.position = 0
        self.used_at = now


def _at(record: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted field name; None when any part of it is missing."""
    value: Any = record
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
