"""Stripe: an optional second door into the billing contract, through the API (docs/stripe.md)."""

from __future__ import annotations

from hub_pipeline.sources.stripe.conversion import convert
from hub_pipeline.sources.stripe.extraction import extract
from hub_pipeline.sources.stripe.streams import all_streams, ensure, streams

__all__ = ["all_streams", "convert", "ensure", "extract", "streams"]
