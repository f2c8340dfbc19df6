"""CRM records as HubSpot's objects API gives them: 40 properties, all text, one in three empty; the same each time."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

_MADE = {
    "createdate": "strftime(created, '%Y-%m-%dT%H:%M:%S.000Z')",
    "email": "'person' || i || '@customer' || i % 9973 || '.example'",
    "firstname": "['Ada', 'Grace', 'Linus', 'Margaret', 'Edsger'][1 + i % 5]",
    "hs_object_id": "i::VARCHAR",
    "lastmodifieddate": "strftime(updated, '%Y-%m-%dT%H:%M:%S.000Z')",
    "lastname": "'Surname ' || hash(i) % 50000",
    "lifecyclestage": "['lead', 'customer', 'opportunity', 'subscriber'][1 + i % 4]",
    "phone": "'+49 30 ' || hash(i) % 10000000",
}
_PLAIN = {
    f"field_{k:02}": f"CASE WHEN hash(i + {k}) % 3 > 0 THEN 'value ' || hash(i * {k + 1}) % 100000 END"
    for k in range(40 - len(_MADE))
}
#: Names of the properties, in order.
PROPERTIES = tuple(sorted({**_MADE, **_PLAIN}))


def pages(count: int, size: int = 100) -> Iterator[list[bytes]]:
    """The records as JSON lines, so many at a time."""
    fields = ", ".join(f"'{name}': {sql}" for name, sql in sorted({**_MADE, **_PLAIN}.items()))
    rows = duckdb.connect().execute(
        f"""
        SELECT to_json({{
            'id': i::VARCHAR, 'properties': {{{fields}}},
            'createdAt': strftime(created, '%Y-%m-%dT%H:%M:%S.000Z'),
            'updatedAt': strftime(updated, '%Y-%m-%dT%H:%M:%S.000Z'),
            'archived': false, 'url': 'https://app.hubspot.com/contacts/1/record/0-1/' || i}})::VARCHAR
        FROM (
            SELECT i, TIMESTAMP '2021-01-01' + to_minutes((i * 7)::BIGINT) AS created,
                created + to_days((hash(i) % 900)::INTEGER) AS updated
            FROM range(1, $count + 1) AS t(i))
        """,
        {"count": count},
    )
    while page := rows.fetchmany(size):
        yield [row[0].encode() + b"\n" for row in page]
