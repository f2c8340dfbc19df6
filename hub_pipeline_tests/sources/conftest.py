"""Folders that outlive no test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hub_pipeline_tests.sources.billing_folder import BillingFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Callable[..., BillingFolder]]:
    """Makes billing folders with settings of their own, and closes them."""
    with ExitStack() as opened:
        count = iter(range(100))

        def make(**settings: Any) -> BillingFolder:
            made = BillingFolder(tmp_path / f"data{next(count)}", **settings)
            opened.callback(made.close)
            return made

        yield make


@pytest.fixture
def billing(folder: Callable[..., BillingFolder]) -> BillingFolder:
    """A folder with the settings most tests want: nothing settles, any share may be quarantined."""
    return folder()
