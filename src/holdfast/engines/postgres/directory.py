"""The directory on PostgreSQL: versions are given out under a row lock, so a reader never skips a commit that came late."""

from collections.abc import Sequence

from holdfast.engines.postgres.batch import BatchWriter, batch_of
from holdfast.engines.postgres.pool import Connection, Pool
from holdfast.engines.postgres.rows import audited_parameters, put_parameters, read_key
from holdfast.engines.postgres.statements import load
from holdfast.kernel.errors import ConflictError
from holdfast.ports.directory import Audited, Changes, Key, Organisation, Put, Team
from holdfast.ports.record import Change


class DirectoryWriter:
    """Units that change the directory, each in a transaction of its own."""

    def __init__(self, batches: BatchWriter) -> None:
        self._batches = batches
        self._sql = load("directory.sql")

    async def write(self, connection: Connection, number: int, changes: Sequence[Change]) -> None:
        """Raises ConflictError where an expected version does not hold; then nothing is stored."""
        async with connection.transaction():
            await self._batches.advance(connection, number)
            for change in changes:
                if isinstance(change, Put):
                    await self._put(connection, change)
                elif isinstance(change, Audited):
                    await connection.execute(self._sql["audited"], audited_parameters(change))
            others = [change for change in changes if not isinstance(change, Put | Audited)]
            await self._batches.send(connection, batch_of([others]))

    async def _put(self, connection: Connection, put: Put) -> None:
        kind = type(put.row).__name__.lower()
        next_version = await (await connection.execute(self._sql["next_version"])).fetchone()
        parameters = put_parameters(put.row, int(next_version[0]) if next_version is not None else 1)
        if put.expect_version is not None:
            row = await (await connection.execute(self._sql[f"{kind}_version"], parameters)).fetchone()
            found = int(row[0]) if row is not None else 0
            if found != put.expect_version:
                raise ConflictError(f"{kind} {_named(put.row)} is at version {found}, not {put.expect_version}")
        await connection.execute(self._sql[f"put_{kind}"], parameters)


def _named(row: Organisation | Team | Key) -> str:
    match row:
        case Team():
            return f"{row.organisation}/{row.name}"
        case Key():
            return row.id
        case Organisation():
            return row.name


class PostgresDirectory:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = load("directory.sql")

    async def changes_since(self, version: int) -> Changes:
        """Nothing new costs one read of one row. A version from another history is answered with everything."""
        with self._pool.address.translated():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(self._sql["version"])).fetchone()
                current = int(row[0]) if row is not None else 0
                if current == version:
                    return Changes(version, (), (), ())
                after = version if version < current else 0
                rows = await (await connection.execute(self._sql["changes"], {"after": after})).fetchall()
        found = {"version": [], "organisation": [], "team": [], "key": []}  # type: dict[str, list[dict[str, object]]]
        for kind, row in rows:
            found[kind].append(row)
        return Changes(
            max(int(str(row["version"])) for row in found["version"]),
            tuple(Organisation(**row) for row in found["organisation"]),  # type: ignore[arg-type]
            tuple(Team(**row) for row in found["team"]),  # type: ignore[arg-type]
            tuple(read_key(row) for row in found["key"]),
        )

    async def audit(
        self, *, limit: int = 100, before: tuple[float, str] | None = None, subject: str | None = None
    ) -> Sequence[Audited]:
        at, identity = before if before is not None else (None, None)
        parameters = {"limit": limit, "at": at, "id": identity, "subject": subject}
        with self._pool.address.translated():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(self._sql["audit"], parameters)).fetchall()
        return [Audited(*row) for row in rows]
