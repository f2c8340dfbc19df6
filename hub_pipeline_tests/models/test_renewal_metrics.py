"""Renewal rate and forecast at the boundaries that the worked cases of the domain leave open."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import Row, build_world, one, organisations, rows, subscription

AS_OF = "2026-06-30"
PERIOD = {"period_start": "2026-06-01", "period_end": "2026-06-30"}
YEARLY = {"plan": "business", "billing_interval": "year"}


def _ended(name: str, org_id: str, end: str, amount: str = "12000") -> list[Row]:
    """A contract of a year that ends for good when its term does."""
    return subscription(name, org_id, [("2025-06-01", 5, amount)], term_end=end, cancel_at=end, **YEARLY)


def _new(name: str, org_id: str, start: str, amount: str) -> list[Row]:
    return subscription(name, org_id, [(start, 5, amount)], **YEARLY)


def _rate(*subscriptions: Row, **columns: Any) -> Row:
    world = {
        "organisations": organisations(*sorted({str(row["org_id"]) for row in subscriptions})),
        "subscription_versions": [row | columns for row in subscriptions],
    }
    settings = Settings.model_validate({"metrics": PERIOD})
    with build_world(world, AS_OF, settings=settings) as connection:
        return one(connection, "renewal_rate")


def _numbers(row: Row) -> tuple[Any, ...]:
    return (
        row["contracts"],
        row["renewed_contracts"],
        row["renewed_mrr"],
        row["gross_renewal_rate"],
        row["net_renewal_rate"],
    )


def test_two_contracts_that_are_renewed_under_two_new_ids_on_one_day_are_both_renewed() -> None:
    row = _rate(
        *_ended("s1", "o", "2026-06-10"),
        *_ended("s2", "o", "2026-06-10"),
        *_new("n1", "o", "2026-06-10", "12000"),
        *_new("n2", "o", "2026-06-10", "12000"),
    )
    assert _numbers(row) == (2, 2, 2000, 1, 1)


def test_two_contracts_that_are_renewed_as_one_under_a_new_id_are_both_renewed() -> None:
    row = _rate(
        *_ended("s1", "o", "2026-06-10"),
        *_ended("s2", "o", "2026-06-10"),
        *_new("n1", "o", "2026-06-10", "30000"),
    )
    assert _numbers(row) == (2, 2, 2500, 1, Decimal("1.25"))


def test_a_new_id_that_brings_less_than_two_contracts_renews_the_first_of_them_first() -> None:
    row = _rate(
        *_ended("s1", "o", "2026-06-10"),
        *_ended("s2", "o", "2026-06-10"),
        *_new("n1", "o", "2026-06-10", "12000"),
    )
    assert _numbers(row) == (2, 1, 1000, Decimal("0.5"), Decimal("0.5"))


def test_a_renewal_under_a_new_id_counts_for_the_first_day_on_which_it_runs_and_once() -> None:
    contracts = [*_ended("s1", "o", "2026-06-10"), *_ended("s2", "o", "2026-06-20")]
    both = _rate(*contracts, *_new("n1", "o", "2026-06-10", "18000"), *_new("n2", "o", "2026-06-15", "6000"))
    assert _numbers(both) == (2, 2, 2000, Decimal("0.75"), 1)
    first = _rate(*contracts, *_new("n1", "o", "2026-06-10", "18000"))
    assert _numbers(first) == (2, 1, 1500, Decimal("0.5"), Decimal("0.75"))


def test_what_was_paid_for_at_the_freeze_already_renews_nothing() -> None:
    before = _rate(*_ended("s1", "o", "2026-06-10"), *_new("n1", "o", "2026-05-31", "12000"))
    assert _numbers(before) == (1, 0, 0, 0, 0)
    after = _rate(*_ended("s1", "o", "2026-06-10"), *_new("n1", "o", "2026-06-01", "12000"))
    assert _numbers(after) == (1, 1, 1000, 1, 1)


def test_a_plan_that_becomes_free_is_not_renewed_and_unknown_mrr_counts_as_nothing() -> None:
    contract = subscription("s1", "o", [("2025-06-01", 5, "12000")], term_end="2026-06-10", **YEARLY)
    free = subscription("s1", "o", [("2026-06-10", 5, "0")], plan="free")
    assert _numbers(_rate(*contract, *free)) == (1, 0, 0, 0, 0)
    unknown = _rate(*contract, currency="EUR")
    assert (unknown["contracts"], unknown["atr_mrr"], unknown["gross_renewal_rate"]) == (1, 0, None)


def _forecast(renewal: dict[str, Any], deals: list[Row] = [], **columns: Any) -> Row:  # noqa: B006
    contract = subscription("s", "o", [("2025-01-01", 5, "12000")], term_end="2026-08-20", **YEARLY | columns)
    world = {"organisations": organisations("o"), "subscription_versions": contract, "deals": deals}
    settings = Settings.model_validate({"renewal": renewal})
    with build_world(world, AS_OF, settings=settings) as connection:
        found = rows(connection, "renewal_forecast")
    assert [str(row["period_start"]) for row in found][::11] == ["2026-07-01", "2027-06-01"]
    return found[1]


def _deal(**columns: Any) -> Row:
    return {
        "deal_id": "d",
        "org_id": "o",
        "pipeline": "post_sales",
        "deal_type": "renewal",
        "stage": "negotiation",
        "status": "open",
        "amount": 1500,
        "close_date": "2026-08-20",
        "created_at": "2026-01-10",
    } | columns


@pytest.mark.parametrize(
    ("renewal", "deals", "columns", "expected"),
    [
        ({}, [], {}, (1, 1, 0, 0)),
        ({"stage_probability": {"_missing": 0.3}}, [], {}, (1, 0, 300, 0)),
        ({"stage_probability": {"_missing": 0.3}}, [_deal()], {}, (1, 1, 0, 0)),
        ({"stage_probability": {"negotiation": 0.5}}, [_deal()], {}, (1, 0, 500, 250)),
        ({}, [_deal(status="won", closed_at="2026-05-01")], {}, (1, 0, 1000, 500)),
        ({}, [_deal(status="won", closed_at="2026-05-01")], {"cancel_at": "2026-08-20"}, (1, 0, 0, 0)),
        ({}, [_deal(status="lost", closed_at="2026-05-01")], {}, (1, 0, 0, 0)),
        (
            {"deal_amount_basis": "arr", "stage_probability": {"negotiation": 1}},
            [_deal(amount=10000.06)],
            {},
            # a twelfth of it is 833.338...
            (1, 0, Decimal("833.34"), 0),
        ),
    ],
)
def test_a_contract_is_expected_by_its_probability_and_counted_when_that_is_not_known(
    renewal: dict[str, Any], deals: list[Row], columns: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    row = _forecast(renewal, deals, **columns)
    assert (
        row["contracts"],
        row["without_probability"],
        row["renewal_forecast_mrr"],
        row["upsell_forecast_mrr"],
    ) == expected


def test_the_month_of_the_first_paid_seat_is_the_cohort_and_free_seats_count_from_then_on() -> None:
    world = {
        "organisations": organisations("o"),
        "subscription_versions": [
            *subscription("free", "o", [("2026-01-10", 3, "0")], plan="free"),
            *subscription("paid", "o", [("2026-04-15", 5, "500"), ("2026-05-31", 8, "800")]),
        ],
    }
    with build_world(world, AS_OF) as connection:
        found = rows(connection, "seat_cohorts")
    assert [(str(row["cohort"]), row["month_number"], row["seats"], row["retention"]) for row in found] == [
        ("2026-04-01", 0, 8, 1),
        ("2026-04-01", 1, 11, Decimal("1.375")),
        ("2026-04-01", 2, 11, Decimal("1.375")),
    ]
