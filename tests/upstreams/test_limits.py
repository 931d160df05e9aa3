"""First token, idle and total: each bounds what it says, names itself, and counts nothing that is not its own."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import UpstreamTimeoutError
from holdfast.ports.upstream import Limits
from holdfast.upstreams.deadlines import TICK_SECONDS
from tests.upstreams.provider import (
    STREAM_END,
    STREAM_HEAD,
    Talk,
    Told,
    answering,
    ask,
    chunk,
    serving,
    settled,
    start,
    upstream_to,
    whole,
)

ON_BOTH_LOOPS = True

LIMITS = Limits(connect_seconds=5, first_token_seconds=10, idle_seconds=6, total_seconds=60)
A = b"data: a\n\n"


async def sweeps() -> None:
    """Time enough for what the clock says now to be acted on."""
    await asyncio.sleep(TICK_SECONDS * 3)


def says_slowly(pieces: list[bytes], turn: asyncio.Semaphore) -> Callable[[Talk], Awaitable[None]]:
    """One more piece each time the test lets it."""

    async def handler(talk: Talk) -> None:
        await talk.asked()
        for piece in pieces:
            await turn.acquire()
            await talk.say(piece)
        await talk.left()

    return handler


def timed_out(told: Told, limit: str) -> None:
    assert told.ended is not None
    assert told.ended.outcome == "timeout"
    assert isinstance(told.ended.error, UpstreamTimeoutError)
    assert f"upstream 'acme': the {limit} limit" in told.error
    assert told.ended.sent


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_never_answers_meets_the_first_token_limit(stream: bool) -> None:
    clock = VirtualClock()
    async with serving(answering()) as provider:
        upstream = upstream_to(provider.port, clock=clock)
        told, _ = await start(upstream, stream=stream, limits=LIMITS)
        await clock.advance(9.9)
        await sweeps()
        assert told.ended is None
        await clock.advance(0.2)
        await told.end_comes()
        timed_out(told, "first token")
        assert "10 s" in told.error
        assert "first_token_seconds" in told.error
        await settled(lambda: provider.open_connections == 0)
        await upstream.close()


async def test_the_head_of_a_stream_is_not_its_first_token() -> None:
    clock, turn = VirtualClock(), asyncio.Semaphore(0)
    async with serving(says_slowly([STREAM_HEAD, chunk(A)], turn)) as provider:
        upstream = upstream_to(provider.port, clock=clock)
        told, _ = await start(upstream, stream=True, limits=LIMITS)
        await clock.advance(8)
        turn.release()
        await told.until(lambda: told.status == 200)
        await clock.advance(3)
        await told.end_comes()
        timed_out(told, "first token")
        await upstream.close()


async def test_hints_are_no_answer() -> None:
    clock, turn = VirtualClock(), asyncio.Semaphore(0)
    async with serving(says_slowly([b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 20, turn)) as provider:
        upstream = upstream_to(provider.port, clock=clock)
        told, _ = await start(upstream, limits=LIMITS)
        for _ in range(4):
            turn.release()
            await clock.advance(3)
            await sweeps()
        timed_out(told, "first token")
        await upstream.close()


async def test_a_stream_that_falls_silent_meets_the_idle_limit() -> None:
    clock, turn = VirtualClock(), asyncio.Semaphore(1)
    async with serving(says_slowly([STREAM_HEAD + chunk(A)], turn)) as provider:
        upstream = upstream_to(provider.port, clock=clock)
        told, _ = await start(upstream, stream=True, limits=LIMITS)
        await told.until(lambda: told.frames_told == [A])
        await sweeps()
        await clock.advance(5.9)
        await sweeps()
        assert told.ended is None
        await clock.advance(0.2)
        await told.end_comes()
        timed_out(told, "idle")
        assert "6 s" in told.error
        await upstream.close()


async def test_an_answer_that_stops_half_way_meets_the_idle_limit() -> None:
    clock, turn = VirtualClock(), asyncio.Semaphore(1)
    async with serving(says_slowly([whole(b"x" * 100)[:-50]], turn)) as provider:
        upstream = upstream_to(provider.port, clock=clock)
        told, _ = await start(upstream, limits=LIMITS)
        await told.until(lambda: told.status == 200)
        await sweeps()
        await clock.advance(6.1)
        await told.end_comes()
        timed_out(told, "idle")
        assert "frames" not in told.order
        await upstream.close()


@pytest.mark.parametrize(("every", "limit"), [(5, "total"), (7, "idle")])
async def test_a_drip_of_single_bytes_is_bounded(every: int, limit: str) -> None:
    clock, turn = VirtualClock(), asyncio.Semaphore(0)
    drip = [chunk(A[i % len(A) : i % len(A) + 1]) for i in range(40)]
    async with serving(says_slowly([STREAM_HEAD, *drip], turn)) as provider:
        upstream = upstream_to(provider.port, clock=clock)
        turn.release()
        told, _ = await start(upstream, stream=True, limits=LIMITS)
        for _ in range(40):
            turn.release()
            await sweeps()
            await clock.advance(every)
            await sweeps()
            if told.ended is not None:
                break
        timed_out(told, limit)
        assert clock.monotonic() >= (60 if limit == "total" else 7)
        await upstream.close()


async def test_time_while_paused_is_not_idle_but_counts_towards_the_total() -> None:
    clock, turn = VirtualClock(), asyncio.Semaphore(1)
    async with serving(says_slowly([STREAM_HEAD + chunk(A), chunk(A)], turn)) as provider:
        upstream = upstream_to(provider.port, clock=clock)
        told, exchange = await start(upstream, stream=True, limits=LIMITS)
        await told.until(lambda: told.frames_told == [A])
        exchange.pause()
        await clock.advance(30)
        await sweeps()
        assert told.ended is None
        exchange.resume()
        turn.release()
        await told.until(lambda: told.frames_told == [A, A])
        exchange.pause()
        await clock.advance(31)
        await told.end_comes()
        timed_out(told, "total")
        await upstream.close()


async def test_a_stream_that_ends_in_time_is_left_alone_and_the_sweep_stops() -> None:
    clock = VirtualClock()
    async with serving(answering(STREAM_HEAD + chunk(A) + STREAM_END)) as provider:
        upstream = upstream_to(provider.port, clock=clock)
        told = await ask(upstream, stream=True, limits=LIMITS)
        await clock.advance(1000)
        await settled(lambda: not upstream.pool.deadlines.running)
        assert told.ended is not None
        assert told.ended.outcome == "complete"
        await upstream.close()


async def test_many_that_pass_a_limit_at_once_all_end() -> None:
    clock = VirtualClock()
    async with serving(answering()) as provider:
        upstream = upstream_to(provider.port, clock=clock)
        tolds = [(await start(upstream, limits=LIMITS))[0] for _ in range(50)]
        await clock.advance(11)
        for told in tolds:
            await told.end_comes()
            timed_out(told, "first token")
        assert upstream.pool.open_connections == 0
        await upstream.close()
