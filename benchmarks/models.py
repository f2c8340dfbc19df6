"""All tables of one day, each held against the scan of the columns that its answer is made of.

The *scan* of a table: the maximum of each staging column its values are made of (`hub_pipeline.models.lineage`,
through all tables between) and of the keys of what those SELECTs read, by organisation, or by the first column of the
key where none is named; stored. (Without the grouping DuckDB answers from statistics and reads nothing.) Other columns
that only decide which rows there are, and tables that only contribute ids, are left out: any SQL must read more.

A mart's own cost is its SELECT with the intermediate tables that nothing else reads. ``with all it reads`` adds every
table before it, shared ones in full. Both are seconds of CPU in all threads, so that a busy machine distorts them
least; what the build then works into the file is a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING

from benchmarks.harness import Job

if TYPE_CHECKING:
    import duckdb

TITLE = "models of one day"
REFERENCE = "scan of the same columns, by organisation; the largest for all of them together"
ROUNDS = 3
ORGANISATIONS = 10_000

#: Whole questions, each with every table before it -> the most it may cost, in scans of the same columns.
QUESTIONS = {"seat_growth": 5.0, "interactions": 1.5, "nps": 5.0}
_CHAIN = ", with all it reads"
LIMITS = QUESTIONS | {mart + _CHAIN: limit for mart, limit in QUESTIONS.items()}

#: What it stores is every id there is; a table that only contributes ids is no part of an answer.
_IDENTITY = "intermediate.organisation_identity"


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Make a world, a tenth when quick, and load it up to staging."""
    yield make(folder, ORGANISATIONS // 10 if quick else ORGANISATIONS)


def make(folder: Path, organisations: int) -> str:
    """Write a world of so many organisations, load it into a warehouse of the folder, and give its size in words."""
    from benchmarks import world
    from hub_pipeline.settings import Settings
    from hub_pipeline.warehouse.database import Warehouse

    files = folder / "inputs"
    files.mkdir()
    world.write(files, organisations)
    with Warehouse.in_folder(folder).connect() as connection:
        rows = world.load(connection, files, Settings())
        versions = connection.execute("SELECT count(*) FROM inputs.subscription_versions").fetchall()[0][0]
    return f"{organisations:,} organisations, {versions:,} changes, {rows:,} rows in all"


def ours(folder: Path, work: Path) -> Job:
    """Build the day into the file, as a run does; what an earlier round left is replaced."""
    return lambda: build_day(folder)


def build_day(folder: Path) -> dict[str, float]:
    """CPU seconds of each table of one day, built as `hub_pipeline.models.build` does it."""
    from benchmarks.world import DAY
    from hub_pipeline.models import catalog, run_model
    from hub_pipeline.models.engine import model_parameters
    from hub_pipeline.models.macros import create_macros
    from hub_pipeline.settings import Settings
    from hub_pipeline.warehouse.database import Warehouse
    from hub_pipeline.warehouse.ledger import ensure_published_schema

    started = process_time()
    models = catalog()
    figures = {"parsing all models": process_time() - started}
    parameters = model_parameters(DAY, None, Settings())
    cost: dict[str, float] = {}
    with Warehouse.in_folder(folder).connect() as connection:
        # Else a commit now and then works into the file what other tables have left in the log.
        connection.execute("SET checkpoint_threshold = '1TB'")
        create_macros(connection)
        ensure_published_schema(connection)
        for model in models.layer("intermediate", "marts", "hub"):
            started = process_time()
            run_model(connection, model, parameters)
            cost[model.name] = process_time() - started
        started = process_time()
        connection.execute("CHECKPOINT")
        figures["working it into the file"] = process_time() - started
    figures["all tables"] = sum(cost.values())
    for mart in QUESTIONS:
        figures[mart + _CHAIN] = sum(cost[name] for name in before(f"marts.{mart}"))
    readers = _readers()
    for name in reversed(cost):
        schema, table = name.split(".")
        if schema == "marts":
            own = [one for one in cost if one.startswith("intermediate.") and readers[one] == {name}]
            figures[table] = sum(cost[one] for one in [name, *own])
        elif schema == "intermediate" and len(readers[name]) != 1:
            figures[f"intermediate {table}"] = cost[name]
    return figures


def before(name: str) -> set[str]:
    """The model and everything below it down to, and without, staging."""
    from hub_pipeline.models import catalog

    models = catalog()
    found, todo = set(), [name]
    while todo:
        one = todo.pop()
        if one not in found and not one.startswith("staging."):
            found.add(one)
            todo += models[one].dependencies
    return found


def _readers() -> dict[str, set[str]]:
    """Table -> the marts that read it, themselves or through intermediate tables."""
    from hub_pipeline.models import catalog

    models = catalog()
    readers: dict[str, set[str]] = {model.name: set() for model in models}
    for model in reversed(models.layer("intermediate", "marts")):
        through = {model.name} if model.schema == "marts" else readers[model.name]
        for name in model.dependencies:
            if name in readers:
                readers[name] |= through
    return readers


def reference(folder: Path, work: Path) -> Job:
    """Scan for each table the columns its values are made of."""

    def job() -> dict[str, float]:
        from hub_pipeline.models import catalog
        from hub_pipeline.warehouse.database import Warehouse

        with Warehouse.in_folder(folder).connect() as connection:
            figures = {}
            everything: dict[str, set[str]] = {}
            for model in catalog().layer("intermediate", "marts"):
                needed = columns_needed(model.name)
                for table, columns in needed.items():
                    everything.setdefault(table, set()).update(columns)
                name = model.table if model.schema == "marts" else f"intermediate {model.table}"
                figures[name] = scan(connection, needed)
                if model.table in QUESTIONS:
                    figures[model.table + _CHAIN] = figures[name]
            total = scan(connection, everything)
            figures |= dict.fromkeys(("all tables", "working it into the file", "parsing all models"), total)
        return figures

    return job


def columns_needed(name: str) -> dict[str, set[str]]:
    """Staging table -> columns that the values of a model are made of, and its key."""
    from hub_pipeline.models import catalog
    from hub_pipeline.models.lineage import catalog_lineage

    models, lineage = catalog(), catalog_lineage()
    needed: dict[str, set[str]] = {}
    seen, todo = set(), [(name, column) for column in models[name].contract.columns]
    while todo:
        table, column = source = todo.pop()
        if source in seen or (table == _IDENTITY and name != _IDENTITY):
            continue
        seen.add(source)
        if table.startswith("staging."):
            needed.setdefault(table, set()).add(column)
        else:
            todo += lineage[table].get(column, ())
            for read in models[table].dependencies:
                if read.startswith("staging."):
                    needed.setdefault(read, set()).update(models[read].contract.grain)
    return needed


def scan(connection: duckdb.DuckDBPyConnection, needed: dict[str, set[str]]) -> float:
    """CPU seconds of reading the columns of each table once; see the module."""
    from hub_pipeline.models import catalog
    from hub_pipeline.warehouse.sql import ident

    started = process_time()
    for table, columns in sorted(needed.items()):
        key = "org_id" if "org_id" in columns else catalog()[table].contract.grain[0]
        maxima = ", ".join(f"max({ident(column)}) AS {ident(column)}" for column in sorted(columns))
        connection.execute(
            f"CREATE OR REPLACE TEMPORARY TABLE scanned AS SELECT {maxima} FROM {table} GROUP BY {ident(key)}"
        )
    return process_time() - started
