"""The connections of one upstream: taken last in, first out, so that those not needed grow old and are closed."""

import asyncio
from collections import deque

from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import UpstreamConnectError, UpstreamError, UpstreamTimeoutError
from holdfast.upstreams.answer import HeaderNames
from holdfast.upstreams.connection import Connection
from holdfast.upstreams.deadlines import Deadlines
from holdfast.upstreams.dial import Dialler
from holdfast.upstreams.settings import UpstreamSettings


class Pool:
    """At most `max_connections` open or being opened; whoever finds none waits, first come first served."""

    def __init__(
        self, upstream: str, settings: UpstreamSettings, dialler: Dialler, names: HeaderNames, clock: Clock
    ) -> None:
        self._upstream = upstream
        self._settings = settings
        self._dialler = dialler
        self._names = names
        self._clock = clock
        self._idle: deque[Connection] = deque()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._open = 0
        self._closed = False
        self._reaper: asyncio.TimerHandle | None = None
        self.deadlines = Deadlines(clock)

    @property
    def open_connections(self) -> int:
        return self._open

    @property
    def idle_connections(self) -> int:
        return len(self._idle)

    def take(self, now: float) -> Connection | None:
        """An idle connection that can be used at once."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            connection.idle = False
            if now - connection.idle_since <= self._settings.idle_connection_seconds and connection.usable:
                return connection
            connection.close()
        return None

    async def connect(self, limit_seconds: float) -> Connection:
        """A new connection, or one that comes free before. Raises UpstreamConnectError or UpstreamTimeoutError (connect)."""
        until = self._clock.monotonic() + limit_seconds
        while True:
            if self._closed:
                raise self._closing()
            if self._open < self._settings.max_connections:
                self._open += 1
                return await self._dial(limit_seconds)
            connection = await self._wait(limit_seconds)
            limit_seconds = max(0.0, until - self._clock.monotonic())
            if connection is None:
                return await self._dial(limit_seconds)
            if connection.usable:
                return connection

    def release(self, connection: Connection) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if (
            self._closed
            or len(self._idle) >= self._settings.max_idle_connections
            or self._settings.idle_connection_seconds <= 0
        ):
            connection.close()
            return
        connection.idle = True
        connection.idle_since = self.deadlines.now
        self._idle.append(connection)
        if self._reaper is None:
            self._reaper = asyncio.get_running_loop().call_later(self._settings.idle_connection_seconds, self._reap)

    def lost(self, connection: Connection) -> None:
        if connection.idle:
            connection.idle = False
            self._idle.remove(connection)
        self._free_place()

    def close(self) -> None:
        """Idle connections close now, busy ones when their exchange ends; whoever waits is refused."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        while self._idle:
            connection = self._idle.pop()
            connection.idle = False
            connection.close()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(self._closing())

    async def _dial(self, limit_seconds: float) -> Connection:
        """The place for it is already counted."""
        connection = Connection(self, self._upstream, self._names, self._settings.max_answer_bytes)
        dialled = False
        try:
            await self._dialler.dial(connection, limit_seconds)
            dialled = True
        finally:
            if not dialled:
                connection.forsake()
        if not connection.usable:
            connection.close()
            what = "TCP: the connection was closed as soon as it stood; is the server full?"
            raise UpstreamConnectError(f"upstream '{self._upstream}': {what}")
        return connection

    async def _wait(self, limit_seconds: float) -> Connection | None:
        """A connection, or None: a place to open one."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(limit_seconds):
                return await waiter
        except TimeoutError:
            self._decline(waiter)
            raise UpstreamTimeoutError(
                f"upstream '{self._upstream}': the connect limit of {limit_seconds:g} s passed waiting for one of its "
                f"{self._settings.max_connections} connections; raise max_connections, or limit the lane's concurrency"
            ) from None
        except asyncio.CancelledError:
            self._decline(waiter)
            raise

    def _decline(self, waiter: "asyncio.Future[Connection | None]") -> None:
        """Whoever stopped waiting passes on what was handed over in that very moment."""
        if not waiter.done():
            waiter.cancel()
        if waiter.cancelled() or waiter.exception() is not None:
            return
        connection = waiter.result()
        if connection is None:
            self._free_place()
        elif connection.usable:
            self.release(connection)

    def _free_place(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._open -= 1

    def _reap(self) -> None:
        """Closes what has been idle too long, the oldest first."""
        self._reaper = None
        keep_seconds = self._settings.idle_connection_seconds
        now = self._clock.monotonic()
        while self._idle and now - self._idle[0].idle_since >= keep_seconds:
            connection = self._idle.popleft()
            connection.idle = False
            connection.close()
        if self._idle:
            wait_seconds = max(0.01, keep_seconds - (now - self._idle[0].idle_since))
            self._reaper = asyncio.get_running_loop().call_later(wait_seconds, self._reap)

    def _closing(self) -> UpstreamError:
        what = "takes no new requests: it was removed or changed in the settings, or Holdfast stops"
        return UpstreamConnectError(f"upstream '{self._upstream}' {what}")
