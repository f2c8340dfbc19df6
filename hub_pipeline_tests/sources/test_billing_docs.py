"""docs/billing.md is the contract as a page: what it says is what the loader does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import hub_pipeline
from hub_pipeline.sources.billing.contract import contract
from hub_pipeline_tests.sources.billing_folder import BillingFolder

PAGE = (Path(hub_pipeline.__file__).parents[1] / "docs/billing.md").read_text(encoding="utf-8")


def test_the_page_describes_every_column_of_the_contract_and_no_other() -> None:
    for table in contract().values():
        section = PAGE.split(f"\n### {table.name}\n")[1].split("\n#")[0]
        described = re.findall(r"^\| (\*\*)?`(\w+)`(?:\*\*)? \| .* \| (.*) \|$", section, flags=re.MULTILINE)
        assert described == [
            (
                "**" if column.required else "",
                column.name,
                column.meaning + (f" (empty = `{column.default}`)" if column.default else ""),
            )
            for column in table.columns.values()
        ]


def test_the_files_of_the_first_example_load_as_they_are_printed(
    folder: Callable[..., BillingFolder],
) -> None:
    billing = folder()
    example = PAGE.split("## A file in five minutes")[1].split("\n## ")[0]
    files = re.findall(r"`([\w-]+\.csv)`\n```\n(.*?)```", example, flags=re.DOTALL)
    for name, content in files:
        billing.put(name, content)
    billing.run()
    assert len(files) == 3
    assert billing.manifest() == [("loaded", 1, 1, 0, 0)] * 3
    assert billing.subscription_versions(
        "org_id, seats, amount, billing_interval, plan", "term_end IS NOT NULL"
    ) == [("cus_1", 40, 480, "month", "Team")]
