"""Which organisation a customer is: explicit references first, then the listed rules, and what stays unmatched."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta

import pytest

from hub_pipeline.models import catalog, run_model, stage
from hub_pipeline.models.engine import model_parameters, run_models
from hub_pipeline.models.macros import create_macros
from hub_pipeline.sources.billing.identity import RULES, UNMATCHED
from hub_pipeline.warehouse.mapping import create_mapped_views
from hub_pipeline_tests.sources.billing_folder import ITEMS, SUBSCRIPTIONS, BillingFolder
from hub_pipeline_tests.sources.billing_marts import build_billing

EARLY = datetime(2025, 1, 1)
ORGANISATIONS = "id, organisation_id, domain, stripe_id, _recorded_at"


def hubspot(billing: BillingFolder, *organisations: tuple[str, str, str, str, datetime]) -> None:
    """Versions of HubSpot organisations: id, external id, domain, billing customer, when it became known."""
    billing.connection.execute(
        "CREATE SCHEMA IF NOT EXISTS raw_hubspot; CREATE TABLE IF NOT EXISTS raw_hubspot.organisations (id VARCHAR, "
        "organisation_id VARCHAR, domain VARCHAR, stripe_id VARCHAR, _recorded_at TIMESTAMP, _changed_at TIMESTAMP, "
        "_run_id VARCHAR)"
    )
    for one in organisations:
        billing.connection.execute(
            "INSERT INTO raw_hubspot.organisations VALUES (?, ?, ?, ?, ?, ?, 'r')", [*one, one[4]]
        )


def matched(
    billing: BillingFolder, columns: str = "customer_id, org_id, matched_by"
) -> list[tuple[object, ...]]:
    return billing.rows(
        f"SELECT {columns} FROM raw_billing.customer_organisations ORDER BY source, customer_id"
    )


def test_each_rule_matches_what_it_says_and_the_first_that_names_one_organisation_wins(
    folder: Callable[..., BillingFolder],
) -> None:
    billing = folder(
        billing={"metadata_keys": ["org"], "match_email_domain": True},
        hubspot={"objects": {"organisations": {"object_type": "2-1", "properties": {
            "external_id": "organisation_id", "domain": "domain", "billing_customer_id": "stripe_id",
        }}}},
    )  # fmt: skip
    hubspot(
        billing,
        ("501", "x", "a.com", "", EARLY),
        ("502", "acme", "b.com", "", EARLY),
        ("503", "same", "c.com", "", EARLY),
        ("504", "same", "c.com", "", EARLY),
        ("505", "meta", "", "by_property", EARLY),
        ("506", "", "alone.com", "", EARLY),
        ("507", "", "shared.com", "", EARLY),
        ("508", "", "gmail.com", "", EARLY),
    )
    billing.put("customers__2026-10-31.csv", [
        "customer_id,organisation_ref,email,metadata",
        "by_id,501,x@b.com,",
        "by_external,acme,,",
        "by_hand,501,,",
        "by_metadata,,,\"{\"\"org\"\": \"\"meta\"\"}\"",
        "by_property,,,",
        "by_domain,,Eva@Alone.com,",
        "ambiguous,same,,",
        "ambiguous_domain,,x@c.com,",
        "shared_1,,x@shared.com,",
        "shared_2,,y@shared.com,",
        "free_mail,,x@gmail.com,",
        "nowhere,999,,",
    ])  # fmt: skip
    billing.put("identities__2026-10-31.csv", ["source,key,org_id,relation", "crm,by_hand,503,customer"])
    billing.put("subscriptions__2026-10-31.csv", [SUBSCRIPTIONS, "s1,only_here,active,USD,2026-01-01,"])
    billing.run()
    found = {customer: (org, rule) for customer, org, rule in matched(billing)}
    assert found == {
        "by_hand": ("503", "identity_file"),
        "by_id": ("501", "organisation_id"),
        "by_external": ("502", "external_id"),
        "by_metadata": ("505", "metadata"),
        "by_property": ("505", "customer_property"),
        "by_domain": ("506", "email_domain"),
        **{
            name: (f"billing:{name}", "none")
            for name in ("ambiguous", "ambiguous_domain", "shared_1", "shared_2", "free_mail", "nowhere", "only_here")
        },
    }  # fmt: skip
    assert {rule for _, rule in found.values()} == set(RULES)
    why = {customer: reason for customer, reason in matched(billing, "customer_id, reason") if reason}
    assert why == {
        **dict.fromkeys(("ambiguous", "ambiguous_domain"), "ambiguous"),
        "nowhere": "reference_unknown",
        **dict.fromkeys(("shared_1", "shared_2", "free_mail", "only_here"), "no_reference"),
    }
    assert set(why.values()) == set(UNMATCHED)


def test_unmatched_customers_are_listed_with_a_hint_that_never_matches(billing: BillingFolder) -> None:
    hubspot(billing, ("501", "x", "acme.com", "", EARLY))
    billing.put("customers__2026-10-31.csv", [
        "customer_id,name,email,organisation_ref,parent_customer_ref",
        "c1,Acme,eva@acme.com,,", "c2,Acme Labs,,,c3", "c3,Acme,,x,", "c4,Who,,gone,",
    ])  # fmt: skip
    billing.run()
    assert billing.rows(
        "SELECT customer_id, name, org_id, hint_org_id, hint FROM raw_billing.unmatched_customers ORDER BY 1"
    ) == [
        ("c1", "Acme", "billing:c1", "501", "the same e-mail domain"),
        ("c2", "Acme Labs", "billing:c2", "501", "the organisation of its parent customer"),
        ("c4", "Who", "billing:c4", None, None),
    ]


def test_without_hubspot_a_customer_is_its_own_organisation(billing: BillingFolder) -> None:
    billing.put("subscriptions__2026-10-31.csv", [SUBSCRIPTIONS, "s1,c1,active,USD,2026-01-01,"])
    billing.run()
    assert matched(billing) == [("c1", "c1", "none")]


def test_a_reference_that_changes_leaves_what_was_known_before(billing: BillingFolder) -> None:
    hubspot(billing, ("501", "", "", "", EARLY), ("502", "", "", "", EARLY))
    rows = "customer_id,organisation_ref,created_at,updated_at"
    billing.put("customers__2026-10-30__delta.csv", [rows, "c1,501,2026-01-01,2026-01-01"])
    billing.run(publish=True)
    billing.put("customers__2026-10-31__delta.csv", [rows, "c1,502,2026-01-01,2026-10-20"])
    billing.run()
    assert billing.rows(
        "SELECT org_id, recorded_at FROM raw_billing.customer_matches ORDER BY recorded_at"
    ) == [("501", datetime(2026, 1, 1)), ("502", datetime(2026, 11, 1))]


@pytest.mark.parametrize("known_first", ["customer", "organisation"])
def test_a_match_holds_from_the_instant_both_sides_were_known(
    billing: BillingFolder, known_first: str
) -> None:
    of_hubspot = datetime(2026, 1, 1) if known_first == "organisation" else datetime(2026, 6, 1)
    of_billing = "2026-06-01" if known_first == "organisation" else "2026-01-01"
    hubspot(billing, ("500", "", "", "", EARLY), ("501", "", "", "", of_hubspot))
    billing.put(
        "customers__2026-10-31__delta.csv",
        ["customer_id,organisation_ref,created_at,updated_at", f"c1,501,{of_billing},{of_billing}"],
    )
    billing.run()
    versions = billing.rows(
        "SELECT org_id, recorded_at FROM raw_billing.customer_matches ORDER BY recorded_at"
    )
    before = [("billing:c1", datetime(2026, 1, 1))] if known_first == "customer" else []
    assert versions == [*before, ("501", datetime(2026, 6, 1))]


def test_two_billing_systems_with_the_same_ids_are_told_apart_and_the_first_keeps_its_own(
    billing: BillingFolder,
) -> None:
    row = "s1,c1,active,USD,2026-01-01,2026-02-01"
    billing.put("subscriptions__2026-10-30.csv", [SUBSCRIPTIONS, row])
    billing.run(publish=True)
    other = billing.folder.parent / "apple"
    other.mkdir()
    (other / "subscriptions__2026-10-31.csv").write_text(f"{SUBSCRIPTIONS}\n{row}\n")
    billing.run()
    assert billing.rows("SELECT source, name FROM raw_billing.subscription_names ORDER BY 1") == [
        ("apple", "apple:s1"),
        ("crm", "s1"),
    ]
    assert matched(billing, "source, customer_id, org_id") == [
        ("apple", "c1", "apple:c1"),
        ("crm", "c1", "c1"),
    ]


def test_the_organisation_of_a_daily_count_is_what_the_count_calls_it(billing: BillingFolder) -> None:
    hubspot(billing, ("501", "acme", "", "", EARLY))
    billing.put(
        "daily_seats__2026-10-31.csv",
        ["organisation_ref,snapshot_date,seats", "acme,2026-10-31,12", "501,2026-10-31,3", "b,2026-10-31,1"],
    )
    billing.run()
    assert matched(billing) == [
        ("501", "501", "organisation_id"),
        ("acme", "501", "external_id"),
        ("b", "billing:b", "none"),
    ]


def test_an_identity_line_that_is_taken_away_no_longer_holds_from_then_on(billing: BillingFolder) -> None:
    hubspot(billing, ("501", "", "", "", EARLY), ("502", "", "", "", EARLY))
    header = "source,key,org_id,relation"
    billing.put("customers__2026-10-29.csv", ["customer_id,organisation_ref,created_at", "c1,501,2026-01-01"])
    billing.put("identities__2026-10-30.csv", [header, "crm,c1,502,", "hubspot,9,501,merged_into"])
    billing.put("identities__2026-10-31.csv", [header, "hubspot,9,501,merged_into"])
    billing.run()
    end = timedelta(microseconds=1)
    assert billing.rows(
        "SELECT org_id, matched_by, recorded_at FROM raw_billing.customer_matches ORDER BY recorded_at"
    ) == [
        ("501", "organisation_id", datetime(2026, 1, 1)),
        ("502", "identity_file", datetime(2026, 10, 31) - end),
        ("501", "organisation_id", datetime(2026, 11, 1) - end),
    ]


def test_the_identity_file_says_who_pays_for_whom_and_which_organisations_are_one(
    billing: BillingFolder,
) -> None:
    header = "source,key,org_id,relation,valid_from,valid_to,seats"
    billing.put("identities__2026-10-30.csv", [
        header, "hubspot,502,501,covered_by,2026-03-01,,12", "hubspot,600,501,merged_into,,,",
    ])  # fmt: skip
    billing.put("identities__2026-10-31.csv", [header, "hubspot,600,501,merged_into,,,"])
    billing.run()
    billing.connection.execute(
        "CREATE SCHEMA raw_hubspot; CREATE TABLE raw_hubspot.merges (object VARCHAR, loser_id VARCHAR, winner_id VARCHAR, "
        "_recorded_at TIMESTAMP); CREATE TABLE raw_hubspot.associations (from_object VARCHAR, to_object VARCHAR, "
        "from_id VARCHAR, to_id VARCHAR, type_id VARCHAR, label VARCHAR, _changed_at TIMESTAMP, _deleted_at TIMESTAMP, "
        "_recorded_at TIMESTAMP)"
    )
    create_mapped_views(billing.connection, billing.settings)
    for name in ("org_coverage", "org_merges"):
        model = catalog().models[f"inputs.{name}"]
        run_model(billing.connection, model, model_parameters(None, None, billing.settings))
    closed = datetime(2026, 11, 1) - timedelta(microseconds=1)
    assert billing.rows(
        "SELECT child_org_id, payer_org_id, valid_from, valid_to, seats, recorded_at FROM inputs.org_coverage ORDER BY 6"
    ) == [
        ("502", "501", datetime(2026, 3, 1), None, 12, datetime(2026, 3, 1)),
        ("502", "501", datetime(2026, 3, 1), None, 12, closed - timedelta(days=1)),
        ("502", "501", datetime(2026, 3, 1), closed, 12, closed),
    ]
    assert billing.rows("SELECT loser_org_id, winner_org_id FROM inputs.org_merges") == [("600", "501")]


def test_unmatched_customers_are_published_with_their_reason_until_they_are_matched(
    billing: BillingFolder,
) -> None:
    hubspot(billing, ("501", "", "", "", EARLY), ("502", "", "", "", datetime(2026, 10, 15)))
    billing.put("customers__2026-10-31__delta.csv", [
        "customer_id,name,organisation_ref,created_at,updated_at",
        "c1,One,501,2026-01-01,2026-01-01",
        "c2,Two,502,2026-02-01,2026-02-01",
        "c3,Three,,2026-02-01,2026-02-01",
    ])  # fmt: skip
    billing.put("subscriptions__2026-10-31__delta.csv", [
        SUBSCRIPTIONS, *(f"s{n},c{n},active,USD,2026-03-01,2026-03-01" for n in (1, 2, 3)),
    ])  # fmt: skip
    billing.put("subscription_items__2026-10-31__delta.csv", [
        ITEMS, *(f"i{n},s{n},seat,{n}0,100,month,2026-03-01,2026-03-01" for n in (1, 2, 3)),
    ])  # fmt: skip
    billing.run()
    billing.connection.execute("DROP TABLE raw_hubspot.organisations")
    create_mapped_views(billing.connection, billing.settings)
    build_billing(billing, date(2026, 9, 30), "organisation_daily")
    organisations = catalog().models["inputs.organisations"]
    run_model(billing.connection, organisations, model_parameters(None, None, billing.settings))
    stage(billing.connection, billing.settings)
    wanted = ["marts.organisation_daily", "marts.unmatched_customers"]
    for day in (date(2026, 9, 30), date(2026, 10, 31)):
        models = [*catalog().layer("intermediate"), *(catalog()[name] for name in wanted)]
        run_models(billing.connection, models, model_parameters(day, day, billing.settings))
    assert billing.rows(
        "SELECT as_of, org_id, name, reason, state, seats, mrr FROM marts.unmatched_customers ORDER BY ALL"
    ) == [
        (date(2026, 9, 30), "billing:c2", "Two", "reference_unknown", "paying", 20, 20),
        (date(2026, 9, 30), "billing:c3", "Three", "no_reference", "paying", 30, 30),
        (date(2026, 10, 31), "billing:c3", "Three", "no_reference", "paying", 30, 30),
    ]


def parents(billing: BillingFolder) -> list[tuple[object, ...]]:
    """Rows of inputs.org_parents, by organisation and clocks."""
    billing.connection.execute(
        "CREATE SCHEMA IF NOT EXISTS raw_hubspot; CREATE TABLE IF NOT EXISTS raw_hubspot.associations (from_object VARCHAR, "
        "to_object VARCHAR, from_id VARCHAR, to_id VARCHAR, type_id VARCHAR, label VARCHAR, _changed_at TIMESTAMP, "
        "_deleted_at TIMESTAMP, _recorded_at TIMESTAMP); DROP TABLE IF EXISTS raw_hubspot.organisations"
    )
    create_mapped_views(billing.connection, billing.settings)
    create_macros(billing.connection)
    model = catalog().models["inputs.org_parents"]
    run_model(billing.connection, model, model_parameters(None, None, billing.settings))
    return billing.rows(
        "SELECT org_id, parent_org_id, valid_from, valid_to, recorded_at FROM inputs.org_parents ORDER BY recorded_at, org_id"
    )


def test_the_parent_customer_is_the_parent_where_hubspot_names_none(billing: BillingFolder) -> None:
    hubspot(billing, *((name, "", "", "", EARLY) for name in ("501", "502", "503")))
    billing.put("customers__2026-10-31__delta.csv", [
        "customer_id,organisation_ref,parent_customer_ref,created_at,updated_at",
        "top,501,,2026-01-01,2026-01-01",
        "child,502,top,2026-02-01,2026-02-01",
        "same,501,top,2026-02-01,2026-02-01",  # its parent is its own organisation
        "lost,503,nobody,2026-02-01,2026-02-01",
        "new,,child,2026-03-01,2026-03-01",
        "child,502,,2026-02-01,2026-06-01",
    ])  # fmt: skip
    billing.run()
    february, march, june = (datetime(2026, month, 1) for month in (2, 3, 6))
    assert parents(billing) == [
        ("502", "501", february, None, february),
        ("billing:new", "502", march, None, march),
        ("502", None, june, None, june),
    ]
    checks = catalog().models["inputs.org_parents"].contract.checks
    check = next(check for check in checks if check.name == "parent_customers_are_known")
    assert billing.rows(check.sql) == [("crm", "lost", "nobody")]


def test_the_parent_of_a_customer_follows_its_match_and_gives_way_to_hubspot(billing: BillingFolder) -> None:
    spring, summer = datetime(2026, 4, 1), datetime(2026, 7, 1)
    hubspot(billing, ("501", "", "", "", EARLY), ("502", "", "", "", spring))
    billing.put("customers__2026-10-31__delta.csv", [
        "customer_id,organisation_ref,parent_customer_ref,created_at,updated_at",
        "top,501,,2026-01-01,2026-01-01", "child,502,top,2026-02-01,2026-02-01",
    ])  # fmt: skip
    billing.run()
    february = datetime(2026, 2, 1)
    before = [
        ("billing:child", "501", february, None, february),
        ("502", "501", february, None, spring),
        ("billing:child", None, february, february, spring),
    ]
    assert parents(billing) == before
    billing.connection.execute(
        "INSERT INTO raw_hubspot.associations VALUES ('organisations', 'organisations', '502', '503', '1', $label, $at, NULL, $at)",
        {"label": billing.settings.hubspot.parent_labels[0], "at": summer},
    )
    assert parents(billing) == [
        *before,
        ("502", "503", None, None, summer),
        ("502", None, february, february, summer),
    ]
