"""From Stripe's raw tables to rows of the billing contract, which load as any billing file does.

What Stripe says is put in one sequence for each record: what raw_billing knows already, the new events with the state
before and after each, and last the nightly list. Only what differs from the state before it becomes a row, so a night
in which nothing happened makes no rows, and events that come again make none either. A difference that no event
explains (an event lost after thirty days, or never sent) counts from the moment it was noticed, and keeps in
``extra.happened_after`` since when it may have been true.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, date, timedelta
from pathlib import Path

import duckdb

from hub_pipeline.errors import WarehouseError
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources import billing
from hub_pipeline.sources.billing.contract import Table, contract
from hub_pipeline.sources.progress import Progress
from hub_pipeline.sources.stripe import rows
from hub_pipeline.sources.stripe.streams import CONTRACT, SOURCE, ensure
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.crashpoints import crash_point
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.landing import LoadContext, fsync_folder, make_private_folder
from hub_pipeline.warehouse.lock import Fence
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline.warehouse.sql import ident, idents, literal

#: How times are written: naive UTC to the microsecond.
_TIME = "'%Y-%m-%dT%H:%M:%S.%fZ'"


def convert(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    environment: Environment,
    load: LoadContext,
    fence: Fence,
    progress: Progress | None = None,
) -> list[StreamResult]:
    """Turn what this run and earlier unfinished ones read into contract files, and load them.

    To be called after the streams of the run were loaded. Files that an earlier run wrote and did not load, or that
    a rebuilt warehouse does not know, are loaded first.

    Returns:
        One result for each contract table that Stripe fills, under the object ``contract_<table>``.

    Raises:
        LockHeldError: a later run has taken over.
        WarehouseError: the disk is full or the database fails; committed files stay.
    """
    folder = Warehouse.in_folder(environment.data_dir).stripe_root
    try:
        make_private_folder(folder)
    except OSError as error:
        raise WarehouseError(
            f"The folder {folder} cannot be made: {error.strerror}. Nothing was changed; make room or correct its "
            "rights, and run again."
        ) from error
    with ledger.transaction(connection, fence):
        billing.ensure(connection)
        ensure(connection)
    # A row of ours that is not believed is quarantined by itself: the file it shares is not somebody's mistake.
    trusting = settings.model_copy(
        update={"billing": settings.billing.model_copy(update={"max_quarantined": 1})}
    )

    def take(files: list[billing.IncomingFile]) -> list[StreamResult]:
        return billing.load_files(connection, trusting, environment, load, fence, files, progress)

    before = take(_not_loaded(connection, folder))
    written = _write(connection, settings, load, folder)
    crash_point("stripe.convert")
    results = {result.object: result for result in before}
    for result in take(written):
        earlier = results.get(result.object)
        results[result.object] = result if earlier is None else _sum(earlier, result)
    with ledger.transaction(connection, fence):
        connection.execute(
            "INSERT OR REPLACE INTO raw_stripe.conversions VALUES ($run_id, $as_of, $read_at)",
            {"run_id": load.run_id, "as_of": load.as_of, "read_at": load.started_at},
        )
    names = [f"contract_{table}" for table in CONTRACT]
    found = [results.get(name) or StreamResult(SOURCE, name, "complete") for name in names]
    return [_with_uncertain(connection, load, result) for result in found]


def _sum(one: StreamResult, other: StreamResult) -> StreamResult:
    return replace(
        other,
        records=one.records + other.records,
        inserted=one.inserted + other.inserted,
        deleted=one.deleted + other.deleted,
        quarantined=one.quarantined + other.quarantined,
        seconds=one.seconds + other.seconds,
    )


def _with_uncertain(
    connection: duckdb.DuckDBPyConnection, load: LoadContext, result: StreamResult
) -> StreamResult:
    row = connection.execute(
        "SELECT count(*) FROM raw_stripe.uncertain_changes WHERE table_name = $table AND run_id = $run_id",
        {"table": result.object.removeprefix("contract_"), "run_id": load.run_id},
    ).fetchone()
    if row is None or not row[0]:
        return result
    note = f"{row[0]:,} changes are told by no event, so when they happened is uncertain (raw_stripe.uncertain_changes)"
    return replace(result, message="; ".join(text for text in (result.message, note) if text))


def _file(folder: Path, table: str, load: LoadContext) -> Path:
    return folder / f"{table}__{load.as_of}__{load.run_id}.parquet"


def _incoming(path: Path) -> billing.IncomingFile:
    table, day, run_id = path.name.removesuffix(".parquet").split("__")
    sequence = int("".join(filter(str.isdigit, run_id.partition("-")[0])) or 0)
    return billing.IncomingFile(path, SOURCE, table, date.fromisoformat(day), "delta", sequence)


def _not_loaded(connection: duckdb.DuckDBPyConnection, folder: Path) -> list[billing.IncomingFile]:
    loaded = connection.execute(
        "SELECT original_name FROM raw_billing.files WHERE source = $source AND status = 'loaded'",
        {"source": SOURCE},
    ).fetchall()
    names = {name for (name,) in loaded}
    return [_incoming(path) for path in sorted(folder.glob("*__*__*.parquet")) if path.name not in names]


def _write(
    connection: duckdb.DuckDBPyConnection, settings: Settings, load: LoadContext, folder: Path
) -> list[billing.IncomingFile]:
    """Write what is new to one file for each table; a table to which nothing happened has none."""
    last = connection.execute("SELECT max(run_id), max(read_at) FROM raw_stripe.conversions").fetchone()
    converted, listed_before = last if last is not None else (None, None)
    values = {
        "run_id": load.run_id,
        "converted": converted or "",
        "read_at": load.started_at.replace(tzinfo=UTC).timestamp(),
        "organisation_key": settings.stripe.organisation_key.replace('"', ""),
        "parent_key": settings.stripe.parent_key.replace('"', ""),
    }
    files = []
    try:
        for statement in rows.STATEMENTS:
            used = {name: value for name, value in values.items() if f"${name}" in statement}
            connection.execute(statement, used)
        for name in CONTRACT:
            table = contract()[name]
            path = _file(folder, name, load)
            _sequence(connection, load, table)
            if _copy_new(connection, table, path, listed_before):
                files.append(_incoming(path))
    except duckdb.Error as error:
        raise WarehouseError(
            f"What Stripe sent could not be made into billing rows: {str(error).strip().splitlines()[0]} It stays in "
            "raw_stripe; make room or give more memory, and run again."
        ) from error
    finally:
        for name in (*rows.SCRATCH, *(f"stripe_rows_{name}" for name in CONTRACT), "stripe_sequence"):
            connection.execute(f"DROP TABLE IF EXISTS temp.{name}")
    return files


def _canonical(table: Table, name: str, value: str) -> str:
    """SQL of the one way to write a value of Stripe's or of raw_billing's, so that equal values are equal texts."""
    column = table.columns[name]
    text = f"nullif(CAST({value} AS VARCHAR), '')"
    if column.type == "timestamp":
        seconds = f"make_timestamp(1000000 * TRY_CAST({text} AS BIGINT))"
        text = f"coalesce(strftime({seconds}, {_TIME}), {text})"
    elif column.type in ("decimal", "unit_minor"):
        text = f"coalesce(regexp_replace(CAST(TRY_CAST({text} AS DECIMAL(38,12)) AS VARCHAR), '\\.?0+$', ''), {text})"
    elif column.type == "currency":
        text = f"upper({text})"
    return text if column.default is None else f"coalesce({text}, {literal(column.default)})"


def _sequence(connection: duckdb.DuckDBPyConnection, load: LoadContext, table: Table) -> None:
    """Make ``temp.stripe_sequence``: every state of every record with its moment, known ones included."""
    source = f"stripe_rows_{table.name}"
    has = {row[0] for row in connection.execute(f"DESCRIBE {source}").fetchall()}
    keys = idents(table.key)
    columns = [name for name in table.columns if name != "updated_at"]
    told = ", ".join(
        f"{_canonical(table, c, ident(c) if c in has else 'NULL')} AS {ident(c)}" for c in columns
    )
    known = ", ".join(f"{_canonical(table, c, _as_text(table, c))} AS {ident(c)}" for c in columns)
    content = ", ".join(f"coalesce(e.{ident(c)}, '~')" for c in columns)
    seen_at = load.close - timedelta(microseconds=1)
    gone = _gone(table)
    statement = f"""
        CREATE OR REPLACE TEMP TABLE stripe_sequence AS
        WITH known AS (
            SELECT {known}, _changed_at AS true_at, 0 AS rank FROM raw_billing.{ident(table.name)}
            WHERE source = {literal(SOURCE)}
        ),
        told AS (
            SELECT {told}, true_at, CASE origin WHEN 'before' THEN 1 WHEN 'event' THEN 2 ELSE 3 END AS rank FROM {source}
        ),
        moved AS (
            SELECT * FROM known UNION ALL SELECT * FROM told WHERE rank < 3
        ),
        last_moved AS (
            SELECT * FROM moved QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY true_at DESC, rank DESC) = 1
        ),
        listed AS (
            SELECT t.* REPLACE (greatest($seen_at, m.true_at + INTERVAL 1 MICROSECOND) AS true_at)
            FROM told AS t LEFT JOIN (SELECT {keys}, true_at FROM last_moved) AS m USING ({keys}) WHERE t.rank = 3
        ),
        missing AS (
            SELECT m.* REPLACE (
                greatest($seen_at, m.true_at + INTERVAL 1 MICROSECOND) AS true_at, 3 AS rank, 'true' AS is_deleted
                {_deleted_at(table)}
            )
            FROM last_moved AS m WHERE coalesce(m.is_deleted, 'false') <> 'true' AND ({gone})
                AND NOT EXISTS (SELECT 1 FROM listed AS l WHERE {" AND ".join(f"l.{ident(k)} = m.{ident(k)}" for k in table.key)})
        ),
        every AS (
            SELECT * FROM moved UNION ALL SELECT * FROM listed UNION ALL SELECT * FROM missing
        )
        SELECT e.*, concat_ws(chr(31), {content}) AS content,
            TRY_CAST(e.{ident(table.created)} AS TIMESTAMP) AS made_at FROM every AS e
        """
    connection.execute(statement, {"seen_at": seen_at})


def _deleted_at(table: Table) -> str:
    if "deleted_at" not in table.columns:
        return ""
    moment = "greatest($seen_at, m.true_at + INTERVAL 1 MICROSECOND)"
    return f", strftime({moment}, {_TIME}) AS deleted_at"


def _gone(table: Table) -> str:
    """SQL: whether the lists show that the record ``m``, which they do not hold, is gone."""
    if table.name == "subscription_items":
        # A list of subscriptions holds all items of those it holds.
        return "m.subscription_id IN (SELECT record FROM stripe_states WHERE origin = 'list')"
    if table.name == "subscription_schedules":
        return (
            "m.schedule_id IN (SELECT record FROM stripe_rows_subscription_schedules WHERE origin = 'list')"
        )
    key = table.key[0]
    return f"m.{key} IN (SELECT id FROM raw_stripe.{table.name}_current WHERE _deleted_at IS NOT NULL)"


def _as_text(table: Table, column: str) -> str:
    """SQL of a value of raw_billing as a file of the contract writes it."""
    if column == "is_deleted":
        return "CAST(is_deleted OR _deleted_at IS NOT NULL AS VARCHAR)"
    value = ident(column)
    if table.columns[column].type == "timestamp":
        return f"strftime({value}, {_TIME})"
    return value


def _copy_new(connection: duckdb.DuckDBPyConnection, table: Table, path: Path, listed_before: object) -> bool:
    """Write the states that differ from the one before them, unless raw_billing has them; whether there are any."""
    keys = idents(table.key)
    columns = [name for name in table.columns if name != "updated_at"]
    selected = f"""
        WITH dated AS (
            SELECT s.*, lag(content) OVER sequence AS content_before, lag(true_at) OVER sequence AS at_before,
                row_number() OVER sequence = 1 AS is_first, min(rank) OVER (PARTITION BY {keys}, true_at) = 0 AS is_known
            FROM stripe_sequence AS s WINDOW sequence AS (PARTITION BY {keys} ORDER BY true_at, rank)
        ),
        fresh AS (
            SELECT * REPLACE (CASE
                -- What held before the first thing that is known of a record held from its creation on.
                WHEN rank = 1 AND is_first THEN least(made_at, true_at)
                -- A second event of one second, which came later than the first.
                WHEN is_known THEN true_at + INTERVAL 1 MICROSECOND
                ELSE true_at
            END AS true_at)
            FROM dated WHERE rank > 0 AND content IS DISTINCT FROM content_before
        )
        SELECT {idents(columns)}, strftime(true_at, {_TIME}) AS updated_at,
            CASE WHEN rank IN (1, 3) AND at_before IS NOT NULL
                THEN strftime(greatest(at_before, least($listed_before::TIMESTAMP, true_at)), {_TIME})
            END AS happened_after
        FROM fresh ORDER BY {keys}, true_at
    """
    temporary = path.with_name(f".{path.name}.tmp")
    count = connection.execute(
        f"COPY ({selected}) TO {literal(str(temporary))} (FORMAT parquet, COMPRESSION zstd)",
        {"listed_before": listed_before},
    ).fetchone()
    if count is None or not count[0]:
        temporary.unlink(missing_ok=True)
        return False
    os.chmod(temporary, 0o600)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)
    return True
