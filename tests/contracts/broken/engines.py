"""Engines that break one promise each, over the embedded one, which keeps it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast.engines.embedded import Embedded, open_embedded
from holdfast.kernel.clock import Clock
from holdfast.ports.calls import Attempted, CallClosed, CallOpened, CallRow
from holdfast.ports.directory import Changes, Put
from holdfast.ports.money import Balance, Held, Refused, Settled
from holdfast.ports.rates import Limit, Short
from holdfast.ports.record import Change, Level


class Over:
    """Everything as the engine does it, but what a subclass says."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class DropsTheLastUnit(Over):
    """A record whose last handed unit never reaches the disk."""

    _last: tuple[Change, ...] | None = None

    def hand(self, *changes: Change) -> None:
        self._give()
        self._last = changes

    async def commit(self, *changes: Change, level: Level = Level.WRITTEN) -> None:
        self._give()
        await self._real.commit(*changes, level=level)

    def _give(self) -> None:
        if self._last is not None:
            self._real.hand(*self._last)
            self._last = None


class TearsUnits(Over):
    """A record that commits each change of a unit by itself."""

    def hand(self, *changes: Change) -> None:
        for change in changes:
            self._real.hand(change)

    async def commit(self, *changes: Change, level: Level = Level.WRITTEN) -> None:
        for change in changes:
            await self._real.commit(change, level=level)


class OvertakesItself(Over):
    """A record that lets committed units pass handed ones."""

    _late: tuple[tuple[Change, ...], ...] = ()

    def hand(self, *changes: Change) -> None:
        self._late += (changes,)

    async def commit(self, *changes: Change, level: Level = Level.WRITTEN) -> None:
        await self._real.commit(*changes, level=level)
        await self.flush()

    async def flush(self) -> None:
        late, self._late = self._late, ()
        for changes in late:
            self._real.hand(*changes)
        await self._real.flush()


class IgnoresConditions(Over):
    """A record that puts rows whatever version they were made from."""

    async def commit(self, *changes: Change, level: Level = Level.WRITTEN) -> None:
        await self._real.commit(
            *(Put(change.row) if isinstance(change, Put) else change for change in changes), level=level
        )


class ReplacesEnds(Over):
    """Calls whose last end is read back instead of the first."""

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.ends: dict[str, CallClosed] = {}

    async def get(self, call_id: str) -> CallRow | None:
        row: CallRow | None = await self._real.get(call_id)
        return row if row is None else CallRow(row.opened, self.ends.get(call_id, row.closed), row.further)


class NotesEnds(Over):
    def __init__(self, real: Any, calls: ReplacesEnds) -> None:
        super().__init__(real)
        self._calls = calls

    def hand(self, *changes: Change) -> None:
        for change in changes:
            if isinstance(change, CallClosed):
                self._calls.ends[change.id] = change
        self._real.hand(*changes)


class LooksThenTakes(Over):
    """Money that looks at a balance, waits, and then takes: a check nobody guards."""

    async def reserve(self, call_id: str, amount: int, balances: Sequence[Balance]) -> tuple[Held, ...] | Refused:
        for held, balance in zip(await self._real.held(balances), balances, strict=True):
            if held.spent_nanodollars + held.reserved_nanodollars + amount > balance.limit_nanodollars:
                return Refused(balance, held)
        await asyncio.sleep(0)
        endless = [Balance(one.scope, one.period, one.since, one.until, 10**18) for one in balances]
        answer: tuple[Held, ...] | Refused = await self._real.reserve(call_id, amount, endless)
        return answer


class LeaksOnRefusal(Over):
    """Money that takes from balance after balance, and keeps what it took when a later one refuses."""

    async def reserve(self, call_id: str, amount: int, balances: Sequence[Balance]) -> tuple[Held, ...] | Refused:
        answer: list[Held] = []
        for balance in balances:
            one = await self._real.reserve(call_id, amount, [balance])
            if isinstance(one, Refused):
                return one
            answer += one
        return tuple(answer)


class KeepsSomeReserved(Over):
    """A record that forgets to settle the money of every third end."""

    _count = 0

    def hand(self, *changes: Change) -> None:
        self._count += 1
        kept = [change for change in changes if not (isinstance(change, Settled) and self._count % 3 == 0)]
        self._real.hand(*kept)


class TakesBeforeItRefuses(Over):
    """Rates that take limit after limit, and keep what they took when a later one refuses."""

    async def reserve(
        self, limits: tuple[Limit, ...], amounts: Sequence[int], holder: str, expires_seconds: float
    ) -> Short | None:
        for limit, amount in zip(limits, amounts, strict=True):
            short: Short | None = await self._real.reserve((limit,), (amount,), holder, expires_seconds)
            if short is not None:
                return short
        return None


class FillsTooFast(Over):
    """Rates whose buckets refill twice as fast as they should."""

    async def reserve(
        self, limits: tuple[Limit, ...], amounts: Sequence[int], holder: str, expires_seconds: float
    ) -> Short | None:
        fast = tuple(limit._replace(period_seconds=limit.period_seconds / 2) for limit in limits)
        short: Short | None = await self._real.reserve(fast, amounts, holder, expires_seconds)
        return short

    async def levels(self, limits: tuple[Limit, ...]) -> list[float]:
        fast = tuple(limit._replace(period_seconds=limit.period_seconds / 2) for limit in limits)
        levels: list[float] = await self._real.levels(fast)
        return levels


class ForgetsDebt(Over):
    """Rates that book no more than was reserved."""

    def settle(self, limits: tuple[Limit, ...], reserved: Sequence[int], actual: Sequence[int], holder: str) -> None:
        self._real.settle(limits, reserved, [min(pair) for pair in zip(reserved, actual, strict=True)], holder)


class SkipsVersions(Over):
    """A directory that tells only the newest of the keys that changed."""

    async def changes_since(self, version: int) -> Changes:
        found: Changes = await self._real.changes_since(version)
        return Changes(found.version, found.organisations, found.teams, found.keys[-1:])


class LosesAttempts(Over):
    """A record that writes no further attempts."""

    def hand(self, *changes: Change) -> None:
        self._real.hand(*(change for change in changes if not isinstance(change, Attempted)))


class ChangesOpenedCalls(Over):
    """Calls read back with another moment than they were stored with."""

    async def open_calls(self, node: str | None = None, *, limit: int = 10_000) -> list[CallOpened]:
        found: list[CallOpened] = await self._real.open_calls(node, limit=limit)
        return found[::-1]


class Broken:
    """An embedded engine with some ports exchanged."""

    def __init__(self, real: Embedded, **exchanged: Any) -> None:
        self._real = real
        self.record = exchanged.get("record", real.record)
        self.calls = exchanged.get("calls", real.calls)
        self.money = exchanged.get("money", real.money)
        self.directory = exchanged.get("directory", real.directory)
        self.rates = exchanged.get("rates", real.rates)

    async def close(self) -> None:
        await self._real.close()


async def open_broken(data: Path, clock: Clock, flaw: type[Over]) -> Broken:
    """The embedded engine with the one port exchanged that the flaw is of."""
    real = await open_embedded(data, clock=clock, commit_interval_seconds=0.002)
    if flaw is ReplacesEnds:
        calls = ReplacesEnds(real.calls)
        return Broken(real, calls=calls, record=NotesEnds(real.record, calls))
    port = PORT_OF[flaw]
    return Broken(real, **{port: flaw(getattr(real, port))})


PORT_OF: dict[type[Over], str] = {
    DropsTheLastUnit: "record",
    TearsUnits: "record",
    OvertakesItself: "record",
    IgnoresConditions: "record",
    KeepsSomeReserved: "record",
    LosesAttempts: "record",
    ChangesOpenedCalls: "calls",
    LooksThenTakes: "money",
    LeaksOnRefusal: "money",
    TakesBeforeItRefuses: "rates",
    FillsTooFast: "rates",
    ForgetsDebt: "rates",
    SkipsVersions: "directory",
}
