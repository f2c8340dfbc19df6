"""Models: SQL files with their contract on top, and the small engine that runs them.

The public face: `load_inputs`, `fill_inputs`, `stage`, `build`, `run_model`, `run_checks`, `catalog`.
"""

from hub_pipeline.models.checks import Check, CheckResult, checks_of, run_checks
from hub_pipeline.models.contract import ModelError
from hub_pipeline.models.engine import BuildResult, ModelRun, build, fill_inputs, run_model, stage
from hub_pipeline.models.graph import Catalog, Model, catalog, load_catalog
from hub_pipeline.models.inputs_loader import InputCounts, load_inputs

__all__ = [
    "BuildResult",
    "Catalog",
    "Check",
    "CheckResult",
    "InputCounts",
    "Model",
    "ModelError",
    "ModelRun",
    "build",
    "catalog",
    "checks_of",
    "fill_inputs",
    "load_catalog",
    "load_inputs",
    "run_checks",
    "run_model",
    "stage",
]
