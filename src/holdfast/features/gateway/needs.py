"""What the gateway needs of others, stated as verbs; the assembly hands them over."""

from collections.abc import Sequence
from typing import Protocol

from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.tenant import Principal
from holdfast.kernel.tokens import Usage
from holdfast.ports.money import Balance, Held, Refused


class Reader(Protocol):
    """Who waits for an answer. Plain calls: none of them waits or raises, a reader that left ignores them."""

    gone: bool

    def whole(self, status: int, headers: bytes, body: bytes) -> None:
        """The answer in one piece; `headers` are complete lines, each with its CRLF."""
        ...

    def head(self, status: int, headers: bytes) -> None:
        """A stream begins."""
        ...

    def frames(self, frames: Sequence[bytes]) -> bool:
        """The next events; False when the reader wants no more for now (it calls `Watcher.ready` when it does)."""
        ...

    def end(self) -> None:
        """The stream is whole."""
        ...

    def refuse(self, error: HoldfastError) -> None:
        """There is no answer: why, in the client's own envelope."""
        ...

    def watch(self, watcher: "Watcher | None") -> None:
        """Tell this one when the reader leaves or has room again; at once if it has left already."""
        ...


class Watcher(Protocol):
    def left(self, reader: Reader) -> None: ...

    def silent(self, reader: Reader) -> None:
        """In the middle of its stream the client closed its sending side: nearly all who do have left, and whether this one
        has shows only when something is written."""
        ...

    def ready(self, reader: Reader) -> None: ...


class ScopeLimits(Protocol):
    """The limits of one organisation, team or key."""

    @property
    def requests_per_minute(self) -> int | None: ...
    @property
    def input_tokens_per_minute(self) -> int | None: ...
    @property
    def output_tokens_per_minute(self) -> int | None: ...
    @property
    def tokens_per_minute(self) -> int | None: ...
    @property
    def concurrent(self) -> int | None: ...


class Tenancy(Protocol):
    """Who is asking, and what they may use. `version` changes whenever an answer of these verbs may."""

    @property
    def version(self) -> int: ...

    def authenticate(self, secret: str | None) -> Principal:
        """Raises AuthenticationError."""
        ...

    def limits_of(self, principal: Principal) -> Sequence[tuple[str, ScopeLimits]]:
        """By scope, `org:acme` first, then team and key."""
        ...

    def balances_for(self, principal: Principal, at: float) -> tuple[Balance, ...]: ...

    def noticed(self, balances: Sequence[Balance], held: Sequence[Held]) -> None:
        """What a reservation found: passing a soft threshold is a finding."""
        ...

    def refused(self, refused: Refused) -> None:
        """A call did not fit into this budget: so is that."""
        ...


class Price(Protocol):
    """What a lane costs."""

    @property
    def version(self) -> str: ...
    @property
    def max_output_tokens(self) -> int | None: ...

    def cost(self, usage: Usage) -> int: ...

    def ceiling(self, input_tokens: int, max_output_tokens: int) -> int: ...
