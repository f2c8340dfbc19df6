"""Reads a portal or workspace that a simulator serves into a warehouse, as a run does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import SecretStr

from hub_pipeline.demo.serve import serving
from hub_pipeline.demo.wire import Simulator
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.progress import NullProgress, Progress
from hub_pipeline.warehouse.known import WarehouseKnown
from hub_pipeline.warehouse.raw import RawStream, StreamResult
from hub_pipeline_tests.warehouse.support import DAY, Run, run

ORGANISATIONS = "2-1138478"


def settings_with(**hubspot: Any) -> Settings:
    """Settings for the small portal: organisations and contacts, and what a test changes."""
    objects = {
        "organisations": {"object_type": ORGANISATIONS, "history": ["seats"]},
        "contacts": {"object_type": "contacts"},
    }
    values = {"objects": objects, "associations": [("contacts", "organisations")], "time_budget_seconds": 20}
    return Settings.model_validate({"hubspot": {**values, **hubspot}})


def environment(data_dir: Path, address: str, **more: Any) -> Environment:
    """Both sources at one address, with the tokens the simulators accept."""
    values: dict[str, Any] = {
        "data_dir": data_dir,
        "hubspot_access_token": SecretStr("demo-hubspot-token"),
        "hubspot_base_url": address,
        "intercom_access_token": SecretStr("demo-intercom-token"),
        "intercom_base_url": address,
    }
    return Environment.model_validate({**values, **more})


@dataclass
class Loaded:
    """What one run read: the results by object, and the warehouse it went into."""

    run: Run
    results: dict[str, StreamResult] = field(default_factory=dict)
    streams: dict[str, RawStream] = field(default_factory=dict)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.run.rows(query)

    def column(self, query: str) -> list[Any]:
        return [row[0] for row in self.rows(query)]


@contextmanager
def reading(
    source: ModuleType,
    simulator: Simulator,
    data_dir: Path,
    settings: Settings,
    *,
    day: date = DAY,
    progress: Progress | None = None,
    max_shrink: float = 1.0,
    **more: Any,
) -> Iterator[Loaded]:
    """Serve the simulator, read it with the source, load everything, and give the open warehouse."""
    with serving(simulator.app) as (url,), run(data_dir, day) as one:
        loaded = Loaded(one)
        where = environment(data_dir, url, **more)
        known = WarehouseKnown(one.connection)
        for stream, files, result in source.extract(
            settings, where, one.warehouse.landing_root, one.load, progress or NullProgress(), known
        ):
            for file in files:
                one.loader.load_file(stream, file)
            loaded.streams[result.object] = stream
            loaded.results[result.object] = one.loader.finish_stream(stream, files, result, max_shrink)
        yield loaded
