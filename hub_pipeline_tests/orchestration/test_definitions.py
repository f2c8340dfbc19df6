"""What Dagster sees, without running anything.

The snapshot is every asset with key, group, kinds, owners, dependencies and checks. After a wanted change renew it:
``HUB_RENEW_SNAPSHOTS=1 pytest hub_pipeline_tests/orchestration/test_definitions.py`` and read the difference.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from hub_pipeline.models import catalog, checks_of
from hub_pipeline.models.checks import IMPLIED
from hub_pipeline.orchestration.automation import JOB
from hub_pipeline.orchestration.build import build_definitions
from hub_pipeline.orchestration.source_checks import PROPERTY_CHECKS
from hub_pipeline.settings import Settings

SNAPSHOT = Path(__file__).with_name("assets.json")


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions(Settings.load())


def described(definitions: dg.Definitions) -> dict[str, dict[str, object]]:
    graph = definitions.resolve_asset_graph()
    checks: dict[dg.AssetKey, list[str]] = {}
    for key in graph.asset_check_keys:
        blocking = " (blocking)" if graph.get_check_spec(key).blocking else ""
        checks.setdefault(key.asset_key, []).append(key.name + blocking)
    return {
        spec.key.to_user_string(): {
            "group": spec.group_name,
            "kinds": sorted(spec.kinds),
            "owners": sorted(spec.owners),
            "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            "checks": sorted(checks.get(spec.key, [])),
            "partitioned": spec.partitions_def is not None,
            "fresh": spec.freshness_policy is not None,
        }
        for spec in definitions.resolve_all_asset_specs()
    }


def test_the_assets_are_those_of_the_snapshot(definitions: dg.Definitions) -> None:
    found = dict(sorted(described(definitions).items()))
    if os.environ.get("HUB_RENEW_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(SNAPSHOT.read_text())


def test_every_dependency_is_an_asset_of_its_own(definitions: dg.Definitions) -> None:
    assets = described(definitions)
    unknown = {dep for asset in assets.values() for dep in asset["deps"] if dep not in assets}  # type: ignore[attr-defined]
    assert unknown == set()


def test_every_asset_has_a_description_and_every_model_its_columns(definitions: dg.Definitions) -> None:
    for spec in definitions.resolve_all_asset_specs():
        assert spec.description
        if spec.group_name in ("staging", "intermediate", "marts", "hub"):
            assert spec.metadata["dagster/column_schema"].columns


def test_every_check_of_every_contract_is_a_check_of_its_asset(definitions: dg.Definitions) -> None:
    found = {
        (k.asset_key.to_user_string(), k.name) for k in definitions.resolve_asset_graph().asset_check_keys
    }
    of_contracts = {
        (
            f"{m.schema}/{m.table}",
            "contract" if check.name in IMPLIED and check.severity == "error" else check.name,
        )
        for m in catalog()
        for check in checks_of(m)
    }
    of_sources = {("raw_hubspot/properties", name) for name in PROPERTY_CHECKS}
    of_the_file = {("published/warehouse", "nobody_erased_is_in_any_layer")}
    assert found == of_contracts | of_sources | of_the_file


def test_source_assets_are_unpartitioned_and_days_start_and_end_in_the_reporting_zone() -> None:
    settings = Settings.model_validate(
        {"reporting_tz": "Asia/Tokyo", "run": {"first_day": "2026-01-15", "hour": 5}}
    )
    definitions = build_definitions(settings)
    for spec in definitions.resolve_all_asset_specs():
        if str(spec.group_name) in ("hubspot", "intercom", "billing", "stripe"):
            assert spec.partitions_def is None
        else:
            partitions = spec.partitions_def
            assert isinstance(partitions, dg.DailyPartitionsDefinition)
            assert (partitions.timezone, partitions.start.date().isoformat()) == ("Asia/Tokyo", "2026-01-15")
    schedule = definitions.resolve_schedule_def("nightly")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 5 * * *", "Asia/Tokyo")


def test_the_job_holds_every_asset_and_runs_in_one_process(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def(JOB)
    assert job.executor_def.name == "in_process"
    keys = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
    assert keys == set(described(definitions))


def test_loading_the_definitions_reads_settings_only_and_opens_nothing(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('reporting_tz = "Europe/Berlin"\n')
    program = """
import builtins, io, socket, sys
import duckdb
def refuse(*a, **k): raise AssertionError("opened something while loading")
socket.socket.connect = refuse
duckdb.connect = refuse
from hub_pipeline.definitions import defs
print(defs.resolve_schedule_def("nightly").execution_timezone)
"""
    environment = {
        **os.environ,
        "HUB_SETTINGS": str(settings),
        "HUB_DATA_DIR": str(tmp_path / "data"),
        "HUBSPOT_ACCESS_TOKEN_FILE": str(tmp_path / "not-there"),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "Europe/Berlin"), done.stderr
    assert not (tmp_path / "data").exists()


def test_workspace_and_project_name_the_same_module() -> None:
    root = Path(__file__).parents[2]
    assert "python_module: hub_pipeline.definitions" in (root / "workspace.yaml").read_text()
    assert 'module_name = "hub_pipeline.definitions"' in (root / "pyproject.toml").read_text()
