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
from hub_pipeline.warehouse.known import WarehouseKnown
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline_tests.demo.portal import ORGANISATIONS, account, still
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
    ever: set[tuple[str, str, str, str, str]] = field(default_factory=set)
    binned: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in TYPES})

    def read(self, **more: Any) -> None:
        """One run; `results` are those of the last one."""
        chosen = settings_with(**{**self.settings.hubspot.model_dump(), **more}) if more else self.settings
        self.remember()
        with run(self.folder) as one:
            where = environment(self.folder, self.address)
            known = WarehouseKnown(one.connection)
            self.results = {}
            for stream, files, result in hubspot.extract(
                chosen, where, one.warehouse.landing_root, one.load, NullProgress(), known
            ):
                if result.object in NEVER_CHANGES:
                    continue
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
    simulator = HubSpotSimulator(
        account(organisations=organisations, contacts=6),
        clock=still(),
        index_lag=lag,
        cursor=cursor,
        limits=Limits(per_10_seconds=100_000, search_per_second=100_000),
    )
    chosen = settings_with(
        requests_per_10_seconds=100_000, searches_per_second=100_000, workers=2, **hubspot_settings
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
