"""EmbeddedMoney: balances stand in memory, their rows are committed with the call rows.

The first use of a balance reads it: the writer marks the place in the line of units and pins a reader there, so that the row,
or the sum over call rows, and the units after it fit together exactly.
"""

import asyncio
import json
from collections.abc import Sequence

import apsw

from holdfast.engines.embedded.connections import fetch
from holdfast.engines.embedded.ledger import Ledger, Name
from holdfast.engines.embedded.readers import Readers
from holdfast.engines.embedded.record import EmbeddedRecord
from holdfast.engines.embedded.statements import Row, load
from holdfast.engines.embedded.units import Counted, Spend, Unit
from holdfast.ports.money import Balance, Difference, Held, Refused

SUM_SECONDS = 300.0  # summing a period's call rows is rare and may take its time
UNOPENED_SECONDS = 3600.0  # longer than any call waits for its first attempt
_SCOPES = {"org": "'org:' || organisation", "team": "'team:' || organisation || '/' || team", "key": "'key:' || key_id"}


class EmbeddedMoney:
    """Promises of `ports.money.Money`. To `recompute` a reservation whose call is not opened yet is right for an hour."""

    def __init__(self, record: EmbeddedRecord, ledger: Ledger, readers: Readers) -> None:
        self._record = record
        self._ledger = ledger
        self._readers = readers
        self._sql = load("money.sql")
        self._learning: dict[Name, asyncio.Task[None]] = {}

    async def reserve(
        self, call_id: str, amount_nanodollars: int, balances: Sequence[Balance]
    ) -> tuple[Held, ...] | Refused:
        while (answer := self._ledger.reserve(call_id, amount_nanodollars, balances)) is None:
            await self._learn(balances)
        return answer

    async def held(self, balances: Sequence[Balance]) -> list[Held]:
        while (answer := self._ledger.held(balances)) is None:
            await self._learn(balances)
        return answer

    async def recompute(self, *, repair: bool) -> list[Difference]:
        then = self._ledger.snapshot()
        reader = await self._record.pin(_nothing)
        sums = await self._readers.read_pinned(
            reader, lambda connection: self._sums(connection, list(then.holds)), SUM_SECONDS
        )
        leaked = {
            call_id for call_id, (since, _) in then.holds.items() if _is_over(sums.ended.get(call_id), then.at - since)
        }
        live: dict[Name, int] = {}
        for call_id, (_, names) in then.holds.items():
            for name, amount in names.items() if call_id not in leaked else ():
                live[name] = live.get(name, 0) + amount
        differences: list[Difference] = []
        corrections: list[Spend] = []
        for name, (row_spent, spent, open_reserved) in sums.balances.items():
            reserved = live.get(name, 0) if name in then.tallies else open_reserved
            spent_now, reserved_now = then.tallies.get(name, (row_spent, reserved))
            if spent_now == row_spent == spent and reserved_now == reserved:
                continue
            wrong = spent_now if spent_now != spent else row_spent
            differences.append(Difference(Held(*name, wrong, reserved_now), Held(*name, spent, reserved)))
            if repair:
                self._ledger.correct(name, spent - spent_now, reserved - reserved_now, leaked)
                corrections.append(Spend(*name, spent - row_spent))
        if corrections:
            self._record.add(tuple(corrections))
            await self._record.flush()
        return differences

    async def close(self) -> None:
        """Nobody waits for a balance any more."""
        tasks = list(self._learning.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _learn(self, balances: Sequence[Balance]) -> None:
        tasks = [self._learn_one(balance) for balance in balances if not self._ledger.knows(balance)]
        for task in tasks:
            await asyncio.shield(task)  # others may be waiting for the same balance

    def _learn_one(self, balance: Balance) -> asyncio.Task[None]:
        name = (balance.scope, balance.period)
        task = self._learning.get(name)
        if task is None:
            task = self._learning[name] = asyncio.create_task(self._read(name, balance))
            task.add_done_callback(lambda done: self._learned(name, done))
        return task

    def _learned(self, name: Name, done: asyncio.Task[None]) -> None:
        del self._learning[name]
        self._ledger.forget(name)
        if not done.cancelled():
            done.exception()  # whoever waits sees it; if all of them left, nobody has to

    async def _read(self, name: Name, balance: Balance) -> None:
        begin = self._sql["begin_balance"]
        scope = _scope(balance.scope)
        values = (balance.scope, balance.period, balance.since, balance.until)
        self._ledger.begin_learning(name)
        reader = await self._record.pin(lambda connection: _run(connection, begin, values))
        spent, complete, open_calls = await self._readers.read_pinned(
            reader, lambda connection: self._balance(connection, balance, scope), SUM_SECONDS
        )
        unit: Unit = tuple(self._ledger.learned(balance, spent, open_calls))
        if not complete:
            unit += (Counted(balance.scope, balance.period, spent),)
        if unit:
            self._record.add(unit)

    def _balance(
        self, connection: apsw.Connection, balance: Balance, scope: str
    ) -> tuple[int, bool, list[tuple[str, int]]]:
        ((spent, complete),) = fetch(connection, self._sql["balance"], (balance.scope, balance.period))
        window = (balance.since, balance.until, balance.scope)
        if not complete:
            spent = connection.execute(self._sql["spent_of_scope"].replace("{scope}", scope), window).get
        open_calls = fetch(connection, self._sql["open_of_scope"].replace("{scope}", scope), window)
        return int(spent), bool(complete), [(call_id, reserved) for call_id, reserved in open_calls]

    def _sums(self, connection: apsw.Connection, held_by: list[str]) -> "_Sums":
        """One pass over the calls for each kind of scope and each window."""
        rows = fetch(connection, self._sql["balances"])
        spent: dict[Period, dict[str, int]] = {}
        reserved: dict[Period, dict[str, int]] = {}
        for kind, since, until in {(scope.partition(":")[0], since, until) for scope, _, since, until, _ in rows}:
            for sums, statement in ((spent, "spent_by_scope"), (reserved, "reserved_by_scope")):
                sql = self._sql[statement].replace("{scope}", _SCOPES[kind])
                sums[kind, since, until] = {
                    scope: amount or 0 for scope, amount in fetch(connection, sql, (since, until))
                }
        found = _Sums()
        for scope, period, since, until, row_spent in rows:
            key = (scope.partition(":")[0], since, until)
            found.balances[scope, period] = (row_spent, spent[key].get(scope, 0), reserved[key].get(scope, 0))
        for call_id, ended in fetch(connection, self._sql["calls_among"], (json.dumps(held_by),)):
            found.ended[call_id] = bool(ended)
        return found


Period = tuple[str, float, float]
"""Kind of scope, since, until."""


class _Sums:
    """What rows say: by balance (its row, the sum over calls, what open calls hold), and which calls have a row: has it ended?"""

    __slots__ = ("balances", "ended")

    def __init__(self) -> None:
        self.balances: dict[Name, tuple[int, int, int]] = {}
        self.ended: dict[str, bool] = {}


def _is_over(ended: bool | None, held_seconds: float) -> bool:
    """A call that ended holds nothing; one that was not even opened so long after its reservation never will be."""
    return held_seconds > UNOPENED_SECONDS if ended is None else ended


def _scope(scope: str) -> str:
    kind = scope.partition(":")[0]
    if kind not in _SCOPES:
        raise ValueError(f"{scope!r} is no scope of a budget: it begins with org:, team: or key:")
    return _SCOPES[kind]


def _run(connection: apsw.Connection, sql: str, values: Row) -> None:
    connection.execute(sql, values)


def _nothing(_connection: apsw.Connection) -> None:
    """A pin needs no work of its own."""
