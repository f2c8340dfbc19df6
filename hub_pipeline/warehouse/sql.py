"""Quoting for SQL that is put together: names are quoted here, values are bound wherever DuckDB lets them be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def ident(name: str) -> str:
    """A quoted identifier; any text without a NUL byte is a legal name.

    Raises:
        ValueError: the name is empty or holds a NUL byte, which no identifier can.
    """
    if not name or "\0" in name:
        raise ValueError(f"{name!r} cannot be the name of a table or column")
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, table: str, database: str | None = None) -> str:
    """``"schema"."table"``, or with the database in front."""
    parts = (schema, table) if database is None else (database, schema, table)
    return ".".join(ident(part) for part in parts)


def idents(names: Iterable[str], prefix: str = "") -> str:
    """Quoted names, comma separated, each behind ``prefix`` (an alias with its dot)."""
    return ", ".join(prefix + ident(name) for name in names)


def literal(text: str) -> str:
    """A quoted string, for the statements that take no parameters (COMMENT ON, ATTACH, options)."""
    if "\0" in text:
        raise ValueError("a text with a NUL byte cannot be written into SQL")
    return "'" + text.replace("'", "''") + "'"


def struct_literal(values: Mapping[str, str]) -> str:
    """``{'name': 'TYPE', ...}`` as table functions take it in ``columns =``."""
    return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in values.items()) + "}"


def glob_escape(path: str) -> str:
    """A path that names only itself where DuckDB would read ``*``, ``?`` and ``[`` as a pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)
