"""An independent answer to what the marts must say: the rules as a plain day-by-day simulation in Python.

Written from the design's rules and from the boundary sentences of the models' contracts, never from the SQL. It is
slow and simple on purpose: instants are naive UTC, every state is looked up for the close of a day, and every set is
a loop. An oracle takes a world (canonical tables as in ``worlds.py``); its method named like a mart answers with that mart's
rows, restricted to the columns that the rules define. `Oracle` covers MARTS; the modules beside it add what else there
is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from typing import Any

from hub_pipeline.settings import Settings

Row = dict[str, Any]
World = Mapping[str, Sequence[Mapping[str, Any]]]

ALWAYS = datetime(1970, 1, 1)
CENT = Decimal("0.01")
DAY = timedelta(days=1)

#: Times of each table, in the order of their columns; the first of OWN_TIME stands in for a missing recorded_at.
TIMES = {
    "organisations": ("created_at",),
    "subscription_versions": ("effective_at", "cancel_at", "term_start", "term_end", "ended_at"),
    "org_parents": ("valid_from", "valid_to"),
    "org_coverage": ("valid_from", "valid_to"),
    "org_merges": ("merged_at",),
    "crm_contracts": ("valid_from", "valid_to", "term_end"),
    "contacts": ("created_at", "left_at"),
    "contact_owners": ("valid_from",),
    "contact_stages": ("set_at",),
    "contact_orgs": ("valid_from", "valid_to"),
    "success_plans": ("updated_at",),
    "nps_responses": ("responded_at",),
    "conversations": ("created_at", "rated_at"),
    "conversation_parts": ("created_at",),
    "engagements": ("occurred_at", "due_at", "completed_at"),
    "users": (),
    "deals": ("created_at", "closed_at"),
    "deal_close_dates": ("set_at",),
    "deal_stages": ("set_at",),
    "stages": (),
    "fx_rates": (),
}
OWN_TIME = {name: times[0] for name, times in TIMES.items() if times}

#: What one row is, and the other columns by which the greatest of equal rows is kept.
KEYS = {
    "organisations": ("org_id",),
    "subscription_versions": ("subscription_id", "effective_at"),
    "org_parents": ("org_id", "valid_from"),
    "org_coverage": ("child_org_id", "payer_org_id", "valid_from"),
    "org_merges": ("loser_org_id",),
    "crm_contracts": ("org_id", "valid_from"),
    "contacts": ("contact_id",),
    "contact_owners": ("contact_id", "valid_from"),
    "contact_stages": ("contact_id", "set_at"),
    "contact_orgs": ("contact_id", "org_id", "valid_from"),
    "success_plans": ("org_id", "updated_at"),
    "nps_responses": ("response_id",),
    "conversations": ("conversation_id",),
    "conversation_parts": ("conversation_id", "part_number"),
    "engagements": ("engagement_id", "contact_id", "org_id"),
    "users": ("user_id",),
    "deals": ("deal_id",),
    "deal_close_dates": ("deal_id", "set_at"),
    "deal_stages": ("deal_id", "set_at"),
    "stages": ("pipeline", "stage"),
    "fx_rates": ("currency", "valid_from"),
}
OTHERS = {
    "organisations": (
        "name",
        "domain",
        "owner_id",
        "health_override",
        "members_active",
        "unmatched_reason",
        "created_at",
        "is_deleted",
    ),
    "contacts": (
        "email",
        "name",
        "lifecycle_stage",
        "lead_status",
        "source",
        "owner_id",
        "is_champion",
        "left_at",
        "created_at",
        "is_deleted",
    ),
    "conversations": (
        "contact_id",
        "org_id",
        "rating",
        "rated_at",
        "state",
        "title",
        "created_at",
        "is_deleted",
    ),
    "engagements": (
        "type",
        "direction",
        "user_id",
        "is_automated",
        "occurred_at",
        "status",
        "due_at",
        "completed_at",
        "is_deleted",
    ),
    "subscription_versions": (
        "org_id",
        "plan",
        "billing_interval",
        "seats",
        "amount",
        "currency",
        "status",
        "cancel_at",
        "cancel_requested_at",
        "cancel_reason",
        "cancel_comment",
        "term_start",
        "term_end",
        "ended_at",
    ),
    "org_parents": ("parent_org_id", "valid_to"),
    "org_coverage": ("valid_to", "seats"),
    "org_merges": ("winner_org_id", "merged_at"),
    "crm_contracts": ("kind", "valid_to", "seats", "amount", "billing_interval"),
    "contact_orgs": ("is_primary", "valid_to"),
    "contact_owners": ("owner_id",),
    "contact_stages": ("lifecycle_stage", "lead_status"),
    "success_plans": ("status", "objectives"),
    "nps_responses": ("contact_id", "org_id", "score"),
    "users": ("name", "email", "role", "is_active"),
    "deals": (
        "name",
        "org_id",
        "subscription_id",
        "pipeline",
        "deal_type",
        "plan",
        "stage",
        "status",
        "amount",
        "currency",
        "owner_id",
        "has_next_activity",
        "hubspot_url",
        "created_at",
        "closed_at",
        "close_date",
        "is_deleted",
    ),
    "deal_close_dates": ("close_date",),
    "deal_stages": ("stage",),
    "stages": ("label", "probability", "status"),
    "fx_rates": ("rate",),
}
NUMBERS = ("amount", "rate", "score", "probability", "pending_true_up_mrr")
PER_MONTH = {
    "month": (1, 1),
    "quarter": (1, 3),
    "year": (1, 12),
    "two_years": (1, 24),
    "week": (52, 12),
}
ANNUAL = ("year", "two_years")
TOUCHES = ("email", "call", "meeting")


def cents(value: Decimal) -> Decimal:
    """Rounded half up to two places."""
    return value.quantize(CENT, ROUND_HALF_UP)


def ratio(part: Decimal | int, whole: Decimal | int, places: str = "0.0001") -> Decimal | None:
    """part / whole rounded half up; unknown when there is no whole."""
    return (Decimal(part) / Decimal(whole)).quantize(Decimal(places), ROUND_HALF_UP) if whole else None


def days(first: date, last: date) -> Iterator[date]:
    """Every day from first to last, both inclusive."""
    while first <= last:
        yield first
        first += DAY


def a_year_before(day: date) -> date:
    """The same day a year ago; of 29 February the 28th."""
    leap = day.month == 2 and day.day == 29
    return date(day.year - 1, day.month, 28 if leap else day.day)


@dataclass(frozen=True)
class Stretch:
    """One version of a subscription while it holds: [start, end), end None = open."""

    subscription_id: str
    org_id: str
    original_org_id: str
    start: datetime
    end: datetime | None
    status: str
    seats: int | None
    amount: Decimal | None
    native: Decimal | None
    currency: str
    plan: str | None
    interval: str | None
    is_paid: bool
    is_contract: bool
    term_start: datetime | None
    term_end: datetime | None
    cancel_at: datetime | None
    own_end: datetime | None
    reason: str | None
    recorded_at: datetime

    @property
    def is_running(self) -> bool:
        return self.status in ("active", "past_due")

    def holds_at(self, moment: datetime) -> bool:
        return self.start <= moment and (self.end is None or moment < self.end)


class Oracle:
    """The company on one day, from what was known by another."""

    def __init__(
        self, world: World, as_of: date, known_at: date | None = None, settings: Settings | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.zone = self.settings.zone
        self.as_of = as_of
        self.close_of_day = self.close(as_of)
        self.known = self.close(known_at or as_of)
        self.tables = {name: self._table(name, world.get(name, ())) for name in KEYS}

    # Clocks

    def close(self, day: date) -> datetime:
        """The instant local 00:00 of the next day."""
        return self.midnight(day + DAY)

    def midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), self.zone).astimezone(UTC).replace(tzinfo=None)

    def local(self, moment: datetime) -> date:
        return moment.replace(tzinfo=UTC).astimezone(self.zone).date()

    def instant(self, value: Any) -> datetime | None:
        """A date is local 00:00, an offset is converted, a time without one is UTC."""
        if value is None:
            return None
        text = str(value)
        if len(text) == 10:
            return self.midnight(date.fromisoformat(text))
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment

    def day_of(self, moment: datetime | None) -> date | None:
        return None if moment is None else self.local(moment)

    def before_close(self, moment: datetime | None) -> bool:
        return moment is None or moment < self.close_of_day

    def in_window(self, moment: datetime, length: int) -> bool:
        """Local day in (as_of - length, as_of]."""
        return self.as_of - timedelta(length) < self.local(moment) <= self.as_of

    # Inputs

    def _table(self, name: str, table: Iterable[Mapping[str, Any]]) -> list[Row]:
        """What was known, typed; of rows with the same key the one recorded last, of equals the greatest."""
        best: dict[Any, tuple[Any, Row]] = {}
        first: dict[Any, datetime] = {}
        first_wins = name == "conversation_parts"
        for source in table:
            row = dict(source)
            for column in TIMES[name]:
                row[column] = self.instant(row.get(column))
            for column in NUMBERS:
                if row.get(column) is not None:
                    row[column] = Decimal(str(row[column]))
            if name == "fx_rates":
                row["valid_from"] = date.fromisoformat(str(row["valid_from"])[:10])
            recorded_at = self.recorded(name, row)
            row["recorded_at"] = recorded_at
            if recorded_at >= self.known:
                continue
            key = tuple(row.get(column) for column in KEYS[name])
            others = tuple((row.get(column) is not None, row.get(column)) for column in OTHERS.get(name, ()))
            order = (ALWAYS - row["recorded_at"] if first_wins else row["recorded_at"] - ALWAYS, others)
            first[key] = min(recorded_at, first.get(key, recorded_at))
            if key not in best or order > best[key][0]:
                best[key] = (order, row)
        return [row | {"first_recorded_at": first[key]} for key, (_, row) in best.items()]

    def recorded(self, name: str, row: Mapping[str, Any]) -> datetime:
        """When a row became known: as it says, else at its own time, else always."""
        own = self.midnight(date.fromisoformat(str(row["valid_from"])[:10])) if name == "fx_rates" else None
        if name in OWN_TIME:
            own = self.instant(row.get(OWN_TIME[name]))
        return self.instant(row.get("recorded_at")) or own or ALWAYS

    def _valid(self, row: Row, moment: datetime) -> bool:
        """[valid_from, valid_to) contains the moment; empty ends are open."""
        start, end = row["valid_from"], row["valid_to"]
        return (start is None or start <= moment) and (end is None or moment < end)

    @cached_property
    def users(self) -> dict[str | None, Row]:
        return {row["user_id"]: row for row in self.tables["users"]}

    @property
    def last_moment(self) -> datetime:
        """The last instant of as_of."""
        return self.close_of_day - timedelta(microseconds=1)

    # Identity and hierarchy

    @cached_property
    def _winners(self) -> dict[str, str]:
        latest: dict[str, Row] = {}
        for row in self.tables["org_merges"]:
            latest[row["loser_org_id"]] = row
        return {loser: row["winner_org_id"] for loser, row in latest.items()}

    def who(self, org_id: str | None) -> str | None:
        """The id an organisation goes by after the merges known; a circle goes by its smallest id."""
        if org_id is None:
            return None
        path = [org_id]
        while path[-1] in self._winners:
            following = self._winners[path[-1]]
            if following in path:
                return min(path[path.index(following) :])
            path.append(following)
        return path[-1]

    @cached_property
    def parents(self) -> dict[str, str]:
        """Direct parents at the close of as_of."""
        candidates: dict[str, list[Row]] = defaultdict(list)
        for row in self.tables["org_parents"]:
            child, parent = self.who(row["org_id"]), self.who(row["parent_org_id"])
            if child != parent and self._valid(row, self.last_moment):
                candidates[str(child)].append(row | {"parent": parent})
        chosen = {}
        for child, rows in candidates.items():
            newest = max((row["valid_from"] or ALWAYS, row["recorded_at"]) for row in rows)
            parent = min(
                (
                    row["parent"]
                    for row in rows
                    if (row["valid_from"] or ALWAYS, row["recorded_at"]) == newest
                ),
                key=lambda org: (org is None, org),
            )
            if parent is not None:
                chosen[child] = parent
        return chosen

    def root(self, org_id: str) -> str:
        path = [org_id]
        while path[-1] in self.parents:
            if self.parents[path[-1]] in path:
                return org_id
            path.append(self.parents[path[-1]])
        return path[-1]

    @cached_property
    def records(self) -> dict[str, list[Row]]:
        """Records by the organisation they stand for now; none of one whose record that holds is deleted."""
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.tables["organisations"]:
            found[str(self.who(row["org_id"]))].append(row)
        return {
            org_id: rows
            for org_id, rows in found.items()
            if not self._holding(org_id, rows).get("is_deleted")
        }

    def record(self, org_id: str) -> Row:
        """The survivor's own record, else the one of a loser recorded last."""
        return self._holding(org_id, self.records.get(org_id, []))

    def _holding(self, org_id: str, rows: list[Row]) -> Row:
        own = [row for row in rows if row["org_id"] == org_id]
        return min(own or rows, key=lambda row: (ALWAYS - row["recorded_at"], row["org_id"]), default={})

    # Money

    def rate(self, currency: str, day: date) -> Decimal | None:
        """The last rate on or before the day; the reporting currency has 1."""
        if currency == self.settings.reporting_currency:
            return Decimal(1)
        known = [
            (row["valid_from"], row["rate"])
            for row in self.tables["fx_rates"]
            if row["currency"] == currency and row["valid_from"] <= day
        ]
        return max(known)[1] if known else None

    def convert(self, stretch: Stretch | None, day: date) -> Decimal | None:
        """MRR in the reporting currency at the rate of the day; unknown without amount, interval or rate."""
        if stretch is None or not stretch.is_running:
            return Decimal(0)
        rate = self.rate(stretch.currency, day)
        return None if stretch.native is None or rate is None else cents(stretch.native * rate)

    # Subscriptions

    @cached_property
    def stretches(self) -> dict[str, list[Stretch]]:
        """Every subscription and priced contract as constant stretches, future changes included."""
        own = {name: self._stretches_of(versions) for name, versions in self._versions.items()}
        return own | self._contract_stretches()

    @cached_property
    def _versions(self) -> dict[str, list[Row]]:
        versions: dict[str, list[Row]] = defaultdict(list)
        for row in sorted(self.tables["subscription_versions"], key=lambda row: row["effective_at"]):
            versions[row["subscription_id"]].append(row)
        return versions

    def _stretches_of(self, versions: list[Row]) -> list[Stretch]:
        stretches = []
        for row, following in zip(versions, [*versions[1:], None], strict=True):
            start = row["effective_at"]
            end = following["effective_at"] if following else None
            status = row["status"]
            for known_end in (row["cancel_at"], row["ended_at"]):
                if known_end is not None and known_end <= start:
                    status = "canceled"
                elif known_end is not None and (end is None or known_end < end):
                    end = known_end
            if following and following["status"] == "canceled" and following["ended_at"] is not None:
                ended = following["ended_at"]
                if start < ended < following["effective_at"] and (end is None or ended < end):
                    end = ended
            stretches.append(self._stretch(row, start, end, status))
        return stretches

    def _stretch(
        self, row: Row, start: datetime, end: datetime | None, status: str, contract: bool = False
    ) -> Stretch:
        amount, interval = row.get("amount"), row.get("billing_interval")
        plan = row.get("plan")
        native = None
        if amount is not None and interval in PER_MONTH:
            up, down = PER_MONTH[interval]
            native = cents(amount * up / down)
        running = status in ("active", "past_due")
        named = plan is not None and plan.lower() not in self.settings.plans.free
        return Stretch(
            subscription_id=row["subscription_id"],
            org_id=str(self.who(row["org_id"])),
            original_org_id=row["org_id"],
            start=start,
            end=end,
            status=status,
            seats=row.get("seats"),
            amount=amount,
            native=native,
            currency=row.get("currency") or self.settings.reporting_currency,
            plan=plan,
            interval=interval,
            is_paid=running and ((amount or 0) > 0 or named),
            is_contract=contract,
            term_start=row.get("term_start"),
            term_end=row.get("term_end"),
            cancel_at=row.get("cancel_at"),
            own_end=min(
                (at for at in (row.get("cancel_at"), row.get("ended_at")) if at is not None and at > start),
                default=None,
            ),
            reason=row.get("cancel_reason"),
            recorded_at=row["recorded_at"],
        )

    def _contract_stretches(self) -> dict[str, list[Stretch]]:
        found: dict[str, list[Stretch]] = defaultdict(list)
        for row in self.tables["crm_contracts"]:
            start, end = row["valid_from"], row["valid_to"]
            if row.get("amount") is None or (end is not None and end <= start):
                continue
            name = f"contract:{row['org_id']}:{self.local(start)}"
            values = row | {
                "subscription_id": name,
                "plan": row.get("kind"),
                "billing_interval": row.get("billing_interval") or "month",
                "term_start": start,
                "term_end": row["term_end"] or end,
            }
            found[name].append(self._stretch(values, start, end, "active", contract=True))
        return found

    @cached_property
    def _closes(self) -> dict[str, dict[date, Stretch]]:
        """subscription -> day -> what held at its close, up to as_of."""
        calendar: dict[str, dict[date, Stretch]] = {}
        for name, stretches in self.stretches.items():
            mine: dict[date, Stretch] = {}
            for one in stretches:
                last = self.as_of if one.end is None else min(self.local(one.end) - DAY, self.as_of)
                for day in days(self.local(one.start), last):
                    mine[day] = one
            calendar[name] = mine
        return calendar

    @cached_property
    def _names_of_org(self) -> dict[str, set[str]]:
        names: dict[str, set[str]] = defaultdict(set)
        for name, stretches in self.stretches.items():
            for one in stretches:
                names[one.org_id].add(name)
        return names

    def of_org(self, org_id: str, day: date) -> list[Stretch]:
        """What the organisation's subscriptions were at the close of the day."""
        found = [self._closes[name].get(day) for name in sorted(self._names_of_org.get(org_id, ()))]
        return [one for one in found if one is not None and one.org_id == org_id]

    def running(self, org_id: str, day: date) -> list[Stretch]:
        return [one for one in self.of_org(org_id, day) if one.is_running]

    def seats(self, org_id: str, day: date) -> int:
        """Known seats at the close of the day."""
        return sum(one.seats or 0 for one in self.running(org_id, day))

    def mrr(self, org_id: str, day: date, rate_of: date | None = None) -> Decimal:
        """Known MRR at the close of the day, at one rate (that of as_of unless told)."""
        amounts = [self.convert(one, rate_of or self.as_of) for one in self.running(org_id, day)]
        return sum((amount for amount in amounts if amount is not None), Decimal(0))

    def paid_runs(self, name: str) -> list[tuple[datetime, datetime | None, str]]:
        """Unbroken paid stretches of a subscription: start, end, organisation."""
        runs: list[tuple[datetime, datetime | None, str]] = []
        for one in self.stretches[name]:
            if not one.is_paid or one.end == one.start:
                continue
            if runs and runs[-1][1] is not None and runs[-1][1] >= one.start and runs[-1][2] == one.org_id:
                runs[-1] = (runs[-1][0], one.end, one.org_id)
            else:
                runs.append((one.start, one.end, one.org_id))
        return runs

    # Joint plans

    @cached_property
    def coverage(self) -> list[Row]:
        """Joint plans that hold for some time, between organisations that are still two."""
        found = []
        for row in self.tables["org_coverage"]:
            child, payer = self.who(row["child_org_id"]), self.who(row["payer_org_id"])
            start, end = row["valid_from"], row["valid_to"]
            if child != payer and (start is None or end is None or start < end):
                day = None if start is None else self.local(start)
                found.append(row | {"child": child, "payer": payer, "day": day})
        return found

    def transfers(self, first: date, last: date) -> list[Row]:
        """Joint plans that start on a local day from first to last, with the seats and the child that moved."""
        found = []
        for row in self.coverage:
            if row["day"] is None or not first <= row["day"] <= min(last, self.as_of):
                continue
            day_before = row["day"] - DAY
            seats = row.get("seats")
            found.append(
                row
                | {
                    "seats": self.seats(row["child"], day_before) if seats is None else seats,
                    "day_before": day_before,
                }
            )
        return found

    # marts.organisation_daily

    @cached_property
    def daily(self) -> dict[str, Row]:
        found = {}
        for org_id in sorted({*self.records, *self._names_of_org, *self._contract_orgs}):
            if self._is_sighted(org_id):
                running = self.running(org_id, self.as_of)
                known_seats = [one.seats for one in running if one.seats is not None]
                amounts = [self.convert(one, self.as_of) for one in running]
                found[org_id] = {
                    "org_id": org_id,
                    "root_org_id": self.root(org_id),
                    "state": self.state(org_id),
                    "seats": sum(known_seats) if known_seats or not running else None,
                    "mrr": None if None in amounts else self.mrr(org_id, self.as_of),
                    "paid_subscriptions": sum(one.is_paid for one in running),
                }
        accounts: dict[str, Decimal] = defaultdict(Decimal)
        for org_id, row in found.items():
            accounts[row["root_org_id"]] += self.mrr(org_id, self.as_of)
        for row in found.values():
            row["is_customer"] = row["state"] in ("paying", "covered", "custom_off_billing")
            row["tier"] = self._tier(row, found, accounts)
        return found

    @cached_property
    def _contract_orgs(self) -> set[str]:
        return {str(self.who(row["org_id"])) for row in self.tables["crm_contracts"]}

    def _contracts(self, org_id: str) -> list[Row]:
        """CRM contracts of the organisation that hold for some time."""
        return [
            row
            for row in self.tables["crm_contracts"]
            if self.who(row["org_id"]) == org_id
            and (row["valid_from"] is None or row["valid_to"] is None or row["valid_from"] < row["valid_to"])
        ]

    def _is_sighted(self, org_id: str) -> bool:
        return any(moment < self.close_of_day for moment in self._sightings(org_id))

    def _sightings(self, org_id: str) -> list[datetime]:
        """When its record was created or became known, and when its subscriptions and contracts began."""
        moments = [one.start for one in self._all_of(org_id)]
        moments += [row["valid_from"] or ALWAYS for row in self._contracts(org_id)]
        mine = self.records.get(org_id, [])
        created = [row["created_at"] for row in mine if row["created_at"] is not None]
        moments += [min(created)] if created else [row["first_recorded_at"] for row in mine]
        return moments

    def _all_of(self, org_id: str) -> list[Stretch]:
        return [
            one
            for name in sorted(self._names_of_org.get(org_id, ()))
            for one in self.stretches[name]
            if one.org_id == org_id
        ]

    def is_paying(self, org_id: str) -> bool:
        return any(one.is_paid for one in self.of_org(org_id, self.as_of))

    def state(self, org_id: str) -> str:
        now = self.of_org(org_id, self.as_of)
        contracts = self._contracts(org_id)
        if any(one.is_paid for one in now):
            return "paying"
        if any(
            row["child"] == org_id and self._valid(row, self.last_moment) and self.is_paying(row["payer"])
            for row in self.coverage
        ):
            return "covered"
        if any(row.get("amount") is None and self._valid(row, self.last_moment) for row in contracts):
            return "custom_off_billing"
        if any(one.status == "paused" for one in now):
            return "paused"
        if any(one.status == "trialing" for one in now):
            return "trial"
        ran = any(
            one.is_paid and one.start < self.close_of_day and one.end != one.start
            for one in self._all_of(org_id)
        )
        held = any(self.before_close(row["valid_from"]) for row in contracts)
        return "churned" if ran or held else "never_paid"

    def _tier(self, row: Row, everyone: Mapping[str, Row], accounts: Mapping[str, Decimal]) -> str:
        by_hand = self.record(row["org_id"]).get("tier_override") or self.record(row["root_org_id"]).get(
            "tier_override"
        )
        if by_hand:
            return str(by_hand)
        tiers = self.settings.tiers
        account = [other for other in everyone.values() if other["root_org_id"] == row["root_org_id"]]
        mrr = accounts[row["root_org_id"]]
        seats = sum(self.seats(other["org_id"], self.as_of) for other in account)
        if tiers.mode == "size":
            if mrr >= tiers.a_mrr or seats >= tiers.a_seats:
                return "A"
            return "B" if mrr >= tiers.b_mrr or seats >= tiers.b_seats else "C"
        ranked = [amount for amount in accounts.values() if amount > 0]
        if mrr <= 0:
            return "C"
        better = Decimal(sum(amount > mrr for amount in ranked)) / len(ranked)
        if better < tiers.a_share:
            return "A"
        return "B" if better < tiers.a_share + tiers.b_share else "C"

    def organisation_daily(self) -> list[Row]:
        return list(self.daily.values())

    # marts.seat_growth, marts.account_seat_growth

    def _growth(self, seats: Callable[[date], int], moved_in: int, moved_out: int) -> Row | None:
        """Baseline and growth of whatever has these seats; None without seats at the close of as_of."""
        growth = self.settings.growth
        now = seats(self.as_of)
        if now <= 0:
            return None
        first = self.as_of - timedelta(growth.days)
        without = [day for day in days(first, self.as_of) if seats(day) == 0]
        kind, baseline_on = "window", first
        if without:
            kind, baseline_on = growth.baseline, without[-1] + DAY
        baseline = 0 if kind == "zero" else seats(baseline_on)
        organic = now - baseline - moved_in + moved_out
        return {
            "seats_now": now,
            "seats_baseline": baseline,
            "baseline_kind": kind,
            "seat_delta": now - baseline,
            "seats_transferred_in": moved_in,
            "seats_transferred_out": moved_out,
            "organic_seat_delta": organic,
            "organic_growth_pct": ratio(organic, baseline),
            "is_fast_growing": organic >= growth.min_seats,
        }

    def _growth_transfers(self) -> list[Row]:
        return self.transfers(self.as_of - timedelta(self.settings.growth.days) + DAY, self.as_of)

    def seat_growth(self) -> list[Row]:
        moved = self._growth_transfers()
        found = []
        for org_id in self.daily:
            growth = self._growth(
                lambda day, org_id=org_id: self.seats(org_id, day),  # type: ignore[misc]
                sum(row["seats"] for row in moved if row["payer"] == org_id),
                sum(row["seats"] for row in moved if row["child"] == org_id),
            )
            if growth:
                found.append({"org_id": org_id} | growth)
        return found

    def accounts(self) -> dict[str, list[str]]:
        """Root organisation -> all organisations with subscriptions below it at the close of as_of."""
        members: dict[str, list[str]] = defaultdict(list)
        for org_id in sorted(self._names_of_org):
            members[self.root(org_id)].append(org_id)
        return members

    def account_seat_growth(self) -> list[Row]:
        moved = [
            row for row in self._growth_transfers() if self.root(row["payer"]) != self.root(row["child"])
        ]
        found = []
        for account_id, members in self.accounts().items():
            growth = self._growth(
                lambda day, members=members: sum(self.seats(org, day) for org in members),  # type: ignore[misc]
                sum(row["seats"] for row in moved if self.root(row["payer"]) == account_id),
                sum(row["seats"] for row in moved if self.root(row["child"]) == account_id),
            )
            if growth:
                found.append({"account_id": account_id} | growth)
        return found

    # NPS

    def attributed(self, contact_id: str | None, moment: datetime) -> tuple[list[str], bool]:
        """Organisations a contact stands for at a moment, and whether they are several."""
        primary: dict[str, bool] = {}
        for row in self._memberships.get(contact_id, ()):
            if self._valid(row, moment):
                org = str(self.who(row["org_id"]))
                primary[org] = primary.get(org, False) or bool(row.get("is_primary"))
        chosen = [org for org, is_primary in primary.items() if is_primary]
        if len(primary) > 1 and len(chosen) == 1:
            return chosen, False
        return sorted(primary), len(primary) > 1

    @cached_property
    def _memberships(self) -> dict[str | None, list[Row]]:
        found: dict[str | None, list[Row]] = defaultdict(list)
        for row in self.tables["contact_orgs"]:
            found[row["contact_id"]].append(row)
        return found

    @cached_property
    def answers(self) -> list[Row]:
        """The NPS answers that count: the latest of each contact, every anonymous one."""
        latest: dict[Any, Row] = {}
        for row in self.tables["nps_responses"]:
            score, contact = row["score"], row.get("contact_id")
            if score != int(score) or not 0 <= score <= 10:
                continue
            if not self.in_window(row["responded_at"], self.settings.nps.days):
                continue
            key = ("anonymous", row["response_id"]) if contact is None else ("contact", contact)
            order = (row["responded_at"], -score)
            if key not in latest or order > (latest[key]["responded_at"], -latest[key]["score"]):
                latest[key] = row
        found = []
        for row in latest.values():
            orgs, ambiguous = [self.who(row.get("org_id"))], False
            if orgs == [None]:
                members, ambiguous = self.attributed(row.get("contact_id"), row["responded_at"])
                orgs = list(members)
            nps = self.settings.nps
            found.append(
                row
                | {
                    "contact_id": row.get("contact_id"),
                    "orgs": orgs,
                    "ambiguous": ambiguous,
                    "detractor": row["score"] <= nps.detractor_max,
                    "promoter": row["score"] >= nps.promoter_min,
                }
            )
        return found

    def nps(self) -> list[Row]:
        promoters = sum(row["promoter"] for row in self.answers)
        detractors = sum(row["detractor"] for row in self.answers)
        count = len(self.answers)
        return [
            {
                "responses": count,
                "promoters": promoters,
                "passives": count - promoters - detractors,
                "detractors": detractors,
                "anonymous": sum(row["contact_id"] is None for row in self.answers),
                "unattributed": sum(not row["orgs"] for row in self.answers),
                "nps": ratio(100 * (promoters - detractors), count, "0.1"),
            }
        ]

    # marts.at_risk

    def at_risk(self) -> list[Row]:
        found = []
        for org_id, row in self.daily.items():
            if row["is_customer"]:
                risk = self._risk(org_id, row["state"])
                if risk["reasons"]:
                    found.append({"org_id": org_id, "state": row["state"]} | risk)
        return found

    def _risk(self, org_id: str, state: str) -> Row:
        limit = self.settings.contraction
        first = self.as_of - timedelta(limit.days)
        moved = self.transfers(first + DAY, self.as_of)
        taken = [row for row in moved if row["payer"] == org_id]
        given = [row for row in moved if row["child"] == org_id]
        ends = self.running(org_id, first) + self.running(org_id, self.as_of)
        seats_base, mrr_base = self.seats(org_id, first), self.mrr(org_id, first)
        seat_drop: int | None = (
            seats_base
            - self.seats(org_id, self.as_of)
            + sum(row["seats"] for row in taken)
            - sum(row["seats"] for row in given)
        )
        mrr_drop: Decimal | None = (
            mrr_base
            - self.mrr(org_id, self.as_of)
            + sum((self.mrr(row["child"], row["day_before"]) for row in taken), Decimal(0))
            - sum((self.mrr(row["child"], row["day_before"]) for row in given), Decimal(0))
        )
        if state == "custom_off_billing" or any(one.seats is None for one in ends):
            seat_drop = None
        if state == "custom_off_billing" or any(self.convert(one, self.as_of) is None for one in ends):
            mrr_drop = None
        reasons = []
        if (
            seat_drop is not None
            and seats_base > 0
            and seat_drop >= limit.seats_pct * seats_base
            and seat_drop >= limit.seats_min
        ):
            reasons.append("seat_contraction")
        if (
            mrr_drop is not None
            and mrr_base > 0
            and mrr_drop >= limit.mrr_pct * mrr_base
            and mrr_drop >= limit.mrr_min
        ):
            reasons.append("mrr_contraction")
        detractors = [
            row
            for row in self.answers
            if row["detractor"] and row["contact_id"] is not None and org_id in row["orgs"]
        ]
        if detractors:
            reasons.append("nps_detractor")
        return {
            "reasons": reasons,
            "seats_baseline": seats_base,
            "mrr_baseline": mrr_base,
            "seat_drop": seat_drop,
            "mrr_drop": mrr_drop,
            "seat_contraction_pct": None if seat_drop is None else ratio(seat_drop, seats_base),
            "mrr_contraction_pct": None if mrr_drop is None else ratio(mrr_drop, mrr_base),
            "detractor_contacts": sorted(row["contact_id"] for row in detractors),
            "nps_attribution_ambiguous": any(row["ambiguous"] for row in detractors),
        }

    # MRR movements

    @cached_property
    def period(self) -> tuple[date, date]:
        """First day and the day whose close ends it: its last day, or as_of while it is still running."""
        metrics = self.settings.metrics
        if metrics.period_start and metrics.period_end:
            return metrics.period_start, min(metrics.period_end, self.as_of)
        return self.as_of.replace(day=1), self.as_of

    def _movements(
        self, members: Sequence[str], before: date, after: date, entity: Callable[[str], str]
    ) -> tuple[dict[str, Decimal], Decimal, Decimal]:
        """Movements of one entity (organisations as members) between two closes, with its opening and closing."""
        moves: dict[str, Decimal] = defaultdict(Decimal)
        opening = closing = Decimal(0)
        paused_now = False
        for org_id in members:
            then = {one.subscription_id: one for one in self.of_org(org_id, before)}
            now = {one.subscription_id: one for one in self.of_org(org_id, after)}
            for name in {*then, *now}:
                old, new = then.get(name), now.get(name)
                opened = self.convert(old, before) or Decimal(0)
                reopened = self.convert(old, after) or Decimal(0)
                closed = self.convert(new, after) or Decimal(0)
                opening += opened
                closing += closed
                moves["fx"] += reopened - opened
                if new is not None and new.status == "paused":
                    moves["paused"] -= reopened
                    paused_now = True
                if old is not None and old.status == "paused":
                    moves["resumed"] += closed
        own = entity(members[0]) if members else ""
        handed_over = False
        for row in self.transfers(before + DAY, after):
            payer, child = entity(row["payer"]), entity(row["child"])
            if payer == child or own not in (payer, child):
                continue
            amount = self.mrr(row["child"], row["day_before"], after)
            if own == child:
                moves["transfer_out"] -= amount
                handed_over = handed_over or amount > 0
            else:
                moves["transfer_in"] += amount
        rest = closing - opening - sum(moves.values(), Decimal(0))
        if rest < 0:
            nothing_left = closing == 0 and not paused_now and not handed_over
            moves["churn" if nothing_left else "contraction"] += rest
        elif rest > 0 and opening == 0:
            moves["reactivation" if self._had_mrr(members, before) else "new"] += rest
        elif rest > 0:
            moves["expansion"] += rest
        return {kind: amount for kind, amount in moves.items() if amount}, opening, closing

    def _had_mrr(self, members: Sequence[str], last: date) -> bool:
        """Some close up to the day had MRR."""
        return any(
            one.org_id == org_id and one.is_running and (one.native or 0) > 0 and day <= last
            for org_id in members
            for name in self._names_of_org.get(org_id, ())
            for day, one in self._closes[name].items()
        )

    def _movement_rows(self, key: str, groups: Mapping[str, list[str]], by_day: bool) -> list[Row]:
        first, last = self.period
        spans = [(day - DAY, day) for day in days(first, last)] if by_day else [(first - DAY, last)]
        found = []
        entity: Callable[[str], str] = self.root if key == "account_id" else str
        for name, members in groups.items():
            for before, after in spans:
                moves, opening, closing = self._movements(members, before, after, entity)
                found += [
                    {key: name, "movement": kind, "amount": amount, "opening": opening, "closing": closing}
                    | ({"day": after} if by_day else {})
                    for kind, amount in sorted(moves.items())
                ]
        return found

    def mrr_movements(self) -> list[Row]:
        return self._movement_rows("account_id", self._entities(self.root), by_day=False)

    def mrr_movements_daily(self) -> list[Row]:
        return self._movement_rows("account_id", self._entities(self.root), by_day=True)

    def mrr_movements_by_org(self) -> list[Row]:
        return self._movement_rows("org_id", self._entities(str), by_day=False)

    def _entities(self, entity: Callable[[str], str]) -> dict[str, list[str]]:
        """Everyone who can have MRR or take part in a joint plan."""
        groups: dict[str, list[str]] = defaultdict(list)
        covered = {row[side] for row in self.coverage for side in ("child", "payer")}
        for org_id in sorted({*self._names_of_org, *covered}):
            groups[entity(org_id)].append(org_id)
        return groups

    def mrr_waterfall(self) -> list[Row]:
        first, last = self.period
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for row in self.mrr_movements():
            kind = "transfers" if row["movement"].startswith("transfer") else row["movement"]
            sums[kind] += row["amount"]
        kinds = (
            "new",
            "reactivation",
            "expansion",
            "contraction",
            "churn",
            "paused",
            "resumed",
            "transfers",
            "fx",
        )
        orgs = sorted(self._names_of_org)
        return [
            {
                "opening": sum((self.mrr(org, first - DAY, first - DAY) for org in orgs), Decimal(0)),
                **{kind: sums[kind] for kind in kinds},
                "closing": sum((self.mrr(org, last, last) for org in orgs), Decimal(0)),
            }
        ]

    # marts.retention

    def retention(self) -> list[Row]:
        start_on = a_year_before(self.as_of)
        pairs = []
        for members in self.accounts().values():
            start = sum((self.mrr(org, start_on) for org in members), Decimal(0))
            if start > 0:
                pairs.append((start, sum((self.mrr(org, self.as_of) for org in members), Decimal(0))))
        start_mrr = sum((start for start, _ in pairs), Decimal(0))
        end_mrr = sum((end for _, end in pairs), Decimal(0))
        kept = sum((min(pair) for pair in pairs), Decimal(0))
        retained = sum(end > 0 for _, end in pairs)
        return [
            {
                "cohort_start": start_on,
                "accounts": len(pairs),
                "retained": retained,
                "start_mrr": start_mrr,
                "end_mrr": end_mrr,
                "kept_mrr": kept,
                "nrr": ratio(end_mrr, start_mrr),
                "grr": ratio(kept, start_mrr),
                "logo_retention": ratio(retained, len(pairs)),
            }
        ]

    # marts.churn_flags

    def _changes(self, name: str) -> list[Stretch]:
        """A subscription's stretches from the changes that had happened or were planned by the close of as_of."""
        if name not in self._versions:
            return self.stretches[name]
        counts = [
            one.start < self.close_of_day or one.recorded_at < self.close_of_day
            for one in self.stretches[name]
        ]
        found: list[Stretch] = []
        following: Stretch | None = None
        for index in range(len(counts) - 1, -1, -1):
            one = self.stretches[name][index]
            if not counts[index]:
                continue
            if (
                index + 1 < len(counts)
                and not counts[index + 1]
                and one.end == self.stretches[name][index + 1].start
            ):
                starts = following.start if following else None
                ends = [at for at in (starts, one.own_end) if at is not None]
                one = replace(one, end=min(ends, default=None))
            found.append(one)
            following = one
        return found[::-1]

    def _end_of(self, name: str) -> tuple[datetime, datetime | None, Stretch, str, str | None] | None:
        """The last end of a subscription: instant, when it was withdrawn, what ended, status after it, reason."""
        last: tuple[datetime, datetime | None, Stretch, str, str | None] | None = None
        before: Stretch | None = None
        alive: Stretch | None = None
        announced: tuple[datetime, Stretch] | None = None
        stretches = self._changes(name)
        for one, following in zip(stretches, [*stretches[1:], None], strict=True):
            if one.is_paid:
                if announced and one.cancel_at is None and one.start <= announced[0]:
                    last = (announced[0], one.start, announced[1], "active", announced[1].reason)
                    announced = None
                alive = one
            elif alive and (one.status in ("canceled", "unpaid") or one.is_running):
                ended = before or alive
                last = (one.start, None, ended, one.status, one.reason or ended.reason)
                alive = announced = None
            announced = (one.cancel_at, one) if one.cancel_at is not None and alive else None
            if alive and one.end is not None and (following is None or following.start > one.end):
                if not one.is_contract or one.end < self.close_of_day:
                    then = following if following and following.status == "canceled" else one
                    last = (
                        one.end,
                        None,
                        one,
                        "canceled",
                        then.reason or one.reason,
                    )
                alive = announced = None
            before = one
        return last

    def churn_flags(self) -> list[Row]:
        found = []
        for name in sorted(self.stretches):
            paid = [one for one in self.stretches[name] if one.is_paid and one.start < self.close_of_day]
            end = self._end_of(name) if paid else None
            if end is None:
                continue
            moment, withdrawn, ended, status_after, reason = end
            end_on = self.local(moment)
            if self.local(withdrawn or moment) <= self.as_of - timedelta(self.settings.churn.history_days):
                continue
            alarm = "cancellation_reverted" if withdrawn else self._false_alarm(name, ended, moment)
            if alarm:
                state = "false_alarm"
            elif end_on > self.as_of:
                state = "scheduled"
            else:
                state = "reactivated" if self.is_paying(ended.org_id) else "churned"
            hints = self._hints(ended.org_id, moment) if state in ("scheduled", "churned") else []
            free = status_after in ("active", "past_due") and not withdrawn
            involuntary = status_after == "unpaid" or (reason == "payment_failed" and not free)
            found.append(
                {
                    "subscription_id": name,
                    "org_id": ended.org_id,
                    "state": state,
                    "false_alarm_reason": alarm,
                    "churn_date": end_on,
                    "days_until_churn": (end_on - self.as_of).days,
                    "churn_type": "involuntary" if involuntary else "to_free" if free else "voluntary",
                    "mrr_at_risk": self._mrr_at_risk(name, moment),
                    "verification": "needs_review" if hints else "confirmed",
                    "review_hints": hints,
                }
            )
        return found

    def _mrr_at_risk(self, name: str, end: datetime) -> Decimal | None:
        held = self._closes[name].get(min(self.as_of, self.local(end) - DAY))
        if held is None or not held.is_paid:
            if end >= self.close_of_day:
                return Decimal(0)
            held = [one for one in self.stretches[name] if one.is_paid and one.start < end][-1]
        return self.convert(held, self.as_of)

    def _false_alarm(self, name: str, ended: Stretch, end: datetime) -> str | None:
        """The first reason for which an end is no churn."""
        org_id, gap = ended.org_id, timedelta(self.settings.churn.gap_days)
        end_on = self.local(end)
        others = [
            one for one in self.of_org(org_id, self.as_of) if one.is_paid and one.subscription_id != name
        ]

        def runs_in_stretch(start: datetime | None, stop: datetime | None) -> bool:
            begins = start is None or self.local(start) <= end_on + gap
            return begins and (stop is None or stop > end) and (start is None or start != stop)

        if ended.original_org_id != org_id and others:
            return "duplicate_org"
        if any(
            row["child"] == org_id and runs_in_stretch(row["valid_from"], row["valid_to"])
            for row in self.coverage
        ):
            return "moved_to_parent"
        contracts = any(
            runs_in_stretch(row["valid_from"], row["valid_to"]) for row in self._contracts(org_id)
        )
        enterprise = any(
            one.is_running
            and self._is_enterprise(one.plan)
            and (one.subscription_id != name or one.start >= end)
            and runs_in_stretch(one.start, one.end)
            for one in self._all_of(org_id)
        )
        if contracts or enterprise:
            return "moved_to_custom"
        runs = [
            (other, start, stop)
            for other in sorted(self._names_of_org.get(org_id, ()))
            for start, stop, owner in self.paid_runs(other)
            if owner == org_id and (other != name or start >= end)
        ]
        if any(self.local(start) >= end_on - gap and runs_in_stretch(start, stop) for _, start, stop in runs):
            return "resubscribed"
        if any(
            other != name and start <= end and (stop is None or end < stop) for other, start, stop in runs
        ):
            return "other_subscription_active"
        return None

    def _is_enterprise(self, plan: str | None) -> bool:
        return plan is not None and plan.lower() in self.settings.renewal.enterprise_plans

    def _hints(self, org_id: str, end: datetime) -> list[str]:
        above = {self.parents.get(org_id), self.root(org_id)} - {None, org_id}
        hints = []
        if any(self.is_paying(str(parent)) for parent in above):
            hints.append("parent_is_paying")
        since = self.as_of - timedelta(self.settings.churn.history_days)
        if any(
            deal["org"] == org_id
            and self._is_enterprise(deal.get("plan"))
            and (
                deal["status_now"] == "open"
                or (deal["status_now"] == "won" and self._closed_since(deal, since))
            )
            for deal in self.deals
        ):
            hints.append("enterprise_deal_in_crm")
        if any(
            self._domains[org_id] & self._domains[other]
            for other in self.daily
            if other != org_id and self.is_paying(other)
        ):
            hints.append("same_domain_as_paying_org")
        if any(org_id in row["orgs"] and row["last_contact_at"] >= end for row in self.conversations):
            hints.append("contacts_still_active")
        return hints

    def _closed_since(self, deal: Row, since: date) -> bool:
        """Closed after that day; one that does not say when may have been."""
        return deal["closed_at"] is None or self.local(deal["closed_at"]) > since

    @cached_property
    def _domains(self) -> dict[str, set[str]]:
        """Each organisation's domain and those of its contacts' addresses, free mail aside."""
        found: dict[str, set[str]] = defaultdict(set)
        for org_id in self.daily:
            found[org_id].add(str(self.record(org_id).get("domain") or "").lower().removeprefix("www."))
        for row in self.tables["contacts"]:
            if not row.get("is_deleted") and self.before_close(row["created_at"]):
                for org_id in self.attributed(row["contact_id"], self.last_moment)[0]:
                    found[org_id].add(str(row.get("email") or "").strip().lower().partition("@")[2])
        nobody = {"", *self.settings.matching.free_mail_domains}
        for domains in found.values():
            domains -= nobody
        return found

    @cached_property
    def deals(self) -> list[Row]:
        """Deals that existed by the close of as_of, open until they were closed."""
        found = []
        for row in self.tables["deals"]:
            if row.get("is_deleted") or not self.before_close(row["created_at"]):
                continue
            open_still = row["closed_at"] is not None and not self.before_close(row["closed_at"])
            found.append(
                row
                | {"org": self.who(row.get("org_id")), "status_now": "open" if open_still else row["status"]}
            )
        return found

    # marts.interactions, marts.unattributed_interactions

    @cached_property
    def conversations(self) -> list[Row]:
        """Conversations in which a contact wrote before the close of as_of, with whom they count for."""
        found = []
        for row in self.tables["conversations"]:
            wrote = [
                part["created_at"]
                for part in self.tables["conversation_parts"]
                if part["conversation_id"] == row["conversation_id"]
                and part["author_type"] == "contact"
                and self.before_close(part["created_at"])
            ]
            if row.get("is_deleted") or not self.before_close(row["created_at"]) or not wrote:
                continue
            orgs, ambiguous = [self.who(row.get("org_id"))], False
            if orgs == [None]:
                members, ambiguous = self.attributed(row.get("contact_id"), max(wrote))
                orgs = list(members)
            found.append(
                row
                | {
                    "contact_id": row.get("contact_id"),
                    "orgs": orgs,
                    "attribution_ambiguous": ambiguous,
                    "last_contact_at": max(wrote),
                    "messages": sum(self.in_window(at, self.settings.interactions.days) for at in wrote),
                }
            )
        return found

    def interactions(self) -> list[Row]:
        limits = self.settings.interactions
        detractors = {row["contact_id"] for row in self.answers if row["detractor"]} - {None}
        found = []
        for row in self.conversations:
            rated = row.get("rating") is not None and self.before_close(row["rated_at"])
            for org_id in row["orgs"]:
                tier = self.daily.get(str(org_id), {}).get("tier")
                if row["messages"] and tier in limits.tiers:
                    contact = row["contact_id"]
                    found.append(
                        {
                            "conversation_id": row["conversation_id"],
                            "org_id": org_id,
                            "tier": tier,
                            "contact_id": contact,
                            "last_contact_on": self.local(row["last_contact_at"]),
                            "contact_messages": row["messages"],
                            "is_unmet_contact": contact is not None and contact not in self._met,
                            "is_dissatisfied": (rated and row["rating"] <= limits.dissatisfied_max)
                            or contact in detractors,
                            "attribution_ambiguous": row["attribution_ambiguous"],
                        }
                    )
        return found

    def unattributed_interactions(self) -> list[Row]:
        return [
            {
                "conversation_id": row["conversation_id"],
                "contact_id": row["contact_id"],
                "last_contact_on": self.local(row["last_contact_at"]),
            }
            for row in self.conversations
            if row["messages"] and not row["orgs"]
        ]

    @cached_property
    def _client_facing(self) -> set[str]:
        roles = self.settings.ownership.client_facing_roles
        return {row["user_id"] for row in self.tables["users"] if row.get("role") in roles}

    @cached_property
    def _touches(self) -> list[Row]:
        """E-mails, calls and meetings of client-facing people before the close of as_of, not automated."""
        return [
            row
            for row in self.tables["engagements"]
            if row["type"] in TOUCHES
            and row.get("user_id") in self._client_facing
            and not row.get("is_automated")
            and not row.get("is_deleted")
            and self.before_close(row["occurred_at"])
        ]

    @cached_property
    def _met(self) -> set[str]:
        return {row["contact_id"] for row in self._touches}

    # marts.ownership_crossovers, kind contact

    def _owner_at(self, contact: Row, moment: datetime) -> str | None:
        history = [row for row in self.tables["contact_owners"] if row["contact_id"] == contact["contact_id"]]
        if not history:
            owner: str | None = contact.get("owner_id")
            return owner
        before = [row for row in history if row["valid_from"] is None or row["valid_from"] <= moment]
        if not before:
            return None
        return max(before, key=lambda row: row["valid_from"] or ALWAYS).get("owner_id")

    def ownership_crossovers(self) -> list[Row]:
        found = []
        for contact in self.tables["contacts"]:
            wrote = [
                row
                for row in self._touches
                if row["contact_id"] == contact["contact_id"]
                and row.get("direction") != "inbound"
                and (row.get("direction") == "outbound" or row["type"] != "email")
                and self.in_window(row["occurred_at"], self.settings.ownership.days)
            ]
            crossing = [row for row in wrote if self._owner_at(contact, row["occurred_at"]) != row["user_id"]]
            people = sorted({row["user_id"] for row in wrote})
            if crossing and len(people) > 1:
                found.append(
                    {
                        "kind": "contact",
                        "subject_id": contact["contact_id"],
                        "contact_id": contact["contact_id"],
                        "owner_id": self._owner_at(contact, self.last_moment),
                        "crossing_users": sorted({row["user_id"] for row in crossing}),
                        "people": people,
                        "last_on": self.local(max(row["occurred_at"] for row in crossing)),
                    }
                )
        return found


#: The marts that Oracle covers.
MARTS = (
    "organisation_daily",
    "seat_growth",
    "account_seat_growth",
    "at_risk",
    "nps",
    "mrr_movements",
    "mrr_movements_daily",
    "mrr_movements_by_org",
    "mrr_waterfall",
    "retention",
    "churn_flags",
    "interactions",
    "unattributed_interactions",
    "ownership_crossovers",
)
