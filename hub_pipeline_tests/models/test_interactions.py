"""Interactions of large clients: window, attribution, who is unmet, who is dissatisfied, and what has been done."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import duckdb
import pytest

from hub_pipeline_tests.models.worlds import Row, build_world, one, organisations, rows, subscription

AS_OF = "2026-06-30"
WROTE = "2026-06-20T10:00:00Z"


def _talk(name: str, contact_id: str | None = None, wrote: str = WROTE, **columns: Any) -> tuple[Row, Row]:
    """Conversation k-<name> of contact c-<name> with one message of the contact."""
    conversation = {"conversation_id": f"k-{name}", "contact_id": contact_id or f"c-{name}"} | columns
    part = {"conversation_id": f"k-{name}", "part_number": 1, "author_type": "contact", "created_at": wrote}
    return conversation, part


def _engagement(name: str, user_id: str, occurred_at: str, **columns: Any) -> Row:
    return {
        "engagement_id": f"e-{name}-{user_id}",
        "type": "call",
        "contact_id": f"c-{name}",
        "user_id": user_id,
        "occurred_at": occurred_at,
    } | columns


def _member(name: str, org_id: str = "big", **columns: Any) -> Row:
    return {"contact_id": f"c-{name}", "org_id": org_id} | columns


NAMES = [
    "day27",
    "unmet",
    "note",
    "inactive",
    "met-later",
    "rating2",
    "rating3",
    "rated-later",
    "detractor",
    "passive",
    "handled",
    "before",
    "support",
    "task",
    "automated",
    "org-note",
    "second",
]


def _world() -> dict[str, list[Row]]:
    talks = [
        _talk("day28", wrote="2026-06-02T23:59:59Z"),
        _talk("day27", wrote="2026-06-03T00:00:00Z"),
        _talk("unmet"),
        _talk("note"),
        _talk("inactive"),
        _talk("met-later"),
        _talk("rating2", rating=2, rated_at="2026-06-21T10:00:00Z"),
        _talk("rating3", rating=3, rated_at="2026-06-21T10:00:00Z"),
        _talk("rated-later", rating=1, rated_at="2026-07-01T00:00:00Z", created_at="2026-06-20T09:00:00Z"),
        _talk("detractor"),
        _talk("passive"),
        _talk("handled", rating=1, rated_at="2026-06-21T10:00:00Z"),
        _talk("before", rating=1, rated_at="2026-06-21T10:00:00Z"),
        _talk("support", rating=1, rated_at="2026-06-21T10:00:00Z"),
        _talk("task", rating=1, rated_at="2026-06-21T10:00:00Z"),
        _talk("automated", rating=1, rated_at="2026-06-21T10:00:00Z"),
        _talk("org-note", org_id="other", rating=1, rated_at="2026-06-21T10:00:00Z"),
        _talk("first", contact_id="c-second", wrote="2026-02-01T10:00:00Z"),
        _talk("second"),
        _talk("two"),
        _talk("primary"),
        _talk("single"),
        _talk("moved"),
        _talk("left"),
        _talk("stranger"),
        _talk("recorded", org_id="big"),
        _talk("merged", org_id="duplicate"),
        _talk("small"),
    ]
    conversations = [conversation for conversation, _ in talks]
    parts = [part for _, part in talks]
    conversations.append({"conversation_id": "k-admin", "contact_id": "c-unmet"})
    parts += [
        {"conversation_id": "k-admin", "part_number": 1, "author_type": "admin", "created_at": WROTE},
        {"conversation_id": "k-admin", "part_number": 2, "author_type": "bot", "created_at": WROTE},
    ]
    return {
        "organisations": organisations("big", "other", "lonely", "small", "duplicate"),
        "org_merges": [{"loser_org_id": "duplicate", "winner_org_id": "big", "merged_at": "2026-06-01"}],
        "subscription_versions": [
            *subscription("s-big", "big", [("2025-01-01", 300, 5000)]),
            *subscription("s-other", "other", [("2025-01-01", 60, 600)]),
            *subscription("s-lonely", "lonely", [("2025-01-01", 60, 600)]),
            *subscription("s-small", "small", [("2025-01-01", 5, 50)]),
        ],
        "users": [
            {"user_id": "csm", "role": "csm", "is_active": True},
            {"user_id": "gone", "role": "sales", "is_active": False},
            {"user_id": "sup", "role": "support", "is_active": True},
        ],
        "contact_orgs": [
            *[_member(name) for name in NAMES],
            _member("two", "big"),
            _member("two", "other"),
            _member("primary", "big", is_primary=True),
            _member("primary", "other"),
            _member("single", "lonely", is_primary=False),
            _member("moved", "other", valid_to="2026-06-20T10:00:00Z"),
            _member("moved", "big", valid_from="2026-06-20T10:00:00Z"),
            _member("left", "big", valid_to="2026-06-20T10:00:00Z"),
            _member("small", "small"),
        ],
        "conversations": conversations,
        "conversation_parts": parts,
        "nps_responses": [
            {
                "response_id": "r1",
                "contact_id": "c-detractor",
                "score": 6,
                "responded_at": "2026-05-01T10:00:00Z",
            },
            {
                "response_id": "r2",
                "contact_id": "c-passive",
                "score": 7,
                "responded_at": "2026-05-01T10:00:00Z",
            },
        ],
        "engagements": [
            _engagement("note", "csm", "2026-05-01", type="note"),
            _engagement("inactive", "gone", "2026-05-01", type="email", direction="outbound"),
            _engagement("met-later", "csm", "2026-07-01T00:00:00Z", type="meeting", recorded_at="2026-06-01"),
            _engagement("detractor", "csm", "2026-04-30"),
            _engagement("handled", "csm", "2026-06-21T10:00:00Z"),
            _engagement("before", "csm", "2026-06-21T09:59:59Z"),
            _engagement("support", "sup", "2026-06-25"),
            _engagement("task", "csm", "2026-07-15", type="task", recorded_at="2026-06-25"),
            _engagement("automated", "csm", "2026-06-25", is_automated=True),
            _engagement("org-note", "csm", "2026-06-25", type="note", contact_id=None, org_id="other"),
        ],
    }


@cache
def _built() -> duckdb.DuckDBPyConnection:
    return build_world(_world(), AS_OF)


def _row(name: str) -> Row:
    return one(_built(), "interactions", conversation_id=f"k-{name}")


def test_a_message_of_the_contact_within_28_days_is_needed() -> None:
    found = {row["conversation_id"] for row in rows(_built(), "interactions")}
    assert "k-day27" in found
    assert not found & {"k-day28", "k-first", "k-admin", "k-small"}


@pytest.mark.parametrize(
    ("name", "unmet"),
    [
        ("unmet", True),
        ("note", True),
        ("support", True),
        ("automated", True),
        ("met-later", True),
        ("inactive", False),
        ("handled", False),
    ],
)
def test_a_contact_is_met_by_a_human_mail_call_or_meeting_with_a_client_facing_role(
    name: str, unmet: bool
) -> None:
    assert _row(name)["is_unmet_contact"] is unmet


@pytest.mark.parametrize(
    ("name", "dissatisfied", "escalate"),
    [
        ("rating2", True, True),
        ("rating3", False, False),
        ("rated-later", False, False),
        ("detractor", True, True),
        ("passive", False, False),
        ("handled", True, False),
        ("before", True, True),
        ("support", True, True),
        ("task", True, False),
        ("automated", True, True),
        ("org-note", True, False),
    ],
)
def test_a_dissatisfied_contact_needs_escalation_until_a_csm_acts(
    name: str, dissatisfied: bool, escalate: bool
) -> None:
    row = _row(name)
    assert (row["is_dissatisfied"], row["needs_escalation"]) == (dissatisfied, escalate)


def test_a_rating_given_after_the_day_is_unknown_even_when_the_day_is_restated() -> None:
    restated = one(
        build_world(_world(), AS_OF, "2026-07-31"), "interactions", conversation_id="k-rated-later"
    )
    assert (restated["rating"], restated["is_dissatisfied"]) == (None, False)


def test_what_becomes_known_after_the_day_changes_nothing() -> None:
    later = "2026-07-01T00:00:00Z"
    known_later: dict[str, list[Row]] = {
        "conversations": [
            {"conversation_id": "k-rating3", "contact_id": "c-rating3", "rating": 1, "recorded_at": later}
        ],
        "conversation_parts": [
            {"conversation_id": "k-unmet", "part_number": 2, "author_type": "contact", "created_at": later},
            {
                "conversation_id": "k-note",
                "part_number": 2,
                "author_type": "contact",
                "created_at": WROTE,
                "recorded_at": later,
            },
        ],
        "contact_orgs": [_member("stranger", recorded_at=later), _member("unmet", "other", valid_from=later)],
        "engagements": [_engagement("unmet", "csm", "2026-05-01", recorded_at=later)],
        "nps_responses": [{"response_id": "r9", "contact_id": "c-unmet", "score": 0, "responded_at": later}],
    }
    world = {table: [*table_rows, *known_later.get(table, [])] for table, table_rows in _world().items()}
    again = build_world(world, AS_OF)
    for mart in ("interactions", "unattributed_interactions"):
        assert rows(again, mart) == rows(_built(), mart)


def test_attribution_takes_the_record_then_the_membership_of_that_moment_then_all() -> None:
    found = rows(_built(), "interactions")
    by_conversation: dict[str, list[tuple[str, bool]]] = {}
    for row in found:
        by_conversation.setdefault(row["conversation_id"], []).append(
            (row["org_id"], row["attribution_ambiguous"])
        )
    assert by_conversation["k-two"] == [("big", True), ("other", True)]
    assert by_conversation["k-primary"] == [("big", False)]
    assert by_conversation["k-single"] == [("lonely", False)]
    assert by_conversation["k-moved"] == [("big", False)]
    assert by_conversation["k-recorded"] == [("big", False)]
    assert by_conversation["k-merged"] == [("big", False)]
    assert [row["conversation_id"] for row in rows(_built(), "unattributed_interactions")] == [
        "k-left",
        "k-stranger",
    ]


def test_a_second_conversation_is_not_the_first() -> None:
    assert not _row("second")["is_first_conversation"]
    assert _row("unmet")["is_first_conversation"]


def test_a_conversation_in_which_only_colleagues_wrote_is_one_that_began_earlier() -> None:
    world = _world()
    world["conversations"].append({"conversation_id": "k-outreach", "contact_id": "c-unmet"})
    world["conversation_parts"].append(
        {
            "conversation_id": "k-outreach",
            "part_number": 1,
            "author_type": "admin",
            "created_at": "2026-02-01T10:00:00Z",
        }
    )
    row = one(build_world(world, AS_OF), "interactions", conversation_id="k-unmet")
    assert not row["is_first_conversation"]


def test_an_unmet_contact_is_worth_approaching_where_fewer_than_two_are_met() -> None:
    assert _row("single")["approach_candidate"]
    assert _row("single")["met_contacts"] == 0
    assert _row("unmet")["met_contacts"] >= 2
    assert not _row("unmet")["approach_candidate"]


def test_organisations_roll_up_their_conversations() -> None:
    lonely = one(_built(), "interactions_by_org", org_id="lonely")
    assert (lonely["conversations"], lonely["contacts"], lonely["approach_candidates"]) == (
        1,
        1,
        ["c-single"],
    )
    other = one(_built(), "interactions_by_org", org_id="other")
    assert (other["conversations"], other["attribution_ambiguous"], other["needs_escalation"]) == (
        2,
        True,
        False,
    )


def test_every_row_says_why_and_the_order_of_the_input_rows_does_not_matter() -> None:
    for row in rows(_built(), "interactions"):
        assert str(row["last_contact_on"]) in row["why"]
        assert (row["contact_name"] or row["contact_id"] or "an unknown contact") in row["why"]
        assert row["why"].endswith(".")
    world = _world()
    for table in world.values():
        random.Random(13).shuffle(table)
    again = build_world(world, AS_OF)
    for mart in ("interactions", "interactions_by_org", "unattributed_interactions"):
        assert rows(again, mart) == rows(_built(), mart)


@pytest.mark.parametrize(
    ("kind", "unmet"), [("email", False), ("call", False), ("meeting", False), ("note", True)]
)
def test_each_kind_of_talk_meets_a_contact_and_one_without_a_contact_meets_nobody(
    kind: str, unmet: bool
) -> None:
    conversation, part = _talk("new")
    spoken = _engagement("new", "csm", "2026-06-01", type=kind)
    world = {
        "users": [{"user_id": "csm", "role": "csm", "is_active": True}],
        "organisations": organisations("big"),
        "subscription_versions": subscription("s", "big", [("2025-01-01", 100, 5000)], plan="enterprise"),
        "contacts": [{"contact_id": "c-new"}],
        "contact_orgs": [_member("new")],
        "conversations": [conversation],
        "conversation_parts": [part],
        "engagements": [spoken, spoken | {"engagement_id": "e-none", "contact_id": None, "org_id": "big"}],
    }
    with build_world(world, AS_OF) as connection:
        assert one(connection, "interactions", conversation_id="k-new")["is_unmet_contact"] is unmet
        met = connection.execute("SELECT contact_id FROM intermediate.met_contacts").fetchall()
        assert met == ([] if unmet else [("c-new",)])
