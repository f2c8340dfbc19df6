"""HubSpot's search: filter groups, operators, sorts, and the ways in which it disappoints.

A last-modified filter under the wrong property name finds nothing and says nothing; records of one millisecond
come in no order one can rely on.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hub_pipeline.demo.account import HubSpotRecord
from hub_pipeline.demo.hubspot_portal import created_property, iso, last_modified_property

_OPERATORS = {
    "EQ", "NEQ", "LT", "LTE", "GT", "GTE", "BETWEEN", "IN", "NOT_IN",
    "HAS_PROPERTY", "NOT_HAS_PROPERTY", "CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN",
}  # fmt: skip

_MILLISECOND = timedelta(milliseconds=1)


class InvalidSearchError(ValueError):
    """The body of a search is one that HubSpot answers with 400; the message says why."""


class RecordSearch:
    """Searches among records of one type.

    Args:
        object_type: key of the type in the account.
        definitions: its property definitions, whose types decide how values compare.
    """

    def __init__(self, object_type: str, definitions: Sequence[Mapping[str, Any]]) -> None:
        self._definitions = definitions
        self._modified = last_modified_property(object_type)
        self._created = created_property(object_type)

    def matching(self, records: list[HubSpotRecord], body: Mapping[str, Any]) -> list[HubSpotRecord]:
        """Those of `records` (in id order) that one of the body's filter groups takes in, sorted as it asks."""
        return self._sorted(self._taken(records, self._filter_groups(body)), body.get("sorts") or [])

    def _filter_groups(self, body: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
        groups = body.get("filterGroups") or []
        if not isinstance(groups, list) or not all(
            isinstance(group, dict) and isinstance(group.get("filters"), list) for group in groups
        ):
            raise InvalidSearchError(
                "Invalid input JSON: filterGroups must be a list of objects with filters"
            )
        filters = [group["filters"] for group in groups]
        if len(filters) > 5 or any(len(group) > 6 for group in filters) or sum(map(len, filters)) > 18:
            raise InvalidSearchError(
                "A search takes at most 5 filter groups, 6 filters in each and 18 filters in all"
            )
        for item in (item for group in filters for item in group):
            if not isinstance(item, dict) or not isinstance(item.get("propertyName"), str):
                raise InvalidSearchError("Invalid input JSON: a filter needs a propertyName")
            operator = item.get("operator")
            if operator not in _OPERATORS:
                raise InvalidSearchError(f"Invalid input JSON: operator {operator} does not exist")
            if operator in ("IN", "NOT_IN"):
                if not isinstance(item.get("values"), list) or not item["values"]:
                    raise InvalidSearchError(f"The operator {operator} needs values")
            elif operator not in ("HAS_PROPERTY", "NOT_HAS_PROPERTY") and item.get("value") is None:
                raise InvalidSearchError(f"The operator {operator} needs a value")
            if operator == "BETWEEN" and item.get("highValue") is None:
                raise InvalidSearchError("The operator BETWEEN needs a highValue")
        return filters

    def _taken(self, records: list[HubSpotRecord], groups: list[list[dict[str, Any]]]) -> list[HubSpotRecord]:
        if not groups:
            return records
        found: dict[str, HubSpotRecord] = {}
        for filters in groups:
            kept = records
            for item in filters:
                kept = self._filtered(kept, item)
            found.update((record.id, record) for record in kept)
        return (
            [record for record in records if record.id in found] if len(groups) > 1 else list(found.values())
        )

    def _filtered(self, records: list[HubSpotRecord], item: Mapping[str, Any]) -> list[HubSpotRecord]:
        name, operator = item["propertyName"], item["operator"]
        if name in ("lastmodifieddate", "hs_lastmodifieddate") and name != self._modified:
            # The real index answers a last-modified filter under the other name with no rows and no error.
            return []
        if operator in ("LT", "LTE", "GT", "GTE", "BETWEEN", "EQ"):
            if name == self._modified:
                low, high = self._instants(name, item)
                return [record for record in records if low <= record.updated_at < high]
            if name == "hs_object_id":
                bottom, top = self._numbers_between(item)
                return [record for record in records if bottom <= int(record.id) <= top]
        test = self._test(item)
        return [record for record in records if test(self._value(record, name))]

    def _value(self, record: HubSpotRecord, name: str) -> str | None:
        if name == "hs_object_id":
            return record.id
        if name == self._modified:
            return iso(record.updated_at)
        if name == self._created:
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
            raise InvalidSearchError(
                f"{text} is not a date of property {name}: use milliseconds since 1970"
            ) from error
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)

    def _numbers_between(self, item: Mapping[str, Any]) -> tuple[int, int]:
        try:
            value = int(item["value"])
            high = int(item["highValue"]) if item["operator"] == "BETWEEN" else value
        except (TypeError, ValueError) as error:
            raise InvalidSearchError(f"{item['value']} is not a number of property hs_object_id") from error
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

    def _comparable(self, name: str) -> Callable[[str], Any]:
        """How values of a property compare: numbers, instants, or text without case."""
        kinds = {p["name"]: p.get("type") for p in self._definitions}
        kind = "number" if name == "hs_object_id" else kinds.get(name, "string")
        if name in (self._modified, self._created):
            kind = "datetime"
        if kind == "number":
            return float
        if kind in ("date", "datetime"):
            return lambda text: self._instant(name, text)
        return str.lower

    def _test(self, item: Mapping[str, Any]) -> Callable[[str | None], bool]:
        name, operator = item["propertyName"], item["operator"]
        comparable = self._comparable(name)

        def known(value: Any) -> Any:
            try:
                return comparable(str(value))
            except ValueError as error:
                raise InvalidSearchError(f"{value} is not a value of property {name}") from error

        def stored(value: str | None) -> Any:
            if value is None or value == "":
                return None
            try:
                return comparable(value)
            except ValueError:
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

    def _sorted(self, records: list[HubSpotRecord], sorts: Any) -> list[HubSpotRecord]:
        if not isinstance(sorts, list) or len(sorts) > 1:
            raise InvalidSearchError("A search takes at most one sort")
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
            raise InvalidSearchError(
                "Invalid input JSON: a sort needs propertyName and direction ASCENDING or DESCENDING"
            )
        name, down = rule.get("propertyName"), rule.get("direction") == "DESCENDING"
        if name == "hs_object_id":
            return records[::-1] if down else records
        if name == self._modified:
            # Records of one millisecond come in an order of the index's own.
            return sorted(records, key=lambda r: (iso(r.updated_at), zlib.crc32(r.id.encode())), reverse=down)
        comparable = self._comparable(str(name))

        def key(record: HubSpotRecord) -> tuple[bool, Any, int]:
            value = self._value(record, str(name))
            try:
                return (False, comparable(value), 0) if value else (True, 0, zlib.crc32(record.id.encode()))
            except ValueError:
                return True, 0, zlib.crc32(record.id.encode())

        return sorted(records, key=key, reverse=down)
