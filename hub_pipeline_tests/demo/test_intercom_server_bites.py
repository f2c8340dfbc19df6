"""Readers as they are often written lose records on the Intercom simulator; what is lost is counted here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hub_pipeline.demo.account import IntercomWorkspace
from hub_pipeline.demo.intercom_server import IntercomSimulator
from hub_pipeline_tests.demo.portal import Client, intercom, still

NIGHT = datetime(2026, 10, 30, 22, tzinfo=ZoneInfo("America/Los_Angeles"))


def simulator(**values: Any) -> IntercomSimulator:
    """A workspace in which twelve people write on an evening in California."""
    served = IntercomSimulator(
        IntercomWorkspace({}, {}, {}, {}), clock=still(NIGHT.astimezone(UTC)), **values
    )
    for number in range(12):
        served.clock.advance(60)
        served.life.add_company(f"c{number}")
        served.life.add_contact(f"p{number}")
        served.life.open_conversation(str(number), f"p{number}", f"c{number}")
        served.life.open_ticket(f"5{number}", f"p{number}")
    return served


def found(client: Client, name: str, key: str, field: str = "updated_at", *, after: int) -> set[str]:
    """One page of what a search finds after an instant."""
    query = {"field": field, "operator": ">", "value": after}
    body = {"query": query, "pagination": {"per_page": 150}}
    return {record["id"] for record in client.post(f"/{name}/search", body)[key]}


def test_a_cursor_in_seconds_loses_the_contacts_that_changed_on_its_own_day() -> None:
    served = simulator(time_zone="America/Los_Angeles")
    cursor = served.life.now
    served.clock.advance(600)
    served.life.change_contact("p1", name="Changed")
    with intercom(served) as client:
        assert found(client, "contacts", "data", after=cursor) == set()
        assert "p1" in found(client, "contacts", "data", after=cursor - 2 * 86_400)


def test_an_upper_bound_of_now_loses_everything_of_today() -> None:
    served = simulator(time_zone="America/Los_Angeles", days_of_utc=True)
    until = {"field": "updated_at", "operator": "<", "value": served.life.now + 60}
    with intercom(served) as client:
        assert client.post("/contacts/search", {"query": until})["total_count"] == 0


def test_the_companies_inside_a_contact_are_ten_of_them() -> None:
    served = simulator()
    for number in range(12):
        served.life.attach("p1", f"c{number}")
    with intercom(served) as client:
        query = {"field": "id", "operator": "=", "value": "p1"}
        (contact,) = client.post("/contacts/search", {"query": query})["data"]
        assert (len(contact["companies"]["data"]), contact["companies"]["total_count"]) == (10, 12)


def test_a_cursor_on_the_time_of_change_loses_ratings_that_leave_it_alone() -> None:
    served = simulator()
    cursor = served.life.now
    served.clock.advance(86_400)
    served.life.rate("3", 1, touch=False)
    served.life.rate("4", 5)
    with intercom(served) as client:
        assert found(client, "conversations", "conversations", after=cursor + 1) == {"4"}
        rated = found(
            client, "conversations", "conversations", "conversation_rating.replied_at", after=cursor + 1
        )
        assert rated == {"3", "4"}


def test_what_is_gone_is_in_no_list_and_only_conversations_say_so() -> None:
    served = simulator()
    served.life.delete_contact("p1")
    served.life.archive("p2")
    served.life.merge("p3", "p4")
    served.life.delete_ticket("51")
    served.life.delete_conversation("9")
    with intercom(served) as client:
        people = found(client, "contacts", "data", after=0)
        assert people == {f"p{n}" for n in range(12)} - {"p1", "p2", "p3"}
        assert "51" not in found(client, "tickets", "tickets", after=0)
        assert [gone["id"] for gone in client.get("/conversations/deleted")["conversations"]] == ["9"]
        assert client.refusal("GET", "/contacts/p1")[0] == 404
        assert client.get("/contacts/p2")["id"] == "p2"
        answer = client.ask("GET", "/contacts/p3")
        assert (answer.status, answer.headers["Link"]) == (410, '</contacts/p4>; rel="canonical"')
        query = {"query": {"field": "id", "operator": "=", "value": "p4"}}
        (plain,) = client.post("/contacts/search", query)["data"]
        (winner,) = client.post("/contacts/search?include_merge_history=true", query)["data"]
        assert "merge_history" not in plain
        assert [one["source_contact_id"] for one in winner["merge_history"]] == ["p3"]
        served.life.unarchive("p2")
        assert "p2" in found(client, "contacts", "data", after=0)


def test_a_search_shows_what_changed_only_after_a_while_and_the_old_state_till_then() -> None:
    served = simulator(index_lag=timedelta(minutes=5))
    served.clock.advance(3_600)
    served.life.change_contact("p1", name="Changed")
    served.life.add_contact("new")
    query = {"query": {"field": "id", "operator": "IN", "value": ["p1", "new"]}}
    with intercom(served) as client:
        assert [c["name"] for c in client.post("/contacts/search", query)["data"]] == ["Person p1"]
        served.clock.advance(301)
        assert {c["name"] for c in client.post("/contacts/search", query)["data"]} == {
            "Changed",
            "Person new",
        }


@pytest.mark.parametrize(
    ("version", "company", "status"), [("2.16", True, 200), ("2.15", True, 404), ("2.14", False, 404)]
)
def test_older_versions_of_the_api_tell_less(version: str, company: bool, status: int) -> None:
    with intercom(simulator()) as client:
        client.headers["intercom-version"] = version
        query = {"query": {"field": "updated_at", "operator": ">", "value": 0}}
        records = client.post("/conversations/search", query)["conversations"]
        assert all(("company" in record) is company for record in records)
        assert client.ask("GET", "/conversations/deleted").status == status


def test_a_search_may_ignore_the_order_it_is_asked_for() -> None:
    sort = {"field": "created_at", "order": "ascending"}
    for keeps, first in ((True, "0"), (False, "11")):
        with intercom(simulator(searches_sorted=keeps)) as client:
            query = {"field": "updated_at", "operator": ">", "value": 0}
            records = client.post("/conversations/search", {"query": query, "sort": sort})["conversations"]
            assert records[0]["id"] == first


def test_tickets_teams_and_tags_are_answered_without_the_parts_of_tickets() -> None:
    served = simulator()
    served.workspace.teams["t"] = {"type": "team", "id": "t", "name": "Support", "admin_ids": ["1"]}
    served.workspace.tags["g"] = {"type": "tag", "id": "g", "name": "urgent"}
    with intercom(served) as client:
        tickets = client.post("/tickets/search", {"query": {"field": "open", "operator": "=", "value": True}})
        assert tickets["total_count"] == 12
        assert all("ticket_parts" not in ticket for ticket in tickets["tickets"])
        assert client.get("/teams")["teams"][0]["name"] == "Support"
        assert client.get("/tags")["data"][0]["name"] == "urgent"
        unknown = {"query": {"field": "ticket_parts", "operator": "=", "value": 1}}
        assert client.refusal("POST", "/tickets/search", unknown)[0] == 400


def test_all_apps_of_a_workspace_share_its_limit() -> None:
    served = simulator()
    served.used_by_others = 4_165
    with intercom(served) as client:
        assert client.ask("GET", "/me").headers["X-RateLimit-Remaining"] == "0"
        assert client.ask("GET", "/me").status == 429
