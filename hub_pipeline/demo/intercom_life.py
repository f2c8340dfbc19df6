"""What happens in an Intercom workspace: people come, write, rate, merge, are archived and deleted.

Each event happens at the simulator's clock and leaves the records as Intercom would show them afterwards. What must
be read of the workspace at any moment is its records themselves: nothing here is computed by our own code.
"""

from __future__ import annotations

import copy
from typing import Any

from hub_pipeline.demo.account import IntercomWorkspace
from hub_pipeline.demo.wire import SimulatorClock

SEARCHED = ("contacts", "conversations", "tickets")


class IntercomLife:
    """One workspace and its events.

    Args:
        workspace: the records that can be seen.
        clock: when events happen.

    Attributes:
        workspace: as given.
        archived: contacts that no list shows until they come back.
        merged: id of a contact that was merged away -> id of the one it became.
        deleted: rows of the list of deleted conversations, oldest first.
        shown: what a search shows of a record, by object and id, while its index lags behind.
    """

    def __init__(self, workspace: IntercomWorkspace, clock: SimulatorClock) -> None:
        self.workspace = workspace
        self.archived: dict[str, dict[str, Any]] = {}
        self.merged: dict[str, str] = {}
        self.deleted: list[dict[str, Any]] = []
        self.shown: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in SEARCHED}
        self.lag_seconds = 0.0
        self._clock = clock

    @property
    def now(self) -> int:
        """The second it is."""
        return int(self._clock.now().timestamp())

    def records(self, name: str) -> dict[str, dict[str, Any]]:
        """The records of an object by id."""
        found: dict[str, dict[str, Any]] = getattr(self.workspace, name)
        return found

    def index(self) -> None:
        """Let the search catch up with what changed longer than its lag ago; what is gone is gone at once."""
        if not self.lag_seconds:
            return
        before = self._clock.now().timestamp() - self.lag_seconds
        for name in SEARCHED:
            shown, records = self.shown[name], self.records(name)
            for gone in shown.keys() - records.keys():
                del shown[gone]
            for key, record in records.items():
                if record.get("updated_at", 0) <= before and shown.get(key) != record:
                    shown[key] = copy.deepcopy(record)

    def searched(self, name: str) -> list[dict[str, Any]]:
        """What a search looks at."""
        self.index()
        return list((self.shown[name] if self.lag_seconds else self.records(name)).values())

    def _touch(self, record: dict[str, Any]) -> None:
        record["updated_at"] = max(self.now, record.get("updated_at") or 0)

    # People and companies ----------------------------------------------------------------------------------------

    def add_contact(self, contact_id: str, **values: Any) -> None:
        """Somebody is seen for the first time."""
        self.index()
        self.workspace.contacts[contact_id] = {
            "type": "contact",
            "id": contact_id,
            "role": "user",
            "email": f"{contact_id}@example.com",
            "name": f"Person {contact_id}",
            "custom_attributes": {},
            "companies": {"data": []},
            "created_at": self.now,
            "updated_at": self.now,
            **values,
        }

    def change_contact(self, contact_id: str, **values: Any) -> None:
        """Attributes of a contact change."""
        self.index()
        contact = self.workspace.contacts[contact_id]
        contact.update(values)
        self._touch(contact)

    def attach(self, contact_id: str, company_id: str, *, touch: bool = True) -> None:
        """A contact joins a company; it is not documented that this changes the contact's updated_at."""
        self.index()
        contact = self.workspace.contacts[contact_id]
        attached = contact["companies"]["data"]
        if all(item["id"] != company_id for item in attached):
            contact["companies"] = {"data": [*attached, {"type": "company", "id": company_id}]}
        if touch:
            self._touch(contact)

    def archive(self, contact_id: str) -> None:
        """A contact leaves every list until it comes back."""
        self.index()
        self.archived[contact_id] = self.workspace.contacts.pop(contact_id)

    def unarchive(self, contact_id: str) -> None:
        """An archived contact comes back."""
        self.index()
        contact = self.archived.pop(contact_id)
        self._touch(contact)
        self.workspace.contacts[contact_id] = contact

    def delete_contact(self, contact_id: str) -> None:
        """A contact is gone for good, and no list says so."""
        self.index()
        del self.workspace.contacts[contact_id]

    def merge(self, loser_id: str, winner_id: str) -> None:
        """One contact becomes another: its conversations go over, and only the winner's history names it."""
        self.index()
        contacts = self.workspace.contacts
        loser, winner = contacts.pop(loser_id), contacts[winner_id]
        history = winner.setdefault("merge_history", [])
        history += [
            *loser.get("merge_history", []),
            {
                "type": "merge_history",
                "source_contact_id": loser_id,
                "source_contact_role": loser.get("role"),
                "merged_at": self.now,
            },
        ]
        self._touch(winner)
        self.merged[loser_id] = winner_id
        for conversation in self.workspace.conversations.values():
            people = (conversation.get("contacts") or {}).get("contacts") or []
            for person in people:
                if person["id"] == loser_id:
                    person["id"] = winner_id
                    self._touch(conversation)

    def add_company(self, company_id: str, **values: Any) -> None:
        """A company is seen for the first time."""
        self.workspace.companies[company_id] = {
            "type": "company",
            "id": company_id,
            "company_id": f"org-{company_id}",
            "name": f"Company {company_id}",
            "created_at": self.now,
            "updated_at": self.now,
            "custom_attributes": {},
            **values,
        }

    def change_company(self, company_id: str, **values: Any) -> None:
        """Attributes of a company change."""
        company = self.workspace.companies[company_id]
        company.update(values)
        self._touch(company)

    def delete_company(self, company_id: str) -> None:
        """A company is gone."""
        del self.workspace.companies[company_id]

    # Conversations -----------------------------------------------------------------------------------------------

    def open_conversation(self, conversation_id: str, contact_id: str, company_id: str | None = None) -> None:
        """A contact writes for the first time."""
        self.index()
        author = {"type": "user", "id": contact_id}
        self.workspace.conversations[conversation_id] = {
            "type": "conversation",
            "id": conversation_id,
            "title": f"Question {conversation_id}",
            "state": "open",
            "open": True,
            "created_at": self.now,
            "updated_at": self.now,
            "admin_assignee_id": None,
            "team_assignee_id": None,
            "company": {"type": "company", "id": company_id} if company_id else None,
            "source": {
                "type": "conversation",
                "id": f"s{conversation_id}",
                "body": "Hello",
                "author": author,
            },
            "contacts": {"type": "contact.list", "contacts": [{"type": "contact", "id": contact_id}]},
            "tags": {"type": "tag.list", "tags": []},
            "conversation_rating": None,
            "statistics": {"last_contact_reply_at": self.now, "count_conversation_parts": 1},
            "conversation_parts": {
                "type": "conversation_part.list",
                "conversation_parts": [],
                "total_count": 0,
            },
        }

    def reply(self, conversation_id: str, part_id: str, author: str = "admin") -> None:
        """Somebody writes again: ``admin``, ``user`` or ``bot``."""
        self.index()
        conversation = self.workspace.conversations[conversation_id]
        parts = conversation["conversation_parts"]
        parts["conversation_parts"].append(
            {
                "type": "conversation_part",
                "id": part_id,
                "part_type": "comment",
                "body": "An answer",
                "created_at": self.now,
                "author": {"type": author, "id": "1"},
            }
        )
        parts["total_count"] = len(parts["conversation_parts"])
        statistics = conversation["statistics"]
        statistics["count_conversation_parts"] += 1
        if author == "user":
            statistics["last_contact_reply_at"] = self.now
        self._touch(conversation)

    def rate(
        self, conversation_id: str, rating: int, remark: str | None = None, *, touch: bool = True
    ) -> None:
        """The contact rates; it is not documented that this changes the conversation's updated_at."""
        self.index()
        conversation = self.workspace.conversations[conversation_id]
        conversation["conversation_rating"] = {
            "rating": rating,
            "remark": remark,
            "created_at": conversation["created_at"],
            "updated_at": self.now,
        }
        if touch:
            self._touch(conversation)

    def change_conversation(self, conversation_id: str, **values: Any) -> None:
        """It is closed, tagged, assigned, or attributed to another company."""
        self.index()
        conversation = self.workspace.conversations[conversation_id]
        conversation.update(values)
        self._touch(conversation)

    def delete_conversation(self, conversation_id: str, *, metrics_retained: bool = True) -> None:
        """A conversation is gone; only the list of deleted ones still names it. KeyError if there is none."""
        self.index()
        del self.workspace.conversations[conversation_id]
        self.deleted.append(
            {
                "id": conversation_id,
                "type": "conversation",
                "deleted_at": self.now,
                "metrics_retained": metrics_retained,
            }
        )

    # Tickets -----------------------------------------------------------------------------------------------------

    def open_ticket(self, ticket_id: str, contact_id: str, company_id: str | None = None) -> None:
        """A request is filed."""
        self.index()
        self.workspace.tickets[ticket_id] = {
            "type": "ticket",
            "id": ticket_id,
            "ticket_id": f"9{ticket_id}",
            "category": "Customer",
            "ticket_attributes": {
                "_default_title_": f"Request {ticket_id}",
                "_default_description_": "It is broken",
            },
            "ticket_state": {"type": "ticket_state", "id": "1", "category": "submitted"},
            "ticket_type": {"type": "ticket_type", "id": "7", "name": "Bug"},
            "contacts": {"type": "contact.list", "contacts": [{"type": "contact", "id": contact_id}]},
            "company_id": company_id,
            "admin_assignee_id": "0",
            "team_assignee_id": "0",
            "open": True,
            "created_at": self.now,
            "updated_at": self.now,
            "ticket_parts": {"type": "ticket_part.list", "ticket_parts": [], "total_count": 0},
        }

    def change_ticket(self, ticket_id: str, **values: Any) -> None:
        """A ticket moves on."""
        self.index()
        ticket = self.workspace.tickets[ticket_id]
        ticket.update(values)
        self._touch(ticket)

    def delete_ticket(self, ticket_id: str) -> None:
        """A ticket is gone, and no list says so."""
        self.index()
        del self.workspace.tickets[ticket_id]
