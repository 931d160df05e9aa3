"""Token buckets and slots: what is shared by the minute and at once.

The limits of a call are a tuple that its plan made once and every call of the plan passes again (the same object, so an
engine may keep what it resolved of it); only the amounts differ from call to call.

Promises
- `reserve` takes from all or from none, atomically. A refusal names the limit that lacked most and how long until it fits.
- A bucket refills evenly (capacity per period); it starts full. An amount larger than the capacity can never fit:
  the refusal says `never`.
- `settle` is handed, never awaited: it adds back (reserved - actual) to each bucket and frees slots. A bucket may go negative
  by what was used beyond the reservation; the debt is carried into the next window.
- A slot is held by (key, holder) until settled, or until `expires_seconds` passed: a dead node's slots come back.
- Nothing here is durable: losing it refills buckets and frees slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol


class Limit(NamedTuple):
    """`key` names what is limited and whom: `input_tokens:team:acme/search`, `slots:lane:openai/gpt-5`."""

    key: str
    kind: Literal["bucket", "slot"]
    capacity: int
    period_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Short:
    """What refused: `wait_seconds` until it may fit (a guess for slots)."""

    limit: Limit
    available: float
    wait_seconds: float
    never: bool = False


class Rates(Protocol):
    async def reserve(
        self, limits: tuple[Limit, ...], amounts: Sequence[int], holder: str, expires_seconds: float
    ) -> Short | None:
        """`amounts[i]` from `limits[i]`; None: all taken."""
        ...

    def settle(self, limits: tuple[Limit, ...], reserved: Sequence[int], actual: Sequence[int], holder: str) -> None:
        """`actual[i]` is what was really used of `reserved[i]` (slots: ignored, freed)."""
        ...

    async def levels(self, limits: tuple[Limit, ...]) -> list[float]:
        """What is left of each bucket, or how many slots are free."""
        ...

    async def ping(self) -> None:
        """Raises StoreUnavailableError, saying why, when it cannot answer."""
        ...
