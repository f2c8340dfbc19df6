"""Canonical files of a team that brings its own: ``DIR/<table>.(ndjson|jsonl|csv|parquet)[.gz|.zst]`` -> ``inputs.*``.

Every value is read as text and typed by strict rules, never by guessing: DuckDB's own casts accept ``0x10``, ``1_000``
and ``1e3``, read 2.5 into a BIGINT as 3, and let NaN pass. A row that does not fit is kept in ``inputs.quarantine``
with its file, line, reason and text; rows = accepted + quarantined.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from hub_pipeline.errors import DataRefusedError
from hub_pipeline.models.contract import ModelError
from hub_pipeline.models.engine import Guard, stage
from hub_pipeline.models.graph import Catalog, InputColumn, InputTable, catalog
from hub_pipeline.models.macros import create_macros
from hub_pipeline.settings import Settings
from hub_pipeline.warehouse.sql import glob_escape, ident, literal, qualified

_ENDINGS = re.compile(r"^(?P<table>.+?)\.(?P<format>ndjson|jsonl|csv|parquet)(?:\.(?:gz|zst))?$")
#: One record must fit; a longer line means that the file is not what its name says.
_MAX_LINE = 64 * 1024 * 1024
#: A byte that JSON escapes and CSV has no use for, so that each line is one column.
_NO_DELIMITER = "\x1f"

_RAW = "_input_lines"
_TEXT = "_input_text"
_TYPED = "_input_typed"


@dataclass(frozen=True)
class InputCounts:
    """Accounting of one canonical table: rows = accepted + quarantined. ``file`` is empty when there was none."""

    table: str
    file: str
    rows: int
    accepted: int
    quarantined: int


def load_inputs(
    connection: duckdb.DuckDBPyConnection,
    directory: Path,
    settings: Settings,
    *,
    models: Catalog | None = None,
    guard: Guard | None = None,
) -> list[InputCounts]:
    """Load every canonical file of a folder into ``inputs.*`` and build ``staging.*``.

    A missing file gives an empty table, a missing column NULL (false for a BOOLEAN, unless inputs.yaml says
    ``unknown``). A TIMESTAMP given as a date is local 00:00 in reporting_tz, with an offset it is converted, without
    one it is UTC.

    Args:
        connection: read-write; ``inputs`` and ``staging`` are replaced.
        directory: flat folder; hidden files are left alone, every other file must be a canonical one.
        settings: for the reporting time zone.
        models: default: the models that ship with the project.
        guard: see `engine.Guard`.

    Returns:
        Counts for every canonical table, in the order of inputs.yaml.

    Raises:
        DataRefusedError: a file or column is unknown, a required column is missing, two files are for one table, or
            a file cannot be read at all.
    """
    models = models or catalog()
    create_macros(connection)
    files = _find_files(directory, models)
    connection.execute("CREATE SCHEMA IF NOT EXISTS inputs")
    connection.execute(
        "CREATE OR REPLACE TABLE inputs.quarantine (file VARCHAR, line BIGINT, reason VARCHAR, raw VARCHAR)"
    )
    counts = []
    for table, definition in models.inputs.items():
        columns = ", ".join(f"{ident(name)} {column.type}" for name, column in definition.columns.items())
        connection.execute(f"CREATE OR REPLACE TABLE {qualified('inputs', table)} ({columns})")
        if table in files:
            counts.append(_load(connection, table, definition, *files[table], settings.reporting_tz))
        else:
            counts.append(InputCounts(table, "", 0, 0, 0))
    stage(connection, settings, models=models, guard=guard)
    return counts


def _find_files(directory: Path, models: Catalog) -> dict[str, tuple[Path, str]]:
    if not directory.is_dir():
        raise DataRefusedError(f"The folder of canonical files {directory} does not exist.")
    found: dict[str, tuple[Path, str]] = {}
    for path in sorted(directory.iterdir()):
        if path.name.startswith("."):
            continue
        match = _ENDINGS.match(path.name)
        if match is None or match["table"] not in models.inputs or not path.is_file():
            raise DataRefusedError(
                f"{path} is not a canonical file: expected <table>.ndjson, .jsonl, .csv or .parquet (.gz or .zst "
                f"behind it) with a table of {', '.join(models.inputs)}."
            )
        table = match["table"]
        if table in found:
            raise DataRefusedError(f"{found[table][0].name} and {path.name} both hold {table}; keep one.")
        found[table] = (path, match["format"])
    return found


def _load(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    definition: InputTable,
    path: Path,
    kind: str,
    zone: str,
) -> InputCounts:
    with _readable(path):
        if kind == "csv":
            present = _read_csv(connection, path)
        elif kind == "parquet":
            present = _read_parquet(connection, path)
        else:
            present = _read_ndjson(connection, path)
    columns = definition.columns
    unknown = [name for name in present if name not in columns]
    if unknown:
        raise DataRefusedError(
            f"{path} has a column {unknown[0]}, which {table} does not know: {', '.join(columns)}."
        )
    rows = connection.execute(f"SELECT count(*) FROM {_TEXT}").fetchall()[0][0]
    missing = [name for name, column in columns.items() if column.required and name not in present]
    if missing and rows:
        raise DataRefusedError(
            f"{path} lacks the column {missing[0]}, without which a row of {table} means nothing."
        )
    _type_rows(connection, columns, present, zone)
    connection.execute(
        f"INSERT INTO {qualified('inputs', table)} "
        f"SELECT {', '.join(ident(name) for name in columns)} FROM {_TYPED} WHERE _reason IS NULL ORDER BY _line"
    )
    quarantined = connection.execute(
        "INSERT INTO inputs.quarantine "
        f"SELECT {literal(path.name)}, _line, _reason, _raw FROM {_TYPED} WHERE _reason IS NOT NULL ORDER BY _line"
    ).fetchall()[0][0]
    for temporary in (_RAW, _TEXT, _TYPED):
        connection.execute(f"DROP TABLE IF EXISTS {temporary}")
    return InputCounts(table, path.name, rows, rows - quarantined, quarantined)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.FatalException, duckdb.InternalException):
        raise
    except duckdb.Error as error:
        raise DataRefusedError(
            f"{path} cannot be read: it must be UTF-8 text with one kind of line end, or Parquet, complete and of the "
            f"format its name says ({str(error).strip().splitlines()[0]})."
        ) from error


def _read_lines(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Every line that is not empty, with its number."""
    connection.execute(
        f"CREATE OR REPLACE TEMPORARY TABLE {_RAW} AS SELECT line, text FROM ("
        "SELECT row_number() OVER () AS line, text FROM read_csv($path, columns = {'text': 'VARCHAR'}, "
        "auto_detect = false, header = false, delim = $delimiter, quote = '', escape = '', comment = '', "
        "strict_mode = true, max_line_size = $longest, buffer_size = $buffer)) WHERE trim(text) <> ''",
        {
            "path": glob_escape(str(path)),
            "delimiter": _NO_DELIMITER,
            "longest": _MAX_LINE,
            "buffer": 2 * _MAX_LINE,
        },
    )


def _read_ndjson(connection: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    _read_lines(connection, path)
    is_object = "json_valid(text) AND json_type(text) = 'OBJECT'"
    present = [
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT key FROM (SELECT unnest(json_keys(CASE WHEN "
            + is_object
            + f" THEN text END)) AS key "
            f"FROM {_RAW}) ORDER BY key"
        ).fetchall()
    ]
    # One parse for all columns: a list of paths gives a list of texts.
    paths = [f'$."{name.replace(chr(34), chr(92) + chr(34))}"' for name in present]
    fields = ", ".join(f"v[{position}] AS {ident(name)}" for position, name in enumerate(present, start=1))
    connection.execute(
        f"CREATE OR REPLACE TEMPORARY TABLE {_TEXT} AS SELECT {fields + ', ' if fields else ''}line AS _line, "
        "text AS _raw, CASE WHEN v IS NULL THEN 'not a JSON object' END AS _broken FROM ("
        f"SELECT line, text, CASE WHEN {is_object} THEN json_extract_string(text, $paths::VARCHAR[]) END AS v "
        f"FROM {_RAW})",
        {"paths": paths},
    )
    return present


def _read_csv(connection: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    """Comma-separated, quoted as in RFC 4180; the first record names the columns."""
    _read_lines(connection, path)
    if _has_open_quotes(connection):
        _join_quoted_lines(connection)
    first = connection.execute(f"SELECT line, text FROM {_RAW} ORDER BY line LIMIT 1").fetchone()
    if first is None:
        raise DataRefusedError(f"{path} is empty; a CSV file starts with the names of its columns.")
    line, header = first
    present = connection.execute(
        f"SELECT {_CSV_FIELDS.format(record='$header')}", {"header": header}
    ).fetchall()[0][0]
    if present is None or len(set(present)) < len(present) or "" in present:
        raise DataRefusedError(
            f"{path}: its first line does not name the columns, each once, separated by commas."
        )
    fields = ", ".join(
        f"nullif(v[{position}], '') AS {ident(name)}" for position, name in enumerate(present, start=1)
    )
    connection.execute(
        f"CREATE OR REPLACE TEMPORARY TABLE {_TEXT} AS SELECT {fields}, line AS _line, text AS _raw, CASE "
        "WHEN v IS NULL THEN 'a quote is not closed or stands inside a field' "
        "WHEN len(v) <> $width THEN len(v) || ' fields instead of ' || $width END AS _broken FROM ("
        f"SELECT line, text, {_CSV_FIELDS.format(record='text')} AS v FROM {_RAW} WHERE line > $line)",
        {"width": len(present), "line": line},
    )
    return list(present)


_CSV_RECORD = '(?s)("([^"]|"")*"|[^",]*)(,("([^"]|"")*"|[^",]*))*'

#: Fields of a CSV record as a list of texts, NULL when its quotes are wrong. Records without quotes take the fast way.
_CSV_FIELDS = """CASE
    WHEN NOT contains({record}, '"') THEN string_split({record}, ',')
    WHEN regexp_full_match({record}, '(?s)("([^"]|"")*"|[^",]*)(,("([^"]|"")*"|[^",]*))*') THEN list_transform(
        regexp_extract_all({record} || ',', '(?s)("(?:[^"]|"")*"|[^",]*),', 1),
        lambda f: CASE WHEN f[1] = '"' THEN replace(f[2:-2], '""', '"') ELSE f END)
END"""


def _join_quoted_lines(connection: duckdb.DuckDBPyConnection) -> None:
    """Join the lines of records with a line break inside quotes.

    Such a record ends where the quotes so far are even in number. Lines that make no record together are left as they
    are, so that a stray quote costs its own line and not the rest of the file.
    """
    quotes = "length(text) - length(replace(text, '\"', ''))"
    connection.execute(
        f"CREATE OR REPLACE TEMPORARY TABLE {_RAW} AS "
        f"WITH counted AS (SELECT line, text, coalesce(sum({quotes}) OVER (ORDER BY line ROWS BETWEEN UNBOUNDED "
        f"PRECEDING AND 1 PRECEDING), 0) % 2 = 1 AS is_inside FROM {_RAW}), "
        "numbered AS (SELECT line, text, count(*) FILTER (WHERE NOT is_inside) OVER (ORDER BY line ROWS UNBOUNDED "
        "PRECEDING) AS record FROM counted), "
        "joined AS (SELECT record, min(line) AS line, string_agg(text, chr(10) ORDER BY line) AS text FROM numbered "
        "GROUP BY record) "
        "SELECT n.line, CASE WHEN j.is_record THEN j.text ELSE n.text END AS text FROM numbered AS n JOIN "
        f"(SELECT *, regexp_full_match(text, {literal(_CSV_RECORD)}) AS is_record FROM joined) AS j USING (record) "
        "WHERE NOT j.is_record OR n.line = j.line"
    )


def _has_open_quotes(connection: duckdb.DuckDBPyConnection) -> bool:
    return bool(
        connection.execute(
            f"SELECT count(*) FROM {_RAW} WHERE (length(text) - length(replace(text, '\"', ''))) % 2 = 1"
        ).fetchall()[0][0]
    )


def _read_parquet(connection: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    source = f"read_parquet({literal(glob_escape(str(path)))}, file_row_number = true)"
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    present = [str(row[0]) for row in described if row[0] != "file_row_number"]
    fields = ", ".join(f"CAST({ident(name)} AS VARCHAR) AS {ident(name)}" for name in present)
    row = ", ".join(f"{literal(name)}: {ident(name)}" for name in present)
    connection.execute(
        f"CREATE OR REPLACE TEMPORARY TABLE {_TEXT} AS SELECT {fields}, file_row_number + 1 AS _line, "
        f"CAST(to_json({{{row}}}) AS VARCHAR) AS _raw, CAST(NULL AS VARCHAR) AS _broken FROM {source}"
    )
    return present


def _type_rows(
    connection: duckdb.DuckDBPyConnection, columns: dict[str, InputColumn], present: list[str], zone: str
) -> None:
    values, reasons = [], ["WHEN _broken IS NOT NULL THEN _broken"]
    for name, column in columns.items():
        if name not in present:
            missing = "false" if column.is_flag else f"CAST(NULL AS {column.type})"
            values.append(f"{missing} AS {ident(name)}")
            continue
        typed, pattern, wanted = _typing(column.type, ident(name))
        text = ident(name) if column.type == "VARCHAR" else f"trim({ident(name)})"
        value = (
            f"CASE WHEN {pattern.format(text=text)} THEN {typed.format(text=text)} END"
            if pattern
            else ident(name)
        )
        values.append(
            f"coalesce({value}, false) AS {ident(name)}" if column.is_flag else f"{value} AS {ident(name)}"
        )
        if pattern:
            reasons.append(
                f"WHEN nullif({text}, '') IS NOT NULL AND ({value}) IS NULL "
                f"THEN {literal(f'{name} is not {wanted}: ')} || {ident(name)}[:100]"
            )
        if column.required:
            reasons.append(
                f"WHEN nullif(trim({ident(name)}), '') IS NULL THEN {literal(f'{name} is missing')}"
            )
        if column.accepted is not None:
            allowed = ", ".join(literal(value) for value in column.accepted)
            wanted = f"{name} is not one of {', '.join(column.accepted)}: "
            reasons.append(
                f"WHEN nullif(trim({ident(name)}), '') IS NOT NULL AND lower(trim({ident(name)})) NOT IN ({allowed}) "
                f"THEN {literal(wanted)} || {ident(name)}[:100]"
            )
    uses_zone = any(column.type == "TIMESTAMP" and name in present for name, column in columns.items())
    connection.execute(
        f"CREATE OR REPLACE TEMPORARY TABLE {_TYPED} AS SELECT {', '.join(values)}, _line, _raw, "
        f"CASE {' '.join(reasons)} END AS _reason FROM {_TEXT}",
        {"zone": zone} if uses_zone else {},
    )


def _typing(kind: str, column: str) -> tuple[str, str, str]:
    """(expression that types {text}, condition under which it may, what was wanted); an empty condition = as it is."""
    if kind == "VARCHAR":
        return column, "", ""
    if kind == "BIGINT":
        return (
            "TRY_CAST(regexp_replace({text}, '\\.0+$', '') AS BIGINT)",
            "regexp_full_match({text}, '[+-]?[0-9]+(\\.0+)?')",
            "a whole number",
        )
    if kind == "DOUBLE":
        return (
            "CASE WHEN isfinite(TRY_CAST({text} AS DOUBLE)) THEN TRY_CAST({text} AS DOUBLE) END",
            "regexp_full_match({text}, '[+-]?[0-9]+(\\.[0-9]+)?([eE][+-]?[0-9]{{1,3}})?')",
            "a number",
        )
    if kind == "BOOLEAN":
        return (
            "lower({text}) IN ('true', '1')",
            "lower({text}) IN ('true', 'false', '1', '0')",
            "true or false",
        )
    if kind == "DATE":
        return (
            f"CASE WHEN {_YEAR} THEN TRY_CAST({{text}} AS DATE) END",
            "regexp_full_match({text}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}')",
            "a date between 1900 and 2199 (an open end is empty)",
        )
    if kind == "TIMESTAMP":
        return _TIMESTAMP, _IS_TIMESTAMP, "an instant between 1900 and 2199 (an open end is empty)"
    decimal = re.fullmatch(r"DECIMAL\((\d+),\s*(\d+)\)", kind)
    if decimal:
        return (
            f"TRY_CAST({{text}} AS {kind})",
            f"regexp_full_match({{text}}, '[+-]?[0-9]+(\\.[0-9]{{{{0,{decimal[2]}}}}}0*)?')",
            f"a decimal number with at most {decimal[2]} places",
        )
    raise ModelError(f"inputs.yaml: {kind} is not a type of canonical columns.")


_YEAR = "{text}[:4] BETWEEN '1900' AND '2199'"
_DAY = "regexp_full_match({text}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}')"
_TIME = "[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}([.][0-9]{{1,9}})?)?"
_OFFSET = " ?(Z|z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)"
_IS_TIMESTAMP = f"(({_DAY} OR regexp_full_match({{text}}, '{_TIME}({_OFFSET})?')) AND {_YEAR})"
_TIMESTAMP = (
    f"CASE WHEN {_DAY} THEN (CAST(TRY_CAST({{text}} AS DATE) AS TIMESTAMP) AT TIME ZONE $zone) AT TIME ZONE 'UTC' "
    f"WHEN regexp_full_match({{text}}, '{_TIME}') THEN TRY_CAST({{text}} AS TIMESTAMP) "
    "ELSE TRY_CAST({text} AS TIMESTAMPTZ) AT TIME ZONE 'UTC' END"
)
