"""Forecasts and flags of stored days against what came of them, sentence by sentence and against an oracle."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any

import duckdb
import pytest

from hub_pipeline.models import build, catalog
from hub_pipeline.models.graph import Catalog
from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.oracle_outcomes import Outcomes
from hub_pipeline_tests.models.random_worlds import world_of
from hub_pipeline_tests.models.worlds import Row, load, organisations, subscription


@cache
def _models() -> Catalog:
    """The two views and what they rest on; many days are built here, and the other marts would be half of the time."""
    wanted = {"hub.renewal_forecast_accuracy", "hub.flag_quality"}
    for model in reversed(list(catalog())):
        wanted |= set(model.dependencies) if model.name in wanted else set()
    return Catalog({model.name: model for model in catalog() if model.name in wanted}, catalog().inputs)


def _stored(
    world: dict[str, list[Row]], days: Sequence[str | date], settings: Settings | None = None
) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    load(connection, world, settings)
    for day in days:
        build(connection, date.fromisoformat(str(day)), settings=settings, models=_models())
    return connection


def _view(connection: duckdb.DuckDBPyConnection, name: str, **key: Any) -> list[Row]:
    cursor = connection.execute(f"SELECT * FROM hub.{name}")
    columns = [column[0] for column in cursor.description or []]
    found = [dict(zip(columns, values, strict=True)) for values in cursor.fetchall()]
    return [row for row in found if all(row[name] == value for name, value in key.items())]


# hub.renewal_forecast_accuracy

MARCH = date(2026, 3, 1)
FORECAST = Settings.model_validate(
    {"renewal": {"stage_probability": {"_missing": "0.5", "negotiation": "0.8", "won": "1"}}}
)


def _contract(org: str, *changes: tuple[str, float], **columns: Any) -> list[Row]:
    """A yearly contract whose term ends on 15 March; changes are MRR."""
    base = {"plan": "business", "billing_interval": "year", "term_end": "2026-03-15"} | columns
    return subscription(f"s-{org}", org, [(when, 10, mrr * 12) for when, mrr in changes], **base)


def _deal(org: str, **columns: Any) -> Row:
    return {
        "deal_id": f"d-{org}",
        "org_id": org,
        "subscription_id": f"s-{org}",
        "pipeline": "post_sales",
        "deal_type": "renewal",
        "stage": "negotiation",
        "status": "open",
        "amount": 1000,
        "currency": "USD",
        "created_at": "2025-06-01",
        "close_date": "2026-03-15",
    } | columns


START = "2025-03-15"

#: Story -> (versions, deals, renewed MRR, undecided MRR, upsell) of a contract of 1000 MRR, forecast in February.
STORIES: dict[str, tuple[list[Row], list[Row], float, float, float]] = {
    "renewed": (_contract("renewed", (START, 1000), ("2026-03-15", 1000)), [], 1000, 0, 0),
    "grown": (_contract("grown", (START, 1000), ("2026-03-15", 1300)), [], 1000, 0, 300),
    "shrunk": (_contract("shrunk", (START, 1000), ("2026-03-15", 400)), [], 400, 0, 0),
    "ended": (
        [*_contract("ended", (START, 1000)), *_contract("ended", ("2026-03-15", 1000), status="canceled")],
        [],
        0,
        0,
        0,
    ),
    "new id": (
        [
            *_contract("new id", (START, 1000)),
            *_contract("new id", ("2026-03-15", 1000), status="canceled"),
            *subscription("s-next", "new id", [("2026-03-20", 10, 700)]),
        ],
        [],
        700,
        0,
        0,
    ),
    "bigger new id": (
        [
            *_contract("bigger new id", (START, 1000)),
            *_contract("bigger new id", ("2026-03-15", 1000), status="canceled"),
            *subscription("s-bigger", "bigger new id", [("2026-03-20", 10, 1700)]),
        ],
        [],
        1000,
        0,
        0,
    ),
    "other subscription": (
        [
            *_contract("other subscription", (START, 1000)),
            *_contract("other subscription", ("2026-03-15", 1000), status="canceled"),
            *subscription("s-other", "other subscription", [("2026-01-01", 10, 700)]),
        ],
        [],
        0,
        0,
        0,
    ),
    # the renewal is due in March, the term ends in April
    "early": (_contract("early", (START, 1000), term_end="2026-04-05"), [_deal("early")], 1000, 1000, 0),
    "early, won": (
        _contract("early, won", (START, 1000), term_end="2026-04-05"),
        [
            _deal(
                "early, won",
                status="won",
                stage="won",
                closed_at="2026-03-20T10:00:00Z",
                recorded_at="2026-03-20T10:00:00Z",
            )
        ],
        1000,
        0,
        0,
    ),
    "early, lost": (
        _contract("early, lost", (START, 1000), term_end="2026-04-05"),
        [
            _deal(
                "early, lost",
                status="lost",
                stage="lost",
                closed_at="2026-03-20T10:00:00Z",
                recorded_at="2026-03-20T10:00:00Z",
            )
        ],
        0,
        0,
        0,
    ),
    "early, cancelled": (
        [
            *_contract("early, cancelled", (START, 1000), term_end="2026-04-05"),
            *_contract(
                "early, cancelled", ("2026-03-20", 1000), term_end="2026-04-05", cancel_at="2026-04-05"
            ),
        ],
        [_deal("early, cancelled")],
        0,
        0,
        0,
    ),
    # cancelled for a later day after it was renewed: it was renewed
    "cancelled later": (
        [
            *_contract("cancelled later", (START, 1000)),
            *_contract(
                "cancelled later", ("2026-03-20", 1000), term_end="2027-03-15", cancel_at="2027-03-15"
            ),
        ],
        [],
        1000,
        0,
        0,
    ),
    "unknown": (
        [
            *_contract("unknown", (START, 1000)),
            *_contract("unknown", ("2026-03-20", 1000), billing_interval="day"),
        ],
        [],
        1000,
        1000,
        0,
    ),
    # not compared: out of scope, or due in another month
    "small": (_contract("small", (START, 400)), [], 0, 0, 0),
    "april": (_contract("april", (START, 1000), term_end="2026-04-01"), [], 0, 0, 0),
}
NOT_COMPARED = ("small", "april")


def _accuracy(*stories: str) -> Row:
    world: dict[str, list[Row]] = {
        "organisations": organisations(*stories),
        "subscription_versions": [row for name in stories for row in STORIES[name][0]],
        "deals": [
            row
            for name in stories
            for deal in STORIES[name][1]
            for row in ([_deal(name), deal] if deal["status"] != "open" else [deal])
        ],
    }
    connection = _stored(world, ("2026-02-28", "2026-03-31"), FORECAST)
    [row] = _view(connection, "renewal_forecast_accuracy", period_start=MARCH)
    return row


@pytest.mark.parametrize("story", [name for name in STORIES if name not in NOT_COMPARED])
def test_what_a_contract_has_renewed(story: str) -> None:
    row = _accuracy(story)
    _, _, renewed, undecided, upsell = STORIES[story]
    assert (row["contracts"], row["renewals_due_mrr"]) == (1, 1000)
    assert (row["actual_renewed_mrr"], row["undecided_mrr"], row["actual_upsell_mrr"]) == (
        renewed,
        undecided,
        upsell,
    )


def test_the_row_adds_up_all_contracts_that_the_forecast_counted_and_no_others() -> None:
    row = _accuracy(*STORIES)
    compared = [story for name, story in STORIES.items() if name not in NOT_COMPARED]
    assert row["contracts"] == len(compared)
    assert row["renewals_due_mrr"] == 1000 * len(compared)
    assert row["actual_renewed_mrr"] == sum(story[2] for story in compared)
    assert row["error_mrr"] == row["renewal_forecast_mrr"] - row["actual_renewed_mrr"]
    assert (row["forecast_as_of"], row["outcome_as_of"], row["lead_months"]) == (
        date(2026, 2, 28),
        date(2026, 3, 31),
        0,
    )


def test_where_nothing_was_to_be_renewed_nothing_is_compared() -> None:
    row = _accuracy("small", "april")
    assert row["contracts"] == 0
    empty = (
        "actual_renewed_mrr",
        "undecided_mrr",
        "error_mrr",
        "absolute_error_pct",
        "bias_pct",
        "actual_upsell_mrr",
    )
    assert [row[name] for name in empty] == [None] * len(empty)


def test_an_error_without_anything_renewed_has_no_share() -> None:
    row = _accuracy("ended")
    assert (row["error_mrr"], row["absolute_error_pct"], row["bias_pct"]) == (500, None, None)


def test_a_forecast_is_that_of_the_last_stored_day_of_each_month_ahead() -> None:
    world = {"subscription_versions": STORIES["shrunk"][0]}
    days = ("2025-12-03", "2025-12-20", "2026-01-31", "2026-02-01", "2026-03-01", "2026-04-02", "2026-04-03")
    found = _view(_stored(world, days, FORECAST), "renewal_forecast_accuracy", period_start=MARCH)
    assert [(row["lead_months"], row["forecast_as_of"], row["outcome_as_of"]) for row in found] == [
        (0, date(2026, 2, 1), date(2026, 4, 2)),
        (1, date(2026, 1, 31), date(2026, 4, 2)),
        (2, date(2025, 12, 20), date(2026, 4, 2)),
    ]


def test_a_month_that_is_not_over_is_not_compared() -> None:
    world = {"subscription_versions": STORIES["shrunk"][0]}
    assert not _view(
        _stored(world, ("2026-02-28", "2026-03-30"), FORECAST),
        "renewal_forecast_accuracy",
        period_start=MARCH,
    )


def test_a_restated_day_is_neither_a_forecast_nor_an_outcome() -> None:
    connection = _stored(
        {"subscription_versions": STORIES["shrunk"][0]}, ("2026-02-28", "2026-03-31"), FORECAST
    )
    before = _view(connection, "renewal_forecast_accuracy")
    for day in (date(2026, 2, 28), date(2026, 3, 31)):
        build(connection, day, date(2026, 5, 31), FORECAST, models=_models())
    assert _view(connection, "renewal_forecast_accuracy") == before


def test_an_exchange_rate_is_no_error_of_a_forecast() -> None:
    world = {
        "subscription_versions": _contract("a", (START, 1000), ("2026-03-15", 900), currency="EUR"),
        "fx_rates": [
            {"currency": "EUR", "rate": "1.5", "valid_from": "2026-01-01"},
            {"currency": "EUR", "rate": "1.1", "valid_from": "2026-03-10"},
        ],
    }
    [row] = _view(
        _stored(world, ("2026-02-28", "2026-03-31"), FORECAST),
        "renewal_forecast_accuracy",
        period_start=MARCH,
    )
    assert (row["renewals_due_mrr"], row["actual_renewed_mrr"]) == (1500, 1350)


def test_bias_and_mean_error_are_over_the_months_so_far_with_the_same_lead() -> None:
    world = {
        "subscription_versions": [
            *STORIES["shrunk"][0],  # due in March: 500 forecast, 400 renewed
            *_contract("april", (START, 1000), ("2026-04-10", 1000), term_end="2026-04-10"),  # 500 and 1000
        ]
    }
    connection = _stored(world, ("2026-02-28", "2026-03-31", "2026-04-30"), FORECAST)
    april, march = _view(connection, "renewal_forecast_accuracy", lead_months=0)
    assert (march["error_mrr"], march["absolute_error_pct"], march["bias_pct"]) == (
        100,
        Decimal("0.25"),
        Decimal("0.25"),
    )
    assert (april["error_mrr"], april["absolute_error_pct"]) == (-500, Decimal("0.5"))
    assert (april["mean_absolute_error_pct"], april["bias_pct"]) == (Decimal("0.375"), Decimal("-0.2857"))


# hub.flag_quality

FLAGGED = "2026-01-31"
WINDOW_END = "2026-07-30"
BEFORE = "2025-06-01"
DROP = "2026-01-10"


def _paying(org: str, *changes: tuple[str, int], end: str | None = None, **columns: Any) -> list[Row]:
    """A monthly subscription; changes are seats, each 10 a month."""
    versions = subscription(
        f"s-{org}", org, [(when, seats, seats * 10) for when, seats in changes], **columns
    )
    if end is not None:
        versions += subscription(f"s-{org}", org, [(end, 1, 10)], status="canceled")
    return versions


def _flag_world() -> dict[str, list[Row]]:
    return {
        "organisations": [
            *organisations(
                "calm",
                "hit",
                "miss",
                "false",
                "again",
                "shrinks",
                "merged",
                "back",
                "moved",
                "edge",
                "late",
                "split",
                "payer",
            ),
            {"org_id": "unhappy"},
        ],
        "subscription_versions": [
            *_paying("calm", (BEFORE, 50)),
            *_paying("hit", (BEFORE, 50), (DROP, 30), end="2026-03-02"),
            *_paying("miss", (BEFORE, 50), end="2026-03-02"),
            *_paying("false", (BEFORE, 50), (DROP, 30)),
            # on the list, and shrinking once more after it
            *_paying("again", (BEFORE, 50), (DROP, 30), ("2026-03-10", 10)),
            *_paying("shrinks", (BEFORE, 50), ("2026-03-10", 10)),
            *_paying("merged", (BEFORE, 50), (DROP, 30)),
            # a gap of ten days is a false alarm
            *_paying("back", (BEFORE, 50), end="2026-03-02"),
            *subscription("s-back-2", "back", [("2026-03-12", 50, 500)]),
            *_paying("moved", (BEFORE, 50), end="2026-03-02"),
            *_paying("payer", (BEFORE, 50), ("2026-03-02", 100)),
            *_paying("edge", (BEFORE, 50), end=WINDOW_END),
            *_paying("late", (BEFORE, 50), end="2026-07-31"),
            # one of two contracts ends: a contraction and no churn
            *_paying("split", (BEFORE, 50), end="2026-03-02"),
            *subscription("s-split-2", "split", [(BEFORE, 50, 500)]),
            *_paying("unhappy", (BEFORE, 50), end="2026-05-01"),
        ],
        "org_coverage": [{"child_org_id": "moved", "payer_org_id": "payer", "valid_from": "2026-03-02"}],
        "org_merges": [{"loser_org_id": "merged", "winner_org_id": "calm", "merged_at": "2026-04-01"}],
        "contacts": [{"contact_id": "c"}],
        "nps_responses": [
            {
                "response_id": "r",
                "contact_id": "c",
                "org_id": "unhappy",
                "score": 2,
                "responded_at": "2026-01-20",
            }
        ],
    }


STORED = (FLAGGED, "2026-03-05", "2026-03-11", "2026-05-01", "2026-06-10", "2026-07-30", "2026-08-15")


@cache
def _flags() -> duckdb.DuckDBPyConnection:
    return _stored(_flag_world(), STORED)


def _quality(reason: str, connection: duckdb.DuckDBPyConnection | None = None) -> Row:
    [row] = _view(connection or _flags(), "flag_quality", as_of=date.fromisoformat(FLAGGED), reason=reason)
    return row


def test_flags_are_held_against_what_was_lost_in_the_180_days_after_them() -> None:
    row = _quality("any")
    assert (row["status"], row["evaluated_on"], row["stored_days"]) == ("complete", date(2026, 7, 30), 5)
    # merged has no row any more; of the other thirteen hit, miss, edge and unhappy churned; again, shrinks, split shrank
    assert (row["customers"], row["without_outcome"]) == (13, 1)
    assert (row["lost"], row["lost_by_churn"], row["lost_by_contraction"]) == (7, 4, 3)
    # flagged: hit, false, again, unhappy
    assert (row["flagged"], row["true_positives"], row["false_positives"], row["false_negatives"]) == (
        4,
        3,
        1,
        4,
    )
    assert (row["precision"], row["recall"]) == (Decimal("0.75"), Decimal("0.4286"))
    assert row["base_rate"] == Decimal("0.5385")


def test_each_reason_is_judged_by_itself_against_all_losses() -> None:
    seats, answers = _quality("seat_contraction"), _quality("nps_detractor")
    assert (seats["flagged"], seats["true_positives"], seats["false_negatives"]) == (3, 2, 5)
    assert (answers["flagged"], answers["true_positives"], answers["false_negatives"]) == (1, 1, 6)
    assert (answers["precision"], answers["recall"]) == (1, Decimal("0.1429"))


def test_lead_time_is_counted_to_the_churn_date_or_to_the_first_stored_day_that_shows_the_drop() -> None:
    # hit: 2 March, 30 days; again: 11 March, the first stored day after the 10th, 39 days; unhappy: 1 May, 90 days
    assert _quality("any")["median_lead_days"] == 39
    assert _quality("seat_contraction")["median_lead_days"] == Decimal("34.5")
    assert _quality("nps_detractor")["median_lead_days"] == 90


def test_a_day_whose_window_is_not_over_is_pending_and_says_nothing_of_outcomes() -> None:
    days = [day for day in STORED if day < "2026-07-30"]
    row = _quality("any", _stored(_flag_world(), [*days, "2026-07-29"]))
    assert (row["status"], row["window_end"], row["evaluated_on"]) == ("pending", date(2026, 7, 30), None)
    assert (row["customers"], row["flagged"]) == (14, 5)
    unknown = (
        "lost",
        "true_positives",
        "false_positives",
        "false_negatives",
        "precision",
        "recall",
        "base_rate",
    )
    assert [row[name] for name in unknown] == [None] * len(unknown)


def test_without_flags_there_is_no_precision_and_without_losses_no_recall() -> None:
    world = {"subscription_versions": _paying("calm", (BEFORE, 50))}
    row = _quality("any", _stored(world, (FLAGGED, WINDOW_END)))
    assert (row["customers"], row["flagged"], row["lost"]) == (1, 0, 0)
    assert (row["precision"], row["recall"], row["median_lead_days"]) == (None, None, None)
    assert row["base_rate"] == 0


# Against the oracle


def _agree(name: str, key: tuple[str, ...], wanted: list[Row], found: list[Row]) -> None:
    oracle = {tuple(row[column] for column in key): row for row in wanted}
    sql = {tuple(row[column] for column in key): row for row in found}
    assert sorted(oracle) == sorted(sql), name
    differences = [
        f"{name} {at}: (oracle, SQL) {values}"
        for at, row in oracle.items()
        if (values := {column: (v, sql[at][column]) for column, v in row.items() if v != sql[at][column]})
    ]
    assert not differences, "\n".join(differences[:10])


def _assert_agreement(seed: int, companies: int, zone: str, offsets: Sequence[int]) -> None:
    random = Random(seed)
    last = date(2026, 6, 30) + timedelta(random.randrange(60))
    world = world_of([random.randrange(2**32) for _ in range(companies)], last, zone)
    del world["deals"]  # the oracle tells what becomes of contracts without deals
    world.pop("deal_close_dates", None)
    settings = Settings.model_validate(
        {
            "reporting_tz": zone,
            "renewal": {"mrr_over": 20, "enterprise_mrr_over": 20, "stage_probability": {"_missing": "0.7"}},
            "contraction": {"seats_min": 0, "mrr_min": 0},
        }
    )
    days = [last - timedelta(offset) for offset in offsets]
    outcomes = Outcomes(world, days, settings)
    with _stored(world, days, settings) as connection:
        _agree(
            "flag_quality", ("as_of", "reason"), outcomes.flag_quality(), _view(connection, "flag_quality")
        )
        _agree(
            "renewal_forecast_accuracy",
            ("period_start", "lead_months"),
            outcomes.forecast_accuracy(),
            _view(connection, "renewal_forecast_accuracy"),
        )
    judged = [row for row in outcomes.flag_quality() if row["status"] == "complete"]
    assert sum(row["flagged"] for row in judged) > 0
    assert sum(row["lost"] for row in judged) > 0
    assert sum(row["contracts"] for row in outcomes.forecast_accuracy()) > 0


def test_sql_and_oracle_agree_on_the_outcomes_of_random_companies() -> None:
    _assert_agreement(20260630, 100, "Europe/Berlin", (200, 180, 90, 30, 0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_sql_and_oracle_agree_on_the_outcomes_of_many_random_companies(seed: int) -> None:
    zone = ("UTC", "America/New_York", "Pacific/Auckland")[seed % 3]
    _assert_agreement(seed, 120, zone, (250, 200, 181, 180, 120, 90, 89, 60, 31, 30, 15, 2, 1, 0))
