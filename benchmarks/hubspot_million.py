"""What memory a full load takes when the object is five times as large: it must not grow with the records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import hubspot_run
from benchmarks.harness import Job

TITLE = "HubSpot full load, five times as large"
REFERENCE = "the same load of a fifth of the records"
ROUNDS = 1


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Serve both portals."""
    count = 100_000 if quick else 1_000_000
    for name in ("ours", "reference"):
        (folder / name).mkdir()
    with (
        hubspot_run.portal(folder / "ours", count) as size,
        hubspot_run.portal(folder / "reference", count // 5),
    ):
        yield size


def ours(folder: Path, work: Path) -> Job:
    """Read and load, as a first run does."""
    return hubspot_run.full_load(folder / "ours", work)


def reference(folder: Path, work: Path) -> Job:
    """The same."""
    return hubspot_run.full_load(folder / "reference", work)
