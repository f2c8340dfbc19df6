"""A reading that is killed at any page is gone on with, and the tables end as if nothing had happened."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from hub_pipeline.demo.hubspot_server import HubSpotSimulator, Limits
from hub_pipeline.demo.serve import serving
from hub_pipeline.errors import SourceUnavailableError
from hub_pipeline.warehouse import landing
from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline_tests.demo.portal import ORGANISATIONS, account, definition, still
from hub_pipeline_tests.sources.hubspot_day import main
from hub_pipeline_tests.warehouse.support import DAY

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "hub_pipeline_tests.sources.hubspot_day"]
NEXT_DAY = date(2026, 11, 1)


@dataclass
class Portal:
    simulator: HubSpotSimulator
    address: str

    def read(self, folder: Path, day: date = DAY) -> int:
        """Read in this process; returns the requests for records and associations."""
        self.simulator.hits.clear()
        main(folder, self.address, day)
        return self.simulator.hits.count("/crm/objects") + self.simulator.hits.count("/crm/associations")

    def kill(self, folder: Path, at: str, day: date = DAY) -> None:
        """Read in a process that dies at a point."""
        done = subprocess.run(
            [*COMMAND, str(folder), self.address, day.isoformat()],
            cwd=ROOT,
            env={**os.environ, "HUB_CRASH_AT": at},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -9, f"the point {at} was not passed: {done.stderr}"

    def kill_after(self, folder: Path, seconds: float, day: date = DAY) -> None:
        """Read in a process that is killed after a time, unless it is quicker."""
        command = [*COMMAND, str(folder), self.address, day.isoformat()]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
        process.wait()

    def change(self) -> None:
        """A day's work of people and of a privacy request."""
        self.simulator.clock.advance(86_400)
        for number in range(9, 110):
            self.simulator.update(ORGANISATIONS, str(number), {"seats": str(number * 3)})
        for number in range(1, 60):
            self.simulator.update("contacts", str(number), {"email": f"q{number}@example.com"})
        self.simulator.archive(ORGANISATIONS, "200")
        self.simulator.merge(ORGANISATIONS, "201", "202")
        self.simulator.purge(ORGANISATIONS, "203")
        self.simulator.associate("contacts", "5", ORGANISATIONS, "20", type_id=279)
        self.simulator.clock.advance(3_600)


@contextmanager
def portal(organisations: int = 260, contacts: int = 120, cursor: str = "last_id") -> Iterator[Portal]:
    limits = Limits(per_10_seconds=100_000, search_per_second=100_000)
    made = account(organisations, contacts)
    made.properties[ORGANISATIONS].append(definition("hs_lastmodifieddate", "datetime"))
    simulator = HubSpotSimulator(made, clock=still(), limits=limits, cursor=cursor)
    simulator.account.associations[("contacts", ORGANISATIONS)] = [
        (str(n), str(8 + n), 279, None) for n in range(1, 100)
    ]
    roll = landing.ROLL_BYTES
    try:
        with serving(simulator.app) as (address,):
            yield Portal(simulator, address)
    finally:
        landing.ROLL_BYTES = roll


def tables(folder: Path) -> dict[str, str]:
    return fingerprint(folder / "build.duckdb")


def test_killed_at_some_page_on_two_days_and_gone_on_with_it_ends_the_same(tmp_path: Path) -> None:
    with portal() as one:
        whole = one.read(tmp_path / "whole")
        one.kill(tmp_path / "killed", "landing.file.after:8")
        assert one.read(tmp_path / "killed") < whole - 2
        assert tables(tmp_path / "killed") == tables(tmp_path / "whole")
        one.change()
        whole = one.read(tmp_path / "whole", NEXT_DAY)
        one.kill(tmp_path / "killed", "landing.file.after:3", NEXT_DAY)
        assert one.read(tmp_path / "killed", NEXT_DAY) <= whole
        assert tables(tmp_path / "killed") == tables(tmp_path / "whole")


def test_the_daily_limit_ends_a_run_that_the_next_one_goes_on_with(tmp_path: Path) -> None:
    with portal() as one:
        whole = one.read(tmp_path / "whole")
        one.simulator.limits.daily = one.simulator._used_today + 12
        with pytest.raises(SourceUnavailableError, match=r"daily request limit is used up.*kept"):
            one.read(tmp_path / "paused")
        one.simulator.limits.daily = 1_000_000
        assert one.read(tmp_path / "paused") < whole - 2
        assert tables(tmp_path / "paused") == tables(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("cursor", ["last_id", "next_id", "opaque"])
@pytest.mark.parametrize("point", [1, 2, 3, 4, 5, 7, 9, 11])
def test_killed_at_any_page_whatever_cursors_are(tmp_path: Path, cursor: str, point: int) -> None:
    with portal(cursor=cursor) as one:
        one.read(tmp_path / "whole")
        one.kill(tmp_path / "killed", f"landing.file.after:{point}")
        one.read(tmp_path / "killed")
        assert tables(tmp_path / "killed") == tables(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_killed_three_times_at_random_moments_of_two_days(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    with portal(cursor=draw.choice(["last_id", "next_id", "opaque"])) as one:
        one.simulator.latency_ms = 5
        one.read(tmp_path / "whole")
        for _ in range(3):
            one.kill_after(tmp_path / "killed", draw.uniform(0.4, 2.5))
        one.read(tmp_path / "killed")
        assert tables(tmp_path / "killed") == tables(tmp_path / "whole")
        one.change()
        one.read(tmp_path / "whole", NEXT_DAY)
        for _ in range(3):
            one.kill_after(tmp_path / "killed", draw.uniform(0.4, 2.5), NEXT_DAY)
        one.read(tmp_path / "killed", NEXT_DAY)
        assert tables(tmp_path / "killed") == tables(tmp_path / "whole")
