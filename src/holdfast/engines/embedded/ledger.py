"""Money in memory: plain arithmetic on the event loop, where nothing can come between a check and its reservation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from holdfast.engines.embedded.units import Spend, Undo, Unit
from holdfast.kernel.clock import Clock
from holdfast.ports.calls import Attempted, CallClosed
from holdfast.ports.money import Balance, Held, Refused, Settled

Name = tuple[str, str]
_SWEEP_AT = 1000
_MOST_GROUPS = 20_000


class Tally:
    """A balance in memory."""

    __slots__ = ("period", "reserved_nanodollars", "scope", "spent_nanodollars", "until")

    def __init__(self, name: Name, until: float, spent_nanodollars: int) -> None:
        self.scope, self.period = name
        self.until = until
        self.spent_nanodollars = spent_nanodollars
        self.reserved_nanodollars = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The ledger at one moment. `tallies`: (spent, reserved). `holds`: since when, and how much of what, by call."""

    at: float
    tallies: dict[Name, tuple[int, int]] = field(default_factory=dict)
    holds: dict[str, tuple[float, dict[Name, int]]] = field(default_factory=dict)


class _Group:
    """The balances of one plan, looked up. `balances` is kept so that its identity stays taken."""

    __slots__ = ("balances", "names", "tallies")

    def __init__(self, balances: Sequence[Balance]) -> None:
        self.balances = balances
        self.names = tuple([(balance.scope, balance.period) for balance in balances])
        self.tallies: list[tuple[Balance, Tally]] = []


class Ledger:
    """Balances that are known, and who holds what of them.

    A balance is learned from rows once (money.py does the reading). An open call that was there before its balance was
    learned is *adopted*: it holds what its row says it reserved, and when it ends without a `Settled` that names
    the balance, because the budget is younger than the call, its cost is charged all the same.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[Name, Tally] = {}
        self._holds: dict[str, tuple[float, dict[Name, int]]] = {}
        self._whole: dict[str, tuple[float, int, tuple[Name, ...]]] = {}
        self._groups: dict[int, _Group] = {}
        self._adopted: dict[str, tuple[float, dict[Name, int]]] = {}
        self._logs: dict[Name, list[tuple[Unit, list[Undo] | None]]] = {}
        self._sweep_at = _SWEEP_AT

    def reserve(
        self, call_id: str, amount_nanodollars: int, balances: Sequence[Balance]
    ) -> tuple[Held, ...] | Refused | None:
        """None: a balance is not known yet, nothing was reserved."""
        group = self._groups.get(id(balances)) or self._group(balances)
        if group is None:
            return None
        for balance, tally in group.tallies:
            if tally.spent_nanodollars + tally.reserved_nanodollars + amount_nanodollars > balance.limit_nanodollars:
                return Refused(balance, _held(balance, tally))
        if not group.names:
            return ()
        if call_id in self._whole or call_id in self._holds:
            self._add(call_id, amount_nanodollars, group.names)
        else:
            self._whole[call_id] = (self._clock.monotonic(), amount_nanodollars, group.names)
        answer = []
        for _, tally in group.tallies:
            tally.reserved_nanodollars += amount_nanodollars
            answer.append(Held(tally.scope, tally.period, tally.spent_nanodollars, tally.reserved_nanodollars))
        return tuple(answer)

    def held(self, balances: Sequence[Balance]) -> list[Held] | None:
        """None: a balance is not known yet."""
        answer = []
        for balance in balances:
            tally = self._known.get((balance.scope, balance.period))
            if tally is None:
                return None
            answer.append(_held(balance, tally))
        return answer

    def apply(self, unit: Unit, undos: list[Undo] | None = None) -> Unit:
        """Book what a unit says about money, at once; the unit as it is to be written. `undos` collects how to take it back."""
        for change in unit:
            if type(change) is Settled:
                self._settle(change, undos)
        if self._logs:
            for log in self._logs.values():
                log.append((unit, undos))
        if self._adopted:
            unit += tuple(self._charge_adopted(unit, undos))
        return unit

    def undo(self, undos: list[Undo]) -> None:
        """The unit was not stored: nothing of it holds."""
        for undo in reversed(undos):
            undo()
        for log in self._logs.values():
            log[:] = [entry for entry in log if entry[1] is not undos]

    def knows(self, balance: Balance) -> bool:
        return (balance.scope, balance.period) in self._known

    def begin_learning(self, name: Name) -> None:
        """From here on units are noted, until `learned` or `forget` says what to do with them."""
        self._logs[name] = []

    def forget(self, name: Name) -> None:
        self._logs.pop(name, None)

    def learned(self, balance: Balance, spent_nanodollars: int, open_calls: Iterable[tuple[str, int]]) -> list[Spend]:
        """The balance as rows told it at `begin_learning`, then what happened since. What is returned is to be handed."""
        name = (balance.scope, balance.period)
        self._sweep()
        tally = self._known[name] = Tally(name, balance.until, spent_nanodollars)
        self._groups.clear()
        for call_id, reserved in open_calls:
            tally.reserved_nanodollars += reserved
            self._give_back(self._adopted, call_id, name, reserved)
        late: list[Spend] = []
        for unit, undos in self._logs.pop(name):
            for change in unit:
                if isinstance(change, Settled) and name in change.balances:
                    _book(tally, change.spent_nanodollars, -change.reserved_nanodollars, undos)
            late += self._charge_adopted(unit, undos, only=name)
        return late

    def snapshot(self) -> Snapshot:
        tallies = {name: (tally.spent_nanodollars, tally.reserved_nanodollars) for name, tally in self._known.items()}
        snapshot = Snapshot(self._clock.monotonic(), tallies)
        self._open_whole()
        for held in (self._adopted, self._holds):
            for call_id, (since, names) in held.items():
                _, also = snapshot.holds.get(call_id, (since, {}))
                snapshot.holds[call_id] = (since, {**also, **names})
        return snapshot

    def correct(self, name: Name, spent_nanodollars: int, reserved_nanodollars: int, leaked: Iterable[str]) -> None:
        """Add differences to a balance, and drop what calls that are over still hold of it."""
        tally = self._known.get(name)
        if tally is not None:
            _book(tally, spent_nanodollars, reserved_nanodollars, None)
        self._open_whole()
        for call_id in leaked:
            self._let_go(self._holds, call_id, name, None)
            self._let_go(self._adopted, call_id, name, None)

    def _settle(self, settled: Settled, undos: list[Undo] | None) -> None:
        reserved = settled.reserved_nanodollars
        whole = self._whole.get(settled.call_id)
        if whole is not None:
            if undos is None and whole[1] == reserved and whole[2] == settled.balances:
                del self._whole[settled.call_id]
                for name in settled.balances:
                    held = self._known[name]
                    held.spent_nanodollars += settled.spent_nanodollars
                    held.reserved_nanodollars -= reserved
                return
            self._open_one(settled.call_id)
        for name in settled.balances:
            tally = self._known.get(name)
            if tally is not None:
                _book(tally, settled.spent_nanodollars, -reserved, undos)
                self._let_go(self._holds, settled.call_id, name, undos, reserved)

    def _charge_adopted(self, unit: Unit, undos: list[Undo] | None, only: Name | None = None) -> list[Spend]:
        for change in unit:
            if isinstance(change, Settled):
                for name in change.balances:
                    if only is None or name == only:
                        self._let_go(self._adopted, change.call_id, name, undos)
        late: list[Spend] = []
        for change in unit:
            if isinstance(change, CallClosed):
                late += self._charge(change.id, change.cost_nanodollars or 0, undos, only, ends=True)
            elif isinstance(change, Attempted):
                late += self._charge(change.call_id, change.cost_nanodollars or 0, undos, only, ends=False)
        return late

    def _charge(
        self, call_id: str, cost: int, undos: list[Undo] | None, only: Name | None, *, ends: bool
    ) -> list[Spend]:
        late: list[Spend] = []
        _, names = self._adopted.get(call_id, (0.0, {}))
        for name, reserved in list(names.items()):
            if only is None or name == only:
                _book(self._known[name], cost, -reserved if ends else 0, undos)
                late.append(Spend(*name, cost))
                if ends:
                    self._let_go(self._adopted, call_id, name, undos)
        return late

    def _let_go(
        self,
        held: dict[str, tuple[float, dict[Name, int]]],
        call_id: str,
        name: Name,
        undos: list[Undo] | None,
        most: int | None = None,
    ) -> None:
        """The call holds `most` less of a balance, or nothing of it any more."""
        entry = held.get(call_id)
        if entry is None or name not in entry[1]:
            return
        amount = entry[1].pop(name)
        if most is not None and most < amount:
            entry[1][name] = amount - most
            amount = most
        if not entry[1]:
            del held[call_id]
        if undos is not None:
            undos.append(partial(self._give_back, held, call_id, name, amount))

    def _give_back(self, held: dict[str, tuple[float, dict[Name, int]]], call_id: str, name: Name, amount: int) -> None:
        _, names = held.setdefault(call_id, (self._clock.monotonic(), {}))
        names[name] = names.get(name, 0) + amount

    def _group(self, balances: Sequence[Balance]) -> "_Group | None":
        """Balances that are passed again and again are looked up once. None: one of them is not known yet."""
        group = _Group(balances)
        for balance in balances:
            tally = self._known.get((balance.scope, balance.period))
            if tally is None:
                return None
            group.tallies.append((balance, tally))
        if len(self._groups) >= _MOST_GROUPS:
            self._groups.clear()
        self._groups[id(balances)] = group
        return group

    def _add(self, call_id: str, amount: int, names: tuple[Name, ...]) -> None:
        """A call that holds something already reserves more."""
        self._open_one(call_id)
        _, held = self._holds.setdefault(call_id, (self._clock.monotonic(), {}))
        for name in names:
            held[name] = held.get(name, 0) + amount

    def _open_one(self, call_id: str) -> None:
        """What a call holds, by balance: for whatever is not settled as it was reserved."""
        whole = self._whole.pop(call_id, None)
        if whole is not None:
            since, amount, names = whole
            self._holds[call_id] = (since, dict.fromkeys(names, amount))

    def _open_whole(self) -> None:
        for call_id in list(self._whole):
            self._open_one(call_id)

    def _sweep(self) -> None:
        """Periods that are over and hold nothing are not kept in memory; their rows stay."""
        if len(self._known) < self._sweep_at:
            return
        now = self._clock.now()
        self._open_whole()
        in_use = {name for held in (self._holds, self._adopted) for _, names in held.values() for name in names}
        over = [name for name, tally in self._known.items() if tally.until < now and tally.reserved_nanodollars == 0]
        for name in over:
            if name not in in_use:
                del self._known[name]
        self._groups.clear()
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._known))


def _held(balance: Balance, tally: Tally) -> Held:
    return Held(balance.scope, balance.period, tally.spent_nanodollars, tally.reserved_nanodollars)


def _book(tally: Tally, spent: int, reserved: int, undos: list[Undo] | None) -> None:
    tally.spent_nanodollars += spent
    tally.reserved_nanodollars += reserved
    if undos is not None:
        undos.append(partial(_book, tally, -spent, -reserved, None))
