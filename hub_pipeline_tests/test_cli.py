"""Commands that need no source: settings, build, and how mistakes end."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tomllib
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

import hub_pipeline
from hub_pipeline.orchestration.run import last_closed_day
from hub_pipeline.report.settings import render_settings
from hub_pipeline.settings import Settings
from hub_pipeline_tests.commands import clean_environment, plain_sentence


def hub(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hub_pipeline.cli", *arguments],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )


def write_inputs(folder: Path, **tables: list[dict[str, object]]) -> Path:
    folder.mkdir(exist_ok=True)
    for table, rows in tables.items():
        (folder / f"{table}.ndjson").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    return folder


GROWTH: dict[str, list[dict[str, object]]] = {
    "organisations": [{"org_id": "o1", "name": "Nordwind"}],
    "subscription_versions": [
        {
            "subscription_id": "s1",
            "org_id": "o1",
            "plan": "team",
            "billing_interval": "month",
            "seats": seats,
            "amount": seats * 10,
            "currency": "USD",
            "status": "active",
            "effective_at": since,
        }
        for seats, since in ((30, "2025-01-01"), (50, "2026-05-10T09:00:00Z"))
    ],
}

#: Far enough that midnight may pass while the tests run.
TOMORROW = last_closed_day(Settings()) + timedelta(days=2)


def test_the_shipped_settings_file_is_what_the_command_prints() -> None:
    shipped = Path(hub_pipeline.__file__).with_name("settings.toml").read_text(encoding="utf-8")
    assert hub("settings").stdout == shipped == render_settings(Settings())


def test_the_printed_settings_load_to_the_same_settings(tmp_path: Path) -> None:
    live = re.sub(r"(?m)^# (?=[a-z0-9_]+ = )", "", render_settings(Settings()))
    assert tomllib.loads(live)["growth"] == {"days": 90, "min_seats": 20, "baseline": "first_day"}
    file = tmp_path / "settings.toml"
    file.write_text(live, encoding="utf-8")
    assert Settings.load(file) == Settings()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[growth]\ndayz = 90\n", "growth.dayz"),
        ("[growth]\ndays = -1\n", "growth.days"),
        ('reporting_tz = "Mars/Olympus"\n', "Mars/Olympus"),
        ("[growth\n", "TOML"),
    ],
)
def test_a_mistake_in_the_settings_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    process = hub("settings", "--settings", str(file))
    assert process.returncode == 2
    assert named in plain_sentence(process)


def test_a_settings_file_that_is_missing_is_named(tmp_path: Path) -> None:
    process = hub("settings", HUB_SETTINGS=str(tmp_path / "none.toml"))
    assert process.returncode == 2
    assert "none.toml" in plain_sentence(process)


def test_an_unknown_command_is_a_mistake_of_the_user() -> None:
    assert hub("publsh").returncode == 2


def test_build_answers_from_canonical_files(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", **GROWTH)
    warehouse = tmp_path / "own.duckdb"
    process = hub("build", "--inputs", str(inputs), "--warehouse", str(warehouse), "--as-of", "2026-06-30")
    assert process.returncode == 0, process.stderr
    assert re.search(r"marts\.seat_growth \W*1\b", process.stdout)
    assert re.search(r"hub\.fast_growing_organisations \W*1\b", process.stdout)
    assert re.search(r"hub\.organisations \W*1\b", process.stdout)
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        rows = connection.execute(
            "SELECT name, seats_baseline, seats_now, organic_seat_delta FROM hub.fast_growing_organisations"
        ).fetchall()
    assert rows == [("Nordwind", 30, 50, 20)]


def test_build_counts_rows_it_cannot_use_and_keeps_them(tmp_path: Path) -> None:
    broken = [*GROWTH["subscription_versions"], {**GROWTH["subscription_versions"][0], "seats": "many"}]
    inputs = write_inputs(
        tmp_path / "inputs", organisations=GROWTH["organisations"], subscription_versions=broken
    )
    warehouse = tmp_path / "own.duckdb"
    process = hub("build", "--inputs", str(inputs), "--warehouse", str(warehouse), "--as-of", "2026-06-30")
    assert process.returncode == 0, process.stderr
    assert "1 of 3 rows" in process.stdout
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        kept = connection.execute("SELECT line, reason FROM inputs.quarantine").fetchall()
    assert kept[0][0] == 3
    assert "seats" in kept[0][1]


def test_build_stops_at_a_blocking_check(tmp_path: Path) -> None:
    in_euro = [{**row, "currency": "EUR"} for row in GROWTH["subscription_versions"]]
    inputs = write_inputs(
        tmp_path / "inputs", organisations=GROWTH["organisations"], subscription_versions=in_euro
    )
    process = hub(
        "build", "--inputs", str(inputs), "--warehouse", str(tmp_path / "own.duckdb"), "--as-of", "2026-06-30"
    )
    assert process.returncode == 4
    assert "fx_rate_present" in plain_sentence(process)
    shown = next(line for line in process.stdout.splitlines() if "fx_rate_present" in line)
    assert shown.startswith("error: ")
    assert "currencies_without_rate=[EUR]" in shown
    assert "as_of=2026-06-30" in shown
    assert not re.search(r"[{}']|datetime|Decimal", shown)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("--as-of", "2026-06-30", "--known-at", "2026-06-29"), 2, "2026-06-29"),
        (("--as-of", "2026-06-30", "--inputs", "nowhere"), 2, "nowhere"),
        (("--as-of", "2026-06-30", "--warehouse", "nowhere/own.duckdb"), 2, "nowhere"),
        (("--as-of", str(TOMORROW)), 2, f"{TOMORROW} has not ended yet"),
        (("--as-of", "2026-06-30", "--known-at", str(TOMORROW)), 2, f"{TOMORROW} has not ended yet"),
    ],
)
def test_build_names_wrong_arguments(
    tmp_path: Path, arguments: tuple[str, ...], code: int, named: str
) -> None:
    inputs = write_inputs(tmp_path / "inputs", **GROWTH)
    process = hub("build", "--inputs", str(inputs), "--warehouse", str(tmp_path / "own.duckdb"), *arguments)
    assert process.returncode == code
    assert named in plain_sentence(process)


def test_build_refuses_a_file_that_is_no_canonical_table(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", **GROWTH, invoices=[{"id": 1}])
    warehouse = tmp_path / "own.duckdb"
    process = hub("build", "--inputs", str(inputs), "--warehouse", str(warehouse), "--as-of", "2026-06-30")
    assert process.returncode == 4
    assert "invoices" in plain_sentence(process)


@pytest.mark.parametrize("name", ["own.csv", "own.duckdb"])
def test_build_refuses_a_file_that_is_no_database_and_leaves_it_as_it_is(tmp_path: Path, name: str) -> None:
    inputs = write_inputs(tmp_path / "inputs", **GROWTH)
    warehouse = tmp_path / name
    warehouse.write_text("org_id,name\no1,Nordwind\n", encoding="utf-8")
    process = hub("build", "--inputs", str(inputs), "--warehouse", str(warehouse), "--as-of", "2026-06-30")
    assert process.returncode == 5
    assert f"{name} is not a DuckDB file" in plain_sentence(process)
    assert warehouse.read_text(encoding="utf-8") == "org_id,name\no1,Nordwind\n"


def test_init_does_not_overwrite_a_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("mine", encoding="utf-8")
    process = hub("init", "--output", str(file), HUBSPOT_ACCESS_TOKEN="x", HUB_DATA_DIR=str(tmp_path))
    assert process.returncode == 2
    assert "settings.toml" in plain_sentence(process)
    assert file.read_text(encoding="utf-8") == "mine"


def test_rebuild_without_anything_to_rebuild_from_says_so(tmp_path: Path) -> None:
    process = hub("rebuild", HUB_DATA_DIR=str(tmp_path / "data"))
    assert process.returncode == 5
    plain_sentence(process)


def test_a_token_file_that_is_missing_is_named(tmp_path: Path) -> None:
    process = hub("doctor", HUBSPOT_ACCESS_TOKEN_FILE=str(tmp_path / "secret"), HUB_DATA_DIR=str(tmp_path))
    assert process.returncode == 2
    assert "HUBSPOT_ACCESS_TOKEN_FILE" in plain_sentence(process)


def test_a_data_folder_that_is_a_file_is_named_by_demo_and_doctor(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.touch()
    process = hub("demo", HUB_DATA_DIR=str(file))
    assert process.returncode == 5
    assert f"{file}/demo" in plain_sentence(process)
    process = hub("doctor", HUB_DATA_DIR=str(file))
    assert process.returncode == 5
    assert "data folder" in plain_sentence(process)
    assert f"{file} is not a folder" in process.stdout


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        process = hub("ui", "--demo", "--port", port, HUB_DATA_DIR=str(tmp_path))
    assert process.returncode == 2
    assert port in plain_sentence(process)
    assert "--port" in plain_sentence(process)


def test_a_user_interface_that_ends_by_itself_is_an_error_without_dagsters_advice(tmp_path: Path) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: [", encoding="utf-8")
    extract = tmp_path / "billing" / "incoming" / "stripe" / "x.csv"
    extract.parent.mkdir(parents=True)
    extract.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    process = hub("ui", "--port", port, HUB_DATA_DIR=str(tmp_path), DAGSTER_HOME=str(home))
    assert process.returncode == 5
    assert "ended by itself with exit code 1" in next(
        line for line in process.stderr.splitlines() if line.startswith("Error: ")
    )
    assert "superseded" not in process.stderr


@pytest.mark.slow
def test_the_demo_ends_with_4_when_something_could_not_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    (folder / "billing" / "incoming" / "stripe").mkdir(parents=True)
    (folder / ".demo-company").touch()
    (folder / "billing" / "incoming" / "stripe" / "customers__2026-09-30__full.csv.gz").write_text(
        "not compressed", encoding="utf-8"
    )
    process = hub("demo", HUB_DATA_DIR=str(tmp_path))
    assert process.returncode == 4
    assert "customers__2026-09-30__full.csv.gz" in plain_sentence(process)
    assert (folder / "warehouse.duckdb").exists()
