"""One large billing extract into versions of a raw table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path

from benchmarks.harness import Job

TITLE = "billing extract"
REFERENCE = "one read_csv of the same file, all text, into a table, checkpoint"
ROUNDS = 3

_DAY = date(2026, 10, 31)
_CLOSE = datetime(2026, 11, 1)  # noqa: DTZ001  UTC without offset, as the ledger keeps it
_FILE = "billing/incoming/bench/subscription_items__2026-10-31.csv"


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Write the extract."""
    import duckdb

    count = 20_000 if quick else 1_000_000
    path = folder / _FILE
    path.parent.mkdir(parents=True)
    duckdb.execute(
        f"""
        COPY (
            SELECT 'si_' || i AS subscription_item_id, 'sub_' || i // 2 AS subscription_id, 'seat' AS seat_role,
                1 + hash(i) % 400 AS quantity, 1200 + i % 9 AS unit_amount_minor, 'month' AS interval,
                strftime(created, '%Y-%m-%dT%H:%M:%SZ') AS updated_at
            FROM (SELECT i, TIMESTAMP '2023-01-01' + to_minutes((i * 5)::BIGINT) AS created
                FROM range({count}) AS t(i))
        ) TO '{path}' (HEADER)
        """
    )
    yield f"{count:,} rows, 7 columns, {path.stat().st_size / 1e6:.0f} MB"


def ours(folder: Path, work: Path) -> Job:
    """Load the folder as a run does."""
    from hub_pipeline.settings import Environment, Settings
    from hub_pipeline.sources import billing
    from hub_pipeline.warehouse import ledger
    from hub_pipeline.warehouse.database import Warehouse
    from hub_pipeline.warehouse.lock import RunLock

    extracts = str((folder / _FILE).parents[1])
    settings = Settings.model_validate({"billing": {"folder": extracts, "settle_seconds": 0}})
    environment = Environment(data_dir=work)
    warehouse = Warehouse.in_folder(work)

    def job() -> None:
        with RunLock(work) as lock, warehouse.connect() as connection:
            load, fence = ledger.begin_run(connection, lock, warehouse.state_path, _DAY, _CLOSE)
            results = billing.load(connection, settings, environment, load, fence)
            assert sum(result.inserted for result in results) == sum(r.records for r in results) > 0

    return job


def reference(folder: Path, work: Path) -> Job:
    """Read the file once; nothing is typed, compared, hashed, dated or recorded."""
    import duckdb

    def job() -> None:
        with duckdb.connect(work / "floor.duckdb") as connection:
            connection.execute(
                "CREATE TABLE items AS SELECT * FROM read_csv($path, header = true, all_varchar = true)",
                {"path": str(folder / _FILE)},
            )
            connection.execute("CHECKPOINT")

    return job
