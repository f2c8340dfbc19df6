"""A billing file several times larger than DuckDB's memory limit is loaded within it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hub_pipeline_tests.sources.billing_folder import ITEMS

LIMIT = "128MB"
ROWS = 900_000
#: Python with DuckDB and the interpreter's own modules, threads' stacks and buffers that DuckDB's limit does not count.
OUTSIDE = 320 << 20

_LOAD = """
import resource, sys
from datetime import date
from pathlib import Path
from hub_pipeline.models.engine import day_close
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources import billing
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.lock import RunLock

data, limit = Path(sys.argv[1]), sys.argv[2]
settings = Settings.model_validate({"billing": {"settle_seconds": 0}})
warehouse = Warehouse.in_folder(data, limit)
close = day_close(date(2026, 10, 31), settings.zone)
with warehouse.connect() as connection, RunLock(data) as lock:
    load, fence = ledger.begin_run(connection, lock, warehouse.state_path, date(2026, 10, 31), close)
    billing.load(connection, settings, Environment.read({"HUB_DATA_DIR": str(data)}), load, fence)
    rows = connection.execute("SELECT rows_total, accepted, inserted FROM raw_billing.files").fetchall()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, *rows[0])
"""


@pytest.mark.slow
def test_a_file_whose_rows_take_several_times_the_limit_is_loaded_within_it(tmp_path: Path) -> None:
    incoming = tmp_path / "billing/incoming/crm"
    incoming.mkdir(parents=True)
    with (incoming / "subscription_items__2026-10-01.csv").open("w") as file:
        file.write(f"{ITEMS}\n")
        file.writelines(
            f"item_{n:012},subscription_{n:012},seat,{n % 50},1200,month,2026-01-01T00:00:00Z,2026-10-01T00:00:00Z\n"
            for n in range(ROWS)
        )
        assert file.tell() > 60e6
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(tmp_path), LIMIT],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    peak, total, accepted, inserted = (int(word) for word in done.stdout.split()[-4:])
    assert (total, accepted, inserted) == (ROWS, ROWS, ROWS)
    assert peak < 128e6 + OUTSIDE, f"peak of {peak / 1e6:.0f} MB"
