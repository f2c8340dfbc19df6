"""The edge cases of billing history, one customer each in one folder; as of 2026-11-22, the window begins 2026-08-24.

The number in front of each case is that of the list they come from (docs/billing_ledger.md has the same table).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hub_pipeline_tests.sources.billing_folder import BillingFolder
from hub_pipeline_tests.sources.billing_marts import at_closes, build_billing

AS_OF = date(2026, 11, 22)

_SUB = "subscription_id,customer_id,status,started_at,updated_at,currency,plan"
_SUB_MORE = [
    "trial_start_at",
    "trial_end_at",
    "current_period_start_at",
    "current_period_end_at",
    "cancel_at",
    "cancel_requested_at",
    "cancel_at_period_end",
    "ended_at",
    "cancel_kind",
    "pause_kind",
    "pause_resumes_at",
    "livemode",
]
_ITEM = (
    "subscription_item_id,subscription_id,seat_role,quantity,unit_amount_minor,interval,created_at,updated_at"
)
_ITEM_MORE = [
    "deleted_at",
    "interval_count",
    "product_id",
    "price_id",
    "discount_minor",
    "discount_end_at",
    "recurring_minor",
    "billing_scheme",
    "usage_type",
    "seats",
    "current_period_end_at",
    "livemode",
    "entered_at",
]


def sub(
    number: str, at: str = "2026-01-01", status: str = "active", started: str = "2026-01-01", **more: str
) -> str:
    """Line of subscriptions: subscription s<number> of customer c<number> (letters behind the number are dropped)."""
    customer = more.pop("customer", "c" + number.rstrip("abc"))
    currency, plan = more.pop("currency", "USD"), more.pop("plan", "Team")
    return ",".join(
        [f"s{number}", customer, status, started, at, currency, plan, *(more.pop(n, "") for n in _SUB_MORE)]
    )


def item(
    number: str, quantity: int | str, at: str = "2026-01-01", created: str = "2026-01-01", **more: str
) -> str:
    """Line of subscription_items: item i<number> of subscription s<number> without its last letter x, y or z."""
    subscription = more.pop("of", "s" + number.rstrip("xyz"))
    role, unit, interval = more.pop("role", "seat"), more.pop("unit", "1000"), more.pop("interval", "month")
    return ",".join(
        [
            f"i{number}",
            subscription,
            role,
            str(quantity),
            unit,
            interval,
            created,
            at,
            *(more.pop(n, "") for n in _ITEM_MORE),
        ]
    )


def steps(number: str, *changes: tuple[str, int]) -> list[str]:
    """An item whose quantity changes."""
    return [item(number, quantity, at, changes[0][0]) for at, quantity in changes]


JAN = "2026-01-01"

CUSTOMERS = [
    "customer_id,name,is_deleted,updated_at",
    "c39,Deleted,false,2026-01-01",
    "c39,Deleted,true,2026-10-05T12:00:00Z",
]

SUBS = [
    ",".join([_SUB, *_SUB_MORE]),
    *(sub(n) for n in ["1", "2", "4", "5", "6", "7a", "7b", "19", "20", "21", "22", "24", "25", "26", "27", "28", "29", "30", "37", "39", "43"]),
    sub("3", "2026-11-01", started="2026-11-01"),
    sub("6b", customer="c6b"),
    # 10: asked far ahead; the item's term ends first. 11: asked, then withdrawn. 12: two terms.
    sub("10", "2026-03-02", cancel_requested_at="2026-03-02", cancel_at_period_end="true",
        current_period_start_at="2026-02-01", current_period_end_at="2027-02-01"),
    sub("11", "2026-10-01", cancel_at="2027-01-01", cancel_requested_at="2026-10-01"),
    sub("11", "2026-10-20"),
    sub("12", "2026-10-01", cancel_requested_at="2026-10-01", cancel_at_period_end="true",
        current_period_start_at="2026-05-01", current_period_end_at="2027-05-01"),
    sub("13"),
    sub("13", "2026-10-05", "canceled", ended_at="2026-10-05", cancel_requested_at="2026-10-05",
        current_period_start_at="2026-01-31", current_period_end_at="2027-01-31"),
    *(sub(n) for n in ("14a", "14c", "15")), sub("14b", customer="c14b"), sub("14d", customer="c14d"),
    sub("16a", "2026-10-11", "trialing", "2026-10-11", trial_start_at="2026-10-11", trial_end_at="2026-11-10"),
    sub("16a", "2026-11-10", "active", "2026-10-11", trial_start_at="2026-10-11", trial_end_at="2026-11-10"),
    sub("16b", "2026-10-11", "trialing", "2026-10-11", trial_start_at="2026-10-11", trial_end_at="2026-11-10", customer="c16b"),
    sub("16b", "2026-11-10", "incomplete_expired", "2026-10-11", customer="c16b"),
    sub("17a"), sub("17a", "2026-10-10", "paused"),
    sub("17b", customer="c17b"), sub("17b", "2026-10-10", pause_kind="collection", customer="c17b"),
    sub("17c", customer="c17c"), sub("17c", "2026-10-10", pause_kind="full", pause_resumes_at="2026-11-01", customer="c17c"),
    sub("18a"), sub("18a", "2026-11-12", "past_due"),
    sub("18b", customer="c18b"), sub("18b", "2026-11-12", "unpaid", customer="c18b"),
    sub("18c", customer="c18c"), sub("18c", "2026-11-12", "canceled", cancel_kind="involuntary", ended_at="2026-11-12", customer="c18c"),
    sub("23", currency="EUR"), sub("23b"), sub("23c", currency="CHF", customer="c23c"),
    sub("24j", currency="JPY", customer="c24"), sub("24k", currency="KWD", customer="c24"),
    sub("40", livemode="false"),
    sub("41", JAN), sub("41", "2026-09-10", "canceled", ended_at="2026-09-10"),
    sub("41b", "2026-10-10", started="2026-10-10"),
    sub("42", JAN), sub("42", "2026-05-01", "canceled", ended_at="2026-05-01"),
    sub("42b", "2026-10-10", started="2026-10-10"),
]  # fmt: skip

ITEMS = [
    ",".join([_ITEM, *_ITEM_MORE]),
    *steps("1", (JAN, 10), ("2026-10-01", 30)),
    item("2", 40), item("2", 40, "2026-09-15", deleted_at="2026-09-15"), item("2y", 40, "2026-09-15", "2026-09-15"),
    *steps("3", ("2026-11-01", 25)),
    *steps("4", (JAN, 10), ("2026-09-10", 60), ("2026-10-10", 15)),
    *steps("5", (JAN, 50), ("2026-10-10", 20)),
    *steps("6", (JAN, 30), ("2026-08-24T10:00:00Z", 50)),
    *steps("6b", (JAN, 30), ("2026-08-25T00:30:00Z", 50)),
    *steps("7a", (JAN, 30), ("2026-10-01", 20)), *steps("7b", (JAN, 5), ("2026-10-01", 25)),
    item("10", 20, interval="year", unit="12000"), item("11", 20), item("13", 20, interval="year"),
    item("12", 5, current_period_end_at="2026-12-01"),
    item("12y", 1, role="flat", interval="year", current_period_end_at="2027-05-01"),
    *(item(n, 50) for n in ("14a", "14b", "14c", "14d", "15")),
    item("16a", 15, "2026-10-11", "2026-10-11"), item("16b", 15, "2026-10-11", "2026-10-11"),
    *(item(n, 20) for n in ("17a", "17b", "17c", "18a", "18b", "18c", "20", "39", "40")),
    *(item(f"19{x}", 1, unit=unit, interval=interval, interval_count=count, of="s19", role="flat") for x, unit, interval, count in
      (("x", "1200000", "year", ""), ("y", "1200", "week", ""), ("z", "30000", "month", "3"))),
    item("21", 20, discount_minor="20000", discount_end_at="2027-01-01"),
    item("22", 20, discount_minor="20000", discount_end_at="2026-10-01"),
    item("23", 20), item("23b", 20), item("23c", 20),
    item("24j", 1, unit="1000"), item("24k", 1, unit="1000"), item("24", 10, unit="0.5"),
    item("25", 5, seats="45", billing_scheme="package"), item("25y", 10, role="flat", billing_scheme="tiered", recurring_minor="9900"),
    item("26", "", usage_type="metered", role="metered"), item("26y", 10), item("26z", "", usage_type="metered", seats="7"),
    item("27", 200, unit="0"),
    item("28", 10), item("28y", 500, role="addon"),
    item("29", 10), item("29y", 30, role="addon", price_id="guest"),
    *(item(f"30-{n}", 5, of="s30") for n in range(12)),
    item("37", 10),
    item("41", 20), item("41b", 20, "2026-10-10", "2026-10-10"),
    item("42", 20), item("42b", 25, "2026-10-10", "2026-10-10"),
    *steps("43", (JAN, 2), ("2026-10-01", 1)),
]  # fmt: skip

SCHEDULES = [
    "schedule_id,phase_no,price_id,subscription_id,phase_start_at,phase_end_at,end_behavior,seat_role,quantity,"
    "unit_amount_minor,interval,created_at,updated_at,is_deleted",
    "a,2,p,s14a,2027-01-01,2028-01-01,release,seat,30,1000,month,2026-10-01,2026-10-01,false",
    "b,1,p,s14b,2026-10-01,2027-03-01,cancel,seat,50,1000,month,2026-10-01,2026-10-01,false",
    "c,2,p,s14c,2027-01-01,2028-01-01,release,seat,30,1000,month,2026-10-01,2026-10-01,false",
    "c,2,p,s14c,2027-01-01,2028-01-01,release,seat,30,1000,month,2026-10-01,2026-11-01,true",
    "d,2,p,s14d,2026-11-01,2027-11-01,release,seat,30,1000,month,2026-10-01,2026-10-01,false",
]

FX = [
    "currency,valid_from,rate",
    "EUR,2026-01-01,1.05",
    "EUR,2026-10-01,1.15",
    "JPY,2026-01-01,0.01",
    "KWD,2026-01-01,3",
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BillingFolder]:
    """All cases loaded on 2026-11-21, published, and the late change of case 37 on the day after; built for that day."""
    with ExitStack() as opened:
        billing = BillingFolder(tmp_path_factory.mktemp("cases") / "data")
        opened.callback(billing.close)
        for table, lines in {
            "customers": CUSTOMERS, "subscriptions": SUBS, "subscription_items": ITEMS,
            "subscription_schedules": SCHEDULES, "fx_rates": FX,
        }.items():  # fmt: skip
            billing.put(f"{table}__2026-11-21__delta.csv", list(dict.fromkeys(lines)))
        results = billing.run(as_of=date(2026, 11, 21), publish=True)
        assert {name: r.message for name, r in results.items() if r.status == "failed"} == {}
        assert billing.reasons() == {}
        late = item("37", 40, "2026-08-01", JAN)
        billing.put("subscription_items__2026-11-22__delta.csv", [ITEMS[0], late])
        billing.run(as_of=AS_OF)
        build_billing(billing, AS_OF, "organisation_daily", "seat_growth", "at_risk", "churn_flags")
        yield billing


def mart(billing: BillingFolder, name: str, column: str, key: str, what: str) -> Any:
    """One value of a mart's row, None where there is no row."""
    found = billing.rows(f"SELECT {what} FROM marts.{name} WHERE {column} = $key", key=key)
    return found[0] if found and "," in what else found[0][0] if found else None


def growth(billing: BillingFolder, org: str, what: str = "organic_seat_delta") -> Any:
    return mart(billing, "seat_growth", "org_id", org, what)


def churn(billing: BillingFolder, subscription: str, what: str = "state, churn_date") -> Any:
    return mart(billing, "churn_flags", "subscription_id", subscription, what)


def organisation(billing: BillingFolder, org: str, what: str) -> Any:
    return mart(billing, "organisation_daily", "org_id", org, what)


def seats(billing: BillingFolder, subscription: str, day: str, known: str | None = None) -> int | None:
    """Seats at the close of a day; None when the subscription did not run."""
    close = datetime.fromisoformat(day + "T23:59:59")
    rows = billing.rows(
        "SELECT seats, status IN ('active', 'past_due') AND coalesce(least(cancel_at, ended_at) > $close, true) "
        "FROM staging.subscription_versions WHERE subscription_id = $id AND effective_at <= $close "
        "AND recorded_at <= coalesce($known, TIMESTAMP '2100-01-01') ORDER BY effective_at DESC, recorded_at DESC LIMIT 1",
        id=subscription, close=close, known=datetime.fromisoformat(known + "T23:59:59") if known else None,
    )  # fmt: skip
    return rows[0][0] if rows and rows[0][1] else None


def test_01_growth_reaches_its_threshold_inclusively(loaded: BillingFolder) -> None:
    assert growth(loaded, "c1", "organic_seat_delta, is_fast_growing") == (20, True)


def test_02_an_item_replaced_by_another_is_neither_a_loss_nor_a_gain(loaded: BillingFolder) -> None:
    assert growth(loaded, "c2") == 0
    assert {seats(loaded, "s2", day) for day in ("2026-09-14", "2026-09-15", "2026-09-16")} == {40}


def test_03_what_a_new_customer_bought_first_is_not_growth(loaded: BillingFolder) -> None:
    assert growth(loaded, "c3", "organic_seat_delta, baseline_kind, is_fast_growing") == (
        0,
        "first_day",
        False,
    )


def test_04_a_spike_counts_by_its_ends_and_its_peak_is_told(loaded: BillingFolder) -> None:
    assert growth(loaded, "c4", "organic_seat_delta, seats_peak, seats_now") == (5, 60, 15)


def test_05_a_contraction_is_the_seats_lost(loaded: BillingFolder) -> None:
    assert mart(loaded, "at_risk", "org_id", "c5", "seat_drop, seat_contraction_pct") == (
        30,
        Decimal("0.6000"),
    )


def test_06_a_change_on_the_first_day_of_the_window_is_the_baselines(loaded: BillingFolder) -> None:
    assert (growth(loaded, "c6"), growth(loaded, "c6b")) == (0, 20)


def test_07_subscriptions_of_one_organisation_are_added_up(loaded: BillingFolder) -> None:
    assert growth(loaded, "c7") == 10


def test_10_an_end_asked_for_far_ahead_is_scheduled_and_its_seats_still_count(loaded: BillingFolder) -> None:
    assert churn(loaded, "s10", "state, churn_date, days_until_churn") == ("scheduled", date(2027, 2, 1), 71)
    assert seats(loaded, "s10", "2026-11-22") == 20
    assert seats(loaded, "s10", "2027-02-01") is None


def test_11_an_end_that_is_withdrawn_leaves_no_churn(loaded: BillingFolder) -> None:
    assert churn(loaded, "s11", "state, false_alarm_reason") == ("false_alarm", "cancellation_reverted")


def test_12_with_mixed_terms_the_subscription_ends_with_the_first(loaded: BillingFolder) -> None:
    assert churn(loaded, "s12") == ("scheduled", date(2026, 12, 1))


def test_13_an_immediate_end_does_not_wait_for_the_paid_term(loaded: BillingFolder) -> None:
    assert churn(loaded, "s13") == ("churned", date(2026, 10, 5))
    assert (seats(loaded, "s13", "2026-10-04"), seats(loaded, "s13", "2026-10-05")) == (20, None)


def test_14_a_planned_phase_is_known_and_not_yet_true(loaded: BillingFolder) -> None:
    assert [seats(loaded, "s14a", day) for day in ("2026-11-22", "2026-12-31", "2027-01-01")] == [50, 50, 30]
    assert growth(loaded, "c14", "seats_now") == 50 + 50
    assert seats(loaded, "s14a", "2027-01-01", known="2026-09-30") == 50


def test_14_a_schedule_that_cancels_is_a_scheduled_churn_at_the_end_of_its_phase(
    loaded: BillingFolder,
) -> None:
    assert churn(loaded, "s14b") == ("scheduled", date(2027, 3, 1))


def test_14_a_schedule_that_was_withdrawn_changes_nothing_any_more(loaded: BillingFolder) -> None:
    assert seats(loaded, "s14c", "2027-01-01") == 50
    assert seats(loaded, "s14c", "2027-01-01", known="2026-10-15") == 30


def test_14_a_phase_that_has_begun_is_true_until_its_items_are_told(loaded: BillingFolder) -> None:
    assert (seats(loaded, "s14d", "2026-10-31"), seats(loaded, "s14d", "2026-11-01")) == (50, 30)


def test_14_a_planned_loss_of_seats_is_a_reason_to_watch(loaded: BillingFolder) -> None:
    rows = loaded.rows(
        "SELECT count(*) FROM intermediate.subscription_intervals WHERE subscription_id = 's14a' AND is_running "
        "AND from_on > $day AND seats = 30", day=AS_OF,
    )  # fmt: skip
    assert rows == [(1,)]


def test_15_an_update_that_waits_for_its_payment_is_not_in_the_items_and_changes_no_seats(
    loaded: BillingFolder,
) -> None:
    assert seats(loaded, "s15", "2026-11-22") == 50


def test_16_a_trial_has_no_paid_seats_and_one_that_fails_was_never_a_customer(loaded: BillingFolder) -> None:
    assert [seats(loaded, "s16a", day) for day in ("2026-11-09", "2026-11-10")] == [None, 15]
    assert growth(loaded, "c16", "organic_seat_delta, baseline_kind") == (0, "first_day")
    assert seats(loaded, "s16b", "2026-11-22") is None
    assert churn(loaded, "s16b") is None


def test_17_a_pause_has_no_seats_and_is_no_churn_while_a_pause_of_collection_changes_nothing(
    loaded: BillingFolder,
) -> None:
    assert [seats(loaded, s, "2026-11-22") for s in ("s17a", "s17b", "s17c")] == [None, 20, None]
    assert [churn(loaded, s) for s in ("s17a", "s17b", "s17c")] == [None, None, None]
    assert organisation(loaded, "c17", "state") == organisation(loaded, "c17c", "state") == "paused"


def test_18_overdue_still_counts_and_given_up_is_an_involuntary_churn(loaded: BillingFolder) -> None:
    assert [seats(loaded, s, "2026-11-22") for s in ("s18a", "s18b", "s18c")] == [20, None, None]
    assert churn(loaded, "s18b", "churn_type") == churn(loaded, "s18c", "churn_type") == "involuntary"


def test_19_every_interval_is_stated_by_the_month(loaded: BillingFolder) -> None:
    year = Decimal("12000") + Decimal("12") * 52 + Decimal("300") * 4
    assert organisation(loaded, "c19", "mrr") == (year / 12).quantize(Decimal("0.01"))


def test_20_invoice_lines_are_no_source_of_seats(loaded: BillingFolder) -> None:
    used = (Path(__file__).parents[2] / "hub_pipeline/models/inputs/subscription_versions.sql").read_text()
    assert "raw_billing.invoice" not in used
    assert seats(loaded, "s20", "2026-11-22") == 20


def test_21_a_full_discount_keeps_the_seats_and_its_end_is_known_beforehand(loaded: BillingFolder) -> None:
    assert organisation(loaded, "c21", "seats, mrr, state") == (20, Decimal("0.00"), "paying")
    assert loaded.rows(
        "SELECT effective_at, amount FROM staging.subscription_versions WHERE subscription_id = 's21' ORDER BY 1"
    ) == [(datetime(2026, 1, 1), Decimal("0.0000")), (datetime(2027, 1, 1), Decimal("200.0000"))]


def test_22_the_end_of_a_discount_raises_the_revenue_and_no_seats(loaded: BillingFolder) -> None:
    assert growth(loaded, "c22", "organic_seat_delta, mrr") == (0, Decimal("200.00"))


def test_23_a_rate_that_moves_is_no_contraction_and_sums_are_in_the_reporting_currency(
    loaded: BillingFolder,
) -> None:
    assert organisation(loaded, "c23", "mrr") == Decimal("230.00") + Decimal("200.00")
    assert mart(loaded, "at_risk", "org_id", "c23", "mrr_drop") is None
    assert organisation(loaded, "c23c", "mrr") is None


def test_24_amounts_follow_the_decimals_of_their_currency(loaded: BillingFolder) -> None:
    amounts = "SELECT subscription_id, amount FROM staging.subscription_versions WHERE subscription_id LIKE 's24%' ORDER BY 1"
    assert loaded.rows(amounts) == [
        ("s24", Decimal("0.0500")), ("s24j", Decimal("1000.0000")), ("s24k", Decimal("1.0000")),
    ]  # fmt: skip


def test_25_packages_count_people_and_an_amount_that_is_not_told_is_unknown(loaded: BillingFolder) -> None:
    assert organisation(loaded, "c25", "seats, mrr") == (45, None)


def test_26_metered_use_is_no_recurring_revenue_and_no_seat_unless_seats_are_told(
    loaded: BillingFolder,
) -> None:
    assert organisation(loaded, "c26", "seats, mrr") == (10 + 7, Decimal("100.00"))


def test_27_a_plan_without_a_price_counts_its_seats_where_it_is_no_free_plan(loaded: BillingFolder) -> None:
    assert organisation(loaded, "c27", "seats, mrr") == (200, Decimal("0.00"))


def test_28_an_addon_has_a_price_and_no_seats(loaded: BillingFolder) -> None:
    assert organisation(loaded, "c28", "seats, mrr") == (10, Decimal("5100.00"))


def test_29_only_the_roles_of_the_settings_are_seats(loaded: BillingFolder) -> None:
    assert organisation(loaded, "c29", "seats") == 10


def test_30_all_items_of_a_subscription_count_however_many(loaded: BillingFolder) -> None:
    assert organisation(loaded, "c30", "seats") == 60


def test_37_a_backdated_change_rewrites_the_past_from_the_day_it_was_known(loaded: BillingFolder) -> None:
    assert growth(loaded, "c37", "organic_seat_delta, seats_now") == (0, 40)
    assert seats(loaded, "s37", "2026-09-01", known="2026-11-21") == 10
    assert seats(loaded, "s37", "2026-11-21", known="2026-11-21") == 10
    assert seats(loaded, "s37", "2026-09-01", known="2026-11-22") == 40


def test_39_what_a_deleted_customer_had_has_ended(loaded: BillingFolder) -> None:
    assert churn(loaded, "s39") == ("churned", date(2026, 10, 5))
    assert (seats(loaded, "s39", "2026-10-04"), seats(loaded, "s39", "2026-10-05")) == (20, None)


def test_40_test_data_is_used_nowhere(loaded: BillingFolder) -> None:
    assert seats(loaded, "s40", "2026-11-22") is None
    assert organisation(loaded, "c40", "seats") is None


def test_41_leaving_and_coming_back_within_the_window_is_no_growth(loaded: BillingFolder) -> None:
    assert growth(loaded, "c41", "seat_delta, is_fast_growing") == (0, False)


def test_42_coming_back_after_the_window_starts_anew(loaded: BillingFolder) -> None:
    assert growth(loaded, "c42", "organic_seat_delta, baseline_kind") == (0, "first_day")


def test_43_a_percentage_alone_is_no_contraction(loaded: BillingFolder) -> None:
    assert mart(loaded, "at_risk", "org_id", "c43", "seat_drop") is None


def test_nothing_of_the_future_is_true_at_a_close(loaded: BillingFolder) -> None:
    closes = [datetime(2026, 11, 23)]
    now = {row[2]: row[3] for row in at_closes(loaded, closes)}
    daily = dict(loaded.rows("SELECT org_id, seats FROM marts.organisation_daily"))
    assert sum(value or 0 for value in now.values()) == sum(value or 0 for value in daily.values())
