"""Errors that a user sees, each with the exit code the command line ends with.

Codes: 2 configuration or credentials; 3 a source is down or limits us, come back later; 4 a guard refused the
data, or one optional object could not be read; 5 warehouse, disk or lock. The message is one plain sentence or
two: what happened, what was kept, what to do next. Secrets never appear in it.
"""

from __future__ import annotations


class HubPipelineError(Exception):
    """Base of every error with a message meant for people."""

    exit_code = 1


class ConfigurationError(HubPipelineError):
    """A setting, credential, path or argument is missing or wrong; trying again will not help."""

    exit_code = 2


class SourceUnavailableError(HubPipelineError):
    """A source is down, too slow, or limits us; a later run may succeed."""

    exit_code = 3


class DataRefusedError(HubPipelineError):
    """A guard or a blocking check refused the data; nothing was published."""

    exit_code = 4


class WarehouseError(HubPipelineError):
    """The warehouse file, the disk or the run lock is the problem."""

    exit_code = 5


class LockHeldError(WarehouseError):
    """Another run holds the run lock."""
