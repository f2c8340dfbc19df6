"""The run as a Dagster resource: lock, connection and ledger are held from the first step of a run to its last."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource
from pydantic import PrivateAttr

from hub_pipeline.errors import HubPipelineError, SourceUnavailableError
from hub_pipeline.orchestration.run import DailyRun, RunReport, last_closed_day, redact
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.progress import NullProgress, Progress
from hub_pipeline.warehouse.database import Warehouse


@dataclass
class Caller:
    """What the command line hands to the run it starts in its own process, and gets back.

    Attributes:
        environment: instead of the process environment.
        progress: who is told what the sources do.
        accept_shrink: believe full lists however short they are.
        accept_purge: erase the contacts that HubSpot deleted for privacy however many they are.
        only: the one source to read; default all.
        current_settings: build published days with today's settings.
        known_at: the day of knowledge; default each day's own close.
        interrupted: tells whether a signal has asked the process to stop.
        error: the first error of the run, as it was raised.
        report: what the run did.
    """

    environment: Environment
    progress: Progress
    interrupted: Callable[[], bool] = lambda: False
    accept_shrink: bool = False
    accept_purge: bool = False
    only: str | None = None
    current_settings: bool = False
    known_at: date | None = None
    error: BaseException | None = None
    report: RunReport | None = None


#: Set while the command line runs the job in process; unset in runs that the UI or the daemon started.
caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


class HubRun(DuckDBResource):
    """One run: its lock, its connection to the build file, its pieces.

    On top of `DuckDBResource`, which always opens read-write, retries a held lock silently and keeps the file locked
    after an exception: here the file is opened once by `Warehouse.connect`, closed in ``finally``, and a held lock is
    an error that says who holds it.

    Attributes:
        database: the build file, relative to the data folder of the environment; shown in the UI only.
        settings_json: the settings the definitions were loaded with.
    """

    settings_json: str

    _run: DailyRun | None = PrivateAttr(default=None)
    _environment: Environment | None = PrivateAttr(default=None)

    @property
    def run(self) -> DailyRun:
        """The pieces of the run."""
        assert self._run is not None, "the run begins when the resource is set up"
        return self._run

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The run's connection; it stays open until the run ends."""
        yield self.run.connection

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Generator["HubRun", None, None]:
        """Take the lock, begin the run, end it however it ended."""
        started_by = caller.get()
        with self.boundary(retry=False):
            environment = started_by.environment if started_by else Environment.read()
            self._environment = environment
            settings = Settings.model_validate_json(self.settings_json)
            progress = started_by.progress if started_by else NullProgress()
            run = DailyRun(settings, environment, _days(context, settings), progress)
            if started_by is not None:
                run.accept_shrink = started_by.accept_shrink
                run.accept_purge = started_by.accept_purge
                run.only = started_by.only
                run.current_settings = started_by.current_settings
                run.known_at = started_by.known_at
            run.__enter__()
        self._run = run
        try:
            _declare_dead(context)
            yield self
        except BaseException as error:
            run.fail(error)
            raise
        finally:
            if started_by is not None:
                started_by.report = run.report()
                if started_by.interrupted():
                    run.fail(KeyboardInterrupt())
            with self.boundary(retry=False):
                run.__exit__(None, None, None)
            self._run = None

    @contextmanager
    def boundary(self, *, retry: bool) -> Iterator[None]:
        """Nothing with a secret in it crosses into Dagster's event log; errors say whether to try again.

        Only a source that is down is worth another attempt, and only when nobody waits at a terminal: there the exit
        code says to come back later.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the boundary is for every error
            started_by = caller.get()
            if started_by is not None and started_by.error is None:
                started_by.error = error
            if self._run is not None:
                self._run.fail(error)
            secrets = self._environment
            text = redact(_sentence(error), secrets) if secrets else type(error).__name__
            transient = isinstance(error, SourceUnavailableError)
            raise dg.Failure(
                description=text, allow_retries=retry and transient and started_by is None
            ) from None
        except BaseException as error:  # noqa: BLE001 - see below
            if self._run is not None:
                self._run.fail(error)
            # Dagster's retry policy would wait and try an interrupted step again.
            raise dg.Failure(description="The run was interrupted.", allow_retries=False) from None


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, HubPipelineError) else f"{type(error).__name__}: {error}"


def _days(context: dg.InitResourceContext, settings: Settings) -> tuple[date, ...]:
    """Days of the run's partition tags; without any the last closed day."""
    tags = context.run.tags if context.run else {}
    first = tags.get("dagster/asset_partition_range_start") or tags.get("dagster/partition")
    last = tags.get("dagster/asset_partition_range_end") or first
    if first is None or last is None:
        return (last_closed_day(settings),)
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return tuple(start + timedelta(days=n) for n in range((end - start).days + 1))


def _declare_dead(context: dg.InitResourceContext) -> None:
    """Runs that Dagster still believes to be at work are dead: this one holds the lock."""
    if context.instance is None or context.run is None:
        return
    for other in context.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        if other.run_id != context.run.run_id:
            context.instance.report_run_failed(other, "Its process ended without finishing the run.")


def hub_run(settings: Settings) -> HubRun:
    """The resource for these settings; nothing is opened before a run starts."""
    # Only what was set: a source asks whether a setting was given or is the default.
    return HubRun(
        database=Warehouse.in_folder(Path()).build_path.name,
        settings_json=settings.model_dump_json(exclude_unset=True),
    )
