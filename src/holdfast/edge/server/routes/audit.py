"""/api/audit."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from holdfast.edge.server.control import Asking, Deps, Endpoint
from holdfast.edge.server.fields import (
    Cursor,
    MomentText,
    PageLimit,
    Params,
    Scope,
    View,
    cursor_of,
    moment,
    position_of,
)


class AuditQuery(Params):
    subject: Scope | None = Field(default=None, description="`org:acme`, `team:acme/search` or `key:key_…`.")
    limit: PageLimit = 100
    before: Cursor | None = Field(default=None, description="`next` of the page before.")


class AuditedView(View):
    """Who did what to what. No secret stands in `before` or `after`."""

    id: str
    at: MomentText
    actor: str = Field(description="The id of the key; `holdfast` for Holdfast itself.")
    action: str
    subject: str
    request_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditPageView(View):
    """Newest first."""

    audit: list[AuditedView]
    next: str | None = Field(description="`before` of the next page; null at the end.")


async def list_audit(asker: Asking, deps: Deps, query: Annotated[AuditQuery, Query()]) -> AuditPageView:
    """Every change of keys, teams and organisations, newest first."""
    before = None if query.before is None else position_of(query.before)
    rows = await deps.tenancy.reports.audit(asker, subject=query.subject, limit=query.limit, before=before)
    views = [
        AuditedView(
            id=row.id,
            at=moment(row.at),
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            request_id=row.request_id,
            before=row.before,
            after=row.after,
        )
        for row in rows
    ]
    last = rows[-1] if len(rows) == query.limit else None
    return AuditPageView(audit=views, next=None if last is None else cursor_of(last.at, last.id))


TABLE = (Endpoint("GET", "/api/audit", list_audit),)
