"""A model as pushed frames.

Promises
- `send` waits for a connection (pool, TCP, proxy, TLS) and for nothing else; it raises UpstreamConnectError or
  UpstreamTimeoutError (connect) and then nothing of the request has left. After it returns, everything arrives by plain calls on the sink.
- The sink gets `head` once, `frames` any number of times, `end` exactly once, in that order; `end` comes even when
  the connection breaks, a limit passes or the exchange is cancelled. A failure before the head is `end` alone.
- Streaming: a frame is one whole event as the upstream spelt it, blank line included; nothing in it is parsed or changed.
  Not streaming (or an error answer to a streaming call): one frame, the whole body.
- The headers of `head` are those that may reach the client, under the names they bear there.
- `pause` stops reading from the socket within one received chunk; `cancel` closes it at once and ends with outcome `cancelled`.
- Every exchange is bounded by four limits here: connect, first token, idle, total (job, the fifth, is the caller's).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from holdfast.kernel.errors import HoldfastError

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. `first_token`: from sent to the first frame. `idle`: between two chunks. `total`: the whole attempt."""

    connect_seconds: float = 5.0
    first_token_seconds: float = 120.0
    idle_seconds: float = 60.0
    total_seconds: float = 600.0


class Outgoing:
    """One attempt as it is sent: where in the dialect (`/chat/completions`), which bytes, which extra headers."""

    __slots__ = ("body", "call_id", "headers", "limits", "model", "path", "stream")

    def __init__(
        self, path: str, model: str, body: bytes, headers: Headers, stream: bool, limits: Limits, call_id: str
    ) -> None:
        self.path = path
        self.model = model
        self.body = body
        self.headers = headers
        self.stream = stream
        self.limits = limits
        self.call_id = call_id


Outcome = Literal["complete", "cancelled", "broken", "timeout"]


class Ended:
    """How an exchange ended. `sent`: the request's body had left, so the provider may have acted on it. `reused`: the
    connection had served before, so a reset may only mean that it was stale."""

    __slots__ = ("error", "outcome", "reused", "sent")

    def __init__(
        self, outcome: Outcome, error: HoldfastError | None = None, sent: bool = True, reused: bool = False
    ) -> None:
        self.outcome = outcome
        self.error = error
        self.sent = sent
        self.reused = reused


class Sink(Protocol):
    def head(self, status: int, headers: Headers) -> None: ...

    def frames(self, frames: Sequence[bytes]) -> None: ...

    def end(self, ended: Ended) -> None: ...


class Exchange(Protocol):
    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def cancel(self) -> None: ...


class Upstream(Protocol):
    """One provider account. `name` is its name in the settings."""

    name: str
    dialect: str

    async def send(self, call: Outgoing, sink: Sink) -> Exchange: ...

    async def probe(self) -> None:
        """Connect and close, proving name, TCP, proxy, TLS and credential where the dialect has a free way to; raises
        UpstreamError naming the failing hop."""
        ...

    async def close(self) -> None:
        """No new exchanges; idle connections close now, busy ones at their end."""
        ...
