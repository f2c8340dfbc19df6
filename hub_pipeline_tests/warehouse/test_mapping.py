"""The views that turn a portal's properties and their history into what the models read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub_pipeline.models.engine import model_parameters, run_model
from hub_pipeline.models.graph import catalog
from hub_pipeline.models.macros import create_macros
from hub_pipeline.settings import Settings
from hub_pipeline.sources import billing
from hub_pipeline.warehouse.mapping import create_mapped_views
from hub_pipeline.warehouse.property_history import timeline_sql

START = datetime(2026, 1, 1)
BOOKKEEPING = (
    "_changed_at TIMESTAMP, _recorded_at TIMESTAMP, _archived_at TIMESTAMP, _deleted_at TIMESTAMP, "
    "_merged_into VARCHAR, _hash VARCHAR, _run_id VARCHAR"
)


def at(day: float) -> datetime:
    """An instant so many days after the start."""
    return START + timedelta(days=day)


class Portal:
    """Raw tables of a portal whose organisations carry what they pay for, filled by hand."""

    def __init__(self, mapping: Mapping[str, str], name: str = "organisations", **more: Any) -> None:
        self.name = name
        self.settings = Settings.model_validate(
            {
                **more,
                "hubspot": {
                    "objects": {
                        name: {
                            "object_type": "2-1" if name == "organisations" else name,
                            "properties": dict(mapping),
                        }
                    },
                    "associations": [],
                },
            }
        )
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'; SET threads = 1; CREATE SCHEMA raw_hubspot")
        columns = "".join(f', "{source}" VARCHAR' for source in dict.fromkeys(mapping.values()) if source)
        self.connection.execute(
            f"CREATE TABLE raw_hubspot.{name} (id VARCHAR, created_at TIMESTAMP{columns}, {BOOKKEEPING})"
        )
        self.connection.execute(
            "CREATE TABLE raw_hubspot.property_history (object VARCHAR, id VARCHAR, property VARCHAR, "
            f"changed_at TIMESTAMP, value VARCHAR, {BOOKKEEPING})"
        )
        self.connection.execute(
            "CREATE TABLE raw_hubspot.merges (object VARCHAR, loser_id VARCHAR, winner_id VARCHAR, _recorded_at TIMESTAMP)"
        )
        self.connection.execute(
            "CREATE TABLE raw_hubspot.associations (from_object VARCHAR, from_id VARCHAR, to_object VARCHAR, "
            f"to_id VARCHAR, type_id BIGINT, label VARCHAR, {BOOKKEEPING})"
        )
        self._has_views = False

    def told(
        self,
        property_: str,
        day: float,
        value: str,
        *,
        known: float | None = None,
        org: str = "1",
        run: str = "r1",
    ) -> None:
        """HubSpot's history of a property: what it was set to, and when we learned it (default: at once)."""
        self.connection.execute(
            "INSERT INTO raw_hubspot.property_history (object, id, property, changed_at, value, _recorded_at, _run_id) "
            "VALUES ($name, $id, $p, $at, $value, $known, $run)",
            {"name": self.name, "id": org, "p": property_, "at": at(day), "value": value, "run": run}
            | {"known": at(day if known is None else known)},
        )

    def seen(self, changed: float, *, known: float, org: str = "1", run: str = "r1", **values: Any) -> None:
        """A version of a record as it was read."""
        row = {
            "id": org,
            "created_at": at(0),
            "_changed_at": at(changed),
            "_recorded_at": at(known),
            "_run_id": run,
        }
        row |= values
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        self.connection.execute(
            f"INSERT INTO raw_hubspot.{self.name} ({names}) VALUES ({marks})", list(row.values())
        )

    def linked(self, org: str, other: str, label: str, day: float, *, gone: bool = False) -> None:
        """A sweep of associations found (or no longer found) this one."""
        self.connection.execute(
            "INSERT INTO raw_hubspot.associations (from_object, from_id, to_object, to_id, type_id, label, _changed_at, "
            "_recorded_at, _deleted_at) VALUES ('organisations', $a, 'organisations', $b, 1, $label, $at, $at, $gone)",
            {"a": org, "b": other, "label": label, "at": at(day), "gone": at(day) if gone else None},
        )

    def inputs(self, table: str, columns: str) -> list[tuple[Any, ...]]:
        """Rows of a canonical table, made by its model."""
        self.rows("SELECT 1")
        billing.ensure(self.connection)
        create_macros(self.connection)
        run_model(self.connection, catalog()[f"inputs.{table}"], model_parameters(None, None, self.settings))
        return self.rows(f"SELECT {columns} FROM inputs.{table} ORDER BY ALL NULLS FIRST")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        if not self._has_views:
            create_mapped_views(self.connection, self.settings)
            self._has_views = True
        return self.connection.execute(query).fetchall()

    def versions(
        self, *columns: str, table: str = "raw_hubspot.organisations_timeline"
    ) -> list[tuple[Any, ...]]:
        """Columns of all versions of the subscriptions, in order."""
        return self.rows(
            f"SELECT {', '.join(columns)} FROM {table} ORDER BY subscription_id, effective_at, recorded_at"
        )


SOLD = {"seats": "seats", "mrr": "mrr", "plan": "plan"}


@pytest.fixture
def portal() -> Iterator[Portal]:
    one = Portal(SOLD)
    yield one
    one.connection.close()


def test_each_change_of_a_property_is_a_version_and_the_others_carry_on(portal: Portal) -> None:
    for name, value in (("seats", "10"), ("mrr", "200"), ("plan", "team")):
        portal.told(name, 1, value)
    portal.told("seats", 40, "30")
    portal.told("mrr", 41, "600.50")
    portal.seen(41, known=0, seats="30", mrr="600.50", plan="team")
    assert portal.versions("effective_at", "recorded_at", "seats", "amount", "plan", "status", "source") == [
        (at(1), at(1), 10, Decimal(200), "team", "active", "hubspot"),
        (at(40), at(40), 30, Decimal(200), "team", "active", "hubspot"),
        (at(41), at(41), 30, Decimal("600.5"), "team", "active", "hubspot"),
    ]


def test_what_cannot_be_read_is_unknown_and_counted_and_never_guessed(portal: Portal) -> None:
    for day, seats, mrr in ((1, "10", "200"), (2, "N/A", "1,200"), (3, "12.5", "$90"), (4, " 15.0 ", "1e3")):
        portal.told("seats", day, seats)
        portal.told("mrr", day, mrr)
    portal.seen(4, known=0, seats=" 15.0 ", mrr="1e3", plan="")
    assert portal.versions("seats", "amount", "status") == [
        (10, Decimal(200), "active"),
        (None, None, "active"),
        (15, None, "active"),
    ]
    assert portal.rows("SELECT column_name, property, value FROM raw_hubspot.organisations_unread") == [
        ("mrr", "mrr", "1e3")
    ]


def test_nothing_sold_is_the_end_and_something_sold_again_a_new_beginning(portal: Portal) -> None:
    portal.told("mrr", 1, "200")
    portal.told("mrr", 30, "0")
    portal.told("seats", 30, "0")
    portal.told("mrr", 80, "100")
    assert portal.versions("effective_at", "status", "ended_at") == [
        (at(1), "active", None),
        (at(30), "canceled", at(30)),
        (at(80), "active", None),
    ]


def test_an_organisation_that_never_bought_anything_has_no_subscription(portal: Portal) -> None:
    portal.told("seats", 1, "0")
    portal.told("mrr", 1, "0")
    portal.told("plan", 2, "team")
    portal.told("seats", 3, "")
    assert portal.versions("effective_at") == []


DATED = {"seats": "seats", "cancel_at": "churn", "subscription_status": "status", "started_at": "since"}


@pytest.mark.parametrize(
    ("zone", "dates"),
    [
        (
            "UTC",
            {
                "2026-03-01": datetime(2026, 3, 1),
                "2026-03-01T08:00:00+02:00": datetime(2026, 3, 1, 6),
                "1772323200000": datetime(2026, 3, 1),
                "1.3.2026": None,
                "2026-02-30": None,
                "soon": None,
            },
        ),
        (
            "Europe/Berlin",
            {
                "2026-03-01": datetime(2026, 2, 28, 23),
                "2026-03-01T08:00:00Z": datetime(2026, 3, 1, 8),
            },
        ),
    ],
)
def test_dates_are_read_in_every_form_that_hubspot_has(zone: str, dates: dict[str, datetime | None]) -> None:
    portal = Portal(DATED, reporting_tz=zone)
    for text in dates:
        portal.told("seats", 1, "5", org=text)
        portal.told("churn", 2, text, org=text)
        portal.seen(2, known=0, org=text, seats="5", churn=text)
    assert dict(portal.versions("org_id", "cancel_at")) == dates
    unread = portal.rows("SELECT value FROM raw_hubspot.organisations_unread")
    assert {value for (value,) in unread} == {text for text, instant in dates.items() if instant is None}


def test_a_churn_date_far_ahead_keeps_it_running_and_a_cleared_one_is_withdrawn() -> None:
    portal = Portal(DATED)
    portal.told("seats", 1, "5")
    portal.told("status", 1, "Active")
    portal.told("churn", 10, at(60).isoformat() + "Z")
    portal.told("status", 10, "Cancelled")
    portal.told("churn", 20, "")
    portal.told("status", 20, "active")
    assert portal.versions("effective_at", "status", "cancel_at") == [
        (at(1), "active", None),
        (at(10), "active", at(60)),
        (at(20), "active", None),
    ]


def test_a_churn_date_from_before_it_ran_again_is_a_thing_of_the_past() -> None:
    portal = Portal(DATED)
    portal.told("seats", 1, "5")
    portal.told("status", 1, "active")
    portal.told("churn", 10, at(12).isoformat() + "Z")
    portal.told("status", 14, "Churned")
    portal.told("status", 40, "Active")
    assert portal.versions("effective_at", "status", "cancel_at", "ended_at") == [
        (at(1), "active", None, None),
        (at(10), "active", at(12), None),
        (at(14), "canceled", at(12), at(12)),
        (at(40), "active", None, None),
    ]


def test_what_starts_later_counts_later_and_what_was_typed_late_counts_from_its_start() -> None:
    portal = Portal(DATED)
    portal.told("seats", 5, "7", org="early")
    portal.told("since", 5, at(9).isoformat() + "Z", org="early")
    portal.told("seats", 5, "7", org="late")
    portal.told("since", 5, at(2).isoformat() + "Z", org="late")
    assert portal.versions("org_id", "effective_at", "recorded_at", "status", "seats") == [
        ("early", at(5), at(5), "incomplete", 7),
        ("early", at(9), at(9), "active", 7),
        ("late", at(2), at(5), "active", 7),
    ]


PRICED = {"mrr": "mrr", "recurring_amount": "amount", "billing_interval": "every", "currency": "currency"}


AMOUNTS: list[tuple[dict[str, str], tuple[str | None, Decimal | None]]] = [
    ({"mrr": "100"}, ("month", Decimal(100))),
    ({"mrr": "100", "every": "Annual"}, ("year", Decimal(1200))),
    ({"mrr": "100", "every": "quarterly"}, ("quarter", Decimal(300))),
    ({"mrr": "100", "every": "weekly"}, ("month", Decimal(100))),
    ({"mrr": "100", "every": "whenever"}, ("month", Decimal(100))),
    ({"amount": "1200", "every": "yearly"}, ("year", Decimal(1200))),
    ({"amount": "100"}, ("month", Decimal(100))),
    ({"amount": "100", "every": "whenever"}, (None, Decimal(100))),
    ({"mrr": "100", "amount": "9", "currency": "eur"}, ("month", Decimal(100))),
    ({"mrr": "100", "currency": "dollars"}, ("month", None)),
]


def test_the_amount_is_that_of_one_interval() -> None:
    portal = Portal(PRICED)
    for number, (values, _) in enumerate(AMOUNTS):
        for name, value in values.items():
            portal.told(name, 1, value, org=str(number))
    assert portal.versions("billing_interval", "amount") == [expected for _, expected in AMOUNTS]


def test_a_record_that_is_gone_pays_nothing_and_one_that_was_restored_pays_again(portal: Portal) -> None:
    portal.told("seats", 1, "5")
    portal.seen(1, known=0, seats="5")
    portal.seen(20, known=20, seats="5", run="r2", _archived_at=at(20))
    portal.seen(25, known=25, seats="5", run="r3")
    assert portal.versions("effective_at", "status") == [
        (at(1), "active"),
        (at(20), "canceled"),
        (at(25), "active"),
    ]


def test_without_history_the_versions_that_were_read_tell(portal: Portal) -> None:
    portal.seen(3, known=0, seats="5")
    portal.seen(30, known=30, seats="9", run="r2")
    assert portal.versions("effective_at", "recorded_at", "seats") == [(at(0), at(0), 5), (at(30), at(30), 9)]


def test_a_version_adds_nothing_to_a_history_that_explains_it(portal: Portal) -> None:
    portal.told("seats", 1, "5")
    portal.told("seats", 10, "8")
    portal.seen(12, known=0, seats="8")
    portal.seen(30, known=30, seats="8", plan="x", run="r2")
    assert portal.versions("effective_at", "seats") == [(at(1), 5), (at(10), 8), (at(30), 8)]
    portal.seen(33, known=33, seats="11", plan="x", run="r3")
    assert portal.versions("effective_at", "seats")[-1] == (at(33), 11), "its history had not caught up"


def test_a_property_that_the_portal_lost_is_not_read_as_cleared_everywhere(portal: Portal) -> None:
    portal.told("seats", 1, "5")
    portal.seen(1, known=0, seats="5")
    portal.seen(20, known=20, seats=None, run="r2")
    assert portal.versions("effective_at", "status", "seats") == [(at(1), "active", 5)]


def test_a_mapping_that_is_made_later_tells_the_past_from_then_on(portal: Portal) -> None:
    portal.seen(1, known=0, seats="5")
    portal.seen(50, known=50, seats="30", run="r2")
    before = portal.versions("effective_at", "recorded_at", "seats")
    assert before == [(at(0), at(0), 5), (at(50), at(50), 30)]
    for day, seats in ((2, "5"), (20, "12"), (49, "30")):
        portal.told("seats", day, seats, known=100, run="r9")
    known = portal.versions("effective_at", "recorded_at", "seats")
    assert [row for row in known if row[1] < at(100)] == before
    assert {row for row in known if row[1] == at(100)} >= {(at(20), at(100), 12), (at(49), at(100), 30)}


def test_billing_wins_from_the_moment_it_is_known_and_changes_no_day_before(portal: Portal) -> None:
    connection = portal.connection
    for org in ("1", "2", "3"):
        portal.told("seats", 1, "5", org=org)
        portal.told("seats", 30, "6", org=org)
    connection.execute(
        "INSERT INTO raw_hubspot.merges VALUES ('organisations', '3', '2', $at)", {"at": at(25)}
    )
    create_mapped_views(connection, portal.settings)
    billing.ensure(connection)
    connection.execute(
        "INSERT INTO raw_billing.subscriptions (source, subscription_id, customer_id, status, currency, livemode, "
        "started_at, _changed_at, _recorded_at, _floor, _absent) "
        "VALUES ('stripe', 'sub_3', 'cus_3', 'active', 'USD', true, $at, $at, $at, $at, false)",
        {"at": at(20)},
    )
    connection.execute(
        "INSERT INTO raw_billing.customer_matches (source, customer_id, org_id, matched_by, recorded_at) "
        "VALUES ('stripe', 'cus_3', '3', 'organisation_id', $at)",
        {"at": at(20)},
    )
    told = portal.inputs("subscription_versions", "org_id, effective_at, recorded_at, status, seats")
    assert [row for row in told if row[3] != "active" or row[4] is not None] == [
        ("1", at(1), at(1), "active", 5),
        ("1", at(30), at(30), "active", 6),
        ("2", at(1), at(1), "active", 5),
        ("2", at(1), at(25), "incomplete", None),
        ("3", at(1), at(1), "active", 5),
        ("3", at(1), at(20), "incomplete", None),
    ]


def test_an_old_day_shows_the_value_of_then() -> None:
    portal = Portal({"tier_override": "tier", "owner_id": "owner", "name": "name"})
    portal.told("tier", 5, "B")
    portal.told("tier", 40, "A")
    portal.told("owner", 7, "71")
    portal.told("tier", 6, "C", known=50, run="r2")
    portal.seen(40, known=0, tier="A", owner="71", name="Acme")
    rows = portal.rows(
        "SELECT _recorded_at, tier_override, owner_id, name FROM raw_hubspot.organisations_mapped ORDER BY 1"
    )
    assert rows == [
        (at(0), None, None, "Acme"),
        (at(5), "B", None, "Acme"),
        (at(7), "B", "71", "Acme"),
        (at(40), "A", "71", "Acme"),
    ], "what was learned late of a value since replaced is no news"


def test_parents_come_from_the_property_with_its_history_and_from_labelled_associations() -> None:
    portal = Portal({"parent_org_id": "parent"})
    portal.told("parent", 5, "9", org="1")
    portal.told("parent", 30, "", org="1")
    portal.seen(30, known=0, org="1", parent="")
    portal.seen(3, known=0, org="2", parent="9")
    portal.linked("3", "9", "Parent Company", 50)
    portal.linked("9", "3", "Child Company", 50)
    portal.linked("4", "9", "Parent Company", 51)
    portal.linked("3", "9", "Parent Company", 60, gone=True)
    assert portal.inputs("org_parents", "org_id, parent_org_id, valid_from, valid_to, recorded_at") == [
        ("1", None, at(30), None, at(30)),
        ("1", "9", at(5), None, at(5)),
        ("2", "9", None, None, at(0)),
        ("3", "9", None, None, at(50)),
        ("3", "9", None, at(60), at(60)),
        ("4", "9", at(51), None, at(51)),
    ]


def test_a_joint_plan_ends_when_the_record_forgets_the_payer_and_a_corrected_start_never_was() -> None:
    portal = Portal({"covered_by_org_id": "payer", "covered_from": "since", "covered_seats": "covered"})
    portal.told("payer", 5, "9")
    portal.told("since", 6, "2026-01-03")
    portal.told("covered", 8, "12")
    portal.told("payer", 40, "")
    portal.seen(40, known=0, payer="", since="2026-01-03", covered="12")
    assert portal.inputs("org_coverage", "valid_from, valid_to, seats, recorded_at, payer_org_id") == [
        (None, None, None, at(5), "9"),
        (None, datetime(1970, 1, 1), None, at(6), "9"),
        (at(2), None, None, at(6), "9"),
        (at(2), None, 12, at(8), "9"),
        (at(2), at(40), 12, at(40), "9"),
    ]


def test_a_custom_contract_ends_when_the_record_forgets_it() -> None:
    portal = Portal(
        {
            "contract_kind": "kind",
            "contract_from": "begins",
            "contract_to": "ends",
            "contract_amount": "worth",
        }
    )
    for name, value in (
        ("kind", "custom"),
        ("begins", "2026-01-02"),
        ("ends", "2027-01-02"),
        ("worth", "900"),
    ):
        portal.told(name, 5, value)
    portal.told("worth", 20, "1000")
    portal.told("kind", 40, "")
    portal.seen(40, known=0, kind="", begins="2026-01-02", ends="2027-01-02", worth="1000")
    rows = portal.inputs("crm_contracts", "recorded_at, kind, valid_from, valid_to, amount, term_end")
    end = datetime(2027, 1, 2)
    assert rows == [
        (at(5), "custom", at(1), end, Decimal(900), end),
        (at(20), "custom", at(1), end, Decimal(1000), end),
        (at(40), "custom", at(1), at(40), Decimal(1000), end),
    ]


def test_each_score_an_organisation_had_is_an_answer_of_one_respondent() -> None:
    portal = Portal({"nps_score": "nps", "nps_responded_at": "answered", "nps_comment": "why"})
    portal.told("nps", 10, "9", org="7")
    portal.told("nps", 40, "4", org="7")
    portal.told("why", 40, "Slow", org="7")
    portal.told("answered", 41, at(39).isoformat() + "Z", org="7")
    portal.told("nps", 60, "eleven", org="7")
    portal.told("nps", 70, "", org="7")
    rows = portal.rows(
        "SELECT contact_id, org_id, score, comment, responded_at, recorded_at FROM raw_hubspot.organisations_nps "
        "ORDER BY recorded_at"
    )
    who = ("organisation:7", "7")
    assert rows == [
        (*who, 9, None, at(10), at(10)),
        (*who, 4, "Slow", at(40), at(40)),
        (*who, 4, "Slow", at(39), at(41)),
    ]


def test_owners_and_stages_of_contacts_follow_the_mapping_of_the_portal() -> None:
    portal = Portal({"owner_id": "csm", "lifecycle_stage": "phase", "lead_status": "state"}, name="contacts")
    portal.told("csm", 1, "71")
    portal.told("csm", 9, "")
    portal.told("phase", 1, "lead")
    portal.told("state", 4, "CONNECTED")
    portal.told("phase", 8, "customer")
    portal.told("phase", 6, "opportunity", known=12, run="r2")
    portal.seen(9, known=0, csm="", phase="customer", state="CONNECTED")
    assert portal.inputs("contact_owners", "valid_from, owner_id, recorded_at") == [
        (at(1), "71", at(1)),
        (at(9), None, at(9)),
    ]
    stages = portal.inputs("contact_stages", "set_at, recorded_at, lifecycle_stage, lead_status")
    assert stages == [
        (at(1), at(1), "lead", None),
        (at(4), at(4), "lead", "CONNECTED"),
        (at(6), at(12), "opportunity", "CONNECTED"),
        (at(8), at(8), "customer", "CONNECTED"),
        (at(8), at(12), "customer", "CONNECTED"),
    ]


def test_amount_and_owner_of_a_deal_are_those_of_then_and_every_close_date_is_kept() -> None:
    mapping = {"amount": "worth", "owner_id": "seller", "close_date": "due", "stage": "step"}
    portal = Portal(mapping, name="deals")
    portal.told("worth", 1, "500")
    portal.told("worth", 20, "650.50")
    portal.told("seller", 1, "71")
    portal.told("due", 1, "2026-06-30T12:00:00Z")
    portal.told("due", 30, "1769774400000")
    portal.told("step", 1, "planned")
    portal.told("step", 30, "won")
    portal.seen(30, known=0, worth="650.50", seller="71", due="1769774400000", step="won")
    assert portal.inputs("deals", "recorded_at, amount, owner_id, stage") == [
        (at(0), None, None, "won"),
        (at(1), Decimal(500), "71", "won"),
        (at(20), Decimal("650.5"), "71", "won"),
    ]
    assert portal.inputs("deal_close_dates", "set_at, close_date") == [
        (at(1), date(2026, 6, 30)),
        (at(30), date(2026, 1, 30)),
    ]
    assert portal.inputs("deal_stages", "set_at, stage") == [(at(1), "planned"), (at(30), "won")]


def test_history_of_what_is_mapped_is_read_without_being_named_twice() -> None:
    portal = Portal({"seats": "paid_seats", "domain": "domain", "tier_override": ""})
    assert portal.settings.hubspot.objects["organisations"].history == ("paid_seats",)
    assert Settings().hubspot.objects["deals"].history == (
        "dealstage",
        "closedate",
        "amount",
        "hubspot_owner_id",
    )


def test_a_mapped_property_that_the_portal_lacks_is_named_and_empty() -> None:
    portal = Portal({"seats": "seats", "mrr": "mrr"})
    portal.connection.execute("ALTER TABLE raw_hubspot.organisations DROP COLUMN mrr")
    portal.told("seats", 1, "4")
    missing = create_mapped_views(portal.connection, portal.settings)
    assert [(one.object, one.column, one.property) for one in missing] == [("organisations", "mrr", "mrr")]
    assert portal.versions("seats", "amount") == [(4, None)]


Cell = tuple[str, int, int, int]
COLUMNS = ("a", "b", "c")


@st.composite
def histories(draw: st.DrawFn) -> list[list[Cell]]:
    """Of some organisations: cells (column, set on day, known on day, value), each told once."""
    cell = st.tuples(st.sampled_from(COLUMNS), st.integers(0, 8), st.integers(0, 8), st.integers(0, 3)).map(
        lambda c: (c[0], c[1], c[1] + c[2] if c[2] > 3 else c[1], c[3])
    )
    one = st.lists(cell, max_size=9, unique_by=lambda c: c[:3])
    return draw(st.lists(one, min_size=8, max_size=8))


def in_force(cells: Sequence[Cell], day: int, known: int) -> tuple[int | None, ...]:
    """What each column was on a day, as known on another: the last setting, of two the one learned last."""
    values: list[int | None] = []
    for column in COLUMNS:
        then = [c for c in cells if c[0] == column and c[1] <= day and c[2] <= known]
        values.append(max(then, key=lambda c: (c[1], c[2]))[3] if then else None)
    return tuple(values)


@pytest.fixture(scope="module")
def memory() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute(
            "CREATE TABLE cells (id VARCHAR, column_name VARCHAR, value VARCHAR, effective_at TIMESTAMP, "
            "recorded_at TIMESTAMP)"
        )
        yield connection


def timeline(
    connection: duckdb.DuckDBPyConnection, organisations: Sequence[Sequence[Cell]], order: int = 1
) -> list[tuple[Any, ...]]:
    rows = [
        (str(number), column, str(value), at(day), at(known))
        for number, cells in enumerate(organisations)
        for column, day, known, value in cells
    ]
    connection.execute("DELETE FROM cells")
    if rows:
        connection.executemany("INSERT INTO cells VALUES (?, ?, ?, ?, ?)", rows[::order])
    told = (
        f"SELECT id, effective_at, recorded_at, a, b, c FROM ({timeline_sql('SELECT * FROM cells', COLUMNS)})"
    )
    return connection.execute(f"{told} WHERE is_told ORDER BY ALL").fetchall()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories())
def test_at_every_day_and_state_of_knowledge_the_timeline_says_what_was_in_force(
    memory: duckdb.DuckDBPyConnection, organisations: list[list[Cell]]
) -> None:
    rows = timeline(memory, organisations)
    assert timeline(memory, organisations, order=-1) == rows, "the order of arrival changes nothing"
    keys = [row[:3] for row in rows]
    assert len(set(keys)) == len(keys)
    for number, cells in enumerate(organisations):
        own = [row for row in rows if row[0] == str(number)]
        for known in range(0, 18, 2):
            latest = {row[1]: row for row in sorted(own, key=lambda r: r[2]) if row[2] <= at(known)}
            for day in range(10):
                held = max(
                    (row for row in latest.values() if row[1] <= at(day)), default=None, key=lambda r: r[1]
                )
                said = tuple(None if v is None else int(v) for v in held[3:]) if held else (None, None, None)
                assert said == in_force(cells, day, known)


Told = tuple[str, int, int, str]
_VALUES = {
    "seats": ("", "0", "5", "N/A"),
    "mrr": ("", "0", "90"),
    "plan": ("", "team"),
    "status": ("", "active", "cancelled", "odd"),
    "churn": ("", "2026-01-05", "2026-01-09"),
    "since": ("", "2026-01-01", "2026-01-04", "2026-01-08"),
}
_ALL = {"seats": "seats", "mrr": "mrr", "plan": "plan", "subscription_status": "status"}
_ALL |= {"cancel_at": "churn", "started_at": "since"}


@st.composite
def tellings(draw: st.DrawFn) -> list[list[Told]]:
    """Of some organisations: what their properties were set to (property, set on day, known on day, value)."""
    name = st.sampled_from(sorted(_VALUES))
    cell = st.tuples(name, st.integers(0, 9), st.integers(0, 9)).flatmap(
        lambda c: st.sampled_from(_VALUES[c[0]]).map(
            lambda v: (c[0], c[1], c[1] + c[2] if c[2] > 5 else c[1], v)
        )
    )
    return draw(st.lists(st.lists(cell, max_size=8, unique_by=lambda c: c[:3]), min_size=6, max_size=6))


@settings(max_examples=8, deadline=None)
@given(tellings())
def test_what_was_known_of_a_subscription_does_not_change_by_what_arrives_later(
    organisations: list[list[Told]],
) -> None:
    portal = Portal(_ALL)
    knowledge = (3, 7, 12)
    rows = []
    for number, cells in enumerate(organisations):
        for known in (99, *knowledge):
            rows += [
                ("organisations", f"{number}@{known}", name, at(day), value, at(told), "r1")
                for name, day, told, value in cells
                if told <= known
            ]
    if rows:
        portal.connection.executemany(
            "INSERT INTO raw_hubspot.property_history (object, id, property, changed_at, value, _recorded_at, _run_id) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    states: dict[str, list[tuple[Any, ...]]] = {}
    columns = (
        "org_id",
        "effective_at",
        "recorded_at",
        "status",
        "seats",
        "amount",
        "plan",
        "cancel_at",
        "ended_at",
    )
    for row in portal.versions(*columns):
        states.setdefault(row[0], []).append(row[1:])

    def held(org: str, day: int, known: int) -> tuple[Any, ...] | None:
        """What ran on a day: status, seats and so on; None for nothing that ever did."""
        told = [row for row in states.get(org, ()) if row[0] <= at(day) and row[1] <= at(known)]
        state = max(told, key=lambda row: row[:2])[2:] if told else None
        return None if state is None or state[0] in ("canceled", "incomplete") else state

    for number in range(len(organisations)):
        for known in knowledge:
            for day in range(14):
                assert held(f"{number}@99", day, known) == held(f"{number}@{known}", day, known)
