"""`hub-pipeline init`: a settings file with proposals read from the portal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.settings import Environment
from hub_pipeline.sources.init_settings import propose


def write_proposal(environment: Environment, output: Path, console: Console) -> None:
    """Write the proposal to a new file.

    Raises:
        ConfigurationError: the file exists, or cannot be written.
    """
    if output.exists():
        raise ConfigurationError(
            f"{output} exists already and is not overwritten; name another file with --output."
        )
    text = propose(environment)
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror}.") from error
    console.print(
        f"Wrote {output}. Read it, correct it, then: hub-pipeline doctor --settings {output}", soft_wrap=True
    )
