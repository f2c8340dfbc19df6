"""The real views, published, are read by the oldest client that is promised (DuckDB 1.2)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hub_pipeline.models import build, load_inputs
from hub_pipeline.settings import Settings
from hub_pipeline.warehouse.publish import publish
from hub_pipeline_tests.warehouse.support import DAY, run

OLD_CLIENT = Path(__file__).parents[2] / ".cache" / "old-duckdb"

READ_ALL = """
import duckdb, json, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
problems = {}
views = [name for (name,) in connection.execute(
    "SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal").fetchall()]
for name in views:
    try:
        connection.execute(f"SELECT * FROM {name}").fetchall()
    except duckdb.Error as error:
        problems[name] = str(error)
print(json.dumps([duckdb.__version__, views, problems]))
"""


@pytest.mark.skipif(not OLD_CLIENT.exists(), reason="make setup-dev installs the older client")
def test_every_view_of_schema_hub_is_read_by_duckdb_1_2(tmp_path: Path) -> None:
    empty = tmp_path / "inputs"
    empty.mkdir()
    with run(tmp_path / "data") as one:
        load_inputs(one.connection, empty, Settings())
        build(one.connection, DAY, settings=Settings())
        result = publish(one.warehouse, one.connection, one.fence, one.load, Settings())
    answer = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(result.path)],
        capture_output=True, text=True, env={"PYTHONPATH": str(OLD_CLIENT)}, check=True,
    )  # fmt: skip
    version, views, problems = json.loads(answer.stdout)
    assert version.startswith("1.2.")
    assert set(views) == set(result.views)
    assert problems == {}
