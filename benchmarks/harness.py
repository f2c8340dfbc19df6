"""Measures two variants of one piece of work, in turns, each in a process of its own.

A benchmark is a module with ``TITLE``, ``REFERENCE`` (what ours is compared with), ``ROUNDS``, and

* ``prepare(folder, quick)``: a context manager that makes the data, or serves it, and gives its size in words;
* ``ours(folder, work)`` and ``reference(folder, work)``: get ready and give the function whose seconds count. It may
  return more figures by name. They import what they need themselves, so that a reference carries none of our imports.

It may have ``LIMITS``: figure -> the ratio it should stay under, "" for every other figure; the table marks what is over.

Seconds are those of that function; CPU and peak memory those of the whole process, start and imports included.
This process stays small: a child's peak memory is never below that of the process that started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Protocol, cast

Job = Callable[[], dict[str, float] | None]


class Benchmark(Protocol):
    """What a benchmark module holds."""

    TITLE: str
    REFERENCE: str
    ROUNDS: int

    def prepare(self, folder: Path, quick: bool) -> AbstractContextManager[str]:
        """Make or serve the data."""

    def ours(self, folder: Path, work: Path) -> Job:
        """Get our variant ready."""

    def reference(self, folder: Path, work: Path) -> Job:
        """Get the reference ready."""


@dataclass(frozen=True)
class Figure:
    """One line of the table: medians, and the ratio of each round."""

    name: str
    ours: float
    reference: float
    ratios: tuple[float, ...]
    limit: float | None = None

    @property
    def is_over(self) -> bool:
        """The ratio of the medians is over the limit; a cost under a tenth of a second is too small to judge."""
        return self.limit is not None and self.ours >= 0.1 and self.ours > self.limit * self.reference


@dataclass(frozen=True)
class Result:
    """What one benchmark measured."""

    title: str
    size: str
    reference_is: str
    figures: tuple[Figure, ...]


def load(name: str) -> Benchmark:
    """The benchmark of this name."""
    return cast(Benchmark, import_module(f"benchmarks.{name}"))


def run(name: str, quick: bool) -> Result:
    """Measure a benchmark; variants take turns, and so does who goes first."""
    module = load(name)
    limits: dict[str, float] = getattr(module, "LIMITS", {})
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder, _prepared(name, folder, quick) as size:
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(1 if quick else module.ROUNDS):
            order = ("ours", "reference") if number % 2 == 0 else ("reference", "ours")
            rounds.append({variant: _measure(name, variant, folder) for variant in order})
    figures = []
    for figure in rounds[0]["ours"]:
        # A figure that only ours has, such as the seconds of one mart, is held against the whole reference.
        other = figure if figure in rounds[0]["reference"] else "seconds"
        ours = [one["ours"][figure] for one in rounds]
        reference = [one["reference"][other] for one in rounds]
        ratios = tuple(sorted(a / b for a, b in zip(ours, reference, strict=True)))
        figures.append(
            Figure(figure, median(ours), median(reference), ratios, limits.get(figure, limits.get("")))
        )
    return Result(module.TITLE, size, module.REFERENCE, tuple(figures))


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.harness", *arguments]


@contextmanager
def _prepared(name: str, folder: str, quick: bool) -> Iterator[str]:
    """Prepare in a process that lives as long as the context; it may be a server."""
    command = _command("prepare", name, folder, str(int(quick)))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        size = process.stdout.readline().strip()
        if not size:
            raise RuntimeError(f"{name}: nothing was prepared; the reason is above")
        yield size
        process.stdin.close()


def _measure(name: str, variant: str, folder: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as work:
        process = subprocess.Popen(
            _command("measure", name, variant, folder, work), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout as output:
            lines = output.read().splitlines()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{name}: {variant} ended with code {process.returncode}; the reason is above")
    measured: dict[str, float] = json.loads(lines[-1])
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return {
        "seconds": measured.pop("seconds"),
        "CPU seconds": usage.ru_utime + usage.ru_stime,
        "peak MiB": usage.ru_maxrss / unit,
        **measured,
    }


def main(arguments: list[str]) -> None:
    """What the children do: prepare until stdin ends, or measure one variant once."""
    match arguments:
        case ["prepare", name, folder, quick]:
            with load(name).prepare(Path(folder), quick == "1") as size:
                print(size, flush=True)
                sys.stdin.read()
        case ["measure", name, variant, folder, work]:
            module = load(name)
            job = (module.ours if variant == "ours" else module.reference)(Path(folder), Path(work))
            started = perf_counter()
            more = job() or {}
            print(json.dumps({"seconds": perf_counter() - started, **more}))
        case _:
            raise SystemExit("python -m benchmarks runs the benchmarks; this module runs their children")


if __name__ == "__main__":
    main(sys.argv[1:])
