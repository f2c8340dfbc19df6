"""What the tests that call the command line share."""

from __future__ import annotations

import os
import subprocess


def clean_environment(**changes: str) -> dict[str, str]:
    """This process's environment without what configures the pipeline or Dagster, plus the given variables."""
    ours = ("HUB_", "HUBSPOT_", "INTERCOM_", "DAGSTER_")
    return {**{k: v for k, v in os.environ.items() if not k.startswith(ours)}, **changes}


def plain_sentence(process: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command leaves on standard error."""
    lines = [line for line in process.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, process.stderr
    assert "Traceback" not in process.stderr
    return lines[0]
