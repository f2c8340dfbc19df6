"""A Stripe account and a warehouse that reads it night by night, for the tests of the Stripe source."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from hub_pipeline.demo.serve import serving
from hub_pipeline.demo.stripe_server import DEMO_KEY, VERSIONS, StripeAccount, StripeSimulator
from hub_pipeline.settings import Environment
from hub_pipeline.sources import stripe
from hub_pipeline.sources.progress import NullProgress
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.known import WarehouseKnown
from hub_pipeline.warehouse.landing import LoadContext
from hub_pipeline.warehouse.loader import RawLoader
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline.warehouse.mapping import create_mapped_views
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline_tests.sources.billing_folder import BillingFolder
from hub_pipeline_tests.sources.billing_marts import at_closes, seats_by_day, stage_billing

_LATEST = (
    "SELECT c.close, v.* FROM closes AS c JOIN raw_billing.{table}_versions AS v ON v._changed_at < c.close "
    "QUALIFY row_number() OVER (PARTITION BY c.close, v.{key} "
    "ORDER BY v._changed_at DESC, v._recorded_at DESC, v._file_no DESC, v._line DESC) = 1"
)
_SEATS = (
    "WITH closes AS (SELECT unnest($closes::TIMESTAMP[]) AS close), "
    f"subs AS ({_LATEST.format(table='subscriptions', key='subscription_id')}), "
    f"items AS ({_LATEST.format(table='subscription_items', key='subscription_item_id')}) "
    "SELECT close, customer_id, sum(quantity) FROM subs JOIN items USING (close, subscription_id) "
    "WHERE items._deleted_at IS NULL AND items.seat_role = 'seat' AND subs.status IN ('active', 'past_due') "
    "AND subs._deleted_at IS NULL GROUP BY ALL HAVING sum(quantity) > 0"
)

START = datetime(2026, 6, 1, 9, tzinfo=UTC)
NIGHT = timedelta(hours=3)


class StripeHouse(BillingFolder):
    """One account, simulated, and the build file that its nights are read into; close it."""

    def __init__(self, data: Path, account: StripeAccount | None = None, **settings: Any) -> None:
        super().__init__(data, **settings)
        self.account = account or StripeAccount(START)
        self.simulator = StripeSimulator(self.account)

    def night(self, day: date | None = None, **more: Any) -> dict[str, StreamResult]:
        """Let time pass to the night after a day (default: the next one that comes), and read the account."""
        if day is None:
            day = (self.account.now - NIGHT).date()
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) + NIGHT
        if moment > self.account.now:
            self.account.advance((moment - self.account.now).total_seconds())
        return self.read(day, **more)

    def read(self, day: date, *, max_shrink: float = 0.2, **more: Any) -> dict[str, StreamResult]:
        """One run of the source for a day, at the account's own moment."""
        close = datetime(day.year, day.month, day.day) + timedelta(days=1)
        with serving(self.simulator.app) as (url,), RunLock(self.data) as lock:
            load, fence = ledger.begin_run(self.connection, lock, self.warehouse.state_path, day, close)
            # The machine's clock plays no part in what is kept; the night's own moment does.
            load = replace(load, started_at=self.account.now.replace(tzinfo=None))
            values = {"stripe_api_key": SecretStr(DEMO_KEY), "stripe_base_url": url, **more}
            environment = Environment.model_validate({"data_dir": self.data, **values})
            root = self.warehouse.landing_root
            loader = RawLoader(self.connection, fence, load, root)
            results = {}
            known = WarehouseKnown(self.connection)
            for stream, files, result in stripe.extract(
                self.settings, environment, root, load, NullProgress(), known
            ):
                inserted = sum(loader.load_file(stream, file) for file in files)
                results[result.object] = loader.finish_stream(
                    stream, files, replace(result, inserted=inserted), max_shrink
                )
            for result in stripe.convert(self.connection, self.settings, environment, load, fence):
                results[result.object] = result
            return results

    def extract_only(self) -> dict[str, StreamResult]:
        """What the extraction says about each object; its files are landed and not loaded."""
        day = self.account.now.date()
        close = datetime(day.year, day.month, day.day) + timedelta(days=1)
        load = LoadContext("r1", day, close, None, self.account.now.replace(tzinfo=None))
        with serving(self.simulator.app) as (url,):
            values = {"stripe_api_key": SecretStr(DEMO_KEY), "stripe_base_url": url}
            environment = Environment.model_validate({"data_dir": self.data, **values})
            found = stripe.extract(self.settings, environment, self.data / "landing", load, NullProgress())
            return {result.object: result for _, _, result in found}

    def seats_on(self, *days: date) -> dict[date, dict[str, int]]:
        """Seats of each customer at the end of each day, as the rows of raw_billing say it."""
        closes = [datetime(day.year, day.month, day.day) + timedelta(days=1) for day in days]
        counted: dict[date, dict[str, int]] = {day: {} for day in days}
        for close, customer, seats in self.rows(_SEATS, closes=closes):
            counted[(close - timedelta(days=1)).date()][customer] = int(seats)
        return counted

    def modelled_seats_on(self, *days: date) -> dict[date, dict[str, int]]:
        """The same as the canonical table of the models says it."""
        create_mapped_views(self.connection, self.settings)  # subscriptions may come from HubSpot, too
        stage_billing(self)
        closes = [datetime(day.year, day.month, day.day) + timedelta(days=1) for day in days]
        found = seats_by_day(at_closes(self, closes))
        return {day: found.get(close, {}) for day, close in zip(days, closes, strict=True)}

    def truth_on(self, *days: date) -> dict[date, dict[str, int]]:
        """The same as the account knows it."""
        return {day: self.account.seats_on(day) for day in days}

    def item_history(self, columns: str = "updated_at, quantity") -> list[tuple[Any, ...]]:
        """What raw_billing has of items, oldest first."""
        return self.rows(
            f"SELECT {columns} FROM raw_billing.subscription_items WHERE source = 'stripe' "
            "ORDER BY subscription_item_id, _changed_at"
        )


def days_between(first: date, last: date) -> list[date]:
    """All days of an interval."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def old_account(start: datetime = START) -> StripeAccount:
    """An account whose events are written in the shape before 2025-03-31."""
    return StripeAccount(start, VERSIONS[0])
