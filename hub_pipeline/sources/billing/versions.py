"""From the accepted rows of one file to append-only versions, whatever the order in which files arrive.

What a record was is a function of the set of files, never of the order in which they came. Files tell statements:

- a row with ``updated_at``: from then on the record is so; of several different rows of one record and time the one of
  the last file holds;
- a row without: the record is so at the end of the extract's day;
- a full file that lists a record with its time: at the end of its day the record is as the latest such time says;
- a full file that leaves a record out, where absence means deletion and an earlier file had told the record: at the
  end of its day it is gone.

Of two statements the one of the later instant holds, at one instant a deletion, then the one of the later file. Files
are ordered by their precedence: the extract's date, full before delta, the file's number, its content. A full file's
word on a record is stored as a version only where it is news, so ``raw_billing.listed`` keeps what each full file said
of each record wherever that differs from the full file before it: enough to tell, when a file comes late, what is news
behind it now. What then does not hold any more is corrected by a further version of the same instant, recorded now.

Nothing here inserts what may be no rows: DuckDB 2.0.0 hides, until a checkpoint, what a transaction inserts into a table
into which it has inserted no rows before, or which it has made as an empty SELECT, once that is more than a row group.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from hub_pipeline.errors import WarehouseError
from hub_pipeline.sources.billing.contract import Table
from hub_pipeline.sources.billing.folder import Kind
from hub_pipeline.sources.billing.tables import BOOKKEEPING, CORRECTION, NEWEST_FIRST, columns
from hub_pipeline.warehouse.landing import LoadContext
from hub_pipeline.warehouse.sql import ident, idents, literal

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
    is_rest: bool = False,
) -> Appended:
    """Append what ``temp.billing_checked`` accepted, inside the caller's transaction.

    Args:
        close: the instant the extract's date ends; its rows were seen one microsecond before.
        file_no: number of the file in the manifest.
        rank: its `precedence`.
        is_rest: these are rows of a file loaded before that were quarantined then, and no whole file.
    """
    return _Appending(connection, table, source, kind, close, file_no, load, rank, is_rest).append()


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
        is_rest: bool,
    ) -> None:
        self._connection = connection
        self._table = table
        self._name = f"raw_billing.{ident(table.name)}"
        self._key = idents(table.key)
        self._payload = idents(columns(table))
        self._kind = kind
        self._is_rest = is_rest
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
        self._unsaid = literal("absent" if table.absence_is_deletion else "silent")
        self._deleted_at = "deleted_at" if "deleted_at" in table.columns else "NULL::TIMESTAMP"
        self._entered_at = "entered_at" if "entered_at" in table.columns else "NULL::TIMESTAMP"
        self._touched: list[str] = []
        """SELECTs of key, _record and since: the records that have to be looked at, and from when on."""

    def append(self) -> Appended:
        """Everything, in order."""
        self._run(
            f"CREATE OR REPLACE TEMP TABLE billing_accepted AS SELECT $source::VARCHAR AS source, "
            f"{idents(self._table.columns)}, extra, _hash, line_no AS _line, hash({self._key}) AS _record "
            "FROM billing_checked WHERE reasons IS NULL AND NOT is_duplicate"
        )
        is_first = not self._has(f"SELECT 1 FROM {self._name} WHERE source = $source")
        is_last = not self._has(
            "SELECT 1 FROM raw_billing.lists WHERE table_name = $table AND source = $source AND _precedence > $rank"
        )
        if self._kind == "full" and not is_first:
            self._run(f"CREATE OR REPLACE TEMP TABLE billing_before AS {self._state()}")
        if self._kind == "full":
            self._list(is_first, is_last)
        inserted = self._tell(is_first, is_last)
        restored, deleted = self._settle()
        return Appended(inserted + restored, deleted)

    # What the file says ------------------------------------------------------------------------------------------

    def _list(self, is_first: bool, is_last: bool) -> None:
        """Keep what a full file says of each record, where that differs from the full file before."""
        newest = "QUALIFY row_number() OVER (PARTITION BY _record ORDER BY updated_at DESC NULLS FIRST) = 1"
        if not self._has("SELECT 1 FROM billing_accepted HAVING count(*) > count(DISTINCT _record)"):
            newest = ""
        words = (
            f"SELECT {self._key}, _record, _hash AS word, CASE WHEN updated_at IS NULL THEN 'seen' ELSE 'timed' END AS said, "
            f"least(updated_at, $seen_at::TIMESTAMP) AS since FROM billing_accepted {newest}"
        )
        if not self._is_rest:
            words = (
                f"({words}) UNION ALL SELECT DISTINCT {self._key}, hash({self._key}), NULL::UBIGINT, 'silent', "
                "$seen_at::TIMESTAMP FROM billing_unread AS u WHERE NOT EXISTS (SELECT 1 FROM billing_accepted AS a "
                f"WHERE {self._same('a', 'u')})"
            )
        self._run(f"CREATE OR REPLACE TEMP TABLE billing_words AS {words}")
        if is_first and is_last:
            if self._has("SELECT 1 FROM billing_words"):
                self._run(
                    "INSERT INTO raw_billing.listed SELECT $table, $source, _record, $rank, word, said FROM billing_words"
                )
        else:
            self._compare_words(is_last)
        if not self._is_rest:
            self._run("INSERT INTO raw_billing.lists VALUES ($table, $source, $close, $rank, $floor)")
        if is_first:
            return
        # Records whose state at the end of the day is not what the file says of them.
        self._touched.append(
            f"SELECT {idents(self._table.key, 'w.')}, w._record, $seen_at::TIMESTAMP AS since "
            f"FROM billing_words AS w JOIN billing_before AS b ON {self._same('w', 'b')} "
            "WHERE CASE w.said WHEN 'seen' THEN b._hash <> w.word OR b._absent "
            "WHEN 'timed' THEN b._absent OR b._is_seen ELSE false END"
        )
        if self._table.absence_is_deletion and not self._is_rest:
            self._touched.append(
                f"SELECT {self._key}, hash({self._key}) AS _record, $seen_at::TIMESTAMP AS since FROM billing_before AS b "
                f"WHERE b._is_live AND NOT EXISTS (SELECT 1 FROM billing_words AS w WHERE {self._same('w', 'b')})"
            )

    def _compare_words(self, is_last: bool) -> None:
        """Words of a full file that is not the first one; of the rest of a file, only those of its records."""
        self._run(
            "CREATE OR REPLACE TEMP TABLE billing_heard AS WITH now AS (SELECT record, "
            "arg_max(struct_pack(word := word, said := said), _precedence) AS was FROM raw_billing.listed "
            "WHERE table_name = $table AND source = $source AND _precedence <= $rank GROUP BY record) "
            f"SELECT coalesce(n.record, w._record) AS _record, w.word, coalesce(w.said, {self._unsaid}) AS said, "
            f"n.was.word AS old_word, coalesce(n.was.said, {self._unsaid}) AS old_said FROM now AS n "
            f"{'RIGHT' if self._is_rest else 'FULL'} JOIN billing_words AS w ON w._record = n.record "
            f"WHERE coalesce(w.said, {self._unsaid}) <> coalesce(n.was.said, {self._unsaid}) "
            "OR w.word IS DISTINCT FROM n.was.word"
        )
        if not self._has("SELECT 1 FROM billing_heard"):
            return
        self._run(
            "DELETE FROM raw_billing.listed WHERE table_name = $table AND source = $source AND _precedence = $rank "
            "AND record IN (SELECT _record FROM billing_heard)"
        )
        self._run(
            "INSERT INTO raw_billing.listed SELECT $table, $source, _record, $rank, word, said FROM billing_heard"
        )
        if is_last:
            return
        # The full file behind this one says what it said; that is written out where it differs from this one's word.
        self._run(
            "INSERT INTO raw_billing.listed SELECT $table, $source, h._record, n.rank, h.old_word, h.old_said "
            "FROM billing_heard AS h CROSS JOIN (SELECT min(_precedence) AS rank FROM raw_billing.lists "
            "WHERE table_name = $table AND source = $source AND _precedence > $rank) AS n WHERE NOT EXISTS "
            "(SELECT 1 FROM raw_billing.listed AS l WHERE l.table_name = $table AND l.source = $source "
            "AND l._precedence = n.rank AND l.record = h._record)"
        )
        self._touched.append(
            f"SELECT {idents(self._table.key, 'w.')}, h._record, w.since FROM billing_heard AS h "
            "JOIN billing_words AS w USING (_record)"
        )

    def _tell(self, is_first: bool, is_last: bool) -> int:
        """Insert the rows that say something by themselves, and name the records that have to be looked at."""
        told = (
            f"EXISTS (SELECT 1 FROM {self._name} AS v WHERE v.source = a.source AND v._hash = a._hash "
            f"AND v._changed_at = a.updated_at AND {self._same('v', 'a')})"
        )
        known = (
            f"EXISTS (SELECT 1 FROM {self._name} AS v WHERE v.source = a.source AND {self._same('v', 'a')})"
        )
        # Of a record that nobody told before, with no full file behind this one, the rows are the history.
        plain = f"NOT {known}" if is_last else "false"
        if is_first:
            told, plain = "false", "true" if is_last else "false"
        self._run(
            f"CREATE OR REPLACE TEMP TABLE billing_told AS SELECT a.*, {told} AS is_told, {plain} AS is_plain "
            "FROM billing_accepted AS a WHERE updated_at IS NOT NULL"
        )
        self._run(
            f"CREATE OR REPLACE TEMP TABLE billing_seen AS SELECT a.*, {plain} AS is_plain FROM billing_accepted AS a "
            "WHERE updated_at IS NULL"
        )
        if not is_first:
            self._run(
                "CREATE OR REPLACE TEMP TABLE billing_contests AS SELECT _record, updated_at FROM billing_told AS a "
                f"WHERE NOT is_told AND NOT is_plain AND EXISTS (SELECT 1 FROM {self._name} AS v WHERE v.source = a.source "
                f"AND v._changed_at = a.updated_at AND v.updated_at = v._changed_at AND v._hash <> a._hash AND {self._same('v', 'a')})"
            )
            if self._has("SELECT 1 FROM billing_contests"):
                self._run(
                    "INSERT INTO raw_billing.contested SELECT $table, $source, _record, updated_at FROM billing_contests"
                )
            contested = (
                "EXISTS (SELECT 1 FROM raw_billing.contested AS c WHERE c.table_name = $table AND c.source = $source "
                "AND c.record = a._record AND c.changed_at = a.updated_at)"
            )
            again = (
                "is_told" if self._kind == "delta" else f"is_told AND {contested}" if is_last else "is_told"
            )
            self._touched.append(
                f"SELECT {self._key}, _record, updated_at AS since FROM billing_told AS a "
                f"WHERE NOT is_plain AND (NOT is_told OR {again})"
            )
            if self._kind == "delta" and self._has("SELECT 1 FROM billing_told WHERE is_told"):
                self._run(
                    "INSERT INTO raw_billing.retold SELECT $table, $source, _record, $rank, _hash FROM billing_told WHERE is_told"
                )
        if not is_first:
            # Of a full file with none behind it `_list` has named those that are otherwise at the end of the day.
            fresh = "true"
            if is_last and self._kind == "full":
                fresh = f"NOT EXISTS (SELECT 1 FROM billing_before AS b WHERE {self._same('b', 'a')})"
            self._touched.append(
                f"SELECT {self._key}, _record, $seen_at::TIMESTAMP AS since FROM billing_seen AS a "
                f"WHERE NOT is_plain AND {fresh}"
            )
        deletion = self._deletion("$seen_at::TIMESTAMP")
        inserted = self._insert("SELECT * FROM billing_told WHERE NOT is_told", "updated_at", deletion)
        which = "is_plain" if self._kind == "full" else "true"
        return inserted + self._insert(
            f"SELECT * FROM billing_seen WHERE {which}", "$seen_at::TIMESTAMP", deletion
        )

    # What holds now ----------------------------------------------------------------------------------------------

    def _settle(self) -> tuple[int, int]:
        """Correct the versions of the touched records from the first instant of which the file speaks.

        Returns:
            Versions added, and those of them that say that a record is gone.
        """
        if not self._touched:
            return 0, 0
        self._run(
            f"CREATE OR REPLACE TEMP TABLE billing_touched AS SELECT {self._key}, _record, min(since) AS since "
            f"FROM ({' UNION ALL '.join(self._touched)}) AS t GROUP BY ALL"
        )
        if not self._has("SELECT 1 FROM billing_touched"):
            return 0, 0
        self._run(
            "CREATE OR REPLACE TEMP TABLE billing_history AS SELECT v.rowid AS _row, t._record, t.since, v._hash, v.updated_at, "
            "v._changed_at, v._recorded_at, v._deleted_at, v._absent, v._precedence, v._line, "
            f"NOT v._absent AND NOT {CORRECTION.replace('_precedence', 'v._precedence')} AS is_word, v.is_deleted, "
            f"coalesce({self._deleted_at}, CASE WHEN v.is_deleted THEN v.updated_at END) AS own_deletion "
            f"FROM {self._name} AS v JOIN billing_touched AS t ON v.source = $source AND {self._same('v', 't')}"
        )
        self._run(f"CREATE OR REPLACE TEMP TABLE billing_times AS {_TIMES}")
        self._run(
            f"CREATE OR REPLACE TEMP TABLE billing_anchors AS {_ANCHORS.format(unsaid=self._unsaid, deleted_at=self._deleted_at)}"
        )
        self._run(f"CREATE OR REPLACE TEMP TABLE billing_due AS {_DUE}")
        due = self._run("SELECT count(*) FROM billing_due")
        if due == 0:
            return 0, 0
        gone = self._run("SELECT count(*) FROM billing_due WHERE absent")
        entered_at = f"CASE WHEN d.absent THEN NULL ELSE {self._entered_at} END"
        added = self._run(
            f"INSERT INTO {self._name} ({self._payload}, {idents(BOOKKEEPING)}) "
            f"SELECT {self._payload}, d.instant, greatest(d.instant, d.recorded_at, {entered_at}, $floor::TIMESTAMP), "
            f"CASE WHEN d.absent THEN d.gone_at ELSE {self._deletion('d.said_at')} END, d.absent, $floor::TIMESTAMP, "
            f"p._hash, d.rank, $file_no, p._line, $run_id FROM billing_due AS d JOIN ("
            f"SELECT {self._payload}, _hash, _line, _record FROM billing_accepted UNION ALL "
            f"SELECT {idents(columns(self._table), 'v.')}, v._hash, v._line, h._record FROM {self._name} AS v "
            "JOIN (SELECT _record, _hash, min(_row) AS _row FROM billing_history GROUP BY ALL) AS h ON h._row = v.rowid "
            "WHERE NOT EXISTS (SELECT 1 FROM billing_accepted AS a WHERE a._record = h._record AND a._hash = h._hash)"
            ") AS p ON p._record = d._record AND p._hash = d.content"
        )
        if added != due:
            raise WarehouseError(
                f"Of {due} versions of {self._table.name} that follow from a file only {added} could be written. Nothing of "
                "the file was kept; this is a mistake in hub-pipeline, please report it."
            )
        return added - gone, gone

    def _deletion(self, seen_at: str) -> str:
        """SQL of when the record of a row was deleted by what the row itself says."""
        return f"coalesce({self._deleted_at}, CASE WHEN is_deleted THEN coalesce(updated_at, {seen_at}) END)"

    def _state(self) -> str:
        """SELECT of the versions in force at the end of the extract's day, without their payload."""
        return (
            f"SELECT {self._key}, _hash, _absent, _deleted_at IS NULL AS _is_live, updated_at IS NULL AS _is_seen "
            f"FROM {self._name} WHERE source = $source AND _changed_at <= $seen_at::TIMESTAMP "
            f"QUALIFY row_number() OVER (PARTITION BY {self._key} ORDER BY {NEWEST_FIRST}) = 1"
        )

    def _insert(self, rows: str, changed_at: str, deleted_at: str) -> int:
        if not self._has(rows):
            return 0
        return self._run(
            f"INSERT INTO {self._name} ({self._payload}, {idents(BOOKKEEPING)}) "
            f"SELECT {self._payload}, {changed_at}, greatest({changed_at}, {self._entered_at}, $floor::TIMESTAMP), {deleted_at}, false, "
            f"$floor::TIMESTAMP, _hash, $rank::VARCHAR, $file_no, _line, $run_id FROM ({rows}) AS x"
        )

    def _has(self, sql: str) -> bool:
        return self._connection.execute(f"{sql} LIMIT 1", self._values(sql)).fetchone() is not None

    def _run(self, sql: str) -> int:
        row = self._connection.execute(sql, self._values(sql)).fetchone()
        return int(row[0]) if row else 0

    def _values(self, sql: str) -> dict[str, object]:
        return {k: v for k, v in self._parameters.items() if re.search(rf"\${k}\b", sql)}

    def _same(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{ident(k)} = {right}.{ident(k)}" for k in self._table.key)


#: What rows with a time say of the touched records: of several rows of one record and time the one that holds, which is a
#: deletion, else the one of the file told last; ``first_rank`` is the first file that told it.
_TIMES = """
WITH told AS (
    SELECT h._record, h.updated_at AS instant, h._hash AS content, bool_or(h._deleted_at IS NOT NULL) AS is_deleted,
        min(h._deleted_at) AS gone_at, min(h._precedence) AS first_rank, max(h._precedence) AS last_rank
    FROM billing_history AS h
    WHERE h.is_word AND h.updated_at = h._changed_at
    GROUP BY ALL
),
again AS (
    SELECT record, word, min(_precedence) AS first_rank, max(_precedence) AS last_rank
    FROM (
        SELECT record, word, _precedence FROM raw_billing.retold WHERE table_name = $table AND source = $source
        UNION ALL
        SELECT w.record, w.word, l._precedence
        FROM (
            SELECT record, word, said, _precedence,
                lead(_precedence) OVER (PARTITION BY record ORDER BY _precedence) AS until
            FROM raw_billing.listed
            WHERE table_name = $table AND source = $source
                AND record IN (SELECT record FROM raw_billing.contested WHERE table_name = $table AND source = $source)
                AND record IN (SELECT _record FROM billing_touched)
        ) AS w
        JOIN raw_billing.lists AS l ON l.table_name = $table AND l.source = $source AND l._precedence >= w._precedence
            AND (w.until IS NULL OR l._precedence < w.until)
        WHERE w.said = 'timed'
    ) AS tellings
    WHERE record IN (SELECT _record FROM billing_touched)
    GROUP BY ALL
)
SELECT t._record, t.instant, t.content, t.is_deleted, t.gone_at, least(t.first_rank, a.first_rank) AS first_rank,
    row_number() OVER (
        PARTITION BY t._record, t.instant ORDER BY t.is_deleted DESC, greatest(t.last_rank, a.last_rank) DESC
    ) = 1 AS holds
FROM told AS t
LEFT JOIN again AS a ON a.record = t._record AND a.word = t.content
"""

#: The statements on the touched records since the first one that the file makes, one an instant, and the version in
#: force before: what is so from then on (``content``, gone at ``gone_at``, or ``absent``).
_ANCHORS = """
WITH lists AS (
    SELECT t._record, t.since, l.extract_close - INTERVAL 1 MICROSECOND AS instant, l._precedence AS rank
    FROM billing_touched AS t
    JOIN raw_billing.lists AS l ON l.table_name = $table AND l.source = $source
        AND l.extract_close - INTERVAL 1 MICROSECOND >= t.since
),
heard AS (
    SELECT l._record, l.instant, l.rank, w.word, coalesce(w.said, {unsaid}) AS said
    FROM lists AS l
    ASOF LEFT JOIN (
        SELECT record, word, said, _precedence FROM raw_billing.listed
        WHERE table_name = $table AND source = $source AND record IN (SELECT _record FROM billing_touched)
    ) AS w ON w.record = l._record AND l.rank >= w._precedence
),
deleted AS (
    SELECT _record, _hash, bool_or(is_deleted) AS is_deleted, max(gone_at) AS gone_at
    FROM (
        SELECT _record, _hash, is_deleted OR own_deletion IS NOT NULL AS is_deleted, own_deletion AS gone_at
        FROM billing_history
        UNION ALL
        SELECT _record, _hash, is_deleted OR {deleted_at} IS NOT NULL,
            coalesce({deleted_at}, CASE WHEN is_deleted THEN updated_at END)
        FROM billing_accepted
    ) AS either
    GROUP BY ALL
),
told AS (
    SELECT _record, instant, first_rank AS rank FROM billing_times
    UNION ALL
    SELECT _record, _changed_at, _precedence FROM billing_history WHERE is_word AND updated_at IS NULL
    UNION ALL
    SELECT w.record, l.extract_close - INTERVAL 1 MICROSECOND, w._precedence
    FROM raw_billing.listed AS w
    JOIN raw_billing.lists AS l ON l.table_name = $table AND l.source = $source AND l._precedence = w._precedence
    WHERE w.table_name = $table AND w.source = $source AND w.said IN ('seen', 'timed')
        AND w.record IN (SELECT _record FROM billing_touched)
),
statements AS (
    SELECT t._record, t.instant, t.first_rank AS rank, t.is_deleted, 'told' AS kind, t.content
    FROM billing_times AS t JOIN billing_touched AS r ON r._record = t._record AND t.instant >= r.since
    WHERE t.holds
    UNION ALL
    SELECT _record, _changed_at, _precedence, _deleted_at IS NOT NULL, 'told', _hash
    FROM billing_history
    WHERE is_word AND updated_at IS NULL AND split_part(_precedence, '/', 2) = '1' AND _changed_at >= since
    UNION ALL
    SELECT h._record, h.instant, h.rank, d.is_deleted, 'told', h.word
    FROM heard AS h JOIN deleted AS d ON d._record = h._record AND d._hash = h.word
    WHERE h.said = 'seen'
    UNION ALL
    SELECT h._record, h.instant, h.rank, false, 'listed', t.content
    FROM heard AS h ASOF JOIN (SELECT * FROM billing_times WHERE holds) AS t ON t._record = h._record AND h.instant >= t.instant
    WHERE h.said = 'timed'
    UNION ALL
    SELECT h._record, h.instant, h.rank, false, 'absent', NULL
    FROM heard AS h
    WHERE h.said = 'absent'
        AND EXISTS (SELECT 1 FROM told AS t WHERE t._record = h._record AND t.rank < h.rank AND t.instant <= h.instant)
),
one_an_instant AS (
    -- What a full file leaves out had been so until then, if only by the word of another file of the same instant.
    SELECT _record, instant, rank, kind,
        last_value(content IGNORE NULLS) OVER (
            PARTITION BY _record, instant ORDER BY is_deleted, rank ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS content
    FROM statements
    QUALIFY row_number() OVER (PARTITION BY _record, instant ORDER BY is_deleted DESC, rank DESC) = 1
),
base AS (
    SELECT _record, NULL::TIMESTAMP AS instant, '' AS rank, _deleted_at IS NOT NULL AND NOT _absent AS is_deleted,
        CASE WHEN _absent THEN 'absent' ELSE 'told' END AS kind, _hash AS content, _deleted_at AS gone_at, _changed_at
    FROM billing_history AS v
    WHERE _changed_at < since
    QUALIFY row_number() OVER (PARTITION BY _record ORDER BY __newest__) = 1
),
sequence AS (
    SELECT s._record, s.instant, s.rank, s.kind, s.content, coalesce(d.is_deleted, false) AS is_deleted,
        CASE WHEN d.is_deleted THEN coalesce(d.gone_at, s.instant) END AS gone_at
    FROM one_an_instant AS s
    LEFT JOIN deleted AS d ON d._record = s._record AND d._hash = s.content
    UNION ALL
    SELECT _record, instant, rank, kind, content, is_deleted, gone_at FROM base
),
carried AS (
    SELECT *, last_value(content IGNORE NULLS) OVER so_far AS carry,
        last_value(CASE WHEN content IS NOT NULL THEN is_deleted END IGNORE NULLS) OVER so_far AS is_carry_deleted
    FROM sequence
    WINDOW so_far AS (PARTITION BY _record ORDER BY instant NULLS FIRST ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
),
effective AS (
    SELECT *, lag(carry) OVER record AS carry_before, lag(kind) OVER record AS effective_before
    FROM carried
    WHERE instant IS NULL OR kind <> 'absent' OR (carry IS NOT NULL AND NOT coalesce(is_carry_deleted, false))
    WINDOW record AS (PARTITION BY _record ORDER BY instant NULLS FIRST)
)
SELECT _record, coalesce(instant, TIMESTAMP '0001-01-01') AS instant, rank, kind = 'absent' AS absent, carry AS content,
    CASE WHEN kind = 'absent' THEN coalesce(gone_at, instant) ELSE gone_at END AS gone_at
FROM effective
WHERE instant IS NULL OR effective_before IS NULL OR (kind <> effective_before AND 'absent' IN (kind, effective_before))
    OR (kind <> 'absent' AND carry IS DISTINCT FROM carry_before)
""".replace("__newest__", NEWEST_FIRST)

#: The versions that are missing: where the one in force is not what the statements say, or where none stands.
_DUE = """
WITH stored AS (
    SELECT _record, _changed_at AS instant, _hash, _absent, _deleted_at,
        max(_precedence) OVER (PARTITION BY _record, _changed_at) AS rank,
        max(_recorded_at) OVER (PARTITION BY _record, _changed_at) AS recorded_at
    FROM billing_history
    WHERE _changed_at >= since
    QUALIFY row_number() OVER (PARTITION BY _record, _changed_at ORDER BY __newest__) = 1
),
points AS (
    SELECT _record, instant FROM stored UNION SELECT _record, instant FROM billing_anchors
),
wanted AS (
    SELECT p._record, p.instant, a.content, a.absent, a.gone_at, a.rank, a.instant AS said_at
    FROM points AS p ASOF JOIN billing_anchors AS a ON a._record = p._record AND p.instant >= a.instant
),
compared AS (
    SELECT *, lag(content) OVER record AS content_before, lag(absent) OVER record AS absent_before,
        lag(gone_at) OVER record AS gone_before
    FROM wanted
    WINDOW record AS (PARTITION BY _record ORDER BY instant)
)
SELECT w._record, w.instant, w.content, w.absent, w.gone_at, w.said_at, s.recorded_at,
    CASE WHEN s._record IS NULL THEN w.rank ELSE greatest(s.rank, w.rank) || '+' END AS rank
FROM compared AS w
LEFT JOIN stored AS s ON s._record = w._record AND s.instant = w.instant
WHERE w.instant > TIMESTAMP '0001-01-01' AND CASE
    WHEN s._record IS NULL
    THEN (w.content, w.absent, w.gone_at) IS DISTINCT FROM (w.content_before, w.absent_before, w.gone_before)
    WHEN w.absent OR s._absent THEN (w.absent, w.gone_at) IS DISTINCT FROM (s._absent, s._deleted_at)
    ELSE (w.content, w.gone_at) IS DISTINCT FROM (s._hash, s._deleted_at)
END
""".replace("__newest__", NEWEST_FIRST)
