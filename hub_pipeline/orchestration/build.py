"""All Dagster definitions for given settings."""

import dagster as dg

from hub_pipeline.models import catalog
from hub_pipeline.orchestration.assets import all_assets
from hub_pipeline.orchestration.automation import daily_job, failure_sensor, nightly_schedule
from hub_pipeline.orchestration.resource import hub_run
from hub_pipeline.settings import Settings


def build_definitions(settings: Settings) -> dg.Definitions:
    """Assets, checks, job, schedule, sensor and resource; opens nothing and asks nobody."""
    job = daily_job()
    return dg.Definitions(
        assets=all_assets(catalog(), settings),
        jobs=[job],
        schedules=[nightly_schedule(job, settings)],  # type: ignore[list-item]
        sensors=[failure_sensor(settings)],
        resources={"hub": hub_run(settings)},
        executor=dg.in_process_executor,
    )
