"""The company a night earlier: nothing of what came later, and everything else as it was."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from hub_pipeline.demo import portal
from hub_pipeline.demo.account import Company
from hub_pipeline.demo.company import build_company
from hub_pipeline.demo.rewind import night_before


@pytest.fixture(scope="module")
def company() -> Company:
    return build_company()


@pytest.fixture(scope="module")
def earlier(company: Company) -> Company:
    return night_before(company)


def test_nothing_of_what_came_later_is_there(earlier: Company) -> None:
    for of_kind in earlier.hubspot.records.values():
        for record in of_kind.values():
            assert record.created_at <= record.updated_at <= earlier.now
            assert record.archived_at is None or record.archived_at <= earlier.now
            for versions in record.history.values():
                assert all(datetime.fromisoformat(v["timestamp"]) <= earlier.now for v in versions)
    now = earlier.now.timestamp()
    for conversation in earlier.intercom.conversations.values():
        assert conversation["created_at"] <= conversation["updated_at"] <= now
        parts = conversation["conversation_parts"]
        assert all(part["created_at"] <= now for part in parts["conversation_parts"])
        assert parts["total_count"] == len(parts["conversation_parts"])
    for person in earlier.intercom.contacts.values():
        assert person["created_at"] <= person["updated_at"] <= now


def test_what_had_happened_by_then_is_all_there(company: Company, earlier: Company) -> None:
    for kind, of_kind in company.hubspot.records.items():
        then = {key for key, record in of_kind.items() if record.created_at <= earlier.now}
        assert set(earlier.hubspot.records[kind]) == then
    for path, content in earlier.billing.items():
        assert company.billing[path] == content


def test_the_current_value_is_the_newest_of_what_is_left(earlier: Company) -> None:
    for of_kind in earlier.hubspot.records.values():
        for record in of_kind.values():
            for name, versions in record.history.items():
                assert record.properties[name] == (versions[0]["value"] if versions else None)
    for deal in earlier.hubspot.records["deals"].values():
        closing = portal.closing_of(deal.properties["pipeline"] or "", deal.properties["dealstage"] or "")
        assert {name: deal.properties[name] for name in closing} == closing


def test_a_deal_that_was_deleted_since_is_back_with_its_associations(
    company: Company, earlier: Company
) -> None:
    (gone,) = [
        deal.id
        for deal in company.hubspot.records["deals"].values()
        if deal.archived_at is not None and deal.archived_at > earlier.now
    ]
    assert not earlier.hubspot.records["deals"][gone].archived
    for (start, end), rows in earlier.hubspot.associations.items():
        back = {(to_id, from_id) for from_id, to_id, _, _ in earlier.hubspot.associations[end, start]}
        assert {(from_id, to_id) for from_id, to_id, _, _ in rows} == back
        now = company.hubspot.associations[start, end]
        assert any(gone in row[:2] for row in rows) == (start == "deals" or end == "deals")
        assert not any(gone in row[:2] for row in now)


def test_every_list_changed_between_the_nights(company: Company, earlier: Company) -> None:
    assert earlier.now == company.now - timedelta(days=1)
    assert earlier.as_of == company.as_of - timedelta(days=1)
    changed = {
        kind
        for kind, of_kind in company.hubspot.records.items()
        for key, record in of_kind.items()
        if record is not earlier.hubspot.records[kind].get(key)
    }
    assert {"contacts", "deals", "calls", "feedback_submissions"} <= changed
    assert earlier.intercom.conversations != company.intercom.conversations
    assert set(company.billing) > set(earlier.billing)
