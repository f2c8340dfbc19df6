"""An erasure leaves nothing of whom it erased in what billing files said: no value, and no hash that confirms a guess."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_pipeline.report.privacy import erase_person
from hub_pipeline_tests.sources.billing_folder import BillingFolder

ADDRESS = "jane.roe@acme.example"
OTHER = "info@other.example"
#: Tables of raw_billing with hashes of records and rows.
HASHES = {"listed": ("record", "word"), "retold": ("record", "word"), "contested": ("record",)}


@pytest.fixture
def billing(tmp_path: Path) -> Iterator[BillingFolder]:
    """Customers whose key is an e-mail address, told by full files and by deltas that contradict each other."""
    folder = BillingFolder(tmp_path / "data")
    customers = "customer_id,name,email,updated_at"
    rows = [f"{one},Somebody,{one},2026-09-01T00:00:00Z" for one in (ADDRESS, OTHER)]
    folder.put("customers__2026-10-01.csv", [customers, *rows])
    folder.put("customers__2026-10-02__delta__001.csv", [customers, *rows])
    folder.put("customers__2026-10-02__delta__002.csv", [customers, rows[0].replace("Some", "Any")])
    folder.put("customers__2026-10-03.csv", [customers, *rows])
    folder.put(
        "subscriptions__2026-10-03.csv",
        ["subscription_id,customer_id,status,currency,started_at", f"s1,{ADDRESS},active,USD,2026-01-01"],
    )
    folder.run()
    yield folder
    folder.close()


def hashes(billing: BillingFolder) -> set[int]:
    """Every hash that raw_billing holds."""
    found = {
        value
        for table, columns in HASHES.items()
        for row in billing.rows(f"SELECT {', '.join(columns)} FROM raw_billing.{table}")
        for value in row
    }
    for table in ("customers", "subscriptions"):
        found |= {value for (value,) in billing.rows(f"SELECT _hash FROM raw_billing.{table}")}
    return found


def test_no_hash_of_an_erased_key_or_row_is_left_and_others_keep_theirs(billing: BillingFolder) -> None:
    theirs = {
        value
        for row in billing.rows(
            f"SELECT hash(customer_id), _hash FROM raw_billing.customers WHERE customer_id = '{ADDRESS}' "
            f"UNION ALL SELECT _hash, _hash FROM raw_billing.subscriptions WHERE customer_id = '{ADDRESS}'"
        )
        for value in row
    }
    others = {
        value
        for row in billing.rows(
            f"SELECT hash(customer_id), _hash FROM raw_billing.customers WHERE customer_id = '{OTHER}'"
        )
        for value in row
    }
    assert theirs <= hashes(billing)
    assert all(billing.rows(f"SELECT 1 FROM raw_billing.{table}") for table in HASHES)
    sizes = {table: billing.rows(f"SELECT count(*) FROM raw_billing.{table}") for table in HASHES}
    billing.close()
    result = erase_person(billing.settings, billing.environment, [ADDRESS], [])
    assert result.found
    after = BillingFolder.__new__(BillingFolder)
    with billing.warehouse.connect() as connection:
        after.connection = connection
        assert not theirs & hashes(after)
        assert others <= hashes(after)
        assert {table: after.rows(f"SELECT count(*) FROM raw_billing.{table}") for table in HASHES} == sizes
        unknown = after.rows(
            "SELECT count(*) FROM raw_billing.listed WHERE table_name = 'customers' "
            "AND record NOT IN (SELECT hash(customer_id) FROM raw_billing.customers)"
        )
        assert unknown == [(0,)], "what full files said still belongs to its record"
