"""Both edges of every window, with windows of different lengths: growth 60 days, contraction 30, ending 2026-06-30."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import build_world, one, organisations, rows, subscription

SETTINGS = Settings.model_validate({"growth": {"days": 60}, "contraction": {"days": 30}})
START = "2025-01-01"
DETRACTED = [
    "low_rating_out",
    "low_rating_in",
    "rating_3",
    "champion_out",
    "champion_in",
    "no_champion",
    "touch_out",
    "touch_in",
    "cured",
    "overdue",
    "upgrade",
    "flat_seats_lower_mrr",
    "two_detractors",
]


def member(contact_id: str, org_id: str, **columns: Any) -> dict[str, Any]:
    return {"contact_id": contact_id, "org_id": org_id} | columns


def coverage(child_org_id: str, valid_from: str) -> dict[str, Any]:
    return {"child_org_id": child_org_id, "payer_org_id": "payer", "valid_from": valid_from, "seats": 10}


def deal(deal_id: str, org_id: str, deal_type: str, status: str) -> dict[str, Any]:
    return {
        "deal_id": deal_id,
        "org_id": org_id,
        "deal_type": deal_type,
        "status": status,
        "pipeline": "post_sales",
    }


def conversation(conversation_id: str, org_id: str, rating: int, rated_at: str) -> dict[str, Any]:
    return {"conversation_id": conversation_id, "org_id": org_id, "rating": rating, "rated_at": rated_at}


def call(engagement_id: str, org_id: str, occurred_at: str) -> dict[str, Any]:
    return {"engagement_id": engagement_id, "type": "call", "org_id": org_id, "occurred_at": occurred_at}


WORLD = {
    "organisations": organisations(
        "grown_before",
        "grown_within",
        "new_before",
        "new_within",
        "payer",
        "lost_before",
        "lost_within",
        *DETRACTED,
    ),
    "org_coverage": [
        coverage("x1", "2026-05-01"),
        coverage("x2", "2026-05-02"),
        coverage("x3", "2026-05-31"),
        coverage("x4", "2026-06-01"),
    ],
    "subscription_versions": [
        *subscription("grown_before", "grown_before", [(START, 10, 90), ("2026-05-01", 40, 90)]),
        *subscription("grown_within", "grown_within", [(START, 10, 90), ("2026-05-02", 40, 90)]),
        *subscription("new_before", "new_before", [("2026-05-01", 10, 90)]),
        *subscription("new_within", "new_within", [("2026-05-02", 10, 90)]),
        *subscription("payer", "payer", [(START, 100, 900)]),
        *subscription("lost_before", "lost_before", [(START, 100, 900), ("2026-05-31", 50, 450)]),
        *subscription(
            "lost_within",
            "lost_within",
            [(START, 100, 900), ("2026-05-20", 300, 900), ("2026-05-31", 100, 900)],
        ),
        *subscription("lost_within", "lost_within", [("2026-06-01", 50, 450)]),
        *[
            version
            for org_id in DETRACTED
            if org_id not in ("cured", "overdue", "upgrade", "flat_seats_lower_mrr")
            for version in subscription(org_id, org_id, [(START, 10, 90)])
        ],
        *subscription("cured", "cured", [(START, 10, 90), ("2026-06-10", 10, 90)]),
        *subscription("cured", "cured", [("2026-04-01", 10, 90), ("2026-06-15", 10, 90)], status="past_due"),
        *subscription("overdue", "overdue", [(START, 10, 90)]),
        *subscription(
            "overdue", "overdue", [("2026-05-01", 10, 90), ("2026-06-20", 10, 90)], status="past_due"
        ),
        *subscription("upgrade", "upgrade", [(START, 5, 45), ("2026-01-01", 10, 90)]),
        *subscription("upgrade", "upgrade", [("2026-08-01", 10, 95)], recorded_at="2026-06-01"),
        *subscription("flat", "flat_seats_lower_mrr", [(START, 10, 90)]),
        *subscription("flat", "flat_seats_lower_mrr", [("2026-08-01", 10, 80)], recorded_at="2026-06-01"),
    ],
    "deals": [
        deal("d1", "grown_before", "upsell", "won"),
        deal("d2", "grown_before", "renewal", "open"),
        deal("d3", "grown_within", "upsell", "open"),
    ],
    "contacts": [
        {"contact_id": "left_out", "is_champion": True, "left_at": "2026-05-31T12:00:00Z"},
        {"contact_id": "left_in", "is_champion": True, "left_at": "2026-06-01T00:00:00Z"},
        {"contact_id": "left_other", "is_champion": False, "left_at": "2026-06-01T12:00:00Z"},
    ],
    "contact_orgs": [
        *[member(f"c_{org_id}", org_id) for org_id in DETRACTED],
        member("left_out", "champion_out"),
        member("left_in", "champion_in", valid_to="2026-06-01T00:00:00Z"),
        member("left_other", "no_champion"),
        member("left_in", "rating_3", valid_from="2026-06-01T00:00:00Z"),
        member("worse", "two_detractors"),
        member("worse", "elsewhere"),
    ],
    "nps_responses": [
        *[
            {
                "response_id": f"n_{org_id}",
                "contact_id": f"c_{org_id}",
                "score": 5,
                "responded_at": "2026-06-10T10:00:00Z",
            }
            for org_id in DETRACTED
        ],
        {"response_id": "worse", "contact_id": "worse", "score": 2, "responded_at": "2026-06-05T10:00:00Z"},
    ],
    "conversations": [
        conversation("k1", "low_rating_out", 1, "2026-06-02T23:59:59Z"),
        conversation("k2", "low_rating_in", 2, "2026-06-03T00:00:00Z"),
        conversation("k3", "rating_3", 3, "2026-06-20T00:00:00Z"),
    ],
    "conversation_parts": [
        {
            "conversation_id": conversation_id,
            "part_number": 1,
            "author_type": "contact",
            "created_at": "2026-05-01T10:00:00Z",
        }
        for conversation_id in ("k1", "k2", "k3")
    ],
    "engagements": [
        *[
            call(f"e_{org_id}", org_id, "2026-06-20T10:00:00Z")
            for org_id in DETRACTED
            if "touch" not in org_id
        ],
        call("e_out", "touch_out", "2026-04-01T23:59:59Z"),
        call("e_in_old", "touch_in", "2026-01-01T00:00:00Z"),
        call("e_in", "touch_in", "2026-04-02T00:00:00Z"),
    ],
}


@pytest.fixture(scope="module")
def world() -> Iterator[duckdb.DuckDBPyConnection]:
    with build_world(WORLD, "2026-06-30", settings=SETTINGS) as connection:
        yield connection


@pytest.mark.parametrize(
    ("org_id", "kind", "baseline", "organic"),
    [
        ("grown_before", "window", 40, 0),
        ("grown_within", "window", 10, 30),
        ("new_before", "window", 10, 0),
        ("new_within", "first_day", 10, 0),
        ("payer", "window", 100, -30),
    ],
)
def test_the_first_day_of_the_window_is_the_day_after_the_baseline(
    world: duckdb.DuckDBPyConnection, org_id: str, kind: str, baseline: int, organic: int
) -> None:
    row = one(world, "seat_growth", org_id=org_id)
    assert (row["baseline_kind"], row["seats_baseline"], row["organic_seat_delta"]) == (
        kind,
        baseline,
        organic,
    )


def test_accounts_have_the_same_window(world: duckdb.DuckDBPyConnection) -> None:
    found = {
        row["account_id"]: (row["baseline_kind"], row["seats_baseline"], row["organic_seat_delta"])
        for row in rows(world, "account_seat_growth")
    }
    assert found["grown_before"] == ("window", 40, 0)
    assert found["grown_within"] == ("window", 10, 30)
    assert found["new_before"] == ("window", 10, 0)
    assert found["new_within"] == ("first_day", 10, 0)
    assert found["payer"] == ("window", 100, -30)


def test_only_an_open_upsell_deal_counts_as_one(world: duckdb.DuckDBPyConnection) -> None:
    assert one(world, "seat_growth", org_id="grown_within")["has_open_upsell_deal"]
    assert not one(world, "seat_growth", org_id="grown_before")["has_open_upsell_deal"]


def test_contraction_has_a_window_of_its_own(world: duckdb.DuckDBPyConnection) -> None:
    contracted = {
        row["org_id"]: row["seat_drop"]
        for row in rows(world, "at_risk")
        if "nps_detractor" not in row["reasons"]
    }
    assert contracted == {"lost_within": 50}
    row = one(world, "at_risk", org_id="lost_within")
    assert (row["seats_peak"], row["seats_drawdown"]) == (100, 50)
    assert one(world, "organisation_daily", org_id="lost_before")["seats"] == 50


@pytest.mark.parametrize(
    ("org_id", "watch"),
    [
        ("low_rating_out", []),
        ("low_rating_in", ["low_rating"]),
        ("rating_3", []),
        ("champion_out", []),
        ("champion_in", ["champion_left"]),
        ("no_champion", []),
        ("touch_out", ["no_touch_90d"]),
        ("touch_in", []),
        ("cured", []),
        ("overdue", ["payment_overdue>30d"]),
        ("upgrade", []),
        ("flat_seats_lower_mrr", ["scheduled_downgrade"]),
    ],
)
def test_a_watch_reason_begins_and_ends_where_its_sentence_says(
    world: duckdb.DuckDBPyConnection, org_id: str, watch: list[str]
) -> None:
    assert one(world, "at_risk", org_id=org_id)["watch_reasons"] == watch


def test_several_detractors_are_one_row_with_the_lowest_score_and_the_latest_day(
    world: duckdb.DuckDBPyConnection,
) -> None:
    row = one(world, "at_risk", org_id="two_detractors")
    assert row["detractor_contacts"] == ["c_two_detractors", "worse"]
    assert row["why"] == "2 detractors, lowest score 2, last answer on 2026-06-10."
    assert (row["lowest_score"], row["nps_attribution_ambiguous"]) == (2, True)
