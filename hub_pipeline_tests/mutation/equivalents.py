"""The list of survivors that no test can kill, each with the proof (equivalents.yaml)."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from hub_pipeline_tests.mutation.operators import Mutant

PATH = Path(__file__).parent / "equivalents.yaml"


class Equivalent(BaseModel):
    """A mutant as `Mutant.key` names it, without its model, and why no input tells it from the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    part: str
    operator: str
    before: str
    after: str
    at: int = 1
    proof: str = Field(min_length=20)


Key = tuple[str, str, str, str, str, int]


def equivalents(path: Path = PATH) -> dict[Key, str]:
    """Key of a mutant -> proof.

    Raises:
        ValueError: an entry is incomplete or stands twice.
    """
    lists = TypeAdapter(dict[str, list[Equivalent]]).validate_python(
        yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    )
    found: dict[Key, str] = {}
    for model, entries in lists.items():
        for entry in entries:
            key = (model, entry.part, entry.operator, entry.before, entry.after, entry.at)
            if key in found:
                raise ValueError(f"{path.name}: this entry stands twice: {key}")
            found[key] = " ".join(entry.proof.split())
    return found


def described(mutant: Mutant) -> str:
    """The entry of a mutant without its proof, as YAML."""
    entry = {"part": mutant.part, "operator": mutant.operator, "before": mutant.before, "after": mutant.after}
    text = yaml.safe_dump(
        [entry | ({"at": mutant.at} if mutant.at > 1 else {})], sort_keys=False, width=100, allow_unicode=True
    )
    return "".join(f"  {line}\n" for line in text.splitlines())
