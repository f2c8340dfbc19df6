"""The demo company on loopback: in this process for tests, or as a process of its own.

As a process: ``python -m hub_pipeline.demo.serve --as-of 2026-10-31 --seed 8443689 --ready-file ready.json``. It
writes the addresses into the ready file once both servers answer, and stops on SIGTERM, on SIGINT, or when the
process that started it is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from hub_pipeline.demo import faults as fault_plans
from hub_pipeline.demo.account import Company
from hub_pipeline.demo.faults import Faults
from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline.demo.intercom_server import IntercomSimulator
from hub_pipeline.demo.wire import SimulatorClock
from hub_pipeline.errors import HubPipelineError

START_SECONDS = 60.0
"""A demo process that is not ready by then is given up."""

STOP_SECONDS = 5.0
PARENT_CHECK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class RunningCompany:
    """Both systems of the demo company, being served by this process."""

    hubspot_url: str
    intercom_url: str
    hubspot: HubSpotSimulator
    intercom: IntercomSimulator


@dataclass(frozen=True, slots=True)
class CompanyProcess:
    """Both systems of the demo company, being served by another process."""

    hubspot_url: str
    intercom_url: str
    pid: int


@contextmanager
def serving(*apps: ASGIApp) -> Iterator[list[str]]:
    """Serve each app on a free loopback port from one background thread; give their addresses in order.

    Ports accept connections when the context is entered. On exit, open requests are cut off at once.
    """
    sockets = [_listen() for _ in apps]
    servers = [
        uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="critical",
                access_log=False,
                lifespan="off",
                ws="none",
                date_header=False,
                server_header=False,
                timeout_keep_alive=60,
            )
        )
        for app in apps
    ]
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        pairs = zip(servers, sockets, strict=True)
        tasks = [asyncio.create_task(server.serve(sockets=[listener])) for server, listener in pairs]
        stopping = asyncio.create_task(stop.wait())
        # A server that ends by itself has failed to start, which the thread's end tells the caller.
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        # Not uvicorn's own shutdown: it waits tenths of a second, and for requests that a fault keeps open.
        for server in servers:
            for listener in server.servers:
                listener.close()
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            tasks.extend(server.server_state.tasks)
        for task in (stopping, *tasks):
            task.cancel()
        await asyncio.gather(stopping, *tasks, return_exceptions=True)

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=serve, name="demo-servers", daemon=True)
    thread.start()
    try:
        while not all(server.started for server in servers):
            if not thread.is_alive():
                raise HubPipelineError("The servers of the demo company did not start.")
            time.sleep(0.001)
        yield [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in sockets]
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=STOP_SECONDS)
        for listener in sockets:
            listener.close()


def _listen() -> socket.socket:
    # With the protocol named, asyncio switches off the delay that would cost 40 ms for every answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


@contextmanager
def running_company(
    company: Company,
    *,
    latency_ms: float = 0.0,
    faults: Faults | None = None,
    intercom_faults: Faults | None = None,
    clock: SimulatorClock | None = None,
) -> Iterator[RunningCompany]:
    """Serve a company from this process; tests may change the company and the simulators meanwhile.

    Args:
        company: the data; both systems show its `now` on their clocks, which run from there.
        latency_ms: added to every answer of both systems.
        faults: what HubSpot's requests suffer; none by default.
        intercom_faults: what Intercom's requests suffer; none by default.
        clock: another clock for both, such as one that stands still.
    """
    clock = clock if clock is not None else SimulatorClock(company.now)
    hubspot = HubSpotSimulator(company.hubspot, clock=clock, latency_ms=latency_ms, faults=faults)
    intercom = IntercomSimulator(company.intercom, clock=clock, latency_ms=latency_ms, faults=intercom_faults)
    with serving(hubspot.app, intercom.app) as (hubspot_url, intercom_url):
        yield RunningCompany(hubspot_url, intercom_url, hubspot, intercom)


def write_billing(company: Company, folder: Path) -> None:
    """Write the company's billing extracts below `folder`, each complete before it appears under its name."""
    for name, content in company.billing.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        partial.write_bytes(content)
        partial.replace(path)


@contextmanager
def company_process(
    *,
    seed: int,
    as_of: date,
    a_night_earlier: bool = False,
    billing_folder: Path | None = None,
    latency_ms: float = 25.0,
    faults: str = "mild",
) -> Iterator[CompanyProcess]:
    """Serve the demo company from a process of its own, which ends with this context or with this process.

    Args:
        seed: of the company and of its faults.
        as_of: the company's last closed day.
        a_night_earlier: serve the company as it stood after the day before as_of.
        billing_folder: where its billing extracts are written before the servers are ready; None = nowhere.
        latency_ms: added to every answer.
        faults: "mild" or "none".

    Raises:
        HubPipelineError: the process ended or was not ready in time.
    """
    with tempfile.TemporaryDirectory(prefix="hub-demo-") as scratch:
        ready, log = Path(scratch) / "ready.json", Path(scratch) / "log.txt"
        command = [
            sys.executable,
            "-m",
            "hub_pipeline.demo.serve",
            "--seed",
            str(seed),
            "--as-of",
            str(as_of),
        ]
        command += ["--ready-file", str(ready), "--latency-ms", str(latency_ms), "--faults", faults]
        command += ["--parent-pid", str(os.getpid())]
        if a_night_earlier:
            command.append("--a-night-earlier")
        if billing_folder is not None:
            command += ["--billing-folder", str(billing_folder)]
        with log.open("wb") as output:
            # A session of its own: Ctrl-C reaches this process first, which still needs the servers to end tidily.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            _wait_until_ready(process, ready, log)
            values = json.loads(ready.read_bytes())
            yield CompanyProcess(values["hubspot_url"], values["intercom_url"], values["pid"])
        finally:
            process.terminate()
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], ready: Path, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise HubPipelineError(f"The demo company's servers did not start: {lines[-1]}")
        time.sleep(0.01)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the demo company until told to stop; the module's command line."""
    parser = argparse.ArgumentParser(prog="python -m hub_pipeline.demo.serve", description=__doc__)
    parser.add_argument("--as-of", type=date.fromisoformat, required=True, help="last closed day, YYYY-MM-DD")
    parser.add_argument("--seed", type=int, required=True, help="seed of the company and its faults")
    parser.add_argument("--ready-file", type=Path, required=True, help="JSON with both addresses and the pid")
    parser.add_argument(
        "--a-night-earlier", action="store_true", help="as the company stood after the day before"
    )
    parser.add_argument("--latency-ms", type=float, default=0.0, help="added to every answer")
    parser.add_argument("--faults", choices=("mild", "none"), default="none", help="what goes wrong")
    parser.add_argument("--billing-folder", type=Path, help="write the billing extracts here first")
    parser.add_argument("--parent-pid", type=int, default=os.getppid(), help="stop when this process is gone")
    options = parser.parse_args(arguments)

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    # Imported here so that the servers can be used without the generator.
    from hub_pipeline.demo.company import build_company
    from hub_pipeline.demo.rewind import night_before

    company = build_company(options.seed, options.as_of)
    if options.a_night_earlier:
        company = night_before(company)
    if options.billing_folder is not None:
        write_billing(company, options.billing_folder)
    mild = options.faults == "mild"
    with running_company(
        company,
        latency_ms=options.latency_ms,
        faults=fault_plans.mild(options.seed) if mild else None,
        intercom_faults=fault_plans.mild_intercom(options.seed) if mild else None,
    ) as running:
        values = {
            "hubspot_url": running.hubspot_url,
            "intercom_url": running.intercom_url,
            "pid": os.getpid(),
        }
        partial = options.ready_file.with_name(options.ready_file.name + ".part")
        partial.write_text(json.dumps(values), encoding="utf-8")
        partial.replace(options.ready_file)
        while not stop.wait(PARENT_CHECK_SECONDS) and os.getppid() == options.parent_pid:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
