"""How connections to the database are opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from holdfast.engines.embedded.statements import Value, load

BUSY_MILLISECONDS = 1000


def open_writer(path: Path) -> apsw.Connection:
    """The one connection that writes."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    connection.execute(load("store.sql")["open_writer"])
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """One of many connections that read."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    connection.execute(load("store.sql")["open_reader"])
    return connection


def fetch(
    connection: apsw.Connection, sql: str, values: Sequence[Value] | Mapping[str, Value] = ()
) -> list[tuple[Any, ...]]:
    """All rows; their columns are of the types the schema says."""
    return connection.execute(sql, values).fetchall()
