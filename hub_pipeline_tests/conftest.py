"""Order of the suite: the files that run whole days come first, so that two workers finish together."""

from __future__ import annotations

import pytest

LONGEST = ("test_end_to_end", "test_ui", "test_execute")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the order within a file; the workers take files in the order of the collection."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))
