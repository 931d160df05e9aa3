"""What a batch of units becomes: rows by statement, in one round trip and one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from holdfast.engines.postgres.pool import Connection
from holdfast.engines.postgres.rows import Row, attempt_row, closed_row, encode, end_row, opened_row
from holdfast.engines.postgres.statements import load
from holdfast.ports.calls import Attempted, CallClosed, CallOpened
from holdfast.ports.money import Settled
from holdfast.ports.record import Change


@dataclass(slots=True)
class Batch:
    """Rows of many units. An opening and its end in one batch are one row."""

    opened: dict[str, Row] = field(default_factory=dict)
    whole: dict[str, Row] = field(default_factory=dict)
    closed: dict[str, Row] = field(default_factory=dict)
    attempts: list[Row] = field(default_factory=list)
    settled: list[Row] = field(default_factory=list)

    def add(self, change: Change) -> None:
        match change:
            case CallClosed():
                self._close(change)
            case CallOpened():
                if change.id not in self.whole and change.id not in self.closed:
                    self.opened.setdefault(change.id, opened_row(change))
            case Settled():
                reserved, spent = change.reserved_nanodollars, change.spent_nanodollars
                self.settled += [(change.call_id, scope, period, reserved, spent) for scope, period in change.balances]
            case Attempted():
                self.attempts.append(attempt_row(change))
            case _:
                raise TypeError(f"{type(change).__name__} is no change of calls or money")

    def _close(self, end: CallClosed) -> None:
        if end.id in self.whole or end.id in self.closed:
            return  # the first end stays
        opened = self.opened.pop(end.id, None)
        if opened is None and end.opened is not None:
            opened = opened_row(end.opened)
        if opened is None:
            self.closed[end.id] = closed_row(end)
        else:
            self.whole[end.id] = opened + end_row(end)


def batch_of(units: Iterable[Sequence[Change]]) -> Batch:
    batch = Batch()
    add = batch.add
    for changes in units:
        for change in changes:
            add(change)
    return batch


class BatchWriter:
    """Sends batches. Money comes last, so that balances are locked for as short as possible."""

    def __init__(self, writer: str) -> None:
        record, calls, money = load("record.sql"), load("calls.sql"), load("money.sql")
        self._writer = writer
        self._advance = record["advance"]
        self._unknown_ends = calls["unknown_ends"]
        self._statements: tuple[tuple[str, str], ...] = (
            ("opened", calls["open"]),
            ("whole", calls["whole"]),
            ("closed", calls["close"]),
            ("attempts", calls["attempt"]),
        )
        self._settle = money["settle"]

    async def advance(self, connection: Connection, number: int) -> None:
        await connection.execute(self._advance, {"writer": self._writer, "batch": number})

    async def write(self, connection: Connection, number: int, batch: Batch) -> int:
        """All of it or, raising, nothing; returns how many ends had no call to be the end of. A pipeline without BEGIN
        is one transaction that its only synchronisation, at the end, commits."""
        async with connection.pipeline():
            await self.advance(connection, number)
            moved = await self.send(connection, batch)
        if moved is None or moved.rowcount == len(batch.closed):
            return 0
        row = await (await connection.execute(self._unknown_ends, {"ids": list(batch.closed)})).fetchone()
        return int(row[0]) if row is not None else 0

    async def send(self, connection: Connection, batch: Batch) -> AsyncCursor[TupleRow] | None:
        """Returns what moved the ended calls, if any were to be moved."""
        moved = None
        for name, statement in self._statements:
            rows = getattr(batch, name)
            if rows:
                parameters = {"rows": encode(list(rows.values()) if isinstance(rows, dict) else rows)}
                cursor = await connection.execute(statement, parameters)
                if name == "closed":
                    moved = cursor
        ended = [*batch.closed, *batch.whole]
        if ended or batch.settled:
            await connection.execute(self._settle, {"rows": encode(batch.settled), "ended": ended})
        return moved
