"""The oracle's rules about people: contacts and their stages, owners, touches, tasks, conversations, health.

Written like ``oracle.py`` from the design's rules and the boundary sentences of the contracts, never from the SQL.
`People` adds the marts of MARTS and the further columns of the marts that `Oracle` covers in part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import Any

from hub_pipeline_tests.models.oracle import ALWAYS, DAY, TOUCHES, Oracle, Row, Stretch, ratio

MOMENT = timedelta(microseconds=1)
HEALTH_WEIGHTS = {"commercial": 30, "seats": 25, "sentiment": 20, "engagement": 15, "support": 10}
CHURN_STATES = ("scheduled", "churned", "reactivated", "false_alarm")


def code(value: str | None) -> str | None:
    """A value of a vocabulary without case, blanks, hyphens and underscores; None when nothing is written."""
    if value is None or not value.strip():
        return None
    return "".join(letter for letter in value.lower() if letter not in " -_")


def address(value: str | None) -> str | None:
    """An e-mail address, trimmed and in lower case; None when there is none."""
    return (value or "").strip().lower() or None


def domain_of(value: str | None) -> str | None:
    """What stands after the @ of an address."""
    return (address(value) or "").partition("@")[2] or None


def distinct(values: Iterable[str | None]) -> list[str]:
    """The known ones, each once, sorted."""
    return sorted({value for value in values if value is not None})


class People(Oracle):
    """The company on one day, its people included."""

    def happened(self, moment: datetime | None) -> datetime | None:
        """A later time of its own is not yet true."""
        return moment if moment is None or moment < self.close_of_day else None

    # What the tables say at the close of as_of

    @cached_property
    def contacts(self) -> dict[str, Row]:
        """Contacts that exist: not deleted, created before the close of as_of."""
        return {
            row["contact_id"]: row
            for row in self.tables["contacts"]
            if not row.get("is_deleted") and self.before_close(row["created_at"])
        }

    @cached_property
    def members(self) -> dict[str, list[str]]:
        """Organisation with a row on the day -> the contacts attributed to it at the close of as_of."""
        found: dict[str, list[str]] = defaultdict(list)
        for contact_id in {row["contact_id"] for row in self.tables["contact_orgs"]}:
            for org_id in self.attributed(contact_id, self.last_moment)[0]:
                if org_id in self.daily:
                    found[org_id].append(contact_id)
        return found

    @cached_property
    def homes(self) -> dict[str, list[str]]:
        """Contact -> the organisations it stands for that have a row on the day, sorted."""
        found: dict[str, list[str]] = defaultdict(list)
        for org_id, contacts in sorted(self.members.items()):
            for contact_id in contacts:
                found[contact_id].append(org_id)
        return found

    @cached_property
    def work(self) -> list[Row]:
        """Engagements that have happened, and tasks that exist."""
        return [
            row | {"org": self.who(row.get("org_id")), "contact_id": row.get("contact_id")}
            for row in self.tables["engagements"]
            if not row.get("is_deleted")
            and (
                self.before_close(row["occurred_at"])
                or (row["type"] == "task" and self.before_close(row["first_recorded_at"]))
            )
        ]

    @cached_property
    def _touches(self) -> list[Row]:
        """E-mails, calls and meetings of client-facing people before the close of as_of, not automated."""
        return [
            row
            for row in self.work
            if row["type"] in TOUCHES
            and row.get("user_id") in self._client_facing
            and not row.get("is_automated")
        ]

    def role(self, user_id: str | None) -> str | None:
        return self.users.get(user_id, {}).get("role")

    @cached_property
    def _open_deals(self) -> list[Row]:
        return [deal for deal in self.deals if deal["status_now"] == "open" and deal["org"] is not None]

    # marts.lifecycle_checks

    def lifecycle_checks(self) -> list[Row]:
        found = []
        for contact_id, contact in self.contacts.items():
            common = {
                "subject_id": contact_id,
                "contact_id": contact_id,
                "contact_ids": [contact_id],
                "org_id": next(iter(self.homes.get(contact_id, ())), None),
            }
            found += [
                {"check": check} | common | self._as_written(contact) for check in self._checks(contact)
            ]
        return found + self._duplicates() + self._without_customer_contact()

    def _as_written(self, contact: Row) -> Row:
        return {
            "owner_id": contact.get("owner_id"),
            "lifecycle_stage": contact.get("lifecycle_stage"),
            "lead_status": contact.get("lead_status"),
        }

    def _checks(self, contact: Row) -> list[str]:
        rules = self.settings.lifecycle
        stage, status = code(contact.get("lifecycle_stage")), code(contact.get("lead_status"))
        homes = self.homes.get(contact["contact_id"], [])
        commercial = any(self.daily[org]["is_customer"] for org in homes)
        trial = any(self.daily[org]["state"] == "trial" for org in homes)
        negotiation = any(deal["org"] in homes for deal in self._open_deals)
        written, answered = self._talks(contact["contact_id"])
        skipped, moved_back = self._stage_moves(contact["contact_id"])
        age = None if contact["created_at"] is None else (self.as_of - self.local(contact["created_at"])).days
        stages = {code(value) for value in (*rules.stages, *rules.other_stages)}
        statuses = {code(value) for value in rules.lead_statuses}
        extensions = {code(value) for value in rules.autocreated_sources}
        verdicts = {
            "lifecycle_missing": stage is None and (age is None or age >= rules.complete_after_days),
            "unknown_value": (stage is not None and stage not in stages)
            or (status is not None and status not in statuses),
            "customer_not_paying": stage == "customer" and bool(homes) and not commercial,
            "opportunity_without_open_deal": stage == "opportunity" and not negotiation,
            "sql_without_lead_status": stage == "salesqualifiedlead" and status in (None, "none"),
            "other_but_commercial": stage == "other" and (commercial or negotiation),
            "subscriber_with_trial": stage == "subscriber" and (commercial or trial),
            "open_deal_status_without_deal": status == "opendeal" and not negotiation,
            "unqualified_with_open_deal": status == "unqualified" and negotiation,
            "attempted_but_replied": status == "attemptedtocontact" and answered is not None,
            "connected_without_two_way": status == "connected" and (written is None or answered is None),
            "stage_skipped": skipped,
            "stage_moved_back": moved_back,
            "unresponsive_14d": status == "attemptedtocontact"
            and written is not None
            and self.local(written) <= self.as_of - timedelta(rules.unresponsive_days)
            and (answered is None or answered < written),
            "autocreated_incomplete": code(contact.get("source")) in extensions
            and (stage is None or contact.get("owner_id") is None),
            "internal_or_vendor_domain": domain_of(contact.get("email")) in self._inside,
        }
        return [check for check, broken in verdicts.items() if broken]

    def _talks(self, contact_id: str) -> tuple[datetime | None, datetime | None]:
        """When the contact was last written to, and when it last answered."""
        mine = [
            row
            for row in self.work
            if row["contact_id"] == contact_id
            and row["type"] in TOUCHES
            and not row.get("is_automated")
            and self.before_close(row["occurred_at"])
        ]

        def last(direction: str) -> datetime | None:
            return max(
                (
                    row["occurred_at"]
                    for row in mine
                    if row["type"] == "meeting" or row.get("direction") == direction
                ),
                default=None,
            )

        return last("outbound"), last("inbound")

    def _stage_moves(self, contact_id: str) -> tuple[bool, bool]:
        """Whether a recent change of stage passed over one, and whether one went back."""
        order = [code(stage) for stage in self.settings.lifecycle.stages]
        history = sorted(
            (
                row
                for row in self.tables["contact_stages"]
                if row["contact_id"] == contact_id and self.before_close(row["set_at"])
            ),
            key=lambda row: row["set_at"],
        )
        steps = [
            (row["set_at"], order.index(code(row.get("lifecycle_stage"))))
            for row in history
            if code(row.get("lifecycle_stage")) in order
        ]
        recent = [
            (before, after)
            for (_, before), (at, after) in pairwise(steps)
            if self.in_window(at, self.settings.lifecycle.days)
        ]
        return any(after > before + 1 for before, after in recent), any(
            after < before for before, after in recent
        )

    @cached_property
    def _inside(self) -> set[str]:
        """Domains of colleagues and vendors."""
        users = {domain_of(row.get("email")) for row in self.tables["users"]}
        known = {domain for domain in users if domain is not None}
        known -= set(self.settings.matching.free_mail_domains)
        return known | {domain.lower() for domain in self.settings.lifecycle.internal_domains}

    @cached_property
    def _one_address(self) -> list[list[str]]:
        """Contacts that share an address, sorted by id."""
        found: dict[str, list[str]] = defaultdict(list)
        for contact_id, contact in sorted(self.contacts.items()):
            mail = address(contact.get("email"))
            if mail is not None:
                found[mail].append(contact_id)
        return [ids for ids in found.values() if len(ids) > 1]

    def _duplicates(self) -> list[Row]:
        return [
            {
                "check": "duplicate_contact_email",
                "subject_id": ids[0],
                "contact_id": ids[0],
                "contact_ids": ids,
                "org_id": min((org for one in ids for org in self.homes.get(one, ())), default=None),
            }
            | self._as_written(self.contacts[ids[0]])
            for ids in self._one_address
        ]

    def _without_customer_contact(self) -> list[Row]:
        found: list[Row] = []
        for org_id, row in self.daily.items():
            stages = {
                code(self.contacts[contact].get("lifecycle_stage"))
                for contact in self.members.get(org_id, ())
                if contact in self.contacts
            }
            if row["state"] == "paying" and not stages & {"customer", "evangelist"}:
                found.append(
                    {
                        "check": "paying_org_without_customer_contact",
                        "subject_id": org_id,
                        "contact_id": None,
                        "contact_ids": [],
                        "org_id": org_id,
                        "owner_id": self.record(org_id).get("owner_id"),
                        "lifecycle_stage": None,
                        "lead_status": None,
                    }
                )
        return found

    # marts.ownership_crossovers

    def ownership_crossovers(self) -> list[Row]:
        of_contacts = [
            row | {"contact_ids": [row["contact_id"]], "account_id": None, "deal_ids": []}
            for row in super().ownership_crossovers()
            if row["contact_id"] in self.contacts
        ]
        return of_contacts + self._one_person_of_several() + self._deals_of_several()

    def _one_person_of_several(self) -> list[Row]:
        found = []
        for ids in self._one_address:
            owners = distinct(self._owner_at(self.contacts[one], self.last_moment) for one in ids)
            if len(owners) > 1:
                found.append(
                    {
                        "kind": "duplicate_person",
                        "subject_id": ids[0],
                        "contact_id": ids[0],
                        "contact_ids": ids,
                        "account_id": None,
                        "deal_ids": [],
                        "owner_id": self._owner_at(self.contacts[ids[0]], self.last_moment),
                        "crossing_users": owners,
                        "people": owners,
                        "last_on": None,
                    }
                )
        return found

    def _deals_of_several(self) -> list[Row]:
        accounts: dict[str, list[Row]] = defaultdict(list)
        for deal in self._open_deals:
            accounts[self.root(deal["org"])].append(deal)
        found = []
        for account_id, deals in accounts.items():
            owners = distinct(deal.get("owner_id") for deal in deals)
            if len(owners) > 1:
                found.append(
                    {
                        "kind": "account_deals",
                        "subject_id": account_id,
                        "contact_id": None,
                        "contact_ids": [],
                        "account_id": account_id,
                        "deal_ids": sorted(deal["deal_id"] for deal in deals),
                        "owner_id": None,
                        "crossing_users": owners,
                        "people": owners,
                        "last_on": None,
                    }
                )
        return found

    # marts.interactions, marts.interactions_by_org

    def _rated(self, conversation: Row) -> int | None:
        """The rating known at the close of as_of; one without a time counts."""
        return conversation.get("rating") if self.before_close(conversation["rated_at"]) else None

    def _rated_low(self, conversation: Row) -> bool:
        rating = self._rated(conversation)
        return rating is not None and rating <= self.settings.interactions.dissatisfied_max

    def _rating_in_window(self, conversation: Row) -> bool:
        """Rated low in the window; a rating without a time was given with the contact's last message."""
        given = conversation["rated_at"] or conversation["last_contact_at"]
        return self._rated_low(conversation) and self.in_window(given, self.settings.interactions.days)

    def _began(self, conversation: Row) -> datetime | None:
        """When it was opened, else its first message."""
        if conversation["created_at"] is not None:
            moment: datetime = conversation["created_at"]
            return moment
        return min(
            (
                part["created_at"]
                for part in self.tables["conversation_parts"]
                if part["conversation_id"] == conversation["conversation_id"]
                and self.before_close(part["created_at"])
            ),
            default=None,
        )

    @cached_property
    def _beginnings(self) -> dict[str, datetime]:
        """When the first conversation of each contact began."""
        found: dict[str, datetime] = {}
        for row in self.tables["conversations"]:
            contact = row.get("contact_id")
            if contact is None or row.get("is_deleted") or not self.before_close(row["created_at"]):
                continue
            began = self._began(row)
            if began is not None:
                found[contact] = min(began, found.get(contact, began))
        return found

    def interactions(self) -> list[Row]:
        conversations = {row["conversation_id"]: row for row in self.conversations}
        answers = {row["contact_id"]: row for row in self.answers if row["contact_id"] is not None}
        found = []
        for row in super().interactions():
            talk, contact = conversations[row["conversation_id"]], row["contact_id"]
            answer = answers.get(contact)
            low, detractor = self._rated_low(talk), answer is not None and answer["detractor"]
            met = sum(one in self._met for one in self.members.get(row["org_id"], ()))
            unhappy = [talk["rated_at"] or talk["last_contact_at"]] if low else []
            unhappy += [answer["responded_at"]] if answer is not None and detractor else []
            touched = [
                one["occurred_at"]
                for one in self.work
                if self.role(one.get("user_id")) == "csm"
                and not one.get("is_automated")
                and ((contact is not None and one["contact_id"] == contact) or one["org"] == row["org_id"])
            ]
            began = self._began(talk)
            found.append(
                row
                | {
                    "contact_name": self.contacts.get(str(contact), {}).get("name"),
                    "title": talk.get("title"),
                    "conversation_state": talk.get("state"),
                    "started_at": began,
                    "last_contact_at": talk["last_contact_at"],
                    "rating": self._rated(talk),
                    "rated_at": self.happened(talk["rated_at"]),
                    "nps_score": None if answer is None else int(answer["score"]),
                    "is_first_conversation": contact is not None and self._beginnings.get(contact) == began,
                    "met_contacts": met,
                    "approach_candidate": row["is_unmet_contact"]
                    and met < self.settings.interactions.unmet_org_max_met,
                    "dissatisfied_at": max(unhappy, default=None),
                    "last_csm_touch_at": max(touched, default=None),
                    "needs_escalation": bool(unhappy) and not any(at >= max(unhappy) for at in touched),
                }
            )
        return found

    def interactions_by_org(self) -> list[Row]:
        by_org: dict[str, list[Row]] = defaultdict(list)
        for row in self.interactions():
            by_org[row["org_id"]].append(row)
        return [
            {
                "org_id": org_id,
                "tier": rows[0]["tier"],
                "conversations": len(rows),
                "contacts": len(distinct(row["contact_id"] for row in rows)),
                "last_contact_on": max(row["last_contact_on"] for row in rows),
                "unmet_contacts": distinct(row["contact_id"] for row in rows if row["is_unmet_contact"]),
                "approach_candidates": distinct(
                    row["contact_id"] for row in rows if row["approach_candidate"]
                ),
                "dissatisfied_conversations": sum(row["is_dissatisfied"] for row in rows),
                "needs_escalation": any(row["needs_escalation"] for row in rows),
                "attribution_ambiguous": any(row["attribution_ambiguous"] for row in rows),
            }
            for org_id, rows in by_org.items()
        ]

    # marts.unmatched_customers, marts.unmatched_nps

    def unmatched_customers(self) -> list[Row]:
        return [
            {
                "org_id": row["org_id"],
                "name": self.daily[row["org_id"]]["name"],
                "reason": row["unmatched_reason"],
                "state": self.daily[row["org_id"]]["state"],
                "seats": self.daily[row["org_id"]]["seats"],
                "mrr": self.daily[row["org_id"]]["mrr"],
            }
            for row in self.tables["organisations"]
            if row.get("unmatched_reason") is not None and row["org_id"] in self.daily
        ]

    def unmatched_nps(self) -> list[Row]:
        known = {row["contact_id"] for row in self.tables["contacts"]}
        return [
            {
                "response_id": row["response_id"],
                "contact_id": row["contact_id"],
                "reason": "anonymous"
                if row["contact_id"] is None
                else "contact_without_organisation"
                if row["contact_id"] in known
                else "respondent_unknown",
                "score": int(row["score"]),
                "responded_on": self.local(row["responded_at"]),
            }
            for row in self.answers
            if not row["orgs"]
        ]

    # marts.organisation_daily

    @cached_property
    def daily(self) -> dict[str, Row]:
        found = super().daily
        accounts: dict[str, list[str]] = defaultdict(list)
        for org_id, row in found.items():
            accounts[row["root_org_id"]].append(org_id)
        for org_id, row in found.items():
            record, owner = self.record(org_id), self.users.get(self.record(org_id).get("owner_id"), {})
            running, largest = self.running(org_id, self.as_of), self._largest(org_id)
            by_hand = record.get("tier_override") or self.record(row["root_org_id"]).get("tier_override")
            account = accounts[row["root_org_id"]]
            rates = {one.currency for one in running if self.rate(one.currency, self.as_of) is None}
            found[org_id] = row | {
                "name": record.get("name"),
                "domain": (record.get("domain") or "").lower() or None,
                "parent_org_id": self.parents.get(org_id),
                "has_cycle": self._never_ends(org_id),
                "tier_source": "override" if by_hand else self.settings.tiers.mode,
                "account_seats": sum(self.seats(org, self.as_of) for org in account),
                "account_mrr": sum((self.mrr(org, self.as_of) for org in account), Decimal(0)),
                "account_organisations": len(account),
                "plan": largest and largest.plan,
                "billing_interval": largest and largest.interval,
                "currency": largest and largest.currency,
                "next_term_end_on": min(
                    (
                        self.local(one.term_end)
                        for one in running
                        if one.is_paid and one.term_end is not None and self.local(one.term_end) >= self.as_of
                    ),
                    default=None,
                ),
                "scheduled_end_on": self._scheduled_end(org_id),
                "covered_by_org_id": self._payer_of(org_id),
                "first_paid_on": self._first_paid(org_id),
                "owner_id": record.get("owner_id"),
                "owner_name": owner.get("name"),
                "owner_is_active": bool(owner.get("is_active")),
                "members_active": record.get("members_active"),
                "seat_utilisation": None
                if record.get("members_active") is None or not row["seats"]
                else ratio(record["members_active"], row["seats"]),
                "health_override": record.get("health_override"),
                "pending_true_up_mrr": record.get("pending_true_up_mrr"),
                "external_id": record.get("external_id"),
                "hubspot_url": record.get("hubspot_url"),
                "first_seen_on": self._first_seen(org_id),
                "source_max_recorded_at": self._freshest(org_id),
                "seats_unknown": sum(one.seats is None for one in running),
                "mrr_unknown": sum(self.convert(one, self.as_of) is None for one in running),
                "currencies_without_rate": sorted(rates),
            }
        return found

    def _first_seen(self, org_id: str) -> date | None:
        """Local day of the first sighting; unknown before records begin."""
        first = min(self._sightings(org_id))
        return None if first == ALWAYS else self.local(first)

    def _freshest(self, org_id: str) -> datetime | None:
        """The latest recorded_at of its record and of the subscription versions that have begun."""
        moments = [one.recorded_at for one in self._all_of(org_id) if one.start < self.close_of_day]
        record = self.record(org_id)
        last = max([*moments, *([record["recorded_at"]] if record else [])], default=ALWAYS)
        return None if last == ALWAYS else last

    def _largest(self, org_id: str) -> Stretch | None:
        """The paid subscription with the highest MRR, then the most seats, unknown ones last, then the first by id."""

        def rank(one: Stretch) -> tuple[Any, ...]:
            mrr = self.convert(one, self.as_of)
            return mrr is None, -(mrr or 0), one.seats is None, -(one.seats or 0), one.subscription_id

        return min((one for one in self.running(org_id, self.as_of) if one.is_paid), key=rank, default=None)

    def _never_ends(self, org_id: str) -> bool:
        path = [org_id]
        while path[-1] in self.parents:
            if self.parents[path[-1]] in path:
                return True
            path.append(self.parents[path[-1]])
        return False

    def _payer_of(self, org_id: str) -> str | None:
        """The payer of the joint plan that covers it: a paying one first, then the last to start, then by id."""
        plans = [
            row for row in self.coverage if row["child"] == org_id and self._valid(row, self.last_moment)
        ]

        def rank(row: Row) -> tuple[Any, ...]:
            return not self.is_paying(row["payer"]), ALWAYS - (row["valid_from"] or ALWAYS), row["payer"]

        return min(plans, key=rank)["payer"] if plans else None

    def _first_paid(self, org_id: str) -> date | None:
        starts = [one.start for one in self._all_of(org_id) if one.is_paid and one.end != one.start]
        starts += [row["valid_from"] or ALWAYS for row in self._contracts(org_id)]
        first = min((start for start in starts if start < self.close_of_day), default=None)
        return self.day_of(first)

    def _scheduled_end(self, org_id: str) -> date | None:
        """The earliest known day after as_of on which a subscription paid for now ends."""
        ends = [self._end_of(one.subscription_id) for one in self.running(org_id, self.as_of) if one.is_paid]
        known = [self.local(end[0]) for end in ends if end is not None and end[1] is None]
        return min((day for day in known if day > self.as_of), default=None)

    # Touches, notes and tasks

    def _stands_with(self, row: Row) -> list[str]:
        """Organisations of an engagement: the one it is logged against, else those of its contact at that moment."""
        if row["org"] is not None:
            return [row["org"]]
        moment = min(row["occurred_at"], self.last_moment)
        return self.attributed(row["contact_id"], moment)[0]

    @cached_property
    def _by_org(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.work:
            for org_id in self._stands_with(row):
                found[org_id].append(row)
        return found

    def last_touch(self, org_id: str) -> datetime | None:
        return max(
            (
                row["occurred_at"]
                for row in self._by_org.get(org_id, ())
                if row["type"] in TOUCHES and not row.get("is_automated")
            ),
            default=None,
        )

    def _open_tasks(self, org_id: str) -> dict[str, bool]:
        """Tasks that are not completed, and whether they were due."""
        found: dict[str, bool] = {}
        for row in self._by_org.get(org_id, ()):
            completed = row["completed_at"] is not None or (row.get("status") or "").lower() == "completed"
            if row["completed_at"] is not None and not self.before_close(row["completed_at"]):
                completed = False
            if row["type"] == "task" and not completed:
                due = row["due_at"] or row["occurred_at"]
                found[row["engagement_id"]] = found.get(row["engagement_id"], False) or self.before_close(due)
        return found

    # marts.at_risk

    def _risk(self, org_id: str, state: str) -> Row:
        risk = super()._risk(org_id, state)
        limit = self.settings.contraction
        first = self.as_of - timedelta(limit.days)
        moved = self.transfers(first + DAY, self.as_of)
        window = [first + timedelta(number) for number in range(limit.days + 1)]
        taken = [row for row in moved if row["payer"] == org_id]
        given = [row for row in moved if row["child"] == org_id]
        row, owner = self.daily[org_id], self.users.get(self.record(org_id).get("owner_id"), {})
        seats_peak = max(self.seats(org_id, day) for day in window)
        mrr_peak = max(self.mrr(org_id, day) for day in window)
        detractors = [
            one
            for one in self.answers
            if one["detractor"] and one["contact_id"] is not None and org_id in one["orgs"]
        ]
        return risk | {
            "watch_reasons": self._watch_reasons(org_id),
            "name": row["name"],
            "root_org_id": row["root_org_id"],
            "tier": row["tier"],
            "plan": row["plan"],
            "billing_interval": row["billing_interval"],
            "owner_id": row["owner_id"],
            "owner_name": owner.get("name"),
            "mrr": row["mrr"],
            "seats_now": row["seats"],
            "baseline_on": first,
            "seats_transferred_in": sum(one["seats"] for one in taken),
            "seats_transferred_out": sum(one["seats"] for one in given),
            "mrr_transferred_in": sum(
                (self.mrr(one["child"], one["day_before"]) for one in taken), Decimal(0)
            ),
            "mrr_transferred_out": sum(
                (self.mrr(one["child"], one["day_before"]) for one in given), Decimal(0)
            ),
            "seats_peak": seats_peak,
            "seats_drawdown": None if row["seats"] is None else seats_peak - row["seats"],
            "mrr_peak": mrr_peak,
            "mrr_drawdown": None if row["mrr"] is None else mrr_peak - row["mrr"],
            "lowest_score": min((int(one["score"]) for one in detractors), default=None),
            "last_detractor_on": self.day_of(max((one["responded_at"] for one in detractors), default=None)),
            "detractor_answers": sorted(self._answer_text(one) for one in detractors),
            "last_touch_on": self.day_of(self.last_touch(org_id)),
            "contraction_days": limit.days,
        }

    def _answer_text(self, answer: Row) -> str:
        """name: score on day, comment"""
        name = self.contacts.get(answer["contact_id"], {}).get("name") or answer["contact_id"]
        comment = answer.get("comment")
        text = f"{name}: {int(answer['score'])} on {self.local(answer['responded_at'])}"
        return f"{text}, {comment}" if comment else text

    def _watch_reasons(self, org_id: str) -> list[str]:
        since = self.settings.contraction.days
        now = self.of_org(org_id, self.as_of)
        champions = [
            row["left_at"]
            for row in self.contacts.values()
            if row.get("is_champion")
            and row["left_at"] is not None
            and self.in_window(row["left_at"], since)
            and org_id in self.attributed(row["contact_id"], row["left_at"] - MOMENT)[0]
        ]
        touch = self.last_touch(org_id)
        verdicts = {
            "scheduled_downgrade": any(self._is_downgraded(one) for one in now if one.is_running),
            "payment_overdue>30d": any(self._is_overdue(one) for one in now),
            "low_rating": any(
                org_id in row["orgs"] and self._rating_in_window(row) for row in self.conversations
            ),
            "champion_left": bool(champions),
            "paused": any(one.status == "paused" for one in now),
            "no_touch_90d": bool(self.work) and (touch is None or not self.in_window(touch, 90)),
        }
        return [reason for reason, holds in verdicts.items() if holds]

    def _is_downgraded(self, now: Stretch) -> bool:
        """A known later version that runs has fewer seats or a lower MRR."""
        mrr = self.convert(now, self.as_of)
        for later in self.stretches[now.subscription_id]:
            if later.start < self.close_of_day or not later.is_running:
                continue
            mrr_then = self.convert(later, self.as_of)
            if now.seats is not None and later.seats is not None and later.seats < now.seats:
                return True
            if mrr is not None and mrr_then is not None and mrr_then < mrr:
                return True
        return False

    def _is_overdue(self, now: Stretch) -> bool:
        """Past due without a break for more than 30 local days."""
        since: datetime | None = None
        before_end: datetime | None = None
        for one in self.stretches[now.subscription_id]:
            if one.start > now.start:
                break
            if one.status != "past_due" or one.org_id != now.org_id:
                since = None
            elif since is None or before_end != one.start:
                since = one.start
            before_end = one.end
        return now.status == "past_due" and since is not None and (self.as_of - self.local(since)).days > 30

    # marts.churn_flags

    def churn_flags(self) -> list[Row]:
        found = []
        for row in super().churn_flags():
            name, org_id, alarm = row["subscription_id"], row["org_id"], row["false_alarm_reason"]
            end = self._end_of(name)
            assert end is not None
            moment, withdrawn, ended, _, reason = end
            wrote = [
                talk["last_contact_at"]
                for talk in self.conversations
                if org_id in talk["orgs"] and talk["last_contact_at"] >= moment
            ]
            hints = set(row["review_hints"])
            domain, domain_org = (
                self._shared_domain(org_id) if "same_domain_as_paying_org" in hints else (None, None)
            )
            found.append(
                row
                | self._evidence(name, ended, moment, alarm)
                | ({"evidence_from": self.local(withdrawn)} if withdrawn else {})
                | {
                    "plan": ended.plan,
                    "is_recent": row["state"] == "churned"
                    and self.as_of - row["churn_date"] < timedelta(self.settings.churn.recent_days),
                    "cancel_reason": reason,
                    "recorded_on": self.local(self._end_recorded(name, moment, ended)),
                    "hint_parent_org_id": self._paying_parent(org_id)
                    if "parent_is_paying" in hints
                    else None,
                    "hint_deal_id": self._enterprise_deal(org_id)
                    if "enterprise_deal_in_crm" in hints
                    else None,
                    "hint_domain": domain,
                    "hint_domain_org_id": domain_org,
                    "hint_last_contact_on": self.day_of(max(wrote))
                    if "contacts_still_active" in hints
                    else None,
                }
            )
        return found

    def _end_recorded(self, name: str, moment: datetime, ended: Stretch) -> datetime:
        """When the first of the subscription's changes that say so became known."""
        starts = {one.start for one in self._changes(name)}
        said = [
            row["recorded_at"]
            for row in self._versions.get(name, ())
            if row["effective_at"] in starts
            and moment in (row["cancel_at"], row["ended_at"], row["effective_at"])
        ]
        return min(said, default=ended.recorded_at)

    def _evidence(self, name: str, ended: Stretch, end: datetime, alarm: str | None) -> Row:
        """The proof of a false alarm; of several the one that starts first, then the first by id."""
        org_id, gap = ended.org_id, timedelta(self.settings.churn.gap_days)
        end_on = self.local(end)

        def in_stretch(start: date, stop: datetime | None) -> bool:
            return start <= end_on + gap and (stop is None or stop > end)

        runs = [
            (self.local(start), other, start, stop)
            for other in self._names_of_org.get(org_id, ())
            for start, stop, owner in self.paid_runs(other)
            if owner == org_id and (other != name or start >= end)
        ]
        proofs: list[tuple[date, str]] = []
        if alarm == "duplicate_org":
            paying = [one.subscription_id for one in self.of_org(org_id, self.as_of) if one.is_paid]
            first = min(one for one in paying if one != name)
            return {"evidence_subscription_id": first, "evidence_org_id": org_id, "evidence_from": None}
        if alarm == "moved_to_parent":
            plans = [
                (row["day"] or ALWAYS.date(), row["payer"])
                for row in self.coverage
                if row["child"] == org_id and in_stretch(row["day"] or ALWAYS.date(), row["valid_to"])
            ]
            day, payer = min(plans)
            return {"evidence_subscription_id": None, "evidence_org_id": payer, "evidence_from": day}
        if alarm == "moved_to_custom":
            contracts = [
                (self.local(row["valid_from"] or ALWAYS), row["org_id"], row["valid_to"])
                for row in self._contracts(org_id)
            ]
            proofs = [
                (start, f"contract:{original}:{start}")
                for start, original, stop in contracts
                if in_stretch(start, stop)
            ] + [
                (self.local(one.start), one.subscription_id)
                for one in self._all_of(org_id)
                if one.is_running
                and not one.is_contract
                and self._is_enterprise(one.plan)
                and one.end != one.start
                and (one.subscription_id != name or one.start >= end)
                and in_stretch(self.local(one.start), one.end)
            ]
        if alarm == "resubscribed":
            proofs = [
                (day, other) for day, other, _, stop in runs if day >= end_on - gap and in_stretch(day, stop)
            ]
        if alarm == "other_subscription_active":
            proofs = [
                (day, other)
                for day, other, start, stop in runs
                if other != name and start <= end and (stop is None or end < stop)
            ]
        day, proof = min(proofs, default=(None, None))
        return {"evidence_subscription_id": proof, "evidence_org_id": None, "evidence_from": day}

    def _paying_parent(self, org_id: str) -> str:
        """The direct parent where it pays, else the top of the account."""
        parent = self.parents.get(org_id)
        return parent if parent is not None and self.is_paying(parent) else self.root(org_id)

    def _enterprise_deal(self, org_id: str) -> str:
        """The first by id of its deals for an enterprise plan that are open or won lately."""
        since = self.as_of - timedelta(self.settings.churn.history_days)
        return min(
            str(deal["deal_id"])
            for deal in self.deals
            if deal["org"] == org_id
            and self._is_enterprise(deal.get("plan"))
            and (
                deal["status_now"] == "open"
                or (deal["status_now"] == "won" and self._closed_since(deal, since))
            )
        )

    def _shared_domain(self, org_id: str) -> tuple[str, str]:
        """The first domain that it shares with another paying organisation, and the first or else the last of these."""
        payers = sorted(org for org in self.daily if self.is_paying(org))
        domain = min(
            domain
            for other in payers
            if other != org_id
            for domain in self._domains[org_id] & self._domains[other]
        )
        sharing = [org for org in payers if domain in self._domains[org]]
        return domain, sharing[0] if sharing[0] != org_id else sharing[-1]

    # marts.seat_growth, marts.account_seat_growth

    def _growth(self, seats: Any, moved_in: int, moved_out: int) -> Row | None:
        growth = super()._growth(seats, moved_in, moved_out)
        if growth is None:
            return None
        first = self.as_of - timedelta(self.settings.growth.days)
        window = [first + timedelta(number) for number in range(self.settings.growth.days + 1)]
        without = [day for day in window if seats(day) == 0]
        return growth | {
            "baseline_on": without[-1] + (DAY if growth["baseline_kind"] == "first_day" else timedelta())
            if without
            else first,
            "seats_peak": max(seats(day) for day in window),
        }

    def seat_growth(self) -> list[Row]:
        upsells = {deal["org"] for deal in self._open_deals if deal["deal_type"] == "upsell"}
        return [
            row
            | {
                name: self.daily[row["org_id"]][name]
                for name in (
                    "name",
                    "root_org_id",
                    "state",
                    "tier",
                    "mrr",
                    "plan",
                    "owner_id",
                    "members_active",
                )
            }
            | {
                "has_open_upsell_deal": row["org_id"] in upsells,
                "seat_utilisation": None
                if self.daily[row["org_id"]]["members_active"] is None
                else ratio(self.daily[row["org_id"]]["members_active"], row["seats_now"]),
            }
            for row in super().seat_growth()
        ]

    def account_seat_growth(self) -> list[Row]:
        return [
            {name: value for name, value in row.items() if name != "seats_peak"}
            for row in super().account_seat_growth()
        ]

    # marts.customer_360

    def customer_360(self) -> list[Row]:
        risk = {row["org_id"]: row for row in self.at_risk()}
        growth = {row["org_id"]: row for row in self.seat_growth()}
        churn: dict[str, list[Row]] = defaultdict(list)
        for row in self.churn_flags():
            churn[row["org_id"]].append(row)
        found = []
        for org_id, row in self.daily.items():
            numbers = self._numbers(org_id, row)
            parts = self._health(org_id, row, numbers)
            found.append(
                {
                    name: row[name]
                    for name in (
                        "org_id",
                        "name",
                        "root_org_id",
                        "state",
                        "is_customer",
                        "tier",
                        "plan",
                        "seats",
                        "mrr",
                        "members_active",
                        "seat_utilisation",
                        "owner_id",
                        "owner_name",
                        "health_override",
                    )
                }
                | numbers
                | self._plan_of(org_id)
                | self._churn_of(churn.get(org_id, []))
                | parts
                | {
                    "is_fast_growing": growth.get(org_id, {}).get("is_fast_growing", False),
                    "risk_reasons": risk.get(org_id, {}).get("reasons", []),
                    "why": self._why(row, numbers, parts),
                }
            )
        return found

    def _numbers(self, org_id: str, row: Row) -> Row:
        contraction = Oracle._risk(self, org_id, row["state"])
        scores: dict[str, Decimal] = {}
        for answer in self.answers:
            if answer["contact_id"] is not None and org_id in answer["orgs"]:
                scores[answer["contact_id"]] = answer["score"]
        talks = [talk for talk in self.conversations if org_id in talk["orgs"]]
        mine = self._by_org.get(org_id, [])
        tasks = self._open_tasks(org_id)
        return {
            "seat_drop": contraction["seat_drop"],
            "seats_baseline": contraction["seats_baseline"],
            "mrr_drop": contraction["mrr_drop"],
            "mrr_baseline": contraction["mrr_baseline"],
            "nps_answers": len(scores),
            "nps_mean": ratio(sum(scores.values()), len(scores), "0.1"),
            "nps_detractors": sum(score <= self.settings.nps.detractor_max for score in scores.values()),
            "last_conversation_on": self.day_of(
                max((talk["last_contact_at"] for talk in talks), default=None)
            ),
            "conversations_in_window": sum(talk["messages"] > 0 for talk in talks),
            "dissatisfied_conversations": sum(self._rating_in_window(talk) for talk in talks),
            "last_touch_on": self.day_of(self.last_touch(org_id)),
            "last_note_on": self.day_of(
                max((one["occurred_at"] for one in mine if one["type"] == "note"), default=None)
            ),
            "open_tasks": len(tasks),
            "overdue_tasks": sum(tasks.values()),
        }

    def _plan_of(self, org_id: str) -> Row:
        """The success plan updated last before the close of as_of."""
        plans = [
            row
            for row in self.tables["success_plans"]
            if self.who(row["org_id"]) == org_id and self.before_close(row["updated_at"])
        ]
        newest = max(((row["updated_at"] or ALWAYS, row["recorded_at"]) for row in plans), default=None)
        last = min(
            (row for row in plans if (row["updated_at"] or ALWAYS, row["recorded_at"]) == newest),
            key=lambda row: row["org_id"],
            default=dict[str, Any](),
        )
        return {
            "success_plan_status": last.get("status"),
            "success_plan_updated_on": self.day_of(last.get("updated_at")),
            "success_plan_objectives": last.get("objectives"),
        }

    def _churn_of(self, flags: list[Row]) -> Row:
        for state in CHURN_STATES:
            dates = [flag["churn_date"] for flag in flags if flag["state"] == state]
            if dates:
                return {"churn_state": state, "churn_on": min(dates)}
        return {"churn_state": None, "churn_on": None}

    def _health(self, org_id: str, row: Row, numbers: Row) -> Row:
        parts: dict[str, Decimal | None] = dict.fromkeys(HEALTH_WEIGHTS)
        if row["is_customer"]:
            parts["commercial"] = Decimal(self._commercial(org_id, row, numbers))
            if row["members_active"] is not None and row["seats"]:
                used = ratio(100 * row["members_active"], row["seats"], "0.1")
                parts["seats"] = min(Decimal(100), used or Decimal(0))
            if numbers["nps_answers"]:
                scores = [
                    answer["score"]
                    for answer in self.answers
                    if answer["contact_id"] is not None and org_id in answer["orgs"]
                ]
                parts["sentiment"] = ratio(10 * sum(scores), len(scores), "0.1")
                if numbers["nps_detractors"]:
                    parts["sentiment"] = min(parts["sentiment"] or Decimal(0), Decimal(30))
            if self.work:
                touch = self.last_touch(org_id)
                within = ((30, 100), (90, 60), (180, 20))
                parts["engagement"] = Decimal(
                    next((value for days, value in within if touch and self.in_window(touch, days)), 0)
                )
            if numbers["conversations_in_window"] or numbers["dissatisfied_conversations"]:
                parts["support"] = Decimal(max(0, 100 - 25 * numbers["dissatisfied_conversations"]))
        known = {name: value for name, value in parts.items() if value is not None}
        weight = sum(HEALTH_WEIGHTS[name] for name in known)
        total = sum((HEALTH_WEIGHTS[name] * value for name, value in known.items()), Decimal(0))
        return {f"health_{name}": value for name, value in parts.items()} | {
            "health": ratio(total, weight, "0.1"),
            "health_coverage": ratio(weight, 100) if row["is_customer"] else None,
        }

    def _commercial(self, org_id: str, row: Row, numbers: Row) -> int:
        if row["scheduled_end_on"] is not None or self._is_high(org_id, row):
            return 0
        return 50 if (numbers["seat_drop"] or 0) > 0 or (numbers["mrr_drop"] or 0) > 0 else 100

    def _is_high(self, org_id: str, row: Row) -> bool:
        reasons = Oracle._risk(self, org_id, row["state"])["reasons"]
        return "seat_contraction" in reasons or "mrr_contraction" in reasons

    def _why(self, row: Row, numbers: Row, parts: Row) -> list[str]:
        if not row["is_customer"]:
            return []
        high = self._is_high(row["org_id"], row)
        any_drop = (numbers["seat_drop"] or 0) > 0 or (numbers["mrr_drop"] or 0) > 0
        seats, sentiment, engagement = (
            parts["health_seats"],
            parts["health_sentiment"],
            parts["health_engagement"],
        )
        verdicts = {
            "scheduled_end": row["scheduled_end_on"] is not None,
            "high_contraction": high,
            "contraction": any_drop and not high,
            "low_utilisation": seats is not None and seats < 50,
            "detractor": numbers["nps_detractors"] > 0,
            "low_nps": sentiment is not None and sentiment < 70 and not numbers["nps_detractors"],
            "no_touch_90d": engagement is not None and engagement <= 20,
            "dissatisfied_conversations": numbers["dissatisfied_conversations"] > 0,
        }
        return [reason for reason, holds in verdicts.items() if holds]


#: The marts that People adds.
MARTS = (
    "lifecycle_checks",
    "interactions_by_org",
    "customer_360",
    "unmatched_customers",
    "unmatched_nps",
)
