"""What a run prints when it is done: what was read, what it says, where it is, what to do next."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub_pipeline.errors import DataRefusedError
from hub_pipeline.orchestration.run import RunReport
from hub_pipeline.warehouse.raw import StreamResult

#: The named lists, as people ask for them, in the order of the README.
LISTS = {
    "organisations": "all organisations",
    "fast_growing_organisations": "fast growing",
    "organisations_at_risk": "at risk",
    "churn": "churn, scheduled and recent",
    "churn_false_alarms": "churn that is none",
    "renewal_pipeline": "renewals in scope",
    "tier_ab_interactions": "tier A and B conversations",
}


def print_summary(report: RunReport, console: Console) -> None:
    """Sources with records and seconds, named lists with rows, quarantine, warnings, and the published file."""
    console.print()
    console.print(_sources(report))
    console.print(_lists(report))
    if report.shown is not None and report.shown != report.as_of:
        console.print(
            f"{report.as_of} is stored in the marts; the views show the latest day, {report.shown}."
        )
    if not report.quarantined:
        console.print("Quarantined: nothing in this run.")
    for name, rows in report.quarantined.items():
        console.print(
            f"Quarantined: {rows:,} rows of {name}, with reasons in raw_billing.quarantine of the build file."
        )
    for result in report.sources:
        if (
            result.message
            and result.source not in report.not_configured
            and result.status != "not_configured"
        ):
            status = "" if result.status == "complete" else f"{result.status}; "
            console.print(
                f"[yellow]{result.source} {result.object}: {status}{escape(result.message)}.[/]",
                soft_wrap=True,
            )
    for source, consequence in report.not_configured.items():
        console.print(f"[yellow]Not configured: {source}; {consequence}.[/]")
    for missing in report.missing_properties:
        console.print(
            f"[yellow]HubSpot has no property {missing.property!r} on {missing.object}, so {missing.column} is unknown.[/]"
        )
    if report.not_read:
        console.print(
            f"Not read in this run: {', '.join(report.not_read)}; what earlier runs delivered counts."
        )
    _kept_settings(report, console)
    if report.erased:
        console.print(f"Erased from every layer: {report.erased:,} contacts (docs/privacy.md says why).")
    for check in report.checks:
        console.print(f"[yellow]Check {check.name} on {check.model}: {check.failures:,} rows.[/]")
    if report.published is not None:
        console.print(
            f"\nPublished for {report.as_of} in {report.seconds:.1f} s: [bold]{shown(report.published)}[/]",
            soft_wrap=True,
        )


def print_first_night(report: RunReport, console: Console) -> None:
    """One line about the demo's first night; what the second found is printed in full."""
    read = ", ".join(
        f"{sum(r.records for r in report.sources if r.source == source):,} of {source}"
        + (f" ({requests:,} requests)" if requests else "")
        for source in dict.fromkeys(r.source for r in report.sources if r.status != "not_configured")
        for requests in (sum(r.requests for r in report.sources if r.source == source),)
    )
    console.print(
        f"First night, {report.as_of}: everything was read in {report.seconds:.1f} s: {read}.\n"
        f"Second night, {report.as_of + timedelta(days=1)}: what changed since.",
        soft_wrap=True,
    )


def print_backfill(report: RunReport, first: date, last: date, console: Console) -> None:
    """What a backfill built: the days, warnings of the last one, and the published file."""
    _kept_settings(report, console)
    for check in report.checks:
        console.print(f"[yellow]Check {check.name} on {check.model}: {check.failures:,} rows.[/]")
    days = (last - first).days + 1
    assert report.published is not None, "a backfill that ends without an error has published"
    console.print(
        f"Built {days:,} {'day' if days == 1 else 'days'}, {_span((first, last) if days > 1 else (first,))}, in "
        f"{report.seconds:.1f} s: [bold]{shown(report.published)}[/]",
        soft_wrap=True,
    )


def _kept_settings(report: RunReport, console: Console) -> None:
    if days := report.kept_settings:
        console.print(
            f"[yellow]{_span(days)}: published with other settings, which were kept; "
            f"`hub-pipeline backfill --from {days[0]} --to {days[-1]} --current-settings` applies today's.[/]",
            soft_wrap=True,
        )


def refuse_partial(report: RunReport) -> None:
    """End a run that left something out with one sentence and exit code 4.

    Raises:
        DataRefusedError: naming what is missing from the published warehouse, why, and what to do.
    """
    if report.left_out:
        what = "; ".join(f"{r.source} {r.object} ({r.message.rstrip('.')})" for r in report.left_out)
        raise DataRefusedError(
            f"Published, but without {what}. Lists that need it are incomplete for this day, and stay so: a published "
            "day does not change. Put it right before the next run."
        )


def print_next_steps(report: RunReport, console: Console) -> None:
    """After the demo: one query to paste, the UI, and how a real portal is connected."""
    assert report.published is not None, "a demo that ends without an error has published"
    file = shown(report.published)
    console.print("\nAsk it (any DuckDB client from 1.2 on):")
    query = "SELECT name, owner_name, mrr, reasons, why FROM hub.organisations_at_risk LIMIT 5"
    console.print(
        f"  .venv/bin/python -c \"import duckdb; duckdb.connect('{file}', read_only=True).sql('{query}').show()\"",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    console.print("\nSee it in Dagster:          make ui")
    console.print("Compare with the truth:     .venv/bin/hub-pipeline demo --check")
    console.print(
        "Connect a real portal:      export HUBSPOT_ACCESS_TOKEN=... and INTERCOM_ACCESS_TOKEN=..., then\n"
        "                            .venv/bin/hub-pipeline init, doctor and run (see README.md)",
        soft_wrap=True,
    )


def shown(path: Path) -> str:
    """A path as people type it: relative to the current folder where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _sources(report: RunReport) -> Table:
    grouped: dict[str, list[StreamResult]] = defaultdict(list)
    for result in report.sources:
        grouped[result.source].append(result)
    table = Table(title="Read", title_justify="left", title_style="bold")
    for column in ("source", "records", "new versions", "requests", "seconds"):
        table.add_column(column, justify="left" if column == "source" else "right")
    for source, items in grouped.items():
        if all(item.status == "not_configured" for item in items):
            table.add_row(source, "not configured", "", "", "")
            continue
        table.add_row(
            source,
            f"{sum(i.records for i in items):,}",
            f"{sum(i.inserted for i in items):,}",
            f"{sum(i.requests for i in items):,}" if any(i.requests for i in items) else "",
            f"{report.source_seconds[source]:.1f}",
        )
        for item in items:
            if item.records:
                table.add_row(
                    f"  {item.object}", f"{item.records:,}", f"{item.inserted:,}", "", "", style="dim"
                )
    return table


def _lists(report: RunReport) -> Table:
    table = Table(title=f"Answers for {report.shown}", title_justify="left", title_style="bold")
    table.add_column("list")
    table.add_column("view")
    table.add_column("rows", justify="right")
    for view, meaning in LISTS.items():
        if (rows := report.rows.get(f"hub.{view}")) is not None:
            table.add_row(meaning, f"hub.{view}", f"{rows:,}")
    return table


def _span(days: Sequence[date]) -> str:
    return str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"
