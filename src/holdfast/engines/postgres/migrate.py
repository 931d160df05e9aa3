"""Brings the store's schema to what this release was written for; see schema/README.md for the rules."""

import re
from dataclasses import dataclass
from importlib import resources

from holdfast.engines.postgres.pool import Connection
from holdfast.kernel.errors import SchemaMismatchError, StoreUnavailableError

LEAST_SERVER_VERSION = 140000
_FILE = re.compile(r"(\d{4})_\w+\.sql")
_LOCK = "SELECT pg_advisory_lock(1213481296, 1)"
_UNLOCK = "SELECT pg_advisory_unlock(1213481296, 1)"
_LEDGER = """
    CREATE SCHEMA IF NOT EXISTS holdfast;
    CREATE TABLE IF NOT EXISTS holdfast.migrations (
        version integer PRIMARY KEY,
        name text NOT NULL,
        node text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
"""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str


def migrations() -> tuple[Migration, ...]:
    """In order; numbered from 1 without a gap."""
    found = []
    for file in resources.files(__package__).joinpath("schema").iterdir():
        match = _FILE.fullmatch(file.name)
        if match is not None:
            sql = file.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), file.name.removesuffix(".sql"), sql))
    return tuple(sorted(found, key=lambda migration: migration.version))


async def schema_version(connection: Connection) -> int:
    """0: nothing of ours stands there."""
    row = await (await connection.execute("SELECT to_regclass('holdfast.migrations') IS NOT NULL")).fetchone()
    if row is None or not row[0]:
        return 0
    row = await (await connection.execute("SELECT coalesce(max(version), 0) FROM holdfast.migrations")).fetchone()
    return int(row[0]) if row is not None else 0


async def migrate(connection: Connection, node: str, steps: tuple[Migration, ...]) -> None:
    """Whoever comes first does it, the others wait. A store one schema ahead is used as it is."""
    await check_server(connection)
    newest = steps[-1].version
    if await schema_version(connection) < newest:
        await connection.execute(_LOCK)
        try:
            await _apply(connection, node, steps)
        finally:
            if not connection.closed:
                await connection.execute(_UNLOCK)
    await check_schema(connection, steps)


async def check_schema(connection: Connection, steps: tuple[Migration, ...]) -> None:
    """Raises SchemaMismatchError where the store is too new."""
    found, newest = await schema_version(connection), steps[-1].version
    if found > newest + 1:
        raise SchemaMismatchError(
            f"the PostgreSQL store has schema {found}, this release knows {newest} and runs on {newest + 1} at most: "
            "start the release that wrote it, or one just before it"
        )


async def _apply(connection: Connection, node: str, steps: tuple[Migration, ...]) -> None:
    await connection.execute(_LEDGER)
    found = await schema_version(connection)
    for step in steps:
        if step.version > found:
            async with connection.transaction():
                await connection.execute(step.sql)
                await connection.execute(
                    "INSERT INTO holdfast.migrations (version, name, node) VALUES (%s, %s, %s)",
                    (step.version, step.name, node),
                )


async def check_server(connection: Connection) -> None:
    """Raises where this server cannot hold a store."""
    if connection.info.server_version < LEAST_SERVER_VERSION:
        raise SchemaMismatchError(
            f"PostgreSQL {connection.info.server_version // 10000} is too old: 14 or newer is needed"
        )
    row = await (await connection.execute("SELECT current_setting('server_encoding'), pg_is_in_recovery()")).fetchone()
    if row is not None and row[0] != "UTF8":
        raise SchemaMismatchError(f"the database is encoded {row[0]}: UTF8 is needed")
    if row is not None and row[1]:
        raise StoreUnavailableError("the PostgreSQL server is a read-only replica: say the primary's address")
