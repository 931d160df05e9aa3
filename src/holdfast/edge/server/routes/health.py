"""/healthz, /readyz, /startupz and /metrics: cold routes in front of the control API, which answers /api; nothing else is here.

Bound to a loopback address they ask for no key. Elsewhere /healthz, /startupz and a bare /readyz still ask for none, because
orchestrators have none; /metrics and the detail of /readyz want an instance's key with the role viewer.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast.edge.server.metrics import CONTENT_TYPE
from holdfast.edge.server.operations import Operations
from holdfast.edge.server.problems import problem
from holdfast.features.tenancy.model import Asker
from holdfast.features.tenancy.sight import need_everywhere
from holdfast.kernel.errors import AuthenticationError, HoldfastError, MethodNotAllowedError, NotFoundError
from holdfast.kernel.ids import make_id
from holdfast.kernel.tenant import Role

NO_STORE = {"cache-control": "no-store"}
READING = ("GET", "HEAD")


class Front:
    """The ASGI application behind the model API. `api_port`: the only port that /api is answered on, None for any."""

    def __init__(self, operations: Operations, api: ASGIApp, *, guarded: bool, api_port: int | None = None) -> None:
        """`guarded`: others than this machine can reach us."""
        self._operations = operations
        self._api = api
        self._guarded = guarded
        self._api_port = api_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if (path == "/api" or path.startswith("/api/")) and self._serves_api(scope):
            await self._api(scope, receive, send)
            return
        request_id = make_id("req")
        try:
            response = await self._answer(Request(scope))
        except HoldfastError as error:
            allow = {"allow": ", ".join(READING)} if isinstance(error, MethodNotAllowedError) else None
            response = problem(error, request_id, extra=allow)
        response.headers["x-request-id"] = request_id
        await response(scope, receive, send)

    def _serves_api(self, scope: Scope) -> bool:
        _, port = scope.get("server") or ("", None)  # the data folder's socket has no port
        return self._api_port is None or port in (None, self._api_port)

    async def _answer(self, request: Request) -> Response:
        verb = TABLE.get(request.url.path)
        if verb is None:
            raise NotFoundError(f"There is no {request.url.path[:200]} here; docs/api.md lists what is.")
        if request.method not in READING:
            raise MethodNotAllowedError(f"{request.url.path} takes {' and '.join(READING)} only.")
        return await verb(self, request)

    async def alive(self, _: Request) -> Response:
        return _json(200, {"alive": True})

    async def ready(self, request: Request) -> Response:
        reasons = self._operations.reasons()
        detailed = not self._guarded or self._admitted(request)
        content = self._operations.detail() if detailed else {"ready": not reasons}
        return _json(503 if reasons else 200, content)

    async def started(self, _: Request) -> Response:
        started = self._operations.has_started
        return _json(200 if started else 503, {"started": started})

    async def metrics(self, request: Request) -> Response:
        if self._guarded:
            self._admit(request)
        return Response(await self._operations.metrics(), headers=NO_STORE, media_type=CONTENT_TYPE)

    def _admitted(self, request: Request) -> bool:
        """Without a key the bare answer is given; a key that does not open is refused."""
        if "authorization" not in request.headers:
            return False
        self._admit(request)
        return True

    def _admit(self, request: Request) -> None:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationError("This address asks for a key with the role viewer: Authorization: Bearer KEY.")
        principal = self._operations.gateway.tenancy.authenticate(secret.strip())
        need_everywhere(Asker(principal), Role.VIEWER)


TABLE: Mapping[str, Callable[[Front, Request], Awaitable[Response]]] = {
    "/healthz": Front.alive,
    "/readyz": Front.ready,
    "/startupz": Front.started,
    "/metrics": Front.metrics,
}


def _json(status: int, content: Mapping[str, Any]) -> Response:
    return Response(json.dumps(content).encode() + b"\n", status, NO_STORE, "application/json")
