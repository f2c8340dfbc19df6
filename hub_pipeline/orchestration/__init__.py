"""Orchestration: one run of one day (run.py), and its Dagster face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub_pipeline.orchestration.command import backfill, execute
    from hub_pipeline.orchestration.run import RunReport

__all__ = ["RunReport", "backfill", "execute"]


def __getattr__(name: str) -> Any:
    # Dagster takes a second to import; whoever only needs the instance folder or the run does not pay for it.
    if name in ("execute", "backfill"):
        from hub_pipeline.orchestration import command

        return getattr(command, name)
    if name == "RunReport":
        from hub_pipeline.orchestration.run import RunReport

        return RunReport
    raise AttributeError(name)
