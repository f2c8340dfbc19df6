"""Commands that need no source: settings, build, and how mistakes end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import duckdb
import pytest

import hub_pipeline
from hub_pipeline.report.settings import render_settings
from hub_pipeline.settings import Settings


def hub(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("HUB_", "HUBSPOT_", "INTERCOM_", "DAGSTER_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "hub_pipeline.cli", *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def error_of(process: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in process.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, process.stderr
    assert "Traceback" not in process.stderr
    return lines[0]


def write_inputs(folder: Path, **tables: list[dict[str, object]]) -> Path:
    folder.mkdir(exist_ok=True)
    for table, rows in tables.items():
        (folder / f"{table}.ndjson").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    return folder


GROWTH = {
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
    assert named in error_of(process)


def test_a_settings_file_that_is_missing_is_named(tmp_path: Path) -> None:
    process = hub("settings", HUB_SETTINGS=str(tmp_path / "none.toml"))
    assert process.returncode == 2
    assert "none.toml" in error_of(process)


def test_an_unknown_command_is_a_mistake_of_the_user() -> None:
    assert hub("publsh").returncode == 2


def test_build_answers_from_canonical_files(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", **GROWTH)
    warehouse = tmp_path / "own.duckdb"
    process = hub("build", "--inputs", str(inputs), "--warehouse", str(warehouse), "--as-of", "2026-06-30")
    assert process.returncode == 0, process.stderr
    assert "marts.seat_growth" in process.stdout
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
    assert "fx_rate_present" in error_of(process)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("--as-of", "2026-06-30", "--known-at", "2026-06-29"), 2, "2026-06-29"),
        (("--as-of", "2026-06-30", "--inputs", "nowhere"), 2, "nowhere"),
    ],
)
def test_build_names_wrong_arguments(
    tmp_path: Path, arguments: tuple[str, ...], code: int, named: str
) -> None:
    inputs = write_inputs(tmp_path / "inputs", **GROWTH)
    process = hub("build", "--inputs", str(inputs), "--warehouse", str(tmp_path / "own.duckdb"), *arguments)
    assert process.returncode == code
    assert named in error_of(process)


def test_build_refuses_a_file_that_is_no_canonical_table_and_one_that_is_no_database(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", **GROWTH, invoices=[{"id": 1}])
    warehouse = tmp_path / "own.duckdb"
    process = hub("build", "--inputs", str(inputs), "--warehouse", str(warehouse), "--as-of", "2026-06-30")
    assert process.returncode == 4
    assert "invoices" in error_of(process)
    warehouse.write_text("not a database", encoding="utf-8")
    process = hub("build", "--inputs", str(inputs), "--warehouse", str(warehouse), "--as-of", "2026-06-30")
    assert process.returncode == 5
    assert "own.duckdb" in error_of(process)


def test_init_does_not_overwrite_a_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("mine", encoding="utf-8")
    process = hub("init", "--output", str(file), HUBSPOT_ACCESS_TOKEN="x", HUB_DATA_DIR=str(tmp_path))
    assert process.returncode == 2
    assert "settings.toml" in error_of(process)
    assert file.read_text(encoding="utf-8") == "mine"


def test_rebuild_without_anything_to_rebuild_from_says_so(tmp_path: Path) -> None:
    process = hub("rebuild", HUB_DATA_DIR=str(tmp_path / "data"))
    assert process.returncode == 5
    error_of(process)


def test_a_token_file_that_is_missing_is_named(tmp_path: Path) -> None:
    process = hub("doctor", HUBSPOT_ACCESS_TOKEN_FILE=str(tmp_path / "secret"), HUB_DATA_DIR=str(tmp_path))
    assert process.returncode == 2
    assert "HUBSPOT_ACCESS_TOKEN_FILE" in error_of(process)
