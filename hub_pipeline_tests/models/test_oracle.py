"""The SQL agrees with the oracle, an independent simulation of the rules, and the oracle agrees with the worked cases."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from random import Random
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub_pipeline.models import build, catalog
from hub_pipeline_tests.models import oracle, oracle_renewals
from hub_pipeline_tests.models.oracle import expected
from hub_pipeline_tests.models.oracle_renewals import RenewalOracle
from hub_pipeline_tests.models.random_worlds import Row, Scenario, scenario, scenarios
from hub_pipeline_tests.models.test_cases import CASES, _matches, _settings
from hub_pipeline_tests.models.worlds import build_world, rows


class WholeOracle(RenewalOracle):
    """Everything the oracle knows."""


MARTS = (*oracle.MARTS, *oracle_renewals.MARTS)
#: The natural key of each covered mart.
KEYS: dict[str, tuple[str, ...]] = {
    "organisation_daily": ("org_id",),
    "seat_growth": ("org_id",),
    "account_seat_growth": ("account_id",),
    "at_risk": ("org_id",),
    "nps": (),
    "mrr_movements": ("account_id", "movement"),
    "mrr_movements_daily": ("account_id", "day", "movement"),
    "mrr_movements_by_org": ("org_id", "movement"),
    "mrr_waterfall": (),
    "retention": (),
    "churn_flags": ("subscription_id",),
    "renewal_pipeline": ("renewal_id",),
    "renewal_forecast": ("period_start",),
    "renewal_rate": (),
    "seat_cohorts": ("cohort", "month_number"),
    "upsell_pipeline": ("upsell_id",),
    "interactions": ("conversation_id", "org_id"),
    "unattributed_interactions": ("conversation_id",),
    "ownership_crossovers": ("subject_id",),
}
#: Companies on which SQL and oracle once differed: MRR of the last paid version unknown, an end learnt later, an empty
#: contract with and without a subscription that ended.
ONCE_DIFFERENT = (4193455926, 3526407276, 1273240371, 769977120)
#: The same where it was the day that mattered, each as `scenario` takes it: a contract that never held was a sighting;
#: what a subscription was before its end was evidence of a move; of equal versions the oracle kept another one.
ONCE_DIFFERENT_ON_A_DAY = (
    (118098128, "2026-11-01", "Europe/Berlin", 1, 2),
    (2561676905, "2028-02-29", "Pacific/Auckland", 3, 2),
    (84024074, "2026-11-01", "Europe/Berlin", 1, 2),
    (4048300255, "2026-02-20", "Pacific/Auckland", 1, 1),
    (1852014480, "2027-12-13", "America/New_York", 30, 1),
)
PARAMETERS = [
    pytest.param(case, mart, id=f"{case['id']}-{mart}")
    for case in CASES
    for mart in case["expected"]
    if mart in MARTS
]


@pytest.mark.parametrize(("case", "mart"), PARAMETERS)
def test_the_oracle_gives_what_the_author_of_a_worked_case_wrote_down(
    case: dict[str, Any], mart: str
) -> None:
    known_at = case.get("known_at")
    whole = WholeOracle(
        case["inputs"],
        date.fromisoformat(case["as_of"]),
        date.fromisoformat(known_at) if known_at else None,
        _settings(case),
    )
    actual: list[Row] = getattr(whole, mart)()
    wanted = case["expected"][mart]
    for row in wanted.get("rows", []):
        assert sum(_matches(candidate, row) for candidate in actual) == 1, (row, actual)
    for row in wanted.get("absent", []):
        assert not any(_matches(candidate, row) for candidate in actual), (row, actual)
    assert len(actual) == wanted.get("count", len(actual)), actual


def _keyed(mart: str, table: Sequence[Row]) -> dict[tuple[Any, ...], Row]:
    found = {tuple(row[name] for name in KEYS[mart]): row for row in table}
    assert len(found) == len(table), f"two rows of {mart} share a key"
    return found


def _differences(one: Scenario) -> list[str]:
    """Each row in which SQL and oracle differ: which side has it, or the columns as (oracle, SQL)."""
    answers = expected(WholeOracle, MARTS, one.world, one.as_of, one.known_at, one.settings)
    found = []
    with build_world(one.world, one.as_of.isoformat(), one.known_at.isoformat(), one.settings) as connection:
        for mart, oracle_rows in answers.items():
            ours, sql = _keyed(mart, oracle_rows), _keyed(mart, _sql_rows(connection, mart))
            for key in sorted({*ours, *sql}, key=str):
                if key not in sql:
                    found.append(f"{mart} {key}: only the oracle has {ours[key]}")
                elif key not in ours:
                    found.append(f"{mart} {key}: only the SQL has {sql[key]}")
                else:
                    columns = {
                        name: (value, sql[key][name])
                        for name, value in ours[key].items()
                        if value != sql[key][name]
                    }
                    if columns:
                        found.append(f"{mart} {key}: (oracle, SQL) {columns}")
    return found


def _sql_rows(connection: Any, mart: str) -> list[Row]:
    """The mart's rows without the kind that the oracle does not know: crossovers on accounts."""
    found = rows(connection, mart)
    if mart == "ownership_crossovers":
        return [row for row in found if row["kind"] == "contact"]
    return found


def _assert_agreement(one: Scenario) -> None:
    differences = _differences(one)
    assert not differences, "\n".join(
        [f"as_of {one.as_of}, known_at {one.known_at}, {one.settings.reporting_tz}", *differences[:20]]
    )


def _quick(variant: int) -> Scenario:
    """The companies of the quick tests, on another day and in another zone for each variant of the settings."""
    random = Random(20260630)
    seeds = [random.randrange(2**32) for _ in range(80)]
    day, zone = (("2026-03-29", "Europe/Berlin"), ("2026-06-30", "UTC"), ("2028-02-29", "Africa/Cairo"))[
        variant
    ]
    return scenario([*seeds, *ONCE_DIFFERENT], day, zone, 1, variant)


@pytest.mark.parametrize("variant", range(3))
def test_sql_and_oracle_agree_on_random_companies(variant: int) -> None:
    _assert_agreement(_quick(variant))


def test_these_random_companies_reach_every_rule_about_renewals() -> None:
    """Every code that a contract allows occurs, and every line of the oracle's functions about renewals is run."""
    answers: dict[str, list[Row]] = {}
    with _lines_run(oracle_renewals) as run:
        for variant in range(3):
            one = _quick(variant)
            found = expected(
                WholeOracle, oracle_renewals.MARTS, one.world, one.as_of, one.known_at, one.settings
            )
            for mart, table in found.items():
                answers.setdefault(mart, []).extend(table)
    for model in catalog().layer("marts"):
        for column, meaning in model.contract.columns.items():
            if model.table in answers and meaning.accepted:
                values = [row[column] for row in answers[model.table]]
                said = {code for value in values for code in (value if isinstance(value, list) else [value])}
                assert set(meaning.accepted) <= said, f"{model.table}.{column}"
    source = Path(str(oracle_renewals.__file__)).read_text(encoding="utf-8").splitlines()
    assert [source[line - 1].strip() for line in sorted(_lines_of_functions(oracle_renewals) - run)] == []


@contextmanager
def _lines_run(module: ModuleType) -> Iterator[set[int]]:
    """The numbers of the module's lines that are run meanwhile."""
    run: set[int] = set()

    def in_module(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            run.add(frame.f_lineno)
        return in_module

    def on_call(frame: FrameType, _event: str, _: object) -> Any:
        return in_module if frame.f_code.co_filename == module.__file__ else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield run
    finally:
        sys.settrace(before)


def _lines_of_functions(module: ModuleType) -> set[int]:
    """The numbers of all lines with code in the module's functions and methods."""
    file = str(module.__file__)
    waiting = [compile(Path(file).read_text(encoding="utf-8"), file, "exec")]
    lines: set[int] = set()
    while waiting:
        code = waiting.pop()
        if code.co_flags & inspect.CO_NEWLOCALS and code.co_flags & inspect.CO_OPTIMIZED:
            lines |= {line for _, _, line in code.co_lines() if line and line != code.co_firstlineno}
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("case", ONCE_DIFFERENT_ON_A_DAY)
def test_sql_and_oracle_agree_where_they_once_differed(case: tuple[int, str, str, int, int]) -> None:
    seed, *asked = case
    _assert_agreement(scenario([seed], *asked))  # type: ignore[arg-type]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(scenarios(companies=120))
def test_sql_and_oracle_agree_on_thousands_of_random_companies(one: Scenario) -> None:
    _assert_agreement(one)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_sql_and_oracle_agree_on_random_companies_in_one_world_for_each_seed(seed: int) -> None:
    random = Random(seed)
    seeds = [random.randrange(2**32) for _ in range(150)]
    _assert_agreement(
        scenario(
            seeds,
            (date(2026, 1, 1) + timedelta(random.randrange(800))).isoformat(),
            random.choice(("UTC", "America/New_York", "Europe/Berlin", "Africa/Cairo", "Pacific/Auckland")),
            random.choice((0, 0, 1, 3, 30)),
            random.randrange(3),
        )
    )


@pytest.mark.slow
def test_building_the_day_of_a_random_world_again_gives_the_same_rows() -> None:
    random = Random(7)
    one = scenario([random.randrange(2**32) for _ in range(100)], "2026-11-01", "America/New_York", 1)
    marts = [model.table for model in catalog().layer("marts")]
    with build_world(one.world, one.as_of.isoformat(), one.known_at.isoformat(), one.settings) as connection:
        first = {mart: rows(connection, mart) for mart in marts}
        build(connection, one.as_of, one.known_at, one.settings)
        assert {mart: rows(connection, mart) for mart in marts} == first
