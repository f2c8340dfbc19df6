"""What a source tells the warehouse about one stream of records: the contract between sources/ and warehouse/.

A source lands NDJSON and describes it here; `hub_pipeline.warehouse.loader` turns files into append-only versions
without knowing anything about the source.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class RawStream:
    """One object of a source: how its lines are read and what one version of a record is.

    The raw table is ``raw_<source>.<table>`` with the key columns, the payload columns (both from ``columns``, in
    order), then ``_changed_at, _recorded_at, _archived_at, _deleted_at, _merged_into, _hash, _run_id``.
    A version is appended only if its payload or state differs from the latest version of the same key, so loading
    the same records twice changes nothing. Column names are quoted by the loader; any text is a legal name.

    Attributes:
        source: ``hubspot`` | ``intercom`` | ``billing``.
        object: name of the object; the folder of its landing files.
        table: name of the raw table, usually the same.
        json_columns: top-level JSON key -> DuckDB type, given to read_json so that nothing is guessed. Streams of
            ``also`` see those of all streams of their files, their own first.
        columns: raw column -> DuckDB type (key columns first). New columns are added to an existing table; a
            column that is no longer sent stays and is NULL from then on.
        select: SELECT list over the alias ``r`` (the JSON row) that yields exactly ``columns`` by name, and may
            yield ``_changed_at``, ``_created_at``, ``_archived_at``, ``_deleted_at`` (TIMESTAMP, UTC) and
            ``_merged_into`` (VARCHAR). Without ``_changed_at`` the change time is close(as_of) - 1 microsecond.
            The first version of a key is dated by ``_created_at`` when given.
        from_clause: what follows FROM; ``landed`` is the name of the JSON rows and stands in it once. Lets a stream unnest lists,
            e.g. ``landed AS r, unnest(r.items) AS t(item)``. Default ``landed AS r``.
        key: columns that identify a record.
        kind: ``versions``: as above. ``events``: immutable rows, INSERT of keys not yet there (property history,
            conversation parts); no tombstones. ``census``: its lines only name the live records of ``table``
            (``select`` yields the key columns); no version is appended, and the end of a complete stream deletes
            the live keys that were not named, exactly as a snapshot does.
        snapshot: a complete run lists every live record, so a live key that is absent is deleted at
            close(as_of) - 1 microsecond, once the stream has ended cleanly and passed the shrink guard.
        snapshot_where: which live keys the list could have named, as a condition on the table's columns; empty =
            all. Lets a stream of which a part could not be read leave that part alone.
        merges: for ``events`` with columns ``loser_id`` and ``winner_id``: the table (key ``id``) whose losers get a
            version with ``_merged_into``, dated by the run that first saw the merge.
        guarded: a complete list that is much shorter than what was live is refused (shrink guard). False where
            people rightly empty a list, such as the members of a team.
        also: further streams read from the same files in the same transaction.
        comment: what the table holds, for COMMENT ON TABLE.
    """

    source: str
    object: str
    table: str
    json_columns: dict[str, str]
    columns: dict[str, str]
    select: str
    key: tuple[str, ...] = ("id",)
    from_clause: str = "landed AS r"
    kind: Literal["versions", "events", "census"] = "versions"
    snapshot: bool = True
    snapshot_where: str = ""
    guarded: bool = True
    merges: str = ""
    also: tuple[RawStream, ...] = field(default=())
    comment: str = ""


@dataclass(frozen=True)
class StreamResult:
    """What one stream of one run did; becomes asset metadata, the closing summary and ``hub.freshness``."""

    source: str
    object: str
    status: Literal["complete", "forbidden", "failed", "not_configured", "not_read"]
    records: int = 0  # records read from the source
    inserted: int = 0  # versions appended
    deleted: int = 0  # tombstones appended
    quarantined: int = 0
    requests: int = 0
    seconds: float = 0.0
    message: str = ""  # why it is not complete, for people
    state: Mapping[str, Any] | None = (
        None  # JSON that `Known.state` answers from the stream's commit on; None = as it was
    )


class Known(Protocol):
    """What the warehouse knows of a source before and while it is read; safe to ask from any thread."""

    def state(self, source: str, object_name: str) -> Mapping[str, Any]:
        """What the last complete run of the stream left in `StreamResult.state`; empty before the first."""

    def live_count(self, source: str, table: str) -> int:
        """Records of a raw table that are neither archived, deleted nor merged away."""

    def archived_ids(self, source: str, table: str, since: datetime | None = None) -> list[str]:
        """Ids of records that are archived and not deleted, of those archived at or after `since` (UTC) if given."""

    def live_ids(self, source: str, table: str, size: int) -> Iterator[list[str]]:
        """Ids of live records, ascending as numbers where they are numbers, in lists of at most `size`."""

    def companies_in_tiers(self, tiers: Collection[str]) -> list[str] | None:
        """Intercom's ids of the companies whose organisations were in these tiers on the last day that was built.

        None before the first such day: then nobody can say.
        """


class NothingKnown:
    """An empty warehouse: everything is read in full."""

    def state(self, source: str, object_name: str) -> Mapping[str, Any]:
        return {}

    def live_count(self, source: str, table: str) -> int:
        return 0

    def archived_ids(self, source: str, table: str, since: datetime | None = None) -> list[str]:
        return []

    def live_ids(self, source: str, table: str, size: int) -> Iterator[list[str]]:
        return iter(())

    def companies_in_tiers(self, tiers: Collection[str]) -> list[str] | None:
        return None
