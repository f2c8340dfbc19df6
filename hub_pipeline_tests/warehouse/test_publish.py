"""The published file is swapped in whole, and everyone can read it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from hub_pipeline.errors import ConfigurationError, LockHeldError, WarehouseError
from hub_pipeline.settings import Settings
from hub_pipeline.warehouse.database import open_published
from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline.warehouse.ledger import record_freshness
from hub_pipeline.warehouse.publish import PublishResult, publish
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline_tests.warehouse.support import COMPANIES, DAY, Run, build_day, company, run

ROOT = Path(__file__).parents[2]
OLD_CLIENT = ROOT / ".cache" / "old-duckdb"


def publish_all(one: Run, settings: Settings | None = None) -> PublishResult:
    result = one.take(COMPANIES, [company("1", seats=12), company("2", name="O'Hara; --", seats=3)])
    build_day(one)
    record_freshness(one.connection, one.fence, one.load.as_of, [result])
    return publish(one.warehouse, one.connection, one.fence, one.load, settings or Settings())


def test_the_published_file_holds_tables_views_comments_and_no_raw(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        result = publish_all(one)
    assert result.path == tmp_path / "warehouse.duckdb"
    assert result.tables["marts.organisation_daily"] == 2
    assert not list(tmp_path.glob(".warehouse-*"))
    assert not (tmp_path / "warehouse.duckdb.wal").exists()
    with open_published(result.path) as connection:
        assert connection.execute("FROM hub.a_first").fetchall() == [("1", 12), ("2", 3)]
        schemas = connection.execute("SELECT DISTINCT schema_name FROM duckdb_tables() ORDER BY 1").fetchall()
        assert schemas == [("_published",), ("marts",), ("staging",)]
        assert connection.execute(
            "SELECT meaning FROM hub.definitions WHERE \"object\" = 'hub.z_organisations' ORDER BY meaning NULLS LAST"
        ).fetchall() == [("All organisations; it's a list",), ("seats of the day",), (None,)]
        assert connection.execute("FROM hub.freshness").fetchall()[0][:5] == (
            "hubspot",
            "companies",
            DAY,
            "complete",
            2,
        )
        assert connection.execute("SELECT run_id, as_of, known_at FROM _published.run").fetchall() == [
            (one.load.run_id, DAY, DAY)
        ]
        assert connection.execute("SELECT first_as_of FROM _published.settings_versions").fetchall() == [
            (DAY,)
        ]
        assert (
            connection.execute(
                "SELECT table_name, NULL FROM duckdb_tables() WHERE schema_name = '_published' AND comment IS NULL "
                "UNION ALL SELECT table_name, column_name FROM duckdb_columns() "
                "WHERE schema_name = '_published' AND comment IS NULL"
            ).fetchall()
            == []
        )
        with pytest.raises(duckdb.Error):
            connection.execute("COPY (SELECT 1) TO '" + str(tmp_path / "out.csv") + "'")


def test_a_published_day_is_booked_and_moves_the_floor(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        publish_all(one)
        booked = one.rows(
            "SELECT as_of, known_at, intent_at IS NOT NULL, published_at >= intent_at FROM _ledger.publishes"
        )
        assert booked == [(DAY, DAY, True, True)]
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        assert two.load.floor == one.load.close


def test_publishing_the_same_day_again_changes_no_row(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        publish_all(one)
    before = fingerprint(tmp_path / "warehouse.duckdb")
    build = fingerprint(tmp_path / "build.duckdb")
    with run(tmp_path) as two:
        publish_all(two)
    assert fingerprint(tmp_path / "warehouse.duckdb") == before
    assert fingerprint(tmp_path / "build.duckdb") == build


@pytest.mark.skipif(not OLD_CLIENT.exists(), reason="make setup-dev installs the older client")
def test_a_client_of_duckdb_1_2_reads_every_view(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        publish_all(one)
    code = (
        "import duckdb, sys\n"
        "assert duckdb.__version__.startswith('1.2'), duckdb.__version__\n"
        "c = duckdb.connect(sys.argv[1], read_only=True)\n"
        "views = c.execute(\"SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal\").fetchall()\n"
        "for (v,) in views: c.execute('SELECT * FROM ' + v).fetchall()\n"
        "print(len(views), c.execute('FROM hub.a_first').fetchall())\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "warehouse.duckdb")],
        capture_output=True, text=True, env={"PYTHONPATH": str(OLD_CLIENT)}, check=False,
    )  # fmt: skip
    assert answer.stdout.strip() == "4 [('1', 12), ('2', 3)]", answer.stderr


def test_a_reader_with_the_old_file_open_keeps_it_and_does_not_block_the_run(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        publish_all(one)
    code = (
        "import duckdb, sys\n"
        "c = duckdb.connect(sys.argv[1], read_only=True)\n"
        "q = 'SELECT sum(seats) FROM marts.organisation_daily'\n"
        "print(c.execute(q).fetchall(), flush=True)\n"
        "sys.stdin.readline()\n"
        "print(c.execute(q).fetchall() + c.execute('SELECT sum(seats) FROM staging.organisations').fetchall(), flush=True)\n"
        "c.close()\n"
        "print(duckdb.connect(sys.argv[1], read_only=True).execute(q).fetchall(), flush=True)\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "warehouse.duckdb")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert reader.stdout is not None
    assert reader.stdin is not None
    try:
        assert reader.stdout.readline() == "[(15,)]\n"
        with run(tmp_path) as two:
            two.take(
                COMPANIES, [company("1", seats=100, updated="2026-10-09T00:00:00"), company("2", seats=3)]
            )
            build_day(two)
            publish(two.warehouse, two.connection, two.fence, two.load, Settings())
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "[(15,), (15,)]\n", "the open reader keeps the old file"
        assert reader.stdout.readline() == "[(103,)]\n", "whoever opens it now reads the new one"
    finally:
        reader.stdin.close()
        reader.wait(10)
        reader.stdout.close()


def test_a_view_that_cannot_be_read_leaves_yesterdays_warehouse_in_place(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        publish_all(one)
    before = (tmp_path / "warehouse.duckdb").read_bytes()
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        two.connection.execute(
            "CREATE VIEW hub.broken AS SELECT error('no') AS x FROM marts.organisation_daily"
        )
        with pytest.raises(WarehouseError, match=r"hub\.broken cannot be read"):
            publish(two.warehouse, two.connection, two.fence, two.load, Settings())
        assert two.rows("SELECT count(*) FROM _ledger.publishes") == [(1,)], (
            "no intent without a verified file"
        )
    assert (tmp_path / "warehouse.duckdb").read_bytes() == before
    assert not list(tmp_path.glob(".warehouse-*"))


def test_a_view_that_reads_what_is_not_published_is_named(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1")])
        build_day(one)
        one.connection.execute("CREATE VIEW hub.leaky AS SELECT id FROM raw_hubspot.companies")
        with pytest.raises(WarehouseError, match=r"hub\.leaky cannot be made"):
            publish(one.warehouse, one.connection, one.fence, one.load, Settings())
    assert not (tmp_path / "warehouse.duckdb").exists()


def test_an_overtaken_run_does_not_publish(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        publish_all(one)
        one.connection.execute("UPDATE _ledger.lock SET token = token + 1")
        with pytest.raises(LockHeldError):
            publish(one.warehouse, one.connection, one.fence, one.load, Settings())


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    data = tmp_path / "data"
    mask = os.umask(0)
    try:
        with run(data) as one:
            publish_all(one)
            assert stat.S_IMODE((data / "build.duckdb.tmp").stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
    finally:
        os.umask(mask)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert modes == {
        "build.duckdb": 0o600,
        "build.duckdb.state": 0o600,
        "build.duckdb.tmp": 0o700,
        "landing": 0o700,
        "run.lock": 0o600,
        "warehouse.duckdb": 0o640,
    }
    for path in (data / "landing").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_mode_and_group_of_the_published_file_are_settings(tmp_path: Path) -> None:
    wrong = Settings.model_validate({"publish": {"group": "no-such-group"}})
    with run(tmp_path) as one:
        with pytest.raises(ConfigurationError, match="no-such-group"):
            publish_all(one, wrong)
        publish(one.warehouse, one.connection, one.fence, one.load,
                Settings.model_validate({"publish": {"mode": "0440"}}))  # fmt: skip
    assert stat.S_IMODE((tmp_path / "warehouse.duckdb").stat().st_mode) == 0o440


def test_a_log_left_beside_the_old_file_is_not_replayed_into_the_new_one(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        publish_all(one)
    code = (
        "import duckdb, os, signal, sys\n"
        "c = duckdb.connect(sys.argv[1])\n"
        "c.execute('DELETE FROM marts.organisation_daily')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    os.chmod(tmp_path / "warehouse.duckdb", 0o600)
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "warehouse.duckdb")], check=False)
    assert (tmp_path / "warehouse.duckdb.wal").exists()
    with run(tmp_path) as two:
        publish_all(two)
    with open_published(tmp_path / "warehouse.duckdb") as connection:
        assert connection.execute("SELECT count(*) FROM marts.organisation_daily").fetchall() == [(2,)]


def test_freshness_keeps_every_day_and_replaces_a_day_that_is_run_again(tmp_path: Path) -> None:
    first = StreamResult("intercom", "contacts", "failed", message="Intercom: not updated since yesterday")
    with run(tmp_path) as one:
        publish_all(one)
    for day, result in (
        (date(2026, 11, 1), first),
        (date(2026, 11, 1), StreamResult("intercom", "contacts", "complete", 5)),
        # A second run that finds nothing new does not unsay what the first one delivered.
        (date(2026, 11, 1), StreamResult("intercom", "contacts", "complete", 0)),
    ):
        with run(tmp_path, day) as two:
            record_freshness(two.connection, two.fence, two.load.as_of, [result])
            publish(two.warehouse, two.connection, two.fence, two.load, Settings())
    with open_published(tmp_path / "warehouse.duckdb") as connection:
        assert connection.execute(
            "SELECT source, as_of, status, records FROM hub.freshness ORDER BY as_of"
        ).fetchall() == [
            ("hubspot", DAY, "complete", 2),
            ("intercom", date(2026, 11, 1), "complete", 5),
        ]
