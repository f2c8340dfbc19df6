"""Under which clock a file that is not kept in landing was first loaded.

Billing extracts stay in their own folder, so the build file alone would know the floor of their load (settled rule
2). This record, beside the landing data, lets a rebuilt build file give them the ``recorded_at`` of the first time;
without it they would be known only from the last published day on, and published days would change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path

from hub_pipeline.errors import WarehouseError
from hub_pipeline.warehouse.landing import LoadContext, make_private_folder, write_durably


class LoadRecords:
    """The first load of each file of a folder, by a key of the caller's choice (source and sha256).

    Args:
        path: the record, such as ``<landing>/billing/loads.json``; made when there is something to remember.

    Raises:
        WarehouseError: the record is there and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            stored = json.loads(path.read_bytes())
            self._loads = {key: _from_json(values) for key, values in stored.items()}
        except FileNotFoundError:
            self._loads = {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WarehouseError(
                f"The load record {path} cannot be read: {error}. Nothing was loaded; put back a copy of it."
            ) from error

    def first(self, key: str, load: LoadContext) -> LoadContext:
        """The load under which this file was loaded for the first time; ``load`` if that is now."""
        return self._loads.get(key, load)

    def remember(self, committed: Iterable[tuple[str, LoadContext]]) -> None:
        """Keep the loads of files whose rows are committed; what is already remembered stays as it is.

        Call it after the commits, and before the first load of a run for those that a crash cut off from here.

        Raises:
            WarehouseError: the record cannot be written; what was loaded is kept.
        """
        new = {key: load for key, load in committed if key not in self._loads}
        if not new:
            return
        self._loads |= new
        content = {key: _to_json(load) for key, load in sorted(self._loads.items())}
        try:
            make_private_folder(self._path.parent)
            write_durably(self._path, json.dumps(content, indent=1).encode() + b"\n")
        except OSError as error:
            raise WarehouseError(
                f"The load record {self._path} could not be written: {error.strerror}. What was loaded is kept; "
                "make room and run again."
            ) from error


def _to_json(load: LoadContext) -> dict[str, str | None]:
    return {
        "run_id": load.run_id,
        "as_of": load.as_of.isoformat(),
        "close": load.close.isoformat(),
        "floor": load.floor.isoformat() if load.floor else None,
        "started_at": load.started_at.isoformat(),
    }


def _from_json(values: dict[str, str | None]) -> LoadContext:
    floor = values["floor"]
    return LoadContext(
        run_id=str(values["run_id"]),
        as_of=date.fromisoformat(str(values["as_of"])),
        close=datetime.fromisoformat(str(values["close"])),
        floor=datetime.fromisoformat(floor) if floor else None,
        started_at=datetime.fromisoformat(str(values["started_at"])),
    )
