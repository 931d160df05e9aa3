"""A gateway over fakes small enough to be believed: time stands still, and every answer is played by the test."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from holdfast.engines.embedded.rates import EmbeddedRates
from holdfast.features.gateway.model import (
    CHAT,
    Call,
    Counted,
    Gateway,
    Lane,
    LimitSet,
    Model,
    Operation,
    Request,
    Route,
    Snapshot,
)
from holdfast.features.gateway.needs import Watcher
from holdfast.features.gateway.path import answer
from holdfast.features.gateway.prices import PriceBook
from holdfast.features.gateway.settings import PolicySettings, PriceSettings
from holdfast.features.tenancy.settings import LimitSettings
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import AuthenticationError, HoldfastError
from holdfast.kernel.findings import Findings
from holdfast.kernel.tenant import Principal, Role, Tenant
from holdfast.ports.calls import Attempted, CallClosed, CallOpened, CallRow, GroupBy, Spent, UsageRow, Window
from holdfast.ports.money import Balance, Difference, Held, Refused, Settled
from holdfast.ports.rates import Limit
from holdfast.ports.record import Change, Level
from holdfast.ports.upstream import Ended, Headers, Outgoing, Sink

KEY = "hf-key"
TENANT = Tenant("acme", "search")
PRINCIPAL = Principal("key_1", "app", TENANT, Role.NONE, may_call=True)
JSON = ((b"content-type", b"application/json"),)
SSE = ((b"content-type", b"text/event-stream; charset=utf-8"),)
PRICE = PriceSettings(input_usd="1000", output_usd="2000", max_output_tokens=50)  # 1 and 2 million nanodollars a token
INPUT_NANODOLLARS, OUTPUT_NANODOLLARS = 1_000_000, 2_000_000


class StillReader:
    """A client that hears everything and says so."""

    def __init__(self) -> None:
        self.gone = False
        self.room = True
        self.status = 0
        self.headers = b""
        self.got: list[bytes] = []
        self.ends = 0
        self.error: HoldfastError | None = None
        self.watcher: Watcher | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.got)

    def json(self) -> Any:
        return json.loads(self.body)

    def whole(self, status: int, headers: bytes, body: bytes) -> None:
        assert (self.ends, self.status) == (0, 0), "an answer after an answer"
        self.status, self.headers, self.got = status, headers, [body]
        self.ends += 1

    def head(self, status: int, headers: bytes) -> None:
        assert (self.ends, self.status) == (0, 0)
        self.status, self.headers = status, headers

    def frames(self, frames: Sequence[bytes]) -> bool:
        assert frames, "an empty chunk would end the stream"
        assert all(frames)
        assert self.status
        assert not self.ends
        if not self.gone:
            self.got.extend(frames)
        return self.room or self.gone

    def end(self) -> None:
        assert self.status
        self.ends += 1

    def refuse(self, error: HoldfastError) -> None:
        assert (self.ends, self.status) == (0, 0)
        self.error = error
        self.ends += 1

    def watch(self, watcher: Watcher | None) -> None:
        self.watcher = watcher
        if watcher is not None and self.gone:
            watcher.left(self)

    def leave(self) -> None:
        if not self.gone:
            self.gone = True
            if self.watcher is not None:
                self.watcher.left(self)

    def read_on(self) -> None:
        self.room = True
        if self.watcher is not None:
            self.watcher.ready(self)


class Sent:
    """One attempt as the upstream saw it, and the strings to answer it with."""

    def __init__(self, outgoing: Outgoing, sink: Sink) -> None:
        self.outgoing = outgoing
        self.sink = sink
        self.paused = False
        self.cancelled = False
        self.over = False

    @property
    def json(self) -> Any:
        return json.loads(self.outgoing.body)

    @property
    def state(self) -> str:
        return "cancelled" if self.cancelled else "paused" if self.paused else "open"

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def cancel(self) -> None:
        if not self.over:
            self.cancelled = True
            self.end(Ended("cancelled"))

    def end(self, ended: Ended) -> None:
        assert not self.over
        self.over = True
        self.sink.end(ended)

    def whole(self, status: int, body: bytes, headers: Headers = JSON) -> None:
        self.sink.head(status, headers)
        self.sink.frames([body])
        self.end(Ended("complete"))

    def begin(self, headers: Headers = SSE) -> None:
        self.sink.head(200, headers)

    def frames(self, *frames: bytes) -> None:
        self.sink.frames(list(frames))

    def finish(self) -> None:
        self.end(Ended("complete"))

    def stream(self, *frames: bytes) -> None:
        self.begin()
        self.frames(*frames)
        self.finish()


Play = Callable[[Sent], None]


class PlayedUpstream:
    """`play` answers each attempt as it comes, if said; `refuse` is raised instead of connecting."""

    dialect = "openai"

    def __init__(self, name: str = "one", play: Play | None = None) -> None:
        self.name = name
        self.play = play
        self.refuse: HoldfastError | None = None
        self.sent: list[Sent] = []
        self.tried = 0

    async def send(self, call: Outgoing, sink: Sink) -> Sent:
        self.tried += 1
        await asyncio.sleep(0)
        if self.refuse is not None:
            raise self.refuse
        sent = Sent(call, sink)
        self.sent.append(sent)
        if self.play is not None:
            asyncio.get_running_loop().call_soon(self.play, sent)
        return sent

    async def probe(self) -> None: ...

    async def close(self) -> None: ...


class Ledger:
    """Record, calls and money in one: rows as they were handed, balances as they were booked."""

    incarnation = "still"
    backlog_bytes = 0
    backlog_seconds = 0.0
    rejected = 0

    def __init__(self) -> None:
        self.opened: dict[str, CallOpened] = {}
        self.closed: dict[str, CallClosed] = {}
        self.further: list[Attempted] = []
        self.settled: list[Settled] = []
        self.units: list[tuple[Change, ...]] = []
        self.ends: list[CallClosed] = []
        self.balances: dict[tuple[str, str], list[int]] = {}

    def hand(self, *changes: Change) -> None:
        self.units.append(changes)
        for change in changes:
            if isinstance(change, CallOpened):
                assert change.id not in self.opened
                self.opened[change.id] = change
            elif isinstance(change, CallClosed):
                assert (change.id in self.opened) == (change.opened is None), "opened once, before or with its end"
                self.ends.append(change)
                self.closed.setdefault(change.id, change)
            elif isinstance(change, Attempted):
                self.further.append(change)
            elif isinstance(change, Settled):
                self.settled.append(change)
                for name in change.balances:
                    self.balances[name][0] += change.spent_nanodollars
                    self.balances[name][1] -= change.reserved_nanodollars

    async def commit(self, *changes: Change, level: Level = Level.WRITTEN) -> None:
        self.hand(*changes)

    async def flush(self) -> None: ...

    async def ping(self) -> None: ...

    async def get(self, call_id: str) -> CallRow | None:
        raise NotImplementedError

    async def page(self, window: Window, *, limit: int = 100, before: tuple[float, str] | None = None) -> list[CallRow]:
        raise NotImplementedError

    async def usage(self, window: Window, by: Sequence[GroupBy], *, limit: int = 1000) -> list[UsageRow]:
        raise NotImplementedError

    async def spent(self, window: Window) -> Spent:
        raise NotImplementedError

    async def open_calls(self, node: str | None = None, *, limit: int = 10_000) -> list[CallOpened]:
        found = [row for row in self.opened.values() if row.id not in self.closed]
        return [row for row in found if node is None or row.node == node][:limit]

    async def prune(self, opened_before: float, *, limit: int = 10_000) -> int:
        return 0

    async def reserve(
        self, call_id: str, amount_nanodollars: int, balances: Sequence[Balance]
    ) -> tuple[Held, ...] | Refused:
        await asyncio.sleep(0)
        for balance in balances:
            held = self._balance(balance)
            if held.spent_nanodollars + held.reserved_nanodollars + amount_nanodollars > balance.limit_nanodollars:
                return Refused(balance, held)
        for balance in balances:
            self.balances[balance.scope, balance.period][1] += amount_nanodollars
        return tuple(self._balance(balance) for balance in balances)

    async def held(self, balances: Sequence[Balance]) -> list[Held]:
        return [self._balance(balance) for balance in balances]

    async def recompute(self, *, repair: bool) -> list[Difference]:
        return []

    def _balance(self, balance: Balance) -> Held:
        spent, reserved = self.balances.setdefault((balance.scope, balance.period), [0, 0])
        return Held(balance.scope, balance.period, spent, reserved)

    @property
    def one(self) -> CallClosed:
        """The one call's one end."""
        assert len(self.ends) == 1
        return self.ends[0]


class Keys:
    """Who may ask what, changed by the test."""

    def __init__(self) -> None:
        self.version = 0
        self.known = {KEY: PRINCIPAL}
        self.limits: list[tuple[str, LimitSettings]] = []
        self.budgets: list[Balance] = []
        self.seen: list[Held] = []
        self.unfit: list[Refused] = []

    def authenticate(self, secret: str | None) -> Principal:
        if secret not in self.known:
            raise AuthenticationError("This API key is not known here.")
        return self.known[secret]

    def limits_of(self, principal: Principal) -> Sequence[tuple[str, LimitSettings]]:
        return self.limits

    def balances_for(self, principal: Principal, at: float) -> tuple[Balance, ...]:
        return tuple(balance for balance in self.budgets if balance.since <= at < balance.until)

    def noticed(self, balances: Sequence[Balance], held: Sequence[Held]) -> None:
        self.seen.extend(held)

    def refused(self, refused: Refused) -> None:
        self.unfit.append(refused)

    def limit(self, scope: str = "team:acme/search", **limits: Any) -> None:
        self.limits.append((scope, LimitSettings(**limits)))
        self.version += 1

    def budget(self, nanodollars: int, scope: str = "team:acme/search") -> Balance:
        balance = Balance(scope, "month:2023-11:UTC", 0.0, 4e9, nanodollars)
        self.budgets.append(balance)
        self.version += 1
        return balance


@dataclass
class Rig:
    """A gateway and everything it works with. Models are `gpt` over one lane; the second one is used by name."""

    one: PlayedUpstream = field(default_factory=lambda: PlayedUpstream("one"))
    two: PlayedUpstream = field(default_factory=lambda: PlayedUpstream("two"))
    clock: VirtualClock = field(default_factory=VirtualClock)
    ledger: Ledger = field(default_factory=Ledger)
    keys: Keys = field(default_factory=Keys)
    calls: list[Call] = field(default_factory=list)
    count: int = 0
    gateway: Gateway = field(init=False)

    def __post_init__(self) -> None:
        self.rates = EmbeddedRates(self.clock)
        self.gateway = Gateway(
            snapshot=Snapshot({}, (), PolicySettings()),
            tenancy=self.keys,
            record=self.ledger,
            calls=self.ledger,
            money=self.ledger,
            rates=self.rates,
            clock=self.clock,
            findings=Findings(self.clock),
            node="node_1",
            on_closed=lambda call, closed: self.calls.append(call),
        )
        self.use(self.lane(self.one))

    def lane(self, upstream: PlayedUpstream, price: PriceSettings | None = PRICE, **more: Any) -> Lane:
        model = more.pop("model", "gpt-real")
        book = PriceBook({model: price} if price is not None else {})
        return Lane(f"{upstream.name}/{model}", upstream, model, book.price_of(upstream.name, model), **more)

    def use(self, *lanes: Lane, routes: tuple[Route, ...] = (), **policy: Any) -> None:
        """These lanes for `gpt`, under this policy."""
        models = {"gpt": Model("gpt", lanes), "other": Model("other", lanes)}
        self.gateway.swap(Snapshot(models, routes, PolicySettings(**policy)))

    def ask(
        self,
        body: dict[str, Any] | bytes,
        *,
        key: str | None = KEY,
        operation: Operation = CHAT,
        headers: Headers = (),
        route: str | None = None,
    ) -> "Asked":
        self.count += 1
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        reader = StillReader()
        request = Request(
            f"call_{self.count}",
            f"req_{self.count}",
            operation,
            key,
            headers,
            raw,
            reader,
            self.clock.monotonic(),
            route,
        )
        task = asyncio.get_running_loop().create_task(answer(self.gateway, request))
        return Asked(request.id, reader, task)

    async def settle(self) -> None:
        """Let everything that can run, run."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def reserved(self) -> dict[str, int]:
        """What is still held of money, by scope."""
        return {scope: reserved for (scope, _), (_, reserved) in self.ledger.balances.items() if reserved}


@dataclass
class Asked:
    id: str
    reader: StillReader
    task: "asyncio.Task[None]"

    async def done(self) -> StillReader:
        await asyncio.wait_for(self.task, 5)
        assert self.reader.ends == 1 or self.reader.gone
        return self.reader


def chat(**members: Any) -> dict[str, Any]:
    return {"model": "gpt", "messages": [{"role": "user", "content": "Hello"}], **members}


def completion(text: str = "Hi", finish: str = "stop", usage: tuple[int, int] | None = (10, 5)) -> bytes:
    message = {"role": "assistant", "content": text}
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-real-0101",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return json.dumps(body).encode()


def event(delta: dict[str, Any] | None, finish: str | None = None, **members: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"id": "c", "object": "chat.completion.chunk", "model": "gpt-real-0101", "choices": choices, **members}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def usage_event(tokens_in: int, tokens_out: int) -> bytes:
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    return event(None, usage=usage)


def play_completion(status: int = 200, body: bytes | None = None, headers: Headers = JSON) -> Play:
    return lambda sent: sent.whole(status, completion() if body is None else body, headers)


def limits(*wanted: tuple[Counted, Literal["bucket", "slot"], int], of: str = "x") -> LimitSet:
    """A lane's limits: (what is counted, kind, capacity)."""
    return LimitSet(
        tuple(Limit(f"{counted}:lane:{of}", kind, capacity) for counted, kind, capacity in wanted),
        tuple(counted for counted, _, _ in wanted),
    )


def policy(**said: Any) -> PolicySettings:
    return replace(PolicySettings(), **said)
