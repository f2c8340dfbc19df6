"""A proposed settings file is one that loads, and names what the portal has."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from hub_pipeline.demo.account import HubSpotAccount
from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline.demo.portal import owners, pipelines, properties
from hub_pipeline.demo.serve import serving
from hub_pipeline.errors import ConfigurationError
from hub_pipeline.settings import Settings
from hub_pipeline.sources.init_settings import propose
from hub_pipeline_tests.demo.portal import account, definition
from hub_pipeline_tests.sources.reading import ORGANISATIONS, environment


def proposal(tmp_path: Path, simulator: HubSpotSimulator) -> tuple[str, Settings]:
    with serving(simulator.app) as (url,):
        text = propose(environment(tmp_path, url))
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return text, Settings.load(path)


def demo_portal() -> HubSpotAccount:
    return HubSpotAccount(
        portal_id=8443689,
        properties=properties(),
        records={ORGANISATIONS: {}},
        associations={},
        owners=owners(),
        pipelines=pipelines(),
    )


def test_the_demo_portal_gives_the_settings_the_demo_uses(tmp_path: Path) -> None:
    text, settings = proposal(
        tmp_path, HubSpotSimulator(demo_portal(), time_zone="Europe/Berlin", currency="EUR")
    )
    assert (settings.reporting_tz, settings.reporting_currency) == ("Europe/Berlin", "EUR")
    assert settings.hubspot.portal_id == "8443689"
    assert (settings.hubspot.post_sales_pipeline, settings.hubspot.sales_pipeline) == (
        "post_sales",
        "default",
    )
    assert "renewed" in settings.renewal.stages
    assert settings.renewal.enterprise_plans == ("enterprise",)
    assert settings.hubspot.deal_types == {
        "newbusiness": "new_business",
        "existingbusiness": "renewal",
        "renewal": "renewal",
        "upsell": "upsell",
    }
    assert settings.hubspot.objects == Settings().hubspot.objects, "the portal has every default property"
    assert "# Plans found: starter, team, business, enterprise" in text
    assert "# Candidates for seats: joint_plan_seats" in text


def test_another_portal_is_mapped_by_names_and_labels(tmp_path: Path) -> None:
    portal = account(organisations=3)
    portal.properties[ORGANISATIONS] = [
        definition("workspace_name"),
        definition("website_domain"),
        definition("workspace_id"),
        definition("customer_tier"),
        definition("parent_workspace"),
        definition("paid_seats", "number"),
        definition("current_mrr", "number"),
        definition("nps_latest", "number"),
        {
            **definition("plan_name", "enumeration"),
            "options": [{"value": 'Free "forever" \U0001f389', "label": "x\ny"}],
        },
    ]
    portal.pipelines = {
        "deals": [
            {"id": "17", "label": "New sales\nteam", "stages": []},
            {"id": "18", "label": "Renewals", "stages": [{"id": "s1", "label": "Début"}]},
        ]
    }
    text, settings = proposal(tmp_path, HubSpotSimulator(portal))
    mapping = settings.hubspot.objects["organisations"].properties
    assert mapping["name"] == "workspace_name"
    assert mapping["domain"] == "website_domain"
    assert mapping["external_id"] == "workspace_id"
    assert mapping["tier_override"] == "customer_tier"
    assert mapping["parent_org_id"] == "parent_workspace"
    assert mapping["health_override"] == ""
    assert (mapping["seats"], mapping["mrr"], mapping["plan"]) == ("paid_seats", "current_mrr", "plan_name")
    assert mapping["nps_score"] == "nps_latest"
    assert mapping["cancel_at"] == ""
    assert "# Candidates for seats: paid_seats" in text
    assert "# Candidates for MRR: current_mrr" in text
    assert "# Candidates for NPS: nps_latest" in text
    assert (settings.hubspot.post_sales_pipeline, settings.hubspot.sales_pipeline) == ("18", "17")
    assert settings.renewal.stages == ("s1",)
    assert settings.plans.free == ('free "forever" \U0001f389',)


def test_what_an_organisation_pays_for_is_recognised_and_no_property_used_twice(tmp_path: Path) -> None:
    portal = demo_portal()
    portal.properties[ORGANISATIONS] += [
        {**definition(name, kind), "label": label}
        for name, kind, label in (
            ("lic", "number", "Paid seats"),
            ("mrr_usd", "number", "MRR"),
            ("product_plan", "enumeration", "Product"),
            ("billing_frequency", "enumeration", "Billing frequency"),
            ("customer_status", "enumeration", "Customer status"),
            ("customer_since", "date", "Customer since"),
            ("churn_date", "date", "Churn date"),
            ("churn_reason", "string", "Churn reason"),
            ("renewal_date", "date", "Renewal date"),
            ("nps", "number", "NPS"),
            ("nps_date", "datetime", "NPS answered"),
        )
    ]
    mapping = proposal(tmp_path, HubSpotSimulator(portal))[1].hubspot.objects["organisations"].properties
    found = {
        column: name
        for column, name in mapping.items()
        if name != Settings().hubspot.objects["organisations"].properties[column]
    }
    assert found == {
        "seats": "lic",
        "mrr": "mrr_usd",
        "plan": "product_plan",
        "billing_interval": "billing_frequency",
        "subscription_status": "customer_status",
        "started_at": "customer_since",
        "cancel_at": "churn_date",
        "cancel_reason": "churn_reason",
        "term_end": "renewal_date",
        "nps_score": "nps",
        "nps_responded_at": "nps_date",
    }


def test_objects_the_token_may_not_read_are_switched_off(tmp_path: Path) -> None:
    forbidden = {"feedback_submissions": ["crm.objects.feedback_submissions.read"]}
    text, settings = proposal(tmp_path, HubSpotSimulator(demo_portal(), forbidden=forbidden))
    assert "feedback_submissions" not in settings.hubspot.objects
    assert "crm.objects.feedback_submissions.read" in text


def test_a_wrong_token_ends_with_one_plain_sentence(tmp_path: Path) -> None:
    with serving(HubSpotSimulator(demo_portal()).app) as (url,):
        where = environment(tmp_path, url, hubspot_access_token=SecretStr("wrong"))
        with pytest.raises(ConfigurationError, match="HUBSPOT_ACCESS_TOKEN"):
            propose(where)
