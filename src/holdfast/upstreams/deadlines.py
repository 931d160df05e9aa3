"""One sweep over all open exchanges instead of a timer each: nothing is scheduled, cancelled or stamped per chunk.

The sweep runs only while something is open. A limit is acted on at most two ticks after it passed, never before.
"""

import asyncio
from typing import Protocol

from holdfast.kernel.clock import Clock

TICK_SECONDS = 0.04


class Watched(Protocol):
    """`heard` is set by whatever arrives; the sweep takes it as "just now" and clears it."""

    heard: bool
    paused: bool
    answering: bool
    first_at: float
    idle_at: float
    idle_seconds: float
    total_at: float

    def expire(self, limit: str) -> None: ...


class Deadlines:
    """The open exchanges of one upstream. `now` is the moment of the last tick, for whom that is exact enough."""

    __slots__ = ("_clock", "_timer", "now", "open")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self.open: set[Watched] = set()
        self.now = 0.0

    @property
    def running(self) -> bool:
        return self._timer is not None

    def watch(self, watched: Watched, now: float) -> None:
        self.open.add(watched)
        if self._timer is None:
            self.now = now
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def forget(self, watched: Watched) -> None:
        self.open.discard(watched)

    def _tick(self) -> None:
        if not self.open:
            self._timer = None
            return
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        self.now = now = self._clock.monotonic()
        expired: list[tuple[Watched, str]] = []
        for watched in self.open:
            if now >= watched.total_at:
                expired.append((watched, "total"))
            elif not watched.answering:
                if now >= watched.first_at:
                    expired.append((watched, "first token"))
            elif watched.heard or watched.paused:
                watched.heard = False
                watched.idle_at = now + watched.idle_seconds
            elif now >= watched.idle_at:
                expired.append((watched, "idle"))
        for watched, limit in expired:
            if watched in self.open:
                watched.expire(limit)
