"""Everything durable on PostgreSQL: record, calls, money and directory, shared by any number of nodes.

For whom: whoever runs more than one process, or already keeps a PostgreSQL that is backed up and watched. One process on
one machine is served faster by the embedded engine.

How it differs from the embedded engine
- A reservation of money is committed before `reserve` returns (one round trip, shared by all that wait at the time).
- `written` and `synced` are the same: PostgreSQL acknowledges what is on its disk.
- While the server is away handed units wait in this process, in order, and are applied once it is back; reads and
  reserves raise StoreUnavailableError at once.
- Open calls stand in a table of their own, so the large table is only added to.

What it needs: PostgreSQL 14 or newer (tested on 18), a primary, a database encoded UTF8, a role that may create a schema
there (`holdfast`, nothing outside it is touched), and direct connections or a pooler in session mode. `connections` a
node (default 8), plus one for its place among the nodes (fleet.py) and one while it starts. `synchronous_commit = off` on
the server is raised to `on` for our sessions; `fsync = off` we cannot see through. Nothing is notified or listened to.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import SettingsError

if TYPE_CHECKING:
    from holdfast.engines.postgres.calls import PostgresCalls
    from holdfast.engines.postgres.directory import PostgresDirectory
    from holdfast.engines.postgres.fleet import Place
    from holdfast.engines.postgres.money import PostgresMoney
    from holdfast.engines.postgres.pool import Pool
    from holdfast.engines.postgres.record import PostgresRecord

__all__ = ["Postgres", "open_postgres", "probe_postgres", "take_place"]


@dataclass(frozen=True, slots=True)
class Postgres:
    """The ports of one node. `incarnation` is the store's: all nodes say the same."""

    record: "PostgresRecord"
    calls: "PostgresCalls"
    money: "PostgresMoney"
    directory: "PostgresDirectory"
    incarnation: str
    pools: "tuple[Pool, ...]"

    async def close(self) -> None:
        """Writes what was handed, then lets go of every connection."""
        await self.money.close()
        await self.record.close()
        await asyncio.gather(*(pool.close() for pool in self.pools))


async def open_postgres(
    url: str, *, clock: Clock, node: str, connections: int = 8, commit_interval_seconds: float = 0.01
) -> Postgres:
    """Connects, migrates where needed and registers this node. Raises StoreUnavailableError where no server answers,
    SchemaMismatchError where the store is too new or the server too old, SettingsError where the URL cannot be used."""
    with _its_driver():
        from holdfast.engines.postgres.store import open_store
    return await open_store(
        url, clock=clock, node=node, connections=connections, commit_interval_seconds=commit_interval_seconds
    )


async def take_place(url: str, *, node: str, alone: bool) -> "Place":
    """This node's place among those over the database. `alone`: it counts limits in its own process, so no other may run.
    Raises SettingsError where one does, StoreUnavailableError where no server answers."""
    with _its_driver():
        from holdfast.engines.postgres import fleet
    return await fleet.take_place(url, node=node, alone=alone)


async def probe_postgres(url: str, *, node: str) -> None:
    """Connects and changes nothing. Raises what `open_postgres` raises where it could not be opened."""
    with _its_driver():
        from holdfast.engines.postgres import store
    await store.probe(url, node=node)


@contextmanager
def _its_driver() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        if (error.name or "psycopg").partition(".")[0] != "psycopg":
            raise
        raise SettingsError(f"PostgreSQL needs its driver: pip install 'holdfast[postgres]' ({error})") from error
