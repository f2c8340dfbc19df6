"""The whole house as its users meet it: the command line against the demo company over real HTTP, real files, real
kills. The other test files look at one room; these look at the promise."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from hub_pipeline.demo.account import DEMO_AS_OF, DEMO_SEED
from hub_pipeline.demo.check import check
from hub_pipeline.demo.company import build_company
from hub_pipeline.demo.run import SETTINGS_FILE
from hub_pipeline.demo.serve import CompanyProcess, company_process, write_billing
from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline_tests.commands import clean_environment, plain_sentence

TOKEN = "demo-hubspot-token"
LISTS = (
    "organisations",
    "fast_growing_organisations",
    "organisations_at_risk",
    "churn",
    "churn_false_alarms",
    "renewal_pipeline",
    "tier_ab_interactions",
)


@dataclass(frozen=True)
class House:
    """A data folder with the demo company's extracts, and how the command line is called on it."""

    data_dir: Path
    company: CompanyProcess

    @property
    def published(self) -> Path:
        return self.data_dir / "warehouse.duckdb"

    def environment(self, **changes: str) -> dict[str, str]:
        return {
            **clean_environment(),
            "HUB_DATA_DIR": str(self.data_dir),
            "HUB_SETTINGS": str(SETTINGS_FILE),
            "HUBSPOT_ACCESS_TOKEN": TOKEN,
            "HUBSPOT_BASE_URL": self.company.hubspot_url,
            "INTERCOM_ACCESS_TOKEN": "demo-intercom-token",
            "INTERCOM_BASE_URL": self.company.intercom_url,
            **changes,
        }

    def start(self, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "hub_pipeline.cli", "run", "--as-of", str(DEMO_AS_OF)],
            env=self.environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **changes: str) -> subprocess.CompletedProcess[str]:
        with self.start(**changes) as process:
            out, err = process.communicate(timeout=180)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def state(self) -> dict[str, dict[str, str]]:
        return {
            "build": fingerprint(self.data_dir / "build.duckdb"),
            "published": fingerprint(self.published),
        }


def differing(left: House, right: House) -> list[str]:
    """Tables whose content is not the same in both houses."""
    a, b = left.state(), right.state()
    return [
        f"{file} {t}"
        for file in a
        for t in a[file].keys() | b[file].keys()
        if a[file].get(t) != b[file].get(t)
    ]


@pytest.fixture(scope="module")
def company() -> Iterator[CompanyProcess]:
    with company_process(seed=DEMO_SEED, as_of=DEMO_AS_OF, latency_ms=0, faults="mild") as process:
        yield process


def new_house(folder: Path, company: CompanyProcess) -> House:
    write_billing(build_company(DEMO_SEED, DEMO_AS_OF), folder / "billing" / "incoming")
    return House(folder, company)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, company: CompanyProcess) -> House:
    """A house after one undisturbed run; tests that follow leave its answers as they are."""
    house = new_house(tmp_path_factory.mktemp("house"), company)
    process = house.run()
    assert process.returncode == 0, process.stderr
    return house


def test_every_named_list_has_rows_and_equals_the_truth(house: House) -> None:
    report = check(house.published, build_company(DEMO_SEED, DEMO_AS_OF))
    assert report.differences == []
    with duckdb.connect(str(house.published), read_only=True) as connection:
        for view in LISTS:
            rows = connection.execute(f"SELECT count(*) FROM hub.{view}").fetchall()[0][0]
            assert rows > 0, view


def test_each_row_says_why_and_where_the_record_is(house: House) -> None:
    with duckdb.connect(str(house.published), read_only=True) as connection:
        for view in LISTS:
            silent = connection.execute(
                f"SELECT count(*) FROM hub.{view} WHERE why IS NULL OR why = '' "
                "OR (hubspot_url IS NULL AND org_id NOT LIKE 'billing:%')"
            ).fetchall()[0][0]
            assert silent == 0, view


def test_every_query_of_the_documentation_has_an_answer(house: House) -> None:
    folder = Path(__file__).parents[1]
    text = (folder / "docs" / "querying.md").read_text(encoding="utf-8") + (folder / "README.md").read_text(
        encoding="utf-8"
    )
    queries = [
        query
        for block in re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
        for query in re.findall(r"[^;]+;", block)
    ]
    assert len(queries) >= 10
    with duckdb.connect(str(house.published), read_only=True) as connection:
        for query in queries:
            rows = connection.execute(query).fetchall()
            # Only one day is stored here: nothing has changed since the one before, and no month is over since.
            of_days = ("changes_since_yesterday", "renewal_forecast_accuracy")
            assert rows or any(view in query for view in of_days), query


def test_what_happened_after_the_day_closed_is_read_and_stays_out_of_it(house: House) -> None:
    with duckdb.connect(str(house.data_dir / "build.duckdb"), read_only=True) as connection:
        late = connection.execute(
            "SELECT count(*) FROM staging.subscription_versions WHERE effective_at >= TIMESTAMP '2026-11-01'"
        ).fetchall()[0][0]
    assert late > 0
    assert check(house.published, build_company(DEMO_SEED, DEMO_AS_OF)).differences == []


def test_a_second_run_of_the_same_day_changes_no_row_and_an_open_reader_sees_none_of_it(house: House) -> None:
    query = "SELECT count(*), sum(mrr), max(why) FROM hub.organisations"
    before = house.state()
    with duckdb.connect(str(house.published), read_only=True) as reader:
        seen = reader.execute(query).fetchall()
        inode = house.published.stat().st_ino
        process = house.run()
        assert process.returncode == 0, process.stderr
        assert house.published.stat().st_ino != inode, "the file was replaced under the reader"
        assert reader.execute(query).fetchall() == seen
    assert house.state() == before


def test_a_portal_is_read_with_few_requests_and_no_token_stays_anywhere(house: House) -> None:
    from urllib.request import urlopen

    with urlopen(f"{house.company.hubspot_url}/__hits") as answer:
        hits = json.load(answer)
    assert hits, "the simulator counts what it is asked"
    found = [
        path for path in house.data_dir.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]
    assert found == []


def test_data_is_private_and_the_published_file_readable_by_its_group(house: House) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(house.published) == 0o640
    assert mode(house.data_dir / "build.duckdb") == 0o600
    assert mode(house.data_dir / "landing") == 0o700
    assert mode(house.data_dir / "dagster_home") == 0o700


def test_command_line_runs_are_in_dagsters_history(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    import dagster as dg

    monkeypatch.setenv("DAGSTER_HOME", str(house.data_dir / "dagster_home"))
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_runs()
        assert runs
        assert all(run.status is dg.DagsterRunStatus.SUCCESS for run in runs)
        assert {run.tags["dagster/partition"] for run in runs} == {str(DEMO_AS_OF)}
        assert not instance.telemetry_enabled


def test_killed_at_a_random_moment_and_run_again_it_ends_the_same(
    house: House, tmp_path: Path, company: CompanyProcess
) -> None:
    killed_and_repaired(20, house, new_house(tmp_path / "killed", company))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_again_and_again_it_ends_the_same(
    seed: int, house: House, tmp_path: Path, company: CompanyProcess
) -> None:
    killed_and_repaired(seed, house, new_house(tmp_path / "killed", company))


def killed_and_repaired(seed: int, undisturbed: House, victim: House) -> None:
    process = victim.start()
    moment = random.Random(seed).uniform(1.0, 12.0)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    print(f"killed after {moment:.2f} s (seed {seed})")
    again = victim.run()
    assert again.returncode == 0, again.stderr
    assert differing(victim, undisturbed) == []


def test_a_wrong_token_ends_with_one_sentence_and_code_2(house: House) -> None:
    before = house.state()
    process = house.run(HUBSPOT_ACCESS_TOKEN="pat-wrong-token-5f1c")
    assert process.returncode == 2
    assert "HUBSPOT_ACCESS_TOKEN" in plain_sentence(process)
    assert "pat-wrong-token-5f1c" not in process.stdout + process.stderr
    assert house.state()["published"] == before["published"]


def test_a_missing_billing_folder_ends_with_one_sentence_and_code_2(house: House) -> None:
    before = house.state()
    incoming = house.data_dir / "billing" / "incoming"
    aside = incoming.with_name("aside")
    incoming.rename(aside)
    try:
        process = house.run()
    finally:
        aside.rename(incoming)
    assert process.returncode == 2
    assert "billing" in plain_sentence(process)
    assert house.state()["published"] == before["published"]


def test_a_held_lock_ends_with_one_sentence_and_code_5(house: House) -> None:
    before = house.state()
    with RunLock(house.data_dir):
        process = house.run()
    assert process.returncode == 5
    assert str(os.getpid()) in plain_sentence(process)
    assert house.state() == before


def test_a_source_that_is_down_ends_with_code_3_and_publishes_nothing(house: House, tmp_path: Path) -> None:
    before = house.state()
    settings = tmp_path / "hurry.toml"
    text = SETTINGS_FILE.read_text().replace("[hubspot]", "[hubspot]\ntime_budget_seconds = 3")
    settings.write_text(text)
    process = house.run(HUBSPOT_BASE_URL="http://127.0.0.1:9", HUB_SETTINGS=str(settings))
    assert process.returncode == 3
    assert "HubSpot" in plain_sentence(process)
    assert house.state()["published"] == before["published"]


def on_a_small_disk(house: House, company: CompanyProcess, folder: Path, *, repair: bool) -> None:
    """Run on a file system that fills up; with ``repair`` make room and run again."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        full = new_house(folder / "data", company)
        shutil.copy(house.published, full.published)
        process = full.run()
        assert process.returncode == 5, process.stderr
        plain_sentence(process)
        assert fingerprint(full.published) == fingerprint(house.published)
        if repair:
            subprocess.run(["mount", "-o", "remount,size=400m", str(folder)], check=True)
            again = full.run()
            assert again.returncode == 0, again.stderr
            assert differing(full, house) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_with_one_sentence_and_code_5_and_the_published_file_intact(
    house: House, tmp_path: Path, company: CompanyProcess
) -> None:
    on_a_small_disk(house, company, tmp_path / "small", repair=False)


@pytest.mark.slow
def test_after_a_full_disk_was_given_room_the_run_ends_the_same(
    house: House, tmp_path: Path, company: CompanyProcess
) -> None:
    on_a_small_disk(house, company, tmp_path / "small", repair=True)


def test_interrupted_and_terminated_runs_free_the_lock_and_say_so(house: House) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = house.start()
        # At work: it holds the lock and has written its own number into it.
        lock, deadline = house.data_dir / "run.lock", time.monotonic() + 60
        while str(process.pid) not in lock.read_text(encoding="utf-8") and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert "Traceback" not in err
        with RunLock(house.data_dir):
            pass


def test_a_future_day_is_refused(house: House) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "hub_pipeline.cli", "run", "--as-of", "2999-01-01"],
        env=house.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert "2999-01-01" in plain_sentence(process)


def test_without_any_source_it_says_what_is_missing(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "hub_pipeline.cli", "run"],
        env=clean_environment(HUB_DATA_DIR=str(tmp_path / "data")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert "HUBSPOT_ACCESS_TOKEN" in plain_sentence(process)


def test_the_demo_refuses_a_folder_that_holds_real_runs(tmp_path: Path) -> None:
    real = tmp_path / "data" / "demo"
    real.mkdir(parents=True)
    (real / "warehouse.duckdb").write_bytes(b"somebody's own")
    process = subprocess.run(
        [sys.executable, "-m", "hub_pipeline.cli", "demo"],
        env={**os.environ, "HUB_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    plain_sentence(process)
    assert (real / "warehouse.duckdb").read_bytes() == b"somebody's own"
