"""Each fault of the table, seen over a socket, streaming and not."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.edge.sim import FAULTS
from tests.journeys.simulator import CHAT, Simulator, chat, read_until, simulator, spelt

SEEN_ELSEWHERE = {"none": "every other test", "tls_refused": "tests/journeys/test_sim.py: it is a port's"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with simulator() as running:
        yield running


@pytest.fixture
def sim(shared: Simulator) -> Simulator:
    shared.reset()
    return shared


class Seen:
    """What one call looked like from outside: status, headers, body without its chunks, and how the connection ended."""

    def __init__(self, sim: Simulator, fault: str, *, stream: bool, silent_after: int | None = None) -> None:
        """`silent_after`: once so many tokens of a stream, or bytes of a body, are there, silence is expected."""
        usage = {"include_usage": True} if stream else None
        request = chat("scripted?tokens=4", stream=stream, stream_options=usage)
        self.raw = b""
        self.ended = "closed"
        with sim.connect() as held:
            held.sendall(spelt(CHAT, request, headers=f"X-Sim-Fault: {fault}\r\n"))
            try:
                while (
                    part := held.recv(65536)
                    if silent_after is None or not self._has(silent_after)
                    else self._linger(held)
                ):
                    self.raw += part
            except TimeoutError:
                self.ended = "silent"
            except ConnectionResetError:
                self.ended = "reset"
        head, _, rest = self.raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1]) if self.raw else 0
        self.headers = dict(line.split(": ", 1) for line in lines[1:])
        self.chunked = "transfer-encoding" in self.headers
        self.body, self.whole = (
            unchunked(rest) if self.chunked else (rest, len(rest) == int(self.headers.get("content-length", -1)))
        )

    def _has(self, wanted: int) -> bool:
        head, _, rest = self.raw.partition(b"\r\n\r\n")
        return (rest.count(b'"delta":{"content":') if b"event-stream" in head else len(rest)) >= wanted

    @staticmethod
    def _linger(held: socket.socket) -> bytes:
        held.settimeout(0.15)
        return held.recv(65536)

    @property
    def events(self) -> list[str]:
        return [event.removeprefix("data: ") for event in self.body.decode().split("\n\n") if event]

    @property
    def tokens(self) -> int:
        return sum(1 for event in self.events if '"delta":{"content":' in event and '"finish_reason":null}]' in event)

    @property
    def answer(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded


def unchunked(rest: bytes) -> tuple[bytes, bool]:
    """The chunks' contents, and whether the last chunk came."""
    body = b""
    while rest:
        size, mark, rest = rest.partition(b"\r\n")
        if not mark:
            return body, False
        length = int(size, 16)
        if length == 0:
            return body, rest == b"\r\n"
        body += rest[:length]
        if len(rest) < length + 2:
            return body, False
        rest = rest[length + 2 :]
    return body, False


def test_every_fault_is_seen_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert set(FAULTS) - set(SEEN_ELSEWHERE) <= tested


@pytest.mark.parametrize("stream", [True, False])
def test_status(sim: Simulator, stream: bool) -> None:
    limited = Seen(sim, "429; retry_after=2", stream=stream)
    assert (limited.status, limited.headers["retry-after"], limited.whole) == (429, "2", True)
    assert limited.answer["error"]["code"] == "rate_limit_exceeded"
    for status in (500, 502, 503, 529):
        failed = Seen(sim, str(status), stream=stream)
        assert (failed.status, failed.answer["error"]["type"], failed.whole) == (status, "server_error", True)
    counted = sim.calls()
    assert (counted["total"], counted["refused"], counted["prompt_tokens"], counted["completion_tokens"]) == (
        5,
        5,
        0,
        0,
    )


@pytest.mark.parametrize("stream", [True, False])
def test_context_length_exceeded(sim: Simulator, stream: bool) -> None:
    refused = Seen(sim, "context_length_exceeded", stream=stream)
    assert (refused.status, refused.answer["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("stream", [True, False])
def test_hang(sim: Simulator, stream: bool) -> None:
    seen = Seen(sim, "hang", stream=stream, silent_after=0)
    assert (seen.raw, seen.ended) == (b"", "silent")
    assert sim.calls_when(lambda calls: calls["open"] == 0)["completion_tokens"] == 0


def test_stall(sim: Simulator) -> None:
    stream = Seen(sim, "stall; after=3", stream=True, silent_after=3)
    assert (stream.ended, stream.tokens, stream.whole) == ("silent", 3, False)
    body = Seen(sim, "stall; after=3", stream=False, silent_after=1)
    assert (body.ended, body.whole) == ("silent", False)
    assert len(body.body) == int(body.headers["content-length"]) // 2
    assert sim.calls_when(lambda calls: calls["open"] == 0)["completion_tokens"] == 6


def test_cut(sim: Simulator) -> None:
    stream = Seen(sim, "cut; after=3", stream=True)
    assert (stream.ended, stream.tokens, stream.whole) == ("closed", 3, False)
    assert not stream.body.endswith(b"\n\n")
    assert stream.events[-1].startswith('{"id"')
    body = Seen(sim, "cut", stream=False)
    assert (body.ended, body.whole) == ("closed", False)
    assert 0 < len(body.body) < int(body.headers["content-length"])


def test_reset(sim: Simulator) -> None:
    for stream in (True, False):
        at_once = Seen(sim, "reset", stream=stream)
        assert (at_once.raw, at_once.ended) == (b"", "reset")
    later = Seen(sim, "reset; after=3", stream=True)
    assert (later.ended, later.tokens, later.whole) == ("reset", 3, False)
    body = Seen(sim, "reset; after=3", stream=False)
    assert (body.ended, body.status, body.whole) == ("reset", 200, False)


def test_truncate(sim: Simulator) -> None:
    stream = Seen(sim, "truncate; after=3", stream=True)
    assert (stream.whole, stream.tokens, len(stream.events)) == (True, 3, 4)
    body = Seen(sim, "truncate; after=3", stream=False)
    assert body.whole
    assert body.answer["choices"][0]["finish_reason"] is None
    assert len(body.answer["choices"][0]["message"]["content"]) == 12


def test_error_event(sim: Simulator) -> None:
    stream = Seen(sim, "error_event; after=3", stream=True)
    assert (stream.status, stream.whole, stream.tokens) == (200, True, 3)
    assert json.loads(stream.events[-1])["error"]["type"] == "server_error"
    body = Seen(sim, "error_event; after=3", stream=False)
    assert (body.status, body.answer["error"]["type"]) == (500, "server_error")


def test_drip(sim: Simulator) -> None:
    for stream in (True, False):
        request = spelt(
            CHAT, chat("scripted?tokens=4", stream=stream), headers="X-Sim-Fault: drip; drip_bytes=7; drip_ms=1\r\n"
        )
        pieces = 0
        with sim.connect() as held:
            held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            held.sendall(request)
            while held.recv(65536):
                pieces += 1
        assert pieces > 20
        dripped = Seen(sim, "drip; drip_bytes=100; drip_ms=0", stream=stream)
        straight = Seen(sim, "none", stream=stream)
        assert dripped.whole
        assert len(dripped.events) == len(straight.events)


def test_empty(sim: Simulator) -> None:
    stream = Seen(sim, "empty", stream=True)
    assert (stream.whole, stream.tokens, stream.events[-1]) == (True, 0, "[DONE]")
    assert json.loads(stream.events[-2])["usage"]["completion_tokens"] == 0
    body = Seen(sim, "empty", stream=False)
    assert body.answer["choices"][0] | {"logprobs": 0} == {
        "index": 0,
        "message": {"role": "assistant", "content": "", "refusal": None, "annotations": []},
        "logprobs": 0,
        "finish_reason": "stop",
    }
    assert sim.calls()["completion_tokens"] == 0


@pytest.mark.parametrize("stream", [True, False])
def test_blank(sim: Simulator, stream: bool) -> None:
    seen = Seen(sim, "blank", stream=stream)
    assert (seen.status, seen.body, seen.whole, seen.headers["content-length"]) == (200, b"", True, "0")


def test_junk(sim: Simulator) -> None:
    stream = Seen(sim, "junk; after=3", stream=True)
    assert (stream.status, stream.whole, stream.tokens) == (200, True, 3)
    body = Seen(sim, "junk", stream=False)
    assert (body.status, body.whole) == (200, True)
    for junk in (stream.events[-2], body.body):
        with pytest.raises(json.JSONDecodeError):
            json.loads(junk)


def test_wrong_model(sim: Simulator) -> None:
    models = {json.loads(event)["model"] for event in Seen(sim, "wrong_model", stream=True).events[:-1]}
    assert models == {Seen(sim, "wrong_model", stream=False).answer["model"]} == {"another-model"}


def test_duplicate(sim: Simulator) -> None:
    stream = Seen(sim, "duplicate; after=2", stream=True)
    straight = Seen(sim, "none", stream=True)
    assert stream.whole
    assert (stream.tokens, straight.tokens) == (5, 4)
    assert stream.events[1 + 2] == stream.events[1 + 3]
    assert sim.calls()["completion_tokens"] == 8
    assert Seen(sim, "duplicate", stream=False).whole


def test_no_usage(sim: Simulator) -> None:
    assert not any('"usage":{' in event for event in Seen(sim, "no_usage", stream=True).events)
    assert "usage" not in Seen(sim, "no_usage", stream=False).answer


def test_content_filter(sim: Simulator) -> None:
    stream = Seen(sim, "content_filter; after=2", stream=True)
    assert stream.tokens == 2
    assert json.loads(stream.events[-3])["choices"][0]["finish_reason"] == "content_filter"
    body = Seen(sim, "content_filter; after=2", stream=False).answer
    assert body["choices"][0]["finish_reason"] == "content_filter"
    assert body["usage"]["completion_tokens"] == 2


def test_faults_of_embeddings(sim: Simulator) -> None:
    raw = {"model": "scripted-embedding", "input": ["a"], "dimensions": 16}
    for fault, status in (
        ("429", b"429"),
        ("junk", b"200"),
        ("wrong_model", b"200"),
        ("empty", b"200"),
        ("cut", b"200"),
    ):
        answer = sim.talk(spelt("/v1/embeddings", raw, headers=f"X-Sim-Fault: {fault}\r\n"))
        assert answer.split(b" ")[1] == status
    with sim.connect() as held:
        held.sendall(spelt("/v1/embeddings", raw, headers="X-Sim-Fault: drip; drip_bytes=3; drip_ms=0\r\n"))
        assert b'"total_tokens":1' in read_until(held, b"}}")
