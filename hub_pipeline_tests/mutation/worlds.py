"""First judge: the worlds of test_oracle.py, each built once; a mutant rebuilds its model and what reads it.

The comparison is the test's own (`test_oracle.mart_differences`), made on the marts that changed. What a mutant did is
rolled back, so one world serves all mutants.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from time import process_time
from typing import Any

import duckdb

from hub_pipeline.models import catalog
from hub_pipeline.models.contract import ModelError
from hub_pipeline.models.engine import _replace_day, _replace_table, model_parameters
from hub_pipeline.models.graph import Model
from hub_pipeline_tests.models.random_worlds import Scenario
from hub_pipeline_tests.models.test_oracle import (
    MARTS,
    QUICK,
    broken_contracts,
    mart_differences,
    oracle_answers,
    quick,
)
from hub_pipeline_tests.models.worlds import build_world
from hub_pipeline_tests.mutation.operators import Mutant

#: A mutant whose query takes this many seconds of the processor (a recursion without end, a product of everything) is
#: killed. Not of the clock: a busy machine must not kill mutants.
LIMIT = 10.0


@contextmanager
def bounded(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Interrupt what the connection runs once this process has computed for `LIMIT` seconds."""
    started, stopped = process_time(), threading.Event()

    def watch() -> None:
        while not stopped.wait(0.5):
            if process_time() - started > LIMIT:
                connection.interrupt()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stopped.set()
        watcher.join()


def fingerprint(
    connection: duckdb.DuckDBPyConnection, source: str, values: dict[str, Any] | None = None
) -> Any:
    """Number of rows and the sum of their hashes, of a table or of a SELECT in parentheses."""
    return connection.execute(f"SELECT count(*), sum(hash(m)) FROM {source} AS m", values or {}).fetchone()


@cache
def covered() -> frozenset[str]:
    """The tables whose change the oracle may see: the marts it knows and all they are made of."""
    names = {f"marts.{mart}" for mart in MARTS}
    for model in reversed(catalog().layer("staging", "intermediate", "marts")):
        if model.name in names:
            names.update(model.dependencies)
    return frozenset(name for name in names if not name.startswith("inputs."))


@cache
def readers(name: str) -> tuple[Model, ...]:
    """The tables through which a change of a model may reach a mart that the oracle knows, in running order."""
    reached, found = {name}, []
    for model in catalog().layer("staging", "intermediate", "marts"):
        if model.name in covered() and reached & set(model.dependencies):
            reached.add(model.name)
            found.append(model)
    return tuple(found)


class World:
    """One world with its marts and the oracle's answers."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.answers = oracle_answers(scenario)
        self.connection = build_world(
            scenario.world, scenario.as_of.isoformat(), scenario.known_at.isoformat(), scenario.settings
        )
        self.connection.execute(
            "SET threads = 1; SET enable_progress_bar = false; SET memory_limit = '1GB'; SET temp_directory = ''"
        )
        self.of_day = model_parameters(scenario.as_of, scenario.known_at, scenario.settings)
        self.of_staging = model_parameters(None, None, scenario.settings)
        tables = catalog().layer("staging", "intermediate", "marts")
        self.fingerprints = {model.name: fingerprint(self.connection, model.name) for model in tables}
        for mart, rows in self.answers.items():
            assert not mart_differences(self.connection, mart, rows), (
                f"SQL and oracle differ without a mutant: {mart}"
            )

    @classmethod
    def first(cls) -> World:
        """The first world of the suite alone."""
        return cls(quick(0))

    def verdict(self, mutant: Mutant) -> str:
        """'' when the oracle sees no difference, else 'error', the mart that differs or the contract that breaks."""
        model = catalog()[mutant.model]
        self.connection.execute("BEGIN TRANSACTION")
        try:
            with bounded(self.connection):
                return self._rebuilt(replace(model, sql=mutant.sql))
        except (duckdb.Error, ModelError):
            return "error"
        finally:
            self.connection.execute("ROLLBACK")

    def _rebuilt(self, mutated: Model) -> str:
        changed: set[str] = set()
        for model in (mutated, *readers(mutated.name)):
            if model is not mutated and not changed & set(model.dependencies):
                continue
            run = _replace_day if model.schema == "marts" else _replace_table
            run(self.connection, model, self.of_staging if model.schema == "staging" else self.of_day)
            if fingerprint(self.connection, model.name) == self.fingerprints[model.name]:
                continue
            changed.add(model.name)
            if broken_contracts(self.connection, model, self.scenario):
                return f"contract of {model.name}"
            if model.table in self.answers and model.schema == "marts" and self._is_wrong(model.table):
                return model.name
        return ""

    def _is_wrong(self, mart: str) -> bool:
        try:
            return bool(mart_differences(self.connection, mart, self.answers[mart]))
        except AssertionError:
            return True  # two rows share a key


def worlds() -> list[World]:
    """The worlds of the quick suite; raises when SQL and oracle differ to begin with."""
    return [World(quick(variant)) for variant in range(len(QUICK))]
