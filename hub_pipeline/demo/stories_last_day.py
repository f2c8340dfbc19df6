"""Stories of the last day: what happened between the two nights, and what each list must say has changed.

D is as_of. The first night saw the company as of D-1; everything here happened on D, or crossed a window's edge with it.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from hub_pipeline.demo import expect, portal
from hub_pipeline.demo.builder import Builder, Deal, Organisation, Subscription, add_months
from hub_pipeline.demo.stories_common import annual, customer, team


def grew_today(b: Builder) -> None:
    """20 to 45 seats at noon of D: new on the list of the fast growing."""
    org = customer(b)
    subscription = team(b, org, 20).change(b.at(0, 11), seats=45, amount_minor=90_000)
    expect.paying(b, org, subscription)
    expect.fast_growing(b, org, now=45, baseline=20)
    expect.change(b, "fast_growing", org.id, org, before=None, after="fast growing")


def shrank_today(b: Builder) -> None:
    """Was growing until yesterday; gave back ten of its 25 new seats this morning."""
    org = customer(b)
    subscription = team(b, org, 20).change(b.at(-44, 11), seats=45, amount_minor=90_000)
    subscription.change(b.at(0, 9), seats=35, amount_minor=70_000)
    expect.paying(b, org, subscription)
    expect.change(b, "fast_growing", org.id, org, before="fast growing", after=None)


def detractor_of_today(b: Builder) -> None:
    """Answered 2 this morning, nobody has called yet: new at risk, untouched."""
    org = customer(b)
    b.engagement("calls", b.at(-20, 9), org.contacts[0], org.owner, "Quarterly check-in")
    b.survey(org.contacts[0], b.at(0, 10), 2, "Nobody told us that the price goes up.")
    expect.paying(b, org, team(b, org, 17))
    expect.at_risk(
        b, org, ["nps_detractor"], detractors=[org.contacts[0]], lowest_score=2, reasons_before=None
    )


def one_reason_more(b: Builder) -> None:
    """Shrank three weeks ago, and a detractor since this morning: at risk for another reason."""
    org = customer(b)
    subscription = team(b, org, 60).change(b.at(-21, 9), seats=40, amount_minor=80_000)
    b.survey(org.contacts[0], b.at(0, 8), 5, "We had to let people go.")
    expect.paying(b, org, subscription)
    expect.at_risk(
        b,
        org,
        ["seat_contraction", "mrr_contraction", "nps_detractor"],
        seat_pct="0.3333",
        mrr_pct="0.3333",
        detractors=[org.contacts[0]],
        lowest_score=5,
        reasons_before=["seat_contraction", "mrr_contraction"],
    )


def promoter_again(b: Builder) -> None:
    """3 two months ago, 9 this morning: cleared."""
    org = customer(b)
    b.survey(org.contacts[0], b.at(-60, 10), 3, "The export loses our tables.")
    b.survey(org.contacts[0], b.at(0, 9), 9, "The export works again.")
    expect.paying(b, org, team(b, org, 13))
    expect.change(b, "at_risk", org.id, org, before="nps_detractor", after=None)


def called_today(b: Builder) -> None:
    """At risk since a month ago, called this afternoon: no longer untouched."""
    org = customer(b)
    subscription = team(b, org, 44).change(b.at(-31, 9), seats=33, amount_minor=66_000)
    b.engagement("calls", b.at(0, 15), org.contacts[0], org.owner, "About the eleven seats")
    expect.paying(b, org, subscription)
    expect.at_risk(
        b, org, ["seat_contraction", "mrr_contraction"], seat_pct="0.25", mrr_pct="0.25", touched=True
    )


def cancelled_today(b: Builder) -> None:
    """Cancelled this morning for the end of November: scheduled churn, new on the list."""
    org = customer(b)
    subscription = team(b, org, 28).cancel(b.at(0, 8), b.at(29), "switched_service", "Moving to a wiki.")
    expect.paying(b, org, subscription)
    expect.churn(b, org, subscription, "scheduled", b.day(29), Decimal("560.00"))
    expect.change(b, "churn", subscription.id, org, before=None, after=f"scheduled, {b.day(29)}")
    b.churn_before[org.id] = False


def withdrawn_today(b: Builder) -> None:
    """Cancelled three weeks ago, changed their mind today: off the list, a false alarm from now on."""
    org = customer(b)
    subscription = team(b, org, 31).cancel(b.at(-22, 9), b.at(12), "too_expensive")
    subscription.change(
        b.at(0, 14),
        cancel_at=None,
        cancel_requested_at=None,
        cancel_reason=None,
        cancel_comment=None,
        cancel_kind=None,
    )
    expect.paying(b, org, subscription)
    expect.false_alarm(b, org, subscription, "cancellation_reverted", b.day(12))
    expect.change(b, "churn", subscription.id, org, before=f"scheduled, {b.day(12)}", after=None)
    b.churn_before[org.id] = True


def ended_today(b: Builder) -> None:
    """Cancelled two weeks ago for noon of D: scheduled yesterday, churned today."""
    org = customer(b)
    subscription = team(b, org, 12).cancel(b.at(-14, 9), b.at(0, 12), "unused")
    b.left.add(org.id)
    expect.organisation(b, org, "churned")
    expect.churn(b, org, subscription, "churned", b.day(0), Decimal("240.00"))
    expect.change(
        b,
        "churn",
        subscription.id,
        org,
        before=f"scheduled, {b.day(0)}",
        after=f"churned, {b.day(0)}",
    )


def back_within_the_gap_today(b: Builder) -> None:
    """Ended ten days ago, subscribed again this morning: yesterday a churn, today a false alarm (C10b)."""
    org = customer(b)
    old = team(b, org, 9).cancel(b.at(-15, 9), b.at(-10), "other", "The card had expired.")
    new = b.subscription(org, b.at(0, 10), plan="team", seats=9, amount_minor=18_000)
    expect.paying(b, org, new)
    expect.false_alarm(b, org, old, "resubscribed", b.day(-10))
    expect.change(b, "churn", old.id, org, before=f"churned, {b.day(-10)}", after=None)
    b.churn_before[org.id] = True


def back_after_the_gap_today(b: Builder) -> None:
    """Ended two months ago, subscribed again this morning: reactivated, on no list of the day (A10)."""
    org = customer(b)
    old = team(b, org, 7).cancel(b.at(-65, 9), b.at(-60), "other")
    new = b.subscription(org, b.at(0, 10), plan="team", seats=11, amount_minor=22_000)
    expect.paying(b, org, new)
    expect.change(
        b,
        "churn",
        old.id,
        org,
        before=f"churned, {b.day(-60)}",
        after=f"reactivated, {b.day(-60)}",
    )
    expect.ended(b, org, "reactivated", b.day(-60))
    b.churn_before[org.id] = True


# Renewals -------------------------------------------------------------------------------------------------------


def _deal(
    b: Builder,
    org: Organisation,
    contract: Subscription,
    stages: list[tuple[int, str]],
    close_dates: list[tuple[int, int]],
    **values: object,
) -> Deal:
    """A clean renewal deal; stages as (offset, stage), close dates as (set at offset, offset of the date)."""
    return b.deal(
        org,
        name=f"{org.name} renewal",
        pipeline="post_sales",
        stages=[(b.at(offset, 9), stage) for offset, stage in stages],
        close_dates=[(b.at(offset, 9), b.at(value, 12)) for offset, value in close_dates],
        deal_type="renewal",
        amount=str(contract.mrr_native),
        plan=contract.values["plan"],
        next_activity=b.at(11, 9),
        contact=org.contacts[0],
        **values,  # type: ignore[arg-type]
    )


def deal_made_today(b: Builder) -> None:
    """A contract without a deal for weeks has one since this morning."""
    org = customer(b)
    contract = annual(b, org, 128, 51, 12_240)
    deal = _deal(b, org, contract, [(0, "renewal_planned")], [(0, 128)])
    expect.paying(b, org, contract)
    expect.renewal(
        b,
        org,
        contract,
        "open",
        b.day(128),
        deal=deal,
        yesterday={"status": "missing", "stage": None, "deal": None, "deal_amount": None},
    )


def stage_moved_today(b: Builder) -> None:
    """The deal went from negotiation to a contract sent."""
    org = customer(b)
    contract = annual(b, org, 95, 53, 12_720)
    deal = _deal(
        b,
        org,
        contract,
        [(-50, "renewal_planned"), (-20, "negotiation"), (0, "contract_sent")],
        [(-50, 95)],
    )
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "open", b.day(95), deal=deal, yesterday={"stage": "negotiation"})


def close_date_moved_today(b: Builder) -> None:
    """Pushed out by twenty days, past the end of the term: a finding since today."""
    org = customer(b)
    contract = annual(b, org, 105, 62, 14_880)
    deal = _deal(b, org, contract, [(-40, "renewal_planned")], [(-40, 105), (0, 125)])
    expect.paying(b, org, contract)
    expect.renewal(
        b,
        org,
        contract,
        "open",
        b.day(125),
        deal=deal,
        hygiene=["close_date_mismatch"],
        yesterday={"renew_by": b.day(105), "hygiene": []},
    )


def amount_corrected_today(b: Builder) -> None:
    """Yesterday a year's amount, today the MRR: the finding is gone."""
    org = customer(b)
    contract = annual(b, org, 112, 43, 10_320)
    deal = _deal(
        b,
        org,
        contract,
        [(-33, "renewal_planned")],
        [(-33, 112)],
        amounts=[(b.at(-33, 9), "10320"), (b.at(0, 13), "860.00")],
    )
    expect.paying(b, org, contract)
    expect.renewal(
        b,
        org,
        contract,
        "open",
        b.day(112),
        deal=deal,
        yesterday={"deal_amount": "10320.00", "hygiene": ["amount_looks_annual"]},
    )


def won_today(b: Builder) -> None:
    """Won this afternoon, 97 days ahead; the closing overwrote the close date, the history has it."""
    org = customer(b)
    contract = annual(b, org, 97, 46, 11_040)
    deal = b.deal(
        org,
        name=f"{org.name} renewal",
        pipeline="post_sales",
        stages=[(b.at(-64, 9), "renewal_planned"), (b.at(-15, 9), "contract_sent"), (b.at(0, 16), "renewed")],
        close_dates=[(b.at(-64, 9), b.at(97, 12)), (b.at(0, 16), b.at(0, 16))],
        deal_type="renewal",
        amount="920",
        plan="business",
        next_activity=b.at(20, 9),
        contact=org.contacts[0],
        subscription=contract,
    )
    expect.paying(b, org, contract)
    expect.renewal(
        b,
        org,
        contract,
        "renewed",
        b.day(97),
        deal=deal,
        won_days_ahead=97,
        yesterday={"status": "open", "stage": "contract_sent"},
    )


def lost_today(b: Builder) -> None:
    """They said no today; the contract still runs for two months and no end is known to billing yet."""
    org = customer(b)
    contract = annual(b, org, 62, 49, 11_760)
    deal = b.deal(
        org,
        name=f"{org.name} renewal",
        pipeline="post_sales",
        stages=[(b.at(-70, 9), "renewal_planned"), (b.at(0, 11), "not_renewed")],
        close_dates=[(b.at(-70, 9), b.at(62, 12)), (b.at(0, 11), b.at(0, 11))],
        deal_type="renewal",
        amount="980",
        plan="business",
        next_activity=b.at(4, 9),
        contact=org.contacts[0],
        subscription=contract,
    )
    expect.paying(b, org, contract)
    expect.renewal(
        b,
        org,
        contract,
        "lost",
        b.day(62),
        deal=deal,
        yesterday={"status": "open", "stage": "renewal_planned"},
    )


def deal_archived_today(b: Builder) -> None:
    """Somebody deleted the deal at noon: the contract is missing one."""
    org = customer(b)
    contract = annual(b, org, 152, 56, 13_440)
    deal = _deal(b, org, contract, [(-30, "in_conversation")], [(-30, 152)])
    b.archive("deals", deal.id, b.at(0, 12))
    expect.paying(b, org, contract)
    expect.renewal(
        b,
        org,
        contract,
        "missing",
        b.day(152),
        yesterday={
            "status": "open",
            "stage": "in_conversation",
            "deal": deal.id,
            "deal_amount": "1120.00",
        },
    )


def signed_today(b: Builder) -> None:
    """A new annual contract since this morning: new business, and added to the pipeline."""
    org = customer(b, age=20)
    contract = b.subscription(
        org, b.at(0, 9), plan="enterprise", seats=64, interval="year", amount_minor=2_304_000
    )
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "no_deal", add_months(b.at(0), 12).date(), yesterday=None)


def contract_that_ended_today(b: Builder) -> None:
    """A cancelled annual contract ended at noon: gone from the pipeline, churned."""
    org = customer(b)
    contract = b.subscription(
        org,
        add_months(b.at(0, 12), -12),
        plan="business",
        seats=41,
        interval="year",
        amount_minor=984_000,
    )
    contract.cancel(b.at(-50, 9), b.at(0, 12), "missing_features")
    b.left.add(org.id)
    expect.organisation(b, org, "churned")
    expect.churn(b, org, contract, "churned", b.day(0), Decimal("820.00"))
    expect.change(
        b,
        "churn",
        contract.id,
        org,
        before=f"scheduled, {b.day(0)}",
        after=f"churned, {b.day(0)}",
    )


def contract_cancelled_today(b: Builder) -> None:
    """Cancelled this morning for the end of its term: the pipeline shows it, and nothing is missing any more."""
    org = customer(b)
    contract = annual(b, org, 134, 72, 17_280)
    contract.cancel(b.at(0, 10), b.at(134), "too_expensive")
    expect.paying(b, org, contract)
    expect.churn(b, org, contract, "scheduled", b.day(134), Decimal("1440.00"))
    expect.change(b, "churn", contract.id, org, before=None, after=f"scheduled, {b.day(134)}")
    expect.renewal(
        b,
        org,
        contract,
        "no_deal",
        b.day(134),
        scheduled_cancel=True,
        yesterday={"status": "missing", "scheduled_cancel": None},
    )
    b.churn_before[org.id] = False


def went_annual_today(b: Builder) -> None:
    """Monthly until yesterday and worth more than 500: an annual plan since this morning is in scope."""
    org = customer(b)
    old = team(b, org, 48).change(
        b.at(0, 9),
        status="canceled",
        cancel_at=b.at(0, 9),
        ended_at=b.at(0, 9),
        cancel_requested_at=b.at(0, 9),
        cancel_reason="other",
        cancel_comment="Going annual.",
        cancel_kind="voluntary",
    )
    new = b.subscription(org, b.at(0, 9), plan="business", seats=48, interval="year", amount_minor=1_152_000)
    expect.paying(b, org, new)
    expect.false_alarm(b, org, old, "resubscribed", b.day(0))
    expect.renewal(b, org, new, "no_deal", add_months(b.at(0), 12).date(), yesterday=None)


def grew_into_scope_today(b: Builder) -> None:
    """An annual contract of 480 a month bought four more seats today: above 500, and in scope."""
    org = customer(b)
    contract = annual(b, org, 210, 24, 5_760)
    contract.change(b.at(0, 10), seats=28, amount_minor=672_000)
    expect.paying(b, org, contract)
    expect.renewal(b, org, contract, "no_deal", b.day(210))
    b.truth.claim(
        "hub.renewal_pipeline_changes",
        as_of=b.as_of,
        renewal_id=contract.id,
        change="scope",
        before="mrr_not_over_threshold",
        after="in scope",
    )


# Conversations --------------------------------------------------------------------------------------------------


def _large(b: Builder) -> Organisation:
    """A monthly customer of tier A: 130 seats at 20.00 are 2,600."""
    org = customer(b)
    expect.paying(b, org, team(b, org, 130))
    return org


def wrote_today(b: Builder) -> None:
    """The first message of a large client's contact: new on the list."""
    org = _large(b)
    conversation = b.conversation(
        org.contacts[0],
        [("contact", b.at(0, 10)), ("admin", b.at(0, 11))],
        title="Where are the audit logs?",
        organisation=org,
    )
    expect.interaction(b, conversation, org, org.contacts[0], b.day(0))
    expect.change(
        b, "tier_ab_interactions", f"{conversation}:{org.id}", org, before=None, after="conversation"
    )


def wrote_again_today(b: Builder) -> None:
    """An old conversation with a fresh message: back on the list."""
    org = _large(b)
    contact = org.contacts[1]
    conversation = b.conversation(
        contact,
        [("contact", b.at(-60, 10)), ("admin", b.at(-60, 12)), ("contact", b.at(0, 7))],
        title="Sign-in with SSO fails again",
        organisation=org,
        state="open",
    )
    expect.interaction(b, conversation, org, contact, b.day(0))
    expect.change(
        b, "tier_ab_interactions", f"{conversation}:{org.id}", org, before=None, after="conversation"
    )


def rated_badly_today(b: Builder) -> None:
    """Written two days ago, rated 1 this morning: needs escalation since today."""
    org = _large(b)
    contact = org.contacts[0]
    conversation = b.conversation(
        contact,
        [("contact", b.at(-2, 10)), ("admin", b.at(-2, 15))],
        title="Pages are missing",
        organisation=org,
        rating=(1, b.at(0, 9), "Still missing."),
    )
    expect.interaction(b, conversation, org, contact, b.day(-2), rating=1, dissatisfied=True, escalate=True)
    expect.change(
        b,
        "tier_ab_interactions",
        f"{conversation}:{org.id}",
        org,
        before="conversation",
        after="needs escalation",
    )


def escalation_handled_today(b: Builder) -> None:
    """Rated 2 last week; the CSM called this afternoon."""
    org = _large(b)
    contact = org.contacts[0]
    conversation = b.conversation(
        contact,
        [("contact", b.at(-8, 10)), ("admin", b.at(-8, 15))],
        title="The invoice is wrong for the third time",
        organisation=org,
        rating=(2, b.at(-8, 17), ""),
    )
    b.engagement("calls", b.at(0, 16), contact, org.owner, "About the invoices")
    expect.interaction(b, conversation, org, contact, b.day(-8), rating=2, dissatisfied=True)
    expect.change(
        b,
        "tier_ab_interactions",
        f"{conversation}:{org.id}",
        org,
        before="needs escalation",
        after="conversation",
    )


# Movements of the month -----------------------------------------------------------------------------------------


def resumed_today(b: Builder) -> None:
    """Paused in August, running again since this morning: resumed, and neither new nor reactivated."""
    org = customer(b)
    subscription = team(b, org, 22).change(b.at(-75, 9), status="paused")
    subscription.change(b.at(0, 9), status="active")
    expect.paying(b, org, subscription)
    # Its seats were 0 at the closes of the pause, so they are a first day and no growth (A5).


def paused_today(b: Builder) -> None:
    """Paused this morning: MRR on hold, no churn."""
    org = customer(b)
    team(b, org, 21).change(b.at(0, 9), status="paused")
    expect.organisation(b, org, "paused")


def renewed_for_less(b: Builder) -> None:
    """An annual term that ended this month went on with fewer seats: renewed, at three quarters."""
    org = customer(b)
    contract = annual(b, org, -9, 80, 19_200, years=2)
    contract.change(b.at(-9), seats=60, amount_minor=1_440_000)
    end = add_months(contract.started, 36).date()
    expect.paying(b, org, contract)
    expect.at_risk(b, org, ["seat_contraction", "mrr_contraction"], seat_pct="0.25", mrr_pct="0.25")
    expect.renewal(b, org, contract, "no_deal", end)


def handed_to_sales(b: Builder) -> None:
    """The upsell of a growing customer was opened this morning."""
    org = customer(b)
    subscription = team(b, org, 26).change(b.at(-12, 9), seats=51, amount_minor=102_000)
    b.deal(
        org,
        name=f"{org.name} upsell",
        pipeline="post_sales",
        stages=[(b.at(0, 9), "renewal_planned")],
        close_dates=[(b.at(0, 9), b.at(44, 12))],
        deal_type="upsell",
        amount="480",
        plan="business",
        owner=portal.SALES_LENA,
        next_activity=b.at(2, 9),
        contact=org.contacts[0],
    )
    expect.paying(b, org, subscription)
    expect.fast_growing(b, org, now=51, baseline=26)


STORIES: tuple[Callable[[Builder], None], ...] = (
    grew_today,
    shrank_today,
    detractor_of_today,
    one_reason_more,
    promoter_again,
    called_today,
    cancelled_today,
    withdrawn_today,
    ended_today,
    back_within_the_gap_today,
    back_after_the_gap_today,
    deal_made_today,
    stage_moved_today,
    close_date_moved_today,
    amount_corrected_today,
    won_today,
    lost_today,
    deal_archived_today,
    signed_today,
    contract_that_ended_today,
    contract_cancelled_today,
    went_annual_today,
    grew_into_scope_today,
    wrote_today,
    wrote_again_today,
    rated_badly_today,
    escalation_handled_today,
    resumed_today,
    paused_today,
    renewed_for_less,
    handed_to_sales,
)
