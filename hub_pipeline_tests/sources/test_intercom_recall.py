"""After any sequence of events and runs the warehouse holds what the workspace holds: all of it, and no phantom."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub_pipeline.demo.faults import FaultKind, every_nth
from hub_pipeline.sources import transport
from hub_pipeline.sources.intercom import extraction
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline.warehouse.rebuild import rebuild
from hub_pipeline_tests.sources.intercom_world import World, world

#: An event, which of the records that qualify it happens to, and how many seconds later.
EVENTS = (
    "add_contact",
    "change_contact",
    "join_company",
    "archive",
    "unarchive",
    "delete_contact",
    "merge",
    "add_company",
    "rename_company",
    "delete_company",
    "write",
    "reply",
    "rate",
    "rate_silently",
    "attribute",
    "close",
    "delete_conversation",
    "file_ticket",
    "move_ticket",
    "delete_ticket",
    "new_team",
    "new_tag",
    "drop_tag",
)
LONG_AGO = datetime(2025, 1, 5, 12, tzinfo=UTC)
WAITS = (0, 1, 61, 3_600, 86_400, 9 * 86_400)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(EVENTS), st.integers(0, 5), st.sampled_from(WAITS)),
        st.tuples(st.just("run"), st.just(0), st.sampled_from(WAITS)),
    ),
    min_size=4,
    max_size=30,
)
ZONES = st.sampled_from(["UTC", "America/Los_Angeles", "Pacific/Kiritimati", "Asia/Kolkata"])


class Story:
    """Makes events happen to whatever record there is."""

    def __init__(self, told: World) -> None:
        self.told = told
        self.number = 0
        self.parts: dict[str, set[str]] = {}

    def new(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}{self.number}"

    def happen(self, event: str, choice: int) -> None:
        life, space = self.told.life, self.told.workspace

        def pick(records: dict[str, Any]) -> str | None:
            keys = sorted(records)
            return keys[choice % len(keys)] if keys else None

        contact, company = pick(space.contacts), pick(space.companies)
        conversation, ticket = pick(space.conversations), pick(space.tickets)
        match event:
            case "add_contact":
                life.add_contact(self.new("p"))
            case "change_contact" if contact:
                life.change_contact(contact, name=self.new("Name "))
            case "join_company" if contact and company:
                life.attach(contact, company)
            case "archive" if contact:
                life.archive(contact)
            case "unarchive" if archived := pick(life.archived):
                life.unarchive(archived)
            case "delete_contact" if contact:
                life.delete_contact(contact)
            case "merge" if len(space.contacts) > 1:
                loser, winner, *_ = sorted(space.contacts)
                life.merge(loser, winner)
            case "add_company":
                life.add_company(self.new("c"))
            case "rename_company" if company:
                life.change_company(company, name=self.new("Company "))
            case "delete_company" if company:
                life.delete_company(company)
            case "write" if contact:
                life.open_conversation(self.new("1"), contact, company)
            case "reply" if conversation:
                part = self.new("7")
                life.reply(conversation, part, ("admin", "user", "bot")[choice % 3])
                self.parts.setdefault(conversation, set()).add(part)
            case "rate" if conversation:
                life.rate(conversation, choice % 5 + 1, "fine")
            case "rate_silently" if conversation:
                life.rate(conversation, choice % 5 + 1, touch=False)
            case "attribute" if conversation and company:
                life.change_conversation(conversation, company={"type": "company", "id": company})
            case "close" if conversation:
                life.change_conversation(conversation, state="closed")
            case "delete_conversation" if conversation:
                life.delete_conversation(conversation)
                self.parts.pop(conversation, None)
            case "file_ticket" if contact:
                life.open_ticket(self.new("5"), contact, company)
            case "move_ticket" if ticket:
                life.change_ticket(ticket, ticket_state={"category": ("in_progress", "resolved")[choice % 2]})
            case "delete_ticket" if ticket:
                life.delete_ticket(ticket)
            case "new_team":
                key = self.new("t")
                space.teams[key] = {"type": "team", "id": key, "name": key, "admin_ids": [2, 1]}
                space.teams[key]["admin_ids"] = ["2", "1"]
            case "new_tag":
                key = self.new("g")
                space.tags[key] = {"type": "tag", "id": key, "name": key}
            case "drop_tag" if tag := pick(space.tags):
                del space.tags[tag]

    def check(self) -> None:
        """Read, and compare everything."""
        with self.told.reading() as one:
            assert self.told.differences(one) == {}
            held = one.rows(
                "SELECT conversation_id, part_id FROM raw_intercom.conversation_parts WHERE part_id <> '0'"
            )
            there = {(key, part) for key, parts in self.parts.items() for part in parts}
            assert there <= set(held)
            live = set(self.told.workspace.conversations)
            assert {row for row in held if row[0] in live} == there


def tell(folder: Path, steps: list[tuple[str, int, int]], **simulator: Any) -> None:
    """Let the steps happen; after every run everything is compared."""
    with world(folder, start=LONG_AGO, **simulator) as told:
        told.settings = {"parts": "all"}
        story = Story(told)
        for event, choice, wait in steps:
            told.clock.advance(wait)
            if event == "run":
                story.check()
            else:
                story.happen(event, choice)
        story.check()


LAZY = [HealthCheck.too_slow, HealthCheck.data_too_large]


def test_after_everything_that_can_happen_the_warehouse_holds_what_the_workspace_holds(
    tmp_path: Path,
) -> None:
    steps = [("add_contact", 0, 1), ("add_contact", 0, 1), ("add_company", 0, 1), ("write", 0, 1)]
    steps += [("file_ticket", 0, 1), ("run", 0, 86_400)]
    half = [event for event in EVENTS if not event.startswith(("delete", "archive", "merge", "drop"))]
    for number, event in enumerate((*half, *EVENTS, *half), 1):
        steps += [(event, number % 6, 61)]
        if number in (len(half), len(half) + len(EVENTS)):
            steps += [("run", 0, 3_600)]
    tell(tmp_path, steps, time_zone="America/Los_Angeles", searches_sorted=False)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=LAZY, database=None)
@given(steps=STEPS, zone=ZONES, of_utc=st.booleans(), ordered=st.booleans())
def test_no_sequence_of_events_and_runs_loses_a_record_or_keeps_a_phantom(
    steps: list[tuple[str, int, int]], zone: str, of_utc: bool, ordered: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tell(Path(folder), steps, time_zone=zone, days_of_utc=of_utc, searches_sorted=ordered)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_faults_in_every_fifth_answer_change_nothing_of_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.01)
    # A broken scroll blocks the next for a minute of the simulator's clock, which stands still.
    monkeypatch.setattr(extraction, "SCROLL_WAITS", (0.0,))
    kinds = (
        FaultKind.BAD_GATEWAY,
        FaultKind.UNAVAILABLE,
        FaultKind.TRUNCATED,
        FaultKind.SLOW,
        FaultKind.RATE_LIMITED,
    )
    with world(tmp_path, start=LONG_AGO, scroll_idle_seconds=-1.0) as told:
        told.settings = {"parts": "all"}
        story = Story(told)
        for round_number in range(3):
            for number, event in enumerate(EVENTS):
                told.clock.advance(61)
                story.happen(event, number + round_number + seed)
            told.simulator.faults.clear()
            told.simulator.faults.add(*every_nth(5, seed, kinds).rules)
            story.check()


@pytest.mark.slow
def test_raw_made_again_from_landing_is_the_same_and_goes_on_from_there(tmp_path: Path) -> None:
    with world(tmp_path, start=LONG_AGO) as told:
        told.settings = {"parts": "all"}
        story = Story(told)
        for round_number in range(3):
            for number, event in enumerate(EVENTS):
                told.clock.advance(61)
                story.happen(event, number + round_number)
            told.clock.advance(86_400)
            story.check()
        before = fingerprint(tmp_path / "build.duckdb")
        with RunLock(tmp_path) as lock:
            rebuild(Warehouse.in_folder(tmp_path), lock)
        again = fingerprint(tmp_path / "build.duckdb")
        assert {name: again[name] for name in before if name.startswith("raw_")} == {
            name: value for name, value in before.items() if name.startswith("raw_")
        }
        told.clock.advance(86_400)
        told.read()
        assert told.results["contacts"].records == 0  # what was read to is known, too
