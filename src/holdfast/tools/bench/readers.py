"""The stream client: its own process, one thread, every stream an open socket under epoll. It measures each chunk's delay from
the upstream's write to this read, and holds every stream to its promise. Plan in on standard input, result out on standard output.
"""

import gc
import select
import socket
import sys
import time
from array import array
from dataclasses import dataclass

import msgspec

from holdfast.tools.bench.chunks import Dechunker, StreamCheck
from holdfast.tools.bench.figures import quantile
from holdfast.tools.bench.machine import Window, family, rss_bytes
from holdfast.tools.bench.wire import Address, RequestBuffer, dial

RECEIVE_BYTES = 65536
SETTLE_SECONDS = 1.0
SAMPLE_NS = 500_000_000
PATIENCE_SECONDS = 20.0


class ReadersPlan(msgspec.Struct, frozen=True):
    """Streams are opened `ramp_per_second`; all run through `seconds` of measuring, and then to their ends."""

    address: Address
    streams: int
    seconds: float = 30.0
    chunks_per_second: float = 50.0
    ramp_per_second: float = 400.0
    first_number: int = 0
    watch: tuple[int, ...] = ()

    @property
    def chunks(self) -> int:
        """In each stream."""
        return int(self.chunks_per_second * (self.streams / self.ramp_per_second + SETTLE_SECONDS + self.seconds)) + 1


class ReadersResult(msgspec.Struct, frozen=True):
    """Delays and CPU are of the measured window; what was broken is of the whole run."""

    chunks: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    watched_cpu_seconds: float
    reader_cpu_share: float
    machine_idle_share: float
    machine_others_share: float
    rss_bytes: tuple[int, ...]
    expected: int
    lost: int
    duplicated: int
    reordered: int
    foreign: int
    unended: int
    errors: int
    first_error: str

    @property
    def cpu_us_per_chunk(self) -> float:
        return self.watched_cpu_seconds / self.chunks * 1e6 if self.chunks else 0.0

    @property
    def broken(self) -> int:
        return self.lost + self.duplicated + self.reordered + self.foreign + self.unended + self.errors


@dataclass(slots=True)
class OpenStream:
    connection: socket.socket
    check: StreamCheck
    body: Dechunker
    head: bytes | None = b""


class Readers:
    def __init__(self, plan: ReadersPlan) -> None:
        self.plan = plan
        self.delays = array("Q")
        self.errors = 0
        self.first_error = ""
        self._epoll = select.epoll()
        self._streams: dict[int, OpenStream] = {}
        self._checks: list[StreamCheck] = []
        self._request = RequestBuffer(plan.address, max_tokens=plan.chunks, stream=True)

    def run(self) -> ReadersResult:
        """Raises OSError when the server cannot be reached."""
        try:
            return self._run()
        finally:
            for stream in self._streams.values():
                stream.connection.close()
            self._epoll.close()

    def _run(self) -> ReadersResult:
        plan = self.plan
        self._ramp()
        self._read(time.monotonic_ns() + int(SETTLE_SECONDS * 1e9))
        watched, samples = family(plan.watch) if plan.watch else (), []
        self.delays = array("Q")
        with Window(plan.watch) as window:
            ends = time.monotonic_ns() + int(plan.seconds * 1e9)
            while self._streams and (now := time.monotonic_ns()) < ends:
                samples.append(rss_bytes(watched))
                self._read(min(now + SAMPLE_NS, ends))
        delays, self.delays = sorted(self.delays), array("Q")
        self._read(time.monotonic_ns() + int(PATIENCE_SECONDS * 1e9))
        return ReadersResult(
            chunks=len(delays),
            seconds=window.seconds,
            p50_ms=quantile(delays, 0.5) / 1e6,
            p99_ms=quantile(delays, 0.99) / 1e6,
            max_ms=quantile(delays, 1.0) / 1e6,
            watched_cpu_seconds=window.watched_cpu_seconds,
            reader_cpu_share=window.own_cpu_share,
            machine_idle_share=window.idle_share,
            machine_others_share=window.others_share,
            rss_bytes=tuple(samples),
            expected=plan.chunks * plan.streams,
            lost=sum(check.lost for check in self._checks),
            duplicated=sum(check.duplicated for check in self._checks),
            reordered=sum(check.reordered for check in self._checks),
            foreign=sum(check.foreign for check in self._checks),
            unended=sum(check.done != 1 for check in self._checks),
            errors=self.errors,
            first_error=self.first_error,
        )

    def _ramp(self) -> None:
        begun = time.monotonic_ns()
        step = 1e9 / self.plan.ramp_per_second
        for index in range(self.plan.streams):
            self._open(self.plan.first_number + index)
            self._read(begun + int((index + 1) * step))

    def _open(self, number: int) -> None:
        check = StreamCheck(number, self.plan.chunks)
        self._checks.append(check)
        connection = dial(self.plan.address)
        connection.sendall(self._request.number(number))
        connection.setblocking(False)
        self._streams[connection.fileno()] = OpenStream(connection, check, Dechunker())
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _read(self, until_ns: int) -> None:
        """Take what arrives until then, or until every stream has ended."""
        poll, streams, clock = self._epoll.poll, self._streams, time.monotonic_ns
        keep = self.delays.append
        while streams and (now := clock()) < until_ns:
            for fd, _ in poll((until_ns - now) / 1e9):
                stream = streams[fd]
                try:
                    data = stream.connection.recv(RECEIVE_BYTES)
                except OSError:
                    data = b""
                arrived = clock()
                if stream.head is not None or not data:
                    data = self._begin(fd, stream, data)
                    if not data:
                        continue
                try:
                    payload = stream.body.feed(data)
                except ValueError as error:
                    self._fail(fd, f"not a chunked body: {error}")
                    continue
                for sent in stream.check.feed(payload):
                    keep(arrived - sent)
                if stream.body.ended:
                    self._close(fd)

    def _begin(self, fd: int, stream: OpenStream, data: bytes) -> bytes:
        """What of the body came with the head; empty while the head is partial, or when the stream has failed."""
        if not data or stream.head is None:
            self._fail(fd, "the server closed the connection before the stream's end")
            return b""
        head, found, body = (stream.head + data).partition(b"\r\n\r\n")
        if not found:
            stream.head = head
            return b""
        if head[9:12] != b"200" or b"chunked" not in head.lower():
            self._fail(fd, f"{head[:200]!r} {body[:400]!r}")
            return b""
        stream.head = None
        return body

    def _fail(self, fd: int, what: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or what
        self._close(fd)

    def _close(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._streams.pop(fd).connection.close()


def main() -> int:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=ReadersPlan)
    readers = Readers(plan)
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.stdout.buffer.write(msgspec.json.encode(readers.run()) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
