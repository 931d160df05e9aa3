"""Names say something."""

from pathlib import Path

import pytest

from tests.house import names
from tests.house.tree import ROOT, plant


def test_names() -> None:
    assert names.empty_names(ROOT) == []


def test_doors() -> None:
    assert names.doors(ROOT) == []


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        ("src/holdfast/utils.py", "", "utils"),
        ("src/holdfast/core/a.py", "", "core"),
        ("src/holdfast/http_helpers.py", "", "helpers"),
        ("src/holdfast/path_v2.py", "", "v2"),
        ("tests/common.py", "", "common"),
        ("src/holdfast/a.py", "class PoolManager: ...", "manager"),
        ("src/holdfast/a.py", "class BaseEngine: ...", "base"),
        ("src/holdfast/a.py", "class RouterV2: ...", "v2"),
    ],
)
def test_an_empty_name_is_found(tmp_path: Path, path: str, text: str, word: str) -> None:
    [said] = names.empty_names(plant(tmp_path, {path: text}))
    assert said.startswith(path)
    assert said.endswith(f"{word} says nothing")


def test_a_word_inside_another_is_fine(tmp_path: Path) -> None:
    plant(
        tmp_path, {"src/holdfast/database.py": "class NewKey: ...\nclass HTTPCoreless: ...\ndef new_id() -> None: ..."}
    )
    assert names.empty_names(tmp_path) == []


def test_a_missing_or_silent_door_is_found(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {"src/holdfast/a/x.py": "", "src/holdfast/b/__init__.py": "", "src/holdfast/c/__init__.py": '"""C."""'},
    )
    assert names.doors(tmp_path) == [
        "src/holdfast/a/__init__.py: missing",
        "src/holdfast/b/__init__.py: begins with no docstring",
    ]
