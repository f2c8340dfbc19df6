"""All marts of one day, for a world that is larger than most."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from time import perf_counter

from benchmarks.harness import Job

TITLE = "models of one day"
REFERENCE = "a scan: the maximum of each column of the subscription versions, by organisation"
ROUNDS = 3

_DAY = date(2026, 10, 31)
#: Changes of each subscription, one every 45 days up to the day that is built.
_CHANGES = 30

#: Canonical table -> SELECT over ``o``, a range of $organisations numbers.
_WORLD = {
    "organisations": """
        SELECT 'o' || o AS org_id, 'Customer ' || o AS name, 'c' || o || '.example' AS domain, 'u' || o % 40 AS owner_id
        FROM {o}""",
    "org_parents": "SELECT 'o' || o AS org_id, 'o' || o - o % 10 AS parent_org_id FROM {o} WHERE o % 10 IN (1, 2)",
    "org_coverage": """
        SELECT 'o' || o AS child_org_id, 'o' || o - 1 AS payer_org_id, TIMESTAMP '2026-09-15' AS valid_from
        FROM {o} WHERE o % 50 = 3""",
    "subscription_versions": """
        SELECT 's' || o AS subscription_id, 'o' || o AS org_id, ['team', 'business', 'enterprise'][1 + o % 3] AS plan,
            ['month', 'year'][1 + o % 2] AS billing_interval, 5 + o % 60 + (hash(o * 31 + k) % 40) AS seats,
            seats * 12 AS amount, ['USD', 'USD', 'EUR'][1 + o % 3] AS currency,
            CASE WHEN k = {last} AND o % 25 = 4 THEN 'canceled' ELSE 'active' END AS status,
            TIMESTAMP '2026-10-31 12:00' - to_days(((o % 45) + 45 * ({last} - k))::INTEGER) AS effective_at,
            CASE WHEN status = 'canceled' THEN effective_at END AS ended_at,
            CASE WHEN o % 25 = 5 THEN TIMESTAMP '2027-02-01' END AS cancel_at,
            TIMESTAMP '2026-01-01' + to_days((o % 364)::INTEGER) AS term_start,
            term_start + INTERVAL 1 YEAR AS term_end
        FROM {o}, range({last} + 1) AS c(k)""",
    "contacts": """
        SELECT 'p' || o || '-' || n AS contact_id, 'p' || n || '@c' || o || '.example' AS email, 'Person ' || n AS name,
            'customer' AS lifecycle_stage
        FROM {o}, range(3) AS c(n)""",
    "contact_orgs": """
        SELECT 'p' || o || '-' || n AS contact_id, 'o' || o AS org_id, true AS is_primary FROM {o}, range(3) AS c(n)""",
    "nps_responses": """
        SELECT 'n' || o || '-' || n AS response_id, 'p' || o || '-' || n AS contact_id, 'o' || o AS org_id,
            hash(o + n) % 11 AS score, TIMESTAMP '2026-10-30' - to_days((o % 300)::INTEGER) AS responded_at
        FROM {o}, range(2) AS c(n)""",
    "conversations": """
        SELECT 'v' || o || '-' || n AS conversation_id, CASE WHEN o % 10 > 0 THEN 'p' || o || '-' || n END AS contact_id,
            CASE WHEN o % 10 > 0 THEN 'o' || o END AS org_id,
            TIMESTAMP '2026-10-30' - to_days((o % 60)::INTEGER) AS created_at, 'closed' AS state,
            1 + hash(o + n) % 5 AS rating, created_at AS rated_at
        FROM {o}, range(3) AS c(n)""",
    "conversation_parts": """
        SELECT 'v' || o || '-' || n AS conversation_id, m AS part_number, ['contact', 'admin'][1 + m % 2] AS author_type,
            TIMESTAMP '2026-10-30 01:00' - to_days((o % 60)::INTEGER) + to_minutes(m) AS created_at
        FROM {o}, range(3) AS c(n), range(4) AS d(m)""",
    "engagements": """
        SELECT 'e' || o || '-' || n AS engagement_id, ['email', 'call', 'meeting'][1 + n] AS type,
            'p' || o || '-' || n AS contact_id, 'o' || o AS org_id, 'u' || o % 40 AS user_id,
            TIMESTAMP '2026-10-29' - to_days((o % 50)::INTEGER) AS occurred_at
        FROM {o}, range(3) AS c(n)""",
    "users": "SELECT 'u' || u AS user_id, 'User ' || u AS name, 'csm' AS role, true AS is_active FROM range(40) AS t(u)",
    "deals": """
        SELECT 'd' || o AS deal_id, 'Renewal ' || o AS name, 'o' || o AS org_id, 'post_sales' AS pipeline,
            'renewal' AS deal_type, 'negotiation' AS stage, 'open' AS status, 900 AS amount,
            CAST('2027-01-01' AS DATE) + (o % 364)::INTEGER AS close_date
        FROM {o} WHERE o % 3 = 0""",
    "fx_rates": "SELECT 'EUR' AS currency, 1.1 AS rate, CAST('2023-01-01' AS DATE) AS valid_from",
}


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Write the canonical files of the world and load them up to staging."""
    import duckdb

    from hub_pipeline.models import load_inputs
    from hub_pipeline.settings import Settings

    count = 1_000 if quick else 10_000
    files = folder / "inputs"
    files.mkdir()
    for table, select in _WORLD.items():
        sql = select.format(o=f"range({count}) AS t(o)", last=_CHANGES - 1)
        duckdb.execute(f"COPY ({sql}) TO '{files / table}.parquet'")
    with duckdb.connect(folder / "world.duckdb") as connection:
        counts = load_inputs(connection, files, Settings())
    assert not any(one.quarantined for one in counts)
    rows = sum(one.rows for one in counts)
    yield f"{count:,} organisations, {_CHANGES} subscription changes each, {rows:,} rows in all"


def ours(folder: Path, work: Path) -> Job:
    """Build the day into a copy of the file."""
    import duckdb

    from hub_pipeline.models import build, catalog

    file = shutil.copy(folder / "world.duckdb", work)

    def job() -> dict[str, float]:
        started = perf_counter()
        catalog()
        seconds = {"parsing all models": perf_counter() - started, "intermediate tables": 0.0}
        with duckdb.connect(file) as connection:
            result = build(connection, _DAY)
        for run in result.runs:
            schema, table = run.model.split(".")
            if schema == "intermediate":
                seconds["intermediate tables"] += run.seconds
            elif schema == "marts":
                seconds[table] = run.seconds
        return seconds

    return job


def reference(folder: Path, work: Path) -> Job:
    """Read every column once."""
    import duckdb

    file = shutil.copy(folder / "world.duckdb", work)

    def job() -> None:
        with duckdb.connect(file) as connection:
            connection.execute(
                "CREATE TABLE floor AS SELECT max(COLUMNS(*)) FROM staging.subscription_versions GROUP BY org_id"
            )

    return job
