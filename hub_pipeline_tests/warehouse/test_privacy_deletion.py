"""A contact that HubSpot deletes for privacy is gone from every layer after the next run, over real HTTP."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline.demo.serve import serving
from hub_pipeline.errors import DataRefusedError
from hub_pipeline.orchestration.run import DailyRun
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline_tests.demo.portal import account, still
from hub_pipeline_tests.sources.reading import environment, settings_with
from hub_pipeline_tests.warehouse.support import DAY
from hub_pipeline_tests.warehouse.test_erase import layers_with


@pytest.mark.slow
def test_a_contact_deleted_for_privacy_in_hubspot_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    simulator = HubSpotSimulator(account(250, 60), clock=still())
    settings = settings_with()
    with serving(simulator.app) as (url,):
        where = environment(tmp_path, url, intercom_access_token=None)
        with DailyRun(settings, where, (DAY,)) as one:
            one.read_source("hubspot")
            (gone,) = one.connection.execute(
                "SELECT min(id) FROM raw_hubspot.contacts_current WHERE email IS NOT NULL"
            ).fetchall()[0]
            (address,) = one.connection.execute(
                "SELECT email FROM raw_hubspot.contacts_current WHERE id = $id", {"id": gone}
            ).fetchall()[0]
        assert layers_with(tmp_path, address) == {"landing", "build.duckdb", "build.duckdb raw_hubspot"}
        simulator.purge("contacts", gone)
        # All associations of the small portal are this contact's.
        with DailyRun(settings, where, (DAY + timedelta(days=1),), accept_shrink=True) as two:
            two.read_source("hubspot")
            assert [erasure.persons for erasure in two.erased] == [1]
    assert layers_with(tmp_path, address) == set()
    with Warehouse.in_folder(tmp_path).connect_read_only() as build:
        assert build.execute("SELECT reason, persons FROM _ledger.erasures").fetchall() == [("hubspot", 1)]
        assert build.execute(
            f"SELECT count(*) FROM raw_hubspot.associations WHERE from_id = '{gone}'"
        ).fetchall() == [(0,)]


def test_many_contacts_gone_at_once_are_erased_only_when_that_was_said(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(10, 60), clock=still())
    settings = settings_with(associations=[])
    with serving(simulator.app) as (url,):
        where = environment(tmp_path, url, intercom_access_token=None)
        with DailyRun(settings, where, (DAY,)) as one:
            one.read_source("hubspot")
        for number in range(1, 27):
            simulator.purge("contacts", str(number))
        day = (DAY + timedelta(days=1),)
        with (
            DailyRun(settings, where, day, accept_shrink=True) as two,
            pytest.raises(DataRefusedError, match=r"26 of 60 HubSpot contacts are gone.*--accept-purge"),
        ):
            two.read_source("hubspot")
        with DailyRun(settings, where, day, accept_purge=True) as three:
            three.read_source("hubspot")
            assert [erasure.persons for erasure in three.erased] == [26]
