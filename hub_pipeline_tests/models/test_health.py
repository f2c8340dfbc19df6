"""Health components of customer_360, where binary fractions would round the wrong way."""

from __future__ import annotations

from decimal import Decimal

from hub_pipeline_tests.models.worlds import build_world, one, subscription


def test_used_seats_are_rounded_half_up_as_a_person_would() -> None:
    # 51 of 80 seats are 63.75 %, which is 63.8; 100 times 51/80 as a binary fraction is a little less.
    world = {
        "organisations": [{"org_id": "o", "members_active": 51, "created_at": "2024-06-01"}],
        "subscription_versions": subscription("s", "o", [("2025-01-01", 80, 800)]),
    }
    with build_world(world, "2026-06-30") as connection:
        row = one(connection, "customer_360", org_id="o")
    assert row["health_seats"] == Decimal("63.8")
