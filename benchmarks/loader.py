"""Landed CRM records into versions of a raw table, in a fresh build file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

from benchmarks.harness import Job

TITLE = "raw loader"
REFERENCE = "one typed read_json of the same files into a table, checkpoint"
ROUNDS = 3

_DAY = date(2026, 10, 31)
_CLOSE = datetime(2026, 11, 1)  # noqa: DTZ001  UTC without offset, as the ledger keeps it


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Land the records as a source does."""
    from benchmarks.records import PROPERTIES, pages
    from hub_pipeline.warehouse.landing import LandingWriter, LoadContext

    count = 20_000 if quick else 200_000
    load = LoadContext("landed", _DAY, _CLOSE, None, _CLOSE)
    with LandingWriter(folder, "hubspot", "contacts", load) as writer:
        for page in pages(count):
            writer.write(b"".join(page), len(page))
    yield f"{count:,} records, {len(PROPERTIES)} properties"


def ours(folder: Path, work: Path) -> Job:
    """Load the files and end the stream, as a run does."""
    from benchmarks.records import PROPERTIES
    from hub_pipeline.sources.hubspot.streams import object_stream
    from hub_pipeline.warehouse import ledger
    from hub_pipeline.warehouse.database import Warehouse
    from hub_pipeline.warehouse.landing import landed_files
    from hub_pipeline.warehouse.loader import RawLoader
    from hub_pipeline.warehouse.lock import RunLock
    from hub_pipeline.warehouse.raw import StreamResult

    stream = object_stream("contacts", PROPERTIES, [])
    landed = list(landed_files(folder, "hubspot", "contacts"))
    warehouse = Warehouse.in_folder(work)

    def job() -> None:
        with RunLock(work) as lock, warehouse.connect() as connection:
            load, fence = ledger.begin_run(connection, lock, warehouse.state_path, _DAY, _CLOSE)
            loader = RawLoader(connection, fence, load, warehouse.landing_root)
            # Files of the run itself: those of an earlier run would be hashed again first.
            files = [replace(file, run_id=load.run_id) for file in landed]
            inserted = sum(loader.load_file(stream, file) for file in files)
            assert inserted == sum(file.records for file in files)
            loader.finish_stream(stream, files, StreamResult("hubspot", "contacts", "complete"), 0.2)

    return job


def reference(folder: Path, work: Path) -> Job:
    """Read the files once; nothing is compared, hashed, dated or recorded."""
    import duckdb

    from benchmarks.records import PROPERTIES

    files = [str(path) for path in sorted(folder.rglob("*.ndjson.zst"))]
    types = dict.fromkeys(("id", "createdAt", "updatedAt", "archived", "archivedAt"), "VARCHAR")
    types["properties"] = "STRUCT(" + ", ".join(f'"{name}" VARCHAR' for name in PROPERTIES) + ")"

    def job() -> None:
        with duckdb.connect(work / "floor.duckdb") as connection:
            connection.execute(
                "CREATE TABLE records AS SELECT * EXCLUDE (properties), properties.* "
                f"FROM read_json($files, columns = {types}, format = 'newline_delimited', compression = 'zstd')",
                {"files": files},
            )
            connection.execute("CHECKPOINT")

    return job
