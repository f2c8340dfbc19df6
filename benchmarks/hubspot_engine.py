"""The extract engine bare: one large HubSpot object from its API into landing files, and nothing loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import hubspot_run
from benchmarks.harness import Job

TITLE = "HubSpot extract engine, bare"
REFERENCE = "bare floor: urllib3 pages, split into NDJSON, nothing more"
ROUNDS = 3


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Serve the portal."""
    with hubspot_run.portal(folder, 20_000 if quick else 200_000) as size:
        yield size


def ours(folder: Path, work: Path) -> Job:
    """Read into landing files: checked, compressed, hashed, synced."""
    settings, environment = hubspot_run.configured(folder, work)
    return hubspot_run.measured(lambda: hubspot_run.landed(settings, environment, work))


def reference(folder: Path, work: Path) -> Job:
    """See `benchmarks.floor`."""
    from benchmarks import floor

    def job() -> None:
        floor.fetch(folder, work)

    return hubspot_run.measured(job)
