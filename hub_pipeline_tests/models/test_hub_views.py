"""The views of schema hub: which rows, in which order, with which columns, over several stored days."""

from __future__ import annotations

from datetime import date, datetime
from functools import cache
from typing import Any

import duckdb
import pytest

from hub_pipeline.models import build, catalog
from hub_pipeline_tests.models.worlds import Row, load, subscription

DAYS = ("2026-06-27", "2026-06-28", "2026-06-30")
COMMON = ("as_of", "org_id", "name", "owner_name", "tier", "mrr", "hubspot_url", "why")


def _world() -> dict[str, list[Row]]:
    names = [
        "grown",
        "shrunk",
        "touched",
        "late",
        "leaving",
        "left",
        "left-long-ago",
        "moved",
        "annual",
        "annual-soon",
    ]
    return {
        "users": [{"user_id": "u1", "name": "Ada", "role": "csm", "is_active": True}],
        "organisations": [
            {
                "org_id": name,
                "name": name.title(),
                "owner_id": "u1",
                "hubspot_url": f"https://app.hubspot.com/contacts/1/record/2-1/{name}",
                "created_at": "2024-01-01",
            }
            for name in names
        ],
        "subscription_versions": [
            *subscription("s-grown", "grown", [("2025-01-01", 10, 300), ("2026-06-01", 30, 900)]),
            *subscription(
                "s-shrunk", "shrunk", [("2025-01-01", 100, 1000), ("2026-06-28T12:00:00Z", 50, 400)]
            ),
            *subscription("s-touched", "touched", [("2025-01-01", 100, 3000), ("2026-06-20", 50, 1500)]),
            *subscription("s-late", "late", [("2025-01-01", 100, 2000), ("2026-06-20", 50, 800)]),
            *subscription(
                "s-late", "late", [("2026-06-28T08:00:00Z", 95, 1900), ("2026-06-29T08:00:00Z", 50, 800)]
            ),
            *subscription("s-leaving", "leaving", [("2025-01-01", 5, 100)], cancel_at="2026-12-31"),
            *subscription("s-left", "left", [("2025-01-01", 5, 100)]),
            *subscription("s-left", "left", [("2026-06-01", 5, 100)], status="canceled"),
            *subscription("s-left-long-ago", "left-long-ago", [("2025-01-01", 5, 100)]),
            *subscription("s-left-long-ago", "left-long-ago", [("2026-01-01", 5, 100)], status="canceled"),
            *subscription("s-moved", "moved", [("2025-01-01", 5, 100)]),
            *subscription("s-moved", "moved", [("2026-06-01", 5, 100)], status="canceled"),
            *subscription(
                "s-annual",
                "annual",
                [("2025-01-01", 20, 12000)],
                billing_interval="year",
                term_end="2027-01-01",
            ),
            *subscription(
                "s-annual-soon",
                "annual-soon",
                [("2025-01-01", 20, 9000)],
                billing_interval="year",
                term_end="2026-08-01",
            ),
        ],
        "crm_contracts": [{"org_id": "moved", "kind": "custom", "valid_from": "2026-06-01"}],
        "engagements": [
            {
                "engagement_id": "e1",
                "type": "call",
                "org_id": "touched",
                "user_id": "u1",
                "occurred_at": "2026-06-28T10:00:00Z",
            }
        ],
        "conversations": [
            {"conversation_id": "k1", "contact_id": "c1", "org_id": "annual"},
            {"conversation_id": "k2", "contact_id": "c2", "org_id": "annual", "rating": 1},
            {"conversation_id": "k3", "contact_id": "c3", "org_id": "leaving"},
        ],
        "conversation_parts": [
            {
                "conversation_id": f"k{n}",
                "part_number": 1,
                "author_type": "contact",
                "created_at": f"2026-06-2{9 - n}",
            }
            for n in (1, 2, 3)
        ],
    }


@cache
def _built() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    load(connection, _world())
    for day in DAYS:
        build(connection, date.fromisoformat(day))
    # a restated day is no stored day of its own and must not show
    build(connection, date(2026, 6, 27), date(2026, 7, 5))
    return connection


def _view(name: str) -> list[Row]:
    cursor = _built().execute(f"SELECT * FROM hub.{name}")
    columns = [column[0] for column in cursor.description or []]
    return [dict(zip(columns, values, strict=True)) for values in cursor.fetchall()]


def _column(name: str, column: str) -> list[Any]:
    return [row[column] for row in _view(name)]


LISTS = [
    "organisations",
    "fast_growing_organisations",
    "organisations_at_risk",
    "churn",
    "churn_false_alarms",
    "renewal_pipeline",
    "tier_ab_interactions",
]


@pytest.mark.parametrize("view", LISTS)
def test_every_list_names_the_organisation_its_owner_its_size_its_record_and_the_reason(view: str) -> None:
    found = _view(view)
    assert found
    for row in found:
        for column in COMMON:
            assert row[column] is not None, (column, row)
        assert str(row["as_of"]) == DAYS[-1]
        assert row["owner_name"] == "Ada"


def test_all_organisations_stand_in_the_order_of_their_mrr() -> None:
    assert len(_view("organisations")) == 10
    mrr = _column("organisations", "mrr")
    assert mrr == sorted(mrr, reverse=True)


def test_the_growing_organisation_is_listed() -> None:
    assert _column("fast_growing_organisations", "org_id") == ["grown"]


def test_risk_starts_with_the_first_of_an_unbroken_run_of_stored_days() -> None:
    first = {row["org_id"]: str(row["first_flagged_on"]) for row in _view("organisations_at_risk")}
    assert first == {"shrunk": "2026-06-28", "touched": "2026-06-27", "late": "2026-06-30"}


def test_the_time_to_the_first_human_touch_counts_from_the_end_of_the_first_day_on_the_list() -> None:
    touched = {
        row["org_id"]: (row["first_human_touch_after_flag"], row["hours_to_touch"])
        for row in _view("organisations_at_risk")
    }
    # On the list since the close of 27 June, called on the 28th at 10:00.
    assert touched["touched"] == (datetime(2026, 6, 28, 10), 10)
    assert touched["shrunk"] == (None, None)


def test_of_several_touches_the_first_on_or_after_the_day_counts_and_the_same_day_is_at_once() -> None:
    calls = ("2026-06-25T09:00:00Z", "2026-06-27T15:00:00Z", "2026-06-28T12:00:00Z", "2026-06-30T08:00:00Z")
    connection = duckdb.connect()
    load(
        connection,
        {
            "subscription_versions": subscription(
                "s", "a", [("2025-01-01", 100, 3000), ("2026-06-27", 50, 1500)]
            ),
            "engagements": [
                {"engagement_id": f"e{n}", "type": "call", "org_id": "a", "occurred_at": at}
                for n, at in enumerate(calls)
            ],
        },
    )
    for day in ("2026-06-26", "2026-06-27", "2026-06-28", "2026-06-29", "2026-06-30"):
        build(connection, date.fromisoformat(day))
    found = connection.execute(
        "SELECT first_flagged_on, first_human_touch_after_flag, hours_to_touch FROM hub.organisations_at_risk"
    ).fetchall()
    assert found == [(date(2026, 6, 27), datetime(2026, 6, 27, 15), 0)]


def test_untouched_organisations_come_first_then_the_larger_ones() -> None:
    found = [(row["org_id"], row["is_untouched"]) for row in _view("organisations_at_risk")]
    assert found == [("late", True), ("shrunk", True), ("touched", False)]


def test_churn_lists_what_is_scheduled_and_recent_and_false_alarms_stand_apart() -> None:
    assert _column("churn", "subscription_id") == ["s-left", "s-leaving"]
    assert _column("churn_false_alarms", "false_alarm_reason") == ["moved_to_custom"]


def test_renewals_in_scope_stand_in_the_order_of_their_date() -> None:
    assert _column("renewal_pipeline", "subscription_id") == ["s-annual-soon", "s-annual"]


def test_interactions_of_large_clients_begin_with_those_to_escalate() -> None:
    assert _column("tier_ab_interactions", "conversation_id") == ["k2", "k1"]


def test_freshness_shows_what_each_source_delivered() -> None:
    connection = _built()
    delivered = ("hubspot", "deals", date(2026, 6, 30), "complete", 7, "", datetime(2026, 6, 30, 12))
    connection.execute("DELETE FROM _published.freshness")
    connection.execute("INSERT INTO _published.freshness VALUES (?, ?, ?, ?, ?, ?, ?)", delivered)
    assert connection.execute("SELECT * FROM hub.freshness").fetchall() == [delivered]


def test_every_view_has_an_order_and_explains_each_column() -> None:
    for model in catalog().layer("hub"):
        assert model.contract.order_by
        assert all(column.meaning for column in model.contract.columns.values())
