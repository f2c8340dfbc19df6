"""docs/models.md says what the contracts say."""

from __future__ import annotations

from pathlib import Path

from hub_pipeline.models import catalog
from hub_pipeline.models.docs import models_page

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_page_of_all_models_is_made_from_their_contracts() -> None:
    assert PAGE.read_text(encoding="utf-8") == models_page(catalog()), (
        "run `python -m hub_pipeline.models docs > docs/models.md`"
    )


def test_every_published_column_stands_on_the_page_with_a_meaning() -> None:
    page = models_page(catalog())
    for model in catalog().layer("staging", "marts", "hub"):
        section = page.split(f"### {model.schema}.{model.table}\n")[1].split("\n### ")[0]
        for name, column in model.contract.columns.items():
            assert f"| `{name}` | {column.type} |" in section, f"{model.name} {name}"
            assert column.meaning.strip(), f"{model.name} {name}"
