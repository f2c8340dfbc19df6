"""What doctor says about a healthy installation and about each thing that can be missing."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from hub_pipeline.demo.faults import Fault, FaultKind
from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline.demo.intercom_server import IntercomSimulator
from hub_pipeline.demo.serve import serving
from hub_pipeline.settings import Environment
from hub_pipeline.sources.doctor import Finding, doctor
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline_tests.demo.portal import account, workspace
from hub_pipeline_tests.sources.reading import ORGANISATIONS, environment, settings_with


def look(
    tmp_path: Path, hubspot: HubSpotSimulator, intercom: IntercomSimulator | None = None, **more: object
) -> dict[str, Finding]:
    with serving(hubspot.app, (intercom or IntercomSimulator(workspace())).app) as (
        hubspot_url,
        intercom_url,
    ):
        where = environment(tmp_path, hubspot_url, **{"intercom_base_url": intercom_url, **more})
        return {finding.subject: finding for finding in doctor(settings_with(), where)}


def test_a_healthy_portal_shows_records_properties_and_the_length_of_a_full_load(tmp_path: Path) -> None:
    (tmp_path / "billing" / "incoming").mkdir(parents=True)
    (tmp_path / "billing" / "incoming" / "x.csv").touch()
    simulator = HubSpotSimulator(account(organisations=250), time_zone="Europe/Berlin")
    findings = look(tmp_path, simulator)
    assert {f.level for f in findings.values()} == {"ok"}
    assert "account 8443689, time zone Europe/Berlin" in findings["hubspot"].message
    assert "250 records, 3 properties, about 7 requests" in findings["hubspot organisations"].message
    assert "3 records" in findings["hubspot contacts"].message
    assert "at least 0 s at 180 requests in 10 s" in findings["hubspot full load"].message
    assert findings["intercom contacts"].message == "5 records"
    assert findings["intercom conversations"].message == "45 records"
    assert findings["billing"].message.startswith("1 files")
    assert "DuckDB 2.0" in findings["versions"].message
    assert simulator.hits.count() <= 2 + 2 * 2


def test_a_missing_scope_is_an_error_for_a_needed_object(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(
        account(organisations=5), forbidden={"contacts": ["crm.objects.contacts.read"]}
    )
    finding = look(tmp_path, simulator)["hubspot contacts"]
    assert finding.level == "error"
    assert "crm.objects.contacts.read" in finding.message


def test_tokens_that_are_missing_or_wrong_are_named_by_their_variables(tmp_path: Path) -> None:
    findings = {f.subject: f for f in doctor(settings_with(), Environment(data_dir=tmp_path))}
    assert (findings["hubspot"].level, findings["intercom"].level) == ("warning", "warning")
    assert findings["billing"].level == "warning"
    wrong = SecretStr("wrong-token")
    simulator = HubSpotSimulator(account(organisations=5))
    findings = look(tmp_path, simulator, hubspot_access_token=wrong, intercom_access_token=wrong)
    assert findings["hubspot"].level == findings["intercom"].level == "error"
    assert "HUBSPOT_ACCESS_TOKEN" in findings["hubspot"].message
    assert "INTERCOM_ACCESS_TOKEN" in findings["intercom"].message
    assert "wrong-token" not in str(findings)
    assert simulator.hits.count() == 1


def test_a_run_at_work_and_an_unknown_number_of_records_are_told(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(account(organisations=5))
    simulator.faults.add(Fault(FaultKind.CANNED, path="/crm/limits", status=403, body=b"{}"))
    with RunLock(tmp_path):
        findings = look(tmp_path, simulator)
    assert findings["lock"].level == "warning"
    assert "Another run is at work" in findings["lock"].message
    assert findings["hubspot records"].level == "warning"
    assert "an unknown number of records" in findings["hubspot organisations"].message
    assert look(tmp_path, simulator)["lock"].message == "no run is at work"


def test_a_mapped_property_that_does_not_exist_is_a_warning_with_the_key_to_change(tmp_path: Path) -> None:
    objects = {"organisations": {"object_type": ORGANISATIONS, "properties": {"tier_override": "tier"}}}
    with serving(HubSpotSimulator(account(organisations=5)).app) as (url,):
        found = doctor(settings_with(objects=objects, associations=[]), environment(tmp_path, url))
    finding = next(f for f in found if f.subject == "hubspot organisations")
    assert finding.level == "warning"
    assert "does not have tier: map them under hubspot.objects.organisations.properties" in finding.message
