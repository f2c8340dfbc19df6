"""Why an organisation is, or is not, on each list of a day, with the rows behind it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.models.engine import day_close
from hub_pipeline.settings import Settings
from hub_pipeline.warehouse.database import open_published

#: What the lists rest on: title -> query; ``$ids`` are the organisation and whatever was merged into it.
BEHIND = {
    "Versions of its subscriptions": """
        SELECT subscription_id, effective_at, status, plan, seats, amount, currency, billing_interval, cancel_at,
            term_end, recorded_at
        FROM staging.subscription_versions
        WHERE list_contains($ids, org_id) AND recorded_at < $close
        ORDER BY subscription_id, effective_at, recorded_at""",
    "Custom contracts": """
        SELECT kind, valid_from, valid_to, seats, amount, currency, term_end, recorded_at
        FROM staging.crm_contracts
        WHERE list_contains($ids, org_id) AND recorded_at < $close
        ORDER BY valid_from, recorded_at""",
    "Joint plans": """
        SELECT child_org_id, payer_org_id, valid_from, valid_to, seats, recorded_at
        FROM staging.org_coverage
        WHERE (list_contains($ids, child_org_id) OR list_contains($ids, payer_org_id)) AND recorded_at < $close
        ORDER BY valid_from, recorded_at""",
    "Ends of subscriptions": """
        SELECT subscription_id, state, false_alarm_reason, churn_date, mrr_at_risk, verification, review_hints
        FROM marts.churn_flags
        WHERE as_of = $as_of AND known_at = $as_of AND org_id = $org_id
        ORDER BY churn_date, subscription_id""",
    "Renewals": """
        SELECT renewal_id, deal_id, in_scope, status, renew_by, mrr_at_stake, stage, deal_amount, hygiene
        FROM marts.renewal_pipeline
        WHERE as_of = $as_of AND known_at = $as_of AND org_id = $org_id
        ORDER BY renew_by, renewal_id""",
    "Billing, CRM and invoices": """
        SELECT billing_mrr, crm_mrr, contract_mrr, invoiced_mrr, deal_mrr, deal_contracts_mrr, missing, has_proration
        FROM marts.tie_out
        WHERE as_of = $as_of AND known_at = $as_of AND org_id = $org_id""",
    "Invoices that cover the day": """
        SELECT i.invoice_id, i.status, i.created_at, i.total, i.tax, i.currency, l.line_id, l.subscription_id, l.amount,
            l.is_proration, coalesce(l.period_start, i.period_start) AS period_start,
            coalesce(l.period_end, i.period_end) AS period_end, i.recorded_at
        FROM staging.invoices AS i
        LEFT JOIN staging.invoice_lines AS l
            ON l.source = i.source AND l.invoice_id = i.invoice_id AND l.recorded_at < $close
        WHERE list_contains($ids, i.org_id) AND i.recorded_at < $close
            AND coalesce(l.period_start, i.period_start) < $close AND coalesce(l.period_end, i.period_end) >= $close
        ORDER BY i.created_at, i.invoice_id, l.line_id, i.recorded_at""",
    "NPS answers": """
        SELECT response_id, contact_id, score, responded_at, source, recorded_at
        FROM staging.nps_responses
        WHERE recorded_at < $close AND (list_contains($ids, org_id) OR contact_id IN (
            SELECT contact_id FROM staging.contact_orgs WHERE list_contains($ids, org_id) AND recorded_at < $close))
        ORDER BY responded_at DESC, response_id""",
    "Conversations of large clients": """
        SELECT conversation_id, contact_id, last_contact_on, rating, is_unmet_contact, is_dissatisfied, needs_escalation
        FROM marts.interactions
        WHERE as_of = $as_of AND known_at = $as_of AND org_id = $org_id
        ORDER BY last_contact_on DESC, conversation_id""",
}

_IDS = """
WITH RECURSIVE merged AS (
    SELECT $org_id AS org_id
    UNION
    SELECT m.loser_org_id FROM staging.org_merges AS m JOIN merged AS w ON m.winner_org_id = w.org_id
)
SELECT array_agg(org_id) FROM merged"""

#: Rows of one table that are printed; the rest is counted.
SHOWN_ROWS = 20


def explain(
    published: Path, organisation: str, as_of: date | None, settings: Settings, console: Console
) -> None:
    """Print the state of an organisation on a stored day, each list with the reason, and the rows behind them.

    Args:
        published: the published file.
        organisation: id, or exact name without regard to case.
        as_of: a stored day; default the latest.
        settings: for the reporting time zone.
        console: where to print.

    Raises:
        ConfigurationError: the day is not stored, or there is not exactly one such organisation.
        WarehouseError: nothing has been published yet.
    """
    with open_published(published) as connection:
        day = _day(connection, as_of)
        org_id = _organisation(connection, organisation, day)
        _print_state(connection, org_id, day, console)
        _print_lists(connection, org_id, day, console)
        found = connection.execute(_IDS, {"org_id": org_id}).fetchone()
        values = {
            "ids": found[0] if found else [org_id],
            "org_id": org_id,
            "as_of": day,
            "close": day_close(day, settings.zone),
        }
        for title, query in BEHIND.items():
            used = {name: value for name, value in values.items() if f"${name}" in query}
            _print_rows(connection, title, query, used, console)


def _day(connection: duckdb.DuckDBPyConnection, as_of: date | None) -> date:
    days = [
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT as_of FROM marts.organisation_daily WHERE known_at = as_of ORDER BY as_of"
        ).fetchall()
    ]
    if not days:
        raise ConfigurationError("No day is stored yet; `hub-pipeline run` builds one.")
    if as_of is None:
        return date.fromisoformat(str(days[-1]))
    if as_of not in days:
        raise ConfigurationError(
            f"{as_of} is not stored; the stored days go from {days[0]} to {days[-1]}. "
            f"`hub-pipeline backfill --from {as_of} --to {as_of}` builds it."
        )
    return as_of


def _organisation(connection: duckdb.DuckDBPyConnection, wanted: str, day: date) -> str:
    rows = connection.execute(
        "SELECT org_id, name FROM marts.organisation_daily "
        "WHERE as_of = $day AND known_at = $day AND (org_id = $wanted OR lower(name) = lower($wanted)) "
        "ORDER BY org_id = $wanted DESC, org_id",
        {"day": day, "wanted": wanted},
    ).fetchall()
    if rows and (len(rows) == 1 or rows[0][0] == wanted):
        return str(rows[0][0])
    if rows:
        raise ConfigurationError(
            f"{len(rows)} organisations are called {wanted!r}: {', '.join(str(r[0]) for r in rows[:5])}. Name one by its id."
        )
    merged = connection.execute(
        "SELECT winner_org_id FROM staging.org_merges WHERE loser_org_id = $wanted LIMIT 1",
        {"wanted": wanted},
    ).fetchone()
    hint = f"; it was merged into {merged[0]}" if merged else ""
    raise ConfigurationError(f"There is no organisation {wanted!r} on {day}{hint}.")


def _print_state(connection: duckdb.DuckDBPyConnection, org_id: str, day: date, console: Console) -> None:
    cursor = connection.execute(
        "SELECT name, state, mrr, seats, plan, tier, owner_name, health, hubspot_url, root_org_id "
        "FROM marts.customer_360 WHERE as_of = $day AND known_at = $day AND org_id = $org_id",
        {"day": day, "org_id": org_id},
    )
    row = cursor.fetchone()
    assert row is not None, "every organisation of the day has a row"
    name, state, mrr, seats, plan, tier, owner, health, url, root = row
    console.print(f"[bold]{escape(name or org_id)}[/] ({escape(org_id)}) on {day}", soft_wrap=True)
    facts = [
        state,
        f"{_text(mrr)} MRR",
        f"{_text(seats)} seats",
        f"plan {_text(plan)}",
        f"tier {tier}",
        f"owner {_text(owner)}",
        f"health {_text(health)}",
    ]
    if root != org_id:
        facts.append(f"account {root}")
    console.print(escape(", ".join(facts)), soft_wrap=True)
    if url:
        console.print(escape(url), soft_wrap=True)


def _print_lists(connection: duckdb.DuckDBPyConnection, org_id: str, day: date, console: Console) -> None:
    table = Table(title="Lists", title_justify="left")
    for column in ("list", "on it", "why"):
        table.add_column(column)
    rows = connection.execute(
        "SELECT list, is_on_list, why FROM hub.explanations WHERE as_of = $day AND org_id = $org_id ORDER BY list",
        {"day": day, "org_id": org_id},
    ).fetchall()
    for name, is_on, why in rows:
        table.add_row(name, "[bold]yes[/]" if is_on else "no", escape("\n".join(why)))
    console.print(table)


def _print_rows(
    connection: duckdb.DuckDBPyConnection, title: str, query: str, values: dict[str, object], console: Console
) -> None:
    cursor = connection.execute(query, values)
    names = [column[0] for column in cursor.description or ()]
    rows = cursor.fetchall()
    if not rows:
        return
    more = f", the first {SHOWN_ROWS} of {len(rows):,}" if len(rows) > SHOWN_ROWS else ""
    table = Table(title=f"{title}{more}", title_justify="left")
    for name in names:
        table.add_column(name)
    for row in rows[:SHOWN_ROWS]:
        table.add_row(*(escape(_text(value)) for value in row))
    console.print(table)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
