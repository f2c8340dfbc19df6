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
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from hub_pipeline.demo.account import DEMO_AS_OF, DEMO_SEED, Company
from hub_pipeline.demo.check import check
from hub_pipeline.demo.company import build_company
from hub_pipeline.demo.run import SETTINGS_FILE
from hub_pipeline.demo.serve import CompanyProcess, company_process, write_billing
from hub_pipeline.demo.truth import LIST_KEYS
from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline_tests.commands import clean_environment, plain_sentence

TOKEN = "demo-hubspot-token"
DAY_BEFORE = DEMO_AS_OF - timedelta(days=1)
REQUESTS_OF_A_NIGHT = 150
EMPTY = {"hub.restatements", "hub.renewal_forecast_accuracy"}
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

    def start(self, as_of: date = DEMO_AS_OF, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "hub_pipeline.cli", "run", "--as-of", str(as_of)],
            env=self.environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, as_of: date = DEMO_AS_OF, **changes: str) -> subprocess.CompletedProcess[str]:
        with self.start(as_of, **changes) as process:
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


def new_house(folder: Path, company: CompanyProcess, before: House) -> House:
    """A house that the first night has been in, with the extracts of the second."""
    shutil.copytree(before.data_dir, folder)
    house = House(folder, company)
    write_billing(build_company(DEMO_SEED, DEMO_AS_OF), folder / "billing" / "incoming")
    return house


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house after the night before the last one, when everything was read."""
    folder = tmp_path_factory.mktemp("first")
    incoming = folder / "data" / "billing" / "incoming"
    with company_process(
        seed=DEMO_SEED,
        as_of=DEMO_AS_OF,
        a_night_earlier=True,
        billing_folder=incoming,
        latency_ms=0,
        faults="mild",
    ) as process:
        house = House(folder / "data", process)
        done = house.run(DAY_BEFORE)
        assert done.returncode == 0, done.stderr
        assert requests(house, DAY_BEFORE) <= REQUESTS_OF_A_NIGHT
    return house


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, company: CompanyProcess, first_night: House) -> House:
    """A house after both nights, undisturbed; tests that follow leave its answers as they are."""
    house = new_house(tmp_path_factory.mktemp("house") / "data", company, first_night)
    process = house.run()
    assert process.returncode == 0, process.stderr
    return house


def requests(house: House, as_of: date) -> int:
    """Requests to HubSpot that the run of a day says it made."""
    with duckdb.connect(str(house.data_dir / "build.duckdb"), read_only=True) as connection:
        rows = connection.execute(
            "SELECT sum(requests) FROM _ledger.streams WHERE source = 'hubspot' AND as_of = ?", [as_of]
        ).fetchall()
    return int(rows[0][0])


def test_every_named_list_has_rows_and_equals_the_truth(house: House) -> None:
    report = check(house.published, build_company(DEMO_SEED, DEMO_AS_OF))
    assert report.differences == []
    with duckdb.connect(str(house.published), read_only=True) as connection:
        for view in LISTS:
            rows = connection.execute(f"SELECT count(*) FROM hub.{view}").fetchall()[0][0]
            assert rows > 0, view


def test_both_nights_ask_hubspot_at_most_150_times_and_the_second_reads_little(
    house: House, first_night: House
) -> None:
    first, second = requests(first_night, DAY_BEFORE), requests(house, DEMO_AS_OF)
    assert 0 < second < first <= REQUESTS_OF_A_NIGHT
    with duckdb.connect(str(house.data_dir / "build.duckdb"), read_only=True) as connection:
        read = dict(
            connection.execute(
                "SELECT as_of, sum(records) FROM _ledger.streams WHERE object IN ('contacts', 'deals', "
                "'emails', 'calls', 'conversations', 'invoices') GROUP BY as_of"
            ).fetchall()
        )
    assert read[DEMO_AS_OF] * 20 < read[DAY_BEFORE]


@pytest.fixture(scope="module")
def told() -> Company:
    """The company with what must be said of it."""
    return build_company(DEMO_SEED, DEMO_AS_OF)


@pytest.fixture(scope="module")
def views(house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published file with a table in the place of each view that has a truth."""
    path = tmp_path_factory.mktemp("views") / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"ATTACH '{house.published}' AS published (READ_ONLY)")
        connection.execute("CREATE SCHEMA hub")
        for name in LIST_KEYS:
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM published.{name}")
    return path


@pytest.mark.parametrize("name", [name for name in LIST_KEYS if name not in EMPTY])
def test_one_altered_value_of_any_view_is_found(
    name: str, views: Path, told: Company, tmp_path: Path
) -> None:
    altered = Path(shutil.copy(views, tmp_path / "altered.duckdb"))
    truth = told.truth.lists[name]
    row = next(row for row in truth.rows if set(row) - set(truth.key))
    column = next(column for column in reversed(row) if column not in truth.key)
    where = " AND ".join(f'"{key}" = ?' for key in truth.key if row[key] is not None)
    with duckdb.connect(str(altered)) as connection:
        kind = connection.execute(f'SELECT typeof("{column}") FROM {name}').fetchall()[0][0]
        other = {
            "BOOLEAN": f'NOT coalesce("{column}", true)',
            "VARCHAR": f"coalesce(\"{column}\", '') || 'x'",
            "DATE": f"coalesce(\"{column}\" + 1, DATE '1999-01-01')",
            "VARCHAR[]": "['altered']",
        }.get(kind, f'coalesce("{column}", 0) + 1')
        connection.execute(
            f'UPDATE {name} SET "{column}" = {other} WHERE {where}',
            [row[key] for key in truth.key if row[key] is not None],
        )
    differences = check(altered, told).differences
    assert {(d.list_name, d.column) for d in differences} == {(name, column)}


def test_a_row_that_should_not_be_there_is_found_in_any_view(
    views: Path, told: Company, tmp_path: Path
) -> None:
    altered = Path(shutil.copy(views, tmp_path / "altered.duckdb"))
    with duckdb.connect(str(altered)) as connection:
        for name, keys in LIST_KEYS.items():
            connection.execute(f'INSERT INTO {name} ("{keys[0]}") VALUES (NULL)')
    found = {d.list_name for d in check(altered, told).differences}
    assert found == set(LIST_KEYS)


DOCUMENT = Path(__file__).parents[1] / "docs" / "models_in_the_demo.md"


def test_columns_that_do_not_vary_are_listed_with_a_reason_and_no_others(house: House) -> None:
    """`docs/models_in_the_demo.md` names every column of marts and hub with one value in the demo, and only those."""
    still: set[str] = set()
    with duckdb.connect(str(house.published), read_only=True) as connection:
        columns = connection.execute(
            "SELECT table_schema, table_name, column_name FROM information_schema.columns "
            "WHERE table_schema IN ('marts', 'hub')"
        ).fetchall()
        for schema, table, column in columns:
            values = connection.execute(
                f'SELECT count(*) FROM (SELECT DISTINCT "{column}" FROM {schema}."{table}")'
            ).fetchall()[0][0]
            if values <= 1:
                still.add(f"{schema}.{table}.{column}")
    listed = listed_columns(DOCUMENT.read_text(encoding="utf-8"))
    patterns = {item: re.compile(re.escape(item).replace(r"\*", r"\w+") + "$") for item in listed}
    unlisted = sorted(name for name in still if not any(p.match(name) for p in patterns.values()))
    assert unlisted == [], "these do not vary and are not listed"
    varying = {f"{s}.{t}.{c}" for s, t, c in columns} - still
    wrong = sorted(f"{item} ({name})" for item, p in patterns.items() for name in varying if p.match(name))
    assert wrong == [], "these are listed and vary"
    gone = sorted(item for item, p in patterns.items() if not any(p.match(name) for name in still))
    assert gone == [], "these are listed and are no columns"


def listed_columns(text: str) -> list[str]:
    """Names in the first cell of each row of the document's tables, whose last cell says why."""
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    assert all(len(row[-2].strip()) > 10 for row in rows), "a row without a reason"
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[1])]


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
            # Two days are stored, neither of them restated, and no month is over since.
            of_days = ("restatements", "renewal_forecast_accuracy")
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
        assert {run.tags["dagster/partition"] for run in runs} == {str(DAY_BEFORE), str(DEMO_AS_OF)}
        assert not instance.telemetry_enabled


def test_killed_at_a_random_moment_and_run_again_it_ends_the_same(
    house: House, first_night: House, tmp_path: Path, company: CompanyProcess
) -> None:
    killed_and_repaired(20, house, new_house(tmp_path / "killed", company, first_night))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_again_and_again_it_ends_the_same(
    seed: int, house: House, first_night: House, tmp_path: Path, company: CompanyProcess
) -> None:
    killed_and_repaired(seed, house, new_house(tmp_path / "killed", company, first_night))


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


def on_a_small_disk(
    house: House, first_night: House, company: CompanyProcess, folder: Path, *, repair: bool
) -> None:
    """Run the second night on a file system that fills up; with ``repair`` make room and run again."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    used = sum(path.stat().st_blocks * 512 for path in first_night.data_dir.rglob("*"))
    room = f"size={used // 2**20 + 8}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", room, "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        full = new_house(folder / "data", company, first_night)
        process = full.run()
        assert process.returncode == 5, process.stderr
        plain_sentence(process)
        assert fingerprint(full.published) == fingerprint(first_night.published)
        if repair:
            subprocess.run(["mount", "-o", "remount,size=400m", str(folder)], check=True)
            again = full.run()
            assert again.returncode == 0, again.stderr
            assert differing(full, house) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_with_one_sentence_and_code_5_and_the_published_file_intact(
    house: House, first_night: House, tmp_path: Path, company: CompanyProcess
) -> None:
    on_a_small_disk(house, first_night, company, tmp_path / "small", repair=False)


@pytest.mark.slow
def test_after_a_full_disk_was_given_room_the_run_ends_the_same(
    house: House, first_night: House, tmp_path: Path, company: CompanyProcess
) -> None:
    on_a_small_disk(house, first_night, company, tmp_path / "small", repair=True)


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
