"""Who is ready for more: every kind of candidate with its boundary, in one small world."""

from __future__ import annotations

from functools import cache
from typing import Any

import duckdb
import pytest

from hub_pipeline_tests.models.worlds import Row, build_world, one, rows, subscription

AS_OF = "2026-06-30"


def _plan(org_id: str, amount: str = "500", seats: int = 10, **columns: Any) -> list[Row]:
    return subscription(f"s-{org_id}", org_id, [("2025-01-01", seats, amount)], **columns)


def _upsell(name: str, org_id: str, **columns: Any) -> Row:
    return {
        "deal_id": f"d-{name}",
        "org_id": org_id,
        "pipeline": "post_sales",
        "deal_type": "upsell",
        "stage": "negotiation",
        "status": "open",
        "created_at": "2026-06-01",
        "close_date": "2026-07-31",
    } | columns


def _growing(org_id: str) -> list[Row]:
    return subscription(f"s-{org_id}", org_id, [("2025-01-01", 10, "100"), ("2026-06-01", 30, "300")])


@cache
def _built() -> duckdb.DuckDBPyConnection:
    described: dict[str, Row] = {
        "used-90": {"members_active": 9},
        "used-89": {"members_active": 89},
        "free-used": {"members_active": 10},
        "seatless": {"members_active": 3},
        "true-up": {"pending_true_up_mrr": 0.01},
        "no-true-up": {"pending_true_up_mrr": 0},
        "monthly-500": {},
        "monthly-501": {},
        "monthly-in-a-year": {},
        "mostly-monthly": {},
        "mostly-yearly": {},
        "growing": {},
        "growing-in-post-sales": {},
        "growing-in-sales": {},
        "growing-lost": {},
        "parent": {},
        "child-1": {"domain": "child.io"},
        "child-2": {"domain": "child.io"},
        "child-free": {},
        "only": {},
        "east": {"domain": "WWW.Corp.io"},
        "west": {"domain": "corp.io"},
        "north": {"domain": "corp.io"},
        "mail-1": {"domain": "gmail.com"},
        "mail-2": {"domain": "gmail.com"},
    }
    year = {"billing_interval": "year"}
    world = {
        "organisations": [{"org_id": org_id} | columns for org_id, columns in described.items()],
        "org_parents": [
            {"org_id": child, "parent_org_id": parent}
            for child, parent in (
                ("child-1", "parent"),
                ("child-2", "parent"),
                ("child-free", "parent"),
                ("only", "used-89"),
            )
        ],
        "subscription_versions": [
            *_plan("used-90"),
            *_plan("used-89", seats=100),
            *_plan("free-used", "0", plan="free"),
            *_plan("seatless", seats=0),
            *_plan("true-up"),
            *_plan("no-true-up"),
            *_plan("monthly-500", "500"),
            *_plan("monthly-501", "500.01"),
            *_plan("monthly-in-a-year", "900", term_start="2026-01-01", term_end="2027-01-01"),
            *_plan("mostly-monthly", "400"),
            *subscription("t-mostly-monthly", "mostly-monthly", [("2025-01-01", 1, "2400")], **year),
            *_plan("mostly-yearly", "400"),
            *subscription("t-mostly-yearly", "mostly-yearly", [("2025-01-01", 1, "6000")], **year),
            *[row for name in described if name.startswith("growing") for row in _growing(name)],
            *_plan("child-1", "100"),
            *_plan("child-2", "200"),
            *_plan("child-free", "0", plan="free"),
            *_plan("only"),
            *_plan("east", "300"),
            *_plan("west", "200"),
            *_plan("north", "300"),
            *_plan("mail-1"),
            *_plan("mail-2"),
        ],
        "deals": [
            _upsell("post-sales", "growing-in-post-sales", amount=90),
            _upsell("sales", "growing-in-sales", pipeline="sales"),
            _upsell("lost", "growing-lost", status="lost", closed_at="2026-06-20"),
            _upsell("west", "west"),
            _upsell("nobody", "elsewhere"),
        ],
    }
    return build_world(world, AS_OF)


def _kinds(org_id: str) -> list[str]:
    return [row["kind"] for row in rows(_built(), "upsell_pipeline") if row["org_id"] == org_id]


@pytest.mark.parametrize(
    ("org_id", "kinds"),
    [
        ("used-90", ["utilisation"]),
        ("used-89", []),
        ("free-used", []),
        ("seatless", []),
        ("true-up", ["true_up"]),
        ("no-true-up", []),
        ("monthly-500", []),
        ("monthly-501", ["annual"]),
        ("monthly-in-a-year", []),
        ("mostly-monthly", ["annual"]),
        ("mostly-yearly", []),
        ("growing", ["fast_growing"]),
        ("growing-lost", ["fast_growing"]),
        ("growing-in-post-sales", ["open_deal"]),
        ("growing-in-sales", []),
        ("parent", ["joint_plan_parent"]),
        ("east", ["joint_plan_domain"]),  # of two equals the lowest id stands for all
        ("north", []),
        ("mail-1", []),
        ("only", []),
        ("elsewhere", ["open_deal"]),
    ],
)
def test_an_organisation_is_a_candidate_exactly_from_the_boundary_on(org_id: str, kinds: list[str]) -> None:
    assert _kinds(org_id) == kinds


def test_a_joint_plan_has_one_row_with_the_seats_and_mrr_of_all_who_pay() -> None:
    children = one(_built(), "upsell_pipeline", kind="joint_plan_parent")
    assert (children["org_ids"], children["seats"], children["mrr"]) == (["child-1", "child-2"], 20, 300)
    corp = one(_built(), "upsell_pipeline", kind="joint_plan_domain")
    assert (corp["upsell_id"], corp["org_id"]) == ("joint_plan_domain:corp.io", "east")
    assert (corp["org_ids"], corp["mrr"]) == (["east", "north", "west"], 800)
    assert corp["has_open_upsell_deal"]
    assert not children["has_open_upsell_deal"]


def test_an_open_deal_tells_what_is_known_of_it_and_of_its_organisation() -> None:
    deal = one(_built(), "upsell_pipeline", upsell_id="deal:d-post-sales")
    assert (deal["deal_amount"], str(deal["close_date"]), deal["seats"]) == (90, "2026-07-31", 30)
    unknown = one(_built(), "upsell_pipeline", upsell_id="deal:d-nobody")
    assert (unknown["org_ids"], unknown["seats"], unknown["tier"]) == (["elsewhere"], None, None)
