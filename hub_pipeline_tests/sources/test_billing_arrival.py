"""What billing files say is the same in whatever order, by however many runs and however often they arrive.

The truth is worked out here from the rules of docs/billing_ledger.md, statement by statement, for the set of files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hub_pipeline.sources.billing.tables import NEWEST_FIRST
from hub_pipeline_tests.sources.billing_folder import SUBSCRIPTIONS, BillingFolder

FIRST = date(2026, 10, 1)
DAYS = 4
RECORDS = ("a", "b")
#: Hours since the first day at which a row may have changed; the last one is after every file.
HOURS = (-30, 8, 20, 32, 44, 68, 110)

Key = tuple[datetime, bool, int]


@dataclass(frozen=True)
class Line:
    """One row: record, content (None = a row that cannot be read), when it changed (None = not said)."""

    record: str
    content: int | None
    changed_at: datetime | None
    is_deleted: bool


@dataclass(frozen=True)
class File:
    """One extract; `number` orders files of one day and tells all of them apart."""

    day: date
    kind: str
    number: int
    lines: tuple[Line, ...]

    @property
    def seen_at(self) -> datetime:
        return datetime.combine(self.day, datetime.min.time()) + timedelta(days=1, microseconds=-1)

    @property
    def order(self) -> tuple[date, bool, int]:
        return self.day, self.kind == "delta", self.number

    @property
    def good(self) -> list[Line]:
        return [line for line in self.lines if line.content is not None]


@dataclass(frozen=True)
class Shape:
    """A table of the contract as this test writes it."""

    table: str
    header: str
    row: str
    value: str
    absence_is_deletion: bool


CUSTOMERS = Shape("customers", "customer_id,name", "{record},n{content}", "name", True)
PLANS = Shape(
    "subscriptions", "subscription_id,customer_id,status,currency,started_at,plan", "{record},c1,active,USD,2026-01-01,n{content}",
    "plan", True,
)  # fmt: skip
ITEMS = Shape(
    "subscription_items", "subscription_item_id,subscription_id,seat_role,quantity,interval", "{record},s1,seat,{content},month",
    "CAST(quantity AS INTEGER)", True,
)  # fmt: skip
INVOICES = Shape(
    "invoices", "invoice_id,customer_id,status,currency,total_minor,created_at", "{record},c1,open,USD,{content},2026-01-01",
    "total_minor", False,
)  # fmt: skip
ANSWERS = Shape("nps_responses", "response_id,responded_at,score", "{record},2026-01-01,{content}", "score", False)  # fmt: skip


def text(shape: Shape, file: File) -> list[str]:
    """The file as it lies in the folder."""
    lines = [f"{shape.header},updated_at,is_deleted"]
    for line in file.lines:
        written = shape.row.format(record=line.record, content=line.content or 1)
        changed = "" if line.changed_at is None else f"{line.changed_at.isoformat()}Z"
        deleted = "unreadable" if line.content is None else str(line.is_deleted).lower()
        lines.append(f"{written},{changed},{deleted}")
    return lines


def truth(shape: Shape, files: list[File], record: str, at: datetime) -> str | None:
    """Content of a record at an instant by the rules, None where there is none."""
    files = sorted(files, key=lambda f: f.order)
    told: list[tuple[datetime, int]] = []
    timed: dict[datetime, dict[tuple[int | None, bool], list[int]]] = {}
    statements: list[tuple[Key, str, tuple[int | None, bool] | None]] = []
    for rank, file in enumerate(files):
        lines = [line for line in file.good if line.record == record]
        for line in lines:
            content = (line.content, line.is_deleted)
            if line.changed_at is not None:
                timed.setdefault(line.changed_at, {}).setdefault(content, []).append(rank)
                told.append((line.changed_at, rank))
            else:
                told.append((file.seen_at, rank))
                statements.append(((file.seen_at, line.is_deleted, rank), "told", content))
        if file.kind == "full" and lines:
            told.append((file.seen_at, rank))
            if all(line.changed_at is not None for line in lines):
                statements.append(((file.seen_at, False, rank), "listed", None))
    for rank, file in enumerate(files):
        is_left_out = file.kind == "full" and not any(line.record == record for line in file.lines)
        if shape.absence_is_deletion and is_left_out and any(i <= file.seen_at and r < rank for i, r in told):
            statements.append(((file.seen_at, False, rank), "absent", None))
    hold: dict[datetime, tuple[int | None, bool]] = {}
    for changed_at, contents in timed.items():
        hold[changed_at] = max(contents, key=lambda c: (c[1], max(contents[c])))
        statements.append(
            ((changed_at, hold[changed_at][1], min(contents[hold[changed_at]])), "told", hold[changed_at])
        )
    state: str | None = None
    for (instant, _, _), kind, content in sorted(statements, key=lambda s: s[0]):
        if instant > at:
            break
        if kind == "listed":
            known = [changed_at for changed_at in hold if changed_at <= instant]
            if not known:
                continue
            content = hold[max(known)]
        state = None if kind == "absent" or content is None or content[1] else f"{content[0]}"
    return state


def found(shape: Shape, billing: BillingFolder, record: str, at: datetime) -> str | None:
    """The same as the warehouse has it, everything known."""
    key = shape.header.split(",")[0]
    rows = billing.rows(
        f"SELECT CASE WHEN _deleted_at IS NULL THEN ltrim(CAST({shape.value} AS VARCHAR), 'n') END FROM raw_billing.{shape.table} "
        f"WHERE {key} = $record AND _changed_at <= $at ORDER BY {NEWEST_FIRST} LIMIT 1",
        record=record,
        at=at,
    )
    return rows[0][0] if rows else None


def check(
    shape: Shape, files: list[File], arrival: list[int], publishes: list[bool], again: list[int]
) -> None:
    """Let the files arrive one by one, some of them twice, with days published between, and compare with the truth."""
    with tempfile.TemporaryDirectory() as data:
        billing = BillingFolder(Path(data), guards={"max_shrink": "1"})
        try:
            as_of = FIRST
            for n, publish in zip(arrival, publishes, strict=True):
                file = files[n]
                name = f"{shape.table}__{file.day}__{file.kind}__{file.number:03}.csv"
                billing.put(name, text(shape, file))
                billing.run(as_of=as_of, publish=publish)
                as_of += timedelta(days=publish)
            known = versions(shape, billing)
            for n in again:
                file = files[n]
                billing.put(f"{shape.table}__{file.day}__{file.kind}__{900 + n}.csv", text(shape, file))
            billing.run(as_of=as_of)
            assert versions(shape, billing) == known, "files that came before add nothing"
            instants = {datetime.combine(FIRST, datetime.min.time()) + timedelta(hours=h) for h in HOURS}
            instants |= {file.seen_at for file in files} | {i + timedelta(hours=1) for i in instants}
            for record in RECORDS:
                for at in sorted(instants):
                    expected, is_so = truth(shape, files, record, at), found(shape, billing, record, at)
                    assert is_so == expected, f"{record} at {at}: {is_so} and not {expected}"
        finally:
            billing.close()


def versions(shape: Shape, billing: BillingFolder) -> list[tuple[Any, ...]]:
    return billing.rows(f"SELECT count(*), max(_recorded_at) FROM raw_billing.{shape.table}")


@st.composite
def arrivals(
    draw: st.DrawFn, most: int, records: tuple[str, ...] = RECORDS
) -> tuple[list[File], list[int], list[bool], list[int]]:
    """Files that contradict each other in every way, the order in which they arrive, and which of them come again."""
    files = []
    for number in range(draw(st.integers(2, most))):
        kind = draw(st.sampled_from(["full", "full", "delta"]))
        lines: dict[tuple[str, datetime | None], Line] = {}
        for record in records:
            for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
                hours = draw(st.none() | st.sampled_from(HOURS))
                changed = (
                    None
                    if hours is None
                    else datetime.combine(FIRST, datetime.min.time()) + timedelta(hours=hours)
                )
                content = draw(st.sampled_from([1, 2, 3, None] if kind == "full" else [1, 2, 3]))
                line = Line(
                    record,
                    content,
                    changed,
                    content is not None and draw(st.sampled_from([False, False, False, True])),
                )
                lines.setdefault((record, changed), line)
        readable = {line.record for line in lines.values() if line.content is not None}
        kept = tuple(x for x in lines.values() if x.content is not None or x.record not in readable)
        day = FIRST + timedelta(days=draw(st.integers(0, DAYS - 1)))
        files.append(File(day, kind, number, kept))
    arrival = draw(st.permutations(range(len(files))))
    publishes = draw(st.lists(st.booleans(), min_size=len(files), max_size=len(files)))
    again = draw(st.lists(st.sampled_from(range(len(files))), max_size=2, unique=True))
    return files, list(arrival), publishes, again


SLOW = settings(deadline=None, suppress_health_check=list(HealthCheck))


SHAPES = [CUSTOMERS, PLANS, ITEMS, INVOICES, ANSWERS]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.table)
@given(arrivals(most=4))
@settings(SLOW, max_examples=3, derandomize=True, phases=[Phase.generate])
def test_files_that_contradict_each_other_say_the_same_in_whatever_order_they_arrive(
    shape: Shape, told: tuple[list[File], list[int], list[bool], list[int]]
) -> None:
    check(shape, *told)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.table)
@given(arrivals(most=6))
@settings(SLOW, max_examples=60)
def test_any_files_say_the_same_in_whatever_order_they_arrive(
    shape: Shape, told: tuple[list[File], list[int], list[bool], list[int]]
) -> None:
    check(shape, *told)


COUNTS = Shape("daily_seats", "organisation_ref,snapshot_date,seats", "{record},{content}", "seats", False)
ORGANISATIONS = ("a", "b")
#: Days that are counted, each by any file.
COUNTED = tuple(FIRST + timedelta(days=n) for n in range(3))
COUNT_KEYS = tuple(f"{org},{day}" for org in ORGANISATIONS for day in COUNTED)
AT_LAST = datetime.max


def true_seats(files: list[File], org: str) -> list[int]:
    """Seats at the close of each counted day by the rules, everything known."""
    listed = {line.record.split(",")[1] for file in files if file.kind == "full" for line in file.good}
    named = {line.record for file in files for line in file.good}
    seats, known, found = 0, False, []
    for day in COUNTED:
        count = truth(COUNTS, files, f"{org},{day}", AT_LAST)
        if count is not None:
            seats = int(count)
        elif known and str(day) in listed:
            seats = 0
        known |= f"{org},{day}" in named
        found.append(seats)
    return found


def seats_at(billing: BillingFolder, days: Sequence[date], known: datetime) -> dict[tuple[str, date], int]:
    """(organisation, day) -> seats at its close, by the rules of the canonical table, of what was recorded before."""
    rows = billing.subscription_versions("org_id, effective_at, recorded_at, status, seats, ended_at")
    found = {}
    for org in ORGANISATIONS:
        for day in days:
            close = datetime.combine(day, datetime.min.time()) + timedelta(days=1)
            held = [row for row in rows if row[0] == org and row[1] < close and row[2] < known]
            newest = max(held, key=lambda row: (row[1], row[2]), default=None)
            found[org, day] = int(newest[4] or 0) if newest is not None else 0
    return found


def check_counts(files: list[File], arrival: list[int], publishes: list[bool], again: list[int]) -> None:
    """Counts of the same days from several files: what holds at last is the same, what was published stays."""
    with tempfile.TemporaryDirectory() as data:
        billing = BillingFolder(Path(data), guards={"max_shrink": "1"})
        try:
            as_of, published = FIRST, {}
            for n, publish in zip(arrival, publishes, strict=True):
                file = files[n]
                billing.put(f"daily_seats__{file.day}__{file.kind}__{file.number:03}.csv", text(COUNTS, file))
                billing.run(as_of=as_of, publish=publish)
                if publish:
                    close = datetime.combine(as_of, datetime.min.time()) + timedelta(days=1)
                    days = [day for day in COUNTED if day <= as_of]
                    published[close] = seats_at(billing, days, close)
                    as_of += timedelta(days=1)
            for n in again:
                file = files[n]
                billing.put(f"daily_seats__{file.day}__{file.kind}__{900 + n}.csv", text(COUNTS, file))
            billing.run(as_of=as_of)
            seats = seats_at(billing, COUNTED, datetime.max)
            for org in ORGANISATIONS:
                assert [seats[org, day] for day in COUNTED] == true_seats(files, org), org
            for close, then in published.items():
                days = [day for org, day in then if org == ORGANISATIONS[0]]
                assert seats_at(billing, days, close) == then, f"what was published at {close}"
        finally:
            billing.close()


@given(arrivals(most=3, records=COUNT_KEYS))
@settings(SLOW, max_examples=3, derandomize=True, phases=[Phase.generate])
def test_recounts_of_a_day_say_the_same_in_whatever_order_they_arrive(
    told: tuple[list[File], list[int], list[bool], list[int]],
) -> None:
    check_counts(*told)


@pytest.mark.slow
@given(arrivals(most=5, records=COUNT_KEYS))
@settings(SLOW, max_examples=120)
def test_any_recounts_say_the_same_in_whatever_order_they_arrive_and_leave_published_days_alone(
    told: tuple[list[File], list[int], list[bool], list[int]],
) -> None:
    check_counts(*told)


def put_lists(billing: BillingFolder, sizes: list[int], arrival: list[int], accept_shrink: bool) -> None:
    """Full files of consecutive days that list so many subscriptions, each by a run of its own."""
    for n in arrival:
        rows = [f"s{i},c1,active,USD,2026-01-01," for i in range(sizes[n])]
        billing.put(f"subscriptions__{FIRST + timedelta(days=n)}.csv", [SUBSCRIPTIONS, *rows])
        billing.run(accept_shrink=accept_shrink)


def listed(billing: BillingFolder, days: int) -> list[int]:
    """Subscriptions at the close of each day, everything known."""
    closes = [datetime.combine(FIRST, datetime.min.time()) + timedelta(days=n + 1) for n in range(days)]
    return [
        billing.rows(
            f"SELECT count(*) FROM (SELECT * FROM raw_billing.subscriptions WHERE _changed_at < $close QUALIFY "
            f"row_number() OVER (PARTITION BY subscription_id ORDER BY {NEWEST_FIRST}) = 1) WHERE _deleted_at IS NULL",
            close=close,
        )[0][0]
        for close in closes
    ]


@given(
    st.lists(st.sampled_from([8, 10, 12, 14]), min_size=3, max_size=4).flatmap(
        lambda sizes: st.tuples(st.just(sizes), st.permutations(range(len(sizes))))
    )
)
@settings(SLOW, max_examples=3, derandomize=True, phases=[Phase.generate])
def test_full_files_that_shrink_little_by_little_are_all_believed_in_whatever_order_they_arrive(
    told: tuple[list[int], list[int]],
) -> None:
    sizes, arrival = told
    for n in range(1, len(sizes)):  # each lists at least four fifths of the one before
        sizes[n] = max(sizes[n], -(-sizes[n - 1] * 4 // 5))
    with tempfile.TemporaryDirectory() as data:
        billing = BillingFolder(Path(data))
        put_lists(billing, sizes, list(arrival), accept_shrink=False)
        assert listed(billing, len(sizes)) == sizes
        assert billing.rows("SELECT count(*) FROM raw_billing.files WHERE status <> 'loaded'") == [(0,)]
        billing.close()


@given(
    st.lists(st.sampled_from([2, 5, 10, 14]), min_size=3, max_size=4).flatmap(
        lambda sizes: st.tuples(st.just(sizes), st.permutations(range(len(sizes))))
    )
)
@settings(SLOW, max_examples=3, derandomize=True, phases=[Phase.generate])
def test_full_files_that_shrink_too_much_delete_little_in_any_order_and_say_the_same_once_accepted(
    told: tuple[list[int], list[int]],
) -> None:
    sizes, arrival = told
    with tempfile.TemporaryDirectory() as data:
        billing = BillingFolder(Path(data))
        put_lists(billing, sizes, list(arrival), accept_shrink=False)
        days = [n for n in listed(billing, len(sizes)) if n]
        assert all(after >= 0.8 * before for before, after in pairwise(days))
        billing.run(accept_shrink=True)
        assert listed(billing, len(sizes)) == sizes
        billing.close()
