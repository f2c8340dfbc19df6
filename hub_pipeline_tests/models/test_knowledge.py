"""A day's marts are a function of what was known: later rows and the order of rows change nothing, in any world."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub_pipeline.models import catalog
from hub_pipeline_tests.models.worlds import Row, build_world, rows

FIRST = datetime(2026, 1, 1)
AS_OF = date(2026, 6, 30)


def _instant(random: Random) -> str:
    """Few different instants, on both sides of the close of as_of, so that rows collide in key and in time."""
    day = FIRST + timedelta(days=random.choice((0, 30, 90, 91, 120, 150, 170, 179, 180, 181, 182, 190)))
    return (day + timedelta(hours=random.choice((0, 12, 23)))).isoformat() + "Z"


def _random_world(random: Random) -> dict[str, list[Row]]:
    def pick(prefix: str, count: int = 10) -> str:
        return f"{prefix}{random.randrange(count)}"

    def maybe(value: Callable[[], Any], share: float = 0.5) -> Any:
        return value() if random.random() < share else None

    def at() -> str:
        return _instant(random)

    def org() -> str:
        return pick("o")

    makers: dict[str, Callable[[], Row]] = {
        "organisations": lambda: {
            "org_id": org(),
            "name": pick("name"),
            "owner_id": maybe(lambda: pick("u", 3)),
            "tier_override": maybe(lambda: random.choice("AB"), 0.1),
            "created_at": maybe(at),
            "is_deleted": random.random() < 0.1,
        },
        "subscription_versions": lambda: {
            "subscription_id": pick("s", 14),
            "org_id": org(),
            "plan": random.choice(("team", "enterprise", "free")),
            "billing_interval": random.choice(("month", "year", "week")),
            "seats": maybe(lambda: random.randrange(0, 90), 0.9),
            "amount": str(random.choice((0, 99.99, 600, 6000.06))),
            "currency": random.choice(("USD", "EUR")),
            "status": random.choice(("active", "active", "past_due", "paused", "trialing", "canceled")),
            "effective_at": at(),
            "cancel_at": maybe(at, 0.2),
            "term_end": maybe(at),
        },
        "org_parents": lambda: {
            "org_id": org(),
            "parent_org_id": org(),
            "valid_from": at(),
            "valid_to": maybe(at),
        },
        "org_coverage": lambda: {
            "child_org_id": org(),
            "payer_org_id": org(),
            "valid_from": at(),
            "valid_to": maybe(at, 0.2),
            "seats": maybe(lambda: random.randrange(30)),
        },
        "org_merges": lambda: {"loser_org_id": org(), "winner_org_id": org(), "merged_at": at()},
        "crm_contracts": lambda: {
            "org_id": org(),
            "kind": "custom",
            "valid_from": at(),
            "valid_to": maybe(at),
            "seats": 10,
            "amount": maybe(lambda: "900"),
        },
        "crm_subscriptions": lambda: {
            "org_id": org(),
            "amount": maybe(lambda: "600", 0.8),
            "billing_interval": random.choice(("month", "year")),
            "currency": random.choice(("USD", "EUR")),
            "status": random.choice(("active", "active", "canceled")),
            "effective_at": at(),
            "cancel_at": maybe(at, 0.2),
        },
        "invoices": lambda: {
            "invoice_id": pick("i"),
            "org_id": org(),
            "subscription_id": maybe(lambda: pick("s", 14)),
            "status": random.choice(("open", "paid", "paid", "draft", "void")),
            "currency": random.choice(("USD", "EUR")),
            "total": random.choice(("100", "250.5")),
            "tax": maybe(lambda: "10"),
            "created_at": at(),
            "period_start": maybe(lambda: "2026-06-15"),
            "period_end": "2026-07-15",
            "is_deleted": random.random() < 0.1,
        },
        "invoice_lines": lambda: {
            "invoice_id": pick("i"),
            "line_id": pick("l", 2),
            "subscription_id": maybe(lambda: pick("s", 14), 0.8),
            "amount": random.choice(("100", "55.55", "-20")),
            "is_proration": random.random() < 0.2,
            "period_start": random.choice(("2026-06-30", "2026-06-01", "2026-01-01")),
            "period_end": random.choice(("2026-07-01", "2026-07-30", "2027-01-01")),
            "created_at": maybe(at, 0.3),
        },
        "contacts": lambda: {
            "contact_id": pick("c"),
            "email": f"{pick('c')}@x.io",
            "is_champion": True,
            "left_at": maybe(at, 0.3),
        },
        "contact_orgs": lambda: {
            "contact_id": pick("c"),
            "org_id": org(),
            "is_primary": random.random() < 0.5,
            "valid_from": maybe(at),
            "valid_to": maybe(at, 0.3),
        },
        "nps_responses": lambda: {
            "response_id": pick("n"),
            "contact_id": maybe(lambda: pick("c"), 0.8),
            "org_id": maybe(org, 0.3),
            "score": random.randrange(12),
            "comment": pick("comment"),
            "responded_at": at(),
        },
        "conversations": lambda: {
            "conversation_id": pick("k"),
            "contact_id": pick("c"),
            "org_id": maybe(org, 0.3),
            "rating": maybe(lambda: random.randrange(1, 6)),
            "rated_at": maybe(at),
        },
        "conversation_parts": lambda: {
            "conversation_id": pick("k"),
            "part_number": random.randrange(4),
            "author_type": random.choice(("contact", "admin")),
            "created_at": at(),
        },
        "engagements": lambda: {
            "engagement_id": pick("e"),
            "type": random.choice(("email", "task", "call")),
            "direction": "outbound",
            "contact_id": maybe(lambda: pick("c")),
            "org_id": maybe(org),
            "user_id": pick("u", 3),
            "occurred_at": at(),
        },
        "users": lambda: {
            "user_id": pick("u", 3),
            "role": random.choice(("csm", "support")),
            "is_active": True,
        },
        "deals": lambda: {
            "deal_id": pick("d"),
            "org_id": org(),
            "subscription_id": maybe(lambda: pick("s", 14), 0.3),
            "pipeline": "post_sales",
            "deal_type": random.choice(("renewal", "upsell")),
            "plan": "enterprise",
            "stage": pick("stage", 3),
            "status": random.choice(("open", "won", "lost")),
            "amount": str(random.choice((600, 7200))),
            "created_at": maybe(at),
            "closed_at": maybe(at),
            "close_date": maybe(lambda: at()[:10]),
        },
        "deal_close_dates": lambda: {"deal_id": pick("d"), "close_date": at()[:10], "set_at": at()},
        "fx_rates": lambda: {
            "currency": "EUR",
            "rate": random.choice(("1.1", "0.95")),
            "valid_from": at()[:10],
        },
    }
    counts = {
        "org_merges": 2,
        "subscription_versions": 40,
        "conversation_parts": 30,
        "contact_orgs": 20,
        "invoice_lines": 30,
    }
    return {
        table: [make() | {"recorded_at": at()} for _ in range(counts.get(table, 12))]
        for table, make in makers.items()
    }


def _answers(world: dict[str, list[Row]], known_at: date) -> dict[str, list[Row]]:
    with build_world(world, AS_OF.isoformat(), known_at.isoformat()) as connection:
        return {model.table: rows(connection, model.table) for model in catalog().layer("marts")}


def _assert_only_knowledge_counts(random: Random, extra_days: int) -> None:
    known_at = AS_OF + timedelta(days=extra_days)
    close = (known_at + timedelta(days=1)).isoformat()
    world = _random_world(random)
    known = {
        table: [row for row in table_rows if row["recorded_at"] < close]
        for table, table_rows in world.items()
    }
    for table_rows in known.values():
        random.shuffle(table_rows)
    everything, only_known = _answers(world, known_at), _answers(known, known_at)
    assert any(row["invoiced_mrr"] for row in everything["tie_out"])
    for mart, expected in everything.items():
        assert only_known[mart] == expected, mart


@settings(max_examples=2, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(0, 2))
def test_rows_recorded_later_and_the_order_of_rows_change_no_mart(seed: int, extra_days: int) -> None:
    _assert_only_knowledge_counts(Random(seed), extra_days)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2))
def test_rows_recorded_later_and_the_order_of_rows_change_no_mart_in_many_worlds(
    seed: int, extra_days: int
) -> None:
    _assert_only_knowledge_counts(Random(seed), extra_days)
