"""HTTP as every source needs it: paced, retried, bounded in time and size, and silent about its token.

Layers, inner to outer: `BoundedPool` makes one attempt and gives back a complete `Reply` or says why there is none;
`Pacer` decides when an attempt may start; `Transport` repeats attempts, turns final answers into the errors of
`hub_pipeline.errors`, and counts. A `Budget` bounds all of it together, and cancels it.

Rules: reliability.md 1 to 29. A redirect is never followed, because it would carry the token along; certificates
are always verified; plain http is accepted for loopback addresses only.
"""

from __future__ import annotations

import email.utils
import random
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

import msgspec
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from hub_pipeline.errors import ConfigurationError, HubPipelineError, SourceUnavailableError

T = TypeVar("T")

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
#: One attempt, from connecting to the last byte, however steadily bytes drip in.
ATTEMPT_SECONDS = 60.0
#: Largest decoded body that is believed; the largest honest page (100 records, 2,000 properties) is below 20 MB.
MAX_BODY_BYTES = 128 * 1024 * 1024
#: A server may ask for this much patience; more than that is "come back later".
MAX_WAIT_SECONDS = 120.0
#: The end of a longer wait is no date worth naming, and may lie beyond the calendar.
_LONGEST_NAMED = 366 * 86_400.0
BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0

#: Attempts for each kind of trouble. Limits get more, because waiting is all they need.
ATTEMPTS = {"limited": 10, "server": 6, "network": 6, "body": 4}
#: What a source that could not be read leaves behind; whoever only asks a few questions says so instead.
KEPT = "Objects that were complete are kept and nothing was published"
RETRY_STATUSES = frozenset({408, 423, 425, 477, 500, 502, 503, 504, *range(520, 531)})


class ForbiddenError(ConfigurationError):
    """403: the token is valid but may not read this; ``scopes`` are the missing ones if the server named them."""

    def __init__(self, message: str, scopes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.scopes = scopes


class RejectedError(ConfigurationError):
    """Another 4xx: the request itself is refused; ``status`` and the server's ``reason`` (redacted) say why."""

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NoAnswerError(SourceUnavailableError):
    """All attempts of one request brought no usable answer."""


class CancelledError(HubPipelineError):
    """Another request of the same source failed for good, so this one was given up."""


class Budget:
    """The time one source may take altogether; shared by all its threads, which it can also cancel.

    Args:
        source: name for messages, such as ``HubSpot``.
        seconds: from now.
        setting: the setting that holds the number, for the message; None if no setting does.
        kept: what is kept when the source fails, the beginning of a sentence of every such message.
    """

    def __init__(
        self,
        source: str,
        seconds: float,
        setting: str | None = "time_budget_seconds",
        kept: str = KEPT,
    ) -> None:
        self.kept = kept
        self._source = source
        self._seconds = seconds
        self._advice = f", or raise {setting}" if setting else ""
        self._end = time.monotonic() + seconds
        self._cancelled = threading.Event()

    def remaining(self) -> float:
        """Seconds left.

        Raises:
            SourceUnavailableError: none are left.
            CancelledError: the source has failed elsewhere.
        """
        if self._cancelled.is_set():
            raise CancelledError(f"Reading {self._source} was given up.")
        left = self._end - time.monotonic()
        if left <= 0:
            self.give_up()
        return left

    def sleep(self, seconds: float, why: str = "") -> None:
        """Wait, unless the wait would outlast the budget: then say so at once instead of waiting for nothing."""
        if seconds >= self.remaining():
            self.give_up(why)
        if self._cancelled.wait(seconds):
            raise CancelledError(f"Reading {self._source} was given up.")

    def cancel(self) -> None:
        """Make every thread that waits or starts a request stop."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether the source was given up."""
        return self._cancelled.is_set()

    def give_up(self, why: str = "") -> NoReturn:
        """Raise the error of an exhausted budget."""
        raise SourceUnavailableError(
            f"{self._source} could not be read within {self._seconds:g} s{f' ({why})' if why else ''}. "
            f"{self.kept}; run again later{self._advice}."
        )


class Pacer:
    """Sliding-window limit shared by all threads that use one token.

    A slot is held from before the request is sent until ``seconds`` after its answer arrived, so however long a
    request travels, the server never counts more than the capacity in any window of that length. The server's own
    count is believed too: what it has counted beyond our requests belongs to other users of the token, and is
    taken off for one window.

    Args:
        limit: requests in one window.
        seconds: length of the window.
        reserve: share of the limit left to others.
    """

    def __init__(self, limit: int, seconds: float = 10.0, reserve: float = 0.0) -> None:
        self._changed = threading.Condition()
        self._limit = limit
        self._seconds = seconds
        self._reserve = reserve
        self._in_flight = 0
        self._answered: deque[float] = deque()
        self._paused_until = 0.0
        self._foreign = 0
        self._foreign_until = 0.0

    @contextmanager
    def slot(self, budget: Budget) -> Iterator[None]:
        """Wait for a slot and hold it during one request."""
        self._acquire(budget)
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._answered.append(time.monotonic())
                self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Let no thread start a request for so long: the server said that the limit is reached."""
        with self._changed:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def observe(self, limit: int | None, seconds: float | None, remaining: int | None) -> None:
        """Take in what the server says about its limit, its window and what is left in it."""
        with self._changed:
            if seconds:
                self._seconds = max(seconds, 0.001)
            if limit and limit > 0:
                self._limit = min(self._limit, limit)
                if remaining is not None:
                    now = time.monotonic()
                    foreign = (limit - remaining) - self._in_use(now)
                    if foreign > 0:
                        self._foreign, self._foreign_until = foreign, now + self._seconds

    def _in_use(self, now: float) -> int:
        while self._answered and self._answered[0] <= now - self._seconds:
            self._answered.popleft()
        return self._in_flight + len(self._answered)

    def _acquire(self, budget: Budget) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                used = self._in_use(now)
                foreign = self._foreign if now < self._foreign_until else 0
                capacity = max(1, int(self._limit * (1 - self._reserve)) - foreign)
                if now >= self._paused_until and used < capacity:
                    self._in_flight += 1
                    return
                waits = [self._paused_until - now] if now < self._paused_until else []
                if used >= capacity:
                    if self._answered:
                        waits.append(self._answered[0] + self._seconds - now)
                    if foreign:
                        waits.append(self._foreign_until - now)
                # Wakes at least each half second, so that a cancelled source does not keep its threads.
                self._changed.wait(min(0.5, budget.remaining(), max([0.001, *waits]) if waits else 0.5))


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer: every byte of the body has arrived and was decoded."""

    status: int
    headers: Mapping[str, str]  # case-insensitive
    data: bytes


class AttemptError(Exception):
    """One attempt brought no usable answer; ``kind`` is a key of `ATTEMPTS`, ``wait`` the seconds asked for."""

    def __init__(self, kind: str, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.wait = wait


class StatusError(Exception):
    """One attempt brought a complete answer that is not 2xx."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"HTTP {reply.status}")
        self.reply = reply


class _Attempt:
    """One attempt in progress: when it must be over and the socket to shut then."""

    def __init__(self, end: float) -> None:
        self.end = end
        self.sock: socket.socket | None = None
        self.expired = False

    def cut(self) -> None:
        self.expired = True
        if self.sock is not None:
            # The plain method: SSLSocket.shutdown would pull its state from under the thread that reads.
            try:
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            except OSError:  # the other side, or the reading thread, was faster
                self.sock = None


_current = threading.local()


class _WatchedHTTPConnection(HTTPConnection):
    def getresponse(self) -> Any:
        _current.attempt.sock = self.sock
        return super().getresponse()


class _WatchedHTTPSConnection(HTTPSConnection):
    def getresponse(self) -> Any:
        _current.attempt.sock = self.sock
        return super().getresponse()


class _WatchedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _WatchedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


class BoundedPool:
    """Makes one attempt, bounded in time and size; looks like ``urllib3.PoolManager`` to hubspot-api-client.

    Socket timeouts start anew with each byte, so a server that drips one byte a second outlasts them all: a
    watchdog thread cuts the socket of an attempt that is not over in time.

    Raises (from `request`):
        StatusError: a complete answer that is not 2xx.
        AttemptError: no complete answer.
        ConfigurationError: the certificate is not valid, or the address is not one.
        SourceUnavailableError: the budget is used up.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        workers: int = 8,
        connect: float = CONNECT_SECONDS,
        read: float = READ_SECONDS,
        attempt: float = ATTEMPT_SECONDS,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._budget = budget
        self._timeout = urllib3.Timeout(connect=connect, read=read)
        self._attempt_seconds = attempt
        self._max_bytes = max_bytes
        self._manager = urllib3.PoolManager(maxsize=workers, block=False, cert_reqs="CERT_REQUIRED")
        self._manager.pool_classes_by_scheme = {"http": _WatchedHTTPPool, "https": _WatchedHTTPSPool}
        self._active: set[_Attempt] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watchdog: threading.Thread | None = None

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        fields: None = None,
        timeout: object = None,
        preload_content: bool = False,
    ) -> Reply:
        """One attempt. ``fields``, ``timeout`` and ``preload_content`` are what hubspot-api-client passes and are
        not used: the query is part of the address, and the bounds are this pool's own."""
        attempt = _Attempt(time.monotonic() + min(self._attempt_seconds, self._budget.remaining()))
        _current.attempt = attempt
        with self._lock:
            self._active.add(attempt)
            if self._watchdog is None:
                self._watchdog = threading.Thread(target=self._watch, name="http-watchdog", daemon=True)
                self._watchdog.start()
        try:
            reply = self._exchange(method, url, dict(headers or {}), body)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self._explain(error, attempt, url)
        finally:
            with self._lock:
                self._active.discard(attempt)
        if attempt.expired:
            raise AttemptError("network", "it did not finish its answer in time")
        if not 200 <= reply.status <= 299:
            raise StatusError(reply)
        return reply

    def close(self) -> None:
        """Close idle connections and end the watchdog."""
        self._closed.set()
        self._manager.clear()

    def cut(self) -> None:
        """Cut every attempt in progress: the source was given up."""
        with self._lock:
            for attempt in self._active:
                attempt.cut()

    def _exchange(self, method: str, url: str, headers: dict[str, str], body: str | bytes | None) -> Reply:
        response = self._manager.urlopen(
            method,
            url,
            body=body,
            headers=headers,
            retries=False,
            redirect=False,
            preload_content=False,
            timeout=self._timeout,
        )
        chunks: list[bytes] = []
        size = 0
        try:
            while chunk := response.read(262_144):
                size += len(chunk)
                if size > self._max_bytes:
                    raise AttemptError("body", f"its answer is larger than {self._max_bytes:,} bytes")
                chunks.append(chunk)
        except BaseException:
            response.close()  # a half-read connection must not go back to the pool
            raise
        response.release_conn()
        return Reply(response.status, response.headers, b"".join(chunks))

    def _explain(self, error: Exception, attempt: _Attempt, url: str) -> NoReturn:
        """Raise what an exception of urllib3 means. Nothing of its text is passed on: it may hold the request."""
        if attempt.expired or time.monotonic() >= attempt.end:
            raise AttemptError("network", "it did not finish its answer in time") from None
        host = urlsplit(url).netloc
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise ConfigurationError(
                    f"The certificate of {host} is not valid ({cause.verify_message}), so the token was not sent. "
                    "Check the address; for a private certificate authority set SSL_CERT_FILE."
                ) from None
            following = cause.__cause__ or cause.__context__
            if following is None and cause.args and isinstance(cause.args[-1], BaseException):
                following = cause.args[-1]
            cause = following
        if isinstance(error, urllib3.exceptions.LocationValueError | urllib3.exceptions.URLSchemeUnknown):
            raise ConfigurationError(f"{host or url!r} is not an address that can be asked.") from None
        if isinstance(error, urllib3.exceptions.NameResolutionError):
            reason = f"the name {host} could not be resolved"
        elif isinstance(error, urllib3.exceptions.NewConnectionError):  # is a ConnectTimeoutError, too
            reason = "the connection was refused"
        elif isinstance(error, urllib3.exceptions.ConnectTimeoutError):
            reason = "no connection in time"
        elif isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError):
            reason = "no answer in time"
        elif isinstance(error, urllib3.exceptions.IncompleteRead):
            raise AttemptError("body", "its answer was cut off") from None
        elif isinstance(error, urllib3.exceptions.DecodeError):
            raise AttemptError("body", "its answer could not be decompressed") from None
        elif isinstance(error, urllib3.exceptions.SSLError):
            reason = "the encrypted connection failed"
        else:
            reason = "the connection broke"
        raise AttemptError("network", reason) from None

    def _watch(self) -> None:
        while not self._closed.wait(0.1):
            now = time.monotonic()
            with self._lock:
                for attempt in self._active:
                    if now >= attempt.end or self._budget.cancelled:
                        attempt.cut()


class Tally:
    """Counts what one job asked; a job's requests run one after another or are added under the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.retries = 0
        self.limited = 0
        self.bytes = 0

    def add(self, *, retry: bool, reply: Reply | None) -> None:
        """Count one attempt and its answer, if there was one."""
        with self._lock:
            self.requests += 1
            self.retries += retry
            if reply is not None:
                self.limited += reply.status == 429
                self.bytes += len(reply.data)


Send = Callable[[str, str, Any], Reply]
"""(method, path with query, JSON body or None) -> Reply; raises StatusError, AttemptError, ConfigurationError."""

Observe = Callable[[Pacer, Mapping[str, str]], None]
"""Reads a source's own rate-limit headers into the pacer."""


class Transport:
    """Asks one system, again and again if need be, until it has an answer in the expected form.

    Args:
        source: name for messages, such as ``HubSpot``.
        send: one attempt; see `Send`.
        pacer: shared by everything that uses this token.
        budget: shared by everything this source does.
        observe: reads the source's rate headers.
        token: never appears in a message.
        token_variable: the environment variable of the token, for messages.
        address_variable: the environment variable of the address, for messages.
        daily_reset: when the daily limit starts anew, for the message of a reached daily limit.
    """

    def __init__(
        self,
        source: str,
        *,
        send: Send,
        pacer: Pacer,
        budget: Budget,
        observe: Observe,
        token: str,
        token_variable: str,
        address_variable: str,
        daily_reset: str = "tomorrow",
    ) -> None:
        self.source = source
        self.pacer = pacer
        self.budget = budget
        self.total = Tally()
        self.daily_reset = daily_reset
        self._send = send
        self._observe = observe
        self._token = token
        self._token_variable = token_variable
        self._address_variable = address_variable
        self._random = random.SystemRandom()
        self._date: str | None = None

    def ask(
        self,
        method: str,
        path: str,
        decoder: msgspec.json.Decoder[T],
        *,
        body: Any = None,
        tally: Tally | None = None,
        attempts: int | None = None,
        pacer: Pacer | None = None,
    ) -> T:
        """Ask until the answer decodes.

        Args:
            method: GET or POST; both only read here, so both are repeated.
            path: with its query string.
            decoder: what the answer must look like; an answer of another shape is no answer.
            body: JSON body.
            tally: the job the attempts are counted for, besides the total.
            attempts: fewer attempts than usual for server errors (1 = none is repeated).
            pacer: of a limit of its own, where a source has several; the rate headers are not read into it.

        Raises:
            ConfigurationError: 401, a redirect, a bad certificate.
            ForbiddenError: 403.
            RejectedError: another 4xx.
            NoAnswerError: no usable answer after all attempts.
            SourceUnavailableError: a limit that lasts, or no time left.
        """
        failures = dict.fromkeys(ATTEMPTS, 0)
        while True:
            try:
                return self._attempt(method, path, decoder, body, tally, sum(failures.values()) > 0, pacer)
            except AttemptError as error:
                trouble = error
            self.budget.remaining()
            kind = trouble.kind
            failures[kind] += 1
            allowed = (
                ATTEMPTS[kind] if attempts is None or kind == "limited" else min(attempts, ATTEMPTS[kind])
            )
            if failures[kind] >= allowed:
                raise NoAnswerError(
                    f"{self.source} gave no usable answer to {method} {self._shown(path)} in {failures[kind]} "
                    f"attempt{'s' if failures[kind] > 1 else ''}: {trouble.reason}. "
                    f"{self.budget.kept}; run again later."
                )
            if trouble.wait is None:
                backoff = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2 ** (failures[kind] - 1))
                delay = backoff * self._random.uniform(0.5, 1.0)
            else:
                delay = trouble.wait + self._random.uniform(0, 0.1)
            if kind == "limited":
                (pacer or self.pacer).pause(delay)
            self.budget.sleep(delay, trouble.reason)

    def _attempt(
        self,
        method: str,
        path: str,
        decoder: msgspec.json.Decoder[T],
        body: Any,
        tally: Tally | None,
        retry: bool,
        pacer: Pacer | None,
    ) -> T:
        reply: Reply | None = None
        with (pacer or self.pacer).slot(self.budget):
            try:
                reply = self._send(method, path, body)
            except StatusError as error:
                reply = error.reply
            finally:
                # Also without an answer: the server may have counted the request against the limit.
                for counter in (self.total, tally):
                    if counter is not None:
                        counter.add(retry=retry, reply=reply)
        self._date = reply.headers.get("Date") or self._date
        if pacer is None:
            self._observe(self.pacer, reply.headers)
        if not 200 <= reply.status <= 299:
            raise self._trouble(reply, path)
        return self._decode(decoder, reply)

    def server_time(self) -> datetime | None:
        """The time of the latest answer by the server's own clock, in whole seconds; None if it never told."""
        return _header_time(self._date)

    def redact(self, text: str) -> str:
        """The text without the token, however the server echoed it."""
        return text.replace(self._token, "***") if self._token else text

    def _shown(self, path: str) -> str:
        return self.redact(path.split("?", 1)[0])

    def _decode(self, decoder: msgspec.json.Decoder[T], reply: Reply) -> T:
        try:
            return decoder.decode(reply.data)
        except msgspec.ValidationError as error:
            reason = f"its answer has another form than its API describes ({self.redact(str(error))})"
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kind = reply.headers.get("Content-Type", "no content type")
            reason = f"its answer is not valid JSON ({self.redact(kind)})"
        raise AttemptError("body", reason) from None

    def _trouble(self, reply: Reply, path: str) -> AttemptError:
        """The trouble of an answer worth asking for again; raises the error of any other."""
        status = reply.status
        if status == 429:
            said = _said(reply.data)
            wait = asked_wait(reply.headers)
            if "DAILY" in said.policy.upper():
                when = _clock(wait) if wait else self.daily_reset
                raise SourceUnavailableError(
                    f"{self.source}'s daily request limit is used up. {self.budget.kept}; run again {when}."
                )
            return AttemptError("limited", "it limits our requests", self._patience(wait))
        if status in RETRY_STATUSES:
            return AttemptError("server", f"HTTP {status}", self._patience(asked_wait(reply.headers)))
        if status == 401:
            raise ConfigurationError(
                f"{self.source} does not accept the token in {self._token_variable} (HTTP 401). "
                f"{self.budget.kept}; put a valid token there and run again."
            )
        if 300 <= status <= 399:
            host = urlsplit(reply.headers.get("Location", "")).netloc or "another path"
            raise ConfigurationError(
                f"{self.source} redirected {self._shown(path)} to {self.redact(host)}; it was not followed, because "
                f"the token would go along. Check {self._address_variable}."
            )
        said = _said(reply.data)
        reason = self.redact(said.text)[:300]
        if status == 403:
            scopes = f" (missing: {', '.join(said.scopes)})" if said.scopes else ""
            raise ForbiddenError(
                f"The token in {self._token_variable} may not read {self._shown(path)}{scopes}.", said.scopes
            )
        raise RejectedError(
            f"{self.source} refused {self._shown(path)} with HTTP {status}{f': {reason}' if reason else ''}.",
            status,
            reason,
        )

    def _patience(self, wait: float | None) -> float | None:
        if wait is not None and wait > MAX_WAIT_SECONDS:
            raise SourceUnavailableError(
                f"{self.source} asks to wait {wait:,.0f} s. {self.budget.kept}; run again {_clock(wait)}."
            )
        return wait


class SourceClient:
    """What the clients of all sources share: whoever leaves the context gives up what is still being asked."""

    budget: Budget
    _pool: BoundedPool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.budget.cancel()
        self._pool.cut()
        self._pool.close()


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds a server asks to wait: Retry-After (seconds or HTTP date) or X-RateLimit-Reset (epoch seconds).

    None if it says nothing usable (absent, not a number, zero or negative): then the usual back-off applies. Dates
    are read against the server's own Date header, so that a wrong clock on either side does not matter.
    """
    now = _header_time(headers.get("Date")) or datetime.now(UTC)
    after = headers.get("Retry-After", "").strip()
    seconds: float | None = None
    if after:
        try:
            seconds = float(after)
        except ValueError:
            moment = _header_time(after)
            seconds = (moment - now).total_seconds() if moment else None
    elif reset := headers.get("X-RateLimit-Reset", "").strip():
        try:
            seconds = float(reset) - now.timestamp()
        except ValueError:
            seconds = None
    return seconds if seconds is not None and 0 < seconds < float("inf") else None


def checked_address(address: str, variable: str) -> str:
    """The base address without a trailing slash.

    Raises:
        ConfigurationError: it is no http(s) address, or it would send the token unencrypted over a network.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"{variable} is not an address such as https://api.example.com: {address!r}."
        )
    loopback = parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")
    if parts.scheme == "http" and not loopback:
        raise ConfigurationError(
            f"{variable} must start with https:// so that the token is not sent in the clear."
        )
    return address.rstrip("/")


def _header_time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _clock(wait: float) -> str:
    if wait > _LONGEST_NAMED:
        return "when it allows it again"
    return f"after {datetime.now(UTC) + timedelta(seconds=wait):%Y-%m-%d %H:%M} UTC"


class _Said(msgspec.Struct, frozen=True):
    text: str = ""
    policy: str = ""
    scopes: tuple[str, ...] = ()


def _said(body: bytes) -> _Said:
    """What an error body of HubSpot, Intercom or Stripe says; what is not as expected says nothing, the rest counts."""
    try:
        error = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Said()  # The status speaks for itself.
    fields = _fields(error)
    items = [_fields(item) for item in _items(fields.get("errors"))]
    texts = [
        _word(fields.get("message")),
        _word(_fields(fields.get("error")).get("message")),
        *(f"{_word(item.get('code'))} {_word(item.get('message'))}".strip() for item in items),
    ]
    scopes = [
        str(scope)
        for item in items
        for key in ("requiredGranularScopes", "requiredScopes")
        for scope in _items(_fields(item.get("context")).get(key))
    ]
    policy = _word(fields.get("policyName"))
    return _Said("; ".join(text for text in texts if text), policy, tuple(dict.fromkeys(scopes)))


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""
