"""The demo company is served from this process or another, and never outlives the one that started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import urllib3

from hub_pipeline.demo.account import Company
from hub_pipeline.demo.faults import Fault, FaultKind, Faults
from hub_pipeline.demo.serve import company_process, running_company
from hub_pipeline.demo.truth import Truth
from hub_pipeline.errors import HubPipelineError
from hub_pipeline_tests.demo.portal import NOON, POOL, account, workspace

AS_OF = date(2026, 10, 31)
HUBSPOT = {"authorization": "Bearer demo-hubspot-token"}
INTERCOM = {"authorization": "Bearer demo-intercom-token", "intercom-version": "2.16"}


def small_company() -> Company:
    billing = {"stripe/customers__2026-10-31__full.csv": b"customer_id\ncus_1\n"}
    return Company(1, AS_OF, NOON, account(), workspace(), billing, Truth())


def gone(pid: int) -> bool:
    """Whether a process has ended; one that only waits to be reaped has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_both_systems_answer_with_the_companys_clock_and_the_faults_asked_for() -> None:
    faults = Faults([Fault(FaultKind.BAD_GATEWAY, first=2, every=0)])
    with running_company(small_company(), faults=faults) as running:
        answers = [
            POOL.request("GET", f"{running.hubspot_url}/crm/owners/2026-09", headers=HUBSPOT)
            for _ in range(3)
        ]
        assert [answer.status for answer in answers] == [200, 502, 200]
        assert (parsedate_to_datetime(answers[0].headers["Date"]) - NOON).total_seconds() < 5
        assert POOL.request("GET", f"{running.intercom_url}/me", headers=INTERCOM).status == 200
        running.hubspot.account.owners.clear()
        answer = POOL.request("GET", f"{running.hubspot_url}/crm/owners/2026-09", headers=HUBSPOT)
        assert answer.json() == {"results": []}
        assert running.hubspot.hits.count() == 4
    with pytest.raises(urllib3.exceptions.HTTPError):
        POOL.request("GET", f"{running.hubspot_url}/__hits")


def test_stopping_does_not_wait_for_a_request_that_hangs() -> None:
    with running_company(small_company(), faults=Faults([Fault(FaultKind.HANG, seconds=60)])) as running:
        pool = urllib3.PoolManager(retries=False, timeout=0.1)
        with pytest.raises(urllib3.exceptions.ReadTimeoutError):
            pool.request("GET", f"{running.hubspot_url}/crm/owners/2026-09", headers=HUBSPOT)
        before = time.monotonic()
    assert time.monotonic() - before < 2


def test_a_process_of_its_own_writes_the_billing_files_serves_and_ends_with_the_context(
    tmp_path: Path,
) -> None:
    with company_process(
        seed=8443689, as_of=AS_OF, billing_folder=tmp_path, latency_ms=0, faults="none"
    ) as running:
        assert running.pid != os.getpid()
        assert list(tmp_path.rglob("*.csv*"))
        assert not list(tmp_path.rglob("*.part"))
        details = POOL.request("GET", f"{running.hubspot_url}/account-info/2026-09/details", headers=HUBSPOT)
        assert details.json()["portalId"] == 8443689
        shown = parsedate_to_datetime(details.headers["Date"])
        assert shown.date() == datetime(2026, 11, 1, tzinfo=UTC).date()
        assert POOL.request("GET", f"{running.intercom_url}/me", headers=INTERCOM).status == 200
    assert gone(running.pid)


def test_a_process_that_cannot_start_is_one_plain_sentence() -> None:
    with (
        pytest.raises(HubPipelineError, match="did not start"),
        company_process(seed=1, as_of=AS_OF, faults="terrible"),
    ):
        pytest.fail("it must not get here")


def test_sigterm_ends_the_process(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "hub_pipeline.demo.serve", "--as-of", "2026-10-31", "--seed", "1"]
    process = subprocess.Popen([*command, "--ready-file", str(ready)])
    try:
        assert eventually(ready.exists, 30)
        values = json.loads(ready.read_text())
        assert values["pid"] == process.pid
        assert POOL.request("GET", f"{values['hubspot_url']}/__hits").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
    finally:
        process.kill()
        process.wait()


def test_no_server_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = (
        "import sys, time, datetime, pathlib\n"
        "from hub_pipeline.demo.serve import company_process\n"
        "with company_process(seed=1, as_of=datetime.date(2026, 10, 31)) as running:\n"
        "    pathlib.Path(sys.argv[1]).write_text(str(running.pid) + '\\n')\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(note)])
    try:
        assert eventually(lambda: note.exists() and note.read_text().endswith("\n"), 30)
        server = int(note.read_text())
        assert not gone(server)
        parent.kill()
        parent.wait()
        assert eventually(lambda: gone(server))
    finally:
        parent.kill()
        parent.wait()
