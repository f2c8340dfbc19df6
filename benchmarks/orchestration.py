"""The daily job of the demo company, sources included, in Dagster and without it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Job

if TYPE_CHECKING:
    from hub_pipeline.settings import Environment, Settings

TITLE = "daily job in Dagster"
REFERENCE = "the same pieces of DailyRun in one process, without Dagster"
ROUNDS = 2

_UNLIMITED = 1_000_000


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Serve the company without latency, without faults and, in effect, without limits."""
    from hub_pipeline.demo.account import ORGANISATION_OBJECT
    from hub_pipeline.demo.company import build_company
    from hub_pipeline.demo.serve import running_company, write_billing

    company = build_company()
    write_billing(company, folder / "billing")
    with running_company(company) as running:
        running.hubspot.limits.per_10_seconds = _UNLIMITED
        (folder / "hubspot").write_text(running.hubspot_url)
        (folder / "intercom").write_text(running.intercom_url)
        organisations = len(company.hubspot.records[ORGANISATION_OBJECT])
        yield f"the demo company, {organisations} organisations"


def _configured(folder: Path, work: Path) -> tuple[Settings, Environment]:
    from pydantic import SecretStr

    from hub_pipeline.demo.run import SETTINGS_FILE
    from hub_pipeline.settings import Environment, Settings

    settings = Settings.load(SETTINGS_FILE)
    hubspot = settings.hubspot.model_copy(update={"requests_per_10_seconds": _UNLIMITED})
    shutil.copytree(folder / "billing", work / settings.billing.folder)
    return settings.model_copy(update={"hubspot": hubspot}), Environment(
        data_dir=work,
        settings_file=SETTINGS_FILE,
        hubspot_access_token=SecretStr("demo-hubspot-token"),
        hubspot_base_url=(folder / "hubspot").read_text(),
        intercom_access_token=SecretStr("demo-intercom-token"),
        intercom_base_url=(folder / "intercom").read_text(),
    )


def ours(folder: Path, work: Path) -> Job:
    """The job as the command line runs it."""
    from hub_pipeline.demo.account import DEMO_AS_OF
    from hub_pipeline.orchestration import execute

    settings, environment = _configured(folder, work)

    def job() -> None:
        assert execute(settings, environment, DEMO_AS_OF).published is not None

    return job


def reference(folder: Path, work: Path) -> Job:
    """What the assets call, in their order."""
    from hub_pipeline.demo.account import DEMO_AS_OF
    from hub_pipeline.models import catalog
    from hub_pipeline.orchestration.run import SOURCES, DailyRun

    settings, environment = _configured(folder, work)

    def job() -> None:
        with DailyRun(settings, environment, (DEMO_AS_OF,)) as run:
            for source in SOURCES:
                run.read_source(source)
            run.fill_inputs()
            run.stage()
            run.build_day(DEMO_AS_OF)
            run.create_views()
            for model in catalog().models.values():
                run.check(model)
            run.publish()

    return job
