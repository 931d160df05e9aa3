"""The scripted upstream of the bench: streams of chat completion chunks at a fixed rate, and a constant answer to calls that
do not stream. Its own process; one timer paces all streams, each in its own slot of the wheel, so that load is even.

`max_tokens` of a call is the number of its chunks. A chunk that is due while the process is late is still sent, and how late it
was is counted apart: `GET /pacer` tells it, and begins anew.
"""

import argparse
import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable
from typing import cast

import httptools
import msgspec
import uvloop

from holdfast.tools.bench.chunks import STREAM_MARK, closing, opening, pattern
from holdfast.tools.bench.figures import quantile
from holdfast.tools.bench.wire import constant_answer

SLOT_SECONDS = 0.001
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Asked(msgspec.Struct):
    """What of a chat completion call decides the answer."""

    model: str = "mock"
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: StreamOptions | None = None


class Stream:
    """One answer on its way. Bytes go to the socket at once; what it will not take waits in the transport."""

    __slots__ = ("_chunks", "_ended", "_fd", "_pattern", "_sequence", "_stream", "_transport", "_usage", "gone")

    def __init__(
        self, transport: asyncio.Transport, stream: int, chunks: int, usage: bool, ended: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._fd = int(transport.get_extra_info("socket").fileno())
        self._stream = stream
        self._pattern = pattern(stream)
        self._chunks = chunks
        self._usage = usage
        self._sequence = 0
        self._ended = ended
        self.gone = False

    def tick(self) -> bool:
        """Send the next chunk; False when it was the last or the client has left."""
        if self.gone:
            return False
        self._write(self._pattern % (self._sequence, time.monotonic_ns()))
        self._sequence += 1
        if self._sequence < self._chunks:
            return not self.gone
        self._write(closing(self._stream, self._chunks, self._usage))
        self._ended()
        return False

    def _write(self, data: bytes) -> None:
        if self._transport.get_write_buffer_size():
            self._transport.write(data)
            return
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self.gone = True
            self._transport.abort()
            return
        if written < len(data):
            self._transport.write(data[written:])


class Wheel:
    """All streams' timer: as many slots as an interval has milliseconds, one slot served at each tick."""

    def __init__(self, chunks_per_second: float) -> None:
        self._slots: list[list[Stream]] = [[] for _ in range(max(round(1 / chunks_per_second / SLOT_SECONDS), 1))]
        self._served = 0
        self._next = 0
        self._begun = time.monotonic()
        self._late: list[float] = []
        self.sent = 0

    def join(self, stream: Stream) -> None:
        """The next slot round robin: neighbours in time of arrival are spread over the interval."""
        self._slots[self._next].append(stream)
        self._next = (self._next + 1) % len(self._slots)

    def turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve every slot that is due, then wait for the next."""
        due = int((time.monotonic() - self._begun) / SLOT_SECONDS)
        slots = self._slots
        while self._served < due:
            self._served += 1
            place = self._served % len(slots)
            streams = slots[place]
            if streams:
                late = time.monotonic() - self._begun - self._served * SLOT_SECONDS
                self._late.append(late)
                self.sent += len(streams)
                slots[place] = [stream for stream in streams if stream.tick()]
        next_due = self._begun + (self._served + 1) * SLOT_SECONDS
        loop.call_later(max(next_due - time.monotonic(), 0), self.turn, loop)

    def tell(self) -> dict[str, float]:
        """What happened since it was last asked: chunks sent, and how late the slots were served."""
        ordered = sorted(self._late)
        told = {
            "streams": float(sum(map(len, self._slots))),
            "chunks": float(self.sent),
            "late_p50_ms": quantile(ordered, 0.5) * 1e3,
            "late_p99_ms": quantile(ordered, 0.99) * 1e3,
        }
        self._late.clear()
        self.sent = 0
        return told


class PacerProtocol(asyncio.Protocol):
    """One connection; one call at a time on it."""

    def __init__(self, wheel: Wheel, answer: bytes) -> None:
        self._wheel = wheel
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)
        self._stream: Stream | None = None
        self._path = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._stream:
            self._stream.gone = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        self._body = self._path = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._path == b"/pacer":
            self._transport.write(plain(msgspec.json.encode(self._wheel.tell())))
            return
        try:
            asked = msgspec.json.decode(self._body, type=Asked)
        except msgspec.MsgspecError as error:
            self._transport.write(plain(msgspec.json.encode({"error": {"message": str(error)}}), b"400 Bad Request"))
            return
        if asked.stream:
            self._begin(asked)
        else:
            self._transport.write(self._answer)

    def _begin(self, asked: Asked) -> None:
        marked = STREAM_MARK.search(self._body)
        number = int(marked.group(1)) if marked else 0
        chunks = asked.max_completion_tokens or asked.max_tokens or 100
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        self._transport.write(STREAM_HEAD + opening(number))
        self._stream = Stream(self._transport, number, chunks, usage, self._ended)
        self._wheel.join(self._stream)

    def _ended(self) -> None:
        self._stream = None


def plain(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


async def serve(port: int, chunks_per_second: float) -> None:
    loop = asyncio.get_running_loop()
    wheel = Wheel(chunks_per_second)
    answer = plain(constant_answer())
    server = await loop.create_server(lambda: PacerProtocol(wheel, answer), "127.0.0.1", port, backlog=4096)
    wheel.turn(loop)
    gc.collect()
    gc.freeze()
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    sys.stdout.buffer.write(msgspec.json.encode({"url": url, "pid": os.getpid()}) + b"\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m holdfast.tools.bench.pacer", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, default=50.0, help="chunks a second on each stream")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.rate))
    return 0


if __name__ == "__main__":
    sys.exit(main())
