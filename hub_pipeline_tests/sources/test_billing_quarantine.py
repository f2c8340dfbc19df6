"""Rows that are not believed are kept, judged again when a rule changes, and closed when they are settled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from hub_pipeline.settings import Settings
from hub_pipeline_tests.sources.billing_folder import ITEMS, SUBSCRIPTIONS, BillingFolder

GOOD = "s1,c1,active,USD,2026-01-01,2026-10-01T12:00:00Z"
STATE = "SELECT line_no, reasons[1], resolved_by FROM raw_billing.quarantine ORDER BY extract_close, line_no"
COUNTS = "rows_total, accepted, exact_duplicates, quarantined"


def items(*rows: str) -> list[str]:
    return [ITEMS, *rows]


def seats(number: int, seats: str, at: str = "2026-10-01") -> str:
    return f"i{number},s1,seat,{seats},1000,month,2026-01-01,{at}"


def with_settings(billing: BillingFolder, **values: object) -> None:
    said = billing.settings.model_dump(exclude_unset=True)
    said["billing"] = {**said.get("billing", {}), **values}
    billing.settings = Settings.model_validate(said)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_row_is_good_once_the_rule_has_changed_without_its_file(billing: BillingFolder, form: str) -> None:
    with_settings(billing, max_seats=100)
    name = f"subscription_items__2026-10-30__delta.{form}"
    columns = ITEMS.split(",")
    rows = [seats(1, "50").split(","), seats(2, "500").split(","), seats(3, "x").split(",")]
    if form == "csv":
        path = billing.put(name, items(*(",".join(row) for row in rows)))
    elif form == "jsonl":
        path = billing.put(
            name,
            ["{" + ",".join(f'"{c}":"{v}"' for c, v in zip(columns, row, strict=True)) + "}" for row in rows],
        )
    else:
        path = billing.folder / name
        with duckdb.connect() as connection:
            values = ", ".join(str(tuple(row)) for row in rows)
            quoted = ", ".join(f'"{c}"' for c in columns)
            connection.execute(f"COPY (SELECT * FROM (VALUES {values}) AS t({quoted})) TO '{path}'")
    billing.run(as_of=date(2026, 10, 30), publish=True)
    line = 2 if form == "csv" else 1
    assert billing.manifest(COUNTS) == [(3, 1, 0, 2)]
    path.unlink()
    with_settings(billing, max_seats=1000)
    result = billing.run()["subscription_items"]
    assert (result.status, result.inserted) == ("complete", 1)
    assert "1 quarantined rows are good by the rules of today" in result.message
    assert billing.manifest(COUNTS) == [(3, 2, 0, 1)]
    assert [(no, resolved) for no, _, resolved in billing.rows(STATE)] == [
        (line + 1, "rule_change"),
        (line + 2, None),
    ]
    assert billing.rows(
        "SELECT subscription_item_id, quantity, _line, _changed_at, _recorded_at FROM raw_billing.subscription_items ORDER BY 1"
    ) == [
        ("i1", 50, line, datetime(2026, 10, 1), datetime(2026, 10, 1)),
        ("i2", 500, line + 1, datetime(2026, 10, 1), datetime(2026, 10, 31)),
    ], "what is good now is known from now on"
    billing.run()
    assert billing.manifest(COUNTS) == [(3, 2, 0, 1)]


def test_a_row_is_good_once_its_mapping_is_corrected(
    folder: Callable[..., BillingFolder], tmp_path: Path
) -> None:
    mapping = tmp_path / "own.toml"
    text = (
        '[[file]]\nname = "subs_{date}.csv"\nkind = "delta"\ndelimiter = ";"\n[[file.table]]\ntable = "subscriptions"\n'
        '[file.table.columns]\nsubscription_id = "Id"\ncustomer_id = "Who"\ncurrency = { constant = "EUR" }\n'
        'started_at = "From"\nstatus = { column = "State", values = { on = "active" } }\n'
    )
    mapping.write_text(text)
    billing = folder(billing={"mappings": [str(mapping)], "max_quarantined": "1"})
    lines = 'Id;Who;From;State\n1;"a;b";2026-01-01;on\n2;"a;""b";2026-01-01;off\n3;M\xfcller;2026-01-01;on\n'
    billing.put("subs_2026-10-31.csv", lines.encode("latin-1"))
    billing.run()
    assert billing.rows(STATE) == [(3, "status: not a known value", None), (4, "not UTF-8", None)]
    mapping.write_text(
        text.replace("on = ", 'off = "paused", on = ').replace(
            "[[file.t", 'encoding = "latin-1"\n[[file.t', 1
        )
    )
    billing.run()
    assert [row[2] for row in billing.rows(STATE)] == ["rule_change", "rule_change"]
    assert billing.rows(
        "SELECT customer_id, status FROM raw_billing.subscriptions ORDER BY subscription_id"
    ) == [
        ("a;b", "active"),
        ('a;"b', "paused"),
        ("Müller", "active"),
    ]


def test_of_rows_that_contradict_what_was_believed_neither_a_rule_nor_chance_decides(
    billing: BillingFolder,
) -> None:
    with_settings(billing, max_seats=100)
    billing.put("subscription_items__2026-10-30__delta.csv", items(seats(1, "50"), seats(1, "500")))
    billing.run()
    with_settings(billing, max_seats=1000)
    billing.run()
    assert billing.manifest(COUNTS) == [(2, 1, 0, 1)]
    assert billing.rows(STATE) == [
        (3, "two different rows for one subscription_item_id and updated_at", None)
    ]


def test_a_later_good_row_of_the_record_closes_the_quarantined_one(billing: BillingFolder) -> None:
    billing.put("subscription_items__2026-10-30__delta.csv", items(seats(1, "x"), seats(2, "x"), "broken"))
    billing.run()
    billing.put("subscription_items__2026-10-31__delta.csv", items(seats(1, "5", "2026-10-02")))
    billing.run()
    assert [(line, resolved) for line, _, resolved in billing.rows(STATE)] == [
        (2, "later_file"),
        (3, None),
        (4, None),
    ]
    assert billing.manifest(COUNTS) == [(3, 0, 0, 3), (1, 1, 0, 0)]


def test_a_corrected_file_closes_the_rows_of_the_rejected_one(folder: Callable[..., BillingFolder]) -> None:
    billing = folder(billing={"max_quarantined": "0"})
    name = "subscription_items__2026-10-30.csv"
    billing.put("subscriptions__2026-10-30.csv", [SUBSCRIPTIONS, GOOD])
    billing.put(name, items(seats(1, "1"), "broken"))
    billing.run()
    billing.put(name, items(seats(1, "1"), seats(2, "2")))
    billing.run()
    assert billing.rows(STATE) == [(3, "too few fields", "later_file")]


def test_a_line_that_comes_every_day_is_as_old_as_its_first_appearance(billing: BillingFolder) -> None:
    for day in (29, 30, 31):
        billing.put(f"subscription_items__2026-10-{day}__delta.csv", items(seats(1, "x"), seats(day, "1")))
        billing.run()
    seen = billing.rows(
        "SELECT first_seen_at, last_seen_at FROM raw_billing.quarantine ORDER BY extract_close"
    )
    starts = [row[0] for row in billing.rows("SELECT started_at FROM _ledger.runs ORDER BY 1")]
    assert seen == [(starts[0], starts[2])] * 3


def test_a_record_whose_row_is_unusable_is_not_taken_for_deleted(
    folder: Callable[..., BillingFolder],
) -> None:
    billing = folder(guards={"max_shrink": "1"}, billing={"max_quarantined": "1"})
    header = SUBSCRIPTIONS + ",plan"
    start = "c1,active,USD,2026-01-01,,Team"
    billing.put("subscriptions__2026-10-30.csv", [header, *(f"s{n},{start}" for n in range(6))])
    lines = [header, f"s0,{start}", f"s1,{start.replace('active', 'aktive')}", "s2,c1", f'"s3",c1,"{start}']
    content = "\n".join(lines).encode() + b'"\n' + f"s4,{start}".encode().replace(b"Team", b"T\xe9am") + b"\n"
    billing.put("subscriptions__2026-10-31.csv", content)
    assert billing.run()["subscriptions"].deleted == 1
    assert billing.rows("SELECT subscription_id FROM raw_billing.subscriptions WHERE _absent") == [("s5",)]


def test_an_item_waits_seven_days_for_its_subscription_and_counts_at_once_when_it_comes(
    billing: BillingFolder,
) -> None:
    billing.put("subscription_items__2026-10-20__delta.csv", items(seats(1, "5")))
    waiting = billing.run(as_of=date(2026, 10, 27))["subscription_items"]
    assert (waiting.status, waiting.message) == ("complete", "1 rows wait for their subscriptions")
    assert billing.rows(STATE) == []
    late = billing.run(as_of=date(2026, 10, 28))["subscription_items"]
    assert late.message == (
        "1 rows have waited more than 7 days for their subscriptions and stand in raw_billing.quarantine"
    )
    assert billing.rows(STATE) == [(2, "subscription_id: there is no such row of subscriptions", None)]
    billing.run(as_of=date(2026, 10, 29))
    assert len(billing.rows(STATE)) == 1
    billing.put("subscriptions__2026-10-30.csv", [SUBSCRIPTIONS, GOOD])
    assert billing.run(as_of=date(2026, 10, 30))["subscription_items"].message == ""
    assert [row[2] for row in billing.rows(STATE)] == ["later_file"]


def test_rows_of_every_file_are_accepted_repeated_or_quarantined_and_the_database_refuses_anything_else(
    billing: BillingFolder,
) -> None:
    rows = [GOOD, GOOD, GOOD.replace("s1", "s2"), "broken", GOOD.replace("s1", "s3").replace("USD", "XXQ")]
    billing.put("subscriptions__2026-10-31__delta.csv", [SUBSCRIPTIONS, *rows])
    billing.run()
    assert billing.manifest(COUNTS) == [(5, 2, 1, 2)]
    with pytest.raises(duckdb.ConstraintException):
        billing.connection.execute("UPDATE raw_billing.files SET accepted = accepted + 1")


def test_the_same_bytes_on_another_day_say_that_things_are_as_they_were(billing: BillingFolder) -> None:
    before, meanwhile = items(seats(1, "10", "")), items(seats(1, "12", ""))
    for day, content in ((29, before), (30, meanwhile), (31, before)):
        billing.put(f"subscription_items__2026-10-{day}.csv", content)
    billing.run()
    instant = timedelta(microseconds=1)
    assert billing.rows(
        "SELECT quantity, _changed_at FROM raw_billing.subscription_items ORDER BY _changed_at"
    ) == [
        (10, datetime(2026, 10, 30) - instant),
        (12, datetime(2026, 10, 31) - instant),
        (10, datetime(2026, 11, 1) - instant),
    ]


def test_test_data_is_loaded_and_counted_apart(billing: BillingFolder) -> None:
    billing.put(
        "subscriptions__2026-10-31.csv",
        [SUBSCRIPTIONS + ",livemode", f"{GOOD},false", f"{GOOD},".replace("s1", "s2")],
    )
    billing.run()
    assert billing.manifest("accepted, test_data") == [(2, 1)]
    assert billing.subscription_versions("subscription_id") == [("s2",)]


def test_columns_named_in_the_settings_are_kept_only_as_a_hash(folder: Callable[..., BillingFolder]) -> None:
    billing = folder(billing={"hashed_columns": ["customers.email"]})
    billing.put("customers__2026-10-31.csv", ["customer_id,email", "c1,eva@acme.com", "c2,"])
    billing.run()
    assert billing.rows(
        "SELECT email = sha256('eva@acme.com') FROM raw_billing.customers ORDER BY customer_id"
    ) == [
        (True,),
        (None,),
    ]
