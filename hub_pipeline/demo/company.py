"""The demo company: some five hundred organisations of a made-up documentation tool, with a known truth.

`build_company` is deterministic: the same seed and day give the same bytes, on every machine.
"""

from __future__ import annotations

from datetime import date

from hub_pipeline.demo import delivery, expect, ledger, population, stories
from hub_pipeline.demo.account import DEMO_AS_OF, DEMO_SEED, Company
from hub_pipeline.demo.builder import Builder


def build_company(seed: int = DEMO_SEED, as_of: date = DEMO_AS_OF) -> Company:
    """Generate the company as it stands three hours after `as_of` closed, with the truth of `as_of`.

    Some records changed in those three hours; they must not show in the answers of `as_of`.
    """
    b = Builder(seed, as_of)
    stories.tell(b)
    population.populate(b)
    population.chatter(b)
    expect.finish(b)
    ledger.write(b)
    b.truth.verify_claims()
    company = Company(
        seed=seed,
        as_of=as_of,
        now=b.now,
        hubspot=b.hubspot_account(),
        intercom=b.intercom,
        billing=b.billing_files(expect.fx_rates(b)),
        truth=b.truth,
    )
    delivery.write(company)
    return company
