"""A data folder with real landing files, for the tests of the warehouse."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.landing import LandedFile, LandingWriter, LoadContext
from hub_pipeline.warehouse.loader import RawLoader
from hub_pipeline.warehouse.lock import Fence, RunLock
from hub_pipeline.warehouse.raw import RawStream, StreamResult

DAY = date(2026, 10, 31)

COMPANIES = RawStream(
    source="hubspot",
    object="companies",
    table="companies",
    json_columns={"id": "VARCHAR", "properties": "JSON", "createdAt": "TIMESTAMP", "updatedAt": "TIMESTAMP"},
    columns={"id": "VARCHAR", "name": "VARCHAR", "seats": "VARCHAR"},
    select=(
        "r.id, r.properties->>'name' AS name, r.properties->>'seats' AS seats, "
        "r.updatedAt AS _changed_at, r.createdAt AS _created_at"
    ),
    comment="Companies as HubSpot sends them",
)

OWNERS = RawStream(
    source="hubspot",
    object="owners",
    table="owners",
    json_columns={"id": "VARCHAR", "email": "VARCHAR"},
    columns={"id": "VARCHAR", "email": "VARCHAR"},
    select="r.id, r.email",
)


def close_of(day: date) -> datetime:
    """The close of a day in UTC."""
    return datetime(day.year, day.month, day.day) + timedelta(days=1)


def company(
    id: str, name: str = "Acme", seats: int = 10, updated: str = "2026-10-01T10:00:00", **more: Any
) -> dict[str, Any]:
    """A company in the shape of the API."""
    return {
        "id": id,
        "properties": {"name": name, "seats": str(seats)},
        "createdAt": "2026-01-05T08:00:00",
        "updatedAt": updated,
        **more,
    }


@dataclass
class Run:
    """One run of the warehouse with its connection open."""

    warehouse: Warehouse
    connection: duckdb.DuckDBPyConnection
    load: LoadContext
    fence: Fence
    loader: RawLoader

    def land(self, stream: RawStream, records: Sequence[dict[str, Any]], part: str = "0") -> LandedFile:
        """Write records as one landing file."""
        with LandingWriter(
            self.warehouse.landing_root, stream.source, stream.object, self.load, part
        ) as writer:
            writer.write(b"".join(json.dumps(r).encode() + b"\n" for r in records), len(records))
        return writer.files[0]

    def load_records(self, stream: RawStream, records: Sequence[dict[str, Any]], part: str = "0") -> int:
        """Land and load."""
        return self.loader.load_file(stream, self.land(stream, records, part))

    def take(self, stream: RawStream, records: Sequence[dict[str, Any]], **options: Any) -> StreamResult:
        """Land, load and finish a complete list of one file."""
        files = []
        if records:
            files.append(self.land(stream, records))
            self.loader.load_file(stream, files[0])
        result = StreamResult(stream.source, stream.object, "complete", len(records))
        return self.loader.finish_stream(stream, files, result, options.pop("max_shrink", 0.2), **options)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        return self.connection.execute(query).fetchall()


@contextmanager
def run(data_dir: Path, day: date = DAY) -> Iterator[Run]:
    """One run under the lock."""
    warehouse = Warehouse.in_folder(data_dir)
    with RunLock(data_dir) as lock, warehouse.connect() as connection:
        load, fence = ledger.begin_run(connection, lock, warehouse.state_path, day, close_of(day))
        yield Run(
            warehouse, connection, load, fence, RawLoader(connection, fence, load, warehouse.landing_root)
        )


def publish_day(one: Run, day: date = DAY) -> None:
    """Commit the publish intent of a day, as far as the loader is concerned a publish."""
    ledger.record_intent(one.connection, one.fence, day, day, close_of(day))


def build_day(one: Run) -> None:
    """Tables and views such as the models make: one staging table, one mart with all days, dependent views."""
    for statement in (
        "CREATE SCHEMA IF NOT EXISTS staging",
        "CREATE SCHEMA IF NOT EXISTS marts",
        "CREATE SCHEMA IF NOT EXISTS hub",
        "CREATE OR REPLACE TABLE staging.organisations AS "
        "SELECT id, name, seats::BIGINT AS seats, _recorded_at AS recorded_at FROM raw_hubspot.companies",
        "CREATE TABLE IF NOT EXISTS marts.organisation_daily "
        "(as_of DATE, known_at DATE, org_id VARCHAR, name VARCHAR, seats BIGINT, reasons VARCHAR[])",
        f"DELETE FROM marts.organisation_daily WHERE as_of = DATE '{one.load.as_of}'",
        f"INSERT INTO marts.organisation_daily SELECT DATE '{one.load.as_of}', DATE '{one.load.as_of}', id, "
        "arg_max(name, recorded_at), arg_max(seats, recorded_at), ['a', 'b'] FROM staging.organisations GROUP BY id",
        "COMMENT ON TABLE marts.organisation_daily IS 'One row for each organisation and day'",
        "CREATE OR REPLACE VIEW hub.z_organisations AS SELECT org_id, seats FROM marts.organisation_daily "
        "WHERE as_of = (SELECT max(as_of) FROM marts.organisation_daily) ORDER BY org_id",
        "COMMENT ON VIEW hub.z_organisations IS 'All organisations; it''s a list'",
        "COMMENT ON COLUMN hub.z_organisations.seats IS 'seats of the day'",
        "CREATE OR REPLACE VIEW hub.a_first AS FROM hub.z_organisations",
        'CREATE OR REPLACE VIEW hub.freshness AS SELECT source, "object", as_of, status, records, message, '
        "data_through FROM _published.freshness ORDER BY as_of, source",
    ):
        one.connection.execute(statement)
