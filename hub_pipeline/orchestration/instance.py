"""Where Dagster keeps its runs and events: beside the data, private, telemetry off."""

from __future__ import annotations

import os
from pathlib import Path

from hub_pipeline.errors import WarehouseError

#: Telemetry is on unless it says otherwise. Compute logs are off: what a step prints may hold personal data, and teeing it costs a process for each step.
DAGSTER_YAML = """\
# Written by hub-pipeline when missing; yours to change.
telemetry:
  enabled: false
nux:
  enabled: false
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
event_log_storage:
  module: hub_pipeline.orchestration.event_log
  class: PooledSqliteEventLogStorage
  config:
    base_dir:
      env: DAGSTER_HOME
"""


def prepare_dagster_home(data_dir: Path) -> Path:
    """``DAGSTER_HOME`` if it is set, else ``<data_dir>/dagster_home``; made with mode 0700 and a dagster.yaml.

    Raises:
        WarehouseError: it cannot be written.
    """
    given = os.environ.get("DAGSTER_HOME")
    home = Path(given).absolute() if given else data_dir.absolute() / "dagster_home"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not given:
            home.chmod(0o700)
        config = home / "dagster.yaml"
        if not config.exists():
            config.write_text(DAGSTER_YAML, encoding="utf-8")
            config.chmod(0o600)
    except OSError as error:
        raise WarehouseError(
            f"Dagster's folder {home} cannot be written: {error.strerror}. Nothing was read or changed; "
            "make room, give the right to write there, or set DAGSTER_HOME."
        ) from error
    return home
