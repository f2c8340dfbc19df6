"""The renewal pipeline: scope, matching, timing and every hygiene finding with its boundary, in one small world."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import duckdb
import pytest

from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import Row, build_world, one, organisations, rows, subscription

AS_OF = "2026-06-30"
TERM_END = "2026-09-28"


def _contract(name: str, amount: str = "12000", **columns: Any) -> list[Row]:
    """A yearly subscription s-<name> of organisation <name>; 12000 a year are 1000 MRR."""
    base = {"plan": "business", "billing_interval": "year", "term_end": TERM_END} | columns
    org_id = base.pop("org_id", name)
    start = base.pop("start", "2025-01-01")
    return subscription(f"s-{name}", org_id, [(start, 50, amount)], **base)


def _deal(name: str, org_id: str | None = None, **columns: Any) -> Row:
    return {
        "deal_id": f"d-{name}",
        "org_id": org_id or name,
        "pipeline": "post_sales",
        "deal_type": "renewal",
        "stage": "negotiation",
        "status": "open",
        "created_at": "2026-01-10",
        "owner_id": "u1",
        "amount": 1000,
        "close_date": TERM_END,
    } | columns


def _won(name: str, closed_at: str = "2026-06-20T10:00:00Z", **columns: Any) -> Row:
    """HubSpot writes the day of closing over the close date."""
    return _deal(name, status="won", closed_at=closed_at, close_date=closed_at[:10], **columns)


def _set(name: str, close_date: str, set_at: str) -> Row:
    return {"deal_id": f"d-{name}", "close_date": close_date, "set_at": set_at}


AMOUNTS = {
    "amount-10.79": 10790,
    "amount-10.80": 10800,
    "amount-13.20": 13200,
    "amount-13.21": 13210,
    "amount-24": 24000,
    "amount-36": 39600,
    "amount-0.50": 500,
    "amount-0.49": 499,
    "amount-2.00": 2000,
    "amount-2.01": 2001,
    "amount-none": None,
    "amount-zero": 0,
}


def _world() -> dict[str, list[Row]]:
    contracts: list[Row] = [
        *_contract("at500", "6000"),
        *_contract("over500", "6000.12"),
        *_contract("enterprise500", "500", plan="Enterprise", billing_interval="month"),
        *_contract("enterprise501", "500.01", plan="Enterprise", billing_interval="month"),
        *_contract("monthly", "5000", billing_interval="month", term_end=None),
        *_contract("no-term", "5000", billing_interval="month", term_end=None),
        *_contract("monthly-year-term", "5000", billing_interval="month", term_start="2025-09-28"),
        *_contract("two-terms", "5000", billing_interval="month", term_start="2026-03-28"),
        *_contract("canceling", cancel_at=TERM_END, term_end=TERM_END),
        *_contract("missing180", term_end="2026-12-27"),
        *_contract("missing181", term_end="2026-12-28"),
        *_contract("ended-term", term_end="2026-06-01"),
        *_contract("near45"),
        *_contract("near46"),
        *_contract("explicit"),
        *_contract("twins-a", org_id="twins"),
        *_contract("twins-b", org_id="twins"),
        *_contract("best"),
        *_contract("spare"),
        *_contract("again", start="2024-09-28", term_end="2025-09-28"),
        *_contract("again", start="2025-09-28"),
        *_contract("mismatch7"),
        *_contract("mismatch8"),
        *_contract("won89"),
        *_contract("won90"),
        *_contract("same-day"),
        *_contract("later"),
        *_contract("won-not-billed", term_end="2026-06-30"),
        *_contract("won-in-time", term_end="2026-07-01"),
        *_contract("billed", start="2025-06-01", term_end="2026-06-01"),
        *_contract("billed", start="2026-06-01", term_end="2027-06-01"),
        *_contract("lost-billed", term_end="2026-06-15"),
        *_contract("lost-rolled", start="2025-06-01", term_end="2026-06-01"),
        *_contract("lost-rolled", start="2026-06-01", term_end="2027-06-01"),
        *_contract("lost-open-term"),
        *_contract("euro"),
        *_contract("findings"),
        *_contract("default-date"),
        *_contract("cleared"),
        *_contract("reopened"),
        *_contract("run-of-stage"),
        *_contract("closing-stage"),
        *_contract("lost-elsewhere", start="2025-06-01", term_end="2026-06-01"),
        *_contract("lost-elsewhere", start="2026-06-01", term_end="2027-06-01"),
        *_contract("payer"),
        *subscription("s-paused", "paused", [("2025-01-01", 5, 600)]),
        *subscription("s-paused", "paused", [("2026-06-01", 5, 600)], status="paused"),
        *subscription("s-child", "child", [("2025-01-01", 5, 600)]),
        *subscription("s-child", "child", [("2026-06-01", 5, 600)], status="canceled"),
        *subscription("s-gone", "gone", [("2025-01-01", 5, 600)]),
        *subscription("s-gone", "gone", [("2026-06-01", 5, 600)], status="canceled"),
        *[row for name in AMOUNTS for row in _contract(name)],
    ]
    deals: list[Row] = [
        _deal("near45", close_date="2026-11-12"),
        _deal("near46", close_date="2026-11-13"),
        _deal("explicit", org_id="elsewhere", subscription_id="s-explicit", close_date="2027-01-31"),
        _deal("twins-1", org_id="twins"),
        _deal("twins-2", org_id="twins"),
        _deal("best-1", org_id="best", close_date="2026-09-29"),
        _deal("best-2", org_id="best", close_date=TERM_END, status="lost", closed_at="2026-06-01"),
        _deal("best-3", org_id="best", close_date="2026-10-20", status="won"),
        _deal("spare-1", org_id="spare", close_date="2026-09-29"),
        _deal("spare-2", org_id="spare", close_date="2026-09-27"),
        _won("again", "2025-09-01T10:00:00Z", subscription_id="s-again", created_at="2025-01-01"),
        _deal("mismatch7", close_date="2026-10-05"),
        _deal("mismatch8", close_date="2026-10-06"),
        _won("won89", "2026-06-30T10:00:00Z"),
        _won("won90", "2026-06-29T10:00:00Z"),
        _won("same-day", "2026-06-20T10:00:00Z"),
        _won("later", "2026-07-02T10:00:00Z"),
        _deal("won-not-billed", status="won", close_date="2026-06-30"),
        _deal("won-in-time", status="won", close_date="2026-07-01"),
        _deal("billed", close_date="2026-06-01"),
        _deal("lost-billed", status="lost", close_date="2026-06-15"),
        _deal("lost-rolled", status="lost", close_date="2026-06-01"),
        _deal("lost-open-term", status="lost"),
        _deal("euro", amount=50000, currency="EUR"),
        _deal("findings", amount=-1, owner_id="u9", close_date=None, has_next_activity=False),
        _deal("default-date", created_at="2026-05-20", close_date="2026-05-31", owner_id=None),
        _deal("no-term", amount=5000),
        _deal("gone", close_date="2026-07-15", has_next_activity=True),
        _deal("nobody", close_date="2026-06-29"),
        _deal("paused", close_date="2026-07-15"),
        _deal("child", close_date="2026-07-15"),
        _deal("cleared"),
        _deal("reopened", close_date="2026-05-31", closed_at="2026-05-31"),
        _deal("run-of-stage"),
        _won("closing-stage", stage="closedwon", subscription_id="s-closing-stage"),
        _deal("lost-elsewhere", status="lost", close_date="2026-06-01", subscription_id="of-another-system"),
        _deal("upsell", org_id="at500", deal_type="upsell"),
        _deal("sales", org_id="at500", pipeline="sales"),
        _deal("out", org_id="monthly", subscription_id="s-monthly", close_date="2026-09-28", amount=5000),
        *[_deal(name, amount=amount) for name, amount in AMOUNTS.items()],
    ]
    close_dates = [
        _set("again", "2025-09-28", "2025-01-01T00:00:00Z"),
        _set("again", "2025-09-01", "2025-09-01T10:00:00Z"),
        _set("won89", "2026-09-27", "2026-01-10T00:00:00Z"),
        _set("won89", "2026-06-30", "2026-06-30T10:00:00Z"),
        _set("won90", "2026-09-27", "2026-01-10T00:00:00Z"),
        _set("won90", "2026-06-29", "2026-06-29T10:00:00Z"),
        # created, corrected and won on one day: the correction is not the closing
        _set("same-day", "2026-08-01", "2026-06-20T08:00:00Z"),
        _set("same-day", TERM_END, "2026-06-20T09:00:00Z"),
        _set("same-day", "2026-06-20", "2026-06-20T10:00:00Z"),
        _set("later", TERM_END, "2026-01-10T00:00:00Z"),
        _set("later", "2026-07-02", "2026-07-02T10:00:00Z"),
        _set("cleared", "2026-09-28", "2026-01-10T00:00:00Z"),
        {"deal_id": "d-cleared", "close_date": None, "set_at": "2026-06-01T00:00:00Z"},
    ]
    names = {str(row["org_id"]) for row in [*contracts, *deals]}
    return {
        "organisations": organisations(*sorted(names)),
        "subscription_versions": contracts,
        "deals": deals,
        "deal_close_dates": close_dates,
        "deal_stages": [
            {"deal_id": "d-near45", "stage": "negotiation", "set_at": "2026-06-20T12:00:00Z"},
            {"deal_id": "d-later", "stage": "contract_sent", "set_at": "2026-06-01T12:00:00Z"},
            {"deal_id": "d-later", "stage": "negotiation", "set_at": "2026-07-02T10:00:00Z"},
            {"deal_id": "d-run-of-stage", "stage": "negotiation", "set_at": "2026-02-01T12:00:00Z"},
            {"deal_id": "d-run-of-stage", "stage": "contract_sent", "set_at": "2026-05-01T12:00:00Z"},
            {"deal_id": "d-run-of-stage", "stage": "negotiation", "set_at": "2026-06-10T12:00:00Z"},
            {"deal_id": "d-run-of-stage", "stage": "negotiation", "set_at": "2026-06-25T12:00:00Z"},
            {"deal_id": "d-closing-stage", "stage": "negotiation", "set_at": "2026-02-01T12:00:00Z"},
        ],
        "org_coverage": [{"child_org_id": "child", "payer_org_id": "payer", "valid_from": "2026-06-01"}],
        "users": [
            {"user_id": "u1", "name": "Ada", "role": "csm", "is_active": True},
            {"user_id": "u9", "name": "Bob", "role": "csm", "is_active": False},
        ],
    }


@cache
def _built() -> duckdb.DuckDBPyConnection:
    return build_world(_world(), AS_OF)


def _row(name: str) -> Row:
    return one(_built(), "renewal_pipeline", renewal_id=f"s-{name}")


@pytest.mark.parametrize(
    ("name", "in_scope", "reason"),
    [
        ("at500", False, "mrr_not_over_threshold"),
        ("over500", True, None),
        ("enterprise500", False, "mrr_not_over_threshold"),
        ("enterprise501", True, None),
        ("monthly", False, "self_serve_monthly"),
        ("monthly-year-term", True, None),
        ("two-terms", False, "self_serve_monthly"),
    ],
)
def test_only_enterprise_and_yearly_contracts_strictly_over_500_are_in_scope(
    name: str, in_scope: bool, reason: str | None
) -> None:
    row = _row(name)
    assert (row["in_scope"], row["out_of_scope_reason"]) == (in_scope, reason)


def test_a_contract_without_a_term_has_no_date_to_renew_by() -> None:
    row = _row("enterprise501") | {"renewal_id": None}
    assert row["renew_by"] is not None
    monthly = build_world(
        {
            "organisations": organisations("o"),
            "subscription_versions": subscription("s", "o", [("2025-01-01", 5, 600)]),
        },
        AS_OF,
    )
    row = one(monthly, "renewal_pipeline", subscription_id="s")
    assert (row["renew_by"], row["timing"], row["status"], row["missed_lead_target"]) == (
        None,
        None,
        "no_deal",
        False,
    )


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("missing180", "missing"),
        ("missing181", "no_deal"),
        ("ended-term", "missing"),
        ("canceling", "no_deal"),
        ("at500", "no_deal"),
        ("near45", "open"),
        ("near46", "missing"),
        ("later", "open"),
        ("won90", "renewed"),
        ("lost-open-term", "lost"),
        ("again", "missing"),
    ],
)
def test_the_status_follows_the_deal_that_belongs_to_this_term(name: str, status: str) -> None:
    assert _row(name)["status"] == status


def test_a_deal_belongs_to_a_term_up_to_45_days_away_unless_it_names_the_subscription() -> None:
    assert _row("near45")["deal_id"] == "d-near45"
    assert _row("near46")["deal_id"] is None
    assert one(_built(), "renewal_pipeline", renewal_id="deal:d-near46")["status"] == "orphan_deal"
    assert _row("explicit")["deal_id"] == "d-explicit"


def test_each_contract_has_one_deal_and_each_deal_one_contract() -> None:
    found = rows(_built(), "renewal_pipeline")
    assert {_row("twins-a")["deal_id"], _row("twins-b")["deal_id"]} == {"d-twins-1", "d-twins-2"}
    assert _row("twins-a")["hygiene"] == []
    deals = [row["deal_id"] for row in found if row["deal_id"]]
    assert len(deals) == len(set(deals))
    contracts = [row["subscription_id"] for row in found if row["subscription_id"]]
    assert len(contracts) == len(set(contracts))


def test_won_comes_before_open_before_lost_and_the_lowest_id_decides_between_equals() -> None:
    assert _row("best")["deal_id"] == "d-best-3"
    assert _row("best")["hygiene"] == ["close_date_mismatch", "duplicate_open_renewal_deal"]
    assert _row("spare")["deal_id"] == "d-spare-1"
    assert _row("spare")["hygiene"] == ["duplicate_open_renewal_deal"]


def test_the_date_to_renew_by_of_a_won_deal_is_the_one_before_its_closing() -> None:
    assert str(_row("same-day")["renew_by"]) == TERM_END
    assert (str(_row("won90")["renew_by"]), _row("won90")["renewed_days_ahead"]) == ("2026-09-27", 90)
    assert not _row("won90")["missed_lead_target"]
    assert _row("won89")["renewed_days_ahead"] == 89
    assert _row("won89")["missed_lead_target"]


def test_a_deal_closed_after_the_day_is_open_with_the_stage_and_date_of_that_day() -> None:
    row = _row("later")
    assert (row["status"], row["stage"], str(row["renew_by"])) == ("open", "contract_sent", TERM_END)
    restated = one(build_world(_world(), AS_OF, "2026-07-31"), "renewal_pipeline", renewal_id="s-later")
    assert (restated["status"], restated["stage"], str(restated["renew_by"])) == (
        "open",
        "contract_sent",
        TERM_END,
    )


def test_what_becomes_known_after_the_day_changes_nothing() -> None:
    later = "2026-07-01T00:00:00Z"
    known_later: dict[str, list[Row]] = {
        "subscription_versions": _contract("missing180", "24000", start=later),
        "deals": [
            _deal("missing180", close_date="2026-12-27", created_at=later),
            _deal("near45", status="won", closed_at=later, recorded_at=later),
        ],
        "deal_close_dates": [_set("near45", TERM_END, later)],
        "deal_stages": [{"deal_id": "d-near45", "stage": "contract_sent", "set_at": later}],
        "users": [{"user_id": "u1", "name": "Ada", "role": "csm", "is_active": False, "recorded_at": later}],
    }
    world = {table: [*table_rows, *known_later.get(table, [])] for table, table_rows in _world().items()}
    assert rows(build_world(world, AS_OF), "renewal_pipeline") == rows(_built(), "renewal_pipeline")


def test_timing_counts_days_to_the_date() -> None:
    assert (_row("near45")["days_to_renew_by"], _row("near45")["timing"]) == (135, "upcoming")
    assert (_row("lost-open-term")["days_to_renew_by"], _row("lost-open-term")["timing"]) == (90, "in_window")
    assert (_row("ended-term")["days_to_renew_by"], _row("ended-term")["timing"]) == (-29, "overdue")
    assert str(_row("near45")["target_renew_by"]) == "2026-08-14"
    assert _row("near45")["days_in_stage"] == 10


@pytest.mark.parametrize(
    ("name", "hygiene"),
    [
        ("amount-10.79", ["amount_mismatch"]),
        ("amount-10.80", ["amount_looks_annual"]),
        ("amount-13.20", ["amount_looks_annual"]),
        ("amount-13.21", ["amount_mismatch"]),
        ("amount-24", ["amount_looks_multi_year"]),
        ("amount-36", ["amount_looks_multi_year"]),
        ("amount-0.50", []),
        ("amount-0.49", ["amount_mismatch"]),
        ("amount-2.00", []),
        ("amount-2.01", ["amount_mismatch"]),
        ("amount-none", ["amount_missing"]),
        ("amount-zero", ["amount_not_positive"]),
        ("mismatch7", []),
        ("mismatch8", ["close_date_mismatch"]),
        ("euro", ["currency_mismatch"]),
        ("findings", ["amount_not_positive", "close_date_missing", "owner_inactive", "no_next_activity"]),
        ("no-term", ["out_of_scope_in_pipeline"]),
        ("won-not-billed", ["won_but_not_billed"]),
        ("won-in-time", []),
        ("lost-billed", ["lost_but_still_billed"]),
        ("lost-rolled", ["lost_but_still_billed"]),
        ("lost-elsewhere", ["lost_but_still_billed"]),
        ("cleared", ["close_date_missing"]),
        ("lost-open-term", []),
        ("monthly", ["out_of_scope_in_pipeline"]),
    ],
)
def test_hygiene_names_what_is_wrong_with_the_deal(name: str, hygiene: list[str]) -> None:
    assert _row(name)["hygiene"] == hygiene


@pytest.mark.parametrize(
    ("name", "hygiene"),
    [
        (
            "default-date",
            ["close_date_past_open", "close_date_is_default", "owner_missing", "no_active_subscription"],
        ),
        ("gone", ["no_active_subscription", "churned_with_open_deal"]),
        ("nobody", ["close_date_past_open", "no_active_subscription"]),
        ("paused", ["no_active_subscription"]),
        ("child", ["no_active_subscription"]),
        ("billed", ["close_date_past_open", "billed_but_deal_open"]),
    ],
)
def test_an_open_deal_that_belongs_to_no_contract_is_a_row_of_its_own(name: str, hygiene: list[str]) -> None:
    row = one(_built(), "renewal_pipeline", renewal_id=f"deal:d-{name}")
    assert (row["status"], row["in_scope"], row["out_of_scope_reason"]) == (
        "orphan_deal",
        False,
        "no_subscription",
    )
    assert row["hygiene"] == hygiene
    assert row["mrr_at_stake"] is None


def test_an_open_deal_whose_date_was_cleared_has_none_and_one_that_was_reopened_keeps_its_own() -> None:
    assert str(_row("cleared")["renew_by"]) == TERM_END  # the end of the term, for want of a date of the deal
    reopened = one(_built(), "renewal_pipeline", deal_id="d-reopened")
    assert (str(reopened["renew_by"]), reopened["status"]) == ("2026-05-31", "orphan_deal")


def test_a_deal_is_in_its_stage_since_the_first_of_the_entries_in_a_row_that_set_it() -> None:
    assert (_row("run-of-stage")["stage"], _row("run-of-stage")["days_in_stage"]) == ("negotiation", 20)
    assert (_row("closing-stage")["stage"], _row("closing-stage")["days_in_stage"]) == ("closedwon", 10)


def test_annual_amounts_are_meant_when_the_settings_say_so_and_stages_can_be_checked() -> None:
    settings = Settings.model_validate({"renewal": {"deal_amount_basis": "arr", "stages": ["contract_sent"]}})
    world = {
        "organisations": organisations("annual", "monthly"),
        "subscription_versions": [*_contract("annual"), *_contract("monthly")],
        "deals": [_deal("annual", amount=12000), _deal("monthly", amount=1000, stage="contract_sent")],
    }
    built = build_world(world, AS_OF, settings=settings)
    assert one(built, "renewal_pipeline", deal_id="d-annual")["hygiene"] == ["stage_unknown"]
    assert one(built, "renewal_pipeline", deal_id="d-monthly")["hygiene"] == ["amount_looks_monthly"]


@pytest.mark.parametrize(
    ("key", "when"),
    [
        ({"subscription_id": "s-won-in-time"}, "renew by 2026-07-01, in 1 day."),
        ({"subscription_id": "s-won-not-billed"}, "renew by 2026-06-30, today;"),
        ({"deal_id": "d-nobody"}, "renew by 2026-06-29, 1 day ago;"),
    ],
)
def test_the_days_left_are_told_as_people_say_them(key: dict[str, str], when: str) -> None:
    assert when in one(_built(), "renewal_pipeline", **key)["why"]


def test_every_row_says_why_and_the_order_of_the_input_rows_does_not_matter() -> None:
    for row in rows(_built(), "renewal_pipeline"):
        assert (row["subscription_id"] or row["deal_id"]) in row["why"]
        assert row["why"].endswith(".")
    world = _world()
    for table in world.values():
        random.Random(11).shuffle(table)
    assert rows(build_world(world, AS_OF), "renewal_pipeline") == rows(_built(), "renewal_pipeline")
