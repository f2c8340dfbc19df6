"""The same load as a short script with HubSpot's own client makes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import hubspot_run
from benchmarks.harness import Job

TITLE = "HubSpot full load, against the client's own way"
REFERENCE = "hubspot-api-client get_all, to_dict, a pandas frame, a DuckDB table"
ROUNDS = 1


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Serve the portal; the reference holds all of it as objects, more than 1 GB."""
    with hubspot_run.portal(folder, 10_000 if quick else 200_000) as size:
        yield size


def ours(folder: Path, work: Path) -> Job:
    """Read and load, as a first run does."""
    return hubspot_run.full_load(folder, work)


def reference(folder: Path, work: Path) -> Job:
    """Everything in one list, then in one frame."""
    import duckdb
    import pandas as pd  # type: ignore[import-untyped]
    from hubspot import HubSpot

    from benchmarks.portal import TOKEN
    from benchmarks.records import PROPERTIES

    address = (folder / "address").read_text()
    client = HubSpot(access_token=TOKEN, host=address)

    def job() -> None:
        contacts = client.crm.contacts.get_all(properties=list(PROPERTIES))
        frame = pd.DataFrame([{"id": c.id, "updated_at": c.updated_at, **c.properties} for c in contacts])
        with duckdb.connect(work / "client.duckdb") as connection:
            connection.register("frame", frame)
            connection.execute("CREATE TABLE records AS SELECT * FROM frame")
            connection.execute("CHECKPOINT")

    return job
