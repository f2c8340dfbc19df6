"""Checks of what a source sent, before any model is built: HubSpot's properties and the values in them."""

from __future__ import annotations

import duckdb

from hub_pipeline.models.checks import SAMPLE_ROWS, Check, CheckResult
from hub_pipeline.models.contract import Severity
from hub_pipeline.settings import Settings
from hub_pipeline.sources.hubspot.drift import (
    DEFINITIONS,
    DRIFT_VIEW,
    create_drift_view,
    lost_properties_sql,
    misfits_sql,
)
from hub_pipeline.warehouse.raw import RawStream, StreamResult
from hub_pipeline.warehouse.sql import ident, qualified

#: Checks of ``raw_hubspot.properties``: name -> severity, what must hold.
PROPERTY_CHECKS: dict[str, tuple[Severity, str]] = {
    "needed_properties_exist": (
        "error",
        "No property that the lists need, and that the portal had, has disappeared from it.",
    ),
    "properties_are_unchanged": (
        "warn",
        f"No property was added, removed, renamed or retyped since the run before; {DRIFT_VIEW} has all such changes.",
    ),
    "values_fit_their_type": (
        "warn",
        "Every new value fits the type its property declares; one that does not is kept as text and counts nowhere.",
    ),
}

#: Changes named in the message of a run; all of them are in the view.
_SHOWN = 5

#: So many times the records there were is worth a look (reliability 26), unless they are few all the same.
_GROWTH = 10
_FEW = 100


def property_checks(
    connection: duckdb.DuckDBPyConnection, settings: Settings, run_id: str
) -> list[CheckResult]:
    """Run the checks of HubSpot's properties for what one run read; creates the drift view.

    Args:
        connection: the build file, with ``raw_hubspot.properties``.
        settings: which objects and properties are read.
        run_id: the run whose changes count.
    """
    create_drift_view(connection)
    queries = {
        "needed_properties_exist": lost_properties_sql(settings),
        "properties_are_unchanged": (
            f"SELECT object, name, kind, before, after FROM {DRIFT_VIEW} WHERE run_id = $run_id"
        ),
        "values_fit_their_type": misfits_sql(connection, settings, run_id),
    }
    results = []
    for name, (severity, description) in PROPERTY_CHECKS.items():
        check = Check(DEFINITIONS, name, severity, description, queries[name])
        bound = {"run_id": run_id} if "$run_id" in check.sql else {}
        found = connection.execute(
            f"SELECT *, count(*) OVER () FROM ({check.sql}) AS offending ORDER BY ALL LIMIT {SAMPLE_ROWS}",
            bound,
        )
        names = [column[0] for column in (found.description or [])[:-1]]
        rows = found.fetchall()
        sample = tuple(dict(zip(names, row[:-1], strict=True)) for row in rows)
        results.append(CheckResult(check, int(rows[0][-1]) if rows else 0, sample))
    return results


def drift_message(connection: duckdb.DuckDBPyConnection, run_id: str) -> str:
    """One line for people about the changes of a run; empty if there are none."""
    rows = connection.execute(
        f"SELECT object || '.' || name, kind, before, after FROM {DRIFT_VIEW} WHERE run_id = $run_id ORDER BY ALL",
        {"run_id": run_id},
    ).fetchall()
    shown = [_told(*row) for row in rows[:_SHOWN]]
    more = f" and {len(rows) - _SHOWN} more changes" if len(rows) > _SHOWN else ""
    return f"{', '.join(shown)}{more}"


def _told(name: str, kind: str, before: str | None, after: str | None) -> str:
    match kind:
        case "renamed" | "retyped" | "relabelled":
            return f"{name} {kind} ({before} to {after})"
        case "options_changed":
            changes = [f"{word} {values}" for word, values in (("lost", before), ("got", after)) if values]
            return f"{name} options {' and '.join(changes)}"
        case "differs_only_in_case":
            return f"{name} differs from {before} only in case"
        case _:
            return f"{name} {kind}"


def growth_message(
    connection: duckdb.DuckDBPyConnection, stream: RawStream, result: StreamResult, run_id: str
) -> str:
    """One line for people when a run brought many times the records a table had; they are loaded all the same."""
    if stream.kind != "versions" or result.inserted < _FEW:
        return ""
    key = ", ".join(map(ident, stream.key))
    table = qualified(f"raw_{stream.source}", stream.table)
    before, now = connection.execute(
        f"SELECT count(DISTINCT ({key})) FILTER (_run_id <> $run_id), count(DISTINCT ({key})) FROM {table}",
        {"run_id": run_id},
    ).fetchall()[0]
    if not before or now < _GROWTH * before:
        return ""
    return f"{now:,} records where {before:,} were known before; they are loaded, but look whether they belong here"
