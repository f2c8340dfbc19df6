"""A Stripe account read night by night over real HTTP, down to the seats of each customer and day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hub_pipeline.demo.stripe_server import StripeAccount
from hub_pipeline_tests.sources.stripe_house import START, StripeHouse, days_between, old_account

DAY = 86_400
FIRST = START.date()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., StripeHouse]]:
    with ExitStack() as opened:
        count = iter(range(100))

        def house(account: StripeAccount | None = None, **settings: Any) -> StripeHouse:
            made = StripeHouse(tmp_path / f"data{next(count)}", account, **settings)
            opened.callback(made.close)
            return made

        yield house


@pytest.fixture
def house(make: Callable[..., StripeHouse]) -> StripeHouse:
    return make()


def team(account: StripeAccount, quantity: int = 10, **more: Any) -> str:
    """A subscription of so many seats at 10.00 USD a month, of a customer of its own."""
    price = account.add_price(account.add_product("Team"))
    return account.subscribe(account.add_customer("Acme", "501"), [(price, quantity)], **more)


def test_each_change_counts_from_its_own_moment_and_the_first_night_knows_what_held_before(
    house: StripeHouse,
) -> None:
    account = house.account
    sub = team(account)
    account.advance(40 * DAY)  # its creation is older than the events that Stripe keeps
    account.set_quantity(sub, 12)
    account.advance(3 * DAY)
    account.set_quantity(sub, 15)
    house.night()
    account.advance(DAY // 2)
    account.set_quantity(sub, 9)
    house.night()
    days = days_between(FIRST, date(2026, 7, 15))
    assert house.seats_on(*days) == house.truth_on(*days)
    assert house.seats_on(FIRST, date(2026, 7, 11), date(2026, 7, 14), date(2026, 7, 15)) == {
        FIRST: {"cus_000003": 10},
        date(2026, 7, 11): {"cus_000003": 12},
        date(2026, 7, 14): {"cus_000003": 15},
        date(2026, 7, 15): {"cus_000003": 9},
    }
    assert house.rows("SELECT count(*) FROM raw_stripe.uncertain_changes") == [(0,)]


def test_a_night_in_which_nothing_happened_makes_no_rows(house: StripeHouse) -> None:
    team(house.account)
    house.night()
    before = sorted(house.data.joinpath("stripe").iterdir())
    results = house.night()
    assert {(r.inserted, r.deleted, r.quarantined) for r in results.values()} == {(0, 0, 0)}
    assert sorted(house.data.joinpath("stripe").iterdir()) == before


def test_reading_the_same_night_again_changes_nothing(house: StripeHouse) -> None:
    sub = team(house.account)
    house.night(date(2026, 6, 2))
    house.account.set_quantity(sub, 11)
    house.read(date(2026, 6, 2))
    history = house.item_history()
    results = house.read(date(2026, 6, 2))
    assert house.item_history() == history
    assert {r.inserted for r in results.values()} == {0}


@pytest.mark.parametrize("account", [StripeAccount(START), old_account()], ids=["new shape", "old shape"])
def test_events_of_both_shapes_and_lists_say_the_same(make: Any, account: StripeAccount) -> None:
    house = make(account)
    sub = team(account)
    house.night()
    account.set_quantity(sub, 14)
    account.advance(35 * DAY)
    for _ in range(3):
        house.night()
    days = days_between(FIRST, (account.now - timedelta(days=1)).date())
    assert house.seats_on(*days) == house.truth_on(*days)
    terms = house.rows(
        "SELECT DISTINCT current_period_start_at, current_period_end_at FROM raw_billing.subscription_items_current"
    )
    start = datetime(2026, 7, 1, 9)
    assert terms == [(start, start + timedelta(days=30))]


def test_an_account_read_with_the_older_api_version_gives_the_same_rows(make: Any) -> None:
    found = []
    for version in ("2024-06-20", "2025-03-31.basil", "2025-09-30.clover"):
        house = make(StripeAccount(START, version), stripe={"api_version": version})
        account = house.account
        coupon = account.add_coupon(percent=10)
        price = account.add_price(account.add_product("Team"))
        sub = account.subscribe(account.add_customer("Acme", "501"), [(price, 10)], coupon=coupon)
        house.night()
        account.set_quantity(sub, 14)
        results = house.night()
        assert {r.status for r in results.values()} == {"complete"}
        found.append(house.item_history("updated_at, quantity, discount_minor, current_period_end_at"))
    assert found[0] == found[1] == found[2]
    assert [row[1:3] for row in found[0]] == [(Decimal(10), 1000), (Decimal(14), 1400)]


def test_more_than_ten_items_are_read_in_full(house: StripeHouse) -> None:
    account = house.account
    product = account.add_product("Team")
    prices = [account.add_price(product) for _ in range(120)]
    customer = account.add_customer("Acme", "501")
    sub = account.subscribe(customer, [(price, 5) for price in prices])
    house.night()
    account.set_quantity(sub, 9, position=115)
    account.remove_item(sub, 60)
    house.night()
    yesterday = (account.now - timedelta(days=1)).date()
    assert house.seats_on(FIRST, yesterday) == house.truth_on(FIRST, yesterday)
    assert house.seats_on(yesterday) == {yesterday: {customer: 599}}


def test_a_replaced_item_ends_where_the_new_one_begins(house: StripeHouse) -> None:
    account = house.account
    sub = team(account, 40)
    house.night()
    yearly = account.add_price(account.add_product("Team yearly"), "10000", interval="year")
    account.replace_item(sub, 0, yearly, 40)
    house.night()
    changed = datetime(2026, 6, 2, 3)
    assert house.item_history("_changed_at, quantity, is_deleted, deleted_at") == [
        (START.replace(tzinfo=None), Decimal(40), False, None),
        (changed, Decimal(40), True, changed),
        (changed, Decimal(40), False, None),
    ]
    days = days_between(FIRST, date(2026, 6, 2))
    assert house.seats_on(*days) == house.truth_on(*days)


def test_events_lost_in_a_long_outage_are_closed_by_the_nightly_list_and_marked_uncertain(
    house: StripeHouse,
) -> None:
    account = house.account
    price = account.add_price(account.add_product("Team"))
    first = account.subscribe(account.add_customer("Acme", "501"), [(price, 10), (price, 5)])
    second = account.subscribe(account.add_customer("Bold", "502"), [(price, 7)])
    third = account.subscribe(account.add_customer("Calm", "503"), [(price, 3)])
    house.night(date(2026, 6, 2))
    account.advance(2 * DAY)
    account.set_quantity(first, 20)
    account.remove_item(first, 1)
    account.cancel(second)
    account.set_quantity(third, 4)
    account.advance(36 * DAY)
    account.set_quantity(third, 6)  # this event is kept, and tells that four held before it
    results = house.night()
    today = (account.now - timedelta(days=1)).date()
    assert house.seats_on(today) == house.truth_on(today)
    assert "no longer kept by Stripe" in results["events"].message
    assert "no event" in results["contract_subscription_items"].message
    uncertain = house.rows(
        "SELECT table_name, id, happened_after, happened_before FROM raw_stripe.uncertain_changes ORDER BY ALL"
    )
    last_read, closed = datetime(2026, 6, 3, 3), datetime(2026, 7, 11) - timedelta(microseconds=1)
    items = dict(
        house.rows("SELECT subscription_item_id, subscription_id FROM raw_billing.subscription_items")
    )
    lost = {items.get(row[1], row[1]): row[2:] for row in uncertain if row[0] == "subscription_items"}
    assert lost[first] == (last_read, closed)
    told = datetime(2026, 7, 11, 3) - timedelta(microseconds=1)
    assert lost[third][0] == last_read
    assert lost[third][1] <= told
    ended = house.rows(
        "SELECT status, ended_at FROM raw_billing.subscriptions_current WHERE subscription_id = $id",
        id=second,
    )
    assert ended == [("canceled", datetime(2026, 6, 5, 3))]
    # A cancellation carries its own end, so even a lost event of it leaves no doubt about the day.
    days = [date(2026, 6, 4), date(2026, 6, 5)]
    cus = house.rows(
        "SELECT customer_id FROM raw_billing.subscriptions WHERE subscription_id = $id LIMIT 1", id=second
    )
    assert [house.seats_on(d)[d].get(cus[0][0]) for d in days] == [7, None]


def test_a_reader_of_events_alone_misses_what_the_lists_close(house: StripeHouse) -> None:
    account = house.account
    subs = [team(account) for _ in range(4)]
    house.night()
    account.set_quantity(subs[0], 20)
    kept = len(account.events)
    account.set_quantity(subs[1], 30)
    account.lose_events(kept)
    house.night()
    today = (account.now - timedelta(days=1)).date()
    truth = house.truth_on(today)[today]
    naive = dict(
        house.rows(
            "SELECT customer, quantity FROM (SELECT object->>'$.customer' AS customer, "
            "CAST(object->>'$.items.data[0].quantity' AS INTEGER) AS quantity, row_number() OVER ("
            "PARTITION BY object_id ORDER BY created_at DESC, position) AS n FROM raw_stripe.events) WHERE n = 1"
        )
    )
    assert house.seats_on(today)[today] == truth
    right = sum(naive.get(customer) == seats for customer, seats in truth.items())
    assert right == 3 < len(truth) == 4


def test_what_changes_while_the_lists_are_read_is_left_to_its_event(house: StripeHouse) -> None:
    account = house.account
    sub = team(account)
    house.night()
    shape = account.shape
    done: list[bool] = []

    def changing(record: Any, version: str, expand: Any = ()) -> Any:
        shown = shape(record, version, expand)
        if record["object"] == "subscription" and not done and version == account.version:
            done.append(True)
            account.now += timedelta(seconds=1)
            account.set_quantity(sub, 25)
        return shown

    account.shape = changing  # type: ignore[method-assign]
    house.night()
    account.shape = shape  # type: ignore[method-assign]
    assert house.item_history()[-1][1] == Decimal(25)
    house.night()
    days = days_between(FIRST, (account.now - timedelta(days=1)).date())
    assert house.seats_on(*days) == house.truth_on(*days)


def test_of_two_changes_in_one_second_the_later_one_holds(house: StripeHouse) -> None:
    account = house.account
    sub = team(account)
    house.night()
    account.set_quantity(sub, 30)
    account.set_quantity(sub, 20)
    account.set_quantity(sub, 40)
    account.advance(1)
    house.night()
    assert [row[1] for row in house.item_history()] == [Decimal(10), Decimal(40)]


def test_the_fields_of_a_subscription_mean_what_the_contract_says(house: StripeHouse) -> None:
    account = house.account
    price = account.add_price(account.add_product("Team"))
    customer = account.add_customer("Acme", "501")

    def subscribe(**more: Any) -> str:
        return account.subscribe(customer, [(price, 5)], **more)

    def row(sub: str, columns: str) -> tuple[Any, ...]:
        (found,) = house.rows(
            f"SELECT {columns} FROM raw_billing.subscriptions_current WHERE subscription_id = $id", id=sub
        )
        return found

    cancelled, ended, failed, paused, collecting, pending, trial, kept = (
        subscribe(), subscribe(), subscribe(), subscribe(), subscribe(), subscribe(), subscribe(trial_days=14), subscribe(),
    )  # fmt: skip
    account.advance(DAY)
    now = account.now.replace(tzinfo=None)
    account.cancel(cancelled, at_period_end=True)
    account.cancel(ended)
    account.cancel(failed, reason="payment_failed")
    account.set_status(paused, "paused")
    account.pause_collection(collecting, days=10)
    account.ask_for_quantity(pending, 80)
    account.cancel(kept, at_period_end=True)
    account.advance(60)
    account.keep(kept)
    house.night()
    term_end = START.replace(tzinfo=None) + timedelta(days=30)
    assert row(cancelled, "status, cancel_at, cancel_requested_at, cancel_at_period_end, cancel_kind, cancel_reason") == (
        "active", term_end, now, True, "voluntary", "too_expensive",
    )  # fmt: skip
    assert row(ended, "status, ended_at, cancel_comment") == ("canceled", now, "too dear")
    assert row(failed, "cancel_kind") == ("involuntary",)
    assert row(paused, "status, pause_kind") == ("paused", "full")
    assert row(collecting, "status, pause_kind, pause_resumes_at") == (
        "active", "collection", now + timedelta(days=10),
    )  # fmt: skip
    assert row(trial, "status, trial_start_at, trial_end_at") == (
        "trialing", START.replace(tzinfo=None), START.replace(tzinfo=None) + timedelta(days=14),
    )  # fmt: skip
    assert row(kept, "cancel_at, cancel_requested_at, cancel_at_period_end") == (None, None, False)
    # A change that waits for its payment is no change.
    assert house.rows(
        "SELECT DISTINCT quantity FROM raw_billing.subscription_items WHERE subscription_id = $id", id=pending
    ) == [(Decimal(5),)]
    for _ in range(16):
        house.night()
    days = days_between(FIRST, (account.now - timedelta(days=1)).date())
    assert house.seats_on(*days) == house.truth_on(*days)


def test_amounts_follow_tiers_packages_metering_and_the_minor_units_of_the_currency(
    house: StripeHouse,
) -> None:
    account = house.account
    product = account.add_product("Team")
    tiers = [
        {"up_to": 10, "unit_amount": 1000, "unit_amount_decimal": "1000", "flat_amount": 500},
        {"up_to": None, "unit_amount": 800, "unit_amount_decimal": "800", "flat_amount": None},
    ]
    expected: dict[str, tuple[Any, ...]] = {}

    def sells(quantity: int | None, want: tuple[Any, ...], **price: Any) -> None:
        sub = account.subscribe(
            account.add_customer("Acme", "501"), [(account.add_price(product, **price), quantity)]
        )
        expected[sub] = want

    none = None
    sells(3, (Decimal(3), Decimal("0.5"), none, "per_unit", "licensed", "seat"), amount="0.5")
    sells(
        25,
        (Decimal(25), none, 10 * 1000 + 500 + 15 * 800, "tiered", "licensed", "seat"),
        tiers=tiers,
        tiers_mode="graduated",
    )
    sells(25, (Decimal(25), none, 25 * 800, "volume", "licensed", "seat"), tiers=tiers, tiers_mode="volume")
    sells(
        7,
        (Decimal(7), none, 7500, "volume", "licensed", "seat"),
        tiers=tiers,
        tiers_mode="volume",
        inline=True,
    )
    sells(
        45,
        (Decimal(45), Decimal(2000), 10_000, "package", "licensed", "seat"),
        amount="2000",
        transform={"divide_by": 10, "round": "up"},
    )
    sells(none, (none, Decimal(7), none, "per_unit", "metered", "metered"), amount="7", metered=True)
    sells(2, (Decimal(2), Decimal(1000), none, "per_unit", "licensed", "seat"), amount="1000", currency="jpy")
    sells(2, (Decimal(2), Decimal(10), none, "per_unit", "licensed", "seat"), amount="1000", currency="isk")
    results = house.night()
    assert results["prices"].records == 8
    found = {
        row[0]: row[1:]
        for row in house.rows(
            "SELECT subscription_id, quantity, unit_amount_minor, recurring_minor, billing_scheme, usage_type, "
            "seat_role FROM raw_billing.subscription_items_current"
        )
    }
    assert found == expected
    assert sum(r.quarantined for r in results.values()) == 0


def test_discounts_are_taken_off_items_then_subscriptions_then_by_customers_to_the_last_cent(
    house: StripeHouse,
) -> None:
    account = house.account
    price = account.add_price(account.add_product("Team"), "335")
    half, tenth = account.add_coupon(percent=50), account.add_coupon(percent=10)
    fixed, once = account.add_coupon(amount=100), account.add_coupon(percent=20, duration="once")
    free = account.add_coupon(percent=100)

    def sub(*coupons: tuple[str, int | None]) -> str:
        made = account.subscribe(account.add_customer("Acme", "501"), [(price, 3), (price, 6)])
        for coupon, position in coupons:
            account.discount(made, coupon, position)
        return made

    plain, on_all, both, spread, one_off, gift = (
        sub(), sub((tenth, None)), sub((half, 0), (tenth, None)), sub((fixed, None)), sub((once, None)), sub((free, None)),
    )  # fmt: skip
    house.night()
    found: dict[str, list[int | None]] = {}
    for subscription, discount in house.rows(
        "SELECT subscription_id, discount_minor FROM raw_billing.subscription_items_current ORDER BY subscription_item_id"
    ):
        found.setdefault(subscription, []).append(discount)
    assert found == {
        plain: [None, None],
        on_all: [101, 201],
        both: [553, 201],
        spread: [33, 67],
        one_off: [None, None],
        gift: [1005, 2010],
    }


def test_a_schedule_tells_its_phases_and_changes_nothing_before_they_begin(house: StripeHouse) -> None:
    account = house.account
    sub = team(account, 50)
    plan = account.schedule(sub, [(20, 30)], end_behavior="cancel")
    house.night()
    start = START.replace(tzinfo=None)
    assert house.rows(
        "SELECT schedule_id, subscription_id, phase_no, quantity, phase_start_at, phase_end_at, end_behavior, status "
        "FROM raw_billing.subscription_schedules_current ORDER BY phase_no"
    ) == [
        (plan, sub, 1, Decimal(50), start, start + timedelta(days=20), "cancel", "active"),
        (
            plan,
            sub,
            2,
            Decimal(30),
            start + timedelta(days=20),
            start + timedelta(days=50),
            "cancel",
            "active",
        ),
    ]
    for _ in range(52):
        account.advance(DAY)
    house.night()
    days = days_between(FIRST, (account.now - timedelta(days=1)).date())
    assert house.seats_on(*days) == house.truth_on(*days)
    assert house.rows("SELECT DISTINCT status FROM raw_billing.subscription_schedules_current") == [
        ("completed",)
    ]


def test_a_deleted_customer_keeps_its_history_and_test_data_is_told_apart(house: StripeHouse) -> None:
    account = house.account
    price = account.add_price(account.add_product("Team"))
    gone, test = account.add_customer("Acme", "501"), account.add_customer("Trial", "502", livemode=False)
    account.subscribe(gone, [(price, 5)])
    account.subscribe(test, [(price, 9)])
    house.night()
    account.delete_customer(gone)
    at = account.now.replace(tzinfo=None)
    house.night()
    assert house.rows(
        "SELECT customer_id, name, organisation_ref, livemode, is_deleted, _deleted_at "
        "FROM raw_billing.customers_current ORDER BY customer_id"
    ) == [(gone, "Acme", "501", True, True, at), (test, "Trial", "502", False, False, None)]
    assert house.seats_on(FIRST, at.date()) == {FIRST: {gone: 5}, at.date(): {}}


def test_of_a_person_only_name_mail_and_country_are_kept(house: StripeHouse) -> None:
    account = house.account
    customer = account.add_customer("Acme", "501")
    house.night()
    account.delete_customer(customer)
    house.night()
    kept = house.rows(
        "SELECT payload FROM raw_stripe.customers UNION ALL SELECT object FROM raw_stripe.events"
    )
    assert kept
    for (text,) in kept:
        assert "billing@acme.example" in text
        assert "Secret Street" not in text
        assert "+49" not in text


def test_a_killed_run_leaves_nothing_half_done_and_the_next_one_finishes_it(
    house: StripeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = house.account
    sub = team(account)
    house.night()
    account.set_quantity(sub, 21)
    for point in ("stripe.convert", "billing.commit"):
        with monkeypatch.context() as patch:
            stop_at(patch, point)
            with pytest.raises(KeyboardInterrupt):
                house.night()
    house.night()
    days = days_between(FIRST, (account.now - timedelta(days=1)).date())
    assert house.seats_on(*days) == house.truth_on(*days)
    assert [row[1] for row in house.item_history()] == [Decimal(10), Decimal(21)]


def stop_at(patch: pytest.MonkeyPatch, name: str) -> None:
    """End the run at a crash point, as Ctrl-C would."""
    from hub_pipeline.sources.billing import loading
    from hub_pipeline.sources.stripe import convert

    def point(reached: str) -> None:
        if reached == name:
            raise KeyboardInterrupt

    patch.setattr(convert, "crash_point", point)
    patch.setattr(loading, "crash_point", point)


def test_raw_billing_lost_is_filled_again_from_the_files_of_the_nights(house: StripeHouse) -> None:
    account = house.account
    sub = team(account)
    house.night()
    account.set_quantity(sub, 12)
    house.night()
    history = house.item_history("subscription_item_id, _changed_at, _recorded_at, quantity")
    for table in ("customers", "subscriptions", "subscription_items", "files"):
        house.connection.execute(f"DELETE FROM raw_billing.{table}")
    house.connection.execute("DELETE FROM raw_stripe.conversions")
    house.night()
    assert house.item_history("subscription_item_id, _changed_at, _recorded_at, quantity") == history
