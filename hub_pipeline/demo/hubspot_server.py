"""A HubSpot portal over HTTP, as strict as the real one: paging, limits, scopes, search, associations, history.

Shapes and rules follow HubSpot's date-versioned API (2026-03 and 2026-09). Where the real behaviour is not
documented, the simulator takes the harder case: associations count against the ten-second limit, an archived
record keeps its last-modified date, a restored one too.

The account may be changed while the server runs, by the methods of `HubSpotSimulator` (which keep history and
last-modified dates as the real one does) or directly.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.routing import Route

from hub_pipeline.demo.account import ORGANISATION_OBJECT, HubSpotAccount, HubSpotList, HubSpotRecord
from hub_pipeline.demo.faults import FaultKind, Faults
from hub_pipeline.demo.hubspot_portal import (
    FIXED_PROPERTIES,
    Ids,
    Portal,
    iso,
    last_modified_property,
    versions_of,
)
from hub_pipeline.demo.hubspot_search import InvalidSearchError, RecordSearch
from hub_pipeline.demo.wire import FAULT, Refusal, Reply, Simulator, SimulatorClock, SlidingWindow

DEMO_TOKEN = "demo-hubspot-token"  # noqa: S105  the made-up company's token, not a secret

TYPE_IDS: Mapping[str, str] = {
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
    "subscriptions": "0-69",
    "users": "0-115",
}
"""Standard objects and their object type ids; an account without records of one answers empty lists."""

_SINGULAR = {"company": "companies", "feedback_submission": "feedback_submissions"}

ORGANISATION_SCHEMA: Mapping[str, tuple[str, str, str]] = {
    ORGANISATION_OBJECT: ("organisation", "Organisation", "Organisations")
}
"""Custom object of the demo portal: object type id -> (name, singular label, plural label)."""

_UNASKED_DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "contacts": ("email", "firstname", "lastname"),
    "companies": ("domain", "name"),
    "deals": ("amount", "closedate", "dealname", "dealstage", "pipeline"),
    "tickets": ("content", "hs_pipeline", "hs_pipeline_stage", "hs_ticket_priority", "subject"),
}
"""Properties that come along when none is asked for."""

MAX_PAGE = 100
MAX_PAGE_WITH_HISTORY = 50
MAX_SEARCH_PAGE = 200
MAX_SEARCH_RESULTS = 10_000
MAX_ASSOCIATION_INPUTS = 1_000
MAX_ASSOCIATIONS_PER_ID = 500
MAX_OWNERS_PAGE = 500
MAX_USERS_PAGE = 100
MAX_MEMBERS_PAGE = 250
MAX_INLINE_ASSOCIATIONS = 100

REAL_HISTORY_CAP: Mapping[str, int] = {"contacts": 45, "*": 20}
"""Versions of a property that HubSpot is said to keep: 45 for contacts, 20 for everything else."""


_SERVER_ERROR: Mapping[str, Any] = {
    "status": "error",
    "category": "INTERNAL_ERROR",
    "message": "There was a problem with the request.",
}


@dataclass(slots=True)
class Limits:
    """What the portal's subscription allows.

    `associations_exempt`: the specification exempts associations from the ten-second limit; off by default, so
    that a client which relies on it is noticed.
    """

    per_10_seconds: int = 190
    search_per_second: int = 5
    daily: int = 1_000_000
    associations_exempt: bool = False


class HubSpotSimulator(Simulator, Portal):
    """One portal.

    Args:
        account: the data served; it may be changed while the server runs.
        token: the bearer token that is accepted.
        versions: date versions of the API that exist.
        limits: rate limits.
        forbidden: object type, or "owners", "lists", "limits" or "settings.users" -> scopes the token lacks; every request
            about it answers 403.
        index_lag: how long, at most, search answers from before a change (each change has its own share of it).
        cursor: how list cursors look: "last_id" (exclusive), "next_id" (inclusive) or "opaque".
        cursor_lifetime: after that an opaque cursor is refused with 400; None = never.
        history_cap: versions of a property that are still given, for all types or by type ("*" = any other, see
            `REAL_HISTORY_CAP`); None = all.
        time_zone, currency, ui_domain: account details.
        custom_objects: object type id -> (name, singular label, plural label).
    """

    def __init__(
        self,
        account: HubSpotAccount,
        *,
        token: str = DEMO_TOKEN,
        clock: SimulatorClock | None = None,
        latency_ms: float = 0.0,
        faults: Faults | None = None,
        versions: tuple[str, ...] = ("2026-03", "2026-09"),
        limits: Limits | None = None,
        forbidden: Mapping[str, Iterable[str]] | None = None,
        index_lag: timedelta = timedelta(0),
        cursor: str = "last_id",
        cursor_lifetime: timedelta | None = None,
        history_cap: int | Mapping[str, int] | None = None,
        time_zone: str = "UTC",
        currency: str = "USD",
        ui_domain: str = "app.hubspot.com",
        custom_objects: Mapping[str, tuple[str, str, str]] = ORGANISATION_SCHEMA,
    ) -> None:
        Simulator.__init__(self, token=token, clock=clock, latency_ms=latency_ms, faults=faults)
        Portal.__init__(self, account, clock=self.clock, lock=self.lock, index_lag=index_lag)
        self.versions = versions
        self.limits = limits if limits is not None else Limits()
        self.forbidden: dict[str, list[str]] = {k: list(v) for k, v in (forbidden or {}).items()}
        self.cursor = cursor
        self.cursor_lifetime = cursor_lifetime
        self.history_cap = history_cap
        self.time_zone = time_zone
        self.currency = currency
        self.ui_domain = ui_domain
        self.custom_objects = dict(custom_objects)
        self._window = SlidingWindow(self.limits.per_10_seconds, 10.0, self.clock)
        self._search_window = SlidingWindow(self.limits.search_per_second, 1.0, self.clock)
        #: (type, id) of records that lists leave out although they are live and may be read by id.
        self.unlisted: set[tuple[str, str]] = set()
        self._day = self._local_day()
        self._used_today = 0
        self._refused = 0

    # ---- routes -------------------------------------------------------------------------------------------------

    def routes(self) -> Iterable[Route]:
        """All paths of the portal that are simulated; anything else is 404."""
        objects = "/crm/objects/{version}/{object_type}"
        pair = "/crm/associations/{version}/{from_type}/{to_type}"
        return [
            self.route(f"{objects}/batch/read", "POST", self._batch_read),
            self.route(f"{objects}/search", "POST", self._search),
            self.route(objects, "GET", self._list),
            self.route(f"{objects}/{{record_id}}", "GET", self._one),
            self.route("/crm/properties/{version}/{object_type}", "GET", self._properties),
            self.route("/crm/pipelines/{version}/{object_type}", "GET", self._pipelines),
            self.route("/crm/owners/{version}", "GET", self._owners),
            self.route("/settings/users/{version}", "GET", self._users),
            self.route("/crm/lists/{version}/{list_id}", "GET", self._segment),
            self.route("/crm/lists/{version}/{list_id}/memberships", "GET", self._members),
            self.route(f"{pair}/batch/read", "POST", self._associations),
            self.route(f"{pair}/labels", "GET", self._labels),
            self.route("/crm/limits/{version}/records", "GET", self._record_limits),
            self.route("/crm/schemas/{version}", "GET", self._schemas),
            self.route("/crm/schemas/{version}/{object_type}", "GET", self._schema),
            self.route("/account-info/{version}/details", "GET", self._details),
            self.route("/account-info/{version}/api-usage/daily/private-apps", "GET", self._usage),
        ]

    # ---- errors, token, limits ----------------------------------------------------------------------------------

    def error(self, status: int, message: str, category: str | None = None, **more: Any) -> Reply:
        """An error body of HubSpot; the category follows from the status when it is not given."""
        categories = {400: "VALIDATION_ERROR", 401: "INVALID_AUTHENTICATION", 403: "MISSING_SCOPES"}
        category = category or categories.get(status, "OBJECT_NOT_FOUND" if status == 404 else "ERROR")
        body = {
            "status": "error",
            "message": message,
            "correlationId": self.identifier(),
            "category": category,
        }
        return Reply({**body, **more}, status=status)

    def rate_limited(self, retry_after: str | None) -> Reply:
        """A 429 of the ten-second policy."""
        return self._limit_reply("TEN_SECONDLY_ROLLING", retry_after)

    def _limit_reply(self, policy: str, retry_after: str | None) -> Reply:
        body = {
            "status": "error",
            "message": f"You have reached your {policy.lower()} limit.",
            "errorType": "RATE_LIMIT",
            "correlationId": self.identifier(),
            "policyName": policy,
            "groupName": f"publicapi:private-app-api-calls-{policy.lower()}:{self.account.portal_id}",
        }
        return Reply(body, status=429, headers={} if retry_after is None else {"Retry-After": retry_after})

    def _refuse(self, message: str, **more: Any) -> Refusal:
        return Refusal(self.error(400, message, **more))

    def _local_day(self) -> object:
        return self.clock.now().astimezone(ZoneInfo(self.time_zone)).date()

    def admit(self, request: Request) -> dict[str, str]:
        """Token, version, scopes, then the three budgets; headers of the ten-second one (search has none)."""
        if request.headers.get("authorization") != f"Bearer {self.token}":
            raise Refusal(
                self.error(
                    401,
                    "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can "
                    "find more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview",
                )
            )
        if request.path_params["version"] not in self.versions:
            raise Refusal(self.error(404, "resource not found"))
        for key in ("object_type", "from_type", "to_type"):
            if key in request.path_params:
                self._check_scope(self._type(request, key))
        area = request.url.path.split("/")[2]
        self._check_scope("settings.users" if area == "users" else area)
        return self._check_budgets(request.url.path)

    def _check_scope(self, object_type: str) -> None:
        if object_type in self.forbidden:
            raise Refusal(
                self.error(
                    403,
                    "This app hasn't been granted all required scopes to make this call. Read more about required "
                    "scopes here: https://developers.hubspot.com/scopes.",
                    errors=[
                        {
                            "message": "One or more of the following scopes are required.",
                            "context": {"requiredScopes": self.forbidden[object_type]},
                        }
                    ],
                    links={"scopes": "https://developers.hubspot.com/scopes"},
                )
            )

    def _check_budgets(self, path: str) -> dict[str, str]:
        today = self._local_day()
        if today != self._day:
            self._day, self._used_today = today, 0
        # Limits are switches: a test may change them while the server runs.
        self._window.limit = self.limits.per_10_seconds
        self._search_window.limit = self.limits.search_per_second
        searching = path.endswith("/search")
        if self._used_today >= self.limits.daily:
            raise Refusal(self._limit_reply("DAILY", None))
        if searching:
            if not self._search_window.admit():
                raise Refusal(self._limit_reply("SECONDLY", self._sometimes("1")))
        elif not (self.limits.associations_exempt and "/associations/" in path) and not self._window.admit():
            raise Refusal(self._limit_reply("TEN_SECONDLY_ROLLING", self._sometimes("10")))
        self._used_today += 1
        if searching:
            return {}
        return {
            "X-HubSpot-RateLimit-Daily": str(self.limits.daily),
            "X-HubSpot-RateLimit-Daily-Remaining": str(self.limits.daily - self._used_today),
            "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
            "X-HubSpot-RateLimit-Max": str(self._window.limit),
            "X-HubSpot-RateLimit-Remaining": str(self._window.remaining),
        }

    def _sometimes(self, retry_after: str) -> str | None:
        self._refused += 1
        return retry_after if self._refused % 2 == 0 else None

    # ---- parameters ---------------------------------------------------------------------------------------------

    def canonical_type(self, name: str) -> str | None:
        """The account's key of an object type given by key, object type id, singular or fully qualified name."""
        by_id = {type_id: key for key, type_id in TYPE_IDS.items()}
        custom = {f"p{self.account.portal_id}_{names[0]}": key for key, names in self.custom_objects.items()}
        key = by_id.get(name) or custom.get(name) or _SINGULAR.get(name) or name
        if key not in TYPE_IDS and f"{key}s" in TYPE_IDS:
            key = f"{key}s"
        return key if key in TYPE_IDS or key in self.account.records else None

    def _type(self, request: Request, parameter: str = "object_type") -> str:
        name = request.path_params[parameter]
        key = self.canonical_type(name)
        if key is None:
            raise self._refuse(f"Unable to infer object type from: {name}")
        return key

    def _whole(self, request: Request, name: str, default: int, low: int, high: int) -> int:
        text = request.query_params.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise self._refuse(f"The {name} must be a whole number between {low} and {high}, but was {text}")
        return int(text)

    def _flag(self, request: Request, name: str) -> bool:
        text = request.query_params.get(name, "false")
        if text not in ("true", "false"):
            raise self._refuse(f"The {name} must be true or false, but was {text}")
        return text == "true"

    @staticmethod
    def _names(request: Request, parameter: str) -> list[str]:
        given = ",".join(request.query_params.getlist(parameter))
        return [name for name in given.split(",") if name]

    def _strings(self, body: Mapping[str, Any], key: str) -> list[str]:
        value = body.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._refuse(f"Invalid input JSON: {key} must be a list of strings")
        return value

    def _inputs(self, body: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
        inputs = body.get("inputs")
        if not isinstance(inputs, list) or not all(
            isinstance(item, dict) and isinstance(item.get("id"), str) for item in inputs
        ):
            raise self._refuse('Invalid input JSON: inputs must be a list of objects such as {"id": "1"}')
        if not inputs:
            raise self._refuse("The inputs must not be empty")
        if len(inputs) > limit:
            raise self._refuse(f"The inputs must hold at most {limit} items, but held {len(inputs)}")
        return inputs

    # ---- records ------------------------------------------------------------------------------------------------

    def _selection(self, object_type: str, asked: list[str]) -> list[str]:
        """Property names of an answer: those asked for that exist, and those that always come."""
        existing = {
            item["name"] for item in self.account.properties.get(object_type, []) if not item.get("archived")
        }
        created, modified, key = FIXED_PROPERTIES.get(
            object_type, ("hs_createdate", "hs_lastmodifieddate", "hs_object_id")
        )
        unasked = () if asked else _UNASKED_DEFAULTS.get(object_type, ())
        names = dict.fromkeys(name for name in (*asked, *unasked) if name in existing)
        return [*names, *(name for name in (created, modified, key) if name not in names)]

    def _render(
        self, object_type: str, record: HubSpotRecord, selection: list[str], history: list[str], path: str
    ) -> dict[str, Any]:
        created, updated = iso(record.created_at), iso(record.updated_at)
        values = record.properties
        properties = {name: values.get(name) for name in selection}
        properties["hs_object_id"] = record.id
        properties[last_modified_property(object_type)] = updated
        for name in ("hs_createdate", "createdate"):
            if name in properties and properties[name] is None:
                properties[name] = created
        if record.merged_ids and "hs_merged_object_ids" in properties:
            properties["hs_merged_object_ids"] = ";".join(record.merged_ids)
        answer: dict[str, Any] = {
            "id": record.id,
            "properties": properties,
            "createdAt": created,
            "updatedAt": updated,
            "archived": record.archived,
            "url": f"{path}{record.id}",
        }
        if record.archived_at is not None:
            answer["archivedAt"] = iso(record.archived_at)
        if history:
            cap = self.history_cap
            if isinstance(cap, Mapping):
                cap = cap.get(object_type, cap.get("*"))
            answer["propertiesWithHistory"] = {name: versions_of(record, name)[:cap] for name in history}
        return answer

    def _address(self, object_type: str) -> str:
        """Start of the address of a record of this type in the app."""
        type_id = TYPE_IDS.get(object_type, object_type)
        return f"https://{self.ui_domain}/contacts/{self.account.portal_id}/record/{type_id}/"

    def _list(self, request: Request, _: Any) -> Reply:
        object_type = self._type(request)
        asked_history = self._names(request, "propertiesWithHistory")
        most = MAX_PAGE_WITH_HISTORY if asked_history else MAX_PAGE
        limit = self._whole(request, "limit", 10, 1, most)
        archived = self._flag(request, "archived")
        linked = [self._linked_type(name) for name in self._names(request, "associations")]
        after = request.query_params.get("after")
        fault = request.scope.get(FAULT)
        known = self.known_ids(object_type)
        start = self._position(known, after)
        if fault is not None and fault.kind is FaultKind.OVERLAP_PAGE:
            start = max(0, start - limit // 2)
        records = self.account.records.get(object_type, {})
        page: list[HubSpotRecord] = []
        more = False
        for position in range(start, len(known.texts)):
            record = records[known.texts[position]]
            if record.archived is not archived or (object_type, record.id) in self.unlisted:
                continue
            if len(page) == limit:
                more = True
                break
            page.append(record)
        selection = self._selection(object_type, self._names(request, "properties"))
        history = [name for name in asked_history if name in self._selection(object_type, asked_history)]
        address = self._address(object_type)
        results = [self._render(object_type, record, selection, history, address) for record in page]
        for result in results if linked else ():
            result["associations"] = self._inline(object_type, result["id"], linked, request)
        answer: dict[str, Any] = {"results": results}
        looping = fault is not None and fault.kind is FaultKind.CURSOR_LOOP
        if more or (looping and page):
            following = after if looping and after else self._cursor_of(page[-1].id)
            if fault is not None and fault.kind is FaultKind.CURSOR_BACK and start > limit:
                following = self._cursor_of(known.texts[start - limit - 1])
            answer["paging"] = {
                "next": {"after": following, "link": f"{request.url}&after={quote(following)}"}
            }
        return Reply(answer)

    def _cursor_of(self, last_id: str) -> str:
        if self.cursor == "last_id":
            return last_id
        if self.cursor == "next_id":
            return str(int(last_id) + 1)
        issued = int(self.clock.now().timestamp())
        return base64.urlsafe_b64encode(f"cursor:{last_id}:{issued}".encode()).decode()

    def _linked_type(self, name: str) -> tuple[str, str]:
        """(name as asked, object type) of an association asked for in a list."""
        key = self.canonical_type(name)
        if key is None:
            raise self._refuse(f"Unable to infer object type from: {name}")
        return name, key

    def _inline(
        self, object_type: str, record_id: str, linked: list[tuple[str, str]], request: Request
    ) -> dict[str, Any]:
        """Associations inside of a list: at most a hundred of each type, the rest behind a link."""
        answer: dict[str, Any] = {}
        for name, to_type in linked:
            index = self.associated_with((object_type, to_type)).by_id.get(record_id, {})
            ids = sorted((key for key in index if self.is_live(to_type, key)), key=int)
            rows = [
                {"id": key, "type": label or f"{object_type}_to_{to_type}"}
                for key in ids[:MAX_INLINE_ASSOCIATIONS]
                for _, label in index[key]
            ]
            if rows:
                answer[name] = {"results": rows}
                if len(ids) > MAX_INLINE_ASSOCIATIONS:
                    after = ids[MAX_INLINE_ASSOCIATIONS - 1]
                    link = f"{request.url.path}/{record_id}/associations/{name}?after={after}"
                    answer[name]["paging"] = {"next": {"after": after, "link": link}}
        return answer

    def _position(self, known: Ids, after: str | None) -> int:
        """Index of the first id behind a cursor."""
        if after is None:
            return 0
        if self.cursor == "opaque":
            try:
                kind, last, issued = base64.urlsafe_b64decode(after).decode().split(":")
            except (binascii.Error, ValueError):
                kind, last, issued = "", "", ""
            if kind != "cursor" or not last.isdigit() or not issued.isdigit():
                raise self._refuse("The after cursor is not valid")
            age = self.clock.now().timestamp() - int(issued)
            if self.cursor_lifetime is not None and age > self.cursor_lifetime.total_seconds():
                raise self._refuse("The after cursor has expired")
            return bisect_right(known.numbers, int(last))
        if not after.isascii() or not after.isdigit():
            raise self._refuse("The after cursor is not valid")
        cut = bisect_left if self.cursor == "next_id" else bisect_right
        return cut(known.numbers, int(after))

    def _batch_read(self, request: Request, body: Any) -> Reply:
        object_type = self._type(request)
        asked, asked_history = self._strings(body, "properties"), self._strings(body, "propertiesWithHistory")
        inputs = self._inputs(body, MAX_PAGE_WITH_HISTORY if asked_history else MAX_PAGE)
        by = self._id_property(object_type, body.get("idProperty"))
        archived = self._flag(request, "archived")
        started = iso(self.clock.now())
        selection = self._selection(object_type, asked)
        history = [name for name in asked_history if name in self._selection(object_type, asked_history)]
        records, address = self.account.records.get(object_type, {}), self._address(object_type)
        results, missing = [], []
        given = list(dict.fromkeys(item["id"] for item in inputs))
        broken = self._broken_part(request, given)
        for key in (key for key in given if key not in broken):
            record = records.get(key) if by is None else self.with_value(object_type, by, key)
            if record is None or record.archived is not archived:
                missing.append(key)
            else:
                results.append(self._render(object_type, record, selection, history, address))
        errors = []
        if missing:
            errors.append(
                {
                    "status": "error",
                    "category": "OBJECT_NOT_FOUND",
                    "message": f"Could not get some {object_type.upper()} objects, they may be deleted or not exist. "
                    "Check that ids are valid.",
                    "context": {"ids": missing},
                }
            )
        if broken:
            errors.append({**_SERVER_ERROR, "context": {"ids": broken}})
        return self._batch(started, results, errors)

    @staticmethod
    def _broken_part(request: Request, ids: list[str]) -> list[str]:
        """The ids of a batch that fail, if this request was chosen for it."""
        fault = request.scope.get(FAULT)
        return ids[::3] if fault is not None and fault.kind is FaultKind.PARTIAL else []

    def _id_property(self, object_type: str, name: Any) -> str | None:
        """The property a record is named by; None = its id. Only unique ones can, and the e-mail of contacts."""
        if name in (None, "hs_object_id"):
            return None
        unique = {p["name"] for p in self.account.properties.get(object_type, []) if p.get("hasUniqueValue")}
        if object_type == "contacts":
            unique.add("email")
        if name not in unique:
            raise self._refuse(f"{name} is not a unique property of {object_type}")
        return str(name)

    def _one(self, request: Request, _: Any) -> Reply:
        object_type, key = self._type(request), request.path_params["record_id"]
        by = self._id_property(object_type, request.query_params.get("idProperty"))
        asked_history = self._names(request, "propertiesWithHistory")
        archived = self._flag(request, "archived")
        records = self.account.records.get(object_type, {})
        record = records.get(key) if by is None else self.with_value(object_type, by, key)
        if record is None or record.archived is not archived:
            raise Refusal(self.error(404, "resource not found"))
        selection = self._selection(object_type, self._names(request, "properties"))
        history = [name for name in asked_history if name in self._selection(object_type, asked_history)]
        return Reply(self._render(object_type, record, selection, history, self._address(object_type)))

    def _batch(self, started: str, results: list[Any], errors: list[dict[str, Any]]) -> Reply:
        answer: dict[str, Any] = {"status": "COMPLETE", "results": results}
        if errors:
            answer |= {"numErrors": len(errors), "errors": errors}
        answer |= {"startedAt": started, "completedAt": iso(self.clock.now())}
        return Reply(answer, status=207 if errors else 200)

    # ---- search -------------------------------------------------------------------------------------------------

    def _search(self, request: Request, body: Any) -> Reply:
        object_type = self._type(request)
        limit = body.get("limit", 10)
        if not isinstance(limit, int) or not 1 <= limit <= MAX_SEARCH_PAGE:
            raise self._refuse(f"The limit must be between 1 and {MAX_SEARCH_PAGE}, but was {limit}")
        after = str(body.get("after") or "0")
        if not after.isascii() or not after.isdigit():
            raise self._refuse(f"The after cursor must be a whole number, but was {after}")
        start = int(after)
        if start + limit > MAX_SEARCH_RESULTS:
            raise self._refuse(
                f"A search gives at most {MAX_SEARCH_RESULTS} results, but after {start} with limit {limit} asks for more"
            )
        definitions = self.account.properties.get(object_type, [])
        try:
            matches = RecordSearch(object_type, definitions).matching(list(self.indexed(object_type)), body)
        except InvalidSearchError as error:
            raise self._refuse(str(error)) from error
        page = matches[start : start + limit]
        selection = self._selection(object_type, self._strings(body, "properties"))
        address = self._address(object_type)
        answer: dict[str, Any] = {
            "total": len(matches),
            "results": [self._render(object_type, record, selection, [], address) for record in page],
        }
        if start + limit < len(matches):
            answer["paging"] = {"next": {"after": str(start + limit)}}
        return Reply(answer)

    # ---- definitions --------------------------------------------------------------------------------------------

    def _properties(self, request: Request, _: Any) -> Reply:
        archived = self._flag(request, "archived")
        definitions = self.account.properties.get(self._type(request), [])
        return Reply({"results": [item for item in definitions if bool(item.get("archived")) is archived]})

    def _pipelines(self, request: Request, _: Any) -> Reply:
        return Reply({"results": self.account.pipelines.get(self._type(request), [])})

    def _owners(self, request: Request, _: Any) -> Reply:
        archived = self._flag(request, "archived")
        limit = self._whole(request, "limit", 100, 1, MAX_OWNERS_PAGE)
        start = self._whole(request, "after", 0, 0, 10**9)
        owners = [owner for owner in self.account.owners if bool(owner.get("archived")) is archived]
        answer: dict[str, Any] = {"results": owners[start : start + limit]}
        if start + limit < len(owners):
            answer["paging"] = {"next": {"after": str(start + limit), "link": str(request.url)}}
        return Reply(answer)

    def _users(self, request: Request, _: Any) -> Reply:
        limit = self._whole(request, "limit", 100, 1, MAX_USERS_PAGE)
        start = self._whole(request, "after", 0, 0, 10**9)
        users = self.account.users
        answer: dict[str, Any] = {"results": users[start : start + limit]}
        if start + limit < len(users):
            answer["paging"] = {"next": {"after": str(start + limit), "link": str(request.url)}}
        return Reply(answer)

    def _list_of(self, request: Request) -> HubSpotList:
        one = self.account.lists.get(request.path_params["list_id"])
        if one is None:
            raise Refusal(self.error(404, f"List does not exist with ID {request.path_params['list_id']}."))
        return one

    def _segment(self, request: Request, _: Any) -> Reply:
        one = self._list_of(request)
        return Reply(
            {
                "list": {
                    "listId": one.id,
                    "listVersion": 1,
                    "name": one.name,
                    "objectTypeId": TYPE_IDS.get(one.object_type, one.object_type),
                    "processingStatus": "COMPLETE",
                    "processingType": one.processing_type,
                    "createdAt": iso(one.created_at),
                    "updatedAt": iso(one.created_at),
                }
            }
        )

    def _members(self, request: Request, _: Any) -> Reply:
        one = self._list_of(request)
        limit = self._whole(request, "limit", 100, 1, MAX_MEMBERS_PAGE)
        after = (
            self._association_cursor(request.query_params["after"]) if "after" in request.query_params else -1
        )
        ids = sorted((key for key in one.members if self.is_live(one.object_type, key)), key=int)
        start = bisect_right([int(key) for key in ids], after)
        page = ids[start : start + limit]
        answer: dict[str, Any] = {
            "results": [{"recordId": key, "membershipTimestamp": iso(one.members[key])} for key in page],
            "total": len(ids),
        }
        if start + len(page) < len(ids):
            cursor = base64.b64encode(f"0-{page[-1]}".encode()).decode()
            answer["paging"] = {"next": {"after": cursor, "link": f"{request.url}&after={quote(cursor)}"}}
        return Reply(answer)

    def _schema_of(self, object_type: str) -> dict[str, Any]:
        name, singular, plural = self.custom_objects.get(object_type, (object_type,) * 3)
        return {
            "id": object_type.partition("-")[2],
            "objectTypeId": object_type,
            "name": name,
            "fullyQualifiedName": f"p{self.account.portal_id}_{name}",
            "labels": {"singular": singular, "plural": plural},
            "primaryDisplayProperty": "name",
            "requiredProperties": [],
            "searchableProperties": [],
            "secondaryDisplayProperties": [],
            "properties": self.account.properties.get(object_type, []),
            "associations": [
                {
                    "id": str(type_id),
                    "fromObjectTypeId": TYPE_IDS.get(pair[0], pair[0]),
                    "toObjectTypeId": TYPE_IDS.get(pair[1], pair[1]),
                    "name": label or f"{pair[0]}_to_{pair[1]}",
                }
                for pair in self.account.associations
                if object_type in pair
                for type_id, label in self._type_labels(pair)
            ],
            "archived": False,
        }

    def _custom_types(self) -> list[str]:
        return [key for key in self.account.records if key not in TYPE_IDS]

    def _schemas(self, request: Request, _: Any) -> Reply:
        archived = self._flag(request, "archived")
        return Reply({"results": [] if archived else [self._schema_of(key) for key in self._custom_types()]})

    def _schema(self, request: Request, _: Any) -> Reply:
        object_type = self._type(request)
        if object_type in TYPE_IDS:
            raise self._refuse(f"{object_type} is not a custom object")
        return Reply(self._schema_of(object_type))

    def _record_limits(self, request: Request, _: Any) -> Reply:
        self._check_scope("limits")

        def usage(object_type: str) -> int:
            return sum(not record.archived for record in self.account.records.get(object_type, {}).values())

        standard, limit = [], 15_000_000
        for key, type_id in TYPE_IDS.items():
            label = key.replace("_", " ").capitalize()
            standard.append(
                {
                    "objectTypeId": type_id,
                    "singularLabel": label.removesuffix("s"),
                    "pluralLabel": label,
                    "limit": limit,
                    "usage": usage(key),
                    "percentage": round(100 * usage(key) / limit, 4),
                }
            )
        custom = []
        for key in self._custom_types():
            _, singular, plural = self.custom_objects.get(key, (key,) * 3)
            custom.append(
                {"objectTypeId": key, "singularLabel": singular, "pluralLabel": plural, "usage": usage(key)}
            )
        used, most = sum(map(usage, self._custom_types())), 1_500_000
        overall = {
            "overallLimit": most,
            "overallUsage": used,
            "overallPercentage": round(100 * used / most, 4),
        }
        return Reply(
            {"hubspotDefinedObjectTypes": standard, "customObjectTypes": {**overall, "byObjectType": custom}}
        )

    def _details(self, request: Request, _: Any) -> Reply:
        offset = self.clock.now().astimezone(ZoneInfo(self.time_zone)).utcoffset() or timedelta(0)
        minutes = int(offset.total_seconds() // 60)
        return Reply(
            {
                "portalId": self.account.portal_id,
                "accountType": "STANDARD",
                "timeZone": self.time_zone,
                "companyCurrency": self.currency,
                "additionalCurrencies": [],
                "utcOffset": f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}",
                "utcOffsetMilliseconds": minutes * 60_000,
                "uiDomain": self.ui_domain,
                "dataHostingLocation": "na1",
            }
        )

    def _usage(self, request: Request, _: Any) -> Reply:
        now = self.clock.now()
        local = now.astimezone(ZoneInfo(self.time_zone))
        reset = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return Reply(
            {
                "results": [
                    {
                        "name": "private-apps-api-calls-daily",
                        "usageLimit": self.limits.daily,
                        "currentUsage": self._used_today,
                        "collectedAt": iso(now),
                        "fetchStatus": "SUCCESS",
                        "resetsAt": iso(reset.astimezone(UTC)),
                    }
                ]
            }
        )

    # ---- associations -------------------------------------------------------------------------------------------

    def _category(self, type_id: int) -> str:
        return self.account.association_categories.get(type_id, "HUBSPOT_DEFINED")

    def _associations(self, request: Request, body: Any) -> Reply:
        pair = self._type(request, "from_type"), self._type(request, "to_type")
        inputs = self._inputs(body, MAX_ASSOCIATION_INPUTS)
        started = iso(self.clock.now())
        index = self.associated_with(pair).by_id
        results, errors = [], []
        broken = self._broken_part(request, [item["id"] for item in inputs])
        for item in inputs:
            from_id, after = item["id"], item.get("after")
            if from_id in broken:
                errors.append({**_SERVER_ERROR, "context": {"fromObjectId": [from_id]}})
                continue
            known = self.is_live(pair[0], from_id)
            linked = index.get(from_id, {}) if known else {}
            ids = sorted((key for key in linked if self.is_live(pair[1], key)), key=int)
            if not ids:
                errors.append(self._unassociated(pair, from_id, known))
                continue
            start = bisect_right([int(key) for key in ids], self._association_cursor(after)) if after else 0
            page = ids[start : start + MAX_ASSOCIATIONS_PER_ID]
            result: dict[str, Any] = {
                "from": {"id": from_id},
                "to": [
                    {
                        "toObjectId": key,
                        "associationTypes": [
                            {"category": self._category(type_id), "typeId": type_id, "label": label}
                            for type_id, label in linked[key]
                        ],
                    }
                    for key in page
                ],
            }
            if start + len(page) < len(ids):
                cursor = base64.b64encode(f"0-{page[-1]}".encode()).decode()
                result["paging"] = {"next": {"after": cursor, "link": f"{request.url}?after={quote(cursor)}"}}
            results.append(result)
        return self._batch(started, results, errors)

    def _unassociated(self, pair: tuple[str, str], from_id: str, known: bool) -> dict[str, Any]:
        """The error of a 207 for a record without associations of this kind, or one that does not exist."""
        context = {"fromObjectId": [from_id], "fromObjectType": [pair[0]], "toObjectType": [pair[1]]}
        if known:
            return {
                "status": "error",
                "category": "OBJECT_NOT_FOUND",
                "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
                "message": f"No {pair[1]} is associated with {pair[0]} {from_id}.",
                "context": context,
            }
        return {
            "status": "error",
            "category": "OBJECT_NOT_FOUND",
            "message": f"Could not find {pair[0]} {from_id}.",
            "context": context,
        }

    def _association_cursor(self, after: Any) -> int:
        try:
            kind, _, last = base64.b64decode(str(after)).decode().partition("-")
        except (binascii.Error, UnicodeDecodeError):
            kind, last = "", ""
        if kind != "0" or not last.isdigit():
            raise self._refuse("The after cursor is not valid")
        return int(last)

    def _type_labels(self, pair: tuple[str, str]) -> list[tuple[int, str | None]]:
        return sorted(
            {(type_id, label) for _, _, type_id, label in self.account.associations.get(pair, [])}, key=str
        )

    def _labels(self, request: Request, _: Any) -> Reply:
        pair = self._type(request, "from_type"), self._type(request, "to_type")
        return Reply(
            {
                "results": [
                    {"category": self._category(type_id), "typeId": type_id, "label": label}
                    for type_id, label in self._type_labels(pair)
                ]
            }
        )
