"""A provider for tests: a raw socket server that answers, byte for byte, as a test says; and the sink that listens."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.secret import Secret
from holdfast.ports.upstream import Ended, Exchange, Headers, Limits, Outgoing
from holdfast.upstreams.openai import OpenAIUpstream
from holdfast.upstreams.settings import UpstreamSettings

PATIENCE_SECONDS = 20.0
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes, *, status: bytes = b"200 OK", headers: bytes = b"content-type: application/json\r\n") -> bytes:
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


class Talk:
    """One connection, seen from the provider."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> Asked:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines[1:] if line]
        headers = dict(pairs)
        assert len(headers) == len(pairs), f"a header was sent twice: {lines}"
        return Asked(lines[0], headers, b"")

    async def asked(self) -> Asked:
        head = await self.head()
        body = await self.reader.readexactly(int(head.headers.get("content-length", "0")))
        return Asked(head.line, head.headers, body)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def left(self) -> None:
        """Returns when the client has closed the connection."""
        while True:
            try:
                if not await self.reader.read(65536):
                    return
            except ConnectionError:
                return

    def hang_up(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


Handler = Callable[[Talk], Awaitable[None]]


class Provider:
    """Serves every connection with the handler; `asked` is what came, over all connections."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.connections = 0

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls, limit=1 << 20, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await asyncio.sleep(0.01)

    @property
    def open_connections(self) -> int:
        return len(self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._handle(Talk(reader, writer)))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        task.add_done_callback(lambda _: writer.close())  # also when it was cancelled before its first step

    async def _handle(self, talk: Talk) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await self._handler(talk)


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Provider]:
    provider = Provider(handler)
    await provider.start(tls)
    try:
        yield provider
    finally:
        await provider.stop()


def answering(*answers: bytes) -> Handler:
    """Each request of a connection gets the next answer; after the last one the provider waits for the client to leave."""

    async def handler(talk: Talk) -> None:
        for answer in answers:
            await talk.asked()
            await talk.say(answer)
        await talk.left()

    return handler


class Told:
    """A sink that notes what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.batches: list[Sequence[bytes]] = []
        self.ended: Ended | None = None
        self.told_end = asyncio.Event()
        self._news = asyncio.Event()
        self.order: list[str] = []

    @property
    def frames_told(self) -> list[bytes]:
        return [frame for batch in self.batches for frame in batch]

    @property
    def error(self) -> str:
        assert self.ended is not None
        assert self.ended.error is not None
        return self.ended.error.message

    def head(self, status: int, headers: Headers) -> None:
        self.order.append("head")
        self.status = status
        self.headers = headers
        self._news.set()

    def frames(self, frames: Sequence[bytes]) -> None:
        self.order.append("frames")
        self.batches.append(frames)
        self._news.set()

    def end(self, ended: Ended) -> None:
        self.order.append("end")
        self.ended = ended
        self.told_end.set()
        self._news.set()

    async def end_comes(self) -> Ended:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.told_end.wait()
        assert self.ended is not None
        return self.ended

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._news.clear()
                await self._news.wait()


def upstream_to(
    port: int,
    *,
    clock: Clock | None = None,
    environ: Mapping[str, str] | None = None,
    scheme: str = "http",
    **settings: Any,
) -> OpenAIUpstream:
    said: dict[str, Any] = {"base_url": f"{scheme}://127.0.0.1:{port}/v1", "key": Secret("sk-secret")} | settings
    return OpenAIUpstream(
        "acme",
        UpstreamSettings(dialect="openai", **said),
        clock=clock or SystemClock(),
        environ=environ or {},
    )


def outgoing(
    *, stream: bool = False, body: bytes = b'{"model":"m"}', headers: Headers = (), limits: Limits | None = None
) -> Outgoing:
    return Outgoing("/chat/completions", "m", body, headers, stream, limits or Limits(), "call_1")


async def start(
    upstream: OpenAIUpstream, *, stream: bool = False, body: bytes = b'{"model":"m"}', limits: Limits | None = None
) -> tuple[Told, Exchange]:
    told = Told()
    exchange = await upstream.send(outgoing(stream=stream, body=body, limits=limits), told)
    return told, exchange


async def ask(
    upstream: OpenAIUpstream, *, stream: bool = False, body: bytes = b'{"model":"m"}', limits: Limits | None = None
) -> Told:
    """One exchange, to its end."""
    told, _ = await start(upstream, stream=stream, body=body, limits=limits)
    await told.end_comes()
    return told


async def settled(condition: Callable[[], bool]) -> None:
    """Waits for what the loop still has to do."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
