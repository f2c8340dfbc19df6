"""The daily job, when it runs by itself, and who is told when it fails."""

import json
import urllib.request
from typing import TYPE_CHECKING

import dagster as dg

from hub_pipeline.orchestration.run import redact
from hub_pipeline.settings import Environment, Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

JOB = "daily"
_WEBHOOK_TIMEOUT_SECONDS = 10


def daily_job() -> "UnresolvedAssetJobDefinition":
    """Everything for one day, in one process: 20 trivial assets cost 4 CPU seconds there, 93 in a process each."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.all(),
        executor_def=dg.in_process_executor,
        description="Read every configured source, build the day's answers, check them, publish the warehouse.",
    )


def nightly_schedule(job: "UnresolvedAssetJobDefinition", settings: Settings) -> object:
    """Each night in the reporting time zone, for the day that has just closed."""
    return dg.build_schedule_from_partitioned_job(job, name="nightly", hour_of_day=settings.run.hour)


def failure_sensor(settings: Settings) -> dg.SensorDefinition:
    """Tells the address in HUB_ALERT_WEBHOOK about a failed run; runs by itself when run.alert_webhook is true."""
    status = dg.DefaultSensorStatus.RUNNING if settings.run.alert_webhook else dg.DefaultSensorStatus.STOPPED

    @dg.run_failure_sensor(name="alert_on_failure", default_status=status)
    def alert_on_failure(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        environment = Environment.read()
        if environment.alert_webhook is None:
            return dg.SkipReason("HUB_ALERT_WEBHOOK is not set.")
        send_alert(context.dagster_run, context.failure_event.message or "", environment)
        return None

    return alert_on_failure


def send_alert(run: dg.DagsterRun, message: str, environment: Environment) -> None:
    """POST one JSON object ``{text, job, run_id, partition}``; chat systems show ``text``.

    Raises:
        urllib.error.URLError: the address cannot be reached; the sensor shows it.
    """
    assert environment.alert_webhook is not None
    partition = run.tags.get("dagster/partition")
    text = redact(
        f"hub-pipeline: the {run.job_name} run for {partition or 'today'} failed. {message}", environment
    )
    body = {"text": text, "job": run.job_name, "run_id": run.run_id, "partition": partition}
    address = environment.alert_webhook.get_secret_value()
    if not address.startswith(("https://", "http://")):
        raise ValueError("HUB_ALERT_WEBHOOK must be an http or https address.")
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=_WEBHOOK_TIMEOUT_SECONDS):  # noqa: S310
        pass
