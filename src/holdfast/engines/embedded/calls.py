"""EmbeddedCalls: windowed queries on reader threads."""

import json
from collections.abc import Sequence
from typing import Any

import apsw

from holdfast.engines.embedded.connections import fetch
from holdfast.engines.embedded.readers import Readers
from holdfast.engines.embedded.record import EmbeddedRecord
from holdfast.engines.embedded.rows import read_attempt, read_call, read_opened
from holdfast.engines.embedded.statements import load
from holdfast.kernel.errors import InvalidRequestError
from holdfast.ports.calls import Attempted, CallOpened, CallRow, GroupBy, Spent, UsageRow, Window

MOST_ROWS = 10_000
_GROUPS: dict[GroupBy, str] = {
    "organisation": "organisation",
    "team": "team",
    "key_id": "key_id",
    "model": "model",
    "route": "route",
    "status": "coalesce(calls.status, 'open')",
    "lane": "coalesce(answered_lane, calls.lane)",
    "day": "strftime('%Y-%m-%d', opened_at, 'unixepoch')",
    "hour": "strftime('%Y-%m-%dT%H', opened_at, 'unixepoch')",
}


class EmbeddedCalls:
    """Promises of `ports.calls.Calls`. No query returns more than 10,000 rows or takes longer than five seconds."""

    def __init__(self, record: EmbeddedRecord, readers: Readers) -> None:
        self._record = record
        self._readers = readers
        self._sql = load("calls.sql")
        self._delete_old_balances = load("money.sql")["delete_old_balances"]

    async def get(self, call_id: str) -> CallRow | None:
        def read(connection: apsw.Connection) -> CallRow | None:
            rows = self._with_attempts(connection, fetch(connection, self._sql["call_by_id"], (call_id,)))
            return rows[0] if rows else None

        return await self._readers.read(read)

    async def page(self, window: Window, *, limit: int = 100, before: tuple[float, str] | None = None) -> list[CallRow]:
        conditions, values = _conditions(window)
        if before is not None:
            conditions += " AND opened_at <= :before_at AND (opened_at, id) < (:before_at, :before_id)"
            values |= {"before_at": before[0], "before_id": before[1]}
        sql = self._sql["page"].replace("{conditions}", conditions)
        values["limit"] = _bounded(limit)
        return await self._readers.read(lambda reader: self._with_attempts(reader, fetch(reader, sql, values)))

    async def usage(self, window: Window, by: Sequence[GroupBy], *, limit: int = 1000) -> list[UsageRow]:
        conditions, values = _conditions(window)
        values["limit"] = _bounded(limit)
        # One group more, the same for all, so that asking for no group is asking for the sum.
        names = [f"group_{index}" for index in range(len(by) + 1)]
        groups = ", ".join(
            f"{group} AS {name}" for group, name in zip([*(_GROUPS[one] for one in by), "''"], names, strict=True)
        )
        sql = self._sql["usage"]
        sql = sql.replace("{conditions}", conditions).replace("{groups}", groups).replace("{names}", ", ".join(names))
        width = len(by)

        def read(connection: apsw.Connection) -> list[UsageRow]:
            return [UsageRow(tuple(row[:width]), *row[width + 1 :]) for row in fetch(connection, sql, values)]

        return await self._readers.read(read)

    async def spent(self, window: Window) -> Spent:
        conditions, values = _conditions(window)
        sql = self._sql["spent"].replace("{conditions}", conditions)
        spent, reserved = await self._readers.read(lambda connection: connection.execute(sql, values).get)
        return Spent(spent, reserved)

    async def open_calls(self, node: str | None = None, *, limit: int = 10_000) -> list[CallOpened]:
        values = {"node": node, "limit": _bounded(limit)}
        return await self._readers.read(
            lambda connection: [read_opened(row) for row in fetch(connection, self._sql["open_calls"], values)]
        )

    async def prune(self, opened_before: float, *, limit: int = 10_000) -> int:
        def delete(connection: apsw.Connection) -> int:
            rows = fetch(connection, self._sql["prunable"], (opened_before, limit))
            if not rows:
                return 0
            connection.execute(self._sql["delete_calls"], (json.dumps([rowid for rowid, _, _ in rows]),))
            connection.execute(self._sql["delete_attempts"], (json.dumps([call_id for _, call_id, _ in rows]),))
            newest = rows[-1][2]
            connection.execute(self._sql["note_pruned"], (newest,))
            connection.execute(self._delete_old_balances, (newest,))
            return len(rows)

        return int(await self._record.work(delete))

    def _with_attempts(self, connection: apsw.Connection, rows: Sequence[Sequence[Any]]) -> list[CallRow]:
        further: dict[str, list[Attempted]] = {}
        if rows:
            for row in fetch(connection, self._sql["attempts_of"], (json.dumps([row[0] for row in rows]),)):
                attempt = read_attempt(row)
                further.setdefault(attempt.call_id, []).append(attempt)
        return [read_call(row, further.get(row[0], ())) for row in rows]


def _conditions(window: Window) -> tuple[str, dict[str, Any]]:
    """What a window asks for beside its bounds, as SQL and its values."""
    values: dict[str, Any] = {"since": window.since, "until": window.until}
    conditions = ["TRUE"]
    for name in ("organisation", "team", "key_id", "model"):
        value = getattr(window, name)
        if value is not None:
            conditions.append(f"calls.{name} = :{name}")
            values[name] = value
    if window.status == "open":
        conditions.append("closed_at IS NULL")
    elif window.status is not None:
        conditions.append("calls.status = :status")
        values["status"] = window.status
    return " AND ".join(conditions), values


def _bounded(limit: int) -> int:
    if not 1 <= limit <= MOST_ROWS:
        raise InvalidRequestError(f"The limit is {limit}; it has to be between 1 and {MOST_ROWS}.", param="limit")
    return limit
