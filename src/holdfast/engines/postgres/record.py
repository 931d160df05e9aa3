"""The record on PostgreSQL: one task writes what everybody hands over, in order, each batch in one transaction.

A batch carries its number, and its transaction raises the writer's mark to it: a batch whose commit was not acknowledged
is sent again, and refused by the mark if it had been committed. `written` and `synced` are the same here: a commit returns
when PostgreSQL has it on disk.

Awkward case: the server had all of a unit and its answer was lost. `commit` then waits up to DOUBT_SECONDS for the server
to come back and say; after that it raises StoreUnavailableError, and the message says that the outcome is not known.
"""

import asyncio
import logging
from collections.abc import Sequence

import psycopg

from holdfast.engines.postgres.batch import BatchWriter, batch_of
from holdfast.engines.postgres.directory import DirectoryWriter
from holdfast.engines.postgres.failures import APPLIED, UNKNOWN_WRITER, Address, answered, hopeless, in_the_way
from holdfast.engines.postgres.pool import Connection, Pool
from holdfast.engines.postgres.statements import load
from holdfast.engines.postgres.units import Backlog, Unit
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import ConflictError, HoldfastError, StoreUnavailableError
from holdfast.ports.record import Change, Level

log = logging.getLogger(__name__)

MOST_UNITS = 500  # of one batch: encoding it holds the loop for about a millisecond
DOUBT_SECONDS = 5.0
RETRY_SECONDS = 0.1
PING_SECONDS = 1.0
PING_LIMIT_SECONDS = 3.0
# A unit whose values cannot even be encoded is as hopeless as one that PostgreSQL refuses.
_BAD_VALUES = (TypeError, ValueError, AttributeError)


class PostgresRecord:
    def __init__(
        self, address: Address, pings: Pool, *, clock: Clock, writer: str, node: str, incarnation: str, interval: float
    ) -> None:
        self.rejected = 0
        self._incarnation = incarnation
        self._address = address
        self._pool = Pool(address, 1, greet=self._register)
        self._pings = pings
        self._ping: tuple[float, StoreUnavailableError | None] | None = None
        self._monotonic = clock.monotonic
        self._interval = interval
        self._who = {"writer": writer, "node": node}
        self._sql = load("record.sql")
        self._batches = BatchWriter(writer)
        self._directory = DirectoryWriter(self._batches)
        self._backlog = Backlog()
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task = self._loop.create_task(self._run(), name="postgres record")
        self._task.add_done_callback(_say_why)

    async def open(self) -> None:
        """Connects once, which registers this writer."""
        with self._address.translated():
            async with self._pool.connection():
                pass

    @property
    def incarnation(self) -> str:
        return self._incarnation

    @property
    def backlog_bytes(self) -> int:
        return self._backlog.waiting_bytes

    @property
    def backlog_seconds(self) -> float:
        return self._backlog.waiting_seconds(self._monotonic())

    def hand(self, *changes: Change) -> None:
        self._backlog.add(Unit(changes, self._monotonic()))
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._wake.set)

    async def commit(self, *changes: Change, level: Level = Level.WRITTEN) -> None:
        await self._wait_for(Unit(changes, self._monotonic(), self._loop.create_future(), patient=False))

    async def flush(self) -> None:
        await self._wait_for(Unit((), self._monotonic(), self._loop.create_future()))

    async def ping(self) -> None:
        if self._task.done():
            raise StoreUnavailableError("the task that writes to PostgreSQL has ended; see the log")
        now = self._loop.time()
        if self._ping is None or now - self._ping[0] >= PING_SECONDS:
            self._ping = (now, await self._try_to_write())
        if self._ping[1] is not None:
            raise StoreUnavailableError(self._ping[1].message, retry_after_seconds=1.0)

    async def close(self, within_seconds: float = 10.0) -> None:
        """Writes what was handed, but does not wait for a server that is away."""
        if self._task.done():
            return
        try:
            async with asyncio.timeout(within_seconds):
                await self.flush()
        except TimeoutError:
            if self.backlog_bytes:
                log.error("closing with %d bytes of records that PostgreSQL did not take", self.backlog_bytes)
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._timer is not None:
            self._timer.cancel()
        await self._pool.close()

    async def _wait_for(self, unit: Unit) -> None:
        if self._task.done():
            raise StoreUnavailableError("the record is closed")
        self._backlog.add(unit)
        self._wake.set()
        if unit.waiter is not None:
            await unit.waiter

    async def _try_to_write(self) -> StoreUnavailableError | None:
        try:
            async with self._pings.connection(within_seconds=PING_LIMIT_SECONDS) as connection:
                await connection.execute(self._sql["ping"], {"writer": self._who["writer"]})
        except StoreUnavailableError as error:
            return error
        except psycopg.Error as error:
            return self._address.unavailable(error)
        return None

    async def _register(self, connection: Connection) -> None:
        """Every new connection of the writer says who it is, and holds the lock that says it lives."""
        await connection.execute(self._sql["plan_by_key"])
        row = await (await connection.execute(self._sql["register"], self._who)).fetchone()
        if row is not None:
            await connection.execute(self._sql["live"], {"number": row[0]})

    async def _run(self) -> None:
        backlog = self._backlog
        while True:
            await self._wake.wait()
            self._wake.clear()
            while backlog.queue:
                await self._write(backlog.take(MOST_UNITS))
                backlog.put_down()
                if not backlog.urgent and len(backlog.queue) < MOST_UNITS:
                    break
            self._timer = self._loop.call_later(self._interval, self._wake.set) if backlog.queue else None

    async def _write(self, units: list[Unit]) -> None:
        """Returns when each of these units is applied, refused or given up."""
        doubted_since: float | None = None
        while units:
            try:
                await self._send(units)
                self._backlog.finish(units)
                return
            except ConflictError as conflict:
                self._backlog.finish(units, conflict)
                return
            except StoreUnavailableError as error:  # no connection: nothing was sent this time
                self._backlog.refuse_impatient([], error)
                if doubted_since is None:
                    units = self._backlog.refuse_impatient(units, error)
                elif self._loop.time() - doubted_since > DOUBT_SECONDS:
                    units = self._backlog.refuse_impatient(units, _unknown_outcome(error))
            except _BAD_VALUES as error:
                await self._isolate(units, f"{type(error).__name__}: {error}")
                return
            except psycopg.Error as error:
                if hopeless(error):
                    await self._isolate(units, f"{error.sqlstate} {error}")
                    return
                if in_the_way(error):
                    continue
                if answered(error):
                    doubted_since = None
                    units = self._backlog.refuse_impatient(units, self._address.unavailable(error))
                else:
                    doubted_since = doubted_since or self._loop.time()
            await asyncio.sleep(RETRY_SECONDS)

    async def _send(self, units: Sequence[Unit]) -> None:
        if not any(unit.changes for unit in units):
            return
        number = self._number + 1
        async with self._pool.connection() as connection:
            try:
                if units[0].alone:
                    await self._directory.write(connection, number, units[0].changes)
                else:
                    batch = batch_of(unit.changes for unit in units)
                    await self._batches.write(connection, number, batch)
            except psycopg.Error as error:
                if error.sqlstate == UNKNOWN_WRITER:
                    connection.pgconn.finish()  # the next connection registers anew
                if error.sqlstate != APPLIED:
                    raise
        self._number = number

    async def _isolate(self, units: list[Unit], why: str) -> None:
        """Halves a batch that can never be applied, until what spoils it stands alone."""
        if len(units) > 1:
            middle = len(units) // 2
            await self._write(units[:middle])
            await self._write(units[middle:])
            return
        if units[0].waiter is None:
            self.rejected += 1
            log.error("PostgreSQL can never take a unit of %d changes: %s", len(units[0].changes), _short(why))
        self._backlog.finish(units, ConflictError(f"the store cannot hold this: {_short(why)}"))


def _short(text: str) -> str:
    return " ".join(text.split())[:300]


def _unknown_outcome(error: HoldfastError) -> StoreUnavailableError:
    return StoreUnavailableError(f"whether this was stored is not known: {error.message}", retry_after_seconds=1.0)


def _say_why(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("the task that writes to PostgreSQL ended", exc_info=task.exception())
