"""Settings: mistakes are named, the hash follows what marts say, and what is printed explains itself."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hub_pipeline.errors import ConfigurationError
from hub_pipeline.report.settings import render_settings
from hub_pipeline.settings import COLUMN_MEANINGS, Settings
from hub_pipeline.warehouse.database import open_published
from hub_pipeline.warehouse.publish import publish
from hub_pipeline_tests.commands import plain_sentence
from hub_pipeline_tests.test_cli import hub
from hub_pipeline_tests.warehouse.support import COMPANIES, build_day, company, run


def load(folder: Path, text: str) -> Settings:
    file = folder / "settings.toml"
    file.write_text(text, encoding="utf-8")
    return Settings.load(file)


OBJECTS = "hubspot.objects"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            f'[{OBJECTS}.organisations.properties]\ndomian = "website"\n',
            (f"{OBJECTS}.organisations.properties.domian", "did you mean domain?"),
        ),
        (
            f'[{OBJECTS}.contacts.properties]\nzzz = "x"\n',
            (f"{OBJECTS}.contacts.properties.zzz", "there are email, first_name"),
        ),
        (f"[{OBJECTS}.contact]\noptional = true\n", (f"{OBJECTS}.contact:", "contacts", "object_type")),
        (f"[{OBJECTS}.feedback_submission]\nenabled = false\n", ("did you mean feedback_submissions?",)),
        (f'[{OBJECTS}.notes]\nenabled = "no"\n', (f"{OBJECTS}.notes.enabled",)),
        (f"[{OBJECTS}.notes]\nenable = false\n", (f"{OBJECTS}.notes.enable",)),
        (
            f'[{OBJECTS}.gadgets]\nobject_type = "2-9"\nproperties = {{ name = "n" }}\n',
            (f"{OBJECTS}.gadgets.properties", "must be empty"),
        ),
        (f'[{OBJECTS}.notes]\nproperties = "x"\n', (f"{OBJECTS}.notes.properties",)),
        ("[hubspot]\nobjects = 3\n", (OBJECTS,)),
        ("hubspot = 3\n", ("hubspot",)),
        ('[hubspot.roles]\nSuccess = "cms"\n', ("hubspot.roles.Success", "'csm'")),
        ('[interactions]\ntiers = ["A", "b"]\n', ("interactions.tiers.1", "'B'")),
        (
            "[renewal.stage_probability]\nsent = 80\n",
            ("renewal.stage_probability.sent", "less than or equal to 1"),
        ),
        ("[renewal.stage_probability]\nsent = -0.1\n", ("renewal.stage_probability.sent",)),
        ("[metrics]\nperiod_start = 2026-01-01\n", ("metrics:", "set both or neither")),
        ("[metrics]\nperiod_end = 2026-01-01\n", ("metrics:", "set both or neither")),
        (
            "[metrics]\nperiod_start = 2026-02-01\nperiod_end = 2026-01-31\n",
            ("metrics:", "2026-02-01 is after period_end 2026-01-31"),
        ),
        ('[publish]\nmode = "0644"\n', ("publish.mode", "personal data", "0640")),
        ('[publish]\nmode = "777"\n', ("publish.mode", "personal data")),
        ('[publish]\nmode = "0750"\n', ("publish.mode", "executable")),
        (
            '[hubspot]\nassociations = [["deal", "contacts"]]\n',
            ("hubspot.associations", "deal is not a configured object", "did you mean deals?"),
        ),
        (
            f'[hubspot]\nassociations = [["notes", "contacts"]]\n[{OBJECTS}.notes]\nenabled = false\n',
            ("hubspot.associations", "notes is not a configured object"),
        ),
    ],
)
def test_a_mistake_inside_a_group_is_named_with_its_key(
    tmp_path: Path, text: str, named: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    for part in named:
        assert part in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = f'[growth]\ndays = -1\n[{OBJECTS}.deals.properties]\namont = "x"\n[{OBJECTS}.dealz]\n'
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    for key in ("growth.days", f"{OBJECTS}.deals.properties.amont", f"{OBJECTS}.dealz"):
        assert key in str(caught.value)


def test_values_at_the_edge_and_objects_of_ones_own_are_accepted(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[metrics]\nperiod_start = 2026-01-31\nperiod_end = 2026-01-31\n"
        '[publish]\nmode = "0600"\n'
        "[renewal.stage_probability]\nlost = 0\nwon = 1\n"
        '[hubspot]\nassociations = [["gadgets", "organisations"]]\n'
        '[hubspot.roles]\nSuccess = "other"\n'
        f'[{OBJECTS}.gadgets]\nobject_type = "2-9"\nhistory = ["price"]\n'
        f'[{OBJECTS}.contacts.properties]\nleft_at = ""\n',
    )
    assert settings.hubspot.objects["gadgets"].properties == {}
    assert settings.hubspot.objects["contacts"].properties["email"] == "email", (
        "the others keep their default"
    )


def test_an_object_that_is_switched_off_takes_its_default_associations_with_it(tmp_path: Path) -> None:
    settings = load(tmp_path, f"[{OBJECTS}.feedback_submissions]\nenabled = false\n")
    pairs = json.loads(settings.hashed_json())["hubspot_associations"]
    assert ["contacts", "organisations"] in pairs
    assert not [pair for pair in pairs if "feedback_submissions" in pair]
    again = Settings.model_validate_json(settings.model_dump_json(exclude_unset=True))
    assert again.settings_hash() == settings.settings_hash()


@pytest.mark.parametrize(
    "text",
    [
        "[growth]\ndays = 60\n",
        'reporting_tz = "Europe/Berlin"\n',
        f'[{OBJECTS}.organisations]\nobject_type = "companies"\n',
        f'[{OBJECTS}.organisations.properties]\ndomain = "website"\n',
        f'[{OBJECTS}.deals]\nhistory = ["dealname"]\n',
        f'[{OBJECTS}.organisations.properties]\nseats = "paid_seats"\n',
        '[hubspot.subscription_statuses]\nlive = "active"\n',
        f"[{OBJECTS}.notes]\nenabled = false\n",
        '[hubspot]\nassociations = [["contacts", "organisations"]]\n',
        '[hubspot.roles]\nSuccess = "csm"\n',
        '[intercom]\nparts = "none"\n',
        '[billing]\nmappings = ["stripe.toml"]\n',
        '[billing]\nseat_roles = ["user"]\n',
    ],
)
def test_the_hash_changes_with_what_a_mart_says(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text).settings_hash() != Settings().settings_hash()


@pytest.mark.parametrize(
    "text",
    [
        "[hubspot]\nworkers = 2\nreserve = 0.1\nrequests_per_10_seconds = 90\ntime_budget_seconds = 60\n",
        "[intercom]\ntime_budget_seconds = 60\n",
        '[billing]\nfolder = "/srv/private/billing"\nsettle_seconds = 0\nmax_quarantined = 0.5\n',
        "[guards]\nmax_shrink = 0.5\n",
        "[run]\nhour = 5\nfirst_day = 2025-01-01\n",
        '[publish]\nmode = "0600"\ngroup = "analysts"\n',
        "[metrics]\nperiod_start = 2026-01-01\nperiod_end = 2026-01-31\n",
        "[contraction]\nseats_pct = 0.2\nmrr_min = 100.0\n",
        f'[{OBJECTS}.deals]\nhistory = ["dealstage", "closedate"]\n',
    ],
)
def test_the_hash_stays_when_only_the_way_of_reading_changes(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text).settings_hash() == Settings().settings_hash()


def test_where_a_mapping_file_lies_does_not_matter_and_is_not_shown(tmp_path: Path) -> None:
    here = load(tmp_path, '[billing]\nmappings = ["stripe.toml"]\n')
    there = load(tmp_path, '[billing]\nmappings = ["/srv/private/stripe.toml"]\nfolder = "/srv/private/in"\n')
    assert here.settings_hash() == there.settings_hash()
    assert "private" not in there.hashed_json()


def test_the_published_settings_are_those_the_hash_is_of_and_name_no_path(tmp_path: Path) -> None:

    settings = Settings.model_validate({"billing": {"folder": "/srv/private/billing"}})
    with run(tmp_path) as one:
        one.take(COMPANIES, [company("1", seats=12)])
        build_day(one)
        published = publish(one.warehouse, one.connection, one.fence, one.load, settings)
    with open_published(published.path) as connection:
        rows = connection.execute("SELECT * FROM _published.settings_versions").fetchall()
    assert len(rows) == 1
    digest, text = rows[0][:2]
    assert digest == settings.settings_hash() == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert "private" not in text
    assert json.loads(text)["growth_days"] == 90


def test_init_does_not_look_at_the_settings_of_the_environment(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[growth\n", encoding="utf-8")
    for settings_file in (broken, tmp_path / "none.toml"):
        process = hub("init", "--output", str(tmp_path / "new.toml"), HUB_SETTINGS=str(settings_file))
        assert process.returncode == 2
        assert "HUBSPOT_ACCESS_TOKEN" in plain_sentence(process)
        assert settings_file.name not in process.stderr


CHANGED = f"""
reporting_currency = "EUR"
[growth]
days = 60
[run]
first_day = 2025-01-01
[publish]
group = "analysts"
[hubspot.roles]
A = "csm"
B = "csm"
C = "sales"
D = "support"
"E & F" = "other"
[{OBJECTS}.organisations.properties]
domain = "website"
health_override = ""
[{OBJECTS}.contacts]
history = ["jobtitle"]
[{OBJECTS}.notes]
enabled = false
[{OBJECTS}.gadgets]
object_type = "2-9"
"""


def test_a_changed_key_is_printed_with_its_default(tmp_path: Path) -> None:
    text = render_settings(load(tmp_path, CHANGED))
    for part in (
        "# window in calendar days, half-open (D-days, D] (whole number)\n# default: 90\ndays = 60\n",
        "# first daily partition (date)\n# default: 2024-01-01\nfirst_day = 2025-01-01\n",
        '# group of the file (text)\n# default: none\ngroup = "analysts"\n',
        'domain = "website"  # e-mail or web domain (default: "domain")\n',
        'health_override = ""  # health set by hand, shown beside the computed one (default: "health")\n',
        '# default: []\nhistory = ["jobtitle"]\n',
        "[hubspot.objects.notes]\n# read at all (yes/no)\n# default: true\nenabled = false\n",
        '# default: { "Customer Success" = "csm", Sales = "sales", Support = "support" }\n[hubspot.roles]\n',
    ):
        assert part in text
    live = [line for line in text.splitlines() if re.match(r'[a-z"].* = ', line, re.I)]
    assert len(live) == 14, "only what was changed is live"


def test_changed_settings_that_were_printed_load_to_the_same_settings(tmp_path: Path) -> None:
    settings = load(tmp_path, CHANGED)
    text = render_settings(settings)
    assert load(tmp_path, text) == settings
    assert (
        load(tmp_path, re.sub(r"(?m)^# (?=[a-z0-9_]+ = )", "", text).replace("\nassociations", "\n#"))
        == settings
    )


def test_types_are_words_and_every_canonical_column_has_a_meaning() -> None:
    text = render_settings(Settings())
    kinds = set(re.findall(r"(?m)^# (?!\w+ =).*\(([^()]*)\)\n# \w+ =", text))
    plain = {kind for kind in kinds if not kind.startswith(("one of ", "table, each value one of "))}
    assert plain == {
        "text",
        "whole number",
        "number",
        "yes/no",
        "date",
        "table",
        "list of text",
        "list of A, B, C",
        "list of teams, tags, tickets",
        "list of pairs of text",
    }
    rows = re.findall(r'(?m)^# (\w+) = "\w*"  # (.+)$', text)
    columns: dict[str, Any] = {n: o.properties for n, o in Settings().hubspot.objects.items()}
    assert len(rows) == sum(len(mapping) for mapping in columns.values())
    assert "not a column the models know" not in text
    assert COLUMN_MEANINGS.keys() <= {column for mapping in columns.values() for column in mapping}
