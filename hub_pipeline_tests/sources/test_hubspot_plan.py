"""How a list is divided among chains, when changes are enough, and when they are not."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from hub_pipeline.demo.faults import Fault, FaultKind
from hub_pipeline.settings import HubSpot
from hub_pipeline.sources.hubspot.client import HISTORY_PAGE, PAGE, Next, Page, Paging
from hub_pipeline.sources.hubspot.covers import Covers
from hub_pipeline.sources.hubspot.listing import BrokenListError, Listing
from hub_pipeline.sources.hubspot.plan import State, cursor_property, is_full_cheaper, make_plan, next_state
from hub_pipeline.sources.transport import Tally
from hub_pipeline_tests.demo.portal import ORGANISATIONS, definition
from hub_pipeline_tests.sources.test_hubspot_recall import world

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
READ = State("deals", "r", NOW - timedelta(days=1), NOW - timedelta(days=2), "")


class Pages:
    """A list of ids with cursors of the real form, counting its pages."""

    def __init__(self, ids: Iterable[int], honours: bool = True) -> None:
        self.ids = sorted(ids)
        self.honours = honours  # cursors that the list has not given out itself
        self.given = {0}
        self.asked = 0

    def list_path(self, *_: object, **__: object) -> str:
        return "list?limit=100"

    def page(self, path: str, _: Tally) -> Page:
        self.asked += 1
        time.sleep(0.002)  # or one thread is through before the others begin
        after = int(path.partition("&after=")[2] or 0)
        behind = after if self.honours or after in self.given else 0
        found = [i for i in self.ids if i > behind]
        page = found[:PAGE]
        more = Paging(Next(str(page[-1]))) if len(found) > PAGE else None
        self.given.add(page[-1])
        return Page([msgspec.Raw(b'{"id":"%d"}' % i) for i in page], more)


def read(pages: Pages, threads: int) -> list[int]:
    """The ids that were landed, as often as they were."""
    landed: list[int] = []
    listing = Listing(pages, "deals", "deals", [], (), archived=False, tally=Tally())  # type: ignore[arg-type]
    listing.read(
        lambda records, cover, after: landed.extend(msgspec.json.decode(r, type=dict)["id"] for r in records),
        [(0, None)],
        lambda: (threads, pages.ids[-1]),
    )
    return [int(i) for i in landed]


@pytest.mark.parametrize(
    "ids",
    [
        range(1, 3_001),
        range(51, 300_000, 100),
        [*range(1, 1_000), *range(20_000_000_000, 20_000_002_500)],
        [i * i * i for i in range(1, 3_000)],
        [7],
    ],
)
def test_every_record_is_read_once_however_the_ids_lie(ids: Iterable[int]) -> None:
    pages = Pages(ids)
    assert sorted(read(pages, threads=6)) == pages.ids
    alone = -(-len(pages.ids) // PAGE)
    assert pages.asked <= alone + 40, (
        "a chain that starts in a gap costs a page, and gaps are found by halving"
    )


def test_a_portal_that_does_not_honour_ids_as_cursors_is_noticed_on_the_first_page() -> None:
    pages = Pages(range(1, 2_000), honours=False)
    with pytest.raises(BrokenListError):
        read(pages, threads=4)


@pytest.mark.parametrize("cursor", ["last_id", pytest.param("next_id", marks=pytest.mark.slow), "opaque"])
def test_a_long_list_is_read_by_several_chains_if_its_cursors_are_ids(cursor: str) -> None:
    with world(organisations=700, cursor=cursor, parallel_from_records=200) as one:
        one.read(workers=6)
        one.assert_exact()
        assert one.results["organisations"].records == 700
        assert one.results["organisations"].message == ""
        assert one.simulator.hits.count(status=429) == 0


def test_a_list_that_is_shorter_than_the_search_counts_is_read_again_and_told() -> None:
    with world(organisations=120) as one:
        counted = b'{"total":500,"results":[{"id":"128"}]}'
        one.simulator.faults.add(Fault(FaultKind.CANNED, path="/search", body=counted))
        one.read()
        one.assert_exact()
        message = one.results["organisations"].message
        assert message == "HubSpot lists 120 records, though its search counts 500"


def test_an_object_that_cannot_be_searched_is_read_in_full_and_it_is_said() -> None:
    with world(organisations=30, full_list_days=1_000) as one:
        one.read()
        one.simulator.account.properties["contacts"] = [
            item
            for item in one.simulator.account.properties["contacts"]
            if item["name"] != "lastmodifieddate"
        ] + [definition("hs_lastmodifieddate", "datetime")]
        one.read()  # other properties, so everything is read anyway
        one.simulator.update("contacts", "1", {"email": "new@example.com"})
        one.simulator.faults.add(
            Fault(FaultKind.CANNED, path=f"{ORGANISATIONS}/search", status=400, body=b'{"message":"no"}')
        )
        one.read()
        one.assert_exact()
        assert sorted(one.full) == ["contacts", "organisations"]
        assert "cannot be searched" in one.results["organisations"].message
        assert (
            "a search by hs_lastmodifieddate finds none of its 6 records" in one.results["contacts"].message
        )


def test_when_much_has_changed_everything_is_listed() -> None:
    with world(organisations=400, full_list_days=1_000) as one:
        one.read()
        one.simulator.clock.advance(86_400)
        for number in range(9, 309):
            one.simulator.update(ORGANISATIONS, str(number), {"seats": str(number * 2)})
        one.read(requests_per_10_seconds=190, searches_per_second=4)
        one.assert_exact()
        assert one.full == ["organisations"]
        assert "300 of 400 records changed" in str((one.results["organisations"].state or {})["because"])


def plan(state: State = READ, now: datetime | None = NOW, live: int = 100, **more: Any) -> str:
    values = {"object_type": "deals", "properties": ["hs_lastmodifieddate"], "reads": "r", **more}
    found = make_plan(state=state, now=now, live=live, settings=HubSpot(), **values)
    return found.because if found.mode == "full" else "changes"


def test_changes_are_enough_unless_something_speaks_against_it() -> None:
    assert plan() == "changes"
    assert plan(State()) == "it has not been read before"
    assert plan(live=0) == "the warehouse holds none of it"
    assert plan(object_type="2-1") == "its object type is another one"
    assert plan(reads="other") == "its properties are others"
    assert plan(properties=["name"]) == "it has no last-modified property to search by"
    assert plan(now=None) == "HubSpot does not tell its time"
    assert (
        plan(now=READ.full_at + timedelta(days=7) if READ.full_at else None) == "it is time for a full list"
    )


def test_the_window_starts_at_the_watermark_less_the_overlap_and_the_watermark_at_the_run_less_the_horizon() -> (
    None
):
    settings = HubSpot(horizon_minutes=20, overlap_minutes=3)
    found = make_plan("deals", ["hs_lastmodifieddate"], "r", READ, NOW, 100, settings)
    assert READ.watermark is not None
    assert found.since == READ.watermark - timedelta(minutes=3)
    after = next_state(found, READ, "deals", "r", NOW, settings)
    assert after.watermark == NOW - timedelta(minutes=20)
    assert after.full_at == READ.full_at
    assert State.of(after.to_json()) == after


def test_contacts_have_another_last_modified_property() -> None:
    both = ["hs_lastmodifieddate", "lastmodifieddate"]
    assert cursor_property("contacts", both) == cursor_property("0-1", both) == "lastmodifieddate"
    assert cursor_property("2-1138478", both) == "hs_lastmodifieddate"
    assert cursor_property("deals", ["name"]) is None


def test_a_full_list_is_cheaper_when_about_half_of_the_records_changed() -> None:
    settings = HubSpot(searches_per_second=5)
    assert not is_full_cheaper(50_000, 100_000, False, settings)
    assert is_full_cheaper(55_000, 100_000, False, settings)
    assert is_full_cheaper(55_000, 100_000, True, settings)
    assert HISTORY_PAGE * 2 == PAGE


def test_ranges_that_touch_are_one_and_what_is_missing_is_known() -> None:
    covers = Covers([(10, 20), (0, 10), (30, None)])
    assert covers.ranges == [(0, 20), (30, None)]
    assert covers.gaps() == [(20, 30)]
    assert covers.holds(20)
    assert not covers.holds(21)
    assert Covers().gaps() == [(0, None)]
    assert Covers([(0, None)]).gaps() == []
    assert Covers([(5, 9)]).gaps() == [(0, 5), (9, None)]
