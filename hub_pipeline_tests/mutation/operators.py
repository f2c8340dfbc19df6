"""The fixed mutation operators: each changes one place of one SELECT into what a plausible mistake would have written.

A site is a node of the parsed SELECT; an operator answers with the changes that are possible there. The list is fixed,
so that a survivor is a property of the tests and not of a choice made that day; docs/mutants.md explains each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from hub_pipeline.models.graph import Model, ModelsDialect

Node = exp.Expr

DROPPED = "(dropped)"
_TEXT_LENGTH = 300


@dataclass(frozen=True)
class Mutant:
    """One changed SELECT.

    Attributes:
        model: ``schema.table``.
        part: the WITH name the site stands in; "SELECT" is the last one.
        operator: see `OPERATORS`.
        before: the SQL of the site.
        after: what it became.
        at: 1, 2, ... among mutants of the same model, part, operator, before and after, in the order of the file.
        site: number of the node in the SELECT; several mutants may share it.
        sql: the whole SELECT.
    """

    model: str
    part: str
    operator: str
    before: str
    after: str
    at: int
    site: int
    sql: str

    @property
    def key(self) -> tuple[str, str, str, str, str, int]:
        """What names the mutant in the list of equivalents: everything but the text of the whole SELECT."""
        return (self.model, self.part, self.operator, self.before, self.after, self.at)

    def __str__(self) -> str:
        nth = f" (no. {self.at})" if self.at > 1 else ""
        return f"{self.model}, {self.part}, {self.operator}: {self.before}  ->  {self.after}{nth}"


@dataclass(frozen=True)
class Change:
    """Arguments of one node that become others, with the texts that show it."""

    node: Node
    values: dict[str, Any]
    before: str
    after: str


Operator = Callable[[Node], Iterator[Change]]


def render(node: Node) -> str:
    """SQL of a node in the dialect of the models."""
    return node.sql(dialect=ModelsDialect, comments=False)


def _text(node: Node) -> str:
    text = render(node)
    return text if len(text) <= _TEXT_LENGTH else f"{text[:_TEXT_LENGTH]} ..."


def _instead(node: Node, new: Node) -> Change | None:
    """The change that puts a new node in the place of a node."""
    parent, key = node.parent, node.arg_key
    if parent is None or key is None:
        return None
    value: Any = new
    if node.index is not None:
        value = list(parent.args[key])
        value[node.index] = new
    return Change(parent, {key: value}, _text(node), _text(new))


def _replaced(node: Node, *new: Node) -> Iterator[Change]:
    for one in new:
        change = _instead(node, one)
        if change is not None:
            yield change


def _without(node: Node, key: str) -> Iterator[Change]:
    """Each element of a list argument left out, as long as another one stays."""
    elements = node.args.get(key) or []
    if len(elements) > 1:
        for n, element in enumerate(elements):
            yield Change(node, {key: [*elements[:n], *elements[n + 1 :]]}, _text(element), DROPPED)


_BOUNDARIES: dict[type[Node], type[Node]] = {
    exp.LT: exp.LTE,
    exp.LTE: exp.LT,
    exp.GT: exp.GTE,
    exp.GTE: exp.GT,
}
_EQUALITIES: dict[type[Node], type[Node]] = {
    exp.EQ: exp.NEQ,
    exp.NEQ: exp.EQ,
    exp.NullSafeEQ: exp.EQ,
    exp.NullSafeNEQ: exp.NEQ,
}


def _binary(pairs: dict[type[Node], type[Node]]) -> Operator:
    def operator(node: Node) -> Iterator[Change]:
        other = pairs.get(type(node))
        if other is not None:
            yield from _replaced(node, other(**{key: _copied(value) for key, value in node.args.items()}))

    return operator


def _copied(value: Any) -> Any:
    if isinstance(value, Node):
        return value.copy()
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _number(node: Node) -> Iterator[Change]:
    """A number one higher and, where it is compared or calculated with, one lower; shown with what stands around it."""
    if not isinstance(node, exp.Literal) or isinstance(
        node.parent, exp.DataTypeParam | exp.Order | exp.Group
    ):
        return
    text = str(node.this)
    if isinstance(node.parent, exp.Interval):
        new = [exp.Literal.string(str(int(text) + step)) for step in (1, -1)]
    elif node.is_string:
        return
    elif not text.isdigit():
        new = [exp.Literal.number(f"{float(text) * 2:g}")]
    elif isinstance(node.parent, exp.Binary):
        new = [exp.Literal.number(int(text) + step) for step in (1, -1)]
    else:
        new = [exp.Literal.number(int(text) + 1)]
    for change in _replaced(node, *new):
        before, shown = _text(change.node), change.node.copy()
        for key, value in change.values.items():
            shown.set(key, _copied(value))
        yield replace(change, before=before, after=_text(shown))


def _conjunct(node: Node) -> Iterator[Change]:
    """One side of AND or OR left out; the nested ones have their turn as sites of their own."""
    if isinstance(node, exp.And | exp.Or):
        for kept, dropped in ((node.left, node.right), (node.right, node.left)):
            if isinstance(dropped, type(node)):
                continue
            change = _instead(node, kept.copy())
            if change is not None:
                yield replace(change, before=_text(dropped), after=DROPPED)


def _connector(node: Node) -> Iterator[Change]:
    if isinstance(node, exp.And | exp.Or):
        other = exp.Or if isinstance(node, exp.And) else exp.And
        left, right = (
            exp.Paren(this=side.copy()) if isinstance(side, exp.And | exp.Or) else side.copy()
            for side in (node.left, node.right)
        )
        yield from _replaced(node, exp.Paren(this=other(this=left, expression=right)))


def _filter(node: Node) -> Iterator[Change]:
    """A whole WHERE, HAVING, QUALIFY or FILTER left out."""
    for key in ("where", "having", "qualify"):
        if isinstance(node, exp.Select) and node.args.get(key) is not None:
            yield Change(node, {key: None}, _text(node.args[key]), DROPPED)
    if isinstance(node, exp.Filter):
        for change in _replaced(node, node.this.copy()):
            yield replace(change, before=_text(node.expression), after=DROPPED)


def _join(node: Node) -> Iterator[Change]:
    if isinstance(node, exp.Join) and (node.args.get("on") or node.args.get("using")):
        if node.side == "LEFT":
            yield Change(node, {"side": None, "kind": "INNER"}, _text(node), "INNER JOIN")
        elif node.side == "" and node.kind in ("", "INNER"):
            yield Change(node, {"side": "LEFT", "kind": None}, _text(node), "LEFT JOIN")


_AGGREGATES: dict[type[Node], type[Node]] = {
    exp.Min: exp.Max,
    exp.Max: exp.Min,
    exp.ArgMax: exp.ArgMin,
    exp.ArgMin: exp.ArgMax,
    exp.LogicalOr: exp.LogicalAnd,
    exp.LogicalAnd: exp.LogicalOr,
    exp.Least: exp.Greatest,
    exp.Greatest: exp.Least,
    exp.Lag: exp.Lead,
    exp.Lead: exp.Lag,
}


def _order(node: Node) -> Iterator[Change]:
    if isinstance(node, exp.Ordered):
        desc = not node.args.get("desc")
        other = node.copy()
        other.set("desc", desc)
        yield Change(node, {"desc": desc}, _text(node), _text(other))


def _partition(node: Node) -> Iterator[Change]:
    if isinstance(node, exp.Window):
        yield from _without(node, "partition_by")


def _coalesce(node: Node) -> Iterator[Change]:
    """One argument of coalesce or nullif left out; coalesce of one is that one."""
    if isinstance(node, exp.Coalesce):
        arguments = [node.this, *node.expressions]
        for n, dropped in enumerate(arguments):
            kept = [a.copy() for m, a in enumerate(arguments) if m != n]
            new = kept[0] if len(kept) == 1 else exp.Coalesce(this=kept[0], expressions=kept[1:])
            for change in _replaced(node, new):
                yield replace(change, before=_text(node), after=f"without {_text(dropped)}")
    elif isinstance(node, exp.Nullif):
        yield from _replaced(node, node.this.copy())


def _case(node: Node) -> Iterator[Change]:
    """One branch of CASE left out, ELSE among them."""
    if isinstance(node, exp.Case):
        ifs, default = node.args["ifs"], node.args.get("default")
        if len(ifs) > 1:
            for n, branch in enumerate(ifs):
                before = f"WHEN {_text(branch.this)} THEN {_text(branch.args['true'])}"
                yield Change(node, {"ifs": [*ifs[:n], *ifs[n + 1 :]]}, before, DROPPED)
        else:
            for change in _replaced(node, default.copy() if default is not None else exp.Null()):
                yield replace(change, before=_text(node))
        if default is not None:
            yield Change(node, {"default": None}, f"ELSE {_text(default)}", DROPPED)


def _distinct(node: Node) -> Iterator[Change]:
    if isinstance(node, exp.Select) and isinstance(node.args.get("distinct"), exp.Distinct):
        yield Change(node, {"distinct": None}, "SELECT DISTINCT", "SELECT")
    elif isinstance(node, exp.Distinct) and isinstance(node.parent, exp.Func) and len(node.expressions) == 1:
        yield from _replaced(node, node.expressions[0].copy())
    elif isinstance(node, exp.ArrayDistinct | exp.ArraySort):
        yield from _replaced(node, node.this.copy())
    elif isinstance(node, exp.Union):
        distinct = bool(node.args.get("distinct"))
        words = ("UNION", "UNION ALL") if distinct else ("UNION ALL", "UNION")
        yield Change(node, {"distinct": not distinct}, *words)


_ARITHMETIC: dict[type[Node], type[Node]] = {
    exp.Add: exp.Sub,
    exp.Sub: exp.Add,
    exp.Mul: exp.Div,
    exp.Div: exp.Mul,
}


def _negation(node: Node) -> Iterator[Change]:
    """NOT left out; IS NULL turned round; true for false."""
    if isinstance(node, exp.Not):
        yield from _replaced(node, node.this.copy())
    elif isinstance(node, exp.Is) and not isinstance(node.parent, exp.Not):
        yield from _replaced(node, exp.Not(this=node.copy()))
    elif isinstance(node, exp.Boolean) and not isinstance(node.parent, exp.Is):
        yield from _replaced(node, exp.Boolean(this=not node.this))


def _element(node: Node) -> Iterator[Change]:
    """One of the values of IN left out."""
    if isinstance(node, exp.In):
        yield from _without(node, "expressions")


#: In the order in which they are applied and shown.
OPERATORS: dict[str, Operator] = {
    "boundary": _binary(_BOUNDARIES),
    "equality": _binary(_EQUALITIES),
    "number": _number,
    "conjunct": _conjunct,
    "connector": _connector,
    "filter": _filter,
    "join": _join,
    "aggregate": _binary(_AGGREGATES),
    "order": _order,
    "partition": _partition,
    "coalesce": _coalesce,
    "case": _case,
    "distinct": _distinct,
    "arithmetic": _binary(_ARITHMETIC),
    "negation": _negation,
    "element": _element,
}


def mutants(model: Model) -> list[Mutant]:
    """Every mutant of a model whose SQL differs from the model's and from every other one, in the order of the SQL."""
    tree = model.tree.copy()
    nodes = list(tree.dfs())
    known = {render(tree)}
    count: dict[tuple[str, ...], int] = {}
    found: list[Mutant] = []
    for site, node in enumerate(nodes):
        for name, operator in OPERATORS.items():
            for change in operator(node):
                sql = _applied(tree, change)
                if sql in known:
                    continue
                known.add(sql)
                shown = (_part(node), name, change.before, change.after)
                count[shown] = count.get(shown, 0) + 1
                found.append(Mutant(model.name, *shown, at=count[shown], site=site, sql=sql))
    return found


def _applied(tree: Node, change: Change) -> str:
    before = {key: change.node.args.get(key) for key in change.values}
    for key, value in change.values.items():
        change.node.set(key, value)
    try:
        return render(tree)
    finally:
        for key, value in before.items():
            change.node.set(key, value)


def _part(node: Node) -> str:
    cte = node.find_ancestor(exp.CTE)
    return cte.alias if isinstance(cte, exp.CTE) else "SELECT"
