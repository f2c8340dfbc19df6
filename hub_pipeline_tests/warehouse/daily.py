"""A day of the warehouse as a process of its own, for the tests that kill it.

``python -m hub_pipeline_tests.warehouse.daily DATA_DIR N`` runs day N (0, 1, ...): three landing files of
companies, one of owners, tombstones, a mart, a publish. What the sources say on day N depends on N alone.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from hub_pipeline.errors import HubPipelineError
from hub_pipeline.settings import Settings
from hub_pipeline.warehouse.ledger import finish_run, record_freshness
from hub_pipeline.warehouse.publish import publish
from hub_pipeline.warehouse.raw import StreamResult
from hub_pipeline_tests.warehouse.support import COMPANIES, DAY, OWNERS, build_day, company, run


def companies_on(day: int) -> list[list[dict[str, Any]]]:
    """Three pages: each day one company is gone, one is new, a third of them changed; pages overlap."""
    records = [
        company(
            f"{i:03}",
            seats=i + (day if i % 3 == day % 3 else 0),
            updated=f"2026-10-{20 + (day if i % 3 == day % 3 else 0):02}T10:00:00",
        )
        for i in range(day, 60 + day)
    ]
    return [records[:25], records[20:45], records[45:]]


def main(data_dir: Path, day: int) -> None:
    """Run one day."""
    with run(data_dir, DAY + timedelta(days=day)) as one:
        results = []
        files = []
        for part, page in enumerate(companies_on(day)):
            files.append(one.land(COMPANIES, page, str(part)))
            one.loader.load_file(COMPANIES, files[-1])
        result = StreamResult("hubspot", "companies", "complete", 60)
        results.append(one.loader.finish_stream(COMPANIES, files, result, 0.2))
        results.append(one.take(OWNERS, [{"id": str(i), "email": f"{i + day // 2}@x"} for i in range(10)]))
        build_day(one)
        record_freshness(one.connection, one.fence, one.load.as_of, results)
        publish(one.warehouse, one.connection, one.fence, one.load, Settings())
        finish_run(one.connection, one.fence)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]))
    except HubPipelineError as problem:
        print(problem, file=sys.stderr)
        sys.exit(problem.exit_code)
