"""The demo company's records: reproducible, consistent, and in the shapes of the systems that would hold them."""

from __future__ import annotations

import csv
import io
import math
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from hub_pipeline.demo.account import OBJECT_TYPES, ORGANISATION_OBJECT, Company
from hub_pipeline.demo.company import build_company
from hub_pipeline.settings import Settings


@pytest.fixture(scope="module")
def company() -> Company:
    return build_company()


def _rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_the_same_seed_and_day_give_the_same_company(company: Company) -> None:
    again = build_company()
    assert again == company


def test_another_seed_gives_another_company_of_the_same_stories(company: Company) -> None:
    other = build_company(seed=7)
    assert other.billing != company.billing
    churn = company.truth.lists["hub.churn"].rows, other.truth.lists["hub.churn"].rows
    assert Counter(row["state"] for row in churn[0]) == Counter(row["state"] for row in churn[1])


def test_another_day_moves_every_story_with_it() -> None:
    company = build_company(as_of=date(2026, 2, 14))
    assert company.now == datetime(2026, 2, 15, 3, tzinfo=UTC)
    assert all(row["churn_date"] > date(2025, 1, 10) for row in company.truth.lists["hub.churn"].rows)


def test_it_is_built_in_less_than_two_seconds() -> None:
    started = time.process_time()
    build_company()
    assert time.process_time() - started < 2


def test_it_has_some_five_hundred_organisations_and_every_object_type(company: Company) -> None:
    records = company.hubspot.records
    assert 470 <= len(records[ORGANISATION_OBJECT]) <= 520
    assert set(records) == set(OBJECT_TYPES)
    assert all(records.values())


def test_a_full_load_needs_at_most_150_requests(company: Company) -> None:
    settings = Settings.load()
    types = {name: mapping.object_type for name, mapping in settings.hubspot.objects.items()}
    requests = 8  # account, owners live and archived, users, pipelines of deals and tickets, a retry or two
    for mapping in settings.hubspot.objects.values():
        page = 50 if mapping.history else 100
        records = company.hubspot.records.get(mapping.object_type, {})
        requests += 2 + math.ceil(max(1, sum(not record.archived for record in records.values())) / page)
    for start, _ in settings.hubspot.associations:
        requests += math.ceil(len(company.hubspot.records.get(types[start], {})) / 1000)
    assert requests <= 150


def test_associations_join_live_records_and_run_both_ways(company: Company) -> None:
    records = company.hubspot.records
    for (start, end), rows in company.hubspot.associations.items():
        back = {(to_id, from_id) for from_id, to_id, _, _ in company.hubspot.associations[end, start]}
        assert {(from_id, to_id) for from_id, to_id, _, _ in rows} == back
        assert len(set(rows)) == len(rows)
        for from_id, to_id, type_id, _ in rows:
            assert not records[start][from_id].archived
            assert not records[end][to_id].archived
            assert type_id in company.hubspot.association_categories


def test_the_current_value_of_a_property_is_the_newest_of_its_history(company: Company) -> None:
    with_history = 0
    for records in company.hubspot.records.values():
        for record in records.values():
            for name, versions in record.history.items():
                stamps = [version["timestamp"] for version in versions]
                assert all(newer >= older for newer, older in pairwise(stamps))
                assert record.properties[name] == versions[0]["value"]
                with_history += len(versions) > 1
    assert with_history > 100


def test_nothing_happens_after_now_and_nothing_changes_before_it_exists(company: Company) -> None:
    for records in company.hubspot.records.values():
        for record in records.values():
            assert record.created_at <= record.updated_at <= company.now
    for conversation in company.intercom.conversations.values():
        assert conversation["created_at"] <= conversation["updated_at"] <= company.now.timestamp()


def test_every_property_that_is_used_or_mapped_is_defined(company: Company) -> None:
    defined = {kind: {item["name"] for item in items} for kind, items in company.hubspot.properties.items()}
    for kind, records in company.hubspot.records.items():
        used = {name for record in records.values() for name in record.properties}
        assert used <= defined[kind], kind
    for mapping in Settings.load().hubspot.objects.values():
        mapped = {name for name in mapping.properties.values() if name}
        assert mapped - {"hs_object_source_label"} <= defined[mapping.object_type]


def test_the_length_of_ids_differs_so_that_text_order_is_not_number_order(company: Company) -> None:
    assert len({len(record_id) for record_id in company.hubspot.records["contacts"]}) > 1


def test_addresses_are_under_example_or_free_mail(company: Company) -> None:
    domains = {
        (record.properties["email"] or "").lower().split("@")[1]
        for record in company.hubspot.records["contacts"].values()
    }
    assert all(domain.endswith(".example") or domain == "gmail.com" for domain in domains)
    names = [
        record.properties["name"] or "" for record in company.hubspot.records[ORGANISATION_OBJECT].values()
    ]
    assert len(set(names)) == len(names)
    assert any(not name.isascii() for name in names)


def test_conversations_name_people_and_companies_that_exist(company: Company) -> None:
    workspace = company.intercom
    for conversation in workspace.conversations.values():
        (person,) = conversation["contacts"]["contacts"]
        assert person["id"] in workspace.contacts
        if conversation["company"]:
            assert conversation["company"]["id"] in workspace.companies
        assert conversation["conversation_parts"]["total_count"] == len(
            conversation["conversation_parts"]["conversation_parts"]
        )


def test_subscriptions_are_paid_by_customers_of_the_last_full_list(company: Company) -> None:
    last = max(path for path in company.billing if "customers__" in path)
    customers = {row["customer_id"] for row in _rows(company.billing[last])}
    paying = {
        row["customer_id"]
        for path, content in company.billing.items()
        if "subscriptions__" in path
        for row in _rows(content)
    }
    assert paying <= customers


def test_the_extracts_cover_two_years_and_hold_what_a_sloppy_export_holds(company: Company) -> None:
    deltas = sorted(path for path in company.billing if path.startswith("stripe/subscriptions__"))
    first = date.fromisoformat(deltas[0].split("__")[1])
    assert company.as_of - first >= timedelta(days=720)
    rows = [tuple(row.items()) for row in _rows(company.billing[deltas[0]])]
    assert sum(count - 1 for count in Counter(rows).values()) == 1
    bad = [row for row in rows if dict(row)["currency"] == "US$"]
    assert len(bad) == 1
    assert len(bad) / len(rows) < 0.01


def test_versions_of_one_key_in_the_extracts_differ_in_their_time(company: Company) -> None:
    for table, key in (
        ("subscriptions", "subscription_id"),
        ("subscription_items", "subscription_item_id"),
        ("invoices", "invoice_id"),
        ("invoice_lines", "invoice_line_id"),
    ):
        versions: Counter[tuple[str, ...]] = Counter()
        for path, content in company.billing.items():
            if f"/{table}__" in path:
                versions.update({(row[key], row["updated_at"], str(row)): 1 for row in _rows(content)})
        moments = Counter((item[0], item[1]) for item in versions)
        assert max(moments.values()) == 1


def test_some_records_changed_after_the_day_closed(company: Company) -> None:
    close = datetime.combine(company.as_of + timedelta(days=1), datetime.min.time(), UTC)
    records = company.hubspot.records
    assert any(record.updated_at >= close for record in records["deals"].values())
    assert any(record.created_at >= close for record in records["feedback_submissions"].values())
    assert any(record.created_at >= close for record in records[ORGANISATION_OBJECT].values())
    assert any(c["created_at"] >= close.timestamp() for c in company.intercom.conversations.values())
    tomorrow = [path for path in company.billing if f"__{company.as_of + timedelta(days=1)}__" in path]
    assert any(_rows(company.billing[path]) for path in tomorrow if "items" in path)


def test_invoices_add_up_and_differ_from_the_price_only_where_a_story_says_so(company: Company) -> None:
    invoices: dict[str, dict[str, str]] = {}
    lines: Counter[str] = Counter()
    for path in sorted(company.billing):
        if "/invoices__" in path:
            invoices |= {row["invoice_id"]: row for row in _rows(company.billing[path])}
        if "/invoice_lines__" in path:
            for row in _rows(company.billing[path]):
                lines[row["invoice_id"]] += int(row["amount_minor"])
    assert len(invoices) > 900
    for key, invoice in invoices.items():
        amounts = {name: int(value) for name, value in invoice.items() if name.endswith("_minor")}
        assert lines[key] == amounts["subtotal_minor"]
        assert (
            amounts["total_minor"]
            == amounts["subtotal_minor"] - amounts["discount_minor"] + amounts["tax_minor"]
        )
        if invoice["status"] != "void":
            assert amounts["amount_paid_minor"] + amounts["amount_remaining_minor"] == amounts["total_minor"]
    statuses = Counter(invoice["status"] for invoice in invoices.values())
    assert set(statuses) == {"paid", "open", "void"}
    assert any(int(invoice["discount_minor"]) for invoice in invoices.values())
    assert any(key.endswith("p") for key in invoices), "a change in mid-term is billed by the day"
