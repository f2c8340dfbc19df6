"""SQL of the views that say what mapped HubSpot properties were at any instant, and when that became known.

Two things tell about a property: HubSpot's own history of it (``raw_hubspot.property_history``, exact instants) and
the versions of the record that were read (``raw_hubspot.<object>``, dated by the record's last change). History comes
first; a version adds a change only where it shows a value that the history known to its run does not explain: a
property without history, or one whose history had not caught up. An empty value never contradicts a history: when it is
cleared the history says so, and when the portal loses the property every record looks cleared. The first value seen of
a property without history is taken as true since the record was created (settled 1), and marked.

The views are DuckDB's own SQL, made by `hub_pipeline.warehouse.mapping`; models read them as tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hub_pipeline.warehouse.sql import ident, literal


def changes_sql(name: str, tracked: Mapping[str, str], existing: set[str], has_history: bool) -> str:
    """One row for each value that a mapped property of an object was set to.

    Args:
        name: object, such as ``organisations``.
        tracked: canonical column -> HubSpot property.
        existing: columns of the object's raw table; empty if it was never read.
        has_history: whether ``raw_hubspot.property_history`` exists.

    Returns:
        A SELECT of id, column_name, value (trimmed text, '' = cleared), effective_at (when it was set), recorded_at
        (when that became known: settled 2), is_since_creation (no history tells since when; the first value seen).
    """
    pairs = ", ".join(f"({literal(column)}, {literal(source)})" for column, source in tracked.items())
    history = (
        "SELECT h.id, t.column_name, h.changed_at, h._recorded_at AS recorded_at, "
        "max(trim(coalesce(h.value, ''))) AS value, min(h._run_id) AS run_id "
        "FROM raw_hubspot.property_history AS h JOIN tracked AS t ON t.property = h.property "
        f"WHERE h.object = {literal(name)} AND h.changed_at IS NOT NULL "
        "GROUP BY h.id, t.column_name, h.changed_at, h._recorded_at"
    )
    nothing = (
        "SELECT CAST(NULL AS VARCHAR) AS id, CAST(NULL AS VARCHAR) AS column_name, "
        "CAST(NULL AS TIMESTAMP) AS changed_at, CAST(NULL AS TIMESTAMP) AS recorded_at, "
        "CAST(NULL AS VARCHAR) AS value, CAST(NULL AS VARCHAR) AS run_id WHERE false"
    )
    read = {column: source for column, source in tracked.items() if source in existing}
    if not pairs:
        return (
            "SELECT id, column_name, value, changed_at AS effective_at, recorded_at, "
            f"false AS is_since_creation FROM ({nothing})"
        )
    cells = ", ".join(
        f"{{'column_name': {literal(column)}, 'value': coalesce(trim({ident(source)}), '')}}"
        for column, source in read.items()
    )
    seen = (
        f"""
        SELECT v.id, v.created_at, v._changed_at, v._recorded_at, v._run_id, c.cell.column_name, c.cell.value,
            lag(c.cell.value) OVER versions AS value_before, lag(v.id) OVER versions IS NULL AS is_first
        FROM ({versions_sql(name)}) AS v, unnest([{cells}]) AS c(cell)
        WHERE v._deleted_at IS NULL AND v._merged_into IS NULL
        WINDOW versions AS (PARTITION BY v.id, c.cell.column_name ORDER BY v._recorded_at)"""
        if read
        else "SELECT *, created_at AS _changed_at, created_at AS _recorded_at, created_at AS _run_id, '' AS "
        "value_before, false AS is_first FROM (SELECT CAST(NULL AS VARCHAR) AS id, CAST(NULL AS VARCHAR) AS "
        "column_name, CAST(NULL AS VARCHAR) AS value, CAST(NULL AS TIMESTAMP) AS created_at) WHERE false"
    )
    return f"""
    WITH tracked(column_name, property) AS (VALUES {pairs}),
    history AS ({history if has_history else nothing}),
    seen AS ({seen}),
    candidates AS (SELECT * FROM seen WHERE value <> coalesce(value_before, '')),
    explained AS (
        SELECT c.id, c.column_name, c._recorded_at,
            arg_max(h.value, (h.changed_at, h.recorded_at)) FILTER (WHERE h.changed_at <= c._changed_at) AS value_then,
            arg_max(h.value, (h.changed_at, h.recorded_at)) AS value_last
        FROM candidates AS c
        JOIN history AS h ON h.id = c.id AND h.column_name = c.column_name AND h.run_id <= CAST(c._run_id AS VARCHAR)
        GROUP BY ALL)
    SELECT id, column_name, value, changed_at AS effective_at, recorded_at, false AS is_since_creation
    FROM history
    UNION ALL
    SELECT c.id, c.column_name, c.value,
        CASE WHEN c.is_first AND e.id IS NULL THEN least(c.created_at, c._changed_at) ELSE c._changed_at END,
        greatest(c._recorded_at,
            CASE WHEN c.is_first AND e.id IS NULL THEN least(c.created_at, c._changed_at) ELSE c._changed_at END),
        c.is_first AND e.id IS NULL
    FROM candidates AS c
    LEFT JOIN explained AS e USING (id, column_name, _recorded_at)
    WHERE e.id IS NULL
        OR (c.value <> '' AND c.value IS DISTINCT FROM e.value_then AND c.value IS DISTINCT FROM e.value_last)"""


def versions_sql(name: str) -> str:
    """The versions of an object, one for each instant at which one became known.

    Versions that became known at the same instant are one state: the last change, and of two with the same change
    time (a calculated property does not bump it) the one that was read last.
    """
    return (
        f"SELECT * FROM raw_hubspot.{ident(name)} QUALIFY row_number() OVER "
        "(PARTITION BY id, _recorded_at ORDER BY _changed_at DESC, _run_id DESC) = 1"
    )


def states_sql(name: str, tracked: Sequence[str]) -> str:
    """What was known of the tracked columns, one row for each record and instant at which any of them became known.

    A change that became known late does not replace a newer one. Returns a SELECT of id, recorded_at, changed_at and
    each column as text.
    """
    set_there = ", ".join(
        f"arg_max(value, effective_at) FILTER (WHERE column_name = {literal(c)}) AS {ident(c)}"
        for c in tracked
    )
    carried = ", ".join(
        f"last_value({ident(c)} IGNORE NULLS) OVER (PARTITION BY id ORDER BY recorded_at) AS {ident(c)}"
        for c in tracked
    )
    names = ", ".join(map(literal, tracked))
    return f"""
    SELECT id, recorded_at, changed_at, {carried}
    FROM (
        SELECT id, recorded_at, max(effective_at) AS changed_at, {set_there}
        FROM (
            SELECT * FROM raw_hubspot.{ident(name + "_changes")} WHERE column_name IN ({names})
            QUALIFY effective_at = max(effective_at) OVER (
                PARTITION BY id, column_name ORDER BY recorded_at
                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW))
        GROUP BY id, recorded_at)"""


def timeline_sql(cells: str, columns: Sequence[str], dated: Sequence[str] = ()) -> str:
    """The values of all columns at every instant at which one of them was set, for every state of knowledge.

    A change that became known after a later one (late) rewrites every instant from its own on: an epoch of knowledge
    begins, in which what was known before is told again. Without late changes there is one epoch and one row for an
    instant, unless two changes of one instant became known one after the other.

    Args:
        cells: SELECT of id, column_name, value, effective_at, recorded_at.
        columns: the columns.
        dated: those of them of which it is asked when they were last set.

    Returns:
        A SELECT of id, epoch (NULL: the first), effective_at, recorded_at, is_told (the row is news in its epoch),
        each column as text ('' = cleared, NULL = never set by then) and ``<column>__at`` of the dated ones.
    """
    wide = ", ".join(
        f"arg_max(value, own_recorded_at) FILTER (WHERE column_name = {literal(c)}) AS {ident(c)}"
        for c in columns
    )
    carried = ", ".join(
        [
            *(f"last_value({ident(c)} IGNORE NULLS) OVER so_far AS {ident(c)}" for c in columns),
            *(
                f"max(CASE WHEN {ident(c)} IS NOT NULL THEN effective_at END) OVER so_far AS {ident(c + '__at')}"
                for c in dated
            ),
        ]
    )
    return f"""
    WITH cells AS ({cells}),
    instants AS (
        SELECT id, effective_at,
            min(min(recorded_at)) OVER (
                PARTITION BY id ORDER BY effective_at DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS later_known_at
        FROM cells GROUP BY id, effective_at),
    late AS (
        SELECT c.id, c.recorded_at AS epoch, min(c.effective_at) AS rewritten_from
        FROM cells AS c JOIN instants AS i ON i.id = c.id AND i.effective_at = c.effective_at
        WHERE c.recorded_at > i.later_known_at
        GROUP BY c.id, c.recorded_at),
    epochs AS (
        SELECT id, epoch, rewritten_from, lead(epoch) OVER (PARTITION BY id ORDER BY epoch NULLS FIRST) AS next_epoch
        FROM (
            SELECT id, epoch, rewritten_from FROM late
            UNION ALL
            SELECT DISTINCT id, CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP) FROM instants)),
    members AS (
        SELECT e.id, e.epoch, e.rewritten_from, c.column_name, c.value, c.effective_at,
            greatest(c.recorded_at, e.epoch) AS recorded_at, c.recorded_at AS own_recorded_at
        FROM epochs AS e JOIN cells AS c ON c.id = e.id AND (e.next_epoch IS NULL OR c.recorded_at < e.next_epoch)),
    wide AS (
        SELECT id, epoch, effective_at, recorded_at, any_value(rewritten_from) AS rewritten_from, {wide}
        FROM members GROUP BY id, epoch, effective_at, recorded_at)
    SELECT id, epoch, effective_at, recorded_at,
        epoch IS NULL OR effective_at >= rewritten_from AS is_told, {carried}
    FROM wide
    WINDOW so_far AS (
        PARTITION BY id, epoch ORDER BY effective_at, recorded_at
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"""
