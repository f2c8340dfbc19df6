"""What a source may ask the warehouse, and the ways of reading that depend on the answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hub_pipeline.errors import DataRefusedError
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline.warehouse.known import WarehouseKnown
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline.warehouse.raw import RawStream, StreamResult
from hub_pipeline.warehouse.rebuild import rebuild
from hub_pipeline_tests.warehouse.support import COMPANIES, DAY, Run, company, publish_day, run

#: Companies as an incremental read sends them: with their archived ones and their merges.
CHANGED = replace(
    COMPANIES,
    snapshot=False,
    json_columns={**COMPANIES.json_columns, "archivedAt": "TIMESTAMP", "merged": "VARCHAR[]"},
    select=COMPANIES.select.replace("r.updatedAt AS", "greatest(r.updatedAt, r.archivedAt) AS")
    + ", r.archivedAt AS _archived_at",
    also=(
        RawStream(
            source="hubspot",
            object="companies",
            table="merges",
            json_columns={"id": "VARCHAR", "merged": "VARCHAR[]"},
            columns={"object": "VARCHAR", "loser_id": "VARCHAR", "winner_id": "VARCHAR"},
            select="'companies' AS object, m.loser AS loser_id, r.id AS winner_id",
            from_clause="landed AS r, unnest(r.merged) AS m(loser)",
            key=("object", "loser_id", "winner_id"),
            kind="events",
            merges="companies",
        ),
    ),
)
CENSUS = RawStream(
    source="hubspot",
    object="companies_census",
    table="companies",
    json_columns={"id": "VARCHAR"},
    columns={"id": "VARCHAR"},
    select="r.id",
    kind="census",
)
STATES = (
    "SELECT id, _archived_at IS NOT NULL, _deleted_at IS NOT NULL, _merged_into "
    "FROM raw_hubspot.companies_current ORDER BY id"
)


def end(one: Run, stream: RawStream, state: dict[str, Any] | None, status: Any = "complete") -> None:
    """End a stream without files."""
    one.loader.finish_stream(
        replace(stream, snapshot=False), [], StreamResult("hubspot", stream.object, status, state=state), 0.2
    )


def ids(*numbers: int) -> list[dict[str, str]]:
    """Lines of a census."""
    return [{"id": str(number)} for number in numbers]


def test_the_state_of_the_last_complete_run_comes_back_also_from_a_warehouse_rebuilt_from_landing(
    tmp_path: Path,
) -> None:
    state = {"watermark": "2026-10-31T23:45:00", "census": {"count": 7}}
    with run(tmp_path) as one:
        assert WarehouseKnown(one.connection).state("hubspot", "companies") == {}
        one.load_records(COMPANIES, [company("1")])
        end(one, COMPANIES, state)
    with run(tmp_path) as two:
        end(two, COMPANIES, {"watermark": "too far"}, "failed")
        assert WarehouseKnown(two.connection).state("hubspot", "companies") == state
    with run(tmp_path) as three:
        end(three, COMPANIES, None)
        assert WarehouseKnown(three.connection).state("hubspot", "companies") == state, "None: as it was"
        assert WarehouseKnown(three.connection).state("hubspot", "contacts") == {}
    (tmp_path / "build.duckdb").unlink()
    with RunLock(tmp_path) as lock:
        rebuild(Warehouse.in_folder(tmp_path), lock)
    with run(tmp_path) as four:
        assert WarehouseKnown(four.connection).state("hubspot", "companies") == state


def test_a_stream_that_is_not_committed_leaves_no_state(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.connection.execute("BEGIN")
        other = WarehouseKnown(one.connection)
        assert other.state("hubspot", "companies") == {}
        one.connection.execute("ROLLBACK")
        one.take(COMPANIES, [company("1"), company("2")])
        one.connection.execute("UPDATE _ledger.lock SET token = token + 1")
        with pytest.raises(Exception, match="taken over"):
            end(one, COMPANIES, {"watermark": 1})
        assert other.state("hubspot", "companies") == {}


def test_live_and_archived_ids_are_told_in_the_order_of_numbers_from_any_thread(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        known = WarehouseKnown(one.connection)
        assert (known.live_count("hubspot", "companies"), known.archived_ids("hubspot", "companies")) == (
            0,
            [],
        )
        assert list(known.live_ids("hubspot", "companies", 2)) == []
        one.load_records(
            CHANGED,
            [company(i) for i in ("10", "9", "x", "100")]
            + [company("7", archivedAt="2026-10-05T00:00:00"), company("8", merged=["100"])],
        )
        end(one, CHANGED, None)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: list(known.live_ids("hubspot", "companies", 2)), range(8)))
        assert answers == [[["8", "9"], ["10", "x"]]] * 8
        assert known.archived_ids("hubspot", "companies") == ["7"]
        assert known.live_count("hubspot", "companies") == 4


def test_an_incremental_read_deletes_nobody_and_the_census_deletes_who_is_not_named(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company(str(i)) for i in range(10)])
        publish_day(one)
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        assert two.take(CHANGED, [company("3", seats=4, updated="2026-11-01T09:00:00")]).deleted == 0
        done = two.take(CENSUS, ids(*range(9)))
        assert (done.inserted, done.deleted) == (0, 1)
        assert two.rows("SELECT id FROM raw_hubspot.companies_current WHERE _deleted_at IS NOT NULL") == [
            ("9",)
        ]
    before = fingerprint(tmp_path / "build.duckdb")["raw_hubspot.companies"]
    with RunLock(tmp_path) as lock:
        rebuild(Warehouse.in_folder(tmp_path), lock)
    assert fingerprint(tmp_path / "build.duckdb")["raw_hubspot.companies"] == before


def test_a_record_made_while_the_census_is_taken_is_not_taken_for_deleted(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company(str(i)) for i in range(10)])
    with run(tmp_path) as two:
        two.take(CHANGED, [company("5000", updated="2026-10-31T23:00:00")])
        assert two.take(CENSUS, ids(*range(10))).deleted == 0
    with run(tmp_path) as three:
        assert three.take(CENSUS, ids(*range(10))).deleted == 1, "the next census knows better"


def test_a_census_that_is_much_too_short_is_refused(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company(str(i)) for i in range(10)])
    with run(tmp_path) as two:
        with pytest.raises(DataRefusedError, match="listed 7 companies where 10 were live"):
            two.take(CENSUS, ids(*range(7)))
        assert WarehouseKnown(two.connection).live_count("hubspot", "companies") == 10
    with run(tmp_path) as three:
        assert three.take(CENSUS, ids(*range(7)), accept_shrink=True).deleted == 3


@pytest.mark.parametrize("stream", [COMPANIES, CENSUS], ids=["snapshot", "census"])
def test_a_run_that_goes_on_from_the_files_of_a_killed_one_counts_them(
    tmp_path: Path, stream: RawStream
) -> None:
    records = [company(str(i)) for i in range(10)]
    with run(tmp_path) as one:
        one.take(COMPANIES, records)
        publish_day(one)
    with run(tmp_path, DAY + timedelta(days=1)) as dead:
        first = dead.land(stream, records[:6], "first")
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        rest = two.land(stream, records[6:9], "rest")
        two.loader.load_missing(stream)
        two.loader.load_file(stream, rest)
        result = StreamResult("hubspot", stream.object, "complete", 9)
        assert two.loader.finish_stream(stream, [first, rest], result, 0.2).deleted == 1
        assert dead.load.run_id != two.load.run_id
    before = fingerprint(tmp_path / "build.duckdb")["raw_hubspot.companies"]
    with RunLock(tmp_path) as lock:
        rebuild(Warehouse.in_folder(tmp_path), lock)
    assert fingerprint(tmp_path / "build.duckdb")["raw_hubspot.companies"] == before


def test_the_loser_of_a_merge_points_at_the_winner_and_is_not_deleted(tmp_path: Path) -> None:
    full = replace(CHANGED, snapshot=True)
    with run(tmp_path) as one:
        one.take(full, [company("1"), company("2"), company("3"), company("4"), company("5")])
        publish_day(one)
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        winner = company("1", updated="2026-11-01T09:00:00", merged=["2", "3", "unknown"])
        done = two.take(full, [winner, company("4"), company("5")], max_shrink=0.5)
        assert done.deleted == 0
        expected = [
            ("1", False, False, None),
            ("2", False, False, "1"),
            ("3", False, False, "1"),
            ("4", False, False, None),
            ("5", False, False, None),
        ]
        assert two.rows(STATES) == expected
        assert two.rows("SELECT DISTINCT name FROM raw_hubspot.companies WHERE id = '2'") == [("Acme",)]
    with run(tmp_path, DAY + timedelta(days=2)) as three:
        assert three.take(full, [winner, company("4"), company("5")]).inserted == 0
        assert three.rows("SELECT count(*) FROM raw_hubspot.companies") == [(8,)]
        assert three.rows(STATES) == expected


@pytest.mark.parametrize("gone", ["archived", "deleted"])
def test_a_restored_record_is_live_again_although_its_own_time_has_not_moved(
    tmp_path: Path, gone: str
) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company(str(i)) for i in range(10)])
        publish_day(one)
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        if gone == "archived":
            two.take(CHANGED, [company("9", archivedAt="2026-11-01T12:00:00")])
        else:
            two.take(CENSUS, ids(*range(9)))
        assert WarehouseKnown(two.connection).live_count("hubspot", "companies") == 9
        publish_day(two, DAY + timedelta(days=1))
    for later in (2, 3):
        with run(tmp_path, DAY + timedelta(days=later)) as three:
            three.take(CHANGED, [company("9")])
            assert WarehouseKnown(three.connection).live_count("hubspot", "companies") == 10
            assert three.rows("SELECT count(*) FROM raw_hubspot.companies WHERE id = '9'") == [(3,)]


def test_a_build_file_of_the_first_version_gets_what_it_lacks(tmp_path: Path) -> None:
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1")])
        for statement in (
            "ALTER TABLE _ledger.streams DROP COLUMN state",
            "DROP TABLE _ledger.erasures",
            "UPDATE _ledger.schema_version SET version = 1",
        ):
            one.connection.execute(statement)
    with run(tmp_path) as two:
        end(two, COMPANIES, {"watermark": 1})
        assert WarehouseKnown(two.connection).state("hubspot", "companies") == {"watermark": 1}
        assert two.rows("SELECT version FROM _ledger.schema_version") == [(2,)]
        assert two.rows("SELECT count(*) FROM _ledger.erasures") == [(0,)]
