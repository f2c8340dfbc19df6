"""``python -m benchmarks [--quick] [name ...]``: measures, and prints one table."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Result, run

HUBSPOT = (
    "hubspot",
    "hubspot_engine",
    "hubspot_million",
    "hubspot_client",
    "hubspot_limited",
    "hubspot_changes",
    "hubspot_dagster",
)
#: Minutes to an hour each, and gigabytes of disk; only when they are named.
LARGE = ("models_100k", "models_1m", "models_growth_100k", "models_growth_1m", "models_one_more_day")
#: In the order of the table; each is a module of this package.
BENCHMARKS = ("loader", *HUBSPOT, "intercom", "billing", "ledger", "models", "orchestration")


def table(results: Sequence[Result], markdown: bool) -> Table:
    """All figures; under each title what it was measured on."""
    shown = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD, collapse_padding=True)
    shown.add_column("benchmark")
    shown.add_column("figure", no_wrap=True)
    for column in ("ours", "reference", "ratio"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("the reference is")
    for result in results:
        first = (f"{result.title}: {result.size}", result.reference_is)
        for figure in result.figures:
            ratio = _ratio(figure.ours / figure.reference)
            if len(figure.ratios) > 1:
                ratio += f" ({_ratio(figure.ratios[0])}-{_ratio(figure.ratios[-1])})"
            if figure.is_over and figure.limit is not None:
                ratio += f", over {_ratio(figure.limit)}"
            shown.add_row(
                first[0], figure.name, _number(figure.ours), _number(figure.reference), ratio, first[1]
            )
            first = ("", "")
        if not markdown:
            shown.add_section()
    return shown


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.5f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def main() -> None:
    """Run the benchmarks that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"of {', '.join(BENCHMARKS)} (the default), {', '.join(LARGE)}",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a tenth of the data, one round, without the daily job: half a minute",
    )
    parser.add_argument("--markdown", action="store_true", help="a table to paste into docs/benchmarks.md")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - {*BENCHMARKS, *LARGE}):
        parser.error(f"there is no benchmark {unknown[0]}")
    results = []
    progress = Console(stderr=True)
    # The demo company has one size, so the daily job cannot be made quick.
    everything = BENCHMARKS[:-1] if options.quick else BENCHMARKS
    for name in options.names or everything:
        with progress.status(f"measuring {name}"):
            results.append(run(name, options.quick))
    # Narrower, the two columns of text become columns of letters.
    console = Console(width=250 if options.markdown else max(120, progress.width))
    console.print(table(results, options.markdown))
    console.print(
        f"{os.cpu_count()} processors, Python {platform.python_version()}. Medians of rounds in turns, the ratios of "
        "the rounds in brackets; seconds of the work alone, CPU and peak memory of the whole process."
    )


if __name__ == "__main__":
    main()
