"""What the raw tables of Intercom look like, and how a landed line becomes their rows."""

from __future__ import annotations

from hub_pipeline.warehouse.raw import RawStream

SOURCE = "intercom"
NAMES = (
    "workspace",
    "admins",
    "teams",
    "tags",
    "contacts",
    "contact_merges",
    "companies",
    "conversations",
    "conversation_parts",
    "tickets",
)


def streams() -> list[str]:
    """Names of all tables of ``raw_intercom``, known without asking Intercom."""
    return list(NAMES)


def _instant(value: str) -> str:
    """SQL: seconds since 1970 as TIMESTAMP in UTC; 0 and what is no number are NULL."""
    return f"make_timestamp(1000000 * NULLIF(TRY_CAST({value} AS BIGINT), 0))"


def _end_of_second(value: str) -> str:
    """SQL: the end of a second, for what is the last thing that happens to a record in it."""
    return f"({_instant(value)} + INTERVAL 999999 MICROSECOND)"


def all_streams() -> list[RawStream]:
    """The streams of all tables, for whoever needs the tables before anything was read."""
    return [
        workspace_stream(),
        admins_stream(),
        teams_stream(),
        tags_stream(),
        contacts_stream(),
        companies_stream(),
        conversations_stream(),
        conversation_parts_stream(),
        tickets_stream(),
    ]


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


def teams_stream() -> RawStream:
    """Teams of teammates."""
    return RawStream(
        source=SOURCE,
        object="teams",
        table="teams",
        json_columns={"id": "VARCHAR", "name": "VARCHAR", "admin_ids": "VARCHAR[]"},
        columns={"id": "VARCHAR", "name": "VARCHAR", "admin_ids": "VARCHAR[]"},
        select="r.id AS id, r.name AS name, list_sort(r.admin_ids) AS admin_ids",
        comment="Intercom teams; admin_ids holds their members",
    )


def tags_stream() -> RawStream:
    """Tags."""
    return RawStream(
        source=SOURCE,
        object="tags",
        table="tags",
        json_columns={"id": "VARCHAR", "name": "VARCHAR"},
        columns={"id": "VARCHAR", "name": "VARCHAR"},
        select="r.id AS id, r.name AS name",
        comment="Intercom tags",
    )


def contacts_stream() -> RawStream:
    """Contacts with the ids of all their companies, and the contacts that were merged into them."""
    return RawStream(
        source=SOURCE,
        object="contacts",
        table="contacts",
        json_columns={
            **dict.fromkeys(("id", "external_id", "email", "name", "role", "owner_id"), "VARCHAR"),
            **dict.fromkeys(("created_at", "updated_at"), "BIGINT"),
            "custom_attributes": "JSON",
            "companies": 'STRUCT("data" STRUCT("id" VARCHAR)[])',
            "merge_history": 'STRUCT("source_contact_id" VARCHAR, "merged_at" BIGINT)[]',
        },
        columns={
            "id": "VARCHAR",
            "external_id": "VARCHAR",
            "email": "VARCHAR",
            "name": "VARCHAR",
            "role": "VARCHAR",
            "owner_id": "VARCHAR",
            "created_at": "TIMESTAMP",
            "updated_at": "TIMESTAMP",
            "custom_attributes": "VARCHAR",
            "companies": "VARCHAR[]",
        },
        select=(
            "r.id AS id, r.external_id AS external_id, r.email AS email, r.name AS name, r.role AS role, "
            "r.owner_id AS owner_id, "
            f"{_instant('r.created_at')} AS created_at, {_instant('r.updated_at')} AS updated_at, "
            "CAST(r.custom_attributes AS VARCHAR) AS custom_attributes, "
            "list_sort(list_transform(r.companies.data, lambda c: c.id)) AS companies, "
            f"{_instant('r.updated_at')} AS _changed_at, {_instant('r.created_at')} AS _created_at"
        ),
        also=(contact_merges_stream(), _merged_contacts_stream()),
        comment="Intercom contacts; companies holds Intercom's ids of all their companies",
    )


_MERGES = "landed AS r, unnest(r.merge_history) AS t(m)"


def contact_merges_stream() -> RawStream:
    """Which contact was merged into which, told by the one that remained."""
    return RawStream(
        source=SOURCE,
        object="contacts",
        table="contact_merges",
        json_columns={"id": "VARCHAR"},
        columns={"loser_id": "VARCHAR", "winner_id": "VARCHAR", "merged_at": "TIMESTAMP"},
        select=(
            f"m.source_contact_id AS loser_id, r.id AS winner_id, {_instant('m.merged_at')} AS merged_at, "
            f"{_instant('m.merged_at')} AS _changed_at"
        ),
        from_clause=_MERGES,
        key=("loser_id", "winner_id"),
        kind="events",
        snapshot=False,
        comment="Intercom contacts that were merged into another one",
    )


def _merged_contacts_stream() -> RawStream:
    """The end of the contacts that were merged away: no list names them any more."""
    return RawStream(
        source=SOURCE,
        object="contacts",
        table="contacts",
        json_columns={"id": "VARCHAR"},
        columns={"id": "VARCHAR"},
        select=f"m.source_contact_id AS id, r.id AS _merged_into, {_end_of_second('m.merged_at')} AS _changed_at",
        from_clause=_MERGES,
        snapshot=False,
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


_CONVERSATIONS = "Intercom conversations; no text of any message is stored"


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
            "admin_assignee_id": "VARCHAR",
            "team_assignee_id": "VARCHAR",
            "tags": 'STRUCT("tags" STRUCT("id" VARCHAR)[])',
            "conversation_rating": (
                'STRUCT("rating" INTEGER, "remark" VARCHAR, "created_at" BIGINT, "updated_at" BIGINT, '
                '"replied_at" BIGINT)'
            ),
            "statistics": 'STRUCT("last_contact_reply_at" BIGINT, "count_conversation_parts" INTEGER)',
        },
        columns={
            "id": "VARCHAR",
            "contact_id": "VARCHAR",
            "contact_ids": "VARCHAR[]",
            "company_id": "VARCHAR",
            "admin_assignee_id": "VARCHAR",
            "team_assignee_id": "VARCHAR",
            "tag_ids": "VARCHAR[]",
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
            "r.id AS id, r.contacts.contacts[1].id AS contact_id, "
            "list_transform(r.contacts.contacts, lambda c: c.id) AS contact_ids, r.company.id AS company_id, "
            "r.admin_assignee_id AS admin_assignee_id, r.team_assignee_id AS team_assignee_id, "
            "list_sort(list_transform(r.tags.tags, lambda c: c.id)) AS tag_ids, "
            "r.state AS state, r.title AS title, r.conversation_rating.rating AS rating, "
            f"{rated} AS rated_at, r.conversation_rating.remark AS remark, "
            f"{_instant('r.created_at')} AS created_at, {changed} AS updated_at, "
            f"{_instant('r.statistics.last_contact_reply_at')} AS last_contact_reply_at, "
            "r.statistics.count_conversation_parts AS parts_count, "
            # It is not documented that a rating changes updated_at.
            f"greatest({changed}, {rated}) AS _changed_at, {_instant('r.created_at')} AS _created_at"
        ),
        comment=_CONVERSATIONS,
    )


def _rated_at() -> str:
    """SQL: when a rating was given. Its created_at is when it was asked for, so that comes last."""
    rating = "r.conversation_rating"
    given = f"COALESCE({rating}.replied_at, {rating}.updated_at, {rating}.created_at)"
    return f"CASE WHEN {rating}.rating IS NOT NULL THEN {_instant(given)} END"


def deleted_conversations_stream() -> RawStream:
    """Conversations that were deleted: the end of their rows in ``conversations``."""
    return RawStream(
        source=SOURCE,
        object="deleted_conversations",
        table="conversations",
        json_columns={"id": "VARCHAR", "deleted_at": "BIGINT"},
        columns={"id": "VARCHAR"},
        select=f"r.id AS id, {_end_of_second('r.deleted_at')} AS _deleted_at",
        snapshot=False,
        comment=_CONVERSATIONS,
    )


def tickets_stream() -> RawStream:
    """Tickets without their descriptions and parts."""
    ids = ("id", "ticket_id", "category", "company_id", "admin_assignee_id", "team_assignee_id")
    changed = _instant("r.updated_at")
    return RawStream(
        source=SOURCE,
        object="tickets",
        table="tickets",
        json_columns={
            **dict.fromkeys(ids, "VARCHAR"),
            "ticket_type": 'STRUCT("id" VARCHAR, "name" VARCHAR)',
            "ticket_state": "JSON",
            "ticket_attributes": 'STRUCT("_default_title_" VARCHAR)',
            "contacts": 'STRUCT("contacts" STRUCT("id" VARCHAR)[])',
            "open": "BOOLEAN",
            "created_at": "BIGINT",
            "updated_at": "BIGINT",
        },
        columns={
            **dict.fromkeys(ids, "VARCHAR"),
            "type_id": "VARCHAR",
            "type_name": "VARCHAR",
            "state": "VARCHAR",
            "title": "VARCHAR",
            "contact_id": "VARCHAR",
            "contact_ids": "VARCHAR[]",
            "is_open": "BOOLEAN",
            "created_at": "TIMESTAMP",
            "updated_at": "TIMESTAMP",
        },
        select=(
            ", ".join(f"r.{name} AS {name}" for name in ids) + ", "
            "r.ticket_type.id AS type_id, r.ticket_type.name AS type_name, "
            "coalesce(r.ticket_state->>'category', r.ticket_state->>'$') AS state, "
            "r.ticket_attributes._default_title_ AS title, r.contacts.contacts[1].id AS contact_id, "
            "list_transform(r.contacts.contacts, lambda c: c.id) AS contact_ids, r.open AS is_open, "
            f"{_instant('r.created_at')} AS created_at, {changed} AS updated_at, "
            f"{changed} AS _changed_at, {_instant('r.created_at')} AS _created_at"
        ),
        comment="Intercom tickets; neither descriptions nor messages are stored",
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
