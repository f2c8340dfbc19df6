"""A run that reads what changed, one record in a thousand, into a warehouse that holds all the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import hubspot_run
from benchmarks.harness import Job

TITLE = "HubSpot incremental, 0.1 % changed"
REFERENCE = "CPU: bare floor (the same search pages, split, one read_json, checkpoint); requests: those of a full load"
ROUNDS = 2


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Serve the portal."""
    with hubspot_run.portal(folder, 20_000 if quick else 200_000) as size:
        yield size


def ours(folder: Path, work: Path) -> Job:
    """The second run: after a full load that is not measured."""
    settings, environment = hubspot_run.configured(folder, work)
    hubspot_run.loading(settings, environment, work)

    def job() -> dict[str, float]:
        before = hubspot_run.hits(folder)
        engine, contacts = hubspot_run.loading(settings, environment, work)
        after = hubspot_run.hits(folder)
        asked = {f"{kind} requests": after[kind] - before[kind] for kind in ("record", "all")}
        return {"CPU of the engine": engine, "CPU of the rows": engine + contacts, **asked}

    return hubspot_run.measured(job)


def reference(folder: Path, work: Path) -> Job:
    """See `benchmarks.floor`."""
    from benchmarks import floor
    from benchmarks.portal import PAGE

    def job() -> dict[str, float]:
        floor.search(folder, work)
        pages = hubspot_run.hits(folder)["count"] / PAGE
        return {"record requests": pages, "all requests": pages}

    timed = hubspot_run.measured(job)

    def both() -> dict[str, float]:
        found = timed() or {}
        return {**found, **dict.fromkeys(("CPU of the engine", "CPU of the rows"), found["CPU of the work"])}

    return both
