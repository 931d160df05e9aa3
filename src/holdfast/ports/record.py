"""Durable facts, committed together.

A change is a value (declared beside the port whose rows it changes); a unit is a tuple of changes that is committed whole or
not at all, in one transaction over calls, money and directory. That is how a call's end and its money can never disagree.

Promises
- `hand` never waits and never raises for storage: it queues the unit; the writer commits as soon as it is idle, at most
  `commit_interval_seconds` (10 ms) after it was handed, many units in one transaction, in the order they were handed.
- `commit` returns when the unit is `written` (survives kill -9) or `synced` (survives power loss). It raises ConflictError
  where a condition of a change does not hold, StoreUnavailableError where the store cannot take it; then nothing of the unit is stored.
- Handed and committed units of one process are applied in the order of the calls.
- `backlog_bytes` and `backlog_seconds` say how far the writer is behind; the gateway refuses new calls at 64 MiB or 5 s.
- A handed unit that the store refuses is retried while the store is unavailable; one that can never be applied is counted in
  `rejected`, and is a finding: it is not dropped silently.

Awkward cases: disk full is StoreUnavailableError and the backlog grows; reads go on.
"""

from enum import IntEnum
from typing import Protocol

from holdfast.ports.calls import CallChange
from holdfast.ports.directory import DirectoryChange
from holdfast.ports.money import MoneyChange

Change = CallChange | MoneyChange | DirectoryChange


class Level(IntEnum):
    """How far a unit has got before `commit` returns."""

    WRITTEN = 1
    SYNCED = 2


class Record(Protocol):
    @property
    def incarnation(self) -> str:
        """Identity of this store's history: new when it was created or restored."""
        ...

    @property
    def backlog_bytes(self) -> int: ...

    @property
    def backlog_seconds(self) -> float: ...

    @property
    def rejected(self) -> int: ...

    def hand(self, *changes: Change) -> None: ...

    async def commit(self, *changes: Change, level: Level = Level.WRITTEN) -> None: ...

    async def flush(self) -> None:
        """Returns when everything handed before is written."""
        ...

    async def ping(self) -> None:
        """Raises StoreUnavailableError, saying why, when the store cannot take a write now."""
        ...
