"""hub-pipeline on the command line: each command calls one function and prints what it found.

Exit codes: 0 done; 2 configuration or credentials; 3 a source is down or limits us; 4 a guard refused the data, or
one optional object could not be read; 5 warehouse, disk or lock; 130/143 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import date, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from hub_pipeline import __version__
from hub_pipeline.errors import HubPipelineError

app = typer.Typer(
    name="hub-pipeline",
    help="The customer-success warehouse: HubSpot, Intercom and billing into DuckDB, with all history.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="TOML file over the defaults (else HUB_SETTINGS).")
]
AsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", formats=["%Y-%m-%d"], help="Day to answer for; default: the last closed day."),
]


def _load(settings_file: Path | None):  # type: ignore[no-untyped-def]
    from hub_pipeline.settings import Environment, Settings

    environment = Environment.read()
    if settings_file is not None:
        environment = environment.model_copy(update={"settings_file": settings_file})
    return Settings.load(environment.settings_file), environment


@app.command()
def demo(
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compare every view with the company's known truth; exit 4 if it differs."
        ),
    ] = False,
) -> None:
    """Run two nights of the daily job against a made-up company, over real HTTP, and show what the second found."""
    from hub_pipeline.demo.run import run_demo
    from hub_pipeline.settings import Environment

    run_demo(data_dir=Environment.read().data_dir, check=check)


@app.command()
def run(
    settings: SettingsFile = None,
    as_of: AsOf = None,
    accept_shrink: Annotated[
        bool,
        typer.Option("--accept-shrink", help="Believe full lists that are much shorter than the last ones."),
    ] = False,
    accept_purge: Annotated[
        bool,
        typer.Option(
            "--accept-purge",
            help="Believe that HubSpot deleted that many contacts for privacy, and erase them.",
        ),
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            help="Read this source alone (hubspot, intercom, billing or stripe); the others keep theirs."
        ),
    ] = None,
) -> None:
    """Read every configured source, build the day's answers and publish the warehouse."""
    from hub_pipeline.orchestration import execute
    from hub_pipeline.report.progress import show_progress
    from hub_pipeline.report.summary import print_summary, refuse_partial

    loaded, environment = _load(settings)
    with show_progress() as progress:
        report = execute(
            loaded,
            environment,
            as_of=_day(as_of),
            data_dir=environment.data_dir,
            progress=progress,
            accept_shrink=accept_shrink,
            accept_purge=accept_purge,
            only=only,
        )
    print_summary(report, Console())
    refuse_partial(report)


@app.command()
def backfill(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, inclusive.")],
    settings: SettingsFile = None,
    current_settings: Annotated[
        bool,
        typer.Option(
            "--current-settings", help="Apply today's settings to published days; else each keeps its own."
        ),
    ] = False,
    known_at: Annotated[
        datetime | None,
        typer.Option(
            "--known-at",
            formats=["%Y-%m-%d"],
            help="Restate the days with what was known at this day's close.",
        ),
    ] = None,
) -> None:
    """Build many days from what is stored, without reading any source, and publish them."""
    from hub_pipeline.orchestration import backfill as build_days
    from hub_pipeline.report.progress import show_progress
    from hub_pipeline.report.summary import print_backfill

    loaded, environment = _load(settings)
    with show_progress() as progress:
        report = build_days(
            loaded,
            environment,
            first.date(),
            last.date(),
            progress,
            current_settings=current_settings,
            known_at=_day(known_at),
        )
    print_backfill(report, first.date(), last.date(), Console())


@app.command()
def build(
    inputs: Annotated[Path, typer.Option(help="Folder of canonical files <table>.ndjson|csv|parquet.")],
    warehouse: Annotated[Path, typer.Option(help="DuckDB file to build into; created if missing.")],
    as_of: Annotated[datetime, typer.Option("--as-of", formats=["%Y-%m-%d"], help="Day to answer for.")],
    known_at: Annotated[
        datetime | None,
        typer.Option(
            "--known-at", formats=["%Y-%m-%d"], help="With what was known at the close of this day."
        ),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Build the marts from your own canonical files, without any source."""
    from hub_pipeline.report.build import build_from_files

    loaded, _ = _load(settings)
    build_from_files(inputs, warehouse, as_of.date(), _day(known_at), loaded, Console())


@app.command()
def ui(
    settings: SettingsFile = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 3000,
    demo_company: Annotated[
        bool, typer.Option("--demo", help="The demo company, with its servers, instead of your sources.")
    ] = False,
) -> None:
    """Open the Dagster UI on 127.0.0.1; materialising everything there does what `run` does."""
    from hub_pipeline.orchestration.ui import serve_ui

    loaded, environment = _load(settings)
    serve_ui(loaded, environment, port=port, demo=demo_company)


@app.command()
def doctor(settings: SettingsFile = None) -> None:
    """Say what works and what is missing: tokens, scopes, records, versions, disk, lock."""
    from hub_pipeline.report.doctor import print_doctor

    loaded, environment = _load(settings)
    print_doctor(loaded, environment, Console())


@app.command()
def init(
    output: Annotated[Path, typer.Option(help="Settings file to write; never overwritten.")] = Path(
        "settings.toml"
    ),
) -> None:
    """Read the portal and write a settings file with proposals for pipelines, stages and properties."""
    from hub_pipeline.report.init import write_proposal
    from hub_pipeline.settings import Environment

    write_proposal(Environment.read(), output, Console())


@app.command("settings")
def show_settings(settings: SettingsFile = None) -> None:
    """Print every setting: key, type, value in force, meaning."""
    from hub_pipeline.report.settings import print_settings

    loaded, _ = _load(settings)
    print_settings(loaded, Console())


@app.command()
def rebuild() -> None:
    """Make a new build file from the landing files and the published warehouse; the old one is set aside."""
    from hub_pipeline.settings import Environment
    from hub_pipeline.warehouse.database import Warehouse
    from hub_pipeline.warehouse.lock import RunLock
    from hub_pipeline.warehouse.rebuild import rebuild as rebuild_warehouse

    data_dir = Environment.read().data_dir
    with RunLock(data_dir) as lock:
        result = rebuild_warehouse(Warehouse.in_folder(data_dir), lock)
    print(f"Rebuilt: {result.versions:,} versions and events, {result.days:,} published days taken over.")
    if result.set_aside is not None:
        print(f"The old build file is {result.set_aside}.")
    print("Run `hub-pipeline run` to build and publish the newest day again.")


@app.command()
def explain(
    organisation: Annotated[str, typer.Argument(help="Id or exact name of the organisation.")],
    as_of: AsOf = None,
    settings: SettingsFile = None,
) -> None:
    """Say why an organisation is or is not on each list of a stored day, with the rows behind it."""
    from hub_pipeline.report.explain import explain as print_explanation
    from hub_pipeline.warehouse.database import Warehouse

    loaded, environment = _load(settings)
    published = Warehouse.in_folder(environment.data_dir).published_path
    print_explanation(published, organisation, _day(as_of), loaded, Console())


@app.command()
def erase(
    email: Annotated[
        list[str] | None, typer.Option("--email", help="Address of the person; may be repeated.")
    ] = None,
    contact_id: Annotated[
        list[str] | None, typer.Option("--contact-id", help="HubSpot id of the contact; may be repeated.")
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Remove a person from every layer, landing files and the published warehouse included; cannot be undone."""
    from hub_pipeline.report.privacy import erase_and_print

    loaded, environment = _load(settings)
    erase_and_print(loaded, environment, email or [], contact_id or [], Console())


@app.command()
def pii() -> None:
    """Print what personal data is stored where, with the number of rows that hold any."""
    from hub_pipeline.report.privacy import print_personal_data
    from hub_pipeline.settings import Environment

    print_personal_data(Environment.read(), Console())


@app.command()
def fingerprint(
    file: Annotated[Path, typer.Argument(help="A DuckDB file, such as data/warehouse.duckdb.")],
) -> None:
    """Print a hash of the rows of every table (run ids and load times left out), to compare two runs."""
    from hub_pipeline.warehouse.fingerprint import fingerprint as hashes

    for table, value in sorted(hashes(file).items()):
        print(f"{value}  {table}")


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _day(value: datetime | None) -> date | None:
    return None if value is None else value.date()


class _TerminatedError(BaseException):
    """SIGTERM, as an exception, so that `finally` and context managers run."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _TerminatedError


def main() -> None:
    """Entry point: every error a user can cause ends as one plain sentence and an exit code."""
    os.umask(
        0o077
    )  # landing, build and history are private; the published file gets its mode from the settings
    signal.signal(signal.SIGTERM, _terminate)
    error_console = Console(stderr=True, highlight=False)
    try:
        app()
    except HubPipelineError as error:
        error_console.print(f"[bold red]Error:[/] {_escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        error_console.print("Interrupted; what was committed is kept, run again to continue.")
        sys.exit(130)
    except _TerminatedError:
        error_console.print("Terminated; what was committed is kept, run again to continue.")
        sys.exit(143)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
