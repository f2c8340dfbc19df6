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


@dataclass
class _People(_Company):
    """Gives a company that is drawn what its people do: what is written on the records, stages, tasks, versions.

    It draws from a stream of its own, so that the companies stay what they were when these rules are changed.
    """

    def mine(self, table: str) -> list[Row]:
        """The rows of this company; ids start with its prefix."""
        return [
            row
            for row in self.rows.get(table, ())
            if any(str(value).startswith(self.prefix) for name, value in row.items() if name.endswith("_id"))
        ]

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
    for number, seed in enumerate(seeds):
        _Company(Random(seed), f"{number}-", as_of, ZoneInfo(zone), rows).draw()
        _People(Random(f"people {seed}"), f"{number}-", as_of, ZoneInfo(zone), rows).draw()
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
