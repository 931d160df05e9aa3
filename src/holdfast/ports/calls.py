"""One row a client call, one row a further attempt; written in batches, read by windowed queries.

Promises
- `CallOpened` is handed when the first attempt is about to be sent, `CallClosed` at the end; both in one batch become one write.
  `CallClosed` for a call that was never opened (refused, replayed) carries `opened` and inserts the whole row; without it
  the unit can never be applied (ConflictError, or counted in `rejected`).
- The call row carries its first attempt's cost and usage; each further attempt its own. Spent = the sum over both.
- Closing is idempotent: the first end stays.
- The rows of the hot path are named tuples: making one is a sixth of a frozen dataclass's price.
- `upstream_bytes` and `answer_bytes` count bodies, never headers: what all attempts sent to providers, and what the client was
  given of the answer. A refusal of ours is no answer.
- A null cost means unpriced, never free; free is 0.
- `usage` and `page` read at most `limit` rows and never wait for a writer. A time window is half open: [since, until).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from holdfast.kernel.tokens import NO_USAGE, Usage

CallStatus = Literal["open", "complete", "error", "cancelled", "refused", "unknown", "lost"]
ENDS: tuple[CallStatus, ...] = ("complete", "error", "cancelled", "refused", "unknown", "lost")


class CallOpened(NamedTuple):
    """A call whose first attempt is about to be sent. Everything known before the answer."""

    id: str
    request_id: str
    organisation: str
    team: str
    key_id: str
    end_user: str | None
    operation: str  # chat.completions, embeddings
    route: str
    model: str
    lane: str
    node: str
    opened_at: float
    stream: bool
    reserved_nanodollars: int
    estimated_input_tokens: int
    estimated_output_tokens: int


class CallClosed(NamedTuple):
    """The end of a call, with what its first attempt used and cost. `opened` is the row of a call nobody opened before; an end
    that is read back has none, because its `CallRow` has it."""

    id: str
    closed_at: float
    status: CallStatus
    http_status: int
    lane: str  # of the attempt that answered
    error_code: str | None = None
    finish_reason: str | None = None
    empty: bool = False
    usage: Usage = NO_USAGE
    cost_nanodollars: int | None = None
    price_version: str | None = None
    answered_model: str | None = None
    fingerprint: str | None = None
    first_token_seconds: float | None = None
    attempts: int = 1
    served_from: str | None = None
    saved_nanodollars: int = 0
    opened: CallOpened | None = None
    upstream_bytes: int = 0  # of request bodies, over all attempts
    answer_bytes: int = 0  # of the body or the events that were forwarded to the client


class Attempted(NamedTuple):
    """A further attempt (the second and later ones): failover, hedge, repair."""

    call_id: str
    number: int  # 2, 3 ...
    kind: Literal["failover", "hedge", "repair"]
    lane: str
    sent_at: float
    ended_at: float
    status: CallStatus
    http_status: int | None
    error_code: str | None
    usage: Usage
    cost_nanodollars: int | None
    price_version: str | None = None


CallChange = CallOpened | CallClosed | Attempted


@dataclass(frozen=True, slots=True)
class CallRow:
    """A call as it is read back: `closed` is None while it is open; `cost_nanodollars` is the sum over all attempts
    (None when any of them is unpriced)."""

    opened: CallOpened
    closed: CallClosed | None
    further: tuple[Attempted, ...] = ()
    cost_nanodollars: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows: all conditions hold together; None means any."""

    since: float
    until: float
    organisation: str | None = None
    team: str | None = None
    key_id: str | None = None
    model: str | None = None
    status: CallStatus | None = None


GroupBy = Literal["organisation", "team", "key_id", "model", "route", "status", "lane", "day", "hour"]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums over the calls of a group, all attempts together. `errors`: ended as error, unknown or lost. `unpriced_calls`: ended, not
    refused, and an attempt's cost is unknown. A call's status is `open` until its end; its lane is the one that answered."""

    group: tuple[str, ...]
    calls: int
    errors: int
    input_tokens: int
    output_tokens: int
    cached_read_tokens: int
    cost_nanodollars: int
    saved_nanodollars: int
    unpriced_calls: int
    upstream_bytes: int = 0
    answer_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls opened in a window cost, and what the open ones among them still hold."""

    spent_nanodollars: int
    reserved_nanodollars: int


class Calls(Protocol):
    async def get(self, call_id: str) -> CallRow | None: ...

    async def page(self, window: Window, *, limit: int = 100, before: tuple[float, str] | None = None) -> list[CallRow]:
        """Newest first; `before` is (opened_at, id) of the last row of the page before."""
        ...

    async def usage(self, window: Window, by: Sequence[GroupBy], *, limit: int = 1000) -> list[UsageRow]:
        """Grouped sums in the order of their groups; days and hours are UTC, spelt 2026-11-20 and 2026-11-20T13."""
        ...

    async def spent(self, window: Window) -> Spent: ...

    async def open_calls(self, node: str | None = None, *, limit: int = 10_000) -> list[CallOpened]:
        """Calls without an end, oldest first: what a crash left behind."""
        ...

    async def prune(self, opened_before: float, *, limit: int = 10_000) -> int:
        """Delete closed calls opened before a moment, at most `limit` a time; returns how many went."""
        ...
