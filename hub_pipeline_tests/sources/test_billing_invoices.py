"""Invoices from the extracts to the canonical tables: both clocks, whose they are, and what they say beside billing."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from hub_pipeline.models import catalog
from hub_pipeline.models.engine import model_parameters, run_models
from hub_pipeline.models.macros import create_macros
from hub_pipeline_tests.sources.billing_folder import ITEMS, SUBSCRIPTIONS, BillingFolder
from hub_pipeline_tests.sources.billing_marts import build_billing

INVOICES = (
    "invoice_id,customer_id,subscription_id,status,currency,total_minor,tax_minor,created_at,updated_at"
)
LINES = "invoice_id,invoice_line_id,subscription_id,subscription_item_id,amount_minor,proration,period_start_at,period_end_at"
OCTOBER = "2026-10-01,2026-11-01"


def fill(billing: BillingFolder) -> None:
    """Build inputs.invoices and inputs.invoice_lines."""
    create_macros(billing.connection)
    models = [catalog()["inputs.invoices"], catalog()["inputs.invoice_lines"]]
    billing.connection.execute("CREATE SCHEMA IF NOT EXISTS inputs")
    run_models(billing.connection, models, model_parameters(None, None, billing.settings))


def invoices(billing: BillingFolder, columns: str) -> list[tuple[object, ...]]:
    return billing.rows(f"SELECT {columns} FROM inputs.invoices ORDER BY invoice_id, source, recorded_at")


def lines(billing: BillingFolder, columns: str) -> list[tuple[object, ...]]:
    return billing.rows(
        f"SELECT {columns} FROM inputs.invoice_lines ORDER BY invoice_id, line_id, source, recorded_at"
    )


def test_amounts_are_in_major_units_of_their_currency_and_the_first_version_is_dated_by_its_creation(
    billing: BillingFolder,
) -> None:
    billing.put("invoices__2026-10-31.csv", [
        INVOICES,
        "usd,c,s,paid,USD,12050,50,2026-10-01,",
        "jpy,c,s,paid,JPY,1200,,2026-10-02,",
        "kwd,c,s,paid,KWD,-1250,,2026-10-03,",
    ])  # fmt: skip
    billing.run()
    fill(billing)
    assert invoices(billing, "invoice_id, total, tax, recorded_at") == [
        ("jpy", Decimal(1200), None, datetime(2026, 10, 2)),
        ("kwd", Decimal("-1.25"), None, datetime(2026, 10, 3)),
        ("usd", Decimal("120.5"), Decimal("0.5"), datetime(2026, 10, 1)),
    ]


def test_what_later_extracts_say_of_an_invoice_is_known_from_then_on_and_one_left_out_stays(
    billing: BillingFolder,
) -> None:
    billing.put(
        "invoices__2026-10-30.csv",
        [INVOICES, "a,c,s,open,USD,100,,2026-10-01,", "b,c,s,open,USD,100,,2026-10-01,"],
    )
    billing.run(date(2026, 10, 30), publish=True)
    billing.put("invoices__2026-10-31.csv", [INVOICES, "a,c,s,paid,USD,100,,2026-10-01,"])
    billing.run(date(2026, 10, 31))
    fill(billing)
    # The day that was published before the second extract came does not change.
    late = datetime(2026, 10, 31, 23, 59, 59, 999999)
    assert invoices(billing, "invoice_id, status, is_deleted, recorded_at") == [
        ("a", "open", False, datetime(2026, 10, 1)),
        ("a", "paid", False, late),
        ("b", "open", False, datetime(2026, 10, 1)),
    ]


def test_a_late_word_about_an_earlier_time_does_not_undo_what_is_known_of_a_later_one(
    billing: BillingFolder,
) -> None:
    billing.put("invoices__2026-10-30__delta.csv", [INVOICES, "a,c,s,paid,USD,100,,2026-10-01,2026-10-20"])
    billing.run(date(2026, 10, 30), publish=True)
    billing.put("invoices__2026-10-31__delta.csv", [INVOICES, "a,c,s,open,USD,100,,2026-10-01,2026-10-10"])
    billing.run(date(2026, 10, 31))
    fill(billing)
    assert [status for (status,) in invoices(billing, "status")] == ["paid"]


def test_an_invoice_follows_the_organisation_that_its_customer_is_known_to_be(billing: BillingFolder) -> None:
    billing.put("subscriptions__2026-10-30.csv", [SUBSCRIPTIONS, "s,c,active,USD,2026-01-01,"])
    billing.put("invoices__2026-10-30.csv", [INVOICES, "a,c,s,paid,USD,100,,2026-10-01,"])
    billing.put("identities__2026-10-30.csv", ["source,key,org_id,relation", "crm,c,501,customer"])
    billing.run(date(2026, 10, 30), publish=True)
    billing.put("identities__2026-10-31.csv", ["source,key,org_id,relation", "crm,c,502,customer"])
    billing.run(date(2026, 10, 31))
    fill(billing)
    found = invoices(billing, "org_id, recorded_at")
    # A line of the identities file without valid_from is known from the day of its file.
    assert [org for org, _ in found] == ["c", "501", "502"]
    assert [str(at)[:10] for _, at in found] == ["2026-10-01", "2026-10-30", "2026-10-31"]


def test_a_line_is_dated_with_its_invoice_and_one_that_names_an_item_bills_its_subscription(
    billing: BillingFolder,
) -> None:
    billing.put("subscriptions__2026-10-31.csv", [SUBSCRIPTIONS, "s,c,active,USD,2026-01-01,"])
    billing.put("subscription_items__2026-10-31.csv", [ITEMS, "i,s,seat,5,2000,month,2026-01-01,"])
    billing.put("invoices__2026-10-31.csv", [INVOICES, "a,c,,paid,USD,15000,,2026-10-01,"])
    billing.put("invoice_lines__2026-10-31.csv", [
        LINES,
        f"a,1,,i,10000,,{OCTOBER}",
        f"a,2,,,4000,,{OCTOBER}",
        f"a,3,s,,1000,true,{OCTOBER}",
    ])  # fmt: skip
    billing.run()
    fill(billing)
    known = datetime(2026, 10, 1)
    assert lines(billing, "line_id, subscription_id, amount, is_proration, recorded_at") == [
        ("1", "s", Decimal(100), False, known),
        ("2", None, Decimal(40), False, known),
        ("3", "s", Decimal(10), True, known),
    ]


def test_test_data_is_left_out_with_its_lines(billing: BillingFolder) -> None:
    billing.put("invoices__2026-10-31.csv", [
        f"{INVOICES},livemode", "a,c,s,paid,USD,100,,2026-10-01,,false", "b,c,s,paid,USD,100,,2026-10-01,,true",
    ])  # fmt: skip
    billing.put("invoice_lines__2026-10-31.csv", [
        f"{LINES},livemode", f"a,1,s,,100,,{OCTOBER},false", f"b,1,s,,100,,{OCTOBER},true",
    ])  # fmt: skip
    billing.run()
    fill(billing)
    assert invoices(billing, "invoice_id") == [("b",)]
    assert lines(billing, "invoice_id") == [("b",)]


def test_the_extracts_of_a_company_tie_out(billing: BillingFolder) -> None:
    billing.put("subscriptions__2026-10-31.csv", [
        SUBSCRIPTIONS, "s1,agrees,active,USD,2026-01-01,", "s2,differs,active,USD,2026-01-01,", "s3,none,active,USD,2026-01-01,",
    ])  # fmt: skip
    billing.put("subscription_items__2026-10-31.csv", [
        ITEMS, *(f"i{n},s{n},seat,5,2000,month,2026-01-01," for n in (1, 2, 3)),
    ])  # fmt: skip
    billing.put("invoices__2026-10-31.csv", [
        INVOICES,
        "a,agrees,s1,paid,USD,11900,1900,2026-10-01,",
        "b,differs,s2,open,USD,8000,,2026-10-01,",
        "old,none,s3,paid,USD,10000,,2026-09-01,",
    ])  # fmt: skip
    billing.put("invoice_lines__2026-10-31.csv", [
        LINES,
        f"a,1,s1,,10000,,{OCTOBER}",
        f"b,1,s2,,8000,,{OCTOBER}",
        "old,1,s3,,10000,,2026-09-01,2026-10-01",
    ])  # fmt: skip
    billing.run()
    fill(billing)
    found = tie_out(billing)
    assert found == [
        ("agrees", Decimal(100), Decimal(100), []),
        ("differs", Decimal(100), Decimal(80), []),
        ("none", Decimal(100), None, ["invoices"]),
    ]


def tie_out(billing: BillingFolder) -> list[tuple[object, ...]]:
    build_billing(billing, date(2026, 10, 31), "tie_out")
    return billing.rows(
        "SELECT org_id, billing_mrr, invoiced_mrr, missing FROM marts.tie_out ORDER BY org_id"
    )
