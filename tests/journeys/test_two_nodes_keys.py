"""Two processes over one PostgreSQL: what one changes the other knows, and they never change against each other."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest

from holdfast.engines.postgres import open_postgres
from holdfast.features.tenancy.keys import KeyEdit, NewKey
from holdfast.features.tenancy.model import OWNER, Asker
from holdfast.features.tenancy.settings import TenancySettings
from holdfast.features.tenancy.tenancy import Tenancy
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import AuthenticationError, ConflictError, NotFoundError
from holdfast.kernel.findings import Findings
from holdfast.kernel.tenant import Role, Tenant
from tests.servers import postgres_url

pytestmark = pytest.mark.engines
HOLDFAST = Asker(OWNER)


class Pair(NamedTuple):
    here: Tenancy
    there: Tenancy


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    url = postgres_url()
    clock = SystemClock()
    stores = [await open_postgres(url, clock=clock, node=f"node-{number}", connections=3) for number in range(2)]
    nodes = [
        Tenancy(
            TenancySettings(poll_seconds=0.05),
            directory=store.directory,
            record=store.record,
            calls=store.calls,
            money=store.money,
            findings=Findings(clock),
            clock=clock,
        )
        for store in stores
    ]
    for one in nodes:
        await one.catalogue.refresh()
    yield Pair(*nodes)
    for store in stores:
        await store.close()


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail("the other node never learned of it")


async def test_both_start_with_one_bootstrap_key(pair: Pair) -> None:
    made = await asyncio.gather(*(one.bootstrap.ensure(None) for one in pair))
    secrets = [one.secret for one in made if one is not None and one.secret is not None]
    assert len(secrets) == 1
    for one in pair:
        await one.catalogue.refresh()
        assert one.authenticate(secrets[0]).role is Role.ADMIN


async def test_a_revocation_reaches_the_other_node(pair: Pair) -> None:
    following = asyncio.create_task(pair.there.follow())
    try:
        made = await pair.here.keys.create(HOLDFAST, NewKey(name="ci"))
        await until(lambda: made.entry.key.id in pair.there.catalogue.snapshot.keys)
        pair.there.authenticate(made.secret)
        await pair.here.keys.revoke(HOLDFAST, made.entry.key.id)
        await until(lambda: pair.there.catalogue.snapshot.keys[made.entry.key.id].revoked)
        with pytest.raises(AuthenticationError, match="revoked"):
            pair.there.authenticate(made.secret)
    finally:
        following.cancel()


async def test_changes_from_both_sides_are_all_kept(pair: Pair) -> None:
    key_id = (await pair.here.keys.create(HOLDFAST, NewKey(name="ci"))).entry.key.id
    await asyncio.gather(
        pair.here.keys.update(HOLDFAST, key_id, KeyEdit(tags=("x",))),
        pair.there.keys.update(HOLDFAST, key_id, KeyEdit(models=("m",))),
        pair.there.keys.update(HOLDFAST, key_id, KeyEdit(name="cd")),
    )
    await pair.here.catalogue.refresh()
    key = pair.here.keys.get(HOLDFAST, key_id).key
    assert (key.name, key.tags, key.models) == ("cd", ("x",), ("m",))
    assert len(await pair.there.reports.audit(HOLDFAST, subject=f"key:{key_id}")) == 4


async def test_one_administrator_remains(pair: Pair) -> None:
    made = [await pair.here.keys.create(HOLDFAST, NewKey(name=name, role=Role.ADMIN)) for name in ("a", "b")]
    outcomes = await asyncio.gather(
        pair.here.keys.revoke(HOLDFAST, made[0].entry.key.id),
        pair.there.keys.revoke(HOLDFAST, made[1].entry.key.id),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [ConflictError]


async def test_a_team_and_its_first_key_are_never_torn(pair: Pair) -> None:
    for number in range(5):
        tenant = Tenant(f"o{number}", "t")
        await pair.here.organisations.create(HOLDFAST, tenant.organisation)
        await pair.here.teams.create(HOLDFAST, tenant)
        deleted, made = await asyncio.gather(
            pair.there.teams.delete(HOLDFAST, tenant),
            pair.here.keys.create(HOLDFAST, NewKey(name="k", tenant=tenant)),
            return_exceptions=True,
        )
        assert (deleted is None) == isinstance(made, NotFoundError)
        assert deleted is None or isinstance(deleted, ConflictError)
