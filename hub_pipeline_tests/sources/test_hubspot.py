"""A portal read in full over real HTTP, down to the rows of the raw tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import msgspec
import pytest

from hub_pipeline.demo import run as demo_run
from hub_pipeline.demo.company import build_company
from hub_pipeline.demo.faults import Fault, FaultKind, mild
from hub_pipeline.demo.hubspot_portal import versions_of
from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline.demo.serve import serving
from hub_pipeline.errors import ConfigurationError
from hub_pipeline.settings import Settings
from hub_pipeline.sources import hubspot, transport
from hub_pipeline.sources.hubspot.pages import lines_of, wrapped
from hub_pipeline.sources.hubspot.streams import object_stream, property_columns
from hub_pipeline.sources.progress import NullProgress
from hub_pipeline.warehouse.landing import LoadContext
from hub_pipeline_tests.demo.portal import account, definition, still
from hub_pipeline_tests.sources.reading import ORGANISATIONS, environment, reading, settings_with

LOAD = LoadContext("r1", date(2026, 10, 31), datetime(2026, 11, 1), None, datetime(2026, 11, 1, 3))


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.01)


def extract_all(
    tmp_path: Path, simulator: HubSpotSimulator, settings: Settings, **more: object
) -> dict[str, object]:
    """Results by object, without a warehouse."""
    with serving(simulator.app) as (url,):
        where = environment(tmp_path, url, **more)
        return {
            result.object: result
            for _, _, result in hubspot.extract(settings, where, tmp_path / "landing", LOAD, NullProgress())
        }


def test_the_demo_portal_is_read_completely_within_150_requests(tmp_path: Path) -> None:
    company = build_company()
    portal = company.hubspot
    simulator = HubSpotSimulator(portal, faults=mild(7))
    settings = Settings.load(demo_run.SETTINGS_FILE)
    with reading(hubspot, simulator, tmp_path, settings) as loaded:
        assert simulator.hits.count() <= 150
        for name, config in settings.hubspot.objects.items():
            records = portal.records.get(config.object_type, {})
            names = sorted(d["name"] for d in portal.properties.get(config.object_type, []))
            # Rows of values that the API adds by itself (ids, dates of the record) are not the test's to know.
            given = [n for n in names if all(n in r.properties for r in records.values())]
            columns = ", ".join(f'"{n}"' for n in given)
            rows = loaded.rows(
                f"SELECT id, created_at, updated_at, _archived_at IS NOT NULL, {columns} "
                f"FROM raw_hubspot.{name}_current WHERE _deleted_at IS NULL"
            )
            dates = {"lastmodifieddate", "hs_lastmodifieddate", "hs_object_id", "createdate", "hs_createdate"}
            kept = [i for i, n in enumerate(given) if n not in dates]
            found = {row[0]: (*row[1:4], *(row[4 + i] for i in kept)) for row in rows}
            assert len(found) == len(rows)
            assert found == {
                key: (
                    r.created_at.replace(tzinfo=None, microsecond=r.created_at.microsecond // 1000 * 1000),
                    r.updated_at.replace(tzinfo=None, microsecond=r.updated_at.microsecond // 1000 * 1000),
                    r.archived,
                    *(r.properties[given[i]] for i in kept),
                )
                for key, r in records.items()
            }
            assert loaded.results[name].status == "complete"
            assert loaded.results[name].message == ""
        expected = {
            (name, key, prop, v["value"] or "")
            for name, config in settings.hubspot.objects.items()
            for prop in config.history
            for key, r in portal.records.get(config.object_type, {}).items()
            if not r.archived
            for v in versions_of(r, prop)
        }
        history = loaded.rows("SELECT object, id, property, value FROM raw_hubspot.property_history")
        assert set(history) == expected
        assert expected
        types = {name: config.object_type for name, config in settings.hubspot.objects.items()}
        associations = {
            (source, from_id, target, to_id, type_id, label)
            for source, target in settings.hubspot.associations
            for from_id, to_id, type_id, label in portal.associations.get((types[source], types[target]), [])
            if not portal.records[types[source]][from_id].archived
            and not portal.records[types[target]][to_id].archived
        }
        found_associations = loaded.rows(
            "SELECT from_object, from_id, to_object, to_id, type_id, label FROM raw_hubspot.associations_current"
        )
        assert set(found_associations) == associations
        assert len(found_associations) == len(associations)
        owners = loaded.rows("SELECT id, email, archived FROM raw_hubspot.owners_current")
        assert set(owners) == {(o["id"], o["email"], o["archived"]) for o in portal.owners}
        stages = set(loaded.column("SELECT stage_id FROM raw_hubspot.pipelines_current"))
        assert stages == {s["id"] for p in portal.pipelines["deals"] for s in p["stages"]}
        assert loaded.column("SELECT portal_id FROM raw_hubspot.account_current") == [str(portal.portal_id)]
    assert simulator.hits.count(status=429) == 1, "the one that was switched on"


def test_reading_the_same_portal_again_changes_nothing(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=120), clock=still())
    with reading(hubspot, simulator, tmp_path, settings_with()) as loaded:
        assert all(r.inserted for r in loaded.results.values() if r.object != "pipelines")
    with reading(hubspot, simulator, tmp_path, settings_with(), day=date(2026, 11, 1)) as loaded:
        assert {(r.object, r.inserted, r.deleted) for r in loaded.results.values()} == {
            (name, 0, 0) for name in loaded.results
        }


def test_archived_restored_merged_and_purged_records_are_told_apart(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=20))
    simulator.merge(ORGANISATIONS, "10", "11")
    simulator.archive(ORGANISATIONS, "12")
    state = (
        "SELECT id, _archived_at IS NOT NULL, _deleted_at IS NOT NULL OR _merged_into IS NOT NULL "
        "FROM raw_hubspot.organisations_current "
        "WHERE id IN ('9', '10', '11', '12', '13') ORDER BY CAST(id AS INT)"
    )
    with reading(hubspot, simulator, tmp_path, settings_with()) as loaded:
        assert loaded.rows(state) == [
            ("9", False, False),
            ("10", False, False),
            ("12", True, False),
            ("13", False, False),
        ]
        assert loaded.rows("SELECT object, loser_id, winner_id FROM raw_hubspot.merges") == [
            ("organisations", "11", "10")
        ]
    simulator.restore(ORGANISATIONS, "12")
    simulator.purge(ORGANISATIONS, "13")
    simulator.merge(ORGANISATIONS, "9", "10")
    with reading(hubspot, simulator, tmp_path, settings_with(), day=date(2026, 11, 1)) as loaded:
        assert loaded.rows(state) == [
            ("9", False, False),
            ("10", False, True),
            ("12", False, False),
            ("13", False, True),
        ]
        assert set(loaded.rows("SELECT loser_id, winner_id FROM raw_hubspot.merges")) == {
            ("11", "10"),
            ("10", "9"),
            ("11", "9"),
        }


def test_a_record_that_a_list_of_ids_left_out_is_asked_for_before_it_counts_as_deleted(
    tmp_path: Path,
) -> None:
    simulator = HubSpotSimulator(account(5, 10))
    gone = "SELECT id FROM raw_hubspot.contacts_current WHERE _deleted_at IS NOT NULL"
    with reading(hubspot, simulator, tmp_path, settings_with()) as loaded:
        ids = loaded.column("SELECT id FROM raw_hubspot.contacts_current ORDER BY id::BIGINT")
    simulator.purge("contacts", ids[0])
    body = json.dumps({"results": [{"id": one} for one in ids[2:]]}).encode()
    # The first list of the second run is the recycle bin, the second one the ids.
    page = Fault(FaultKind.CANNED, path="GET /crm/objects/2026-09/contacts", first=2, every=0, body=body)
    simulator.faults.add(page)
    with reading(hubspot, simulator, tmp_path, settings_with(), day=date(2026, 11, 1)) as loaded:
        assert loaded.results["contacts_census"].records == 8
        assert loaded.column(gone) == [ids[0]]


class Meanwhile(NullProgress):
    """Does something to the portal as soon as the first page of an object has landed."""

    def __init__(self, object_name: str, action: Callable[[], None]) -> None:
        self.object_name, self.action = object_name, action
        self.done = False

    def advance(self, source: str, object_name: str, records: int) -> None:
        if object_name == self.object_name and not self.done:
            self.done = True
            self.action()


def test_records_that_change_while_they_are_read_are_neither_missed_nor_doubled(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=200))

    def change() -> None:
        simulator.archive(ORGANISATIONS, "9")  # its page has been read
        simulator.archive(ORGANISATIONS, "200")  # its page has not
        simulator.purge(ORGANISATIONS, "58")  # the last of the first page, where the next one starts
        simulator.purge(ORGANISATIONS, "59")
        simulator.update(ORGANISATIONS, "10", {"name": "changed after it was read"})
        simulator.update(ORGANISATIONS, "201", {"name": "changed before it was read"})
        simulator.create(ORGANISATIONS, {"name": "new"}, record_id="900")

    meanwhile = Meanwhile("organisations", change)
    with reading(hubspot, simulator, tmp_path, settings_with(), progress=meanwhile) as loaded:
        rows = loaded.rows(
            "SELECT CAST(id AS INT), _archived_at IS NOT NULL FROM raw_hubspot.organisations_current ORDER BY 1"
        )
        assert [row[0] for row in rows] == [n for n in [*range(9, 209), 900] if n != 59]
        assert [row[0] for row in rows if row[1]] == [9, 200]
        assert loaded.column("SELECT name FROM raw_hubspot.organisations_current WHERE id = '201'") == [
            "changed before it was read"
        ]
    with reading(hubspot, simulator, tmp_path, settings_with(), day=date(2026, 11, 1)) as loaded:
        name = "SELECT name FROM raw_hubspot.organisations_current WHERE id = '10'"
        assert loaded.column(name) == ["changed after it was read"]
        gone = "SELECT id FROM raw_hubspot.organisations_current WHERE _deleted_at IS NOT NULL"
        assert loaded.column(gone) == ["58"]


def test_associations_that_come_and_go_are_seen_though_no_record_changes(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=5), clock=still())
    current = (
        "SELECT from_id, to_id, type_id, label FROM raw_hubspot.associations_current "
        "WHERE _deleted_at IS NULL ORDER BY ALL"
    )
    with reading(hubspot, simulator, tmp_path, settings_with()) as loaded:
        assert loaded.rows(current) == [
            ("1", "10", 279, None),
            ("1", "9", 7, "Champion"),
            ("1", "9", 279, None),
        ]
    simulator.dissociate("contacts", "1", ORGANISATIONS, "9")
    simulator.associate("contacts", "2", ORGANISATIONS, "9", type_id=279)
    with reading(hubspot, simulator, tmp_path, settings_with(), day=date(2026, 11, 1)) as loaded:
        assert loaded.rows(current) == [("1", "10", 279, None), ("2", "9", 279, None)]
        assert loaded.results["associations"].deleted == 2


def test_more_than_a_thousand_records_and_more_than_500_links_of_one_record_are_all_read(
    tmp_path: Path,
) -> None:
    portal = account(organisations=1_050, contacts=1_100)
    rows = [("1", str(n), 279, None) for n in range(9, 9 + 1_050)]
    rows += [(str(n), "9", 279, None) for n in range(2, 1_101)]
    portal.associations[("contacts", ORGANISATIONS)] = rows
    simulator = HubSpotSimulator(portal, clock=still())
    with reading(hubspot, simulator, tmp_path, settings_with()) as loaded:
        found = loaded.rows("SELECT from_id, to_id, type_id, label FROM raw_hubspot.associations")
        assert len(found) == len(rows)
        assert set(found) == set(rows)
        assert loaded.results["associations"].requests == 2 + 2, (
            "two batches, and two more pages of contact 1"
        )


def test_a_pair_that_could_not_be_read_keeps_its_associations(tmp_path: Path) -> None:
    objects = {
        "organisations": {"object_type": ORGANISATIONS, "optional": True},
        "contacts": {"object_type": "contacts"},
    }
    settings = settings_with(objects=objects, associations=[("organisations", "contacts")])
    simulator = HubSpotSimulator(account(organisations=5))
    with reading(hubspot, simulator, tmp_path, settings) as loaded:
        assert len(loaded.rows("FROM raw_hubspot.associations_current WHERE _deleted_at IS NULL")) == 3
    simulator.forbidden[ORGANISATIONS] = ["crm.objects.custom.read"]
    with reading(hubspot, simulator, tmp_path, settings, day=date(2026, 11, 1)) as loaded:
        assert loaded.results["organisations"].status == "forbidden"
        assert len(loaded.rows("FROM raw_hubspot.associations_current WHERE _deleted_at IS NULL")) == 3
        assert len(loaded.rows("FROM raw_hubspot.organisations_current WHERE _deleted_at IS NULL")) == 5
        assert loaded.rows(
            "SELECT count(*) FROM raw_hubspot.properties_current WHERE _deleted_at IS NULL"
        ) == [(6,)]


def test_properties_that_do_not_fit_into_an_address_are_asked_for_in_a_body(tmp_path: Path) -> None:
    portal = account(organisations=130)
    many = [f"a_property_with_{'quite_' * 12}a_long_name_{n:04}" for n in range(160)]
    portal.properties[ORGANISATIONS] += [definition(name) for name in many]
    for key, record in portal.records[ORGANISATIONS].items():
        record.properties[many[-1]] = f"last of {key}"
    simulator = HubSpotSimulator(portal, clock=still())
    simulator.archive(ORGANISATIONS, "20")
    with reading(hubspot, simulator, tmp_path, settings_with()) as loaded:
        rows = loaded.rows(
            f"SELECT id, {many[-1]}, seats, _archived_at IS NOT NULL FROM raw_hubspot.organisations_current"
        )
        assert set(rows) == {(str(n), f"last of {n}", str(n), n == 20) for n in range(9, 139)}
        assert loaded.rows("SELECT count(*) FROM raw_hubspot.property_history") == [(129,)]
        # properties; ids in two pages; 100 and 29 records by 50, with history; the archived one by body as well
        # and one search for the number of records
        assert loaded.results["organisations"].requests == 1 + 2 + 3 + 2 + 1
    assert simulator.hits.count(status=400) == 0
    assert simulator.hits.count(status=414) == 0


def test_a_property_the_settings_name_and_the_portal_lacks_is_told(tmp_path: Path) -> None:
    objects = {
        "organisations": {"object_type": ORGANISATIONS, "properties": {"tier": "tier"}, "history": ["plan"]}
    }
    results = extract_all(
        tmp_path, HubSpotSimulator(account(organisations=5)), settings_with(objects=objects, associations=[])
    )
    assert results["organisations"].message == "properties the portal does not have: plan, tier"  # type: ignore[attr-defined]


def test_names_that_clash_get_columns_of_their_own(tmp_path: Path) -> None:
    assert property_columns(["name", "id", "Created_At", "Seats", "seats", "_hash", "select"]) == {
        "name": "name",
        "id": "property_id",
        "Created_At": "property_Created_At",
        "Seats": "Seats",
        "seats": "seats__2",
        "_hash": "property__hash",
        "select": "select",
    }
    portal = account(organisations=3)
    hostile = ['x") --', "x'; DROP TABLE y", "Seats", "id", "order", "{}"]
    portal.properties[ORGANISATIONS] += [definition(name) for name in hostile]
    for record in portal.records[ORGANISATIONS].values():
        record.properties.update({name: f"{name} of {record.id}" for name in hostile})
    with reading(hubspot, HubSpotSimulator(portal), tmp_path, settings_with()) as loaded:
        columns = ", ".join('"' + c.replace('"', '""') + '"' for c in property_columns(hostile).values())
        rows = loaded.rows(f"SELECT id, {columns} FROM raw_hubspot.organisations")
        assert set(rows) == {(str(n), *(f"{name} of {n}" for name in sorted(hostile))) for n in (9, 10, 11)}
        assert loaded.rows("SELECT DISTINCT seats__2 FROM raw_hubspot.organisations WHERE id = '9'") == [
            ("9",)
        ]


def test_an_object_name_that_is_no_name_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=3))
    for name in ("../../etc", 'x"; DROP TABLE y', "Contacts", ""):
        objects = {name: {"object_type": "2-99"}}
        with pytest.raises(ConfigurationError, match="lower-case letters"):
            extract_all(tmp_path, simulator, settings_with(objects=objects, associations=[]))
    assert simulator.hits.count() == 0
    objects = {"things": {"object_type": "../contacts?x=1#"}}
    with pytest.raises(ConfigurationError):
        extract_all(tmp_path, simulator, settings_with(objects=objects, associations=[]))


def test_records_become_lines_byte_for_byte() -> None:
    page = msgspec.json.decode(b'[{"a": 1,\n "b":"x\\ny"},{"a":\r\n2}]', type=list[msgspec.Raw])
    assert lines_of(page) == b'{"a": 1,  "b":"x\\ny"}\n{"a":  2}\n'
    assert lines_of([]) == b""
    assert wrapped(page[1:], object='q"') == b'{"object":"q\\"","row":{"a":  2}}\n'
    exotic = '{"name":"\u202eRTL \\ud800 \u0000 \U0001f600 \u2028"}'.replace("\x00", "\\u0000").encode()
    assert lines_of([msgspec.Raw(exotic)]) == exotic + b"\n"


def test_the_names_of_all_tables_are_known_without_asking() -> None:
    settings = Settings()
    assert hubspot.object_names(settings)[:3] == ["organisations", "companies", "contacts"]
    assert {"property_history", "merges", "associations", "owners"} <= set(hubspot.streams(settings))
    assert object_stream("contacts", ["email"], []).columns["email"] == "VARCHAR"
