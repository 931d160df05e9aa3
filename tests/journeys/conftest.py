"""What journeys share: Holdfast as real processes. Nothing they start outlives the test that asked for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.launcher import Launcher, Running, launching


@pytest.fixture
def launch_up(tmp_path: Path) -> Iterator[Launcher]:
    """`launch_up(config, env)` starts `holdfast up` on a folder of its own and answers a `Running` when it is ready."""
    with launching(tmp_path) as launcher:
        yield launcher


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One process a file, with nothing configured: the scripted model answers. For tests that leave it as they found it."""
    with launching(tmp_path_factory.mktemp("demo")) as launcher:
        yield launcher()
