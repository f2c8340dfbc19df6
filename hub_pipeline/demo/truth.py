"""Expected rows of the named lists of the demo company, written by its stories when they are created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LIST_KEYS: Mapping[str, tuple[str, ...]] = {
    "hub.organisations": ("org_id",),
    "hub.fast_growing_organisations": ("org_id",),
    "hub.organisations_at_risk": ("org_id",),
    "hub.churn": ("org_id", "subscription_id", "churn_date"),
    "hub.churn_false_alarms": ("org_id", "subscription_id", "churn_date"),
    "hub.renewal_pipeline": ("org_id", "subscription_id", "deal_id"),
    "hub.tier_ab_interactions": ("conversation_id", "org_id"),
}
"""Natural key of each list that has a written truth."""


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

    def expect(self, list_name: str, **row: Any) -> dict[str, Any]:
        """Add an expected row to `list_name` and return it; raise KeyError for a list or key not known."""
        expected = self.lists[list_name]
        missing = [column for column in expected.key if column not in row]
        if missing:
            raise KeyError(f"a row of {list_name} needs its key columns {missing}")
        expected.rows.append(row)
        return row
