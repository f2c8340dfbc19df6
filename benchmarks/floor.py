"""The least that a reading of HubSpot can be: pages fetched, split into lines, read once into a table."""

from __future__ import annotations

from pathlib import Path

import duckdb
import msgspec
import urllib3

from benchmarks.portal import TOKEN
from benchmarks.records import PROPERTIES

_TYPES = dict.fromkeys(("id", "createdAt", "updatedAt", "archived", "archivedAt"), "VARCHAR")
_TYPES["properties"] = "STRUCT(" + ", ".join(f'"{name}" VARCHAR' for name in PROPERTIES) + ")"


class Next(msgspec.Struct):
    """Where the next page starts."""

    after: str


class Paging(msgspec.Struct):
    """On every page but the last."""

    next: Next


class Page(msgspec.Struct):
    """A page, its records as they came."""

    results: list[msgspec.Raw]
    paging: Paging | None = None


def read(folder: Path, work: Path) -> None:
    """Fetch, and make a table."""
    table(fetch(folder, work), work)


def fetch(folder: Path, work: Path) -> Path:
    """Ask for page after page over one connection; nothing is checked, landed durably or compared."""
    decoder = msgspec.json.Decoder(Page)
    address = (folder / "address").read_text()
    headers = {"authorization": f"Bearer {TOKEN}", "accept-encoding": "gzip"}
    query = f"{address}/crm/objects/2026-09/contacts?limit=100&properties={','.join(PROPERTIES)}"
    lines = work / "lines.ndjson"
    with urllib3.PoolManager() as pool, lines.open("wb") as output:
        after = ""
        while True:
            page = decoder.decode(pool.request("GET", query + after, headers=headers).data)
            output.write(b"\n".join(page.results) + b"\n")
            if page.paging is None:
                break
            after = f"&after={page.paging.next.after}"
    return lines


def search(folder: Path, work: Path) -> None:
    """The same for changed records, by the search requests that it takes."""
    decoder = msgspec.json.Decoder(Page)
    url = f"{(folder / 'address').read_text()}/crm/objects/2026-09/contacts/search"
    headers = {"authorization": f"Bearer {TOKEN}", "accept-encoding": "gzip"}
    lines = work / "lines.ndjson"
    behind = 0
    with urllib3.PoolManager() as pool, lines.open("wb") as output:
        while True:
            filters = [
                {"propertyName": "lastmodifieddate"},
                {"propertyName": "hs_object_id", "value": behind},
            ]
            body = {"filterGroups": [{"filters": filters}], "properties": PROPERTIES, "limit": 200}
            reply = pool.request("POST", url, body=msgspec.json.encode(body), headers=headers)
            page = decoder.decode(reply.data)
            output.write(b"\n".join(page.results) + b"\n" * bool(page.results))
            if len(page.results) < 200:
                break
            behind = msgspec.json.decode(page.results[-1])["id"]
    table(lines, work)


def table(lines: Path, work: Path) -> None:
    """One typed read of the lines, and a checkpoint."""
    with duckdb.connect(work / "floor.duckdb") as connection:
        connection.execute(
            "CREATE TABLE records AS SELECT * EXCLUDE (properties), properties.* "
            f"FROM read_json($file, columns = {_TYPES}, format = 'newline_delimited')",
            {"file": str(lines)},
        )
        connection.execute("CHECKPOINT")
