"""The same history told as changes, as daily lists or as bare counts gives the same seats on every day."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hub_pipeline_tests.sources.billing_company import ANOTHER, Company, Row, actions
from hub_pipeline_tests.sources.billing_folder import ITEMS, SUBSCRIPTIONS, BillingFolder
from hub_pipeline_tests.sources.billing_marts import amounts_by_day, at_closes, seats_by_day, stage_billing

ZONES = ("UTC", "America/Los_Angeles", "Pacific/Auckland")

COUNTS = "daily counts"

#: How a company tells its history: table -> rows of one day, and the kind of the file.
TELLINGS: dict[str, tuple[Callable[[Company, date], dict[str, list[Row]]], str]] = {
    "changes with their times": (Company.events, "delta"),
    "daily lists without times": (lambda c, day: c.lists(day, timed=False, ended=False), "full"),
    "daily lists with times and ended subscriptions": (lambda c, day: c.lists(day, timed=True, ended=True), "full"),
    COUNTS: (Company.counts, "full"),
}  # fmt: skip


@contextmanager
def a_folder(zone: str) -> Iterator[BillingFolder]:
    with tempfile.TemporaryDirectory() as data:
        billing = BillingFolder(Path(data), reporting_tz=zone, guards={"max_shrink": "1"})
        try:
            yield billing
        finally:
            billing.close()


def put(billing: BillingFolder, day: date, tables: dict[str, list[Row]], kind: str) -> None:
    for table, rows in tables.items():
        if not rows and kind == "delta":
            continue
        text = io.StringIO()
        columns = sorted({name for row in rows for name in row}) or HEADERS[table]
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        billing.put(f"{table}__{day}__{kind}.csv", text.getvalue())


HEADERS = {
    "subscriptions": ["subscription_id", "customer_id", "status", "currency", "started_at"],
    "subscription_items": ["subscription_item_id", "subscription_id", "interval", "quantity"],
    "subscription_schedules": ["schedule_id", "phase_no", "price_id", "subscription_id", "phase_start_at"],
}


def tell(billing: BillingFolder, company: Company, telling: str, daily: bool) -> None:
    """Write the company's extracts and load them, each day by a run of its own or all by one run."""
    rows_of, kind = TELLINGS[telling]
    last = company.days[-1]
    for day in company.days:
        put(billing, day, rows_of(company, day), kind)
        if daily:
            require_loaded(billing.run(as_of=day, publish=True))
    if not daily:
        require_loaded(billing.run(as_of=last))
    stage_billing(billing)


def require_loaded(results: dict[str, Any]) -> None:
    for name, result in results.items():
        assert (result.status == "failed", result.quarantined) == (False, 0), f"{name}: {result.message}"


def check_company(company: Company, daily: bool, tellings: Sequence[str] = tuple(TELLINGS)) -> None:
    closes = [company.close(day) for day in company.days]
    for telling in tellings:
        with a_folder(company.zone) as billing:
            tell(billing, company, telling, daily)
            for as_known in (False, True) if daily else (False,):
                rows = at_closes(billing, closes, as_known)
                seats, amounts = seats_by_day(rows), amounts_by_day(rows)
                for day in company.days:
                    where = f"{telling}, {'as known, ' if as_known else ''}{day}"
                    close = company.close(day)
                    if telling == COUNTS:
                        assert seats[close] == company.seats(day) | {ANOTHER: 1}, where
                        continue
                    assert seats.get(close, {}) == company.seats(day), where
                    # A subscription that never had an item at the end of a day has an unknown amount.
                    told = {name: amount or 0 for name, amount in amounts.get(close, {}).items()}
                    assert told == company.amounts(day), where


@st.composite
def companies(draw: st.DrawFn, days: int, subscriptions: int, most: int) -> Company:
    zone = draw(st.sampled_from(ZONES))
    happened = draw(actions(days, subscriptions, most, zone))
    return Company(happened, days, zone, owners=(0, 1, 0, 2, 3))


SLOW = settings(deadline=None, suppress_health_check=list(HealthCheck))


@given(companies(days=3, subscriptions=20, most=150))
@settings(SLOW, max_examples=1, derandomize=True, phases=[Phase.generate])
def test_changes_lists_and_counts_give_the_same_seats_on_every_day(company: Company) -> None:
    check_company(company, False, ["changes with their times", "daily lists without times", COUNTS])


@pytest.mark.slow
@given(companies(days=6, subscriptions=4, most=30), st.booleans())
@settings(SLOW, max_examples=60)
def test_every_small_history_gives_the_same_seats_on_every_day(company: Company, daily: bool) -> None:
    check_company(company, daily)


@pytest.mark.parametrize("first", ["live", "gone"])
def test_of_one_instant_the_deletion_holds_whichever_file_came_first(
    first: str, billing: BillingFolder
) -> None:
    header = SUBSCRIPTIONS + ",is_deleted"
    lines = {name: f"s1,c1,active,USD,2026-01-01,2026-10-02,{name == 'gone'}" for name in ("live", "gone")}
    for number, name in enumerate((first, "gone" if first == "live" else "live")):
        billing.put(f"subscriptions__2026-10-02__delta__{number:03}.csv", [header, lines[name]])
        billing.run()
    stage_billing(billing)
    assert len(at_closes(billing, [datetime(2026, 10, 2)])) == 1
    assert at_closes(billing, [datetime(2026, 10, 3), datetime(2026, 10, 31)]) == []


def test_days_without_a_file_carry_on_what_was_known_and_end_nothing(billing: BillingFolder) -> None:
    for day in (date(2026, 10, 1), date(2026, 10, 9)):
        billing.put(f"subscriptions__{day}.csv", [SUBSCRIPTIONS, "s1,c1,active,USD,2026-01-01,"])
        billing.run(as_of=day)
    stage_billing(billing)
    closes = [datetime(2026, 10, day) for day in range(2, 11)]
    assert [row[0] for row in at_closes(billing, closes)] == closes
    through = "SELECT max(extract_close) FROM raw_billing.files WHERE table_name = 'subscriptions'"
    assert billing.rows(through) == [(closes[-1],)]


def test_a_role_that_is_told_later_counts_from_then_on_and_for_the_days_before(
    billing: BillingFolder,
) -> None:
    items = ITEMS.replace("seat_role", "product_name")
    billing.put("subscriptions__2026-10-01.csv", [SUBSCRIPTIONS, "s1,c1,active,USD,2026-01-01,2026-01-01"])
    billing.put("subscription_items__2026-10-01.csv", [items, "i1,s1,Team,7,100,month,2026-01-01,2026-01-01"])
    billing.run(as_of=date(2026, 10, 1), publish=True)
    billing.put("seat_products__2026-10-02.csv", ["product,seat_role", "Team,seat"])
    billing.run(as_of=date(2026, 10, 2))
    stage_billing(billing)
    known = "SELECT recorded_at, seats FROM staging.subscription_versions ORDER BY 1"
    assert billing.rows(known) == [(datetime(2026, 1, 1), 0), (datetime(2026, 10, 2), 7)]
