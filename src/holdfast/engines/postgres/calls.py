"""Call rows on PostgreSQL: open calls stand apart from ended ones, which are only ever added and pruned."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from holdfast.engines.postgres.pool import Pool
from holdfast.engines.postgres.rows import Row, read_attempt, read_call, read_opened
from holdfast.engines.postgres.statements import load
from holdfast.ports.calls import Attempted, CallOpened, CallRow, GroupBy, Spent, UsageRow, Window

_CONDITIONS: tuple[str, ...] = ("organisation", "team", "key_id", "model", "status")
_GROUPS: dict[GroupBy, str] = {
    "organisation": "c.organisation",
    "team": "c.team",
    "key_id": "c.key_id",
    "model": "c.model",
    "route": "c.route",
    "status": "c.status",
    "lane": "coalesce(c.lane, c.opened_lane)",
    "day": "to_char(to_timestamp(c.opened_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "hour": "to_char(to_timestamp(c.opened_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24')",
}


def _where(window: Window) -> str:
    parts: list[str] = ["opened_at >= %(since)s AND opened_at < %(until)s"]
    parts += [f"{name} = %({name})s" for name in _CONDITIONS if getattr(window, name) is not None]
    return " AND ".join(parts)


def _parameters(window: Window) -> dict[str, Any]:
    return {"since": window.since, "until": window.until} | {name: getattr(window, name) for name in _CONDITIONS}


class PostgresCalls:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = load("calls.sql")

    async def get(self, call_id: str) -> CallRow | None:
        rows = await self._rows("id = %(id)s", "", {"id": call_id})
        return rows[0] if rows else None

    async def page(self, window: Window, *, limit: int = 100, before: tuple[float, str] | None = None) -> list[CallRow]:
        where = _where(window)
        parameters = _parameters(window) | {"limit": limit}
        if before is not None:
            where += " AND (opened_at, id) < (%(before_at)s, %(before_id)s)"
            parameters |= {"before_at": before[0], "before_id": before[1]}
        return await self._rows(where, "ORDER BY opened_at DESC, id DESC LIMIT %(limit)s", parameters)

    async def usage(self, window: Window, by: Sequence[GroupBy], *, limit: int = 1000) -> list[UsageRow]:
        groups = ", ".join(_GROUPS[name] for name in by)
        statement = self._sql["usage"].replace("{where}", _where(window)).replace("{groups}", groups)
        rows = await self._fetch(statement, _parameters(window) | {"limit": limit})
        return [UsageRow(tuple(group), *sums) for group, *sums in rows if by or sums[0]]

    async def spent(self, window: Window) -> Spent:
        statement = self._sql["spent"].replace("{where}", _where(window))
        rows = await self._fetch(statement, _parameters(window))
        return Spent(*rows[0])

    async def open_calls(self, node: str | None = None, *, limit: int = 10_000) -> list[CallOpened]:
        rows = await self._fetch(self._sql["open_calls"], {"node": node, "limit": limit})
        return [read_opened(row) for row in rows]

    async def prune(self, opened_before: float, *, limit: int = 10_000) -> int:
        with self._pool.address.translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(self._sql["prune"], {"before": opened_before, "limit": limit})
                return cursor.rowcount

    async def _rows(self, where: str, order: str, parameters: dict[str, Any]) -> list[CallRow]:
        statement = self._sql["rows"].replace("{where}", where).replace("{order}", order)
        rows = await self._fetch(statement, parameters)
        further: dict[str, list[Attempted]] = defaultdict(list)
        for row in await self._fetch(self._sql["attempts_of"], {"ids": [row[0] for row in rows]}) if rows else ():
            further[row[0]].append(read_attempt(row))
        return [read_call(row, further[row[0]]) for row in rows]

    async def _fetch(self, statement: str, parameters: dict[str, Any]) -> list[Row]:
        with self._pool.address.translated():
            async with self._pool.connection() as connection:
                return await (await connection.execute(statement, parameters)).fetchall()
