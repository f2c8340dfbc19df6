"""Every way the build file can be unusable ends in one plain sentence, and nothing is lost silently."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from hub_pipeline.errors import LockHeldError, WarehouseError
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.database import Warehouse, default_memory_limit
from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline_tests.warehouse.daily import main
from hub_pipeline_tests.warehouse.support import COMPANIES, DAY, close_of, company, run

ROOT = Path(__file__).parents[2]


def open_warehouse(folder: Path) -> None:
    """Open and close."""
    with Warehouse.in_folder(folder).connect():
        pass


@pytest.fixture(scope="module")
def after_one_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which day 0 went well; to be copied."""
    folder = tmp_path_factory.mktemp("one-day")
    main(folder, 0)
    return folder


@pytest.fixture(scope="module")
def killed(after_one_day: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose next run was killed, its commits in the write-ahead log only; to be copied."""
    folder = copied(after_one_day, tmp_path_factory.mktemp("killed") / "data")
    subprocess.run(
        [sys.executable, "-m", "hub_pipeline_tests.warehouse.daily", str(folder), "1"],
        cwd=ROOT,
        env={**os.environ, "HUB_CRASH_AT": "stream.commit.after"},
        check=False,
    )
    assert (folder / "build.duckdb.wal").stat().st_size > 0
    return folder


def copied(source: Path, target: Path) -> Path:
    """A copy of a data folder."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    return target


def test_a_session_is_utc_and_keeps_its_temporary_files_beside_the_build_file(tmp_path: Path) -> None:
    with Warehouse.in_folder(tmp_path, memory_limit="1GB").connect() as connection:
        settings = connection.execute(
            "SELECT current_setting('TimeZone'), current_setting('temp_directory'), current_setting('memory_limit')"
        ).fetchall()
    assert settings == [("UTC", str(tmp_path / "build.duckdb.tmp"), "953.6 MiB")]


def test_many_small_appends_do_not_leave_a_row_group_each(tmp_path: Path) -> None:
    for number in range(20):
        with Warehouse.in_folder(tmp_path).connect() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS small (n BIGINT)")
            connection.execute("INSERT INTO small SELECT range FROM range($many)", {"many": 200 + number})
    with Warehouse.in_folder(tmp_path).connect_read_only() as connection:
        groups, rows = connection.execute(
            "SELECT count(DISTINCT row_group_id), (SELECT count(*) FROM small) FROM pragma_storage_info('small')"
        ).fetchall()[0]
    assert rows == sum(range(200, 220))
    assert groups <= 5


def test_no_more_than_four_gigabytes_are_used_by_default() -> None:
    assert 0 < int(default_memory_limit().removesuffix("B")) <= 4 * 1024**3


def test_the_connection_is_closed_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Warehouse.in_folder(tmp_path).connect():
        raise RuntimeError
    other = subprocess.run(
        [sys.executable, "-c", f"import duckdb; duckdb.connect({str(tmp_path / 'build.duckdb')!r})"],
        check=False,
    )
    assert other.returncode == 0


def test_a_file_open_in_another_process_is_said_with_its_pid(tmp_path: Path) -> None:
    open_warehouse(tmp_path)
    code = f"import duckdb, sys; c = duckdb.connect({str(tmp_path / 'build.duckdb')!r}); print(1, flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdin is not None
    try:
        other.stdout.readline()
        with pytest.raises(WarehouseError, match=rf"is open in process {other.pid} .*Nothing was changed"):
            open_warehouse(tmp_path)
    finally:
        other.communicate("\n")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("0 bytes", lambda path: path.write_bytes(b"")),
        ("a CSV file", lambda path: path.write_bytes(b"id,seats\n1,2\n" * 2000)),
        ("cut to a third", lambda path: os.truncate(path, path.stat().st_size // 3)),
        ("cut inside the header", lambda path: os.truncate(path, 5000)),
        ("zeroes over the header", lambda path: path.write_bytes(bytes(12288) + path.read_bytes()[12288:])),
    ],
)
def test_a_damaged_build_file_is_refused_with_the_way_out(
    after_one_day: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    copied(after_one_day, tmp_path)
    published = (tmp_path / "warehouse.duckdb").read_bytes()
    damage(tmp_path / "build.duckdb")
    with pytest.raises(WarehouseError, match=r"(?s)damaged|lost") as caught, run(tmp_path) as one:
        one.rows("SELECT * FROM raw_hubspot.companies")
    assert "rebuild" in str(caught.value), name
    assert "\n" not in str(caught.value)
    assert (tmp_path / "warehouse.duckdb").read_bytes() == published


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(s, marks=pytest.mark.slow) for s in range(3, 60))]
)
def test_a_flipped_byte_is_refused_or_harmless_but_never_a_crash_or_other_rows(
    after_one_day: Path, tmp_path: Path, seed: int
) -> None:
    copied(after_one_day, tmp_path)
    before = fingerprint(tmp_path / "build.duckdb")
    content = bytearray((tmp_path / "build.duckdb").read_bytes())
    content[random.Random(seed).randrange(len(content))] ^= 0xFF
    (tmp_path / "build.duckdb").write_bytes(content)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from hub_pipeline.errors import WarehouseError\n"
        "from hub_pipeline.warehouse.database import Warehouse\n"
        "from hub_pipeline.warehouse.fingerprint import fingerprint_of\n"
        "try:\n"
        "    with Warehouse.in_folder(Path(sys.argv[1])).connect() as c: print(fingerprint_of(c))\n"
        "except WarehouseError as e: sys.exit(5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5 or (done.returncode == 0 and done.stdout.strip() == str(before)), done.stderr


def test_a_build_file_that_is_gone_is_noticed(after_one_day: Path, tmp_path: Path) -> None:
    copied(after_one_day, tmp_path)
    (tmp_path / "build.duckdb").unlink()
    with pytest.raises(WarehouseError, match=r"is missing, though build\.duckdb\.state tells of it.*rebuild"):
        open_warehouse(tmp_path)
    assert not (tmp_path / "build.duckdb").exists(), "nothing new was made in its place"


def test_an_older_copy_of_the_build_file_is_noticed(after_one_day: Path, tmp_path: Path) -> None:
    copied(after_one_day, tmp_path)
    shutil.copy(tmp_path / "build.duckdb", tmp_path / "older")
    main(tmp_path, 1)
    shutil.copy(tmp_path / "older", tmp_path / "build.duckdb")
    with pytest.raises(WarehouseError, match=r"has lost \d+ of \d+ committed transactions"):
        open_warehouse(tmp_path)


def test_the_build_file_of_another_folder_is_noticed(tmp_path: Path) -> None:
    open_warehouse(tmp_path / "a")
    open_warehouse(tmp_path / "b")
    shutil.copy(tmp_path / "b" / "build.duckdb", tmp_path / "a" / "build.duckdb")
    with pytest.raises(WarehouseError, match="is not the one"):
        open_warehouse(tmp_path / "a")


def test_a_log_that_was_kept_after_a_kill_loses_nothing(killed: Path, tmp_path: Path) -> None:
    copied(killed, tmp_path)
    open_warehouse(tmp_path)
    assert not (tmp_path / "build.duckdb.wal").exists()


def test_a_deleted_write_ahead_log_is_noticed(killed: Path, tmp_path: Path) -> None:
    (copied(killed, tmp_path) / "build.duckdb.wal").unlink()
    for _ in range(2):
        with pytest.raises(WarehouseError, match=r"has lost \d+ of \d+ committed transactions"):
            open_warehouse(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.98])
def test_a_cut_write_ahead_log_is_noticed(killed: Path, tmp_path: Path, share: float) -> None:
    log = copied(killed, tmp_path) / "build.duckdb.wal"
    os.truncate(log, int(log.stat().st_size * share))
    with pytest.raises(WarehouseError, match=r"has lost \d+ of \d+ committed transactions|damaged"):
        open_warehouse(tmp_path)


def test_a_build_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    with Warehouse.in_folder(tmp_path).connect() as connection:
        connection.execute("UPDATE _ledger.schema_version SET version = 99")
    with pytest.raises(
        WarehouseError, match=r"newer hub-pipeline \(schema version 99, this program knows 2\)"
    ):
        open_warehouse(tmp_path)


def test_a_folder_that_cannot_be_made_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for attempt in (
        lambda: open_warehouse(tmp_path / "file" / "data"),
        lambda: RunLock(tmp_path / "file" / "d").acquire(),
    ):
        with pytest.raises(WarehouseError, match=r"Not a directory.*Nothing was read or changed"):
            attempt()


def test_a_warehouse_that_does_not_exist_is_not_made_by_reading(tmp_path: Path) -> None:
    warehouse = Warehouse.in_folder(tmp_path)
    for reading in (warehouse.connect_read_only, warehouse.connect_published):
        with pytest.raises(WarehouseError, match="`hub-pipeline run` makes"), reading():
            pass
    assert list(tmp_path.iterdir()) == []


def test_an_orphan_with_an_old_token_cannot_commit(tmp_path: Path) -> None:
    warehouse = Warehouse.in_folder(tmp_path)
    with run(tmp_path) as orphan:
        orphan.take(COMPANIES, [company("1")])
        file = orphan.land(COMPANIES, [company("2")], "late")
    with run(tmp_path) as successor:
        successor.take(COMPANIES, [company("1")])
    with warehouse.connect() as connection:
        orphan.loader._connection = connection
        with pytest.raises(LockHeldError, match="declared dead"):
            orphan.loader.load_file(COMPANIES, file)
        assert connection.execute("SELECT id FROM raw_hubspot.companies").fetchall() == [("1",)]


def test_of_a_commit_and_a_takeover_at_the_same_time_only_one_succeeds(tmp_path: Path) -> None:
    with run(tmp_path) as orphan:
        other = orphan.connection.cursor()
        with pytest.raises(LockHeldError, match="declared dead"):  # noqa: PT012, SIM117 - the commit raises
            with ledger.transaction(orphan.connection, orphan.fence):
                orphan.connection.execute("CREATE TABLE late (x INTEGER)")
                other.execute("UPDATE _ledger.lock SET token = token + 1, run_id = 'successor'")
        assert orphan.rows("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'late'") == [(0,)]


def test_a_run_cannot_begin_without_the_lock(tmp_path: Path) -> None:
    warehouse = Warehouse.in_folder(tmp_path)
    with warehouse.connect() as connection, pytest.raises(WarehouseError, match="holds the run lock"):
        ledger.begin_run(connection, RunLock(tmp_path), warehouse.state_path, DAY, close_of(DAY))


def test_run_ids_sort_in_the_order_of_runs(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        with run(tmp_path) as one:
            names.append(one.load.run_id)
    assert names == sorted(set(names))


def on_a_small_disk(folder: Path, megabytes: float) -> subprocess.CompletedProcess[str]:
    """Run day 1 as a process that may not write files larger than this."""
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({int(megabytes * 2**20)}, {int(megabytes * 2**20)}))\n"
        "from pathlib import Path\n"
        "from hub_pipeline.errors import HubPipelineError\n"
        "from hub_pipeline_tests.warehouse.daily import main\n"
        "try: main(Path(sys.argv[1]), 1)\n"
        "except HubPipelineError as e: print(e, file=sys.stderr); sys.exit(e.exit_code)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_full_disk_ends_in_one_sentence_and_the_next_run_repairs(
    after_one_day: Path, tmp_path: Path
) -> None:
    main(copied(after_one_day, tmp_path / "reference"), 1)
    folder = copied(after_one_day, tmp_path / "data")
    published = fingerprint(folder / "warehouse.duckdb")
    for megabytes in (0.0001, 0.01, 0.3):
        done = on_a_small_disk(folder, megabytes)
        assert done.returncode == 5, (megabytes, done.stderr)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert fingerprint(folder / "warehouse.duckdb") == published
    main(folder, 1)
    for name in ("build.duckdb", "warehouse.duckdb"):
        assert fingerprint(folder / name) == fingerprint(tmp_path / "reference" / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.slow
def test_a_file_system_that_runs_full_ends_in_one_sentence_and_a_larger_one_repairs(tmp_path: Path) -> None:
    main(tmp_path / "reference", 0)
    mounted = tmp_path / "small"
    mounted.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)], check=False
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        codes = []
        for megabytes in range(1, 16):
            subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(mounted)], check=True)
            done = subprocess.run(
                [sys.executable, "-m", "hub_pipeline_tests.warehouse.daily", str(mounted / "data"), "0"],
                cwd=ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip
            codes.append(done.returncode)
            assert done.returncode in (0, 5), done.stderr
            if done.returncode == 0:
                break
            assert len(done.stderr.splitlines()) == 1, done.stderr
        assert codes[0] == 5
        assert codes[-1] == 0
        assert fingerprint(mounted / "data" / "build.duckdb") == fingerprint(
            tmp_path / "reference" / "build.duckdb"
        )
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_a_fingerprint_sees_rows_and_types_but_not_order_or_run(tmp_path: Path) -> None:
    answers = []
    for name, statements in {
        "a": "CREATE TABLE t AS SELECT 1 AS x, 'r1' AS _run_id UNION ALL SELECT 2, 'r1'",
        "b": "CREATE TABLE t AS SELECT 2 AS x, 'r2' AS _run_id UNION ALL SELECT 1, 'r2'",
        "c": "CREATE TABLE t AS SELECT 2 AS x, 'r2' AS _run_id UNION ALL SELECT 2, 'r2'",
        "d": "CREATE TABLE t AS SELECT 2::BIGINT AS x, 'r2' AS _run_id UNION ALL SELECT 1, 'r2'",
        "e": "CREATE TABLE t AS SELECT 2 AS x, 'r' AS _run_id UNION ALL SELECT 1, 'r' UNION ALL SELECT 1, 'r'",
    }.items():
        with duckdb.connect(str(tmp_path / name)) as connection:
            connection.execute(statements)
        answers.append(fingerprint(tmp_path / name)["main.t"])
    assert answers[0] == answers[1]
    assert len(set(answers)) == 4
