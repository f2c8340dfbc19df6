"""The oracle's part about renewals and what may follow them: pipeline, forecast, rate, seat cohorts, upsell candidates.

Written, as ``oracle.py``, from the design's rules and from the boundary sentences of the models' contracts, never from
the SQL.
"""

from __future__ import annotations

from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from hub_pipeline_tests.models.oracle import ANNUAL, DAY, Oracle, Row, Stretch, a_year_before, cents, ratio

ZERO = Decimal(0)
STATUS_ORDER = ("won", "open", "lost")
#: How a deal came to a contract, best first.
NAMED, NEAR, ORGANISATION = range(3)
#: Findings that make the amount of a deal useless.
DIRTY_AMOUNT = {
    "amount_missing",
    "amount_not_positive",
    "amount_looks_annual",
    "amount_looks_monthly",
    "amount_looks_multi_year",
    "amount_mismatch",
    "currency_mismatch",
}


def month_end(day: date) -> date:
    return day.replace(day=monthrange(day.year, day.month)[1])


def apart(one: date | None, other: date | None) -> int | None:
    """Days between two dates; unknown when either is."""
    return None if one is None or other is None else abs((one - other).days)


def within(distance: int | None, limit: int) -> bool:
    return distance is not None and distance <= limit


@dataclass(frozen=True)
class Contract:
    """What runs as a paid plan at the close of as_of and can be renewed."""

    name: str
    org_id: str
    plan: str | None
    interval: str | None
    currency: str
    native: Decimal | None
    mrr: Decimal | None
    term_end: date | None
    previous_term_end: date | None
    scheduled_end: date | None
    is_enterprise: bool
    is_annual: bool
    out_of_scope_reason: str | None

    @property
    def in_scope(self) -> bool:
        return self.out_of_scope_reason is None


@dataclass(frozen=True)
class Pair:
    """A contract and a renewal deal that may belong to it."""

    contract: Contract
    deal: Row
    kind: int
    distance: int | None

    @property
    def order(self) -> tuple[Any, ...]:
        return (
            STATUS_ORDER.index(self.deal["status_now"]),
            self.kind,
            self.distance is None,
            self.distance or 0,
            self.deal["deal_id"],
            self.contract.name,
        )


class RenewalOracle(Oracle):
    """The company on one day, with its renewals."""

    # Deals as they stood at the close of as_of

    @cached_property
    def deals(self) -> list[Row]:
        """Deals that existed, with their organisation, status, stage and date to renew by at the close of as_of."""
        meaning = {(row["pipeline"], row["stage"]): row.get("status") for row in self.tables["stages"]}
        found = []
        for row in self.tables["deals"]:
            if row.get("is_deleted") or not self.before_close(row["created_at"]):
                continue
            status = row.get("status") or meaning.get((row.get("pipeline"), row.get("stage"))) or "open"
            closes_later = row["closed_at"] is not None and not self.before_close(row["closed_at"])
            if closes_later:
                status = "open"
            stage, since = self._stage(row, closes_later, is_closed=status != "open")
            known = {
                "org": self.who(row.get("org_id")),
                "currency": (row.get("currency") or self.settings.reporting_currency).upper(),
                "status_now": status,
                "stage_now": stage,
                "stage_since": since,
                "closed_on": self.day_of(row["closed_at"]) if status != "open" else None,
                "created_on": self.day_of(row["created_at"]),
            }
            known["renew_by"] = self._renew_by(row, closes_later, is_closed=status != "open")
            found.append(row | known)
        return found

    def _history(self, table: str, deal_id: str) -> list[Row]:
        """What was set on the deal before the close of as_of, in order of time."""
        mine = [row for row in self._histories[table].get(deal_id, ()) if self.before_close(row["set_at"])]
        return sorted(mine, key=lambda row: row["set_at"])

    @cached_property
    def _histories(self) -> dict[str, dict[str, list[Row]]]:
        found: dict[str, dict[str, list[Row]]] = {}
        for table in ("deal_stages", "deal_close_dates"):
            found[table] = defaultdict(list)
            for row in self.tables[table]:
                found[table][row["deal_id"]].append(row)
        return found

    def _stage(self, row: Row, closes_later: bool, is_closed: bool) -> tuple[str | None, datetime | None]:
        """The stage at the close of as_of and the instant the deal entered it."""
        entries = [
            one for one in self._history("deal_stages", row["deal_id"]) if one.get("stage") is not None
        ]
        stage = row.get("stage") if is_closed or not (entries or closes_later) else None
        if entries and not is_closed:
            stage = entries[-1]["stage"]
        since = row["closed_at"] if is_closed else None
        for one in reversed(entries):
            if one["stage"] != stage:
                break
            since = one["set_at"]
        return stage, since

    def _renew_by(self, row: Row, closes_later: bool, is_closed: bool) -> date | None:
        own = None if row.get("close_date") is None else date.fromisoformat(str(row["close_date"]))
        history = self._history("deal_close_dates", row["deal_id"])
        closed_on = self.day_of(row["closed_at"]) if is_closed or closes_later else None
        if not is_closed:
            if history:
                return self._date(history[-1])
            return None if closes_later and own == closed_on else own
        if closed_on is None:
            return own
        dates = [one for one in history if self._date(one) is not None]
        before_the_day = [one for one in dates if self.local(one["set_at"]) < closed_on]
        if before_the_day:
            return self._date(before_the_day[-1])
        not_by_closing = [
            one for one in dates if one["set_at"] < row["closed_at"] or self._date(one) != closed_on
        ]
        if not_by_closing:
            return self._date(not_by_closing[-1])
        return None if own == closed_on else own

    def _date(self, entry: Row) -> date | None:
        return None if entry.get("close_date") is None else date.fromisoformat(str(entry["close_date"]))

    # Contracts

    @cached_property
    def contracts(self) -> list[Contract]:
        found = []
        for name in sorted(self.stretches):
            one = self._closes[name].get(self.as_of)
            if one is not None and one.is_paid:
                found.append(self._contract(name, one))
        return found

    def _contract(self, name: str, one: Stretch) -> Contract:
        limits = self.settings.renewal
        mrr = self.convert(one, self.as_of)
        annual = one.interval in ANNUAL
        if one.term_start is not None and one.term_end is not None:
            annual = self.local(one.term_start) <= a_year_before(self.local(one.term_end))
        enterprise = self._is_enterprise(one.plan)
        reason = None
        if not annual and not enterprise:
            reason = "self_serve_monthly"
        elif mrr is None:
            reason = "mrr_unknown"
        elif not ((enterprise and mrr > limits.enterprise_mrr_over) or (annual and mrr > limits.mrr_over)):
            reason = "mrr_not_over_threshold"
        end = self._end_of(name)
        scheduled = end is not None and end[1] is None and self.local(end[0]) > self.as_of
        return Contract(
            name=name,
            org_id=one.org_id,
            plan=one.plan,
            interval=one.interval,
            currency=one.currency,
            native=one.native,
            mrr=mrr,
            term_end=self.day_of(one.term_end),
            previous_term_end=self._previous_term_end(name, one),
            scheduled_end=self.local(end[0]) if end is not None and scheduled else None,
            is_enterprise=enterprise,
            is_annual=annual,
            out_of_scope_reason=reason,
        )

    def _previous_term_end(self, name: str, now: Stretch) -> date | None:
        """The last earlier term end of its versions, else the start of the term when it was paid for before."""
        so_far = [one for one in self.stretches[name] if self.local(one.start) <= self.as_of]
        if now.term_end is not None:
            ends = [self.local(one.term_end) for one in so_far if one.term_end is not None]
            earlier = [day for day in ends if day < self.local(now.term_end)]
            if earlier:
                return max(earlier)
        if now.term_start is not None:
            started = self.local(now.term_start)
            if any(one.is_paid and self.local(one.start) < started for one in so_far):
                return started
        return None

    # Which deal belongs to which contract

    @cached_property
    def renewal_deals(self) -> list[Row]:
        return [
            deal
            for deal in self.deals
            if deal.get("pipeline") == "post_sales" and deal.get("deal_type") == "renewal"
        ]

    def _named(self, deal: Row) -> str | None:
        """The known subscription that the deal names."""
        name = deal.get("subscription_id")
        return name if name in self.stretches else None

    def _pairs(self) -> Iterator[Pair]:
        limit = self.settings.renewal.match_days
        for deal in self.renewal_deals:
            named = self._named(deal)
            if named is not None:
                for contract in self.contracts:
                    if contract.name == named and not self._is_of_the_term_before(deal, contract):
                        yield Pair(contract, deal, NAMED, apart(deal["renew_by"], contract.term_end))
                continue
            own = [contract for contract in self.contracts if contract.org_id == deal["org"]]
            distances = [(contract, apart(deal["renew_by"], contract.term_end)) for contract in own]
            fitting = [(contract, distance) for contract, distance in distances if within(distance, limit)]
            for contract, distance in fitting:
                yield Pair(contract, deal, NEAR, distance)
            if not fitting and deal["status_now"] == "open":
                for contract, distance in distances:
                    if distance is None:
                        yield Pair(contract, deal, ORGANISATION, None)

    def _is_of_the_term_before(self, deal: Row, contract: Contract) -> bool:
        if deal["status_now"] == "open":
            return False
        about = deal["renew_by"] or deal["closed_on"]
        now, before = apart(about, contract.term_end), apart(about, contract.previous_term_end)
        return now is not None and before is not None and before < now

    @cached_property
    def matches(self) -> dict[str, list[tuple[Pair, bool]]]:
        """Contract -> the deals that belong to it, and which one was chosen."""
        pairs = sorted(self._pairs(), key=lambda pair: pair.order)
        chosen: dict[str, Pair] = {}
        taken: set[str] = set()
        for pair in pairs:
            if pair.contract.name not in chosen and pair.deal["deal_id"] not in taken:
                chosen[pair.contract.name] = pair
                taken.add(pair.deal["deal_id"])
        found: dict[str, list[tuple[Pair, bool]]] = defaultdict(list)
        for pair in chosen.values():
            found[pair.contract.name].append((pair, True))
        for pair in pairs:
            if pair.deal["deal_id"] not in taken:
                found[pair.contract.name].append((pair, False))
                taken.add(pair.deal["deal_id"])
        return found

    # marts.renewal_pipeline

    def renewal_pipeline(self) -> list[Row]:
        return self._pipeline

    @cached_property
    def _pipeline(self) -> list[Row]:
        found = []
        matched = set()
        for contract in self.contracts:
            deal = None
            duplicate = False
            for pair, is_chosen in self.matches.get(contract.name, ()):
                matched.add(pair.deal["deal_id"])
                if is_chosen:
                    deal = pair.deal
                elif pair.deal["status_now"] == "open":
                    duplicate = True
            found.append(self._renewal(contract, deal, duplicate))
        orphans = [
            deal
            for deal in self.renewal_deals
            if deal["status_now"] == "open" and deal["deal_id"] not in matched
        ]
        return found + [self._renewal(None, deal, duplicate=False) for deal in orphans]

    def _renewal(self, contract: Contract | None, deal: Row | None, duplicate: bool) -> Row:
        limits = self.settings.renewal
        term_end = contract.term_end if contract else None
        renew_by = deal["renew_by"] if deal else None
        if renew_by is None:
            renew_by = term_end
        left = None if renew_by is None else (renew_by - self.as_of).days
        status = self._renewal_status(contract, deal)
        ahead = None
        if deal and deal["status_now"] == "won" and renew_by is not None and deal["closed_on"] is not None:
            ahead = (renew_by - deal["closed_on"]).days
        missed = False
        if status == "open":
            missed = left is not None and left < limits.lead_days
        elif status == "renewed":
            missed = ahead is not None and ahead < limits.lead_days
        org_id = contract.org_id if contract else deal["org"] if deal else None
        since = self.day_of(deal["stage_since"]) if deal else None
        owner = self.users.get(deal.get("owner_id"), {}) if deal else {}
        return {
            "renewal_id": contract.name if contract else f"deal:{deal['deal_id'] if deal else None}",
            "subscription_id": contract.name if contract else None,
            "deal_id": deal["deal_id"] if deal else None,
            "org_id": org_id,
            "plan": contract.plan if contract else None,
            "billing_interval": contract.interval if contract else None,
            "in_scope": contract is not None and contract.in_scope,
            "out_of_scope_reason": contract.out_of_scope_reason if contract else "no_subscription",
            "status": status,
            "timing": self._timing(left),
            "renew_by": renew_by,
            "term_end": term_end,
            "days_to_renew_by": left,
            "target_renew_by": renew_by and renew_by - timedelta(limits.lead_days),
            "closed_on": deal["closed_on"] if deal else None,
            "renewed_days_ahead": ahead,
            "missed_lead_target": missed,
            "mrr_at_stake": contract.mrr if contract else None,
            "scheduled_cancel": contract is not None and contract.scheduled_end is not None,
            "scheduled_end_on": contract.scheduled_end if contract else None,
            "deal_name": deal.get("name") if deal else None,
            "deal_amount": deal.get("amount") if deal else None,
            "deal_currency": deal["currency"] if deal else None,
            "stage": deal["stage_now"] if deal else None,
            "days_in_stage": None if since is None else (self.as_of - since).days,
            "deal_owner_id": deal.get("owner_id") if deal else None,
            "deal_owner_name": owner.get("name"),
            "hygiene": list(self._hygiene(contract, deal, duplicate)),
            "risk_reasons": self._risk_reasons.get(org_id, []),
        }

    @cached_property
    def _risk_reasons(self) -> dict[str | None, list[str]]:
        return {row["org_id"]: row["reasons"] for row in self.at_risk()}

    def _renewal_status(self, contract: Contract | None, deal: Row | None) -> str:
        if contract is None:
            return "orphan_deal"
        if deal is not None:
            return "renewed" if deal["status_now"] == "won" else str(deal["status_now"])
        if not contract.in_scope or contract.term_end is None or contract.scheduled_end is not None:
            return "no_deal"
        near = (contract.term_end - self.as_of).days <= self.settings.renewal.missing_days
        return "missing" if near else "no_deal"

    def _timing(self, left: int | None) -> str | None:
        if left is None:
            return None
        if left < 0:
            return "overdue"
        return "in_window" if left <= self.settings.renewal.lead_days else "upcoming"

    def _hygiene(self, contract: Contract | None, deal: Row | None, duplicate: bool) -> Iterator[str]:
        """The findings in the order of the contract of the mart."""
        if deal is None:
            if contract and self._was_lost_before(contract):
                yield "lost_but_still_billed"
            return
        limits = self.settings.renewal
        status, renew_by = deal["status_now"], deal["renew_by"]
        is_open = status == "open"
        yield from self._about_the_amount(contract, deal)
        if is_open and renew_by is None:
            yield "close_date_missing"
        term_end = contract.term_end if contract else None
        distance = apart(renew_by, term_end)
        if distance is not None and distance > limits.close_date_mismatch_days:
            yield "close_date_mismatch"
        if is_open and renew_by is not None and renew_by < self.as_of:
            yield "close_date_past_open"
        if is_open and deal["created_on"] is not None and renew_by == month_end(deal["created_on"]):
            yield "close_date_is_default"
        if is_open and deal.get("owner_id") is None:
            yield "owner_missing"
        owner = self.users.get(deal.get("owner_id"))
        if is_open and owner is not None and not owner.get("is_active"):
            yield "owner_inactive"
        if duplicate:
            yield "duplicate_open_renewal_deal"
        if contract and not contract.in_scope:
            yield "out_of_scope_in_pipeline"
        already_billed = self._is_already_billed(contract, deal)
        if contract is None and not already_billed:
            yield "no_active_subscription"
        if contract and contract.currency != deal["currency"]:
            yield "currency_mismatch"
        if limits.stages and deal["stage_now"] not in limits.stages:
            yield "stage_unknown"
        term_is_over = term_end is not None and term_end <= self.as_of
        if status == "won" and term_is_over:
            yield "won_but_not_billed"
        if already_billed:
            yield "billed_but_deal_open"
        if status == "lost" and term_is_over:
            yield "lost_but_still_billed"
        if contract is None and self.daily.get(str(deal["org"]), {}).get("state") == "churned":
            yield "churned_with_open_deal"
        if is_open and deal.get("has_next_activity") is False:
            yield "no_next_activity"

    def _about_the_amount(self, contract: Contract | None, deal: Row) -> Iterator[str]:
        amount = deal.get("amount")
        if amount is None:
            yield "amount_missing"
            return
        if amount <= 0:
            yield "amount_not_positive"
            return
        if contract is None or contract.currency != deal["currency"] or not contract.native:
            return
        mrr = contract.native
        by_year = self.settings.renewal.deal_amount_basis == "arr"
        monthly = amount / 12 if by_year else amount
        looks = []
        if not by_year and Decimal("10.8") * mrr <= amount <= Decimal("13.2") * mrr:
            looks.append("amount_looks_annual")
        if by_year and Decimal("10.8") * amount <= 12 * mrr <= Decimal("13.2") * amount:
            looks.append("amount_looks_monthly")
        if any(
            months * mrr * Decimal("0.9") <= monthly <= months * mrr * Decimal("1.1") for months in (24, 36)
        ):
            looks.append("amount_looks_multi_year")
        if not looks and not mrr / 2 <= monthly <= mrr * 2:
            looks.append("amount_mismatch")
        yield from looks

    def _fits(self, one: date | None, other: date | None) -> bool:
        return within(apart(one, other), self.settings.renewal.match_days)

    def _is_already_billed(self, contract: Contract | None, deal: Row) -> bool:
        """Open, and about a term that billing has followed by another."""
        if deal["status_now"] != "open":
            return False
        if contract is None:
            return any(
                self._fits(deal["renew_by"], other.previous_term_end)
                for other in self.contracts
                if other.org_id == deal["org"]
            )
        about_before = self._fits(deal["renew_by"], contract.previous_term_end)
        about_now = self._fits(deal["renew_by"], contract.term_end) or contract.term_end is None
        return about_before and not about_now

    def _was_lost_before(self, contract: Contract) -> bool:
        """The term before has a lost deal and no won one."""
        statuses = set()
        for deal in self.renewal_deals:
            named = self._named(deal)
            mine = named == contract.name if named else deal["org"] == contract.org_id
            if mine and self._fits(deal["renew_by"], contract.previous_term_end):
                statuses.add(deal["status_now"])
        return "lost" in statuses and "won" not in statuses

    # marts.renewal_forecast

    def renewal_forecast(self) -> list[Row]:
        return [self._forecast(first, last) for first, last in self._forecast_periods()]

    def _forecast_periods(self) -> Iterator[tuple[date, date]]:
        metrics = self.settings.metrics
        if metrics.period_start and metrics.period_end:
            yield metrics.period_start, metrics.period_end
            return
        first = (self.as_of + DAY).replace(day=1)
        for _ in range(12):
            yield first, month_end(first)
            first = month_end(first) + DAY

    def _forecast(self, first: date, last: date) -> Row:
        due = renewed = forecast = upsell = ZERO
        contracts = unknown = 0
        for row in self._pipeline:
            if not row["in_scope"] or row["renew_by"] is None or not first <= row["renew_by"] <= last:
                continue
            mrr = row["mrr_at_stake"]
            contracts += 1
            due += mrr
            if row["status"] == "renewed":
                renewed += mrr
            probability = self._probability(row)
            if probability is None:
                unknown += 1
                continue
            amount = self._clean_amount(row)
            forecast += (mrr if amount is None else min(amount, mrr)) * probability
            upsell += (ZERO if amount is None else max(amount - mrr, ZERO)) * probability
        return {
            "period_start": first,
            "period_end": last,
            "contracts": contracts,
            "without_probability": unknown,
            "renewals_due_mrr": due,
            "renewed_mrr": renewed,
            "renewal_forecast_mrr": cents(forecast),
            "upsell_forecast_mrr": cents(upsell),
        }

    def _probability(self, row: Row) -> Decimal | None:
        if row["scheduled_cancel"] or row["status"] == "lost":
            return ZERO
        if row["status"] == "renewed":
            return Decimal(1)
        by_settings = self.settings.renewal.stage_probability
        if row["status"] != "open":
            return by_settings.get("_missing")
        if row["stage"] in by_settings:
            return by_settings[row["stage"]]
        for stage in self.tables["stages"]:
            if stage["pipeline"] == "post_sales" and stage["stage"] == row["stage"]:
                own: Decimal | None = stage.get("probability")
                return own
        return None

    def _clean_amount(self, row: Row) -> Decimal | None:
        """The deal's amount for a month in the reporting currency, when nothing is wrong with it."""
        if row["deal_id"] is None or DIRTY_AMOUNT & set(row["hygiene"]):
            return None
        rate = self.rate(row["deal_currency"], self.as_of)
        assert rate is not None, "a contract in scope has an MRR, and a clean amount the same currency"
        months = 12 if self.settings.renewal.deal_amount_basis == "arr" else 1
        return cents(row["deal_amount"] * rate / months)

    # marts.renewal_rate

    def _held(self, name: str, day: date) -> Stretch | None:
        """What the subscription is at the close of a day, planned changes included, if it runs as a paid plan then."""
        last_moment = self.close(day) - timedelta(microseconds=1)
        for one in self.stretches[name]:
            if one.is_paid and one.holds_at(last_moment):
                return one
        return None

    def renewal_rate(self) -> list[Row]:
        metrics = self.settings.metrics
        first, last = self.as_of.replace(day=1), month_end(self.as_of)
        if metrics.period_start and metrics.period_end:
            first, last = metrics.period_start, metrics.period_end
        frozen = {
            name: held
            for name in sorted(self.stretches)
            if (held := self._held(name, first - DAY)) is not None
        }
        up = [
            (name, one, self.local(one.term_end))
            for name, one in frozen.items()
            if one.term_end is not None and first <= self.local(one.term_end) <= last
        ]
        due = [(name, one, day) for name, one, day in up if day <= self.as_of]
        atr = {name: self.convert(one, self.as_of) or ZERO for name, one, _ in up}
        renewed: dict[str, Decimal] = {}
        gone: dict[str, list[tuple[date, str]]] = defaultdict(list)
        for name, one, day in due:
            held = self._held(name, day)
            if held is None:
                gone[one.org_id].append((day, name))
            else:
                renewed[name] = self.convert(held, self.as_of) or ZERO
        for org_id, contracts in gone.items():
            renewed |= self._renewed_under_new_ids(org_id, contracts, frozen, atr)
        accounts = {self.root(one.org_id) for _, one, _ in due}
        kept_accounts = {self.root(one.org_id) for name, one, _ in due if renewed[name] > 0}
        atr_due = sum((atr[name] for name, _, _ in due), ZERO)
        gross = sum((min(renewed[name], atr[name]) for name, _, _ in due), ZERO)
        net = sum(renewed.values(), ZERO)
        return [
            {
                "period_start": first,
                "period_end": last,
                "contracts": len(due),
                "renewed_contracts": sum(amount > 0 for amount in renewed.values()),
                "atr_mrr": atr_due,
                "renewed_mrr": net,
                "pending_contracts": len(up) - len(due),
                "pending_mrr": sum(atr.values(), ZERO) - atr_due,
                "gross_renewal_rate": ratio(gross, atr_due),
                "net_renewal_rate": ratio(net, atr_due),
                "logo_renewal_rate": ratio(len(kept_accounts), len(accounts)),
            }
        ]

    def _renewed_under_new_ids(
        self,
        org_id: str,
        contracts: Iterable[tuple[date, str]],
        frozen: dict[str, Stretch],
        atr: dict[str, Decimal],
    ) -> dict[str, Decimal]:
        """What the organisation's new subscriptions bring to its contracts that ended, each counted once."""
        by_day: dict[date, list[str]] = defaultdict(list)
        for day, name in sorted(contracts):
            by_day[day].append(name)
        new = {name for name in self._names_of_org.get(org_id, ()) if name not in frozen}
        found = {}
        for day, names in by_day.items():
            left = ZERO
            for name in sorted(new):
                held = self._held(name, day)
                if held is not None and held.org_id == org_id:
                    left += self.convert(held, self.as_of) or ZERO
                    new.discard(name)
            for name in names:
                found[name] = left if name == names[-1] else min(left, atr[name])
                left -= found[name]
        return found

    # marts.seat_cohorts

    def seat_cohorts(self) -> list[Row]:
        first_paid_seat: dict[str, date] = {}
        for calendar in self._closes.values():
            for day, one in calendar.items():
                if one.is_paid and (one.seats or 0) > 0:
                    account = self.root(one.org_id)
                    first_paid_seat[account] = min(day, first_paid_seat.get(account, day))
        cohorts: dict[date, list[list[str]]] = defaultdict(list)
        for account, members in self.accounts().items():
            if account in first_paid_seat:
                cohorts[first_paid_seat[account].replace(day=1)].append(members)
        found = []
        for cohort, accounts in sorted(cohorts.items()):
            base: int | None = None
            end, number = month_end(cohort), 0
            while end <= self.as_of:
                seats = sum(self.seats(org, end) for members in accounts for org in members)
                base = seats if base is None else base
                found.append(
                    {
                        "cohort": cohort,
                        "month_number": number,
                        "month_end": end,
                        "accounts": len(accounts),
                        "seats": seats,
                        "retention": ratio(seats, base),
                    }
                )
                end, number = month_end(end + DAY), number + 1
        return found

    # marts.upsell_pipeline

    def upsell_pipeline(self) -> list[Row]:
        open_upsells = [
            deal for deal in self.deals if deal.get("deal_type") == "upsell" and deal["status_now"] == "open"
        ]
        with_deal = {deal["org"] for deal in open_upsells}
        found = [self._upsell_deal(deal) for deal in open_upsells if deal.get("pipeline") == "post_sales"]
        for org_id, row in self.daily.items():
            for kind in self._candidate_kinds(org_id, row, org_id in with_deal):
                owner = self.record(org_id).get("owner_id")
                found.append(
                    self._upsell(f"{kind}:{org_id}", kind, org_id, [org_id], owner)
                    | self._about_the_organisation(org_id)
                    | {"has_open_upsell_deal": org_id in with_deal}
                )
        for kind, shared, org_ids in self._joint_plans():
            first = min(org_ids, key=lambda org: (-(self.daily[org]["mrr"] or ZERO), org))
            org_id = shared if kind == "joint_plan_parent" else first
            owner = self.record(org_id).get("owner_id") if org_id in self.daily else None
            found.append(
                self._upsell(f"{kind}:{shared}", kind, org_id, org_ids, owner)
                | {
                    "seats": self._together(org_ids, "seats"),
                    "mrr": self._together(org_ids, "mrr"),
                    "has_open_upsell_deal": any(org in with_deal for org in org_ids),
                }
            )
        return found

    def _upsell(
        self, upsell_id: str, kind: str, org_id: str | None, org_ids: list[str], owner: str | None
    ) -> Row:
        return {
            "upsell_id": upsell_id,
            "kind": kind,
            "org_id": org_id,
            "org_ids": sorted(org_ids),
            "owner_id": owner,
            "owner_name": self.users.get(owner, {}).get("name"),
            "tier": self.daily.get(str(org_id), {}).get("tier"),
            "seats": None,
            "mrr": None,
            "organic_seat_delta": None,
            "seat_utilisation": None,
            "pending_true_up_mrr": None,
            "deal_id": None,
            "deal_name": None,
            "deal_amount": None,
            "deal_currency": None,
            "stage": None,
            "close_date": None,
        }

    def _upsell_deal(self, deal: Row) -> Row:
        org_id = deal["org"]
        row = self._upsell(
            f"deal:{deal['deal_id']}", "open_deal", org_id, [org_id] if org_id else [], deal.get("owner_id")
        )
        return (
            row
            | self._about_the_organisation(org_id)
            | {
                "has_open_upsell_deal": True,
                "deal_id": deal["deal_id"],
                "deal_name": deal.get("name"),
                "deal_amount": deal.get("amount"),
                "deal_currency": deal["currency"],
                "stage": deal["stage_now"],
                "close_date": deal["renew_by"],
            }
        )

    def _about_the_organisation(self, org_id: str | None) -> Row:
        if org_id is None or org_id not in self.daily:
            return {}
        row, record = self.daily[org_id], self.record(org_id)
        members, seats = record.get("members_active"), row["seats"]
        return {
            "seats": seats,
            "mrr": row["mrr"],
            "organic_seat_delta": self._growths.get(org_id, {}).get("organic_seat_delta"),
            "seat_utilisation": None if members is None or not seats else ratio(members, seats),
            "pending_true_up_mrr": record.get("pending_true_up_mrr"),
        }

    @cached_property
    def _growths(self) -> dict[str, Row]:
        return {row["org_id"]: row for row in self.seat_growth()}

    def _candidate_kinds(self, org_id: str, row: Row, has_deal: bool) -> Iterator[str]:
        record = self.record(org_id)
        if self._growths.get(org_id, {}).get("is_fast_growing") and not has_deal:
            yield "fast_growing"
        members, seats = record.get("members_active"), row["seats"]
        paying = row["state"] == "paying"
        if paying and members is not None and seats and members >= seats * self.settings.upsell.utilisation:
            yield "utilisation"
        if (record.get("pending_true_up_mrr") or 0) > 0:
            yield "true_up"
        enough = row["mrr"] is not None and row["mrr"] > self.settings.renewal.mrr_over
        if paying and enough and self._pays_month_by_month(org_id):
            yield "annual"

    def _pays_month_by_month(self, org_id: str) -> bool:
        """Its largest paid subscription is billed by the month and has no term of a year."""
        mine = [contract for contract in self.contracts if contract.org_id == org_id]
        largest = min(mine, key=lambda one: (-(one.mrr or ZERO), one.name))
        return largest.interval == "month" and not largest.is_annual

    def _joint_plans(self) -> Iterator[tuple[str, str, list[str]]]:
        by_parent: dict[str, list[str]] = defaultdict(list)
        by_domain: dict[str, list[str]] = defaultdict(list)
        for org_id, row in self.daily.items():
            if row["state"] != "paying":
                continue
            if org_id in self.parents:
                by_parent[self.parents[org_id]].append(org_id)
            domain = str(self.record(org_id).get("domain") or "").lower().removeprefix("www.")
            if domain and domain not in self.settings.matching.free_mail_domains:
                by_domain[domain].append(org_id)
        for parent, org_ids in by_parent.items():
            if len(org_ids) > 1:
                yield "joint_plan_parent", parent, org_ids
        for domain, org_ids in by_domain.items():
            if len({self.root(org) for org in org_ids}) > 1:
                yield "joint_plan_domain", domain, org_ids

    def _together(self, org_ids: Iterable[str], column: str) -> Any:
        """What is known of it; unknown when nothing is."""
        known = [self.daily[org][column] for org in org_ids if self.daily[org][column] is not None]
        return sum(known) if known else None


#: The marts that RenewalOracle adds.
MARTS = ("renewal_pipeline", "renewal_forecast", "renewal_rate", "seat_cohorts", "upsell_pipeline")
