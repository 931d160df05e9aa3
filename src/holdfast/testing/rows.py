"""What the fakes keep: plain dictionaries, and units that change them whole or not at all."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from holdfast.kernel.errors import ConflictError
from holdfast.ports.calls import Attempted, CallClosed, CallOpened, CallRow
from holdfast.ports.directory import Audited, Key, Organisation, Put, Team
from holdfast.ports.money import Balance, Settled
from holdfast.ports.record import Change

Name = tuple[str, str]
Row = Organisation | Team | Key
LARGEST = 2**63 - 1


@dataclass(slots=True)
class Rows:
    """The state of a store. `holds` says what each call holds of each balance; `spent` what was booked on it."""

    incarnation: str = "memory"
    calls: dict[str, CallRow] = field(default_factory=dict)
    directory: dict[tuple[str, ...], Row] = field(default_factory=dict)
    audits: dict[str, Audited] = field(default_factory=dict)
    balances: dict[Name, Balance] = field(default_factory=dict)
    spent: dict[Name, int] = field(default_factory=dict)
    holds: dict[str, dict[Name, int]] = field(default_factory=dict)
    version: int = 0
    pruned_until: float = -1.0

    def apply(self, unit: tuple[Change, ...]) -> None:
        """ConflictError: it cannot be applied, and nothing of it was."""
        change = _Unit(self)
        version = self.version
        try:
            for one in sorted(unit, key=_place):
                change.apply(one, unit)
        except ConflictError:
            self.version = version
            change.undo()
            raise


class _Unit:
    """One unit on its way in, with what it replaced."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._before: list[tuple[dict[Any, Any], Hashable, Any]] = []

    def undo(self) -> None:
        for where, key, value in reversed(self._before):
            if value is None:
                where.pop(key, None)
            else:
                where[key] = value

    def apply(self, change: Change, unit: tuple[Change, ...]) -> None:
        if any(isinstance(value, int) and abs(value) > LARGEST for value in _values(change)):
            raise ConflictError("a number is larger than a store can hold")
        match change:
            case CallOpened():
                if change.id not in self._rows.calls:
                    self._set(self._rows.calls, change.id, CallRow(change, None))
            case Attempted():
                self._attempt(change)
            case CallClosed():
                self._close(change, unit)
            case Settled():
                self._settle(change)
            case Put():
                self._put(change)
            case Audited():
                if change.id in self._rows.audits:
                    raise ConflictError(f"the audit row {change.id} is there already")
                self._set(self._rows.audits, change.id, change)

    def _set(self, where: dict[Any, Any], key: Hashable, value: object) -> None:
        self._before.append((where, key, where.get(key)))
        where[key] = value

    def _attempt(self, attempt: Attempted) -> None:
        row = self._rows.calls.get(attempt.call_id)
        if row is not None and all(one.number != attempt.number for one in row.further):
            further = tuple(sorted((*row.further, attempt), key=lambda one: one.number))
            self._set(self._rows.calls, attempt.call_id, _costed(replace(row, further=further)))

    def _close(self, closed: CallClosed, unit: tuple[Change, ...]) -> None:
        row = self._rows.calls.get(closed.id)
        if row is None and closed.opened is None:
            raise ConflictError(f"call {closed.id} was never opened")
        if row is not None and row.closed is not None:
            return
        opened = closed.opened if row is None else row.opened
        further = row.further if row is not None else ()
        late = [one for one in unit if isinstance(one, Attempted) and one.call_id == closed.id]
        row = _costed(CallRow(opened or closed.opened, closed._replace(opened=None), further))  # type: ignore[arg-type]
        self._set(self._rows.calls, closed.id, row)
        named = {name for one in unit if isinstance(one, Settled) for name in one.balances}
        costs = [closed.cost_nanodollars, *(one.cost_nanodollars for one in (*further, *late))]
        for name in set(self._rows.holds.get(closed.id, {})) - named:
            # A budget younger than the call: its end does not name it, and is charged to it all the same.
            self._book(name, sum(cost or 0 for cost in costs))
            self._hold(closed.id, name, 0)

    def _settle(self, settled: Settled) -> None:
        for name in settled.balances:
            self._book(name, settled.spent_nanodollars)
            held = self._rows.holds.get(settled.call_id, {}).get(name, 0)
            self._hold(settled.call_id, name, max(0, held - settled.reserved_nanodollars))

    def _book(self, name: Name, nanodollars: int) -> None:
        if name in self._rows.spent:
            self._set(self._rows.spent, name, self._rows.spent[name] + nanodollars)

    def _hold(self, call_id: str, name: Name, nanodollars: int) -> None:
        held = {one: amount for one, amount in self._rows.holds.get(call_id, {}).items() if one != name}
        self._set(self._rows.holds, call_id, held | ({name: nanodollars} if nanodollars else {}))

    def _put(self, put: Put) -> None:
        name = identity(put.row)
        known = self._rows.directory.get(name)
        current = 0 if known is None else known.version
        if put.expect_version is not None and put.expect_version != current:
            raise ConflictError(f"{'/'.join(name)} is at version {current}, not {put.expect_version}")
        self._rows.version += 1
        self._set(self._rows.directory, name, replace(put.row, version=self._rows.version))


def identity(row: Row) -> tuple[str, ...]:
    if isinstance(row, Organisation):
        return ("organisation", row.name)
    if isinstance(row, Team):
        return ("team", row.organisation, row.name)
    return ("key", row.id)


def _place(change: Change) -> int:
    """Within a unit calls open before anything is said of them, and money is settled last."""
    return {CallOpened: 0, Attempted: 2, CallClosed: 1, Settled: 3}.get(type(change), 4)


def _values(change: Change) -> tuple[object, ...]:
    return tuple(change) if isinstance(change, tuple) else ()


def _costed(row: CallRow) -> CallRow:
    if row.closed is None:
        return row
    costs = [row.closed.cost_nanodollars, *(attempt.cost_nanodollars for attempt in row.further)]
    known = [cost for cost in costs if cost is not None]
    return replace(row, cost_nanodollars=sum(known) if len(known) == len(costs) else None)
