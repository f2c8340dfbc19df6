"""What people do to a portal, and what a reader can and cannot see of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline_tests.demo.portal import NOON, ORGANISATIONS, Client, account, hubspot, still

LIST = f"/crm/objects/2026-09/{ORGANISATIONS}"
PAIR = f"/crm/associations/2026-09/contacts/{ORGANISATIONS}"


@pytest.fixture
def simulator() -> HubSpotSimulator:
    return HubSpotSimulator(account(organisations=5), clock=still())


@pytest.fixture
def client(simulator: HubSpotSimulator) -> Iterator[Client]:
    with hubspot(simulator) as client:
        yield client


def read(client: Client, key: str, archived: bool = False) -> dict | None:
    body = {
        "inputs": [{"id": key}],
        "properties": ["name", "seats", "hs_merged_object_ids"],
        "propertiesWithHistory": ["seats"],
    }
    results = client.post(f"{LIST}/batch/read?archived={str(archived).lower()}", body)["results"]
    return results[0] if results else None


def linked(client: Client, contact: str) -> list[str]:
    results = client.post(f"{PAIR}/batch/read", {"inputs": [{"id": contact}]})["results"]
    return [to["toObjectId"] for result in results for to in result["to"]]


def found(client: Client, key: str) -> bool:
    filters = [{"propertyName": "hs_object_id", "operator": "EQ", "value": key}]
    return client.post(f"{LIST}/search", {"filterGroups": [{"filters": filters}]})["total"] == 1


def test_a_created_record_has_the_next_id_a_history_and_the_time(
    client: Client, simulator: HubSpotSimulator
) -> None:
    new = simulator.create(ORGANISATIONS, {"name": "New", "seats": "3"})
    item = read(client, "14")
    assert new.id == "14"
    assert item is not None
    assert (item["createdAt"], item["updatedAt"]) == ("2026-10-31T12:00:00.000Z",) * 2
    assert item["propertiesWithHistory"]["seats"] == [
        {
            "value": "3",
            "timestamp": "2026-10-31T12:00:00.000Z",
            "sourceType": "CRM_UI",
            "sourceId": "simulator",
        }
    ]


def test_an_update_adds_a_version_and_bumps_last_modified(
    client: Client, simulator: HubSpotSimulator
) -> None:
    simulator.update(ORGANISATIONS, "9", {"seats": "50", "name": "Organisation 9"})
    item = read(client, "9")
    assert item is not None
    assert item["properties"]["hs_lastmodifieddate"] == item["updatedAt"] == "2026-10-31T12:00:00.000Z"
    assert [version["value"] for version in item["propertiesWithHistory"]["seats"]] == ["50", "9"]
    assert "name" not in simulator.account.records[ORGANISATIONS]["9"].history


def test_a_value_without_recorded_versions_was_there_from_the_beginning(
    client: Client, simulator: HubSpotSimulator
) -> None:
    untouched = simulator.account.records[ORGANISATIONS]["9"]
    untouched.history.clear()
    item = read(client, "9")
    assert item is not None
    assert [(v["value"], v["timestamp"]) for v in item["propertiesWithHistory"]["seats"]] == [
        ("9", item["createdAt"])
    ]
    simulator.update(ORGANISATIONS, "9", {"seats": "10"})
    item = read(client, "9")
    assert item is not None
    assert [version["value"] for version in item["propertiesWithHistory"]["seats"]] == ["10", "9"]


def test_archiving_and_restoring_do_not_bump_last_modified(
    client: Client, simulator: HubSpotSimulator
) -> None:
    before = read(client, "9")
    assert before is not None
    simulator.archive(ORGANISATIONS, "9")
    assert read(client, "9") is None
    assert not found(client, "9")
    binned = read(client, "9", archived=True)
    assert binned is not None
    assert (binned["updatedAt"], binned["archivedAt"]) == (before["updatedAt"], "2026-10-31T12:00:00.000Z")
    simulator.restore(ORGANISATIONS, "9")
    assert read(client, "9") == before


def test_a_merge_leaves_only_the_winner_which_names_all_losers(
    client: Client, simulator: HubSpotSimulator
) -> None:
    simulator.update(ORGANISATIONS, "11", {"name": None})
    simulator.merge(ORGANISATIONS, "10", "9")
    simulator.clock.advance(60)
    winner = simulator.merge(ORGANISATIONS, "11", "10")
    assert winner.merged_ids == ["10", "9"]
    item = read(client, "11")
    assert item is not None
    assert item["properties"]["hs_merged_object_ids"] == "10;9"
    assert item["properties"]["name"] == "Organisation 10"
    assert item["updatedAt"] == "2026-10-31T12:01:00.000Z"
    for loser in ("9", "10"):
        assert read(client, loser) is None
        assert read(client, loser, archived=True) is None
    assert linked(client, "1") == ["11"]
    assert simulator.account.associations[ORGANISATIONS, "contacts"][0][:2] == ("11", "1")


def test_a_purged_record_is_nowhere_and_its_id_is_not_given_again(
    client: Client, simulator: HubSpotSimulator
) -> None:
    simulator.purge(ORGANISATIONS, "13")
    assert read(client, "13") is None
    assert read(client, "13", archived=True) is None
    assert simulator.create(ORGANISATIONS, {}).id == "14"
    simulator.purge("contacts", "1")
    assert simulator.account.associations == {
        ("contacts", ORGANISATIONS): [],
        (ORGANISATIONS, "contacts"): [],
    }


def test_linking_and_unlinking_do_not_bump_last_modified(client: Client, simulator: HubSpotSimulator) -> None:
    before = read(client, "12")
    simulator.associate("contacts", "2", ORGANISATIONS, "12", type_id=279, reverse_type_id=280)
    assert linked(client, "2") == ["12"]
    simulator.dissociate("contacts", "2", ORGANISATIONS, "12")
    assert linked(client, "2") == []
    assert (ORGANISATIONS, "contacts") in simulator.account.associations
    assert read(client, "12") == before


def test_changes_to_records_that_do_not_exist_are_refused(simulator: HubSpotSimulator) -> None:
    for change in (
        lambda: simulator.update(ORGANISATIONS, "1", {}),
        lambda: simulator.archive(ORGANISATIONS, "1"),
        lambda: simulator.restore(ORGANISATIONS, "1"),
        lambda: simulator.merge(ORGANISATIONS, "9", "1"),
        lambda: simulator.purge(ORGANISATIONS, "1"),
        lambda: simulator.create(ORGANISATIONS, {}, record_id="9"),
    ):
        with pytest.raises(KeyError):
            change()
    with pytest.raises(ValueError, match="into itself"):
        simulator.merge(ORGANISATIONS, "9", "9")
    assert simulator.account.records[ORGANISATIONS]["9"].updated_at < NOON
