"""What a run does about persons after it has read a source: who is gone is erased, who was erased does not come back.

A HubSpot contact that was live and is in neither list any more, and was not merged, was deleted for privacy: it is
erased. One that was archived first has left the 90-day bin and is kept (settled rule 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import duckdb

from hub_pipeline.errors import DataRefusedError
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.erase import CONTACTS, Erasure, erase, find_person
from hub_pipeline.warehouse.landing import LoadContext
from hub_pipeline.warehouse.loader import LATEST_FIRST, LIVE
from hub_pipeline.warehouse.lock import Fence
from hub_pipeline.warehouse.scrub import identities_in
from hub_pipeline.warehouse.sql import qualified
from hub_pipeline.warehouse.tombstones import Kind, Tombstones

#: Days that an archived record stays in HubSpot's bin. After a longer pause between two runs nobody can tell whether
#: a record was archived in between.
BIN_DAYS = 90
#: So few contacts may always go at once, whatever share of all they are.
_FEW = 25
_ADDRESS = r"[a-z0-9._%+''-]+@[a-z0-9.-]+"


def erase_gone(
    warehouse: Warehouse,
    connection: duckdb.DuckDBPyConnection,
    fence: Fence,
    max_purge: Decimal,
    accept: bool,
) -> Erasure | None:
    """Erase the HubSpot contacts that are gone without having been archived.

    Args:
        warehouse: where the files are.
        connection: the build file, open for writing, with the contacts of this run loaded.
        fence: the run's right to commit.
        max_purge: share of the contacts that may go at once.
        accept: believe it however many they are.

    Returns:
        What was erased; None if nobody is gone.

    Raises:
        DataRefusedError: too many are gone at once; nobody was erased.
    """
    if not _exists(connection, "raw_hubspot", CONTACTS):
        return None
    gone = _gone(connection)
    if not gone:
        return None
    row = connection.execute(
        "SELECT count(*) FROM raw_hubspot.contacts_current "
        "WHERE _archived_at IS NULL AND _deleted_at IS NULL AND _merged_into IS NULL"
    ).fetchone()
    before = len(gone) + (int(row[0]) if row else 0)
    if not accept and len(gone) > max(Decimal(_FEW), max_purge * before):
        raise DataRefusedError(
            f"{len(gone)} of {before} HubSpot contacts are gone without having been archived, as after a deletion for "
            "privacy. Nobody was erased and nothing is published; if they were deleted for good, run again with "
            "--accept-purge."
        )
    return erase(warehouse, connection, fence, find_person(connection, contacts=gone), "hubspot")


def erase_returned(
    warehouse: Warehouse,
    connection: duckdb.DuckDBPyConnection,
    fence: Fence,
    load: LoadContext,
    source: str,
) -> Erasure | None:
    """Erase again who was erased before and is in what a source sent in this run.

    A contact that HubSpot lists as live again was not deleted there after all: its tombstones are lifted, unless its
    erasure was asked for here.

    Args:
        warehouse: where the files are.
        connection: the build file, open for writing, with the source's data of this run loaded.
        fence: the run's right to commit.
        load: the run.
        source: that was read.

    Returns:
        What was erased; None if nobody came back.
    """
    tombstones = Tombstones.read(warehouse.landing_root)
    if not tombstones:
        return None
    runs = [
        load.run_id,
        *(
            row[0]
            for row in connection.execute(
                "SELECT DISTINCT run_id FROM _ledger.files WHERE loaded_by = $run_id AND run_id <> $run_id",
                {"run_id": load.run_id},
            ).fetchall()
        ),
    ]
    files = [
        path for run_id in runs for path in sorted(warehouse.landing_root.glob(f"{source}/*/{run_id}/*.zst"))
    ]
    addresses = _addresses_in_tables(connection, f"raw_{source}", load.run_id) if not files else set()
    ids: set[str] = set()
    kind: Kind = "intercom" if source == "intercom" else "contact"
    for _, found_addresses, found_ids in identities_in(files):
        addresses |= tombstones.known("email", found_addresses).keys()
        ids |= tombstones.known(kind, found_ids).keys()
    searched: list[str] | None = runs
    stored = _stored(connection, tombstones, source, kind)
    if not stored <= ids:
        # A run that died between loading and this left them, and the source need not send them again.
        ids |= stored
        searched = None
    emails = tombstones.known("email", addresses)
    if source == "hubspot":
        tombstones, ids = _lift(warehouse.landing_root, connection, tombstones, ids)
        emails = tombstones.known("email", addresses)
    if not emails and not ids:
        return None
    person = find_person(
        connection,
        emails,
        ids if source == "hubspot" else (),
        ids if source == "intercom" else (),
    )
    reasons = set(emails.values())
    reasons |= set(tombstones.known(kind, ids).values())
    return erase(
        warehouse,
        connection,
        fence,
        person,
        "requested" if "requested" in reasons else "hubspot",
        searched,
    )


def _stored(
    connection: duckdb.DuckDBPyConnection, tombstones: Tombstones, source: str, kind: Kind
) -> set[str]:
    """Contacts of a source that were erased and are in its table."""
    schema = f"raw_{source}"
    if not _exists(connection, schema, CONTACTS):
        return set()
    rows = connection.execute(
        f"SELECT DISTINCT id FROM {qualified(schema, CONTACTS)} "
        f"WHERE list_contains($hashes, {tombstones.hash_sql(kind, 'id')})",
        {"hashes": list(tombstones.hashes)},
    ).fetchall()
    return {row[0] for row in rows}


def _lift(
    landing_root: Path, connection: duckdb.DuckDBPyConnection, tombstones: Tombstones, ids: set[str]
) -> tuple[Tombstones, set[str]]:
    """Take back what HubSpot took back; returns the tombstones and the ids that stay erased."""
    candidates = [one for one, reason in tombstones.known("contact", ids).items() if reason == "hubspot"]
    if not candidates:
        return tombstones, ids
    back = {
        row[0]
        for row in connection.execute(
            "SELECT id FROM raw_hubspot.contacts_current WHERE list_contains($ids, id) "
            "AND _archived_at IS NULL AND _deleted_at IS NULL AND _merged_into IS NULL",
            {"ids": candidates},
        ).fetchall()
    }
    if not back:
        return tombstones, ids
    person = find_person(connection, contacts=back)
    tombstones = tombstones.without_values("contact", person.contacts)
    tombstones = tombstones.without_values("email", person.emails)
    tombstones.write(landing_root)
    return tombstones, ids - person.contacts


def _gone(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute(
        f"""
        WITH versions AS (
            SELECT id, _run_id, _deleted_at, _archived_at, _merged_into,
                lead({LIVE}) OVER latest_first AS was_live,
                row_number() OVER latest_first AS place
            FROM raw_hubspot.contacts
            WHERE id IN (SELECT id FROM raw_hubspot.contacts WHERE _deleted_at IS NOT NULL)
            WINDOW latest_first AS (PARTITION BY id ORDER BY {LATEST_FIRST})),
        reads AS (
            SELECT run_id, as_of FROM _ledger.streams
            WHERE source = 'hubspot' AND object IN ('{CONTACTS}', '{CONTACTS}_census') AND status = 'complete'),
        gone AS (
            SELECT id, _run_id FROM versions
            WHERE place = 1 AND was_live AND _deleted_at IS NOT NULL AND _archived_at IS NULL
                AND _merged_into IS NULL)
        SELECT g.id FROM gone AS g
        LEFT JOIN reads AS r ON r.run_id = g._run_id
        LEFT JOIN reads AS b ON b.run_id < g._run_id
        GROUP BY g.id
        HAVING coalesce(max(r.as_of) - max(b.as_of), 0) < {BIN_DAYS}
        ORDER BY g.id
        """
    ).fetchall()
    return [row[0] for row in rows]


def _addresses_in_tables(connection: duckdb.DuckDBPyConnection, schema: str, run_id: str) -> set[str]:
    """What in the rows of this run could be an e-mail address, for sources without landing files."""
    found: set[str] = set()
    for (table,) in connection.execute(
        "SELECT DISTINCT table_name FROM duckdb_columns() WHERE database_name = current_database() "
        "AND schema_name = $schema AND (column_name = '_run_id' OR table_name = 'quarantine') "
        "AND table_name IN (SELECT table_name FROM duckdb_tables() WHERE schema_name = $schema)",
        {"schema": schema},
    ).fetchall():
        where = "" if table == "quarantine" else "WHERE _run_id = $run_id"
        rows = connection.execute(
            f"SELECT DISTINCT unnest(regexp_extract_all(lower(to_json(t)::VARCHAR), '{_ADDRESS}')) "
            f"FROM {qualified(schema, table)} AS t {where}",
            {"run_id": run_id} if where else {},
        ).fetchall()
        found |= {row[0].strip(".'") for row in rows}
    return found


def _exists(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> bool:
    row: Sequence[object] | None = connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name = $schema AND table_name = $table",
        {"schema": schema, "table": table},
    ).fetchone()
    return row is not None
