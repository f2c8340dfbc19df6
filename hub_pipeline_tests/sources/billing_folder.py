"""A billing folder, a warehouse and runs on them, for the tests of the billing source."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

from hub_pipeline.models.engine import day_close
from hub_pipeline.models.macros import create_macros
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources import billing
from hub_pipeline.warehouse import ledger
from hub_pipeline.warehouse.database import Warehouse
from hub_pipeline.warehouse.lock import RunLock
from hub_pipeline.warehouse.mapping import create_mapped_views
from hub_pipeline.warehouse.raw import StreamResult

SUBSCRIPTIONS = "subscription_id,customer_id,status,currency,started_at,updated_at"
ITEMS = (
    "subscription_item_id,subscription_id,seat_role,quantity,unit_amount_minor,interval,created_at,updated_at"
)

_MODELS = Path(billing.__file__).parents[2] / "models" / "inputs"


class BillingFolder:
    """The folder of one billing system `crm`, and the build file its extracts are loaded into; close it."""

    def __init__(self, data: Path, **settings: Any) -> None:
        self.data = data
        self.folder = data / "billing/incoming/crm"
        self.folder.mkdir(parents=True)
        values = {"settle_seconds": 0, "max_quarantined": "1", **settings.pop("billing", {})}
        self.settings = Settings.model_validate({"billing": values, **settings})
        self.environment = Environment.read({"HUB_DATA_DIR": str(data)})
        self.warehouse = Warehouse.in_folder(data)
        self._open = ExitStack()
        self.connection = self._open.enter_context(self.warehouse.connect())

    def close(self) -> None:
        """Close the build file."""
        self._open.close()

    def put(self, name: str, content: str | bytes | Sequence[str]) -> Path:
        """Write a file; a list of strings is its lines."""
        if not isinstance(content, str | bytes):
            content = "\n".join(content) + "\n"
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def run(
        self, as_of: date = date(2026, 10, 31), publish: bool = False, **more: Any
    ) -> dict[str, StreamResult]:
        """One run of the source; `publish` then raises the floor to the close of the day."""
        close = day_close(as_of, self.settings.zone)
        with RunLock(self.data) as lock:
            load, fence = ledger.begin_run(self.connection, lock, self.warehouse.state_path, as_of, close)
            results = billing.load(self.connection, self.settings, self.environment, load, fence, **more)
            if publish:
                ledger.record_intent(self.connection, fence, as_of, as_of, close)
        return {result.object: result for result in results}

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """Answer of a query on the build file."""
        return self.connection.execute(sql, values).fetchall()

    def subscription_versions(self, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
        """Rows of the canonical table inputs.subscription_versions, by subscription and clocks."""
        sql = (_MODELS / "subscription_versions.sql").read_text().split("---*/")[1]
        create_macros(self.connection)
        self.connection.execute("CREATE SCHEMA IF NOT EXISTS raw_hubspot")
        create_mapped_views(self.connection, self.settings)
        parameters = {k: v for k, v in self.settings.model_parameters().items() if f"${k}" in sql}
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE versions AS {sql}", parameters)
        order = "subscription_id, effective_at, recorded_at"
        return self.rows(f"SELECT {columns} FROM versions WHERE {where} ORDER BY {order}")

    def reasons(self) -> dict[int, list[str]]:
        """Line -> reasons of the quarantined rows."""
        return dict(self.rows("SELECT line_no, reasons FROM raw_billing.quarantine ORDER BY line_no"))

    def manifest(
        self, columns: str = "status, rows_total, accepted, exact_duplicates, quarantined"
    ) -> list[tuple[Any, ...]]:
        """Manifest rows, in the order of loading."""
        return self.rows(f"SELECT {columns} FROM raw_billing.files ORDER BY file_no")
