"""The daily job from the command line: the same job as in the UI, in this process, visible in the UI afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import dagster as dg

from hub_pipeline.errors import HubPipelineError, WarehouseError
from hub_pipeline.orchestration.automation import JOB
from hub_pipeline.orchestration.build import build_definitions
from hub_pipeline.orchestration.instance import prepare_dagster_home
from hub_pipeline.orchestration.resource import Caller, caller
from hub_pipeline.orchestration.run import RunReport, check_day, last_closed_day, redact
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.progress import NullProgress, Progress

#: The command line prints its own progress and errors; Dagster's log lines are in the UI.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def execute(
    settings: Settings,
    environment: Environment,
    as_of: date | None = None,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> RunReport:
    """Run the daily job for a day.

    Args:
        settings: of the run.
        environment: secrets and addresses.
        as_of: local day; default the last closed one.
        data_dir: default the environment's.
        progress: who is told what the sources do.

    Returns:
        What the run did.

    Raises:
        HubPipelineError: as it was raised in the run, with its exit code.
    """
    if data_dir is not None:
        environment = environment.model_copy(update={"data_dir": data_dir})
    day = as_of or last_closed_day(settings)
    check_day(day, settings)
    started = Caller(environment, progress or NullProgress())
    token = caller.set(started)
    try:
        with _instance(environment.data_dir) as instance:
            job = build_definitions(settings).resolve_job_def(JOB)
            result = job.execute_in_process(
                instance=instance, partition_key=day.isoformat(), run_config=_QUIET, raise_on_error=False
            )
    except Exception as error:  # noqa: BLE001 - whatever Dagster raises becomes one plain sentence
        # Dagster re-raises what happens while it sets up or stores events; the run's own error says more.
        raise _plain(started.error or error, environment) from None
    finally:
        caller.reset(token)
    if not result.success or started.report is None:
        raise _plain(
            started.error or WarehouseError("The run failed; the Dagster UI shows where."), environment
        )
    return started.report


@contextmanager
def _instance(data_dir: Path) -> Iterator[dg.DagsterInstance]:
    home = prepare_dagster_home(data_dir)
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before


def _plain(error: BaseException, environment: Environment) -> BaseException:
    if isinstance(error, HubPipelineError) or not isinstance(error, Exception):
        return error
    return WarehouseError(
        f"The run stopped unexpectedly: {redact(f'{type(error).__name__}: {error}', environment)}. "
        "What was committed is kept and the published warehouse is untouched."
    )
