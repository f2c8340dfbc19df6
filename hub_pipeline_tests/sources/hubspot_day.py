"""One reading of a served portal as a process of its own, for the tests that kill it.

``python -m hub_pipeline_tests.sources.hubspot_day DATA_DIR ADDRESS DAY``; each page becomes a landing file.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

from hub_pipeline.settings import Settings
from hub_pipeline.sources import hubspot
from hub_pipeline.sources.progress import NullProgress
from hub_pipeline.warehouse import landing
from hub_pipeline.warehouse.known import WarehouseKnown
from hub_pipeline_tests.sources.reading import environment, settings_with
from hub_pipeline_tests.warehouse.support import run


def settings() -> Settings:
    """Lists of more than 100 records are read by several chains; a full list is never due."""
    return settings_with(
        requests_per_10_seconds=100_000,
        searches_per_second=100_000,
        workers=3,
        time_budget_seconds=600,
        parallel_from_records=100,
        full_list_days=1_000,
        census_days=1_000,
    )


def main(data_dir: Path, address: str, day: date) -> None:
    """Read and load; what is landed in files of one page."""
    landing.ROLL_BYTES = 1
    with run(data_dir, day) as one:
        known = WarehouseKnown(one.connection)
        for stream, files, result in hubspot.extract(
            settings(),
            environment(data_dir, address),
            one.warehouse.landing_root,
            one.load,
            NullProgress(),
            known,
        ):
            if result.object in ("account", "owners", "users", "pipelines", "properties"):
                continue  # neither killed nor changed here
            for file in files:
                one.loader.load_file(stream, file)
            one.loader.finish_stream(stream, files, result, 1.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], date.fromisoformat(sys.argv[3]))
