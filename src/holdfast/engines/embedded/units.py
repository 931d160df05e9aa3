"""What travels from the event loop to the writer thread, and what comes back."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import apsw

from holdfast.kernel.errors import HoldfastError
from holdfast.ports.directory import Put
from holdfast.ports.record import Change, Level


class Spend(NamedTuple):
    """Spending of a balance that the call's own `Settled` does not name, because the budget is younger than the call."""

    scope: str
    period: str
    nanodollars: int


class Counted(NamedTuple):
    """What the calls before a balance was begun had cost."""

    scope: str
    period: str
    nanodollars: int


Unit = tuple[Change | Spend | Counted, ...]
"""Changes that are written together; handed, so nobody waits for them."""


Undo = Callable[[], None]
"""Takes back one thing a unit did to the money in memory."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A unit somebody waits for. `work` runs in the writer's transaction, after the changes; with `pin` the transaction
    ends behind it and `result` is a connection that sees exactly what was committed up to here."""

    future: asyncio.Future[Any]
    changes: Unit = ()
    level: Level = Level.WRITTEN
    work: Callable[[apsw.Connection], Any] | None = None
    pin: bool = False
    undos: list[Undo] = field(default_factory=list)
    result: Any = None
    error: HoldfastError | None = None

    @property
    def alone(self) -> bool:
        """It can be refused, or does what cannot be merged with its neighbours."""
        return self.work is not None or any(
            type(change) is Put and change.expect_version is not None for change in self.changes
        )


Item = Unit | Waiting


@dataclass(slots=True)
class Outcome:
    """What became of a batch. `retry`: handed units that the store does not take now, in order. `stopped`: there is no more
    writer, and nothing of the batch is known to be written."""

    rejected: int = 0
    retry: list[Unit] = field(default_factory=list)
    unavailable: str | None = None
    stopped: bool = False
