"""Random companies reach every branch of the rules: what none of them reaches is not tested by agreement.

Reached is what the oracle answers: each value that a contract accepts, both sides of each yes-or-no column, the empty
and the filled of each column that may be empty. Rules whose branches leave no trace of their own in a row are counted
on the companies themselves.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest

from hub_pipeline.models import catalog
from hub_pipeline_tests.models import oracle, oracle_people, oracle_renewals
from hub_pipeline_tests.models.oracle import TOUCHES, Row
from hub_pipeline_tests.models.oracle_people import HEALTH_WEIGHTS, code, domain_of
from hub_pipeline_tests.models.test_oracle import MARTS, QUICK, WholeOracle, quick

#: Values of a contract that the oracle's answers never have, with the reason.
NEVER = {
    "at_risk.reasons: none": "the reasons decide who is on the list",
    "ownership_crossovers.crossing_users: none": "without them there is no row",
    "ownership_crossovers.people: none": "without them there is no row",
}
MODULES = (oracle, oracle_people, oracle_renewals)
#: Functions that the whole oracle has another one for.
REPLACED = ("Oracle.deals", "Oracle._touches")
#: A function: its file and first line.
Function = tuple[str, int]


@cache
def _companies() -> list[tuple[WholeOracle, dict[str, list[Row]]]]:
    """The companies of the quick tests, once more without anything they have written or called, and nobody at all."""
    return _asked()[0]


@cache
def _asked() -> tuple[list[tuple[WholeOracle, dict[str, list[Row]]]], dict[Function, set[int]]]:
    """These companies, and the lines of each function of the oracle that none of them ran."""
    worlds = [quick(variant) for variant in range(len(QUICK))]
    silent = replace(worlds[1], world={**worlds[1].world, "engagements": []})
    found = []
    with _lines_left() as left:
        for one in (*worlds, replace(silent, world={}), silent):
            company = WholeOracle(one.world, one.as_of, one.known_at, one.settings)
            found.append((company, {mart: getattr(company, mart)() for mart in MARTS}))
    return found, left


@contextmanager
def _lines_left() -> Iterator[dict[Function, set[int]]]:
    """The lines of each function that are not run meanwhile."""
    left = {function: lines for module in MODULES for function, lines in _functions(module)}

    def on_line(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            left[frame.f_code.co_filename, frame.f_code.co_firstlineno].discard(frame.f_lineno)
        return on_line

    def on_call(frame: FrameType, _event: str, _: object) -> Any:
        return on_line if left.get((frame.f_code.co_filename, frame.f_code.co_firstlineno)) else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield left
    finally:
        sys.settrace(before)


def _functions(module: ModuleType) -> Iterator[tuple[Function, set[int]]]:
    """Each function of the module with the numbers of its lines."""
    file = str(module.__file__)
    waiting = [compile(Path(file).read_text(encoding="utf-8"), file, "exec")]
    while waiting:
        one = waiting.pop()
        waiting += [constant for constant in one.co_consts if isinstance(constant, CodeType)]
        if one.co_flags & inspect.CO_OPTIMIZED and not one.co_qualname.startswith(REPLACED):
            lines = {line for _, _, line in one.co_lines() if line and line != one.co_firstlineno}
            yield (file, one.co_firstlineno), lines


def _wanted(mart: str) -> Iterator[str]:
    """What the contract says a column can be, for the columns that the oracle answers with."""
    answered = {name for _, answers in _companies() for row in answers[mart] for name in row}
    for name, column in catalog().models[f"marts.{mart}"].contract.columns.items():
        if name not in answered:
            continue
        if column.accepted:
            yield from (f"{mart}.{name}: {value}" for value in column.accepted)
        if column.type == "BOOLEAN":
            yield from (f"{mart}.{name}: {value}" for value in (True, False))
        if not column.not_null:
            yield from (f"{mart}.{name}: {value}" for value in ("empty", "filled"))
        if column.type.endswith("[]"):
            yield from (f"{mart}.{name}: {value}" for value in ("none", "some", "several"))


def _found(mart: str) -> set[str]:
    found = set()
    for _, answers in _companies():
        for row in answers[mart]:
            for name, value in row.items():
                values = value if isinstance(value, list) else [value]
                found |= {f"{mart}.{name}: {one}" for one in values}
                found.add(f"{mart}.{name}: {'empty' if value is None else 'filled'}")
                if isinstance(value, list):
                    found.add(f"{mart}.{name}: {('none', 'some')[bool(value)]}")
                    found |= {f"{mart}.{name}: several"} if len(value) > 1 else set()
    return found


@pytest.mark.parametrize("mart", MARTS)
def test_random_companies_reach_every_value_that_a_contract_names(mart: str) -> None:
    assert sorted({*_wanted(mart)} - _found(mart) - NEVER.keys()) == []


def test_what_is_said_to_be_never_reached_is_not() -> None:
    assert not {name for mart in MARTS for name in _found(mart)} & NEVER.keys()


def test_random_companies_run_every_line_of_the_oracle() -> None:
    idle = [
        Path(file).read_text(encoding="utf-8").splitlines()[line - 1].strip()
        for (file, _), lines in _asked()[1].items()
        for line in sorted(lines)
    ]
    assert idle == []


def _branches(company: WholeOracle, answers: dict[str, list[Row]]) -> Iterator[str]:
    """Names of the branches that the rules about people took in this company."""
    yield from _contact_branches(company)
    yield from _engagement_branches(company)
    for row in answers["customer_360"]:
        for name in HEALTH_WEIGHTS:
            value = row[f"health_{name}"]
            whole = name in ("commercial", "engagement", "support")
            if row["is_customer"]:
                yield f"health {name} {value if whole or value is None else 'some'}"
                if name == "sentiment" and row["nps_detractors"] and value == 30:
                    yield "health sentiment capped"
                if name == "seats" and value == 100:
                    yield "health seats full"
        if row["health_override"] is not None:
            yield "health override"
    for talk in company.conversations:
        on_record = company.who(talk.get("org_id")) is not None
        yield f"attribution {'record' if on_record else min(len(talk['orgs']), 2)}"
        if talk.get("rating") is not None:
            moment = (
                "never"
                if talk["rated_at"] is None
                else "before"
                if company.before_close(talk["rated_at"])
                else "after"
            )
            yield f"rating timed {moment}"
    for row in company.tables["success_plans"]:
        yield f"plan updated {'never' if row['updated_at'] is None else 'before' if company.before_close(row['updated_at']) else 'after'}"
    for row in company.tables["users"]:
        yield f"user {row.get('role')} {'active' if row.get('is_active') else 'inactive'}"


def _contact_branches(company: WholeOracle) -> Iterator[str]:
    rules = company.settings.lifecycle
    stages = {code(one) for one in (*rules.stages, *rules.other_stages)}
    statuses = {code(one) for one in rules.lead_statuses}
    known = {row["contact_id"]: row for row in company.tables["contacts"]}
    for contact_id, row in known.items():
        if row.get("is_deleted"):
            yield "contact deleted"
        if not company.before_close(row["created_at"]):
            yield "contact created later"
        if row["recorded_at"] != row["first_recorded_at"]:
            yield "contact of several versions"
        if contact_id not in company.contacts:
            continue
        stage, status = code(row.get("lifecycle_stage")), code(row.get("lead_status"))
        homes = company.homes.get(contact_id, [])
        commercial = any(company.daily[org]["is_customer"] for org in homes)
        trial = any(company.daily[org]["state"] == "trial" for org in homes)
        deal = any(one["org"] in homes for one in company._open_deals)
        written, answered = company._talks(contact_id)
        yield f"stage {'unknown' if stage and stage not in stages else stage}"
        yield f"status {'unknown' if status and status not in statuses else status}"
        yield f"stage {stage} home {bool(homes)} commercial {commercial} trial {trial}"
        yield f"stage {stage} deal {deal}"
        yield f"status {status} deal {deal}"
        yield f"status {status} written {written is not None} answered {answered is not None}"
        if written and answered and answered != written:
            yield f"status {status} answered {'after' if answered > written else 'before'}"
        yield f"memberships {min(len(company._memberships.get(contact_id, ())), 3)}"
        yield f"attributed {min(len(homes), 2)}"
        if stage is None:
            yield f"no stage, created {'never' if row['created_at'] is None else 'known'}"
        if code(row.get("source")) in {code(one) for one in rules.autocreated_sources}:
            yield f"autocreated stage {stage is not None} owner {row.get('owner_id') is not None}"
        domain = domain_of(row.get("email"))
        if domain in company._inside:
            yield f"inside by {'setting' if domain in {one.lower() for one in rules.internal_domains} else 'colleague'}"
        mail = row.get("email")
        if mail and mail != mail.strip().lower():
            yield "address with blanks or capitals"
        history = [one for one in company.tables["contact_owners"] if one["contact_id"] == contact_id]
        yield f"owner history {min(len(history), 2)}"
        if history and not any(
            one["valid_from"] is None or company.before_close(one["valid_from"]) for one in history
        ):
            yield "owner history begins later"
        moves = [one for one in company.tables["contact_stages"] if one["contact_id"] == contact_id]
        if any(code(one.get("lifecycle_stage")) is None for one in moves):
            yield "stage taken away"
        if any(one["recorded_at"] != one["first_recorded_at"] for one in moves):
            yield "stage corrected"


def _engagement_branches(company: WholeOracle) -> Iterator[str]:
    for row in company.work:
        kind = "touch" if row["type"] in TOUCHES else row["type"]
        yield f"{kind} against {'organisation' if row['org'] else 'contact'}"
        yield f"{kind} automated {bool(row.get('is_automated'))}"
        if row["type"] == "task":
            done = row["completed_at"]
            completed = "never" if done is None else "before" if company.before_close(done) else "after"
            yield f"task completed {completed} status {(row.get('status') or '').lower() == 'completed'}"
            yield f"task due {'before' if company.before_close(row['due_at'] or row['occurred_at']) else 'after'}"
            if row["org"] is None and not company.before_close(row["occurred_at"]):
                then = company.attributed(row["contact_id"], row["occurred_at"])
                now = company.attributed(row["contact_id"], company.last_moment)
                yield f"task of one who {'moves' if then != now else 'stays'}"
            if not company.before_close(row["recorded_at"]):
                yield "task of several versions"
        else:
            yield f"{row['type']} {row.get('direction')}"
    if not company.work:
        yield "nothing is known"


BRANCHES = {
    *(f"health commercial {value}" for value in (0, 50, 100)),
    *(f"health engagement {value}" for value in (0, 20, 60, 100, None)),
    *(f"health support {value}" for value in (25, 50, 75, 100, None)),
    *(f"health {name} {value}" for name in ("seats", "sentiment") for value in ("some", None)),
    *("health sentiment capped", "health seats full", "health override"),
    *(f"attribution {value}" for value in ("record", 0, 1, 2)),
    *(f"rating timed {value}" for value in ("never", "before", "after")),
    *(f"plan updated {value}" for value in ("never", "before", "after")),
    *("user csm active", "user sales active", "user sales inactive", "user support active"),
    *("contact deleted", "contact created later", "contact of several versions"),
    *(f"stage {value}" for value in ("unknown", None, "subscriber", "lead", "evangelist", "other")),
    *(f"status {value}" for value in ("unknown", None, "none", "connected", "opendeal", "unqualified")),
    *(
        f"stage customer home {home} commercial {pays} trial False"
        for home, pays in ((True, True), (True, False), (False, False))
    ),
    "stage subscriber home True commercial True trial False",
    "stage subscriber home True commercial False trial True",
    "stage subscriber home True commercial False trial False",
    *(f"stage {stage} deal {deal}" for stage in ("opportunity", "other") for deal in (True, False)),
    "stage other home True commercial True trial False",
    *(f"status {status} deal {deal}" for status in ("opendeal", "unqualified") for deal in (True, False)),
    *(f"status connected written {one} answered {two}" for one in (True, False) for two in (True, False)),
    *(f"status attemptedtocontact answered {value}" for value in ("after", "before")),
    *(f"memberships {value}" for value in (0, 1, 2, 3)),
    *(f"attributed {value}" for value in (0, 1, 2)),
    *("no stage, created never", "no stage, created known"),
    *(f"autocreated stage {one} owner {two}" for one in (True, False) for two in (True, False)),
    *("inside by setting", "inside by colleague", "address with blanks or capitals"),
    *("owner history 0", "owner history 1", "owner history 2", "owner history begins later"),
    *("stage taken away", "stage corrected"),
    *(f"{kind} against {one}" for kind in ("touch", "note", "task") for one in ("organisation", "contact")),
    *("touch automated True", "touch automated False", "nothing is known"),
    *(
        f"task completed {one}"
        for one in ("never status True", "never status False", "before status True", "after status True")
    ),
    *(
        "task due before",
        "task due after",
        "task of one who moves",
        "task of one who stays",
        "task of several versions",
    ),
    *(f"{kind} {direction}" for kind in TOUCHES for direction in ("outbound", "inbound", None)),
}


def test_random_companies_reach_every_branch_of_the_rules_about_people() -> None:
    reached: Counter[str] = Counter(
        name for company, answers in _companies() for name in _branches(company, answers)
    )
    assert sorted(BRANCHES - reached.keys()) == []


def test_a_branch_that_no_company_takes_is_noticed() -> None:
    company, answers = _companies()[-1]
    silent = set(_branches(company, answers))
    missed = {name for name in BRANCHES if name.startswith(("task", "touch", "email"))}
    assert missed
    assert not missed & silent
