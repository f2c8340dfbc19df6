"""What the raw tables of Intercom look like, and how a landed line becomes their rows."""

from __future__ import annotations

from hub_pipeline.warehouse.raw import RawStream

SOURCE = "intercom"
NAMES = ("workspace", "admins", "contacts", "companies", "conversations", "conversation_parts")


def streams() -> list[str]:
    """Names of all tables of ``raw_intercom``, known without asking Intercom."""
    return list(NAMES)


def _instant(value: str) -> str:
    """SQL: seconds since 1970 as TIMESTAMP in UTC; 0 and what is no number are NULL."""
    return f"make_timestamp(1000000 * NULLIF(TRY_CAST({value} AS BIGINT), 0))"


def workspace_stream() -> RawStream:
    """The workspace itself."""
    return RawStream(
        source=SOURCE,
        object="workspace",
        table="workspace",
        json_columns=dict.fromkeys(("id_code", "name", "timezone", "region"), "VARCHAR"),
        columns=dict.fromkeys(("id", "name", "time_zone", "region"), "VARCHAR"),
        select="r.id_code AS id, r.name AS name, r.timezone AS time_zone, r.region AS region",
        comment="The Intercom workspace that is read",
    )


def admins_stream() -> RawStream:
    """Teammates."""
    names = ("id", "name", "email", "job_title")
    return RawStream(
        source=SOURCE,
        object="admins",
        table="admins",
        json_columns=dict.fromkeys(names, "VARCHAR"),
        columns=dict.fromkeys(names, "VARCHAR"),
        select=", ".join(f"r.{name} AS {name}" for name in names),
        comment="Intercom teammates",
    )


def contacts_stream() -> RawStream:
    """Contacts with the ids of all their companies."""
    return RawStream(
        source=SOURCE,
        object="contacts",
        table="contacts",
        json_columns={
            **dict.fromkeys(
                ("id", "external_id", "email", "name", "role", "created_at", "updated_at"), "VARCHAR"
            ),
            "custom_attributes": "JSON",
            "companies": 'STRUCT("data" STRUCT("id" VARCHAR)[])',
        },
        columns={
            "id": "VARCHAR",
            "external_id": "VARCHAR",
            "email": "VARCHAR",
            "name": "VARCHAR",
            "role": "VARCHAR",
            "created_at": "TIMESTAMP",
            "updated_at": "TIMESTAMP",
            "custom_attributes": "VARCHAR",
            "companies": "VARCHAR[]",
        },
        select=(
            "r.id AS id, r.external_id AS external_id, r.email AS email, r.name AS name, r.role AS role, "
            f"{_instant('r.created_at')} AS created_at, {_instant('r.updated_at')} AS updated_at, "
            "CAST(r.custom_attributes AS VARCHAR) AS custom_attributes, "
            "list_sort(list_transform(r.companies.data, lambda c: c.id)) AS companies, "
            f"{_instant('r.updated_at')} AS _changed_at, {_instant('r.created_at')} AS _created_at"
        ),
        comment="Intercom contacts; companies holds Intercom's ids of all their companies",
    )


def companies_stream() -> RawStream:
    """Companies."""
    return RawStream(
        source=SOURCE,
        object="companies",
        table="companies",
        json_columns={
            **dict.fromkeys(("id", "company_id", "name", "created_at", "updated_at"), "VARCHAR"),
            "custom_attributes": "JSON",
        },
        columns={
            "id": "VARCHAR",
            "company_id": "VARCHAR",
            "name": "VARCHAR",
            "created_at": "TIMESTAMP",
            "updated_at": "TIMESTAMP",
            "custom_attributes": "VARCHAR",
        },
        select=(
            "r.id AS id, r.company_id AS company_id, r.name AS name, "
            f"{_instant('r.created_at')} AS created_at, {_instant('r.updated_at')} AS updated_at, "
            "CAST(r.custom_attributes AS VARCHAR) AS custom_attributes, "
            f"{_instant('r.updated_at')} AS _changed_at, {_instant('r.created_at')} AS _created_at"
        ),
        comment="Intercom companies; company_id is the id the customer's own system gave",
    )


def conversations_stream() -> RawStream:
    """Conversations without any text of a message."""
    changed, rated = _instant("r.updated_at"), _rated_at()
    return RawStream(
        source=SOURCE,
        object="conversations",
        table="conversations",
        json_columns={
            "id": "VARCHAR",
            "title": "VARCHAR",
            "state": "VARCHAR",
            "created_at": "BIGINT",
            "updated_at": "BIGINT",
            "contacts": 'STRUCT("contacts" STRUCT("id" VARCHAR)[])',
            "company": 'STRUCT("id" VARCHAR)',
            "conversation_rating": (
                'STRUCT("rating" INTEGER, "remark" VARCHAR, "created_at" BIGINT, "replied_at" BIGINT)'
            ),
            "statistics": 'STRUCT("last_contact_reply_at" BIGINT, "count_conversation_parts" INTEGER)',
        },
        columns={
            "id": "VARCHAR",
            "contact_id": "VARCHAR",
            "company_id": "VARCHAR",
            "state": "VARCHAR",
            "title": "VARCHAR",
            "rating": "INTEGER",
            "rated_at": "TIMESTAMP",
            "remark": "VARCHAR",
            "created_at": "TIMESTAMP",
            "updated_at": "TIMESTAMP",
            "last_contact_reply_at": "TIMESTAMP",
            "parts_count": "INTEGER",
        },
        select=(
            "r.id AS id, r.contacts.contacts[1].id AS contact_id, r.company.id AS company_id, "
            "r.state AS state, r.title AS title, r.conversation_rating.rating AS rating, "
            f"{rated} AS rated_at, r.conversation_rating.remark AS remark, "
            f"{_instant('r.created_at')} AS created_at, {changed} AS updated_at, "
            f"{_instant('r.statistics.last_contact_reply_at')} AS last_contact_reply_at, "
            "r.statistics.count_conversation_parts AS parts_count, "
            # It is not documented that a rating changes updated_at.
            f"greatest({changed}, {rated}) AS _changed_at, {_instant('r.created_at')} AS _created_at"
        ),
        comment="Intercom conversations; no text of any message is stored",
    )


def _rated_at() -> str:
    rating = "r.conversation_rating"
    return (
        f"CASE WHEN {rating}.rating IS NOT NULL THEN "
        f"{_instant(f'COALESCE({rating}.replied_at, {rating}.created_at)')} END"
    )


def conversation_parts_stream() -> RawStream:
    """Parts of conversations, one line each; part ``0`` is the message that opened the conversation."""
    return RawStream(
        source=SOURCE,
        object="conversation_parts",
        table="conversation_parts",
        json_columns={
            "conversation_id": "VARCHAR",
            "part_id": "VARCHAR",
            "author_type": "VARCHAR",
            "author_id": "VARCHAR",
            "part_type": "VARCHAR",
            "body_length": "BIGINT",
            "is_synthetic": "BOOLEAN",
            "created_at": "BIGINT",
        },
        columns={
            "conversation_id": "VARCHAR",
            "part_id": "VARCHAR",
            "author_type": "VARCHAR",
            "author_id": "VARCHAR",
            "part_type": "VARCHAR",
            "body_length": "BIGINT",
            "is_synthetic": "BOOLEAN",
            "created_at": "TIMESTAMP",
        },
        select=(
            "r.conversation_id AS conversation_id, r.part_id AS part_id, r.author_type AS author_type, "
            "r.author_id AS author_id, r.part_type AS part_type, r.body_length AS body_length, "
            f"r.is_synthetic AS is_synthetic, {_instant('r.created_at')} AS created_at, "
            f"{_instant('r.created_at')} AS _changed_at"
        ),
        key=("conversation_id", "part_id"),
        kind="events",
        snapshot=False,
        comment="Parts of Intercom conversations: who wrote when and how much, never what",
    )
