"""Amounts at exchange rates: exact, rounded half-up to cents once."""

from __future__ import annotations

import decimal
from decimal import ROUND_HALF_UP, Decimal

import duckdb
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hub_pipeline.models.macros import create_macros

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
