"""The extract engine under the limit and the latency of a real account; it fails on a single refused request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path

from benchmarks import hubspot_run
from benchmarks.harness import Job

TITLE = "HubSpot full load at 190 requests in 10 s and 80 ms"
REFERENCE = "seconds: the bound (ceil(requests / 190) - 1) * 10, which leaves out the last burst; no request is refused"
ROUNDS = 1


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Serve the portal with its limit."""
    count = 30_000 if quick else 140_000
    with hubspot_run.portal(folder, count, latency=0.08, limited=True) as size:
        yield size


def ours(folder: Path, work: Path) -> Job:
    """Fetch and land."""
    settings, environment = hubspot_run.configured(
        folder, work, requests_per_10_seconds=190, reserve=0, searches_per_second=4
    )

    def job() -> dict[str, float]:
        hubspot_run.landed(settings, environment, work)
        found = hubspot_run.hits(folder)
        if found["refused"]:
            raise RuntimeError(f"{found['refused']} requests were refused")
        return {"requests": found["all"]}

    return job


def reference(folder: Path, work: Path) -> Job:
    """No more than arithmetic on the requests that ours needed."""

    def job() -> dict[str, float]:
        requests = hubspot_run.hits(folder)["all"]
        return {"seconds": (ceil(requests / 190) - 1) * 10.0, "requests": requests}

    return job
