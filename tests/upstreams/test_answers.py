"""Answers that are delivered whole: how they may be framed, and what is refused."""

import asyncio
import gzip
import zlib

import pytest

from holdfast.kernel.errors import UpstreamProtocolError
from tests.upstreams.provider import (
    STREAM_END,
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

OK = b"HTTP/1.1 200 OK\r\n"
BODY = b'{"object":"chat.completion","text":"h\xc3\xa9"}'
CHUNKED = OK + b"content-type: application/json\r\ntransfer-encoding: chunked\r\n"
IN_CHUNKS = chunk(BODY[:5]) + chunk(BODY[5:6]) + chunk(BODY[6:])
READABLE = {
    "content-length": whole(BODY),
    "chunked": CHUNKED + b"\r\n" + IN_CHUNKS + STREAM_END,
    "trailers": CHUNKED + b"trailer: x-a\r\n\r\n" + IN_CHUNKS + b"0\r\nx-a: b\r\ncontent-type: text/evil\r\n\r\n",
    "100 first": b"HTTP/1.1 100 Continue\r\n\r\n" + whole(BODY),
    "103 twice": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\ncontent-type: text/evil\r\n\r\n" * 2 + whole(BODY),
    "names in capitals": whole(BODY, headers=b"CONTENT-TYPE: application/json\r\n"),
    "HTTP/1.0 keep-alive": b"HTTP/1.0"
    + whole(BODY, headers=b"content-type: application/json\r\nconnection: keep-alive\r\n")[8:],
    "no reason": b"HTTP/1.1 200\r\n" + whole(BODY).partition(b"\r\n")[2],
}
CODED = b"content-type: application/json\r\ncontent-encoding: "
RAW_DEFLATE = zlib.compressobj(wbits=-15)
PACKED = {
    "gzip": (b"gzip", gzip.compress(BODY)),
    "gzip members": (b"gzip", gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])),
    "x-gzip": (b"X-GZIP", gzip.compress(BODY)),
    "deflate": (b"deflate", zlib.compress(BODY)),
    "bare deflate": (b"deflate", RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush()),
    "identity": (b"identity", BODY),
}
ABSURD = {
    "length and chunked": OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "two lengths": OK + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "no number": OK + b"content-length: many\r\n\r\nabc",
    "other transfer coding": OK + b"transfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "bad chunk size": CHUNKED + b"\r\nzz\r\nabc\r\n0\r\n\r\n",
    "unknown coding": whole(b"abc", headers=b"content-encoding: br\r\n"),
    "broken gzip": whole(b"abc", headers=b"content-encoding: gzip\r\n"),
    "short gzip": whole(gzip.compress(BODY)[:-9], headers=b"content-encoding: gzip\r\n"),
    "garbage": b"SSH-2.0-OpenSSH_9.2\r\n",
    "status 099": b"HTTP/1.1 099 What\r\ncontent-length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 What\r\ncontent-length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 What\r\ncontent-length: 0\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "null in a header": OK + b"x: a\x00b\r\ncontent-length: 0\r\n\r\n",
    "long head": OK + b"x-pad: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "head without an end": OK + b"x-pad: " + b"a" * 200_000,
    "many headers": OK + b"".join(b"x-%d: 1\r\n" % i for i in range(201)) + b"content-length: 0\r\n\r\n",
    "many trailers": CHUNKED + b"\r\n0\r\n" + b"".join(b"x-%d: 1\r\n" % i for i in range(20_000)),
    "hints without an end": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 20_000,
}  # fmt: skip


def is_the_body(told: Told) -> None:
    assert told.order == ["head", "frames", "end"]
    assert told.status == 200
    assert told.headers == [(b"content-type", b"application/json")]
    assert told.batches == [(BODY,)]
    assert told.ended is not None
    assert (told.ended.outcome, told.ended.error, told.ended.sent) == ("complete", None, True)


@pytest.mark.parametrize("answer", READABLE.values(), ids=READABLE)
async def test_an_answer_arrives_whole_however_it_is_framed_and_the_connection_serves_on(answer: bytes) -> None:
    async with serving(answering(answer, answer)) as provider:
        upstream = upstream_to(provider.port)
        is_the_body(await ask(upstream))
        again = await ask(upstream)
        is_the_body(again)
        assert again.ended is not None
        assert again.ended.reused
        assert provider.connections == 1
        await upstream.close()


@pytest.mark.parametrize("answer", READABLE.values(), ids=READABLE)
async def test_an_answer_may_come_byte_by_byte(answer: bytes) -> None:
    async def dripping(talk: Talk) -> None:
        await talk.asked()
        for i in range(len(answer)):
            await talk.say(answer[i : i + 1])
        await talk.left()

    async with serving(dripping) as provider:
        upstream = upstream_to(provider.port)
        is_the_body(await ask(upstream))
        await upstream.close()


@pytest.mark.parametrize(
    "head", [b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\nconnection: close\r\n", OK], ids=["1.0", "close", "unsaid"]
)
async def test_a_body_without_a_length_ends_with_the_connection(head: bytes) -> None:
    async def until_the_end(talk: Talk) -> None:
        await talk.asked()
        await talk.say(head + b"content-type: application/json\r\n\r\n" + BODY[:7])
        await talk.say(BODY[7:])
        talk.hang_up()

    async with serving(until_the_end) as provider:
        upstream = upstream_to(provider.port)
        is_the_body(await ask(upstream))
        is_the_body(await ask(upstream))
        assert provider.connections == 2
        await upstream.close()


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_status_without_a_body_is_one_empty_frame(status: bytes) -> None:
    async with serving(answering(b"HTTP/1.1 " + status + b"\r\n\r\n", whole(BODY))) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream)
        assert told.batches == [(b"",)]
        is_the_body(await ask(upstream))
        assert provider.connections == 1
        await upstream.close()


async def test_an_error_of_the_provider_passes_as_it_came() -> None:
    error = b'{"error":{"message":"slow down"}}'
    headers = b"content-type: application/json\r\nretry-after: 7\r\nset-cookie: a=b\r\n"
    async with serving(answering(whole(error, status=b"429 Too Many Requests", headers=headers))) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream)
        assert (told.status, told.batches) == (429, [(error,)])
        assert told.headers == [(b"content-type", b"application/json"), (b"retry-after", b"7")]
        await upstream.close()


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
async def test_an_answer_that_comes_compressed_all_the_same_is_opened(packed: tuple[bytes, bytes]) -> None:
    coding, body = packed
    async with serving(answering(whole(body, headers=CODED + coding + b"\r\n"))) as provider:
        upstream = upstream_to(provider.port)
        is_the_body(await ask(upstream))
        await upstream.close()


@pytest.mark.parametrize("answer", ABSURD.values(), ids=ABSURD)
async def test_an_absurd_answer_is_refused_and_its_connection_closed(answer: bytes) -> None:
    async def absurd(talk: Talk) -> None:
        await talk.asked()
        await talk.say(answer)
        await talk.left()

    async with serving(absurd) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream)
        assert told.ended is not None
        assert told.ended.outcome == "broken"
        assert isinstance(told.ended.error, UpstreamProtocolError)
        assert told.ended.sent
        assert told.order in (["end"], ["head", "end"])
        assert "upstream 'acme'" in told.error
        await settled(lambda: provider.open_connections == 0)
        assert upstream.pool.open_connections == 0
        await upstream.close()


async def test_an_answer_over_the_bound_is_refused_at_its_announcement() -> None:
    async def announcing(talk: Talk) -> None:
        await talk.asked()
        await talk.say(OK + b"content-length: 5000\r\n\r\n")
        await talk.left()

    async with serving(announcing) as provider:
        upstream = upstream_to(provider.port, max_answer_bytes=4999)
        told = await ask(upstream)
        assert "max_answer_bytes" in told.error
        await settled(lambda: provider.open_connections == 0)
        await upstream.close()


async def test_an_unannounced_answer_over_the_bound_is_refused_as_it_grows() -> None:
    async def growing(talk: Talk) -> None:
        await talk.asked()
        await talk.say(CHUNKED + b"\r\n")
        while True:
            await talk.say(chunk(b"x" * 1000))

    async with serving(growing) as provider:
        upstream = upstream_to(provider.port, max_answer_bytes=100_000)
        told = await ask(upstream)
        assert "max_answer_bytes" in told.error
        assert told.order == ["head", "end"]
        await settled(lambda: provider.open_connections == 0)
        await upstream.close()


async def test_a_compressed_bomb_is_refused() -> None:
    bomb = whole(gzip.compress(b"x" * 5_000_000), headers=CODED + b"gzip\r\n")
    async with serving(answering(bomb)) as provider:
        upstream = upstream_to(provider.port, max_answer_bytes=1_000_000)
        told = await ask(upstream)
        assert "opens to more than 1000000 bytes" in told.error
        assert told.order == ["head", "end"]
        await upstream.close()


async def test_an_answer_exactly_at_the_bound_passes() -> None:
    body = b"x" * 4096
    compressed = whole(gzip.compress(body), headers=CODED + b"gzip\r\n")
    plain = whole(body)
    in_chunks = CHUNKED + b"\r\n" + chunk(body) + STREAM_END
    async with serving(answering(plain, in_chunks, compressed)) as provider:
        upstream = upstream_to(provider.port, max_answer_bytes=4096)
        for _ in range(3):
            assert (await ask(upstream)).batches == [(body,)]
        await upstream.close()


@pytest.mark.parametrize("cut", [0, 9, 20, -20, -1], ids=["nothing", "status", "headers", "body", "last byte"])
@pytest.mark.parametrize("answer", [whole(BODY), READABLE["chunked"]], ids=["length", "chunked"])
async def test_an_answer_that_breaks_off_is_broken_and_never_taken_for_whole(answer: bytes, cut: int) -> None:
    async def breaking_off(talk: Talk) -> None:
        await talk.asked()
        await talk.say(answer[:cut])
        talk.hang_up()

    async with serving(breaking_off) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream)
        assert told.ended is not None
        assert (told.ended.outcome, told.ended.sent, told.ended.reused) == ("broken", True, False)
        assert isinstance(told.ended.error, UpstreamProtocolError)
        assert "frames" not in told.order
        assert upstream.pool.open_connections == 0
        await upstream.close()


async def test_an_answer_before_the_whole_request_was_taken_is_delivered_and_the_connection_closed() -> None:
    async def hasty(talk: Talk) -> None:
        await talk.head()
        await talk.say(whole(b"too large", status=b"413 Content Too Large"))
        await talk.left()

    async with serving(hasty) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream, body=b"x" * 30_000_000)
        assert (told.status, told.batches) == (413, [(b"too large",)])
        await settled(lambda: provider.open_connections == 0)
        assert upstream.pool.open_connections == 0
        await upstream.close()


async def test_a_request_that_did_not_leave_whole_is_said_not_to_be_sent() -> None:
    async def deaf(talk: Talk) -> None:
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with serving(deaf) as provider:
        upstream = upstream_to(provider.port)
        told, exchange = await start(upstream, body=b"x" * 30_000_000)
        await settled(lambda: provider.open_connections == 1)
        exchange.cancel()
        assert told.ended is not None
        assert (told.ended.outcome, told.ended.error, told.ended.sent) == ("cancelled", None, False)
        await upstream.close()
