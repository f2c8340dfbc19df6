"""Movements of MRR: what became of each account in June 2026, worked out by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import duckdb
import pytest

from hub_pipeline_tests.models.worlds import World, build_world, checked, organisations, rows, subscription

AS_OF = "2026-06-30"

WORLD: World = {
    "organisations": organisations(
        "new", "came_went", "pauses", "resumes", "part", "back", "euro", "parent", "child", "covered", "payer",
        "top", "left", "grew", "still", "late",
    ),
    "org_parents": [
        {"org_id": "child", "parent_org_id": "parent", "valid_from": "2025-01-01"},
        {"org_id": "left", "parent_org_id": "top", "valid_from": "2025-01-01"},
        {"org_id": "grew", "parent_org_id": "top", "valid_from": "2025-01-01"},
    ],
    "org_coverage": [
        {"child_org_id": "child", "payer_org_id": "parent", "valid_from": "2026-06-10", "seats": 5},
        {"child_org_id": "covered", "payer_org_id": "payer", "valid_from": "2026-06-10", "seats": 5},
    ],
    "fx_rates": [
        {"currency": "EUR", "rate": "1.00", "valid_from": "2025-01-01"},
        {"currency": "EUR", "rate": "1.10", "valid_from": "2026-06-15"},
    ],
    "subscription_versions": [
        *subscription("s_new", "new", [("2026-06-10", 5, 300)]),
        *subscription("s_cw", "came_went", [("2026-06-05", 5, 100)], cancel_at="2026-06-20"),
        *subscription("s_pa", "pauses", [("2025-01-01", 5, 1000)]),
        *subscription("s_pa", "pauses", [("2026-06-10", 5, 1000)], status="paused"),
        *subscription("s_pa", "pauses", [("2026-06-20", 5, 1200)]),
        *subscription("s_re", "resumes", [("2025-01-01", 5, 400)]),
        *subscription("s_re", "resumes", [("2026-05-15", 5, 400)], status="paused"),
        *subscription("s_re", "resumes", [("2026-06-15", 5, 500)]),
        *subscription("s_p1", "part", [("2025-01-01", 5, 600)]),
        *subscription("s_p1", "part", [("2026-06-12", 5, 600)], status="paused"),
        *subscription("s_p2", "part", [("2025-01-01", 5, 400)], cancel_at="2026-06-12"),
        *subscription("s_b1", "back", [("2025-01-01", 5, 90)], cancel_at="2026-05-10"),
        *subscription("s_b2", "back", [("2026-06-03", 5, 100)]),
        *subscription("s_eu", "euro", [("2025-01-01", 5, 100)], currency="EUR"),
        *subscription("s_pt", "parent", [("2025-01-01", 5, 2000), ("2026-06-10", 10, 2800)]),
        *subscription("s_ch", "child", [("2025-01-01", 5, 800)], cancel_at="2026-06-10"),
        *subscription("s_co", "covered", [("2025-01-01", 5, 300)], cancel_at="2026-06-10"),
        *subscription("s_py", "payer", [("2025-01-01", 5, 1000), ("2026-06-10", 10, 1350)]),
        *subscription("s_le", "left", [("2025-01-01", 5, 200)], cancel_at="2026-06-18"),
        *subscription("s_gr", "grew", [("2025-01-01", 5, 100), ("2026-06-18", 8, 250)]),
        *subscription("s_st", "still", [("2025-01-01", 5, 70)]),
        *subscription("s_la", "late", [("2026-07-01", 5, 70)]),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def june() -> duckdb.DuckDBPyConnection:
    return build_world(WORLD, AS_OF)


def said(connection: duckdb.DuckDBPyConnection, mart: str, *key: str) -> dict[tuple[Any, ...], Decimal]:
    return {tuple(row[name] for name in (*key, "movement")): row["amount"] for row in rows(connection, mart)}


def amounts(values: dict[tuple[str, ...], int]) -> dict[tuple[str, ...], Decimal]:
    return {key: Decimal(value) for key, value in values.items()}


def test_an_account_has_its_net_movements_of_the_month(june: duckdb.DuckDBPyConnection) -> None:
    assert said(june, "mrr_movements", "account_id") == amounts(
        {
            ("new", "new"): 300,
            # paused and resumed within the month: what is left is that it pays more
            ("pauses", "expansion"): 200,
            ("resumes", "resumed"): 500,
            # one subscription ended while the other is paused: nothing churned yet
            ("part", "paused"): -600,
            ("part", "contraction"): -400,
            ("back", "reactivation"): 100,
            ("euro", "fx"): 10,
            # a joint plan within an account moves nothing, between accounts it is a transfer
            ("covered", "transfer_out"): -300,
            ("payer", "transfer_in"): 300,
            ("payer", "expansion"): 50,
            ("top", "contraction"): -50,
        }
    )


def test_each_day_has_its_own_movements(june: duckdb.DuckDBPyConnection) -> None:
    daily = said(june, "mrr_movements_daily", "account_id", "day")
    assert {(account, day.day, movement): amount for (account, day, movement), amount in daily.items()} == {
        ("new", 10, "new"): Decimal(300),
        ("came_went", 5, "new"): Decimal(100),
        ("came_went", 20, "churn"): Decimal(-100),
        ("pauses", 10, "paused"): Decimal(-1000),
        ("pauses", 20, "resumed"): Decimal(1200),
        ("resumes", 15, "resumed"): Decimal(500),
        ("part", 12, "paused"): Decimal(-600),
        ("part", 12, "contraction"): Decimal(-400),
        ("back", 3, "reactivation"): Decimal(100),
        ("euro", 15, "fx"): Decimal(10),
        ("covered", 10, "transfer_out"): Decimal(-300),
        ("payer", 10, "transfer_in"): Decimal(300),
        ("payer", 10, "expansion"): Decimal(50),
        ("top", 18, "contraction"): Decimal(-50),
    }


def test_an_organisation_that_joins_a_joint_plan_has_not_churned(june: duckdb.DuckDBPyConnection) -> None:
    by_org = said(june, "mrr_movements_by_org", "org_id")
    assert by_org["child", "transfer_out"] == -800
    assert by_org["parent", "transfer_in"] == 800
    assert by_org["left", "churn"] == -200
    assert by_org["grew", "expansion"] == 150
    assert not {key for key in by_org if key[0] in ("child", "parent")} - {
        ("child", "transfer_out"),
        ("parent", "transfer_in"),
    }


def test_the_waterfall_goes_from_opening_to_closing(june: duckdb.DuckDBPyConnection) -> None:
    (row,) = rows(june, "mrr_waterfall")
    numbers = {name: row[name] for name in row if isinstance(row[name], Decimal)}
    assert numbers == {
        "opening": Decimal(6570),
        "new": Decimal(300),
        "reactivation": Decimal(100),
        "expansion": Decimal(250),
        "contraction": Decimal(-450),
        "churn": Decimal(0),
        "paused": Decimal(-600),
        "resumed": Decimal(500),
        "transfers": Decimal(0),
        "fx": Decimal(10),
        "closing": Decimal(6680),
    }


def test_the_checks_of_the_waterfall_hold_and_notice_a_cent(june: duckdb.DuckDBPyConnection) -> None:
    day = next(iter(rows(june, "mrr_waterfall")))["as_of"]
    assert not [r.name for r in checked(june, "mrr_waterfall", day) if not r.passed]
    june.execute("BEGIN")
    june.execute("UPDATE marts.mrr_waterfall SET closing = closing + 0.01")
    failed = {r.name for r in checked(june, "mrr_waterfall", day) if not r.passed}
    june.execute("ROLLBACK")
    assert failed == {"adds_up", "closes_with_the_organisations"}


def test_the_rate_recorded_last_for_a_day_holds_and_the_reporting_currency_has_none() -> None:
    world: World = {
        "organisations": organisations("euro", "dollar"),
        "fx_rates": [
            {"currency": "EUR", "rate": "1.00", "valid_from": "2025-01-01"},
            {
                "currency": "EUR",
                "rate": "9.00",
                "valid_from": "2026-06-15",
                "recorded_at": "2026-06-16T00:00:00Z",
            },
            {
                "currency": "EUR",
                "rate": "1.20",
                "valid_from": "2026-06-15",
                "recorded_at": "2026-06-17T00:00:00Z",
            },
            {
                "currency": "EUR",
                "rate": "5.00",
                "valid_from": "2026-06-15",
                "recorded_at": "2026-06-16T12:00:00Z",
            },
            {"currency": "USD", "rate": "3.00", "valid_from": "2025-01-01"},
            {"currency": "USD", "rate": "4.00", "valid_from": "2026-06-15"},
        ],
        "subscription_versions": [
            *subscription("s_eu", "euro", [("2025-01-01", 5, 100)], currency="EUR"),
            *subscription("s_us", "dollar", [("2025-01-01", 5, 100)]),
        ],
    }
    with build_world(world, AS_OF) as connection:
        assert said(connection, "mrr_movements", "account_id") == {("euro", "fx"): Decimal("20.00")}
        mrr = {row["org_id"]: row["mrr"] for row in rows(connection, "organisation_daily")}
        assert mrr == {"euro": Decimal("120.00"), "dollar": Decimal("100.00")}
