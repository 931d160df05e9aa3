"""Redis dies, freezes, forgets its scripts and loses answers while nodes reserve: they say so, and go on by themselves."""

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis as Client

from holdfast.engines.redis import Redis, open_redis
from holdfast.kernel.clock import Clock, SystemClock, VirtualClock
from holdfast.kernel.errors import SettingsError, StoreUnavailableError
from holdfast.ports.rates import Limit
from tests.servers import PASSWORD, RedisServer, redis_to_hurt, redis_url
from tests.wire import LossyWire

pytestmark = [pytest.mark.engines, pytest.mark.storm]

TOKENS = Limit("tokens:team:acme/search", "bucket", 1000, 100_000.0)
SLOTS = Limit("slots:lane:openai/gpt-5", "slot", 3)
BOTH = (TOKENS, SLOTS)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_to_hurt() as server:
        yield server


async def node(url: str, name: str = "node-0", clock: Clock | None = None) -> Redis:
    return await open_redis(url, clock=clock or SystemClock(), node=name)


async def fresh(server: RedisServer) -> Redis:
    opened = await node(server.url())
    async with Client.from_url(server.url()) as client:
        await client.flushall()
    return opened


async def eventually_reserves(opened: Redis, holder: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                assert await opened.rates.reserve(BOTH, [10, 1], holder, 60) is None
            except StoreUnavailableError:
                await asyncio.sleep(0.02)
            else:
                return


async def left(opened: Redis) -> list[int]:
    return [round(level) for level in await opened.rates.levels(BOTH)]


async def test_while_redis_is_down_reserve_says_so_and_then_recovers_by_itself(server: RedisServer) -> None:
    opened = await fresh(server)
    assert await opened.rates.reserve(BOTH, [10, 1], "call_1", 60) is None
    await asyncio.to_thread(server.kill)
    for refused in (opened.rates.reserve(BOTH, [10, 1], "call_2", 60), opened.rates.ping(), opened.rates.levels(BOTH)):
        with pytest.raises(StoreUnavailableError) as caught:
            await refused
        assert PASSWORD not in str(caught.value)
        assert str(server.port) in caught.value.message
    opened.rates.settle(BOTH, [10, 1], [10, 1], "call_1")
    await asyncio.to_thread(server.start)
    await eventually_reserves(opened, "call_3")
    assert await left(opened) == [990, 2]
    assert opened.rates.dropped == 0
    await opened.close()


async def test_reserves_under_way_when_redis_dies_are_all_answered(server: RedisServer) -> None:
    opened = await fresh(server)
    waiting = [
        asyncio.ensure_future(opened.rates.reserve((TOKENS,), [1], f"call_{number}", 60)) for number in range(300)
    ]
    await asyncio.sleep(0)
    await asyncio.to_thread(server.kill)
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {type(None), StoreUnavailableError}
    await asyncio.to_thread(server.start)
    await eventually_reserves(opened, "call_last")
    await opened.close()


async def test_a_frozen_redis_is_given_up_and_what_it_took_meanwhile_is_freed(server: RedisServer) -> None:
    opened = await fresh(server)
    await opened.rates.ping()
    server.freeze()
    try:
        with pytest.raises(StoreUnavailableError):
            await opened.rates.reserve(BOTH, [0, 1], "call_1", 600)
    finally:
        server.thaw()
    await eventually_reserves(opened, "call_2")
    async with asyncio.timeout(30):
        while True:
            if (await left(opened))[1] == 2:
                break
            await asyncio.sleep(0.02)
    await opened.close()


async def test_scripts_that_redis_forgot_are_loaded_again(server: RedisServer) -> None:
    opened = await fresh(server)
    async with Client.from_url(server.url()) as client:
        await client.script_flush()
        opened.rates.settle(BOTH, [10, 1], [10, 1], "call_0")
        assert await opened.rates.reserve(BOTH, [10, 1], "call_1", 60) is None
        await client.script_flush()
        assert await left(opened) == [990, 2]
    await opened.close()


async def test_a_settlement_whose_answer_is_lost_is_counted_once(server: RedisServer) -> None:
    await (await fresh(server)).close()
    wire = LossyWire(server.port)
    opened = await node(server.url().replace(f":{server.port}/", f":{await wire.open()}/"))
    assert await opened.rates.reserve(BOTH, [500, 1], "call_1", 60) is None
    wire.lose_next_answer()
    opened.rates.settle(BOTH, [500, 1], [400, 1], "call_1")
    async with asyncio.timeout(30):
        while True:
            if wire.lost:
                break
            await asyncio.sleep(0.01)
    await eventually_reserves(opened, "call_2")
    assert wire.lost == 1
    assert await left(opened) == [590, 2]
    await opened.close()
    await wire.close()


async def test_a_reserve_whose_answer_is_lost_is_refused_and_frees_its_slot(server: RedisServer) -> None:
    await (await fresh(server)).close()
    wire = LossyWire(server.port)
    opened = await node(server.url().replace(f":{server.port}/", f":{await wire.open()}/"))
    wire.lose_next_answer()
    with pytest.raises(StoreUnavailableError):
        await opened.rates.reserve((SLOTS,), [3], "call_1", 600)
    assert wire.lost == 1
    await eventually_reserves(opened, "call_2")
    await opened.close()
    await wire.close()


async def test_a_caller_that_leaves_in_the_middle_of_a_reserve_holds_nothing(server: RedisServer) -> None:
    opened = await fresh(server)
    for turn in range(40):
        waiting = asyncio.ensure_future(opened.rates.reserve(BOTH, [10, 1], f"call_{turn}", 600))
        await asyncio.sleep(turn % 10 / 10_000)
        waiting.cancel()
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
        if outcome is None:
            opened.rates.settle(BOTH, [10, 1], [0, 1], f"call_{turn}")
        else:
            assert isinstance(outcome, asyncio.CancelledError)
    assert await opened.rates.reserve((TOKENS,), [0], "call_last", 600) is None
    assert await left(opened) == [1000, 3]
    await opened.close()


@pytest.fixture
async def two_nodes() -> AsyncIterator[tuple[Redis, Redis]]:
    """Nodes whose own clocks disagree by half a day."""
    url = redis_url()
    early, late = VirtualClock(time.time() - 20_000), VirtualClock(time.time() + 20_000)
    nodes = (await node(url, "early", early), await node(url, "late", late))
    yield nodes
    for opened in nodes:
        await opened.close()


async def test_nodes_whose_clocks_differ_share_one_bucket(two_nodes: tuple[Redis, Redis]) -> None:
    early, late = two_nodes
    assert await late.rates.reserve((TOKENS,), [600], "call_1", 60) is None
    short = await early.rates.reserve((TOKENS,), [600], "call_2", 60)
    assert short is not None
    assert round(short.available) == 400
    assert await early.rates.reserve((TOKENS,), [400], "call_3", 60) is None
    assert await late.rates.reserve((TOKENS,), [50], "call_4", 60) is not None


async def test_nodes_racing_for_slots_and_tokens_never_take_more_than_there_is(two_nodes: tuple[Redis, Redis]) -> None:
    slots = Limit("slots:lane:race", "slot", 7)
    answers = await asyncio.gather(
        *(
            opened.rates.reserve((TOKENS, slots), [1, 1], f"{place}_{turn}", 60)
            for turn in range(100)
            for place, opened in enumerate(two_nodes)
        )
    )
    assert answers.count(None) == 7
    assert await left(two_nodes[0]) == [993, 3]


async def test_a_slot_of_a_node_that_died_comes_back(two_nodes: tuple[Redis, Redis]) -> None:
    early, late = two_nodes
    assert await early.rates.reserve((SLOTS,), [3], "call_of_the_dead", 0.2) is None
    assert await late.rates.reserve((SLOTS,), [1], "call_1", 60) is not None
    async with asyncio.timeout(30):
        while True:
            if await late.rates.reserve((SLOTS,), [3], "call_2", 60) is None:
                break
            await asyncio.sleep(0.02)


async def test_every_key_is_ours_and_expires() -> None:
    url = redis_url()
    opened = await node(url)
    await opened.rates.reserve(BOTH, [10, 1], "call_1", 60)
    opened.rates.settle(BOTH, [10, 1], [20, 1], "call_1")
    await opened.rates.reserve(BOTH, [10, 1], "call_2", 60)
    await opened.rates.ping()
    async with Client.from_url(url) as client:
        keys = await client.keys("*")
        assert len(keys) >= 4
        for key in keys:
            assert (key if isinstance(key, bytes) else key.encode()).startswith(b"hf1:")
            assert await client.pttl(key) > 0, key
    await opened.close()


async def test_a_redis_cluster_is_refused_by_name() -> None:
    cluster = started_cluster()
    try:
        with pytest.raises(SettingsError, match="Redis Cluster"):
            await node(cluster.url())
    finally:
        cluster.remove()


def started_cluster() -> RedisServer:
    """A cluster's node listens 10,000 ports further up as well, and that one may be taken."""
    for _ in range(5):
        cluster = RedisServer("--cluster-enabled", "yes")
        try:
            cluster.start()
        except RuntimeError:
            cluster.remove()
        else:
            return cluster
    raise RuntimeError("no port for a cluster's node was free in five tries")


async def test_a_replica_is_not_ready(server: RedisServer) -> None:
    opened = await fresh(server)
    async with Client.from_url(server.url()) as client:
        await client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(StoreUnavailableError):
                await opened.rates.ping()
            with pytest.raises(StoreUnavailableError):
                await opened.rates.reserve(BOTH, [10, 1], "call_1", 60)
            with pytest.raises(StoreUnavailableError, match="replica"):
                await node(server.url())
        finally:
            await client.replicaof("NO", "ONE")
    await eventually_reserves(opened, "call_2")
    await opened.close()


async def test_a_wrong_password_and_a_wrong_url_are_not_shown(server: RedisServer) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        await node(server.url().replace(PASSWORD, "not-the-pass-word"))
    assert "not-the-pass-word" not in str(caught.value)
    with pytest.raises(SettingsError) as refused:
        await node("reddis://:s3cret@127.0.0.1:1/0")
    assert "s3cret" not in str(refused.value)


async def test_without_its_driver_the_engine_says_what_to_install() -> None:
    code = """
import asyncio, sys
sys.modules["redis"] = None
from holdfast.engines.redis import open_redis
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import SettingsError
try:
    asyncio.run(open_redis("redis://127.0.0.1:1/0", clock=SystemClock(), node="node-0"))
except SettingsError as error:
    print(error.message)
"""
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    told, _ = await asked.communicate()
    assert "pip install 'holdfast[redis]'" in told.decode()
