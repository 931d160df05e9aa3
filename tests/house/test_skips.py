"""In CI a skipped engine or browser test is a failure; elsewhere, and of any other test, it is a skip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT, plant

SUITE = """
import pytest

@pytest.mark.{mark}
def test_it():
    pytest.skip("no server here")
"""
WHOLE = 'import pytest\npytest.importorskip("no_such_driver")\n'
BY_FIXTURE = """
import pytest

@pytest.fixture
def server():
    pytest.skip("no server here")

@pytest.mark.engines
def test_it(server): ...
"""


def outcome(folder: Path, suite: str, ci: str, *options: str) -> tuple[int, str]:
    plant(folder, {"test_it.py": suite, "pytest.ini": "[pytest]\nmarkers =\n  engines\n  browser\n  storm\n"})
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**os.environ, "CI": ci, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return said.returncode, said.stdout


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "1")])
@pytest.mark.parametrize("suite", [SUITE.format(mark="engines"), SUITE.format(mark="browser"), BY_FIXTURE])
def test_a_skip_fails_in_ci(tmp_path: Path, suite: str, options: tuple[str, ...]) -> None:
    code, said = outcome(tmp_path, suite, "true", *options)
    assert code == 1
    assert "which CI does not allow" in said


def test_a_module_that_skips_itself_fails_in_ci(tmp_path: Path) -> None:
    code, said = outcome(tmp_path, WHOLE, "true")
    assert code != 0
    assert "which CI does not allow" in said


@pytest.mark.parametrize(
    ("suite", "ci"),
    [(SUITE.format(mark="engines"), ""), (SUITE.format(mark="engines"), "false"), (SUITE.format(mark="storm"), "true")],
)
def test_other_skips_are_skips(tmp_path: Path, suite: str, ci: str) -> None:
    code, said = outcome(tmp_path, suite, ci)
    assert code == 0, said
    assert "1 skipped" in said
