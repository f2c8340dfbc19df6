"""A day's marts are a function of what was known: later rows and the order of rows change nothing, in any world.

The worlds hold what history has in store: rows that tie, arrive late or are dated back, merges in chains and circles,
parents that move, currencies with several rates, days on which clocks change. That they do, that every table and every
mart takes part, and that a model which looks ahead is noticed, is tested as well.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub_pipeline.models import Catalog, build, catalog
from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.oracle import KEYS, Oracle
from hub_pipeline_tests.models.random_worlds import world_of
from hub_pipeline_tests.models.worlds import Row, build_world, load, rows

#: The day and where it is: ordinary ones, and some on or just after which clocks change.
PLACES = (
    ("2026-06-30", "UTC"),
    ("2026-03-29", "Europe/Berlin"),
    ("2026-11-01", "America/New_York"),
    ("2026-04-24", "Africa/Cairo"),
    ("2026-04-05", "Pacific/Auckland"),
)
#: The tables of which marts are made; what came instead of an NPS answer is only kept.
TABLES = sorted(catalog().inputs.keys() - {"nps_quarantine"})


@dataclass(frozen=True)
class History:
    """A world in which every row says when it was recorded, with the day, the knowledge and the place to ask it with."""

    world: dict[str, list[Row]]
    as_of: date
    known_at: date
    settings: Settings

    @property
    def close(self) -> datetime:
        """What was recorded at or after this instant is not known."""
        midnight = datetime.combine(self.known_at + timedelta(1), time(), self.settings.zone)
        return midnight.astimezone(UTC).replace(tzinfo=None)

    def known(self, random: Random) -> dict[str, list[Row]]:
        """The world without what was recorded later, its rows in another order."""
        found = {
            table: [row for row in table_rows if self.is_known(row)]
            for table, table_rows in self.world.items()
        }
        for table_rows in found.values():
            random.shuffle(table_rows)
        return found

    def is_known(self, row: Row) -> bool:
        return datetime.fromisoformat(row["recorded_at"].removesuffix("Z")) < self.close


def _history(seed: int, place: tuple[str, str], extra_days: int, companies: int = 60) -> History:
    """Companies that crowd around the windows, and rows without sense that collide in key and in time."""
    day, zone = date.fromisoformat(place[0]), place[1]
    random, settings = Random(seed), Settings(reporting_tz=zone)
    world = world_of([random.randrange(2**32) for _ in range(companies)], day, zone)
    clock = Oracle({}, day, settings=settings)
    for table, table_rows in world.items():
        for row in table_rows:
            row["recorded_at"] = clock.recorded(table, row).isoformat() + "Z"
    for table, table_rows in _colliding(random, day, ZoneInfo(zone)).items():
        world.setdefault(table, []).extend(table_rows)
    return History(world, day, day + timedelta(extra_days), settings)


def _colliding(random: Random, as_of: date, zone: ZoneInfo) -> dict[str, list[Row]]:
    def pick(prefix: str, count: int = 10) -> str:
        return f"{prefix}{random.randrange(count)}"

    def maybe(value: Callable[[], Any], share: float = 0.5) -> Any:
        return value() if random.random() < share else None

    def at() -> str:
        """Few different instants, on both sides of the close of as_of, so that rows collide in key and in time."""
        day = as_of + timedelta(random.choice((-180, -150, -90, -89, -60, -30, -10, -1, 0, 1, 2, 10)))
        local = datetime.combine(day, time(random.choice((0, 12, 23))), zone)
        return local.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"

    def org() -> str:
        return pick("o")

    makers: dict[str, Callable[[], Row]] = {
        "organisations": lambda: {
            "org_id": org(),
            "name": pick("name"),
            "owner_id": maybe(lambda: pick("u", 3)),
            "tier_override": maybe(lambda: random.choice("AB"), 0.1),
            "created_at": maybe(at),
            "is_deleted": random.random() < 0.1,
        },
        "subscription_versions": lambda: {
            "subscription_id": pick("s", 14),
            "org_id": org(),
            "plan": random.choice(("team", "enterprise", "free")),
            "billing_interval": random.choice(("month", "year", "week")),
            "seats": maybe(lambda: random.randrange(0, 90), 0.9),
            "amount": str(random.choice((0, 99.99, 600, 6000.06))),
            "currency": random.choice(("USD", "EUR", "JPY")),
            "status": random.choice(("active", "active", "past_due", "paused", "trialing", "canceled")),
            "effective_at": at(),
            "cancel_at": maybe(at, 0.2),
            "term_end": maybe(at),
        },
        "org_parents": lambda: {
            "org_id": org(),
            "parent_org_id": org(),
            "valid_from": at(),
            "valid_to": maybe(at),
        },
        "org_coverage": lambda: {
            "child_org_id": org(),
            "payer_org_id": org(),
            "valid_from": at(),
            "valid_to": maybe(at, 0.2),
            "seats": maybe(lambda: random.randrange(30)),
        },
        "org_merges": lambda: {"loser_org_id": org(), "winner_org_id": org(), "merged_at": at()},
        "crm_contracts": lambda: {
            "org_id": org(),
            "kind": "custom",
            "valid_from": at(),
            "valid_to": maybe(at),
            "seats": 10,
            "amount": maybe(lambda: "900"),
        },
        "crm_subscriptions": lambda: {
            "org_id": org(),
            "amount": maybe(lambda: "600", 0.8),
            "billing_interval": random.choice(("month", "year")),
            "currency": random.choice(("USD", "EUR")),
            "status": random.choice(("active", "active", "canceled")),
            "effective_at": at(),
            "cancel_at": maybe(at, 0.2),
        },
        "invoices": lambda: {
            "invoice_id": pick("i"),
            "org_id": org(),
            "subscription_id": maybe(lambda: pick("s", 14)),
            "status": random.choice(("open", "paid", "paid", "draft", "void")),
            "currency": random.choice(("USD", "EUR")),
            "total": random.choice(("100", "250.5")),
            "tax": maybe(lambda: "10"),
            "created_at": at(),
            "period_start": maybe(lambda: (as_of - timedelta(15)).isoformat()),
            "period_end": (as_of + timedelta(15)).isoformat(),
            "is_deleted": random.random() < 0.1,
        },
        "invoice_lines": lambda: {
            "invoice_id": pick("i"),
            "line_id": pick("l", 2),
            "subscription_id": maybe(lambda: pick("s", 14), 0.8),
            "amount": random.choice(("100", "55.55", "-20")),
            "is_proration": random.random() < 0.2,
            "period_start": (as_of - timedelta(random.choice((0, 29, 180)))).isoformat(),
            "period_end": (as_of + timedelta(random.choice((1, 30, 185)))).isoformat(),
            "created_at": maybe(at, 0.3),
        },
        "contacts": lambda: {
            "contact_id": pick("c"),
            "email": f"{pick('c')}@x.io",
            "lifecycle_stage": random.choice(("lead", "customer", "opportunity", None)),
            "lead_status": random.choice(("connected", "open_deal", None)),
            "owner_id": maybe(lambda: pick("u", 3)),
            "is_champion": True,
            "left_at": maybe(at, 0.3),
        },
        "contact_owners": lambda: {
            "contact_id": pick("c"),
            "owner_id": maybe(lambda: pick("u", 3)),
            "valid_from": maybe(at),
        },
        "contact_stages": lambda: {
            "contact_id": pick("c"),
            "lifecycle_stage": random.choice(("lead", "customer", "opportunity", None)),
            "set_at": at(),
        },
        "success_plans": lambda: {
            "org_id": org(),
            "status": random.choice(("active", "done")),
            "updated_at": maybe(at),
        },
        "contact_orgs": lambda: {
            "contact_id": pick("c"),
            "org_id": org(),
            "is_primary": random.random() < 0.5,
            "valid_from": maybe(at),
            "valid_to": maybe(at, 0.3),
        },
        "nps_responses": lambda: {
            "response_id": pick("n"),
            "contact_id": maybe(lambda: pick("c"), 0.8),
            "org_id": maybe(org, 0.3),
            "score": random.randrange(12),
            "comment": pick("comment"),
            "responded_at": at(),
        },
        "conversations": lambda: {
            "conversation_id": pick("k"),
            "contact_id": pick("c"),
            "org_id": maybe(org, 0.3),
            "rating": maybe(lambda: random.randrange(1, 6)),
            "rated_at": maybe(at),
        },
        "conversation_parts": lambda: {
            "conversation_id": pick("k"),
            "part_number": random.randrange(4),
            "author_type": random.choice(("contact", "admin")),
            "created_at": at(),
        },
        "engagements": lambda: {
            "engagement_id": pick("e"),
            "type": random.choice(("email", "task", "call", "note")),
            "direction": "outbound",
            "contact_id": maybe(lambda: pick("c")),
            "org_id": maybe(org),
            "user_id": pick("u", 3),
            "occurred_at": at(),
        },
        "users": lambda: {
            "user_id": pick("u", 3),
            "name": pick("name"),
            "role": random.choice(("csm", "support")),
            "is_active": random.random() < 0.7,
        },
        "deals": lambda: {
            "deal_id": pick("d"),
            "org_id": org(),
            "subscription_id": maybe(lambda: pick("s", 14), 0.3),
            "pipeline": "post_sales",
            "deal_type": random.choice(("renewal", "upsell")),
            "plan": "enterprise",
            "stage": pick("stage", 3),
            "status": random.choice(("open", "won", "lost", None, None)),
            "amount": str(random.choice((600, 7200))),
            "created_at": maybe(at),
            "closed_at": maybe(at),
            "close_date": maybe(lambda: at()[:10]),
        },
        "deal_stages": lambda: {"deal_id": pick("d"), "stage": pick("stage", 3), "set_at": at()},
        "stages": lambda: {
            "pipeline": "post_sales",
            "stage": pick("stage", 3),
            "probability": random.choice(("0.3", "0.9")),
            "status": random.choice(("open", "won", "lost")),
        },
        "deal_close_dates": lambda: {"deal_id": pick("d"), "close_date": at()[:10], "set_at": at()},
        "fx_rates": lambda: {
            "currency": random.choice(("EUR", "JPY")),
            "rate": random.choice(("1.1", "0.95")),
            "valid_from": at()[:10],
        },
    }
    counts = {
        "org_merges": 2,
        "subscription_versions": 40,
        "conversation_parts": 30,
        "contact_orgs": 20,
        "contact_owners": 40,
        "contact_stages": 30,
        "deal_close_dates": 40,
        "deal_stages": 40,
        "engagements": 40,
        "invoice_lines": 30,
    }
    found = {
        table: [make() | {"recorded_at": at()} for _ in range(counts.get(table, 12))]
        for table, make in makers.items()
    }
    for loser, winner in (("o8", "o9"), ("o9", "o7"), ("o5", "o4"), ("o4", "o5")):
        found["org_merges"].append(
            {"loser_org_id": loser, "winner_org_id": winner, "merged_at": at(), "recorded_at": at()}
        )
    for table, row in _renewing(as_of):
        found[table].append(row)
    return found


def _renewing(as_of: date) -> Iterator[tuple[str, Row]]:
    """A renewal whose stage is given another meaning, and a conversation whose first message is learnt, later."""

    def day(number: int) -> str:
        return (as_of + timedelta(number)).isoformat()

    known: Row = {
        "org_id": "renewing",
        "subscription_id": "renewing",
        "plan": "enterprise",
        "currency": "USD",
    }
    known["recorded_at"] = day(-60) + "T00:00:00Z"
    contract: Row = {"billing_interval": "year", "seats": 50, "amount": "12000", "status": "active"}
    yield "subscription_versions", known | contract | {"effective_at": day(-300), "term_end": day(60)}
    deal: Row = {"deal_id": "renewing", "pipeline": "post_sales", "deal_type": "renewal", "stage": "signing"}
    yield "deals", known | deal | {"status": "open", "amount": "1000", "close_date": day(60)}
    yield "deals", known | deal | {"deal_id": "without status", "deal_type": "upsell", "amount": "2000"}
    early, late = {"recorded_at": day(-60) + "T00:00:00Z"}, {"recorded_at": day(2) + "T00:00:00Z"}
    stage: Row = {"pipeline": "post_sales", "stage": "signing"}
    yield "stages", stage | {"probability": "0.3", "status": "open"} | early
    yield "stages", stage | {"probability": "0.9", "status": "lost"} | late
    talk: Row = {"conversation_id": "renewing"}
    part: Row = talk | {"author_type": "contact"}
    yield "conversations", talk | {"org_id": "renewing"} | early
    yield "conversation_parts", part | {"part_number": 2, "created_at": day(-1)} | early
    yield "conversation_parts", part | {"part_number": 1, "created_at": day(-2)} | late


MARTS = tuple(model.table for model in catalog().layer("marts"))
Answers = dict[str, list[Row]]


def _answers(connection: duckdb.DuckDBPyConnection) -> Answers:
    return {mart: rows(connection, mart) for mart in MARTS}


def _assert_only_knowledge_counts(seed: int, place: tuple[str, str], extra_days: int) -> None:
    """What was known gives the day; when the rest has arrived, building the day again gives the same."""
    history = _history(seed, place, extra_days)
    day, known_at = history.as_of.isoformat(), history.known_at.isoformat()
    with build_world(history.known(Random(seed)), day, known_at, history.settings) as connection:
        first = _answers(connection)
        load(connection, history.world, history.settings)
        build(connection, history.as_of, history.known_at, history.settings)
        again = _answers(connection)
    assert any(row["invoiced_mrr"] for row in first["tie_out"])
    assert [mart for mart in MARTS if first[mart] != again[mart]] == []


@settings(max_examples=2, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.sampled_from(PLACES), st.integers(0, 2))
def test_rows_recorded_later_and_the_order_of_rows_change_no_mart(
    seed: int, place: tuple[str, str], extra_days: int
) -> None:
    _assert_only_knowledge_counts(seed, place, extra_days)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(PLACES), st.integers(0, 2))
def test_rows_recorded_later_and_the_order_of_rows_change_no_mart_in_many_worlds(
    seed: int, place: tuple[str, str], extra_days: int
) -> None:
    _assert_only_knowledge_counts(seed, place, extra_days)


# The worlds hold what they promise


@pytest.mark.parametrize("place", PLACES)
def test_the_histories_hold_ties_late_and_backdated_rows_merges_moved_parents_and_rates(
    place: tuple[str, str],
) -> None:
    history = _history(1, place, 0)
    assert sorted(history.world) == TABLES
    for table, table_rows in history.world.items():
        assert {history.is_known(row) for row in table_rows} == {True, False}, table
    found = set(_features(history))
    assert found >= {
        "tie",
        "late",
        "backdated",
        "planned",
        "merge",
        "merge of a merged one",
        "circle of merges",
        "late merge",
        "moved parent",
        "parent of a parent",
        "several rates of EUR",
        "several rates of JPY",
        "a rate corrected",
    }, found
    assert place[1] == "UTC" or "clocks change" in found


def _features(history: History) -> Iterator[str]:
    for table, table_rows in history.world.items():
        yield from _collisions(table, table_rows, history.close)
    merges = {row["loser_org_id"]: row for row in history.world["org_merges"]}
    for loser, row in merges.items():
        yield "merge"
        path = [loser]
        while path[-1] in merges and len(path) <= len(merges):
            path.append(merges[path[-1]]["winner_org_id"])
        if len(path) > 2:
            yield "merge of a merged one"
        if len(path) > len(merges):
            yield "circle of merges"
        if row["recorded_at"][:10] > row["merged_at"][:10]:
            yield "late merge"
    parents: dict[str, set[str | None]] = defaultdict(set)
    for row in history.world["org_parents"]:
        parents[row["org_id"]].add(row["parent_org_id"])
        yield from ("moved parent" for _ in range(len(parents[row["org_id"]]) > 1))
    if any(parent in parents for above in parents.values() for parent in above if parent):
        yield "parent of a parent"
    rates: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in history.world["fx_rates"]:
        rates[row["currency"]][row["valid_from"][:10]].add(str(row["rate"]))
    for currency, of_days in rates.items():
        if len(of_days) > 1:
            yield f"several rates of {currency}"
        if any(len(of_day) > 1 for of_day in of_days.values()):
            yield "a rate corrected"
    noons = [
        datetime.combine(history.as_of + timedelta(number), time(12), history.settings.zone).utcoffset()
        for number in range(-90, 1)
    ]
    if len(set(noons)) > 1:
        yield "clocks change"


def _collisions(table: str, table_rows: Iterable[Row], close: datetime) -> Iterator[str]:
    """Rows that agree on the key, and rows that were recorded after, or before, what they tell happened."""
    times = {
        "contact_owners": "valid_from",
        "contact_stages": "set_at",
        "subscription_versions": "effective_at",
    }
    versions: dict[Any, list[Row]] = defaultdict(list)
    for row in table_rows:
        versions[tuple(row.get(name) for name in KEYS.get(table, ()))].append(row)
        own = row.get(times.get(table, ""))
        if own is not None:
            days = row["recorded_at"][:10], own[:10]
            yield "late" if days[0] > days[1] else "planned" if days[0] < days[1] else "at once"
    for same in versions.values() if table in KEYS else ():
        recorded = [row["recorded_at"] for row in same]
        if len(set(recorded)) < len(recorded) and any(row != same[0] for row in same):
            yield "tie"
        if len(set(recorded)) > 1 and table in times:
            yield "backdated"


# A model that looks ahead is noticed

KNOWN = re.compile(r"\b(?:\w+\.)?recorded_at < (?:CAST\(\$close_known_at AS TIMESTAMP\)|\$close_known_at)")
#: Sites of intermediate.organisation_identity that only say which ids there are: an id that nothing known names has no
#: row in any mart.
IDENTITY = "intermediate.organisation_identity"


def _sites() -> list[tuple[str, int]]:
    """Each place at which a model asks what was known: its name, and which of its places."""
    return [
        (model.name, number)
        for model in catalog().layer("intermediate", "marts")
        for number, _ in enumerate(KNOWN.finditer(model.sql))
    ]


def _looking_ahead(name: str, number: int) -> Catalog:
    """The models with one of which one place knows everything."""
    model = catalog()[name]
    site = list(KNOWN.finditer(model.sql))[number]
    sql = f"{model.sql[: site.start()]}true{model.sql[site.end() :]}"
    broken = {
        one.name: replace(one, sql=sql) if one.name == name else one for one in catalog().models.values()
    }
    return Catalog(broken, catalog().inputs)


@cache
def _loaded(number: int) -> tuple[History, duckdb.DuckDBPyConnection, Answers]:
    """A history, a connection with all of it, and the answers from what was known."""
    history = _history(number, PLACES[number % len(PLACES)], 0)
    connection = build_world(
        history.world, history.as_of.isoformat(), history.known_at.isoformat(), history.settings
    )
    return history, connection, _answers(connection)


def _is_noticed(models: Catalog, histories: int = 3) -> bool:
    for number in range(histories):
        history, connection, answers = _loaded(number)
        build(connection, history.as_of, history.known_at, history.settings, models=models)
        if _answers(connection) != answers:
            return True
    return False


@pytest.mark.parametrize(
    ("name", "number"), [("intermediate.current_contacts", 0), ("marts.lifecycle_checks", 0)]
)
def test_a_model_that_looks_ahead_changes_a_mart(name: str, number: int) -> None:
    assert _is_noticed(_looking_ahead(name, number), histories=1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), [site for site in _sites() if site[0] != IDENTITY])
def test_each_place_that_asks_what_was_known_changes_a_mart_when_it_does_not(name: str, number: int) -> None:
    assert _is_noticed(_looking_ahead(name, number))


@pytest.mark.slow
def test_every_mart_changes_with_what_became_known_later() -> None:
    changed = set()
    for number in range(2):
        history, connection, answers = _loaded(number)
        build(connection, history.as_of, history.known_at + timedelta(30), history.settings)
        days = {"known_at": history.known_at}
        for mart in MARTS:
            later = [row | days for row in rows(connection, mart) if row["known_at"] > history.known_at]
            changed |= {mart} if later != answers[mart] else set()
            connection.execute(f"DELETE FROM marts.{mart} WHERE known_at > ?", [history.known_at])
    assert changed == set(MARTS)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_later_rows_of_each_table_would_change_a_mart_if_they_had_been_known(table: str) -> None:
    for number in range(3):
        history = _history(number, PLACES[number], 0, companies=30)
        known = history.known(Random(0))
        day, known_at = history.as_of.isoformat(), history.known_at.isoformat()
        early = (history.close - timedelta(seconds=1)).isoformat() + "Z"
        told = [
            row if history.is_known(row) else row | {"recorded_at": early} for row in history.world[table]
        ]
        with build_world(known, day, known_at, history.settings) as connection:
            first = _answers(connection)
        with build_world({**known, table: told}, day, known_at, history.settings) as connection:
            if _answers(connection) != first:
                return
    raise AssertionError(f"no mart depends on when rows of {table} are recorded")
