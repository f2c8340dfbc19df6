"""The pictures of the README, taken from the demo company: ``make demo``, then ``make pictures``."""

from __future__ import annotations

import html
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import duckdb

from hub_pipeline_tests.browser import browser_page

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WAREHOUSE = Path("data/demo/warehouse.duckdb")
PORT = 3999

LISTS = {
    "Organisations at risk": "SELECT name, owner_name AS owner, tier, mrr, reasons, why FROM hub.organisations_at_risk LIMIT 6",
    "Churn, and is it really churn": (
        "SELECT name, state, churn_date, mrr_at_risk, verification, review_hints, why FROM hub.churn LIMIT 5"
    ),
    "Renewals": (
        "SELECT name, renew_by, days_to_renew_by AS days, mrr_at_stake AS mrr, status, hygiene FROM hub.renewal_pipeline "
        "WHERE len(hygiene) > 0 OR status = 'missing' LIMIT 6"
    ),
}

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 24px; width: 1550px; color: #1d2129; }
h2 { font-size: 19px; margin: 22px 0 6px; } code { color: #57606a; font-size: 13px; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; color: #57606a; font-weight: 600; }
th, td { padding: 5px 10px; border-bottom: 1px solid #d8dee4; vertical-align: top; }
"""


def result_page() -> str:
    """The first rows of the lists people ask for, as a page."""
    parts = [f"<style>{STYLE}</style>"]
    with duckdb.connect(str(WAREHOUSE), read_only=True) as connection:
        for title, query in LISTS.items():
            cursor = connection.execute(query)
            head = "".join(f"<th>{html.escape(column[0])}</th>" for column in cursor.description or ())
            rows = "".join(
                "<tr>" + "".join(f"<td>{html.escape(_shown(value))}</td>" for value in row) + "</tr>"
                for row in cursor.fetchall()
            )
            parts.append(
                f"<h2>{title}</h2><table><tr>{head}</tr>{rows}</table><code>{html.escape(query)}</code>"
            )
    return "".join(parts)


def _shown(value: object) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def main() -> None:
    """Write both pictures."""
    IMAGES.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "hub_pipeline.cli", "ui", "--demo", "--port", str(PORT)]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with browser_page() as page:
            page.set_content(result_page())
            page.screenshot(path=str(IMAGES / "lists.png"), full_page=True)
            for _ in range(120):
                try:
                    urlopen(f"http://127.0.0.1:{PORT}/server_info").close()
                    break
                except URLError:
                    time.sleep(1)
            page.goto(
                f"http://127.0.0.1:{PORT}/assets/hub/organisations_at_risk?view=lineage&lineageScope=upstream"
            )
            page.wait_for_timeout(10_000)
            page.screenshot(path=str(IMAGES / "asset_graph.png"))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


if __name__ == "__main__":
    main()
