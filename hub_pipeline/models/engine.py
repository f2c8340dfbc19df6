"""Runs models: one SELECT each, parameters bound, the result held against the contract.

Tables of ``inputs``, ``staging`` and ``intermediate`` are replaced. A mart keeps all days: the rows of one
(as_of, known_at) are replaced in one transaction. ``hub`` holds views. Whatever differs from the contract ends with an
error that names the column, and the table stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from time import perf_counter
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from hub_pipeline.models.contract import ModelError
from hub_pipeline.models.graph import Catalog, Model, catalog
from hub_pipeline.models.macros import create_macros
from hub_pipeline.settings import Settings
from hub_pipeline.warehouse.database import storage_error
from hub_pipeline.warehouse.ledger import ensure_published_schema
from hub_pipeline.warehouse.sql import ident, qualified

#: Called inside each transaction just before it commits; raises when the run lost the run lock.
Guard = Callable[[duckdb.DuckDBPyConnection], None]

_RESULT = "_model_result"


@dataclass(frozen=True)
class ModelRun:
    """What running one model did: rows it holds now (of the day, for a mart; a view has 0: `count_views`) and seconds."""

    model: str
    rows: int
    seconds: float


@dataclass(frozen=True)
class BuildResult:
    """What a build of one day did.

    Attributes:
        as_of: the day.
        known_at: the day whose close ends what may be known.
        settings_hash: of the settings used.
        runs: one for each model, in running order.
    """

    as_of: date
    known_at: date
    settings_hash: str
    runs: tuple[ModelRun, ...] = field(default=())

    @property
    def rows(self) -> dict[str, int]:
        """Model -> rows."""
        return {run.model: run.rows for run in self.runs}


def day_close(day: date, zone: ZoneInfo) -> datetime:
    """The instant local 00:00 of the next day, UTC without offset (settled 1). Never 24-hour arithmetic."""
    midnight = datetime.combine(day + timedelta(days=1), time.min, zone)
    return midnight.astimezone(UTC).replace(tzinfo=None)


def model_parameters(as_of: date | None, known_at: date | None, settings: Settings) -> dict[str, Any]:
    """Everything a model may bind: the settings, their hash, and the two clocks of the day.

    ``inputs`` and ``staging`` know no day; for them as_of and known_at are None and the clocks are absent.
    """
    parameters = settings.model_parameters() | {"settings_hash": settings.settings_hash()}
    if as_of is not None:
        known = known_at or as_of
        parameters |= {
            "as_of": as_of,
            "known_at": known,
            "close_as_of": day_close(as_of, settings.zone),
            "close_known_at": day_close(known, settings.zone),
        }
    return parameters


def build(
    connection: duckdb.DuckDBPyConnection,
    as_of: date,
    known_at: date | None = None,
    settings: Settings | None = None,
    *,
    models: Catalog | None = None,
    guard: Guard | None = None,
) -> BuildResult:
    """Build every intermediate table and mart of one day from ``staging.*``, then the views of ``hub``.

    Args:
        connection: holds ``staging.*``; gets ``intermediate``, ``marts`` and ``hub``.
        as_of: the local day the rows are for.
        known_at: only what was recorded before its close counts; default as_of.
        settings: default: all defaults.
        models: default: the models that ship with the project.
        guard: see `Guard`.

    Raises:
        ModelError: a model fails or its result differs from its contract.
        WarehouseError: the file or the disk is the problem.
    """
    settings = settings or Settings.load()
    models = models or catalog()
    parameters = model_parameters(as_of, known_at, settings)
    ensure_published_schema(connection)
    runs = run_models(connection, models.layer("intermediate", "marts", "hub"), parameters, guard)
    return BuildResult(as_of, known_at or as_of, parameters["settings_hash"], runs)


def stage(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    *,
    models: Catalog | None = None,
    guard: Guard | None = None,
) -> tuple[ModelRun, ...]:
    """Build ``staging.*`` from ``inputs.*``.

    Raises:
        ModelError: also when a canonical table of inputs.yaml has no staging model.
    """
    models = models or catalog()
    staging = models.layer("staging")
    without = sorted(set(models.inputs) - {model.table for model in staging})
    if without:
        raise ModelError(f"There is no staging/{without[0]}.sql for the canonical table {without[0]}.")
    return run_models(connection, staging, model_parameters(None, None, settings), guard)


def fill_inputs(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    *,
    models: Catalog | None = None,
    guard: Guard | None = None,
) -> tuple[ModelRun, ...]:
    """Build ``inputs.*`` from ``raw_*``; a canonical table that no source fills is empty."""
    models = models or catalog()
    create_input_tables(connection, models)
    return run_models(connection, models.layer("inputs"), model_parameters(None, None, settings), guard)


def create_input_tables(connection: duckdb.DuckDBPyConnection, models: Catalog) -> None:
    """Create, empty, the canonical tables that have no SQL file of their own."""
    connection.execute("CREATE SCHEMA IF NOT EXISTS inputs")
    for table, definition in models.inputs.items():
        if f"inputs.{table}" not in models.models:
            columns = ", ".join(f"{ident(name)} {column.type}" for name, column in definition.columns.items())
            connection.execute(f"CREATE OR REPLACE TABLE {qualified('inputs', table)} ({columns})")


def run_models(
    connection: duckdb.DuckDBPyConnection,
    models: Iterable[Model],
    parameters: dict[str, Any],
    guard: Guard | None = None,
) -> tuple[ModelRun, ...]:
    """Run models in the given order; see `run_model`."""
    create_macros(connection)
    return tuple(run_model(connection, model, parameters, guard) for model in models)


def run_model(
    connection: duckdb.DuckDBPyConnection,
    model: Model,
    parameters: dict[str, Any],
    guard: Guard | None = None,
) -> ModelRun:
    """Run one model in one transaction. The macros must be there (`macros.create_macros`).

    Args:
        connection: read-write, outside a transaction.
        model: what to run.
        parameters: all parameters that models may use; only those the file names are bound.
        guard: see `Guard`.

    Raises:
        ModelError: it names an unknown parameter, fails, or its result differs from its contract.
        WarehouseError: the file or the disk is the problem.
    """
    started = perf_counter()
    with _plain_errors(model), _transaction(connection, guard):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {ident(model.schema)}")
        if model.is_view:
            _create_view(connection, model)
            rows = 0
        elif model.schema == "marts":
            rows = _replace_day(connection, model, parameters)
        else:
            rows = _replace_table(connection, model, parameters)
    return ModelRun(model.name, rows, perf_counter() - started)


def count_views(connection: duckdb.DuckDBPyConnection, runs: Iterable[ModelRun]) -> tuple[ModelRun, ...]:
    """The runs of the views of ``hub`` among the given ones, with the rows each view shows now."""
    return tuple(
        replace(run, rows=count_rows(connection, run.model)) for run in runs if run.model.startswith("hub.")
    )


def count_rows(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    """Rows of the table or view ``schema.table``."""
    schema, table = name.split(".", 1)
    return int(connection.execute(f"SELECT count(*) FROM {qualified(schema, table)}").fetchall()[0][0])


@cache
def used_parameters(sql: str) -> frozenset[str]:
    """Names of the parameters a statement binds."""
    statements = duckdb.extract_statements(sql)
    return frozenset(str(name) for statement in statements for name in statement.named_parameters)


def view_sql(model: Model) -> str:
    """The SELECT of a view with its order, to follow CREATE VIEW ... AS."""
    if not model.contract.order_by:
        return model.sql
    # Outside of the SELECT: DuckDB 1.2 calls a column that two of its tables have ambiguous there.
    return f"SELECT * FROM ({model.sql}\n) AS ordered\nORDER BY {', '.join(model.contract.order_by)}"


def _bound(model: Model, parameters: dict[str, Any]) -> dict[str, Any]:
    used = used_parameters(model.sql)
    unknown = sorted(used - set(parameters))
    if unknown:
        raise ModelError(f"{model.path}: there is no parameter ${unknown[0]}.")
    return {name: parameters[name] for name in used}


def _replace_table(connection: duckdb.DuckDBPyConnection, model: Model, parameters: dict[str, Any]) -> int:
    target = qualified(model.schema, model.table)
    connection.execute(f"CREATE OR REPLACE TABLE {target} AS\n{model.sql}", _bound(model, parameters))
    rows = _changed_rows(connection)
    check_columns(connection, model, target)
    return rows


def _replace_day(connection: duckdb.DuckDBPyConnection, model: Model, parameters: dict[str, Any]) -> int:
    day = {"as_of": parameters["as_of"], "known_at": parameters["known_at"]}
    connection.execute(
        f"CREATE OR REPLACE TEMPORARY TABLE {_RESULT} AS\n{model.sql}", _bound(model, parameters)
    )
    check_columns(connection, model, _RESULT)
    stray = connection.execute(
        f"SELECT count(*) FROM {_RESULT} WHERE as_of IS DISTINCT FROM $as_of OR known_at IS DISTINCT FROM $known_at",
        day,
    ).fetchall()[0][0]
    if stray:
        raise ModelError(f"{model.path}: {stray} rows are not of the as_of and known_at that were asked for.")
    _fit_mart(connection, model)
    target = qualified(model.schema, model.table)
    connection.execute(f"DELETE FROM {target} WHERE as_of = $as_of AND known_at = $known_at", day)
    connection.execute(f"INSERT INTO {target} BY NAME SELECT * FROM {_RESULT}")
    rows = _changed_rows(connection)
    connection.execute(f"DROP TABLE {_RESULT}")
    return rows


def _changed_rows(connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.fetchone()
    return int(row[0]) if row else 0


def _fit_mart(connection: duckdb.DuckDBPyConnection, model: Model) -> None:
    """Create the table from the contract, or add the columns the contract has gained; never change stored ones."""
    target = qualified(model.schema, model.table)
    columns = model.contract.columns
    definitions = ", ".join(f"{ident(name)} {column.type}" for name, column in columns.items())
    connection.execute(f"CREATE TABLE IF NOT EXISTS {target} ({definitions})")
    stored = table_columns(connection, target)
    wanted = contract_types(connection, model)
    for name, kind in wanted.items():
        if name not in stored:
            connection.execute(f"ALTER TABLE {target} ADD COLUMN {ident(name)} {columns[name].type}")
        elif stored[name] != kind:
            raise ModelError(
                f"{model.path}: the stored days hold {name} as {stored[name]}, the contract now says {kind}. "
                "Nothing was changed; give the column a new name, or rebuild the warehouse from landing."
            )


def _create_view(connection: duckdb.DuckDBPyConnection, model: Model) -> None:
    used = used_parameters(model.sql)
    if used:
        raise ModelError(
            f"{model.path}: a view cannot use the parameter ${min(used)}; carry it as a column of a mart."
        )
    target = qualified(model.schema, model.table)
    connection.execute(f"CREATE OR REPLACE VIEW {target} AS\n{view_sql(model)}")
    check_columns(connection, model, target)


def table_columns(connection: duckdb.DuckDBPyConnection, target: str) -> dict[str, str]:
    """Column -> DuckDB type of a table or view, in order."""
    return {str(row[0]): str(row[1]) for row in connection.execute(f"DESCRIBE {target}").fetchall()}


#: Type as a contract writes it -> as DuckDB does; the same in every connection.
_SPELLING: dict[str, str] = {}


def contract_types(connection: duckdb.DuckDBPyConnection, model: Model) -> dict[str, str]:
    """Column -> type of the contract, in DuckDB's own spelling.

    Raises:
        ModelError: a type is not one of DuckDB's.
    """
    columns = model.contract.columns
    unknown = [c.type for c in columns.values() if c.type not in _SPELLING]
    if unknown:
        casts = ", ".join(f"CAST(NULL AS {kind}) AS c{n}" for n, kind in enumerate(unknown))
        try:
            spelled = table_columns(connection, f"(SELECT {casts})").values()
        except (duckdb.CatalogException, duckdb.ParserException, duckdb.BinderException) as error:
            raise ModelError(f"{model.path}: columns: a type is unknown: {_first_line(error)}") from error
        _SPELLING.update(zip(unknown, spelled, strict=True))
    return {name: _SPELLING[column.type] for name, column in columns.items()}


def check_columns(connection: duckdb.DuckDBPyConnection, model: Model, target: str) -> None:
    """Hold names, order and types of a table against the contract.

    Raises:
        ModelError: naming the first column that differs.
    """
    actual = list(table_columns(connection, target).items())
    wanted = list(contract_types(connection, model).items())
    for (name, kind), (real_name, real_kind) in zip(wanted, actual, strict=False):
        if name != real_name:
            missing = "" if name in dict(actual) else "; the SELECT does not return it"
            raise ModelError(
                f"{model.path}: the contract says {name} where the SELECT has {real_name}{missing}."
            )
        if kind != real_kind:
            raise ModelError(
                f"{model.path}: column {name} is {real_kind}, the contract says {kind}; cast it."
            )
    if len(wanted) > len(actual):
        raise ModelError(
            f"{model.path}: the SELECT does not return {wanted[len(actual)][0]} of the contract."
        )
    if len(actual) > len(wanted):
        raise ModelError(
            f"{model.path}: the SELECT returns {actual[len(wanted)][0]}, which the contract lacks."
        )


def comments_of(models: Iterable[Model]) -> dict[str, dict[str, str]]:
    """The contracts' words: ``schema.table`` -> column -> meaning; "" is the table or view itself."""
    return {
        model.name: {
            "": " ".join(model.contract.description.split()),
            **{name: " ".join(c.meaning.split()) for name, c in model.contract.columns.items()},
        }
        for model in models
    }


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection, guard: Guard | None) -> Iterator[None]:
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
        if guard is not None:
            guard(connection)
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        # A failed COMMIT has already ended the transaction, and a full disk ends the connection; the first error
        # is the one to report.
        return


@contextmanager
def _plain_errors(model: Model) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        # An internal error of a query is the query's, not a damaged file's.
        internal = isinstance(error, duckdb.InternalException)
        storage = None if internal else storage_error("the database file", error)
        if storage is not None:
            raise storage from error
        line = re.search(r"^LINE (\d+):", str(error), re.MULTILINE)
        # The statement has one line before the file's first.
        place = f":{max(int(line.group(1)) - 1, 1)}" if line else ""
        raise ModelError(f"{model.path}{place}: {_first_line(error)}") from error


def _first_line(error: duckdb.Error) -> str:
    return str(error).strip().splitlines()[0]
