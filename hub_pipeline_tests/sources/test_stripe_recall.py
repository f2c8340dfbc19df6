"""Whatever happens in an account, and whenever it is read: the seats of every customer and day are the account's own."""

from __future__ import annotations

import random
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub_pipeline.demo.stripe_server import VERSIONS, StripeAccount
from hub_pipeline_tests.sources.stripe_house import START, StripeHouse, days_between

DAY = 86_400


def live_through(house: StripeHouse, draw: random.Random, nights: int, most: int) -> None:
    """Nights after nights with up to so many changes of any kind between them."""
    account = house.account
    product = account.add_product("Team")
    prices = [
        account.add_price(product, interval=interval, interval_count=count)
        for interval, count in (("month", 1), ("year", 1), ("month", 3), ("week", 1))
    ]
    addon = account.add_price(account.add_product("Extra", "addon"))
    customers = [account.add_customer(f"c{n}", str(n)) for n in range(5)]

    def change() -> None:
        running = [
            s for s in account.records["subscriptions"].values() if s["status"] not in ("canceled", "paused")
        ]
        kind = draw.randrange(14)
        if kind < 3 or not running:
            items = [
                (draw.choice([*prices, addon]), draw.randrange(1, 60))
                for _ in range(draw.choice((1, 1, 2, 13)))
            ]
            trial = draw.choice((0, 0, 0, 7))
            account.subscribe(draw.choice(customers), items, trial_days=trial)
            return
        one = draw.choice(running)
        sub, count = one["id"], len(one["items"])
        if kind < 7:
            account.set_quantity(sub, draw.randrange(1, 60), draw.randrange(count))
        elif kind == 7:
            account.add_item(sub, draw.choice(prices), draw.randrange(1, 60))
        elif kind == 8 and count > 1:
            account.remove_item(sub, draw.randrange(count))
        elif kind == 9:
            account.replace_item(sub, draw.randrange(count), draw.choice(prices), draw.randrange(1, 60))
        elif kind == 10:
            account.cancel(sub, at_period_end=draw.random() < 0.7)
        elif kind == 11:
            account.keep(sub)
        elif kind == 12:
            account.set_status(sub, draw.choice(("past_due", "unpaid", "active", "paused")))
        elif one["status"] == "active" and one["schedule"] is None:
            account.schedule(
                sub, [(draw.randrange(1, 9), draw.randrange(1, 60))], draw.choice(("release", "cancel"))
            )

    for _ in range(nights):
        for _ in range(draw.randrange(most)):
            change()
            account.advance(draw.choice((0, 0, 1, 60, 3600)))
        house.night(max_shrink=1.0)


def require_recall(house: StripeHouse) -> None:
    days = days_between(START.date(), (house.account.now - timedelta(hours=3, days=1)).date())
    assert house.seats_on(*days) == house.truth_on(*days)
    assert house.rows("SELECT count(*) FROM raw_billing.quarantine") == [(0,)]


@pytest.mark.slow
def test_a_few_days_full_of_changes_are_told_without_a_gap(tmp_path: Path) -> None:
    house = StripeHouse(tmp_path)
    live_through(house, random.Random(20261122), nights=2, most=30)
    require_recall(house)
    house.close()


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_weeks_full_of_changes_are_told_without_a_gap(tmp_path: Path, version: str) -> None:
    house = StripeHouse(tmp_path, StripeAccount(START, version))
    live_through(house, random.Random(version), nights=8, most=20)
    require_recall(house)
    house.close()


@pytest.mark.slow
@settings(
    max_examples=10, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)  # fmt: skip
@given(
    draw=st.randoms(use_true_random=False),
    nights=st.integers(1, 3),
    most=st.integers(1, 8),
    version=st.sampled_from(VERSIONS),
)
def test_no_sequence_of_changes_and_nights_loses_a_seat(
    draw: random.Random, nights: int, most: int, version: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        house = StripeHouse(Path(folder), StripeAccount(START, version))
        try:
            live_through(house, draw, nights, most)
            require_recall(house)
        finally:
            house.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_whatever_events_are_lost_the_next_night_knows_the_seats_of_today(tmp_path: Path, seed: int) -> None:
    house = StripeHouse(tmp_path)
    draw = random.Random(seed)
    for _ in range(3):
        kept = len(house.account.events)
        live_through(house, draw, nights=1, most=25)
        house.account.lose_events(kept)
        live_through(house, draw, nights=1, most=2)
        house.account.advance(draw.choice((0, 5, 40)) * DAY)
        house.account.lose_events(kept)
        house.night(max_shrink=1.0)
        today = (house.account.now - timedelta(hours=3, days=1)).date()
        assert house.seats_on(today) == house.truth_on(today)
    house.close()
