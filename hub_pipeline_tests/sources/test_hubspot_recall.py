"""Whatever happens to a portal and whenever it is read, the raw tables end up exactly as the portal is.

The truth is the simulator's own account; random histories of changes and runs are drawn by hypothesis.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub_pipeline.demo.hubspot_portal import iso, versions_of
from hub_pipeline.demo.hubspot_server import HubSpotSimulator, Limits
from hub_pipeline.demo.serve import serving
from hub_pipeline.settings import Settings
from hub_pipeline.sources import hubspot
from hub_pipeline.sources.progress import NullProgress
from hub_pipeline.warehouse.erase import erase, find_person
from hub_pipeline.warehouse.known import WarehouseKnown
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline_tests.demo.portal import ORGANISATIONS, account, definition, still
from hub_pipeline_tests.sources.reading import environment, settings_with
from hub_pipeline_tests.warehouse.support import run

TYPES = {"organisations": ORGANISATIONS, "contacts": "contacts"}
VALUE = {"organisations": "name", "contacts": "email"}
NEVER_CHANGES = {"account", "owners", "users", "pipelines", "properties"}
LAG = timedelta(minutes=10)

_LIVE = "_archived_at IS NULL AND _deleted_at IS NULL AND _merged_into IS NULL"


@dataclass
class World:
    """A portal that people change and a warehouse that reads it."""

    simulator: HubSpotSimulator
    address: str
    folder: Path
    settings: Settings
    results: dict[str, StreamResult] = field(default_factory=dict)
    full: list[str] = field(default_factory=list)
    ever: set[tuple[str, str, str, str, str]] = field(default_factory=set)
    binned: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in TYPES})

    def read(self, **more: Any) -> None:
        """One run; `results` are those of the last one, `full` the objects of which it read full lists."""
        chosen = settings_with(**{**self.settings.hubspot.model_dump(), **more}) if more else self.settings
        self.remember()
        with run(self.folder) as one:
            where = environment(self.folder, self.address)
            known = WarehouseKnown(one.connection)
            self.results, self.full = {}, []
            for stream, files, result in hubspot.extract(
                chosen, where, one.warehouse.landing_root, one.load, NullProgress(), known
            ):
                if result.object in NEVER_CHANGES:
                    continue
                if stream.snapshot and result.object in TYPES:
                    self.full.append(result.object)
                for file in files:
                    one.loader.load_file(stream, file)
                self.results[result.object] = one.loader.finish_stream(stream, files, result, 1.0)
            self.found = {name: one.rows(query) for name, query in self._queries().items()}

    def _queries(self) -> dict[str, str]:
        queries = {
            name: f"SELECT id, {VALUE[name]}, updated_at, {_LIVE}, _archived_at IS NOT NULL "
            f"FROM raw_hubspot.{name}_current"
            for name in TYPES
        }
        queries["associations"] = (
            "SELECT from_id, to_id, type_id, label FROM raw_hubspot.associations_current "
            "WHERE _deleted_at IS NULL"
        )
        queries["history"] = (
            "SELECT object, id, property, value, "
            "strftime(changed_at, '%Y-%m-%dT%H:%M:%S.%g') || 'Z' FROM raw_hubspot.property_history"
        )
        return queries

    def remember(self) -> None:
        """Note what has existed, for what is allowed to be found later."""
        records = self.simulator.account.records[ORGANISATIONS]
        self.ever |= {
            ("organisations", key, "seats", v["value"], v["timestamp"])
            for key, record in records.items()
            for v in versions_of(record, "seats")
        }
        for name, kind in TYPES.items():
            self.binned[name] |= {k for k, r in self.simulator.account.records[kind].items() if r.archived}

    def assert_exact(self) -> None:
        """Recall is 100 %, and there is no phantom."""
        portal = self.simulator.account
        for name, kind in TYPES.items():
            truth = {
                (key, r.properties.get(VALUE[name]), iso(r.updated_at)[:-1], r.archived)
                for key, r in portal.records[kind].items()
            }
            rows = self.found[name]
            assert len({row[0] for row in rows}) == len(rows)
            live_or_binned = {
                (row[0], row[1], row[2].isoformat(timespec="milliseconds"), row[4])
                for row in rows
                if row[3] or (row[4] and row[0] in portal.records[kind])
            }
            assert live_or_binned == truth, name
            # What was in the bin when it went for good stays archived; it has expired.
            expired = {row[0] for row in rows if row[4]} - {key for key, *_ in truth}
            assert expired <= self.binned[name]
        live = {
            (from_id, to_id, type_id, label)
            for from_id, to_id, type_id, label in portal.associations[("contacts", ORGANISATIONS)]
            if not portal.records["contacts"][from_id].archived
            and not portal.records[ORGANISATIONS][to_id].archived
        }
        assert sorted(self.found["associations"], key=str) == sorted(live, key=str)
        history = set(self.found["history"])
        assert len(history) == len(self.found["history"])
        assert history <= self.ever
        assert history >= {
            ("organisations", key, "seats", v["value"], v["timestamp"])
            for key, r in portal.records[ORGANISATIONS].items()
            if not r.archived
            for v in versions_of(r, "seats")
        }

    def act(self, what: str, first: int, second: int) -> None:
        """One thing that happens; the numbers choose to which records."""
        simulator = self.simulator
        name = "organisations" if first % 3 else "contacts"
        kind = TYPES[name]
        records = simulator.account.records[kind]
        live = [key for key, record in records.items() if not record.archived]
        binned = [key for key, record in records.items() if record.archived]
        chosen = live[first % len(live)] if live else None
        match what:
            case "create":
                simulator.create(kind, {VALUE[name]: f"new {first}", "seats": str(second)})
            case "update" if chosen:
                values = {VALUE[name]: f"changed {second}"}
                simulator.update(kind, chosen, values | ({"seats": str(second)} if second % 2 else {}))
            case "archive" if chosen:
                simulator.archive(kind, chosen)
            case "restore" if binned:
                simulator.restore(kind, binned[first % len(binned)])
            case "merge" if len(live) > 1:
                simulator.merge(kind, live[first % len(live)], live[(first + 1) % len(live)])
            case "purge" if chosen:
                simulator.purge(kind, chosen)
            case "purge from the bin" if binned:
                simulator.purge(kind, binned[first % len(binned)])
            case "associate" if live:
                people = list(simulator.account.records["contacts"])
                places = list(simulator.account.records[ORGANISATIONS])
                if people and places:
                    pair = people[first % len(people)], places[second % len(places)]
                    linked = {row[:2] for row in simulator.account.associations[("contacts", ORGANISATIONS)]}
                    if pair in linked:
                        simulator.dissociate("contacts", pair[0], ORGANISATIONS, pair[1])
                    else:
                        simulator.associate("contacts", pair[0], ORGANISATIONS, pair[1], type_id=279)
            case "wait":
                simulator.clock.advance(second * 60)
            case "read":
                self.read()
        self.remember()


@contextmanager
def world(
    lag: timedelta = timedelta(0), organisations: int = 12, cursor: str = "last_id", **hubspot_settings: Any
) -> Iterator[World]:
    portal = account(organisations=organisations, contacts=6)
    portal.properties[ORGANISATIONS].append(definition("hs_lastmodifieddate", "datetime"))
    simulator = HubSpotSimulator(
        portal,
        clock=still(),
        index_lag=lag,
        cursor=cursor,
        limits=Limits(per_10_seconds=100_000, search_per_second=100_000),
    )
    chosen = settings_with(
        requests_per_10_seconds=100_000,
        searches_per_second=100_000,
        workers=2,
        time_budget_seconds=600,
        **hubspot_settings,
    )
    with tempfile.TemporaryDirectory() as folder, serving(simulator.app) as (address,):
        yield World(simulator, address, Path(folder), chosen)


WHAT = [
    "create", "update", "update", "archive", "restore", "merge", "purge", "purge from the bin", "associate",
    "wait", "read", "read",
]  # fmt: skip
HAPPENINGS = st.lists(
    st.tuples(st.sampled_from(WHAT), st.integers(0, 999), st.integers(0, 2_000)), min_size=3, max_size=25
)


def live_through(happenings: list[tuple[str, int, int]], lag: timedelta, cursor: str = "last_id") -> None:
    """A first run, then what happens, then time for the search index, then a run that must be exact."""
    with world(lag, cursor=cursor) as one:
        one.read()
        one.assert_exact()
        for what, first, second in happenings:
            one.act(what, first, second)
            if what == "read" and not lag:
                one.assert_exact()
        one.simulator.clock.advance(LAG.total_seconds() + 1)
        one.read()
        one.assert_exact()


@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(HAPPENINGS, st.sampled_from([timedelta(0), LAG]))
def test_any_history_of_changes_and_runs_is_read_exactly(
    happenings: list[tuple[str, int, int]], lag: timedelta
) -> None:
    live_through(happenings, lag)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(HAPPENINGS, st.sampled_from([timedelta(0), LAG]), st.sampled_from(["last_id", "next_id", "opaque"]))
def test_a_long_search_for_a_history_that_is_not_read_exactly(
    happenings: list[tuple[str, int, int]], lag: timedelta, cursor: str
) -> None:
    live_through(happenings, lag, cursor)


def test_what_changed_is_read_and_nothing_else_whoever_did_what(monkeypatch: pytest.MonkeyPatch) -> None:
    with world(organisations=150, census_days=1_000, full_list_days=1_000) as one:
        one.read()
        assert sorted(one.full) == ["contacts", "organisations"]
        simulator = one.simulator
        simulator.archive(ORGANISATIONS, "30")
        simulator.archive(ORGANISATIONS, "31")
        simulator.clock.advance(3_600)
        one.read()
        one.assert_exact()
        simulator.clock.advance(86_400)
        simulator.update(ORGANISATIONS, "12", {"name": "changed", "seats": "77"})
        simulator.create(ORGANISATIONS, {"name": "new", "seats": "1"})
        simulator.restore(ORGANISATIONS, "30")
        simulator.purge(ORGANISATIONS, "31")
        simulator.archive(ORGANISATIONS, "32")
        simulator.merge(ORGANISATIONS, "40", "41")
        simulator.associate("contacts", "5", ORGANISATIONS, "12", type_id=279)
        simulator.clock.advance(3_600)
        one.read()
        one.assert_exact()
        assert one.full == []
        found = one.results["organisations"]
        # changed, new, the winner of the merge; one in the bin; one restored
        assert found.records == 3 + 1 + 1
        # properties, search, three by id with their history, the bin, those that left it
        assert found.requests == 5
        assert "organisations_census" not in one.results
        # A privacy deletion shows in nothing but the number of records.
        simulator.purge(ORGANISATIONS, "50")
        one.read()
        one.assert_exact()
        assert one.full == []
        assert one.results["organisations_census"].deleted == 1
        assert "HubSpot counts 147 records where the warehouse holds 148" in (
            one.results["organisations_census"].message
        )
        one.read()
        assert "organisations_census" not in one.results


def test_a_record_dated_in_2099_hides_nothing_and_so_does_a_clock_that_jumps() -> None:
    with world(organisations=30, full_list_days=1_000) as one:
        one.read()
        records = one.simulator.account.records[ORGANISATIONS]
        records["9"].updated_at = records["9"].updated_at.replace(year=2099)
        one.read()
        one.simulator.clock.advance(-7_200)  # HubSpot's clock is set back
        one.simulator.update(ORGANISATIONS, "10", {"name": "while the clock was wrong"})
        one.read()
        one.simulator.clock.advance(10 * 86_400)
        one.simulator.update(ORGANISATIONS, "11", {"name": "ten days later"})
        one.read()
        names = {row[0]: row[1] for row in one.found["organisations"]}
        assert names["10"] == "while the clock was wrong"
        assert names["11"] == "ten days later"
        assert one.full == []


@pytest.mark.parametrize("cursor", ["last_id", "opaque"])
def test_a_record_that_a_full_list_leaves_out_is_asked_for_by_id_and_not_deleted(cursor: str) -> None:
    with world(organisations=30, cursor=cursor, full_list_days=0) as one:
        # HubSpot's count of records, which would show it, may not be read either.
        one.simulator.forbidden["limits"] = ["crm.schemas.custom.read"]
        one.read()
        one.simulator.unlisted = {(ORGANISATIONS, "12"), ("contacts", "3")}
        one.simulator.purge("contacts", "5")
        one.simulator.archive(ORGANISATIONS, "13")
        one.read()
        one.assert_exact()
        assert one.full == ["contacts", "organisations"] or one.full == ["organisations", "contacts"]
        assert one.results["contacts"].deleted == 1
        assert one.results["organisations"].deleted == 0
        assert "1 records were read by id that HubSpot's list had left out" in one.results["contacts"].message


def test_who_was_erased_here_and_is_still_in_hubspot_costs_one_comparison_of_ids_and_no_more() -> None:
    with world(organisations=12, census_days=1_000, full_list_days=1_000) as one:
        one.read()
        one.simulator.clock.advance(86_400)
        one.read()  # from now on nobody is read again because of having changed lately
        with run(one.folder) as now:
            who = find_person(now.connection, contacts=["3"])
            assert erase(now.warehouse, now.connection, now.fence, who, "requested").persons == 1
        for census in (True, False, False):
            one.simulator.clock.advance(86_400)
            one.read()
            assert ("contacts_census" in one.results) is census
            assert "3" not in {row[0] for row in one.found["contacts"]}
        one.simulator.purge("contacts", "3")
        one.read()
        assert "contacts_census" not in one.results
        one.simulator.purge("contacts", "4")
        one.read()
        assert one.results["contacts_census"].deleted == 1
