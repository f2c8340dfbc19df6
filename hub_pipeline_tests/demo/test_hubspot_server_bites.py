"""Ways of reading a portal that look right and are not: each of them loses something on the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from hub_pipeline.demo.faults import Fault, FaultKind
from hub_pipeline.demo.hubspot_server import REAL_HISTORY_CAP, HubSpotSimulator, Limits
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


def recall(found: set[str], truth: set[str]) -> float:
    """Share of the truth that was found; a phantom is worse than anything missing."""
    assert found <= truth
    return len(found) / len(truth)


def test_paging_beyond_ten_thousand_is_refused_and_what_lies_there_is_lost() -> None:
    limits = Limits(search_per_second=1_000)
    simulator = HubSpotSimulator(account(organisations=10_400), clock=still(), limits=limits)
    everyone = set(simulator.account.records[ORGANISATIONS])
    long_ago = NOON - timedelta(days=2_000)
    with hubspot(simulator) as client:
        naive: set[str] = set()
        after: str | None = "9000"  # the pages before are as good as any
        naive |= {key for key in everyone if int(key) < 9 + 9_000}
        while after is not None:
            body = {"limit": 200, "after": after, "sorts": [{"propertyName": ID, "direction": "ASCENDING"}]}
            answer = client.ask("POST", f"{LIST}/search", body)
            if answer.status != 200:
                break
            page = answer.json()
            naive |= {item["id"] for item in page["results"]}
            after = page["paging"]["next"]["after"] if "paging" in page else None
        assert (answer.status, after) == (400, "10000")
        assert recall(naive, everyone) == 10_000 / 10_400
        assert recall(changed_since(client, long_ago, NOON), everyone) == 1.0


def test_a_window_without_overlap_loses_what_the_index_learns_late(
    client: Client, simulator: HubSpotSimulator
) -> None:
    truth, naive, ours = set(), set(), set()
    watermark = NOON
    for step in range(12):
        key = str(9 + step)
        simulator.update(ORGANISATIONS, key, {"seats": "7777"})
        truth.add(key)
        simulator.clock.advance(45)
        run = simulator.clock.now()
        naive |= changed_since(client, watermark, run)
        ours |= changed_since(client, watermark - LAG - timedelta(minutes=1), run)
        watermark = run
    simulator.clock.advance(LAG.total_seconds())
    run = simulator.clock.now()
    naive |= changed_since(client, watermark, run)
    ours |= changed_since(client, watermark - LAG - timedelta(minutes=1), run)
    assert recall(naive, truth) < 1.0
    assert recall(ours, truth) == 1.0


def test_the_wrong_date_property_finds_nothing_and_says_nothing(
    client: Client, simulator: HubSpotSimulator
) -> None:
    simulator.clock.advance(LAG.total_seconds())

    def contacts(name: str) -> set[str]:
        filters = [{"propertyName": name, "operator": "GTE", "value": "0"}]
        found = client.post("/crm/objects/2026-09/contacts/search", {"filterGroups": [{"filters": filters}]})
        return {item["id"] for item in found["results"]}

    assert recall(contacts("hs_lastmodifieddate"), {"1", "2", "3"}) == 0.0
    assert recall(contacts("lastmodifieddate"), {"1", "2", "3"}) == 1.0


def test_without_the_archived_list_what_is_gone_stays_alive(
    client: Client, simulator: HubSpotSimulator
) -> None:
    simulator.clock.advance(60)
    for key in ("9", "10", "11"):
        simulator.archive(ORGANISATIONS, key)
    simulator.purge(ORGANISATIONS, "12")
    simulator.merge(ORGANISATIONS, "13", "14")
    simulator.clock.advance(LAG.total_seconds())
    gone = {"9", "10", "11", "12", "14"}
    # Whoever keeps a copy by changes alone sees the winner of the merge, and of those that are gone not one.
    changed = changed_since(client, NOON, simulator.clock.now())
    assert changed == {"13"}
    archived = {item["id"] for item in client.get(f"{LIST}?archived=true&limit=100")["results"]}
    assert recall(archived, gone) == 0.6
    (winner,) = client.post(
        f"{LIST}/batch/read", {"inputs": [{"id": "13"}], "properties": ["hs_merged_object_ids"]}
    )["results"]
    merged = set(winner["properties"]["hs_merged_object_ids"].split(";"))
    # Only a count of all ids tells that the last one was erased.
    assert recall(archived | merged, gone) == 0.8


def test_made_up_cursors_are_refused_where_cursors_are_opaque(simulator: HubSpotSimulator) -> None:
    simulator.cursor = "opaque"
    with hubspot(simulator) as client:
        assert client.refusal("GET", f"{LIST}?limit=100&after=108")[0] == 400


def test_who_reads_history_late_finds_only_the_end_of_it(simulator: HubSpotSimulator) -> None:
    simulator.history_cap = REAL_HISTORY_CAP
    simulator.index_lag = timedelta(0)
    late: set[str] = set()
    daily: set[str] = set()
    with hubspot(simulator) as client:

        def versions() -> set[str]:
            (one,) = client.get(f"{LIST}?limit=1&propertiesWithHistory=seats")["results"]
            return {version["value"] for version in one["propertiesWithHistory"]["seats"]}

        for day in range(10):
            for change in range(5):
                simulator.update(ORGANISATIONS, "9", {"seats": str(100 * day + change)})
            simulator.clock.advance(86_400)
            daily |= versions()
        late = versions()
    truth = {"9"} | {str(100 * day + change) for day in range(10) for change in range(5)}
    assert recall(late, truth) == 20 / 51
    assert recall(daily, truth) == 1.0


def test_who_does_not_read_the_errors_of_a_207_takes_records_for_gone(
    client: Client, simulator: HubSpotSimulator
) -> None:
    simulator.faults.add(Fault(FaultKind.PARTIAL, path="POST", times=1))
    inputs = [{"id": str(number)} for number in range(9, 18)]
    answer = client.post(f"{LIST}/batch/read", {"inputs": inputs})
    found = {item["id"] for item in answer["results"]}
    assert recall(found, {item["id"] for item in inputs}) < 1.0
    again = [{"id": key} for error in answer["errors"] for key in error["context"]["ids"]]
    found |= {item["id"] for item in client.post(f"{LIST}/batch/read", {"inputs": again})["results"]}
    assert recall(found, {item["id"] for item in inputs}) == 1.0
