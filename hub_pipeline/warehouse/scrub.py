"""Persons in landing files: finding lines that hold them, and writing the files anew without them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import zstandard

from hub_pipeline.errors import WarehouseError
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.crashpoints import crash_point
from hub_pipeline.warehouse.landing import fsync_folder, line_chunks, write_durably
from hub_pipeline.warehouse.lock import Fence

#: Stands where an address stood.
ERASED = "[erased]"
#: What may stand before and after an address that is not a part of another one (RE2 and Python read it alike).
_BEFORE, _AFTER = r"(^|[^a-z0-9._%+-])", r"($|[^a-z0-9.-]|\.$|\.[^a-z0-9])"
_ADDRESS = re.compile(rb"[a-z0-9._%+'-]+(?:@|\\u0040)[a-z0-9.-]+")
_NUMBER = re.compile(rb'"(?:id|toobjectid)"\s*:\s*"?([0-9a-z_-]+)"?')


@dataclass(frozen=True)
class Person:
    """One or several persons to erase.

    Attributes:
        contacts: HubSpot ids, those of merged records included.
        emails: addresses in lower case.
        intercom: ids of Intercom contacts.
        own: (object, id) of HubSpot engagements and answers that are theirs alone.
        shared: (object, id) of those that others have a part in.
        conversations: ids of Intercom conversations that are theirs alone.
        tickets: ids of Intercom tickets that are theirs alone.
        lists: ids of all HubSpot lists of contacts, whoever is a member.
        names: as the models write them; removed only from rows that name the person by id, and from what Stripe and
            billing say where one of the addresses stands.
    """

    contacts: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    intercom: frozenset[str] = frozenset()
    own: frozenset[tuple[str, str]] = frozenset()
    shared: frozenset[tuple[str, str]] = frozenset()
    conversations: frozenset[str] = frozenset()
    tickets: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.contacts or self.emails or self.intercom)

    @cached_property
    def canonical(self) -> frozenset[str]:
        """Ids as the models write them."""
        return self.contacts | {f"intercom:{one}" for one in self.intercom}

    @cached_property
    def pattern(self) -> str | None:
        """Regular expression of the addresses with what is around them in groups 1 and 2; None without addresses."""
        if not self.emails:
            return None
        return f"(?i){_BEFORE}(?:{'|'.join(map(re.escape, sorted(self.emails)))}){_AFTER}"

    @cached_property
    def _compiled(self) -> re.Pattern[str] | None:
        return re.compile(self.pattern) if self.pattern else None

    @cached_property
    def name_pattern(self) -> str | None:
        """Regular expression of the names with what is around them in groups 1 and 2; None without names."""
        if not self.names:
            return None
        return rf"(?i)(^|\W)(?:{'|'.join(map(re.escape, sorted(self.names)))})($|\W)"

    def clean_names(self, text: str) -> str:
        """The text without the names."""
        if self.name_pattern is None:
            return text
        for _ in range(2):
            text = re.sub(self.name_pattern, rf"\1{ERASED}\2", text)
        return text

    def clean_text(self, text: str) -> str:
        """The text without the addresses."""
        if self._compiled is None:
            return text
        # Twice, because a separator between two addresses belongs to the first match alone.
        for _ in range(2):
            text = self._compiled.sub(rf"\1{ERASED}\2", text)
        return text

    @cached_property
    def needles(self) -> tuple[bytes, ...]:
        """Lower-case bytes of which a line that holds the person has at least one."""
        ids = {*self.contacts, *self.intercom, *self.conversations, *self.tickets}
        ids |= {one for _, one in self.own | self.shared}
        forms = {one.lower() for one in ids}
        for address in self.emails:
            forms |= {address, json.dumps(address)[1:-1]}
            # Some JSON writers escape what HTML knows.
            forms.add("".join(f"\\u{ord(c):04x}" if c in "'&=<>" else c for c in address))
        return tuple(sorted(form.encode() for form in forms))


def scrub_landing(
    root: Path,
    connection: duckdb.DuckDBPyConnection,
    fence: Fence,
    person: Person,
    text_properties: re.Pattern[str],
    runs: Sequence[str] | None = None,
) -> int:
    """Write the landing files anew that hold the person; their record files and the ledger follow.

    Args:
        root: the landing folder.
        connection: the build file, for the ledger's hashes of the files.
        fence: the run's right to commit.
        person: who.
        text_properties: properties of a shared engagement that are its text.
        runs: look only into files of these runs; default all.

    Returns:
        The number of files written anew.

    Raises:
        WarehouseError: a file cannot be read or written; repeat to complete.
    """
    if not person:
        return 0
    pattern = re.compile(b"|".join(map(re.escape, person.needles)))
    written = 0
    for record in sorted(root.glob("*/*/*/*.json")):
        if runs is not None and record.parent.name not in runs:
            continue
        path = record.with_name(record.stem + ".ndjson.zst")
        try:
            if not path.exists():
                continue
            digest, holds = _search(path, pattern)
            values = json.loads(record.read_bytes())
            if values.get("position") is not None and _names_contact(values["position"], person):
                # Where a page ended may be an id. Without it a resumed list reads that part again.
                values["position"] = None
                write_durably(record, json.dumps(values, indent=1, sort_keys=True).encode())
            if holds:
                written += _rewrite(path, record, values, connection, fence, person, text_properties)
            elif digest != values["sha256"]:
                _finish_record(path, record, values, digest, connection)
        except (OSError, zstandard.ZstdError, msgspec.DecodeError, ValueError, KeyError) as error:
            raise WarehouseError(
                f"The landing file {path} could not be cleaned: {error}. What was cleaned before it is kept; repair "
                "the file or move it away, and repeat."
            ) from error
    return written


def identities_in(files: Iterable[Path]) -> Iterator[tuple[Path, set[str], set[str]]]:
    """For each landing file what in it could be an e-mail address, and what could be an id, in lower case."""
    for path in files:
        addresses: set[bytes] = set()
        ids: set[bytes] = set()
        for chunk in line_chunks(path):
            folded = chunk.lower()
            addresses.update(_ADDRESS.findall(folded))
            ids.update(_NUMBER.findall(folded))
        plain = {one.replace(rb"\u0040", b"@").decode("utf-8", "replace") for one in addresses}
        yield path, {one.strip(".'") for one in plain}, {one.decode() for one in ids}


def _names_contact(position: Any, person: Person) -> bool:
    return not person.contacts.isdisjoint(re.findall(r"[0-9]+", json.dumps(position)))


def _search(path: Path, pattern: re.Pattern[bytes]) -> tuple[str, bool]:
    """Hash of the content, and whether it holds any of the needles."""
    digest = hashlib.sha256()
    holds = False
    for chunk in line_chunks(path):
        digest.update(chunk)
        holds = holds or pattern.search(chunk.lower()) is not None
    return digest.hexdigest(), holds


def _rewrite(
    path: Path,
    record: Path,
    values: dict[str, Any],
    connection: duckdb.DuckDBPyConnection,
    fence: Fence,
    person: Person,
    text_properties: re.Pattern[str],
) -> bool:
    """Write one file without the person; False if every hit was of something else."""
    pattern = re.compile(b"|".join(map(re.escape, person.needles)))
    source, name = path.parent.parent.parent.name, path.parent.parent.name
    temporary = path.with_name(f".{path.name}.clean")
    digest = hashlib.sha256()
    records, changed = 0, False
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as raw:
            with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as writer:
                for chunk in line_chunks(path):
                    if pattern.search(chunk.lower()) is not None:
                        lines = []
                        for line in chunk.splitlines(keepends=True):
                            cleaned = line
                            if pattern.search(line.lower()) is not None:
                                cleaned = _clean_line(line, source, name, person, text_properties)
                            changed = changed or cleaned is not line
                            lines.append(cleaned)
                        chunk = b"".join(lines)
                    records += chunk.count(b"\n")
                    digest.update(chunk)
                    writer.write(chunk)
            raw.flush()
            os.fsync(raw.fileno())
        if not changed:
            return False
        _book(connection, fence, path, digest.hexdigest(), records)
        crash_point("erase.replace")
        os.replace(temporary, path)
        fsync_folder(path.parent)
        crash_point("erase.record")
        new = {**values, "sha256": digest.hexdigest(), "records": records}
        write_durably(record, json.dumps(new, indent=1, sort_keys=True).encode())
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _clean_line(
    line: bytes, source: str, name: str, person: Person, text_properties: re.Pattern[str]
) -> bytes:
    """The line without the person: empty if it is the person's own, the line itself if it is about somebody else."""
    value = msgspec.json.decode(line)
    if not isinstance(value, dict) or _is_own(value, source, name, person):
        return b"" if isinstance(value, dict) else line
    before = msgspec.json.encode(value)
    if source == "hubspot" and "to_object" in value and isinstance(value.get("row"), dict):
        _clean_associations(value, person)
    if source == "hubspot" and (name, str(value.get("id"))) in person.shared:
        properties = value.get("properties")
        if isinstance(properties, dict):
            for key in properties:
                properties[key] = None if text_properties.search(key.lower()) else properties[key]
    if source == "intercom":
        _clean_intercom(value, name.removesuffix("_census"), person)
    after = msgspec.json.encode(_clean_value(value, person.clean_text))
    if after != before and source == "stripe":
        after = msgspec.json.encode(_clean_value(msgspec.json.decode(after), person.clean_names))
    return line if after == before else after + b"\n"


def _is_own(value: dict[str, Any], source: str, name: str, person: Person) -> bool:
    name = name.removesuffix("_census")
    one = str(value.get("id"))
    if source == "hubspot":
        if name == "contacts":
            return one in person.contacts
        row = value.get("row")
        start = row.get("from") if isinstance(row, dict) else None
        if isinstance(start, dict) and "from_object" in value:
            origin = str(start.get("id"))
            if value["from_object"] == "contacts":
                return origin in person.contacts
            return (str(value["from_object"]), origin) in person.own
        if name == "list_memberships":
            member = str(row.get("recordId")) if isinstance(row, dict) else ""
            return str(value.get("list_id")) in person.lists and member in person.contacts
        return (name, one) in person.own
    if source == "intercom":
        if name == "contacts":
            return one in person.intercom
        if name in ("conversations", "deleted_conversations"):
            return one in person.conversations
        if name == "tickets":
            return one in person.tickets
        return str(value.get("conversation_id")) in person.conversations
    return False


def _clean_associations(value: dict[str, Any], person: Person) -> None:
    row = value["row"]
    target = value["to_object"]
    own = {one for object_name, one in person.own if object_name == target}
    gone = person.contacts if target == "contacts" else own
    if isinstance(row.get("to"), list):
        row["to"] = [
            one for one in row["to"] if not (isinstance(one, dict) and str(one.get("toObjectId")) in gone)
        ]


def _clean_intercom(value: dict[str, Any], name: str, person: Person) -> None:
    """A conversation or ticket of several contacts stays without this one and without what was said."""
    if name == "conversation_parts" and value.get("author_id") in person.intercom:
        value["author_id"] = ERASED
    people = value.get("contacts")
    if name not in ("conversations", "tickets") or not isinstance(people, dict):
        return
    others = [one for one in people.get("contacts") or () if str(one.get("id")) not in person.intercom]
    if len(others) == len(people.get("contacts") or ()):
        return
    people["contacts"] = others
    for owner, key in (
        (value, "title"),
        (value.get("conversation_rating"), "remark"),
        (value.get("ticket_attributes"), "_default_title_"),
    ):
        if isinstance(owner, dict) and key in owner:
            owner[key] = None


def _clean_value(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_clean_value(one, clean) for one in value]
    if isinstance(value, dict):
        return {clean(key): _clean_value(one, clean) for key, one in value.items()}
    return value


def _book(connection: duckdb.DuckDBPyConnection, fence: Fence, path: Path, sha256: str, records: int) -> None:
    """The ledger knows the new content before it is there, so that an attempt that was cut off can be completed."""
    with ledger.transaction(connection, fence):
        connection.execute(
            "UPDATE _ledger.files SET sha256 = $sha256, records = $records WHERE source = $source "
            "AND object = $object AND run_id = $run_id AND file = $file",
            {
                "sha256": sha256,
                "records": records,
                "source": path.parent.parent.parent.name,
                "object": path.parent.parent.name,
                "run_id": path.parent.name,
                "file": path.name,
            },
        )


def _finish_record(
    path: Path, record: Path, values: dict[str, Any], digest: str, connection: duckdb.DuckDBPyConnection
) -> None:
    """An earlier attempt died between file and record; any other difference is left for the loader to refuse."""
    row = connection.execute(
        "SELECT records FROM _ledger.files WHERE source = $source AND object = $object AND run_id = $run_id "
        "AND file = $file AND sha256 = $sha256",
        {
            "source": path.parent.parent.parent.name,
            "object": path.parent.parent.name,
            "run_id": path.parent.name,
            "file": path.name,
            "sha256": digest,
        },
    ).fetchone()
    if row is not None:
        new = {**values, "sha256": digest, "records": int(row[0])}
        write_durably(record, json.dumps(new, indent=1, sort_keys=True).encode())
