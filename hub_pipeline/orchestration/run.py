"""One run of one day, without Dagster: lock, read the sources, fill, stage, build, check, publish.

The assets call the pieces of `DailyRun` one after the other, so the command line and the UI do the same. The run lock
is held from `__enter__` to `__exit__`, and so is the one connection to the build file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import duckdb

from hub_pipeline.errors import ConfigurationError, DataRefusedError, HubPipelineError
from hub_pipeline.models import CheckResult, Model, ModelRun, catalog, run_checks
from hub_pipeline.models.engine import (
    comments_of,
    count_rows,
    count_views,
    create_input_tables,
    day_close,
    model_parameters,
    run_models,
)
from hub_pipeline.orchestration.day_settings import DaySettings, day_settings
from hub_pipeline.orchestration.source_checks import drift_message, growth_message, property_checks
from hub_pipeline.settings import SUBSCRIPTION_COLUMNS, Environment, HubSpotObject, Settings
from hub_pipeline.sources import billing, hubspot, intercom, stripe
from hub_pipeline.sources.billing.loading import FILES
from hub_pipeline.sources.hubspot.streams import (
    MERGED_IDS,
    account_stream,
    associations_stream,
    object_stream,
    owners_stream,
    pipelines_stream,
    properties_stream,
)
from hub_pipeline.sources.intercom.streams import all_streams as intercom_tables
from hub_pipeline.sources.progress import NullProgress, Progress
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.erase import Erasure, leftovers
from hub_pipeline.warehouse.known import WarehouseKnown
from hub_pipeline.warehouse.landing import LandedFile, LoadContext
from hub_pipeline.warehouse.loader import RawLoader
from hub_pipeline.warehouse.lock import Fence, RunLock
from hub_pipeline.warehouse.mapping import MissingProperty, create_mapped_views
from hub_pipeline.warehouse.privacy import erase_gone, erase_returned
from hub_pipeline.warehouse.publish import publish
from hub_pipeline.warehouse.raw import RawStream, StreamResult
from hub_pipeline.warehouse.rewrite import rewrite_build_file, rewrite_is_due
from hub_pipeline.warehouse.tombstones import Tombstones

#: Sources in the order in which they are read.
SOURCES = ("hubspot", "intercom", "billing", "stripe")

#: What to do about a source that is not configured.
HOW_TO_CONFIGURE = {
    "hubspot": "HubSpot is not configured: set HUBSPOT_ACCESS_TOKEN.",
    "intercom": "Intercom is not configured: set INTERCOM_ACCESS_TOKEN.",
    "billing": "Billing is not configured: put extracts into the billing folder of the settings.",
    "stripe": "Stripe is not configured, and need not be: it fills billing through its API, set STRIPE_API_KEY.",
}

#: What cannot be answered without a source.
NEEDED_FOR = {
    "hubspot": "without HubSpot there are no deals, contacts, owners, NPS answers or custom contracts: "
    "renewal deals, detractors, tier overrides and who owns an organisation stay unknown",
    "intercom": "without Intercom there are no conversations: the interactions of large clients stay unknown",
    "billing": "without billing there are no subscriptions: seats, MRR, growth, contraction, churn and contract "
    "terms stay unknown",
    "stripe": "Stripe is a second door into billing: without it subscriptions come from the billing folder alone",
}


@dataclass(frozen=True)
class RunReport:
    """What a run did, for the closing summary.

    Attributes:
        run_id: of the ledger.
        as_of: the day.
        sources: one result for each object of each source, in reading order.
        source_seconds: source -> wall time of reading and loading it.
        rows: ``marts.x`` and ``hub.x`` -> rows of the day, or of the view.
        checks: checks that did not pass; only warnings, else the run would have failed.
        missing_properties: mapped HubSpot properties that the portal does not have.
        not_configured: source -> what cannot be answered without it.
        shown: the day the views of ``hub`` show, the latest that is stored; None when nothing is.
        published: the file analysts open.
        seconds: wall time from taking the lock to the published file.
        not_read: sources the run was told to leave out.
        erased: HubSpot contacts erased because they were deleted there for privacy, or had come back.
        kept_settings: days that keep the settings they were published with, which differ from the run's.
    """

    run_id: str
    as_of: date
    sources: tuple[StreamResult, ...]
    source_seconds: dict[str, float]
    rows: dict[str, int]
    checks: tuple[CheckResult, ...]
    missing_properties: tuple[MissingProperty, ...]
    not_configured: dict[str, str]
    shown: date | None
    published: Path | None
    seconds: float
    not_read: tuple[str, ...] = ()
    erased: int = 0
    kept_settings: tuple[date, ...] = ()

    @property
    def quarantined(self) -> dict[str, int]:
        """``source object`` -> rows kept aside."""
        return {f"{r.source} {r.object}": r.quarantined for r in self.sources if r.quarantined}

    @property
    def partial(self) -> bool:
        """An optional object was forbidden, or a billing file not believed: published, but exit code 4 (settled 22)."""
        return bool(self.left_out)

    @property
    def left_out(self) -> tuple[StreamResult, ...]:
        """What could not be read, each with the reason and what to do."""
        return tuple(result for result in self.sources if result.status in ("forbidden", "failed"))


def last_closed_day(settings: Settings, now: datetime | None = None) -> date:
    """Yesterday in the reporting time zone."""
    here = now.astimezone(settings.zone) if now is not None else datetime.now(settings.zone)
    return here.date() - timedelta(days=1)


def check_day(day: date, settings: Settings) -> None:
    """Refuse days that have not ended, and days before the first partition.

    Raises:
        ConfigurationError: with what to change.
    """
    last = last_closed_day(settings)
    if day > last:
        raise ConfigurationError(
            f"{day} has not ended yet in {settings.reporting_tz}; the last closed day is {last}. Nothing was read."
        )
    if day < settings.run.first_day:
        raise ConfigurationError(
            f"{day} lies before the first day of the warehouse, {settings.run.first_day}. Nothing was read; "
            "set run.first_day to an earlier day."
        )


def object_names(source: str, settings: Settings) -> list[str]:
    """Names of the raw tables of a source, known without asking it."""
    if source == "hubspot":
        return hubspot.streams(settings)
    if source == "intercom":
        return intercom.streams()
    if source == "stripe":
        return stripe.streams()
    # Beside what the files fill, more tables are made from them.
    return [
        *billing.object_names(),
        "customer_matches",
        "unmatched_customers",
        "subscription_names",
        "lists",
        "daily_seats_listed",
        "quarantine",
        "currencies",
    ]


@dataclass
class DailyRun:
    """One run of one day, or of several days for a backfill of marts; a context manager that holds the run lock.

    Args:
        settings: of the run.
        environment: secrets, addresses, data folder.
        days: local days to build, oldest first; what the sources send is recorded for the last one.
        progress: who is told what the sources do.
        accept_shrink: believe full lists however short they are; else the shrink guard refuses them.
        accept_purge: erase the contacts that HubSpot deleted for privacy however many they are; else a guard refuses.
        only: the one source that this run reads; default all.
        current_settings: build with these settings even days that were published with others; else each day keeps
            its own (settled rule 7).
        known_at: the day whose close ends what may be known; default each day itself. A later one restates the days:
            more rows with a later known_at, beside those that were published.

    Raises (on entry):
        ConfigurationError: a day has not ended or lies before the first partition.
        LockHeldError: another run holds the lock.
        WarehouseError: the build file cannot be used.
    """

    settings: Settings
    environment: Environment
    days: tuple[date, ...]
    progress: Progress = field(default_factory=NullProgress)
    accept_shrink: bool = False
    accept_purge: bool = False
    only: str | None = None
    current_settings: bool = False
    known_at: date | None = None

    erased: list[Erasure] = field(default_factory=list, init=False)
    _rewrite_due: bool = field(default=False, init=False)
    results: list[StreamResult] = field(default_factory=list, init=False)
    source_seconds: dict[str, float] = field(default_factory=dict, init=False)
    rows: dict[str, int] = field(default_factory=dict, init=False)
    failed_checks: list[CheckResult] = field(default_factory=list, init=False)
    source_checks: list[CheckResult] = field(default_factory=list, init=False)
    missing_properties: list[MissingProperty] = field(default_factory=list, init=False)
    published: Path | None = field(default=None, init=False)
    _error: BaseException | None = field(default=None, init=False)
    _day_settings: dict[date, DaySettings] = field(default_factory=dict, init=False)

    connection: duckdb.DuckDBPyConnection = field(init=False)
    load: LoadContext = field(init=False)
    fence: Fence = field(init=False)

    @property
    def as_of(self) -> date:
        """The day the run is for; of several, the last."""
        return self.days[-1]

    def __enter__(self) -> DailyRun:
        for day in (*self.days, *([self.known_at] if self.known_at else [])):
            check_day(day, self.settings)
        if self.known_at is not None and self.known_at < self.as_of:
            raise ConfigurationError(
                f"What was known on {self.known_at} cannot answer for {self.as_of}, a later day. Nothing was built."
            )
        self._started = perf_counter()
        self._stack = ExitStack()
        self.warehouse = Warehouse.in_folder(self.environment.data_dir)
        try:
            self._lock = self._stack.enter_context(RunLock(self.environment.data_dir))
            # Left in reverse order: when this is called the connection is closed and the lock still held.
            self._stack.callback(self._rewrite_if_due)
            self.connection = self._stack.enter_context(self.warehouse.connect())
            self._begin()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._finish(error)
        finally:
            self._stack.__exit__(kind, error, trace)

    def fail(self, error: BaseException) -> None:
        """Remember how the run ended, where the exception itself does not reach `__exit__` (as in Dagster).

        The first error counts, but an interruption explains what failed because of it.
        """
        if self._error is None or not isinstance(error, Exception):
            self._error = error

    def begin_again(self) -> None:
        """Go on under a new run id, so that a second attempt at a source lands in a folder of its own."""
        ledger.finish_run(self.connection, self.fence, "failed", "tried again")
        self._begin()

    def read_source(self, source: str, objects: Iterable[str] | None = None) -> list[StreamResult]:
        """Extract a source and load what it sends, object by object as each one completes.

        Args:
            source: ``hubspot`` | ``intercom`` | ``billing`` | ``stripe``.
            objects: names of raw tables to read; default all. Reference data is always read.

        Returns:
            One result for each object; for a source that is not configured one that says so.

        Raises:
            ConfigurationError: the credential is refused.
            SourceUnavailableError: the source is down, too slow, or limits us.
            DataRefusedError: a guard refused what it sent.
        """
        started = perf_counter()
        token = {
            "hubspot": self.environment.hubspot_access_token,
            "intercom": self.environment.intercom_access_token,
            "stripe": self.environment.stripe_api_key,
        }
        if source == "billing":
            results = billing.load(
                self.connection,
                self.settings,
                self.environment,
                self.load,
                self.fence,
                self.progress,
                self.accept_shrink,
            )
        elif token[source] is None:
            message = HOW_TO_CONFIGURE[source]
            names = object_names(source, self.settings)
            results = [StreamResult(source, name, "not_configured", message=message) for name in names]
        else:
            results = [self._load_stream(*item) for item in self._extract(source, objects)]
            if source == "hubspot":
                results = self._check_properties(results)
            elif source == "stripe":
                results += stripe.convert(
                    self.connection, self.settings, self.environment, self.load, self.fence, self.progress
                )
        self._protect_persons(source)
        self.results += results
        self.source_seconds[source] = perf_counter() - started
        return results

    def fill_inputs(self, models: Iterable[Model] | None = None) -> tuple[ModelRun, ...]:
        """Build ``inputs.*`` from raw; tables of sources that were never read are empty.

        Raises:
            ConfigurationError: this run was to read every source and none is configured.
        """
        if {r.source for r in self.results} == set(SOURCES) == set(self._not_delivered()):
            raise ConfigurationError(
                f"No source is configured, so there is nothing to answer from. {' '.join(HOW_TO_CONFIGURE.values())}"
            )
        self._ensure_raw_tables()
        # Of an object that was not read nobody can say what it lacks.
        read = {r.object for r in self.results if r.source == "hubspot" and r.status == "complete"}
        missing = create_mapped_views(self.connection, self.settings)
        self.missing_properties = [one for one in missing if one.object in read]
        create_input_tables(self.connection, catalog())
        return self._run(catalog().layer("inputs") if models is None else models, None)

    def stage(self, models: Iterable[Model] | None = None) -> tuple[ModelRun, ...]:
        """Build ``staging.*`` from ``inputs.*``."""
        return self._run(catalog().layer("staging") if models is None else models, None)

    def build_day(self, day: date, models: Iterable[Model] | None = None) -> tuple[ModelRun, ...]:
        """Build the intermediate tables and marts of one day, known at its own close or at that of ``known_at``."""
        chosen = catalog().layer("intermediate", "marts") if models is None else models
        runs = self._run(chosen, day)
        if day == self.as_of:
            self.rows |= {run.model: run.rows for run in runs if run.model.startswith("marts.")}
        return runs

    def create_views(self, models: Iterable[Model] | None = None) -> tuple[ModelRun, ...]:
        """(Re)create the views of ``hub`` and count their rows."""
        ledger.ensure_published_schema(self.connection)
        ledger.record_freshness(self.connection, self.fence, self.as_of, self.results)
        for source in self.not_read:
            names = object_names(source, self.settings)
            ledger.record_not_read(self.connection, self.fence, self.as_of, source, names)
        runs = self._run(catalog().layer("hub") if models is None else models, None)
        counted = count_views(self.connection, runs)
        self.rows |= {run.model: run.rows for run in counted}
        return counted

    def check(self, model: Model, day: date | None = None) -> list[CheckResult]:
        """Run the checks of a model and remember those that fail."""
        day = day or self.as_of
        known = self.known_at or day
        parameters = self._parameters(day)
        results = run_checks(self.connection, model, day, known, parameters)
        self.failed_checks += [result for result in results if not result.passed]
        return results

    def refuse_if_blocked(self) -> None:
        """Stop before publishing when a blocking check failed.

        Raises:
            DataRefusedError: naming the checks with a first key each.
        """
        blocking = [result for result in self.failed_checks if result.blocks]
        if blocking:
            what = "; ".join(result.sentence() for result in blocking[:3])
            more = f" and {len(blocking) - 3} more" if len(blocking) > 3 else ""
            raise DataRefusedError(
                f"Blocking checks refused the data of {self.as_of}: {what}{more}. "
                "Nothing was published; the warehouse of before stays up."
            )

    def publish(self) -> Path:
        """Write the published file and put it in the place of the old one."""
        self.refuse_if_blocked()
        if left := self.leftovers():
            raise DataRefusedError(
                f"Persons who were erased are still in {', '.join(sorted(left))}. Nothing was published; run "
                "`hub-pipeline erase` for them again, then `hub-pipeline run`."
            )
        step = "publish", self.warehouse.published_path.name
        self.progress.start(*step, None)
        used = {
            one.settings_hash: (one.settings_json, day)
            for day, one in sorted(self._day_settings.items(), reverse=True)
        }
        result = publish(
            self.warehouse,
            self.connection,
            self.fence,
            self.load,
            self.settings,
            self.known_at,
            used=used,
            comments=comments_of(catalog().layer("staging", "marts", "hub")),
        )
        self.progress.advance(*step, len(result.tables))
        self.progress.finish(*step)
        self.published = result.path
        return result.path

    @property
    def not_read(self) -> tuple[str, ...]:
        """Sources that the run was told to leave out."""
        return () if self.only is None else tuple(source for source in SOURCES if source != self.only)

    def leftovers(self) -> dict[str, int]:
        """``schema.table.column`` -> rows that name somebody who was erased; empty is how it should be."""
        return leftovers(self.connection, Tombstones.read(self.warehouse.landing_root))

    def columns(self, schema: str, table: str) -> dict[str, str]:
        """Column -> type of a table of the build file, in order; empty if there is none."""
        rows = self.connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() "
            "AND schema_name = $schema AND table_name = $table ORDER BY column_index",
            {"schema": schema, "table": table},
        ).fetchall()
        return dict(rows)

    def count(self, name: str) -> int:
        """Rows of a table or view of the build file."""
        return count_rows(self.connection, name)

    def report(self) -> RunReport:
        """What the run has done so far."""
        return RunReport(
            run_id=self.load.run_id,
            as_of=self.as_of,
            sources=tuple(self.results),
            source_seconds=dict(self.source_seconds),
            rows=dict(self.rows),
            checks=tuple(self.failed_checks),
            missing_properties=tuple(self.missing_properties),
            not_configured={source: self._needed_for(source) for source in self._not_configured()},
            shown=self._shown(),
            published=self.published,
            seconds=perf_counter() - self._started,
            not_read=self.not_read,
            erased=sum(one.persons for one in self.erased if one.found),
            kept_settings=tuple(sorted(day for day, one in self._day_settings.items() if one.kept)),
        )

    def _needed_for(self, source: str) -> str:
        organisations = self.settings.hubspot.objects.get("organisations")
        mapped = organisations is not None and any(
            organisations.properties.get(c) for c in SUBSCRIPTION_COLUMNS
        )
        if source == "billing" and mapped:
            return "subscriptions are what the mapped properties of HubSpot organisations say"
        return NEEDED_FOR[source]

    def _shown(self) -> date | None:
        if "hub.organisations" not in self.rows:
            return None
        day = self.connection.execute("SELECT max(as_of) FROM hub.organisations").fetchone()
        return day[0] if day else None

    def _not_configured(self) -> list[str]:
        """Sources without which something cannot be answered: of billing and Stripe one is enough."""
        missing = self._not_delivered()
        spared = {"stripe"} if "stripe" in missing else {"billing"}
        return [source for source in missing if source not in spared]

    def _not_delivered(self) -> list[str]:
        delivered = {r.source for r in self.results if r.status != "not_configured" and r.object != FILES}
        return [s for s in SOURCES if s not in delivered and any(r.source == s for r in self.results)]

    def _begin(self) -> None:
        self._error = None
        self.load, self.fence = ledger.begin_run(
            self.connection,
            self._lock,
            self.warehouse.state_path,
            self.as_of,
            day_close(self.as_of, self.settings.zone),
        )
        self._loader = RawLoader(self.connection, self.fence, self.load, self.warehouse.landing_root)

    def _finish(self, error: BaseException | None) -> None:
        error = error or self._error
        if error is None:
            status = "complete"
        elif isinstance(error, DataRefusedError):
            status = "refused"
        elif isinstance(error, Exception):
            status = "failed"
        else:
            status = "interrupted"
        message = redact(str(error), self.environment) if error is not None else None
        try:
            self._rewrite_due = rewrite_is_due(self.connection)
            ledger.finish_run(self.connection, self.fence, status, message)
        except (duckdb.Error, HubPipelineError):
            if error is None:
                raise
            # The connection or the fence is what failed; that error is already on its way, and the next run
            # declares this one dead.

    def _rewrite_if_due(self) -> None:
        if self._rewrite_due:
            rewrite_build_file(self.warehouse, self._lock)

    def _protect_persons(self, source: str) -> None:
        """Erase who was deleted for privacy, and keep out who was erased before (settled rule 8)."""
        found = [erase_returned(self.warehouse, self.connection, self.fence, self.load, source)]
        if source == "hubspot":
            guard = self.settings.guards.max_purge
            found.append(erase_gone(self.warehouse, self.connection, self.fence, guard, self.accept_purge))
        self.erased += [one for one in found if one is not None]

    def _run(self, models: Iterable[Model], day: date | None) -> tuple[ModelRun, ...]:
        models = list(models)
        layer = "models", " and ".join(dict.fromkeys(model.schema for model in models))
        self.progress.start(*layer, len(models))
        runs = run_models(
            self.connection,
            self._watched(models, *layer),
            model_parameters(None, None, self.settings) if day is None else self._parameters(day),
            guard=self.fence.check,
        )
        self.progress.finish(*layer)
        ledger.mirror(self.connection, self.warehouse.state_path)
        return runs

    def _parameters(self, day: date) -> dict[str, Any]:
        """What the models of a day may bind, with the settings of that day."""
        if day not in self._day_settings:
            self._day_settings[day] = day_settings(
                self.connection, day, self.known_at or day, self.settings, current=self.current_settings
            )
        return self._day_settings[day].parameters

    def _watched(self, models: Iterable[Model], step: str, layer: str) -> Iterator[Model]:
        for model in models:
            yield model
            self.progress.advance(step, layer, 1)

    def _extract(
        self, source: str, objects: Iterable[str] | None
    ) -> Iterator[tuple[RawStream, list[LandedFile], StreamResult]]:
        settings = self.settings if objects is None else _narrowed(self.settings, set(objects))
        extract = {"hubspot": hubspot.extract, "intercom": intercom.extract, "stripe": stripe.extract}[source]
        known = WarehouseKnown(self.connection)
        root = self.warehouse.landing_root
        yield from extract(settings, self.environment, root, self.load, self.progress, known)

    def _load_stream(self, stream: RawStream, files: list[LandedFile], result: StreamResult) -> StreamResult:
        self._loader.load_missing(stream)
        inserted = sum(self._loader.load_file(stream, file) for file in files)
        done = self._loader.finish_stream(
            stream,
            files,
            replace(result, inserted=inserted),
            self.settings.guards.max_shrink,
            self.accept_shrink,
        )
        grown = growth_message(self.connection, stream, done, self.load.run_id)
        return replace(done, message="; ".join(filter(None, (done.message, grown))))

    def _check_properties(self, results: list[StreamResult]) -> list[StreamResult]:
        """Check HubSpot's properties, and tell what changed in the message of their result."""
        self.source_checks = property_checks(self.connection, self.settings, self.load.run_id)
        self.failed_checks += [check for check in self.source_checks if not check.passed]
        told = drift_message(self.connection, self.load.run_id)
        return [
            replace(result, message="; ".join(filter(None, (result.message, told))))
            if result.object == "properties"
            else result
            for result in results
        ]

    def _ensure_raw_tables(self) -> None:
        """Make the tables of sources that were never read, empty, so that the models need no cases."""
        for stream in (*_hubspot_tables(), *intercom_tables(), *stripe.all_streams()):
            self._loader.ensure_tables(stream)
        with ledger.transaction(self.connection, self.fence):
            billing.ensure(self.connection)
            stripe.ensure(self.connection)
            # Which organisation a customer is may have changed with what HubSpot sent in this run.
            billing.resolve_customers(self.connection, self.settings)


def _hubspot_tables() -> list[RawStream]:
    """Tables of ``raw_hubspot`` that models read directly; objects are read through ``<object>_mapped`` views."""
    derived = object_stream("organisations", [MERGED_IDS], ["-"]).also
    return [
        *derived,
        account_stream(),
        owners_stream(),
        pipelines_stream([]),
        properties_stream([]),
        associations_stream([]),
    ]


def _narrowed(settings: Settings, objects: set[str]) -> Settings:
    """Settings that read only some HubSpot objects, and the associations that start from them."""
    kept: dict[str, HubSpotObject] = {n: o for n, o in settings.hubspot.objects.items() if n in objects}
    pairs = tuple(pair for pair in settings.hubspot.associations if pair[0] in kept)
    hubspot = settings.hubspot.model_copy(update={"objects": kept, "associations": pairs})
    return settings.model_copy(update={"hubspot": hubspot})


def redact(text: str, environment: Environment) -> str:
    """The text with every secret of the environment replaced by ``***``."""
    for name in type(environment).model_fields:
        value = getattr(environment, name)
        secret = value.get_secret_value() if hasattr(value, "get_secret_value") else None
        if secret:
            text = text.replace(secret, "***")
    return text
