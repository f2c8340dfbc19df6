"""`hub-pipeline build`: the marts from a team's own canonical files, with no source and no network."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from hub_pipeline import models
from hub_pipeline.errors import ConfigurationError, DataRefusedError, WarehouseError
from hub_pipeline.settings import Settings


def build_from_files(
    inputs: Path, warehouse: Path, as_of: date, known_at: date | None, settings: Settings, console: Console
) -> None:
    """Load ``inputs/<table>.*`` into ``warehouse``, build the day, run the checks and print what came out.

    Raises:
        ConfigurationError: the folder is missing, or ``known_at`` lies before ``as_of``.
        WarehouseError: the file cannot be opened as a DuckDB database.
        DataRefusedError: a blocking check failed, or a file or column is not a canonical one.
    """
    if not inputs.is_dir():
        raise ConfigurationError(
            f"{inputs} is not a folder; name the folder that holds <table>.csv, .ndjson or .parquet."
        )
    if known_at is not None and known_at < as_of:
        raise ConfigurationError(
            f"--known-at {known_at} lies before --as-of {as_of}: a day is not known before it ends."
        )
    try:
        connection = duckdb.connect(str(warehouse))
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise WarehouseError(f"{warehouse} cannot be opened as a DuckDB file: {first}") from error
    try:
        counts = models.load_inputs(connection, inputs, settings)
        result = models.build(connection, as_of, known_at, settings)
        day = known_at or as_of
        failed = [
            check
            for model in models.catalog().models.values()
            if model.schema in ("staging", "marts")
            for check in models.run_checks(connection, model, as_of, day)
            if not check.passed
        ]
    finally:
        connection.close()
    table = Table(title=f"Built for {as_of}, known at {day}", title_justify="left")
    for column in ("table", "rows"):
        table.add_column(column, justify="right" if column == "rows" else "left")
    for name, rows in result.rows.items():
        table.add_row(name, f"{rows:,}")
    console.print(table)
    for count in counts:
        if count.quarantined:
            console.print(
                f"{count.table}: {count.quarantined:,} of {count.rows:,} rows are in inputs.quarantine."
            )
    for check in failed:
        console.print(
            f"{check.severity}: {check.name} on {check.model}: {check.failures:,} rows, e.g. {check.sample}"
        )
    blocking = [check for check in failed if check.severity == "error"]
    if blocking:
        names = ", ".join(sorted({f"{check.model} {check.name}" for check in blocking}))
        raise DataRefusedError(
            f"Blocking checks failed: {names}. The file {warehouse} was built but do not trust it."
        )
