"""Intercom's search as it is documented: filters, groups, dates of whole days, sorting, pages behind a cursor."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import ge, gt, le, lt
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from hub_pipeline.demo.faults import FaultKind

MAX_PAGE = 150
MAX_FILTERS = 15
MAX_DEPTH = 2

Record = Mapping[str, Any]
Test = Callable[[Record], bool]

_DATE_OPERATORS = {"=", ">", "<"}
_OPERATORS = {"=", "!=", "IN", "NIN", ">", "<", ">=", "<=", "~", "!~", "^", "$"}


class SearchError(ValueError):
    """The search is refused; the text says why, ``code`` is Intercom's."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Rules:
    """How one object is searched.

    Attributes:
        fields: names that can be searched; a name that ends with a dot stands for all that begin with it.
        days: fields that are compared by whole days of the time zone.
        inclusive: > and < take the given number in, as documented for conversations.
        computed: fields that are not in the record under their own name.
        default_page: records of a page that does not ask for a number.
    """

    fields: frozenset[str]
    default_page: int
    days: frozenset[str] = frozenset()
    inclusive: bool = False
    computed: Mapping[str, Callable[[Record], Any]] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of what a search found."""

    records: list[Record]
    total: int
    pages: dict[str, Any]


def search(
    records: Iterable[Record],
    body: Mapping[str, Any],
    rules: Rules,
    zone: ZoneInfo,
    *,
    keep_order: bool = True,
    fault: FaultKind | None = None,
) -> Page:
    """Search records.

    Args:
        records: all there are.
        body: of the request: query, pagination, sort.
        rules: of the object.
        zone: whose days dates are compared by.
        keep_order: False = the sort is ignored and what changed last comes first.
        fault: what is wrong with this page: an overlap with the page before, or a cursor that leads nowhere new.

    Raises:
        SearchError: the search is not one that Intercom takes.
    """
    query = body.get("query")
    if not isinstance(query, Mapping):
        raise SearchError("query is a required parameter", "parameter_not_found")
    test = _Conditions(rules, zone).test(query, 0)
    return _page([record for record in records if test(record)], body, rules, keep_order, fault)


class _Conditions:
    def __init__(self, rules: Rules, zone: ZoneInfo) -> None:
        self._rules = rules
        self._zone = zone

    def test(self, query: Any, depth: int) -> Test:
        if not isinstance(query, Mapping):
            raise SearchError("A filter needs field, operator and value")
        operator, value = query.get("operator"), query.get("value")
        if operator in ("AND", "OR"):
            if depth >= MAX_DEPTH:
                raise SearchError(f"A search takes at most {MAX_DEPTH} nested levels")
            if not isinstance(value, list) or not 1 <= len(value) <= MAX_FILTERS:
                raise SearchError(f"A group takes 1 to {MAX_FILTERS} filters")
            tests = [self.test(item, depth + 1) for item in value]
            every = operator == "AND"
            return lambda record: (all if every else any)(test(record) for test in tests)
        name = query.get("field")
        if not isinstance(name, str) or operator not in _OPERATORS or "value" not in query:
            raise SearchError("A filter needs field, operator and value")
        prefix = name[: name.find(".") + 1]
        if name not in self._rules.fields and prefix not in self._rules.fields:
            raise SearchError(f"{name} is not a field that can be searched")
        if name in self._rules.days:
            return self._day(name, str(operator), value)
        return self._value(name, str(operator), value)

    def _day(self, name: str, operator: str, value: Any) -> Test:
        """Dates of contacts: = is the whole day, > starts with the next day, < ends before the day."""
        if operator not in _DATE_OPERATORS:
            raise SearchError(f"The operator {operator} is not supported for the date field {name}")
        try:
            moment = datetime.fromtimestamp(int(value), self._zone)
        except (TypeError, ValueError, OverflowError) as error:
            raise SearchError(f"{name} must be a UNIX timestamp") from error
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        start, end = day.timestamp(), (day + timedelta(days=1)).timestamp()

        def test(record: Record) -> bool:
            at = record.get(name)
            if at is None:
                return False
            if operator == "=":
                return bool(start <= at < end)
            return bool(at >= end) if operator == ">" else bool(at < start)

        return test

    def _value(self, name: str, operator: str, value: Any) -> Test:
        get = (self._rules.computed or {}).get(name) or (lambda record: field_of(record, name))
        if operator in ("IN", "NIN"):
            if not isinstance(value, list):
                raise SearchError(f"The operator {operator} needs a list")
            return lambda record: (get(record) in value) is (operator == "IN")
        if operator in (">", "<", ">=", "<="):
            try:
                number = float(value)
            except (TypeError, ValueError) as error:
                raise SearchError(f"{value} is not a number of field {name}") from error
            inclusive = self._rules.inclusive and len(operator) == 1
            compare = {">": gt, "<": lt, ">=": ge, "<=": le}[operator + "=" * inclusive]

            def within(record: Record) -> bool:
                at = get(record)
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
        return lambda record: tests[operator](get(record))


def _page(
    matches: list[Record],
    body: Mapping[str, Any],
    rules: Rules,
    keep_order: bool,
    fault: FaultKind | None,
) -> Page:
    pagination = body.get("pagination") or {}
    per_page = pagination.get("per_page", rules.default_page)
    if not isinstance(per_page, int) or not 1 <= per_page <= MAX_PAGE:
        raise SearchError(f"per_page must be a whole number between 1 and {MAX_PAGE}")
    sort = body.get("sort") or {}
    name, order = sort.get("field", "updated_at"), sort.get("order", "descending")
    if order not in ("ascending", "descending"):
        raise SearchError(
            f"Invalid sort order '{order}'. Must be one of: ascending, descending", "invalid_sort_order"
        )
    if not keep_order:
        name, order = "updated_at", "descending"
    down = order == "descending"

    def rank(record: Record) -> tuple[float, str]:
        return float(field_of(record, name) or 0), str(record["id"])

    ordered = sorted(matches, key=rank, reverse=down)
    number, start = 1, 0
    after = pagination.get("starting_after")
    if after is not None:
        value, last, number = _cursor(after)
        passed = [rank(r) >= (value, last) if down else rank(r) <= (value, last) for r in ordered]
        start = sum(passed)
    if fault is FaultKind.OVERLAP_PAGE:
        start = max(0, start - per_page // 2)
    page = ordered[start : start + per_page]
    pages: dict[str, Any] = {
        "type": "pages",
        "page": number,
        "per_page": per_page,
        "total_pages": max(1, -(-len(matches) // per_page)),
    }
    looping = fault is FaultKind.CURSOR_LOOP and bool(page)
    if start + per_page < len(ordered) or looping:
        left_off = page[-1]
        if fault is FaultKind.CURSOR_BACK and start > per_page:
            left_off = ordered[start - per_page - 1]
        token = base64.b64encode(msgspec.json.encode([*rank(left_off), number + 1])).decode()
        following = after if looping and after is not None else token
        pages["next"] = {"page": number + 1, "starting_after": following}
    return Page(page, len(matches), pages)


def _cursor(after: Any) -> tuple[float, str, int]:
    try:
        return msgspec.json.decode(base64.b64decode(str(after), validate=True), type=tuple[float, str, int])
    except (binascii.Error, msgspec.MsgspecError) as error:
        raise SearchError("starting_after is not valid") from error


def field_of(record: Record, name: str) -> Any:
    """The value of a dotted field name; None when any part of it is missing."""
    value: Any = record
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
