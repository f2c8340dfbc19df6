"""One history, lived in a Stripe account: told as Stripe objects over HTTP, as changes, as daily lists and as counts."""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub_pipeline.demo.stripe_server import StripeAccount
from hub_pipeline_tests.sources.billing_company import ANOTHER, Row
from hub_pipeline_tests.sources.billing_marts import at_closes, seats_by_day, stage_billing
from hub_pipeline_tests.sources.stripe_house import START, StripeHouse, days_between
from hub_pipeline_tests.sources.test_billing_ledger import a_folder, put, require_loaded
from hub_pipeline_tests.sources.test_stripe_recall import live_through


class Witness(StripeAccount):
    """An account beside which somebody writes down what each subscription is after every change."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self.noted: list[tuple[datetime, dict[str, Any]]] = []

    def _write_truth(self, subscription: Mapping[str, Any]) -> None:
        super()._write_truth(subscription)
        self.noted.append((self.now, copy.deepcopy(dict(subscription))))

    def changes(self, day: date) -> dict[str, list[Row]]:
        """Table -> what changed within a day, with its times."""
        told: dict[tuple[str, str, str], Row] = {}
        items: dict[str, dict[str, Row]] = {}
        for at, subscription in self.noted:
            if at >= _close(day):
                break
            now = {item["id"]: self._item_row(item, subscription["id"], at) for item in subscription["items"]}
            gone = [
                {**row, "updated_at": _time(at), "is_deleted": "true"}
                for name, row in items.get(subscription["id"], {}).items()
                if name not in now
            ]
            items[subscription["id"]] = now
            if at < _close(day - timedelta(days=1)):
                continue
            told["subscriptions", subscription["id"], _time(at)] = _subscription_row(subscription, at)
            for row in [*now.values(), *gone]:
                told["subscription_items", row["subscription_item_id"], _time(at)] = row
        tables: dict[str, list[Row]] = {}
        for (table, _, _), row in told.items():
            tables.setdefault(table, []).append(row)
        return tables

    def lists(self, day: date) -> dict[str, list[Row]]:
        """Table -> everything that has not ended by the end of a day, without times."""
        latest = {s["id"]: s for at, s in self.noted if at < _close(day)}
        running = [s for s in latest.values() if s["status"] != "canceled"]
        return {
            "subscriptions": [_subscription_row(s, None) for s in running],
            "subscription_items": [self._item_row(i, s["id"], None) for s in running for i in s["items"]],
        }

    def counts(self, day: date) -> dict[str, list[Row]]:
        """The seats of each customer at the end of a day, and no more than that."""
        return {
            "daily_seats": [
                {"organisation_ref": customer, "snapshot_date": str(day), "seats": str(seats)}
                for customer, seats in (self.seats_on(day) | {ANOTHER: 1}).items()
            ]
        }

    def _item_row(self, item: Mapping[str, Any], subscription: str, changed: datetime | None) -> Row:
        product = self.records["products"][item["price"]["product"]]
        return {
            "subscription_item_id": item["id"],
            "subscription_id": subscription,
            "seat_role": product["metadata"].get("seat_role", "unknown"),
            "quantity": str(item["quantity"]),
            "unit_amount_minor": "100",
            "interval": "month",
            "created_at": _time(datetime.fromtimestamp(item["created"], UTC)),
            "is_deleted": "false",
            "updated_at": _time(changed),
        }


def _subscription_row(subscription: Mapping[str, Any], changed: datetime | None) -> Row:
    ended = subscription["ended_at"]
    return {
        "subscription_id": subscription["id"],
        "customer_id": subscription["customer"],
        "status": subscription["status"],
        "currency": "USD",
        "started_at": _time(datetime.fromtimestamp(subscription["start_date"], UTC)),
        "ended_at": _time(None if ended is None else datetime.fromtimestamp(ended, UTC)),
        "updated_at": _time(changed),
    }


def _time(value: datetime | None) -> str:
    return "" if value is None else f"{value.replace(tzinfo=None).isoformat()}Z"


def _close(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


WAYS = {
    "changes": ("delta", Witness.changes),
    "lists": ("full", Witness.lists),
    "counts": ("full", Witness.counts),
}


def check_four_ways(draw: random.Random, nights: int, most: int) -> None:
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        account = Witness(START)
        house = StripeHouse(Path(folder), account)
        opened.callback(house.close)
        live_through(house, draw, nights, most)
        days = days_between(START.date(), (account.now - timedelta(hours=3, days=1)).date())
        truth = house.truth_on(*days)
        assert house.modelled_seats_on(*days) == truth, "Stripe objects"
        closes = [_close(day).replace(tzinfo=None) for day in days]
        for way, (kind, rows_of) in WAYS.items():
            billing = opened.enter_context(a_folder("UTC"))
            for day in days:
                put(billing, day, rows_of(account, day), kind)
            require_loaded(billing.run(as_of=days[-1]))
            stage_billing(billing)
            seats = seats_by_day(at_closes(billing, closes))
            for day, close in zip(days, closes, strict=True):
                expected = truth[day] | ({ANOTHER: 1} if way == "counts" else {})
                assert seats.get(close, {}) == expected, f"{way}, {day}"


def test_stripe_objects_changes_lists_and_counts_give_the_same_seats_on_every_day() -> None:
    check_four_ways(random.Random(4), nights=3, most=20)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(draw=st.randoms(use_true_random=False), nights=st.integers(1, 4), most=st.integers(1, 12))
def test_any_history_of_an_account_gives_the_same_seats_whichever_way_it_is_told(
    draw: random.Random, nights: int, most: int
) -> None:
    check_four_ways(draw, nights, most)
