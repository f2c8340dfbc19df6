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
    #: The company's own rows.
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

    def mine(self, table: str) -> list[Row]:
        """The rows of this company so far."""
        return list(self.rows.get(table, ()))

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


STAGES = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
    "Marketing Qualified Lead",
    "sales-qualified_lead",
    " Customer ",
    "churned",
    "",
    None,
)
STATUSES = (
    None,
    "none",
    "attempted_to_contact",
    "Attempted to Contact",
    "CONNECTED",
    "open_deal",
    "Open Deal",
    "unqualified",
    "nurture",
)
#: Colleagues as versions: names and addresses, one who changes roles, one who leaves; a vendor on free mail.
USER_ROWS: tuple[Row, ...] = (
    {"user_id": "csm1", "name": "Ann", "email": "ann@inside.io", "role": "csm", "is_active": True},
    {"user_id": "csm2", "name": "Bob", "email": " Bob@Inside.IO ", "role": "csm", "is_active": True},
    {"user_id": "seller", "name": None, "email": "cy@gmail.com", "role": "sales", "is_active": True},
    {"user_id": "gone", "name": "Di", "email": "di@agency.net", "role": "sales", "is_active": False},
    {"user_id": "support", "name": "Eve", "email": None, "role": "support", "is_active": True},
)
#: Stages of the post-sales pipeline; the last is one that no settings know and that has no probability.
DEAL_STAGES = (
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
class _People(_Company):
    """Gives a company that is drawn what its people do: what is written on the records, stages, tasks, versions.

    It draws from a stream of its own, so that the companies stay what they were when these rules are changed.
    """

    def draw(self) -> None:
        pick = self.random.choice
        orgs = sorted(
            {row["org_id"] for row in (*self.mine("organisations"), *self.mine("subscription_versions"))}
        ) or [f"{self.prefix}o0"]
        for row in self.mine("organisations"):
            self._describe_organisation(row)
        if self.chance(0.7):
            for number in range(pick((1, 1, 2, 3))):
                self._person(f"{self.prefix}p{number}", orgs)
        for row in self.mine("contacts"):
            self._describe_contact(row)
        contacts = [row["contact_id"] for row in self.mine("contacts")]
        for row in self.mine("conversations"):
            self._describe_conversation(row, contacts)
        for number in range(pick((0, 0, 1, 2)) if contacts else 0):
            self._talk(f"{self.prefix}q{number}", pick(contacts), orgs)
        for row in self.mine("engagements"):
            if self.chance(0.3):
                row["org_id"] = pick(orgs)
        for number in range(pick((0, 1, 2, 4, 6))):
            self._work(f"{self.prefix}w{number}", contacts, orgs)
        for row in self.mine("nps_responses"):
            if self.chance(0.1):
                row["contact_id"] = f"{self.prefix}stranger"
            if self.chance(0.4):
                row["comment"] = pick(("too slow", "great", ""))
        for row in self.mine("deals"):
            row["owner_id"] = pick(("csm1", "csm2", "seller", "gone", None))
        for _ in range(pick((0, 0, 1, 1, 2, 3))):
            self.add(
                "success_plans",
                org_id=pick(orgs),
                status=pick(("active", "done", None)),
                objectives=pick(("grow", "save time", None)),
                updated_at=self.instant(-200, -30, -2, -1, 0, 1) if self.chance(0.9) else None,
            )
        self._later_versions(orgs)
        stories = (
            self._unhappy,
            self._subsidiary,
            self._on_trial,
            self._attempted,
            self._without_rate,
            self._moving,
            self._returning,
            self._brief,
            self._merged_in_a_circle,
        )
        for story in stories:
            if self.chance(0.16):
                story(orgs)

    # What chance alone brings about too rarely: a few facts that belong together, their edges still by chance

    def _member_of(self, contact: str, *orgs: str, **columns: Any) -> None:
        """A contact that belongs to these organisations."""
        self.add("contacts", late=0, contact_id=contact, email=f"{contact}@{self.prefix}mail.io", **columns)
        for org in orgs:
            self.add("contact_orgs", late=0, contact_id=contact, org_id=org)

    def _pays(self, name: str, org: str, **columns: Any) -> None:
        """A subscription that has run for long."""
        row: Row = {
            "subscription_id": f"{self.prefix}{name}",
            "org_id": org,
            "plan": "team",
            "billing_interval": "month",
            "seats": 20,
            "amount": 600,
            "status": "active",
            "effective_at": self.instant(-500, -400, -200),
        }
        self.add("subscription_versions", late=0, **(row | columns))

    def _unhappy(self, orgs: list[str]) -> None:
        """A detractor who rates low again and again: of a paying, covered or custom organisation, or of two."""
        pick = self.random.choice
        contact, org = f"{self.prefix}unhappy", pick(orgs)
        kind = pick(("paying", "unknown seats", "covered", "custom"))
        if kind == "covered":
            payer, org = org, f"{self.prefix}covered"
            self._pays("payer", payer)
            self.add(
                "org_coverage", late=0, child_org_id=org, payer_org_id=payer, valid_from=self.instant(-60, -1)
            )
            self.add("organisations", late=0, org_id=org)
        elif kind == "custom":
            org = f"{self.prefix}custom"
            self.add("organisations", late=0, org_id=org)
            self.add("crm_contracts", late=0, org_id=org, kind="custom", valid_from=self.instant(-200, -1, 0))
        elif kind == "unknown seats":
            org = f"{self.prefix}seatless"
            self.add("organisations", late=0, org_id=org, unmatched_reason="no_reference")
            self._pays("seatless", org, seats=None)
        else:
            self._pays("unhappy", org)
        self._member_of(contact, *{org, pick((org, pick(orgs)))})
        for number in range(pick((1, 2))):
            self.add(
                "nps_responses",
                late=0,
                response_id=f"{self.prefix}unhappy{number}",
                contact_id=contact,
                score=pick((0, 3, 6)),
                responded_at=self.instant(-90, -15, -1, 0),
            )
        for number in range(pick((0, 1, 2, 3, 4, 5))):
            talk = f"{self.prefix}unhappy{number}"
            self.add(
                "conversations",
                late=0,
                conversation_id=talk,
                contact_id=contact,
                rating=pick((1, 2)),
                rated_at=pick((self.instant(-27, -1, 0), None)),
            )
            self.add(
                "conversation_parts",
                late=0,
                conversation_id=talk,
                part_number=0,
                author_type="contact",
                created_at=self.instant(-28, -27, -1, 0),
            )

    def _subsidiary(self, orgs: list[str]) -> None:
        """The subscription of an organisation ends whose parent, or whose parent's parent, pays."""
        pick = self.random.choice
        child, middle, parent = (f"{self.prefix}{name}" for name in ("child", "middle", "top"))
        above = pick(((parent,), (middle, parent)))
        for org, over in zip((child, *above), above, strict=False):
            self.add(
                "org_parents", late=0, org_id=org, parent_org_id=over, valid_from=self.instant(-200, -1, 0)
            )
        self._pays("top", parent)
        if self.chance(0.3):
            self._pays("middle", middle)
        self._pays("child", child, cancel_at=self.instant(-60, -1, 0, 1, 90))

    def _on_trial(self, orgs: list[str]) -> None:
        org = f"{self.prefix}trial"
        self.add("organisations", late=0, org_id=org)
        self._pays("trial", org, status="trialing")
        self._member_of(
            f"{self.prefix}trial", org, lifecycle_stage=self.random.choice(("subscriber", "lead"))
        )

    def _attempted(self, orgs: list[str]) -> None:
        """Somebody writes to a contact that answers, before, after or never; who owns it changes, or will."""
        pick = self.random.choice
        contact = f"{self.prefix}attempted"
        self._member_of(
            contact,
            pick(orgs),
            lead_status=pick(("attempted_to_contact", "attempted_to_contact", "connected", "unqualified")),
        )
        for number, direction in enumerate(
            ("outbound", pick(("inbound", "outbound")), pick(("inbound", None)))
        ):
            self.add(
                "engagements",
                late=0,
                engagement_id=f"{self.prefix}attempted{number}",
                type=pick(("email", "call")),
                direction=direction,
                contact_id=contact,
                user_id=pick(("csm1", "seller")),
                occurred_at=self.instant(-30, -15, -14, -13, -1, 0),
            )
        self.add(
            "contact_owners",
            late=0,
            early=0.5,
            contact_id=contact,
            owner_id=pick(("csm1", "csm2")),
            valid_from=self.instant(-15, -14, 0, 1),
        )

    def _without_rate(self, orgs: list[str]) -> None:
        """Currencies without a rate, or without one yet."""
        for currency in self.random.sample(("CHF", "GBP"), self.random.choice((1, 2))):
            self._pays(currency, orgs[0], currency=currency, seats=self.random.choice((5, None)))

    def _moving(self, orgs: list[str]) -> None:
        """A task that is due when the contact will have moved to another organisation."""
        contact, there = f"{self.prefix}moving", f"{self.prefix}there"
        moves = self.instant(1, 2)
        self.add("organisations", late=0, org_id=there)
        self.add("contacts", late=0, contact_id=contact)
        self.add("contact_orgs", late=0, contact_id=contact, org_id=self.random.choice(orgs), valid_to=moves)
        self.add("contact_orgs", late=0, early=0.7, contact_id=contact, org_id=there, valid_from=moves)
        self.add(
            "engagements",
            late=0,
            engagement_id=f"{self.prefix}moving",
            type="task",
            contact_id=contact,
            occurred_at=self.instant(0, 1, 2, 10),
            recorded_at=self.instant(-30, -1),
        )

    def _returning(self, orgs: list[str]) -> None:
        """An organisation that leaves and, after a gap, pays again or does not."""
        org = f"{self.prefix}returning"
        self._pays("left", org, cancel_at=self.instant(-401, -400, -399, -200, -60, -32, -31, -30))
        self._pays("back", org, effective_at=self.instant(-200, -31, -28, -1, 0, 1))

    def _brief(self, orgs: list[str]) -> None:
        """A subscription of long ago that did not last until the end of its month."""
        self._pays(
            "brief",
            f"{self.prefix}brief",
            effective_at=self.instant(-960, -900),
            cancel_at=self.instant(-895),
        )

    def _merged_in_a_circle(self, orgs: list[str]) -> None:
        circle = [f"{self.prefix}{name}" for name in ("round", "robin")]
        for loser, winner in (circle, circle[::-1]):
            self.add("org_merges", late=0, loser_org_id=loser, winner_org_id=winner, merged_at=self.instant())
            self._pays(loser.removeprefix(self.prefix), loser)

    def _describe_organisation(self, row: Row) -> None:
        pick = self.random.choice
        row |= {
            "name": pick((f"Org {row['org_id']}", None)),
            "external_id": pick((f"x{row['org_id']}", None)),
            "hubspot_url": pick((f"https://crm/{row['org_id']}", None)),
            "pending_true_up_mrr": pick((250, None)),
            "domain": pick(
                (f"www.{self.prefix}mail.io", f"{self.prefix}Own.IO", "shared.com", "gmail.com", None)
            ),
            "owner_id": pick(("csm1", "csm2", "gone", "nobody", None)),
            "members_active": pick((0, 1, 4, 7, 10, 13, 33, 200, None, None)),
            "health_override": pick(("red", None, None)),
            "is_deleted": self.chance(0.04),
        }
        if self.chance(0.08):
            row["unmatched_reason"] = pick(("ambiguous", "reference_unknown", "no_reference"))

    def _person(self, contact: str, orgs: list[str]) -> None:
        """A contact with its memberships and, often, one address with another."""
        pick = self.random.choice
        self.add("contacts", late=0.05, contact_id=contact, owner_id=pick(("csm1", "csm2", "seller", None)))
        for _ in range(pick((0, 1, 1, 1, 2))):
            self.add(
                "contact_orgs",
                late=0.05,
                contact_id=contact,
                org_id=pick(orgs),
                is_primary=self.chance(0.3),
                valid_from=self.instant(-200, -60, -1, 0, 2) if self.chance(0.4) else None,
                valid_to=self.instant(-1, 0, 1, 2) if self.chance(0.1) else None,
            )

    def _describe_contact(self, row: Row) -> None:
        pick = self.random.choice
        contact = row["contact_id"]
        row |= {
            "email": pick(
                (
                    row.get("email") or f"{contact}@{self.prefix}mail.io",
                    f"{contact}@{self.prefix}mail.io",
                    f"same@{self.prefix}mail.io",
                    f" SAME@{self.prefix}Mail.io ",
                    f"{contact}@gmail.com",
                    f"{contact}@Inside.io",
                    f"{contact}@agency.net",
                    f"{contact}@vendor.example",
                    "  ",
                    None,
                )
            ),
            "name": pick((f"Name {contact}", f"Name {contact}", None, "")),
            "lifecycle_stage": pick(STAGES),
            "lead_status": pick(STATUSES),
            "source": pick(("Sales Extension", "E-Mail Integration", "gmail", "import", None)),
            "is_champion": self.chance(0.5),
            "is_deleted": self.chance(0.05),
        }
        if self.chance(0.5):
            row["created_at"] = self.instant(-200, -8, -7, -6, 0, 1)
        if self.chance(0.4):
            row["left_at"] = self.instant(-91, -90, -89, -2, -1, 0, 1)
        order = STAGES[:8]
        for _ in range(pick((0, 0, 1, 2, 3, 4))):
            self.add(
                "contact_stages",
                contact_id=contact,
                lifecycle_stage=pick(
                    (*order, *order[:6], None, "", "Marketing Qualified Lead", "unheard of")
                ),
                lead_status=pick(STATUSES),
                set_at=self.instant(-60, -29, -28, -27, -2, -1, 0, 1),
            )

    def _describe_conversation(self, row: Row, contacts: list[str]) -> None:
        pick = self.random.choice
        row |= {"title": pick(("Help", None)), "state": pick(("open", "closed", None))}
        if self.chance(0.3):
            row["created_at"] = self.instant(-60, -29, -28, -1, 0, 1)
        if self.chance(0.15):
            row |= {"rating": pick((1, 2, 3)), "rated_at": None}
        row["is_deleted"] = self.chance(0.04)

    def _talk(self, name: str, contact: str, orgs: list[str]) -> None:
        """A conversation now, so that contacts have several and dissatisfied ones are many."""
        pick = self.random.choice
        row: Row = {"conversation_id": name, "contact_id": contact if self.chance(0.9) else None}
        if self.chance(0.2):
            row["org_id"] = pick(orgs)
        if self.chance(0.6):
            row |= {"rating": pick((1, 2, 2, 3, 5)), "rated_at": self.instant(-29, -28, -27, -2, -1, 0, 1)}
        self._describe_conversation(row, [contact])
        self.add("conversations", late=0.05, **row)
        for number in range(pick((1, 2))):
            self.add(
                "conversation_parts",
                late=0.05,
                conversation_id=name,
                part_number=number,
                author_type=pick(("contact", "contact", "contact", "admin")),
                created_at=self.instant(-29, -28, -27, -3, -1, 0),
            )

    def _work(self, name: str, contacts: list[str], orgs: list[str]) -> None:
        """A note, task, mail, call or meeting, logged against a contact, an organisation, both or several contacts."""
        pick = self.random.choice
        kind = pick(("task", "task", "note", "email", "call", "meeting"))
        row: Row = {
            "engagement_id": name,
            "type": kind,
            "direction": pick(("outbound", "outbound", "inbound", None)),
            "user_id": pick(("csm1", "csm2", "seller", "gone", "support", None)),
            "is_automated": self.chance(0.1),
            "is_deleted": self.chance(0.05),
            "occurred_at": self.instant(
                -200, -181, -180, -179, -91, -90, -89, -31, -30, -29, -14, -13, -1, 0
            ),
        }
        if kind == "task":
            row["occurred_at"] = self.instant(-60, -2, -1, 0, 0, 1, 1, 10)
            row["recorded_at"] = self.instant(-90, -60, -30, -2, -1, 0, 1)
            if self.chance(0.4):
                row["due_at"] = self.instant(-30, -1, 0, 1, 10)
            if self.chance(0.4):
                row |= {
                    "status": pick(("COMPLETED", "completed")),
                    "completed_at": self.instant(-2, -1, 0, 1, 2),
                }
            elif self.chance(0.3):
                row["status"] = pick(("COMPLETED", "NOT_STARTED", "waiting"))
        several = self.random.sample(contacts, min(len(contacts), pick((0, 1, 1, 2))))
        logged: list[Row] = [{"contact_id": contact} for contact in several]
        if not logged or self.chance(0.3):
            logged.append({"org_id": pick(orgs)})
        if len(logged) == 1 and logged[0].get("contact_id") and self.chance(0.2):
            logged[0]["org_id"] = pick(orgs)
        late = {"recorded_at": self.instant(-1, 0, 1, 2, 5)} if self.chance(0.15) else {}
        self.rows.setdefault("engagements", []).extend(row | one | late for one in logged)

    def _later_versions(self, orgs: list[str]) -> None:
        """Second versions of records: what was known first is not what is known last."""
        pick = self.random.choice
        changes: dict[str, Any] = {
            "contacts": lambda row: {
                "lifecycle_stage": pick(STAGES),
                "lead_status": pick(STATUSES),
                "owner_id": pick(("csm1", "csm2", None)),
                "is_deleted": self.chance(0.3),
            },
            "organisations": lambda row: {
                "members_active": pick((0, 3, 50, None)),
                "owner_id": pick(("csm1", None)),
                "is_deleted": self.chance(0.2),
            },
            "conversations": lambda row: {"rating": pick((1, 4)), "rated_at": self.instant(-1, 0, 1)},
            "engagements": lambda row: (
                {"completed_at": self.instant(-1, 0, 1), "status": "COMPLETED"}
                if row["type"] == "task"
                else {"is_deleted": self.chance(0.5)}
            ),
        }
        for table, change in changes.items():
            for row in self.mine(table):
                if self.chance(0.12):
                    row.setdefault("recorded_at", self.instant(-500))
                    self.rows[table].append(row | change(row) | {"recorded_at": self.instant(-1, 0, 1, 1, 2)})


@dataclass
class _Renewals(_Company):
    """Draws, for a company that is drawn already, what renewals are about: contracts with terms, and deals about them.

    From a stream of its own, as `_People`, whose people some of its organisations share.
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
        for row in self.mine("organisations"):
            if row["org_id"] in orgs:
                self._described(row)
        for row in self.mine("deals"):
            if row["deal_id"].startswith(f"{self.prefix}d"):
                row |= self._told() | {"owner_id": row["owner_id"]}
        for row in self.mine("contacts"):
            if self.chance(0.3):
                self.add("contact_orgs", contact_id=row["contact_id"], org_id=pick(orgs))
        for row in self.mine("deals"):
            row["name"] = pick((f"Deal {row['deal_id']}", None))

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
    rows: dict[str, list[Row]] = {"users": [dict(user) for user in USER_ROWS]}
    # What a colleague was before: the role of today holds for all of history.
    rows["users"].append({"user_id": "csm2", "role": "support", "recorded_at": "2020-01-01T00:00:00Z"})
    rows["users"][1]["recorded_at"] = "2021-01-01T00:00:00Z"
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
    rows["fx_rates"].append(
        {"currency": "CHF", "rate": 1.2, "valid_from": (as_of + timedelta(1)).isoformat()}
    )
    for number, (stage, status, probability) in enumerate(DEAL_STAGES):
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
    left = {"is_active": False, "recorded_at": (as_of + timedelta(1)).isoformat()}
    rows["users"].append(USER_ROWS[1] | left)
    for number, seed in enumerate(seeds):
        company: dict[str, list[Row]] = {}
        for kind, stream in (
            (_Company, seed),
            (_People, f"people {seed}"),
            (_Renewals, f"renewals of {seed}"),
        ):
            kind(Random(stream), f"{number}-", as_of, ZoneInfo(zone), company).draw()
        for table, drawn in company.items():
            rows.setdefault(table, []).extend(drawn)
    return rows


def variants(as_of: date) -> list[dict[str, Any]]:
    """Settings that change what the marts say: the defaults, other readings of the rules, and a period that is over."""
    period = {"period_start": as_of - timedelta(95), "period_end": as_of - timedelta(30)}
    return [
        {},
        {
            "growth": {"baseline": "zero", "days": 30, "min_seats": 5},
            "metrics": period,
            "lifecycle": {"internal_domains": ("Vendor.example",), "autocreated_sources": ("Gmail",)},
            "nps": {"detractor_max": 5},
            "renewal": {
                "stages": ["negotiation", "contract_sent"],
                "stage_probability": {"negotiation": 0.5, "_missing": 0.8},
            },
        },
        {
            "tiers": {"mode": "percentile"},
            "contraction": {"days": 28, "seats_min": 0, "mrr_min": 0},
            "interactions": {"days": 40, "dissatisfied_max": 3, "tiers": ("A", "B", "C")},
            "lifecycle": {
                "days": 60,
                "stages": ("Lead", "Opportunity", "Customer"),
                "complete_after_days": 0,
            },
            "ownership": {"days": 60, "client_facing_roles": ("csm",)},
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
