"""Later runs ask for what changed, and notice what went without a trace."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hub_pipeline.demo import intercom_server
from hub_pipeline.demo.account import IntercomWorkspace
from hub_pipeline.demo.faults import Fault, FaultKind
from hub_pipeline.errors import SourceUnavailableError
from hub_pipeline.sources.intercom import client, searches
from hub_pipeline_tests.sources.intercom_world import LIVE, World, world

EXPIRED = json.dumps(
    {
        "type": "error.list",
        "errors": [{"code": "parameter_invalid", "message": "starting_after is not valid"}],
    }
).encode()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IntercomWorkspace]:
    """Three people, two companies, two conversations and a ticket of yesterday, read once."""
    folder = tmp_path_factory.mktemp("begun")
    with world(folder, time_zone="America/Los_Angeles") as told:
        for key in ("p1", "p2", "p3"):
            told.life.add_contact(key)
        for key in ("c1", "c2"):
            told.life.add_company(key)
        told.life.open_conversation("1", "p1", "c1")
        told.life.open_conversation("2", "p2")
        told.life.open_ticket("51", "p1", "org-c1")
        told.workspace.teams["t"] = {"type": "team", "id": "t", "name": "Support", "admin_ids": ["1"]}
        told.workspace.tags["g"] = {"type": "tag", "id": "g", "name": "urgent"}
        told.clock.advance(86_400)
        told.read()
        return folder, told.workspace


@pytest.fixture
def told(begun: tuple[Path, IntercomWorkspace], tmp_path: Path) -> Iterator[World]:
    """That workspace, three hours after it was read."""
    folder, workspace = begun
    shutil.copytree(folder, tmp_path / "data")
    with world(tmp_path / "data", copy.deepcopy(workspace), time_zone="America/Los_Angeles") as told:
        told.clock.advance(86_400 + 3 * 3_600)
        yield told


def test_a_second_run_reads_only_what_changed(told: World) -> None:
    told.clock.advance(86_400)
    told.life.change_contact("p2", name="Somebody else")
    told.life.reply("2", "71")
    with told.reading() as one:
        assert told.differences(one) == {}
        records = {name: told.results[name].records for name in ("contacts", "conversations", "tickets")}
        assert records == {"contacts": 1, "conversations": 1, "tickets": 0}
        assert told.results["conversation_parts"].records == 2
        inserted = {name: result.inserted for name, result in told.results.items() if result.inserted}
        assert inserted == {"contacts": 1, "conversations": 1, "conversation_parts": 1}
    assert told.requests("/conversations/{id}") == 1
    # One count and one search for contacts and tickets; conversations are searched for late ratings, too.
    assert (told.requests("/contacts/search"), told.requests("/tickets/search")) == (2, 2)
    assert told.requests("/conversations/search") == 3


@pytest.mark.slow
def test_what_changed_today_is_read_today_whatever_day_it_is_in_the_workspace(tmp_path: Path) -> None:
    for zone in ("America/Los_Angeles", "Pacific/Kiritimati"):
        for of_utc in (True, False):
            with world(tmp_path / zone[:4] / str(of_utc), time_zone=zone, days_of_utc=of_utc) as told:
                told.life.add_contact("p1")
                told.read()
                for hours in (5, 7, 13, 23):
                    told.clock.advance(hours * 3_600)
                    told.life.change_contact("p1", name=f"after {hours} hours")
                    with told.reading() as one:
                        assert told.differences(one) == {}
                assert told.results["contacts"].records == 1


def test_a_contact_that_was_deleted_is_noticed_by_counting(told: World) -> None:
    told.life.delete_contact("p3")
    with told.reading() as one:
        assert told.differences(one) == {}
        assert told.results["contacts_census"].deleted == 1
        assert told.results["contacts_census"].message == (
            "Intercom counted 2 and 3 were known, so all were listed"
        )
    told.read()
    assert "contacts_census" not in told.results


def test_one_that_goes_and_one_that_comes_are_told_apart(told: World) -> None:
    told.life.delete_contact("p3")
    told.life.delete_ticket("51")
    told.life.add_contact("p4")
    told.life.open_ticket("52", "p1")
    with told.reading() as one:
        assert told.differences(one) == {}


def test_what_comes_after_the_count_starts_no_second_list(
    told: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = told.life.searched
    asked: list[str] = []

    def and_then(name: str) -> list[dict[str, Any]]:
        asked.append(name)
        if asked.count("contacts") == 2 and name == "contacts":
            told.clock.advance(5)
            told.life.add_contact("p9")
        return searched(name)

    monkeypatch.setattr(told.life, "searched", and_then)
    with told.reading() as one:
        assert told.differences(one) == {}
    assert "contacts_census" not in told.results


@pytest.mark.slow
def test_an_archived_contact_goes_and_comes_back(told: World) -> None:
    told.life.archive("p3")
    with told.reading() as one:
        assert told.differences(one) == {}
    told.clock.advance(60)
    told.life.unarchive("p3")
    with told.reading() as one:
        assert told.differences(one) == {}
        assert one.rows("SELECT count(*) FROM raw_intercom.contacts WHERE id = 'p3'") == [(3,)]


def test_a_merged_contact_ends_in_the_one_it_became(told: World) -> None:
    told.life.merge("p1", "p2")
    told.clock.advance(60)
    told.life.merge("p2", "p3")
    with told.reading() as one:
        assert told.differences(one) == {}
        assert "contacts_census" not in told.results
        assert one.rows(
            f"SELECT id, _merged_into FROM raw_intercom.contacts_current WHERE NOT ({LIVE}) ORDER BY id"
        ) == [("p1", "p3"), ("p2", "p3")]
        merges = "SELECT loser_id, winner_id FROM raw_intercom.contact_merges ORDER BY loser_id"
        assert one.rows(merges) == [("p1", "p3"), ("p2", "p3")]


def test_a_deleted_conversation_is_named_by_the_list_of_deleted_ones(told: World) -> None:
    told.life.delete_conversation("1")
    with told.reading() as one:
        assert told.differences(one) == {}
        gone = "SELECT id FROM raw_intercom.conversations_current WHERE _deleted_at IS NOT NULL"
        assert one.rows(gone) == [("1",)]
        # The first reply of a message is what the person said; only what it was about is forgotten.
        assert one.rows(
            "SELECT count(*) FROM raw_intercom.conversation_parts WHERE conversation_id = '1'"
        ) == [(1,)]
    assert "conversations_census" not in told.results
    assert told.requests("/conversations/deleted") == 1


def test_a_rating_is_found_however_late_and_without_a_change_of_the_conversation(told: World) -> None:
    told.clock.advance(20 * 86_400)
    told.read()
    told.clock.advance(60)
    told.life.rate("1", 1, "slow", touch=False)
    with told.reading() as one:
        assert told.differences(one) == {}
        assert told.results["conversations"].records == 1
        rated = "SELECT rating, rated_at FROM raw_intercom.conversations_current WHERE id = '1'"
        at = datetime.fromtimestamp(told.life.now, UTC).replace(tzinfo=None)
        assert one.rows(rated) == [(1, at)]


@pytest.mark.slow
def test_a_search_that_refuses_late_ratings_is_told_and_the_full_list_finds_them(told: World) -> None:
    told.life.rate("1", 2, touch=False)
    refused = json.dumps({"errors": [{"code": "parameter_invalid", "message": "no such field"}]}).encode()
    told.simulator.faults.add(
        Fault(FaultKind.CANNED, path="POST /conversations/search", first=3, every=0, status=400, body=refused)
    )
    told.read()
    assert "late ratings were not searched for" in told.results["conversations"].message
    told.clock.advance(7 * 86_400)
    with told.reading() as one:
        assert told.differences(one) == {}


@pytest.mark.slow
def test_what_changes_no_time_is_found_by_the_full_list(told: World) -> None:
    told.life.attach("p1", "c2", touch=False)
    with told.reading() as one:
        assert set(told.differences(one)) == {"contacts"}
    told.clock.advance(6 * 86_400)
    told.read()
    with told.reading(full_list_days=3) as one:
        assert told.differences(one) == {}
        assert told.results["contacts"].records == 3


@pytest.mark.slow
def test_a_change_that_the_search_does_not_show_yet_is_read_by_the_next_run(tmp_path: Path) -> None:
    with world(tmp_path, index_lag=timedelta(minutes=5)) as told:
        told.life.add_contact("p1")
        told.life.open_conversation("1", "p1")
        told.clock.advance(600)
        told.read()
        told.clock.advance(86_400)
        told.life.change_contact("p1", name="Changed")
        told.life.add_contact("p2")
        told.life.reply("1", "71", "user")
        told.clock.advance(30)
        with told.reading() as one:
            assert set(told.differences(one)) == {"contacts", "conversations"}
        told.clock.advance(86_400)
        with told.reading() as one:
            assert told.differences(one) == {}
            assert one.rows("SELECT count(*) FROM raw_intercom.conversation_parts") == [(2,)]
        assert "contacts_census" not in told.results


@pytest.mark.slow
def test_an_older_version_of_the_api_still_leaves_no_phantom(told: World) -> None:
    for version in ("2.15", "2.14"):
        told.settings = {"api_version": version}
        told.read()
        told.life.merge(*sorted(told.workspace.contacts)[:2])
        told.life.delete_conversation(min(told.workspace.conversations))
        told.clock.advance(60)
        with told.reading() as one:
            names = ("contacts", "companies", "tickets")
            assert told.differences(one, *names) == {}
            live = f"SELECT id FROM raw_intercom.conversations_current WHERE {LIVE} ORDER BY id"
            assert [row[0] for row in one.rows(live)] == sorted(told.workspace.conversations)
        assert "no list of deleted conversations" in told.results["deleted_conversations"].message


@pytest.mark.slow
def test_another_version_of_the_api_reads_everything_again(told: World) -> None:
    told.read(api_version="2.15")
    assert told.results["contacts"].records == 3
    told.read(api_version="2.15")
    assert told.results["contacts"].records == 0


def test_parts_that_a_conversation_no_longer_shows_are_kept(tmp_path: Path) -> None:
    with world(tmp_path, max_parts=3) as told:
        told.life.add_contact("p1")
        told.life.open_conversation("1", "p1")
        for day in range(3):
            for number in (1, 2):
                told.clock.advance(60)
                told.life.reply("1", f"7{day}{number}")
            told.clock.advance(86_400)
            told.read()
        assert told.results["conversation_parts"].message == (
            "of 1 conversations Intercom gives only the 500 latest parts"
        )
        with told.reading() as one:
            parts = one.rows("SELECT part_id FROM raw_intercom.conversation_parts ORDER BY created_at")
            assert [part for (part,) in parts] == ["0", "701", "702", "711", "712", "721", "722"]


@pytest.mark.slow
def test_parts_are_read_again_from_where_they_were_read_to(told: World) -> None:
    told.clock.advance(86_400)
    told.life.reply("1", "71")
    down = Fault(FaultKind.CANNED, path="GET /conversations/1", status=403, body=b'{"errors":[]}')
    told.simulator.faults.add(down)
    told.read()
    assert told.results["conversation_parts"].status == "forbidden"
    told.simulator.faults.clear()
    told.clock.advance(2 * 86_400)
    with told.reading() as one:
        assert one.rows("SELECT count(*) FROM raw_intercom.conversation_parts WHERE part_id = '71'") == [(1,)]


def test_parts_of_some_tiers_only_and_of_a_company_that_enters_them(told: World) -> None:
    told.life.open_conversation("3", "p3", "c2")
    told.settings = {"parts_tiers": ["A", "B"]}
    told.clock.advance(3 * 3_600)

    def read(tiers: dict[str, str]) -> set[str]:
        with told.reading() as one:
            statements = (
                "CREATE SCHEMA IF NOT EXISTS marts",
                "CREATE SCHEMA IF NOT EXISTS staging",
                "CREATE OR REPLACE TABLE marts.organisation_daily (as_of DATE, org_id VARCHAR, tier VARCHAR)",
                "CREATE OR REPLACE TABLE staging.organisations (org_id VARCHAR, external_id VARCHAR)",
            )
            for statement in statements:
                one.connection.execute(statement)
            for company, tier in tiers.items():
                one.connection.execute(
                    f"INSERT INTO marts.organisation_daily VALUES ('2026-10-30', 'o{company}', '{tier}')"
                )
                one.connection.execute(
                    f"INSERT INTO staging.organisations VALUES ('o{company}', 'org-{company}')"
                )
            return {
                row[0]
                for row in one.rows("SELECT DISTINCT conversation_id FROM raw_intercom.conversation_parts")
            }

    before = told.requests("/conversations/{id}")
    read({"c1": "A", "c2": "C"})  # nobody knows the tiers yet, so the parts of all are read
    assert told.requests("/conversations/{id}") == before + 3
    told.clock.advance(86_400)
    for key in ("1", "2", "3"):
        told.life.reply(key, f"8{key}")
    told.clock.advance(3 * 3_600)
    before = told.requests("/conversations/{id}")
    read({"c1": "A", "c2": "B"})  # 3 belongs to a C; 2 has no company, so its contact decides
    assert told.requests("/conversations/{id}") == before + 2
    told.clock.advance(86_400)
    before = told.requests("/conversations/{id}")
    assert read({"c1": "A", "c2": "B"}) == {"1", "2", "3"}  # c2 has become a B
    assert told.requests("/conversations/{id}") == before + 1


@pytest.mark.parametrize(
    ("zone", "of_utc"),
    [
        ("America/Los_Angeles", False),
        pytest.param("Pacific/Kiritimati", False, marks=pytest.mark.slow),
        pytest.param("America/Los_Angeles", True, marks=pytest.mark.slow),
        pytest.param("Pacific/Auckland", False, marks=pytest.mark.slow),
    ],
)
def test_a_long_list_is_cut_into_chains_that_miss_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, of_utc: bool
) -> None:
    monkeypatch.setattr(searches, "CHAIN_RECORDS", 10)
    monkeypatch.setattr(client, "PAGE", 4)
    with world(tmp_path, time_zone=zone, days_of_utc=of_utc) as told:
        told.clock.set(datetime(2026, 9, 1, tzinfo=UTC))
        for number in range(60):
            told.clock.advance(3_571)
            told.life.add_contact(f"p{number}")
            told.life.open_conversation(str(number), f"p{number}")
        told.life.add_contact("old", created_at=5, updated_at=told.life.now)
        with told.reading(parts="none") as one:
            assert told.differences(one) == {}
        files = tmp_path.glob("landing/intercom/contacts/*/*.zst")
        assert len({path.name.split("-")[0] for path in files}) > 4


def test_an_expired_cursor_begins_its_search_again(told: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE", 1)
    for key in ("p1", "p2", "p3"):
        told.life.change_contact(key, name="Changed")
    told.simulator.faults.add(
        Fault(FaultKind.CANNED, path="POST /contacts/search", first=3, every=0, status=400, body=EXPIRED)
    )
    with told.reading() as one:
        assert told.differences(one) == {}
    # A count, two pages, the refusal of the second page's cursor, and three pages from the beginning.
    assert told.requests("/contacts/search") == 1 + 1 + 1 + 3


def test_what_the_settings_leave_out_is_not_asked_for(told: World) -> None:
    told.read(leave_out=["teams", "tags", "tickets"])
    assert {told.results[name].status for name in ("teams", "tags", "tickets")} == {"not_configured"}
    assert [told.requests(path) for path in ("/teams", "/tags", "/tickets/search")] == [0, 0, 0]


@pytest.mark.parametrize("others", [0, pytest.param(10, marks=pytest.mark.slow)])
def test_the_limit_is_kept_and_shared_with_other_apps(
    told: World, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    monkeypatch.setattr(client, "WINDOW_SECONDS", 1.0)
    monkeypatch.setattr(intercom_server, "WINDOW_SECONDS", 1)
    monkeypatch.setattr(intercom_server, "WORKSPACE_PER_10_SECONDS", 40)
    for number in range(10, 60):
        told.life.open_conversation(str(number), "p1", "c1")
    told.simulator.per_10_seconds = 40
    told.simulator.used_by_others = others
    told.clock._ticking = True  # windows pass as they do
    told.read(requests_per_10_seconds=40)
    assert told.results["conversation_parts"].records == 50
    # What others take is seen only with an answer; a refusal is then waited out, and nothing is lost.
    assert told.simulator.hits.count(status=429) <= others


@pytest.mark.slow
@pytest.mark.parametrize("streams", [1, 3, 5, 8, 10, 11])
def test_a_run_that_is_cut_off_leaves_nothing_out_for_the_next_one(told: World, streams: int) -> None:
    told.life.delete_contact("p3")
    told.life.delete_conversation("2")
    told.life.reply("1", "71")
    told.life.rate("1", 1, touch=False)
    told.life.add_contact("p4")
    told.life.open_ticket("52", "p4")
    told.read(cut_off_after=streams)
    assert len(told.results) == streams
    told.clock.advance(5 * 3_600)
    with told.reading() as one:
        assert told.differences(one) == {}
        assert one.rows("SELECT count(*) FROM raw_intercom.conversation_parts WHERE part_id = '71'") == [(1,)]


@pytest.mark.parametrize("kind", [FaultKind.CURSOR_LOOP, FaultKind.CURSOR_BACK])
def test_a_search_that_leads_back_is_an_error_after_few_requests(
    told: World, monkeypatch: pytest.MonkeyPatch, kind: FaultKind
) -> None:
    monkeypatch.setattr(client, "PAGE", 1)
    for key in ("p4", "p5", "p6"):
        told.life.add_contact(key)
    told.clock.advance(8 * 86_400)  # everything is listed
    told.simulator.faults.add(Fault(kind, path="POST /contacts/search", first=3))
    with pytest.raises(SourceUnavailableError, match="goes round in circles"):
        told.read()
    assert told.requests("/contacts/search") <= 8


@pytest.mark.slow
def test_pages_that_overlap_give_nothing_twice(told: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE", 2)
    told.simulator.faults.add(Fault(FaultKind.OVERLAP_PAGE, path="/search"))
    told.clock.advance(8 * 86_400)
    with told.reading() as one:
        assert told.differences(one) == {}
