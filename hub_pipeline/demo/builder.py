"""The hands of the demo company's generator: writes records as HubSpot, Intercom and billing would hold them.

A story says what happened ("forty seats cancelled on that day"); the builder turns it into records, histories,
associations and versioned extract rows. It draws no conclusions: what the warehouse should answer is written by the
story that made the records (`hub_pipeline.demo.truth`).
"""

from __future__ import annotations

import calendar
import csv
import io
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from hub_pipeline.demo import portal
from hub_pipeline.demo.account import (
    OBJECT_TYPES,
    ORGANISATION_OBJECT,
    PORTAL_ID,
    HubSpotAccount,
    HubSpotRecord,
    IntercomWorkspace,
)
from hub_pipeline.demo.names import company_names, person_names, slug
from hub_pipeline.demo.truth import Truth

#: Months of one billing interval, and how a price of that interval is written.
INTERVALS: dict[str, tuple[int, str, int]] = {
    "month": (1, "month", 1),
    "quarter": (3, "month", 3),
    "year": (12, "year", 1),
    "two_years": (24, "year", 2),
}
PLAN_PRICES = {"free": 0, "starter": 800, "team": 1200, "business": 2000, "enterprise": 3000}
"""Monthly list price of a seat in minor units."""

#: (from, to) -> association type ids there and back, as HubSpot numbers its own; above 100 000 are the portal's.
_ASSOCIATION_TYPES: dict[tuple[str, str], tuple[int, int]] = {
    ("contacts", "companies"): (279, 280),
    ("deals", "contacts"): (3, 4),
    ("deals", "companies"): (341, 342),
    ("notes", "contacts"): (202, 201),
    ("tasks", "contacts"): (204, 203),
    ("emails", "contacts"): (198, 197),
    ("calls", "contacts"): (194, 193),
    ("meetings", "contacts"): (200, 199),
    ("feedback_submissions", "contacts"): (98, 97),
    ("contacts", ORGANISATION_OBJECT): (110_001, 110_002),
    ("deals", ORGANISATION_OBJECT): (110_003, 110_004),
    ("notes", ORGANISATION_OBJECT): (110_005, 110_006),
    ("tasks", ORGANISATION_OBJECT): (110_007, 110_008),
    ("emails", ORGANISATION_OBJECT): (110_009, 110_010),
    ("calls", ORGANISATION_OBJECT): (110_011, 110_012),
    ("meetings", ORGANISATION_OBJECT): (110_013, 110_014),
}
_LABEL_TYPES = {"Primary": (110_101, 110_102), "Billing contact": (110_103, 110_104)}

_CUSTOMER_COLUMNS = [
    "customer_id",
    "name",
    "email",
    "organisation_ref",
    "parent_customer_ref",
    "currency",
    "country",
    "metadata",
    "created_at",
    "deleted_at",
    "livemode",
    "is_deleted",
    "updated_at",
]
_SUBSCRIPTION_COLUMNS = [
    "subscription_id",
    "customer_id",
    "status",
    "currency",
    "plan",
    "is_custom_plan",
    "started_at",
    "trial_start_at",
    "trial_end_at",
    "current_period_start_at",
    "current_period_end_at",
    "cancel_at",
    "cancel_requested_at",
    "cancel_at_period_end",
    "ended_at",
    "cancel_reason",
    "cancel_comment",
    "cancel_kind",
    "pause_kind",
    "collection_method",
    "livemode",
    "is_deleted",
    "updated_at",
]
_ITEM_COLUMNS = [
    "subscription_item_id",
    "subscription_id",
    "product_id",
    "product_name",
    "price_id",
    "seat_role",
    "quantity",
    "unit_amount_minor",
    "recurring_minor",
    "discount_minor",
    "billing_scheme",
    "usage_type",
    "interval",
    "interval_count",
    "created_at",
    "deleted_at",
    "updated_at",
]
_INVOICE_COLUMNS = [
    "invoice_id",
    "number",
    "customer_id",
    "subscription_id",
    "status",
    "currency",
    "subtotal_minor",
    "discount_minor",
    "tax_minor",
    "total_minor",
    "amount_paid_minor",
    "amount_remaining_minor",
    "created_at",
    "due_at",
    "paid_at",
    "period_start_at",
    "period_end_at",
    "livemode",
    "is_deleted",
    "updated_at",
]
_INVOICE_LINE_COLUMNS = [
    "invoice_id",
    "invoice_line_id",
    "subscription_id",
    "subscription_item_id",
    "description",
    "quantity",
    "amount_minor",
    "discount_minor",
    "proration",
    "period_start_at",
    "period_end_at",
    "created_at",
    "livemode",
    "is_deleted",
    "updated_at",
]
_FX_COLUMNS = ["currency", "valid_from", "rate", "updated_at"]


def iso(moment: datetime) -> str:
    """An instant as both HubSpot and the extracts write it: milliseconds and Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def add_months(moment: datetime, months: int) -> datetime:
    """The same day and time so many calendar months later, or the last day of a shorter month."""
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def cents(amount: Decimal) -> Decimal:
    """Rounded half up to cents, the rule for the MRR of one subscription."""
    return amount.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)


@dataclass(slots=True, eq=False)
class Contact:
    """A person; `intercom_id` is set by the first conversation."""

    id: str
    email: str
    given: str
    family: str
    created: datetime
    organisations: list[Organisation]
    record: HubSpotRecord
    primary: Organisation | None = None
    intercom_id: str | None = None

    @property
    def name(self) -> str:
        return f"{self.given} {self.family}"


@dataclass(slots=True, eq=False)
class Organisation:
    """An organisation and the handles its story needs."""

    id: str
    external_id: str
    name: str
    domain: str
    owner: portal.Owner
    created: datetime
    record: HubSpotRecord
    customer_id: str | None = None
    contacts: list[Contact] = field(default_factory=list)
    intercom_id: str | None = None


@dataclass(slots=True, eq=False)
class Deal:
    """A deal; `stages` are (entered at, stage), oldest first, `stage` is the one of now."""

    id: str
    record: HubSpotRecord
    organisation: Organisation
    pipeline: str
    kind: str
    plan: str | None
    amount: str | None
    currency: str
    owner: portal.Owner | None
    stages: list[tuple[datetime, str]]
    close_date: datetime | None

    @property
    def stage(self) -> str:
        return self.stages[-1][1]


@dataclass(frozen=True, slots=True)
class Engagement:
    """What was logged with a contact; for a task `at` is when it is due."""

    kind: str
    at: datetime
    contact: Contact
    owner: portal.Owner
    inbound: bool
    automated: bool
    status: str | None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of a contact HubSpot knows: (author, instant) parts, and the organisation its record names."""

    id: str
    contact: Contact
    parts: list[tuple[str, datetime]]
    organisation: Organisation | None
    rating: tuple[int, datetime, str] | None


@dataclass(slots=True, eq=False)
class Subscription:
    """A subscription as a list of dated changes; `values` is its state after the last one.

    `amount_minor` is the price of one interval in minor units. Changes must be made in the order of time.
    """

    id: str
    item_id: str
    customer_id: str
    organisation: Organisation | None
    started: datetime
    interval: str
    values: dict[str, Any]
    versions: list[tuple[datetime, dict[str, Any], bool]] = field(default_factory=list)

    def change(self, at: datetime, **values: Any) -> Subscription:
        """Record a change of status, seats, amount_minor, plan, cancel_at, ... that holds from `at` on."""
        priced = bool(values.keys() & {"seats", "amount_minor", "plan"})
        self.values = {**self.values, **values}
        self.versions.append((at, self.values, priced))
        return self

    def cancel(
        self, at: datetime, ends: datetime, reason: str = "too_expensive", comment: str = ""
    ) -> Subscription:
        """The customer asks at `at` for an end at `ends` (exclusive); an end in the past has come about."""
        return self.change(
            at,
            cancel_at=ends,
            cancel_requested_at=at,
            cancel_reason=reason,
            cancel_comment=comment,
            cancel_kind="voluntary",
        )

    @property
    def mrr_native(self) -> Decimal:
        """Monthly amount in its own currency, rounded to cents."""
        return cents(Decimal(self.values["amount_minor"]) / 100 / INTERVALS[self.interval][0])


@dataclass(frozen=True, slots=True)
class Invoicing:
    """How the invoices of a subscription differ from its price, where a story says so.

    - `missing`: no invoice was written at all;
    - `rebate_minor`: what was taken off by hand on each invoice;
    - `voided`: every invoice was written twice, and the first of both was voided;
    - `prorated`: a change in the middle of a term was billed at once, by the days that were left of it.
    """

    missing: bool = False
    rebate_minor: int = 0
    voided: bool = False
    prorated: bool = False


class Builder:
    """Collects the records of one demo company; every instant is relative to `as_of`, the last closed day.

    Beside the records it keeps what the stories need from each other: `met` contacts (a human e-mail, call or
    meeting with sales or customer success up to as_of), when each contact `opened` which conversation, `tiers` by organisation id as the stories stated them,
    organisations that are `quiet` (only their own story writes about them) or have `left`, and the rows of
    `interactions` with their contact. Contacts, deals, engagements, answers and conversations are kept as they were
    written, for the bookkeeping of `hub_pipeline.demo.ledger`.
    """

    def __init__(self, seed: int, as_of: date) -> None:
        self.as_of = as_of
        self.now = datetime.combine(as_of + timedelta(days=1), time(3), UTC)
        self.rng = random.Random(seed)
        self.truth = Truth()
        self.records: dict[str, dict[str, HubSpotRecord]] = {kind: {} for kind in OBJECT_TYPES}
        self.associations: dict[tuple[str, str], list[tuple[str, str, int, str | None]]] = {}
        self.lost_associations: list[
            tuple[datetime, tuple[tuple[str, str], tuple[str, str, int, str | None]]]
        ] = []
        self.intercom = IntercomWorkspace(contacts={}, companies={}, conversations={}, admins={})
        self.subscriptions: list[Subscription] = []
        self.organisations: list[Organisation] = []
        self.contacts: list[Contact] = []
        self.deals: list[Deal] = []
        self.engagements: list[Engagement] = []
        self.answers: list[tuple[Contact | None, datetime, int]] = []
        self.conversations: list[Conversation] = []
        self.met: set[str] = set()
        self.opened: dict[str, dict[str, datetime]] = {}
        self.tiers: dict[str, str] = {}
        self.quiet: set[str] = set()
        self.left: set[str] = set()
        self.churns: list[tuple[str, str, date]] = []
        self.churn_before: dict[str, bool] = {}
        self.renewals: dict[str, tuple[Deal | None, Any]] = {}
        self.contracts: list[tuple[Organisation, str, date, date, Decimal, int]] = []
        self.interactions: list[tuple[dict[str, Any], Contact]] = []
        self._customers: list[dict[str, str]] = []
        self._companies = company_names(self.rng)
        self._people = person_names(self.rng)
        # The lengths of ids differ, as in an old portal, so that text order is not number order.
        self._next_id = {kind: 99_400_000 + 7_000_000 * n for n, kind in enumerate(OBJECT_TYPES)}
        self._next_id["contacts"] = 99_700_000
        self._intercom_ids = 190_000
        self._domains: set[str] = set()
        self.invoicing: dict[str, Invoicing] = {}
        self._bad_rows: dict[str, list[dict[str, str]]] = {}
        for owner in portal.OWNERS:
            if owner.role in ("support", "csm"):
                self.intercom.admins[str(owner.user_id)] = {
                    "type": "admin",
                    "id": str(owner.user_id),
                    "name": f"{owner.given} {owner.family}",
                    "email": owner.email,
                    "job_title": owner.team,
                    "away_mode_enabled": False,
                    "away_mode_reassign": False,
                    "has_inbox_seat": True,
                    "team_ids": [],
                }

    # Time ------------------------------------------------------------------------------------------------------

    def day(self, offset: int) -> date:
        """The date `offset` days from as_of."""
        return self.as_of + timedelta(days=offset)

    def at(self, offset: int, hour: int = 0, minute: int = 0) -> datetime:
        """An instant on the day `offset` days from as_of, UTC."""
        return datetime.combine(self.day(offset), time(hour, minute), UTC)

    # HubSpot ---------------------------------------------------------------------------------------------------

    def new_id(self, kind: str) -> str:
        """The next record id of an object type; ids rise, with gaps."""
        self._next_id[kind] += self.rng.randint(40, 900)
        return str(self._next_id[kind])

    def record(
        self,
        kind: str,
        created: datetime,
        properties: dict[str, str | None],
        *,
        updated: datetime | None = None,
        history: dict[str, list[tuple[datetime, str]]] | None = None,
    ) -> HubSpotRecord:
        """Add a record; `history` maps a property to (instant, value) oldest first, its last value is current."""
        record_id = self.new_id(kind)
        versions = {
            name: [
                {
                    "value": value,
                    "timestamp": iso(moment),
                    "sourceType": "CRM_UI",
                    "sourceId": f"userId:{4410000}",
                }
                for moment, value in reversed(changes)
            ]
            for name, changes in (history or {}).items()
            if changes
        }
        for name, changes in (history or {}).items():
            properties[name] = changes[-1][1] if changes else None
        last = max(
            [
                updated or created,
                created,
                *(moment for changes in (history or {}).values() for moment, _ in changes),
            ]
        )
        record = HubSpotRecord(
            id=record_id, properties=properties, created_at=created, updated_at=last, history=versions
        )
        properties["hs_object_id"] = record_id
        properties.setdefault("hs_object_source_label", "CRM_UI")
        if kind in ("contacts", "deals", "companies"):
            properties["createdate"] = iso(created)
        if kind != "contacts":
            properties["hs_createdate"] = iso(created)
        self.records[kind][record_id] = record
        return record

    def associate(
        self, from_kind: str, from_id: str, to_kind: str, to_id: str, label: str | None = None
    ) -> None:
        """Associate two records in both directions; a label stands beside the plain association, never alone."""
        there, back = _ASSOCIATION_TYPES[from_kind, to_kind]
        rows: list[tuple[int, int, str | None]] = [(there, back, None)]
        if label is not None:
            rows.append((*_LABEL_TYPES[label], label))
        for out, home, text in rows:
            self.associations.setdefault((from_kind, to_kind), []).append((from_id, to_id, out, text))
            self.associations.setdefault((to_kind, from_kind), []).append((to_id, from_id, home, text))

    def archive(self, kind: str, record_id: str, at: datetime) -> None:
        """Put a record into the recycle bin; HubSpot then answers none of its associations."""
        record = self.records[kind][record_id]
        record.archived, record.archived_at = True, at
        for (from_kind, to_kind), rows in self.associations.items():
            gone = [
                row
                for row in rows
                if (kind == from_kind and row[0] == record_id) or (kind == to_kind and row[1] == record_id)
            ]
            self.lost_associations += [(at, ((from_kind, to_kind), row)) for row in gone]
            rows[:] = [row for row in rows if row not in gone]

    def organisation(
        self,
        created: datetime,
        *,
        name: str | None = None,
        domain: str | None = None,
        owner: portal.Owner | None = None,
        parent: Organisation | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Organisation:
        """Add an organisation (and the CRM company beside it) with no contacts yet."""
        name = name or next(self._companies)
        if domain is None:
            domain = f"{slug(name)}.example"
            if domain in self._domains:
                domain = f"{slug(name)}-{len(self._domains)}.example"
        self._domains.add(domain)
        owner = owner or self.rng.choice(portal.CSMS)
        external_id = f"org_{self.rng.getrandbits(40):010x}"
        values: dict[str, str | None] = {
            "name": name,
            "domain": domain,
            "organisation_id": external_id,
            "hubspot_owner_id": owner.id,
            "parent_organisation_id": parent.id if parent else None,
            **(properties or {}),
        }
        record = self.record(ORGANISATION_OBJECT, created, values)
        organisation = Organisation(record.id, external_id, name, domain, owner, created, record)
        self.organisations.append(organisation)
        self.record("companies", created, {"name": name, "domain": domain, "hubspot_owner_id": owner.id})
        return organisation

    def contact(
        self,
        *organisations: Organisation,
        created: datetime | None = None,
        stage: str = "customer",
        lead_status: str | None = None,
        owner: portal.Owner | None = None,
        label: str | None = None,
        primary: Organisation | None = None,
        email: str | None = None,
        stages: Sequence[tuple[datetime, str]] | None = None,
        owned: bool = True,
        **properties: str,
    ) -> Contact:
        """Add a person; `primary` marks one of several memberships, `label` is put on the only one.

        `stage` is reached over the two before it in the first days; `stages` gives every change instead. A contact
        that is `owned` belongs to `owner`, else to the owner of its first organisation.
        """
        given, family = next(self._people)
        first = organisations[0] if organisations else None
        created = created or (first.created if first else self.at(-300, 10))
        email = email or f"{slug(given)}.{slug(family)}@{first.domain if first else 'gmail.com'}"
        owner = (owner or (first.owner if first else None)) if owned else None
        order = (
            "subscriber",
            "lead",
            "marketingqualifiedlead",
            "salesqualifiedlead",
            "opportunity",
            "customer",
        )
        path = order[max(0, order.index(stage) - 2) : order.index(stage) + 1] if stage in order else (stage,)
        history = {"lifecyclestage": [(created + timedelta(days=5 * n), step) for n, step in enumerate(path)]}
        history["lifecyclestage"] = [
            (min(moment, self.now), step) for moment, step in history["lifecyclestage"]
        ]
        if stages is not None:
            history["lifecyclestage"] = list(stages)
        if lead_status:
            history["hs_lead_status"] = [(min(created + timedelta(days=2), self.now), lead_status)]
        if owner:
            history["hubspot_owner_id"] = [(created, owner.id)]
        record = self.record(
            "contacts",
            created,
            {"email": email, "firstname": given, "lastname": family, **properties},
            history={name: changes for name, changes in history.items() if changes},
        )
        contact = Contact(record.id, email, given, family, created, list(organisations), record, primary)
        self.contacts.append(contact)
        for organisation in organisations:
            organisation.contacts.append(contact)
            on_this = "Primary" if organisation is primary else label
            self.associate("contacts", contact.id, ORGANISATION_OBJECT, organisation.id, on_this)
        return contact

    def hand_over(self, contact: Contact, at: datetime, owner: portal.Owner) -> None:
        """The contact has another owner from `at` on."""
        versions = contact.record.history["hubspot_owner_id"]
        versions.insert(0, {**versions[0], "value": owner.id, "timestamp": iso(at)})
        contact.record.properties["hubspot_owner_id"] = owner.id
        contact.record.updated_at = max(contact.record.updated_at, at)

    def deal(
        self,
        organisation: Organisation,
        *,
        name: str,
        pipeline: str,
        stages: list[tuple[datetime, str]],
        close_dates: list[tuple[datetime, datetime]],
        deal_type: str,
        amount: str | None,
        currency: str = "USD",
        owner: portal.Owner | None = None,
        has_owner: bool = True,
        plan: str | None = None,
        subscription: Subscription | None = None,
        next_activity: datetime | None = None,
        contact: Contact | None = None,
        amounts: Sequence[tuple[datetime, str]] = (),
    ) -> Deal:
        """Add a deal created with its first stage; `close_dates` are (set at, value), oldest first.

        `amounts` are (set at, value) where the amount was changed; the last one is `amount`.
        """
        created = stages[0][0]
        seller = owner or organisation.owner
        record = self.record(
            "deals",
            created,
            {
                "dealname": name,
                "pipeline": pipeline,
                "dealtype": deal_type,
                "plan": plan,
                "subscription_id": subscription.id if subscription else None,
                "amount": amount,
                "deal_currency_code": currency,
                **portal.closing_of(pipeline, stages[-1][1]),
                "hs_next_activity_date": iso(next_activity) if next_activity else None,
                "hubspot_owner_id": seller.id if has_owner else None,
            },
            history={
                "dealstage": stages,
                "closedate": [(moment, iso(value)) for moment, value in close_dates],
                **({"hubspot_owner_id": [(created, seller.id)]} if has_owner else {}),
                **({"amount": list(amounts)} if amounts else {}),
            },
        )
        self.associate("deals", record.id, ORGANISATION_OBJECT, organisation.id)
        if contact is not None:
            self.associate("deals", record.id, "contacts", contact.id)
        deal = Deal(
            record.id,
            record,
            organisation,
            pipeline,
            deal_type,
            plan,
            amount,
            currency,
            seller if has_owner else None,
            stages,
            close_dates[-1][1] if close_dates else None,
        )
        self.deals.append(deal)
        return deal

    def engagement(
        self,
        kind: str,
        at: datetime,
        contact: Contact,
        owner: portal.Owner,
        subject: str,
        *,
        inbound: bool = False,
        automated: bool = False,
        status: str | None = None,
        created: datetime | None = None,
    ) -> str:
        """Log a note, task, e-mail, call or meeting with a contact; for a task `at` is when it is due."""
        values: dict[str, str | None] = {
            "hs_timestamp": iso(at),
            "hubspot_owner_id": owner.id,
            "hs_object_source_label": "AUTOMATION_PLATFORM" if automated else "CRM_UI",
        }
        if kind == "notes":
            values["hs_note_body"] = f"<p>{subject}</p>"
        elif kind == "tasks":
            values |= {"hs_task_subject": subject, "hs_task_status": status or "COMPLETED"}
        elif kind == "emails":
            direction = "INCOMING_EMAIL" if inbound else "EMAIL"
            values |= {
                "hs_email_subject": subject,
                "hs_email_direction": direction,
                "hs_email_status": "SENT",
            }
        elif kind == "calls":
            direction = "INBOUND" if inbound else "OUTBOUND"
            values |= {
                "hs_call_title": subject,
                "hs_call_direction": direction,
                "hs_call_status": status or "COMPLETED",
            }
        else:
            values |= {"hs_meeting_title": subject, "hs_meeting_outcome": status or "COMPLETED"}
        record = self.record(kind, created or min(at, self.at(0, 17)), values)
        self.associate(kind, record.id, "contacts", contact.id)
        for organisation in contact.organisations:
            self.associate(kind, record.id, ORGANISATION_OBJECT, organisation.id)
        self.engagements.append(Engagement(kind, at, contact, owner, inbound, automated, status))
        counts = kind in ("emails", "calls", "meetings") and owner.role in ("csm", "sales") and not automated
        if counts and at < self.at(1):
            self.met.add(contact.id)
        return record.id

    def survey(
        self, contact: Contact | None, at: datetime, value: int, comment: str = "", survey: str = "NPS"
    ) -> str:
        """A feedback submission; HubSpot groups the answers of every survey type under the words of NPS."""
        bounds = {"NPS": (7, 9), "CSAT": (1, 2), "CES": (4, 6)}[survey]
        group = "DETRACTOR" if value < bounds[0] else "PASSIVE" if value < bounds[1] else "PROMOTER"
        record = self.record(
            "feedback_submissions",
            at,
            {
                "hs_survey_type": survey,
                "hs_survey_name": {
                    "NPS": "Customer loyalty",
                    "CSAT": "After support",
                    "CES": "Ease of set-up",
                }[survey],
                "hs_survey_channel": "EMAIL",
                "hs_value": str(value),
                "hs_response_group": group,
                "hs_content": comment or None,
                "hs_submission_timestamp": iso(at),
                "hs_object_source_label": "FEEDBACK",
            },
        )
        if survey == "NPS":
            self.answers.append((contact, at, value))
        if contact is not None:
            self.associate("feedback_submissions", record.id, "contacts", contact.id)
        return record.id

    # Billing ---------------------------------------------------------------------------------------------------

    def customer(
        self,
        organisation: Organisation | None,
        created: datetime,
        *,
        reference: str | None = None,
        name: str = "",
        email: str = "",
        currency: str = "USD",
        parent: Organisation | None = None,
    ) -> str:
        """Add a billing customer; `reference` None refers to the organisation by the id of the product."""
        customer_id = f"cus_{self.rng.getrandbits(56):014x}"
        if organisation is not None:
            organisation.customer_id = organisation.customer_id or customer_id
            name, email = name or organisation.name, email or f"billing@{organisation.domain}"
            reference = reference or organisation.external_id
        self._customers.append(
            {
                "customer_id": customer_id,
                "name": name,
                "email": email,
                "organisation_ref": reference or "",
                "parent_customer_ref": (parent.customer_id or "") if parent else "",
                "currency": currency,
                "country": "DE" if currency == "EUR" else "US",
                "metadata": "{}",
                "created_at": iso(created),
                "livemode": "true",
                "is_deleted": "false",
                "updated_at": iso(created),
            }
        )
        return customer_id

    def subscription(
        self,
        organisation: Organisation | None,
        started: datetime,
        *,
        plan: str,
        seats: int,
        interval: str = "month",
        amount_minor: int | None = None,
        currency: str = "USD",
        status: str = "active",
        customer_id: str | None = None,
        trial_end: datetime | None = None,
    ) -> Subscription:
        """Start a subscription; without `amount_minor` it costs the list price of the plan.

        `customer_id` is needed where there is no organisation, or where a customer of its own pays.
        """
        if customer_id is None:
            known = organisation.customer_id if organisation else None
            customer_id = known or self.customer(organisation, started, currency=currency)
        if amount_minor is None:
            amount_minor = PLAN_PRICES[plan] * seats * INTERVALS[interval][0]
        subscription = Subscription(
            id=f"sub_{self.rng.getrandbits(56):014x}",
            item_id=f"si_{self.rng.getrandbits(56):014x}",
            customer_id=customer_id,
            organisation=organisation,
            started=started,
            interval=interval,
            values={},
        )
        subscription.change(
            started,
            status=status,
            plan=plan,
            seats=seats,
            amount_minor=amount_minor,
            currency=currency,
            trial_end=trial_end,
        )
        self.subscriptions.append(subscription)
        return subscription

    def bad_billing_row(self, table: str, **cells: str) -> None:
        """A row as a sloppy export writes it: of subscriptions in the first extract, of customers in the last."""
        self._bad_rows.setdefault(table, []).append(cells)

    def billing_files(self, fx: Iterable[tuple[date, str, str]]) -> dict[str, bytes]:
        """The folder of extracts: full lists of customers and rates, deltas of subscriptions, items and invoices."""
        ends = self._extract_days()
        subscription_rows: list[tuple[datetime, list[str]]] = []
        item_rows: list[tuple[datetime, list[str]]] = []
        first_end = datetime.combine(ends[0], time(0), UTC)
        for subscription in self.subscriptions:
            for moment, values, priced in _with_renewals(subscription, self.now, first_end):
                subscription_rows.append((moment, _subscription_row(subscription, moment, values, self.now)))
                if priced:
                    item_rows.append((moment, _item_row(subscription, moment, values)))
        invoice_rows: list[tuple[datetime, list[str]]] = []
        line_rows: list[tuple[datetime, list[str]]] = []
        for subscription in self.subscriptions:
            _invoice_rows(
                subscription,
                self.invoicing.get(subscription.id, Invoicing()),
                self.now,
                invoice_rows,
                line_rows,
            )
        files: dict[str, bytes] = {}
        for table, columns, rows in (
            ("subscriptions", _SUBSCRIPTION_COLUMNS, subscription_rows),
            ("subscription_items", _ITEM_COLUMNS, item_rows),
            ("invoices", _INVOICE_COLUMNS, invoice_rows),
            ("invoice_lines", _INVOICE_LINE_COLUMNS, line_rows),
        ):
            rows.sort(key=lambda row: (row[0], row[1][0]))
            start = datetime.min.replace(tzinfo=UTC)
            for number, end in enumerate([*ends, self.day(1)]):
                until = datetime.combine(end + timedelta(days=1), time(0), UTC)
                lines = [row for moment, row in rows if start <= moment < until]
                if number == 0:
                    lines += self._bad_lines(table, columns)
                if number == 0 and table == "subscriptions":
                    lines.append(lines[0])
                files[f"stripe/{table}__{end}__delta.csv"] = _csv(columns, lines)
                start = until
        for end in (ends[0], ends[len(ends) // 2], ends[-2], ends[-1]):
            known = [c for c in self._customers if c["created_at"][:10] <= end.isoformat()]
            rows_ = [[customer.get(column, "") for column in _CUSTOMER_COLUMNS] for customer in known]
            if end == ends[-1]:
                rows_ += self._bad_lines("customers", _CUSTOMER_COLUMNS)
            files[f"stripe/customers__{end}__full.csv"] = _csv(_CUSTOMER_COLUMNS, rows_)
        rates = [[currency, day.isoformat(), rate, f"{day}T00:00:00Z"] for day, currency, rate in fx]
        for end in ends[-2:]:
            files[f"stripe/fx_rates__{end}__full.csv"] = _csv(_FX_COLUMNS, rates)
        return files

    def _bad_lines(self, table: str, columns: list[str]) -> list[list[str]]:
        return [[cells.get(column, "") for column in columns] for cells in self._bad_rows.get(table, [])]

    def _extract_days(self) -> list[date]:
        """Month ends of two years, half a year apart, the day before as_of, and as_of itself."""
        first = datetime.combine(self.as_of.replace(day=1), time(0), UTC)
        ends = [add_months(first, -months).date() - timedelta(days=1) for months in range(24, -1, -6)]
        return sorted({*ends, self.day(-1), self.as_of})

    # Intercom --------------------------------------------------------------------------------------------------

    def intercom_id(self) -> str:
        """The next id of an Intercom object."""
        self._intercom_ids += self.rng.randint(3, 40)
        return str(self._intercom_ids)

    def intercom_company(self, organisation: Organisation) -> str:
        """The Intercom company of an organisation, made on first use."""
        if organisation.intercom_id is None:
            organisation.intercom_id = f"{self.rng.getrandbits(96):024x}"
            self.intercom.companies[organisation.intercom_id] = {
                "type": "company",
                "id": organisation.intercom_id,
                "company_id": organisation.external_id,
                "app_id": "nb3am",
                "name": organisation.name,
                "remote_created_at": _epoch(organisation.created),
                "created_at": _epoch(organisation.created),
                "updated_at": _epoch(organisation.created),
                "last_request_at": None,
                "monthly_spend": 0,
                "session_count": 0,
                "user_count": 1,
                "custom_attributes": {"plan_name": None},
                "tags": {"type": "tag.list", "tags": []},
                "segments": {"type": "segment.list", "segments": []},
                "plan": {},
            }
        return organisation.intercom_id

    def intercom_contact(
        self,
        name: str,
        email: str,
        created: datetime,
        companies: list[str],
        contact: Contact | None = None,
    ) -> str:
        """A person in the messenger; HubSpot knows them by the e-mail address, if at all."""
        contact_id = f"{self.rng.getrandbits(96):024x}"
        self.intercom.contacts[contact_id] = {
            "type": "contact",
            "id": contact_id,
            "workspace_id": "nb3am",
            "external_id": f"user_{contact.id}" if contact else None,
            "role": "user" if contact else "lead",
            "email": email,
            "phone": None,
            "name": name,
            "avatar": None,
            "owner_id": None,
            "has_hard_bounced": False,
            "marked_email_as_spam": False,
            "unsubscribed_from_emails": False,
            "created_at": _epoch(created),
            "updated_at": _epoch(created),
            "signed_up_at": _epoch(created),
            "last_seen_at": None,
            "last_replied_at": None,
            "last_contacted_at": None,
            "custom_attributes": {},
            "companies": {
                "type": "list",
                "data": [{"id": c, "type": "company", "url": f"/companies/{c}"} for c in companies],
                "url": f"/contacts/{contact_id}/companies",
                "total_count": len(companies),
                "has_more": False,
            },
        }
        return contact_id

    def conversation(
        self,
        contact: Contact,
        parts: list[tuple[str, datetime]],
        *,
        title: str,
        organisation: Organisation | None = None,
        rating: tuple[int, datetime, str] | None = None,
        state: str = "closed",
    ) -> str:
        """A conversation of (author, instant) parts, author contact, admin or bot, the opener first.

        `organisation` is what the record itself names; None leaves attribution to the contact's memberships.
        """
        if contact.intercom_id is None:
            contact.intercom_id = self.intercom_contact(
                contact.name,
                contact.email.upper() if self.rng.random() < 0.05 else contact.email,
                contact.created,
                [self.intercom_company(o) for o in contact.organisations],
                contact,
            )
        company = self.intercom_company(organisation) if organisation else None
        conversation_id = self.raw_conversation(
            contact.intercom_id, parts, title=title, company_id=company, rating=rating, state=state
        )
        self.conversations.append(Conversation(conversation_id, contact, parts, organisation, rating))
        self.opened.setdefault(contact.id, {})[conversation_id] = parts[0][1]
        return conversation_id

    def raw_conversation(
        self,
        intercom_contact_id: str,
        parts: list[tuple[str, datetime]],
        *,
        title: str,
        company_id: str | None = None,
        rating: tuple[int, datetime, str] | None = None,
        state: str = "closed",
    ) -> str:
        """A conversation of an Intercom contact that HubSpot may not know."""
        person = self.intercom.contacts[intercom_contact_id]
        admin = self.intercom.admins[str(portal.SUPPORT_PIA.user_id)]
        authors = {
            "contact": {
                "type": "user",
                "id": intercom_contact_id,
                "name": person["name"],
                "email": person["email"],
            },
            "admin": {"type": "admin", "id": admin["id"], "name": admin["name"], "email": admin["email"]},
            "bot": {
                "type": "bot",
                "id": "9000001",
                "name": "Fin",
                "email": "operator+nb3am@intercom.example",
            },
        }
        conversation_id = self.intercom_id()
        (opener, opened), replies = parts[0], parts[1:]
        contact_times = [moment for author, moment in parts if author == "contact"]
        admin_times = [moment for author, moment in parts if author == "admin"]
        updated = max([moment for _, moment in parts] + ([rating[1]] if rating else []))
        person["updated_at"] = max(person["updated_at"], _epoch(updated))
        if contact_times:
            person["last_replied_at"] = max(person["last_replied_at"] or 0, _epoch(contact_times[-1]))
        self.intercom.conversations[conversation_id] = {
            "type": "conversation",
            "id": conversation_id,
            "created_at": _epoch(opened),
            "updated_at": _epoch(updated),
            "waiting_since": None,
            "snoozed_until": None,
            "title": title,
            "state": state,
            "open": state == "open",
            "read": True,
            "priority": "not_priority",
            "admin_assignee_id": int(admin["id"]),
            "team_assignee_id": None,
            "company": {"type": "company", "id": company_id} if company_id else None,
            "source": {
                "type": "conversation",
                "id": self.intercom_id(),
                "delivered_as": {"contact": "customer_initiated", "bot": "automated"}.get(
                    opener, "admin_initiated"
                ),
                "subject": "",
                "body": f"<p>{title}</p>",
                "author": authors[opener],
                "attachments": [],
                "url": None,
                "redacted": False,
            },
            "contacts": {
                "type": "contact.list",
                "contacts": [
                    {"type": "contact", "id": intercom_contact_id, "external_id": person["external_id"]}
                ],
            },
            "teammates": {"type": "admin.list", "admins": [{"type": "admin", "id": admin["id"]}]},
            "tags": {"type": "tag.list", "tags": []},
            "conversation_rating": (
                {
                    "rating": rating[0],
                    "remark": rating[2] or None,
                    # Intercom dates a rating by its request; the answer is what changed it last.
                    "created_at": _epoch(rating[1] - timedelta(hours=2)),
                    "updated_at": _epoch(rating[1]),
                    "contact": {"type": "contact", "id": intercom_contact_id},
                    "teammate": {"type": "admin", "id": admin["id"]},
                }
                if rating
                else None
            ),
            "statistics": {
                "type": "conversation_statistics",
                "first_contact_reply_at": _epoch(contact_times[0]) if contact_times else None,
                "last_contact_reply_at": _epoch(contact_times[-1]) if contact_times else None,
                "first_admin_reply_at": _epoch(admin_times[0]) if admin_times else None,
                "last_admin_reply_at": _epoch(admin_times[-1]) if admin_times else None,
                "count_conversation_parts": len(parts),
            },
            "conversation_parts": {
                "type": "conversation_part.list",
                "conversation_parts": [
                    {
                        "type": "conversation_part",
                        "id": self.intercom_id(),
                        "part_type": "comment",
                        "body": f"<p>{title}</p>",
                        "created_at": _epoch(moment),
                        "updated_at": _epoch(moment),
                        "notified_at": _epoch(moment),
                        "assigned_to": None,
                        "author": authors[author],
                        "attachments": [],
                        "external_id": None,
                        "redacted": False,
                    }
                    for author, moment in replies
                ],
                "total_count": len(replies),
            },
        }
        return conversation_id

    # Whole -----------------------------------------------------------------------------------------------------

    def hubspot_account(self) -> HubSpotAccount:
        """The portal with everything written so far."""
        for kind, records in self.records.items():
            modified = "lastmodifieddate" if kind == "contacts" else "hs_lastmodifieddate"
            for record in records.values():
                record.properties[modified] = iso(record.updated_at)
                record.properties["hs_merged_object_ids"] = ";".join(record.merged_ids) or None
        own = {back for pair in _LABEL_TYPES.values() for back in pair}
        own |= {t for pair in _ASSOCIATION_TYPES.values() for t in pair if t > 100_000}
        built_in = {t for pair in _ASSOCIATION_TYPES.values() for t in pair if t <= 100_000}
        return HubSpotAccount(
            portal_id=PORTAL_ID,
            properties=portal.properties(),
            records=self.records,
            associations=self.associations,
            owners=portal.owners(),
            users=portal.users(),
            pipelines=portal.pipelines(),
            lost_associations=self.lost_associations,
            association_categories=dict.fromkeys(own, "USER_DEFINED")
            | dict.fromkeys(built_in, "HUBSPOT_DEFINED"),
        )


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp())


def _csv(columns: list[str], rows: Iterable[Iterable[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _with_renewals(
    subscription: Subscription, now: datetime, first_extract: datetime
) -> list[tuple[datetime, dict[str, Any], bool]]:
    """All versions with their paid term: each change, each renewal of the term, and the end when it comes.

    Renewals of monthly terms before the first extract are left out, because nobody exported them.
    """
    months = INTERVALS[subscription.interval][0]
    changes = list(subscription.versions)
    terms: list[datetime] = []
    last = subscription.versions[-1][1]
    end = last.get("cancel_at") or now
    if last["status"] == "canceled":
        end = min(end, last["ended_at"])
    number = 0
    while (term := add_months(subscription.started, months * number)) < min(end, now):
        terms.append(term)
        number += 1
    result: list[tuple[datetime, dict[str, Any], bool]] = []
    moments = {moment for moment, _, _ in changes}
    position = 0
    for term in terms:
        if term not in moments and (months >= 12 or term >= first_extract - timedelta(days=31)):
            moments.add(term)
            position = max(n for n, (moment, _, _) in enumerate(changes) if moment <= term)
            if changes[position][1]["status"] in ("active", "past_due"):
                changes.insert(position + 1, (term, changes[position][1], False))
    ends_at = last.get("cancel_at")
    if ends_at is not None and ends_at < now and last["status"] != "canceled":
        changes.append((ends_at, {**last, "status": "canceled", "ended_at": ends_at}, False))
    for moment, values, priced in changes:
        number = max(n for n, term in enumerate(terms) if term <= moment)
        start = add_months(subscription.started, months * number)
        period = {
            "period_start": start,
            "period_end": add_months(subscription.started, months * (number + 1)),
        }
        result.append((moment, {**period, **values}, priced))
    return result


def _subscription_row(
    subscription: Subscription, moment: datetime, values: dict[str, Any], now: datetime
) -> list[str]:
    def when(key: str) -> str:
        value = values.get(key)
        return iso(value) if value is not None else ""

    cells = {
        "subscription_id": subscription.id,
        "customer_id": subscription.customer_id,
        "status": values["status"],
        "currency": values["currency"],
        "plan": values["plan"],
        "is_custom_plan": str(values["plan"] == "enterprise").lower(),
        "started_at": iso(subscription.started),
        "trial_start_at": iso(subscription.started) if values.get("trial_end") else "",
        "trial_end_at": when("trial_end"),
        "current_period_start_at": when("period_start"),
        "current_period_end_at": when("period_end"),
        "cancel_at": when("cancel_at"),
        "cancel_requested_at": when("cancel_requested_at"),
        "cancel_at_period_end": str(
            values.get("cancel_at") is not None and values["cancel_at"] == values.get("period_end")
        ).lower(),
        "ended_at": when("ended_at"),
        "cancel_reason": values.get("cancel_reason") or "",
        "cancel_comment": values.get("cancel_comment") or "",
        "cancel_kind": values.get("cancel_kind") or "",
        "pause_kind": "full" if values["status"] == "paused" else "none",
        "collection_method": "send_invoice" if values["plan"] == "enterprise" else "charge_automatically",
        "livemode": "true",
        "is_deleted": "false",
        "updated_at": iso(moment),
    }
    return [cells[column] for column in _SUBSCRIPTION_COLUMNS]


def _item_row(subscription: Subscription, moment: datetime, values: dict[str, Any]) -> list[str]:
    _, unit, count = INTERVALS[subscription.interval]
    seats, amount = values["seats"], values["amount_minor"]
    even = seats > 0 and amount % seats == 0
    cells = {
        "subscription_item_id": subscription.item_id,
        "subscription_id": subscription.id,
        "product_id": f"prod_{values['plan']}",
        "product_name": values["plan"],
        "price_id": f"price_{values['plan']}_{subscription.interval}_{values['currency'].lower()}",
        "seat_role": "seat",
        "quantity": str(seats),
        # A negotiated total that no seat price gives is an amount of its own, as billing systems export it.
        "unit_amount_minor": str(amount // seats) if even else "",
        "recurring_minor": "" if even else str(amount),
        "billing_scheme": "per_unit" if even else "tiered",
        "usage_type": "licensed",
        "interval": unit,
        "interval_count": str(count),
        "created_at": iso(subscription.started),
        "updated_at": iso(moment),
    }
    return [cells.get(column, "") for column in _ITEM_COLUMNS]


_INVOICED_MONTHS = 4
"""Invoices of monthly and quarterly terms are exported for so long; those of longer terms since the one that runs."""


def _invoice_rows(
    subscription: Subscription,
    rule: Invoicing,
    now: datetime,
    invoices: list[tuple[datetime, list[str]]],
    lines: list[tuple[datetime, list[str]]],
) -> None:
    """An invoice at the start of each paid term, with one line for its seats, and what `rule` makes of it."""
    months = INTERVALS[subscription.interval][0]
    oldest = add_months(now, -(_INVOICED_MONTHS if months < 12 else months))
    number = 0
    while (start := add_months(subscription.started, months * number)) < now:
        end = add_months(subscription.started, months * (number + 1))
        number += 1
        values = [v for at, v, _ in subscription.versions if at <= start][-1]
        cancel_at = values.get("cancel_at")
        runs = values["status"] in ("active", "past_due") and (cancel_at is None or cancel_at > start)
        if rule.missing or not runs or values["amount_minor"] == 0 or start < oldest:
            continue
        key = f"in_{subscription.id[4:]}_{number:03d}"
        late = [at for at, v, _ in subscription.versions if v["status"] == "past_due" and at <= now]
        unpaid = bool(late) and late[-1] < end
        if rule.voided:
            _invoice(subscription, values, f"{key}v", start, (start, end), invoices, lines, now, ends="void")
        _invoice(
            subscription,
            values,
            key,
            start + timedelta(hours=1 if rule.voided else 0),
            (start, end),
            invoices,
            lines,
            now,
            rebate=rule.rebate_minor,
            ends="open" if unpaid else "paid",
        )
        if rule.prorated:
            changes = [(at, v) for at, v, priced in subscription.versions if priced and start < at < end]
            for at, new in changes:
                share = (end - at) / (end - start)
                amount = int((new["amount_minor"] - values["amount_minor"]) * share)
                _invoice(
                    subscription, new, f"{key}p", at, (at, end), invoices, lines, now, prorated_minor=amount
                )


def _invoice(
    subscription: Subscription,
    values: dict[str, Any],
    key: str,
    created: datetime,
    period: tuple[datetime, datetime],
    invoices: list[tuple[datetime, list[str]]],
    lines: list[tuple[datetime, list[str]]],
    now: datetime,
    *,
    rebate: int = 0,
    prorated_minor: int | None = None,
    ends: str = "paid",
) -> None:
    """One invoice as it was written, and as it was after it was paid or voided; paid by card within the hour."""
    subtotal = values["amount_minor"] if prorated_minor is None else prorated_minor
    by_hand = values["plan"] == "enterprise"
    tax = (subtotal - rebate) * 19 // 100 if values["currency"] == "EUR" else 0
    total = subtotal - rebate + tax
    settled = created + (timedelta(days=12) if by_hand and ends == "paid" else timedelta(minutes=40))
    states = [("open", created)]
    if ends != "open" and settled < now:
        states.append((ends, settled))
    for status, at in states:
        paid = status == "paid"
        cells = {
            "invoice_id": key,
            "number": key.upper().replace("_", "-"),
            "customer_id": subscription.customer_id,
            "subscription_id": subscription.id,
            "status": status,
            "currency": values["currency"],
            "subtotal_minor": str(subtotal),
            "discount_minor": str(rebate),
            "tax_minor": str(tax),
            "total_minor": str(total),
            "amount_paid_minor": str(total if paid else 0),
            "amount_remaining_minor": str(total if status == "open" else 0),
            "created_at": iso(created),
            "due_at": iso(created + timedelta(days=30 if by_hand else 0)),
            "paid_at": iso(at) if paid else "",
            "period_start_at": iso(period[0]),
            "period_end_at": iso(period[1]),
            "livemode": "true",
            "is_deleted": "false",
            "updated_at": iso(at),
        }
        invoices.append((at, [cells[column] for column in _INVOICE_COLUMNS]))
    line = {
        "invoice_id": key,
        "invoice_line_id": f"{key}_1",
        "subscription_id": subscription.id,
        "subscription_item_id": subscription.item_id,
        "description": f"{values['seats']} x {values['plan']}",
        "quantity": str(values["seats"]),
        "amount_minor": str(subtotal),
        "discount_minor": str(rebate),
        "proration": str(prorated_minor is not None).lower(),
        "period_start_at": iso(period[0]),
        "period_end_at": iso(period[1]),
        "created_at": iso(created),
        "livemode": "true",
        "is_deleted": "false",
        "updated_at": iso(created),
    }
    lines.append((created, [line[column] for column in _INVOICE_LINE_COLUMNS]))
