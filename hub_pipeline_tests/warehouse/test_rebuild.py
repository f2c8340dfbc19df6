"""Landing is enough to make raw again, and published days survive the loss of the build file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import zstandard

from hub_pipeline.errors import DataRefusedError, WarehouseError
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline.warehouse.rebuild import RebuildResult, rebuild
from hub_pipeline_tests.warehouse.daily import main
from hub_pipeline_tests.warehouse.support import COMPANIES, DAY, close_of, company, publish_day, run

ROOT = Path(__file__).parents[2]


def raw(folder: Path) -> dict[str, str]:
    """Fingerprints of the raw tables."""
    return {k: v for k, v in fingerprint(folder / "build.duckdb").items() if k.startswith("raw_")}


def rebuilt(folder: Path) -> RebuildResult:
    """Rebuild under the lock."""
    with RunLock(folder) as lock:
        return rebuild(Warehouse.in_folder(folder), lock)


@pytest.fixture(scope="module")
def three_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days, the last one after two kills."""
    folder = tmp_path_factory.mktemp("three") / "data"
    main(folder, 0)
    main(folder, 1)
    for point in ("raw.commit:2", "stream.commit"):
        subprocess.run(
            [sys.executable, "-m", "hub_pipeline_tests.warehouse.daily", str(folder), "2"],
            cwd=ROOT, env={**os.environ, "HUB_CRASH_AT": point}, check=False,
        )  # fmt: skip
    main(folder, 2)
    return folder


def copied(source: Path, target: Path) -> Path:
    """A copy of a data folder."""
    shutil.copytree(source, target)
    return target


def test_raw_made_again_from_landing_is_the_same_raw(three_days: Path, tmp_path: Path) -> None:
    folder = copied(three_days, tmp_path / "data")
    before, whole = raw(folder), fingerprint(folder / "build.duckdb")
    (folder / "build.duckdb").write_bytes(b"not a database")
    result = rebuilt(folder)
    assert result.days == 3
    assert result.set_aside == folder / "build.duckdb.damaged"
    assert result.set_aside.read_bytes() == b"not a database"
    assert raw(folder) == before
    main(folder, 2)
    assert fingerprint(folder / "build.duckdb") == whole, "and the next run gives the same marts"
    assert fingerprint(folder / "warehouse.duckdb") == fingerprint(three_days / "warehouse.duckdb")


def test_a_rebuild_keeps_the_floor_and_gives_out_higher_tokens(three_days: Path, tmp_path: Path) -> None:
    folder = copied(three_days, tmp_path / "data")
    for name in ("build.duckdb", "build.duckdb.state"):
        (folder / name).unlink()
    earlier = max(path.name for path in folder.glob("landing/*/*/*"))
    result = rebuilt(folder)
    assert result.run_id > earlier
    with run(folder, DAY + timedelta(days=3)) as one:
        assert one.load.floor == close_of(DAY + timedelta(days=2))


def test_a_rebuild_that_is_cut_off_can_be_repeated(three_days: Path, tmp_path: Path) -> None:
    folder = copied(three_days, tmp_path / "data")
    before = raw(folder)
    (folder / "build.duckdb").unlink()
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from hub_pipeline_tests.warehouse.test_rebuild import rebuilt\nrebuilt(Path(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT, env={**os.environ, "HUB_CRASH_AT": "raw.commit:4"}, check=False,
    )  # fmt: skip
    assert done.returncode == -9
    rebuilt(folder)
    assert raw(folder) == before
    with run(folder, DAY + timedelta(days=3)) as one:
        assert one.load.floor == close_of(DAY + timedelta(days=2))


def test_a_lost_log_is_healed_by_a_rebuild(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    main(folder, 0)
    subprocess.run(
        [sys.executable, "-m", "hub_pipeline_tests.warehouse.daily", str(folder), "1"],
        cwd=ROOT, env={**os.environ, "HUB_CRASH_AT": "publish.intent"}, check=False,
    )  # fmt: skip
    kept = copied(folder, tmp_path / "kept")
    with Warehouse.in_folder(kept).connect():
        pass
    (folder / "build.duckdb.wal").unlink()
    with pytest.raises(WarehouseError, match="rebuild"), Warehouse.in_folder(folder).connect():
        pass
    rebuilt(folder)
    assert raw(folder) == raw(kept)


def test_what_a_dead_run_landed_is_loaded_by_the_next_before_anything_of_its_own(tmp_path: Path) -> None:
    with run(tmp_path) as dead:
        dead.land(COMPANIES, [company("1", seats=1, updated="2026-10-02T00:00:00"), company("2")])
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1", seats=3, updated="2026-10-03T00:00:00")], max_shrink=0.5)
        assert one.rows("SELECT id, seats, _deleted_at IS NULL FROM raw_hubspot.companies ORDER BY ALL") == [
            ("1", "1", True),
            ("1", "3", True),
            ("2", "10", False),
            ("2", "10", True),
        ]
    before = raw(tmp_path)
    rebuilt(tmp_path)
    assert raw(tmp_path) == before


def test_columns_that_came_and_went_are_made_again(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1"), company("2")])
        publish_day(one)
    narrow = replace(
        COMPANIES,
        columns={"id": "VARCHAR", "title": "VARCHAR"},
        select="r.id, r.properties->>'name' AS title, r.updatedAt AS _changed_at",
    )
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        two.take(narrow, [company("1"), company("2", updated="2026-10-20T00:00:00")])
    before = raw(tmp_path)
    rebuilt(tmp_path)
    assert raw(tmp_path) == before


def test_a_changed_landing_file_is_refused(three_days: Path, tmp_path: Path) -> None:
    folder = copied(three_days, tmp_path / "data")
    file = sorted(folder.glob("landing/hubspot/companies/*/*.zst"))[1]
    text = zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read()
    file.write_bytes(zstandard.compress(text.replace(b"Acme", b"Acne", 1)))
    with pytest.raises(DataRefusedError, match=f"{file.name} has been changed since it was written"):
        rebuilt(folder)


def test_without_landing_files_nothing_is_touched(tmp_path: Path) -> None:
    with Warehouse.in_folder(tmp_path).connect():
        pass
    with pytest.raises(WarehouseError, match="no landing files"):
        rebuilt(tmp_path)
    assert (tmp_path / "build.duckdb").exists()


def test_without_landing_files_published_days_and_floor_still_survive(
    three_days: Path, tmp_path: Path
) -> None:
    folder = copied(three_days, tmp_path / "data")
    shutil.rmtree(folder / "landing")
    (folder / "build.duckdb").unlink()
    result = rebuilt(folder)
    assert (result.versions, result.days) == (0, 3)
    with run(folder, DAY + timedelta(days=3)) as one:
        assert one.load.floor == close_of(DAY + timedelta(days=2))


def test_a_published_file_that_cannot_be_read_stops_the_rebuild(three_days: Path, tmp_path: Path) -> None:
    folder = copied(three_days, tmp_path / "data")
    (folder / "warehouse.duckdb").unlink()
    (folder / "warehouse.duckdb").write_bytes(b"x" * 5000)
    with pytest.raises(WarehouseError, match="move it away to go on without them"):
        rebuilt(folder)
    (folder / "warehouse.duckdb").unlink()
    assert rebuilt(folder).days == 0


def test_a_rebuild_cannot_begin_without_the_lock(three_days: Path, tmp_path: Path) -> None:
    folder = copied(three_days, tmp_path / "data")
    with pytest.raises(WarehouseError, match="holds the run lock"):
        rebuild(Warehouse.in_folder(folder), RunLock(folder))
    assert fingerprint(folder / "build.duckdb") == fingerprint(three_days / "build.duckdb")
