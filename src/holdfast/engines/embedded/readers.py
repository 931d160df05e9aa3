"""Readers never wait for the writer: WAL shows them the last commit. Each query has a time limit."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import apsw

from holdfast.engines.embedded.connections import open_reader
from holdfast.kernel.errors import InvalidRequestError, StoreUnavailableError

T = TypeVar("T")

READ_SECONDS = 5.0
_STEPS_BETWEEN_LOOKS = 50_000


class Readers:
    """A few threads, a read-only connection for each query that runs at once."""

    def __init__(self, path: Path, threads: int = 2) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="holdfast-reader")
        self._idle: SimpleQueue[apsw.Connection] = SimpleQueue()

    async def read(self, work: Callable[[apsw.Connection], T], seconds: float = READ_SECONDS) -> T:
        """Run a query on a pooled connection. InvalidRequestError: it took longer than `seconds`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._pooled, work, seconds)

    async def read_pinned(self, connection: apsw.Connection, work: Callable[[apsw.Connection], T], seconds: float) -> T:
        """Run a query on a connection the writer pinned, and close it."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._and_close, connection, work, seconds
        )

    def close(self) -> None:
        """Returns when the queries that run are done."""
        self._threads.shutdown()
        while not self._idle.empty():
            self._idle.get().close()

    def _pooled(self, work: Callable[[apsw.Connection], T], seconds: float) -> T:
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = self._open()
        try:
            return _limited(connection, work, seconds)
        finally:
            self._idle.put(connection)

    def _and_close(self, connection: apsw.Connection, work: Callable[[apsw.Connection], T], seconds: float) -> T:
        try:
            return _limited(connection, work, seconds)
        finally:
            connection.close()

    def _open(self) -> apsw.Connection:
        try:
            return open_reader(self._path)
        except apsw.Error as error:
            raise StoreUnavailableError(f"The database in the data folder cannot be read: {error}.") from error


def _limited(connection: apsw.Connection, work: Callable[[apsw.Connection], T], seconds: float) -> T:
    # The machine's own clock: this limit is about threads, not about the product's time.
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
    try:
        return work(connection)
    except apsw.InterruptError as error:
        raise InvalidRequestError(f"The query took longer than {seconds:g} s: ask for a narrower window.") from error
    except apsw.Error as error:
        raise StoreUnavailableError(f"The database in the data folder cannot be read: {error}.") from error
    finally:
        connection.set_progress_handler(None)
