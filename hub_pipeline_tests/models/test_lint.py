"""The portable subset."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub_pipeline.models import load_catalog
from hub_pipeline.models.graph import MODELS_FOLDER
from hub_pipeline.models.lint import lint

HEAD = """/*---
description: d
grain: [as_of, known_at, a]
columns:
  as_of: {type: DATE, meaning: m}
  known_at: {type: DATE, meaning: m}
  a: {type: VARCHAR, meaning: m}
  settings_hash: {type: VARCHAR, meaning: m}
---*/
"""


def findings(tmp_path: Path, body: str, head: str = HEAD) -> list[str]:
    (tmp_path / "staging").mkdir(exist_ok=True)
    (tmp_path / "staging/t.sql").write_text(
        "/*---\ndescription: d\ngrain: [a]\ncolumns: {a: {type: VARCHAR, meaning: m}}\n---*/\nSELECT a FROM inputs.t\n"
    )
    (tmp_path / "marts").mkdir(exist_ok=True)
    (tmp_path / "marts/m.sql").write_text(head + body)
    return [f"{finding.line} {finding.rule}" for finding in lint(load_catalog(tmp_path))]


COLUMNS = "$as_of AS as_of, $known_at AS known_at, {} AS a, $settings_hash AS settings_hash"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("now()", "impure"),
        ("current_date", "impure"),
        ("CAST(current_timestamp AS VARCHAR)", "impure"),
        ("today()", "impure"),
        ("random()", "impure"),
        ("'9999-12-31'::DATE", "open-end"),
        ("(SELECT array_agg(t.a ORDER BY t.a) FROM staging.t)", "ordered-aggregate"),
        ("list_filter([t.a], lambda x: x IS NOT NULL)", "lambda"),
        ("[x FOR x IN [t.a] IF x > 1]", "lambda"),
    ],
)
def test_what_is_not_portable_is_found_on_its_line(tmp_path: Path, value: str, rule: str) -> None:
    body = "SELECT\n" + COLUMNS.format("\n" + value) + "\nFROM staging.t AS t\n"
    found = findings(tmp_path, body)
    assert [f.split()[1] for f in found] == [rule]
    assert found[0].split()[0] in ("11", "12")


def test_asof_join_star_and_latest_by_row_number_are_found(tmp_path: Path) -> None:
    body = f"SELECT {COLUMNS.format('t.a')} FROM staging.t AS t ASOF JOIN staging.t AS u ON t.a >= u.a"
    assert findings(tmp_path, body) == ["10 asof"]
    assert findings(tmp_path, "SELECT * FROM staging.t") == ["10 star"]
    body = (
        "WITH n AS (SELECT a, row_number() OVER (PARTITION BY a ORDER BY a) AS rn FROM staging.t)\n"
        f"SELECT {COLUMNS.format('n.a')} FROM n WHERE n.rn = 1"
    )
    assert findings(tmp_path, body) == ["10 row-number"]


def test_windows_qualify_and_codes_are_fine(tmp_path: Path) -> None:
    body = (
        f"SELECT {COLUMNS.format('codes([t.a])[1]')}, FROM staging.t AS t "
        "QUALIFY row_number() OVER (PARTITION BY t.a ORDER BY t.a) = 1"
    )
    assert findings(tmp_path, body) == []


def test_a_mart_starts_with_its_clocks_and_carries_its_settings(tmp_path: Path) -> None:
    head = "/*---\ndescription: d\ngrain: [a]\ncolumns: {a: {type: VARCHAR, meaning: m}}\n---*/\n"
    assert findings(tmp_path, "SELECT t.a FROM staging.t AS t", head) == [
        "1 mart-grain",
        "1 mart-key",
        "1 settings-hash",
    ]


def test_columns_that_differ_from_the_contract_are_found_without_a_database(tmp_path: Path) -> None:
    assert findings(tmp_path, f"SELECT {COLUMNS.format('t.a')}, 1 AS b FROM staging.t AS t") == ["1 columns"]


def test_the_models_that_ship_are_portable() -> None:
    assert [str(finding) for finding in lint(load_catalog(MODELS_FOLDER))] == []
