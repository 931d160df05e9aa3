"""What a suite is handed: one engine, opened, and how to leave and meet it again."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from holdfast.kernel.clock import VirtualClock
from holdfast.ports.calls import Calls
from holdfast.ports.directory import Directory
from holdfast.ports.money import Money
from holdfast.ports.rates import Rates
from holdfast.ports.record import Record


class OpenedStore(Protocol):
    """What `open_embedded` and `open_postgres` return."""

    @property
    def record(self) -> Record: ...

    @property
    def calls(self) -> Calls: ...

    @property
    def money(self) -> Money: ...

    @property
    def directory(self) -> Directory: ...

    async def close(self) -> None: ...


class OpenedLimiter(Protocol):
    """What `open_embedded` and `open_redis` return."""

    @property
    def rates(self) -> Rates: ...

    async def close(self) -> None: ...


class Store:
    """One node of an engine with everything that is durable.

    `join` opens a further node over the same data, or answers None where the engine belongs to one process."""

    def __init__(
        self, open_node: Callable[[str], Awaitable[OpenedStore]], clock: VirtualClock, *, shared: bool
    ) -> None:
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
