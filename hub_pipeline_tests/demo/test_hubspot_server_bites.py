"""Ways of reading a portal that look right and are not: each of them loses something on the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from hub_pipeline.demo.hubspot_server import HubSpotSimulator, Limits
from hub_pipeline_tests.demo.portal import NOON, ORGANISATIONS, Client, account, hubspot, still

LIST = f"/crm/objects/2026-09/{ORGANISATIONS}"
MODIFIED, ID = "hs_lastmodifieddate", "hs_object_id"
LAG = timedelta(minutes=5)


@pytest.fixture
def simulator() -> HubSpotSimulator:
    limits = Limits(search_per_second=1_000)
    return HubSpotSimulator(account(organisations=500), clock=still(), limits=limits, index_lag=LAG)


@pytest.fixture
def client(simulator: HubSpotSimulator) -> Iterator[Client]:
    with hubspot(simulator) as client:
        yield client


def milliseconds(instant: Any) -> str:
    return str(int(instant.timestamp() * 1000))


def search(client: Client, sort: str, after: str | None = None, **bounds: str) -> dict:
    names = {"modified": MODIFIED, "id": ID}
    filters = []
    for bound, value in bounds.items():
        name, operator = bound.split("_")
        filters.append({"propertyName": names[name], "operator": operator, "value": value})
    sorts = [{"propertyName": sort, "direction": "ASCENDING"}]
    body = {"limit": 200, "sorts": sorts, "filterGroups": [{"filters": filters}]}
    return client.post(f"{LIST}/search", body if after is None else {**body, "after": after})


def changed_since(client: Client, low: Any, high: Any) -> set[str]:
    """The keyset on the id inside a fixed window: what should be done."""
    found: set[str] = set()
    last = "0"
    while True:
        page = search(client, ID, modified_GTE=milliseconds(low), modified_LTE=milliseconds(high), id_GT=last)
        if not page["results"]:
            return found
        found |= {item["id"] for item in page["results"]}
        last = page["results"][-1]["id"]


def test_a_keyset_on_the_timestamp_loses_records_of_one_millisecond(
    client: Client, simulator: HubSpotSimulator
) -> None:
    everyone = list(simulator.account.records[ORGANISATIONS])
    for key in everyone:
        simulator.update(ORGANISATIONS, key, {"seats": "7"})
    simulator.clock.advance(LAG.total_seconds())
    naive: set[str] = set()
    last = milliseconds(NOON - timedelta(seconds=1))
    while page := search(client, MODIFIED, modified_GT=last)["results"]:
        naive |= {item["id"] for item in page}
        last = page[-1]["properties"][MODIFIED]
    assert len(naive) == 200
    assert changed_since(client, NOON, NOON) == set(everyone)


def test_a_watermark_at_the_greatest_date_seen_loses_what_the_index_learned_later(
    client: Client, simulator: HubSpotSimulator
) -> None:
    changed: set[str] = set()
    naive: set[str] = set()
    watermark = NOON
    for step in range(20):
        key = str(9 + step)
        simulator.update(ORGANISATIONS, key, {"seats": "7777"})
        changed.add(key)
        simulator.clock.advance(60)
        page = search(client, ID, modified_GTE=milliseconds(watermark))["results"]
        naive |= {item["id"] for item in page}
        seen = [simulator.account.records[ORGANISATIONS][item["id"]].updated_at for item in page]
        watermark = max([watermark, *seen])
    simulator.clock.advance(LAG.total_seconds())
    naive |= {item["id"] for item in search(client, ID, modified_GTE=milliseconds(watermark))["results"]}
    assert naive < changed
    assert changed_since(client, NOON, simulator.clock.now()) == changed


def test_paging_a_search_by_number_loses_records_when_they_change_meanwhile(
    client: Client, simulator: HubSpotSimulator
) -> None:
    simulator.index_lag = timedelta(0)
    everyone = set(simulator.account.records[ORGANISATIONS])
    bound = {"modified_GTE": "0"}
    first = search(client, MODIFIED, **bound)["results"]
    for item in first[:50]:
        simulator.update(ORGANISATIONS, item["id"], {"seats": "7777"})
    naive = {item["id"] for item in first}
    for after in ("200", "400"):
        naive |= {item["id"] for item in search(client, MODIFIED, after=after, **bound)["results"]}
    assert naive < everyone
    assert changed_since(client, NOON - timedelta(days=2_000), NOON) == everyone


def test_reading_only_what_changed_sees_no_archiving_no_restoring_and_no_association(
    client: Client, simulator: HubSpotSimulator
) -> None:
    simulator.archive(ORGANISATIONS, "9")
    simulator.archive(ORGANISATIONS, "10")
    simulator.restore(ORGANISATIONS, "10")
    simulator.purge(ORGANISATIONS, "11")
    simulator.associate("contacts", "2", ORGANISATIONS, "12")
    simulator.clock.advance(LAG.total_seconds())
    assert changed_since(client, NOON, simulator.clock.now()) == set()
    assert [item["id"] for item in client.get(f"{LIST}?archived=true")["results"]] == ["9"]


def test_a_record_dated_in_2099_does_not_hide_the_others(client: Client, simulator: HubSpotSimulator) -> None:
    simulator.index_lag = timedelta(0)
    simulator.account.records[ORGANISATIONS]["9"].updated_at = NOON.replace(year=2099)
    simulator.update(ORGANISATIONS, "10", {"seats": "7777"})
    newest = search(client, MODIFIED, modified_GTE=milliseconds(NOON))["results"][-1]["properties"][MODIFIED]
    assert newest.startswith("2099")
    assert search(client, ID, modified_GTE=newest)["total"] == 1
    assert changed_since(client, NOON, NOON) == {"10"}
