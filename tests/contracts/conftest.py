"""Every engine, and the fake that ships, behind one fixture: a suite asks for `store` (record, calls, money, directory) or
`limiter` (rates).

The scaled-out engines are imported only when their parameter runs, so the suites run where no driver is installed.
"""

import importlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.kernel.clock import VirtualClock
from holdfast.testing.memory import MemoryStore
from holdfast.testing.rows import Rows
from tests.contracts.engines import Limiter, OpenedLimiter, Store


@pytest.fixture(params=["memory", "embedded", pytest.param("postgres", marks=pytest.mark.engines)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh, empty store of each engine."""
    clock = VirtualClock()
    if request.param == "memory":
        rows = Rows()

        async def open_memory(_node: str) -> MemoryStore:
            return MemoryStore(clock, rows)

        found = Store(open_memory, clock, shared=False)
    elif request.param == "embedded":
        open_embedded = importlib.import_module("holdfast.engines.embedded").open_embedded
        found = Store(
            lambda _node: open_embedded(tmp_path / "data", clock=clock, commit_interval_seconds=0.002),
            clock,
            shared=False,
        )
    else:
        open_postgres = importlib.import_module("holdfast.engines.postgres").open_postgres
        url = importlib.import_module("tests.servers").postgres_url()
        found = Store(
            lambda node: open_postgres(url, clock=clock, node=node, connections=3, commit_interval_seconds=0.002),
            clock,
            shared=True,
        )
    await found.start()
    yield found
    await found.close()


@pytest.fixture(params=["memory", "embedded", pytest.param("redis", marks=pytest.mark.engines)])
async def limiter(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Limiter]:
    """Fresh, full buckets of each engine."""
    clock = VirtualClock()
    node: OpenedLimiter
    if request.param == "memory":
        node = MemoryStore(clock)
    elif request.param == "embedded":
        open_embedded = importlib.import_module("holdfast.engines.embedded").open_embedded
        node = await open_embedded(tmp_path / "data", clock=clock)
    else:
        open_redis = importlib.import_module("holdfast.engines.redis").open_redis
        url = importlib.import_module("tests.servers").redis_url()
        node = await open_redis(url, clock=clock, node="node-0", time=clock)
    found = Limiter(node, clock)
    yield found
    await found.close()
