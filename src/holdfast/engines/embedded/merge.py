"""Many units, few statements: the changes of a batch, gathered by the table they go to."""

from collections.abc import Iterable

from holdfast.engines.embedded.rows import NO_END, attempt_row, closed_row, end_row
from holdfast.engines.embedded.statements import Row
from holdfast.engines.embedded.units import Counted, Spend, Unit
from holdfast.ports.calls import Attempted, CallClosed, CallOpened
from holdfast.ports.directory import Audited, Put
from holdfast.ports.money import Settled


class Merged:
    """`calls`: whole rows; `ends`: ends of calls opened in an earlier batch. What touches one row keeps its order."""

    __slots__ = ("attempts", "calls", "counted", "directory", "ends", "spent")

    def __init__(self, units: Iterable[Unit]) -> None:
        opened: dict[str, CallOpened] = {}
        closed: dict[str, CallClosed] = {}
        spent: dict[tuple[str, str], int] = {}
        self.attempts: list[Row] = []
        self.counted: list[Counted] = []
        self.directory: list[Put | Audited] = []
        for unit in units:
            for change in unit:
                match change:
                    case CallOpened():
                        opened.setdefault(change.id, change)
                    case CallClosed():
                        closed.setdefault(change.id, change)
                        if change.opened is not None:
                            opened.setdefault(change.id, change.opened)
                    case Settled():
                        if change.spent_nanodollars:
                            for name in change.balances:
                                spent[name] = spent.get(name, 0) + change.spent_nanodollars
                    case Attempted():
                        self.attempts.append(attempt_row(change))
                    case Spend(scope, period, nanodollars):
                        spent[scope, period] = spent.get((scope, period), 0) + nanodollars
                    case Counted():
                        self.counted.append(change)
                    case Put() | Audited():
                        self.directory.append(change)
                    case _:
                        raise TypeError(f"{type(change).__name__} is not a change")
        self.calls: list[Row] = []
        for identity, row in opened.items():
            end = closed.pop(identity, None)
            self.calls.append(row + (NO_END if end is None else end_row(end)))
        self.ends: list[Row] = [closed_row(end) for end in closed.values()]
        self.spent: list[Row] = [(scope, period, nanodollars) for (scope, period), nanodollars in spent.items()]
