"""Associations by full sweep: 1,000 records a request, every pair, every run.

An association that comes or goes changes no record's last-modified date, so nothing but asking for all of them shows
it; the warehouse turns two sweeps into what was added and what was removed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from hub_pipeline.settings import HubSpotObject
from hub_pipeline.sources.hubspot import streams as tables
from hub_pipeline.sources.hubspot.client import ASSOCIATION_BATCH, AssociationFrom, PartialError
from hub_pipeline.sources.hubspot.covers import Cover, Covers, PageWriter, covered
from hub_pipeline.sources.hubspot.pages import endless, wrapped
from hub_pipeline.sources.hubspot.plan import text
from hub_pipeline.sources.hubspot.records import Run, in_parts
from hub_pipeline.sources.hubspot.reference import Yielded
from hub_pipeline.sources.hubspot.spread import Shared, spread
from hub_pipeline.sources.transport import ForbiddenError, RejectedError, Tally
from hub_pipeline.warehouse.landing import LandedFile, unfinished
from hub_pipeline.warehouse.raw import StreamResult

NAME = "associations"

_FROM = msgspec.json.Decoder(AssociationFrom)


@dataclass
class Pair:
    """Associations of one pair of objects.

    Attributes:
        complete: all of them were read; if not, what was known of the pair stays.
        message: what could not be read.
    """

    source: str
    target: str
    files: list[LandedFile] = field(default_factory=list)
    complete: bool = True
    message: str = ""


class AssociationSweep:
    """Sweeps the associations of one portal in one run.

    Args:
        run: the run.
        objects: the configured objects.
        pairs: (from, to) by object name.
    """

    def __init__(self, run: Run, objects: dict[str, HubSpotObject], pairs: Sequence[tuple[str, str]]) -> None:
        self._run = run
        self._objects = objects
        self._pairs = pairs
        self._tally = Tally()
        # Every complete sweep gives the next one another key, so it goes on from what was not brought to an end only.
        self._key = str(run.known.state(tables.SOURCE, NAME).get("swept_at"))

    def from_object(self, source: str, ids: Sequence[str] | None) -> list[Pair]:
        """Read all pairs that start from an object.

        Args:
            source: name of the object.
            ids: its live records; None: as the warehouse knows them, which is then up to date.
        """
        wanted = [pair for pair in self._pairs if pair[0] == source]
        if not wanted:
            return []
        if ids is None:
            known = self._run.known.live_ids(tables.SOURCE, source, ASSOCIATION_BATCH)
            # Text of 1,000 ids takes a fifth of the memory of a list of them.
            batches = [",".join(batch).encode() for batch in known]
        else:
            batches = [
                ",".join(batch).encode() for batch in in_parts(list(dict.fromkeys(ids)), ASSOCIATION_BATCH)
            ]
        return [self._pair(source, target, batches) for _, target in wanted]

    def result(self, pairs: Sequence[Pair], read: Iterable[str], seconds: float) -> Yielded:
        """The one stream of all pairs.

        Args:
            pairs: what `from_object` gave.
            read: objects that were read; others say nothing about their associations.
            seconds: how long it took.
        """
        order = {pair: number for number, pair in enumerate(self._pairs)}
        ordered = sorted(pairs, key=lambda p: order[p.source, p.target])
        sources = set(read)
        files = [file for pair in ordered for file in pair.files]
        return (
            tables.associations_stream(
                [(p.source, p.target) for p in ordered if p.complete and p.source in sources]
            ),
            files,
            StreamResult(
                tables.SOURCE,
                NAME,
                "complete",
                records=sum(file.records for file in files),
                requests=self._tally.requests,
                seconds=seconds,
                message="; ".join(
                    p.message for p in ordered if not p.complete and p.message and p.source in sources
                ),
                state={"swept_at": text(self._run.started)},
            ),
        )

    def _pair(self, source: str, target: str, batches: Sequence[bytes]) -> Pair:
        run = self._run
        pair = Pair(source, target)
        position = {"plan": self._key, "pair": [source, target]}
        if run.remembers:
            files = unfinished(run.root, tables.SOURCE, NAME, run.load)
            pair.files = [file for file in files if position.items() <= (file.position or {}).items()]
        writer = PageWriter(run.root, NAME, run.load, f"{source}-{target}", position)
        waiting = Shared(_unread(batches, covered(pair.files)))
        unread: list[str] = []
        lock = threading.Lock()

        def work() -> None:
            for ids, cover in waiting:
                failed = self._batch(writer, source, target, ids)
                with lock:
                    unread.extend(failed)
                if not failed:
                    writer.write(b"", 0, cover)

        try:
            with writer:
                spread(min(run.settings.workers, len(batches)), work, waiting.stop)
                again = [
                    failed
                    for part in in_parts(unread, ASSOCIATION_BATCH)
                    for failed in self._batch(writer, source, target, part)
                ]
        except (ForbiddenError, RejectedError) as error:
            if not (self._objects[source].optional or self._objects[target].optional):
                raise
            pair.files += writer.files
            pair.complete, pair.message = False, str(error)
            return pair
        pair.files += writer.files
        if again:
            shown = ", ".join(again[:5]) + (" and more" if len(again) > 5 else "")
            types = f"{self._objects[source].object_type} to {self._objects[target].object_type}"
            pair.complete = False
            pair.message = f"{types}: {len(again)} records could not be read ({shown})"
        return pair

    def _batch(self, writer: PageWriter, source: str, target: str, ids: Sequence[str]) -> list[str]:
        """Land the associations of some records, page after page; returns the ids that failed."""
        source_type, target_type = self._objects[source].object_type, self._objects[target].object_type
        failed: list[str] = []
        asked: set[tuple[str, str]] = set()
        inputs = [{"id": i} for i in ids]
        while inputs:
            reply = self._run.client.associations(source_type, target_type, inputs, self._tally)
            lines = wrapped(reply.results, from_object=source, to_object=target)
            writer.write(lines, len(reply.results))
            self._run.progress.advance(tables.SOURCE, NAME, len(reply.results))
            failed += _failed_ids(reply.errors)
            inputs = []
            for row in map(_FROM.decode, reply.results):
                after = row.paging.next.after if row.paging and row.paging.next else None
                if after is not None:
                    if (row.source.id, after) in asked:
                        raise endless(f"associations of {source} and {target}")
                    asked.add((row.source.id, after))
                    inputs.append({"id": row.source.id, "after": after})
        return failed


def _unread(batches: Iterable[bytes], read: Covers) -> Iterator[tuple[list[str], Cover | None]]:
    """The batches without what has been read before, each with the range of ids it covers (they ascend)."""
    before = 0
    for batch in batches:
        ids = batch.decode().split(",")
        numeric = ids[-1].isdigit() and int(ids[-1]) > before
        cover = (before, int(ids[-1])) if numeric else None
        if numeric:
            before = int(ids[-1])
        wanted = [i for i in ids if not (i.isdigit() and read.holds(int(i)))]
        if wanted:
            yield wanted, cover


def _failed_ids(errors: Sequence[PartialError]) -> list[str]:
    """Ids of a 207 answer that could not be read. Having no associations is not a failure."""
    return [
        record_id
        for error in errors
        if "NO_ASSOCIATIONS_FOUND" not in (error.subCategory or "") and error.category != "OBJECT_NOT_FOUND"
        for record_id in (error.context.fromObjectId or error.context.ids)
    ]
