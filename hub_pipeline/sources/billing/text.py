"""From the copy of a file to ``temp.billing_lines``: one row a record, every field as text, nothing guessed.

``billing_lines(line_no, raw, f, broken)``: line of the file the record begins on, the record as it was written
(NULL in Parquet), its fields in the order of the header, and why it cannot be read at all.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

import duckdb

from hub_pipeline.sources.billing.folder import MAX_LINE, UNREADABLE, Copy, Format, RejectedFileError
from hub_pipeline.warehouse.sql import ident, literal

#: Four bytes that no extract holds, so that DuckDB's CSV reader hands over whole lines.
_NO_DELIMITER = "\x1f\x1e\x1f\x1e"

_UNREADABLE_REASON = (
    "CASE WHEN starts_with(raw, chr(0)) THEN split_part(raw, chr(0), 2) "
    "WHEN contains(raw, chr(0)) THEN 'NUL byte' END"
)

#: The JSON functions fail on what is not JSON, so they only ever see what is.
_VALID_JSON = "CASE WHEN NOT contains(raw, chr(0)) AND json_valid(raw) THEN raw END"
_IS_OBJECT = f"coalesce(json_type({_VALID_JSON}) = 'OBJECT', false)"


def read(connection: duckdb.DuckDBPyConnection, copy: Copy, form: Format, delimiter: str) -> list[str]:
    """Fill ``temp.billing_lines`` and return the names of the fields.

    Raises:
        RejectedFileError: no record of the file can be trusted: no header, a name twice, not Parquet, ...
    """
    try:
        if form == "parquet":
            return _parquet(connection, copy)
        _read_lines(connection, copy)
        return _jsonl(connection) if form == "jsonl" else _csv(connection, copy, delimiter)
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise RejectedFileError(f"it cannot be read as {form}: {_first_line(error)}") from error


def _read_lines(connection: duckdb.DuckDBPyConnection, copy: Copy) -> None:
    if copy.path.stat().st_size == 0:
        raise RejectedFileError("it is empty")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE billing_text AS SELECT row_number() OVER () AS line_no, raw "
        f"FROM read_csv($path, auto_detect = false, header = false, delim = {literal(_NO_DELIMITER)}, quote = '', "
        f"escape = '', new_line = '\\n', strict_mode = false, max_line_size = {MAX_LINE}, "
        f"buffer_size = {4 * MAX_LINE}, columns = {{'raw': 'VARCHAR'}})",
        {"path": str(copy.path)},
    )


def _csv(connection: duckdb.DuckDBPyConnection, copy: Copy, delimiter: str) -> list[str]:
    first = connection.execute("SELECT raw FROM billing_text WHERE line_no = 1").fetchone()
    if first is None or not first[0] or UNREADABLE in first[0]:
        raise RejectedFileError("its first line is not a header in UTF-8, or UTF-16 with a byte order mark")
    try:
        header = next(csv.reader([first[0]], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise RejectedFileError(f"its header cannot be read: {error}") from error
    _check_names(header)
    if copy.has_quotes:
        _join_quoted_lines(connection, delimiter)
    split_csv(connection, header, delimiter, copy.has_quotes, "line_no > 1 AND raw IS NOT NULL")
    return header


def split_csv(
    connection: duckdb.DuckDBPyConnection, header: Sequence[str], delimiter: str, has_quotes: bool, where: str
) -> None:
    """Fill ``temp.billing_lines`` from the records of ``temp.billing_text`` (line_no, raw) that `where` chooses."""
    d = re.escape(delimiter)
    plain = f"string_split(raw, {literal(delimiter)})"
    quoted = _field(delimiter)
    fields = plain
    if has_quotes:
        fields = (
            f"CASE WHEN NOT contains(raw, '\"') THEN {plain} "
            f"WHEN regexp_full_match(raw, {literal(_record(delimiter))}) THEN list_transform("
            f"regexp_extract_all(raw || {literal(delimiter)}, {literal(f'({quoted}){d}')}, 1), lambda x: "
            f"CASE WHEN starts_with(x, '\"') THEN replace(x[2:-2], '\"\"', '\"') ELSE x END) END"
        )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE billing_lines AS SELECT line_no, raw, f, CASE "
        f"WHEN contains(raw, chr(0)) THEN {_UNREADABLE_REASON} "
        f"WHEN f IS NULL THEN 'a quote that is not closed, or stands inside a value' "
        f"WHEN len(f) < $width THEN 'too few fields' WHEN len(f) > $width THEN 'too many fields' END AS broken "
        f"FROM (SELECT line_no, raw, {fields} AS f FROM billing_text WHERE {where})",
        {"width": len(header)},
    )


def _field(delimiter: str) -> str:
    return f'"(?:[^"]|"")*"|[^"{re.escape(delimiter)}]*'


def _record(delimiter: str) -> str:
    field = _field(delimiter)
    return f"(?:{field})(?:{re.escape(delimiter)}(?:{field}))*"


def _join_quoted_lines(connection: duckdb.DuckDBPyConnection, delimiter: str) -> None:
    """A quote that is open at the end of a line carries the record on to the next.

    Lines that make no record together stay as they are, so that a stray quote costs its own line and no other.
    """
    open_quote = "(length(raw) - length(replace(raw, '\"', ''))) % 2"
    row = connection.execute(f"SELECT count(*) FROM billing_text WHERE {open_quote} = 1").fetchone()
    if row is None or row[0] == 0:
        return
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE billing_text AS "
        f"WITH counted AS (SELECT line_no, raw, coalesce(sum({open_quote}) OVER (ORDER BY line_no "
        f"ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) % 2 AS inside FROM billing_text), "
        f"numbered AS (SELECT line_no, raw, count(*) FILTER (inside = 0) OVER (ORDER BY line_no "
        f"ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS record FROM counted), "
        f"joined AS (SELECT record, min(line_no) AS first_line, count(*) > 1 AS is_joined, "
        f"string_agg(coalesce(raw, ''), chr(10) ORDER BY line_no) AS text FROM numbered GROUP BY record HAVING count(*) = 1 "
        f"OR regexp_full_match(text, {literal(_record(delimiter))})) "
        f"SELECT n.line_no, CASE WHEN j.is_joined THEN j.text ELSE n.raw END AS raw FROM numbered AS n "
        f"LEFT JOIN joined AS j USING (record) WHERE j.record IS NULL OR n.line_no = j.first_line"
    )


def _jsonl(connection: duckdb.DuckDBPyConnection) -> list[str]:
    names = [
        row[0]
        for row in connection.execute(
            f"SELECT DISTINCT unnest(json_keys(CASE WHEN {_IS_OBJECT} THEN raw END)) AS name FROM billing_text "
            "WHERE raw IS NOT NULL ORDER BY name"
        ).fetchall()
    ]
    if len(names) > 1000:
        raise RejectedFileError("its objects have more than a thousand different keys")
    for name in names:
        if not name or '"' in name or "\\" in name or "\0" in name:
            raise RejectedFileError(f"its objects have a key that cannot be a column: {name!r}")
    split_jsonl(connection, names)
    return names


def split_jsonl(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Fill ``temp.billing_lines`` from the objects in ``temp.billing_text`` (line_no, raw)."""
    paths = "[" + ", ".join(literal(f'$."{name}"') for name in names) + "]"
    fields = f"json_extract_string({_VALID_JSON}, {paths})" if names else "[]::VARCHAR[]"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE billing_lines AS SELECT line_no, raw, "
        f"CASE WHEN {_IS_OBJECT} THEN {fields} END AS f, CASE "
        f"WHEN contains(raw, chr(0)) THEN {_UNREADABLE_REASON} WHEN NOT ({_IS_OBJECT}) THEN 'not a JSON object' END "
        f"AS broken FROM billing_text WHERE raw IS NOT NULL"
    )


def _parquet(connection: duckdb.DuckDBPyConnection, copy: Copy) -> list[str]:
    try:
        described = connection.execute(
            "DESCRIBE SELECT * FROM read_parquet($path)", {"path": str(copy.path)}
        ).fetchall()
        names = [row[0] for row in described]
        _check_names(names)
        fields = ", ".join(f"CAST({ident(name)} AS VARCHAR)" for name in names)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE billing_lines AS SELECT row_number() OVER () AS line_no, "
            f"NULL::VARCHAR AS raw, [{fields}] AS f, NULL::VARCHAR AS broken FROM read_parquet($path)",
            {"path": str(copy.path)},
        )
    except (duckdb.IOException, duckdb.BinderException) as error:
        raise RejectedFileError(f"it cannot be read as parquet: {_first_line(error)}") from error
    return names


def _check_names(names: list[str]) -> None:
    if not all(names):
        raise RejectedFileError("a column of its header has no name")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RejectedFileError(f"column {', '.join(twice)} stands twice in its header")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
