"""Nothing grows past what one sitting can read."""

from pathlib import Path

import pytest

from tests.house import sizes
from tests.house.tree import ROOT, exceptions, plant


def body(lines: int) -> str:
    """A function of so many lines."""
    return "def long() -> None:\n" + "    pass\n" * (lines - 1)


def test_modules() -> None:
    assert sizes.module_lines(ROOT, exceptions("module_lines")) == []
    assert sizes.module_spread(ROOT) == []


def test_functions() -> None:
    assert sizes.function_lines(ROOT, exceptions("function_lines")) == []
    assert sizes.function_spread(ROOT) == []


def test_pages() -> None:
    assert sizes.pages(ROOT) == []


def test_features() -> None:
    assert sizes.feature_files(ROOT, exceptions("feature_files")) == []


def test_a_module_of_601_lines_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {"src/holdfast/a.py": "\n" * 601, "src/holdfast/b.py": "\n" * 600, "tests/c.py": "\n" * 601})
    assert sizes.module_lines(tmp_path, {}) == [
        "src/holdfast/a.py: 601 lines (at most 600)",
        "tests/c.py: 601 lines (at most 600)",
    ]


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        (700, []),
        (699, ["src/holdfast/a.py: 700 lines (its exception says 699)"]),
        (701, ["src/holdfast/a.py: 700 lines; lower its exception from 701"]),
    ],
)
def test_an_exception_only_shrinks(tmp_path: Path, allowed: int, said: list[str]) -> None:
    plant(tmp_path, {"src/holdfast/a.py": "\n" * 700})
    assert sizes.module_lines(tmp_path, {"src/holdfast/a.py": allowed}) == said


@pytest.mark.parametrize("files", [{"src/holdfast/a.py": "\n" * 600}, {}])
def test_an_exception_that_is_not_needed_goes(tmp_path: Path, files: dict[str, str]) -> None:
    plant(tmp_path, files)
    [said] = sizes.module_lines(tmp_path, {"src/holdfast/a.py": 700})
    assert said.endswith("its exception is no longer needed")


def test_a_large_median_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {"src/holdfast/a.py": "\n" * 149, "src/holdfast/b.py": "\n" * 151, "src/holdfast/c.py": "\n" * 151})
    assert sizes.module_spread(tmp_path) == ["the median module has 151 lines (at most 150)"]


def test_too_many_large_modules_are_found(tmp_path: Path) -> None:
    plant(tmp_path, {f"src/holdfast/m{number}.py": "\n" * (401 if number < 2 else 10) for number in range(10)})
    assert sizes.module_spread(tmp_path) == ["80% of modules have 400 lines or fewer (at least 90%)"]


def test_a_function_of_101_lines_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {"src/holdfast/a.py": body(101), "src/holdfast/b.py": body(100)})
    assert sizes.function_lines(tmp_path, {}) == ["src/holdfast/a.py:long: 101 lines (at most 100)"]


def test_too_many_long_functions_are_found(tmp_path: Path) -> None:
    plant(tmp_path, {f"src/holdfast/m{number}.py": body(61 if number < 2 else 60) for number in range(40)})
    assert sizes.function_spread(tmp_path) == ["5.0% of functions have over 60 lines (at most 2%)"]


def test_a_long_page_is_found(tmp_path: Path) -> None:
    path = "src/holdfast/features/gateway/path.py"
    plant(tmp_path, {"src/holdfast/app.py": "\n" * 301, path: "\n" * 151, "src/holdfast/cli.py": "\n" * 302})
    assert sizes.pages(tmp_path) == [
        "src/holdfast/app.py: 301 lines (at most 300)",
        f"{path}: 151 lines (at most 150)",
    ]


def test_a_feature_of_16_files_is_found(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {f"src/holdfast/features/{name}/m{n}.py": "" for name, n in [("a", 0)] + [("b", n) for n in range(16)]},
    )
    assert sizes.feature_files(tmp_path, {}) == ["src/holdfast/features/b: 16 files (at most 15)"]
