"""Growth, tiers and states at their boundaries. Organisations of one world do not know each other, so they share it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import duckdb
import pytest

from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import build_world, checked, one, organisations, rows, subscription

AS_OF = "2026-06-30"


def parent(org_id: str, parent_org_id: str, **columns: str) -> dict[str, str]:
    return {"org_id": org_id, "parent_org_id": parent_org_id, "valid_from": "2025-01-01"} | columns


WORLD = {
    "organisations": [
        *organisations("twenty", "nineteen", "rejoined", "trial", "unknown_seats", "first_week"),
        *organisations("payer", "child", "stranger_payer", "stranger_child", "same_day"),
        *organisations("winner", "loser", "later", "corrected", "planned"),
    ],
    "org_merges": [
        {"loser_org_id": "loser", "winner_org_id": "middle", "merged_at": "2026-05-01"},
        {"loser_org_id": "middle", "winner_org_id": "winner", "merged_at": "2026-05-02"},
    ],
    "org_parents": [parent("child", "payer")],
    "org_coverage": [
        {"child_org_id": "child", "payer_org_id": "payer", "valid_from": "2026-06-01"},
        {
            "child_org_id": "stranger_child",
            "payer_org_id": "stranger_payer",
            "valid_from": "2026-06-01",
            "seats": 15,
        },
        {
            "child_org_id": "same_day",
            "payer_org_id": "twenty",
            "valid_from": "2026-06-01",
            "valid_to": "2026-06-01",
        },
    ],
    "subscription_versions": [
        *subscription("twenty", "twenty", [("2025-01-01", 30, 300), ("2026-05-10", 50, 500)]),
        *subscription("nineteen", "nineteen", [("2025-01-01", 30, 300), ("2026-05-10", 49, 490)]),
        *subscription("rejoined1", "rejoined", [("2025-01-01", 20, 200)], cancel_at="2026-05-01"),
        *subscription("rejoined2", "rejoined", [("2026-05-20", 45, 450), ("2026-06-20", 66, 660)]),
        *subscription("trial", "trial", [("2026-06-01", 25, 250)], status="trialing"),
        *subscription("unknown", "unknown_seats", [("2025-01-01", None, 300)]),
        *subscription("first_week", "first_week", [("2026-06-01", 10, 100), ("2026-06-08", 31, 310)]),
        *subscription("payer", "payer", [("2025-01-01", 100, 2000), ("2026-06-01", 150, 3000)]),
        *subscription("child", "child", [("2025-01-01", 35, 700)], cancel_at="2026-06-01"),
        *subscription("sp", "stranger_payer", [("2025-01-01", 100, 2000), ("2026-06-01", 150, 3000)]),
        *subscription("sc", "stranger_child", [("2025-01-01", 40, 800), ("2026-06-01", 25, 500)]),
        *subscription("winner", "winner", [("2025-01-01", 50, 500)]),
        *subscription("loser", "loser", [("2025-01-01", 30, 300)]),
        *subscription("later1", "later", [("2025-01-01", 10, 100)]),
        *subscription("later1", "later", [("2026-06-01", 60, 600)], recorded_at="2026-07-01T00:00:00Z"),
        *subscription("corrected", "corrected", [("2025-01-01", 10, 100)], recorded_at="2025-01-01"),
        *subscription("corrected", "corrected", [("2025-01-01", 12, 120)], recorded_at="2026-06-15"),
        *subscription("planned", "planned", [("2025-01-01", 10, 100)]),
        *subscription("planned", "planned", [("2026-07-15", 90, 900)], recorded_at="2026-06-01"),
    ],
}


@pytest.fixture(scope="module")
def world() -> Iterator[duckdb.DuckDBPyConnection]:
    with build_world(WORLD, AS_OF) as connection:
        yield connection


@pytest.mark.parametrize(("org_id", "delta", "fast"), [("twenty", 20, True), ("nineteen", 19, False)])
def test_twenty_seats_are_fast_growth_and_nineteen_are_not(
    world: duckdb.DuckDBPyConnection, org_id: str, delta: int, fast: bool
) -> None:
    row = one(world, "seat_growth", org_id=org_id)
    assert (row["organic_seat_delta"], row["is_fast_growing"]) == (delta, fast)


def test_the_sentence_of_a_row_holds_its_numbers(world: duckdb.DuckDBPyConnection) -> None:
    row = one(world, "seat_growth", org_id="twenty")
    assert row["why"] == "30 seats on 2026-04-01, 50 now: +20 organic in 90 days."
    assert row["organic_growth_pct"] == Decimal("0.6667")


def test_an_organisation_that_came_back_is_measured_from_its_first_day_back(
    world: duckdb.DuckDBPyConnection,
) -> None:
    row = one(world, "seat_growth", org_id="rejoined")
    assert (row["baseline_kind"], row["baseline_on"]) == ("first_day", date(2026, 5, 20))
    assert (row["seats_baseline"], row["organic_seat_delta"], row["is_fast_growing"]) == (45, 21, True)


def test_growth_after_the_first_day_counts(world: duckdb.DuckDBPyConnection) -> None:
    row = one(world, "seat_growth", org_id="first_week")
    assert (row["seats_baseline"], row["organic_seat_delta"], row["is_fast_growing"]) == (10, 21, True)


@pytest.mark.parametrize("org_id", ["trial", "unknown_seats", "child", "loser", "middle"])
def test_an_organisation_without_known_paid_seats_has_no_row(
    world: duckdb.DuckDBPyConnection, org_id: str
) -> None:
    assert not [row for row in rows(world, "seat_growth") if row["org_id"] == org_id]


def test_unknown_seats_stay_unknown_and_are_found(world: duckdb.DuckDBPyConnection) -> None:
    row = one(world, "organisation_daily", org_id="unknown_seats")
    assert (row["seats"], row["seats_unknown"], row["mrr"]) == (None, 1, Decimal("300.00"))


def test_a_joint_plan_without_seats_of_its_own_moves_the_childs_seats_of_the_day_before(
    world: duckdb.DuckDBPyConnection,
) -> None:
    row = one(world, "seat_growth", org_id="payer")
    assert (row["seat_delta"], row["seats_transferred_in"], row["organic_seat_delta"]) == (50, 35, 15)


def test_stated_seats_of_a_joint_plan_leave_the_child_and_reach_the_payer(
    world: duckdb.DuckDBPyConnection,
) -> None:
    payer = one(world, "seat_growth", org_id="stranger_payer")
    child = one(world, "seat_growth", org_id="stranger_child")
    assert (payer["seats_transferred_in"], payer["organic_seat_delta"], payer["is_fast_growing"]) == (
        15,
        35,
        True,
    )
    assert (child["seat_delta"], child["seats_transferred_out"], child["organic_seat_delta"]) == (-15, 15, 0)
    assert child["why"].endswith("15 moved out to the payer of a joint plan.")


def test_transfers_within_an_account_cancel_and_transfers_between_accounts_do_not(
    world: duckdb.DuckDBPyConnection,
) -> None:
    family = one(world, "account_seat_growth", account_id="payer")
    assert (family["seats_baseline"], family["seats_now"], family["seats_transferred_in"]) == (135, 150, 0)
    stranger = one(world, "account_seat_growth", account_id="stranger_payer")
    assert (stranger["seats_transferred_in"], stranger["organic_seat_delta"]) == (15, 35)


def test_a_coverage_that_ends_when_it_starts_moves_nothing(world: duckdb.DuckDBPyConnection) -> None:
    assert one(world, "seat_growth", org_id="twenty")["seats_transferred_in"] == 0


def test_merges_are_followed_to_the_last_survivor(world: duckdb.DuckDBPyConnection) -> None:
    assert one(world, "seat_growth", org_id="winner")["seats_now"] == 80


def test_a_row_recorded_at_the_close_of_the_day_is_not_known_on_the_day(
    world: duckdb.DuckDBPyConnection,
) -> None:
    assert one(world, "seat_growth", org_id="later")["seats_now"] == 10


def test_of_two_versions_of_one_instant_the_one_recorded_last_holds(world: duckdb.DuckDBPyConnection) -> None:
    row = one(world, "seat_growth", org_id="corrected")
    assert (row["seats_now"], row["seats_baseline"]) == (12, 12)


def test_a_known_change_of_the_future_changes_nothing_today(world: duckdb.DuckDBPyConnection) -> None:
    assert one(world, "seat_growth", org_id="planned")["seats_now"] == 10


def test_local_midnight_decides_the_day_on_both_sides_of_a_change_of_the_clocks() -> None:
    # 2026-06-05 minus 90 days is 2026-03-07, the last day of winter time in New York: it closes at 05:00Z, while
    # 2026-06-05 closes at 04:00Z.
    changes = {
        "last_second_of_baseline": "2026-03-08T04:59:59Z",
        "first_second_of_window": "2026-03-08T05:00:00Z",
        "last_second_of_as_of": "2026-06-06T03:59:59Z",
        "first_second_after": "2026-06-06T04:00:00Z",
    }
    world = {
        "organisations": organisations(*changes),
        "subscription_versions": [
            version
            for org_id, instant in changes.items()
            for version in subscription(org_id, org_id, [("2025-01-01", 10, 100), (instant, 40, 400)])
        ],
    }
    settings = Settings.model_validate({"reporting_tz": "America/New_York"})
    with build_world(world, "2026-06-05", settings=settings) as connection:
        seats = {
            row["org_id"]: (row["seats_baseline"], row["seats_now"])
            for row in rows(connection, "seat_growth")
        }
    assert seats == {
        "last_second_of_baseline": (40, 40),
        "first_second_of_window": (10, 40),
        "last_second_of_as_of": (10, 40),
        "first_second_after": (10, 10),
    }


def test_with_baseline_zero_the_first_purchase_is_growth() -> None:
    world = {
        "organisations": organisations("new", "old"),
        "subscription_versions": [
            *subscription("new", "new", [("2026-06-01", 25, 250)]),
            *subscription("old", "old", [("2025-01-01", 25, 250)]),
        ],
    }
    settings = Settings.model_validate({"growth": {"baseline": "zero"}})
    with build_world(world, AS_OF, settings=settings) as connection:
        new, old = (one(connection, "seat_growth", org_id=org_id) for org_id in ("new", "old"))
    assert (new["baseline_kind"], new["baseline_on"], new["seats_baseline"]) == ("zero", date(2026, 5, 31), 0)
    assert new["is_fast_growing"]
    assert (old["baseline_kind"], old["is_fast_growing"]) == ("window", False)


def test_a_missing_exchange_rate_makes_mrr_unknown_and_fails_the_check() -> None:
    world = {
        "organisations": organisations("euro", "dollar"),
        "fx_rates": [{"currency": "EUR", "rate": "1.10", "valid_from": "2026-07-01"}],
        "subscription_versions": [
            *subscription("e", "euro", [("2025-01-01", 10, 100)], currency="EUR"),
            *subscription("d", "dollar", [("2025-01-01", 10, 100)]),
        ],
    }
    with build_world(world, AS_OF) as connection:
        row = one(connection, "organisation_daily", org_id="euro")
        assert (row["mrr"], row["mrr_unknown"], row["state"]) == (None, 1, "paying")
        results = checked(connection, "organisation_daily", date(2026, 6, 30))
        failed = [result for result in results if not result.passed]
    assert [(result.check.name, result.blocks, result.failures) for result in failed] == [
        ("fx_rate_present", True, 1),
        ("mrr_known", False, 1),
    ]
    assert row["currencies_without_rate"] == ["EUR"]


STATES = {
    "organisations": [
        {"org_id": "record_only", "created_at": "2026-06-30T23:59:59Z"},
        {"org_id": "tomorrow", "created_at": "2026-07-01T00:00:00Z"},
        {"org_id": "deleted", "created_at": "2025-01-01", "recorded_at": "2025-01-01"},
        {"org_id": "deleted", "created_at": "2025-01-01", "recorded_at": "2026-06-01", "is_deleted": True},
        {"org_id": "big", "tier_override": " b "},
        {"org_id": "rich", "owner_id": "u1", "members_active": 30, "created_at": "2024-06-01"},
        *organisations(
            "net_zero", "free", "unpaid_payer", "covered", "not_covered", "off_billing", "contract"
        ),
        *organisations(
            "contract_over", "canceled", "weekly", "half_cent", "child_of_big", "a", "b", "c", "tail"
        ),
        *organisations("seats_a", "seats_b", "seats_c"),
    ],
    "org_parents": [
        parent("child_of_big", "big"),
        parent("a", "b"),
        parent("b", "a"),
        parent("tail", "a"),
        parent("c", "big"),
        parent("c", "weekly", valid_from="2026-06-30T23:59:59Z"),
        parent("half_cent", "big", valid_to="2026-06-30T23:59:59Z"),
    ],
    "users": [{"user_id": "u1", "name": "Ann", "is_active": True}, {"user_id": "u2", "name": "Bo"}],
    "org_coverage": [
        {
            "child_org_id": "covered",
            "payer_org_id": "big",
            "valid_from": "2026-01-01",
            "valid_to": "2026-07-01",
        },
        {"child_org_id": "not_covered", "payer_org_id": "unpaid_payer", "valid_from": "2026-01-01"},
    ],
    "crm_contracts": [
        {"org_id": "off_billing", "kind": "custom", "valid_from": "2026-01-01", "valid_to": "2026-07-01"},
        {
            "org_id": "contract_over",
            "kind": "custom",
            "valid_from": "2025-01-01",
            "valid_to": "2026-06-30T12:00:00Z",
        },
        {
            "org_id": "contract_never_held",
            "kind": "custom",
            "valid_from": "2026-01-02",
            "valid_to": "2026-01-01",
            "amount": "12000",
        },
        {
            "org_id": "contract",
            "kind": "custom",
            "valid_from": "2026-01-01",
            "valid_to": "2027-01-01",
            "seats": 70,
            "amount": "12000",
            "billing_interval": "year",
        },
    ],
    "subscription_versions": [
        *subscription("net_zero", "net_zero", [("2025-01-01", 5, 0)], plan="team"),
        *subscription("free", "free", [("2025-01-01", 5, 0)], plan="Free"),
        *subscription("big", "big", [("2025-01-01", 10, 2000)]),
        *subscription("cover", "covered", [("2025-01-01", 5, 50)], cancel_at="2026-01-01"),
        *subscription("canceled", "canceled", [("2025-01-01", 5, 50)], cancel_at="2026-06-30T23:59:59Z"),
        *subscription("weekly", "weekly", [("2025-01-01", 5, "10.00")], billing_interval="week"),
        *subscription("half_cent", "half_cent", [("2025-01-01", 5, "6000.06")], billing_interval="year"),
        *subscription(
            "r1", "rich", [("2025-01-01", 10, 1000)], term_end="2026-06-30", cancel_at="2026-09-01"
        ),
        *subscription(
            "r2", "rich", [("2026-02-01", 30, 500)], term_end="2026-12-31", cancel_at="2026-12-31", plan="x"
        ),
        *subscription("r3", "rich", [("2026-02-01", 9, 9)], term_end="2026-07-05", status="trialing"),
        *subscription("r4", "rich", [("2024-07-01", 9, 9)], term_end="2026-07-05", cancel_at="2024-08-01"),
        *subscription("seats_a", "seats_a", [("2025-01-01", 200, "1.00")]),
        *subscription("seats_b", "seats_b", [("2025-01-01", 50, "1.00")]),
        *subscription("seats_c", "seats_c", [("2025-01-01", 49, "499.99")]),
    ],
}


@pytest.fixture(scope="module")
def states() -> Iterator[duckdb.DuckDBPyConnection]:
    with build_world(STATES, AS_OF) as connection:
        yield connection


@pytest.mark.parametrize(
    ("org_id", "state"),
    [
        ("record_only", "never_paid"),
        ("net_zero", "paying"),
        ("free", "never_paid"),
        ("covered", "covered"),
        ("not_covered", "never_paid"),
        ("off_billing", "custom_off_billing"),
        ("contract", "paying"),
        ("contract_over", "churned"),
        ("canceled", "churned"),
    ],
)
def test_the_state_is_the_first_that_holds(
    states: duckdb.DuckDBPyConnection, org_id: str, state: str
) -> None:
    assert one(states, "organisation_daily", org_id=org_id)["state"] == state


def test_the_sentence_of_a_churned_organisation_says_when_the_last_paid_plan_ended(
    states: duckdb.DuckDBPyConnection,
) -> None:
    row = one(states, "organisation_daily", org_id="canceled")
    assert row["why"] == "Paid since 2025-01-01, ended on 2026-06-30, nothing runs now."


@pytest.mark.parametrize("org_id", ["tomorrow", "deleted", "contract_never_held"])
def test_an_organisation_not_yet_sighted_or_deleted_without_a_past_has_no_row(
    states: duckdb.DuckDBPyConnection, org_id: str
) -> None:
    assert not [row for row in rows(states, "organisation_daily") if row["org_id"] == org_id]


def test_a_crm_contract_with_an_amount_counts_in_seats_and_mrr(states: duckdb.DuckDBPyConnection) -> None:
    row = one(states, "organisation_daily", org_id="contract")
    assert (row["seats"], row["mrr"], row["plan"]) == (70, Decimal("1000.00"), "custom")
    assert row["next_term_end_on"] == date(2027, 1, 1)


def test_mrr_is_rounded_half_up_to_cents_for_each_subscription(states: duckdb.DuckDBPyConnection) -> None:
    assert one(states, "organisation_daily", org_id="weekly")["mrr"] == Decimal("43.33")
    assert one(states, "organisation_daily", org_id="half_cent")["mrr"] == Decimal("500.01")


@pytest.mark.parametrize(
    ("org_id", "tier", "source"),
    [
        ("seats_a", "A", "size"),
        ("seats_b", "B", "size"),
        ("seats_c", "C", "size"),
        ("big", "B", "override"),
        ("child_of_big", "B", "override"),
    ],
)
def test_a_tier_is_the_accounts_size_unless_someone_set_it(
    states: duckdb.DuckDBPyConnection, org_id: str, tier: str, source: str
) -> None:
    row = one(states, "organisation_daily", org_id=org_id)
    assert (row["tier"], row["tier_source"]) == (tier, source)


def test_organisations_above_which_the_parents_never_end_are_their_own_roots_and_fail_the_check(
    states: duckdb.DuckDBPyConnection,
) -> None:
    for org_id in ("a", "b", "tail"):
        row = one(states, "organisation_daily", org_id=org_id)
        assert (row["root_org_id"], row["has_cycle"]) == (org_id, True)
    results = checked(states, "organisation_daily", date(2026, 6, 30))
    assert [result.failures for result in results if result.check.name == "hierarchy_acyclic"] == [3]


def test_the_parent_valid_last_at_the_close_of_the_day_holds(states: duckdb.DuckDBPyConnection) -> None:
    assert one(states, "organisation_daily", org_id="c")["root_org_id"] == "weekly"
    assert one(states, "organisation_daily", org_id="half_cent")["root_org_id"] == "half_cent"


def test_every_check_of_the_marts_holds_in_a_healthy_world(world: duckdb.DuckDBPyConnection) -> None:
    names = ("organisation_daily", "seat_growth", "account_seat_growth", "at_risk")
    results = [result for name in names for result in checked(world, name, date(2026, 6, 30))]
    assert [result.sentence() for result in results if result.blocks] == []


def test_in_percentile_mode_accounts_of_equal_mrr_share_the_better_tier() -> None:
    mrr = {
        "p1": 900,
        "p2": 900,
        "p3": 800,
        "p4": 700,
        "p5": 600,
        "p6": 500,
        "p7": 400,
        "p8": 300,
        "p9": 200,
        "p10": 100,
    }
    world = {
        "organisations": organisations(*mrr, "nothing"),
        "subscription_versions": [
            version
            for org_id, amount in mrr.items()
            for version in subscription(org_id, org_id, [("2025-01-01", 1, amount)])
        ],
    }
    settings = Settings.model_validate({"tiers": {"mode": "percentile"}})
    with build_world(world, AS_OF, settings=settings) as connection:
        tiers = {row["org_id"]: row["tier"] for row in rows(connection, "organisation_daily")}
    assert {org_id for org_id, tier in tiers.items() if tier == "A"} == {"p1", "p2"}
    assert {org_id for org_id, tier in tiers.items() if tier == "B"} == {"p3"}
    assert tiers["nothing"] == "C"


def test_an_organisation_shows_its_owner_its_terms_and_its_largest_plan(
    states: duckdb.DuckDBPyConnection,
) -> None:
    row = one(states, "organisation_daily", org_id="rich")
    assert (row["owner_name"], row["owner_is_active"]) == ("Ann", True)
    assert (row["next_term_end_on"], row["scheduled_end_on"]) == (date(2026, 6, 30), date(2026, 9, 1))
    assert (row["first_seen_on"], row["first_paid_on"]) == (date(2024, 6, 1), date(2024, 7, 1))
    assert (row["plan"], row["paid_subscriptions"], row["seat_utilisation"]) == ("team", 2, Decimal("0.75"))
    assert row["why"] == "Paying: 40 seats, 1500.00 MRR on team, a subscription ends on 2026-09-01."
