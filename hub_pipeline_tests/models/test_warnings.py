"""The checks of a day that warn, each failing with rows and passing without, and never stopping the publication."""

from __future__ import annotations

from datetime import date

import duckdb

from hub_pipeline.models.checks import CheckResult
from hub_pipeline_tests.models.worlds import Row, build_world, checked, organisations, subscription

AS_OF = "2026-06-30"


def _check(connection: duckdb.DuckDBPyConnection, mart: str, name: str) -> CheckResult:
    results = checked(connection, mart, date.fromisoformat(AS_OF))
    [found] = [result for result in results if result.name == name]
    return found


def _conversations(ambiguous: int, clear: int, strangers: int = 0) -> dict[str, list[Row]]:
    """Conversations of a large client, some of a contact of two large clients, some of nobody's contact."""
    kinds = ["both"] * ambiguous + ["one"] * clear + ["nobody"] * strangers
    return {
        "organisations": organisations("a", "b"),
        "subscription_versions": [
            row for org in ("a", "b") for row in subscription(f"s-{org}", org, [("2025-01-01", 10, 5000)])
        ],
        "contacts": [{"contact_id": name} for name in ("both", "one", "nobody")],
        "contact_orgs": [
            {"contact_id": "both", "org_id": "a"},
            {"contact_id": "both", "org_id": "b"},
            {"contact_id": "one", "org_id": "a"},
        ],
        "conversations": [
            {"conversation_id": f"k{n:03}", "contact_id": kind} for n, kind in enumerate(kinds)
        ],
        "conversation_parts": [
            {
                "conversation_id": f"k{n:03}",
                "part_number": 1,
                "author_type": "contact",
                "created_at": "2026-06-20",
            }
            for n in range(len(kinds))
        ],
    }


def test_more_than_five_percent_of_ambiguous_conversations_warn_and_five_percent_do_not() -> None:
    assert _check(build_world(_conversations(1, 19), AS_OF), "interactions", "attribution_is_clear").passed
    found = _check(build_world(_conversations(1, 18), AS_OF), "interactions", "attribution_is_clear")
    assert (found.failures, found.severity, found.blocks) == (2, "warn", False)
    assert [(row["conversation_id"], row["org_id"]) for row in found.sample] == [("k000", "a"), ("k000", "b")]


def test_each_conversation_without_an_organisation_is_a_row() -> None:
    name = "every_conversation_has_an_organisation"
    assert _check(build_world(_conversations(0, 1), AS_OF), "unattributed_interactions", name).passed
    found = _check(build_world(_conversations(0, 1, 2), AS_OF), "unattributed_interactions", name)
    assert (found.failures, found.blocks) == (2, False)


def test_findings_about_renewal_deals_are_counted_by_kind() -> None:
    contract = subscription(
        "s", "a", [("2026-01-01", 10, 12000)], billing_interval="year", term_end="2027-01-01"
    )
    deal = {
        "deal_id": "d",
        "org_id": "a",
        "pipeline": "post_sales",
        "deal_type": "renewal",
        "stage": "negotiation",
        "status": "open",
        "amount": 1000,
        "currency": "USD",
        "owner_id": "u",
        "created_at": "2026-01-10",
        "close_date": "2027-01-01",
    }
    world: dict[str, list[Row]] = {
        "organisations": organisations("a"),
        "subscription_versions": contract,
        "users": [{"user_id": "u", "is_active": True}],
    }
    assert _check(build_world(world | {"deals": [deal]}, AS_OF), "renewal_pipeline", "deals_are_clean").passed
    dirty = deal | {"amount": 12000, "owner_id": None}
    found = _check(build_world(world | {"deals": [dirty]}, AS_OF), "renewal_pipeline", "deals_are_clean")
    assert [tuple(row.values()) for row in found.sample] == [
        ("amount_looks_annual", 1, "d"),
        ("owner_missing", 1, "d"),
    ]
    assert not found.blocks


def test_a_row_that_rests_on_later_knowledge_blocks() -> None:
    world = {"subscription_versions": subscription("s", "a", [("2026-01-01", 10, 100)])}
    connection = build_world(world, AS_OF)
    assert _check(connection, "organisation_daily", "nothing_known_later").passed
    connection.execute("UPDATE marts.organisation_daily SET source_max_recorded_at = TIMESTAMP '2026-07-01'")
    found = _check(connection, "organisation_daily", "nothing_known_later")
    assert (found.failures, found.blocks) == (1, True)
