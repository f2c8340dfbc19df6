"""What the models make of conversations: who a contact is at any time, and nothing known before its time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import duckdb
import pytest

from hub_pipeline.models.engine import model_parameters, run_model
from hub_pipeline.models.graph import catalog
from hub_pipeline.models.macros import create_macros
from hub_pipeline.settings import Settings

FIRST = datetime(2026, 10, 1)


def day(number: int) -> datetime:
    return FIRST + timedelta(days=number)


@pytest.fixture
def raw() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for statement in (
            "SET TimeZone = 'UTC'",
            "CREATE SCHEMA raw_hubspot",
            "CREATE SCHEMA raw_intercom",
            "CREATE SCHEMA inputs",
            "CREATE TABLE raw_hubspot.contacts_mapped (id VARCHAR, email VARCHAR, _recorded_at TIMESTAMP)",
            "CREATE TABLE raw_hubspot.organisations_mapped (id VARCHAR, external_id VARCHAR, _recorded_at TIMESTAMP)",
            "CREATE TABLE raw_intercom.workspace (id VARCHAR, region VARCHAR, _recorded_at TIMESTAMP)",
            "CREATE TABLE raw_intercom.contacts (id VARCHAR, email VARCHAR, _recorded_at TIMESTAMP)",
            "CREATE TABLE raw_intercom.companies (id VARCHAR, company_id VARCHAR, _recorded_at TIMESTAMP)",
            "CREATE TABLE raw_intercom.contact_merges (loser_id VARCHAR, winner_id VARCHAR, _recorded_at TIMESTAMP)",
            "CREATE TABLE raw_intercom.conversations (id VARCHAR, contact_id VARCHAR, company_id VARCHAR, "
            "rating INTEGER, rated_at TIMESTAMP, remark VARCHAR, state VARCHAR, title VARCHAR, created_at TIMESTAMP, "
            "_changed_at TIMESTAMP, _recorded_at TIMESTAMP, _deleted_at TIMESTAMP, _run_id VARCHAR)",
            f"INSERT INTO raw_intercom.workspace VALUES ('w1', 'EU', '{day(0)}')",
            "INSERT INTO raw_intercom.conversations "
            f"VALUES ('7', 'a', NULL, NULL, NULL, NULL, 'open', 'Help', '{day(0)}', '{day(0)}', '{day(0)}', NULL, 'r')",
        ):
            connection.execute(statement)
        create_macros(connection)
        yield connection


def contacts_of(raw: duckdb.DuckDBPyConnection) -> list[tuple[str, datetime]]:
    """Whom the conversation is with, from when on."""
    run_model(raw, catalog()["inputs.conversations"], model_parameters(None, None, Settings()))
    return raw.execute(
        "SELECT contact_id, recorded_at FROM inputs.conversations ORDER BY recorded_at"
    ).fetchall()


def test_a_merged_contact_is_the_one_it_became_from_the_day_the_merge_is_known(
    raw: duckdb.DuckDBPyConnection,
) -> None:
    for loser, winner, known in (("a", "b", 2), ("b", "c", 4), ("a", "c", 4), ("c", "d", 6)):
        raw.execute(f"INSERT INTO raw_intercom.contact_merges VALUES ('{loser}', '{winner}', '{day(known)}')")
    assert contacts_of(raw) == [
        ("intercom:a", day(0)),
        ("intercom:b", day(2)),
        ("intercom:c", day(4)),
        ("intercom:d", day(6)),
    ]


def test_the_crm_contact_is_that_of_the_person_and_else_that_of_whom_it_was_before(
    raw: duckdb.DuckDBPyConnection,
) -> None:
    for key in ("a", "b"):
        raw.execute(f"INSERT INTO raw_intercom.contacts VALUES ('{key}', '{key}@example.com', '{day(0)}')")
    # Whoever was merged away has a last version without anything.
    raw.execute(f"INSERT INTO raw_intercom.contacts VALUES ('a', NULL, '{day(3)}')")
    raw.execute(f"INSERT INTO raw_hubspot.contacts_mapped VALUES ('100', 'a@example.com', '{day(1)}')")
    raw.execute(f"INSERT INTO raw_intercom.contact_merges VALUES ('a', 'b', '{day(3)}')")
    raw.execute(f"INSERT INTO raw_hubspot.contacts_mapped VALUES ('200', 'b@example.com', '{day(5)}')")
    assert contacts_of(raw) == [
        ("intercom:a", day(0)),
        ("100", day(1)),
        ("100", day(3)),
        ("200", day(5)),
    ]


def test_the_address_of_a_conversation_is_that_of_the_workspace_in_its_region(
    raw: duckdb.DuckDBPyConnection,
) -> None:
    contacts_of(raw)
    address = "https://app.eu.intercom.com/a/inbox/w1/inbox/conversation/7"
    assert raw.execute("SELECT DISTINCT url FROM inputs.conversations").fetchall() == [(address,)]
