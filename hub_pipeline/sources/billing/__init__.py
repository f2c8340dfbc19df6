"""Billing: extracts in a folder, under one file contract (docs/billing.md), into raw_billing."""

from __future__ import annotations

from hub_pipeline.sources.billing.identity import resolve_customers
from hub_pipeline.sources.billing.loading import IncomingFile, has_extracts, load, load_files, object_names
from hub_pipeline.sources.billing.tables import ensure

__all__ = [
    "IncomingFile",
    "ensure",
    "has_extracts",
    "load",
    "load_files",
    "object_names",
    "resolve_customers",
]
