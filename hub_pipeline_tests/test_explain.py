"""`hub-pipeline explain`: every list with its reason, and the rows behind it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from hub_pipeline.errors import ConfigurationError, WarehouseError
from hub_pipeline.report.explain import explain
from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import World, build_world, subscription

WORLD: World = {
    "organisations": [
        {"org_id": "o1", "name": "Acme"},
        {"org_id": "o2", "name": "Twin"},
        {"org_id": "o3", "name": "Twin"},
        {"org_id": "o4", "name": "Old Acme"},
    ],
    "org_merges": [{"loser_org_id": "o4", "winner_org_id": "o1", "merged_at": "2026-02-01"}],
    "contacts": [{"contact_id": "c1", "email": "a@acme.io", "name": "Ada"}],
    "contact_orgs": [{"contact_id": "c1", "org_id": "o1", "is_primary": True}],
    "nps_responses": [
        {"response_id": "n1", "contact_id": "c1", "score": 2, "responded_at": "2026-06-01T10:00:00Z"}
    ],
    "subscription_versions": [
        *subscription("s1", "o1", [("2025-01-01", 10, 700), ("2026-05-01", 45, 3150)]),
        *subscription("s4", "o4", [("2025-01-01", 5, 70)], cancel_at="2026-06-10"),
    ],
    "invoices": [
        {"invoice_id": "in-may", "org_id": "o1", "status": "paid", "total": 3150, "created_at": "2026-05-01"},
        {
            "invoice_id": "in-june",
            "org_id": "o1",
            "status": "paid",
            "total": 3000,
            "created_at": "2026-06-01",
        },
    ],
    "invoice_lines": [
        {
            "invoice_id": f"in-{name}",
            "line_id": "1",
            "subscription_id": "s1",
            "amount": amount,
            "period_start": f"2026-0{month}-01",
            "period_end": f"2026-0{month + 1}-01",
        }
        for name, month, amount in (("may", 5, 3150), ("june", 6, 3000))
    ],
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "warehouse.duckdb"
    with build_world(WORLD, "2026-06-30") as connection:
        connection.execute(f"ATTACH '{path}' AS file")
        connection.execute("COPY FROM DATABASE memory TO file")
    return path


def said(published: Path, organisation: str, as_of: date | None = None) -> str:
    console = Console(record=True, width=200, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    explain(published, organisation, as_of, Settings(), console)
    return console.export_text()


def test_each_list_says_whether_the_organisation_is_on_it_and_why(published: Path) -> None:
    text = said(published, "acme")
    assert text.startswith("Acme (o1) on 2026-06-30\npaying, 3150.00 MRR, 45 seats, plan team, tier A")
    lines = {line.split("│")[1].strip(): line for line in text.splitlines() if line.count("│") == 4}
    assert "yes" in lines["fast_growing"]
    assert "+30 organic" in lines["fast_growing"]
    assert "yes" in lines["at_risk"]
    assert "1 detractor, lowest score 2" in lines["at_risk"]
    assert "no" in lines["renewal_pipeline"]
    assert "self_serve_monthly" in lines["renewal_pipeline"]
    assert "no" in lines["tier_ab_interactions"]
    assert "no message" in lines["tier_ab_interactions"]


def test_the_rows_behind_it_include_those_of_merged_organisations(published: Path) -> None:
    text = said(published, "o1", date(2026, 6, 30))
    behind = text.split("Versions of its subscriptions")[1]
    assert "s1" in behind
    assert "s4" in behind
    assert "n1" in text.split("NPS answers")[1]


def test_what_cannot_be_explained_is_said_in_one_sentence(published: Path, tmp_path: Path) -> None:
    for organisation, as_of, message in (
        ("nobody", None, "There is no organisation 'nobody' on 2026-06-30"),
        ("o4", None, "it was merged into o1"),
        ("twin", None, "2 organisations are called 'twin': o2, o3"),
        ("o1", date(2026, 6, 29), "2026-06-29 is not stored"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            said(published, organisation, as_of)
    with pytest.raises(WarehouseError, match="Nothing has been published"):
        said(tmp_path / "none.duckdb", "o1")


def test_the_view_for_analysts_says_the_same(published: Path) -> None:
    with duckdb.connect(str(published), read_only=True) as connection:
        rows = connection.execute(
            "SELECT list, is_on_list FROM hub.explanations WHERE org_id = 'o1' ORDER BY list"
        ).fetchall()
    assert rows == [
        ("at_risk", True),
        ("churn", False),
        ("fast_growing", True),
        ("renewal_pipeline", False),
        ("tier_ab_interactions", False),
        ("upsell_pipeline", True),
    ]


def test_what_billing_and_invoices_say_stands_with_the_invoices_that_cover_the_day(published: Path) -> None:
    text = said(published, "o1")
    assert "Billing, CRM and invoices" in text
    assert "3000.00" in text
    shown = text.split("Invoices that cover the day")[1]
    assert "in-june" in shown
    assert "in-may" not in shown
