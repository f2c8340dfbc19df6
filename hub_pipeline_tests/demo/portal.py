"""A small portal and a small workspace, and a client as plain as can be, for the tests of the demo servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import urllib3

from hub_pipeline.demo.account import HubSpotAccount, HubSpotRecord, IntercomWorkspace
from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline.demo.intercom_server import IntercomSimulator
from hub_pipeline.demo.serve import serving
from hub_pipeline.demo.wire import Simulator, SimulatorClock

ORGANISATIONS = "2-1138478"
NOON = datetime(2026, 10, 31, 12, tzinfo=UTC)
POOL = urllib3.PoolManager(maxsize=8, retries=False, timeout=5.0)


class Client:
    """Sends one request and gives back status, JSON and headers; never retries."""

    def __init__(self, base: str, headers: dict[str, str]) -> None:
        self.base, self.headers = base, headers

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        sent = {**self.headers, **(headers or {})}
        content = None if body is None else json.dumps(body).encode()
        return POOL.request(method, self.base + path, body=content, headers=sent, redirect=False)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer.data
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        answer = self.ask("POST", path, body)
        assert answer.status in (200, 207), answer.data
        return answer.json()

    def refusal(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        answer = self.ask(method, path, body)
        assert answer.status >= 400, answer.data
        return answer.status, answer.json()


@contextmanager
def hubspot(simulator: HubSpotSimulator) -> Iterator[Client]:
    with serving(simulator.app) as (url,):
        yield Client(url, {"authorization": f"Bearer {simulator.token}"})


@contextmanager
def intercom(simulator: IntercomSimulator) -> Iterator[Client]:
    with serving(simulator.app) as (url,):
        yield Client(url, {"authorization": f"Bearer {simulator.token}", "intercom-version": "2.16"})


def still(now: datetime = NOON) -> SimulatorClock:
    return SimulatorClock(now, ticking=False)


def definition(name: str, kind: str = "string") -> dict[str, Any]:
    return {"name": name, "label": name.title(), "type": kind, "fieldType": "text", "options": []}


def record(number: int, **properties: str | None) -> HubSpotRecord:
    changed = NOON - timedelta(days=400 - number % 300)
    seats = str(number)
    version = {
        "value": seats,
        "timestamp": "2026-01-01T00:00:00.000Z",
        "sourceType": "CRM_UI",
        "sourceId": "1",
    }
    return HubSpotRecord(
        id=str(number),
        properties={"name": f"Organisation {number}", "seats": seats, **properties},
        created_at=changed,
        updated_at=changed,
        history={"seats": [version]},
    )


def account(organisations: int = 250, contacts: int = 3) -> HubSpotAccount:
    """Organisations 9, 10, 11, ... (so that text order differs from number order), contacts 1, 2, 3."""
    names = [definition("name"), definition("seats", "number"), definition("hs_merged_object_ids")]
    people = {
        str(n): HubSpotRecord(str(n), {"email": f"p{n}@example.com"}, NOON, NOON)
        for n in range(1, contacts + 1)
    }
    rows: list[tuple[str, str, int, str | None]] = [
        ("1", "9", 279, None),
        ("1", "9", 7, "Champion"),
        ("1", "10", 279, None),
    ]
    return HubSpotAccount(
        portal_id=8443689,
        properties={
            ORGANISATIONS: names,
            "contacts": [
                definition("email"),
                definition("createdate", "datetime"),
                definition("lastmodifieddate", "datetime"),
            ],
        },
        records={
            ORGANISATIONS: {str(n): record(n) for n in range(8 + organisations, 8, -1)},
            "contacts": people,
        },
        associations={
            ("contacts", ORGANISATIONS): rows,
            (ORGANISATIONS, "contacts"): [(b, a, t + 1, label) for a, b, t, label in rows],
        },
        owners=[
            {
                "id": "70",
                "userId": 170,
                "email": "o@example.com",
                "firstName": "O",
                "lastName": "Wner",
                "archived": False,
            },
            {
                "id": "71",
                "userId": 171,
                "email": "x@example.com",
                "firstName": "Ex",
                "lastName": "Owner",
                "archived": True,
            },
        ],
        users=[{"id": "170", "email": "o@example.com", "primaryTeamId": "5", "secondaryTeamIds": ["7", "6"]}],
        pipelines={"deals": [{"id": "post_sales", "label": "Post-sales", "displayOrder": 0, "stages": []}]},
        association_categories={7: "USER_DEFINED", 8: "USER_DEFINED"},
    )


def workspace(contacts: int = 5, companies: int = 3) -> IntercomWorkspace:
    base = int(NOON.timestamp())
    return IntercomWorkspace(
        contacts={
            str(n): {
                "type": "contact",
                "id": str(n),
                "role": "user",
                "updated_at": base - n,
                "companies": {"data": []},
            }
            for n in range(1, contacts + 1)
        },
        companies={
            f"c{n}": {"type": "company", "id": f"c{n}", "company_id": str(n), "name": f"Company {n}"}
            for n in range(1, companies + 1)
        },
        conversations={
            str(n): {
                "type": "conversation",
                "id": str(n),
                "updated_at": base - n * 60,
                "conversation_rating": {"rating": n % 5 + 1} if n % 2 else None,
                "conversation_parts": {
                    "type": "conversation_part.list",
                    "conversation_parts": [{"type": "conversation_part", "id": f"{n}{k}"} for k in range(3)],
                    "total_count": 3,
                },
            }
            for n in range(1, 46)
        },
        admins={"1": {"type": "admin", "id": "1", "name": "Ada", "email": "ada@example.com"}},
    )


def hits(simulator: Simulator, text: str, status: int) -> int:
    return simulator.hits.count(text, status=status)
