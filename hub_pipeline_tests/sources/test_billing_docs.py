"""docs/billing.md is the contract as a page: what it says is what the loader does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import hub_pipeline
from hub_pipeline.sources.billing.contract import contract
from hub_pipeline.sources.billing.identity import RULES
from hub_pipeline_tests.sources.billing_folder import BillingFolder

PAGE = (Path(hub_pipeline.__file__).parents[1] / "docs/billing.md").read_text(encoding="utf-8")


WORDS = {
    "timestamp": "time", "date": "day", "minor": "money", "unit_minor": "unit price", "json": "JSON",
}  # fmt: skip


def test_the_page_describes_every_column_of_the_contract_and_no_other() -> None:
    for table in contract().values():
        section = PAGE.split(f"\n### {table.name}\n")[1].split("\n#")[0]
        described = re.findall(
            r"^\| (\*\*)?`(\w+)`(?:\*\*)? \| (.*?) \| (.*) \|$", section, flags=re.MULTILINE
        )
        assert described == [
            (
                "**" if column.required else "",
                column.file_name,
                "one of " + ", ".join(f"`{value}`" for value in column.values)
                if column.type == "enum"
                else WORDS.get(column.type, column.type),
                column.meaning + (f" (empty = `{column.default}`)" if column.default else ""),
            )
            for column in table.columns.values()
        ]


def test_every_hazard_of_the_page_names_a_test_that_exists_and_every_rule_of_matching_is_there() -> None:
    tests = Path(__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in tests.glob("test_billing_*.py"))
    section = PAGE.split("## What happens to bad rows and bad files")[1].split("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", section)) - {"test_data"}
    assert len(named) > 20
    assert [name for name in sorted(named) if f"def {name}(" not in source] == []
    matching = PAGE.split("## Which organisation a customer is")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \| ", matching, flags=re.MULTILINE)[1:] == list(RULES)


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


def test_every_edge_case_of_the_ledger_names_tests_that_exist() -> None:
    page = (Path(hub_pipeline.__file__).parents[1] / "docs/billing_ledger.md").read_text(encoding="utf-8")
    section = page.split("## Edge cases")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([\d, ]+) [^|]*\| [^|]* \| ([^|]*) \|$", section, flags=re.MULTILINE)
    cases = [int(number) for numbers, _ in rows for number in numbers.split(",")]
    assert cases == list(range(1, 48))
    here = Path(__file__).parent
    edge_cases = (here / "test_billing_edge_cases.py").read_text(encoding="utf-8")
    for numbers, named in rows:
        tests, files = re.findall(r"test_\d\d\b", named), re.findall(r"[\w/]+\.py", named)
        assert tests or files, numbers
        assert [name for name in tests if f"def {name}_" not in edge_cases] == [], numbers
        assert [f for f in files if not ((here / f).exists() or (here.parent / f).exists())] == [], numbers
