"""A workspace read in full over real HTTP, down to the rows of the raw tables."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from pydantic import SecretStr

from hub_pipeline.demo.company import build_company
from hub_pipeline.demo.faults import Fault, FaultKind
from hub_pipeline.demo.intercom_server import IntercomSimulator
from hub_pipeline.demo.serve import serving
from hub_pipeline.errors import ConfigurationError, SourceUnavailableError
from hub_pipeline.settings import Settings
from hub_pipeline.sources import intercom, transport
from hub_pipeline.sources.intercom import extraction
from hub_pipeline.sources.intercom.extraction import extract
from hub_pipeline.sources.progress import NullProgress
from hub_pipeline.warehouse.landing import LoadContext
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline_tests.demo.portal import NOON, still, workspace
from hub_pipeline_tests.sources.reading import environment, reading

LOAD = LoadContext("r1", date(2026, 10, 31), datetime(2026, 11, 1), None, datetime(2026, 11, 1, 3))
SECRET = "the text of a message is nobody's business"


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.01)


def settings_with(**values: Any) -> Settings:
    return Settings.model_validate({"intercom": {"time_budget_seconds": 20, **values}})


def extract_all(
    tmp_path: Path, simulator: IntercomSimulator, settings: Settings | None = None, **more: Any
) -> dict[str, StreamResult]:
    with serving(simulator.app) as (url,):
        where = environment(tmp_path, url, **more)
        found = extract(settings or settings_with(), where, tmp_path / "landing", LOAD, NullProgress())
        return {result.object: result for _, _, result in found}


def conversation(number: int, minutes_ago: int, **more: Any) -> dict[str, Any]:
    """A conversation opened by a contact and answered by an admin, a bot and the contact."""
    base = int(NOON.timestamp()) - minutes_ago * 60
    authors = (("admin", "9"), ("bot", "8"), ("user", "1"))
    parts = [
        {
            "type": "conversation_part",
            "id": f"{number}{k}",
            "part_type": "comment",
            "body": SECRET,
            "created_at": base + k,
            "author": {"type": kind, "id": author},
        }
        for k, (kind, author) in enumerate(authors, 1)
    ]
    return {
        "type": "conversation",
        "id": str(number),
        "title": f"Question {number}",
        "state": "open",
        "created_at": base,
        "updated_at": base + 10,
        "source": {
            "type": "conversation",
            "id": f"s{number}",
            "body": SECRET,
            "author": {"type": "lead", "id": "1"},
        },
        "contacts": {
            "type": "contact.list",
            "contacts": [{"type": "contact", "id": "1", "external_id": "e1"}],
        },
        "company": None,
        "conversation_rating": None,
        "statistics": {"last_contact_reply_at": base + 3, "count_conversation_parts": 3},
        "conversation_parts": {
            "type": "conversation_part.list",
            "conversation_parts": parts,
            "total_count": len(parts),
        },
        **more,
    }


def test_the_demo_workspace_is_read_completely(tmp_path: Path) -> None:
    source = build_company().intercom
    simulator = IntercomSimulator(source)
    with reading(intercom, simulator, tmp_path, Settings()) as loaded:
        assert {r.status for r in loaded.results.values()} == {"complete"}
        assert set(
            loaded.rows("SELECT id, email, external_id, len(companies) FROM raw_intercom.contacts_current")
        ) == {
            (c["id"], c["email"], c.get("external_id"), len(c["companies"]["data"]))
            for c in source.contacts.values()
        }
        assert set(loaded.rows("SELECT id, company_id, name FROM raw_intercom.companies_current")) == {
            (c["id"], c["company_id"], c["name"]) for c in source.companies.values()
        }
        expected = {
            (
                c["id"],
                c["contacts"]["contacts"][0]["id"],
                (c.get("company") or {}).get("id"),
                (c.get("conversation_rating") or {}).get("rating"),
                datetime.fromtimestamp(c["updated_at"], NOON.tzinfo).replace(tzinfo=None),
            )
            for c in source.conversations.values()
        }
        found = (
            "SELECT id, contact_id, company_id, rating, updated_at FROM raw_intercom.conversations_current"
        )
        assert set(loaded.rows(found)) == expected
        since = datetime(2026, 10, 4).timestamp()
        parts = {
            (c["id"], p["id"], p["created_at"])
            for c in source.conversations.values()
            if c["updated_at"] >= since
            for p in [
                {"id": "0", "created_at": c["created_at"]},
                *c["conversation_parts"]["conversation_parts"],
            ]
        }
        landed = "SELECT conversation_id, part_id, CAST(epoch(created_at) AS BIGINT) FROM raw_intercom.conversation_parts"
        assert set(loaded.rows(landed)) == parts
        authors = loaded.column("SELECT DISTINCT author_type FROM raw_intercom.conversation_parts")
        assert set(authors) <= {"contact", "admin", "bot"}
        assert {"contact", "admin"} <= set(authors)
    assert simulator.hits.count(status=429) == 0


def test_reading_the_same_workspace_again_changes_nothing(tmp_path: Path) -> None:
    simulator = IntercomSimulator(workspace(), clock=still())
    with reading(intercom, simulator, tmp_path, settings_with()):
        pass
    with reading(intercom, simulator, tmp_path, settings_with(), day=date(2026, 11, 1)) as loaded:
        assert {(r.inserted, r.deleted) for r in loaded.results.values()} == {(0, 0)}


def test_parts_are_read_within_the_window_with_the_opener_first_and_without_any_text(tmp_path: Path) -> None:
    source = workspace()
    source.conversations.clear()
    day = 24 * 60
    for number, ago in ((1, 5), (2, 27 * day), (3, 30 * day)):
        source.conversations[str(number)] = conversation(number, ago)
    simulator = IntercomSimulator(source, clock=still())
    with reading(intercom, simulator, tmp_path, settings_with()) as loaded:
        rows = loaded.rows(
            "SELECT conversation_id, part_id, author_type, part_type, body_length, is_synthetic "
            "FROM raw_intercom.conversation_parts WHERE conversation_id = '1' ORDER BY created_at"
        )
        length = len(SECRET)
        assert rows == [
            ("1", "0", "contact", "source", length, False),
            ("1", "11", "admin", "comment", length, False),
            ("1", "12", "bot", "comment", length, False),
            ("1", "13", "contact", "comment", length, False),
        ]
        ids = loaded.column("SELECT DISTINCT conversation_id FROM raw_intercom.conversation_parts ORDER BY 1")
        assert ids == ["1", "2"]
    everything = b"".join(
        zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        for path in tmp_path.rglob("*.zst")
    )
    assert b'"part_id"' in everything
    assert SECRET.encode() not in everything
    assert SECRET.encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    with reading(intercom, simulator, tmp_path / "all", settings_with(parts="all")) as loaded:
        ids = loaded.column("SELECT DISTINCT conversation_id FROM raw_intercom.conversation_parts ORDER BY 1")
        assert ids == ["1", "2", "3"]


def test_without_parts_the_last_reply_stands_for_them_and_says_so(tmp_path: Path) -> None:
    source = workspace()
    source.conversations.clear()
    source.conversations["1"] = conversation(1, 5)
    source.conversations["2"] = conversation(2, 5, statistics=None)
    simulator = IntercomSimulator(source, clock=still())
    with reading(intercom, simulator, tmp_path, settings_with(parts="none")) as loaded:
        assert loaded.rows(
            "SELECT conversation_id, author_type, part_type, is_synthetic, body_length, "
            "created_at = (SELECT last_contact_reply_at FROM raw_intercom.conversations WHERE id = '1') "
            "FROM raw_intercom.conversation_parts"
        ) == [("1", "contact", "synthetic", True, None, True)]
    assert simulator.hits.count("/conversations/{id}") == 0


def test_a_rating_counts_when_it_is_given_and_dates_the_change(tmp_path: Path) -> None:
    source = workspace()
    source.conversations.clear()
    base = int(NOON.timestamp())
    asked = {"rating": None, "remark": None, "created_at": base}
    given = {"rating": 1, "remark": "no", "created_at": base, "replied_at": base + 3600}
    source.conversations["1"] = conversation(1, 5, conversation_rating=asked)
    source.conversations["2"] = conversation(2, 5, conversation_rating=given)
    with reading(intercom, IntercomSimulator(source, clock=still()), tmp_path, settings_with()) as loaded:
        rows = loaded.rows(
            "SELECT id, rating, rated_at, remark, _changed_at > updated_at FROM raw_intercom.conversations"
        )
        assert sorted(rows, key=str) == [
            ("1", None, None, None, False),
            ("2", 1, datetime(2026, 10, 31, 13), "no", True),
        ]


def test_a_contact_with_more_than_ten_companies_has_them_all(tmp_path: Path) -> None:
    source = workspace(contacts=3, companies=130)
    source.contacts["2"]["companies"]["data"] = [{"type": "company", "id": f"c{n}"} for n in range(1, 131)]
    with reading(intercom, IntercomSimulator(source, clock=still()), tmp_path, settings_with()) as loaded:
        (companies,) = loaded.column("SELECT companies FROM raw_intercom.contacts WHERE id = '2'")
        assert sorted(companies) == sorted(f"c{n}" for n in range(1, 131))
        assert loaded.column("SELECT len(companies) FROM raw_intercom.contacts WHERE id = '1'") == [0]
        assert loaded.results["companies"].records == 130


def test_a_scroll_that_breaks_off_begins_again_and_a_half_list_is_never_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "SCROLL_WAITS", (0.3, 0.3, 0.3))
    simulator = IntercomSimulator(workspace(companies=250), scroll_idle_seconds=0.5)
    simulator.faults.add(Fault(FaultKind.CANNED, path="GET /companies/scroll", first=2, every=0, status=500))
    with reading(intercom, simulator, tmp_path, settings_with()) as loaded:
        assert loaded.rows("SELECT count(*), count(DISTINCT id) FROM raw_intercom.companies") == [(250, 250)]
        assert loaded.results["companies"].message == "begun 2 times"
    simulator.faults.add(Fault(FaultKind.CANNED, path="GET /companies/scroll", status=500))
    with pytest.raises(SourceUnavailableError, match="broke off its scroll"):
        extract_all(tmp_path / "second", simulator)


def test_a_scroll_of_another_program_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "SCROLL_WAITS", (0.2, 0.2, 0.4))
    simulator = IntercomSimulator(workspace(), scroll_idle_seconds=0.5)
    exists = b'{"type":"error.list","errors":[{"code":"scroll_exists","message":"scroll already exists"}]}'
    busy = Fault(FaultKind.CANNED, path="GET /companies/scroll", times=2, status=400, body=exists)
    simulator.faults.add(busy)
    assert extract_all(tmp_path, simulator)["companies"].records == 3
    simulator.faults.add(Fault(FaultKind.CANNED, path="GET /companies/scroll", status=400, body=exists))
    with pytest.raises(SourceUnavailableError, match="Another program keeps a scroll"):
        extract_all(tmp_path, simulator)


def test_an_object_the_token_may_not_read_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    simulator = IntercomSimulator(workspace())
    forbidden = (
        b'{"type":"error.list","errors":[{"code":"api_plan_restricted","message":"not in your plan"}]}'
    )
    simulator.faults.add(
        Fault(FaultKind.CANNED, path="POST /conversations/search", status=403, body=forbidden)
    )
    results = extract_all(tmp_path, simulator)
    assert (results["conversations"].status, results["conversation_parts"].status) == (
        "forbidden",
        "forbidden",
    )
    assert "INTERCOM_ACCESS_TOKEN may not read /conversations/search" in results["conversations"].message
    assert results["contacts"].status == "complete"


def test_a_wrong_token_ends_with_one_request_and_the_name_of_its_variable(tmp_path: Path) -> None:
    simulator = IntercomSimulator(workspace())
    with pytest.raises(ConfigurationError, match="INTERCOM_ACCESS_TOKEN"):
        extract_all(tmp_path, simulator, intercom_access_token=SecretStr("wrong"))
    assert simulator.hits.count() == 1
    with pytest.raises(ConfigurationError, match="INTERCOM_ACCESS_TOKEN"):
        extract_all(tmp_path, simulator, intercom_access_token=None)


def test_faults_in_the_middle_are_overcome_and_a_failure_for_good_is_the_one_that_is_told(
    tmp_path: Path, hurry: None
) -> None:
    simulator = IntercomSimulator(workspace())
    simulator.faults.add(
        Fault(FaultKind.BAD_GATEWAY, path="/conversations/", first=3, every=4, times=5),
        Fault(FaultKind.TRUNCATED, path="POST /contacts/search", first=1, every=0),
        Fault(FaultKind.RATE_LIMITED, path="GET /admins", first=1, every=0, retry_after="1"),
    )
    results = extract_all(tmp_path, simulator)
    assert (results["conversations"].records, results["conversation_parts"].records) == (45, 135)
    simulator.faults.clear()
    simulator.faults.add(Fault(FaultKind.CANNED, path="GET /conversations/", first=20, status=401))
    with pytest.raises(ConfigurationError, match="INTERCOM_ACCESS_TOKEN"):
        extract_all(tmp_path, simulator)


def test_a_search_that_repeats_its_page_is_noticed(tmp_path: Path) -> None:
    simulator = IntercomSimulator(workspace())
    page = {
        "type": "list",
        "data": [],
        "total_count": 5,
        "pages": {"next": {"page": 2, "starting_after": "x"}},
    }
    simulator.faults.add(
        Fault(FaultKind.CANNED, path="POST /contacts/search", body=json.dumps(page).encode())
    )
    with pytest.raises(SourceUnavailableError, match="goes round in circles"):
        extract_all(tmp_path, simulator)
    assert simulator.hits.count("/contacts/search") <= 3
    simulator.faults.clear()
    none = {"type": "list", "data": [], "total_count": 5, "pages": {}}
    simulator.faults.add(
        Fault(FaultKind.CANNED, path="POST /contacts/search", body=json.dumps(none).encode())
    )
    with pytest.raises(SourceUnavailableError, match="counts 5 contacts and lists none"):
        extract_all(tmp_path, simulator)


def test_the_names_of_all_tables_are_known_without_asking() -> None:
    assert set(intercom.streams()) >= {
        "contacts",
        "companies",
        "conversations",
        "conversation_parts",
        "admins",
    }
