"""/api/organisations/{organisation}/teams."""

from typing import Annotated, Literal

from fastapi import Header, Query, Response
from pydantic import Field

from holdfast.edge.server.control import Asking, Deps, Endpoint, NoQuery
from holdfast.edge.server.fields import (
    Body,
    Etag,
    LimitsBody,
    LimitsPatch,
    LimitsView,
    MomentText,
    Name,
    NameQuery,
    View,
    etag,
    limits_from,
    limits_view,
    moment_or_null,
    source_of,
    version_of,
)
from holdfast.features.tenancy.model import TeamEntry
from holdfast.kernel.tenant import Tenant

IfMatch = Annotated[Etag | None, Header()]


class TeamView(View):
    """A team: the tenant."""

    organisation: str
    name: str
    limits: LimitsView
    created_at: MomentText | None = Field(description="null for what is built in or declared.")
    source: Literal["file", "api"]
    origin: str | None = Field(description="Where it is declared, when the settings file owns it.")
    version: int


class TeamPageView(View):
    teams: list[TeamView]
    next: str | None = Field(description="`after` of the next page; null at the end.")


class TeamBody(Body):
    """What a team is made of."""

    name: Name
    limits: LimitsBody = Field(default_factory=LimitsBody)


async def list_teams(
    asker: Asking, deps: Deps, organisation: Name, query: Annotated[NameQuery, Query()]
) -> TeamPageView:
    """List the teams of an organisation, in the order of their names."""
    page = deps.tenancy.teams.page(asker, organisation, limit=query.limit, after=query.after)
    return TeamPageView(teams=[_view(entry) for entry in page.teams], next=page.after)


async def create_team(
    asker: Asking, deps: Deps, _: NoQuery, organisation: Name, body: TeamBody, response: Response
) -> TeamView:
    """Make a team."""
    entry = await deps.tenancy.teams.create(asker, Tenant(organisation, body.name), limits_from(body.limits))
    response.headers["etag"] = etag(entry.version)
    return _view(entry)


async def get_team(
    asker: Asking, deps: Deps, _: NoQuery, organisation: Name, team: Name, response: Response
) -> TeamView:
    """Read a team."""
    entry = deps.tenancy.teams.get(asker, Tenant(organisation, team))
    response.headers["etag"] = etag(entry.version)
    return _view(entry)


async def update_team(
    asker: Asking,
    deps: Deps,
    _: NoQuery,
    organisation: Name,
    team: Name,
    body: LimitsPatch,
    response: Response,
    if_match: IfMatch = None,
) -> TeamView:
    """Change the limits of a team."""
    entry = await deps.tenancy.teams.update(
        asker, Tenant(organisation, team), limits_from(body.limits), expect_version=version_of(if_match)
    )
    response.headers["etag"] = etag(entry.version)
    return _view(entry)


async def delete_team(
    asker: Asking, deps: Deps, _: NoQuery, organisation: Name, team: Name, if_match: IfMatch = None
) -> None:
    """Delete a team; refused while it has a key."""
    await deps.tenancy.teams.delete(asker, Tenant(organisation, team), expect_version=version_of(if_match))


TABLE = (
    Endpoint("GET", "/api/organisations/{organisation}/teams", list_teams),
    Endpoint("POST", "/api/organisations/{organisation}/teams", create_team, 201),
    Endpoint("GET", "/api/organisations/{organisation}/teams/{team}", get_team),
    Endpoint("PATCH", "/api/organisations/{organisation}/teams/{team}", update_team),
    Endpoint("DELETE", "/api/organisations/{organisation}/teams/{team}", delete_team, 204),
)


def _view(entry: TeamEntry) -> TeamView:
    return TeamView(
        organisation=entry.tenant.organisation,
        name=entry.tenant.team,
        limits=limits_view(entry.limits),
        created_at=moment_or_null(entry.created_at or None),
        source=source_of(entry.origin),
        origin=entry.origin,
        version=entry.version,
    )
