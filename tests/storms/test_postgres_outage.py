"""PostgreSQL dies, freezes and loses answers while a node works: nothing handed is lost or applied twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

from holdfast.engines.postgres import Postgres, open_postgres
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import HoldfastError, StoreUnavailableError
from holdfast.ports.directory import Organisation, Put
from holdfast.ports.money import Balance, Refused
from tests.contracts.samples import ALWAYS, attempted, balance, call_closed, call_opened, settled
from tests.servers import PASSWORD, PostgresServer, postgres_to_hurt
from tests.wire import LossyWire

pytestmark = [pytest.mark.engines, pytest.mark.storm]

BUDGET = balance("org:acme", limit_nanodollars=10**15)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_to_hurt() as server:
        yield server


async def node(url: str, name: str = "node-0") -> Postgres:
    return await open_postgres(url, clock=SystemClock(), node=name, connections=4)


@dataclass
class Traffic:
    """Calls through a store, one life each: reserve, open, wait, close and settle in one unit."""

    store: Postgres
    finished: list[str] = field(default_factory=list)
    refused: int = 0
    stop: bool = False

    async def run(self) -> None:
        calls: set[asyncio.Task[None]] = set()
        while not self.stop:
            for _ in range(5):
                calls.add(asyncio.create_task(self._call()))
            await asyncio.sleep(0.01)
        await asyncio.gather(*calls)

    async def _call(self) -> None:
        opened = call_opened(reserved_nanodollars=500)
        try:
            await self.store.money.reserve(opened.id, 500, [BUDGET])
        except StoreUnavailableError:
            self.refused += 1
            return
        self.store.record.hand(opened)
        await asyncio.sleep(0.05)
        end = call_closed(opened.id, cost_nanodollars=300)
        self.store.record.hand(end, attempted(opened.id, cost_nanodollars=70), settled(opened.id, 500, 370, BUDGET))
        self.finished.append(opened.id)


async def eventually_reserves(store: Postgres) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await store.money.reserve("call_probe", 0, [BUDGET])
            except StoreUnavailableError:
                await asyncio.sleep(0.02)
            else:
                store.record.hand(settled("call_probe", 0, 0, BUDGET))
                return


async def test_nothing_is_lost_or_doubled_when_postgres_is_killed_under_load(server: PostgresServer) -> None:
    store = await node(server.fresh_url())
    traffic = Traffic(store)
    running = asyncio.create_task(traffic.run())
    for _ in range(3):
        await asyncio.sleep(0.4)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.start)
        await eventually_reserves(store)
    await asyncio.sleep(0.2)
    traffic.stop = True
    await running
    await store.record.flush()
    assert store.record.backlog_bytes == 0
    assert store.record.rejected == 0
    assert traffic.refused > 0
    rows = await store.calls.page(ALWAYS, limit=100_000)
    assert sorted(row.opened.id for row in rows) == sorted(traffic.finished)
    assert {row.cost_nanodollars for row in rows} == {370}
    (held,) = await store.money.held([BUDGET])
    assert (held.spent_nanodollars, held.reserved_nanodollars) == (370 * len(traffic.finished), 0)
    assert await store.money.recompute(repair=False) == []
    await store.close()


async def test_while_postgres_is_down_all_but_hand_says_so_and_the_backlog_tells(server: PostgresServer) -> None:
    store = await node(server.fresh_url())
    await store.money.held([BUDGET])
    await asyncio.to_thread(server.stop)
    opened = call_opened()
    store.record.hand(opened)
    for refused in (
        store.record.ping(),
        store.record.commit(call_opened()),
        store.record.commit(Put(Organisation("acme"))),
        store.money.reserve("call_1", 1, [BUDGET]),
        store.money.held([BUDGET]),
        store.calls.get(opened.id),
        store.directory.changes_since(0),
    ):
        with pytest.raises(StoreUnavailableError) as caught:
            await refused
        assert PASSWORD not in str(caught.value)
        assert str(server.port) in caught.value.message
    assert store.record.backlog_bytes > 0
    assert store.record.backlog_seconds > 0
    await asyncio.to_thread(server.start)
    await store.record.flush()
    assert store.record.backlog_bytes == 0
    row = await store.calls.get(opened.id)
    assert row is not None
    assert [call.id for call in await store.calls.open_calls()] == [opened.id]
    await store.record.commit(Put(Organisation("acme"), expect_version=0))
    async with asyncio.timeout(30):
        while True:
            try:
                await store.record.ping()
            except StoreUnavailableError:
                await asyncio.sleep(0.05)
            else:
                break
    await store.close()


async def test_a_frozen_server_is_given_up_and_used_again_when_it_thaws(server: PostgresServer) -> None:
    store = await node(server.fresh_url())
    await store.money.held([BUDGET])
    server.freeze()
    try:
        store.record.hand(call_opened())
        with pytest.raises(StoreUnavailableError):
            await store.money.reserve("call_1", 1, [BUDGET])
    finally:
        server.thaw()
    await eventually_reserves(store)
    await store.record.flush()
    assert len(await store.calls.open_calls()) == 1
    (held,) = await store.money.held([BUDGET])
    assert held.reserved_nanodollars == 0
    await store.close()


@pytest.fixture
async def wire(server: PostgresServer) -> AsyncIterator[tuple[LossyWire, str]]:
    """A wire in front of a database, and the URL through it."""
    wire = LossyWire(server.port)
    url = server.fresh_url().replace(f":{server.port}/", f":{await wire.open()}/")
    yield wire, url
    await wire.close()


async def test_a_batch_whose_acknowledgement_is_lost_is_applied_once(wire: tuple[LossyWire, str]) -> None:
    lossy, url = wire
    store = await node(url)
    calls = [call_opened() for _ in range(20)]
    for opened in calls:
        await store.money.reserve(opened.id, 500, [BUDGET])
    for opened in calls:
        if lossy.lost < 5 and len(calls) > 1:
            lossy.lose_next_answer()
        store.record.hand(opened)
        store.record.hand(call_closed(opened.id, cost_nanodollars=300), settled(opened.id, 500, 300, BUDGET))
        await store.record.flush()
    assert lossy.lost == 5
    (held,) = await store.money.held([BUDGET])
    assert (held.spent_nanodollars, held.reserved_nanodollars) == (300 * 20, 0)
    assert len(await store.calls.page(ALWAYS)) == 20
    assert await store.money.recompute(repair=False) == []
    await store.close()


async def test_a_commit_whose_acknowledgement_is_lost_still_tells_the_truth(wire: tuple[LossyWire, str]) -> None:
    lossy, url = wire
    store = await node(url)
    await store.record.commit(Put(Organisation("acme"), expect_version=0))
    opened = call_opened()
    lossy.lose_next_answer()
    await store.record.commit(opened, call_closed(opened.id))
    assert await store.calls.get(opened.id) is not None
    lossy.lose_next_answer()
    await store.record.commit(Put(Organisation("beta"), expect_version=0))
    found = await store.directory.changes_since(0)
    assert [one.name for one in found.organisations] == ["acme", "beta"]
    assert lossy.lost == 2
    await store.close()


async def test_a_reserve_whose_answer_is_lost_is_refused_and_given_back(wire: tuple[LossyWire, str]) -> None:
    lossy, url = wire
    store = await node(url)
    await store.money.reserve("call_0", 5, [BUDGET])
    lossy.lose_next_answer()
    with pytest.raises(StoreUnavailableError):
        await store.money.reserve("call_1", 100, [BUDGET])
    assert lossy.lost == 1
    await store.record.flush()
    (held,) = await store.money.held([BUDGET])
    assert held.reserved_nanodollars == 5
    await store.close()


async def test_a_caller_that_leaves_in_the_middle_of_a_reserve_leaves_nothing_reserved(server: PostgresServer) -> None:
    store = await node(server.fresh_url())
    await store.money.held([BUDGET])
    for turn in range(30):
        waiting = asyncio.ensure_future(store.money.reserve(f"call_{turn}", 100, [BUDGET]))
        await asyncio.sleep(turn % 10 / 3000)
        waiting.cancel()
        outcome = (await asyncio.gather(waiting, return_exceptions=True))[0]
        if isinstance(outcome, tuple):
            store.record.hand(settled(f"call_{turn}", 100, 0, BUDGET))
        else:
            assert isinstance(outcome, asyncio.CancelledError)
    await store.money.reserve("call_last", 0, [BUDGET])
    await store.record.flush()
    (held,) = await store.money.held([BUDGET])
    assert held.reserved_nanodollars == 0
    await store.close()


async def test_closing_while_postgres_is_away_ends_and_says_what_is_lost(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = await node(server.fresh_url())
    await asyncio.to_thread(server.stop)
    store.record.hand(call_opened())
    await store.record.close(within_seconds=0.3)
    await store.close()
    assert "PostgreSQL did not take" in caplog.text


async def test_a_wrong_password_is_not_shown(server: PostgresServer) -> None:
    url = server.url().replace(PASSWORD, "not-the-pass-word")
    with pytest.raises(HoldfastError) as caught:
        await node(url)
    assert "not-the-pass-word" not in str(caught.value)
    assert "127.0.0.1" in caught.value.message


async def test_a_database_that_takes_no_writes_is_not_ready(server: PostgresServer) -> None:
    url = server.fresh_url()
    store = await node(url)
    await store.record.ping()
    await store.close()
    server.sql(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailableError, match="read-only"):
        await node(url)


async def test_three_nodes_racing_for_one_budget_never_pass_it(server: PostgresServer) -> None:
    url = server.fresh_url()
    nodes = [await node(url, f"node-{number}") for number in range(3)]
    cap = Balance("org:acme", "p", 0.0, 4e9, 1000)
    own = [Balance(f"key:key_{number}", "p", 0.0, 4e9, 10_000) for number in range(3)]
    answers = await asyncio.gather(
        *(
            store.money.reserve(f"call_{number}_{turn}", 30, [own[number], cap])
            for number, store in enumerate(nodes)
            for turn in range(100)
        )
    )
    granted = [answer for answer in answers if not isinstance(answer, Refused)]
    assert len(granted) == 33
    assert {answer.balance for answer in answers if isinstance(answer, Refused)} == {cap}
    held = await nodes[0].money.held([cap, *own])
    assert held[0].reserved_nanodollars == 990
    assert sum(one.reserved_nanodollars for one in held[1:]) == 990
    await asyncio.gather(*(store.close() for store in nodes))
