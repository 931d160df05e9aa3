"""/api/organisations."""

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
from holdfast.features.tenancy.model import OrganisationEntry

IfMatch = Annotated[Etag | None, Header()]


class OrganisationView(View):
    """An organisation."""

    name: str
    limits: LimitsView
    created_at: MomentText | None = Field(description="null for what is built in or declared.")
    source: Literal["file", "api"]
    origin: str | None = Field(description="Where it is declared, when the settings file owns it.")
    version: int


class OrganisationPageView(View):
    organisations: list[OrganisationView]
    next: str | None = Field(description="`after` of the next page; null at the end.")


class OrganisationBody(Body):
    """What an organisation is made of."""

    name: Name
    limits: LimitsBody = Field(default_factory=LimitsBody)


async def list_organisations(asker: Asking, deps: Deps, query: Annotated[NameQuery, Query()]) -> OrganisationPageView:
    """List organisations, in the order of their names."""
    page = deps.tenancy.organisations.page(asker, limit=query.limit, after=query.after)
    return OrganisationPageView(organisations=[_view(entry) for entry in page.organisations], next=page.after)


async def create_organisation(
    asker: Asking, deps: Deps, _: NoQuery, body: OrganisationBody, response: Response
) -> OrganisationView:
    """Make an organisation."""
    entry = await deps.tenancy.organisations.create(asker, body.name, limits_from(body.limits))
    response.headers["etag"] = etag(entry.version)
    return _view(entry)


async def get_organisation(
    asker: Asking, deps: Deps, _: NoQuery, organisation: Name, response: Response
) -> OrganisationView:
    """Read an organisation."""
    entry = deps.tenancy.organisations.get(asker, organisation)
    response.headers["etag"] = etag(entry.version)
    return _view(entry)


async def update_organisation(
    asker: Asking,
    deps: Deps,
    _: NoQuery,
    organisation: Name,
    body: LimitsPatch,
    response: Response,
    if_match: IfMatch = None,
) -> OrganisationView:
    """Change the limits of an organisation."""
    entry = await deps.tenancy.organisations.update(
        asker, organisation, limits_from(body.limits), expect_version=version_of(if_match)
    )
    response.headers["etag"] = etag(entry.version)
    return _view(entry)


async def delete_organisation(
    asker: Asking, deps: Deps, _: NoQuery, organisation: Name, if_match: IfMatch = None
) -> None:
    """Delete an organisation and its teams; refused while one of them has a key."""
    await deps.tenancy.organisations.delete(asker, organisation, expect_version=version_of(if_match))


TABLE = (
    Endpoint("GET", "/api/organisations", list_organisations),
    Endpoint("POST", "/api/organisations", create_organisation, 201),
    Endpoint("GET", "/api/organisations/{organisation}", get_organisation),
    Endpoint("PATCH", "/api/organisations/{organisation}", update_organisation),
    Endpoint("DELETE", "/api/organisations/{organisation}", delete_organisation, 204),
)


def _view(entry: OrganisationEntry) -> OrganisationView:
    return OrganisationView(
        name=entry.name,
        limits=limits_view(entry.limits),
        created_at=moment_or_null(entry.created_at or None),
        source=source_of(entry.origin),
        origin=entry.origin,
        version=entry.version,
    )
