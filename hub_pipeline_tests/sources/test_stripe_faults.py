"""What Stripe may do wrong, and what a user sees then: over real HTTP, with the simulator's faults switched on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_pipeline.demo.faults import Fault, FaultKind
from hub_pipeline.demo.stripe_server import DEMO_KEY, StripeAccount
from hub_pipeline.errors import ConfigurationError, DataRefusedError, HubPipelineError, SourceUnavailableError
from hub_pipeline.sources import transport
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline_tests.sources.stripe_house import START, StripeHouse


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.01)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StripeHouse]:
    made = StripeHouse(tmp_path_factory.mktemp("faults"), stripe={"time_budget_seconds": 10})
    fill(made.account)
    yield made
    made.close()


def fill(account: StripeAccount) -> None:
    """210 customers with a subscription each: three pages."""
    price = account.add_price(account.add_product("Team"))
    for number in range(210):
        account.subscribe(account.add_customer(f"c{number}", str(number)), [(price, 5)])


def asked(house: StripeHouse, *faults: Fault) -> dict[str, StreamResult]:
    """What the extraction says about each object under these faults; nothing is loaded."""
    house.simulator.faults.clear()
    house.simulator.faults.add(*faults)
    house.simulator.hits.clear()
    try:
        return house.extract_only()
    finally:
        house.simulator.faults.clear()


def refused(house: StripeHouse, kind: type[HubPipelineError], *faults: Fault) -> str:
    with pytest.raises(kind) as caught:
        asked(house, *faults)
    assert DEMO_KEY not in str(caught.value)
    return str(caught.value)


def test_trouble_that_passes_leaves_no_trace(house: StripeHouse) -> None:
    results = asked(
        house,
        Fault(FaultKind.RATE_LIMITED, path="/v1/customers", times=2),
        Fault(FaultKind.RATE_LIMITED, path="/v1/products", times=1, retry_after="0.05"),
        Fault(FaultKind.BAD_GATEWAY, path="/v1/subscriptions", first=2, times=2),
        Fault(FaultKind.UNAVAILABLE, path="/v1/prices", times=1),
        Fault(FaultKind.TRUNCATED, path="/v1/subscriptions", first=4, times=1),
        Fault(FaultKind.CANNED, path="/v1/coupons", times=1, body=b"<html>not json</html>"),
        Fault(
            FaultKind.CANNED, path="/v1/subscription_schedules", times=1, status=429,
            body=b'{"error":{"code":"lock_timeout","type":"invalid_request_error","message":"locked"}}',
        ),
    )  # fmt: skip
    assert {r.status for r in results.values()} == {"complete"}
    assert (results["customers"].records, results["subscriptions"].records) == (210, 210)


def test_a_wrong_key_stops_at_once_and_is_never_shown(house: StripeHouse) -> None:
    house.simulator.token = "another"
    try:
        message = refused(house, ConfigurationError)
    finally:
        house.simulator.token = DEMO_KEY
    assert "STRIPE_API_KEY" in message
    assert house.simulator.hits.count() == 1


def test_a_permission_that_is_missing_leaves_out_that_object_alone(house: StripeHouse) -> None:
    house.simulator.forbidden = {"coupons", "events"}
    try:
        results = asked(house)
    finally:
        house.simulator.forbidden = set()
    assert {name for name, r in results.items() if r.status == "forbidden"} == {"coupons", "events"}
    assert results["subscriptions"].records == 210


def test_without_the_permission_for_subscriptions_stripe_is_of_no_use(house: StripeHouse) -> None:
    house.simulator.forbidden = {"subscriptions"}
    try:
        assert "/v1/subscriptions" in refused(house, ConfigurationError)
    finally:
        house.simulator.forbidden = set()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.BAD_GATEWAY, path="/v1/customers"),
        Fault(FaultKind.CANNED, path="/v1/customers", body=b'{"object":"list","data":null}'),
        Fault(FaultKind.CANNED, path="/v1/customers", body=b"{}"),
        Fault(FaultKind.CANNED, path="/v1/customers", body=b'{"data":[],"has_more":true}'),
        Fault(FaultKind.CANNED, path="/v1/customers", body=b'{"data":[{"id":"cus_1"}],"has_more":true}'),
    ],
    ids=["502", "no records", "another form", "more of nothing", "in circles"],
)
def test_an_answer_that_is_none_is_never_taken_for_an_empty_list(house: StripeHouse, fault: Fault) -> None:
    message = refused(house, SourceUnavailableError, fault)
    assert "nothing was published" in message


def test_a_redirect_is_not_followed(house: StripeHouse) -> None:
    away = Fault(FaultKind.CANNED, status=302, headers=(("Location", "http://127.0.0.1:9/v1/events"),))
    assert "STRIPE_BASE_URL" in refused(house, ConfigurationError, away)


def test_silence_and_dripping_end_with_the_time_budget(
    house: StripeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_pipeline.sources.stripe.client.BoundedPool", impatient)
    house.settings = house.settings.model_copy(
        update={"stripe": house.settings.stripe.model_copy(update={"time_budget_seconds": 1})}
    )
    for kind in (FaultKind.HANG, FaultKind.DRIP):
        refused(house, SourceUnavailableError, Fault(kind, path="/v1/customers", seconds=0.5))
    house.settings = house.settings.model_copy(
        update={"stripe": house.settings.stripe.model_copy(update={"time_budget_seconds": 10})}
    )


def impatient(*args: object, **more: object) -> transport.BoundedPool:
    return transport.BoundedPool(*args, **{**more, "read": 0.2, "attempt": 0.3})  # type: ignore[arg-type]


def test_an_answer_that_is_too_large_is_given_up(house: StripeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(*args: object, **more: object) -> transport.BoundedPool:
        return transport.BoundedPool(*args, **{**more, "max_bytes": 5_000})  # type: ignore[arg-type]

    monkeypatch.setattr("hub_pipeline.sources.stripe.client.BoundedPool", small)
    assert "larger than 5,000 bytes" in refused(house, SourceUnavailableError)


def test_an_unknown_version_is_named(house: StripeHouse) -> None:
    kept = house.settings
    house.settings = kept.model_copy(
        update={"stripe": kept.stripe.model_copy(update={"api_version": "2031-01-01.x"})}
    )
    assert "Invalid Stripe API version: 2031-01-01.x" in refused(house, ConfigurationError)
    house.settings = kept


def test_a_record_that_is_deleted_where_a_list_has_come_to_begins_the_list_again(house: StripeHouse) -> None:
    gone = Fault(
        FaultKind.CANNED, path="/v1/customers", first=2, times=1, status=400,
        body=b'{"error":{"code":"resource_missing","message":"No such customer: \'cus_1\'","param":"starting_after"}}',
    )  # fmt: skip
    results = asked(house, gone)
    assert results["customers"].message == "begun 2 times"
    assert results["customers"].records == 210


def test_reads_stay_below_the_limit_of_the_account(house: StripeHouse) -> None:
    results = asked(house)
    # 1 to find the newest event, 3 pages each of subscriptions, customers and events, 5 of the rest.
    assert sum(r.requests for r in results.values()) + 1 == house.simulator.hits.count() == 15
    assert house.simulator.hits.count(status=429) == 0


@pytest.mark.slow
def test_a_list_that_shrinks_too_much_is_refused(tmp_path: Path) -> None:
    house = StripeHouse(tmp_path, StripeAccount(START))
    fill(house.account)
    house.night()
    for customer in list(house.account.records["customers"])[:100]:
        house.account.records["customers"].pop(customer)
    with pytest.raises(DataRefusedError):
        house.night()
    house.close()
