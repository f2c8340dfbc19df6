"""A HubSpot portal as it changes: what people, apps and privacy requests do to its records and associations.

The rules are the real portal's as far as they are documented, else the harder case for a reader: archiving,
restoring and associating leave the last-modified date alone, ids are never given twice, and the search index
learns of a change later than the lists do.
"""

from __future__ import annotations

import copy
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hub_pipeline.demo.account import HubSpotAccount, HubSpotList, HubSpotRecord
from hub_pipeline.demo.wire import SimulatorClock

FIXED_PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "contacts": ("createdate", "lastmodifieddate", "hs_object_id"),
    "companies": ("createdate", "hs_lastmodifieddate", "hs_object_id"),
    "deals": ("createdate", "hs_lastmodifieddate", "hs_object_id"),
    "tickets": ("createdate", "hs_lastmodifieddate", "hs_object_id"),
}
"""Properties that every answer holds, whatever was asked for."""


def last_modified_property(object_type: str) -> str:
    """The property that carries the last-modified date: contacts differ from everything else."""
    return "lastmodifieddate" if object_type == "contacts" else "hs_lastmodifieddate"


def created_property(object_type: str) -> str:
    """The property that carries the creation date and comes with every answer."""
    return FIXED_PROPERTIES[object_type][0] if object_type in FIXED_PROPERTIES else "hs_createdate"


def iso(instant: datetime) -> str:
    """An aware UTC instant as HubSpot writes it: milliseconds and Z."""
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def versions_of(record: HubSpotRecord, name: str) -> list[dict[str, Any]]:
    """Versions of a property, newest first; a value without any recorded version was there from the beginning."""
    versions = record.history.get(name)
    if versions is None:
        value = record.properties.get(name)
        return [] if value is None else [_version(value, record.created_at, "CRM_UI")]
    return versions


def _version(value: str, at: datetime, source: str) -> dict[str, Any]:
    return {"value": value, "timestamp": iso(at), "sourceType": source, "sourceId": "simulator"}


@dataclass(slots=True)
class Ids:
    """Record ids of one type in numeric order, and what they were read from."""

    size: int
    last: str | None
    numbers: list[int]
    texts: list[str]


@dataclass(slots=True)
class AssociationIndex:
    """Associations of one pair of types by the record they start from, and what they were read from."""

    size: int
    last: object
    by_id: dict[str, dict[str, list[tuple[int, str | None]]]]


class Portal:
    """The account behind a simulator. Its records may also be changed directly, without these methods.

    Args:
        account: the data.
        clock: dates every change.
        lock: held during a change.
        index_lag: how long, at most, the search index answers from before a change.
    """

    def __init__(
        self, account: HubSpotAccount, *, clock: SimulatorClock, lock: threading.RLock, index_lag: timedelta
    ) -> None:
        self.account = account
        self.clock = clock
        self.lock = lock
        self.index_lag = index_lag
        self._ids: dict[str, Ids] = {}
        self._associated: dict[tuple[str, str], AssociationIndex] = {}
        self._unindexed: dict[str, dict[str, list[tuple[datetime, HubSpotRecord | None]]]] = {}
        self._highest: dict[str, int] = {}
        self._changes = 0

    # ---- reading ------------------------------------------------------------------------------------------------

    def known_ids(self, object_type: str) -> Ids:
        """Ids in numeric order; sorted again only when the account's records changed."""
        records = self.account.records.get(object_type, {})
        last = next(reversed(records), None)
        known = self._ids.get(object_type)
        if known is None or known.size != len(records) or known.last != last:
            numbers = sorted(map(int, records))
            known = Ids(len(records), last, numbers, [str(number) for number in numbers])
            self._ids[object_type] = known
        return known

    def is_live(self, object_type: str, record_id: str) -> bool:
        """Whether a record exists and is not in the recycle bin."""
        record = self.account.records.get(object_type, {}).get(record_id)
        return record is not None and not record.archived

    def associated_with(self, pair: tuple[str, str]) -> AssociationIndex:
        """Associations of a pair of types; grouped again only when the account's list changed."""
        rows = self.account.associations.get(pair, [])
        last = rows[-1] if rows else None
        index = self._associated.get(pair)
        if index is None or index.size != len(rows) or index.last is not last:
            by_id: dict[str, dict[str, list[tuple[int, str | None]]]] = {}
            for from_id, to_id, type_id, label in rows:
                by_id.setdefault(from_id, {}).setdefault(to_id, []).append((type_id, label))
            index = AssociationIndex(len(rows), last, by_id)
            self._associated[pair] = index
        return index

    def indexed(self, object_type: str) -> Iterator[HubSpotRecord]:
        """Live records in id order as the search index has them: changes come late, archived ones never show."""
        records = self.account.records.get(object_type, {})
        live = (records[key] for key in self.known_ids(object_type).texts)
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

    def with_value(self, object_type: str, name: str, value: str) -> HubSpotRecord | None:
        """The record of which a unique property has this value; case does not matter, as in HubSpot."""
        wanted = value.casefold()
        for record in self.account.records.get(object_type, {}).values():
            if (record.properties.get(name) or "").casefold() == wanted:
                return record
        return None

    # ---- changing -----------------------------------------------------------------------------------------------

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
            if record.properties.get(name) == value:
                continue
            versions = versions_of(record, name)
            record.properties[name] = value
            record.history[name] = [_version("" if value is None else value, at, source), *versions]
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
        in `hs_merged_object_ids`, takes its values where it had none, and takes over its associations. KeyError if
        either does not exist, ValueError if they are one.
        """
        if winner_id == loser_id:
            raise ValueError(f"{object_type} {winner_id} cannot be merged into itself")
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
        for one in self.account.lists.values():
            if one.object_type == object_type:
                one.members.pop(record_id, None)
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

    # ---- definitions --------------------------------------------------------------------------------------------

    def _definition(self, object_type: str, name: str) -> dict[str, Any]:
        """A property that is not archived; names are told apart by their case."""
        for item in self.account.properties.get(object_type, []):
            if item["name"] == name and not item.get("archived"):
                return item
        raise KeyError(f"{object_type} has no property {name}")

    def create_property(
        self, object_type: str, name: str, *, kind: str = "string", field_type: str = "text", label: str = ""
    ) -> None:
        """Add a property; one that was archived under the name is gone for good, with its values.

        KeyError if there is a property of that name.
        """
        with self.lock:
            definitions = self.account.properties.setdefault(object_type, [])
            if any(item["name"] == name and not item.get("archived") for item in definitions):
                raise KeyError(f"{object_type} already has a property {name}")
            if any(item["name"] == name for item in definitions):
                definitions[:] = [item for item in definitions if item["name"] != name]
                for record in self.account.records.get(object_type, {}).values():
                    record.properties.pop(name, None)
                    record.history.pop(name, None)
            now = iso(self._now())
            definitions.append(
                {
                    "name": name,
                    "label": label or name,
                    "type": kind,
                    "fieldType": field_type,
                    "description": "",
                    "groupName": "information",
                    "options": [],
                    "calculated": False,
                    "hasUniqueValue": False,
                    "archived": False,
                    "createdAt": now,
                    "updatedAt": now,
                }
            )

    def archive_property(self, object_type: str, name: str) -> None:
        """Delete a property as people do: no definition, no value in any answer, and no record is modified."""
        with self.lock:
            self._definition(object_type, name).update(archived=True, archivedAt=iso(self._now()))

    def relabel_property(self, object_type: str, name: str, label: str) -> None:
        """Rename a property as people can: its label; the internal name is for ever."""
        with self.lock:
            self._definition(object_type, name).update(label=label, updatedAt=iso(self._now()))

    def retype_property(self, object_type: str, name: str, kind: str, field_type: str = "text") -> None:
        """Change the type; stored values stay as they were, whether they fit or not."""
        with self.lock:
            self._definition(object_type, name).update(
                type=kind, fieldType=field_type, updatedAt=iso(self._now())
            )

    def set_options(self, object_type: str, name: str, values: Iterable[str]) -> None:
        """Replace the options of an enumeration; stored values stay."""
        with self.lock:
            self._definition(object_type, name).update(
                options=[
                    {"label": value, "value": value, "displayOrder": position, "hidden": False}
                    for position, value in enumerate(values)
                ],
                updatedAt=iso(self._now()),
            )

    # ---- lists --------------------------------------------------------------------------------------------------

    def create_list(self, list_id: str, name: str, object_type: str, members: Iterable[str] = ()) -> None:
        """Add a list with its first members."""
        with self.lock:
            now = self._now()
            self.account.lists[list_id] = HubSpotList(
                list_id, name, object_type, now, dict.fromkeys(members, now)
            )

    def set_members(self, list_id: str, members: Iterable[str]) -> None:
        """Replace the members; who stays keeps the time of joining. No record is modified."""
        with self.lock:
            known, now = self.account.lists[list_id].members, self._now()
            self.account.lists[list_id].members = {key: known.get(key, now) for key in members}

    def delete_list(self, list_id: str) -> None:
        """Delete a list; its members stay what they are."""
        with self.lock:
            del self.account.lists[list_id]
