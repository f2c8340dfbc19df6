"""The written truth is complete and consistent, and the check finds every kind of difference."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

import hub_pipeline
from hub_pipeline.demo import stories, stories_last_day, stories_people
from hub_pipeline.demo.account import DEMO_AS_OF, DEMO_SEED, ORGANISATION_OBJECT, Company
from hub_pipeline.demo.builder import Builder
from hub_pipeline.demo.check import check, print_report
from hub_pipeline.demo.company import build_company
from hub_pipeline.demo.truth import LIST_KEYS, Truth
from hub_pipeline.errors import WarehouseError


@pytest.fixture(scope="module")
def company() -> Company:
    return build_company()


EMPTY = {"hub.restatements", "hub.renewal_forecast_accuracy"}
"""No day of the demo is restated, and no month that was forecast is over."""

NO_TRUTH_YET = {"hub.tie_out"}
"""Views that the check does not compare."""

ALL_STORIES = (*stories.STORIES, *stories_people.STORIES, *stories_last_day.STORIES)
NOTHING_TO_LIST = {
    "answer_of_nobody_we_can_place",
    "archived_organisations",
    "organisation_of_tomorrow",
    "strangers_in_the_messenger",
}
"""Stories of what must not be on any list; that it is not is what the comparison both ways shows."""


def test_every_view_has_a_truth_with_rows_and_no_key_twice(company: Company) -> None:
    views = {
        f"hub.{path.stem}" for path in (Path(hub_pipeline.__file__).parent / "models" / "hub").glob("*.sql")
    }
    assert views - NO_TRUTH_YET == set(LIST_KEYS) == set(company.truth.lists)
    for name, truth in company.truth.lists.items():
        keys = [tuple(row[column] for column in truth.key) for row in truth.rows]
        assert bool(keys) == (name not in EMPTY), name
        assert len(set(keys)) == len(keys), name


@pytest.mark.parametrize("story", ALL_STORIES, ids=lambda story: story.__name__)
def test_every_story_writes_what_must_be_said_of_it(story: Callable[[Builder], None]) -> None:
    b = Builder(DEMO_SEED, DEMO_AS_OF)
    story(b)
    said = sum(len(truth.rows) for truth in b.truth.lists.values()) + len(b.truth.claims)
    assert (said > 0) == (story.__name__ not in NOTHING_TO_LIST)


def test_a_claim_that_the_books_do_not_bear_out_is_refused(company: Company) -> None:
    claimed = {name for name, _ in company.truth.claims}
    assert claimed == {
        "hub.lifecycle_checks",
        "hub.ownership_crossovers",
        "hub.upsell_pipeline",
        "hub.customer_360",
        "hub.renewal_pipeline_changes",
    }
    company.truth.verify_claims()
    for name in claimed:
        missing = copy.deepcopy(company.truth)
        columns = next(columns for claim, columns in missing.claims if claim == name)
        key = [column for column in LIST_KEYS[name] if column in columns]
        missing.lists[name].rows = [
            row for row in missing.lists[name].rows if any(row[column] != columns[column] for column in key)
        ]
        with pytest.raises(ValueError, match=f"a story claims one row of {name}"):
            missing.verify_claims()
    wrong = copy.deepcopy(company.truth)
    wrong.claim("hub.customer_360", org_id=wrong.lists["hub.customer_360"].rows[0]["org_id"], health=101)
    with pytest.raises(ValueError, match="health = 101"):
        wrong.verify_claims()


def test_every_code_of_the_other_views_occurs(company: Company) -> None:
    def values(list_name: str, column: str) -> set[Any]:
        found = [row.get(column) for row in company.truth.lists[list_name].rows]
        return {item for value in found for item in (value if isinstance(value, list) else [value])}

    assert len(values("hub.lifecycle_checks", "check")) == 18
    assert values("hub.ownership_crossovers", "kind") == {"contact", "duplicate_person", "account_deals"}
    assert values("hub.upsell_pipeline", "kind") == {
        "open_deal",
        "fast_growing",
        "utilisation",
        "true_up",
        "annual",
        "joint_plan_parent",
        "joint_plan_domain",
    }
    changes = {
        (row["list"], row["change"]) for row in company.truth.lists["hub.changes_since_yesterday"].rows
    }
    lists = ("at_risk", "churn", "renewal_pipeline", "tier_ab_interactions")
    assert changes == {
        *((name, change) for name in lists for change in ("new", "cleared", "changed")),
        ("fast_growing", "new"),
        ("fast_growing", "cleared"),
    }
    assert values("hub.renewal_pipeline_changes", "change") == {
        "added",
        "removed",
        "status",
        "scope",
        "stage",
        "renew_by",
        "deal",
        "deal_amount",
        "mrr_at_stake",
        "scheduled_cancel",
        "hygiene",
    }
    assert values("hub.renewal_pipeline", "hygiene") == {
        "amount_missing",
        "amount_not_positive",
        "amount_looks_annual",
        "amount_looks_multi_year",
        "amount_mismatch",
        "close_date_missing",
        "close_date_mismatch",
        "close_date_past_open",
        "close_date_is_default",
        "owner_missing",
        "owner_inactive",
        "duplicate_open_renewal_deal",
        "currency_mismatch",
        "stage_unknown",
        "billed_but_deal_open",
        "lost_but_still_billed",
        "no_next_activity",
    }
    assert values("hub.customer_360", "why") == {
        "scheduled_end",
        "high_contraction",
        "contraction",
        "low_utilisation",
        "detractor",
        # low_nps is missing: who answers 7 or more is no detractor, and the mean of such answers is no less than 70.
        "no_touch_90d",
        "dissatisfied_conversations",
    }
    assert values("hub.customer_360", "churn_state") == {
        None,
        "scheduled",
        "churned",
        "reactivated",
        "false_alarm",
    }
    (_, figures) = company.truth.lists["hub.metrics"].rows
    movements = ("new", "reactivation", "expansion", "contraction", "churn", "paused", "resumed", "fx")
    assert all(figures[name] != 0 for name in movements)
    assert figures["opening"] + sum(figures[name] for name in movements) == figures["mrr"]


def test_every_live_organisation_of_the_day_has_exactly_one_row(company: Company) -> None:
    close = datetime.combine(company.as_of + timedelta(days=1), datetime.min.time(), UTC)
    live = {
        record.id
        for record in company.hubspot.records[ORGANISATION_OBJECT].values()
        if not record.archived and record.created_at < close
    }
    rows = {row["org_id"] for row in company.truth.lists["hub.organisations"].rows}
    billed_only = {org_id for org_id in rows if org_id.startswith("billing:")}
    assert rows - billed_only == live
    assert len(billed_only) == 2


def test_every_reason_state_and_status_occurs(company: Company) -> None:
    def values(list_name: str, column: str) -> set[Any]:
        return {row.get(column) for row in company.truth.lists[list_name].rows}

    assert values("hub.organisations", "state") == {
        "paying",
        "covered",
        "custom_off_billing",
        "paused",
        "trial",
        "churned",
        "never_paid",
    }
    assert values("hub.organisations", "tier") == {"A", "B", "C"}
    assert values("hub.churn", "state") == {"scheduled", "churned"}
    assert values("hub.churn", "verification") == {"confirmed", "needs_review"}
    assert values("hub.churn_false_alarms", "false_alarm_reason") == {
        "duplicate_org",
        "moved_to_parent",
        "moved_to_custom",
        "resubscribed",
        "other_subscription_active",
        "cancellation_reverted",
    }
    assert values("hub.renewal_pipeline", "status") == {"renewed", "open", "lost", "missing", "no_deal"}
    assert values("hub.renewal_pipeline", "timing") == {"upcoming", "in_window", "overdue"}
    reasons = {r for row in company.truth.lists["hub.organisations_at_risk"].rows for r in row["reasons"]}
    assert reasons == {"seat_contraction", "mrr_contraction", "nps_detractor"}


def test_organisations_on_a_list_pay_or_left_as_the_list_says(company: Company) -> None:
    states = {row["org_id"]: row["state"] for row in company.truth.lists["hub.organisations"].rows}
    for name in ("hub.fast_growing_organisations", "hub.renewal_pipeline"):
        assert {states[row["org_id"]] for row in company.truth.lists[name].rows} == {"paying"}
    at_risk = company.truth.lists["hub.organisations_at_risk"].rows
    assert {states[row["org_id"]] for row in at_risk} == {"paying", "covered"}
    for row in company.truth.lists["hub.churn"].rows:
        assert states[row["org_id"]] == ("paying" if row["state"] == "scheduled" else "churned")


def test_interactions_are_of_large_accounts_within_28_days(company: Company) -> None:
    for row in company.truth.lists["hub.tier_ab_interactions"].rows:
        assert row["tier"] in ("A", "B")
        assert company.as_of - timedelta(days=28) < row["last_contact_on"] <= company.as_of
        assert isinstance(row["is_unmet_contact"], bool)


def test_a_row_without_its_key_and_a_list_nobody_knows_are_refused() -> None:
    truth = Truth()
    with pytest.raises(KeyError, match="subscription_id"):
        truth.expect("hub.churn", org_id="1", churn_date=date(2026, 1, 1))
    with pytest.raises(KeyError):
        truth.expect("hub.nonsense", org_id="1")


def _publish(company: Company, path: Path) -> None:
    """A warehouse file that says exactly what the truth says."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA hub")
        for name, truth in company.truth.lists.items():
            columns = list(dict.fromkeys([*truth.key, *(column for row in truth.rows for column in row)]))
            types = {column: _type([row.get(column) for row in truth.rows]) for column in columns}
            definition = ", ".join(f'"{column}" {kind}' for column, kind in types.items())
            connection.execute(f"CREATE TABLE {name} ({definition})")
            rows = [[row.get(column) for column in columns] for row in truth.rows]
            if rows:
                connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})", rows)


def _type(values: list[Any]) -> str:
    value = next((v for v in values if v is not None), "")
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, list):
        return "VARCHAR[]"
    return {int: "BIGINT", Decimal: "DECIMAL(18,4)", date: "DATE"}.get(type(value), "VARCHAR")


@pytest.fixture(scope="module")
def published(company: Company, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "warehouse.duckdb"
    _publish(company, path)
    return path


def test_a_warehouse_that_says_the_truth_passes(company: Company, published: Path) -> None:
    report = check(published, company)
    assert report.passed
    assert report.rows["hub.organisations"][0] == report.rows["hub.organisations"][1] > 400


def test_missing_and_unexpected_rows_and_wrong_values_are_all_found(
    company: Company, published: Path
) -> None:
    other = copy.deepcopy(company)
    risk = other.truth.lists["hub.organisations_at_risk"].rows
    risk[0]["reasons"] = list(reversed([*risk[0]["reasons"], "mrr_contraction"]))
    gone = other.truth.lists["hub.churn"].rows.pop()
    other.truth.expect("hub.fast_growing_organisations", org_id="nobody", seats_now=1)
    found = {(d.list_name, d.kind, d.column) for d in check(published, other).differences}
    assert found == {
        ("hub.organisations_at_risk", "wrong", "reasons"),
        ("hub.churn", "unexpected", ""),
        ("hub.fast_growing_organisations", "missing", ""),
    }
    unexpected = next(d for d in check(published, other).differences if d.kind == "unexpected")
    assert unexpected.key == (gone["org_id"], gone["subscription_id"], gone["churn_date"])


def test_numbers_are_compared_to_four_decimals(company: Company, published: Path) -> None:
    other = copy.deepcopy(company)
    row = next(r for r in other.truth.lists["hub.organisations"].rows if r["mrr"])
    row["mrr"] += Decimal("0.00004")
    assert check(published, other).passed
    row["mrr"] += Decimal("0.0001")
    (difference,) = check(published, other).differences
    assert (difference.kind, difference.column) == ("wrong", "mrr")


def test_the_report_prints_each_list_and_each_difference(company: Company, published: Path) -> None:
    other = copy.deepcopy(company)
    row = other.truth.lists["hub.churn"].rows[0]
    row["state"] = "imagined"
    console = Console(record=True, width=160, file=io.StringIO())
    print_report(check(published, other), console)
    text = console.export_text()
    assert "hub.renewal_pipeline" in text
    assert "imagined" in text
    assert row["subscription_id"] in text


def test_a_file_that_is_no_warehouse_is_one_plain_sentence(company: Company, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="nothing was compared"):
        check(tmp_path / "missing.duckdb", company)
    empty = tmp_path / "empty.duckdb"
    duckdb.connect(str(empty)).close()
    with pytest.raises(WarehouseError, match="cannot be read"):
        check(empty, company)
