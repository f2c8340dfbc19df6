"""The daily job, run through Dagster on small real inputs."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import duckdb
import pytest

from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline.demo.serve import serving
from hub_pipeline.errors import ConfigurationError, DataRefusedError, LockHeldError, WarehouseError
from hub_pipeline.orchestration import RunReport, execute
from hub_pipeline.orchestration.automation import send_alert
from hub_pipeline.orchestration.build import build_definitions
from hub_pipeline.orchestration.instance import prepare_dagster_home
from hub_pipeline.orchestration.run import DailyRun, last_closed_day, redact
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline_tests.demo.portal import account
from hub_pipeline_tests.sources.reading import environment as portal_at
from hub_pipeline_tests.sources.reading import settings_with

DAY = date(2026, 10, 31)
SETTINGS = Settings.model_validate({"run": {"first_day": "2026-10-01"}, "billing": {"settle_seconds": 0}})
SUBSCRIPTIONS = (
    "subscription_id,customer_id,status,currency,plan,started_at,updated_at\n"
    "s1,c1,active,USD,team,2026-01-05T00:00:00Z,2026-01-05T00:00:00Z\n"
    "s2,c2,active,USD,team,2026-02-01T00:00:00Z,2026-02-01T00:00:00Z\n"
)


@pytest.fixture(autouse=True)
def no_dagster_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


def with_billing(data_dir: Path) -> Environment:
    folder = data_dir / SETTINGS.billing.folder / "stripe"
    folder.mkdir(parents=True)
    (folder / "subscriptions__2026-10-31__delta.csv").write_text(SUBSCRIPTIONS)
    return Environment(data_dir=data_dir)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Environment, RunReport]:
    environment = with_billing(tmp_path_factory.mktemp("data"))
    return environment, execute(SETTINGS, environment, DAY)


def runs(environment: Environment) -> list[dg.DagsterRun]:
    home = prepare_dagster_home(environment.data_dir)
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        with dg.DagsterInstance.get() as instance:
            return list(instance.get_runs())
    finally:
        del os.environ["DAGSTER_HOME"]


def test_with_only_billing_the_day_is_published_and_what_is_missing_is_said(
    published: tuple[Environment, RunReport],
) -> None:
    environment, report = published
    assert report.published == environment.data_dir / "warehouse.duckdb"
    assert report.published.exists()
    assert not report.partial
    assert set(report.not_configured) == {"hubspot", "intercom"}
    assert "deals" in report.not_configured["hubspot"]
    assert report.rows["marts.organisation_daily"] == report.rows["hub.organisations"] == 2
    results = {(r.source, r.object): r for r in report.sources}
    assert results["billing", "subscriptions"].records == 2
    assert results["hubspot", "deals"].status == "not_configured"
    with duckdb.connect(str(report.published), read_only=True) as connection:
        assert connection.execute(
            "SELECT status FROM hub.freshness WHERE source = 'hubspot' AND object = 'deals'"
        ).fetchall() == [("not_configured",)]


def test_the_run_is_in_the_ui_with_its_day_and_its_home_is_private(
    published: tuple[Environment, RunReport],
) -> None:
    environment, _ = published
    home = environment.data_dir / "dagster_home"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert "enabled: false" in (home / "dagster.yaml").read_text()
    run = runs(environment)[-1]
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert (run.job_name, run.tags["dagster/partition"]) == ("daily", "2026-10-31")


def test_assets_carry_row_counts_lineage_and_check_results(published: tuple[Environment, RunReport]) -> None:
    environment, _ = published
    os.environ["DAGSTER_HOME"] = str(environment.data_dir / "dagster_home")
    try:
        with dg.DagsterInstance.get() as instance:
            event = instance.get_latest_materialization_event(dg.AssetKey(["marts", "organisation_daily"]))
            raw = instance.get_latest_materialization_event(dg.AssetKey(["raw_hubspot", "deals"]))
            key = dg.AssetCheckKey(dg.AssetKey(["marts", "organisation_daily"]), "contract")
            check = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)[0]
    finally:
        del os.environ["DAGSTER_HOME"]
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["dagster/row_count"].value == 2
    lineage = metadata["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    assert lineage.deps_by_column["org_id"]
    assert event.asset_materialization.partition == "2026-10-31"
    assert raw is not None
    assert raw.asset_materialization is not None
    assert raw.asset_materialization.metadata["status"].value == "not_configured"
    assert check.status.value == "SUCCEEDED"


@pytest.mark.slow  # the quick suite shows the same on the demo company
def test_the_same_day_again_changes_no_row_and_declares_a_dead_run_dead(
    published: tuple[Environment, RunReport],
) -> None:
    environment, first = published
    assert first.published is not None
    before = fingerprint(first.published)
    os.environ["DAGSTER_HOME"] = str(prepare_dagster_home(environment.data_dir))
    try:
        with dg.DagsterInstance.get() as instance:
            job = build_definitions(SETTINGS).resolve_job_def("daily")
            dead = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    finally:
        del os.environ["DAGSTER_HOME"]
    again = execute(SETTINGS, environment, DAY)
    assert again.published == first.published
    after = fingerprint(first.published)
    # What a run read is its own: the second finds the billing file already loaded.
    for hashes in (before, after):
        hashes.pop("_published.freshness", None)
    assert after == before
    statuses = {run.run_id: run.status for run in runs(environment)}
    assert statuses.pop(dead.run_id) == dg.DagsterRunStatus.FAILURE
    assert set(statuses.values()) == {dg.DagsterRunStatus.SUCCESS}


@pytest.mark.slow
def test_only_one_source_is_read_and_the_day_is_published_with_what_the_others_delivered(
    published: tuple[Environment, RunReport], tmp_path: Path
) -> None:
    before, _ = published
    data = shutil.copytree(before.data_dir, tmp_path / "data")
    folder = data / SETTINGS.billing.folder / "stripe"
    (folder / "subscriptions__2026-10-31__delta__2.csv").write_text(SUBSCRIPTIONS.replace("s2", "s3"))
    simulator = HubSpotSimulator(account(3, 1))
    settings = SETTINGS.model_copy(update={"hubspot": settings_with().hubspot})
    with serving(simulator.app) as (url,):
        where = portal_at(data, url, intercom_access_token=None)
        report = execute(settings, where, DAY, only="hubspot")
    assert {result.source for result in report.sources} == {"hubspot"}
    assert report.not_read == ("intercom", "billing", "stripe")
    assert report.published is not None
    with duckdb.connect(str(report.published), read_only=True) as connection:
        told = dict(
            connection.execute(
                "SELECT source || '.' || object, status FROM hub.freshness WHERE as_of = $day", {"day": DAY}
            ).fetchall()
        )
        assert told["hubspot.organisations"] == "complete"
        assert told["billing.subscriptions"] == "complete", "what the earlier run of the day delivered counts"
        assert connection.execute(
            "SELECT DISTINCT subscription_id FROM staging.subscription_versions ORDER BY 1"
        ).fetchall() == [("s1",), ("s2",)], "the file that came since then is not read"
    assert runs(where)[0].status == dg.DagsterRunStatus.SUCCESS


@pytest.mark.slow  # the quick suite shows the same on the demo company
def test_materialising_in_the_ui_does_what_the_command_line_does(
    published: tuple[Environment, RunReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_billing(tmp_path)
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    for name in ("HUBSPOT_ACCESS_TOKEN", "INTERCOM_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    job = build_definitions(SETTINGS).resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(partition_key=DAY.isoformat()).success
    _, report = published
    assert report.published is not None
    assert fingerprint(tmp_path / "warehouse.duckdb") == fingerprint(report.published)


def test_a_blocking_check_stops_the_publication_and_shows_keys(
    published: tuple[Environment, RunReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, report = published
    assert report.published is not None
    before = report.published.read_bytes()
    build_day = DailyRun.build_day

    def spoiled(run: DailyRun, *arguments: object) -> object:
        done = build_day(run, *arguments)  # type: ignore[arg-type]
        run.connection.execute("INSERT INTO marts.organisation_daily FROM marts.organisation_daily LIMIT 1")
        return done

    monkeypatch.setattr(DailyRun, "build_day", spoiled)
    with pytest.raises(
        DataRefusedError, match=r"marts\.organisation_daily: unique fails .*org_id="
    ) as caught:
        execute(SETTINGS, environment, DAY)
    assert caught.value.exit_code == 4
    assert "Nothing was published" in str(caught.value)
    assert report.published.read_bytes() == before
    assert next(run.status for run in runs(environment)) == dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize(
    ("day", "message"),
    [
        (last_closed_day(SETTINGS) + timedelta(days=1), "has not ended yet"),
        (date(2026, 9, 30), "lies before the first day"),
    ],
)
def test_a_day_that_cannot_be_answered_is_refused_before_anything_is_read(
    tmp_path: Path, day: date, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        execute(SETTINGS, Environment(data_dir=tmp_path / "data"), day)
    assert not (tmp_path / "data").exists()


def test_without_any_source_the_run_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="HUBSPOT_ACCESS_TOKEN"):
        execute(SETTINGS, Environment(data_dir=tmp_path), DAY)
    assert not (tmp_path / "warehouse.duckdb").exists()


def test_a_held_lock_ends_the_run_with_its_own_error(tmp_path: Path) -> None:
    environment = with_billing(tmp_path)
    program = (
        "import sys, time; from pathlib import Path; from hub_pipeline.warehouse.lock import RunLock\n"
        "with RunLock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockHeldError, match=str(holder.pid)):
            execute(SETTINGS, environment, DAY)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close() if holder.stdout else None
    with RunLock(tmp_path):
        pass


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_frees_the_lock_and_is_not_left_as_running(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    environment = with_billing(tmp_path)
    program = """
import signal, sys
from datetime import date
from pathlib import Path
from hub_pipeline.orchestration import execute
from hub_pipeline.settings import Environment, Settings
class Terminated(BaseException): pass
def terminate(number, frame): raise Terminated
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, terminate)
class Watching:
    def start(self, source, object_name, total): print("reading", flush=True)
    def advance(self, source, object_name, records): pass
    def finish(self, source, object_name): pass
settings = Settings.model_validate({"run": {"first_day": "2026-10-01"}, "billing": {"settle_seconds": 0}})
try:
    execute(settings, Environment(data_dir=Path(sys.argv[1])), date(2026, 10, 31), progress=Watching())
except KeyboardInterrupt: sys.exit(130)
except Terminated: sys.exit(143)
"""
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n"
        process.send_signal(number)
        assert process.wait(30) == code
    finally:
        process.kill()
        process.communicate()
    assert [run.status for run in runs(environment)] == [dg.DagsterRunStatus.FAILURE]
    with RunLock(tmp_path), duckdb.connect(str(tmp_path / "build.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT status FROM _ledger.runs").fetchall() == [("interrupted",)]


class _Refusing(BaseHTTPRequestHandler):
    """Answers 401 and repeats the credential it was given, as a careless proxy does."""

    def do_GET(self) -> None:
        body = f'{{"message": "bad {self.headers.get("Authorization")}"}}'.encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Refusing)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_refused_token_ends_with_its_error_and_is_found_nowhere(tmp_path: Path, refusing: str) -> None:
    token = "secret-token-8c1f"
    environment = with_billing(tmp_path).model_copy(
        update={"hubspot_base_url": refusing, "hubspot_access_token": _secret(token)}
    )
    with pytest.raises(ConfigurationError, match="HUBSPOT_ACCESS_TOKEN") as caught:
        execute(SETTINGS, environment, DAY)
    assert token not in str(caught.value)
    assert not (tmp_path / "warehouse.duckdb").exists()
    found = [path for path in tmp_path.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert found == []


def test_an_unexpected_error_is_redacted_before_dagster_stores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "secret-token-77ab"
    environment = with_billing(tmp_path).model_copy(update={"hubspot_access_token": _secret(token)})

    def broken(run: DailyRun, source: str, objects: object = None) -> object:
        raise RuntimeError(f"header Authorization: Bearer {token}")

    monkeypatch.setattr(DailyRun, "read_source", broken)
    with pytest.raises(WarehouseError, match=r"Bearer \*\*\*") as caught:
        execute(SETTINGS, environment, DAY)
    assert token not in str(caught.value)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert found == []


def _secret(text: str) -> object:
    from pydantic import SecretStr

    return SecretStr(text)


def test_redaction_leaves_other_text_alone() -> None:
    environment = Environment(data_dir=Path("data"), hubspot_access_token=_secret("abc"))  # type: ignore[arg-type]
    assert redact("xabcx and HUBSPOT_ACCESS_TOKEN", environment) == "x***x and HUBSPOT_ACCESS_TOKEN"


def test_the_alert_names_job_and_day_and_hides_secrets(tmp_path: Path) -> None:
    received: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = Thread(target=server.handle_request, daemon=True)
    thread.start()
    environment = Environment(
        data_dir=tmp_path,
        hubspot_access_token=_secret("tok-1"),  # type: ignore[arg-type]
        alert_webhook=_secret(f"http://127.0.0.1:{server.server_address[1]}/hook"),  # type: ignore[arg-type]
    )
    run = dg.DagsterRun(job_name="daily", run_id="r1", tags={"dagster/partition": "2026-10-31"})
    send_alert(run, "token tok-1 refused", environment)
    thread.join(5)
    server.server_close()
    assert b"2026-10-31" in received[0]
    assert b"tok-1" not in received[0]
