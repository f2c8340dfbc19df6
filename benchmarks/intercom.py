"""The conversations of one Intercom workspace from the demo server into landing files.

Intercom answers at most 1,666 requests in ten seconds, so at most 24,990 records a second get through its limit. The
figure ``% of a CPU at the limit`` says how busy a processor is kept at that rate: below 100 the limit is what counts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.harness import Job

TITLE = "Intercom extraction"
REFERENCE = "a urllib3 loop over the same pages that writes their bytes"
ROUNDS = 3

_DAY = date(2026, 10, 31)
_CLOSE = datetime(2026, 11, 1)  # noqa: DTZ001  UTC without offset, as the ledger keeps it
_UNLIMITED = 1_000_000
_TOKEN = "demo-intercom-token"  # noqa: S105  the made-up company's token, not a secret
_PAGE = 150
_RECORDS_PER_SECOND = 1_666 * _PAGE / 10
_FIGURE = "% of a CPU at the limit"


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Serve a workspace without latency and, in effect, without a limit."""
    from starlette.requests import Request

    from hub_pipeline.demo.account import IntercomWorkspace
    from hub_pipeline.demo.intercom_search import Page, Rules
    from hub_pipeline.demo.intercom_server import IntercomSimulator
    from hub_pipeline.demo.serve import serving
    from hub_pipeline.demo.wire import SimulatorClock

    class Sliced(IntercomSimulator):
        """Finds by creation time without looking at each record: searching is not what is measured."""

        def _found(self, request: Request, name: str, body: Mapping[str, Any], rules: Rules) -> Page:
            records = list(self.life.records(name).values())
            low, high = 0, len(records)
            query = body["query"]
            for bound in query["value"] if "field" not in query else []:
                place = bisect_left(records, bound["value"], key=lambda record: int(record["created_at"]))
                low, high = (place, high) if bound["operator"] == ">" else (low, place)
            if query.get("field") == "updated_at" and query["value"]:
                low = high  # nothing changes while it is read
            pagination = body["pagination"]
            first = low + int(pagination.get("starting_after", 0))
            last = min(first + pagination["per_page"], high)
            more = {"next": {"starting_after": str(last - low)}} if last < high else {}
            return Page(list(records[first:last]), high - low, more)

    count = 1_500 if quick else 15_000
    clock = SimulatorClock(datetime(2026, 10, 31, 12, tzinfo=UTC), ticking=False)
    simulator = Sliced(IntercomWorkspace({}, {}, {}, {}), clock=clock, per_10_seconds=_UNLIMITED)
    clock.advance(-500 * count)
    for number in range(count):
        key = str(215_000_000_000_000 + number)
        simulator.life.open_conversation(key, f"{number % 999:024x}", f"{number % 99:024x}")
        simulator.life.rate(key, number % 5 + 1, "It took a while but it was solved in the end")
        clock.advance(500)
    with serving(simulator.app) as (address,):
        (folder / "address").write_text(f"{address} {count}")
        yield f"{count:,} conversations, {-(-count // _PAGE)} pages"


def ours(folder: Path, work: Path) -> Job:
    """Extract into landing files: compressed, hashed, synced, with their record files."""
    from pydantic import SecretStr

    from hub_pipeline.settings import Environment, Settings
    from hub_pipeline.sources import intercom
    from hub_pipeline.sources.progress import NullProgress
    from hub_pipeline.warehouse.landing import LoadContext

    address, count = (folder / "address").read_text().split()
    values = {"parts": "none", "requests_per_10_seconds": _UNLIMITED, "reserve": 0}
    settings = Settings.model_validate({"intercom": values})
    environment = Environment(
        data_dir=work, intercom_access_token=SecretStr(_TOKEN), intercom_base_url=address
    )
    load = LoadContext("landed", _DAY, _CLOSE, None, _CLOSE)

    def job() -> dict[str, float]:
        before = process_time()
        for _ in intercom.extract(settings, environment, work, load, NullProgress()):
            pass
        return _share(process_time() - before, int(count))

    return job


def reference(folder: Path, work: Path) -> Job:
    """Ask for page after page over one connection; nothing is checked."""
    import json
    import re

    import urllib3

    address, count = (folder / "address").read_text().split()
    headers = {
        "authorization": f"Bearer {_TOKEN}",
        "accept-encoding": "gzip",
        "intercom-version": "2.16",
    }
    cursor = re.compile(rb'"starting_after":"([^"]+)"')
    query = {"field": "updated_at", "operator": ">", "value": 0}

    def job() -> dict[str, float]:
        before = process_time()
        pagination: dict[str, int | str] = {"per_page": _PAGE}
        with urllib3.PoolManager() as pool, (work / "pages").open("wb") as output:
            while True:
                sent = json.dumps({"query": query, "pagination": pagination}).encode()
                url = f"{address}/conversations/search"
                body = pool.request("POST", url, body=sent, headers=headers).data
                output.write(body)
                following = cursor.search(body, len(body) - 500)
                if following is None:
                    break
                pagination["starting_after"] = following[1].decode()
        return _share(process_time() - before, int(count))

    return job


def _share(cpu_seconds: float, records: int) -> dict[str, float]:
    return {_FIGURE: 100 * cpu_seconds / (records / _RECORDS_PER_SECOND)}
