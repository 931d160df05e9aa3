"""What the upstream client costs: `./dev exec python -m pytest -q -s -p no:randomly tests/benchmarks/bench_upstream.py`.

Over loopback, against a constant server in a child process, in turn with a bare socket that writes the same bytes and parses
nothing: what the client adds is the difference. Without sockets, on canned bytes: what its own code costs.
"""

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from holdfast.dialects.openai.headers import response_name
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.secret import Secret
from holdfast.ports.upstream import Ended, Headers, Limits, Outgoing
from holdfast.upstreams.answer import HeaderNames
from holdfast.upstreams.connection import Connection
from holdfast.upstreams.openai import OpenAIUpstream
from holdfast.upstreams.settings import UpstreamSettings
from tests.benchmarks.constant import ANSWER, CHUNK, STREAM_HEAD

BODY = b'{"model":"mock","messages":[{"role":"user","content":"' + b"x" * 1000 + b'"}]}'
LIMITS = Limits()
ROUNDS = 3


class Counting:
    """The cheapest honest sink."""

    __slots__ = ("batches", "ended", "frames_seen")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[Ended] = loop.create_future()
        self.frames_seen = 0
        self.batches = 0

    def head(self, status: int, headers: Headers) -> None: ...

    def frames(self, frames: Sequence[bytes]) -> None:
        self.frames_seen += len(frames)
        self.batches += 1

    def end(self, ended: Ended) -> None:
        if not self.ended.done():
            self.ended.set_result(ended)


class Bare(asyncio.Protocol):
    """A socket without HTTP: an answer is however many bytes the constant one has."""

    def __init__(self) -> None:
        self.left = 0
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left == 0:
            self.answered.set_result(None)


@pytest.fixture(scope="module")
def constant() -> Iterator[int]:
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "tests/benchmarks/constant.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


def upstream_at(port: int) -> OpenAIUpstream:
    settings = UpstreamSettings(dialect="openai", base_url=f"http://127.0.0.1:{port}/v1", key=Secret("sk-bench"))
    return OpenAIUpstream("bench", settings, clock=SystemClock(), environ={})


def outgoing(path: str = "/chat/completions", *, stream: bool = False) -> Outgoing:
    return Outgoing(path, "mock", BODY, (), stream, LIMITS, "call_1")


async def ask(upstream: OpenAIUpstream, times: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(times):
        sink = Counting(loop)
        await upstream.send(outgoing(), sink)
        assert (await sink.ended).outcome == "complete"


async def ask_bare(port: int, times: int) -> None:
    loop = asyncio.get_running_loop()
    _, bare = await loop.create_connection(Bare, "127.0.0.1", port)
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
    for _ in range(times):
        bare.left = len(ANSWER)
        bare.answered = loop.create_future()
        bare.transport.write(request)
        await bare.answered
    bare.transport.close()


async def relay(upstream: OpenAIUpstream, path: str, sinks: Sequence[Counting]) -> None:
    for sink in sinks:
        await upstream.send(outgoing(path, stream=True), sink)
    for sink in sinks:
        await sink.ended


async def measured(work: Callable[[], Awaitable[object]], units: int) -> tuple[float, float]:
    """Units a second, and microseconds of CPU of this process each."""
    gc.collect()
    began, cpu = time.perf_counter(), time.process_time()
    await work()
    return units / (time.perf_counter() - began), (time.process_time() - cpu) / units * 1e6


@pytest.mark.parametrize("connections", [1, 64])
def test_requests_beside_a_bare_socket(constant: int, connections: int) -> None:
    times = 20_000 // connections

    async def run() -> None:
        upstream = upstream_at(constant)
        await asyncio.gather(*[ask(upstream, 10) for _ in range(connections)])
        for _ in range(ROUNDS):
            bare = await measured(
                lambda: asyncio.gather(*[ask_bare(constant, times) for _ in range(connections)]), times * connections
            )
            ours = await measured(
                lambda: asyncio.gather(*[ask(upstream, times) for _ in range(connections)]), times * connections
            )
            print(
                f"\n{connections:3} connections: client {ours[0]:7.0f}/s {ours[1]:5.1f} µs CPU, "
                f"bare {bare[0]:7.0f}/s {bare[1]:5.1f} µs CPU, "
                f"ratio {ours[0] / bare[0]:.2f}, added {ours[1] - bare[1]:.1f} µs",
                end="",
            )
        await upstream.close()

    uvloop.run(run())


@pytest.mark.parametrize(("streams", "a_write"), [(1, 1), (100, 1), (1, 20)])
def test_chunks(constant: int, streams: int, a_write: int) -> None:
    writes = 40_000 // (streams * a_write)
    path = f"/stream/{writes}/{a_write}"

    async def run() -> None:
        upstream = upstream_at(constant)
        loop = asyncio.get_running_loop()
        for _ in range(ROUNDS):
            sinks = [Counting(loop) for _ in range(streams)]
            rate, cpu = await measured(partial(relay, upstream, path, sinks), writes * a_write * streams)
            batches = sum(sink.batches for sink in sinks)
            frames = sum(sink.frames_seen for sink in sinks)
            assert frames == writes * a_write * streams
            print(
                f"\n{streams:3} streams, {a_write:2} chunks a write: {rate:8.0f} chunks/s, {cpu:4.1f} µs CPU a chunk, "
                f"{frames / batches:4.1f} chunks a read",
                end="",
            )
        await upstream.close()

    uvloop.run(run())


class Nowhere:
    """A transport that takes everything."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None: ...

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> Any:
        return None


def test_our_own_code_on_canned_bytes() -> None:
    async def run() -> None:
        upstream = upstream_at(1)
        pool = upstream.pool
        connection = Connection(pool, "bench", HeaderNames(response_name), 1 << 26)
        connection.connection_made(cast(asyncio.BaseTransport, Nowhere()))
        pool.deadlines.now = time.monotonic()
        pool.release(connection)
        sink = Counting(asyncio.get_running_loop())
        call = outgoing()

        async def exchanges() -> None:
            for _ in range(100_000):
                await upstream.send(call, sink)
                connection.data_received(ANSWER)

        async def chunks(data: bytes) -> None:
            for _ in range(100_000):
                connection.data_received(data)

        for _ in range(ROUNDS):
            _, exchange = await measured(exchanges, 100_000)
            await upstream.send(outgoing("/stream", stream=True), sink)
            connection.data_received(STREAM_HEAD)
            _, alone = await measured(lambda: chunks(CHUNK), 100_000)
            _, four = await measured(lambda: chunks(CHUNK * 4), 400_000)
            connection.data_received(b"0\r\n\r\n")
            print(
                f"\nwithout sockets: {exchange:.2f} µs an exchange, {alone:.2f} µs a chunk that comes alone, "
                f"{four:.2f} µs one of four",
                end="",
            )
        await upstream.close()

    asyncio.run(run())
