"""Who is at risk and why, at the boundaries. Organisations of one world do not know each other, so they share it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import build_world, one, organisations, rows, subscription

AS_OF = "2026-06-30"


def steady(*ids: str) -> list[dict[str, Any]]:
    return [version for org_id in ids for version in subscription(org_id, org_id, [("2025-01-01", 10, 100)])]


def member(contact_id: str, org_id: str, **columns: Any) -> dict[str, Any]:
    return {"contact_id": contact_id, "org_id": org_id} | columns


def answer(
    response_id: str, contact_id: str | None, score: float, responded_at: str, **columns: Any
) -> dict[str, Any]:
    return {
        "response_id": response_id,
        "contact_id": contact_id,
        "score": score,
        "responded_at": responded_at,
    } | columns


CONTRACTION = {
    "organisations": organisations(
        "exact",
        "share_below",
        "floor_below",
        "mrr_exact",
        "mrr_below",
        "mrr_small",
        "child",
        "payer",
        "off_billing",
        "euro",
        "unknown_mrr",
        "new",
        "stopped",
        "downgrade",
        "overdue",
        "overdue_30",
        "overdue_ended",
        "overdue_moved",
        "half",
        "part_paused",
        "peak",
    ),
    "org_coverage": [{"child_org_id": "child", "payer_org_id": "payer", "valid_from": "2026-06-01"}],
    "crm_contracts": [{"org_id": "off_billing", "kind": "custom", "valid_from": "2026-06-01"}],
    "fx_rates": [
        {"currency": "EUR", "rate": "2", "valid_from": "2025-01-01"},
        {"currency": "EUR", "rate": "1", "valid_from": "2026-06-01"},
    ],
    "subscription_versions": [
        *subscription("exact", "exact", [("2025-01-01", 25, 100), ("2026-06-01", 20, 100)]),
        *subscription("share_below", "share_below", [("2025-01-01", 26, 100), ("2026-06-01", 21, 100)]),
        *subscription("floor_below", "floor_below", [("2025-01-01", 20, 100), ("2026-06-01", 16, 100)]),
        *subscription("mrr_exact", "mrr_exact", [("2025-01-01", 9, 500), ("2026-06-01", 9, 400)]),
        *subscription("mrr_below", "mrr_below", [("2025-01-01", 9, 500), ("2026-06-01", 9, "400.01")]),
        *subscription("mrr_small", "mrr_small", [("2025-01-01", 9, 450), ("2026-06-01", 9, "350.01")]),
        *subscription("child", "child", [("2025-01-01", 40, 800)], cancel_at="2026-06-01"),
        *subscription("payer", "payer", [("2025-01-01", 100, 2000), ("2026-06-01", 100, 2000)]),
        *subscription("off_billing", "off_billing", [("2025-01-01", 40, 800)], cancel_at="2026-06-01"),
        *subscription("euro", "euro", [("2025-01-01", 9, 1000), ("2026-06-15", 9, 790)], currency="EUR"),
        *subscription("unknown1", "unknown_mrr", [("2025-01-01", 30, 900)], cancel_at="2026-06-01"),
        *subscription("unknown2", "unknown_mrr", [("2025-01-01", 30, 900)], billing_interval="fortnight"),
        *subscription("new", "new", [("2026-05-01", 50, 1000), ("2026-06-01", 10, 200)]),
        *subscription("stopped", "stopped", [("2025-01-01", 50, 1000)], cancel_at="2026-06-30T23:59:59Z"),
        *subscription("downgrade", "downgrade", [("2025-01-01", 50, 500), ("2026-06-01", 30, 300)]),
        *subscription("downgrade", "downgrade", [("2026-09-01", 20, 200)], recorded_at="2026-06-20"),
        *subscription("overdue", "overdue", [("2025-01-01", 50, 500)]),
        *subscription(
            "overdue", "overdue", [("2026-05-30", 50, 500), ("2026-06-10", 30, 300)], status="past_due"
        ),
        *subscription("overdue_30", "overdue_30", [("2025-01-01", 50, 500)], status="past_due"),
        *subscription("overdue_30", "overdue_30", [("2026-05-01", 50, 500)]),
        *subscription("overdue_30", "overdue_30", [("2026-05-31", 30, 300)], status="past_due"),
        # past due twice, between which it had ended; past due with another organisation before
        *subscription("overdue_ended", "overdue_ended", [("2025-01-01", 50, 500)]),
        *subscription(
            "overdue_ended",
            "overdue_ended",
            [("2026-04-01", 50, 500)],
            status="past_due",
            cancel_at="2026-06-01",
        ),
        *subscription("overdue_ended", "overdue_ended", [("2026-06-02", 30, 300)], status="past_due"),
        *subscription("overdue_moved", "overdue", [("2026-04-01", 50, 500)], status="past_due"),
        *subscription("overdue_moved", "overdue_moved", [("2026-06-20", 30, 300)], status="past_due"),
        *subscription("moved_part", "overdue_moved", [("2025-01-01", 90, 900)], cancel_at="2026-06-25"),
        # minus 9999 of 20000 is a half of the fourth decimal
        *subscription("half", "half", [("2025-01-01", 50, 200), ("2026-06-01", 9, "299.99")]),
        *subscription("part1", "part_paused", [("2025-01-01", 50, 500)]),
        *subscription("part2", "part_paused", [("2025-01-01", 50, 500)]),
        *subscription("part2", "part_paused", [("2026-06-01", 50, 500)], status="paused"),
        *subscription(
            "peak", "peak", [("2025-01-01", 50, 500), ("2026-05-01", 90, 900), ("2026-06-01", 40, 400)]
        ),
    ],
}


@pytest.fixture(scope="module")
def contraction() -> Iterator[duckdb.DuckDBPyConnection]:
    with build_world(CONTRACTION, AS_OF) as connection:
        yield connection


@pytest.mark.parametrize(
    ("org_id", "reasons"),
    [
        ("exact", ["seat_contraction"]),
        ("mrr_exact", ["mrr_contraction"]),
        ("euro", ["mrr_contraction"]),
        ("downgrade", ["seat_contraction", "mrr_contraction"]),
        ("part_paused", ["seat_contraction", "mrr_contraction"]),
    ],
)
def test_a_drop_that_reaches_share_and_floor_is_high(
    contraction: duckdb.DuckDBPyConnection, org_id: str, reasons: list[str]
) -> None:
    assert one(contraction, "at_risk", org_id=org_id)["reasons"] == reasons


@pytest.mark.parametrize(
    "org_id",
    ["share_below", "floor_below", "mrr_below", "mrr_small", "child", "off_billing", "new", "stopped"],
)
def test_a_drop_below_share_or_floor_a_transfer_and_a_lost_customer_are_not_on_the_list(
    contraction: duckdb.DuckDBPyConnection, org_id: str
) -> None:
    assert not [row for row in rows(contraction, "at_risk") if row["org_id"] == org_id]


def test_a_payer_that_took_over_a_child_without_growing_has_contracted_by_itself(
    contraction: duckdb.DuckDBPyConnection,
) -> None:
    row = one(contraction, "at_risk", org_id="payer")
    assert (row["seats_transferred_in"], row["seat_drop"], row["seat_contraction_pct"]) == (
        40,
        40,
        Decimal("0.4"),
    )
    assert (row["mrr_transferred_in"], row["mrr_drop"]) == (Decimal("800.00"), Decimal("800.00"))
    assert row["why"] == (
        "100 seats on 2026-04-01, 100 now: -40 (40.0 %), without joint plans (40 in, 0 out); "
        "2000.00 MRR on 2026-04-01, 2000.00 now: -800.00 (40.0 %), without joint plans (800.00 in, 0.00 out)."
    )


def test_contraction_is_measured_at_one_exchange_rate(contraction: duckdb.DuckDBPyConnection) -> None:
    row = one(contraction, "at_risk", org_id="euro")
    assert (row["mrr_baseline"], row["mrr"], row["mrr_contraction_pct"]) == (1000, 790, Decimal("0.21"))


def test_with_an_unknown_mrr_the_mrr_contraction_is_unknown_and_the_seats_still_count(
    contraction: duckdb.DuckDBPyConnection,
) -> None:
    row = one(contraction, "at_risk", org_id="unknown_mrr")
    assert (row["reasons"], row["mrr_drop"], row["mrr_contraction_pct"]) == (["seat_contraction"], None, None)


def test_the_sentence_names_each_reason_with_its_numbers(contraction: duckdb.DuckDBPyConnection) -> None:
    row = one(contraction, "at_risk", org_id="exact")
    assert row["why"] == "25 seats on 2026-04-01, 20 now: -5 (20.0 %)."


def test_the_drop_from_the_peak_is_shown(contraction: duckdb.DuckDBPyConnection) -> None:
    row = one(contraction, "at_risk", org_id="peak")
    assert (row["seats_peak"], row["seats_drawdown"], row["mrr_drawdown"]) == (90, 50, Decimal("500.00"))


@pytest.mark.parametrize(
    ("org_id", "watch"),
    [
        ("exact", []),
        ("downgrade", ["scheduled_downgrade"]),
        ("overdue", ["payment_overdue>30d"]),
        ("overdue_30", []),
        ("overdue_ended", []),
        ("overdue_moved", []),
        ("part_paused", ["paused"]),
    ],
)
def test_watch_reasons_of_billing(
    contraction: duckdb.DuckDBPyConnection, org_id: str, watch: list[str]
) -> None:
    assert one(contraction, "at_risk", org_id=org_id)["watch_reasons"] == watch


def test_a_share_that_ends_in_half_of_its_last_decimal_is_rounded_up(
    contraction: duckdb.DuckDBPyConnection,
) -> None:
    assert one(contraction, "at_risk", org_id="half")["mrr_contraction_pct"] == Decimal("-0.5000")


NPS = {
    "organisations": organisations(
        "first_day",
        "too_old",
        "last_second",
        "after",
        "promoted",
        "tied",
        "invalid",
        "anonymous",
        "single",
        "primary",
        "secondary",
        "moved_from",
        "moved_to",
        "on_record",
        "late",
        "corrected",
        "prospect",
        "touched",
    ),
    "subscription_versions": steady(
        "first_day",
        "too_old",
        "last_second",
        "after",
        "promoted",
        "tied",
        "invalid",
        "anonymous",
        "single",
        "primary",
        "secondary",
        "moved_from",
        "moved_to",
        "on_record",
        "late",
        "corrected",
        "touched",
    ),
    "contact_orgs": [
        *[
            member(f"c_{org_id}", org_id, is_primary=True)
            for org_id in (
                "first_day",
                "too_old",
                "last_second",
                "after",
                "promoted",
                "tied",
                "invalid",
                "late",
                "corrected",
                "prospect",
            )
        ],
        member("c_single", "single"),
        member("c_two", "secondary"),
        member("c_two", "primary", is_primary=True),
        member("c_moved", "moved_from", valid_to="2026-06-10"),
        member("c_moved", "moved_to", valid_from="2026-06-10"),
        member("c_touched", "touched"),
        member("champion", "touched", valid_to="2026-06-20T12:00:00Z"),
    ],
    "contacts": [
        {"contact_id": "champion", "is_champion": True, "left_at": "2026-06-20T12:00:00Z"},
        {"contact_id": "c_last_second", "name": "Ann Lee"},
    ],
    "nps_responses": [
        answer("n1", "c_first_day", 6, "2026-01-02T00:00:00Z"),
        answer("n2", "c_too_old", 0, "2026-01-01T23:59:59Z"),
        answer("n3", "c_last_second", 0, "2026-06-30T23:59:59Z", comment="slow and buggy"),
        answer("n4", "c_after", 0, "2026-07-01T00:00:00Z"),
        answer("n5", "c_promoted", 2, "2026-05-01T10:00:00Z"),
        answer("n6", "c_promoted", 9, "2026-06-01T10:00:00Z"),
        answer("n7", "c_tied", 9, "2026-06-01T10:00:00Z"),
        answer("n8", "c_tied", 4, "2026-06-01T10:00:00Z"),
        answer("n9", "c_invalid", 11, "2026-06-01T10:00:00Z"),
        answer("n10", "c_invalid", 3.5, "2026-06-02T10:00:00Z"),
        answer("n11", None, 1, "2026-06-02T10:00:00Z", org_id="anonymous"),
        answer("n12", "c_single", 1, "2026-06-02T10:00:00Z"),
        answer("n13", "c_two", 1, "2026-06-02T10:00:00Z"),
        answer("n14", "c_moved", 1, "2026-06-09T23:59:59Z"),
        answer("n15", "c_nobody_knows", 1, "2026-06-09T10:00:00Z", org_id="on_record"),
        answer("n16", "c_late", 1, "2026-06-09T10:00:00Z", recorded_at="2026-07-01T00:00:00Z"),
        answer("n17", "c_corrected", 1, "2026-06-09T10:00:00Z"),
        answer("n17", "c_corrected", 10, "2026-06-09T10:00:00Z", recorded_at="2026-06-10T10:00:00Z"),
        answer("n18", "c_prospect", 1, "2026-06-09T10:00:00Z"),
        answer("n19", "c_touched", 1, "2026-06-09T10:00:00Z"),
    ],
    "conversations": [
        {"conversation_id": "k", "contact_id": "c_touched", "rating": 2, "rated_at": "2026-06-03"}
    ],
    "conversation_parts": [
        {
            "conversation_id": "k",
            "part_number": 1,
            "author_type": "contact",
            "created_at": "2026-06-02T10:00:00Z",
        }
    ],
    "engagements": [
        {
            "engagement_id": "e1",
            "type": "call",
            "direction": "outbound",
            "contact_id": "c_touched",
            "occurred_at": "2026-04-02T00:00:00Z",
        },
        {
            "engagement_id": "e2",
            "type": "email",
            "direction": "outbound",
            "contact_id": "c_single",
            "is_automated": True,
            "occurred_at": "2026-06-02T00:00:00Z",
        },
    ],
}


@pytest.fixture(scope="module")
def nps() -> Iterator[duckdb.DuckDBPyConnection]:
    with build_world(NPS, AS_OF) as connection:
        yield connection


def test_exactly_the_organisations_with_a_current_detractor_are_on_the_list(
    nps: duckdb.DuckDBPyConnection,
) -> None:
    assert {row["org_id"]: row["detractor_contacts"] for row in rows(nps, "at_risk")} == {
        "first_day": ["c_first_day"],
        "last_second": ["c_last_second"],
        "tied": ["c_tied"],
        "single": ["c_single"],
        "primary": ["c_two"],
        "moved_from": ["c_moved"],
        "on_record": ["c_nobody_knows"],
        "touched": ["c_touched"],
    }


def test_attribution_by_a_single_or_primary_membership_is_not_ambiguous(
    nps: duckdb.DuckDBPyConnection,
) -> None:
    assert not any(row["nps_attribution_ambiguous"] for row in rows(nps, "at_risk"))


def test_a_detractor_row_shows_name_score_day_and_comment(nps: duckdb.DuckDBPyConnection) -> None:
    row = one(nps, "at_risk", org_id="last_second")
    assert row["detractor_answers"] == ["Ann Lee: 0 on 2026-06-30, slow and buggy"]
    assert (row["lowest_score"], row["last_detractor_on"]) == (0, date(2026, 6, 30))
    assert row["why"] == "1 detractor, lowest score 0, last answer on 2026-06-30."


def test_without_a_human_touch_for_90_days_the_row_says_so(nps: duckdb.DuckDBPyConnection) -> None:
    single = one(nps, "at_risk", org_id="single")
    touched = one(nps, "at_risk", org_id="touched")
    assert (single["watch_reasons"], single["last_touch_on"]) == (["no_touch_90d"], None)
    assert (touched["watch_reasons"], touched["last_touch_on"]) == (
        ["low_rating", "champion_left"],
        date(2026, 4, 2),
    )


def test_a_payer_of_two_children_alike_takes_over_both() -> None:
    children = ("child1", "child2")
    world = {
        "organisations": organisations(*children, "payer"),
        "contacts": [{"contact_id": f"c-{name}"} for name in (*children, "payer")],
        "contact_orgs": [member(f"c-{name}", name) for name in (*children, "payer")],
        "nps_responses": [answer(f"n-{name}", f"c-{name}", 0, "2026-06-20") for name in (*children, "payer")],
        "org_coverage": [
            {"child_org_id": name, "payer_org_id": "payer", "valid_from": "2026-06-15", "seats": 20}
            for name in children
        ],
        "subscription_versions": [
            *subscription("s", "payer", [("2025-01-01", 100, 1000), ("2026-06-15", 110, 1000)]),
            *(
                v
                for name in children
                for v in subscription(name, name, [("2025-01-01", 20, 50)], cancel_at="2026-06-15")
            ),
        ],
    }
    with build_world(world, AS_OF) as connection:
        payer = one(connection, "at_risk", org_id="payer")
        assert (payer["seats_transferred_in"], payer["mrr_transferred_in"]) == (40, Decimal("100.00"))
        assert (payer["seat_drop"], payer["mrr_drop"]) == (30, Decimal("100.00"))
        assert payer["reasons"] == ["seat_contraction", "nps_detractor"]
        child = one(connection, "at_risk", org_id="child1")
        assert (child["seats_transferred_out"], child["seat_drop"], child["seats_peak"]) == (20, 0, 20)


def _joint_plan(starts: str, seats_of_payer: int, amount: int) -> dict[str, Any]:
    """A payer takes over 20 seats of a child without a plan; a detractor puts both on the list."""
    return {
        "organisations": organisations("child", "payer"),
        "contacts": [{"contact_id": "c"}, {"contact_id": "p"}],
        "contact_orgs": [member("c", "child"), member("p", "payer")],
        "nps_responses": [answer("n", "c", 0, "2026-06-20"), answer("m", "p", 0, "2026-06-20")],
        "org_coverage": [
            {"child_org_id": "child", "payer_org_id": "payer", "valid_from": starts, "seats": 20}
        ],
        "subscription_versions": subscription("s", "payer", [("2025-01-01", seats_of_payer, amount)]),
    }


def test_an_organisation_that_never_had_seats_has_a_peak_of_none_whatever_moved() -> None:
    with build_world(_joint_plan("2026-06-15", 0, 0), AS_OF) as connection:
        child, payer = (one(connection, "at_risk", org_id=name) for name in ("child", "payer"))
        assert (child["seats_peak"], child["mrr_peak"], child["seats_transferred_out"]) == (0, 0, 20)
        assert (payer["seats_peak"], payer["mrr_peak"], payer["seats_transferred_in"]) == (0, 0, 20)


@pytest.mark.parametrize(("starts", "moved"), [("2026-06-02", 0), ("2026-06-03", 20)])
def test_what_moved_on_the_day_of_the_baseline_is_part_of_it(starts: str, moved: int) -> None:
    four_weeks = Settings.model_validate({"contraction": {"days": 28}})
    with build_world(_joint_plan(starts, 50, 100), AS_OF, settings=four_weeks) as connection:
        assert one(connection, "at_risk", org_id="child")["seats_transferred_out"] == moved
        assert one(connection, "at_risk", org_id="payer")["seats_transferred_in"] == moved


def test_without_share_and_floor_the_smallest_loss_counts_and_none_does_not() -> None:
    world = {
        "organisations": organisations("steady", "seat", "cents", "grown"),
        "subscription_versions": [
            *subscription("s1", "steady", [("2025-01-01", 5, 100)]),
            *subscription("s2", "seat", [("2025-01-01", 1, 100), ("2026-06-20", 0, 100)]),
            *subscription("s3", "cents", [("2025-01-01", 5, "0.50"), ("2026-06-20", 5, "0.10")]),
            *subscription("s4", "grown", [("2025-01-01", 5, 100), ("2026-06-20", 6, 120)]),
        ],
    }
    none = {"seats_pct": 0, "seats_min": 0, "mrr_pct": 0, "mrr_min": 0}
    with build_world(world, AS_OF, settings=Settings.model_validate({"contraction": none})) as connection:
        assert {row["org_id"]: row["reasons"] for row in rows(connection, "at_risk")} == {
            "seat": ["seat_contraction"],
            "cents": ["mrr_contraction"],
        }
