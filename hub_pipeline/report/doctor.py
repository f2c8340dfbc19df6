"""`hub-pipeline doctor`: what works, what is missing, and what to do about it."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from hub_pipeline.errors import ConfigurationError, HubPipelineError, SourceUnavailableError, WarehouseError
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.doctor import doctor

_MARKS = {"ok": "[green]ok[/]     ", "warning": "[yellow]warning[/]", "error": "[red]error[/]  "}

#: Which error ends the command when there are several: first what waiting does not mend.
_ERRORS: tuple[type[HubPipelineError], ...] = (ConfigurationError, WarehouseError, SourceUnavailableError)


def print_doctor(settings: Settings, environment: Environment, console: Console) -> None:
    """Print one line for each finding.

    Raises:
        ConfigurationError: a credential, scope or setting that a run needs is missing or wrong.
        WarehouseError: the data folder or the run lock cannot be used.
        SourceUnavailableError: a source is down or limits us.
    """
    findings = doctor(settings, environment)
    for finding in findings:
        console.print(
            f"{_MARKS[finding.level]} {escape(finding.subject)}: {escape(finding.message)}", soft_wrap=True
        )
    broken = [finding for finding in findings if finding.level == "error"]
    if broken:
        codes = {finding.exit_code for finding in broken}
        kind = next(error for error in _ERRORS if error.exit_code in codes)
        subjects = ", ".join(finding.subject for finding in broken)
        raise kind(f"A run would not succeed: see {subjects} above. Nothing was changed.")
