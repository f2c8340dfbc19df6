"""Column lineage: which stored columns the value of each column is made of, through WITH, subqueries and UNION.

It follows the expressions of the SELECT lists only: what a WHERE or a join condition reads decides which rows there
are, not what they say. Resolved here on the parsed tree instead of with sqlglot.lineage, which qualifies and optimises
each query once per column and takes minutes where this takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from sqlglot import exp

from hub_pipeline.models.graph import Catalog, Model, catalog

#: (``schema.table``, column)
Source = tuple[str, str]
_Columns = dict[str, frozenset[Source]]

_NOTHING: frozenset[Source] = frozenset()

#: Key for the columns that SELECT * takes from a stored table whose columns are not known.
_REST = "*"


@dataclass
class _Relation:
    """What a FROM item offers. ``table``: a stored table whose columns are not known, so that any name may be its."""

    columns: _Columns
    table: str | None = None

    def find(self, name: str) -> frozenset[Source] | None:
        if name in self.columns:
            return self.columns[name]
        if _REST in self.columns:
            return frozenset((table, name) for table, _ in self.columns[_REST])
        return frozenset({(self.table, name)}) if self.table else None


@dataclass
class _Scope:
    tables: dict[str, list[str]]
    ctes: dict[str, _Columns] = field(default_factory=dict)
    relations: dict[str, _Relation] = field(default_factory=dict)
    outer: _Scope | None = None


def lineage_of(model: Model, models: Catalog) -> dict[str, tuple[Source, ...]]:
    """Column of the model -> the stored columns its value is made of, sorted; constants have none."""
    tables = {other.name.lower(): [c.lower() for c in other.contract.columns] for other in models}
    tables |= {f"inputs.{name}".lower(): [c.lower() for c in t.columns] for name, t in models.inputs.items()}
    found = _query(model.tree, _Scope(tables))
    return {name: tuple(sorted(found.get(name.lower(), _NOTHING))) for name in model.contract.columns}


@lru_cache(maxsize=1)
def catalog_lineage() -> dict[str, dict[str, tuple[Source, ...]]]:
    """Lineage of every model that ships with the project, computed once for each process."""
    models = catalog()
    return {model.name: lineage_of(model, models) for model in models}


def _query(node: exp.Expr, scope: _Scope) -> _Columns:
    """Output columns of a SELECT, UNION or parenthesis, in order."""
    if isinstance(node, exp.Subquery) and not node.args.get("joins"):
        return _query(node.this, scope)
    with_clause = node.args.get("with_") or node.args.get("with")
    if with_clause is not None:
        scope = _Scope(scope.tables, dict(scope.ctes), scope.relations, scope.outer)
        for cte in with_clause.expressions:
            name = cte.alias.lower()
            if with_clause.args.get("recursive") and isinstance(cte.this, exp.SetOperation):
                scope.ctes[name] = _renamed(_query(cte.this.this, scope), cte.args.get("alias"))
            scope.ctes[name] = _renamed(_query(cte.this, scope), cte.args.get("alias"))
    if isinstance(node, exp.SetOperation):
        return _union(
            _query(node.this, scope), _query(node.expression, scope), bool(node.args.get("by_name"))
        )
    if isinstance(node, exp.Select):
        return _select(node, scope)
    return {}


def _union(left: _Columns, right: _Columns, by_name: bool) -> _Columns:
    if by_name:
        return {n: left.get(n, _NOTHING) | right.get(n, _NOTHING) for n in {**left, **right}}
    values = list(right.values())
    return {n: s | (values[i] if i < len(values) else _NOTHING) for i, (n, s) in enumerate(left.items())}


def _renamed(columns: _Columns, alias: exp.Expr | None) -> _Columns:
    names = [c.name.lower() for c in (alias.args.get("columns") or [])] if alias is not None else []
    if not names:
        return columns
    return {names[i] if i < len(names) else n: s for i, (n, s) in enumerate(columns.items())}


def _select(select: exp.Select, scope: _Scope) -> _Columns:
    inner = _Scope(scope.tables, scope.ctes, {}, scope)
    for item in _from_items(select):
        _add_relation(item, inner)
    output: _Columns = {}
    for projection in select.expressions:
        if isinstance(projection, exp.Star) or (
            isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star)
        ):
            output |= _star(projection, inner)
        else:
            output[projection.alias_or_name.lower()] = _value(projection, inner, output)
    return output


def _from_items(select: exp.Select) -> Iterator[exp.Expr]:
    start = select.args.get("from_") or select.args.get("from")
    if start is not None:
        yield start.this
        yield from (join.this for join in start.this.args.get("joins") or [])
    yield from (join.this for join in select.args.get("joins") or [])
    yield from select.args.get("laterals") or []


def _add_relation(item: exp.Expr, scope: _Scope) -> None:
    alias = item.args.get("alias")
    name = (item.alias or item.name).lower()
    if isinstance(item, exp.Table) and not isinstance(item.this, exp.Func):
        relation = _stored(item, scope)
        scope.relations[name] = _Relation(_renamed(relation.columns, alias), relation.table)
    elif isinstance(item, exp.Subquery):
        scope.relations[name] = _Relation(_renamed(_query(item.this, scope), alias))
        for join in item.args.get("joins") or []:
            _add_relation(join.this, scope)
    else:  # unnest, a table function or VALUES: made of what its arguments are made of
        made_of = _value(item, scope, {})
        names = [c.name.lower() for c in (alias.args.get("columns") or [])] if alias is not None else []
        scope.relations[name] = _Relation(dict.fromkeys(names or [name], made_of))


def _stored(table: exp.Table, scope: _Scope) -> _Relation:
    if not table.db:
        return _Relation(scope.ctes.get(table.name.lower(), {}))
    name = f"{table.db}.{table.name}".lower()
    if name in scope.tables:
        return _Relation({column: frozenset({(name, column)}) for column in scope.tables[name]})
    return _Relation({}, table=name)


def _star(projection: exp.Expr, scope: _Scope) -> _Columns:
    star = projection.this if isinstance(projection, exp.Column) else projection
    wanted = projection.table.lower() if isinstance(projection, exp.Column) else ""
    dropped = {e.name.lower() for e in star.args.get("except_") or star.args.get("except") or []}
    columns: _Columns = {}
    for name, relation in scope.relations.items():
        if wanted in ("", name):
            columns |= {n: s for n, s in relation.columns.items() if n not in dropped}
            if relation.table:
                columns[_REST] = columns.get(_REST, _NOTHING) | {(relation.table, _REST)}
    for replaced in star.args.get("replace") or []:
        columns[replaced.alias.lower()] = _value(replaced, scope, {})
    return columns


def _value(node: exp.Expr, scope: _Scope, earlier: _Columns) -> frozenset[Source]:
    """Stored columns an expression is made of; nested SELECTs count with what they return."""
    if isinstance(node, exp.Query):
        nested = _query(node, _Scope(scope.tables, scope.ctes, {}, scope))
        return frozenset().union(*nested.values()) if nested else _NOTHING
    if isinstance(node, exp.Column):
        return _column(node, scope, earlier)
    found = _NOTHING
    for child in node.iter_expressions():
        found |= _value(child, scope, earlier)
    return found


def _column(column: exp.Column, scope: _Scope, earlier: _Columns) -> frozenset[Source]:
    name, table = column.name.lower(), column.table.lower()
    levels = [scope]
    while levels[-1].outer is not None:
        levels.append(levels[-1].outer)
    for level in levels:
        if table and table in level.relations:
            return level.relations[table].find(name) or _NOTHING
    # A qualifier that is no table is a struct column: payload.field is made of payload.
    wanted = table or name
    for level in levels:
        known = [r.columns[wanted] for r in level.relations.values() if wanted in r.columns]
        if known:
            return frozenset().union(*known)
        if wanted in earlier:
            return earlier[wanted]
        unknown = [r.table for r in level.relations.values() if r.table]
        unknown += [rest for r in level.relations.values() for rest, _ in r.columns.get(_REST, ())]
        if len(unknown) == 1:
            return frozenset({(unknown[0], wanted)})
    return _NOTHING  # the variable of a lambda, or a name that DuckDB will refuse
