"""The tree of errors is whole, and the reference names every error and every setting."""

from pathlib import Path

import pytest

from tests.house import documents
from tests.house.tree import ROOT, plant

ERRORS = '''"""Errors.

HoldfastError
└── CallerError     fault = caller
    ├── OneError    400 one
    └── TwoError    404 two
"""

class HoldfastError(Exception):
    code = "internal"
    status: int = 500
    retry = "never"
    fault = "us"
    log_level = "error"

class CallerError(HoldfastError):
    code = "one"
    status = 400
    retry = "never"
    fault = "caller"
    log_level = "info"

class OneError(CallerError):
    code = "one"
    status = 400
    retry = "never"

class TwoError(CallerError):
    code = "two"
    status = 404
    retry = "later"
'''
SETTINGS = "class ServerSettings:\n    port: int = setting(1, help='.')\n    host: str = setting('', help='.')\n    plain: int = 1\n"
HOUSE = {
    "src/holdfast/kernel/errors.py": ERRORS,
    "src/holdfast/edge/server/settings.py": SETTINGS,
    "src/holdfast/cli.py": "",
    "docs/reference/errors.md": "`one`, `two` and `internal`",
    "docs/reference/settings.md": "`server.port`, `server.host`",
}


def test_errors() -> None:
    assert documents.error_classes(ROOT) == []
    assert documents.error_reference(ROOT) == []


def test_settings() -> None:
    assert documents.settings_reference(ROOT) == []


def test_a_whole_house_is_fine(tmp_path: Path) -> None:
    plant(tmp_path, HOUSE)
    assert documents.error_classes(tmp_path) == []
    assert documents.error_reference(tmp_path) == []
    assert documents.settings_reference(tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    status = 404\n", "", "TwoError states no status"),
        ('    code = "two"\n', "", "TwoError states no code"),
        ('    retry = "later"\n', "", "TwoError states no retry"),
        ('    retry = "later"\n', '    retry = "perhaps"\n', "TwoError: retry perhaps, fault None"),
        ('    fault = "caller"\n', "", "OneError has no fault"),
        ('    log_level = "info"\n', "", "OneError has no log_level"),
        ("    status = 404\n", "    status = 200\n", "TwoError: status 200"),
        ("    └── TwoError    404 two\n", "", "TwoError is missing in the drawing"),
        ("404 two\n", "404 three\n", "TwoError: the drawing does not say two"),
        ("404 two\n", "409 two\n", "TwoError: the drawing does not say 404"),
        ('    code = "two"\n', '    code = "one"\n', "TwoError: OneError has the code one already"),
    ],
)
def test_a_class_that_says_too_little_is_found(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in ERRORS
    plant(tmp_path, {"src/holdfast/kernel/errors.py": ERRORS.replace(old, new)})
    assert said in documents.error_classes(tmp_path)


def test_an_error_the_docs_leave_out_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {**HOUSE, "docs/reference/errors.md": "`one` and `internal`, but not two"})
    assert documents.error_reference(tmp_path) == ["docs/reference/errors.md: two is missing"]


def test_a_setting_the_docs_leave_out_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {**HOUSE, "docs/reference/settings.md": "`server.port`"})
    assert documents.settings_reference(tmp_path) == ["docs/reference/settings.md: host is missing"]


def test_missing_docs_are_found(tmp_path: Path) -> None:
    plant(tmp_path, {name: text for name, text in HOUSE.items() if not name.startswith("docs/")})
    assert documents.error_reference(tmp_path) == ["docs/reference/errors.md: missing; ./dev docs writes it"]
    assert documents.settings_reference(tmp_path) == ["docs/reference/settings.md: missing; ./dev docs writes it"]
