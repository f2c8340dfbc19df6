"""What doctor says about a healthy installation and about each thing that can be missing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydantic import SecretStr
from rich.console import Console

from hub_pipeline.demo.faults import Fault, FaultKind
from hub_pipeline.demo.hubspot_server import HubSpotSimulator
from hub_pipeline.demo.intercom_server import IntercomSimulator
from hub_pipeline.demo.serve import serving
from hub_pipeline.errors import ConfigurationError, HubPipelineError, SourceUnavailableError
from hub_pipeline.report.doctor import print_doctor
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
    assert findings["hubspot users"].message == "1 records"
    # account, owners twice, users and associations once, organisations 7 and contacts 3
    assert "about 15 requests" in findings["hubspot full load"].message
    assert "180 requests in 10 s allows less than a second" in findings["hubspot full load"].message
    assert findings["intercom contacts"].message == "5 records"
    assert findings["intercom conversations"].message == "45 records"
    assert findings["billing"].message.startswith("1 files")
    assert "DuckDB 2.0" in findings["versions"].message
    assert simulator.hits.count() <= 2 + 2 + 2 * 2


def test_the_full_load_counts_associations_owners_and_pipelines(tmp_path: Path) -> None:
    objects = {"organisations": {"object_type": ORGANISATIONS}, "deals": {"object_type": "deals"}}
    pairs = [("organisations", "deals"), ("deals", "organisations")]
    with serving(HubSpotSimulator(account(organisations=2_500)).app) as (url,):
        found = doctor(settings_with(objects=objects, associations=pairs), environment(tmp_path, url))
    message = next(f for f in found if f.subject == "hubspot full load").message
    # account 1, owners 2, users 1, pipelines of deals 1, associations of 2,500 organisations 3; records 2 + 25 and 2
    assert "about 37 requests" in message


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(FaultKind.CANNED, status=503, headers=(("Retry-After", "1000"),)), SourceUnavailableError),
        (Fault(FaultKind.CANNED, status=401), ConfigurationError),
    ],
)
def test_a_source_that_is_down_is_not_a_mistake_in_the_configuration(
    tmp_path: Path, fault: Fault, error: type[HubPipelineError]
) -> None:
    simulator = HubSpotSimulator(account(organisations=5))
    simulator.faults.add(fault)
    console = Console(file=io.StringIO(), record=True)
    with serving(simulator.app, IntercomSimulator(workspace()).app) as (hubspot_url, intercom_url):
        where = environment(tmp_path, hubspot_url, intercom_base_url=intercom_url)
        with pytest.raises(error, match="see hubspot above"):
            print_doctor(settings_with(), where, console)
    text = console.export_text()
    assert "Nothing was changed" in text
    assert "published" not in text


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_data_folder_that_cannot_be_one_is_an_error(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    found = doctor(settings_with(), Environment(data_dir=tmp_path / "file" / below))
    finding = next(f for f in found if f.subject == "data folder")
    assert (finding.level, finding.exit_code) == ("error", 5)
    assert f"{tmp_path / 'file'} is not a folder" in finding.message
    found = doctor(settings_with(), Environment(data_dir=tmp_path / "new" / "folder"))
    assert {f.level for f in found if f.subject in ("data folder", "disk", "lock")} == {"ok"}
    assert not (tmp_path / "new").exists()


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
    simulator.faults.add(Fault(FaultKind.CANNED, path="contacts/search", status=403, body=b"{}"))
    with RunLock(tmp_path):
        findings = look(tmp_path, simulator)
    assert findings["lock"].level == "warning"
    assert "Another run is at work" in findings["lock"].message
    assert findings["hubspot records"].level == "warning"
    assert "5 records" in findings["hubspot organisations"].message, "search counts them as well"
    assert "an unknown number of records" in findings["hubspot contacts"].message
    assert look(tmp_path, simulator)["lock"].message == "no run is at work"


def test_a_mapped_property_that_does_not_exist_is_a_warning_with_the_key_to_change(tmp_path: Path) -> None:
    objects = {"organisations": {"object_type": ORGANISATIONS, "properties": {"tier_override": "tier"}}}
    with serving(HubSpotSimulator(account(organisations=5)).app) as (url,):
        found = doctor(settings_with(objects=objects, associations=[]), environment(tmp_path, url))
    finding = next(f for f in found if f.subject == "hubspot organisations")
    assert finding.level == "warning"
    assert "does not have tier: map them under hubspot.objects.organisations.properties" in finding.message


def test_users_and_lists_that_cannot_be_read_are_warnings(tmp_path: Path) -> None:
    simulator = HubSpotSimulator(
        account(organisations=1), forbidden={"settings.users": ["settings.users.read"]}
    )
    simulator.create_list("55", "Champions", "contacts")
    with serving(simulator.app) as (url,):
        found = doctor(settings_with(lists=["55", "99"]), environment(tmp_path, url))
    findings = {f.subject: f for f in found}
    assert findings["hubspot users"].level == findings["hubspot list 99"].level == "warning"
    assert "settings.users.read" in findings["hubspot users"].message
    assert "List does not exist with ID 99" in findings["hubspot list 99"].message
    assert (findings["hubspot list 55"].level, findings["hubspot list 55"].message) == (
        "ok",
        "Champions: 0 records",
    )
    assert findings["hubspot owners"].level == "ok"
