"""Budgets by period: reserve before the call, settle or release after it.

A balance is (scope, period): scope `org:acme`, `team:acme/search` or `key:key_…`; period names kind, start and time zone
(`month:2026-11:Europe/Berlin`). A charge belongs to the period its call was opened in, for ever.

Promises
- `reserve` checks and adds to all balances or to none, atomically against every other reserve on every node.
- A call may reserve again, for a further attempt: it then holds the sum, and one `Settled` gives all of it back.
- `Settled` turns a reservation into spending, in the same unit as the call's end; settling with actual = 0 is a release.
  It may pass the limit: a running call is never cut.
- Balances can be recomputed from call rows: `recompute` does, and says what differed. A balance nobody knows yet is computed
  from call rows before its first reserve, so a budget declared in the middle of a month counts the month so far.
- Embedded: balances stand in memory, their rows are committed with the call rows; reserve never waits for the disk.
  PostgreSQL: a reservation is written before `reserve` returns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Balance:
    """One budget in one period, as the caller knows it: `since`/`until` are the period's bounds in epoch seconds."""

    scope: str
    period: str
    since: float
    until: float
    limit_nanodollars: int


class Held(NamedTuple):
    """What a balance holds now."""

    scope: str
    period: str
    spent_nanodollars: int
    reserved_nanodollars: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The first balance that would pass its limit."""

    balance: Balance
    held: Held


class Settled(NamedTuple):
    """Give back what was reserved and book what was spent, on each (scope, period)."""

    call_id: str
    balances: tuple[tuple[str, str], ...]
    reserved_nanodollars: int
    spent_nanodollars: int


MoneyChange = Settled


@dataclass(frozen=True, slots=True)
class Difference:
    """A balance whose rows and calls disagree."""

    held: Held
    recomputed: Held


class Money(Protocol):
    async def reserve(
        self, call_id: str, amount_nanodollars: int, balances: Sequence[Balance]
    ) -> tuple[Held, ...] | Refused:
        """All balances after the reservation, in order, or the one that refused."""
        ...

    async def held(self, balances: Sequence[Balance]) -> list[Held]: ...

    async def recompute(self, *, repair: bool) -> list[Difference]:
        """Compare every known balance with its call rows; with `repair`, make the balance what the rows say."""
        ...
