"""From a portal's own property names to the names the models know.

A HubSpot property is whatever a team called it, so the mapping is a setting and the views that apply it are made here,
outside the portable SQL:

* ``raw_hubspot.<object>_changes``: every value a mapped property with history was set to, when it was set, and when
  that became known (`property_history.changes_sql`).
* ``raw_hubspot.<object>_mapped``: one row for each record and instant at which something of it became known: the
  canonical columns with their types, the record's address and the bookkeeping columns. Columns with history show the
  value of then.
* ``raw_hubspot.<object>_unread``: values of today that do not fit the type or vocabulary of their column. They are
  NULL for the models, and counted, never guessed.
* ``raw_hubspot.organisations_timeline``: what each organisation pays for as its record says, billing or not
  (`hub_pipeline.warehouse.subscriptions`).
* ``raw_hubspot.merges_mapped``: which organisations are one.
* ``raw_hubspot.organisations_nps``, ``contacts_nps``: the answers that the NPS property of the records held.
* ``raw_hubspot.contacts_timeline``: lifecycle stage and lead status together, one row for each change of either.

A property that the portal does not have is a NULL column and is reported, because a risk model that needs it must not
answer "none at risk" (reliability 54).
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from hub_pipeline.settings import HISTORY_COLUMNS, NPS_COLUMNS, HubSpotObject, Settings
from hub_pipeline.warehouse.property_history import changes_sql, states_sql, timeline_sql, versions_sql
from hub_pipeline.warehouse.sql import ident, literal
from hub_pipeline.warehouse.subscriptions import (
    COLUMNS,
    answers_sql,
    currency,
    merged_sql,
    subscriptions_sql,
    vocabulary,
)

#: Type of each canonical column that is not text.
TYPES: dict[str, str] = {
    "members_active": "BIGINT",
    "pending_true_up_mrr": "DECIMAL(18,2)",
    "covered_from": "TIMESTAMP",
    "covered_seats": "BIGINT",
    "contract_from": "TIMESTAMP",
    "contract_to": "TIMESTAMP",
    "contract_amount": "DECIMAL(18,2)",
    "contract_seats": "BIGINT",
    "is_champion": "BOOLEAN",
    "left_at": "TIMESTAMP",
    "amount": "DECIMAL(18,2)",
    "created_at": "TIMESTAMP",
    "close_date": "TIMESTAMP",
    "is_closed": "BOOLEAN",
    "is_won": "BOOLEAN",
    "next_activity_at": "TIMESTAMP",
    "score": "DECIMAL(9,3)",
    "responded_at": "TIMESTAMP",
    "occurred_at": "TIMESTAMP",
    "seats": "BIGINT",
    "mrr": "DECIMAL(18,4)",
    "recurring_amount": "DECIMAL(18,4)",
    "started_at": "TIMESTAMP",
    "cancel_at": "TIMESTAMP",
    "cancel_requested_at": "TIMESTAMP",
    "term_start": "TIMESTAMP",
    "term_end": "TIMESTAMP",
    "nps_score": "DECIMAL(9,3)",
    "nps_responded_at": "TIMESTAMP",
}

#: Columns of ``<object>_mapped`` that show the value of then. Stage and close date of deals are not among them: they have
#: tables of their own, and is_closed and is_won, which HubSpot keeps no history of, must agree with the stage.
SHOWN_OF_THEN: dict[str, tuple[str, ...]] = {
    "organisations": (
        "tier_override",
        "owner_id",
        "health_override",
        "members_active",
        "pending_true_up_mrr",
        "covered_by_org_id",
        "covered_from",
        "covered_seats",
        "contract_kind",
        "contract_from",
        "contract_to",
        "contract_amount",
        "contract_seats",
    ),
    "contacts": ("lifecycle_stage", "lead_status", "owner_id"),
    "deals": ("amount", "owner_id"),
}

#: What the address of a record calls standard objects.
TYPE_IDS = {"contacts": "0-1", "companies": "0-2", "deals": "0-3", "tickets": "0-5"}

_NO_MERGES = (
    "SELECT CAST(NULL AS VARCHAR) AS id, CAST(NULL AS VARCHAR) AS same_as, CAST(NULL AS TIMESTAMP) AS known_at "
    "WHERE false"
)
_STATE = ("_changed_at", "_recorded_at", "_archived_at", "_deleted_at", "_merged_into")


@dataclass(frozen=True)
class MissingProperty:
    """A mapped property that the portal does not have."""

    object: str
    column: str
    property: str


def create_mapped_views(connection: duckdb.DuckDBPyConnection, settings: Settings) -> list[MissingProperty]:
    """(Re)create the views of every object the models read.

    An object that is not configured, or was never read, gives empty views, so that the models need no cases.

    Returns:
        Mapped properties that the portal's table does not have.
    """
    connection.execute("CREATE SCHEMA IF NOT EXISTS raw_hubspot")
    defaults = Settings().hubspot.objects
    tables = _tables(connection)
    portal = _portal_id(connection, settings, tables)
    missing: list[MissingProperty] = []
    for name in defaults.keys() | settings.hubspot.objects.keys():
        mapping = settings.hubspot.objects.get(name) or HubSpotObject(object_type=name)
        own = mapping.properties.keys()
        view = _View(
            name=name,
            canonical=tuple(sorted(defaults[name].properties.keys() | own if name in defaults else own)),
            sources={column: source for column, source in mapping.properties.items() if source},
            existing=tables.get(name, set()),
            address=(
                f"{settings.hubspot.app_address}/contacts/{portal}/record/"
                f"{TYPE_IDS.get(mapping.object_type, mapping.object_type)}/"
                if portal
                else None
            ),
            settings=settings,
        )
        missing += [
            MissingProperty(name, column, source)
            for column, source in view.sources.items()
            if view.existing and source not in view.existing
        ]
        if view.tracked is not None:
            _create(connection, f"{name}_changes", view.changes_sql("property_history" in tables))
        _create(connection, f"{name}_mapped", view.mapped_sql())
        _create(connection, f"{name}_unread", view.unread_sql())
    _create_timelines(connection, settings, tables)
    return sorted(missing, key=lambda m: (m.object, m.column))


def _create(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
    connection.execute(f"CREATE OR REPLACE VIEW raw_hubspot.{ident(name)} AS {select}")


def _create_timelines(
    connection: duckdb.DuckDBPyConnection, settings: Settings, tables: dict[str, set[str]]
) -> None:
    _create(connection, "contacts_timeline", _told("contacts", ("lifecycle_stage", "lead_status")))

    def read(column: str, kind: str) -> str:
        return cast(column, kind, settings.reporting_tz)

    _create(
        connection,
        "organisations_nps",
        answers_sql(_told("organisations", NPS_COLUMNS, ("nps_score", "nps_responded_at")), read),
    )
    _create(
        connection,
        "contacts_nps",
        answers_sql(_told("contacts", NPS_COLUMNS, ("nps_score", "nps_responded_at")), read, "contact"),
    )
    _create(connection, "merges_mapped", merged_sql() if "merges" in tables else _NO_MERGES)
    if "organisations" in tables:
        _create(connection, "organisations_timeline", subscriptions_sql(settings, read))
    else:
        nothing = ", ".join(f"CAST(NULL AS {kind}) AS {ident(column)}" for column, kind in COLUMNS.items())
        _create(connection, "organisations_timeline", f"SELECT {nothing} WHERE false")


def _told(name: str, columns: tuple[str, ...], dated: tuple[str, ...] = ()) -> str:
    names = ", ".join(map(literal, columns))
    cells = (
        "SELECT id, column_name, value, effective_at, recorded_at "
        f"FROM raw_hubspot.{ident(name + '_changes')} WHERE column_name IN ({names})"
    )
    return f"SELECT * FROM ({timeline_sql(cells, columns, dated)}) WHERE is_told"


@dataclass(frozen=True)
class _View:
    """What the views of one object are made of.

    Attributes:
        name: of the object.
        canonical: its canonical columns.
        sources: canonical column -> HubSpot property, where one is mapped.
        existing: columns of its raw table; empty if it was never read.
        address: start of the addresses of its records.
    """

    name: str
    canonical: tuple[str, ...]
    sources: dict[str, str]
    existing: set[str]
    address: str | None
    settings: Settings

    @property
    def tracked(self) -> dict[str, str] | None:
        """Canonical column with history -> property; None if the models need no history of this object."""
        columns = HISTORY_COLUMNS.get(self.name)
        return None if columns is None else {c: self.sources[c] for c in columns if c in self.sources}

    def changes_sql(self, has_history: bool) -> str:
        """The SELECT of ``<object>_changes``, with the value read as an instant and as a number."""
        zone = self.settings.reporting_tz
        changes = changes_sql(self.name, self.tracked or {}, self.existing, has_history)
        return (
            f"SELECT *, {cast('value', 'TIMESTAMP', zone)} AS instant, {cast('value', 'DECIMAL(18,4)', zone)} AS number "
            f"FROM ({changes})"
        )

    def _shown(self) -> list[str]:
        """Columns whose value of then is told by the history."""
        columns = SHOWN_OF_THEN.get(self.name, ())
        return [column for column in columns if self.sources.get(column) in self.existing]

    def _text(self, column: str) -> str:
        """SQL: the text of a column as it was sent; NULL if it is not mapped or the portal does not have it."""
        source = self.sources.get(column)
        return ident(source) if source in self.existing else "CAST(NULL AS VARCHAR)"

    def mapped_sql(self) -> str:
        """The SELECT of ``<object>_mapped``."""
        if not self.existing:
            versions = (
                "(SELECT CAST(NULL AS VARCHAR) AS id, CAST(NULL AS TIMESTAMP) AS created_at WHERE false)"
            )
            state = ", ".join(
                f"CAST(NULL AS {'VARCHAR' if c == '_merged_into' else 'TIMESTAMP'}) AS {c}" for c in _STATE
            )
            return f"SELECT {self._selected({}, 'v.')}, {state} FROM {versions} AS v"
        shown = self._shown()
        if not shown:
            return f"SELECT {self._selected({}, 'v.')}, {', '.join(_STATE)} FROM ({versions_sql(self.name)}) AS v"
        state = ", ".join(f"v.{c}" for c in ("_archived_at", "_deleted_at", "_merged_into"))
        return f"""
        WITH versions AS ({versions_sql(self.name)}),
        states AS ({states_sql(self.name, shown)}),
        points AS (SELECT id, _recorded_at AS at FROM versions UNION SELECT id, recorded_at FROM states)
        SELECT {self._selected({c: "s." + ident(c) for c in shown}, "v.")},
            CASE WHEN p.at > v._recorded_at THEN s.changed_at ELSE v._changed_at END AS _changed_at,
            p.at AS _recorded_at, {state}
        FROM points AS p
        ASOF JOIN versions AS v ON v.id = p.id AND v._recorded_at <= p.at
        ASOF LEFT JOIN states AS s ON s.id = p.id AND s.recorded_at <= p.at"""

    def _selected(self, texts: dict[str, str], prefix: str) -> str:
        columns = [f"{prefix}id AS id"]
        columns.append(
            "CAST(NULL AS VARCHAR) AS record_url"
            if self.address is None
            else f"{literal(self.address)} || {prefix}id AS record_url"
        )
        for column in self.canonical:
            source = self.sources.get(column)
            known = prefix + ident(source) if source in self.existing else "CAST(NULL AS VARCHAR)"
            kind = TYPES.get(column, "VARCHAR")
            value = cast(texts.get(column, known), kind, self.settings.reporting_tz)
            columns.append(f"{value} AS {ident(column)}")
        if "created_at" not in self.canonical:
            columns.append(f"{prefix}created_at AS created_at")
        return ", ".join(columns)

    def unread_sql(self) -> str:
        """The SELECT of ``<object>_unread``: id, column_name, property, value; of records that are still there."""
        readable = {
            c: f"{cast(self._text(c), TYPES[c], 'UTC')} IS NOT NULL" for c in self.canonical if c in TYPES
        }
        if self.name == "contacts":
            readable["nps_score"] = _is_score(self._text("nps_score"))
        if self.name == "organisations":
            hubspot = self.settings.hubspot
            text = {
                c: self._text(c) for c in ("billing_interval", "subscription_status", "currency", "nps_score")
            }
            readable |= {
                "billing_interval": f"{vocabulary(text['billing_interval'], hubspot.billing_intervals)} IS NOT NULL",
                "subscription_status": (
                    f"{vocabulary(text['subscription_status'], hubspot.subscription_statuses)} IS NOT NULL"
                ),
                "currency": f"{currency(text['currency'])} IS NOT NULL",
                "nps_score": _is_score(text["nps_score"]),
            }
        cells = [
            f"{{'column_name': {literal(c)}, 'property': {literal(self.sources[c])}, 'value': trim({self._text(c)}), "
            f"'is_read': {condition}}}"
            for c, condition in sorted(readable.items())
            if self.sources.get(c) in self.existing
        ]
        if not cells:
            return (
                "SELECT CAST(NULL AS VARCHAR) AS id, CAST(NULL AS VARCHAR) AS column_name, "
                "CAST(NULL AS VARCHAR) AS property, CAST(NULL AS VARCHAR) AS value WHERE false"
            )
        return f"""
        SELECT v.id, c.cell.column_name, c.cell.property, c.cell.value
        FROM (
            SELECT * FROM raw_hubspot.{ident(self.name)} QUALIFY row_number() OVER (
                PARTITION BY id ORDER BY _changed_at DESC, _recorded_at DESC, _run_id DESC) = 1) AS v,
            unnest([{", ".join(cells)}]) AS c(cell)
        WHERE c.cell.value <> '' AND NOT c.cell.is_read
            AND v._archived_at IS NULL AND v._deleted_at IS NULL AND v._merged_into IS NULL"""


def _is_score(text: str) -> str:
    """SQL: whether a text is an NPS score, a whole number from 0 to 10."""
    score = cast(text, TYPES["nps_score"], "UTC")
    return f"coalesce({score} IN ({', '.join(map(str, range(11)))}), false)"


def cast(value: str, kind: str, zone: str) -> str:
    """SQL that reads HubSpot's text as a type; what does not fit is NULL (the text stays in the raw table).

    HubSpot sends instants as ISO 8601 with Z and, in some properties, as milliseconds since 1970. A date without a
    time is local 00:00 in the zone.
    """
    if kind == "VARCHAR":
        return f"NULLIF(trim({value}), '')"
    if kind == "TIMESTAMP":
        day = (
            f"CASE WHEN regexp_full_match(trim({value}), '\\d{{4}}-\\d{{2}}-\\d{{2}}') THEN "
            f"CAST(TRY_CAST(trim({value}) AS DATE) AS TIMESTAMP) AT TIME ZONE {literal(zone)} END"
        )
        milliseconds = f"CASE WHEN regexp_full_match(trim({value}), '\\d{{11,14}}') THEN CAST(trim({value}) AS BIGINT) END"
        # By way of TIMESTAMPTZ: a direct cast drops an offset other than Z.
        instant = f"coalesce({day}, TRY_CAST({value} AS TIMESTAMPTZ)) AT TIME ZONE 'UTC'"
        return f"coalesce({instant}, make_timestamp(1000 * {milliseconds}))"
    if kind == "BOOLEAN":
        return f"CASE lower(trim({value})) WHEN 'true' THEN true WHEN 'false' THEN false END"
    if kind == "BIGINT":
        whole = f"CASE WHEN regexp_full_match(trim({value}), '-?\\d{{1,15}}(\\.0+)?') THEN trim({value}) END"
        return f"TRY_CAST(split_part({whole}, '.', 1) AS BIGINT)"
    number = f"CASE WHEN regexp_full_match(trim({value}), '-?\\d{{1,15}}(\\.\\d+)?') THEN trim({value}) END"
    return f"TRY_CAST({number} AS {kind})"


def _tables(connection: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    """Table or view of ``raw_hubspot`` -> its columns."""
    rows = connection.execute(
        "SELECT table_name, list(column_name) FROM duckdb_columns() WHERE schema_name = 'raw_hubspot' GROUP BY ALL"
    ).fetchall()
    return {table: set(columns) for table, columns in rows}


def _portal_id(
    connection: duckdb.DuckDBPyConnection, settings: Settings, tables: dict[str, set[str]]
) -> str | None:
    if settings.hubspot.portal_id is not None:
        return settings.hubspot.portal_id
    if "portal_id" not in tables.get("account", ()):
        return None
    row = connection.execute("SELECT max(portal_id) FROM raw_hubspot.account").fetchone()
    return None if row is None else row[0]
