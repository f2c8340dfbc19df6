"""The models as one graph: what each SELECT reads is parsed from its SQL, never declared.

Layers: ``raw_*`` -> ``inputs`` -> ``staging`` -> ``intermediate`` -> ``marts`` -> ``hub``; a model may only read what
`READABLE` says, so that a team which fills ``staging`` itself gets every mart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import sqlglot
from pydantic import BaseModel, ConfigDict, Field
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from hub_pipeline.models.contract import Column, Contract, ModelError, load_yaml, parse_file, validate

#: Layers in the order in which they run.
LAYERS = ("inputs", "staging", "intermediate", "marts", "hub")

#: Layer -> schemas its models may read; ``raw_`` stands for every raw schema.
READABLE = {
    "inputs": ("raw_",),
    "staging": ("inputs",),
    "intermediate": ("staging", "intermediate"),
    "marts": ("staging", "intermediate", "marts"),
    "hub": ("staging", "marts", "hub", "_published"),
}

#: The models that ship with the project.
MODELS_FOLDER = Path(__file__).parent


class ModelsDialect(DuckDB):
    """DuckDB's dialect without dollar-quoted strings: sqlglot takes ``$keys[list_position($`` for the start of one."""

    class Tokenizer(DuckDB.Tokenizer):
        HEREDOC_STRINGS = []
        HEREDOC_TAG_IS_IDENTIFIER = False


class InputColumn(BaseModel):
    """One column of a canonical table.

    ``unknown``: a missing BOOLEAN stays NULL instead of false. ``accepted``: the only values, in lower case; a row of a
    canonical file with another one is quarantined.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    meaning: str
    required: bool = False
    unknown: bool = False
    accepted: tuple[str, ...] | None = None

    @property
    def is_flag(self) -> bool:
        """A BOOLEAN whose absence means false."""
        return self.type == "BOOLEAN" and not self.unknown


class InputTable(BaseModel):
    """One canonical table of domain 4.1: what a row is and which columns it has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    meaning: str = ""
    key: tuple[str, ...]
    columns: dict[str, InputColumn]


class _InputsFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    tables: dict[str, InputTable] = Field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """One table or view: a file, its contract and its SELECT.

    Attributes:
        schema: the folder, which is the schema and the layer.
        table: the name of the file without its ending.
        path: the file.
        contract: meaning, key, columns, checks.
        sql: one SELECT; its line numbers are those of the file.
        dependencies: ``schema.table`` of everything it reads, sorted.
    """

    schema: str
    table: str
    path: Path
    contract: Contract
    sql: str
    dependencies: tuple[str, ...]

    @property
    def name(self) -> str:
        """``schema.table``, as it stands in SQL."""
        return f"{self.schema}.{self.table}"

    @property
    def is_view(self) -> bool:
        """Models of ``hub`` are views over what the marts hold; all others are tables."""
        return self.schema == "hub"

    @cached_property
    def tree(self) -> exp.Query:
        """The parsed SELECT."""
        return parse_select(self.sql, self.path)


@dataclass(frozen=True)
class Catalog:
    """All models of a folder in an order in which each one finds what it reads.

    Attributes:
        models: name -> model, in running order (by layer, then by dependency, then by name).
        inputs: canonical table -> its columns (inputs.yaml).
    """

    models: dict[str, Model]
    inputs: dict[str, InputTable]

    def layer(self, *schemas: str) -> list[Model]:
        """Models of the given layers, in running order."""
        return [model for model in self.models.values() if model.schema in schemas]

    def __getitem__(self, name: str) -> Model:
        return self.models[name]

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models.values())


def parse_select(sql: str, path: Path) -> exp.Query:
    """Parse one SELECT of DuckDB's dialect.

    Raises:
        ModelError: it does not parse, or is anything but one SELECT (WITH and UNION allowed).
    """
    try:
        statements = sqlglot.parse(sql, read=ModelsDialect)
    except sqlglot.errors.SqlglotError as error:
        raise ModelError(f"{path}: the SELECT cannot be parsed: {_first_problem(error)}.") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise ModelError(f"{path}: after the contract stands exactly one SELECT.")
    return statements[0]


def _first_problem(error: sqlglot.errors.SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if details:
        return f"{details[0]['description']} (line {details[0]['line']}, column {details[0]['col']})"
    return str(error).splitlines()[0]


def tables_read(tree: exp.Expr, path: Path) -> tuple[str, ...]:
    """``schema.table`` of every table a SELECT reads, sorted.

    Raises:
        ModelError: a table has no schema and is not a name of the WITH list.
    """
    local = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    found: set[str] = set()
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Func) or not table.name:
            continue  # a table function such as range() or unnest()
        if table.db:
            found.add(f"{table.db}.{table.name}")
        elif table.name.lower() not in local:
            raise ModelError(f"{path}: {table.name} needs its schema in front, such as staging.{table.name}.")
    return tuple(sorted(found))


def read_model(path: Path, inputs: dict[str, InputTable]) -> Model:
    """Read one model file; its folder is its schema. The columns of an ``inputs`` model are those of inputs.yaml.

    Raises:
        ModelError: see `contract.parse_file`, `parse_select`, `tables_read`.
    """
    parsed = parse_file(path.read_text(encoding="utf-8"), path)
    contract = parsed.contract
    if path.parent.name == "inputs":
        contract = _inputs_contract(contract, path, inputs)
    elif not contract.columns:
        raise ModelError(f"{path}: columns: the contract names no column.")
    tree = parse_select(parsed.sql, path)
    model = Model(
        schema=path.parent.name,
        table=path.stem,
        path=path,
        contract=contract,
        sql=parsed.sql,
        dependencies=tables_read(tree, path),
    )
    if contract.order_by and not model.is_view:
        raise ModelError(f"{path}: order_by: only views of hub have an order.")
    model.__dict__["tree"] = tree
    return model


def _inputs_contract(contract: Contract, path: Path, inputs: dict[str, InputTable]) -> Contract:
    if path.stem not in inputs:
        raise ModelError(f"{path}: there is no table {path.stem} in inputs.yaml.")
    columns = {
        name: Column(type=c.type, meaning=c.meaning, not_null=c.required or c.is_flag, accepted=c.accepted)
        for name, c in inputs[path.stem].columns.items()
    }
    if contract.columns:
        stated = {name: column.type for name, column in contract.columns.items()}
        for name in [*columns, *stated]:
            if name not in stated or name not in columns or stated[name] != columns[name].type:
                raise ModelError(
                    f"{path}: columns: {name} is not as inputs.yaml has it; leave the columns out here."
                )
        return contract
    for name in contract.grain:
        if name not in columns:
            raise ModelError(f"{path}: grain names {name}, which is not a column of inputs.yaml.")
    return contract.model_copy(update={"columns": columns})


def read_inputs(path: Path) -> dict[str, InputTable]:
    """Read inputs.yaml; a folder without it has no canonical tables.

    Raises:
        ModelError: naming the key that is wrong.
    """
    if not path.exists():
        return {}
    values: Any = load_yaml(path.read_text(encoding="utf-8"), path)
    tables = validate(_InputsFile, values, path).tables
    for table, definition in tables.items():
        for column in definition.key:
            if column not in definition.columns:
                raise ModelError(f"{path}: tables.{table}.key: {column} is not a column.")
    return tables


def load_catalog(folder: Path) -> Catalog:
    """Read every model of a folder (``<folder>/<layer>/*.sql`` and ``<folder>/inputs.yaml``) and order it.

    Raises:
        ModelError: a file is wrong, reads what its layer may not read, reads a model that does not exist, or is
            part of a cycle.
    """
    inputs = read_inputs(folder / "inputs.yaml")
    models = [read_model(path, inputs) for layer in LAYERS for path in sorted((folder / layer).glob("*.sql"))]
    return Catalog(_ordered(models, set(inputs)), inputs)


@lru_cache(maxsize=1)
def catalog() -> Catalog:
    """The models that ship with the project, read once for each process."""
    return load_catalog(MODELS_FOLDER)


def _ordered(models: Iterable[Model], inputs: set[str]) -> dict[str, Model]:
    by_name = {model.name: model for model in models}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for model in by_name.values():
        for dependency in model.dependencies:
            _check_reference(model, dependency, by_name, inputs)
        sorter.add(model.name, *(d for d in model.dependencies if d in by_name))
    try:
        rank = {name: position for position, name in enumerate(_stable(sorter))}
    except CycleError as error:
        raise ModelError(f"The models read each other in a circle: {' -> '.join(error.args[1])}.") from error
    order = sorted(by_name, key=lambda name: (LAYERS.index(by_name[name].schema), rank[name]))
    return {name: by_name[name] for name in order}


def _stable(sorter: TopologicalSorter[str]) -> Iterator[str]:
    sorter.prepare()
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        yield from ready
        sorter.done(*ready)


def _check_reference(model: Model, dependency: str, by_name: dict[str, Model], inputs: set[str]) -> None:
    schema, table = dependency.split(".", 1)
    readable = READABLE[model.schema]
    if schema not in readable and not ("raw_" in readable and schema.startswith("raw_")):
        allowed = ", ".join(f"{s}*" if s == "raw_" else s for s in readable)
        raise ModelError(f"{model.path}: a model of {model.schema} may read {allowed}, not {dependency}.")
    if schema == "inputs":
        if inputs and table not in inputs:
            raise ModelError(f"{model.path}: {dependency} is not a table of inputs.yaml.")
    elif schema in LAYERS and dependency not in by_name:
        raise ModelError(f"{model.path}: it reads {dependency}, but there is no {schema}/{table}.sql.")
