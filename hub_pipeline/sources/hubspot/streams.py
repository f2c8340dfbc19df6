"""What the raw tables of HubSpot look like, and how a landed line becomes their rows.

An object has one text column for each of its properties under HubSpot's own name: what a value means is decided
downstream, so a value that does not fit its type is never lost. Names that would clash get another: ``id`` becomes
``property_id`` (as do our other columns), and of two properties that differ only in case the younger one gets
``__2``, so that a property which is added takes nobody's column away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hub_pipeline.settings import HubSpotObject, Settings
from hub_pipeline.sources.hubspot.client import PropertyDefinition
from hub_pipeline.warehouse.raw import RawStream
from hub_pipeline.warehouse.sql import ident, literal

SOURCE = "hubspot"
MERGED_IDS = "hs_merged_object_ids"
#: Streams beside the configured objects, in the order in which they are read.
REFERENCE = ("account", "owners", "users", "pipelines", "properties", "associations")
#: Streams of the lists (segments) that the settings name.
LISTS = ("lists", "list_memberships")
#: Tables filled from the files of other streams.
DERIVED = ("property_history", "merges", "owner_teams")
#: Properties that are read whatever the settings choose: what a record is, when it changed, what was merged into it.
ALWAYS_READ = frozenset(
    {
        "hs_object_id",
        MERGED_IDS,
        "createdate",
        "hs_createdate",
        "lastmodifieddate",
        "hs_lastmodifieddate",
    }
)

_OURS = {
    "id",
    "created_at",
    "updated_at",
    "_changed_at",
    "_recorded_at",
    "_archived_at",
    "_deleted_at",
    "_merged_into",
    "_hash",
    "_run_id",
}


def object_names(settings: Settings) -> list[str]:
    """Names under which `extract` yields streams: the configured objects, then reference data."""
    return [*settings.hubspot.objects, *_reference(settings)]


def streams(settings: Settings) -> list[str]:
    """Names of all tables of ``raw_hubspot``, known without asking HubSpot."""
    return [*settings.hubspot.objects, *DERIVED, *_reference(settings)]


def _reference(settings: Settings) -> tuple[str, ...]:
    left_out = set() if settings.hubspot.users else {"users"}
    lists = LISTS if settings.hubspot.lists else ()
    return (*(name for name in REFERENCE if name not in left_out), *lists)


def properties_to_read(config: HubSpotObject, known: Iterable[str]) -> list[str]:
    """Which of the properties the portal has are read of an object, in the order in which they are given.

    All of them, or with ``read_properties`` those that it names, those the mapping and the history name, and
    `ALWAYS_READ`.
    """
    if not config.read_properties:
        return list(known)
    chosen = {*config.read_properties, *config.properties.values(), *config.history, *ALWAYS_READ}
    return [name for name in known if name in chosen]


def oldest_first(definitions: Iterable[PropertyDefinition]) -> list[str]:
    """Names of the properties that are not archived, in the order in which they get their columns."""
    live = [d for d in definitions if not d.archived]
    return [d.name for d in sorted(live, key=lambda d: (d.createdAt or "", d.name))]


def utc(value: str) -> str:
    """SQL: an ISO 8601 text as TIMESTAMP in UTC, NULL if it is none.

    By way of TIMESTAMPTZ, because DuckDB 2.0 casts ``12:00+02:00`` to the TIMESTAMP 12:00, dropping the offset.
    """
    return f"(TRY_CAST({value} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"


def property_columns(properties: Iterable[str]) -> dict[str, str]:
    """Property -> column, by name; of two that clash the one given first (the older) keeps its name."""
    taken = set(_OURS)
    columns: dict[str, str] = {}
    for name in properties:
        column = f"property_{name}" if name.casefold() in _OURS else name
        base, number = column, 1
        while column.casefold() in taken:
            number += 1
            column = f"{base}__{number}"
        taken.add(column.casefold())
        columns[name] = column
    return dict(sorted(columns.items()))


def object_stream(name: str, properties: Sequence[str], history: Sequence[str]) -> RawStream:
    """Records of one object: live and archived ones alike, each line as the objects API gives it."""
    columns = property_columns(properties)
    if len({p.casefold() for p in properties}) == len(properties):
        fields = ", ".join(f"{ident(p)} VARCHAR" for p in columns)
        kind = f"STRUCT({fields})" if fields else "MAP(VARCHAR, VARCHAR)"
        values = {p: f"r.properties.{ident(p)}" for p in columns} if fields else {}
    else:  # field names of a STRUCT ignore case, keys of a MAP do not
        kind = "MAP(VARCHAR, VARCHAR)"
        values = {p: f"r.properties[{literal(p)}]" for p in columns}
    merged_kind = f"STRUCT({ident(MERGED_IDS)} VARCHAR)" if kind.startswith("STRUCT") else kind
    json_columns = {
        "id": "VARCHAR",
        "createdAt": "VARCHAR",
        "updatedAt": "VARCHAR",
        "archived": "BOOLEAN",
        "archivedAt": "VARCHAR",
        "properties": kind,
    }
    created, updated = utc("r.createdAt"), utc("r.updatedAt")
    archived = f"CASE WHEN r.archived THEN COALESCE({utc('r.archivedAt')}, {updated}) END"
    also: list[RawStream] = []
    if history:
        also.append(_history_stream(name))
    if MERGED_IDS in values:
        also.append(_merges_stream(name, merged_kind, values[MERGED_IDS]))
    return RawStream(
        source=SOURCE,
        object=name,
        table=name,
        json_columns=json_columns,
        columns={
            "id": "VARCHAR",
            "created_at": "TIMESTAMP",
            "updated_at": "TIMESTAMP",
            **dict.fromkeys(columns.values(), "VARCHAR"),
        },
        select=", ".join(
            [
                "r.id AS id",
                f"{created} AS created_at",
                f"{updated} AS updated_at",
                *(f"{values[p]} AS {ident(column)}" for p, column in columns.items()),
                # Archiving does not change updatedAt, but it is a change.
                f"greatest({updated}, {archived}) AS _changed_at",
                f"{created} AS _created_at",
                f"{archived} AS _archived_at",
            ]
        ),
        also=tuple(also),
        comment=f"HubSpot {name}: versions of each record, a column for each property under HubSpot's own name",
    )


def _history_stream(name: str) -> RawStream:
    version = 'STRUCT("value" VARCHAR, "timestamp" VARCHAR, "sourceType" VARCHAR, "sourceId" VARCHAR)'
    return RawStream(
        source=SOURCE,
        object=name,
        table="property_history",
        json_columns={"id": "VARCHAR", "propertiesWithHistory": f"MAP(VARCHAR, {version}[])"},
        columns={
            "object": "VARCHAR",
            "id": "VARCHAR",
            "property": "VARCHAR",
            "changed_at": "TIMESTAMP",
            "value": "VARCHAR",
            "source_type": "VARCHAR",
            "source_id": "VARCHAR",
        },
        select=(
            f"{literal(name)} AS object, r.id AS id, h.entry.key AS property, "
            f"{utc('v.version.timestamp')} AS changed_at, COALESCE(v.version.value, '') AS value, "
            "v.version.sourceType AS source_type, v.version.sourceId AS source_id, "
            f"{utc('v.version.timestamp')} AS _changed_at"
        ),
        from_clause=(
            "landed AS r, unnest(map_entries(r.propertiesWithHistory)) AS h(entry), "
            "unnest(h.entry.value) AS v(version)"
        ),
        key=("object", "id", "property", "changed_at", "value"),
        kind="events",
        snapshot=False,
        comment="Values that chosen HubSpot properties had, kept beyond HubSpot's own truncation",
    )


def _merges_stream(name: str, properties: str, merged: str) -> RawStream:
    return RawStream(
        source=SOURCE,
        object=name,
        table="merges",
        json_columns={"id": "VARCHAR", "properties": properties},
        columns={"object": "VARCHAR", "loser_id": "VARCHAR", "winner_id": "VARCHAR"},
        select=f"{literal(name)} AS object, trim(m.loser) AS loser_id, r.id AS winner_id",
        from_clause=f"landed AS r, unnest(string_split({merged}, ';')) AS m(loser) WHERE trim(m.loser) <> ''",
        key=("object", "loser_id", "winner_id"),
        kind="events",
        snapshot=False,
        merges=name,
        comment="Merges of HubSpot records, from hs_merged_object_ids; a winner may itself have been merged",
    )


def account_stream() -> RawStream:
    """The portal itself."""
    return RawStream(
        source=SOURCE,
        object="account",
        table="account",
        json_columns={
            "portalId": "VARCHAR",
            "timeZone": "VARCHAR",
            "companyCurrency": "VARCHAR",
            "uiDomain": "VARCHAR",
        },
        columns={
            "portal_id": "VARCHAR",
            "time_zone": "VARCHAR",
            "currency": "VARCHAR",
            "ui_domain": "VARCHAR",
        },
        select=(
            "r.portalId AS portal_id, r.timeZone AS time_zone, r.companyCurrency AS currency, "
            "r.uiDomain AS ui_domain"
        ),
        key=("portal_id",),
        comment="The HubSpot account that is read",
    )


def owners_stream() -> RawStream:
    """Owners, deactivated ones included. Changes of teams leave updatedAt alone, so the day of the run dates them."""
    team = 'STRUCT("id" VARCHAR, "name" VARCHAR, "primary" BOOLEAN)'
    return RawStream(
        source=SOURCE,
        object="owners",
        table="owners",
        json_columns={
            "id": "VARCHAR",
            "userId": "VARCHAR",
            "userIdIncludingInactive": "VARCHAR",
            "email": "VARCHAR",
            "firstName": "VARCHAR",
            "lastName": "VARCHAR",
            "archived": "BOOLEAN",
            "createdAt": "VARCHAR",
            "updatedAt": "VARCHAR",
            "teams": f"{team}[]",
        },
        columns={
            "id": "VARCHAR",
            "user_id": "VARCHAR",
            "email": "VARCHAR",
            "first_name": "VARCHAR",
            "last_name": "VARCHAR",
            "teams": "VARCHAR",
            "archived": "BOOLEAN",
            "created_at": "TIMESTAMP",
            "updated_at": "TIMESTAMP",
        },
        select=(
            "r.id AS id, COALESCE(r.userId, r.userIdIncludingInactive) AS user_id, r.email AS email, "
            "r.firstName AS first_name, r.lastName AS last_name, "
            'COALESCE(list_filter(r.teams, lambda t: t."primary")[1].name, r.teams[1].name) AS teams, '
            "COALESCE(r.archived, false) AS archived, "
            f"{utc('r.createdAt')} AS created_at, {utc('r.updatedAt')} AS updated_at, "
            f"{utc('r.createdAt')} AS _created_at"
        ),
        also=(_owner_teams_stream(),),
        comment="HubSpot owners, deactivated ones included; teams is the name of the primary team",
    )


def _owner_teams_stream() -> RawStream:
    return RawStream(
        source=SOURCE,
        object="owners",
        table="owner_teams",
        json_columns={},
        columns={
            "owner_id": "VARCHAR",
            "team_id": "VARCHAR",
            "team_name": "VARCHAR",
            "is_primary": "BOOLEAN",
        },
        select=(
            "r.id AS owner_id, t.team.id AS team_id, t.team.name AS team_name, "
            'COALESCE(t.team."primary", false) AS is_primary'
        ),
        from_clause="landed AS r, unnest(r.teams) AS t(team) WHERE t.team.id IS NOT NULL",
        key=("owner_id", "team_id"),
        guarded=False,
        comment="Every team of every HubSpot owner; a membership that ended keeps its row with _deleted_at",
    )


def users_stream() -> RawStream:
    """Users of the portal, with the teams and roles they have now."""
    return RawStream(
        source=SOURCE,
        object="users",
        table="users",
        json_columns={
            "id": "VARCHAR",
            "email": "VARCHAR",
            "firstName": "VARCHAR",
            "lastName": "VARCHAR",
            "primaryTeamId": "VARCHAR",
            "secondaryTeamIds": "VARCHAR[]",
            "roleIds": "VARCHAR[]",
            "superAdmin": "BOOLEAN",
        },
        columns={
            "id": "VARCHAR",
            "email": "VARCHAR",
            "first_name": "VARCHAR",
            "last_name": "VARCHAR",
            "primary_team_id": "VARCHAR",
            "secondary_team_ids": "VARCHAR[]",
            "role_ids": "VARCHAR[]",
            "is_super_admin": "BOOLEAN",
        },
        select=(
            "r.id AS id, r.email AS email, r.firstName AS first_name, r.lastName AS last_name, "
            "r.primaryTeamId AS primary_team_id, list_sort(r.secondaryTeamIds) AS secondary_team_ids, "
            "list_sort(r.roleIds) AS role_ids, r.superAdmin AS is_super_admin"
        ),
        comment="Users of the HubSpot account; an owner's user_id is the id here",
    )


def lists_stream(list_ids: Sequence[str]) -> RawStream:
    """Definitions of the chosen lists; one that was deleted in HubSpot keeps its row."""
    return RawStream(
        source=SOURCE,
        object="lists",
        table="lists",
        json_columns={
            "listId": "VARCHAR",
            "name": "VARCHAR",
            "objectTypeId": "VARCHAR",
            "processingType": "VARCHAR",
            "createdAt": "VARCHAR",
            "updatedAt": "VARCHAR",
        },
        columns={
            "id": "VARCHAR",
            "name": "VARCHAR",
            "object_type_id": "VARCHAR",
            "processing_type": "VARCHAR",
            "created_at": "TIMESTAMP",
            "updated_at": "TIMESTAMP",
        },
        select=(
            "r.listId AS id, r.name AS name, r.objectTypeId AS object_type_id, "
            f"r.processingType AS processing_type, {utc('r.createdAt')} AS created_at, "
            f"{utc('r.updatedAt')} AS updated_at, {utc('r.createdAt')} AS _created_at"
        ),
        snapshot_where=_one_of("id", list_ids),
        guarded=False,
        comment="The HubSpot lists (segments) whose members are read",
    )


def list_memberships_stream(list_ids: Sequence[str]) -> RawStream:
    """Members of the chosen lists, as of each run; who left keeps the row."""
    return RawStream(
        source=SOURCE,
        object="list_memberships",
        table="list_memberships",
        json_columns={
            "list_id": "VARCHAR",
            "row": 'STRUCT("recordId" VARCHAR, "membershipTimestamp" VARCHAR)',
        },
        columns={"list_id": "VARCHAR", "record_id": "VARCHAR", "member_since": "TIMESTAMP"},
        select=(
            f"r.list_id AS list_id, r.row.recordId AS record_id, {utc('r.row.membershipTimestamp')} AS member_since"
        ),
        key=("list_id", "record_id"),
        snapshot_where=_one_of("list_id", list_ids),
        guarded=False,
        comment="Members of chosen HubSpot lists; leaving a list is dated by the run that no longer saw the member",
    )


def _one_of(column: str, values: Sequence[str]) -> str:
    return f"{ident(column)} IN ({', '.join(map(literal, values)) or 'NULL'})"


def pipelines_stream(objects: Sequence[str]) -> RawStream:
    """Stages of all pipelines of the given objects; a stage that is deleted in HubSpot keeps its row here."""
    stage = (
        'STRUCT("id" VARCHAR, "label" VARCHAR, "displayOrder" BIGINT, "createdAt" VARCHAR, '
        '"metadata" STRUCT("probability" VARCHAR, "isClosed" VARCHAR))'
    )
    pipeline = (
        'STRUCT("id" VARCHAR, "label" VARCHAR, "displayOrder" BIGINT, "createdAt" VARCHAR, '
        f'"stages" {stage}[])'
    )
    return RawStream(
        source=SOURCE,
        object="pipelines",
        table="pipelines",
        json_columns={"object": "VARCHAR", "row": pipeline},
        columns={
            "object": "VARCHAR",
            "pipeline_id": "VARCHAR",
            "stage_id": "VARCHAR",
            "pipeline_label": "VARCHAR",
            "stage_label": "VARCHAR",
            "display_order": "BIGINT",
            "probability": "VARCHAR",
            "is_closed": "VARCHAR",
        },
        select=(
            "r.object AS object, r.row.id AS pipeline_id, s.stage.id AS stage_id, "
            "r.row.label AS pipeline_label, s.stage.label AS stage_label, s.stage.displayOrder AS display_order, "
            "s.stage.metadata.probability AS probability, s.stage.metadata.isClosed AS is_closed, "
            f"COALESCE({utc('s.stage.createdAt')}, {utc('r.row.createdAt')}) AS _created_at"
        ),
        from_clause="landed AS r, unnest(r.row.stages) AS s(stage)",
        key=("object", "pipeline_id", "stage_id"),
        snapshot_where=_one_of("object", objects),
        comment="Stages of HubSpot pipelines, deleted ones included",
    )


def properties_stream(objects: Sequence[str]) -> RawStream:
    """Definitions of all properties of the given objects: the log of what the portal's schema was."""
    definition = (
        'STRUCT("name" VARCHAR, "label" VARCHAR, "type" VARCHAR, "fieldType" VARCHAR, "groupName" VARCHAR, '
        '"description" VARCHAR, "calculated" BOOLEAN, "options" JSON, "createdAt" VARCHAR)'
    )
    return RawStream(
        source=SOURCE,
        object="properties",
        table="properties",
        json_columns={"object": "VARCHAR", "row": definition},
        columns={
            "object": "VARCHAR",
            "name": "VARCHAR",
            "label": "VARCHAR",
            "type": "VARCHAR",
            "field_type": "VARCHAR",
            "group_name": "VARCHAR",
            "description": "VARCHAR",
            "calculated": "BOOLEAN",
            "options": "VARCHAR",
            "created_at": "TIMESTAMP",
        },
        select=(
            "r.object AS object, r.row.name AS name, r.row.label AS label, r.row.type AS type, "
            "r.row.fieldType AS field_type, r.row.groupName AS group_name, r.row.description AS description, "
            "r.row.calculated AS calculated, CAST(r.row.options AS VARCHAR) AS options, "
            f"{utc('r.row.createdAt')} AS created_at, {utc('r.row.createdAt')} AS _created_at"
        ),
        key=("object", "name"),
        snapshot_where=_one_of("object", objects),
        comment="Definitions of HubSpot properties",
    )


def associations_stream(pairs: Sequence[tuple[str, str]]) -> RawStream:
    """Associations of the given pairs of objects; a pair that could not be read keeps what was known of it."""
    kind = 'STRUCT("category" VARCHAR, "typeId" BIGINT, "label" VARCHAR)'
    target = f'STRUCT("toObjectId" VARCHAR, "associationTypes" {kind}[])'
    scope = " OR ".join(
        f"(from_object = {literal(source)} AND to_object = {literal(target_object)})"
        for source, target_object in pairs
    )
    return RawStream(
        source=SOURCE,
        object="associations",
        table="associations",
        json_columns={
            "from_object": "VARCHAR",
            "to_object": "VARCHAR",
            "row": f'STRUCT("from" STRUCT("id" VARCHAR), "to" {target}[])',
        },
        columns={
            "from_object": "VARCHAR",
            "from_id": "VARCHAR",
            "to_object": "VARCHAR",
            "to_id": "VARCHAR",
            "type_id": "BIGINT",
            "category": "VARCHAR",
            "label": "VARCHAR",
        },
        select=(
            'r.from_object AS from_object, r.row."from".id AS from_id, r.to_object AS to_object, '
            "t.target.toObjectId AS to_id, k.kind.typeId AS type_id, k.kind.category AS category, "
            "k.kind.label AS label"
        ),
        from_clause=(
            'landed AS r, unnest(r.row."to") AS t(target), unnest(t.target.associationTypes) AS k(kind)'
        ),
        key=("from_object", "from_id", "to_object", "to_id", "type_id"),
        snapshot_where=scope or "false",
        comment="Associations between HubSpot records, one row for each label",
    )
