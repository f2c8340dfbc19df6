"""Landing files that say what they cover, and which of them a later run goes on from."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

from hub_pipeline.warehouse.landing import (
    COMPLETE_NAME,
    LandedFile,
    LandingWriter,
    LoadContext,
    unfinished,
)

LOAD = LoadContext("r2", date(2026, 10, 31), datetime(2026, 11, 1), None, datetime(2026, 11, 1, 3))


def land(root: Path, load: LoadContext, position: dict[str, object] | None) -> list[LandedFile]:
    with LandingWriter(root, "hubspot", "deals", load, roll_seconds=0) as writer:
        for number in range(2):
            writer.position = None if position is None else {**position, "to": number}
            writer.write(b'{"id":"%d"}\n' % number, 1)
    return writer.files


def test_a_file_keeps_the_position_it_was_written_with(tmp_path: Path) -> None:
    files = land(tmp_path, LOAD, {"plan": "p"})
    assert [file.position for file in files] == [{"plan": "p", "to": 0}, {"plan": "p", "to": 1}]
    assert [LandedFile.read(file.path.with_name(f"0-{n:05}.json")) for n, file in enumerate(files)] == files


def test_only_unended_runs_of_the_same_day_and_floor_are_gone_on_from(tmp_path: Path) -> None:
    mine = land(tmp_path, replace(LOAD, run_id="r1"), {"plan": "p"})
    land(tmp_path, LOAD, {"plan": "p"})
    land(tmp_path, replace(LOAD, run_id="r3"), {"plan": "p"})
    land(tmp_path, replace(LOAD, run_id="a", as_of=date(2026, 10, 30)), {"plan": "p"})
    land(tmp_path, replace(LOAD, run_id="b", floor=datetime(2026, 10, 31)), {"plan": "p"})
    land(tmp_path, replace(LOAD, run_id="c"), None)
    land(tmp_path, replace(LOAD, run_id="d"), {"plan": "p"})
    (tmp_path / "hubspot" / "deals" / "d" / COMPLETE_NAME).touch()
    assert unfinished(tmp_path, "hubspot", "deals", LOAD) == mine
    assert unfinished(tmp_path, "hubspot", "contacts", LOAD) == []
