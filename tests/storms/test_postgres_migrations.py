"""Releases follow each other on one store: from the previous schema, beside the next one, two nodes at once."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE

import psycopg
import pytest

from holdfast.engines.postgres import Postgres, open_postgres
from holdfast.engines.postgres.migrate import Migration, migrations
from holdfast.engines.postgres.statements import load
from holdfast.engines.postgres.store import open_store
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import HoldfastError, SchemaMismatchError, SettingsError, StoreUnavailableError
from holdfast.ports.directory import Organisation, Put
from holdfast.ports.record import Level
from tests.contracts.samples import ALWAYS, NOON, balance, call_closed, call_opened, settled
from tests.servers import PASSWORD, postgres_url, shared

pytestmark = [pytest.mark.engines, pytest.mark.storm]

BUDGET = balance("org:acme")
SPENT_IF_PATIENT = """
    CREATE OR REPLACE FUNCTION holdfast.spent_1(
        of_organisation text, of_team text, of_key text, since double precision, until double precision
    ) RETURNS bigint LANGUAGE sql AS $$
        SELECT CASE WHEN current_setting('statement_timeout')::interval > '10 s'::interval THEN 7 ELSE 0 END
    $$
"""


# What a release before the third schema did not say of a call's end: the bytes, last in each row.
_BYTES = re.compile(r", \(r->>(?:25|40)\)::bigint, \(r->>(?:26|41)\)::bigint")


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nodes opened from here on, until `undo`, write calls as the release before did."""
    monkeypatch.setattr(
        "holdfast.engines.postgres.batch.load",
        lambda file: {name: _BYTES.sub("", statement) for name, statement in load(file).items()},
    )
    return monkeypatch


async def node(url: str, name: str = "node-0", steps: tuple[Migration, ...] | None = None) -> Postgres:
    return await open_store(
        url, clock=SystemClock(), node=name, connections=4, commit_interval_seconds=0.005, steps=steps
    )


async def versions(url: str) -> list[int]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await (await connection.execute("SELECT version FROM holdfast.migrations ORDER BY version")).fetchall()
    return [row[0] for row in rows]


async def say_schema(url: str, version: int) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("INSERT INTO holdfast.migrations VALUES (%s, 'from_the_future', 'node-9')", (version,))


async def write_some(store: Postgres) -> None:
    ended, still_open = call_opened(), call_opened()
    for opened in (ended, still_open):
        await store.money.reserve(opened.id, 500, [BUDGET])
    await store.record.commit(ended, still_open)
    await store.record.commit(
        call_closed(ended.id, cost_nanodollars=300), settled(ended.id, 500, 300, BUDGET), level=Level.SYNCED
    )
    await store.record.commit(Put(Organisation("acme"), expect_version=0))


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [step.version for step in migrations()] == list(range(1, len(migrations()) + 1))
    assert len(migrations()) >= 2


@pytest.mark.parametrize("behind", range(1, len(migrations())))
async def test_a_store_of_an_earlier_schema_is_brought_forward_with_all_it_holds(
    behind: int, as_before: pytest.MonkeyPatch
) -> None:
    url = postgres_url()
    before = await node(url, steps=migrations()[:behind])
    await write_some(before)
    await before.close()
    assert await versions(url) == list(range(1, behind + 1))
    as_before.undo()

    after = await node(url)
    assert await versions(url) == [step.version for step in migrations()]
    assert after.incarnation == before.incarnation
    assert len(await after.calls.page(ALWAYS)) == 2
    assert await after.money.recompute(repair=False) == []
    (held,) = await after.money.held([BUDGET])
    assert (held.spent_nanodollars, held.reserved_nanodollars) == (300, 500)
    assert await after.calls.prune(NOON + 1) == 1
    assert [one.version for one in (await after.directory.changes_since(0)).organisations] == [1]
    await after.close()


async def test_a_node_of_the_release_before_goes_on_while_the_next_one_migrates(as_before: pytest.MonkeyPatch) -> None:
    url = postgres_url()
    before = await node(url, steps=migrations()[:-1])
    as_before.undo()
    after = await node(url, "node-1")
    await write_some(before)
    again = await node(url, "node-2", steps=migrations()[:-1])
    assert len(await again.calls.page(ALWAYS)) == 2
    await asyncio.gather(before.close(), after.close(), again.close())


async def test_nodes_that_start_at_once_migrate_once() -> None:
    url = postgres_url()
    nodes = await asyncio.gather(*(node(url, f"node-{number}") for number in range(6)))
    assert len({one.incarnation for one in nodes}) == 1
    assert await versions(url) == [step.version for step in migrations()]
    for one in nodes:
        await one.record.ping()
    await asyncio.gather(*(one.close() for one in nodes))


async def test_a_store_one_schema_ahead_is_used_and_one_further_is_refused() -> None:
    url = postgres_url()
    await (await node(url)).close()
    newest = migrations()[-1].version
    await say_schema(url, newest + 1)
    store = await node(url)
    await write_some(store)
    await store.close()
    await say_schema(url, newest + 2)
    with pytest.raises(SchemaMismatchError) as caught:
        await node(url)
    assert {str(newest), str(newest + 2)} <= set(re.findall(r"\d+", caught.value.message))


async def test_a_migration_that_fails_leaves_the_schema_before_it() -> None:
    url = postgres_url()
    broken = Migration(len(migrations()) + 1, "broken", "CREATE TABLE holdfast.half (id integer); SELECT 1 / 0")
    with pytest.raises(StoreUnavailableError, match="division by zero"):
        await node(url, steps=(*migrations(), broken))
    assert await versions(url) == [step.version for step in migrations()]
    store = await node(url)
    await write_some(store)
    await store.close()


async def test_a_role_that_may_not_create_a_schema_is_told_so() -> None:
    server = shared().postgres()
    url = postgres_url()
    server.sql("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD 'guest-pass-word'")
    with pytest.raises(StoreUnavailableError, match="permission denied") as caught:
        await node(url.replace(f"postgres:{PASSWORD}", "guest:guest-pass-word"))
    assert "guest-pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["not a url with s3cret", "postgresql://u:s3cret@ret@127.0.0.1/db", "postgresql://u:s3cret@127.0.0.1:port/db"],
)
async def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(HoldfastError) as caught:
        await open_postgres(url, clock=SystemClock(), node="node-0")
    assert isinstance(caught.value, SettingsError | StoreUnavailableError)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__ or "s3cret" not in str(caught.value.__cause__)


async def test_without_its_driver_the_engine_says_what_to_install() -> None:
    code = """
import asyncio, sys
sys.modules["psycopg"] = None
from holdfast.engines.postgres import open_postgres
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import SettingsError
try:
    asyncio.run(open_postgres("postgresql://127.0.0.1:1/db", clock=SystemClock(), node="node-0"))
except SettingsError as error:
    print(error.message)
"""
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    told, _ = await asked.communicate()
    assert "pip install 'holdfast[postgres]'" in told.decode()


async def test_a_count_of_many_calls_may_take_longer_than_other_statements() -> None:
    url = postgres_url()
    store = await node(url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(SPENT_IF_PATIENT)
    (held,) = await store.money.held([BUDGET])
    assert held.spent_nanodollars == 7
    await store.close()
