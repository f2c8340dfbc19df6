"""What happens to each kind of file and line: nothing is guessed, nothing is lost, nothing is half loaded."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import duckdb
import pytest
import zstandard

from hub_pipeline.errors import ConfigurationError, DataRefusedError
from hub_pipeline.sources.billing import IncomingFile, load_files
from hub_pipeline.sources.billing import folder as billing_folder_module
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline_tests.sources.billing_folder import ITEMS, SUBSCRIPTIONS, BillingFolder

NAME = "subscriptions__2026-10-31__delta.csv"
GOOD = "s1,c1,active,USD,2026-01-01,2026-10-01T12:00:00Z"


def ids(billing: BillingFolder) -> list[str]:
    return [
        row[0] for row in billing.rows("SELECT subscription_id FROM raw_billing.subscriptions ORDER BY 1")
    ]


def test_a_row_arrives_typed_and_says_where_it_stood(billing: BillingFolder) -> None:
    billing.put(NAME, [SUBSCRIPTIONS, GOOD])
    result = billing.run()["subscriptions"]
    assert (result.status, result.records, result.inserted, result.quarantined) == ("complete", 1, 1, 0)
    assert billing.rows(
        "SELECT f.source, subscription_id, currency, started_at, _changed_at, _recorded_at, _line, original_name "
        "FROM raw_billing.subscriptions JOIN raw_billing.files AS f ON file_no = _file_no"
    ) == [
        (
            "crm",
            "s1",
            "USD",
            datetime(2026, 1, 1),
            datetime(2026, 10, 1, 12),
            datetime(2026, 10, 1, 12),
            2,
            NAME,
        )
    ]


def test_the_same_bytes_again_change_nothing_whatever_their_name(billing: BillingFolder) -> None:
    billing.put(NAME, [SUBSCRIPTIONS, GOOD])
    billing.run()
    billing.put("subscriptions__2026-10-31__delta__002.csv", [SUBSCRIPTIONS, GOOD])
    result = billing.run()["subscriptions"]
    assert (result.status, result.inserted) == ("complete", 0)
    assert len(billing.manifest()) == 1


def test_what_means_the_same_is_read_the_same(billing: BillingFolder) -> None:
    text = SUBSCRIPTIONS + "\n" + GOOD + "\n"
    forms = {
        "byte order mark": ("\ufeff" + text).encode(),
        "CRLF": text.replace("\n", "\r\n").encode(),
        "no last line end": text.rstrip().encode(),
        "UTF-16": text.encode("utf-16"),
        "blank lines": text.replace("\n", "\n\n").encode(),
        "quoted values": text.replace("s1,c1,active", '"s1",c1,"active"').encode(),
        "lower-case currency": text.replace("USD", "usd").encode(),
        "offset": text.replace("12:00:00Z", "14:00:00+02:00").encode(),
        "epoch seconds": text.replace("2026-10-01T12:00:00Z", "1790856000").encode(),
        "as it should be": text.encode(),
    }
    for number, content in enumerate(forms.values()):
        billing.put(f"subscriptions__2026-10-31__delta__{number:03}.csv", content)
    billing.run()
    assert dict(zip(forms, billing.manifest(), strict=True)) == dict.fromkeys(forms, ("loaded", 1, 1, 0, 0))
    assert billing.rows("SELECT subscription_id, currency, _changed_at FROM raw_billing.subscriptions") == [
        ("s1", "USD", datetime(2026, 10, 1, 12))
    ]


def test_columns_are_found_by_name_and_unknown_ones_are_kept(billing: BillingFolder) -> None:
    billing.put(
        NAME,
        [
            "currency,started_at,Region,status,customer_id,subscription_id",
            "EUR,2026-01-01,north,active,c9,s1",
        ],
    )
    billing.run()
    assert billing.rows(
        "SELECT subscription_id, customer_id, currency, extra FROM raw_billing.subscriptions"
    ) == [("s1", "c9", "EUR", '{"Region":"north"}')]


def test_an_unusable_row_is_quarantined_with_its_line_and_reason(billing: BillingFolder) -> None:
    no_time = "not a time such as 2026-03-02T10:00:00Z between 1990 and twenty years from now"
    bad = {
        "a,c1,active,USD,2026-01-01": "too few fields",
        "a,c1,active,USD,2026-01-01,2026-10-01,x": "too many fields",
        'a,c"1,active",USD,2026-01-01,2026-10-01': "a quote that is not closed, or stands inside a value",
        ",c1,active,USD,2026-01-01,": "subscription_id: empty",
        "a,c1,actve,USD,2026-01-01,": "status: not a known value",
        "a,c1,active,XXQ,2026-01-01,": "currency: not an ISO 4217 currency",
        "a,c1,active,USD,2026-02-30,": f"started_at: {no_time}",
        "a,c1,active,USD,infinity,": f"started_at: {no_time}",
        "a,c1,active,USD,9999-12-31,": f"started_at: {no_time}",
        "a,c1,active,USD,01/02/2026,": f"started_at: {no_time}",
        "a,c\0,active,USD,2026-01-01,": "NUL byte",
    }
    billing.put(NAME, [SUBSCRIPTIONS, GOOD, *bad])
    billing.run()
    assert ids(billing) == ["s1"]
    quarantined = billing.rows(
        "SELECT raw_line, reasons[1] FROM raw_billing.quarantine WHERE len(reasons) = 1"
    )
    assert dict(quarantined) == bad
    assert list(billing.reasons()) == list(range(3, 3 + len(bad)))
    assert billing.manifest() == [("loaded", 1 + len(bad), 1, 0, len(bad))]


def test_seats_are_whole_numbers_or_nothing(billing: BillingFolder) -> None:
    bad = [
        "2.5",
        "12.0",
        " 7",
        "1e3",
        "0x10",
        "1_000",
        "1,200",
        "-3",
        "NaN",
        "9223372036854775808",
        "1000001",
        "",
    ]
    billing.put(
        "subscription_items__2026-10-31.csv",
        [ITEMS, *(f'i{n},s1,seat,"{seats}",1000,month,2026-01-01,' for n, seats in enumerate(bad))],
    )
    billing.run()
    assert billing.manifest() == [("loaded", len(bad), 0, 0, len(bad))]
    assert {reason.split(":")[0] for reasons in billing.reasons().values() for reason in reasons} == {
        "quantity"
    }


def test_every_reason_of_a_row_is_named(billing: BillingFolder) -> None:
    billing.put(NAME, [SUBSCRIPTIONS, "s1,,actve,USD,yesterday,"])
    billing.run()
    assert [reason.split(":")[0] for reason in billing.reasons()[2]] == [
        "customer_id",
        "status",
        "started_at",
    ]


def test_a_line_that_is_not_utf8_is_kept_as_bytes_and_the_others_load(billing: BillingFolder) -> None:
    billing.put(NAME, SUBSCRIPTIONS.encode() + b"\ns\xe92,c1,active,USD,2026-01-01,\n" + GOOD.encode())
    billing.run()
    assert ids(billing) == ["s1"]
    assert billing.rows(
        "SELECT line_no, is_base64, from_base64(raw_line), reasons FROM raw_billing.quarantine"
    ) == [(2, True, b"s\xe92,c1,active,USD,2026-01-01,", ["not UTF-8"])]


def test_a_line_break_inside_quotes_belongs_to_the_value(billing: BillingFolder) -> None:
    billing.put(
        NAME,
        [
            SUBSCRIPTIONS + ",cancel_comment",
            f'{GOOD},"too ""dear"",',
            'and slow"',
            "s2,c1,active,USD,nonsense,,",
        ],
    )
    billing.run()
    assert billing.rows("SELECT cancel_comment FROM raw_billing.subscriptions") == [
        ('too "dear",\nand slow',)
    ]
    assert list(billing.reasons()) == [4]


def test_equal_rows_count_once_and_contradicting_rows_are_both_refused(billing: BillingFolder) -> None:
    other = GOOD.replace("active", "paused")
    billing.put(NAME, [SUBSCRIPTIONS, GOOD, GOOD.replace("s1", "s2"), other.replace("s1", "s2"), GOOD])
    billing.run()
    assert ids(billing) == ["s1"]
    assert billing.manifest() == [("loaded", 4, 1, 1, 2)]
    assert list(billing.reasons()) == [3, 4]


def test_a_stray_quote_costs_its_own_line_and_no_other(billing: BillingFolder) -> None:
    rows = [f"s{n},c1,active,USD,2026-01-01," for n in range(2, 10)]
    billing.put("subscriptions__2026-10-30.csv", [SUBSCRIPTIONS, *rows])
    billing.run()
    rows[1] = rows[1].replace("c1", 'c"1')
    rows[3] = 's5,"c\n1",active,USD,2026-01-01,'
    rows[6] = rows[6].replace("c1", 'c"1')
    billing.put("subscriptions__2026-10-31.csv", [SUBSCRIPTIONS, *rows])
    result = billing.run()["subscriptions"]
    quote = ["a quote that is not closed, or stands inside a value"]
    assert billing.reasons() == {3: quote, 5: quote, 6: quote, 9: quote}
    assert (result.records, result.quarantined, result.deleted) == (9, 4, 0)
    assert ids(billing) == [f"s{n}" for n in range(2, 10)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"subscription_id,status\ns1,active\n", "column customer_id, currency, started_at is missing"),
        (b"subscription_id,subscription_id\ns1,s1\n", "column subscription_id stands twice in its header"),
        ((SUBSCRIPTIONS + "\n" + GOOD).encode("utf-16-le"), "its first line is not a header in UTF-8, or UTF-16 with a byte order mark"),
        ((SUBSCRIPTIONS + "\n" + GOOD).encode("utf-16")[:-1], "it begins as UTF-16 and ends in the middle of a character"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_trusted_is_rejected_whole(
    billing: BillingFolder, content: bytes, message: str
) -> None:
    billing.put("subscriptions__2026-10-30.csv", [SUBSCRIPTIONS, GOOD])
    billing.run()
    billing.put(NAME, content)
    result = billing.run()["subscriptions"]
    assert result.status == "failed"
    assert message in result.message
    assert NAME in result.message
    assert ids(billing) == ["s1"]


def test_a_file_with_too_many_bad_rows_is_kept_out_and_loads_once_corrected(
    folder: Callable[..., BillingFolder],
) -> None:
    billing = folder(billing={"max_quarantined": "0.4"})
    billing.put("subscriptions__2026-10-30.csv", [SUBSCRIPTIONS, GOOD])
    billing.run()
    billing.put(NAME, [SUBSCRIPTIONS, GOOD.replace("s1", "s2"), "s3,c1,nope,USD,2026-01-01,"])
    result = billing.run()["subscriptions"]
    assert result.status == "failed"
    assert (
        f"{NAME} was rejected: 1 of 2 rows are unusable, first line 3: status: not a known value"
        in result.message
    )
    assert ids(billing) == ["s1"]
    billing.put(NAME, [SUBSCRIPTIONS, GOOD.replace("s1", "s2"), "s3,c1,active,USD,2026-01-01,"])
    assert billing.run()["subscriptions"].status == "complete"
    assert ids(billing) == ["s1", "s2", "s3"]


def test_without_any_usable_subscription_the_run_is_refused(folder: Callable[..., BillingFolder]) -> None:
    billing = folder(billing={"max_quarantined": "0"})
    billing.put(NAME, [SUBSCRIPTIONS, "s3,c1,nope,USD,2026-01-01,"])
    with pytest.raises(DataRefusedError, match=r"No subscription could be loaded: crm/.*line 2: status"):
        billing.run()


def test_compressed_lines_and_parquet_hold_the_same_rows(billing: BillingFolder, tmp_path: Path) -> None:
    text = (SUBSCRIPTIONS + "\n" + GOOD + "\n").encode()
    billing.put(
        "subscriptions__2026-10-01__delta.csv.gz", gzip.compress(text[:40]) + gzip.compress(text[40:])
    )
    billing.put("subscriptions__2026-10-02__delta.csv.zst", zstandard.compress(text.replace(b"s1", b"s2")))
    billing.put(
        "subscriptions__2026-10-03__delta.jsonl",
        '{"subscription_id":"s3","customer_id":"c1","status":"active","currency":"USD","started_at":"2026-01-01","x":[1]}\n'
        "[]\nnot json\n",
    )
    parquet = billing.folder / "subscriptions__2026-10-04__delta.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT 's' || i AS subscription_id, 'c1' AS customer_id, 'active' AS status, 'USD' AS currency, "
            f"DATE '2026-01-01' AS started_at, TIMESTAMP '2026-10-01 12:00:00' AS updated_at FROM range(4, 6) AS t(i)) "
            f"TO '{parquet}'"
        )
    billing.run()
    assert ids(billing) == ["s1", "s2", "s3", "s4", "s5"]
    assert billing.rows("SELECT extra FROM raw_billing.subscriptions WHERE subscription_id = 's3'") == [
        ('{"x":"[1]"}',)
    ]
    assert billing.reasons() == {2: ["not a JSON object"], 3: ["not a JSON object"]}


@pytest.mark.parametrize("cut", [8, 20])
def test_a_compressed_file_that_is_cut_off_loads_nothing_and_is_tried_again(
    billing: BillingFolder, cut: int
) -> None:
    billing.put("subscriptions__2026-10-01__delta.csv", [SUBSCRIPTIONS, GOOD])
    whole = gzip.compress((SUBSCRIPTIONS + "\n" + GOOD.replace("s1", "s2") + "\n").encode())
    frame = zstandard.compress((SUBSCRIPTIONS + "\n" + GOOD.replace("s1", "s3") + "\n").encode())
    billing.put(NAME + ".gz", whole[:-cut])
    billing.put(NAME + ".zst", frame[:-cut])
    result = billing.run()["subscriptions"]
    assert result.message.count("it is cut off, or not a") == 2
    assert ids(billing) == ["s1"]
    billing.put(NAME + ".gz", whole)
    billing.put(NAME + ".zst", frame)
    assert billing.run()["subscriptions"].status == "complete"
    assert ids(billing) == ["s1", "s2", "s3"]


def test_links_parts_foreign_names_and_young_files_are_not_read_and_are_named(
    folder: Callable[..., BillingFolder], tmp_path: Path
) -> None:
    billing = folder(billing={"settle_seconds": 60})
    old = billing.put("subscriptions__2026-10-01__delta.csv", [SUBSCRIPTIONS, GOOD])
    secret = tmp_path / "secret.csv"
    secret.write_text(SUBSCRIPTIONS + "\n" + GOOD.replace("s1", "stolen"))
    (billing.folder / NAME).symlink_to(secret)
    billing.put("subscriptions__2026-10-02__delta.csv.part", "half")
    billing.put("payments__2026-10-02.csv", "a\n1\n")
    billing.put("subscriptions__2026-02-30.csv", "a\n1\n")
    for path in billing.folder.iterdir():
        os.utime(path, (0, 0), follow_symlinks=False)
    billing.put("subscriptions__2026-10-03__delta.csv", [SUBSCRIPTIONS, GOOD.replace("s1", "young")])
    message = billing.run()["files"].message
    assert ids(billing) == ["s1"]
    assert old.exists()
    assert f"refused: crm/{NAME}: a symbolic link" in message
    assert "not mapped: crm/payments__2026-10-02.csv, crm/subscriptions__2026-02-30.csv" in message
    assert (
        "waiting: crm/subscriptions__2026-10-02__delta.csv.part, crm/subscriptions__2026-10-03__delta.csv"
        in message
    )


def test_a_mapped_name_with_glob_characters_and_quotes_reads_that_file(
    folder: Callable[..., BillingFolder], tmp_path: Path
) -> None:
    mapping = tmp_path / "odd.toml"
    mapping.write_text(
        "[[file]]\nname = \"subs [1]*';DROP.csv\"\ndate = 2026-10-31\n[[file.table]]\ntable = 'subscriptions'\n"
        "[file.table.columns]\nsubscription_id = 'Id \"x\"'\ncustomer_id = 'Id \"x\"'\n"
        "status = { constant = 'active' }\ncurrency = { constant = 'EUR' }\nstarted_at = { column = 'on', format = '%d.%m.%Y' }\n"
    )
    billing = folder(billing={"mappings": [str(mapping)]})
    billing.put("subs [1]*';DROP.csv", ['"Id ""x""",on', "s1,24.12.2025", "s2,2025-12-24", "s3,12/24/2025"])
    billing.put("subs 1x';DROP.csv", ["other", "1"])
    billing.run()
    assert billing.rows("SELECT subscription_id, started_at FROM raw_billing.subscriptions ORDER BY 1") == [
        ("s1", datetime(2025, 12, 24)),
        ("s2", datetime(2025, 12, 24)),
    ]
    assert list(billing.reasons()) == [4]


def test_a_folder_that_is_set_and_missing_is_a_mistake_but_the_default_may_be_missing(
    folder: Callable[..., BillingFolder],
) -> None:
    billing = folder()
    billing.folder.rmdir()
    billing.folder.parent.rmdir()
    assert {result.status for result in billing.run().values()} == {"not_configured"}
    assert billing.rows("SELECT count(*) FROM raw_billing.subscriptions_versions") == [(0,)]
    named = folder(billing={"folder": "elsewhere"})
    with pytest.raises(
        ConfigurationError, match=r"The billing folder .*elsewhere is missing\. Nothing was changed"
    ):
        named.run()


def test_a_full_file_with_nothing_but_a_header_is_held(billing: BillingFolder) -> None:
    billing.put("subscriptions__2026-10-30.csv", [SUBSCRIPTIONS, GOOD])
    billing.put("subscriptions__2026-10-31.csv", [SUBSCRIPTIONS])
    result = billing.run()["subscriptions"]
    assert "was held: lists 0 records where the full file before listed 1" in result.message
    assert billing.rows("SELECT count(*) FROM raw_billing.subscriptions WHERE _absent") == [(0,)]


def test_money_with_more_decimals_than_its_currency_is_never_rounded(
    folder: Callable[..., BillingFolder], tmp_path: Path
) -> None:
    mapping = tmp_path / "major.toml"
    mapping.write_text(
        '[[file]]\nname = "bills_{date}.csv"\nkind = "delta"\n[[file.table]]\ntable = "invoices"\n'
        '[file.table.columns]\ninvoice_id = "id"\ncustomer_id = "id"\nstatus = { constant = "paid" }\n'
        'currency = "cur"\ncreated_at = { constant = "2026-10-01" }\ntotal_minor = { column = "sum", unit = "major" }\n'
    )
    billing = folder(billing={"mappings": [str(mapping)], "max_quarantined": "1"})
    sums = [
        "USD,12.5",
        "JPY,1000",
        "KWD,1.25",
        "USD,-3.00",
        "CLF,1.2345",
        "USD,10.005",
        "JPY,0.5",
        "KWD,1.2505",
        "USD,1e3",
    ]
    billing.put("bills_2026-10-31.csv", ["id,cur,sum", *(f"{n},{one}" for n, one in enumerate(sums))])
    billing.put("invoices__2026-10-31__delta.csv", [
        "invoice_id,customer_id,status,currency,created_at,total_minor", "a,c,paid,USD,2026-10-01,12.50",
    ])  # fmt: skip
    billing.run()
    assert billing.rows("SELECT total_minor FROM raw_billing.invoices ORDER BY invoice_id") == [
        (1250,), (1000,), (1250,), (-300,), (12345,),
    ]  # fmt: skip
    quarantined = billing.rows("SELECT raw_line, len(reasons) FROM raw_billing.quarantine ORDER BY raw_line")
    assert quarantined == [
        *((f"{n},{sums[n]}", 1) for n in range(5, 9)),
        ("a,c,paid,USD,2026-10-01,12.50", 1),
    ]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_compressed_file_that_unpacks_to_more_than_the_limit_is_rejected(
    billing: BillingFolder, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(billing_folder_module, "MAX_BYTES", 1_000_000)
    content = (SUBSCRIPTIONS + "\n").encode() + b"\n" * 3_000_000
    compressed = gzip.compress(content) if suffix == "gz" else zstandard.compress(content)
    billing.put(f"subscriptions__2026-10-30.csv.{suffix}", compressed)
    billing.put("subscriptions__2026-10-31__delta.csv", [SUBSCRIPTIONS, GOOD])
    assert "when decompressed" in billing.run()["subscriptions"].message
    assert ids(billing) == ["s1"]


def test_a_formula_is_text_like_any_other(billing: BillingFolder) -> None:
    billing.put("customers__2026-10-31.csv", ["customer_id,name", "c1,\"=cmd|' /C calc'!A0\"", "c2,@SUM(A1)"])
    billing.run()
    assert billing.rows("SELECT name FROM raw_billing.customers ORDER BY customer_id") == [
        ("=cmd|' /C calc'!A0",),
        ("@SUM(A1)",),
    ]


def test_a_file_that_is_not_what_its_manifest_says_is_rejected_until_it_is(billing: BillingFolder) -> None:
    path = billing.put(NAME, [SUBSCRIPTIONS, GOOD])
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    beside = NAME + ".manifest.json"
    wrong = {"rows": 2, "sha256": "0" * 64}
    billing.put("subscriptions__2026-10-01__delta.csv", [SUBSCRIPTIONS, GOOD.replace("s1", "s0")])
    for key, value in wrong.items():
        billing.put(beside, json.dumps({key: value}))
        assert f"its manifest says {key} {value!r}" in billing.run()["subscriptions"].message
    billing.put(beside, "{")
    assert "is not JSON" in billing.run()["subscriptions"].message
    said = {"table": "subscriptions", "kind": "delta", "as_of": "2026-10-31", "rows": 1, "sha256": sha}
    billing.put(beside, json.dumps(said))
    results = billing.run()
    assert (results["subscriptions"].status, results["files"].message) == ("complete", "")
    assert ids(billing) == ["s0", "s1"]


def test_files_that_a_program_made_are_loaded_like_those_of_the_folder(billing: BillingFolder) -> None:
    path = billing.data / "made.jsonl"
    row = dict(zip(SUBSCRIPTIONS.split(","), GOOD.split(","), strict=True))
    path.write_text(
        "\n".join(json.dumps(one) for one in (row, {**row, "subscription_id": "s2", "currency": "XXQ"}))
        + "\n"
    )
    files = [IncomingFile(path, "stripe", "subscriptions", date(2026, 10, 31))]
    with RunLock(billing.data) as lock:
        for inserted in (1, 0):
            load, fence = ledger.begin_run(
                billing.connection,
                lock,
                billing.warehouse.state_path,
                date(2026, 10, 31),
                datetime(2026, 11, 1),
            )
            (result,) = load_files(
                billing.connection, billing.settings, billing.environment, load, fence, files
            )
            assert (result.source, result.object, result.status) == (
                "stripe",
                "contract_subscriptions",
                "complete",
            )
            assert result.inserted == inserted
    assert billing.manifest("source, accepted, quarantined") == [("stripe", 1, 1)]
