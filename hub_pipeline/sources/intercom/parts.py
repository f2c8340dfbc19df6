"""Parts of conversations: who wrote when and how much, never what.

A conversation shows its 500 latest parts, so parts are events: what was seen once stays, also when newer parts have
pushed it out of what Intercom still shows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from hub_pipeline.settings import Settings
from hub_pipeline.sources.intercom.client import Author, Conversation, Detail

_CONTACT_AUTHORS = {"contact", "user", "lead"}
_ADMIN_AUTHORS = {"admin", "team"}


class PartLine(msgspec.Struct):
    """One landed part of a conversation."""

    conversation_id: str
    part_id: str
    author_type: str
    author_id: str | None
    part_type: str
    body_length: int | None
    is_synthetic: bool
    created_at: int | None


class PartNotes:
    """What is worth telling about the parts that were read."""

    def __init__(self) -> None:
        self.deleted = 0
        self.cut_off = 0

    def text(self) -> str:
        """The note, empty if there is nothing to tell."""
        notes = []
        if self.deleted:
            notes.append(f"{self.deleted} conversations were deleted while they were read")
        if self.cut_off:
            notes.append(f"of {self.cut_off} conversations Intercom gives only the 500 latest parts")
        return "; ".join(notes)


class PartPlan:
    """Which conversations' parts a run reads: those that changed since the last complete reading of parts.

    Args:
        settings: which parts are wanted (``intercom.parts``, ``intercom.parts_tiers``).
        window_start: the interaction window begins here, seconds since 1970.
        state: what the last complete reading left; empty before the first.
        companies: Intercom's ids of the companies in the tiers of the settings; None = all companies.

    Attributes:
        since: conversations that changed before are of no interest to this run; 0 = none is too old.
        ids: conversations whose parts are to be read, in the order they were met.
        synthetic: the lines that stand for parts where none are read.
    """

    def __init__(
        self,
        settings: Settings,
        window_start: int,
        state: Mapping[str, Any],
        companies: Collection[str] | None,
    ) -> None:
        chosen = settings.intercom
        self._mode = chosen.parts
        self._companies = None if companies is None else frozenset(companies)
        self._scope = {
            "parts": chosen.parts,
            "tiers": sorted(chosen.parts_tiers),
            "days": settings.interactions.days,
        }
        oldest = window_start if self._mode == "window" else 0
        known = set(state.get("companies") or ())
        # A company that has entered a tier brings its conversations of the whole window, and so do other settings.
        self._newcomers = (self._companies or frozenset()) - known
        overlap = chosen.overlap_minutes * 60
        same_scope = state.get("scope") == self._scope
        self._read_to = max(oldest, int(state["read_to"]) - overlap) if same_scope else oldest
        self._oldest = oldest
        self.since = oldest if self._newcomers else self._read_to
        self.ids: dict[str, None] = {}
        self.synthetic: list[PartLine] = []

    def state(self, read_to: int) -> dict[str, Any]:
        """What the next run has to know."""
        companies = None if self._companies is None else sorted(self._companies)
        return {"read_to": read_to, "scope": self._scope, "companies": companies}

    def note(self, conversation: Conversation) -> None:
        """Remember what is to be known of the parts of a conversation; called from several threads."""
        changed = conversation.updated_at or 0
        if not self._wanted(conversation.company.id if conversation.company else None, changed):
            return
        if self._mode == "none":
            if line := _synthetic(conversation):
                self.synthetic.append(line)
        else:
            self.ids[str(conversation.id)] = None

    def _wanted(self, company: str | int | None, changed: int) -> bool:
        if self._companies is None or company is None:
            # Without a company the contact decides, which is known only later: read rather than miss it.
            return changed >= self._read_to
        if str(company) in self._newcomers:
            return changed >= self._oldest
        return str(company) in self._companies and changed >= self._read_to


def _synthetic(conversation: Conversation) -> PartLine | None:
    """The last reply of the contact, where parts are not read; None if there is none."""
    replied = conversation.statistics.last_contact_reply_at if conversation.statistics else None
    if not replied:
        return None
    contacts = conversation.contacts.contacts if conversation.contacts else []
    return PartLine(
        conversation_id=str(conversation.id),
        part_id=f"-{replied}",  # a number that no real part has
        author_type="contact",
        author_id=str(contacts[0].id) if contacts else None,
        part_type="synthetic",
        body_length=None,
        is_synthetic=True,
        created_at=replied,
    )


def part_lines(detail: Detail, notes: PartNotes) -> list[PartLine]:
    """The message that opened a conversation and its later parts, without their text."""
    conversation_id = str(detail.id)
    lines: list[PartLine] = []
    if detail.source is not None:
        lines.append(
            _line(conversation_id, "0", detail.source.author, "source", detail.source.body, detail.created_at)
        )
    parts = detail.conversation_parts
    if parts is not None:
        lines += [
            _line(conversation_id, str(p.id), p.author, p.part_type or "", p.body, p.created_at)
            for p in parts.conversation_parts
        ]
        notes.cut_off += parts.total_count > len(parts.conversation_parts)
    return lines


def _line(
    conversation_id: str,
    part_id: str,
    author: Author,
    part_type: str,
    body: str | None,
    created_at: int | None,
) -> PartLine:
    if author.type in _CONTACT_AUTHORS:
        author_type = "contact"
    elif author.type in _ADMIN_AUTHORS:
        author_type = "admin"
    else:
        author_type = "bot"
    return PartLine(
        conversation_id=conversation_id,
        part_id=part_id,
        author_type=author_type,
        author_id=None if author.id is None else str(author.id),
        part_type=part_type,
        body_length=None if body is None else len(body),
        is_synthetic=False,
        created_at=created_at,
    )
