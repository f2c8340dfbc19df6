"""Erasing persons from every layer: raw, landing, what is computed from them, the published file, Dagster's history.

What is a person's own is removed: the HubSpot contact with its history, associations and merges (records merged into
it or that it was merged into are the same person), answers and engagements that belong to nobody else among the
contacts, the Intercom contacts with its e-mail addresses (and those merged with them), their conversations and tickets.
What it shares with others is kept: an engagement, conversation or ticket loses its text, and wherever else one of its
addresses stands, ``[erased]`` stands instead; in what Stripe and billing say of that customer, for its name too. Accounts
of colleagues (HubSpot owners and users, Intercom teammates) are left alone.

The order makes a repeated attempt complete what was cut off: tombstones, landing files, rows made of what Stripe said,
the published file, Dagster's
history, and last the tables of the build file, which tell who the person was; then the build file is written anew
(`hub_pipeline.warehouse.rewrite`).
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from hub_pipeline.errors import WarehouseError
from hub_pipeline.settings import OF_PERSONS
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.crashpoints import crash_point
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.history import clean_history
from hub_pipeline.warehouse.landing import fsync_folder
from hub_pipeline.warehouse.lock import Fence
from hub_pipeline.warehouse.publish import publish_copy
from hub_pipeline.warehouse.scrub import ERASED, Person, scrub_landing
from hub_pipeline.warehouse.sql import glob_escape, ident, literal, qualified
from hub_pipeline.warehouse.tombstones import Reason, Tombstones

CONTACTS = "contacts"
#: HubSpot objects that are about a conversation with contacts, or a contact's answer.
ENGAGEMENTS = tuple(name for name in OF_PERSONS.values() if name != CONTACTS)
_CONTACT_LISTS = "SELECT id FROM raw_hubspot.lists WHERE object_type_id = '0-1'"
_REPLACEMENT = rf"\1{ERASED}\2"
#: Accounts of colleagues; the books.
_LEFT_ALONE = {
    "raw_hubspot.owners",
    "raw_hubspot.users",
    "raw_intercom.admins",
    "inputs.users",
    "staging.users",
    "intermediate.current_users",
}
_BOOKS = ("_ledger", "information_schema", "pg_catalog")
#: Properties of an engagement that are its text or its addressees.
_TEXT = re.compile(
    r"subject|body|title|text|html|_to_|_from_|_cc_|_bcc_|headers|name|email$|content|preview|number|recording|"
    r"transcript|comment|location"
)


@dataclass(frozen=True)
class Erasure:
    """What one erasure removed.

    Attributes:
        persons: HubSpot contacts, or addresses without one.
        removed_rows: rows removed from tables of the build and the published file.
        changed_values: rows of these tables in which an address was replaced or a text removed.
        landing_files: landing files, and files of rows made of what Stripe said, written anew.
        history_files: files of Dagster's history that were changed.
        removed_files: files removed whole: a damaged build file that a rebuild had set aside.
        billing_files: extracts in the team's own folder that hold an address; they are left as they are.
    """

    persons: int
    removed_rows: int = 0
    changed_values: int = 0
    landing_files: int = 0
    history_files: int = 0
    removed_files: tuple[Path, ...] = ()
    billing_files: tuple[Path, ...] = ()

    @property
    def found(self) -> bool:
        """Whether anything was there."""
        return bool(self.removed_rows or self.changed_values or self.landing_files or self.history_files)


def find_person(
    connection: duckdb.DuckDBPyConnection,
    emails: Iterable[str] = (),
    contacts: Iterable[str] = (),
    intercom: Iterable[str] = (),
) -> Person:
    """Everything the build file knows to be of the persons with these addresses or ids.

    An address that a live contact of somebody else has now is not taken for one of theirs, unless it was asked for.
    """
    asked = {address.strip().lower() for address in emails if address.strip()}
    ids = {one.strip() for one in contacts if one.strip()}
    visitors = set(intercom)
    has = _tables(connection)
    addresses = set(asked)
    if columns := has.get(("raw_hubspot", CONTACTS)):
        told = _addresses(columns)
        if told and asked:
            ids |= _column(
                connection,
                f"SELECT DISTINCT id FROM (SELECT id, unnest({told}) AS address FROM raw_hubspot.contacts) "
                "WHERE list_contains($wanted, address)",
                {"wanted": sorted(asked)},
            )
        if ("raw_hubspot", "merges") in has:
            ids = _with_merged(connection, ids, "raw_hubspot.merges", f"object = '{CONTACTS}'")
        if told and ids:
            wanted = {"wanted": sorted(ids)}
            theirs = _column(
                connection,
                f"SELECT DISTINCT unnest({told}) FROM raw_hubspot.contacts WHERE list_contains($wanted, id)",
                wanted,
            )
            others = _column(
                connection,
                f"SELECT DISTINCT unnest({told}) FROM raw_hubspot.contacts_current "
                "WHERE NOT list_contains($wanted, id) AND _archived_at IS NULL AND _deleted_at IS NULL "
                "AND _merged_into IS NULL",
                wanted,
            )
            addresses |= {address for address in theirs - others if "@" in address}
    if "email" in has.get(("raw_intercom", "contacts"), {}):
        visitors |= _column(
            connection,
            "SELECT DISTINCT id FROM raw_intercom.contacts WHERE list_contains($wanted, lower(trim(email)))",
            {"wanted": sorted(addresses)},
        )
    if ("raw_intercom", "contact_merges") in has:
        visitors = _with_merged(connection, visitors, "raw_intercom.contact_merges", "true")
    own, shared = _engagements(connection, ids, has)
    return Person(
        frozenset(ids),
        frozenset(addresses),
        frozenset(visitors),
        frozenset(own),
        frozenset(shared),
        frozenset(_talks(connection, visitors, "conversations", has)),
        frozenset(_talks(connection, visitors, "tickets", has)),
        frozenset(_column(connection, _CONTACT_LISTS, {}) if ("raw_hubspot", "lists") in has else ()),
        frozenset(_names(connection, ids | {f"intercom:{one}" for one in visitors}, has)),
    )


def erase(
    warehouse: Warehouse,
    connection: duckdb.DuckDBPyConnection,
    fence: Fence,
    person: Person,
    reason: Reason,
    runs: Sequence[str] | None = None,
    billing_folder: Path | None = None,
) -> Erasure:
    """Remove persons from every layer, leave their tombstones, and book it (without saying who).

    The build file must be written anew afterwards (`rewrite_is_due`), once no connection is open.

    Args:
        warehouse: where the files are.
        connection: the build file, open for writing, outside a transaction.
        fence: the run's right to commit.
        person: who, as `find_person` tells.
        reason: why.
        runs: look only into landing files of these runs; default all.
        billing_folder: the team's own folder of extracts, to say which of them hold an address.

    Raises:
        WarehouseError: a file cannot be read or written. Nothing comes back; repeat it to complete it.
        LockHeldError: a later run has taken over.
    """
    if not person:
        return Erasure(0)
    tombstones = Tombstones.read(warehouse.landing_root)
    tombstones = tombstones.with_values("contact", person.contacts, reason)
    tombstones = tombstones.with_values("email", person.emails, reason)
    if reason == "requested":
        # Otherwise the address decides, so that it can be taken back with the HubSpot contact.
        tombstones = tombstones.with_values("intercom", person.intercom, reason)
    tombstones.write(warehouse.landing_root)
    crash_point("erase.landing")
    landing_files = scrub_landing(warehouse.landing_root, connection, fence, person, _TEXT, runs)
    _fill_scratch(connection, person)
    try:
        landing_files += _stripe_files(warehouse, connection, person)
        crash_point("erase.published")
        removed, changed = _published(warehouse, connection, person)
        history = clean_history(warehouse.data_dir, person)
        aside = _remove_set_aside(warehouse)
        crash_point("erase.build")
        with ledger.transaction(connection, fence):
            for rule in _rules(connection, None, person):
                _forget_hashes(connection, rule)
                removed += rule.delete(connection)
                changed += rule.update(connection)
            persons = max(len(person.contacts), 1)
            if removed or changed or landing_files or history:
                connection.execute(
                    "INSERT INTO _ledger.erasures VALUES ($now, $run_id, $reason, $persons, $removed, $changed, "
                    "$files, NULL)",
                    {
                        "now": datetime.now(UTC).replace(tzinfo=None),
                        "run_id": fence.run_id,
                        "reason": reason,
                        "persons": persons,
                        "removed": removed,
                        "changed": changed,
                        "files": landing_files,
                    },
                )
    finally:
        connection.execute(f"DETACH {ident(_SCRATCH)}")
    files = _holding(billing_folder, person) if billing_folder is not None else ()
    return Erasure(persons, removed, changed, landing_files, history, aside, files)


def leftovers(connection: duckdb.DuckDBPyConnection, tombstones: Tombstones) -> dict[str, int]:
    """``schema.table.column`` -> rows that still name somebody who was erased; empty is how it should be.

    Looks at every column that holds ids of contacts or addresses, in all layers of the database.
    """
    if not tombstones:
        return {}
    found: dict[str, int] = {}
    known = {"hashes": list(tombstones.hashes)}
    for (schema, table), columns in _tables(connection).items():
        for column, expression in _identities(schema, table, columns, tombstones).items():
            row = connection.execute(
                f"SELECT count(*) FROM {qualified(schema, table)} WHERE list_contains($hashes, {expression})",
                known,
            ).fetchone()
            if row and row[0]:
                found[f"{schema}.{table}.{column}"] = int(row[0])
    return found


def _identities(schema: str, table: str, columns: dict[str, str], tombstones: Tombstones) -> dict[str, str]:
    name = f"{schema}.{table}"
    if name in _LEFT_ALONE or schema in _BOOKS:
        return {}
    result: dict[str, str] = {}
    if name in ("raw_hubspot.contacts", "raw_intercom.contacts"):
        kind = "contact" if schema == "raw_hubspot" else "intercom"
        result["id"] = tombstones.hash_sql("contact" if kind == "contact" else "intercom", '"id"')
    if name == "raw_hubspot.associations":
        for side in ("from", "to"):
            hashed = tombstones.hash_sql("contact", f'"{side}_id"')
            result[f"{side}_id"] = f"CASE WHEN {side}_object = '{CONTACTS}' THEN {hashed} END"
    if name == "raw_hubspot.list_memberships" and "record_id" in columns:
        hashed = tombstones.hash_sql("contact", "record_id")
        result["record_id"] = f"CASE WHEN list_id IN ({_CONTACT_LISTS}) THEN {hashed} END"
    if name == "raw_intercom.contact_merges":
        result |= {side: tombstones.hash_sql("intercom", side) for side in ("loser_id", "winner_id")}
    if columns.get("contact_id") == "VARCHAR":
        kind_of = tombstones.hash_sql("intercom", "substr(contact_id, 10)")
        plain = tombstones.hash_sql("intercom" if schema == "raw_intercom" else "contact", "contact_id")
        result["contact_id"] = (
            f"CASE WHEN starts_with(contact_id, 'intercom:') THEN {kind_of} ELSE {plain} END"
        )
    for column in ("email", "respondent_email"):
        if columns.get(column) == "VARCHAR":
            result[column] = tombstones.hash_sql("email", f"lower(trim({column}))")
    return result


# Who


def _tables(
    connection: duckdb.DuckDBPyConnection, database: str | None = None
) -> dict[tuple[str, str], dict[str, str]]:
    """(schema, table) -> column -> type, of all tables of a database but the books."""
    tables: dict[tuple[str, str], dict[str, str]] = {}
    for schema, table, column, kind in connection.execute(
        "SELECT c.schema_name, c.table_name, c.column_name, c.data_type FROM duckdb_columns() AS c "
        "JOIN duckdb_tables() AS t USING (database_name, schema_name, table_name) "
        "WHERE c.database_name = coalesce($database, current_database()) AND NOT t.temporary ORDER BY ALL",
        {"database": database},
    ).fetchall():
        if schema not in _BOOKS:
            tables.setdefault((schema, table), {})[column] = kind
    return tables


def _addresses(columns: dict[str, str]) -> str:
    """SQL for the list of a contact's addresses; empty if it has no such property."""
    parts = []
    if "email" in columns:
        parts.append("[lower(trim(email))]")
    if "hs_additional_emails" in columns:
        split = "string_split(coalesce(lower(hs_additional_emails), ''), ';')"
        parts.append(f"list_transform({split}, lambda a: trim(a))")
    return f"list_filter({' || '.join(parts)}, lambda a: a <> '')" if parts else ""


def _with_merged(connection: duckdb.DuckDBPyConnection, ids: set[str], table: str, where: str) -> set[str]:
    """The ids with those merged into them and those that they were merged into, and so on."""
    while True:
        more = _column(
            connection,
            f"SELECT winner_id FROM {table} WHERE {where} AND list_contains($ids, loser_id) "
            f"UNION SELECT loser_id FROM {table} WHERE {where} AND list_contains($ids, winner_id)",
            {"ids": sorted(ids)},
        )
        if more <= ids:
            return ids
        ids = ids | more


def _talks(
    connection: duckdb.DuckDBPyConnection,
    visitors: set[str],
    table: str,
    has: dict[tuple[str, str], dict[str, str]],
) -> set[str]:
    """Conversations or tickets of Intercom in which no other contact ever had a part."""
    columns = has.get(("raw_intercom", table), {})
    if "contact_id" not in columns:
        return set()
    people = (
        "coalesce(contact_ids, []) || coalesce([contact_id], [])"
        if "contact_ids" in columns
        else "[contact_id]"
    )
    return _column(
        connection,
        f"""
        WITH talks AS (SELECT id, list_filter({people}, lambda c: c IS NOT NULL) AS people FROM raw_intercom.{table})
        SELECT id FROM talks GROUP BY id
        HAVING bool_or(list_has_any(people, $wanted)) AND bool_and(list_has_all($wanted, people))
        """,
        {"wanted": sorted(visitors)},
    )


def _names(
    connection: duckdb.DuckDBPyConnection, ids: set[str], has: dict[tuple[str, str], dict[str, str]]
) -> set[str]:
    """Names as they stand in sentences of the marts."""
    found: set[str] = set()
    queries = {
        ("raw_hubspot", CONTACTS): (
            {"firstname", "lastname"},
            "SELECT trim(concat_ws(' ', firstname, lastname)) FROM raw_hubspot.contacts WHERE list_contains($ids, id)",
        ),
        ("raw_intercom", "contacts"): (
            {"name"},
            "SELECT trim(name) FROM raw_intercom.contacts WHERE list_contains($ids, 'intercom:' || id)",
        ),
        ("staging", "contacts"): (
            {"name"},
            "SELECT trim(name) FROM staging.contacts WHERE list_contains($ids, contact_id)",
        ),
    }
    for table, (needed, query) in queries.items():
        if needed <= has.get(table, {}).keys():
            found |= _column(connection, query, {"ids": sorted(ids)})
    return found - {""}


def _engagements(
    connection: duckdb.DuckDBPyConnection, ids: set[str], has: dict[tuple[str, str], dict[str, str]]
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Engagements of these contacts alone, and those they share with others."""
    if ("raw_hubspot", "associations") not in has or not ids:
        return set(), set()
    rows = connection.execute(
        f"""
        WITH links AS (
            SELECT from_object AS object, from_id AS id, to_id AS contact FROM raw_hubspot.associations
            WHERE to_object = '{CONTACTS}' AND list_contains($objects, from_object)
            UNION
            SELECT to_object, to_id, from_id FROM raw_hubspot.associations
            WHERE from_object = '{CONTACTS}' AND list_contains($objects, to_object))
        SELECT object, id, bool_and(list_contains($ids, contact)) FROM links
        GROUP BY object, id HAVING bool_or(list_contains($ids, contact))
        """,
        {"objects": list(ENGAGEMENTS), "ids": sorted(ids)},
    ).fetchall()
    own = {(object_name, one) for object_name, one, alone in rows if alone}
    return own, {(object_name, one) for object_name, one, alone in rows if not alone}


def _column(connection: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, object]) -> set[str]:
    return {row[0] for row in connection.execute(query, values).fetchall() if row[0] is not None}


# Tables

#: A database in memory that every cursor sees, which temporary tables are not.
_SCRATCH = "erasing"


def _fill_scratch(connection: duckdb.DuckDBPyConnection, person: Person) -> None:
    connection.execute(f"ATTACH ':memory:' AS {ident(_SCRATCH)}")
    single = {
        "contacts": person.contacts,
        "canonical": person.canonical,
        "emails": person.emails,
        "intercom": person.intercom,
        "conversations": person.conversations,
        "tickets": person.tickets,
        "lists": person.lists,
    }
    for table, values in single.items():
        connection.execute(
            f"CREATE TABLE {qualified('main', table, _SCRATCH)} AS SELECT unnest($values::VARCHAR[]) AS id",
            {"values": sorted(values)},
        )
    for table, pairs in {"own": person.own, "shared": person.shared}.items():
        connection.execute(
            f"CREATE TABLE {qualified('main', table, _SCRATCH)} AS SELECT unnest($objects::VARCHAR[]) AS object, "
            "unnest($ids::VARCHAR[]) AS id, unnest($keys::VARCHAR[]) AS key",
            {
                "objects": [object_name for object_name, _ in sorted(pairs)],
                "ids": [one for _, one in sorted(pairs)],
                "keys": [_model_key(*pair) for pair in sorted(pairs)],
            },
        )


@dataclass
class _Rule:
    """What is to be done with one table.

    Attributes:
        name: quoted, with its database.
        own: condition of the rows to remove; empty = none.
        table: its bare name.
        key: of what billing's records it holds versions, where raw_billing keeps hashes of them; empty = it does not.
        changes: column -> its new value.
        touched: condition of the rows in which a value changes.
    """

    name: str
    own: str = ""
    table: str = ""
    key: tuple[str, ...] = ()
    changes: dict[str, str] = field(default_factory=dict)
    touched: str = "false"

    def delete(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Remove the person's own rows."""
        return _affected(connection, f"DELETE FROM {self.name} WHERE {self.own}") if self.own else 0

    def update(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Replace what others' rows say of the person."""
        if not self.changes:
            return 0
        sets = ", ".join(f"{ident(column)} = {value}" for column, value in self.changes.items())
        return _affected(connection, f"UPDATE {self.name} SET {sets} WHERE {self.touched}")

    def count(self, connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
        """Rows to remove, and rows to change."""
        row = connection.execute(
            f"SELECT count(*) FILTER (WHERE {self.own or 'false'}), "
            f"count(*) FILTER (WHERE NOT coalesce({self.own or 'false'}, false) AND ({self.touched})) FROM {self.name}"
        ).fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)

    @property
    def select(self) -> str:
        """The table as it shall be."""
        replaced = ", ".join(f"{value} AS {ident(column)}" for column, value in self.changes.items())
        star = f"* REPLACE ({replaced})" if replaced else "*"
        where = f" WHERE NOT coalesce({self.own}, false)" if self.own else ""
        return f"SELECT {star} FROM {self.name}{where}"


def _forget_hashes(connection: duckdb.DuckDBPyConnection, rule: _Rule) -> None:
    """Take away what billing keeps of the rows that a rule is about to remove or change: hashes of key and content.

    Whoever guesses an address could confirm it with the hash of a row that held it. So the hashes of these records are
    hashed again with a number that nobody keeps: which of them are the same can still be told, of what they are not.
    """
    if not rule.key:
        return
    key = ", ".join(ident(column) for column in rule.key)
    new_key = ", ".join(rule.changes.get(column, ident(column)) for column in rule.key)
    own = f"coalesce({rule.own}, false)" if rule.own else "false"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE erased_records AS SELECT source, hash({key}) AS record, "
        f"any_value(hash({new_key})) AS new_record, bool_and({own}) AS is_removed "
        f"FROM {rule.name} WHERE (source, hash({key})) IN "
        f"(SELECT (source, hash({key})) FROM {rule.name} WHERE {own} OR {rule.touched}) GROUP BY ALL"
    )
    values = {"salt": secrets.token_hex(16)}
    connection.execute(
        f"UPDATE {rule.name} SET _hash = hash(_hash, $salt) "
        f"WHERE (source, hash({key})) IN (SELECT (source, record) FROM erased_records)",
        values,
    )
    for table in ("listed", "retold", "contested"):
        of_table = f"t.table_name = {literal(rule.table)} AND t.source = e.source AND t.record = e.record"
        connection.execute(
            f"DELETE FROM raw_billing.{table} AS t USING erased_records AS e WHERE {of_table} AND e.is_removed"
        )
        word = "" if table == "contested" else ", word = hash(t.word, $salt)"
        connection.execute(
            f"UPDATE raw_billing.{table} AS t SET record = e.new_record{word} FROM erased_records AS e WHERE {of_table}",
            values if word else {},
        )
    connection.execute("DROP TABLE erased_records")


def _affected(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    row = connection.execute(statement).fetchone()
    return int(row[0]) if row else 0


def _rules(connection: duckdb.DuckDBPyConnection, database: str | None, person: Person) -> list[_Rule]:
    rules = []
    tables = _tables(connection, database)
    keys = {}
    if ("raw_billing", "record_keys") in tables and database is None:
        keys = dict(connection.execute("SELECT table_name, key FROM raw_billing.record_keys").fetchall())
    for (schema, table), columns in tables.items():
        if f"{schema}.{table}" not in _LEFT_ALONE:
            rule = _rule(database, schema, table, columns, person)
            if schema == "raw_billing" and "_hash" in columns:
                rule.key = tuple(keys.get(table, ()))
            rules.append(rule)
    return rules


def _rule(database: str | None, schema: str, table: str, columns: dict[str, str], person: Person) -> _Rule:
    rule = _Rule(qualified(schema, table, database), table=table)
    own = _own_rows(schema, table, columns)
    rule.own = " OR ".join(f"coalesce({one}, false)" for one in own)
    touched = []
    pattern = person.pattern
    shared = _shared_rows(schema, table, columns) if person.shared else ""
    named = _list([*person.names, *person.canonical])
    naming = " OR ".join(
        f"coalesce(list_has_any({ident(column)}, {_list(person.canonical)}), false)"
        for column, kind in columns.items()
        if kind == "VARCHAR[]" and not schema.startswith("raw_")
    )
    for column, kind in columns.items():
        name = ident(column)
        value = name
        if pattern is not None and kind in ("VARCHAR", "JSON"):
            hit = f"regexp_matches({name}::VARCHAR, {literal(pattern)})"
            value = f"CASE WHEN {hit} THEN ({_replaced(name + '::VARCHAR', pattern)})::{kind} ELSE {name} END"
            touched.append(hit)
        elif kind == "VARCHAR[]":
            gone = person.intercom if schema == "raw_intercom" else person.canonical
            kept = f"list_filter({name}, lambda x: NOT list_contains({_list(gone)}, x))"
            value = (
                kept if pattern is None else f"list_transform({kept}, lambda x: {_replaced('x', pattern)})"
            )
            touched.append(f"{value} IS DISTINCT FROM {name}")
        elif pattern is not None and "VARCHAR" in kind:
            hit = f"regexp_matches(to_json({name})::VARCHAR, {literal(pattern)})"
            value = f"CASE WHEN NOT {hit} THEN {name} END"
            touched.append(hit)
        if naming and kind == "VARCHAR":
            # A sentence about several persons keeps the others.
            less = f"list_reduce({named}, lambda t, n: replace(t, n, {literal(ERASED)}), {value})"
            value = f"CASE WHEN {naming} AND {name} IS NOT NULL THEN {less} ELSE {value} END"
        if shared and kind == "VARCHAR" and _is_text(schema, column):
            value = f"CASE WHEN {shared} THEN NULL ELSE {value} END"
            touched.append(f"({shared} AND {name} IS NOT NULL)")
        if value != name:
            rule.changes[column] = value
    if schema == "raw_intercom" and person.intercom:
        _intercom_changes(rule, touched, table, columns, person)
    if schema in ("raw_stripe", "raw_billing") and person.name_pattern is not None and touched:
        # The customer with this address; another one of the same name is left alone.
        hit = " OR ".join(f"coalesce({one}, false)" for one in touched)
        for column, value in rule.changes.items():
            if columns[column] in ("VARCHAR", "JSON"):
                less = _replaced(f"({value})::VARCHAR", person.name_pattern)
                rule.changes[column] = (
                    f"CASE WHEN {hit} THEN ({less})::{columns[column]} ELSE {ident(column)} END"
                )
    if pattern is not None and "is_base64" in columns and "raw_line" in columns:
        hit = f"is_base64 AND regexp_matches(try(decode(from_base64(raw_line))), {literal(pattern)})"
        rule.changes["raw_line"] = (
            f"CASE WHEN {hit} THEN {literal(ERASED)} ELSE {rule.changes['raw_line']} END"
        )
        touched.append(f"({hit})")
    rule.touched = " OR ".join(f"coalesce({one}, false)" for one in touched) or "false"
    return rule


def _intercom_changes(
    rule: _Rule, touched: list[str], table: str, columns: dict[str, str], person: Person
) -> None:
    """What several contacts share: it stays without this one and without what was said."""
    theirs = _list(person.intercom)
    if table in ("conversations", "tickets") and "contact_ids" in columns:
        takes_part = f"coalesce(list_has_any(contact_ids, {theirs}), false)"
        touched.append(takes_part)
        rest = f"list_filter(contact_ids, lambda x: NOT list_contains({theirs}, x))[1]"
        rule.changes["contact_id"] = f"CASE WHEN {takes_part} THEN {rest} ELSE contact_id END"
        for column in {"title", "remark"} & columns.keys():
            value = rule.changes.get(column, column)
            rule.changes[column] = f"CASE WHEN {takes_part} THEN NULL ELSE {value} END"
    if table == "conversation_parts" and "author_id" in columns:
        wrote = f"coalesce(list_contains({theirs}, author_id), false)"
        touched.append(wrote)
        value = rule.changes.get("author_id", "author_id")
        rule.changes["author_id"] = f"CASE WHEN {wrote} THEN {literal(ERASED)} ELSE {value} END"


def _is_text(schema: str, column: str) -> bool:
    if schema == "raw_hubspot":
        return not column.startswith("_") and _TEXT.search(column) is not None
    return column in ("subject", "comment")


def _own_rows(schema: str, table: str, columns: dict[str, str]) -> list[str]:
    """Conditions of the rows that are the person's own."""
    contacts, intercom = (
        "(SELECT id FROM erasing.main.contacts)",
        "(SELECT id FROM erasing.main.intercom)",
    )
    own = "(SELECT (object, id) FROM erasing.main.own)"
    conversations = "(SELECT id FROM erasing.main.conversations)"
    if schema == "raw_hubspot":
        if table == CONTACTS:
            return [f"id IN {contacts}"]
        if table == "associations":
            return [
                condition
                for side in ("from", "to")
                for condition in (
                    f"{side}_object = '{CONTACTS}' AND {side}_id IN {contacts}",
                    f"({side}_object, {side}_id) IN {own}",
                )
            ]
        if table == "merges":
            return [f"object = '{CONTACTS}' AND ({side}_id IN {contacts})" for side in ("loser", "winner")]
        if table in ENGAGEMENTS:
            return [f"({literal(table)}, id) IN {own}"]
        if table == "list_memberships":
            return [f"list_id IN (SELECT id FROM erasing.main.lists) AND record_id IN {contacts}"]
        if "object" in columns and "id" in columns:
            return [f"object = '{CONTACTS}' AND id IN {contacts}", f"(object, id) IN {own}"]
        return [f"contact_id IN {contacts}"] if "contact_id" in columns else []
    if schema == "raw_intercom":
        if table == "contacts":
            return [f"id IN {intercom}"]
        if table == "contact_merges":
            return [f"loser_id IN {intercom}", f"winner_id IN {intercom}"]
        if table in ("conversations", "tickets"):
            return [f"id IN (SELECT id FROM erasing.main.{table})"]
        return [f"conversation_id IN {conversations}"] if "conversation_id" in columns else []
    found = [
        f"{key} IN (SELECT id FROM erasing.main.canonical)"
        for key in ("contact_id", "subject_id")
        if columns.get(key) == "VARCHAR"
    ]
    if columns.get("respondent_email") == "VARCHAR":
        found.append("lower(trim(respondent_email)) IN (SELECT id FROM erasing.main.emails)")
    if columns.get("conversation_id") == "VARCHAR":
        found.append(f"conversation_id IN {conversations}")
    found.extend(
        f"{key} IN (SELECT key FROM erasing.main.own)"
        for key in ("engagement_id", "response_id")
        if columns.get(key) == "VARCHAR"
    )
    return found


def _shared_rows(schema: str, table: str, columns: dict[str, str]) -> str:
    if schema == "raw_hubspot":
        if table in ENGAGEMENTS:
            return f"({literal(table)}, id) IN (SELECT (object, id) FROM erasing.main.shared)"
        return ""
    if not schema.startswith("raw_"):
        for key in ("engagement_id", "response_id"):
            if columns.get(key) == "VARCHAR":
                return f"{key} IN (SELECT key FROM erasing.main.shared)"
    return ""


def _model_key(object_name: str, one: str) -> str:
    """How the models write an engagement or answer of HubSpot: ``email:17``, ``hubspot:17``."""
    return (
        f"hubspot:{one}"
        if object_name == "feedback_submissions"
        else f"{object_name.removesuffix('s')}:{one}"
    )


def _replaced(text: str, pattern: str) -> str:
    # Twice, because a separator between two addresses belongs to the first match alone.
    for _ in range(2):
        text = f"regexp_replace({text}, {literal(pattern)}, {literal(_REPLACEMENT)}, 'g')"
    return text


def _list(values: Iterable[str]) -> str:
    return "[" + ", ".join(literal(value) for value in sorted(values)) + "]::VARCHAR[]"


# Files


def _stripe_files(warehouse: Warehouse, connection: duckdb.DuckDBPyConnection, person: Person) -> int:
    """Write the files anew that hold the person among the rows made of what Stripe said."""
    written = 0
    for path in sorted(warehouse.stripe_root.glob("*.parquet")):
        temporary = path.with_name(f".{path.name}.clean")
        source = f"read_parquet({literal(glob_escape(str(path)))})"
        try:
            described = connection.execute(f"DESCRIBE FROM {source}").fetchall()
            columns = {name: kind for name, kind, *_ in described}
            rule = replace(_rule(None, "raw_billing", path.name.split("__")[0], columns, person), name=source)
            if not any(rule.count(connection)):
                continue
            connection.execute(
                f"COPY ({rule.select}) TO {literal(str(temporary))} (FORMAT parquet, COMPRESSION zstd)"
            )
            temporary.chmod(0o600)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            fsync_folder(path.parent)
            written += 1
        except (duckdb.Error, OSError) as error:
            raise WarehouseError(
                f"{path}, rows made of what Stripe said, could not be cleaned: {str(error).splitlines()[0]}. What was "
                "cleaned before it is kept; repair the file or move it away, and repeat."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
    return written


def _published(
    warehouse: Warehouse, connection: duckdb.DuckDBPyConnection, person: Person
) -> tuple[int, int]:
    """Write the published file anew without the person, if it holds any of it."""
    if not warehouse.published_path.exists():
        return 0, 0
    attached = "published"
    try:
        connection.execute(
            f"ATTACH {literal(str(warehouse.published_path))} AS {ident(attached)} (READ_ONLY)"
        )
    except duckdb.Error as error:
        raise WarehouseError(
            f"The published warehouse {warehouse.published_path} cannot be read ({str(error).splitlines()[0]}), so it "
            "cannot be cleaned. Put back a copy or move it away, and repeat."
        ) from error
    try:
        rules = _rules(connection, attached, person)
        counts = [rule.count(connection) for rule in rules]
        removed, changed = sum(c[0] for c in counts), sum(c[1] for c in counts)
        if removed or changed:
            selects = {rule.name: rule.select for rule in rules}
            publish_copy(warehouse, connection, attached, selects)
    finally:
        connection.execute(f"DETACH {ident(attached)}")
    return removed, changed


def _remove_set_aside(warehouse: Warehouse) -> tuple[Path, ...]:
    """A build file that a rebuild set aside holds what it held; nothing reads it any more."""
    removed = []
    for path in sorted(warehouse.data_dir.glob(f"{warehouse.build_path.name}.damaged*")):
        path.unlink()
        removed.append(path)
    return tuple(removed)


def _holding(folder: Path, person: Person) -> tuple[Path, ...]:
    """Files of a folder that hold one of the addresses in plain text."""
    needles = [address.encode() for address in person.emails]
    found = []
    for path in sorted(folder.rglob("*")) if needles and folder.is_dir() else []:
        if path.is_file() and not path.is_symlink():
            rest = b""
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    text = (rest + chunk).lower()
                    if any(needle in text for needle in needles):
                        found.append(path)
                        break
                    rest = chunk[-320:]
    return tuple(found)
