"""A person who is erased is found in every layer before and in none after, by their bytes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard
from rich.console import Console

from hub_pipeline.errors import ConfigurationError, DataRefusedError, WarehouseError
from hub_pipeline.report.privacy import erase_and_print, erase_person, print_personal_data
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.hubspot.streams import associations_stream, list_memberships_stream, lists_stream
from hub_pipeline.sources.intercom.streams import (
    contacts_stream,
    conversation_parts_stream,
    conversations_stream,
    deleted_conversations_stream,
    tickets_stream,
)
from hub_pipeline.sources.stripe.streams import list_stream
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.erase import Erasure, erase, find_person, leftovers
from hub_pipeline.warehouse.fingerprint import fingerprint
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline.warehouse.privacy import erase_gone, erase_returned
from hub_pipeline.warehouse.publish import publish
from hub_pipeline.warehouse.raw import RawStream
from hub_pipeline.warehouse.rebuild import rebuild
from hub_pipeline.warehouse.rewrite import rewrite_build_file, rewrite_is_due
from hub_pipeline.warehouse.scrub import Person
from hub_pipeline.warehouse.tombstones import Tombstones
from hub_pipeline_tests.warehouse.support import DAY, Run, publish_day, run

#: Strings that are nobody else's.
ADDRESS, NAME, ID, VISITOR, REMARK = (
    "jane.roe@acme.example",
    "Roehampton",
    "900411877",
    "5f0cjane",
    "said-jane-alone",
)
NEEDLES = (ADDRESS, NAME, ID, VISITOR, REMARK)

PAIRS = [("emails", "contacts"), ("tickets", "contacts"), ("contacts", "organisations")]


def hubspot_object(name: str, *properties: str) -> RawStream:
    """An object with some properties, live and archived records alike."""
    fields = ", ".join(f'"{one}" VARCHAR' for one in properties)
    picked = ", ".join(f'r.properties."{one}" AS "{one}"' for one in properties)
    return RawStream(
        source="hubspot",
        object=name,
        table=name,
        json_columns={
            "id": "VARCHAR",
            "createdAt": "TIMESTAMP",
            "updatedAt": "TIMESTAMP",
            "archivedAt": "TIMESTAMP",
            "properties": f"STRUCT({fields})",
        },
        columns={"id": "VARCHAR", **dict.fromkeys(properties, "VARCHAR")},
        select=f"r.id, {picked}, greatest(r.updatedAt, r.archivedAt) AS _changed_at, r.createdAt AS _created_at, "
        "r.archivedAt AS _archived_at",
    )


CONTACTS = hubspot_object("contacts", "email", "lastname", "hs_additional_emails")
EMAILS = hubspot_object("emails", "hs_email_subject", "hs_email_to_email", "hs_email_direction")
TICKETS = hubspot_object("tickets", "subject", "content", "hs_pipeline_stage")
LISTS, MEMBERS = lists_stream(["55", "56"]), list_memberships_stream(["55", "56"])
DEALS = hubspot_object("deals", "dealname")
LINKS = associations_stream(PAIRS)
VISITORS = RawStream(
    source="intercom",
    object="contacts",
    table="contacts",
    json_columns={"id": "VARCHAR", "email": "VARCHAR"},
    columns={"id": "VARCHAR", "email": "VARCHAR"},
    select="r.id, r.email",
)
CONVERSATIONS = RawStream(
    source="intercom",
    object="conversations",
    table="conversations",
    json_columns={"id": "VARCHAR", "contact": "VARCHAR", "remark": "VARCHAR"},
    columns={"id": "VARCHAR", "contact_id": "VARCHAR", "remark": "VARCHAR"},
    select="r.id, r.contact AS contact_id, r.remark",
)


def record(id: str, updated: str = "2026-10-01T10:00:00", **properties: Any) -> dict[str, Any]:
    """A HubSpot record."""
    return {"id": id, "createdAt": "2026-01-05T08:00:00", "updatedAt": updated, "properties": properties}


def link(source: str, from_id: str, target: str, *to: str) -> dict[str, Any]:
    """A landed line of associations."""
    kinds = [{"category": "USER_DEFINED", "typeId": 1, "label": None}]
    row = {"from": {"id": from_id}, "to": [{"toObjectId": one, "associationTypes": kinds} for one in to]}
    return {"from_object": source, "to_object": target, "row": row}


OTHERS = [record(str(i), email=f"c{i}@other.example", lastname="Doe") for i in range(10)]
JANE = record(ID, email="Jane.Roe@acme.example", lastname=NAME)
LETTERS = [
    record("71", hs_email_subject=REMARK, hs_email_to_email=ADDRESS, hs_email_direction="EMAIL"),
    record(
        "72",
        hs_email_subject=f"for {NAME}",
        hs_email_to_email=f"c1@other.example,{ADDRESS}",
        hs_email_direction="EMAIL",
    ),
    record(
        "73",
        hs_email_subject="to others",
        hs_email_to_email="mary-jane.roe@acme.example",
        hs_email_direction="EMAIL",
    ),
]
REQUESTS = [
    record("91", subject=REMARK, content=f"{NAME} alone", hs_pipeline_stage="1"),
    record("92", subject=f"{NAME} and others", content=f"said {REMARK}", hs_pipeline_stage="2"),
    record("93", subject="of others", content="text", hs_pipeline_stage="3"),
]
TALKS = [
    {"id": "k1", "contact": VISITOR, "remark": REMARK},
    {"id": "k2", "contact": "other", "remark": f"cc {ADDRESS}."},
]


def sources(one: Run, contacts: list[dict[str, Any]], jane: bool = True) -> None:
    """A day of what HubSpot and Intercom send."""
    one.take(CONTACTS, contacts)
    one.take(EMAILS, LETTERS if jane else LETTERS[2:], max_shrink=1)
    one.take(TICKETS, REQUESTS if jane else REQUESTS[2:], max_shrink=1)
    one.take(DEALS, [record("81", dealname=f"{ADDRESS}, {ADDRESS}")])
    links = [
        link("emails", "73", "contacts", "1"),
        link("tickets", "93", "contacts", "1"),
        link("contacts", "1", "organisations", "o1"),
    ]
    if jane:
        links += [
            link("emails", "71", "contacts", ID),
            link("emails", "72", "contacts", ID, "1"),
            link("tickets", "91", "contacts", ID),
            link("tickets", "92", "contacts", ID, "1"),
            link("contacts", ID, "organisations", "o1"),
        ]
    one.take(LINKS, links, max_shrink=1)
    one.take(
        LISTS,
        [{"listId": "55", "objectTypeId": "0-1"}, {"listId": "56", "objectTypeId": "0-3"}],
        max_shrink=1,
    )
    members = [("55", ID), ("55", "1")] if jane else [("55", "1")]
    one.take(
        MEMBERS, [{"list_id": i, "row": {"recordId": r}} for i, r in [*members, ("56", "81")]], max_shrink=1
    )
    one.take(VISITORS, [{"id": "other", "email": "c1@other.example"}, {"id": VISITOR, "email": ADDRESS}])
    one.take(CONVERSATIONS, TALKS)


def answers(one: Run) -> None:
    """Tables such as the models make, of this and of earlier days."""
    for statement in (
        "CREATE SCHEMA IF NOT EXISTS inputs",
        "CREATE SCHEMA IF NOT EXISTS staging",
        "CREATE SCHEMA IF NOT EXISTS marts",
        "CREATE SCHEMA IF NOT EXISTS hub",
        "CREATE OR REPLACE TABLE inputs.engagements AS SELECT 'email:' || a.from_id AS engagement_id, "
        "a.to_id AS contact_id, e.hs_email_subject AS subject FROM raw_hubspot.associations AS a "
        "JOIN raw_hubspot.emails AS e ON e.id = a.from_id",
        "CREATE OR REPLACE TABLE staging.contacts AS SELECT id AS contact_id, lower(email) AS email, "
        "'Jane ' || lastname AS name FROM raw_hubspot.contacts",
        "CREATE TABLE IF NOT EXISTS marts.interactions (as_of DATE, contact_id VARCHAR, contact_name VARCHAR)",
        "CREATE TABLE IF NOT EXISTS marts.at_risk (as_of DATE, detractor_contacts VARCHAR[], why VARCHAR)",
        f"INSERT INTO marts.interactions SELECT DATE '{one.load.as_of}', contact_id, name FROM staging.contacts",
        f"INSERT INTO marts.interactions VALUES (DATE '{one.load.as_of}', 'intercom:{VISITOR}', 'visitor')",
        f"INSERT INTO marts.at_risk SELECT DATE '{one.load.as_of}', list(contact_id ORDER BY contact_id), "
        f"'wrote to {ADDRESS}; Jane {NAME}: 3, {ID}: 4, Jane Doe: 5' FROM staging.contacts WHERE contact_id IN ('1', '{ID}')",
        "CREATE SCHEMA IF NOT EXISTS raw_billing",
        f"CREATE OR REPLACE TABLE raw_billing.nps_responses AS SELECT 'Jane.Roe@acme.example' AS respondent_email, "
        f"'{REMARK}' AS comment UNION ALL SELECT 'c1@other.example', 'fine'",
        "CREATE OR REPLACE VIEW hub.people AS SELECT contact_name FROM marts.interactions",
        "COMMENT ON VIEW hub.people IS 'Everybody'",
    ):
        one.connection.execute(statement)
    publish(one.warehouse, one.connection, one.fence, one.load, Settings())


def history(folder: Path) -> None:
    """An event log with a sample of a failed check."""
    home = folder / "dagster_home" / "history"
    home.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(home / "run.db")) as log:
        log.execute("PRAGMA journal_mode=WAL")
        log.execute("CREATE TABLE event_logs (id INTEGER, event TEXT)")
        log.execute(
            "INSERT INTO event_logs VALUES (1, ?)",
            [json.dumps({"sample": [{"contact_id": ID, "email": ADDRESS}]})],
        )
        log.commit()


def texts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Everything in a data folder, decompressed: lines of landing files, cells of databases, bytes of all files."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        layer = path.relative_to(folder).parts[0]
        yield layer, path.read_bytes()
        if path.name.endswith(".zst"):
            yield layer, zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
        elif path.suffix == ".parquet":
            with duckdb.connect() as connection:
                rows = connection.execute(f"SELECT to_json(t)::VARCHAR FROM read_parquet('{path}') AS t")
                yield layer, "\n".join(row[0] for row in rows.fetchall()).encode()
        elif path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as connection:
                for schema, table in connection.execute(
                    "SELECT schema_name, table_name FROM duckdb_tables()"
                ).fetchall():
                    rows = connection.execute(f'SELECT to_json(t)::VARCHAR FROM "{schema}"."{table}" AS t')
                    yield f"{layer} {schema}", "\n".join(row[0] for row in rows.fetchall()).encode()


def layers_with(folder: Path, *needles: str) -> set[str]:
    """Where in a data folder any of the strings stands, in whatever case."""
    wanted = [needle.lower().encode() for needle in needles]
    return {
        layer
        for layer, text in texts(folder)
        if any(needle in text.lower().replace(b"mary-jane.roe@acme.example", b"") for needle in wanted)
    }


def finish(warehouse: Warehouse, lock: RunLock) -> None:
    """Write the build file anew, as a run does at its end."""
    rewrite_build_file(warehouse, lock)


def erased(folder: Path, **who: Any) -> Erasure:
    """Erase on request, as the command does."""
    with run(folder) as one:
        person = find_person(one.connection, **who)
        result = erase(
            one.warehouse, one.connection, one.fence, person, "requested", billing_folder=folder / "billing"
        )
        assert rewrite_is_due(one.connection) >= result.found
    with RunLock(folder) as lock:
        finish(Warehouse.in_folder(folder), lock)
    return result


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two published days in which Jane is everywhere."""
    folder = tmp_path_factory.mktemp("two") / "data"
    for later in range(2):
        with run(folder, DAY + timedelta(days=later)) as one:
            sources(one, [*OTHERS, JANE])
            answers(one)
    history(folder)
    (folder / "billing" / "incoming").mkdir(parents=True)
    (folder / "billing" / "incoming" / "customers.csv").write_text(f"id,email\n1,{ADDRESS}\n")
    return folder


@pytest.fixture
def world(two_days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return Path(shutil.copytree(two_days, tmp_path / "data"))


def test_a_person_is_in_every_layer_and_after_an_erasure_in_none(world: Path) -> None:
    everywhere = {
        "landing",
        "build.duckdb",
        "build.duckdb raw_hubspot",
        "build.duckdb raw_intercom",
        "build.duckdb raw_billing",
        "build.duckdb inputs",
        "build.duckdb staging",
        "build.duckdb marts",
        "warehouse.duckdb",
        "warehouse.duckdb staging",
        "warehouse.duckdb marts",
        "dagster_home",
    }
    for needle in (ADDRESS, ID):
        assert layers_with(world, needle) >= everywhere - {
            f"build.duckdb {s}" for s in ("raw_intercom", "raw_billing", "inputs")
        }
    assert layers_with(world, *NEEDLES) == everywhere | {"billing"}
    mode = (world / "warehouse.duckdb").stat().st_mode
    screen = io.StringIO()
    environment = Environment(data_dir=world)
    erase_and_print(Settings(), environment, [ADDRESS.upper()], [], Console(file=screen, width=300))
    assert re.search(
        r"Erased: \d+ rows.* 16 landing files and 1 files of Dagster's history", screen.getvalue()
    )
    assert "customers.csv is your own file and still holds the address" in screen.getvalue()
    print_personal_data(environment, Console(file=screen, width=300))
    assert re.search(
        r"raw_hubspot\.contacts +│ id, email, lastname, hs_additional_emails +│ +10 │", screen.getvalue()
    )
    assert layers_with(world, *NEEDLES) == {"billing"}, "the team's own file is named, not changed"
    assert (world / "warehouse.duckdb").stat().st_mode == mode
    with Warehouse.in_folder(world).connect_published() as published:
        assert published.execute("SELECT count(*) FROM hub.people").fetchall() == [(20,)]
        assert published.execute(
            "SELECT comment FROM duckdb_views() WHERE view_name = 'people'"
        ).fetchall() == [("Everybody",)]
        assert published.execute("SELECT DISTINCT detractor_contacts, why FROM marts.at_risk").fetchall() == [
            (["1"], "wrote to [erased]; [erased]: 3, [erased]: 4, Jane Doe: 5")
        ]
    with Warehouse.in_folder(world).connect_read_only() as build:
        assert build.execute(
            "SELECT id, hs_email_subject, hs_email_to_email FROM raw_hubspot.emails ORDER BY 1"
        ).fetchall() == [
            ("72", None, None),
            ("73", "to others", "mary-jane.roe@acme.example"),
        ], "what is shared is kept without its text, what is another's is left alone"
        assert build.execute(
            "SELECT DISTINCT id, subject, content, hs_pipeline_stage FROM raw_hubspot.tickets ORDER BY 1"
        ).fetchall() == [("92", None, None, "2"), ("93", "of others", "text", "3")]
        assert build.execute("SELECT dealname FROM raw_hubspot.deals").fetchall() == [("[erased], [erased]",)]
        assert build.execute("SELECT id, remark FROM raw_intercom.conversations").fetchall() == [
            ("k2", "cc [erased].")
        ]
        assert build.execute("SELECT count(*) FROM raw_hubspot.contacts").fetchall() == [(10,)]
        assert build.execute(
            "SELECT list_id, record_id FROM raw_hubspot.list_memberships ORDER BY 1"
        ).fetchall() == [("55", "1"), ("56", "81")]
        assert build.execute("SELECT comment FROM raw_billing.nps_responses").fetchall() == [("fine",)]
        assert leftovers(build, Tombstones.read(world / "landing")) == {}
        assert build.execute(
            "SELECT reason, persons, rewritten_at IS NOT NULL FROM _ledger.erasures"
        ).fetchall() == [("requested", 1, True)]


def test_what_is_made_again_from_landing_is_the_same_without_the_person(world: Path) -> None:
    erased(world, contacts=[ID])

    def raw() -> dict[str, list[Any]]:
        with Warehouse.in_folder(world).connect_read_only() as build:
            return {
                table: build.execute(
                    f"SELECT * EXCLUDE (_hash) FROM raw_hubspot.{table} ORDER BY ALL"
                ).fetchall()
                for table in ("contacts", "emails", "deals", "associations", "list_memberships")
            }

    before = raw()
    (world / "build.duckdb").unlink()
    with RunLock(world) as lock:
        rebuild(Warehouse.in_folder(world), lock)
    assert raw() == before
    assert layers_with(world, *NEEDLES) == {"billing"}


#: In the 1,700,000,000s, as Intercom and Stripe write times.
SECOND = 1_780_000_000


def intercom_talk(id: str, *people: str, **more: Any) -> dict[str, Any]:
    """A conversation or ticket of some contacts."""
    return {
        "id": id,
        "contacts": {"contacts": [{"id": one} for one in people]},
        "created_at": SECOND,
        "updated_at": SECOND,
        **more,
    }


def test_conversations_tickets_merges_and_what_stripe_said_are_cleaned_and_others_keep_theirs(
    tmp_path: Path,
) -> None:
    older = "5f0colderjane"
    person = {"id": VISITOR, "email": ADDRESS, "name": f"Jane {NAME}", "created_at": SECOND}
    history = [{"source_contact_id": older, "merged_at": SECOND}]
    rating = {"rating": 1, "remark": REMARK, "created_at": SECOND}
    parts = [("t1", VISITOR), ("t2", VISITOR), ("t2", "other"), ("t3", "other")]
    payload = {"id": "cus_1", "name": f"Jane {NAME}", "email": ADDRESS, "metadata": {"org": "501"}}
    namesake = {"id": "cus_2", "name": f"Jane {NAME}", "email": "c1@other.example"}
    with run(tmp_path) as one:
        one.take(
            contacts_stream(),
            [{**person, "merge_history": history}, {"id": "other", "email": "c1@other.example"}],
        )
        one.take(
            conversations_stream(),
            [
                intercom_talk("t1", VISITOR, title=f"{NAME} alone", conversation_rating=rating),
                intercom_talk("t2", VISITOR, "other", title=f"{NAME} and more", conversation_rating=rating),
                intercom_talk("t3", "other", title="others"),
                intercom_talk("t4", "other", older, title=f"{NAME} was second"),
            ],
        )
        one.take(deleted_conversations_stream(), [{"id": "t1", "deleted_at": SECOND + 9}])
        one.take(
            tickets_stream(),
            [
                intercom_talk("77", VISITOR, ticket_attributes={"_default_title_": f"{NAME} asks"}),
                intercom_talk("78", "other", VISITOR, ticket_attributes={"_default_title_": REMARK}),
            ],
        )
        one.take(
            conversation_parts_stream(),
            [
                {"conversation_id": talk, "part_id": str(i), "author_type": "user", "author_id": author}
                for i, (talk, author) in enumerate(parts)
            ],
        )
        one.take(
            list_stream("customers"),
            [{"id": c["id"], "created": SECOND, "payload": c} for c in (payload, namesake)],
        )
        folder = one.warehouse.stripe_root
        folder.mkdir()
        night = folder / "customers__2026-10-31__1-x.parquet"
        rows = [(c["id"], c["name"], c["email"]) for c in (payload, namesake)]
        one.connection.execute(
            f"COPY (FROM (VALUES {', '.join(map(str, rows))}) AS t(customer_id, name, email)) "
            f"TO '{night}' (FORMAT parquet)"
        )

    def raw() -> dict[str, list[Any]]:
        queries = {
            "contacts": "SELECT id FROM raw_intercom.contacts",
            "merges": "SELECT loser_id FROM raw_intercom.contact_merges",
            "conversations": "SELECT id, contact_id, contact_ids, title, remark, rating FROM raw_intercom.conversations",
            "tickets": "SELECT id, contact_id, contact_ids, title FROM raw_intercom.tickets",
            "parts": "SELECT conversation_id, author_id FROM raw_intercom.conversation_parts",
            "stripe": "SELECT id, payload->>'name', payload->>'email', payload->>'$.metadata.org' FROM raw_stripe.customers",
        }
        with Warehouse.in_folder(tmp_path).connect_read_only() as build:
            return {
                name: build.execute(f"{query} ORDER BY ALL").fetchall() for name, query in queries.items()
            }

    assert erased(tmp_path, emails=[ADDRESS]).found
    clean = raw()
    assert clean == {
        "contacts": [("other",)],
        "merges": [],
        "conversations": [
            ("t2", "other", ["other"], None, None, 1),
            ("t3", "other", ["other"], "others", None, None),
            ("t4", "other", ["other"], None, None, None),
        ],
        "tickets": [("78", "other", ["other"], None)],
        "parts": [("t2", "[erased]"), ("t2", "other"), ("t3", "other")],
        "stripe": [
            ("cus_1", "[erased]", "[erased]", "501"),
            ("cus_2", f"Jane {NAME}", "c1@other.example", None),
        ],
    }
    with duckdb.connect() as connection:
        assert connection.execute(f"FROM read_parquet('{night}') ORDER BY 1").fetchall() == [
            ("cus_1", "[erased]", "[erased]"),
            ("cus_2", f"Jane {NAME}", "c1@other.example"),
        ], "of two customers of one name only the one with the address is this person"
    assert night.stat().st_mode & 0o777 == 0o600
    assert layers_with(tmp_path, ADDRESS, VISITOR, older, REMARK) == set()
    (tmp_path / "build.duckdb").unlink()
    with RunLock(tmp_path) as lock:
        rebuild(Warehouse.in_folder(tmp_path), lock)
    assert raw() == clean, "made again from landing it is the same"


@pytest.mark.slow
def test_an_erasure_that_was_cut_off_is_completed_by_repeating_it(world: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom hub_pipeline_tests.warehouse.test_erase import ADDRESS, erased\n"
        "erased(Path(sys.argv[1]), emails=[ADDRESS])\n"
    )
    for point in ("erase.record:2", "erase.build", "rewrite.replace"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(world)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "HUB_CRASH_AT": point},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -9, done.stderr
    erased(world, emails=[ADDRESS])
    assert layers_with(world, *NEEDLES) == {"billing"}
    (world / "build.duckdb").unlink()
    with RunLock(world) as lock:
        rebuild(Warehouse.in_folder(world), lock)


@pytest.mark.slow
def test_who_was_erased_and_is_sent_again_is_erased_again_in_the_same_run(world: Path) -> None:
    erased(world, emails=[ADDRESS])
    with run(world, DAY + timedelta(days=2)) as one:
        sources(one, [*OTHERS, JANE])
        assert leftovers(one.connection, Tombstones.read(world / "landing")) != {}
        again = erase_returned(one.warehouse, one.connection, one.fence, one.load, "hubspot")
        assert again is not None
        assert again.found
        erase_returned(one.warehouse, one.connection, one.fence, one.load, "intercom")
        assert leftovers(one.connection, Tombstones.read(world / "landing")) == {}
    with RunLock(world) as lock:
        finish(Warehouse.in_folder(world), lock)
    assert layers_with(world, *NEEDLES) == {"billing"}
    with run(world, DAY + timedelta(days=3)) as two:
        sources(two, OTHERS, jane=False)
        assert erase_returned(two.warehouse, two.connection, two.fence, two.load, "hubspot") is not None, (
            "the deal still names the address"
        )


@pytest.mark.slow
def test_who_a_dead_run_loaded_again_is_erased_by_the_next_one_though_nobody_sends_them(world: Path) -> None:
    erased(world, emails=[ADDRESS])
    with run(world, DAY + timedelta(days=2)) as dead:
        dead.take(CONTACTS, [*OTHERS, JANE])
    with run(world, DAY + timedelta(days=3)) as one:
        assert erase_returned(one.warehouse, one.connection, one.fence, one.load, "hubspot") is not None
        assert leftovers(one.connection, Tombstones.read(world / "landing")) == {}
        assert erase_returned(one.warehouse, one.connection, one.fence, one.load, "hubspot") is None
    with RunLock(world) as lock:
        finish(Warehouse.in_folder(world), lock)
    assert layers_with(world, ADDRESS, ID) == {"billing"}


def test_a_contact_gone_without_having_been_archived_is_erased_and_an_archived_one_is_kept(
    world: Path,
) -> None:
    with run(world, DAY + timedelta(days=2)) as one:
        gone = [{**OTHERS[9], "archivedAt": "2026-11-02T08:00:00"}]
        sources(one, [*OTHERS[:9], *gone], jane=False)
        done = erase_gone(one.warehouse, one.connection, one.fence, Decimal("0.02"), False)
        assert done is not None
        assert done.persons == 1
    with run(world, DAY + timedelta(days=3)) as two:
        two.take(CONTACTS, OTHERS[:9])
        assert erase_gone(two.warehouse, two.connection, two.fence, Decimal("0.02"), False) is None
        assert two.rows(
            "SELECT count(*) FROM raw_hubspot.contacts_current WHERE _archived_at IS NOT NULL"
        ) == [(1,)]
    with RunLock(world) as lock:
        finish(Warehouse.in_folder(world), lock)
    assert layers_with(world, NAME, ID) == set()


@pytest.mark.slow
def test_a_loser_of_a_merge_is_not_erased_and_goes_with_the_winner(world: Path) -> None:
    merges = RawStream(
        source="hubspot",
        object="contacts",
        table="merges",
        json_columns={"id": "VARCHAR", "merged": "VARCHAR[]"},
        columns={"object": "VARCHAR", "loser_id": "VARCHAR", "winner_id": "VARCHAR"},
        select="'contacts' AS object, m.loser AS loser_id, r.id AS winner_id",
        from_clause="landed AS r, unnest(r.merged) AS m(loser)",
        key=("object", "loser_id", "winner_id"),
        kind="events",
        merges="contacts",
    )
    merging = replace(CONTACTS, also=(merges,))
    with run(world, DAY + timedelta(days=2)) as one:
        one.take(merging, [{**OTHERS[0], "merged": [ID]}, *OTHERS[1:]])
        assert erase_gone(one.warehouse, one.connection, one.fence, Decimal("0.02"), False) is None
        person = find_person(one.connection, contacts=["0"])
        assert person.contacts == {"0", ID}
        assert person.emails == {"c0@other.example", ADDRESS}


@pytest.mark.slow
def test_after_a_pause_longer_than_the_bin_keeps_nobody_is_taken_for_erased(world: Path) -> None:
    with run(world, DAY + timedelta(days=120)) as one:
        one.take(CONTACTS, OTHERS)
        assert erase_gone(one.warehouse, one.connection, one.fence, Decimal("0.02"), False) is None


@pytest.mark.slow
def test_many_contacts_gone_at_once_are_not_believed(tmp_path: Path) -> None:
    many = [record(str(i), email=f"c{i}@other.example") for i in range(200)]
    with run(tmp_path) as one:
        one.take(CONTACTS, many)
        publish_day(one)
    with run(tmp_path, DAY + timedelta(days=1)) as two:
        two.take(CONTACTS, many[:170])
        with pytest.raises(DataRefusedError, match="30 of 200 HubSpot contacts are gone"):
            erase_gone(two.warehouse, two.connection, two.fence, Decimal("0.02"), False)
        done = erase_gone(two.warehouse, two.connection, two.fence, Decimal("0.02"), True)
        assert done is not None
        assert done.persons == 30
        assert two.rows("SELECT count(*) FROM raw_hubspot.contacts") == [(170,)]


@pytest.mark.slow
def test_a_contact_that_hubspot_lists_again_is_no_longer_erased(world: Path) -> None:
    with run(world, DAY + timedelta(days=2)) as one:
        one.take(CONTACTS, OTHERS)
        assert erase_gone(one.warehouse, one.connection, one.fence, Decimal("0.5"), False) is not None
    with run(world, DAY + timedelta(days=3)) as two:
        two.take(CONTACTS, [*OTHERS, JANE])
        assert erase_returned(two.warehouse, two.connection, two.fence, two.load, "hubspot") is None
        assert not Tombstones.read(world / "landing")
        assert two.rows(f"SELECT count(*) FROM raw_hubspot.contacts WHERE id = '{ID}'") == [(1,)]


def test_who_is_to_be_erased_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Say who"):
        erase_person(Settings(), Environment(data_dir=tmp_path), [], [])
    with pytest.raises(ConfigurationError, match="'jane' is no e-mail address"):
        erase_person(Settings(), Environment(data_dir=tmp_path), ["jane"], [])
    with pytest.raises(WarehouseError, match="nobody to erase"):
        erase_person(Settings(), Environment(data_dir=tmp_path), [ADDRESS], [])


@pytest.mark.slow
def test_tombstones_do_not_tell_who_it_was(world: Path) -> None:
    erased(world, emails=[ADDRESS])
    text = (world / "landing" / "erased.json").read_text()
    assert ADDRESS not in text
    assert ID not in text
    assert (world / "landing" / "erased.json").stat().st_mode & 0o777 == 0o600
    stones = Tombstones.read(world / "landing")
    assert stones.known("email", [ADDRESS, "c1@other.example"]) == {ADDRESS: "requested"}
    assert len(fingerprint(world / "build.duckdb")) > 0


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a@x.example", "[erased]"),
        ("A@X.example, a@x.example;a@x.example", "[erased], [erased];[erased]"),
        ("ba@x.example", "ba@x.example"),
        ("b-a@x.example", "b-a@x.example"),
        ("a@x.example.com", "a@x.example.com"),
        ("Write to a@x.example.", "Write to [erased]."),
        ("<a@x.example>", "<[erased]>"),
    ],
)
def test_an_address_is_replaced_where_it_stands_alone(text: str, cleaned: str) -> None:
    person = Person(emails=frozenset(["a@x.example"]))
    assert person.clean_text(text) == cleaned
    assert person.pattern is not None
    with duckdb.connect() as connection:
        twice = "regexp_replace(regexp_replace($t, $p, '\\1[erased]\\2', 'g'), $p, '\\1[erased]\\2', 'g')"
        assert connection.execute(f"SELECT {twice}", {"t": text, "p": person.pattern}).fetchall() == [
            (cleaned,)
        ]
