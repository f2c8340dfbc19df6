"""From the accepted rows of one file to append-only versions, whatever the order in which files arrive.

A row with ``updated_at`` is a version of its own. A row without is what the extract saw at its date, and becomes a
version only where it differs from what was in force. A full file deletes the records it leaves out, and brings back
those that had been left out before. What a file of an earlier day changes is put back at the next full file, which
had already said otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from hub_pipeline.sources.billing.contract import Table
from hub_pipeline.sources.billing.folder import Kind
from hub_pipeline.sources.billing.tables import columns
from hub_pipeline.warehouse.landing import LoadContext
from hub_pipeline.warehouse.sql import ident, idents

_ORDER = "_changed_at DESC, _recorded_at DESC, _file_no DESC, _line DESC"


@dataclass(frozen=True)
class Appended:
    """Versions that one file added to one table."""

    inserted: int
    deleted: int


def append(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    source: str,
    kind: Kind,
    close: datetime,
    file_no: int,
    load: LoadContext,
) -> Appended:
    """Append what ``temp.billing_checked`` accepted, inside the caller's transaction.

    Args:
        close: the instant the extract's date ends; its rows were seen one microsecond before.
        file_no: number of the file in the manifest.
    """
    name = f"raw_billing.{ident(table.name)}"
    key = idents(table.key)
    seen_at = close - timedelta(microseconds=1)
    payload = idents(columns(table))
    parameters = {
        "source": source,
        "seen_at": seen_at,
        "close": close,
        "floor": load.floor,
        "file_no": file_no,
        "run_id": load.run_id,
    }

    def run(sql: str, **more: object) -> int:
        values = {**parameters, **more}
        row = connection.execute(
            sql, {k: v for k, v in values.items() if re.search(rf"\${k}\b", sql)}
        ).fetchone()
        return int(row[0]) if row else 0

    def insert(rows: str, changed_at: str, deleted_at: str, absent: str, **more: object) -> int:
        return run(
            f"INSERT INTO {name} SELECT {payload}, {changed_at}, greatest({changed_at}, $floor::TIMESTAMP), "
            f"{deleted_at}, {absent}, $floor::TIMESTAMP, _hash, $file_no, _line, $run_id FROM ({rows}) AS x",
            **more,
        )

    deleted_column = "deleted_at" if "deleted_at" in table.columns else "NULL::TIMESTAMP"
    own_deletion = f"coalesce({deleted_column}, CASE WHEN is_deleted THEN coalesce(updated_at, $seen_at) END)"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE billing_accepted AS SELECT $source::VARCHAR AS source, "
        f"{idents(table.columns)}, extra, _hash, line_no AS _line FROM billing_checked "
        "WHERE reasons IS NULL AND NOT is_duplicate",
        {"source": source},
    )
    # The state before this file, at its own time: what the extract is compared with.
    run(
        f"CREATE OR REPLACE TEMP TABLE billing_before AS SELECT * FROM {name} "
        f"WHERE source = $source AND _changed_at <= $seen_at "
        f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {_ORDER}) = 1"
    )
    later = connection.execute(
        "SELECT min(extract_close) FROM raw_billing.files WHERE table_name = $table AND source = $source "
        "AND kind = 'full' AND status = 'loaded' AND extract_close > $close",
        {"table": table.name, "source": source, "close": close},
    ).fetchone()
    inserted = insert(
        f"SELECT a.* FROM billing_accepted AS a WHERE a.updated_at IS NOT NULL AND NOT EXISTS "
        f"(SELECT 1 FROM {name} AS v WHERE v.source = a.source AND v._hash = a._hash AND {_same(table, 'v', 'a')})",
        "updated_at",
        own_deletion,
        "false",
    )
    is_list = kind == "full" and table.absence_is_deletion
    came_back = "a.updated_at <= b._changed_at" if is_list else "false"
    run(
        f"CREATE OR REPLACE TEMP TABLE billing_seen AS SELECT a.* FROM ("
        f"SELECT * FROM billing_accepted QUALIFY row_number() OVER (PARTITION BY {key} "
        f"ORDER BY updated_at DESC NULLS LAST) = 1) AS a LEFT JOIN billing_before AS b "
        f"ON {_same(table, 'a', 'b')} WHERE CASE WHEN b.source IS NULL THEN a.updated_at IS NULL "
        f"WHEN b._absent THEN a.updated_at IS NULL OR {came_back} "
        f"ELSE a.updated_at IS NULL AND a._hash <> b._hash END"
    )
    inserted += insert("SELECT * FROM billing_seen", "$seen_at::TIMESTAMP", own_deletion, "false")
    deleted = 0
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE billing_gone AS SELECT * FROM billing_before WHERE false"
    )
    if is_list:
        # Only what an extract of this day or before had listed can be missing from this one.
        run(
            f"INSERT INTO billing_gone SELECT b.* FROM billing_before AS b "
            f"WHERE b._deleted_at IS NULL AND NOT EXISTS "
            f"(SELECT 1 FROM billing_accepted AS a WHERE {_same(table, 'a', 'b')}) AND EXISTS "
            f"(SELECT 1 FROM {name} AS v JOIN raw_billing.files AS f ON f.file_no = v._file_no "
            f"WHERE v.source = $source AND f.extract_close <= $close AND {_same(table, 'v', 'b')})"
        )
        deleted = insert("SELECT * FROM billing_gone", "$seen_at::TIMESTAMP", "$seen_at::TIMESTAMP", "true")
    if later is not None and later[0] is not None:
        next_seen = later[0] - timedelta(microseconds=1)
        touched = f"SELECT source, {key}, _hash FROM billing_seen UNION ALL SELECT source, {key}, _hash FROM billing_gone"
        untold = (
            f"NOT EXISTS (SELECT 1 FROM {name} AS v WHERE v.source = $source AND v._changed_at > $seen_at "
            f"AND v._changed_at <= $next_seen AND {_same(table, 'v', 't')})"
        )
        inserted += insert(
            f"SELECT b.* FROM billing_before AS b JOIN ({touched}) AS t ON {_same(table, 'b', 't')} WHERE {untold}",
            "$next_seen::TIMESTAMP",
            "_deleted_at",
            "_absent",
            next_seen=next_seen,
        )
        if table.absence_is_deletion:
            deleted += insert(
                f"SELECT t.* FROM billing_accepted AS t WHERE (t.updated_at IS NULL OR t.updated_at <= $seen_at) "
                f"AND NOT EXISTS (SELECT 1 FROM billing_before AS b WHERE {_same(table, 'b', 't')}) AND {untold} "
                f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY t.updated_at DESC NULLS LAST) = 1",
                "$next_seen::TIMESTAMP",
                "$next_seen::TIMESTAMP",
                "true",
                next_seen=next_seen,
            )
    return Appended(inserted, deleted)


def _same(table: Table, left: str, right: str) -> str:
    return " AND ".join(f"{left}.{ident(k)} = {right}.{ident(k)}" for k in table.key)
