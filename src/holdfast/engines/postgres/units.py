"""What waits to be written, in order."""

import asyncio
from collections import deque
from collections.abc import Sequence

from holdfast.kernel.errors import HoldfastError
from holdfast.ports.directory import Audited, Put
from holdfast.ports.record import Change

CHANGE_BYTES = 1024  # what a change with its strings takes while it waits


class Unit:
    """What was handed or committed together. `waiter` is told the outcome; `patient` ones wait through an outage."""

    __slots__ = ("at", "changes", "patient", "waiter")

    def __init__(
        self, changes: Sequence[Change], at: float, waiter: asyncio.Future[None] | None = None, patient: bool = True
    ) -> None:
        self.changes = changes
        self.at = at
        self.waiter = waiter
        self.patient = patient

    def done(self, error: HoldfastError | None = None) -> None:
        if self.waiter is not None and not self.waiter.done():
            if error is None:
                self.waiter.set_result(None)
            else:
                self.waiter.set_exception(error)

    @property
    def alone(self) -> bool:
        """Changes of the directory can be refused by a condition: they get a transaction of their own."""
        return any(isinstance(change, Put | Audited) for change in self.changes)


class Backlog:
    """Units in the order of the calls; what was taken counts until it is said to be finished."""

    __slots__ = ("_changes", "_taken_since", "queue", "urgent")

    def __init__(self) -> None:
        self.queue: deque[Unit] = deque()
        self.urgent = 0  # units somebody waits for
        self._changes = 0
        self._taken_since: float | None = None

    def add(self, unit: Unit) -> None:
        self.queue.append(unit)
        self._changes += len(unit.changes)
        if unit.waiter is not None:
            self.urgent += 1

    def take(self, most: int) -> list[Unit]:
        """The next units that can share a transaction."""
        units: list[Unit] = []
        while self.queue and len(units) < most:
            alone = self.queue[0].alone
            if alone and units:
                break
            units.append(self.queue.popleft())
            if alone:
                break
        self._taken_since = units[0].at
        return units

    def finish(self, units: Sequence[Unit], error: HoldfastError | None = None) -> None:
        for unit in units:
            self._changes -= len(unit.changes)
            if unit.waiter is not None:
                self.urgent -= 1
            unit.done(error)

    def put_down(self) -> None:
        self._taken_since = None

    def refuse_impatient(self, units: list[Unit], error: HoldfastError) -> list[Unit]:
        """Whoever cannot wait is told so, among `units` and in the queue; returns what is left of `units`."""
        self.finish([unit for unit in units if not unit.patient], error)
        self.finish([unit for unit in self.queue if not unit.patient], error)
        self.queue = deque(unit for unit in self.queue if unit.patient)
        return [unit for unit in units if unit.patient]

    @property
    def waiting_bytes(self) -> int:
        return self._changes * CHANGE_BYTES

    def waiting_seconds(self, now: float) -> float:
        if self._taken_since is not None:
            return now - self._taken_since
        return now - self.queue[0].at if self.queue else 0.0
