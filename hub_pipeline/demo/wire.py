"""What the demo company's HTTP servers share: clock, limits, request log, faults, compression and error handling.

A `Simulator` is one remote system. Its `app` is a Starlette application; `/__hits` answers what was asked of it so
far and needs no token.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub_pipeline.demo.faults import Fault, FaultKind, Faults

LOG = logging.getLogger(__name__)

GZIP_FROM_BYTES = 1_000
"""Smaller bodies are sent as they are, as edge proxies do."""

FAULT = "hub_pipeline.fault"
"""Key of the ASGI scope under which the request's fault lies, for handlers that shape pages."""


class SimulatorClock:
    """The wall clock of a simulated system; a test may set it or move it on.

    Args:
        now: instant it shows first (aware); None = the machine's own time.
        ticking: whether it runs with the machine's clock between changes.
    """

    def __init__(self, now: datetime | None = None, *, ticking: bool = True) -> None:
        self._base = now if now is not None else datetime.now(UTC)
        self._ticking = ticking
        self._started = time.monotonic()
        self._moved = 0.0

    def now(self) -> datetime:
        """The instant it shows, aware, UTC."""
        elapsed = time.monotonic() - self._started if self._ticking else 0.0
        return self._base + timedelta(seconds=elapsed)

    def set(self, now: datetime) -> None:
        """Show `now` from here on."""
        self._base, self._started = now, time.monotonic()

    def advance(self, seconds: float) -> None:
        """Move on; rate-limit windows slide along."""
        self._base += timedelta(seconds=seconds)
        self._moved += seconds

    def monotonic(self) -> float:
        """Seconds for rate-limit windows: real time plus what `advance` added."""
        return time.monotonic() + self._moved


class SlidingWindow:
    """At most `limit` requests in any `seconds`; refused requests do not count."""

    def __init__(self, limit: int, seconds: float, clock: SimulatorClock) -> None:
        self.limit = limit
        self.seconds = seconds
        self._clock = clock
        self._accepted: deque[float] = deque()

    def admit(self) -> bool:
        """Count one request, or say that it is one too many."""
        now = self._clock.monotonic()
        while self._accepted and self._accepted[0] <= now - self.seconds:
            self._accepted.popleft()
        if len(self._accepted) >= self.limit:
            return False
        self._accepted.append(now)
        return True

    @property
    def remaining(self) -> int:
        """Requests left in the window that ended with the last `admit`."""
        return max(0, self.limit - len(self._accepted))


class HitLog:
    """Every request a simulator answered, but not those for the log itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._requests: list[tuple[float, str, str, int, str | None]] = []

    def add(self, method: str, template: str, status: int, fault: str | None) -> None:
        """Record one answered request; `status` 0 means that none was sent."""
        with self._lock:
            self._requests.append((time.monotonic() - self._started, method, template, status, fault))

    def clear(self) -> None:
        """Forget everything and count from here."""
        with self._lock:
            self._started = time.monotonic()
            self._requests.clear()

    def count(self, template: str = "", *, method: str | None = None, status: int | None = None) -> int:
        """Requests whose path template contains `template`, of this method and status when given."""
        with self._lock:
            return sum(
                template in path and method in (None, verb) and status in (None, code)
                for _, verb, path, code, _ in self._requests
            )

    def timestamps(self, template: str = "") -> list[float]:
        """Seconds since the log began of each answer whose path template contains `template`."""
        with self._lock:
            return [at for at, _, path, _, _ in self._requests if template in path]

    def snapshot(self, *, timestamps: bool = False) -> dict[str, Any]:
        """The log as `/__hits` answers it: counts by method, path template, status and fault; times on request."""
        with self._lock:
            requests = list(self._requests)
        groups = Counter((method, path, status, fault) for _, method, path, status, fault in requests)
        answer: dict[str, Any] = {
            "total": len(requests),
            "by_status": {str(k): v for k, v in sorted(Counter(r[3] for r in requests).items())},
            "requests": [
                {"method": method, "path": path, "status": status, "fault": fault, "count": count}
                for (method, path, status, fault), count in sorted(
                    groups.items(), key=lambda item: str(item[0])
                )
            ],
        }
        if timestamps:
            answer["log"] = [
                {"at": round(at, 6), "method": method, "path": path, "status": status, "fault": fault}
                for at, method, path, status, fault in requests
            ]
        return answer


@dataclass(slots=True)
class Reply:
    """One answer: a JSON payload (or bytes as they are), a status, headers beside the usual ones."""

    payload: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/json;charset=utf-8"


Handler = Callable[[Request, Any], Reply]


class Refusal(Exception):
    """Raised by a handler to answer with an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class Simulator:
    """One remote system over HTTP. Subclasses give the routes and the shapes of their errors.

    Attributes:
        token: the only bearer token accepted; a test may change it in mid-run to revoke it.
        latency_ms: added to every answer.
        faults: the plan of faults, empty by default.
        clock: what the Date header, last-modified dates and index lag follow.
        hits: the request log.
        lock: held while a request is answered; hold it to change several things at once.
        max_url: longer request targets (path and query) are answered 414.
    """

    max_url = 16_000

    def __init__(
        self,
        *,
        token: str,
        clock: SimulatorClock | None = None,
        latency_ms: float = 0.0,
        faults: Faults | None = None,
    ) -> None:
        self.token = token
        self.clock = clock if clock is not None else SimulatorClock()
        self.latency_ms = latency_ms
        self.faults = faults if faults is not None else Faults()
        self.hits = HitLog()
        self.lock = threading.RLock()
        self._numbers = 0
        self._app: Starlette | None = None

    @property
    def app(self) -> Starlette:
        """The application; made once, because `routes` is the same for the whole life."""
        if self._app is None:
            self._app = Starlette(
                routes=[Route("/__hits", self._hits, methods=["GET", "DELETE"]), *self.routes()],
                middleware=[Middleware(_Wire, simulator=self)],
                exception_handlers={HTTPException: self._http_error, Refusal: _refused},
            )
        return self._app

    def routes(self) -> Iterable[Route]:
        """The system's own routes, made with `route`."""
        raise NotImplementedError

    def admit(self, request: Request) -> dict[str, str]:
        """Check token, version and limits; give the rate-limit headers of the answer, or raise Refusal."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> Reply:
        """An error in the system's own shape."""
        raise NotImplementedError

    def rate_limited(self, retry_after: str | None) -> Reply:
        """A 429 in the system's own shape."""
        raise NotImplementedError

    def template(self, scope: Scope) -> str:
        """The path as the log counts it: record ids and versions replaced by their names, object types kept."""
        for route in self.app.routes:
            assert isinstance(route, Route)
            match, child = route.matches(scope)
            if match is not Match.NONE:
                shown = route.path
                for name in ("object_type", "from_type", "to_type"):
                    shown = shown.replace(f"{{{name}}}", str(child["path_params"].get(name)))
                return shown
        return str(scope["path"])[:200]

    def identifier(self) -> str:
        """A new id for an answer, the same in every run with the same requests."""
        self._numbers += 1
        return f"{self._numbers:08x}-5eed-4000-8000-{self._numbers * 2654435761 % 2**48:012x}"

    def route(self, template: str, method: str, handler: Handler) -> Route:
        """A route that answers `method` on `template` with `handler`; other methods get 405."""

        async def endpoint(request: Request) -> Response:
            body = await request.body()
            with self.lock:
                headers = self.admit(request)
                payload: Any = None
                if method == "POST":
                    try:
                        payload = msgspec.json.decode(body)
                    except msgspec.DecodeError as error:
                        raise Refusal(self.error(400, f"Invalid input JSON: {error}")) from error
                    if not isinstance(payload, dict):
                        raise Refusal(self.error(400, "Invalid input JSON: an object was expected"))
                reply = handler(request, payload)
                reply.headers = {**headers, **reply.headers}
                return _encode(request, reply)

        route = Route(template, endpoint, methods=[method])
        # Starlette adds HEAD to every GET; the real services answer it, but nothing here should ask for it.
        route.methods = {method}
        return route

    async def _hits(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.hits.clear()
        answer = self.hits.snapshot(timestamps=request.query_params.get("timestamps") == "1")
        return Response(msgspec.json.encode(answer), media_type="application/json")

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        with self.lock:
            return _encode(request, self.error(error.status_code, error.detail))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _encode(request, error.reply)


def _encode(request: Request, reply: Reply) -> Response:
    body = reply.payload if isinstance(reply.payload, bytes) else msgspec.json.encode(reply.payload)
    headers = {**reply.headers, "vary": "Accept-Encoding"}
    accepted = {item.split(";")[0].strip() for item in request.headers.get("accept-encoding", "").split(",")}
    if "gzip" in accepted and len(body) >= GZIP_FROM_BYTES:
        body = gzip.compress(body, compresslevel=1)
        headers["content-encoding"] = "gzip"
    return Response(body, status_code=reply.status, headers=headers, media_type=reply.media_type)


def _edge_page(status: int, title: str) -> Reply:
    page = (
        f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n<center><h1>{status} {title}</h1>"
        "</center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
    )
    return Reply(page.encode(), status=status, media_type="text/html")


class _Wire:
    """Between the socket and the routes: latency, faults, URL length, the Date header, the log."""

    def __init__(self, app: ASGIApp, simulator: Simulator) -> None:
        self._app = app
        self._simulator = simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/__hits":
            await self._app(scope, receive, send)
            return
        simulator = self._simulator
        fault = simulator.faults.next(scope["method"], scope["path"])
        scope[FAULT] = fault
        started = False

        def log(status: int) -> None:
            kind = fault.kind.value if fault else None
            simulator.hits.add(scope["method"], simulator.template(scope), status, kind)

        async def dated(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                # Before the first byte leaves: whoever has read an answer finds it in the log.
                log(message["status"])
                stamp = format_datetime(simulator.clock.now().replace(microsecond=0), usegmt=True)
                message["headers"] = [*message["headers"], (b"date", stamp.encode())]
            await send(message)

        pause = simulator.latency_ms / 1000
        if fault is not None and fault.kind is FaultKind.SLOW:
            pause += fault.seconds
        if pause:
            await asyncio.sleep(pause)
        try:
            await self._answer(fault, scope, receive, dated)
        except Exception:
            LOG.exception("The simulator failed on %s %s.", scope["method"], scope["path"])
            if not started:
                log(500)  # The middleware outside this one answers it.
            raise
        if not started:
            log(0)

    async def _answer(self, fault: Fault | None, scope: Scope, receive: Receive, send: Send) -> None:
        simulator = self._simulator
        target = len(scope["raw_path"]) + 1 + len(scope["query_string"])
        reply: Reply | None = None
        if target > simulator.max_url:
            reply = _edge_page(414, "Request-URI Too Large")
        elif fault is None:
            pass
        elif fault.kind is FaultKind.BAD_GATEWAY:
            reply = _edge_page(502, "Bad Gateway")
        elif fault.kind is FaultKind.UNAVAILABLE:
            reply = _edge_page(503, "Service Temporarily Unavailable")
        elif fault.kind is FaultKind.RATE_LIMITED:
            reply = simulator.rate_limited(fault.retry_after)
        elif fault.kind is FaultKind.CANNED:
            reply = Reply(fault.body, status=fault.status, headers=dict(fault.headers))
        if reply is not None:
            await _encode(Request(scope), reply)(scope, receive, send)
        elif fault is not None and fault.kind in (FaultKind.TRUNCATED, FaultKind.HANG, FaultKind.DRIP):
            await self._broken_body(fault, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _broken_body(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the headers of the right answer and something less than its body."""
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        start, body = messages[0], b"".join(message.get("body", b"") for message in messages[1:])
        await send(start)
        if fault.kind is FaultKind.DRIP:
            for position in range(len(body)):
                more = position + 1 < len(body)
                await send(
                    {"type": "http.response.body", "body": body[position : position + 1], "more_body": more}
                )
                await asyncio.sleep(fault.seconds)
            return
        sent = body[: len(body) // 2] if fault.kind is FaultKind.TRUNCATED else b""
        await send({"type": "http.response.body", "body": sent, "more_body": True})
        # Returning without the rest makes the server close the connection, which is the fault.
        await asyncio.sleep(fault.seconds)
