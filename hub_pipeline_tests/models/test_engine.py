"""The engine on small model folders of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from hub_pipeline.models import ModelError, build, checks_of, load_catalog, run_checks
from hub_pipeline.models.engine import comments_of, day_close, fill_inputs, stage
from hub_pipeline.models.lineage import lineage_of
from hub_pipeline.models.macros import create_macros
from hub_pipeline.settings import Settings

DAY = date(2026, 6, 30)

MART = """/*---
description: Seats of each organisation.
grain: [as_of, known_at, org_id]
columns:
  as_of: {type: DATE, meaning: "day", not_null: true}
  known_at: {type: DATE, meaning: "day of knowledge", not_null: true}
  org_id: {type: VARCHAR, meaning: "the organisation's id", not_null: true}
  size: {type: VARCHAR, meaning: "small or large", accepted: [small, large]}
  settings_hash: {type: VARCHAR, meaning: "settings"}
---*/
SELECT
    $as_of::DATE AS as_of,
    $known_at::DATE AS known_at,
    s.org_id,
    CASE WHEN s.seats >= 20 THEN 'large' WHEN s.seats > 0 THEN 'small' ELSE 'none' END AS size,
    $settings_hash::VARCHAR AS settings_hash
FROM staging.seats AS s
"""

STAGING = """/*---
description: Seats.
grain: [org_id]
columns:
  org_id: {type: VARCHAR, meaning: "id"}
  seats: {type: BIGINT, meaning: "seats"}
---*/
SELECT org_id, seats FROM inputs.seats
"""

INPUTS = """
tables:
  seats:
    key: [org_id]
    columns:
      org_id: {type: VARCHAR, required: true, meaning: "id"}
      seats: {type: BIGINT, meaning: "seats"}
"""

VIEW = """/*---
description: The newest day.
grain: [org_id]
columns:
  org_id: {type: VARCHAR, meaning: "id"}
  size: {type: VARCHAR, meaning: "size"}
order_by: [size DESC, org_id]
---*/
SELECT org_id, size FROM marts.sizes
WHERE as_of = (SELECT max(as_of) FROM marts.sizes)
"""

Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "inputs.yaml": INPUTS,
        "staging/seats.sql": STAGING,
        "marts/sizes.sql": MART,
        "hub/sizes.sql": VIEW,
    }
    for name, text in files.items():
        path = tmp_path / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "models"


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("CREATE SCHEMA staging")
        opened.execute(
            "CREATE TABLE staging.seats AS FROM (VALUES ('a', 25::BIGINT), ('b', 3)) AS t(org_id, seats)"
        )
        yield opened


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    return connection.execute(sql).fetchall()


def test_building_a_day_twice_leaves_one_copy_and_keeps_other_days(
    folder: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    models = load_catalog(folder)
    build(connection, date(2026, 6, 29), models=models)
    build(connection, DAY, models=models)
    result = build(connection, DAY, models=models)
    assert result.rows == {"marts.sizes": 2, "hub.sizes": 0}
    assert rows(connection, "SELECT as_of, count(*) FROM marts.sizes GROUP BY 1 ORDER BY 1") == [
        (date(2026, 6, 29), 2),
        (DAY, 2),
    ]


def test_a_restated_day_is_more_rows_not_a_replacement(
    folder: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    models = load_catalog(folder)
    build(connection, DAY, models=models)
    build(connection, DAY, known_at=date(2026, 7, 9), models=models)
    assert rows(connection, "SELECT known_at, count(*) FROM marts.sizes GROUP BY 1 ORDER BY 1") == [
        (DAY, 2),
        (date(2026, 7, 9), 2),
    ]


def test_views_have_their_order(folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
    build(connection, DAY, models=load_catalog(folder))
    assert rows(connection, "FROM hub.sizes") == [("b", "small"), ("a", "large")]


def test_the_words_of_a_contract_are_the_comments_of_its_table(folder: Path) -> None:
    comments = comments_of(load_catalog(folder))
    assert comments["marts.sizes"][""] == "Seats of each organisation."
    assert comments["marts.sizes"]["org_id"] == "the organisation's id"
    assert comments["hub.sizes"][""] == "The newest day."


def test_a_column_that_the_contract_gains_is_added_and_older_days_have_null(
    folder: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    build(connection, date(2026, 6, 29), models=load_catalog(folder))
    path = folder / "marts/sizes.sql"
    text = path.read_text().replace(
        "  settings_hash:", "  seats: {type: BIGINT, meaning: seats}\n  settings_hash:"
    )
    path.write_text(text.replace("    $settings_hash", "    s.seats,\n    $settings_hash"))
    build(connection, DAY, models=load_catalog(folder))
    assert rows(connection, "SELECT as_of, sum(seats) FROM marts.sizes GROUP BY 1 ORDER BY 1") == [
        (date(2026, 6, 29), None),
        (DAY, Decimal(28)),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("AS size,", "AS sizes,", "the contract says size where the SELECT has sizes"),
        ("$settings_hash::VARCHAR", "1", "column settings_hash is INTEGER, the contract says VARCHAR"),
        (",\n    $settings_hash::VARCHAR AS settings_hash", "", "does not return settings_hash"),
        ("AS settings_hash\n", "AS settings_hash, 1 AS more\n", "returns more, which the contract lacks"),
        ("$known_at::DATE", "DATE '2020-01-01'", "2 rows are not of the as_of and known_at"),
        ("$settings_hash::", "$settings_hsh::", "there is no parameter $settings_hsh"),
        ("s.org_id,\n", "s.organisation,\n", "sizes.sql:14"),
    ],
)
def test_what_differs_from_the_contract_is_named_and_the_table_stays(
    folder: Path, connection: duckdb.DuckDBPyConnection, old: str, new: str, message: str
) -> None:
    build(connection, DAY, models=load_catalog(folder))
    path = folder / "marts/sizes.sql"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ModelError, match=r"sizes\.sql") as caught:
        build(connection, DAY, models=load_catalog(folder))
    assert message in str(caught.value)
    assert rows(connection, "SELECT count(*) FROM marts.sizes") == [(2,)]


def test_a_type_that_changed_is_refused_because_stored_days_hold_the_old_one(
    folder: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    build(connection, DAY, models=load_catalog(folder))
    path = folder / "marts/sizes.sql"
    path.write_text(
        path.read_text().replace("size: {type: VARCHAR", "size: {type: INTEGER").replace("'large'", "1")
        .replace("'small'", "2").replace("'none'", "3").replace(", accepted: [small, large]", "")
    )  # fmt: skip
    with pytest.raises(
        ModelError, match="the stored days hold size as VARCHAR, the contract now says INTEGER"
    ):
        build(connection, DAY, models=load_catalog(folder))


def test_checks_count_offenders_and_show_up_to_five_keys(
    folder: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    connection.execute("INSERT INTO staging.seats SELECT 'z' || (i // 2), 0 FROM range(14) AS t(i)")
    models = load_catalog(folder)
    build(connection, DAY, models=models)
    results = {r.name: r for r in run_checks(connection, models["marts.sizes"], DAY)}
    assert results["unique"].failures == 7
    assert len(results["unique"].sample) == 5
    assert results["unique"].sample[0] == {"as_of": DAY, "known_at": DAY, "org_id": "z0", "rows": 2}
    assert results["unique"].blocks
    assert results["accepted_values"].failures == 14
    assert results["accepted_values"].sample[0]["value"] == "none"
    assert results["not_null"].passed
    other_day = run_checks(connection, models["marts.sizes"], date(2026, 6, 29))
    assert all(result.passed for result in other_day)


def test_an_extra_check_of_a_mart_looks_at_its_day_only(
    folder: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    path = folder / "marts/sizes.sql"
    check = (
        "checks:\n  - name: no_large\n    severity: warn\n    sql: SELECT as_of, known_at, org_id FROM marts.sizes "
        "WHERE size = 'large'\n---*/"
    )
    path.write_text(path.read_text().replace("---*/", check))
    models = load_catalog(folder)
    build(connection, date(2026, 6, 29), models=models)
    build(connection, DAY, models=models)
    result = run_checks(connection, models["marts.sizes"], DAY)[-1]
    assert (result.name, result.failures, result.blocks) == ("no_large", 1, False)
    assert [check.severity for check in checks_of(models["marts.sizes"])][-1] == "warn"


def test_staging_without_a_model_for_a_canonical_table_is_an_error(folder: Path) -> None:
    (folder / "staging/seats.sql").unlink()
    (folder / "marts/sizes.sql").unlink()
    (folder / "hub/sizes.sql").unlink()
    with duckdb.connect() as connection, pytest.raises(ModelError, match=r"There is no staging/seats\.sql"):
        stage(connection, Settings.load(), models=load_catalog(folder))


def test_a_canonical_table_that_no_source_fills_is_empty(folder: Path) -> None:
    models = load_catalog(folder)
    with duckdb.connect() as connection:
        fill_inputs(connection, Settings.load(), models=models)
        stage(connection, Settings.load(), models=models)
        assert rows(connection, "SELECT count(*) FROM staging.seats") == [(0,)]


def test_the_guard_runs_in_the_transaction_and_can_refuse_it(
    folder: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    models = load_catalog(folder)
    build(connection, DAY, models=models)

    def refuse(inside: duckdb.DuckDBPyConnection) -> None:
        assert inside.execute("SELECT count(*) FROM marts.sizes").fetchall() == [(3,)]
        raise RuntimeError("a later run has taken over")

    connection.execute("INSERT INTO staging.seats VALUES ('c', 1)")
    with pytest.raises(RuntimeError, match="taken over"):
        build(connection, DAY, models=models, guard=refuse)
    assert rows(connection, "SELECT count(*) FROM marts.sizes") == [(2,)]


@pytest.mark.parametrize(
    "zone", ["UTC", "America/New_York", "Europe/Berlin", "Africa/Cairo", "Asia/Kathmandu"]
)
def test_the_close_of_a_day_is_the_same_in_python_and_in_sql(zone: str) -> None:
    settings = Settings.model_validate({"reporting_tz": zone})
    with duckdb.connect() as connection:
        create_macros(connection)
        for day in (
            date(2026, 3, 7),
            date(2026, 3, 28),
            date(2026, 4, 23),
            date(2026, 10, 24),
            date(2026, 10, 31),
        ):
            found = connection.execute(
                "SELECT close_of($d, $z), local_date(close_of($d, $z), $z), local_date(close_of($d, $z) - "
                "INTERVAL 1 MICROSECOND, $z), start_of($d, $z) = close_of($d - 1, $z)",
                {"d": day, "z": zone},
            ).fetchone()
            assert found == (day_close(day, settings.zone), date.fromordinal(day.toordinal() + 1), day, True)


def test_a_counted_noun_is_singular_for_one() -> None:
    with duckdb.connect() as connection:
        create_macros(connection)
        assert rows(
            connection, "SELECT counted(n, 'seat') FROM (VALUES (0), (1), (2), (-1), (NULL)) AS t (n)"
        ) == [("0 seats",), ("1 seat",), ("2 seats",), ("-1 seat",), (None,)]


def test_column_lineage_goes_through_with_union_subqueries_and_stars(tmp_path: Path) -> None:
    text = """/*---
description: d
grain: [a]
columns:
  a: {type: VARCHAR, meaning: m}
  b: {type: VARCHAR, meaning: m}
  c: {type: VARCHAR, meaning: m}
  d: {type: VARCHAR, meaning: m}
---*/
WITH first AS (SELECT x.* FROM raw_z.t AS x), second (p, q) AS (SELECT k, v FROM inputs.n)
SELECT first.one || second.p AS a, list_transform([q], lambda e: e || q)[1] AS b,
    (SELECT max(i.v) FROM inputs.n AS i WHERE i.k = first.two) AS c, 'constant' AS d
FROM first JOIN second ON second.q = first.join_only
UNION ALL
SELECT u.name, NULL, NULL, NULL FROM (SELECT payload.name AS name FROM raw_z.u) AS u
"""
    (tmp_path / "inputs").mkdir()
    path = tmp_path / "inputs/m.sql"
    path.write_text(text.replace("inputs.n", "raw_z.n"))
    (tmp_path / "inputs.yaml").write_text(
        "tables:\n"
        "  m: {key: [a], columns: {a: {type: VARCHAR, meaning: m}, b: {type: VARCHAR, meaning: m}, "
        "c: {type: VARCHAR, meaning: m}, d: {type: VARCHAR, meaning: m}}}\n"
        "  n: {key: [k], columns: {k: {type: VARCHAR, meaning: m}, v: {type: VARCHAR, meaning: m}}}\n"
    )
    models = load_catalog(tmp_path)
    assert lineage_of(models["inputs.m"], models) == {
        "a": (("raw_z.n", "k"), ("raw_z.t", "one"), ("raw_z.u", "payload")),
        "b": (("raw_z.n", "v"),),
        "c": (("raw_z.n", "v"),),
        "d": (),
    }
