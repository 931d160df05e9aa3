"""The stream client sees every chunk that is lost, doubled, misplaced or another's, and the pacer makes none of them."""

import re
import socket
import time
from collections.abc import Callable

import msgspec
import pytest

from holdfast.tools.bench.children import Children, python
from holdfast.tools.bench.chunks import Dechunker, StreamCheck, closing, framed, opening, pattern
from holdfast.tools.bench.load import Generator, LoadPlan
from holdfast.tools.bench.readers import Readers, ReadersPlan
from holdfast.tools.bench.wire import AnswerReader, address_of
from tests.tools.mock import Answers, serving, whole


def script(body: bytes) -> list[bytes]:
    """The stream an honest upstream gives for this request: opening, chunks, closing, each one chunk of HTTP."""
    marked = re.search(rb"call-(\d{12})", body)
    assert marked is not None
    number, chunks = int(marked.group(1)), msgspec.json.decode(body)["max_tokens"]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + opening(number)
    return [
        head,
        *(pattern(number) % (place, time.monotonic_ns()) for place in range(chunks)),
        closing(number, chunks, False),
    ]


def read(answers: Answers) -> dict[str, int]:
    """What the stream client says is broken after three streams."""
    with serving(answers) as (address, _):
        result = Readers(ReadersPlan(address, streams=3, seconds=0.05, ramp_per_second=1000.0, first_number=7)).run()
    names = ("lost", "duplicated", "reordered", "foreign", "unended", "errors")
    return {name: getattr(result, name) for name in names if getattr(result, name)}


def spoilt(spoil: Callable[[list[bytes]], list[bytes]]) -> Answers:
    """The second stream is spoilt, the others are honest."""
    return lambda n, body: spoil(script(body)) if n == 2 else script(body)


def of_a_stranger(pieces: list[bytes]) -> list[bytes]:
    return [*pieces[:5], pattern(999) % (4, time.monotonic_ns()), *pieces[6:]]


def again(pieces: list[bytes]) -> list[bytes]:
    return [*pieces[:5], pieces[4], *pieces[5:]]


def swapped(pieces: list[bytes]) -> list[bytes]:
    return [*pieces[:5], pieces[6], pieces[5], *pieces[7:]]


def test_an_honest_stream_is_whole() -> None:
    assert read(lambda n, body: script(body)) == {}


@pytest.mark.parametrize("size", [1, 7, 100, 301])
def test_a_stream_cut_anywhere_is_whole(size: int) -> None:
    pieces = b"".join((opening(3), *(pattern(3) % (place, 5) for place in range(4)), closing(3, 4, True)))
    body, check, times = Dechunker(), StreamCheck(3, 4), []
    for start in range(0, len(pieces), size):
        times += check.feed(body.feed(pieces[start : start + size]))
    assert body.ended
    assert times == [5, 5, 5, 5]
    assert (check.lost, check.duplicated, check.reordered, check.foreign, check.done) == (0, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("spoil", "broken"),
    [
        (lambda pieces: [*pieces[:5], *pieces[6:]], {"lost": 1}),
        (lambda pieces: [*pieces[:-2], pieces[-1]], {"lost": 1}),
        (again, {"duplicated": 1}),
        (swapped, {"reordered": 1}),
        (of_a_stranger, {"foreign": 1, "lost": 1}),
        (lambda pieces: [*pieces[:-1], b"0\r\n\r\n"], {"unended": 1}),
        (lambda pieces: [*pieces[:-1], framed(b"data: [DONE]\n\n"), pieces[-1]], {"unended": 1}),
    ],
    ids=["dropped", "last dropped", "duplicated", "reordered", "of another stream", "no DONE", "two DONE"],
)
def test_the_stream_checker_sees(spoil: Callable[[list[bytes]], list[bytes]], broken: dict[str, int]) -> None:
    assert read(spoilt(spoil)) == broken


def test_the_stream_checker_sees_a_cut_and_a_refusal() -> None:
    cut = read(spoilt(lambda pieces: [*pieces[:5], b""]))
    assert cut["errors"] == cut["unended"] == 1
    assert cut["lost"] > 1
    refused = read(lambda n, body: [whole(b"no", b"429 No")])
    assert refused["errors"] == refused["unended"] == 3


def test_the_pacer_gives_every_stream_its_chunks_and_answers_the_rest() -> None:
    with Children() as children:
        line = children.start("pacer", python("holdfast.tools.bench.pacer", "--rate", "200")).first_line()
        address = address_of(msgspec.json.decode(line)["url"])
        plan = ReadersPlan(address, streams=20, seconds=0.2, chunks_per_second=200.0, ramp_per_second=1000.0)
        result = Readers(plan).run()
        assert result.broken == 0
        assert result.expected == 20 * plan.chunks
        assert result.chunks > 0
        assert 0 < result.p50_ms <= result.p99_ms <= result.max_ms
        assert Generator(LoadPlan(address, connections=2, calls=50, warm_seconds=0.0)).run().errors == 0


def test_the_pacer_withholds_the_usage_nobody_asked_for_and_refuses_nonsense() -> None:
    with Children() as children:
        line = children.start("pacer", python("holdfast.tools.bench.pacer", "--rate", "1000")).first_line()
        url = urlsplit_port(msgspec.json.decode(line)["url"])
        asked = {"model": "m", "stream": True, "max_tokens": 2}
        assert b'"usage"' not in post(url, msgspec.json.encode(asked))
        assert b'"completion_tokens":2' in post(
            url, msgspec.json.encode({**asked, "stream_options": {"include_usage": True}})
        )
        assert b" 400 " in post(url, b"[")


def urlsplit_port(url: str) -> int:
    return int(url.rpartition(":")[2])


def post(port: int, body: bytes) -> bytes:
    """All a server says until the body's end."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        said, reader = b"", AnswerReader()
        while data := connection.recv(65536):
            said += data
            if reader.feed(data):
                break
    return said
