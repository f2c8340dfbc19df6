"""A changed setting re-labels new days and never rewrites old ones; later knowledge stands beside a day."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.orchestration.run import DailyRun, RunReport
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.warehouse.database import open_published

DAY = date(2026, 10, 30)
NEXT = DAY + timedelta(days=1)

SUBSCRIPTIONS = """subscription_id,customer_id,status,currency,plan,started_at,updated_at
s1,c1,active,USD,team,2026-01-05T00:00:00Z,2026-01-05T00:00:00Z
"""
ITEMS = """subscription_item_id,subscription_id,seat_role,quantity,unit_amount_minor,interval,created_at,updated_at
i1,s1,seat,10,1000,month,2026-01-05T00:00:00Z,2026-01-05T00:00:00Z
i1,s1,seat,20,1000,month,2026-01-05T00:00:00Z,2026-10-01T00:00:00Z
"""
#: Told a day late: the organisation had grown further the day before.
LATE = """subscription_item_id,subscription_id,seat_role,quantity,unit_amount_minor,interval,created_at,updated_at
i1,s1,seat,50,1000,month,2026-01-05T00:00:00Z,2026-10-30T08:00:00Z
"""


def settings(min_seats: int) -> Settings:
    return Settings.model_validate(
        {
            "growth": {"min_seats": min_seats},
            "run": {"first_day": "2026-10-01"},
            "billing": {"settle_seconds": 0},
        }
    )


def run(
    environment: Environment,
    chosen: Settings,
    *days: date,
    read: bool = True,
    current_settings: bool = False,
    known_at: date | None = None,
) -> RunReport:
    with DailyRun(chosen, environment, days, current_settings=current_settings, known_at=known_at) as daily:
        if read:
            daily.read_source("billing")
        daily.fill_inputs()
        daily.stage()
        for day in days:
            daily.build_day(day)
        daily.create_views()
        daily.publish()
        report = daily.report()
    assert report is not None
    return report


def growth(environment: Environment) -> dict[tuple[date, date], tuple[int, bool, str]]:
    """(as_of, known_at) -> seats, fast growing, settings hash of the one organisation."""
    with open_published(environment.data_dir / "warehouse.duckdb") as connection:
        rows = connection.execute(
            "SELECT as_of, known_at, seats_now, is_fast_growing, settings_hash FROM marts.seat_growth"
        ).fetchall()
    return {(as_of, known): (seats, fast, digest) for as_of, known, seats, fast, digest in rows}


def versions(environment: Environment) -> dict[str, date]:
    with open_published(environment.data_dir / "warehouse.duckdb") as connection:
        rows = connection.execute("SELECT hash, first_as_of FROM _published.settings_versions").fetchall()
    return dict(rows)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    folder = tmp_path / "billing/incoming/crm"
    folder.mkdir(parents=True)
    (folder / "subscriptions__2026-10-30__delta.csv").write_text(SUBSCRIPTIONS)
    (folder / "subscription_items__2026-10-30__delta.csv").write_text(ITEMS)
    return Environment(data_dir=tmp_path)


def test_a_published_day_keeps_its_settings_until_a_backfill_is_told_otherwise(
    environment: Environment,
) -> None:
    strict, loose = settings(20), settings(5)
    run(environment, strict, DAY)
    first = growth(environment)
    assert first == {(DAY, DAY): (20, False, strict.settings_hash())}

    again = run(environment, loose, DAY)
    assert growth(environment) == first
    assert again.kept_settings == (DAY,)
    assert versions(environment) == {strict.settings_hash(): DAY}

    later = run(environment, loose, NEXT)
    assert growth(environment) == first | {(NEXT, NEXT): (20, True, loose.settings_hash())}
    assert later.kept_settings == ()
    assert versions(environment) == {strict.settings_hash(): DAY, loose.settings_hash(): NEXT}

    # A missed day between published ones takes the settings that were in force.
    day_before = DAY - timedelta(days=1)
    missed = run(environment, loose, day_before, read=False)
    assert missed.kept_settings == (day_before,)
    assert growth(environment)[day_before, day_before] == (20, False, strict.settings_hash())

    repaired = run(environment, loose, DAY, read=False, current_settings=True)
    assert growth(environment)[DAY, DAY] == (20, True, loose.settings_hash())
    assert repaired.kept_settings == ()


@pytest.mark.slow
def test_a_day_restated_with_later_knowledge_stands_beside_the_published_one(
    environment: Environment,
) -> None:
    chosen = settings(20)
    run(environment, chosen, DAY)
    before = growth(environment)
    folder = environment.data_dir / "billing/incoming/crm"
    (folder / "subscription_items__2026-10-31__delta.csv").write_text(LATE)
    run(environment, chosen, NEXT)
    run(environment, chosen, DAY, read=False)
    assert growth(environment)[DAY, DAY] == before[DAY, DAY]

    run(environment, chosen, DAY, read=False, known_at=NEXT)
    digest = chosen.settings_hash()
    assert growth(environment) == before | {
        (NEXT, NEXT): (50, True, digest),
        (DAY, NEXT): (50, True, digest),
    }
    with open_published(environment.data_dir / "warehouse.duckdb") as connection:
        found = connection.execute(
            "SELECT as_of, known_at, list, change, published, restated FROM hub.restatements ORDER BY list"
        ).fetchall()
    assert found == [
        (DAY, NEXT, "fast_growing", "new", None, "organic growth 40"),
        (
            DAY,
            NEXT,
            "organisations",
            "changed",
            "paying, 20 seats, 200.00 MRR",
            "paying, 50 seats, 500.00 MRR",
        ),
    ]


def test_what_was_known_earlier_cannot_answer_for_a_later_day(environment: Environment) -> None:
    with pytest.raises(ConfigurationError, match="cannot answer for 2026-10-31"):
        run(environment, settings(20), NEXT, known_at=DAY)
