"""Streams: frames as they come, their ends, backpressure and cancellation."""

import asyncio
import gzip
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.kernel.errors import StreamInterruptedError, UpstreamProtocolError
from holdfast.ports.upstream import Exchange
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

A, B, C = b'data: {"a":1}\n\n', b"data: b\r\n\r\n", b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


async def test_frames_arrive_as_they_were_spelt_and_the_connection_serves_on() -> None:
    answer = STREAM_HEAD + chunk(A) + chunk(B) + chunk(C + DONE) + STREAM_END
    async with serving(answering(answer, answer)) as provider:
        upstream = upstream_to(provider.port)
        for reused in (False, True):
            told = await ask(upstream, stream=True)
            assert (told.status, told.headers) == (200, [(b"content-type", b"text/event-stream")])
            assert told.frames_told == [A, B, C, DONE]
            assert told.ended is not None
            assert (told.ended.outcome, told.ended.sent, told.ended.reused) == ("complete", True, reused)
        assert provider.connections == 1
        await upstream.close()


async def test_each_event_is_delivered_when_it_comes_not_at_the_end() -> None:
    proceed = asyncio.Event()

    async def waiting(talk: Talk) -> None:
        await talk.asked()
        await talk.say(STREAM_HEAD + chunk(A) + chunk(B[:4]))
        await proceed.wait()
        await talk.say(chunk(B[4:]) + STREAM_END)
        await talk.left()

    async with serving(waiting) as provider:
        upstream = upstream_to(provider.port)
        told, _ = await start(upstream, stream=True)
        await told.until(lambda: told.frames_told == [A])
        proceed.set()
        await told.end_comes()
        assert told.frames_told == [A, B]
        await upstream.close()


async def test_what_comes_together_is_told_in_one_call() -> None:
    async with serving(answering(STREAM_HEAD + chunk(A) + chunk(A) + chunk(A + A) + STREAM_END)) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream, stream=True)
        assert [len(batch) for batch in told.batches] == [4]
        await upstream.close()


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=60), reads=st.lists(st.integers(1, 40), max_size=60))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_by_chunks_and_by_reads_gives_the_same_frames(sizes: list[int], reads: list[int]) -> None:
    stream = (A + B + C + DONE) * 2
    body, at = b"", 0
    for size in sizes:
        body += chunk(stream[at : at + size]) if at < len(stream) else b""
        at += size
    answer = STREAM_HEAD + body + (chunk(stream[at:]) if at < len(stream) else b"") + STREAM_END

    async def run() -> list[bytes]:
        async def pieces(talk: Talk) -> None:
            await talk.asked()
            at = 0
            for size in reads:
                await talk.say(answer[at : at + size])
                await asyncio.sleep(0)
                at += size
            await talk.say(answer[at:])
            await talk.left()

        async with serving(pieces) as provider:
            upstream = upstream_to(provider.port)
            told = await ask(upstream, stream=True)
            await upstream.close()
            return told.frames_told

    assert asyncio.run(run()) == [A, B, C, DONE] * 2


@pytest.mark.parametrize("rest", [b"data: tail", b"data: tail\n", b"data: tail\r\r"])
async def test_what_is_left_at_a_clean_end_is_the_last_frame(rest: bytes) -> None:
    async with serving(answering(STREAM_HEAD + chunk(A + rest) + STREAM_END)) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream, stream=True)
        assert told.frames_told == [A, rest]
        assert told.ended is not None
        assert told.ended.outcome == "complete"
        await upstream.close()


async def test_a_stream_without_a_length_ends_with_its_connection() -> None:
    async def until_the_end(talk: Talk) -> None:
        await talk.asked()
        await talk.say(b"HTTP/1.0 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\n" + A)
        await talk.say(DONE)
        talk.hang_up()

    async with serving(until_the_end) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream, stream=True)
        assert told.frames_told == [A, DONE]
        assert told.ended is not None
        assert told.ended.outcome == "complete"
        await upstream.close()


async def test_an_empty_stream_is_complete_without_a_frame() -> None:
    async with serving(answering(STREAM_HEAD + STREAM_END)) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream, stream=True)
        assert told.order == ["head", "end"]
        await upstream.close()


@pytest.mark.parametrize(
    "answer",
    [
        whole(A, headers=b"content-type: application/json\r\n"),
        whole(A, status=b"500 Oops", headers=b"content-type: text/event-stream\r\n"),
        whole(A, headers=b""),
    ],
    ids=["json", "error status", "no type"],
)
async def test_an_answer_that_is_no_stream_comes_whole(answer: bytes) -> None:
    async with serving(answering(answer)) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream, stream=True)
        assert told.batches == [(A,)]
        await upstream.close()


async def test_a_stream_nobody_asked_for_comes_whole() -> None:
    async with serving(answering(STREAM_HEAD + chunk(A) + chunk(B) + STREAM_END)) as provider:
        upstream = upstream_to(provider.port)
        assert (await ask(upstream)).batches == [(A + B,)]
        await upstream.close()


@pytest.mark.parametrize("how", ["hang up", "reset", "garbage"])
async def test_a_stream_that_breaks_off_says_interrupted_after_what_had_come(how: str) -> None:
    proceed = asyncio.Event()

    async def breaking(talk: Talk) -> None:
        await talk.asked()
        await talk.say(STREAM_HEAD + chunk(A) + chunk(b"data: half"))
        await proceed.wait()
        if how == "hang up":
            talk.hang_up()
        elif how == "reset":
            talk.reset()
        else:
            await talk.say(b"zz\r\n")
            await talk.left()

    async with serving(breaking) as provider:
        upstream = upstream_to(provider.port)
        told, _ = await start(upstream, stream=True)
        await told.until(lambda: told.frames_told == [A])
        proceed.set()
        ended = await told.end_comes()
        assert told.frames_told == [A]
        assert ended.outcome == "broken"
        assert isinstance(ended.error, StreamInterruptedError)
        assert upstream.pool.open_connections == 0
        await upstream.close()


async def test_what_came_before_garbage_in_the_same_read_is_delivered() -> None:
    async with serving(answering(STREAM_HEAD + chunk(A) + b"zz\r\n")) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream, stream=True)
        assert told.frames_told == [A]
        assert told.ended is not None
        assert isinstance(told.ended.error, StreamInterruptedError)
        await upstream.close()


async def test_a_stream_that_breaks_off_before_its_first_frame_was_never_one() -> None:
    async def breaking(talk: Talk) -> None:
        await talk.asked()
        await talk.say(STREAM_HEAD + chunk(b"data: half"))
        talk.hang_up()

    async with serving(breaking) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream, stream=True)
        assert told.order == ["head", "end"]
        assert told.ended is not None
        assert isinstance(told.ended.error, UpstreamProtocolError)
        await upstream.close()


async def test_an_event_that_never_ends_is_refused() -> None:
    async def endless(talk: Talk) -> None:
        await talk.asked()
        await talk.say(STREAM_HEAD)
        while True:
            await talk.say(chunk(b"x" * 65536))

    async with serving(endless) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream, stream=True)
        assert "an event of more than" in told.error
        await settled(lambda: provider.open_connections == 0)
        await upstream.close()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_stream_is_opened_event_by_event(coding: str) -> None:
    proceed = asyncio.Event()
    packer = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
    head = STREAM_HEAD.replace(b"content-type", b"content-encoding: %b\r\ncontent-type" % coding.encode())

    async def packing(talk: Talk) -> None:
        await talk.asked()
        await talk.say(head + chunk(packer.compress(A) + packer.flush(zlib.Z_SYNC_FLUSH)))
        await proceed.wait()
        await talk.say(chunk(packer.compress(DONE) + packer.flush()) + STREAM_END)
        await talk.left()

    async with serving(packing) as provider:
        upstream = upstream_to(provider.port)
        told, _ = await start(upstream, stream=True)
        await told.until(lambda: told.frames_told == [A])
        proceed.set()
        ended = await told.end_comes()
        assert (ended.outcome, told.frames_told) == ("complete", [A, DONE])
        await upstream.close()


@pytest.mark.parametrize("fault", ["bomb", "cut short", "no gzip"])
async def test_a_compressed_stream_that_cannot_be_trusted_is_broken(fault: str) -> None:
    packed = {"bomb": gzip.compress(b"x" * 20_000_000), "cut short": gzip.compress(A)[:-9], "no gzip": A}[fault]
    head = STREAM_HEAD.replace(b"content-type", b"content-encoding: gzip\r\ncontent-type")
    async with serving(answering(head + chunk(packed) + STREAM_END)) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream, stream=True)
        assert told.ended is not None
        assert told.ended.outcome == "broken"
        assert "compressed" in told.error
        assert upstream.pool.open_connections == 0
        await upstream.close()


async def test_a_paused_stream_holds_the_provider_back_and_goes_on_when_resumed() -> None:
    frame = b"data: " + b"x" * 10_000 + b"\n\n"
    said = 0

    async def flooding(talk: Talk) -> None:
        nonlocal said
        await talk.asked()
        await talk.say(STREAM_HEAD)
        while said < 4000:
            said += 1
            await talk.say(chunk(frame))
        await talk.say(STREAM_END)
        await talk.left()

    async with serving(flooding) as provider:
        upstream = upstream_to(provider.port)
        told, exchange = await start(upstream, stream=True)
        await told.until(lambda: bool(told.batches))
        exchange.pause()
        exchange.pause()
        before = len(told.frames_told)
        await asyncio.sleep(0.2)
        assert len(told.frames_told) == before
        assert said < 4000
        exchange.resume()
        exchange.resume()
        await told.end_comes()
        assert len(told.frames_told) == 4000
        await upstream.close()


async def test_a_stream_whose_end_came_with_the_chunk_that_paused_it_leaves_its_connection_usable() -> None:
    class Pausing(Told):
        exchange: Exchange

        def frames(self, frames: Sequence[bytes]) -> None:
            super().frames(frames)
            self.exchange.pause()

    answer = STREAM_HEAD + chunk(A) + STREAM_END
    async with serving(answering(answer, answer)) as provider:
        upstream = upstream_to(provider.port)
        told = Pausing()
        told.exchange = await upstream.send(outgoing(stream=True), told)
        await told.end_comes()
        told.exchange.resume()
        assert (await ask(upstream, stream=True)).frames_told == [A]
        assert provider.connections == 1
        await upstream.close()


async def test_cancelling_closes_the_socket_and_ends_the_exchange_at_once() -> None:
    left = asyncio.Event()

    async def streaming(talk: Talk) -> None:
        await talk.asked()
        await talk.say(STREAM_HEAD + chunk(A))
        await talk.left()
        left.set()

    async with serving(streaming) as provider:
        upstream = upstream_to(provider.port)
        told, exchange = await start(upstream, stream=True)
        await told.until(lambda: bool(told.batches))
        exchange.cancel()
        assert told.ended is not None
        assert (told.ended.outcome, told.ended.error, told.ended.sent) == ("cancelled", None, True)
        exchange.cancel()
        exchange.pause()
        exchange.resume()
        assert told.order == ["head", "frames", "end"]
        async with asyncio.timeout(5):
            await left.wait()
        assert upstream.pool.open_connections == 0
        await upstream.close()


@pytest.mark.parametrize("moment", ["head", "frames"])
async def test_a_sink_may_cancel_from_within_a_call(moment: str) -> None:
    class Leaving(Told):
        exchange: Exchange

        def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
            super().head(status, headers)
            if moment == "head":
                self.exchange.cancel()

        def frames(self, frames: Sequence[bytes]) -> None:
            super().frames(frames)
            self.exchange.cancel()

    async with serving(answering(STREAM_HEAD + chunk(A) + STREAM_END)) as provider:
        upstream = upstream_to(provider.port)
        told = Leaving()
        told.exchange = await upstream.send(outgoing(stream=True), told)
        ended = await told.end_comes()
        assert ended.outcome == "cancelled"
        assert told.order == (["head", "end"] if moment == "head" else ["head", "frames", "end"])
        await settled(lambda: provider.open_connections == 0)
        await upstream.close()


async def test_an_exchange_that_has_ended_cannot_touch_the_next_one_on_its_connection() -> None:
    async with serving(answering(whole(b"1"), whole(b"2"))) as provider:
        upstream = upstream_to(provider.port)
        first, old = await start(upstream)
        await first.end_comes()
        told, _ = await start(upstream)
        old.pause()
        old.cancel()
        assert (await told.end_comes()).outcome == "complete"
        assert provider.connections == 1
        await upstream.close()


@pytest.mark.parametrize("moment", ["head", "frames"])
async def test_a_sink_that_raises_loses_its_connection_and_nobody_elses(
    moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Raising(Told):
        def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
            super().head(status, headers)
            if moment == "head":
                raise LookupError

        def frames(self, frames: Sequence[bytes]) -> None:
            super().frames(frames)
            raise LookupError

    answer = STREAM_HEAD + chunk(A) + STREAM_END
    async with serving(answering(answer, answer)) as provider:
        upstream = upstream_to(provider.port)
        told = Raising()
        await upstream.send(outgoing(stream=True), told)
        assert (await told.end_comes()).outcome == "broken"
        assert "LookupError" in caplog.text
        assert upstream.pool.open_connections == 0
        assert (await ask(upstream, stream=True)).frames_told == [A]
        await upstream.close()
