"""NPS answers from four doors become one table: whose they are, which count, and that none counts twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hub_pipeline.models import catalog, run_checks, run_model
from hub_pipeline.models.engine import model_parameters
from hub_pipeline.models.macros import create_macros
from hub_pipeline.settings import Settings
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline_tests.sources.billing_folder import BillingFolder

MAY = datetime(2026, 5, 1, 12)
DAY = timedelta(days=1)
HEADER = "response_id,responded_at,score,comment,contact_id,respondent_email,organisation_ref,survey_type,source_group"


class Doors(BillingFolder):
    """All four doors, empty; a test says what came through them."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, intercom={"nps_attribute": "nps", "nps_responded_attribute": "nps_at"})
        for statement in (
            "CREATE SCHEMA raw_hubspot",
            "CREATE SCHEMA raw_intercom",
            "CREATE SCHEMA inputs",
            "CREATE TABLE raw_hubspot.feedback_submissions_mapped (id VARCHAR, survey_type VARCHAR, score DECIMAL(9,4), "
            "comment VARCHAR, responded_at TIMESTAMP, source_group VARCHAR, _recorded_at TIMESTAMP, "
            "_deleted_at TIMESTAMP, _archived_at TIMESTAMP)",
            "CREATE TABLE raw_hubspot.associations (from_object VARCHAR, from_id VARCHAR, to_object VARCHAR, "
            "to_id VARCHAR, _deleted_at TIMESTAMP, _recorded_at TIMESTAMP)",
            "CREATE TABLE raw_hubspot.contacts_mapped (id VARCHAR, email VARCHAR, _recorded_at TIMESTAMP)",
            "CREATE TABLE raw_hubspot.organisations_mapped (id VARCHAR, external_id VARCHAR, _recorded_at TIMESTAMP)",
            "CREATE TABLE raw_hubspot.organisations_unread (id VARCHAR, column_name VARCHAR, value VARCHAR)",
            "CREATE TABLE raw_hubspot.contacts_unread AS FROM raw_hubspot.organisations_unread",
            "CREATE TABLE raw_hubspot.contacts_nps (response_id VARCHAR, contact_id VARCHAR, org_id VARCHAR, "
            "score DECIMAL(9,4), comment VARCHAR, source VARCHAR, responded_at TIMESTAMP, recorded_at TIMESTAMP)",
            "CREATE TABLE raw_hubspot.organisations_nps AS FROM raw_hubspot.contacts_nps",
            "CREATE TABLE raw_intercom.contacts (id VARCHAR, email VARCHAR, custom_attributes VARCHAR, "
            "_changed_at TIMESTAMP, _recorded_at TIMESTAMP, _deleted_at TIMESTAMP)",
            "CREATE VIEW raw_intercom.contacts_current AS FROM raw_intercom.contacts "
            "QUALIFY row_number() OVER (PARTITION BY id ORDER BY _changed_at DESC) = 1",
        ):
            self.connection.execute(statement)

    def clear(self) -> None:
        """Empty every door."""
        tables = self.rows(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE schema_name IN ('raw_hubspot', "
            "'raw_intercom') OR table_name IN ('nps_responses', 'files', 'quarantine') AND schema_name = 'raw_billing'"
        )
        for (table,) in tables:
            self.connection.execute(f"DELETE FROM {table}")
        for path in self.folder.iterdir():
            path.unlink()

    def contact(
        self, id: str, email: str, known_at: datetime = MAY - 90 * DAY, org: str | None = None
    ) -> None:
        self._insert("raw_hubspot.contacts_mapped", id, email, known_at)
        if org is not None:
            self._insert("raw_hubspot.associations", "contacts", id, "organisations", org, None, known_at)

    def submission(
        self,
        id: str,
        score: Any,
        at: datetime | None,
        *,
        contact: str | None = None,
        kind: str = "NPS",
        group: str = "",
    ) -> None:
        values = (id, kind, score, None, at, group, at, None, None)
        self._insert("raw_hubspot.feedback_submissions_mapped", *values)
        if contact is not None:
            self._insert(
                "raw_hubspot.associations", "feedback_submissions", id, "contacts", contact, None, at
            )

    def property(self, kind: str, id: str, score: int, at: datetime) -> None:
        one = kind == "contact"
        values = (f"{kind}:{id}:{at}", id if one else f"organisation:{id}", None if one else id, score, None)
        self._insert(f"raw_hubspot.{kind}s_nps", *values, f"hubspot_{kind}", at, at)

    def attribute(self, id: str, email: str | None, at: datetime, **attributes: Any) -> None:
        self._insert("raw_intercom.contacts", id, email, json.dumps(attributes), at, at, None)

    def file(self, *lines: str) -> dict[str, StreamResult]:
        """A file in the billing folder, loaded as a run does."""
        self.put("nps_responses__2026-05-31.csv", [HEADER, *lines])
        return self.run(datetime(2026, 5, 31).date())

    def csv(self, *lines: str) -> None:
        """What such a file leaves in raw, known from the moment of the answer."""
        for line in lines:
            values = [value or None for value in line.split(",")]
            names = [*HEADER.split(","), "source", "_changed_at", "_recorded_at"]
            columns = ", ".join(f"? AS {name}" for name in names)
            self.connection.execute(
                f"INSERT INTO raw_billing.nps_responses BY NAME SELECT {columns}",
                [*values[:-2], values[-2] or "NPS", values[-1], "crm", values[1], values[1]],
            )

    def answers(self, columns: str = "contact_id, score") -> list[tuple[Any, ...]]:
        """Rows of inputs.nps_responses, by moment."""
        self.build()
        return self.rows(
            f"SELECT {columns} FROM inputs.nps_responses ORDER BY responded_at, recorded_at, response_id"
        )

    def build(self) -> None:
        for name in ("inputs.nps_responses", "inputs.nps_quarantine"):
            run_model(self.connection, catalog()[name], model_parameters(None, None, self.settings))

    def failing(self, check: str, table: str = "nps_responses") -> set[tuple[Any, ...]]:
        """What a check of a table names."""
        self.build()
        day = datetime(2026, 5, 31).date()
        model = catalog()[f"inputs.{table}"]
        parameters = model_parameters(day, day, self.settings)
        (found,) = (r for r in run_checks(self.connection, model, day, day, parameters) if r.name == check)
        used = {name: value for name, value in parameters.items() if f"${name}" in found.check.sql}
        rows = set(self.rows(found.check.sql, **used))
        assert found.failures == len(rows)
        return rows

    def _insert(self, table: str, *values: Any) -> None:
        marks = ", ".join("?" for _ in values)
        self.connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    made = Doors(tmp_path_factory.mktemp("nps") / "data")
    made.run(datetime(2026, 5, 31).date())
    create_macros(made.connection)
    yield made
    made.close()


@pytest.fixture
def doors(house: Doors) -> Doors:
    house.clear()
    return house


def test_answers_of_all_four_doors_are_one_table_of_the_same_respondents(doors: Doors) -> None:
    doors.contact("1", "ann@acme.example")
    doors.submission("s1", 9, MAY, contact="1")
    doors.property("contact", "2", 4, MAY + DAY)
    doors.property("organisation", "7", 6, MAY + 2 * DAY)
    doors.attribute("i1", "Ann@Acme.example ", MAY + 3 * DAY, nps=7)
    doors.csv(f"r1,{MAY + 4 * DAY:%Y-%m-%dT%H:%M:%S},10,great,,ann@acme.example,,,")
    assert doors.answers("source, contact_id, org_id, score") == [
        ("hubspot_feedback", "1", None, 9),
        ("hubspot_contact", "2", None, 4),
        ("hubspot_organisation", "organisation:7", "7", 6),
        ("intercom", "1", None, 7),
        ("csv crm", "1", None, 10),
    ]


def test_csat_and_ces_are_no_nps_whatever_their_group(doors: Doors) -> None:
    doors.submission("s1", 0, MAY, contact="1", kind="CSAT", group="DETRACTOR")
    doors.submission("s2", 7, MAY, contact="1", kind="CES", group="PROMOTER")
    doors.submission("s3", 8, MAY, contact="1", group="PASSIVE")
    doors.csv("r1,2026-05-02,1,,1,,,CSAT,detractor", "r2,2026-05-03,9,,1,,,nps,")
    assert doors.answers() == [("1", 8), ("1", 9)]


def test_scores_that_are_none_are_counted_with_where_they_stand_and_never_become_answers(
    doors: Doors,
) -> None:
    for id, score in (("s1", 11), ("s2", None), ("s3", 7.5), ("s4", -1), ("s5", 0)):
        doors.submission(id, score, MAY, contact="1")
    doors.attribute("i1", None, MAY, nps="N/A")
    doors.attribute("i2", None, MAY, nps=7.5)
    doors.attribute("i3", None, MAY, nps="10")
    good = [f"r{n},2026-05-0{n % 9 + 1},5,,c{n},,,," for n in range(1, 4)]
    results = doors.file(
        *good, "r11,2026-05-02,11,,c1,,,,", "r12,2026-05-02,N/A,,c1,,,,", "r13,2026-05-02,7.5,,c1,,,,"
    )
    assert results["nps_responses"].quarantined == 3
    assert sorted(row[1] for row in doors.answers()) == [0, 5, 5, 5, 10]
    doors._insert("raw_hubspot.organisations_unread", "7", "nps_score", "great")
    doors._insert("raw_hubspot.contacts_unread", "8", "nps_score", "10.5")
    line = "nps_responses__2026-05-31.csv line"
    quarantined = {
        ("hubspot_feedback", "s1", "11.0000", "not from 0 to 10"),
        ("hubspot_feedback", "s2", None, "empty"),
        ("hubspot_feedback", "s3", "7.5000", "not a whole number"),
        ("hubspot_feedback", "s4", "-1.0000", "not from 0 to 10"),
        ("hubspot_organisation", "7", "great", "not a number"),
        ("hubspot_contact", "8", "10.5", "not a whole number"),
        ("intercom", "i1", "N/A", "not a number"),
        ("intercom", "i2", "7.5", "not a whole number"),
        ("csv crm", f"{line} 5", "r11,2026-05-02,11,,c1,,,,", "score: not from 0 to 10"),
        ("csv crm", f"{line} 6", "r12,2026-05-02,N/A,,c1,,,,", "score: not a whole number of at most nine digits"),
        ("csv crm", f"{line} 7", "r13,2026-05-02,7.5,,c1,,,,", "score: not a whole number of at most nine digits"),
    }  # fmt: skip
    assert doors.failing("nps_scores_are_valid", "nps_quarantine") == quarantined
    assert doors.failing("nps_answers_add_up", "nps_quarantine") == set()
    assert (
        set(doors.rows("SELECT source, record_id, score, reason FROM inputs.nps_quarantine")) == quarantined
    )


def test_a_score_that_was_corrected_leaves_the_quarantine_and_counts(doors: Doors) -> None:
    doors.submission("s1", 11, MAY, contact="1")
    doors.submission("s2", 9, None, contact="1")
    doors.build()
    assert doors.rows("SELECT record_id, reason FROM inputs.nps_quarantine ORDER BY 1") == [
        ("s1", "not from 0 to 10"),
        ("s2", "no time of the answer"),
    ]
    doors.connection.execute(
        "INSERT INTO raw_hubspot.feedback_submissions_mapped SELECT * REPLACE (10 AS score, $at AS responded_at, $later AS "
        "_recorded_at) FROM raw_hubspot.feedback_submissions_mapped",
        {"at": MAY, "later": MAY + DAY},
    )
    assert {row[1] for row in doors.answers()} == {10}
    assert doors.rows("FROM inputs.nps_quarantine") == []


def test_an_answer_stays_with_the_contact_who_gave_it_when_the_link_is_removed_or_changed(
    doors: Doors,
) -> None:
    doors.submission("s1", 3, MAY, contact="1")
    doors.connection.execute(
        "INSERT INTO raw_hubspot.associations SELECT * REPLACE ($gone AS _deleted_at, $gone AS _recorded_at) "
        "FROM raw_hubspot.associations",
        {"gone": MAY + 9 * DAY},
    )
    doors._insert(
        "raw_hubspot.associations", "feedback_submissions", "s1", "contacts", "0", None, MAY + 9 * DAY
    )
    assert doors.answers("contact_id, score, recorded_at") == [("1", 3, MAY)]


def test_a_link_with_a_contact_that_comes_after_the_answer_counts_from_then_on(doors: Doors) -> None:
    doors.submission("s1", 3, MAY)
    doors._insert(
        "raw_hubspot.associations", "feedback_submissions", "s1", "contacts", "1", None, MAY + 9 * DAY
    )
    assert doors.answers("contact_id, score, recorded_at") == [(None, 3, MAY), ("1", 3, MAY + 9 * DAY)]


def test_a_group_that_is_not_that_of_the_score_is_named_and_not_used(doors: Doors) -> None:
    doors.submission("s1", 6, MAY, contact="1", group="PASSIVE")
    doors.submission("s2", 7, MAY, contact="2", group="PASSIVE")
    doors.csv("r1,2026-05-02,9,,3,,,,detractor", "r2,2026-05-02,9,,4,,,,promoter")
    found = doors.failing("nps_groups_agree_with_scores")
    assert {row[:2] for row in found} == {("hubspot_feedback", "s1"), ("csv crm", "r1")}


def test_an_attribute_of_intercom_holds_one_answer_for_each_value_it_ever_had(doors: Doors) -> None:
    answered = int((MAY + 9 * DAY).timestamp())
    doors.attribute("i1", None, MAY, plan="a")
    doors.attribute("i1", None, MAY + DAY, nps=3)
    doors.attribute("i1", None, MAY + 2 * DAY, nps=3, plan="b")
    doors.attribute("i1", None, MAY + 10 * DAY, nps=9, nps_at=answered)
    doors.attribute("i1", None, MAY + 20 * DAY, nps=9, nps_at=answered + 86_400)
    moments = [row[2] for row in doors.answers("contact_id, score, responded_at")]
    assert doors.answers() == [("intercom:i1", 3), ("intercom:i1", 9), ("intercom:i1", 9)]
    assert moments == [MAY + DAY, MAY + 9 * DAY, MAY + 10 * DAY]


def test_respondents_that_nobody_knows_are_kept_and_anonymous_answers_count_each(doors: Doors) -> None:
    doors.csv(
        "r1,2026-05-02,3,,,,,,",
        "r2,2026-05-02,3,,,,,,",
        "r3,2026-05-03,4,,,Who@Else.example,,,",
        "r4,2026-05-04,5,,,who@else.example,,,",
    )
    found = doors.answers("contact_id, score")
    assert found[:2] == [(None, 3), (None, 3)]
    assert found[2][0] == found[3][0]
    assert found[2][0].startswith("respondent:")
    assert "else" not in found[2][0]


def test_a_respondent_who_becomes_known_later_is_a_new_version_and_changes_no_old_one(doors: Doors) -> None:
    later = datetime(2026, 6, 10)
    doors.contact("1", "ann@acme.example", known_at=later)
    doors.csv("r1,2026-05-02,3,,,ann@acme.example,,,")
    found = doors.answers("contact_id, recorded_at")
    assert [row[0] for row in found][-1] == "1"
    assert found[-1][1] == later
    assert all(row[0].startswith("respondent:") for row in found[:-1])


def test_the_organisation_that_a_file_names_is_found_by_its_id_or_external_id(doors: Doors) -> None:
    doors._insert("raw_hubspot.organisations_mapped", "501", "acme", MAY - 90 * DAY)
    doors.csv("r1,2026-05-02,3,,1,,501,,", "r2,2026-05-03,3,,2,,acme,,", "r3,2026-05-04,3,,3,,nobody,,")
    assert doors.answers("contact_id, org_id") == [("1", "501"), ("2", "501"), ("3", None)]


def test_one_answer_through_two_doors_counts_once_and_the_door_known_first_keeps_it(doors: Doors) -> None:
    doors.contact("1", "ann@acme.example", org="7")
    doors.submission("s1", 3, MAY, contact="1")
    doors.property("contact", "1", 3, MAY + timedelta(hours=2))
    doors.property("organisation", "7", 3, MAY + timedelta(hours=3))
    doors.attribute("i1", "ann@acme.example", MAY + timedelta(hours=24), nps=3)
    doors.csv("r1,2026-05-01T12:30:00,3,,,ann@acme.example,,,")
    assert doors.answers("source, contact_id, score") == [("hubspot_feedback", "1", 3)]


def test_answers_of_one_door_of_another_score_or_of_another_time_are_answers_of_their_own(
    doors: Doors,
) -> None:
    doors.contact("1", "ann@acme.example", org="7")
    doors.submission("s1", 3, MAY, contact="1")
    doors.submission("s2", 3, MAY + timedelta(hours=1), contact="1")
    doors.property("contact", "1", 4, MAY + timedelta(hours=2))
    doors.attribute("i1", "ann@acme.example", MAY + timedelta(hours=25, seconds=1), nps=3)
    doors.property("organisation", "8", 3, MAY + timedelta(hours=3))
    assert [row[0] for row in doors.answers("source")] == [
        "hubspot_feedback",
        "hubspot_feedback",
        "hubspot_contact",
        "hubspot_organisation",
        "intercom",
    ]


def test_an_answer_counts_until_it_is_known_to_repeat_another(doors: Doors) -> None:
    later = MAY + 9 * DAY
    doors.contact("1", "ann@acme.example", known_at=later)
    doors.submission("s1", 3, MAY, contact="1")
    doors.csv("r1,2026-05-01T13:00:00,3,,,ann@acme.example,,,")
    found = doors.answers("source, score, recorded_at")
    assert found == [
        ("hubspot_feedback", 3, MAY),
        ("csv crm", 3, datetime(2026, 5, 1, 13)),
        ("csv crm", None, later),
    ]


def test_a_withdrawn_answer_of_a_file_counts_nowhere_from_then_on(doors: Doors) -> None:
    doors.file("r1,2026-05-02,3,,1,,,,")
    doors.put("nps_responses__2026-06-30__delta.csv", [f"{HEADER},is_deleted,updated_at", "r1,2026-05-02,3,,1,,,,,true,2026-06-15T08:00:00Z"])  # fmt: skip
    doors.run(datetime(2026, 6, 30).date())
    found = doors.answers("score, recorded_at")
    assert found[0][0] == 3
    assert found[-1] == (None, datetime(2026, 6, 15, 8))


def test_an_answer_that_hubspot_no_longer_has_counts_nowhere_from_then_on(doors: Doors) -> None:
    doors.submission("1", 3, MAY)
    doors.connection.execute(
        "INSERT INTO raw_hubspot.feedback_submissions_mapped SELECT * REPLACE ($gone AS _recorded_at, $gone AS _archived_at) "
        "FROM raw_hubspot.feedback_submissions_mapped",
        {"gone": MAY + 9 * DAY},
    )
    assert doors.answers("score, recorded_at") == [(3, MAY), (None, MAY + 9 * DAY)]


def test_without_an_attribute_in_the_settings_intercom_is_no_door(doors: Doors) -> None:
    assert Settings().intercom.nps_attribute == ""
    with_attribute = doors.settings
    doors.settings = with_attribute.model_copy(update={"intercom": Settings().intercom})
    doors.attribute("i1", None, MAY, nps=3)
    assert doors.answers() == []
    assert doors.failing("nps_scores_are_valid", "nps_quarantine") == set()
    doors.settings = with_attribute
