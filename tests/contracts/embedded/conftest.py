"""The embedded engine alone, for what only it promises."""

import contextlib
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from holdfast.engines.embedded import Embedded, open_embedded
from holdfast.kernel.clock import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def engine(data: Path, clock: VirtualClock) -> AsyncIterator[Embedded]:
    opened = await open_embedded(data, clock=clock, commit_interval_seconds=0.002)
    yield opened
    await opened.close()


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Every write to a file fails, as on a full disk: this process may make no file longer than nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def full_disk() -> contextlib.AbstractContextManager[None]:
    return no_room()
