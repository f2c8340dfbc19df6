"""A Stripe account read night by night over real HTTP, down to the seats of each customer and day."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hub_pipeline.demo.stripe_server import StripeAccount
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline_tests.sources.stripe_house import START, StripeHouse, days_between, old_account

DAY = 86_400
FIRST = START.date()
BEGIN = START.replace(tzinfo=None)
TERM = timedelta(days=30)
ONE_MICROSECOND = timedelta(microseconds=1)

TIERS = [
    {"up_to": 10, "unit_amount": 1000, "unit_amount_decimal": "1000", "flat_amount": 500},
    {"up_to": None, "unit_amount": 800, "unit_amount_decimal": "800", "flat_amount": None},
]


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


@dataclass
class Stories:
    """What happened in one account that was read in four nights, and the results of each."""

    house: StripeHouse
    subs: dict[str, str] = field(default_factory=dict)
    nights: list[dict[str, StreamResult]] = field(default_factory=list)
    moments: dict[str, datetime] = field(default_factory=dict)
    sold: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def last_day(self) -> date:
        return (self.house.account.now - timedelta(days=1)).date()

    def subscription(self, name: str, columns: str) -> tuple[Any, ...]:
        (found,) = self.house.rows(
            f"SELECT {columns} FROM raw_billing.subscriptions_current WHERE subscription_id = $id",
            id=self.subs[name],
        )
        return found

    def items(self, name: str, columns: str = "_changed_at, quantity") -> list[tuple[Any, ...]]:
        return self.house.rows(
            f"SELECT {columns} FROM raw_billing.subscription_items WHERE subscription_id = $id "
            "ORDER BY subscription_item_id, _changed_at",
            id=self.subs[name],
        )


def sell(stories: Stories, product: str) -> None:
    """Subscriptions at prices of every kind, and what their rows must say."""
    account = stories.house.account

    def sells(quantity: int | None, want: tuple[Any, ...], **price: Any) -> None:
        sub = account.subscribe(
            account.add_customer("Acme", "501"), [(account.add_price(product, **price), quantity)]
        )
        stories.sold[sub] = want

    seat = ("licensed", "seat")
    graduated, volume = {"tiers": TIERS, "tiers_mode": "graduated"}, {"tiers": TIERS, "tiers_mode": "volume"}
    sells(3, (Decimal(3), Decimal("0.5"), None, "per_unit", *seat), amount="0.5")
    sells(25, (Decimal(25), None, 10 * 1000 + 500 + 15 * 800, "tiered", *seat), **graduated)
    sells(25, (Decimal(25), None, 25 * 800, "volume", *seat), **volume)
    sells(7, (Decimal(7), None, 7500, "volume", *seat), **volume, inline=True)
    tens = {"divide_by": 10, "round": "up"}
    sells(45, (Decimal(45), Decimal(2000), 10_000, "package", *seat), amount="2000", transform=tens)
    sells(None, (None, Decimal(7), None, "per_unit", "metered", "metered"), amount="7", metered=True)
    sells(2, (Decimal(2), Decimal(1000), None, "per_unit", *seat), amount="1000", currency="jpy")
    sells(2, (Decimal(2), Decimal(10), None, "per_unit", *seat), amount="1000", currency="isk")


def discount(stories: Stories, product: str) -> None:
    """Subscriptions of 3 and 6 at 3.35 with coupons on them or on their first item."""
    account = stories.house.account
    price = account.add_price(product, "335", interval="year")
    half, tenth = account.add_coupon(percent=50), account.add_coupon(percent=10)
    fixed, once = account.add_coupon(amount=100), account.add_coupon(percent=20, duration="once")
    coupons: dict[str, list[tuple[str, int | None]]] = {
        "plain": [],
        "on_all": [(tenth, None)],
        "both": [(half, 0), (tenth, None)],
        "spread": [(fixed, None)],
        "one_off": [(once, None)],
        "gift": [(account.add_coupon(percent=100), None)],
    }
    for name, given in coupons.items():
        sub = account.subscribe(account.add_customer("Acme", "501"), [(price, 3), (price, 6)])
        for coupon, position in given:
            account.discount(sub, coupon, position)
        stories.subs[name] = sub


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stories]:
    """40 days before the first night, a quiet one, a busy one, and one after 36 days without any."""
    told = Stories(StripeHouse(tmp_path_factory.mktemp("stripe")))
    house, account, subs = told.house, told.house.account, told.subs
    product = account.add_product("Team")
    price = account.add_price(product)
    yearly = account.add_price(product, "10000", interval="year")
    customer = account.add_customer("Acme", "501")
    for name in ("steady", "shrunk", "lost", "told_late", "lost_item", "lost_end"):
        # No renewal tells again what a lost event had told.
        lasting = yearly if name in ("lost", "told_late", "lost_item") else price
        items = [(lasting, 10), (lasting, 5)] if name == "lost_item" else [(lasting, 10)]
        subs[name] = account.subscribe(account.add_customer(name), items)
    account.advance(40 * DAY)  # their creation is older than the events that Stripe keeps
    account.set_quantity(subs["steady"], 12)
    account.advance(3 * DAY)
    account.set_quantity(subs["steady"], 15)
    for name in ("cancelled", "ended", "failed", "paused", "collecting", "pending", "kept"):
        subs[name] = account.subscribe(customer, [(price, 5)])
    subs["trial"] = account.subscribe(customer, [(price, 5)], trial_days=1)
    subs["many"] = account.subscribe(customer, [(account.add_price(product), 5) for _ in range(120)])
    subs["replaced"] = account.subscribe(customer, [(price, 40)])
    subs["twice"] = account.subscribe(customer, [(price, 10)])
    subs["planned"] = account.subscribe(customer, [(price, 50)])
    account.schedule(subs["planned"], [(1, 30)], end_behavior="cancel")
    gone, test = account.add_customer("Gone", "502"), account.add_customer("Test", "503", livemode=False)
    subs["gone"] = account.subscribe(gone, [(price, 8)])
    subs["test"] = account.subscribe(test, [(price, 9)])
    sell(told, product)
    discount(told, product)
    told.nights.append(house.night(max_shrink=1.0))
    told.nights.append(house.night(max_shrink=1.0))

    told.moments["busy"] = account.now.replace(tzinfo=None)
    account.cancel(subs["cancelled"], at_period_end=True)
    account.cancel(subs["ended"])
    account.cancel(subs["failed"], reason="payment_failed")
    account.set_status(subs["paused"], "paused")
    account.pause_collection(subs["collecting"], days=10)
    account.ask_for_quantity(subs["pending"], 80)
    account.cancel(subs["kept"], at_period_end=True)
    account.set_quantity(subs["many"], 9, position=115)
    account.remove_item(subs["many"], 60)
    account.replace_item(subs["replaced"], 0, yearly, 40)
    for quantity in (30, 20, 40):
        account.set_quantity(subs["twice"], quantity)
    account.delete_customer(gone)
    account.advance(60)
    account.keep(subs["kept"])
    account.advance(DAY // 2)
    account.set_quantity(subs["shrunk"], 9)
    told.nights.append(house.night(max_shrink=1.0))

    account.advance(2 * DAY)
    told.moments["lost"] = account.now.replace(tzinfo=None)
    account.set_quantity(subs["lost"], 20)
    account.set_quantity(subs["told_late"], 4)
    account.remove_item(subs["lost_item"], 1)
    account.cancel(subs["lost_end"])
    account.advance(36 * DAY)
    account.set_quantity(subs["told_late"], 6)  # this event is kept, and tells that four held before it
    told.moments["late"] = account.now.replace(tzinfo=None)
    told.nights.append(house.night(max_shrink=1.0))
    yield told
    house.close()


def test_each_change_counts_from_its_own_moment_and_the_first_night_knows_what_held_before(
    stories: Stories,
) -> None:
    day = timedelta(days=1)
    assert [row[:2] for row in stories.items("steady")][:4] == [
        (BEGIN, Decimal(10)),
        (BEGIN + TERM, Decimal(10)),  # its next term
        (BEGIN + 40 * day, Decimal(12)),
        (BEGIN + 43 * day, Decimal(15)),
    ]


def test_seats_of_every_customer_and_day_are_the_accounts_own_where_nights_followed_each_other(
    stories: Stories,
) -> None:
    days = [*days_between(FIRST, date(2026, 7, 16)), stories.last_day]
    assert stories.house.seats_on(*days) == stories.house.truth_on(*days)


def test_a_night_in_which_nothing_happened_makes_no_rows(stories: Stories) -> None:
    second = stories.nights[1]
    assert {r.quarantined for night in stories.nights for r in night.values()} == {0}
    # Only the trial ended, and with it the term of its item, and a phase began.
    assert {name: r.records for name, r in second.items() if name.startswith("contract_") and r.records} == {
        "contract_subscriptions": 1,
        "contract_subscription_items": 2,
    }


def test_more_than_ten_items_are_read_in_full(stories: Stories) -> None:
    current = stories.house.rows(
        "SELECT sum(quantity), count(*) FROM raw_billing.subscription_items_current "
        "WHERE subscription_id = $id AND NOT is_deleted",
        id=stories.subs["many"],
    )
    assert current == [(Decimal(599), 119)]


def test_an_item_that_no_event_carries_counts_on_the_day_it_was_added_changed_and_removed(
    house: StripeHouse,
) -> None:
    """Events carry ten items of a subscription; the others are known from the list of the night."""
    account = house.account
    price = account.add_price(account.add_product("Team"))
    sub = account.subscribe(account.add_customer("Acme", "501"), [(price, 5)] * 10)
    house.night(max_shrink=1.0)
    account.add_item(sub, price, 36)
    account.advance(3600)
    account.set_quantity(sub, 20, position=10)
    house.night(max_shrink=1.0)
    account.set_quantity(sub, 7, position=10)
    account.set_quantity(sub, 8, position=0)
    house.night(max_shrink=1.0)
    account.remove_item(sub, 10)
    house.night(max_shrink=1.0)
    days = days_between(FIRST, FIRST + timedelta(days=3))
    truth = house.truth_on(*days)
    assert [sum(truth[day].values()) for day in days] == [50, 70, 60, 53]
    assert house.seats_on(*days) == truth


def test_a_trial_that_is_ended_early_is_paid_from_that_moment_on(house: StripeHouse) -> None:
    account = house.account
    sub = team(account, trial_days=7)
    house.night()
    account.advance(3600)
    ended = account.now.replace(tzinfo=None)
    account.set_status(sub, "active")
    house.night()
    house.night()
    assert house.rows("SELECT trial_end_at, status FROM raw_billing.subscriptions ORDER BY _changed_at") == [
        (BEGIN + timedelta(days=7), "trialing"),
        (ended, "active"),
    ]
    days = days_between(FIRST, FIRST + timedelta(days=2))
    truth = house.truth_on(*days)
    assert [sum(truth[day].values()) for day in days] == [0, 10, 10]
    assert house.modelled_seats_on(*days) == truth


def test_a_replaced_item_ends_where_the_new_one_begins(stories: Stories) -> None:
    changed = stories.moments["busy"]
    rows = stories.items("replaced", "_changed_at, quantity, is_deleted, deleted_at, interval")
    assert rows[1:3] == [
        (changed, Decimal(40), True, changed, "month"),
        (changed, Decimal(40), False, None, "year"),
    ]


def test_of_several_changes_in_one_second_the_last_one_holds(stories: Stories) -> None:
    assert [row[1] for row in stories.items("twice")][:2] == [Decimal(10), Decimal(40)]


def test_events_lost_in_a_long_outage_are_closed_by_the_nightly_list_and_marked_uncertain(
    stories: Stories,
) -> None:
    house, last = stories.house, stories.nights[-1]
    assert "no longer kept by Stripe" in last["events"].message
    assert "no event" in last["contract_subscription_items"].message
    found = {
        row[0]: row[1:]
        for row in house.rows(
            "SELECT i.subscription_id, u.happened_after, u.happened_before FROM raw_stripe.uncertain_changes AS u "
            "JOIN raw_billing.subscription_items_current AS i ON i.subscription_item_id = u.id "
            "WHERE u.table_name = 'subscription_items'"
        )
    }
    last_read = datetime(2026, 7, 17, 3)
    assert last_read < stories.moments["lost"]
    closed = datetime.combine(stories.last_day, datetime.min.time()) + timedelta(days=1) - ONE_MICROSECOND
    assert found[stories.subs["lost"]] == (last_read, closed)
    assert found[stories.subs["lost_item"]] == (last_read, closed)
    # The event that is kept says what held before it.
    assert found[stories.subs["told_late"]] == (last_read, stories.moments["late"] - ONE_MICROSECOND)
    assert [row[1] for row in stories.items("told_late")] == [Decimal(10), Decimal(4), Decimal(6)]
    assert stories.subs["steady"] not in found


def test_a_lost_cancellation_carries_its_own_end(stories: Stories) -> None:
    assert stories.subscription("lost_end", "status, ended_at") == ("canceled", stories.moments["lost"])


def test_the_fields_of_a_subscription_mean_what_the_contract_says(stories: Stories) -> None:
    busy, row = stories.moments["busy"], stories.subscription
    began = BEGIN + timedelta(days=43)
    columns = "status, cancel_at, cancel_requested_at, cancel_at_period_end, cancel_kind, cancel_reason"
    rows = stories.house.rows(
        f"SELECT {columns} FROM raw_billing.subscriptions WHERE subscription_id = $id AND _changed_at = $at",
        id=stories.subs["cancelled"],
        at=busy,
    )
    assert rows == [("active", began + TERM, busy, True, "voluntary", "too_expensive")]
    assert row("cancelled", "status, ended_at") == ("canceled", began + TERM)
    assert row("ended", "status, ended_at, cancel_comment") == ("canceled", busy, "too dear")
    assert row("failed", "cancel_kind") == ("involuntary",)
    assert row("paused", "status, pause_kind") == ("paused", "full")
    assert row("kept", "cancel_at, cancel_requested_at, cancel_at_period_end") == (None, None, False)
    paused = stories.house.rows(
        "SELECT pause_kind, pause_resumes_at, status FROM raw_billing.subscriptions "
        "WHERE subscription_id = $id ORDER BY _changed_at",
        id=stories.subs["collecting"],
    )
    assert paused[1] == ("collection", busy + timedelta(days=10), "active")
    assert paused[-1] == ("none", None, "active")
    assert stories.house.rows(
        "SELECT status, trial_end_at FROM raw_billing.subscriptions WHERE subscription_id = $id ORDER BY _changed_at",
        id=stories.subs["trial"],
    )[:2] == [("trialing", began + timedelta(days=1)), ("active", began + timedelta(days=1))]


def test_a_change_that_waits_for_its_payment_is_no_change(stories: Stories) -> None:
    assert {row[1] for row in stories.items("pending")} == {Decimal(5)}


def test_amounts_follow_tiers_packages_metering_and_the_minor_units_of_the_currency(stories: Stories) -> None:
    rows = stories.house.rows(
        "SELECT subscription_id, quantity, unit_amount_minor, recurring_minor, billing_scheme, usage_type, "
        "seat_role FROM raw_billing.subscription_items_current"
    )
    assert {row[0]: row[1:] for row in rows if row[0] in stories.sold} == stories.sold


def test_a_schedule_tells_its_phases_and_changes_nothing_before_they_begin(stories: Stories) -> None:
    began, day = BEGIN + timedelta(days=43), timedelta(days=1)
    assert stories.house.rows(
        "SELECT subscription_id, phase_no, quantity, phase_start_at, phase_end_at, end_behavior, status "
        "FROM raw_billing.subscription_schedules_current ORDER BY phase_no"
    ) == [
        (stories.subs["planned"], 1, Decimal(50), began, began + day, "cancel", "completed"),
        (stories.subs["planned"], 2, Decimal(30), began + day, began + 31 * day, "cancel", "completed"),
    ]
    assert [row[:2] for row in stories.items("planned")][:2] == [
        (began, Decimal(50)),
        (began + day, Decimal(30)),
    ]


def test_a_deleted_customer_keeps_its_history_and_test_data_is_told_apart(stories: Stories) -> None:
    assert stories.house.rows(
        "SELECT name, organisation_ref, livemode, is_deleted, _deleted_at FROM raw_billing.customers_current "
        "WHERE name IN ('Gone', 'Test') ORDER BY name"
    ) == [
        ("Gone", "502", True, True, stories.moments["busy"]),
        ("Test", "503", False, False, None),
    ]


def test_of_a_person_only_name_mail_and_country_are_kept(stories: Stories) -> None:
    kept = stories.house.rows(
        "SELECT payload FROM raw_stripe.customers WHERE payload IS NOT NULL UNION ALL "
        "SELECT object FROM raw_stripe.events WHERE type = 'customer.deleted'"
    )
    assert len(kept) > 3
    for (text,) in kept:
        assert ".example" in text
        assert "Secret Street" not in text
        assert "+49" not in text


def test_a_reader_of_events_alone_misses_what_the_lists_close(stories: Stories) -> None:
    names = ("steady", "shrunk", "lost", "told_late", "twice")
    records = stories.house.account.records["subscriptions"]
    truth = {name: records[stories.subs[name]]["items"][0]["quantity"] for name in names}
    seen = dict(
        stories.house.rows(
            "SELECT object_id, arg_max(CAST(object->>'$.items.data[0].quantity' AS INTEGER), (created_at, -position)) "
            "FROM raw_stripe.events WHERE starts_with(type, 'customer.subscription.') GROUP BY object_id"
        )
    )
    naive = {name: seen.get(stories.subs[name]) for name in names}
    assert [name for name in names if naive[name] != truth[name]] == ["lost"]
    assert {name: int(stories.items(name)[-1][1]) for name in names} == truth


def test_discounts_are_taken_off_items_then_subscriptions_to_the_last_cent(stories: Stories) -> None:
    found = {
        name: [row[0] for row in stories.items(name, "discount_minor")]
        for name in ("plain", "on_all", "both", "spread", "one_off", "gift")
    }
    assert {name: discounts[:1] + discounts[-1:] for name, discounts in found.items()} == {
        "plain": [None, None],
        "on_all": [101, 201],
        "both": [553, 201],
        "spread": [33, 67],
        "one_off": [None, None],
        "gift": [1005, 2010],
    }


@pytest.mark.slow
def test_reading_the_same_night_again_changes_nothing(house: StripeHouse) -> None:
    sub = team(house.account)
    house.night(date(2026, 6, 2))
    house.account.set_quantity(sub, 11)
    house.read(date(2026, 6, 2))
    history = house.item_history()
    results = house.read(date(2026, 6, 2))
    assert house.item_history() == history
    assert {r.inserted for r in results.values()} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["new", "old"])
def test_events_of_both_shapes_and_lists_say_the_same(make: Any, shape: str) -> None:
    house = make(old_account() if shape == "old" else StripeAccount(START))
    account = house.account
    sub = team(account)
    house.night()
    account.set_quantity(sub, 14)
    house.night()
    account.advance(35 * DAY)
    for _ in range(2):
        house.night()
    days = days_between(FIRST, (account.now - timedelta(days=1)).date())
    assert house.seats_on(*days) == house.truth_on(*days) == house.modelled_seats_on(*days)
    terms = house.rows(
        "SELECT DISTINCT current_period_start_at, current_period_end_at FROM raw_billing.subscription_items_current"
    )
    assert terms == [(BEGIN + TERM, BEGIN + 2 * TERM)]


@pytest.mark.slow
def test_an_account_read_with_an_older_api_version_gives_the_same_rows(make: Any) -> None:
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


@pytest.mark.slow
def test_what_changes_while_the_lists_are_read_is_left_to_its_event(house: StripeHouse) -> None:
    account = house.account
    sub = team(account)
    house.night()
    shape = account.shape
    done: list[bool] = []

    def changing(record: Any, version: str, expand: Any = ()) -> Any:
        shown = shape(record, version, expand)
        if record["object"] == "subscription" and not done:
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


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_half_done_and_the_next_one_finishes_it(
    house: StripeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = house.account
    sub = team(account)
    house.night()
    account.set_quantity(sub, 21)
    for name in ("stripe.conversion", "billing.loading"):
        with monkeypatch.context() as patch:

            def stop(reached: str) -> None:
                if reached in ("stripe.convert", "billing.commit"):
                    raise KeyboardInterrupt

            patch.setattr(sys.modules[f"hub_pipeline.sources.{name}"], "crash_point", stop)
            with pytest.raises(KeyboardInterrupt):
                house.night()
    house.night()
    days = days_between(FIRST, (account.now - timedelta(days=1)).date())
    assert house.seats_on(*days) == house.truth_on(*days)
    assert [row[1] for row in house.item_history()] == [Decimal(10), Decimal(21)]


@pytest.mark.slow
def test_raw_billing_lost_is_filled_again_from_the_files_of_the_nights(house: StripeHouse) -> None:
    account = house.account
    sub = team(account)
    house.night()
    account.set_quantity(sub, 12)
    house.night()
    columns = "subscription_item_id, _changed_at, _recorded_at, quantity"
    history = house.item_history(columns)
    for table in ("customers", "subscriptions", "subscription_items", "files"):
        house.connection.execute(f"DELETE FROM raw_billing.{table}")
    house.connection.execute("DELETE FROM raw_stripe.conversions")
    house.night()
    assert house.item_history(columns) == history
