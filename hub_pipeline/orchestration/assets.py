"""Every table as an asset: one multi_asset for each source and for each layer of models.

A layer is one step with one connection, so that each table is an asset in the UI and the overhead of orchestration
stays small (architecture, Dagster). Sources are unpartitioned, what is built from them is partitioned by local day
with a single-run backfill (settled 19).
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from hub_pipeline.models import Catalog, Check, CheckResult, Model, ModelRun, checks_of
from hub_pipeline.models.checks import IMPLIED
from hub_pipeline.models.graph import InputTable
from hub_pipeline.models.lineage import lineage_of
from hub_pipeline.orchestration.resource import HubRun
from hub_pipeline.orchestration.run import SOURCES, DailyRun, object_names
from hub_pipeline.orchestration.source_checks import PROPERTY_CHECKS
from hub_pipeline.settings import Settings
from hub_pipeline.warehouse.raw import StreamResult

OWNERS = ("team:data",)
PUBLISHED = dg.AssetKey(["published", "warehouse"])

#: Looks for persons who were erased in every layer; nothing is published while one is found.
_NOBODY_ERASED = dg.AssetCheckSpec(
    name="nobody_erased_is_in_any_layer",
    asset=PUBLISHED,
    description="Columns of ids and e-mail addresses, in all layers, that still name a person who was erased.",
    blocking=True,
)

#: What a raw table is called in SQL beside its own name.
_VIEWS = ("_current", "_mapped", "_versions", "_changes", "_timeline", "_nps", "_unread")

#: A source that is down is tried again after one, then two minutes; `HubRun.boundary` says what is transient.
RETRY = dg.RetryPolicy(max_retries=2, delay=60, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

#: The nightly run may be late by half a day; after that people should know.
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36), warn_window=timedelta(hours=26))


def partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Local days from the first one of the settings to the last closed one."""
    return dg.DailyPartitionsDefinition(
        start_date=settings.run.first_day.isoformat(), timezone=settings.reporting_tz
    )


def with_freshness(specs: Iterable[dg.AssetSpec]) -> list[dg.AssetSpec]:
    """The one place where freshness is promised."""
    return [spec.replace_attributes(freshness_policy=FRESHNESS) for spec in specs]


def source_assets(source: str, settings: Settings) -> dg.AssetsDefinition:
    """The raw tables of a source. Selecting some HubSpot objects reads only these, and reference data."""
    names = object_names(source, settings)
    properties = dg.AssetKey(["raw_hubspot", "properties"])
    specs = with_freshness(
        dg.AssetSpec(
            key=[f"raw_{source}", name],
            group_name=source,
            kinds={source, "duckdb"},
            owners=list(OWNERS),
            description=f"Append-only versions of {source} {name.replace('_', ' ')}, as the source sent them.",
        )
        for name in names
    )

    check_specs = [
        dg.AssetCheckSpec(name=name, asset=properties, description=description, blocking=severity == "error")
        for name, (severity, description) in PROPERTY_CHECKS.items()
        if source == "hubspot"
    ]

    @dg.multi_asset(
        name=f"read_{source}",
        specs=specs,
        check_specs=check_specs,
        can_subset=True,
        retry_policy=RETRY,
    )
    def read(
        context: dg.AssetExecutionContext, hub: HubRun
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        selected = {key.path[-1] for key in context.selected_asset_keys}
        with hub.boundary(retry=True):
            if context.retry_number:
                hub.run.begin_again()
            objects = None if selected == set(names) else selected
            results = {result.object: result for result in hub.run.read_source(source, objects)}
            found: list[dg.MaterializeResult[Any]] = [
                dg.MaterializeResult(asset_key=key, metadata=_source_metadata(hub.run, key, results))
                for key in sorted(context.selected_asset_keys)
            ]
        yield from found
        allowed = context.selected_asset_check_keys
        checks = map(_check_result, hub.run.source_checks if source == "hubspot" else ())
        yield from (check for check in checks if _check_key(properties, check) in allowed)
        with hub.boundary(retry=False):
            hub.run.refuse_if_blocked()

    return read


def _source_metadata(run: DailyRun, key: dg.AssetKey, results: dict[str, StreamResult]) -> dict[str, Any]:
    schema, table = key.path
    result = results.get(table)
    # Tables that are filled from the files of other objects share their fate.
    status = result.status if result else _common_status(results.values())
    metadata: dict[str, Any] = {"status": status}
    if result is not None:
        metadata |= {
            "records": result.records,
            "versions_appended": result.inserted,
            "deleted": result.deleted,
            "quarantined": result.quarantined,
            "requests": result.requests,
            "seconds": round(result.seconds, 3),
        }
        if result.message:
            metadata["message"] = result.message
    columns = run.columns(schema, table)
    if columns:
        metadata["dagster/row_count"] = run.count(f"{schema}.{table}")
        metadata["dagster/column_schema"] = dg.TableSchema(
            columns=[dg.TableColumn(name=name, type=kind) for name, kind in columns.items()]
        )
    return metadata


def _common_status(results: Iterable[StreamResult]) -> str:
    statuses = {result.status for result in results}
    return "not_configured" if statuses <= {"not_configured"} else "complete"


def model_assets(
    layer: str, schemas: Sequence[str], models: Catalog, settings: Settings
) -> dg.AssetsDefinition:
    """The tables of one layer with the checks of their contracts.

    A failed blocking check fails the step after every table of the layer has been built and checked, so nothing that
    comes later runs and nothing is published.
    """
    chosen = models.layer(*schemas)
    by_key = {dg.AssetKey([model.schema, model.table]): model for model in chosen}
    specs = [_model_spec(model, models) for model in chosen]
    if layer == "inputs":
        specs += [
            _input_spec(table, definition)
            for table, definition in models.inputs.items()
            if f"inputs.{table}" not in models.models
        ]
    if layer == "hub":
        specs += with_freshness([_published_spec(models)])

    @dg.multi_asset(
        name=f"build_{layer}",
        specs=specs,
        check_specs=[
            *(spec for model in chosen for spec in _check_specs(model)),
            *([_NOBODY_ERASED] if layer == "hub" else []),
        ],
        can_subset=True,
        partitions_def=partitions(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def build(
        context: dg.AssetExecutionContext, hub: HubRun
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        selected = context.selected_asset_keys
        wanted = [model for key, model in by_key.items() if key in selected]
        with hub.boundary(retry=False):
            found = _build(hub.run, layer, wanted, models)
        allowed = context.selected_asset_check_keys
        for key, result in found.items():
            yield dg.MaterializeResult(
                asset_key=key,
                metadata=result.metadata,
                check_results=[
                    check for check in _check_results(result.checks) if _check_key(key, check) in allowed
                ],
            )
        for key in sorted(selected - found.keys() - {PUBLISHED}):
            yield dg.MaterializeResult(asset_key=key, metadata={"dagster/row_count": 0})
        with hub.boundary(retry=False):
            hub.run.refuse_if_blocked()
            left = hub.run.leftovers() if layer == "hub" else {}
        if _NOBODY_ERASED.key in allowed:
            yield dg.AssetCheckResult(
                passed=not left, asset_key=PUBLISHED, check_name=_NOBODY_ERASED.name, metadata={"rows": left}
            )
        if PUBLISHED in selected:
            with hub.boundary(retry=False):
                path = hub.run.publish()
            yield dg.MaterializeResult(asset_key=PUBLISHED, metadata=_published_metadata(hub.run, str(path)))

    return build


class _Built:
    """What to tell Dagster about one table."""

    def __init__(self, run: ModelRun, model: Model, models: Catalog) -> None:
        self.checks: list[CheckResult] = []
        self.metadata: dict[str, Any] = {
            "dagster/row_count": run.rows,
            "seconds": round(run.seconds, 3),
            "dagster/column_lineage": _lineage(model, models),
        }


def _build(run: DailyRun, layer: str, wanted: list[Model], models: Catalog) -> dict[dg.AssetKey, _Built]:
    days = run.days if layer == "marts" else (run.as_of,)
    built: dict[dg.AssetKey, _Built] = {}
    for day in days:
        if layer == "inputs":
            runs = run.fill_inputs(wanted)
        elif layer == "staging":
            runs = run.stage(wanted)
        elif layer == "marts":
            # Working tables hold one day, so what the chosen marts read is built for this day with them.
            runs = run.build_day(day, _with_ancestors(wanted, models))
        else:
            runs = run.create_views(wanted)
        by_name = {one.model: one for one in runs}
        for model in wanted:
            key = dg.AssetKey([model.schema, model.table])
            built[key] = _Built(by_name[model.name], model, models)
            built[key].checks = run.check(model, day)
    return built


def _with_ancestors(wanted: list[Model], models: Catalog) -> list[Model]:
    needed = {model.name for model in wanted}
    for model in reversed(models.layer("intermediate", "marts")):
        if model.name in needed:
            needed |= set(model.dependencies)
    return [model for model in models.layer("intermediate", "marts") if model.name in needed]


def _model_spec(model: Model, models: Catalog) -> dg.AssetSpec:
    contract = model.contract
    return dg.AssetSpec(
        key=[model.schema, model.table],
        deps=sorted({_asset_of(name) for name in model.dependencies if not name.startswith("_published.")}),
        group_name=model.schema,
        kinds={"duckdb", "sql", "view"} if model.is_view else {"duckdb", "sql"},
        owners=[owner if "@" in owner else f"team:{owner}" for owner in contract.owners] or list(OWNERS),
        description=" ".join(contract.description.split()),
        metadata={
            "dagster/column_schema": dg.TableSchema(
                columns=[
                    dg.TableColumn(
                        name=name,
                        type=column.type,
                        description=column.meaning,
                        constraints=dg.TableColumnConstraints(nullable=not column.not_null),
                    )
                    for name, column in contract.columns.items()
                ]
            ),
            "grain": ", ".join(contract.grain),
        },
    )


def _input_spec(table: str, definition: InputTable) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=["inputs", table],
        group_name="inputs",
        kinds={"duckdb"},
        owners=list(OWNERS),
        description=f"{definition.meaning} No source fills it; a team brings it as a canonical file.".strip(),
    )


def _published_spec(models: Catalog) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=PUBLISHED,
        deps=[dg.AssetKey([m.schema, m.table]) for m in models.layer("staging", "marts", "hub")],
        group_name="published",
        kinds={"duckdb", "file"},
        owners=list(OWNERS),
        description="The one read-only file analysts open: staging, marts and hub, swapped in whole after the checks.",
    )


def _asset_of(name: str) -> dg.AssetKey:
    """Asset of a table that a model reads; views of a raw table are that table."""
    schema, table = name.split(".", 1)
    if schema.startswith("raw_"):
        for ending in _VIEWS:
            table = table.removesuffix(ending)
    return dg.AssetKey([schema, table])


#: One asset check for everything a contract implies by itself: three of them each for a hundred tables would be most of
#: the events of a run, and nobody reads them apart. Those that only warn stand alone.
_CONTRACT = "contract"


def _is_of_contract(check: Check) -> bool:
    return check.name in IMPLIED and check.severity == "error"


def _check_specs(model: Model) -> list[dg.AssetCheckSpec]:
    asset = dg.AssetKey([model.schema, model.table])
    checks = checks_of(model)
    implied = [check for check in checks if _is_of_contract(check)]
    specs = [
        dg.AssetCheckSpec(
            name=check.name, asset=asset, description=check.description, blocking=check.severity == "error"
        )
        for check in checks
        if check not in implied
    ]
    if implied:
        meaning = " ".join(check.description for check in implied)
        specs.insert(0, dg.AssetCheckSpec(name=_CONTRACT, asset=asset, description=meaning, blocking=True))
    return specs


def _check_results(results: Iterable[CheckResult]) -> Iterator[dg.AssetCheckResult]:
    """One result for each asset check; that of the contract says what of it failed."""
    implied = []
    for result in results:
        if _is_of_contract(result.check):
            implied.append(result)
        else:
            yield _check_result(result)
    if implied:
        failed = [result for result in implied if not result.passed]
        metadata: dict[str, Any] = {result.name: result.failures for result in implied}
        metadata |= {f"sample of {result.name}": _sample(result) for result in failed}
        yield dg.AssetCheckResult(
            passed=not failed,
            asset_key=dg.AssetKey(implied[0].model.split(".", 1)),
            check_name=_CONTRACT,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata=metadata,
        )


def _check_key(key: dg.AssetKey, check: dg.AssetCheckResult) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(key, str(check.check_name))


def _check_result(result: CheckResult) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {"failing_rows": result.failures}
    if result.sample:
        metadata["sample"] = _sample(result)
    return dg.AssetCheckResult(
        passed=result.passed,
        asset_key=dg.AssetKey(result.model.split(".", 1)),
        check_name=result.name,
        severity=dg.AssetCheckSeverity.ERROR if result.severity == "error" else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )


def _sample(result: CheckResult) -> dg.TableMetadataValue:
    return dg.TableMetadataValue(
        records=[
            dg.TableRecord({name: None if v is None else str(v) for name, v in row.items()})
            for row in result.sample
        ],
        schema=dg.TableSchema(columns=[dg.TableColumn(name=name) for name in result.sample[0]]),
    )


def _lineage(model: Model, models: Catalog) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        deps_by_column={
            column: [
                dg.TableColumnDep(asset_key=_asset_of(table), column_name=source) for table, source in sources
            ]
            for column, sources in lineage_of(model, models).items()
            if sources
        }
    )


def _published_metadata(run: DailyRun, path: str) -> dict[str, Any]:
    report = run.report()
    metadata: dict[str, Any] = {
        "path": dg.MetadataValue.path(path),
        "as_of": report.as_of.isoformat(),
        "run_id": report.run_id,
        **{f"rows {name}": rows for name, rows in report.rows.items() if name.startswith("hub.")},
    }
    for source, consequence in report.not_configured.items():
        metadata[f"not configured: {source}"] = consequence
    return metadata


def all_assets(models: Catalog, settings: Settings) -> list[dg.AssetsDefinition]:
    """Every asset of the project, from the sources to the published file."""
    layers = (
        ("inputs", ("inputs",)),
        ("staging", ("staging",)),
        ("marts", ("intermediate", "marts")),
        ("hub", ("hub",)),
    )
    return [
        *(source_assets(source, settings) for source in SOURCES),
        *(model_assets(layer, schemas, models, settings) for layer, schemas in layers),
    ]
