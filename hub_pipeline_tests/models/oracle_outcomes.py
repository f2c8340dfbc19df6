"""What hub.flag_quality and hub.renewal_forecast_accuracy should say, as plain loops over the oracle's days.

Written from the contracts of these views. Each stored day is the `Oracle` of that day with what was known by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from statistics import median
from typing import Any

from hub_pipeline.settings import Settings
from hub_pipeline_tests.models.oracle import Oracle, cents, ratio

Row = dict[str, Any]
World = Mapping[str, Sequence[Mapping[str, Any]]]

CONTRACTIONS = {"seat_contraction", "mrr_contraction"}
WINDOW = timedelta(180)


class Outcomes:
    """The company on several stored days."""

    def __init__(self, world: World, days: Sequence[date], settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.days = sorted(days)
        self.on = {day: Oracle(world, day, day, self.settings) for day in self.days}
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
