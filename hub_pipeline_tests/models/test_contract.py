"""Mistakes in a model file are named with the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub_pipeline.models import ModelError, load_catalog

GOOD = """/*---
description: Good.
grain: [org_id]
columns:
  org_id: {type: VARCHAR, meaning: "id"}
---*/
SELECT org_id FROM inputs.organisations
"""


def model(tmp_path: Path, text: str, place: str = "staging/organisations.sql") -> Path:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return tmp_path


def test_a_good_file_is_read_and_knows_what_it_reads(tmp_path: Path) -> None:
    models = load_catalog(model(tmp_path, GOOD))
    assert models["staging.organisations"].dependencies == ("inputs.organisations",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("/*---", "/*", "starts with its contract"),
        ("description: Good.\n", "", "description: Field required"),
        ("grain:", "grian:", "grian: Extra inputs are not permitted"),
        ("grain: [org_id]", "grain: [id]", "grain names id, which is not a column"),
        ('meaning: "id"', 'meening: "id"', "columns.org_id.meening: Extra inputs"),
        ("type: VARCHAR", "type: DECIMAL(18,2)", 'needs quotes: {type: "DECIMAL(18,2)"'),
        ('"id"}\n', '"id"}\n  org_id: {type: DATE, meaning: again}\n', "the key 'org_id' stands twice"),
        ("grain: [org_id]", "grain: [org_id", "organisations.sql:4: the contract is not valid YAML"),
        ("SELECT org_id FROM inputs.organisations", "", "no SELECT after the contract"),
        ("SELECT org_id", "DELETE", "exactly one SELECT"),
        ("inputs.organisations\n", "inputs.organisations; SELECT 1\n", "exactly one SELECT"),
        ("SELECT org_id", "SELECT (org_id", "cannot be parsed"),
        ("inputs.organisations\n", "organisations\n", "organisations needs its schema in front"),
        (
            "inputs.organisations\n",
            "raw_hubspot.organisations\n",
            "may read inputs, not raw_hubspot.organisations",
        ),
        ("grain:", "order_by: [org_id]\ngrain:", "only views of hub have an order"),
        ("grain:", "checks: [{name: unique, sql: SELECT 1}]\ngrain:", "the name unique is taken"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ModelError) as caught:
        load_catalog(model(tmp_path, GOOD.replace(old, new, 1)))
    assert "staging/organisations.sql" in str(caught.value)
    assert message in str(caught.value)


def test_a_circle_is_named_with_its_members(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        text = GOOD.replace("inputs.organisations", f"intermediate.{other}")
        model(tmp_path, text, f"intermediate/{one}.sql")
    with pytest.raises(ModelError, match=r"in a circle: intermediate\.[ab] -> intermediate\.[ab]"):
        load_catalog(tmp_path)


def test_a_model_that_does_not_exist_is_named(tmp_path: Path) -> None:
    model(tmp_path, GOOD.replace("inputs.", "staging."), "marts/x.sql")
    with pytest.raises(ModelError, match=r"it reads staging\.organisations, but there is no"):
        load_catalog(tmp_path)


def test_models_run_by_layer_then_by_dependency(tmp_path: Path) -> None:
    model(tmp_path, GOOD)
    model(tmp_path, GOOD.replace("inputs.organisations", "intermediate.z"), "intermediate/a.sql")
    model(tmp_path, GOOD.replace("inputs.organisations", "staging.organisations"), "intermediate/z.sql")
    model(tmp_path, GOOD.replace("inputs.organisations", "intermediate.a"), "marts/m.sql")
    assert list(load_catalog(tmp_path).models) == [
        "staging.organisations",
        "intermediate.z",
        "intermediate.a",
        "marts.m",
    ]


def test_parameters_in_brackets_do_not_look_like_a_quoted_text(tmp_path: Path) -> None:
    text = GOOD.replace(
        "SELECT org_id", "SELECT $hubspot_roles_values[list_position($hubspot_roles_keys, org_id)] AS org_id"
    )
    assert load_catalog(model(tmp_path, text))["staging.organisations"].dependencies == (
        "inputs.organisations",
    )


def test_the_models_that_ship_fit_together() -> None:
    from hub_pipeline.models.graph import MODELS_FOLDER

    models = load_catalog(MODELS_FOLDER)
    staging = {model.table for model in models.layer("staging")}
    assert staging == set(models.inputs)
