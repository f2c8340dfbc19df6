"""`hub-pipeline build`: the marts from a team's own canonical files, with no source and no network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub_pipeline import models
from hub_pipeline.errors import ConfigurationError, DataRefusedError, WarehouseError
from hub_pipeline.models.engine import comments_of, count_views, model_parameters
from hub_pipeline.orchestration.run import last_closed_day
from hub_pipeline.settings import Settings
from hub_pipeline.warehouse.ledger import write_comments

#: What a DuckDB file says of itself after the checksum of its first block.
_MAGIC = b"DUCK"
_MAGIC_OFFSET = 8


def build_from_files(
    inputs: Path, warehouse: Path, as_of: date, known_at: date | None, settings: Settings, console: Console
) -> None:
    """Load ``inputs/<table>.*`` into ``warehouse``, build the day, run the checks and print what came out.

    Raises:
        ConfigurationError: a folder is missing, ``known_at`` lies before ``as_of``, or a day has not ended.
        WarehouseError: the file cannot be opened as a DuckDB database.
        DataRefusedError: a blocking check failed, or a file or column is not a canonical one.
    """
    if not inputs.is_dir():
        raise ConfigurationError(
            f"{inputs} is not a folder; name the folder that holds <table>.csv, .ndjson or .parquet."
        )
    day = known_at or as_of
    if day < as_of:
        raise ConfigurationError(
            f"--known-at {day} lies before --as-of {as_of}: a day is not known before it ends."
        )
    last = last_closed_day(settings)
    if day > last:
        raise ConfigurationError(
            f"{day} has not ended yet in {settings.reporting_tz}; the last closed day is {last}. Nothing was built."
        )
    with _database(warehouse) as connection:
        counts = models.load_inputs(connection, inputs, settings)
        result = models.build(connection, as_of, known_at, settings)
        described = models.catalog().layer("staging", "marts", "hub")
        for model, words in zip(described, comments_of(described).values(), strict=True):
            write_comments(connection, "VIEW" if model.is_view else "TABLE", model.schema, model.table, words)
        rows = result.rows | {run.model: run.rows for run in count_views(connection, result.runs)}
        parameters = model_parameters(as_of, day, settings)
        failed = [
            check
            for model in models.catalog().layer("staging", "marts", "hub")
            for check in models.run_checks(connection, model, as_of, day, parameters)
            if not check.passed
        ]
    table = Table(title=f"Built for {as_of}, known at {day}", title_justify="left")
    for column in ("table", "rows"):
        table.add_column(column, justify="right" if column == "rows" else "left")
    for name, number in rows.items():
        table.add_row(name, f"{number:,}")
    console.print(table)
    for count in counts:
        if count.quarantined:
            console.print(
                f"{count.table}: {count.quarantined:,} of {count.rows:,} rows are in inputs.quarantine."
            )
    for check in failed:
        console.print(f"{check.severity}: {escape(check.sentence())}", soft_wrap=True)
    blocking = [check for check in failed if check.blocks]
    if blocking:
        names = ", ".join(sorted({f"{check.model} {check.name}" for check in blocking}))
        raise DataRefusedError(
            f"Blocking checks failed: {names}. The file {warehouse} was built but do not trust it."
        )


@contextmanager
def _database(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open or create a DuckDB file. DuckDB itself opens a CSV file as a view in memory, and keeps nothing."""
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(
            f"There is no folder {path.parent} for the warehouse file {path.name}; create it or name another one."
        )
    if path.exists():
        try:
            with path.open("rb") as file:
                start = file.read(_MAGIC_OFFSET + len(_MAGIC))
        except OSError as error:
            raise WarehouseError(
                f"{path} cannot be opened: {error.strerror}. Nothing was changed."
            ) from error
        if start[_MAGIC_OFFSET:] != _MAGIC:
            raise WarehouseError(
                f"{path} is not a DuckDB file, so it was left as it is; name another file with --warehouse."
            )
    try:
        # Absolute: a name such as :memory: is a file here, never one of DuckDB's special databases.
        connection = duckdb.connect(str(path.absolute()))
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise WarehouseError(f"{path} cannot be opened as a DuckDB file: {first}") from error
    try:
        yield connection
    finally:
        connection.close()
