"""One connection to each system, one call at a time, systems taking turns: what a call costs in time when nothing queues.
Its own process; plan in on standard input, result out on standard output."""

import gc
import socket
import sys
import time
from array import array

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
            raise OSError(f"{self._reader.status}: {self._reader.text[:400].decode(errors='replace')}")
        return arrived - started

    def close(self) -> None:
        self._connection.close()


def measure(plan: ProbePlan) -> ProbeResult:
    lines = {name: Line(address) for name, address in plan.systems.items()}
    names = list(lines)
    times = {name: array("Q") for name in names}
    warm = plan.calls // 10
    for number in range(warm + plan.calls):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            took = lines[name].call(number)
            if number >= warm:
                times[name].append(took)
    for line in lines.values():
        line.close()
    ordered = {name: sorted(taken) for name, taken in times.items()}
    return ProbeResult(
        p50_us={name: quantile(taken, 0.5) / 1e3 for name, taken in ordered.items()},
        p99_us={name: quantile(taken, 0.99) / 1e3 for name, taken in ordered.items()},
    )


def main() -> int:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=ProbePlan)
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.stdout.buffer.write(msgspec.json.encode(measure(plan)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
