"""The reference pages say what the code declares, and the examples in the docs work as pasted."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from holdfast.kernel import errors
from holdfast.kernel.environment import RESERVED
from holdfast.kernel.errors import CallerError, HoldfastError
from holdfast.settings import Settings
from holdfast.tools.reference import SMALLEST, errors_page, settings_page
from tests.settings.said import Folder

DOCS = Path(__file__).parents[2] / "docs"


def test_the_committed_pages_are_what_the_code_says() -> None:
    assert (DOCS / "reference" / "settings.md").read_text() == settings_page(Settings)
    assert (DOCS / "reference" / "errors.md").read_text() == errors_page(HoldfastError)


def tables_in(kind: type) -> Iterator[type]:
    for hint in get_type_hints(kind).values():
        for inner in (hint, *get_args(hint)):
            if is_dataclass(inner) and isinstance(inner, type):
                yield inner
                yield from tables_in(inner)


def test_every_setting_stands_there_with_its_help() -> None:
    page = settings_page(Settings)
    for table in tables_in(Settings):
        for field in fields(table):
            row = rf"^\| `{field.name}` \| .* \| {re.escape(field.metadata['help'])}( \*restart\*)? \|$"
            assert re.search(row, page, re.MULTILINE), (table, field.name)


def test_rows_say_type_default_and_whether_a_restart_is_needed() -> None:
    page = settings_page(Settings)
    for row in (
        "| `port` | whole number | `8080` | The port to listen on; 0 takes a free one. *restart* |",
        "| `lanes` | list of text | **required** | ",
        "| `limit_usd` | dollars | **required** | ",
        "| `budget_mode` | `expected`, `strict` | as `[defaults]` | ",
        "| `headers` | secrets, by name |  | ",
    ):
        assert f"\n{row}" in page
    assert all(f"| `{name}` |" in page for name in RESERVED)
    assert SMALLEST in page


def test_every_error_stands_there_once_under_whose_fault_it_is() -> None:
    page = errors_page(HoldfastError)
    known = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HoldfastError)]
    branches = {HoldfastError, *HoldfastError.__subclasses__()}
    for kind in set(known) - branches:
        assert page.count(f"| `{kind.code}` | {kind.status} | {kind.retry} |") == 1, kind
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["The caller's", "The provider's", "Ours"]


def test_an_error_that_only_a_test_knows_is_not_in_the_page() -> None:
    before = errors_page(HoldfastError)

    class PlantedError(CallerError):
        """Not of the tree."""

        code = "planted"

    assert errors_page(HoldfastError) == before
    del PlantedError


def examples(page: str) -> list[str]:
    return re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page in ("settings.md", "prices.md", "reference/settings.md") for number in range(len(examples(page)))],
)  # fmt: skip
def test_every_example_of_the_docs_can_be_used(folder: Folder, page: str, number: int) -> None:
    """An example that is only a part stands on the smallest useful file."""
    text = examples(page)[number]
    (folder.path / "secrets").mkdir()
    (folder.path / "secrets" / "mobile").write_text("hf-0123")
    environ = {"OPENAI_API_KEY": "sk-1", "AZURE_KEY": "az-1", "APP_KEY": "hf-1", "DATABASE_URL": "postgresql://x"}
    if "[models.chat]" not in text:
        text += (
            '\n[models.chat]\nlanes = ["base/gpt-4o"]\n[upstreams.base]\ndialect = "openai"\nbase_url = "http://x"\n'
        )
    assert folder.problems(text, environ) == []
