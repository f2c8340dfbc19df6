"""Churn flags: every reason and hint with its boundary, all in one small world of one day."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import duckdb
import pytest

from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import Row, build_world, one, organisations, rows, subscription

AS_OF = "2026-06-30"
START = "2025-01-01"


def _ended(name: str, end: str, *, plan: str = "team", **columns: Any) -> list[Row]:
    """A monthly subscription s-<name> of organisation <name> with 800 MRR that is canceled on a day."""
    return [
        *subscription(f"s-{name}", name, [(START, 40, 800)], plan=plan),
        *subscription(f"s-{name}", name, [(end, 40, 800)], plan=plan, status="canceled", **columns),
    ]


def _scheduled(name: str, end: str) -> list[Row]:
    return [
        *subscription(f"s-{name}", name, [(START, 40, 800)]),
        *subscription(
            f"s-{name}", name, [("2026-06-10", 40, 800)], cancel_at=end, cancel_reason="too_expensive"
        ),
    ]


def _world() -> dict[str, list[Row]]:
    subscriptions: list[Row] = [
        *_scheduled("tomorrow", "2026-07-01"),
        *_ended("today", "2026-06-30"),
        *_ended("gap31", "2026-05-01"),
        *subscription("s-gap31-new", "gap31", [("2026-06-01", 5, 100)]),
        *_ended("gap32", "2026-05-01"),
        *subscription("s-gap32-new", "gap32", [("2026-06-02", 5, 100)]),
        *_ended("before31", "2026-06-15"),
        *subscription("s-before31-new", "before31", [("2026-05-15", 5, 100)]),
        *_ended("before32", "2026-06-15"),
        *subscription("s-before32-new", "before32", [("2026-05-14", 5, 100)]),
        *_ended("same-id", "2026-05-01"),
        *subscription("s-same-id", "same-id", [("2026-05-20", 5, 100)]),
        *_ended("custom31", "2026-05-01"),
        *_ended("custom32", "2026-05-01"),
        *_ended("enterprise", "2026-06-10"),
        *subscription(
            "s-enterprise-new",
            "enterprise",
            [("2026-07-05", 60, 1500)],
            plan="Enterprise",
            recorded_at="2026-06-20",
        ),
        *_ended("covered31", "2026-05-01"),
        *_ended("covered32", "2026-05-01"),
        *_ended("covered-over", "2026-05-01"),
        *subscription("s-payer", "payer", [(START, 300, 5000)]),
        *_ended("merged", "2026-06-06"),
        *subscription("s-survivor", "survivor", [(START, 10, 200)]),
        *_ended("merged-alone", "2026-06-06"),
        *_ended("parent-hint", "2026-06-06"),
        *_ended("deal-hint", "2026-06-06"),
        *_ended("old-deal", "2026-06-06"),
        *_ended("lost-deal", "2026-06-06"),
        *_ended("domain-hint", "2026-06-06"),
        *_ended("mail-hint", "2026-06-06"),
        *_ended("free-mail", "2026-06-06"),
        *_ended("active-hint", "2026-06-06"),
        *_ended("quiet", "2026-06-06"),
        *subscription("s-unpaid", "unpaid", [(START, 5, 100)]),
        *subscription("s-unpaid", "unpaid", [("2026-06-01", 5, 100)], status="unpaid"),
        *subscription("s-unpaid", "unpaid", [("2026-06-20", 5, 100)], status="canceled"),
        *_ended("failed", "2026-06-06", cancel_reason="payment_failed"),
        *subscription("s-free", "free", [(START, 5, 100)]),
        *subscription("s-free", "free", [("2026-06-01", 5, 0)], plan="free"),
        *subscription("s-paused", "paused", [(START, 5, 100)]),
        *subscription("s-paused", "paused", [("2026-06-01", 5, 100)], status="paused"),
        *_ended("idle", "2026-05-01"),
        *subscription("s-idle", "idle", [("2026-06-01", 40, 800)], status="paused"),
        *subscription("s-idle", "idle", [("2026-06-10", 40, 800)], status="canceled"),
        *subscription("s-trial", "trial", [("2026-05-01", 5, 100)], status="trialing"),
        *subscription("s-trial", "trial", [("2026-06-01", 5, 100)], status="canceled"),
        *_ended("day400", "2025-05-26"),
        *_ended("day399", "2025-05-27"),
        *_ended("recent90", "2026-04-01"),
        *_ended("recent89", "2026-04-02"),
        *subscription("s-reverted", "reverted", [(START, 5, 100)], cancel_at="2026-07-15"),
        *subscription("s-reverted", "reverted", [("2026-06-20", 5, 100)]),
        *subscription("s-reverted-other", "reverted", [(START, 5, 100)]),
        *subscription("s-again", "again", [(START, 5, 100)], cancel_at="2026-07-15"),
        *subscription("s-again", "again", [("2026-06-20", 5, 100)]),
        *subscription("s-again", "again", [("2026-06-25", 5, 100)], cancel_at="2026-08-31"),
        *subscription("s-moved", "moved", [(START, 5, 100)], cancel_at="2026-07-15"),
        *subscription("s-moved", "moved", [("2026-06-20", 5, 100)], cancel_at="2026-09-30"),
        *subscription("s-later", "later", [(START, 5, 100)]),
        *subscription(
            "s-later", "later", [("2026-07-20", 5, 100)], status="canceled", recorded_at="2026-06-20"
        ),
        *subscription("s-down", "down", [(START, 50, 1000), ("2026-05-01", 40, 900)]),
        *subscription("s-down", "down", [("2026-06-10T15:00:00Z", 40, 900)], status="canceled"),
    ]
    names = sorted({str(row["org_id"]) for row in subscriptions})
    domains = {
        "payer": "big.example",
        "domain-hint": "www.big.example",
        "quiet": "gmail.com",
        "free-mail": None,
    }
    return {
        "organisations": [
            {"org_id": name, "domain": domains.get(name)} for name in [*names, "contract", "nobody"]
        ],
        "subscription_versions": subscriptions,
        "crm_contracts": [
            {"org_id": "custom31", "kind": "custom", "valid_from": "2026-06-01"},
            {"org_id": "custom32", "kind": "custom", "valid_from": "2026-06-02"},
            {
                "org_id": "contract",
                "kind": "custom",
                "valid_from": START,
                "valid_to": "2026-06-01",
                "amount": 900,
            },
            {"org_id": "quiet", "kind": "custom", "valid_from": START, "valid_to": "2026-06-06"},
        ],
        "org_coverage": [
            {"child_org_id": "covered31", "payer_org_id": "payer", "valid_from": "2026-06-01", "seats": 40},
            {"child_org_id": "covered32", "payer_org_id": "payer", "valid_from": "2026-06-02", "seats": 40},
            {
                "child_org_id": "covered-over",
                "payer_org_id": "payer",
                "valid_from": "2026-01-01",
                "valid_to": "2026-05-01",
                "seats": 40,
            },
        ],
        "org_merges": [
            {"loser_org_id": "merged", "winner_org_id": "survivor", "merged_at": "2026-06-20"},
            {"loser_org_id": "merged-alone", "winner_org_id": "nobody", "merged_at": "2026-06-20"},
        ],
        "org_parents": [{"org_id": "parent-hint", "parent_org_id": "payer", "valid_from": START}],
        "deals": [
            {
                "deal_id": "d-won",
                "org_id": "deal-hint",
                "plan": "enterprise",
                "status": "won",
                "closed_at": "2026-06-01",
            },
            {
                "deal_id": "d-old",
                "org_id": "old-deal",
                "plan": "enterprise",
                "status": "won",
                "closed_at": "2025-01-01",
            },
            {
                "deal_id": "d-lost",
                "org_id": "lost-deal",
                "plan": "enterprise",
                "status": "lost",
                "closed_at": "2026-06-01",
            },
        ],
        "contacts": [
            {"contact_id": "c-payer", "email": "boss@Paying.example"},
            {"contact_id": "c-mail", "email": "me@paying.example"},
            {"contact_id": "c-payer-free", "email": "boss@gmail.com"},
            {"contact_id": "c-free", "email": "me@gmail.com"},
        ],
        "contact_orgs": [
            {"contact_id": "c-payer", "org_id": "payer"},
            {"contact_id": "c-payer-free", "org_id": "payer"},
            {"contact_id": "c-mail", "org_id": "mail-hint"},
            {"contact_id": "c-free", "org_id": "free-mail"},
        ],
        "conversations": [
            {"conversation_id": "k-active", "org_id": "active-hint", "contact_id": "c1"},
            {"conversation_id": "k-quiet", "org_id": "quiet", "contact_id": "c2"},
        ],
        "conversation_parts": [
            {
                "conversation_id": "k-active",
                "part_number": 1,
                "author_type": "contact",
                "created_at": "2026-06-06T00:00:00Z",
            },
            {
                "conversation_id": "k-quiet",
                "part_number": 1,
                "author_type": "contact",
                "created_at": "2026-06-05T23:59:59Z",
            },
            {
                "conversation_id": "k-quiet",
                "part_number": 2,
                "author_type": "admin",
                "created_at": "2026-06-07T00:00:00Z",
            },
        ],
    }


@cache
def _built() -> duckdb.DuckDBPyConnection:
    return build_world(_world(), AS_OF)


def _flag(name: str) -> Row:
    return one(_built(), "churn_flags", subscription_id=f"s-{name}")


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("tomorrow", "scheduled", None),
        ("today", "churned", None),
        ("gap31", "false_alarm", "resubscribed"),
        ("gap32", "reactivated", None),
        ("before31", "false_alarm", "resubscribed"),
        ("before32", "false_alarm", "other_subscription_active"),
        ("same-id", "false_alarm", "resubscribed"),
        ("custom31", "false_alarm", "moved_to_custom"),
        ("custom32", "churned", None),
        ("enterprise", "false_alarm", "moved_to_custom"),
        ("covered31", "false_alarm", "moved_to_parent"),
        ("covered32", "churned", None),
        ("covered-over", "churned", None),
        ("merged", "false_alarm", "duplicate_org"),
        ("merged-alone", "churned", None),
        ("quiet", "churned", None),
        ("reverted", "false_alarm", "cancellation_reverted"),
        ("again", "scheduled", None),
        ("moved", "scheduled", None),
        ("later", "scheduled", None),
    ],
)
def test_the_first_reason_that_holds_decides_and_31_days_are_the_limit(
    name: str, state: str, reason: str | None
) -> None:
    flag = _flag(name)
    assert (flag["state"], flag["false_alarm_reason"]) == (state, reason)
    assert flag["verification"] == "confirmed" or state in ("scheduled", "churned")


@pytest.mark.parametrize(
    ("name", "hints"),
    [
        ("parent-hint", ["parent_is_paying"]),
        ("deal-hint", ["enterprise_deal_in_crm"]),
        ("old-deal", []),
        ("lost-deal", []),
        ("domain-hint", ["same_domain_as_paying_org"]),
        ("mail-hint", ["same_domain_as_paying_org"]),
        ("free-mail", []),
        ("active-hint", ["contacts_still_active"]),
        ("quiet", []),
    ],
)
def test_a_hint_asks_for_review_and_dismisses_nothing(name: str, hints: list[str]) -> None:
    flag = _flag(name)
    assert flag["state"] == "churned"
    assert flag["review_hints"] == hints
    assert flag["verification"] == ("needs_review" if hints else "confirmed")


@pytest.mark.parametrize(
    ("name", "churn_type", "churn_date"),
    [
        ("unpaid", "involuntary", "2026-06-01"),
        ("failed", "involuntary", "2026-06-06"),
        ("free", "to_free", "2026-06-01"),
        # paused after it had ended: the end that follows is none
        ("idle", "voluntary", "2026-05-01"),
        ("today", "voluntary", "2026-06-30"),
    ],
)
def test_the_type_says_how_a_subscription_ended(name: str, churn_type: str, churn_date: str) -> None:
    flag = _flag(name)
    assert (flag["churn_type"], str(flag["churn_date"])) == (churn_type, churn_date)


def test_pausing_and_a_trial_that_never_paid_are_no_churn() -> None:
    found = {row["subscription_id"] for row in rows(_built(), "churn_flags")}
    assert not found & {"s-paused", "s-trial", "s-reverted-other", "s-payer"}


def test_the_history_ends_after_400_days_and_recent_means_90() -> None:
    found = {row["subscription_id"]: row for row in rows(_built(), "churn_flags")}
    assert "s-day400" not in found
    assert "s-day399" in found
    assert not found["s-recent90"]["is_recent"]
    assert found["s-recent89"]["is_recent"]


def test_the_mrr_at_risk_is_that_of_the_day_before_the_end() -> None:
    assert _flag("down")["mrr_at_risk"] == 900
    assert _flag("tomorrow")["mrr_at_risk"] == 800
    assert str(_flag("tomorrow")["recorded_on"]) == "2026-06-10"


def test_a_withdrawn_end_keeps_its_date_and_a_new_one_replaces_it() -> None:
    assert str(_flag("reverted")["churn_date"]) == "2026-07-15"
    assert str(_flag("again")["churn_date"]) == "2026-08-31"
    assert str(_flag("moved")["churn_date"]) == "2026-09-30"


def test_the_end_of_a_crm_contract_counts_once_it_has_passed() -> None:
    flag = one(_built(), "churn_flags", subscription_id=f"contract:contract:{START}")
    assert (flag["state"], flag["mrr_at_risk"]) == ("churned", 900)
    world = {"organisations": organisations("contract"), "crm_contracts": _world()["crm_contracts"][2:3]}
    assert rows(build_world(world, "2026-05-31"), "churn_flags") == []


def test_every_false_alarm_names_its_proof_and_every_row_says_why() -> None:
    proofs = {
        "gap31": ("s-gap31-new", None, "2026-06-01"),
        "custom31": ("contract:custom31:2026-06-01", None, "2026-06-01"),
        "enterprise": ("s-enterprise-new", None, "2026-07-05"),
        "covered31": (None, "payer", "2026-06-01"),
        "merged": ("s-survivor", "survivor", "None"),
        "before32": ("s-before32-new", None, "2026-05-14"),
        "reverted": (None, None, "2026-06-20"),
    }
    for name, proof in proofs.items():
        flag = _flag(name)
        assert (
            flag["evidence_subscription_id"],
            flag["evidence_org_id"],
            str(flag["evidence_from"]),
        ) == proof
    for row in rows(_built(), "churn_flags"):
        assert row["subscription_id"] in row["why"]
        assert str(row["churn_date"]) in row["why"]
        assert row["why"].endswith(".")


def test_a_restated_day_knows_the_proof_but_not_what_happened_to_the_subscription_later() -> None:
    world = {
        "organisations": organisations("a", "b"),
        "subscription_versions": [
            *_ended("a", "2026-06-01"),
            *subscription("s-a-new", "a", [("2026-06-21", 5, 100)]),
            *subscription("s-b", "b", [(START, 5, 100)]),
            *subscription("s-b", "b", [("2026-07-10", 5, 100)], status="canceled"),
        ],
    }
    restated = rows(build_world(world, "2026-06-15", "2026-07-31"), "churn_flags")
    assert [(row["subscription_id"], row["false_alarm_reason"]) for row in restated] == [
        ("s-a", "resubscribed")
    ]
    that_day = rows(build_world(world, "2026-06-15"), "churn_flags")
    assert [(row["subscription_id"], row["state"]) for row in that_day] == [("s-a", "churned")]


def test_a_local_day_ends_at_midnight_of_the_reporting_time_zone() -> None:
    world = {
        "organisations": organisations("a", "b"),
        "subscription_versions": [
            # 23:30 of 30 June in New York, and 00:00 of 1 July
            *subscription("s-a", "a", [(START, 5, 100)], cancel_at="2026-07-01T03:30:00Z"),
            *subscription("s-b", "b", [(START, 5, 100)], cancel_at="2026-07-01T04:00:00Z"),
        ],
    }
    settings = Settings.model_validate({"reporting_tz": "America/New_York"})
    found = rows(build_world(world, AS_OF, settings=settings), "churn_flags")
    assert [(row["state"], str(row["churn_date"])) for row in found] == [
        ("churned", "2026-06-30"),
        ("scheduled", "2026-07-01"),
    ]


def test_what_becomes_known_after_the_day_changes_nothing() -> None:
    later = "2026-07-05T10:00:00Z"
    known_later: dict[str, list[Row]] = {
        "subscription_versions": [
            *subscription("s-tomorrow", "tomorrow", [(later, 40, 800)]),
            *subscription("s-today-new", "today", [(later, 40, 800)], plan="enterprise"),
            *subscription("s-gap31", "gap31", [("2026-05-01", 40, 800)], recorded_at=later),
        ],
        "crm_contracts": [
            {"org_id": "custom32", "kind": "custom", "valid_from": "2026-05-02", "recorded_at": later}
        ],
        "org_coverage": [
            {
                "child_org_id": "quiet",
                "payer_org_id": "payer",
                "valid_from": "2026-06-06",
                "recorded_at": later,
            }
        ],
        "org_merges": [{"loser_org_id": "quiet", "winner_org_id": "survivor", "merged_at": later}],
        "deals": [
            {
                "deal_id": "d-new",
                "org_id": "quiet",
                "plan": "enterprise",
                "status": "open",
                "created_at": later,
            }
        ],
        "conversation_parts": [
            {"conversation_id": "k-quiet", "part_number": 3, "author_type": "contact", "created_at": later}
        ],
    }
    world = {table: [*table_rows, *known_later.get(table, [])] for table, table_rows in _world().items()}
    assert rows(build_world(world, AS_OF), "churn_flags") == rows(_built(), "churn_flags")


def test_the_order_of_the_input_rows_does_not_matter() -> None:
    world = _world()
    for table in world.values():
        random.Random(7).shuffle(table)
    assert rows(build_world(world, AS_OF), "churn_flags") == rows(_built(), "churn_flags")


def test_a_joint_plan_that_held_at_no_time_and_a_later_change_before_the_end_prove_nothing() -> None:
    world: dict[str, list[Row]] = {
        "organisations": organisations("empty", "payer", "dropped"),
        "subscription_versions": [
            *_ended("empty", "2026-06-10"),
            *subscription("s-payer", "payer", [(START, 40, 800)]),
            *subscription(
                "s-dropped", "dropped", [(START, 40, 800)], plan="enterprise", cancel_at="2026-12-01"
            ),
            *subscription(
                "s-dropped", "dropped", [("2026-09-01", 40, 800)], plan="enterprise", recorded_at="2026-07-05"
            ),
        ],
        "org_coverage": [
            {
                "child_org_id": "empty",
                "payer_org_id": "payer",
                "valid_from": "2026-06-20",
                "valid_to": "2026-06-15",
            }
        ],
    }
    with build_world(world, AS_OF, "2026-07-31") as connection:
        states = {row["org_id"]: row["state"] for row in rows(connection, "churn_flags")}
    assert states == {"empty": "churned", "dropped": "scheduled"}


def test_an_end_to_come_of_what_is_not_paid_for_now_puts_nothing_at_risk() -> None:
    world: dict[str, list[Row]] = {
        "organisations": organisations("free-now"),
        "subscription_versions": [
            *subscription("s", "free-now", [(START, 40, 800)]),
            *subscription("s", "free-now", [("2026-06-20", 40, 0)], plan="free", billing_interval=None),
            *subscription("s", "free-now", [("2026-07-10", 40, 800)], recorded_at="2026-06-20"),
            *subscription(
                "s", "free-now", [("2026-09-01", 40, 800)], status="canceled", recorded_at="2026-06-20"
            ),
        ],
    }
    with build_world(world, AS_OF) as connection:
        row = one(connection, "churn_flags", subscription_id="s")
    assert (str(row["churn_date"]), row["mrr_at_risk"]) == ("2026-09-01", 0)
