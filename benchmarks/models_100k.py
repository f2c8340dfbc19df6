"""`benchmarks.models` with 100,000 organisations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.models import LIMITS, REFERENCE, TITLE, make, ours, reference

__all__ = ["LIMITS", "REFERENCE", "ROUNDS", "TITLE", "ours", "prepare", "reference"]

ROUNDS = 1


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Make the world and load it up to staging."""
    yield make(folder, 10_000 if quick else 100_000)
