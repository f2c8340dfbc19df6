"""What the HubSpot benchmarks share: the portal, and readings of it as runs make them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

if TYPE_CHECKING:
    from benchmarks.harness import Job
    from hub_pipeline.settings import Environment, Settings
    from hub_pipeline.warehouse.landing import LoadContext

DAY = date(2026, 10, 31)
CLOSE = datetime(2026, 11, 1)  # noqa: DTZ001  UTC without offset, as the ledger keeps it
UNLIMITED = 1_000_000


@contextmanager
def portal(folder: Path, count: int, **options: Any) -> Iterator[str]:
    """Serve a portal of so many contacts; `benchmarks.portal.Portal` says what may be chosen."""
    from benchmarks.portal import Portal, serving
    from benchmarks.records import PROPERTIES

    with serving(Portal(count, **options)) as address:
        (folder / "address").write_text(address)
        yield f"{count:,} records, {len(PROPERTIES)} properties, {count // 100:,} pages"


def hits(folder: Path) -> dict[str, int]:
    """Requests the portal has seen, those for records, those it refused; and its number of records."""
    with urlopen(f"{(folder / 'address').read_text()}/__hits") as answer:  # noqa: S310  our own server
        found: dict[str, int] = json.load(answer)
    return found


def configured(folder: Path, work: Path, **hubspot: Any) -> tuple[Settings, Environment]:
    """Settings that read contacts and nothing else, and where from."""
    from pydantic import SecretStr

    from benchmarks.portal import TOKEN
    from hub_pipeline.settings import Environment, Settings

    values = {
        "objects": {"contacts": {"object_type": "contacts"}},
        "associations": [],
        "requests_per_10_seconds": UNLIMITED,
        "searches_per_second": UNLIMITED,
        **hubspot,
    }
    return Settings.model_validate({"hubspot": values}), Environment(
        data_dir=work,
        hubspot_access_token=SecretStr(TOKEN),
        hubspot_base_url=(folder / "address").read_text(),
    )


def loading(settings: Settings, environment: Environment, work: Path) -> tuple[float, float]:
    """Read contacts into a warehouse in `work`, as one run of one source does.

    Returns:
        CPU seconds of reading, all of the process while the loader was not at work; and those of loading contacts,
        without the account, owners, users and definitions that every run reads as well.
    """
    from hub_pipeline.sources import hubspot
    from hub_pipeline.sources.progress import NullProgress
    from hub_pipeline.warehouse import ledger
    from hub_pipeline.warehouse.database import Warehouse
    from hub_pipeline.warehouse.known import WarehouseKnown
    from hub_pipeline.warehouse.loader import RawLoader
    from hub_pipeline.warehouse.lock import RunLock

    warehouse = Warehouse.in_folder(work)
    with RunLock(work) as lock, warehouse.connect() as connection:
        load, fence = ledger.begin_run(connection, lock, warehouse.state_path, DAY, CLOSE)
        loader = RawLoader(connection, fence, load, warehouse.landing_root)
        known = WarehouseKnown(connection)
        began = process_time()
        engine = contacts = 0.0
        for stream, files, result in hubspot.extract(
            settings, environment, warehouse.landing_root, load, NullProgress(), known
        ):
            engine += process_time() - began
            began = process_time()
            for file in files:
                loader.load_file(stream, file)
            loader.finish_stream(stream, files, result, 0.2)
            if stream.object == "contacts":
                contacts += process_time() - began
            began = process_time()
        return engine + process_time() - began, contacts


def landed(settings: Settings, environment: Environment, work: Path) -> None:
    """Read contacts into landing files: the extract engine bare."""
    from hub_pipeline.sources import hubspot
    from hub_pipeline.sources.progress import NullProgress
    from hub_pipeline.warehouse.landing import LoadContext

    load: LoadContext = LoadContext("landed", DAY, CLOSE, None, CLOSE)
    for _ in hubspot.extract(settings, environment, work, load, NullProgress()):
        pass


def full_load(folder: Path, work: Path) -> Job:
    """A first run; the share of the extract engine is told by itself."""
    settings, environment = configured(folder, work)

    def job() -> None:
        loading(settings, environment, work)

    return job


def measured(job: Job) -> Job:
    """The job with the CPU seconds of its own work, without start and imports."""

    def inner() -> dict[str, float]:
        before = process_time()
        more = job() or {}
        return {"CPU of the work": process_time() - before, **more}

    return inner
