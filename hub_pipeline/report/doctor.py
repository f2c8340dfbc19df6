"""`hub-pipeline doctor`: what works, what is missing, and what to do about it."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.doctor import doctor

_MARKS = {"ok": "[green]ok[/]     ", "warning": "[yellow]warning[/]", "error": "[red]error[/]  "}


def print_doctor(settings: Settings, environment: Environment, console: Console) -> None:
    """Print one line for each finding.

    Raises:
        ConfigurationError: something that a run needs does not work.
    """
    findings = doctor(settings, environment)
    for finding in findings:
        console.print(
            f"{_MARKS[finding.level]} {escape(finding.subject)}: {escape(finding.message)}", soft_wrap=True
        )
    broken = [finding.subject for finding in findings if finding.level == "error"]
    if broken:
        raise ConfigurationError(
            f"A run would not succeed: see {', '.join(broken)} above. Nothing was changed."
        )
