"""Intercom: a workspace's contacts, companies and conversations to landing files."""

from hub_pipeline.sources.intercom.extraction import extract
from hub_pipeline.sources.intercom.streams import streams

__all__ = ["extract", "streams"]
