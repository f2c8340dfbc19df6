"""The portable subset: what keeps the SQL correct on DuckDB and movable to Spark by sqlglot (settled 24).

A finding is ``file:line: [rule] what and what to write instead``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlglot import TokenType, exp
from sqlglot.tokenizer_core import Token

from hub_pipeline.models.graph import MODELS_FOLDER, Catalog, Model, ModelsDialect, load_catalog

#: Functions whose value depends on when or how often they are called.
IMPURE = (
    "now",
    "today",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_localtime",
    "current_localtimestamp",
    "get_current_time",
    "get_current_timestamp",
    "transaction_timestamp",
    "localtime",
    "localtimestamp",
    "random",
    "uuid",
    "gen_random_uuid",
)

_PURE_LAYERS = ("intermediate", "marts", "hub")
_OPEN_END = re.compile(r"^9999-\d\d-\d\d")


@dataclass(frozen=True)
class Finding:
    """One breach of the portable subset."""

    path: Path
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.rule}] {self.message}"


def lint(models: Catalog) -> list[Finding]:
    """All findings of all models, in running order of the models and by line."""
    return [finding for model in models for finding in lint_model(model)]


def lint_model(model: Model) -> list[Finding]:
    """Findings of one model, by line."""
    rules = [_tokens, _shape, _aggregates]
    if model.schema in _PURE_LAYERS:
        rules += [_lambdas, _row_numbers]
    if model.schema == "marts":
        rules.append(_mart_columns)
    found = [Finding(model.path, line, rule, text) for check in rules for line, rule, text in check(model)]
    return sorted(set(found), key=lambda f: (f.line, f.rule))


def main() -> int:
    """Print the findings for the models that ship with the project; 1 if there are any."""
    findings = lint(load_catalog(MODELS_FOLDER))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


_Found = Iterator[tuple[int, str, str]]


def _tokens(model: Model) -> _Found:
    stream = ModelsDialect().tokenize(model.sql)
    for position, token in enumerate(stream):
        text = token.text.lower()
        before = stream[position - 1].text if position else ""
        if token.token_type is TokenType.STRING:
            if _OPEN_END.match(token.text):
                yield token.line, "open-end", "an open end is NULL, not a date in the year 9999"
        elif text == "asof":
            yield token.line, "asof", "Spark reads ASOF as a table alias; join on the interval or use arg_max"
        elif text in IMPURE and before not in (".", "$") and _is_call(stream, position, text):
            yield (
                token.line,
                "impure",
                f"{text} makes a day depend on when it is built; use $as_of or $known_at",
            )


def _is_call(stream: list[Token], position: int, text: str) -> bool:
    bare = text in ("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp")
    after = stream[position + 1].text if position + 1 < len(stream) else ""
    return after == "(" or (bare and (position == 0 or stream[position - 1].text.lower() != "as"))


def _shape(model: Model) -> _Found:
    tree = model.tree
    for part in _top_selects(tree):
        for projection in part.expressions:
            if projection.is_star:
                yield (
                    line_of(projection, model),
                    "star",
                    "name the columns; SELECT * changes with what it reads",
                )
    if tree.args.get("order") is not None:
        yield line_of(tree.args["order"], model), "order", "a table has no order; for a view write order_by"
    if tree.args.get("limit") is not None:
        yield line_of(tree.args["limit"], model), "limit", "LIMIT at the top cuts rows silently"
    names = [name.lower() for name in tree.named_selects]
    wanted = [name.lower() for name in model.contract.columns]
    if "*" not in names and names != wanted:
        odd = next((n for n in wanted if n not in names), None) or next(
            (n for n in names if n not in wanted), None
        )
        what = f"{odd} stands on one side only" if odd else "the order differs"
        yield 1, "columns", f"the columns of the SELECT are not those of the contract: {what}"


def _top_selects(tree: exp.Expr) -> Iterator[exp.Select]:
    if isinstance(tree, exp.SetOperation):
        yield from _top_selects(tree.this)
        yield from _top_selects(tree.expression)
    elif isinstance(tree, exp.Subquery):
        yield from _top_selects(tree.this)
    elif isinstance(tree, exp.Select):
        yield tree


def _aggregates(model: Model) -> _Found:
    for order in model.tree.find_all(exp.Order):
        if isinstance(order.parent, exp.Func | exp.Distinct):
            yield (
                line_of(order, model),
                "ordered-aggregate",
                "sqlglot drops ORDER BY inside an aggregate; write list_sort(list_distinct(array_agg(x)))",
            )


def _lambdas(model: Model) -> _Found:
    for node in model.tree.find_all(exp.Lambda, exp.Comprehension):
        yield line_of(node, model), "lambda", "list lambdas are DuckDB's own; use codes([...]) or unnest"


def _row_numbers(model: Model) -> _Found:
    for window in model.tree.find_all(exp.Window):
        if not isinstance(window.this, exp.RowNumber) or not isinstance(window.parent, exp.Alias):
            continue
        alias = window.parent.alias
        for equal in model.tree.find_all(exp.EQ):
            sides = (equal.left, equal.right)
            if any(s.name == alias for s in sides if isinstance(s, exp.Column)) and any(
                s.name == "1" for s in sides
            ):
                yield (
                    line_of(window, model),
                    "row-number",
                    "for the latest row use arg_max(x, t) FILTER (...) on a unique key, or QUALIFY",
                )


def _mart_columns(model: Model) -> _Found:
    names = list(model.contract.columns)
    if names[:2] != ["as_of", "known_at"]:
        yield 1, "mart-key", "the first columns of a mart are as_of and known_at"
    if "settings_hash" not in names:
        yield 1, "settings-hash", "a mart carries settings_hash"
    if not {"as_of", "known_at"} <= set(model.contract.grain):
        yield 1, "mart-grain", "the grain of a mart holds as_of and known_at"


def line_of(node: exp.Expr, model: Model) -> int:
    """Line of the file a node stands in; of its first part that sqlglot has placed, else 1."""
    here: exp.Expr | None = node
    while here is not None and here is not model.tree:
        for part in here.walk():
            if "line" in part.meta:
                return int(part.meta["line"])
        here = here.parent
    return 1
