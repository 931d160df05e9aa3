"""One connection to each system, one call at a time, systems taking turns: what a call costs in time when nothing queues.
Its own process; plan in on standard input, result out on standard output."""

import gc
import socket
import sys
import time
from array import array
from contextlib import ExitStack, closing

import msgspec

from holdfast.tools.bench.figures import quantile
from holdfast.tools.bench.wire import Address, AnswerReader, RequestBuffer, dial

RECEIVE_BYTES = 65536


class ProbePlan(msgspec.Struct, frozen=True):
    """`calls` to each system are measured, after a tenth as many that are not."""

    systems: dict[str, Address]
    calls: int = 2000


class ProbeResult(msgspec.Struct, frozen=True):
    p50_us: dict[str, float]
    p99_us: dict[str, float]


class Line:
    """One open connection."""

    __slots__ = ("_connection", "_reader", "_request")

    def __init__(self, address: Address) -> None:
        self._connection: socket.socket = dial(address)
        self._reader = AnswerReader()
        self._request = RequestBuffer(address)

    def call(self, number: int) -> int:
        """Nanoseconds from the send to the last byte; raises OSError for anything but a 200."""
        data = self._request.number(number)
        started = time.perf_counter_ns()
        self._connection.sendall(data)
        while True:
            answer = self._connection.recv(RECEIVE_BYTES)
            arrived = time.perf_counter_ns()
            if not answer:
                raise OSError("the server closed the connection inside an answer")
            if self._reader.feed(answer):
                break
        if self._reader.status != 200:
            raise OSError(self._reader.verdict())
        return arrived - started

    def close(self) -> None:
        self._connection.close()


def measure(plan: ProbePlan) -> ProbeResult:
    with ExitStack() as stack:
        lines = {name: stack.enter_context(closing(Line(address))) for name, address in plan.systems.items()}
        times = take_turns(lines, plan.calls)
    ordered = {name: sorted(taken) for name, taken in times.items()}
    return ProbeResult(
        p50_us={name: quantile(taken, 0.5) / 1e3 for name, taken in ordered.items()},
        p99_us={name: quantile(taken, 0.99) / 1e3 for name, taken in ordered.items()},
    )


def take_turns(lines: dict[str, Line], calls: int) -> dict[str, "array[int]"]:
    """Nanoseconds of each call; who goes first changes, so that nobody always finds the caches warm."""
    names = list(lines)
    times = {name: array("Q") for name in names}
    warm = calls // 10
    for number in range(warm + calls):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            took = lines[name].call(number)
            if number >= warm:
                times[name].append(took)
    return times


def main() -> int:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=ProbePlan)
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.stdout.buffer.write(msgspec.json.encode(measure(plan)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
