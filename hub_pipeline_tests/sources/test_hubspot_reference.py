"""Owners, teams, users, pipelines and lists of a portal, over real HTTP into a real warehouse."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline.settings import Settings
from hub_pipeline.sources import hubspot
from hub_pipeline_tests.demo.portal import account, still
from hub_pipeline_tests.sources.reading import ORGANISATIONS, reading, settings_with

TEAMS = {
    "cs": {"id": "5", "name": "Customer Success", "primary": True},
    "emea": {"id": "6", "name": "EMEA", "primary": False},
    "apac": {"id": "7", "name": "APAC", "primary": False},
}


def stage(name: str) -> dict[str, object]:
    metadata = {"probability": "0.5", "isClosed": "false"}
    return {"id": name, "label": name.title(), "displayOrder": 0, "metadata": metadata}


def test_people_pipelines_and_lists_are_read_with_all_their_past(tmp_path: Path) -> None:
    portal = account(organisations=5, contacts=300)
    portal.owners[0]["teams"] = [TEAMS["cs"], TEAMS["emea"]]
    portal.pipelines["deals"][0]["stages"] = [stage("planned"), stage("legal"), stage("won"), stage("lost")]
    portal.pipelines["deals"][0]["stages"] += [stage("talking"), stage("sent")]
    simulator = HubSpotSimulator(portal, clock=still())
    simulator.create_list("55", "Champions", "contacts", map(str, range(1, 301)))
    simulator.create_list("56", "Board", ORGANISATIONS, ["9", "10"])
    settings = settings_with(
        objects={"organisations": {"object_type": ORGANISATIONS}, "deals": {"object_type": "0-3"}},
        associations=[],
        lists=["55", "56", "999"],
    )
    assert set(hubspot.object_names(settings)) >= {"users", "lists", "list_memberships"}
    current = "SELECT {} FROM raw_hubspot.{}_current WHERE _deleted_at IS NULL ORDER BY ALL"

    with reading(hubspot, simulator, tmp_path, settings, max_shrink=0.2) as loaded:
        # Deactivated owners too, and every team of an owner.
        assert loaded.rows(current.format("id, archived, teams", "owners")) == [
            ("70", False, "Customer Success"),
            ("71", True, None),
        ]
        assert loaded.rows(current.format("owner_id, team_id, team_name, is_primary", "owner_teams")) == [
            ("70", "5", "Customer Success", True),
            ("70", "6", "EMEA", False),
        ]
        users = current.format("id, email, primary_team_id, secondary_team_ids", "users")
        assert loaded.rows(users) == [("170", "o@example.com", "5", ["6", "7"])]
        assert loaded.rows(current.format("id, name, object_type_id", "lists")) == [
            ("55", "Champions", "0-1"),
            ("56", "Board", ORGANISATIONS),
        ]
        members = current.format("list_id, count(*)", "list_memberships").replace("ORDER", "GROUP BY 1 ORDER")
        assert loaded.rows(members) == [("55", 300), ("56", 2)]
        for name in ("lists", "list_memberships"):
            assert loaded.results[name].message == "the portal does not have the list 999"

    portal.owners[0]["teams"] = [TEAMS["cs"] | {"name": "Success"}, TEAMS["apac"]]
    portal.pipelines["deals"][0]["stages"] = [
        one | {"label": "In talks"} if one["id"] == "talking" else one
        for one in portal.pipelines["deals"][0]["stages"]
        if one["id"] != "legal"
    ]
    simulator.set_members("55", ["1", "2"])
    simulator.delete_list("56")
    tomorrow = date(2026, 11, 1)
    with reading(hubspot, simulator, tmp_path, settings, day=tomorrow, max_shrink=0.2) as loaded:
        # Lists and teams may be emptied; the shrink guard is for records.
        assert loaded.rows(members) == [("55", 2)]
        assert loaded.rows(current.format("id", "lists")) == [("55",)]
        assert loaded.rows(current.format("team_id, team_name", "owner_teams")) == [
            ("5", "Success"),
            ("7", "APAC"),
        ]
        left = "SELECT DISTINCT _deleted_at FROM raw_hubspot.list_memberships_current WHERE record_id = '9'"
        assert str(loaded.column(left)[0]).startswith("2026-11-01 23:59:59")
        stages = (
            "SELECT stage_label, _deleted_at IS NOT NULL FROM raw_hubspot.pipelines "
            "WHERE stage_id IN ('legal', 'talking') ORDER BY stage_id, _run_id"
        )
        assert loaded.rows(stages) == [
            ("Legal", False),
            ("Legal", True),
            ("Talking", False),
            ("In talks", False),
        ]


def test_any_object_is_read_under_the_name_the_settings_give_it_with_all_or_chosen_properties(
    tmp_path: Path,
) -> None:
    simulator = HubSpotSimulator(
        account(organisations=2), custom_objects={"2-77": ("gadget", "Gadget", "Gadgets")}
    )
    for name in ("serial", "owner", "price", "notes_about_people", "hs_merged_object_ids"):
        simulator.create_property("2-77", name)
    simulator.create("2-77", {"serial": "1", "owner": "2", "price": "3", "notes_about_people": "4"})
    simulator.create_property("line_items", "quantity")
    simulator.create("line_items", {"quantity": "5"})
    objects = {
        "gadgets": {"object_type": "2-77"},
        "some_of_them": {
            "object_type": "p8443689_gadget",
            "read_properties": ["serial"],
            "properties": {"owner_id": "owner"},
            "history": ["price"],
        },
        "line_items": {"object_type": "0-8"},
    }
    settings = settings_with(objects=objects, associations=[], users=False)
    with reading(hubspot, simulator, tmp_path, settings) as loaded:
        everything = "SELECT serial, owner, price, notes_about_people FROM raw_hubspot.gadgets"
        assert loaded.rows(everything) == [("1", "2", "3", "4")]
        assert loaded.rows("SELECT serial, owner, price FROM raw_hubspot.some_of_them") == [("1", "2", "3")]
        chosen = set(loaded.streams["some_of_them"].columns)
        assert "hs_merged_object_ids" in chosen
        assert "notes_about_people" not in chosen
        # What was left out is known all the same.
        known = "SELECT name FROM raw_hubspot.properties WHERE object = 'some_of_them'"
        assert "notes_about_people" in loaded.column(known)
        assert loaded.column("SELECT quantity FROM raw_hubspot.line_items") == ["5"]
        assert "users" not in loaded.results


def test_the_objects_of_the_defaults_are_those_of_the_design() -> None:
    objects = Settings().hubspot.objects
    assert set(objects) >= {
        "organisations", "companies", "contacts", "deals", "tickets", "line_items", "notes", "tasks", "emails",
        "calls", "meetings", "communications", "feedback_submissions",
    }  # fmt: skip
    needed = {name for name, config in objects.items() if not config.optional}
    assert needed == {"organisations", "contacts", "deals"}
