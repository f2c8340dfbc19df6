"""From a loaded billing folder to what the models read, through the inputs and staging models themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from hub_pipeline.models import catalog, stage
from hub_pipeline.models.engine import model_parameters, run_models
from hub_pipeline.models.macros import create_macros
from hub_pipeline.warehouse.mapping import create_mapped_views
from hub_pipeline.warehouse.sql import ident, qualified
from hub_pipeline_tests.sources.billing_folder import BillingFolder

#: Inputs that come from billing files alone, and fill no HubSpot table.
OF_BILLING = ("subscription_versions", "fx_rates", "invoices", "invoice_lines")


def stage_billing(billing: BillingFolder) -> None:
    """Build inputs and staging of the canonical tables that billing fills."""
    create_macros(billing.connection)
    billing.connection.execute("CREATE SCHEMA IF NOT EXISTS raw_hubspot")
    create_mapped_views(billing.connection, billing.settings)
    models = [catalog()[f"{schema}.{table}"] for schema in ("inputs", "staging") for table in OF_BILLING]
    run_models(billing.connection, models, model_parameters(None, None, billing.settings))


def build_billing(billing: BillingFolder, as_of: date, *marts: str) -> None:
    """Build marts of one day, and what they read, where billing is the only source: each payer is an organisation."""
    connection = billing.connection
    stage_billing(billing)
    for table, definition in catalog().inputs.items():
        if table not in OF_BILLING:
            columns = ", ".join(f"{ident(name)} {column.type}" for name, column in definition.columns.items())
            connection.execute(f"CREATE OR REPLACE TABLE {qualified('inputs', table)} ({columns})")
    connection.execute(
        "INSERT INTO inputs.organisations (org_id) SELECT DISTINCT org_id FROM inputs.subscription_versions"
    )
    stage(connection, billing.settings)
    wanted = {f"marts.{name}" for name in marts}
    for model in reversed(list(catalog())):
        wanted |= set(model.dependencies) if model.name in wanted else set()
    models = [model for model in catalog().layer("intermediate", "marts") if model.name in wanted]
    run_models(connection, models, model_parameters(as_of, as_of, billing.settings))


def at_closes(
    billing: BillingFolder, closes: Sequence[datetime], as_known: bool = False
) -> list[tuple[Any, ...]]:
    """(close, org_id, subscription_id, seats, amount) of the subscriptions that run just before each instant.

    Reads the rules of the canonical table (domain 4.0): of the rows known, the last recorded of the last effective one
    holds, until its end.

    Args:
        as_known: only what was recorded before the same instant; otherwise everything.
    """
    known = "v.recorded_at < c.close" if as_known else "true"
    return billing.rows(
        "WITH closes AS (SELECT unnest($closes::TIMESTAMP[]) AS close) "
        "SELECT close, org_id, subscription_id, seats, amount FROM (SELECT c.close, v.* FROM closes AS c "
        f"JOIN staging.subscription_versions AS v ON v.effective_at < c.close AND {known} QUALIFY row_number() OVER ("
        "PARTITION BY c.close, v.subscription_id ORDER BY v.effective_at DESC, v.recorded_at DESC) = 1) "
        "WHERE status IN ('active', 'past_due') AND (cancel_at IS NULL OR cancel_at >= close) "
        "AND (ended_at IS NULL OR ended_at >= close) ORDER BY ALL",
        closes=list(closes),
    )


def seats_by_day(rows: Sequence[tuple[Any, ...]]) -> dict[datetime, dict[str, int]]:
    """Close -> organisation -> seats, without organisations that have none."""
    counted: dict[datetime, dict[str, int]] = {}
    for close, org_id, _, seats, _ in rows:
        day = counted.setdefault(close, {})
        day[org_id] = day.get(org_id, 0) + (seats or 0)
    return {close: {org: seats for org, seats in day.items() if seats} for close, day in counted.items()}


def amounts_by_day(rows: Sequence[tuple[Any, ...]]) -> dict[datetime, dict[str, Decimal]]:
    """Close -> running subscription -> amount."""
    counted: dict[datetime, dict[str, Decimal]] = {}
    for close, _, subscription_id, _, amount in rows:
        counted.setdefault(close, {})[subscription_id] = amount
    return counted
