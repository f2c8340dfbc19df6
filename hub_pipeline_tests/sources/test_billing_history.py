"""How extracts become history: versions, deletions, late files, and the subscriptions the models read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

import hub_pipeline
from hub_pipeline.errors import WarehouseError
from hub_pipeline_tests.sources.billing_folder import ITEMS, SUBSCRIPTIONS, BillingFolder
from hub_pipeline_tests.sources.billing_marts import build_billing

INSTANT = timedelta(microseconds=1)
RAVENSTACK = Path(hub_pipeline.__file__).parents[1] / "docs/examples/ravenstack.toml"


def full(day: str, table: str = "subscriptions") -> str:
    return f"{table}__{day}__full.csv"


def in_force(
    billing: BillingFolder, day: date, table: str = "subscriptions", column: str = "status"
) -> dict[str, Any]:
    """Key -> value of the live records at the close of a day, with everything known now."""
    key = "subscription_id" if table == "subscriptions" else "subscription_item_id"
    rows = billing.rows(
        f"SELECT {key}, {column}, _deleted_at FROM raw_billing.{table}_versions WHERE _changed_at < $close QUALIFY "
        f"row_number() OVER (PARTITION BY {key} ORDER BY _changed_at DESC, _recorded_at DESC, _told_at, _precedence DESC) = 1",
        close=datetime.combine(day, datetime.min.time()) + timedelta(days=1),
    )
    return {record: value for record, value, deleted_at in rows if deleted_at is None}


def test_what_a_full_file_leaves_out_was_deleted_at_the_close_of_its_day_and_may_come_back(
    folder: Callable[..., BillingFolder],
) -> None:
    billing = folder(guards={"max_shrink": "1"})
    rows = ["s1,c1,active,USD,2026-01-01,2026-09-01", "s2,c1,active,USD,2026-01-01,"]
    billing.put(full("2026-10-01"), [SUBSCRIPTIONS, *rows])
    billing.put(full("2026-10-02"), [SUBSCRIPTIONS])
    billing.put(full("2026-10-03"), [SUBSCRIPTIONS, *rows, ""])
    result = billing.run()["subscriptions"]
    assert (result.inserted, result.deleted) == (4, 2)
    assert billing.rows("SELECT DISTINCT _deleted_at FROM raw_billing.subscriptions WHERE _absent") == [
        (datetime(2026, 10, 3) - INSTANT,)
    ]
    alive = {"s1": "active", "s2": "active"}
    assert [in_force(billing, date(2026, 10, day)) for day in (1, 2, 3)] == [alive, {}, alive]


def load_many(billing: BillingFolder, day: int) -> None:
    """A full file of so many items without times that DuckDB hid its rows until a checkpoint: more than 122,880."""
    many = 130_000
    rows = (f"i{n},s{n},seat,{day},100,month,2026-01-01," for n in range(many))
    billing.put(full(f"2026-10-0{day}", "subscription_items"), [ITEMS, *rows])
    assert billing.run()["subscription_items"].inserted == many
    assert billing.rows(
        "SELECT quantity, count(DISTINCT subscription_item_id) FROM raw_billing.subscription_items_current GROUP BY ALL"
    ) == [(day, many)]


def test_a_first_file_of_more_than_a_row_group_is_there_at_once(billing: BillingFolder) -> None:
    load_many(billing, 1)


@pytest.mark.slow
def test_a_full_file_that_changes_more_than_a_row_group_is_there_at_once(billing: BillingFolder) -> None:
    load_many(billing, 1)
    load_many(billing, 2)


def test_a_full_file_that_shrinks_too_much_is_held_until_it_is_accepted(billing: BillingFolder) -> None:
    rows = [f"s{n},c1,active,USD,2026-01-01," for n in range(10)]
    billing.put(full("2026-10-01"), [SUBSCRIPTIONS, *rows])
    billing.put(full("2026-10-02"), [SUBSCRIPTIONS, *rows[:7]])
    result = billing.run()["subscriptions"]
    assert result.status == "failed"
    assert "was held: lists 7 records where the full file before listed 10" in result.message
    assert len(in_force(billing, date(2026, 10, 2))) == 10
    assert billing.run(accept_shrink=True)["subscriptions"].status == "complete"
    assert len(in_force(billing, date(2026, 10, 2))) == 7


def test_full_files_give_the_same_history_in_whatever_order_they_arrive(
    folder: Callable[..., BillingFolder],
) -> None:
    days = {
        "2026-10-01": ["s1,c1,active,USD,2026-01-01,", "s2,c1,active,USD,2026-01-01,"],
        "2026-10-02": ["s1,c1,paused,USD,2026-01-01,", "s3,c1,active,USD,2026-10-02,", "s5,c1,active,USD,2026-09-09,2026-09-09"],
        "2026-10-03": ["s2,c1,active,USD,2026-01-01,", "s1,c1,active,USD,2026-01-01,"],
    }  # fmt: skip
    told = []
    for order in list(permutations(days))[::2]:
        billing = folder(guards={"max_shrink": "1"})
        for day in order:
            billing.put(full(day), [SUBSCRIPTIONS, *days[day]])
            billing.run()
        told.append([in_force(billing, date(2026, 10, day)) for day in (1, 2, 3, 4)])
    assert told[0][1] == {"s1": "paused", "s3": "active", "s5": "active"}
    assert told[0][2] == told[0][3] == {"s1": "active", "s2": "active"}
    assert told == [told[0]] * 3


def test_what_comes_after_a_day_was_published_is_known_only_from_its_close(billing: BillingFolder) -> None:
    billing.put(
        "subscriptions__2026-10-30__delta.csv", [SUBSCRIPTIONS, "s1,c1,active,USD,2026-01-01,2026-10-01"]
    )
    billing.run(publish=True)
    billing.put(
        "subscriptions__2026-10-31__delta.csv", [SUBSCRIPTIONS, "s1,c1,past_due,USD,2026-01-01,2026-10-20"]
    )
    billing.run()
    assert billing.subscription_versions("status, effective_at, recorded_at") == [
        ("active", datetime(2026, 1, 1), datetime(2026, 1, 1)),
        ("past_due", datetime(2026, 10, 20), datetime(2026, 11, 1)),
    ]


def test_raw_filled_anew_from_the_same_files_gets_the_same_times(billing: BillingFolder) -> None:
    billing.put(
        "subscriptions__2026-10-30__delta.csv", [SUBSCRIPTIONS, "s1,c1,active,USD,2026-01-01,2026-10-01"]
    )
    billing.run(publish=True)
    billing.put(
        "subscriptions__2026-10-31__delta.csv", [SUBSCRIPTIONS, "s1,c1,past_due,USD,2026-01-01,2026-10-20"]
    )
    billing.run()
    before = billing.subscription_versions("status, effective_at, recorded_at")
    billing.connection.execute("DROP SCHEMA raw_billing CASCADE")
    assert billing.run()["subscriptions"].inserted == 2
    assert billing.subscription_versions("status, effective_at, recorded_at") == before


def test_a_kill_right_after_the_commit_loses_no_time_of_first_knowledge(
    billing: BillingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(reached: str) -> None:
        if reached == "billing.commit.after":
            raise KeyboardInterrupt

    billing.put(
        "subscriptions__2026-10-31__delta.csv", [SUBSCRIPTIONS, "s1,c1,active,USD,2026-01-01,2026-10-01"]
    )
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["hub_pipeline.sources.billing.loading"], "crash_point", stop)
        with pytest.raises(KeyboardInterrupt):
            billing.run()
    before = billing.subscription_versions("status, effective_at, recorded_at")
    assert before == [("active", datetime(2026, 1, 1), datetime(2026, 1, 1))]
    billing.run(publish=True)
    billing.connection.execute("DROP SCHEMA raw_billing CASCADE")
    assert billing.run()["subscriptions"].inserted == 1
    assert billing.subscription_versions("status, effective_at, recorded_at") == before


def test_seats_follow_items_that_are_added_replaced_and_removed(billing: BillingFolder) -> None:
    billing.put(
        "subscriptions__2026-10-31.csv",
        [SUBSCRIPTIONS + ",plan", "s1,c1,active,USD,2026-01-01,2026-01-01,Team"],
    )
    billing.put(
        "subscription_items__2026-10-31__delta.csv",
        [
            ITEMS + ",deleted_at,product_name",
            "i1,s1,seat,40,1000,month,2026-01-01,2026-01-01,,Seats",
            "i1,s1,seat,45,1000,month,2026-01-01,2026-05-01,,Seats",
            "i1,s1,seat,45,1000,month,2026-01-01,2026-09-15,2026-09-15,Seats",
            "i2,s1,seat,45,900,month,2026-09-15,2026-09-15,,Seats",
            "i3,s1,addon,500,1,month,2026-06-01,2026-06-01,,Calls",
            "i4,s1,metered,,,month,2026-06-01,2026-06-01,,Usage",
        ],
    )
    billing.run()
    assert billing.reasons() == {7: ["quantity: empty, and the item is not metered"]}
    assert billing.subscription_versions("effective_at, seats, amount, billing_interval, plan") == [
        (datetime(2026, 1, 1), 40, Decimal("400.0000"), "month", "Team"),
        (datetime(2026, 5, 1), 45, Decimal("450.0000"), "month", "Team"),
        (datetime(2026, 6, 1), 45, Decimal("455.0000"), "month", "Team"),
        (datetime(2026, 9, 15), 45, Decimal("410.0000"), "month", "Team"),
    ]


def test_a_backdated_change_rewrites_what_followed_it_from_the_moment_it_was_known(
    billing: BillingFolder,
) -> None:
    billing.put("subscriptions__2026-10-30__delta.csv", [
        SUBSCRIPTIONS, "s1,c1,active,USD,2026-01-01,2026-01-01", "s1,c1,past_due,USD,2026-01-01,2026-09-01",
    ])  # fmt: skip
    billing.put(
        "subscription_items__2026-10-30__delta.csv", [ITEMS, "i1,s1,seat,10,100,month,2026-01-01,2026-01-01"]
    )
    billing.run(publish=True)
    billing.put(
        "subscription_items__2026-10-31__delta.csv", [ITEMS, "i1,s1,seat,40,100,month,2026-01-01,2026-08-01"]
    )
    billing.run()
    late = datetime(2026, 11, 1)
    assert billing.subscription_versions("effective_at, recorded_at, seats, status") == [
        (datetime(2026, 1, 1), datetime(2026, 1, 1), 10, "active"),
        (datetime(2026, 8, 1), late, 40, "active"),
        (datetime(2026, 9, 1), datetime(2026, 9, 1), 10, "past_due"),
        (datetime(2026, 9, 1), late, 40, "past_due"),
    ]


def test_amounts_are_exact_in_minor_units_and_unknown_rather_than_zero(billing: BillingFolder) -> None:
    header = ITEMS + ",interval_count,discount_minor,recurring_minor,billing_scheme"
    cases = [
        ("USD", "1050,month,2026-01-01,,,,,", "31.5000", "month"),
        ("USD", "0.5,month,2026-01-01,,,,,", "0.0150", "month"),
        ("JPY", "1000,year,2026-01-01,,,,,", "3000.0000", "year"),
        ("KWD", "1250,month,2026-01-01,,3,,,", "3.7500", "quarter"),
        ("USD", "1000,year,2026-01-01,,2,,,", "30.0000", "two_years"),
        ("USD", "1000,month,2026-01-01,,,500,,", "25.0000", "month"),
        ("USD", "1000,month,2026-01-01,,,,777,", "7.7700", "month"),
        ("USD", "1000,month,2026-01-01,,,,,tiered", None, "month"),
        ("USD", "1000,month,2026-01-01,,6,,,", "60.0000", "year"),
        ("USD", "1000,day,2026-01-01,,,,,", "10950.0000", "year"),
        ("USD", "1000,day,2026-01-01,,7,,,", "30.0000", "week"),
        ("USD", ",month,2026-01-01,,,,,", None, "month"),
    ]
    billing.put(
        full("2026-10-31"),
        [SUBSCRIPTIONS, *(f"s{n:02},c1,active,{case[0]},2026-01-01," for n, case in enumerate(cases))],
    )
    billing.put(
        full("2026-10-31", "subscription_items"),
        [header, *(f"i{n},s{n:02},seat,3,{case[1]}" for n, case in enumerate(cases))],
    )
    billing.run()
    assert billing.subscription_versions("amount, billing_interval") == [
        (None if amount is None else Decimal(amount), interval) for _, _, amount, interval in cases
    ]


def test_monthly_and_yearly_items_together_are_stated_by_the_year(billing: BillingFolder) -> None:
    billing.put(full("2026-10-31"), [SUBSCRIPTIONS, "s1,c1,active,USD,2026-01-01,"])
    billing.put(
        full("2026-10-31", "subscription_items"),
        [ITEMS, "i1,s1,seat,3,1000,month,2026-01-01,", "i2,s1,flat,1,50000,year,2026-01-01,"],
    )
    billing.run()
    assert billing.subscription_versions("seats, amount, billing_interval") == [
        (3, Decimal("860.0000"), "year")
    ]


def test_one_extract_tells_the_history_its_own_times_hold_and_no_more(billing: BillingFolder) -> None:
    header = (
        SUBSCRIPTIONS
        + ",trial_end_at,cancel_at_period_end,cancel_requested_at,current_period_start_at,current_period_end_at,ended_at"
    )
    billing.put(full("2026-10-31"), [
        header,
        "ended,c1,canceled,USD,2025-01-01,,2025-02-01,,2025-09-10,2025-06-01,2025-12-01,2025-12-01",
        "leaving,c1,active,USD,2026-01-01,,,true,2026-03-02,2026-02-01,2027-02-01,",
        "never,c1,incomplete_expired,USD,2026-01-01,,,,,,,2026-01-15",
    ])  # fmt: skip
    billing.run()
    versions = billing.subscription_versions(
        "subscription_id, effective_at, status, cancel_at, term_end, ended_at"
    )
    assert [v[1:] for v in versions if v[0] == "ended"] == [
        (datetime(2025, 1, 1), "trialing", None, None, None),
        (datetime(2025, 2, 1), "active", None, None, None),
        (datetime(2025, 6, 1), "active", None, datetime(2025, 12, 1), None),
        (datetime(2025, 9, 10), "active", None, datetime(2025, 12, 1), None),
        (datetime(2025, 12, 1), "canceled", None, datetime(2025, 12, 1), datetime(2025, 12, 1)),
    ]
    assert [v[1:] for v in versions if v[0] == "leaving"] == [
        (datetime(2026, 1, 1), "active", None, None, None),
        (datetime(2026, 2, 1), "active", None, datetime(2027, 2, 1), None),
        (datetime(2026, 3, 2), "active", datetime(2027, 2, 1), datetime(2027, 2, 1), None),
    ]
    assert {v[2] for v in versions if v[0] == "never"} == {"incomplete"}


def test_an_exchange_rate_is_known_from_its_first_day_and_absence_deletes_none(
    billing: BillingFolder,
) -> None:
    billing.put(
        "fx_rates__2026-10-30.csv",
        ["currency,valid_from,rate", "EUR,2026-01-01,1.05", "EUR,2026-10-01,1.10", "EUR,2026-11-01,0"],
    )
    billing.put("fx_rates__2026-10-31.csv", ["currency,valid_from,rate", "EUR,2026-10-31,1.15"])
    assert billing.run()["fx_rates"].quarantined == 1
    sql = (Path(hub_pipeline.__file__).parent / "models/inputs/fx_rates.sql").read_text().split("---*/")[1]
    assert billing.rows(
        f"SELECT valid_from, max(rate), min(recorded_at) FROM ({sql}) GROUP BY ALL ORDER BY 1"
    ) == [
        (date(2026, 1, 1), Decimal("1.05000000"), datetime(2026, 1, 1)),
        (date(2026, 10, 1), Decimal("1.10000000"), datetime(2026, 10, 1)),
        (date(2026, 10, 31), Decimal("1.15000000"), datetime(2026, 10, 31)),
    ]


def test_files_of_the_ravenstack_shape_load_by_the_documented_mapping(
    folder: Callable[..., BillingFolder],
) -> None:
    billing = folder(billing={"mappings": [str(RAVENSTACK)]})
    billing.put("ravenstack_accounts.csv", [
        "account_id,account_name,industry,country,signup_date,referral_source,plan_tier,seats,is_trial,churn_flag",
        "A-1,Company_0,EdTech,US,2024-01-16,partner,Basic,9,False,False",
    ])  # fmt: skip
    billing.put("ravenstack_subscriptions.csv", [
        "subscription_id,account_id,start_date,end_date,plan_tier,seats,mrr_amount,arr_amount,is_trial,upgrade_flag,"
        "downgrade_flag,churn_flag,billing_frequency,auto_renew_flag",
        "S-1,A-1,2024-02-01,,Pro,17,833,9996,False,False,False,False,annual,False",
        "S-2,A-1,2024-01-20,2024-04-12,Basic,14,2786.5,33438,False,False,False,True,monthly,True",
        "S-3,A-1,2024-11-25,,Enterprise,62,0,0,True,True,False,False,monthly,False",
        "S-4,A-1,2024-11-25,,Pro,5,1.005,12,False,False,False,False,monthly,False",
    ])  # fmt: skip
    billing.put("ravenstack_churn_events.csv", ["churn_event_id", "C-1"])
    results = billing.run(as_of=date(2024, 12, 31))
    assert results["files"].message == "not mapped: crm/ravenstack_churn_events.csv"
    assert billing.manifest("table_name, rows_total, accepted, exact_duplicates, quarantined") == [
        ("customers", 1, 1, 0, 0),
        ("subscriptions", 4, 4, 0, 0),
        ("subscription_items", 4, 3, 0, 1),
    ]
    assert billing.subscription_versions(
        "subscription_id, org_id, effective_at, status, seats, amount, billing_interval"
    ) == [
        ("S-1", "A-1", datetime(2024, 2, 1), "active", 17, Decimal("9996.0000"), "year"),
        ("S-2", "A-1", datetime(2024, 1, 20), "active", 14, Decimal("2786.5000"), "month"),
        ("S-2", "A-1", datetime(2024, 4, 12), "canceled", 14, Decimal("2786.5000"), "month"),
        ("S-3", "A-1", datetime(2024, 11, 25), "trialing", 62, Decimal("0.0000"), "month"),
        ("S-4", "A-1", datetime(2024, 11, 25), "active", None, None, None),
    ]


def test_a_file_that_fills_two_tables_is_loaded_whole_or_not_at_all(
    folder: Callable[..., BillingFolder],
) -> None:
    billing = folder(billing={"mappings": [str(RAVENSTACK)], "max_quarantined": "0.01"})
    header = "subscription_id,account_id,start_date,end_date,plan_tier,seats,mrr_amount,arr_amount,is_trial,billing_frequency"
    good = "S-1,A-1,2024-02-01,,Pro,17,833,9996,False,annual"
    billing.put("subscriptions__2024-12-30__delta.csv", [SUBSCRIPTIONS, "s0,c1,active,USD,2024-01-01,"])
    billing.put(
        "ravenstack_subscriptions.csv", [header, good, good.replace("S-1", "S-2").replace(",17,", ",many,")]
    )
    results = billing.run()
    assert results["subscription_items"].status == results["subscriptions"].status == "failed"
    assert "line 3: quantity" in results["subscription_items"].message
    assert "its subscription_items were rejected" in results["subscriptions"].message
    assert billing.rows("SELECT subscription_id FROM raw_billing.subscriptions") == [("s0",)]
    billing.put("ravenstack_subscriptions.csv", [header, good])
    results = billing.run()
    assert (results["subscriptions"].inserted, results["subscription_items"].inserted) == (1, 1)


@pytest.mark.parametrize(
    ("currency", "minor", "rate", "mrr"),
    [
        ("JPY", "1000000", "0.006543210987654321", "6543.21"),
        ("KWD", "1250500", "3.256789012345678901", "4072.61"),
        # Tenths of a billion at a rate that eight decimals would have rounded to 0.00000012.
        ("IRR", "99999999999900", "0.0000001234567891", "123456.79"),
        ("EUR", "100", "999999999999.999999999999999999", "1000000000000.00"),
    ],
)
def test_a_rate_keeps_its_eighteen_decimals_and_the_product_is_rounded_to_cents_once(
    billing: BillingFolder, currency: str, minor: str, rate: str, mrr: str
) -> None:
    billing.put(full("2026-10-31"), [SUBSCRIPTIONS, f"s1,c1,active,{currency},2026-01-01,"])
    header = ITEMS.replace("unit_amount_minor", "recurring_minor")
    billing.put(full("2026-10-31", "subscription_items"), [header, f"i1,s1,seat,1,{minor},month,2026-01-01,"])
    billing.put("fx_rates__2026-10-31.csv", ["currency,valid_from,rate", f"{currency},2026-01-01,{rate}"])
    billing.run()
    build_billing(billing, date(2026, 10, 31), "organisation_daily")
    assert billing.rows("SELECT DISTINCT rate FROM staging.fx_rates") == [(Decimal(rate),)]
    assert billing.rows("SELECT mrr FROM marts.organisation_daily") == [(Decimal(mrr),)]


def test_a_build_file_of_an_earlier_version_is_refused_before_anything_is_believed(
    billing: BillingFolder,
) -> None:
    billing.put(full("2026-10-01"), [SUBSCRIPTIONS, "s1,c1,active,USD,2026-01-01,"])
    billing.run()
    billing.connection.execute("DROP TABLE raw_billing.listed")
    with pytest.raises(WarehouseError, match="hub-pipeline rebuild"):
        billing.run()
    assert in_force(billing, date(2026, 10, 2)) == {"s1": "active"}
