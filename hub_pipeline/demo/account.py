"""The accounts of the demo company as its systems would hold them: HubSpot, Intercom and billing extracts.

Generators fill these; the demo servers page, filter and serve them; the truth of the demo company is kept
beside them and never computed from them by our models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub_pipeline.demo.truth import Truth

ORGANISATION_OBJECT = "2-1138478"
"""Object type id of the custom object "Organisation" in the demo portal."""

PORTAL_ID = 8443689
"""Id of the demo portal."""

DEMO_SEED = 8443689
"""Seed of the company that `hub-pipeline demo` shows."""

DEMO_AS_OF = date(2026, 10, 31)
"""Its last closed day; fixed, so that its answers are the same on every day it is run."""

OBJECT_TYPES: tuple[str, ...] = (
    ORGANISATION_OBJECT,
    "companies",
    "contacts",
    "deals",
    "notes",
    "tasks",
    "emails",
    "calls",
    "meetings",
    "feedback_submissions",
)
"""Object types of the demo portal, under the keys the CRM API uses in its paths."""


@dataclass(slots=True)
class HubSpotRecord:
    """One CRM record.

    `properties` holds the values of now, as the API gives them: strings or None. `created_at`, `updated_at`
    and `archived_at` are aware UTC datetimes. `history` maps a property name to its versions, newest first,
    each `{"value", "timestamp", "sourceType", "sourceId"}` with an ISO 8601 timestamp ending in Z.
    `merged_ids` are the ids of the records that were merged into this one.
    """

    id: str
    properties: dict[str, str | None]
    created_at: datetime
    updated_at: datetime
    archived: bool = False
    archived_at: datetime | None = None
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    merged_ids: list[str] = field(default_factory=list)


@dataclass(slots=True)
class HubSpotList:
    """A list (segment) of records of one type: `members` maps a record id to the instant it joined (aware, UTC)."""

    id: str
    name: str
    object_type: str
    created_at: datetime
    members: dict[str, datetime] = field(default_factory=dict)
    processing_type: str = "MANUAL"


@dataclass(slots=True)
class HubSpotAccount:
    """One HubSpot portal.

    - `properties`: object type -> property definitions in the shape of `GET /crm/v3/properties/{type}`;
    - `records`: object type -> record id -> record, archived ones included;
    - `associations`: (from type, to type) -> rows (from id, to id, type id, label), both directions stored,
      label None for the unlabelled default type;
    - `association_categories`: type id -> "HUBSPOT_DEFINED" or "USER_DEFINED";
    - `owners`: shape of `GET /crm/v3/owners`, archived ones included with `archived: True`;
    - `pipelines`: object type -> pipelines in the shape of `GET /crm/v3/pipelines/{type}`;
    - `users`: shape of `GET /settings/v3/users`; people who were removed are not among them;
    - `lists`: list id -> list;
    - `lost_associations`: what archiving a record took away: when, (from type, to type), the row.
    """

    portal_id: int
    properties: dict[str, list[dict[str, Any]]]
    records: dict[str, dict[str, HubSpotRecord]]
    associations: dict[tuple[str, str], list[tuple[str, str, int, str | None]]]
    owners: list[dict[str, Any]]
    pipelines: dict[str, list[dict[str, Any]]]
    association_categories: dict[int, str] = field(default_factory=dict)
    users: list[dict[str, Any]] = field(default_factory=list)
    lists: dict[str, HubSpotList] = field(default_factory=dict)
    lost_associations: list[tuple[datetime, tuple[tuple[str, str], tuple[str, str, int, str | None]]]] = (
        field(default_factory=list)
    )


@dataclass(slots=True)
class IntercomWorkspace:
    """One Intercom workspace, each dict in the shape of API version 2.16, keyed by id.

    Conversations carry `source`, `contacts`, `statistics`, `conversation_rating` and `conversation_parts`
    in full, as `GET /conversations/{id}` answers; a search answers them without `conversation_parts`.
    Archived and merged contacts are not among the contacts: see `hub_pipeline.demo.intercom_life`.
    """

    contacts: dict[str, dict[str, Any]]
    companies: dict[str, dict[str, Any]]
    conversations: dict[str, dict[str, Any]]
    admins: dict[str, dict[str, Any]]
    teams: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, dict[str, Any]] = field(default_factory=dict)
    tickets: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class Company:
    """The demo company.

    `as_of` is the last closed day (time zone UTC), `now` the instant of the simulated read, `billing` maps
    paths such as `stripe/customers__2026-10-31__full.csv` to the bytes of the extract, `truth` holds the
    expected rows of the named lists.
    """

    seed: int
    as_of: date
    now: datetime
    hubspot: HubSpotAccount
    intercom: IntercomWorkspace
    billing: dict[str, bytes]
    truth: Truth
