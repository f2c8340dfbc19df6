"""What the raw tables of Stripe look like, and how a landed line becomes their rows.

A record is kept as the JSON that Stripe sent (``payload``), because the terms of its fields change with the API
version; `hub_pipeline.sources.stripe.conversion` makes rows of the billing contract of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from hub_pipeline.sources.billing.contract import contract
from hub_pipeline.warehouse.raw import RawStream

SOURCE = "stripe"


@dataclass(frozen=True)
class Kind:
    """One list of Stripe's: its path, and whether the contract can do without it."""

    path: str
    meaning: str
    required: bool = False


KINDS = {
    "subscriptions": Kind("/v1/subscriptions", "subscriptions of every status with all their items", True),
    "subscription_schedules": Kind("/v1/subscription_schedules", "planned changes of subscriptions"),
    "customers": Kind("/v1/customers", "who is billed; of the person only name, e-mail address and country"),
    "products": Kind("/v1/products", "what is sold"),
    "prices": Kind("/v1/prices", "prices with their tiers"),
    "coupons": Kind("/v1/coupons", "what discounts take off"),
}
EVENTS = "events"
CONTRACT = ("customers", "subscriptions", "subscription_items", "subscription_schedules")
"""Tables of the billing contract that Stripe fills."""


def streams() -> list[str]:
    """Names of all tables of ``raw_stripe``, known without asking Stripe."""
    return [*KINDS, EVENTS]


def list_stream(name: str) -> RawStream:
    """One of Stripe's lists, read in full."""
    return RawStream(
        source=SOURCE,
        object=name,
        table=name,
        json_columns={"id": "VARCHAR", "created": "BIGINT", "payload": "JSON"},
        columns={"id": "VARCHAR", "created_at": "TIMESTAMP", "payload": "VARCHAR"},
        select=(
            "r.id AS id, make_timestamp(1000000 * r.created) AS created_at, CAST(r.payload AS VARCHAR) AS payload, "
            "make_timestamp(1000000 * r.created) AS _created_at"
        ),
        comment=f"Stripe: {KINDS[name].meaning}; payload is the JSON that Stripe sent",
    )


def events_stream() -> RawStream:
    """Events about subscriptions, schedules, discounts and deleted customers; Stripe keeps them for thirty days."""
    return RawStream(
        source=SOURCE,
        object=EVENTS,
        table=EVENTS,
        json_columns={
            **dict.fromkeys(("id", "type", "api_version"), "VARCHAR"),
            **dict.fromkeys(("created", "position"), "BIGINT"),
            **dict.fromkeys(("livemode", "is_fresh"), "BOOLEAN"),
            **dict.fromkeys(("object", "previous"), "JSON"),
        },
        columns={
            "id": "VARCHAR",
            "type": "VARCHAR",
            "created_at": "TIMESTAMP",
            "api_version": "VARCHAR",
            "livemode": "BOOLEAN",
            "position": "BIGINT",
            "is_fresh": "BOOLEAN",
            "object_id": "VARCHAR",
            "object": "VARCHAR",
            "previous": "VARCHAR",
        },
        select=(
            "r.id AS id, r.type AS type, make_timestamp(1000000 * r.created) AS created_at, "
            "r.api_version AS api_version, r.livemode AS livemode, r.position AS position, r.is_fresh AS is_fresh, "
            "r.object->>'id' AS object_id, CAST(r.object AS VARCHAR) AS object, "
            "CAST(r.previous AS VARCHAR) AS previous, make_timestamp(1000000 * r.created) AS _changed_at"
        ),
        kind="events",
        snapshot=False,
        comment="Stripe events, append-only: what they were about after the change, and what was different before; "
        "of one second the one with the smaller position happened later",
    )


def all_streams() -> list[RawStream]:
    """Every stream, for making empty tables."""
    return [*(list_stream(name) for name in KINDS), events_stream()]


_UNCERTAIN = """
CREATE SCHEMA IF NOT EXISTS raw_stripe;
CREATE TABLE IF NOT EXISTS raw_stripe.conversions (run_id VARCHAR PRIMARY KEY, as_of DATE, read_at TIMESTAMP);
COMMENT ON TABLE raw_stripe.conversions IS 'Runs whose events and lists were made into rows of the billing contract.';
CREATE OR REPLACE VIEW raw_stripe.uncertain_changes AS
{tables};
COMMENT ON VIEW raw_stripe.uncertain_changes IS
'Changes that no event tells: they happened after happened_after and at or before happened_before, and count from the latter.';
"""


def ensure(connection: duckdb.DuckDBPyConnection) -> None:
    """Create what is not filled from landing files; raw_billing must be there."""
    tables = " UNION ALL ".join(
        f"SELECT '{table}' AS table_name, {contract()[table].key[0]} AS id, CAST(extra->>'happened_after' AS TIMESTAMP) AS happened_after, "
        f"_changed_at AS happened_before, _run_id AS run_id FROM raw_billing.{table} "
        f"WHERE source = 'stripe' AND extra->>'happened_after' IS NOT NULL"
        for table in CONTRACT
    )
    connection.execute(_UNCERTAIN.format(tables=tables))
