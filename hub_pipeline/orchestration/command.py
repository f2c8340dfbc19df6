"""The daily job from the command line: the same job as in the UI, in this process, visible in the UI afterwards."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from hub_pipeline.errors import ConfigurationError, HubPipelineError, WarehouseError
from hub_pipeline.orchestration.automation import JOB
from hub_pipeline.orchestration.build import build_definitions
from hub_pipeline.orchestration.instance import prepare_dagster_home
from hub_pipeline.orchestration.resource import Caller, caller
from hub_pipeline.orchestration.run import (
    HOW_TO_CONFIGURE,
    SOURCES,
    RunReport,
    check_day,
    last_closed_day,
    redact,
)
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.progress import NullProgress, Progress

#: The command line prints its own progress and errors; Dagster's log lines are in the UI.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

#: Source -> setting of the environment without which it cannot be read.
_CREDENTIALS = {
    "hubspot": "hubspot_access_token",
    "intercom": "intercom_access_token",
    "stripe": "stripe_api_key",
}


def execute(
    settings: Settings,
    environment: Environment,
    as_of: date | None = None,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    accept_shrink: bool = False,
    accept_purge: bool = False,
    only: str | None = None,
) -> RunReport:
    """Run the daily job for a day.

    Args:
        settings: of the run.
        environment: secrets and addresses.
        as_of: local day; default the last closed one.
        data_dir: default the environment's.
        progress: who is told what the sources do.
        accept_shrink: believe full lists however short they are; else the shrink guard refuses them.
        accept_purge: erase the contacts that HubSpot deleted for privacy however many they are; else a guard refuses.
        only: the one source to read; the others keep what they had. Default all.

    Returns:
        What the run did.

    Raises:
        ConfigurationError: there is no such source or day, or no token for the one source.
        HubPipelineError: as it was raised in the run, with its exit code.
        KeyboardInterrupt: on Ctrl-C; SIGTERM has the effect that its handler gives it. What was committed is kept.
    """
    if data_dir is not None:
        environment = environment.model_copy(update={"data_dir": data_dir})
    if only is not None and only not in SOURCES:
        raise ConfigurationError(
            f"There is no source {only!r}; --only takes one of {', '.join(SOURCES)}. Nothing was read."
        )
    if only in _CREDENTIALS and getattr(environment, _CREDENTIALS[only]) is None:
        raise ConfigurationError(f"{HOW_TO_CONFIGURE[only]} Nothing was read.")
    day = as_of or last_closed_day(settings)
    check_day(day, settings)
    call = Caller(
        environment,
        progress or NullProgress(),
        accept_shrink=accept_shrink,
        accept_purge=accept_purge,
        only=only,
    )
    left_out = () if only is None else tuple(source for source in SOURCES if source != only)
    return _execute(settings, call, day, day, left_out)


def backfill(
    settings: Settings,
    environment: Environment,
    first: date,
    last: date,
    progress: Progress | None = None,
    *,
    current_settings: bool = False,
    known_at: date | None = None,
) -> RunReport:
    """Build the marts of many days from what is stored, without reading any source, and publish.

    Args:
        settings: of the run.
        environment: secrets and addresses.
        first: first local day.
        last: last local day, inclusive.
        progress: who is told.
        current_settings: use these settings for days that were published with others (settled rule 7).
        known_at: restate the days with what was known at the close of this day; default each day's own.

    Raises:
        ConfigurationError: the days are in the wrong order, have not ended, or lie before the first partition.
        HubPipelineError: as it was raised in the run, with its exit code.
    """
    if first > last:
        raise ConfigurationError(f"The first day, {first}, is after the last, {last}. Nothing was built.")
    call = Caller(
        environment, progress or NullProgress(), current_settings=current_settings, known_at=known_at
    )
    return _execute(settings, call, first, last, SOURCES)


def _execute(settings: Settings, call: Caller, first: date, last: date, left_out: Sequence[str]) -> RunReport:
    """Run the job in this process for the days from first to last, without the raw assets of some sources."""
    check_day(first, settings)
    check_day(last, settings)
    if first == last:
        partition: dict[str, Any] = {"partition_key": first.isoformat()}
    else:
        days = {"start": first.isoformat(), "end": last.isoformat()}
        partition = {"tags": {f"dagster/asset_partition_range_{end}": day for end, day in days.items()}}
    with _Signals() as signals:
        call.interrupted = lambda: signals.first is not None
        token = caller.set(call)
        try:
            with _instance(call.environment.data_dir) as instance:
                job = build_definitions(settings).resolve_job_def(JOB)
                result = job.execute_in_process(
                    instance=instance,
                    run_config=_QUIET,
                    raise_on_error=False,
                    asset_selection=_all_but_sources(job, left_out),
                    **partition,
                )
            success = result.success
        except BaseException as error:
            if signals.first is None and not isinstance(error, Exception):
                raise
            # Dagster re-raises what happens while it sets up or stores events; the run's own error says more.
            call.error = call.error or error
            success = False
        finally:
            caller.reset(token)
    if not success and signals.first is not None:
        signals.repeat()
    if not success or call.report is None:
        reason = call.error or WarehouseError("The run failed; the Dagster UI shows where.")
        raise _plain(reason, call.environment) from None
    return call.report


def _all_but_sources(job: dg.JobDefinition, left_out: Sequence[str]) -> list[dg.AssetKey] | None:
    """What is to be materialised when some sources are not read; None = everything."""
    if not left_out:
        return None
    schemas = {f"raw_{source}" for source in left_out}
    return [key for key in job.asset_layer.selected_asset_keys if key.path[0] not in schemas]


class _Signals:
    """Remembers the signal that asked the process to stop: Dagster replaces the handlers while a job runs."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._reader: int | None = None

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is threading.main_thread():
            # Dagster gives SIGTERM the handler of SIGINT and leaves it there.
            self._handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._reader, False)
            os.set_blocking(self._writer, False)
            self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(self, *error: object) -> None:
        if self._reader is not None:
            self._read()
            signal.set_wakeup_fd(self._before)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            os.close(self._reader)
            os.close(self._writer)
            self._reader = None

    @property
    def first(self) -> int | None:
        """SIGINT or SIGTERM, whichever came first (Dagster answers one with the other); None if neither came."""
        self._read()
        return self._first

    def repeat(self) -> None:
        """Let the signal have the effect it has outside of a run."""
        assert self._first is not None, "only after a signal"
        signal.raise_signal(self._first)

    def _read(self) -> None:
        if self._reader is None:
            return
        try:
            received = os.read(self._reader, 256)
        except BlockingIOError:
            return
        for number in received:
            if self._first is None and number in (signal.SIGINT, signal.SIGTERM):
                self._first = number


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
