"""A store in this process's memory, for tests of what is built on the ports: small, plain, and held to the engines' own suites.

    store = MemoryStore(clock)
    gateway = build(record=store.record, calls=store.calls, money=store.money, rates=store.rates, ...)

Nothing is durable; `MemoryStore(clock, store.rows)` is the same store after a restart. Wrap its ports with
`holdfast.testing.faults` to see what happens when they fail.
"""

import asyncio
from collections.abc import Sequence

from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import ConflictError
from holdfast.ports.directory import Audited, Changes, Key, Organisation, Team
from holdfast.ports.record import Change, Level
from holdfast.testing.calls import MemoryCalls
from holdfast.testing.money import MemoryMoney
from holdfast.testing.rates import MemoryRates
from holdfast.testing.rows import Rows

UNIT_BYTES = 1024


class MemoryRecord:
    """Handed units are applied at the end of the loop's turn, or before the next commit or flush."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._handed: list[tuple[Change, ...]] = []
        self.rejected = 0
        self.backlog_seconds = 0.0

    @property
    def incarnation(self) -> str:
        return self._rows.incarnation

    @property
    def backlog_bytes(self) -> int:
        return len(self._handed) * UNIT_BYTES

    def hand(self, *changes: Change) -> None:
        if not self._handed:
            asyncio.get_running_loop().call_soon(self.settle_down)
        self._handed.append(changes)

    async def commit(self, *changes: Change, level: Level = Level.WRITTEN) -> None:
        self.settle_down()
        self._rows.apply(changes)
        await asyncio.sleep(0)

    async def flush(self) -> None:
        await asyncio.sleep(0)
        self.settle_down()

    async def ping(self) -> None:
        """Memory always takes a write."""

    def settle_down(self) -> None:
        """Apply what was handed, now."""
        handed, self._handed = self._handed, []
        for unit in handed:
            try:
                self._rows.apply(unit)
            except ConflictError:
                self.rejected += 1


class MemoryDirectory:
    """Organisations, teams, keys and their audit."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def changes_since(self, version: int) -> Changes:
        await asyncio.sleep(0)
        found = [row for row in self._rows.directory.values() if row.version > version]
        found.sort(key=lambda row: row.version)
        return Changes(
            self._rows.version,
            tuple(row for row in found if isinstance(row, Organisation)),
            tuple(row for row in found if isinstance(row, Team)),
            tuple(row for row in found if isinstance(row, Key)),
        )

    async def audit(
        self, *, limit: int = 100, before: tuple[float, str] | None = None, subject: str | None = None
    ) -> Sequence[Audited]:
        found = [row for row in self._rows.audits.values() if subject is None or row.subject == subject]
        found = [row for row in found if before is None or (row.at, row.id) < before]
        return sorted(found, key=lambda row: (row.at, row.id), reverse=True)[:limit]


class MemoryStore:
    """Every port, over one set of rows."""

    def __init__(self, clock: Clock, rows: Rows | None = None) -> None:
        self.rows = Rows() if rows is None else rows
        self.record = MemoryRecord(self.rows)
        self.calls = MemoryCalls(self.rows)
        self.money = MemoryMoney(self.rows, self.record.settle_down)
        self.directory = MemoryDirectory(self.rows)
        self.rates = MemoryRates(clock)

    async def close(self) -> None:
        await self.record.flush()
