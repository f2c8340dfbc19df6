"""Pages of HubSpot as landing lines, and how a list without an end is noticed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hub_pipeline.errors import SourceUnavailableError

#: A server that answers the same page this often under new cursors would do so for ever.
_SAME_PAGE = 3


def lines_of(records: Sequence[msgspec.Raw]) -> bytes:
    """Records as NDJSON lines, each byte as it came in; line breaks between tokens become blanks."""
    if not records:
        return b""
    lines = b"\n".join(records)
    if lines.count(b"\n") != len(records) - 1 or b"\r" in lines:
        # Inside a JSON text a line break can only be white space: in strings it is escaped.
        lines = b"\n".join(bytes(r).replace(b"\n", b" ").replace(b"\r", b" ") for r in records)
    return lines + b"\n"


def wrapped(records: Sequence[msgspec.Raw], **fields: str) -> bytes:
    """NDJSON lines ``{<fields>, "row": <record>}``: a record with what its own bytes do not tell."""
    head = msgspec.json.encode(fields)[:-1] + b',"row":'
    lines = lines_of(records)
    return b"".join(head + line + b"}\n" for line in lines.splitlines())


class Cursors:
    """Notices a list that has no end: a cursor that comes again, or one page under ever new cursors."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: set[str] = set()
        self._last: int | None = None
        self._same = 1

    def check(self, after: str, records: Sequence[msgspec.Raw]) -> None:
        """Note a page and its cursor.

        Raises:
            SourceUnavailableError: the list goes round in circles.
        """
        if after in self._seen:
            raise endless(self._name)
        self._seen.add(after)
        if not records:  # a page may be empty because the token sees none of its records
            return
        content = hash(bytes(records[0]))
        self._same = self._same + 1 if content == self._last else 1
        self._last = content
        if self._same >= _SAME_PAGE:
            raise endless(self._name)


def endless(name: str) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"HubSpot's list of {name} goes round in circles: the same page comes again and again. Objects that were "
        "complete are kept and nothing was published; run again later."
    )
