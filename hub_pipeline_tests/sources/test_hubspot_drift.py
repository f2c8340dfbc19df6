"""A portal whose properties change under our hands: nothing is lost, everything is said, what is needed is missed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline.demo.serve import serving
from hub_pipeline.errors import DataRefusedError
from hub_pipeline.models.checks import CheckResult
from hub_pipeline.orchestration import execute
from hub_pipeline.orchestration.source_checks import drift_message, property_checks
from hub_pipeline.settings import Settings
from hub_pipeline.sources import hubspot
from hub_pipeline.sources.hubspot.client import PropertyDefinition
from hub_pipeline.sources.hubspot.streams import oldest_first, properties_to_read, property_columns
from hub_pipeline_tests.demo.portal import account, still
from hub_pipeline_tests.sources.reading import ORGANISATIONS, Loaded, environment, reading, settings_with

FIRST = date(2026, 10, 31)


NAMES_AND_TYPES = "SELECT object, name, kind, before, after FROM raw_hubspot.property_drift ORDER BY ALL"


@contextmanager
def read(
    simulator: HubSpotSimulator, data_dir: Path, settings: Settings, days: int = 0
) -> Iterator[tuple[Loaded, dict[str, CheckResult], str]]:
    """Read the portal so many days after the first: the warehouse, the checks by name, the message."""
    with reading(hubspot, simulator, data_dir, settings, day=FIRST + timedelta(days=days)) as loaded:
        run_id = loaded.run.load.run_id
        checks = property_checks(loaded.run.connection, settings, run_id)
        yield loaded, {check.name: check for check in checks}, drift_message(loaded.run.connection, run_id)


def missed(loaded: Loaded, **properties: str) -> CheckResult:
    """The check of needed properties, had the settings mapped these."""
    settings = settings_with(
        objects={"organisations": {"object_type": ORGANISATIONS, "properties": properties}}, associations=[]
    )
    checks = property_checks(loaded.run.connection, settings, loaded.run.load.run_id)
    return next(check for check in checks if check.name == "needed_properties_exist")


def test_what_changes_in_a_portal_is_told_counted_and_never_lost(tmp_path: Path) -> None:
    settings = settings_with()
    simulator = HubSpotSimulator(account(organisations=20), clock=still())
    for name, kind in (
        ("ends", "date"),
        ("seen", "datetime"),
        ("paying", "bool"),
        ("segment", "enumeration"),
    ):
        simulator.create_property(ORGANISATIONS, name, kind=kind)
    simulator.set_options(ORGANISATIONS, "segment", ["small", "large"])
    fine = {"seats": "1e3", "ends": "2027-01-31", "seen": "1767225600000", "paying": "TRUE"}
    wrong = {"seats": "about 30", "ends": "2026-02-30", "seen": "soon", "paying": "yes"}
    simulator.update(ORGANISATIONS, "9", fine)
    simulator.update(ORGANISATIONS, "10", {"seats": "NaN"})
    simulator.update(ORGANISATIONS, "11", wrong)

    with read(simulator, tmp_path, settings) as (loaded, checks, message):
        # The first look at a portal is no change of it.
        assert (message, loaded.rows(NAMES_AND_TYPES)) == ("", [])
        assert checks["properties_are_unchanged"].passed
        # What does not fit is counted for each column, with a record to look at, and kept as it is.
        check = checks["values_fit_their_type"]
        assert check.severity == "warn"
        assert [tuple(row.values()) for row in check.sample] == [
            ("organisations", "ends", "date", 1, "11"),
            ("organisations", "paying", "bool", 1, "11"),
            ("organisations", "seats", "number", 2, "10"),
            ("organisations", "seen", "datetime", 1, "11"),
        ]
        (kept,) = loaded.rows(
            "SELECT seats, ends, seen, paying FROM raw_hubspot.organisations WHERE id = '11'"
        )
        assert kept == tuple(wrong.values())
        versions = len(loaded.rows("FROM raw_hubspot.organisations"))

    simulator.clock.advance(3600)
    simulator.create_property(ORGANISATIONS, "select")
    simulator.create_property(ORGANISATIONS, "Seats", kind="number")
    simulator.create_property(ORGANISATIONS, 'a "quoted"; name')
    simulator.archive_property(ORGANISATIONS, "name")
    simulator.create_property(ORGANISATIONS, "title", label="Name")
    simulator.relabel_property(ORGANISATIONS, "seats", "Paid seats")
    simulator.set_options(ORGANISATIONS, "segment", ["large", "huge"])
    simulator.retype_property("contacts", "email", "number")
    simulator.update(ORGANISATIONS, "12", {"Seats": "70", "select": "yes", 'a "quoted"; name': "x"})
    with read(simulator, tmp_path, settings, 1) as (loaded, checks, message):
        assert loaded.rows(NAMES_AND_TYPES) == [
            ("contacts", "email", "retyped", "string", "number"),
            ("organisations", "Seats", "added", None, "number"),
            ("organisations", "Seats", "differs_only_in_case", "seats", "Seats"),
            ("organisations", 'a "quoted"; name', "added", None, "string"),
            ("organisations", "name", "removed", "string", None),
            ("organisations", "seats", "relabelled", "Seats", "Paid seats"),
            ("organisations", "segment", "options_changed", "small", "huge"),
            ("organisations", "select", "added", None, "string"),
            ("organisations", "title", "renamed", "name", "title"),
        ]
        check = checks["properties_are_unchanged"]
        assert (check.severity, check.failures, len(check.sample)) == ("warn", 9, 5)
        assert message.startswith("contacts.email retyped (string to number), organisations.Seats added")
        assert message.endswith("and 4 more changes")
        # A column of its own for each, and nobody else's is taken.
        assert loaded.rows(
            'SELECT seats, "Seats__2", "select", "a ""quoted""; name" FROM raw_hubspot.organisations_current '
            "WHERE id IN ('12', '13') ORDER BY id::INT"
        ) == [("12", "70", "yes", "x"), ("13", None, None, None)]
        names = loaded.column("SELECT name FROM raw_hubspot.organisations WHERE id = '13' ORDER BY _run_id")
        assert names == ["Organisation 13", None]
        assert len(loaded.rows("FROM raw_hubspot.organisations")) == versions + 20
        # Of a property that was retyped every value counts, though no contact has changed.
        misfits = {row["property"]: row["misfits"] for row in checks["values_fit_their_type"].sample}
        assert misfits["email"] == 3
        # The name is gone. Lists that need it would be wrong without a word; the others only lose a column.
        assert missed(loaded, domain="name", contract_to="never_was_there").passed
        assert missed(loaded, parent_org_id="").passed
        check = missed(loaded, parent_org_id="name")
        assert check.blocks
        assert check.sample == (
            {
                "object": "organisations",
                "property": "name",
                "needed_for": "parent_org_id",
                "what_to_do": "map another property in hubspot.objects.organisations.properties.parent_org_id, "
                'or set it to "" to do without',
            },
        )

    simulator.retype_property("contacts", "email", "string")
    simulator.create_property(ORGANISATIONS, "name", label="Name")
    with read(simulator, tmp_path, settings, 2) as (loaded, checks, message):
        assert message == "contacts.email retyped (number to string), organisations.name restored"
        assert checks["values_fit_their_type"].passed
        assert missed(loaded, parent_org_id="name").passed


NAMES = st.lists(
    st.text(st.sampled_from('aAbB_"; '), min_size=1, max_size=3)
    | st.sampled_from(["id", "ID", "_hash", "created_at", "Created_At", "property_id", "select", "a__2"]),
    unique=True,
    max_size=12,
)


@given(NAMES, st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_columns_are_unique_and_a_younger_property_never_takes_an_older_ones(names: Any, data: Any) -> None:
    definitions = [
        PropertyDefinition(name, createdAt=f"2026-01-{day + 1:02d}T00:00:00Z")
        for day, name in enumerate(names)
    ]
    cut = data.draw(st.integers(0, len(names)))
    before = property_columns(oldest_first(data.draw(st.permutations(definitions[:cut]))))
    after = property_columns(oldest_first(data.draw(st.permutations(definitions))))
    assert set(after) == set(names)
    assert len({column.casefold() for column in after.values()}) == len(names)
    assert before.items() <= after.items()
    everything = settings_with().hubspot.objects["contacts"]
    assert properties_to_read(everything, names) == names


@pytest.mark.slow
def test_a_run_without_a_needed_property_publishes_nothing_and_dagster_shows_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    simulator = HubSpotSimulator(account(organisations=5))
    simulator.create_property("deals", "dealstage")
    simulator.create_property("deals", "dealname")
    settings = Settings.model_validate({"run": {"first_day": "2026-10-01"}})
    with serving(simulator.app) as (url,):
        where = environment(tmp_path, url, intercom_access_token=None)
        report = execute(settings, where, FIRST)
        assert report.published is not None
        before = report.published.read_bytes()
        simulator.archive_property("deals", "dealname")
        report = execute(settings, where, FIRST + timedelta(days=1))
        (told,) = [r.message for r in report.sources if r.object == "properties"]
        assert told == "deals.dealname removed"
        assert report.published is not None
        assert report.published.read_bytes() != before
        before = report.published.read_bytes()
        simulator.archive_property("deals", "dealstage")
        with pytest.raises(
            DataRefusedError, match=r"needed_properties_exist.*deals, property=dealstage"
        ) as error:
            execute(settings, where, FIRST + timedelta(days=2))
        assert error.value.exit_code == 4
        assert "Nothing was published" in str(error.value)
        assert report.published.read_bytes() == before
    os.environ["DAGSTER_HOME"] = str(tmp_path / "dagster_home")
    try:
        with dg.DagsterInstance.get() as instance:
            key = dg.AssetCheckKey(dg.AssetKey(["raw_hubspot", "properties"]), "needed_properties_exist")
            history = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    finally:
        del os.environ["DAGSTER_HOME"]
    passed = [one.event.asset_check_evaluation.passed for one in history if one.event]  # type: ignore[union-attr]
    assert passed == [False, True, True]
