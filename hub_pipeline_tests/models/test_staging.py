"""Staging completes canonical rows: knowledge, currency, local days, and one row for each key."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from hub_pipeline.models import catalog, load_inputs, run_checks, stage
from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.worlds import build_world, load, one

NEW_YORK = Settings.model_validate({"reporting_tz": "America/New_York", "reporting_currency": "EUR"})
ALWAYS = datetime(1970, 1, 1)
VERSION = {"subscription_id": "s", "org_id": "o", "status": "active"}
WORLD: dict[str, list[dict[str, Any]]] = {
    "organisations": [{"org_id": "o", "tier_override": " a ", "domain": " X.io"}],
    "subscription_versions": [
        VERSION | {"effective_at": "2026-01-15", "currency": " usd "},
        VERSION | {"effective_at": "2026-07-15T03:59:59Z", "recorded_at": "2026-07-16T00:00:00Z"},
        VERSION | {"effective_at": "2026-07-16T00:00:00+02:00", "seats": 3},
        VERSION | {"effective_at": "2026-07-16T00:00:00+02:00", "seats": 5},
        VERSION | {"effective_at": "2026-07-16T00:00:00+02:00", "seats": 4},
        VERSION | {"effective_at": "2026-07-16T00:00:00+02:00", "seats": 5},
    ],
    "org_merges": [{"loser_org_id": "a", "winner_org_id": "b", "merged_at": "2026-06-10T08:00:00Z"}],
    "org_parents": [{"org_id": "a", "parent_org_id": "b"}],
    "contacts": [{"contact_id": "c", "email": " Ann@Example.COM ", "created_at": "2026-06-10T08:00:00Z"}],
    "nps_responses": [
        {"response_id": f"n{number}", "score": score, "responded_at": "2026-06-10T03:00:00Z"}
        for number, score in enumerate((0, 10, 11, -1, 6.5, None))
    ],
    "fx_rates": [{"currency": "usd", "rate": "1.1", "valid_from": "2026-06-10"}],
    "deals": [{"deal_id": "d", "close_date": "2026-06-10"}],
}


@pytest.fixture(scope="module")
def staged() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    load(connection, WORLD, NEW_YORK)
    return connection


def _values(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


@pytest.mark.parametrize(
    ("table", "recorded_at"),
    [
        ("organisations", ALWAYS),
        ("org_parents", ALWAYS),
        ("org_merges", datetime(2026, 6, 10, 8)),
        ("contacts", datetime(2026, 6, 10, 8)),
        ("nps_responses", datetime(2026, 6, 10, 3)),
        ("fx_rates", datetime(2026, 6, 10, 4)),
        ("deals", ALWAYS),
    ],
)
def test_without_recorded_at_a_row_is_known_from_its_own_time_else_always(
    staged: duckdb.DuckDBPyConnection, table: str, recorded_at: datetime
) -> None:
    assert _values(staged, f"SELECT DISTINCT recorded_at FROM staging.{table}") == [(recorded_at,)]


def test_instants_are_utc_and_days_are_local_on_both_sides_of_a_change_of_the_clocks(
    staged: duckdb.DuckDBPyConnection,
) -> None:
    assert _values(
        staged,
        "SELECT effective_at, effective_on, recorded_at, currency FROM staging.subscription_versions "
        "ORDER BY effective_at",
    ) == [
        (datetime(2026, 1, 15, 5), date(2026, 1, 15), datetime(2026, 1, 15, 5), "USD"),
        (datetime(2026, 7, 15, 3, 59, 59), date(2026, 7, 14), datetime(2026, 7, 16), "EUR"),
        (datetime(2026, 7, 15, 22), date(2026, 7, 15), datetime(2026, 7, 15, 22), "EUR"),
    ]


def test_of_rows_with_the_same_key_the_greatest_is_kept(staged: duckdb.DuckDBPyConnection) -> None:
    assert _values(staged, "SELECT seats FROM staging.subscription_versions WHERE seats IS NOT NULL") == [
        (5,)
    ]


def test_an_nps_score_is_a_whole_number_from_0_to_10_or_no_score(staged: duckdb.DuckDBPyConnection) -> None:
    scores = _values(staged, "SELECT score FROM staging.nps_responses ORDER BY response_id")
    assert scores == [(0,), (10,), (None,), (None,), (None,), (None,)]


def test_addresses_domains_and_tiers_are_written_one_way(staged: duckdb.DuckDBPyConnection) -> None:
    assert _values(staged, "SELECT email, email_domain FROM staging.contacts") == [
        ("ann@example.com", "example.com")
    ]
    assert _values(staged, "SELECT tier_override, domain FROM staging.organisations") == [("A", "x.io")]


def test_a_missing_flag_is_false_except_where_unknown_means_something(
    staged: duckdb.DuckDBPyConnection,
) -> None:
    assert _values(staged, "SELECT is_deleted, has_next_activity FROM staging.deals") == [(False, None)]
    assert _values(staged, "SELECT is_champion FROM staging.contacts") == [(False,)]


def test_every_canonical_table_has_a_staging_table_with_all_its_columns_and_recorded_at(
    staged: duckdb.DuckDBPyConnection,
) -> None:
    for table, definition in catalog().inputs.items():
        columns = {row[0] for row in _values(staged, f"DESCRIBE staging.{table}")}
        assert set(definition.columns) <= columns
        assert definition.columns["recorded_at"].type == "TIMESTAMP"
        assert set(definition.key) == set(catalog()[f"staging.{table}"].contract.grain)


def test_every_check_of_staging_holds(staged: duckdb.DuckDBPyConnection) -> None:
    results = [result for model in catalog().layer("staging") for result in run_checks(staged, model)]
    assert [result.sentence() for result in results if not result.passed] == []


def test_an_unknown_status_stops_the_publication_and_an_unknown_interval_is_shown() -> None:
    with duckdb.connect() as connection:
        load(connection, {"subscription_versions": [VERSION | {"effective_at": "2026-01-01"}]})
        connection.execute(
            "UPDATE inputs.subscription_versions SET status = 'odd', billing_interval = 'decade'"
        )
        stage(connection, Settings())
        results = run_checks(connection, catalog()["staging.subscription_versions"])
    assert [(r.check.name, r.blocks) for r in results if not r.passed] == [
        ("accepted_values", True),
        ("billing_interval_known", False),
    ]


def test_seats_a_hundred_times_those_before_are_shown_and_count_all_the_same() -> None:
    seats = {"a": (2, 200), "b": (2, 199), "c": (0, 500), "d": (None, 500)}
    version: dict[str, Any] = VERSION
    versions = [
        version | {"subscription_id": name, "effective_at": f"2026-0{month}-01", "seats": count}
        for name, counts in seats.items()
        for month, count in enumerate(counts, start=1)
    ]
    with duckdb.connect() as connection:
        load(connection, {"subscription_versions": versions})
        results = run_checks(connection, catalog()["staging.subscription_versions"])
    (found,) = (result for result in results if not result.passed)
    assert (found.check.name, found.blocks, found.failures) == ("seats_are_plausible", False, 1)
    assert (found.sample[0]["subscription_id"], found.sample[0]["seats"]) == ("a", 200)


def test_a_status_nobody_knows_is_quarantined_with_the_values_that_are_known(tmp_path: Path) -> None:
    rows = [VERSION | {"effective_at": "2026-01-01", "status": status} for status in ("Odd", " Past_Due")]
    (tmp_path / "subscription_versions.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with duckdb.connect() as connection:
        load_inputs(connection, tmp_path, Settings())
        assert _values(connection, "SELECT line, reason FROM inputs.quarantine") == [
            (
                1,
                "status is not one of trialing, active, past_due, unpaid, paused, incomplete, canceled: Odd",
            )
        ]
        assert _values(connection, "SELECT status FROM staging.subscription_versions") == [("past_due",)]


def test_a_row_without_its_id_is_quarantined_and_the_others_are_staged(tmp_path: Path) -> None:
    lines = [{"org_id": "o1"}, {"org_id": None, "name": "nobody"}]
    (tmp_path / "organisations.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with duckdb.connect() as connection:
        counts = {count.table: count for count in load_inputs(connection, tmp_path, Settings())}
        staged = connection.execute("SELECT org_id FROM staging.organisations").fetchall()
    assert (counts["organisations"].rows, counts["organisations"].quarantined) == (2, 1)
    assert staged == [("o1",)]


def test_a_won_deal_of_a_type_the_settings_name_is_a_custom_contract_while_it_is_won() -> None:
    settings = Settings.model_validate({"hubspot": {"contract_deal_types": ["offline"]}})
    deal = {"deal_id": "d1", "org_id": "o1", "deal_type": "offline", "amount": "900", "currency": "USD"}
    won = {**deal, "status": "won", "plan": "enterprise", "closed_at": "2026-03-01T10:00:00Z"}
    world = {
        "organisations": [{"org_id": "o1"}],
        "deals": [
            {**deal, "status": "open", "recorded_at": "2026-02-01T00:00:00Z"},
            {**won, "recorded_at": "2026-03-01T10:00:00Z"},
            {**won, "deal_id": "d2", "deal_type": "renewal", "recorded_at": "2026-03-02T00:00:00Z"},
            {**won, "status": "lost", "recorded_at": "2026-05-01T00:00:00Z"},
        ],
    }
    for known_at, state, mrr in (("2026-04-01", "paying", 900), ("2026-05-02", "never_paid", 0)):
        connection = build_world(world, "2026-04-01", known_at, settings)
        row = one(connection, "organisation_daily", org_id="o1")
        assert (row["state"], row["mrr"]) == (state, mrr), known_at
        connection.close()
    with build_world(world, "2026-04-01") as connection:
        assert one(connection, "organisation_daily", org_id="o1")["state"] == "never_paid"
