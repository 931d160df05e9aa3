"""The nouns of the gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Literal

from holdfast.dialects.openai.request import Fields, Kind
from holdfast.features.gateway.needs import Price, Reader, ScopeLimits, Tenancy
from holdfast.features.gateway.settings import PolicySettings
from holdfast.kernel.clock import Clock
from holdfast.kernel.drive import Turns
from holdfast.kernel.findings import Findings
from holdfast.kernel.measure import Cell, Counters, Histogram, Histograms
from holdfast.kernel.tenant import Principal
from holdfast.kernel.tokens import Usage
from holdfast.ports.calls import CallClosed, CallOpened, Calls, CallStatus
from holdfast.ports.money import Money
from holdfast.ports.rates import Limit, Rates
from holdfast.ports.record import Record
from holdfast.ports.upstream import Headers, Limits, Upstream

if TYPE_CHECKING:
    from holdfast.features.gateway.relay import Relay
    from holdfast.features.gateway.reuse import Flight

STAGES = ("identify", "reuse", "admit", "attempt", "check", "account")
Stage = Literal["identify", "reuse", "admit", "attempt", "check", "account"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing clients ask for: its path here and at the provider, and how its body is read."""

    name: str
    path: str
    upstream_path: str
    kind: Kind


CHAT = Operation("chat.completions", "/v1/chat/completions", "/chat/completions", "chat")
EMBEDDINGS = Operation("embeddings", "/v1/embeddings", "/embeddings", "embeddings")
OPERATIONS = (CHAT, EMBEDDINGS)


Counted = Literal["calls", "input", "output", "tokens"]
COUNTED: tuple[Counted, ...] = ("calls", "input", "output", "tokens")


@dataclass(frozen=True, slots=True)
class LimitSet:
    """Limits that are taken together, and what each of them counts."""

    limits: tuple[Limit, ...] = ()
    counted: tuple[Counted, ...] = ()
    amounts_of: Callable[[tuple[int, int, int, int]], tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        places = [COUNTED.index(counted) for counted in self.counted]
        pick = itemgetter(*places) if len(places) > 1 else lambda of: tuple([of[place] for place in places])
        object.__setattr__(self, "amounts_of", pick)

    def amounts(self, input_tokens: int, output_tokens: int) -> tuple[int, ...]:
        return self.amounts_of((1, input_tokens, output_tokens, input_tokens + output_tokens))


NO_LIMITS = LimitSet()

Row = tuple[str, Literal["bucket", "slot"], str, Counted]
REQUESTS: tuple[Row, ...] = (("requests", "bucket", "requests_per_minute", "calls"),)
USAGE: tuple[Row, ...] = (
    ("input_tokens", "bucket", "input_tokens_per_minute", "input"),
    ("output_tokens", "bucket", "output_tokens_per_minute", "output"),
    ("tokens", "bucket", "tokens_per_minute", "tokens"),
    ("concurrent_calls", "slot", "concurrent", "calls"),
)


def limits_in(scopes: Sequence[tuple[str, ScopeLimits]], rows: tuple[Row, ...]) -> LimitSet:
    """What the settings of some scopes limit, of these rows; what they do not say is not limited."""
    found = [
        (Limit(f"{name}:{scope}", kind, capacity), counted)
        for scope, said in scopes
        for name, kind, setting, counted in rows
        if (capacity := getattr(said, setting)) is not None
    ]
    return LimitSet(tuple([limit for limit, _ in found]), tuple([counted for _, counted in found]))


@dataclass(frozen=True, slots=True)
class Lane:
    """Where a call can go: an upstream and the model's name there."""

    name: str
    upstream: Upstream
    model: str
    price: Price | None
    limits: LimitSet = NO_LIMITS
    scripted: bool = False
    answered: Cell = field(default_factory=Cell)
    label: bytes = field(init=False)

    def __post_init__(self) -> None:
        marked = "holdfast-scripted: 1\r\n" if self.scripted else ""
        object.__setattr__(self, "label", f"holdfast-lane: {self.name}\r\n{marked}".encode("latin-1", "replace"))


@dataclass(frozen=True, slots=True)
class Model:
    """A name clients ask for, and its lanes in order of preference."""

    name: str
    lanes: tuple[Lane, ...]
    created_at: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """A policy and when it holds. The implicit route of a model has its name and the defaults."""

    name: str
    policy: PolicySettings
    path: str | None = None
    model: str | None = None
    key: str | None = None
    header: str | None = None

    def matches(self, path: str, model: str, key: str, header: str | None) -> bool:
        return (
            (self.path is None or self.path == path)
            and (self.model is None or self.model == model)
            and (self.key is None or self.key == key)
            and (self.header is None or self.header == header)
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the settings say to the gateway; swapped whole, never changed. A running call keeps its own."""

    models: Mapping[str, Model]
    routes: tuple[Route, ...]
    defaults: PolicySettings


@dataclass(frozen=True, slots=True)
class Plan:
    """What the settings and the key make of a request before its body matters: computed once per (key, model, operation,
    route header), used by every call like it."""

    principal: Principal
    operation: Operation
    model: Model
    route: str
    policy: PolicySettings
    strict: bool
    request_limits: LimitSet
    caller_limits: LimitSet
    upstream_limits: Limits
    budgeted: bool
    estimate: Estimate
    counts: Counts


@dataclass(frozen=True, slots=True)
class Counts:
    """The series that calls of one plan count into, looked up once."""

    stages: tuple[Histogram, ...]
    first_token: Histogram
    total: Histogram
    complete: Cell
    input_tokens: Cell
    output_tokens: Cell
    tenant_calls: Cell
    tenant_tokens: Cell
    tenant_nanodollars: Cell
    tenant_upstream_bytes: Cell
    tenant_answer_bytes: Cell
    labels: tuple[str, str]


class Request:
    """What the edge received. `id` is ours, `request_id` the client's own where it sent one; `received` is monotonic."""

    __slots__ = ("body", "credential", "headers", "id", "operation", "reader", "received", "request_id", "route")

    def __init__(
        self,
        id: str,
        request_id: str,
        operation: Operation,
        credential: str | None,
        headers: Headers,
        body: bytes,
        reader: Reader,
        received: float,
        route: str | None,
    ) -> None:
        self.id = id
        self.request_id = request_id
        self.operation = operation
        self.credential = credential
        self.headers = headers
        self.body = body
        self.reader = reader
        self.received = received
        self.route = route


class Call:
    """One client call on its way through the stages; each stage fills in its part."""

    __slots__ = (
        "answer_bytes",
        "fields",
        "flight",
        "id",
        "identified",
        "input_tokens",
        "marks",
        "opened",
        "opened_at",
        "output_tokens",
        "plan",
        "request",
        "served_from",
        "status",
        "stream",
        "tries",
        "upstream_bytes",
    )
    plan: Plan
    fields: Fields

    def __init__(self, request: Request, opened_at: float) -> None:
        self.request = request
        self.id = request.id
        self.opened_at = opened_at
        self.marks: list[float] = []
        self.tries: list[Relay] = []
        self.identified = False
        self.stream = False
        self.input_tokens = 0
        self.output_tokens = 0
        self.upstream_bytes = 0
        self.answer_bytes = 0
        self.opened: CallOpened | None = None
        self.status: CallStatus = "open"
        self.flight: Flight | None = None
        self.served_from: Flight | None = None

    @property
    def waited_for(self) -> bool:
        """Whether the client, or somebody who follows this call, still wants its answer."""
        return not self.request.reader.gone or (self.flight is not None and self.flight.waiting > 0)


@dataclass(frozen=True, slots=True)
class Measures:
    """What the gateway counts: histograms by stage and model, tenants on counters only."""

    stages: Histograms = field(default_factory=lambda: Histograms(("stage", "model")))
    first_token: Histograms = field(default_factory=lambda: Histograms(("operation", "model")))
    total: Histograms = field(default_factory=lambda: Histograms(("operation", "model")))
    calls: Counters = field(default_factory=lambda: Counters(("operation", "model", "status", "code")))
    tokens: Counters = field(default_factory=lambda: Counters(("operation", "model", "type")))
    attempts: Counters = field(default_factory=lambda: Counters(("lane", "status", "code")))
    tenant_calls: Counters = field(default_factory=lambda: Counters(("organisation", "team"), limit=200))
    tenant_tokens: Counters = field(default_factory=lambda: Counters(("organisation", "team"), limit=200))
    tenant_nanodollars: Counters = field(default_factory=lambda: Counters(("organisation", "team"), limit=200))
    tenant_upstream_bytes: Counters = field(default_factory=lambda: Counters(("organisation", "team"), limit=200))
    tenant_answer_bytes: Counters = field(default_factory=lambda: Counters(("organisation", "team"), limit=200))
    shared: Counters = field(default_factory=lambda: Counters(("operation", "model")))


@dataclass(slots=True)
class Gateway:
    """What the stages work with. `plans` and `flights` are this process's; everything durable is behind a port."""

    snapshot: Snapshot
    tenancy: Tenancy
    record: Record
    calls: Calls
    money: Money
    rates: Rates
    clock: Clock
    findings: Findings
    node: str
    max_inflight: int = 5_000
    measures: Measures = field(default_factory=Measures)
    plans: dict[tuple[str, str, str, str | None], Plan] = field(default_factory=dict)
    plans_version: int = -1
    flights: dict[tuple[str, str, bytes], Flight] = field(default_factory=dict)
    running: dict[str, Relay] = field(default_factory=dict)
    estimates: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    on_closed: Callable[[Call, CallClosed], None] | None = None
    refused_second: int = 0
    refused_rows: int = 0
    turns: Turns = field(init=False)

    def __post_init__(self) -> None:
        self.turns = Turns(self.running)

    def swap(self, snapshot: Snapshot) -> None:
        """From now on new calls see this; running calls keep what they began with."""
        self.snapshot = snapshot
        self.plans = {}


@dataclass(slots=True)
class Estimate:
    """What calls of one tenant and model usually look like, learned from reported usage: bytes of body for an input
    token, and the 75th percentile of output tokens (followed by small steps, wider where answers vary more)."""

    bytes_per_token: float = 4.0
    output_tokens: float = 256.0
    spread: float = 64.0

    def learn(self, body_bytes: int, usage: Usage) -> None:
        if usage.input_tokens > 0:
            self.bytes_per_token += 0.05 * (body_bytes / usage.input_tokens - self.bytes_per_token)
        distance = usage.output_tokens - self.output_tokens
        self.spread += 0.05 * (abs(distance) - self.spread)
        step = 0.1 * max(self.spread, 1.0)
        self.output_tokens = max(1.0, self.output_tokens + (0.75 * step if distance > 0 else -0.25 * step))
