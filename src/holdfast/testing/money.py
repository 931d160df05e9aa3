"""Money in memory: what is spent is booked, what is reserved is the sum of what calls hold."""

from collections.abc import Callable, Sequence
from typing import Any

from holdfast.ports.calls import Window
from holdfast.ports.money import Balance, Difference, Held, Refused
from holdfast.testing.calls import cost_of, within
from holdfast.testing.rows import Name, Rows


class MemoryMoney:
    """Promises of `ports.money.Money`. `settle_down` applies what was handed, so that every answer counts it."""

    def __init__(self, rows: Rows, settle_down: Callable[[], None]) -> None:
        self._rows = rows
        self._settle_down = settle_down

    async def reserve(
        self, call_id: str, amount_nanodollars: int, balances: Sequence[Balance]
    ) -> tuple[Held, ...] | Refused:
        for balance, held in zip(balances, await self.held(balances), strict=True):
            if held.spent_nanodollars + held.reserved_nanodollars + amount_nanodollars > balance.limit_nanodollars:
                return Refused(balance, held)
        mine = self._rows.holds.setdefault(call_id, {})
        for balance in balances:
            name = (balance.scope, balance.period)
            mine[name] = mine.get(name, 0) + amount_nanodollars
        return tuple(await self.held(balances))

    async def held(self, balances: Sequence[Balance]) -> list[Held]:
        self._settle_down()
        for balance in balances:
            self._meet(balance)
        return [self._held((balance.scope, balance.period)) for balance in balances]

    async def recompute(self, *, repair: bool) -> list[Difference]:
        self._settle_down()
        differences = []
        for name, balance in self._rows.balances.items():
            if balance.since <= self._rows.pruned_until:
                continue
            held = self._held(name)
            ended = [call_id for call_id in self._rows.holds if self._has_ended(call_id)]
            leaked = sum(self._rows.holds[call_id].get(name, 0) for call_id in ended)
            spent = sum(map(cost_of, within(self._rows, window_of(balance))))
            right = Held(*name, spent, held.reserved_nanodollars - leaked)
            if held == right:
                continue
            differences.append(Difference(held, right))
            if repair:
                self._rows.spent[name] = spent
                for call_id in ended:
                    self._rows.holds[call_id].pop(name, None)
        return differences

    def _meet(self, balance: Balance) -> None:
        """A balance asked for the first time counts its period so far, and holds what its open calls hold."""
        name = (balance.scope, balance.period)
        if name in self._rows.balances:
            return
        self._rows.balances[name] = balance
        found = within(self._rows, window_of(balance))
        self._rows.spent[name] = sum(map(cost_of, found))
        for row in found:
            if row.closed is None:
                self._rows.holds.setdefault(row.opened.id, {})[name] = row.opened.reserved_nanodollars

    def _held(self, name: Name) -> Held:
        reserved = sum(held.get(name, 0) for held in self._rows.holds.values())
        return Held(*name, self._rows.spent[name], reserved)

    def _has_ended(self, call_id: str) -> bool:
        row = self._rows.calls.get(call_id)
        return row is not None and row.closed is not None


def window_of(balance: Balance) -> Window:
    """The calls a balance is about."""
    kind, _, name = balance.scope.partition(":")
    organisation, _, team = name.partition("/")
    asked: dict[str, Any] = {
        "org": {"organisation": name},
        "team": {"organisation": organisation, "team": team},
        "key": {"key_id": name},
    }[kind]
    return Window(balance.since, balance.until, **asked)
