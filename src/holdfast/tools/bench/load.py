"""The load generator: its own process, one thread, raw sockets under epoll. A plan comes in on standard input, a result
goes out on standard output, each as one JSON document.

It must never be what limits the figure: a call costs it one recv, one send, one patch of a preallocated buffer and a few
searches in the answer. Every answer is held to status 200 and to its own Content-Length.
"""

import gc
import select
import socket
import sys
import time
from array import array

import httptools
import msgspec

from holdfast.tools.bench.figures import quantile
from holdfast.tools.bench.machine import Window
from holdfast.tools.bench.wire import Address, AnswerReader, RequestBuffer, dial, length_line

RECEIVE_BYTES = 65536
STALL_SECONDS = 20.0
RECONNECTS_AT_MOST = 10_000
ERRORS_AT_MOST = 1000
CALLS_PER_SECOND_AT_MOST = 200_000
NEVER = sys.maxsize
CUT_SHORT = "the server closed the connection inside an answer"


class LoadPlan(msgspec.Struct, frozen=True):
    """`calls` > 0 ends the run after that many, else it ends after `seconds`; the warm-up counts for neither."""

    address: Address
    connections: int = 64
    seconds: float = 5.0
    calls: int = 0
    warm_seconds: float = 1.0
    watch: tuple[int, ...] = ()


class LoadResult(msgspec.Struct, frozen=True):
    """What one run saw. CPU of the watched processes covers the measured window, as the calls do."""

    calls: int
    seconds: float
    p50_us: float
    p99_us: float
    errors: int
    reconnects: int
    first_error: str
    answer_bytes: tuple[int, int]
    generator_cpu_share: float
    watched_cpu_seconds: float
    machine_idle_share: float
    machine_others_share: float

    @property
    def per_second(self) -> float:
        return self.calls / self.seconds if self.seconds else 0.0

    @property
    def cpu_us_per_call(self) -> float:
        return self.watched_cpu_seconds / self.calls * 1e6 if self.calls else 0.0


class Generator:
    """Keeps one call in flight on each connection until told to stop, then waits for the last answers."""

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.errors = 0
        self.reconnects = 0
        self.first_error = ""
        self.shortest = NEVER
        self.longest = 0
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._readers: dict[int, AnswerReader] = {}
        self._started: dict[int, int] = {}
        self._request = RequestBuffer(plan.address)
        self._number = 0
        self._line = b"never"
        self._whole = -1

    def run(self) -> LoadResult:
        """Raises OSError when there is nothing to measure: nobody answers, or nearly all is wrong."""
        try:
            return self._run()
        finally:
            self.close()

    def _run(self) -> LoadResult:
        plan = self.plan
        for _ in range(plan.connections):
            self._connect()
        warm_until = time.perf_counter_ns() + int(plan.warm_seconds * 1e9)
        self._drive(array("Q"), warm_until, NEVER)
        capacity = plan.calls or int(plan.seconds * CALLS_PER_SECOND_AT_MOST)
        latencies = array("Q", bytes(8 * capacity))
        with Window(plan.watch) as window:
            until = NEVER if plan.calls else time.perf_counter_ns() + int(plan.seconds * 1e9)
            calls = self._drive(latencies, until, plan.calls or NEVER)
        self._drain()
        ordered = sorted(latencies[: min(calls, capacity)])
        return LoadResult(
            calls=calls,
            seconds=window.seconds,
            p50_us=quantile(ordered, 0.5) / 1e3,
            p99_us=quantile(ordered, 0.99) / 1e3,
            errors=self.errors,
            reconnects=self.reconnects,
            first_error=self.first_error,
            answer_bytes=(min(self.shortest, self.longest), self.longest),
            generator_cpu_share=window.own_cpu_share,
            watched_cpu_seconds=window.watched_cpu_seconds,
            machine_idle_share=window.idle_share,
            machine_others_share=window.others_share,
        )

    def _drive(self, latencies: "array[int]", until_ns: int, calls: int) -> int:
        """Answer after answer until the time or the count is reached. What does not fit the array is counted, not timed."""
        poll, sockets, started = self._epoll.poll, self._sockets, self._started
        clock, room, request = time.perf_counter_ns, len(latencies), self._request
        data, start, end = request.data, request.start, request.end
        done, size = 0, len(data)
        while done < calls and clock() < until_ns:
            ready = poll(STALL_SECONDS)
            if not ready:
                raise OSError(f"no answer for {STALL_SECONDS:.0f} s on {len(sockets)} connections")
            number, line, whole = self._number, self._line, self._whole
            for fd, _ in ready:
                try:
                    answer = sockets[fd].recv(RECEIVE_BYTES)
                except OSError:
                    answer = b""
                head = answer.find(b"\r\n\r\n")
                if len(answer) - head != whole or answer[9:12] != b"200" or answer.find(line, 0, head + 2) < 0:
                    self._number = number
                    good = self._carefully(fd, answer)
                    number, line, whole = self._number, self._line, self._whole
                    if not good:
                        continue
                now = clock()
                if done < room:
                    latencies[done] = now - started[fd]
                done += 1
                number += 1
                data[start:end] = b"%012d" % number
                started[fd] = now
                if sockets[fd].send(data) != size:
                    raise OSError("a request of 1 KB did not fit the socket's buffer: the server has stopped reading")
            self._number = number
        return done

    def _carefully(self, fd: int, answer: bytes) -> bool:
        """Whether a good answer ended with these bytes. What is wrong is counted, and the connection goes on."""
        reader = self._readers[fd]
        if not answer:
            self._replace(fd, CUT_SHORT if reader.busy else "")
            return False
        in_one_piece = not reader.busy
        try:
            ended = reader.feed(answer)
        except httptools.HttpParserError as error:
            self._replace(fd, f"not HTTP: {error}: {answer[:200]!r}")
            return False
        if not ended:
            return False
        if reader.status != 200:
            self._wrong(reader.verdict())
            self._ask(fd)
            return False
        self.shortest, self.longest = min(self.shortest, reader.body_bytes), max(self.longest, reader.body_bytes)
        if in_one_piece:
            line, length = length_line(answer)
            if line:
                self._line, self._whole = line, length + 4
        return True

    def _connect(self) -> None:
        connection = dial(self.plan.address)
        connection.setblocking(False)
        fd = connection.fileno()
        self._sockets[fd] = connection
        self._readers[fd] = AnswerReader()
        self._epoll.register(fd, select.EPOLLIN)
        self._ask(fd)

    def _ask(self, fd: int) -> None:
        self._number += 1
        self._started[fd] = time.perf_counter_ns()
        self._sockets[fd].sendall(self._request.number(self._number))

    def _replace(self, fd: int, wrong: str) -> None:
        """A server may close an idle connection as our next request travels: that is a reconnect, and no error."""
        self._epoll.unregister(fd)
        self._sockets.pop(fd).close()
        if wrong:
            self._wrong(wrong)
        self.reconnects += 1
        if self.reconnects > RECONNECTS_AT_MOST:
            raise OSError(f"the server closed {self.reconnects} connections; last error: {self.first_error or 'none'}")
        self._connect()

    def _wrong(self, what: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or what
        if self.errors > ERRORS_AT_MOST:
            raise OSError(f"{self.errors} calls failed; the first: {self.first_error}")

    def _drain(self) -> None:
        """Take the answers still on their way, so that no system under test sees a client that left."""
        waiting = set(self._sockets)
        while waiting:
            ready = self._epoll.poll(STALL_SECONDS)
            if not ready:
                raise OSError(f"{len(waiting)} calls were never answered")
            for fd, _ in ready:
                reader, answer = self._readers[fd], self._receive(fd)
                if not answer and reader.busy:
                    self._wrong(CUT_SHORT)
                ended = bool(answer) and reader.feed(answer) > 0
                if ended and reader.status != 200:
                    self._wrong(reader.verdict())
                if ended or not answer:
                    self._epoll.unregister(fd)
                    waiting.discard(fd)

    def _receive(self, fd: int) -> bytes:
        """What has arrived; empty when the connection is gone, in whichever way."""
        try:
            return self._sockets[fd].recv(RECEIVE_BYTES)
        except OSError:
            return b""

    def close(self) -> None:
        for connection in self._sockets.values():
            connection.close()
        self._epoll.close()


def main() -> int:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadPlan)
    generator = Generator(plan)
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.stdout.buffer.write(msgspec.json.encode(generator.run()) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
