"""One large HubSpot object from the demo portal's server into landing files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path

from benchmarks.harness import Job

TITLE = "HubSpot extraction"
REFERENCE = "a urllib3 loop over the same pages that writes their bytes"
ROUNDS = 3

_DAY = date(2026, 10, 31)
_CLOSE = datetime(2026, 11, 1)  # noqa: DTZ001  UTC without offset, as the ledger keeps it
_UNLIMITED = 1_000_000
_TOKEN = "demo-hubspot-token"  # noqa: S105  the made-up company's token, not a secret


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Serve a portal without latency and, in effect, without a limit."""
    import msgspec

    from benchmarks.records import PROPERTIES, pages
    from hub_pipeline.demo.account import HubSpotAccount, HubSpotRecord
    from hub_pipeline.demo.hubspot_server import HubSpotSimulator, Limits
    from hub_pipeline.demo.serve import serving

    count = 2_000 if quick else 20_000
    records = {}
    for page in pages(count):
        for row in map(msgspec.json.decode, page):
            created, updated = (datetime.fromisoformat(row[key]) for key in ("createdAt", "updatedAt"))
            records[row["id"]] = HubSpotRecord(row["id"], row["properties"], created, updated)
    definitions = [{"name": name, "label": name, "type": "string"} for name in PROPERTIES]
    account = HubSpotAccount(1, {"contacts": definitions}, {"contacts": records}, {}, [], {})
    simulator = HubSpotSimulator(account, limits=Limits(per_10_seconds=_UNLIMITED))
    with serving(simulator.app) as (address,):
        (folder / "address").write_text(address)
        yield f"{count:,} records, {len(PROPERTIES)} properties, {count // 100} pages"


def ours(folder: Path, work: Path) -> Job:
    """Extract into landing files: compressed, hashed, synced, with their record files."""
    from pydantic import SecretStr

    from hub_pipeline.settings import Environment, Settings
    from hub_pipeline.sources import hubspot
    from hub_pipeline.sources.progress import NullProgress
    from hub_pipeline.warehouse.landing import LoadContext

    settings = Settings.model_validate(
        {
            "hubspot": {
                "objects": {"contacts": {"object_type": "contacts"}},
                "associations": [],
                "requests_per_10_seconds": _UNLIMITED,
            }
        }
    )
    environment = Environment(
        data_dir=work,
        hubspot_access_token=SecretStr(_TOKEN),
        hubspot_base_url=(folder / "address").read_text(),
    )
    load = LoadContext("landed", _DAY, _CLOSE, None, _CLOSE)

    def job() -> None:
        for _ in hubspot.extract(settings, environment, work, load, NullProgress()):
            pass

    return job


def reference(folder: Path, work: Path) -> Job:
    """Ask for page after page over one connection; nothing is checked."""
    import re

    import urllib3

    from benchmarks.records import PROPERTIES

    address = (folder / "address").read_text()
    headers = {"authorization": f"Bearer {_TOKEN}", "accept-encoding": "gzip"}
    query = f"{address}/crm/objects/2026-09/contacts?limit=100&properties={','.join(PROPERTIES)}"
    cursor = re.compile(rb'"after":"(\d+)"')

    def job() -> None:
        with urllib3.PoolManager() as pool, (work / "pages").open("wb") as output:
            after = ""
            while True:
                body = pool.request("GET", query + after, headers=headers).data
                output.write(body)
                following = cursor.search(body, len(body) - 3_000)
                if following is None:
                    break
                after = f"&after={following[1].decode()}"

    return job
