"""From the accepted rows of one file to append-only versions, whatever the order in which files arrive.

A row with ``updated_at`` is a version of its own. A row without is what the extract saw at its date; a full file adds
it only where it differs from what was in force, a delta always. A full file deletes the records it leaves out, and
brings back those that had been left out before; a record whose row was quarantined was listed and is not deleted.

Files are believed in the order of their precedence: the extract's date, full before delta, the file's number, its
content. A file is compared with what the files before it in that order had told, and what it puts between them and the
full files after it is put right again at each of those, so that the history is the same in whatever order they came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from hub_pipeline.sources.billing.contract import Table
from hub_pipeline.sources.billing.folder import Kind
from hub_pipeline.sources.billing.tables import BOOKKEEPING, NEWEST_FIRST, columns
from hub_pipeline.warehouse.landing import LoadContext
from hub_pipeline.warehouse.sql import ident, idents

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Appended:
    """Versions that one file added to one table."""

    inserted: int
    deleted: int


def precedence(close: datetime, kind: Kind, sequence: int, sha: str) -> str:
    """Text by which files are believed: the greater one says what holds where two speak of the same instant."""
    return f"{close:%Y-%m-%d %H:%M}/{int(kind == 'delta')}/{sequence:09}/{sha}"


def append(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    source: str,
    kind: Kind,
    close: datetime,
    file_no: int,
    load: LoadContext,
    rank: str,
) -> Appended:
    """Append what ``temp.billing_checked`` accepted, inside the caller's transaction.

    Args:
        close: the instant the extract's date ends; its rows were seen one microsecond before.
        file_no: number of the file in the manifest.
        rank: its `precedence`.
    """
    return _Appending(connection, table, source, kind, close, file_no, load, rank).append()


class _Appending:
    """The statements for one file and table; holds what each of them needs."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        source: str,
        kind: Kind,
        close: datetime,
        file_no: int,
        load: LoadContext,
        rank: str,
    ) -> None:
        self._connection = connection
        self._table = table
        self._name = f"raw_billing.{ident(table.name)}"
        self._key = idents(table.key)
        self._payload = idents(columns(table))
        self._is_list = kind == "full" and table.absence_is_deletion
        self._kind = kind
        self._parameters = {
            "table": table.name,
            "source": source,
            "close": close,
            "seen_at": close - _INSTANT,
            "floor": load.floor,
            "file_no": file_no,
            "run_id": load.run_id,
            "rank": rank,
        }
        self._entered_at = "entered_at" if "entered_at" in table.columns else "NULL::TIMESTAMP"

    def append(self) -> Appended:
        """Everything, in order."""
        deleted_column = "deleted_at" if "deleted_at" in self._table.columns else "NULL::TIMESTAMP"
        own_deletion = f"coalesce({deleted_column}, CASE WHEN is_deleted THEN coalesce(updated_at, $seen_at::TIMESTAMP) END)"
        self._run(
            f"CREATE OR REPLACE TEMP TABLE billing_accepted AS SELECT $source::VARCHAR AS source, "
            f"{idents(self._table.columns)}, extra, _hash, line_no AS _line FROM billing_checked "
            "WHERE reasons IS NULL AND NOT is_duplicate"
        )
        # What this file is compared with: the state at its own time as the files before it tell it.
        only = "" if self._is_list else f"AND {self._exists('billing_accepted', 'v')}"
        self._run(
            f"CREATE OR REPLACE TEMP TABLE billing_before AS {self._state('$seen_at', f'_precedence < $rank {only}')}"
        )
        inserted = self._insert(
            "SELECT a.* FROM billing_accepted AS a WHERE a.updated_at IS NOT NULL AND NOT EXISTS "
            f"(SELECT 1 FROM {self._name} AS v WHERE v.source = a.source AND v._hash = a._hash "
            f"AND v._precedence <= $rank AND {self._same('v', 'a')})",
            "updated_at",
            own_deletion,
            "false",
        )
        # A list that shows an older row again says that it holds now, if what held was only seen, or was gone.
        shown_again = "b._is_stated AND a.updated_at <= b._changed_at" if self._is_list else "false"
        differs = "a._hash <> b._hash" if self._kind == "full" else "true"
        self._run(
            # Of rows without a time there is one a record; a window over all of them would cost as much as the rest.
            f"CREATE OR REPLACE TEMP TABLE billing_seen AS WITH stated AS ("
            f"SELECT * FROM billing_accepted AS l WHERE updated_at IS NOT NULL AND EXISTS (SELECT 1 FROM billing_before AS b "
            f"WHERE b._is_stated AND {self._same('b', 'l')}) QUALIFY row_number() OVER (PARTITION BY {self._key} "
            f"ORDER BY updated_at DESC) = 1) SELECT a.* FROM (SELECT * FROM billing_accepted AS l WHERE updated_at IS NULL "
            f"AND NOT EXISTS (SELECT 1 FROM stated AS r WHERE {self._same('r', 'l')}) UNION ALL FROM stated) AS a "
            "LEFT JOIN billing_before AS b "
            f"ON {self._same('a', 'b')} WHERE CASE WHEN b._row IS NULL THEN a.updated_at IS NULL "
            f"WHEN b._absent THEN a.updated_at IS NULL OR {shown_again} "
            f"ELSE a.updated_at IS NULL AND {differs} OR a._hash <> b._hash AND {shown_again} END"
        )
        inserted += self._insert("SELECT * FROM billing_seen", "$seen_at::TIMESTAMP", own_deletion, "false")
        deleted = 0
        self._run("CREATE OR REPLACE TEMP TABLE billing_gone AS SELECT * FROM billing_before WHERE false")
        if self._is_list:
            self._run(
                "INSERT INTO billing_gone SELECT b.* FROM billing_before AS b WHERE b._is_live AND NOT EXISTS "
                f"(SELECT 1 FROM billing_accepted AS a WHERE {self._same('a', 'b')}) AND NOT EXISTS "
                f"(SELECT 1 FROM billing_unread AS u WHERE {self._same('u', 'b')})"
            )
            deleted = self._insert(
                f"SELECT v.* FROM {self._name} AS v JOIN billing_gone AS b ON b._row = v.rowid",
                "$seen_at::TIMESTAMP",
                "$seen_at::TIMESTAMP",
                "true",
            )
        later = self._connection.execute(
            "SELECT extract_close, _precedence FROM raw_billing.lists WHERE table_name = $table "
            "AND source = $source AND _precedence > $rank ORDER BY _precedence",
            self._values("$table $source $rank"),
        ).fetchall()
        for close, rank in later:
            restored, removed, is_settled = self._put_right(close, rank)
            inserted, deleted = inserted + restored, deleted + removed
            if is_settled:
                break
        if self._kind == "full":
            self._run("INSERT INTO raw_billing.lists VALUES ($table, $source, $close, $rank)")
        return Appended(inserted, deleted)

    def _put_right(self, close: datetime, rank: str) -> tuple[int, int, bool]:
        """Say again what a full file that follows this one said of the records that this one speaks of.

        Returns:
            Versions restored, records deleted, and whether nothing that this file changed reaches that far.
        """
        more = {"then": close - _INSTANT, "then_rank": rank}
        touched = (
            f"({self._exists('billing_accepted', 'v')} OR {self._exists('billing_gone', 'v')}) "
            "AND _precedence <= $then_rank"
        )
        # What it said is what held then before this file came.
        said = self._state("$then", f"{touched} AND _file_no <> $file_no")
        self._run(
            "CREATE OR REPLACE TEMP TABLE billing_then AS "
            f"SELECT n.* RENAME (_row AS _now_row), s._row AS _said_row, s._absent AS _said_absent, "
            "s._hash AS _said_hash, s._is_live AS _said_live, s._is_seen AS _said_seen, s._updated_at AS _said_updated_at "
            f"FROM ({self._state('$then', touched)}) AS n LEFT JOIN ({said}) AS s ON {self._same('s', 'n')} "
            "WHERE s._row IS NULL OR s._hash <> n._hash OR s._is_live <> n._is_live OR s._absent <> n._absent",
            **more,
        )
        missing = "(_said_row IS NULL OR _said_absent) AND _is_live"
        removed = 0
        if self._table.absence_is_deletion:
            removed = self._insert(
                f"SELECT v.* FROM {self._name} AS v JOIN billing_then AS t ON t._now_row = v.rowid WHERE {missing}",
                "$then::TIMESTAMP",
                "$then::TIMESTAMP",
                "true",
                "$then_rank",
                **more,
            )
        restored = self._insert(
            f"SELECT v.* FROM {self._name} AS v JOIN billing_then AS t ON t._said_row = v.rowid "
            "WHERE NOT t._said_absent AND (t._said_seen OR (t._is_stated AND t._said_updated_at <= t._changed_at))",
            "$then::TIMESTAMP",
            "_deleted_at",
            "false",
            "$then_rank",
            **more,
        )
        row = self._connection.execute("SELECT count(*) FROM billing_then").fetchone()
        return restored, removed, row is not None and row[0] == 0

    def _state(self, at: str, condition: str) -> str:
        """SELECT of the record versions in force at an instant, without their payload."""
        return (
            f"SELECT {self._key}, rowid AS _row, _hash, _changed_at, _absent, _deleted_at IS NULL AS _is_live, "
            f"updated_at IS NULL AS _is_seen, updated_at AS _updated_at, "
            f"_absent OR updated_at IS DISTINCT FROM _changed_at AS _is_stated FROM {self._name} AS v "
            f"WHERE source = $source AND _changed_at <= {at}::TIMESTAMP AND {condition} "
            f"QUALIFY row_number() OVER (PARTITION BY {self._key} ORDER BY {NEWEST_FIRST}) = 1"
        )

    def _insert(
        self, rows: str, changed_at: str, deleted_at: str, absent: str, rank: str = "$rank", **more: object
    ) -> int:
        entered_at = "NULL::TIMESTAMP" if absent == "true" else self._entered_at
        return self._run(
            f"INSERT INTO {self._name} ({self._payload}, {idents(BOOKKEEPING)}) "
            f"SELECT {self._payload}, {changed_at}, greatest({changed_at}, {entered_at}, $floor::TIMESTAMP), {deleted_at}, {absent}, "
            f"$floor::TIMESTAMP, _hash, {rank}::VARCHAR, $file_no, _line, $run_id FROM ({rows}) AS x",
            **more,
        )

    def _run(self, sql: str, **more: object) -> int:
        row = self._connection.execute(sql, self._values(sql, **more)).fetchone()
        return int(row[0]) if row else 0

    def _values(self, sql: str, **more: object) -> dict[str, object]:
        return {k: v for k, v in {**self._parameters, **more}.items() if re.search(rf"\${k}\b", sql)}

    def _same(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{ident(k)} = {right}.{ident(k)}" for k in self._table.key)

    def _exists(self, table: str, version: str) -> str:
        return f"EXISTS (SELECT 1 FROM {table} AS x WHERE {self._same('x', version)})"
