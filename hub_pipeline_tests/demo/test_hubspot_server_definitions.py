"""What a portal has beside plain lists of records: properties that change, lists, users, other ways to name a record."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from hub_pipeline.demo.faults import Fault, FaultKind
from hub_pipeline.demo.hubspot_server import REAL_HISTORY_CAP, HubSpotSimulator
from hub_pipeline_tests.demo.portal import ORGANISATIONS, Client, account, hubspot, still

LIST = f"/crm/objects/2026-09/{ORGANISATIONS}"
CONTACTS = "/crm/objects/2026-09/contacts"
DEFINITIONS = f"/crm/properties/2026-09/{ORGANISATIONS}"
SEGMENT = "/crm/lists/2026-09/55"


@pytest.fixture
def simulator() -> HubSpotSimulator:
    return HubSpotSimulator(account(organisations=12, contacts=260), clock=still())


@pytest.fixture
def client(simulator: HubSpotSimulator) -> Iterator[Client]:
    with hubspot(simulator) as client:
        yield client


def names(client: Client, query: str = "") -> list[str]:
    return [item["name"] for item in client.get(f"{DEFINITIONS}{query}")["results"]]


def test_properties_come_go_and_change_without_any_record_being_modified(
    client: Client, simulator: HubSpotSimulator
) -> None:
    before = [item["updatedAt"] for item in client.get(f"{LIST}?properties=seats")["results"]]
    simulator.clock.advance(60)
    simulator.create_property(ORGANISATIONS, "Seats", kind="number")
    simulator.create_property(ORGANISATIONS, "select")
    simulator.retype_property(ORGANISATIONS, "name", "number")
    simulator.relabel_property(ORGANISATIONS, "name", "Number of it")
    simulator.set_options(ORGANISATIONS, "name", ["1", "2"])
    simulator.archive_property(ORGANISATIONS, "seats")
    assert names(client) == ["name", "hs_merged_object_ids", "Seats", "select"]
    assert names(client, "?archived=true") == ["seats"]
    (name,) = [item for item in client.get(DEFINITIONS)["results"] if item["name"] == "name"]
    assert (name["type"], name["label"]) == ("number", "Number of it")
    assert [option["value"] for option in name["options"]] == ["1", "2"]
    page = client.get(f"{LIST}?properties=seats,name")["results"]
    assert [item["updatedAt"] for item in page] == before
    assert "seats" not in page[0]["properties"]
    assert page[0]["properties"]["name"] == "Organisation 9"


def test_a_property_made_anew_under_an_old_name_is_empty(client: Client, simulator: HubSpotSimulator) -> None:
    with pytest.raises(KeyError, match="already has a property seats"):
        simulator.create_property(ORGANISATIONS, "seats")
    simulator.archive_property(ORGANISATIONS, "seats")
    with pytest.raises(KeyError, match="no property seats"):
        simulator.archive_property(ORGANISATIONS, "seats")
    simulator.create_property(ORGANISATIONS, "seats", kind="number")
    assert client.get(f"{LIST}?properties=seats")["results"][0]["properties"]["seats"] is None


def test_members_of_a_list_are_paged_by_id_and_keep_the_time_they_joined(
    client: Client, simulator: HubSpotSimulator
) -> None:
    simulator.create_list("55", "Champions", "contacts", map(str, range(1, 258)))
    simulator.clock.advance(3600)
    simulator.set_members("55", map(str, range(2, 261)))
    simulator.archive("contacts", "3")
    simulator.purge("contacts", "4")
    assert client.get(SEGMENT)["list"]["name"] == "Champions"
    assert client.get(SEGMENT)["list"]["objectTypeId"] == "0-1"
    first = client.get(f"{SEGMENT}/memberships?limit=250")
    after = first["paging"]["next"]["after"]
    second = client.get(f"{SEGMENT}/memberships?limit=250&after={after}")
    assert "paging" not in second
    members = {row["recordId"]: row["membershipTimestamp"] for row in first["results"] + second["results"]}
    assert list(members) == ["2", *map(str, range(5, 261))]
    assert members["2"] == "2026-10-31T12:00:00.000Z"
    assert members["260"] == "2026-10-31T13:00:00.000Z"
    assert client.refusal("GET", f"{SEGMENT}/memberships?limit=251")[0] == 400
    simulator.delete_list("55")
    assert client.refusal("GET", f"{SEGMENT}/memberships")[0] == 404


def test_users_are_paged_and_need_a_scope_of_their_own(client: Client, simulator: HubSpotSimulator) -> None:
    simulator.account.users = [{"id": str(n), "email": f"u{n}@example.com"} for n in range(103)]
    first = client.get("/settings/users/2026-09")
    second = client.get(f"/settings/users/2026-09?after={first['paging']['next']['after']}")
    assert [item["id"] for item in second["results"]] == ["100", "101", "102"]
    for area, path in (
        ("settings.users", "/settings/users/2026-09"),
        ("owners", "/crm/owners/2026-09"),
        ("lists", SEGMENT),
    ):
        simulator.forbidden = {area: [f"{area}.read"]}
        status, error = client.refusal("GET", path)
        assert (status, error["errors"][0]["context"]["requiredScopes"]) == (403, [f"{area}.read"])
        client.get(LIST)


def test_a_record_is_found_by_its_id_or_by_a_unique_property(
    client: Client, simulator: HubSpotSimulator
) -> None:
    assert client.get(f"{CONTACTS}/2?properties=email")["properties"]["email"] == "p2@example.com"
    assert client.get(f"{CONTACTS}/P2@example.com?idProperty=email")["id"] == "2"
    body = {"inputs": [{"id": "p3@example.com"}, {"id": "nobody@example.com"}], "idProperty": "email"}
    answer = client.ask("POST", f"{CONTACTS}/batch/read", body)
    assert answer.status == 207
    assert [item["id"] for item in answer.json()["results"]] == ["3"]
    assert answer.json()["errors"][0]["context"] == {"ids": ["nobody@example.com"]}


def test_a_contact_that_was_erased_is_found_nowhere(client: Client, simulator: HubSpotSimulator) -> None:
    simulator.purge("contacts", "2")
    assert client.refusal("GET", f"{CONTACTS}/2")[0] == 404
    assert client.refusal("GET", f"{CONTACTS}/2?archived=true")[0] == 404
    assert client.get(f"{CONTACTS}?archived=true")["results"] == []
    assert client.get("/crm/limits/2026-09/records")["hubspotDefinedObjectTypes"][0]["usage"] == 259


def test_associations_inside_of_a_list_are_cut_at_a_hundred(
    client: Client, simulator: HubSpotSimulator
) -> None:
    for number in range(1, 141):
        simulator.associate("contacts", str(number), ORGANISATIONS, "12")
    page = client.get(f"{LIST}?associations=contacts&limit=100")["results"]
    found = {item["id"]: item["associations"] for item in page}
    assert found["11"] == {}
    assert {row["id"] for row in found["9"]["contacts"]["results"]} == {"1"}
    assert len({row["id"] for row in found["12"]["contacts"]["results"]}) == 100
    assert found["12"]["contacts"]["paging"]["next"]["after"] == "100"


def test_an_opaque_cursor_cannot_be_made_up_and_grows_old(simulator: HubSpotSimulator) -> None:
    simulator.cursor, simulator.cursor_lifetime = "opaque", timedelta(minutes=10)
    with hubspot(simulator) as client:
        after = client.get(f"{LIST}?limit=5")["paging"]["next"]["after"]
        assert not after.isdigit()
        assert len(client.get(f"{LIST}?limit=5&after={after}")["results"]) == 5
        assert client.refusal("GET", f"{LIST}?limit=5&after=13")[0] == 400
        simulator.clock.advance(601)
        status, error = client.refusal("GET", f"{LIST}?limit=5&after={after}")
        assert (status, error["message"]) == (400, "The after cursor has expired")


def test_old_versions_of_a_property_are_forgotten_as_the_real_portal_does(
    simulator: HubSpotSimulator,
) -> None:
    simulator.history_cap = REAL_HISTORY_CAP
    for number in range(50):
        simulator.clock.advance(60)
        simulator.update(ORGANISATIONS, "9", {"seats": str(1000 + number)})
        simulator.update("contacts", "1", {"email": f"p{number}@example.org"})
    with hubspot(simulator) as client:
        (one,) = client.get(f"{LIST}?limit=1&propertiesWithHistory=seats")["results"]
        assert [v["value"] for v in one["propertiesWithHistory"]["seats"]] == [
            str(n) for n in range(1049, 1029, -1)
        ]
        (one,) = client.get(f"{CONTACTS}?limit=1&propertiesWithHistory=email")["results"]
        assert len(one["propertiesWithHistory"]["email"]) == 45


def test_cursors_can_lead_back_and_batches_can_fail_in_part(
    client: Client, simulator: HubSpotSimulator
) -> None:
    simulator.faults.add(Fault(FaultKind.CURSOR_BACK, path=f"GET {LIST}", first=3))
    first = client.get(f"{LIST}?limit=3")["paging"]["next"]["after"]
    second = client.get(f"{LIST}?limit=3&after={first}")["paging"]["next"]["after"]
    assert client.get(f"{LIST}?limit=3&after={second}")["paging"]["next"]["after"] == first
    simulator.faults.clear()
    simulator.faults.add(Fault(FaultKind.PARTIAL, path="POST"))
    inputs = [{"id": str(number)} for number in range(9, 13)]
    answer = client.ask("POST", f"{LIST}/batch/read", {"inputs": inputs})
    assert (answer.status, [item["id"] for item in answer.json()["results"]]) == (207, ["10", "11"])
    assert answer.json()["errors"][0]["context"]["ids"] == ["9", "12"]
    pair = f"/crm/associations/2026-09/contacts/{ORGANISATIONS}/batch/read"
    answer = client.post(pair, {"inputs": [{"id": "1"}, {"id": "2"}]})
    assert [error["context"]["fromObjectId"] for error in answer["errors"]] == [["1"], ["2"]]
