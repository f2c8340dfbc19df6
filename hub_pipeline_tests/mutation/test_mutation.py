"""The machinery of the mutants: every operator finds its site, every model has mutants, a known one is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub_pipeline.models import catalog
from hub_pipeline.models.contract import Contract
from hub_pipeline.models.graph import Model
from hub_pipeline_tests.mutation.equivalents import equivalents
from hub_pipeline_tests.mutation.operators import OPERATORS, Mutant, mutants, render
from hub_pipeline_tests.mutation.worlds import World


def _model(sql: str) -> Model:
    contract = Contract(description="made up", grain=("a",))
    return Model("marts", "small", Path("small.sql"), contract, sql, ())


def _changes(sql: str, operator: str) -> set[tuple[str, str]]:
    return {(m.before, m.after) for m in mutants(_model(sql)) if m.operator == operator}


@pytest.mark.parametrize(
    ("operator", "sql", "expected"),
    [
        ("boundary", "SELECT a FROM t WHERE a < b", {("a < b", "a <= b")}),
        ("equality", "SELECT a FROM t WHERE a = b", {("a = b", "a <> b")}),
        ("number", "SELECT a FROM t WHERE a > 30", {("a > 30", "a > 31"), ("a > 30", "a > 29")}),
        ("conjunct", "SELECT a FROM t WHERE x AND y", {("x", "(dropped)"), ("y", "(dropped)")}),
        ("connector", "SELECT a FROM t WHERE x AND y", {("x AND y", "(x OR y)")}),
        ("filter", "SELECT count(*) FILTER (WHERE x) AS a FROM t", {("WHERE x", "(dropped)")}),
        ("filter", "SELECT a FROM t WHERE x", {("WHERE x", "(dropped)")}),
        ("join", "SELECT a FROM t LEFT JOIN s ON t.k = s.k", {("LEFT JOIN s ON t.k = s.k", "INNER JOIN")}),
        ("join", "SELECT a FROM t INNER JOIN s ON t.k = s.k", {("INNER JOIN s ON t.k = s.k", "LEFT JOIN")}),
        ("aggregate", "SELECT min(a) AS a FROM t", {("MIN(a)", "MAX(a)")}),
        (
            "order",
            "SELECT row_number() OVER (ORDER BY a DESC) AS a FROM t",
            {("a DESC", "a")},
        ),
        (
            "partition",
            "SELECT row_number() OVER (PARTITION BY b, c ORDER BY a) AS a FROM t",
            {("b", "(dropped)"), ("c", "(dropped)")},
        ),
        (
            "coalesce",
            "SELECT coalesce(a, b) AS a FROM t",
            {("COALESCE(a, b)", "without a"), ("COALESCE(a, b)", "without b")},
        ),
        (
            "case",
            "SELECT CASE WHEN x THEN 'p' WHEN y THEN 'q' END AS a FROM t",
            {("WHEN x THEN 'p'", "(dropped)"), ("WHEN y THEN 'q'", "(dropped)")},
        ),
        ("distinct", "SELECT DISTINCT a FROM t", {("SELECT DISTINCT", "SELECT")}),
        ("distinct", "SELECT a FROM t UNION ALL SELECT a FROM s", {("UNION ALL", "UNION")}),
        ("arithmetic", "SELECT a + b AS a FROM t", {("a + b", "a - b")}),
        ("negation", "SELECT a FROM t WHERE NOT x", {("NOT x", "x")}),
        (
            "element",
            "SELECT a FROM t WHERE a IN ('p', 'q')",
            {("'p'", "(dropped)"), ("'q'", "(dropped)")},
        ),
    ],
)
def test_an_operator_changes_its_site_and_nothing_else(
    operator: str, sql: str, expected: set[tuple[str, str]]
) -> None:
    assert {(before, after.replace(" ASC", "")) for before, after in _changes(sql, operator)} == expected


def test_every_operator_has_an_example_above() -> None:
    marks = test_an_operator_changes_its_site_and_nothing_else.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(OPERATORS)


def test_the_mutants_of_a_select_differ_from_it_and_from_each_other_and_have_names_of_their_own() -> None:
    model = catalog()["marts.churn_flags"]
    found = mutants(model)
    assert len({m.sql for m in found} | {render(model.tree)}) == len(found) + 1
    assert len({m.key for m in found}) == len(found)


def test_making_mutants_leaves_the_model_as_it_is() -> None:
    model = catalog()["marts.nps"]
    before = render(model.tree)
    mutants(model)
    assert render(model.tree) == before


def test_every_model_with_a_condition_has_mutants() -> None:
    without = {model.name for model in catalog() if " WHERE " in render(model.tree) and not _some(model)}
    assert without == set()


def _some(model: Model) -> bool:
    return any(True for node in model.tree.dfs() for operator in OPERATORS.values() for _ in operator(node))


def test_each_entry_of_the_list_of_equivalents_names_a_mutant_that_exists() -> None:
    listed = equivalents()
    existing = {mutant.key for name in {key[0] for key in listed} for mutant in mutants(catalog()[name])}
    assert [key for key in listed if key not in existing] == []


def test_a_known_mutant_is_killed_a_broken_one_is_an_error_and_the_model_itself_survives() -> None:
    world = World.first()
    model = catalog()["intermediate.paid_runs"]
    found = mutants(model)
    whole = Mutant(model.name, "SELECT", "none", "", "", 1, 0, render(model.tree))
    assert world.verdict(whole) == ""
    killed = [world.verdict(mutant) for mutant in found if mutant.operator == "filter"]
    assert any(verdict.startswith("marts.") for verdict in killed)
    broken = Mutant(model.name, "SELECT", "none", "", "", 1, 0, "SELECT nothing FROM nowhere")
    assert world.verdict(broken) == "error"
    assert world.verdict(whole) == "", "what a mutant did is rolled back"
