"""How a source tells whoever is watching what it is doing; called from several threads at once."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a source reports while it reads; implementations must be safe to call from any thread."""

    def start(self, source: str, object_name: str, total: int | None) -> None:
        """Reading of an object begins; ``total`` is the expected number of records, None if unknown."""

    def advance(self, source: str, object_name: str, records: int) -> None:
        """So many more records have been landed."""

    def finish(self, source: str, object_name: str) -> None:
        """The object is complete, or is given up."""


class NullProgress:
    """Says nothing."""

    def start(self, source: str, object_name: str, total: int | None) -> None:
        """Ignore it."""

    def advance(self, source: str, object_name: str, records: int) -> None:
        """Ignore it."""

    def finish(self, source: str, object_name: str) -> None:
        """Ignore it."""
