"""Contacts, owners, tasks and health at the boundaries that the contracts settle; one small world, two knowledges."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

import duckdb
import pytest

from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import Row, build_world, one, organisations, rows, subscription

AS_OF = "2026-06-30"
LATER = "2026-07-10T09:00:00Z"
SETTINGS = Settings.model_validate({"lifecycle": {"autocreated_sources": ("Sales Extension",)}})


def _contact(name: str, org_id: str | None = "acme", **columns: Any) -> tuple[list[Row], list[Row]]:
    contact = {"contact_id": name, "email": f"{name}@client.io", "lifecycle_stage": "lead"} | columns
    return [contact], [{"contact_id": name, "org_id": org_id}] if org_id else []


def _task(name: str, **columns: Any) -> Row:
    return {
        "engagement_id": name,
        "type": "task",
        "occurred_at": "2026-06-20",
        "recorded_at": "2026-06-10",
    } | columns


def _stages(contact_id: str, *changes: tuple[str, str | None], **columns: Any) -> list[Row]:
    return [
        {"contact_id": contact_id, "lifecycle_stage": stage, "set_at": set_at} | columns
        for set_at, stage in changes
    ]


@cache
def _world() -> dict[str, list[Row]]:
    made = [
        _contact("known"),
        _contact("later", created_at=LATER, lifecycle_stage="unheard of", recorded_at=LATER),
        _contact("a-twin", email=" Twin@Client.io ", lifecycle_stage=None, owner_id=None),
        _contact("b-twin", email="twin@client.io", lifecycle_stage="customer", owner_id="bob"),
        _contact("c-twin", email="TWIN@client.io", org_id=None, owner_id="ann"),
        _contact("extension", source="sales-extension", owner_id=None),
        _contact("gone-home", "gone", lifecycle_stage="customer"),
        _contact("moving", "elsewhere"),
        *(_contact(name, "quiet") for name in ("back", "back-over-blank", "unset", "corrected")),
    ]
    contacts = [contact for found, _ in made for contact in found]
    memberships = [member for _, found in made for member in found if member["contact_id"] != "moving"]
    return {
        "organisations": [
            *organisations("acme", "quiet", "elsewhere", "there", "untimed"),
            {"org_id": "gone", "is_deleted": True},
        ],
        "subscription_versions": [
            row
            for org_id in ("acme", "quiet", "untimed")
            for row in subscription(f"s-{org_id}", org_id, [("2025-01-01", 20, 600)])
        ]
        + subscription(
            "s-quiet", "quiet", [("2026-08-01", 20, 600)], status="canceled", recorded_at="2026-06-01"
        ),
        "contacts": contacts,
        "contact_orgs": [
            *memberships,
            {"contact_id": "moving", "org_id": "elsewhere", "valid_to": "2026-07-05"},
            {
                "contact_id": "moving",
                "org_id": "there",
                "valid_from": "2026-07-05",
                "recorded_at": "2026-06-01",
            },
        ],
        "contact_owners": [
            {"contact_id": "b-twin", "owner_id": "ann", "valid_from": "2026-01-01"},
            {"contact_id": "b-twin", "owner_id": "bob", "valid_from": LATER},
        ],
        "contact_stages": [
            *_stages("back", ("2026-05-01", "customer"), ("2026-06-20", "lead")),
            *_stages(
                "back-over-blank",
                ("2026-05-01", "customer"),
                ("2026-06-20T08:00:00Z", None),
                ("2026-06-20T09:00:00Z", "evangelist"),
                ("2026-06-20T10:00:00Z", "lead"),
            ),
            *_stages("unset", ("2026-05-01", "customer"), ("2026-06-20", None)),
            *_stages("corrected", ("2026-05-01", "customer"), ("2026-06-20", "lead")),
            *_stages("corrected", ("2026-06-20", None), recorded_at="2026-06-25"),
        ],
        "users": [{"user_id": "ann", "role": "csm"}, {"user_id": "bob", "role": "sales"}],
        "engagements": [
            _task("open", org_id="acme", due_at="2026-06-30T23:59:59Z"),
            _task("due-later", org_id="acme", due_at="2026-07-01"),
            _task("done", org_id="acme", status="COMPLETED", completed_at="2026-06-30T23:59:59Z"),
            _task(
                "done-later", org_id="acme", status="COMPLETED", completed_at="2026-07-01", recorded_at=LATER
            ),
            _task("done-later", org_id="acme"),
            _task("of-two", contact_id="known"),
            _task("of-two", contact_id="b-twin"),
            _task("rescheduled", org_id="acme", occurred_at="2026-07-02"),
            _task("rescheduled", org_id="acme", occurred_at="2026-07-20", recorded_at=LATER),
            _task("new", org_id="acme", occurred_at="2026-07-20", recorded_at=LATER),
            _task("for-the-mover", contact_id="moving", occurred_at="2026-07-08"),
        ],
        "conversations": [{"conversation_id": "untimed", "org_id": "untimed", "rating": 1}],
        "conversation_parts": [
            {
                "conversation_id": "untimed",
                "part_number": 1,
                "author_type": "contact",
                "created_at": "2026-06-20",
            }
        ],
    }


@pytest.fixture(scope="module", params=["2026-06-30", "2026-07-31"])
def day(request: pytest.FixtureRequest) -> Iterator[duckdb.DuckDBPyConnection]:
    """The day as it was known then, and as it is known a month later."""
    with build_world(_world(), AS_OF, request.param, SETTINGS) as connection:
        yield connection


def _checks(connection: duckdb.DuckDBPyConnection, check: str) -> list[str]:
    return [row["subject_id"] for row in rows(connection, "lifecycle_checks") if row["check"] == check]


def test_a_contact_that_was_created_after_the_day_is_not_there_yet(day: duckdb.DuckDBPyConnection) -> None:
    assert _checks(day, "unknown_value") == []


def test_the_source_of_a_contact_is_compared_without_case_blanks_and_hyphens(
    day: duckdb.DuckDBPyConnection,
) -> None:
    assert _checks(day, "autocreated_incomplete") == ["extension"]


def test_a_finding_about_duplicates_shows_the_first_contact_even_where_it_says_nothing(
    day: duckdb.DuckDBPyConnection,
) -> None:
    row = one(day, "lifecycle_checks", check="duplicate_contact_email")
    assert (row["contact_ids"], row["org_id"]) == (["a-twin", "b-twin", "c-twin"], "acme")
    assert (row["subject_id"], row["lifecycle_stage"], row["owner_id"]) == ("a-twin", None, None)


def test_an_organisation_whose_record_is_deleted_is_no_organisation_of_a_contact(
    day: duckdb.DuckDBPyConnection,
) -> None:
    assert _checks(day, "customer_not_paying") == []


def test_a_stage_is_compared_with_the_last_one_of_the_order_unless_it_was_taken_back(
    day: duckdb.DuckDBPyConnection,
) -> None:
    assert _checks(day, "stage_moved_back") == ["back", "back-over-blank"]


def test_duplicates_have_the_owners_of_the_close_of_the_day(day: duckdb.DuckDBPyConnection) -> None:
    # b-twin is handed over later, from ann, who owns c-twin as well.
    assert [row for row in rows(day, "ownership_crossovers") if row["kind"] == "duplicate_person"] == []


def test_a_task_is_open_until_it_is_completed_and_exists_since_it_was_first_recorded(
    day: duckdb.DuckDBPyConnection,
) -> None:
    acme = one(day, "customer_360", org_id="acme")
    # open, due-later, done-later, rescheduled, of-two; of these due: open, done-later, of-two
    assert (acme["open_tasks"], acme["overdue_tasks"]) == (5, 3)


def test_a_task_due_later_counts_for_whom_the_contact_stands_for_now(day: duckdb.DuckDBPyConnection) -> None:
    assert one(day, "customer_360", org_id="elsewhere")["open_tasks"] == 1
    assert one(day, "customer_360", org_id="there")["open_tasks"] == 0


def test_an_end_planned_as_a_later_version_is_a_known_end_of_the_organisation(
    day: duckdb.DuckDBPyConnection,
) -> None:
    assert one(day, "organisation_daily", org_id="quiet")["scheduled_end_on"] == date(2026, 8, 1)
    quiet = one(day, "customer_360", org_id="quiet")
    assert (quiet["health_commercial"], quiet["why"][0], quiet["churn_state"]) == (
        0,
        "scheduled_end",
        "scheduled",
    )


def test_a_rating_without_a_time_was_given_with_the_last_message(day: duckdb.DuckDBPyConnection) -> None:
    row = one(day, "customer_360", org_id="untimed")
    assert (row["dissatisfied_conversations"], row["health_support"]) == (1, 75)


def test_health_is_the_mean_of_the_components_that_are_shown() -> None:
    world: dict[str, list[Row]] = {
        "organisations": [{"org_id": "thirds", "members_active": 1}],
        "subscription_versions": subscription("s", "thirds", [("2025-01-01", 3, 100)]),
        "contacts": [{"contact_id": "c"}],
        "contact_orgs": [{"contact_id": "c", "org_id": "thirds"}],
        "nps_responses": [
            {"response_id": "r", "contact_id": "c", "score": 9, "responded_at": "2026-06-01T00:00:00Z"}
        ],
    }
    with build_world(world, AS_OF) as connection:
        row = one(connection, "customer_360", org_id="thirds")
    assert (row["health_seats"], row["health_sentiment"], row["health_engagement"]) == (
        Decimal("33.3"),
        Decimal("90.0"),
        None,
    )
    # (30 x 100 + 25 x 33.3 + 20 x 90) / 75 = 75.1
    assert (row["health"], row["health_coverage"]) == (Decimal("75.1"), Decimal("0.75"))
    assert row["why"] == ["low_utilisation"]


def test_of_several_paid_plans_the_largest_is_shown_and_an_unknown_mrr_is_the_smallest() -> None:
    world: dict[str, list[Row]] = {
        "organisations": organisations("seats", "unknown"),
        "subscription_versions": [
            *subscription("a", "seats", [("2025-01-01", 5, 100)], plan="small"),
            *subscription("b", "seats", [("2025-01-01", 6, 100)], plan="large"),
            *subscription("c", "unknown", [("2025-01-01", 500, 9000)], plan="strange", currency="XXX"),
            *subscription("d", "unknown", [("2025-01-01", 5, 0)], plan="discounted"),
        ],
    }
    with build_world(world, AS_OF) as connection:
        plans = {row["org_id"]: row["plan"] for row in rows(connection, "organisation_daily")}
    assert plans == {"seats": "large", "unknown": "discounted"}


def test_of_several_joint_plans_a_paying_one_covers_then_the_last_to_start() -> None:
    world: dict[str, list[Row]] = {
        "organisations": organisations("child", "idle", "old", "new"),
        "subscription_versions": [
            *subscription("s-old", "old", [("2025-01-01", 5, 100)]),
            *subscription("s-new", "new", [("2025-01-01", 5, 100)]),
        ],
        "org_coverage": [
            {"child_org_id": "child", "payer_org_id": payer, "valid_from": valid_from}
            for payer, valid_from in (("old", "2026-01-01"), ("new", "2026-02-01"), ("idle", "2026-03-01"))
        ],
    }
    with build_world(world, AS_OF) as connection:
        assert one(connection, "organisation_daily", org_id="child")["covered_by_org_id"] == "new"


def test_a_contract_that_held_at_no_time_makes_no_organisation() -> None:
    world: dict[str, list[Row]] = {
        "crm_contracts": [
            {"org_id": "never", "valid_from": "2026-06-01", "valid_to": "2026-06-01", "amount": "900"},
            {"org_id": "once", "valid_from": "2026-06-01", "valid_to": "2026-06-02", "amount": "900"},
        ]
    }
    with build_world(world, AS_OF) as connection:
        assert [row["org_id"] for row in rows(connection, "organisation_daily")] == ["once"]


def test_a_merged_organisation_whose_survivor_is_deleted_is_gone() -> None:
    world: dict[str, list[Row]] = {
        "organisations": [*organisations("loser", "other"), {"org_id": "winner", "is_deleted": True}],
        "org_merges": [
            {"loser_org_id": "loser", "winner_org_id": "winner", "merged_at": "2026-01-01"},
            {"loser_org_id": "other", "winner_org_id": "no-record", "merged_at": "2026-01-01"},
        ],
    }
    with build_world(world, AS_OF) as connection:
        assert [row["org_id"] for row in rows(connection, "organisation_daily")] == ["no-record"]


def test_an_answer_of_nobody_known_a_stranger_and_a_contact_without_organisation_is_unmatched() -> None:
    world: dict[str, list[Row]] = {
        "contacts": [{"contact_id": "alone"}, {"contact_id": "deleted", "is_deleted": True}],
        "nps_responses": [
            {"response_id": f"r{number}", "contact_id": contact, "score": 9, "responded_at": "2026-06-01"}
            for number, contact in enumerate((None, "stranger", "alone", "deleted"))
        ],
    }
    with build_world(world, AS_OF) as connection:
        reasons = [row["reason"] for row in rows(connection, "unmatched_nps")]
    assert reasons == ["anonymous", "respondent_unknown", *["contact_without_organisation"] * 2]
