"""What hub.flag_quality and hub.renewal_forecast_accuracy should say, as plain loops over the oracle's days.

Written from the contracts of these views. Each stored day is the `RenewalOracle` of that day with what was known by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from statistics import median
from typing import Any

from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.oracle import Oracle, cents, ratio
from hub_pipeline_tests.models.oracle_renewals import RenewalOracle

Row = dict[str, Any]
World = Mapping[str, Sequence[Mapping[str, Any]]]

CONTRACTIONS = {"seat_contraction", "mrr_contraction"}
WINDOW = timedelta(180)


class Outcomes:
    """The company on several stored days."""

    def __init__(self, world: World, days: Sequence[date], settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.days = sorted(days)
        self.on = {day: RenewalOracle(world, day, day, self.settings) for day in self.days}
        self._risks = {
            day: {row["org_id"]: row for row in oracle.at_risk()} for day, oracle in self.on.items()
        }
        self._churns = {day: oracle.churn_flags() for day, oracle in self.on.items()}

    # hub.flag_quality

    def flag_quality(self) -> list[Row]:
        """One row for each day and reason."""
        return [
            self._quality(day, reason)
            for day in self.days
            for reason in ("any", "seat_contraction", "mrr_contraction", "nps_detractor")
        ]

    def _quality(self, day: date, reason: str) -> Row:
        customers = [org for org, row in self.on[day].daily.items() if row["is_customer"]]
        flagged = {
            org
            for org in customers
            if org in self._risks[day] and (reason == "any" or reason in self._risks[day][org]["reasons"])
        }
        after = [other for other in self.days if other >= day + WINDOW]
        if not after:
            return {
                "as_of": day,
                "reason": reason,
                "status": "pending",
                "evaluated_on": None,
                "customers": len(customers),
                "flagged": len(flagged),
                "lost": None,
                "true_positives": None,
                "precision": None,
                "recall": None,
                "median_lead_days": None,
            }
        judged = [org for org in customers if org in self.on[after[0]].daily]
        losses = {org: self._loss(day, after[0], org) for org in judged}
        lost = {org: found for org, found in losses.items() if found is not None}
        flagged &= set(judged)
        hits = flagged & set(lost)
        leads = [(when - day).days for org in hits if (when := lost[org][1]) is not None]
        return {
            "as_of": day,
            "reason": reason,
            "status": "complete",
            "evaluated_on": after[0],
            "customers": len(judged),
            "without_outcome": len(customers) - len(judged),
            "flagged": len(flagged),
            "lost": len(lost),
            "lost_by_churn": sum(kind == "churn" for kind, _ in lost.values()),
            "lost_by_contraction": sum(kind == "contraction" for kind, _ in lost.values()),
            "true_positives": len(hits),
            "false_positives": len(flagged - hits),
            "false_negatives": len(set(lost) - flagged),
            "precision": ratio(len(hits), len(flagged)),
            "recall": ratio(len(hits), len(lost)),
            "base_rate": ratio(len(lost), len(judged)),
            "median_lead_days": Decimal(str(median(leads))).quantize(Decimal("0.1")) if leads else None,
        }

    def _loss(self, day: date, evaluated_on: date, org: str) -> tuple[str, date | None] | None:
        """How and when a customer of the day was lost in the days after it; None if it was not."""
        ends = [
            row["churn_date"]
            for row in self._churns[evaluated_on]
            if row["org_id"] == org
            and row["state"] in ("churned", "reactivated")
            and day < row["churn_date"] <= day + WINDOW
        ]
        if ends:
            return "churn", min(ends)
        within = [other for other in self.days if day < other <= day + WINDOW]
        length = timedelta(self.settings.contraction.days)
        if not any(
            other - length >= day
            and CONTRACTIONS & set(self._risks[other].get(org, {"reasons": []})["reasons"])
            for other in within
        ):
            return None
        before = self.on[day].daily[org]
        for other in within:
            now = self.on[other].daily.get(org)
            if now is not None and (
                _less(now["seats"], before["seats"])
                or (before["mrr"] is not None and _less(now["mrr"], before["mrr"] * Decimal("0.9")))
            ):
                return "contraction", other
        return "contraction", None

    # hub.renewal_forecast_accuracy, of a company without deals

    def forecast_accuracy(self) -> list[Row]:
        """One row for each month that is over and each month ahead of it on which a day is stored."""
        first, last = self.days[0], self.days[-1]
        found = []
        start = first.replace(day=1)
        while start <= last:
            following = (start + timedelta(31)).replace(day=1)
            end = following - timedelta(1)
            if end <= last:
                found += self._of_month(start, end)
            start = following
        return found

    def _of_month(self, start: date, end: date) -> list[Row]:
        months: dict[int, date] = {}
        for day in self.days:
            lead = 12 * (start.year - day.year) + start.month - day.month - 1
            # a forecast covers the month of the next day and the eleven after it
            last_lead = 11 - (1 if (day + timedelta(1)).month == day.month else 0)
            if 0 <= lead <= last_lead:
                months[lead] = day
        return [self._accuracy(start, end, lead, day) for lead, day in months.items()]

    def _accuracy(self, start: date, end: date, lead: int, day: date) -> Row:
        outcome_on = next(other for other in self.days if other >= end)
        before = {row["renewal_id"]: row for row in self.on[day].renewal_pipeline()}
        after = {row["renewal_id"]: row for row in self.on[outcome_on].renewal_pipeline()}
        chance = self.settings.renewal.stage_probability.get("_missing", Decimal(0))
        due = {
            name: row
            for name, row in before.items()
            if row["in_scope"] and row["renew_by"] is not None and start <= row["renew_by"] <= end
        }
        forecast = sum(
            (row["mrr_at_stake"] * (0 if row["scheduled_cancel"] else chance) for row in due.values()),
            Decimal(0),
        )
        kept = undecided = upsell = Decimal(0)
        renewed = 0
        lost: dict[str, Decimal] = {}
        for name, row in due.items():
            now = after.get(name)
            if now is None:
                lost[row["org_id"]] = lost.get(row["org_id"], Decimal(0)) + row["mrr_at_stake"]
                continue
            lasts = row["renew_by"] > outcome_on
            worth = (
                Decimal(0) if lasts and now["scheduled_cancel"] else self._worth(row, now, day, outcome_on)
            )
            share = row["mrr_at_stake"] if worth is None else min(worth, row["mrr_at_stake"])
            kept += share
            undecided += share if lasts or worth is None else 0
            upsell += 0 if worth is None else worth - share
            renewed += worth is None or worth > 0
        for org, amount in lost.items():
            new = [
                row["mrr_at_stake"]
                for name, row in after.items()
                if row["org_id"] == org and name not in before and row["mrr_at_stake"]
            ]
            kept += min(amount, sum(new, Decimal(0)))
        actual = cents(kept) if due else None
        expected = cents(forecast)
        return {
            "period_start": start,
            "period_end": end,
            "lead_months": lead,
            "forecast_as_of": day,
            "outcome_as_of": outcome_on,
            "contracts": len(due),
            "renewed_contracts": renewed,
            "renewals_due_mrr": cents(sum((row["mrr_at_stake"] for row in due.values()), Decimal(0))),
            "renewal_forecast_mrr": expected,
            "actual_renewed_mrr": actual,
            "undecided_mrr": cents(undecided) if due else None,
            "error_mrr": None if actual is None else expected - actual,
            "absolute_error_pct": None if not actual else ratio(abs(expected - actual), actual),
            "actual_upsell_mrr": cents(upsell) if due else None,
        }

    def _worth(self, row: Row, now: Row, day: date, outcome_on: date) -> Decimal | None:
        """MRR of a running contract on the outcome's day, at the rate of the forecast's where it has one currency."""
        then, held = (
            next(
                one
                for one in self.on[when].running(which["org_id"], when)
                if one.subscription_id == row["renewal_id"]
            )
            for when, which in ((day, row), (outcome_on, now))
        )
        if then.currency != held.currency or not then.native:
            known: Decimal | None = now["mrr_at_stake"]
            return known
        return None if held.native is None else cents(row["mrr_at_stake"] * held.native / then.native)


def _less(one: Any, other: Any) -> bool:
    return one is not None and other is not None and one < other


# marts.tie_out, of a company without deals

PERIODS = {
    "month": (1, 1),
    "quarter": (1, 3),
    "year": (1, 12),
    "two_years": (1, 24),
    "week": (52, 12),
}


def tie_out(world: World, as_of: date, known_at: date, settings: Settings) -> list[Row]:
    """One row for each organisation of which billing, the CRM or an invoice says something."""
    oracle = Oracle(world, as_of, known_at, settings)
    said: dict[str, dict[str, list[Decimal | None]]] = {}
    prorated = set()
    for org in {one.org_id for stretches in oracle.stretches.values() for one in stretches}:
        for one in oracle.running(org, as_of):
            _add(said, org, "contract" if one.is_contract else "billing", oracle.convert(one, as_of))
    for stretches in oracle.stretches.values():
        for one in stretches:
            if not one.is_contract and one.start < oracle.close_of_day:
                _add(said, one.org_id, "billing", Decimal(0))
    for row in _latest(oracle, world.get("crm_subscriptions", ()), ("org_id",), "effective_at"):
        org = oracle.who(row["org_id"]) or ""
        end = oracle.instant(row.get("cancel_at"))
        runs = row["status"] in ("active", "past_due") and (end is None or end >= oracle.close_of_day)
        times, parts = PERIODS[row["billing_interval"]]
        amount = None if row.get("amount") is None else _half_up(Fraction(str(row["amount"])) * times / parts)
        _add(said, org, "crm", _converted(oracle, amount, row["currency"], as_of) if runs else Decimal(0))
    for org, amount, proration in _invoiced(oracle, world, as_of):
        if proration:
            prorated.add(org)
        else:
            _add(said, org, "invoiced", amount)
    sources = {kind for kinds in said.values() for kind in kinds}
    found = []
    for org, kinds in said.items():
        sums = {kind: _sum(kinds.get(kind)) for kind in ("billing", "crm", "contract", "invoiced")}
        silent = all(
            kind not in kinds or (kind not in ("contract", "invoiced") and sums[kind] == 0) for kind in sums
        )
        if silent:
            continue
        billed = (sums["billing"] or 0) > 0
        missing = [
            kind
            for kind, is_missing in (
                (
                    "billing",
                    "billing" in sources
                    and "billing" not in kinds
                    and "contract" not in kinds
                    and ((sums["crm"] or 0) > 0 or "invoiced" in kinds),
                ),
                ("crm", "crm" in sources and "crm" not in kinds and billed),
                ("invoices", "invoiced" in sources and "invoiced" not in kinds and billed),
            )
            if is_missing
        ]
        found.append(
            {
                "org_id": org,
                "billing_mrr": sums["billing"],
                "crm_mrr": sums["crm"],
                "contract_mrr": sums["contract"],
                "invoiced_mrr": sums["invoiced"],
                "missing": missing,
                "has_proration": org in prorated,
            }
        )
    return found


def _add(
    said: dict[str, dict[str, list[Decimal | None]]], org: str, kind: str, value: Decimal | None
) -> None:
    said.setdefault(org, {}).setdefault(kind, []).append(value)


def _sum(values: list[Decimal | None] | None) -> Decimal | None:
    """Unknown when nobody says anything, or one of them is unknown."""
    known = [value for value in values or () if value is not None]
    return sum(known, Decimal(0)) if values and len(known) == len(values) else None


def _converted(oracle: Oracle, amount: Decimal | None, currency: str, day: date) -> Decimal | None:
    rate = oracle.rate(currency, day)
    return None if amount is None or rate is None else cents(amount * rate)


def _latest(
    oracle: Oracle, table: Sequence[Mapping[str, Any]], key: tuple[str, ...], own_time: str
) -> list[Row]:
    """Of each record the row that holds at the close of the day: the last that took effect, of equals the last told."""
    best: dict[Any, tuple[Any, Row]] = {}
    for row in table:
        at = oracle.instant(row[own_time])
        recorded_at = oracle.instant(row.get("recorded_at")) or at
        assert at is not None
        assert recorded_at is not None
        if recorded_at >= oracle.known or at >= oracle.close_of_day:
            continue
        name = tuple(row[column] for column in key)
        if name not in best or (at, recorded_at) > best[name][0]:
            best[name] = ((at, recorded_at), dict(row))
    return [row for _, row in best.values()]


def _known(oracle: Oracle, table: Sequence[Mapping[str, Any]], key: tuple[str, ...]) -> list[Row]:
    """Of each record the row told last."""
    best: dict[Any, Row] = {}
    for row in sorted(table, key=lambda one: oracle.instant(one["recorded_at"])):
        recorded_at = oracle.instant(row["recorded_at"])
        assert recorded_at is not None
        if recorded_at < oracle.known:
            best[tuple(row[column] for column in key)] = dict(row)
    return list(best.values())


def _invoiced(oracle: Oracle, world: World, as_of: date) -> list[tuple[str, Decimal | None, bool]]:
    """(organisation, a month of it in the reporting currency, is it a proration) of the lines that cover the day."""
    holders = {
        one.subscription_id: one.org_id
        for stretches in oracle.stretches.values()
        for one in sorted(stretches, key=lambda stretch: stretch.start)
        if one.start < oracle.close_of_day
    }
    lines: dict[str, list[Row]] = {}
    for line in _known(oracle, world.get("invoice_lines", ()), ("invoice_id", "line_id")):
        made = oracle.instant(line.get("created_at"))
        if not line.get("is_deleted") and (made is None or made < oracle.close_of_day):
            lines.setdefault(line["invoice_id"], []).append(line)
    found = []
    for invoice in _known(oracle, world.get("invoices", ()), ("invoice_id",)):
        made = oracle.instant(invoice["created_at"])
        assert made is not None
        counts = invoice["status"] in ("open", "paid", "uncollectible") and not invoice.get("is_deleted")
        if not counts or made >= oracle.close_of_day:
            continue
        net = Decimal(str(invoice["total"])) - Decimal(str(invoice.get("tax") or 0))
        own = lines.get(invoice["invoice_id"]) or [{**invoice, "amount": net, "is_proration": False}]
        gross = sum((Decimal(str(line["amount"])) for line in own), Decimal(0))
        kept = Fraction(net) / Fraction(gross) if gross > 0 and 0 <= net <= gross else Fraction(1)
        for line in own:
            if line.get("period_start") is None or line.get("period_end") is None:
                continue
            first, end = (oracle.local(oracle.instant(line[name])) for name in ("period_start", "period_end"))  # type: ignore[arg-type]
            if not first <= as_of < end:
                continue
            org = holders.get(line.get("subscription_id")) or oracle.who(invoice["org_id"]) or ""
            if line.get("is_proration"):
                found.append((org, None, True))
            elif line.get("subscription_id") is not None:
                month = _half_up(Fraction(str(line["amount"])) * kept * _share_of_a_month(first, end))
                found.append((org, _converted(oracle, month, invoice["currency"], as_of), False))
    return found


def _half_up(value: Fraction) -> Decimal:
    """To cents; a half of a third of a cent is not lost in decimals either."""
    units = (2 * abs(value) * 100 + 1) // 2
    return Decimal(int(units) if value >= 0 else -int(units)).scaleb(-2)


def _share_of_a_month(first: date, end: date) -> Fraction:
    """What a month is of a period: by whole months, by whole weeks, else by days."""
    months = 12 * (end.year - first.year) + end.month - first.month
    last_of_first, last_of_end = (
        (day.replace(day=28) + timedelta(4)).replace(day=1) - timedelta(1) for day in (first, end)
    )
    same_day = (
        first.day == end.day
        or (end == last_of_end and first.day > end.day)
        or (first == last_of_first and end.day > first.day)
    )
    if months > 0 and same_day:
        return Fraction(1, months)
    days = (end - first).days
    return Fraction(52, 12 * (days // 7)) if days % 7 == 0 else Fraction(365, 12 * days)
