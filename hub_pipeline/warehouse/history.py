"""Persons in Dagster's history: the event log, samples of failed checks, and what steps printed."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from hub_pipeline.errors import WarehouseError
from hub_pipeline.warehouse.scrub import ERASED, Person

#: A short number may be a count; ids of HubSpot contacts are longer.
_SHORTEST_ID = 6


def clean_history(data_dir: Path, person: Person) -> int:
    """Replace addresses and ids of the persons in Dagster's home of this data folder.

    Returns:
        The number of files that were changed.

    Raises:
        WarehouseError: a file is in use or damaged; repeat when no other process has it open.
    """
    home = Path(os.environ.get("DAGSTER_HOME", data_dir / "dagster_home"))
    ids = sorted(one for one in person.canonical | person.contacts if len(one) >= _SHORTEST_ID)
    searched = [re.escape(one) for one in (*sorted(person.emails), *ids)]
    if not home.is_dir() or not searched:
        return 0
    pattern = re.compile(rf"(?i)(?<![\w.+-])(?:{'|'.join(searched)})(?![\w-])")
    changed = 0
    for path in sorted(home.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        try:
            if path.suffix == ".db":
                changed += _clean_database(path, pattern)
            elif path.suffix in (".err", ".out"):
                changed += _clean_text(path, pattern)
        except (OSError, sqlite3.Error) as error:
            raise WarehouseError(
                f"Dagster's history {path} could not be cleaned: {error}. What was cleaned before it is kept; close "
                "the UI and repeat."
            ) from error
    return changed


def _clean_database(path: Path, pattern: re.Pattern[str]) -> int:
    def holds(value: object) -> bool:
        return isinstance(value, str) and pattern.search(value) is not None

    def cleaned(value: str) -> str:
        return pattern.sub(ERASED, value)

    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        connection.create_function("holds", 1, holds, deterministic=True)
        connection.create_function("cleaned", 1, cleaned, deterministic=True)
        # Freed pages are overwritten with zeros, so nothing is left for a byte search.
        connection.execute("PRAGMA secure_delete = ON")
        rows = 0
        for (table,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall():
            for _, column, kind, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                if kind.upper().startswith(("TEXT", "VARCHAR")):
                    name = '"' + column.replace('"', '""') + '"'
                    rows += connection.execute(
                        f'UPDATE "{table}" SET {name} = cleaned({name}) WHERE holds({name})'
                    ).rowcount
        if rows:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return 1 if rows else 0


def _clean_text(path: Path, pattern: re.Pattern[str]) -> int:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    cleaned = pattern.sub(ERASED, text)
    if cleaned == text:
        return 0
    path.write_bytes(cleaned.encode("utf-8", "surrogateescape"))
    return 1
