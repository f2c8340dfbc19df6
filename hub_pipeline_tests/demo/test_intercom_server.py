"""The Intercom simulator over real HTTP: it answers as Intercom does, and every rule of the API bites."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hub_pipeline.demo.intercom_server import IntercomSimulator
from hub_pipeline_tests.demo.portal import NOON, POOL, Client, intercom, still, workspace

ALL = {"field": "updated_at", "operator": ">", "value": 0}
NOW = int(NOON.timestamp())


@pytest.fixture
def simulator() -> IntercomSimulator:
    return IntercomSimulator(workspace(), clock=still())


@pytest.fixture
def client(simulator: IntercomSimulator) -> Iterator[Client]:
    with intercom(simulator) as client:
        yield client


def read_all(
    client: Client, path: str, key: str, per_page: int | None = None, **body: Any
) -> list[list[str]]:
    found, pagination = [], {} if per_page is None else {"per_page": per_page}
    while True:
        page = client.post(path, {"query": ALL, "pagination": pagination, **body})
        found.append([item["id"] for item in page[key]])
        if "next" not in page["pages"]:
            return found
        pagination = {**pagination, "starting_after": page["pages"]["next"]["starting_after"]}


def contacts_when(client: Client, operator: str, at: datetime) -> list[str]:
    query = {"field": "updated_at", "operator": operator, "value": int(at.timestamp())}
    return sorted(item["id"] for item in client.post("/contacts/search", {"query": query})["data"])


# ---- searches -------------------------------------------------------------------------------------------------------


def test_conversations_come_twenty_a_page_and_at_most_a_hundred_and_fifty(client: Client) -> None:
    pages = read_all(client, "/conversations/search", "conversations")
    assert [len(page) for page in pages] == [20, 20, 5]
    assert [item for page in pages for item in page] == [str(n) for n in range(1, 46)]
    assert [len(page) for page in read_all(client, "/conversations/search", "conversations", 150)] == [45]
    too_many = {"query": ALL, "pagination": {"per_page": 151}}
    assert client.refusal("POST", "/conversations/search", too_many)[0] == 400


def test_a_conversation_search_has_no_parts_and_the_conversation_itself_has_the_latest_500(
    client: Client, simulator: IntercomSimulator
) -> None:
    parts = [{"type": "conversation_part", "id": str(n)} for n in range(700)]
    simulator.workspace.conversations["1"]["conversation_parts"] |= {
        "conversation_parts": parts,
        "total_count": 700,
    }
    found = client.post("/conversations/search", {"query": ALL})["conversations"]
    assert all("conversation_parts" not in item for item in found)
    shown = client.get("/conversations/1")["conversation_parts"]
    assert [part["id"] for part in shown["conversation_parts"]] == [str(n) for n in range(200, 700)]
    assert shown["total_count"] == 700
    assert client.refusal("GET", "/conversations/999")[0] == 404


def test_conversation_dates_are_exact_to_the_second(client: Client) -> None:
    query = {"field": "updated_at", "operator": ">", "value": NOW - 120}
    assert [
        item["id"] for item in client.post("/conversations/search", {"query": query})["conversations"]
    ] == ["1", "2"]


def test_numbers_of_contacts_compare_strictly(client: Client, simulator: IntercomSimulator) -> None:
    for key, contact in simulator.workspace.contacts.items():
        contact["custom_attributes"] = {"nps": int(key)}
    for operator, expected in ((">", {"4", "5"}), (">=", {"3", "4", "5"}), ("<", {"1", "2"}), ("=", {"3"})):
        query = {"field": "custom_attributes.nps", "operator": operator, "value": 3}
        found = client.post("/contacts/search", {"query": query})["data"]
        assert {item["id"] for item in found} == expected


def test_nested_fields_and_groups_are_searched(client: Client) -> None:
    rated = {"field": "conversation_rating.score", "operator": "=", "value": 2}
    early = {"field": "updated_at", "operator": "<", "value": NOW - 60 * 20}
    query = {"operator": "AND", "value": [rated, {"operator": "OR", "value": [early, early]}]}
    answer = client.post("/conversations/search", {"query": query})
    assert [item["id"] for item in answer["conversations"]] == ["21", "31", "41"]
    deep = {
        "operator": "AND",
        "value": [{"operator": "OR", "value": [{"operator": "AND", "value": [rated]}]}],
    }
    assert client.refusal("POST", "/conversations/search", {"query": deep})[0] == 400
    many = {"operator": "OR", "value": [rated] * 16}
    assert client.refusal("POST", "/conversations/search", {"query": many})[0] == 400


def test_contacts_come_fifty_a_page() -> None:
    with intercom(IntercomSimulator(workspace(contacts=120))) as client:
        query = {"field": "role", "operator": "=", "value": "user"}
        assert [len(page) for page in read_all(client, "/contacts/search", "data", query=query)] == [
            50,
            50,
            20,
        ]


def test_dates_of_contacts_are_days_of_the_workspaces_time_zone() -> None:
    zone = ZoneInfo("America/Los_Angeles")
    simulator = IntercomSimulator(workspace(contacts=3), time_zone="America/Los_Angeles")
    evening, midnight = datetime(2026, 10, 30, 23, 59, 59, tzinfo=zone), datetime(2026, 10, 31, tzinfo=zone)
    for key, at in (("1", evening), ("2", midnight), ("3", midnight + timedelta(days=1))):
        simulator.workspace.contacts[key]["updated_at"] = int(at.timestamp())
    with intercom(simulator) as client:
        for hour in (0, 9, 23):
            at = midnight + timedelta(hours=hour)
            assert contacts_when(client, "=", at) == ["2"]
            assert contacts_when(client, ">", at) == ["3"]
            assert contacts_when(client, "<", at) == ["1"]
        for operator in (">=", "<=", "!=", "IN"):
            query = {"field": "updated_at", "operator": operator, "value": NOW}
            assert client.refusal("POST", "/contacts/search", {"query": query})[0] == 400


def test_a_changed_contact_takes_a_while_to_be_found() -> None:
    simulator = IntercomSimulator(workspace(), clock=still(), index_lag=timedelta(seconds=3))
    with intercom(simulator) as client:
        query = {"field": "role", "operator": "=", "value": "user"}
        (found,) = read_all(client, "/contacts/search", "data", query=query)
        assert found == ["3", "4", "5"]


# ---- companies ------------------------------------------------------------------------------------------------------


def test_a_contact_shows_ten_companies_and_the_rest_by_pages() -> None:
    simulator = IntercomSimulator(workspace(contacts=1, companies=130))
    simulator.workspace.contacts["1"]["companies"] = {
        "data": [{"type": "company", "id": f"c{n}"} for n in range(1, 131)]
    }
    with intercom(simulator) as client:
        query = {"field": "role", "operator": "=", "value": "user"}
        (contact,) = client.post("/contacts/search", {"query": query})["data"]
        assert (len(contact["companies"]["data"]), contact["companies"]["has_more"]) == (10, True)
        assert (contact["companies"]["total_count"], contact["companies"]["url"]) == (
            130,
            "/contacts/1/companies",
        )
        path, found = "/contacts/1/companies", []
        while path:
            page = client.get(path)
            found.append([item["name"] for item in page["data"]])
            path = page["pages"]["next"]
        assert [len(names) for names in found] == [50, 50, 30]
        assert found[0][0] == "Company 1"


def test_the_scroll_gives_every_company_and_ends_with_an_empty_page() -> None:
    with intercom(IntercomSimulator(workspace(companies=250))) as client:
        page = client.get("/companies/scroll")
        scroll, sizes = page["scroll_param"], [len(page["data"])]
        while page["data"]:
            page = client.get(f"/companies/scroll?scroll_param={scroll}")
            sizes.append(len(page["data"]))
        assert sizes == [100, 100, 50, 0]
        assert client.ask("GET", f"/companies/scroll?scroll_param={scroll}").status == 404
        assert client.ask("GET", "/companies/scroll").status == 200


def test_only_one_scroll_may_be_open_and_it_expires_when_idle(
    client: Client, simulator: IntercomSimulator
) -> None:
    scroll = client.get("/companies/scroll")["scroll_param"]
    status, error = client.refusal("GET", "/companies/scroll")
    assert (status, error["errors"][0]["code"]) == (400, "scroll_exists")
    simulator.clock.advance(59)
    client.get(f"/companies/scroll?scroll_param={scroll}")
    simulator.clock.advance(61)
    assert client.refusal("GET", f"/companies/scroll?scroll_param={scroll}")[0] == 404
    client.get("/companies/scroll")


def test_a_scroll_can_break_off_and_be_begun_again(client: Client, simulator: IntercomSimulator) -> None:
    simulator.scroll_breaks = 1
    scroll = client.get("/companies/scroll")["scroll_param"]
    assert client.refusal("GET", f"/companies/scroll?scroll_param={scroll}")[0] == 500
    scroll = client.get("/companies/scroll")["scroll_param"]
    assert client.get(f"/companies/scroll?scroll_param={scroll}")["data"] == []


# ---- the rest -------------------------------------------------------------------------------------------------------


def test_deleted_conversations_are_listed_and_gone(client: Client, simulator: IntercomSimulator) -> None:
    for key in ("3", "4", "5"):
        simulator.life.delete_conversation(key)
        simulator.clock.advance(60)
    page = client.get("/conversations/deleted?per_page=2")
    assert [item["id"] for item in page["conversations"]] == ["5", "4"]
    assert (page["total_count"], page["pages"]["total_pages"]) == (3, 2)
    assert page["conversations"][1]["deleted_at"] == NOW + 60
    assert [i["id"] for i in client.get("/conversations/deleted?order=asc&page=1")["conversations"]] == [
        "3",
        "4",
        "5",
    ]
    assert client.refusal("GET", "/conversations/deleted?per_page=61")[0] == 400
    assert client.refusal("GET", "/conversations/3")[0] == 404


def test_admins_and_me(client: Client) -> None:
    assert client.get("/admins")["admins"][0]["name"] == "Ada"
    me = client.get("/me")
    assert (me["name"], me["app"]["timezone"]) == ("Ada", "UTC")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/nowhere", {}, 404),
        ("POST", "/me", {}, 405),
        ("GET", "/contacts/search", {}, 404),
        ("GET", "/me", {"authorization": "Bearer nonsense"}, 401),
        ("GET", "/me", {"authorization": ""}, 401),
        ("GET", "/me", {"intercom-version": "2.10"}, 400),
        ("GET", "/me", {"intercom-version": None}, 400),
        ("POST", "/contacts/search", {}, 400),
        ("GET", "/companies/scroll?scroll_param=unknown", {}, 404),
    ],
)
def test_what_intercom_refuses_is_refused_with_its_error_list(
    client: Client, method: str, path: str, headers: dict[str, str | None], status: int
) -> None:
    sent = {key: value for key, value in {**client.headers, **headers}.items() if value is not None}
    answer = POOL.request(method, client.base + path, headers=sent, body=b"{}" if method == "POST" else None)
    assert answer.status == status
    error = answer.json()
    assert error["type"] == "error.list"
    assert error["request_id"]
    assert error["errors"][0]["code"]


def test_limits_come_in_windows_of_ten_seconds_with_the_time_they_end(
    client: Client, simulator: IntercomSimulator
) -> None:
    simulator.per_10_seconds = 2
    assert [client.ask("GET", "/me").headers["X-RateLimit-Remaining"] for _ in range(2)] == ["1", "0"]
    answer = client.ask("GET", "/me")
    assert (answer.status, answer.json()["errors"][0]["code"]) == (429, "rate_limit_exceeded")
    assert answer.headers["X-RateLimit-Reset"] == str(NOW // 10 * 10 + 10)
    assert "Retry-After" not in answer.headers
    simulator.clock.advance(10)
    assert client.ask("GET", "/me").status == 200
