"""Levels and baselines against a walk over every single day, in a zone whose clocks change within the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import build_world, rows

ZONE = ZoneInfo("America/New_York")
AS_OF = date(2026, 5, 20)
DAYS = 90
PER_MONTH = {
    "month": (1, 1),
    "quarter": (1, 3),
    "year": (1, 12),
    "two_years": (1, 24),
    "week": (52, 12),
}


def close(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time.min, ZONE).astimezone(UTC)


@dataclass
class Walk:
    """Every subscription on every day, one by one: slow, and simple enough to be believed."""

    versions: list[dict[str, Any]]
    days: dict[date, list[dict[str, Any]]] = field(default_factory=dict)

    def running(self, day: date) -> list[dict[str, Any]]:
        if day not in self.days:
            self.days[day] = self._running(day)
        return self.days[day]

    def _running(self, day: date) -> list[dict[str, Any]]:
        last: dict[str, dict[str, Any]] = {}
        for version in sorted(self.versions, key=lambda v: (v["effective_at"], v["recorded_at"])):
            if version["recorded_at"] < close(AS_OF) and version["effective_at"] < close(day):
                last[version["subscription_id"]] = version
        return [
            version
            for version in last.values()
            if version["status"] in ("active", "past_due")
            and (version["cancel_at"] is None or version["cancel_at"] >= close(day))
        ]

    def seats(self, org_id: str, day: date) -> int:
        return sum(v["seats"] for v in self.running(day) if v["org_id"] == org_id)

    def mrr(self, org_id: str, day: date) -> Decimal:
        total = Decimal(0)
        for version in self.running(day):
            if version["org_id"] == org_id:
                numerator, denominator = PER_MONTH[version["billing_interval"]]
                exact = Decimal(version["amount"]) * numerator / denominator
                total += exact.quantize(Decimal("0.01"), ROUND_HALF_UP)
        return total

    def baseline(self, org_id: str) -> tuple[str, date, int]:
        days = [AS_OF - timedelta(days=n) for n in range(DAYS, -1, -1)]
        empty = [day for day in days if self.seats(org_id, day) == 0]
        kind, day = ("first_day", empty[-1] + timedelta(days=1)) if empty else ("window", days[0])
        return kind, day, self.seats(org_id, day)


def _random_versions(random: Random) -> list[dict[str, Any]]:
    def instant() -> datetime:
        midnight = close(AS_OF - timedelta(days=random.randrange(-3, DAYS + 6)))
        return midnight + timedelta(seconds=random.choice((-1, 0, 1, 3600, -3600, 40000)))

    versions = []
    for number in range(90):
        for _ in range(random.randrange(1, 6)):
            effective_at = instant()
            versions.append(
                {
                    "subscription_id": f"s{number}",
                    "org_id": f"o{number % 60}",
                    "plan": "team",
                    "billing_interval": random.choice(list(PER_MONTH)),
                    "seats": random.randrange(60),
                    "amount": str(Decimal(random.randrange(1, 900000)) / 100),
                    "status": random.choice(("active", "active", "active", "past_due", "paused", "canceled")),
                    "effective_at": effective_at,
                    "recorded_at": random.choice((effective_at, effective_at, instant())),
                    "cancel_at": random.choice((None, None, None, instant())),
                }
            )
    return versions


@pytest.fixture(scope="module")
def walk() -> Walk:
    return Walk(_random_versions(Random(20260520)))


@pytest.fixture(scope="module")
def built(walk: Walk) -> Iterator[duckdb.DuckDBPyConnection]:
    world = {
        "organisations": [{"org_id": f"o{number}"} for number in range(60)],
        "subscription_versions": [
            {
                name: value.isoformat() if isinstance(value, datetime) else value
                for name, value in version.items()
            }
            for version in walk.versions
        ],
    }
    settings = Settings.model_validate({"reporting_tz": str(ZONE), "growth": {"days": DAYS}})
    with build_world(world, AS_OF.isoformat(), settings=settings) as connection:
        yield connection


def test_seats_and_mrr_of_the_day_are_those_of_the_walk(walk: Walk, built: duckdb.DuckDBPyConnection) -> None:
    expected = {f"o{n}": (walk.seats(f"o{n}", AS_OF), walk.mrr(f"o{n}", AS_OF)) for n in range(60)}
    actual = {row["org_id"]: (row["seats"], row["mrr"]) for row in rows(built, "organisation_daily")}
    assert actual == expected


def test_baselines_are_those_of_the_walk(walk: Walk, built: duckdb.DuckDBPyConnection) -> None:
    expected = {
        org_id: walk.baseline(org_id)
        for org_id in (f"o{number}" for number in range(60))
        if walk.seats(org_id, AS_OF) > 0
    }
    actual = {
        row["org_id"]: (row["baseline_kind"], row["baseline_on"], row["seats_baseline"])
        for row in rows(built, "seat_growth")
    }
    assert actual == expected
    assert {kind for kind, _, _ in expected.values()} == {"window", "first_day"}


def test_contraction_of_the_walk_is_the_contraction_of_the_list(
    walk: Walk, built: duckdb.DuckDBPyConnection
) -> None:
    start = AS_OF - timedelta(days=90)
    expected = {}
    for org_id in (f"o{number}" for number in range(60)):
        if any(version["org_id"] == org_id for version in walk.running(AS_OF)):
            seats, mrr = walk.seats(org_id, start), walk.mrr(org_id, start)
            seat_drop, mrr_drop = seats - walk.seats(org_id, AS_OF), mrr - walk.mrr(org_id, AS_OF)
            reasons = []
            if seats and seat_drop >= 5 and seat_drop * 5 >= seats:
                reasons.append("seat_contraction")
            if mrr and mrr_drop >= 100 and mrr_drop * 5 >= mrr:
                reasons.append("mrr_contraction")
            if reasons:
                expected[org_id] = (reasons, seat_drop, mrr_drop)
    actual = {
        row["org_id"]: (row["reasons"], row["seat_drop"], row["mrr_drop"]) for row in rows(built, "at_risk")
    }
    assert actual == expected
    assert len(expected) >= 3
