"""Who wakes a player: the event loop, in ticks of a millisecond shared by all who wait for it, or a Clock that is passed."""

import asyncio
import math
from typing import Protocol

from holdfast.kernel.clock import Clock

_TICKS = 1000


class Sleeper(Protocol):
    """Waits for one moment at a time."""

    def wake(self) -> object: ...


class Timers(Protocol):
    def now(self) -> float: ...

    def wake(self, sleeper: Sleeper, at: float) -> None:
        """Wakes the sleeper once, not before `at`; replaces what it waited for."""
        ...

    def forget(self, sleeper: Sleeper) -> None: ...


class _Tick:
    __slots__ = ("handle", "number", "sleepers")

    def __init__(self, number: int) -> None:
        self.number = number
        self.sleepers: dict[Sleeper, None] = {}
        self.handle: asyncio.TimerHandle | None = None


class LoopTimers:
    """One timer of the loop a millisecond, however many wait for it: a thousand streams cost what a few do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now = loop.time
        self._ticks: dict[int, _Tick] = {}
        self._waiting: dict[Sleeper, _Tick] = {}

    def wake(self, sleeper: Sleeper, at: float) -> None:
        if sleeper in self._waiting:
            self.forget(sleeper)
        number = math.ceil(at * _TICKS - 1e-6)
        tick = self._ticks.get(number)
        if tick is None:
            tick = self._ticks[number] = _Tick(number)
            tick.handle = self._loop.call_at(number / _TICKS, self._ring, tick)
        tick.sleepers[sleeper] = None
        self._waiting[sleeper] = tick

    def forget(self, sleeper: Sleeper) -> None:
        tick = self._waiting.pop(sleeper, None)
        if tick is None:
            return
        del tick.sleepers[sleeper]
        if not tick.sleepers and self._ticks.get(tick.number) is tick:
            del self._ticks[tick.number]
            if tick.handle is not None:
                tick.handle.cancel()

    def _ring(self, tick: _Tick) -> None:
        del self._ticks[tick.number]
        for sleeper in list(tick.sleepers):
            if self._waiting.get(sleeper) is tick:
                del self._waiting[sleeper]
                sleeper.wake()


class ClockTimers:
    """A task a sleeper: for a Clock that is not the machine's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now = clock.monotonic
        self._tasks: dict[Sleeper, asyncio.Task[None]] = {}

    def wake(self, sleeper: Sleeper, at: float) -> None:
        self.forget(sleeper)
        self._tasks[sleeper] = asyncio.ensure_future(self._sleep(sleeper, at))

    def forget(self, sleeper: Sleeper) -> None:
        task = self._tasks.pop(sleeper, None)
        if task is not None:
            task.cancel()

    async def _sleep(self, sleeper: Sleeper, at: float) -> None:
        await self._clock.sleep(at - self._clock.monotonic())
        del self._tasks[sleeper]
        sleeper.wake()
