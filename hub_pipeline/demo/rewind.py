"""The demo company as its systems held it a night earlier: what was written since is taken back.

The company is generated once, as of its last day. Everything in it carries the time at which it was written, so an
earlier night is the same company without what came later, and the two nights can only differ by what happened
between them.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hub_pipeline.demo import portal
from hub_pipeline.demo.account import Company, HubSpotAccount, HubSpotRecord, IntercomWorkspace
from hub_pipeline.demo.builder import iso


def night_before(company: Company) -> Company:
    """The company as it stood a day before its `now`: portal, workspace and the extracts written by then.

    The truth stays that of the company's last day: the earlier night is only there to be read first.
    """
    then = company.now - timedelta(days=1)
    as_of = company.as_of - timedelta(days=1)
    return replace(
        company,
        as_of=as_of,
        now=then,
        hubspot=_portal_at(company.hubspot, then),
        intercom=_workspace_at(company.intercom, then),
        billing={
            path: content for path, content in company.billing.items() if path.split("__")[1] <= str(as_of)
        },
    )


def _portal_at(account: HubSpotAccount, then: datetime) -> HubSpotAccount:
    records = {
        kind: {
            record.id: _record_at(kind, record, then)
            for record in of_kind.values()
            if record.created_at <= then
        }
        for kind, of_kind in account.records.items()
    }
    lost = [row for gone_at, row in account.lost_associations if gone_at > then]
    associations = {
        (start, end): [
            row
            for row in [*rows, *(row for pair, row in lost if pair == (start, end))]
            if row[0] in records[start] and row[1] in records[end]
        ]
        for (start, end), rows in account.associations.items()
    }
    return replace(account, records=records, associations=associations)


def _record_at(kind: str, record: HubSpotRecord, then: datetime) -> HubSpotRecord:
    if record.updated_at <= then and (record.archived_at is None or record.archived_at <= then):
        return record
    earlier = copy.deepcopy(record)
    times = [record.created_at]
    for name, versions in earlier.history.items():
        versions[:] = [
            version for version in versions if datetime.fromisoformat(version["timestamp"]) <= then
        ]
        earlier.properties[name] = versions[0]["value"] if versions else None
        times += [datetime.fromisoformat(version["timestamp"]) for version in versions]
    earlier.updated_at = max(times)
    modified = "lastmodifieddate" if kind == "contacts" else "hs_lastmodifieddate"
    earlier.properties[modified] = iso(earlier.updated_at)
    if kind == "deals":
        earlier.properties |= portal.closing_of(
            earlier.properties["pipeline"] or "", earlier.properties["dealstage"] or ""
        )
    if record.archived_at is not None and record.archived_at > then:
        earlier.archived, earlier.archived_at = False, None
    return earlier


def _workspace_at(workspace: IntercomWorkspace, then: datetime) -> IntercomWorkspace:
    second = int(then.timestamp())
    conversations = {
        key: _conversation_at(conversation, second)
        for key, conversation in workspace.conversations.items()
        if conversation["created_at"] <= second
    }
    seen: dict[str, list[dict[str, Any]]] = {}
    for conversation in conversations.values():
        for person in conversation["contacts"]["contacts"]:
            seen.setdefault(person["id"], []).append(conversation)
    return replace(
        workspace,
        contacts={
            key: _person_at(person, seen.get(key, []), second)
            for key, person in workspace.contacts.items()
            if person["created_at"] <= second
        },
        companies={
            key: company for key, company in workspace.companies.items() if company["created_at"] <= second
        },
        conversations=conversations,
    )


def _person_at(person: dict[str, Any], conversations: list[dict[str, Any]], second: int) -> dict[str, Any]:
    if person["updated_at"] <= second:
        return person
    replies = [c["statistics"]["last_contact_reply_at"] or 0 for c in conversations]
    return {
        **person,
        "updated_at": max([person["created_at"], *(c["updated_at"] for c in conversations)]),
        "last_replied_at": max(replies, default=0) or None,
    }


def _conversation_at(conversation: dict[str, Any], second: int) -> dict[str, Any]:
    if conversation["updated_at"] <= second:
        return conversation
    parts = [
        part
        for part in conversation["conversation_parts"]["conversation_parts"]
        if part["created_at"] <= second
    ]
    rating = conversation["conversation_rating"]
    rating = rating if rating and rating["updated_at"] <= second else None
    written = [
        (conversation["source"]["author"]["type"], conversation["created_at"]),
        *((part["author"]["type"], part["created_at"]) for part in parts),
    ]
    by_contact = [moment for author, moment in written if author == "user"]
    by_admin = [moment for author, moment in written if author == "admin"]
    times = [moment for _, moment in written] + ([rating["updated_at"]] if rating else [])
    return {
        **conversation,
        "updated_at": max(times),
        "conversation_rating": rating,
        "statistics": {
            **conversation["statistics"],
            "first_contact_reply_at": by_contact[0] if by_contact else None,
            "last_contact_reply_at": by_contact[-1] if by_contact else None,
            "first_admin_reply_at": by_admin[0] if by_admin else None,
            "last_admin_reply_at": by_admin[-1] if by_admin else None,
            "count_conversation_parts": len(written),
        },
        "conversation_parts": {
            **conversation["conversation_parts"],
            "conversation_parts": parts,
            "total_count": len(parts),
        },
    }
