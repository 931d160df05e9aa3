"""A node is killed between reserving money and settling it: the rest of the fleet gets the money back."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

from holdfast.engines.postgres import Postgres, open_postgres
from holdfast.kernel.clock import SystemClock, VirtualClock
from holdfast.ports.money import Balance, Difference, Held
from tests.contracts.samples import call_closed, call_opened, settled
from tests.servers import postgres_url

pytestmark = [pytest.mark.engines, pytest.mark.storm]

BUDGET = Balance("org:acme", "p", 0.0, 4e9, 10_000)

DOOMED = """
import asyncio, sys
from holdfast.engines.postgres import open_postgres
from holdfast.kernel.clock import SystemClock
from tests.contracts.samples import call_opened
from tests.storms.test_postgres_crash import BUDGET

async def main():
    store = await open_postgres(sys.argv[1], clock=SystemClock(), node="doomed")
    await store.money.reserve("call_never_opened", 100, [BUDGET])
    opened = call_opened(id="call_left_open", node="doomed", reserved_nanodollars=30)
    await store.money.reserve(opened.id, 30, [BUDGET])
    await store.record.commit(opened)
    print("reserved", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def survivor(url: str) -> Postgres:
    return await open_postgres(url, clock=SystemClock(), node="survivor")


async def no_more_lock(url: str) -> None:
    """The server notices a killed client when it reads the end of the connection."""
    store = await survivor(url)
    async with asyncio.timeout(30):
        while True:
            if await store.money.recompute(repair=False):
                break
            await asyncio.sleep(0.02)
    await store.close()


async def test_what_a_killed_process_reserved_is_freed_by_a_repair() -> None:
    url = postgres_url()
    store = await survivor(url)
    await store.money.reserve("call_of_survivor", 5, [BUDGET])
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DOOMED, url, stdout=PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert doomed.stdout is not None
    assert await doomed.stdout.readline() == b"reserved\n"
    assert await store.money.recompute(repair=True) == [], "a live process may still use what it reserved"
    doomed.send_signal(signal.SIGKILL)
    await doomed.wait()
    await no_more_lock(url)

    expected = Difference(Held("org:acme", "p", 0, 135), Held("org:acme", "p", 0, 35))
    assert await store.money.recompute(repair=True) == [expected]
    assert await store.money.recompute(repair=False) == []
    (left,) = await store.calls.open_calls(node="doomed")
    end = call_closed(left.id, status="lost", cost_nanodollars=30)
    await store.record.commit(end, settled(left.id, 30, 30, BUDGET), settled("call_never_opened", 100, 0, BUDGET))
    (held,) = await store.money.held([BUDGET])
    assert (held.spent_nanodollars, held.reserved_nanodollars) == (30, 5)
    await store.close()


async def test_an_unopened_reservation_stands_for_an_hour() -> None:
    clock = VirtualClock()
    store = await open_postgres(postgres_url(), clock=clock, node="node-0")
    await store.money.reserve("call_1", 100, [BUDGET])
    await clock.advance(3590)
    assert await store.money.recompute(repair=True) == []
    await clock.advance(20)
    assert len(await store.money.recompute(repair=True)) == 1
    (held,) = await store.money.held([BUDGET])
    assert held.reserved_nanodollars == 0
    await store.close()


async def test_repairs_while_calls_come_and_go_change_nothing() -> None:
    url = postgres_url()
    store, other = await survivor(url), await survivor(url)

    async def live(node: Postgres) -> None:
        for _ in range(60):
            opened = call_opened(opened_at=1000.0)
            await node.money.reserve(opened.id, 10, [BUDGET])
            node.record.hand(opened)
            await asyncio.sleep(0.001)
            node.record.hand(call_closed(opened.id, cost_nanodollars=7), settled(opened.id, 10, 7, BUDGET))

    lives = [asyncio.create_task(live(node)) for node in (store, other) for _ in range(4)]
    found = []
    while not all(task.done() for task in lives):
        found += await store.money.recompute(repair=True)
        await asyncio.sleep(0.01)
    await asyncio.gather(*lives, store.record.flush(), other.record.flush())
    assert found == []
    (held,) = await store.money.held([BUDGET])
    assert (held.spent_nanodollars, held.reserved_nanodollars) == (60 * 8 * 7, 0)
    await asyncio.gather(store.close(), other.close())
