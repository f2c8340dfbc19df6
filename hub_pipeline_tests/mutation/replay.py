"""Second judge: the tests themselves, run in this process with the mutant in the catalog.

The tests run once unchanged, which shows the worlds each of them builds. A mutant is run on these worlds first: only a
test in whose world the rows of its model differ can notice it. Those tests then run, the ones that killed most before
first, until one fails. A world is built once for all mutants and lent to the tests inside a transaction in which the
mutant has replaced its model and what reads it. Tests that run models by themselves are judged the slow way.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import duckdb
import hypothesis
import pytest
from _pytest.runner import runtestprotocol

from hub_pipeline.models import catalog, engine
from hub_pipeline.models.contract import ModelError
from hub_pipeline.models.graph import Model
from hub_pipeline.settings import Settings
from hub_pipeline_tests.models import worlds
from hub_pipeline_tests.mutation.operators import Mutant
from hub_pipeline_tests.mutation.worlds import bounded, fingerprint

#: Tests that judge every model, and those that also judge the layer ``inputs``.
FILES = ("hub_pipeline_tests/models", "hub_pipeline_tests/test_explain.py")
FILES_OF_INPUTS = (
    "hub_pipeline_tests/sources/test_billing_edge_cases.py",
    "hub_pipeline_tests/sources/test_billing_identity.py",
    "hub_pipeline_tests/sources/test_hubspot_reference.py",
    "hub_pipeline_tests/sources/test_intercom_inputs.py",
    "hub_pipeline_tests/sources/test_nps.py",
    "hub_pipeline_tests/warehouse/test_mapping.py",
)
#: Done by the first judge already.
_ORACLE = "test_sql_and_oracle_agree_on_a_hundred_random_companies"
#: The mark of tests that run models by themselves.
_DIRECT = "direct"

_run_model = engine.run_model
_build_world = worlds.build_world


class Lent:
    """A connection that a test may close without closing it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> Lent:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it open."""

    def close(self) -> None:
        """Leave it open."""


@dataclass
class BuiltWorld:
    """A world of a test, built once.

    Attributes:
        lent: whether it is in the transaction of a mutant now.
    """

    connection: duckdb.DuckDBPyConnection
    of_staging: dict[str, Any]
    of_day: dict[str, Any]
    lent: bool = False
    fingerprints: dict[str, Any] = field(default_factory=dict)

    def fingerprint(self, name: str) -> Any:
        """Of a table or view as it is without a mutant."""
        if name not in self.fingerprints:
            self.fingerprints[name] = fingerprint(self.connection, name)
        return self.fingerprints[name]

    def parameters(self, model: Model) -> dict[str, Any]:
        """What the model may bind."""
        return self.of_staging if model.schema == "staging" else self.of_day

    def lend(self, mutated: Model) -> Lent:
        """The connection with a mutant and what it changes.

        Raises:
            ModelError: as a build with the mutant does.
        """
        if not self.lent:
            self.connection.execute("BEGIN TRANSACTION")
            self.lent = True
            try:
                with bounded(self.connection):
                    self._rebuild(mutated)
            except duckdb.Error as error:
                raise ModelError(str(error)) from error
        return Lent(self.connection)

    def _rebuild(self, mutated: Model) -> None:
        changed: set[str] = set()
        for model in catalog().layer("staging", "intermediate", "marts", "hub"):
            if model.name != mutated.name and (model.is_view or not changed & set(model.dependencies)):
                continue
            before = self.fingerprint(model.name) if not model.is_view else None
            if model.is_view:
                engine._create_view(self.connection, mutated)
            elif model.schema == "marts":
                engine._replace_day(self.connection, catalog()[model.name], self.of_day)
            else:
                engine._replace_table(self.connection, catalog()[model.name], self.parameters(model))
            if model.is_view or fingerprint(self.connection, model.name) != before:
                changed.add(model.name)

    def take_back(self) -> None:
        """Undo what the mutant and the tests changed."""
        if self.lent:
            with suppress(duckdb.Error):
                self.connection.execute("ROLLBACK")
            self.lent = False


class Cached:
    """A cached helper of a test file that remembers what it built."""

    def __init__(self, function: Any, replay: Replay) -> None:
        self._function, self._replay = function, replay
        self._notes: dict[Any, set[Any]] = {}
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        key = (args, tuple(sorted(kwargs.items())))
        if key in self._notes:
            self._replay.note(self._notes[key])
            return self._function(*args, **kwargs)
        with self._replay.collecting() as notes:
            result = self._function(*args, **kwargs)
        self._notes[key] = notes
        return result

    def cache_clear(self) -> None:
        """Forget everything, as the cache does."""
        self._notes.clear()
        self._function.cache_clear()


class Replay:
    """A pytest plugin that judges mutants instead of running the tests once.

    Attributes:
        verdicts: one for each mutant: '' = survived where it shows, 'unseen' = it shows nowhere, else the test that fails.
    """

    def __init__(self, mutants: list[Mutant], say: Callable[[int, str], None]) -> None:
        self.mutants = mutants
        self.verdicts = [""] * len(mutants)
        self._say = say
        self._of_model: dict[str, list[int]] = defaultdict(list)
        for number, mutant in enumerate(mutants):
            self._of_model[mutant.model].append(number)
        self._collectors: list[set[Any]] = []
        self._fixtures: dict[Any, set[Any]] = {}
        self._seen: dict[Any, set[int]] = {}
        self._outcomes: dict[Any, Any] = {}
        self._caches: list[Cached] = []
        self._orders: dict[str, tuple[Any, ...]] = {}
        self._built: dict[str, BuiltWorld] = {}
        self._watching = True
        self._building = self._lending = False
        self._mutated: Model | None = None
        self._original: Model | None = None
        self._notes: dict[str, set[Any]] = {}
        self._bears_lending: set[str] = set()

    @contextmanager
    def collecting(self) -> Iterator[set[Any]]:
        """What is noted inside: keys of worlds, numbers of mutants that show, the mark `_DIRECT`."""
        notes: set[Any] = set()
        self._collectors.append(notes)
        try:
            yield notes
        finally:
            self._collectors.pop()

    def note(self, what: Iterable[Any]) -> None:
        """Note it for whatever is being watched."""
        for notes in self._collectors:
            notes.update(what)

    # Hooks of pytest

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what the first judge did; stand in for what builds, wherever it is known by name."""
        items[:] = [item for item in items if _ORACLE not in item.name]
        self._stand_in()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """Remember what is built in a fixture that outlives a test."""
        with self.collecting() as notes:
            result = yield
        self._fixtures[fixturedef] = notes
        return result

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Watch every test once, then judge."""
        if session.testsfailed:
            raise pytest.UsageError(f"{session.testsfailed} test files cannot be collected.")
        self._notes = self._watch(session.items)
        self._watching = False
        kills: Counter[tuple[str, str]] = Counter()
        for number, mutant in enumerate(self.mutants):
            tests = sorted(session.items, key=lambda item: -kills[mutant.model, item.nodeid])
            verdict = self._judge(number, tests)
            self.verdicts[number] = verdict
            kills[mutant.model, verdict] += 1
            self._say(number, verdict)
        return True

    def _watch(self, items: list[pytest.Item]) -> dict[str, set[Any]]:
        found = {}
        for position, item in enumerate(items):
            following = items[position + 1] if position + 1 < len(items) else None
            with self.collecting() as notes:
                reports = runtestprotocol(item, log=False, nextitem=following)
            failed = [report for report in reports if report.failed]
            if failed:
                raise pytest.UsageError(f"{item.nodeid} fails without a mutant: {failed[0].longreprtext}")
            for definitions in item._fixtureinfo.name2fixturedefs.values():  # type: ignore[attr-defined]
                notes |= self._fixtures.get(definitions[-1], set())
            found[item.nodeid] = notes
        return found

    def _judge(self, number: int, tests: list[pytest.Item]) -> str:
        models, name = catalog().models, self.mutants[number].model
        original, verdict = models[name], "unseen"
        self._original = original
        self._mutated = models[name] = replace(original, sql=self.mutants[number].sql)
        self._forget()
        try:
            for item in tests:
                noted = self._notes[item.nodeid]
                if number in noted or any(
                    self._shows_in(number, key) for key in sorted(noted & self._orders.keys())
                ):
                    verdict = ""
                    self._lending = _DIRECT not in noted
                    if self._fails(item):
                        return item.nodeid
            return verdict
        finally:
            models[name] = original
            self._mutated = self._original = None
            self._lending = False
            self._forget()

    def _fails(self, item: pytest.Item) -> bool:
        """Whether a test fails; one that cannot bear a lent world is run on worlds of its own."""
        if not any(report.failed for report in runtestprotocol(item, log=False, nextitem=None)):
            return False
        if not self._lending or item.nodeid in self._bears_lending:
            return True
        mutated, self._mutated = self._mutated, self._original
        assert mutated is not None
        assert self._original is not None
        catalog().models[mutated.name] = self._original
        self._forget()
        fails_unchanged = any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))
        self._forget()
        catalog().models[mutated.name] = self._mutated = mutated
        if not fails_unchanged:
            self._bears_lending.add(item.nodeid)
            return True
        self._notes[item.nodeid].add(_DIRECT)
        self._lending = False
        return self._fails(item)

    def _forget(self) -> None:
        """Back to worlds without a mutant."""
        for cache in self._caches:
            cache.cache_clear()
        for built in self._built.values():
            built.take_back()

    # Worlds

    def _shows_in(self, number: int, key: str) -> bool:
        """Whether the rows of the mutated model differ from the model's in this world."""
        built, original = self._world(key), self._original
        assert original is not None
        if built.lent:
            return True  # a test of this mutant has it
        bound = _bound(original.sql, built.parameters(original))
        given = (repr(sorted(bound.items())), *(built.fingerprint(name) for name in original.dependencies))
        if (original.name, *given) not in self._outcomes:
            self._outcomes[original.name, *given] = fingerprint(built.connection, f"({original.sql})", bound)
        if (number, *given) not in self._outcomes:
            sql, parameters = self.mutants[number].sql, built.parameters(original)
            self._outcomes[number, *given] = _outcome(built.connection, sql, parameters)
        return bool(self._outcomes[number, *given] != self._outcomes[original.name, *given])

    def _world(self, key: str) -> BuiltWorld:
        """The world without a mutant."""
        if key not in self._built:
            world, as_of, known_at, settings = self._orders[key]
            models, original = catalog().models, self._original
            assert original is not None
            mutated = models[original.name]
            models[original.name] = original
            try:
                connection = _build_world(world, as_of, known_at, settings)
            finally:
                models[original.name] = mutated
            connection.execute("SET threads = 1; SET enable_progress_bar = false")
            chosen, day = settings or Settings(), date.fromisoformat
            self._built[key] = BuiltWorld(
                connection,
                engine.model_parameters(None, None, chosen),
                engine.model_parameters(day(as_of), day(known_at) if known_at else None, chosen),
            )
        return self._built[key]

    def _stand_in(self) -> None:
        caches: dict[int, Cached] = {}
        for name, module in list(sys.modules.items()):
            if not name.startswith(("hub_pipeline", "benchmarks")) or ".mutation" in name:
                continue
            for attribute, value in list(vars(module).items()):
                if value is _run_model:
                    setattr(module, attribute, self._run)
                elif value is _build_world:
                    setattr(module, attribute, self._build)
                elif hasattr(value, "cache_clear") and str(value.__module__).startswith("hub_pipeline_tests"):
                    caches.setdefault(id(value), Cached(value, self))
                    setattr(module, attribute, caches[id(value)])
        self._caches = list(caches.values())

    def _build(
        self,
        world: Mapping[str, Any],
        as_of: str,
        known_at: str | None = None,
        settings: Settings | None = None,
    ) -> Any:
        order = json.dumps(
            [world, as_of, known_at, settings.model_dump(mode="json") if settings else None], default=str
        )
        key = hashlib.sha256(order.encode()).hexdigest()
        if self._watching:
            self._orders[key] = (json.loads(json.dumps(world, default=str)), as_of, known_at, settings)
            self.note([key])
            self._building = True
            try:
                return _build_world(world, as_of, known_at, settings)
            finally:
                self._building = False
        if self._lending and key in self._orders and self._mutated is not None:
            return self._world(key).lend(self._mutated)
        return _build_world(world, as_of, known_at, settings)

    def _run(
        self,
        connection: duckdb.DuckDBPyConnection,
        model: Model,
        parameters: dict[str, Any],
        guard: Any = None,
    ) -> Any:
        if not self._watching:
            if self._mutated is None or model.name != self._mutated.name:
                return _run_model(connection, model, parameters, guard)
            with bounded(connection):
                return _run_model(connection, model, parameters, guard)
        result = _run_model(connection, model, parameters, guard)
        if not self._building:
            self.note([_DIRECT])
            if model.name in self._of_model and model is catalog().models.get(model.name):
                self.note(self._different(connection, model, parameters))
        return result

    def _different(
        self, connection: duckdb.DuckDBPyConnection, model: Model, parameters: dict[str, Any]
    ) -> set[int]:
        """The mutants of a model whose rows differ from the model's on this database."""
        bound = _bound(model.sql, parameters)
        given = tuple(fingerprint(connection, name) for name in model.dependencies)
        key = (model.name, repr(sorted(bound.items())), given)
        if key not in self._seen:
            original = fingerprint(connection, f"({model.sql})", bound)
            self._seen[key] = {
                number
                for number in self._of_model[model.name]
                if _outcome(connection, self.mutants[number].sql, parameters) != original
            }
        return self._seen[key]


def _bound(sql: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: parameters[name] for name in engine.used_parameters(sql)}


def _outcome(connection: duckdb.DuckDBPyConnection, sql: str, parameters: dict[str, Any]) -> Any:
    try:
        with bounded(connection):
            return fingerprint(connection, f"({sql})", _bound(sql, parameters))
    except duckdb.Error as error:
        return type(error).__name__


def judge(
    mutants: list[Mutant], say: Callable[[int, str], None] = lambda _, __: None, tests: Iterable[str] = ()
) -> list[str]:
    """What the tests say of each mutant; see `Replay.verdicts`. To be called once in a process.

    Args:
        mutants: what to judge.
        say: called with the number of each mutant and its verdict as soon as it is known.
        tests: files or test ids; default `FILES`, with `FILES_OF_INPUTS` when a mutant is of that layer.

    Raises:
        RuntimeError: a test fails without any mutant.
    """
    with_inputs = any(mutant.model.startswith("inputs.") for mutant in mutants)
    files = list(tests) or [*FILES, *(FILES_OF_INPUTS if with_inputs else ())]
    # The same examples in each process and each time; a failing one is not remembered for the next mutant.
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None, deadline=None)
    hypothesis.settings.load_profile("mutants")
    replay = Replay(mutants, say)
    options = [
        "-m",
        "not slow",
        "-qq",
        "--no-summary",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
    ]
    code = pytest.main([*files, *options], plugins=[replay])
    if code != pytest.ExitCode.OK:
        raise RuntimeError(f"The tests do not pass without a mutant (pytest ends with {code}).")
    return replay.verdicts
