"""The schema grows by numbered files, from any version, whole or not at all; a store too far ahead is refused."""

import contextlib
from pathlib import Path

import apsw
import pytest

from holdfast.engines.embedded import Embedded, open_embedded
from holdfast.engines.embedded.folder import DATABASE
from holdfast.engines.embedded.migrate import Migration, known_migrations, migrate, schema_version
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import SchemaMismatchError, StoreUnavailableError
from tests.contracts.samples import audit_row, call_closed, call_opened

LATEST = known_migrations()[-1].version


def connect(data: Path) -> contextlib.closing[apsw.Connection]:
    data.mkdir(exist_ok=True)
    return contextlib.closing(apsw.Connection(str(data / DATABASE)))


def test_the_files_are_numbered_without_a_gap() -> None:
    assert [migration.version for migration in known_migrations()] == list(range(1, LATEST + 1))


def taken_back(data: Path, to: Migration) -> None:
    """The store as a release that knew only `to` would have left it: the same rows in the columns there were then."""
    former = data / "former.db"
    with contextlib.closing(apsw.Connection(str(former))) as connection:
        migrate(connection, 0.0, (to,))
        connection.execute("ATTACH ? AS now", (str(data / DATABASE),))
        tables = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT IN ('migrations')"
        for (table,) in connection.execute(tables).fetchall():
            columns = ", ".join(
                str(row[1]) for row in connection.execute(f"PRAGMA main.table_info({table})").fetchall()
            )
            connection.execute(f"DELETE FROM main.{table}")  # noqa: S608
            connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")  # noqa: S608
    for left in data.glob(f"{DATABASE}-*"):
        left.unlink()
    former.replace(data / DATABASE)


async def test_a_store_of_the_first_schema_is_brought_up_with_its_rows(data: Path, clock: VirtualClock) -> None:
    first, *rest = known_migrations()
    assert rest, "there is no previous schema to come from"
    old = await open_embedded(data, clock=clock)
    opened, row = call_opened(), audit_row()
    await old.record.commit(opened, call_closed(opened.id), row)
    await old.close()
    taken_back(data, first)
    with connect(data) as connection:
        assert schema_version(connection) == first.version

    now = await open_embedded(data, clock=clock)
    assert now.incarnation == old.incarnation
    found = await now.calls.get(opened.id)
    assert found is not None
    assert (found.opened, found.closed) == (opened, call_closed(opened.id))
    assert list(await now.directory.audit(subject=row.subject)) == [row]
    await now.close()
    with connect(data) as connection:
        assert schema_version(connection) == LATEST
        assert connection.execute("SELECT version FROM migrations ORDER BY version").fetchall() == [
            (number,) for number in range(1, LATEST + 1)
        ]


async def test_the_audit_cannot_be_changed_even_by_sql(engine: Embedded, data: Path) -> None:
    await engine.record.commit(audit_row())
    with connect(data) as connection:
        for sql in ("DELETE FROM audit", "UPDATE audit SET actor = 'nobody'"):
            with pytest.raises(apsw.ConstraintError, match="append-only"):
                connection.execute(sql)


async def test_a_store_one_schema_ahead_is_used_as_it_is(data: Path, clock: VirtualClock) -> None:
    ahead = Migration(LATEST + 1, "from_the_next_release", "ALTER TABLE calls ADD COLUMN region TEXT")
    with connect(data) as connection:
        migrate(connection, 0.0, (*known_migrations(), ahead))
    engine = await open_embedded(data, clock=clock)
    opened = call_opened()
    await engine.record.commit(opened, call_closed(opened.id))
    found = await engine.calls.get(opened.id)
    assert found is not None
    assert (found.opened, found.closed) == (opened, call_closed(opened.id))
    await engine.close()
    with connect(data) as connection:
        assert schema_version(connection) == LATEST + 1


async def test_a_store_further_ahead_is_refused_with_both_versions(data: Path, clock: VirtualClock) -> None:
    ahead = [Migration(LATEST + step, f"step_{step}", f"CREATE TABLE later_{step} (x)") for step in (1, 2)]
    with connect(data) as connection:
        migrate(connection, 0.0, (*known_migrations(), *ahead))
    with pytest.raises(SchemaMismatchError, match=rf"schema {LATEST + 2}.*schema {LATEST} "):
        await open_embedded(data, clock=clock)
    with connect(data) as connection:
        assert schema_version(connection) == LATEST + 2


async def test_a_migration_that_breaks_leaves_the_schema_before_it(data: Path) -> None:
    broken = Migration(LATEST + 1, "broken", "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1)")
    with connect(data) as connection:
        with pytest.raises(apsw.SQLError):
            migrate(connection, 0.0, (*known_migrations(), broken))
        assert schema_version(connection) == LATEST
        assert not connection.table_exists(None, "half")


async def test_a_file_that_is_no_database_is_refused(data: Path, clock: VirtualClock) -> None:
    with connect(data):
        pass
    (data / DATABASE).write_bytes(b"this is no database, and nothing may write over it" * 100)
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        await open_embedded(data, clock=clock)
    assert (data / DATABASE).read_bytes().startswith(b"this is no database")
