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
    {"user_id": "csm1", "role": "csm", "is_active": True},
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
    for number, seed in enumerate(seeds):
        _Company(Random(seed), f"{number}-", as_of, ZoneInfo(zone), rows).draw()
    return rows


def variants(as_of: date) -> list[dict[str, Any]]:
    """Settings that change what the marts say: the defaults, other readings of the rules, and a period that is over."""
    period = {"period_start": as_of - timedelta(95), "period_end": as_of - timedelta(30)}
    return [
        {},
        {"growth": {"baseline": "zero", "days": 30, "min_seats": 5}, "metrics": period},
        {"tiers": {"mode": "percentile"}, "contraction": {"days": 28, "seats_min": 0, "mrr_min": 0}},
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
