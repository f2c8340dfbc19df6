"""How a story writes down what the lists must say: its own few numbers, put into the rows of the truth.

Only arithmetic that a reader does in the head happens here (days between two dates, a price over twelve months, the
thresholds of tiers A8); which list an organisation is on, and why, is always stated by the story.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Literal

from hub_pipeline.demo.builder import (
    Builder,
    Contact,
    Deal,
    Organisation,
    Subscription,
    add_months,
    cents,
)

EUR_RATE = Decimal("1.10")
"""Dollars for a euro on as_of; the extract of rates holds the same number."""


_EUR_RATES = ("1.05", "1.07", "1.06", "1.09", "1.12", "1.08")


def fx_rates(b: Builder) -> list[tuple[date, str, str]]:
    """Euro rates of two years, monthly; the one of as_of's month is the rate of the truth, tomorrow's is not."""
    first = datetime.combine(b.as_of.replace(day=1), time(0), UTC)
    rates = [(add_months(first, -n).date(), "EUR", _EUR_RATES[n % len(_EUR_RATES)]) for n in range(26, 0, -1)]
    return [*rates, (first.date(), "EUR", str(EUR_RATE)), (b.day(1), "EUR", "1.25")]


def usd(subscription: Subscription) -> Decimal:
    """MRR of a subscription in dollars at the rate of as_of."""
    rate = EUR_RATE if subscription.values["currency"] == "EUR" else Decimal(1)
    return cents(subscription.mrr_native * rate)


def tier_of(mrr: Decimal, seats: int) -> str:
    """Tier of an account of this size (A8)."""
    if mrr >= 2000 or seats >= 200:
        return "A"
    return "B" if mrr >= 500 or seats >= 50 else "C"


def organisation(
    b: Builder,
    org: Organisation,
    state: str,
    *,
    seats: int = 0,
    mrr: Decimal | str = "0.00",
    tier: str | None = None,
) -> None:
    """The organisation's row; `tier` must be given where the account is more than this organisation."""
    amount = Decimal(mrr)
    tier = tier or tier_of(amount, seats)
    b.tiers[org.id] = tier
    b.truth.expect(
        "hub.organisations", org_id=org.id, name=org.name, state=state, seats=seats, mrr=amount, tier=tier
    )


def paying(b: Builder, org: Organisation, *subscriptions: Subscription, tier: str | None = None) -> None:
    """A paying organisation whose running subscriptions are these."""
    seats = sum(int(s.values["seats"]) for s in subscriptions)
    mrr = sum((usd(s) for s in subscriptions), Decimal(0))
    organisation(b, org, "paying", seats=seats, mrr=mrr, tier=tier)


def fast_growing(
    b: Builder,
    org: Organisation,
    *,
    now: int,
    baseline: int,
    kind: str = "window",
    transferred_in: int = 0,
    transferred_out: int = 0,
) -> None:
    """The organisation grew by at least twenty organic seats (A3 to A5)."""
    delta = now - baseline
    b.truth.expect(
        "hub.fast_growing_organisations",
        org_id=org.id,
        seats_now=now,
        seats_baseline=baseline,
        baseline_kind=kind,
        seat_delta=delta,
        seats_transferred_in=transferred_in,
        seats_transferred_out=transferred_out,
        organic_seat_delta=delta - transferred_in + transferred_out,
    )


def at_risk(
    b: Builder,
    org: Organisation,
    reasons: Sequence[str],
    *,
    seat_pct: str = "0",
    mrr_pct: str = "0",
    detractors: Sequence[Contact] = (),
    lowest_score: int | None = None,
    touched: bool = False,
    reasons_before: Sequence[str] | Literal["the same"] | None = "the same",
) -> None:
    """The organisation is at risk for these reasons, in the order of domain.md.

    `touched`: somebody met it since it is flagged. `reasons_before`: those of the day before, None when it was not
    at risk then.
    """
    since = b.day(0 if reasons_before is None else -1)
    b.truth.expect(
        "hub.organisations_at_risk",
        org_id=org.id,
        reasons=list(reasons),
        seat_contraction_pct=Decimal(seat_pct),
        mrr_contraction_pct=Decimal(mrr_pct),
        detractor_contacts=sorted(contact.id for contact in detractors),
        lowest_score=lowest_score,
        first_flagged_on=since,
        days_flagged=(b.as_of - since).days,
        is_untouched=not touched,
    )
    if reasons_before != "the same":
        before = None if reasons_before is None else ", ".join(reasons_before)
        change(b, "at_risk", org.id, org, before=before, after=", ".join(reasons))


def change(
    b: Builder, list_name: str, item_id: str, org: Organisation, *, before: str | None, after: str | None
) -> None:
    """An entry of a list that is new (nothing before), cleared (nothing after) or changed since the day before."""
    b.truth.expect(
        "hub.changes_since_yesterday",
        list=list_name,
        item_id=item_id,
        change="new" if before is None else "cleared" if after is None else "changed",
        org_id=org.id,
        name=org.name,
        owner_name=owner_name(org),
        previous_as_of=b.day(-1),
        before=before,
        after=after,
    )


def owner_name(org: Organisation) -> str:
    """Name of who owns the relationship."""
    return f"{org.owner.given} {org.owner.family}"


def churn(
    b: Builder,
    org: Organisation,
    subscription: Subscription,
    state: str,
    on: date,
    mrr: Decimal,
    *,
    kind: str = "voluntary",
    hints: Sequence[str] = (),
) -> None:
    """The subscription is on the churn list; hints ask for a review."""
    ended(b, org, state, on)
    b.truth.expect(
        "hub.churn",
        org_id=org.id,
        subscription_id=subscription.id,
        state=state,
        churn_date=on,
        days_until_churn=(on - b.as_of).days,
        churn_type=kind,
        mrr_at_risk=mrr,
        verification="needs_review" if hints else "confirmed",
        review_hints=list(hints),
    )


def ended(b: Builder, org: Organisation, state: str, on: date) -> None:
    """A paid subscription of it ended, will end, or seemed to; 400 days are looked back."""
    if (b.as_of - on).days < 400:
        b.churns.append((org.id, state, on))


def false_alarm(
    b: Builder,
    org: Organisation,
    subscription: Subscription,
    reason: str,
    on: date,
    *,
    kind: str = "voluntary",
) -> None:
    """The subscription's end is no churn, for this reason."""
    ended(b, org, "false_alarm", on)
    b.truth.expect(
        "hub.churn_false_alarms",
        org_id=org.id,
        subscription_id=subscription.id,
        state="false_alarm",
        churn_date=on,
        churn_type=kind,
        false_alarm_reason=reason,
    )


def renewal(
    b: Builder,
    org: Organisation,
    subscription: Subscription,
    status: str,
    renew_by: date,
    *,
    deal: Deal | None = None,
    stage: str | None = None,
    hygiene: Sequence[str] = (),
    scheduled_cancel: bool = False,
    won_days_ahead: int | None = None,
    yesterday: dict[str, Any] | Literal["the same"] | None = "the same",
) -> None:
    """The contract's row in the renewal pipeline; `stage` is the one as of as_of, if it changed since.

    `yesterday` has what was different the day before (status, stage, renew_by, deal, deal_amount, hygiene,
    scheduled_cancel), or is None when the contract was not in scope or did not run.
    """
    _renewal(
        b,
        org,
        subscription.id,
        status,
        renew_by,
        usd(subscription),
        deal=deal,
        stage=stage or (deal.stage if deal else None),
        hygiene=hygiene,
        scheduled_cancel=scheduled_cancel,
        won_days_ahead=won_days_ahead,
    )
    b.renewals[subscription.id] = (deal, yesterday)


def contract(
    b: Builder, org: Organisation, status: str, start: date, end: date, mrr: Decimal, *, seats: int
) -> None:
    """The row of a contract that only HubSpot knows, with its amount: it runs and renews like a subscription."""
    contract_id = f"contract:{org.id}:{start}"
    _renewal(b, org, contract_id, status, end, mrr)
    b.contracts.append((org, contract_id, start, end, mrr, seats))
    b.renewals[contract_id] = (None, "the same")


def _renewal(
    b: Builder,
    org: Organisation,
    contract_id: str,
    status: str,
    renew_by: date,
    mrr: Decimal,
    *,
    deal: Deal | None = None,
    stage: str | None = None,
    hygiene: Sequence[str] = (),
    scheduled_cancel: bool = False,
    won_days_ahead: int | None = None,
) -> None:
    days = (renew_by - b.as_of).days
    row: dict[str, Any] = {
        "org_id": org.id,
        "subscription_id": contract_id,
        "deal_id": deal.id if deal else None,
        "status": status,
        "timing": "upcoming" if days > 90 else "in_window" if days >= 0 else "overdue",
        "renew_by": renew_by,
        "days_to_renew_by": days,
        "mrr_at_stake": mrr,
        "scheduled_cancel": scheduled_cancel,
        "stage": stage,
        "hygiene": list(hygiene),
    }
    if status == "open":
        row["missed_lead_target"] = days < 90
    if won_days_ahead is not None:
        row["missed_lead_target"] = won_days_ahead < 90
    b.truth.expect("hub.renewal_pipeline", **row)


def interaction(
    b: Builder,
    conversation_id: str,
    org: Organisation,
    contact: Contact,
    last_contact: date,
    *,
    rating: int | None = None,
    dissatisfied: bool = False,
    escalate: bool = False,
    ambiguous: bool = False,
) -> None:
    """The conversation is on the list of tier A and B interactions; `finish` adds what only the end can tell."""
    row = b.truth.expect(
        "hub.tier_ab_interactions",
        conversation_id=conversation_id,
        org_id=org.id,
        tier=b.tiers[org.id],
        contact_id=contact.id,
        contact_name=contact.name,
        last_contact_on=last_contact,
        rating=rating,
        is_dissatisfied=dissatisfied,
        needs_escalation=escalate,
        attribution_ambiguous=ambiguous,
    )
    b.interactions.append((row, contact))


def finish(b: Builder) -> None:
    """Once everything was said and done: who was never met, and whose conversation was the first."""
    for row, contact in b.interactions:
        opened = b.opened[contact.id]
        row["is_unmet_contact"] = contact.id not in b.met
        row["is_first_conversation"] = opened[row["conversation_id"]] == min(opened.values())
