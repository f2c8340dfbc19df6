"""A seeded world of any size for the models, made by SQL alone: canonical tables straight to Parquet.

Each organisation has 30 changes of subscriptions on average. Skew: one organisation in a thousand has 20 subscriptions
with 100 changes each, and a hundred times the contacts; half have 12 changes, a tenth have 70. One account holds a
hundredth of all organisations, others are chains 20 deep, two organisations are each other's parents. Ties: a
twentieth of the changes share effective_at with the one before, a quarter of those recorded_at too. Late: a sixth of
the changes is recorded after it took effect, up to 200 days, and some after `DAY` has closed. Nulls wherever the inputs
allow them. The same size and seed give the same rows.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb

from hub_pipeline.models import Catalog, catalog, stage
from hub_pipeline.models.engine import create_input_tables
from hub_pipeline.models.macros import create_macros
from hub_pipeline.settings import Settings
from hub_pipeline.warehouse.sql import ident, literal, qualified

#: The day that is built; some rows carry later times.
DAY = date(2026, 10, 31)
SEED = 20261031
#: Changes of subscriptions for each organisation, on average.
CHANGES = 30

#: ``draw(n, ...)``: a number from 0 to n - 1; ``at(days, ...)``: an instant about so many days before `DAY`'s close.
_MACROS = f"""
CREATE OR REPLACE TEMPORARY MACRO draw(n, a, b, salt) AS CAST(hash({SEED}, a, b, salt) % n AS BIGINT);
CREATE OR REPLACE TEMPORARY MACRO ago(days, a, b, salt) AS
    TIMESTAMP '{DAY} 23:00:00' - to_days(CAST(days AS INTEGER)) - to_minutes(draw(1440, a, b, salt));
CREATE OR REPLACE TEMPORARY MACRO late(a, b) AS CASE
    WHEN draw(100, a, b, 'late') < 84 THEN 0
    WHEN draw(100, a, b, 'late') < 94 THEN draw(48, a, b, 'delay')
    WHEN draw(100, a, b, 'late') < 99 THEN 24 + draw(1440, a, b, 'delay')
    ELSE 4800
END;
"""

#: Helper tables, in order: the persons, subscriptions and conversations that the canonical tables are made of.
_BASE = {
    "subs": """
        SELECT 's' || o AS subscription_id, o, o * 100 AS s,
            [12, 12, 12, 12, 12, 30, 30, 30, 60, 70][1 + draw(10, o, 0, 'n')] AS changes FROM orgs
        UNION ALL
        SELECT 's' || o || '-' || j, o, o * 100 + j, 100 FROM orgs, range(1, 21) AS t(j) WHERE o % 1000 = 0""",
    "people": """
        SELECT 'p' || o || '-' || n AS contact_id, o, o * 1000 + n AS p
        FROM (SELECT o, unnest(range(1 + draw(5, o, 0, 'people') + CASE WHEN o % 1000 = 0 THEN 300 ELSE 0 END)) AS n
            FROM orgs)""",
    "talks": """
        SELECT 'v' || p || '-' || n AS conversation_id, contact_id, o, p * 10 + n AS v,
            ago(1100 * pow(draw(1000, p, n, 'talk') / 1000.0, 2), p, n, 'talk') AS created_at
        FROM (SELECT *, unnest(range(draw(3, p, 0, 'talks'))) AS n FROM people)""",
    "trades": """
        SELECT 'd' || o || '-' || n AS deal_id, o, o * 10 + n AS d, ago(draw(700, o, n, 'deal'), o, n, 'deal') AS created_at
        FROM orgs, range(2) AS t(n) WHERE draw(10, o, n, 'deals') < 2""",
}

#: Canonical table -> its SELECT.
_TABLES = {
    "organisations": """
        SELECT 'o' || o AS org_id, 'Customer ' || o || CASE WHEN k = 1 THEN ' Ltd' ELSE '' END AS name,
            CASE WHEN draw(10, o, 0, 'domain') > 0 THEN 'c' || o || '.example' END AS domain,
            CASE WHEN draw(50, o, 0, 'tier') = 0 THEN 'A' END AS tier_override,
            CASE WHEN draw(10, o, k, 'owner') > 0 THEN 'u' || draw(200, o, k, 'owner') END AS owner_id,
            CASE WHEN draw(3, o, 0, 'members') > 0 THEN draw(60, o, k, 'members') END AS members_active,
            'https://crm.example/' || o AS hubspot_url,
            ago(1500 + draw(100, o, 0, 'born'), o, 0, 'born') AS created_at,
            k = 1 AND draw(50, o, 0, 'gone') = 0 AS is_deleted,
            CASE WHEN k = 1 THEN ago(draw(1000, o, 0, 'edit') - 10, o, 0, 'edit') END AS recorded_at
        FROM orgs, range(2) AS t(k) WHERE k = 0 OR draw(10, o, 0, 'edited') < 6""",
    "org_parents": """
        SELECT 'o' || o AS org_id, 'o' || (o - o % 10) AS parent_org_id,
            CASE WHEN o % 10 > 1 THEN ago(draw(900, o, 0, 'parent') - 5, o, 0, 'parent') END AS valid_from
        FROM orgs WHERE o % 10 IN (1, 2, 3)
        UNION ALL SELECT 'o' || o, 'o0', ago(400, o, 0, 'wide') FROM orgs WHERE o % 100 = 7
        UNION ALL SELECT 'o' || o, 'o' || (o + 1), NULL FROM orgs WHERE o % 1000 BETWEEN 504 AND 524
            AND o % 10 NOT IN (1, 2, 3, 7)
        UNION ALL SELECT 'o' || o, 'o' || CASE WHEN o = 904 THEN 905 ELSE 904 END, NULL FROM orgs WHERE o IN (904, 905)
        UNION ALL SELECT 'o' || o, NULL, ago(draw(200, o, 0, 'left') - 5, o, 0, 'left') FROM orgs WHERE o % 100 = 2""",
    "org_coverage": """
        SELECT 'o' || o AS child_org_id, 'o' || (o - o % 10) AS payer_org_id,
            ago(draw(300, o, 0, 'covered') - 3, o, 0, 'covered') AS valid_from,
            CASE WHEN o % 500 = 3 THEN ago(-20, o, 0, 'uncovered') END AS valid_to,
            CASE WHEN draw(2, o, 0, 'moved') = 0 THEN 5 + draw(30, o, 0, 'moved') END AS seats,
            valid_from + to_hours(late(o, 77)) AS recorded_at
        FROM orgs WHERE o % 100 = 3""",
    "org_merges": """
        SELECT 'o' || o AS loser_org_id, 'o' || (o - 1) AS winner_org_id,
            ago(draw(800, o, 0, 'merge') - 5, o, 0, 'merge') AS merged_at
        FROM orgs WHERE o % 200 IN (8, 9)""",
    "crm_contracts": """
        SELECT 'o' || o AS org_id, CASE WHEN o % 300 > 99 THEN 'enterprise' END AS kind,
            ago(draw(700, o, 0, 'contract') - 5, o, 0, 'contract') AS valid_from,
            CASE WHEN o % 400 = 4 THEN valid_from + INTERVAL 1 YEAR END AS valid_to,
            CASE WHEN o % 200 = 4 THEN 50 + draw(200, o, 0, 'contract') END AS seats,
            CASE WHEN o % 200 = 4 THEN 12000 + 100 * draw(900, o, 1, 'contract') END AS amount,
            'year' AS billing_interval, CASE WHEN o % 300 = 4 THEN 'EUR' END AS currency,
            valid_from + to_hours(late(o, 78)) AS recorded_at
        FROM orgs WHERE o % 100 = 4""",
    "subscription_versions": """
        WITH numbered AS (
            SELECT *, unnest(range(changes)) AS k FROM subs
        ),
        placed AS (
            SELECT *, k = changes - 1 AS is_last,
                k - CASE WHEN k > 0 AND draw(20, s, k, 'tie') = 0 THEN 1 ELSE 0 END AS t,
                60 + draw(1400, s, 0, 'span') AS span, 5 + draw(60, s, 0, 'size') * CASE WHEN o % 1000 = 0 THEN 10 ELSE 1 END
                    + draw(40, s, k, 'seats') AS size,
                draw(10, s, 0, 'every') AS every
            FROM numbered
        ),
        dated AS (
            SELECT *,
                CASE WHEN is_last AND draw(50, s, 0, 'scheduled') = 0 THEN ago(-draw(60, s, 0, 'scheduled'), s, 0, 'scheduled')
                    ELSE ago(span * (changes - 1 - t) // changes, s, t, 'change') END AS effective_at,
                CASE WHEN is_last AND draw(100, s, 0, 'end') < 8 THEN 'canceled'
                    WHEN k = 0 AND draw(5, s, 0, 'trial') = 0 THEN 'trialing'
                    WHEN draw(200, s, k, 'status') < 6 THEN 'past_due' WHEN draw(200, s, k, 'status') < 8 THEN 'paused'
                    WHEN draw(200, s, k, 'status') < 10 THEN 'unpaid' WHEN draw(200, s, k, 'status') < 12 THEN 'canceled'
                    ELSE 'active' END AS status,
                CASE WHEN every < 6 THEN 'month' WHEN every < 9 THEN 'year' ELSE
                    ['quarter', 'two_years', 'week', 'quarter'][1 + draw(4, s, 1, 'every')] END AS billing_interval
            FROM placed
        )
        SELECT subscription_id, 'o' || o AS org_id,
            CASE WHEN draw(100, s, k, 'plan') > 0
                THEN ['free', 'team', 'team', 'team', 'business', 'business', 'enterprise'][1 + draw(7, s, 0, 'plan')] END AS plan,
            CASE WHEN draw(100, s, k, 'every') > 0 THEN billing_interval END AS billing_interval,
            CASE WHEN draw(50, s, k, 'unknown') > 0 THEN size END AS seats,
            CASE WHEN draw(100, s, k, 'amount') > 0 THEN CAST(size * CASE plan WHEN 'free' THEN 0 ELSE 12.35 END
                * CASE billing_interval WHEN 'year' THEN 12 WHEN 'two_years' THEN 24 WHEN 'quarter' THEN 3 ELSE 1 END
                AS DECIMAL(18, 4)) END AS amount,
            [NULL, 'USD', 'USD', 'USD', 'USD', 'EUR', 'EUR', 'EUR', 'GBP', 'JPY'][1 + draw(10, s, 0, 'currency')] AS currency,
            status, effective_at,
            CASE WHEN status = 'active' AND draw(100, s, k, 'cancel') = 0
                THEN effective_at + to_days(CAST(30 + draw(200, s, k, 'cancel') AS INTEGER)) END AS cancel_at,
            CASE WHEN cancel_at IS NOT NULL THEN effective_at END AS cancel_requested_at,
            CASE WHEN cancel_at IS NOT NULL OR status = 'canceled'
                THEN ['too_expensive', 'payment_failed', 'unused', NULL][1 + draw(4, s, k, 'reason')] END AS cancel_reason,
            CASE WHEN cancel_reason = 'unused' THEN 'Nobody used it in ' || monthname(effective_at) END AS cancel_comment,
            effective_at - to_days(CAST(draw(360, s, t, 'term') AS INTEGER)) AS term_start,
            CASE WHEN draw(20, s, k, 'term') > 0 THEN term_start + CASE billing_interval
                WHEN 'month' THEN INTERVAL 1 MONTH WHEN 'quarter' THEN INTERVAL 3 MONTH WHEN 'week' THEN INTERVAL 7 DAY
                WHEN 'year' THEN INTERVAL 1 YEAR ELSE INTERVAL 2 YEAR END END AS term_end,
            CASE WHEN status = 'canceled' THEN effective_at END AS ended_at, 'billing' AS source,
            CASE WHEN effective_at > TIMESTAMP '{day} 23:59:00' THEN ago(30, s, k, 'known')
                ELSE effective_at + to_hours(late(s, CASE WHEN draw(4, s, k, 'same') = 0 THEN t ELSE k END)) END AS recorded_at
        FROM dated""",
    "contacts": """
        SELECT contact_id, CASE WHEN draw(30, p, 0, 'email') > 0 THEN contact_id || '@c' || o || '.example' END AS email,
            CASE WHEN draw(10, p, 0, 'name') > 0 THEN 'Person ' || p END AS name,
            ['customer', 'lead', 'opportunity', NULL][1 + draw(4, p, k, 'stage')] AS lifecycle_stage,
            CASE WHEN draw(3, p, 0, 'lead') = 0 THEN 'Connected' END AS lead_status,
            CASE WHEN draw(10, p, k, 'owner') > 0 THEN 'u' || draw(200, p, k, 'owner') END AS owner_id,
            draw(20, p, 0, 'champion') = 0 AS is_champion,
            CASE WHEN draw(20, p, k, 'left') = 0 THEN ago(draw(400, p, 0, 'left') - 10, p, 0, 'left') END AS left_at,
            ago(1200 + draw(300, p, 0, 'born'), p, 0, 'born') AS created_at, k = 1 AND draw(50, p, 0, 'gone') = 0 AS is_deleted,
            CASE WHEN k = 1 THEN ago(draw(900, p, 0, 'edit') - 10, p, 0, 'edit') END AS recorded_at
        FROM people, range(2) AS t(k) WHERE k = 0 OR draw(10, p, 0, 'edited') < 3""",
    "contact_owners": """
        SELECT contact_id, CASE WHEN draw(20, p, k, 'owner') > 0 THEN 'u' || draw(200, p, k, 'owner') END AS owner_id,
            CASE WHEN k = 1 THEN ago(draw(900, p, 0, 'edit') - 10, p, 0, 'edit') END AS valid_from
        FROM people, range(2) AS t(k) WHERE k = 0 OR draw(10, p, 0, 'edited') < 3""",
    "contact_stages": """
        SELECT contact_id, ['customer', 'lead', 'opportunity'][1 + draw(3, p, 0, 'stages')] AS lifecycle_stage,
            ago(1200 * draw(100, p, 1, 'stages') // 100, p, 0, 'stages') AS set_at
        FROM people""",
    "contact_orgs": """
        SELECT contact_id, 'o' || o AS org_id, draw(3, p, 0, 'primary') > 0 AS is_primary,
            CASE WHEN draw(2, p, 0, 'member') = 0 THEN ago(draw(1000, p, 0, 'member'), p, 0, 'member') END AS valid_from,
            CASE WHEN draw(30, p, 0, 'until') = 0 THEN ago(-draw(90, p, 0, 'until') + 60, p, 0, 'until') END AS valid_to
        FROM people
        UNION ALL
        SELECT contact_id, 'o' || (o - o % 10), draw(3, p, 1, 'primary') = 0, ago(draw(400, p, 1, 'member') - 5, p, 1, 'member'), NULL
        FROM people WHERE draw(10, p, 0, 'second') = 0 AND o % 10 > 0""",
    "nps_responses": """
        SELECT 'n' || p || '-' || k AS response_id, CASE WHEN draw(20, p, k, 'who') > 0 THEN contact_id END AS contact_id,
            CASE WHEN draw(2, p, k, 'whose') = 0 THEN 'o' || o END AS org_id,
            CASE WHEN draw(50, p, k, 'score') > 0 THEN draw(11, p, k, 'score') END AS score,
            CASE WHEN draw(3, p, k, 'words') = 0 THEN 'Because of ' || k END AS comment,
            ago(900 * draw(1000, p, k // 2, 'answer') // 1000, p, k // 2, 'answer') AS responded_at,
            CASE WHEN draw(10, p, k, 'known') = 0 THEN responded_at + to_hours(late(p, k)) END AS recorded_at
        FROM people, range(3) AS t(k) WHERE draw(10, p, k, 'answers') < 3""",
    "conversations": """
        SELECT conversation_id, CASE WHEN draw(30, v, 0, 'who') > 0 THEN contact_id END AS contact_id,
            CASE WHEN draw(2, v, 0, 'whose') = 0 THEN 'o' || o END AS org_id,
            CASE WHEN k = 1 AND draw(3, v, 0, 'rated') > 0 THEN 1 + draw(5, v, 0, 'rating') END AS rating,
            CASE WHEN rating IS NOT NULL THEN created_at + INTERVAL 2 DAY END AS rated_at,
            CASE WHEN rating < 3 THEN 'Took too long' END AS remark, ['open', 'closed'][1 + k] AS state,
            'Question ' || v AS title, 'https://desk.example/' || v AS url, created_at,
            k = 1 AND draw(200, v, 0, 'gone') = 0 AS is_deleted,
            CASE WHEN k = 1 THEN created_at + INTERVAL 2 DAY END AS recorded_at
        FROM talks, range(2) AS t(k) WHERE k = 0 OR draw(10, v, 0, 'edited') < 4""",
    "conversation_parts": """
        SELECT conversation_id, m AS part_number, ['contact', 'admin', 'contact', 'bot'][1 + draw(4, v, m, 'author')] AS author_type,
            created_at + to_minutes(m * (1 + draw(600, v, m, 'gap'))) AS created_at
        FROM (SELECT *, unnest(range(1 + draw(7, v, 0, 'parts') + CASE WHEN draw(1000, v, 0, 'long') = 0 THEN 200 ELSE 0 END)) AS m
            FROM talks)""",
    "engagements": """
        SELECT 'e' || p || '-' || n AS engagement_id, ['email', 'email', 'call', 'meeting', 'note', 'task'][1 + draw(6, p, n, 'kind')] AS type,
            ['outbound', 'inbound', NULL][1 + draw(3, p, n, 'way')] AS direction,
            CASE WHEN draw(20, p, n, 'who') > 0 THEN contact_id END AS contact_id,
            CASE WHEN draw(3, p, n, 'whose') > 0 THEN 'o' || o END AS org_id,
            'u' || draw(200, p, n, 'user') AS user_id, draw(4, p, n, 'auto') = 0 AS is_automated,
            ago(1000 * pow(draw(1000, p, n, 'touch') / 1000.0, 2) - 3, p, n, 'touch') AS occurred_at,
            CASE WHEN type = 'task' THEN ['completed', 'not_started'][1 + draw(2, p, n, 'done')] END AS status,
            CASE WHEN type = 'task' THEN occurred_at + INTERVAL 7 DAY END AS due_at,
            CASE WHEN status = 'completed' THEN occurred_at + INTERVAL 5 DAY END AS completed_at,
            'Subject ' || n AS subject,
            CASE WHEN draw(10, p, n, 'late') = 0 THEN occurred_at + to_hours(late(p, n)) END AS recorded_at
        FROM (SELECT *, unnest(range(draw(4, p, 0, 'touches'))) AS n FROM people)""",
    "users": """
        SELECT 'u' || u AS user_id, 'User ' || u AS name, ['csm', 'sales', 'support'][1 + u % 3] AS role, u % 9 > 0 AS is_active
        FROM range(200) AS t(u)""",
    "deals": """
        SELECT deal_id, 'Deal ' || d AS name, CASE WHEN draw(40, d, 0, 'org') > 0 THEN 'o' || o END AS org_id,
            CASE WHEN draw(2, d, 0, 'named') = 0 THEN 's' || o END AS subscription_id,
            CASE WHEN d % 4 < 3 THEN 'post_sales' ELSE 'sales' END AS pipeline,
            ['renewal', 'renewal', 'upsell', 'new_business'][1 + draw(4, d, 0, 'kind')] AS deal_type, 'team' AS plan,
            CASE WHEN k = 0 THEN 'offered' ELSE 'done' END AS stage, CASE WHEN k = 0 THEN 'open' ELSE ['won', 'lost'][1 + d % 2] END AS status,
            CASE WHEN draw(20, d, 0, 'amount') > 0 THEN 100 + draw(3000, d, 0, 'amount') END AS amount,
            CASE WHEN d % 5 = 0 THEN 'EUR' END AS currency, 'u' || draw(200, d, 0, 'owner') AS owner_id, d % 3 = 0 AS has_next_activity,
            created_at, CASE WHEN k = 1 THEN created_at + to_days(CAST(20 + draw(200, d, 0, 'close') AS INTEGER)) END AS closed_at,
            CAST(created_at AS DATE) + 90 AS close_date, false AS is_deleted,
            CASE WHEN k = 0 THEN created_at ELSE closed_at END AS recorded_at
        FROM trades, range(2) AS t(k) WHERE k = 0 OR draw(2, d, 0, 'closed') = 0""",
    "deal_close_dates": """
        SELECT deal_id, CAST(created_at AS DATE) + CAST(90 + 10 * k AS INTEGER) AS close_date,
            created_at + to_days(CAST(k * 15 AS INTEGER)) AS set_at
        FROM trades, range(2) AS t(k)""",
    "deal_stages": """
        SELECT deal_id, ['new', 'offered', 'done'][1 + k] AS stage, created_at + to_days(CAST(k * 20 AS INTEGER)) AS set_at
        FROM trades, range(3) AS t(k)""",
    "stages": """
        SELECT pipeline, stage, stage AS label, probability, status FROM (VALUES
            ('post_sales', 'new', 0.2, 'open'), ('post_sales', 'offered', 0.5, 'open'), ('post_sales', 'done', 1.0, 'won'),
            ('sales', 'new', 0.1, 'open'), ('sales', 'offered', 0.4, 'open'), ('sales', 'done', 1.0, 'won')
        ) AS t(pipeline, stage, probability, status)""",
    "success_plans": """
        SELECT 'o' || o AS org_id, 'active' AS status, 'Grow' AS objectives, ago(draw(300, o, 0, 'plan'), o, 0, 'plan') AS updated_at
        FROM orgs WHERE o % 10 = 5""",
    "fx_rates": """
        SELECT currency, CAST(base * (1 + (draw(100, m, base, 'rate') - 50) / 1000.0) AS DECIMAL(18, 8)) AS rate,
            CAST(DATE '2022-01-01' + to_months(CAST(m AS INTEGER)) AS DATE) AS valid_from
        FROM range(70) AS t(m), (VALUES ('EUR', 1.1), ('GBP', 1.3), ('JPY', 0.0068)) AS c(currency, base)""",
}  # fmt: skip


def write(folder: Path, organisations: int) -> None:
    """Write ``<canonical table>.parquet`` for a world of so many organisations into an existing folder."""
    with duckdb.connect(config={"preserve_insertion_order": False}) as connection:
        connection.execute(_MACROS)
        connection.execute(f"CREATE TEMPORARY TABLE orgs AS SELECT range AS o FROM range({organisations})")
        for name, select in _BASE.items():
            connection.execute(f"CREATE TEMPORARY TABLE {name} AS {select}")
        for table, select in _TABLES.items():
            sql = select.replace("{day}", str(DAY))
            connection.execute(f"COPY ({sql}) TO {literal(str(folder / f'{table}.parquet'))}")


def load(
    connection: duckdb.DuckDBPyConnection, folder: Path, settings: Settings, before: str | None = None
) -> int:
    """Fill ``inputs.*`` from the files and build ``staging.*``; the rows of all files.

    Args:
        before: only rows recorded before this instant; one without recorded_at has its own time, else it is known.
    """
    models = catalog()
    create_macros(connection)
    fill(connection, folder, models, before)
    stage(connection, settings)
    return sum(
        int(connection.execute(f"SELECT count(*) FROM {qualified('inputs', table)}").fetchall()[0][0])
        for table in models.inputs
    )


def fill(
    connection: duckdb.DuckDBPyConnection, folder: Path, models: Catalog, before: str | None = None
) -> None:
    """Fill ``inputs.*`` from the files; see `load`."""
    create_input_tables(connection, Catalog({}, models.inputs))
    for table in _TABLES:
        source = f"read_parquet({literal(str(folder / f'{table}.parquet'))})"
        where = (
            ""
            if before is None
            else f" WHERE {_known(table, connection, source)} < TIMESTAMP {literal(before)}"
        )
        connection.execute(f"INSERT INTO {qualified('inputs', table)} BY NAME SELECT * FROM {source}{where}")


#: The times a row may be known by, as staging completes recorded_at.
_OWN_TIMES = (
    "recorded_at",
    "effective_at",
    "valid_from",
    "merged_at",
    "responded_at",
    "occurred_at",
    "set_at",
    "updated_at",
    "created_at",
)


def _known(table: str, connection: duckdb.DuckDBPyConnection, source: str) -> str:
    present = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    times = [f"CAST({ident(name)} AS TIMESTAMP)" for name in _OWN_TIMES if name in present]
    return f"coalesce({', '.join([*times, 'TIMESTAMP ' + literal('1970-01-01')])})"
