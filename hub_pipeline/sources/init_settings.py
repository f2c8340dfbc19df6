"""Proposes a settings file from what a portal calls things: pipelines, stages, plans, properties, teams.

Every proposal is a guess from names and labels and says so; what is certain (account, time zone, currency) is not
commented. Columns for which nothing fits are set to "" (not mapped), so that no night run looks for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from hub_pipeline.settings import Environment, HubSpotObject, Settings
from hub_pipeline.sources.hubspot.client import HubSpotClient
from hub_pipeline.sources.transport import Budget, ForbiddenError, RejectedError

#: Somebody waits at a terminal: a portal that does not answer is given up after this.
TIME_BUDGET_SECONDS = 60

_ORGANISATION = r"organi[sz]ation|workspace|tenant|account|customer"
_POST_SALES = r"post.?sales|renewal|customer success|account management|retention"

_NUMBER = frozenset({"number"})
_WORD = frozenset({"enumeration", "string"})
_DAY = frozenset({"date", "datetime"})
#: What a property is called that holds a canonical column of an organisation: a pattern over name and label, and
#: the types it may have (empty = any).
_COLUMNS: dict[str, tuple[str, frozenset[str]]] = {
    "name": (r"^(name|.*(organi[sz]ation|company|account|workspace)[ _]name)$", frozenset({"string"})),
    "domain": (r"domain|website", frozenset({"string"})),
    "external_id": (
        r"(organi[sz]ation|workspace|tenant|account|customer|external)[ _]?id$",
        frozenset({"string", "number"}),
    ),
    "tier_override": (r"\btier\b|_tier|tier_|segment", frozenset({"enumeration", "string"})),
    "owner_id": (r"^hubspot_owner_id$", frozenset()),
    "health_override": (r"health", frozenset()),
    "members_active": (r"active[ _](members|users)|(members|users)[ _]active", frozenset({"number"})),
    "parent_org_id": (r"parent", frozenset({"string", "number"})),
    "covered_by_org_id": (r"joint[ _]plan.*(payer|paid)|covered[ _]by", frozenset({"string", "number"})),
    "covered_from": (
        r"joint[ _]plan.*(since|start|from)|covered[ _](from|since)",
        frozenset({"date", "datetime"}),
    ),
    "covered_seats": (r"joint[ _]plan.*seats|covered[ _]seats", frozenset({"number"})),
    "contract_kind": (r"custom[ _](contract|plan)([ _](kind|type))?$", frozenset({"enumeration", "string"})),
    "contract_from": (r"contract[ _](start|from)", frozenset({"date", "datetime"})),
    "contract_to": (r"contract[ _](end|until|to)\b", frozenset({"date", "datetime"})),
    "contract_amount": (r"contract[ _](amount|value)", frozenset({"number"})),
    "contract_seats": (r"contract[ _]seats", frozenset({"number"})),
    "pending_true_up_mrr": (r"true.?up", frozenset({"number"})),
    "seats": (r"(^|[ _])(seats?|licen[cs]es?)([ _](count|number))?$", _NUMBER),
    "mrr": (r"(^|[ _])mrr([ _]|$)|monthly[ _](recurring[ _])?revenue", _NUMBER),
    "plan": (r"(^|[ _])(plan|package)([ _](name|type))?$", _WORD),
    "billing_interval": (r"billing[ _](interval|period|frequency|cycle)|pays[ _]every", _WORD),
    "currency": (r"(^|[ _])currency([ _]code)?$", _WORD),
    "subscription_status": (r"(subscription|customer|account|billing|plan)[ _]status", _WORD),
    "started_at": (r"(customer|subscribed)[ _]since|(subscription|plan)[ _](start|began)", _DAY),
    "cancel_at": (r"churn[ _](date|on|at)\b|cancell?ation[ _](date|on)|cancels[ _](at|on)", _DAY),
    "cancel_requested_at": (r"cancel(led|ed|l?ation)?[ _](requested|on$)", _DAY),
    "cancel_reason": (r"(churn|cancel|cancell?ation)[ _]reason", _WORD),
    "cancel_comment": (r"(churn|cancel|cancell?ation)[ _](comment|feedback)", frozenset({"string"})),
    "term_start": (r"(term|period)[ _](start|began)", _DAY),
    "term_end": (r"renewal[ _](date|on)|renews[ _](at|on)|(term|period)[ _]end", _DAY),
    "nps_score": (r"(^|[ _])nps([ _]|$)|net[ _]promoter", _NUMBER),
    "nps_responded_at": (r"(^|[ _])nps[ _].*(date|[ _]at|[ _]on|answered)", _DAY),
    "nps_comment": (r"(^|[ _])nps[ _].*(comment|feedback|reason)", frozenset({"string"})),
}
#: What an organisation pays for and how content it is; shown with all that might hold it, because a guess may be wrong.
_CANDIDATES = {
    "seats": (r"seat|licen[cs]e", frozenset({"number"})),
    "MRR": (r"\bmrr\b|_mrr|mrr_|monthly.*revenue|\barr\b|_arr|arr_", frozenset({"number"})),
    "NPS": (r"\bnps\b|_nps|nps_|promoter", frozenset[str]()),
    "plan": (r"\bplan\b|_plan|plan_|package", frozenset({"enumeration", "string"})),
}
_DEAL_TYPES = (
    ("renewal", r"renew|existing"),
    ("upsell", r"upsell|expan|upgrade|cross"),
    ("new_business", r"new"),
)
_ROLES = (
    ("csm", r"customer success|\bcsm\b|account manage"),
    ("sales", r"sales|account exec|business dev"),
    ("support", r"support|service"),
)


class _Option(msgspec.Struct):
    value: str
    label: str = ""


class _Property(msgspec.Struct):
    name: str
    label: str = ""
    type: str = ""
    options: list[_Option] = msgspec.field(default_factory=list)


class _Metadata(msgspec.Struct):
    probability: str = ""


class _Stage(msgspec.Struct):
    id: str
    label: str = ""
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Pipeline(msgspec.Struct):
    id: str
    label: str = ""
    stages: list[_Stage] = msgspec.field(default_factory=list)


class _Labels(msgspec.Struct):
    singular: str = ""


class _Schema(msgspec.Struct):
    objectTypeId: str
    name: str = ""
    labels: _Labels = msgspec.field(default_factory=_Labels)


class _Team(msgspec.Struct):
    name: str = ""


class _Owner(msgspec.Struct):
    teams: list[_Team] = msgspec.field(default_factory=list)


class _Account(msgspec.Struct):
    portalId: int
    timeZone: str = ""
    companyCurrency: str = ""


def propose(environment: Environment) -> str:
    """A settings file (TOML) with proposals for the portal the environment names; `Settings.load` accepts it.

    Raises:
        ConfigurationError: no or a wrong token, or a needed object may not be read.
        SourceUnavailableError: HubSpot is down.
    """
    defaults = Settings.load()
    budget = Budget("HubSpot", TIME_BUDGET_SECONDS, setting=None, kept="Nothing was written")
    with HubSpotClient(defaults.hubspot, environment, budget) as client:
        account = msgspec.json.decode(client.account(), type=_Account)
        try:
            schemas = [msgspec.json.decode(raw, type=_Schema) for raw in client.schemas()]
        except ForbiddenError:
            schemas = []
        organisation = _organisation_object(schemas)
        properties: dict[str, list[_Property]] = {}
        unreadable: dict[str, str] = {}
        for name, config in defaults.hubspot.objects.items():
            kind = organisation if name == "organisations" else config.object_type
            try:
                found = client.properties(kind)
            except (ForbiddenError, RejectedError) as error:
                if not config.optional:
                    raise
                unreadable[name] = str(error)
            else:
                properties[name] = [msgspec.json.decode(raw, type=_Property) for raw in found]
        pipelines = [msgspec.json.decode(raw, type=_Pipeline) for raw in client.pipelines("deals")]
        try:
            owners = [
                msgspec.json.decode(raw, type=_Owner)
                for raw in client.owners_page(None, archived=False).results
            ]
        except ForbiddenError:
            owners = []
    lines = [
        f"# Proposed by hub-pipeline init from HubSpot account {account.portalId}.",
        "# Lines marked (guess) were recognised by their names: check them. `hub-pipeline settings` explains every key.",
        "",
        *_clock(account),
    ]
    post_sales, sales = _pipelines(pipelines)
    lines += _renewal(post_sales, properties)
    lines += _hubspot(account, post_sales, sales, pipelines, properties.get("deals", []), owners)
    lines += _objects(defaults, organisation, schemas, properties, unreadable)
    return "\n".join(lines) + "\n"


def _organisation_object(schemas: Sequence[_Schema]) -> str:
    """The custom object that holds client organisations, else companies."""
    for schema in schemas:
        if re.search(_ORGANISATION, f"{schema.name} {schema.labels.singular}", re.I):
            return schema.objectTypeId
    return schemas[0].objectTypeId if len(schemas) == 1 else "companies"


def _clock(account: _Account) -> list[str]:
    lines = []
    try:
        ZoneInfo(account.timeZone)
    except (ZoneInfoNotFoundError, ValueError):
        lines.append("# reporting_tz: the account names no usable time zone; the default is UTC.")
    else:
        lines.append(f"reporting_tz = {_text(account.timeZone)}")
    if re.fullmatch("[A-Z]{3}", account.companyCurrency):
        lines.append(f"reporting_currency = {_text(account.companyCurrency)}")
    return [*lines, ""]


def _pipelines(pipelines: Sequence[_Pipeline]) -> tuple[_Pipeline | None, _Pipeline | None]:
    """The pipeline of renewals and upsells, and the sales pipeline."""
    post_sales = next((p for p in pipelines if re.search(_POST_SALES, f"{p.id} {p.label}", re.I)), None)
    others = [p for p in pipelines if p is not post_sales]
    sales = next((p for p in others if p.id == "default" or re.search("sales", p.label, re.I)), None)
    return post_sales, sales or (others[0] if others else None)


def _renewal(post_sales: _Pipeline | None, properties: dict[str, list[_Property]]) -> list[str]:
    lines = ["[renewal]"]
    plans = _plans(properties)
    if plans:
        enterprise = [p for p in plans if re.search("enterprise|custom", p, re.I)]
        lines.append(f"# Plans found: {', '.join(map(_plain, plans))}")
        if enterprise:
            lines.append(f"enterprise_plans = {_list(enterprise)}  # (guess)")
    if post_sales is not None:
        lines.append(f"# Stages of {_plain(post_sales.label)}; a deal in any other stage is a finding.")
        lines += [
            f"#   {_plain(s.id)} = {_plain(s.label)}, probability {_plain(s.metadata.probability) or 'unknown'}"
            for s in post_sales.stages
        ]
        lines.append(f"stages = {_list(stage.id for stage in post_sales.stages)}")
    lines.append("")
    free = [p for p in plans if re.search("free|community", p, re.I)]
    if free:
        lines += ["[plans]", f"free = {_list(p.lower() for p in free)}  # (guess)", ""]
    return lines


def _plans(properties: dict[str, list[_Property]]) -> list[str]:
    pattern, kinds = _CANDIDATES["plan"]
    found = [
        option.value
        for name in ("organisations", "deals")
        for p in _fitting(properties.get(name, []), pattern, kinds)
        for option in p.options
    ]
    return list(dict.fromkeys(found))


def _hubspot(
    account: _Account,
    post_sales: _Pipeline | None,
    sales: _Pipeline | None,
    pipelines: Sequence[_Pipeline],
    deals: Sequence[_Property],
    owners: Sequence[_Owner],
) -> list[str]:
    lines = ["[hubspot]", f"portal_id = {_text(str(account.portalId))}"]
    lines.append(f"# Pipelines found: {', '.join(f'{_plain(p.id)} ({_plain(p.label)})' for p in pipelines)}")
    if post_sales is None:
        lines.append("# post_sales_pipeline: none of them looks like renewals; set its id here.")
    else:
        lines.append(f"post_sales_pipeline = {_text(post_sales.id)}  # (guess)")
    if sales is not None:
        lines.append(f"sales_pipeline = {_text(sales.id)}  # (guess)")
    lines.append("")
    types = next((p.options for p in deals if p.name == "dealtype"), [])
    if types:
        lines.append("[hubspot.deal_types]")
        for option in types:
            meaning = _first(_DEAL_TYPES, f"{option.value} {option.label}")
            key = f"{_text(option.value)} ="
            lines.append(
                f'{key} "{meaning}"  # (guess)'
                if meaning
                else f'# {_plain(key)} "renewal|upsell|new_business"'
            )
        lines.append("")
    teams = dict.fromkeys(team.name for owner in owners for team in owner.teams if team.name)
    if teams:
        lines.append("[hubspot.roles]")
        for team in teams:
            role = _first(_ROLES, team)
            key = f"{_text(team)} ="
            lines.append(f'{key} "{role}"  # (guess)' if role else f'# {_plain(key)} "sales|csm|support|..."')
        lines.append("")
    return lines


def _objects(
    defaults: Settings,
    organisation: str,
    schemas: Sequence[_Schema],
    properties: dict[str, list[_Property]],
    unreadable: dict[str, str],
) -> list[str]:
    lines = [
        "[hubspot.objects.organisations]",
        *(
            f"# Custom object {_plain(s.objectTypeId)}: {_plain(s.labels.singular or s.name)}"
            for s in schemas
        ),
    ]
    lines += [f"object_type = {_text(organisation)}  # (guess)", ""]
    lines.append("[hubspot.objects.organisations.properties]")
    found = properties["organisations"]
    lines += _mapping(defaults.hubspot.objects["organisations"], found, _COLUMNS)
    lines += _candidates(found)
    lines.append("")
    for name, config in defaults.hubspot.objects.items():
        if name in unreadable:
            lines += [
                f"[hubspot.objects.{name}]",
                f"# {_plain(unreadable[name])}",
                "enabled = false",
                "",
            ]
        elif name != "organisations":
            mapped = _mapping(config, properties[name], {})
            if mapped:
                lines += [f"[hubspot.objects.{name}.properties]", *mapped, ""]
    return lines


def _mapping(
    config: HubSpotObject, found: Sequence[_Property], patterns: dict[str, tuple[str, frozenset[str]]]
) -> list[str]:
    """Lines for the columns whose default property the portal does not have, or that have none; no property twice."""
    names = {p.name for p in found}
    used = {default for default in config.properties.values() if default in names}
    lines = []
    for column, default in config.properties.items():
        if default in names:
            continue
        pattern, kinds = patterns.get(column, (None, frozenset()))
        fitting = [p for p in _fitting(found, pattern, kinds) if p.name not in used] if pattern else []
        if fitting:
            used.add(fitting[0].name)
            others = ", ".join(_plain(p.name) for p in fitting[1:4])
            lines.append(
                f"{column} = {_text(fitting[0].name)}  # (guess){f'; also: {others}' if others else ''}"
            )
        elif default:
            lines.append(f'{column} = ""  # the portal has no {_plain(default)}')
    return lines


def _candidates(found: Sequence[_Property]) -> list[str]:
    lines = []
    for subject, (pattern, kinds) in _CANDIDATES.items():
        fitting = _fitting(found, pattern, kinds)
        if fitting:
            shown = ", ".join(f"{_plain(p.name)} ({_plain(p.label)})" for p in fitting[:5])
            lines.append(f"# Candidates for {subject}: {shown}")
    return lines


def _fitting(found: Iterable[_Property], pattern: str, kinds: frozenset[str]) -> list[_Property]:
    """Properties whose name or label fits, HubSpot's own (hs_) last."""
    fitting = [
        p
        for p in found
        if (not kinds or p.type in kinds)
        and (re.search(pattern, p.name, re.I) or re.search(pattern, p.label, re.I))
    ]
    return sorted(fitting, key=lambda p: p.name.startswith("hs_"))


def _first(rules: Iterable[tuple[str, str]], text: str) -> str | None:
    return next((meaning for meaning, pattern in rules if re.search(pattern, text, re.I)), None)


def _text(value: str) -> str:
    """A TOML basic string: JSON's, as long as characters beyond the first plane are not escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(_text(value) for value in values)}]"


def _plain(value: str) -> str:
    """Text for a comment: on one line and without control characters."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", value)
