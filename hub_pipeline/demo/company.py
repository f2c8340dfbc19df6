"""The demo company: some four hundred customers of a made-up documentation tool, with a known truth.

`build_company` is deterministic: the same seed and day give the same bytes, on every machine.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from hub_pipeline.demo import expect, population, stories
from hub_pipeline.demo.account import DEMO_AS_OF, DEMO_SEED, Company
from hub_pipeline.demo.builder import Builder, add_months

_EUR_RATES = ("1.05", "1.07", "1.06", "1.09", "1.12", "1.08")


def build_company(seed: int = DEMO_SEED, as_of: date = DEMO_AS_OF) -> Company:
    """Generate the company as it stands three hours after `as_of` closed, with the truth of `as_of`.

    Some records changed in those three hours; they must not show in the answers of `as_of`.
    """
    b = Builder(seed, as_of)
    stories.tell(b)
    population.populate(b)
    population.chatter(b)
    expect.finish(b)
    return Company(
        seed=seed,
        as_of=as_of,
        now=b.now,
        hubspot=b.hubspot_account(),
        intercom=b.intercom,
        billing=b.billing_files(_fx_rates(b)),
        truth=b.truth,
    )


def _fx_rates(b: Builder) -> list[tuple[date, str, str]]:
    """Euro rates of two years, monthly; the one of as_of's month is the rate of the truth, tomorrow's is not."""
    first = datetime.combine(b.as_of.replace(day=1), time(0), UTC)
    rates = [(add_months(first, -n).date(), "EUR", _EUR_RATES[n % len(_EUR_RATES)]) for n in range(26, 0, -1)]
    return [*rates, (first.date(), "EUR", str(expect.EUR_RATE)), (b.day(1), "EUR", "1.25")]
