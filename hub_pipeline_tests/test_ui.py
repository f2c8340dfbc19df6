"""The Dagster UI as the data team meets it, in a real browser."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from hub_pipeline.demo.account import DEMO_AS_OF, DEMO_SEED
from hub_pipeline.demo.check import check
from hub_pipeline.demo.company import build_company
from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline_tests.browser import browser_page, chromium
from hub_pipeline_tests.commands import clean_environment

GROUPS = ("hubspot", "intercom", "billing", "inputs", "staging", "intermediate", "marts", "hub", "published")

pytestmark = pytest.mark.browser


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def demo_environment(folder: Path) -> dict[str, str]:
    return clean_environment(HUB_DATA_DIR=str(folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chromium()
    return tmp_path_factory.mktemp("ui")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "hub_pipeline.cli", "ui", "--demo", "--port", str(port)],
        env=demo_environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300
        while True:
            assert process.poll() is None, "the UI ended by itself"
            assert time.monotonic() < deadline, "the UI did not answer within five minutes"
            try:
                urlopen(f"{base}/server_info").close()
                break
            except URLError:
                time.sleep(0.5)
        yield base
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def ask(address: str, query: str) -> Any:
    body = json.dumps({"query": query}).encode()
    with urlopen(
        Request(f"{address}/graphql", data=body, headers={"Content-Type": "application/json"})
    ) as answer:
        return json.load(answer)["data"]


def runs(address: str) -> list[dict[str, Any]]:
    """Runs of the demo's last day; the night before it the command line has run."""
    query = "{runsOrError{... on Runs{results{status jobName tags{key value}}}}}"
    found = ask(address, query)["runsOrError"]["results"]
    tag = {"key": "dagster/partition", "value": str(DEMO_AS_OF)}
    return [run for run in found if tag in run["tags"]]


def test_the_asset_graph_shows_every_group(address: str) -> None:
    with browser_page() as page:
        page.goto(f"{address}/asset-groups")
        for group in GROUPS:
            page.get_by_text(group, exact=True).first.wait_for(timeout=60_000)


def test_materialising_everything_for_a_day_does_what_the_command_line_does(
    address: str, folder: Path
) -> None:
    with browser_page() as page:
        page.goto(f"{address}/locations/hub_pipeline.definitions/jobs/daily")
        page.get_by_role("button", name="Materialize all").first.click(timeout=60_000)
        days = page.get_by_placeholder("No matching partitions")
        days.fill(str(DEMO_AS_OF))
        days.press("Enter")
        page.get_by_role("button", name="Launch 1 run").click()
        deadline = time.monotonic() + 180
        while not (found := runs(address)) or found[0]["status"] not in ("SUCCESS", "FAILURE", "CANCELED"):
            assert time.monotonic() < deadline, found
            time.sleep(1)
        assert [run["status"] for run in found] == ["SUCCESS"]

        page.goto(f"{address}/assets/marts/at_risk?view=overview")
        page.get_by_text("seat_contraction_pct").first.wait_for(timeout=60_000)
        page.get_by_text("Row count").first.wait_for(timeout=60_000)

    data = folder / "demo"
    assert check(data / "warehouse.duckdb", build_company(DEMO_SEED, DEMO_AS_OF)).differences == []
    from_ui = fingerprint(data / "warehouse.duckdb"), fingerprint(data / "build.duckdb")
    subprocess.run(
        [sys.executable, "-m", "hub_pipeline.cli", "demo"],
        env=demo_environment(folder),
        check=True,
        capture_output=True,
    )
    assert (fingerprint(data / "warehouse.duckdb"), fingerprint(data / "build.duckdb")) == from_ui
