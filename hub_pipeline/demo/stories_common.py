"""Customers and contracts as most stories need them."""

from __future__ import annotations

from hub_pipeline.demo.builder import Builder, Organisation, Subscription, add_months
from hub_pipeline.demo.population import people


def customer(b: Builder, age: int = 420, contacts: int = 2, **properties: str) -> Organisation:
    """A customer of some age about which only its own story writes."""
    org = b.organisation(b.at(-age, 9, 20), properties=properties)
    b.quiet.add(org.id)
    people(b, org, contacts)
    return org


def child_of(b: Builder, parent: Organisation, age: int = 300, contacts: int = 2) -> Organisation:
    """An organisation below another one, with the same owner."""
    org = b.organisation(b.at(-age, 10, 5), parent=parent, owner=parent.owner)
    b.quiet.add(org.id)
    people(b, org, contacts)
    return org


def team(b: Builder, org: Organisation, seats: int, start: int = -400, price: int = 2000) -> Subscription:
    """A monthly team subscription at 20.00 a seat."""
    return b.subscription(org, b.at(start, 10), plan="team", seats=seats, amount_minor=price * seats)


def annual(
    b: Builder, org: Organisation, end: int, seats: int, yearly: int, plan: str = "business", years: int = 1
) -> Subscription:
    """An annual contract whose present term ends at offset `end`; `yearly` in whole dollars."""
    return b.subscription(
        org,
        add_months(b.at(end), -12 * years),
        plan=plan,
        seats=seats,
        interval="year",
        amount_minor=yearly * 100,
    )
