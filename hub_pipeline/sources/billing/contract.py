"""The file contract of billing extracts (contract.yaml) as objects, and the SQL that checks one value of each type.

Nothing is typed by the reader of a file: every value arrives as text, must match the whole pattern of its type, and
only then is cast, because DuckDB's casts accept ``2.5`` as the integer 3, ``0x10``, ``1_000`` and ``infinity``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from hub_pipeline.warehouse.sql import literal

_SQL_TYPES = {
    "text": "VARCHAR",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
    "boolean": "BOOLEAN",
    "integer": "INTEGER",
    "decimal": "DECIMAL(18,6)",
    "minor": "BIGINT",
    "unit_minor": "DECIMAL(38,12)",
    "rate": "DECIMAL(38,18)",
    "currency": "VARCHAR",
    "json": "VARCHAR",
    "enum": "VARCHAR",
}

_EXPECTED = {
    "text": "holds a NUL or more than 1,000,000 characters",
    "timestamp": "not a time such as 2026-03-02T10:00:00Z between 1990 and twenty years from now",
    "date": "not a day such as 2026-03-02 between 1990 and twenty years from now",
    "boolean": "neither true nor false",
    "integer": "not a whole number of at most nine digits",
    "decimal": "not a number of at most 12 digits and 6 decimals",
    "minor": "not a whole number of the currency's smallest unit",
    "unit_minor": "not a number of the currency's smallest unit",
    "rate": "not a rate above zero",
    "currency": "not an ISO 4217 currency",
    "json": "not a JSON object or array",
    "enum": "not a known value",
}

_TIME = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?"
_OFFSET = r"[+-]\d{2}(:?\d{2})?"
_DAY = r"\d{4}-\d{2}-\d{2}"


@dataclass(frozen=True)
class Column:
    """One column of the contract; `default` is the text that an empty value stands for."""

    name: str
    type: str
    meaning: str
    required: bool = False
    default: str | None = None
    values: tuple[str, ...] = ()
    written_as: str = ""

    @property
    def file_name(self) -> str:
        """Name of the column in files, where it cannot be its name in the table."""
        return self.written_as or self.name

    @property
    def sql_type(self) -> str:
        """DuckDB type in raw_billing."""
        return _SQL_TYPES[self.type]

    @property
    def complaint(self) -> str:
        """Reason that a row with an unusable value in this column is quarantined for."""
        return f"{self.name}: {_EXPECTED[self.type]}"

    def cast(self, value: str, local: str = "'UTC'") -> str:
        """SQL that turns the text expression into the column's type; NULL when it is not written as one.

        Times and days may still be implausible: see `plausible`. Uses the parameter ``$zone`` (reporting time zone).

        Args:
            local: SQL of the time zone of times without an offset.
        """
        v = f"({value})"
        numbers = {
            "integer": r"\d{1,9}",
            "decimal": r"\d{1,12}(\.\d{1,6})?",
            "minor": r"-?\d{1,15}",
            "unit_minor": r"-?\d{1,15}(\.\d{1,12})?",
            "rate": r"\d{1,12}(\.\d{1,18})?",
        }
        if self.type in numbers:
            number = f"CASE WHEN regexp_full_match({v}, {literal(numbers[self.type])}) THEN CAST({v} AS {self.sql_type}) END"
            return f"nullif({number}, 0)" if self.type == "rate" else number
        if self.type == "timestamp":
            utc = local == "'UTC'"
            plain = f"TRY_CAST({v} AS TIMESTAMP)"
            if not utc:
                plain = f"CASE WHEN ends_with({v}, 'Z') THEN {plain} ELSE timezone('UTC', timezone({local}, {plain})) END"
            return (
                # DuckDB reads an offset into a TIMESTAMP and ignores it; only TIMESTAMPTZ honours it.
                f"CASE WHEN regexp_full_match({v}, {literal(_TIME + 'Z?')}) THEN {plain} "
                f"WHEN regexp_full_match({v}, {literal(_TIME + _OFFSET)}) "
                f"THEN TRY_CAST({v} AS TIMESTAMPTZ) AT TIME ZONE 'UTC' "
                f"WHEN regexp_full_match({v}, {literal(_DAY)}) THEN {local_midnight(f'TRY_CAST({v} AS DATE)')} "
                f"WHEN regexp_full_match({v}, '\\d{{9,11}}') THEN make_timestamp(CAST({v} AS BIGINT) * 1000000) END"
            )
        if self.type == "date":
            return f"CASE WHEN regexp_full_match({v}, {literal(_DAY)}) THEN TRY_CAST({v} AS DATE) END"
        if self.type == "boolean":
            return f"CASE lower({v}) WHEN 'true' THEN true WHEN 'false' THEN false END"
        if self.type == "currency":
            codes = ", ".join(literal(code) for group in currencies().values() for code in group)
            return f"CASE WHEN upper({v}) IN ({codes}) THEN upper({v}) END"
        if self.type == "enum":
            return f"CASE WHEN {v} IN ({', '.join(map(literal, self.values))}) THEN {v} END"
        if self.type == "json":
            valid = f"CASE WHEN json_valid({v}) THEN {v} END"  # json_type fails on what is not JSON
            return f"CASE WHEN json_type({valid}) IN ('OBJECT', 'ARRAY') THEN {v} END"
        return f"CASE WHEN NOT contains({v}, chr(0)) AND length({v}) <= 1000000 THEN {v} END"

    def plausible(self, value: str) -> str:
        """SQL of the typed value, NULL when it is a time outside 1990 to ``$latest``."""
        if self.type == "timestamp":
            return f"CASE WHEN {value} BETWEEN TIMESTAMP '1990-01-01' AND $latest::TIMESTAMP THEN {value} END"
        if self.type == "date":
            return (
                f"CASE WHEN {value} BETWEEN DATE '1990-01-01' AND $latest::TIMESTAMP::DATE THEN {value} END"
            )
        return value


@dataclass(frozen=True)
class Table:
    """One table of the contract.

    Attributes:
        name: its name in file names and in raw_billing.
        key: columns that, with the source, identify a record.
        created: column that dates the first version of a record.
        absence_is_deletion: whether a full file deletes the records that it leaves out.
        shrink_is_guarded: whether a full file that lists far fewer records than the one before is held.
        counted_by: column of the day that a record counts, where only records of one day are compared for that.
        columns: in order.
    """

    name: str
    key: tuple[str, ...]
    created: str
    meaning: str
    absence_is_deletion: bool
    shrink_is_guarded: bool
    counted_by: str | None
    columns: dict[str, Column]


#: What one line must satisfy across its columns: table -> (reason, condition that is true for a bad row). Conditions
#: see the typed columns, the text of a column as ``text_<column>``, and ``$max_seats``.
ROW_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "customers": (),
    "subscriptions": (
        ("ended_at: before started_at", "ended_at < started_at"),
        ("cancel_at: before started_at", "cancel_at < started_at"),
        (
            "current_period_end_at: before current_period_start_at",
            "current_period_end_at < current_period_start_at",
        ),
    ),
    "subscription_items": (
        (
            "quantity: seats are a whole number of at most nine digits",
            r"seat_role = 'seat' AND text_quantity IS NOT NULL AND NOT regexp_full_match(text_quantity, '\d{1,9}')",
        ),
        ("quantity: more seats than billing.max_seats", "seat_role = 'seat' AND quantity > $max_seats"),
        ("seats: more than billing.max_seats", "seats > $max_seats"),
        ("quantity: empty, and the item is not metered", "quantity IS NULL AND usage_type <> 'metered'"),
        ("discount_minor: negative", "discount_minor < 0"),
        ("interval_count: zero", "interval_count = 0"),
    ),
    "subscription_schedules": (
        ("phase_no: zero", "phase_no = 0"),
        ("phase_end_at: before phase_start_at", "phase_end_at < phase_start_at"),
        (
            "quantity: seats are a whole number of at most nine digits",
            r"seat_role = 'seat' AND text_quantity IS NOT NULL AND NOT regexp_full_match(text_quantity, '\d{1,9}')",
        ),
        ("quantity: more seats than billing.max_seats", "seat_role = 'seat' AND quantity > $max_seats"),
        ("interval_count: zero", "interval_count = 0"),
    ),
    "seat_products": (),
    "daily_seats": (("seats: more than billing.max_seats", "seats > $max_seats"),),
    "invoices": (
        ("discount_minor: negative", "discount_minor < 0"),
        ("period_end_at: before period_start_at", "period_end_at < period_start_at"),
    ),
    "invoice_lines": (
        ("discount_minor: negative", "discount_minor < 0"),
        ("period_end_at: before period_start_at", "period_end_at < period_start_at"),
    ),
    "identities": (
        ("valid_to: before valid_from", "valid_to < valid_from"),
        ("key: the same as org_id", "key = org_id AND relation <> 'customer'"),
    ),
    "nps_responses": (("score: not from 0 to 10", "score > 10"),),
    "fx_rates": (),
}


def local_midnight(day: str) -> str:
    """SQL of the UTC instant of local 00:00 of a DATE expression; uses ``$zone``."""
    return f"CAST({day} AS TIMESTAMP) AT TIME ZONE $zone AT TIME ZONE 'UTC'"


@cache
def currencies() -> dict[int, tuple[str, ...]]:
    """ISO 4217 codes by the number of decimals of the currency (currencies.yaml)."""
    return {int(exponent): tuple(codes.split()) for exponent, codes in _yaml("currencies.yaml").items()}


@cache
def contract() -> dict[str, Table]:
    """The tables of the contract, in the order in which they are loaded."""
    tables: dict[str, Table] = {}
    for name, table in _yaml("contract.yaml")["tables"].items():
        columns = {
            column: Column(
                name=column,
                type=values["type"],
                meaning=values["meaning"],
                required=values.get("required", False),
                default=values.get("default"),
                values=tuple(values.get("values", ())),
                written_as=values.get("written_as", ""),
            )
            for column, values in table["columns"].items()
        }
        tables[name] = Table(
            name=name,
            key=tuple(table["key"]),
            created=table["created"],
            meaning=table["meaning"],
            absence_is_deletion=table.get("absence_is_deletion", True),
            shrink_is_guarded=table.get("shrink_is_guarded", table.get("absence_is_deletion", True)),
            counted_by=table.get("counted_by"),
            columns=columns,
        )
    return tables


def _yaml(name: str) -> Any:
    text = resources.files("hub_pipeline.sources.billing").joinpath(name).read_text(encoding="utf-8")
    return yaml.safe_load(text)
