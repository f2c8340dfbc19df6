"""Mapping files: how a foreign extract becomes rows of the contract. A mapping is data, not code.

A mapping file is TOML with one ``[[file]]`` for each kind of file and one ``[[file.table]]`` for each table of the
contract that it fills; docs/billing.md describes every key and docs/examples/ravenstack.toml is a whole example.
What a mapping cannot turn into the contract's form is left as it is, so that validation names it with its line.
"""

from __future__ import annotations

import datetime
import re
import tomllib
import zoneinfo
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.sources.billing.contract import Table, contract, currencies
from hub_pipeline.warehouse.sql import literal

_DATE_IN_NAME = "{date}"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Value(_Part):
    """Where the value of one column of the contract comes from.

    Attributes:
        column: column of the file.
        by, columns: alternatively, the value of column `by` says which column of the file to take.
        constant: alternatively, the same text for every row.
        values: text of the file -> text of the contract; other texts stay as they are.
        format: how the file writes times, in strptime's letters; with ``%z`` the offset is honoured.
        unit: ``major`` = the file writes 12.50 where the contract wants 1250.
    """

    column: str | None = None
    by: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    constant: str | None = None
    values: dict[str, str] = Field(default_factory=dict)
    format: str | None = None
    unit: Literal["minor", "major"] = "minor"

    @model_validator(mode="after")
    def _one_origin(self) -> Value:
        if sum((self.column is not None, self.by is not None, self.constant is not None)) != 1:
            raise ValueError("give exactly one of column, by or constant")
        if (self.by is None) != (not self.columns):
            raise ValueError("`by` and `columns` belong together")
        return self

    @property
    def file_columns(self) -> tuple[str, ...]:
        """Columns of the file that it needs."""
        return tuple(name for name in (self.column, self.by, *self.columns.values()) if name is not None)


def _short(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


class TableMapping(_Part):
    """How the rows of a file become rows of one table.

    `currency` or `currency_column` says which currency amounts in major units are in, for a table that has no
    currency column of its own.
    """

    table: str
    columns: dict[str, Annotated[Value, BeforeValidator(_short)]]
    currency: str | None = None
    currency_column: str | None = None

    @model_validator(mode="after")
    def _fits_the_contract(self) -> TableMapping:
        tables = contract()
        if self.table not in tables:
            raise ValueError(f"{self.table!r} is not a table of the contract ({', '.join(tables)})")
        table = tables[self.table]
        unknown = [name for name in self.columns if name not in table.columns]
        if unknown:
            raise ValueError(f"{self.table} has no column {', '.join(unknown)}")
        missing = [c.name for c in table.columns.values() if c.required and c.name not in self.columns]
        if missing:
            raise ValueError(f"{self.table} needs {', '.join(missing)}")
        for name, value in self.columns.items():
            if value.unit == "major":
                if table.columns[name].type not in ("minor", "unit_minor"):
                    raise ValueError(f"{name} is not money, so it has no unit")
                if not (self.currency or self.currency_column or "currency" in self.columns):
                    raise ValueError(
                        f"{name} is in major units: say in which currency (currency or currency_column)"
                    )
        return self


class FileMapping(_Part):
    """One kind of file.

    Attributes:
        name: file name, with ``*`` for anything and ``{date}`` for a day as 2026-03-02.
        date: the extract's own date, when the name has none.
        kind: ``full`` = lists everything alive; ``delta`` = lists what changed.
        source: only in the folder of this billing system; None = in any.
        delimiter, decimal, thousands: how its CSV writes fields and numbers.
        encoding: how lines that are not UTF-8 are read; None = they are quarantined.
        timezone: zone of times that have no offset; None = UTC.
        table: what it fills.
    """

    name: str
    date: datetime.date | None = None
    kind: Literal["full", "delta"] = "full"
    source: str | None = None
    encoding: Literal["latin-1", "windows-1252"] | None = None
    timezone: str | None = None
    delimiter: str = Field(",", min_length=1, max_length=1, pattern=r'^[^"\r\n]$')
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", " ", "'"] = ""
    table: list[TableMapping] = Field(min_length=1)

    @model_validator(mode="after")
    def _dated_once(self) -> FileMapping:
        if (self.date is None) != (_DATE_IN_NAME in self.name):
            raise ValueError(f"{self.name}: give either date = or {_DATE_IN_NAME} in the name")
        if self.decimal == self.thousands:
            raise ValueError(f"{self.name}: decimal and thousands cannot be the same character")
        if self.timezone is not None and self.timezone not in zoneinfo.available_timezones():
            raise ValueError(f"{self.name}: {self.timezone!r} is not a time zone such as Europe/Berlin")
        return self

    def matches(self, source: str, file_name: str) -> datetime.date | None:
        """The extract's date if the file is of this kind; a name with an impossible date is not."""
        if self.source not in (None, source):
            return None
        pattern = (
            re.escape(self.name)
            .replace(r"\*", ".*")
            .replace(re.escape(_DATE_IN_NAME), r"(\d{4}-\d{2}-\d{2})", 1)
        )
        found = re.fullmatch(pattern, file_name)
        if not found:
            return None
        if self.date:
            return self.date
        try:
            return datetime.date.fromisoformat(found[1])
        except ValueError:
            return None


class _MappingFile(_Part):
    file: list[FileMapping] = Field(min_length=1)


def read_mappings(paths: Iterable[str], beside: Path) -> list[FileMapping]:
    """The file mappings of all mapping files, in order; the first that matches a file is used.

    Args:
        paths: as in the setting billing.mappings.
        beside: folder that relative paths start from: the settings file's.

    Raises:
        ConfigurationError: a mapping file cannot be read or does not fit the contract; each mistake is named.
    """
    mappings: list[FileMapping] = []
    for text in paths:
        path = beside / text
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"The mapping file {path} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"The mapping file {path} is not valid TOML: {error}.") from error
        try:
            mappings.extend(_MappingFile.model_validate(values).file)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigurationError(f"The mapping file {path} has mistakes: {problems}.") from error
    return mappings


def identity(table: Table, header: Sequence[str]) -> TableMapping:
    """The mapping of a file that follows the contract; columns the file lacks keep their default.

    Raises:
        ValueError: a required column is missing.
    """
    missing = [c.file_name for c in table.columns.values() if c.required and c.file_name not in header]
    if missing:
        raise ValueError(f"column {', '.join(missing)} is missing")
    written = {c.file_name: c.name for c in table.columns.values()}
    return TableMapping(
        table=table.name, columns={written[n]: Value(column=n) for n in header if n in written}
    )


def text_expressions(
    mapping: TableMapping, file: FileMapping | None, header: Sequence[str]
) -> dict[str, str]:
    """SQL of the text of each mapped column over ``f``, the list of a line's fields in the order of `header`.

    Raises:
        ValueError: the file lacks a column that the mapping names.
    """
    position = {name: i + 1 for i, name in enumerate(header)}
    lacking = sorted(
        {
            name
            for value in mapping.columns.values()
            for name in (*value.file_columns, mapping.currency_column)
            if name is not None and name not in position
        }
    )
    if lacking:
        raise ValueError(f"column {', '.join(lacking)} is missing")

    def field(name: str) -> str:
        return f"nullif(f[{position[name]}], '')"

    table = contract()[mapping.table]
    if "currency" in mapping.columns:
        currency = _origin(mapping.columns["currency"], field)
    elif mapping.currency_column:
        currency = field(mapping.currency_column)
    else:
        currency = literal(mapping.currency or "")
    expressions = {}
    for name, value in mapping.columns.items():
        text = _origin(value, field)
        if file and table.columns[name].type in ("minor", "unit_minor", "decimal", "integer", "rate"):
            if file.thousands:
                text = f"replace({text}, {literal(file.thousands)}, '')"
            if file.decimal == ",":
                text = f"replace({text}, ',', '.')"
        if value.format is not None:
            text = _iso(text, value.format)
        if value.unit == "major":
            text = _minor(text, currency, decimals=12 if table.columns[name].type == "unit_minor" else 0)
        expressions[name] = text
    return expressions


def extra_expression(mapped: Iterable[TableMapping], header: Sequence[str]) -> str:
    """SQL of the JSON object of the filled columns that no mapping uses: nothing is lost."""
    used = {name for m in mapped for v in m.columns.values() for name in (*v.file_columns, m.currency_column)}
    rest = [(i + 1, name) for i, name in enumerate(header) if name not in used]
    if not rest:
        return "NULL::VARCHAR"
    pairs = ", ".join(f"{literal(name)}, nullif(f[{i}], '')" for i, name in rest)
    return f"CAST(json_object({pairs}) AS VARCHAR)"


def _origin(value: Value, field: Any) -> str:
    if value.constant is not None:
        text = literal(value.constant)
    elif value.by is not None:
        cases = " ".join(f"WHEN {literal(k)} THEN {field(v)}" for k, v in value.columns.items())
        text = f"CASE {field(value.by)} {cases} END"
    else:
        text = field(value.column)
    if value.values:
        cases = " ".join(f"WHEN {literal(k)} THEN {literal(v)}" for k, v in value.values.items())
        text = f"CASE {text} {cases} ELSE {text} END"
    return text


def _iso(text: str, form: str) -> str:
    """A time in the file's own form becomes ISO; what is not in that form stays and will be quarantined."""
    has_time = any(code in form for code in ("%H", "%I", "%s", "%X", "%c"))
    written = "'%Y-%m-%dT%H:%M:%SZ'" if "%z" in form else "'%Y-%m-%dT%H:%M:%S'" if has_time else "'%Y-%m-%d'"
    parsed = f"try_strptime({text}, {literal(form)})"
    if "%z" in form:
        parsed = f"({parsed} AT TIME ZONE 'UTC')"
    return f"coalesce(strftime({parsed}, {written}), {text})"


def _minor(text: str, currency: str, decimals: int) -> str:
    """12.50 USD becomes 1250, 1000 JPY 1000; more decimals than the currency has are left to be quarantined."""
    branches = []
    for exponent, codes in currencies().items():
        quoted = ", ".join(map(literal, codes))
        allowed = exponent + decimals
        pattern = rf"-?\d{{1,12}}(\.\d{{1,{allowed}}}0*)?" if allowed else r"-?\d{1,12}(\.0+)?"
        scaled = f"CAST({text} AS DECIMAL(28,{max(allowed, 1)})) * {10**exponent}"
        target = f"CAST({scaled} AS DECIMAL(38,12))" if decimals else f"CAST({scaled} AS BIGINT)"
        written = (
            f"regexp_replace(CAST({target} AS VARCHAR), '\\.?0+$', '')"
            if decimals
            else f"CAST({target} AS VARCHAR)"
        )
        branches.append(
            f"WHEN upper({currency}) IN ({quoted}) AND regexp_full_match({text}, {literal(pattern)}) THEN {written}"
        )
    return f"CASE {' '.join(branches)} ELSE {text} || coalesce(' ' || {currency}, ' without a currency') END"
