"""The one thread that writes: batches in, outcomes out, each batch one transaction."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

import apsw

from holdfast.engines.embedded.changes import Changes
from holdfast.engines.embedded.connections import open_reader, open_writer
from holdfast.engines.embedded.statements import load
from holdfast.engines.embedded.units import Item, Outcome, Unit, Waiting
from holdfast.kernel.errors import ConflictError, HoldfastError, StoreUnavailableError
from holdfast.ports.record import Level

_log = logging.getLogger(__name__)

# What says that this unit can never be applied, as opposed to "not now". UnicodeError is a ValueError.
_REFUSED = (
    ConflictError, apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError, apsw.RangeError,
    AttributeError, OverflowError, TypeError, ValueError,
)  # fmt: skip


class Writer:
    """`report` is called in this thread, once a batch, and once with `stopped` when the thread ends."""

    def __init__(self, path: Path, report: Callable[[Outcome], None]) -> None:
        self._path = path
        self._report = report
        self._connection = open_writer(path)
        self._changes = Changes()
        self._sql = load("store.sql")
        self._level = Level.WRITTEN
        self._inbox: SimpleQueue[Sequence[Item] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="holdfast-writer", daemon=True)
        self._thread.start()

    def submit(self, batch: Sequence[Item]) -> None:
        self._inbox.put(batch)

    def stop(self) -> None:
        """Returns when what was submitted is done and the database is closed."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (batch := self._inbox.get()) is not None:
                self._report(self._write(batch))
        finally:
            self._connection.close()
            self._report(Outcome(stopped=True))

    def _write(self, batch: Sequence[Item]) -> Outcome:
        outcome = Outcome()
        rest = list(batch)
        while rest:
            end = next(
                (index + 1 for index, item in enumerate(rest) if isinstance(item, Waiting) and item.pin), len(rest)
            )
            head = rest[:end]
            try:
                outcome.rejected += self._commit(head)
                last = head[-1]
                if isinstance(last, Waiting) and last.pin and last.error is None:
                    last.result = self._pin()
            except apsw.Error as error:
                outcome.unavailable = _say(error)
                outcome.retry = [item for item in rest if not isinstance(item, Waiting)]
                for item in rest:
                    if isinstance(item, Waiting):
                        item.error = StoreUnavailableError(outcome.unavailable)
                break
            rest = rest[end:]
        return outcome

    def _commit(self, items: Sequence[Item]) -> int:
        """How many handed units were rejected. apsw.Error: nothing was written."""
        synced = any(isinstance(item, Waiting) and item.level is Level.SYNCED for item in items)
        self._reach(Level.SYNCED if synced else Level.WRITTEN)
        try:
            return self._transaction(items, synced, merge=True)
        except _REFUSED:
            return self._transaction(items, synced, merge=False)

    def _reach(self, level: Level) -> None:
        """NORMAL hands the commit to the operating system: it survives kill -9. FULL waits until the WAL, and with it every
        earlier commit in it, is on the disk. It can be changed between transactions only."""
        if level is not self._level:
            self._connection.execute("PRAGMA synchronous = " + ("FULL" if level is Level.SYNCED else "NORMAL"))
            self._level = level

    def _transaction(self, items: Sequence[Item], synced: bool, *, merge: bool) -> int:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            rejected = self._apply(items, merge)
            if synced:  # a commit that changes no page would not sync what went before it
                connection.execute(self._sql["touch"])
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return rejected

    def _apply(self, items: Sequence[Item], merge: bool) -> int:
        rejected = 0
        together: list[Unit] = []
        for item in items:
            if merge and not (isinstance(item, Waiting) and item.alone):
                together.append(item.changes if isinstance(item, Waiting) else item)
                continue
            self._changes.apply(self._connection, together)
            together = []
            rejected += self._apply_alone(item)
        self._changes.apply(self._connection, together)
        return rejected

    def _apply_alone(self, item: Item) -> int:
        connection = self._connection
        try:
            with connection:  # a savepoint
                if not isinstance(item, Waiting):
                    self._changes.apply(connection, [item])
                else:
                    item.error = None
                    self._changes.apply(connection, [item.changes])
                    if item.work is not None:
                        item.result = item.work(connection)
        except _REFUSED as error:
            if isinstance(item, Waiting):
                item.error = (
                    error if isinstance(error, HoldfastError) else ConflictError(f"This can never be stored: {error}")
                )
                return 0
            _log.error("a record can never be stored and was set aside: %s: %s", type(error).__name__, error)
            return 1
        return 0

    def _pin(self) -> apsw.Connection:
        """A reader that sees what is committed now, and nothing after it. It has a connection of its own, because waiting for
        a pooled one would hold up every record."""
        reader = open_reader(self._path)
        reader.execute("BEGIN")
        reader.execute(self._sql["pin"]).fetchall()
        return reader


def _say(error: apsw.Error) -> str:
    causes = {
        apsw.FullError: "the disk is full",
        apsw.BusyError: "another program holds its lock",
        apsw.LockedError: "another program holds its lock",
        apsw.ReadOnlyError: "it is read-only",
        apsw.CorruptError: "it is damaged; restore a backup",
        apsw.NotADBError: "it is damaged; restore a backup",
    }
    return f"The database in the data folder cannot be written: {causes.get(type(error), str(error))}."
