"""Killed at any moment and run again, the warehouse ends as if nothing had happened."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline_tests.warehouse.daily import main
from hub_pipeline_tests.warehouse.support import DAY, run

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "hub_pipeline_tests.warehouse.daily"]
POINTS = [
    "landing.rename",
    "raw.commit:2",
    "stream.commit",
    "publish.intent",
    "publish.replace",
    *(
        pytest.param(point, marks=pytest.mark.slow)
        for point in (
            "landing.rename.after",
            "landing.rename:4",
            "raw.commit",
            "raw.commit.after:3",
            "stream.commit.after",
            "stream.commit:2",
            "publish.intent.after",
            "publish.replace.after",
        )
    ),
]


def killed(folder: Path, number: int, crash_at: str) -> None:
    """Run one day as a process that dies at a point."""
    done = subprocess.run(
        [*COMMAND, str(folder), str(number)],
        cwd=ROOT,
        env={**os.environ, "HUB_CRASH_AT": crash_at},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, f"the point {crash_at} was not passed: {done.stderr}"


def hashes(folder: Path) -> dict[str, dict[str, str]]:
    """Fingerprints of both files."""
    return {name: fingerprint(folder / f"{name}.duckdb") for name in ("build", "warehouse")}


@functools.cache
def undisturbed() -> dict[str, dict[str, str]]:
    """What two days leave behind when nobody kills anything."""
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder), 0)
        main(Path(folder), 1)
        return hashes(Path(folder))


@pytest.fixture(scope="module")
def first_day() -> Iterator[Path]:
    """A data folder in which day 0 went well."""
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder), 0)
        yield Path(folder)


def copy(source: Path, target: Path) -> Path:
    """A copy of a data folder."""
    subprocess.run(["cp", "-a", str(source) + "/.", str(target)], check=True)
    return target


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point_and_run_again_it_ends_the_same(
    first_day: Path, tmp_path: Path, point: str
) -> None:
    folder = copy(first_day, tmp_path)
    before = fingerprint(folder / "warehouse.duckdb")
    killed(folder, 1, point)
    published = fingerprint(folder / "warehouse.duckdb")
    assert published == (undisturbed()["warehouse"] if point == "publish.replace.after" else before)
    main(folder, 1)
    assert hashes(folder) == undisturbed()
    assert not list(folder.glob(".warehouse-*"))


@pytest.mark.slow
def test_killed_three_times_in_a_row_it_still_ends_the_same(first_day: Path, tmp_path: Path) -> None:
    folder = copy(first_day, tmp_path)
    for point in ("raw.commit:2", "stream.commit", "publish.replace"):
        killed(folder, 1, point)
    main(folder, 1)
    assert hashes(folder) == undisturbed()


def kill_at_random(folder: Path, seed: int) -> int:
    """Kill day 1 at a random moment; its return code (0 when it was quicker)."""
    process = subprocess.Popen([*COMMAND, str(folder), "1"], cwd=ROOT, stderr=subprocess.PIPE)
    with suppress(subprocess.TimeoutExpired):
        process.wait(random.Random(seed).uniform(0.3, 1.3))
    if process.poll() is None:
        process.kill()
    process.communicate()
    return process.returncode


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_a_random_moment_and_run_again_it_ends_the_same(
    first_day: Path, tmp_path: Path, seed: int
) -> None:
    folder = copy(first_day, tmp_path)
    kill_at_random(folder, seed)
    main(folder, 1)
    assert hashes(folder) == undisturbed()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_killed_at_one_of_a_hundred_random_moments_it_ends_the_same(
    first_day: Path, tmp_path: Path, seed: int
) -> None:
    folder = copy(first_day, tmp_path)
    for attempt in range(3):
        kill_at_random(folder, seed * 10 + attempt)
    main(folder, 1)
    assert hashes(folder) == undisturbed()


def test_a_second_run_exits_at_once_and_names_the_first(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        started = time.monotonic()
        done = subprocess.run(
            [*COMMAND, str(tmp_path), "0"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert time.monotonic() - started < 5
        assert done.returncode == 5
        assert f"process {os.getpid()} (run {one.load.run_id}), since" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_lock_of_a_dead_run_is_taken_over(tmp_path: Path) -> None:
    killed(tmp_path, 0, "raw.commit")
    assert '"pid"' in (tmp_path / "run.lock").read_text()
    with run(tmp_path, DAY) as one:
        assert one.rows("SELECT status FROM _ledger.runs ORDER BY run_id") == [("died",), ("running",)]
