"""What the warehouse knows of a source before and while it is read: how the next run decides what to read."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from typing import Any

import duckdb

from hub_pipeline.warehouse.loader import LATEST_FIRST, LIVE, raw_schema
from hub_pipeline.warehouse.sql import qualified

#: Archived, and neither deleted nor merged away.
_ARCHIVED = "(_archived_at IS NOT NULL AND _deleted_at IS NULL AND _merged_into IS NULL)"


class WarehouseKnown:
    """`hub_pipeline.warehouse.raw.Known` of a build file; may be asked from any thread.

    Each answer is read by a connection of its own, so it shows what was committed when it was asked and never
    disturbs the transaction of the run. Records are those with a column ``id`` as their key.

    Args:
        connection: the build file, open.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection.cursor()
        self._opening = threading.Lock()

    def state(self, source: str, object_name: str) -> Mapping[str, Any]:
        """What the last complete run of the stream left in `StreamResult.state`; empty before the first."""
        with closing(self._cursor()) as cursor:
            row = cursor.execute(
                "SELECT arg_max(state, run_id) FROM _ledger.streams "
                "WHERE source = $source AND object = $object AND status = 'complete' AND state IS NOT NULL",
                {"source": source, "object": object_name},
            ).fetchone()
        return json.loads(row[0]) if row is not None and row[0] is not None else {}

    def live_count(self, source: str, table: str) -> int:
        """Records of a raw table that are neither archived, deleted nor merged away."""
        with closing(self._cursor()) as cursor:
            if not self._exists(cursor, source, table):
                return 0
            row = cursor.execute(f"SELECT count(*) FROM ({_latest(source, table, LIVE)})").fetchone()
        return int(row[0]) if row else 0

    def archived_ids(self, source: str, table: str, since: datetime | None = None) -> list[str]:
        """Ids of records that are archived and not deleted, ascending as `live_ids`.

        Args:
            source: source.
            table: raw table.
            since: only those that were archived then or later (UTC).
        """
        which = (
            _ARCHIVED
            if since is None
            else f"({_ARCHIVED} AND _archived_at >= TIMESTAMP '{since.isoformat()}')"
        )
        return [record_id for ids in self._ids(source, table, which, 10_000) for record_id in ids]

    def live_ids(self, source: str, table: str, size: int) -> Iterator[list[str]]:
        """Ids of live records, ascending as numbers where they are numbers, in lists of at most `size`."""
        return self._ids(source, table, LIVE, size)

    def companies_in_tiers(self, tiers: Collection[str]) -> list[str] | None:
        """Intercom's ids of the companies whose organisations were in these tiers on the last day that was built.

        None before the first such day. An organisation answers to its own id and to its external id.
        """
        with closing(self._cursor()) as cursor:
            built = cursor.execute(
                "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND "
                "(schema_name, table_name) IN (('marts', 'organisation_daily'), ('staging', 'organisations'), "
                "('raw_intercom', 'companies'))"
            ).fetchone()
            if built is None or built[0] != 3:
                return None
            day = cursor.execute("SELECT max(as_of) FROM marts.organisation_daily").fetchone()
            if day is None or day[0] is None:
                return None
            rows = cursor.execute(
                """
                WITH chosen AS (
                    SELECT DISTINCT org_id FROM marts.organisation_daily
                    WHERE as_of = $day AND list_contains($tiers, tier)),
                keys AS (
                    SELECT org_id AS reference FROM chosen
                    UNION
                    SELECT external_id FROM staging.organisations
                    WHERE org_id IN (SELECT org_id FROM chosen) AND external_id IS NOT NULL)
                SELECT DISTINCT c.id FROM raw_intercom.companies AS c JOIN keys AS k ON k.reference = c.company_id
                ORDER BY c.id
                """,
                {"tiers": list(tiers), "day": day[0]},
            ).fetchall()
        return [row[0] for row in rows]

    def _ids(self, source: str, table: str, which: str, size: int) -> Iterator[list[str]]:
        with closing(self._cursor()) as cursor:
            if not self._exists(cursor, source, table):
                return
            cursor.execute(f"{_latest(source, table, which)} ORDER BY TRY_CAST(id AS HUGEINT) NULLS LAST, id")
            while rows := cursor.fetchmany(size):
                yield [row[0] for row in rows]

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._opening:
            return self._connection.cursor()

    @staticmethod
    def _exists(cursor: duckdb.DuckDBPyConnection, source: str, table: str) -> bool:
        row = cursor.execute(
            "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() "
            "AND schema_name = $schema AND table_name = $table",
            {"schema": raw_schema(source), "table": table},
        ).fetchone()
        return row is not None


def _latest(source: str, table: str, which: str) -> str:
    """Ids whose latest version is `which`. Most records have one version, so only the others are put in order: that
    takes a third of the time (measured)."""
    name = qualified(raw_schema(source), table)
    return f"""
        SELECT id FROM (
            WITH many AS MATERIALIZED (SELECT id FROM {name} GROUP BY id HAVING count(*) > 1)
            SELECT id, {which} AS matches FROM {name} WHERE id NOT IN (FROM many)
            UNION ALL
            SELECT id, {which} AS matches FROM {name} WHERE id IN (FROM many)
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY {LATEST_FIRST}) = 1)
        WHERE matches
    """
