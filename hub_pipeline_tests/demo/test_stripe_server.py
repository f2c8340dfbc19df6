"""The Stripe account as strict as the real one: what it refuses, how it pages, what it forgets and what it knows."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from hub_pipeline.demo.serve import serving
from hub_pipeline.demo.stripe_server import DEMO_KEY, VERSIONS, StripeAccount, StripeSimulator

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = 86_400


class Api:
    """A client that knows nothing but addresses."""

    def __init__(self, url: str, simulator: StripeSimulator) -> None:
        self.url = url
        self.simulator = simulator
        self.account = simulator.account

    def get(
        self, path: str, version: str = VERSIONS[-1], key: str = DEMO_KEY, **query: Any
    ) -> tuple[int, dict[str, Any]]:
        pairs = [(k.replace("__", "[") + "]" * ("__" in k), v) for k, v in query.items()]
        flat = [(k, x) for k, v in pairs for x in (v if isinstance(v, list) else [v])]
        request = urllib.request.Request(f"{self.url}{path}?{urlencode(flat)}")
        request.add_header("Authorization", f"Bearer {key}")
        request.add_header("Stripe-Version", version)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def data(self, path: str, version: str = VERSIONS[-1], **query: Any) -> list[dict[str, Any]]:
        status, body = self.get(path, version, **query)
        assert status == 200, body
        return list(body["data"])


@pytest.fixture
def api() -> Iterator[Api]:
    account = StripeAccount(NOON)
    simulator = StripeSimulator(account)
    with serving(simulator.app) as (url,):
        yield Api(url, simulator)


def team(account: StripeAccount, items: int = 1) -> str:
    product = account.add_product("Team")
    prices = [account.add_price(product) for _ in range(items)]
    return account.subscribe(account.add_customer("Acme", "501"), [(price, 5) for price in prices])


def test_a_list_is_paged_newest_first_by_the_last_record_and_never_by_more_than_a_hundred(api: Api) -> None:
    customers = [api.account.add_customer(f"c{n}") for n in range(130)]
    status, first = api.get("/v1/customers", limit=100)
    assert (status, first["has_more"]) == (200, True)
    rest = api.data("/v1/customers", limit=100, starting_after=first["data"][-1]["id"])
    assert [c["id"] for c in first["data"] + rest] == customers[::-1]
    assert len(api.data("/v1/customers")) == 10
    assert api.get("/v1/customers", limit=101)[0] == 400
    status, body = api.get("/v1/customers", starting_after="cus_none")
    assert (status, body["error"]["code"]) == (400, "resource_missing")


def test_what_it_does_not_know_is_refused(api: Api) -> None:
    assert api.get("/v1/customers", color="red")[1]["error"]["code"] == "parameter_unknown"
    assert api.get("/v1/customers", key="rk_live_other")[0] == 401
    assert api.get("/v1/customers", version="2031-01-01.x")[0] == 400
    assert api.get("/v1/subscriptions", status="gone")[0] == 400
    assert api.get("/v1/subscriptions", **{"expand[]": "data.items.data.price.product"})[0] == 400
    assert api.get("/v1/subscriptions", **{"expand[]": "data.nothing"})[0] == 400
    assert api.get("/v1/events", types__=[f"a.{n}" for n in range(21)])[0] == 400
    api.simulator.forbidden = {"coupons"}
    assert api.get("/v1/coupons")[0] == 403


def test_a_subscription_shows_ten_items_and_has_the_others_in_a_list_of_their_own(api: Api) -> None:
    sub = team(api.account, items=12)
    (shown,) = api.data("/v1/subscriptions")
    assert (len(shown["items"]["data"]), shown["items"]["has_more"]) == (10, True)
    every = api.data("/v1/subscription_items", subscription=sub, limit=100)
    assert [item["id"] for item in every[:10]] == [item["id"] for item in shown["items"]["data"]]
    assert len(every) == 12
    assert api.get("/v1/subscription_items")[0] == 400


def test_terms_stand_on_the_items_and_before_march_2025_on_the_subscription(api: Api) -> None:
    team(api.account)
    coupon = api.account.add_coupon(percent=10)
    api.account.discount("sub_000004", coupon)
    (new,) = api.data("/v1/subscriptions")
    (old,) = api.data("/v1/subscriptions", version="2024-06-20")
    (basil,) = api.data("/v1/subscriptions", version="2025-03-31.basil", **{"expand[]": "data.discounts"})
    assert "current_period_end" in new["items"]["data"][0]
    assert "current_period_end" not in new
    assert "current_period_end" in old
    assert "current_period_end" not in old["items"]["data"][0]
    assert isinstance(new["discounts"][0], str)
    assert old["discount"]["coupon"]["percent_off"] == 10
    assert basil["discounts"][0]["coupon"]["id"] == coupon
    assert api.get("/v1/subscriptions", version="2024-06-20", **{"expand[]": "data.discounts"})[0] == 400


def test_cancelled_subscriptions_are_listed_only_when_asked_for(api: Api) -> None:
    sub = team(api.account)
    api.account.cancel(sub)
    assert api.data("/v1/subscriptions") == []
    assert [s["status"] for s in api.data("/v1/subscriptions", status="all")] == ["canceled"]


def test_events_are_kept_for_thirty_days_in_the_shape_of_the_accounts_own_version(api: Api) -> None:
    api.account.version = "2024-06-20"
    sub = team(api.account)
    api.account.advance(DAY)
    api.account.set_quantity(sub, 8)
    newest, oldest = api.data("/v1/events")
    assert (newest["type"], oldest["type"]) == (
        "customer.subscription.updated",
        "customer.subscription.created",
    )
    assert newest["api_version"] == "2024-06-20"
    assert "current_period_end" in newest["data"]["object"]
    before = newest["data"]["previous_attributes"]["items"]["data"][0]["quantity"]
    after = newest["data"]["object"]["items"]["data"][0]["quantity"]
    assert (before, after) == (5, 8)
    assert api.data("/v1/events", created__gte=newest["created"]) == [newest]
    api.account.advance(29.5 * DAY)
    assert oldest["id"] not in {event["id"] for event in api.data("/v1/events")}


def test_prices_made_for_one_subscription_and_inactive_ones_are_in_no_default_list(api: Api) -> None:
    product = api.account.add_product("Team")
    listed = api.account.add_price(product)
    inline = api.account.add_price(product, inline=True)
    old = api.account.add_price(product, active=False)
    assert [p["id"] for p in api.data("/v1/prices")] == [listed]
    assert [p["id"] for p in api.data("/v1/prices", active="false")] == [old]
    assert api.get(f"/v1/prices/{inline}")[1]["id"] == inline


def test_more_reads_than_the_limit_in_one_second_are_refused(api: Api) -> None:
    limited = StripeSimulator(api.account, reads_per_second=3)
    with serving(limited.app) as (url,):
        statuses = [Api(url, limited).get("/v1/coupons")[0] for _ in range(30)]
    assert statuses[:3] == [200] * 3
    assert 429 in statuses


def test_time_brings_renewals_ends_and_phases_at_their_own_moments(api: Api) -> None:
    account = api.account
    trial = account.subscribe(
        account.add_customer("T"), [(account.add_price(account.add_product("Team")), 7)], trial_days=14
    )
    ending = team(account)
    account.cancel(ending, at_period_end=True)
    planned = team(account)
    account.schedule(planned, [(10, 2)], end_behavior="cancel")
    customers = {name: account.records["subscriptions"][sub]["customer"] for name, sub in
                 (("trial", trial), ("ending", ending), ("planned", planned))}  # fmt: skip
    account.advance(50 * DAY)

    def seats(days: int) -> dict[str, int | None]:
        found = account.seats_on((NOON + timedelta(days=days)).date())
        return {name: found.get(customer) for name, customer in customers.items()}

    assert seats(9) == {"trial": None, "ending": 5, "planned": 5}
    assert seats(14) == {"trial": 7, "ending": 5, "planned": 2}
    assert seats(30) == {"trial": 7, "ending": None, "planned": 2}
    assert seats(41) == {"trial": 7, "ending": None, "planned": None}
