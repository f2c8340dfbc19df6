"""A company that sells seats, simulated instant by instant in plain Python: the truth, and what it would export.

The simulation keeps what each subscription is at every moment and answers one question: how many paid seats, at what
monthly amount, has each customer at the end of a day. It can tell its history in three ways: the changes of each day
with their times, a full list of every day without times, and a full list of every day with the time of the last change.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

FIRST_DAY = date(2026, 3, 2)
#: Somebody who always has a seat, so that no list of counts is empty.
ANOTHER = "another"
RUNNING = ("active", "past_due", "non_renewing")

Row = dict[str, Any]


@dataclass
class Item:
    """One line of a subscription."""

    id: str
    subscription: str
    role: str
    quantity: int
    unit: int
    created: datetime
    discount: int = 0
    removed: datetime | None = None
    changed: datetime | None = None


@dataclass
class Phase:
    """What a subscription will consist of from an instant on."""

    start: datetime
    end: datetime
    seats: int


@dataclass
class Subscription:
    """One agreement with everything the billing system would say of it."""

    id: str
    customer: str
    status: str
    started: datetime
    items: dict[str, Item] = field(default_factory=dict)
    changed: datetime | None = None
    trial_end: datetime | None = None
    cancel_at: datetime | None = None
    cancel_asked: datetime | None = None
    ended: datetime | None = None
    pause: str = "none"
    phases: list[Phase] = field(default_factory=list)
    cancels_after_phases: bool = False
    schedule: str | None = None
    schedule_changed: datetime | None = None

    def live_items(self) -> list[Item]:
        """Its items that were not removed, in the order they were added."""
        return [item for item in self.items.values() if item.removed is None]

    @property
    def is_running(self) -> bool:
        """Whether it counts."""
        return self.ended is None and self.status in RUNNING and self.pause != "full"


@dataclass(frozen=True)
class Action:
    """Something that somebody does to a subscription; what makes no sense at that moment does nothing."""

    at: datetime
    subscription: int
    kind: str
    number: int
    other: int


KINDS = (
    "start", "start_trial", "start_incomplete", "seats", "seats", "seats", "price", "discount", "add_seats", "add_calls",
    "add_usage", "remove", "replace", "move", "past_due", "unpaid", "recover", "pause", "pause_collection", "resume",
    "ask_cancel", "uncancel", "end_now", "plan_change", "plan_two", "plan_end", "release", "pending", "extend_trial",
)  # fmt: skip


def actions(days: int, subscriptions: int, most: int, zone: str) -> st.SearchStrategy[list[Action]]:
    """Lists of actions on some subscriptions within some days, no two at the same instant."""
    start = _close(FIRST_DAY - timedelta(days=1), zone)

    @st.composite
    def one(draw: st.DrawFn) -> Action:
        # Instants just before and at the end of a day, and otherwise anywhere.
        day = draw(st.integers(0, days - 1))
        second = draw(st.sampled_from([0, 1, 43_200, 86_399]) | st.integers(0, 86_399))
        return Action(
            at=start + timedelta(days=day, seconds=second),
            subscription=draw(st.integers(0, subscriptions - 1)),
            kind=draw(st.sampled_from(KINDS)),
            number=draw(st.integers(0, 60)),
            other=draw(st.integers(0, 9)),
        )

    return st.lists(one(), max_size=most, unique_by=lambda a: a.at)


class Company:
    """The history of some subscriptions; `states` holds what each of them was at the end of each day."""

    def __init__(self, happened: Iterable[Action], days: int, zone: str, owners: Sequence[int]) -> None:
        self.zone = zone
        self.days = [FIRST_DAY + timedelta(days=n) for n in range(days)]
        self._owners = owners
        self._present: dict[str, Subscription] = {}
        self.changes: dict[date, list[tuple[str, Row]]] = {day: [] for day in self.days}
        self.states: dict[date, dict[str, Subscription]] = {}
        self._serial = 0
        todo = sorted(happened, key=lambda action: (action.at, action.subscription))
        for day in self.days:
            close = _close(day, zone)
            while todo and todo[0].at < close:
                action = todo.pop(0)
                self._time_passes(action.at + timedelta(microseconds=1), day)
                self._act(action, day)
            self._time_passes(close, day)
            self.states[day] = copy.deepcopy(self._present)

    def seats(self, day: date) -> dict[str, int]:
        """Customer -> paid seats at the end of the day, without those that have none."""
        counted: dict[str, int] = {}
        for subscription in self.states[day].values():
            if subscription.is_running:
                seats = sum(item.quantity for item in subscription.live_items() if item.role == "seat")
                counted[subscription.customer] = counted.get(subscription.customer, 0) + seats
        return {customer: seats for customer, seats in counted.items() if seats}

    def amounts(self, day: date) -> dict[str, Decimal]:
        """Running subscription -> amount a month at the end of the day, after discounts."""
        return {
            s.id: Decimal(
                sum(i.quantity * i.unit - i.discount for i in s.live_items() if i.role != "metered")
            )
            / 100
            for s in self.states[day].values()
            if s.is_running
        }

    def planned(self, day: date) -> dict[tuple[str, datetime], int]:
        """(subscription, start) -> seats, of the phases that were planned and had not begun at the end of the day."""
        close = _close(day, self.zone)
        return {
            (s.id, phase.start): phase.seats
            for s in self.states[day].values()
            for phase in s.phases
            if phase.start >= close and s.ended is None
        }

    def close(self, day: date) -> datetime:
        """The instant the day ends."""
        return _close(day, self.zone)

    def events(self, day: date) -> dict[str, list[Row]]:
        """Table -> versions with the instant of each change, of one day."""
        # Of several changes within one instant the last is the version of that instant.
        last = {(table, _key(table, row), row["updated_at"]): row for table, row in self.changes[day]}
        tables: dict[str, list[Row]] = {}
        for (table, _, _), row in last.items():
            tables.setdefault(table, []).append(row)
        return tables

    def lists(self, day: date, timed: bool, ended: bool) -> dict[str, list[Row]]:
        """Table -> everything there is at the end of a day.

        Args:
            timed: whether rows say when they last changed.
            ended: whether subscriptions that have ended, and their items, are still listed.
        """
        tables: dict[str, list[Row]] = {
            "subscriptions": [],
            "subscription_items": [],
            "subscription_schedules": [],
        }
        for s in self.states[day].values():
            if s.ended is not None and not ended:
                continue
            tables["subscriptions"].append(_subscription(s, s.changed if timed else None))
            tables["subscription_items"] += [_item(i, i.changed if timed else None) for i in s.live_items()]
            tables["subscription_schedules"] += _phases(s, s.schedule_changed if timed else None)
        return tables

    def counts(self, day: date) -> dict[str, list[Row]]:
        """The seats of each customer that has any at the end of a day, and no more than that."""
        rows = [
            {"organisation_ref": customer, "snapshot_date": str(day), "seats": str(seats)}
            for customer, seats in (self.seats(day) | {ANOTHER: 1}).items()
        ]
        return {"daily_seats": rows}

    # What happens -----------------------------------------------------------------------------------------------

    def _time_passes(self, until: datetime, day: date) -> None:
        """Everything that was agreed to happen before an instant."""
        while True:
            due = [
                (at, order, s.id)
                for s in self._present.values()
                if s.ended is None
                for order, at in enumerate(
                    (s.trial_end if s.status == "trialing" else None, _next_phase(s), s.cancel_at)
                )
                if at is not None and at < until
            ]
            if not due:
                return
            at, order, name = min(due)
            s = self._present[name]
            if order == 0:
                s.status = "active"
                self._tell(s, at, day)
            elif order == 1:
                phase = next(p for p in s.phases if p.start == at)
                s.phases.remove(phase)
                self._become(s, phase.seats, at, day)
                if not s.phases and not s.cancels_after_phases:
                    s.schedule = None
            else:
                self._end(s, at, day)

    def _act(self, action: Action, day: date) -> None:
        name = f"s{action.subscription}"
        present = self._present.get(name)
        at = action.at
        if present is None:
            if action.kind.startswith("start"):
                self._begin(name, action, day)
            return
        if present.ended is not None:
            return
        act = getattr(self, f"_{action.kind}", None)
        if act is not None:
            act(present, action, at, day)

    def _begin(self, name: str, action: Action, day: date) -> None:
        status = {"start": "active", "start_trial": "trialing", "start_incomplete": "incomplete"}[action.kind]
        customer = f"c{self._owners[action.subscription % len(self._owners)]}"
        s = Subscription(name, customer, status, action.at)
        if status == "trialing":
            s.trial_end = action.at + timedelta(hours=20 + 7 * action.number)
        self._present[name] = s
        self._tell(s, action.at, day)
        self._add(s, "seat", action.number, action.at, day)

    def _add(self, s: Subscription, role: str, quantity: int, at: datetime, day: date) -> Item:
        self._serial += 1
        item = Item(
            f"i{self._serial}", s.id, role, quantity, {"seat": 1200, "addon": 3, "metered": 7}[role], at
        )
        s.items[item.id] = item
        self._tell_item(item, at, day)
        return item

    def _tell(self, s: Subscription, at: datetime, day: date) -> None:
        s.changed = at
        self.changes[day].append(("subscriptions", _subscription(s, at)))

    def _tell_item(self, item: Item, at: datetime, day: date) -> None:
        item.changed = at
        self.changes[day].append(("subscription_items", _item(item, at)))

    def _tell_schedule(self, s: Subscription, at: datetime, day: date, gone: bool = False) -> None:
        s.schedule_changed = at
        for row in _phases(s, at):
            self.changes[day].append(
                ("subscription_schedules", {**row, "is_deleted": "true" if gone else "false"})
            )

    def _pick(self, s: Subscription, action: Action, role: str = "seat") -> Item | None:
        found = [item for item in s.live_items() if item.role == role]
        return found[action.other % len(found)] if found else None

    def _seats(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        item = self._pick(s, action)
        if item is not None and item.quantity != action.number:
            item.quantity = action.number
            self._tell_item(item, at, day)

    def _price(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        item = self._pick(s, action)
        if item is not None:
            item.unit += 1 + action.number
            self._tell_item(item, at, day)

    def _discount(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        item = self._pick(s, action)
        if item is not None:
            item.discount = 0 if item.discount else 5 * action.other
            self._tell_item(item, at, day)

    def _add_seats(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        self._add(s, "seat", action.number, at, day)

    def _add_calls(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        self._add(s, "addon", 10 * action.number, at, day)

    def _add_usage(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        self._add(s, "metered", 0, at, day)

    def _remove(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        item = self._pick(s, action)
        if item is not None:
            item.removed = at
            self._tell_item(item, at, day)

    def _replace(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        """Another price is another item: the old one goes and the new one comes at the same instant."""
        item = self._pick(s, action)
        if item is not None:
            item.removed = at
            self._tell_item(item, at, day)
            self._add(s, "seat", item.quantity, at, day)

    def _move(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        item = self._pick(s, action)
        others = [o for o in self._present.values() if o.ended is None and o.id != s.id]
        if item is None or not others:
            return
        other = others[action.number % len(others)]
        del s.items[item.id]
        other.items[item.id] = item
        item.subscription = other.id
        self._tell_item(item, at, day)

    def _set_status(self, s: Subscription, status: str, at: datetime, day: date) -> None:
        if s.status != status and s.status not in ("trialing", "incomplete"):
            s.status = status
            self._tell(s, at, day)

    def _past_due(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        self._set_status(s, "past_due", at, day)

    def _unpaid(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        self._set_status(s, "unpaid", at, day)

    def _recover(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        if s.status == "incomplete":
            s.status = "active"
            self._tell(s, at, day)
        else:
            self._set_status(s, "active", at, day)

    def _pause(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        """Some systems pause by a status, some by a pause beside it."""
        if action.other % 2:
            self._set_status(s, "paused", at, day)
        else:
            s.pause = "full"
            self._tell(s, at, day)

    def _pause_collection(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        if s.pause == "none":
            s.pause = "collection"
            self._tell(s, at, day)

    def _resume(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        s.pause = "none"
        if s.status == "paused":
            s.status = "active"
        self._tell(s, at, day)

    def _extend_trial(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        if s.status == "trialing":
            assert s.trial_end is not None
            s.trial_end += timedelta(hours=action.number)
            self._tell(s, at, day)

    def _ask_cancel(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        if s.schedule is not None:
            return
        s.cancel_at, s.cancel_asked = at + timedelta(hours=1 + 5 * action.number), at
        self._tell(s, at, day)

    def _uncancel(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        if s.cancel_at is not None and not s.cancels_after_phases:
            s.cancel_at = s.cancel_asked = None
            self._tell(s, at, day)

    def _end_now(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        if action.other < 3:
            self._end(s, at, day)

    def _end(self, s: Subscription, at: datetime, day: date) -> None:
        if s.schedule is not None:
            self._drop_schedule(s, at, day)
        s.status, s.ended = "canceled", at
        self._tell(s, at, day)

    def _plan(self, s: Subscription, at: datetime, day: date, phases: list[Phase], cancels: bool) -> None:
        if s.schedule is not None or s.cancel_at is not None or not s.live_items():
            return
        self._serial += 1
        s.schedule, s.phases, s.cancels_after_phases = f"sched{self._serial}", phases, cancels
        if cancels:
            s.cancel_at, s.cancel_asked = phases[-1].end, at
            self._tell(s, at, day)
        self._tell_schedule(s, at, day)

    def _plan_change(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        start = at + timedelta(hours=6 + 3 * action.number)
        self._plan(s, at, day, [Phase(start, start + timedelta(days=30), 3 * action.other)], False)

    def _plan_two(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        first = at + timedelta(hours=6 + action.number)
        second = first + timedelta(hours=5 + action.number)
        phases = [
            Phase(first, second, action.number),
            Phase(second, second + timedelta(days=9), action.other),
        ]
        self._plan(s, at, day, phases, False)

    def _plan_end(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        start = at + timedelta(hours=2)
        self._plan(s, at, day, [Phase(start, start + timedelta(hours=1 + 2 * action.number), 5)], True)

    def _release(self, s: Subscription, action: Action, at: datetime, day: date) -> None:
        if s.schedule is not None:
            self._drop_schedule(s, at, day)
            if s.cancels_after_phases:
                s.cancel_at = s.cancel_asked = None
                s.cancels_after_phases = False
                self._tell(s, at, day)

    def _drop_schedule(self, s: Subscription, at: datetime, day: date) -> None:
        self._tell_schedule(s, at, day, gone=True)
        s.schedule, s.phases = None, []

    def _become(self, s: Subscription, seats: int, at: datetime, day: date) -> None:
        """A phase begins: what it does not name goes, the first seat item gets its seats."""
        kept = next((item for item in s.live_items() if item.role == "seat"), None)
        for item in s.live_items():
            if item is not kept:
                item.removed = at
                self._tell_item(item, at, day)
        if kept is None:
            self._add(s, "seat", seats, at, day)
        elif kept.quantity != seats or kept.discount or kept.unit != 1200:
            kept.quantity, kept.discount, kept.unit = seats, 0, 1200
            self._tell_item(kept, at, day)


def _key(table: str, row: Row) -> tuple[str, ...]:
    keys = {
        "subscriptions": ("subscription_id",),
        "subscription_items": ("subscription_item_id",),
        "subscription_schedules": ("schedule_id", "phase_no"),
    }
    return tuple(row[name] for name in keys[table])


def _next_phase(s: Subscription) -> datetime | None:
    return min((phase.start for phase in s.phases), default=None)


def _close(day: date, zone: str) -> datetime:
    midnight = datetime.combine(day + timedelta(days=1), datetime.min.time(), ZoneInfo(zone))
    return midnight.astimezone(ZoneInfo("UTC")).replace(tzinfo=None)


def _time(value: datetime | None) -> str:
    return "" if value is None else f"{value.isoformat()}Z"


def _subscription(s: Subscription, changed: datetime | None) -> Row:
    return {
        "subscription_id": s.id,
        "customer_id": s.customer,
        "status": s.status,
        "currency": "USD",
        "started_at": _time(s.started),
        "trial_end_at": _time(s.trial_end),
        "cancel_at": _time(s.cancel_at),
        "cancel_requested_at": _time(s.cancel_asked),
        "ended_at": _time(s.ended),
        "pause_kind": s.pause,
        "updated_at": _time(changed),
    }


def _item(item: Item, changed: datetime | None) -> Row:
    return {
        "subscription_item_id": item.id,
        "subscription_id": item.subscription,
        "seat_role": item.role,
        "usage_type": "metered" if item.role == "metered" else "licensed",
        "quantity": "" if item.role == "metered" else str(item.quantity),
        "unit_amount_minor": str(item.unit),
        "discount_minor": str(item.discount) if item.discount else "",
        "interval": "month",
        "created_at": _time(item.created),
        "deleted_at": _time(item.removed),
        "updated_at": _time(changed),
    }


def _phases(s: Subscription, changed: datetime | None) -> list[Row]:
    if s.schedule is None:
        return []
    return [
        {
            "schedule_id": s.schedule,
            "price_id": "p1",
            "phase_no": str(int((phase.start - datetime(2026, 1, 1)).total_seconds())),
            "subscription_id": s.id,
            "phase_start_at": _time(phase.start),
            "phase_end_at": _time(phase.end),
            "end_behavior": "cancel" if s.cancels_after_phases else "release",
            "seat_role": "seat",
            "quantity": str(phase.seats),
            "unit_amount_minor": "1200",
            "interval": "month",
            "updated_at": _time(changed),
        }
        for phase in s.phases
    ]
