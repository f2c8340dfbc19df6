"""HubSpot alone answers every list but the conversations: no billing files, no Intercom, only mapped properties."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from hub_pipeline.demo.account import Company
from hub_pipeline.demo.check import check
from hub_pipeline.demo.run import SETTINGS_FILE
from hub_pipeline.demo.serve import running_company
from hub_pipeline_tests.commands import clean_environment
from hub_pipeline_tests.demo.hubspot_alone import MAPPING, build

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def company() -> Company:
    return build()


@pytest.fixture(scope="module")
def published(company: Company, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse after one run of the command line against HubSpot alone."""
    folder = tmp_path_factory.mktemp("alone")
    settings = folder / "settings.toml"
    mapping = "\n".join(f'{column} = "{name}"' for column, name in MAPPING.items())
    settings.write_text(
        SETTINGS_FILE.read_text(encoding="utf-8")
        + f"\n[hubspot.objects.organisations.properties]\n{mapping}\n",
        encoding="utf-8",
    )
    with running_company(company) as servers:
        process = subprocess.run(
            [sys.executable, "-m", "hub_pipeline.cli", "run", "--as-of", str(company.as_of)],
            env=clean_environment(
                HUB_DATA_DIR=str(folder / "data"),
                HUB_SETTINGS=str(settings),
                HUBSPOT_ACCESS_TOKEN="demo-hubspot-token",
                HUBSPOT_BASE_URL=servers.hubspot_url,
            ),
            capture_output=True,
            text=True,
            check=False,
        )
    assert process.returncode == 0, process.stderr
    return folder / "data" / "warehouse.duckdb"


def test_every_list_but_the_conversations_equals_the_truth(published: Path, company: Company) -> None:
    assert check(published, company).differences == []


def test_each_subscription_is_that_of_an_organisation(published: Path) -> None:
    with duckdb.connect(str(published), read_only=True) as connection:
        rows = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE subscription_id <> 'hubspot:' || org_id) "
            "FROM staging.subscription_versions"
        ).fetchone()
    assert rows is not None
    assert rows[0] > 500
    assert rows[1] == 0
