"""What Dagster adds to reading HubSpot: the raw assets materialised, against the same reading by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import hubspot_run
from benchmarks.harness import Job

TITLE = "HubSpot full load in Dagster"
REFERENCE = "DailyRun.read_source without Dagster"
ROUNDS = 2


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Serve the portal."""
    with hubspot_run.portal(folder, 10_000 if quick else 100_000) as size:
        yield size


def ours(folder: Path, work: Path) -> Job:
    """Materialise the assets of HubSpot and nothing else."""
    import os

    import dagster as dg

    from hub_pipeline.orchestration.automation import JOB
    from hub_pipeline.orchestration.build import build_definitions
    from hub_pipeline.orchestration.instance import prepare_dagster_home
    from hub_pipeline.orchestration.resource import Caller, caller
    from hub_pipeline.sources.progress import NullProgress

    settings, environment = hubspot_run.configured(folder, work)

    def job() -> None:
        token = caller.set(Caller(environment, NullProgress()))
        try:
            os.environ["DAGSTER_HOME"] = str(prepare_dagster_home(work))
            with dg.DagsterInstance.get() as instance:
                chosen = build_definitions(settings).resolve_job_def(JOB)
                keys = [k for k in chosen.asset_layer.selected_asset_keys if k.path[0] == "raw_hubspot"]
                assert chosen.execute_in_process(
                    instance=instance,
                    asset_selection=keys,
                    partition_key=hubspot_run.DAY.isoformat(),
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                ).success
        finally:
            caller.reset(token)

    return job


def reference(folder: Path, work: Path) -> Job:
    """The same reading."""
    from hub_pipeline.orchestration.run import DailyRun

    settings, environment = hubspot_run.configured(folder, work)

    def job() -> None:
        with DailyRun(settings, environment, (hubspot_run.DAY,)) as run:
            run.read_source("hubspot")

    return job
