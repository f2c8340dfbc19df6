"""`hub-pipeline erase` and `hub-pipeline pii`."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub_pipeline.errors import ConfigurationError, WarehouseError
from hub_pipeline.models.engine import day_close
from hub_pipeline.orchestration.run import last_closed_day
from hub_pipeline.report.summary import shown
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.erase import Erasure, erase, find_person
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline.warehouse.personal import PersonalData, stored
from hub_pipeline.warehouse.rewrite import rewrite_build_file, rewrite_is_due

#: So many columns of a table are named one by one.
_NAMED = 8


def erase_person(
    settings: Settings, environment: Environment, emails: list[str], contact_ids: list[str]
) -> Erasure:
    """Erase a person from every layer of the data folder and write the build file anew.

    Raises:
        ConfigurationError: nobody was named, or an address is none.
        WarehouseError: there is no warehouse, or a file cannot be read or written; repeat it to complete it.
        LockHeldError: a run is at work.
    """
    if not emails and not contact_ids:
        raise ConfigurationError("Say who: --email ADDRESS or --contact-id ID. Nobody was erased.")
    for address in emails:
        if "@" not in address.strip("@"):
            raise ConfigurationError(f"{address!r} is no e-mail address. Nobody was erased.")
    warehouse = Warehouse.in_folder(environment.data_dir)
    if not warehouse.build_path.exists():
        raise WarehouseError(
            f"There is no warehouse at {warehouse.build_path}, so there is nobody to erase; `hub-pipeline run` makes one."
        )
    day = last_closed_day(settings)
    with RunLock(environment.data_dir) as lock:
        with warehouse.connect() as connection:
            _, fence = ledger.begin_run(
                connection, lock, warehouse.state_path, day, day_close(day, settings.zone)
            )
            person = find_person(connection, emails, contact_ids)
            folder = environment.data_dir / settings.billing.folder
            try:
                result = erase(warehouse, connection, fence, person, "requested", billing_folder=folder)
            except BaseException:
                ledger.finish_run(connection, fence, "failed", "erasing a person was cut off")
                raise
            ledger.finish_run(connection, fence, "complete", "erased a person")
            due = rewrite_is_due(connection)
        if due:
            rewrite_build_file(warehouse, lock)
    return result


def erase_and_print(
    settings: Settings,
    environment: Environment,
    emails: list[str],
    contact_ids: list[str],
    console: Console,
) -> None:
    """`erase_person`, and what it found."""
    result = erase_person(settings, environment, emails, contact_ids)
    if not result.found:
        console.print(
            "Nobody of that name was in the warehouse; a tombstone keeps the person out from now on."
        )
    else:
        console.print(
            f"Erased: {result.removed_rows:,} rows, {result.changed_values:,} rows of others in which the person stood, "
            f"{result.landing_files:,} landing files and {result.history_files:,} files of Dagster's history written anew.",
            soft_wrap=True,
        )
    for path in result.removed_files:
        console.print(f"Removed {escape(shown(path))}, which a rebuild had set aside.", soft_wrap=True)
    for path in result.billing_files:
        console.print(
            f"[yellow]{escape(shown(path))} is your own file and still holds the address; correct or remove it.[/]",
            soft_wrap=True,
        )
    console.print(
        "Delete the person in HubSpot, Intercom and Stripe too. Until then each run receives them again and erases them again.",
        soft_wrap=True,
    )


def print_personal_data(environment: Environment, console: Console) -> None:
    """What personal data is stored where, file by file.

    Raises:
        WarehouseError: there is no warehouse yet, or it cannot be read.
    """
    warehouse = Warehouse.in_folder(environment.data_dir)
    with warehouse.connect_read_only() as connection:
        _print(f"{shown(warehouse.build_path)} (private)", stored(connection), console)
    if warehouse.published_path.exists():
        with warehouse.connect_published() as connection:
            _print(f"{shown(warehouse.published_path)} (published)", stored(connection), console)
    files = list(warehouse.landing_root.glob("*/*/*/*.ndjson.zst"))
    console.print(
        f"{escape(shown(warehouse.landing_root))} (private): {len(files):,} landing files hold the same records as "
        "schemas raw_*, as they came in.",
        soft_wrap=True,
    )
    if nights := len(list(warehouse.stripe_root.glob("*.parquet"))):
        console.print(
            f"{escape(shown(warehouse.stripe_root))} (private): {nights:,} files hold rows of schema raw_billing that "
            "were made of what Stripe said.",
            soft_wrap=True,
        )
    console.print("What each reader may see, how long it is kept, and how it is erased: docs/privacy.md")


def _print(title: str, found: list[PersonalData], console: Console) -> None:
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    for column in ("table", "columns", "rows", "what"):
        table.add_column(column, justify="right" if column == "rows" else "left", overflow="fold")
    for one in found:
        more = f" and {len(one.columns) - _NAMED} more" if len(one.columns) > _NAMED else ""
        names = ", ".join(one.columns[:_NAMED]) + more
        table.add_row(escape(one.table), escape(names), f"{one.rows:,}", one.meaning)
    console.print(table)
