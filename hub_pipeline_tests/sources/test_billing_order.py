"""Files in any order, and as often as they come, give the same history."""

from __future__ import annotations

import tempfile
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hub_pipeline_tests.sources.billing_folder import SUBSCRIPTIONS, BillingFolder

DAYS = [date(2026, 10, day) for day in (1, 2, 3, 4)]
STATUSES = ["active", "paused", "past_due"]


@st.composite
def files(draw: st.DrawFn) -> list[tuple[str, list[str]]]:
    """Some extracts of some days, full and delta, rows with and without the time of their change."""
    written = []
    for day in draw(st.lists(st.sampled_from(DAYS), min_size=2, max_size=5)):
        kind = draw(st.sampled_from(["full", "full", "delta"]))
        rows = []
        for name in draw(st.lists(st.sampled_from(["s1", "s2"]), unique=True)):
            changed = draw(st.sampled_from(["", "", *(f"{d}T{h:02}:00:00Z" for d in DAYS[: day.day] for h in (6, 18))]))
            status = draw(st.sampled_from(STATUSES)) if not changed else STATUSES[int(changed[9]) % 3]
            rows.append(f"{name},c1,{status},USD,2026-01-01,{changed}")
        number = f"__{len(written):03}"
        written.append((f"subscriptions__{day}__{kind}{number}.csv", [SUBSCRIPTIONS, *rows]))
    return written


def history(told: list[tuple[str, list[str]]], groups: list[int]) -> list[Any]:
    """State of each record at the close of each day, the files loaded by one run for each group."""
    with tempfile.TemporaryDirectory() as data:
        billing = BillingFolder(Path(data), guards={"max_shrink": "1"})
        try:
            for (name, lines), group in zip(told, groups, strict=True):
                billing.put(name, lines)
                if group:
                    billing.run()
            billing.run()
            billing.run()
            return [in_force(billing, day) for day in DAYS]
        finally:
            billing.close()


def in_force(billing: BillingFolder, day: date) -> list[tuple[Any, ...]]:
    return billing.rows(
        "SELECT subscription_id, status FROM (SELECT * FROM raw_billing.subscriptions WHERE _changed_at < $close QUALIFY "
        "row_number() OVER (PARTITION BY subscription_id ORDER BY _changed_at DESC, _recorded_at DESC, "
        "(_deleted_at IS NOT NULL AND NOT _absent) DESC, _precedence DESC, _line DESC) = 1) "
        "WHERE _deleted_at IS NULL ORDER BY 1",
        close=datetime.combine(day, datetime.min.time()) + timedelta(days=1),
    )


@st.composite
def told_twice(draw: st.DrawFn) -> tuple[list[tuple[str, list[str]]], list[tuple[str, list[str]]], list[int]]:
    written = draw(files())
    return written, draw(st.permutations(written)), draw(st.lists(st.integers(0, 1), min_size=len(written), max_size=len(written)))


def check_order(case: tuple[list[tuple[str, list[str]]], list[tuple[str, list[str]]], list[int]]) -> None:
    written, shuffled, groups = case
    assert history(shuffled, groups) == history(written, [0] * len(written))


QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)


@given(told_twice())
@settings(QUIET, max_examples=2, derandomize=True, phases=[Phase.generate])
def test_files_in_another_order_give_the_same_history(case: Any) -> None:
    check_order(case)


@pytest.mark.slow
@given(told_twice())
@settings(QUIET, max_examples=150)
def test_files_in_any_order_give_the_same_history(case: Any) -> None:
    check_order(case)
