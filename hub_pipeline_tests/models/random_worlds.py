"""Small random companies that crowd around the boundaries of the rules, many of them in one world.

A company is drawn from one integer, so hypothesis shrinks a failing world by leaving companies out. Instants lie on
and around the edges of the windows, in local midnights and seconds beside them; values change by the thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from hub_pipeline.settings import Settings

Row = dict[str, Any]

#: Days relative to as_of: the edges of every window and some days on either side.
EDGES = (-500, -401, -400, -399, -366, -365, -364, -200, -181, -180, -179, -120, -91, -90, -89, -60, -46, -45)
NEAR = (-44, -32, -31, -30, -29, -28, -27, -15, -2, -1, 0, 0)
LATER = (1, 2, 10, 31, 32, 90, 180, 181, 300)
#: A leap day, days on which clocks change (Berlin, New York, and Cairo at midnight), an ordinary one.
DAYS = ("2026-06-30", "2028-02-29", "2026-03-29", "2026-11-01", "2026-04-24")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Africa/Cairo", "Asia/Kolkata", "Pacific/Auckland")
USERS = (
    {"user_id": "csm1", "name": "Ada", "role": "csm", "is_active": True},
    {"user_id": "csm2", "role": "csm", "is_active": True},
    {"user_id": "seller", "role": "sales", "is_active": True},
    {"user_id": "gone", "role": "sales", "is_active": False},
    {"user_id": "support", "role": "support", "is_active": True},
)


@dataclass(frozen=True)
class Scenario:
    """A world with the day, the knowledge and the settings to ask it with."""

    world: dict[str, list[Row]]
    as_of: date
    known_at: date
    settings: Settings


@dataclass
class _Company:
    """Draws the rows of one company."""

    random: Random
    prefix: str
    as_of: date
    zone: ZoneInfo
    rows: dict[str, list[Row]]

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def instant(self, *offsets: int) -> str:
        """A local midnight, noon, or the second before midnight, as an instant or as a date."""
        day = self.as_of + timedelta(self.random.choice(offsets or EDGES + NEAR))
        if self.chance(0.4):
            return day.isoformat()
        midnight = datetime.combine(day, time(), self.zone).astimezone(UTC)
        moment = midnight + self.random.choice((timedelta(0), timedelta(hours=12), timedelta(seconds=-1)))
        return moment.replace(tzinfo=None).isoformat() + "Z"

    def add(self, table: str, *, late: float = 0.15, early: float = 0.0, **row: Any) -> None:
        """Add a row; some are recorded late, and plans are recorded before their time."""
        if self.chance(late):
            row["recorded_at"] = self.instant(-200, -60, -30, -1, 0, 1, 1, 2, 5)
        elif self.chance(early):
            row["recorded_at"] = self.instant(-60, -2, -1, 0)
        self.rows.setdefault(table, []).append(row)

    def draw(self) -> None:
        orgs = [f"{self.prefix}o{n}" for n in range(self.random.choice((1, 1, 2, 2, 3, 4)))]
        for org in orgs:
            self._organisation(org)
        for number in range(self.random.choice((0, 1, 1, 2, 3, 4))):
            self._subscription(f"{self.prefix}s{number}", orgs)
        if self.chance(0.25):
            self._contract(self.random.choice(orgs))
        if len(orgs) > 1:
            for _ in range(self.random.choice((0, 0, 1, 2, 3))):
                self._parent(orgs)
            for _ in range(self.random.choice((0, 0, 0, 1, 2))):
                self._coverage(orgs)
            if self.chance(0.2):
                loser, winner = self.random.sample(orgs, 2)
                self.add("org_merges", loser_org_id=loser, winner_org_id=winner, merged_at=self.instant())
        contacts = [f"{self.prefix}c{n}" for n in range(self.random.choice((0, 1, 2, 3)))]
        for contact in contacts:
            self._contact(contact, orgs)
        for number in range(self.random.choice((0, 0, 1, 2, 4))):
            self._answer(f"{self.prefix}n{number}", contacts, orgs)
        for number in range(self.random.choice((0, 0, 1, 2))):
            self._conversation(f"{self.prefix}k{number}", contacts, orgs)
        for number in range(self.random.choice((0, 1, 3)) if contacts else 0):
            self._engagement(f"{self.prefix}e{number}", contacts)
        for number in range(self.random.choice((0, 0, 1, 2, 3))):
            self._deal(f"{self.prefix}d{number}", orgs)

    def _organisation(self, org: str) -> None:
        row: Row = {"org_id": org}
        if self.chance(0.5):
            row["created_at"] = self.instant(-500, -120, -1, 0, 1)
        if self.chance(0.05):
            row["tier_override"] = self.random.choice("ABC")
        if self.chance(0.85):
            self.add("organisations", late=0.1, **row)

    def _subscription(self, name: str, orgs: list[str]) -> None:
        pick = self.random.choice
        values: Row = {
            "subscription_id": name,
            "org_id": pick(orgs),
            "plan": pick(("team", "team", "business", "enterprise", "free", None)),
            "billing_interval": pick(("month", "month", "year", "quarter", "two_years", "week", None)),
            "seats": pick((0, 5, 10, 20, 25, 30, 50, 200, None)),
            "amount": pick((0, 99.99, 100, 300, 500, 600, 2000, 6000, 6000.06, 6000.12, 24000, None)),
            "currency": pick(("USD", "USD", "EUR", "JPY", None)),
            "status": pick(("active", "active", "active", "trialing", "past_due")),
            "effective_at": self.instant(),
        }
        if self.chance(0.6):
            values["term_end"] = self.instant(*NEAR, *LATER, *LATER)
        if self.chance(0.2):
            values["term_start"] = self.instant(-366, -365, -364, -185, -1)
        for _ in range(pick((1, 1, 2, 3, 5))):
            self.add("subscription_versions", early=0.2, **values)
            values = self._changed(values, orgs)

    def _changed(self, values: Row, orgs: list[str]) -> Row:
        pick = self.random.choice
        new = {name: value for name, value in values.items() if name not in ("cancel_at", "ended_at")}
        if self.chance(0.9):
            new["effective_at"] = self.instant(*EDGES, *NEAR, *NEAR, *LATER)
        if new["seats"] is not None:
            new["seats"] = max(0, new["seats"] + pick((0, 0, 5, 19, 20, 21, -4, -5, -6, -20)))
        if new["amount"] is not None:
            new["amount"] = round(new["amount"] * pick((1, 1, 1, 1.5, 0.8, 0.81, 0.5, 0)), 2)
        new["status"] = pick(
            ("active", "active", "active", "active", "past_due", "paused", "canceled", "unpaid", "trialing")
        )
        if new["status"] == "canceled" and self.chance(0.3):
            new["ended_at"] = self.instant()
        new["cancel_reason"] = pick((None, None, "payment_failed", "too_expensive"))
        if self.chance(0.25):
            new["cancel_at"] = self.instant(*NEAR, *LATER)
        if self.chance(0.1):
            new["plan"] = pick(("team", "enterprise", "free"))
        if self.chance(0.1):
            new["billing_interval"] = pick(("month", "year"))
        if self.chance(0.05):
            new["org_id"] = pick(orgs)
        return new

    def _contract(self, org: str) -> None:
        row: Row = {"org_id": org, "kind": "custom", "valid_from": self.instant()}
        if self.chance(0.6):
            row |= {"amount": self.random.choice((600, 7200)), "seats": self.random.choice((10, 60, None))}
            row["billing_interval"] = self.random.choice(("month", "year", None))
        if self.chance(0.5):
            row["valid_to"] = self.instant(*NEAR, *LATER)
        self.add("crm_contracts", **row)

    def _parent(self, orgs: list[str]) -> None:
        child, parent = self.random.sample(orgs, 2)
        row: Row = {"org_id": child, "parent_org_id": parent if self.chance(0.9) else None}
        row["valid_from"] = self.instant() if self.chance(0.8) else None
        if self.chance(0.2):
            row["valid_to"] = self.instant(*NEAR, *LATER)
        self.add("org_parents", **row)

    def _coverage(self, orgs: list[str]) -> None:
        child, payer = self.random.sample(orgs, 2)
        row: Row = {
            "child_org_id": child,
            "payer_org_id": payer,
            "valid_from": self.instant(*EDGES, *NEAR, 2),
        }
        if self.chance(0.6):
            row["seats"] = self.random.choice((5, 20, 40))
        if self.chance(0.2):
            row["valid_to"] = self.instant(*NEAR, *LATER)
        self.add("org_coverage", early=0.2, **row)

    def _contact(self, contact: str, orgs: list[str]) -> None:
        owner = self.random.choice(("csm1", "seller", None))
        self.add(
            "contacts", late=0, contact_id=contact, email=f"{contact}@{self.prefix}mail.io", owner_id=owner
        )
        for _ in range(self.random.choice((0, 1, 1, 2, 3))):
            self.add(
                "contact_orgs",
                contact_id=contact,
                org_id=self.random.choice(orgs),
                is_primary=self.chance(0.4),
                valid_from=self.instant() if self.chance(0.6) else None,
                valid_to=self.instant(*NEAR) if self.chance(0.15) else None,
            )
        for _ in range(self.random.choice((0, 0, 1, 2))):
            self.add(
                "contact_owners",
                contact_id=contact,
                owner_id=self.random.choice(("csm1", "csm2", "seller", None)),
                valid_from=self.instant(-200, -30, -28, -27, -15, -1, 0) if self.chance(0.9) else None,
            )

    def _answer(self, name: str, contacts: list[str], orgs: list[str]) -> None:
        row: Row = {
            "response_id": name,
            "contact_id": self.random.choice([*contacts, *contacts, None]),
            "score": self.random.choice((0, 5, 6, 6, 7, 8, 9, 10, 11, 6.5)),
            "responded_at": self.instant(-200, -181, -180, -179, -90, -15, -1, 0, 1),
        }
        if self.chance(0.25):
            row["org_id"] = self.random.choice(orgs)
        self.add("nps_responses", **row)

    def _conversation(self, name: str, contacts: list[str], orgs: list[str]) -> None:
        row: Row = {"conversation_id": name, "contact_id": self.random.choice([*contacts, *contacts, None])}
        if self.chance(0.3):
            row["org_id"] = self.random.choice(orgs)
        if self.chance(0.3):
            row |= {"rating": self.random.choice((1, 2, 3, 5)), "rated_at": self.instant(-15, -1, 0, 1)}
        self.add("conversations", late=0.1, **row)
        for number in range(self.random.choice((1, 2, 3))):
            self.add(
                "conversation_parts",
                conversation_id=name,
                part_number=number,
                author_type=self.random.choice(("contact", "contact", "admin", "bot")),
                created_at=self.instant(-60, -29, -28, -27, -1, 0, 1),
            )

    def _engagement(self, name: str, contacts: list[str]) -> None:
        self.add(
            "engagements",
            engagement_id=name,
            type=self.random.choice(("email", "email", "call", "meeting", "note", "task")),
            direction=self.random.choice(("outbound", "outbound", "inbound")),
            contact_id=self.random.choice(contacts),
            user_id=self.random.choice(("csm1", "csm1", "csm2", "seller", "support", None)),
            is_automated=self.chance(0.15),
            occurred_at=self.instant(-60, -29, -28, -27, -15, -1, 0, 1),
        )

    def _deal(self, name: str, orgs: list[str]) -> None:
        pick = self.random.choice
        status = pick(("open", "open", "won", "lost"))
        row: Row = {
            "deal_id": name,
            "org_id": pick(orgs),
            "pipeline": pick(("post_sales", "post_sales", "sales")),
            "deal_type": pick(("renewal", "renewal", "upsell", "new_business")),
            "plan": pick(("team", "enterprise", None)),
            "stage": "negotiation",
            "status": status,
            "amount": pick((500, 600, 6000, None)),
            "created_at": self.instant(-500, -60, -1, 0, 1),
        }
        if status != "open":
            row["closed_at"] = self.instant(-401, -400, -399, -30, -1, 0, 1)
        self.add("deals", late=0.1, **row)


#: Stages of the post-sales pipeline; the last is one that no settings know and that has no probability.
STAGES = (
    ("negotiation", "open", 0.4),
    ("contract_sent", "open", 0.85),
    ("closedwon", "won", 1),
    ("closedlost", "lost", 0),
    ("strange", None, None),
)
#: Amounts of deals as multiples of what a month brings: the edges of every finding.
MULTIPLES = (
    0.49,
    0.5,
    1,
    1,
    1,
    1.25,
    2,
    2.01,
    10.79,
    10.8,
    12,
    12,
    13.2,
    13.21,
    15,
    21.6,
    24,
    26.4,
    36,
    39.61,
    288,
)


@dataclass
class _Renewals(_Company):
    """Draws, for a company that is drawn already, what renewals are about: contracts with terms, and deals about them.

    From a stream of its own, so that the company stays the one its integer always gave.
    """

    def day(self, *offsets: int) -> date:
        return self.as_of + timedelta(self.random.choice(offsets))

    def draw(self) -> None:
        pick = self.random.choice
        orgs = [f"{self.prefix}r{n}" for n in range(pick((1, 1, 2, 3, 4)))]
        for org in orgs:
            self.add("organisations", late=0, org_id=org)
        contracts: list[Row] = []
        for number in range(pick((1, 1, 2, 3, 4))):
            contracts += self._contracts_of(f"{self.prefix}t{number}", pick(orgs))
        if len(orgs) > 1 and self.chance(0.4):
            parent = pick((f"{self.prefix}o0", orgs[0], f"{self.prefix}holding"))
            for org in orgs[1:]:
                self.add("org_parents", late=0, org_id=org, parent_org_id=parent)
        for number in range(pick((0, 1, 2, 3, 4, 6))):
            self._renewal_deal(f"{self.prefix}x{number}", contracts)
        for row in self.rows["organisations"]:
            if row["org_id"].startswith(self.prefix):
                self._described(row)
        for row in self.rows.get("deals", ()):
            if row["deal_id"].startswith(f"{self.prefix}d"):
                row |= self._told()

    def _described(self, row: Row) -> None:
        pick = self.random.choice
        domain = f"{self.prefix}corp.io"
        row["domain"] = pick(
            (None, None, domain, domain, f"WWW.{domain}", f"{self.prefix}own.io", "Gmail.com")
        )
        row["owner_id"] = pick(("csm1", "gone", None, "stranger"))
        row["members_active"] = pick((None, 0, 9, 17, 18, 44, 45, 46, 100))
        row["pending_true_up_mrr"] = pick((None, None, None, 0, 99.5))

    def _told(self) -> Row:
        """What a deal may or may not say besides its dates and its amount."""
        pick = self.random.choice
        return {
            "owner_id": pick(("csm1", "csm2", "gone", None, "stranger")),
            "has_next_activity": pick((True, False, None)),
            "stage": pick(("negotiation", "negotiation", "contract_sent", "strange", None)),
        }

    def _contracts_of(self, name: str, org: str) -> list[Row]:
        """A contract with its terms: the one before, the present one, and what came of it when that is over."""
        pick = self.random.choice
        end = self.day(-75, -60, -31, -20, -10, -1, 0, 1, 8, 20, 45, 89, 90, 91, 120, 179, 180, 181, 300)
        interval, a_month = pick(
            (("year", 1000), ("year", 500), ("year", 500.01), ("month", 900), ("quarter", 700))
        )
        months = {"month": 1, "quarter": 3, "year": 12}[interval]
        base: Row = {
            "subscription_id": name,
            "org_id": org,
            "plan": pick(("business", "business", "Enterprise", "team")),
            "billing_interval": interval,
            "seats": pick((10, 20, 50, None)),
            "amount": round(a_month * months, 2),
            "currency": pick((None, "USD", "USD", "EUR", "JPY")),
            "status": pick(("active", "active", "active", "past_due")),
        }
        started = end - timedelta(pick((365, 366, 364, 90)))
        term: Row = {"term_end": None if self.chance(0.1) else end.isoformat()}
        if self.chance(0.4):
            term["term_start"] = started.isoformat()
        told = {"name": name, "org": org, "end": end, "started": started, "a_month": a_month, "base": base}
        if self.chance(0.12):
            self.add(
                "crm_contracts",
                org_id=org,
                kind=pick(("custom", "partner")),
                valid_from=started.isoformat(),
                amount=base["amount"],
                billing_interval=interval,
                seats=base["seats"],
                currency=base["currency"],
                term_end=term["term_end"],
            )
            return [told | {"name": f"contract:{org}:{started}"}]
        if self.chance(0.5):
            before = started - timedelta(365)
            self.add(
                "subscription_versions", **base, effective_at=before.isoformat(), term_end=started.isoformat()
            )
        cancels = {"cancel_at": end.isoformat()} if self.chance(0.15) else {}
        self.add("subscription_versions", **base, **term, **cancels, effective_at=started.isoformat())
        if end > self.as_of or cancels or self.chance(0.3):
            return [told, *(self._followers(name, org, base, end) if cancels else [])]
        if self.chance(0.6):
            self.add(
                "subscription_versions",
                **base | {"amount": round(base["amount"] * pick((1, 1.2, 0.7)), 2)},
                effective_at=(end + timedelta(pick((-1, 0, 0, 0, 1)))).isoformat(),
                term_end=(end + timedelta(365)).isoformat(),
            )
            return [told]
        gone = base | {"status": pick(("canceled", "canceled", "paused", "active"))}
        if gone["status"] == "active":
            gone |= {"plan": "free", "amount": 0}
        self.add("subscription_versions", **gone, effective_at=end.isoformat())
        return [told, *self._followers(name, org, base, end)]

    def _followers(self, name: str, org: str, base: Row, end: date) -> list[Row]:
        """New subscriptions in the place of one that ended, and sometimes another one that ends on that day."""
        pick = self.random.choice
        if self.chance(0.3):
            twin = base | {"subscription_id": f"{name}-twin"}
            start = (end - timedelta(200)).isoformat()
            self.add("subscription_versions", late=0, **twin, effective_at=start, term_end=end.isoformat())
            twin["status"] = "canceled"
            self.add("subscription_versions", late=0, **twin, effective_at=end.isoformat())
        found = []
        for number in range(pick((0, 0, 1, 1, 2))):
            new = base | {"subscription_id": f"{name}-n{number}", "org_id": org}
            new["amount"] = pick((base["amount"], round(base["amount"] * 1.5, 2), 100, None))
            start = end + timedelta(pick((-40, -2, 0, 0, 0, 1, 15)))
            self.add(
                "subscription_versions",
                **new,
                effective_at=start.isoformat(),
                term_end=(end + timedelta(365)).isoformat(),
            )
            found.append(
                {
                    "name": new["subscription_id"],
                    "org": org,
                    "end": end + timedelta(365),
                    "started": end,
                    "a_month": 100,
                    "base": new,
                }
            )
        return found

    def _renewal_deal(self, name: str, contracts: list[Row]) -> None:
        pick = self.random.choice
        about = pick(contracts)
        anchor = pick((about["end"], about["end"], about["end"], about["started"]))
        status = pick(("open", "open", "open", "won", "won", "lost", "lost"))
        if status == "lost":
            anchor = pick((about["end"], about["started"]))
        date_ = anchor + timedelta(pick((0, 0, 0, 0, 0, 3, 7, 8, -7, -8, 30, -30, 44, 45, 46, -45, -46)))
        created = self.day(-400, -200, -120, -60, -40, -1, 0, 1)
        if self.chance(0.15):
            created = date_.replace(day=1)
            date_ = (created + timedelta(31)).replace(day=1) - timedelta(1)
        row: Row = {
            "deal_id": name,
            "org_id": pick((*[about["org"]] * 7, f"{self.prefix}o0", f"{self.prefix}nowhere", None)),
            "pipeline": pick((*["post_sales"] * 8, "sales")),
            "deal_type": pick((*["renewal"] * 7, "upsell")),
            "plan": pick(("team", None, None, "Enterprise")),
            "amount": pick((None, 0, -5, *[round(about["a_month"] * many, 2) for many in MULTIPLES])),
            "currency": pick((*[about["base"]["currency"]] * 5, "EUR")),
            "created_at": created.isoformat(),
            "close_date": None if self.chance(0.12) else date_.isoformat(),
        } | self._told()
        if self.chance(0.3):
            others = [contract["name"] for contract in contracts]
            row["subscription_id"] = pick(
                (about["name"], about["name"], pick(others), f"{self.prefix}unknown")
            )
        closed: date | None = None
        if status != "open":
            closed = pick((date_ - timedelta(pick((100, 91, 90, 89, 1, 0))), self.day(-30, -1, 0, 0, 1, 2)))
            row["closed_at"] = None if self.chance(0.1) else self._at(closed)
            if self.chance(0.7):
                row["close_date"] = closed.isoformat()
        row["status"] = status
        if self.chance(0.2):
            row["status"] = None
            row["stage"] = {"won": "closedwon", "lost": "closedlost"}.get(status, row["stage"])
        self._deal_histories(name, row, date_, created, closed)
        self.add("deals", late=0.1, **row)
        if self.chance(0.15):
            row = dict(row)
            row["amount"] = pick((None, about["a_month"]))
            row["is_deleted"] = self.chance(0.3)
            row["recorded_at"] = self.instant(-1, 0, 1, 2)
            self.add("deals", late=0, **row)

    def _at(self, day: date) -> str:
        midnight = datetime.combine(day, time(), self.zone).astimezone(UTC)
        moment = midnight + self.random.choice((timedelta(0), timedelta(hours=10), timedelta(seconds=-1)))
        return moment.replace(tzinfo=None).isoformat() + "Z"

    def _deal_histories(self, name: str, row: Row, date_: date, created: date, closed: date | None) -> None:
        """Close dates and stages as they were set, the closing's own overwriting included."""
        pick = self.random.choice
        if self.chance(0.6):
            entries: list[tuple[str, date | None]] = [(created.isoformat(), date_)]
            if self.chance(0.3):
                entries.insert(0, ((created - timedelta(4)).isoformat(), date_ + timedelta(2)))
            if self.chance(0.3):
                entries.append((self.instant(-100, -20, -1, 0, 1), pick((date_ + timedelta(9), None))))
            if closed is not None and row.get("closed_at"):
                if self.chance(0.3):
                    entries = [(self._at(closed), pick((date_, closed)))]
                entries.append((row["closed_at"], closed))
                if self.chance(0.2):
                    later = closed + timedelta(1)
                    entries.append((later.isoformat(), pick((date_ - timedelta(2), closed))))
            for set_at, day in entries:
                entry = {"deal_id": name, "close_date": day.isoformat() if day else None, "set_at": set_at}
                self.add("deal_close_dates", **entry)
                if self.chance(0.1):
                    entry["close_date"] = (date_ + timedelta(3)).isoformat()
                    self.add("deal_close_dates", late=1, **entry)
        if self.chance(0.5):
            stages = [
                pick(("negotiation", "contract_sent", "negotiation", None)) for _ in range(pick((1, 2, 3)))
            ]
            for stage in stages:
                set_at = self.instant(-120, -60, -30, -2, -1, 0, 1)
                self.add("deal_stages", deal_id=name, stage=stage, set_at=set_at)
                if self.chance(0.1):
                    self.add("deal_stages", late=1, deal_id=name, stage="strange", set_at=set_at)


def world_of(seeds: Sequence[int], as_of: date, zone: str) -> dict[str, list[Row]]:
    """One company for each seed, its ids its own, the exchange rates and colleagues shared."""
    rows: dict[str, list[Row]] = {"users": [dict(user) for user in USERS]}
    weather = Random(sum(seeds))
    for currency, rate in (("EUR", 1.1), ("JPY", 0.0065)):
        for offset in (-700, *weather.sample(EDGES + NEAR, 3)):
            rows.setdefault("fx_rates", []).append(
                {
                    "currency": currency,
                    "rate": round(rate * weather.uniform(0.8, 1.2), 6),
                    "valid_from": (as_of + timedelta(offset)).isoformat(),
                }
            )
    for number, (stage, status, probability) in enumerate(STAGES):
        row = {"pipeline": "post_sales", "stage": stage, "status": status, "probability": probability}
        rows.setdefault("stages", []).append(row)
        if number < 2:
            changed = {"probability": 0.6, "recorded_at": (as_of + timedelta(number)).isoformat()}
            rows["stages"].append(row | changed)
            changed = {"status": "lost", "recorded_at": (as_of + timedelta(2)).isoformat()}
            rows["stages"].append(row | changed)
    changed = {"stage": "strange", "status": "won", "recorded_at": (as_of - timedelta(3)).isoformat()}
    rows["stages"].append({"pipeline": "post_sales"} | changed)
    rows["stages"].append({"pipeline": "sales", "stage": "negotiation", "status": "lost", "probability": 0.1})
    rows["users"].append(
        {
            "user_id": "csm2",
            "role": "csm",
            "is_active": False,
            "recorded_at": (as_of + timedelta(1)).isoformat(),
        }
    )
    for number, seed in enumerate(seeds):
        _Company(Random(seed), f"{number}-", as_of, ZoneInfo(zone), rows).draw()
        _Renewals(Random(f"renewals of {seed}"), f"{number}-", as_of, ZoneInfo(zone), rows).draw()
    return rows


def variants(as_of: date) -> list[dict[str, Any]]:
    """Settings that change what the marts say: the defaults, other readings of the rules, and a period that is over."""
    period = {"period_start": as_of - timedelta(95), "period_end": as_of - timedelta(30)}
    return [
        {},
        {
            "growth": {"baseline": "zero", "days": 30, "min_seats": 5},
            "metrics": period,
            "renewal": {
                "stages": ["negotiation", "contract_sent"],
                "stage_probability": {"negotiation": 0.5, "_missing": 0.8},
            },
        },
        {
            "tiers": {"mode": "percentile"},
            "contraction": {"days": 28, "seats_min": 0, "mrr_min": 0},
            "renewal": {
                "deal_amount_basis": "arr",
                "enterprise_mrr_over": 0,
                "stage_probability": {"negotiation": 0.35},
            },
        },
    ]


def scenario(seeds: Sequence[int], day: str, zone: str, extra_days: int, variant: int = 0) -> Scenario:
    """The world of these companies, asked for the day with what was known extra_days later."""
    as_of = date.fromisoformat(day)
    settings = Settings.model_validate({"reporting_tz": zone} | variants(as_of)[variant])
    return Scenario(world_of(seeds, as_of, zone), as_of, as_of + timedelta(extra_days), settings)


def scenarios(companies: int) -> st.SearchStrategy[Scenario]:
    """Worlds of up to that many companies: different days, zones and settings, and later knowledge."""
    return st.builds(
        scenario,
        st.lists(st.integers(0, 2**32), min_size=1, max_size=companies, unique=True),
        st.sampled_from(DAYS),
        st.sampled_from(ZONES),
        st.sampled_from((0, 0, 1, 3)),
        st.integers(0, 2),
    )
