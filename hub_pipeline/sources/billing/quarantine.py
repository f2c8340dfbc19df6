"""Rows that are not believed: kept as they were written, judged again when a rule changes, closed when it is settled.

A quarantined row keeps everything that is needed to read it again without its file. `redrive` does so for every
loaded file whose rules (contract, mapping, limits) are not those it was judged by; what is good now becomes known now.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from hub_pipeline.settings import Settings
from hub_pipeline.sources.billing.check import Counts, check, rules, terms
from hub_pipeline.sources.billing.contract import Table, contract
from hub_pipeline.sources.billing.folder import Extract, decoded, format_of, recognise
from hub_pipeline.sources.billing.mapping import FileMapping, TableMapping, identity
from hub_pipeline.sources.billing.text import split_csv, split_jsonl
from hub_pipeline.sources.billing.versions import append, precedence
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.landing import LoadContext
from hub_pipeline.warehouse.lock import Fence
from hub_pipeline.warehouse.sql import ident, literal

#: Times of a file may lie so far after its date.
FUTURE = timedelta(days=20 * 366)

#: Table -> the table its rows belong to, and by which column.
PARENTS = {
    "subscription_items": ("subscriptions", "subscription_id"),
    "subscription_schedules": ("subscriptions", "subscription_id"),
    "invoice_lines": ("invoices", "invoice_id"),
}


@dataclass(frozen=True)
class Redriven:
    """What was judged again of one table: rows that are good now, and versions that they gave."""

    table: str
    accepted: int
    inserted: int


def table_mapping(mapping: FileMapping | None, table: Table, header: Sequence[str]) -> TableMapping:
    """How the fields of a file become columns of one of its tables.

    Raises:
        ValueError: a required column is missing.
    """
    if mapping is None:
        return identity(table, header)
    return next(m for m in mapping.table if m.table == table.name)


def keep(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    extract: Extract,
    sha: str,
    close: datetime,
    now: datetime,
    limit: int | None,
) -> None:
    """Put the bad rows of ``temp.billing_checked`` into the quarantine; part of the caller's transaction.

    Args:
        now: start of the run.
        limit: keep only so many, of a file that stays where it is.
    """
    same_file = "file_sha256 = $sha AND source = $source AND table_name = $table AND extract_close = $close"
    values = {"sha": sha, "source": extract.source, "table": table.name, "close": close}
    earlier = connection.execute(
        f"SELECT min(first_seen_at) FROM raw_billing.quarantine WHERE {same_file}", values
    ).fetchone()
    connection.execute(f"DELETE FROM raw_billing.quarantine WHERE {same_file}", values)
    connection.execute(
        "INSERT INTO raw_billing.quarantine SELECT $sha, $name, $source, $table, $close, c.line_no, "
        "CASE WHEN starts_with(l.raw, chr(0)) THEN split_part(l.raw, chr(0), 3) "
        "ELSE coalesce(l.raw, CAST(to_json(l.f) AS VARCHAR)) END, starts_with(coalesce(l.raw, ''), chr(0)), "
        f"c.reasons, {_record('c', table)}, NULL, $first, $now, NULL, NULL "
        "FROM billing_checked AS c JOIN billing_lines AS l USING (line_no) WHERE c.reasons IS NOT NULL "
        "ORDER BY c.line_no" + ("" if limit is None else f" LIMIT {limit:d}"),
        {
            **values,
            "name": extract.path.name,
            "now": now,
            "first": now if earlier is None or earlier[0] is None else earlier[0],
        },
    )
    # A line that comes again as it was is the same mistake: it is as old as its first appearance.
    same_line = (
        "q.source = $source AND q.table_name = $table AND q.raw_line = n.raw_line AND q.resolved_at IS NULL "
        "AND n.source = $source AND n.table_name = $table AND n.file_sha256 = $sha AND n.extract_close = $close"
    )
    connection.execute(
        "UPDATE raw_billing.quarantine AS q SET first_seen_at = s.first_seen_at, last_seen_at = $now FROM ("
        "SELECT q.raw_line, min(q.first_seen_at) AS first_seen_at FROM raw_billing.quarantine AS q "
        f"JOIN raw_billing.quarantine AS n ON {same_line} GROUP BY q.raw_line HAVING count(*) > 1) AS s "
        "WHERE q.source = $source AND q.table_name = $table AND q.raw_line = s.raw_line AND q.resolved_at IS NULL",
        {**values, "now": now},
    )


def close_settled(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    extract: Extract,
    sha: str,
    close: datetime,
    now: datetime,
) -> None:
    """Close open rows that the file just loaded settles: it tells their record well, or replaces their whole file."""
    connection.execute(
        "UPDATE raw_billing.quarantine AS q SET resolved_at = $now, resolved_by = 'later_file' "
        "WHERE q.resolved_at IS NULL AND q.source = $source AND q.table_name = $table AND q.parent IS NULL "
        "AND q.extract_close <= $close AND NOT (q.file_sha256 = $sha AND q.extract_close = $close) "
        f"AND (q.record IN (SELECT {_record('c', table)} FROM billing_checked AS c WHERE c.reasons IS NULL) "
        "OR (q.file_sha256, q.extract_close) IN (SELECT (f.sha256, f.extract_close) FROM raw_billing.files AS f "
        "WHERE f.table_name = $table AND f.source = $source AND f.status <> 'loaded' AND f.extract_close = $close "
        "AND f.kind = $kind))",
        {
            "now": now,
            "source": extract.source,
            "table": table.name,
            "close": close,
            "sha": sha,
            "kind": extract.kind,
        },
    )


def has_open_rows(connection: duckdb.DuckDBPyConnection, table_name: str, source: str) -> bool:
    """Whether rows of one table and source still wait in the quarantine."""
    row = connection.execute(
        "SELECT 1 FROM raw_billing.quarantine WHERE table_name = $table AND source = $source AND resolved_at IS NULL "
        "LIMIT 1",
        {"table": table_name, "source": source},
    ).fetchone()
    return row is not None


def redrive(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    mappings: Sequence[FileMapping],
    load: LoadContext,
    fence: Fence,
) -> list[Redriven]:
    """Judge the open rows of loaded files again where the rules have changed since; each file in one transaction.

    The rows of a file whose name no mapping knows any more stay as they are.
    """
    files = connection.execute(
        "SELECT f.file_no, f.sha256, f.table_name, f.source, f.original_name, f.kind, f.extract_date, f.extract_close, "
        "f.sequence, f.is_mapped, f.header, f.rules FROM raw_billing.files AS f WHERE f.status = 'loaded' AND EXISTS "
        "(SELECT 1 FROM raw_billing.quarantine AS q WHERE q.file_sha256 = f.sha256 AND q.source = f.source "
        "AND q.table_name = f.table_name AND q.extract_close = f.extract_close AND q.resolved_at IS NULL "
        "AND q.parent IS NULL) ORDER BY f.file_no"
    ).fetchall()
    done = []
    for no, sha, table_name, source, name, kind, day, close, sequence, is_mapped, header, judged_by in files:
        mapping = _mapping(mappings, source, name, table_name) if is_mapped else None
        if is_mapped and mapping is None:
            continue
        table = contract()[table_name]
        current = rules(table, mapping, settings)
        if current == judged_by:
            continue
        extract = Extract(Path(name), source, day, kind, format_of(Path(name)), mapping, table_name, sequence)
        one = _File(connection, settings, load, table, extract, no, sha, close, tuple(header))
        with ledger.transaction(connection, fence):
            done.append(one.redrive(current))
    return done


class _File:
    """One loaded file whose open rows are judged again."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        settings: Settings,
        load: LoadContext,
        table: Table,
        extract: Extract,
        file_no: int,
        sha: str,
        close: datetime,
        header: Sequence[str],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._load = load
        self._table = table
        self._extract = extract
        self._file_no = file_no
        self._close = close
        self._header = header
        self._values: dict[str, Any] = {
            "sha": sha,
            "source": extract.source,
            "table": table.name,
            "close": close,
        }

    def redrive(self, current: str) -> Redriven:
        """Read, check, append and book."""
        self._read()
        mapping = self._extract.mapping
        try:
            counts = check(
                self._connection,
                self._table,
                table_mapping(mapping, self._table, self._header),
                mapping,
                self._header,
                terms(self._settings, self._close + FUTURE),
            )
        except ValueError:
            # The mapping now needs a column that this file never had, so its rows stay as they were judged.
            counts = Counts(0, 0, 0, 0)
            self._connection.execute(
                "CREATE OR REPLACE TEMP TABLE billing_checked AS SELECT 0 AS line_no WHERE false"
            )
        inserted = 0
        if counts.rows:
            counts = self._compared(counts)
            rank = precedence(
                self._close, self._extract.kind, self._extract.sequence, str(self._values["sha"])
            )
            appended = append(
                self._connection,
                self._table,
                self._extract.source,
                self._extract.kind,
                self._close,
                self._file_no,
                self._load,
                rank,
                is_rest=True,
            )
            inserted = appended.inserted
            self._settle()
        self._connection.execute(
            "UPDATE raw_billing.files SET accepted = accepted + $accepted, "
            "exact_duplicates = exact_duplicates + $duplicates, quarantined = quarantined - $accepted - $duplicates, "
            "inserted = inserted + $inserted, rules = $rules WHERE file_no = $no",
            {
                "accepted": counts.accepted,
                "duplicates": counts.exact_duplicates,
                "inserted": inserted,
                "rules": current,
                "no": self._file_no,
            },
        )
        return Redriven(self._table.name, counts.accepted, inserted)

    def _rows(self) -> str:
        return (
            "raw_billing.quarantine WHERE file_sha256 = $sha AND source = $source AND table_name = $table "
            "AND extract_close = $close AND resolved_at IS NULL AND parent IS NULL"
        )

    def _read(self) -> None:
        """The rows as `text.read` left them when the file was there."""
        if self._extract.format == "parquet":
            self._connection.execute(
                "CREATE OR REPLACE TEMP TABLE billing_lines AS SELECT line_no, NULL::VARCHAR AS raw, "
                "from_json(raw_line, '[\"VARCHAR\"]') AS f, NULL::VARCHAR AS broken FROM " + self._rows(),
                self._values,
            )
            return
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE billing_text AS SELECT line_no, CASE WHEN is_base64 "
            "THEN chr(0) || reasons[1] || chr(0) || raw_line ELSE raw_line END AS raw FROM " + self._rows(),
            self._values,
        )
        self._decode()
        if self._extract.format == "jsonl":
            split_jsonl(self._connection, self._header)
        else:
            delimiter = self._extract.mapping.delimiter if self._extract.mapping else ","
            split_csv(self._connection, self._header, delimiter, True, "true")

    def _decode(self) -> None:
        """Lines that were not UTF-8, in the encoding that the mapping names now."""
        encoding = self._extract.mapping.encoding if self._extract.mapping else None
        if encoding is None:
            return
        rows = self._connection.execute(
            f"SELECT line_no, raw_line FROM {self._rows()} AND is_base64", self._values
        ).fetchall()
        found = [(no, decoded(base64.b64decode(line), encoding)) for no, line in rows]
        read = [(no, line.decode()) for no, line in found if line is not None]
        self._connection.execute(
            "UPDATE billing_text AS t SET raw = d.line FROM "
            "(SELECT unnest($numbers) AS line_no, unnest($lines) AS line) AS d WHERE d.line_no = t.line_no",
            {"numbers": [no for no, _ in read], "lines": [line for _, line in read]},
        )

    def _compared(self, counts: Counts) -> Counts:
        """Rows of the same file that were believed before: the same again is a duplicate, another is a conflict."""
        same = " AND ".join(f"v.{ident(k)} = c.{ident(k)}" for k in self._table.key)
        self._connection.execute(
            "UPDATE billing_checked AS c SET is_duplicate = v._hash = c._hash, reasons = CASE WHEN v._hash <> c._hash "
            f"THEN ['two different rows for one {'/'.join(self._table.key)} and updated_at'] END "
            f"FROM raw_billing.{ident(self._table.name)} AS v WHERE c.reasons IS NULL AND NOT c.is_duplicate "
            f"AND v._file_no = $no AND {same} AND v.updated_at IS NOT DISTINCT FROM c.updated_at AND NOT v._absent",
            {"no": self._file_no},
        )
        row = self._connection.execute(
            "SELECT count(*) FILTER (reasons IS NULL AND NOT is_duplicate), "
            "count(*) FILTER (reasons IS NULL AND is_duplicate), count(*) FILTER (reasons IS NOT NULL) "
            "FROM billing_checked"
        ).fetchone()
        assert row is not None, "an aggregate without GROUP BY has one row"
        return replace(counts, accepted=row[0], exact_duplicates=row[1], quarantined=row[2])

    def _settle(self) -> None:
        self._connection.execute(
            "UPDATE raw_billing.quarantine AS q SET last_seen_at = $now, reasons = coalesce(c.reasons, q.reasons), "
            "resolved_at = CASE WHEN c.reasons IS NULL THEN $now END, "
            "resolved_by = CASE WHEN c.reasons IS NULL THEN 'rule_change' END "
            "FROM billing_checked AS c WHERE q.file_sha256 = $sha AND q.source = $source AND q.table_name = $table "
            "AND q.extract_close = $close AND q.resolved_at IS NULL AND q.parent IS NULL AND q.line_no = c.line_no",
            {**self._values, "now": self._load.started_at},
        )


def _mapping(mappings: Sequence[FileMapping], source: str, name: str, table_name: str) -> FileMapping | None:
    extract = recognise(Path(name), source, mappings)
    mapping = extract.mapping if extract else None
    return mapping if mapping and any(m.table == table_name for m in mapping.table) else None


def settle_parents(
    connection: duckdb.DuckDBPyConnection, settings: Settings, load: LoadContext
) -> dict[str, str]:
    """Name the rows whose subscription or invoice never came; part of the caller's transaction.

    Such a row counts nowhere until its parent comes, and then at once. Rows that have waited longer than
    ``billing.pending_days`` between their file's date and the day of the run stand in the quarantine until then.

    Returns:
        Table -> how many rows wait, for people.
    """
    notes = {}
    overdue = load.close - timedelta(days=settings.billing.pending_days)
    for name, (parent, column) in PARENTS.items():
        known = f"(SELECT 1 FROM raw_billing.{ident(parent)} AS p WHERE p.source = v.source AND p.{column} = v.{column})"
        connection.execute(
            "UPDATE raw_billing.quarantine AS v SET resolved_at = $now, resolved_by = 'later_file' "
            f"WHERE table_name = $table AND parent IS NOT NULL AND resolved_at IS NULL AND EXISTS {known.replace('v.' + column, 'v.parent')}",
            {"now": load.started_at, "table": name},
        )
        fields = ", ".join(f"{literal(c)}, v.{ident(c)}" for c in contract()[name].columns)
        orphans = (
            f"FROM raw_billing.{ident(name)} AS v JOIN raw_billing.files AS f ON f.file_no = v._file_no "
            f"WHERE NOT v._absent AND NOT EXISTS {known}"
        )
        connection.execute(
            "INSERT INTO raw_billing.quarantine SELECT f.sha256, f.original_name, f.source, $table, f.extract_close, "
            f"v._line, CAST(json_object({fields}) AS VARCHAR), false, "
            f"[{literal(column + ': there is no such row of ' + parent)}], {_record('v', contract()[name])}, v.{column}, "
            f"$now, $now, NULL, NULL {orphans} AND f.extract_close < $overdue AND NOT EXISTS "
            "(SELECT 1 FROM raw_billing.quarantine AS q WHERE q.file_sha256 = f.sha256 AND q.source = f.source "
            "AND q.table_name = $table AND q.extract_close = f.extract_close AND q.line_no = v._line "
            "AND q.parent IS NOT NULL AND q.resolved_at IS NULL)",
            {"now": load.started_at, "table": name, "overdue": overdue},
        )
        row = connection.execute(
            f"SELECT count(*) FILTER (f.extract_close >= $overdue), count(*) FILTER (f.extract_close < $overdue) {orphans}",
            {"overdue": overdue},
        ).fetchone()
        assert row is not None, "an aggregate without GROUP BY has one row"
        waiting, given_up = row
        parts = []
        if waiting:
            parts.append(f"{waiting:,} rows wait for their {parent}")
        if given_up:
            parts.append(
                f"{given_up:,} rows have waited more than {settings.billing.pending_days} days for their {parent} "
                "and stand in raw_billing.quarantine"
            )
        if parts:
            notes[name] = "; ".join(parts)
    return notes


def _record(alias: str, table: Table) -> str:
    """SQL of the key of a record as text, NULL when a part of it cannot be read."""
    parts = [f"CAST({alias}.{ident(name)} AS VARCHAR)" for name in table.key]
    complete = " AND ".join(f"{alias}.{ident(name)} IS NOT NULL" for name in table.key)
    return f"CASE WHEN {complete} THEN concat_ws(chr(31), {', '.join(parts)}) END"
