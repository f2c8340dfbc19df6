"""Which settings a day is built with: a changed setting re-labels new days and never rewrites old ones.

A day that was published keeps the settings it was published with; a day between published ones takes those of the last
day before it. Only `hub-pipeline backfill --current-settings` applies today's settings to the past (settled rule 7).
Settings of the models are kept; how inputs and staging read the sources (mapping, reporting time zone) is always the
run's, because all days share these tables.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from hub_pipeline.models.engine import day_close, model_parameters
from hub_pipeline.settings import Settings


@dataclass(frozen=True)
class DaySettings:
    """Parameters of the models for one day.

    Attributes:
        parameters: everything a model may bind.
        settings_hash: stands in every row of the day.
        settings_json: what was hashed; goes into ``_ledger.settings_versions`` when the day is published.
        kept: they are those of the past and differ from the run's.
    """

    parameters: dict[str, Any]
    settings_hash: str
    settings_json: str
    kept: bool


def day_settings(
    connection: duckdb.DuckDBPyConnection,
    day: date,
    known_at: date,
    settings: Settings,
    *,
    current: bool,
) -> DaySettings:
    """Settings a day is to be built with.

    Args:
        connection: the build file.
        day: the local day.
        known_at: the day of knowledge.
        settings: of the run.
        current: use the run's settings whatever the past says.
    """
    parameters = model_parameters(day, known_at, settings)
    now = DaySettings(parameters, parameters["settings_hash"], settings.hashed_json(), kept=False)
    stored = None if current else _stored(connection, day)
    if stored is None:
        return now
    # A setting that has come since then has the value of today; the version of the models is always today's.
    said = json.loads(now.settings_json)
    then = said | json.loads(stored)
    then["models_version"] = said["models_version"]
    text = json.dumps(then, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    if digest == now.settings_hash:
        return now
    restored = {
        name: _typed(then[name], value) if name in then else value for name, value in parameters.items()
    }
    zone = ZoneInfo(then["reporting_tz"])
    restored |= {
        "close_as_of": day_close(day, zone),
        "close_known_at": day_close(known_at, zone),
        "settings_hash": digest,
    }
    return DaySettings(restored, digest, text, kept=True)


def _stored(connection: duckdb.DuckDBPyConnection, day: date) -> str | None:
    """JSON of the settings of the day, or of the last published day before it; None for a new day."""
    known = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'marts' AND table_name = 'organisation_daily'"
    ).fetchone()
    if not known or not known[0]:
        return None
    row = connection.execute(
        "WITH days AS (SELECT as_of, min(settings_hash) AS hash FROM marts.organisation_daily "
        "WHERE known_at = as_of AND as_of <= (SELECT max(as_of) FROM _ledger.publishes) GROUP BY as_of) "
        "SELECT v.json FROM days AS d JOIN _ledger.settings_versions AS v ON v.hash = d.hash "
        "WHERE $day <= (SELECT max(as_of) FROM days) ORDER BY d.as_of > $day, abs(d.as_of - $day::DATE) LIMIT 1",
        {"day": day},
    ).fetchone()
    return None if row is None else str(row[0])


def _typed(value: Any, like: Any) -> Any:
    """A value of the JSON with the type that the settings give it today."""
    if isinstance(like, Decimal):
        return Decimal(str(value))
    if isinstance(like, list) and any(isinstance(item, Decimal) for item in like):
        return [Decimal(str(item)) for item in value]
    return value
