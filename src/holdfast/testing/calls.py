"""Calls in memory: every query looks at every row."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from holdfast.ports.calls import CallOpened, CallRow, GroupBy, Spent, UsageRow, Window
from holdfast.testing.rows import Rows

_ERRORS = {"error", "unknown", "lost"}
_GROUPS: dict[GroupBy, Callable[[CallRow], str]] = {
    "organisation": lambda row: row.opened.organisation,
    "team": lambda row: row.opened.team,
    "key_id": lambda row: row.opened.key_id,
    "model": lambda row: row.opened.model,
    "route": lambda row: row.opened.route,
    "status": lambda row: row.closed.status if row.closed is not None else "open",
    "lane": lambda row: row.closed.lane if row.closed is not None else row.opened.lane,
    "day": lambda row: datetime.fromtimestamp(row.opened.opened_at, UTC).strftime("%Y-%m-%d"),
    "hour": lambda row: datetime.fromtimestamp(row.opened.opened_at, UTC).strftime("%Y-%m-%dT%H"),
}


class MemoryCalls:
    """Promises of `ports.calls.Calls`, but for speed."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, call_id: str) -> CallRow | None:
        return self._rows.calls.get(call_id)

    async def page(self, window: Window, *, limit: int = 100, before: tuple[float, str] | None = None) -> list[CallRow]:
        found = [row for row in within(self._rows, window) if before is None or _place(row) < before]
        return sorted(found, key=_place, reverse=True)[:limit]

    async def usage(self, window: Window, by: Sequence[GroupBy], *, limit: int = 1000) -> list[UsageRow]:
        groups: dict[tuple[str, ...], list[CallRow]] = {}
        for row in within(self._rows, window):
            groups.setdefault(tuple(_GROUPS[name](row) for name in by), []).append(row)
        return [_sum(group, groups[group]) for group in sorted(groups)][:limit]

    async def spent(self, window: Window) -> Spent:
        found = within(self._rows, window)
        reserved = sum(row.opened.reserved_nanodollars for row in found if row.closed is None)
        return Spent(sum(map(cost_of, found)), reserved)

    async def open_calls(self, node: str | None = None, *, limit: int = 10_000) -> list[CallOpened]:
        found = [row for row in self._rows.calls.values() if row.closed is None and node in (None, row.opened.node)]
        return [row.opened for row in sorted(found, key=_place)[:limit]]

    async def prune(self, opened_before: float, *, limit: int = 10_000) -> int:
        rows = self._rows
        old = [row for row in rows.calls.values() if row.closed is not None and row.opened.opened_at < opened_before]
        for row in sorted(old, key=_place)[:limit]:
            del rows.calls[row.opened.id]
            rows.pruned_until = max(rows.pruned_until, row.opened.opened_at)
        return min(len(old), limit)


def within(rows: Rows, window: Window) -> list[CallRow]:
    """The calls of a window."""
    return [
        row
        for row in rows.calls.values()
        if window.since <= row.opened.opened_at < window.until
        and window.organisation in (None, row.opened.organisation)
        and window.team in (None, row.opened.team)
        and window.key_id in (None, row.opened.key_id)
        and window.model in (None, row.opened.model)
        and window.status in (None, _GROUPS["status"](row))
    ]


def cost_of(row: CallRow) -> int:
    """What is known of a call's cost, all attempts together."""
    costs = [attempt.cost_nanodollars for attempt in row.further]
    if row.closed is not None:
        costs.append(row.closed.cost_nanodollars)
    return sum(cost or 0 for cost in costs)


def _place(row: CallRow) -> tuple[float, str]:
    return row.opened.opened_at, row.opened.id


def _sum(group: tuple[str, ...], rows: Iterable[CallRow]) -> UsageRow:
    found = list(rows)
    ends = [row.closed for row in found if row.closed is not None]
    usages = [end.usage for end in ends] + [attempt.usage for row in found for attempt in row.further]
    return UsageRow(
        group,
        calls=len(found),
        errors=sum(1 for end in ends if end.status in _ERRORS),
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        cached_read_tokens=sum(usage.cached_read_tokens for usage in usages),
        cost_nanodollars=sum(map(cost_of, found)),
        saved_nanodollars=sum(end.saved_nanodollars for end in ends),
        unpriced_calls=sum(
            1
            for row in found
            if row.closed is not None and row.closed.status != "refused" and row.cost_nanodollars is None
        ),
        upstream_bytes=sum(end.upstream_bytes for end in ends),
        answer_bytes=sum(end.answer_bytes for end in ends),
    )
