"""/api/calls."""

from typing import Annotated

from fastapi import Query
from pydantic import Field

from holdfast.edge.server.control import Asking, Deps, Endpoint, NoQuery
from holdfast.edge.server.fields import (
    CallId,
    Cursor,
    KeyId,
    ModelName,
    Moment,
    MomentText,
    Name,
    PageLimit,
    Params,
    View,
    cursor_of,
    moment,
    position_of,
    usd,
    usd_or_null,
)
from holdfast.kernel.tokens import Usage
from holdfast.ports.calls import Attempted, CallRow, CallStatus, Window

DAY_SECONDS = 86_400.0


class CallQuery(Params):
    """All conditions hold together. A window of more than 400 days is cut at its beginning."""

    since: Moment | None = Field(default=None, description="The first moment; a day before `until` when left out.")
    until: Moment | None = Field(default=None, description="The moment after the last; now when left out.")
    organisation: Name | None = None
    team: Name | None = None
    key_id: KeyId | None = None
    model: ModelName | None = None
    status: CallStatus | None = None
    limit: PageLimit = 100
    before: Cursor | None = Field(default=None, description="`next` of the page before.")


class UsageCountsView(View):
    """Tokens as one provider call used them; `estimated` where no provider reported them."""

    input_tokens: int
    output_tokens: int
    cached_read_tokens: int
    cached_write_tokens: int
    reasoning_tokens: int
    audio_input_tokens: int
    audio_output_tokens: int
    image_input_tokens: int
    estimated: bool


class AttemptView(View):
    """A further attempt: failover, hedge or repair."""

    number: int
    kind: str
    lane: str
    sent_at: MomentText
    ended_at: MomentText
    status: str
    http_status: int | None
    error_code: str | None
    usage: UsageCountsView
    cost_nanodollars: int | None
    cost_usd: str | None
    price_version: str | None


class CallView(View):
    """What a client asked, and what came of it. `cost` is that of all attempts, null where one of them has no price."""

    id: str
    request_id: str
    organisation: str
    team: str
    key_id: str
    end_user: str | None
    operation: str
    route: str
    model: str
    lane: str
    node: str
    stream: bool
    status: str
    opened_at: MomentText
    closed_at: MomentText | None
    http_status: int | None
    error_code: str | None
    finish_reason: str | None
    empty: bool | None
    usage: UsageCountsView | None = Field(description="Of the first attempt; null while the call is open.")
    estimated_input_tokens: int
    estimated_output_tokens: int
    cost_nanodollars: int | None
    cost_usd: str | None
    reserved_nanodollars: int
    reserved_usd: str
    saved_nanodollars: int
    saved_usd: str
    price_version: str | None
    answered_model: str | None
    fingerprint: str | None
    first_token_seconds: float | None
    attempts: int | None
    served_from: str | None
    upstream_bytes: int | None = Field(description="Of request bodies, over all attempts; null while the call is open.")
    answer_bytes: int | None = Field(description="Of the body or the events that were forwarded to the client.")
    further: list[AttemptView]


class CallPageView(View):
    """Newest first, with the window they are of."""

    since: MomentText
    until: MomentText
    calls: list[CallView]
    next: str | None = Field(description="`before` of the next page; null at the end.")


async def list_calls(asker: Asking, deps: Deps, query: Annotated[CallQuery, Query()]) -> CallPageView:
    """List calls, newest first."""
    until = deps.clock.now() if query.until is None else query.until
    since = until - DAY_SECONDS if query.since is None else query.since
    window = Window(since, until, query.organisation, query.team, query.key_id, query.model, query.status)
    before = None if query.before is None else position_of(query.before)
    seen, rows = await deps.tenancy.reports.calls(asker, window, limit=query.limit, before=before)
    last = rows[-1].opened if len(rows) == query.limit else None
    return CallPageView(
        since=moment(seen.since),
        until=moment(seen.until),
        calls=[_view(row) for row in rows],
        next=None if last is None else cursor_of(last.opened_at, last.id),
    )


async def get_call(asker: Asking, deps: Deps, _: NoQuery, call_id: CallId) -> CallView:
    """Read a call."""
    return _view(await deps.tenancy.reports.call(asker, call_id))


TABLE = (
    Endpoint("GET", "/api/calls", list_calls),
    Endpoint("GET", "/api/calls/{call_id}", get_call),
)


def _view(row: CallRow) -> CallView:
    opened, closed = row.opened, row.closed
    saved = 0 if closed is None else closed.saved_nanodollars
    return CallView(
        id=opened.id,
        request_id=opened.request_id,
        organisation=opened.organisation,
        team=opened.team,
        key_id=opened.key_id,
        end_user=opened.end_user,
        operation=opened.operation,
        route=opened.route,
        model=opened.model,
        lane=opened.lane if closed is None else closed.lane,
        node=opened.node,
        stream=opened.stream,
        status="open" if closed is None else closed.status,
        opened_at=moment(opened.opened_at),
        closed_at=None if closed is None else moment(closed.closed_at),
        http_status=None if closed is None else closed.http_status,
        error_code=None if closed is None else closed.error_code,
        finish_reason=None if closed is None else closed.finish_reason,
        empty=None if closed is None else closed.empty,
        usage=None if closed is None else _usage(closed.usage),
        estimated_input_tokens=opened.estimated_input_tokens,
        estimated_output_tokens=opened.estimated_output_tokens,
        cost_nanodollars=row.cost_nanodollars,
        cost_usd=usd_or_null(row.cost_nanodollars),
        reserved_nanodollars=opened.reserved_nanodollars,
        reserved_usd=usd(opened.reserved_nanodollars),
        saved_nanodollars=saved,
        saved_usd=usd(saved),
        price_version=None if closed is None else closed.price_version,
        answered_model=None if closed is None else closed.answered_model,
        fingerprint=None if closed is None else closed.fingerprint,
        first_token_seconds=None if closed is None else closed.first_token_seconds,
        attempts=None if closed is None else closed.attempts,
        served_from=None if closed is None else closed.served_from,
        upstream_bytes=None if closed is None else closed.upstream_bytes,
        answer_bytes=None if closed is None else closed.answer_bytes,
        further=[_attempt(attempt) for attempt in row.further],
    )


def _attempt(attempt: Attempted) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        kind=attempt.kind,
        lane=attempt.lane,
        sent_at=moment(attempt.sent_at),
        ended_at=moment(attempt.ended_at),
        status=attempt.status,
        http_status=attempt.http_status,
        error_code=attempt.error_code,
        usage=_usage(attempt.usage),
        cost_nanodollars=attempt.cost_nanodollars,
        cost_usd=usd_or_null(attempt.cost_nanodollars),
        price_version=attempt.price_version,
    )


def _usage(usage: Usage) -> UsageCountsView:
    return UsageCountsView(**{name: getattr(usage, name) for name in UsageCountsView.model_fields})
