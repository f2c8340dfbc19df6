"""An Intercom workspace that lives on, and a warehouse that reads it day after day."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from hub_pipeline.demo.account import IntercomWorkspace
from hub_pipeline.demo.intercom_life import IntercomLife
from hub_pipeline.demo.intercom_server import IntercomSimulator
from hub_pipeline.demo.serve import serving
from hub_pipeline.demo.wire import SimulatorClock
from hub_pipeline.settings import Settings
from hub_pipeline.sources import intercom
from hub_pipeline.sources.progress import NullProgress
from hub_pipeline.warehouse.known import WarehouseKnown
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline_tests.sources.reading import environment
from hub_pipeline_tests.warehouse.support import Run, run

START = datetime(2026, 10, 31, 12, tzinfo=UTC)
DAY = date(2026, 10, 31)

LIVE = "_deleted_at IS NULL AND _archived_at IS NULL AND _merged_into IS NULL"
_HELD = {
    "contacts": "SELECT id, email, name, companies, epoch(updated_at)::BIGINT",
    "companies": "SELECT id, company_id, name",
    "conversations": "SELECT id, contact_id, company_id, state, rating, remark, epoch(updated_at)::BIGINT",
    "tickets": "SELECT id, state, title, contact_ids, company_id, is_open, epoch(updated_at)::BIGINT",
    "teams": "SELECT id, name, admin_ids",
    "tags": "SELECT id, name",
    "admins": "SELECT id, name",
}


@dataclass
class World:
    """One workspace with its server, and the data folder of its reader."""

    simulator: IntercomSimulator
    clock: SimulatorClock
    folder: Path
    url: str
    settings: dict[str, Any] = field(default_factory=dict)
    results: dict[str, StreamResult] = field(default_factory=dict)

    @property
    def life(self) -> IntercomLife:
        """What happens in the workspace."""
        return self.simulator.life

    @property
    def workspace(self) -> IntercomWorkspace:
        """What can be seen of it."""
        return self.simulator.workspace

    @contextmanager
    def reading(self, cut_off_after: int = 99, **settings: Any) -> Iterator[Run]:
        """Read once and give the open warehouse; the results are in `results`.

        Args:
            cut_off_after: so many streams are loaded, then the run ends as if it had been killed.
            settings: of Intercom, over those of the world.
        """
        values = {"time_budget_seconds": 120, **self.settings, **settings}
        with run(self.folder, DAY) as one:
            self.results = {}
            found = intercom.extract(
                Settings.model_validate({"intercom": values}),
                environment(self.folder, self.url),
                one.warehouse.landing_root,
                one.load,
                NullProgress(),
                WarehouseKnown(one.connection),
            )
            for stream, files, result in found:
                if len(self.results) == cut_off_after:
                    break
                one.loader.load_missing(stream)
                for file in files:
                    one.loader.load_file(stream, file)
                done = one.loader.finish_stream(stream, files, result, 1.0)
                self.results[result.object] = done
            assert isinstance(found, Generator)
            found.close()
            yield one

    def read(self, cut_off_after: int = 99, **settings: Any) -> None:
        """Read once."""
        with self.reading(cut_off_after, **settings):
            pass

    def differences(self, one: Run, *names: str) -> dict[str, tuple[set[Any], set[Any]]]:
        """Of each object what is missing in the warehouse and what it holds that is not there; empty if equal."""
        found = {}
        for name in names or tuple(_HELD):
            held = set(
                map(_hashable, one.rows(f"{_HELD[name]} FROM raw_intercom.{name}_current WHERE {LIVE}"))
            )
            there = set(map(_hashable, _there(self.workspace, name)))
            if held != there:
                found[name] = (there - held, held - there)
        return found

    def requests(self, template: str) -> int:
        """How often a path was asked for."""
        return self.simulator.hits.count(template)


@contextmanager
def world(
    folder: Path, workspace: IntercomWorkspace | None = None, start: datetime = START, **simulator: Any
) -> Iterator[World]:
    """A workspace on a clock that stands still until a test moves it.

    It must not pass the machine's own clock: times in the future are not believed.
    """
    clock = SimulatorClock(start, ticking=False)
    nobody = IntercomWorkspace({}, {}, {}, {"1": {"type": "admin", "id": "1", "name": "Ada"}})
    served = IntercomSimulator(workspace or nobody, clock=clock, **simulator)
    with serving(served.app) as (url,):
        yield World(served, clock, folder, url)


def _hashable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in row)


def _there(workspace: IntercomWorkspace, name: str) -> list[tuple[Any, ...]]:
    if name == "contacts":
        return [
            (c["id"], c["email"], c["name"], sorted(x["id"] for x in c["companies"]["data"]), c["updated_at"])
            for c in workspace.contacts.values()
        ]
    if name == "companies":
        return [(c["id"], c["company_id"], c["name"]) for c in workspace.companies.values()]
    if name == "conversations":
        rows = []
        for c in workspace.conversations.values():
            rating = c["conversation_rating"] or {}
            company = (c["company"] or {}).get("id")
            person = c["contacts"]["contacts"][0]["id"]
            said = (rating.get("rating"), rating.get("remark"))
            rows.append((c["id"], person, company, c["state"], *said, c["updated_at"]))
        return rows
    if name == "tickets":
        return [
            (
                t["id"],
                t["ticket_state"]["category"],
                t["ticket_attributes"]["_default_title_"],
                [c["id"] for c in t["contacts"]["contacts"]],
                t["company_id"],
                t["open"],
                t["updated_at"],
            )
            for t in workspace.tickets.values()
        ]
    if name == "teams":
        return [(t["id"], t["name"], sorted(t["admin_ids"])) for t in workspace.teams.values()]
    rows_of = {"tags": workspace.tags, "admins": workspace.admins}[name]
    return [(r["id"], r["name"]) for r in rows_of.values()]
