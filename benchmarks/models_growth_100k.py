"""How the cost of each table of one day grows from 10,000 to 100,000 organisations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import Job
from benchmarks.models import build_day, make

TITLE = "models of one day, ten times the organisations"
REFERENCE = "the same tables of a tenth of the organisations; 12.6 times is N to the power of 1.1"
ROUNDS = 1
SIZES = (10_000, 100_000)
#: Ten to the power of 1.1; less than a tenth of a second is too little to judge.
LIMITS = {"": 10**1.1}


@contextmanager
def prepare(folder: Path, quick: bool) -> Iterator[str]:
    """Make both worlds and load them up to staging."""
    yield make_two(folder, (1_000, 10_000) if quick else SIZES)


def make_two(folder: Path, sizes: tuple[int, int]) -> str:
    """A small and a large world, each in a folder of its own."""
    for name, size in zip(("small", "large"), sizes, strict=True):
        (folder / name).mkdir()
        words = make(folder / name, size)
    return words


def ours(folder: Path, work: Path) -> Job:
    """Build the day of the large world."""
    return lambda: build_day(folder / "large")


def reference(folder: Path, work: Path) -> Job:
    """Build the day of the small world."""
    return lambda: build_day(folder / "small")
