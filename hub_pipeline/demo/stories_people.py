"""Stories of people: what lifecycle stages contradict, who gets in whose way, and who is ready for more.

The bookkeeping (`hub_pipeline.demo.ledger`) adds up the findings of all contacts. What a story is about it claims
here in its own words; a company whose bookkeeping does not find what a story claims is not built.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from hub_pipeline.demo import expect, portal
from hub_pipeline.demo.builder import Builder, Contact, Organisation
from hub_pipeline.demo.population import renewal_deal
from hub_pipeline.demo.stories_common import annual, child_of, customer, team


def _finding(b: Builder, check: str, contact: Contact, org: Organisation | None = None) -> None:
    """The contact breaks this rule."""
    b.truth.claim(
        "hub.lifecycle_checks",
        check=check,
        subject_id=contact.id,
        contact_ids=[contact.id],
        org_id=org.id if org else None,
    )


def _sales_deal(b: Builder, org: Organisation, *, owner: portal.Owner, plan: str = "team") -> str:
    """An open new-business deal."""
    made = b.at(-25, 9)
    deal = b.deal(
        org,
        name=f"{org.name} new business",
        pipeline="default",
        stages=[(made, "appointmentscheduled")],
        close_dates=[(made, b.at(40, 12))],
        deal_type="newbusiness",
        amount="900",
        owner=owner,
        plan=plan,
        next_activity=b.at(5, 9),
        contact=org.contacts[0],
    )
    return deal.id


def _path(b: Builder, start: int, *stages: str) -> list[tuple[datetime, str]]:
    """Stages five days apart from the offset on."""
    return [(b.at(start + 5 * n, 9), stage) for n, stage in enumerate(stages)]


# Lifecycle ------------------------------------------------------------------------------------------------------


def nobody_filled_in_the_stage(b: Builder) -> None:
    """A contact without a stage: a finding from the seventh day on, not on the sixth."""
    org = customer(b)
    late = b.contact(org, created=b.at(-7, 9), stages=[])
    b.contact(org, created=b.at(-6, 9), stages=[])
    expect.paying(b, org, team(b, org, 8))
    _finding(b, "lifecycle_missing", late, org)


def words_of_their_own(b: Builder) -> None:
    """A stage and a status that nobody defined; spelling of known ones does not matter."""
    org = customer(b)
    odd = b.contact(org, created=b.at(-90, 9), stages=[(b.at(-90, 9), "vip")])
    status = b.contact(org, created=b.at(-90, 9), lead_status="ON_HOLD")
    b.contact(org, created=b.at(-90, 9), stages=[(b.at(-90, 9), "Customer")], lead_status="Open Deal")
    expect.paying(b, org, team(b, org, 8))
    _finding(b, "unknown_value", odd, org)
    _finding(b, "unknown_value", status, org)


def paying_without_a_customer_contact(b: Builder) -> None:
    """Everybody we know there is still a lead."""
    org = customer(b, contacts=0)
    b.contact(org, stage="lead")
    expect.paying(b, org, team(b, org, 6))
    b.truth.claim(
        "hub.lifecycle_checks",
        check="paying_org_without_customer_contact",
        subject_id=org.id,
        contact_ids=[],
        org_id=org.id,
    )


def opportunity_of_nothing(b: Builder) -> None:
    """An opportunity needs an open deal; with one it is none."""
    nothing, something = customer(b, contacts=0), customer(b, contacts=0)
    without = b.contact(nothing, stage="opportunity")
    b.contact(something, stage="opportunity")
    _sales_deal(b, something, owner=portal.SALES_LENA)
    for org in (nothing, something):
        expect.organisation(b, org, "never_paid")
    _finding(b, "opportunity_without_open_deal", without, nothing)


def qualified_without_a_status(b: Builder) -> None:
    """A sales-qualified lead has a status; none and empty are none."""
    org = customer(b, contacts=0)
    empty = b.contact(org, stage="salesqualifiedlead")
    none = b.contact(org, stage="salesqualifiedlead", lead_status="NONE")
    b.contact(org, stage="salesqualifiedlead", lead_status="ATTEMPTED_TO_CONTACT")
    expect.organisation(b, org, "never_paid")
    _finding(b, "sql_without_lead_status", empty, org)
    _finding(b, "sql_without_lead_status", none, org)


def partner_who_buys(b: Builder) -> None:
    """Other means never a customer; this one's organisation pays. So does a newsletter reader's."""
    org = customer(b)
    partner = b.contact(org, stage="other")
    reader = b.contact(org, stage="subscriber")
    expect.paying(b, org, team(b, org, 10))
    _finding(b, "other_but_commercial", partner, org)
    _finding(b, "subscriber_with_trial", reader, org)


def no_longer_interested_but_negotiating(b: Builder) -> None:
    """Unqualified, and yet there is an open deal; its colleague claims a deal that another organisation lacks."""
    org, without = customer(b, contacts=0), customer(b, contacts=0)
    unqualified = b.contact(org, stage="lead", lead_status="UNQUALIFIED")
    _sales_deal(b, org, owner=portal.SALES_TOMAS)
    claims = b.contact(without, stage="lead", lead_status="OPEN_DEAL")
    for one in (org, without):
        expect.organisation(b, one, "never_paid")
    _finding(b, "unqualified_with_open_deal", unqualified, org)
    _finding(b, "open_deal_status_without_deal", claims, without)


def attempts_and_answers(b: Builder) -> None:
    """Attempted means no answer yet, connected means both ways, and two weeks of silence are a finding (L04).

    The one who was written to 14 days ago is unresponsive, the one of 13 days ago not yet.
    """
    org = customer(b, contacts=0)
    answered, silent, recent, connected, both = (
        b.contact(org, stage="lead", lead_status=status, owner=portal.SALES_LENA)
        for status in ("ATTEMPTED_TO_CONTACT",) * 3 + ("CONNECTED",) * 2
    )
    lena = portal.SALES_LENA
    b.engagement("emails", b.at(-20, 9), answered, lena, "Would you have a minute?")
    b.engagement("emails", b.at(-19, 9), answered, lena, "Re: Would you have a minute?", inbound=True)
    b.engagement("emails", b.at(-14, 23, 59), silent, lena, "Would you have a minute?")
    b.engagement("emails", b.at(-13), recent, lena, "Would you have a minute?")
    b.engagement("emails", b.at(-40, 9), connected, lena, "Would you have a minute?")
    b.engagement("meetings", b.at(-35, 9), both, lena, "First talk")
    expect.organisation(b, org, "never_paid")
    _finding(b, "attempted_but_replied", answered, org)
    _finding(b, "unresponsive_14d", silent, org)
    _finding(b, "connected_without_two_way", connected, org)


def stages_out_of_order(b: Builder) -> None:
    """Passed over two stages this month, and went back this month; what happened before the window is history."""
    org = customer(b)
    skipped = b.contact(
        org, created=b.at(-80, 9), stages=[(b.at(-80, 9), "lead"), (b.at(-27, 9), "customer")]
    )
    back = b.contact(
        org,
        created=b.at(-200, 9),
        stages=[*_path(b, -200, "lead", "marketingqualifiedlead"), (b.at(-3, 9), "lead")],
    )
    b.contact(org, created=b.at(-80, 9), stages=[(b.at(-80, 9), "lead"), (b.at(-28, 9), "customer")])
    expect.paying(b, org, team(b, org, 15))
    _finding(b, "stage_skipped", skipped, org)
    _finding(b, "stage_moved_back", back, org)


def made_by_the_mail_extension(b: Builder) -> None:
    """The extension made contacts by itself: nobody owns the one, the other has no stage."""
    org = customer(b)
    unowned = b.contact(org, created=b.at(-5, 9), owned=False, hs_object_source_label="EMAIL_INTEGRATION")
    stageless = b.contact(org, created=b.at(-5, 9), stages=[], hs_object_source_label="EMAIL_INTEGRATION")
    b.contact(org, created=b.at(-5, 9), hs_object_source_label="EMAIL_INTEGRATION")
    expect.paying(b, org, team(b, org, 15))
    _finding(b, "autocreated_incomplete", unowned, org)
    _finding(b, "autocreated_incomplete", stageless, org)


def colleague_among_the_contacts(b: Builder) -> None:
    """An address of our own domain is no lead."""
    contact = b.contact(created=b.at(-60, 9), stage="lead", email="newsletter-test@northbeam.example")
    _finding(b, "internal_or_vendor_domain", contact)


def one_person_twice(b: Builder) -> None:
    """The same address in capitals: a duplicate, and two colleagues own the one person (L08)."""
    org = customer(b, contacts=0)
    first = b.contact(org, owner=portal.CSM_MIRA)
    second = b.contact(org, owner=portal.SALES_TOMAS, email=first.email.upper(), created=b.at(-100, 9))
    expect.paying(b, org, team(b, org, 10))
    ids = sorted([first.id, second.id])
    b.truth.claim("hub.lifecycle_checks", check="duplicate_contact_email", subject_id=ids[0], contact_ids=ids)
    b.truth.claim(
        "hub.ownership_crossovers",
        kind="duplicate_person",
        subject_id=ids[0],
        contact_ids=ids,
        crossing_users=sorted([portal.CSM_MIRA.id, portal.SALES_TOMAS.id]),
        last_on=None,
    )


# Crossovers -----------------------------------------------------------------------------------------------------


def two_colleagues_on_one_contact(b: Builder) -> None:
    """The CSM owns the contact, sales wrote to it as well (L07); the oldest mail is a day outside the window."""
    org = customer(b)
    contact, other = org.contacts
    seller = portal.SALES_TOMAS
    b.engagement("emails", b.at(-27, 0, 1), contact, seller, "A better plan for you")
    b.engagement("calls", b.at(-10, 9), contact, org.owner, "Quarterly check-in")
    b.engagement("calls", b.at(-9, 9), contact, portal.SUPPORT_PIA, "Reset of two-factor")
    b.engagement("emails", b.at(-28, 23, 59), other, seller, "A better plan for you")
    b.engagement("calls", b.at(-10, 10), other, org.owner, "Quarterly check-in")
    expect.paying(b, org, team(b, org, 23))
    b.truth.claim(
        "hub.ownership_crossovers",
        kind="contact",
        subject_id=contact.id,
        owner_id=org.owner.id,
        crossing_users=[seller.id],
        people=sorted([seller.id, org.owner.id]),
        last_on=b.day(-27),
    )


def handover(b: Builder) -> None:
    """Sales handed the contact over in mid-month; each of both wrote while it was theirs: no crossover (L09)."""
    org = customer(b, contacts=0)
    contact = b.contact(org, owner=portal.SALES_LENA)
    b.hand_over(contact, b.at(-14, 12), org.owner)
    b.engagement("emails", b.at(-20, 9), contact, portal.SALES_LENA, "Welcome")
    b.engagement("emails", b.at(-10, 9), contact, org.owner, "I am your new contact")
    expect.paying(b, org, team(b, org, 23))


def two_deals_of_one_account(b: Builder) -> None:
    """The CSM renews while sales negotiates an enterprise plan with the child: two owners on one account."""
    parent = customer(b)
    contract = annual(b, parent, 132, 37, 8_880)
    renewal = renewal_deal(b, parent, contract, 132, stage="in_conversation")
    child = child_of(b, parent)
    expect.paying(b, parent, contract, tier="B")
    expect.paying(b, child, team(b, child, 5, start=-290), tier="B")
    expect.renewal(b, parent, contract, "open", b.day(132), deal=renewal)
    sales = _sales_deal(b, child, owner=portal.SALES_LENA, plan="enterprise")
    b.truth.claim(
        "hub.ownership_crossovers",
        kind="account_deals",
        subject_id=parent.id,
        deal_ids=sorted([renewal.id, sales]),
        crossing_users=sorted([parent.owner.id, portal.SALES_LENA.id]),
    )


# Ready for more -------------------------------------------------------------------------------------------------


def full_house(b: Builder) -> None:
    """Nine of ten seats in use is enough (90 %), 89 of 100 is not."""
    full, not_full = customer(b, members_active="9"), customer(b, members_active="89")
    expect.paying(b, full, team(b, full, 10))
    expect.paying(b, not_full, team(b, not_full, 100, price=400))
    b.truth.claim("hub.upsell_pipeline", upsell_id=f"utilisation:{full.id}", kind="utilisation")


def true_up_pending(b: Builder) -> None:
    """More seats in use than paid for; the true-up is agreed and not billed yet."""
    org = customer(b, members_active="12", pending_true_up_mrr="40")
    expect.paying(b, org, team(b, org, 10))
    b.truth.claim("hub.upsell_pipeline", upsell_id=f"true_up:{org.id}", kind="true_up")


def more_than_500_by_the_month(b: Builder) -> None:
    """520.00 month by month is a candidate for an annual plan, exactly 500.00 is not (A2)."""
    over, at_limit = customer(b), customer(b)
    expect.paying(b, over, team(b, over, 26))
    expect.paying(b, at_limit, team(b, at_limit, 25))
    b.truth.claim("hub.upsell_pipeline", upsell_id=f"annual:{over.id}", kind="annual")


def two_children_who_pay(b: Builder) -> None:
    """Two paying children of a parent that pays nothing itself: a joint plan would do."""
    parent = customer(b)
    children = [child_of(b, parent), child_of(b, parent)]
    expect.organisation(b, parent, "never_paid")
    for org, seats in zip(children, (6, 9), strict=True):
        expect.paying(b, org, team(b, org, seats, start=-290))
    b.truth.claim(
        "hub.upsell_pipeline",
        upsell_id=f"joint_plan_parent:{parent.id}",
        kind="joint_plan_parent",
        org_id=parent.id,
        org_ids=sorted(org.id for org in children),
        seats=15,
    )


def two_teams_of_one_company(b: Builder) -> None:
    """Two organisations of different accounts with one e-mail domain both pay; the larger one stands for both."""
    small = customer(b)
    large = b.organisation(b.at(-330, 9), domain=small.domain)
    b.quiet.add(large.id)
    b.contact(large)
    expect.paying(b, small, team(b, small, 4))
    expect.paying(b, large, team(b, large, 14, start=-320))
    b.truth.claim(
        "hub.upsell_pipeline",
        upsell_id=f"joint_plan_domain:{small.domain}",
        kind="joint_plan_domain",
        org_id=large.id,
        org_ids=sorted([small.id, large.id]),
        seats=18,
    )


# Health ---------------------------------------------------------------------------------------------------------


def in_the_best_of_health(b: Builder) -> None:
    """All seats in use, two promoters, met last week, content with support: 100 in every component."""
    org = customer(b, members_active="20", health="red")
    b.engagement("meetings", b.at(-6, 9), org.contacts[0], org.owner, "Quarterly check-in")
    for contact in org.contacts:
        b.survey(contact, b.at(-33, 9), 10)
    b.conversation(
        org.contacts[0],
        [("contact", b.at(-4, 9)), ("admin", b.at(-4, 10))],
        title="Thank you",
        organisation=org,
        rating=(5, b.at(-4, 12), ""),
    )
    expect.paying(b, org, team(b, org, 20))
    b.truth.claim(
        "hub.customer_360",
        org_id=org.id,
        health_commercial=100,
        health_seats=100,
        health_sentiment=100,
        health_engagement=100,
        health_support=100,
        health=100,
        health_coverage=1,
        health_override="red",
        why=[],
    )


def everything_at_once(b: Builder) -> None:
    """Half of its seats gone, an end in sight, four in ten seats used, a detractor, never met, two bad ratings.

    0 x 30 + 40 x 25 + 20 x 20 + 0 x 15 + 50 x 10 = 1,900 of 100: health 19.
    """
    org = customer(b, members_active="8")
    subscription = team(b, org, 40).change(b.at(-50, 9), seats=20, amount_minor=40_000)
    subscription.cancel(b.at(-9, 9), b.at(20), "too_expensive")
    b.survey(org.contacts[0], b.at(-20, 9), 2, "We are leaving.")
    for contact, offset in zip(org.contacts, (-12, -10), strict=True):
        b.conversation(
            contact,
            [("contact", b.at(offset, 9)), ("admin", b.at(offset, 10))],
            title="How do we export everything?",
            organisation=org,
            rating=(1, b.at(offset, 12), ""),
        )
    expect.paying(b, org, subscription)
    expect.churn(b, org, subscription, "scheduled", b.day(20), Decimal("400.00"))
    expect.at_risk(
        b,
        org,
        ["seat_contraction", "mrr_contraction", "nps_detractor"],
        seat_pct="0.5",
        mrr_pct="0.5",
        detractors=[org.contacts[0]],
        lowest_score=2,
    )
    b.truth.claim(
        "hub.customer_360",
        org_id=org.id,
        health_commercial=0,
        health_seats=40,
        health_sentiment=20,
        health_engagement=0,
        health_support=50,
        health=19,
        why=[
            "scheduled_end",
            "high_contraction",
            "low_utilisation",
            "detractor",
            "no_touch_90d",
            "dissatisfied_conversations",
        ],
    )


def so_so(b: Builder) -> None:
    """A small contraction, passives only, last met 100 days ago: contraction, low NPS, no touch."""
    org = customer(b, contacts=1)
    b.engagement("calls", b.at(-100, 9), org.contacts[0], org.owner, "Quarterly check-in")
    b.survey(org.contacts[0], b.at(-12, 9), 0, "CSAT is not NPS.", survey="CSAT")
    subscription = team(b, org, 19).change(b.at(-50, 9), seats=17, amount_minor=34_000)
    expect.paying(b, org, subscription)
    b.truth.claim(
        "hub.customer_360",
        org_id=org.id,
        health_commercial=50,
        health_seats=None,
        health_sentiment=None,
        health_engagement=20,
        health_support=None,
        health_coverage=Decimal("0.45"),
        why=["contraction", "no_touch_90d"],
    )


STORIES: tuple[Callable[[Builder], None], ...] = (
    nobody_filled_in_the_stage,
    words_of_their_own,
    paying_without_a_customer_contact,
    opportunity_of_nothing,
    qualified_without_a_status,
    partner_who_buys,
    no_longer_interested_but_negotiating,
    attempts_and_answers,
    stages_out_of_order,
    made_by_the_mail_extension,
    colleague_among_the_contacts,
    one_person_twice,
    two_colleagues_on_one_contact,
    handover,
    two_deals_of_one_account,
    full_house,
    true_up_pending,
    more_than_500_by_the_month,
    two_children_who_pay,
    two_teams_of_one_company,
    in_the_best_of_health,
    everything_at_once,
    so_so,
)
