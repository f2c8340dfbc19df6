"""A portal that refuses, limits, loops and breaks off, over real HTTP.

`FAULTS` says for each API fault of the design (reliability, 1 to 30) which tests show what happens then.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from hub_pipeline.demo.faults import Fault, FaultKind
from hub_pipeline.demo.hubspot_server import HubSpotSimulator, Limits
from hub_pipeline.demo.serve import serving
from hub_pipeline.demo.wire import SimulatorClock
from hub_pipeline.errors import ConfigurationError, DataRefusedError, SourceUnavailableError
from hub_pipeline.orchestration import execute
from hub_pipeline.orchestration.source_checks import growth_message
from hub_pipeline.settings import Settings
from hub_pipeline.sources import hubspot, transport
from hub_pipeline.sources.hubspot.client import HubSpotClient, ids_of
from hub_pipeline.sources.hubspot.pages import Cursors
from hub_pipeline.sources.hubspot.streams import object_stream
from hub_pipeline.sources.progress import NullProgress
from hub_pipeline.warehouse.landing import LoadContext
from hub_pipeline.warehouse.raw import RawStream, StreamResult
from hub_pipeline_tests.demo.portal import account, still
from hub_pipeline_tests.sources.reading import ORGANISATIONS, environment, reading, settings_with

LOAD = LoadContext("r1", date(2026, 10, 31), datetime(2026, 11, 1), None, datetime(2026, 11, 1, 3))


#: Fault -> where its ideal behaviour is tested: ``module: test, ...`` below hub_pipeline_tests.
FAULTS = {
    1: (
        "sources/test_transport: test_retry_after_is_waited_for",
        "sources/test_hubspot_faults: test_rows_are_exact",
    ),
    2: ("sources/test_transport: test_a_limit_without_retry_after_backs_off_more_and_more",),
    3: (
        "sources/test_transport: test_what_servers_say_about_waiting_is_clamped",
        "sources/test_transport: test_a_wait_of_a_day_is_not_waited_for_but_told",
        "sources/test_transport: test_no_header_of_a_server_is_an_error_of_ours",
    ),
    4: (
        "sources/test_transport: test_a_used_up_daily_limit_ends_at_once",
        "sources/test_hubspot_faults: test_the_daily_limit_ends_the_run",
        "sources/test_hubspot_resume: test_the_daily_limit_ends_a_run_that_the_next_one_goes_on_with",
    ),
    5: (
        "sources/test_hubspot_faults: test_a_wrong_token_ends_with_one_request",
        "test_end_to_end: test_a_wrong_token_ends_with_one_sentence_and_code_2",
    ),
    6: (
        "sources/test_hubspot_faults: test_a_token_revoked_in_the_middle",
        "sources/test_hubspot_faults: test_what_stops_a_run_leaves_the_published_file_alone",
    ),
    7: (
        "sources/test_hubspot_faults: test_an_optional_object_without_its_scope",
        "sources/test_hubspot_faults: test_reference_data_without_its_scope",
        "test_cli: test_the_demo_ends_with_4_when_something_could_not_be_read",
    ),
    8: (
        "sources/test_transport: test_an_answer_that_is_none",
        "sources/test_hubspot_faults: test_rows_are_exact",
    ),
    9: (
        "sources/test_hubspot_faults: test_a_portal_that_stays_down",
        "test_end_to_end: test_a_source_that_is_down_ends_with_code_3_and_publishes_nothing",
    ),
    10: ("sources/test_transport: test_a_connection_that_is_never_accepted_is_given_up",),
    11: ("sources/test_transport: test_silence_after_the_head_is_a_timeout",),
    12: (
        "sources/test_transport: test_dripping_bodies_and_heads",
        "sources/test_transport: test_nothing_outlasts_the_budget",
    ),
    13: (
        "sources/test_transport: test_an_answer_that_is_none",
        "sources/test_hubspot_faults: test_rows_are_exact",
    ),
    14: (
        "sources/test_transport: test_an_answer_that_is_none",
        "sources/test_transport: test_attempts_are_bounded",
        "sources/test_transport: test_json_nested_without_end_is_no_answer",
    ),
    15: ("sources/test_hubspot_faults: test_an_answer_without_results",),
    16: (
        "sources/test_hubspot_faults: test_an_overlapping_page",
        "sources/test_hubspot_faults: test_lists_end_and_endless_ones_are_noticed",
    ),
    17: (
        "sources/test_hubspot_faults: test_a_cursor_loop_is_noticed",
        "sources/test_hubspot_faults: test_a_cursor_that_leads_back_is_noticed",
    ),
    18: (
        "sources/test_hubspot_faults: test_a_cursor_that_has_expired_starts",
        "sources/test_hubspot_faults: test_cursors_that_grow_old",
    ),
    19: (
        "demo/test_hubspot_server_bites: test_paging_beyond_ten_thousand",
        "demo/test_hubspot_server: test_paging_a_search_ends_at_ten_thousand",
    ),
    20: (
        "sources/test_hubspot: test_records_that_change_while_they_are_read",
        "sources/test_hubspot_recall: test_any_history_of_changes",
    ),
    21: ("sources/test_hubspot: test_records_that_change_while_they_are_read",),
    22: ("sources/test_hubspot_faults: test_of_two_versions_in_one_page_the_newest_wins",),
    23: ("sources/test_hubspot_faults: test_clocks_that_differ_lose_nothing",),
    24: ("sources/test_hubspot_faults: test_a_portal_that_shrinks_is_refused",),
    25: ("sources/test_hubspot_faults: test_a_portal_that_shrinks_is_refused",),
    26: ("sources/test_hubspot_faults: test_ten_times_the_records_are_loaded_with_a_warning",),
    27: ("sources/test_transport: test_a_redirect_is_not_followed",),
    28: ("sources/test_transport: test_a_huge_answer_and_a_compressed_bomb",),
    29: ("sources/test_transport: test_a_certificate_that_cannot_be_verified",),
    30: (
        "sources/test_hubspot_faults: test_batches_that_fail_in_part",
        "sources/test_hubspot: test_a_pair_that_could_not_be_read_keeps_its_associations",
    ),
}


def test_every_api_fault_has_its_test() -> None:
    assert list(FAULTS) == list(range(1, 31))
    root = Path(__file__).parents[1]
    for number, places in FAULTS.items():
        for place in places:
            module, name = place.split(": ")
            source = (root / f"{module}.py").read_text(encoding="utf-8")
            assert f"def {name}" in source, (number, place)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.01)


def extract_all(
    tmp_path: Path, simulator: HubSpotSimulator, settings: Settings, **more: object
) -> dict[str, object]:
    """Results by object, without a warehouse."""
    with serving(simulator.app) as (url,):
        where = environment(tmp_path, url, **more)
        return {
            result.object: result
            for _, _, result in hubspot.extract(settings, where, tmp_path / "landing", LOAD, NullProgress())
        }


def test_an_optional_object_without_its_scope_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    objects = {
        "organisations": {"object_type": ORGANISATIONS},
        "contacts": {"object_type": "contacts"},
        "feedback_submissions": {"object_type": "feedback_submissions", "optional": True},
        "gadgets": {"object_type": "2-999", "optional": True},
    }
    pairs = [
        ("feedback_submissions", "contacts"),
        ("contacts", "feedback_submissions"),
        ("contacts", "organisations"),
    ]
    settings = settings_with(objects=objects, associations=pairs)
    simulator = HubSpotSimulator(
        account(organisations=5),
        forbidden={"feedback_submissions": ["crm.objects.feedback_submissions.read"]},
    )
    with reading(hubspot, simulator, tmp_path, settings) as loaded:
        feedback, gadgets = loaded.results["feedback_submissions"], loaded.results["gadgets"]
        assert feedback.status == "forbidden"
        assert "crm.objects.feedback_submissions.read" in feedback.message
        assert (gadgets.status, gadgets.message) == ("not_configured", "The portal has no object 2-999.")
        assert loaded.results["organisations"].records == 5
        assert len(loaded.rows("FROM raw_hubspot.associations")) == 3
        where = loaded.streams["associations"].snapshot_where
        assert "feedback" not in where
        assert "contacts" in where


def test_a_required_object_without_its_scope_ends_the_run(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(
        account(organisations=5), forbidden={"contacts": ["crm.objects.contacts.read"]}
    )
    with pytest.raises(
        ConfigurationError, match=r"crm\.objects\.contacts\.read.*contacts is needed"
    ) as error:
        extract_all(tmp_path, simulator, settings_with())
    assert error.value.exit_code == 2


def test_a_required_object_the_portal_does_not_have_ends_the_run(tmp_path: Path) -> None:
    objects = {"organisations": {"object_type": "2-999"}}
    simulator = HubSpotSimulator(account(organisations=5))
    with pytest.raises(ConfigurationError, match=r"set hubspot\.objects\.organisations\.object_type"):
        extract_all(tmp_path, simulator, settings_with(objects=objects, associations=[]))


def test_a_wrong_token_ends_with_one_request_and_the_name_of_its_variable(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=5))
    with pytest.raises(ConfigurationError, match="HUBSPOT_ACCESS_TOKEN"):
        extract_all(tmp_path, simulator, settings_with(), hubspot_access_token=SecretStr("wrong"))
    assert simulator.hits.count() == 1
    with pytest.raises(ConfigurationError, match="HUBSPOT_ACCESS_TOKEN"):
        extract_all(tmp_path, simulator, settings_with(), hubspot_access_token=None)


def test_a_token_revoked_in_the_middle_ends_the_run_too(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=500))
    simulator.faults.add(
        Fault(FaultKind.CANNED, path="GET /crm/objects", first=3, status=401, body=b'{"message":"expired"}')
    )
    with pytest.raises(ConfigurationError, match="HUBSPOT_ACCESS_TOKEN"):
        extract_all(tmp_path, simulator, settings_with())


def test_an_overlapping_page_makes_no_duplicates(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=220), clock=still())
    simulator.faults.add(Fault(FaultKind.OVERLAP_PAGE, path=f"GET /crm/objects/2026-09/{ORGANISATIONS}"))
    with reading(hubspot, simulator, tmp_path, settings_with()) as loaded:
        ids = loaded.column("SELECT id FROM raw_hubspot.organisations")
        assert sorted(map(int, ids)) == list(range(9, 229))


def test_a_cursor_loop_is_noticed_after_few_requests(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=500))
    simulator.faults.add(
        Fault(FaultKind.CURSOR_LOOP, path=f"GET /crm/objects/2026-09/{ORGANISATIONS}", first=3)
    )
    with pytest.raises(SourceUnavailableError, match="list of organisations goes round in circles") as error:
        extract_all(tmp_path, simulator, settings_with())
    assert error.value.exit_code == 3
    assert simulator.hits.count(ORGANISATIONS, method="GET") <= 7


def test_an_answer_without_results_is_never_an_empty_list(tmp_path: Path, hurry: None) -> None:
    for body in (b'{"results":null}', b"{}", b"[]"):
        simulator = HubSpotSimulator(account(organisations=5))
        simulator.faults.add(Fault(FaultKind.CANNED, path="GET /crm/objects", body=body))
        with pytest.raises(SourceUnavailableError, match="another form"):
            extract_all(tmp_path, simulator, settings_with())


def test_a_cursor_that_has_expired_starts_the_list_again(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=120), clock=still())
    expired = b'{"status":"error","message":"Invalid cursor","category":"VALIDATION_ERROR"}'
    simulator.faults.add(
        Fault(
            FaultKind.CANNED,
            path=f"GET /crm/objects/2026-09/{ORGANISATIONS}",
            first=2,
            every=0,
            status=400,
            body=expired,
        )
    )
    with reading(hubspot, simulator, tmp_path, settings_with()) as loaded:
        assert len(loaded.rows("FROM raw_hubspot.organisations")) == 120
        assert loaded.results["organisations"].records == 120


def test_the_daily_limit_ends_the_run_and_keeps_what_was_complete(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=500), limits=Limits(daily=6))
    with pytest.raises(SourceUnavailableError, match=r"daily request limit.*after midnight in the time zone"):
        extract_all(tmp_path, simulator, settings_with(workers=1))
    assert simulator.hits.count(status=429) == 1


def test_a_portal_that_stays_down_is_unavailable_within_the_budget(tmp_path: Path, hurry: None) -> None:
    simulator = HubSpotSimulator(account(organisations=5))
    simulator.faults.add(Fault(FaultKind.UNAVAILABLE))
    with pytest.raises(SourceUnavailableError, match="HTTP 503"):
        extract_all(tmp_path, simulator, settings_with())
    simulator.faults.clear()
    simulator.faults.add(Fault(FaultKind.HANG, seconds=30))
    with pytest.raises(SourceUnavailableError, match="could not be read within 1 s"):
        extract_all(tmp_path, simulator, settings_with(time_budget_seconds=1))


@pytest.mark.slow
def test_the_limit_of_the_account_is_never_exceeded(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=900), limits=Limits(per_10_seconds=24))
    settings = settings_with(requests_per_10_seconds=24, reserve="0")
    extract_all(tmp_path, simulator, settings)
    assert simulator.hits.count(status=429) == 0
    assert simulator.hits.count() > 24


def test_an_iterator_that_is_closed_early_stops_reading(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=900), latency_ms=30)
    with serving(simulator.app) as (url,):
        reader = hubspot.extract(
            settings_with(), environment(tmp_path, url), tmp_path / "landing", LOAD, NullProgress()
        )
        next(reader)
        next(reader)
        reader.close()  # type: ignore[attr-defined]
        assert not [t for t in threading.enumerate() if t.name.startswith("hubspot")]
        assert simulator.hits.count() < 25


# ---- what goes on all the same -----------------------------------------------------------------------------------------


def test_rows_are_exact_whatever_goes_wrong_on_the_way(tmp_path: Path, hurry: None) -> None:
    simulator = HubSpotSimulator(account(organisations=230))
    page = f"GET /crm/objects/2026-09/{ORGANISATIONS}"
    simulator.faults.add(
        Fault(FaultKind.RATE_LIMITED, path=page, first=1, every=0, retry_after="1"),
        Fault(FaultKind.RATE_LIMITED, path="GET /crm/properties", first=1, every=0),
        Fault(FaultKind.BAD_GATEWAY, path=page, first=3, times=3),
        Fault(FaultKind.TRUNCATED, path=page, first=7, every=0),
        Fault(FaultKind.CANNED, path="POST /crm/associations", first=1, every=0, body=b"<html>busy</html>"),
        Fault(FaultKind.OVERLAP_PAGE, path=page, first=9),
    )
    with reading(hubspot, simulator, tmp_path, settings_with()) as loaded:
        ids = loaded.column("SELECT id FROM raw_hubspot.organisations")
        assert sorted(map(int, ids)) == list(range(9, 239))
        assert len(loaded.rows("FROM raw_hubspot.associations_current")) == 3
        faulty = simulator.hits.snapshot()["requests"]
        assert {row["fault"] for row in faulty} >= {
            "rate_limited", "bad_gateway", "truncated", "canned", "overlap_page",
        }  # fmt: skip


def test_reference_data_without_its_scope_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    objects = {
        "organisations": {"object_type": ORGANISATIONS},
        "deals": {"object_type": "deals"},
        "tickets": {"object_type": "tickets", "optional": True},
    }
    portal = account(organisations=5)
    portal.pipelines["deals"][0]["stages"] = [{"id": "open", "label": "Open", "displayOrder": 0}]
    simulator = HubSpotSimulator(
        portal, forbidden={"settings.users": ["settings.users.read"], "tickets": ["tickets"]}
    )
    settings = settings_with(objects=objects, associations=[])
    with reading(hubspot, simulator, tmp_path, settings) as loaded:
        users = loaded.results["users"]
        assert users.status == "forbidden"
        assert "missing: settings.users.read" in users.message
        assert "set hubspot.users to false" in users.message
        assert loaded.results["pipelines"].status == "complete"
        assert loaded.results["pipelines"].message == "pipelines of tickets could not be read"
        assert loaded.column("SELECT stage_id FROM raw_hubspot.pipelines_current") == ["open"]
        assert "tickets" not in loaded.streams["pipelines"].snapshot_where
    simulator.faults.add(Fault(FaultKind.CANNED, path="GET /settings/users", status=404, body=b"{}"))
    results = extract_all(tmp_path / "again", simulator, settings)
    assert results["users"].status == "not_configured"  # type: ignore[attr-defined]


class Once:
    """Does something when so many records have been read."""

    def __init__(self, action: Callable[[], object], after: int = 1) -> None:
        self._action: Callable[[], object] | None = action
        self._after = after

    def start(self, source: str, object_name: str, total: int | None) -> None: ...
    def finish(self, source: str, object_name: str) -> None: ...

    def advance(self, source: str, object_name: str, records: int) -> None:
        if object_name == "organisations":
            self._after -= records
            if self._after <= 0 and self._action is not None:
                action, self._action = self._action, None
                action()


def test_cursors_that_grow_old_are_begun_anew(tmp_path: Path) -> None:
    clock = still()
    simulator = HubSpotSimulator(
        account(organisations=350), clock=clock, cursor="opaque", cursor_lifetime=timedelta(minutes=5)
    )
    nap = Once(lambda: clock.advance(3600), after=120)
    with serving(simulator.app) as (url,):
        found = hubspot.extract(settings_with(), environment(tmp_path, url), tmp_path / "landing", LOAD, nap)
        (result,) = [result for _, _, result in found if result.object == "organisations"]
    assert (result.status, result.records) == ("complete", 350)
    assert simulator.hits.count(ORGANISATIONS, method="GET", status=400) == 1


def test_a_cursor_that_leads_back_is_noticed(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=500), cursor="opaque")
    simulator.faults.add(
        Fault(FaultKind.CURSOR_BACK, path=f"GET /crm/objects/2026-09/{ORGANISATIONS}", first=3)
    )
    with pytest.raises(SourceUnavailableError, match="list of organisations goes round in circles") as error:
        extract_all(tmp_path, simulator, settings_with(workers=1))
    assert error.value.exit_code == 3
    assert simulator.hits.count(f"objects/{{version}}/{ORGANISATIONS}", method="GET") <= 12


def test_of_two_versions_in_one_page_the_newest_wins(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=3))

    def version(hour: int, name: str) -> dict[str, object]:
        times = {"createdAt": "2026-01-01T00:00:00Z", "updatedAt": f"2026-10-01T{hour:02d}:00:00Z"}
        return {"id": "9", "properties": {"name": name}, "archived": False, **times}

    page = json.dumps({"results": [version(9, "newest"), version(7, "old"), version(8, "newer")]}).encode()
    simulator.faults.add(
        Fault(FaultKind.CANNED, path=f"GET /crm/objects/2026-09/{ORGANISATIONS}", body=page, times=1)
    )
    with reading(hubspot, simulator, tmp_path, settings_with()) as loaded:
        # The page held less than the portal has, so the list was read again; it may not undo the newest.
        rows = loaded.rows("SELECT id, name FROM raw_hubspot.organisations_current WHERE id = '9'")
        assert rows == [("9", "newest")]


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [-600, 600])
def test_clocks_that_differ_lose_nothing(tmp_path: Path, ahead: int) -> None:
    simulator = HubSpotSimulator(
        account(organisations=30), clock=SimulatorClock(datetime.now(UTC) + timedelta(seconds=ahead))
    )
    changed: dict[str, str] = {}
    settings = settings_with(associations=[], users=False)
    for number in range(3):
        with reading(hubspot, simulator, tmp_path, settings, day=date(2026, 10, 29 + number)) as loaded:
            rows = dict(loaded.rows("SELECT id, seats FROM raw_hubspot.organisations_current"))
            assert {key: rows[key] for key in changed} == changed
            assert len(rows) == 30
        for key in (str(10 + number), str(20 + number)):
            changed[key] = str(1000 + number)
            simulator.update(ORGANISATIONS, key, {"seats": changed[key]})
        simulator.clock.advance(30)


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 5])
def test_a_portal_that_shrinks_is_refused_until_someone_accepts_it(tmp_path: Path, left: int) -> None:
    simulator = HubSpotSimulator(account(organisations=50))
    objects = {"organisations": {"object_type": ORGANISATIONS}}
    settings = settings_with(objects=objects, associations=[], users=False)
    with reading(hubspot, simulator, tmp_path, settings, max_shrink=0.2):
        pass
    for number in range(9 + left, 59):
        simulator.purge(ORGANISATIONS, str(number))
    tomorrow = date(2026, 11, 1)
    refused = rf"listed {left} organisations where 50.*--accept-shrink"
    with (
        pytest.raises(DataRefusedError, match=refused) as error,
        reading(hubspot, simulator, tmp_path, settings, day=tomorrow, max_shrink=0.2),
    ):
        pass
    assert error.value.exit_code == 4
    with reading(hubspot, simulator, tmp_path, settings, day=tomorrow) as loaded:
        rows = loaded.rows("FROM raw_hubspot.organisations_current WHERE _deleted_at IS NULL")
        assert len(rows) == left


def test_ten_times_the_records_are_loaded_with_a_warning() -> None:
    stream = object_stream("organisations", ["name"], [])
    result = StreamResult("hubspot", "organisations", "complete")
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA raw_hubspot")
        connection.execute(
            "CREATE TABLE raw_hubspot.organisations AS "
            "SELECT i::VARCHAR AS id, if(i < 15, '1', '2') AS _run_id FROM range(150) AS t(i) "
            "UNION ALL SELECT '3', '2'"  # a new version of an old record is no new record
        )

        def said(inserted: int, run_id: str = "2") -> str:
            return growth_message(connection, stream, replace(result, inserted=inserted), run_id)

        assert said(136).startswith("150 records where 15 were known before; they are loaded")
        assert said(99) == ""
        connection.execute("DELETE FROM raw_hubspot.organisations WHERE id = '149'")
        assert said(135) == ""
        assert said(149, "3") == ""
        connection.execute("UPDATE raw_hubspot.organisations SET _run_id = '2'")
        assert said(149) == "", "the first load of a table"


def test_batches_that_fail_in_part_are_asked_once_more_and_what_fails_again_is_named(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=20, contacts=9))
    for number in range(1, 10):
        simulator.associate("contacts", str(number), ORGANISATIONS, "15")

    def sweep(run: str) -> tuple[RawStream, StreamResult]:
        with serving(simulator.app) as (url,):
            where, landing = environment(tmp_path, url), tmp_path / run
            found = hubspot.extract(settings_with(), where, landing, LOAD, NullProgress())
            (swept,) = [(stream, result) for stream, _, result in found if result.object == "associations"]
            return swept

    simulator.faults.add(Fault(FaultKind.PARTIAL, path="POST /crm/associations", times=1))
    stream, result = sweep("first")
    assert (result.message, result.records) == ("", 9)
    assert "contacts" in stream.snapshot_where
    simulator.faults.clear()
    simulator.faults.add(Fault(FaultKind.PARTIAL, path="POST /crm/associations"))
    stream, result = sweep("second")
    # A third of the third: what could not be read says nothing, so nothing of the pair is dropped.
    assert "1 records could not be read (1)" in result.message
    assert stream.snapshot_where == "false"


def test_a_batch_of_records_that_fails_in_part_is_never_taken_for_deleted_ones(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=20))
    with serving(simulator.app) as (url,):
        settings = settings_with().hubspot
        with HubSpotClient(settings, environment(tmp_path, url)) as client:
            ids = [str(number) for number in range(9, 19)]
            simulator.faults.add(Fault(FaultKind.PARTIAL, path="POST", times=1))
            assert sorted(
                ids_of(client.batch_read(ORGANISATIONS, [*ids, "999"], ["name"]).results)
            ) == sorted(ids)
            simulator.faults.clear()
            simulator.faults.add(Fault(FaultKind.PARTIAL, path="POST"))
            with pytest.raises(
                SourceUnavailableError, match=r"could not read 2 records of 2-1138478 \(9, 18\)"
            ):
                client.batch_read(ORGANISATIONS, ids, ["name"])


@given(st.lists(st.text("ab", max_size=2), max_size=8), st.integers(0, 7))
@hypothesis_settings(max_examples=80, deadline=None)
def test_lists_end_and_endless_ones_are_noticed(contents: list[str], back_to: int) -> None:
    def asked(following: Callable[[int], int], content: Callable[[int], int]) -> int:
        """Pages of a list that were read before it was noticed that it has no end."""
        cursors, at = Cursors("things"), 0
        for number in range(1, 100):
            try:
                cursors.check(str(following(at)), [msgspec.Raw(b'"%d"' % content(at))])
            except SourceUnavailableError:
                return number
            at = following(at)
        raise AssertionError("nobody noticed")

    honest = Cursors("things")
    for number, text in enumerate(contents):  # pages that are all different, and empty ones, are fine
        honest.check(str(number), [msgspec.Raw(b'"%d %s"' % (number, text.encode()))] if text else [])
    # Eight pages, then back to one of them: the first cursor that comes again ends it.
    assert asked(lambda at: at + 1 if at < 7 else back_to, lambda at: at) <= 9
    # One page under ever new cursors.
    assert asked(lambda at: at + 1, lambda at: 0) == 3


@pytest.mark.slow
def test_what_stops_a_run_leaves_the_published_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.01)
    simulator = HubSpotSimulator(account(organisations=60))
    settings = Settings.model_validate({"run": {"first_day": "2026-10-01"}})
    page = "GET /crm/objects"
    with serving(simulator.app) as (url,):
        where = environment(tmp_path, url, intercom_access_token=None)
        published = execute(settings, where, date(2026, 10, 30)).published
        assert published is not None
        before = published.read_bytes()
        for fault, kind, code in (
            (Fault(FaultKind.CANNED, path=page, first=4, status=401, body=b"{}"), ConfigurationError, 2),
            (
                Fault(FaultKind.CANNED, path=page, first=4, body=b'{"results":null}'),
                SourceUnavailableError,
                3,
            ),
        ):
            simulator.faults.add(fault)
            with pytest.raises(kind) as error:
                execute(settings, where, date(2026, 10, 31))
            assert error.value.exit_code == code
            assert published.read_bytes() == before
            simulator.faults.clear()
        assert execute(settings, where, date(2026, 10, 31)).published == published
        assert published.read_bytes() != before
