"""Canonical files to inputs and staging: strict types, quarantine, accounting."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from hub_pipeline.errors import DataRefusedError
from hub_pipeline.models import Catalog, InputCounts, load_catalog, load_inputs
from hub_pipeline.settings import Settings

INPUTS = """
tables:
  t:
    key: [id]
    columns:
      id: {type: VARCHAR, required: true, meaning: "id"}
      seats: {type: BIGINT, meaning: "seats"}
      amount: {type: "DECIMAL(18,2)", meaning: "amount"}
      share: {type: DOUBLE, meaning: "share"}
      flag: {type: BOOLEAN, meaning: "flag"}
      known: {type: BOOLEAN, unknown: true, meaning: "flag that may be unknown"}
      day: {type: DATE, meaning: "day"}
      at: {type: TIMESTAMP, meaning: "instant"}
"""
STAGING = """/*---
description: d
grain: [id]
columns: {id: {type: VARCHAR, meaning: m}}
---*/
SELECT id FROM inputs.t
"""


@pytest.fixture
def models(tmp_path: Path) -> Catalog:
    folder = tmp_path / "models"
    (folder / "staging").mkdir(parents=True)
    (folder / "staging/t.sql").write_text(STAGING)
    (folder / "inputs.yaml").write_text(INPUTS)
    return load_catalog(folder)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def load(
    connection: duckdb.DuckDBPyConnection, files: Path, models: Catalog, zone: str = "UTC"
) -> InputCounts:
    settings = Settings.model_validate({"reporting_tz": zone})
    return load_inputs(connection, files, settings, models=models)[0]


def quarantine(connection: duckdb.DuckDBPyConnection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT line, reason, raw FROM inputs.quarantine ORDER BY line").fetchall()


@pytest.mark.parametrize("ending", ["ndjson", "jsonl", "csv", "parquet", "ndjson.gz", "csv.zst"])
def test_every_format_gives_the_same_rows(
    connection: duckdb.DuckDBPyConnection, files: Path, models: Catalog, ending: str
) -> None:
    source = (
        "SELECT 'é,\"1\"' AS id, 12 AS seats, '1300.50'::DECIMAL(18,2) AS amount, 0.5::DOUBLE AS share, true AS flag, "
        "DATE '2026-05-10' AS day, '2026-05-10T09:00:00Z' AS at"
    )
    path = files / f"t.{ending}"
    options = {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER"}.get(
        ending.split(".")[0], "FORMAT json"
    )
    if ending.endswith((".gz", ".zst")):
        options += f", COMPRESSION {'gzip' if ending.endswith('.gz') else 'zstd'}"
    connection.execute(f"COPY ({source}) TO '{path}' ({options})")
    assert load(connection, files, models) == InputCounts("t", path.name, 1, 1, 0)
    assert connection.execute("FROM inputs.t").fetchall() == [
        ('é,"1"', 12, Decimal("1300.50"), 0.5, True, None, date(2026, 5, 10), datetime(2026, 5, 10, 9))
    ]
    assert connection.execute("FROM staging.t").fetchall() == [('é,"1"',)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("seats", "2.5"),
        ("seats", '"1,200"'),
        ("seats", '"0x10"'),
        ("seats", '"1_000"'),
        ("seats", '"1e3"'),
        ("seats", "9223372036854775808"),
        ("seats", "NaN"),
        ("amount", "12.345"),
        ("amount", '"12,50"'),
        ("share", '"nan"'),
        ("share", '"inf"'),
        ("flag", '"maybe"'),
        ("day", '"2026-02-30"'),
        ("day", '"9999-12-31"'),
        ("day", '"2026-05-10T00:00:00"'),
        ("at", '"1767225600000"'),
        ("at", '"9999-12-31"'),
        ("at", '"2026-13-01T00:00:00Z"'),
    ],
)
def test_a_value_that_does_not_fit_is_quarantined_with_its_reason(
    connection: duckdb.DuckDBPyConnection, files: Path, models: Catalog, column: str, value: str
) -> None:
    line = f'{{"id": "x", "{column}": {value}}}'
    (files / "t.ndjson").write_text(f'{{"id": "good"}}\n\n{line}\n')
    assert load(connection, files, models) == InputCounts("t", "t.ndjson", 2, 1, 1)
    [(number, reason, raw)] = quarantine(connection)
    assert (number, raw) == (3, line)
    assert str(reason).startswith(f"{column} is not ")


@pytest.mark.parametrize(
    ("text", "value"), [('"12 "', 12), ("12.0", 12), ('""', None), ("null", None), ("-3", -3)]
)
def test_what_is_unambiguous_is_accepted(
    connection: duckdb.DuckDBPyConnection, files: Path, models: Catalog, text: str, value: int | None
) -> None:
    (files / "t.ndjson").write_text(f'{{"id": "x", "seats": {text}}}\n')
    load(connection, files, models)
    assert connection.execute("SELECT seats, flag, known FROM inputs.t").fetchall() == [(value, False, None)]


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-05-10", datetime(2026, 5, 10, 4)),
        ("2026-05-10T09:00:00", datetime(2026, 5, 10, 9)),
        ("2026-05-10T09:00:00Z", datetime(2026, 5, 10, 9)),
        ("2026-05-10 09:00+02:00", datetime(2026, 5, 10, 7)),
        ("2026-05-10T09:00:00.123456-0330", datetime(2026, 5, 10, 12, 30, 0, 123456)),
    ],
)
def test_an_instant_is_local_midnight_converted_or_utc(
    connection: duckdb.DuckDBPyConnection, files: Path, models: Catalog, text: str, utc: datetime
) -> None:
    (files / "t.ndjson").write_text(f'{{"id": "x", "at": "{text}"}}\n')
    load(connection, files, models, zone="America/New_York")
    assert quarantine(connection) == []
    assert connection.execute('SELECT "at" FROM inputs.t').fetchall() == [(utc,)]


def test_broken_lines_are_quarantined_and_the_counts_add_up(
    connection: duckdb.DuckDBPyConnection, files: Path, models: Catalog
) -> None:
    lines = ['{"id": "a"}', '{"id": "b"', "[1]", '{"seats": 1}', '{"id": "", "seats": 1}', '{"id": "c"}']
    (files / "t.ndjson").write_text("\n".join(lines))
    assert load(connection, files, models) == InputCounts("t", "t.ndjson", 6, 2, 4)
    assert [(n, r) for n, r, _ in quarantine(connection)] == [
        (2, "not a JSON object"),
        (3, "not a JSON object"),
        (4, "id is missing"),
        (5, "id is missing"),
    ]


def test_csv_records_keep_their_lines_through_quotes_and_line_breaks(
    connection: duckdb.DuckDBPyConnection, files: Path, models: Catalog
) -> None:
    text = '\ufeffid,seats\r\n"a\r\n,""x""",1\r\nb,2,3\r\nc,x\r\n\r\nd"d,4\r\n"f,6\r\ne,5\r\n'
    (files / "t.csv").write_bytes(text.encode())
    assert load(connection, files, models) == InputCounts("t", "t.csv", 6, 2, 4)
    assert connection.execute("SELECT id, seats FROM inputs.t").fetchall() == [('a\n,"x"', 1), ("e", 5)]
    assert [(n, r) for n, r, _ in quarantine(connection)] == [
        (4, "3 fields instead of 2"),
        (5, "seats is not a whole number: x"),
        (7, "a quote is not closed or stands inside a field"),
        (8, "a quote is not closed or stands inside a field"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("orgs.csv", b"id\n", "orgs.csv is not a canonical file"),
        ("t.csv.part", b"id\n", "is not a canonical file"),
        ("t.csv", b"id,colour\na,red\n", "has a column colour, which t does not know"),
        ("t.csv", b"seats\n1\n", "lacks the column id"),
        ("t.csv", b"id,id\na,b\n", "does not name the columns, each once"),
        ("t.csv", b"", "is empty"),
        ("t.ndjson", b'{"id": "a", "Seats": 1, "other": 2}\n', "has a column"),
        ("t.ndjson", b'{"id": "\xff"}\n', "must be UTF-8"),
        ("t.parquet", b"id\na\n", "cannot be read"),
        ("t.ndjson.gz", b"not gzip", "cannot be read"),
    ],
)
def test_a_file_that_is_not_canonical_is_refused_by_name(
    connection: duckdb.DuckDBPyConnection,
    files: Path,
    models: Catalog,
    name: str,
    content: bytes,
    message: str,
) -> None:
    (files / name).write_bytes(content)
    with pytest.raises(DataRefusedError) as caught:
        load(connection, files, models)
    assert name in str(caught.value)
    assert message in str(caught.value)


def test_two_files_for_one_table_are_refused(
    connection: duckdb.DuckDBPyConnection, files: Path, models: Catalog
) -> None:
    (files / "t.csv").write_text("id\na\n")
    (files / "t.ndjson.gz").write_bytes(gzip.compress(b'{"id": "b"}\n'))
    with pytest.raises(DataRefusedError, match="both hold t"):
        load(connection, files, models)


def test_glob_characters_in_a_folder_name_read_no_other_file(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, models: Catalog
) -> None:
    for name, value in (("in[1]", "right"), ("in1", "wrong")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.ndjson").write_text(f'{{"id": "{value}"}}\n')
    load(connection, tmp_path / "in[1]", models)
    assert connection.execute("SELECT id FROM inputs.t").fetchall() == [("right",)]


def test_a_missing_folder_is_refused(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, models: Catalog
) -> None:
    with pytest.raises(DataRefusedError, match="does not exist"):
        load(connection, tmp_path / "nowhere", models)
