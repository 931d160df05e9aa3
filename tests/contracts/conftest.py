"""Every engine behind one fixture: a suite asks for `store` (record, calls, money, directory) or `limiter` (rates).

The scaled-out engines are imported only when their parameter runs, so the suites run where no driver is installed.
"""

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest

from holdfast.kernel.clock import VirtualClock
from holdfast.ports.calls import Calls
from holdfast.ports.directory import Directory
from holdfast.ports.money import Money
from holdfast.ports.rates import Rates
from holdfast.ports.record import Record


class OpenedStore(Protocol):
    """What `open_embedded` and `open_postgres` return."""

    record: Record
    calls: Calls
    money: Money
    directory: Directory

    async def close(self) -> None: ...


class OpenedLimiter(Protocol):
    """What `open_embedded` and `open_redis` return."""

    rates: Rates

    async def close(self) -> None: ...


class Store:
    """One node of an engine with everything that is durable, and how to leave and meet it again.

    `join` opens a further node over the same data, or answers None where the engine belongs to one process."""

    def __init__(self, open_node: Callable[[str], Awaitable[OpenedStore]], clock: VirtualClock, *, shared: bool) -> None:
        self._open_node = open_node
        self._shared = shared
        self._nodes: list[OpenedStore] = []
        self.clock = clock

    async def start(self) -> None:
        self._nodes = [await self._open_node("node-0")]

    @property
    def record(self) -> Record:
        return self._nodes[0].record

    @property
    def calls(self) -> Calls:
        return self._nodes[0].calls

    @property
    def money(self) -> Money:
        return self._nodes[0].money

    @property
    def directory(self) -> Directory:
        return self._nodes[0].directory

    async def join(self) -> OpenedStore | None:
        if not self._shared:
            return None
        self._nodes.append(await self._open_node(f"node-{len(self._nodes)}"))
        return self._nodes[-1]

    async def reopen(self) -> None:
        """Close everything in good order and open one node over the same data."""
        await self.close()
        await self.start()

    async def close(self) -> None:
        while self._nodes:
            await self._nodes.pop().close()


class Limiter:
    """One node of an engine with what is shared by the minute."""

    def __init__(self, node: OpenedLimiter, clock: VirtualClock) -> None:
        self._node = node
        self._clock = clock

    @property
    def rates(self) -> Rates:
        return self._node.rates

    async def elapse(self, seconds: float) -> None:
        await self._clock.advance(seconds)

    async def close(self) -> None:
        await self._node.close()


@pytest.fixture(params=["embedded", pytest.param("postgres", marks=pytest.mark.engines)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh, empty store of each engine."""
    clock = VirtualClock()
    if request.param == "embedded":
        open_embedded = importlib.import_module("holdfast.engines.embedded").open_embedded
        found = Store(lambda _node: open_embedded(tmp_path / "data", clock=clock, commit_interval_seconds=0.002), clock, shared=False)
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


@pytest.fixture(params=["embedded", pytest.param("redis", marks=pytest.mark.engines)])
async def limiter(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Limiter]:
    """Fresh, full buckets of each engine."""
    clock = VirtualClock()
    node: OpenedLimiter
    if request.param == "embedded":
        open_embedded = importlib.import_module("holdfast.engines.embedded").open_embedded
        node = await open_embedded(tmp_path / "data", clock=clock)
    else:
        open_redis = importlib.import_module("holdfast.engines.redis").open_redis
        url = importlib.import_module("tests.servers").redis_url()
        node = await open_redis(url, clock=clock, node="node-0")
    found = Limiter(node, clock)
    yield found
    await found.close()
