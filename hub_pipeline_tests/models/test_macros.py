"""Macros that round say what a person who calculates with decimals would."""

from __future__ import annotations

import decimal
from decimal import ROUND_HALF_UP, Decimal
from random import Random

import duckdb
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

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


#: The largest amount of which a DECIMAL(18,2) is left enough room.
MOST = Decimal(10) ** 15


@settings(deadline=None, max_examples=200)
@given(
    st.decimals(-MOST, MOST, places=2),
    st.decimals(0, 10**12 - 1, places=18) | st.decimals(0, 10, places=18),
    st.sampled_from([1, 12]),
)
@example(Decimal("0.01"), Decimal("0.5"), 1)
@example(Decimal("-0.06"), Decimal("1"), 12)
@example(Decimal("100.00"), Decimal("0.000599999999999999"), 12)
def test_an_amount_at_a_rate_is_rounded_once_half_up(amount: Decimal, rate: Decimal, parts: int) -> None:
    with decimal.localcontext(prec=80):
        exact = amount * rate
        assume(abs(exact) < MOST)
        expected = [(exact / n).quantize(Decimal("0.01"), ROUND_HALF_UP) for n in (1, parts)]
    with duckdb.connect() as connection:
        create_macros(connection)
        found = connection.execute(
            "SELECT converted(a, r), converted_part(a, r, $parts) "
            "FROM (SELECT CAST($amount AS DECIMAL(18,2)) AS a, CAST($rate AS DECIMAL(30,18)) AS r)",
            {"amount": str(amount), "rate": f"{rate:f}", "parts": parts},
        ).fetchone()
    assert found is not None
    assert list(found) == expected
