"""A few connections that are made when needed, thrown away when they broke, and never waited for beyond a limit."""

import asyncio
import os
import random
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from holdfast.engines.postgres.failures import Address
from holdfast.kernel.errors import StoreUnavailableError

Connection = AsyncConnection[TupleRow]

STATEMENT_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
# The server gives up before we do, and frees its locks when we vanish in the middle.
_SESSION = """
    SELECT set_config('statement_timeout', %(milliseconds)s, false),
        set_config('lock_timeout', %(milliseconds)s, false),
        set_config('idle_in_transaction_session_timeout', '10000', false),
        set_config('synchronous_commit', CASE current_setting('synchronous_commit')
            WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""


_LIMITS = """
    SELECT set_config('statement_timeout', %(milliseconds)s, false), set_config('lock_timeout', %(milliseconds)s, false)
"""


@asynccontextmanager
async def patiently(connection: Connection, seconds: float) -> AsyncIterator[None]:
    """Statements inside may run for `seconds`."""
    await connection.execute(_LIMITS, {"milliseconds": str(round(seconds * 1000))})
    try:
        yield
    finally:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            await connection.execute(_LIMITS, {"milliseconds": str(round(STATEMENT_SECONDS * 1000))})


class Pool:
    """At most `size` connections. After a failed connect it refuses at once for a pause that doubles up to a second,
    so that a server that is down is neither hammered nor waited for."""

    def __init__(
        self,
        address: Address,
        size: int,
        *,
        statement_seconds: float = STATEMENT_SECONDS,
        greet: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        self.address = address
        self._idle: list[Connection] = []
        self._places = asyncio.Semaphore(size)
        self._statement_seconds = statement_seconds
        self._greet = greet
        self._pause = 0.0
        self._refuse_until = 0.0
        self._refusal: StoreUnavailableError | None = None
        self._closed = False

    @asynccontextmanager
    async def connection(self, *, within_seconds: float | None = None) -> AsyncIterator[Connection]:
        """A connection in autocommit. Connecting raises StoreUnavailableError; statements raise what the driver raises.
        What runs inside longer than `within_seconds` finds its connection cut."""
        limit = within_seconds or self._statement_seconds + 5.0
        async with self._places:
            connection = self._usable() or await self._connect()
            watchdog = asyncio.get_running_loop().call_later(limit, _cut, connection)
            try:
                yield connection
            finally:
                watchdog.cancel()
                await self._give_back(connection)

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    def _usable(self) -> Connection | None:
        """An idle connection with something to read is one that the server has closed."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and _silent(connection):
                return connection
            connection.pgconn.finish()
        return None

    async def _give_back(self, connection: Connection) -> None:
        if connection.closed or self._closed or connection.info.transaction_status != TransactionStatus.IDLE:
            await connection.close()
        else:
            self._idle.append(connection)

    async def _connect(self) -> Connection:
        now = asyncio.get_running_loop().time()
        if self._refusal is not None and now < self._refuse_until:
            raise StoreUnavailableError(self._refusal.message, retry_after_seconds=1.0)
        try:
            connection = await self._open()
        except (psycopg.Error, OSError) as error:
            self._pause = min(max(self._pause * 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
            self._refuse_until = asyncio.get_running_loop().time() + self._pause * random.uniform(0.5, 1.0)
            self._refusal = self.address.unavailable(error)
            raise self._refusal from error
        self._pause = 0.0
        self._refusal = None
        return connection

    async def _open(self) -> Connection:
        connection = await AsyncConnection.connect(self.address.conninfo, autocommit=True)
        watchdog = asyncio.get_running_loop().call_later(self._statement_seconds + 5.0, _cut, connection)
        ready = False
        try:
            await connection.execute(_SESSION, {"milliseconds": str(round(self._statement_seconds * 1000))})
            if self._greet is not None:
                await self._greet(connection)
            ready = True
        finally:
            watchdog.cancel()
            if not ready:
                connection.pgconn.finish()
        return connection


def _silent(connection: Connection) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


def _cut(connection: Connection) -> None:
    """End a connection whose server no longer answers: whoever waits on it gets an error, by the ordinary way."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
