"""One large HubSpot object from its API into the rows of a raw table, without latency and without a limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import hubspot_run
from benchmarks.harness import Job

TITLE = "HubSpot full load"
REFERENCE = "bare floor: urllib3 pages, split into NDJSON, one typed read_json into a table, checkpoint"
ROUNDS = 3


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Serve the portal."""
    with hubspot_run.portal(folder, 20_000 if quick else 200_000) as size:
        yield size


def ours(folder: Path, work: Path) -> Job:
    """Read and load, as a first run does: landed, hashed, synced, compared, dated, recorded."""
    return hubspot_run.full_load(folder, work)


def reference(folder: Path, work: Path) -> Job:
    """See `benchmarks.floor`."""
    from benchmarks import floor

    return lambda: floor.read(folder, work)
