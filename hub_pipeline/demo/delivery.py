"""What each source has to deliver on the two nights of the demo: the truth of hub.freshness."""

from __future__ import annotations

from datetime import timedelta

from hub_pipeline.demo.account import OBJECT_TYPES, ORGANISATION_OBJECT, Company
from hub_pipeline.demo.rewind import night_before

_READ_WHOLE: dict[str, tuple[str, ...]] = {
    "hubspot": (
        *("account", "associations", "communications", "line_items", "owners", "pipelines", "properties"),
        *("tickets", "users"),
    ),
    "intercom": (
        *("admins", "companies", "contacts", "conversation_parts", "conversations"),
        *("deleted_conversations", "tags", "teams", "tickets", "workspace"),
    ),
    "billing": (
        *("customers", "files", "fx_rates", "invoice_lines", "invoices"),
        *("subscription_items", "subscriptions"),
    ),
}
"""Objects that are read, empty ones too, beside the record types of the portal."""

_NOT_THERE: dict[str, tuple[str, ...]] = {
    "billing": (*("daily_seats", "identities", "nps_responses", "seat_products", "subscription_schedules"),),
    "stripe": (
        *("coupons", "customers", "events", "prices", "products", "subscription_schedules", "subscriptions"),
    ),
}
"""Tables that nobody exports here, and the source that is not set up."""


def write(company: Company) -> None:
    """Write the expected rows of hub.freshness: what is complete on each night, and how much the first one read."""
    first = night_before(company)
    portal = {
        "organisations" if kind == ORGANISATION_OBJECT else kind: len(records)
        for kind, records in first.hubspot.records.items()
        if kind in OBJECT_TYPES
    }
    for as_of in (first.as_of, first.as_of + timedelta(days=1)):
        for source, names in _READ_WHOLE.items():
            for name in names:
                company.truth.expect(
                    "hub.freshness", source=source, object=name, as_of=as_of, status="complete"
                )
        for name, records in portal.items():
            row = company.truth.expect(
                "hub.freshness", source="hubspot", object=name, as_of=as_of, status="complete"
            )
            # The second night reads what changed, and how much of it twice is the reader's own affair.
            if as_of == first.as_of:
                row["records"] = records
        for source, names in _NOT_THERE.items():
            for name in names:
                company.truth.expect(
                    "hub.freshness", source=source, object=name, as_of=as_of, status="not_configured"
                )
