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
CREATE OR REPLACE TEMPORARY MACRO counted(n, noun) AS
    CAST(n AS VARCHAR) || ' ' || noun || CASE WHEN abs(n) = 1 THEN '' ELSE 's' END;
CREATE OR REPLACE TEMPORARY MACRO codes(list) AS list_filter(list, lambda code: code IS NOT NULL);
"""


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the macros available on this connection and set its time zone to UTC.

    ``local_date(ts, tz)`` is the DATE a UTC instant falls on in the zone, ``start_of(d, tz)`` the UTC instant of its
    local 00:00, ``close_of(d, tz)`` that of the next day's, ``codes(list)`` the list without NULLs in its order,
    ``counted(n, noun)`` a number with its noun, '1 seat' or '2 seats'; NULL without a number. Views of schema hub cannot
    use them: whoever opens the published file does not have them.
    """
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(MACROS)
