"""The ledger: changes of subscriptions, one in a hundred told late, into inputs.subscription_versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import Job

TITLE = "billing ledger"
REFERENCE = "one window over the same versions: which follows which"
ROUNDS = 1

_FILE = "build.duckdb"
_CHANGES = 30


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Fill raw_billing: one item for each subscription, a new quantity every twenty days."""
    import duckdb

    from hub_pipeline.settings import Settings
    from hub_pipeline.sources.billing import ensure
    from hub_pipeline.warehouse.mapping import create_mapped_views

    count = 3_000 if quick else 30_000
    with duckdb.connect(folder / _FILE) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE SCHEMA raw_hubspot")
        ensure(connection)
        create_mapped_views(connection, Settings())
        connection.execute(
            f"""
            CREATE TEMP TABLE subscriptions AS
            SELECT 'crm' AS source, 's' || i AS subscription_id, 'c' || i // 2 AS customer_id, 'i' || i AS subscription_item_id,
                TIMESTAMP '2025-01-01' + to_minutes(i % 1000) AS started_at, true AS livemode, false AS is_deleted,
                false AS _absent, '' AS _precedence, 1 AS _file_no, i AS _line
            FROM range({count}) AS t(i);
            INSERT INTO raw_billing.subscriptions BY NAME
            SELECT * EXCLUDE (subscription_item_id), 'active' AS status, 'USD' AS currency, false AS cancel_at_period_end,
                started_at AS _changed_at, started_at AS _recorded_at
            FROM subscriptions;
            INSERT INTO raw_billing.subscription_items BY NAME
            SELECT * EXCLUDE (customer_id, started_at, j), started_at AS created_at, 'Team' AS product_name, 'seat' AS seat_role,
                hash(_line, j) % 100 AS quantity, 1200 AS unit_amount_minor, 'per_unit' AS billing_scheme,
                'licensed' AS usage_type, 'month' AS interval, 1 AS interval_count,
                started_at + to_days(20 * j::INTEGER) AS _changed_at,
                started_at + to_days(20 * j::INTEGER + CASE WHEN hash(_line, j, 1) % 100 = 0 THEN 45 ELSE 0 END) AS _recorded_at
            FROM subscriptions, range({_CHANGES}) AS c(j);
            """
        )
    yield f"{count * _CHANGES:,} changes of {count:,} subscriptions"


def ours(folder: Path, work: Path) -> Job:
    """Run the model as the daily job does."""
    import shutil

    import duckdb

    from hub_pipeline.models import catalog, run_model
    from hub_pipeline.models.engine import model_parameters
    from hub_pipeline.models.macros import create_macros
    from hub_pipeline.settings import Settings

    shutil.copy(folder / _FILE, work / _FILE)
    model = catalog()["inputs.subscription_versions"]
    parameters = model_parameters(None, None, Settings())

    def job() -> None:
        with duckdb.connect(work / _FILE, config={"memory_limit": "4GB"}) as connection:
            create_macros(connection)
            assert run_model(connection, model, parameters).rows > 0

    return job


def reference(folder: Path, work: Path) -> Job:
    """Order the versions of each item; nothing is joined, corrected, added up or compared."""
    import shutil

    import duckdb

    shutil.copy(folder / _FILE, work / _FILE)

    def job() -> None:
        with duckdb.connect(work / _FILE) as connection:
            connection.execute(
                "CREATE TABLE ordered AS SELECT *, lead(_changed_at) OVER (PARTITION BY source, subscription_item_id "
                "ORDER BY _changed_at) AS valid_to FROM raw_billing.subscription_items"
            )

    return job
