"""Landing files become append-only versions."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard

from hub_pipeline.errors import DataRefusedError
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse import loader as loader_module
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.loader import RawLoader
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline.warehouse.raw import RawStream, StreamResult
from hub_pipeline_tests.warehouse.support import (
    COMPANIES,
    DAY,
    OWNERS,
    Run,
    close_of,
    company,
    publish_day,
    run,
)

CURRENT = "SELECT id, name, seats, _deleted_at FROM raw_hubspot.companies_current ORDER BY id"


def test_a_file_becomes_one_version_for_each_record(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        assert one.load_records(COMPANIES, [company("1"), company("2", seats=7)]) == 2
        assert one.rows(CURRENT) == [("1", "Acme", "10", None), ("2", "Acme", "7", None)]


def test_loading_the_same_file_twice_changes_nothing(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        file = one.land(COMPANIES, [company("1")])
        assert one.loader.load_file(COMPANIES, file) == 1
        assert one.loader.load_file(COMPANIES, file) == 0
    with run(tmp_path) as two:
        assert two.take(COMPANIES, [company("1")]).inserted == 0
        assert two.rows("SELECT count(*) FROM raw_hubspot.companies") == [(1,)]


def test_the_first_version_is_recorded_at_its_creation_and_later_ones_at_their_change(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1", updated="2026-10-01T10:00:00")])
    with run(tmp_path) as two:
        two.take(COMPANIES, [company("1", seats=20, updated="2026-10-02T10:00:00")])
        assert two.rows("SELECT _changed_at, _recorded_at FROM raw_hubspot.companies ORDER BY 1") == [
            (datetime(2026, 10, 1, 10), datetime(2026, 1, 5, 8)),
            (datetime(2026, 10, 2, 10), datetime(2026, 10, 2, 10)),
        ]


def test_nothing_is_recorded_before_the_close_of_the_last_published_day(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1")])
        publish_day(one)
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        assert two.load.floor == close_of(DAY)
        two.take(COMPANIES, [company("1"), company("2", updated="2026-10-05T00:00:00")])
        assert two.rows("SELECT _recorded_at FROM raw_hubspot.companies WHERE id = '2'") == [(close_of(DAY),)]


def test_a_record_without_a_change_time_is_dated_just_before_the_close_of_the_day(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(OWNERS, [{"id": "1", "email": "a@x"}])
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        assert two.take(OWNERS, [{"id": "1", "email": "a@x"}]).inserted == 0
    with run(tmp_path, DAY + timedelta(days=2)) as three:
        assert three.take(OWNERS, [{"id": "1", "email": "b@x"}]).inserted == 1
        tick = timedelta(microseconds=1)
        assert three.rows("SELECT email, _changed_at FROM raw_hubspot.owners ORDER BY 2") == [
            ("a@x", close_of(DAY) - tick),
            ("b@x", close_of(DAY + timedelta(days=2)) - tick),
        ]


def test_a_value_that_changes_back_is_a_version_of_its_own(tmp_path: Path) -> None:
    for index, email in enumerate(("a@x", "b@x", "a@x", "b@x")):
        with run(tmp_path) as one:
            assert one.take(OWNERS, [{"id": "1", "email": email}]).inserted == 1, index
            assert one.rows("SELECT email FROM raw_hubspot.owners_current") == [(email,)]


def test_of_two_copies_in_one_file_each_change_time_gives_a_version_and_the_newest_is_current(
    tmp_path: Path,
) -> None:
    with run(tmp_path) as one:
        inserted = one.load_records(
            COMPANIES,
            [
                company("1", seats=3, updated="2026-10-03T00:00:00"),
                company("1", seats=1, updated="2026-10-01T00:00:00"),
                company("1", seats=3, updated="2026-10-03T00:00:00"),
            ],
        )
        assert inserted == 2
        assert one.rows("SELECT seats FROM raw_hubspot.companies_current") == [("3",)]


def test_a_stale_copy_of_a_known_record_is_dropped(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1", seats=5, updated="2026-10-05T00:00:00")])
    with run(tmp_path) as two:
        assert two.take(COMPANIES, [company("1", seats=4, updated="2026-10-04T00:00:00")]).inserted == 0


def test_a_change_time_in_the_far_future_does_not_outrank_every_later_version(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1", seats=5, updated="2199-01-01T00:00:00")])
        assert one.rows("SELECT _changed_at FROM raw_hubspot.companies") == [
            (close_of(DAY) - timedelta(microseconds=1),)
        ]
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        two.take(COMPANIES, [company("1", seats=6, updated="2026-11-01T12:00:00")])
        assert two.rows("SELECT seats FROM raw_hubspot.companies_current") == [("6",)]


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_files_within_a_run_does_not_matter(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    known = [company(str(i), seats=rng.randint(1, 3), updated="2026-10-05T00:00:00") for i in range(6)]
    batches = [
        [
            company(
                str(rng.randint(0, 8)),
                seats=rng.randint(1, 3),
                updated=f"2026-10-0{rng.randint(3, 8)}T00:00:00",
            )
            for _ in range(rng.randint(1, 8))
        ]
        for _ in range(4)
    ]
    answers = set()
    for number, order in enumerate(([0, 1, 2, 3], [3, 2, 1, 0], rng.sample(range(4), 4))):
        folder = tmp_path / str(number)
        with run(folder) as one:
            one.take(COMPANIES, known)
            publish_day(one)
        with run(folder, DAY + timedelta(days=1)) as two:
            files = [two.land(COMPANIES, batch, part=str(n)) for n, batch in enumerate(batches)]
            for index in order:
                two.loader.load_file(COMPANIES, files[index])
            two.loader.finish_stream(
                COMPANIES, [files[i] for i in order], StreamResult("hubspot", "companies", "complete"), 1
            )
            rows = two.rows("SELECT * EXCLUDE (_run_id) FROM raw_hubspot.companies ORDER BY ALL")
            current = two.rows(
                "SELECT id, seats, _deleted_at FROM raw_hubspot.companies_current ORDER BY ALL"
            )
            answers.add((tuple(rows), tuple(current)))
    assert len(answers) == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_first_list_gives_the_same_rows_whether_its_files_are_compared_or_not(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    files = [
        [
            company(
                str(chance.randint(1, 40)), seats=chance.randint(1, 2), updated=f"2026-10-0{day}T00:00:00"
            )
            for day in chance.choices(range(1, 4), k=chance.choice((1, 3, 20)))
        ]
        if chance.random() < 0.5
        else [company(str(number)) for number in range(100 * part, 100 * part + 20)]
        for part in range(4)
    ]
    named = {record["id"] for file in files for record in file}
    gone = set(chance.sample(sorted(named), k=len(named) // 10))
    found = []
    for times in (32, -1):
        monkeypatch.setattr(loader_module, "_FIRST_TIMES", times)
        folder = tmp_path / str(times)
        folder.mkdir()
        with run(folder) as one:
            landed = [one.land(COMPANIES, file, str(part)) for part, file in enumerate(files)]
            for file in landed:
                one.loader.load_file(COMPANIES, file)
            first = one.loader.finish_stream(
                COMPANIES, landed, StreamResult("hubspot", "companies", "complete"), 0.2
            )
        with run(folder, DAY + timedelta(days=1)) as two:
            second = two.take(COMPANIES, [company(i, seats=9) for i in sorted(named - gone)])
            rows = two.rows("SELECT * EXCLUDE (_run_id) FROM raw_hubspot.companies ORDER BY ALL")
        assert (first.deleted, second.deleted) == (0, len(gone))
        found.append((first.inserted, second.inserted, rows))
    assert found[0] == found[1]


def test_a_first_list_is_appended_without_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    real = RawLoader._incoming

    def noting(self: RawLoader, stream: RawStream, *rest: Any) -> str:
        compared.append(stream.table)
        return real(self, stream, *rest)

    monkeypatch.setattr(RawLoader, "_incoming", noting)
    with run(tmp_path) as one:
        assert one.load_records(COMPANIES, [company("1"), company("2")], "0") == 2
        assert one.load_records(COMPANIES, [company("3")], "1") == 1
        assert compared == []
        assert one.load_records(COMPANIES, [company("3"), company("4")], "2") == 1
        assert compared == ["companies"]


def test_a_record_that_is_gone_is_deleted_and_one_that_is_back_is_live_again(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company(str(i)) for i in range(10)])
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        result = two.take(COMPANIES, [company(str(i)) for i in range(9)])
        assert (result.inserted, result.deleted) == (0, 1)
        gone = close_of(DAY + timedelta(days=1)) - timedelta(microseconds=1)
        assert two.rows(
            "SELECT id, name, _deleted_at, _recorded_at FROM raw_hubspot.companies_current "
            "WHERE _deleted_at IS NOT NULL"
        ) == [("9", "Acme", gone, gone)]
    with run(tmp_path, DAY + timedelta(days=1)) as again:
        assert again.take(COMPANIES, [company(str(i)) for i in range(9)]).deleted == 0
    with run(tmp_path, DAY + timedelta(days=2)) as three:
        assert three.take(COMPANIES, [company(str(i)) for i in range(10)]).inserted == 1
        assert three.rows("SELECT count(*) FROM raw_hubspot.companies_current WHERE _deleted_at IS NULL") == [
            (10,)
        ]
    with run(tmp_path, DAY + timedelta(days=3)) as four:
        assert four.take(COMPANIES, [company(str(i)) for i in range(10)]).inserted == 0


def test_a_list_that_shrank_too_much_is_refused_and_nothing_is_deleted(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company(str(i)) for i in range(10)])
    with run(tmp_path) as two:
        with pytest.raises(DataRefusedError, match=r"listed 7 companies where 10 were live.*--accept-shrink"):
            two.take(COMPANIES, [company(str(i)) for i in range(7)])
        assert two.rows("SELECT count(*) FROM raw_hubspot.companies_current WHERE _deleted_at IS NULL") == [
            (10,)
        ]
    with run(tmp_path) as three:
        assert three.take(COMPANIES, [company(str(i)) for i in range(8)]).deleted == 2, "exactly 20 % passes"
    with run(tmp_path) as four:
        assert four.take(COMPANIES, [], accept_shrink=True).deleted == 8
    with run(tmp_path) as five:
        assert five.take(COMPANIES, []).deleted == 0


def test_an_empty_list_is_refused_where_records_were_known(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1")])
    with run(tmp_path) as two, pytest.raises(DataRefusedError, match="listed 0 companies where 1"):
        two.take(COMPANIES, [])


def test_a_list_in_large_files_counts_as_seen_whole(tmp_path: Path) -> None:
    """DuckDB lost every key when a file held more than a row group of its records (122,880) and was compared."""
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1"), company("gone"), *(company(str(n)) for n in range(2, 9))])
    many = [company(str(n)) for n in range(1, 130_001)]
    with run(tmp_path) as one:
        files = [one.land(COMPANIES, many, "0"), one.land(COMPANIES, [company("0")], "1")]
        assert [one.loader.load_file(COMPANIES, file) for file in files] == [130_000 - 8, 1]
        result = StreamResult("hubspot", "companies", "complete", len(many) + 1)
        assert one.loader.finish_stream(COMPANIES, files, result, 0.2).deleted == 1
        assert one.rows(f"SELECT id FROM ({CURRENT}) WHERE _deleted_at IS NOT NULL") == [("gone",)]


def test_an_incomplete_stream_deletes_nothing(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1"), company("2")])
    with run(tmp_path) as two:
        file = two.land(COMPANIES, [company("1")])
        two.loader.load_file(COMPANIES, file)
        failed = StreamResult("hubspot", "companies", "failed", 1, message="the source went away")
        assert two.loader.finish_stream(COMPANIES, [file], failed, 0.2).deleted == 0
        assert two.rows("SELECT status, message FROM _ledger.streams ORDER BY run_id") == [
            ("complete", ""),
            ("failed", "the source went away"),
        ]


def test_what_a_first_attempt_saw_does_not_count_for_the_second(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1"), company("2"), company("3")])
    with RunLock(tmp_path) as lock, Warehouse.in_folder(tmp_path).connect() as connection:
        deleted = []
        for ids in (("1", "2", "3"), ("1", "2")):
            load, fence = ledger.begin_run(
                connection, lock, tmp_path / "build.duckdb.state", DAY, close_of(DAY)
            )
            loader = RawLoader(connection, fence, load, tmp_path / "landing")
            attempt = Run(Warehouse.in_folder(tmp_path), connection, load, fence, loader)
            file = attempt.land(COMPANIES, [company(i) for i in ids])
            loader.load_file(COMPANIES, file)
            if len(ids) == 2:
                complete = StreamResult("hubspot", "companies", "complete", 2)
                deleted.append(loader.finish_stream(COMPANIES, [file], complete, 0.5).deleted)
    assert deleted == [1]


def test_a_part_that_the_list_could_not_name_is_left_alone(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1"), company("2"), company("10"), company("11")])
    with run(tmp_path) as two:
        partial = replace(COMPANIES, snapshot_where="starts_with(id, '1')")
        assert two.take(partial, [company("1"), company("10")], max_shrink=0.4).deleted == 1
        assert two.rows("SELECT id FROM raw_hubspot.companies_current WHERE _deleted_at IS NOT NULL") == [
            ("11",)
        ]


def test_an_archived_record_that_is_restored_unchanged_is_live_again(tmp_path: Path) -> None:
    archivable = replace(
        COMPANIES,
        json_columns={**COMPANIES.json_columns, "archivedAt": "TIMESTAMP"},
        select=COMPANIES.select + ", r.archivedAt AS _archived_at",
    )
    live = company("1", updated="2026-10-01T00:00:00")
    states = []
    for day, record in enumerate((live, {**live, "archivedAt": "2026-11-01T05:00:00"}, live, live)):
        with run(tmp_path, DAY + timedelta(days=day)) as one:
            inserted = one.take(archivable, [record]).inserted
            [(archived,)] = one.rows("SELECT _archived_at FROM raw_hubspot.companies_current")
            states.append((inserted, archived))
    assert states == [(1, None), (1, datetime(2026, 11, 1, 5)), (1, None), (0, None)]


def test_a_new_column_is_added_and_one_that_is_no_longer_sent_stays_empty(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1"), company("2")])
    wider = replace(
        COMPANIES,
        columns={"id": "VARCHAR", "name": "VARCHAR", 'tier"; --': "VARCHAR"},
        select="r.id, r.properties->>'name' AS name, r.properties->>'tier' AS \"tier\"\"; --\", "
        "r.updatedAt AS _changed_at",
    )
    with run(tmp_path) as two:
        changed = company("1", updated="2026-10-09T00:00:00")
        changed["properties"]["tier"] = "A"
        two.take(wider, [changed, company("2")])
        assert two.rows('SELECT id, seats, "tier""; --" FROM raw_hubspot.companies_current ORDER BY id') == [
            ("1", None, "A"),
            ("2", None, None),
        ]
        assert two.rows("SELECT seats FROM raw_hubspot.companies WHERE id = '1' ORDER BY _changed_at")[0] == (
            "10",
        )


def test_an_added_column_without_values_makes_no_new_versions(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1")])
    wider = replace(
        COMPANIES,
        columns={**COMPANIES.columns, "note": "VARCHAR"},
        select=COMPANIES.select + ", NULL AS note",
    )
    with run(tmp_path) as two:
        assert two.take(wider, [company("1")]).inserted == 0


def test_a_column_whose_type_changed_keeps_its_old_values_as_text(tmp_path: Path) -> None:
    numeric = replace(OWNERS, columns={"id": "VARCHAR", "n": "BIGINT"}, select="r.id, r.email::BIGINT AS n")
    with run(tmp_path) as one:
        one.take(numeric, [{"id": "1", "email": "5"}, {"id": "2", "email": "7"}])
    text = replace(OWNERS, columns={"id": "VARCHAR", "n": "VARCHAR"}, select="r.id, r.email AS n")
    with run(tmp_path) as two:
        assert two.take(text, [{"id": "1", "email": "five"}, {"id": "2", "email": "7"}]).inserted == 1
        assert two.rows("SELECT id, n FROM raw_hubspot.owners_current ORDER BY id") == [
            ("1", "five"),
            ("2", "7"),
        ]


def test_columns_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    twin = replace(OWNERS, columns={"id": "VARCHAR", "Email": "VARCHAR", "email": "VARCHAR"})
    with (
        run(tmp_path) as one,
        pytest.raises(DataRefusedError, match="differ only in case, 'Email' and 'email'"),
    ):
        one.loader.ensure_tables(twin)


def test_a_broken_line_is_named_and_nothing_of_the_file_is_kept(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        file = one.land(OWNERS, [{"id": str(i), "email": "x"} for i in range(5)])
        content = zstandard.ZstdDecompressor().stream_reader(file.path.read_bytes()).read()
        lines = content.split(b"\n")
        lines[2] = b'{"id": "2", "email"'
        file.path.write_bytes(zstandard.compress(b"\n".join(lines)))
        with pytest.raises(DataRefusedError, match=r"Line 3 of the landing file .*0-00000.ndjson.zst"):
            one.loader.load_file(OWNERS, file)
        assert one.rows("SELECT count(*) FROM raw_hubspot.owners") == [(0,)]
        assert one.rows("SELECT count(*) FROM _ledger.files") == [(0,)]


def test_a_file_that_lost_records_is_refused(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        file = one.land(OWNERS, [{"id": "1", "email": "x"}, {"id": "2", "email": "x"}])
        file.path.write_bytes(zstandard.compress(b'{"id":"1"}\n'))
        with pytest.raises(DataRefusedError, match="written with 2 records and now holds 1"):
            one.loader.load_file(OWNERS, file)


def test_a_record_without_a_key_is_refused(tmp_path: Path) -> None:
    with (
        run(tmp_path) as one,
        pytest.raises(DataRefusedError, match=r"1 record\(s\) of hubspot owners .* have no id"),
    ):
        one.load_records(OWNERS, [{"id": None, "email": "x"}, {"id": "2", "email": "x"}])


def test_events_are_inserted_once_and_never_deleted(tmp_path: Path) -> None:
    history = RawStream(
        source="hubspot",
        object="companies",
        table="property_history",
        json_columns={"id": "VARCHAR", "history": 'STRUCT("at" TIMESTAMP, value VARCHAR)[]'},
        columns={"id": "VARCHAR", "changed_at": "TIMESTAMP", "value": "VARCHAR"},
        select='r.id, h."at" AS changed_at, h.value, h."at" AS _changed_at',
        from_clause="landed AS r, unnest(r.history) AS t(h)",
        key=("id", "changed_at"),
        kind="events",
    )
    both = replace(COMPANIES, also=(history,))
    record = company("1", history=[{"at": "2026-10-01T00:00:00", "value": "a"}])
    with run(tmp_path) as one:
        assert one.take(both, [record]).inserted == 2
        publish_day(one)
    record["history"].append({"at": "2026-10-02T00:00:00", "value": "b"})
    with run(tmp_path, date(2026, 11, 1)) as two:
        assert two.take(both, [record]).inserted == 1
        assert two.rows(
            "SELECT value, _changed_at, _recorded_at FROM raw_hubspot.property_history ORDER BY 1"
        ) == [
            ("a", datetime(2026, 10, 1), datetime(2026, 10, 1)),
            ("b", datetime(2026, 10, 2), close_of(DAY)),
        ]


def test_text_of_every_kind_comes_back_as_it_was(tmp_path: Path) -> None:
    names = [
        "",
        " ",
        "a'b\"c",
        "\u202eabc",
        "e\u0301",
        "\u00e9",
        "\U0001f984",
        "a\u0000b",
        "x" * 1_000_000,
        "=1+1",
    ]
    with run(tmp_path) as one:
        one.take(OWNERS, [{"id": str(i), "email": name} for i, name in enumerate(names)])
        assert [row[0] for row in one.rows("SELECT email FROM raw_hubspot.owners ORDER BY id::INT")] == names
    with run(tmp_path) as two:
        assert two.take(OWNERS, [{"id": str(i), "email": name} for i, name in enumerate(names)]).inserted == 0
