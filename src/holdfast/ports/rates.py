"""Token buckets and slots: what is shared by the minute and at once.

Promises
- `reserve` takes from all or from none, atomically. A refusal names the take that lacked most and how long until it fits.
- A bucket refills evenly (capacity per period); it starts full. A take larger than the capacity can never fit:
  the refusal says `never`.
- `settle` is handed, never awaited: it adds back (reserved - actual) to each bucket and frees slots. A bucket may go negative
  by what was used beyond the reservation; the debt is carried into the next window.
- A slot is held by (key, holder) until settled, or until `expires_seconds` passed: a dead node's slots come back.
- Nothing here is durable: losing it refills buckets and frees slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol


class Take(NamedTuple):
    """`key` names what is limited and whom: `input_tokens:team:acme/search`, `slots:lane:openai/gpt-5`."""

    key: str
    kind: Literal["bucket", "slot"]
    amount: int
    capacity: int
    period_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Short:
    """What refused: `wait_seconds` until it may fit (a guess for slots)."""

    take: Take
    available: float
    wait_seconds: float
    never: bool = False


class Rates(Protocol):
    async def reserve(self, takes: Sequence[Take], holder: str, expires_seconds: float) -> Short | None:
        """None: all taken."""
        ...

    def settle(self, takes: Sequence[Take], actual: Sequence[int], holder: str) -> None:
        """`actual[i]` is what `takes[i]` really used (slots: ignored)."""
        ...

    async def levels(self, takes: Sequence[Take]) -> list[float]:
        """What is left of each bucket, or how many slots are free."""
        ...

    async def ping(self) -> None:
        """Raises StoreUnavailableError, saying why, when it cannot answer."""
        ...
