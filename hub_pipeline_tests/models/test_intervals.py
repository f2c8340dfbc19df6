"""Which version holds until which, for every state of knowledge, against a search through all versions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import duckdb
import pytest

from hub_pipeline.models import catalog, run_model
from hub_pipeline.models.engine import day_close, model_parameters
from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import load

START = datetime(2026, 3, 1)
SUBSCRIPTIONS = 400

Row = dict[str, Any]


def _rows() -> Iterator[Row]:
    """Few days for many versions, so that they tie, overtake each other and become known in any order."""
    random = Random(26)
    for number in range(SUBSCRIPTIONS):
        keys = {(random.randrange(10), random.randrange(13)) for _ in range(random.randint(1, 8))}
        for seats, (effective, recorded) in enumerate(sorted(keys)):
            is_end, before = random.random() < 0.4, random.randrange(4)
            start = START + timedelta(days=effective)
            yield {
                "subscription_id": f"s{number}",
                "org_id": "o",
                "seats": seats,
                "status": "canceled" if is_end else "active",
                "ended_at": start - timedelta(days=before) if is_end and before else None,
                "effective_at": start,
                "recorded_at": START + timedelta(days=recorded),
            }


def _searched(rows: list[Row], close: datetime) -> set[tuple[Any, ...]]:
    """(subscription, start, end, seats) by the words of the contract."""
    known = [row for row in rows if row["recorded_at"] < close]
    latest: dict[tuple[str, datetime], Row] = {}
    for row in sorted(known, key=lambda row: row["recorded_at"]):
        latest[row["subscription_id"], row["effective_at"]] = row
    found = set()
    for (name, start), row in latest.items():
        later = sorted(at for one, at in latest if one == name and at > start)
        ends = later[:1]
        if row["status"] != "canceled" and later:
            following = latest[name, later[0]]
            if following["status"] == "canceled" and following["ended_at"] and following["ended_at"] > start:
                ends.append(following["ended_at"])
        found.add((name, start, min(ends) if ends else None, row["seats"]))
    return found


@pytest.fixture(scope="module")
def staged() -> Iterator[duckdb.DuckDBPyConnection]:
    written = [
        {name: str(value) if isinstance(value, datetime) else value for name, value in row.items()}
        for row in _rows()
    ]
    with duckdb.connect() as connection:
        load(connection, {"subscription_versions": written})
        yield connection


@pytest.mark.parametrize("days", [0, 3, 7, 12])
def test_a_version_holds_until_the_next_one_that_is_known(
    staged: duckdb.DuckDBPyConnection, days: int
) -> None:
    settings = Settings()
    day = (START + timedelta(days=days)).date()
    parameters = model_parameters(day, None, settings)
    for table in ("organisation_identity", "subscription_intervals"):
        run_model(staged, catalog()[f"intermediate.{table}"], parameters)
    held = staged.execute(
        "SELECT subscription_id, valid_from, valid_to, seats FROM intermediate.subscription_intervals"
    ).fetchall()
    searched = _searched(list(_rows()), day_close(day, settings.zone))
    assert len(held) == len(searched) > 0
    assert set(held) == searched
