"""A server over a gateway whose upstreams the test plays, and clients that speak bytes, each in a thread of its own."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from holdfast.edge.server.serve import Serving
from holdfast.edge.server.settings import ServerSettings
from holdfast.engines.embedded.rates import EmbeddedRates
from holdfast.features.gateway.model import Gateway, Lane, Model, Snapshot
from holdfast.features.gateway.prices import PriceBook
from holdfast.features.gateway.settings import PolicySettings, PriceSettings
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.findings import Findings
from holdfast.upstreams.scripted import ScriptedUpstream
from tests.features.gateway.rig import KEY, Keys, Ledger, PlayedUpstream, limits

T = TypeVar("T")
SLOTS = limits(("calls", "slot", 1_000), of="house")
CHAT = b"/v1/chat/completions"


async def cold(scope: Scope, receive: Receive, send: Send) -> None:
    """What stands for the control plane: says what it was asked; /slow waits for a moment first, /early does not wait for the body."""
    assert scope["type"] == "http"
    if scope["path"] == "/early":
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.1)
    said = json.dumps({"cold": scope["path"], "method": scope["method"], "bytes": len(body)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


@dataclass
class House:
    serving: "WatchedServing"
    gateway: Gateway
    ledger: Ledger
    keys: Keys
    rates: EmbeddedRates
    held: PlayedUpstream
    scripted: ScriptedUpstream
    address: tuple[str, int]
    tasks: set["asyncio.Task[Any]"] = field(default_factory=set)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self.serving._server_loop

    def route(self, **policy: Any) -> None:
        """Another policy for all."""
        self.gateway.swap(replace(self.gateway.snapshot, defaults=PolicySettings(**policy)))

    async def client(self, act: Callable[[socket.socket], T]) -> T:
        """A client of its own thread: `act` gets the connected socket, which is closed after it."""
        return await asyncio.to_thread(self._act, act)

    async def talk(self, *sent: bytes, half_close: bool = False) -> bytes:
        """What comes back until the server closes."""

        def act(sock: socket.socket) -> bytes:
            for part in sent:
                sock.sendall(part)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

        return await self.client(act)

    def _act(self, act: Callable[[socket.socket], T]) -> T:
        with socket.create_connection(self.address, timeout=10) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return act(sock)

    @property
    def connections(self) -> list[Any]:
        return list(self.serving._server.server_state.connections)

    async def when(self, holds: Callable[[], bool], what: str = "it did not become so", seconds: float = 5.0) -> None:
        ends = asyncio.get_running_loop().time() + seconds
        while not holds():
            assert asyncio.get_running_loop().time() < ends, what
            await asyncio.sleep(0.005)

    async def is_left_clean(self) -> None:
        """Nothing of what was asked is left: connections, tasks, flights, running calls, slots, open rows; and it answers."""
        for sent in self.held.sent:
            if not sent.over:
                sent.cancel()
        answer = await self.talk(request(chat(), close=True))
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:300]
        await self.when(lambda: not self.connections, f"connections are left: {self.connections}")
        await self.when(lambda: asyncio.all_tasks() - self.tasks <= {asyncio.current_task()}, "tasks are left")
        assert not self.gateway.running
        assert not self.gateway.flights
        assert await self.rates.levels(SLOTS.limits) == [1_000]
        assert set(self.ledger.opened) <= set(self.ledger.closed)
        assert len(self.ledger.ends) == len(self.ledger.closed), "a call ended twice"
        assert not self.serving.failures


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[House]:
    clock = SystemClock()
    ledger, keys, rates = Ledger(), Keys(), EmbeddedRates(clock)
    held, scripted = PlayedUpstream("held"), ScriptedUpstream("scripted", clock)
    price = PriceBook({"free": PriceSettings(free=True)}).price_of("x", "free")

    def model(name: str, upstream: Any, asked: str) -> Model:
        return Model(name, (Lane(f"{upstream.name}/{asked}", upstream, asked, price, SLOTS),))

    models = {
        "gpt": model("gpt", scripted, "scripted?tokens=5"),
        "slow": model("slow", scripted, "scripted?tokens=5&ttft_ms=150"),
        "held": model("held", held, "held"),
        "endless": model("endless", scripted, "scripted?tokens=1000000&itl_ms=2"),
        "flood": model("flood", scripted, "scripted?tokens=300000"),
    }
    gateway = Gateway(
        snapshot=Snapshot(models, (), PolicySettings(linger_seconds=0.2)),
        tenancy=keys,
        record=ledger,
        calls=ledger,
        money=ledger,
        rates=rates,
        clock=clock,
        findings=Findings(clock),
        node="node_1",
    )
    serving = WatchedServing(ServerSettings(**settings), gateway, cold, ledger.flush)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    running = asyncio.create_task(serve(serving, listener))
    await serving.listening.wait()
    house = House(serving, gateway, ledger, keys, rates, held, scripted, listener.getsockname())
    house.tasks = asyncio.all_tasks()
    try:
        yield house
    finally:
        serving.stop()
        serving.stop()
        await asyncio.wait_for(running, 20)
        listener.close()


class WatchedServing(Serving):
    """Counts what its outer loop caught, so that a test sees a defect that only a log line tells."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.listening = asyncio.Event()
        self.failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.failures.append(context))


async def serve(serving: WatchedServing, listener: socket.socket) -> None:
    await serving.listen(listener)
    serving.listening.set()
    await serving.until_stopped()


def chat(model: str = "gpt", prompt: str = "Hello", **members: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}], **members}).encode()


def request(
    body: bytes | None = None,
    *,
    method: str = "POST",
    target: bytes = CHAT,
    headers: bytes = b"",
    key: str | None = KEY,
    version: bytes = b"1.1",
    close: bool = False,
) -> bytes:
    """A request as it goes over the wire."""
    lines = method.encode() + b" " + target + b" HTTP/" + version + b"\r\nHost: house\r\n"
    if key is not None:
        lines += b"Authorization: Bearer " + key.encode() + b"\r\n"
    if close:
        lines += b"Connection: close\r\n"
    if body is not None:
        lines += b"Content-Length: %d\r\n" % len(body)
    return lines + headers + b"\r\n" + (body or b"")


def read_all(sock: socket.socket) -> bytes:
    parts = []
    try:
        while part := sock.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        parts.append(b"<reset>")
    return b"".join(parts)


def read_until(sock: socket.socket, mark: bytes, times: int = 1) -> bytes:
    got = b""
    while got.count(mark) < times and (part := sock.recv(65536)):
        got += part
    return got


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@dataclass
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The envelope, which every error of the model API has."""
        found: dict[str, Any] = self.json()["error"]
        assert set(found) == {"message", "type", "param", "code"}
        assert self.headers[b"content-type"] == b"application/json"
        return found


def answers(raw: bytes, methods: Iterator[bytes] | None = None) -> list[Answer]:
    """The answers in what a server sent, framed as HTTP says; AssertionError where they are not."""
    found: list[Answer] = []
    while raw:
        head, divider, raw = raw.partition(b"\r\n\r\n")
        assert divider, head[:200]
        first, *lines = head.split(b"\r\n")
        version, status, *_ = first.split(b" ")
        assert version == b"HTTP/1.1", first
        headers: dict[bytes, bytes] = {}
        for line in lines:
            name, _, value = line.partition(b": ")
            assert name not in headers, f"{name!r} is there twice"
            headers[name.lower()] = value
        method = next(methods, b"GET") if methods is not None and not status.startswith(b"1") else b"GET"
        if status.startswith(b"1") or method == b"HEAD":
            body = b""
        elif headers.get(b"transfer-encoding") == b"chunked":
            body, raw = _chunks(raw)
        elif b"content-length" in headers:
            size = int(headers[b"content-length"])
            body, raw = raw[:size], raw[size:]
            assert len(body) == size, "the body is cut short"
        else:
            body, raw = raw, b""
        found.append(Answer(int(status), headers, body))
    return found


def one_answer(raw: bytes) -> Answer:
    found = answers(raw)
    assert len(found) == 1, raw[:500]
    return found[0]


def _chunks(raw: bytes) -> tuple[bytes, bytes]:
    parts = []
    at = 0
    while True:
        line = raw.find(b"\r\n", at)
        assert line > at, "the stream is cut short"
        count = int(raw[at:line], 16)
        at = line + 2 + count
        parts.append(raw[line + 2 : at])
        assert raw[at : at + 2] == b"\r\n", "the stream is cut short"
        at += 2
        if count == 0:
            return b"".join(parts), raw[at:]


@contextmanager
def many(house: House, count: int) -> Iterator[list[socket.socket]]:
    """Connections, all open at once."""
    sockets = [socket.create_connection(house.address, timeout=10) for _ in range(count)]
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()
