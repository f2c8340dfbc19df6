"""HubSpot: objects of the portal to landing files."""

from hub_pipeline.sources.hubspot.extraction import extract
from hub_pipeline.sources.hubspot.streams import object_names, streams

__all__ = ["extract", "object_names", "streams"]
