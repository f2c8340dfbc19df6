"""The Dagster UI, on 127.0.0.1 only, with the daemon that runs schedules and sensors."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

from rich.console import Console

from hub_pipeline.errors import ConfigurationError, WarehouseError
from hub_pipeline.orchestration.instance import prepare_dagster_home
from hub_pipeline.settings import Environment, Settings

#: `dagster dev` warns that another command has taken its place; that one is in a package that is not needed here.
_QUIET = "ignore:Function `dev_command` is superseded"


def serve_ui(settings: Settings, environment: Environment, *, port: int, demo: bool) -> None:
    """Serve the UI until interrupted; with ``demo`` the demo company's servers run beside it.

    When no source is configured the demo company is shown, and this is said: there is nothing else to show.

    Raises:
        ConfigurationError: the port is taken.
        WarehouseError: the UI ended by itself.
    """
    from hub_pipeline.sources.billing import has_extracts

    _check_port(port)
    console = Console(stderr=True)
    configured = bool(
        environment.hubspot_access_token
        or environment.intercom_access_token
        or environment.stripe_api_key
        or has_extracts(settings, environment.data_dir)
    )
    if not demo and not configured:
        console.print(
            "No source is configured, so this is the demo company; the README says how to connect yours."
        )
        demo = True
    with contextlib.ExitStack() as stack:
        if demo:
            from hub_pipeline.demo.run import demo_company, first_night

            # The days of the demo are read in their order, so the last one is left for the UI to materialise.
            first_night(environment.data_dir, console)
            settings, environment = stack.enter_context(demo_company(environment.data_dir))
        home = prepare_dagster_home(environment.data_dir)
        console.print(f"Dagster UI: http://127.0.0.1:{port}  (Ctrl-C ends it)")
        command = [
            *(sys.executable, "-W", _QUIET, "-m", "dagster", "dev"),
            *("-h", "127.0.0.1", "-p", str(port), "-m", "hub_pipeline.definitions"),
        ]
        variables = {**os.environ, **_variables(environment), "DAGSTER_HOME": str(home)}
        process = subprocess.Popen(command, env=variables)
        with _stopping(process):
            code = process.wait()
        # Also 0: that is how `dagster dev` ends when its web server or daemon died.
        raise WarehouseError(
            f"The Dagster UI ended by itself with exit code {code}; its own messages are above. What was committed "
            "is kept; start it again."
        )


def _check_port(port: int) -> None:
    """Refuse a port that is taken: `dagster dev` would say so in a traceback and go on waiting.

    Raises:
        ConfigurationError: naming the port.
    """
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise ConfigurationError(
            f"The port {port} of 127.0.0.1 cannot be used ({os.strerror(error.errno or 0)}); give another one with "
            "--port."
        ) from error


def _variables(environment: Environment) -> dict[str, str]:
    """The environment that makes `Environment.read` in another process give the same values."""
    values: dict[str, str] = {
        "HUB_DATA_DIR": str(environment.data_dir),
        "HUBSPOT_BASE_URL": environment.hubspot_base_url,
        "HUBSPOT_API_VERSION": environment.hubspot_api_version,
        "STRIPE_BASE_URL": environment.stripe_base_url,
    }
    if environment.settings_file is not None:
        values["HUB_SETTINGS"] = str(environment.settings_file.absolute())
    if environment.intercom_base_url is not None:
        values["INTERCOM_BASE_URL"] = environment.intercom_base_url
    for name, secret in (
        ("HUBSPOT_ACCESS_TOKEN", environment.hubspot_access_token),
        ("INTERCOM_ACCESS_TOKEN", environment.intercom_access_token),
        ("STRIPE_API_KEY", environment.stripe_api_key),
    ):
        if secret is not None and not os.environ.get(f"{name}_FILE"):
            values[name] = secret.get_secret_value()
    return values


@contextlib.contextmanager
def _stopping(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
