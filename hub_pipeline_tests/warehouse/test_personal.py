"""What personal data is stored is declared, and what a run leaves out is told."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.models import catalog
from hub_pipeline.orchestration import execute
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.personal import meaning_of, stored
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline_tests.warehouse.support import DAY, run

#: Columns that sound personal and are not.
IMPERSONAL = re.compile(
    r"(organisation|account|plan|deal|stage|pipeline|product|parent|source|table|object|metric|list)_?name|name_.*|"
    r"(first|last|next|hint_last|previous)_.*contact.*_(at|on)|.*contact_messages|.*_contacts|contacts|.*unmet_contact|"
    r"has_.*|is_.*|.*_user_id|user_id|author_type|email_domain"
)
PERSONAL = re.compile(r"email|contact|phone|comment|remark|subject|person|author|(^|_)name$")


def test_every_column_of_a_model_that_sounds_personal_is_declared() -> None:
    unclear = [
        f"{model.name}.{column}"
        for model in catalog().models.values()
        for column, definition in model.contract.columns.items()
        if PERSONAL.search(column)
        and definition.type.startswith("VARCHAR")
        and not IMPERSONAL.fullmatch(column)
        and column != "name"
        and meaning_of(model.schema, model.table, column) is None
    ]
    assert not unclear


@pytest.mark.parametrize(
    ("schema", "table", "column", "declared"),
    [
        ("raw_hubspot", "contacts", "favourite_colour", True),
        ("raw_hubspot", "contacts", "_hash", False),
        ("raw_hubspot", "emails", "hs_email_text", True),
        ("raw_hubspot", "deals", "amount", False),
        ("raw_billing", "quarantine", "raw_line", True),
        ("raw_billing", "customers", "email", True),
        ("raw_stripe", "customers", "payload", True),
        ("raw_stripe", "events", "previous", True),
        ("raw_stripe", "events", "type", False),
        ("raw_intercom", "contact_merges", "loser_id", True),
        ("raw_intercom", "conversations", "contact_ids", True),
        ("raw_intercom", "tickets", "title", True),
        ("raw_intercom", "tickets", "state", False),
        ("raw_hubspot", "users", "email", True),
        ("marts", "interactions", "contact_name", True),
        ("marts", "seat_growth", "name", False),
        ("staging", "contacts", "name", True),
    ],
)
def test_what_is_personal_is_known_by_schema_table_and_column(
    schema: str, table: str, column: str, declared: bool
) -> None:
    assert (meaning_of(schema, table, column) is not None) == declared


def test_rows_with_personal_data_are_counted_by_table(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        for statement in (
            "CREATE SCHEMA marts",
            "CREATE TABLE marts.interactions (contact_id VARCHAR, contact_name VARCHAR, n INTEGER)",
            "INSERT INTO marts.interactions VALUES ('1', 'Jane', 1), ('2', NULL, 1), (NULL, NULL, 1)",
        ):
            one.connection.execute(statement)
        assert [(p.table, p.columns, p.rows) for p in stored(one.connection)] == [
            ("marts.interactions", ("contact_id",), 2),
            ("marts.interactions", ("contact_name",), 1),
        ]


def test_a_source_that_was_left_out_is_named_and_what_was_read_earlier_that_day_stays_true(
    tmp_path: Path,
) -> None:
    through = datetime(2026, 10, 30, 9)
    with run(tmp_path) as one:
        result = StreamResult("intercom", "contacts", "complete", 5)
        with ledger.transaction(one.connection, one.fence):
            ledger.record_stream(one.connection, one.load.run_id, DAY, result, through)
        ledger.record_freshness(one.connection, one.fence, DAY, [result])
        for day in (DAY, DAY + timedelta(days=1)):
            ledger.record_not_read(one.connection, one.fence, day, "intercom", ["contacts", "companies"])
        assert one.rows(
            "SELECT as_of, object, status, records, data_through FROM _published.freshness ORDER BY 1, 2"
        ) == [
            (DAY, "companies", "not_read", 0, None),
            (DAY, "contacts", "complete", 5, through),
            (DAY + timedelta(days=1), "companies", "not_read", 0, None),
            (DAY + timedelta(days=1), "contacts", "not_read", 0, through),
        ]
        assert one.rows("SELECT count(*) FROM _published.freshness WHERE message LIKE 'not read in %'") == [
            (4,)
        ]


def test_a_source_that_does_not_exist_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no source 'hubsport'.*Nothing was read"):
        execute(Settings(), Environment(data_dir=tmp_path), only="hubsport")
    with pytest.raises(ConfigurationError, match=r"set INTERCOM_ACCESS_TOKEN.*Nothing was read"):
        execute(Settings(), Environment(data_dir=tmp_path), only="intercom")
    assert not list(tmp_path.iterdir())
