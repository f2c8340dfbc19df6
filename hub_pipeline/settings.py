"""Every number and name a team may want to change, typed, with its meaning.

Three layers, the later wins: the defaults below, a TOML file (``HUB_SETTINGS`` or ``--settings``), and nothing
else. Secrets and addresses are not settings; they come from the environment (`Environment`).

The part that changes what a mart says (`Settings.hashed_json`) is hashed into every partition, so that a changed
setting re-labels new days and never rewrites old ones. Rules A1 to A12 of the domain name the defaults.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Collection
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hub_pipeline.errors import ConfigurationError

#: Raised when the meaning of a mart changes without any setting changing; part of the settings hash.
MODELS_VERSION = 1


Tier = Literal["A", "B", "C"]
Role = Literal["csm", "sales", "support", "other"]
Probability = Annotated[Decimal, Field(ge=0, le=1)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Growth(_Group):
    """Fast-growing organisations (A3, A4, A5)."""

    days: int = Field(90, gt=0, description="window in calendar days, half-open (D-days, D]")
    min_seats: int = Field(20, gt=0, description="organic seats gained in the window, inclusive")
    baseline: Literal["first_day", "zero"] = Field(
        "first_day", description="baseline of an organisation that had no seats at some close in the window"
    )


class Contraction(_Group):
    """What counts as high contraction (A7): share and absolute floor, both inclusive."""

    days: int = Field(90, gt=0, description="window in calendar days")
    seats_pct: Decimal = Field(Decimal("0.20"), ge=0, le=1, description="share of seats lost")
    seats_min: int = Field(5, ge=0, description="seats lost")
    mrr_pct: Decimal = Field(Decimal("0.20"), ge=0, le=1, description="share of MRR lost, constant currency")
    mrr_min: Decimal = Field(Decimal(100), ge=0, description="MRR lost, reporting currency")


class Nps(_Group):
    """Net promoter score (A6)."""

    days: int = Field(180, gt=0, description="look-back: latest answer of each contact in (D-days, D]")
    detractor_max: int = Field(6, ge=0, le=10, description="highest score that is a detractor")
    promoter_min: int = Field(9, ge=0, le=10, description="lowest score that is a promoter")


class Interactions(_Group):
    """Intercom interactions of large clients."""

    days: int = Field(28, gt=0, description="window in calendar days")
    dissatisfied_max: int = Field(
        2, ge=1, le=5, description="highest conversation rating that is dissatisfied"
    )
    tiers: tuple[Tier, ...] = Field(("A", "B"), description="tiers on the list")
    unmet_org_max_met: int = Field(
        2, ge=1, description="an organisation with fewer met contacts is hard to reach"
    )


class Tiers(_Group):
    """Size of the root account (A8)."""

    mode: Literal["size", "percentile"] = Field("size", description="by thresholds, or by rank of MRR")
    a_mrr: Decimal = Field(Decimal(2000), description="A from this MRR")
    a_seats: int = Field(200, description="or this many seats")
    b_mrr: Decimal = Field(Decimal(500), description="B from this MRR")
    b_seats: int = Field(50, description="or this many seats")
    a_share: Decimal = Field(Decimal("0.10"), description="percentile mode: top share that is A")
    b_share: Decimal = Field(Decimal("0.20"), description="percentile mode: next share that is B")


class Renewal(_Group):
    """Renewal pipeline (A1, A2)."""

    mrr_over: Decimal = Field(Decimal(500), description="in scope strictly above this MRR")
    enterprise_mrr_over: Decimal = Field(
        Decimal(500), description="the same for enterprise plans; 0 takes all"
    )
    lead_days: int = Field(90, gt=0, description="renew at least so many days ahead of renew-by")
    missing_days: int = Field(180, gt=0, description="a deal should exist so many days before the term ends")
    match_days: int = Field(45, ge=0, description="a deal belongs to a contract whose term ends this close")
    close_date_mismatch_days: int = Field(
        7, ge=0, description="tolerated distance of close date and term end"
    )
    deal_amount_basis: Literal["mrr", "arr"] = Field("mrr", description="what the amount of a deal means")
    enterprise_plans: tuple[str, ...] = Field(
        ("enterprise", "custom"), description="plans that are enterprise"
    )
    stages: tuple[str, ...] = Field((), description="known post-sales stages; empty = do not check")
    stage_probability: dict[str, Probability] = Field(
        default_factory=dict,
        description="probability of renewal by stage; `_missing` for contracts without a deal",
    )


class Churn(_Group):
    """Churn and its double checks (A9, A10)."""

    gap_days: int = Field(31, ge=0, description="a gap up to this long is a replacement, not a churn")
    history_days: int = Field(400, gt=0, description="ended subscriptions stay listed this long")
    recent_days: int = Field(90, gt=0, description="the view hub.churn shows churns of the last so many days")


class Plans(_Group):
    """Names of plans that mean something."""

    free: tuple[str, ...] = Field(
        ("free",),
        description="plans that are not paid for at amount 0, lower case; other plans at 0 are discounted",
    )


class Ownership(_Group):
    """Who talks to whom."""

    days: int = Field(28, gt=0, description="window in calendar days")
    client_facing_roles: tuple[str, ...] = Field(
        ("sales", "csm"), description="roles that count as having met"
    )


class Upsell(_Group):
    """Who is ready for more."""

    utilisation: Decimal = Field(
        Decimal("0.9"), gt=0, description="share of seats in use from which an organisation is a candidate"
    )


class TieOut(_Group):
    """Billing, CRM and invoices held against each other."""

    tolerance: Decimal = Field(
        Decimal("0.02"), ge=0, description="share of MRR by which two of them may differ before a check warns"
    )


class Lifecycle(_Group):
    """Vocabulary of contacts and what is expected of them. Values are compared without case, blanks and ``_``."""

    stages: tuple[str, ...] = Field(
        (
            "subscriber",
            "lead",
            "marketingqualifiedlead",
            "salesqualifiedlead",
            "opportunity",
            "customer",
        ),
        description="lifecycle stages a contact passes through, in this order",
    )
    other_stages: tuple[str, ...] = Field(
        ("evangelist", "other"), description="lifecycle stages outside of that order"
    )
    lead_statuses: tuple[str, ...] = Field(
        ("none", "attempted_to_contact", "connected", "open_deal", "unqualified"),
        description="known lead statuses",
    )
    days: int = Field(28, gt=0, description="window in calendar days in which a change of stage is reported")
    complete_after_days: int = Field(
        7, ge=0, description="days after its creation by which a contact has a lifecycle stage"
    )
    unresponsive_days: int = Field(14, gt=0, description="days without an answer after the last attempt")
    autocreated_sources: tuple[str, ...] = Field(
        ("email_integration", "extension", "gmail", "outlook", "sales_extension"),
        description="sources of contacts that a mail extension creates by itself",
    )
    internal_domains: tuple[str, ...] = Field(
        (), description="e-mail domains of colleagues and vendors, beside those of the HubSpot users"
    )


class Metrics(_Group):
    """Period of the waterfall and the rates; empty = the calendar month of as_of."""

    period_start: date | None = Field(None, description="first day")
    period_end: date | None = Field(None, description="last day, inclusive")

    @model_validator(mode="after")
    def _whole_period(self) -> Self:
        if (self.period_start is None) != (self.period_end is None):
            raise ValueError("period_start and period_end go together: set both or neither")
        if self.period_start and self.period_end and self.period_start > self.period_end:
            raise ValueError(f"period_start {self.period_start} is after period_end {self.period_end}")
        return self


class Matching(_Group):
    """How records of different sources are recognised as one organisation."""

    free_mail_domains: tuple[str, ...] = Field(
        (
            "gmail.com",
            "outlook.com",
            "hotmail.com",
            "yahoo.com",
            "icloud.com",
            "proton.me",
            "gmx.de",
            "web.de",
        ),
        description="domains that never identify an organisation",
    )


class HubSpotObject(_Group):
    """One HubSpot object type: which type id, which properties, and what they are called here."""

    object_type: str = Field(description="objectTypeId or name in the API, such as 2-1138478 or contacts")
    optional: bool = Field(
        False, description="a portal without it (or a token without the scope) is still published"
    )
    properties: dict[str, str] = Field(
        default_factory=dict, description="canonical column -> name of the HubSpot property"
    )
    history: tuple[str, ...] = Field(
        (),
        description="more properties whose history is read, beside those that the models need of the mapping",
    )
    read_properties: tuple[str, ...] = Field(
        (), description="properties to read beside those of the mapping and the history; empty = all"
    )


#: Columns of an organisation that together say what it pays for; an organisation that no billing system covers has
#: the subscription ``hubspot:<id>`` made of them (domain 4.6).
SUBSCRIPTION_COLUMNS = (
    "seats",
    "mrr",
    "recurring_amount",
    "plan",
    "billing_interval",
    "currency",
    "subscription_status",
    "started_at",
    "cancel_at",
    "cancel_requested_at",
    "cancel_reason",
    "cancel_comment",
    "term_start",
    "term_end",
)
#: Canonical columns of a record that holds the latest NPS answer of its organisation or contact.
NPS_COLUMNS = ("nps_score", "nps_responded_at", "nps_comment")

#: Object -> canonical columns of which the models need every value they ever had. The history of the properties they
#: are mapped to is read without being listed again.
HISTORY_COLUMNS: dict[str, tuple[str, ...]] = {
    "organisations": (
        "tier_override",
        "owner_id",
        "health_override",
        "members_active",
        "pending_true_up_mrr",
        "parent_org_id",
        "covered_by_org_id",
        "covered_from",
        "covered_seats",
        "contract_kind",
        "contract_from",
        "contract_to",
        "contract_amount",
        "contract_seats",
        *SUBSCRIPTION_COLUMNS,
        *NPS_COLUMNS,
    ),
    "contacts": ("lifecycle_stage", "lead_status", "owner_id", *NPS_COLUMNS),
    "deals": ("stage", "close_date", "amount", "owner_id"),
}

#: Meaning of the canonical columns that models/inputs.yaml does not have under the same name.
COLUMN_MEANINGS = {
    "name": "display name",
    "domain": "web domain",
    "parent_org_id": "id of the organisation it belongs to",
    "covered_by_org_id": "id of the organisation that pays for its seats (joint plan)",
    "covered_from": "start of the joint plan",
    "covered_seats": "seats of the joint plan; empty = its own seats of the day before",
    "contract_kind": "kind of custom contract; empty = there is none",
    "contract_from": "start of the custom contract",
    "contract_to": "exclusive end of the custom contract",
    "contract_amount": "MRR of the custom contract, reporting currency",
    "contract_seats": "seats of the custom contract",
    "seats": "paid seats",
    "mrr": "monthly recurring revenue, in the organisation's currency; wins over recurring_amount",
    "recurring_amount": "amount for one billing interval, where there is no property for MRR",
    "plan": "name of the plan",
    "billing_interval": "how often it pays; hubspot.billing_intervals says what the values mean; empty = month",
    "currency": "ISO 4217; empty = reporting currency",
    "subscription_status": "status; hubspot.subscription_statuses says what the values mean; empty = what seats, amount and plan say",
    "started_at": "start of the subscription; before it nothing counts",
    "cancel_at": "date on which it ends (exclusive): churn date, also far in advance",
    "cancel_requested_at": "instant the cancellation was asked for",
    "cancel_reason": "reason of the cancellation",
    "cancel_comment": "reason in the customer's words",
    "term_start": "start of the current term",
    "term_end": "exclusive end of the current term: the renewal date",
    "nps_score": "latest NPS answer, 0 to 10; each value it ever had is an answer",
    "nps_responded_at": "instant of that answer; empty = when the score was set",
    "nps_comment": "comment given with that answer",
    "first_name": "first name",
    "last_name": "last name",
    "is_closed": "won or lost",
    "is_won": "won",
    "next_activity_at": "instant of the next activity that is planned",
    "survey_type": "kind of survey; only NPS counts",
    "source_group": "HubSpot's own group of the answer; the score decides, not this",
    "owner_id": "colleague who did it",
    "source": "how the record came to be; tells what an automation did",
}


def _hubspot_objects() -> dict[str, HubSpotObject]:
    o = HubSpotObject
    return {
        "organisations": o(
            object_type="2-1138478",
            properties={
                "name": "name",
                "domain": "domain",
                "external_id": "organisation_id",
                "tier_override": "tier",
                "owner_id": "hubspot_owner_id",
                "health_override": "health",
                "members_active": "members_active",
                "parent_org_id": "parent_organisation_id",
                "covered_by_org_id": "joint_plan_payer_id",
                "covered_from": "joint_plan_since",
                "covered_seats": "joint_plan_seats",
                "contract_kind": "custom_contract_kind",
                "contract_from": "custom_contract_start",
                "contract_to": "custom_contract_end",
                "contract_amount": "custom_contract_amount",
                "contract_seats": "custom_contract_seats",
                "pending_true_up_mrr": "pending_true_up_mrr",
                # What billing tells better; a team without billing maps them (docs/hubspot_mapping.md).
                **dict.fromkeys((*SUBSCRIPTION_COLUMNS, *NPS_COLUMNS), ""),
            },
        ),
        "companies": o(
            object_type="companies", optional=True, properties={"name": "name", "domain": "domain"}
        ),
        "contacts": o(
            object_type="contacts",
            properties={
                "email": "email",
                "first_name": "firstname",
                "last_name": "lastname",
                "lifecycle_stage": "lifecyclestage",
                "lead_status": "hs_lead_status",
                "source": "hs_object_source_label",
                "owner_id": "hubspot_owner_id",
                "is_champion": "is_champion",
                "left_at": "left_company_at",
                # Where a survey tool writes the latest answer to the contact (docs/nps.md).
                **dict.fromkeys(NPS_COLUMNS, ""),
            },
        ),
        "deals": o(
            object_type="deals",
            properties={
                "name": "dealname",
                "pipeline": "pipeline",
                "stage": "dealstage",
                "deal_type": "dealtype",
                "plan": "plan",
                "subscription_id": "subscription_id",
                "amount": "amount",
                "currency": "deal_currency_code",
                "owner_id": "hubspot_owner_id",
                "created_at": "createdate",
                "close_date": "closedate",
                "is_closed": "hs_is_closed",
                "is_won": "hs_is_closed_won",
                "next_activity_at": "hs_next_activity_date",
            },
        ),
        "feedback_submissions": o(
            object_type="feedback_submissions",
            optional=True,
            properties={
                "survey_type": "hs_survey_type",
                "score": "hs_value",
                "comment": "hs_content",
                "responded_at": "hs_submission_timestamp",
                "source_group": "hs_response_group",
            },
        ),
        **{
            name: o(
                object_type=name,
                optional=True,
                properties={
                    "occurred_at": "hs_timestamp",
                    "owner_id": "hubspot_owner_id",
                    "subject": subject,
                    "direction": direction,
                    "status": status,
                    "source": "hs_object_source_label",
                },
            )
            for name, subject, direction, status in (
                ("notes", "hs_note_body", "", ""),
                ("tasks", "hs_task_subject", "", "hs_task_status"),
                ("emails", "hs_email_subject", "hs_email_direction", "hs_email_status"),
                ("calls", "hs_call_title", "hs_call_direction", "hs_call_status"),
                ("meetings", "hs_meeting_title", "", "hs_meeting_outcome"),
            )
        },
        **{name: o(object_type=name, optional=True) for name in ("communications", "tickets", "line_items")},
    }


DealType = Literal["renewal", "upsell", "new_business"]


def _deal_types() -> dict[str, DealType]:
    return {
        "renewal": "renewal",
        "existingbusiness": "renewal",
        "upsell": "upsell",
        "newbusiness": "new_business",
    }


SubscriptionStatus = Literal["trialing", "active", "past_due", "unpaid", "paused", "incomplete", "canceled"]
BillingInterval = Literal["month", "quarter", "year", "two_years", "week"]


def _subscription_statuses() -> dict[str, SubscriptionStatus]:
    return {
        "trialing": "trialing",
        "trial": "trialing",
        "active": "active",
        "past_due": "past_due",
        "past due": "past_due",
        "unpaid": "unpaid",
        "paused": "paused",
        "incomplete": "incomplete",
        "canceled": "canceled",
        "cancelled": "canceled",
        "churned": "canceled",
        "inactive": "canceled",
    }


def _billing_intervals() -> dict[str, BillingInterval]:
    return {
        "month": "month",
        "monthly": "month",
        "quarter": "quarter",
        "quarterly": "quarter",
        "year": "year",
        "yearly": "year",
        "annual": "year",
        "annually": "year",
        "two_years": "two_years",
        "two years": "two_years",
        "2 years": "two_years",
        "biennial": "two_years",
        "week": "week",
        "weekly": "week",
    }


def _roles() -> dict[str, Role]:
    return {"Customer Success": "csm", "Sales": "sales", "Support": "support"}


def _with_needed_history(name: str, one: HubSpotObject) -> HubSpotObject:
    return one.model_copy(
        update={"history": tuple(dict.fromkeys((*one.history, *_needed_history(name, one))))}
    )


def _needed_history(name: str, one: HubSpotObject) -> list[str]:
    mapped = (one.properties.get(column, "") for column in HISTORY_COLUMNS.get(name, ()))
    return [name for name in mapped if name]


def extra_history(name: str, one: HubSpotObject) -> tuple[str, ...]:
    """Properties of an object whose history is read although no model needs it."""
    needed = _needed_history(name, one)
    return tuple(p for p in one.history if p not in needed)


#: HubSpot's type id -> its name, of objects that hold what persons said or wrote. Erasing finds them by their name.
OF_PERSONS = {
    "0-1": "contacts",
    "0-5": "tickets",
    "0-18": "communications",
    "0-19": "feedback_submissions",
    "0-27": "tasks",
    "0-46": "notes",
    "0-47": "meetings",
    "0-48": "calls",
    "0-49": "emails",
    "0-116": "postal_mail",
}


class HubSpot(_Group):
    """What is read from HubSpot and what it means."""

    portal_id: str | None = Field(None, description="for record addresses; empty = asked from the account")
    app_address: str = Field("https://app.hubspot.com", description="start of record addresses")
    objects: dict[str, HubSpotObject] = Field(
        default_factory=_hubspot_objects, validate_default=True, description="object -> mapping"
    )
    associations: tuple[tuple[str, str], ...] = Field(
        (
            ("contacts", "organisations"),
            ("deals", "organisations"),
            ("deals", "contacts"),
            ("notes", "contacts"),
            ("tasks", "contacts"),
            ("emails", "contacts"),
            ("calls", "contacts"),
            ("meetings", "contacts"),
            ("notes", "organisations"),
            ("tasks", "organisations"),
            ("feedback_submissions", "contacts"),
            # The models do not read these two; erasing a person has to know which ones are theirs.
            ("communications", "contacts"),
            ("tickets", "contacts"),
        ),
        description="pairs of objects whose associations are read",
    )
    users: bool = Field(True, description="whether users are read; needs the scope settings.users.read")
    lists: tuple[str, ...] = Field((), description="ids of the lists (segments) whose members are read")
    post_sales_pipeline: str = Field(
        "post_sales", description="id of the pipeline that holds renewals and upsells"
    )
    sales_pipeline: str = Field("default", description="id of the sales pipeline")
    deal_types: dict[str, DealType] = Field(
        default_factory=_deal_types,
        description="value of the deal-type property -> meaning",
    )
    contract_deal_types: tuple[str, ...] = Field(
        (),
        description="deal types whose won deals are custom contracts that billing does not know, lower case; each counts "
        "as a running paid plan with the deal's amount",
    )
    subscription_statuses: dict[str, SubscriptionStatus] = Field(
        default_factory=_subscription_statuses,
        description="value of the property mapped to subscription_status, lower case -> meaning",
    )
    billing_intervals: dict[str, BillingInterval] = Field(
        default_factory=_billing_intervals,
        description="value of the property mapped to billing_interval, lower case -> meaning",
    )
    parent_labels: tuple[str, ...] = Field(
        ("parent", "parent company", "parent organisation"),
        description="labels, lower case, of the association of an organisation with its parent",
    )
    payer_labels: tuple[str, ...] = Field(
        ("joint plan paid by",),
        description="labels, lower case, of the association of an organisation with the one that pays its joint plan",
    )
    roles: dict[str, Role] = Field(default_factory=_roles, description="name of the owner's team -> role")
    requests_per_10_seconds: int = Field(190, gt=0, description="the account's limit for this token")
    reserve: Decimal = Field(Decimal("0.05"), ge=0, lt=1, description="share of the limit left to other apps")
    workers: int = Field(8, ge=1, le=32, description="requests in flight")
    searches_per_second: int = Field(4, gt=0, description="of the account's five, which all its apps share")
    parallel_from_records: int = Field(
        5_000, ge=0, description="a list that is longer is read by several chains of pages at a time"
    )
    horizon_minutes: int = Field(
        15, ge=0, description="how long the search index may take to learn of a change"
    )
    overlap_minutes: int = Field(
        5, ge=0, description="how far HubSpot's own clocks may differ; changes so much older are read again"
    )
    full_list_days: int = Field(
        7, ge=0, description="days after which an object is read in full again, 0 = by every run"
    )
    census_days: int = Field(
        7, ge=0, description="days after which all ids are compared, also when the numbers of records agree"
    )
    time_budget_seconds: int = Field(3600, gt=0, description="give up (exit 3) when a source needs longer")

    @field_validator("objects")
    @classmethod
    def _with_history_of_the_mapped(cls, value: dict[str, HubSpotObject]) -> dict[str, HubSpotObject]:
        # So that nobody has to name a property twice, and no reader of `history` has to know of the mapping.
        return {name: _with_needed_history(name, one) for name, one in value.items()}

    @field_validator("objects")
    @classmethod
    def _persons_under_their_own_name(cls, value: dict[str, HubSpotObject]) -> dict[str, HubSpotObject]:
        for name, one in value.items():
            standard = OF_PERSONS.get(one.object_type, one.object_type)
            if standard != name and {standard, name} & set(OF_PERSONS.values()):
                raise ValueError(
                    f"{name} reads {one.object_type}, but HubSpot's {', '.join(OF_PERSONS.values())} keep their names "
                    "here: erasing a person finds them by name"
                )
        return value

    @field_validator("associations")
    @classmethod
    def _of_configured_objects(
        cls, value: tuple[tuple[str, str], ...], info: ValidationInfo
    ) -> tuple[tuple[str, str], ...]:
        # Not asked of the default: a team that switches an object off keeps the other pairs.
        objects = info.data.get("objects")
        if objects is not None:
            for name in sorted({name for pair in value for name in pair} - objects.keys()):
                raise ValueError(f"{name} is not a configured object{_nearest(name, objects)}")
        return value


class Intercom(_Group):
    """What is read from Intercom."""

    api_version: str = Field("2.16", description="Intercom-Version header")
    region: Literal["us", "eu", "au"] = Field("us", description="which address to ask")
    parts: Literal["window", "none", "all"] = Field(
        "window", description="for which conversations parts are read"
    )
    parts_tiers: tuple[Tier, ...] = Field(
        (), description="read parts only of organisations of these tiers, such as A and B; empty = of all"
    )
    nps_attribute: str = Field(
        "", description="custom attribute of contacts that holds the latest NPS score; empty = there is none"
    )
    nps_responded_attribute: str = Field(
        "", description="custom attribute that holds when it was answered; empty = when the score changed"
    )
    nps_comment_attribute: str = Field("", description="custom attribute that holds the comment")
    leave_out: tuple[Literal["teams", "tags", "tickets"], ...] = Field(
        (), description="objects that are not read at all"
    )
    overlap_minutes: int = Field(
        120, ge=0, description="what changed so long before the last run is read again"
    )
    full_list_days: int = Field(7, ge=1, description="everything is listed again after so many days")
    requests_per_10_seconds: int = Field(1_666, gt=0, description="the app's limit in each ten seconds")
    reserve: Decimal = Field(Decimal("0.05"), ge=0, lt=1, description="share of the limit left to other apps")
    workers: int = Field(8, ge=1, le=32, description="requests in flight")
    time_budget_seconds: int = Field(3600, gt=0, description="give up (exit 3) when it needs longer")


class Billing(_Group):
    """Where billing extracts come from."""

    folder: str = Field("billing/incoming", description="below the data folder, or absolute")
    mappings: tuple[str, ...] = Field(
        (), description="mapping files for foreign shapes; paths beside the settings"
    )
    settle_seconds: int = Field(
        5, ge=0, description="a file younger than this may still be written: next run"
    )
    max_quarantined: Decimal = Field(
        Decimal("0.01"), ge=0, le=1, description="above this share a file is refused"
    )
    seat_roles: tuple[str, ...] = Field(("seat",), description="item roles that count as seats")
    max_seats: int = Field(
        1_000_000, gt=0, lt=1_000_000_000, description="a line with more seats is held in the quarantine"
    )
    pending_days: int = Field(
        7, ge=0, description="a line waits so long for what it belongs to, then it is quarantined"
    )
    metadata_keys: tuple[str, ...] = Field(
        (), description="keys of customers.metadata that hold the organisation's id or external id"
    )
    match_email_domain: bool = Field(
        False, description="match customers by a corporate e-mail domain that only one organisation has"
    )
    hashed_columns: tuple[str, ...] = Field(
        (), description="text columns kept only as a hash, such as customers.email"
    )

    @field_validator("hashed_columns")
    @classmethod
    def _qualified(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in names if not re.fullmatch(r"[a-z_]+\.[a-z_]+", name)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not a column such as customers.email")
        return names


class Stripe(_Group):
    """What is read from Stripe, the optional second door into billing, and what it means."""

    api_version: str = Field(
        "2025-09-30.clover",
        pattern=r"^\d{4}-\d{2}-\d{2}(\.[a-z]+)?$",
        description="Stripe-Version header; 2024-06-20 or later",
    )
    organisation_key: str = Field(
        "organisation_id", description="key of the customer's metadata that names its organisation"
    )
    parent_key: str = Field(
        "parent_customer_id", description="key of the customer's metadata that names the customer above it"
    )
    reserve: Decimal = Field(
        Decimal("0.50"), ge=0, lt=1, description="share of the limit of reads left to others"
    )
    time_budget_seconds: int = Field(3600, gt=0, description="give up (exit 3) when it needs longer")


class Guards(_Group):
    """What is refused rather than believed."""

    max_shrink: Decimal = Field(
        Decimal("0.20"), ge=0, le=1, description="a full list this much smaller is refused"
    )
    max_purge: Decimal = Field(
        Decimal("0.02"),
        ge=0,
        le=1,
        description="share of the HubSpot contacts that one run may erase because HubSpot deleted them for good",
    )


class Run(_Group):
    """Schedule and partitions."""

    first_day: date = Field(date(2024, 1, 1), description="first daily partition")
    hour: int = Field(3, ge=0, le=23, description="hour of the nightly run, reporting time zone")
    alert_webhook: bool = Field(False, description="post run failures to HUB_ALERT_WEBHOOK")


class Publish(_Group):
    """The file analysts open."""

    mode: str = Field("0640", pattern=r"^0?[0-7]{3}$", description="file mode, octal")
    group: str | None = Field(None, description="group of the file")

    @field_validator("mode")
    @classmethod
    def _for_owner_and_group_only(cls, value: str) -> str:
        mode = int(value, 8)
        if mode & 0o007:
            raise ValueError(
                f"{value} opens the file to everybody on the machine, and it holds personal data; "
                "the last digit must be 0, such as 0640"
            )
        if mode & 0o111:
            raise ValueError(f"{value} makes the file executable; use a mode such as 0640")
        return value


class Settings(_Group):
    """All settings. Unknown keys are an error; every default is a rule of the domain."""

    reporting_tz: str = Field("UTC", description="IANA time zone whose midnight ends a day")
    reporting_currency: str = Field("USD", pattern="^[A-Z]{3}$", description="currency of every MRR")
    growth: Growth = Growth()
    contraction: Contraction = Contraction()
    nps: Nps = Nps()
    interactions: Interactions = Interactions()
    tiers: Tiers = Tiers()
    renewal: Renewal = Renewal()
    churn: Churn = Churn()
    plans: Plans = Plans()
    ownership: Ownership = Ownership()
    lifecycle: Lifecycle = Lifecycle()
    upsell: Upsell = Upsell()
    tie_out: TieOut = TieOut()
    metrics: Metrics = Metrics()
    matching: Matching = Matching()
    hubspot: HubSpot = HubSpot()
    intercom: Intercom = Intercom()
    billing: Billing = Billing()
    stripe: Stripe = Stripe()
    guards: Guards = Guards()
    run: Run = Run()
    publish: Publish = Publish()

    @field_validator("reporting_tz")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{value!r} is not an IANA time zone such as Europe/Berlin") from error
        return value

    @property
    def zone(self) -> ZoneInfo:
        """The reporting time zone."""
        return ZoneInfo(self.reporting_tz)

    def model_parameters(self) -> dict[str, Any]:
        """Settings as SQL parameters: ``growth.days`` is ``$growth_days``.

        A dict becomes two lists of equal length, ``<name>_keys`` and ``<name>_values``; tuples become lists.
        Operational groups (guards, run, publish, and how sources are read) are not parameters, because they must
        not change what a mart says.
        """
        parameters: dict[str, Any] = {
            "reporting_tz": self.reporting_tz,
            "reporting_currency": self.reporting_currency,
        }
        meaning = {
            "growth": self.growth,
            "contraction": self.contraction,
            "nps": self.nps,
            "interactions": self.interactions,
            "tiers": self.tiers,
            "renewal": self.renewal,
            "churn": self.churn,
            "plans": self.plans,
            "ownership": self.ownership,
            "lifecycle": self.lifecycle,
            "upsell": self.upsell,
            "tie_out": self.tie_out,
            "metrics": self.metrics,
            "matching": self.matching,
        }
        for group, values in meaning.items():
            for key in type(values).model_fields:
                _flatten(parameters, f"{group}_{key}", getattr(values, key))
        for key in (
            "post_sales_pipeline",
            "sales_pipeline",
            "deal_types",
            "contract_deal_types",
            "roles",
            "subscription_statuses",
            "billing_intervals",
            "parent_labels",
            "payer_labels",
            "app_address",
            "portal_id",
        ):
            _flatten(parameters, f"hubspot_{key}", getattr(self.hubspot, key))
        _flatten(parameters, "billing_seat_roles", self.billing.seat_roles)
        for key in ("nps_attribute", "nps_responded_attribute", "nps_comment_attribute"):
            _flatten(parameters, f"intercom_{key}", getattr(self.intercom, key))
        return parameters

    def hashed_json(self) -> str:
        """The settings that change what a mart says, as JSON that analysts may see.

        These are the `model_parameters` without the metrics period, what is read from HubSpot (type, mapping and
        history of each object, associations), for which conversations parts are read, and the names of the billing
        mapping files. Left out is how things are read: limits, budgets, guards, schedule, and every path.
        """
        # The metrics period is an argument of one build, not a standing decision.
        said = {k: v for k, v in self.model_parameters().items() if not k.startswith("metrics_")}
        objects = self.hubspot.objects
        said["hubspot_objects"] = {
            name: {
                "object_type": o.object_type,
                "properties": o.properties,
                "history": sorted(set(o.history)),
            }
            for name, o in objects.items()
        }
        said["hubspot_associations"] = sorted(
            {pair for pair in self.hubspot.associations if pair[0] in objects and pair[1] in objects}
        )
        said["intercom_parts"] = self.intercom.parts
        said["intercom_parts_tiers"] = sorted(self.intercom.parts_tiers)
        said["stripe"] = {
            "organisation_key": self.stripe.organisation_key,
            "parent_key": self.stripe.parent_key,
        }
        said["billing_metadata_keys"] = list(self.billing.metadata_keys)
        said["billing_match_email_domain"] = self.billing.match_email_domain
        said["billing_mappings"] = [PurePath(path).name for path in self.billing.mappings]
        return json.dumps({"models_version": MODELS_VERSION, **said}, sort_keys=True, default=_stable_text)

    def settings_hash(self) -> str:
        """First sixteen hex digits of the SHA-256 of `hashed_json`: they change when what a mart says may change."""
        return hashlib.sha256(self.hashed_json().encode()).hexdigest()[:16]

    @classmethod
    def load(cls, path: Path | None = None) -> Settings:
        """Defaults, overlaid by a TOML file; every mistake is named with its key.

        Raises:
            ConfigurationError: the file is missing, is not TOML, or a key is unknown or has a wrong value.
        """
        if path is None:
            return cls()
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"The settings file {path} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"The settings file {path} is not valid TOML: {error}.") from error
        hubspot = values.get("hubspot")
        problems: list[str] = []
        if isinstance(hubspot, dict) and isinstance(hubspot.get("objects"), dict):
            hubspot["objects"], problems = _merge_objects(hubspot["objects"])
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [
                f"{'.'.join(str(part) for part in item['loc'])}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors()
            ]
            raise _mistakes(path, problems) from error
        if problems:
            raise _mistakes(path, problems)
        return settings


def _mistakes(path: Path, problems: list[str]) -> ConfigurationError:
    return ConfigurationError(f"The settings file {path} has mistakes: {'; '.join(problems)}.")


def _merge_objects(objects: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A team that maps one property keeps the defaults of all others; ``enabled = false`` drops an object.

    Returns:
        The objects with their defaults, and the mistakes in names, each with its key.
    """
    defaults = _hubspot_objects()
    merged: dict[str, Any] = {name: value.model_dump() for name, value in defaults.items()}
    problems: list[str] = []
    for name, change in objects.items():
        key = f"hubspot.objects.{name}"
        if not isinstance(change, dict):
            merged[name] = change
            continue
        if name not in defaults and "object_type" not in change:
            problems.append(
                f"{key}: not an object the models know{_nearest(name, defaults)} "
                "(an object of your own needs its object_type)"
            )
            continue
        enabled = change.get("enabled", True)
        if not isinstance(enabled, bool):
            problems.append(f"{key}.enabled: must be true or false")
        if enabled is False:
            merged.pop(name, None)
            continue
        base = merged.get(name, {})
        merged[name] = {**base, **{k: v for k, v in change.items() if k != "enabled"}}
        properties = change.get("properties", {})
        if isinstance(properties, dict):
            problems += _unknown_columns(key, properties, defaults.get(name))
            merged[name]["properties"] = {**base.get("properties", {}), **properties}
    return merged, problems


def _unknown_columns(key: str, properties: dict[str, Any], default: HubSpotObject | None) -> list[str]:
    if default is None:
        return (
            [
                f"{key}.properties: must be empty, the models know no columns of an object of your own "
                "(all its properties are read without a mapping)"
            ]
            if properties
            else []
        )
    return [
        f"{key}.properties.{column}: not a column the models know{_nearest(column, default.properties)}"
        for column in properties
        if column not in default.properties
    ]


def _nearest(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, cutoff=0.65)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(known) or 'none'}"


def _stable_text(value: Any) -> str:
    """Text of a value that JSON does not know; 0.2 and 0.20 are the same number."""
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def _flatten(parameters: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, dict):
        parameters[f"{name}_keys"] = [str(k) for k in value]
        parameters[f"{name}_values"] = list(value.values())
    elif isinstance(value, tuple):
        parameters[name] = list(value)
    else:
        parameters[name] = value


class Environment(_Group):
    """Secrets and addresses, from the environment; each secret may come from ``<NAME>_FILE`` instead."""

    data_dir: Path
    settings_file: Path | None = None
    hubspot_access_token: SecretStr | None = None
    hubspot_base_url: str = "https://api.hubapi.com"
    hubspot_api_version: str = "2026-09"
    intercom_access_token: SecretStr | None = None
    intercom_base_url: str | None = None
    stripe_api_key: SecretStr | None = None
    stripe_base_url: str = "https://api.stripe.com"
    alert_webhook: SecretStr | None = None

    @classmethod
    def read(cls, variables: dict[str, str] | None = None) -> Environment:
        """Read the process environment (or the given mapping, for tests).

        Raises:
            ConfigurationError: a ``*_FILE`` variable names a file that cannot be read, or both forms are set.
        """
        env = dict(os.environ) if variables is None else variables

        def secret(name: str) -> SecretStr | None:
            value, file = env.get(name) or None, env.get(f"{name}_FILE") or None
            if value and file:
                raise ConfigurationError(f"Set either {name} or {name}_FILE, not both.")
            if file:
                try:
                    value = Path(file).read_text(encoding="utf-8").strip()
                except OSError as error:
                    raise ConfigurationError(
                        f"{name}_FILE names {file}, which cannot be read: {error.strerror}."
                    ) from error
                if not value:
                    raise ConfigurationError(f"{name}_FILE names {file}, which is empty.")
            return SecretStr(value) if value else None

        settings_file = env.get("HUB_SETTINGS")
        return cls(
            data_dir=Path(env.get("HUB_DATA_DIR") or "data").absolute(),
            settings_file=Path(settings_file) if settings_file else None,
            hubspot_access_token=secret("HUBSPOT_ACCESS_TOKEN"),
            hubspot_base_url=env.get("HUBSPOT_BASE_URL") or "https://api.hubapi.com",
            hubspot_api_version=env.get("HUBSPOT_API_VERSION") or "2026-09",
            intercom_access_token=secret("INTERCOM_ACCESS_TOKEN"),
            intercom_base_url=env.get("INTERCOM_BASE_URL") or None,
            stripe_api_key=secret("STRIPE_API_KEY"),
            stripe_base_url=env.get("STRIPE_BASE_URL") or "https://api.stripe.com",
            alert_webhook=secret("HUB_ALERT_WEBHOOK"),
        )
