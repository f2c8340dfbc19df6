"""Servers that answer with exactly the bytes a test wants, at the pace it wants; and a transport to ask them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import msgspec

from hub_pipeline.sources.transport import BoundedPool, Budget, Pacer, Reply, Transport

TOKEN = "secret-token-4711"

Script = Callable[[socket.socket, int], None]
"""What one connection does: it gets the socket, after the request head was read, and the request's number."""


def answer(
    body: bytes = b'{"ok":true}', status: str = "200 OK", *headers: str, length: int | None = None
) -> bytes:
    """A whole HTTP answer."""
    size = len(body) if length is None else length
    head = [f"HTTP/1.1 {status}", f"Content-Length: {size}", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, "Connection: close", "", ""]).encode() + body


class Wire:
    """A running server: its address, and when each request came with which head."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.port = port
        self.times: list[float] = []
        self.heads: list[bytes] = []


@contextmanager
def wire(*answers: bytes | Script) -> Iterator[Wire]:
    """Answer the first request with the first answer and so on; the last one again and again."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    running = Wire(listener.getsockname()[1])
    stop = threading.Event()
    lock = threading.Lock()

    def serve(connection: socket.socket) -> None:
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                chunk = connection.recv(65536)
                if not chunk:
                    return
                head += chunk
            with lock:
                number = len(running.times)
                running.times.append(time.monotonic())
                running.heads.append(head)
            chosen = answers[min(number, len(answers) - 1)]
            try:
                if callable(chosen):
                    chosen(connection, number)
                else:
                    connection.sendall(chosen)
            except OSError:
                return

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield running
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)  # a blocked accept would keep the port open
        listener.close()


def drip(content: bytes, pause: float = 0.02) -> Script:
    """One byte at a time."""

    def script(connection: socket.socket, _: int) -> None:
        for position in range(len(content)):
            connection.sendall(content[position : position + 1])
            time.sleep(pause)

    return script


def silence(prefix: bytes = b"", seconds: float = 30.0) -> Script:
    """Some bytes, then nothing, with the connection open."""

    def script(connection: socket.socket, _: int) -> None:
        connection.sendall(prefix)
        time.sleep(seconds)

    return script


class Asker:
    """A transport of its own for one server."""

    def __init__(
        self,
        address: str,
        *,
        budget: float = 20.0,
        attempt: float = 5.0,
        read: float = 5.0,
        max_bytes: int = 1_000_000,
        pacer: Pacer | None = None,
    ) -> None:
        self.budget = Budget("Testing", budget)
        self.pool = BoundedPool(self.budget, connect=1.0, read=read, attempt=attempt, max_bytes=max_bytes)
        self.pacer = pacer or Pacer(1000)
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept-Encoding": "gzip"}

        def send(method: str, path: str, body: Any) -> Reply:
            content = None if body is None else msgspec.json.encode(body)
            return self.pool.request(method, address + path, headers=headers, body=content)

        self.transport = Transport(
            "Testing",
            send=send,
            pacer=self.pacer,
            budget=self.budget,
            observe=lambda pacer, seen: None,
            token=TOKEN,
            token_variable="TESTING_TOKEN",
            address_variable="TESTING_URL",
        )

    def ask(self, path: str = "/things?a=1", kind: Any = dict[str, bool], **more: Any) -> Any:
        return self.transport.ask("GET", path, msgspec.json.Decoder(kind), **more)


def gaps(times: Sequence[float]) -> list[float]:
    """Seconds between one request and the next."""
    return [later - earlier for earlier, later in pairwise(times)]
