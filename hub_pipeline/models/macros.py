"""SQL macros of the models: the few things that are not portable, each behind a name (settled 24)."""

from __future__ import annotations

import duckdb

#: Created in schema main of each connection that runs models; temporary, so that no file depends on them.
MACROS = """
CREATE OR REPLACE TEMPORARY MACRO local_date(ts, tz) AS
    CASE
        WHEN tz = 'UTC' THEN CAST(CAST(ts AS TIMESTAMP) AS DATE)
        ELSE CAST((CAST(ts AS TIMESTAMP) AT TIME ZONE 'UTC') AT TIME ZONE tz AS DATE)
    END;
CREATE OR REPLACE TEMPORARY MACRO start_of(d, tz) AS
    (CAST(CAST(d AS DATE) AS TIMESTAMP) AT TIME ZONE tz) AT TIME ZONE 'UTC';
CREATE OR REPLACE TEMPORARY MACRO close_of(d, tz) AS
    (CAST(CAST(d AS DATE) + 1 AS TIMESTAMP) AT TIME ZONE tz) AT TIME ZONE 'UTC';
CREATE OR REPLACE TEMPORARY MACRO converted(amount, rate) AS
    CAST(
        round(
            CAST(amount AS DECIMAL(18,2)) * CAST(floor(rate) AS DECIMAL(12,0))
            + CAST(amount AS DECIMAL(18,2)) * CAST(rate - floor(rate) AS DECIMAL(18,18)),
            2
        ) AS DECIMAL(18,2)
    );
CREATE OR REPLACE TEMPORARY MACRO converted_part(amount, rate, parts) AS
    CAST(
        sign(amount) * CAST(
            (
                CAST(
                    floor(
                        CAST(CAST(abs(amount) AS DECIMAL(28,2)) * 200 AS DECIMAL(19,0)) * CAST(floor(rate) AS DECIMAL(12,0))
                        + CAST(CAST(abs(amount) AS DECIMAL(28,2)) * 200 AS DECIMAL(19,0)) * CAST(rate - floor(rate) AS DECIMAL(18,18))
                    ) AS HUGEINT
                ) + parts
            ) // (2 * parts) AS BIGINT
        ) * CAST(0.01 AS DECIMAL(3, 2)) AS DECIMAL(18, 2)
    );
CREATE OR REPLACE TEMPORARY MACRO counted(n, noun) AS
    CAST(n AS VARCHAR) || ' ' || noun || CASE WHEN abs(n) = 1 THEN '' ELSE 's' END;
CREATE OR REPLACE TEMPORARY MACRO part_in_cents(amount, numerator, denominator) AS
    CAST(
        sign(amount) * CAST(
            (2 * CAST(CAST(abs(amount) AS DECIMAL(28,4)) * 10000 AS HUGEINT) * numerator + 100 * denominator) // (200 * denominator) AS BIGINT
        ) * CAST(0.01 AS DECIMAL(3, 2)) AS DECIMAL(18, 2)
    );
CREATE OR REPLACE TEMPORARY MACRO share_of(part, whole) AS
    CAST(
        sign(part) * sign(whole) * CAST(
            (
                20000 * CAST(CAST(abs(part) AS DECIMAL(28,2)) * 100 AS HUGEINT)
                + CAST(CAST(abs(whole) AS DECIMAL(28,2)) * 100 AS HUGEINT)
            ) // (2 * CAST(CAST(abs(nullif(whole, 0)) AS DECIMAL(28,2)) * 100 AS HUGEINT)) AS BIGINT
        ) * CAST(0.0001 AS DECIMAL(5, 4)) AS DECIMAL(18, 4)
    );
CREATE OR REPLACE TEMPORARY MACRO whole_months(a, b) AS
    CASE
        WHEN
            day(a) = day(b)
            OR (b = last_day(b) AND day(a) > day(b))
            OR (a = last_day(a) AND day(b) > day(a))
            THEN nullif(greatest(12 * (year(b) - year(a)) + month(b) - month(a), 0), 0)
    END;
CREATE OR REPLACE TEMPORARY MACRO codes(list) AS list_filter(list, lambda code: code IS NOT NULL);
"""


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the macros available on this connection and set its time zone to UTC.

    ``local_date(ts, tz)`` is the DATE a UTC instant falls on in the zone, ``start_of(d, tz)`` the UTC instant of its
    local 00:00, ``close_of(d, tz)`` that of the next day's, ``codes(list)`` the list without NULLs in its order,
    ``part_in_cents(amount, n, d)`` is amount * n / d half-up to cents, in whole numbers: a half cent is never lost in a
    binary fraction; amounts have up to 4 decimals, n and d are whole. ``share_of(part, whole)`` is part / whole half-up to
    4 decimals, likewise in whole numbers, of counts or of amounts in cents; NULL of nothing. ``whole_months(a, b)`` are the months from day a to
    day b, NULL unless they are whole: b is on the day of the month of a, or at the end of a month that is shorter.
    ``converted(amount, rate)`` the amount in the reporting currency, rounded to cents once: exact with a rate of 12 digits
    and 18 decimals, because whole and fraction are multiplied apart (38 digits hold neither product together);
    ``converted_part(amount, rate, n)`` the n-th part of it, likewise rounded to cents once;
    ``counted(n, noun)`` a number with its noun, '1 seat' or '2 seats'; NULL without a number. Views of schema hub cannot
    use them: whoever opens the published file does not have them.
    """
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(MACROS)
