"""A store in memory, small enough to be believed: what tenancy asks of its ports, with outages and rivals on demand."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from holdfast.kernel.errors import ConflictError, StoreUnavailableError
from holdfast.ports.calls import CallOpened, CallRow, GroupBy, Spent, UsageRow, Window
from holdfast.ports.directory import Audited, Changes, Key, Organisation, Put, Team
from holdfast.ports.money import Balance, Difference, Held, Refused
from holdfast.ports.record import Change, Level

Row = Organisation | Team | Key


def identity(row: Row) -> tuple[str, ...]:
    if isinstance(row, Organisation):
        return ("organisation", row.name)
    if isinstance(row, Team):
        return ("team", row.organisation, row.name)
    return ("key", row.id)


class MemoryStore:
    """Directory and record in one. `away` makes every verb fail; `before_commit` runs a rival's change first, once."""

    incarnation = "memory"
    backlog_bytes = 0
    backlog_seconds = 0.0
    rejected = 0

    def __init__(self) -> None:
        self.rows: dict[tuple[str, ...], Row] = {}
        self.audits: list[Audited] = []
        self.version = 0
        self.away = False
        self.commits = 0
        self.before_commit: Callable[[], None] | None = None

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailableError("the store is away")

    async def ping(self) -> None:
        self._answer()

    async def flush(self) -> None:
        self._answer()

    def hand(self, *changes: Change) -> None:
        raise NotImplementedError("tenancy commits, it never hands")

    async def commit(self, *changes: Change, level: Level = Level.WRITTEN) -> None:
        self._answer()
        await asyncio.sleep(0)
        rival, self.before_commit = self.before_commit, None
        if rival is not None:
            rival()
        self.apply(*changes)
        assert level is Level.SYNCED

    def apply(self, *changes: Change) -> None:
        for change in changes:
            if isinstance(change, Put):
                known = self.rows.get(identity(change.row))
                if change.expect_version is not None and change.expect_version != (
                    0 if known is None else known.version
                ):
                    raise ConflictError("another change came first")
        self.version += 1
        self.commits += 1
        for change in changes:
            if isinstance(change, Put):
                self.rows[identity(change.row)] = replace(change.row, version=self.version)
            elif isinstance(change, Audited):
                self.audits.append(change)

    async def changes_since(self, version: int) -> Changes:
        self._answer()
        rows = [row for row in self.rows.values() if row.version > version]
        return Changes(
            self.version,
            tuple(row for row in rows if isinstance(row, Organisation)),
            tuple(row for row in rows if isinstance(row, Team)),
            tuple(row for row in rows if isinstance(row, Key)),
        )

    async def audit(
        self, *, limit: int = 100, before: tuple[float, str] | None = None, subject: str | None = None
    ) -> Sequence[Audited]:
        self._answer()
        found = [row for row in self.audits if subject is None or row.subject == subject]
        found = [row for row in found if before is None or (row.at, row.id) < before]
        return sorted(found, key=lambda row: (row.at, row.id), reverse=True)[:limit]


class MemoryCalls:
    """Call rows as they were put in. `windows` are those asked for."""

    def __init__(self) -> None:
        self.rows: list[CallRow] = []
        self.sums: list[UsageRow] = []
        self.windows: list[Window] = []

    async def get(self, call_id: str) -> CallRow | None:
        return next((row for row in self.rows if row.opened.id == call_id), None)

    async def page(self, window: Window, *, limit: int = 100, before: tuple[float, str] | None = None) -> list[CallRow]:
        self.windows.append(window)
        found = [row for row in self.rows if matches(row.opened, window)]
        found = [row for row in found if before is None or (row.opened.opened_at, row.opened.id) < before]
        return sorted(found, key=lambda row: (row.opened.opened_at, row.opened.id), reverse=True)[:limit]

    async def usage(self, window: Window, by: Sequence[GroupBy], *, limit: int = 1000) -> list[UsageRow]:
        self.windows.append(window)
        return self.sums[:limit]

    async def spent(self, window: Window) -> Spent:
        return Spent(0, 0)

    async def open_calls(self, node: str | None = None, *, limit: int = 10_000) -> list[CallOpened]:
        return []

    async def prune(self, opened_before: float, *, limit: int = 10_000) -> int:
        return 0


def matches(opened: CallOpened, window: Window) -> bool:
    return (
        window.since <= opened.opened_at < window.until
        and window.organisation in (None, opened.organisation)
        and window.team in (None, opened.team)
        and window.key_id in (None, opened.key_id)
        and window.model in (None, opened.model)
    )


class MemoryMoney:
    """Balances as they were put in."""

    def __init__(self) -> None:
        self.balances: dict[tuple[str, str], Held] = {}

    async def reserve(
        self, call_id: str, amount_nanodollars: int, balances: Sequence[Balance]
    ) -> tuple[Held, ...] | Refused:
        raise NotImplementedError("tenancy reads balances, it never reserves")

    async def held(self, balances: Sequence[Balance]) -> list[Held]:
        return [
            self.balances.get((balance.scope, balance.period), Held(balance.scope, balance.period, 0, 0))
            for balance in balances
        ]

    async def recompute(self, *, repair: bool) -> list[Difference]:
        return []
