"""Expected rows of the named lists of the demo company, written by its stories when they are created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

_FOUR_PLACES = Decimal("0.0001")

LIST_KEYS: Mapping[str, tuple[str, ...]] = {
    "hub.organisations": ("org_id",),
    "hub.fast_growing_organisations": ("org_id",),
    "hub.organisations_at_risk": ("org_id",),
    "hub.churn": ("org_id", "subscription_id", "churn_date"),
    "hub.churn_false_alarms": ("org_id", "subscription_id", "churn_date"),
    "hub.renewal_pipeline": ("org_id", "subscription_id", "deal_id"),
    "hub.tier_ab_interactions": ("conversation_id", "org_id"),
    "hub.post_sales_pipeline": ("item_id",),
    "hub.upsell_pipeline": ("upsell_id",),
    "hub.customer_360": ("org_id",),
    "hub.lifecycle_checks": ("check", "subject_id"),
    "hub.ownership_crossovers": ("kind", "subject_id"),
    "hub.metrics": ("as_of",),
    "hub.renewal_forecast": ("period_start",),
    "hub.seat_cohorts": ("cohort", "month_number"),
    "hub.changes_since_yesterday": ("list", "item_id"),
    "hub.renewal_pipeline_changes": ("as_of", "renewal_id", "change"),
    "hub.restatements": ("as_of", "known_at", "list", "item_id"),
    "hub.explanations": ("as_of", "org_id", "list"),
    "hub.freshness": ("source", "object", "as_of"),
    "hub.flag_quality": (
        "as_of",
        "reason",
    ),
    "hub.renewal_forecast_accuracy": (
        "period_start",
        "period_end",
        "lead_months",
    ),
}
"""Natural key of each view that has a written truth."""


@dataclass(slots=True)
class TruthList:
    """Expected rows of one list; `key` names the columns that identify a row.

    A row states only the columns its author knows; columns it leaves out are not compared.
    """

    key: tuple[str, ...]
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Truth:
    """Expected rows of every list, by the name of its view."""

    lists: dict[str, TruthList] = field(
        default_factory=lambda: {name: TruthList(key=key) for name, key in LIST_KEYS.items()}
    )
    claims: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def expect(self, list_name: str, **row: Any) -> dict[str, Any]:
        """Add an expected row to `list_name` and return it; raise KeyError for a list or key not known."""
        expected = self.lists[list_name]
        missing = [column for column in expected.key if column not in row]
        if missing:
            raise KeyError(f"a row of {list_name} needs its key columns {missing}")
        expected.rows.append(row)
        return row

    def claim(self, list_name: str, **columns: Any) -> None:
        """State what a row must say that the bookkeeping will write; `verify_claims` holds it to it.

        Raises:
            KeyError: the list is not known.
        """
        self.lists[list_name]
        self.claims.append((list_name, columns))

    def verify_claims(self) -> None:
        """Hold the bookkeeping to what the stories said of it.

        Raises:
            ValueError: a list has no row, or more than one, that says what a story claims.
        """
        for name, columns in self.claims:
            key = [column for column in self.lists[name].key if column in columns]
            rows = [
                row for row in self.lists[name].rows if all(row[column] == columns[column] for column in key)
            ]
            if len(rows) != 1:
                raise ValueError(f"a story claims one row of {name} with {columns}; there are {len(rows)}")
            for column, value in columns.items():
                if comparable(rows[0].get(column)) != comparable(value):
                    raise ValueError(
                        f"a story claims {column} = {value!r} of {name} {columns}; the row has "
                        f"{rows[0].get(column)!r}"
                    )


def comparable(value: Any) -> Any:
    """A value as the check compares it: numbers to four decimals, arrays in order, all else exactly."""
    if isinstance(value, list | tuple):
        return [comparable(item) for item in value]
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return Decimal(str(value)).quantize(_FOUR_PLACES)
    return value
