"""All ids of an object compared with those of the warehouse, both ways.

Privacy deletions and merges leave no trace in any list, and the search index may have shown a record too late. When
HubSpot's own count of records disagrees with the warehouse, or enough days have passed, all ids are listed: records
the warehouse lacks are read, and those it holds and HubSpot does not know any more are marked as deleted.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import msgspec

from hub_pipeline.settings import HubSpotObject
from hub_pipeline.sources.hubspot import streams as tables
from hub_pipeline.sources.hubspot.client import TYPE_IDS, ids_of
from hub_pipeline.sources.hubspot.plan import State, instant, text
from hub_pipeline.sources.hubspot.records import ObjectReader, Run, compare_ids
from hub_pipeline.sources.hubspot.reference import Yielded
from hub_pipeline.sources.transport import Tally
from hub_pipeline.warehouse.erase import CONTACTS
from hub_pipeline.warehouse.raw import RawStream, StreamResult
from hub_pipeline.warehouse.tombstones import Tombstones


def census_name(name: str) -> str:
    """Name of the stream of an object's census."""
    return f"{name}_census"


def why_census(
    run: Run, name: str, config: HubSpotObject, state: State, usage: Mapping[str, int]
) -> str | None:
    """Why the ids of an object must be compared, None if they need not be; asked when its changes are loaded.

    Args:
        run: the run.
        name: of the object.
        config: its settings.
        state: what its reading in this run left.
        usage: HubSpot's count of live records by object type id.
    """
    last = run.known.state(tables.SOURCE, census_name(name))
    counted = usage.get(TYPE_IDS.get(config.object_type, config.object_type))
    if counted is not None:
        live = run.known.live_count(tables.SOURCE, name)
        # What HubSpot counts and does not list (records the token may not see) differs by the same number again.
        if counted - live not in (0, last.get("difference", 0)):
            return f"HubSpot counts {counted:,} records where the warehouse holds {live:,}"
    compared = [t for t in (instant(last.get("census_at")), state.full_at) if t is not None]
    if run.started is not None and compared:
        days = run.settings.census_days
        if run.started - max(compared) >= timedelta(days=days) and max(compared) < run.started:
            return f"the ids were last compared {(run.started - max(compared)).days} days ago"
    return None


def take_census(
    run: Run,
    name: str,
    config: HubSpotObject,
    properties: Sequence[str],
    history: Sequence[str],
    why: str,
    counted: int | None,
) -> Yielded:
    """List all ids, read what the warehouse lacks, and name what is live."""
    started, tally = time.monotonic(), Tally()
    reader = ObjectReader(run, name, config, properties, history, tally, folder=census_name(name))
    numbers = array("q")
    erased = Tombstones.read(run.root) if name == CONTACTS else None

    def names(records: Sequence[msgspec.Raw]) -> bytes:
        ids = ids_of(records)
        if erased:
            # Whoever was erased here and is still in HubSpot is neither read again nor taken for a difference.
            asked = {i for i, reason in erased.known("contact", ids).items() if reason == "requested"}
            ids = [i for i in ids if i not in asked]
        numbers.extend(array("q", map(int, ids)))  # whole pages, because several threads do this
        return b"".join(b'{"id":"%b"}\n' % i.encode() for i in ids)

    reader.read_names(names)
    listed = sorted(set(numbers))
    lacking, absent = compare_ids(listed, run.known.live_ids(tables.SOURCE, name, 10_000))
    found = reader.read_missing(lacking, absent)
    notes = [why]
    if found:
        notes.append(f"{found:,} records were read that the warehouse lacked or that had been archived")
    return (
        census_stream(name, tables.object_stream(name, properties, history)),
        reader.files,
        StreamResult(
            tables.SOURCE,
            census_name(name),
            "complete",
            records=len(listed),
            requests=tally.requests,
            seconds=time.monotonic() - started,
            message="; ".join(notes),
            state={
                "census_at": text(run.started),
                "difference": 0 if counted is None else counted - len(listed),
            },
        ),
    )


def census_stream(name: str, versions: RawStream) -> RawStream:
    """Lines that are whole records are versions of the object as well; the others only name it."""
    also = [
        replace(one, object=census_name(name), also=(), snapshot=False) for one in (versions, *versions.also)
    ]
    also[0] = replace(also[0], from_clause='landed AS r WHERE r."createdAt" IS NOT NULL')
    return RawStream(
        source=tables.SOURCE,
        object=census_name(name),
        table=name,
        json_columns={"id": "VARCHAR"},
        columns={"id": "VARCHAR"},
        select="r.id AS id",
        kind="census",
        also=tuple(also),
        comment=versions.comment,
    )
