"""Stories of the demo company: each function is one thing that happens to a customer, and what must be said of it.

The expected rows are derived by hand from the rules named in the docstrings (A1 to A12 and the sections of the
domain), never from the models. D is as_of; offsets are days from D.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

from hub_pipeline.demo import expect, portal, stories_last_day, stories_people
from hub_pipeline.demo.account import ORGANISATION_OBJECT
from hub_pipeline.demo.builder import Builder, Deal, Invoicing, Organisation, Subscription, add_months, iso
from hub_pipeline.demo.population import people, renewal_deal
from hub_pipeline.demo.stories_common import annual, child_of, customer, team


def tell(b: Builder) -> None:
    """Every story, in a fixed order."""
    for story in (*STORIES, *stories_people.STORIES, *stories_last_day.STORIES):
        story(b)


# Growth ---------------------------------------------------------------------------------------------------------


def exactly_twenty_seats(b: Builder) -> None:
    """+20 qualifies (A3); the change sits on the first day of the window, D-89 (A4)."""
    org = customer(b)
    subscription = team(b, org, 30).change(b.at(-89, 0, 1), seats=50, amount_minor=100_000)
    expect.paying(b, org, subscription)
    expect.fast_growing(b, org, now=50, baseline=30)


def nineteen_seats(b: Builder) -> None:
    """+19 does not qualify (A3)."""
    org = customer(b)
    expect.paying(b, org, team(b, org, 30).change(b.at(-40, 9), seats=49, amount_minor=98_000))


def growth_on_the_baseline_day(b: Builder) -> None:
    """A jump in the last minute of D-90 is in the baseline, not in the growth (A4)."""
    org = customer(b)
    expect.paying(b, org, team(b, org, 12).change(b.at(-90, 23, 59), seats=45, amount_minor=90_000))
    expect.change(b, "fast_growing", org.id, org, before="fast growing", after=None)


def new_with_25_seats(b: Builder) -> None:
    """Bought 25 seats on day one, a month ago: new business, not growth (A5)."""
    org = customer(b, age=34)
    expect.paying(b, org, team(b, org, 25, start=-30))


def new_then_grew(b: Builder) -> None:
    """Bought 10 seats forty days ago and 24 more since: baseline is the first paid day (A5)."""
    org = customer(b, age=45)
    subscription = team(b, org, 10, start=-40).change(b.at(-9, 12), seats=34, amount_minor=68_000)
    expect.paying(b, org, subscription)
    expect.fast_growing(b, org, now=34, baseline=10, kind="first_day")


def two_teams_in_one_organisation(b: Builder) -> None:
    """Growth is the organisation's: one team shrinks by 10, another grows by 35, +25 in all."""
    org = customer(b)
    first, second = team(b, org, 30), team(b, org, 5, start=-380)
    first.change(b.at(-30, 9), seats=20, amount_minor=40_000)
    second.change(b.at(-25, 9), seats=40, amount_minor=80_000)
    expect.paying(b, org, first, second)
    expect.fast_growing(b, org, now=60, baseline=35)


def spike_that_went_away(b: Builder) -> None:
    """10 to 60 and back to 15 within the window is +5: levels are compared, not peaks (A4)."""
    org = customer(b)
    subscription = team(b, org, 10)
    subscription.change(b.at(-70, 9), seats=60, amount_minor=120_000)
    subscription.change(b.at(-40, 9), seats=15, amount_minor=30_000)
    expect.paying(b, org, subscription)


def seat_jump_after_closing_time(b: Builder) -> None:
    """A jump at 01:00 of the day after D is not yet true on D (4.0)."""
    org = customer(b)
    subscription = team(b, org, 12)
    expect.paying(b, org, subscription)
    subscription.change(b.at(1, 1), seats=60, amount_minor=120_000)


def large_and_growing(b: Builder) -> None:
    """Of tier A, and thirty seats more within the month."""
    org = customer(b, contacts=3)
    subscription = team(b, org, 120).change(b.at(-25, 9), seats=150, amount_minor=300_000)
    expect.paying(b, org, subscription)
    expect.fast_growing(b, org, now=150, baseline=120)


# Risk -----------------------------------------------------------------------------------------------------------


def seat_contraction(b: Builder) -> None:
    """25 to 20 seats is exactly 20 % and exactly 5 seats, at an unchanged price: high (A7)."""
    org = customer(b)
    subscription = team(b, org, 25).change(b.at(-35, 9), seats=20)
    expect.paying(b, org, subscription)
    expect.at_risk(b, org, ["seat_contraction"], seat_pct="0.2")


def mrr_contraction(b: Builder) -> None:
    """1,000 to 700 a month for the same 50 seats: 30 % and 300 (A7)."""
    org = customer(b)
    subscription = team(b, org, 50).change(b.at(-12, 9), amount_minor=70_000)
    expect.paying(b, org, subscription)
    expect.at_risk(b, org, ["mrr_contraction"], mrr_pct="0.3")


def mrr_contraction_at_its_limits(b: Builder) -> None:
    """500 to 400 a month is exactly 20 % and exactly 100: high; 500.00 to 400.01 is not (A7)."""
    high, not_high = customer(b), customer(b)
    subscription = team(b, high, 25).change(b.at(-18, 9), amount_minor=40_000)
    expect.paying(b, high, subscription)
    expect.at_risk(b, high, ["mrr_contraction"], mrr_pct="0.2")
    expect.paying(b, not_high, team(b, not_high, 25).change(b.at(-18, 9), amount_minor=40_001))


def contraction_of_both(b: Builder) -> None:
    """100 to 60 seats and 2,000 to 1,200: 40 % of both, a tier lower, the champion gone, the invoice unpaid."""
    org = customer(b)
    b.contact(org, is_champion="true", left_company_at=b.day(-66).isoformat())
    subscription = team(b, org, 100).change(b.at(-60, 9), seats=60, amount_minor=120_000)
    subscription.change(b.at(-45, 6), status="past_due")
    expect.paying(b, org, subscription)
    expect.at_risk(b, org, ["seat_contraction", "mrr_contraction"], seat_pct="0.4", mrr_pct="0.4")


def contraction_of_an_enterprise(b: Builder) -> None:
    """100 to 70 enterprise seats in mid-term; the renewal deal already has the new amount."""
    org = customer(b, contacts=3)
    contract = annual(b, org, 160, 100, 36_000, plan="enterprise")
    contract.change(b.at(-20, 9), seats=70, amount_minor=2_520_000)
    b.engagement("meetings", b.at(-15, 10), org.contacts[0], org.owner, "Why fewer seats?")
    deal = renewal_deal(b, org, contract, 160, stage="in_conversation")
    expect.paying(b, org, contract)
    expect.at_risk(b, org, ["seat_contraction", "mrr_contraction"], seat_pct="0.3", mrr_pct="0.3")
    expect.renewal(b, org, contract, "open", b.day(160), deal=deal)


def small_contraction(b: Builder) -> None:
    """10 to 8 seats is 20 %, but only 2 seats and 40 of MRR: noise (A7)."""
    org = customer(b)
    expect.paying(b, org, team(b, org, 10).change(b.at(-20, 9), seats=8, amount_minor=16_000))


def detractor(b: Builder) -> None:
    """9 in spring, 6 a month ago: the latest answer counts and 6 is a detractor; a colleague's 7 is not (A6)."""
    org = customer(b)
    unhappy, colleague = org.contacts
    b.survey(unhappy, b.at(-150, 10), 9)
    b.engagement("calls", b.at(-29, 15), unhappy, org.owner, "About your answer")
    b.survey(unhappy, b.at(-30, 10), 6, "Search got slower since the summer.")
    b.survey(colleague, b.at(-28, 10), 7)
    subscription = team(b, org, 14)
    expect.paying(b, org, subscription)
    expect.at_risk(b, org, ["nps_detractor"], detractors=[unhappy], lowest_score=6)


def detractor_and_contraction(b: Builder) -> None:
    """One row, three reasons, two detractors."""
    org = customer(b, contacts=3)
    b.survey(org.contacts[0], b.at(-40, 8), 2, "Too many outages, and nobody called.")
    b.survey(org.contacts[2], b.at(-179, 8), 5)
    subscription = team(b, org, 40).change(b.at(-21, 9), seats=30, amount_minor=60_000)
    expect.paying(b, org, subscription)
    expect.at_risk(
        b,
        org,
        ["seat_contraction", "mrr_contraction", "nps_detractor"],
        seat_pct="0.25",
        mrr_pct="0.25",
        detractors=[org.contacts[0], org.contacts[2]],
        lowest_score=2,
    )


def detractor_who_became_a_promoter(b: Builder) -> None:
    """3 in summer, 9 three weeks ago: a promoter now (A6)."""
    org = customer(b)
    b.survey(org.contacts[0], b.at(-100, 10), 3, "Onboarding was chaos.")
    b.survey(org.contacts[0], b.at(-20, 10), 9, "You listened. Thank you!")
    expect.paying(b, org, team(b, org, 16))


def detractor_of_half_a_year_ago(b: Builder) -> None:
    """Answered 1 on D-180: one day outside the look-back (A4, A6)."""
    org = customer(b)
    b.survey(org.contacts[0], b.at(-180, 23, 59), 1)
    expect.paying(b, org, team(b, org, 9))
    expect.change(b, "at_risk", org.id, org, before="nps_detractor", after=None)


def detractor_of_other_surveys(b: Builder) -> None:
    """HubSpot calls a CSAT 0 and a CES 2 detractors as well; neither is NPS."""
    org = customer(b)
    b.survey(org.contacts[0], b.at(-11, 10), 0, "Not helpful.", survey="CSAT")
    b.survey(org.contacts[1], b.at(-10, 10), 2, "Hard.", survey="CES")
    expect.paying(b, org, team(b, org, 21))


def detractor_of_two_organisations(b: Builder) -> None:
    """A consultant in two organisations, neither primary: both are flagged (attribution rule, R08)."""
    one, two = customer(b), customer(b)
    consultant = b.contact(one, two, created=b.at(-200, 9))
    b.survey(consultant, b.at(-15, 14), 1, "Pricing is not fair to small teams.")
    for org, seats in ((one, 10), (two, 12)):
        expect.paying(b, org, team(b, org, seats))
        expect.at_risk(b, org, ["nps_detractor"], detractors=[consultant], lowest_score=1)


def detractor_with_a_primary_organisation(b: Builder) -> None:
    """Two memberships, one labelled Primary: only that one is flagged (attribution rule)."""
    main, side = customer(b), customer(b)
    person = b.contact(side, main, created=b.at(-200, 9), primary=main)
    b.survey(person, b.at(-17, 14), 4)
    expect.paying(b, main, team(b, main, 33))
    expect.paying(b, side, team(b, side, 6))
    expect.at_risk(b, main, ["nps_detractor"], detractors=[person], lowest_score=4)


def detractor_who_is_no_customer(b: Builder) -> None:
    """A detractor of an organisation that left long ago: only customers can be at risk."""
    org = customer(b, age=700)
    team(b, org, 8, start=-690).cancel(b.at(-470, 9), b.at(-450))
    b.survey(org.contacts[0], b.at(-33, 10), 0)
    b.left.add(org.id)
    expect.organisation(b, org, "churned")


def bad_answer_after_closing_time(b: Builder) -> None:
    """Answered 2 at 01:00 of the day after D: a promoter on D."""
    org = customer(b)
    b.survey(org.contacts[0], b.at(-50, 10), 10)
    b.survey(org.contacts[0], b.at(1, 1), 2, "What happened last night?")
    expect.paying(b, org, team(b, org, 19))


# Churn ----------------------------------------------------------------------------------------------------------


def moved_to_enterprise(b: Builder) -> None:
    """Self-serve cancelled on D-40, an enterprise subscription since D-30: moved to a custom plan (C04).

    Seats were 0 in between, so the 60 seats are a first day and not growth (A5).
    """
    org = customer(b)
    old = team(b, org, 40).cancel(b.at(-41, 15), b.at(-40), "other", "Moving to your enterprise plan.")
    new = b.subscription(org, b.at(-30), plan="enterprise", seats=60, interval="year", amount_minor=1_800_000)
    expect.paying(b, org, new)
    expect.false_alarm(b, org, old, "moved_to_custom", b.day(-40))
    expect.renewal(b, org, new, "no_deal", add_months(b.at(-30), 12).date())


def moved_to_a_contract_known_to_the_crm(b: Builder) -> None:
    """Cancelled on D-110; since then a custom contract that only HubSpot knows (C05)."""
    org = customer(
        b,
        custom_contract_kind="custom",
        custom_contract_start=b.day(-110).isoformat(),
        custom_contract_end=b.day(255).isoformat(),
    )
    old = team(b, org, 40).cancel(b.at(-118, 15), b.at(-110), "other", "We signed the contract with Lena.")
    expect.organisation(b, org, "custom_off_billing")
    expect.false_alarm(b, org, old, "moved_to_custom", b.day(-110))


def custom_contract_with_an_amount(b: Builder) -> None:
    """A contract invoiced by hand with its MRR in HubSpot counts like a paid plan (settled 16)."""
    org = customer(
        b,
        custom_contract_kind="enterprise",
        custom_contract_start=b.day(-200).isoformat(),
        custom_contract_end=b.day(165).isoformat(),
        custom_contract_amount="2400",
        custom_contract_seats="120",
    )
    expect.organisation(b, org, "paying", seats=120, mrr="2400.00")
    expect.contract(b, org, "missing", b.day(-200), b.day(165), Decimal("2400.00"), seats=120)


def moved_to_the_joint_plan_of_the_parent(b: Builder) -> None:
    """Child's 40 seats end on D-30 and are paid by the parent from then on: no churn, and no growth of the parent.

    The parent rises from 100 to 140 seats by transfer, 0 organic seats (C06, G07); the child is covered.
    """
    parent = customer(b, contacts=3)
    payer = annual(b, parent, 120, 100, 24_000, plan="enterprise", years=2)
    payer.change(b.at(-30), seats=140, amount_minor=3_360_000)
    child = child_of(b, parent)
    child.record.properties |= {
        "joint_plan_payer_id": parent.id,
        "joint_plan_since": b.day(-30).isoformat(),
        "joint_plan_seats": "40",
    }
    old = team(b, child, 40, start=-280).cancel(
        b.at(-46, 10), b.at(-30), "other", "Headquarters pays from now on."
    )
    expect.paying(b, parent, payer, tier="A")
    expect.organisation(b, child, "covered", tier="A")
    expect.false_alarm(b, child, old, "moved_to_parent", b.day(-30))
    deal = renewal_deal(b, parent, payer, 120, created=-20, stage="in_conversation")
    expect.renewal(b, parent, payer, "open", b.day(120), deal=deal)


def covered_by_a_partner_and_unhappy(b: Builder) -> None:
    """A partner that is no parent pays for the 20 seats since D-25; a detractor there still needs attention.

    What moved to the payer is neither a contraction of the covered organisation nor growth of the payer.
    """
    payer, covered = customer(b, contacts=3), customer(b, age=310)
    plan = team(b, payer, 60).change(b.at(-25), seats=80, amount_minor=160_000)
    covered.record.properties |= {
        "joint_plan_payer_id": payer.id,
        "joint_plan_since": b.day(-25).isoformat(),
        "joint_plan_seats": "20",
    }
    old = team(b, covered, 20, start=-290).cancel(b.at(-29, 10), b.at(-25), "other")
    b.survey(covered.contacts[0], b.at(-19, 9), 4, "We lost our own administrator.")
    expect.paying(b, payer, plan)
    expect.organisation(b, covered, "covered")
    expect.false_alarm(b, covered, old, "moved_to_parent", b.day(-25))
    expect.at_risk(b, covered, ["nps_detractor"], detractors=[covered.contacts[0]], lowest_score=4)


def growth_beside_a_transfer(b: Builder) -> None:
    """The payer takes over 10 seats and buys 25 more: 25 organic seats are growth."""
    parent = customer(b, contacts=3)
    payer = team(b, parent, 60)
    payer.change(b.at(-50), seats=95, amount_minor=190_000)
    child = child_of(b, parent)
    child.record.properties |= {
        "joint_plan_payer_id": parent.id,
        "joint_plan_since": b.day(-50).isoformat(),
        "joint_plan_seats": "10",
    }
    old = team(b, child, 10, start=-280).cancel(b.at(-53, 10), b.at(-50), "other")
    expect.paying(b, parent, payer, tier="B")
    expect.organisation(b, child, "covered", tier="B")
    expect.false_alarm(b, child, old, "moved_to_parent", b.day(-50))
    expect.fast_growing(b, parent, now=95, baseline=60, transferred_in=10)


def contraction_beside_a_transfer(b: Builder) -> None:
    """The payer took over 10 seats and gave up 30 of its own 100: 30 % of seats and of MRR are lost, not 20 %."""
    parent = customer(b, contacts=3)
    payer = team(b, parent, 100)
    payer.change(b.at(-50), seats=110, amount_minor=220_000)
    payer.change(b.at(-20, 9), seats=80, amount_minor=160_000)
    child = child_of(b, parent)
    child.record.properties |= {
        "joint_plan_payer_id": parent.id,
        "joint_plan_since": b.day(-50).isoformat(),
        "joint_plan_seats": "10",
    }
    old = team(b, child, 10, start=-280).cancel(b.at(-53, 10), b.at(-50), "other")
    expect.paying(b, parent, payer, tier="B")
    expect.organisation(b, child, "covered", tier="B")
    expect.false_alarm(b, child, old, "moved_to_parent", b.day(-50))
    expect.at_risk(b, parent, ["seat_contraction", "mrr_contraction"], seat_pct="0.3", mrr_pct="0.3")


def churn_scheduled_months_ahead(b: Builder) -> None:
    """An annual contract cancelled forty days ago, running for five more months: scheduled, still paying (C01)."""
    org = customer(b)
    subscription = annual(b, org, 150, 60, 12_000)
    subscription.cancel(b.at(-40, 12), b.at(150), "switched_service", "Consolidating tools.")
    expect.paying(b, org, subscription)
    expect.churn(b, org, subscription, "scheduled", b.day(150), Decimal("1000.00"))
    expect.renewal(b, org, subscription, "no_deal", b.day(150), scheduled_cancel=True)


def true_churn(b: Builder) -> None:
    """Cancelled at once in the afternoon of D-12, with a reason; nobody else pays."""
    org = customer(b)
    subscription = team(b, org, 45)
    subscription.change(
        b.at(-12, 15),
        status="canceled",
        cancel_at=b.at(-12, 15),
        ended_at=b.at(-12, 15),
        cancel_requested_at=b.at(-12, 15),
        cancel_reason="missing_features",
        cancel_comment="We need on-premises hosting.",
        cancel_kind="voluntary",
    )
    b.left.add(org.id)
    expect.organisation(b, org, "churned")
    expect.churn(b, org, subscription, "churned", b.day(-12), Decimal("900.00"))


def churn_at_the_edge_of_the_view(b: Builder) -> None:
    """Ended on D-89: on the list; ended on D-90: no longer recent (A4)."""
    for offset in (-89, -90):
        org = customer(b)
        subscription = team(b, org, 10).cancel(b.at(offset - 20, 9), b.at(offset), "unused")
        b.left.add(org.id)
        expect.organisation(b, org, "churned")
        if offset == -89:
            expect.churn(b, org, subscription, "churned", b.day(offset), Decimal("200.00"))
        else:
            expect.ended(b, org, "churned", b.day(offset))
            b.churn_before[org.id] = True


def churn_by_unpaid_invoice(b: Builder) -> None:
    """The card failed for weeks and the subscription went unpaid on D-18: involuntary churn."""
    org = customer(b)
    subscription = team(b, org, 7).change(b.at(-46, 6), status="past_due")
    subscription.change(b.at(-18, 6), status="unpaid", cancel_kind="involuntary")
    b.left.add(org.id)
    expect.organisation(b, org, "churned")
    expect.churn(b, org, subscription, "churned", b.day(-18), Decimal("140.00"), kind="involuntary")


def churn_to_the_free_plan(b: Builder) -> None:
    """Went on with the free plan two weeks ago: six seats, no money, and a churn all the same."""
    org = customer(b)
    subscription = team(b, org, 6).change(b.at(-14), plan="free", amount_minor=0)
    b.left.add(org.id)
    expect.organisation(b, org, "churned", seats=6)
    expect.churn(b, org, subscription, "churned", b.day(-14), Decimal("120.00"), kind="to_free")


def churn_with_a_paying_parent(b: Builder) -> None:
    """Child ended on D-25, the parent pays, but nobody recorded a joint plan: churned, needs review (C07)."""
    parent = customer(b)
    payer = team(b, parent, 26)
    child = child_of(b, parent)
    old = team(b, child, 15, start=-290).cancel(b.at(-31, 10), b.at(-25), "other")
    expect.paying(b, parent, payer, tier="B")
    expect.organisation(b, child, "churned", tier="B")
    expect.churn(b, child, old, "churned", b.day(-25), Decimal("300.00"), hints=["parent_is_paying"])


def churn_with_an_enterprise_deal(b: Builder) -> None:
    """Ends in a month while sales negotiates an enterprise plan: scheduled, needs review (C16)."""
    org = customer(b)
    subscription = team(b, org, 40).cancel(b.at(-6, 9), b.at(30), "other")
    made = b.at(-27, 9)
    b.deal(
        org,
        name=f"{org.name} enterprise",
        pipeline="default",
        stages=[(made, "appointmentscheduled"), (b.at(-14, 9), "contractsent")],
        close_dates=[(made, b.at(25, 12))],
        deal_type="newbusiness",
        amount="1500",
        owner=portal.SALES_TOMAS,
        plan="enterprise",
        next_activity=b.at(3, 9),
        contact=org.contacts[0],
    )
    expect.paying(b, org, subscription)
    expect.churn(
        b, org, subscription, "scheduled", b.day(30), Decimal("800.00"), hints=["enterprise_deal_in_crm"]
    )


def churn_beside_a_colleague_who_pays(b: Builder) -> None:
    """Ended on D-9, but another organisation with the same e-mail domain pays: churned, needs review."""
    other = customer(b)
    expect.paying(b, other, team(b, other, 24))
    org = b.organisation(b.at(-330, 9), domain=other.domain)
    b.quiet.add(org.id)
    people(b, org, 1)
    subscription = team(b, org, 9, start=-320).cancel(b.at(-16, 9), b.at(-9), "unused")
    b.left.add(org.id)
    expect.organisation(b, org, "churned")
    expect.churn(
        b,
        org,
        subscription,
        "churned",
        b.day(-9),
        Decimal("180.00"),
        hints=["same_domain_as_paying_org"],
    )


def churn_long_ago_that_needs_review(b: Builder) -> None:
    """Ended on D-200, outside the ninety days of the view, but an enterprise deal was won: still to be reviewed."""
    org = customer(b, age=600)
    subscription = team(b, org, 22, start=-590).cancel(b.at(-206, 9), b.at(-200), "other")
    made, won = b.at(-240, 9), b.at(-150, 14)
    b.deal(
        org,
        name=f"{org.name} enterprise",
        pipeline="default",
        stages=[(made, "appointmentscheduled"), (won, "closedwon")],
        close_dates=[(made, b.at(-170, 12)), (won, won)],
        deal_type="newbusiness",
        amount="1200",
        owner=portal.SALES_LENA,
        plan="enterprise",
        contact=org.contacts[0],
    )
    b.left.add(org.id)
    expect.organisation(b, org, "churned")
    expect.churn(
        b, org, subscription, "churned", b.day(-200), Decimal("440.00"), hints=["enterprise_deal_in_crm"]
    )


def churn_whose_people_still_write(b: Builder) -> None:
    """Ended on D-33, but a contact still wrote in the messenger on D-5: churned, needs review."""
    org = customer(b)
    subscription = team(b, org, 13).cancel(b.at(-37, 9), b.at(-33), "other")
    b.conversation(
        org.contacts[0],
        [("contact", b.at(-5, 11)), ("admin", b.at(-5, 12))],
        title="Where did our pages go?",
        organisation=org,
    )
    b.left.add(org.id)
    expect.organisation(b, org, "churned")
    expect.churn(
        b, org, subscription, "churned", b.day(-33), Decimal("260.00"), hints=["contacts_still_active"]
    )


def cancellation_withdrawn(b: Builder) -> None:
    """Asked to end on D+15, changed their mind a month ago: a false alarm, dated by the withdrawn end (C08)."""
    org = customer(b)
    subscription = team(b, org, 18).cancel(b.at(-50, 9), b.at(15), "too_expensive")
    subscription.change(
        b.at(-31, 16),
        cancel_at=None,
        cancel_requested_at=None,
        cancel_reason=None,
        cancel_comment=None,
        cancel_kind=None,
    )
    expect.paying(b, org, subscription)
    expect.false_alarm(b, org, subscription, "cancellation_reverted", b.day(15))


def resubscribed(b: Builder) -> None:
    """A card expired: ended on D-45, a new subscription of the same size twenty days later (C10)."""
    org = customer(b)
    old = team(b, org, 6).cancel(b.at(-47, 22), b.at(-45), "other")
    new = team(b, org, 6, start=-25)
    expect.paying(b, org, new)
    expect.false_alarm(b, org, old, "resubscribed", b.day(-45))


def unpaid_and_back(b: Builder) -> None:
    """The card failed until the subscription went unpaid on D-40 and was closed a week later; a new one with another
    card on D-27.
    """
    org = customer(b)
    old = team(b, org, 8).change(b.at(-60, 6), status="past_due")
    old.change(b.at(-40, 6), status="unpaid", cancel_kind="involuntary")
    old.change(b.at(-33, 6), status="canceled", cancel_at=b.at(-33, 6), ended_at=b.at(-33, 6))
    new = team(b, org, 8, start=-27)
    expect.paying(b, org, new)
    expect.false_alarm(b, org, old, "resubscribed", b.day(-40), kind="involuntary")


def back_on_the_last_day_and_a_day_late(b: Builder) -> None:
    """A gap of exactly 31 days is a false alarm, one of 32 a reactivation (A10)."""
    for start in (-29, -28):
        org = customer(b)
        old = team(b, org, 6).cancel(b.at(-66, 9), b.at(-60), "other")
        new = b.subscription(org, b.at(start), plan="team", seats=6, amount_minor=12_000)
        expect.paying(b, org, new)
        if start == -29:
            expect.false_alarm(b, org, old, "resubscribed", b.day(-60))
        else:
            expect.ended(b, org, "reactivated", b.day(-60))


def back_after_two_months(b: Builder) -> None:
    """A gap of 61 days is more than 31: reactivated, on neither list (A10, C09)."""
    org = customer(b)
    team(b, org, 5).cancel(b.at(-86, 9), b.at(-81), "other")
    expect.paying(b, org, team(b, org, 8, start=-20))
    expect.ended(b, org, "reactivated", b.day(-81))


def partial_cancellation(b: Builder) -> None:
    """One of two subscriptions ends: a contraction of 25 %, not a churn (C14)."""
    org = customer(b)
    stays, ends = team(b, org, 30), team(b, org, 10, start=-390)
    ends.cancel(b.at(-26, 9), b.at(-24), "other")
    expect.paying(b, org, stays)
    expect.false_alarm(b, org, ends, "other_subscription_active", b.day(-24))
    expect.at_risk(b, org, ["seat_contraction", "mrr_contraction"], seat_pct="0.25", mrr_pct="0.25")


def duplicate_merged_away(b: Builder) -> None:
    """Two records of one customer were merged; the duplicate's small subscription ended: no churn (C13).

    33 to 30 seats is 9 %: no contraction to speak of.
    """
    org = customer(b)
    loser_id = b.new_id(ORGANISATION_OBJECT)
    org.record.merged_ids.append(loser_id)
    kept = team(b, org, 30)
    duplicate = b.customer(
        org, b.at(-380, 9), reference=loser_id, name=f"{org.name} (old account)", email=f"office@{org.domain}"
    )
    gone = b.subscription(
        org, b.at(-380, 9), plan="team", seats=3, amount_minor=6000, customer_id=duplicate
    ).cancel(b.at(-22, 9), b.at(-20), "other")
    expect.paying(b, org, kept)
    expect.false_alarm(b, org, gone, "duplicate_org", b.day(-20))


def paused_after_years(b: Builder) -> None:
    """Paused on D-20: neither churn nor contraction, and elsewhere than at risk (R14)."""
    org = customer(b)
    team(b, org, 50).change(b.at(-20, 9), status="paused")
    expect.organisation(b, org, "paused")


# Renewals -------------------------------------------------------------------------------------------------------


def annual_amount_in_a_deal(b: Builder) -> None:
    """12,000 typed where 1,000 a month belongs; the stake still comes from billing (P07)."""
    org = customer(b)
    contract = annual(b, org, 90, 50, 12_000)
    deal = renewal_deal(b, org, contract, 90, stage="contract_sent", amount="12000")
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(90), deal=deal, hygiene=["amount_looks_annual"])


def two_years_in_a_deal(b: Builder) -> None:
    """24 times the MRR looks like two years."""
    org = customer(b)
    contract = annual(b, org, 100, 40, 9_600)
    deal = renewal_deal(b, org, contract, 100, amount="19200")
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(100), deal=deal, hygiene=["amount_looks_multi_year"])


def renewal_nobody_made_a_deal_for(b: Builder) -> None:
    """Term ends in exactly 180 days and the only deal was archived: missing (P08)."""
    org = customer(b)
    contract = annual(b, org, 180, 70, 16_800)
    archived = renewal_deal(b, org, contract, 180)
    b.archive("deals", archived.id, b.at(-5, 9))
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "missing", b.day(180), yesterday={"status": "no_deal"})


def renewal_a_day_too_far(b: Builder) -> None:
    """Term ends in 181 days: no deal yet, and none is missing (P08)."""
    org = customer(b)
    contract = annual(b, org, 181, 70, 16_800)
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "no_deal", b.day(181))


def duplicate_renewal_deals(b: Builder) -> None:
    """Two open deals for one contract: the nearer one is shown, once (P10)."""
    org = customer(b)
    contract = annual(b, org, 89, 50, 12_000)
    nearer = renewal_deal(b, org, contract, 89, stage="negotiation")
    renewal_deal(b, org, contract, 93, name=f"{org.name} renewal (copy)")
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(89), deal=nearer, hygiene=["duplicate_open_renewal_deal"])


def _closed_renewal(
    b: Builder, org: Organisation, contract: Subscription, due: int, closed: int, stage: str, amount: str
) -> Deal:
    """A renewal deal due at offset `due`; HubSpot overwrote the close date when it was closed."""
    made, done = b.at(closed - 70, 9), b.at(closed, 10)
    return b.deal(
        org,
        name=f"{org.name} renewal",
        pipeline="post_sales",
        stages=[(made, "renewal_planned"), (done - timedelta(days=12), "contract_sent"), (done, stage)],
        close_dates=[(made, b.at(due, 12)), (done, done)],
        deal_type="renewal",
        amount=amount,
        plan="business",
        next_activity=b.at(15, 9) if stage == "renewed" else None,
        contact=org.contacts[0],
        subscription=contract,
    )


def renewed_early(b: Builder) -> None:
    """Won on D-10, 100 days before the date it was due: renew-by comes from the close date's history (P09)."""
    org = customer(b)
    contract = annual(b, org, 90, 50, 12_000)
    deal = _closed_renewal(b, org, contract, 90, -10, "renewed", "1300")
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "renewed", b.day(90), deal=deal, won_days_ahead=100)


def renewed_late(b: Builder) -> None:
    """Won 40 days ahead of renew-by: renewed, but the lead target of 90 days was missed."""
    org = customer(b)
    contract = annual(b, org, 33, 45, 10_800)
    deal = _closed_renewal(b, org, contract, 33, -7, "renewed", "900")
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "renewed", b.day(33), deal=deal, won_days_ahead=40)


def lost_early(b: Builder) -> None:
    """They said no two months early and cancelled: lost, and a scheduled churn."""
    org = customer(b)
    contract = annual(b, org, 55, 48, 11_520)
    contract.cancel(b.at(-8, 14), b.at(55), "switched_service")
    deal = _closed_renewal(b, org, contract, 55, -8, "not_renewed", "960")
    expect.paying(b, org, contract)
    expect.churn(b, org, contract, "scheduled", b.day(55), Decimal("960.00"))
    expect.renewal(b, org, contract, "lost", b.day(55), deal=deal, scheduled_cancel=True)


def overdue_renewal(b: Builder) -> None:
    """The close date passed five days ago, the term ends tomorrow, and nobody touched the deal."""
    org = customer(b)
    contract = annual(b, org, 1, 52, 12_480)
    deal = renewal_deal(b, org, contract, -5, stage="contract_sent", activity=False)
    expect.paying(b, org, contract)
    expect.renewal(
        b,
        org,
        contract,
        "open",
        b.day(-5),
        deal=deal,
        hygiene=["close_date_past_open", "no_next_activity"],
    )


def close_date_that_does_not_match(b: Builder) -> None:
    """The deal closes 30 days after the term ends: matched within 45 days, but more than 7 apart."""
    org = customer(b)
    contract = annual(b, org, 70, 61, 14_640)
    deal = renewal_deal(b, org, contract, 100)
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(100), deal=deal, hygiene=["close_date_mismatch"])


def close_dates_at_their_limits(b: Builder) -> None:
    """Eight days apart is a mismatch, 45 days still match, 46 do not: the contract is missing a deal.

    The deal that matches nothing is an orphan, out of scope and so on no list.
    """
    for apart in (8, 45, 46):
        org = customer(b)
        contract = annual(b, org, 100, 59, 14_160)
        deal = renewal_deal(b, org, contract, 100 + apart)
        expect.paying(b, org, contract)
        if apart == 46:
            expect.renewal(b, org, contract, "missing", b.day(100))
        else:
            expect.renewal(
                b, org, contract, "open", b.day(100 + apart), deal=deal, hygiene=["close_date_mismatch"]
            )


def deal_left_at_its_default(b: Builder) -> None:
    """Close date is HubSpot's default, the end of the month of creation, long past and far from the term's end.

    Only the explicit subscription ties the deal to the contract.
    """
    org = customer(b)
    contract = annual(b, org, 140, 58, 13_920)
    made = b.at(-58, 9)
    month_end = (made.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    offset = (month_end.date() - b.as_of).days
    deal = renewal_deal(b, org, contract, offset, created=-58, linked=True)
    expect.paying(b, org, contract)
    expect.renewal(
        b,
        org,
        contract,
        "open",
        b.day(offset),
        deal=deal,
        hygiene=["close_date_mismatch", "close_date_past_open", "close_date_is_default"],
    )


def deal_of_a_colleague_who_left(b: Builder) -> None:
    """The owner's account is deactivated."""
    org = customer(b)
    contract = annual(b, org, 110, 44, 10_560)
    deal = renewal_deal(b, org, contract, 110, owner=portal.CSM_GONE)
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(110), deal=deal, hygiene=["owner_inactive"])


def deal_without_owner_or_amount(b: Builder) -> None:
    """Nobody owns it and nobody typed an amount."""
    org = customer(b)
    contract = annual(b, org, 125, 47, 11_280)
    deal = renewal_deal(b, org, contract, 125, amount=None, has_owner=False)
    expect.paying(b, org, contract)
    expect.renewal(
        b, org, contract, "open", b.day(125), deal=deal, hygiene=["amount_missing", "owner_missing"]
    )


def deal_without_a_close_date(b: Builder) -> None:
    """Only the explicit subscription ties it to the contract; renew-by is the end of the term."""
    org = customer(b)
    contract = annual(b, org, 115, 57, 13_680)
    deal = b.deal(
        org,
        name=f"{org.name} renewal",
        pipeline="post_sales",
        stages=[(b.at(-38, 9), "renewal_planned")],
        close_dates=[],
        deal_type="renewal",
        amount="1140",
        plan="business",
        subscription=contract,
        next_activity=b.at(7, 9),
        contact=org.contacts[0],
    )
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(115), deal=deal, hygiene=["close_date_missing"])


def deal_of_another_currency(b: Builder) -> None:
    """Billed in dollars, sold in euros."""
    org = customer(b)
    contract = annual(b, org, 98, 65, 15_600)
    deal = renewal_deal(b, org, contract, 98, currency="EUR")
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(98), deal=deal, hygiene=["currency_mismatch"])


def deal_in_a_stage_nobody_mapped(b: Builder) -> None:
    """Legal hold is not one of the stages the settings name."""
    org = customer(b)
    contract = annual(b, org, 118, 66, 15_840)
    deal = renewal_deal(b, org, contract, 118, stage="legal_hold")
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(118), deal=deal, hygiene=["stage_unknown"])


def deal_worth_twice_as_much(b: Builder) -> None:
    """2.5 times the MRR is neither the contract nor a year of it."""
    org = customer(b)
    contract = annual(b, org, 102, 34, 8_160)
    deal = renewal_deal(b, org, contract, 102, amount="1700")
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(102), deal=deal, hygiene=["amount_mismatch"])


def deal_for_nothing(b: Builder) -> None:
    """Somebody typed 0 so that the form would let go."""
    org = customer(b)
    contract = annual(b, org, 122, 39, 9_360)
    deal = renewal_deal(b, org, contract, 122, amount="0")
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(122), deal=deal, hygiene=["amount_not_positive"])


def deal_that_was_forgotten(b: Builder) -> None:
    """The term ended three weeks ago and billing went on with another one; the deal about it is still open.

    It names the subscription, so it is shown with it, with everything that is wrong with its date.
    """
    org = customer(b)
    contract = annual(b, org, -21, 36, 8_640, years=2)
    deal = renewal_deal(b, org, contract, -21, created=-100, linked=True)
    expect.paying(b, org, contract)
    expect.renewal(
        b,
        org,
        contract,
        "open",
        b.day(-21),
        deal=deal,
        hygiene=["close_date_mismatch", "close_date_past_open", "billed_but_deal_open"],
    )


def lost_but_they_stayed(b: Builder) -> None:
    """The renewal was written off in September, the term ended this month, and they pay for another year."""
    org = customer(b)
    contract = annual(b, org, -16, 55, 13_200, years=2)
    _closed_renewal(b, org, contract, -16, -40, "not_renewed", "1100")
    expect.paying(b, org, contract)
    expect.renewal(
        b,
        org,
        contract,
        "no_deal",
        add_months(contract.started, 36).date(),
        hygiene=["lost_but_still_billed"],
    )


def renewal_won_after_closing_time(b: Builder) -> None:
    """Won at 01:00 of the day after D, which overwrote close date and stage: still open on D (settled 4)."""
    org = customer(b)
    contract = annual(b, org, 60, 54, 12_960)
    made, won = b.at(-75, 9), b.at(1, 1)
    deal = b.deal(
        org,
        name=f"{org.name} renewal",
        pipeline="post_sales",
        stages=[(made, "renewal_planned"), (b.at(-30, 9), "negotiation"), (won, "renewed")],
        close_dates=[(made, b.at(60, 12)), (won, won)],
        deal_type="renewal",
        amount="1080",
        plan="business",
        next_activity=b.at(9, 9),
        contact=org.contacts[0],
    )
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(60), deal=deal, stage="negotiation")


def exactly_500(b: Builder) -> None:
    """6,000.00 a year is 500.00 a month, not over 500 (A2); 6,000.12 is 500.01 and in (P01)."""
    at_limit, over = customer(b), customer(b)
    first = annual(b, at_limit, 88, 50, 6_000)
    second = b.subscription(
        over,
        add_months(b.at(88), -12),
        plan="business",
        seats=49,
        interval="year",
        amount_minor=600_012,
    )
    expect.paying(b, at_limit, first)
    expect.organisation(b, over, "paying", seats=49, mrr="500.01")
    expect.renewal(b, over, second, "missing", b.day(88))


def monthly_enterprise(b: Builder) -> None:
    """Enterprise is in scope whatever its term (A1); its month ends in 13 days and nobody has a deal for it."""
    org = customer(b)
    contract = b.subscription(
        org, add_months(b.at(13), -12), plan="enterprise", seats=30, amount_minor=90_000
    )
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "missing", b.day(13))


def two_year_contract(b: Builder) -> None:
    """24,000 for two years are 1,000 a month; the term ends in 430 days."""
    org = customer(b)
    start = add_months(b.at(430), -24)
    contract = b.subscription(
        org, start, plan="business", seats=50, interval="two_years", amount_minor=2_400_000
    )
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "no_deal", b.day(430))


def orphan_deal(b: Builder) -> None:
    """An open renewal deal of an organisation that never had a subscription: out of scope, so on no list."""
    org = customer(b, age=200)
    made = b.at(-60, 9)
    b.deal(
        org,
        name=f"{org.name} renewal",
        pipeline="post_sales",
        stages=[(made, "renewal_planned")],
        close_dates=[(made, b.at(75, 12))],
        deal_type="renewal",
        amount="750",
        plan="business",
        next_activity=b.at(8, 9),
        contact=org.contacts[0],
    )
    expect.organisation(b, org, "never_paid")


def upsell_in_progress(b: Builder) -> None:
    """A fast growing organisation with an open upsell deal: upsells are no renewals."""
    org = customer(b)
    subscription = team(b, org, 20).change(b.at(-33, 9), seats=46, amount_minor=92_000)
    made = b.at(-28, 9)
    b.deal(
        org,
        name=f"{org.name} upsell",
        pipeline="post_sales",
        stages=[(made, "in_conversation")],
        close_dates=[(made, b.at(35, 12))],
        deal_type="upsell",
        amount="300",
        plan="business",
        next_activity=b.at(2, 9),
        contact=org.contacts[0],
    )
    expect.paying(b, org, subscription)
    expect.fast_growing(b, org, now=46, baseline=20)


# Interactions ---------------------------------------------------------------------------------------------------


def _large(b: Builder, contacts: int = 2, seats: int = 120) -> Organisation:
    """A monthly customer of tier A: 120 seats at 20.00 are 2,400."""
    org = customer(b, contacts=contacts)
    expect.paying(b, org, team(b, org, seats))
    return org


def unmet_contact(b: Builder) -> None:
    """Newsletters and a call with support are no meeting; the colleague had a call with her CSM (I05)."""
    org = _large(b)
    unmet, met = org.contacts
    b.engagement("emails", b.at(-50, 9), unmet, org.owner, "Product news", automated=True)
    b.engagement("calls", b.at(-49, 9), unmet, portal.SUPPORT_PIA, "Reset of two-factor")
    b.engagement("calls", b.at(-48, 9), met, org.owner, "Quarterly check-in")
    for contact, offset in ((unmet, -9), (met, -8)):
        conversation = b.conversation(
            contact,
            [("contact", b.at(offset, 10)), ("admin", b.at(offset, 11))],
            title="Question about permissions",
            organisation=org,
        )
        expect.interaction(b, conversation, org, contact, b.day(offset))


def really_dissatisfied(b: Builder) -> None:
    """Rated 1 six days ago and nobody but support reacted: needs escalation."""
    org = _large(b)
    contact = org.contacts[0]
    b.engagement("meetings", b.at(-70, 9), contact, org.owner, "Quarterly check-in")
    conversation = b.conversation(
        contact,
        [("contact", b.at(-7, 10)), ("admin", b.at(-7, 15)), ("contact", b.at(-6, 9))],
        title="Still broken after three weeks",
        organisation=org,
        rating=(1, b.at(-6, 12), "Nobody seems to care."),
    )
    expect.interaction(b, conversation, org, contact, b.day(-6), rating=1, dissatisfied=True, escalate=True)


def escalation_handled(b: Builder) -> None:
    """Rated 2, and the CSM called two days later: dissatisfied, no escalation needed."""
    org = _large(b)
    contact = org.contacts[0]
    conversation = b.conversation(
        contact,
        [("contact", b.at(-13, 10)), ("admin", b.at(-13, 15)), ("contact", b.at(-12, 9))],
        title="Import lost our tables",
        organisation=org,
        rating=(2, b.at(-12, 11), ""),
    )
    b.engagement("calls", b.at(-10, 10), contact, org.owner, "About the import")
    expect.interaction(b, conversation, org, contact, b.day(-12), rating=2, dissatisfied=True)


def detractor_in_the_messenger(b: Builder) -> None:
    """A detractor of last month writes a polite message: dissatisfied without any rating, and nobody followed up."""
    org = _large(b)
    contact = org.contacts[1]
    b.survey(contact, b.at(-30, 9), 3, "Value for money is gone.")
    conversation = b.conversation(
        contact,
        [("contact", b.at(-4, 10)), ("admin", b.at(-4, 11))],
        title="How do we export everything?",
        organisation=org,
    )
    expect.at_risk(b, org, ["nps_detractor"], detractors=[contact], lowest_score=3)
    expect.interaction(b, conversation, org, contact, b.day(-4), dissatisfied=True, escalate=True)


def old_conversation_with_a_fresh_reply(b: Builder) -> None:
    """Opened ninety days ago, answered by the customer three days ago (I03); a later reply is not seen."""
    org = _large(b)
    contact = org.contacts[0]
    conversation = b.conversation(
        contact,
        [
            ("contact", b.at(-90, 10)),
            ("admin", b.at(-89, 10)),
            ("contact", b.at(-3, 10)),
            ("contact", b.at(1, 1)),
        ],
        title="Feature request: comments in diagrams",
        organisation=org,
        state="open",
    )
    expect.interaction(b, conversation, org, contact, b.day(-3))


def only_we_wrote(b: Builder) -> None:
    """The customer's last word is 28 days old; our reminders since do not count (I01)."""
    org = _large(b)
    conversation = b.conversation(
        org.contacts[0],
        [("contact", b.at(-28, 23, 59)), ("admin", b.at(-20, 9)), ("bot", b.at(-10, 9))],
        title="Waiting for your logs",
        organisation=org,
    )
    expect.change(
        b, "tier_ab_interactions", f"{conversation}:{org.id}", org, before="conversation", after=None
    )
    b.conversation(
        org.contacts[1], [("admin", b.at(-14, 9))], title="We are changing our terms", organisation=org
    )


def tiny_child_of_a_large_parent(b: Builder) -> None:
    """Two seats, but the account is tier A: the conversation is on the list (I06)."""
    parent = customer(b)
    payer = annual(b, parent, 200, 150, 36_000, plan="enterprise")
    child = child_of(b, parent)
    expect.paying(b, parent, payer, tier="A")
    expect.paying(b, child, team(b, child, 2, start=-290), tier="A")
    expect.renewal(b, parent, payer, "no_deal", b.day(200))
    conversation = b.conversation(
        child.contacts[0],
        [("contact", b.at(-2, 10)), ("admin", b.at(-2, 12))],
        title="Can we share with headquarters?",
    )
    expect.interaction(b, conversation, child, child.contacts[0], b.day(-2))


def tier_set_by_hand(b: Builder) -> None:
    """Small, but strategic: HubSpot's tier wins (A8)."""
    org = customer(b, tier="A")
    expect.paying(b, org, team(b, org, 4), tier="A")
    conversation = b.conversation(
        org.contacts[0],
        [("contact", b.at(-1, 15)), ("admin", b.at(-1, 16))],
        title="Hello from the pilot team",
    )
    expect.interaction(b, conversation, org, org.contacts[0], b.day(-1))


def tiers_at_their_limits(b: Builder) -> None:
    """A from 200 seats or 2,000.00, B from 50 seats or 500.00, C below both (A8)."""
    for seats, price, tier in (
        (200, 500, "A"),
        (199, 500, "B"),
        (100, 2000, "A"),
        (50, 800, "B"),
        (49, 800, "C"),
        (25, 2000, "B"),
    ):
        org = customer(b, contacts=1)
        expect.paying(b, org, team(b, org, seats, price=price), tier=tier)


def conversation_of_two_organisations(b: Builder) -> None:
    """A contact of two large organisations and no company on the record: shown under both, flagged ambiguous."""
    one, two = _large(b), _large(b)
    person = b.contact(one, two, created=b.at(-150, 9))
    conversation = b.conversation(
        person, [("contact", b.at(-11, 10)), ("admin", b.at(-11, 13))], title="Which workspace am I in?"
    )
    for org in (one, two):
        expect.interaction(b, conversation, org, person, b.day(-11), ambiguous=True)


def written_after_closing_time(b: Builder) -> None:
    """A conversation and a bad rating of the night after D are not yet there on D."""
    org = _large(b)
    b.conversation(
        org.contacts[0],
        [("contact", b.at(1, 1))],
        title="Everything is down!",
        organisation=org,
        state="open",
    )
    conversation = b.conversation(
        org.contacts[1],
        [("contact", b.at(-5, 9)), ("admin", b.at(-5, 10))],
        title="Slow search",
        organisation=org,
        rating=(1, b.at(1, 2), "Still slow."),
    )
    expect.interaction(b, conversation, org, org.contacts[1], b.day(-5))


# Records nobody can place ---------------------------------------------------------------------------------------


def organisation_of_tomorrow(b: Builder) -> None:
    """Signed up two hours after D closed: on no list of D."""
    org = b.organisation(b.at(1, 2))
    b.quiet.add(org.id)
    people(b, org, 1, "lead")


def archived_organisations(b: Builder) -> None:
    """Two records in the recycle bin: gone from the lists."""
    for offset in (-30, -4):
        org = b.organisation(b.at(-260, 9))
        b.quiet.add(org.id)
        b.archive(ORGANISATION_OBJECT, org.id, b.at(offset, 12))


def strangers_in_the_messenger(b: Builder) -> None:
    """Intercom knows two visitors that HubSpot does not, with no company: unattributed interactions."""
    for name, email, offset in (
        ("Inés Vasquero", "ines.vasquero@gmail.com", -3),
        ("Noor Abendroth", "noor.abendroth@gmail.com", -17),
    ):
        visitor = b.intercom_contact(name, email, b.at(offset, 9), [])
        b.raw_conversation(
            visitor,
            [("contact", b.at(offset, 9, 5)), ("admin", b.at(offset, 10))],
            title="Do you offer a student plan?",
        )


def answer_of_nobody_we_can_place(b: Builder) -> None:
    """A newsletter reader of no organisation and somebody anonymous answered this morning: they count for NPS alone."""
    reader = b.contact(created=b.at(-70, 9), stage="subscriber")
    b.survey(reader, b.at(0, 9), 4, "I only read the blog.")
    b.survey(None, b.at(0, 11), 8)


def customer_nobody_can_place(b: Builder) -> None:
    """Billing knows a customer without a reference to any organisation and one whose reference leads nowhere.

    Nobody who pays is dropped: each is an organisation of its own, under billing's id.
    """
    for name, mail, reference, seats in (
        ("Odile Fairbrook", "odile.fairbrook@gmail.com", None, 2),
        ("Brackwater Trust", "office@brackwater.example", "org_ffffffffff", 5),
    ):
        started = b.at(-210, 9)
        customer = b.customer(None, started, name=name, email=mail, reference=reference)
        b.subscription(None, started, plan="starter", seats=seats, customer_id=customer)
        b.truth.expect(
            "hub.organisations",
            org_id=f"billing:{customer}",
            name=name,
            state="paying",
            seats=seats,
            mrr=Decimal(8 * seats),
            tier="C",
        )


def sloppy_extract(b: Builder) -> None:
    """Rows that no reading can save: a currency sign for a currency, and a customer created "yesterday"."""
    org = customer(b, age=770)
    subscription = team(b, org, 11, start=-760)
    expect.paying(b, org, subscription)
    b.bad_billing_row(
        "subscriptions",
        subscription_id=subscription.id,
        customer_id=subscription.customer_id,
        status="active",
        currency="US$",
        plan="team",
        started_at=iso(subscription.started),
        updated_at=iso(subscription.started + timedelta(days=3)),
    )
    b.bad_billing_row(
        "customers",
        customer_id="cus_0b4d0000000000",
        name="Brindle & Daughters",
        email="office@brindle.example",
        currency="USD",
        created_at="yesterday",
        updated_at="yesterday",
    )


# Invoices -------------------------------------------------------------------------------------------------------


def invoices_that_differ(b: Builder) -> None:
    """What was billed is not what the subscription costs: never billed, a rebate by hand, a voided invoice that was
    written again, and a change in mid-term billed by the day. MRR comes from the subscription alone.
    """
    for rule in (
        Invoicing(missing=True),
        Invoicing(rebate_minor=5_000),
        Invoicing(voided=True),
        Invoicing(prorated=True),
    ):
        org = customer(b)
        subscription = team(b, org, 16)
        if rule.prorated:
            subscription.change(b.at(-18, 9), seats=22, amount_minor=44_000)
        b.invoicing[subscription.id] = rule
        expect.paying(b, org, subscription)


STORIES: tuple[Callable[[Builder], None], ...] = (
    exactly_twenty_seats,
    nineteen_seats,
    growth_on_the_baseline_day,
    new_with_25_seats,
    new_then_grew,
    two_teams_in_one_organisation,
    spike_that_went_away,
    seat_jump_after_closing_time,
    large_and_growing,
    seat_contraction,
    mrr_contraction,
    mrr_contraction_at_its_limits,
    contraction_of_both,
    contraction_of_an_enterprise,
    small_contraction,
    detractor,
    detractor_and_contraction,
    detractor_who_became_a_promoter,
    detractor_of_half_a_year_ago,
    detractor_of_other_surveys,
    detractor_of_two_organisations,
    detractor_with_a_primary_organisation,
    detractor_who_is_no_customer,
    bad_answer_after_closing_time,
    moved_to_enterprise,
    moved_to_a_contract_known_to_the_crm,
    custom_contract_with_an_amount,
    moved_to_the_joint_plan_of_the_parent,
    covered_by_a_partner_and_unhappy,
    growth_beside_a_transfer,
    contraction_beside_a_transfer,
    churn_scheduled_months_ahead,
    true_churn,
    churn_at_the_edge_of_the_view,
    churn_by_unpaid_invoice,
    churn_to_the_free_plan,
    churn_with_a_paying_parent,
    churn_with_an_enterprise_deal,
    churn_beside_a_colleague_who_pays,
    churn_long_ago_that_needs_review,
    churn_whose_people_still_write,
    cancellation_withdrawn,
    resubscribed,
    unpaid_and_back,
    back_on_the_last_day_and_a_day_late,
    back_after_two_months,
    partial_cancellation,
    duplicate_merged_away,
    paused_after_years,
    annual_amount_in_a_deal,
    two_years_in_a_deal,
    renewal_nobody_made_a_deal_for,
    renewal_a_day_too_far,
    duplicate_renewal_deals,
    renewed_early,
    renewed_late,
    lost_early,
    overdue_renewal,
    close_date_that_does_not_match,
    close_dates_at_their_limits,
    deal_left_at_its_default,
    deal_of_a_colleague_who_left,
    deal_without_owner_or_amount,
    deal_without_a_close_date,
    deal_of_another_currency,
    deal_in_a_stage_nobody_mapped,
    deal_worth_twice_as_much,
    deal_for_nothing,
    deal_that_was_forgotten,
    lost_but_they_stayed,
    renewal_won_after_closing_time,
    exactly_500,
    monthly_enterprise,
    two_year_contract,
    orphan_deal,
    upsell_in_progress,
    unmet_contact,
    really_dissatisfied,
    escalation_handled,
    detractor_in_the_messenger,
    old_conversation_with_a_fresh_reply,
    only_we_wrote,
    tiny_child_of_a_large_parent,
    tier_set_by_hand,
    tiers_at_their_limits,
    conversation_of_two_organisations,
    written_after_closing_time,
    organisation_of_tomorrow,
    archived_organisations,
    strangers_in_the_messenger,
    answer_of_nobody_we_can_place,
    customer_nobody_can_place,
    sloppy_extract,
    invoices_that_differ,
)
