"""/api/usage and /api/budgets."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from holdfast.edge.server.control import Asking, Deps, Endpoint
from holdfast.edge.server.fields import (
    KeyId,
    ModelName,
    Moment,
    MomentText,
    Name,
    Params,
    Scope,
    View,
    moment,
    usd,
    usd_or_null,
)
from holdfast.features.tenancy.usage import Standing
from holdfast.ports.calls import CallStatus, GroupBy, UsageRow, Window

MONTH_SECONDS = 30 * 86_400.0


class UsageQuery(Params):
    """All conditions hold together. A window of more than 400 days is cut at its beginning."""

    since: Moment | None = Field(default=None, description="The first moment; 30 days before `until` when left out.")
    until: Moment | None = Field(default=None, description="The moment after the last; now when left out.")
    organisation: Name | None = None
    team: Name | None = None
    key_id: KeyId | None = None
    model: ModelName | None = None
    status: CallStatus | None = None
    by: Annotated[list[GroupBy], Field(max_length=4)] = Field(
        default_factory=list, description="What the sums are of, repeated: `by=team&by=day`. Days and hours are UTC."
    )
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000


class SumsView(View):
    """Sums over calls. A cost is that of the priced calls; null where none of them has a price."""

    calls: int
    errors: int
    input_tokens: int
    output_tokens: int
    cached_read_tokens: int
    cost_nanodollars: int | None
    cost_usd: str | None
    saved_nanodollars: int
    saved_usd: str
    unpriced_calls: int
    upstream_bytes: int = Field(description="Bytes of request bodies sent to providers, over all attempts.")
    answer_bytes: int = Field(description="Bytes of answers forwarded to clients.")


class UsageRowView(SumsView):
    group: dict[str, str]


class UsageView(View):
    """Sums by group, and the window they are of."""

    since: MomentText
    until: MomentText
    total: SumsView = Field(description="The sums of the rows shown.")
    rows: list[UsageRowView]
    truncated: bool = Field(description="Whether there may be more groups than `limit`.")


class BudgetQuery(Params):
    organisation: Name | None = None
    team: Name | None = None
    limit: Annotated[int, Field(ge=1, le=200, description="At most this many scopes.")] = 100
    after: Scope | None = Field(default=None, description="`next` of the page before.")


class StandingView(View):
    """A budget in its current period. `remaining` is what neither spent nor running calls hold."""

    scope: str = Field(description="`org:acme`, `team:acme/search` or `key:key_…`.")
    period: str
    since: MomentText
    until: MomentText
    limit_nanodollars: int
    limit_usd: str
    spent_nanodollars: int
    spent_usd: str
    reserved_nanodollars: int
    reserved_usd: str
    remaining_nanodollars: int
    remaining_usd: str


class StandingPageView(View):
    budgets: list[StandingView]
    next: str | None = Field(description="`after` of the next page; null at the end.")


async def get_usage(asker: Asking, deps: Deps, query: Annotated[UsageQuery, Query()]) -> UsageView:
    """Usage and cost, summed."""
    until = deps.clock.now() if query.until is None else query.until
    since = until - MONTH_SECONDS if query.since is None else query.since
    window = Window(since, until, query.organisation, query.team, query.key_id, query.model, query.status)
    by = list(dict.fromkeys(query.by))
    seen, rows = await deps.tenancy.reports.usage(asker, window, by, limit=query.limit)
    return UsageView(
        since=moment(seen.since),
        until=moment(seen.until),
        total=SumsView(**_sums(rows)),
        rows=[UsageRowView(group=dict(zip(by, row.group, strict=True)), **_sums([row])) for row in rows],
        truncated=len(rows) >= query.limit,
    )


async def get_budgets(asker: Asking, deps: Deps, query: Annotated[BudgetQuery, Query()]) -> StandingPageView:
    """What each budget holds in its current period, in the order of scopes."""
    page = await deps.tenancy.reports.budgets(
        asker, organisation=query.organisation, team=query.team, limit=query.limit, after=query.after
    )
    return StandingPageView(budgets=[_standing(one) for one in page.standings], next=page.after)


TABLE = (
    Endpoint("GET", "/api/usage", get_usage),
    Endpoint("GET", "/api/budgets", get_budgets),
)


def _sums(rows: list[UsageRow]) -> dict[str, Any]:
    unpriced = sum(row.unpriced_calls for row in rows)
    cost: int | None = sum(row.cost_nanodollars for row in rows)
    saved = sum(row.saved_nanodollars for row in rows)
    if cost == 0 and unpriced > 0:
        cost = None
    return {
        "calls": sum(row.calls for row in rows),
        "errors": sum(row.errors for row in rows),
        "input_tokens": sum(row.input_tokens for row in rows),
        "output_tokens": sum(row.output_tokens for row in rows),
        "cached_read_tokens": sum(row.cached_read_tokens for row in rows),
        "cost_nanodollars": cost,
        "cost_usd": usd_or_null(cost),
        "saved_nanodollars": saved,
        "saved_usd": usd(saved),
        "unpriced_calls": unpriced,
        "upstream_bytes": sum(row.upstream_bytes for row in rows),
        "answer_bytes": sum(row.answer_bytes for row in rows),
    }


def _standing(one: Standing) -> StandingView:
    limit, held = one.balance.limit_nanodollars, one.held
    remaining = limit - held.spent_nanodollars - held.reserved_nanodollars
    return StandingView(
        scope=one.balance.scope,
        period=one.balance.period,
        since=moment(one.balance.since),
        until=moment(one.balance.until),
        limit_nanodollars=limit,
        limit_usd=usd(limit),
        spent_nanodollars=held.spent_nanodollars,
        spent_usd=usd(held.spent_nanodollars),
        reserved_nanodollars=held.reserved_nanodollars,
        reserved_usd=usd(held.reserved_nanodollars),
        remaining_nanodollars=remaining,
        remaining_usd=usd(remaining),
    )
