"""The demo company as it looks where nobody bills outside HubSpot: what a subscription is stands on the organisation.

The stories are those of the demo, and so is what they say must be answered. Only where their knowledge is written down
differs: instead of extracts, properties of the organisation with HubSpot's own history of them. What one set of
properties cannot hold is taken out of the truth, each with its reason (`without_billing`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hub_pipeline.demo import expect, population, stories
from hub_pipeline.demo.account import DEMO_AS_OF, DEMO_SEED, ORGANISATION_OBJECT, Company
from hub_pipeline.demo.builder import INTERVALS, Builder, Organisation, Subscription, add_months, cents, iso

#: Property of this portal -> (type, canonical column). Dates come in three of the forms that HubSpot has.
PROPERTIES = {
    "paid_seats": ("number", "seats"),
    "monthly_revenue": ("number", "mrr"),
    "current_plan": ("enumeration", "plan"),
    "pays_every": ("enumeration", "billing_interval"),
    "customer_status": ("enumeration", "subscription_status"),
    "customer_since": ("datetime", "started_at"),
    "churn_date": ("datetime", "cancel_at"),
    "cancelled_on": ("datetime", "cancel_requested_at"),
    "churn_reason": ("string", "cancel_reason"),
    "churn_comment": ("string", "cancel_comment"),
    "term_began": ("date", "term_start"),
    "renewal_date": ("date", "term_end"),
}
_INTERVALS = {"month": "Monthly", "quarter": "Quarterly", "year": "Annual", "two_years": "2 years"}
_STATUSES = {
    "active": "Active",
    "past_due": "Past due",
    "unpaid": "Unpaid",
    "paused": "Paused",
    "trialing": "Trial",
    "canceled": "Churned",
}

STATED = {
    "hub.organisations",
    "hub.fast_growing_organisations",
    "hub.organisations_at_risk",
    "hub.churn",
    "hub.churn_false_alarms",
    "hub.renewal_pipeline",
}

MAPPING = {column: name for name, (_, column) in PROPERTIES.items()}


class _Alone(Builder):
    """A generator whose customers all pay in the portal's own currency, because rates come from billing files."""

    def subscription(
        self, organisation: Organisation | None, started: datetime, **values: Any
    ) -> Subscription:
        values["currency"] = "USD"
        return super().subscription(organisation, started, **values)


def build(seed: int = DEMO_SEED, as_of: date = DEMO_AS_OF) -> Company:
    """The company, its organisations with the properties of `PROPERTIES`, and its truth without billing."""
    b = _Alone(seed, as_of)
    stories.tell(b)
    population.populate(b)
    population.chatter(b)
    expect.finish(b)
    owners = {o.customer_id: o for o in b.organisations if o.customer_id}
    subscriptions: dict[str, list[Subscription]] = {}
    for subscription in b.subscriptions:
        if subscription.customer_id in owners:
            subscriptions.setdefault(owners[subscription.customer_id].id, []).append(subscription)
    shared: set[str] = set()
    for org in b.organisations:
        own = subscriptions.get(org.id, [])
        if _write(org, own, b.now):
            shared.add(org.id)
    renamed = {s.id: f"hubspot:{org_id}" for org_id, own in subscriptions.items() for s in own}
    for deal in b.records["deals"].values():
        named = deal.properties.get("subscription_id")
        deal.properties["subscription_id"] = renamed.get(named or "", named)
    account = b.hubspot_account()
    account.properties[ORGANISATION_OBJECT] += [
        {"name": name, "label": name.replace("_", " "), "type": kind, "fieldType": "text", "options": []}
        for name, (kind, _) in PROPERTIES.items()
    ]
    followed = {
        one.id
        for own in subscriptions.values()
        for one in own
        if any(other.started == _end(one, b.now) for other in own)
    }
    without_billing(b, renamed, shared, followed)
    return Company(seed, as_of, b.now, account, b.intercom, {}, b.truth)


def without_billing(b: Builder, renamed: dict[str, str], shared: set[str], followed: set[str]) -> None:
    """Turn the truth into what properties can tell.

    * A subscription is called after its organisation, ``hubspot:<id>``.
    * Of subscriptions that run side by side (`shared`) the properties hold the sum, so the lists that have a row for a
      subscription cannot tell one from the other; and the one that replaced another is not another, so where one was
      `followed` in the same instant nothing ended.
    * A duplicate that was merged before the first reading left nothing but its id.
    * A customer that only billing knows does not exist.
    * Without Intercom there is no list of interactions and no hint that somebody still writes.
    * Only the last day is built, so everybody at risk is flagged since that day; and the books of the company, which
      know all subscriptions, are not asked: the lists that stories state are compared.
    """
    lists = b.truth.lists
    for name in set(lists) - STATED:
        del lists[name]
    for row in lists["hub.organisations_at_risk"].rows:
        row |= {"first_flagged_on": b.as_of, "days_flagged": 0}
    organisations = lists["hub.organisations"]
    organisations.rows = [r for r in organisations.rows if not r["org_id"].startswith("billing:")]
    for name in ("hub.churn", "hub.churn_false_alarms", "hub.renewal_pipeline"):
        rows = lists[name].rows
        rows[:] = [
            {**row, "subscription_id": renamed.get(row["subscription_id"], row["subscription_id"])}
            for row in rows
            if row["org_id"] not in shared
            and row["subscription_id"] not in followed
            and row.get("false_alarm_reason") != "duplicate_org"
        ]
    for row in lists["hub.churn"].rows:
        row["review_hints"] = [hint for hint in row["review_hints"] if hint != "contacts_still_active"]
        row["verification"] = "needs_review" if row["review_hints"] else "confirmed"


def _write(org: Organisation, subscriptions: list[Subscription], now: datetime) -> bool:
    """Write the history of an organisation's properties; returns whether subscriptions ran side by side."""
    changes = [sorted(_changes(s, now), key=lambda c: c[0]) for s in subscriptions]
    spans = sorted((c[0][0], _end(s, now)) for s, c in zip(subscriptions, changes, strict=True))
    side_by_side = any(start < end for (_, end), (start, _) in pairwise(spans))
    current: list[dict[str, Any] | None] = [None] * len(subscriptions)
    shown: dict[str, str] = {}
    timeline = sorted(
        ((at, number, values) for number, own in enumerate(changes) for at, values in own),
        key=lambda item: (item[0], item[1]),
    )
    for position, (at, number, values) in enumerate(timeline):
        current[number] = values
        if position + 1 < len(timeline) and timeline[position + 1][0] == at:
            continue
        for name, value in _shown(subscriptions, current).items():
            if shown.get(name, "") != value:
                shown[name] = value
                _set(org, name, value, at)
    for name, versions in org.record.history.items():
        if name in PROPERTIES:
            org.record.properties[name] = versions[0]["value"] or None
    return side_by_side


def _set(org: Organisation, name: str, value: str, at: datetime) -> None:
    version = {"value": value, "timestamp": iso(at), "sourceType": "INTEGRATION", "sourceId": "billing-sync"}
    org.record.history.setdefault(name, []).insert(0, version)
    org.record.updated_at = max(org.record.updated_at, at)


def _end(subscription: Subscription, now: datetime) -> datetime:
    last = subscription.versions[-1][1]
    end = last.get("ended_at") or last.get("cancel_at")
    return end if end is not None and end <= now else datetime.max.replace(tzinfo=now.tzinfo)


def _changes(subscription: Subscription, now: datetime) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """Every state of a subscription with its term: its changes, the renewals of its term, its end."""
    months = INTERVALS[subscription.interval][0]
    end = min(_end(subscription, now), now)
    moments = {at for at, _, _ in subscription.versions}
    number = 0
    while (term := add_months(subscription.started, months * number)) < end:
        moments.add(term)
        number += 1
    last = subscription.versions[-1][1]
    if last["status"] != "canceled" and _end(subscription, now) <= now:
        moments.add(end)
    for at in moments:
        values = [v for moment, v, _ in subscription.versions if moment <= at][-1]
        if values["status"] != "canceled" and values.get("cancel_at") == at:
            values = {**values, "status": "canceled"}
        passed = max(n for n in range(number) if add_months(subscription.started, months * n) <= at)
        period = {
            "term_start": add_months(subscription.started, months * passed),
            "term_end": add_months(subscription.started, months * (passed + 1)),
        }
        yield at, {**values, **period}


def _shown(subscriptions: list[Subscription], current: list[dict[str, Any] | None]) -> dict[str, str]:
    """What the organisation's properties say: of what runs, else of what ended last."""
    told = [(s, v) for s, v in zip(subscriptions, current, strict=True) if v is not None]
    running = [(s, v) for s, v in told if v["status"] != "canceled"] or told[-1:]
    first, values = running[-1]
    if len(running) > 1:  # the customer stays while one of them runs
        values = {
            **values,
            "cancel_at": None,
            "cancel_requested_at": None,
            "cancel_reason": None,
            "cancel_comment": None,
        }
    mrr = sum(cents(_monthly(s, v)) for s, v in running)
    return {
        "paid_seats": str(sum(v["seats"] for _, v in running)),
        "monthly_revenue": str(mrr),
        "current_plan": values["plan"],
        "pays_every": _INTERVALS[first.interval],
        "customer_status": _STATUSES[values["status"]],
        "customer_since": iso(first.started),
        "churn_date": iso(values["cancel_at"]) if values.get("cancel_at") else "",
        "cancelled_on": str(int(values["cancel_requested_at"].timestamp() * 1000))
        if values.get("cancel_requested_at")
        else "",
        "churn_reason": values.get("cancel_reason") or "",
        "churn_comment": values.get("cancel_comment") or "",
        "term_began": values["term_start"].date().isoformat(),
        "renewal_date": values["term_end"].date().isoformat(),
    }


def _monthly(subscription: Subscription, values: dict[str, Any]) -> Decimal:
    return Decimal(values["amount_minor"]) / 100 / INTERVALS[subscription.interval][0]
