"""A HubSpot portal over HTTP, as strict as the real one: paging, limits, scopes, search, associations, history.

Shapes and rules follow HubSpot's date-versioned API (2026-03 and 2026-09) as described in docs/hubspot.md. Where
the real behaviour is not documented, the simulator takes the harder case: associations count against the
ten-second limit, an archived record keeps its last-modified date, a restored one too.

The account may be changed while the server runs, by the methods of `HubSpotSimulator` (which keep history and
last-modified dates as the real one does) or directly.
"""

from __future__ import annotations

import base64
import binascii
import copy
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.routing import Route

from hub_pipeline.demo.account import ORGANISATION_OBJECT, HubSpotAccount, HubSpotRecord
from hub_pipeline.demo.faults import FaultKind, Faults
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

_FIXED_DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "contacts": ("createdate", "lastmodifieddate", "hs_object_id"),
    "companies": ("createdate", "hs_lastmodifieddate", "hs_object_id"),
    "deals": ("createdate", "hs_lastmodifieddate", "hs_object_id"),
    "tickets": ("createdate", "hs_lastmodifieddate", "hs_object_id"),
}
"""Properties that every answer holds, whatever was asked for."""

_UNASKED_DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "contacts": ("email", "firstname", "lastname"),
    "companies": ("domain", "name"),
    "deals": ("amount", "closedate", "dealname", "dealstage", "pipeline"),
    "tickets": ("content", "hs_pipeline", "hs_pipeline_stage", "hs_ticket_priority", "subject"),
}
"""Properties that come along when none is asked for."""

_OPERATORS = {
    "EQ", "NEQ", "LT", "LTE", "GT", "GTE", "BETWEEN", "IN", "NOT_IN",
    "HAS_PROPERTY", "NOT_HAS_PROPERTY", "CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN",
}  # fmt: skip

MAX_PAGE = 100
MAX_PAGE_WITH_HISTORY = 50
MAX_SEARCH_PAGE = 200
MAX_SEARCH_RESULTS = 10_000
MAX_ASSOCIATION_INPUTS = 1_000
MAX_ASSOCIATIONS_PER_ID = 500
MAX_OWNERS_PAGE = 500
_MILLISECOND = timedelta(milliseconds=1)


def last_modified_property(object_type: str) -> str:
    """The property that carries the last-modified date: contacts differ from everything else."""
    return "lastmodifieddate" if object_type == "contacts" else "hs_lastmodifieddate"


def created_property(object_type: str) -> str:
    """The property that carries the creation date and comes with every answer."""
    return _FIXED_DEFAULTS[object_type][0] if object_type in _FIXED_DEFAULTS else "hs_createdate"


def iso(instant: datetime) -> str:
    """An aware UTC instant as HubSpot writes it: milliseconds and Z."""
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


@dataclass(slots=True)
class _Ids:
    """Record ids of one type in numeric order, and what they were read from."""

    size: int
    last: str | None
    numbers: list[int]
    texts: list[str]


@dataclass(slots=True)
class _AssociationIndex:
    size: int
    last: object
    by_id: dict[str, dict[str, list[tuple[int, str | None]]]]


class HubSpotSimulator(Simulator):
    """One portal.

    Args:
        account: the data served; it may be changed while the server runs.
        token: the bearer token that is accepted.
        versions: date versions of the API that exist.
        limits: rate limits.
        forbidden: object type -> scopes the token lacks; every request about the type answers 403.
        index_lag: how long, at most, search answers from before a change (each change has its own share of it).
        cursor: how list cursors look: "last_id" (exclusive), "next_id" (inclusive) or "opaque".
        history_cap: versions of a property that are still given; None = all.
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
        history_cap: int | None = None,
        time_zone: str = "UTC",
        currency: str = "USD",
        ui_domain: str = "app.hubspot.com",
        custom_objects: Mapping[str, tuple[str, str, str]] = ORGANISATION_SCHEMA,
    ) -> None:
        super().__init__(token=token, clock=clock, latency_ms=latency_ms, faults=faults)
        self.account = account
        self.versions = versions
        self.limits = limits if limits is not None else Limits()
        self.forbidden: dict[str, list[str]] = {k: list(v) for k, v in (forbidden or {}).items()}
        self.index_lag = index_lag
        self.cursor = cursor
        self.history_cap = history_cap
        self.time_zone = time_zone
        self.currency = currency
        self.ui_domain = ui_domain
        self.custom_objects = dict(custom_objects)
        self._window = SlidingWindow(self.limits.per_10_seconds, 10.0, self.clock)
        self._search_window = SlidingWindow(self.limits.search_per_second, 1.0, self.clock)
        self._day = self._local_day()
        self._used_today = 0
        self._refused = 0
        self._ids: dict[str, _Ids] = {}
        self._associated: dict[tuple[str, str], _AssociationIndex] = {}
        self._unindexed: dict[str, dict[str, list[tuple[datetime, HubSpotRecord | None]]]] = {}
        self._changes = 0
        self._highest: dict[str, int] = {}

    # ---- routes -------------------------------------------------------------------------------------------------

    def routes(self) -> Iterable[Route]:
        """All paths of the portal that are simulated; anything else is 404."""
        objects = "/crm/objects/{version}/{object_type}"
        pair = "/crm/associations/{version}/{from_type}/{to_type}"
        return [
            self.route(f"{objects}/batch/read", "POST", self._batch_read),
            self.route(f"{objects}/search", "POST", self._search),
            self.route(objects, "GET", self._list),
            self.route("/crm/properties/{version}/{object_type}", "GET", self._properties),
            self.route("/crm/pipelines/{version}/{object_type}", "GET", self._pipelines),
            self.route("/crm/owners/{version}", "GET", self._owners),
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

    def _known_ids(self, object_type: str) -> _Ids:
        """Ids in numeric order; sorted again only when the account's records changed."""
        records = self.account.records.get(object_type, {})
        last = next(reversed(records), None)
        known = self._ids.get(object_type)
        if known is None or known.size != len(records) or known.last != last:
            numbers = sorted(map(int, records))
            known = _Ids(len(records), last, numbers, [str(number) for number in numbers])
            self._ids[object_type] = known
        return known

    def _selection(self, object_type: str, asked: list[str]) -> list[str]:
        """Property names of an answer: those asked for that exist, and those that always come."""
        existing = {
            item["name"] for item in self.account.properties.get(object_type, []) if not item.get("archived")
        }
        created, modified, key = _FIXED_DEFAULTS.get(
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
            answer["propertiesWithHistory"] = {
                name: record.history.get(name, [])[: self.history_cap] for name in history
            }
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
        if "associations" in request.query_params:
            raise self._refuse("Associations inside of object lists are not simulated; read them in batches")
        after = request.query_params.get("after")
        fault = request.scope.get(FAULT)
        known = self._known_ids(object_type)
        start = self._position(known, after)
        if fault is not None and fault.kind is FaultKind.OVERLAP_PAGE:
            start = max(0, start - limit // 2)
        records = self.account.records.get(object_type, {})
        page: list[HubSpotRecord] = []
        more = False
        for position in range(start, len(known.texts)):
            record = records[known.texts[position]]
            if record.archived is not archived:
                continue
            if len(page) == limit:
                more = True
                break
            page.append(record)
        selection = self._selection(object_type, self._names(request, "properties"))
        history = [name for name in asked_history if name in self._selection(object_type, asked_history)]
        address = self._address(object_type)
        answer: dict[str, Any] = {
            "results": [self._render(object_type, record, selection, history, address) for record in page]
        }
        looping = fault is not None and fault.kind is FaultKind.CURSOR_LOOP
        if more or (looping and page):
            following = after if looping and after else self._cursor_of(page[-1].id)
            answer["paging"] = {
                "next": {"after": following, "link": f"{request.url}&after={quote(following)}"}
            }
        return Reply(answer)

    def _cursor_of(self, last_id: str) -> str:
        if self.cursor == "last_id":
            return last_id
        if self.cursor == "next_id":
            return str(int(last_id) + 1)
        return base64.urlsafe_b64encode(f"cursor:{last_id}".encode()).decode()

    def _position(self, known: _Ids, after: str | None) -> int:
        """Index of the first id behind a cursor."""
        if after is None:
            return 0
        if self.cursor == "opaque":
            try:
                kind, _, last = base64.urlsafe_b64decode(after).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                kind, last = "", ""
            if kind != "cursor" or not last.isdigit():
                raise self._refuse("The after cursor is not valid")
            return bisect_right(known.numbers, int(last))
        if not after.isascii() or not after.isdigit():
            raise self._refuse("The after cursor is not valid")
        cut = bisect_left if self.cursor == "next_id" else bisect_right
        return cut(known.numbers, int(after))

    def _batch_read(self, request: Request, body: Any) -> Reply:
        object_type = self._type(request)
        asked, asked_history = self._strings(body, "properties"), self._strings(body, "propertiesWithHistory")
        inputs = self._inputs(body, MAX_PAGE_WITH_HISTORY if asked_history else MAX_PAGE)
        if body.get("idProperty") not in (None, "hs_object_id"):
            raise self._refuse("Reading by an idProperty other than hs_object_id is not simulated")
        archived = self._flag(request, "archived")
        started = iso(self.clock.now())
        selection = self._selection(object_type, asked)
        history = [name for name in asked_history if name in self._selection(object_type, asked_history)]
        records, address = self.account.records.get(object_type, {}), self._address(object_type)
        results, missing = [], []
        for key in dict.fromkeys(item["id"] for item in inputs):
            record = records.get(key)
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
        return self._batch(started, results, errors)

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
        matches = self._matching(object_type, self._filter_groups(body))
        matches = self._sorted(object_type, matches, body.get("sorts") or [])
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

    def _filter_groups(self, body: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
        groups = body.get("filterGroups") or []
        if not isinstance(groups, list) or not all(
            isinstance(group, dict) and isinstance(group.get("filters"), list) for group in groups
        ):
            raise self._refuse("Invalid input JSON: filterGroups must be a list of objects with filters")
        filters = [group["filters"] for group in groups]
        if len(filters) > 5 or any(len(group) > 6 for group in filters) or sum(map(len, filters)) > 18:
            raise self._refuse(
                "A search takes at most 5 filter groups, 6 filters in each and 18 filters in all"
            )
        for item in (item for group in filters for item in group):
            if not isinstance(item, dict) or not isinstance(item.get("propertyName"), str):
                raise self._refuse("Invalid input JSON: a filter needs a propertyName")
            operator = item.get("operator")
            if operator not in _OPERATORS:
                raise self._refuse(f"Invalid input JSON: operator {operator} does not exist")
            if operator in ("IN", "NOT_IN"):
                if not isinstance(item.get("values"), list) or not item["values"]:
                    raise self._refuse(f"The operator {operator} needs values")
            elif operator not in ("HAS_PROPERTY", "NOT_HAS_PROPERTY") and item.get("value") is None:
                raise self._refuse(f"The operator {operator} needs a value")
            if operator == "BETWEEN" and item.get("highValue") is None:
                raise self._refuse("The operator BETWEEN needs a highValue")
        return filters

    def _indexed(self, object_type: str) -> Iterator[HubSpotRecord]:
        """Live records in id order as the search index has them: changes come late, archived ones never show."""
        records = self.account.records.get(object_type, {})
        live = (records[key] for key in self._known_ids(object_type).texts)
        if not self.index_lag:
            yield from (record for record in live if not record.archived)
            return
        now, waiting = self.clock.now(), self._unindexed.get(object_type, {})
        for record in live:
            if record.archived:
                continue
            shown: HubSpotRecord | None = record
            if record.id in waiting:
                waiting[record.id] = [item for item in waiting[record.id] if item[0] > now]
                if waiting[record.id]:
                    shown = waiting[record.id][0][1]
            elif record.updated_at + self._lag(record.id, iso(record.updated_at)) > now:
                # Changed behind our back: what it was before is not known, so it is not found until it is indexed.
                shown = None
            if shown is not None and not shown.archived:
                yield shown

    def _lag(self, record_id: str, change: str) -> timedelta:
        """This change's own share of the index lag, between a fifth and all of it."""
        return self.index_lag * (0.2 + 0.8 * (zlib.crc32(f"{record_id}/{change}".encode()) % 1000) / 999)

    def _matching(self, object_type: str, groups: list[list[dict[str, Any]]]) -> list[HubSpotRecord]:
        records = list(self._indexed(object_type))
        if not groups:
            return records
        found: dict[str, HubSpotRecord] = {}
        for filters in groups:
            kept = records
            for item in filters:
                kept = self._filtered(object_type, kept, item)
            found.update((record.id, record) for record in kept)
        return (
            [record for record in records if record.id in found] if len(groups) > 1 else list(found.values())
        )

    def _filtered(
        self, object_type: str, records: list[HubSpotRecord], item: Mapping[str, Any]
    ) -> list[HubSpotRecord]:
        name, operator = item["propertyName"], item["operator"]
        modified = last_modified_property(object_type)
        if name in ("lastmodifieddate", "hs_lastmodifieddate") and name != modified:
            # The real index answers a last-modified filter under the other name with no rows and no error.
            return []
        if operator in ("LT", "LTE", "GT", "GTE", "BETWEEN", "EQ"):
            if name == modified:
                low, high = self._instants(name, item)
                return [record for record in records if low <= record.updated_at < high]
            if name == "hs_object_id":
                bottom, top = self._numbers_between(item)
                return [record for record in records if bottom <= int(record.id) <= top]
        test = self._test(object_type, item)
        return [record for record in records if test(self._value(object_type, record, name))]

    def _value(self, object_type: str, record: HubSpotRecord, name: str) -> str | None:
        if name == "hs_object_id":
            return record.id
        if name == last_modified_property(object_type):
            return iso(record.updated_at)
        if name == created_property(object_type):
            return record.properties.get(name) or iso(record.created_at)
        return record.properties.get(name)

    def _instants(self, name: str, item: Mapping[str, Any]) -> tuple[datetime, datetime]:
        """Half-open range of instants of a filter; dates have the precision of a millisecond."""
        first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        value = self._instant(name, item["value"])
        match item["operator"]:
            case "GT":
                return value + _MILLISECOND, last
            case "GTE":
                return value, last
            case "LT":
                return first, value
            case "LTE":
                return first, value + _MILLISECOND
            case "EQ":
                return value, value + _MILLISECOND
            case _:
                return value, self._instant(name, item["highValue"]) + _MILLISECOND

    def _instant(self, name: str, value: Any) -> datetime:
        text = str(value)
        try:
            if text.lstrip("-").isdigit():
                return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(text))
            instant = datetime.fromisoformat(text)
        except (ValueError, OverflowError) as error:
            raise self._refuse(
                f"{text} is not a date of property {name}: use milliseconds since 1970"
            ) from error
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)

    def _numbers_between(self, item: Mapping[str, Any]) -> tuple[int, int]:
        try:
            value = int(item["value"])
            high = int(item["highValue"]) if item["operator"] == "BETWEEN" else value
        except (TypeError, ValueError) as error:
            raise self._refuse(f"{item['value']} is not a number of property hs_object_id") from error
        infinite = 2**63
        ranges = {
            "GT": (value + 1, infinite),
            "GTE": (value, infinite),
            "LT": (-infinite, value - 1),
            "LTE": (-infinite, value),
            "EQ": (value, value),
            "BETWEEN": (value, high),
        }
        return ranges[item["operator"]]

    def _comparable(self, object_type: str, name: str) -> Callable[[str], Any]:
        """How values of a property compare: numbers, instants, or text without case."""
        kinds = {p["name"]: p.get("type") for p in self.account.properties.get(object_type, [])}
        kind = "number" if name == "hs_object_id" else kinds.get(name, "string")
        if name in (last_modified_property(object_type), created_property(object_type)):
            kind = "datetime"
        if kind == "number":
            return float
        if kind in ("date", "datetime"):
            return lambda text: self._instant(name, text)
        return str.lower

    def _test(self, object_type: str, item: Mapping[str, Any]) -> Callable[[str | None], bool]:
        name, operator = item["propertyName"], item["operator"]
        comparable = self._comparable(object_type, name)

        def known(value: Any) -> Any:
            try:
                return comparable(str(value))
            except ValueError as error:
                raise self._refuse(f"{value} is not a value of property {name}") from error

        def stored(value: str | None) -> Any:
            if value is None or value == "":
                return None
            try:
                return comparable(value)
            except (ValueError, Refusal):
                return None

        if operator in ("HAS_PROPERTY", "NOT_HAS_PROPERTY"):
            wanted = operator == "HAS_PROPERTY"
            return lambda value: (value not in (None, "")) is wanted
        if operator in ("IN", "NOT_IN"):
            values = {known(value) for value in item["values"]}
            if operator == "IN":
                return lambda value: stored(value) in values
            return lambda value: stored(value) not in values
        low = known(item["value"])
        if operator == "BETWEEN":
            high = known(item["highValue"])
            return lambda value: (v := stored(value)) is not None and low <= v <= high
        if operator in ("CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"):
            token, wanted = str(low).strip("*"), operator == "CONTAINS_TOKEN"
            return lambda value: (token in str(stored(value))) is wanted
        tests: dict[str, Callable[[Any], bool]] = {
            "EQ": lambda v: v == low,
            "NEQ": lambda v: v != low,
            "LT": lambda v: v is not None and v < low,
            "LTE": lambda v: v is not None and v <= low,
            "GT": lambda v: v is not None and v > low,
            "GTE": lambda v: v is not None and v >= low,
        }
        return lambda value: tests[operator](stored(value))

    def _sorted(self, object_type: str, records: list[HubSpotRecord], sorts: Any) -> list[HubSpotRecord]:
        if not isinstance(sorts, list) or len(sorts) > 1:
            raise self._refuse("A search takes at most one sort")
        if not sorts:
            return records
        rule = sorts[0]
        if isinstance(rule, str):
            rule = {
                "propertyName": rule.lstrip("-"),
                "direction": "DESCENDING" if rule[:1] == "-" else "ASCENDING",
            }
        if not isinstance(rule, dict) or rule.get("direction", "ASCENDING") not in (
            "ASCENDING",
            "DESCENDING",
        ):
            raise self._refuse(
                "Invalid input JSON: a sort needs propertyName and direction ASCENDING or DESCENDING"
            )
        name, down = rule.get("propertyName"), rule.get("direction") == "DESCENDING"
        if name == "hs_object_id":
            return records[::-1] if down else records
        if name == last_modified_property(object_type):
            # Records of one millisecond come in an order of the index's own.
            return sorted(records, key=lambda r: (iso(r.updated_at), zlib.crc32(r.id.encode())), reverse=down)
        comparable = self._comparable(object_type, str(name))

        def key(record: HubSpotRecord) -> tuple[bool, Any, int]:
            value = self._value(object_type, record, str(name))
            try:
                return (False, comparable(value), 0) if value else (True, 0, zlib.crc32(record.id.encode()))
            except (ValueError, Refusal):
                return True, 0, zlib.crc32(record.id.encode())

        return sorted(records, key=key, reverse=down)

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

    def _associated_with(self, pair: tuple[str, str]) -> _AssociationIndex:
        rows = self.account.associations.get(pair, [])
        last = rows[-1] if rows else None
        index = self._associated.get(pair)
        if index is None or index.size != len(rows) or index.last is not last:
            by_id: dict[str, dict[str, list[tuple[int, str | None]]]] = {}
            for from_id, to_id, type_id, label in rows:
                by_id.setdefault(from_id, {}).setdefault(to_id, []).append((type_id, label))
            index = _AssociationIndex(len(rows), last, by_id)
            self._associated[pair] = index
        return index

    def _live(self, object_type: str, record_id: str) -> bool:
        record = self.account.records.get(object_type, {}).get(record_id)
        return record is not None and not record.archived

    def _category(self, type_id: int) -> str:
        return self.account.association_categories.get(type_id, "HUBSPOT_DEFINED")

    def _associations(self, request: Request, body: Any) -> Reply:
        pair = self._type(request, "from_type"), self._type(request, "to_type")
        inputs = self._inputs(body, MAX_ASSOCIATION_INPUTS)
        started = iso(self.clock.now())
        index = self._associated_with(pair).by_id
        results, errors = [], []
        for item in inputs:
            from_id, after = item["id"], item.get("after")
            known = self._live(pair[0], from_id)
            linked = index.get(from_id, {}) if known else {}
            ids = sorted((key for key in linked if self._live(pair[1], key)), key=int)
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

    # ---- what people and apps do to the portal ------------------------------------------------------------------

    def _before_change(self, object_type: str, record_id: str) -> None:
        """Remember for the search index what it still shows of a record until its lag is over."""
        self._changes += 1
        if not self.index_lag:
            return
        now = self.clock.now()
        record = self.account.records.get(object_type, {}).get(record_id)
        shown = copy.deepcopy(record) if record is not None else None
        until = now + self._lag(record_id, str(self._changes))
        self._unindexed.setdefault(object_type, {}).setdefault(record_id, []).append((until, shown))

    def _existing(self, object_type: str, record_id: str) -> HubSpotRecord:
        record = self.account.records.get(object_type, {}).get(record_id)
        if record is None:
            raise KeyError(f"the account has no {object_type} {record_id}")
        return record

    def _now(self) -> datetime:
        """The clock in whole milliseconds, the precision of everything HubSpot stores."""
        now = self.clock.now()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def _write(
        self, record: HubSpotRecord, properties: Mapping[str, str | None], at: datetime, source: str
    ) -> None:
        for name, value in properties.items():
            if name in record.properties and record.properties[name] == value:
                continue
            record.properties[name] = value
            version = {
                "value": "" if value is None else value,
                "timestamp": iso(at),
                "sourceType": source,
                "sourceId": "simulator",
            }
            record.history.setdefault(name, []).insert(0, version)
        record.updated_at = at

    def create(
        self,
        object_type: str,
        properties: Mapping[str, str | None],
        *,
        record_id: str | None = None,
        source: str = "CRM_UI",
    ) -> HubSpotRecord:
        """Add a record now; its id is the next free number unless given. KeyError if the id is taken."""
        with self.lock:
            records = self.account.records.setdefault(object_type, {})
            if record_id is None:
                # Ids of purged and merged records are never given again.
                used = [int(key) for key in records] + [
                    int(m) for r in records.values() for m in r.merged_ids
                ]
                record_id = str(max([*used, self._highest.get(object_type, 0)]) + 1)
            if record_id in records:
                raise KeyError(f"the account already has {object_type} {record_id}")
            self._highest[object_type] = max(self._highest.get(object_type, 0), int(record_id))
            self._before_change(object_type, record_id)
            now = self._now()
            record = HubSpotRecord(id=record_id, properties={}, created_at=now, updated_at=now)
            self._write(record, properties, now, source)
            records[record_id] = record
            return record

    def update(
        self,
        object_type: str,
        record_id: str,
        properties: Mapping[str, str | None],
        *,
        source: str = "CRM_UI",
    ) -> HubSpotRecord:
        """Set properties now: a version of history for each that changes, and a new last-modified date."""
        with self.lock:
            record = self._existing(object_type, record_id)
            self._before_change(object_type, record_id)
            self._write(record, properties, self._now(), source)
            return record

    def archive(self, object_type: str, record_id: str) -> None:
        """Move a record to the recycle bin; its last-modified date stays, as in the real portal."""
        with self.lock:
            record = self._existing(object_type, record_id)
            record.archived, record.archived_at = True, self._now()

    def restore(self, object_type: str, record_id: str) -> None:
        """Take a record out of the recycle bin; its last-modified date stays."""
        with self.lock:
            record = self._existing(object_type, record_id)
            record.archived, record.archived_at = False, None

    def merge(self, object_type: str, winner_id: str, loser_id: str) -> HubSpotRecord:
        """Merge one record into another.

        The loser is gone without having been archived; the winner names it (and whatever had been merged into it)
        in `hs_merged_object_ids`, takes its values where it had none, and takes over its associations.
        """
        with self.lock:
            winner, loser = self._existing(object_type, winner_id), self._existing(object_type, loser_id)
            self._before_change(object_type, winner_id)
            winner.merged_ids.extend([loser_id, *loser.merged_ids])
            filled = {
                name: value
                for name, value in loser.properties.items()
                if value not in (None, "") and winner.properties.get(name) in (None, "")
            }
            merged = {"hs_merged_object_ids": ";".join(winner.merged_ids)}
            self._write(winner, {**filled, **merged}, self._now(), "MERGE_OBJECTS")
            self._drop(object_type, loser_id)
            self._relink(object_type, loser_id, winner_id)
            return winner

    def purge(self, object_type: str, record_id: str) -> None:
        """Delete a record for good, as a privacy deletion does: no list, no archive, no associations."""
        with self.lock:
            self._existing(object_type, record_id)
            self._drop(object_type, record_id)
            self._relink(object_type, record_id, None)

    def _drop(self, object_type: str, record_id: str) -> None:
        self._highest[object_type] = max(self._highest.get(object_type, 0), int(record_id))
        del self.account.records[object_type][record_id]
        self._ids.pop(object_type, None)
        self._unindexed.get(object_type, {}).pop(record_id, None)

    def _relink(self, object_type: str, old: str, new: str | None) -> None:
        """Hand the associations of a record to another one, or drop them (None)."""
        for pair, rows in self.account.associations.items():
            if object_type not in pair:
                continue

            def moved(kind: str, record_id: str) -> str | None:
                return new if kind == object_type and record_id == old else record_id

            kept: dict[tuple[str, str, int, str | None], None] = {}
            for from_id, to_id, type_id, label in rows:
                from_new, to_new = moved(pair[0], from_id), moved(pair[1], to_id)
                linked_to_itself = pair[0] == pair[1] and from_new == to_new
                if from_new is not None and to_new is not None and not linked_to_itself:
                    kept[from_new, to_new, type_id, label] = None
            rows[:] = kept
            self._associated.pop(pair, None)

    def associate(
        self,
        from_type: str,
        from_id: str,
        to_type: str,
        to_id: str,
        *,
        type_id: int = 1,
        reverse_type_id: int | None = None,
        label: str | None = None,
    ) -> None:
        """Link two records in both directions; neither last-modified date moves."""
        with self.lock:
            back = type_id if reverse_type_id is None else reverse_type_id
            for pair, row in (
                ((from_type, to_type), (from_id, to_id, type_id, label)),
                ((to_type, from_type), (to_id, from_id, back, label)),
            ):
                rows = self.account.associations.setdefault(pair, [])
                if row not in rows:
                    rows.append(row)
                self._associated.pop(pair, None)

    def dissociate(self, from_type: str, from_id: str, to_type: str, to_id: str) -> None:
        """Remove every link between two records; neither last-modified date moves."""
        with self.lock:
            for pair, ends in (
                ((from_type, to_type), (from_id, to_id)),
                ((to_type, from_type), (to_id, from_id)),
            ):
                rows = self.account.associations.get(pair, [])
                rows[:] = [row for row in rows if row[:2] != ends]
                self._associated.pop(pair, None)
