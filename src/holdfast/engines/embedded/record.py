"""EmbeddedRecord: units wait in a list on the event loop; a batch at a time goes to the writer thread.

`hand` appends and, once a batch, sets a timer: no lock, no thread is woken, nothing is encoded on the loop. A batch leaves when the
writer is idle and either somebody waits for it or `commit_interval_seconds` passed since its first unit; while the
writer works, what arrives is the next batch. All methods belong to the loop that opened the store.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from holdfast.engines.embedded.ledger import Ledger
from holdfast.engines.embedded.statements import load
from holdfast.engines.embedded.units import Item, Outcome, Unit, Waiting
from holdfast.engines.embedded.writer import Writer
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import StoreUnavailableError
from holdfast.ports.record import Change, Level

BATCH_UNITS = 2000
UNIT_BYTES = 1024  # what a handed unit holds, about: a call's two values and their strings
PING_SECONDS = 1.0
_RETRY_SECONDS = 0.05
_RETRY_MOST_SECONDS = 1.0


class EmbeddedRecord:
    """Promises of `ports.record.Record`. A cancelled `commit` is still written, or refused, as a whole."""

    def __init__(
        self, path: Path, ledger: Ledger, clock: Clock, *, incarnation: str, commit_interval_seconds: float
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._incarnation = incarnation
        self._interval_seconds = commit_interval_seconds
        self._touch = load("store.sql")["touch"]
        self._loop = asyncio.get_running_loop()
        self._pending: list[Item] = []
        self._pending_since = 0.0
        self._writing: list[Item] = []
        self._writing_since = 0.0
        self._waiting = 0
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._retry_seconds = 0.0
        self._rejected = 0
        self._stopped = False
        self._ping: asyncio.Task[None] | None = None
        self._pinged_at = -PING_SECONDS
        self._writer = Writer(path, self._report)

    @property
    def incarnation(self) -> str:
        return self._incarnation

    @property
    def backlog_bytes(self) -> int:
        """About: the number of units that are not yet written, times what one usually holds."""
        return (len(self._pending) + len(self._writing)) * UNIT_BYTES

    @property
    def backlog_seconds(self) -> float:
        if self._writing:
            return self._clock.monotonic() - self._writing_since
        return self._clock.monotonic() - self._pending_since if self._pending else 0.0

    @property
    def rejected(self) -> int:
        return self._rejected

    def hand(self, *changes: Change) -> None:
        self.add(self._ledger.apply(changes))

    async def commit(self, *changes: Change, level: Level = Level.WRITTEN) -> None:
        waiting = Waiting(self._loop.create_future(), level=level)
        waiting.changes = self._ledger.apply(changes, waiting.undos)
        await self._wait(waiting)

    async def flush(self) -> None:
        """Raises StoreUnavailableError where the store refuses; what was handed stays in line."""
        await self._wait(Waiting(self._loop.create_future()))

    async def ping(self) -> None:
        """Commits a small write, at most once a second; in between the last answer is given again."""
        if self._ping is None or (self._ping.done() and self._clock.monotonic() - self._pinged_at >= PING_SECONDS):
            self._pinged_at = self._clock.monotonic()
            self._ping = asyncio.create_task(self.work(self._touch_meta))
        await asyncio.shield(self._ping)

    async def work(self, work: Callable[[apsw.Connection], Any]) -> Any:
        """Run in the writer's transaction, in line with the units, and return what it returned."""
        return await self._wait(Waiting(self._loop.create_future(), work=work))

    def pin(self, work: Callable[[apsw.Connection], Any]) -> asyncio.Future[apsw.Connection]:
        """Run `work` in line with the units; the answer is a reader that sees all units added before this call and none
        added after it. Whoever gets it closes it."""
        waiting = Waiting(self._loop.create_future(), work=work, pin=True)
        self._add_waiting(waiting)
        return waiting.future

    def add(self, unit: Unit) -> None:
        """Hand a unit whose money is in the ledger already."""
        pending = self._pending
        if not pending:
            self._begin_batch()
        pending.append(unit)

    async def close(self) -> None:
        """Writes what was handed. StoreUnavailableError says how many units the store did not take; they are lost."""
        try:
            await self.flush()
        except StoreUnavailableError as error:
            raise StoreUnavailableError(f"{error.message} {len(self._pending)} records could not be kept.") from error
        finally:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()
            await self._loop.run_in_executor(None, self._writer.stop)

    def _touch_meta(self, connection: apsw.Connection) -> None:
        connection.execute(self._touch)

    async def _wait(self, waiting: Waiting) -> Any:
        self._add_waiting(waiting)
        return await waiting.future

    def _add_waiting(self, waiting: Waiting) -> None:
        if self._stopped:
            self._refuse(waiting, StoreUnavailableError("The writer of the data folder has stopped."))
            return
        if not self._pending:
            self._begin_batch()
        self._pending.append(waiting)
        self._waiting += 1
        if self._waiting == 1 and not self._writing and not self._retry_seconds:
            # At the end of this turn of the loop, so that what is committed at once is written at once.
            self._set_timer(self._loop.call_soon(self._ship))

    def _begin_batch(self) -> None:
        self._pending_since = self._clock.monotonic()
        if self._timer is None and not self._writing:
            self._timer = self._loop.call_later(self._interval_seconds, self._ship)

    def _set_timer(self, timer: asyncio.TimerHandle | asyncio.Handle) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def _ship(self) -> None:
        self._timer = None
        if self._writing or self._stopped or not self._pending:
            return
        batch = self._pending[:BATCH_UNITS]
        del self._pending[:BATCH_UNITS]
        self._writing = batch
        self._writing_since = self._pending_since
        self._pending_since = self._clock.monotonic()
        self._writer.submit(batch)

    def _report(self, outcome: Outcome) -> None:
        """Called in the writer's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._done, outcome)

    def _done(self, outcome: Outcome) -> None:
        if outcome.stopped:
            self._stopped = True
            self._pending[:0] = self._writing
            self._refuse_pending("The writer of the data folder has stopped.")
            return
        self._rejected += outcome.rejected
        for item in self._writing:
            if isinstance(item, Waiting):
                self._waiting -= 1
                self._resolve(item)
        self._writing = []
        if outcome.unavailable is not None:
            self._stand_back(outcome.retry, outcome.unavailable)
            return
        self._retry_seconds = 0.0
        if self._waiting or len(self._pending) >= BATCH_UNITS:
            self._ship()
        elif self._pending:
            waited = self._clock.monotonic() - self._pending_since
            self._set_timer(self._loop.call_later(max(0.0, self._interval_seconds - waited), self._ship))

    def _stand_back(self, retry: list[Unit], reason: str) -> None:
        """The store does not take writes now: handed units stay, in order, and are tried again a little later each time;
        whoever waits is told, because behind units that are not written nothing can be."""
        self._refuse_pending(reason)
        self._pending[:0] = retry
        if retry:
            self._pending_since = self._writing_since
        self._retry_seconds = min(_RETRY_MOST_SECONDS, max(_RETRY_SECONDS, self._retry_seconds * 2))
        self._set_timer(self._loop.call_later(self._retry_seconds, self._ship))

    def _refuse_pending(self, reason: str) -> None:
        refused = [item for item in self._pending if isinstance(item, Waiting)]
        self._pending = [item for item in self._pending if not isinstance(item, Waiting)]
        self._waiting = 0
        for item in refused:
            self._refuse(item, StoreUnavailableError(reason))

    def _refuse(self, waiting: Waiting, error: StoreUnavailableError) -> None:
        waiting.error = error
        self._resolve(waiting)

    def _resolve(self, waiting: Waiting) -> None:
        if waiting.error is not None:
            self._ledger.undo(waiting.undos)
        future = waiting.future
        if future.done():  # whoever waited was cancelled
            if isinstance(waiting.result, apsw.Connection):
                waiting.result.close()
        elif waiting.error is not None:
            future.set_exception(waiting.error)
        else:
            future.set_result(waiting.result)
