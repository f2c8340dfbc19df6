"""Checks of a model: those its contract implies and those it spells out. A check is a SELECT of offending rows.

Generated: ``unique`` (the grain), ``not_null``, ``accepted_values``; then each extra check of the contract. Names,
order and types of columns are held against the contract when the model runs (`engine.check_columns`). A check of a
mart looks at one (as_of, known_at). Samples show the columns of the grain and the code in question, never more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from hub_pipeline.models.contract import ModelError, Severity
from hub_pipeline.models.engine import used_parameters
from hub_pipeline.models.graph import Model
from hub_pipeline.models.macros import create_macros
from hub_pipeline.warehouse.sql import ident, idents, literal, qualified

SAMPLE_ROWS = 5

#: Checks that every contract implies by itself.
IMPLIED = ("unique", "not_null", "accepted_values")


@dataclass(frozen=True)
class Check:
    """One check of a model.

    Attributes:
        model: ``schema.table``.
        name: unique within the model.
        severity: ``error`` stops the publication, ``warn`` is shown.
        description: what must hold, for people.
        sql: SELECT of offending rows.
        condition: what holds for an offending row of the model itself, where that can be said: then all such checks
            of a model share one scan, and ``sql`` is run only when some row offends.
    """

    model: str
    name: str
    severity: Severity
    description: str
    sql: str
    condition: str | None = None


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check: how many rows offend, and up to five of them (column -> value)."""

    check: Check
    failures: int
    sample: tuple[dict[str, Any], ...] = ()

    @property
    def model(self) -> str:
        return self.check.model

    @property
    def name(self) -> str:
        return self.check.name

    @property
    def severity(self) -> Severity:
        return self.check.severity

    @property
    def passed(self) -> bool:
        return self.failures == 0

    @property
    def blocks(self) -> bool:
        """It failed and stops the publication."""
        return self.failures > 0 and self.check.severity == "error"

    def sentence(self) -> str:
        """One line for people: model, check, count, first key."""
        if self.passed:
            return f"{self.check.model}: {self.check.name} holds"
        rows = f"{self.failures:,} row{'s' if self.failures > 1 else ''}"
        return f"{self.check.model}: {self.check.name} fails for {rows} (first: {_shown(self.sample[0])})"


def _shown(row: dict[str, Any]) -> str:
    """``column=value, ...`` as DuckDB writes values."""
    return ", ".join(f"{name}={_text(value)}" for name, value in row.items())


def _text(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)


def checks_of(model: Model) -> list[Check]:
    """All checks of a model, from its contract; needs no database."""
    contract = model.contract
    source = qualified(model.schema, model.table)
    day = " AND as_of = $as_of AND known_at = $known_at" if model.schema == "marts" else ""
    keys = idents(contract.grain)
    checks = [
        Check(
            model.name,
            "unique",
            contract.severity.unique,
            f"One row for each {', '.join(contract.grain)}.",
            f"SELECT {keys}, count(*) AS rows FROM {source} WHERE true{day} GROUP BY {keys} HAVING count(*) > 1",
        )
    ]
    filled = [name for name, column in contract.columns.items() if column.not_null]
    if filled:
        checks.append(
            Check(
                model.name,
                "not_null",
                contract.severity.not_null,
                f"Never NULL: {', '.join(filled)}.",
                " UNION ALL ".join(
                    f"SELECT {keys}, {literal(name)} AS column_name FROM {source} WHERE {ident(name)} IS NULL{day}"
                    for name in filled
                ),
                " OR ".join(f"{ident(name)} IS NULL" for name in filled),
            )
        )
    coded = {
        name: column.accepted for name, column in contract.columns.items() if column.accepted is not None
    }
    if coded:
        checks.append(
            Check(
                model.name,
                "accepted_values",
                contract.severity.accepted_values,
                "; ".join(f"{name} is one of {', '.join(values)}" for name, values in coded.items()) + ".",
                " UNION ALL ".join(
                    f"SELECT {keys}, {literal(name)} AS column_name, CAST({ident(name)} AS VARCHAR) AS value "
                    f"FROM {source} WHERE {_not_accepted(name, contract.columns[name].type, values)}{day}"
                    for name, values in coded.items()
                ),
                " OR ".join(
                    f"({_not_accepted(name, contract.columns[name].type, values)})"
                    for name, values in coded.items()
                ),
            )
        )
    checks += [
        Check(
            model.name, c.name, c.severity, " ".join(c.description.split()) or c.name.replace("_", " "), c.sql
        )
        for c in contract.checks
    ]
    return checks


def _not_accepted(name: str, kind: str, values: Iterable[str]) -> str:
    column = ident(name)
    allowed = ", ".join(literal(value) for value in values)
    if kind.strip().endswith("[]"):
        return f"{column} IS NOT NULL AND NOT list_has_all([{allowed}], CAST({column} AS VARCHAR[]))"
    return f"{column} IS NOT NULL AND CAST({column} AS VARCHAR) NOT IN ({allowed})"


def run_checks(
    connection: duckdb.DuckDBPyConnection,
    model: Model,
    as_of: date | None = None,
    known_at: date | None = None,
    parameters: dict[str, Any] | None = None,
) -> list[CheckResult]:
    """Run all checks of a model.

    An extra check may use any model parameter, ``$as_of`` and ``$known_at`` among them; where its rows have columns
    as_of and known_at, a mart's check counts only those of the day.

    Args:
        connection: holds the model; only read.
        model: whose checks.
        as_of: the day; needed for marts.
        known_at: default as_of.
        parameters: all parameters that extra checks may use; default: only the two clocks' dates.

    Raises:
        ModelError: a check cannot be run.
    """
    if model.contract.checks:
        create_macros(connection)
    values = (parameters or {}) | (
        {"as_of": as_of, "known_at": known_at or as_of} if as_of is not None else {}
    )
    checks = checks_of(model)
    fine = _fine_rows(connection, model, checks, values)
    return [
        CheckResult(check, 0) if check.name in fine else _run(connection, model, check, values)
        for check in checks
    ]


def _fine_rows(
    connection: duckdb.DuckDBPyConnection, model: Model, checks: Iterable[Check], values: dict[str, Any]
) -> set[str]:
    """Names of the checks with a condition that no row of the model offends, found in one scan."""
    asked = [check for check in checks if check.condition is not None]
    if not asked:
        return set()
    counts = ", ".join(f"count(*) FILTER (WHERE {check.condition})" for check in asked)
    rows = f"SELECT {counts} FROM {qualified(model.schema, model.table)}"
    bound: dict[str, Any] = {}
    if model.schema == "marts":
        rows += " WHERE as_of = $as_of AND known_at = $known_at"
        bound = {name: values[name] for name in ("as_of", "known_at")}
    try:
        found = connection.execute(rows, bound).fetchall()[0]
    except duckdb.Error as error:
        raise ModelError(f"{model.path}: checks: {str(error).strip().splitlines()[0]}") from error
    return {check.name for check, failures in zip(asked, found, strict=True) if failures == 0}


def _run(
    connection: duckdb.DuckDBPyConnection, model: Model, check: Check, values: dict[str, Any]
) -> CheckResult:
    try:
        sql = check.sql.strip().rstrip(";")
        used = used_parameters(sql)
        unknown = sorted(used - set(values))
        if unknown:
            raise ModelError(f"{model.path}: check {check.name}: there is no parameter ${unknown[0]}.")
        bound = {name: values[name] for name in used}
        rows = f"SELECT * FROM (\n{sql}\n) AS offending"
        if connection.execute(f"SELECT count(*) FROM ({rows})", bound).fetchall()[0][0] == 0:
            return CheckResult(check, 0)
        columns = [column[0] for column in connection.execute(f"{rows} LIMIT 0", bound).description or []]
        if model.schema == "marts" and {"as_of", "known_at"} <= set(columns):
            rows += " WHERE as_of = $as_of AND known_at = $known_at"
            bound |= {name: values[name] for name in ("as_of", "known_at")}
        failures = connection.execute(f"SELECT count(*) FROM ({rows})", bound).fetchall()[0][0]
        if failures == 0:
            return CheckResult(check, 0)
        sample = connection.execute(f"{rows} ORDER BY ALL LIMIT {SAMPLE_ROWS}", bound).fetchall()
    except duckdb.Error as error:
        raise ModelError(f"{model.path}: check {check.name}: {str(error).strip().splitlines()[0]}") from error
    return CheckResult(check, int(failures), tuple(dict(zip(columns, row, strict=True)) for row in sample))
