"""Every worked case of the domain, through the entry points that users call: files in a folder, load, build, read."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pytest

from hub_pipeline.models import catalog
from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import build_world, rows

CASES = json.loads((Path(__file__).parent.parent / "cases" / "domain_cases.json").read_text(encoding="utf-8"))

#: Marts of the domain that a later issue adds; a case is skipped only for the marts listed here.
LATER_MARTS: dict[str, str] = {}


#: Columns that hold ids of a case; others (plan, stage, currency) mean the same in every case.
ID_COLUMNS = [
    "account_id",
    "child_org_id",
    "contact_id",
    "contact_ids",
    "conversation_id",
    "crossing_users",
    "deal_id",
    "detractor_contacts",
    "email",
    "engagement_id",
    "loser_org_id",
    "org_id",
    "owner_id",
    "parent_org_id",
    "payer_org_id",
    "response_id",
    "subscription_id",
    "user_id",
    "winner_org_id",
]


def _settings(case: dict[str, Any]) -> Settings:
    values: dict[str, Any] = {}
    for name, value in (case.get("settings") or {}).items():
        if name in ("period_start", "period_end"):
            values.setdefault("metrics", {})[name] = value
        elif name == "stage_probability":
            values.setdefault("renewal", {})[name] = value
        else:
            values[name] = value
    return Settings.model_validate(values)


def _named(case: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The row with ids that no other case has, so that cases of one day can share one build."""

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(item) for item in value]
        return None if value is None else f"{case['id']}/{value}"

    return {name: renamed(value) if name in ID_COLUMNS else value for name, value in row.items()}


#: Marts that say one thing about the whole company, so that a case for one must have the company to itself.
WHOLE_COMPANY = {"mrr_waterfall", "nps", "renewal_forecast", "renewal_rate", "retention", "seat_cohorts"}


def _group(case: dict[str, Any]) -> str:
    """Cases with the same day, knowledge and settings share a build; some need one of their own."""
    alone = case["id"] if "fx_rates" in case["inputs"] or WHOLE_COMPANY & set(case["expected"]) else ""
    return json.dumps([case["as_of"], case.get("known_at"), case.get("settings"), alone], sort_keys=True)


@cache
def _built(group: str) -> duckdb.DuckDBPyConnection:
    cases = [case for case in CASES if _group(case) == group]
    world: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        for table, table_rows in case["inputs"].items():
            world.setdefault(table, []).extend(_named(case, row) for row in table_rows)
    return build_world(world, cases[0]["as_of"], cases[0].get("known_at"), _settings(cases[0]))


@cache
def _rows(group: str, mart: str) -> list[dict[str, Any]]:
    return rows(_built(group), mart)


def _is_of(case: dict[str, Any], row: dict[str, Any]) -> bool:
    return any(str(row[name]).startswith(f"{case['id']}/") for name in ID_COLUMNS if name in row)


def _comparable(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float | Decimal):
        return round(float(value), 4)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_comparable(item) for item in value]
    return value


def _matches(row: dict[str, Any], expected: dict[str, Any]) -> bool:
    return all(_comparable(row[name]) == _comparable(value) for name, value in expected.items())


PARAMETERS = [
    pytest.param(
        case,
        mart,
        id=f"{case['id']}-{mart}",
        marks=[pytest.mark.skip(reason=LATER_MARTS[mart])] if mart in LATER_MARTS else [],
    )
    for case in CASES
    for mart in case["expected"]
]


@pytest.mark.parametrize(("case", "mart"), PARAMETERS)
def test_a_worked_case_gives_the_rows_its_author_wrote_down(case: dict[str, Any], mart: str) -> None:
    wanted = case["expected"][mart]
    expected = wanted | {
        kind: [_named(case, row) for row in wanted[kind]] for kind in ("rows", "absent") if kind in wanted
    }
    group = _group(case)
    as_of = date.fromisoformat(case["as_of"])
    actual = [
        row
        for row in _rows(group, mart)
        if row["as_of"] == as_of and (mart in WHOLE_COMPANY or _is_of(case, row))
    ]
    for row in expected.get("rows", []):
        found = sum(_matches(candidate, row) for candidate in actual)
        assert found == 1, f"{found} rows match {row} among {actual}"
    for row in expected.get("absent", []):
        assert not any(_matches(candidate, row) for candidate in actual), (
            f"{row} must be absent from {actual}"
        )
    if "count" in expected:
        assert len(actual) == expected["count"], actual


def test_no_mart_that_exists_is_listed_as_belonging_to_a_later_issue() -> None:
    existing = {model.table for model in catalog().layer("marts")}
    assert not existing & set(LATER_MARTS)


def test_every_case_of_the_domain_is_run_or_named_as_later() -> None:
    assert len(CASES) == 51
    existing = {model.table for model in catalog().layer("marts")}
    assert {mart for case in CASES for mart in case["expected"]} <= existing | set(LATER_MARTS)
