"""The lock by which the nodes over one database agree on where limits are counted: all of them in Redis, or one node alone."""

import asyncio

from holdfast.engines.postgres.failures import Address
from holdfast.engines.postgres.pool import Connection, Pool
from holdfast.engines.postgres.statements import load
from holdfast.kernel.errors import SettingsError, StoreUnavailableError

# A process that was killed a moment ago holds the lock until the server has read its end.
WAIT_SECONDS = 5.0
TRY_SECONDS = 0.1
LOOK_LIMIT_SECONDS = 10.0
_TAKEN_ALONE = (
    "another node runs over this database, and without Redis each would count limits for itself: "
    "set store.redis, the same for every node, or stop the other node"
)
_TAKEN_SHARED = (
    "a node without Redis runs over this database and counts limits for itself: "
    "set store.redis, the same for every node, or stop that node"
)


class Place:
    """One node's place among those over a database, held by a connection of its own for as long as the node runs."""

    def __init__(self, address: Address, *, alone: bool) -> None:
        self._address = address
        self._alone = alone
        self._sql = load("fleet.sql")
        self._pool = Pool(address, 1, greet=self._take)

    async def look(self) -> str | None:
        """Takes the place, or takes it again where its connection was lost. What keeps this node from it, or None.
        StoreUnavailableError: the server is away."""
        try:
            with self._address.translated():
                async with self._pool.connection(within_seconds=LOOK_LIMIT_SECONDS) as connection:
                    await connection.execute(self._sql["still_there"])
        except SettingsError as taken:
            return taken.message
        return None

    async def close(self) -> None:
        await self._pool.close()

    async def _take(self, connection: Connection) -> None:
        await connection.execute(self._sql["notice_a_vanished_node"])
        ends = asyncio.get_running_loop().time() + WAIT_SECONDS
        while not await self._try(connection):
            if asyncio.get_running_loop().time() > ends:
                raise SettingsError(_TAKEN_ALONE if self._alone else _TAKEN_SHARED)
            await asyncio.sleep(TRY_SECONDS)

    async def _try(self, connection: Connection) -> bool:
        row = await (await connection.execute(self._sql["alone" if self._alone else "together"])).fetchone()
        return row is not None and bool(row[0])


async def take_place(url: str, *, node: str, alone: bool) -> Place:
    """SettingsError: limits would be counted twice, for another node runs that does not count where this one does."""
    place = Place(Address(url, node), alone=alone)
    try:
        taken = await place.look()
    except StoreUnavailableError:
        await place.close()
        raise
    if taken is not None:
        await place.close()
        raise SettingsError(taken)
    return place
