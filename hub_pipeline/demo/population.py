"""The many organisations of the demo company about which there is little to say.

Each archetype is simple by construction, so that its rows of the truth are known when its records are made: an
organisation that pays the same every month, one that renews every year, one that never paid, one that left long ago.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from hub_pipeline.demo import expect, portal
from hub_pipeline.demo.builder import Builder, Contact, Deal, Organisation, Subscription, add_months

_TITLES = (
    "Cannot invite a new member",
    "Question about the invoice",
    "Export to PDF looks odd",
    "How do I change the visibility?",
    "Sign-in with SSO fails",
    "Search does not find a page",
    "Is there an API for this?",
    "Two-factor reset",
)
_SUBJECTS = (
    "Quarterly check-in",
    "Follow-up on your question",
    "Rollout to the second team",
    "Introduction",
    "Agenda for Thursday",
    "Notes from our call",
    "Usage report",
)
_COMMENTS = (
    "",
    "",
    "Does what it should.",
    "Support is quick.",
    "Could be faster, but we like it.",
    "Très pratique !",
)
OPEN_STAGES = ("renewal_planned", "in_conversation", "negotiation", "contract_sent")


def people(b: Builder, org: Organisation, count: int, stage: str = "customer") -> list[Contact]:
    """Add `count` contacts to an organisation."""
    return [
        b.contact(
            org,
            stage=stage,
            jobtitle=b.rng.choice(("Head of IT", "Team lead", "Developer", "Office manager")),
        )
        for _ in range(count)
    ]


def renewal_deal(
    b: Builder,
    org: Organisation,
    subscription: Subscription,
    close_offset: int,
    *,
    created: int = -45,
    stage: str | None = None,
    amount: str | None = "",
    linked: bool = False,
    owner: portal.Owner | None = None,
    has_owner: bool = True,
    activity: bool = True,
    currency: str | None = None,
    name: str = "",
) -> Deal:
    """An open renewal deal with the contract's MRR as its amount, an active owner and a planned activity."""
    made = b.at(created, 9, 30)
    amount = str(subscription.mrr_native) if amount == "" else amount
    stages = [(made, "renewal_planned")]
    final = stage or b.rng.choice(OPEN_STAGES)
    if final != "renewal_planned":
        stages.append((made + timedelta(days=9, hours=2), final))
    return b.deal(
        org,
        name=name or f"{org.name} renewal",
        pipeline="post_sales",
        stages=stages,
        close_dates=[(made, b.at(close_offset, 12))],
        deal_type="renewal",
        amount=amount,
        currency=currency or subscription.values["currency"],
        owner=owner,
        has_owner=has_owner,
        plan=subscription.values["plan"],
        subscription=subscription if linked else None,
        next_activity=b.at(b.rng.randint(4, 20), 10) if activity else None,
        contact=org.contacts[0] if org.contacts else None,
    )


def populate(b: Builder) -> None:
    """All archetypes, then what people wrote, said and answered."""
    for _ in range(80):
        _steady_monthly(b)
    for _ in range(10):
        _steady_quarterly(b)
    for number in range(52):
        _steady_annual(b, number)
    for _ in range(26):
        _small_annual(b)
    for _ in range(20):
        _grew_a_little(b)
    for _ in range(8):
        _grew_fast(b)
    for _ in range(44):
        _never_paid(b)
    for _ in range(4):
        _free_plan(b)
    for _ in range(16):
        _trial(b)
    for _ in range(5):
        _paused(b)
    for _ in range(5):
        _past_due(b)
    for _ in range(24):
        _left(b, b.rng.randint(-640, -430))
    for _ in range(12):
        _left(b, b.rng.randint(-390, -95))
    for _ in range(8):
        _left(b, b.rng.randint(-86, -2), recent=True)
    for _ in range(5):
        _leaves_soon(b)
    _loose_contacts(b)


def _new_organisation(b: Builder, youngest: int = 130, oldest: int = 1100) -> Organisation:
    org = b.organisation(b.at(-b.rng.randint(youngest, oldest), b.rng.randint(7, 18), b.rng.randint(0, 59)))
    people(b, org, b.rng.choice((1, 2, 2, 3, 3, 4, 5)))
    return org


def _start(b: Builder, org: Organisation) -> int:
    """Offset of the day the organisation first paid: soon after it signed up, long before the windows."""
    return min((org.created.date() - b.as_of).days + b.rng.randint(1, 20), -100)


def _first_deal(b: Builder, org: Organisation, offset: int, plan: str, amount: Decimal) -> None:
    """The new-business deal that was won when the organisation began to pay."""
    made, won = b.at(offset - b.rng.randint(15, 60), 9), b.at(offset, 15)
    b.deal(
        org,
        name=f"{org.name} new business",
        pipeline="default",
        stages=[
            (made, "appointmentscheduled"),
            (made + timedelta(days=6), "contractsent"),
            (won, "closedwon"),
        ],
        close_dates=[(made, b.at(offset + 10, 12)), (won, won)],
        deal_type="newbusiness",
        amount=str(amount),
        owner=b.rng.choice(portal.SELLERS),
        plan=plan,
        contact=org.contacts[0],
    )


def _steady_monthly(b: Builder) -> None:
    """Pays the same every month: on no list but the one of all organisations."""
    org = _new_organisation(b)
    start = _start(b, org)
    plan = b.rng.choice(("starter", "team", "team", "business"))
    seats = b.rng.choice((3, 4, 5, 6, 8, 9, 11, 14, 18, 22, 27, 35, 44, 58))
    currency = "EUR" if b.rng.random() < 0.2 else "USD"
    subscription = b.subscription(org, b.at(start, 11), plan=plan, seats=seats, currency=currency)
    org.record.properties["members_active"] = str(b.rng.randint(1, seats))
    if b.rng.random() < 0.45:
        _first_deal(b, org, start, plan, subscription.mrr_native)
    expect.paying(b, org, subscription)


def _steady_quarterly(b: Builder) -> None:
    """Pays every quarter and so needs no renewal: out of scope of the pipeline."""
    org = _new_organisation(b)
    seats = b.rng.choice((6, 9, 12, 21, 33))
    subscription = b.subscription(org, b.at(_start(b, org), 9), plan="team", seats=seats, interval="quarter")
    expect.paying(b, org, subscription)


def _annual_start(b: Builder, end: int, years: int) -> int:
    """Offset of the start of a contract whose `years`th term ends at offset `end`."""
    return (add_months(b.at(end), -12 * years).date() - b.as_of).days


def _steady_annual(b: Builder, number: int) -> None:
    """An annual contract over 500 MRR, in the pipeline with a clean deal or with none yet."""
    end = 6 + number * 7 - number % 3
    years = b.rng.choice((1, 1, 2, 2, 3))
    start = _annual_start(b, end, years)
    org = b.organisation(b.at(start - b.rng.randint(5, 60), 9, 15))
    people(b, org, b.rng.choice((2, 3, 4, 5)))
    plan = "enterprise" if number % 3 == 0 else "business"
    seats = b.rng.choice((32, 36, 42, 55, 64, 80, 110, 150, 210))
    currency = "EUR" if number % 7 == 0 else "USD"
    subscription = b.subscription(
        org, b.at(start), plan=plan, seats=seats, interval="year", currency=currency
    )
    if number % 4 == 0:
        b.contact(org, label="Billing contact", jobtitle="Accounts payable")
    org.record.properties |= {
        "members_active": str(b.rng.randint(seats // 3, seats)),
        "health": ("green", "green", "yellow", "red")[number % 4],
        "pending_true_up_mrr": "180" if number % 9 == 0 else None,
    }
    if start < -60:
        _first_deal(b, org, start, plan, subscription.mrr_native)
    if years > 1:
        _renewed_last_year(b, org, subscription, end)
    expect.paying(b, org, subscription)
    if end > 180 and number % 4:
        expect.renewal(b, org, subscription, "no_deal", b.day(end))
    else:
        close = end - (0, 3, 7)[number % 3]
        deal = renewal_deal(
            b, org, subscription, close, created=min(-3, max(-50 - number, start + 3)), linked=number % 5 == 0
        )
        expect.renewal(b, org, subscription, "open", b.day(close), deal=deal)


def _renewed_last_year(b: Builder, org: Organisation, subscription: Subscription, end: int) -> None:
    """The won deal of the term before this one; it belongs to no contract of today."""
    close = end - 365
    made, won = b.at(close - 160, 9), b.at(close - 95, 16)
    b.deal(
        org,
        name=f"{org.name} renewal of last year",
        pipeline="post_sales",
        stages=[(made, "renewal_planned"), (won - timedelta(days=20), "contract_sent"), (won, "renewed")],
        close_dates=[(made, b.at(close, 12)), (won, won)],
        deal_type="renewal",
        amount=str(subscription.mrr_native),
        currency=subscription.values["currency"],
        plan=subscription.values["plan"],
        next_activity=None,
        contact=org.contacts[0],
    )


def _small_annual(b: Builder) -> None:
    """An annual contract of at most 500 MRR: out of scope of the renewal pipeline."""
    end = b.rng.randint(15, 350)
    years = b.rng.choice((1, 2))
    start = _annual_start(b, end, years)
    org = b.organisation(b.at(start - b.rng.randint(3, 30), 13))
    people(b, org, b.rng.choice((1, 2, 3)))
    subscription = b.subscription(
        org, b.at(start), plan="business", seats=b.rng.randint(3, 22), interval="year"
    )
    expect.paying(b, org, subscription)


def _grew_a_little(b: Builder) -> None:
    """Gained fewer than twenty seats in ninety days: not fast growing."""
    org = _new_organisation(b)
    seats, gain = b.rng.choice((7, 12, 20, 31)), b.rng.randint(3, 19)
    subscription = b.subscription(org, b.at(_start(b, org), 10), plan="team", seats=seats)
    subscription.change(
        b.at(-b.rng.randint(5, 85), 14), seats=seats + gain, amount_minor=1200 * (seats + gain)
    )
    expect.paying(b, org, subscription)


def _grew_fast(b: Builder) -> None:
    """Gained more than twenty seats in ninety days."""
    org = _new_organisation(b)
    seats, gain = b.rng.choice((9, 15, 28, 40)), b.rng.randint(21, 64)
    subscription = b.subscription(org, b.at(_start(b, org), 10), plan="business", seats=seats)
    half = seats + gain // 2
    subscription.change(b.at(-b.rng.randint(50, 85), 14), seats=half, amount_minor=2000 * half)
    subscription.change(
        b.at(-b.rng.randint(3, 45), 9), seats=seats + gain, amount_minor=2000 * (seats + gain)
    )
    expect.paying(b, org, subscription)
    expect.fast_growing(b, org, now=seats + gain, baseline=seats)


def _never_paid(b: Builder) -> None:
    """Signed up, looked around, and is a lead at best; every other one has an open or a lost sales deal."""
    org = b.organisation(b.at(-b.rng.randint(20, 700), 16))
    contacts = people(b, org, b.rng.choice((1, 1, 2, 3)), b.rng.choice(("lead", "marketingqualifiedlead")))
    chance = b.rng.random()
    if chance < 0.5 and org.created < b.at(-75):
        made = b.at(-b.rng.randint(30, 70), 10)
        is_lost = chance < 0.2
        stages = [(made, "appointmentscheduled"), (made + timedelta(days=5), "qualifiedtobuy")]
        if is_lost:
            stages.append((made + timedelta(days=20), "closedlost"))
        b.deal(
            org,
            name=f"{org.name} new business",
            pipeline="default",
            stages=stages,
            close_dates=[(made, b.at(40, 12))],
            deal_type="newbusiness",
            amount=str(b.rng.choice((240, 600, 900))),
            owner=b.rng.choice(portal.SELLERS),
            plan="team",
            next_activity=None if is_lost else b.at(6, 9),
            contact=contacts[0],
        )
    expect.organisation(b, org, "never_paid")


def _free_plan(b: Builder) -> None:
    """Uses the free plan: seats, but never a payment."""
    org = _new_organisation(b)
    seats = b.rng.randint(2, 12)
    b.subscription(org, b.at(_start(b, org), 10), plan="free", seats=seats)
    expect.organisation(b, org, "never_paid", seats=seats)


def _trial(b: Builder) -> None:
    """Tries the product; nothing is paid yet."""
    started = -b.rng.randint(2, 12)
    org = b.organisation(b.at(started, 8))
    people(b, org, b.rng.choice((1, 2)), "lead")
    b.subscription(
        org,
        b.at(started, 9),
        plan="team",
        seats=b.rng.randint(3, 25),
        status="trialing",
        trial_end=b.at(started + 14, 9),
    )
    expect.organisation(b, org, "trial")


def _paused(b: Builder) -> None:
    """Paused its subscription: neither churn nor contraction."""
    org = _new_organisation(b)
    b.subscription(org, b.at(_start(b, org), 10), plan="team", seats=b.rng.randint(8, 30)).change(
        b.at(-b.rng.randint(15, 60), 10), status="paused"
    )
    expect.organisation(b, org, "paused")


def _past_due(b: Builder) -> None:
    """An invoice is open; seats and MRR still count."""
    org = _new_organisation(b)
    subscription = b.subscription(org, b.at(_start(b, org), 10), plan="team", seats=b.rng.randint(5, 20))
    subscription.change(b.at(-b.rng.randint(4, 25), 6), status="past_due")
    expect.paying(b, org, subscription)


def _left(b: Builder, end: int, *, recent: bool = False) -> None:
    """Cancelled and gone; on the churn list for ninety days."""
    org = b.organisation(b.at(end - b.rng.randint(240, 500), 10))
    people(b, org, b.rng.choice((1, 2, 3)))
    subscription = b.subscription(
        org, b.at((org.created.date() - b.as_of).days + 6, 10), plan="team", seats=b.rng.randint(4, 40)
    )
    reason = b.rng.choice(("too_expensive", "missing_features", "switched_service", "unused", "other"))
    subscription.cancel(b.at(end - b.rng.randint(2, 25), 13), b.at(end), reason, "We no longer need it.")
    b.left.add(org.id)
    expect.organisation(b, org, "churned")
    if not recent:
        expect.ended(b, org, "churned", b.day(end))
    else:
        expect.churn(b, org, subscription, "churned", b.day(end), expect.usd(subscription))


def _leaves_soon(b: Builder) -> None:
    """A monthly subscription with an end in the next weeks."""
    org = _new_organisation(b)
    subscription = b.subscription(org, b.at(_start(b, org), 10), plan="team", seats=b.rng.randint(6, 30))
    end = b.rng.randint(2, 27)
    subscription.cancel(b.at(-b.rng.randint(1, 9), 11), b.at(end), "unused")
    expect.paying(b, org, subscription)
    expect.churn(b, org, subscription, "scheduled", b.day(end), expect.usd(subscription))


def _loose_contacts(b: Builder) -> None:
    """People of no organisation: newsletter readers, partners, colleagues and strangers."""
    for number in range(36):
        stage = ("subscriber", "lead", "other", "evangelist", "salesqualifiedlead")[number % 5]
        status = ("ATTEMPTED_TO_CONTACT", "CONNECTED", "OPEN_DEAL", "UNQUALIFIED", None)[number % 5]
        created = b.at(-b.rng.randint(5, 500), 12)
        contact = b.contact(created=created, stage=stage, lead_status=status, owner=portal.SALES_LENA)
        if number == 4:
            contact.record.merged_ids.append(b.new_id("contacts"))
        if number % 9 == 0:
            b.archive("contacts", contact.id, b.at(-2, 12))


def chatter(b: Builder) -> None:
    """E-mails, calls, meetings, notes, tasks, survey answers and conversations of the organisations so far.

    Nothing in it changes a list but one: a conversation with a large client is on the list of interactions.
    """
    quiet = b.quiet
    orgs = [
        org for org in b.organisations if org.id not in quiet and org.contacts and not org.record.archived
    ]
    for _ in range(1750):
        org = b.rng.choice(orgs)
        contact = b.rng.choice(org.contacts)
        kind = b.rng.choice(
            ("emails",) * 8 + ("calls",) * 3 + ("meetings",) * 2 + ("notes",) * 4 + ("tasks",) * 3
        )
        at = b.at(-b.rng.randint(1, 360), b.rng.randint(7, 17), b.rng.randint(0, 59))
        if at < contact.created:
            continue
        author = b.rng.choice((org.owner, org.owner, portal.SUPPORT_PIA, *portal.SELLERS))
        automated = kind == "emails" and b.rng.random() < 0.35
        inbound = kind in ("emails", "calls") and not automated and b.rng.random() < 0.4
        b.engagement(kind, at, contact, author, b.rng.choice(_SUBJECTS), inbound=inbound, automated=automated)
    for _ in range(60):
        org = b.rng.choice(orgs)
        b.engagement(
            "tasks",
            b.at(b.rng.randint(-20, 20), 9),
            b.rng.choice(org.contacts),
            org.owner,
            "Send the usage report",
            status="NOT_STARTED",
            created=max(org.created, b.at(-25, 9)),
        )
    _answers(b, orgs)
    _conversations(b, orgs)


def _answers(b: Builder, orgs: list[Organisation]) -> None:
    """Promoters and passives of today, detractors of long ago, and surveys that are not NPS."""
    for _ in range(170):
        contact = b.rng.choice(b.rng.choice(orgs).contacts)
        at = b.at(-b.rng.randint(1, 175), b.rng.randint(6, 20), b.rng.randint(0, 59))
        if at > contact.created:
            b.survey(contact, at, b.rng.choice((7, 8, 8, 9, 9, 10, 10)), b.rng.choice(_COMMENTS))
    for _ in range(25):
        contact = b.rng.choice(b.rng.choice(orgs).contacts)
        at = b.at(-b.rng.randint(182, 380), 11)
        if at > contact.created:
            b.survey(contact, at, b.rng.randint(0, 6), "That was a bad week.")
    for survey, top in (("CSAT", 2), ("CES", 7)):
        for _ in range(25):
            contact = b.rng.choice(b.rng.choice(orgs).contacts)
            at = b.at(-b.rng.randint(1, 100), 12)
            if at > contact.created:
                b.survey(contact, at, b.rng.randint(0 if survey == "CSAT" else 1, top), survey=survey)
    b.survey(None, b.at(-31, 9), 3, "Anonymous, from the e-mail footer.")
    b.survey(None, b.at(-12, 9), 10)


def _conversations(b: Builder, orgs: list[Organisation]) -> None:
    alive = [org for org in orgs if b.tiers.get(org.id) in ("A", "B")] * 2
    others = [org for org in orgs if org.id in b.tiers and org.id not in b.left]
    for number in range(190):
        org = b.rng.choice(alive if number % 2 else others)
        contact = b.rng.choice(org.contacts)
        opened = b.at(-b.rng.randint(1, 75), b.rng.randint(6, 16), b.rng.randint(0, 59))
        if opened < contact.created:
            continue
        parts = [
            ("contact", opened),
            ("bot", opened + timedelta(minutes=1)),
            ("admin", opened + timedelta(minutes=40)),
        ]
        if b.rng.random() < 0.6:
            parts.append(("contact", opened + timedelta(hours=3)))
            parts.append(("admin", opened + timedelta(hours=4)))
        rating = (
            (b.rng.choice((3, 4, 5, 5)), opened + timedelta(hours=6), "") if b.rng.random() < 0.4 else None
        )
        named = org if b.rng.random() < 0.7 else None
        conversation = b.conversation(
            contact, parts, title=b.rng.choice(_TITLES), organisation=named, rating=rating
        )
        if opened.date() == b.day(-28) and b.tiers[org.id] in ("A", "B"):
            expect.change(
                b,
                "tier_ab_interactions",
                f"{conversation}:{org.id}",
                org,
                before="conversation",
                after=None,
            )
        if opened >= b.at(-27) and b.tiers[org.id] in ("A", "B"):
            expect.interaction(
                b, conversation, org, contact, opened.date(), rating=rating[0] if rating else None
            )
