"""SQL that reads what an organisation pays for from the properties of its HubSpot record (domain 4.6).

One organisation has one subscription, ``hubspot:<id>``. Its boundary sentences:

* Something is sold when the amount or the seats are above 0; where neither is told, when a plan is named. A value that
  cannot be read as a number is unknown, and unknown is not 0.
* The subscription runs while something is sold. A readable status decides instead: canceled does not run, unless its
  cancel_at is still to come (then it runs until there); any other status holds as it stands.
* Before started_at it is incomplete. What was known first is dated by started_at where that is earlier.
* cancel_at ends it (exclusive), also far in advance. One from before the subscription ran again, and set before that,
  is a thing of the past.
* A record that was archived, deleted or merged away pays nothing from then on.
* mrr wins over recurring_amount. With mrr the amount of an interval is mrr times its months; a weekly one is told by
  the month. An interval that is not told is a month; one whose name no setting knows leaves recurring_amount unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hub_pipeline.settings import SUBSCRIPTION_COLUMNS, Settings
from hub_pipeline.warehouse.property_history import timeline_sql, versions_sql
from hub_pipeline.warehouse.sql import literal

#: Months of the intervals that are whole months.
_MONTHS = {"month": 1, "quarter": 3, "year": 12, "two_years": 24}

#: Columns of inputs.subscription_versions, in its order.
COLUMNS = {
    "subscription_id": "VARCHAR",
    "org_id": "VARCHAR",
    "plan": "VARCHAR",
    "billing_interval": "VARCHAR",
    "seats": "BIGINT",
    "amount": "DECIMAL(18,4)",
    "currency": "VARCHAR",
    "status": "VARCHAR",
    "effective_at": "TIMESTAMP",
    "cancel_at": "TIMESTAMP",
    "cancel_requested_at": "TIMESTAMP",
    "cancel_reason": "VARCHAR",
    "cancel_comment": "VARCHAR",
    "term_start": "TIMESTAMP",
    "term_end": "TIMESTAMP",
    "ended_at": "TIMESTAMP",
    "source": "VARCHAR",
    "recorded_at": "TIMESTAMP",
}


def vocabulary(value: str, meanings: Mapping[str, str]) -> str:
    """SQL: the meaning of a text in lower case; NULL if no setting knows it."""
    cases = " ".join(f"WHEN {literal(k.lower())} THEN {literal(v)}" for k, v in meanings.items())
    return f"CASE lower(trim({value})) {cases} END" if cases else "CAST(NULL AS VARCHAR)"


def currency(value: str) -> str:
    """SQL: a currency code in upper case; NULL if the text cannot be one."""
    return f"CASE WHEN regexp_full_match(upper(trim({value})), '[A-Z]{{3}}') THEN upper(trim({value})) END"


def subscriptions_sql(settings: Settings, cast: Callable[[str, str], str]) -> str:
    """Every version of the subscription of every organisation, whether billing covers it or not.

    Args:
        settings: what the values of status and interval mean.
        cast: (column, type) -> SQL that reads the column's text as the type, NULL if it does not fit.

    Returns:
        A SELECT of `COLUMNS`: rows of ``raw_hubspot.organisations_changes`` (which must exist) put together.
    """
    names = ", ".join(literal(column) for column in SUBSCRIPTION_COLUMNS)
    told = f"""
        SELECT id, column_name, value, effective_at, recorded_at,
            CASE WHEN column_name = 'started_at' THEN {cast("value", "TIMESTAMP")} END AS started_at
        FROM raw_hubspot.organisations_changes WHERE column_name IN ({names})"""
    # Records that are gone, and the instants at which a start told in advance comes about.
    cells = f"""
        WITH told AS ({told}),
        firsts AS (
            SELECT id, arg_min(effective_at, (recorded_at, effective_at)) AS first_at FROM told GROUP BY id),
        starts AS (
            SELECT t.id, f.first_at, arg_min(t.started_at, t.recorded_at) AS started_at, min(t.recorded_at) AS known_at
            FROM told AS t JOIN firsts AS f ON f.id = t.id AND t.effective_at = f.first_at
            WHERE t.started_at IS NOT NULL
            GROUP BY t.id, f.first_at),
        records AS (
            SELECT id, _changed_at, _recorded_at,
                _archived_at IS NOT NULL OR _deleted_at IS NOT NULL OR _merged_into IS NOT NULL AS is_gone
            FROM ({versions_sql("organisations")})),
        followed AS (
            SELECT *, coalesce(lag(is_gone) OVER (PARTITION BY id ORDER BY _recorded_at), false) AS was_gone
            FROM records)
        SELECT id, column_name, value, effective_at, recorded_at FROM told
        UNION ALL
        SELECT t.id, t.column_name, t.value, s.started_at, greatest(t.recorded_at, s.known_at)
        FROM told AS t JOIN starts AS s ON s.id = t.id AND s.first_at = t.effective_at
        WHERE s.started_at < s.first_at
        UNION ALL
        SELECT id, 'comes_about', '', started_at, greatest(started_at, recorded_at)
        FROM told WHERE started_at > effective_at
        UNION ALL
        SELECT r.id, 'is_gone', CASE WHEN r.is_gone THEN 'true' ELSE '' END, r._changed_at,
            greatest(r._recorded_at, r._changed_at)
        FROM followed AS r WHERE r.is_gone <> r.was_gone AND r.id IN (SELECT id FROM told)"""
    columns = (*SUBSCRIPTION_COLUMNS, "comes_about", "is_gone")
    whole_months = " ".join(f"WHEN {literal(k)} THEN {v}" for k, v in _MONTHS.items())
    interval = vocabulary("billing_interval", settings.hubspot.billing_intervals)
    return f"""
    WITH timeline AS ({timeline_sql(cells, columns, ("cancel_at",))}),
    typed AS (
        SELECT id, epoch, effective_at, recorded_at, is_told, coalesce(is_gone = 'true', false) AS is_gone,
            nullif(plan, '') AS plan,
            {cast("seats", "BIGINT")} AS seats,
            coalesce(seats, '') <> '' AS has_seats,
            {cast("mrr", "DECIMAL(18,4)")} AS mrr,
            {cast("recurring_amount", "DECIMAL(18,4)")} AS recurring_amount,
            coalesce(mrr, '') <> '' AS has_mrr,
            coalesce(mrr, '') <> '' OR coalesce(recurring_amount, '') <> '' AS has_amount,
            {interval} AS known_interval,
            coalesce(billing_interval, '') <> '' AS has_interval,
            coalesce(currency, '') <> '' AS has_currency,
            {currency("currency")} AS currency,
            {vocabulary("subscription_status", settings.hubspot.subscription_statuses)} AS told_status,
            {cast("started_at", "TIMESTAMP")} AS started_at,
            {cast("cancel_at", "TIMESTAMP")} AS told_end,
            cancel_at__at AS end_set_at,
            {cast("cancel_requested_at", "TIMESTAMP")} AS cancel_requested_at,
            nullif(cancel_reason, '') AS cancel_reason,
            nullif(cancel_comment, '') AS cancel_comment,
            {cast("term_start", "TIMESTAMP")} AS term_start,
            {cast("term_end", "TIMESTAMP")} AS term_end
        FROM timeline),
    judged AS (
        SELECT *,
            coalesce(CASE WHEN has_mrr THEN mrr ELSE recurring_amount END, 0) > 0 OR coalesce(seats, 0) > 0
                OR (has_amount AND (CASE WHEN has_mrr THEN mrr ELSE recurring_amount END) IS NULL)
                OR (has_seats AND seats IS NULL)
                OR (NOT has_amount AND NOT has_seats AND plan IS NOT NULL) AS is_sold
        FROM typed),
    running AS (
        SELECT *,
            NOT is_gone AND CASE
                WHEN told_status = 'canceled' THEN coalesce(told_end > effective_at, false)
                WHEN told_status IS NOT NULL THEN true
                ELSE is_sold
            END AS is_on
        FROM judged),
    turned AS (
        SELECT *, is_on IS DISTINCT FROM coalesce(lag(is_on) OVER so_far, false) AS has_turned
        FROM running WINDOW so_far AS (PARTITION BY id, epoch ORDER BY effective_at, recorded_at)),
    dated AS (
        SELECT *,
            max(CASE WHEN has_turned AND is_on THEN effective_at END) OVER so_far AS on_since,
            max(CASE WHEN has_turned AND NOT is_on THEN effective_at END) OVER so_far AS off_since
        FROM turned
        WINDOW so_far AS (
            PARTITION BY id, epoch ORDER BY effective_at, recorded_at
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)),
    ending AS (
        SELECT *, CASE WHEN told_end > on_since OR end_set_at >= on_since THEN told_end END AS end_at FROM dated),
    stated AS (
        SELECT id, epoch, effective_at, recorded_at, is_told, on_since,
            plan, seats, currency, cancel_requested_at, cancel_reason, cancel_comment, term_start, term_end,
            CASE
                WHEN has_mrr THEN coalesce(nullif(known_interval, 'week'), 'month')
                WHEN has_interval THEN known_interval
                ELSE 'month'
            END AS billing_interval,
            CASE
                WHEN has_currency AND currency IS NULL THEN NULL
                WHEN has_mrr THEN mrr * CASE known_interval {whole_months} ELSE 1 END
                ELSE recurring_amount
            END AS amount,
            CASE
                WHEN NOT is_on THEN 'canceled'
                WHEN started_at > effective_at THEN 'incomplete'
                WHEN told_status = 'canceled' THEN 'active'
                ELSE coalesce(told_status, 'active')
            END AS status,
            end_at AS cancel_at,
            CASE WHEN NOT is_on THEN least(end_at, off_since) END AS ended_at
        FROM ending),
    described AS (
        SELECT *,
            row(status, plan, seats, amount, billing_interval, currency, cancel_at, cancel_requested_at,
                cancel_reason, cancel_comment, term_start, term_end, ended_at) AS content,
            count(*) OVER (PARTITION BY id, effective_at) AS versions_of_the_instant
        FROM stated),
    compared AS (
        SELECT *, lag(content) OVER (PARTITION BY id, epoch ORDER BY effective_at, recorded_at) AS content_before
        FROM described)
    SELECT 'hubspot:' || id AS subscription_id, id AS org_id, plan, billing_interval, seats,
        TRY_CAST(amount AS DECIMAL(18,4)) AS amount,
        coalesce(currency, {literal(settings.reporting_currency)}) AS currency, status, effective_at, cancel_at, cancel_requested_at,
        cancel_reason, cancel_comment, term_start, term_end, ended_at, 'hubspot' AS source, recorded_at
    FROM compared
    -- Left out: what already held, and what was before anything ran. Not where an instant was told more than once.
    WHERE is_told AND (
        versions_of_the_instant > 1 OR (on_since IS NOT NULL AND content IS DISTINCT FROM content_before))"""


def answers_sql(timeline: str, cast: Callable[[str, str], str], kind: str = "organisation") -> str:
    """NPS answers from the score that a record held, in the columns of inputs.nps_responses.

    Each value the score was set to is an answer, and so is each new nps_responded_at. An answer is dated by an
    nps_responded_at that was set with the score or after it, else by the instant the score was set. The record of an
    organisation holds one answer at a time, so its answers have one respondent, ``organisation:<id>``: the latest
    counts. The respondent of a contact's record is the contact. An empty score is
    no answer, one that is not a whole number from 0 to 10 is counted in ``organisations_unread``.
    """
    return f"""
    WITH scored AS (
        SELECT id, effective_at, recorded_at, {cast("nps_score", "DECIMAL(9,4)")} AS score, nullif(nps_comment, '') AS comment,
            CASE
                WHEN nps_responded_at__at >= nps_score__at
                    THEN coalesce({cast("nps_responded_at", "TIMESTAMP")}, nps_score__at)
                ELSE nps_score__at
            END AS responded_at
        FROM ({timeline}))
    SELECT '{kind}:' || id || ':' || strftime(responded_at, '%Y-%m-%dT%H:%M:%S.%gZ') AS response_id,
        {"'organisation:' || id" if kind == "organisation" else "id"} AS contact_id,
        {"id" if kind == "organisation" else "CAST(NULL AS VARCHAR)"} AS org_id,
        score, comment, 'hubspot_{kind}' AS source,
        responded_at, recorded_at
    FROM scored
    WHERE score IN ({", ".join(map(str, range(11)))})
    QUALIFY row_number() OVER (PARTITION BY id, responded_at, recorded_at ORDER BY effective_at DESC) = 1"""


def merged_sql() -> str:
    """Organisations that were merged are one: id, same_as (the smallest id of them), known_at (when all was known)."""
    return """
    WITH RECURSIVE pairs AS (
        SELECT loser_id AS one, winner_id AS other, _recorded_at FROM raw_hubspot.merges WHERE object = 'organisations'
        UNION
        SELECT winner_id, loser_id, _recorded_at FROM raw_hubspot.merges WHERE object = 'organisations'),
    reached AS (
        SELECT one AS id, one AS other FROM pairs
        UNION
        SELECT r.id, p.other FROM reached AS r JOIN pairs AS p ON p.one = r.other)
    SELECT r.id, min(r.other) AS same_as, max(p._recorded_at) AS known_at
    FROM reached AS r JOIN pairs AS p ON p.one = r.other
    GROUP BY r.id"""
