"""Faults are switched one by one, hit the requests they name, and look to a client as the real ones do."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import urllib3

from hub_pipeline.demo.faults import Fault, FaultKind, Faults, every_nth, mild, mild_intercom
from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline_tests.demo.portal import ORGANISATIONS, Client, account, hubspot

LIST = f"/crm/objects/2026-09/{ORGANISATIONS}"


@pytest.fixture
def simulator() -> HubSpotSimulator:
    return HubSpotSimulator(account(organisations=50))


@pytest.fixture
def client(simulator: HubSpotSimulator) -> Iterator[Client]:
    with hubspot(simulator) as client:
        yield client


def statuses(client: Client, count: int, path: str = LIST) -> list[int]:
    return [client.ask("GET", path).status for _ in range(count)]


def test_nothing_fails_by_default(client: Client) -> None:
    assert statuses(client, 50) == [200] * 50


def test_rules_hit_the_requests_they_name_and_no_others(client: Client, simulator: HubSpotSimulator) -> None:
    simulator.faults.add(
        Fault(FaultKind.BAD_GATEWAY, path="GET /crm/objects", first=2, every=3, times=2),
        Fault(FaultKind.UNAVAILABLE, path="/crm/owners"),
    )
    assert statuses(client, 9) == [200, 502, 200, 200, 502, 200, 200, 200, 200]
    assert statuses(client, 2, "/crm/owners/2026-09") == [503, 503]
    simulator.faults.clear()
    assert statuses(client, 2, "/crm/owners/2026-09") == [200, 200]
    assert simulator.hits.count("/crm/objects", status=502) == 2


def test_a_rate_limit_comes_with_or_without_the_time_to_wait(
    client: Client, simulator: HubSpotSimulator
) -> None:
    simulator.faults.add(
        Fault(FaultKind.RATE_LIMITED, first=1, every=0, retry_after="1"),
        Fault(FaultKind.RATE_LIMITED, first=2, every=0),
    )
    answers = [client.ask("GET", LIST) for _ in range(2)]
    assert [(answer.status, answer.headers.get("Retry-After")) for answer in answers] == [
        (429, "1"),
        (429, None),
    ]
    assert answers[1].json()["policyName"] == "TEN_SECONDLY_ROLLING"


def test_a_cut_off_body_breaks_the_clients_read(client: Client, simulator: HubSpotSimulator) -> None:
    simulator.faults.add(Fault(FaultKind.TRUNCATED, times=1))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        client.ask("GET", f"{LIST}?limit=50")
    assert client.ask("GET", f"{LIST}?limit=50").status == 200


def test_a_slow_answer_is_right_and_late(client: Client, simulator: HubSpotSimulator) -> None:
    simulator.faults.add(Fault(FaultKind.SLOW, seconds=0.1, times=1))
    before = time.monotonic()
    assert client.ask("GET", LIST).status == 200
    assert time.monotonic() - before >= 0.1


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.DRIP])
def test_silence_after_the_headers_outlasts_a_read_timeout(
    client: Client, simulator: HubSpotSimulator, kind: FaultKind
) -> None:
    simulator.faults.add(Fault(kind, seconds=30))
    pool = urllib3.PoolManager(retries=False, timeout=0.2)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        pool.request("GET", client.base + LIST, headers=client.headers)


def test_any_answer_can_stand_in_for_the_right_one(client: Client, simulator: HubSpotSimulator) -> None:
    simulator.faults.add(
        Fault(FaultKind.CANNED, first=1, every=0, body=b'{"results":null}'),
        Fault(FaultKind.CANNED, first=2, every=0, status=302, headers=(("Location", "http://127.0.0.1:1/"),)),
    )
    assert client.get(LIST) == {"results": None}
    answer = client.ask("GET", LIST)
    assert (answer.status, answer.headers["Location"]) == (302, "http://127.0.0.1:1/")


def test_pages_can_overlap_and_cursors_can_loop(client: Client, simulator: HubSpotSimulator) -> None:
    simulator.faults.add(
        Fault(FaultKind.OVERLAP_PAGE, first=2, every=0), Fault(FaultKind.CURSOR_LOOP, first=3)
    )
    first, second = client.get(LIST), client.get(f"{LIST}?after=18")
    assert [item["id"] for item in first["results"]][-5:] == [item["id"] for item in second["results"]][:5]
    assert client.get(f"{LIST}?after=18")["paging"]["next"]["after"] == "18"


def test_the_token_can_be_revoked_in_mid_run(client: Client, simulator: HubSpotSimulator) -> None:
    assert statuses(client, 2) == [200, 200]
    simulator.token = "another"
    assert statuses(client, 1) == [401]


def test_plans_are_the_same_for_the_same_seed_and_hit_every_nth_request() -> None:
    def outcome(plan: Faults, requests: int) -> list[str | None]:
        found = [plan.next("POST", "/x") for _ in range(requests)]
        return [fault.kind.value if fault else None for fault in found]

    kinds = [FaultKind.BAD_GATEWAY, FaultKind.RATE_LIMITED, FaultKind.TRUNCATED]
    plan = outcome(every_nth(10, 1, kinds), 60)
    assert plan == outcome(every_nth(10, 1, kinds), 60)
    assert [position + 1 for position, kind in enumerate(plan) if kind] == [10, 20, 30, 40, 50, 60]
    assert sorted(filter(None, outcome(mild(7), 60))) == ["bad_gateway", "rate_limited", "slow", "truncated"]
    assert outcome(mild(7), 60) == outcome(mild(7), 60) != outcome(mild(8), 60)
    assert sorted(filter(None, outcome(mild_intercom(7), 8))) == ["slow", "unavailable"]
