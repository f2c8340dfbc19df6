"""A portal that refuses, limits, loops and breaks off, over real HTTP."""

from __future__ import annotations

import threading
from datetime import date, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from hub_pipeline.demo.faults import Fault, FaultKind
from hub_pipeline.demo.hubspot_server import HubSpotSimulator, Limits
from hub_pipeline.demo.serve import serving
from hub_pipeline.errors import ConfigurationError, SourceUnavailableError
from hub_pipeline.settings import Settings
from hub_pipeline.sources import hubspot, transport
from hub_pipeline.sources.progress import NullProgress
from hub_pipeline.warehouse.landing import LoadContext
from hub_pipeline_tests.demo.portal import account, still
from hub_pipeline_tests.sources.reading import ORGANISATIONS, environment, reading, settings_with

LOAD = LoadContext("r1", date(2026, 10, 31), datetime(2026, 11, 1), None, datetime(2026, 11, 1, 3))


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
