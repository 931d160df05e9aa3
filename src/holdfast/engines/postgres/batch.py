"""What a batch of units becomes: rows by statement, in one round trip and one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

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
        self._statements: tuple[tuple[str, str], ...] = (
            ("opened", calls["open"]),
            ("whole", calls["whole"]),
            ("closed", calls["close"]),
            ("attempts", calls["attempt"]),
        )
        self._settle = money["settle"]

    async def advance(self, connection: Connection, number: int) -> None:
        await connection.execute(self._advance, {"writer": self._writer, "batch": number})

    async def write(self, connection: Connection, number: int, batch: Batch) -> None:
        """All of it or, raising, nothing. A pipeline without BEGIN is one transaction, which its only synchronisation,
        at the end, commits."""
        async with connection.pipeline():
            await self.advance(connection, number)
            await self.send(connection, batch)

    async def send(self, connection: Connection, batch: Batch) -> None:
        for name, statement in self._statements:
            rows = getattr(batch, name)
            if rows:
                await connection.execute(
                    statement, {"rows": encode(list(rows.values()) if isinstance(rows, dict) else rows)}
                )
        ended = [*batch.closed, *batch.whole]
        if ended or batch.settled:
            await connection.execute(self._settle, {"rows": encode(batch.settled), "ended": ended})
