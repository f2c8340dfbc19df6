"""docs/models.md, made from the contracts of the models, so that the words stand in one place."""

from __future__ import annotations

from hub_pipeline.models.graph import Catalog, Model

_HEAD = """# Every table and column
Made from the contracts on top of the SQL files by `python -m hub_pipeline.models docs > docs/models.md`; a test holds
it against them. The same words are the comments of the published file, the rows of `hub.definitions`, and the
descriptions in the Dagster UI. How to ask: [querying.md](querying.md).

- `as_of` is the day an answer is for: the state at its close, in the reporting time zone. `known_at` is the day whose
  close ended what was known; the published answers have known_at = as_of.
- Windows of N days are the local days (D-N, D]; levels compare the close of D with the close of D-N.
- Money is MRR in the reporting currency unless a currency stands beside it. Empty (NULL) means unknown, never zero.
- Every number in a rule is a setting: `hub-pipeline settings` lists them.
"""

_LAYERS = {
    "hub": "Views on the latest stored day, for people.",
    "marts": "The same answers for every stored day.",
    "staging": "Canonical tables with all history: what the marts are computed from.",
}


def models_page(models: Catalog) -> str:
    """The page as Markdown: each published table with its rules, key, sources and columns."""
    parts = [_HEAD]
    for schema, meaning in _LAYERS.items():
        layer = sorted(models.layer(schema), key=lambda model: model.table)
        names = ", ".join(f"[{m.table}](#{m.schema}{m.table})" for m in layer)
        parts.append(f"## Schema {schema}\n{meaning} {names}\n")
        parts += [_section(model) for model in layer]
    return "\n".join(parts)


def _section(model: Model) -> str:
    contract = model.contract
    lines = [f"### {model.schema}.{model.table}", " ".join(contract.description.split()), ""]
    lines.append(f"Key: {', '.join(f'`{name}`' for name in contract.grain)}.")
    reads = sorted(name for name in model.dependencies)
    if reads:
        lines.append(f"Reads: {', '.join(f'`{name}`' for name in reads)}.")
    lines += ["", "| column | type | meaning |", "|---|---|---|"]
    for name, column in contract.columns.items():
        meaning = " ".join(column.meaning.split()).replace("|", "\\|")
        lines.append(f"| `{name}` | {column.type} | {meaning} |")
    return "\n".join(lines) + "\n"
