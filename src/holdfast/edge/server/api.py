"""The control API: FastAPI under /api. Route tables say what there is; here is what holds for all of it."""

import asyncio

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from holdfast.edge.server.contract import written
from holdfast.edge.server.control import ApiDeps, Endpoint
from holdfast.edge.server.door import Door
from holdfast.edge.server.problems import (
    DOCUMENTED,
    on_defect,
    on_holdfast_error,
    on_http_error,
    on_validation_error,
)
from holdfast.edge.server.routes import audit, calls, findings, keys, latency, organisations, settings, teams, usage
from holdfast.kernel.errors import HoldfastError

CONTRACT = "/api/openapi.json"
TABLE: tuple[Endpoint, ...] = (
    *keys.TABLE,
    *organisations.TABLE,
    *teams.TABLE,
    *usage.TABLE,
    *calls.TABLE,
    *settings.TABLE,
    *findings.TABLE,
    *latency.TABLE,
    *audit.TABLE,
)
DESCRIPTION = "Keys, teams and organisations; usage, budgets and calls; settings, findings, latency and audit."


def create_api(deps: ApiDeps) -> FastAPI:
    """An ASGI application that answers /api and nothing else."""
    api = FastAPI(
        title="Holdfast control API",
        description=DESCRIPTION,
        version=deps.version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            HoldfastError: on_holdfast_error,
            RequestValidationError: on_validation_error,
            HTTPException: on_http_error,
            Exception: on_defect,
        },
    )
    api.state.deps = deps
    for endpoint in TABLE:
        _add(api, endpoint)
    api.add_api_route(CONTRACT, _Contract(api).read, methods=["GET"], include_in_schema=False)
    api.add_middleware(Door, deps=deps, public=frozenset({CONTRACT}))
    return api


def _add(api: FastAPI, endpoint: Endpoint) -> None:
    name = endpoint.verb.__name__
    first, *rest = name.split("_")
    api.add_api_route(
        endpoint.path,
        endpoint.verb,
        methods=[endpoint.method],
        status_code=endpoint.status,
        operation_id=first + "".join(word.capitalize() for word in rest),
        tags=[endpoint.path.split("/")[2]],
        summary=(endpoint.verb.__doc__ or "").partition(".")[0],
        responses={status: {"description": said} for status, said in DOCUMENTED.items()},
    )


class _Contract:
    """The OpenAPI document: made once, in a thread, when somebody first asks for it."""

    def __init__(self, api: FastAPI) -> None:
        self._api = api
        self._turn = asyncio.Lock()
        self._document: bytes | None = None

    async def read(self) -> Response:
        async with self._turn:
            if self._document is None:
                self._document = await asyncio.to_thread(written, self._api)
        return Response(self._document, media_type="application/json")
