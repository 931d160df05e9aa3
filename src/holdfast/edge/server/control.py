"""What a route of the control API is handed, and how it stands in the table."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, cast

from fastapi import Depends, Request

from holdfast.features.gateway.model import Measures
from holdfast.features.tenancy.model import Asker
from holdfast.features.tenancy.tenancy import Tenancy
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class SettingsShown:
    """The effective settings as plain data with secrets masked, and where each was said, by dotted path."""

    settings: Mapping[str, Any]
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ApiDeps:
    """What the control API stands on. `settings` is asked on every request, so that a reload shows."""

    tenancy: Tenancy
    settings: Callable[[], SettingsShown]
    clock: Clock
    version: str
    measures: Measures


class Endpoint(NamedTuple):
    """A row of a route table: the verb's docstring, parameters and return type are its contract."""

    method: str
    path: str
    verb: Callable[..., Coroutine[Any, Any, Any]]
    status: int = 200


async def deps_of(request: Request) -> ApiDeps:
    return cast(ApiDeps, request.app.state.deps)


async def asker_of(request: Request) -> Asker:
    return cast(Asker, request.state.asker)


async def no_query(request: Request) -> None:
    """For routes that take no query: an unknown parameter is refused, never ignored."""
    for name in request.query_params:
        raise InvalidRequestError(f"The query parameter {name[:64]!r} is not known here.", param=name[:64])


Deps = Annotated[ApiDeps, Depends(deps_of)]
Asking = Annotated[Asker, Depends(asker_of)]
NoQuery = Annotated[None, Depends(no_query)]
