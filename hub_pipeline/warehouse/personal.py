"""What personal data the warehouse stores: the one place where it is declared.

`hub-pipeline pii` prints what of it is there; docs/privacy.md says who may read it and how long it stays. A test
holds it against the columns of all models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb

from hub_pipeline.warehouse.sql import ident, qualified

#: (schema, table, column, meaning) as regular expressions that match whole names; the first that matches counts.
DECLARED: tuple[tuple[str, str, str, str], ...] = (
    ("raw_hubspot", "contacts", r"(?!_).*", "a contact: every property HubSpot has of it"),
    ("raw_hubspot", "property_history.*", "value|source_id", "values that properties had, also of contacts"),
    (
        "raw_hubspot",
        "notes|tasks|emails|calls|meetings|communications|postal_mail|tickets",
        r"(?!_).*",
        "what was said, to whom",
    ),
    ("raw_hubspot", "feedback_submissions", r"(?!_).*", "a contact's answer to a survey"),
    ("raw_hubspot", "owners|users", "email|first_name|last_name|name", "a colleague"),
    ("raw_hubspot", ".*memberships.*", "record_id|id", "id of a contact on a list"),
    ("raw_hubspot", ".*", "(.*_)?(email|phone|mobilephone|fax)(_.*)?", "an address or number of somebody"),
    ("raw_intercom", "contacts", "external_id|email|name|custom_attributes", "an Intercom contact"),
    ("raw_intercom", "admins|teammates", "name|email", "a colleague"),
    (
        "raw_intercom",
        "conversations|tickets",
        "title|remark",
        "how a conversation or ticket is called, remark of a rating",
    ),
    ("raw_intercom", "contact_merges", "loser_id|winner_id", "id of an Intercom contact"),
    ("raw_intercom", "conversation_parts", "author_id", "id of an Intercom contact, colleague or bot"),
    ("raw_billing", ".*customers", "name|email|metadata|extra", "a customer, who may be a person"),
    (
        "raw_billing",
        "quarantine",
        "raw_line",
        "lines of extracts that were not believed, as they were written",
    ),
    ("raw_billing", ".*", ".*cancel.*comment|comment|description", "what a customer or colleague wrote"),
    (
        "raw_stripe",
        ".*",
        "payload|object|previous",
        "Stripe objects as JSON; of a customer name, e-mail address and country",
    ),
    ("raw_[a-z]+", ".*", "(.*_)?email(_.*)?", "an e-mail address"),
    ("inputs", "quarantine", "raw|line|raw_line|value", "lines of canonical files that were not believed"),
    (".*", ".*contacts", "email|name", "a contact"),
    (".*", ".*users", "email|name", "a colleague"),
    (".*", ".*", "contact_name", "name of a contact"),
    (".*", ".*", "owner_name|.*_owner_name", "name of a colleague"),
    (".*", ".*engagements", "subject", "subject of an e-mail, call, meeting or task"),
    (".*", ".*", "cancel_comment|comment|remark", "what a customer wrote"),
    (".*", ".*conversations", "title", "how a conversation is called"),
    (".*", ".*", "detractor_contacts|contact_ids", "ids of contacts"),
    (".*", ".*", "contact_id|subject_id", "id of a contact"),
)


@dataclass(frozen=True)
class PersonalData:
    """Columns of one table that hold personal data of one kind.

    Attributes:
        table: ``schema.table``.
        columns: names, in the order of the table.
        meaning: of whom and what.
        rows: rows in which any of the columns has a value.
    """

    table: str
    columns: tuple[str, ...]
    meaning: str
    rows: int


def meaning_of(schema: str, table: str, column: str) -> str | None:
    """What personal data a column holds; None if it holds none."""
    for schemas, tables, columns, meaning in DECLARED:
        if re.fullmatch(schemas, schema) and re.fullmatch(tables, table) and re.fullmatch(columns, column):
            return meaning
    return None


def stored(connection: duckdb.DuckDBPyConnection) -> list[PersonalData]:
    """Personal data in the tables of an open database, by table."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for schema, table, column in connection.execute(
        "SELECT c.schema_name, c.table_name, c.column_name FROM duckdb_columns() AS c "
        "JOIN duckdb_tables() AS t USING (database_name, schema_name, table_name) "
        "WHERE c.database_name = current_database() AND NOT t.temporary "
        "AND NOT starts_with(c.schema_name, '_') ORDER BY c.schema_name, c.table_name, c.column_index"
    ).fetchall():
        if meaning := meaning_of(schema, table, column):
            found.setdefault((schema, table, meaning), []).append(column)
    result = []
    for (schema, table, meaning), columns in found.items():
        any_value = " OR ".join(f"{ident(column)} IS NOT NULL" for column in columns)
        row = connection.execute(
            f"SELECT count(*) FROM {qualified(schema, table)} WHERE {any_value}"
        ).fetchone()
        result.append(PersonalData(f"{schema}.{table}", tuple(columns), meaning, int(row[0]) if row else 0))
    return result
