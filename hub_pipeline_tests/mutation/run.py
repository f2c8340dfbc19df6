"""``python -m hub_pipeline_tests.mutation``: judge every mutant of the models; see docs/mutants.md.

Ends with 1 when a mutant survives that equivalents.yaml does not explain, or when an entry of that file names a mutant
that is killed or does not exist.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub_pipeline.models import catalog
from hub_pipeline_tests.mutation.equivalents import described, equivalents
from hub_pipeline_tests.mutation.operators import OPERATORS, Mutant, mutants
from hub_pipeline_tests.mutation.replay import judge
from hub_pipeline_tests.mutation.worlds import World, covered, worlds

#: Verdicts by the text of the mutant, so that a run that was stopped goes on with ``--resume``.
RESULTS = Path(".cache/mutants.jsonl")
#: A verdict that is no kill: it shows in the rows of a world and no test fails; it shows in no world.
SURVIVED, UNSEEN = "", "unseen"

_worlds: list[World] = []


@dataclass(frozen=True)
class Judged:
    """A mutant with its verdict; None = not judged yet."""

    mutant: Mutant
    verdict: str | None

    @property
    def kind(self) -> str:
        """worlds, error, tests, survived, or unjudged."""
        if self.verdict is None:
            return "unjudged"
        if self.verdict in (SURVIVED, UNSEEN):
            return "survived"
        if self.verdict == "error":
            return "error"
        return "tests" if "::" in str(self.verdict) else "worlds"


def main() -> int:
    """Judge, print the table and the survivors."""
    options = _options()
    names = options.model or [model.name for model in catalog()]
    kept = _Kept(options.results)
    known = kept.verdicts if options.resume else {}
    killed = {digest: verdict for digest, verdict in known.items() if verdict not in (SURVIVED, UNSEEN)}
    operators = set(options.operator or OPERATORS)
    if options.report:
        judged = [Judged(one, kept.verdicts.get(_digest(one))) for one in _mutants(names, operators)]
    else:
        judged = _all(names, operators, killed, options.jobs, kept, options.tests)
    listed = equivalents()
    chosen = {key: proof for key, proof in listed.items() if key[0] in names}
    by_key = {one.mutant.key: one for one in judged}
    _print_table(judged, chosen, names)
    unexplained = [one for one in judged if one.kind == "survived" and one.mutant.key not in listed]
    for one in unexplained:
        print(f"\n{one.mutant.model}: {'no world shows it' if one.verdict == UNSEEN else 'no test fails'}")
        print(described(one.mutant), end="")
    stale = [
        key
        for key in chosen
        if (not options.operator or key[2] in options.operator)
        and (key not in by_key or by_key[key].kind not in ("survived", "unjudged"))
    ]
    for key in stale:
        verdict = by_key[key].verdict if key in by_key else "there is no such mutant"
        print(f"\nequivalents.yaml lists {key}, but: {verdict}")
    return 1 if unexplained or stale or any(one.kind == "unjudged" for one in judged) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hub_pipeline_tests.mutation", description=__doc__)
    add = parser.add_argument
    add("--model", action="append", metavar="SCHEMA.TABLE", choices=[*catalog().models])
    add("--operator", action="append", choices=[*OPERATORS])
    add("--jobs", type=int, default=2, help="processes (2)")
    add("--resume", action="store_true", help="keep the kills of earlier runs, judge what is new or survived")
    add("--report", action="store_true", help="judge nothing, print what earlier runs found")
    add("--tests", action="append", metavar="PATH", help="ask only these tests, for work on one model")
    add("--results", type=Path, default=RESULTS, help=f"file that keeps the verdicts ({RESULTS})")
    return parser.parse_args()


def _all(
    names: list[str],
    operators: set[str],
    killed: dict[str, str],
    jobs: int,
    kept: _Kept,
    tests: list[str] | None,
) -> list[Judged]:
    everything = _mutants(names, operators)
    verdicts = {one.key: killed[_digest(one)] for one in everything if _digest(one) in killed}
    context = multiprocessing.get_context("spawn")
    asked = [one for one in everything if one.key not in verdicts and one.model in covered()]
    with context.Pool(jobs, initializer=_make_worlds) as pool:
        for done, (mutant, verdict) in enumerate(
            pool.imap_unordered(_on_worlds, asked, chunksize=10), start=1
        ):
            _say(f"{done}/{len(asked)} {verdict or 'no world shows it'}: {mutant}")
            if verdict:
                verdicts[mutant.key] = verdict
                kept.add(mutant, verdict)
    left = [one for one in everything if one.key not in verdicts]
    _say(f"{len(left)} of {len(everything)} mutants go to the tests")
    verdicts |= _by_tests(context, left, jobs, kept, tests)
    return [Judged(one, verdicts[one.key]) for one in everything]


def _mutants(names: list[str], operators: set[str]) -> list[Mutant]:
    return [one for name in names for one in mutants(catalog()[name]) if one.operator in operators]


def _make_worlds() -> None:
    _worlds.extend(worlds())


def _on_worlds(mutant: Mutant) -> tuple[Mutant, str]:
    return mutant, next((verdict for world in _worlds if (verdict := world.verdict(mutant))), "")


def _by_tests(
    context: Any, left: list[Mutant], jobs: int, kept: _Kept, tests: list[str] | None
) -> Iterator[tuple[Any, str]]:
    """The verdict of the tests on each mutant, as they come; the mutants are dealt out to the processes in turn."""
    hands = [hand for n in range(jobs) if (hand := left[n::jobs])]
    queue = context.Queue()
    workers = [context.Process(target=_judge_hand, args=(hand, queue, tests)) for hand in hands]
    for worker in workers:
        worker.start()
    done = 0
    while done < len(left):
        said = queue.get()
        if isinstance(said, str):
            for worker in workers:
                worker.kill()
            raise SystemExit(said)
        done += 1
        mutant, verdict = said
        kept.add(mutant, verdict)
        _say(f"{done}/{len(left)} {verdict or 'no test fails'}: {mutant}")
        yield mutant.key, verdict
    for worker in workers:
        worker.join()


def _judge_hand(hand: list[Mutant], queue: Any, tests: list[str] | None) -> None:
    try:
        judge(hand, lambda number, verdict: queue.put((hand[number], verdict)), tests or ())
    except BaseException as error:
        queue.put(f"The tests cannot judge: {error}")
        raise


def _digest(mutant: Mutant) -> str:
    return hashlib.sha256(f"{mutant.model}\n{mutant.sql}".encode()).hexdigest()


class _Kept:
    """The verdicts of this and of earlier runs: lines of a file, the last one for a mutant holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.verdicts: dict[str, str] = dict(json.loads(line) for line in lines)

    def add(self, mutant: Mutant, verdict: str) -> None:
        """Keep one verdict."""
        self._path.parent.mkdir(exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([_digest(mutant), verdict]) + "\n")


def _say(text: str) -> None:
    print(text[:240], file=sys.stderr, flush=True)


def _print_table(judged: list[Judged], listed: dict[Any, str], names: list[str]) -> None:
    heads = ("model", "sites", "mutants", "worlds", "error", "tests", "equivalent", "survivors", "unjudged")
    print(f"{heads[0]:42}" + "".join(f"{head:>11}" for head in heads[1:]))
    for name in [*names, "all"]:
        mine = [one for one in judged if name in (one.mutant.model, "all")]
        counts = Counter(one.kind for one in mine)
        equal = sum(one.kind == "survived" and one.mutant.key in listed for one in mine)
        numbers = (
            len({(one.mutant.model, one.mutant.site) for one in mine}),
            len(mine),
            counts["worlds"],
            counts["error"],
            counts["tests"],
            equal,
            counts["survived"] - equal,
            counts["unjudged"],
        )
        print(f"{name:42}" + "".join(f"{number:11}" for number in numbers))
