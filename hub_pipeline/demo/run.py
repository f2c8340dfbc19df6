"""`hub-pipeline demo`: the daily job against the demo company, through the code path a real portal takes.

Only the addresses and tokens differ. The demo keeps to a folder of its own and refuses one that holds real runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
from pydantic import SecretStr
from rich.console import Console

from hub_pipeline.errors import ConfigurationError, DataRefusedError, WarehouseError
from hub_pipeline.settings import Environment, Settings

if TYPE_CHECKING:
    from hub_pipeline.orchestration.run import RunReport

SETTINGS_FILE = Path(__file__).with_name("settings.toml")

_MARKER = ".demo-company"


def demo_folder(data_dir: Path) -> Path:
    """The demo's own data folder, ``<data>/demo``, marked as such.

    Raises:
        ConfigurationError: the folder holds a warehouse that the demo did not make.
        WarehouseError: the folder cannot be made or written.
    """
    folder = data_dir / "demo"
    marker = folder / _MARKER
    try:
        if not marker.exists():
            if folder.exists() and any(folder.iterdir()):
                raise ConfigurationError(
                    f"{folder} holds files that the demo did not make, so the demo does not touch it; "
                    "move them away or set HUB_DATA_DIR to another folder."
                )
            folder.mkdir(parents=True, exist_ok=True)
            marker.write_text(
                "The made-up company of `hub-pipeline demo`; safe to delete.\n", encoding="utf-8"
            )
    except OSError as error:
        raise WarehouseError(
            f"The demo's folder {folder} cannot be made or written ({error.strerror}); set HUB_DATA_DIR to a folder "
            "where you may write."
        ) from error
    return folder


@contextmanager
def demo_company(data_dir: Path, *, a_night_earlier: bool = False) -> Iterator[tuple[Settings, Environment]]:
    """Serve the demo company while the context lasts; give the settings and environment that read it.

    ``a_night_earlier`` serves it as it stood after the day before its last one.
    """
    from hub_pipeline.demo.account import DEMO_AS_OF, DEMO_SEED
    from hub_pipeline.demo.serve import company_process

    folder = demo_folder(data_dir)
    settings = Settings.load(SETTINGS_FILE)
    billing = folder / settings.billing.folder
    with company_process(
        seed=DEMO_SEED, as_of=DEMO_AS_OF, a_night_earlier=a_night_earlier, billing_folder=billing
    ) as company:
        yield (
            settings,
            Environment(
                data_dir=folder,
                settings_file=SETTINGS_FILE,
                hubspot_access_token=SecretStr("demo-hubspot-token"),
                hubspot_base_url=company.hubspot_url,
                intercom_access_token=SecretStr("demo-intercom-token"),
                intercom_base_url=company.intercom_url,
            ),
        )


def first_night(data_dir: Path, console: Console) -> RunReport | None:
    """Run the daily job for the day before the demo's last one, on the company as it stood then.

    Two nights are what the answers about changes are made of, and the second is read as every night after the first
    one is: only what changed. None when that day is stored already. A folder that has the last day without the one
    before was made by another version of the demo; it is made anew.
    """
    from hub_pipeline.demo.account import DEMO_AS_OF
    from hub_pipeline.orchestration import execute
    from hub_pipeline.report.progress import show_progress

    day = DEMO_AS_OF - timedelta(days=1)
    stored = _stored_days(demo_folder(data_dir))
    if day in stored:
        return None
    if stored:
        console.print(f"{data_dir / 'demo'} was made by another version of the demo; it is made anew.")
        shutil.rmtree(data_dir / "demo")
    with (
        demo_company(data_dir, a_night_earlier=True) as (settings, environment),
        show_progress() as progress,
    ):
        return execute(settings, environment, as_of=day, data_dir=environment.data_dir, progress=progress)


def _stored_days(folder: Path) -> set[date]:
    published = folder / "warehouse.duckdb"
    if not published.exists():
        return set()
    try:
        with duckdb.connect(str(published), read_only=True) as connection:
            rows = connection.execute("SELECT DISTINCT as_of FROM marts.organisation_daily").fetchall()
    except duckdb.Error as error:
        raise WarehouseError(
            f"The demo's warehouse {published} cannot be read ({error}); delete {folder} to have it made anew."
        ) from error
    return {day for (day,) in rows}


def run_demo(*, data_dir: Path, check: bool) -> None:
    """Run two nights of the demo company and print what the second found; with ``check`` compare with its truth.

    Raises:
        DataRefusedError: ``check`` is set and a list differs from the truth, or an object could not be read.
    """
    from hub_pipeline.demo.account import DEMO_AS_OF, DEMO_SEED
    from hub_pipeline.orchestration import execute
    from hub_pipeline.report.progress import show_progress
    from hub_pipeline.report.summary import print_first_night, print_next_steps, print_summary, refuse_partial

    console = Console()
    first = first_night(data_dir, console)
    if first is not None:
        print_first_night(first, console)
        refuse_partial(first)
    with demo_company(data_dir) as (settings, environment), show_progress() as progress:
        report = execute(
            settings, environment, as_of=DEMO_AS_OF, data_dir=environment.data_dir, progress=progress
        )
    print_summary(report, console)
    print_next_steps(report, console)
    if check:
        from hub_pipeline.demo.check import check as compare
        from hub_pipeline.demo.check import print_report
        from hub_pipeline.demo.company import build_company

        assert report.published is not None, "a run that ends without an error has published"
        result = compare(report.published, build_company(DEMO_SEED, DEMO_AS_OF))
        print_report(result, console)
        if not result.passed:
            raise DataRefusedError(
                "The published lists differ from the demo company's truth; the differences are above."
            )
    refuse_partial(report)
