"""Connections: reused while they can be, never shared, never lost, never more than allowed."""

import asyncio
import gc
from typing import Any

import pytest

from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import UpstreamConnectError, UpstreamError, UpstreamProtocolError, UpstreamTimeoutError
from holdfast.ports.upstream import Exchange, Limits
from holdfast.upstreams.connection import Connection, HttpExchange
from tests.upstreams.provider import (
    STREAM_END,
    STREAM_HEAD,
    Talk,
    Told,
    answering,
    ask,
    chunk,
    outgoing,
    serving,
    settled,
    start,
    upstream_to,
    whole,
)

ON_BOTH_LOOPS = True

IMPATIENT = Limits(connect_seconds=0.1)


async def serve_forever(talk: Talk) -> None:
    while True:
        asked = await talk.asked()
        await talk.say(whole(asked.body))


async def test_the_connection_used_last_is_used_first_and_the_others_grow_old() -> None:
    ports: list[int] = []

    async def telling(talk: Talk) -> None:
        while True:
            await talk.asked()
            ports.append(talk.writer.get_extra_info("peername")[1])
            await asyncio.sleep(0.02)
            await talk.say(whole(b"{}"))

    async with serving(telling) as provider:
        upstream = upstream_to(provider.port)
        await asyncio.gather(*[ask(upstream) for _ in range(3)])
        assert provider.connections == upstream.pool.idle_connections == 3
        del ports[:]
        for _ in range(4):
            await ask(upstream)
        assert len(set(ports)) == 1
        await upstream.close()


async def test_answers_never_cross_when_many_share_few_connections() -> None:
    async with serving(serve_forever) as provider:
        upstream = upstream_to(provider.port, max_connections=8)

        async def one(number: int) -> None:
            for turn in range(25):
                body = b"%d/%d" % (number, turn)
                assert (await ask(upstream, body=body)).batches == [(body,)]

        await asyncio.gather(*[one(number) for number in range(40)])
        assert provider.connections <= 8
        assert upstream.pool.open_connections == upstream.pool.idle_connections <= 8
        await upstream.close()
        await settled(lambda: provider.open_connections == 0)


@pytest.mark.parametrize(
    "leftover",
    [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged", b"HTT", b"junk"],
    ids=["answer", "part of one", "junk"],
)
async def test_bytes_after_an_answer_are_never_the_next_answer(leftover: bytes) -> None:
    async with serving(answering(whole(b"mine") + leftover)) as provider:
        upstream = upstream_to(provider.port)
        for _ in range(2):
            assert (await ask(upstream)).batches == [(b"mine",)]
        assert provider.connections == 2
        await upstream.close()


async def test_bytes_on_an_idle_connection_close_it() -> None:
    spoken = asyncio.Event()

    async def speaking(talk: Talk) -> None:
        await talk.asked()
        await talk.say(whole(b"mine"))
        await spoken.wait()
        await talk.say(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        await talk.left()

    async with serving(speaking) as provider:
        upstream = upstream_to(provider.port)
        await ask(upstream)
        assert upstream.pool.idle_connections == 1
        spoken.set()
        await settled(lambda: upstream.pool.open_connections == 0)
        assert (await ask(upstream)).batches == [(b"mine",)]
        assert provider.connections == 2
        await upstream.close()


async def test_an_idle_connection_the_provider_closed_is_not_used_again() -> None:
    async def leaving(talk: Talk) -> None:
        await talk.asked()
        await talk.say(whole(b"1"))
        talk.hang_up()

    async with serving(leaving) as provider:
        upstream = upstream_to(provider.port)
        for _ in range(5):
            told = await ask(upstream)
            assert told.ended is not None
            assert not told.ended.reused
            await settled(lambda: upstream.pool.open_connections == 0)
        assert provider.connections == 5
        await upstream.close()


@pytest.mark.parametrize("says", ["connection: close", "HTTP/1.0"])
async def test_a_connection_the_provider_will_not_keep_is_not_kept(says: str) -> None:
    answer = (
        whole(b"1", headers=b"connection: close\r\n") if says != "HTTP/1.0" else whole(b"1").replace(b"1.1", b"1.0", 1)
    )
    async with serving(answering(answer)) as provider:
        upstream = upstream_to(provider.port)
        assert (await ask(upstream)).batches == [(b"1",)]
        assert upstream.pool.open_connections == 0
        await settled(lambda: provider.open_connections == 0)
        await upstream.close()


async def test_a_stale_connection_that_dies_on_use_says_that_it_was_reused() -> None:
    async def once(talk: Talk) -> None:
        await talk.asked()
        await talk.say(whole(b"1"))
        await talk.asked()
        talk.reset()

    async with serving(once) as provider:
        upstream = upstream_to(provider.port)
        await ask(upstream)
        told = await ask(upstream)
        assert told.ended is not None
        assert (told.ended.outcome, told.ended.sent, told.ended.reused) == ("broken", True, True)
        assert isinstance(told.ended.error, UpstreamProtocolError)
        assert told.order == ["end"]
        await upstream.close()


async def test_an_idle_connection_is_closed_when_it_is_old() -> None:
    async with serving(serve_forever) as provider:
        upstream = upstream_to(provider.port, idle_connection_seconds=0.05)
        await ask(upstream)
        assert upstream.pool.idle_connections == 1
        await settled(lambda: provider.open_connections == 0)
        assert upstream.pool.open_connections == 0
        await upstream.close()


async def test_an_idle_connection_too_old_is_not_used_even_before_it_is_closed() -> None:
    clock = VirtualClock()
    async with serving(serve_forever) as provider:
        upstream = upstream_to(provider.port, clock=clock, idle_connection_seconds=30)
        await ask(upstream)
        await clock.advance(29)
        await ask(upstream)
        assert provider.connections == 1
        await clock.advance(31)
        await ask(upstream)
        assert provider.connections == 2
        await upstream.close()


async def test_no_more_idle_connections_are_kept_than_allowed() -> None:
    async with serving(serve_forever) as provider:
        upstream = upstream_to(provider.port, max_idle_connections=2)
        await asyncio.gather(*[ask(upstream) for _ in range(6)])
        assert upstream.pool.idle_connections == upstream.pool.open_connections == 2
        await settled(lambda: provider.open_connections == 2)
        await upstream.close()


@pytest.mark.parametrize("zero", [{"max_idle_connections": 0}, {"idle_connection_seconds": 0}], ids=str)
async def test_zero_keeps_none(zero: dict[str, Any]) -> None:
    async with serving(serve_forever) as provider:
        upstream = upstream_to(provider.port, **zero)
        await ask(upstream)
        await ask(upstream)
        assert (provider.connections, upstream.pool.open_connections) == (2, 0)
        await upstream.close()


async def test_whoever_finds_no_place_waits_in_line_and_is_served() -> None:
    async with serving(serve_forever) as provider:
        upstream = upstream_to(provider.port, max_connections=1)
        tolds = await asyncio.gather(*[ask(upstream, body=b"%d" % i) for i in range(20)])
        assert [told.batches for told in tolds] == [[(b"%d" % i,)] for i in range(20)]
        assert provider.connections == 1
        await upstream.close()


async def test_waiting_for_a_place_counts_as_connecting_and_names_the_limit() -> None:
    async with serving(answering()) as provider:
        upstream = upstream_to(provider.port, max_connections=1)
        _, exchange = await start(upstream)
        with pytest.raises(UpstreamTimeoutError, match=r"connect limit of 0\.1 s.*one of its 1 connections"):
            await start(upstream, limits=IMPATIENT)
        exchange.cancel()
        _, exchange = await start(upstream, limits=IMPATIENT)
        exchange.cancel()
        await upstream.close()


async def test_a_place_that_comes_free_by_a_broken_exchange_goes_to_the_next_in_line() -> None:
    async def breaking(talk: Talk) -> None:
        await talk.asked()
        talk.reset()

    async with serving(breaking) as provider:
        upstream = upstream_to(provider.port, max_connections=1)
        tolds = await asyncio.gather(*[ask(upstream) for _ in range(5)])
        assert all(told.ended is not None and told.ended.outcome == "broken" for told in tolds)
        assert provider.connections == 5
        assert upstream.pool.open_connections == 0
        await upstream.close()


async def test_a_place_handed_to_somebody_who_just_gave_up_is_not_lost() -> None:
    async with serving(serve_forever) as provider:
        upstream = upstream_to(provider.port, max_connections=1)
        for freed_by in ("cancel", "answer"):
            told, exchange = await start(upstream)
            waiting = [asyncio.ensure_future(ask(upstream)) for _ in range(3)]
            await asyncio.sleep(0)
            if freed_by == "cancel":
                exchange.cancel()
            else:
                await told.end_comes()
            waiting[0].cancel()
            waiting[2].cancel()
            served = await waiting[1]
            assert served.ended is not None
            assert served.ended.outcome == "complete"
            await asyncio.gather(*waiting, return_exceptions=True)
        assert upstream.pool.open_connections == upstream.pool.idle_connections == 1
        await upstream.close()


async def test_a_dial_that_is_cancelled_gives_its_place_back() -> None:
    async with serving(answering()) as provider:
        upstream = upstream_to(provider.port, max_connections=1)
        for _ in range(20):
            dialling = asyncio.ensure_future(start(upstream))
            await asyncio.sleep(0)
            dialling.cancel()
            await asyncio.gather(dialling, return_exceptions=True)
        await settled(lambda: upstream.pool.open_connections == 0)
        _, exchange = await start(upstream, limits=IMPATIENT)
        exchange.cancel()
        await upstream.close()


async def test_closing_lets_busy_exchanges_end_closes_idle_connections_and_refuses_new_ones() -> None:
    proceed = asyncio.Event()

    async def slow(talk: Talk) -> None:
        asked = await talk.asked()
        if asked.body == b"slow":
            await talk.say(STREAM_HEAD + chunk(b"data: a\n\n"))
            await proceed.wait()
            await talk.say(STREAM_END)
        else:
            await talk.say(whole(b"{}"))
        await talk.left()

    async with serving(slow) as provider:
        upstream = upstream_to(provider.port, max_connections=2)
        busy, _ = await start(upstream, stream=True, body=b"slow")
        await ask(upstream)
        other, exchange = await start(upstream, body=b"slow")
        waiting = asyncio.ensure_future(start(upstream))
        await asyncio.sleep(0.01)
        await upstream.close()
        with pytest.raises(UpstreamConnectError, match="takes no new requests"):
            await waiting
        with pytest.raises(UpstreamConnectError, match="takes no new requests"):
            await start(upstream)
        exchange.cancel()
        proceed.set()
        assert (await busy.end_comes()).outcome == "complete"
        assert (await other.end_comes()).outcome == "cancelled"
        await settled(lambda: provider.open_connections == 0)
        assert upstream.pool.open_connections == 0


async def test_ten_thousand_exchanges_leave_nothing_behind() -> None:
    """Answers, streams, errors, cancellations and broken connections, as they come."""
    before = alive()

    async def mixed(talk: Talk) -> None:
        while True:
            asked = await talk.asked()
            kind = int(asked.body) % 20
            if kind == 0:
                talk.reset()
                return
            if kind == 1:
                await talk.say(STREAM_HEAD + chunk(b"data: a\n\n"))
            elif kind == 2:
                await talk.say(b"garbage")
            elif kind < 6:
                await talk.say(STREAM_HEAD + chunk(b"data: a\n\n") * 3 + STREAM_END)
            else:
                await talk.say(whole(b"{}"))

    async with serving(mixed) as provider:
        upstream = upstream_to(provider.port, max_connections=30)
        ends: list[str] = []

        async def one(number: int) -> None:
            for turn in range(number, 10_000, 40):
                told = Told()
                exchange: Exchange = await upstream.send(outgoing(stream=True, body=b"%d" % turn), told)
                if turn % 20 == 1:
                    await told.until(lambda told=told: bool(told.batches))  # type: ignore[misc]
                    exchange.cancel()
                ends.append((await told.end_comes()).outcome)

        await asyncio.gather(*[one(number) for number in range(40)])
        assert {outcome: ends.count(outcome) for outcome in set(ends)} == {
            "complete": 8500,
            "broken": 1000,
            "cancelled": 500,
        }
        assert upstream.pool.open_connections == upstream.pool.idle_connections <= 30
        await upstream.close()
        await settled(lambda: provider.open_connections == 0)
        assert upstream.pool.open_connections == 0
        assert not upstream.pool.deadlines.open
    await settled(lambda: not upstream.pool.deadlines.running)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert alive() <= before


def alive() -> int:
    gc.collect()
    return sum(isinstance(thing, Connection | HttpExchange) for thing in gc.get_objects())


async def test_a_connection_refused_is_said_so_and_takes_no_place() -> None:
    async with serving(serve_forever) as provider:
        port = provider.port
    upstream = upstream_to(port, max_connections=1)
    for _ in range(3):
        with pytest.raises(
            UpstreamError, match=r"upstream 'acme': TCP: cannot connect to 127\.0\.0\.1:\d+: Connection refused"
        ):
            await start(upstream)
    assert upstream.pool.open_connections == 0
    await upstream.close()
