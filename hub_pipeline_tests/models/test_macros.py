"""Macros that round say what a person who calculates with decimals would."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from random import Random

import duckdb
import pytest

from hub_pipeline.models.macros import create_macros


def _pairs(places: int) -> list[tuple[Decimal, Decimal]]:
    """Random parts and wholes with so many decimals, and such whose share ends in an exact half."""
    random = Random(places)
    unit = Decimal(1).scaleb(-places)
    pairs = [
        (random.randrange(-(10**9), 10**9) * unit, random.randrange(1, 10 ** random.randrange(1, 9)) * unit)
        for _ in range(2_000)
    ]
    halves = [(2 * random.randrange(-30_000, 30_000) + 1) * unit for _ in range(2_000)]
    return [*pairs, *((half, 20_000 * unit) for half in halves)]


@pytest.mark.parametrize(("kind", "places"), [("BIGINT", 0), ("DECIMAL(18,2)", 2), ("DECIMAL(38,2)", 2)])
def test_shares_are_rounded_half_up_to_four_decimals_and_never_through_a_binary_fraction(
    kind: str, places: int
) -> None:
    pairs = _pairs(places)
    values = ", ".join(f"({part}, {whole})" for part, whole in pairs)
    with duckdb.connect() as connection:
        create_macros(connection)
        found = connection.execute(
            f"SELECT share_of(part::{kind}, whole::{kind}) FROM (VALUES {values}) AS t(part, whole)"
        ).fetchall()
    wanted = [(part / whole).quantize(Decimal("0.0001"), ROUND_HALF_UP) for part, whole in pairs]
    assert [row[0] for row in found] == wanted


def test_a_share_of_nothing_and_of_what_is_unknown_is_unknown() -> None:
    with duckdb.connect() as connection:
        create_macros(connection)
        assert connection.execute(
            "SELECT share_of(5, 0), share_of(NULL, 4), share_of(4, NULL), share_of(0, 4)"
        ).fetchall() == [(None, None, None, Decimal("0.0000"))]
