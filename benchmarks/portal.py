"""A HubSpot portal of one large object whose pages are made beforehand: what it costs to serve disturbs nobody.

It answers what a reading of contacts asks, and no more; the demo company's server is the strict one. Records have
the ids 1, 2, 3, ...; every thousandth changed today.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from urllib.parse import parse_qs, urlsplit

from benchmarks.records import PROPERTIES, pages

TOKEN = "benchmark-token"  # noqa: S105  opens nothing
PAGE = 100
CHANGED_EVERY = 1_000
LIMIT, WINDOW = 190, 10.0

_EMPTY = b'{"results":[]}'


class Portal:
    """The data, and what was asked.

    Args:
        count: records.
        latency: seconds added to every answer.
        limited: whether the account's limit of 190 requests in 10 seconds holds.
    """

    def __init__(self, count: int, latency: float = 0.0, limited: bool = False) -> None:
        self.count = count
        self.latency = latency
        self.requests = 0
        self.record_requests = 0
        self.refused = 0
        self._limited = limited
        self._accepted: deque[float] = deque()
        self._pages = [
            gzip.compress(b'{"results":[' + b",".join(line.rstrip() for line in page) + b"]", 1)
            for page in pages(count, PAGE)
        ]

    def records(self, number: int) -> list[bytes]:
        """The records of a page, as they are sent."""
        body = json.loads(gzip.decompress(self._pages[number]) + b"}")
        return [json.dumps(record, separators=(",", ":")).encode() for record in body["results"]]

    def answer(self, method: str, target: str, body: bytes, now: float) -> tuple[int, bytes, bool]:
        """(status, body, whether it is compressed)."""
        parts = urlsplit(target)
        if parts.path == "/__hits":
            seen = {
                "all": self.requests,
                "record": self.record_requests,
                "refused": self.refused,
                "count": self.count,
            }
            return 200, json.dumps(seen).encode(), False
        self.requests += 1
        self.record_requests += "/objects/" in parts.path
        searching = parts.path.endswith("/search")
        if self._limited and not searching:
            while self._accepted and self._accepted[0] <= now - WINDOW:
                self._accepted.popleft()
            if len(self._accepted) >= LIMIT:
                self.refused += 1
                return 429, b'{"policyName":"TEN_SECONDLY_ROLLING"}', False
            self._accepted.append(now)
        if searching:
            return 200, self._search(json.loads(body)), False
        query = parse_qs(parts.query)
        if "/objects/" in parts.path:  # hubspot-api-client still asks /crm/v3/objects
            if query.get("archived") == ["true"]:
                return 200, _EMPTY, False
            return 200, self._list(int(query.get("after", ["0"])[0])), True
        if parts.path.startswith("/crm/properties/"):
            definitions = [{"name": name, "label": name, "type": "string"} for name in PROPERTIES]
            return 200, json.dumps({"results": definitions}).encode(), False
        if parts.path.startswith("/account-info/"):
            return 200, b'{"portalId":1,"timeZone":"UTC"}', False
        if parts.path.startswith("/crm/limits/"):
            usage = {"hubspotDefinedObjectTypes": [{"objectTypeId": "0-1", "usage": self.count}]}
            return 200, json.dumps(usage).encode(), False
        return 200, _EMPTY, False

    def _list(self, after: int) -> bytes:
        number, skipped = divmod(after, PAGE)
        if number >= len(self._pages):
            return gzip.compress(_EMPTY, 1)
        paging = b"}"
        if number + 1 < len(self._pages):
            paging = b',"paging":{"next":{"after":"%d"}}}' % ((number + 1) * PAGE)
        if skipped:  # entered in the middle of a page: the rest of it
            rest = self.records(number)[skipped:]
            return gzip.compress(b'{"results":[' + b",".join(rest) + b"]" + paging, 1)
        # Members of a gzip file may follow one another.
        return self._pages[number] + gzip.compress(paging, 1)

    def _search(self, body: dict[str, object]) -> bytes:
        groups = body.get("filterGroups")
        if not groups:
            return b'{"total":%d,"results":[{"id":"%d"}]}' % (self.count, self.count)
        assert isinstance(groups, list)
        behind = int(groups[0]["filters"][1]["value"])
        first = (behind // CHANGED_EVERY + 1) * CHANGED_EVERY
        changed = range(first, self.count + 1, CHANGED_EVERY)
        found = [self.records((number - 1) // PAGE)[(number - 1) % PAGE] for number in changed[:200]]
        return b'{"total":%d,"results":[%b]}' % (len(changed), b",".join(found))


class _Connection(asyncio.Protocol):
    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:])
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                return
            self._received = rest[length:]
            method, target, _ = lines[0].split(" ")
            loop = asyncio.get_running_loop()
            reply = self._portal.answer(method, target, rest[:length], loop.time())
            loop.call_later(self._portal.latency, self._send, *reply)

    def _send(self, status: int, body: bytes, compressed: bool) -> None:
        head = (
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"date: {formatdate(usegmt=True)}\r\n{'content-encoding: gzip' if compressed else 'x-plain: 1'}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)


@contextmanager
def serving(portal: Portal) -> Iterator[str]:
    """Serve on loopback from a thread; gives the address."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: _Connection(portal), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()
