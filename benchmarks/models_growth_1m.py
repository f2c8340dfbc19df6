"""How the cost of each table of one day grows from 100,000 to 1,000,000 organisations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.models_growth_100k import LIMITS, REFERENCE, ROUNDS, TITLE, make_two, ours, reference

__all__ = ["LIMITS", "REFERENCE", "ROUNDS", "TITLE", "ours", "prepare", "reference"]


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Make both worlds and load them up to staging."""
    yield make_two(folder, (1_000, 10_000) if quick else (100_000, 1_000_000))
