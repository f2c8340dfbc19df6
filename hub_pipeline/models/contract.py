"""The contract on top of a model file: what the table means, its key, its columns, its checks.

A file is ``/*--- <YAML> ---*/`` followed by exactly one SELECT. Every mistake is reported with the file and the key,
because the people who edit these files read SQL, not Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub_pipeline.errors import ConfigurationError

Severity = Literal["error", "warn"]

OPENING = "/*---"
CLOSING = "---*/"


Parsed = TypeVar("Parsed", bound=BaseModel)


class ModelError(ConfigurationError):
    """A model file, or what it returns, is not what its contract says."""


class Column(BaseModel):
    """One column: its DuckDB type, its meaning, and what is checked about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(min_length=1)
    meaning: str = Field(min_length=1)
    not_null: bool = False
    accepted: tuple[str, ...] | None = None


class ExtraCheck(BaseModel):
    """A SELECT of offending rows beyond the generated checks; no row = passed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^[a-z][a-z0-9_]*$")
    severity: Severity = "error"
    description: str = ""
    sql: str = Field(min_length=1)


class CheckSeverities(BaseModel):
    """Severity of the generated checks; an error blocks the publication."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unique: Severity = "error"
    not_null: Severity = "error"
    accepted_values: Severity = "error"


class Contract(BaseModel):
    """The YAML block of a model file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(min_length=1)
    grain: tuple[str, ...] = Field(min_length=1)
    columns: dict[str, Column] = Field(default_factory=dict)
    owners: tuple[str, ...] = ()
    severity: CheckSeverities = CheckSeverities()
    checks: tuple[ExtraCheck, ...] = ()
    order_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParsedFile:
    """A model file taken apart.

    Attributes:
        contract: the block.
        sql: the SELECT without its closing semicolon, moved down by as many empty lines as the block had, so that
            line numbers in error messages are those of the file.
    """

    contract: Contract
    sql: str


class _StrictLoader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML that refuses a key written twice, which would silently drop the first."""


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(text: str, path: Path, first_line: int = 0) -> Any:
    """Parse YAML of a model file or of inputs.yaml.

    Raises:
        ModelError: it is not YAML, or a key stands twice; with file and line.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - derived from SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1 + first_line}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ModelError(f"{path}{line}: the contract is not valid YAML: {problem}.") from error


def parse_file(text: str, path: Path) -> ParsedFile:
    """Take a model file apart.

    Raises:
        ModelError: the block is missing, is not YAML, or has an unknown, missing or ill-typed key.
    """
    start = text.find(OPENING)
    end = text.find(CLOSING, start + len(OPENING))
    if start == -1 or end == -1 or text[:start].strip():
        raise ModelError(f"{path}: a model file starts with its contract between {OPENING} and {CLOSING}.")
    block = text[start + len(OPENING) : end]
    values = load_yaml(block, path, first_line=text[:start].count("\n"))
    if not isinstance(values, dict):
        raise ModelError(f"{path}: the contract is not a list of `key: value` lines.")
    contract = validate(Contract, values, path)
    for name in contract.grain:
        if contract.columns and name not in contract.columns:
            raise ModelError(f"{path}: grain names {name}, which is not a column of the contract.")
    names_of_checks = [check.name for check in contract.checks]
    for name in names_of_checks:
        if names_of_checks.count(name) > 1 or name in CheckSeverities.model_fields:
            raise ModelError(f"{path}: checks: the name {name} is taken.")
    body = text[end + len(CLOSING) :].rstrip()
    if body.endswith(";"):
        body = body[:-1].rstrip()
    if not body.strip():
        raise ModelError(f"{path}: there is no SELECT after the contract.")
    return ParsedFile(contract, "\n" * text[: end + len(CLOSING)].count("\n") + body)


def validate(kind: type[Parsed], values: dict[str, Any], path: Path) -> Parsed:
    """Check values against a pydantic class; every mistake is named with file and key.

    Raises:
        ModelError: with all mistakes in one sentence.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
        )
        hint = ""
        if any(str(part).endswith(")") and "(" not in str(part) for e in error.errors() for part in e["loc"]):
            hint = ' Inside braces a type with a comma needs quotes: {type: "DECIMAL(18,2)", ...}.'
        raise ModelError(f"{path}: {problems}.{hint}") from error
