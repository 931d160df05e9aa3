"""Opening the ports of one node together."""

from holdfast.engines.postgres import Postgres
from holdfast.engines.postgres.calls import PostgresCalls
from holdfast.engines.postgres.directory import PostgresDirectory
from holdfast.engines.postgres.failures import Address
from holdfast.engines.postgres.migrate import Migration, check_schema, check_server, migrate, migrations
from holdfast.engines.postgres.money import PostgresMoney
from holdfast.engines.postgres.pool import Pool
from holdfast.engines.postgres.record import PostgresRecord
from holdfast.engines.postgres.statements import load
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import StoreUnavailableError
from holdfast.kernel.ids import make_id

MIGRATION_SECONDS = 3600.0


async def open_store(
    url: str,
    *,
    clock: Clock,
    node: str,
    connections: int,
    commit_interval_seconds: float,
    steps: tuple[Migration, ...] | None = None,
) -> Postgres:
    """Migrates where needed. `connections`: one writes records, one reserves money (from three on), the others read."""
    address = Address(url, node)
    incarnation = await _prepare(address, node, steps or migrations())
    writer = make_id("writer")
    readers = Pool(address, max(connections - 2, 1))
    payer = Pool(address, 1) if connections > 2 else readers
    record = PostgresRecord(
        address,
        readers,
        clock=clock,
        writer=writer,
        node=node,
        incarnation=incarnation,
        interval=commit_interval_seconds,
    )
    money = PostgresMoney(payer, readers, clock=clock, writer=writer, record=record)
    try:
        await record.open()
    except StoreUnavailableError:
        await record.close(within_seconds=0.0)
        raise
    return Postgres(record, PostgresCalls(readers), money, PostgresDirectory(readers), incarnation, (readers, payer))


async def probe(url: str, *, node: str) -> None:
    """Whether `open_store` would find a server, a database and a schema it can use; nothing is migrated."""
    address = Address(url, node)
    pool = Pool(address, 1)
    try:
        with address.translated():
            async with pool.connection() as connection:
                await check_server(connection)
                await check_schema(connection, migrations())
    finally:
        await pool.close()


async def _prepare(address: Address, node: str, steps: tuple[Migration, ...]) -> str:
    pool = Pool(address, 1, statement_seconds=MIGRATION_SECONDS)
    sql = load("record.sql")
    try:
        with address.translated():
            async with pool.connection() as connection:
                await migrate(connection, node, steps)
                await connection.execute(sql["forget_writers"])
                row = await (await connection.execute(sql["incarnation"], {"incarnation": make_id("store")})).fetchone()
    finally:
        await pool.close()
    return str(row[0]) if row is not None else ""
