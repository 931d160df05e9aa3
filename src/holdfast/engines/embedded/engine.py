"""The embedded engine, put together: one folder, one file, one thread that writes, a few that read."""

import asyncio
import contextlib
from pathlib import Path

import apsw

from holdfast.engines.embedded.calls import EmbeddedCalls
from holdfast.engines.embedded.connections import open_writer
from holdfast.engines.embedded.directory import EmbeddedDirectory
from holdfast.engines.embedded.folder import DATABASE, DataLock, lock_data, make_file
from holdfast.engines.embedded.ledger import Ledger
from holdfast.engines.embedded.migrate import migrate
from holdfast.engines.embedded.money import EmbeddedMoney
from holdfast.engines.embedded.rates import EmbeddedRates
from holdfast.engines.embedded.readers import Readers
from holdfast.engines.embedded.record import EmbeddedRecord
from holdfast.engines.embedded.statements import load
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import StoreUnavailableError
from holdfast.kernel.ids import make_id


class Embedded:
    """An open data folder; `close` writes what was handed and lets the folder go."""

    def __init__(
        self, path: Path, lock: DataLock, clock: Clock, *, incarnation: str, commit_interval_seconds: float
    ) -> None:
        ledger = Ledger(clock)
        self._lock = lock
        self._readers = Readers(path)
        self.incarnation = incarnation
        self.record = EmbeddedRecord(
            path, ledger, clock, incarnation=incarnation, commit_interval_seconds=commit_interval_seconds
        )
        self.calls = EmbeddedCalls(self.record, self._readers)
        self.money = EmbeddedMoney(self.record, ledger, self._readers)
        self.directory = EmbeddedDirectory(self._readers)
        self.rates = EmbeddedRates(clock)

    async def close(self) -> None:
        """StoreUnavailableError: the disk did not take everything that was handed; the folder is let go all the same."""
        try:
            await self.money.close()
            await asyncio.to_thread(self._readers.close)  # before the writer, which as the last one empties the WAL
            await self.record.close()
        finally:
            self._lock.release()


async def open_embedded(data: Path, *, clock: Clock, commit_interval_seconds: float = 0.01) -> Embedded:
    """Open the data folder, making it and bringing its schema up to date where needed; to be awaited on the loop that will use it.

    Takes the folder's lock itself. StoreUnavailableError: another process has the folder, or it cannot be used.
    SchemaMismatchError: a much newer release wrote it.
    """
    lock = lock_data(data)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(lock.release)
        path = data / DATABASE
        incarnation = prepare(path, clock.now())
        opened = Embedded(path, lock, clock, incarnation=incarnation, commit_interval_seconds=commit_interval_seconds)
        on_failure.pop_all()
    return opened


def prepare(path: Path, now: float) -> str:
    """Make the database, or bring it up to date; its incarnation."""
    sql = load("store.sql")
    try:
        make_file(path)
        connection = open_writer(path)
        try:
            migrate(connection, now)
            incarnation = connection.execute(sql["incarnation"]).get
            if incarnation is None:
                incarnation = make_id("inc")
                connection.execute(sql["set_incarnation"], (incarnation,))
        finally:
            connection.close()
    except (apsw.Error, OSError) as error:
        raise StoreUnavailableError(f"The database {path} cannot be opened: {error}.") from error
    return str(incarnation)
