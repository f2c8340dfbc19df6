"""Steps between staging and the marts that a mart alone would not tell apart."""

from __future__ import annotations

from datetime import datetime

from hub_pipeline_tests.models.worlds import build_world, organisations, subscription


def test_a_paid_run_ends_with_its_last_version_and_a_plan_that_comes_back_to_an_organisation_starts_another() -> (
    None
):
    world = {
        "organisations": organisations("a", "b"),
        "subscription_versions": [
            *subscription("s", "a", [("2026-01-01", 5, 100), ("2026-02-01", 6, 120)]),
            *subscription("s", "b", [("2026-03-01", 6, 120)]),
            *subscription("s", "a", [("2026-04-01", 6, 120)], cancel_at="2026-05-01"),
        ],
    }
    with build_world(world, "2026-06-30") as connection:
        runs = connection.execute(
            "SELECT org_id, run_start, run_end FROM intermediate.paid_runs ORDER BY 2"
        ).fetchall()
    january, march, april, may = (datetime(2026, month, 1) for month in (1, 3, 4, 5))
    assert runs == [("a", january, march), ("b", march, april), ("a", april, may)]
