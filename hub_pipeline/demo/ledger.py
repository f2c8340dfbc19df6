"""The demo company's books: what its own facts add up to on a day, for the views whose rows no single story can state.

Plain bookkeeping of what the generator wrote (`Builder`), one organisation, contact and subscription after the other,
by the rules of the domain in their simplest form. Nothing here reads an extract, a table or a model, and speed does
not matter: a few hundred organisations. What a story says of these rows it claims itself (`Truth.claim`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from itertools import pairwise
from typing import Any

from hub_pipeline.demo import expect, portal
from hub_pipeline.demo.builder import (
    INTERVALS,
    Builder,
    Contact,
    Deal,
    Engagement,
    Organisation,
    Subscription,
    add_months,
    cents,
)

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Contract:
    """A running paid plan at the close of a day: a subscription of billing, or a contract only HubSpot knows."""

    id: str
    org_id: str
    plan: str
    interval: str
    is_long: bool
    currency: str
    native: Decimal
    seats: int
    term_end: date
    ends_on: date | None
    status: str


class Ledger:
    """The books of one company, asked for a day."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.organisations = {org.id: org for org in b.organisations if not _archived(org.record)}
        self.roots = {org_id: self._root(org_id) for org_id in self.organisations}
        self.moves = [
            (
                org.id,
                values["joint_plan_payer_id"] or "",
                date.fromisoformat(values["joint_plan_since"] or ""),
                int(values["joint_plan_seats"] or 0),
            )
            for org in self.organisations.values()
            if (values := org.record.properties).get("joint_plan_payer_id")
        ]
        self.running = cache(self._running)

    def _root(self, org_id: str) -> str:
        while parent := self.organisations[org_id].record.properties.get("parent_organisation_id"):
            org_id = parent
        return org_id

    def root(self, org_id: str) -> str:
        return self.roots.get(org_id, org_id)

    # Money and subscriptions -------------------------------------------------------------------------------------

    def rate(self, currency: str, day: date) -> Decimal:
        """Dollars for one unit: the last rate on or before the day."""
        if currency == "USD":
            return Decimal(1)
        return max((since, Decimal(rate)) for since, code, rate in expect.fx_rates(self.b) if since <= day)[1]

    def usd(self, contract: Contract, day: date) -> Decimal:
        return cents(contract.native * self.rate(contract.currency, day))

    def _running(self, day: date) -> dict[str, Contract]:
        """Subscriptions that are active, past due or paused at the close of the day, by id."""
        close = _close(day)
        found: dict[str, Contract] = {}
        for subscription in self.b.subscriptions:
            known = [values for at, values, _ in subscription.versions if at < close]
            if not known or known[-1]["status"] not in ("active", "past_due", "paused"):
                continue
            values = known[-1]
            cancel_at = values.get("cancel_at")
            if cancel_at is not None and cancel_at < close:
                continue
            org = subscription.organisation
            found[subscription.id] = Contract(
                subscription.id,
                org.id if org else f"billing:{subscription.customer_id}",
                values["plan"],
                subscription.interval,
                subscription.interval in ("year", "two_years"),
                values["currency"],
                cents(Decimal(values["amount_minor"]) / 100 / INTERVALS[subscription.interval][0]),
                values["seats"],
                _term_end(subscription, close),
                cancel_at.date() if cancel_at else None,
                values["status"],
            )
        for org, contract_id, start, end, mrr, seats in self.b.contracts:
            if start <= day < end:
                plan = org.record.properties["custom_contract_kind"] or ""
                # HubSpot holds what it pays a month; a term of a year makes it a contract to renew all the same.
                found[contract_id] = Contract(
                    contract_id,
                    org.id,
                    plan,
                    "month",
                    (end - start).days >= 365,
                    "USD",
                    mrr,
                    seats,
                    end,
                    None,
                    "active",
                )
        return found

    def paid(self, day: date) -> dict[str, Contract]:
        """Running paid plans at the close of the day, by id."""
        return {key: c for key, c in self.running(day).items() if c.status != "paused" and c.plan != "free"}

    def seats(self, day: date) -> Counter[str]:
        """Seats of each organisation at the close of the day."""
        result: Counter[str] = Counter()
        for contract in self.running(day).values():
            if contract.status != "paused":
                result[contract.org_id] += contract.seats
        return result

    def mrr(self, day: date, rates_of: date) -> dict[str, Decimal]:
        """MRR of each organisation at the close of the day, at the rates of another."""
        result: dict[str, Decimal] = defaultdict(Decimal)
        for contract in self.running(day).values():
            if contract.status != "paused":
                result[contract.org_id] += self.usd(contract, rates_of)
        return result

    # Deals -------------------------------------------------------------------------------------------------------

    def open_deals(self, day: date) -> list[Deal]:
        """Deals that are neither won, lost nor deleted at the close of the day."""
        close = _close(day)
        result = []
        for deal in self.b.deals:
            stages = [stage for at, stage in deal.stages if at < close]
            archived_at = deal.record.archived_at
            if not stages or (archived_at is not None and archived_at < close):
                continue
            if portal.closing_of(deal.pipeline, stages[-1])["hs_is_closed"] == "false":
                result.append(deal)
        return result

    # People ------------------------------------------------------------------------------------------------------

    def homes(self, contact: Contact) -> list[Organisation]:
        """Organisations a contact stands for: its only one, its primary one, or all."""
        orgs = [org for org in contact.organisations if org.id in self.organisations]
        if contact.primary is not None and len(orgs) > 1:
            return [contact.primary]
        return orgs

    def people(self, day: date) -> list[Contact]:
        """Contacts that exist at the close of the day."""
        close = _close(day)
        return [
            contact
            for contact in self.b.contacts
            if contact.created < close
            and (contact.record.archived_at is None or contact.record.archived_at >= close)
        ]

    def answers(self, day: date) -> tuple[dict[str, tuple[Contact, int]], list[int]]:
        """The latest NPS answer of each contact in 180 days, the lower of two at once; and anonymous ones."""
        latest: dict[str, tuple[datetime, int, Contact]] = {}
        anonymous: list[int] = []
        for contact, at, score in self.b.answers:
            if not day - timedelta(days=180) < at.date() <= day:
                continue
            if contact is None:
                anonymous.append(score)
            elif contact.id not in latest or (at, -score) > (latest[contact.id][0], -latest[contact.id][1]):
                latest[contact.id] = (at, score, contact)
        return {key: (contact, score) for key, (_, score, contact) in latest.items()}, anonymous


def _archived(record: Any) -> bool:
    return bool(record.archived)


def _close(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(0), UTC)


def _term_end(subscription: Subscription, close: datetime) -> date:
    """The first end of a term that is not before the close."""
    number, months = 1, INTERVALS[subscription.interval][0]
    while (end := add_months(subscription.started, months * number)) < close:
        number += 1
    return end.date()


def _at(record: Any, name: str, close: datetime) -> str | None:
    """Value of a property with a history before an instant."""
    for version in record.history.get(name, []):
        if datetime.fromisoformat(version["timestamp"]) < close:
            return version["value"] or None
    return None if name in record.history else record.properties.get(name)


def _round(value: Decimal | int, places: int) -> Decimal:
    return Decimal(value).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)


def _share(part: Decimal | int, whole: Decimal | int) -> Decimal | None:
    return _round(Decimal(part) / Decimal(whole), 4) if whole else None


# The books are written into the truth ----------------------------------------------------------------------------


def write(b: Builder) -> None:
    """Write the rows of every view that needs the books, once all stories are told."""
    ledger = Ledger(b)
    today, yesterday = b.as_of, b.day(-1)
    contracts = {day: _pipeline(ledger, day) for day in (yesterday, today)}
    _pipeline_changes(ledger, contracts[yesterday], contracts[today])
    _forecast(ledger, contracts[today])
    upsells = {day: _upsells(ledger, day) for day in (yesterday, today)}
    for row in upsells[today]:
        b.truth.expect("hub.upsell_pipeline", **row)
    _post_sales(ledger, contracts[today])
    _customer_360(ledger, contracts[today])
    _lifecycle(ledger)
    _crossovers(ledger)
    for day in (yesterday, today):
        _metrics(ledger, day, contracts[day])
    _seat_cohorts(ledger)
    for day in (yesterday, today):
        for reason in ("any", "seat_contraction", "mrr_contraction", "nps_detractor"):
            b.truth.expect(
                "hub.flag_quality",
                as_of=day,
                reason=reason,
                status="pending",
                window_end=day + timedelta(days=180),
            )
    _explanations(ledger, contracts, upsells)


# Renewals ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Entry:
    """A contract on the renewal pipeline of a day, in scope or out of it."""

    org_id: str
    status: str
    scope: str
    stage: str | None
    renew_by: date
    deal: str | None
    deal_amount: str | None
    mrr_at_stake: Decimal
    scheduled_cancel: date | None
    hygiene: list[str]
    deal_owner: portal.Owner | None

    def said(self) -> str:
        stage = f", stage {self.stage}" if self.stage else ""
        return f"{self.status}{stage}, renew by {self.renew_by}"


def _pipeline(ledger: Ledger, day: date) -> dict[str, Entry]:
    """Every contract that runs on the day; with a deal as its story says, without one by the end of its term."""
    b = ledger.b
    stated = {row["subscription_id"]: row for row in b.truth.lists["hub.renewal_pipeline"].rows}
    result: dict[str, Entry] = {}
    for key, contract in ledger.paid(day).items():
        mrr = ledger.usd(contract, day)
        scope = (
            "self_serve_monthly"
            if contract.plan not in ("enterprise", "custom") and not contract.is_long
            else "in scope"
            if mrr > 500
            else "mrr_not_over_threshold"
        )
        near = (contract.term_end - day).days <= 180 and scope == "in scope" and not contract.ends_on
        entry = Entry(
            contract.org_id,
            "missing" if near else "no_deal",
            scope,
            None,
            contract.term_end,
            None,
            None,
            mrr,
            contract.ends_on,
            [],
            None,
        )
        if key in stated:
            row, (deal, before) = stated[key], b.renewals[key]
            if deal is not None:
                entry.deal, entry.deal_owner = deal.id, deal.owner
                entry.deal_amount = f"{Decimal(deal.amount):.2f}" if deal.amount else None
            entry.status, entry.stage = row["status"], row["stage"]
            entry.renew_by, entry.hygiene = row["renew_by"], row["hygiene"]
            if day != b.as_of and isinstance(before, dict):
                for name, value in before.items():
                    setattr(entry, name, value)
        result[key] = entry
    return result


_FACTS = ("status", "scope", "stage", "renew_by", "deal", "deal_amount", "mrr_at_stake", "scheduled_cancel")


def _pipeline_changes(ledger: Ledger, before: dict[str, Entry], after: dict[str, Entry]) -> None:
    b = ledger.b

    def text(entry: Entry, name: str) -> str | None:
        value = getattr(entry, name)
        return None if value is None else str(value)

    def add(key: str, change: str, entry: Entry, old: str | None, new: str | None) -> None:
        b.truth.expect(
            "hub.renewal_pipeline_changes",
            as_of=b.as_of,
            renewal_id=key,
            change=change,
            previous_as_of=b.day(-1),
            org_id=entry.org_id,
            before=old,
            after=new,
        )

    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None and new is not None:
            add(key, "added", new, None, new.status)
        elif new is None and old is not None:
            add(key, "removed", old, old.status, None)
        elif old is not None and new is not None:
            for name in _FACTS:
                if text(old, name) != text(new, name):
                    add(key, name, new, text(old, name), text(new, name))
            if old.hygiene != new.hygiene:
                add(key, "hygiene", new, ", ".join(old.hygiene), ", ".join(new.hygiene))
        said = [e.said() if e is not None and e.scope == "in scope" else None for e in (old, new)]
        if said[0] != said[1]:
            org = ledger.organisations[(new or old).org_id]  # type: ignore[union-attr]
            expect.change(b, "renewal_pipeline", key, org, before=said[0], after=said[1])


_DIRTY = {"amount_looks_annual", "amount_looks_multi_year", "amount_mismatch", "currency_mismatch"}


def _forecast(ledger: Ledger, contracts: dict[str, Entry]) -> None:
    """Twelve months from the day after as_of: an open deal by its stage, won 1, lost or ending 0, no deal unknown."""
    b = ledger.b
    probability = {name: Decimal(p) for name, _, p, _ in portal.POST_SALES_STAGES}
    deals = {deal.id: deal for deal in b.deals}
    first = b.day(1).replace(day=1)
    for number in range(12):
        start = add_months(datetime.combine(first, time(0)), number).date()
        end = add_months(datetime.combine(first, time(0)), number + 1).date() - timedelta(days=1)
        due = renewed = forecast = upsell = _ZERO
        count = unknown = 0
        for entry in contracts.values():
            if entry.scope != "in scope" or not start <= entry.renew_by <= end:
                continue
            if entry.scheduled_cancel or entry.status == "lost":
                p: Decimal | None = _ZERO
            elif entry.status == "renewed":
                p = Decimal(1)
            else:
                p = probability[entry.stage] if entry.status == "open" and entry.stage else None
            mrr, amount = entry.mrr_at_stake, entry.mrr_at_stake
            if entry.deal_amount and entry.deal and not _DIRTY & set(entry.hygiene):
                typed = Decimal(entry.deal_amount)
                amount = cents(typed * ledger.rate(deals[entry.deal].currency, b.as_of)) if typed > 0 else mrr
            count, unknown, due = count + 1, unknown + (p is None), due + mrr
            renewed += mrr if entry.status == "renewed" else 0
            forecast += min(mrr, amount) * (p or 0)
            upsell += max(amount - mrr, _ZERO) * (p or 0)
        b.truth.expect(
            "hub.renewal_forecast",
            period_start=start,
            period_end=end,
            contracts=count,
            without_probability=unknown,
            renewals_due_mrr=due,
            renewed_mrr=renewed,
            renewal_forecast_mrr=cents(forecast),
            upsell_forecast_mrr=cents(upsell),
        )


# Upsells -----------------------------------------------------------------------------------------------------------


def _fast_growing(ledger: Ledger, day: date) -> dict[str, int]:
    """Organic growth of the fast growing; for the day before as the stories say what has changed since."""
    b = ledger.b
    growth = {
        row["org_id"]: row["organic_seat_delta"]
        for row in b.truth.lists["hub.fast_growing_organisations"].rows
    }
    return growth if day == b.as_of else dict.fromkeys(_the_day_before(b, "fast_growing", set(growth)), 0)


def _the_day_before(b: Builder, list_name: str, today: set[str]) -> set[str]:
    """Items of a list on the day before, from those of today and what changed."""
    changes = [row for row in b.truth.lists["hub.changes_since_yesterday"].rows if row["list"] == list_name]
    new = {row["item_id"] for row in changes if row["change"] == "new"}
    return (today - new) | {row["item_id"] for row in changes if row["change"] == "cleared"}


def _upsells(ledger: Ledger, day: date) -> list[dict[str, Any]]:
    b = ledger.b
    seats, mrr, growing = ledger.seats(day), ledger.mrr(day, day), _fast_growing(ledger, day)
    paid: dict[str, list[Contract]] = defaultdict(list)
    for contract in ledger.paid(day).values():
        paid[contract.org_id].append(contract)
    paying = sorted(org_id for org_id in paid if org_id in ledger.organisations)
    deals = [d for d in ledger.open_deals(day) if d.pipeline == "post_sales" and d.kind == "upsell"]
    with_deal = {deal.organisation.id for deal in deals}
    rows: list[dict[str, Any]] = []

    def add(upsell_id: str, kind: str, org: Organisation, ids: list[str], **more: Any) -> None:
        rows.append(
            {
                "upsell_id": upsell_id,
                "kind": kind,
                "org_id": org.id,
                "org_ids": ids,
                "name": org.name,
                "tier": b.tiers[org.id],
                "seats": sum(seats[i] for i in ids),
                "mrr": sum((mrr.get(i, _ZERO) for i in ids), _ZERO),
                "has_open_upsell_deal": bool(with_deal & set(ids)),
                "deal_id": None,
                "deal_amount": None,
                "stage": None,
                "close_date": None,
                "owner_id": org.owner.id,
                **more,
            }
        )

    for deal in deals:
        close = _close(day)
        add(
            f"deal:{deal.id}",
            "open_deal",
            deal.organisation,
            [deal.organisation.id],
            deal_id=deal.id,
            deal_amount=Decimal(deal.amount or 0),
            stage=[stage for at, stage in deal.stages if at < close][-1],
            close_date=deal.close_date.date() if deal.close_date else None,
            owner_id=deal.owner.id if deal.owner else None,
        )
    for org in ledger.organisations.values():
        members = org.record.properties.get("members_active")
        pending = org.record.properties.get("pending_true_up_mrr")
        if org.id in growing and org.id not in with_deal:
            add(f"fast_growing:{org.id}", "fast_growing", org, [org.id])
        if org.id in paid and members and int(members) >= Decimal("0.9") * seats[org.id]:
            add(f"utilisation:{org.id}", "utilisation", org, [org.id])
        if pending and Decimal(pending) > 0:
            add(f"true_up:{org.id}", "true_up", org, [org.id])
        biggest = _largest(ledger, paid[org.id], day) if org.id in paid else None
        if biggest and mrr[org.id] > 500 and biggest.interval == "month" and not biggest.is_long:
            add(f"annual:{org.id}", "annual", org, [org.id])
    by_parent: dict[str, list[str]] = defaultdict(list)
    by_domain: dict[str, list[str]] = defaultdict(list)
    for org_id in paying:
        org = ledger.organisations[org_id]
        if parent := org.record.properties.get("parent_organisation_id"):
            by_parent[parent].append(org_id)
        by_domain[org.domain].append(org_id)
    for parent, ids in by_parent.items():
        if len(ids) > 1:
            add(f"joint_plan_parent:{parent}", "joint_plan_parent", ledger.organisations[parent], ids)
    for domain, ids in by_domain.items():
        if len({ledger.root(i) for i in ids}) > 1:
            largest = max(ids, key=lambda i: (mrr[i], _last_first(i)))
            add(f"joint_plan_domain:{domain}", "joint_plan_domain", ledger.organisations[largest], ids)
    return rows


def _last_first(text: str) -> list[int]:
    """Orders texts backwards."""
    return [-ord(letter) for letter in text]


def _largest(ledger: Ledger, contracts: Iterable[Contract], day: date) -> Contract:
    return max(contracts, key=lambda c: (ledger.usd(c, day), c.seats, _last_first(c.id)))


def _post_sales(ledger: Ledger, contracts: dict[str, Entry]) -> None:
    b = ledger.b
    risks = {row["org_id"]: row["reasons"] for row in b.truth.lists["hub.organisations_at_risk"].rows}
    for key, entry in contracts.items():
        if entry.scope != "in scope":
            continue
        owner = entry.deal_owner or ledger.organisations[entry.org_id].owner
        b.truth.expect(
            "hub.post_sales_pipeline",
            item_id=key,
            kind="renewal",
            org_id=entry.org_id,
            owner_name=f"{owner.given} {owner.family}",
            due_on=entry.renew_by,
            status=entry.status,
            stage=entry.stage,
            mrr_at_stake=entry.mrr_at_stake,
            deal_id=entry.deal,
            deal_amount=Decimal(entry.deal_amount) if entry.deal_amount else None,
            hygiene=entry.hygiene,
            risk_reasons=risks.get(entry.org_id, []),
        )
    for row in b.truth.lists["hub.upsell_pipeline"].rows:
        if row["kind"] == "open_deal":
            b.truth.expect(
                "hub.post_sales_pipeline",
                item_id=row["upsell_id"],
                kind="upsell",
                org_id=row["org_id"],
                due_on=row["close_date"],
                status="open",
                stage=row["stage"],
                mrr_at_stake=None,
                deal_id=row["deal_id"],
                deal_amount=row["deal_amount"],
                hygiene=[],
                risk_reasons=risks.get(row["org_id"], []),
            )


# One customer ------------------------------------------------------------------------------------------------------

_CHURN_ORDER = ("scheduled", "churned", "reactivated", "false_alarm")


def _customer_360(ledger: Ledger, contracts: dict[str, Entry]) -> None:
    b, day = ledger.b, ledger.b.as_of
    close, start = _close(day), b.day(-90)
    seats_before, mrr_before = ledger.seats(start), ledger.mrr(start, day)
    growing = _fast_growing(ledger, day)
    risks = {row["org_id"]: row["reasons"] for row in b.truth.lists["hub.organisations_at_risk"].rows}
    moved: dict[str, list[Decimal]] = defaultdict(lambda: [_ZERO, _ZERO])
    for child, payer, since, seats in ledger.moves:
        if start < since <= day:
            mrr = ledger.mrr(since - timedelta(days=1), day).get(child, _ZERO)
            for org_id, sign in ((payer, 1), (child, -1)):
                moved[org_id][0] += sign * seats
                moved[org_id][1] += sign * mrr
    scores: dict[str, list[int]] = defaultdict(list)
    for contact, score in ledger.answers(day)[0].values():
        for home in ledger.homes(contact):
            scores[home.id].append(score)
    talks = _talks(ledger, day)
    touches: dict[str, list[Engagement]] = defaultdict(list)
    for logged in b.engagements:
        for home in logged.contact.organisations:
            touches[home.id].append(logged)

    for row in b.truth.lists["hub.organisations"].rows:
        org_id, state = row["org_id"], row["state"]
        org = ledger.organisations.get(org_id)
        values = org.record.properties if org else {}
        is_customer = state in ("paying", "covered", "custom_off_billing")
        mine = [c for c in ledger.paid(day).values() if c.org_id == org_id]
        entries = sorted(
            (
                (e.status == "renewed", e.renew_by, key, e)
                for key, e in contracts.items()
                if e.org_id == org_id
            ),
            key=lambda item: item[:3],
        )
        renewal = entries[0][3] if entries else None
        churns = sorted(
            ((_CHURN_ORDER.index(s), on, s) for o, s, on in b.churns if o == org_id),
            key=lambda item: item[:2],
        )
        off_billing = state == "custom_off_billing"
        seat_drop = int(seats_before[org_id] - row["seats"] + moved[org_id][0])
        mrr_drop = mrr_before.get(org_id, _ZERO) - row["mrr"] + moved[org_id][1]
        high = not off_billing and (
            (seat_drop >= 5 and seat_drop * 5 >= seats_before[org_id] > 0)
            or (mrr_drop >= 100 and mrr_drop * 5 >= mrr_before.get(org_id, _ZERO) > 0)
        )
        down = not off_billing and (seat_drop > 0 or mrr_drop > 0)
        ends = bool([c for c in mine if c.ends_on])
        members = int(values["members_active"] or 0) if values.get("members_active") else None
        answers = scores[org_id]
        mean = Decimal(sum(answers)) / len(answers) if answers else None
        detractors = sum(score <= 6 for score in answers)
        done = [e for e in touches[org_id] if e.at < close]
        met = [e.at for e in done if e.kind in ("emails", "calls", "meetings") and not e.automated]
        notes = [e.at for e in done if e.kind == "notes"]
        open_tasks = [e for e in touches[org_id] if e.kind == "tasks" and e.status == "NOT_STARTED"]
        last_talk, in_window, bad = talks.get(org_id, (None, 0, 0))

        commercial = Decimal(0 if high or ends else 50 if down else 100)
        used = None
        if members is not None and row["seats"]:
            used = min(Decimal(100), Decimal(100 * members) / row["seats"])
        sentiment = None
        if mean is not None:
            sentiment = min(10 * mean, Decimal(30)) if detractors else 10 * mean
        since_touch = (day - max(met).date()).days if met else 10_000
        engagement = Decimal(
            100 if since_touch < 30 else 60 if since_touch < 90 else 20 if since_touch < 180 else 0
        )
        support = max(_ZERO, Decimal(100 - 25 * bad)) if in_window or bad else None
        parts = [(commercial, 30), (used, 25), (sentiment, 20), (engagement, 15), (support, 10)]
        if not is_customer:
            parts = [(None, weight) for _, weight in parts]
        weight = sum(w for part, w in parts if part is not None)
        total = sum((_round(part, 1) * w for part, w in parts if part is not None), _ZERO)
        why = [
            code
            for code, holds in (
                ("scheduled_end", ends),
                ("high_contraction", high),
                ("contraction", down and not high),
                ("low_utilisation", used is not None and used < 50),
                ("detractor", detractors > 0),
                ("low_nps", sentiment is not None and sentiment < 70 and not detractors),
                ("no_touch_90d", engagement <= 20),
                ("dissatisfied_conversations", bad > 0),
            )
            if holds and is_customer
        ]
        names = ("commercial", "seats", "sentiment", "engagement", "support")
        b.truth.expect(
            "hub.customer_360",
            org_id=org_id,
            name=row["name"],
            root_org_id=ledger.root(org_id),
            state=state,
            is_customer=is_customer,
            tier=row["tier"],
            plan=_largest(ledger, mine, day).plan if mine else None,
            seats=row["seats"],
            mrr=row["mrr"],
            members_active=members,
            owner_name=expect.owner_name(org) if org else None,
            next_renewal_on=renewal.renew_by if renewal else None,
            next_renewal_status=renewal.status if renewal else None,
            next_renewal_mrr=renewal.mrr_at_stake if renewal else None,
            next_renewal_deal_id=renewal.deal if renewal else None,
            is_fast_growing=org_id in growing,
            risk_reasons=risks.get(org_id, []),
            seat_drop=None if off_billing else seat_drop,
            seats_baseline=seats_before[org_id],
            mrr_drop=None if off_billing else mrr_drop,
            mrr_baseline=mrr_before.get(org_id, _ZERO),
            churn_state=churns[0][2] if churns else None,
            churn_on=churns[0][1] if churns else None,
            nps_answers=len(answers),
            nps_mean=_round(mean, 1) if mean is not None else None,
            nps_detractors=detractors,
            last_conversation_on=last_talk,
            conversations_in_window=in_window,
            dissatisfied_conversations=bad,
            last_touch_on=max(met).date() if met else None,
            last_note_on=max(notes).date() if notes else None,
            open_tasks=len(open_tasks),
            overdue_tasks=sum(e.at < close for e in open_tasks),
            success_plan_status=None,
            **{
                f"health_{name}": _round(part, 1) if part is not None else None
                for name, (part, _) in zip(names, parts, strict=True)
            },
            health=_round(total / weight, 1) if weight else None,
            health_coverage=Decimal(weight) / 100 if is_customer else None,
            health_override=values.get("health"),
            why=why,
        )


def _talks(ledger: Ledger, day: date) -> dict[str, tuple[date, int, int]]:
    """By organisation: day of the last message of a contact, conversations in 28 days, badly rated ones of them.

    The messages of a conversation that last changed 28 days before the first night were never read (docs/intercom.md),
    so nothing is known of it.
    """
    read_from = day - timedelta(days=29)
    close, window = _close(day), day - timedelta(days=28)
    result: dict[str, tuple[date, int, int]] = {}
    for talk in ledger.b.conversations:
        written = [at for author, at in talk.parts if author == "contact" and at < close]
        changed = max(max(at for _, at in talk.parts), talk.rating[1] if talk.rating else talk.parts[0][1])
        if not written or changed.date() <= read_from:
            continue
        is_bad = bool(
            talk.rating and talk.rating[0] <= 2 and talk.rating[1] < close and talk.rating[1].date() > window
        )
        last = max(written).date()
        orgs = [talk.organisation] if talk.organisation else ledger.homes(talk.contact)
        for org in orgs:
            before = result.get(org.id, (last, 0, 0))
            result[org.id] = (max(before[0], last), before[1] + (last > window), before[2] + is_bad)
    return result


# People ------------------------------------------------------------------------------------------------------------

_PATH = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
)
_STATUSES = ("none", "attemptedtocontact", "connected", "opendeal", "unqualified")


def _code(value: str | None) -> str | None:
    return (value or "").lower().replace("_", "").replace(" ", "").replace("-", "") or None


def _lifecycle(ledger: Ledger) -> None:
    b, day = ledger.b, ledger.b.as_of
    close = _close(day)
    states = {row["org_id"]: row["state"] for row in b.truth.lists["hub.organisations"].rows}
    negotiating = {deal.organisation.id for deal in ledger.open_deals(day)}
    written, answered = _correspondence(b, close)
    own = {owner.email.split("@")[1] for owner in portal.OWNERS}
    by_email: dict[str, list[Contact]] = defaultdict(list)
    represented: set[str] = set()

    def add(check: str, subject: str, contacts: Sequence[Contact], org_id: str | None) -> None:
        first = contacts[0] if contacts else None
        owner = ledger.organisations[org_id].owner.id if org_id in ledger.organisations else None
        b.truth.expect(
            "hub.lifecycle_checks",
            check=check,
            subject_id=subject,
            contact_id=first.id if first else None,
            contact_ids=[contact.id for contact in contacts],
            org_id=org_id,
            owner_id=_at(first.record, "hubspot_owner_id", close) if first else owner,
            lifecycle_stage=_at(first.record, "lifecyclestage", close) if first else None,
            lead_status=_at(first.record, "hs_lead_status", close) if first else None,
        )

    for contact in ledger.people(day):
        homes = sorted(org.id for org in ledger.homes(contact) if org.id in states)
        stage = _code(_at(contact.record, "lifecyclestage", close))
        status = _code(_at(contact.record, "hs_lead_status", close))
        by_email[contact.email.strip().lower()].append(contact)
        if stage in ("customer", "evangelist"):
            represented.update(homes)
        commercial = any(states[i] in ("paying", "covered", "custom_off_billing") for i in homes)
        deal = any(i in negotiating for i in homes)
        wrote, heard = written.get(contact.id), answered.get(contact.id)
        source = (contact.record.properties["hs_object_source_label"] or "").lower()
        skipped, back = _odd_moves(contact, day, close)
        quiet = wrote is not None and (day - wrote.date()).days >= 14 and (heard is None or heard < wrote)
        rules: dict[str, bool] = {
            "lifecycle_missing": stage is None and (day - contact.created.date()).days >= 7,
            "unknown_value": (stage is not None and stage not in (*_PATH, "evangelist", "other"))
            or (status is not None and status not in _STATUSES),
            "customer_not_paying": stage == "customer" and bool(homes) and not commercial,
            "opportunity_without_open_deal": stage == "opportunity" and not deal,
            "sql_without_lead_status": stage == "salesqualifiedlead" and status in (None, "none"),
            "other_but_commercial": stage == "other" and (commercial or deal),
            "subscriber_with_trial": stage == "subscriber"
            and (commercial or any(states[i] == "trial" for i in homes)),
            "open_deal_status_without_deal": status == "opendeal" and not deal,
            "unqualified_with_open_deal": status == "unqualified" and deal,
            "attempted_but_replied": status == "attemptedtocontact" and heard is not None,
            "connected_without_two_way": status == "connected" and (wrote is None or heard is None),
            "stage_skipped": skipped,
            "stage_moved_back": back,
            "unresponsive_14d": status == "attemptedtocontact" and quiet,
            "autocreated_incomplete": source == "email_integration"
            and (stage is None or _at(contact.record, "hubspot_owner_id", close) is None),
            "internal_or_vendor_domain": contact.email.split("@")[1] in own,
        }
        for check, holds in rules.items():
            if holds:
                add(check, contact.id, [contact], homes[0] if homes else None)
    for contacts in by_email.values():
        if len(contacts) > 1:
            contacts.sort(key=lambda c: c.id)
            homes = sorted(org.id for c in contacts for org in ledger.homes(c))
            add("duplicate_contact_email", contacts[0].id, contacts, homes[0] if homes else None)
    for org_id, state in states.items():
        if state == "paying" and org_id not in represented:
            add("paying_org_without_customer_contact", org_id, [], org_id)


def _correspondence(b: Builder, close: datetime) -> tuple[dict[str, datetime], dict[str, datetime]]:
    """By contact, when it was last written to and when it last answered; a meeting is both."""
    written: dict[str, datetime] = {}
    answered: dict[str, datetime] = {}
    for e in b.engagements:
        if e.automated or e.at >= close or e.kind not in ("emails", "calls", "meetings"):
            continue
        for book, counts in ((written, not e.inbound), (answered, e.inbound)):
            if counts or e.kind == "meetings":
                book[e.contact.id] = max(book.get(e.contact.id, e.at), e.at)
    return written, answered


def _odd_moves(contact: Contact, day: date, close: datetime) -> tuple[bool, bool]:
    """Whether the contact passed over a stage, or went back, within 28 days."""
    steps = [
        (moment, _PATH.index(code))
        for version in reversed(contact.record.history.get("lifecyclestage", []))
        if (moment := datetime.fromisoformat(version["timestamp"])) < close
        and (code := _code(version["value"])) in _PATH
    ]
    recent = [
        (old, new) for (_, old), (moment, new) in pairwise(steps) if moment.date() > day - timedelta(days=28)
    ]
    return any(new > old + 1 for old, new in recent), any(new < old for old, new in recent)


def _crossovers(ledger: Ledger) -> None:
    b, day = ledger.b, ledger.b.as_of
    close = _close(day)
    people: dict[str, set[str]] = defaultdict(set)
    crossing: dict[str, dict[str, date]] = defaultdict(dict)
    contacts = {contact.id: contact for contact in ledger.people(day)}
    for e in b.engagements:
        if (
            e.kind not in ("emails", "calls", "meetings")
            or e.automated
            or e.inbound
            or e.owner.role not in ("csm", "sales")
            or not day - timedelta(days=28) < e.at.date() <= day
            or e.contact.id not in contacts
        ):
            continue
        people[e.contact.id].add(e.owner.id)
        # The owner of the moment; an owner given in that very instant counts.
        if _at(e.contact.record, "hubspot_owner_id", e.at + timedelta(milliseconds=1)) != e.owner.id:
            dates = crossing[e.contact.id]
            dates[e.owner.id] = max(dates.get(e.owner.id, e.at.date()), e.at.date())

    def add(kind: str, subject: str, **row: Any) -> None:
        b.truth.expect("hub.ownership_crossovers", kind=kind, subject_id=subject, **row)

    for contact_id, who in people.items():
        if len(who) > 1 and crossing[contact_id]:
            add(
                "contact",
                contact_id,
                contact_ids=[contact_id],
                account_id=None,
                deal_ids=[],
                owner_id=_at(contacts[contact_id].record, "hubspot_owner_id", close),
                crossing_users=sorted(crossing[contact_id]),
                people=sorted(who),
                last_on=max(crossing[contact_id].values()),
            )
    by_email: dict[str, list[Contact]] = defaultdict(list)
    for contact in contacts.values():
        by_email[contact.email.strip().lower()].append(contact)
    for same in by_email.values():
        owners = {_at(c.record, "hubspot_owner_id", close) for c in same} - {None}
        if len(owners) > 1:
            same.sort(key=lambda c: c.id)
            add(
                "duplicate_person",
                same[0].id,
                contact_ids=[c.id for c in same],
                account_id=None,
                deal_ids=[],
                owner_id=_at(same[0].record, "hubspot_owner_id", close),
                crossing_users=sorted(owners, key=str),
                people=sorted(owners, key=str),
                last_on=None,
            )
    accounts: dict[str, list[Deal]] = defaultdict(list)
    for deal in ledger.open_deals(day):
        accounts[ledger.root(deal.organisation.id)].append(deal)
    for account, deals in accounts.items():
        owner_ids = {deal.owner.id for deal in deals if deal.owner}
        if len(owner_ids) > 1:
            add(
                "account_deals",
                account,
                contact_ids=[],
                account_id=account,
                deal_ids=sorted(deal.id for deal in deals),
                owner_id=None,
                crossing_users=sorted(owner_ids),
                people=sorted(owner_ids),
                last_on=None,
            )


# Figures -----------------------------------------------------------------------------------------------------------


def _metrics(ledger: Ledger, day: date, contracts: dict[str, Entry]) -> None:
    b = ledger.b
    start = day.replace(day=1)
    before = start - timedelta(days=1)
    movements = _movements(ledger, before, day)
    opening = sum(ledger.mrr(before, before).values(), _ZERO)
    year_ago = day.replace(year=day.year - 1, day=28 if (day.month, day.day) == (2, 29) else day.day)
    then, now = _by_account(ledger, year_ago, day), _by_account(ledger, day, day)
    cohort = {account: mrr for account, mrr in then.items() if mrr > 0}
    begun = sum(cohort.values(), _ZERO)
    kept = sum((min(mrr, now.get(account, _ZERO)) for account, mrr in cohort.items()), _ZERO)
    left = sum((now.get(account, _ZERO) for account in cohort), _ZERO)
    known, anonymous = ledger.answers(day)
    scores = [*(score for _, score in known.values()), *anonymous]
    score = Decimal(100 * (sum(s >= 9 for s in scores) - sum(s <= 6 for s in scores))) / len(scores)
    gross, net = _renewal_rate(ledger, before, day)
    won = [key for key, entry in contracts.items() if entry.status == "renewed" and entry.scope == "in scope"]
    rows = {row["subscription_id"]: row for row in b.truth.lists["hub.renewal_pipeline"].rows}
    b.truth.expect(
        "hub.metrics",
        as_of=day,
        mrr=sum(ledger.mrr(day, day).values(), _ZERO),
        period_start=start,
        opening=opening,
        **{
            name: movements.get(name, _ZERO)
            for name in (
                "new",
                "reactivation",
                "expansion",
                "contraction",
                "churn",
                "paused",
                "resumed",
                "fx",
            )
        },
        nrr=_share(left, begun),
        grr=_share(kept, begun),
        logo_retention=_share(sum(now.get(account, _ZERO) > 0 for account in cohort), len(cohort)),
        nps=_round(score, 1),
        nps_responses=len(scores),
        gross_renewal_rate=gross,
        net_renewal_rate=net,
        renewed_in_lead_time=_share(sum(not rows[key]["missed_lead_target"] for key in won), len(won)),
    )


def _by_account(ledger: Ledger, day: date, rates_of: date) -> dict[str, Decimal]:
    result: dict[str, Decimal] = defaultdict(Decimal)
    for org_id, mrr in ledger.mrr(day, rates_of).items():
        result[ledger.root(org_id)] += mrr
    return result


def _movements(ledger: Ledger, before: date, day: date) -> dict[str, Decimal]:
    """What each account's MRR did between two closes, one movement for each beside pauses, transfers and rates."""
    old, new = ledger.running(before), ledger.running(day)
    books: dict[str, Counter[str]] = defaultdict(Counter)
    for key in old.keys() | new.keys():
        was, is_ = old.get(key), new.get(key)
        account = ledger.root((was or is_).org_id)  # type: ignore[union-attr]
        book = books[account]
        paused_before, paused_now = bool(was and was.status == "paused"), bool(is_ and is_.status == "paused")
        opening = ledger.usd(was, before) if was and not paused_before else _ZERO
        reopened = ledger.usd(was, day) if was and not paused_before else _ZERO
        closing = ledger.usd(is_, day) if is_ and not paused_now else _ZERO
        book["opening"] += opening  # type: ignore[assignment]
        book["closing"] += closing  # type: ignore[assignment]
        book["fx"] += reopened - opening  # type: ignore[assignment]
        book["left_paused"] += paused_now
        if paused_now and not paused_before:
            book["paused"] -= reopened  # type: ignore[assignment]
        if paused_before and not paused_now:
            book["resumed"] += closing  # type: ignore[assignment]
    for child, payer, since, _ in ledger.moves:
        ends = ledger.root(payer), ledger.root(child)
        if before < since <= day and ends[0] != ends[1]:
            mrr = ledger.mrr(since - timedelta(days=1), day).get(child, _ZERO)
            books[ends[0]]["transfer_in"] += mrr  # type: ignore[assignment]
            books[ends[1]]["transfer_out"] -= mrr  # type: ignore[assignment]
    result: dict[str, Decimal] = defaultdict(Decimal)
    apart = ("fx", "paused", "resumed", "transfer_in", "transfer_out")
    for account, book in books.items():
        for name in apart:
            result[name] += book[name]
        rest = book["closing"] - book["opening"] - sum(book[name] for name in apart)
        if rest < 0:
            is_gone = book["closing"] == 0 and not book["left_paused"] and not book["transfer_out"]
            result["churn" if is_gone else "contraction"] += rest
        elif book["opening"]:
            result["expansion"] += rest
        else:
            result["reactivation" if _paid_before(ledger, account, before) else "new"] += rest
    return result


def _paid_before(ledger: Ledger, account: str, day: date) -> bool:
    """Whether the account had MRR at any close up to the day."""
    for subscription in ledger.b.subscriptions:
        org = subscription.organisation
        if org is None or ledger.root(org.id) != account:
            continue
        for at, values, _ in subscription.versions:
            if at < _close(day) and values["amount_minor"] > 0 and values["status"] in ("active", "past_due"):
                return True
    return False


def _renewal_rate(ledger: Ledger, before: date, day: date) -> tuple[Decimal | None, Decimal | None]:
    """Terms of the month that ended by the day: frozen at the close before it, against the close they ended on."""
    frozen = ledger.paid(before)
    due = {key: c for key, c in frozen.items() if before < c.term_end <= day}
    available = renewed = kept = _ZERO
    followed: set[str] = set()
    for key, contract in sorted(due.items(), key=lambda item: (item[1].term_end, item[0])):
        atr = ledger.usd(contract, day)
        at_end = ledger.paid(contract.term_end)
        mrr = _ZERO
        if key in at_end:
            mrr = ledger.usd(at_end[key], day)
        elif contract.org_id not in followed:
            followed.add(contract.org_id)
            others = [c for k, c in at_end.items() if c.org_id == contract.org_id and k not in frozen]
            mrr = sum((ledger.usd(c, day) for c in others), _ZERO)
        available, renewed, kept = available + atr, renewed + mrr, kept + min(mrr, atr)
    return _share(kept, available), _share(renewed, available)


def _seat_cohorts(ledger: Ledger) -> None:
    """Seats at month ends by the month of the account's first paid seat."""
    b = ledger.b
    first: dict[str, date] = {}
    for subscription in b.subscriptions:
        account = _account(ledger, subscription)
        for at, values, _ in subscription.versions:
            paid = values["status"] in ("active", "past_due") and values["plan"] != "free"
            if paid and values["seats"] and at.date() <= b.as_of:
                first[account] = min(first.get(account, at.date()), at.date())
    for org, _, start, _, _, _ in b.contracts:
        first[ledger.root(org.id)] = min(first.get(ledger.root(org.id), start), start)
    cohorts: dict[date, set[str]] = defaultdict(set)
    for account, on in first.items():
        cohorts[on.replace(day=1)].add(account)
    month_ends: list[date] = []
    month = datetime.combine(min(cohorts), time(0))
    while (end := add_months(month, 1).date() - timedelta(days=1)) <= b.as_of:
        month_ends.append(end)
        month = add_months(month, 1)
    levels: dict[date, Counter[str]] = {}
    for end in month_ends:
        levels[end] = Counter()
        for org_id, seats in ledger.seats(end).items():
            levels[end][ledger.root(org_id)] += seats
    for cohort, accounts in sorted(cohorts.items()):
        ends = [end for end in month_ends if end >= cohort]
        sizes = [sum(levels[end][account] for account in accounts) for end in ends]
        for number, (end, size) in enumerate(zip(ends, sizes, strict=True)):
            b.truth.expect(
                "hub.seat_cohorts",
                cohort=cohort,
                month_number=number,
                month_end=end,
                accounts=len(accounts),
                seats=size,
                retention=_share(size, sizes[0]),
            )


def _account(ledger: Ledger, subscription: Subscription) -> str:
    org = subscription.organisation
    return ledger.root(org.id) if org else f"billing:{subscription.customer_id}"


# Why, or why not ---------------------------------------------------------------------------------------------------


def _explanations(
    ledger: Ledger, contracts: dict[date, dict[str, Entry]], upsells: dict[date, list[dict[str, Any]]]
) -> None:
    """The verdict on every organisation, list and day; its sentences are not compared."""
    b = ledger.b
    lists = b.truth.lists

    def today(view: str, item: Callable[[dict[str, Any]], str]) -> set[str]:
        return {item(row) for row in lists[view].rows}

    growing = today("hub.fast_growing_organisations", lambda row: row["org_id"])
    risky = today("hub.organisations_at_risk", lambda row: row["org_id"])
    churning = today("hub.churn", lambda row: row["org_id"])
    talking = today("hub.tier_ab_interactions", lambda row: f"{row['conversation_id']}:{row['org_id']}")
    for day in (b.day(-1), b.as_of):
        is_today = day == b.as_of
        talks = talking if is_today else _the_day_before(b, "tier_ab_interactions", talking)
        verdicts = {
            "fast_growing": growing if is_today else _the_day_before(b, "fast_growing", growing),
            "at_risk": risky if is_today else _the_day_before(b, "at_risk", risky),
            "churn": churning
            if is_today
            else {o for o in churning | b.churn_before.keys() if b.churn_before.get(o, True)},
            "renewal_pipeline": {e.org_id for e in contracts[day].values() if e.scope == "in scope"},
            "upsell_pipeline": {row["org_id"] for row in upsells[day]},
            "tier_ab_interactions": {item.split(":", 1)[1] for item in talks},
        }
        for row in lists["hub.organisations"].rows:
            for name, members in verdicts.items():
                b.truth.expect(
                    "hub.explanations",
                    as_of=day,
                    org_id=row["org_id"],
                    list=name,
                    name=row["name"],
                    is_on_list=row["org_id"] in members,
                )
