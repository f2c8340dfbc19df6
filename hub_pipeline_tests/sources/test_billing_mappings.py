"""The mapping files of docs/examples read files of the shape they describe."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

import hub_pipeline
from hub_pipeline.errors import ConfigurationError
from hub_pipeline_tests.sources.billing_folder import BillingFolder

EXAMPLES = Path(hub_pipeline.__file__).parents[1] / "docs/examples"
STATES = "subscription_id, status, cancel_at, ended_at"
ITEMS = 'subscription_id, quantity, unit_amount_minor, "interval", interval_count'

Maker = Callable[..., BillingFolder]


def mapped(folder: Maker, example: str, source: str) -> BillingFolder:
    billing = folder(billing={"mappings": [str(EXAMPLES / example)], "max_quarantined": "0"})
    billing.folder = billing.folder.parent / source
    billing.folder.mkdir()
    return billing


def rows(billing: BillingFolder, columns: str, table: str) -> list[tuple[object, ...]]:
    return billing.rows(f"SELECT {columns} FROM raw_billing.{table} ORDER BY 1")


def test_a_home_made_count_of_daily_seats_loads(folder: Maker) -> None:
    billing = mapped(folder, "daily_seats.toml", "warehouse")
    billing.put(
        "organisations_2026-10-30.csv", "organisation_id,date,seats\n501,2026-10-29,3\n501,2026-10-30,4\n"
    )
    billing.put(
        "organisations_2026-10-31.csv.gz", gzip.compress(b"organisation_id,date,seats\n501,2026-10-31,9\n")
    )
    billing.run()
    assert rows(billing, "snapshot_date, organisation_ref, seats, status", "daily_seats") == [
        (date(2026, 10, 29), "501", 3, "active"),
        (date(2026, 10, 30), "501", 4, "active"),
        (date(2026, 10, 31), "501", 9, "active"),
    ]


def test_exports_of_the_stripe_dashboard_load(folder: Maker) -> None:
    billing = mapped(folder, "stripe_export.toml", "stripe_export")
    billing.put("customers_2026-10-31.csv", [
        "id,Name,Email,Created (UTC),organisation_id (metadata),Total Spend",
        'cus_1,"Acme, Inc",eva@acme.com,2025-02-01 09:30,501,12.00',
    ])  # fmt: skip
    header = (
        "id,Customer ID,Status,Currency,Product,Plan,Quantity,Amount,Interval,Created (UTC),Start Date (UTC),"
        "Current Period Start (UTC),Current Period End (UTC),Trial Start (UTC),Trial End (UTC),Canceled At (UTC),"
        "Cancel At Period End,Ended At (UTC)"
    )
    billing.put("subscriptions_2026-10-31.csv", [
        header,
        "sub_1,cus_1,active,usd,Team,price_1,40,12.50,month,2025-02-01 09:30,2025-02-01 09:30,2026-10-01 09:30,"
        "2026-11-01 09:30,,,2026-10-05 08:00,true,",
        "sub_2,cus_1,canceled,jpy,Team,price_2,3,1000,year,2025-02-01 09:30,2025-02-01 09:30,2026-02-01,2027-02-01,,,,false,"
        "2026-05-01 00:00",
    ])  # fmt: skip
    results = billing.run()
    assert {r.status for r in results.values() if r.records} == {"complete"}
    assert rows(billing, "customer_id, name, organisation_ref", "customers") == [
        ("cus_1", "Acme, Inc", "501")
    ]
    assert rows(
        billing, f"{STATES}, currency, cancel_at_period_end, cancel_requested_at", "subscriptions"
    ) == [
        ("sub_1", "active", None, None, "USD", True, datetime(2026, 10, 5, 8)),
        ("sub_2", "canceled", None, datetime(2026, 5, 1), "JPY", False, None),
    ]
    assert rows(billing, ITEMS, "subscription_items") == [
        ("sub_1", 40, Decimal(1250), "month", 1),
        ("sub_2", 3, Decimal(1000), "year", 1),
    ]


def test_exports_of_chargebee_load_with_times_of_their_own_zone(folder: Maker) -> None:
    billing = mapped(folder, "chargebee.toml", "chargebee")
    billing.put("customers_2026-10-31.csv", [
        "customers.id,customers.company,customers.email,customers.cf_organisation_id,customers.preferred_currency_code,"
        "customers.billing_address.country,customers.created_at",
        "c1,Acme,eva@acme.com,501,EUR,DE,01-Feb-2025 09:30",
    ])  # fmt: skip
    header = (
        "subscriptions.id,customers.id,subscriptions.status,subscriptions.currency_code,subscriptions.plan_id,"
        "subscriptions.plan_quantity,subscriptions.plan_unit_price,subscriptions.billing_period,"
        "subscriptions.billing_period_unit,subscriptions.started_at,subscriptions.trial_start,subscriptions.trial_end,"
        "subscriptions.current_term_start,subscriptions.current_term_end,subscriptions.cancelled_at,"
        "subscriptions.cancel_schedule_created_at,subscriptions.cancel_reason_code"
    )
    billing.put("subscriptions_2026-10-31.csv", [
        header,
        "s1,c1,Active,EUR,team,40,12.5,3,month,01-Jul-2025 09:30,,,01-Jul-2026 00:00,01-Jul-2027 00:00,,,",
        "s2,c1,Non Renewing,EUR,team,5,12.5,1,month,01-Jan-2025 09:30,,,,,01-Dec-2026 00:00,02-Mar-2026 10:00,",
        "s3,c1,Cancelled,EUR,team,6,12.5,1,year,01-Jan-2025 09:30,,,,,01-May-2026 00:00,,Order Change",
    ])  # fmt: skip
    billing.run()
    assert rows(billing, f"{STATES}, started_at", "subscriptions") == [
        ("s1", "active", None, None, datetime(2025, 7, 1, 7, 30)),
        ("s2", "non_renewing", datetime(2026, 11, 30, 23), None, datetime(2025, 1, 1, 8, 30)),
        ("s3", "canceled", datetime(2026, 4, 30, 22), datetime(2026, 4, 30, 22), datetime(2025, 1, 1, 8, 30)),
    ]
    assert rows(billing, ITEMS, "subscription_items")[0] == ("s1", 40, Decimal(1250), "month", 3)


def test_exports_of_recurly_load_and_a_cancelled_subscription_runs_until_it_expires(folder: Maker) -> None:
    billing = mapped(folder, "recurly.toml", "recurly")
    accounts = (
        "account_code,account_company_name,account_email,parent_account_code,account_created_at\n"
        "a1,Acme,eva@acme.com,a0,2025-02-01T09:30:00Z\n"
    )
    billing.put("accounts_2026-10-31.csv.gz", gzip.compress(accounts.encode()))
    header = (
        "uuid,account_code,state,currency,plan_code,plan_name,quantity,unit_amount,plan_interval_unit,"
        "plan_interval_length,activated_at,trial_started_at,trial_ends_at,current_period_started_at,"
        "current_period_ends_at,canceled_at,expires_at"
    )
    dates = "2025-02-01T09:30:00Z,,,2026-02-01T09:30:00Z,2027-02-01T09:30:00Z"
    billing.put("subscriptions_2026-10-31.csv", [
        header,
        f"u1,a1,active,KWD,team,Team,40,12.505,months,1,{dates},,",
        f"u2,a1,canceled,USD,team,Team,5,12,months,12,{dates},2026-03-02T10:00:00Z,2027-02-01T09:30:00Z",
        f"u3,a1,expired,USD,team,Team,5,12,days,30,{dates},,2026-05-01T00:00:00Z",
    ])  # fmt: skip
    billing.run()
    assert rows(billing, "customer_id, parent_customer_ref", "customers") == [("a1", "a0")]
    ends = datetime(2027, 2, 1, 9, 30)
    assert rows(billing, STATES, "subscriptions") == [
        ("u1", "active", None, None),
        ("u2", "non_renewing", ends, None),
        ("u3", "canceled", datetime(2026, 5, 1), datetime(2026, 5, 1)),
    ]
    assert rows(billing, ITEMS, "subscription_items") == [
        ("u1", 40, Decimal(12505), "month", 1),
        ("u2", 5, Decimal(1200), "month", 12),
        ("u3", 5, Decimal(1200), "day", 30),
    ]


def test_a_mapping_for_one_system_leaves_the_files_of_another_alone(folder: Maker) -> None:
    billing = mapped(folder, "recurly.toml", "elsewhere")
    billing.put("subscriptions_2026-10-31.csv", "uuid\nu1\n")
    assert billing.run()["files"].message == "not mapped: elsewhere/subscriptions_2026-10-31.csv"


def test_numbers_and_letters_are_read_as_the_mapping_says_and_never_guessed(
    folder: Maker, tmp_path: Path
) -> None:
    mapping = tmp_path / "eu.toml"
    mapping.write_text(
        '[[file]]\nname = "posten_{date}.csv"\nkind = "delta"\ndelimiter = ";"\ndecimal = ","\nthousands = "."\n'
        'encoding = "windows-1252"\n[[file.table]]\ntable = "subscription_items"\ncurrency = "EUR"\n'
        '[file.table.columns]\nsubscription_item_id = "Nr"\nsubscription_id = "Nr"\nproduct_name = "Name"\n'
        'seat_role = { constant = "seat" }\nquantity = "Plätze"\nrecurring_minor = { column = "Preis", unit = "major" }\n'
        'interval = { constant = "month" }\n'
    )  # fmt: skip
    billing = folder(billing={"mappings": [str(mapping)]})
    text = "Nr;Name;Plätze;Preis\n1;Müller;1.200;12.345,67\n2;Ünal;1,5;1,00\n3;Öz;3;12,345\n"
    head, body = text.split("\n", 1)
    billing.put("posten_2026-10-31.csv", head.encode() + b"\n" + body.encode("windows-1252"))
    billing.run()
    assert rows(billing, "product_name, quantity, recurring_minor", "subscription_items") == [
        ("Müller", 1200, 1234567)
    ]
    assert {line: reasons[0].split(":")[0] for line, reasons in billing.reasons().items()} == {
        3: "quantity",
        4: "recurring_minor",
    }


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('timezone = "Mars/Base"', "is not a time zone"),
        ('decimal = ","\nthousands = ","', "cannot be the same character"),
        ('encoding = "guess"', "encoding"),
    ],
)
def test_a_mistake_in_a_mapping_file_is_named(
    folder: Maker, tmp_path: Path, line: str, complaint: str
) -> None:
    mapping = tmp_path / "wrong.toml"
    mapping.write_text(
        f'[[file]]\nname = "x_{{date}}.csv"\n{line}\n[[file.table]]\ntable = "seat_products"\n'
        '[file.table.columns]\nproduct = "p"\nseat_role = { constant = "seat" }\n'
    )
    with pytest.raises(ConfigurationError, match=complaint):
        folder(billing={"mappings": [str(mapping)]}).run()
