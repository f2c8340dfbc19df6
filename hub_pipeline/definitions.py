"""The one thing Dagster loads. The settings file is the only thing read here."""

import os
from pathlib import Path

from hub_pipeline.orchestration.build import build_definitions
from hub_pipeline.settings import Settings

_settings_file = os.environ.get("HUB_SETTINGS")

defs = build_definitions(Settings.load(Path(_settings_file) if _settings_file else None))
